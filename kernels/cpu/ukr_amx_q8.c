/* Products of q8_0 weights at the level amx: tdpbssd makes 256 sums of a block, 16 rows of x by 16 outputs, at once.
 *
 * A block fills half of a tile's depth, because its sums are scaled before those of the next are added; they pass
 * through memory on the way from the tiles to the vectors. x and few rows are the level below's, panels too, but that
 * their bytes are signed. */
#include "ukr_avx512bf16_q8.h"

#define MR 16

#define barrier() __asm__ volatile("" ::: "memory") /* ukr_amx.c says why */

struct config {
	uint8_t palette, start_row, reserved[14];
	uint16_t row_bytes[16];
	uint8_t rows[16];
} __attribute__((aligned(64)));

/* Tiles 0 and 1 are sums of m rows of x, 2 and 3 those rows, 4 and 5 weights: of blocks in turn. */
static void configure(int m)
{
	const uint8_t rows = (uint8_t)m;
	const struct config config = {
		.palette = 1,
		.row_bytes = {64, 64, FR_Q8_ITEMS, FR_Q8_ITEMS, 64, 64},
		.rows = {rows, rows, rows, rows, STEPS, STEPS},
	};

	barrier();
	_tile_loadconfig(&config);
	barrier();
}

static void pack_w(int n, int blocks, const void *w, size_t ldw, void *dst)
{
	pack_panel(0, n, blocks, w, ldw, dst);
}

/* sum [m][16] = the products of a block, by the tiles C, A and B. */
#define SUM_BLOCK(C, A, B, x, w, sum)                                                                                  \
	do {                                                                                                           \
		_tile_zero(C);                                                                                         \
		_tile_loadd(A, (x)->q, sizeof *(x));                                                                   \
		_tile_loadd(B, w, (size_t)NR * 4);                                                                     \
		_tile_dpbssd(C, A, B);                                                                                 \
		_tile_stored(C, sum, 64);                                                                              \
	} while (0)

INLINE void add_block(int m, const struct x_block *x, const float *d, const int32_t sum[MR][16], __m512 acc[MR])
{
	const __m512 scale = _mm512_loadu_ps(d);

	UNROLL for (int r = 0; r < MR; r++)
	{
		if (r < m)
			acc[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_load_si512(sum[r])),
						 _mm512_mul_ps(scale, _mm512_set1_ps(x[r].d)), acc[r]);
	}
}

/* m rows of x and n <= 16 outputs from `first` of the panel on. */
INLINE void mul_half(int m, int n, int blocks, const struct x_block *x, const struct w_block *w, int first, float *c,
		     size_t ldc, int more)
{
	int32_t sum[2][MR][16] __attribute__((aligned(64)));
	const __mmask16 mask = lanes16(n);
	__m512 acc[MR];
	int b = 0;

	UNROLL for (int r = 0; r < MR; r++)
	{
		acc[r] = more && r < m ? load16(FR_F32, mask, c, (size_t)r * ldc) : _mm512_setzero_ps();
	}
	for (; b + 1 < blocks; b += 2) {
		SUM_BLOCK(0, 2, 4, x + b * m, w[b].q[0][first], sum[0]);
		SUM_BLOCK(1, 3, 5, x + (b + 1) * m, w[b + 1].q[0][first], sum[1]);
		barrier();
		add_block(m, x + b * m, w[b].d + first, (const int32_t(*)[16])sum[0], acc);
		add_block(m, x + (b + 1) * m, w[b + 1].d + first, (const int32_t(*)[16])sum[1], acc);
		barrier();
	}
	if (b < blocks) {
		SUM_BLOCK(0, 2, 4, x + b * m, w[b].q[0][first], sum[0]);
		barrier();
		add_block(m, x + b * m, w[b].d + first, (const int32_t(*)[16])sum[0], acc);
	}
	UNROLL for (int r = 0; r < MR; r++)
	{
		if (r < m)
			_mm512_mask_storeu_ps(c + (size_t)r * ldc, mask, acc[r]);
	}
}

static void mul(int m, int n, int blocks, const void *x, const void *w, float *c, size_t ldc, int more)
{
	configure(m);
	for (int j = 0; j < n; j += 16) {
		if (m == MR)
			mul_half(MR, n - j, blocks, x, w, j, c + j, ldc, more);
		else
			mul_half(m, n - j, blocks, x, w, j, c + j, ldc, more);
	}
	_tile_release();
}

void fr_ukr_amx_q8(struct fr_ukr *u)
{
	u->q8.pack_w = pack_w;
	u->q8.mul = mul;
	u->q8.mr = MR;
	u->q8.mc = 8 * MR;
}
