/* Operations whose rows are independent: norms, rotation with the KV write, embedding, the gate. Split over
 * rows; the gate, of which no item knows another, over items. */
#include "cpu.h"

#include <assert.h>

#define ROWS 8 /* rows of a job: some 10 us of work at the models' widths */

struct norm_job {
	const struct fr_cpu *cpu;
	const struct fr_norm *a;
};

static void norm_rows(void *arg, int i, int worker)
{
	const struct norm_job *j = arg;
	const struct fr_norm *a = j->a;

	(void)worker;
	for (int r = i * ROWS; r < fr_min(a->rows, (i + 1) * ROWS); r++) {
		size_t at = (size_t)r * (size_t)a->dim;

		j->cpu->u.norm(a->dim, a->x + at, a->weight, a->bias, a->eps, a->y + at);
	}
}

void fr_cpu_norm(struct fr_dev *dev, const struct fr_norm *a)
{
	struct fr_cpu *cpu = (struct fr_cpu *)dev;
	struct norm_job j = {cpu, a};

	assert(a->dim > 0);
	fr_pool_run(cpu->pool, fr_ceil_div(a->rows, ROWS), norm_rows, &j);
}

struct rope_job {
	const struct fr_cpu *cpu;
	const struct fr_rope *a;
};

static void rope_row(const struct fr_ukr *u, const struct fr_rope *a, int r)
{
	const struct fr_kv *kv = a->kv;
	int hd = kv->head_dim, pos = a->row[r].pos;
	size_t width = (size_t)kv->kv_heads * (size_t)hd, bytes = (size_t)fr_dtypes[kv->dtype].bytes;
	const float *cos = a->cos + (size_t)pos * (size_t)(hd / 2), *sin = a->sin + (size_t)pos * (size_t)(hd / 2);
	float k[FR_MAX_HEAD_DIM];

	for (int h = 0; h < a->heads; h++)
		u->rotate(hd / 2, a->q + ((size_t)r * (size_t)a->heads + (size_t)h) * (size_t)hd, cos, sin);
	for (int h = 0; h < kv->kv_heads; h++) {
		size_t at = (fr_kv_head(kv, a->layer, a->row[r].seq, h) + (size_t)pos * (size_t)hd) * bytes;

		memcpy(k, a->k + (size_t)r * width + (size_t)h * (size_t)hd, (size_t)hd * sizeof *k);
		u->rotate(hd / 2, k, cos, sin);
		u->narrow[kv->dtype](hd, k, (char *)kv->k + at);
		u->narrow[kv->dtype](hd, a->v + (size_t)r * width + (size_t)h * (size_t)hd, (char *)kv->v + at);
	}
}

static void rope_rows(void *arg, int i, int worker)
{
	const struct rope_job *j = arg;

	(void)worker;
	for (int r = i * ROWS; r < fr_min(j->a->rows, (i + 1) * ROWS); r++)
		rope_row(&j->cpu->u, j->a, r);
}

void fr_cpu_rope(struct fr_dev *dev, const struct fr_rope *a)
{
	struct fr_cpu *cpu = (struct fr_cpu *)dev;
	struct rope_job j = {cpu, a};

	assert(a->kv->head_dim % 2 == 0 && a->kv->head_dim <= FR_MAX_HEAD_DIM && cpu->u.narrow[a->kv->dtype]);
	fr_pool_run(cpu->pool, fr_ceil_div(a->rows, ROWS), rope_rows, &j);
}

struct embed_job {
	const struct fr_cpu *cpu;
	const struct fr_embed *a;
};

static void embed_rows(void *arg, int i, int worker)
{
	const struct embed_job *j = arg;
	const struct fr_embed *a = j->a;
	size_t dim = (size_t)a->table.cols, bytes = fr_dtype_bytes(a->table.dtype, dim);

	(void)worker;
	for (int r = i * ROWS; r < fr_min(a->rows, (i + 1) * ROWS); r++) {
		float *y = a->y + (size_t)r * dim;

		if (a->ids[r] < 0)
			memcpy(y, a->images + (size_t)(-1 - a->ids[r]) * dim, dim * sizeof *y);
		else
			j->cpu->u.widen[a->table.dtype](
				a->table.cols, (const char *)a->table.data + (size_t)a->ids[r] * bytes, y);
	}
}

void fr_cpu_embed(struct fr_dev *dev, const struct fr_embed *a)
{
	struct fr_cpu *cpu = (struct fr_cpu *)dev;
	struct embed_job j = {cpu, a};

	fr_pool_run(cpu->pool, fr_ceil_div(a->rows, ROWS), embed_rows, &j);
}

#define GATE_ITEMS 4096

struct gate_job {
	const struct fr_cpu *cpu;
	const struct fr_gate *a;
	size_t items;
};

static void gate_items(void *arg, int i, int worker)
{
	const struct gate_job *j = arg;
	size_t at = (size_t)i * GATE_ITEMS, left = j->items - at;

	(void)worker;
	j->cpu->u.glu(left < GATE_ITEMS ? (int)left : GATE_ITEMS, j->a->gate + at, j->a->up + at, j->a->y + at);
}

void fr_cpu_gate(struct fr_dev *dev, const struct fr_gate *a)
{
	struct fr_cpu *cpu = (struct fr_cpu *)dev;
	struct gate_job j = {cpu, a, (size_t)a->rows * (size_t)a->cols};

	fr_pool_run(cpu->pool, (int)((j.items + GATE_ITEMS - 1) / GATE_ITEMS), gate_items, &j);
}
