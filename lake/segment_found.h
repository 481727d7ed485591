/* What was found in a column so far: each text, or each number, once; and where it is among them. */
#ifndef SEGMENT_FOUND_H
#define SEGMENT_FOUND_H

#include "segment.h"

/* What was found in a column so far, by its hash: its texts, which stay where they are, or its numbers. */
struct entry {
	uint64_t hash;
	const uint8_t *text;
	int64_t number;
	uint32_t size;
};

struct found {
	const uint64_t *seed;
	struct entry *entries;
	uint32_t *slots; /* one more than the entry's place; 0 where none is */
	int64_t count, room;
	uint64_t mask;
	int failed;
};

static uint64_t mix(uint64_t one, uint64_t other)
{
	__uint128_t product = (__uint128_t)one * other;

	return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint64_t load(const uint8_t *at, size_t size)
{
	uint64_t found = 0;

	memcpy(&found, at, size);
	return found;
}

/* Whoever does not know the seed cannot make many texts that fall into one slot. */
static uint64_t hash_of(const uint64_t *seed, const uint8_t *text, size_t size)
{
	uint64_t hash = seed[0] ^ size, first = 0, last = 0;

	for (; size > 16; size -= 16, text += 16)
		hash = mix(load(text, 8) ^ seed[1], load(text + 8, 8) ^ hash);
	if (size >= 8) {
		first = load(text, 8);
		last = load(text + size - 8, 8);
	} else if (size >= 4) {
		first = load(text, 4);
		last = load(text + size - 4, 4);
	} else if (size > 0) {
		first = (uint64_t)text[0] << 16 | (uint64_t)text[size / 2] << 8 | text[size - 1];
	}
	return mix(mix(first ^ seed[1], last ^ hash), seed[2]);
}

static void begin(struct found *found, const uint64_t *seed)
{
	memset(found, 0, sizeof(*found));
	found->seed = seed;
	found->room = 64;
	found->mask = 127;
	found->entries = malloc(found->room * sizeof(*found->entries));
	found->slots = calloc(found->mask + 1, sizeof(*found->slots));
	found->failed = found->entries == NULL || found->slots == NULL;
}

static void end(struct found *found)
{
	free(found->entries);
	free(found->slots);
}

/* Doubles the room. */
static void grow(struct found *found)
{
	uint64_t mask = found->mask * 2 + 1;
	struct entry *entries = realloc(found->entries, found->room * 2 * sizeof(*entries));
	uint32_t *slots = calloc(mask + 1, sizeof(*slots));

	if (entries != NULL)
		found->entries = entries;
	if (entries == NULL || slots == NULL) {
		free(slots);
		found->failed = 1;
		return;
	}
	for (int64_t each = 0; each < found->count; each++) {
		uint64_t slot = entries[each].hash & mask;

		while (slots[slot] != 0)
			slot = (slot + 1) & mask;
		slots[slot] = (uint32_t)each + 1;
	}
	free(found->slots);
	found->slots = slots;
	found->mask = mask;
	found->room *= 2;
}

/* Returns the place of what is new, in a free slot; 0 if there is no memory. */
static uint32_t add(struct found *found, uint64_t slot, struct entry entry)
{
	found->entries[found->count++] = entry;
	found->slots[slot] = (uint32_t)found->count;
	if (found->count == found->room)
		grow(found);
	return found->failed ? 0 : (uint32_t)found->count - 1;
}

/* Returns the place of a text among those found, after it has found its own. */
static uint32_t text_place(struct found *found, const uint8_t *text, uint32_t size)
{
	uint64_t hash = hash_of(found->seed, text, size), slot = hash & found->mask;

	for (; found->slots[slot] != 0; slot = (slot + 1) & found->mask) {
		const struct entry *entry = &found->entries[found->slots[slot] - 1];

		if (entry->hash == hash && entry->size == size && memcmp(entry->text, text, size) == 0)
			return found->slots[slot] - 1;
	}
	return add(found, slot, (struct entry){ .hash = hash, .text = text, .size = size });
}

static uint32_t number_place(struct found *found, int64_t number)
{
	uint64_t hash = mix((uint64_t)number ^ found->seed[1], found->seed[3]), slot = hash & found->mask;

	for (; found->slots[slot] != 0; slot = (slot + 1) & found->mask)
		if (found->entries[found->slots[slot] - 1].number == number)
			return found->slots[slot] - 1;
	return add(found, slot, (struct entry){ .hash = hash, .number = number });
}

#endif
