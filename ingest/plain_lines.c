/* Lines: reads those that are plain into columns. */
#include "plain.h"

/* A column in the making. */
struct made {
	uint8_t *valid;
	int64_t nulls;
	void *values; /* numbers, or the offsets of texts */
	uint8_t *text;
	size_t room;
};

const char *source_digest(void)
{
	return SOURCE_DIGEST;
}

/* Where the text behind a quote ends: at the other quote. NULL if it is not plain. */
static const uint8_t *text_end(const uint8_t *at)
{
	for (;;) {
		while (harmless[*at] == ASCII)
			at++;
		if (*at == '"')
			return at;
		int size = harmless[*at] == BEYOND ? beyond(at) : 0;
		if (size == 0)
			return NULL;
		at += size;
	}
}

/* Where the number at `at` ends; NULL if it is not plain, or not between the column's least and most. */
static const uint8_t *number_end(const struct column *column, const uint8_t *at, int64_t *value)
{
	int negative = *at == '-';
	const uint8_t *first = at += negative;
	uint64_t found = 0;

	while (*at >= '0' && *at <= '9' && at - first < 19)
		found = found * 10 + (*at++ - '0');
	if (at == first || (*first == '0' && (at > first + 1 || negative)) || found > INT64_MAX)
		return NULL;
	*value = negative ? -(int64_t)found : (int64_t)found;
	return *value >= column->least && *value <= column->most ? at : NULL;
}

/* The column whose key is at `at`, or -1; `guess` is tried first, and then what follows it. */
static int column_at(const struct rules *rules, const uint8_t *at, const uint8_t *end, int guess)
{
	for (int64_t tried = 0; tried < rules->count; tried++) {
		const struct column *column = &rules->columns[guess];

		if (end - at > column->key_size && at[1] == (uint8_t)column->key[1] &&
		    memcmp(at, column->key, column->key_size) == 0)
			return guess;
		guess = guess + 1 < rules->count ? guess + 1 : 0;
	}
	return -1;
}

static int append(struct made *made, int64_t row, const uint8_t *text, size_t size)
{
	int32_t *offsets = made->values;
	size_t used = offsets[row];

	if (size > made->room - used) {
		size_t room = (used + size) * 2;
		uint8_t *grown = realloc(made->text, room);

		if (grown == NULL)
			return -1;
		made->text = grown;
		made->room = room;
	}
	memcpy(made->text + used, text, size);
	offsets[row + 1] = (int32_t)(used + size);
	return 0;
}

/* Reads the line at `at` into `row`. Returns its newline; NULL if it is not plain. `failed`: there is no memory. */
static const uint8_t *read_line(const struct rules *rules, struct made *made, int64_t row, const uint8_t *at,
				const uint8_t *end, uint8_t *next, uint64_t *there, int *failed)
{
	uint64_t seen = 0;
	int before = MOST_COLUMNS;

	if (*at != '{')
		return NULL;
	do {
		/* At a brace or a comma, and behind it a key: the one that came here in the line before, if it is the same. */
		int index = column_at(rules, ++at, end, next[before]);

		if (index < 0 || seen >> index & 1)
			return NULL;
		const struct column *column = &rules->columns[index];

		seen |= 1ULL << index;
		next[before] = (uint8_t)index;
		before = index;
		at += column->key_size;
		if (column->kind == TEXT) {
			const uint8_t *stop = *at == '"' ? text_end(at + 1) : NULL;

			if (stop == NULL || !is_word(column, at + 1, stop - at - 1))
				return NULL;
			if (append(&made[index], row, at + 1, stop - at - 1) != 0) {
				*failed = 1;
				return NULL;
			}
			at = stop + 1;
		} else {
			int64_t value;

			at = number_end(column, at, &value);
			if (at == NULL)
				return NULL;
			if (column->kind == INT32)
				((int32_t *)made[index].values)[row] = (int32_t)value;
			else
				((int64_t *)made[index].values)[row] = value;
		}
	} while (*at == ',');
	if (at[0] != '}' || at[1] != '\n')
		return NULL;
	*there = seen;
	return at + 1;
}

/* Takes a row for good: what it does not have is null, and what it says is added up. */
static void take_row(const struct rules *rules, struct made *made, int64_t row, uint64_t there, struct told *told)
{
	int64_t time = ((int64_t *)made[rules->time].values)[row];
	int64_t last = time;

	for (int64_t index = 0; index < rules->count; index++) {
		struct made *column = &made[index];

		if (there >> index & 1) {
			column->valid[row / 8] |= 1 << row % 8;
			continue;
		}
		column->nulls++;
		if (rules->columns[index].kind == TEXT)
			((int32_t *)column->values)[row + 1] = ((int32_t *)column->values)[row];
		else if (rules->columns[index].kind == INT32)
			((int32_t *)column->values)[row] = 0;
		else
			((int64_t *)column->values)[row] = 0;
	}
	if (there >> rules->last_time & 1 && ((int64_t *)made[rules->last_time].values)[row] > last)
		last = ((int64_t *)made[rules->last_time].values)[row];
	if (told->rows == 0 || time < told->first)
		told->first = time;
	if (told->rows == 0 || last > told->last)
		told->last = last;
	told->rows++;
	told->occurrences += ((int64_t *)made[rules->occurrences].values)[row];
}

static void forget(const struct rules *rules, struct made *made, int32_t *lines, int32_t *days)
{
	for (int64_t index = 0; index < rules->count; index++) {
		free(made[index].valid);
		free(made[index].values);
		free(made[index].text);
	}
	free(lines);
	free(days);
}

/* Makes room for `most` rows, and one more that is written to before it is known whether its line is plain. */
static int begin(const struct rules *rules, struct made *made, int64_t most)
{
	for (int64_t index = 0; index < rules->count; index++) {
		int is_wide = rules->columns[index].kind == INT64;

		made[index].valid = calloc(most / 8 + 1, 1);
		made[index].values = malloc((most + 2) * (is_wide ? sizeof(int64_t) : sizeof(int32_t)));
		if (made[index].valid == NULL || made[index].values == NULL)
			return -1;
		if (rules->columns[index].kind != TEXT)
			continue;
		made[index].room = 64;
		made[index].text = malloc(made[index].room);
		((int32_t *)made[index].values)[0] = 0;
		if (made[index].text == NULL)
			return -1;
	}
	return 0;
}

/* Hands the columns over; what is longer than it need be is cut. */
static int hand_over(const struct rules *rules, struct made *made, int32_t *lines, int32_t *days, int64_t length,
		     struct ArrowArray *rows)
{
	if (make_rows(rows, length, OWN + rules->count) != 0)
		return -1;
	if (make_column(rows->children[LINE], length, 0, NULL, lines, NULL) != 0 ||
	    make_column(rows->children[DAY], length, 0, NULL, days, NULL) != 0)
		goto failed;
	for (int64_t index = 0; index < rules->count; index++) {
		struct made *column = &made[index];

		if (column->text != NULL) {
			size_t used = ((int32_t *)column->values)[length];
			void *cut = realloc(column->text, used ? used : 1);

			column->text = cut ? cut : column->text;
		}
		if (column->nulls == 0) {
			free(column->valid);
			column->valid = NULL;
		}
		if (make_column(rows->children[OWN + index], length, column->nulls, column->valid, column->values,
				column->text) != 0)
			goto failed;
	}
	return 0;
failed:
	/* The buffers are still their makers'. */
	for (int64_t each = 0; each < rows->n_children; each++)
		rows->children[each]->n_buffers = 0;
	rows->release(rows);
	return -1;
}

/* Returns how many newlines there are. */
int64_t count_lines(const uint8_t *data, int64_t size)
{
	int64_t found = 0;

	while (size > 0) {
		/* Side by side, which the compiler makes a few instructions of; so few that a byte holds each sum. */
		uint8_t sums[32] = { 0 };
		int64_t some = size / 32 < 255 ? size / 32 : 255;

		for (int64_t block = 0; block < some; block++, data += 32)
			for (int each = 0; each < 32; each++)
				sums[each] += data[each] == '\n';
		for (int each = 0; each < 32; each++)
			found += sums[each];
		size -= some * 32;
		for (; some < 255 && size > 0; size--)
			found += *data++ == '\n';
	}
	return found;
}

/*
 * Reads the lines of `parts`, which together are less than 2 GiB. `plain` is told of each line, one part after the other,
 * whether it is a row of `rows`: its number, its day, then the columns of `rules`. Of more than `most` rows the rest is
 * not plain. Returns 0, or -1 if there is no memory.
 */
int read_lines(const struct rules *rules, struct part *parts, int64_t count, int64_t most, uint8_t *plain,
	       struct ArrowArray *rows)
{
	struct made made[MOST_COLUMNS] = { 0 };
	uint8_t next[MOST_COLUMNS + 1];
	uint64_t required = 0, there = 0;
	int64_t row = 0;
	int failed = 0;
	int32_t *lines = malloc((most + 1) * sizeof(*lines));
	int32_t *days = malloc((most + 1) * sizeof(*days));

	if (lines == NULL || days == NULL || begin(rules, made, most) != 0)
		goto failed;
	for (int64_t index = 0; index < rules->count; index++) {
		next[index] = (uint8_t)(index + 1 < rules->count ? index + 1 : 0);
		required |= (uint64_t)(rules->columns[index].required != 0) << index;
	}
	next[MOST_COLUMNS] = 0;
	for (struct part *part = parts; part < parts + count; part++) {
		const uint8_t *at = part->data + part->start, *end = part->data + part->size;

		memset(&part->told, 0, sizeof(part->told));
		for (int64_t line = 0; line < part->lines && at < end; line++, plain++) {
			const uint8_t *stop = NULL;

			if (row < most)
				stop = read_line(rules, made, row, at, end, next, &there, &failed);
			if (failed)
				goto failed;
			*plain = stop != NULL && stop - at <= rules->longest && (there & required) == required;
			if (*plain) {
				lines[row] = (int32_t)(part->first_line + line);
				days[row] = day_of(((int64_t *)made[rules->time].values)[row]);
				take_row(rules, made, row++, there, &part->told);
			} else {
				stop = memchr(at, '\n', end - at);
			}
			at = stop + 1;
		}
	}
	if (hand_over(rules, made, lines, days, row, rows) != 0)
		goto failed;
	return 0;
failed:
	forget(rules, made, lines, days);
	return -1;
}
