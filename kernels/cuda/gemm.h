/* What the matrix products of the prefill phase share: gemm.c, gemm_f32.c, lt.c. */
#ifndef FR_KERNELS_CUDA_GEMM_H
#define FR_KERNELS_CUDA_GEMM_H

#include "cuda.h"

/* One product of a launch, all but pack and tiles. */
struct fr_gemm_part fr_gemm_part_of(const struct fr_linear *a);
struct fr_gemm_part fr_gemm_glu_part_of(const struct fr_glu *a);
/* Asks where y's 16-bit terms go, if a product will read them. After fr_cu_pack of the product's own input. */
void fr_gemm_pack_out(struct fr_cuda *d, struct fr_gemm_part *p, int rows, enum fr_phase phase);

/* y [x->rows, w->rows] = the dots of packed rows and weights alone. */
void fr_gemm_dot(struct fr_cuda *d, const struct fr_packed *x, const struct fr_mat *w, float *y);

FR_INLINE int fr_gemm_aligned(const void *p)
{
	return ((uintptr_t)p & 15) == 0; /* NULL is */
}
FR_INLINE int fr_gemm_tiles(int n, int tile)
{
	return (n + tile - 1) / tile;
}

#endif
