/* Matrix products of the prefill phase: y = x w^T on packed panels, with the epilogue fused.
 *
 * The rows of x are copied once, also for a chain of products, into blocks [kc-deep slice][tile of mr rows][mr, kc],
 * shared by all workers: rows a power of two apart would fall on the same cache sets. Then each job takes nc columns:
 * slice by slice it packs their weights (transposed, widened), so each weight is packed once in all, and adds to its
 * sums, which stay with the worker: [rows, columns of the job]. The sum of one output is one chain in order of k,
 * carried from slice to slice through memory, so the blocking does not show in the bits. A gated product keeps both
 * halves' sums side by side. */
#include "cpu.h"

#include <assert.h>

struct gemm {
	const struct fr_cpu *cpu;
	int rows, k;	/* of this block of rows */
	const float *x; /* [rows, k] or NULL: patches of `patch` */
	size_t ldx;
	const struct fr_patch *patch;
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

static size_t panel_floats(const struct fr_ukr *u)
{
	return (size_t)u->kc * (size_t)u->nc;
}

size_t fr_gemm_scratch(const struct fr_ukr *u)
{
	return panel_floats(u) + (size_t)FR_ROW_BLOCK * (size_t)u->nc;
}

/* Row `row` of the patches, elements k0..k0+n: order channel, y, x. */
static void patch_row(const struct fr_patch *p, int row, int k0, int n, float *dst)
{
	int g = p->image / p->patch, area = p->patch * p->patch;
	size_t corner = (size_t)(row / g * p->patch) * (size_t)p->image + (size_t)(row % g * p->patch);

	for (int i = 0; i < n; i++) {
		int k = k0 + i, c = k / area, y = k % area / p->patch, x = k % p->patch;

		dst[i] = p->pixels[((size_t)c * (size_t)p->image + (size_t)y) * (size_t)p->image + corner + (size_t)x];
	}
}

/* Job i: the i-th tile of rows into every slice. */
static void pack_tile(void *arg, int i, int worker)
{
	const struct gemm *g = arg;
	const struct fr_ukr *u = &g->cpu->u;
	int first = i * u->mr, rows = fr_min(u->mr, g->rows - first);
	size_t padded = (size_t)fr_ceil_div(g->rows, u->mr) * (size_t)u->mr;

	(void)worker;
	for (int k0 = 0; k0 < g->k; k0 += u->kc) {
		int kn = fr_min(u->kc, g->k - k0);
		float *dst = g->cpu->a + padded * (size_t)k0 + (size_t)first * (size_t)kn;

		for (int r = 0; r < rows; r++, dst += kn) {
			if (g->patch)
				patch_row(g->patch, g->row0 + first + r, k0, kn, dst);
			else
				memcpy(dst, g->x + (size_t)(first + r) * g->ldx + k0, (size_t)kn * sizeof *dst);
		}
	}
}

/* Weights of columns n0..n0+n, slice k0..k0+kn, as panels of nr columns. */
static void pack_weights(const struct fr_ukr *u, const struct fr_mat *w, int n0, int n, int k0, int kn, float *b)
{
	size_t bytes = (size_t)fr_dtypes[w->dtype].bytes;

	for (int j = 0; j < n; j += u->nr, b += (size_t)kn * (size_t)u->nr)
		u->pack[w->dtype](fr_min(u->nr, n - j), kn,
				  (const char *)w->data + ((size_t)(n0 + j) * (size_t)w->cols + (size_t)k0) * bytes,
				  (size_t)w->cols, b);
}

/* Adds one slice of depth kn to the sums c [rows, ldc]: panels b of n columns against the packed rows a. */
static void add_slice(const struct fr_ukr *u, int rows, int n, int kn, const float *a, const float *b, float *c,
		      size_t ldc, int more)
{
	for (int block = 0; block < rows; block += u->mc)
		for (int j = 0; j < n; j += u->nr)
			for (int i = block; i < fr_min(rows, block + u->mc); i += u->mr)
				u->gemm(fr_min(u->mr, rows - i), fr_min(u->nr, n - j), kn, a + (size_t)i * (size_t)kn,
					(size_t)kn, (size_t)u->mr * (size_t)kn, b + (size_t)j * (size_t)kn,
					c + (size_t)i * ldc + j, ldc, more);
}

static void finish_rows(const struct gemm *g, int row, int rows, int n0, int n, const float *c, size_t ldc)
{
	const struct fr_ukr *u = &g->cpu->u;
	size_t width = (size_t)g->w[0].rows;

	for (int r = 0; r < rows; r++, c += ldc) {
		size_t at = (size_t)(row + r) * width + (size_t)n0;

		if (g->mats == 2)
			u->glu(n, c, c + g->nc, g->y + at);
		else
			u->finish(n, c, g->bias ? g->bias + n0 : NULL, g->act, g->scale ? g->scale + n0 : NULL,
				  g->residual ? g->residual + at : NULL, g->y + at);
	}
}

/* Job i: columns i / row_jobs, rows i % row_jobs. */
static void multiply(void *arg, int i, int worker)
{
	const struct gemm *g = arg;
	const struct fr_ukr *u = &g->cpu->u;
	float *b = fr_cpu_scratch(g->cpu, worker), *c = b + panel_floats(u);
	int n0 = i / g->row_jobs * g->nc, n = fr_min(g->nc, g->w[0].rows - n0);
	int row = i % g->row_jobs * g->job_rows, rows = fr_min(g->job_rows, g->rows - row);
	size_t padded = (size_t)fr_ceil_div(g->rows, u->mr) * (size_t)u->mr, ldc = (size_t)(g->mats * g->nc);

	for (int k0 = 0; k0 < g->k; k0 += u->kc) {
		int kn = fr_min(u->kc, g->k - k0);

		for (int m = 0; m < g->mats; m++) {
			pack_weights(u, &g->w[m], n0, n, k0, kn, b);
			add_slice(u, rows, n, kn, g->cpu->a + padded * (size_t)k0 + (size_t)row * (size_t)kn, b,
				  c + m * g->nc, ldc, k0 > 0);
		}
	}
	finish_rows(g, row, rows, n0, n, c, ldc);
}

/* Columns per job: the kernel's nc, narrower where that leaves the threads unevenly loaded; rows are split only where
 * one tile of columns per job is still too much, because each part packs the weights again. */
static void plan_jobs(struct gemm *g)
{
	const struct fr_ukr *u = &g->cpu->u;
	int threads = fr_pool_threads(g->cpu->pool), n = g->w[0].rows, nc = u->nc / g->mats / u->nr * u->nr, parts = 1;

	while (nc > u->nr && fr_ceil_div(n, nc) < 16 * threads)
		nc -= u->nr;
	g->nc = nc;
	g->col_jobs = fr_ceil_div(n, nc);
	if (g->col_jobs < 2 * threads)
		parts = fr_min(fr_ceil_div(2 * threads, g->col_jobs), fr_ceil_div(g->rows, 8 * u->mr));
	g->job_rows = fr_ceil_div(fr_ceil_div(g->rows, parts), u->mr) * u->mr;
	g->row_jobs = fr_ceil_div(g->rows, g->job_rows);
}

/* What a product of the rows from `row` on is made with and where it goes. */
static void take_output(struct gemm *g, const struct fr_linear *a, int row)
{
	size_t at = (size_t)row * (size_t)a->w.rows;

	assert(a->w.cols == g->k && g->cpu->u.pack[a->w.dtype]);
	g->w[0] = a->w;
	g->bias = a->bias;
	g->act = a->act;
	g->scale = a->scale;
	g->residual = a->residual ? a->residual + at : NULL;
	g->y = a->y + at;
}

/* All rows, in blocks that the packed copy and a worker's sums have room for. */
static void run(struct fr_cpu *cpu, struct gemm *g, int rows)
{
	const struct fr_ukr *u = &cpu->u;
	int room = (int)(FR_PACK_FLOATS / (size_t)g->k);
	int block = fr_min(FR_ROW_BLOCK, room) / u->mr * u->mr;

	assert(g->k > 0 && g->k <= FR_MAX_COLS && g->w[0].cols == g->k && u->pack[g->w[0].dtype]);
	g->cpu = cpu;
	block = fr_ceil_div(fr_ceil_div(rows, fr_ceil_div(rows, block)), u->mr) * u->mr;
	for (int r = 0; r < rows; r += block) {
		struct gemm part = *g;

		part.row0 = r;
		part.rows = fr_min(block, rows - r);
		if (g->x)
			part.x = g->x + (size_t)r * g->ldx;
		if (g->residual)
			part.residual = g->residual + (size_t)r * (size_t)g->w[0].rows;
		part.y = g->y + (size_t)r * (size_t)g->w[0].rows;
		fr_pool_run(cpu->pool, fr_ceil_div(part.rows, u->mr), pack_tile, &part);
		plan_jobs(&part);
		fr_pool_run(cpu->pool, part.col_jobs * part.row_jobs, multiply, &part);
		for (const struct fr_linear *a = g->also; a; a = a->also) {
			take_output(&part, a, r);
			plan_jobs(&part);
			fr_pool_run(cpu->pool, part.col_jobs * part.row_jobs, multiply, &part);
		}
	}
}

void fr_gemm_linear(struct fr_cpu *cpu, const struct fr_linear *a)
{
	struct gemm g = {
		.k = a->w.cols,
		.x = a->x,
		.ldx = a->x_stride ? a->x_stride : (size_t)a->w.cols,
		.w = {a->w},
		.mats = 1,
		.bias = a->bias,
		.act = a->act,
		.scale = a->scale,
		.residual = a->residual,
		.y = a->y,
		.also = a->also,
	};

	if (a->rows > 0)
		run(cpu, &g, a->rows);
}

void fr_gemm_glu(struct fr_cpu *cpu, const struct fr_glu *a)
{
	struct gemm g = {
		.k = a->gate.cols,
		.x = a->x,
		.ldx = (size_t)a->gate.cols,
		.w = {a->gate, a->up},
		.mats = 2,
		.y = a->y,
	};

	assert(a->up.rows == a->gate.rows && a->up.cols == a->gate.cols);
	if (a->rows > 0)
		run(cpu, &g, a->rows);
}

/* The patches are a linear layer whose residual is the position table. */
void fr_gemm_patch(struct fr_cpu *cpu, const struct fr_patch *a)
{
	int g = a->image / a->patch, dim = a->w.rows;
	struct fr_patch one = *a;
	struct gemm p = {
		.k = a->w.cols,
		.patch = &one,
		.w = {a->w},
		.mats = 1,
		.bias = a->bias,
		.residual = a->pos + dim,
	};

	assert(a->w.cols == 3 * a->patch * a->patch);
	for (int i = 0; i < fr_max(1, a->images); i++) {
		one.y = a->y + (size_t)i * (size_t)(1 + g * g) * (size_t)dim;
		one.pixels = a->pixels + (size_t)i * 3 * (size_t)a->image * (size_t)a->image;
		p.y = one.y + dim;
		cpu->u.finish(dim, a->cls, a->pos, FR_ACT_NONE, NULL, NULL, one.y);
		run(cpu, &p, g * g);
	}
}
