/* The entries of ukr.h for products of q8_0 weights, for a level whose sums are 512-bit registers. Included by the
 * ukr_LEVEL_q8.c, which define before:
 *
 *   MR 6, MAX_FEW            rows of x in a tile; of mul_few
 *   x_block, w_block         a block of a row of x, and of a panel
 *   mul_block(M, W, ...)     adds one block of M rows and 16 W outputs
 *   few_rows                 all blocks of n <= 16 rows of weights as they lie, against few rows of x */

INLINE void mul_rows(const int M, const int W, int n, int blocks, const struct x_block *x, const struct w_block *w,
		     float *c, size_t ldc, int more)
{
	const __mmask16 mask[2] = {lanes16(n), lanes16(n - 16)};
	__m512 acc[MR][2];

	UNROLL for (int r = 0; r < M; r++)
	{
		UNROLL for (int j = 0; j < W; j++)
		{
			acc[r][j] = more ? load16(FR_F32, mask[j], c, (size_t)r * ldc + (size_t)(16 * j))
					 : _mm512_setzero_ps();
		}
	}
	for (int b = 0; b < blocks; b++)
		mul_block(M, W, x + b * M, w + b, acc);
	UNROLL for (int r = 0; r < M; r++)
	{
		UNROLL for (int j = 0; j < W; j++)
		{
			_mm512_mask_storeu_ps(c + (size_t)r * ldc + 16 * j, mask[j], acc[r][j]);
		}
	}
}

#define MUL(M)                                                                                                         \
	static void mul_##M(int n, int blocks, const void *x, const void *w, float *c, size_t ldc, int more)           \
	{                                                                                                              \
		if (n > 16)                                                                                            \
			mul_rows(M, 2, n, blocks, x, w, c, ldc, more);                                                 \
		else                                                                                                   \
			mul_rows(M, 1, n, blocks, x, w, c, ldc, more);                                                 \
	}
MUL(1)
MUL(2)
MUL(3)
MUL(4)
MUL(5)
MUL(6)

static void mul(int m, int n, int blocks, const void *x, const void *w, float *c, size_t ldc, int more)
{
	static void (*const rows[MR])(int, int, const void *, const void *, float *, size_t,
				      int) = {mul_1, mul_2, mul_3, mul_4, mul_5, mul_6};

	rows[m - 1](n, blocks, x, w, c, ldc, more);
}

static void mul_few(int rows, int n, int blocks, const void *x, const void *w, size_t ldw, float *c, size_t ldc)
{
	for (int j = 0; j < n; j += 16) {
		const char *at = (const char *)w + (size_t)j * ldw;
		__m512 acc[MAX_FEW];

		if (n - j >= 16)
			few_rows(rows, 16, blocks, x, at, ldw, acc);
		else
			few_rows(rows, n - j, blocks, x, at, ldw, acc);
		for (int r = 0; r < rows; r++)
			_mm512_mask_storeu_ps(c + (size_t)r * ldc + j, lanes16(n - j), acc[r]);
	}
}
