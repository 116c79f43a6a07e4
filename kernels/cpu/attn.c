/* Attention in chunks of 256 keys, as the contract in ops.h orders it.
 *
 * Prefill and dense: a job is one head and a block of rows. It packs a chunk's keys (transposed) and values into panels
 * once, then takes the rows 8 tiles at a time: scores by the matrix micro-kernel, one softmax step per row, values by
 * the same micro-kernel straight into y. The score buffer is [8 tiles, 256], however long the context. Rows differ in
 * how many keys of a chunk they see: a tile runs to the shortest, each row finishes alone, on the values as they lie.
 * Decode is attn_decode.c. */
#include "cpu.h"

#include <assert.h>
#include <math.h>

#define CHUNK FR_ATTN_CHUNK
#define TILES 8 /* tiles of rows that share the score buffer */

struct attn {
	const struct fr_cpu *cpu;
	const struct fr_attn *a;
	int block, blocks;   /* rows of a job, jobs per head */
	size_t width;	     /* of q and y: heads * head_dim */
	enum fr_dtype dtype; /* of keys and values */
};

/* The keys and values that one head of one row sees. */
struct source {
	const char *k, *v;
	size_t stride; /* elements from one position to the next */
};

struct buffers {
	float *k, *v, *q, *s, *m, *l;
};

static int padded_dim(const struct fr_ukr *u)
{
	return fr_ceil_div(FR_MAX_HEAD_DIM, u->nr) * u->nr;
}

static size_t queries(const struct fr_ukr *u)
{
	return (size_t)(TILES * u->mr) * FR_MAX_HEAD_DIM;
}

size_t fr_attn_scratch(const struct fr_ukr *u)
{
	size_t keys = (size_t)(fr_ceil_div(CHUNK, u->nr) * u->nr) * FR_MAX_HEAD_DIM;
	size_t values = (size_t)CHUNK * (size_t)padded_dim(u);

	return keys + values + queries(u) + (size_t)(TILES * u->mr) * CHUNK + 2 * FR_ROW_BLOCK;
}

static struct buffers split_scratch(const struct fr_cpu *cpu, int worker)
{
	const struct fr_ukr *u = &cpu->u;
	struct buffers b = {.k = fr_cpu_scratch(cpu, worker)};

	b.v = b.k + (size_t)(fr_ceil_div(CHUNK, u->nr) * u->nr) * FR_MAX_HEAD_DIM;
	b.q = b.v + (size_t)CHUNK * (size_t)padded_dim(u);
	b.s = b.q + queries(u);
	b.m = b.s + (size_t)(TILES * u->mr) * CHUNK;
	b.l = b.m + FR_ROW_BLOCK;
	return b;
}

static struct source source_of(const struct attn *t, int seq, int head)
{
	const struct fr_attn *a = t->a;
	const struct fr_kv *kv = a->kv;
	size_t at, bytes = (size_t)fr_dtypes[t->dtype].bytes;

	if (!kv) {
		at = (size_t)head * (size_t)a->head_dim * sizeof(float);
		return (struct source){(const char *)a->k + at, (const char *)a->v + at, t->width};
	}
	at = fr_kv_head(kv, a->layer, seq, head / (a->heads / kv->kv_heads)) * bytes;
	return (struct source){(const char *)kv->k + at, (const char *)kv->v + at, (size_t)kv->head_dim};
}

/* How many of the keys chunk..chunk+n row r sees. */
static int seen(const struct fr_attn *a, int r, int chunk, int n)
{
	if (!a->kv)
		return n;
	return fr_max(0, fr_min(n, a->row[r].pos + 1 - chunk));
}

static void pack_chunk(const struct attn *t, const struct source *src, int chunk, int n, const struct buffers *b)
{
	const struct fr_ukr *u = &t->cpu->u;
	int hd = t->a->head_dim;
	size_t bytes = (size_t)fr_dtypes[t->dtype].bytes, first = (size_t)chunk * src->stride;

	for (int j = 0; j < n; j += u->nr)
		u->pack[t->dtype](fr_min(u->nr, n - j), hd, src->k + (first + (size_t)j * src->stride) * bytes,
				  src->stride, b->k + (size_t)j * (size_t)hd);
	for (int d = 0; d < hd; d += u->nr)
		u->pack_rows[t->dtype](fr_min(u->nr, hd - d), n, src->v + (first + (size_t)d) * bytes, src->stride,
				       b->v + (size_t)d * (size_t)n);
}

/* The most keys of the chunk that any of the rows r..r+rows sees. */
static int most_seen(const struct fr_attn *a, int r, int rows, int chunk, int n)
{
	int most = 0;

	for (int i = r; i < r + rows; i++)
		most = fr_max(most, seen(a, i, chunk, n));
	return most;
}

/* s [rows, CHUNK] = q k^T for rows r.. of a head and the keys of the packed chunk that a tile of them sees. The rows of
 * q, a power of two apart, would fall on one set of the cache, which holds fewer lines than the widest tile has rows:
 * they are copied. */
static void scores(const struct attn *t, int head, int r, int rows, int chunk, int n, const struct buffers *b)
{
	const struct fr_ukr *u = &t->cpu->u;
	size_t hd = (size_t)t->a->head_dim;
	const float *q = t->a->q + (size_t)r * t->width + (size_t)head * hd;
	int keys[TILES], tiles = fr_ceil_div(rows, u->mr);

	for (int i = 0; i < rows; i++)
		memcpy(b->q + (size_t)i * hd, q + (size_t)i * t->width, hd * sizeof *q);
	for (int i = 0; i < tiles; i++)
		keys[i] = most_seen(t->a, r + i * u->mr, fr_min(u->mr, rows - i * u->mr), chunk, n);
	for (int j = 0; j < n; j += u->nr)
		for (int i = 0; i < tiles; i++) {
			size_t first = (size_t)(i * u->mr);

			if (j < keys[i])
				u->gemm(fr_min(u->mr, rows - i * u->mr), fr_min(u->nr, keys[i] - j), (int)hd,
					b->q + first * hd, hd, 0, b->k + (size_t)j * hd, b->s + first * CHUNK + j,
					CHUNK, 0);
		}
}

/* y [m rows] += p v for keys from..to of a packed chunk of n. */
static void add_values(const struct attn *t, int m, int from, int to, int n, const float *p, const float *v, float *y)
{
	const struct fr_ukr *u = &t->cpu->u;
	int hd = t->a->head_dim;

	for (int d = 0; d < hd && to > from; d += u->nr)
		u->gemm(m, fr_min(u->nr, hd - d), to - from, p + from, CHUNK, 0,
			v + (size_t)d * (size_t)n + (size_t)from * (size_t)u->nr, y + d, t->width, 1);
}

/* Rows r..r+rows of the block starting at r0 against one packed chunk. */
static void add_chunk(const struct attn *t, const struct source *src, int head, int r0, int r, int rows, int chunk,
		      int n, const struct buffers *b)
{
	const struct fr_ukr *u = &t->cpu->u;
	const struct fr_attn *a = t->a;
	const size_t bytes = (size_t)fr_dtypes[t->dtype].bytes;
	const char *v = src->v + (size_t)chunk * src->stride * bytes;
	float *y = a->y + (size_t)r * t->width + (size_t)head * (size_t)a->head_dim;

	if (most_seen(a, r, rows, chunk, n) == 0)
		return;
	scores(t, head, r, rows, chunk, n, b);
	for (int i = 0; i < rows; i++) {
		int keys = seen(a, r + i, chunk, n);
		const float *bias = NULL;

		if (keys == 0)
			continue;
		if (a->bias)
			bias = a->bias + ((size_t)head * (size_t)a->rows + (size_t)(r + i)) * (size_t)a->kv_rows +
			       chunk;
		u->scale(a->head_dim, y + (size_t)i * t->width,
			 u->softmax(keys, b->s + (size_t)i * CHUNK, a->scale, bias, b->m + (r - r0) + i,
				    b->l + (r - r0) + i));
	}
	for (int i = 0; i < rows; i += u->mr) {
		int m = fr_min(u->mr, rows - i), all = n;

		for (int j = 0; j < m; j++)
			all = fr_min(all, seen(a, r + i + j, chunk, n));
		add_values(t, m, 0, all, n, b->s + (size_t)i * CHUNK, b->v, y + (size_t)i * t->width);
		for (int j = i; j < i + m; j++)
			u->axpy[t->dtype](seen(a, r + j, chunk, n) - all, a->head_dim, b->s + (size_t)j * CHUNK + all,
					  v + (size_t)all * src->stride * bytes, src->stride, y + (size_t)j * t->width);
	}
}

/* Rows r0..r1, all of one sequence, of one head. */
static void attend(const struct attn *t, int head, int r0, int r1, const struct buffers *b)
{
	const struct fr_ukr *u = &t->cpu->u;
	const struct fr_attn *a = t->a;
	struct source src = source_of(t, a->kv ? a->row[r0].seq : 0, head);
	int hd = a->head_dim, kv_rows = a->kv ? 0 : a->kv_rows, step = TILES * u->mr;

	for (int r = r0; r < r1; r++) {
		if (a->kv)
			kv_rows = fr_max(kv_rows, a->row[r].pos + 1);
		b->m[r - r0] = -INFINITY;
		b->l[r - r0] = 0.0f;
		memset(a->y + (size_t)r * t->width + (size_t)head * (size_t)hd, 0, (size_t)hd * sizeof(float));
	}
	for (int chunk = 0; chunk < kv_rows; chunk += CHUNK) {
		int n = fr_min(CHUNK, kv_rows - chunk);

		pack_chunk(t, &src, chunk, n, b);
		for (int r = r0; r < r1; r += step)
			add_chunk(t, &src, head, r0, r, fr_min(step, r1 - r), chunk, n, b);
	}
	for (int r = r0; r < r1; r++)
		u->divide(hd, a->y + (size_t)r * t->width + (size_t)head * (size_t)hd, b->l[r - r0]);
}

/* Job i: head i / blocks, rows of block i % blocks, sequence by sequence. */
static void prefill(void *arg, int i, int worker)
{
	const struct attn *t = arg;
	const struct fr_row *row = t->a->kv ? t->a->row : NULL;
	struct buffers b = split_scratch(t->cpu, worker);
	int r = i % t->blocks * t->block, end = fr_min(t->a->rows, r + t->block);

	while (r < end) {
		int stop = r + 1;

		while (stop < end && (!row || row[stop].seq == row[r].seq))
			stop++;
		attend(t, i / t->blocks, r, stop, &b);
		r = stop;
	}
}

/* Sixteen jobs a thread keep the threads even; more would only pack the keys and values again (about 1 % a block). */
static void plan_blocks(struct attn *t)
{
	int rows = t->a->rows, tiles = TILES * t->cpu->u.mr, room = FR_ROW_BLOCK / tiles * tiles;
	int want = fr_ceil_div(16 * fr_pool_threads(t->cpu->pool), t->a->heads);

	t->block = fr_min(room, fr_ceil_div(fr_ceil_div(rows, want), tiles) * tiles);
	t->blocks = fr_ceil_div(rows, t->block);
}

void fr_cpu_attn(struct fr_dev *dev, const struct fr_attn *a)
{
	struct fr_cpu *cpu = (struct fr_cpu *)dev;
	struct fr_attn one = *a;
	struct attn t = {.cpu = cpu, .a = &one, .width = (size_t)a->heads * (size_t)a->head_dim};

	t.dtype = a->kv ? a->kv->dtype : FR_F32;
	assert(a->head_dim > 0 && a->head_dim % 8 == 0 && a->head_dim <= FR_MAX_HEAD_DIM);
	assert(!a->kv || (a->heads % a->kv->kv_heads == 0 && a->head_dim == a->kv->head_dim && !a->bias));
	assert(!a->kv || a->items <= 1);
	if (a->rows <= 0)
		return;
	if (a->kv && a->phase == FR_DECODE) {
		fr_attn_decode(cpu, a);
		return;
	}
	plan_blocks(&t);
	for (int i = 0; i < fr_max(1, a->items); i++, one = fr_attn_next(&one))
		fr_pool_run(cpu->pool, a->heads * t.blocks, prefill, &t);
}
