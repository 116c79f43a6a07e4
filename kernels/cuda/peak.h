/* What a CUDA device can do at most, measured by kernels that do nothing else: the denominators of `fr-run bench`. */
#ifndef FR_KERNELS_CUDA_PEAK_H
#define FR_KERNELS_CUDA_PEAK_H

#include "../ops.h"

/* Medians of several launches; 0 where the clock could not tell. */
struct fr_cuda_peaks {
	double read;	  /* bytes per second from device memory, a buffer several times L2 */
	double copy;	  /* bytes per second moved there: those read and those written */
	double bf16, f16; /* operations per second of mma.sync with float32 sums, a multiply-add counted as two */
	double f32;	  /* the same of float32 fma on the plain cores */
	double gap;	  /* seconds from an empty kernel to the next in a recording */
};
/* dev: an instance from fr_cuda_open. Takes device memory for the time of the call: several times L2, at most a third
 * of what is free. FR_E_DEVICE or FR_E_MEMORY. */
int fr_cuda_peak(struct fr_dev *dev, struct fr_cuda_peaks *out, struct fr_error *err);

#endif
