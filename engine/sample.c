/* Greedy choice and seeded sampling.
 *
 * Order of the filters as in transformers: temperature, top-k, top-p (the smallest set whose probability reaches top_p,
 * the one that crosses it included). Candidates are ordered by logit, then id, so equal logits draw the same
 * everywhere. exp is the engine's own: a draw must not depend on the C library. */
#include "sample.h"

#include "../kernels/math.h"

#include <stdlib.h>

int32_t fr_argmax(const float *logits, int vocab)
{
	int32_t best = 0;

	for (int i = 1; i < vocab; i++)
		if (logits[i] > logits[best])
			best = i;
	return best;
}

/* splitmix64: one 64-bit state, full period, good enough for drawing tokens and easy to repeat elsewhere. */
static uint64_t next(struct fr_rng *r)
{
	uint64_t z = r->s += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

void fr_rng_init(struct fr_rng *r, uint64_t seed, const char *sha256)
{
	char head[17];

	snprintf(head, sizeof head, "%.16s", sha256);
	r->s = seed;
	r->s = next(r) ^ strtoull(head, NULL, 16);
}

static int by_logit(const void *a, const void *b)
{
	const struct fr_candidate *x = a, *y = b;

	if (x->logit != y->logit)
		return x->logit > y->logit ? -1 : 1;
	return x->id < y->id ? -1 : x->id > y->id;
}

/* e^((logit - best) / temperature): the best is 1 at any temperature; dividing first would overflow at small ones. */
static double weight(const struct fr_candidate *c, float best, float temperature)
{
	return (double)fr_exp((c->logit - best) / temperature);
}

int32_t fr_pick(const float *logits, int vocab, const struct fr_sampler *s, struct fr_rng *rng,
		struct fr_sample_scratch *scratch)
{
	struct fr_candidate *c = scratch->at;
	float best;
	double sum = 0, kept = 0, draw;
	int n = vocab, m = 0;

	if (s->temperature <= 0)
		return fr_argmax(logits, vocab);
	for (int i = 0; i < vocab; i++)
		c[i] = (struct fr_candidate){logits[i], i};
	qsort(c, (size_t)vocab, sizeof *c, by_logit);
	best = c[0].logit;
	if (s->top_k > 0 && s->top_k < n)
		n = s->top_k;
	for (int i = n - 1; i >= 0; i--) /* small ones first: the sum loses less */
		sum += weight(&c[i], best, s->temperature);
	while (m < n && (m == 0 || kept < (double)s->top_p * sum))
		kept += weight(&c[m++], best, s->temperature);
	draw = (double)(next(rng) >> 11) * 0x1p-53 * kept;
	for (int i = 0; i < m; i++) {
		draw -= weight(&c[i], best, s->temperature);
		if (draw < 0)
			return c[i].id;
	}
	return c[m - 1].id;
}
