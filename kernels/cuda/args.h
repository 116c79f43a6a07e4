/* The one argument of each kernel: plain structs by value, the same for the host half, the kernels and the host shim.
 * Pointers are device memory. Each family of kernels keeps its structs together. */
#ifndef FR_KERNELS_CUDA_ARGS_H
#define FR_KERNELS_CUDA_ARGS_H

#include "../ops.h"

/* ---- pack.cu: activations to 16-bit terms ---- */
struct fr_pack_args {
	const float *x; /* [rows, cols], rows `stride` floats apart */
	size_t stride;
	uint16_t *out;  /* [terms, rows, pitch] */
	float *scale;   /* [rows], f16 only */
	int rows, cols, pitch, terms;
	int vector; /* every row of x starts at 16 bytes */
};

/* ---- rows.cu ---- */
struct fr_norm_args {
	const float *x, *weight, *bias; /* bias NULL: RMSNorm */
	float *y;
	uint16_t *out; /* [terms, rows, pitch] bf16 terms of y, NULL: none */
	float eps;
	int rows, dim, pitch, terms;
	int vector_x, vector_weight, vector_bias, vector_y; /* rows of it start at 16 bytes */
};
struct fr_rope_args {
	float *q;
	const float *k, *v, *cos, *sin;
	const struct fr_row *row;
	void *cache_k, *cache_v; /* of this layer: [seqs, kv_heads, max_pos, head_dim] */
	int f16; /* the cache's type, else f32 */
	int rows, heads, kv_heads, max_pos, head_dim;
	int vector_q, vector_k, vector_v, vector_cos, vector_sin;
};
struct fr_embed_args {
	const int32_t *ids;
	const void *table; /* rows of fr_pitch(dim) items */
	const float *images;
	float *y;
	int rows, dim, pitch;
	int vector_images, vector_y;
};

/* ---- patch.cu ---- */
#define FR_PATCH_TILE 64 /* patches, and outputs, of a block */
#define FR_PATCH_SMEM (6 * 8192 + 256) /* two stages of weights and two terms of pixels; the patches' first pixels */
#define FR_PATCH_SMEM_F32 (2 * 16 * 68 * 4 + 256)
struct fr_patch_args {
	const float *pixels; /* [images, 3, image, image] */
	const void *w;       /* [dim, pitch], the first k of each row are the weights */
	const float *bias, *cls, *pos;
	float *y; /* [images, 1 + grid * grid, dim] */
	int images, image, patch, grid, dim, k, pitch;
};

#endif
