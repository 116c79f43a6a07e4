/* What the CUDA backend asks of a driver, as a table: kernels/cuda/driver.c fills it from libcuda.so.1, loaded at run time;
 * tests/cuda_host/ fills it with a simulation on the CPU. Nothing else of the backend knows which it is, and only
 * driver.c and lt.c see NVIDIA's headers.
 *
 * All calls are made by one thread at a time per stream, by any threads. A function that returns int gives 0 or a
 * driver's error number, which text() turns into words; errors of kernels are asynchronous and come out of a later
 * call. */
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

/* Positions in a stream that another stream or the host can wait for. */
#define FR_CU_FLAGS 32

struct fr_cu_device; /* a device that was opened: its streams and flags */
struct fr_cu {
	/* Device `ordinal` of those visible. Fails with FR_E_DEVICE and a sentence that says what is missing. A device
	 * may be opened several times: each has streams of its own, memory may be used by all. */
	int (*open)(int ordinal, struct fr_cu_device **out, struct fr_cu_info *info, struct fr_error *err);
	void (*close)(struct fr_cu_device *at);
	/* Bytes that may be taken, and in all. */
	int (*room)(struct fr_cu_device *at, size_t *free, size_t *total);
	int (*alloc)(struct fr_cu_device *at, size_t bytes, void **out); /* device memory, 256-byte aligned, not zeroed */
	void (*release)(struct fr_cu_device *at, void *p);
	/* Pinned; kernels may read it at the same address. */
	int (*alloc_host)(struct fr_cu_device *at, size_t bytes, void **out);
	void (*release_host)(struct fr_cu_device *at, void *p);
	/* Any direction, by address; asynchronous where the host side is pinned. */
	int (*copy)(struct fr_cu_device *at, enum fr_cu_stream stream, void *dst, const void *src, size_t bytes);
	int (*zero)(struct fr_cu_device *at, enum fr_cu_stream stream, void *p, size_t bytes);
	int (*launch)(struct fr_cu_device *at, enum fr_cu_stream stream, enum fr_cu_kernel kernel,
		      const unsigned grid[3], unsigned threads, unsigned smem, const void *args, size_t args_bytes);
	int (*sync)(struct fr_cu_device *at, enum fr_cu_stream stream);
	/* Flag i is put behind what `stream` was given so far; what `stream` is given after behind(i) waits until flag i
	 * is passed; passed(i) makes the host wait for that. A flag that was never put is passed. */
	int (*flag)(struct fr_cu_device *at, enum fr_cu_stream stream, int i);
	int (*behind)(struct fr_cu_device *at, enum fr_cu_stream stream, int i);
	int (*passed)(struct fr_cu_device *at, int i);
	/* What FR_CU_COMPUTE is given between begin and end is not run but kept, as a graph. */
	int (*record_begin)(struct fr_cu_device *at);
	int (*record_end)(struct fr_cu_device *at, void **graph);
	int (*replay)(struct fr_cu_device *at, void *graph);
	void (*forget)(struct fr_cu_device *at, void *graph);
	/* Milliseconds that FR_CU_COMPUTE took between two marks; 0 and 1 are the marks. For the bench. */
	int (*mark)(struct fr_cu_device *at, int which);
	int (*elapsed)(struct fr_cu_device *at, float *ms);
	void *(*native_stream)(struct fr_cu_device *at, enum fr_cu_stream stream); /* CUstream; NULL in the shim */
	const char *(*text)(int code);                 /* "out of memory"; static */
};
extern const struct fr_cu fr_cu_driver;
/* Tests put the simulation here before a device is opened; NULL: the driver, where this build has it. */
extern const struct fr_cu *fr_cu_override;

#endif
