/* Kernels that use each word of ptx.h plainly, for tests/cuda_shim.c to compare with plain loops, and the faults that the
 * shim must find. */
#include "../../kernels/cuda/ptx.h"
#include "selftest.h"

/* One warp: in [16, 16] and in2 [8 columns, 16] 16-bit (a row of in2 is a column of b), out [16, 8] float32, += . */
FR_KERNEL(self_mma, struct self_args, 128, 1)
{
	FR_WAIT();
	int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
	const uint32_t *p = (const uint32_t *)a.in + warp * 128, *q = (const uint32_t *)a.in2 + warp * 64;
	float *out = (float *)a.out + warp * 128;
	uint32_t x[4] = {p[g * 8 + t], p[(g + 8) * 8 + t], p[g * 8 + t + 4], p[(g + 8) * 8 + t + 4]};
	uint32_t y[2] = {q[g * 8 + t], q[g * 8 + t + 4]};
	float c[4] = {out[g * 8 + 2 * t], out[g * 8 + 2 * t + 1], out[(g + 8) * 8 + 2 * t], out[(g + 8) * 8 + 2 * t + 1]};
	if (a.k)
		fr_mma_f16(c, x, y);
	else
		fr_mma_bf16(c, x, y);
	for (int i = 0; i < 4; i++)
		out[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = c[i];
}

/* in: 32 rows of 8 items of 16 bits in the order that lanes name them; out: four words for each lane. */
FR_KERNEL(self_ldmatrix, struct self_args, 32, 1)
{
	FR_WAIT();
	int lane = threadIdx.x;
	fr_u4 *rows = (fr_u4 *)fr_smem();
	rows[lane ^ 5] = ((const fr_u4 *)a.in)[lane];
	fr_syncwarp();
	uint32_t r[4];
	if (a.k)
		fr_ldmatrix_t(r, rows + (lane ^ 5));
	else
		fr_ldmatrix(r, rows + (lane ^ 5));
	for (int i = 0; i < 4; i++)
		((uint32_t *)a.out)[lane * 4 + i] = r[i];
}

FR_KERNEL(self_shuffle, struct self_args, 64, 1)
{
	FR_WAIT();
	int lane = threadIdx.x % 32;
	uint32_t *out = (uint32_t *)a.out + threadIdx.x * 6;
	float v = (float)threadIdx.x;
	out[0] = fr_f32_bits(fr_shfl_xor(v, a.k));
	out[1] = fr_f32_bits(fr_shfl(v, (lane + a.k) & 31));
	out[2] = fr_shfl_u(threadIdx.x * 3, a.k);
	out[3] = fr_shfl_xor_u(threadIdx.x * 5, 31);
	out[4] = fr_ballot(lane % 3 == 1 || threadIdx.x == 40);
	float s = v;
	for (int m = 16; m; m >>= 1)
		s += fr_shfl_xor(s, m);
	out[5] = fr_f32_bits(s);
}

/* n floats -> bf16x2(v, -v), f16x2 saturated, f16x2 RNE, and back from f16 */
FR_KERNEL(self_numbers, struct self_args, 256, 1)
{
	FR_WAIT();
	int i = blockIdx.x * blockDim.x + threadIdx.x;
	if (i >= a.n)
		return;
	float v = ((const float *)a.in)[i];
	uint32_t *out = (uint32_t *)a.out + (size_t)i * 6;
	out[0] = fr_bf16x2(v, -v);
	out[1] = fr_f16x2(v, -v);
	out[2] = fr_f16x2_rn(v, -v);
	out[3] = fr_f16_rn(v) | (uint32_t)fr_f16_sat(v) << 16;
	out[4] = fr_f32_bits(fr_f16_float((uint16_t)i));
	out[5] = fr_f32_bits(fr_exp2_fast(v));
}

/* A pipeline of three stages over n chunks of 16 bytes for each of 64 threads, read by the thread 33 further; the last
 * chunk is not valid. out [64, n] words: their first. */
FR_KERNEL(self_async, struct self_args, 64, 1)
{
	FR_WAIT();
	int t = threadIdx.x;
	unsigned char *ring = fr_smem();
	for (int i = 0; i < 2; i++) {
		fr_cp_async(ring + (i * 64 + t) * 16, (const unsigned char *)a.in + (i * 64 + t) * 16, 16);
		fr_cp_commit();
	}
	for (int i = 0; i < a.n; i++) {
		fr_cp_wait<1>();
		__syncthreads();
		const uint32_t *got = (const uint32_t *)(ring + (i % 3 * 64 + (t + 33) % 64) * 16);
		((uint32_t *)a.out)[t * a.n + i] = got[0] ^ got[3];
		int next = i + 2;
		if (next < a.n)
			fr_cp_async(ring + (next % 3 * 64 + t) * 16, (const unsigned char *)a.in + (next * 64 + t) * 16,
				    next == a.n - 1 ? 0 : 16);
		fr_cp_commit();
	}
}

/* Warps 0 and 1 hand a word to each other by barrier 1, warps 2 and 3 by barrier 2, in rounds of unequal number. */
FR_KERNEL(self_bar, struct self_args, 128, 1)
{
	FR_WAIT();
	int t = threadIdx.x, pair = t / 64;
	uint32_t *box = (uint32_t *)fr_smem(), v = t;
	for (int i = 0; i < 3 + pair; i++) {
		box[t] = v;
		fr_bar(1 + pair, 64);
		v = box[t ^ 32] + 1;
		fr_bar(1 + pair, 64);
	}
	box[t] = v;
	__syncthreads();
	((uint32_t *)a.out)[t] = box[t ^ 64];
}

/* No race: 16-bit halves of a word by two threads; each reads its own before the barrier, the other's after. */
FR_KERNEL(self_order, struct self_args, 256, 1)
{
	FR_WAIT();
	uint16_t *h = (uint16_t *)fr_smem();
	int t = threadIdx.x, n = blockDim.x;
	for (int i = 0; i < 3; i++) {
		h[t] = (uint16_t)(t + i);
		uint16_t own = h[t];
		__syncthreads();
		uint16_t other = h[n - 1 - t];
		__syncthreads();
		if (i == 2)
			((uint16_t *)a.out)[blockIdx.x * n + t] = own ^ other;
	}
}

FR_KERNEL(self_index, struct self_args, 1024, 1)
{
	FR_WAIT();
	unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
	((uint32_t *)a.out)[block * blockDim.x + threadIdx.x] = block << 16 | threadIdx.x;
}

static uint32_t deep(volatile uint32_t *p, int n)
{
	volatile uint32_t pad[4096];
	for (int i = 0; i < 4096; i++)
		pad[i] = *p;
	return n ? deep(pad + (n & 4095), n - 1) + pad[n & 4095] : pad[0];
}

FR_KERNEL(self_fault, struct self_args, 256, 1)
{
	const float *in = (const float *)a.in;
	float *out = (float *)a.out;
	float *sh = (float *)fr_smem();
	int t = threadIdx.x, last = t == (int)blockDim.x - 1, n = blockDim.x;
	if (a.k == FAULT_EARLY && t == 3)
		sh[3] = in[5];
	if (a.k == FAULT_NO_WAIT && last)
		return;
	FR_WAIT();
	switch (a.k) {
	case FAULT_READ:
		if (last)
			sh[0] = in[a.n];
		break;
	case FAULT_WRITE:
		if (last)
			out[a.n] = 1;
		break;
	case FAULT_BEFORE:
		if (last)
			sh[0] = ((const unsigned char *)in)[-1];
		break;
	case FAULT_SHARED:
		if (last)
			sh[n * 4] = 1;
		break;
	case FAULT_MISALIGNED:
		if (t == 2)
			((fr_u4 *)fr_smem())[0] = *(const fr_u4 *)(in + 1);
		break;
	case FAULT_MISALIGNED_LD:
		if (t == 2)
			((fr_u4 *)fr_smem())[0] = fr_ld_stream(in + 1);
		break;
	case FAULT_MISALIGNED_ST:
		if (t == 2) {
			fr_u4 v = {1, 2, fr_f32_bits(in[3]), 4};
			*(fr_u4 *)(out + 2) = v;
		}
		break;
	case FAULT_MISALIGNED_4:
		if (t == 2)
			sh[0] = *(const float *)((const char *)in + 2);
		break;
	case FAULT_RACE:
		sh[t] = (float)t;
		out[t] = sh[n - 1 - t];
		break;
	case FAULT_RACE_WARP:
		sh[t] = (float)t;
		out[t] = sh[t ^ 1];
		break;
	case FAULT_RACE_SHUFFLE:
		sh[t] = fr_shfl_xor((float)t, 2);
		out[t] = fr_shfl_xor(1, 1) + sh[t ^ 1];
		break;
	case FAULT_RACE_WAR:
		for (int i = 0; i < 2; i++) {
			if (!i || t < 32)
				sh[t] = (float)t;
			__syncthreads();
			if (t >= 32)
				out[t] = sh[n - 1 - t];
		}
		break;
	case FAULT_RACE_READERS:
		out[t] = in[t] + sh[0];
		if (last)
			sh[0] = 1;
		break;
	case FAULT_RACE_BAR:
		sh[t] = (float)t;
		if (t < 64)
			fr_bar(1, 64);
		if (t >= 32)
			out[t] = sh[t ^ 32];
		if (t >= 64)
			out[t] = sh[t - 64];
		break;
	case FAULT_DIVERGENT:
		if (t < 32)
			__syncthreads();
		break;
	case FAULT_DIVERGENT_2:
		if (t < 32)
			__syncthreads();
		else
			__syncthreads();
		break;
	case FAULT_LANE:
		if (t % 32 != 7)
			out[t] = fr_shfl((float)t, 0);
		break;
	case FAULT_LANE_GONE:
		if (t % 32 >= 20)
			return;
		out[t] = fr_shfl((float)t, 0);
		break;
	case FAULT_MIXED:
		if (t % 2)
			fr_syncwarp();
		else
			out[t] = fr_shfl((float)t, 0);
		break;
	case FAULT_ASYNC_WAIT:
		fr_cp_async(sh + t * 4, in + t * 4, 16);
		fr_cp_commit();
		out[t] = sh[t * 4];
		break;
	case FAULT_ASYNC_GROUP:
		fr_cp_async(sh + t * 4, in + t * 4, 16);
		fr_cp_commit();
		fr_cp_wait<1>();
		out[t] = sh[t * 4];
		break;
	case FAULT_ASYNC_BARRIER:
		fr_cp_async(sh + t * 4, in + t * 4, 16);
		fr_cp_commit();
		fr_cp_wait<0>();
		if (t)
			out[t] = sh[(t - 1) * 4];
		break;
	case FAULT_ASYNC_ALIGN:
		fr_cp_async(sh + t * 4 + 4, in + t * 4 + 2, 16);
		break;
	case FAULT_BLOCKS_WRITE:
		if (last)
			out[7] = 1;
		break;
	case FAULT_BLOCKS_READ:
		if (blockIdx.x == 0 && last)
			sh[0] = out[9];
		if (blockIdx.x == 1 && last)
			out[9] = 2;
		break;
	case FAULT_CONST:
		out[t] = 1;
		__syncthreads();
		((fr_u4 *)sh)[t] = fr_ld_const(out + (t ^ 1) / 4 * 4);
		break;
	case FAULT_CONST_FIRST:
		((fr_u4 *)sh)[t] = fr_ld_const(out + t * 4);
		out[t * 4 + 1] = 1;
		break;
	case FAULT_STACK: {
		uint32_t x = 1;
		if (last)
			out[0] = (float)deep(&x, 8);
		break;
	}
	}
}

/* k products by each warp: for the time of one. */
FR_KERNEL(self_mma_speed, struct self_args, 128, 1)
{
	FR_WAIT();
	uint32_t x[4] = {0x3f803f80u, 0x3f803f80u, 0, 0x3f80u}, y[2] = {0x3f803f80u, 0};
	float c[4] = {0, 0, 0, 0};
	for (int i = 0; i < a.k; i++)
		fr_mma_bf16(c, x, y);
	((float *)a.out)[threadIdx.x] = c[0] + c[1] + c[2] + c[3];
}
