/* ptx.h on the host: the same words for g++, each with the documented behaviour of its instruction (runtime.h and the
 * files beside it do the work). docs/CUDA-HOST.md says what is simulated. */
#ifndef FR_CUDA_HOST_H
#define FR_CUDA_HOST_H

#include <math.h>
#include "runtime.h"

#ifndef __SANITIZE_THREAD__
#error "kernels for the host shim are compiled with -fsanitize=thread: that is how their loads and stores are seen"
#endif

#define FR_KERNEL(name, args_t, max_threads, min_blocks)                                                               \
	extern "C" void name(const args_t a);                                                                          \
	static void fr_shim_run_##name(const void *args)                                                               \
	{                                                                                                              \
		name(*(const args_t *)args);                                                                           \
	}                                                                                                              \
	extern "C" {                                                                                                   \
	extern const struct fr_shim_kernel fr_shim_##name;                                                             \
	const struct fr_shim_kernel fr_shim_##name = {#name, fr_shim_run_##name, sizeof(args_t), max_threads,          \
						      min_blocks};                                                     \
	}                                                                                                              \
	extern "C" void name(const args_t a)
#define FR_DEVICE static inline __attribute__((always_inline))
#define FR_WAIT() fr_shim_wait()
#define FR_RELEASE() fr_shim_release()

#define __restrict__ __restrict
#define __host__
#define __device__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __syncthreads() fr_shim_syncthreads(__LINE__)

/* Read by assembly: an instrumented load of each index would cost more than most kernels' arithmetic. */
#define FR_SHIM_INDEX(type, member)                                                                                    \
	struct type {                                                                                                  \
		FR_DEVICE_MEMBER operator unsigned() const                                                             \
		{                                                                                                      \
			unsigned v;                                                                                    \
			__asm__("movl %1, %0" : "=r"(v) : "m"(fr_shim_now.member));                                    \
			return v;                                                                                      \
		}                                                                                                      \
	}
#define FR_DEVICE_MEMBER inline __attribute__((always_inline))
FR_SHIM_INDEX(fr_shim_thread, thread);
FR_SHIM_INDEX(fr_shim_threads, threads);
FR_SHIM_INDEX(fr_shim_block_x, block[0]);
FR_SHIM_INDEX(fr_shim_block_y, block[1]);
FR_SHIM_INDEX(fr_shim_block_z, block[2]);
FR_SHIM_INDEX(fr_shim_grid_x, grid[0]);
FR_SHIM_INDEX(fr_shim_grid_y, grid[1]);
FR_SHIM_INDEX(fr_shim_grid_z, grid[2]);
struct fr_shim_zero {
	FR_DEVICE_MEMBER operator unsigned() const
	{
		return 0;
	}
};
struct fr_shim_one {
	FR_DEVICE_MEMBER operator unsigned() const
	{
		return 1;
	}
};
static const struct {
	fr_shim_thread x;
	fr_shim_zero y, z;
} threadIdx __attribute__((unused)) = {};
static const struct {
	fr_shim_threads x;
	fr_shim_one y, z;
} blockDim __attribute__((unused)) = {};
static const struct {
	fr_shim_block_x x;
	fr_shim_block_y y;
	fr_shim_block_z z;
} blockIdx __attribute__((unused)) = {};
static const struct {
	fr_shim_grid_x x;
	fr_shim_grid_y y;
	fr_shim_grid_z z;
} gridDim __attribute__((unused)) = {};

FR_DEVICE unsigned char *fr_smem(void)
{
	return fr_shim_smem + FR_SHIM_SMEM_GUARD;
}
FR_DEVICE uint32_t fr_smem_at(const void *p)
{
	return fr_shim_smem_at(p);
}

/* ---- across a warp ---- */
FR_DEVICE float fr_shfl_xor(float v, int mask)
{
	return fr_bits_f32(fr_shim_shfl_xor(fr_f32_bits(v), mask));
}
FR_DEVICE float fr_shfl(float v, int lane)
{
	return fr_bits_f32(fr_shim_shfl(fr_f32_bits(v), lane));
}
FR_DEVICE uint32_t fr_shfl_u(uint32_t v, int lane)
{
	return fr_shim_shfl(v, lane);
}
FR_DEVICE uint32_t fr_shfl_xor_u(uint32_t v, int mask)
{
	return fr_shim_shfl_xor(v, mask);
}
FR_DEVICE uint32_t fr_ballot(int pred)
{
	return fr_shim_ballot(pred);
}
FR_DEVICE void fr_syncwarp(void)
{
	fr_shim_syncwarp();
}
FR_DEVICE void fr_bar(int id, int threads)
{
	fr_shim_bar(id, threads);
}

/* ---- memory ---- */
FR_DEVICE fr_u4 fr_shim_u4(struct fr_shim_two t)
{
	fr_u4 v = {(uint32_t)t.lo, (uint32_t)(t.lo >> 32), (uint32_t)t.hi, (uint32_t)(t.hi >> 32)};
	return v;
}
FR_DEVICE fr_u4 fr_ld_stream(const void *p)
{
	return fr_shim_u4(fr_shim_ld16(p));
}
FR_DEVICE fr_u4 fr_ld_const(const void *p)
{
	return fr_shim_u4(fr_shim_ld16(p));
}
FR_DEVICE void fr_cp_async(void *smem, const void *global, int valid)
{
	fr_shim_cp_async(smem, global, valid);
}
FR_DEVICE void fr_cp_commit(void)
{
	fr_shim_cp_commit();
}
template <int pending> FR_DEVICE void fr_cp_wait(void)
{
	fr_shim_cp_wait(pending);
}
/* Copies that the compiler does not turn into loads and stores of its own. */
#define memcpy(dst, src, n)                                                                                            \
	(__builtin_constant_p(n) && (n) <= 16 ? __builtin_memcpy(dst, src, n) : fr_shim_memcpy(dst, src, n))
#define memset(dst, c, n)                                                                                              \
	(__builtin_constant_p(n) && (n) <= 16 ? __builtin_memset(dst, c, n) : fr_shim_memset(dst, c, n))

/* ---- matrices ---- */
FR_DEVICE void fr_ldmatrix(uint32_t r[4], const void *row)
{
	struct fr_shim_two t = fr_shim_ldmatrix(row, 0);
	r[0] = (uint32_t)t.lo, r[1] = (uint32_t)(t.lo >> 32), r[2] = (uint32_t)t.hi, r[3] = (uint32_t)(t.hi >> 32);
}
FR_DEVICE void fr_ldmatrix_t(uint32_t r[4], const void *row)
{
	struct fr_shim_two t = fr_shim_ldmatrix(row, 1);
	r[0] = (uint32_t)t.lo, r[1] = (uint32_t)(t.lo >> 32), r[2] = (uint32_t)t.hi, r[3] = (uint32_t)(t.hi >> 32);
}
FR_DEVICE void fr_mma_bf16(float c[4], const uint32_t a[4], const uint32_t b[2])
{
	struct fr_shim_four s = fr_shim_mma(0, a[0], a[1], a[2], a[3], b[0], b[1], c[0], c[1], c[2], c[3]);
	c[0] = s.c0, c[1] = s.c1, c[2] = s.c2, c[3] = s.c3;
}
FR_DEVICE void fr_mma_f16(float c[4], const uint32_t a[4], const uint32_t b[2])
{
	struct fr_shim_four s = fr_shim_mma(1, a[0], a[1], a[2], a[3], b[0], b[1], c[0], c[1], c[2], c[3]);
	c[0] = s.c0, c[1] = s.c1, c[2] = s.c2, c[3] = s.c3;
}

/* ---- numbers ---- */
FR_DEVICE uint16_t fr_shim_bf16(float v)
{
	return v != v ? 0x7fff : fr_f32_bf16(v); /* the device's cvt has one NaN */
}
FR_DEVICE uint32_t fr_bf16x2(float lo, float hi)
{
	return (uint32_t)fr_shim_bf16(lo) | (uint32_t)fr_shim_bf16(hi) << 16;
}
FR_DEVICE uint16_t fr_f16_sat(float v)
{
	v = v > 65504.0f && v < INFINITY ? 65504.0f : v < -65504.0f && v > -INFINITY ? -65504.0f : v;
	return fr_shim_f16(v);
}
FR_DEVICE uint32_t fr_f16x2(float lo, float hi)
{
	return (uint32_t)fr_f16_sat(lo) | (uint32_t)fr_f16_sat(hi) << 16;
}
FR_DEVICE uint16_t fr_f16_rn(float v)
{
	return fr_shim_f16(v);
}
FR_DEVICE uint32_t fr_f16x2_rn(float lo, float hi)
{
	return (uint32_t)fr_shim_f16(lo) | (uint32_t)fr_shim_f16(hi) << 16;
}
FR_DEVICE float fr_f16_float(uint16_t h)
{
	return fr_shim_f16_float(h);
}
FR_DEVICE float fr_exp2_fast(float x)
{
	return fr_shim_exp2(x);
}

/* ---- CUDA's own small functions that need no header there ---- */
FR_DEVICE float __uint_as_float(unsigned v)
{
	return fr_bits_f32(v);
}
FR_DEVICE unsigned __float_as_uint(float v)
{
	return fr_f32_bits(v);
}
FR_DEVICE float __int_as_float(int v)
{
	return fr_bits_f32((uint32_t)v);
}
FR_DEVICE int __float_as_int(float v)
{
	return (int)fr_f32_bits(v);
}
FR_DEVICE int __popc(unsigned v)
{
	return __builtin_popcount(v);
}
FR_DEVICE int __clz(int v)
{
	return v ? __builtin_clz((unsigned)v) : 32;
}
FR_DEVICE int __ffs(int v)
{
	return __builtin_ffs(v);
}
template <class T> FR_DEVICE T min(T a, T b)
{
	return b < a ? b : a;
}
template <class T> FR_DEVICE T max(T a, T b)
{
	return a < b ? b : a;
}

#endif
