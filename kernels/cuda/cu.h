/* What the CUDA backend asks of a driver, as a table: kernels/cuda/driver.c fills it from libcuda.so.1, loaded at run time;
 * tests/cuda_host/ fills it with a simulation on the CPU. Nothing else of the backend knows which it is, and only
 * driver.c and lt.c see NVIDIA's headers.
 *
 * All calls are made by one thread at a time per stream. A function that returns int gives 0 or a driver's error
 * number, which text() turns into words; errors of kernels are asynchronous and come out of a later call. */
#ifndef FR_KERNELS_CUDA_CU_H
#define FR_KERNELS_CUDA_CU_H

#include "../ops.h"

enum fr_cu_kernel {
#define FR_CU(name, args) FR_CU_##name,
#include "kernels.def"
#undef FR_CU
	FR_CU_KERNELS
};
extern const char *const fr_cu_kernel_names[FR_CU_KERNELS]; /* in device.c */

enum fr_cu_stream { FR_CU_COMPUTE, FR_CU_UPLOAD, FR_CU_STREAMS };

struct fr_cu_info {
	char name[128];     /* "NVIDIA H200" */
	int major, minor;   /* compute capability */
	int sms;
	int smem_block;     /* bytes of shared memory a block may have (opt-in) */
	size_t l2;          /* bytes */
	int simulated;      /* 1 in the host shim */
};

struct fr_cu {
	/* Device `ordinal` of those visible. Fails with FR_E_DEVICE and a sentence that says what is missing. */
	int (*open)(int ordinal, struct fr_cu_info *info, struct fr_error *err);
	void (*close)(void);
	int (*room)(size_t *free, size_t *total);
	int (*alloc)(size_t bytes, void **out);        /* device memory, 256-byte aligned, not zeroed */
	void (*release)(void *p);
	int (*alloc_host)(size_t bytes, void **out);   /* pinned; kernels may read it at the same address */
	void (*release_host)(void *p);
	/* Any direction, by address; asynchronous where the host side is pinned. */
	int (*copy)(enum fr_cu_stream stream, void *dst, const void *src, size_t bytes);
	int (*zero)(enum fr_cu_stream stream, void *p, size_t bytes);
	int (*launch)(enum fr_cu_stream stream, enum fr_cu_kernel kernel, const unsigned grid[3], unsigned threads,
		      unsigned smem, const void *args, size_t args_bytes);
	int (*sync)(enum fr_cu_stream stream);
	/* Work given to `stream` after this waits for what `on` has been given so far. */
	int (*after)(enum fr_cu_stream stream, enum fr_cu_stream on);
	/* What FR_CU_COMPUTE is given between begin and end is not run but kept, as a graph. */
	int (*record_begin)(void);
	int (*record_end)(void **graph);
	int (*replay)(void *graph);
	void (*forget)(void *graph);
	/* Milliseconds that FR_CU_COMPUTE took between two marks; 0 and 1 are the marks. For the bench. */
	int (*mark)(int which);
	int (*elapsed)(float *ms);
	void *(*native_stream)(enum fr_cu_stream stream); /* CUstream, for cuBLASLt; NULL in the shim */
	const char *(*text)(int code);                 /* "out of memory"; static */
};
extern const struct fr_cu fr_cu_driver;
/* Tests put the simulation here before a device is opened; NULL: the driver, where this build has it. */
extern const struct fr_cu *fr_cu_override;

#endif
