/* Greedy choice and seeded sampling: see pick.h.
 *
 * Order of the filters as in transformers: temperature, top-k, top-p (the smallest set whose probability reaches top_p,
 * the one that crosses it included). Candidates are ordered by logit, then id, so equal logits draw the same
 * everywhere. exp is the engine's own: a draw must not depend on the C library. */
#include "pick.h"

#include "math.h"

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

/* e^((logit - best) / temperature): the best is 1 at any temperature; dividing first would overflow at small ones. */
static double weight(const struct fr_candidate *c, float best, float temperature)
{
	return (double)fr_exp((c->logit - best) / temperature);
}

static int32_t sample(const float *logits, int vocab, const struct fr_sampler *s, double draw, struct fr_candidate *c)
{
	float best;
	double sum = 0, kept = 0;
	int n = vocab, m = 0;

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
	draw *= kept;
	for (int i = 0; i < m; i++) {
		draw -= weight(&c[i], best, s->temperature);
		if (draw < 0)
			return c[i].id;
	}
	return c[m - 1].id;
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
