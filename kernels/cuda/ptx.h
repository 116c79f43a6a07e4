/* The words that kernels are written in: what is PTX on the device has its twin for the host shim in
 * tests/cuda_host/cuda_host.h, with the documented behaviour. A .cu file includes this and nothing of CUDA's own.
 *
 * Rules for kernels, so that the shim sees everything: FR_KERNEL defines a kernel; FR_WAIT() is its first statement but
 * for loads of weights; shared memory is fr_smem() only (dynamic, sized at launch); memory that several threads share is
 * read and written by plain C++ loads and stores, by the functions below, and by nothing else; no atomics; every
 * __syncthreads is reached by all threads of the block, every warp function by all 32 lanes. */
#ifndef FR_KERNELS_CUDA_PTX_H
#define FR_KERNELS_CUDA_PTX_H

#include "args.h"
#include "../math.h"

#ifdef FR_CUDA_HOST
#define __align__(n) __attribute__((aligned(n)))
#endif
/* Four 32-bit words; loads and stores of it are one 128-bit access. */
struct __align__(16) fr_u4 {
	uint32_t x, y, z, w;
};
struct __align__(8) fr_u2 {
	uint32_t x, y;
};
#ifdef FR_CUDA_HOST
#include "cuda_host.h"
#else
/* extern "C" void name(args), at most `threads` per block, at least `blocks` blocks resident per multiprocessor. */
#define FR_KERNEL(name, args_t, threads, blocks)                                                                       \
	extern "C" __global__ void __launch_bounds__(threads, blocks) name(const __grid_constant__ args_t a)
#define FR_DEVICE __device__ __forceinline__
#define FR_DEVICE_MEMBER __device__ __forceinline__ /* of a class */

/* Programmatic dependent launch: memory that an earlier kernel writes may be touched only after this. */
#if __CUDA_ARCH__ >= 900
#define FR_WAIT() asm volatile("griddepcontrol.wait;" ::: "memory")
#define FR_RELEASE() asm volatile("griddepcontrol.launch_dependents;" ::: "memory")
#else
#define FR_WAIT() ((void)0)
#define FR_RELEASE() ((void)0)
#endif

extern __shared__ __align__(1024) unsigned char fr_smem_bytes[];
FR_DEVICE unsigned char *fr_smem(void)
{
	return fr_smem_bytes;
}
FR_DEVICE uint32_t fr_smem_at(const void *p)
{
	return (uint32_t)__cvta_generic_to_shared(p);
}

/* ---- across a warp, all 32 lanes ---- */
FR_DEVICE float fr_shfl_xor(float v, int mask)
{
	return __shfl_xor_sync(0xffffffffu, v, mask);
}
FR_DEVICE float fr_shfl(float v, int lane)
{
	return __shfl_sync(0xffffffffu, v, lane);
}
FR_DEVICE uint32_t fr_shfl_u(uint32_t v, int lane)
{
	return __shfl_sync(0xffffffffu, v, lane);
}
FR_DEVICE uint32_t fr_shfl_xor_u(uint32_t v, int mask)
{
	return __shfl_xor_sync(0xffffffffu, v, mask);
}
FR_DEVICE uint32_t fr_ballot(int pred)
{
	return __ballot_sync(0xffffffffu, pred);
}
FR_DEVICE void fr_syncwarp(void)
{
	__syncwarp();
}
/* Warps of a block that wait for each other: `threads` of them at barrier 1..15 (0 is __syncthreads). */
FR_DEVICE void fr_bar(int id, int threads)
{
	asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

/* ---- memory ---- */

/* 16 aligned bytes of device memory that will not be read again: weights. */
FR_DEVICE fr_u4 fr_ld_stream(const void *p)
{
	fr_u4 v;
	asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%0,%1,%2,%3}, [%4];"
		     : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
		     : "l"(p));
	return v;
}
/* 16 aligned bytes of memory that no thread writes while the kernel runs: activations. */
FR_DEVICE fr_u4 fr_ld_const(const void *p)
{
	fr_u4 v;
	asm volatile("ld.global.nc.v4.u32 {%0,%1,%2,%3}, [%4];"
		     : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
		     : "l"(p));
	return v;
}
/* 16 bytes, both sides aligned, from device to shared memory; of them `valid` (0 or 16) are read, the rest is zero. They
 * are there after the thread's fr_cp_wait and a barrier. */
FR_DEVICE void fr_cp_async(void *smem, const void *global, int valid)
{
	asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(fr_smem_at(smem)), "l"(global),
		     "r"(valid)
		     : "memory");
}
FR_DEVICE void fr_cp_commit(void)
{
	asm volatile("cp.async.commit_group;" ::: "memory");
}
/* Waits until at most `pending` of this thread's groups are under way. */
template <int pending> FR_DEVICE void fr_cp_wait(void)
{
	asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

/* ---- matrices ---- */

/* Four 8x8 matrices of 16-bit items: lane l gives the address (16 bytes, aligned, shared memory) of row l % 8 of matrix
 * l / 8; r[i] gets items 2 * (lane % 4), + 1 of row lane / 4 of matrix i; transposed: of column lane / 4. */
FR_DEVICE void fr_ldmatrix(uint32_t r[4], const void *row)
{
	asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
		     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
		     : "r"(fr_smem_at(row))
		     : "memory");
}
FR_DEVICE void fr_ldmatrix_t(uint32_t r[4], const void *row)
{
	asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
		     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
		     : "r"(fr_smem_at(row))
		     : "memory");
}
/* c [16, 8] += a [16, 16] * b [16, 8], float32 sums. With g = lane / 4, t = lane % 4:
 *   a[0]: row g, columns 2t, 2t+1    a[1]: row g+8    a[2]: row g, columns 2t+8, 2t+9    a[3]: row g+8, those
 *   b[0]: rows 2t, 2t+1, column g    b[1]: rows 2t+8, 2t+9
 *   c[0], c[1]: row g, columns 2t, 2t+1    c[2], c[3]: row g+8 */
FR_DEVICE void fr_mma_bf16(float c[4], const uint32_t a[4], const uint32_t b[2])
{
	asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
		     "{%0,%1,%2,%3};"
		     : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
		     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
FR_DEVICE void fr_mma_f16(float c[4], const uint32_t a[4], const uint32_t b[2])
{
	asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
		     "{%0,%1,%2,%3};"
		     : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
		     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* ---- numbers ---- */

/* Two floats to two 16-bit items, RNE, lo in the low half. f16 saturates at +-65504; NaN and infinities stay what
 * they are, since they are to be noticed in the logits. */
FR_DEVICE uint32_t fr_bf16x2(float lo, float hi)
{
	uint32_t r;
	asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo));
	return r;
}
FR_DEVICE uint16_t fr_f16_sat(float v)
{
	uint16_t r;
	v = v > 65504.0f && v < INFINITY ? 65504.0f : v < -65504.0f && v > -INFINITY ? -65504.0f : v;
	asm("cvt.rn.f16.f32 %0, %1;" : "=h"(r) : "f"(v));
	return r;
}
FR_DEVICE uint32_t fr_f16x2(float lo, float hi)
{
	return (uint32_t)fr_f16_sat(lo) | (uint32_t)fr_f16_sat(hi) << 16;
}
/* RNE, overflow to infinity: the KV cache's rounding, as fr_f32_f16. */
FR_DEVICE uint16_t fr_f16_rn(float v)
{
	uint16_t r;
	asm("cvt.rn.f16.f32 %0, %1;" : "=h"(r) : "f"(v));
	return r;
}
/* Two of them, lo in the low half. */
FR_DEVICE uint32_t fr_f16x2_rn(float lo, float hi)
{
	uint32_t r;
	asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo));
	return r;
}
FR_DEVICE float fr_f16_float(uint16_t h)
{
	float r;
	asm("cvt.f32.f16 %0, %1;" : "=f"(r) : "h"(h));
	return r;
}
/* 2^x, about 2 ulp, subnormal results and arguments are zero: for the weights of attention on the tensor cores only. */
FR_DEVICE float fr_exp2_fast(float x)
{
	float r;
	asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
	return r;
}
#endif

#endif
