/* Streams: looks through the messages of an Arrow stream, without their contents. */
#include "plain.h"

/* Places in the flatbuffers of a message: fields of `Message`, `DictionaryBatch` and `RecordBatch`; kinds of message. */
enum { KIND = 1, HEADER = 2, BODY_SIZE = 3, ID = 0, HELD = 1, IS_DELTA = 2, COMPRESSION = 3 };
enum { SCHEMA = 1, DICTIONARY = 2, ROWS = 3 };
enum { MOST_PARTS = 1000 };

/* A message's flatbuffers; `odd` once something was asked for beyond them. */
struct message {
	const uint8_t *data;
	int64_t size;
	int odd;
};

/* The number of `bytes` bytes at `at`; 0 if it is not there. Numbers are little-endian, as this machine's. */
static int64_t number_at(struct message *message, int64_t at, int64_t bytes)
{
	int64_t number = 0;

	if (at < 0 || at > message->size - bytes) {
		message->odd = 1;
		return 0;
	}
	memcpy(&number, message->data + at, bytes);
	return number;
}

/* Where a table has a field; 0, where no field can be, if it has none. */
static int64_t field(struct message *message, int64_t table, int64_t number)
{
	int64_t names = table - (int32_t)number_at(message, table, 4);
	int64_t at = 4 + 2 * number;

	if (at + 2 > number_at(message, names, 2))
		return 0;
	int64_t offset = number_at(message, names + at, 2);

	return offset == 0 ? 0 : table + offset;
}

/* The table that is a table's field; if there is none, the message is odd. */
static int64_t table_of(struct message *message, int64_t table, int64_t number)
{
	int64_t place = field(message, table, number);

	if (place == 0)
		message->odd = 1;
	return place + number_at(message, place, 4);
}

static int64_t number_of(struct message *message, int64_t table, int64_t number, int64_t bytes)
{
	int64_t place = field(message, table, number);

	return place == 0 ? 0 : number_at(message, place, bytes);
}

/*
 * Says whether a stream is plain: 1, or 0 if it may not be. One that is begins with its schema; behind it come whole
 * dictionaries, each under an id of its own, and then rows, none of them compressed; and nothing comes behind its end.
 */
int look_through(const uint8_t *data, int64_t size, int64_t *dictionaries, int64_t *batches)
{
	int64_t ids[MOST_COLUMNS];
	int64_t place = 0, before = 0;

	*dictionaries = *batches = 0;
	for (;; before++) {
		struct message message = { data, size, 0 };

		if (number_at(&message, place, 4) != 0xffffffff)
			return 0;
		message.size = (int32_t)number_at(&message, place + 4, 4);
		if (message.odd || message.size < 0 || message.size > size - place - 8)
			return 0;
		place += 8;
		if (message.size == 0)
			return before > 0 && place == size;
		message.data = data + place;
		place += message.size;

		int64_t root = number_at(&message, 0, 4);
		int64_t kind = number_of(&message, root, KIND, 1);
		int64_t body = number_of(&message, root, BODY_SIZE, 8);
		int64_t table = table_of(&message, root, HEADER);

		if (message.odd || body < 0 || body > size - place || (kind == SCHEMA) != (before == 0))
			return 0;
		place += body;
		if (kind == SCHEMA)
			continue;
		if (kind == DICTIONARY) {
			int64_t id = number_of(&message, table, ID, 8);

			if (*batches > 0 || *dictionaries == MOST_COLUMNS || number_of(&message, table, IS_DELTA, 1) != 0)
				return 0;
			for (int64_t each = 0; each < *dictionaries; each++)
				if (ids[each] == id)
					return 0;
			ids[(*dictionaries)++] = id;
			table = table_of(&message, table, HELD);
		} else if (kind != ROWS || ++*batches > MOST_PARTS) {
			return 0;
		}
		if (field(&message, table, COMPRESSION) != 0 || message.odd)
			return 0;
	}
}
