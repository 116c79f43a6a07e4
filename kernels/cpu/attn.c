/* Attention in chunks of 256 keys, as the contract in ops.h orders it.
 *
 * Prefill and dense: a job is one head and a block of rows. It packs a chunk's keys (transposed) and values into panels
 * once, then takes the rows some tiles at a time: scores by the matrix micro-kernel, one softmax step per row, values
 * by the same micro-kernel into the job's own sums, which lie close together as the rows of y, a power of two apart, do
 * not. The score buffer is [TILES tiles, 256], however long the context. Rows differ in how many keys of a chunk they
 * see: a tile runs to the shortest, each row finishes alone, on the values as they lie. Decode is attn_decode.c.
 *
 * In pairs of bf16 a word of q, of a panel of keys and of the weights p is two neighbours, of a panel of values two
 * keys; the weights are rounded where they lie. */
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
	int pairs;	     /* of bf16; dense only */
	enum fr_dtype dtype; /* of keys and values */
};

/* The keys and values that one head of one row sees. */
struct source {
	const char *k, *v;
	size_t stride; /* elements from one position to the next */
};

struct buffers {
	float *k, *v, *q, *s, *o, *m, *l; /* o [rows of the job, head_dim], m and l one a row */
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

	return keys + values + queries(u) + (size_t)(TILES * u->mr) * CHUNK +
	       (size_t)FR_ROW_BLOCK * (FR_MAX_HEAD_DIM + 2);
}

static struct buffers split_scratch(const struct fr_cpu *cpu, int worker)
{
	const struct fr_ukr *u = &cpu->u;
	struct buffers b = {.k = fr_cpu_scratch(cpu, worker)};

	b.v = b.k + (size_t)(fr_ceil_div(CHUNK, u->nr) * u->nr) * FR_MAX_HEAD_DIM;
	b.q = b.v + (size_t)CHUNK * (size_t)padded_dim(u);
	b.s = b.q + queries(u);
	b.o = b.s + (size_t)(TILES * u->mr) * CHUNK;
	b.m = b.o + (size_t)FR_ROW_BLOCK * FR_MAX_HEAD_DIM;
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

/* Words that n elements take. */
static size_t words(const struct attn *t, int n)
{
	return (size_t)(t->pairs ? fr_ceil_div(n, 2) : n);
}

static void pack_chunk(const struct attn *t, const struct source *src, int chunk, int n, const struct buffers *b)
{
	const struct fr_ukr *u = &t->cpu->u;
	int hd = t->a->head_dim;
	size_t bytes = (size_t)fr_dtypes[t->dtype].bytes, first = (size_t)chunk * src->stride;
	fr_pack_fn *keys = t->pairs ? u->pack_pairs_f32 : u->pack[t->dtype];
	fr_pack_fn *values = t->pairs ? u->pack_rows_pairs : u->pack_rows[t->dtype];

	for (int j = 0; j < n; j += u->nr)
		keys(fr_min(u->nr, n - j), hd, src->k + (first + (size_t)j * src->stride) * bytes, src->stride,
		     b->k + (size_t)j * words(t, hd));
	for (int d = 0; d < hd; d += u->nr)
		values(fr_min(u->nr, hd - d), n, src->v + (first + (size_t)d) * bytes, src->stride,
		       b->v + (size_t)d * words(t, n));
}

/* The most keys of the chunk that any of the rows r..r+rows sees. */
static int most_seen(const struct fr_attn *a, int r, int rows, int chunk, int n)
{
	int most = 0;

	for (int i = r; i < r + rows; i++)
		most = fr_max(most, seen(a, i, chunk, n));
	return most;
}

/* Rows r.. of a head of q as the micro-kernel wants them: a power of two apart, they would fall on one set of the
 * cache, which holds fewer lines than the widest tile has rows. */
static void take_queries(const struct attn *t, int head, int r, int rows, float *dst)
{
	size_t hd = (size_t)t->a->head_dim;
	const float *q = t->a->q + (size_t)r * t->width + (size_t)head * hd;

	for (int i = 0; i < rows; i++, q += t->width, dst += words(t, (int)hd))
		if (t->pairs)
			t->cpu->u.pack_terms[0]((int)hd, q, dst);
		else
			memcpy(dst, q, hd * sizeof *q);
}

/* s [rows, CHUNK] = q k^T for rows r.. of a head and the keys of the packed chunk that a tile of them sees. */
static void scores(const struct attn *t, int head, int r, int rows, int chunk, int n, const struct buffers *b)
{
	const struct fr_ukr *u = &t->cpu->u;
	fr_gemm_fn *product = t->pairs ? u->gemm_pairs[0] : u->gemm;
	const size_t k = words(t, t->a->head_dim);
	int keys[TILES], tiles = fr_ceil_div(rows, u->mr);

	take_queries(t, head, r, rows, b->q);
	for (int i = 0; i < tiles; i++)
		keys[i] = most_seen(t->a, r + i * u->mr, fr_min(u->mr, rows - i * u->mr), chunk, n);
	for (int j = 0; j < n; j += u->nr)
		for (int i = 0; i < tiles; i++) {
			size_t first = (size_t)(i * u->mr);

			if (j < keys[i])
				product(fr_min(u->mr, rows - i * u->mr), fr_min(u->nr, keys[i] - j), (int)k,
					b->q + first * k, k, 0, b->k + (size_t)j * k, b->s + first * CHUNK + j, CHUNK,
					0);
		}
}

/* The weights p of row r in place of its scores s, and what came before, o, brought to the same maximum. */
static void weigh(const struct attn *t, int head, int r, int chunk, int keys, float *s, float *o, float *m, float *l)
{
	const struct fr_ukr *u = &t->cpu->u;
	const struct fr_attn *a = t->a;
	const float *bias = NULL;

	if (a->bias)
		bias = a->bias + ((size_t)head * (size_t)a->rows + (size_t)r) * (size_t)a->kv_rows + chunk;
	u->scale(a->head_dim, o, u->softmax(keys, s, a->scale, bias, m, l));
	if (t->pairs)
		u->pack_terms[0](keys, s, s);
}

/* o [m rows] += p v for the first `keys` of a packed chunk of n. */
static void add_values(const struct attn *t, int m, int keys, int n, const float *p, const float *v, float *o)
{
	const struct fr_ukr *u = &t->cpu->u;
	fr_gemm_fn *product = t->pairs ? u->gemm_pairs[0] : u->gemm;
	int hd = t->a->head_dim;

	for (int d = 0; d < hd && keys > 0; d += u->nr)
		product(m, fr_min(u->nr, hd - d), (int)words(t, keys), p, CHUNK, 0, v + (size_t)d * words(t, n), o + d,
			(size_t)hd, 1);
}

/* Rows r..r+rows of the block starting at r0 against one packed chunk. */
static void add_chunk(const struct attn *t, const struct source *src, int head, int r0, int r, int rows, int chunk,
		      int n, const struct buffers *b)
{
	const struct fr_ukr *u = &t->cpu->u;
	const struct fr_attn *a = t->a;
	const size_t bytes = (size_t)fr_dtypes[t->dtype].bytes, hd = (size_t)a->head_dim;
	const char *v = src->v + (size_t)chunk * src->stride * bytes;
	float *o = b->o + (size_t)(r - r0) * hd;

	if (most_seen(a, r, rows, chunk, n) == 0)
		return;
	scores(t, head, r, rows, chunk, n, b);
	for (int i = 0; i < rows; i++) {
		int keys = seen(a, r + i, chunk, n);

		if (keys > 0)
			weigh(t, head, r + i, chunk, keys, b->s + (size_t)i * CHUNK, o + (size_t)i * hd,
			      b->m + (r - r0) + i, b->l + (r - r0) + i);
	}
	for (int i = 0; i < rows; i += u->mr) {
		int m = fr_min(u->mr, rows - i), all = n;

		for (int j = 0; j < m; j++)
			all = fr_min(all, seen(a, r + i + j, chunk, n));
		add_values(t, m, all, n, b->s + (size_t)i * CHUNK, b->v, o + (size_t)i * hd);
		for (int j = i; j < i + m; j++) {
			int rest = seen(a, r + j, chunk, n) - all;

			if (rest > 0)
				u->axpy[t->dtype](rest, (int)hd, b->s + (size_t)j * CHUNK + all,
						  v + (size_t)all * src->stride * bytes, src->stride,
						  o + (size_t)j * hd);
		}
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
	}
	memset(b->o, 0, (size_t)(r1 - r0) * (size_t)hd * sizeof *b->o);
	for (int chunk = 0; chunk < kv_rows; chunk += CHUNK) {
		int n = fr_min(CHUNK, kv_rows - chunk);

		pack_chunk(t, &src, chunk, n, b);
		for (int r = r0; r < r1; r += step)
			add_chunk(t, &src, head, r0, r, fr_min(step, r1 - r), chunk, n, b);
	}
	for (int r = r0; r < r1; r++) {
		float *o = b->o + (size_t)(r - r0) * (size_t)hd;

		u->divide(hd, o, b->l[r - r0]);
		memcpy(a->y + (size_t)r * t->width + (size_t)head * (size_t)hd, o, (size_t)hd * sizeof *o);
	}
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
	t.pairs = !a->kv && a->weights == FR_BF16 && cpu->terms == 1;
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
