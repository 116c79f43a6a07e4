/* Products of q8_0 weights with AVX2: int8 are widened to int16, of which pairs are multiplied and added to an int32 in
 * one go, exactly.
 *
 * A panel has, for each block, sixteen steps of two neighbouring elements of sixteen outputs, then the scales. */
#include "ukr_avx2.h"
#include "../q8.h"

#define MR 4
#define NR 16
#define MAX_FEW 16
#define FEW_ROWS 4 /* of x, for one pass over a block of weights */
#define PAIRS (FR_Q8_ITEMS / 2)

struct x_block {
	float d;
	int16_t q[FR_Q8_ITEMS];
};
struct w_block {
	int16_t q[PAIRS][NR][2];
	float d[NR];
};

/* fr_q8_quantise: returns the scale, q as int16 in two registers. */
INLINE float quantise(const float *x, __m256i q[2])
{
	const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
	__m256i top = _mm256_setzero_si256(), v[4];
	__m128i t;
	float inverse, d;

	UNROLL for (int i = 0; i < 4; i++)
	{
		v[i] = _mm256_loadu_si256((const __m256i *)(x + 8 * i));
		top = _mm256_max_epu32(top, _mm256_and_si256(v[i], magnitude));
	}
	t = _mm_max_epu32(_mm256_castsi256_si128(top), _mm256_extracti128_si256(top, 1));
	t = _mm_max_epu32(t, _mm_unpackhi_epi64(t, t));
	t = _mm_max_epu32(t, _mm_shuffle_epi32(t, 1));
	d = fr_q8_scale((uint32_t)_mm_cvtsi128_si32(t), &inverse);
	q[0] = q[1] = _mm256_setzero_si256();
	if (inverse == 0)
		return d;
	UNROLL for (int i = 0; i < 4; i++)
	{
		v[i] = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_castsi256_ps(v[i]), _mm256_set1_ps(inverse)));
	}
	/* Packing takes quarters of both in turn. */
	q[0] = _mm256_permute4x64_epi64(_mm256_packs_epi32(v[0], v[1]), 0xd8);
	q[1] = _mm256_permute4x64_epi64(_mm256_packs_epi32(v[2], v[3]), 0xd8);
	return d;
}

static void pack_x(int rows, int blocks, const float *x, size_t ldx, void *dst)
{
	struct x_block *to = dst;

	for (int b = 0; b < blocks; b++)
		for (int r = 0; r < rows; r++, to++) {
			__m256i q[2];

			to->d = quantise(x + (size_t)r * ldx + (size_t)b * FR_Q8_ITEMS, q);
			_mm256_storeu_si256((__m256i *)to->q, q[0]);
			_mm256_storeu_si256((__m256i *)to->q + 1, q[1]);
		}
}

/* Row i of n, ldw bytes apart; from n on the last one again, for lanes that nobody reads. */
INLINE const char *row_of(const void *w, size_t ldw, int n, int i)
{
	return (const char *)w + (size_t)(i < n ? i : n - 1) * ldw;
}

INLINE int16_t half_at(const char *p)
{
	int16_t h;

	memcpy(&h, p, sizeof h);
	return h;
}

/* The scales of the blocks at w in eight rows. */
INLINE __m256 scales8(const char *w, size_t ldw, int n)
{
#define HALF(i) half_at(row_of(w, ldw, n, i))
	return _mm256_cvtph_ps(_mm_setr_epi16(HALF(0), HALF(1), HALF(2), HALF(3), HALF(4), HALF(5), HALF(6), HALF(7)));
#undef HALF
}

INLINE __m256i load_block(const char *w, size_t ldw, int n, int i)
{
	return _mm256_loadu_si256((const __m256i *)(row_of(w, ldw, n, i) + 2));
}

/* to[j * step ..] = elements 2j, 2j + 1 of the block at w in eight rows, as int16. */
INLINE void transpose_block(const char *w, size_t ldw, int n, int16_t *to, size_t step)
{
	__m256i a[8], b[8];

	UNROLL for (int i = 0; i < 8; i++) a[i] = load_block(w, ldw, n, i);
	UNROLL for (int i = 0; i < 4; i++)
	{
		b[2 * i] = _mm256_unpacklo_epi16(a[2 * i], a[2 * i + 1]);
		b[2 * i + 1] = _mm256_unpackhi_epi16(a[2 * i], a[2 * i + 1]);
	}
	UNROLL for (int i = 0; i < 8; i += 4)
	{
		a[i] = _mm256_unpacklo_epi32(b[i], b[i + 2]);
		a[i + 1] = _mm256_unpackhi_epi32(b[i], b[i + 2]);
		a[i + 2] = _mm256_unpacklo_epi32(b[i + 1], b[i + 3]);
		a[i + 3] = _mm256_unpackhi_epi32(b[i + 1], b[i + 3]);
	}
	UNROLL for (int i = 0; i < 4; i++)
	{
		b[2 * i] = _mm256_unpacklo_epi64(a[i], a[i + 4]);
		b[2 * i + 1] = _mm256_unpackhi_epi64(a[i], a[i + 4]);
	}
	/* Halves now: pair j of the rows, pair 8 + j. */
	UNROLL for (int j = 0; j < 8; j++)
	{
		_mm256_storeu_si256((__m256i *)(to + (size_t)j * step),
				    _mm256_cvtepi8_epi16(_mm256_castsi256_si128(b[j])));
		_mm256_storeu_si256((__m256i *)(to + (size_t)(8 + j) * step),
				    _mm256_cvtepi8_epi16(_mm256_extracti128_si256(b[j], 1)));
	}
}

static void pack_w(int n, int blocks, const void *w, size_t ldw, void *dst)
{
	struct w_block *to = dst;

	for (int first = 0; first < n; first += 8)
		for (int b = 0; b < blocks; b++) {
			const char *at = (const char *)w + (size_t)first * ldw + (size_t)b * FR_Q8_BYTES;

			transpose_block(at, ldw, n - first, to[b].q[0][first], (size_t)NR * 2);
			_mm256_storeu_ps(to[b].d + first, scales8(at, ldw, n - first));
		}
}

INLINE __m256i two(const int16_t *q)
{
	int32_t v;

	memcpy(&v, q, sizeof v);
	return _mm256_set1_epi32(v);
}

/* acc += sum * (d * x's scale) */
INLINE __m256 add_block(__m256 acc, __m256i sum, __m256 d, const struct x_block *x)
{
	return _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), _mm256_mul_ps(d, _mm256_broadcast_ss(&x->d)), acc);
}

/* One block of M rows and 8 W outputs; w are the pairs of the first output, `step` apart. */
INLINE void sum_block(const int M, const int W, const struct x_block *x, const int16_t *w, size_t step,
		      __m256i sum[MR][2])
{
	UNROLL for (int r = 0; r < M; r++)
	{
		UNROLL for (int j = 0; j < W; j++) sum[r][j] = _mm256_setzero_si256();
	}
	for (int p = 0; p < PAIRS; p++, w += step) { /* straight code would be reordered, and run out of registers */
		__m256i col[2];

		UNROLL for (int j = 0; j < W; j++) col[j] = _mm256_loadu_si256((const __m256i *)(w + 16 * j));
		UNROLL for (int r = 0; r < M; r++)
		{
			__m256i q = two(x[r].q + 2 * p);

			UNROLL for (int j = 0; j < W; j++)
			{
				sum[r][j] = _mm256_add_epi32(sum[r][j], _mm256_madd_epi16(col[j], q));
			}
		}
	}
}

/* The sums in c come and go with every block: registers are for the integers. */
INLINE void mul_rows(const int M, const int W, int n, int blocks, const struct x_block *x, const struct w_block *w,
		     float *c, size_t ldc, int more)
{
	float acc[MR][NR];

	UNROLL for (int r = 0; r < M; r++)
	{
		UNROLL for (int j = 0; j < W; j++)
		{
			_mm256_storeu_ps(acc[r] + 8 * j,
					 more ? load_upto8(FR_F32, c, (size_t)r * ldc + (size_t)(8 * j), n - 8 * j)
					      : _mm256_setzero_ps());
		}
	}
	for (int b = 0; b < blocks; b++, x += M, w++) {
		__m256i sum[MR][2];

		sum_block(M, W, x, w->q[0][0], (size_t)NR * 2, sum);
		UNROLL for (int r = 0; r < M; r++)
		{
			UNROLL for (int j = 0; j < W; j++)
			{
				float *at = acc[r] + 8 * j;

				_mm256_storeu_ps(at, add_block(_mm256_loadu_ps(at), sum[r][j],
							       _mm256_loadu_ps(w->d + 8 * j), x + r));
			}
		}
	}
	UNROLL for (int r = 0; r < M; r++)
	{
		UNROLL for (int j = 0; j < W; j++)
		{
			store_upto8(c + (size_t)r * ldc + 8 * j, n - 8 * j, _mm256_loadu_ps(acc[r] + 8 * j));
		}
	}
}

#define MUL(M)                                                                                                         \
	static void mul_##M(int n, int blocks, const void *x, const void *w, float *c, size_t ldc, int more)           \
	{                                                                                                              \
		if (n > 8)                                                                                             \
			mul_rows(M, 2, n, blocks, x, w, c, ldc, more);                                                 \
		else                                                                                                   \
			mul_rows(M, 1, n, blocks, x, w, c, ldc, more);                                                 \
	}
MUL(1)
MUL(2)
MUL(3)
MUL(4)

static void mul(int m, int n, int blocks, const void *x, const void *w, float *c, size_t ldc, int more)
{
	static void (*const rows[MR])(int, int, const void *, const void *, float *, size_t, int) = {mul_1, mul_2,
												     mul_3, mul_4};

	rows[m - 1](n, blocks, x, w, c, ldc, more);
}

/* ---- few rows -------------------------------------------------------------------------------------------------- */

/* The sums of a block of eight rows of weights and one of x: products first, so that less is left to be moved. An int8
 * of weights as |w| times x with w's sign, which is not -128: two products stay within int16. */
INLINE __m256i one_block(int n, const struct x_block *x, const char *w, size_t ldw)
{
	__m256i q = _mm256_packs_epi16(_mm256_loadu_si256((const __m256i *)x->q),
				       _mm256_loadu_si256((const __m256i *)x->q + 1));
	__m256i v[8];

	q = _mm256_permute4x64_epi64(q, 0xd8);
	UNROLL for (int i = 0; i < 8; i++)
	{
		__m256i row = load_block(w, ldw, n, i);
		__m256i two_each = _mm256_maddubs_epi16(_mm256_abs_epi8(row), _mm256_sign_epi8(q, row));

		v[i] = _mm256_madd_epi16(two_each, _mm256_set1_epi16(1));
	}
	UNROLL for (int i = 0; i < 4; i++)
	{
		v[i] = _mm256_add_epi32(_mm256_unpacklo_epi32(v[2 * i], v[2 * i + 1]),
					_mm256_unpackhi_epi32(v[2 * i], v[2 * i + 1]));
	}
	UNROLL for (int i = 0; i < 2; i++)
	{
		v[i] = _mm256_add_epi32(_mm256_unpacklo_epi64(v[2 * i], v[2 * i + 1]),
					_mm256_unpackhi_epi64(v[2 * i], v[2 * i + 1]));
	}
	return _mm256_add_epi32(_mm256_permute2x128_si256(v[0], v[1], 0x20),
				_mm256_permute2x128_si256(v[0], v[1], 0x31));
}

INLINE void some_rows(const int M, const int16_t *v, __m256 d, const struct x_block *x, __m256 *acc)
{
	__m256i sum[MR][2];

	sum_block(M, 1, x, v, 16, sum);
	UNROLL for (int r = 0; r < M; r++) acc[r] = add_block(acc[r], sum[r][0], d, x + r);
}

/* n <= 8 rows of weights: acc [rows] is their sums. The 8 rows behind them are fetched meanwhile, a line of each at a
 * time. */
INLINE void few_rows(int rows, int n, int blocks, const struct x_block *x, const char *w, size_t ldw, __m256 *acc)
{
	const char *next = w + 8 * ldw;
	int16_t v[PAIRS * 16];

	for (int r = 0; r < rows; r++)
		acc[r] = _mm256_setzero_ps();
	for (int b = 0, fetched = 0; b < blocks; b++, w += FR_Q8_BYTES, x += rows) {
		__m256 d = scales8(w, ldw, n);
		int r = 0;

		for (; fetched < (b + 1) * FR_Q8_BYTES; fetched += 64)
			UNROLL for (int i = 0; i < 8; i++)
			{
				_mm_prefetch(next + (size_t)i * ldw + (size_t)fetched, _MM_HINT_T1);
			}
		if (rows == 1) {
			acc[0] = add_block(acc[0], one_block(n, x, w, ldw), d, x);
			continue;
		}
		transpose_block(w, ldw, n, v, 16);
		for (; r + FEW_ROWS <= rows; r += FEW_ROWS)
			some_rows(FEW_ROWS, v, d, x + r, acc + r);
		for (; r < rows; r++)
			some_rows(1, v, d, x + r, acc + r);
	}
}

static void mul_few(int rows, int n, int blocks, const void *x, const void *w, size_t ldw, float *c, size_t ldc)
{
	for (int j = 0; j < n; j += 8) {
		const char *at = (const char *)w + (size_t)j * ldw;
		__m256 acc[MAX_FEW];

		if (n - j >= 8)
			few_rows(rows, 8, blocks, x, at, ldw, acc);
		else
			few_rows(rows, n - j, blocks, x, at, ldw, acc);
		for (int r = 0; r < rows; r++)
			store_upto8(c + (size_t)r * ldc + j, n - j, acc[r]);
	}
}

void fr_ukr_avx2_q8(struct fr_ukr *u)
{
	u->q8 = (struct fr_q8_ukr){
		.pack_x = pack_x,
		.pack_w = pack_w,
		.mul = mul,
		.mul_few = mul_few,
		.x_bytes = sizeof(struct x_block),
		.w_bytes = sizeof(struct w_block),
		.mr = MR,
		.nr = NR,
		.few = MAX_FEW,
		.few_cols = 8,
		.kb = 16,
		.mc = 30 * MR,
		.nc = 8 * NR,
	};
}
