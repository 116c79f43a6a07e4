/* What the matrix products do with a sum: the parts of struct fr_linear behind the dot, four columns of a row at a
 * time, each step rounded as the contract says. A thread keeps its columns for all its rows. */
#ifndef FR_KERNELS_CUDA_GEMM_OUT_H
#define FR_KERNELS_CUDA_GEMM_OUT_H

#include "four.h"

struct fr_out_cols {
	float bias[4], scale[4];
	int col; /* the first of the four */
};

FR_DEVICE fr_out_cols fr_out_begin(const fr_gemm_part &p, int col)
{
	fr_out_cols c;

	c.col = col;
#pragma unroll
	for (int i = 0; i < 4; i++) {
		c.bias[i] = p.bias && col + i < p.n ? p.bias[col + i] : 0.0f;
		c.scale[i] = p.scale && col + i < p.n ? p.scale[col + i] : 0.0f;
	}
	return c;
}

/* The residual's four values; read before y is written, which may be the same memory. */
FR_DEVICE void fr_out_residual(const fr_gemm_part &p, const fr_out_cols &c, int row, float r[4])
{
	fr_get4(r, p.residual + (size_t)row * (size_t)p.n + (size_t)c.col, p.n - c.col, p.vec);
}

/* v = act(v + bias) * scale for `items` groups of four. The kind of act is looked at once. */
template <int items> FR_DEVICE void fr_out_act(const fr_gemm_part &p, const fr_out_cols &c, float v[items][4])
{
#define FR_EACH(expr)                                                                                                  \
	_Pragma("unroll") for (int i = 0; i < items * 4; i++)                                                          \
	{                                                                                                              \
		float &x = v[i / 4][i % 4];                                                                            \
		x = expr;                                                                                              \
	}
	if (p.bias)
		FR_EACH(x + c.bias[i % 4])
	switch (p.act) {
	case FR_ACT_QUICK_GELU:
		FR_EACH(fr_quick_gelu(x))
		break;
	case FR_ACT_GELU:
		FR_EACH(fr_gelu(x))
		break;
	case FR_ACT_SILU:
		FR_EACH(fr_silu(x))
		break;
	case FR_ACT_RELU:
		FR_EACH(fr_relu(x))
		break;
	default:
		break;
	}
	if (p.scale)
		FR_EACH(x * c.scale[i % 4])
#undef FR_EACH
}

/* bf16 terms of four values as two words each: hi = rne(v), lo = rne(v - hi). */
FR_DEVICE void fr_out_pack(const fr_gemm_part &p, const fr_out_cols &c, int rows, int row, const float v[4])
{
	uint16_t *at = p.pack + (size_t)row * (size_t)p.pack_pitch + (size_t)c.col;
	float w[4];
	fr_u2 hi, lo;

#pragma unroll
	for (int i = 0; i < 4; i++)
		w[i] = c.col + i < p.n ? v[i] : 0.0f;
	hi.x = fr_bf16x2(w[0], w[1]);
	hi.y = fr_bf16x2(w[2], w[3]);
	*(fr_u2 *)at = hi;
	if (p.pack_terms < 2)
		return;
	lo.x = fr_bf16x2_rest(w[0], w[1], hi.x);
	lo.y = fr_bf16x2_rest(w[2], w[3], hi.y);
	*(fr_u2 *)(at + (size_t)rows * (size_t)p.pack_pitch) = lo;
}

/* Writes the four values of a row that the launch has; columns between n and the packed pitch become zero there. */
FR_DEVICE void fr_out_store(const fr_gemm_part &p, const fr_out_cols &c, int rows, int row, const float v[4])
{
	if (p.pack && c.col < p.pack_pitch)
		fr_out_pack(p, c, rows, row, v);
	fr_put4(p.y + (size_t)row * (size_t)p.n + (size_t)c.col, v, p.n - c.col, p.vec);
}

/* The part of the launch that a tile of columns is in; col becomes the tile's number in that part. */
FR_DEVICE int fr_part_of(const fr_gemm_part *part, int parts, int *col)
{
	int i = 0;

	while (i + 1 < parts && *col >= part[i].tiles)
		*col -= part[i++].tiles;
	return i;
}

#endif
