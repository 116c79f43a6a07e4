/* Attention of decode steps with AVX-512: a query against the keys of a chunk, and their values, as they lie in the
 * cache. The query stays in registers where it fits (64 and 128 wide heads); sixteen keys' lanes are added together. */
#include "ukr_avx512.h"

#define BATCH 16
#define HALVES 8 /* registers of a query: half the 32 lanes each */
#define SUMS 8	 /* registers of sums over values */

/* Lane i and lane i + 16 of q k: the first addition of a lane sum. dim = 32 STEPS. */
INLINE __m512 key_lanes(const int STEPS, enum fr_dtype dtype, const __m512 *q, const void *k)
{
	__m512 low = _mm512_setzero_ps(), high = low;

	UNROLL for (int i = 0; i < STEPS; i++)
	{
		low = _mm512_fmadd_ps(q[2 * i], load_all16(dtype, k, (size_t)(32 * i)), low);
		high = _mm512_fmadd_ps(q[2 * i + 1], load_all16(dtype, k, (size_t)(32 * i + 16)), high);
	}
	return _mm512_add_ps(low, high);
}

/* The same for any dim: lanes that take no element keep their bits. */
static inline __m512 key_lanes_any(enum fr_dtype dtype, int dim, const float *q, const void *k)
{
	__m512 low = _mm512_setzero_ps(), high = low;

	for (int i = 0; i < dim; i += 32) {
		__mmask16 m0 = lanes16(dim - i), m1 = lanes16(dim - i - 16);

		low = _mm512_mask3_fmadd_ps(load16(FR_F32, m0, q, (size_t)i), load16(dtype, m0, k, (size_t)i), low, m0);
		high = _mm512_mask3_fmadd_ps(load16(FR_F32, m1, q, (size_t)i + 16),
					     load16(dtype, m1, k, (size_t)i + 16), high, m1);
	}
	return _mm512_add_ps(low, high);
}

/* STEPS 0: any dim. */
INLINE void dots_steps(const int STEPS, enum fr_dtype dtype, int n, int dim, const float *q, const void *k, size_t ldk,
		       struct fr_ahead next, float *s)
{
	const int share = share_of(next, n);
	__m512 query[HALVES], lanes[BATCH];

	UNROLL for (int i = 0; i < 2 * STEPS; i++) query[i] = _mm512_loadu_ps(q + 16 * i);
	for (int j = 0; j < n; j += BATCH) {
		UNROLL for (int i = 0; i < BATCH; i++)
		{
			/* Beyond the last key it is the last again. */
			const void *at = offset(dtype, k, (size_t)(j + i < n ? j + i : n - 1) * ldk);

			fetch_some(&next, share);
			lanes[i] = STEPS ? key_lanes(STEPS, dtype, query, at) : key_lanes_any(dtype, dim, q, at);
		}
		_mm512_mask_storeu_ps(s + j, lanes16(n - j), join_lanes16(BATCH, lanes));
	}
}

INLINE void dots(enum fr_dtype dtype, int n, int dim, const float *q, const void *k, size_t ldk, struct fr_ahead next,
		 float *s)
{
	if (dim == 128)
		dots_steps(4, dtype, n, dim, q, k, ldk, next, s);
	else if (dim == 64)
		dots_steps(2, dtype, n, dim, q, k, ldk, next, s);
	else
		dots_steps(0, dtype, n, dim, q, k, ldk, next, s);
}

/* o[0..16 * N) += p[j] * v[j, 0..16 * N) in order of j; of the last 16 only those in `last`. */
INLINE void sum_cols(const int N, enum fr_dtype dtype, __mmask16 last, int n, const float *p, const void *v, size_t ldv,
		     struct fr_ahead next, float *o)
{
	const int share = share_of(next, n);
	__m512 acc[SUMS];

	UNROLL for (int i = 0; i < N; i++)
	{
		acc[i] = i < N - 1 ? _mm512_loadu_ps(o + 16 * i) : _mm512_maskz_loadu_ps(last, o + 16 * i);
	}
	for (int j = 0; j < n; j++) {
		__m512 x = _mm512_set1_ps(p[j]);

		fetch_some(&next, share);
		UNROLL for (int i = 0; i < N; i++)
		{
			size_t at = (size_t)j * ldv + (size_t)(16 * i);

			acc[i] = _mm512_fmadd_ps(x, i < N - 1 ? load_all16(dtype, v, at) : load16(dtype, last, v, at),
						 acc[i]);
		}
	}
	UNROLL for (int i = 0; i < N; i++) _mm512_mask_storeu_ps(o + 16 * i, i < N - 1 ? 0xffff : last, acc[i]);
}

INLINE void sum(enum fr_dtype dtype, int n, int dim, const float *p, const void *v, size_t ldv, struct fr_ahead next,
		float *o)
{
	int d = 0;

	for (; d + 128 <= dim; d += 128, next.lines = 0)
		sum_cols(8, dtype, 0xffff, n, p, offset(dtype, v, (size_t)d), ldv, next, o + d);
	for (; d + 64 <= dim; d += 64, next.lines = 0)
		sum_cols(4, dtype, 0xffff, n, p, offset(dtype, v, (size_t)d), ldv, next, o + d);
	for (; d < dim; d += 16, next.lines = 0)
		sum_cols(1, dtype, lanes16(dim - d), n, p, offset(dtype, v, (size_t)d), ldv, next, o + d);
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

void fr_ukr_avx512_attn(struct fr_ukr *u)
{
	u->dots[FR_F32] = dots_f32;
	u->dots[FR_F16] = dots_f16;
	u->sum[FR_F32] = sum_f32;
	u->sum[FR_F16] = sum_f16;
}
