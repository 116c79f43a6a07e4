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

struct fr_gate_args {
	const float *gate, *up;
	float *y;      /* [rows, cols], may be either */
	uint16_t *out; /* [terms, rows, pitch] bf16 terms of y, NULL: none */
	int rows, cols, pitch, terms;
	int vector; /* rows of gate, up and y start at 16 bytes */
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

/* ---- decode products: skinny.cu, skinny_f32.cu ---- */
#define FR_SKINNY_WARPS 8     /* of a block: they share out the columns */
#define FR_SKINNY_RUN 128     /* columns that a warp takes at a time */
#define FR_SKINNY_ROWS 16     /* weight rows of a tile */
#define FR_SKINNY_DEPTH 4     /* chunks of 32 columns under way in a warp */
#define FR_SKINNY_F32_WARPS 4 /* of a block: 4 weight rows each */
#define FR_SKINNY_F32_DEPTH 8

struct fr_skinny_part {
	const void *w, *up;    /* [n, fr_pitch(cols)]; up: NULL but for a GLU, whose gate is w */
	const float *bias, *scale, *residual; /* as in struct fr_linear */
	float *y;              /* [rows, n] */
	uint16_t *packed;      /* y's terms [packed_terms][rows, packed_pitch], bf16; NULL: not wanted */
	int n, act, packed_pitch, packed_terms;
	int first;             /* block of the grid's x that begins it */
};
struct fr_skinny_args {
	const void *x;         /* 16-bit: two terms [rows, x_stride] each, one after the other; f32: [rows, x_stride] */
	const float *x_scale;  /* [rows] factor of the terms; NULL: 1 */
	size_t x_stride, x_term; /* items from row to row, and from a term to the other */
	int x_quads;           /* f32: rows of x are aligned to 16 bytes and cols is a multiple of 4 */
	int rows, cols, pitch; /* pitch: items of a weight row */
	int parts;
	struct fr_skinny_part part[FR_MAX_ALSO];
};

/* ---- gemm.cu, gemm_f32.cu, lt.cu ---- */

/* One product of a launch: y = act(dot * rowscale + bias) * scale + residual, the absent parts NULL; of a gated product
 * y = silu(dot of w[0]) * (dot of w[1]). */
struct fr_gemm_part {
	const void *w[2];      /* [n, wpitch] */
	const float *bias;     /* [n] */
	const float *scale;    /* [n] */
	const float *residual; /* [rows, n] */
	float *y;              /* [rows, n] */
	uint16_t *pack;        /* [pack_terms][rows, pack_pitch]: y's bf16 terms; NULL: not wanted */
	int pack_terms, pack_pitch;
	int n, act;
	int vec;               /* n is a multiple of 4, y and residual are aligned to 16 bytes */
	int tiles;             /* tiles of columns */
};
struct fr_gemm_args {
	const uint16_t *x;     /* [terms][rows, xpitch] */
	const float *rowscale; /* [rows] or NULL */
	size_t xpitch, wpitch; /* elements, multiples of 8 */
	int rows, terms;
	int depth;             /* fr_pitch(cols) */
	int row_tiles, group;  /* tiles of rows; that many of them take turns on the same columns */
	int parts;
	struct fr_gemm_part part[FR_MAX_ALSO];
};
struct fr_gemm_f32_args {
	const float *x;        /* [rows, cols], rows `stride` floats apart */
	size_t stride, wpitch; /* floats; wpitch a multiple of 8 */
	int rows, cols;
	int vec;               /* x is aligned to 16 bytes and stride a multiple of 4 */
	int row_tiles;
	int parts;
	struct fr_gemm_part part[FR_MAX_ALSO];
};

#define FR_LT_THREADS 256
#define FR_LT_MAX_ROWS 65535 /* of the grid; a block takes every so many-th row */
struct fr_lt_args {
	struct fr_gemm_part part;
	const float *sums;     /* [rows, n]; may be y */
	const float *gate;     /* [rows, n]: of a gated product, whose sums are up's; else NULL */
	const float *rowscale; /* [rows] or NULL */
	int rows;
};

/* ---- pick.cu: a block a row ---- */
#define FR_PICK_GREEDY_THREADS 1024
#define FR_PICK_GREEDY_SMEM (32 * 8)
#define FR_PICK_THREADS 512
#define FR_PICK_BINS 16 /* as many as a block has warps */
#define FR_PICK_SMEM ((FR_PICK_BINS * FR_PICK_THREADS + FR_PICK_BINS) * 8)
struct fr_pick_args {
	const float *logits; /* [rows, vocab] */
	const double *draw;  /* [rows]; NULL when greedy */
	int32_t *ids;	     /* [rows] */
	float temperature, top_p;
	int vocab, top_k;
	int vector; /* rows of logits start at 16 bytes */
};

/* ---- attention ---- */

/* Where y [rows, width] goes, and its 16-bit terms for the next product, term t at packed + t * term (NULL: none). */
struct fr_attn_out {
	float *y;
	uint16_t *packed;
	size_t term;
	int terms, width;
};
/* n floats to f16, saturated: x [n] -> y [n]; n is a multiple of 8, y 16-byte aligned. Two arrays of one size at once. */
struct fr_attn_half_args {
	const float *x[2];
	uint16_t *y[2];
	size_t n;
};
/* Keys and values of one call: position j of head h (of the keys) and sequence or item s is at
 * s * of_seq + h * of_head + j * of_pos elements. */
struct fr_attn_keys {
	const void *k, *v;
	size_t of_seq, of_head, of_pos;
	int f16;
};
/* A block's rows, all of one sequence and at consecutive positions: a row i of them sees keys 0..pos + i. */
struct fr_attn_tile {
	int row, rows, seq, pos;
};
/* fr_attn_mma_*, fr_attn_f32_*. Grid: heads, tiles, items. */
struct fr_attn_args {
	const float *q; /* [items, rows, width] */
	struct fr_attn_keys keys;
	const float *bias;                /* [items, heads, rows, kv_rows] or NULL */
	const struct fr_attn_tile *tiles; /* NULL: dense, tiles of the kernel's height, every row sees kv_rows keys */
	struct fr_attn_out out;
	float scale;
	int rows, kv_rows, head_dim, group; /* group: query heads of one head of keys */
};
/* fr_attn_decode_*. Grid: splits, blocks of query heads, rows. */
struct fr_attn_decode_args {
	const float *q; /* [rows, width] */
	struct fr_attn_keys keys;
	const struct fr_row *row;
	float *part; /* [rows, heads, chunks, head_dim + 2]: o, m, l of each chunk; NULL: one chunk, straight to out */
	struct fr_attn_out out;
	float scale;
	int heads, head_dim, group, chunks;
};
/* fr_attn_combine. Grid: heads, rows. */
struct fr_attn_combine_args {
	const float *part;
	const struct fr_row *row;
	struct fr_attn_out out;
	int heads, head_dim, chunks;
};

/* ---- map.cu ---- */

#define FR_MAP_THREADS 256
#define FR_MAP_ROWS 32 /* of a block; and the keys of a tile */
/* fr_attn_map. Grid: heads, tiles of rows, items. Width is heads * head_dim. */
struct fr_attn_map_args {
	const float *q, *k; /* [items, q_rows, width], [items, kv_rows, width] */
	float *map;         /* [items, heads, rows, kv_rows] */
	float scale;
	int q_rows, rows, kv_rows, head_dim;
	int vector; /* rows of q and k start at 16 bytes */
};
#define FR_MAP_BIAS_PIXELS 2 /* of a thread, where there are sixteen heads */
/* fr_map_bias_*. Grid: pixels, items. */
struct fr_map_bias_args {
	const float *map; /* [items, heads, 1 + n, 1 + n] */
	const float *w1, *b1, *w2, *b2;
	float *y; /* [items, heads, n, n] */
	float offset;
	int heads, mid, n;
};

/* ---- peak.cu: two blocks a multiprocessor ---- */
#define FR_PEAK_THREADS 512
#define FR_PEAK_UNROLL 8    /* loads of 16 bytes under way in a thread */
#define FR_PEAK_CHAINS 8    /* sums of a thread or warp that are independent */
#define FR_PEAK_F32_STEPS 8 /* links of each in a round */
struct fr_peak_args {
	const void *from; /* [quads] of 16 bytes: a multiple of what the grid reads in a turn */
	void *to;
	uint32_t *sink; /* one word */
	size_t quads;
	int rounds;
	float factor;
};

#endif
