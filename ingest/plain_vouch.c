/* Columns that came: says whether all that they hold is plain, and makes rows of them. */
#include "plain.h"

static int is_valid(const uint8_t *valid, int64_t row)
{
	return valid == NULL || valid[row / 8] >> row % 8 & 1;
}

/* Says of eight bytes whether all are ASCII, and none a control or a backslash. */
static int are_plain(const uint8_t *at)
{
	const uint64_t ones = 0x0101010101010101ULL, tops = ones << 7;
	uint64_t word, backslash, delete;

	memcpy(&word, at, sizeof(word));
	backslash = word ^ ones * '\\';
	delete = word ^ ones * 0x7f;
	/* A byte below a subtrahend borrows, which sets its top bit unless it was set; the lowest one is always seen. */
	return ((word | ((word - ones * ' ') & ~word) | ((backslash - ones) & ~backslash) | ((delete - ones) & ~delete)) &
		tops) == 0;
}

/* Says whether a text is UTF-8 on its own. */
static int is_utf8(const uint8_t *at, const uint8_t *end)
{
	while (at < end) {
		int size = *at < 0x80 ? 1 : *at < 0xe0 ? 2 : *at < 0xf0 ? 3 : 4;

		if (size > end - at || (size > 1 && (harmless[*at] != BEYOND || beyond(at) == 0)))
			return 0;
		at += size;
	}
	return 1;
}

/* Says whether a column's texts, those below nulls among them, are all plain; `most`: what the longest takes. */
static int texts_are_plain(const struct column *rule, const struct ArrowArray *column, int64_t length, int64_t *most)
{
	const int32_t *offsets = (const int32_t *)column->buffers[1] + column->offset;
	const uint8_t *text = column->buffers[2], *valid = column->buffers[0];
	const uint8_t *last = NULL;
	int64_t last_size = -1;
	int wide = 0, falling = 0;

	*most = 0;
	if (length == 0)
		return 1;
	/* Where all begin and end lies within the buffer: Arrow has seen to that, and to nothing in between. */
	for (int64_t row = 0; row < length; row++)
		falling |= offsets[row + 1] < offsets[row];
	if (falling)
		return 0;
	/* Quotes are escaped on a line, and no matter here. */
	for (int64_t place = offsets[0]; place < offsets[length] && rule->words == NULL;) {
		if (offsets[length] - place >= 8 && are_plain(text + place)) {
			place += 8;
			continue;
		}
		wide |= text[place] >= 0x80;
		if (text[place] < 0x80 && !harmless[text[place]] && text[place] != '"')
			return 0;
		place++;
	}
	for (int64_t row = 0; row < length; row++) {
		int64_t size = offsets[row + 1] - offsets[row];

		if (wide && !is_utf8(text + offsets[row], text + offsets[row + 1]))
			return 0;
		if (!is_valid(valid, column->offset + row))
			continue;
		if (size > *most)
			*most = size;
		if (rule->words == NULL)
			continue;
		if (size != last_size || memcmp(text + offsets[row], last, size) != 0) {
			if (!is_word(rule, text + offsets[row], size))
				return 0;
			last = text + offsets[row];
			last_size = size;
		}
	}
	return 1;
}

static uint32_t index_of(const struct ArrowArray *column, int64_t width, int64_t row)
{
	const void *indices = column->buffers[1];

	/* A negative one becomes a large one. */
	row += column->offset;
	return width == 1 ? (uint32_t)((const int8_t *)indices)[row] :
	       width == 2 ? (uint32_t)((const int16_t *)indices)[row] :
			    ((const uint32_t *)indices)[row];
}

/* The bits that indices have, those below nulls among them. */
static uint32_t bits_of_indices(const struct ArrowArray *column, int64_t width, int64_t length)
{
	uint32_t bits = 0;

	/* A loop a width, so that each is one of many values at once. */
	if (width == 1)
		for (int64_t row = 0; row < length; row++)
			bits |= (uint32_t)((const int8_t *)column->buffers[1])[column->offset + row];
	else if (width == 2)
		for (int64_t row = 0; row < length; row++)
			bits |= (uint32_t)((const int16_t *)column->buffers[1])[column->offset + row];
	else
		for (int64_t row = 0; row < length; row++)
			bits |= ((const uint32_t *)column->buffers[1])[column->offset + row];
	return bits;
}

/* Says whether indices, those below nulls among them, are all of a dictionary. */
static int indices_are_sound(const struct ArrowArray *column, int64_t width, int64_t length)
{
	uint32_t most = 0;

	/* None is larger than the bits of all together, and where these are few nobody need look at each. */
	if ((int64_t)bits_of_indices(column, width, length) < column->dictionary->length)
		return 1;
	for (int64_t row = 0; row < length; row++) {
		uint32_t index = index_of(column, width, row);

		most = index > most ? index : most;
	}
	return (int64_t)most < column->dictionary->length;
}

/* What the texts of a dictionary's column would take, were each row to have its own. */
static int64_t spelt_out(const struct ArrowArray *column, int64_t width, int64_t length)
{
	const int32_t *offsets = (const int32_t *)column->dictionary->buffers[1] + column->dictionary->offset;
	int64_t bytes = 0;

	for (int64_t row = 0; row < length; row++) {
		uint32_t index = index_of(column, width, row);

		bytes += offsets[index + 1] - offsets[index];
	}
	return bytes;
}

static int numbers_are_plain(const struct column *rule, const struct ArrowArray *column, int64_t length)
{
	const uint8_t *valid = column->buffers[0];
	int outside = 0;

	/* What stands below a null may be anything; as a rule it is in range as well, and nobody need ask. */
	if (rule->kind == INT32) {
		const int32_t *values = (const int32_t *)column->buffers[1] + column->offset;
		uint32_t span = (uint32_t)(rule->most - rule->least);

		/* As a rule any number will do. */
		for (int64_t row = 0; row < length && span != UINT32_MAX; row++)
			outside |= (uint32_t)values[row] - (uint32_t)rule->least > span;
	} else {
		const int64_t *values = (const int64_t *)column->buffers[1] + column->offset;
		uint64_t span = (uint64_t)rule->most - (uint64_t)rule->least;

		for (int64_t row = 0; row < length && span != UINT64_MAX; row++)
			outside |= (uint64_t)values[row] - (uint64_t)rule->least > span;
	}
	for (int64_t row = 0; row < length && outside; row++) {
		int64_t place = column->offset + row;
		int64_t value = rule->kind == INT32 ? ((const int32_t *)column->buffers[1])[place] :
						      ((const int64_t *)column->buffers[1])[place];

		if ((value < rule->least || value > rule->most) && is_valid(valid, place))
			return 0;
	}
	return 1;
}

/* How many nulls there are; -1 if a column says that there is another number of them. */
static int64_t nulls_of(const struct ArrowArray *column, int64_t length)
{
	const uint8_t *valid = column->buffers[0];
	int64_t nulls = 0, row = 0;

	if (valid == NULL)
		return column->null_count <= 0 ? 0 : -1;
	if (column->offset % 8 == 0)
		for (; length - row >= 8; row += 8)
			nulls += 8 - __builtin_popcount(valid[(column->offset + row) / 8]);
	for (; row < length; row++)
		nulls += !is_valid(valid, column->offset + row);
	return column->null_count < 0 || column->null_count == nulls ? nulls : -1;
}

static void sum_up(const struct rules *rules, const struct given *given, int64_t length, struct told *told)
{
	const struct ArrowArray *times = given->columns[rules->time], *ends = given->columns[rules->last_time];
	const struct ArrowArray *counts = given->columns[rules->occurrences];
	const int64_t *time = (const int64_t *)times->buffers[1] + times->offset;
	const int64_t *count = (const int64_t *)counts->buffers[1] + counts->offset;

	int64_t first = time[0], last = time[0], occurrences = 0;

	for (int64_t row = 0; row < length; row++) {
		first = time[row] < first ? time[row] : first;
		last = time[row] > last ? time[row] : last;
		occurrences += count[row];
	}
	for (int64_t row = 0; row < length && ends != NULL; row++) {
		int64_t end = ((const int64_t *)ends->buffers[1])[ends->offset + row];

		if (end > last && is_valid(ends->buffers[0], ends->offset + row))
			last = end;
	}
	*told = (struct told){ length, first, last, occurrences };
}

/* Makes a column whose indices have 32 bits of one whose have fewer, and takes its dictionary, or one like it. */
static int make_wider(struct ArrowArray *column, struct ArrowArray *from, int64_t width, int64_t length, int lent)
{
	const uint8_t *there = from->buffers[0];
	uint8_t *valid = there == NULL ? NULL : calloc(length / 8 + 1, 1);
	uint32_t *indices = malloc((length + 1) * sizeof(*indices));
	struct ArrowArray *dictionary = calloc(1, sizeof(*dictionary));
	int64_t nulls = 0;

	if ((there != NULL && valid == NULL) || indices == NULL || dictionary == NULL)
		goto failed;
	if (width == 1)
		for (int64_t row = 0; row < length; row++)
			indices[row] = (uint32_t)((const int8_t *)from->buffers[1])[from->offset + row];
	else
		for (int64_t row = 0; row < length; row++)
			indices[row] = (uint32_t)((const int16_t *)from->buffers[1])[from->offset + row];
	if (there != NULL && from->offset == 0) {
		memcpy(valid, there, (length + 7) / 8);
		nulls = nulls_of(from, length);
	}
	for (int64_t row = 0; row < length && there != NULL && from->offset > 0; row++) {
		int is = is_valid(there, from->offset + row);

		valid[row / 8] |= is << row % 8;
		nulls += !is;
	}
	if (make_column(column, length, nulls, valid, indices, NULL) != 0)
		goto failed;
	column->dictionary = dictionary;
	if (lent)
		return make_copy(dictionary, from->dictionary, 0);
	*dictionary = *from->dictionary;
	from->dictionary->release = NULL;
	return 0;
failed:
	free(valid);
	free(indices);
	free(dictionary);
	return -1;
}

/* Makes rows of given columns, which it takes, of nulls where there are none, and of the rows' numbers and days. */
static int make_whole(const struct rules *rules, struct given *given, int64_t length, int64_t first_line,
		      struct ArrowArray *whole)
{
	const struct ArrowArray *times = given->columns[rules->time];
	const int64_t *time = length == 0 ? NULL : (const int64_t *)times->buffers[1] + times->offset;
	int32_t *lines = malloc((length + 1) * sizeof(*lines));
	int32_t *days = malloc((length + 1) * sizeof(*days));
	int64_t begins = INT64_MAX;

	if (lines == NULL || days == NULL || make_rows(whole, length, OWN + rules->count) != 0) {
		free(lines);
		free(days);
		return -1;
	}
	if (make_column(whole->children[LINE], length, 0, NULL, lines, NULL) != 0) {
		free(lines);
		free(days);
		goto failed;
	}
	if (make_column(whole->children[DAY], length, 0, NULL, days, NULL) != 0) {
		free(days);
		goto failed;
	}
	for (int64_t row = 0; row < length; row++) {
		lines[row] = (int32_t)(first_line + row);
		/* As a rule it is the day of the row before, and a division takes as long as all else. */
		if (row == 0 || time[row] < begins || time[row] - begins >= DAY_US) {
			days[row] = day_of(time[row]);
			begins = days[row] * DAY_US;
		} else {
			days[row] = days[row - 1];
		}
	}
	for (int64_t index = 0; index < rules->count; index++) {
		struct ArrowArray *made = whole->children[OWN + index], *column = given->columns[index];
		int64_t kind = rules->columns[index].kind, width = given->widths[index];

		if (column == NULL) {
			if (make_nothing(made, kind, length, given->coded) != 0)
				goto failed;
		} else if (column->dictionary != NULL && width < (int64_t)sizeof(int32_t)) {
			if (make_wider(made, column, width, length, given->lent) != 0)
				goto failed;
		} else if (given->lent) {
			if (make_copy(made, column, kind == INT64 ? 8 : 4) != 0)
				goto failed;
		} else {
			*made = *column;
			column->release = NULL;
		}
	}
	return 0;
failed:
	whole->release(whole);
	return -1;
}

/* Says whether given columns are sound and plain, and drops those of nulls. */
static int columns_are_plain(const struct rules *rules, struct given *given, int64_t length, int64_t most_bytes)
{
	int64_t texts = 0, spelt = 0;

	for (int64_t index = 0; index < rules->count; index++) {
		const struct column *rule = &rules->columns[index];
		const struct ArrowArray *column = given->columns[index], *held = column;
		int64_t most, width = given->widths[index], nulls = column == NULL ? length : nulls_of(column, length);

		if (nulls < 0 || (nulls > 0 && rule->required))
			return 0;
		if (nulls == length && length > 0) {
			given->columns[index] = NULL;
			continue;
		}
		if (column == NULL)
			continue;
		if (rule->kind != TEXT) {
			if (!numbers_are_plain(rule, column, length))
				return 0;
			continue;
		}
		if (width > 0) {
			held = column->dictionary;
			if (held->null_count != 0 || held->buffers[0] != NULL)
				return 0;
		}
		if (!texts_are_plain(rule, held, width == 0 ? length : held->length, &most))
			return 0;
		texts += most;
		if (width == 0 || length == 0)
			continue;
		if (!indices_are_sound(column, width, length))
			return 0;
		/* As a rule there is room for as many of the longest. */
		spelt += most * length > most_bytes / rules->count ? spelt_out(column, width, length) : most * length;
	}
	/* A line may have each byte of a text as two; its keys, punctuation and numbers take less than the rest. */
	return 2 * texts + 2000 <= rules->longest && spelt <= most_bytes;
}

/*
 * Says whether given columns are sound and plain: 1, or 0 if one may not be, or -1 if there is no memory. If they are,
 * `whole` becomes the rows with numbers and days, all columns, indices of 32 bits.
 */
int make_vouched(const struct rules *rules, struct given *given, int64_t length, int64_t first_line, int64_t most_bytes,
		 struct ArrowArray *whole, struct told *told)
{
	if (!columns_are_plain(rules, given, length, most_bytes))
		return 0;
	if (length > 0)
		sum_up(rules, given, length, told);
	return make_whole(rules, given, length, first_line, whole) == 0 ? 1 : -1;
}

/*
 * Says of rows that Arrow holds what make_vouched() says. Arrow has checked how large their buffers are, and where the
 * first text begins and the last ends. Of each column of `rules`, `places` says which of theirs it is, or -1; `widths`
 * how many bytes an index of its dictionary has, or 0 if it is none: if one text is a dictionary, all are.
 * `most_bytes`: what texts of dictionaries may take as texts of rows. What was given is released.
 */
int vouch(const struct rules *rules, struct ArrowArray *rows, const int64_t *places, const int64_t *widths,
	  int64_t first_line, int64_t most_bytes, struct ArrowArray *whole, struct told *told)
{
	struct given given = { .widths = widths };
	int good = rows->offset == 0 && rules->count <= MOST_COLUMNS;

	memset(told, 0, sizeof(*told));
	for (int64_t index = 0; index < rules->count && good; index++) {
		given.columns[index] = places[index] < 0 ? NULL : rows->children[places[index]];
		given.coded |= widths[index] > 0;
	}
	if (good)
		good = make_vouched(rules, &given, rows->length, first_line, most_bytes, whole, told);
	rows->release(rows);
	return good;
}
