/* From one row of logits to a token: what the instances in host memory compute in ops->pick, and what others must.
 *
 * A choice does not depend on the order in which anybody adds: the weight of a candidate is an integer, its exponential
 * in units of 2^-40 of the best one's, rounded down, and sums of integers are exact. An id that is so unlikely that its
 * weight is 0 is never drawn. */
#ifndef FR_KERNELS_PICK_H
#define FR_KERNELS_PICK_H

#include "math.h"
#include "ops.h"

/* The highest logit; the lowest id on ties. */
int32_t fr_argmax(const float *logits, int vocab);

struct fr_candidate {
	float logit;
	int32_t id;
};
/* Greedy at temperature 0 (or s NULL); else temperature, then top-k, then top-p, then the draw, uniform in [0, 1),
 * falls into the shares of those left. -1 when a logit is not finite. room [vocab] is not used when greedy. */
int32_t fr_pick_row(const float *logits, int vocab, const struct fr_sampler *s, double draw, struct fr_candidate *room);

/* ---- the parts, for other instances ---- */

/* A finite logit as a number of the same order; -0 and 0 are one number. Below FR_PICK_KEYS. */
#define FR_PICK_KEYS 0xff800000u
FR_INLINE uint32_t fr_pick_key(float logit)
{
	uint32_t u = fr_f32_bits(logit);

	u = u << 1 ? u : 0;
	return u >> 31 ? ~u : u | 0x80000000u;
}
FR_INLINE float fr_pick_logit(uint32_t key)
{
	return fr_bits_f32(key >> 31 ? key & 0x7fffffffu : ~key);
}
/* e^((logit - best) / temperature) in units of 2^-40: dividing first would overflow at small temperatures. */
FR_INLINE uint64_t fr_pick_weight(float logit, float best, float temperature)
{
	float w = fr_exp((logit - best) / temperature) * 0x1p40f;

	return w > 0 ? (uint64_t)w : 0; /* NaN: an infinite difference at an infinite temperature */
}
/* The weight that those which top-p leaves must reach, of `sum` > 0: at least 1, at most the sum. */
FR_INLINE uint64_t fr_pick_need(float top_p, uint64_t sum)
{
	double need = (double)top_p * (double)sum;

	return !(need < (double)sum) ? sum : need >= 1 ? (uint64_t)need : 1;
}
/* Where the draw falls in [0, kept). */
FR_INLINE uint64_t fr_pick_mark(double draw, uint64_t kept)
{
	uint64_t mark = (uint64_t)(draw * (double)kept);

	return mark < kept ? mark : kept - 1;
}

#endif
