/* Whether a chosen token is the one: greedy exactly, sampled within what the borders of the shares may be off. */
#ifndef FR_TEST_KERNEL_BOUNDS_PICK_H
#define FR_TEST_KERNEL_BOUNDS_PICK_H

#include "kernel_bounds.h"

/* How much more likely than id a are the ids before it, in order of logit, then id; top_k 0: all. *share: its own part
 * of all that top-k and top-p leave. Plain double arithmetic and libm. */
static inline double before(const float *x, int vocab, const struct fr_sampler *s, int a, double *share)
{
	double sum = 0, kept = 0, ahead = 0, own = exp((double)x[a] / (double)s->temperature);
	int rank = 0, n = s->top_k ? s->top_k : vocab;
	char *done = calloc((size_t)vocab, 1);

	for (int pass = 0; pass < 2; pass++) {
		memset(done, 0, (size_t)vocab);
		for (rank = 0; rank < n && (pass == 0 || kept < (double)s->top_p * sum); rank++) {
			int best = -1;
			for (int i = 0; i < vocab; i++)
				if (!done[i] && (best < 0 || x[i] > x[best]))
					best = i;
			if (best < 0)
				break;
			done[best] = 1;
			if (pass == 0)
				sum += exp((double)x[best] / (double)s->temperature);
			else
				kept += exp((double)x[best] / (double)s->temperature);
			if (pass == 1 && (x[best] > x[a] || (x[best] == x[a] && best < a)))
				ahead = kept;
		}
	}
	free(done);
	*share = own / kept;
	return ahead / kept;
}

/* Greedy: the id itself. Sampled: the draw lies in the id's part, whose borders are off by the exponentials' error. */
static inline void check_pick(const struct fr_check_run *run, const struct party *p, struct tally *t)
{
	const struct fr_check *ck = run->check;
	const struct fr_check_case *c = &ck->c;
	const float *x = slot(run, FR_SLOT_X);

	(void)p;
	for (int r = 0; r < c->m; r++, x += c->n) {
		const int id = run->picked[r];
		int finite = 1, best = 0, in = 0;

		for (int i = 0; i < c->n; i++) {
			finite &= isfinite(x[i]) != 0;
			best = x[i] > x[best] ? i : best;
		}
		if (!finite) {
			in = id == -1;
		} else if (!(c->with & FR_SAMPLED)) {
			in = id == best;
		} else if (id >= 0 && id < c->n) {
			double share, from = before(x, c->n, &ck->sampler, id, &share);
			in = ck->draw[r] >= from - 1e-5 && ck->draw[r] <= from + share + 1e-5;
		}
		note(t, (size_t)r, in ? 0.0f : 1.0f, (struct est){0, 0, 0});
	}
}

#endif
