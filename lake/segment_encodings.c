/* Parquet's encodings of numbers: runs and packed bits, and packed differences. */
#include "segment.h"

enum { BLOCK = 128, PARTS = 4, PART = BLOCK / PARTS };

/* Returns where `size` more bytes may be written, which the caller does and counts; NULL if there is no memory. */
uint8_t *room_for(struct bytes *bytes, size_t size)
{
	if (bytes->failed)
		return NULL;
	if (size > bytes->room - bytes->size) {
		size_t room = (bytes->size + size) * 2 + 64;
		uint8_t *grown = realloc(bytes->at, room);

		if (grown == NULL) {
			bytes->failed = 1;
			return NULL;
		}
		bytes->at = grown;
		bytes->room = room;
	}
	return bytes->at + bytes->size;
}

void put(struct bytes *bytes, const void *from, size_t size)
{
	uint8_t *at = room_for(bytes, size);

	if (at == NULL || size == 0)
		return;
	memcpy(at, from, size);
	bytes->size += size;
}

/* A number in groups of seven bits, the lowest first. */
void put_number(struct bytes *bytes, uint64_t value)
{
	uint8_t *at = room_for(bytes, 10);

	if (at == NULL)
		return;
	for (; value >= 0x80; value >>= 7)
		*at++ = (uint8_t)(value | 0x80);
	*at++ = (uint8_t)value;
	bytes->size = at - bytes->at;
}

void put_signed(struct bytes *bytes, int64_t value)
{
	put_number(bytes, (uint64_t)value << 1 ^ (uint64_t)(value >> 63));
}

/* How many bits numbers up to `most` take. */
int width_of(uint64_t most)
{
	return most == 0 ? 0 : 64 - __builtin_clzll(most);
}

/* Bits that wait for their word. */
struct packer {
	uint8_t *at;
	uint64_t word;
	int held;
};

static void pack(struct packer *packer, uint64_t value, int width)
{
	packer->word |= value << packer->held;
	packer->held += width;
	if (packer->held < 64)
		return;
	memcpy(packer->at, &packer->word, 8);
	packer->at += 8;
	packer->held -= 64;
	/* What did not fit; all did if the word is just full, and a shift by 64 is none. */
	packer->word = packer->held == 0 ? 0 : value >> (width - packer->held);
}

/* The same of `count` values of 32 or 64 bits, as many at a time as a word holds. */
static inline __attribute__((always_inline)) void pack_some(struct packer *packer, const uint32_t *narrow,
							     const uint64_t *wide, int64_t count, int width, int some)
{
	int64_t at = 0;

	for (; at + some <= count; at += some) {
		uint64_t word = 0;

		for (int each = 0; each < some; each++)
			word |= (narrow != NULL ? narrow[at + each] : wide[at + each]) << each * width;
		pack(packer, word, width * some);
	}
	for (; at < count; at++)
		pack(packer, narrow != NULL ? narrow[at] : wide[at], width);
}

static inline __attribute__((always_inline)) void pack_all(struct packer *packer, const uint32_t *narrow,
							    const uint64_t *wide, int64_t count, int width)
{
	if (width <= 8)
		pack_some(packer, narrow, wide, count, width, 8);
	else if (width <= 16)
		pack_some(packer, narrow, wide, count, width, 4);
	else if (width <= 32)
		pack_some(packer, narrow, wide, count, width, 2);
	else
		pack_some(packer, narrow, wide, count, width, 1);
}

/* Some of `values`, packed, up to a multiple of eight: behind the last come zeros. */
static void put_packed(struct bytes *bytes, const uint32_t *values, int64_t count, int width)
{
	int64_t groups = (count + 7) / 8;
	struct packer packer = { 0 };
	uint8_t *end;

	if (count == 0)
		return;
	put_number(bytes, (uint64_t)groups << 1 | 1);
	packer.at = room_for(bytes, groups * width + 8);
	if (packer.at == NULL)
		return;
	end = packer.at + groups * width;
	pack_all(&packer, values, NULL, count, width);
	memcpy(packer.at, &packer.word, 8);
	if (packer.at + 8 < end)
		memset(packer.at + 8, 0, end - packer.at - 8);
	bytes->size += groups * width;
}

/* Values of `width` bits, up to 32, in Parquet's hybrid of runs and packed bits. */
void put_runs(struct bytes *bytes, const uint32_t *values, int64_t count, int width)
{
	int64_t begin = 0, at = 0;

	while (at < count) {
		int64_t same = 1;

		while (at + same < count && values[at + same] == values[at])
			same++;
		if (same >= 16) {
			/* What is packed before must come in eights: it is lent what it lacks. */
			int64_t lack = (8 - (at - begin) % 8) % 8;

			put_packed(bytes, values + begin, at + lack - begin, width);
			put_number(bytes, (uint64_t)(same - lack) << 1);
			put(bytes, &values[at], (width + 7) / 8);
			begin = at + same;
		}
		at += same;
	}
	put_packed(bytes, values + begin, count - begin, width);
}

/* A block's differences, less the least of them; behind the last of `count` come zeros. */
static void put_block(struct bytes *bytes, uint64_t *differences, int64_t count, int64_t least, int is_narrow)
{
	uint8_t *widths, *first;
	struct packer packer = { 0 };

	put_signed(bytes, least);
	widths = room_for(bytes, PARTS + BLOCK * 8 + 16);
	if (widths == NULL)
		return;
	first = packer.at = widths + PARTS;
	memset(widths, 0, PARTS);
	for (int64_t part = 0; part * PART < count; part++) {
		uint64_t all = 0;

		for (int64_t each = part * PART; each < (part + 1) * PART; each++) {
			differences[each] = each < count ? differences[each] - (uint64_t)least : 0;
			if (is_narrow)
				differences[each] = (uint32_t)differences[each];
			all |= differences[each];
		}
		widths[part] = (uint8_t)width_of(all);
		pack_all(&packer, NULL, differences + part * PART, PART, widths[part]);
		/* 32 of them end in the middle of a word or at its end. */
		if (packer.held > 0) {
			memcpy(packer.at, &packer.word, 8);
			packer.at += packer.held / 8;
		}
		packer.word = 0;
		packer.held = 0;
	}
	bytes->size += PARTS + (packer.at - first);
}

/* At least one value; `is_narrow`: of 32 bits, in whose arithmetic the differences are. */
void put_differences(struct bytes *bytes, const int64_t *values, int64_t count, int is_narrow)
{
	uint64_t differences[BLOCK];

	put_number(bytes, BLOCK);
	put_number(bytes, PARTS);
	put_number(bytes, (uint64_t)count);
	put_signed(bytes, values[0]);
	for (int64_t at = 1; at < count; at += BLOCK) {
		int64_t some = count - at < BLOCK ? count - at : BLOCK, least = INT64_MAX;

		for (int64_t each = 0; each < some; each++) {
			uint64_t difference = (uint64_t)values[at + each] - (uint64_t)values[at + each - 1];

			if (is_narrow)
				difference = (uint64_t)(int64_t)(int32_t)difference;
			differences[each] = difference;
			if ((int64_t)difference < least)
				least = (int64_t)difference;
		}
		put_block(bytes, differences, some, least, is_narrow);
	}
}
