/* The numbers that sampling draws from; how a row of logits and a draw become a token is kernels/pick.h's. */
#ifndef FR_ENGINE_SAMPLE_H
#define FR_ENGINE_SAMPLE_H

#include <stdint.h>

struct fr_rng {
	uint64_t s;
};
/* Seeded by the sampler's seed and the image's own bytes, so that an image's text does not depend on its neighbours. */
void fr_rng_init(struct fr_rng *r, uint64_t seed, const char *sha256);
/* Uniform in [0, 1), a multiple of 2^-53. */
double fr_rng_draw(struct fr_rng *r);

#endif
