/* Columns: what differs in each is found, and a page made of it. */
#include "segment_found.h"

enum { MOST_ENTRIES = 4096 };

const char *source_digest(void)
{
	return SOURCE_DIGEST;
}

static int is_there(const struct ArrowArray *column, int64_t row)
{
	const uint8_t *valid = column->n_buffers > 0 ? column->buffers[0] : NULL;

	row += column->offset;
	return column->null_count == 0 || valid == NULL || valid[row / 8] >> row % 8 & 1;
}

/* The offsets of a column's texts, the first of which is its row 0's. */
static const int32_t *offsets_of(const struct ArrowArray *column)
{
	return (const int32_t *)column->buffers[1] + column->offset;
}

/* Takes a piece's texts, each for itself; returns how many indices there are then. */
static int64_t take_texts(struct found *found, const struct ArrowArray *column, uint32_t *indices, int64_t taken)
{
	const int32_t *offsets = offsets_of(column);
	const uint8_t *texts = column->buffers[2], *before = NULL;
	uint32_t size_before = 0, place = 0;

	for (int64_t row = 0; row < column->length && !found->failed; row++) {
		const uint8_t *text = texts + offsets[row];
		uint32_t size = offsets[row + 1] - offsets[row];

		if (!is_there(column, row))
			continue;
		/* Rows of one process and one folder follow each other. */
		if (before == NULL || size != size_before || memcmp(text, before, size) != 0)
			place = text_place(found, text, size);
		before = text;
		size_before = size;
		indices[taken++] = place;
	}
	return taken;
}

/* Takes a piece's texts by its dictionary, in which each is looked at once. */
static int64_t take_coded(struct found *found, const struct ArrowArray *column, uint32_t *indices, int64_t taken)
{
	const struct ArrowArray *dictionary = column->dictionary;
	const int32_t *offsets = offsets_of(dictionary), *given = offsets_of(column);
	const uint8_t *texts = dictionary->buffers[2];
	uint32_t *places = calloc(dictionary->length + 1, sizeof(*places)); /* one more than the place */

	if (places == NULL)
		found->failed = 1;
	for (int64_t row = 0; row < column->length && !found->failed; row++) {
		int32_t at = given[row];

		if (column->null_count > 0 && !is_there(column, row))
			continue;
		if (places[at] == 0)
			places[at] = text_place(found, texts + offsets[at], offsets[at + 1] - offsets[at]) + 1;
		indices[taken++] = places[at] - 1;
	}
	free(places);
	return taken;
}

static int64_t take_numbers(const struct field *field, const struct ArrowArray *column, int64_t *numbers, int64_t taken)
{
	const int64_t *wide = (const int64_t *)column->buffers[1] + column->offset;
	const int32_t *narrow = (const int32_t *)column->buffers[1] + column->offset;

	if (column->null_count == 0 && field->kind != INT32) {
		memcpy(numbers + taken, wide, column->length * sizeof(*wide));
		return taken + column->length;
	}
	for (int64_t row = 0; row < column->length; row++)
		if (is_there(column, row))
			numbers[taken++] = field->kind == INT32 ? narrow[row] : wide[row];
	return taken;
}

/* Makes a page of indices into what was found, and its dictionary. */
static void put_coded(const struct field *field, struct page *page, const struct found *found,
		      const uint32_t *indices, int64_t taken)
{
	uint8_t width = found->count > 1 ? (uint8_t)width_of((uint64_t)found->count - 1) : 1;

	for (int64_t each = 0; each < found->count; each++) {
		const struct entry *entry = &found->entries[each];

		if (field->kind == TEXT) {
			put(&page->dictionary, &entry->size, sizeof(entry->size));
			put(&page->dictionary, entry->text, entry->size);
		} else {
			put(&page->dictionary, &entry->number, field->kind == INT32 ? 4 : 8);
		}
	}
	page->entries = found->count;
	page->encoding = RLE_DICTIONARY;
	put(&page->values, &width, 1);
	put_runs(&page->values, indices, taken, width);
}

/* Says whether all pieces of a column without nulls hold one number: each is held against the one before it. */
static int is_one_number(const struct field *field, struct ArrowArray *const *columns, int64_t count, int64_t *number)
{
	size_t width = field->kind == INT32 ? sizeof(int32_t) : sizeof(int64_t);
	const uint8_t *first = (const uint8_t *)columns[0]->buffers[1] + columns[0]->offset * width;

	for (int64_t each = 0; each < count; each++) {
		const uint8_t *values = (const uint8_t *)columns[each]->buffers[1] + columns[each]->offset * width;

		if (memcmp(values, first, width) != 0 || memcmp(values, values + width, (columns[each]->length - 1) * width) != 0)
			return 0;
	}
	*number = field->kind == INT32 ? *(const int32_t *)first : *(const int64_t *)first;
	return 1;
}

/* Says whether all pieces of a column without nulls hold one text, as far as their dictionaries tell. */
static int is_one_text(struct ArrowArray *const *columns, int64_t count, struct said *said)
{
	for (int64_t each = 0; each < count; each++) {
		const struct ArrowArray *dictionary = columns[each]->dictionary;
		const int32_t *offsets;
		const uint8_t *text;

		if (dictionary == NULL || dictionary->length != 1)
			return 0;
		offsets = offsets_of(dictionary);
		text = (const uint8_t *)dictionary->buffers[2] + offsets[0];
		if (each == 0) {
			said->text = text;
			said->text_size = offsets[1] - offsets[0];
		} else if (offsets[1] - offsets[0] != said->text_size || memcmp(text, said->text, said->text_size) != 0) {
			return 0;
		}
	}
	return 1;
}

static void put_texts(struct pages *pages, int64_t index, struct ArrowArray *const *columns, int64_t count,
		      struct said *said)
{
	struct page *page = &pages->columns[index];
	struct found found;
	int64_t taken = 0;

	if (page->nulls == 0 && index >= OWN && is_one_text(columns, count, said)) {
		page->state = ONE;
		return;
	}
	begin(&found, pages->seed);
	for (int64_t each = 0; each < count && !found.failed; each++)
		taken = columns[each]->dictionary == NULL ? take_texts(&found, columns[each], pages->indices, taken) :
							    take_coded(&found, columns[each], pages->indices, taken);
	if (found.failed) {
		page->values.failed = 1;
	} else if (found.count == 1 && page->nulls == 0 && index >= OWN) {
		page->state = ONE;
		said->text = found.entries[0].text;
		said->text_size = found.entries[0].size;
	} else {
		put_coded(&pages->fields[index], page, &found, pages->indices, taken);
	}
	end(&found);
}

/* Makes a page of few different numbers; returns 0, and makes none, if there are many. */
static int put_few(struct pages *pages, int64_t index, int64_t taken)
{
	struct page *page = &pages->columns[index];
	struct found found;
	int64_t row = 0;

	begin(&found, pages->seed);
	for (; row < taken && !found.failed && found.count <= MOST_ENTRIES; row++)
		pages->indices[row] = row > 0 && pages->numbers[row] == pages->numbers[row - 1] ?
					      pages->indices[row - 1] :
					      number_place(&found, pages->numbers[row]);
	if (found.failed)
		page->values.failed = 1;
	else if (found.count <= MOST_ENTRIES)
		put_coded(&pages->fields[index], page, &found, pages->indices, taken);
	end(&found);
	return found.count <= MOST_ENTRIES;
}

/* Makes a page of numbers, of those that are there. */
static void put_numbers(struct pages *pages, int64_t index, struct ArrowArray *const *columns, int64_t count,
			struct said *said)
{
	const struct field *field = &pages->fields[index];
	struct page *page = &pages->columns[index];
	int64_t taken = 0;

	if (page->nulls == 0 && index >= OWN && is_one_number(field, columns, count, &said->number)) {
		page->state = ONE;
		return;
	}
	for (int64_t each = 0; each < count; each++)
		taken = take_numbers(field, columns[each], pages->numbers, taken);
	if (!field->counting && put_few(pages, index, taken))
		return;
	page->encoding = DELTA_BINARY_PACKED;
	put_differences(&page->values, pages->numbers, taken, field->kind == INT32);
}

/* Counts the nulls of a piece that does not say: it is a part of another. */
static int64_t nulls_of(const struct ArrowArray *column)
{
	const uint8_t *valid = column->buffers[0];
	int64_t nulls = 0;

	if (column->null_count >= 0)
		return column->null_count;
	for (int64_t row = column->offset; row < column->offset + column->length && valid != NULL; row++)
		nulls += !(valid[row / 8] >> row % 8 & 1);
	return nulls;
}

/* Counts the nulls, and writes which rows there are if there are some. */
static void put_levels(struct pages *pages, struct page *page, struct ArrowArray *const *columns, int64_t count)
{
	int64_t at = 0;

	for (int64_t each = 0; each < count; each++) {
		columns[each]->null_count = nulls_of(columns[each]);
		page->nulls += columns[each]->null_count;
	}
	if (page->nulls == 0 || page->nulls == pages->rows)
		return;
	for (int64_t each = 0; each < count; each++)
		for (int64_t row = 0; row < columns[each]->length; row++)
			pages->levels[at++] = (uint32_t)is_there(columns[each], row);
	put_runs(&page->levels, pages->levels, at, 1);
}

static void put_column(struct pages *pages, int64_t index, struct ArrowArray *const *columns, int64_t count,
		       struct said *said)
{
	struct page *page = &pages->columns[index];

	put_levels(pages, page, columns, count);
	if (page->nulls == pages->rows)
		page->state = NOTHING;
	else if (pages->fields[index].kind == TEXT)
		put_texts(pages, index, columns, count, said);
	else
		put_numbers(pages, index, columns, count, said);
	said->state = page->state;
	said->dictionary = page->dictionary.at;
	said->dictionary_size = (int64_t)page->dictionary.size;
}

void forget_pages(struct pages *pages)
{
	if (pages == NULL)
		return;
	for (int64_t index = 0; index < pages->count; index++) {
		free(pages->columns[index].dictionary.at);
		free(pages->columns[index].levels.at);
		free(pages->columns[index].values.at);
	}
	free(pages->numbers);
	free(pages->indices);
	free(pages->levels);
	free(pages);
}

/* Gives pieces back to whoever made them. */
void forget_pieces(struct ArrowArray *pieces, int64_t parts)
{
	for (int64_t each = 0; each < parts; each++)
		if (pieces[each].release != NULL)
			pieces[each].release(&pieces[each]);
}

/*
 * Makes the pages of `count` columns: of each row its batch, its line, and the event's. The rows are in `pieces`, which
 * hold line, day and the event's columns, texts as they are or as indices of 32 bits into a dictionary without nulls;
 * none of them is without rows. `batches`: how many rows each batch has. `seed`: 32 random bytes.
 * Returns NULL if there is no memory. Texts in `said` are the pieces', dictionaries the pages'.
 */
struct pages *make_pages(const struct field *fields, int64_t count, struct ArrowArray *pieces, int64_t parts,
			 const int64_t *batches, int64_t batch_count, const uint64_t *seed, struct said *said)
{
	struct pages *pages = calloc(1, sizeof(*pages) + count * sizeof(struct page));
	struct ArrowArray **columns = malloc((parts + 1) * sizeof(*columns));
	int failed = pages == NULL || columns == NULL;

	if (failed)
		goto out;
	pages->fields = fields;
	pages->count = count;
	memcpy(pages->seed, seed, sizeof(pages->seed));
	for (int64_t each = 0; each < parts; each++)
		pages->rows += pieces[each].length;
	pages->numbers = malloc(pages->rows * sizeof(*pages->numbers));
	pages->indices = malloc(pages->rows * sizeof(*pages->indices));
	pages->levels = malloc(pages->rows * sizeof(*pages->levels));
	failed = pages->numbers == NULL || pages->indices == NULL || pages->levels == NULL;
	for (int64_t index = LINE; index < count && !failed; index++) {
		/* Their second column is the day, which is not written. */
		for (int64_t each = 0; each < parts; each++)
			columns[each] = pieces[each].children[index == LINE ? 0 : index];
		put_column(pages, index, columns, parts, &said[index]);
		failed = pages->columns[index].values.failed || pages->columns[index].levels.failed ||
			 pages->columns[index].dictionary.failed;
	}
	for (int64_t batch = 0, row = 0; batch < batch_count && !failed; batch++)
		for (int64_t each = 0; each < batches[batch]; each++)
			pages->numbers[row++] = batch;
	if (!failed && !put_few(pages, BATCH, pages->rows)) {
		pages->columns[BATCH].encoding = DELTA_BINARY_PACKED;
		put_differences(&pages->columns[BATCH].values, pages->numbers, pages->rows, 1);
	}
	failed = failed || pages->columns[BATCH].values.failed || pages->columns[BATCH].dictionary.failed;
out:
	free(columns);
	if (!failed)
		return pages;
	forget_pages(pages);
	return NULL;
}
