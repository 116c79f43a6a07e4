/* The one argument of each kernel: plain structs by value, the same for the host half, the kernels and the host shim.
 * Pointers are device memory. Each family of kernels keeps its structs together. */
#ifndef FR_KERNELS_CUDA_ARGS_H
#define FR_KERNELS_CUDA_ARGS_H

#include "../ops.h"

#endif
