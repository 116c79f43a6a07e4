/* Matrix products of the prefill phase in tiles: y^T = w x^T, 32 weight rows by 32 rows of x at a time.
 *
 * Weight rows are one operand in their own order, so that they need no transposing; x, which is small and used by all
 * of them, is packed once into the other one's order, shared by all workers: [slice of k][32 rows of x][step of
 * 32][term]. A job takes nc weight rows. Slice by slice and 32 weight rows by 32 it adds to its sums, which stay with
 * the worker as tiles; so those weight rows stay in L1 while x's slice passes, which stays in L2 with the sums. The
 * tiles are turned over, 16 rows of x by 16 weights, on their way into the epilogue. A sum that leaves a tile for
 * memory and comes back is the same float32, so the blocking does not show in the bits.
 *
 * Weight rows that many rows of x will use are copied into tiles first (f16 and f32 always: split into terms): as they
 * lie, rows a multiple of 2 KiB apart fall on the same few sets of L1, and 32 of them push each other out. It also
 * takes what hangs over an edge: whoever copies pads with zeros, and nothing beyond the matrix is ever read. */
#include "gemm.h"
#include "../tiles.h"

#include <assert.h>

#define ROWS FR_TILE_ROWS
#define PAIR_BYTES ((size_t)2 * FR_TILE_ITEMS * sizeof(uint16_t)) /* two tiles of bf16 */
#define PAIR_SUMS ((size_t)ROWS * ROWS)
/* Up to so many times 32 rows of x, bf16 weights are used as they lie: copying is 1 to 2 bytes moved for each of ROWS
 * multiplications a weight. */
#define PAIRS_IN_PLACE 2

static int steps_of(int k)
{
	return fr_ceil_div(k, FR_TILE_DEPTH);
}

/* Slices of about equal depth. */
int fr_tiles_depth(const struct gemm *g)
{
	int terms = 1, most;

	for (int m = 0; m < g->mats; m++)
		terms = fr_max(terms, fr_tile_terms(g->w[m].dtype));
	most = g->cpu->u.tiles.kc / (g->terms + terms) / FR_TILE_DEPTH;
	assert(most > 0);
	return fr_ceil_div(steps_of(g->k), fr_ceil_div(steps_of(g->k), most)) * FR_TILE_DEPTH;
}

size_t fr_tiles_row_floats(const struct gemm *g)
{
	return (size_t)(steps_of(g->k) * FR_TILE_DEPTH / 2 * g->terms);
}

/* Panel of weights, sums, rows on their way out. */
size_t fr_tiles_scratch(const struct fr_ukr *u)
{
	const struct fr_tiles *t = &u->tiles;

	return (size_t)(ROWS * t->kc / 2) + (size_t)t->nc * (size_t)FR_ROW_BLOCK + (size_t)(16 * t->nc);
}

/* bf16 items before the packed rows `row`.. (a multiple of 32) in the slice at k0, which is kn deep. */
static size_t packed_at(const struct gemm *g, int k0, int kn, int row)
{
	size_t padded = (size_t)fr_ceil_div(g->rows, ROWS) * ROWS;

	return (size_t)g->terms * (padded * (size_t)k0 + (size_t)row * (size_t)(steps_of(kn) * FR_TILE_DEPTH));
}

/* Job i: 32 rows into every slice. */
static void pack_rows(void *arg, int i, int worker)
{
	const struct gemm *g = arg;
	int row = i * ROWS, rows = fr_min(ROWS, g->rows - row);

	for (int k0 = 0; k0 < g->k; k0 += g->depth) {
		int kn = fr_min(g->depth, g->k - k0);
		size_t ld;
		const float *x = fr_gemm_rows(g, row, rows, k0, kn, fr_cpu_scratch(g->cpu, worker), &ld);

		g->cpu->u.tiles.pack_x[g->terms - 1](rows, kn, x, ld,
						     (uint16_t *)g->cpu->a + packed_at(g, k0, kn, row));
	}
}

void fr_tiles_pack(struct gemm *g)
{
	fr_pool_run(g->cpu->pool, fr_ceil_div(g->rows, ROWS), pack_rows, g);
}

/* One job's part of the product: where it is, and what of it a worker holds. */
struct part {
	const struct gemm *g;
	int row, pairs; /* rows of x from `row` on, in pairs of tiles */
	int n0, n;	/* weight rows of each matrix */
	uint16_t *panel;
	float *sums; /* [mats, n / 32 rounded up, pairs, PAIR_SUMS] */
};

/* Panels of a slice are those of the first matrix, then those of the second. */
static int panels_of(const struct part *p)
{
	return fr_ceil_div(p->n, ROWS);
}

/* Where element k0 of the first row of panel i lies, and how many rows it has. */
static const char *panel_rows(const struct part *p, int i, int k0, int *rows)
{
	const struct fr_mat *w = &p->g->w[i / panels_of(p)];
	int first = i % panels_of(p) * ROWS;

	*rows = fr_min(ROWS, p->n - first);
	return (const char *)w->data +
	       ((size_t)(p->n0 + first) * (size_t)w->cols + (size_t)k0) * (size_t)fr_dtypes[w->dtype].bytes;
}

/* The A operand: the rows as they lie, or copied. */
static void take_panel(const struct part *p, const struct fr_mat *w, const char *at, int rows, int kn,
		       struct fr_tile_call *call)
{
	if (w->dtype == FR_BF16 && rows == ROWS && kn % FR_TILE_DEPTH == 0 && p->pairs <= PAIRS_IN_PLACE) {
		call->a = at;
		call->row = (size_t)w->cols * sizeof(uint16_t);
		call->half = 16 * call->row;
		call->step = FR_TILE_DEPTH * sizeof(uint16_t);
		return;
	}
	p->g->cpu->u.tiles.pack_w[w->dtype](rows, kn, at, (size_t)w->cols, p->panel);
	call->a = p->panel;
	call->row = FR_TILE_DEPTH * sizeof(uint16_t);
	call->half = PAIR_BYTES / 2;
	call->step = PAIR_BYTES * (size_t)fr_tile_terms(w->dtype);
}

/* What comes after panel i of the slice at k0. */
static void look_ahead(const struct part *p, int i, int k0, struct fr_tile_call *call)
{
	const struct gemm *g = p->g;

	if (++i == g->mats * panels_of(p)) {
		i = 0;
		k0 += g->depth;
	}
	call->next_rows = 0;
	if (k0 < g->k) {
		size_t bytes = (size_t)fr_dtypes[g->w[i / panels_of(p)].dtype].bytes;

		call->next = panel_rows(p, i, k0, &call->next_rows);
		call->next_step = (size_t)g->k * bytes;
		call->next_bytes = (size_t)fr_min(g->depth, g->k - k0) * bytes;
	}
}

static void add_slice(const struct part *p, int k0)
{
	const struct gemm *g = p->g;
	const struct fr_tiles *t = &g->cpu->u.tiles;
	int kn = fr_min(g->depth, g->k - k0), rows;
	struct fr_tile_call call = {
		.b = (const uint16_t *)g->cpu->a + packed_at(g, k0, kn, p->row),
		.pairs = p->pairs,
		.steps = steps_of(kn),
		.more = k0 > 0,
	};

	for (int i = 0; i < g->mats * panels_of(p); i++) {
		const struct fr_mat *w = &g->w[i / panels_of(p)];
		const char *at = panel_rows(p, i, k0, &rows);

		take_panel(p, w, at, rows, kn, &call);
		look_ahead(p, i, k0, &call);
		call.c = p->sums + (size_t)(i * p->pairs) * PAIR_SUMS;
		t->multiply[g->terms - 1][fr_tile_terms(w->dtype) - 1](&call);
	}
}

/* Turns the sums of 16 rows of x at a time into rows, which then take the epilogue. */
static void finish(const struct part *p, int rows, float *lines)
{
	const struct gemm *g = p->g;
	size_t ld = (size_t)(g->mats * g->nc);

	for (int r = 0; r < rows; r += 16) {
		for (int i = 0; i < g->mats * panels_of(p); i++) {
			const float *c = p->sums + (size_t)(i * p->pairs + r / ROWS) * PAIR_SUMS + r / 16 % 2 * 256;
			float *to = lines + i / panels_of(p) * g->nc + i % panels_of(p) * ROWS;

			g->cpu->u.tiles.transpose(c, to, ld);
			g->cpu->u.tiles.transpose(c + 512, to + 16, ld);
		}
		fr_gemm_finish(g, p->row + r, fr_min(16, rows - r), p->n0, p->n, lines, ld);
	}
}

/* Job i: weight rows i / row_jobs, rows of x i % row_jobs. */
static void multiply(void *arg, int i, int worker)
{
	const struct gemm *g = arg;
	const struct fr_tiles *t = &g->cpu->u.tiles;
	float *scratch = fr_cpu_scratch(g->cpu, worker);
	int n0 = i / g->row_jobs * g->nc, row = i % g->row_jobs * g->job_rows;
	int rows = fr_min(g->job_rows, g->rows - row);
	struct part p = {
		.g = g,
		.row = row,
		.pairs = fr_ceil_div(rows, ROWS),
		.n0 = n0,
		.n = fr_min(g->nc, g->w[0].rows - n0),
		.panel = (uint16_t *)scratch,
		.sums = scratch + ROWS * t->kc / 2,
	};

	t->begin();
	for (int k0 = 0; k0 < g->k; k0 += g->depth)
		add_slice(&p, k0);
	t->end();
	finish(&p, rows, p.sums + (size_t)t->nc * (size_t)FR_ROW_BLOCK);
}

/* Each job brings all of x into its L2 once, so jobs are as large as L2 has room for sums beside a slice of x; but the
 * threads get the same number of them, two at least. Rows are split where there are too few weight rows for that. */
static void plan_jobs(struct gemm *g)
{
	const struct fr_tiles *t = &g->cpu->u.tiles;
	int threads = fr_pool_threads(g->cpu->pool), n = g->w[0].rows, padded = fr_ceil_div(g->rows, ROWS) * ROWS;
	int slice = padded * (g->depth * g->terms / 2), parts = 1, jobs;
	int nc = fr_min(t->nc, fr_max(0, t->l2 - slice) / padded) / g->mats / ROWS * ROWS;

	jobs = fr_ceil_div(fr_ceil_div(n, fr_max(nc, ROWS)), threads) * threads;
	jobs = fr_max(jobs, 2 * threads);
	g->nc = fr_ceil_div(fr_ceil_div(n, jobs), ROWS) * ROWS;
	g->col_jobs = fr_ceil_div(n, g->nc);
	if (g->col_jobs < 2 * threads)
		parts = fr_min(fr_ceil_div(2 * threads, g->col_jobs), fr_ceil_div(g->rows, 4 * ROWS));
	g->job_rows = fr_ceil_div(fr_ceil_div(g->rows, parts), ROWS) * ROWS;
	g->row_jobs = fr_ceil_div(g->rows, g->job_rows);
}

void fr_tiles_multiply(struct gemm *g)
{
	assert(g->depth > 0 && g->rows <= FR_ROW_BLOCK);
	plan_jobs(g);
	fr_pool_run(g->cpu->pool, g->col_jobs * g->row_jobs, multiply, g);
}
