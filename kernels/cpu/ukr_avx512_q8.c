/* Products of q8_0 weights at the level avx512, without VNNI: int8 are widened to int16, of which pairs are multiplied
 * and added to an int32 in one go, exactly.
 *
 * A panel has, for each block, sixteen registers of two neighbouring elements of sixteen outputs, twice, then the
 * scales. */
#include "ukr_avx512_q8.h"

#define MR 6
#define NR 32
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

static void pack_x(int rows, int blocks, const float *x, size_t ldx, void *dst)
{
	struct x_block *to = dst;

	for (int b = 0; b < blocks; b++)
		for (int r = 0; r < rows; r++, to++) {
			__m512i q[2];

			to->d = quantise(x + (size_t)r * ldx + (size_t)b * FR_Q8_ITEMS, q);
			_mm256_storeu_si256((__m256i *)to->q, _mm512_cvtepi32_epi16(q[0]));
			_mm256_storeu_si256((__m256i *)to->q + 1, _mm512_cvtepi32_epi16(q[1]));
		}
}

/* v[j] pair i = elements 2j, 2j + 1 of the block at w in row i. */
INLINE void transpose_block(const char *w, size_t ldw, int n, __m512i v[PAIRS])
{
	__m512i a[8], b[8];

	UNROLL for (int i = 0; i < 8; i++) a[i] = load_two(row_of(w, ldw, n, i), row_of(w, ldw, n, i + 8));
	UNROLL for (int i = 0; i < 4; i++)
	{
		b[2 * i] = _mm512_unpacklo_epi16(a[2 * i], a[2 * i + 1]);
		b[2 * i + 1] = _mm512_unpackhi_epi16(a[2 * i], a[2 * i + 1]);
	}
	UNROLL for (int i = 0; i < 8; i += 4)
	{
		a[i] = _mm512_unpacklo_epi32(b[i], b[i + 2]);
		a[i + 1] = _mm512_unpackhi_epi32(b[i], b[i + 2]);
		a[i + 2] = _mm512_unpacklo_epi32(b[i + 1], b[i + 3]);
		a[i + 3] = _mm512_unpackhi_epi32(b[i + 1], b[i + 3]);
	}
	UNROLL for (int i = 0; i < 4; i++)
	{
		b[2 * i] = _mm512_unpacklo_epi64(a[i], a[i + 4]);
		b[2 * i + 1] = _mm512_unpackhi_epi64(a[i], a[i + 4]);
	}
	/* Quarters now: pair j of rows 0-7, pair 8 + j of them, the same of rows 8-15. */
	UNROLL for (int j = 0; j < 8; j++)
	{
		__m512i t = _mm512_shuffle_i64x2(b[j], b[j], 0xd8);

		v[j] = _mm512_cvtepi8_epi16(_mm512_castsi512_si256(t));
		v[8 + j] = _mm512_cvtepi8_epi16(_mm512_extracti64x4_epi64(t, 1));
	}
}

static void pack_w(int n, int blocks, const void *w, size_t ldw, void *dst)
{
	struct w_block *to = dst;

	for (int first = 0; first < n; first += 16)
		for (int b = 0; b < blocks; b++) {
			const char *at = (const char *)w + (size_t)first * ldw + (size_t)b * FR_Q8_BYTES;
			__m512i v[PAIRS];

			transpose_block(at, ldw, n - first, v);
			UNROLL for (int j = 0; j < PAIRS; j++) _mm512_storeu_si512(to[b].q[j][first], v[j]);
			_mm512_storeu_ps(to[b].d + first, scales16(at, ldw, n - first));
		}
}

INLINE __m512i two(const int16_t *q)
{
	int32_t v;

	memcpy(&v, q, sizeof v);
	return _mm512_set1_epi32(v);
}

/* One block of M rows and 16 W outputs. */
INLINE void mul_block(const int M, const int W, const struct x_block *x, const struct w_block *w, __m512 acc[MR][2])
{
	__m512i sum[MR][2];
	__m512 d[2];

	UNROLL for (int r = 0; r < M; r++)
	{
		UNROLL for (int j = 0; j < W; j++) sum[r][j] = _mm512_setzero_si512();
	}
	for (int p = 0; p < PAIRS; p++) { /* straight code the compiler would reorder, and run out of registers */
		__m512i col[2];

		UNROLL for (int j = 0; j < W; j++) col[j] = _mm512_loadu_si512(w->q[p][16 * j]);
		UNROLL for (int r = 0; r < M; r++)
		{
			__m512i q = two(x[r].q + 2 * p);

			UNROLL for (int j = 0; j < W; j++)
			{
				sum[r][j] = _mm512_add_epi32(sum[r][j], _mm512_madd_epi16(col[j], q));
			}
		}
	}
	UNROLL for (int j = 0; j < W; j++) d[j] = _mm512_loadu_ps(w->d + 16 * j);
	UNROLL for (int r = 0; r < M; r++)
	{
		UNROLL for (int j = 0; j < W; j++)
		{
			acc[r][j] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[r][j]),
						    _mm512_mul_ps(d[j], _mm512_set1_ps(x[r].d)), acc[r][j]);
		}
	}
}

/* ---- few rows -------------------------------------------------------------------------------------------------- */

/* Products of 64 int8 with those of x, none of which is -128, in dwords of four: |w| * (x with w's sign) as uint8 and
 * int8, two of which stay within int16. */
INLINE __m512i products(__m512i w, __m512i x)
{
	__m512i turned = _mm512_mask_sub_epi8(x, _mm512_movepi8_mask(w), _mm512_setzero_si512(), x);

	return _mm512_madd_epi16(_mm512_maddubs_epi16(_mm512_abs_epi8(w), turned), _mm512_set1_epi16(1));
}

/* The sums of a block of 16 rows of weights and one of x: products first, so that less is left to be moved. */
INLINE __m512i one_block(int n, const struct x_block *x, const char *w, size_t ldw)
{
	__m256i half = _mm512_cvtepi16_epi8(_mm512_loadu_si512(x->q));
	__m512i q = _mm512_broadcast_i64x4(half), v[8];

	UNROLL for (int i = 0; i < 8; i++)
	{
		int row = i / 4 * 8 + i % 4;

		v[i] = products(load_two(row_of(w, ldw, n, row), row_of(w, ldw, n, row + 4)), q);
	}
	UNROLL for (int i = 0; i < 4; i++)
	{
		v[i] = _mm512_add_epi32(_mm512_unpacklo_epi32(v[2 * i], v[2 * i + 1]),
					_mm512_unpackhi_epi32(v[2 * i], v[2 * i + 1]));
	}
	UNROLL for (int i = 0; i < 2; i++)
	{
		v[i] = _mm512_add_epi32(_mm512_unpacklo_epi64(v[2 * i], v[2 * i + 1]),
					_mm512_unpackhi_epi64(v[2 * i], v[2 * i + 1]));
	}
	return _mm512_add_epi32(_mm512_shuffle_i64x2(v[0], v[1], 0x88), _mm512_shuffle_i64x2(v[0], v[1], 0xdd));
}

INLINE void add_block(__m512i sum, __m512 d, const struct x_block *x, __m512 *acc)
{
	*acc = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), _mm512_mul_ps(d, _mm512_set1_ps(x->d)), *acc);
}

INLINE void some_rows(const int M, const __m512i v[PAIRS], __m512 d, const struct x_block *x, __m512 *acc)
{
	__m512i sum[FEW_ROWS];

	UNROLL for (int r = 0; r < M; r++) sum[r] = _mm512_setzero_si512();
	for (int p = 0; p < PAIRS; p++)
		UNROLL for (int r = 0; r < M; r++)
		{
			sum[r] = _mm512_add_epi32(sum[r], _mm512_madd_epi16(v[p], two(x[r].q + 2 * p)));
		}
	UNROLL for (int r = 0; r < M; r++) add_block(sum[r], d, x + r, acc + r);
}

/* n <= 16 rows of weights: acc [rows] is their sums. The 16 rows behind them are fetched meanwhile, a line of each at a
 * time. */
INLINE void few_rows(int rows, int n, int blocks, const struct x_block *x, const char *w, size_t ldw, __m512 *acc)
{
	const char *next = w + 16 * ldw;

	for (int r = 0; r < rows; r++)
		acc[r] = _mm512_setzero_ps();
	for (int b = 0, fetched = 0; b < blocks; b++, w += FR_Q8_BYTES, x += rows) {
		__m512 d = scales16(w, ldw, n);
		__m512i v[PAIRS];
		int r = 0;

		for (; fetched < (b + 1) * FR_Q8_BYTES; fetched += 64)
			UNROLL for (int i = 0; i < 16; i++)
			{
				_mm_prefetch(next + (size_t)i * ldw + (size_t)fetched, _MM_HINT_T1);
			}
		if (rows == 1) {
			add_block(one_block(n, x, w, ldw), d, x, acc);
			continue;
		}
		transpose_block(w, ldw, n, v);
		for (; r + FEW_ROWS <= rows; r += FEW_ROWS)
			some_rows(FEW_ROWS, v, d, x + r, acc + r);
		for (; r < rows; r++)
			some_rows(1, v, d, x + r, acc + r);
	}
}

#include "ukr_avx512_q8_mul.h"

void fr_ukr_avx512_q8(struct fr_ukr *u)
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
		.few_cols = 16,
		.kb = 8,
		.mc = 21 * MR,
		.nc = 4 * NR,
	};
}
