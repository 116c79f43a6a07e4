/* What the files of the avx512 level share: sixteen elements of any type, and sums in 32 lanes.
 *
 * As in ukr_avx2.h, arguments called M, N, RT, CT and `dtype` are constants at every call. Tails go through masks:
 * nothing is read or written beyond what ukr.h names, and lanes that take no element keep their bits. */
#ifndef FR_KERNELS_CPU_UKR_AVX512_H
#define FR_KERNELS_CPU_UKR_AVX512_H

#include "ukr_avx2.h"

/* ukr_avx512_rows.c: the entries for single rows. */
void fr_ukr_avx512_rows(struct fr_ukr *u);

/* Lanes 0..n-1 of 16, all from 16 on, none below 1. */
INLINE __mmask16 lanes16(int n)
{
	return (__mmask16)(n >= 16 ? 0xffffu : n > 0 ? (1u << n) - 1 : 0);
}

/* Elements i.. of p in the lanes of m, zero in the others; only those are read. */
INLINE __m512 load16(enum fr_dtype dtype, __mmask16 m, const void *p, size_t i)
{
	const void *at = offset(dtype, p, i);
	__m256i half;

	if (dtype == FR_F32)
		return _mm512_maskz_loadu_ps(m, at);
	half = _mm256_maskz_loadu_epi16(m, at);
	if (dtype == FR_F16)
		return _mm512_cvtph_ps(half);
	return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

/* The same without a mask. */
INLINE __m512 load_all16(enum fr_dtype dtype, const void *p, size_t i)
{
	const void *at = offset(dtype, p, i);

	if (dtype == FR_F32)
		return _mm512_loadu_ps(at);
	if (dtype == FR_F16)
		return _mm512_cvtph_ps(_mm256_loadu_si256(at));
	return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(at)), 16));
}

/* Adds 8 lanes in the order h = 4, 2, 1. */
INLINE float join8(__m256 s)
{
	__m128 q = _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));

	q = _mm_add_ps(q, _mm_movehl_ps(q, q));
	return _mm_cvtss_f32(_mm_add_ss(q, _mm_movehdup_ps(q)));
}

/* The sum of the lanes 0-15 and 16-31 in the order h = 16, 8, 4, 2, 1. */
INLINE float join32(__m512 low, __m512 high)
{
	__m512 s = _mm512_add_ps(low, high);

	return join8(_mm256_add_ps(_mm512_castps512_ps256(s), _mm512_extractf32x8_ps(s, 1)));
}

/* The sums of up to 16 products' lanes, in the order h = 8, 4, 2, 1: each step halves what is left of every one and
 * puts two beside each other. */
INLINE __m512 join_lanes16(const int N, const __m512 *s)
{
	const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
	__m512 v[16];

	UNROLL for (int i = 0; i < 16; i++) v[i] = i < N ? s[i] : _mm512_setzero_ps();
	UNROLL for (int i = 0; i < 8; i++)
	{
		v[i] = _mm512_add_ps(_mm512_shuffle_f32x4(v[2 * i], v[2 * i + 1], 0x44),
				     _mm512_shuffle_f32x4(v[2 * i], v[2 * i + 1], 0xee));
	}
	UNROLL for (int i = 0; i < 4; i++)
	{
		v[i] = _mm512_add_ps(_mm512_shuffle_f32x4(v[2 * i], v[2 * i + 1], 0x88),
				     _mm512_shuffle_f32x4(v[2 * i], v[2 * i + 1], 0xdd));
	}
	UNROLL for (int i = 0; i < 2; i++)
	{
		v[i] = _mm512_add_ps(_mm512_shuffle_ps(v[2 * i], v[2 * i + 1], 0x44),
				     _mm512_shuffle_ps(v[2 * i], v[2 * i + 1], 0xee));
	}
	v[0] = _mm512_add_ps(_mm512_shuffle_ps(v[0], v[1], 0x88), _mm512_shuffle_ps(v[0], v[1], 0xdd));
	/* Lane 4 i + j of it is product 4 j + i. */
	return _mm512_permutexvar_ps(order, v[0]);
}

#endif
