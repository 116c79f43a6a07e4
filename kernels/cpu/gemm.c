/* Matrix products of the prefill phase: y = x w^T on packed panels, with the epilogue fused.
 *
 * A panel's word is one float32, or, in levels that multiply bf16 weights in pairs, two neighbours along k; x then has
 * a word for each of its terms. Slices hold as many elements as fill the same words.
 * The rows of x are copied once, also for a chain of products, into blocks [kc-deep slice][tile of mr rows][mr, kc],
 * shared by all workers: rows a power of two apart would fall on the same cache sets. Then each job takes nc columns:
 * slice by slice it packs their weights (transposed, widened), so each weight is packed once in all, and adds to its
 * sums, which stay with the worker: [rows, columns of the job]. The sum of one output is one chain in order of k,
 * carried from slice to slice through memory, so the blocking does not show in the bits. A gated product keeps both
 * halves' sums side by side.
 *
 * In levels that multiply in tiles, packing and jobs are those of gemm_tiles.c; operations, blocks of rows and the
 * epilogue are these. */
#include "gemm.h"

#include <assert.h>

static size_t panel_floats(const struct fr_ukr *u)
{
	return (size_t)u->kc * (size_t)u->nc;
}

size_t fr_gemm_scratch(const struct fr_ukr *u)
{
	size_t plain = panel_floats(u) + (size_t)FR_ROW_BLOCK * (size_t)u->nc, tiles = fr_tiles_scratch(u);

	return tiles > plain ? tiles : plain;
}

/* Products are made in tiles. */
static int in_tiles(const struct gemm *g)
{
	return g->cpu->u.tiles.begin != NULL;
}

/* Words that n elements of x, or of a column of weights, take. */
static size_t words_x(const struct gemm *g, int n)
{
	return g->terms ? (size_t)(g->terms * fr_ceil_div(n, 2)) : (size_t)n;
}
static size_t words_w(const struct gemm *g, int n)
{
	return (size_t)(g->terms ? fr_ceil_div(n, 2) : n);
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

const float *fr_gemm_rows(const struct gemm *g, int row, int rows, int k0, int n, float *room, size_t *ld)
{
	*ld = g->patch ? (size_t)n : g->ldx;
	if (!g->patch)
		return g->x + (size_t)row * g->ldx + k0;
	for (int r = 0; r < rows; r++)
		patch_row(g->patch, g->row0 + row + r, k0, n, room + (size_t)r * *ld);
	return room;
}

/* Job i: the i-th tile of rows into every slice. */
static void pack_tile(void *arg, int i, int worker)
{
	const struct gemm *g = arg;
	const struct fr_ukr *u = &g->cpu->u;
	int first = i * u->mr, rows = fr_min(u->mr, g->rows - first);
	size_t padded = (size_t)fr_ceil_div(g->rows, u->mr) * (size_t)u->mr;
	float *room = fr_cpu_scratch(g->cpu, worker);

	for (int k0 = 0; k0 < g->k; k0 += g->depth) {
		int kn = fr_min(g->depth, g->k - k0);
		size_t words = words_x(g, kn), ld;
		float *dst = g->cpu->a + padded * words_x(g, k0) + (size_t)first * words;

		for (int r = 0; r < rows; r++, dst += words) {
			const float *x = fr_gemm_rows(g, first + r, 1, k0, kn, room, &ld);

			if (g->terms)
				u->pack_terms[g->terms - 1](kn, x, dst);
			else
				memcpy(dst, x, words * sizeof *dst);
		}
	}
}

/* Weights of columns n0..n0+n, slice k0..k0+kn, as panels of nr columns. */
static void pack_weights(const struct gemm *g, const struct fr_mat *w, int n0, int n, int k0, int kn, float *b)
{
	const struct fr_ukr *u = &g->cpu->u;
	size_t bytes = (size_t)fr_dtypes[w->dtype].bytes, words = words_w(g, kn);
	fr_pack_fn *pack = g->terms ? u->pack_pairs : u->pack[w->dtype];

	for (int j = 0; j < n; j += u->nr, b += words * (size_t)u->nr)
		pack(fr_min(u->nr, n - j), kn,
		     (const char *)w->data + ((size_t)(n0 + j) * (size_t)w->cols + (size_t)k0) * bytes, (size_t)w->cols,
		     b);
}

/* Adds one slice of depth kn to the sums c [rows, ldc]: panels b of n columns against the packed rows a. */
static void add_slice(const struct gemm *g, int rows, int n, int kn, const float *a, const float *b, float *c,
		      size_t ldc, int more)
{
	const struct fr_ukr *u = &g->cpu->u;
	fr_gemm_fn *product = g->terms ? u->gemm_pairs[g->terms - 1] : u->gemm;
	size_t lda = words_x(g, kn), words = words_w(g, kn);

	for (int block = 0; block < rows; block += u->mc)
		for (int j = 0; j < n; j += u->nr)
			for (int i = block; i < fr_min(rows, block + u->mc); i += u->mr)
				product(fr_min(u->mr, rows - i), fr_min(u->nr, n - j), (int)words, a + (size_t)i * lda,
					lda, (size_t)u->mr * lda, b + (size_t)j * words, c + (size_t)i * ldc + j, ldc,
					more);
}

void fr_gemm_finish(const struct gemm *g, int row, int rows, int n0, int n, const float *c, size_t ldc)
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

	for (int k0 = 0; k0 < g->k; k0 += g->depth) {
		int kn = fr_min(g->depth, g->k - k0);

		for (int m = 0; m < g->mats; m++) {
			pack_weights(g, &g->w[m], n0, n, k0, kn, b);
			add_slice(g, rows, n, kn, g->cpu->a + padded * words_x(g, k0) + (size_t)row * words_x(g, kn), b,
				  c + m * g->nc, ldc, k0 > 0);
		}
	}
	fr_gemm_finish(g, row, rows, n0, n, c, ldc);
}

/* Columns per job: the kernel's nc, narrower where that leaves the threads unevenly loaded; rows are split only where
 * one tile of columns per job is still too much, because each part packs the weights again. */
static void plan_jobs(struct gemm *g)
{
	const struct fr_ukr *u = &g->cpu->u;
	int threads = fr_pool_threads(g->cpu->pool), n = g->w[0].rows, nc = u->nc / g->mats / u->nr * u->nr, parts = 1;

	while (nc > u->nr && fr_ceil_div(n, nc) < 8 * threads)
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

/* Slices of about equal depth, in whole cache lines of words: a short one at the end would load and store all sums once
 * more for little. */
static int depth_of(const struct gemm *g)
{
	int kc = g->cpu->u.kc, most = g->terms ? 2 * (kc / g->terms) : kc;

	return fr_min(most, fr_ceil_div(fr_ceil_div(g->k, fr_ceil_div(g->k, most)), 32) * 32);
}

/* Terms of x for products with these weights, and depth of a slice: both matrices of a gated product or none are
 * multiplied in pairs. The pixels of patches enter in two terms always, as on a GPU. */
static void take_terms(struct gemm *g)
{

	g->terms = g->patch && g->cpu->terms ? 2 : g->cpu->terms;
	for (int m = 0; m < g->mats; m++)
		if (g->w[m].dtype != FR_BF16 && !in_tiles(g))
			g->terms = 0;
	g->depth = in_tiles(g) ? fr_tiles_depth(g) : depth_of(g);
}

static void pack_rows(struct gemm *g)
{
	if (in_tiles(g))
		fr_tiles_pack(g);
	else
		fr_pool_run(g->cpu->pool, fr_ceil_div(g->rows, g->cpu->u.mr), pack_tile, g);
}

static void multiply_all(struct gemm *g)
{
	if (in_tiles(g)) {
		fr_tiles_multiply(g);
		return;
	}
	plan_jobs(g);
	fr_pool_run(g->cpu->pool, g->col_jobs * g->row_jobs, multiply, g);
}

/* What a packed row takes at most, of any product in a chain: an odd k in two terms takes one more. */
static size_t row_floats(const struct gemm *g)
{
	return in_tiles(g) ? fr_tiles_row_floats(g) : (size_t)(g->k + 1);
}

/* All rows, in blocks that the packed copy and a worker's sums have room for. */
static void run(struct fr_cpu *cpu, struct gemm *g, int rows)
{
	int mr, block;

	assert(g->k > 0 && g->k <= FR_MAX_COLS && g->w[0].cols == g->k && cpu->u.pack[g->w[0].dtype]);
	g->cpu = cpu;
	take_terms(g);
	mr = in_tiles(g) ? FR_TILE_ROWS : cpu->u.mr;
	block = (int)(FR_PACK_FLOATS / row_floats(g));
	block = fr_min(FR_ROW_BLOCK, block) / mr * mr;
	block = fr_ceil_div(fr_ceil_div(rows, fr_ceil_div(rows, block)), mr) * mr;
	for (int r = 0; r < rows; r += block) {
		struct gemm part = *g;

		part.row0 = r;
		part.rows = fr_min(block, rows - r);
		if (g->x)
			part.x = g->x + (size_t)r * g->ldx;
		if (g->residual)
			part.residual = g->residual + (size_t)r * (size_t)g->w[0].rows;
		part.y = g->y + (size_t)r * (size_t)g->w[0].rows;
		pack_rows(&part);
		multiply_all(&part);
		for (const struct fr_linear *a = g->also; a; a = a->also) {
			const int terms = part.terms, depth = part.depth;

			take_output(&part, a, r);
			take_terms(&part);
			if (part.terms != terms || part.depth != depth)
				pack_rows(&part);
			multiply_all(&part);
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
