/* Products of q8_0 weights in plain C: the sums of kernels/q8.h on tiles and panels. The tile is small and odd, so that
 * tests with these exercise every edge of the driver. */
#include "ukr.h"
#include "../q8.h"

#define MR 3
#define NR 5

static void pack_x(int rows, int blocks, const float *x, size_t ldx, void *dst)
{
	struct fr_q8_x *to = dst;

	for (int b = 0; b < blocks; b++)
		for (int r = 0; r < rows; r++)
			*to++ = fr_q8_quantise(x + (size_t)r * ldx + (size_t)b * FR_Q8_ITEMS);
}

static void pack_w(int n, int blocks, const void *w, size_t ldw, void *dst)
{
	for (int b = 0; b < blocks; b++)
		for (int j = 0; j < n; j++)
			memcpy((char *)dst + (size_t)(b * NR + j) * FR_Q8_BYTES,
			       (const char *)w + (size_t)j * ldw + (size_t)b * FR_Q8_BYTES, FR_Q8_BYTES);
}

/* Blocks of output j lie at w + j * ldw + b * step. */
static void multiply(int m, int n, int blocks, const struct fr_q8_x *x, const char *w, size_t ldw, size_t step,
		     float *c, size_t ldc, int more)
{
	for (int i = 0; i < m; i++)
		for (int j = 0; j < n; j++) {
			float *to = &c[(size_t)i * ldc + (size_t)j], acc = more ? *to : 0;

			for (int b = 0; b < blocks; b++)
				acc = fr_q8_add(acc, x + b * m + i, w + (size_t)j * ldw + (size_t)b * step);
			*to = acc;
		}
}

static void mul(int m, int n, int blocks, const void *x, const void *w, float *c, size_t ldc, int more)
{
	multiply(m, n, blocks, x, w, FR_Q8_BYTES, (size_t)NR * FR_Q8_BYTES, c, ldc, more);
}

static void mul_few(int rows, int n, int blocks, const void *x, const void *w, size_t ldw, float *c, size_t ldc)
{
	multiply(rows, n, blocks, x, w, ldw, FR_Q8_BYTES, c, ldc, 0);
}

void fr_ukr_ref_q8(struct fr_ukr *u)
{
	u->q8 = (struct fr_q8_ukr){
		.pack_x = pack_x,
		.pack_w = pack_w,
		.mul = mul,
		.mul_few = mul_few,
		.x_bytes = sizeof(struct fr_q8_x),
		.w_bytes = (size_t)NR * FR_Q8_BYTES,
		.mr = MR,
		.nr = NR,
		.few = 2,
		.few_cols = 2,
		.kb = 3,
		.mc = 4 * MR,
		.nc = 3 * NR,
	};
}
