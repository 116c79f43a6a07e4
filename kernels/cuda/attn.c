/* Attention on the GPU, the host half: which kernel, cut how.
 *
 * Decode over a cache: attn_decode.cu. With --precise or a float32 cache: attn_f32.cu. Everything else: attn_mma.cu and
 * attn_wide.cu, dense keys and values turned to f16 first. Prefill over a cache cuts the rows of a call into tiles of
 * one sequence and consecutive positions, and begins with those that see most keys. */
#include "cuda.h"

#include <assert.h>
#include <stdlib.h>

#define NO_MEMORY 2 /* the driver's number for it */

/* A kernel of prefill: for heads up to `dim`, `rows` rows a block. */
struct kind {
	enum fr_cu_kernel kernel;
	int dim, rows, threads;
};
static const struct kind mma_kinds[] = {
	{FR_CU_fr_attn_mma_64, 64, 128, 128},
	{FR_CU_fr_attn_mma_128, 128, 128, 128},
	{FR_CU_fr_attn_mma_320, 320, 64, 256},
};
static const struct kind f32_kinds[] = {
	{FR_CU_fr_attn_f32_64, 64, 32, 256},
	{FR_CU_fr_attn_f32_128, 128, 32, 256},
	{FR_CU_fr_attn_f32_320, 320, 16, 256},
};

/* Shared memory as the kernels lay it out. */
static size_t mma_smem(const struct kind *k)
{
	size_t dim = (size_t)k->dim, rows = (size_t)k->rows;

	if (k->dim == 320)
		return 2 * (64 * dim + 64 * dim + rows * 128) +
		       rows * 2 * 4;				      /* keys, values, weights, queries, across */
	return 2 * (rows * dim + 2 * (k->dim == 64 ? 64 : 32) * dim); /* queries, keys, values */
}
static size_t f32_smem(const struct kind *k, int head_dim)
{
	size_t dim = (size_t)head_dim, rows = (size_t)k->rows;

	return 4 * (rows * dim + 32 * (dim + 4) + rows * FR_ATTN_CHUNK); /* queries, keys or values, weights */
}

static int items_of(const struct fr_attn *a)
{
	return a->kv || a->items < 1 ? 1 : a->items;
}

static struct fr_attn_keys cached_keys(const struct fr_attn *a)
{
	const struct fr_kv *kv = a->kv;
	size_t of_head = (size_t)kv->max_pos * (size_t)kv->head_dim, of_seq = (size_t)kv->kv_heads * of_head;
	size_t at = (size_t)a->layer * (size_t)kv->seqs * of_seq * (size_t)fr_dtypes[kv->dtype].bytes;

	return (struct fr_attn_keys){.k = (const char *)kv->k + at,
				     .v = (const char *)kv->v + at,
				     .of_seq = of_seq,
				     .of_head = of_head,
				     .of_pos = (size_t)kv->head_dim,
				     .f16 = kv->dtype == FR_F16};
}

static struct fr_attn_keys dense_keys(const struct fr_attn *a)
{
	size_t width = (size_t)a->heads * (size_t)a->head_dim;

	return (struct fr_attn_keys){.k = a->k,
				     .v = a->v,
				     .of_seq = (size_t)a->kv_rows * width,
				     .of_head = (size_t)a->head_dim,
				     .of_pos = width};
}

/* Dense keys and values as f16, in work memory; k NULL after a failure, which is noted. */
static struct fr_attn_keys half_keys(struct fr_cuda *d, const struct fr_attn *a)
{
	struct fr_attn_keys keys = dense_keys(a);
	size_t n = (size_t)items_of(a) * keys.of_seq, blocks = (n / 8 + 255) / 256;
	uint16_t *half = fr_cu_part(d, FR_PART_ATTN, 4 * n);
	struct fr_attn_half_args h = {.x = {a->k, a->v}, .y = {half, half + n}, .n = n};

	keys.f16 = 1;
	keys.k = half;
	keys.v = half + n;
	if (half)
		FR_CU_RUN(d, fr_attn_half, blocks < 4096 ? (unsigned)blocks : 4096, 2, 1, 256, 0, h);
	else
		keys.k = NULL;
	return keys;
}

static struct fr_attn_out out_of(struct fr_cuda *d, const struct fr_attn *a)
{
	int rows = items_of(a) * a->rows, width = a->heads * a->head_dim;
	struct fr_packed p;

	fr_cu_wrote(d, a->y, (size_t)rows * (size_t)width * sizeof(float));
	p = fr_cu_pack_out(d, a->y, rows, width, a->phase);
	assert(!p.data || p.pitch == width);
	return (struct fr_attn_out){.y = a->y,
				    .packed = (uint16_t *)(uintptr_t)p.data,
				    .term = (size_t)p.rows * (size_t)p.pitch,
				    .terms = p.terms,
				    .width = width};
}

/* ---- prefill over a cache: tiles ---- */

static int by_keys(const void *x, const void *y)
{
	const struct fr_attn_tile *a = x, *b = y;
	int p = a->pos + a->rows, q = b->pos + b->rows;

	return p != q ? (p < q ? 1 : -1) : (a->row > b->row) - (a->row < b->row);
}

/* Rows as tiles of at most `height`, those with most keys first; returns how many. */
static int cut_tiles(const struct fr_row *row, int rows, int height, struct fr_attn_tile *tile)
{
	int n = 0;

	for (int r = 0; r < rows; r++) {
		struct fr_attn_tile *t = tile + n - 1;

		if (n > 0 && t->rows < height && row[r].seq == t->seq && row[r].pos == t->pos + t->rows)
			t->rows++;
		else
			tile[n++] = (struct fr_attn_tile){.row = r, .rows = 1, .seq = row[r].seq, .pos = row[r].pos};
	}
	qsort(tile, (size_t)n, sizeof *tile, by_keys);
	return n;
}

/* The same in device memory; NULL after a failure, which is noted. */
static const struct fr_attn_tile *upload_tiles(struct fr_cuda *d, const struct fr_attn *a, int height, int *n)
{
	const size_t ints = sizeof(struct fr_attn_tile) / sizeof(int32_t);
	struct fr_attn_tile *tile = malloc((size_t)a->rows * sizeof *tile);
	const int32_t *there;

	if (!tile) {
		fr_cu_note(d, NO_MEMORY, "the tiles of attention");
		return NULL;
	}
	*n = cut_tiles(a->row, a->rows, height, tile);
	there = fr_cu_ids(d, (const int32_t *)tile, *n * (int)ints);
	free(tile);
	return (const struct fr_attn_tile *)there;
}

static void prefill(struct fr_cuda *d, const struct fr_attn *a)
{
	/* the folded scale of the tensor core kernels must not turn the order of scores around */
	int exact = d->precise || (a->kv && a->kv->dtype == FR_F32) || !(a->scale > 0);
	const struct kind *k = exact ? f32_kinds : mma_kinds;
	struct fr_attn_args args = {
		.q = a->q,
		.bias = a->kv ? NULL : a->bias,
		.scale = a->scale,
		.rows = a->rows,
		.kv_rows = a->kv_rows,
		.head_dim = a->head_dim,
		.group = a->kv ? a->heads / a->kv->kv_heads : 1,
	};
	int tiles;

	/* the narrow kernels have no registers left for a bias */
	while (k->dim < a->head_dim || (args.bias && !exact && k->dim < 320))
		k++;
	tiles = (a->rows + k->rows - 1) / k->rows;
	if (a->kv)
		args.tiles = upload_tiles(d, a, k->rows, &tiles);
	args.keys = a->kv ? cached_keys(a) : exact ? dense_keys(a) : half_keys(d, a);
	if (!args.keys.k || (a->kv && !args.tiles))
		return;
	args.out = out_of(d, a);
	fr_cu_run(d, k->kernel, (unsigned)a->heads, (unsigned)tiles, (unsigned)items_of(a), (unsigned)k->threads,
		  exact ? f32_smem(k, a->head_dim) : mma_smem(k), &args, sizeof args);
}

/* ---- decode ---- */

#define DECODE_BLOCKS 1024 /* that a launch is meant to have: several for each multiprocessor */

/* [f32 or f16][heads up to 64, 128, 320][one query head of each head of keys, or several] */
static const enum fr_cu_kernel decode_kernels[2][3][2] = {
	{{FR_CU_fr_attn_decode_f32_64_1, FR_CU_fr_attn_decode_f32_64_4},
	 {FR_CU_fr_attn_decode_f32_128_1, FR_CU_fr_attn_decode_f32_128_4},
	 {FR_CU_fr_attn_decode_f32_320_1, FR_CU_fr_attn_decode_f32_320_1}},
	{{FR_CU_fr_attn_decode_f16_64_1, FR_CU_fr_attn_decode_f16_64_4},
	 {FR_CU_fr_attn_decode_f16_128_1, FR_CU_fr_attn_decode_f16_128_4},
	 {FR_CU_fr_attn_decode_f16_320_1, FR_CU_fr_attn_decode_f16_320_1}},
};

static void decode(struct fr_cuda *d, const struct fr_attn *a)
{
	static const int dims[3] = {64, 128, 320};
	const int chunks = (a->kv->max_pos + FR_ATTN_CHUNK - 1) / FR_ATTN_CHUNK;
	struct fr_attn_decode_args args = {
		.q = a->q,
		.keys = cached_keys(a),
		.row = fr_cu_rows(d, a->row, a->rows),
		.scale = a->scale,
		.heads = a->heads,
		.head_dim = a->head_dim,
		.group = a->heads / a->kv->kv_heads,
		.chunks = chunks,
	};
	int bucket = a->head_dim <= 64 ? 0 : a->head_dim <= 128 ? 1 : 2;
	int together = args.group > 1 && bucket < 2 ? 4 : 1, parts = (args.group + together - 1) / together;
	int blocks = a->kv->kv_heads * parts, splits = DECODE_BLOCKS / (blocks * a->rows);
	size_t smem = 4 * (size_t)together * (2 * FR_ATTN_CHUNK + 8 * (size_t)dims[bucket] + 1);
	struct fr_attn_combine_args c = {.row = args.row, .heads = a->heads, .head_dim = a->head_dim, .chunks = chunks};

	splits = splits < 1 ? 1 : splits > chunks ? chunks : splits;
	if (chunks > 1) {
		args.part = fr_cu_part(d, FR_PART_ATTN,
				       (size_t)a->rows * (size_t)a->heads * (size_t)chunks * (size_t)(a->head_dim + 2) *
					       sizeof(float));
		if (!args.part)
			return;
	}
	if (!args.row)
		return;
	args.out = out_of(d, a);
	fr_cu_run(d, decode_kernels[args.keys.f16][bucket][together > 1], (unsigned)splits, (unsigned)blocks,
		  (unsigned)a->rows, 256, smem, &args, sizeof args);
	if (chunks == 1)
		return;
	c.part = args.part;
	c.out = args.out;
	FR_CU_RUN(d, fr_attn_combine, (unsigned)a->heads, (unsigned)a->rows, 1, 128, 0, c);
}

void fr_cu_attn(struct fr_dev *dev, const struct fr_attn *a)
{
	struct fr_cuda *d = (struct fr_cuda *)dev;

	assert(a->head_dim > 0 && a->head_dim % 8 == 0 && a->head_dim <= 320);
	assert(!a->kv || (a->heads % a->kv->kv_heads == 0 && a->head_dim == a->kv->head_dim && !a->bias));
	if (a->rows <= 0)
		return;
	if (a->kv && a->phase == FR_DECODE)
		decode(d, a);
	else
		prefill(d, a);
}
