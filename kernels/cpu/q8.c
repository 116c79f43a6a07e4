/* Matrix products of q8_0 weights, in either phase: y = x w^T with x quantised (ops.h, "q8"), the epilogue fused.
 *
 * All rows of x are quantised once, also for a chain of products, into tiles that the workers share. Few rows go
 * against the weights as they lie, each read once. More rows make it worth while to arrange the weights in panels: a
 * job takes nc columns and goes over k slice by slice, as in gemm.c, and its sums stay with the worker. The sum of an
 * output is one chain in order of the blocks on either way, so the choice does not show in the bits. */
#include "cpu.h"

#include <assert.h>

struct q8 {
	const struct fr_cpu *cpu;
	int rows, blocks;
	const float *x;
	size_t ldx;
	struct fr_mat w[2]; /* w[1] of a gated product */
	int mats;
	const float *gate, *up; /* of a gated product where one matrix is not q8_0: that one's sums, else NULL */
	int few;		/* the rows are one tile, for mul_few */
	int nc;			/* columns of a job in each matrix */
	int col_jobs, row_jobs, job_rows;
	const float *bias, *scale, *residual;
	enum fr_act act;
	float *y; /* [rows, w.rows] */
};

static size_t panel_bytes(const struct fr_q8_ukr *u)
{
	return (size_t)(u->nc / u->nr * u->kb) * u->w_bytes;
}

size_t fr_q8_scratch(const struct fr_ukr *u)
{
	return (panel_bytes(&u->q8) + 63) / 64 * 16 + (size_t)FR_ROW_BLOCK * (size_t)u->q8.nc;
}

static size_t row_bytes(const struct q8 *g)
{
	return (size_t)g->blocks * FR_Q8_BYTES;
}

/* The packed rows from `row` on, the first of a tile. */
static void *packed_rows(const struct q8 *g, int row)
{
	return (char *)g->cpu->a + (size_t)row * (size_t)g->blocks * g->cpu->u.q8.x_bytes;
}

static int tile_rows(const struct q8 *g)
{
	return g->few ? g->rows : g->cpu->u.q8.mr;
}

/* Job i: the i-th tile of rows. */
static void pack_tile(void *arg, int i, int worker)
{
	const struct q8 *g = arg;
	int first = i * tile_rows(g), rows = fr_min(tile_rows(g), g->rows - first);

	(void)worker;
	g->cpu->u.q8.pack_x(rows, g->blocks, g->x + (size_t)first * g->ldx, g->ldx, packed_rows(g, first));
}

/* Adds `blocks` blocks from `from` on to the sums c [rows, ldc]: panels b of n columns against the rows from `row` on.
 */
static void add_slice(const struct q8 *g, int row, int rows, int n, int from, int blocks, const char *b, float *c,
		      size_t ldc)
{
	const struct fr_q8_ukr *u = &g->cpu->u.q8;

	for (int block = 0; block < rows; block += u->mc)
		for (int j = 0; j < n; j += u->nr)
			for (int i = block; i < fr_min(rows, block + u->mc); i += u->mr) {
				int m = fr_min(u->mr, rows - i);
				const char *x = packed_rows(g, row + i);

				u->mul(m, fr_min(u->nr, n - j), blocks, x + (size_t)(from * m) * u->x_bytes,
				       b + (size_t)(j / u->nr * blocks) * u->w_bytes, c + (size_t)i * ldc + j, ldc,
				       from > 0);
			}
}

/* Columns n0..n0+n of matrix w for the rows from `row` on, slice by slice through panels in b. */
static void multiply_panels(const struct q8 *g, const struct fr_mat *w, int n0, int n, int row, int rows, char *b,
			    float *c, size_t ldc)
{
	const struct fr_q8_ukr *u = &g->cpu->u.q8;
	const char *first = (const char *)w->data + (size_t)n0 * row_bytes(g);

	for (int from = 0; from < g->blocks; from += u->kb) {
		int blocks = fr_min(u->kb, g->blocks - from);

		for (int j = 0; j < n; j += u->nr)
			u->pack_w(fr_min(u->nr, n - j), blocks,
				  first + (size_t)j * row_bytes(g) + (size_t)from * FR_Q8_BYTES, row_bytes(g),
				  b + (size_t)(j / u->nr * blocks) * u->w_bytes);
		add_slice(g, row, rows, n, from, blocks, b, c, ldc);
	}
}

static void finish_rows(const struct q8 *g, int row, int rows, int n0, int n, const float *c, size_t ldc)
{
	const struct fr_ukr *u = &g->cpu->u;
	size_t width = (size_t)g->w[0].rows;

	for (int r = 0; r < rows; r++, c += ldc) {
		size_t at = (size_t)(row + r) * width + (size_t)n0;

		if (g->mats == 2)
			u->glu(n, c, c + g->nc, g->y + at);
		else if (g->gate || g->up)
			u->glu(n, g->gate ? g->gate + at : c, g->up ? g->up + at : c, g->y + at);
		else
			u->finish(n, c, g->bias ? g->bias + n0 : NULL, g->act, g->scale ? g->scale + n0 : NULL,
				  g->residual ? g->residual + at : NULL, g->y + at);
	}
}

/* Job i: columns i / row_jobs, rows i % row_jobs. */
static void multiply(void *arg, int i, int worker)
{
	const struct q8 *g = arg;
	const struct fr_q8_ukr *u = &g->cpu->u.q8;
	char *b = (char *)fr_cpu_scratch(g->cpu, worker);
	float *c = (float *)(void *)(b + (panel_bytes(u) + 63) / 64 * 64);
	int n0 = i / g->row_jobs * g->nc, n = fr_min(g->nc, g->w[0].rows - n0);
	int row = i % g->row_jobs * g->job_rows, rows = fr_min(g->job_rows, g->rows - row);
	size_t ldc = (size_t)(g->mats * g->nc);

	for (int m = 0; m < g->mats; m++) {
		const struct fr_mat *w = &g->w[m];

		if (g->few)
			u->mul_few(rows, n, g->blocks, packed_rows(g, 0),
				   (const char *)w->data + (size_t)n0 * row_bytes(g), row_bytes(g), c + m * g->nc, ldc);
		else
			multiply_panels(g, w, n0, n, row, rows, b, c + m * g->nc, ldc);
	}
	finish_rows(g, row, rows, n0, n, c, ldc);
}

/* Columns per job: as many as the scratch memory is for, fewer where that leaves the threads unevenly loaded; rows are
 * split only where one panel per job is still too much, because each part arranges the weights again. */
static void plan_jobs(struct q8 *g)
{
	const struct fr_q8_ukr *u = &g->cpu->u.q8;
	int threads = fr_pool_threads(g->cpu->pool), n = g->w[0].rows, step = g->few ? u->few_cols : u->nr;
	int nc = u->nc / g->mats / step * step, parts = 1;

	g->nc = fr_min(nc, fr_max(step, n / (16 * threads) / step * step));
	g->col_jobs = fr_ceil_div(n, g->nc);
	if (!g->few && g->col_jobs < 2 * threads)
		parts = fr_min(fr_ceil_div(2 * threads, g->col_jobs), fr_ceil_div(g->rows, 8 * u->mr));
	g->job_rows = fr_ceil_div(fr_ceil_div(g->rows, parts), tile_rows(g)) * tile_rows(g);
	g->row_jobs = fr_ceil_div(g->rows, g->job_rows);
}

static void multiply_all(struct q8 *g)
{
	plan_jobs(g);
	fr_pool_run(g->cpu->pool, g->col_jobs * g->row_jobs, multiply, g);
}

/* What a product of the rows from `row` on is made with and where it goes. */
static void take_output(struct q8 *g, const struct fr_linear *a, int row)
{
	size_t at = (size_t)row * (size_t)a->w.rows;

	assert(a->w.cols == g->blocks * FR_Q8_ITEMS && a->w.dtype == FR_Q8_0);
	g->w[0] = a->w;
	g->bias = a->bias;
	g->act = a->act;
	g->scale = a->scale;
	g->residual = a->residual ? a->residual + at : NULL;
	g->y = a->y + at;
}

/* All rows, in blocks that the packed copy and a worker's sums have room for. */
static void run(struct fr_cpu *cpu, struct q8 *g, const struct fr_linear *also, int rows)
{
	const struct fr_q8_ukr *u = &cpu->u.q8;
	size_t width = (size_t)g->w[0].rows;
	int room, block;

	assert(g->w[0].cols > 0 && g->w[0].cols <= FR_MAX_COLS && g->w[0].cols % FR_Q8_ITEMS == 0);
	g->cpu = cpu;
	g->blocks = g->w[0].cols / FR_Q8_ITEMS;
	g->few = rows <= u->few;
	room = (int)(FR_PACK_FLOATS * sizeof(float) / ((size_t)g->blocks * u->x_bytes));
	block = g->few ? rows : fr_min(FR_ROW_BLOCK, room) / u->mr * u->mr;
	for (int r = 0; r < rows; r += block) {
		struct q8 part = *g;

		part.rows = fr_min(block, rows - r);
		part.x = g->x + (size_t)r * g->ldx;
		part.y = g->y + (size_t)r * width;
		part.residual = g->residual ? g->residual + (size_t)r * width : NULL;
		part.gate = g->gate ? g->gate + (size_t)r * width : NULL;
		part.up = g->up ? g->up + (size_t)r * width : NULL;
		fr_pool_run(cpu->pool, fr_ceil_div(part.rows, tile_rows(&part)), pack_tile, &part);
		multiply_all(&part);
		for (const struct fr_linear *a = also; a; a = a->also) {
			take_output(&part, a, r);
			multiply_all(&part);
		}
	}
}

void fr_q8_linear(struct fr_cpu *cpu, const struct fr_linear *a)
{
	struct q8 g = {
		.x = a->x,
		.ldx = a->x_stride ? a->x_stride : (size_t)a->w.cols,
		.w = {a->w},
		.mats = 1,
		.bias = a->bias,
		.act = a->act,
		.scale = a->scale,
		.residual = a->residual,
		.y = a->y,
	};

	if (a->rows > 0)
		run(cpu, &g, a->also, a->rows);
}

void fr_q8_glu(struct fr_cpu *cpu, const struct fr_glu *a)
{
	const int both = a->gate.dtype == FR_Q8_0 && a->up.dtype == FR_Q8_0;
	struct q8 g = {
		.x = a->x,
		.ldx = (size_t)a->gate.cols,
		.w = {a->gate.dtype == FR_Q8_0 ? a->gate : a->up, a->up},
		.mats = both ? 2 : 1,
		.gate = a->gate.dtype == FR_Q8_0 ? NULL : a->y,
		.up = a->up.dtype == FR_Q8_0 ? NULL : a->y,
		.y = a->y,
	};

	assert(a->up.rows == a->gate.rows && a->up.cols == a->gate.cols);
	if (a->rows > 0)
		run(cpu, &g, NULL, a->rows);
}
