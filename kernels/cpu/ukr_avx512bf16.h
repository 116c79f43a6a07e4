/* What the files of the levels avx512bf16 and amx share: words of two bf16 turned over, and floats rounded to them. */
#ifndef FR_KERNELS_CPU_UKR_AVX512BF16_H
#define FR_KERNELS_CPU_UKR_AVX512BF16_H

#include "ukr_avx512.h"

/* v[i] word r = v[r] word i. */
INLINE void transpose16(__m512i v[16])
{
	UNROLL for (int i = 0; i < 16; i += 4)
	{
		__m512i a = _mm512_unpacklo_epi32(v[i], v[i + 1]), b = _mm512_unpackhi_epi32(v[i], v[i + 1]);
		__m512i c = _mm512_unpacklo_epi32(v[i + 2], v[i + 3]), d = _mm512_unpackhi_epi32(v[i + 2], v[i + 3]);

		v[i] = _mm512_unpacklo_epi64(a, c);
		v[i + 1] = _mm512_unpackhi_epi64(a, c);
		v[i + 2] = _mm512_unpacklo_epi64(b, d);
		v[i + 3] = _mm512_unpackhi_epi64(b, d);
	}
	UNROLL for (int i = 0; i < 4; i++)
	{
		__m512i a = _mm512_shuffle_i32x4(v[i], v[4 + i], 0x44), b = _mm512_shuffle_i32x4(v[i], v[4 + i], 0xee);
		__m512i c = _mm512_shuffle_i32x4(v[8 + i], v[12 + i], 0x44),
			d = _mm512_shuffle_i32x4(v[8 + i], v[12 + i], 0xee);

		v[i] = _mm512_shuffle_i32x4(a, c, 0x88);
		v[4 + i] = _mm512_shuffle_i32x4(a, c, 0xdd);
		v[8 + i] = _mm512_shuffle_i32x4(b, d, 0x88);
		v[12 + i] = _mm512_shuffle_i32x4(b, d, 0xdd);
	}
}

/* 32 elements rounded to bf16, in their order. */
INLINE __m512i round32(__m512 low, __m512 high)
{
	return (__m512i)_mm512_cvtne2ps_pbh(high, low);
}

INLINE __m512 widen16(__m256i half)
{
	return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

#endif
