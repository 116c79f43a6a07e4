/* Matrix products of the decode phase: few rows, each weight read once from memory where it lies.
 *
 * Rows of x go in groups of 16, packed once in the micro-kernel's order. A job takes some weight rows and runs them
 * against all groups; after the first it finds them in the cache. The order of a sum (32 lanes) does not depend on the
 * grouping. */
#include "cpu.h"

#include <assert.h>

#define MAX_COLS 96 /* weight rows of a job */
#define HALF (FR_MAX_GEMV_ROWS * MAX_COLS)

struct gemv {
	const struct fr_cpu *cpu;
	int rows;
	const float *x;
	size_t ldx;
	struct fr_mat w[2]; /* w[1] of a gated product */
	int mats;
	int cols;      /* weight rows of a job */
	size_t packed; /* floats of a packed row of x */
	int copies;    /* packed copies of x */
	int terms;     /* of x, in pair lanes; 0: float32 */
	const float *bias, *scale, *residual;
	enum fr_act act;
	float *y;
	const struct fr_linear *also; /* further products of x */
};

size_t fr_gemv_scratch(const struct fr_ukr *u)
{
	(void)u;
	return 2 * (size_t)HALF;
}

static size_t packed_row(int k)
{
	return (size_t)fr_ceil_div(k, 32) * 32;
}

/* The packed rows for matrix m: both halves of a gated product use one copy unless their types differ. */
static float *packed_rows(const struct gemv *g, int m)
{
	return g->cpu->a + (size_t)(m % g->copies) * (size_t)g->rows * g->packed;
}

/* Job i: group i / copies of rows into the shared packed copy i % copies. */
static void pack_group(void *arg, int i, int worker)
{
	const struct gemv *g = arg;
	const struct fr_ukr *u = &g->cpu->u;
	int first = i / g->copies * FR_MAX_GEMV_ROWS, m = i % g->copies;

	(void)worker;
	(g->terms ? u->gemv_pack_pairs[g->terms - 1] : u->gemv_pack[g->w[m].dtype])(
		fr_min(FR_MAX_GEMV_ROWS, g->rows - first), g->w[m].cols, g->x + (size_t)first * g->ldx, g->ldx,
		packed_rows(g, m) + (size_t)first * g->packed);
}

static void finish_group(const struct gemv *g, int row, int rows, int n0, int n, const float *c)
{
	const struct fr_ukr *u = &g->cpu->u;

	for (int r = 0; r < rows; r++, c += MAX_COLS) {
		size_t at = (size_t)(row + r) * (size_t)g->w[0].rows + (size_t)n0;

		if (g->mats == 2)
			u->glu(n, c, c + HALF, g->y + at);
		else
			u->finish(n, c, g->bias ? g->bias + n0 : NULL, g->act, g->scale ? g->scale + n0 : NULL,
				  g->residual ? g->residual + at : NULL, g->y + at);
	}
}

/* Job i: weight rows i * cols and on, against all groups. */
static void multiply(void *arg, int i, int worker)
{
	const struct gemv *g = arg;
	const struct fr_ukr *u = &g->cpu->u;
	int n0 = i * g->cols, n = fr_min(g->cols, g->w[0].rows - n0), k = g->w[0].cols;
	float *c = fr_cpu_scratch(g->cpu, worker);

	for (int row = 0; row < g->rows; row += FR_MAX_GEMV_ROWS) {
		int rows = fr_min(FR_MAX_GEMV_ROWS, g->rows - row);

		for (int m = 0; m < g->mats; m++) {
			const struct fr_mat *w = &g->w[m];
			size_t first = (size_t)n0 * (size_t)k * (size_t)fr_dtypes[w->dtype].bytes;

			(g->terms ? u->gemv_pairs[g->terms - 1] : u->gemv[w->dtype])(
				rows, n, k, packed_rows(g, m) + (size_t)row * g->packed, (const char *)w->data + first,
				(size_t)k, c + m * HALF, MAX_COLS);
		}
		finish_group(g, row, rows, n0, n, c);
	}
}

/* Both matrices of a gated product or none are multiplied in pairs. */
static int terms_of(const struct gemv *g)
{
	for (int m = 0; m < g->mats; m++)
		if (g->w[m].dtype != FR_BF16)
			return 0;
	return g->cpu->terms;
}

static void pack_rows(struct gemv *g)
{
	g->terms = terms_of(g);
	fr_pool_run(g->cpu->pool, fr_ceil_div(g->rows, FR_MAX_GEMV_ROWS) * g->copies, pack_group, g);
}

static void multiply_all(struct gemv *g)
{
	int n = g->w[0].rows, tile = g->cpu->u.gemv_cols, threads = fr_pool_threads(g->cpu->pool);
	int cols = fr_ceil_div(fr_ceil_div(n, 16 * threads), tile) * tile;

	g->cols = fr_min(cols, MAX_COLS / tile * tile);
	fr_pool_run(g->cpu->pool, fr_ceil_div(n, g->cols), multiply, g);
}

/* What a product of the rows from `row` on is made with and where it goes. */
static void take_output(struct gemv *g, const struct fr_linear *a, int row)
{
	size_t at = (size_t)row * (size_t)a->w.rows;

	assert(a->w.cols == g->w[0].cols && g->cpu->u.gemv[a->w.dtype]);
	g->w[0] = a->w;
	g->bias = a->bias;
	g->act = a->act;
	g->scale = a->scale;
	g->residual = a->residual ? a->residual + at : NULL;
	g->y = a->y + at;
}

static void run(struct fr_cpu *cpu, struct gemv *g, int rows)
{
	int k = g->w[0].cols;
	int copies = g->mats == 2 && g->w[1].dtype != g->w[0].dtype ? 2 : 1;
	int room = (int)(FR_PACK_FLOATS / packed_row(k)) / (copies * FR_MAX_GEMV_ROWS) * FR_MAX_GEMV_ROWS;

	assert(k > 0 && k <= FR_MAX_COLS && cpu->u.gemv[g->w[0].dtype]);
	g->cpu = cpu;
	g->packed = packed_row(k);
	g->copies = copies;
	for (int r = 0; r < rows; r += room) {
		struct gemv part = *g;

		part.rows = fr_min(room, rows - r);
		part.x = g->x + (size_t)r * g->ldx;
		part.y = g->y + (size_t)r * (size_t)g->w[0].rows;
		if (g->residual)
			part.residual = g->residual + (size_t)r * (size_t)g->w[0].rows;
		pack_rows(&part);
		multiply_all(&part);
		for (const struct fr_linear *a = g->also; a; a = a->also) {
			const enum fr_dtype packed = part.w[0].dtype;

			take_output(&part, a, r);
			if (a->w.dtype != packed)
				pack_rows(&part);
			multiply_all(&part);
		}
	}
}

void fr_gemv_linear(struct fr_cpu *cpu, const struct fr_linear *a)
{
	struct gemv g = {
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

	run(cpu, &g, a->rows);
}

void fr_gemv_glu(struct fr_cpu *cpu, const struct fr_glu *a)
{
	struct gemv g = {
		.x = a->x,
		.ldx = (size_t)a->gate.cols,
		.w = {a->gate, a->up},
		.mats = 2,
		.y = a->y,
	};

	assert(a->up.rows == a->gate.rows && a->up.cols == a->gate.cols);
	run(cpu, &g, a->rows);
}
