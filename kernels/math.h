/* exp, sigmoid, erf, log and the activations as the forward pass means them: part of the numeric contract (ops.h).
 *
 * Every function is a fixed sequence of float32 +, -, *, /, fma and bit operations without branches: `a ? b : c` is a
 * lane select after both sides were computed, so a SIMD lane doing the same sequence gets the same bits. Comparisons
 * are ordered (false on NaN). A NaN argument gives a NaN; which one is not part of the contract. Coefficients: own
 * minimax fits, tests/oracle/math_fit.py. Errors below are measured over all float32 arguments of the range by
 * tests/kernels_math.c (every one with FR_EXHAUSTIVE=1, a dense sample otherwise). */
#ifndef FR_KERNELS_MATH_H
#define FR_KERNELS_MATH_H

#include <math.h>

#include "../engine/desc.h"

#define FR_EXP_LO -0x1.5d589ep+6f /* the last argument whose exponential is no subnormal; below it 0 */
#define FR_EXP_HI 0x1.62e42ep+6f  /* the last argument whose exponential is finite; above it +inf */
#define FR_EXP_LOG2E 0x1.715476p+0f
#define FR_EXP_LN2_HI 0x1.62e4p-1f /* 15 bits: n * LN2_HI is exact */
#define FR_EXP_LN2_LO 0x1.7f7d1cp-20f
#define FR_EXP_ROUND 0x1.8p+23f /* adding it rounds to an integer, nearest even, kept in the low bits */
#define FR_EXP_ROUND_BITS 0x4b400000u
#define FR_EXP_2 0x1.fffffcp-2f
#define FR_EXP_3 0x1.55542p-3f
#define FR_EXP_4 0x1.55565ep-5f
#define FR_EXP_5 0x1.1285bap-7f
#define FR_EXP_6 0x1.6d4554p-10f

/* exp(x) = 2^n * exp(r), n = rne(x / ln 2), |r| <= ln 2 / 2:
 *   t = fma(x, LOG2E, ROUND); n = t - ROUND; i = bits(t) - ROUND_BITS
 *   r = fma(n, -LN2_HI, x);   r = fma(n, -LN2_LO, r)
 *   q = fma(fma(fma(fma(E6, r, E5), r, E4), r, E3), r, E2)
 *   p = fma(r * r, q, r) + 1
 *   h = i >> 1 (arithmetic);  y = (p * bits((h + 127) << 23)) * bits((i - h + 127) << 23)
 *   y = x < LO ? 0 : y;       y = x > HI ? +inf : y
 * 2^n goes in as two factors because n reaches 128. Error at most 1.06 ulp; exp(0) = 1 exactly. */
FR_INLINE float fr_exp(float x)
{
	float t = fmaf(x, FR_EXP_LOG2E, FR_EXP_ROUND);
	float n = t - FR_EXP_ROUND;
	uint32_t i = fr_f32_bits(t) - FR_EXP_ROUND_BITS;
	float r = fmaf(n, -FR_EXP_LN2_HI, x);
	r = fmaf(n, -FR_EXP_LN2_LO, r);
	float q = fmaf(FR_EXP_6, r, FR_EXP_5);
	q = fmaf(q, r, FR_EXP_4);
	q = fmaf(q, r, FR_EXP_3);
	q = fmaf(q, r, FR_EXP_2);
	float p = fmaf(r * r, q, r) + 1.0f;
	uint32_t h = (uint32_t)((int32_t)i >> 1);
	float y = p * fr_bits_f32((h + 127u) << 23) * fr_bits_f32((i - h + 127u) << 23);
	y = x < FR_EXP_LO ? 0.0f : y;
	y = x > FR_EXP_HI ? INFINITY : y;
	return y;
}

/* 1 / (1 + exp(-x)); -x flips the sign bit. */
FR_INLINE float fr_sigmoid(float x)
{
	return 1.0f / (1.0f + fr_exp(-x));
}

#define FR_ERF_SPLIT 0.9375f
#define FR_ERF_TOP 3.95f /* erf rounds to 1 from here on */
#define FR_ERF_NEAR_0 0x1.06eba8p-3f
#define FR_ERF_NEAR_1 -0x1.81274p-2f
#define FR_ERF_NEAR_2 0x1.ce2d64p-4f
#define FR_ERF_NEAR_3 -0x1.b80120p-6f
#define FR_ERF_NEAR_4 0x1.544aa8p-8f
#define FR_ERF_NEAR_5 -0x1.a6126ep-11f
#define FR_ERF_NEAR_6 0x1.4f8e58p-14f
#define FR_ERF_FAR_0 0x1.074b06p-3f
#define FR_ERF_FAR_1 0x1.456b12p-1f
#define FR_ERF_FAR_2 0x1.af7e48p-4f
#define FR_ERF_FAR_3 -0x1.74e78cp-6f
#define FR_ERF_FAR_4 0x1.86fd62p-9f
#define FR_ERF_FAR_5 -0x1.1fba06p-14f
#define FR_ERF_FAR_6 -0x1.5f3c36p-15f
#define FR_ERF_FAR_7 0x1.370f2ap-18f

/* a = |x| (sign bit cleared); both sides are computed:
 *   near, a < SPLIT:  z = a * a;  p = Horner by fma in z of NEAR_6..NEAR_0;  u = fma(a, p, a)
 *   far:              b = a > TOP ? TOP : a;  s = Horner by fma in b of FAR_7..FAR_0;  t = fma(b, s, b)
 *                     v = 1 - fr_exp(-t)                                   erfc(b) = exp(-t)
 *   y = a < SPLIT ? u : v, with the sign bit of x or-ed in. Error at most 1.02 ulp. */
FR_INLINE float fr_erf(float x)
{
	uint32_t sign = fr_f32_bits(x) & 0x80000000u;
	float a = fr_bits_f32(fr_f32_bits(x) & 0x7fffffffu);
	float z = a * a;
	float p = fmaf(FR_ERF_NEAR_6, z, FR_ERF_NEAR_5);
	p = fmaf(p, z, FR_ERF_NEAR_4);
	p = fmaf(p, z, FR_ERF_NEAR_3);
	p = fmaf(p, z, FR_ERF_NEAR_2);
	p = fmaf(p, z, FR_ERF_NEAR_1);
	p = fmaf(p, z, FR_ERF_NEAR_0);
	float u = fmaf(a, p, a);
	float b = a > FR_ERF_TOP ? FR_ERF_TOP : a;
	float s = fmaf(FR_ERF_FAR_7, b, FR_ERF_FAR_6);
	s = fmaf(s, b, FR_ERF_FAR_5);
	s = fmaf(s, b, FR_ERF_FAR_4);
	s = fmaf(s, b, FR_ERF_FAR_3);
	s = fmaf(s, b, FR_ERF_FAR_2);
	s = fmaf(s, b, FR_ERF_FAR_1);
	s = fmaf(s, b, FR_ERF_FAR_0);
	float t = fmaf(b, s, b);
	float v = 1.0f - fr_exp(-t);
	float y = a < FR_ERF_SPLIT ? u : v;
	return fr_bits_f32(fr_f32_bits(y) | sign);
}

#define FR_LOG_FROM 0x3f400000u /* the bits of 0.75, where the mantissa's range begins */
#define FR_LOG_1 0x1.5555a4p-2f
#define FR_LOG_2 -0x1.00004p-2f
#define FR_LOG_3 0x1.9969bp-3f
#define FR_LOG_4 -0x1.54efdcp-3f
#define FR_LOG_5 0x1.28847ep-3f
#define FR_LOG_6 -0x1.0d8a8ep-3f
#define FR_LOG_7 0x1.ac90b8p-4f
#define FR_LOG_8 -0x1.7140acp-5f

/* log(x), natural: x = 2^n * m, 0.75 <= m < 1.5:
 *   t = x < 2^-126 ? x * 2^24 : x;  i = bits(t) - FROM;  e = i >> 23 (arithmetic);  n = e - (x < 2^-126 ? 24 : 0)
 *   r = bits_f32(bits(t) - (e << 23)) - 1
 *   p = Horner by fma in r of LOG_8..LOG_1;  w = fma(p, r, -0.5)
 *   y = fma(n, LN2_HI, r + fma(r * r, w, n * LN2_LO))
 *   y = x > FLT_MAX ? x : y;  y = x == 0 ? -inf : y;  y = x >= 0 ? y : NaN
 * Subnormals are exact before the fit, so the error is at most 0.98 ulp over all positive x; log(1) = +0, log(-0) is
 * -inf, below it there is NaN. */
FR_INLINE float fr_log(float x)
{
	float t = x < 0x1p-126f ? x * 0x1p24f : x;
	uint32_t e = (uint32_t)((int32_t)(fr_f32_bits(t) - FR_LOG_FROM) >> 23);
	float n = (float)(int32_t)e - (x < 0x1p-126f ? 24.0f : 0.0f);
	float r = fr_bits_f32(fr_f32_bits(t) - (e << 23)) - 1.0f;
	float p = fmaf(FR_LOG_8, r, FR_LOG_7);
	p = fmaf(p, r, FR_LOG_6);
	p = fmaf(p, r, FR_LOG_5);
	p = fmaf(p, r, FR_LOG_4);
	p = fmaf(p, r, FR_LOG_3);
	p = fmaf(p, r, FR_LOG_2);
	p = fmaf(p, r, FR_LOG_1);
	float w = fmaf(p, r, -0.5f);
	float y = fmaf(n, FR_EXP_LN2_HI, r + fmaf(r * r, w, n * FR_EXP_LN2_LO));
	y = x > 0x1.fffffep+127f ? x : y;
	y = x == 0 ? -INFINITY : y;
	y = x >= 0 ? y : NAN;
	return y;
}

/* x * sigmoid(x): the sigmoid is rounded first */
FR_INLINE float fr_silu(float x)
{
	return x * fr_sigmoid(x);
}
/* x * sigmoid(1.702 * x) */
FR_INLINE float fr_quick_gelu(float x)
{
	return x * fr_sigmoid(1.702f * x);
}
/* (0.5 * x) * (1 + erf(x * sqrt(1/2))) */
FR_INLINE float fr_gelu(float x)
{
	return 0.5f * x * (1.0f + fr_erf(x * 0x1.6a09e6p-1f));
}

/* x < 0 ? 0 : x, so NaN stays NaN and -0 stays -0 */
FR_INLINE float fr_relu(float x)
{
	return x < 0 ? 0.0f : x;
}

FR_INLINE float fr_act(enum fr_act act, float x)
{
	switch (act) {
	case FR_ACT_QUICK_GELU:
		return fr_quick_gelu(x);
	case FR_ACT_GELU:
		return fr_gelu(x);
	case FR_ACT_SILU:
		return fr_silu(x);
	case FR_ACT_RELU:
		return fr_relu(x);
	default:
		return x;
	}
}

/* The table of rotary position embedding: cos, sin [max_pos, head_dim / 2], host memory of the caller. theta > 0;
 * factor > 0 divides the frequencies (linear scaling), 1 leaves them. In rope_table.c, where the arithmetic is. */
void fr_rope_table(int max_pos, int head_dim, double theta, double factor, float *cos, float *sin);

#endif
