/* What the products of q8_0 weights share at the levels with 512-bit registers: x quantised, and sixteen rows of
 * weights side by side. */
#ifndef FR_KERNELS_CPU_UKR_AVX512_Q8_H
#define FR_KERNELS_CPU_UKR_AVX512_Q8_H

#include "ukr_avx512.h"
#include "../q8.h"

/* fr_q8_quantise: returns the scale, q as int32 in two registers. */
INLINE float quantise(const float *x, __m512i q[2])
{
	const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
	__m512 low = _mm512_loadu_ps(x), high = _mm512_loadu_ps(x + 16);
	__m512i top = _mm512_max_epu32(_mm512_and_si512(_mm512_castps_si512(low), magnitude),
				       _mm512_and_si512(_mm512_castps_si512(high), magnitude));
	float inverse, d = fr_q8_scale(_mm512_reduce_max_epu32(top), &inverse);
	__mmask16 some = inverse != 0 ? 0xffff : 0;

	q[0] = _mm512_maskz_cvtps_epi32(some, _mm512_mul_ps(low, _mm512_set1_ps(inverse)));
	q[1] = _mm512_maskz_cvtps_epi32(some, _mm512_mul_ps(high, _mm512_set1_ps(inverse)));
	return d;
}

/* Row i of n, ldw bytes apart; from n on the last one again, for lanes that nobody reads. */
INLINE const char *row_of(const void *w, size_t ldw, int n, int i)
{
	return (const char *)w + (size_t)(i < n ? i : n - 1) * ldw;
}

INLINE int16_t half_at(const char *p)
{
	int16_t h;

	memcpy(&h, p, sizeof h);
	return h;
}

/* The scales of the blocks at w in sixteen rows. */
INLINE __m512 scales16(const char *w, size_t ldw, int n)
{
#define HALF(i) half_at(row_of(w, ldw, n, i))
	return _mm512_cvtph_ps(_mm256_setr_epi16(HALF(0), HALF(1), HALF(2), HALF(3), HALF(4), HALF(5), HALF(6), HALF(7),
						 HALF(8), HALF(9), HALF(10), HALF(11), HALF(12), HALF(13), HALF(14),
						 HALF(15)));
#undef HALF
}

/* The elements of two blocks, 32 bytes each. */
INLINE __m512i load_two(const char *low, const char *high)
{
	return _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *)(low + 2))),
				  _mm256_loadu_si256((const __m256i *)(high + 2)), 1);
}

#endif
