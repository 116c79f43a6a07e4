/* What compiled kernels call in the host shim; cuda_host.h wraps it in the words of ptx.h. Everything passes in
 * registers, so that nothing of it is itself a memory access that the watch would see. */
#ifndef FR_SHIM_RUNTIME_H
#define FR_SHIM_RUNTIME_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A kernel as the shim knows it: FR_KERNEL leaves one for each. */
struct fr_shim_kernel {
	const char *name;
	void (*run)(const void *args); /* one thread */
	unsigned args_bytes;
	unsigned threads, blocks; /* its launch bounds */
};

/* The thread that runs now. Read by inline assembly in kernels. */
struct fr_shim_now {
	uint32_t thread, threads;
	uint32_t block[3], grid[3];
};
extern struct fr_shim_now fr_shim_now;

/* Shared memory: a launch's bytes begin here, 1024-byte aligned. */
#define FR_SHIM_SMEM_MAX (256u << 10)
#define FR_SHIM_SMEM_GUARD (64u << 10)
extern unsigned char fr_shim_smem[FR_SHIM_SMEM_GUARD + FR_SHIM_SMEM_MAX + FR_SHIM_SMEM_GUARD];

struct fr_shim_two { /* 16 bytes: two integer registers */
	uint64_t lo, hi;
};
struct fr_shim_four { /* four floats: two vector registers */
	float c0, c1, c2, c3;
};

void fr_shim_syncthreads(int line);
void fr_shim_bar(int id, int threads);
void fr_shim_syncwarp(void);
uint32_t fr_shim_shfl(uint32_t v, int lane);
uint32_t fr_shim_shfl_xor(uint32_t v, int mask);
uint32_t fr_shim_ballot(int pred);
void fr_shim_wait(void);    /* griddepcontrol.wait */
void fr_shim_release(void); /* griddepcontrol.launch_dependents */
struct fr_shim_two fr_shim_ld16(const void *p);
void fr_shim_cp_async(void *smem, const void *global, int valid);
void fr_shim_cp_commit(void);
void fr_shim_cp_wait(int pending);
struct fr_shim_two fr_shim_ldmatrix(const void *row, int transposed);
struct fr_shim_four fr_shim_mma(int f16, uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1,
				float c0, float c1, float c2, float c3);
uint32_t fr_shim_smem_at(const void *p);
uint16_t fr_shim_f16(float v); /* RNE, overflow to infinity, any NaN 0x7fff as the device's cvt */
float fr_shim_f16_float(uint16_t h);
float fr_shim_exp2(float x);
void *fr_shim_memcpy(void *dst, const void *src, size_t n);
void *fr_shim_memset(void *dst, int c, size_t n);

#ifdef __cplusplus
}
#endif
#endif
