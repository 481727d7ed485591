/*
 * Bodies of columns as our agents write them: makes rows of the bytes of an Arrow stream, without Arrow.
 *
 * Of such a stream all is looked at that Arrow looks at, and more: its messages are a schema, dictionaries, one batch
 * of rows and the end; their flatbuffers have the fields that are named here and no others; every table, vector and
 * text lies within its message, and every buffer within its message's body. Whatever is otherwise is not said to be
 * wrong, but left to Arrow.
 */
#include "plain_message.h"

/* Fields of the flatbuffers of messages, by table, and how many each may have. */
enum { VERSION = 0, KIND = 1, HEADER = 2, BODY_SIZE = 3, OF_MESSAGE = 4 };
enum { ENDIANNESS = 0, FIELDS = 1, METADATA = 2, OF_SCHEMA = 3 };
enum { KEY = 0, VALUE = 1, OF_PAIR = 2 };
enum { NAME = 0, NULLABLE = 1, TYPE_KIND = 2, TYPE = 3, CODES = 4, CHILDREN = 5, OF_FIELD = 6 };
enum { BITS = 0, IS_SIGNED = 1, OF_INTEGER = 2 };
enum { CODES_ID = 0, INDEX_TYPE = 1, IS_ORDERED = 2, CODES_KIND = 3, OF_CODES = 4 };
enum { ID = 0, HELD = 1, IS_DELTA = 2, OF_DICTIONARY = 3 };
enum { LENGTH = 0, NODES = 1, BUFFERS = 2, OF_BATCH = 3 };
/* What they may say: version 5, kinds of message, kinds of type. */
enum { VERSION_5 = 4, SCHEMA = 1, DICTIONARY = 2, BATCH = 3, INTEGER = 2, UTF8 = 5 };

static const char header_key[] = "kaimon.batch";

/* A column of the stream: its place among the rules, and what becomes of it. */
struct column_read {
	struct ArrowArray array, dictionary;
	const void *buffers[2], *texts[3];
	int64_t index, id;
	int has_dictionary;
};

struct stream {
	const struct rules *rules;
	struct given given;
	struct column_read columns[MOST_COLUMNS];
	int64_t widths[MOST_COLUMNS];
	int64_t count, coded, length;
};

/* As ingest/plain.py has it. */
struct read {
	struct told told;
	int64_t header, header_size; /* the batch header's place in the data */
	int64_t coded; /* whether texts are dictionaries */
};

/* Reads where a message and its body are; returns where the next one is, or -1. The end has no size and no kind. */
static int64_t next_message(const uint8_t *data, int64_t size, int64_t place, struct message *message)
{
	uint32_t head[2];

	memset(message, 0, sizeof(*message));
	if (place % 8 != 0 || size - place < (int64_t)sizeof(head))
		return -1;
	memcpy(head, data + place, sizeof(head));
	place += sizeof(head);
	if (head[0] != 0xffffffff || head[1] % 8 != 0 || head[1] > size - place)
		return -1;
	if (head[1] == 0)
		return place;
	message->data = data + place;
	message->size = head[1];
	place += message->size;

	struct table table = table_at(message, beyond_offset(message, 0), OF_MESSAGE);

	if (number_of(message, &table, VERSION, 2) != VERSION_5)
		return -1;
	message->kind = number_of(message, &table, KIND, 1);
	message->body_size = number_of(message, &table, BODY_SIZE, 8);
	message->table = place_of(message, &table, HEADER);
	if (message->odd || message->body_size < 0 || message->body_size > size - place)
		return -1;
	message->body = data + place;
	return place + message->body_size;
}

/* How many bytes an integer with a sign has; 0 if it has none, or another number than those that are. */
static int64_t integer(struct message *message, const struct table *table, int64_t number)
{
	struct table type = table_of(message, table, number, OF_INTEGER);
	int64_t bits = number_of(message, &type, BITS, 4);

	if (number_of(message, &type, IS_SIGNED, 1) != 1 || (bits != 8 && bits != 16 && bits != 32 && bits != 64))
		message->odd = 1;
	return message->odd ? 0 : bits / 8;
}

/* Reads what a column of the schema is. */
static int read_field(struct stream *stream, struct message *message, int64_t at)
{
	struct table table = table_at(message, at, OF_FIELD);
	struct column_read *read = &stream->columns[stream->count];
	int64_t size, children, kind = number_of(message, &table, TYPE_KIND, 1);
	const uint8_t *name = text_of(message, &table, NAME, &size);
	int64_t width = 0, wanted = -1;

	vector_of(message, &table, CHILDREN, 4, 4, &children);
	number_of(message, &table, NULLABLE, 1);
	if (message->odd || children != 0)
		return 0;
	for (read->index = 0; read->index < stream->rules->count; read->index++) {
		const struct column *rule = &stream->rules->columns[read->index];

		/* A key has quotes around it, and a colon. */
		if (rule->key_size - 3 == size && memcmp(rule->key + 1, name, size) == 0) {
			wanted = rule->kind;
			break;
		}
	}
	if (wanted < 0 || stream->given.columns[read->index] != NULL)
		return 0;
	if (wanted != TEXT) {
		if (kind != INTEGER || field(message, &table, CODES) != 0 ||
		    integer(message, &table, TYPE) != (wanted == INT32 ? 4 : 8))
			return 0;
	} else {
		if (kind != UTF8)
			return 0;
		table_of(message, &table, TYPE, 0);
	}
	if (field(message, &table, CODES) != 0) {
		struct table codes = table_of(message, &table, CODES, OF_CODES);

		width = integer(message, &codes, INDEX_TYPE);
		read->id = number_of(message, &codes, CODES_ID, 8);
		if (width == 8 || number_of(message, &codes, IS_ORDERED, 1) != 0 ||
		    number_of(message, &codes, CODES_KIND, 2) != 0)
			return 0;
		for (int64_t each = 0; each < stream->count; each++)
			if (stream->columns[each].array.dictionary != NULL && stream->columns[each].id == read->id)
				return 0;
		read->array.dictionary = &read->dictionary;
		stream->coded++;
	}
	stream->widths[read->index] = width;
	stream->given.columns[read->index] = &read->array;
	stream->count++;
	return !message->odd;
}

/* Reads the schema: which columns there are, and where the batch header is. */
static int read_schema(struct stream *stream, struct message *message, const uint8_t *data, struct read *read)
{
	struct table table = table_at(message, message->table, OF_SCHEMA);
	int64_t count, pairs, size, texts = 0;
	int64_t pair = vector_of(message, &table, METADATA, 4, 4, &pairs);

	if (message->odd || message->body_size != 0 || number_of(message, &table, ENDIANNESS, 2) != 0 || pairs != 1)
		return 0;

	struct table only = table_at(message, beyond_offset(message, pair), OF_PAIR);
	const uint8_t *key = text_of(message, &only, KEY, &size);

	if (message->odd || size != sizeof(header_key) - 1 || memcmp(key, header_key, size) != 0)
		return 0;
	read->header = text_of(message, &only, VALUE, &read->header_size) - data;

	int64_t place = vector_of(message, &table, FIELDS, 4, 4, &count);

	if (message->odd || count > MOST_COLUMNS)
		return 0;
	for (int64_t each = 0; each < count; each++)
		if (!read_field(stream, message, beyond_offset(message, place + 4 * each)))
			return 0;
	for (int64_t index = 0; index < stream->rules->count; index++) {
		const struct column *rule = &stream->rules->columns[index];

		if (rule->required && stream->given.columns[index] == NULL)
			return 0;
		texts += rule->kind == TEXT && stream->given.columns[index] != NULL;
	}
	stream->given.coded = stream->coded > 0;
	return stream->coded == 0 || stream->coded == texts;
}

/* Columns of a batch that are read one after the other: where the next one's buffers are said, and of how many. */
struct batch {
	struct message *message;
	int64_t nodes, buffers;
	int64_t length;
};

static int begin_batch(struct batch *batch, struct message *message, int64_t at, int64_t nodes, int64_t buffers)
{
	struct table table = table_at(message, at, OF_BATCH);
	int64_t node_count, buffer_count;

	batch->message = message;
	batch->length = number_of(message, &table, LENGTH, 8);
	batch->nodes = vector_of(message, &table, NODES, 16, 8, &node_count);
	batch->buffers = vector_of(message, &table, BUFFERS, 16, 8, &buffer_count);
	return !message->odd && batch->length >= 0 && node_count == nodes && buffer_count == buffers;
}

/* The next buffer, which must have so many bytes; NULL if it is not plainly there. */
static const void *next_buffer(struct batch *batch, int64_t least, int64_t *size)
{
	struct message *message = batch->message;
	int64_t offset = number_at(message, batch->buffers, 8);

	*size = number_at(message, batch->buffers + 8, 8);
	batch->buffers += 16;
	if (message->odd || offset < 0 || *size < least || offset > message->body_size ||
	    *size > message->body_size - offset || (uintptr_t)(message->body + offset) % 8 != 0)
		return NULL;
	return message->body + offset;
}

/* Reads the next column, of texts or of values of `width` bytes; `buffers` is room for where they are. */
static int read_column(struct batch *batch, struct ArrowArray *array, const void **buffers, int text, int64_t width)
{
	int64_t length = number_at(batch->message, batch->nodes, 8);
	int64_t nulls = number_at(batch->message, batch->nodes + 8, 8);
	int64_t size;

	batch->nodes += 16;
	/* A row more and eight bytes each stay far from 64 bits. */
	if (length != batch->length || nulls < 0 || nulls > length || length > INT32_MAX)
		return 0;
	buffers[0] = next_buffer(batch, nulls == 0 ? 0 : (length + 7) / 8, &size);
	buffers[1] = next_buffer(batch, text ? (length + 1) * (int64_t)sizeof(int32_t) : length * width, &size);
	if (buffers[0] == NULL || buffers[1] == NULL)
		return 0;
	/* Where no row is null Arrow asks for no bits either, whatever is there. */
	if (nulls == 0)
		buffers[0] = NULL;
	if (text) {
		const int32_t *offsets = buffers[1];

		buffers[2] = next_buffer(batch, 0, &size);
		if (buffers[2] == NULL || offsets[0] != 0 || offsets[length] < 0 || offsets[length] > size)
			return 0;
	}
	array->length = length;
	array->null_count = nulls;
	array->n_buffers = text ? 3 : 2;
	array->buffers = buffers;
	return 1;
}

/* Reads a dictionary of one column that has had none. */
static int read_dictionary(struct stream *stream, struct message *message)
{
	struct table table = table_at(message, message->table, OF_DICTIONARY);
	int64_t id = number_of(message, &table, ID, 8);
	struct batch batch;

	if (number_of(message, &table, IS_DELTA, 1) != 0 ||
	    !begin_batch(&batch, message, place_of(message, &table, HELD), 1, 3))
		return 0;
	for (int64_t each = 0; each < stream->count; each++) {
		struct column_read *read = &stream->columns[each];

		if (read->array.dictionary == NULL || read->id != id)
			continue;
		if (read->has_dictionary)
			return 0;
		read->has_dictionary = 1;
		return read_column(&batch, &read->dictionary, read->texts, 1, 0);
	}
	return 0;
}

/* Reads the rows, of which there are some and no more than `most`. */
static int read_batch(struct stream *stream, struct message *message, int64_t most)
{
	struct batch batch;
	int64_t buffers = 0;

	for (int64_t each = 0; each < stream->count; each++) {
		const struct column_read *read = &stream->columns[each];

		if (read->array.dictionary != NULL && !read->has_dictionary)
			return 0;
		buffers += stream->rules->columns[read->index].kind == TEXT && read->array.dictionary == NULL ? 3 : 2;
	}
	if (!begin_batch(&batch, message, message->table, stream->count, buffers) || batch.length == 0 ||
	    batch.length > most)
		return 0;
	for (int64_t each = 0; each < stream->count; each++) {
		struct column_read *read = &stream->columns[each];
		int64_t kind = stream->rules->columns[read->index].kind, width = stream->widths[read->index];
		int is_text = kind == TEXT && width == 0;

		if (!read_column(&batch, &read->array, is_text ? read->texts : read->buffers, is_text,
				 width > 0 ? width : kind == INT64 ? 8 : 4))
			return 0;
	}
	stream->length = batch.length;
	return 1;
}

/*
 * Says whether a stream is plain, and all in it: 1, or 0 if it may not be, or -1 if there is no memory. Then `whole`
 * becomes its rows as make_vouched() makes them, which hold nothing of `data`.
 */
int read_body(const struct rules *rules, const uint8_t *data, int64_t size, int64_t most_rows, int64_t first_line,
	      int64_t most_bytes, struct ArrowArray *whole, struct read *read)
{
	struct stream stream;
	struct message message;
	int64_t place = next_message(data, size, 0, &message);
	int rows = 0;

	memset(&stream, 0, sizeof(stream));
	memset(read, 0, sizeof(*read));
	stream.rules = rules;
	stream.given.widths = stream.widths;
	stream.given.lent = 1;
	if (rules->count > MOST_COLUMNS || place < 0 || message.kind != SCHEMA ||
	    !read_schema(&stream, &message, data, read))
		return 0;
	for (;;) {
		place = next_message(data, size, place, &message);
		if (place < 0)
			return 0;
		if (message.size == 0)
			break;
		if (rows || !(message.kind == DICTIONARY ? read_dictionary(&stream, &message) :
			      message.kind == BATCH      ? (rows = read_batch(&stream, &message, most_rows)) :
							   0))
			return 0;
	}
	if (!rows || place != size)
		return 0;
	read->coded = stream.given.coded;
	return make_vouched(rules, &stream.given, stream.length, first_line, most_bytes, whole, &read->told);
}
