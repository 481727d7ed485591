/*
 * A segment's file, made at machine speed: rows in Arrow's columns become the
 * pages of one Parquet row group, and these one file. lake/segments.py says
 * what is in it, lake/segment_writer.py calls this.
 *
 * Arrow has vouched for the columns: offsets and indices are within bounds.
 * What texts hold is an attacker's, and so is how many differ.
 */
#ifndef SEGMENT_H
#define SEGMENT_H

#include "lake/arrow.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { TEXT, INT32, INT64, TIME };
enum { BATCH = 0, LINE = 1, OWN = 2 };
enum { THERE, NOTHING, ONE };
enum { DELTA_BINARY_PACKED = 5, RLE_DICTIONARY = 8 };

/* From here to struct said: as lake/segment_writer.py has them. */
struct field {
	const char *name;
	int64_t kind;
	int64_t counting; /* runs up, or takes many values: by differences, not by a dictionary */
};

/* What became of a column: there, with its dictionary; or nothing but nulls, or one value, and so not there. */
struct said {
	int64_t state;
	int64_t number;
	const uint8_t *text;
	int64_t text_size;
	const uint8_t *dictionary;
	int64_t dictionary_size;
};

/* Grows; once there is no memory it stays as it is. */
struct bytes {
	uint8_t *at;
	size_t size, room;
	int failed;
};

struct page {
	struct bytes dictionary, levels, values;
	int64_t entries, nulls;
	int encoding;
	int state;
};

struct pages {
	const struct field *fields;
	int64_t count, rows;
	uint64_t seed[4];
	/* Room for one number, and two indices, a row; which columns take in turn. */
	int64_t *numbers;
	uint32_t *indices, *levels;
	struct page columns[];
};

/* What is for more than one file is declared here, and hidden from whoever loads them. */
#define SHARED __attribute__((visibility("hidden")))
SHARED uint8_t *room_for(struct bytes *bytes, size_t size);
SHARED void put(struct bytes *bytes, const void *from, size_t size);
SHARED void put_number(struct bytes *bytes, uint64_t value);
SHARED void put_signed(struct bytes *bytes, int64_t value);
SHARED void put_runs(struct bytes *bytes, const uint32_t *values, int64_t count, int width);
SHARED void put_differences(struct bytes *bytes, const int64_t *values, int64_t count, int is_narrow);
SHARED int width_of(uint64_t most);

#endif
