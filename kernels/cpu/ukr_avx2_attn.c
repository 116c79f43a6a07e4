/* Attention of decode steps with AVX2: a query against the keys of a chunk, and their values, as they lie in the cache.
 * Two keys share each load of the query. */
#include "ukr_avx2.h"

#define KEYS 2
#define SUMS 8 /* registers of sums over values */

/* The 32 lanes of KEYS products, in 4 registers each; dim is a multiple of 8. */
INLINE void add_keys(enum fr_dtype dtype, int dim, const float *q, const void *const *k, __m256 acc[4][KEYS])
{
	UNROLL for (int set = 0; set < 4; set++)
	{
		UNROLL for (int c = 0; c < KEYS; c++) acc[set][c] = _mm256_setzero_ps();
	}
	for (int i = 0; i + 32 <= dim; i += 32)
		UNROLL for (int set = 0; set < 4; set++)
		{
			__m256 x = _mm256_loadu_ps(q + i + 8 * set);

			UNROLL for (int c = 0; c < KEYS; c++)
			{
				acc[set][c] =
					_mm256_fmadd_ps(x, load8(dtype, k[c], (size_t)(i + 8 * set)), acc[set][c]);
			}
		}
	for (int i = dim / 32 * 32, set = 0; i < dim; i += 8, set++) {
		__m256 x = _mm256_loadu_ps(q + i);

		for (int c = 0; c < KEYS; c++)
			acc[set][c] = _mm256_fmadd_ps(x, load8(dtype, k[c], (size_t)i), acc[set][c]);
	}
}

INLINE void dots(enum fr_dtype dtype, int n, int dim, const float *q, const void *k, size_t ldk, struct fr_ahead next,
		 float *s)
{
	const int share = share_of(next, n);

	for (int j = 0; j < n; j += KEYS) {
		const int some = n - j < KEYS ? n - j : KEYS;
		const void *at[KEYS] = {offset(dtype, k, (size_t)j * ldk),
					offset(dtype, k, (size_t)(j + some - 1) * ldk)};
		__m256 acc[4][KEYS];

		fetch_some(&next, KEYS * share);
		add_keys(dtype, dim, q, at, acc);
		for (int c = 0; c < some; c++)
			s[j + c] = join_lanes(KEYS, acc[0], c);
	}
}

/* o[0..8 * N) += p[j] * v[j, 0..8 * N) in order of j. */
INLINE void sum_cols(const int N, enum fr_dtype dtype, int n, const float *p, const void *v, size_t ldv,
		     struct fr_ahead next, float *o)
{
	const int share = share_of(next, n);
	__m256 acc[SUMS];

	UNROLL for (int i = 0; i < N; i++) acc[i] = _mm256_loadu_ps(o + 8 * i);
	for (int j = 0; j < n; j++) {
		__m256 x = _mm256_broadcast_ss(p + j);

		fetch_some(&next, share);
		UNROLL for (int i = 0; i < N; i++)
		{
			acc[i] = _mm256_fmadd_ps(x, load8(dtype, v, (size_t)j * ldv + (size_t)(8 * i)), acc[i]);
		}
	}
	UNROLL for (int i = 0; i < N; i++) _mm256_storeu_ps(o + 8 * i, acc[i]);
}

INLINE void sum(enum fr_dtype dtype, int n, int dim, const float *p, const void *v, size_t ldv, struct fr_ahead next,
		float *o)
{
	int d = 0;

	for (; d + 64 <= dim; d += 64, next.lines = 0)
		sum_cols(8, dtype, n, p, offset(dtype, v, (size_t)d), ldv, next, o + d);
	for (; d < dim; d += 8, next.lines = 0)
		sum_cols(1, dtype, n, p, offset(dtype, v, (size_t)d), ldv, next, o + d);
}

#define FOR_DTYPE(name, DTYPE)                                                                                         \
	static void dots_##name(int n, int dim, const float *q, const void *k, size_t ldk, struct fr_ahead next,       \
				float *s)                                                                              \
	{                                                                                                              \
		dots(DTYPE, n, dim, q, k, ldk, next, s);                                                               \
	}                                                                                                              \
	static void sum_##name(int n, int dim, const float *p, const void *v, size_t ldv, struct fr_ahead next,        \
			       float *o)                                                                               \
	{                                                                                                              \
		sum(DTYPE, n, dim, p, v, ldv, next, o);                                                                \
	}
FOR_DTYPE(f32, FR_F32)
FOR_DTYPE(f16, FR_F16)

void fr_ukr_avx2_attn(struct fr_ukr *u)
{
	u->dots[FR_F32] = dots_f32;
	u->dots[FR_F16] = dots_f16;
	u->sum[FR_F32] = sum_f32;
	u->sum[FR_F16] = sum_f16;
}
