/* The micro-kernels with AVX2, FMA and F16C: matrix products, the same sums as ukr_ref.c eight lanes at a time. */
#include "ukr_avx2.h"
#include "ukr_avx2_pack.h"

#define MR 6
#define NR 16
#define LINE 16 /* floats of a cache line */

/* ---- matrix product on packed panels -------------------------------------------------------------------------- */

INLINE void gemm_step(const int M, const float *a, size_t lda, const float *b, __m256 acc[MR][2])
{
	__m256 b0 = _mm256_loadu_ps(b), b1 = _mm256_loadu_ps(b + 8);

	UNROLL for (int r = 0; r < M; r++)
	{
		__m256 x = _mm256_broadcast_ss(a + (size_t)r * lda);

		acc[r][0] = _mm256_fmadd_ps(x, b0, acc[r][0]);
		acc[r][1] = _mm256_fmadd_ps(x, b1, acc[r][1]);
	}
}

/* M x 16 sums in 2 M registers; two loads of b and M broadcasts of a feed 2 M fma. */
INLINE void gemm_rows(const int M, int n, int k, const float *a, size_t lda, size_t ahead, const float *b, float *c,
		      size_t ldc, int more)
{
	__m256 acc[MR][2];
	int p = 0;

	UNROLL for (int r = 0; r < M; r++)
	{
		acc[r][0] = acc[r][1] = _mm256_setzero_ps();
		if (more) {
			acc[r][0] = load_upto8(FR_F32, c, (size_t)r * ldc, n);
			acc[r][1] = n > 8 ? load_upto8(FR_F32, c, (size_t)r * ldc + 8, n - 8) : acc[r][1];
		}
	}
	for (; p + LINE <= k; p += LINE) {
		if (ahead)
			UNROLL for (int r = 0; r < M; r++)
			{
				_mm_prefetch((const char *)(a + ahead + (size_t)r * lda + (size_t)p), _MM_HINT_T0);
			}
		for (int q = p; q < p + LINE; q++)
			gemm_step(M, a + q, lda, b + (size_t)q * NR, acc);
	}
	for (; p < k; p++)
		gemm_step(M, a + p, lda, b + (size_t)p * NR, acc);
	UNROLL for (int r = 0; r < M; r++)
	{
		store_upto8(c + (size_t)r * ldc, n, acc[r][0]);
		if (n > 8)
			store_upto8(c + (size_t)r * ldc + 8, n - 8, acc[r][1]);
	}
}

static void gemm(int m, int n, int k, const float *a, size_t lda, size_t ahead, const float *b, float *c, size_t ldc,
		 int more)
{
	switch (m) {
	case 1:
		gemm_rows(1, n, k, a, lda, ahead, b, c, ldc, more);
		break;
	case 2:
		gemm_rows(2, n, k, a, lda, ahead, b, c, ldc, more);
		break;
	case 3:
		gemm_rows(3, n, k, a, lda, ahead, b, c, ldc, more);
		break;
	case 4:
		gemm_rows(4, n, k, a, lda, ahead, b, c, ldc, more);
		break;
	case 5:
		gemm_rows(5, n, k, a, lda, ahead, b, c, ldc, more);
		break;
	default:
		gemm_rows(6, n, k, a, lda, ahead, b, c, ldc, more);
	}
}

INLINE void pack_rows(enum fr_dtype dtype, int n, int k, const void *w, size_t ldw, float *b)
{
	for (int i = 0; i < k; i++, b += NR) {
		_mm256_storeu_ps(b, load_upto8(dtype, w, (size_t)i * ldw, n));
		_mm256_storeu_ps(b + 8, n > 8 ? load_upto8(dtype, w, (size_t)i * ldw + 8, n - 8) : _mm256_setzero_ps());
	}
}

/* ---- sums of rows, widening ------------------------------------------------------------------------------------ */

/* o[0..8 * N) += p[j] * v[j, 0..8 * N) in order of j. */
INLINE void axpy_cols(const int N, enum fr_dtype dtype, int n, const float *p, const void *v, size_t ldv, float *o)
{
	__m256 acc[8];

	UNROLL for (int i = 0; i < N; i++) acc[i] = _mm256_loadu_ps(o + 8 * i);
	for (int j = 0; j < n; j++) {
		__m256 x = _mm256_broadcast_ss(p + j);

		UNROLL for (int i = 0; i < N; i++)
		{
			acc[i] = _mm256_fmadd_ps(x, load8(dtype, v, (size_t)j * ldv + (size_t)(8 * i)), acc[i]);
		}
	}
	UNROLL for (int i = 0; i < N; i++) _mm256_storeu_ps(o + 8 * i, acc[i]);
}

INLINE void axpy(enum fr_dtype dtype, int n, int dim, const float *p, const void *v, size_t ldv, float *o)
{
	int d = 0;

	for (; d + 64 <= dim; d += 64)
		axpy_cols(8, dtype, n, p, offset(dtype, v, (size_t)d), ldv, o + d);
	for (; d < dim; d += 8)
		axpy_cols(1, dtype, n, p, offset(dtype, v, (size_t)d), ldv, o + d);
}

INLINE void widen(enum fr_dtype dtype, int n, const void *src, float *dst)
{
	for (int i = 0; i < n; i += 8)
		store_upto8(dst + i, n - i, load_upto8(dtype, src, (size_t)i, n - i));
}

#define FOR_DTYPE(name, DTYPE)                                                                                         \
	static void pack_##name(int n, int k, const void *w, size_t ldw, float *b)                                     \
	{                                                                                                              \
		pack(NR, DTYPE, n, k, w, ldw, b);                                                                      \
	}                                                                                                              \
	static void pack_rows_##name(int n, int k, const void *w, size_t ldw, float *b)                                \
	{                                                                                                              \
		pack_rows(DTYPE, n, k, w, ldw, b);                                                                     \
	}                                                                                                              \
	static void axpy_##name(int n, int dim, const float *p, const void *v, size_t ldv, float *o)                   \
	{                                                                                                              \
		axpy(DTYPE, n, dim, p, v, ldv, o);                                                                     \
	}                                                                                                              \
	static void widen_##name(int n, const void *src, float *dst)                                                   \
	{                                                                                                              \
		widen(DTYPE, n, src, dst);                                                                             \
	}
FOR_DTYPE(f32, FR_F32)
FOR_DTYPE(f16, FR_F16)
FOR_DTYPE(bf16, FR_BF16)
#define TAKE(name, DTYPE)                                                                                              \
	do {                                                                                                           \
		u->pack[DTYPE] = pack_##name;                                                                          \
		u->pack_rows[DTYPE] = pack_rows_##name;                                                                \
		u->axpy[DTYPE] = axpy_##name;                                                                          \
		u->widen[DTYPE] = widen_##name;                                                                        \
	} while (0)

void fr_ukr_avx2(struct fr_ukr *u)
{
	u->gemm = gemm;
	u->mr = MR;
	u->nr = NR;
	u->kc = 256;
	u->mc = 24 * MR;
	u->nc = 4 * NR;
	u->gemv_row = 0.5;
	TAKE(f32, FR_F32);
	TAKE(f16, FR_F16);
	TAKE(bf16, FR_BF16);
	fr_ukr_avx2_gemv(u);
	fr_ukr_avx2_attn(u);
	fr_ukr_avx2_rows(u);
	fr_ukr_avx2_q8(u);
}
