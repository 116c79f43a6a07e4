/* What the files of the avx2 level share: eight elements of any type, and sums in 32 lanes.
 *
 * Arguments called M, N, RT, CT and `dtype` of inline functions are constants at every call, so that each use becomes
 * its own straight code with its sums in registers. Tails go through masks or a small buffer: nothing is read or
 * written beyond what ukr.h names, and lanes that take no element keep their bits. */
#ifndef FR_KERNELS_CPU_UKR_AVX2_H
#define FR_KERNELS_CPU_UKR_AVX2_H

#include "ukr.h"

#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

/* ukr_avx2_rows.c: the entries for single rows. */
void fr_ukr_avx2_rows(struct fr_ukr *u);

/* All ones in lanes 0..n-1, n <= 8. */
INLINE __m256i first_lanes(int n)
{
	return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

INLINE size_t offset_bytes(enum fr_dtype dtype, size_t i)
{
	return i * (dtype == FR_F32 ? 4 : 2);
}

INLINE const void *offset(enum fr_dtype dtype, const void *p, size_t i)
{
	return (const char *)p + offset_bytes(dtype, i);
}

INLINE __m256 load8(enum fr_dtype dtype, const void *p, size_t i)
{
	const void *at = offset(dtype, p, i);

	if (dtype == FR_F32)
		return _mm256_loadu_ps(at);
	if (dtype == FR_F16)
		return _mm256_cvtph_ps(_mm_loadu_si128(at));
	return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(at)), 16));
}

/* The first n < 8 of them, zero in the other lanes. */
INLINE __m256 load_part(enum fr_dtype dtype, const void *p, size_t i, int n)
{
	uint16_t half[8] = {0};

	if (dtype == FR_F32)
		return _mm256_maskload_ps(offset(dtype, p, i), first_lanes(n));
	memcpy(half, offset(dtype, p, i), (size_t)n * sizeof *half);
	return load8(dtype, half, 0);
}

INLINE __m256 load_upto8(enum fr_dtype dtype, const void *p, size_t i, int n)
{
	return n >= 8 ? load8(dtype, p, i) : load_part(dtype, p, i, n);
}

INLINE void store_upto8(float *p, int n, __m256 v)
{
	if (n >= 8)
		_mm256_storeu_ps(p, v);
	else
		_mm256_maskstore_ps(p, first_lanes(n), v);
}

/* Sums of N products: element i of product j is in lane i mod 8 of acc[i / 8 mod 4][j]. Adds the lanes of product j in
 * the order h = 16, 8, 4, 2, 1. */
INLINE float join_lanes(const int N, const __m256 *acc, int j)
{
	__m256 s = _mm256_add_ps(_mm256_add_ps(acc[j], acc[2 * N + j]), _mm256_add_ps(acc[N + j], acc[3 * N + j]));
	__m128 q = _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));

	q = _mm_add_ps(q, _mm_movehl_ps(q, q));
	return _mm_cvtss_f32(_mm_add_ss(q, _mm_movehdup_ps(q)));
}

/* Lanes that take no element keep their bits: adding a zero product would turn -0 into +0. */
INLINE __m256 keep_rest(__m256 before, __m256 after, int n)
{
	return n >= 8 ? after : _mm256_blendv_ps(before, after, _mm256_castsi256_ps(first_lanes(n)));
}

/* Of `next`, what falls to one of n keys or values. */
INLINE int share_of(struct fr_ahead next, int n)
{
	return (int)((next.lines + (size_t)n - 1) / (size_t)n);
}

INLINE void fetch_some(struct fr_ahead *next, int lines)
{
	for (int i = 0; i < lines && next->lines; i++, next->lines--, next->at += 64)
		_mm_prefetch(next->at, _MM_HINT_T1);
}

#endif
