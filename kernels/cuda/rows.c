/* Host half of rows.cu: norms, rotation with the KV write, embedding, the gate of an MLP. Shapes to launches. */
#include "cuda.h"

#include <assert.h>

static int aligned(const void *p, int row)
{
	return (uintptr_t)p % 16 == 0 && row % 4 == 0;
}

static size_t floats(int rows, int cols)
{
	return (size_t)rows * (size_t)cols * sizeof(float);
}

/* Threads of a block: a row's width decides, never the number of rows, since the order of the sums hangs on it. */
#define NORM_FLOATS 8 /* of a row that a thread of fr_norm_row holds */
#define NORM_THREADS 1024

void fr_cu_norm(struct fr_dev *dev, const struct fr_norm *a)
{
	struct fr_cuda *d = (struct fr_cuda *)dev;
	const int threads = fr_ceil_div(fr_pitch(a->dim) / NORM_FLOATS, 32) * 32;
	struct fr_norm_args args = {.x = a->x,
				    .weight = a->weight,
				    .bias = a->bias,
				    .y = a->y,
				    .eps = a->eps,
				    .rows = a->rows,
				    .dim = a->dim,
				    .pitch = fr_pitch(a->dim)};
	struct fr_packed out;

	assert(a->dim > 0);
	if (a->rows == 0)
		return;
	fr_cu_uploaded(d);
	fr_cu_wrote(d, a->y, floats(a->rows, a->dim));
	out = fr_cu_pack_out(d, a->y, a->rows, a->dim, a->phase);
	args.out = (uint16_t *)out.data;
	args.terms = out.terms;
	args.vector_x = aligned(a->x, a->dim);
	args.vector_weight = aligned(a->weight, a->dim);
	args.vector_bias = aligned(a->bias, a->dim);
	args.vector_y = aligned(a->y, a->dim);
	if (threads <= NORM_THREADS)
		FR_CU_RUN(d, fr_norm_row, (unsigned)a->rows, 1, 1, (unsigned)threads, 64 * sizeof(float), args);
	else
		FR_CU_RUN(d, fr_norm_wide, (unsigned)a->rows, 1, 1, NORM_THREADS, 64 * sizeof(float), args);
}

void fr_cu_rope(struct fr_dev *dev, const struct fr_rope *a)
{
	struct fr_cuda *d = (struct fr_cuda *)dev;
	const struct fr_kv *kv = a->kv;
	const int hd = kv->head_dim, slots = a->heads + 2 * kv->kv_heads;
	const size_t layer = (size_t)kv->seqs * (size_t)kv->kv_heads * (size_t)kv->max_pos * (size_t)hd;
	const size_t at = (size_t)a->layer * layer * (size_t)fr_dtypes[kv->dtype].bytes;
	struct fr_rope_args args = {.q = a->q,
				    .k = a->k,
				    .v = a->v,
				    .cos = a->cos,
				    .sin = a->sin,
				    .cache_k = (char *)kv->k + at,
				    .cache_v = (char *)kv->v + at,
				    .f16 = kv->dtype == FR_F16,
				    .rows = a->rows,
				    .heads = a->heads,
				    .kv_heads = kv->kv_heads,
				    .max_pos = kv->max_pos,
				    .head_dim = hd};

	assert(hd % 8 == 0 && (kv->dtype == FR_F16 || kv->dtype == FR_F32));
	if (a->rows == 0)
		return;
	fr_cu_uploaded(d);
	fr_cu_wrote(d, a->q, floats(a->rows, a->heads * hd));
	args.row = fr_cu_rows(d, a->row, a->rows);
	args.vector_q = aligned(a->q, hd);
	args.vector_k = aligned(a->k, hd);
	args.vector_v = aligned(a->v, hd);
	args.vector_cos = aligned(a->cos, hd / 2);
	args.vector_sin = aligned(a->sin, hd / 2);
	FR_CU_RUN(d, fr_rope_store, (unsigned)a->rows, (unsigned)fr_ceil_div(slots * (hd / 8), 256), 1, 256, 0, args);
}

void fr_cu_embed(struct fr_dev *dev, const struct fr_embed *a)
{
	struct fr_cuda *d = (struct fr_cuda *)dev;
	const int dim = a->table.cols;
	const unsigned blocks = (unsigned)fr_ceil_div(dim, 8 * 256);
	struct fr_embed_args args = {.images = a->images,
				     .y = a->y,
				     .rows = a->rows,
				     .dim = dim,
				     .pitch = fr_pitch(dim),
				     .vector_images = aligned(a->images, dim),
				     .vector_y = aligned(a->y, dim)};

	if (a->rows == 0)
		return;
	fr_cu_uploaded(d);
	fr_cu_wrote(d, a->y, floats(a->rows, dim));
	args.ids = fr_cu_ids(d, a->ids, a->rows);
	/* few of the table's rows are read, each once: where they are, as in decoding */
	args.table = fr_cu_near(d, &a->table, FR_DECODE).data;
	if (a->table.dtype == FR_F32)
		FR_CU_RUN(d, fr_embed_f32, (unsigned)a->rows, blocks, 1, 256, 0, args);
	else if (a->table.dtype == FR_F16)
		FR_CU_RUN(d, fr_embed_f16, (unsigned)a->rows, blocks, 1, 256, 0, args);
	else
		FR_CU_RUN(d, fr_embed_bf16, (unsigned)a->rows, blocks, 1, 256, 0, args);
}

void fr_cu_gate(struct fr_dev *dev, const struct fr_gate *a)
{
	struct fr_cuda *d = (struct fr_cuda *)dev;
	struct fr_gate_args args = {.gate = a->gate,
				    .up = a->up,
				    .y = a->y,
				    .rows = a->rows,
				    .cols = a->cols,
				    .pitch = fr_pitch(a->cols),
				    .vector = aligned(a->gate, a->cols) && aligned(a->up, a->cols) &&
					      aligned(a->y, a->cols)};
	struct fr_packed out;

	if (a->rows == 0)
		return;
	fr_cu_wrote(d, a->y, floats(a->rows, a->cols));
	out = fr_cu_pack_out(d, a->y, a->rows, a->cols, a->phase);
	args.out = (uint16_t *)out.data;
	args.terms = out.terms;
	FR_CU_RUN(d, fr_gate, (unsigned)a->rows, (unsigned)fr_ceil_div(args.pitch, 4 * 256), 1, 256, 0, args);
}
