/* The micro-kernels with AVX2, FMA and F16C: the same sums as ukr_ref.c, eight lanes at a time.
 *
 * Arguments called M, RT, CT and `dtype` of the inline functions are constants at every call, so that each use becomes
 * its own straight code with its sums in registers. Tails go through masks or a small buffer: nothing is read or
 * written beyond what the table's comments name, and lanes that take no element keep their bits. */
#include "ukr.h"
#include "../math.h"

#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")
#define MR 6
#define NR 16
#define LINE 16	    /* floats of a cache line */
#define GEMV_ROWS 4 /* 4 x 3 sums, 3 weights and a row of x: 16 registers */
#define GEMV_COLS 3
#define GEMV_TILES 2

/* ---- eight elements of any type ------------------------------------------------------------------------------- */

/* All ones in lanes 0..n-1, n <= 8. */
INLINE __m256i first_lanes(int n)
{
	return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

INLINE size_t offset_bytes(enum fr_dtype dtype, size_t i)
{
	return i * (dtype == FR_F32 ? 4 : 2);
}

INLINE const void *offset(enum fr_dtype dtype, const void *p, size_t i)
{
	return (const char *)p + offset_bytes(dtype, i);
}

INLINE __m256 load8(enum fr_dtype dtype, const void *p, size_t i)
{
	const void *at = offset(dtype, p, i);

	if (dtype == FR_F32)
		return _mm256_loadu_ps(at);
	if (dtype == FR_F16)
		return _mm256_cvtph_ps(_mm_loadu_si128(at));
	return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(at)), 16));
}

/* The first n < 8 of them, zero in the other lanes. */
INLINE __m256 load_part(enum fr_dtype dtype, const void *p, size_t i, int n)
{
	uint16_t half[8] = {0};

	if (dtype == FR_F32)
		return _mm256_maskload_ps(offset(dtype, p, i), first_lanes(n));
	memcpy(half, offset(dtype, p, i), (size_t)n * sizeof *half);
	return load8(dtype, half, 0);
}

INLINE __m256 load_upto8(enum fr_dtype dtype, const void *p, size_t i, int n)
{
	return n >= 8 ? load8(dtype, p, i) : load_part(dtype, p, i, n);
}

INLINE void store_upto8(float *p, int n, __m256 v)
{
	if (n >= 8)
		_mm256_storeu_ps(p, v);
	else
		_mm256_maskstore_ps(p, first_lanes(n), v);
}

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

/* b[i, r] = w[r, i] for 8 rows and 8 columns of float32. */
INLINE void transpose_f32(const float *w, size_t ldw, float *b)
{
	__m256 v[8], t[8];

	UNROLL for (int r = 0; r < 4; r++)
	{
		/* Rows r and r + 4 side by side: the rest happens within halves. */
		__m256 lo = _mm256_loadu_ps(w + (size_t)r * ldw), hi = _mm256_loadu_ps(w + (size_t)(r + 4) * ldw);

		v[r] = _mm256_permute2f128_ps(lo, hi, 0x20);
		v[r + 4] = _mm256_permute2f128_ps(lo, hi, 0x31);
	}
	UNROLL for (int h = 0; h < 8; h += 4)
	{
		t[h] = _mm256_unpacklo_ps(v[h], v[h + 1]);
		t[h + 1] = _mm256_unpackhi_ps(v[h], v[h + 1]);
		t[h + 2] = _mm256_unpacklo_ps(v[h + 2], v[h + 3]);
		t[h + 3] = _mm256_unpackhi_ps(v[h + 2], v[h + 3]);
		_mm256_storeu_ps(b + h * NR, _mm256_shuffle_ps(t[h], t[h + 2], 0x44));
		_mm256_storeu_ps(b + (h + 1) * NR, _mm256_shuffle_ps(t[h], t[h + 2], 0xee));
		_mm256_storeu_ps(b + (h + 2) * NR, _mm256_shuffle_ps(t[h + 1], t[h + 3], 0x44));
		_mm256_storeu_ps(b + (h + 3) * NR, _mm256_shuffle_ps(t[h + 1], t[h + 3], 0xee));
	}
}

/* Two columns of 8 rows, [column i rows 0-3, column i + 1 rows 0-3 | the same of rows 4-7], widened. */
INLINE void store_columns(enum fr_dtype dtype, __m256i z, float *b)
{
	if (dtype == FR_BF16) {
		const __m256i zero = _mm256_setzero_si256();

		_mm256_storeu_ps(b, _mm256_castsi256_ps(_mm256_unpacklo_epi16(zero, z)));
		_mm256_storeu_ps(b + NR, _mm256_castsi256_ps(_mm256_unpackhi_epi16(zero, z)));
	} else {
		z = _mm256_permute4x64_epi64(z, 0xd8);
		_mm256_storeu_ps(b, _mm256_cvtph_ps(_mm256_castsi256_si128(z)));
		_mm256_storeu_ps(b + NR, _mm256_cvtph_ps(_mm256_extracti128_si256(z, 1)));
	}
}

/* The same of a 16-bit type, transposed before it is widened. */
INLINE void transpose_16(enum fr_dtype dtype, const uint16_t *w, size_t ldw, float *b)
{
	__m256i v[4], lo[2], hi[2];

	UNROLL for (int r = 0; r < 4; r++)
	{
		__m128i top = _mm_loadu_si128((const __m128i *)(w + (size_t)r * ldw));
		__m128i low = _mm_loadu_si128((const __m128i *)(w + (size_t)(r + 4) * ldw));

		v[r] = _mm256_inserti128_si256(_mm256_castsi128_si256(top), low, 1);
	}
	UNROLL for (int h = 0; h < 2; h++)
	{
		lo[h] = _mm256_unpacklo_epi16(v[2 * h], v[2 * h + 1]);
		hi[h] = _mm256_unpackhi_epi16(v[2 * h], v[2 * h + 1]);
	}
	store_columns(dtype, _mm256_unpacklo_epi32(lo[0], lo[1]), b);
	store_columns(dtype, _mm256_unpackhi_epi32(lo[0], lo[1]), b + 2 * NR);
	store_columns(dtype, _mm256_unpacklo_epi32(hi[0], hi[1]), b + 4 * NR);
	store_columns(dtype, _mm256_unpackhi_epi32(hi[0], hi[1]), b + 6 * NR);
}

INLINE void transpose(enum fr_dtype dtype, const void *w, size_t ldw, float *b)
{
	if (dtype == FR_F32)
		transpose_f32(w, ldw, b);
	else
		transpose_16(dtype, w, ldw, b);
}

/* A block at an edge, n rows of k elements: through a copy with zeros around it. */
INLINE void transpose_edge(enum fr_dtype dtype, int n, int k, const void *w, size_t ldw, float *b)
{
	float in[8 * 8] = {0}, out[8 * NR];

	for (int r = 0; r < n; r++)
		memcpy((char *)in + offset_bytes(dtype, (size_t)r * 8), offset(dtype, w, (size_t)r * ldw),
		       offset_bytes(dtype, (size_t)k));
	transpose(dtype, in, 8, out);
	for (int i = 0; i < k; i++)
		memcpy(b + i * NR, out + i * NR, 8 * sizeof *b);
}

/* Eight rows at a time: more, a power of two apart, would push each other out of L1 between their columns. */
INLINE void pack(enum fr_dtype dtype, int n, int k, const void *w, size_t ldw, float *b)
{
	for (int half = 0; half < NR; half += 8)
		for (int i = 0; i < k; i += 8) {
			int rows = n - half < 8 ? n - half : 8, cols = k - i < 8 ? k - i : 8;
			const void *at = rows > 0 ? offset(dtype, w, (size_t)half * ldw + (size_t)i) : w;

			if (rows == 8 && cols == 8)
				transpose(dtype, at, ldw, b + i * NR + half);
			else
				transpose_edge(dtype, rows, cols, at, ldw, b + i * NR + half);
		}
}

INLINE void pack_rows(enum fr_dtype dtype, int n, int k, const void *w, size_t ldw, float *b)
{
	for (int i = 0; i < k; i++, b += NR) {
		_mm256_storeu_ps(b, load_upto8(dtype, w, (size_t)i * ldw, n));
		_mm256_storeu_ps(b + 8, n > 8 ? load_upto8(dtype, w, (size_t)i * ldw + 8, n - 8) : _mm256_setzero_ps());
	}
}

/* ---- sums in 32 lanes ------------------------------------------------------------------------------------------ */

/* Sums of N products: element i of product j is in lane i mod 8 of acc[i / 8 mod 4][j]. Adds the lanes of product j in
 * the order h = 16, 8, 4, 2, 1. */
INLINE float join_lanes(const int N, const __m256 *acc, int j)
{
	__m256 s = _mm256_add_ps(_mm256_add_ps(acc[j], acc[2 * N + j]), _mm256_add_ps(acc[N + j], acc[3 * N + j]));
	__m128 q = _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));

	q = _mm_add_ps(q, _mm_movehl_ps(q, q));
	return _mm_cvtss_f32(_mm_add_ss(q, _mm_movehdup_ps(q)));
}

/* Lanes that take no element keep their bits: adding a zero product would turn -0 into +0. */
INLINE __m256 keep_rest(__m256 before, __m256 after, int n)
{
	return n >= 8 ? after : _mm256_blendv_ps(before, after, _mm256_castsi256_ps(first_lanes(n)));
}

/* Adds the last elements, from..k, of RT x CT products; from is a multiple of 32. */
INLINE void gemv_tail(const int RT, const int CT, enum fr_dtype dtype, int from, int k, const float *x, size_t ldx,
		      const void *w, size_t ldw, __m256 *acc)
{
	for (; from < k; from += 8, acc += RT * CT)
		for (int c = 0; c < CT; c++) {
			__m256 v = load_upto8(dtype, w, (size_t)c * ldw + (size_t)from, k - from);

			for (int r = 0; r < RT; r++) {
				__m256 u = load_upto8(FR_F32, x, (size_t)r * ldx + (size_t)from, k - from);
				__m256 *s = acc + r * CT + c;

				*s = keep_rest(*s, _mm256_fmadd_ps(u, v, *s), k - from);
			}
		}
}

/* One row of x against CT rows of weights that stream by: all lanes of each in registers. */
INLINE void gemv_one(const int CT, enum fr_dtype dtype, int k, const float *x, const void *w, size_t ldw, float *y)
{
	__m256 acc[4 * GEMV_COLS];
	int i = 0;

	UNROLL for (int j = 0; j < 4 * CT; j++) acc[j] = _mm256_setzero_ps();
	for (; i + 32 <= k; i += 32)
		UNROLL for (int g = 0; g < 4; g++)
		{
			__m256 u = _mm256_loadu_ps(x + i + 8 * g);

			UNROLL for (int c = 0; c < CT; c++)
			{
				__m256 v = load8(dtype, w, (size_t)c * ldw + (size_t)(i + 8 * g));

				acc[g * CT + c] = _mm256_fmadd_ps(u, v, acc[g * CT + c]);
			}
		}
	gemv_tail(1, CT, dtype, i, k, x, 0, w, ldw, acc);
	for (int c = 0; c < CT; c++)
		y[c] = join_lanes(CT, acc, c);
}

/* RT x CT products over elements from..to, multiples of 32, one register of lanes after the other: RT * CT sums stay
 * in registers and acc carries them from block to block. */
INLINE void gemv_tile(const int RT, const int CT, enum fr_dtype dtype, int from, int to, const float *x, size_t ldx,
		      const void *w, size_t ldw, __m256 *acc)
{
	for (int g = 0; g < 4; g++, acc += RT * CT) {
		__m256 s[GEMV_ROWS * GEMV_COLS];

		UNROLL for (int j = 0; j < RT * CT; j++) s[j] = acc[j];
		for (int i = from + 8 * g; i < to; i += 32) {
			__m256 v[GEMV_COLS];

			UNROLL for (int c = 0; c < CT; c++) v[c] = load8(dtype, w, (size_t)c * ldw + (size_t)i);
			UNROLL for (int r = 0; r < RT; r++)
			{
				__m256 u = _mm256_loadu_ps(x + (size_t)r * ldx + (size_t)i);

				UNROLL for (int c = 0; c < CT; c++)
				{
					s[r * CT + c] = _mm256_fmadd_ps(u, v[c], s[r * CT + c]);
				}
			}
		}
		UNROLL for (int j = 0; j < RT * CT; j++) acc[j] = s[j];
	}
}

INLINE void gemv_tile_rows(int rows, const int CT, enum fr_dtype dtype, int from, int to, const float *x, size_t ldx,
			   const void *w, size_t ldw, __m256 *acc)
{
	switch (rows) {
	case 1:
		gemv_tile(1, CT, dtype, from, to, x, ldx, w, ldw, acc);
		break;
	case 2:
		gemv_tile(2, CT, dtype, from, to, x, ldx, w, ldw, acc);
		break;
	case 3:
		gemv_tile(3, CT, dtype, from, to, x, ldx, w, ldw, acc);
		break;
	default:
		gemv_tile(4, CT, dtype, from, to, x, ldx, w, ldw, acc);
	}
}

/* Rows of x against TILES tiles of CT rows of weights, in blocks of k: a block of x stays in L1 for all the tiles, one
 * of weights for all the rows. */
INLINE void gemv_group(const int TILES, const int CT, enum fr_dtype dtype, int rows, int k, const float *x, size_t ldx,
		       const void *w, size_t ldw, float *y, size_t ldy)
{
	__m256 acc[GEMV_TILES][FR_MAX_GEMV_ROWS / GEMV_ROWS][4 * GEMV_ROWS * GEMV_COLS];
	int block = rows > 8 ? 256 : 512, whole = k / 32 * 32;

	memset(acc, 0, (size_t)TILES * sizeof acc[0]);
	for (int from = 0; from < whole; from += block) {
		int to = from + block < whole ? from + block : whole;

		for (int t = 0; t < TILES; t++)
			for (int r = 0; r < rows; r += GEMV_ROWS)
				gemv_tile_rows(rows - r, CT, dtype, from, to, x + (size_t)r * ldx, ldx,
					       offset(dtype, w, (size_t)(t * CT) * ldw), ldw, acc[t][r / GEMV_ROWS]);
	}
	for (int t = 0; t < TILES; t++)
		for (int r = 0; r < rows; r += GEMV_ROWS) {
			int n = rows - r < GEMV_ROWS ? rows - r : GEMV_ROWS;
			__m256 *s = acc[t][r / GEMV_ROWS];

			gemv_tail(n, CT, dtype, whole, k, x + (size_t)r * ldx, ldx,
				  offset(dtype, w, (size_t)(t * CT) * ldw), ldw, s);
			for (int i = 0; i < n; i++)
				for (int c = 0; c < CT; c++)
					y[(size_t)(r + i) * ldy + (size_t)(t * CT + c)] =
						join_lanes(n * CT, s, i * CT + c);
		}
}

INLINE void gemv(enum fr_dtype dtype, int rows, int cols, int k, const float *x, size_t ldx, const void *w, size_t ldw,
		 float *y, size_t ldy)
{
	int c = 0;

	if (rows == 1) {
		for (; c + 2 <= cols; c += 2)
			gemv_one(2, dtype, k, x, offset(dtype, w, (size_t)c * ldw), ldw, y + c);
		if (c < cols)
			gemv_one(1, dtype, k, x, offset(dtype, w, (size_t)c * ldw), ldw, y + c);
		return;
	}
	for (; c + GEMV_TILES * GEMV_COLS <= cols; c += GEMV_TILES * GEMV_COLS)
		gemv_group(GEMV_TILES, GEMV_COLS, dtype, rows, k, x, ldx, offset(dtype, w, (size_t)c * ldw), ldw, y + c,
			   ldy);
	for (; c < cols; c++)
		gemv_group(1, 1, dtype, rows, k, x, ldx, offset(dtype, w, (size_t)c * ldw), ldw, y + c, ldy);
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
		pack(DTYPE, n, k, w, ldw, b);                                                                          \
	}                                                                                                              \
	static void pack_rows_##name(int n, int k, const void *w, size_t ldw, float *b)                                \
	{                                                                                                              \
		pack_rows(DTYPE, n, k, w, ldw, b);                                                                     \
	}                                                                                                              \
	static void gemv_##name(int rows, int cols, int k, const float *x, size_t ldx, const void *w, size_t ldw,      \
				float *y, size_t ldy)                                                                  \
	{                                                                                                              \
		gemv(DTYPE, rows, cols, k, x, ldx, w, ldw, y, ldy);                                                    \
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
		u->gemv[DTYPE] = gemv_##name;                                                                          \
		u->axpy[DTYPE] = axpy_##name;                                                                          \
		u->widen[DTYPE] = widen_##name;                                                                        \
	} while (0)

/* ---- kernels/math.h, eight at a time ---------------------------------------------------------------------------- */

INLINE __m256 exp8(__m256 x)
{
	const __m256i bias = _mm256_set1_epi32(127);
	__m256 t = _mm256_fmadd_ps(x, _mm256_set1_ps(FR_EXP_LOG2E), _mm256_set1_ps(FR_EXP_ROUND));
	__m256 n = _mm256_sub_ps(t, _mm256_set1_ps(FR_EXP_ROUND));
	__m256i i = _mm256_sub_epi32(_mm256_castps_si256(t), _mm256_set1_epi32((int)FR_EXP_ROUND_BITS));
	__m256i h = _mm256_srai_epi32(i, 1);
	__m256 lo = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(h, bias), 23));
	__m256 hi = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(i, h), bias), 23));
	__m256 r = _mm256_fmadd_ps(n, _mm256_set1_ps(-FR_EXP_LN2_HI), x);
	__m256 q, p, y;

	r = _mm256_fmadd_ps(n, _mm256_set1_ps(-FR_EXP_LN2_LO), r);
	q = _mm256_fmadd_ps(_mm256_set1_ps(FR_EXP_6), r, _mm256_set1_ps(FR_EXP_5));
	q = _mm256_fmadd_ps(q, r, _mm256_set1_ps(FR_EXP_4));
	q = _mm256_fmadd_ps(q, r, _mm256_set1_ps(FR_EXP_3));
	q = _mm256_fmadd_ps(q, r, _mm256_set1_ps(FR_EXP_2));
	p = _mm256_add_ps(_mm256_fmadd_ps(_mm256_mul_ps(r, r), q, r), _mm256_set1_ps(1.0f));
	y = _mm256_mul_ps(_mm256_mul_ps(p, lo), hi);
	y = _mm256_blendv_ps(y, _mm256_setzero_ps(), _mm256_cmp_ps(x, _mm256_set1_ps(FR_EXP_LO), _CMP_LT_OQ));
	return _mm256_blendv_ps(y, _mm256_set1_ps(INFINITY), _mm256_cmp_ps(x, _mm256_set1_ps(FR_EXP_HI), _CMP_GT_OQ));
}

INLINE __m256 negate8(__m256 x)
{
	return _mm256_xor_ps(x, _mm256_set1_ps(-0.0f));
}

INLINE __m256 sigmoid8(__m256 x)
{
	const __m256 one = _mm256_set1_ps(1.0f);

	return _mm256_div_ps(one, _mm256_add_ps(one, exp8(negate8(x))));
}

INLINE __m256 erf8(__m256 x)
{
	static const float near[6] = {FR_ERF_NEAR_5, FR_ERF_NEAR_4, FR_ERF_NEAR_3,
				      FR_ERF_NEAR_2, FR_ERF_NEAR_1, FR_ERF_NEAR_0};
	static const float far[7] = {FR_ERF_FAR_6, FR_ERF_FAR_5, FR_ERF_FAR_4, FR_ERF_FAR_3,
				     FR_ERF_FAR_2, FR_ERF_FAR_1, FR_ERF_FAR_0};
	const __m256 top = _mm256_set1_ps(FR_ERF_TOP);
	__m256 sign = _mm256_and_ps(x, _mm256_set1_ps(-0.0f)), a = _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x);
	__m256 z = _mm256_mul_ps(a, a), p = _mm256_set1_ps(FR_ERF_NEAR_6);
	__m256 b = _mm256_blendv_ps(a, top, _mm256_cmp_ps(a, top, _CMP_GT_OQ)), s = _mm256_set1_ps(FR_ERF_FAR_7);
	__m256 u, v, y;

	UNROLL for (int i = 0; i < 6; i++) p = _mm256_fmadd_ps(p, z, _mm256_set1_ps(near[i]));
	UNROLL for (int i = 0; i < 7; i++) s = _mm256_fmadd_ps(s, b, _mm256_set1_ps(far[i]));
	u = _mm256_fmadd_ps(a, p, a);
	v = _mm256_sub_ps(_mm256_set1_ps(1.0f), exp8(negate8(_mm256_fmadd_ps(b, s, b))));
	y = _mm256_blendv_ps(v, u, _mm256_cmp_ps(a, _mm256_set1_ps(FR_ERF_SPLIT), _CMP_LT_OQ));
	return _mm256_or_ps(y, sign);
}

INLINE __m256 act8(enum fr_act act, __m256 x)
{
	switch (act) {
	case FR_ACT_QUICK_GELU:
		return _mm256_mul_ps(x, sigmoid8(_mm256_mul_ps(_mm256_set1_ps(1.702f), x)));
	case FR_ACT_GELU:
		return _mm256_mul_ps(
			_mm256_mul_ps(_mm256_set1_ps(0.5f), x),
			_mm256_add_ps(_mm256_set1_ps(1.0f), erf8(_mm256_mul_ps(x, _mm256_set1_ps(0x1.6a09e6p-1f)))));
	case FR_ACT_SILU:
		return _mm256_mul_ps(x, sigmoid8(x));
	default:
		return x;
	}
}

/* ---- rows -------------------------------------------------------------------------------------------------------- */

INLINE __m256 row8(const float *p, int i, int n)
{
	return load_upto8(FR_F32, p, (size_t)i, n - i);
}

INLINE void finish_act(enum fr_act act, int n, const float *c, const float *bias, const float *scale,
		       const float *residual, float *y)
{
	for (int i = 0; i < n; i += 8) {
		__m256 v = row8(c, i, n);

		if (bias)
			v = _mm256_add_ps(v, row8(bias, i, n));
		v = act8(act, v);
		if (scale)
			v = _mm256_mul_ps(v, row8(scale, i, n));
		if (residual)
			v = _mm256_add_ps(v, row8(residual, i, n));
		store_upto8(y + i, n - i, v);
	}
}

static void finish(int n, const float *c, const float *bias, enum fr_act act, const float *scale, const float *residual,
		   float *y)
{
	if (act == FR_ACT_QUICK_GELU)
		finish_act(FR_ACT_QUICK_GELU, n, c, bias, scale, residual, y);
	else if (act == FR_ACT_GELU)
		finish_act(FR_ACT_GELU, n, c, bias, scale, residual, y);
	else if (act == FR_ACT_SILU)
		finish_act(FR_ACT_SILU, n, c, bias, scale, residual, y);
	else
		finish_act(FR_ACT_NONE, n, c, bias, scale, residual, y);
}

static void glu(int n, const float *gate, const float *up, float *y)
{
	for (int i = 0; i < n; i += 8)
		store_upto8(y + i, n - i, _mm256_mul_ps(act8(FR_ACT_SILU, row8(gate, i, n)), row8(up, i, n)));
}

/* lanesum(x), or lane(x, x) where `square`. */
INLINE float lane_total(const int square, int n, const float *x)
{
	__m256 acc[4];

	UNROLL for (int g = 0; g < 4; g++) acc[g] = _mm256_setzero_ps();
	for (int i = 0; i < n; i += 32)
		UNROLL for (int g = 0; g < 4; g++)
		{
			int left = n - i - 8 * g;

			if (left > 0) {
				__m256 v = row8(x, i + 8 * g, n);

				v = square ? _mm256_fmadd_ps(v, v, acc[g]) : _mm256_add_ps(acc[g], v);
				acc[g] = keep_rest(acc[g], v, left);
			}
		}
	return join_lanes(1, acc, 0);
}

static void norm(int dim, const float *x, const float *weight, const float *bias, float eps, float *y)
{
	__m256 inv;

	if (bias) {
		__m256 mean = _mm256_set1_ps(lane_total(0, dim, x) / (float)dim);

		for (int i = 0; i < dim; i += 8)
			store_upto8(y + i, dim - i, _mm256_sub_ps(row8(x, i, dim), mean));
		x = y;
	}
	inv = _mm256_set1_ps(1.0f / sqrtf(lane_total(1, dim, x) / (float)dim + eps));
	for (int i = 0; i < dim; i += 8) {
		__m256 v = _mm256_mul_ps(row8(x, i, dim), inv), w = row8(weight, i, dim);

		store_upto8(y + i, dim - i, bias ? _mm256_fmadd_ps(v, w, row8(bias, i, dim)) : _mm256_mul_ps(v, w));
	}
}

static void rotate(int half, float *x, const float *cos, const float *sin)
{
	for (int i = 0; i < half; i += 8) {
		__m256 a = row8(x, i, half), b = row8(x + half, i, half), c = row8(cos, i, half),
		       s = row8(sin, i, half);

		store_upto8(x + i, half - i, _mm256_fmadd_ps(a, c, negate8(_mm256_mul_ps(b, s))));
		store_upto8(x + half + i, half - i, _mm256_fmadd_ps(b, c, _mm256_mul_ps(a, s)));
	}
}

static float softmax(int n, float *s, float scale, const float *bias, float *m, float *l)
{
	__m256 top = _mm256_set1_ps(*m);
	float lane[8], highest = *m, fade;

	for (int i = 0; i < n; i += 8) {
		__m256 v = _mm256_mul_ps(row8(s, i, n), _mm256_set1_ps(scale));

		if (bias)
			v = _mm256_add_ps(v, row8(bias, i, n));
		store_upto8(s + i, n - i, v);
		top = keep_rest(top, _mm256_max_ps(v, top), n - i);
	}
	_mm256_storeu_ps(lane, top);
	for (int i = 0; i < 8; i++)
		highest = lane[i] > highest ? lane[i] : highest;
	for (int i = 0; i < n; i += 8)
		store_upto8(s + i, n - i, exp8(_mm256_sub_ps(row8(s, i, n), _mm256_set1_ps(highest))));
	fade = fr_exp(*m - highest);
	*l = fmaf(*l, fade, lane_total(0, n, s));
	*m = highest;
	return fade;
}

static void scale_by(int n, float *x, float a)
{
	for (int i = 0; i < n; i += 8)
		store_upto8(x + i, n - i, _mm256_mul_ps(row8(x, i, n), _mm256_set1_ps(a)));
}

static void divide_by(int n, float *x, float a)
{
	for (int i = 0; i < n; i += 8)
		store_upto8(x + i, n - i, _mm256_div_ps(row8(x, i, n), _mm256_set1_ps(a)));
}

static void narrow_f16(int n, const float *src, void *dst)
{
	for (int i = 0; i < n; i += 8) {
		__m128i h = _mm256_cvtps_ph(row8(src, i, n), _MM_FROUND_TO_NEAREST_INT);

		memcpy((uint16_t *)dst + i, &h, n - i < 8 ? (size_t)(n - i) * 2 : sizeof h);
	}
}

void fr_ukr_avx2(struct fr_ukr *u)
{
	u->gemm = gemm;
	u->mr = MR;
	u->nr = NR;
	u->kc = 256;
	u->mc = 24 * MR;
	u->nc = 4 * NR;
	u->gemv_cols = GEMV_TILES * GEMV_COLS;
	TAKE(f32, FR_F32);
	TAKE(f16, FR_F16);
	TAKE(bf16, FR_BF16);
	u->finish = finish;
	u->glu = glu;
	u->norm = norm;
	u->rotate = rotate;
	u->softmax = softmax;
	u->scale = scale_by;
	u->divide = divide_by;
	u->narrow[FR_F16] = narrow_f16;
}
