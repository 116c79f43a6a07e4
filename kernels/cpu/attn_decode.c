/* Attention of decode steps: one row each of many sequences over the KV cache, in chunks of 256 keys, as the contract
 * in ops.h orders it. A job is one row and one KV head with its group of query heads; keys and values are used where
 * they lie. */
#include "cpu.h"

#include <math.h>

#define CHUNK FR_ATTN_CHUNK
#define HEADS FR_MAX_GEMV_ROWS /* query heads at a time */

struct decode {
	const struct fr_cpu *cpu;
	const struct fr_attn *a;
};

size_t fr_attn_decode_scratch(const struct fr_ukr *u)
{
	(void)u;
	return (size_t)HEADS * (FR_MAX_HEAD_DIM + CHUNK);
}

/* Up to HEADS query heads of row r from `head` on, of one KV head. q: scratch [heads, head_dim], s [heads, CHUNK]. */
static void attend(const struct decode *t, int r, int head, int heads, float *q, float *s)
{
	const struct fr_ukr *u = &t->cpu->u;
	const struct fr_attn *a = t->a;
	const struct fr_kv *kv = a->kv;
	const size_t hd = (size_t)a->head_dim, bytes = (size_t)fr_dtypes[kv->dtype].bytes;
	const size_t from = fr_kv_head(kv, a->layer, a->row[r].seq, head / (a->heads / kv->kv_heads));
	const size_t at = ((size_t)r * (size_t)a->heads + (size_t)head) * hd;
	const int keys = a->row[r].pos + 1;
	float m[HEADS], l[HEADS] = {0};

	for (int h = 0; h < heads; h++)
		m[h] = -INFINITY;
	u->gemv_pack[kv->dtype](heads, (int)hd, a->q + at, hd, q);
	memset(a->y + at, 0, (size_t)heads * hd * sizeof(float));
	for (int chunk = 0; chunk < keys; chunk += CHUNK) {
		int n = fr_min(CHUNK, keys - chunk);
		size_t first = (from + (size_t)chunk * hd) * bytes;

		u->gemv[kv->dtype](heads, n, (int)hd, q, (const char *)kv->k + first, hd, s, CHUNK);
		for (int h = 0; h < heads; h++) {
			float *p = s + (size_t)h * CHUNK, *o = a->y + at + (size_t)h * hd;

			u->scale((int)hd, o, u->softmax(n, p, a->scale, NULL, &m[h], &l[h]));
			u->axpy[kv->dtype](n, (int)hd, p, (const char *)kv->v + first, hd, o);
		}
	}
	for (int h = 0; h < heads; h++)
		u->divide((int)hd, a->y + at + (size_t)h * hd, l[h]);
}

/* Job i: row i / kv_heads, KV head i % kv_heads. */
static void run_job(void *arg, int i, int worker)
{
	const struct decode *t = arg;
	const int kv_heads = t->a->kv->kv_heads, group = t->a->heads / kv_heads;
	float *q = fr_cpu_scratch(t->cpu, worker), *s = q + (size_t)HEADS * FR_MAX_HEAD_DIM;

	for (int h = 0; h < group; h += HEADS)
		attend(t, i / kv_heads, i % kv_heads * group + h, fr_min(HEADS, group - h), q, s);
}

void fr_attn_decode(struct fr_cpu *cpu, const struct fr_attn *a)
{
	struct decode t = {cpu, a};

	fr_pool_run(cpu->pool, a->rows * a->kv->kv_heads, run_job, &t);
}
