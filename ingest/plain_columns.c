/* Columns: makes those of Arrow, and says of given ones whether all that they hold is plain. */
#include "plain.h"

#define DAY_US 86400000000LL

const uint8_t harmless[256] = {
	[0x20] = ASCII, ASCII, 0, [0x23 ... 0x5b] = ASCII, [0x5d ... 0x7e] = ASCII,
	[0xc3 ... 0xf4] = BEYOND,
};

/* How many bytes of UTF-8 are at `at`, beyond ASCII; 0 if it is none. A byte that is no continuation ends all. */
int beyond(const uint8_t *at)
{
	uint8_t least = 0x80, most = 0xbf;
	int more = at[0] < 0xe0 ? 1 : at[0] < 0xf0 ? 2 : 3;

	if (at[0] == 0xe0)
		least = 0xa0;
	else if (at[0] == 0xed)
		most = 0x9f;
	else if (at[0] == 0xf0)
		least = 0x90;
	else if (at[0] == 0xf4)
		most = 0x8f;
	if (at[1] < least || at[1] > most)
		return 0;
	for (int each = 2; each <= more; each++)
		if ((at[each] & 0xc0) != 0x80)
			return 0;
	return more + 1;
}

int is_word(const struct column *column, const uint8_t *text, size_t size)
{
	const uint8_t *word = column->words;

	if (word == NULL)
		return 1;
	for (; *word; word += *word + 1)
		if (*word == size && memcmp(word + 1, text, size) == 0)
			return 1;
	return 0;
}

int32_t day_of(int64_t time)
{
	int64_t day = time / DAY_US;

	return (int32_t)(time % DAY_US < 0 ? day - 1 : day);
}

static void release_column(struct ArrowArray *array)
{
	for (int64_t each = 0; each < array->n_buffers; each++)
		free((void *)array->buffers[each]);
	free(array->buffers);
	array->release = NULL;
}

static void release_rows(struct ArrowArray *array)
{
	for (int64_t each = 0; each < array->n_children; each++)
		if (array->children[each]->release != NULL)
			array->children[each]->release(array->children[each]);
	/* All children are one piece of memory. */
	if (array->n_children > 0)
		free(array->children[0]);
	free(array->children);
	free(array->buffers);
	array->release = NULL;
}

/* Makes an array of `count` columns that are nothing yet. */
int make_rows(struct ArrowArray *rows, int64_t length, int64_t count)
{
	struct ArrowArray *children = calloc(count, sizeof(*children));

	memset(rows, 0, sizeof(*rows));
	rows->buffers = calloc(1, sizeof(void *));
	rows->children = calloc(count, sizeof(*rows->children));
	if (children == NULL || rows->buffers == NULL || rows->children == NULL) {
		free(children);
		free(rows->buffers);
		free(rows->children);
		return -1;
	}
	rows->length = length;
	rows->n_buffers = 1;
	rows->n_children = count;
	rows->release = release_rows;
	for (int64_t each = 0; each < count; each++)
		rows->children[each] = &children[each];
	return 0;
}

/* Makes a column of buffers that are its own from here on. */
int make_column(struct ArrowArray *column, int64_t length, int64_t nulls, void *valid, void *values, void *text)
{
	column->buffers = calloc(3, sizeof(void *));
	if (column->buffers == NULL)
		return -1;
	column->length = length;
	column->null_count = nulls;
	column->n_buffers = text == NULL ? 2 : 3;
	column->buffers[0] = valid;
	column->buffers[1] = values;
	column->buffers[2] = text;
	column->release = release_column;
	return 0;
}

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

/* Says whether indices, those below nulls among them, are all of a dictionary. */
static int indices_are_sound(const struct ArrowArray *column, int64_t length)
{
	const uint32_t *indices = (const uint32_t *)column->buffers[1] + column->offset;
	uint32_t most = 0;

	/* A negative one is large. */
	for (int64_t row = 0; row < length; row++)
		most = indices[row] > most ? indices[row] : most;
	return (int64_t)most < column->dictionary->length;
}

/* What the texts of a dictionary's column would take, were each row to have its own. */
static int64_t spelt_out(const struct ArrowArray *column, int64_t length)
{
	const int32_t *indices = (const int32_t *)column->buffers[1] + column->offset;
	const int32_t *offsets = (const int32_t *)column->dictionary->buffers[1] + column->dictionary->offset;
	int64_t bytes = 0;

	for (int64_t row = 0; row < length; row++)
		bytes += offsets[indices[row] + 1] - offsets[indices[row]];
	return bytes;
}

static int numbers_are_plain(const struct column *rule, const struct ArrowArray *column, int64_t length)
{
	const uint8_t *valid = column->buffers[0];
	int64_t outside = 0;

	/* What stands below a null may be anything; as a rule it is in range as well, and nobody need ask. */
	for (int64_t place = column->offset; place < column->offset + length; place++) {
		int64_t value = rule->kind == INT32 ? ((const int32_t *)column->buffers[1])[place] :
						      ((const int64_t *)column->buffers[1])[place];

		outside |= (value < rule->least) | (value > rule->most);
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

/* Says whether nulls are where they may be, and as many as the column says. */
static int nulls_are_sound(const struct column *rule, const struct ArrowArray *column, int64_t length)
{
	const uint8_t *valid = column->buffers[0];
	int64_t nulls = 0;

	for (int64_t row = 0; row < length && valid != NULL; row++)
		nulls += !is_valid(valid, column->offset + row);
	return (nulls == 0 || !rule->required) && (column->null_count < 0 || column->null_count == nulls);
}

static void sum_up(const struct rules *rules, const struct ArrowArray *rows, struct told *told)
{
	const struct ArrowArray *ends = rows->children[rules->last_time];
	const int64_t *time = (const int64_t *)rows->children[rules->time]->buffers[1] + rows->children[rules->time]->offset;
	const int64_t *count = (const int64_t *)rows->children[rules->occurrences]->buffers[1] +
			       rows->children[rules->occurrences]->offset;
	const int64_t *end = ends->buffers[1];

	for (int64_t row = 0; row < rows->length; row++) {
		int64_t last = time[row];

		if (is_valid(ends->buffers[0], ends->offset + row) && end[ends->offset + row] > last)
			last = end[ends->offset + row];
		if (told->rows == 0 || time[row] < told->first)
			told->first = time[row];
		if (told->rows == 0 || last > told->last)
			told->last = last;
		told->rows++;
		told->occurrences += count[row];
	}
}

/*
 * Says whether all rows are sound and plain: 1, or 0 if one may not be, or -1 if there is no memory. The rows are the
 * columns of `rules`, texts as such or by 32-bit indices of a dictionary without nulls. Arrow has checked how large the
 * buffers are, and where the first text begins and the last ends. `most_bytes`: what all texts of dictionaries may take
 * as texts of rows. `own` becomes the rows' numbers and days.
 */
int vouch(const struct rules *rules, const struct ArrowArray *rows, int64_t first_line, int64_t most_bytes,
	  struct ArrowArray *own, struct told *told)
{
	int64_t length = rows->length, texts = 0, spelt = 0;

	memset(told, 0, sizeof(*told));
	if (rows->offset != 0 || rows->n_children != rules->count)
		return 0;
	for (int64_t index = 0; index < rules->count && length > 0; index++) {
		const struct column *rule = &rules->columns[index];
		const struct ArrowArray *column = rows->children[index];
		const struct ArrowArray *held = column->dictionary == NULL ? column : column->dictionary;
		int64_t most;

		if (!nulls_are_sound(rule, column, length))
			return 0;
		if (rule->kind != TEXT) {
			if (!numbers_are_plain(rule, column, length))
				return 0;
			continue;
		}
		if (!texts_are_plain(rule, held, held == column ? length : held->length, &most))
			return 0;
		texts += most;
		if (held == column)
			continue;
		if (!indices_are_sound(column, length))
			return 0;
		/* As a rule there is room for as many of the longest. */
		spelt += most * length > most_bytes / rules->count ? spelt_out(column, length) : most * length;
	}
	/* A line may have each byte of a text as two; its keys, punctuation and numbers take less than the rest. */
	if (2 * texts + 2000 > rules->longest || spelt > most_bytes)
		return 0;
	if (length > 0)
		sum_up(rules, rows, told);

	int32_t *lines = malloc((length + 1) * sizeof(*lines));
	int32_t *days = malloc((length + 1) * sizeof(*days));

	if (lines == NULL || days == NULL || make_rows(own, length, OWN) != 0) {
		free(lines);
		free(days);
		return -1;
	}
	if (make_column(own->children[LINE], length, 0, NULL, lines, NULL) != 0) {
		free(lines);
		free(days);
		own->release(own);
		return -1;
	}
	if (make_column(own->children[DAY], length, 0, NULL, days, NULL) != 0) {
		free(days);
		own->release(own);
		return -1;
	}
	const struct ArrowArray *time = rows->children[rules->time];

	for (int64_t row = 0; row < length; row++) {
		lines[row] = (int32_t)(first_line + row);
		days[row] = day_of(((const int64_t *)time->buffers[1])[time->offset + row]);
	}
	return 1;
}
