/* The file: pages behind their headers, and the footer that says where they are, in Thrift's compact protocol. */
#include "segment.h"

enum { TRUE_FIELD = 1, FALSE_FIELD = 2, I32_FIELD = 5, I64_FIELD = 6, TEXT_FIELD = 8, LIST_FIELD = 9, STRUCT_FIELD = 12 };
enum { DICTIONARY_PAGE = 2, DATA_PAGE_V2 = 3, PLAIN = 0, RLE = 3, UNCOMPRESSED = 0, ZSTD = 6, KEPT = 0, OPTIONAL = 1 };
enum { MOST_OF_PAGE = 1 << 30 };

/* Where a column's pages are, and what they take with their headers. */
struct chunk {
	int64_t first, data, opened, size;
};

struct thrift {
	struct bytes *bytes;
	int last; /* the number of the field before */
};

static void field(struct thrift *thrift, int number, int type)
{
	uint8_t head = (uint8_t)((number - thrift->last) << 4 | type);

	put(thrift->bytes, &head, 1);
	thrift->last = number;
}

static void put_i32(struct thrift *thrift, int number, int64_t value)
{
	field(thrift, number, I32_FIELD);
	put_signed(thrift->bytes, value);
}

static void put_i64(struct thrift *thrift, int number, int64_t value)
{
	field(thrift, number, I64_FIELD);
	put_signed(thrift->bytes, value);
}

static void put_text(struct bytes *bytes, const void *text, size_t size)
{
	put_number(bytes, size);
	put(bytes, text, size);
}

static void put_list(struct thrift *thrift, int number, int type, int64_t count)
{
	uint8_t head = (uint8_t)((count < 15 ? count : 15) << 4 | type);

	field(thrift, number, LIST_FIELD);
	put(thrift->bytes, &head, 1);
	if (count >= 15)
		put_number(thrift->bytes, (uint64_t)count);
}

static void stop(struct bytes *bytes)
{
	put(bytes, "", 1);
}

static void page_head(struct thrift *head, int type, int64_t opened, int64_t size)
{
	put_i32(head, 1, type);
	put_i32(head, 2, opened);
	put_i32(head, 3, size);
}

/* A dictionary's page; `squeezed` is what it is as written, of `size` bytes. */
static void put_dictionary(struct bytes *file, const struct page *page, const uint8_t *squeezed, int64_t size)
{
	struct thrift head = { .bytes = file }, own = { .bytes = file };

	page_head(&head, DICTIONARY_PAGE, (int64_t)page->dictionary.size, size);
	field(&head, 7, STRUCT_FIELD);
	put_i32(&own, 1, page->entries);
	put_i32(&own, 2, PLAIN);
	stop(file);
	stop(file);
	put(file, squeezed, size);
}

/* The page of a column's rows, which is written as it is. */
static void put_data(struct bytes *file, const struct page *page, int64_t rows)
{
	struct thrift head = { .bytes = file }, own = { .bytes = file };
	int64_t size = (int64_t)(page->levels.size + page->values.size);

	page_head(&head, DATA_PAGE_V2, size, size);
	field(&head, 8, STRUCT_FIELD);
	put_i32(&own, 1, rows);
	put_i32(&own, 2, page->nulls);
	put_i32(&own, 3, rows);
	put_i32(&own, 4, page->encoding);
	put_i32(&own, 5, (int64_t)page->levels.size);
	put_i32(&own, 6, 0);
	field(&own, 7, FALSE_FIELD);
	stop(file);
	stop(file);
	put(file, page->levels.at, page->levels.size);
	put(file, page->values.at, page->values.size);
}

static void put_chunk(struct bytes *file, const struct page *page, int64_t rows, const uint8_t *squeezed,
		      int64_t size, struct chunk *chunk)
{
	chunk->first = chunk->data = (int64_t)file->size;
	if (page->encoding == RLE_DICTIONARY) {
		if (squeezed == NULL) {
			squeezed = page->dictionary.at;
			size = (int64_t)page->dictionary.size;
		}
		put_dictionary(file, page, squeezed, size);
		chunk->data = (int64_t)file->size;
		chunk->opened = (int64_t)page->dictionary.size - size;
	}
	put_data(file, page, rows);
	chunk->size = (int64_t)file->size - chunk->first;
	chunk->opened += chunk->size;
}

/* A column as the schema has it. */
static void put_element(struct bytes *file, const struct field *of, const struct page *page)
{
	struct thrift element = { .bytes = file }, logical = { .bytes = file }, own = { .bytes = file },
		      unit = { .bytes = file };

	put_i32(&element, 1, of->kind == TEXT ? 6 : of->kind == INT32 ? 1 : 2);
	put_i32(&element, 3, page->nulls > 0 ? OPTIONAL : KEPT);
	field(&element, 4, TEXT_FIELD);
	put_text(file, of->name, strlen(of->name));
	if (of->kind == TEXT) {
		put_i32(&element, 6, 0); /* UTF8 */
		field(&element, 10, STRUCT_FIELD);
		field(&logical, 1, STRUCT_FIELD);
		stop(file);
		stop(file);
	} else if (of->kind == TIME) {
		put_i32(&element, 6, 10); /* TIMESTAMP_MICROS */
		field(&element, 10, STRUCT_FIELD);
		field(&logical, 8, STRUCT_FIELD);
		field(&own, 1, TRUE_FIELD); /* UTC */
		field(&own, 2, STRUCT_FIELD);
		field(&unit, 2, STRUCT_FIELD); /* microseconds */
		stop(file);
		stop(file);
		stop(file);
		stop(file);
	}
	stop(file);
}

static void put_column_chunk(struct bytes *file, const struct pages *pages, int64_t index, const struct chunk *chunk,
			     int is_squeezed)
{
	const struct field *of = &pages->fields[index];
	const struct page *page = &pages->columns[index];
	struct thrift head = { .bytes = file }, own = { .bytes = file };
	int is_coded = page->encoding == RLE_DICTIONARY;

	put_i64(&head, 2, 0);
	field(&head, 3, STRUCT_FIELD);
	put_i32(&own, 1, of->kind == TEXT ? 6 : of->kind == INT32 ? 1 : 2);
	put_list(&own, 2, I32_FIELD, is_coded ? 3 : 2);
	put_signed(file, RLE);
	put_signed(file, page->encoding);
	if (is_coded)
		put_signed(file, PLAIN);
	put_list(&own, 3, TEXT_FIELD, 1);
	put_text(file, of->name, strlen(of->name));
	put_i32(&own, 4, is_squeezed ? ZSTD : UNCOMPRESSED);
	put_i64(&own, 5, pages->rows);
	put_i64(&own, 6, chunk->opened);
	put_i64(&own, 7, chunk->size);
	put_i64(&own, 9, chunk->data);
	if (is_coded)
		put_i64(&own, 11, chunk->first);
	stop(file);
	stop(file);
}

static void put_footer(struct bytes *file, const struct pages *pages, const struct chunk *chunks, int64_t there,
		       const uint8_t *const *squeezed, const char *key, const uint8_t *head, int64_t head_size)
{
	struct thrift footer = { .bytes = file }, root = { .bytes = file }, group = { .bytes = file },
		      pair = { .bytes = file };
	int64_t opened = 0;

	put_i32(&footer, 1, 2); /* the form's version */
	put_list(&footer, 2, STRUCT_FIELD, there + 1);
	field(&root, 4, TEXT_FIELD);
	put_text(file, "schema", 6);
	put_i32(&root, 5, there);
	stop(file);
	for (int64_t index = 0; index < pages->count; index++)
		if (pages->columns[index].state == THERE)
			put_element(file, &pages->fields[index], &pages->columns[index]);
	put_i64(&footer, 3, pages->rows);
	put_list(&footer, 4, STRUCT_FIELD, 1);
	put_list(&group, 1, STRUCT_FIELD, there);
	for (int64_t index = 0; index < pages->count; index++) {
		if (pages->columns[index].state != THERE)
			continue;
		put_column_chunk(file, pages, index, &chunks[index], squeezed[index] != NULL);
		opened += chunks[index].opened;
	}
	put_i64(&group, 2, opened);
	put_i64(&group, 3, pages->rows);
	stop(file);
	put_list(&footer, 5, STRUCT_FIELD, 1);
	field(&pair, 1, TEXT_FIELD);
	put_text(file, key, strlen(key));
	field(&pair, 2, TEXT_FIELD);
	put_text(file, head, head_size);
	stop(file);
	field(&footer, 6, TEXT_FIELD);
	put_text(file, "kaimon", 6);
	stop(file);
}

/* Says whether all pages are of a size that their headers can say. */
static int are_sizes_sayable(const struct pages *pages)
{
	for (int64_t index = 0; index < pages->count; index++) {
		const struct page *page = &pages->columns[index];

		if (page->dictionary.size > MOST_OF_PAGE || page->levels.size + page->values.size > MOST_OF_PAGE)
			return 0;
	}
	return pages->rows <= MOST_OF_PAGE;
}

/*
 * Makes a file of pages: of those columns whose `squeezed` is not NULL, this is the dictionary's page under zstd. `head`
 * is the metadata's value under `key`. Returns where the file is, to be freed, and how many bytes it has; NULL if there is
 * no memory; or, with a size of -1, if a page is larger than its header can say.
 */
uint8_t *make_file(const struct pages *pages, const uint8_t *const *squeezed, const int64_t *sizes, const char *key,
		   const uint8_t *head, int64_t head_size, int64_t *file_size)
{
	struct chunk *chunks = calloc(pages->count, sizeof(*chunks));
	struct bytes file = { 0 };
	int64_t there = 0;
	uint32_t footer;

	if (!are_sizes_sayable(pages)) {
		free(chunks);
		*file_size = -1;
		return NULL;
	}
	put(&file, "PAR1", 4);
	for (int64_t index = 0; index < pages->count && chunks != NULL; index++) {
		if (pages->columns[index].state != THERE)
			continue;
		put_chunk(&file, &pages->columns[index], pages->rows, squeezed[index], sizes[index], &chunks[index]);
		there++;
	}
	if (chunks != NULL && !file.failed) {
		footer = (uint32_t)file.size;
		put_footer(&file, pages, chunks, there, squeezed, key, head, head_size);
		footer = (uint32_t)file.size - footer;
		put(&file, &footer, sizeof(footer));
		put(&file, "PAR1", 4);
	}
	if (chunks == NULL || file.failed) {
		free(file.at);
		file.at = NULL;
	}
	free(chunks);
	*file_size = (int64_t)file.size;
	return file.at;
}

void forget_file(uint8_t *file)
{
	free(file);
}
