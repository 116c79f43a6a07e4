/* Inputs rounded as a device with 16-bit products rounds them, for ref alone: so that tests can hold such a device
 * against the plain loops on the same inputs. */
#ifndef FR_KERNELS_REF_ROUND_H
#define FR_KERNELS_REF_ROUND_H

#include "ops.h"

struct fr_rounds {
	int on, precise; /* as the CUDA instance */
	int pairs;  /* bf16 weights are multiplied in pairs, x in so many terms (kernels/pairs.h); 0: not */
	int tiles;  /* .. in prefill all weights in tiles instead, with the same terms of x (kernels/tiles.h) */
	int failed; /* memory was short: an input went in as it was */
	float *copy[3];
	size_t items[3];
};
/* name: NULL (nothing is rounded), "cuda", "avx512bf16" or "amx", each also with "-precise". */
int fr_rounds_open(const char *name, struct fr_rounds *r, struct fr_error *err);
void fr_rounds_close(struct fr_rounds *r);

/* The input of a product as the device multiplies it: x [rows, cols] itself, or a rounded copy, rows *stride floats
 * apart. Good until the next call. */
const float *fr_round_product(struct fr_rounds *r, const float *x, size_t *stride, int rows, int cols,
			      enum fr_dtype weights, enum fr_phase phase);
/* The pixels [n] of a patch embedding. */
const float *fr_round_pixels(struct fr_rounds *r, const float *x, size_t n, enum fr_dtype weights);
/* Whether dense attention is made in pairs (ops.h). */
static inline int fr_rounds_pair_attn(const struct fr_rounds *r, const struct fr_attn *a)
{
	return r->pairs == 1 && !a->kv && a->weights == FR_BF16;
}
/* a with q, and dense k and v, as the device multiplies them. */
struct fr_attn fr_round_attn(struct fr_rounds *r, const struct fr_attn *a);

/* y[i] = the sum of `terms` roundings of x[i] to dtype, f16 saturated; x times `factor`, a power of two, and back. */
void fr_round_terms(const float *x, float *y, size_t n, enum fr_dtype dtype, int terms, float factor);
/* What a row is multiplied by before it is rounded: 1 unless f16 might overflow. */
float fr_round_factor(const float *x, size_t n, enum fr_dtype dtype);

#endif
