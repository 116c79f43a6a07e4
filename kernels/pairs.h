/* The products of the level avx512bf16 spelt out (ops.h, "pairs" and "pair lanes"): vdpbf16ps in plain C, bit by bit.
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

/* The sums of pair lanes: each pair of x and w with the index k of its first element, in order. */
#define FR_PAIR_LANES 16
struct fr_pair_lanes {
	float lane[FR_PAIR_LANES];
};

static inline void fr_pair_lane_add(struct fr_pair_lanes *l, int k, float x0, float x1, float w0, float w1, int terms)
{
	float *sum = &l->lane[k / 2 % FR_PAIR_LANES];

	for (int t = 0; t < terms; t++) {
		float t0 = fr_pair_term(x0), t1 = fr_pair_term(x1);

		*sum = fr_pair_add(*sum, t0, t1, w0, w1);
		x0 -= t0;
		x1 -= t1;
	}
}

/* Plain additions: no result of them is flushed. */
static inline float fr_pair_lane_sum(struct fr_pair_lanes *l)
{
	for (int h = FR_PAIR_LANES / 2; h > 0; h /= 2)
		for (int i = 0; i < h; i++)
			l->lane[i] += l->lane[i + h];
	return l->lane[0];
}

static inline float fr_pair_lane_dot(const float *x, const float *w, int n, int terms)
{
	struct fr_pair_lanes l = {{0}};

	for (int k = 0; k < n; k += 2)
		fr_pair_lane_add(&l, k, x[k], k + 1 < n ? x[k + 1] : 0, w[k], k + 1 < n ? w[k + 1] : 0, terms);
	return fr_pair_lane_sum(&l);
}

#endif
