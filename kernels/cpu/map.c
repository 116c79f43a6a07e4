/* The softmax as a matrix of its own, and what it adds to other attention (fr_attn_map, fr_map_bias in ops.h).
 *
 * The map: a job is one head and a block of rows. It packs the keys a panel at a time, multiplies the block with each
 * panel straight into the map, and finishes every row where it lies.
 * The bias: both convolutions are matrix products along the heads. A job is one row of the map, a strip of its columns
 * at a time: the logarithms, head by head, go into packed panels [heads, nr]; each is multiplied to [mid, nr], which is
 * the panel of the second product; and what comes out is written head by head. A strip is several panels wide, so that
 * the rows of the heads, which lie pages apart, are read and written some lines at a time. */
#include "cpu.h"

#include <assert.h>
#include <math.h>

#define TILES 8	  /* tiles of rows in a block of the map */
#define STRIP 192 /* columns of the bias at a time, a multiple of every nr */

struct map {
	const struct fr_cpu *cpu;
	const struct fr_attn_map *a;
	int block, blocks; /* rows of a job, jobs per head */
};

struct bias {
	const struct fr_cpu *cpu;
	const struct fr_map_bias *a;
};

size_t fr_map_scratch(const struct fr_ukr *u)
{
	size_t map = (size_t)(u->nr + TILES * u->mr) * FR_MAX_HEAD_DIM;
	size_t bias = 2 * STRIP * FR_MAX_MAP_HEADS + (size_t)u->nr * FR_MAX_MAP_MID;

	return map > bias ? map : bias;
}

/* map [rows, kv_rows] = q k^T for the rows at q and the keys at k, `width` floats apart. */
static void map_scores(const struct map *t, int rows, const float *q, const float *k, size_t width, float *map,
		       float *scratch)
{
	const struct fr_ukr *u = &t->cpu->u;
	size_t hd = (size_t)t->a->head_dim, keys = (size_t)t->a->kv_rows;
	float *panel = scratch, *copy = scratch + (size_t)u->nr * hd;

	for (int i = 0; i < rows; i++) /* they may lie a power of two apart: on one set of the cache */
		memcpy(copy + (size_t)i * hd, q + (size_t)i * width, hd * sizeof *q);
	for (int j = 0; j < t->a->kv_rows; j += u->nr) {
		int n = fr_min(u->nr, t->a->kv_rows - j);

		u->pack[FR_F32](n, (int)hd, k + (size_t)j * width, width, panel);
		for (int i = 0; i < rows; i += u->mr)
			u->gemm(fr_min(u->mr, rows - i), n, (int)hd, copy + (size_t)i * hd, hd, 0, panel,
				map + (size_t)i * keys + j, keys, 0);
	}
}

/* Job i: item and head i / blocks, rows of block i % blocks. */
static void map_block(void *arg, int i, int worker)
{
	const struct map *t = arg;
	const struct fr_ukr *u = &t->cpu->u;
	const struct fr_attn_map *a = t->a;
	size_t width = (size_t)a->heads * (size_t)a->head_dim, keys = (size_t)a->kv_rows;
	size_t item = (size_t)(i / t->blocks / a->heads), head = (size_t)(i / t->blocks % a->heads);
	int r = i % t->blocks * t->block, rows = fr_min(t->block, a->rows - r);
	const float *q = a->q + (item * (size_t)a->q_rows + (size_t)r) * width + head * (size_t)a->head_dim;
	const float *k = a->k + item * keys * width + head * (size_t)a->head_dim;
	float *map = a->map + ((item * (size_t)a->heads + head) * (size_t)a->rows + (size_t)r) * keys;

	map_scores(t, rows, q, k, width, map, fr_cpu_scratch(t->cpu, worker));
	for (int j = 0; j < rows; j++, map += keys) {
		float m = -INFINITY, l = 0.0f;

		u->softmax(a->kv_rows, map, a->scale, NULL, &m, &l);
		u->divide(a->kv_rows, map, l);
	}
}

void fr_cpu_attn_map(struct fr_dev *dev, const struct fr_attn_map *a)
{
	struct fr_cpu *cpu = (struct fr_cpu *)dev;
	struct map t = {.cpu = cpu, .a = a};
	int mr = cpu->u.mr;

	assert(a->head_dim > 0 && a->head_dim % 8 == 0 && a->head_dim <= FR_MAX_HEAD_DIM && a->rows <= a->q_rows);
	if (a->rows <= 0 || a->kv_rows <= 0)
		return;
	t.blocks = fr_ceil_div(a->rows, TILES * mr);
	t.block = fr_ceil_div(fr_ceil_div(a->rows, t.blocks), mr) * mr;
	t.blocks = fr_ceil_div(a->rows, t.block);
	fr_pool_run(cpu->pool, fr_max(1, a->items) * a->heads * t.blocks, map_block, &t);
}

/* c [m, ldc] = w [m, k] times a packed panel [k, nr], of which n columns count; tiles of about equal height. */
static void mix(const struct fr_ukr *u, int m, int n, int k, const float *w, const float *panel, float *c)
{
	int step = fr_ceil_div(m, fr_ceil_div(m, u->mr));

	for (int i = 0; i < m; i += step)
		u->gemm(fr_min(step, m - i), n, k, w + (size_t)i * (size_t)k, (size_t)k, 0, panel,
			c + (size_t)i * (size_t)u->nr, (size_t)u->nr, 0);
}

/* Job i: item i / n, row i % n of its bias. */
static void bias_row(void *arg, int i, int worker)
{
	const struct bias *t = arg;
	const struct fr_ukr *u = &t->cpu->u;
	const struct fr_map_bias *a = t->a;
	size_t n = (size_t)a->n, side = 1 + n, item = (size_t)(i / a->n), r = (size_t)(i % a->n), nr = (size_t)u->nr;
	size_t heads = (size_t)a->heads, panel = heads * nr;
	const float *map = a->map + (item * heads * side + 1 + r) * side + 1;
	float *y = a->y + (item * heads * n + r) * n;
	float *logs = fr_cpu_scratch(t->cpu, worker), *out = logs + STRIP * heads, *mid = out + STRIP * heads;

	for (int c = 0; c < a->n; c += STRIP) {
		int cols = fr_min(STRIP, a->n - c);

		for (size_t h = 0; h < heads; h++)
			u->log(cols, map + h * side * side + c, a->offset, logs + h * nr, panel);
		for (int p = 0; p < cols; p += u->nr) {
			mix(u, a->mid, fr_min(u->nr, cols - p), a->heads, a->w1, logs + (size_t)p * heads, mid);
			u->gelu(a->mid, mid, a->b1);
			mix(u, a->heads, fr_min(u->nr, cols - p), a->mid, a->w2, mid, out + (size_t)p * heads);
		}
		for (size_t h = 0; h < heads; h++)
			u->add(cols, out + h * nr, panel, a->b2[h], y + h * n * n + c);
	}
}

void fr_cpu_map_bias(struct fr_dev *dev, const struct fr_map_bias *a)
{
	struct fr_cpu *cpu = (struct fr_cpu *)dev;
	struct bias t = {cpu, a};

	assert(a->heads > 0 && a->heads <= FR_MAX_MAP_HEADS && a->mid > 0 && a->mid <= FR_MAX_MAP_MID);
	fr_pool_run(cpu->pool, fr_max(1, a->items) * a->n, bias_row, &t);
}
