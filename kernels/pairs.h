/* The products of the level avx512bf16 spelt out (ops.h, "pairs"): vdpbf16ps in plain C, bit by bit.
 *
 * What the instruction does was measured on an AMD Zen 4 and is what Intel's manual says: of a pair (k, k + 1) the odd
 * element is added first, each by a fused multiply-add rounded to nearest even whatever MXCSR says; subnormal inputs,
 * the sum among them, count as zeros, and a result that is subnormal after rounding becomes a zero of its sign.
 * vcvtne2ps2bf16 takes subnormals as zeros too. */
#ifndef FR_KERNELS_PAIRS_H
#define FR_KERNELS_PAIRS_H

#include "ops.h"

#include <math.h>

/* A subnormal becomes a zero of its sign. */
static inline float fr_flush(float v)
{
	uint32_t u = fr_f32_bits(v);

	return u & 0x7f800000u ? v : fr_bits_f32(u & 0x80000000u);
}

/* x rounded to bf16, as float32. */
static inline float fr_pair_term(float x)
{
	return fr_bits_f32((uint32_t)fr_f32_bf16(fr_flush(x)) << 16);
}

/* x * w + sum, x and w bf16 values, none of the three subnormal. The product of 8 by 8 bits is exact as a float unless it
 * leaves the exponents, so that one addition rounds as the fused one does. Whether a result is subnormal is decided
 * after rounding to 24 bits as if the exponent had no end: where fmaf gives the smallest normal number, or less, that
 * is found 2^100 higher. No factor is large then: a sum of 1 or more leaves 0 or far more. */
static inline float fr_pair_fma(float x, float w, float sum)
{
	float product = x * w, v = product + sum;

	if (fabsf(product) >= 0x1p-126f && fabsf(product) < INFINITY && fabsf(v) > 0x1p-126f)
		return v;
	v = fmaf(x, w, sum);
	if (!(fabsf(v) <= 0x1p-126f) || v == 0)
		return v;
	if (fabsf(x) > fabsf(w)) {
		float t = x;

		x = w;
		w = t;
	}
	return fabsf(fmaf(x * 0x1p100f, w, sum * 0x1p100f)) < 0x1p-26f ? copysignf(0, v) : v;
}

/* One pair added to a sum: what vdpbf16ps does with x0, x1 and w0, w1, all bf16 values as float32. */
static inline float fr_pair_add(float sum, float x0, float x1, float w0, float w1)
{
	sum = fr_pair_fma(fr_flush(x1), fr_flush(w1), sum);
	return fr_pair_fma(fr_flush(x0), fr_flush(w0), sum);
}

/* pairs(x, w) of ops.h over n elements, x in `terms` terms; w are bf16 values. */
static inline float fr_pair_dot(const float *x, const float *w, int n, int terms)
{
	float sum = 0;

	for (int k = 0; k < n; k += 2) {
		float x0 = x[k], x1 = k + 1 < n ? x[k + 1] : 0, w1 = k + 1 < n ? w[k + 1] : 0;

		for (int t = 0; t < terms; t++) {
			float t0 = fr_pair_term(x0), t1 = fr_pair_term(x1);

			sum = fr_pair_add(sum, t0, t1, w[k], w1);
			x0 -= t0;
			x1 -= t1;
		}
	}
	return sum;
}

#endif
