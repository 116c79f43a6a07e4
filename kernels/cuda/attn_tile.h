/* What the attention kernels share: a block's rows and keys, and how a row of y is written. */
#ifndef FR_KERNELS_CUDA_ATTN_TILE_H
#define FR_KERNELS_CUDA_ATTN_TILE_H

#include "ptx.h"

/* The rows of a block. Row i (of `rows`) sees keys 0..last + i * slope. */
struct attn_span {
	size_t row; /* of q and y, items counted in */
	int rows, last, slope;
	size_t keys;	   /* elements from k and v to position 0 of this block's head */
	const float *bias; /* of the block's first row; kv_rows apart */
};

FR_DEVICE attn_span attn_span_of(const fr_attn_args &a, int height)
{
	attn_span s;
	size_t head = blockIdx.x, item = blockIdx.z;

	s.bias = nullptr;
	if (a.tiles) {
		fr_attn_tile t = a.tiles[blockIdx.y];

		s.row = (size_t)t.row;
		s.rows = t.rows;
		s.last = t.pos;
		s.slope = 1;
		s.keys = (size_t)t.seq * a.keys.of_seq + head / (unsigned)a.group * a.keys.of_head;
		return s;
	}
	int row = (int)blockIdx.y * height;

	s.row = item * (size_t)a.rows + (size_t)row;
	s.rows = a.rows - row < height ? a.rows - row : height;
	s.last = a.kv_rows - 1;
	s.slope = 0;
	s.keys = item * a.keys.of_seq + head * a.keys.of_head;
	if (a.bias)
		s.bias = a.bias + ((item * gridDim.x + head) * (size_t)a.rows + (size_t)row) * (size_t)a.kv_rows;
	return s;
}

/* One element of y, and its terms. */
FR_DEVICE void attn_put(const fr_attn_out &o, size_t row, size_t col, float v)
{
	size_t at = row * (size_t)o.width + col;
	uint32_t hi;

	o.y[at] = v;
	if (!o.packed)
		return;
	hi = fr_bf16x2(v, 0.0f);
	o.packed[at] = (uint16_t)hi;
	if (o.terms == 2)
		o.packed[at + o.term] = (uint16_t)fr_bf16x2(v - fr_bits_f32(hi << 16), 0.0f);
}

/* Two neighbours, the first at an even column. */
FR_DEVICE void attn_put2(const fr_attn_out &o, size_t row, size_t col, float v, float w)
{
	size_t at = row * (size_t)o.width + col;
	uint32_t hi;

	if (((size_t)o.y & 7) == 0) {
		*(fr_u2 *)(o.y + at) = fr_u2{fr_f32_bits(v), fr_f32_bits(w)};
	} else {
		o.y[at] = v;
		o.y[at + 1] = w;
	}
	if (!o.packed)
		return;
	hi = fr_bf16x2(v, w);
	*(uint32_t *)(o.packed + at) = hi;
	if (o.terms == 2)
		*(uint32_t *)(o.packed + at + o.term) =
			fr_bf16x2(v - fr_bits_f32(hi << 16), w - fr_bits_f32(hi & 0xffff0000u));
}

#endif
