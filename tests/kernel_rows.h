/* The rows of the kernel check: every operation of ops.h at shapes of the models and at shapes that break kernels
 * (odd rows, ffn 688, depths that are no multiple of a vector, chunk borders of the keys, every head size). */
#ifndef FR_TEST_KERNEL_ROWS_H
#define FR_TEST_KERNEL_ROWS_H

#include "../kernels/check.h"

#define MAX_ROWS 512

#define BIAS FR_WITH_BIAS
#define SCALE FR_WITH_SCALE
#define RESIDUAL FR_WITH_RESIDUAL
#define INPLACE FR_IN_PLACE
#define STRIDED FR_STRIDED
#define MATRIX(o, p, d, M, N, K, W, A)                                                                                 \
	{                                                                                                              \
		.op = FR_CHECK_##o, .phase = FR_##p, .dtype = FR_##d, .m = M, .n = N, .k = K, .with = W,               \
		.act = FR_ACT_##A                                                                                      \
	}
#define NORM(M, K, W)                                                                                                  \
	{                                                                                                              \
		.op = FR_CHECK_NORM, .m = M, .k = K, .with = W                                                         \
	}
#define PATCH(d, I, P, N, W)                                                                                           \
	{                                                                                                              \
		.op = FR_CHECK_PATCH, .dtype = FR_##d, .image = I, .patch = P, .n = N, .with = W                       \
	}
#define EMBED(d, M, N, K)                                                                                              \
	{                                                                                                              \
		.op = FR_CHECK_EMBED, .dtype = FR_##d, .m = M, .n = N, .k = K                                          \
	}
#define CACHED(o, p, d, M, S, L, H, G, D)                                                                              \
	{                                                                                                              \
		.op = FR_CHECK_##o, .phase = FR_##p, .dtype = FR_##d, .m = M, .seqs = S, .kv_len = L, .heads = H,      \
		.kv_heads = G, .head_dim = D                                                                           \
	}
#define DENSE(M, L, H, D, W)                                                                                           \
	{                                                                                                              \
		.op = FR_CHECK_ATTN, .dtype = FR_F32, .m = M, .kv_len = L, .heads = H, .head_dim = D,                  \
		.with = FR_DENSE | (W)                                                                                 \
	}

static const struct fr_check_case fixed_rows[] = {
	/* matrix products: vision tower, projector, decoder in small; edges of every block size */
	MATRIX(LINEAR, PREFILL, BF16, 577, 96, 1024, BIAS, QUICK_GELU),
	MATRIX(LINEAR, PREFILL, F16, 577, 40, 588, BIAS | RESIDUAL | INPLACE, NONE),
	MATRIX(LINEAR, PREFILL, F32, 130, 200, 333, BIAS | SCALE | RESIDUAL, GELU),
	MATRIX(LINEAR, PREFILL, BF16, 65, 344, 688, RESIDUAL | INPLACE, NONE),
	MATRIX(LINEAR, PREFILL, F16, 33, 688, 344, 0, SILU),
	MATRIX(LINEAR, PREFILL, F32, 37, 61, 129, BIAS | SCALE | INPLACE, QUICK_GELU),
	MATRIX(LINEAR, PREFILL, BF16, 5, 40, 11008, 0, NONE),
	MATRIX(LINEAR, PREFILL, F16, 7, 24, 4099, BIAS, GELU),
	MATRIX(LINEAR, PREFILL, BF16, 3, 3001, 64, 0, NONE),
	MATRIX(LINEAR, PREFILL, BF16, 803, 41, 203, BIAS, NONE),
	MATRIX(LINEAR, PREFILL, F32, 1601, 17, 50, 0, NONE),
	MATRIX(LINEAR, PREFILL, BF16, 19, 50, 70, STRIDED, NONE),
	MATRIX(LINEAR, PREFILL, F16, 19, 50, 71, FR_ODD_WEIGHT, NONE),
	MATRIX(LINEAR, PREFILL, F32, 19, 50, 71, FR_ODD_WEIGHT | BIAS, NONE),
	MATRIX(LINEAR, PREFILL, BF16, 1, 1, 1, BIAS, NONE),
	MATRIX(LINEAR, PREFILL, F16, 2, 3, 5, 0, GELU),
	MATRIX(LINEAR, DECODE, BF16, 1, 4096, 1024, 0, NONE),
	MATRIX(LINEAR, DECODE, F16, 1, 688, 4096, RESIDUAL | INPLACE, NONE),
	MATRIX(LINEAR, DECODE, F32, 2, 1001, 1000, BIAS, SILU),
	MATRIX(LINEAR, DECODE, BF16, 4, 1003, 4099, BIAS | SCALE | RESIDUAL, GELU),
	MATRIX(LINEAR, DECODE, BF16, 16, 300, 4097, 0, NONE),
	MATRIX(LINEAR, DECODE, BF16, 17, 100, 100, 0, NONE),
	MATRIX(LINEAR, DECODE, F16, 40, 33, 1000, STRIDED, NONE),
	MATRIX(LINEAR, DECODE, BF16, 1, 37, 11008, 0, NONE),
	MATRIX(LINEAR, DECODE, BF16, 3, 37, 201, FR_ODD_WEIGHT, NONE),
	MATRIX(LINEAR, DECODE, F32, 1, 1, 1, 0, NONE),
	MATRIX(GLU, PREFILL, BF16, 70, 688, 256, 0, NONE),
	MATRIX(GLU, PREFILL, F16, 9, 100, 1111, 0, NONE),
	MATRIX(GLU, PREFILL, F32, 801, 19, 77, 0, NONE),
	MATRIX(GLU, PREFILL, BF16, 1, 50, 64, 0, NONE),
	MATRIX(GLU, DECODE, BF16, 1, 1376, 512, 0, NONE),
	MATRIX(GLU, DECODE, F16, 3, 688, 333, 0, NONE),
	MATRIX(GLU, DECODE, F32, 16, 101, 257, 0, NONE),
	MATRIX(GLU, DECODE, BF16, 19, 43, 100, 0, NONE),
	/* norms */
	NORM(577, 1024, BIAS),
	NORM(21, 4096, 0),
	NORM(5, 1, BIAS),
	NORM(5, 1, 0),
	NORM(4, 31, BIAS | INPLACE),
	NORM(4, 33, INPLACE),
	NORM(3, 688, BIAS),
	NORM(3, 1000, 0),
	NORM(1, 5120, INPLACE),
	/* patch embedding: 30 is no multiple of 14, the rest of the image is not read */
	PATCH(BF16, 28, 14, 64, 0),
	PATCH(F16, 336, 14, 24, 0),
	PATCH(F32, 64, 16, 33, BIAS),
	PATCH(BF16, 35, 7, 50, BIAS),
	PATCH(F16, 30, 14, 20, 0),
	PATCH(F32, 14, 14, 3, 0),
	/* embedding rows */
	EMBED(BF16, 50, 100, 4096),
	EMBED(F16, 7, 33, 1111),
	EMBED(F32, 5, 9, 100),
	EMBED(F16, 1, 3, 7),
	/* rotary positions and the KV cache */
	CACHED(ROPE, PREFILL, F16, 100, 3, 300, 8, 8, 128),
	CACHED(ROPE, PREFILL, F32, 33, 1, 33, 4, 2, 64),
	CACHED(ROPE, DECODE, F16, 5, 5, 600, 8, 2, 128),
	CACHED(ROPE, DECODE, F32, 6, 2, 300, 3, 1, 40),
	/* attention */
	DENSE(577, 577, 2, 64, 0),
	DENSE(300, 300, 1, 320, BIAS),
	DENSE(65, 65, 3, 80, 0),
	DENSE(1, 1, 2, 64, 0),
	DENSE(5, 255, 3, 72, 0),
	DENSE(5, 256, 3, 128, BIAS),
	DENSE(5, 257, 3, 96, BIAS),
	DENSE(13, 600, 2, 64, BIAS),
	DENSE(9, 513, 2, 8, 0),
	CACHED(ATTN, PREFILL, F16, 300, 1, 300, 4, 4, 128),
	CACHED(ATTN, PREFILL, F16, 588, 1, 588, 1, 1, 128),
	CACHED(ATTN, PREFILL, F32, 100, 3, 300, 4, 2, 64),
	CACHED(ATTN, PREFILL, F16, 77, 2, 600, 6, 2, 80),
	CACHED(ATTN, PREFILL, F16, 1, 1, 1, 2, 1, 64),
	CACHED(ATTN, PREFILL, F16, 1, 1, 257, 2, 1, 64),
	CACHED(ATTN, PREFILL, F32, 4, 1, 258, 2, 2, 320),
	CACHED(ATTN, DECODE, F16, 1, 1, 1100, 8, 8, 128),
	CACHED(ATTN, DECODE, F16, 1, 1, 255, 4, 4, 128),
	CACHED(ATTN, DECODE, F16, 1, 1, 256, 4, 4, 128),
	CACHED(ATTN, DECODE, F16, 1, 1, 257, 4, 4, 128),
	CACHED(ATTN, DECODE, F32, 1, 1, 1, 4, 2, 64),
	CACHED(ATTN, DECODE, F16, 5, 5, 600, 8, 2, 128),
	CACHED(ATTN, DECODE, F32, 16, 16, 700, 4, 1, 64),
	CACHED(ATTN, DECODE, F16, 6, 2, 300, 4, 2, 80),
	CACHED(ATTN, DECODE, F32, 3, 1, 513, 2, 2, 320),
};

/* The fixed rows, then every small number of rows in both phases and every head size. */
static int kernel_rows(struct fr_check_case rows[MAX_ROWS])
{
	static const enum fr_dtype types[] = {FR_BF16, FR_F16, FR_F32};
	int n = 0;

	for (size_t i = 0; i < sizeof fixed_rows / sizeof *fixed_rows; i++)
		rows[n++] = fixed_rows[i];
	for (int t = 0; t < 3; t++)
		for (int m = 1; m <= 17; m++) {
			rows[n++] = (struct fr_check_case)MATRIX(LINEAR, DECODE, F32, m, 67, 331 + m, 0, NONE);
			rows[n - 1].dtype = types[t];
			rows[n++] = (struct fr_check_case)MATRIX(LINEAR, PREFILL, F32, m, 51, 260 + m, BIAS, NONE);
			rows[n - 1].dtype = types[t];
		}
	for (int hd = 8; hd <= 320; hd += 8) {
		rows[n++] = (struct fr_check_case)CACHED(ATTN, PREFILL, F16, 5, 2, 70, 4, 2, hd);
		rows[n++] = (struct fr_check_case)CACHED(ATTN, DECODE, F16, 2, 2, 70, 4, 2, hd);
		rows[n++] = (struct fr_check_case)CACHED(ROPE, DECODE, F16, 2, 2, 70, 4, 2, hd);
		rows[n++] = (struct fr_check_case)DENSE(5, 70, 2, hd, 0);
	}
	return n;
}

#endif
