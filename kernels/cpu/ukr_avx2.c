/* The micro-kernels with AVX2, FMA and F16C: matrix products, the same sums as ukr_ref.c eight lanes at a time. */
#include "ukr_avx2.h"
#include "ukr_avx2_pack.h"

#define MR 6
#define NR 16
#define LINE 16	     /* floats of a cache line */
#define GEMV_ROWS 4  /* rows of x in a tile, with 3 of weights; a single one goes with all 6 */
#define GEMV_COLS 6  /* weight rows of a group */
#define GEMV_SUMS 12 /* registers for sums; 3 more hold weights, one x */

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

/* ---- products in 32 lanes ------------------------------------------------------------------------------------ */

/* A register holds 8 of the 32 lanes, a "set". bf16 is widened two elements per word, so there the sets are the even
 * and the odd lanes below 16 and those above; otherwise they are lanes 0-7, 8-15, 16-23, 24-31. */
INLINE int set_lane(enum fr_dtype dtype, int set, int i)
{
	return dtype == FR_BF16 ? (set & 2) * 8 + 2 * i + (set & 1) : 8 * set + i;
}

/* The elements of a set, of the 32 at p. */
INLINE __m256 load_set(enum fr_dtype dtype, const void *p, int set)
{
	__m256i two;

	if (dtype != FR_BF16)
		return load8(dtype, p, (size_t)(8 * set));
	two = _mm256_loadu_si256((const __m256i *)p + set / 2);
	/* Odd ones by two shifts: a mask would cost the register that the tile has not left. */
	if (set & 1)
		two = _mm256_srli_epi32(two, 16);
	return _mm256_castsi256_ps(_mm256_slli_epi32(two, 16));
}

/* Adds all lanes of product j of N in the order h = 16, 8, 4, 2, 1; acc is [4 sets][N]. */
INLINE float join_sets(const int N, enum fr_dtype dtype, const __m256 *acc, int j)
{
	__m256 even, odd;
	__m128 e, o;

	if (dtype != FR_BF16)
		return join_lanes(N, acc, j);
	even = _mm256_add_ps(acc[j], acc[2 * N + j]);
	odd = _mm256_add_ps(acc[N + j], acc[3 * N + j]);
	e = _mm_add_ps(_mm256_castps256_ps128(even), _mm256_extractf128_ps(even, 1));
	o = _mm_add_ps(_mm256_castps256_ps128(odd), _mm256_extractf128_ps(odd, 1));
	e = _mm_add_ps(e, _mm_movehl_ps(e, e));
	o = _mm_add_ps(o, _mm_movehl_ps(o, o));
	e = _mm_add_ss(e, _mm_movehdup_ps(e));
	return _mm_cvtss_f32(_mm_add_ss(e, _mm_add_ss(o, _mm_movehdup_ps(o))));
}

/* Elements of a block. One to three rows wait for memory, and short blocks keep all streams of weights moving; more
 * rows compute, and long ones have fewer sums to carry. No power of two, which would put the rows of a block on the
 * same cache sets. Measured on Zen 3. */
INLINE int gemv_depth(int rows)
{
	return rows == 1 ? 192 : rows < GEMV_ROWS ? 256 : 960;
}

/* Blocks of gemv_depth elements, in each row after row, in each row set after set: what a tile reads lies in one piece,
 * whatever the distance of the rows was. The last block is filled up with zeros to a multiple of 32. */
INLINE void gemv_pack(enum fr_dtype dtype, int rows, int k, const float *x, size_t ldx, float *dst)
{
	int depth = gemv_depth(rows);

	for (int from = 0; from < k; from += depth)
		for (int r = 0; r < rows; r++) {
			int n = k - from < depth ? k - from : depth;
			const float *row = x + (size_t)r * ldx + from;

			for (int set = 0; set < 4; set++)
				for (int i = 0; i < n; i += 32)
					for (int j = 0; j < 8; j++) {
						int at = i + set_lane(dtype, set, j);

						*dst++ = at < n ? row[at] : 0.0f;
					}
		}
}

/* G sets of RT x CT products over n elements, a multiple of 32, added to s. Rows of the packed x lie ldx apart. Weights
 * of 16 bits are fetched `ahead` elements before they are needed, in as many parts as there are passes. */
INLINE void gemv_pass(const int RT, const int CT, const int G, const int set, enum fr_dtype dtype, int ahead, size_t n,
		      const float *x, size_t ldx, const void *w, size_t ldw, __m256 *s)
{
	for (size_t i = 0; i < n; i += 32) {
		if (ahead && dtype != FR_F32)
			UNROLL for (int c = set / G; c < CT; c += 4 / G)
			{
				_mm_prefetch(offset(dtype, w, (size_t)c * ldw + i + (size_t)ahead), _MM_HINT_T1);
			}
		UNROLL for (int g = 0; g < G; g++)
		{
			const float *xs = x + (size_t)(set + g) * (ldx / 4);
			__m256 v[GEMV_COLS];

			UNROLL for (int c = 0; c < CT; c++)
			{
				v[c] = load_set(dtype, offset(dtype, w, (size_t)c * ldw + i), set + g);
				/* Widened here, not at its uses: all registers are taken. */
				__asm__("" : "+x"(v[c]));
			}
			UNROLL for (int r = 0; r < RT; r++)
			{
				__m256 u = _mm256_loadu_ps((const float *)((const char *)(xs + (size_t)r * ldx) + i));

				UNROLL for (int c = 0; c < CT; c++)
				{
					__m256 *sum = &s[g * RT * CT + r * CT + c];

					*sum = _mm256_fmadd_ps(u, v[c], *sum);
				}
			}
		}
	}
}

/* All sets of RT x CT products, as many at a time as there are registers; acc [4 sets][RT * CT] carries the sums on,
 * from zero in the first block. */
INLINE void gemv_tile(const int RT, const int CT, enum fr_dtype dtype, int first, int ahead, int n, const float *x,
		      int ldx, const void *w, size_t ldw, __m256 *acc)
{
	const int N = RT * CT, G = N <= GEMV_SUMS / 4 ? 4 : N <= GEMV_SUMS / 2 ? 2 : 1;

	UNROLL for (int set = 0; set < 4; set += G)
	{
		__m256 s[GEMV_SUMS];

		UNROLL for (int j = 0; j < N * G; j++) s[j] = first ? _mm256_setzero_ps() : acc[set * N + j];
		if (ahead)
			gemv_pass(RT, CT, G, set, dtype, ahead, (size_t)n, x, (size_t)ldx, w, ldw, s);
		else
			gemv_pass(RT, CT, G, set, dtype, 0, (size_t)n, x, (size_t)ldx, w, ldw, s);
		UNROLL for (int j = 0; j < N * G; j++) acc[set * N + j] = s[j];
	}
}

/* The last n < 32 elements of the same: lanes that take none keep their bits. */
INLINE void gemv_tail(const int RT, const int CT, enum fr_dtype dtype, int n, const float *x, int ldx, const void *w,
		      size_t ldw, __m256 *acc)
{
	for (int c = 0; c < CT; c++) {
		uint32_t last[32] = {0};

		memcpy(last, offset(dtype, w, (size_t)c * ldw), offset_bytes(dtype, (size_t)n));
		for (int set = 0; set < 4; set++) {
			__m256 v = load_set(dtype, last, set);
			int32_t taken[8];

			for (int i = 0; i < 8; i++)
				taken[i] = set_lane(dtype, set, i) < n ? -1 : 0;
			for (int r = 0; r < RT; r++) {
				__m256 *s = acc + set * RT * CT + r * CT + c;
				__m256 t = _mm256_fmadd_ps(_mm256_loadu_ps(x + r * ldx + set * (ldx / 4)), v, *s);
				__m256i mask = _mm256_loadu_si256((const __m256i *)taken);

				*s = _mm256_blendv_ps(*s, t, _mm256_castsi256_ps(mask));
			}
		}
	}
}

/* RT x CT products over a block of n elements. */
INLINE void gemv_block(const int RT, const int CT, enum fr_dtype dtype, int first, int ahead, int n, const float *x,
		       const void *w, size_t ldw, __m256 *acc)
{
	int whole = n / 32 * 32, padded = (n + 31) / 32 * 32;

	gemv_tile(RT, CT, dtype, first, ahead, whole, x, padded, w, ldw, acc);
	if (whole < n)
		gemv_tail(RT, CT, dtype, n - whole, x + whole / 4, padded, offset(dtype, w, (size_t)whole), ldw, acc);
}

INLINE void gemv_block_rows(int rows, const int CT, enum fr_dtype dtype, int first, int ahead, int n, const float *x,
			    const void *w, size_t ldw, __m256 *acc)
{
	if (rows == 1)
		gemv_block(1, CT, dtype, first, ahead, n, x, w, ldw, acc);
	else if (rows == 2)
		gemv_block(2, CT, dtype, first, ahead, n, x, w, ldw, acc);
	else if (rows == 3)
		gemv_block(3, CT, dtype, first, ahead, n, x, w, ldw, acc);
	else
		gemv_block(4, CT, dtype, first, ahead, n, x, w, ldw, acc);
}

/* Packed rows of x against TILES x CT rows of weights, ldw apart, block by block: a block of x stays in L1 for all the
 * tiles, one of weights for all the rows. y of a row: TILES * CT results, `step` apart. */
INLINE void gemv_group(const int TILES, const int CT, enum fr_dtype dtype, int rows, int k, const float *x,
		       const void *w, size_t ldw, float *y, size_t ldy, size_t step)
{
	__m256 acc[2][FR_MAX_GEMV_ROWS / GEMV_ROWS][4 * GEMV_SUMS];
	int depth = gemv_depth(rows);

	for (int from = 0; from < k; from += depth) {
		int n = k - from < depth ? k - from : depth, padded = (n + 31) / 32 * 32;

		for (int t = 0; t < TILES; t++)
			for (int r = 0; r < rows; r += GEMV_ROWS)
				gemv_block_rows(rows - r, CT, dtype, from == 0, r == 0 ? depth : 0, n,
						x + (size_t)from * (size_t)rows + r * padded,
						offset(dtype, w, (size_t)(t * CT) * ldw + (size_t)from), ldw,
						acc[t][r / GEMV_ROWS]);
	}
	for (int t = 0; t < TILES; t++)
		for (int r = 0; r < rows; r++) {
			int tile = rows - r / GEMV_ROWS * GEMV_ROWS < GEMV_ROWS ? rows % GEMV_ROWS : GEMV_ROWS;

			for (int c = 0; c < CT; c++)
				y[(size_t)r * ldy + (size_t)(t * CT + c) * step] =
					join_sets(tile * CT, dtype, acc[t][r / GEMV_ROWS], r % GEMV_ROWS * CT + c);
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

		if (rows == 1)
			gemv_group(1, GEMV_COLS, dtype, 1, k, x, at, step * ldw, y + c, ldy, step);
		else
			gemv_group(2, GEMV_COLS / 2, dtype, rows, k, x, at, step * ldw, y + c, ldy, step);
	}
	for (int c = groups * GEMV_COLS; c < cols; c++)
		gemv_group(1, 1, dtype, rows, k, x, offset(dtype, w, (size_t)c * ldw), ldw, y + c, ldy, 1);
}

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
		pack(NR, DTYPE, n, k, w, ldw, b);                                                                          \
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

void fr_ukr_avx2(struct fr_ukr *u)
{
	u->gemm = gemm;
	u->mr = MR;
	u->nr = NR;
	u->kc = 256;
	u->mc = 24 * MR;
	u->nc = 4 * NR;
	u->gemv_cols = GEMV_COLS;
	u->gemv_row = 0.5;
	TAKE(f32, FR_F32);
	TAKE(f16, FR_F16);
	TAKE(bf16, FR_BF16);
	fr_ukr_avx2_attn(u);
	fr_ukr_avx2_rows(u);
}
