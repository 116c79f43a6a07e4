/* Greedy choice and seeded sampling: see pick.h.
 *
 * Order of the filters as in transformers: temperature, top-k, top-p (the smallest set whose probability reaches top_p,
 * the one that crosses it included). Candidates are ordered by logit, then id, so equal logits draw the same
 * everywhere. exp is the engine's own: a draw must not depend on the C library. */
#include "pick.h"

#include <math.h>
#include <stdlib.h>

int32_t fr_argmax(const float *logits, int vocab)
{
	int32_t best = 0;

	for (int i = 1; i < vocab; i++)
		if (logits[i] > logits[best])
			best = i;
	return best;
}

static int by_logit(const void *a, const void *b)
{
	const struct fr_candidate *x = a, *y = b;

	if (x->logit != y->logit)
		return x->logit > y->logit ? -1 : 1;
	return x->id < y->id ? -1 : x->id > y->id;
}

static int32_t sample(const float *logits, int vocab, const struct fr_sampler *s, double draw, struct fr_candidate *c)
{
	const int n = s->top_k > 0 && s->top_k < vocab ? s->top_k : vocab;
	uint64_t sum = 0, kept = 0, need, mark;
	int m = 0;

	for (int i = 0; i < vocab; i++)
		c[i] = (struct fr_candidate){logits[i], i};
	qsort(c, (size_t)vocab, sizeof *c, by_logit);
	for (int i = 0; i < n; i++)
		sum += fr_pick_weight(c[i].logit, c[0].logit, s->temperature);
	need = fr_pick_need(s->top_p, sum);
	while (kept < need)
		kept += fr_pick_weight(c[m++].logit, c[0].logit, s->temperature);
	mark = fr_pick_mark(draw, kept);
	for (int i = 0;; i++) {
		uint64_t w = fr_pick_weight(c[i].logit, c[0].logit, s->temperature);

		if (mark < w)
			return c[i].id;
		mark -= w;
	}
}

int32_t fr_pick_row(const float *logits, int vocab, const struct fr_sampler *s, double draw, struct fr_candidate *room)
{
	for (int i = 0; i < vocab; i++)
		if (!isfinite(logits[i]))
			return -1;
	if (!s || s->temperature <= 0)
		return fr_argmax(logits, vocab);
	return sample(logits, vocab, s, draw, room);
}
