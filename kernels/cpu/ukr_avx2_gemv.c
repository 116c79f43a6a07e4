/* Decode products with AVX2: 8 of the 32 lanes in a register. */
#include "ukr_avx2.h"

typedef __m256 vec;
#define SETS 4
#define SUMS 12 /* of 16 registers; three more hold weights, one x */
#define ROWS 4
#define COLS 6
#define DEPTH 1024
#define ONE_DEPTH 1024
#define UNROLL24 _Pragma("GCC unroll 24")

/* Three of the six at a time: x comes from L2 for the first three and is in L1 for the others. */
INLINE int tile_cols(int rows)
{
	return rows == 1 ? COLS : COLS / 2;
}

INLINE vec vec_zero(void)
{
	return _mm256_setzero_ps();
}
INLINE vec vec_load(const float *p)
{
	return _mm256_loadu_ps(p);
}
INLINE vec vec_fma(vec a, vec b, vec c)
{
	return _mm256_fmadd_ps(a, b, c);
}

/* bf16 is widened two elements a word: there the sets are the even and the odd elements below 16 and those above.
 * Otherwise they are elements 0-7, 8-15, 16-23, 24-31. */
INLINE vec widen_set(enum fr_dtype dtype, const void *p, int set)
{
	static const uint32_t odd[8] __attribute__((aligned(32))) = {0xffff0000, 0xffff0000, 0xffff0000, 0xffff0000,
								     0xffff0000, 0xffff0000, 0xffff0000, 0xffff0000};
	__m256i two;

	if (dtype != FR_BF16)
		return load8(dtype, p, (size_t)(8 * set));
	two = _mm256_loadu_si256((const __m256i *)p + set / 2);
	if (set & 1) /* from memory: no register is left for the mask */
		__asm__("vpand %1, %0, %0" : "+x"(two) : "m"(*(const __m256i *)odd));
	else
		two = _mm256_slli_epi32(two, 16);
	return _mm256_castsi256_ps(two);
}

/* The element in lane i of a set. */
INLINE int set_lane(enum fr_dtype dtype, int set, int i)
{
	return dtype == FR_BF16 ? set / 2 * 16 + 2 * i + set % 2 : 8 * set + i;
}

static inline vec add_tail(enum fr_dtype dtype, int set, int n, const float *x, const void *w, vec sum)
{
	uint32_t last[32] = {0};
	int32_t taken[8];
	vec after;

	memcpy(last, w, offset_bytes(dtype, (size_t)n));
	for (int i = 0; i < 8; i++)
		taken[i] = set_lane(dtype, set, i) < n ? -1 : 0;
	after = _mm256_fmadd_ps(_mm256_loadu_ps(x), widen_set(dtype, last, set), sum);
	return _mm256_blendv_ps(sum, after, _mm256_castsi256_ps(_mm256_loadu_si256((const __m256i *)taken)));
}

INLINE void put_sets(enum fr_dtype dtype, int n, const float *x, float *to)
{
	vec v[4];

	UNROLL for (int i = 0; i < 4; i++)
	{
		v[i] = n > 8 * i ? load_upto8(FR_F32, x, (size_t)(8 * i), n - 8 * i) : _mm256_setzero_ps();
	}
	UNROLL for (int i = 0; i < 4; i += 2)
	{
		vec a = v[i], b = v[i + 1];

		if (dtype == FR_BF16) { /* even and odd ones: within halves, then the halves' middles change places */
			vec e = _mm256_shuffle_ps(a, b, 0x88), o = _mm256_shuffle_ps(a, b, 0xdd);

			a = _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(e), 0xd8));
			b = _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(o), 0xd8));
		}
		_mm256_storeu_ps(to + 8 * i, a);
		_mm256_storeu_ps(to + 8 * i + 8, b);
	}
}

/* In the order h = 16, 8, 4, 2, 1. */
INLINE float join(enum fr_dtype dtype, const vec *s, int step)
{
	vec a = _mm256_add_ps(s[0], s[2 * step]), b = _mm256_add_ps(s[step], s[3 * step]);
	__m128 e, o;

	if (dtype != FR_BF16) {
		a = _mm256_add_ps(a, b);
		e = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
		e = _mm_add_ps(e, _mm_movehl_ps(e, e));
		return _mm_cvtss_f32(_mm_add_ss(e, _mm_movehdup_ps(e)));
	}
	e = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
	o = _mm_add_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
	e = _mm_add_ps(e, _mm_movehl_ps(e, e));
	o = _mm_add_ps(o, _mm_movehl_ps(o, o));
	e = _mm_add_ss(e, _mm_movehdup_ps(e));
	return _mm_cvtss_f32(_mm_add_ss(e, _mm_add_ss(o, _mm_movehdup_ps(o))));
}

#include "ukr_gemv.h"

#define FOR_DTYPE(name, DTYPE)                                                                                         \
	PIECE(name, DTYPE, 1, 6, 2)                                                                                    \
	PIECE(name, DTYPE, 1, 1, 2)                                                                                    \
	PIECE(name, DTYPE, 1, 3, 4)                                                                                    \
	PIECE(name, DTYPE, 1, 1, 4)                                                                                    \
	PIECE(name, DTYPE, 2, 3, 2)                                                                                    \
	PIECE(name, DTYPE, 2, 1, 2)                                                                                    \
	PIECE(name, DTYPE, 3, 3, 1)                                                                                    \
	PIECE(name, DTYPE, 3, 1, 1)                                                                                    \
	PIECE(name, DTYPE, 4, 3, 1)                                                                                    \
	PIECE(name, DTYPE, 4, 1, 1)                                                                                    \
	static void pack_##name(int rows, int k, const float *x, size_t ldx, float *dst)                               \
	{                                                                                                              \
		gemv_pack(DTYPE, rows, k, x, ldx, dst);                                                                \
	}                                                                                                              \
	static void gemv_##name(int rows, int cols, int k, const float *x, const void *w, size_t ldw, float *y,        \
				size_t ldy)                                                                            \
	{                                                                                                              \
		static piece_fn *const one[] = {piece_##name##_1_6_2}, *const one_single[] = {piece_##name##_1_1_2};   \
		static piece_fn *const tiles[ROWS] = {piece_##name##_1_3_4, piece_##name##_2_3_2,                      \
						      piece_##name##_3_3_1, piece_##name##_4_3_1};                     \
		static piece_fn *const singles[ROWS] = {piece_##name##_1_1_4, piece_##name##_2_1_2,                    \
							piece_##name##_3_1_1, piece_##name##_4_1_1};                   \
                                                                                                                       \
		gemv_tiles(DTYPE, rows == 1 ? one : tiles, rows == 1 ? one_single : singles, rows, cols, k, x, w, ldw, \
			   y, ldy);                                                                                    \
	}
FOR_DTYPE(f32, FR_F32)
FOR_DTYPE(f16, FR_F16)
FOR_DTYPE(bf16, FR_BF16)

void fr_ukr_avx2_gemv(struct fr_ukr *u)
{
	u->gemv_pack[FR_F32] = pack_f32;
	u->gemv_pack[FR_F16] = pack_f16;
	u->gemv_pack[FR_BF16] = pack_bf16;
	u->gemv[FR_F32] = gemv_f32;
	u->gemv[FR_F16] = gemv_f16;
	u->gemv[FR_BF16] = gemv_bf16;
	u->gemv_cols = COLS;
}
