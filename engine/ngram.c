/* Contexts of 1 to 8 tokens, each with the token that came after it, how often that held and how often it did not.
 *
 * A proposal is the token with the best chance among those of the contexts that are known. The chance is not counted
 * for each context, which is seen too seldom for that, but for its kind: its length and these two numbers. (Without the
 * second, a place where texts part looks like one that is new.) While a text is learned, each of its tokens is first
 * guessed as it would have been, and right and wrong guesses are counted by kind. */
#include "ngram.h"

#include <stdlib.h>
#include <string.h>

#define SLOTS ((size_t)1 << 18)
#define LONGEST 8
#define NOTHING (-1) /* before a text and after its end */
#define MAX_TRUST 8
#define MAX_WRONG 3
#define MEMORY 4096u /* guesses of a kind that count; older ones fade */
#define DOUBT 64.0

static const int lengths[] = {8, 6, 4, 3, 2, 1};
#define LENGTHS (int)(sizeof lengths / sizeof *lengths)

struct slot {
	uint32_t check; /* of the context; 0: empty */
	int32_t token;
	uint16_t trust; /* 1 .. MAX_TRUST: held, less for each time it did not */
	uint16_t wrong; /* 0 .. MAX_WRONG: did not hold */
};
_Static_assert(SLOTS * sizeof(struct slot) <= FR_NGRAM_BYTES, "the table is as large as the header says");

struct kind {
	uint32_t right, asked;
};
struct fr_ngram {
	struct slot *slot; /* [SLOTS] */
	struct kind kind[LENGTHS][MAX_WRONG + 1][MAX_TRUST + 1];
};

struct fr_ngram *fr_ngram_new(void)
{
	struct fr_ngram *g = calloc(1, sizeof *g);

	if (g && !(g->slot = calloc(SLOTS, sizeof *g->slot))) {
		free(g);
		return NULL;
	}
	return g;
}

void fr_ngram_free(struct fr_ngram *g)
{
	if (g)
		free(g->slot);
	free(g);
}

/* FNV-1a by tokens, then splitmix64's last steps. Its low bits are the place, its high ones the check. */
static uint64_t hash(const int32_t *last, int length)
{
	uint64_t h = 0xcbf29ce484222325u ^ (uint64_t)length;

	for (int i = 0; i < length; i++)
		h = (h ^ (uint32_t)last[i]) * 0x100000001b3u;
	h = (h ^ h >> 30) * 0xbf58476d1ce4e5b9u;
	h = (h ^ h >> 27) * 0x94d049bb133111ebu;
	return h ^ h >> 31;
}

static uint32_t check_of(uint64_t h)
{
	return (uint32_t)(h >> 32) | 1u;
}

/* The slot of the context of lengths[i] that tail [LONGEST] ends with, or NULL when it is not known. */
static const struct slot *find(const struct fr_ngram *g, const int32_t *tail, int i)
{
	const uint64_t h = hash(tail + LONGEST - lengths[i], lengths[i]);
	const struct slot *s = &g->slot[h & (SLOTS - 1)];

	return s->check == check_of(h) ? s : NULL;
}

static void keep(struct fr_ngram *g, const int32_t *tail, int i, int32_t token)
{
	const uint64_t h = hash(tail + LONGEST - lengths[i], lengths[i]);
	struct slot *s = &g->slot[h & (SLOTS - 1)];

	const int known = s->check == check_of(h), wrong = known ? s->wrong + (s->wrong < MAX_WRONG) : 0;

	if (known && s->token == token)
		s->trust += s->trust < MAX_TRUST;
	else if (s->trust > 1)
		s->trust /= 2;
	else
		*s = (struct slot){.check = check_of(h), .token = token, .trust = 1, .wrong = (uint16_t)wrong};
	if (known && s->token != token)
		s->wrong = (uint16_t)wrong;
}

static void count(struct kind *k, int right)
{
	if (k->asked == MEMORY) {
		k->asked /= 2;
		k->right /= 2;
	}
	k->asked++;
	k->right += right != 0;
}

/* The share of right guesses of a kind, with DOUBT guesses more as those that held one time less: where little is known
 * it is theirs, and of nothing it is 0. (A few words of one text that came again say little of the next one:
 * docs/SPEED.md.) */
static double chance(const struct fr_ngram *g, int length, const struct slot *s)
{
	double p = 0;

	for (int trust = 1; trust <= s->trust; trust++) {
		const struct kind *k = &g->kind[length][s->wrong][trust];
		p = (k->right + DOUBT * p) / (k->asked + DOUBT);
	}
	return p;
}

static void push(int32_t *tail, int32_t token)
{
	memmove(tail, tail + 1, (LONGEST - 1) * sizeof *tail);
	tail[LONGEST - 1] = token;
}

void fr_ngram_learn(struct fr_ngram *g, const int32_t *ids, size_t n, int ended)
{
	int32_t tail[LONGEST];

	memset(tail, 0xff, sizeof tail);
	for (size_t at = 0; at < n + (ended != 0); at++) {
		const int32_t token = at < n ? ids[at] : NOTHING;
		for (int i = 0; i < LENGTHS; i++) {
			const struct slot *s = find(g, tail, i);
			if (s)
				count(&g->kind[i][s->wrong][s->trust], s->token == token);
			keep(g, tail, i, token);
		}
		push(tail, token);
	}
}

/* The likeliest token after tail and its chance; NOTHING when none is known or the text is thought to end. */
static int32_t guess(const struct fr_ngram *g, const int32_t *tail, double *best)
{
	int32_t token = NOTHING;

	*best = -1; /* a guess without a chance is one where the floor is 0 */
	for (int i = 0; i < LENGTHS; i++) {
		const struct slot *s = find(g, tail, i);
		const double p = s ? chance(g, i, s) : -1;
		if (p > *best) {
			*best = p;
			token = s->token;
		}
	}
	return token;
}

int fr_ngram_propose(const struct fr_ngram *g, const int32_t *ids, size_t n, int most, double floor, int32_t *out)
{
	const size_t known = n < LONGEST ? n : LONGEST;
	double all = 1, one;
	int32_t tail[LONGEST];
	int made = 0;

	memset(tail, 0xff, sizeof tail);
	if (known)
		memcpy(tail + LONGEST - known, ids + n - known, known * sizeof *ids);
	for (; made < most; made++) {
		const int32_t token = guess(g, tail, &one);
		all *= one;
		if (token == NOTHING || all < floor)
			break;
		out[made] = token;
		push(tail, token);
	}
	return made;
}
