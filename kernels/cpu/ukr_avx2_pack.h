/* Panels of weights, transposed eight rows by eight columns at a time, for every level whose panels are NR columns
 * wide, a multiple of 8. Packing is some 1 % of a product (docs/SPEED.md), so no level has a wider transpose of its
 * own. NR is a constant at every call. */
#ifndef FR_KERNELS_CPU_UKR_AVX2_PACK_H
#define FR_KERNELS_CPU_UKR_AVX2_PACK_H

#include "ukr_avx2.h"

#define PACK_MAX_NR 32

/* b[i, r] = w[r, i] for 8 rows and 8 columns of float32. */
INLINE void transpose_f32(const int NR, const float *w, size_t ldw, float *b)
{
	__m256 v[8], t[8];

	UNROLL for (int r = 0; r < 4; r++)
	{
		/* Rows r and r + 4 side by side: the rest happens within halves. */
		__m256 lo = _mm256_loadu_ps(w + (size_t)r * ldw), hi = _mm256_loadu_ps(w + (size_t)(r + 4) * ldw);

		v[r] = _mm256_permute2f128_ps(lo, hi, 0x20);
		v[r + 4] = _mm256_permute2f128_ps(lo, hi, 0x31);
	}
	UNROLL for (int h = 0; h < 8; h += 4)
	{
		t[h] = _mm256_unpacklo_ps(v[h], v[h + 1]);
		t[h + 1] = _mm256_unpackhi_ps(v[h], v[h + 1]);
		t[h + 2] = _mm256_unpacklo_ps(v[h + 2], v[h + 3]);
		t[h + 3] = _mm256_unpackhi_ps(v[h + 2], v[h + 3]);
		_mm256_storeu_ps(b + h * NR, _mm256_shuffle_ps(t[h], t[h + 2], 0x44));
		_mm256_storeu_ps(b + (h + 1) * NR, _mm256_shuffle_ps(t[h], t[h + 2], 0xee));
		_mm256_storeu_ps(b + (h + 2) * NR, _mm256_shuffle_ps(t[h + 1], t[h + 3], 0x44));
		_mm256_storeu_ps(b + (h + 3) * NR, _mm256_shuffle_ps(t[h + 1], t[h + 3], 0xee));
	}
}

/* Two columns of 8 rows, [column i rows 0-3, column i + 1 rows 0-3 | the same of rows 4-7], widened. */
INLINE void store_columns(const int NR, enum fr_dtype dtype, __m256i z, float *b)
{
	if (dtype == FR_BF16) {
		const __m256i zero = _mm256_setzero_si256();

		_mm256_storeu_ps(b, _mm256_castsi256_ps(_mm256_unpacklo_epi16(zero, z)));
		_mm256_storeu_ps(b + NR, _mm256_castsi256_ps(_mm256_unpackhi_epi16(zero, z)));
	} else {
		z = _mm256_permute4x64_epi64(z, 0xd8);
		_mm256_storeu_ps(b, _mm256_cvtph_ps(_mm256_castsi256_si128(z)));
		_mm256_storeu_ps(b + NR, _mm256_cvtph_ps(_mm256_extracti128_si256(z, 1)));
	}
}

/* The same of a 16-bit type, transposed before it is widened. */
INLINE void transpose_16(const int NR, enum fr_dtype dtype, const uint16_t *w, size_t ldw, float *b)
{
	__m256i v[4], lo[2], hi[2];

	UNROLL for (int r = 0; r < 4; r++)
	{
		__m128i top = _mm_loadu_si128((const __m128i *)(w + (size_t)r * ldw));
		__m128i low = _mm_loadu_si128((const __m128i *)(w + (size_t)(r + 4) * ldw));

		v[r] = _mm256_inserti128_si256(_mm256_castsi128_si256(top), low, 1);
	}
	UNROLL for (int h = 0; h < 2; h++)
	{
		lo[h] = _mm256_unpacklo_epi16(v[2 * h], v[2 * h + 1]);
		hi[h] = _mm256_unpackhi_epi16(v[2 * h], v[2 * h + 1]);
	}
	store_columns(NR, dtype, _mm256_unpacklo_epi32(lo[0], lo[1]), b);
	store_columns(NR, dtype, _mm256_unpackhi_epi32(lo[0], lo[1]), b + 2 * NR);
	store_columns(NR, dtype, _mm256_unpacklo_epi32(hi[0], hi[1]), b + 4 * NR);
	store_columns(NR, dtype, _mm256_unpackhi_epi32(hi[0], hi[1]), b + 6 * NR);
}

INLINE void transpose(const int NR, enum fr_dtype dtype, const void *w, size_t ldw, float *b)
{
	if (dtype == FR_F32)
		transpose_f32(NR, w, ldw, b);
	else
		transpose_16(NR, dtype, w, ldw, b);
}

/* A block at an edge, n rows of k elements: through a copy with zeros around it. */
INLINE void transpose_edge(const int NR, enum fr_dtype dtype, int n, int k, const void *w, size_t ldw, float *b)
{
	float in[8 * 8] = {0}, out[8 * PACK_MAX_NR];

	for (int r = 0; r < n; r++)
		memcpy((char *)in + offset_bytes(dtype, (size_t)r * 8), offset(dtype, w, (size_t)r * ldw),
		       offset_bytes(dtype, (size_t)k));
	transpose(NR, dtype, in, 8, out);
	for (int i = 0; i < k; i++)
		memcpy(b + i * NR, out + i * NR, 8 * sizeof *b);
}

/* Eight rows at a time: more, a power of two apart, would push each other out of L1 between their columns. */
INLINE void pack(const int NR, enum fr_dtype dtype, int n, int k, const void *w, size_t ldw, float *b)
{
	for (int first = 0; first < NR; first += 8)
		for (int i = 0; i < k; i += 8) {
			int rows = n - first < 8 ? n - first : 8, cols = k - i < 8 ? k - i : 8;
			const void *at = rows > 0 ? offset(dtype, w, (size_t)first * ldw + (size_t)i) : w;

			if (rows == 8 && cols == 8)
				transpose(NR, dtype, at, ldw, b + i * NR + first);
			else
				transpose_edge(NR, dtype, rows, cols, at, ldw, b + i * NR + first);
		}
}

#endif
