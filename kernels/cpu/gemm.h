/* What gemm.c and gemm_tiles.c share: a product of some rows, being made. */
#ifndef FR_KERNELS_CPU_GEMM_H
#define FR_KERNELS_CPU_GEMM_H

#include "cpu.h"

struct gemm {
	const struct fr_cpu *cpu;
	int rows, k;	/* of this block of rows */
	const float *x; /* [rows, k] or NULL: patches of `patch` */
	size_t ldx;
	const struct fr_patch *patch;
	int terms;	    /* of x, in pairs or tiles; 0: float32 */
	int depth;	    /* elements of a slice: the packed rows depend on it and on terms */
	int row0;	    /* first row, for patches and m-split */
	struct fr_mat w[2]; /* w[1] of a gated product */
	int mats;
	int nc; /* columns of a job in each matrix */
	int col_jobs, row_jobs, job_rows;
	const float *bias, *scale, *residual;
	enum fr_act act;
	float *y;		      /* [rows, w.rows] */
	const struct fr_linear *also; /* further products of x */
};

/* rows rows of x from `row` on, elements k0..k0+n: where they lie, *ld apart, or gathered into room [rows, n]. */
const float *fr_gemm_rows(const struct gemm *g, int row, int rows, int k0, int n, float *room, size_t *ld);
/* Sums c [rows, ldc] of columns n0..n0+n, those of a second matrix g->nc further, through the epilogue into y. */
void fr_gemm_finish(const struct gemm *g, int row, int rows, int n0, int n, const float *c, size_t ldc);

/* gemm_tiles.c: the same steps in tiles. */
int fr_tiles_depth(const struct gemm *g);
size_t fr_tiles_row_floats(const struct gemm *g); /* what a packed row takes */
size_t fr_tiles_scratch(const struct fr_ukr *u);
void fr_tiles_pack(struct gemm *g);
void fr_tiles_multiply(struct gemm *g);

#endif
