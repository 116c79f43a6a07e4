/* The micro-kernels with AVX-512 F, BW, DQ and VL: matrix products, the same sums as ukr_ref.c sixteen lanes at a time.
 * Twice the lanes in twice the registers: larger tiles, so fewer loads for each product. */
#include "ukr_avx512.h"
#include "ukr_avx2_pack.h"

#define MR 14
#define NR 32
#define LINE 16 /* floats of a cache line */
#define AXPY_SUMS 8

/* ---- matrix product on packed panels -------------------------------------------------------------------------- */

INLINE void gemm_step(const int M, const int W, const float *a, size_t lda, const float *b, __m512 acc[MR][2])
{
	__m512 col[2];

	UNROLL for (int j = 0; j < W; j++) col[j] = _mm512_loadu_ps(b + 16 * j);
	UNROLL for (int r = 0; r < M; r++)
	{
		__m512 x = _mm512_set1_ps(a[(size_t)r * lda]);

		UNROLL for (int j = 0; j < W; j++) acc[r][j] = _mm512_fmadd_ps(x, col[j], acc[r][j]);
	}
}

/* M x 16 W sums in M W registers; W loads of b and M broadcasts of a feed M W fma. */
INLINE void gemm_rows(const int M, const int W, int n, int k, const float *a, size_t lda, size_t ahead, const float *b,
		      float *c, size_t ldc, int more)
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
	for (; p + LINE <= k; p += LINE) {
		if (ahead)
			UNROLL for (int r = 0; r < M; r++)
			{
				_mm_prefetch((const char *)(a + ahead + (size_t)r * lda + (size_t)p), _MM_HINT_T0);
			}
		for (int q = p; q < p + LINE; q++)
			gemm_step(M, W, a + q, lda, b + (size_t)q * NR, acc);
	}
	for (; p < k; p++)
		gemm_step(M, W, a + p, lda, b + (size_t)p * NR, acc);
	UNROLL for (int r = 0; r < M; r++)
	{
		UNROLL for (int j = 0; j < W; j++)
		{
			_mm512_mask_storeu_ps(c + (size_t)r * ldc + 16 * j, mask[j], acc[r][j]);
		}
	}
}

/* gemm_M: M rows, one register wide where 16 columns or fewer are wanted. */
#define GEMM(M)                                                                                                        \
	static void gemm_##M(int n, int k, const float *a, size_t lda, size_t ahead, const float *b, float *c,         \
			     size_t ldc, int more)                                                                     \
	{                                                                                                              \
		if (n > 16)                                                                                            \
			gemm_rows(M, 2, n, k, a, lda, ahead, b, c, ldc, more);                                         \
		else                                                                                                   \
			gemm_rows(M, 1, n, k, a, lda, ahead, b, c, ldc, more);                                         \
	}
GEMM(1)
GEMM(2)
GEMM(3)
GEMM(4)
GEMM(5)
GEMM(6)
GEMM(7)
GEMM(8)
GEMM(9)
GEMM(10)
GEMM(11)
GEMM(12)
GEMM(13)
GEMM(14)

static void gemm(int m, int n, int k, const float *a, size_t lda, size_t ahead, const float *b, float *c, size_t ldc,
		 int more)
{
	static void (*const rows[MR])(int, int, const float *, size_t, size_t, const float *, float *, size_t,
				      int) = {gemm_1, gemm_2, gemm_3,  gemm_4,	gemm_5,	 gemm_6,  gemm_7,
					      gemm_8, gemm_9, gemm_10, gemm_11, gemm_12, gemm_13, gemm_14};

	rows[m - 1](n, k, a, lda, ahead, b, c, ldc, more);
}

INLINE void pack_rows(enum fr_dtype dtype, int n, int k, const void *w, size_t ldw, float *b)
{
	const __mmask16 low = lanes16(n), high = lanes16(n - 16);

	for (int i = 0; i < k; i++, b += NR) {
		_mm512_storeu_ps(b, load16(dtype, low, w, (size_t)i * ldw));
		_mm512_storeu_ps(b + 16, load16(dtype, high, w, (size_t)i * ldw + 16));
	}
}

/* ---- sums of rows, widening ------------------------------------------------------------------------------------ */

/* o[0..16 * N) += p[j] * v[j, 0..16 * N) in order of j; of the last 16 only those in `last`. */
INLINE void axpy_cols(const int N, enum fr_dtype dtype, __mmask16 last, int n, const float *p, const void *v,
		      size_t ldv, float *o)
{
	__m512 acc[AXPY_SUMS];

	UNROLL for (int i = 0; i < N; i++)
	{
		acc[i] = i < N - 1 ? _mm512_loadu_ps(o + 16 * i) : _mm512_maskz_loadu_ps(last, o + 16 * i);
	}
	for (int j = 0; j < n; j++) {
		__m512 x = _mm512_set1_ps(p[j]);

		UNROLL for (int i = 0; i < N; i++)
		{
			size_t at = (size_t)j * ldv + (size_t)(16 * i);

			acc[i] = _mm512_fmadd_ps(x, i < N - 1 ? load_all16(dtype, v, at) : load16(dtype, last, v, at),
						 acc[i]);
		}
	}
	UNROLL for (int i = 0; i < N; i++) _mm512_mask_storeu_ps(o + 16 * i, i < N - 1 ? 0xffff : last, acc[i]);
}

INLINE void axpy(enum fr_dtype dtype, int n, int dim, const float *p, const void *v, size_t ldv, float *o)
{
	int d = 0;

	for (; d + 128 <= dim; d += 128)
		axpy_cols(8, dtype, 0xffff, n, p, offset(dtype, v, (size_t)d), ldv, o + d);
	for (; d + 64 <= dim; d += 64)
		axpy_cols(4, dtype, 0xffff, n, p, offset(dtype, v, (size_t)d), ldv, o + d);
	for (; d < dim; d += 16)
		axpy_cols(1, dtype, lanes16(dim - d), n, p, offset(dtype, v, (size_t)d), ldv, o + d);
}

INLINE void widen(enum fr_dtype dtype, int n, const void *src, float *dst)
{
	int i = 0;

	for (; i + 16 <= n; i += 16)
		_mm512_storeu_ps(dst + i, load_all16(dtype, src, (size_t)i));
	_mm512_mask_storeu_ps(dst + i, lanes16(n - i), load16(dtype, lanes16(n - i), src, (size_t)i));
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

void fr_ukr_avx512(struct fr_ukr *u)
{
	u->gemm = gemm;
	u->mr = MR;
	u->nr = NR;
	u->kc = 448;
	u->mc = 14 * MR;
	u->nc = 4 * NR;
	u->gemv_row = 0.5;
	TAKE(f32, FR_F32);
	TAKE(f16, FR_F16);
	TAKE(bf16, FR_BF16);
	fr_ukr_avx512_gemv(u);
	fr_ukr_avx512_attn(u);
	fr_ukr_avx512_rows(u);
	fr_ukr_avx512_q8(u);
}
