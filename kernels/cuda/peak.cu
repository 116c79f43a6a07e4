/* The device's own limits: kernels that only read, only copy, only multiply, or do nothing. What they compute goes to
 * `sink` in a case that does not arise, so that nothing can be left out. */
#include "ptx.h"

#define UNROLL FR_PEAK_UNROLL
#define NEVER 0x9e3779b9u

FR_DEVICE void keep(const struct fr_peak_args &a, uint32_t v)
{
	if (v == NEVER)
		*a.sink = v;
}

/* 16 bytes a thread, the grid side by side, UNROLL loads under way in each thread. */
FR_KERNEL(fr_peak_read, struct fr_peak_args, FR_PEAK_THREADS, 2)
{
	const size_t step = (size_t)gridDim.x * FR_PEAK_THREADS;
	const fr_u4 *from = (const fr_u4 *)a.from + (size_t)blockIdx.x * FR_PEAK_THREADS + threadIdx.x;
	uint32_t v = 0;

	FR_WAIT();
	for (size_t i = 0; i < a.quads; i += UNROLL * step) {
		fr_u4 u[UNROLL];

#pragma unroll
		for (int j = 0; j < UNROLL; j++)
			u[j] = fr_ld_stream(from + i + j * step);
#pragma unroll
		for (int j = 0; j < UNROLL; j++)
			v ^= u[j].x ^ u[j].y ^ u[j].z ^ u[j].w;
	}
	keep(a, v);
}

FR_KERNEL(fr_peak_copy, struct fr_peak_args, FR_PEAK_THREADS, 2)
{
	const size_t step = (size_t)gridDim.x * FR_PEAK_THREADS;
	const size_t at = (size_t)blockIdx.x * FR_PEAK_THREADS + threadIdx.x;

	FR_WAIT();
	for (size_t i = at; i < at + a.quads; i += UNROLL * step) {
		fr_u4 u[UNROLL];

#pragma unroll
		for (int j = 0; j < UNROLL; j++)
			u[j] = fr_ld_stream((const fr_u4 *)a.from + i + j * step);
#pragma unroll
		for (int j = 0; j < UNROLL; j++)
			((fr_u4 *)a.to)[i + j * step] = u[j];
	}
}

/* FR_PEAK_CHAINS sums that do not wait for each other, so that the unit never does. The operands are of ordinary size:
 * a unit that multiplies zeros takes less power and may run faster than it ever will. */
template <int half> FR_DEVICE void multiply(const struct fr_peak_args &a)
{
	const uint32_t lane = threadIdx.x % 32, one = half ? 0x38003800u : 0x3f003f00u; /* a half, twice */
	uint32_t x[4], y[2];
	float c[FR_PEAK_CHAINS][4] = {};

	for (uint32_t i = 0; i < 4; i++)
		x[i] = one + ((lane * 2654435761u + i * 40503u) & 0x003f003fu);
	for (uint32_t i = 0; i < 2; i++)
		y[i] = one + ((lane * 40503u + i * 2654435761u) & 0x003f003fu);
	FR_WAIT();
#pragma unroll 1
	for (int r = 0; r < a.rounds; r++)
#pragma unroll
		for (int i = 0; i < FR_PEAK_CHAINS; i++) {
			if (half)
				fr_mma_f16(c[i], x, y);
			else
				fr_mma_bf16(c[i], x, y);
		}
	for (int i = 1; i < FR_PEAK_CHAINS; i++)
		for (int j = 0; j < 4; j++)
			c[0][j] = c[0][j] + c[i][j];
	keep(a, fr_f32_bits(c[0][0]) ^ fr_f32_bits(c[0][1]) ^ fr_f32_bits(c[0][2]) ^ fr_f32_bits(c[0][3]));
}

FR_KERNEL(fr_peak_bf16, struct fr_peak_args, FR_PEAK_THREADS, 2)
{
	multiply<0>(a);
}

FR_KERNEL(fr_peak_f16, struct fr_peak_args, FR_PEAK_THREADS, 2)
{
	multiply<1>(a);
}

FR_KERNEL(fr_peak_f32, struct fr_peak_args, FR_PEAK_THREADS, 2)
{
	float c[FR_PEAK_CHAINS], x = a.factor, y = (float)threadIdx.x;
	uint32_t v = 0;

	for (int i = 0; i < FR_PEAK_CHAINS; i++)
		c[i] = (float)i;
	FR_WAIT();
#pragma unroll 1
	for (int r = 0; r < a.rounds; r++)
#pragma unroll
		for (int k = 0; k < FR_PEAK_F32_STEPS; k++)
#pragma unroll
			for (int i = 0; i < FR_PEAK_CHAINS; i++)
				c[i] = fmaf(c[i], x, y);
	for (int i = 0; i < FR_PEAK_CHAINS; i++)
		v ^= fr_f32_bits(c[i]);
	keep(a, v);
}

FR_KERNEL(fr_peak_empty, struct fr_peak_args, FR_PEAK_THREADS, 2)
{
	(void)a;
	FR_RELEASE();
	FR_WAIT();
}
