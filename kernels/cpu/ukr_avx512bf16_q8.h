/* What the products of q8_0 weights share at the levels above avx512: the formats of x and of panels. */
#ifndef FR_KERNELS_CPU_UKR_AVX512BF16_Q8_H
#define FR_KERNELS_CPU_UKR_AVX512BF16_Q8_H

#include "ukr_avx512_q8.h"

#define NR 32
#define STEPS (FR_Q8_ITEMS / 4)

struct x_block {
	float d;
	int32_t start; /* -128 times the sum of q */
	int8_t q[FR_Q8_ITEMS];
};
/* Elements 4s.. of the block lie at q[s], those of one output side by side. */
struct w_block {
	uint8_t q[STEPS][NR][4];
	float d[NR];
};

/* v[j] dword i = dword j of the block at w in row i, each byte with the bits of `flip` turned: 128 adds 128. */
INLINE void transpose_block(const char *w, size_t ldw, int n, int flip, __m512i v[STEPS])
{
	UNROLL for (int i = 0; i < STEPS; i++)
	{
		int row = i / 4 * 8 + i % 4;

		v[i] = _mm512_xor_si512(_mm512_set1_epi8((char)flip),
					load_two(row_of(w, ldw, n, row), row_of(w, ldw, n, row + 4)));
	}
	UNROLL for (int i = 0; i < STEPS; i += 4)
	{
		__m512i a = _mm512_unpacklo_epi32(v[i], v[i + 1]), b = _mm512_unpackhi_epi32(v[i], v[i + 1]);
		__m512i c = _mm512_unpacklo_epi32(v[i + 2], v[i + 3]), d = _mm512_unpackhi_epi32(v[i + 2], v[i + 3]);

		v[i] = _mm512_unpacklo_epi64(a, c);
		v[i + 1] = _mm512_unpackhi_epi64(a, c);
		v[i + 2] = _mm512_unpacklo_epi64(b, d);
		v[i + 3] = _mm512_unpackhi_epi64(b, d);
	}
	UNROLL for (int i = 0; i < STEPS / 2; i++)
	{
		__m512i a = v[i], b = v[4 + i];

		v[i] = _mm512_shuffle_i64x2(a, b, 0x88);
		v[4 + i] = _mm512_shuffle_i64x2(a, b, 0xdd);
	}
}

INLINE void pack_panel(int flip, int n, int blocks, const void *w, size_t ldw, void *dst)
{
	struct w_block *to = dst;

	for (int first = 0; first < n; first += 16)
		for (int b = 0; b < blocks; b++) {
			const char *at = (const char *)w + (size_t)first * ldw + (size_t)b * FR_Q8_BYTES;
			__m512i v[STEPS];

			transpose_block(at, ldw, n - first, flip, v);
			UNROLL for (int j = 0; j < STEPS; j++) _mm512_storeu_si512(to[b].q[j][first], v[j]);
			_mm512_storeu_ps(to[b].d + first, scales16(at, ldw, n - first));
		}
}

#endif
