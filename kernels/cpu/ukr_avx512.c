/* The micro-kernels with AVX-512 F, BW, DQ and VL: matrix products, the same sums as ukr_ref.c sixteen lanes at a time.
 * Twice the lanes in twice the registers: larger tiles, so fewer loads for each product. */
#include "ukr_avx512.h"
#include "ukr_avx2_pack.h"

#define MR 14
#define NR 32
#define LINE 16	     /* floats of a cache line */
#define GEMV_COLS 6  /* weight rows of a group */
#define GEMV_SUMS 24 /* registers for sums; 6 more hold weights or x */
#define GEMV_ROWS 8  /* rows of x in a tile, with 3 of weights; up to GEMV_WIDE go with all 6 */
#define GEMV_WIDE 4
#define AXPY_SUMS 8
#define UNROLL24 _Pragma("GCC unroll 24")

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

/* ---- products in 32 lanes ------------------------------------------------------------------------------------ */

/* A register holds 16 of the 32 lanes, a "set": for bf16, which is widened two elements per word, the even and the odd
 * lanes, otherwise lanes 0-15 and 16-31. */
INLINE __m512 load_set(enum fr_dtype dtype, const void *p, int set)
{
	__m512i two;

	if (dtype != FR_BF16)
		return load_all16(dtype, p, (size_t)(16 * set));
	two = _mm512_loadu_si512(p);
	return _mm512_castsi512_ps(set ? _mm512_and_si512(two, _mm512_set1_epi32((int)0xffff0000))
				       : _mm512_slli_epi32(two, 16));
}

/* The first n < 32 of the 32 lanes, as they fall on a set. */
INLINE __mmask16 set_lanes(enum fr_dtype dtype, int set, int n)
{
	return dtype == FR_BF16 ? lanes16((n + 1 - set) / 2) : lanes16(n - 16 * set);
}

/* A set of the first n < 32 elements at p, zero in the other lanes. */
INLINE __m512 load_set_part(enum fr_dtype dtype, const void *p, int set, int n)
{
	__m512i two;

	if (dtype != FR_BF16)
		return load16(dtype, lanes16(n - 16 * set), p, (size_t)(16 * set));
	two = _mm512_maskz_loadu_epi16((1u << n) - 1, p);
	return _mm512_castsi512_ps(set ? _mm512_and_si512(two, _mm512_set1_epi32((int)0xffff0000))
				       : _mm512_slli_epi32(two, 16));
}

/* Adds all lanes of a product in the order h = 16, 8, 4, 2, 1. */
INLINE float join_sets(enum fr_dtype dtype, __m512 s0, __m512 s1)
{
	__m256 even, odd;
	__m128 e, o;

	if (dtype != FR_BF16)
		return join32(s0, s1);
	even = _mm256_add_ps(_mm512_castps512_ps256(s0), _mm512_extractf32x8_ps(s0, 1));
	odd = _mm256_add_ps(_mm512_castps512_ps256(s1), _mm512_extractf32x8_ps(s1, 1));
	e = _mm_add_ps(_mm256_castps256_ps128(even), _mm256_extractf128_ps(even, 1));
	o = _mm_add_ps(_mm256_castps256_ps128(odd), _mm256_extractf128_ps(odd, 1));
	e = _mm_add_ps(e, _mm_movehl_ps(e, e));
	o = _mm_add_ps(o, _mm_movehl_ps(o, o));
	e = _mm_add_ss(e, _mm_movehdup_ps(e));
	return _mm_cvtss_f32(_mm_add_ss(e, _mm_add_ss(o, _mm_movehdup_ps(o))));
}

/* Elements of a block: one to three rows wait for memory, and short blocks keep all streams of weights moving; more
 * compute, and long blocks have fewer sums to carry. No power of two, which would put the rows of a block on the same
 * cache sets. */
INLINE int gemv_depth(int rows)
{
	return rows == 1 ? 192 : rows < 4 ? 256 : rows <= GEMV_WIDE ? 960 : 480;
}

/* 32 elements of x, or the first n, into their two sets at low and high. */
INLINE void put_sets(enum fr_dtype dtype, int n, const float *x, float *low, float *high)
{
	const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
	__m512 a = load16(FR_F32, lanes16(n), x, 0), b = load16(FR_F32, lanes16(n - 16), x, 16);

	if (dtype == FR_BF16) {
		__m512 first = a;

		a = _mm512_permutex2var_ps(first, even, b);
		b = _mm512_permutex2var_ps(first, _mm512_add_epi32(even, _mm512_set1_epi32(1)), b);
	}
	_mm512_storeu_ps(low, a);
	_mm512_storeu_ps(high, b);
}

/* Blocks of gemv_depth elements, in each row after row, in each row set after set: what a tile reads lies in one piece.
 * The last block is filled up with zeros to a multiple of 32. */
INLINE void gemv_pack(enum fr_dtype dtype, int rows, int k, const float *x, size_t ldx, float *dst)
{
	int depth = gemv_depth(rows);

	for (int from = 0; from < k; from += depth)
		for (int r = 0; r < rows; r++) {
			int n = k - from < depth ? k - from : depth, padded = (n + 31) / 32 * 32;

			for (int i = 0; i < n; i += 32)
				put_sets(dtype, n - i, x + (size_t)r * ldx + from + i, dst + i / 2,
					 dst + (padded + i) / 2);
			dst += padded;
		}
}

/* G sets of RT x CT products over n elements, a multiple of 32, added to s. Rows of the packed x lie ldx apart. Weights
 * of 16 bits are fetched `ahead` elements before they are needed, in as many parts as there are passes. */
INLINE void gemv_pass(const int RT, const int CT, const int G, const int set, enum fr_dtype dtype, int ahead, size_t n,
		      const float *x, size_t ldx, const void *w, size_t ldw, __m512 *s)
{
	for (size_t i = 0; i < n; i += 32) {
		if (ahead && dtype != FR_F32)
			UNROLL for (int c = set / G; c < CT; c += 2 / G)
			{
				_mm_prefetch(offset(dtype, w, (size_t)c * ldw + i + (size_t)ahead), _MM_HINT_T1);
			}
		UNROLL for (int g = 0; g < G; g++)
		{
			const char *xs = (const char *)(x + (size_t)(set + g) * (ldx / 2)) + 2 * i;
			/* The fewer of the two wait in registers while the others pass. */
			__m512 v[GEMV_COLS], u[GEMV_ROWS];

			if (RT < CT) {
				UNROLL for (int r = 0; r < RT; r++) u[r] = _mm512_loadu_ps(xs + (size_t)r * ldx * 4);
				UNROLL for (int c = 0; c < CT; c++)
				{
					v[0] = load_set(dtype, offset(dtype, w, (size_t)c * ldw + i), set + g);
					UNROLL for (int r = 0; r < RT; r++)
					{
						__m512 *sum = &s[g * RT * CT + r * CT + c];

						*sum = _mm512_fmadd_ps(u[r], v[0], *sum);
					}
				}
			} else {
				UNROLL for (int c = 0; c < CT; c++)
				{
					v[c] = load_set(dtype, offset(dtype, w, (size_t)c * ldw + i), set + g);
					/* Widened here, not at each of its uses. */
					__asm__("" : "+v"(v[c]));
				}
				UNROLL for (int r = 0; r < RT; r++)
				{
					u[0] = _mm512_loadu_ps(xs + (size_t)r * ldx * 4);
					UNROLL for (int c = 0; c < CT; c++)
					{
						__m512 *sum = &s[g * RT * CT + r * CT + c];

						*sum = _mm512_fmadd_ps(u[0], v[c], *sum);
					}
				}
			}
		}
	}
}

/* Both sets of RT x CT products, together if there are the registers; acc [2 sets][RT * CT] carries the sums on, from
 * zero in the first block. */
INLINE void gemv_tile(const int RT, const int CT, enum fr_dtype dtype, int first, int ahead, int n, const float *x,
		      int ldx, const void *w, size_t ldw, __m512 *acc)
{
	const int N = RT * CT, G = N <= GEMV_SUMS / 2 ? 2 : 1;

	UNROLL for (int set = 0; set < 2; set += G)
	{
		__m512 s[GEMV_SUMS];

		UNROLL24 for (int j = 0; j < N * G; j++) s[j] = first ? _mm512_setzero_ps() : acc[set * N + j];
		if (ahead)
			gemv_pass(RT, CT, G, set, dtype, ahead, (size_t)n, x, (size_t)ldx, w, ldw, s);
		else
			gemv_pass(RT, CT, G, set, dtype, 0, (size_t)n, x, (size_t)ldx, w, ldw, s);
		UNROLL24 for (int j = 0; j < N * G; j++) acc[set * N + j] = s[j];
	}
}

/* The last n < 32 elements of the same: lanes that take none keep their bits. */
INLINE void gemv_tail(const int RT, const int CT, enum fr_dtype dtype, int n, const float *x, int ldx, const void *w,
		      size_t ldw, __m512 *acc)
{
	for (int c = 0; c < CT; c++)
		for (int set = 0; set < 2; set++) {
			__m512 v = load_set_part(dtype, offset(dtype, w, (size_t)c * ldw), set, n);

			for (int r = 0; r < RT; r++) {
				__m512 *s = acc + set * RT * CT + r * CT + c;

				*s = _mm512_mask3_fmadd_ps(_mm512_loadu_ps(x + r * ldx + set * (ldx / 2)), v, *s,
							   set_lanes(dtype, set, n));
			}
		}
}

/* RT x CT products over a block of n elements. */
INLINE void gemv_block(const int RT, const int CT, enum fr_dtype dtype, int first, int ahead, int n, const float *x,
		       const void *w, size_t ldw, __m512 *acc)
{
	int whole = n / 32 * 32, padded = (n + 31) / 32 * 32;

	gemv_tile(RT, CT, dtype, first, ahead, whole, x, padded, w, ldw, acc);
	if (whole < n)
		gemv_tail(RT, CT, dtype, n - whole, x + whole / 2, padded, offset(dtype, w, (size_t)whole), ldw, acc);
}

/* With the 6 columns of a wide tile up to GEMV_WIDE rows, otherwise up to GEMV_ROWS. */
INLINE void gemv_block_rows(int rows, const int CT, enum fr_dtype dtype, int first, int ahead, int n, const float *x,
			    const void *w, size_t ldw, __m512 *acc)
{
	if (rows == 1)
		gemv_block(1, CT, dtype, first, ahead, n, x, w, ldw, acc);
	else if (rows == 2)
		gemv_block(2, CT, dtype, first, ahead, n, x, w, ldw, acc);
	else if (rows == 3)
		gemv_block(3, CT, dtype, first, ahead, n, x, w, ldw, acc);
	else if (rows == 4)
		gemv_block(4, CT, dtype, first, ahead, n, x, w, ldw, acc);
	else if (CT == GEMV_COLS)
		__builtin_unreachable();
	else if (rows == 5)
		gemv_block(5, CT, dtype, first, ahead, n, x, w, ldw, acc);
	else if (rows == 6)
		gemv_block(6, CT, dtype, first, ahead, n, x, w, ldw, acc);
	else if (rows == 7)
		gemv_block(7, CT, dtype, first, ahead, n, x, w, ldw, acc);
	else
		gemv_block(8, CT, dtype, first, ahead, n, x, w, ldw, acc);
}

/* Packed rows of x, in one tile or in two that differ by one row at most, against TILES x CT rows of weights, ldw
 * apart, block by block: a block of x stays in L1 for all the tiles, one of weights for all the rows. y of a row: TILES
 * * CT results, `step` apart. */
INLINE void gemv_group(const int TILES, const int CT, enum fr_dtype dtype, int rows, int k, const float *x,
		       const void *w, size_t ldw, float *y, size_t ldy, size_t step)
{
	__m512 acc[2][2][2 * GEMV_SUMS];
	int depth = gemv_depth(rows), part = rows > GEMV_ROWS ? (rows + 1) / 2 : rows;

	for (int from = 0; from < k; from += depth) {
		int n = k - from < depth ? k - from : depth, padded = (n + 31) / 32 * 32;

		for (int t = 0; t < TILES; t++)
			for (int r = 0; r < rows; r += part)
				gemv_block_rows(r ? rows - part : part, CT, dtype, from == 0, r == 0 ? depth : 0, n,
						x + (size_t)from * (size_t)rows + r * padded,
						offset(dtype, w, (size_t)(t * CT) * ldw + (size_t)from), ldw,
						acc[t][r > 0]);
	}
	for (int t = 0; t < TILES; t++)
		for (int r = 0; r < rows; r++) {
			const __m512 *s = acc[t][r >= part] + r % part * CT;
			int sums = (r < part ? part : rows - part) * CT;

			for (int c = 0; c < CT; c++)
				y[(size_t)r * ldy + (size_t)(t * CT + c) * step] = join_sets(dtype, s[c], s[sums + c]);
		}
}

/* Columns of a group lie a sixth of all columns apart, so that each is a stream on a page of its own. */
INLINE void gemv(enum fr_dtype dtype, int rows, int cols, int k, const float *x, const void *w, size_t ldw, float *y,
		 size_t ldy)
{
	int groups = cols / GEMV_COLS;
	size_t step = (size_t)groups;

	for (int c = 0; c < groups; c++) {
		const void *at = offset(dtype, w, (size_t)c * ldw);

		if (rows <= GEMV_WIDE)
			gemv_group(1, GEMV_COLS, dtype, rows, k, x, at, step * ldw, y + c, ldy, step);
		else
			gemv_group(2, GEMV_COLS / 2, dtype, rows, k, x, at, step * ldw, y + c, ldy, step);
	}
	for (int c = groups * GEMV_COLS; c < cols; c++)
		gemv_group(1, 1, dtype, rows, k, x, offset(dtype, w, (size_t)c * ldw), ldw, y + c, ldy, 1);
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
	static void gemv_pack_##name(int rows, int k, const float *x, size_t ldx, float *dst)                          \
	{                                                                                                              \
		gemv_pack(DTYPE, rows, k, x, ldx, dst);                                                                \
	}                                                                                                              \
	static void gemv_##name(int rows, int cols, int k, const float *x, const void *w, size_t ldw, float *y,        \
				size_t ldy)                                                                            \
	{                                                                                                              \
		gemv(DTYPE, rows, cols, k, x, w, ldw, y, ldy);                                                         \
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
		u->gemv_pack[DTYPE] = gemv_pack_##name;                                                                \
		u->gemv[DTYPE] = gemv_##name;                                                                          \
		u->axpy[DTYPE] = axpy_##name;                                                                          \
		u->widen[DTYPE] = widen_##name;                                                                        \
	} while (0)

void fr_ukr_avx512(struct fr_ukr *u)
{
	u->gemm = gemm;
	u->mr = MR;
	u->nr = NR;
	u->kc = 320;
	u->mc = 21 * MR;
	u->nc = 4 * NR;
	u->gemv_cols = GEMV_COLS;
	u->gemv_row = 0.5;
	TAKE(f32, FR_F32);
	TAKE(f16, FR_F16);
	TAKE(bf16, FR_BF16);
	fr_ukr_avx512_attn(u);
	fr_ukr_avx512_rows(u);
}
