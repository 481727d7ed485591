/*
 * The hot part of reading a body: lines as our agent writes them become Arrow
 * columns, and columns that came as such are looked through. Only what is
 * plainly good is vouched for here; whatever is not, ingest/events.py judges.
 *
 * The bytes are an attacker's. What is read lies before the newline that ends
 * the data, or within the offsets that Arrow has checked; what is written goes
 * through append(), or to a row below the number that was made room for.
 *
 * The columns go to and fro by Arrow's C data interface.
 */
#ifndef PLAIN_H
#define PLAIN_H

#include "lake/arrow.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define DAY_US 86400000000LL

enum { TEXT, INT32, INT64 };
enum { MOST_COLUMNS = 64, LINE = 0, DAY = 1, OWN = 2 };

/* What a text may hold as it stands; the rest ends it, begins an escape, or would have to be escaped. */
enum { ASCII = 1, BEYOND = 2 };

/* From here to struct part: as ingest/plain.py has them. */
struct column {
	const char *key; /* its name in quotes, and a colon */
	int64_t key_size;
	int64_t kind;
	int64_t required;
	int64_t least, most; /* of a number */
	const uint8_t *words; /* all that a text may be, each behind its length, and a zero; NULL if it may be anything */
};

struct rules {
	const struct column *columns;
	int64_t count;
	int64_t time, last_time, occurrences; /* which columns these are */
	int64_t longest; /* bytes of a line */
};

struct told {
	int64_t rows, first, last, occurrences; /* the times only if there are rows */
};

/* So many lines from `start` on, the first of which has the number `first_line`; the data ends in a newline. */
struct part {
	const uint8_t *data;
	int64_t size, start, lines, first_line;
	struct told told;
};

/* Columns that came, in the order of the rules; NULL where none did. */
struct given {
	struct ArrowArray *columns[MOST_COLUMNS];
	const int64_t *widths; /* bytes of an index of its dictionary, or 0 if it is none */
	int coded; /* whether texts are dictionaries */
	int lent; /* they lie in memory that is someone else's, and are copied */
};

/* What is for more than one file is declared here, and hidden from whoever loads them. */
#define SHARED __attribute__((visibility("hidden")))
extern SHARED const uint8_t harmless[256];
SHARED int beyond(const uint8_t *at);
SHARED int is_word(const struct column *column, const uint8_t *text, size_t size);
SHARED int32_t day_of(int64_t time);
SHARED int make_rows(struct ArrowArray *rows, int64_t length, int64_t count);
SHARED int make_column(struct ArrowArray *column, int64_t length, int64_t nulls, void *valid, void *values, void *text);
SHARED int make_nothing(struct ArrowArray *column, int64_t kind, int64_t length, int coded);
SHARED int make_copy(struct ArrowArray *column, const struct ArrowArray *from, int64_t width);
SHARED int make_vouched(const struct rules *rules, struct given *given, int64_t length, int64_t first_line,
			int64_t most_bytes, struct ArrowArray *whole, struct told *told);

#endif
