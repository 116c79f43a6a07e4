/* From one row of logits to a token: what the instances in host memory compute in ops->pick, and what others must. */
#ifndef FR_KERNELS_PICK_H
#define FR_KERNELS_PICK_H

#include "ops.h"

/* The highest logit; the lowest id on ties. */
int32_t fr_argmax(const float *logits, int vocab);

struct fr_candidate {
	float logit;
	int32_t id;
};
/* Greedy at temperature 0 (or s NULL); else temperature, then top-k, then top-p, then the draw, uniform in [0, 1), falls
 * into the shares of those left. -1 when a logit is not finite. room [vocab] is not used when greedy. */
int32_t fr_pick_row(const float *logits, int vocab, const struct fr_sampler *s, double draw, struct fr_candidate *room);

#endif
