/* Decode products with AVX-512: 16 of the 32 lanes in a register. */
#include "ukr_avx512.h"

typedef __m512 vec;
#define SETS 2
#define SUMS 24
#define ROWS 4
#define COLS 6
#define DEPTH 1024
#define ONE_DEPTH DEPTH /* one row passes once */
#define UNROLL24 _Pragma("GCC unroll 24")

INLINE int tile_cols(int rows)
{
	(void)rows;
	return COLS;
}

INLINE vec vec_zero(void)
{
	return _mm512_setzero_ps();
}
INLINE vec vec_load(const float *p)
{
	return _mm512_loadu_ps(p);
}
INLINE vec vec_fma(vec a, vec b, vec c)
{
	return _mm512_fmadd_ps(a, b, c);
}

/* Of bf16, widened two elements a word, the sets are the even and the odd ones, otherwise elements 0-15 and 16-31. */
INLINE vec widen_pairs(__m512i two, int set)
{
	return _mm512_castsi512_ps(set ? _mm512_and_si512(two, _mm512_set1_epi32((int)0xffff0000))
				       : _mm512_slli_epi32(two, 16));
}
INLINE vec widen_set(enum fr_dtype dtype, const void *p, int set)
{
	return dtype == FR_BF16 ? widen_pairs(_mm512_loadu_si512(p), set) : load_all16(dtype, p, (size_t)(16 * set));
}

static inline vec add_tail(enum fr_dtype dtype, int set, int n, const float *x, const void *w, vec sum)
{
	const __mmask16 lanes = dtype == FR_BF16 ? lanes16((n + 1 - set) / 2) : lanes16(n - 16 * set);
	vec v = dtype == FR_BF16 ? widen_pairs(_mm512_maskz_loadu_epi16((1u << n) - 1, w), set)
				 : load16(dtype, lanes, w, (size_t)(16 * set));

	return _mm512_mask3_fmadd_ps(_mm512_loadu_ps(x), v, sum, lanes);
}

INLINE void put_sets(enum fr_dtype dtype, int n, const float *x, float *to)
{
	const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
	vec a = load16(FR_F32, lanes16(n), x, 0), b = load16(FR_F32, lanes16(n - 16), x, 16);

	if (dtype == FR_BF16) {
		vec first = a;

		a = _mm512_permutex2var_ps(first, even, b);
		b = _mm512_permutex2var_ps(first, _mm512_add_epi32(even, _mm512_set1_epi32(1)), b);
	}
	_mm512_storeu_ps(to, a);
	_mm512_storeu_ps(to + 16, b);
}

/* In the order h = 16, 8, 4, 2, 1. */
INLINE float join(enum fr_dtype dtype, const vec *s, int step)
{
	__m256 even, odd;
	__m128 e, o;

	if (dtype != FR_BF16)
		return join32(s[0], s[step]);
	even = _mm256_add_ps(_mm512_castps512_ps256(s[0]), _mm512_extractf32x8_ps(s[0], 1));
	odd = _mm256_add_ps(_mm512_castps512_ps256(s[step]), _mm512_extractf32x8_ps(s[step], 1));
	e = _mm_add_ps(_mm256_castps256_ps128(even), _mm256_extractf128_ps(even, 1));
	o = _mm_add_ps(_mm256_castps256_ps128(odd), _mm256_extractf128_ps(odd, 1));
	e = _mm_add_ps(e, _mm_movehl_ps(e, e));
	o = _mm_add_ps(o, _mm_movehl_ps(o, o));
	e = _mm_add_ss(e, _mm_movehdup_ps(e));
	return _mm_cvtss_f32(_mm_add_ss(e, _mm_add_ss(o, _mm_movehdup_ps(o))));
}

#include "ukr_gemv.h"

#define FOR_DTYPE(name, DTYPE)                                                                                         \
	PIECE(name, DTYPE, 1, 6, 2)                                                                                    \
	PIECE(name, DTYPE, 2, 6, 2)                                                                                    \
	PIECE(name, DTYPE, 3, 6, 1)                                                                                    \
	PIECE(name, DTYPE, 4, 6, 1)                                                                                    \
	PIECE(name, DTYPE, 1, 1, 2)                                                                                    \
	PIECE(name, DTYPE, 2, 1, 2)                                                                                    \
	PIECE(name, DTYPE, 3, 1, 1)                                                                                    \
	PIECE(name, DTYPE, 4, 1, 1)                                                                                    \
	static void pack_##name(int rows, int k, const float *x, size_t ldx, float *dst)                               \
	{                                                                                                              \
		gemv_pack(DTYPE, rows, k, x, ldx, dst);                                                                \
	}                                                                                                              \
	static void gemv_##name(int rows, int cols, int k, const float *x, const void *w, size_t ldw, float *y,        \
				size_t ldy)                                                                            \
	{                                                                                                              \
		static piece_fn *const tiles[ROWS] = {piece_##name##_1_6_2, piece_##name##_2_6_2,                      \
						      piece_##name##_3_6_1, piece_##name##_4_6_1};                     \
		static piece_fn *const singles[ROWS] = {piece_##name##_1_1_2, piece_##name##_2_1_2,                    \
							piece_##name##_3_1_1, piece_##name##_4_1_1};                   \
                                                                                                                       \
		gemv_tiles(DTYPE, tiles, singles, rows, cols, k, x, w, ldw, y, ldy);                                   \
	}
FOR_DTYPE(f32, FR_F32)
FOR_DTYPE(f16, FR_F16)
FOR_DTYPE(bf16, FR_BF16)

void fr_ukr_avx512_gemv(struct fr_ukr *u)
{
	u->gemv_pack[FR_F32] = pack_f32;
	u->gemv_pack[FR_F16] = pack_f16;
	u->gemv_pack[FR_BF16] = pack_bf16;
	u->gemv[FR_F32] = gemv_f32;
	u->gemv[FR_F16] = gemv_f16;
	u->gemv[FR_BF16] = gemv_bf16;
	u->gemv_cols = COLS;
}
