/* What follows the sum in a decode product, common to its kernels: the steps of struct fr_linear in the contract's
 * order, and y's 16-bit terms where the next product wants them. */
#ifndef FR_KERNELS_CUDA_SKINNY_H
#define FR_KERNELS_CUDA_SKINNY_H

#include "ptx.h"

/* Terms of v at column n of row r. */
FR_DEVICE void fr_skinny_pack(const struct fr_skinny_args &a, const struct fr_skinny_part &p, int r, int n, float v)
{
	size_t at = (size_t)r * (size_t)p.packed_pitch + (size_t)n;

	for (int term = 0; term < p.packed_terms; term++) {
		uint16_t h = fr_f32_bf16(v);

		p.packed[at] = h;
		v = v - fr_bf16_f32(h);
		at += (size_t)a.rows * (size_t)p.packed_pitch;
	}
}

/* v: the dot product of row r of x and weight row n < p.n. */
FR_DEVICE void fr_skinny_finish(const struct fr_skinny_args &a, const struct fr_skinny_part &p, int r, int n, float v)
{
	size_t at = (size_t)r * (size_t)p.n + (size_t)n;

	if (p.bias)
		v = v + p.bias[n];
	v = fr_act((enum fr_act)p.act, v);
	if (p.scale)
		v = v * p.scale[n];
	if (p.residual)
		v = v + p.residual[at];
	p.y[at] = v;
	if (p.packed)
		fr_skinny_pack(a, p, r, n, v);
}

/* The same for silu(gate) * up. */
FR_DEVICE void fr_skinny_finish_glu(const struct fr_skinny_args &a, const struct fr_skinny_part &p, int r, int n,
				    float gate, float up)
{
	float v = fr_silu(gate) * up;

	p.y[(size_t)r * (size_t)p.n + (size_t)n] = v;
	if (p.packed)
		fr_skinny_pack(a, p, r, n, v);
}

/* Columns of the packed y beyond its width are zero: n in p.n .. packed_pitch - 1. */
FR_DEVICE void fr_skinny_margin(const struct fr_skinny_args &a, const struct fr_skinny_part &p, int r, int n)
{
	if (p.packed && n < p.packed_pitch)
		fr_skinny_pack(a, p, r, n, 0.0f);
}

/* The member of the chain that this block works for, and its first weight row there when a block does `per` rows. */
FR_DEVICE int fr_skinny_part_of(const struct fr_skinny_args &a, int per, int *n0)
{
	int block = (int)blockIdx.x, part = 0;

	while (part + 1 < a.parts && block >= a.part[part + 1].first)
		part++;
	*n0 = (block - a.part[part].first) * per;
	return part;
}

#endif
