/* Host half of patch.cu: the patch embedding. */
#include "cuda.h"

#include <assert.h>

void fr_cu_patch(struct fr_dev *dev, const struct fr_patch *a)
{
	struct fr_cuda *d = (struct fr_cuda *)dev;
	const int grid = a->image / a->patch, images = a->images ? a->images : 1, dim = a->w.rows;
	const int patches = images * grid * grid;
	const struct fr_mat w = fr_cu_near(d, &a->w, FR_PREFILL);
	const unsigned tiles_m = (unsigned)fr_ceil_div(patches, FR_PATCH_TILE);
	const unsigned tiles_n = (unsigned)fr_ceil_div(dim, FR_PATCH_TILE);
	const struct fr_patch_args args = {.pixels = a->pixels,
					   .w = w.data,
					   .bias = a->bias,
					   .cls = a->cls,
					   .pos = a->pos,
					   .y = a->y,
					   .images = images,
					   .image = a->image,
					   .patch = a->patch,
					   .grid = grid,
					   .dim = dim,
					   .k = w.cols,
					   .pitch = fr_pitch(w.cols)};

	assert(w.cols == 3 * a->patch * a->patch && patches > 0);
	/* a pixel's index is 32 bits in the kernels */
	assert((size_t)images * 3 * (size_t)a->image * (size_t)a->image < UINT32_MAX);
	fr_cu_uploaded(d);
	fr_cu_wrote(d, a->y, (size_t)(images + patches) * (size_t)dim * sizeof(float));
	if (w.dtype == FR_F32)
		FR_CU_RUN(d, fr_patch_f32, tiles_m, tiles_n, 1, 256, FR_PATCH_SMEM_F32, args);
	else if (w.dtype == FR_F16)
		FR_CU_RUN(d, fr_patch_f16, tiles_m, tiles_n, 1, 128, FR_PATCH_SMEM, args);
	else
		FR_CU_RUN(d, fr_patch_bf16, tiles_m, tiles_n, 1, 128, FR_PATCH_SMEM, args);
}
