/* The products of q8_0 weights spelt out (ops.h, "q8"): how x is quantised, and what one block adds to a sum.
 *
 * A block's sum of products is an integer of at most 32 * 127 * 128 = 520192, so it is exact in int32 and in float32 in
 * whatever order it is added up, and every level has the same bits. */
#ifndef FR_KERNELS_Q8_H
#define FR_KERNELS_Q8_H

#include "ops.h"

#include <math.h>

/* A block of x: item i is about d * q[i]. */
struct fr_q8_x {
	float d;
	int8_t q[FR_Q8_ITEMS];
};

#define FR_Q8_TOP 127.0f
#define FR_Q8_TINY 0x1p-126f   /* a scale below this is 0: d and 1 / d are normal numbers or 0 */
#define FR_Q8_ROUND 0x1.8p+23f /* adding it rounds to an integer, nearest even, kept in the low bits */
#define FR_Q8_ROUND_BITS 0x4b400000u

/* The scale of a block whose largest |x| has the bits `top`, and what x is multiplied by to get q, 0 when q is 0. */
static inline float fr_q8_scale(uint32_t top, float *inverse)
{
	float d = fr_bits_f32(top) / FR_Q8_TOP;

	*inverse = 0;
	if (top >= 0x7f800000u)
		return NAN;
	if (d < FR_Q8_TINY)
		return 0;
	*inverse = 1.0f / d;
	return d;
}

/* |x * inverse| < 127.5: d and its inverse are each off by 2^-24 at most, so no q has to be clamped. */
static inline struct fr_q8_x fr_q8_quantise(const float *x)
{
	struct fr_q8_x b = {0};
	uint32_t top = 0;
	float inverse;

	for (int i = 0; i < FR_Q8_ITEMS; i++) {
		uint32_t a = fr_f32_bits(x[i]) & 0x7fffffffu;

		top = a > top ? a : top;
	}
	b.d = fr_q8_scale(top, &inverse);
	for (int i = 0; i < FR_Q8_ITEMS && inverse != 0; i++)
		b.q[i] = (int8_t)(int32_t)(fr_f32_bits(x[i] * inverse + FR_Q8_ROUND) - FR_Q8_ROUND_BITS);
	return b;
}

/* One block of weights, 34 bytes as they lie, against one of x, added to a sum. */
static inline float fr_q8_add(float acc, const struct fr_q8_x *x, const void *w)
{
	const uint8_t *p = w;
	int32_t sum = 0;
	uint16_t d;

	memcpy(&d, p, 2);
	for (int i = 0; i < FR_Q8_ITEMS; i++)
		sum += x->q[i] * (int8_t)p[2 + i];
	return fmaf((float)sum, fr_f16_f32(d) * x->d, acc);
}

/* q8(x, w) of ops.h over n items, whole blocks. */
static inline float fr_q8_dot(const float *x, const void *w, int n)
{
	float acc = 0;

	for (int i = 0; i < n; i += FR_Q8_ITEMS) {
		struct fr_q8_x b = fr_q8_quantise(x + i);

		acc = fr_q8_add(acc, &b, (const uint8_t *)w + (size_t)i / FR_Q8_ITEMS * FR_Q8_BYTES);
	}
	return acc;
}

#endif
