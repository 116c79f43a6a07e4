/* The products of the avx512bf16 level: pairs of bf16 by vdpbf16ps, the sums of kernels/pairs.h sixteen at a time.
 *
 * A register tile, its panels and their blocks are those of ukr_avx512.c in 32-bit words, each word a pair instead of
 * one float32: the same loads and broadcasts for each instruction, and half as many of them. */
#include "ukr_avx512bf16.h"

#define MR 14
#define NR 32
#define LINE 16 /* words of a cache line */

/* ---- matrix product on packed panels -------------------------------------------------------------------------- */

INLINE void pair_step(const int M, const int W, const int T, const float *a, size_t lda, const float *b,
		      __m512 acc[MR][2])
{
	__m512bh col[2];

	UNROLL for (int j = 0; j < W; j++) col[j] = (__m512bh)_mm512_loadu_ps(b + 16 * j);
	UNROLL for (int t = 0; t < T; t++)
	{
		UNROLL for (int r = 0; r < M; r++)
		{
			__m512bh x = (__m512bh)_mm512_set1_ps(a[(size_t)r * lda + (size_t)t]);

			UNROLL for (int j = 0; j < W; j++) acc[r][j] = _mm512_dpbf16_ps(acc[r][j], x, col[j]);
		}
	}
}

/* M x 16 W sums in M W registers, over k words of b; a has T words, its terms, for each. */
INLINE void pair_rows(const int M, const int W, const int T, int n, int k, const float *a, size_t lda, size_t ahead,
		      const float *b, float *c, size_t ldc, int more)
{
	const __mmask16 mask[2] = {lanes16(n), lanes16(n - 16)};
	__m512 acc[MR][2];
	int p = 0;

	UNROLL for (int r = 0; r < M; r++)
	{
		UNROLL for (int j = 0; j < W; j++)
		{
			acc[r][j] = more ? load16(FR_F32, mask[j], c, (size_t)r * ldc + (size_t)(16 * j))
					 : _mm512_setzero_ps();
		}
	}
	for (; p + LINE / T <= k; p += LINE / T) {
		if (ahead)
			UNROLL for (int r = 0; r < M; r++)
			{
				_mm_prefetch((const char *)(a + ahead + (size_t)r * lda + (size_t)(p * T)),
					     _MM_HINT_T0);
			}
		for (int q = p; q < p + LINE / T; q++)
			pair_step(M, W, T, a + q * T, lda, b + (size_t)q * NR, acc);
	}
	for (; p < k; p++)
		pair_step(M, W, T, a + p * T, lda, b + (size_t)p * NR, acc);
	UNROLL for (int r = 0; r < M; r++)
	{
		UNROLL for (int j = 0; j < W; j++)
		{
			_mm512_mask_storeu_ps(c + (size_t)r * ldc + 16 * j, mask[j], acc[r][j]);
		}
	}
}

/* pairs_T_M: T terms, M rows, one register wide where 16 columns or fewer are wanted. */
#define PAIRS(T, M)                                                                                                    \
	static void pairs_##T##_##M(int n, int k, const float *a, size_t lda, size_t ahead, const float *b, float *c,  \
				    size_t ldc, int more)                                                              \
	{                                                                                                              \
		if (n > 16)                                                                                            \
			pair_rows(M, 2, T, n, k, a, lda, ahead, b, c, ldc, more);                                      \
		else                                                                                                   \
			pair_rows(M, 1, T, n, k, a, lda, ahead, b, c, ldc, more);                                      \
	}
/* pairs_T: the entry of ukr.h. */
#define PAIRS_ALL(T)                                                                                                   \
	PAIRS(T, 1)                                                                                                    \
	PAIRS(T, 2)                                                                                                    \
	PAIRS(T, 3)                                                                                                    \
	PAIRS(T, 4)                                                                                                    \
	PAIRS(T, 5)                                                                                                    \
	PAIRS(T, 6)                                                                                                    \
	PAIRS(T, 7)                                                                                                    \
	PAIRS(T, 8)                                                                                                    \
	PAIRS(T, 9)                                                                                                    \
	PAIRS(T, 10)                                                                                                   \
	PAIRS(T, 11)                                                                                                   \
	PAIRS(T, 12)                                                                                                   \
	PAIRS(T, 13)                                                                                                   \
	PAIRS(T, 14)                                                                                                   \
	static void pairs_##T(int m, int n, int k, const float *a, size_t lda, size_t ahead, const float *b, float *c, \
			      size_t ldc, int more)                                                                    \
	{                                                                                                              \
		static void (*const rows[MR])(int, int, const float *, size_t, size_t, const float *, float *, size_t, \
					      int) = {pairs_##T##_1,  pairs_##T##_2,  pairs_##T##_3,  pairs_##T##_4,   \
						      pairs_##T##_5,  pairs_##T##_6,  pairs_##T##_7,  pairs_##T##_8,   \
						      pairs_##T##_9,  pairs_##T##_10, pairs_##T##_11, pairs_##T##_12,  \
						      pairs_##T##_13, pairs_##T##_14};                                 \
                                                                                                                       \
		rows[m - 1](n, k, a, lda, ahead, b, c, ldc, more);                                                     \
	}
PAIRS_ALL(1)
PAIRS_ALL(2)

/* ---- panels ---------------------------------------------------------------------------------------------------- */

/* Elements i.. of p, 32 or the first n, as sixteen pairs; float32 rounded. */
INLINE __m512i pairs32(const enum fr_dtype dtype, int n, const void *p, size_t i)
{
	if (dtype == FR_F32)
		return round32(load16(FR_F32, lanes16(n), p, i), load16(FR_F32, lanes16(n - 16), p, i + 16));
	return _mm512_maskz_loadu_epi16(n < 32 ? (1u << n) - 1 : 0xffffffffu, (const uint16_t *)p + i);
}

/* A cache line of sixteen rows at a time, whole, so that it does not matter if lines of so many rows push each other
 * out of L1. */
INLINE void pack_columns(const enum fr_dtype dtype, int n, int k, const void *w, size_t ldw, float *b)
{
	for (int first = 0; first < NR; first += 16)
		for (int i = 0; i < k; i += 32) {
			int words = k - i < 32 ? (k - i + 1) / 2 : 16;
			__m512i v[16];

			UNROLL for (int r = 0; r < 16; r++)
			{
				v[r] = first + r < n ? pairs32(dtype, k - i, w, (size_t)(first + r) * ldw + (size_t)i)
						     : _mm512_setzero_si512();
			}
			transpose16(v);
			UNROLL for (int p = 0; p < 16; p++)
			{
				if (p < words)
					_mm512_storeu_si512(b + (i / 2 + p) * NR + first, v[p]);
			}
		}
}

static void pack_pairs(int n, int k, const void *w, size_t ldw, float *b)
{
	pack_columns(FR_BF16, n, k, w, ldw, b);
}

static void pack_pairs_f32(int n, int k, const void *w, size_t ldw, float *b)
{
	pack_columns(FR_F32, n, k, w, ldw, b);
}

static void pack_rows_pairs(int n, int k, const void *w, size_t ldw, float *b)
{
	const __m512i at = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
	const __m512i mix = _mm512_or_si512(at, _mm512_slli_epi32(_mm512_add_epi32(at, _mm512_set1_epi32(16)), 16));

	for (int i = 0; i < k; i += 2, b += NR)
		for (int j = 0; j < NR; j += 16) {
			const __mmask16 m = lanes16(n - j);
			size_t first = (size_t)i * ldw + (size_t)j;
			__m512 one = load16(FR_F32, m, w, first);
			__m512 two = load16(FR_F32, i + 1 < k ? m : 0, w, first + ldw);

			_mm512_storeu_si512(b + j, _mm512_permutexvar_epi16(mix, round32(one, two)));
		}
}

static void pack_terms_1(int k, const float *x, float *dst)
{
	for (int i = 0; i < k; i += 32) {
		__m512 low = load16(FR_F32, lanes16(k - i), x, (size_t)i);
		__m512 high = load16(FR_F32, lanes16(k - i - 16), x, (size_t)i + 16);

		_mm512_mask_storeu_epi32(dst + i / 2, lanes16((k - i + 1) / 2), round32(low, high));
	}
}

static void pack_terms_2(int k, const float *x, float *dst)
{
	const __m512i mix = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);

	for (int i = 0; i < k; i += 32) {
		__m512 low = load16(FR_F32, lanes16(k - i), x, (size_t)i);
		__m512 high = load16(FR_F32, lanes16(k - i - 16), x, (size_t)i + 16);
		__m512i one = round32(low, high), two;
		int words = (k - i + 1) / 2 * 2;

		low = _mm512_sub_ps(low, widen16(_mm512_castsi512_si256(one)));
		high = _mm512_sub_ps(high, widen16(_mm512_extracti64x4_epi64(one, 1)));
		two = round32(low, high);
		_mm512_mask_storeu_epi32(dst + i, lanes16(words), _mm512_permutex2var_epi32(one, mix, two));
		_mm512_mask_storeu_epi32(
			dst + i + 16, lanes16(words - 16),
			_mm512_permutex2var_epi32(one, _mm512_add_epi32(mix, _mm512_set1_epi32(8)), two));
	}
}

void fr_ukr_avx512bf16(struct fr_ukr *u)
{
	u->gemm_pairs[0] = pairs_1;
	u->gemm_pairs[1] = pairs_2;
	u->pack_pairs = pack_pairs;
	u->pack_pairs_f32 = pack_pairs_f32;
	u->pack_rows_pairs = pack_rows_pairs;
	u->pack_terms[0] = pack_terms_1;
	u->pack_terms[1] = pack_terms_2;
	fr_ukr_avx512bf16_gemv(u);
	fr_ukr_avx512bf16_q8(u);
}
