/* The products of the level amx spelt out (ops.h, "tiles"): tdpbf16ps in plain C, bit by bit.
 *
 * The order of its sums is the one of Intel's manual (Architectures Software Developer's Manual, volume 2, TDPBF16PS,
 * "Operation"): of the 32 elements of a row the even and the odd ones are summed apart, each from +0 by fused
 * multiply-adds in order of k, then those two are added to each other, then to the destination; all with DAZ = FTZ = 1,
 * rounded to nearest even, MXCSR neither read nor written. Not measured: no processor with AMX was at hand. When a
 * result counts as subnormal is not in the manual; it is taken to be as vdpbf16ps has it (kernels/pairs.h): after
 * rounding. */
#ifndef FR_KERNELS_TILES_H
#define FR_KERNELS_TILES_H

#include "pairs.h"

#define FR_TILE_DEPTH 32 /* elements of k that one tile holds */

/* Terms that weights of a type are split into: f16 are exactly two, of f32 2^-17 is left out. */
static inline int fr_tile_terms(enum fr_dtype weights)
{
	return weights == FR_BF16 ? 1 : 2;
}

/* What tdpbf16ps adds to one element of its destination: x and w are n elements along k, n even and 32 in a whole tile,
 * bf16 values as float32. */
static inline float fr_tile_add(float sum, const float *x, const float *w, int n)
{
	float even = 0, odd = 0;

	for (int p = 0; p < n; p += 2) {
		even = fr_pair_fma(fr_flush(x[p]), fr_flush(w[p]), even);
		odd = fr_pair_fma(fr_flush(x[p + 1]), fr_flush(w[p + 1]), odd);
	}
	return fr_flush(fr_flush(sum) + fr_flush(even + odd));
}

/* The n <= 32 elements of v in their terms, zero from there on. */
static inline void fr_tile_split(const float *v, int n, int terms, float t[2][FR_TILE_DEPTH])
{
	for (int i = 0; i < FR_TILE_DEPTH; i++) {
		float rest = i < n ? v[i] : 0;

		for (int j = 0; j < terms; j++) {
			t[j][i] = fr_pair_term(rest);
			rest -= t[j][i];
		}
	}
}

/* tiles(x, w) of ops.h over n elements. */
static inline float fr_tile_dot(const float *x, const float *w, int n, int x_terms, int w_terms)
{
	float sum = 0, xt[2][FR_TILE_DEPTH], wt[2][FR_TILE_DEPTH];

	for (int k = 0; k < n; k += FR_TILE_DEPTH) {
		fr_tile_split(x + k, n - k, x_terms, xt);
		fr_tile_split(w + k, n - k, w_terms, wt);
		if (x_terms == 2 && w_terms == 2)
			sum = fr_tile_add(sum, xt[1], wt[1], FR_TILE_DEPTH);
		if (w_terms == 2)
			sum = fr_tile_add(sum, xt[0], wt[1], FR_TILE_DEPTH);
		sum = fr_tile_add(sum, xt[0], wt[0], FR_TILE_DEPTH);
		if (x_terms == 2)
			sum = fr_tile_add(sum, xt[1], wt[0], FR_TILE_DEPTH);
	}
	return sum;
}

#endif
