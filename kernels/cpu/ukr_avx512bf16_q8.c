/* Products of q8_0 weights at the level avx512bf16, by the int8 dot products of VNNI: four products of a uint8 and an
 * int8 are added to an int32, which never saturates here.
 *
 * The uint8 are the weights plus 128; what that adds, 128 times the sum of x's block, is what a sum starts with. A
 * panel has, for each block, eight registers of four neighbouring elements of sixteen outputs, twice, then the scales.
 */
#include "ukr_avx512bf16_q8.h"

#define MR 6
#define MAX_FEW 16
#define FLIP 0x80

static void pack_x(int rows, int blocks, const float *x, size_t ldx, void *dst)
{
	struct x_block *to = dst;

	for (int b = 0; b < blocks; b++)
		for (int r = 0; r < rows; r++, to++) {
			__m512i q[2];

			to->d = quantise(x + (size_t)r * ldx + (size_t)b * FR_Q8_ITEMS, q);
			to->start = -128 * _mm512_reduce_add_epi32(_mm512_add_epi32(q[0], q[1]));
			_mm_storeu_si128((__m128i *)to->q, _mm512_cvtepi32_epi8(q[0]));
			_mm_storeu_si128((__m128i *)to->q + 1, _mm512_cvtepi32_epi8(q[1]));
		}
}

static void pack_w(int n, int blocks, const void *w, size_t ldw, void *dst)
{
	pack_panel(FLIP, n, blocks, w, ldw, dst);
}

INLINE __m512i four(const int8_t *q)
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
		UNROLL for (int j = 0; j < W; j++) sum[r][j] = _mm512_set1_epi32(x[r].start);
	}
	UNROLL for (int s = 0; s < STEPS; s++)
	{
		__m512i col[2];

		UNROLL for (int j = 0; j < W; j++) col[j] = _mm512_loadu_si512(w->q[s][16 * j]);
		UNROLL for (int r = 0; r < M; r++)
		{
			__m512i q = four(x[r].q + 4 * s);

			UNROLL for (int j = 0; j < W; j++) sum[r][j] = _mm512_dpbusd_epi32(sum[r][j], col[j], q);
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

/* n <= 16 rows of weights: acc [rows] is their sums. The 16 rows behind them are fetched meanwhile, a line of each at a
 * time. */
INLINE void few_rows(int rows, int n, int blocks, const struct x_block *x, const char *w, size_t ldw, __m512 *acc)
{
	const char *next = w + 16 * ldw;

	for (int r = 0; r < rows; r++)
		acc[r] = _mm512_setzero_ps();
	for (int b = 0, fetched = 0; b < blocks; b++, w += FR_Q8_BYTES) {
		__m512 d = scales16(w, ldw, n);
		__m512i v[STEPS];

		for (; fetched < (b + 1) * FR_Q8_BYTES; fetched += 64)
			UNROLL for (int i = 0; i < 16; i++)
			{
				_mm_prefetch(next + (size_t)i * ldw + (size_t)fetched, _MM_HINT_T1);
			}
		transpose_block(w, ldw, n, FLIP, v);
		for (int r = 0; r < rows; r++, x++) {
			__m512i sum = _mm512_set1_epi32(x->start);

			UNROLL for (int s = 0; s < STEPS; s++) sum = _mm512_dpbusd_epi32(sum, v[s], four(x->q + 4 * s));
			acc[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), _mm512_mul_ps(d, _mm512_set1_ps(x->d)),
						 acc[r]);
		}
	}
}

#include "ukr_avx512_q8_mul.h"

void fr_ukr_avx512bf16_q8(struct fr_ukr *u)
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
		.kb = 16,
		.mc = 21 * MR,
		.nc = 4 * NR,
	};
}
