/* Matrix products of the decode phase: few rows, each weight read once from memory where it lies.
 *
 * A job takes some weight rows and runs them against groups of up to 16 rows of x; a second group finds its weights in
 * the cache. The order of a sum (32 lanes) does not depend on the grouping. */
#include "cpu.h"

#include <assert.h>

#define MAX_COLS 96 /* weight rows of a job */

struct gemv {
	const struct fr_cpu *cpu;
	int rows;
	const float *x;
	size_t ldx;
	struct fr_mat w[2]; /* w[1] of a gated product */
	int mats;
	int cols; /* weight rows of a job */
	const float *bias, *scale, *residual;
	enum fr_act act;
	float *y;
};

size_t fr_gemv_scratch(const struct fr_ukr *u)
{
	(void)u;
	return 2 * (size_t)FR_MAX_GEMV_ROWS * MAX_COLS;
}

static void multiply(void *arg, int i, int worker)
{
	const struct gemv *g = arg;
	const struct fr_ukr *u = &g->cpu->u;
	int n0 = i * g->cols, n = fr_min(g->cols, g->w[0].rows - n0), k = g->w[0].cols;
	float *c = fr_cpu_scratch(g->cpu, worker);
	size_t half = (size_t)FR_MAX_GEMV_ROWS * MAX_COLS;

	for (int row = 0; row < g->rows; row += FR_MAX_GEMV_ROWS) {
		int rows = fr_min(FR_MAX_GEMV_ROWS, g->rows - row);

		for (int m = 0; m < g->mats; m++) {
			const struct fr_mat *w = &g->w[m];
			size_t first = (size_t)n0 * (size_t)k * (size_t)fr_dtypes[w->dtype].bytes;

			u->gemv[w->dtype](rows, n, k, g->x + (size_t)row * g->ldx, g->ldx,
					  (const char *)w->data + first, (size_t)k, c + (size_t)m * half, MAX_COLS);
		}
		for (int r = 0; r < rows; r++) {
			size_t at = (size_t)(row + r) * (size_t)g->w[0].rows + (size_t)n0;
			const float *cr = c + (size_t)r * MAX_COLS;

			if (g->mats == 2)
				u->glu(n, cr, cr + half, g->y + at);
			else
				u->finish(n, cr, g->bias ? g->bias + n0 : NULL, g->act, g->scale ? g->scale + n0 : NULL,
					  g->residual ? g->residual + at : NULL, g->y + at);
		}
	}
}

static void run(struct fr_cpu *cpu, struct gemv *g)
{
	int n = g->w[0].rows, tile = cpu->u.gemv_cols, threads = fr_pool_threads(cpu->pool);
	int cols = fr_ceil_div(fr_ceil_div(n, 16 * threads), tile) * tile;

	assert(g->w[0].cols > 0 && g->w[0].cols <= FR_MAX_COLS && cpu->u.gemv[g->w[0].dtype]);
	g->cpu = cpu;
	g->cols = fr_min(cols, MAX_COLS / tile * tile);
	if (g->rows > 0)
		fr_pool_run(cpu->pool, fr_ceil_div(n, g->cols), multiply, g);
}

void fr_gemv_linear(struct fr_cpu *cpu, const struct fr_linear *a)
{
	struct gemv g = {
		.rows = a->rows,
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

	run(cpu, &g);
}

void fr_gemv_glu(struct fr_cpu *cpu, const struct fr_glu *a)
{
	struct gemv g = {
		.rows = a->rows,
		.x = a->x,
		.ldx = (size_t)a->gate.cols,
		.w = {a->gate, a->up},
		.mats = 2,
		.y = a->y,
	};

	assert(a->up.rows == a->gate.rows && a->up.cols == a->gate.cols);
	run(cpu, &g);
}
