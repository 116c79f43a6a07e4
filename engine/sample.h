/* From one row of logits to the next token. */
#ifndef FR_ENGINE_SAMPLE_H
#define FR_ENGINE_SAMPLE_H

#include "error.h"

/* The highest logit; the lowest id on ties. */
int32_t fr_argmax(const float *logits, int vocab);

struct fr_candidate {
	float logit;
	int32_t id;
};
struct fr_sample_scratch {
	struct fr_candidate *at; /* [vocab] */
};
struct fr_rng {
	uint64_t s;
};
/* Seeded by the sampler's seed and the image's own bytes, so that an image's text does not depend on its neighbours. */
void fr_rng_init(struct fr_rng *r, uint64_t seed, const char *sha256);
/* Greedy at temperature 0; else temperature, then top-k, then top-p, then one draw. */
int32_t fr_pick(const float *logits, int vocab, const struct fr_sampler *s, struct fr_rng *rng,
		struct fr_sample_scratch *scratch);

#endif
