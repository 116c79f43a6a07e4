/* Four floats of a row at a time: one 128-bit access where every row starts at 16 bytes, else one by one. The values
 * and their order do not depend on which. */
#ifndef FR_KERNELS_CUDA_FOUR_H
#define FR_KERNELS_CUDA_FOUR_H

#include "ptx.h"

/* v = p[0..3], of which n are there; the others are zero. */
FR_DEVICE void fr_get4(float v[4], const float *p, int n, int vector)
{
	if (vector && n >= 4) {
		fr_u4 u = *(const fr_u4 *)p;

		v[0] = fr_bits_f32(u.x);
		v[1] = fr_bits_f32(u.y);
		v[2] = fr_bits_f32(u.z);
		v[3] = fr_bits_f32(u.w);
		return;
	}
	for (int i = 0; i < 4; i++)
		v[i] = i < n ? p[i] : 0.0f;
}

FR_DEVICE void fr_put4(float *p, const float v[4], int n, int vector)
{
	if (vector && n >= 4) {
		*(fr_u4 *)p = fr_u4{fr_f32_bits(v[0]), fr_f32_bits(v[1]), fr_f32_bits(v[2]), fr_f32_bits(v[3])};
		return;
	}
	for (int i = 0; i < 4; i++)
		if (i < n)
			p[i] = v[i];
}

/* What hi, two items, leaves of v: the second term. */
FR_DEVICE uint32_t fr_bf16x2_rest(float v0, float v1, uint32_t hi)
{
	return fr_bf16x2(v0 - fr_bits_f32(hi << 16), v1 - fr_bits_f32(hi & 0xffff0000u));
}
FR_DEVICE uint32_t fr_f16x2_rest(float v0, float v1, uint32_t hi)
{
	return fr_f16x2_rn(v0 - fr_f16_float((uint16_t)hi), v1 - fr_f16_float((uint16_t)(hi >> 16)));
}

#endif
