/* Two open-addressing tables: spelling -> id, and a 64-bit key -> number (merges, trie edges).
 *
 * The hash of a spelling is a polynomial modulo 2^64, so that the hash of any part of a piece follows from two prefix
 * hashes: finding all pairs of pieces that make up a piece then takes one look-up per place to cut, whatever its
 * length. */
#include "parts.h"

#include <stdlib.h>
#include <string.h>

#define BASE UINT64_C(0x9E3779B97F4A7C15)

uint64_t fr_hash_step(uint64_t hash, unsigned char byte)
{
	return hash * BASE + byte + 1;
}

uint64_t fr_hash_power(size_t n)
{
	uint64_t power = 1, square = BASE;

	for (; n; n >>= 1, square *= square)
		if (n & 1)
			power *= square;
	return power;
}

/* High bits of a product depend on every bit below them; a polynomial's low bits only on the low bits of its bytes. */
static size_t scatter(uint64_t hash, size_t mask)
{
	hash ^= hash >> 32;
	hash *= UINT64_C(0xD6E8FEB86659FD93);
	return (size_t)(hash >> 32) & mask;
}

static uint64_t hash_of(const char *s, size_t length)
{
	uint64_t hash = 0;

	for (size_t i = 0; i < length; i++)
		hash = fr_hash_step(hash, (unsigned char)s[i]);
	return hash;
}

/* The smallest power of two that is at least twice n. */
static size_t slots_for(size_t n)
{
	size_t slots = 16;

	while (slots < 2 * n)
		slots *= 2;
	return slots;
}

static int no_memory(struct fr_error *err, size_t bytes)
{
	return fr_fail(err, FR_E_MEMORY, "no memory for %zu bytes of the tokenizer", bytes);
}

int fr_vocab_init(struct fr_vocab *v, size_t n, size_t bytes, struct fr_error *err)
{
	size_t slots = slots_for(n + 16);

	if (n > 1 << 26 || bytes > UINT32_MAX / 2)
		return fr_fail(err, FR_E_MODEL, "a vocabulary of %zu pieces and %zu bytes is beyond what is read", n,
			       bytes);
	v->cap_n = (int)n + 16;
	v->cap = bytes + 256;
	v->mask = (uint32_t)(slots - 1);
	v->bytes = malloc(v->cap);
	v->piece = malloc((size_t)v->cap_n * sizeof *v->piece);
	v->slot = calloc(slots, sizeof *v->slot);
	if (!v->bytes || !v->piece || !v->slot)
		return no_memory(err, v->cap + slots * sizeof *v->slot);
	return 0;
}

void fr_vocab_free(struct fr_vocab *v)
{
	free(v->bytes);
	free(v->piece);
	free(v->slot);
}

static void enter(struct fr_vocab *v, int32_t id)
{
	struct fr_piece *p = &v->piece[id];
	uint64_t hash = hash_of(v->bytes + p->offset, p->length);
	size_t i = scatter(hash, v->mask);

	while (v->slot[i].id)
		i = (i + 1) & v->mask;
	v->slot[i].id = (uint32_t)id + 1;
	v->slot[i].hash = (uint32_t)hash;
}

static int grow_bytes(struct fr_vocab *v, size_t length, struct fr_error *err)
{
	size_t cap = v->cap * 2 + length;
	char *bytes = cap <= UINT32_MAX ? realloc(v->bytes, cap) : NULL;

	if (!bytes)
		return no_memory(err, cap);
	v->bytes = bytes;
	v->cap = cap;
	return 0;
}

static int grow_pieces(struct fr_vocab *v, struct fr_error *err)
{
	int cap = v->cap_n * 2;
	size_t slots = slots_for((size_t)cap);
	struct fr_piece *piece = realloc(v->piece, (size_t)cap * sizeof *piece);
	struct fr_slot *slot;

	if (!piece)
		return no_memory(err, (size_t)cap * sizeof *piece);
	v->piece = piece;
	slot = calloc(slots, sizeof *slot);
	if (!slot)
		return no_memory(err, slots * sizeof *slot);
	free(v->slot);
	v->slot = slot;
	v->cap_n = cap;
	v->mask = (uint32_t)(slots - 1);
	for (int id = 0; id < v->n; id++)
		enter(v, id);
	return 0;
}

int32_t fr_vocab_add(struct fr_vocab *v, const char *s, size_t length, struct fr_error *err)
{
	if (v->cap - v->used < length)
		FR_TRY(grow_bytes(v, length, err));
	if (v->n == v->cap_n)
		FR_TRY(grow_pieces(v, err));
	memcpy(v->bytes + v->used, s, length);
	v->piece[v->n] = (struct fr_piece){(uint32_t)v->used, (uint32_t)length};
	v->used += length;
	enter(v, v->n);
	return v->n++;
}

int32_t fr_vocab_find_hashed(const struct fr_vocab *v, const char *s, size_t length, uint64_t hash)
{
	for (size_t i = scatter(hash, v->mask); v->slot[i].id; i = (i + 1) & v->mask) {
		const struct fr_piece *p = &v->piece[v->slot[i].id - 1];

		if (v->slot[i].hash == (uint32_t)hash && p->length == length &&
		    !memcmp(v->bytes + p->offset, s, length))
			return (int32_t)(v->slot[i].id - 1);
	}
	return -1;
}

int32_t fr_vocab_find(const struct fr_vocab *v, const char *s, size_t length)
{
	return fr_vocab_find_hashed(v, s, length, hash_of(s, length));
}

int fr_pairs_init(struct fr_pairs *p, size_t n, struct fr_error *err)
{
	size_t slots = slots_for(n);

	p->n = 0;
	p->mask = slots - 1;
	p->slot = malloc(slots * sizeof *p->slot);
	if (!p->slot)
		return no_memory(err, slots * sizeof *p->slot);
	memset(p->slot, 0xFF, slots * sizeof *p->slot);
	return 0;
}

void fr_pairs_free(struct fr_pairs *p)
{
	free(p->slot);
}

static struct fr_pair *place_of(const struct fr_pairs *p, uint64_t key)
{
	size_t i = scatter(key * BASE, p->mask);

	while (p->slot[i].value != UINT32_MAX && p->slot[i].key != key)
		i = (i + 1) & p->mask;
	return &p->slot[i];
}

int fr_pairs_set(struct fr_pairs *p, uint64_t key, uint32_t value, struct fr_error *err)
{
	struct fr_pair *at;

	if (2 * (p->n + 1) > p->mask + 1) {
		struct fr_pairs larger;

		FR_TRY(fr_pairs_init(&larger, 2 * (p->n + 1), err));
		for (size_t i = 0; i <= p->mask; i++)
			if (p->slot[i].value != UINT32_MAX)
				*place_of(&larger, p->slot[i].key) = p->slot[i];
		larger.n = p->n;
		free(p->slot);
		*p = larger;
	}
	at = place_of(p, key);
	p->n += at->value == UINT32_MAX;
	*at = (struct fr_pair){key, value};
	return 0;
}

uint32_t fr_pairs_get(const struct fr_pairs *p, uint64_t key)
{
	return place_of(p, key)->value;
}
