/* The micro-kernels that the cpu instance is made of, with their block sizes beside them. The table is filled with ref
 * (which uses nothing above baseline x86-64), then overwritten level by level, so every pointer is always valid. All
 * levels compute the bits of the contract in ops.h; what differs is the shape of the register tile, and whether
 * products are made in pairs or in tiles.
 *
 * Edges are the micro-kernels' business: they read and write exactly the elements named here. */
#ifndef FR_KERNELS_CPU_UKR_H
#define FR_KERNELS_CPU_UKR_H

#include "../ops.h"

#define FR_MAX_MR 16 /* largest register tile of any level, in rows */
#define FR_MAX_GEMV_ROWS 16
#define FR_MAX_HEAD_DIM 320

/* w: n rows of k weights, ldw elements apart; n <= nr. b [k, nr]: b[i, j] = w[j, i], columns n..nr-1 zero. */
typedef void fr_pack_fn(int n, int k, const void *w, size_t ldw, float *b);
/* y[r * ldy + c] = lane(x[r], w[c * ldw ..]) over k, r < rows <= FR_MAX_GEMV_ROWS, c < cols; x as gemv_pack of this
 * dtype left it. Reads w once from memory. */
typedef void fr_gemv_fn(int rows, int cols, int k, const float *x, const void *w, size_t ldw, float *y, size_t ldy);
/* A product on packed panels: fr_ukr below. */
typedef void fr_gemm_fn(int m, int n, int k, const float *a, size_t lda, size_t ahead, const float *b, float *c,
			size_t ldc, int more);
/* for j < n in order: o[d] = fma(p[j], v[j * ldv + d], o[d]), d < dim. */
typedef void fr_axpy_fn(int n, int dim, const float *p, const void *v, size_t ldv, float *o);

/* Products in tiles (ops.h). Weight rows are the rows of a tile and x's rows its columns, so the sums come out
 * transposed; 32 of each at a time, two tiles by two. bf16 values are uint16_t, a tile has 512 of them. */
#define FR_TILE_ROWS 32
#define FR_TILE_ITEMS 512
struct fr_tile_call {
	/* The A operand, FR_TILE_ROWS weight rows. In bytes: from a row to the next, to the row 16 further, and to the
	 * 32 elements that follow. Each further term lies two tiles behind the one before. */
	const void *a;
	size_t row, half, step;
	const uint16_t *b; /* [pairs, steps, terms of x, 2] tiles as pack_x leaves them */
	float *c;	   /* [pairs, 2 of w, 2 of x, 16 rows of w, 16 rows of x], continued where `more`, else begun */
	int pairs, steps, more;
	const char *next; /* weights to be fetched meanwhile: next_rows of them, next_bytes each, next_step apart */
	size_t next_step, next_bytes;
	int next_rows;
};
struct fr_tiles {
	int kc; /* depth of a slice for one term, x's and weights' added up: FR_TILE_ROWS * kc bf16 stay in L1 */
	int nc; /* most weight rows of a job, a multiple of FR_TILE_ROWS */
	int l2; /* floats: a job's sums and its slice of x together */
	/* The calling thread's tiles: to be set up before multiply, and given back soon after, since a context switch
	 * saves what is in use. */
	void (*begin)(void);
	void (*end)(void);
	/* rows <= FR_TILE_ROWS of x, k elements each, ldx apart, into dst [k / 32 rounded up, terms, 2] tiles, each
	 * [16 pairs along k, 16 rows of x, 2]; what is not there is zero. */
	void (*pack_x[2])(int rows, int k, const float *x, size_t ldx, uint16_t *dst);
	/* rows <= FR_TILE_ROWS of weights, ldw elements apart, into dst [k / 32 rounded up, fr_tile_terms(dtype), 2]
	 * tiles, each [16 rows, 32]; what is not there is zero. */
	void (*pack_w[FR_DTYPES])(int rows, int k, const void *w, size_t ldw, uint16_t *dst);
	void (*multiply[2][3])(const struct fr_tile_call *call); /* [terms of x - 1][terms of w - 1] */
	/* y[j * ldy + i] = c[i * 16 + j], i and j < 16 */
	void (*transpose)(const float *c, float *y, size_t ldy);
};

/* What is read next, to be fetched into L2 meanwhile: whole lines from `at` on. */
struct fr_ahead {
	const char *at;
	size_t lines;
};
/* s[j] = lane(q, k[j * ldk ..]) over dim, j < n. */
typedef void fr_dots_fn(int n, int dim, const float *q, const void *k, size_t ldk, struct fr_ahead next, float *s);
/* As fr_axpy_fn. */
typedef void fr_sum_fn(int n, int dim, const float *p, const void *v, size_t ldv, struct fr_ahead next, float *o);

/* Products of q8_0 weights (ops.h, "q8"), whose bits depend on nothing but x and w. x is quantised once a product, in
 * tiles: [blocks of 32][rows of the tile], x_bytes each, in the level's own format; weights are used as they lie, by
 * mul_few, or from panels of nr outputs, [blocks], w_bytes each. */
struct fr_q8_ukr {
	/* Quantises rows of x, ldx apart, into one tile. */
	void (*pack_x)(int rows, int blocks, const float *x, size_t ldx, void *dst);
	/* w: n <= nr rows, ldw bytes apart; the outputs n..nr-1 of the panel are anything. */
	void (*pack_w)(int n, int blocks, const void *w, size_t ldw, void *dst);
	/* c [m, n] (ldc floats apart) = q8 over the blocks of a tile of m <= mr rows and a panel, started from c where
	 * `more`, from +0 otherwise. */
	void (*mul)(int m, int n, int blocks, const void *x, const void *w, float *c, size_t ldc, int more);
	/* The same of rows <= few rows of x and n rows of weights ldw bytes apart, each read once. NULL: few is 0. */
	void (*mul_few)(int rows, int n, int blocks, const void *x, const void *w, size_t ldw, float *c, size_t ldc);
	size_t x_bytes, w_bytes;
	int mr, nr;
	int few;
	int few_cols; /* weight rows of a tile of mul_few: jobs take multiples of it */
	int kb;	      /* blocks of a panel, which stays in L1 while mc rows pass */
	int mc;	      /* rows of a block, which stays in L2 while nc columns pass; a multiple of mr */
	int nc;	      /* columns of a job, a multiple of nr */
};

struct fr_ukr {
	struct fr_q8_ukr q8;
	/* Matrix product on packed panels. c [m, n] (ldc floats apart) = seq over k of a [m, k] (lda apart) and b [k,
	 * nr], started from c where `more`, from +0 otherwise. m <= mr, n <= nr. ahead: how far behind a the rows lie
	 * that come next, to be fetched meanwhile; 0 for none. */
	fr_gemm_fn *gemm;
	int mr, nr;
	int kc; /* depth of a panel at most: nr * kc floats stay in L1, or come from L2, while mc rows pass */
	int mc; /* rows of a block: mc * kc floats stay in L2 while nc columns pass; a multiple of mr */
	int nc; /* columns of a job, a multiple of nr */
	/* The same of bf16 weights in pairs (ops.h), x in one term or two, on panels of 32-bit words with the block
	 * sizes above. k counts words of b, each the elements 2i (low half) and 2i + 1 of one column, zero beyond an
	 * odd end; a has as many words as terms for each. NULL in a level without. pack_pairs: as pack, k elements;
	 * pack_pairs_f32 rounds them first. pack_rows_pairs: as pack_rows of float32, rounded, words of rows 2i and
	 * 2i + 1. pack_terms: a row of k floats into its words, rounded; one term may go where x is. */
	fr_gemm_fn *gemm_pairs[2];
	fr_pack_fn *pack_pairs, *pack_pairs_f32, *pack_rows_pairs;
	void (*pack_terms[2])(int k, const float *x, float *dst);
	struct fr_tiles tiles;		  /* all NULL in a level without; else they take the place of the pairs above */
	fr_pack_fn *pack[FR_DTYPES];	  /* weights and keys: transposing */
	fr_pack_fn *pack_rows[FR_DTYPES]; /* values: w has k rows of n elements, b[i, j] = w[i, j] */

	/* rows of x, ldx apart, into dst [rows, k rounded up to a multiple of 32] in the order that gemv wants. */
	void (*gemv_pack[FR_DTYPES])(int rows, int k, const float *x, size_t ldx, float *dst);
	fr_gemv_fn *gemv[FR_DTYPES];
	/* The same of bf16 weights in pair lanes (ops.h), x in one term or two; NULL in a level without. */
	void (*gemv_pack_pairs[2])(int rows, int k, const float *x, size_t ldx, float *dst);
	fr_gemv_fn *gemv_pairs[2];
	int gemv_cols;	 /* weight rows of a tile: jobs take multiples of it */
	double gemv_row; /* fr_dev.row_cost, measured (docs/SPEED.md) */
	fr_axpy_fn *axpy[FR_DTYPES];
	/* Attention of a decode step, for the types of a KV cache (f32, f16). */
	fr_dots_fn *dots[FR_DTYPES];
	fr_sum_fn *sum[FR_DTYPES];

	/* y[n] = act(c[n] + bias[n]) * scale[n] + residual[n], parts that are NULL left out. c and residual may be y.
	 */
	void (*finish)(int n, const float *c, const float *bias, enum fr_act act, const float *scale,
		       const float *residual, float *y);
	/* y[n] = silu(gate[n]) * up[n]; y may be either */
	void (*glu)(int n, const float *gate, const float *up, float *y);
	/* Rows in panels: element i of n lies at i / nr * step + i % nr. log puts log(x + offset) into them, add takes
	 * them and leaves x + b. gelu: x [rows, nr], each row's b added first. */
	void (*log)(int n, const float *x, float offset, float *y, size_t step);
	void (*add)(int n, const float *x, size_t step, float b, float *y);
	void (*gelu)(int rows, float *x, const float *b);
	/* One row of fr_norm; bias NULL: RMSNorm. y may be x. */
	void (*norm)(int dim, const float *x, const float *weight, const float *bias, float eps, float *y);
	/* Half-split rotation of x [2 * half] in place by cos, sin [half]. */
	void (*rotate)(int half, float *x, const float *cos, const float *sin);
	/* One chunk of the softmax: s [n] dot products in, p out; *m and *l go on; returns a (fr_attn in ops.h). */
	float (*softmax)(int n, float *s, float scale, const float *bias, float *m, float *l);
	void (*scale)(int n, float *x, float a);  /* x[i] *= a */
	void (*divide)(int n, float *x, float a); /* x[i] /= a */
	void (*widen[FR_DTYPES])(int n, const void *src, float *dst);
	void (*narrow[FR_DTYPES])(int n, const float *src, void *dst); /* f32 and f16 (RNE): the types of a KV cache */
};

void fr_ukr_ref(struct fr_ukr *u);
void fr_ukr_avx2(struct fr_ukr *u);
void fr_ukr_avx2_gemv(struct fr_ukr *u);
void fr_ukr_avx2_attn(struct fr_ukr *u);
void fr_ukr_avx512(struct fr_ukr *u);
void fr_ukr_avx512_gemv(struct fr_ukr *u);
void fr_ukr_avx512_attn(struct fr_ukr *u);
/* The same for products of q8_0 weights, each called by its level's function. */
void fr_ukr_ref_q8(struct fr_ukr *u);
void fr_ukr_avx2_q8(struct fr_ukr *u);
void fr_ukr_avx512_q8(struct fr_ukr *u);
void fr_ukr_avx512bf16_q8(struct fr_ukr *u);
void fr_ukr_amx_q8(struct fr_ukr *u);
/* Adds products in pairs: on top of avx512, or in plain C on top of ref. */
void fr_ukr_avx512bf16(struct fr_ukr *u);
void fr_ukr_avx512bf16_gemv(struct fr_ukr *u);
void fr_ukr_ref_pairs(struct fr_ukr *u);
/* Adds products in tiles: on top of avx512bf16, or in plain C on top of ref. */
void fr_ukr_amx(struct fr_ukr *u);
void fr_ukr_ref_tiles(struct fr_ukr *u);

#endif
