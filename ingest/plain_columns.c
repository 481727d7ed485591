/* Columns: makes those of Arrow; and what both readers ask of bytes. */
#include "plain.h"

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
	if (array->dictionary != NULL && array->dictionary->release != NULL)
		array->dictionary->release(array->dictionary);
	free(array->dictionary);
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

/* Makes a column of copies of a whole one's texts, or of its values of `width` bytes, and of its dictionary. */
int make_copy(struct ArrowArray *column, const struct ArrowArray *from, int64_t width)
{
	int text = from->n_buffers == 3;
	const int64_t sizes[] = {
		(from->length + 7) / 8,
		text ? (from->length + 1) * (int64_t)sizeof(int32_t) : from->length * width,
		text ? ((const int32_t *)from->buffers[1])[from->length] : 0,
	};
	void *copies[] = { NULL, NULL, NULL };

	for (int64_t each = 0; each < from->n_buffers; each++) {
		if (from->buffers[each] == NULL)
			continue;
		copies[each] = malloc(sizes[each] + 1);
		if (copies[each] == NULL)
			goto failed;
		memcpy(copies[each], from->buffers[each], sizes[each]);
	}
	if (make_column(column, from->length, from->null_count, copies[0], copies[1], copies[2]) != 0)
		goto failed;
	if (from->dictionary == NULL)
		return 0;
	column->dictionary = calloc(1, sizeof(*column->dictionary));
	return column->dictionary == NULL ? -1 : make_copy(column->dictionary, from->dictionary, 0);
failed:
	for (int each = 0; each < 3; each++)
		free(copies[each]);
	return -1;
}

/* Makes a column of nulls; if `coded`, of indices of a dictionary with one text. */
int make_nothing(struct ArrowArray *column, int64_t kind, int64_t length, int coded)
{
	void *valid = calloc(length / 8 + 1, 1), *values = calloc(length + 1, kind == INT64 ? 8 : 4);
	void *text = kind == TEXT && !coded ? calloc(1, 1) : NULL;

	if (valid == NULL || values == NULL || (kind == TEXT && !coded && text == NULL) ||
	    make_column(column, length, length, valid, values, text) != 0) {
		free(valid);
		free(values);
		free(text);
		return -1;
	}
	if (kind != TEXT || !coded)
		return 0;
	column->dictionary = calloc(1, sizeof(*column->dictionary));
	values = calloc(2, sizeof(int32_t));
	text = calloc(1, 1);
	if (column->dictionary == NULL || values == NULL || text == NULL ||
	    make_column(column->dictionary, 1, 0, NULL, values, text) != 0) {
		free(values);
		free(text);
		return -1;
	}
	return 0;
}
