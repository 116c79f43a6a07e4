/* The simulated driver, and a way to launch a kernel that is not in kernels.def. */
#ifndef FR_SHIM_SHIM_H
#define FR_SHIM_SHIM_H

#include "../../kernels/cuda/cu.h"
#include "runtime.h"

extern const struct fr_cu fr_cu_shim;
extern unsigned fr_shim_launches[FR_CU_KERNELS]; /* asked for so far, of each kernel */
/* As fr_cu.launch, of a kernel defined by FR_KERNEL anywhere in the program: &fr_shim_NAME. */
int fr_shim_launch(struct fr_cu_device *at, enum fr_cu_stream stream, const struct fr_shim_kernel *k,
		   const unsigned grid[3], unsigned threads, unsigned smem, const void *args, size_t args_bytes);

#endif
