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

/* Terms that weights of a type are split into, exactly: the 24 bits of an f32 are three times 8, the 11 of an f16 two. The
 * exponents end before that for f32 alone. Below 2^-103 a third term may be subnormal, and what is lost is less than
 * 2^-126; from 2^128 - 2^119 on, half a step beyond the largest bf16, the first is infinite and the second a NaN. */
#define FR_TILE_TERMS 3 /* most of them; x has two at most */
static inline int fr_tile_terms(enum fr_dtype weights)
{
	return weights == FR_BF16 ? 1 : weights == FR_F16 ? 2 : 3;
}

/* The products of terms that a step adds, in this order, of those that there are. x's second with w's third would be
 * 2^-25 of x w at most, and is left out. */
static const struct {
	int x, w;
} fr_tile_order[] = {{0, 2}, {1, 1}, {0, 1}, {0, 0}, {1, 0}};
#define FR_TILE_PRODUCTS (int)(sizeof fr_tile_order / sizeof *fr_tile_order)

static inline int fr_tile_has(int product, int x_terms, int w_terms)
{
	return fr_tile_order[product].x < x_terms && fr_tile_order[product].w < w_terms;
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
static inline void fr_tile_split(const float *v, int n, int terms, float t[][FR_TILE_DEPTH])
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
	float sum = 0, xt[2][FR_TILE_DEPTH], wt[FR_TILE_TERMS][FR_TILE_DEPTH];

	for (int k = 0; k < n; k += FR_TILE_DEPTH) {
		fr_tile_split(x + k, n - k, x_terms, xt);
		fr_tile_split(w + k, n - k, w_terms, wt);
		for (int i = 0; i < FR_TILE_PRODUCTS; i++)
			if (fr_tile_has(i, x_terms, w_terms))
				sum = fr_tile_add(sum, xt[fr_tile_order[i].x], wt[fr_tile_order[i].w], FR_TILE_DEPTH);
	}
	return sum;
}

#endif
