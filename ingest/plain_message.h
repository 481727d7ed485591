/*
 * Flatbuffers of an Arrow stream's messages, which may be anything: each table, vector and text that is asked for is
 * looked at as Arrow's own verifier does, or harder. Once one is not sound the message is odd, and stays so.
 */
#ifndef PLAIN_MESSAGE_H
#define PLAIN_MESSAGE_H

#include "plain.h"

/* A message's flatbuffers and its body; `odd` once anything is not as it must be. */
struct message {
	const uint8_t *data, *body;
	int64_t size, body_size, kind, table;
	int odd;
};

/* A table, and the places of so many of its fields. */
struct table {
	int64_t at, names, count;
};

/* The number of `bytes` bytes at `at`, without a sign if they are fewer than eight; 0 if it is not there. */
static inline int64_t number_at(struct message *message, int64_t at, int64_t bytes)
{
	int64_t number = 0;

	if (at < 0 || at % bytes != 0 || at > message->size - bytes) {
		message->odd = 1;
		return 0;
	}
	memcpy(&number, message->data + at, bytes);
	return number;
}

/* The table at `at`, which may have fields below `most`. */
static inline struct table table_at(struct message *message, int64_t at, int64_t most)
{
	int64_t names = at - (int32_t)number_at(message, at, 4);
	int64_t size = number_at(message, names, 2);

	if (size < 4 || size % 2 != 0 || size > 4 + 2 * most || size > message->size - names)
		message->odd = 1;
	return (struct table){ at, names, message->odd ? 0 : (size - 4) / 2 };
}

/* Where a table has a field; 0, where none can be, if it has none. */
static inline int64_t field(struct message *message, const struct table *table, int64_t number)
{
	int64_t offset = number < table->count ? number_at(message, table->names + 4 + 2 * number, 2) : 0;

	return offset == 0 ? 0 : table->at + offset;
}

static inline int64_t number_of(struct message *message, const struct table *table, int64_t number, int64_t bytes)
{
	int64_t place = field(message, table, number);

	return place == 0 ? 0 : number_at(message, place, bytes);
}

/* Where that is to which the place of an offset leads. */
static inline int64_t beyond_offset(struct message *message, int64_t place)
{
	int64_t offset = number_at(message, place, 4);

	if (offset == 0 || offset > message->size)
		message->odd = 1;
	return message->odd ? 0 : place + offset;
}

/* Where that is which a table must have. */
static inline int64_t place_of(struct message *message, const struct table *table, int64_t number)
{
	int64_t place = field(message, table, number);

	if (place == 0)
		message->odd = 1;
	return beyond_offset(message, place);
}

static inline struct table table_of(struct message *message, const struct table *table, int64_t number, int64_t most)
{
	return table_at(message, place_of(message, table, number), most);
}

/* Where a vector's first element is, and how many there are; each has `bytes` bytes and is aligned to `aligned`. */
static inline int64_t vector_of(struct message *message, const struct table *table, int64_t number, int64_t bytes,
			 int64_t aligned, int64_t *count)
{
	int64_t place = place_of(message, table, number);

	*count = number_at(message, place, 4);
	place += 4;
	if (message->odd || place % aligned != 0 || *count > (message->size - place) / bytes) {
		message->odd = 1;
		*count = 0;
	}
	return place;
}

/* Where a text is, which ends in a zero. */
static inline const uint8_t *text_of(struct message *message, const struct table *table, int64_t number, int64_t *size)
{
	int64_t place = vector_of(message, table, number, 1, 1, size);

	if (message->odd || number_at(message, place + *size, 1) != 0)
		message->odd = 1;
	return message->data + (message->odd ? 0 : place);
}

#endif
