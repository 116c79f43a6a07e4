/* Activations in 16-bit terms: term 0 = RNE(x), term 1 = RNE(x - term 0); columns up to the pitch are zero. A thread
 * makes eight columns of a row: 16-byte stores. */
#include "four.h"

/* x[0..7], of which n are there. */
FR_DEVICE void get8(float v[8], const float *x, int n, int vector)
{
	fr_get4(v, x, n, vector);
	fr_get4(v + 4, x + 4, n - 4, vector);
}

FR_KERNEL(fr_pack_bf16, struct fr_pack_args, 256, 4)
{
	FR_WAIT();
	FR_RELEASE();
	int groups = a.pitch / 8, i = (int)(blockIdx.x * 256 + threadIdx.x);
	int row = i / groups, col = i % groups * 8;

	if (row >= a.rows)
		return;
	size_t at = (size_t)row * a.pitch + col;
	float v[8];
	fr_u4 hi;

	get8(v, a.x + (size_t)row * a.stride + col, a.cols - col, a.vector);
	hi = fr_u4{fr_bf16x2(v[0], v[1]), fr_bf16x2(v[2], v[3]), fr_bf16x2(v[4], v[5]), fr_bf16x2(v[6], v[7])};
	*(fr_u4 *)(a.out + at) = hi;
	if (a.terms > 1)
		*(fr_u4 *)(a.out + (size_t)a.rows * a.pitch + at) =
			fr_u4{fr_bf16x2_rest(v[0], v[1], hi.x), fr_bf16x2_rest(v[2], v[3], hi.y),
			      fr_bf16x2_rest(v[4], v[5], hi.z), fr_bf16x2_rest(v[6], v[7], hi.w)};
}

/* A block per row: its largest magnitude first, as bits (a NaN counts as the largest), then the terms of x * 2^-e with
 * e > 0 only where the magnitude is 2^15 or more. An infinity stays one. */
FR_KERNEL(fr_pack_f16, struct fr_pack_args, 256, 4)
{
	FR_WAIT();
	FR_RELEASE();
	uint32_t *most = (uint32_t *)fr_smem();
	int t = (int)threadIdx.x, row = (int)blockIdx.x;
	const float *x = a.x + (size_t)row * a.stride;
	uint32_t top = 0;

	for (int col = t * 4; col < a.cols; col += 1024) {
		float v[4];

		fr_get4(v, x + col, a.cols - col, a.vector);
		for (int i = 0; i < 4; i++) {
			uint32_t u = fr_f32_bits(v[i]) & 0x7fffffffu;
			top = u > top ? u : top;
		}
	}
	for (int h = 16; h > 0; h /= 2) {
		uint32_t u = fr_shfl_xor_u(top, h);
		top = u > top ? u : top;
	}
	if (t % 32 == 0)
		most[t / 32] = top;
	__syncthreads();
	for (int i = 0; i < 8; i++)
		top = most[i] > top ? most[i] : top;
	int e = (int)(top >> 23) - (127 + 14);
	e = e > 0 ? e : 0;
	float shrink = fr_bits_f32((uint32_t)(127 - e) << 23);
	if (t == 0)
		a.scale[row] = fr_bits_f32((uint32_t)(127 + e) << 23);
	for (int col = t * 8; col < a.pitch; col += 2048) {
		size_t at = (size_t)row * a.pitch + col;
		float v[8];
		fr_u4 hi;

		get8(v, x + col, a.cols - col, a.vector);
		for (int i = 0; i < 8; i++)
			v[i] *= shrink;
		hi = fr_u4{fr_f16x2_rn(v[0], v[1]), fr_f16x2_rn(v[2], v[3]), fr_f16x2_rn(v[4], v[5]),
			   fr_f16x2_rn(v[6], v[7])};
		*(fr_u4 *)(a.out + at) = hi;
		if (a.terms > 1)
			*(fr_u4 *)(a.out + (size_t)a.rows * a.pitch + at) =
				fr_u4{fr_f16x2_rest(v[0], v[1], hi.x), fr_f16x2_rest(v[2], v[3], hi.y),
				      fr_f16x2_rest(v[4], v[5], hi.z), fr_f16x2_rest(v[6], v[7], hi.w)};
	}
}
