/* Attention of decode steps: one row each of many sequences over the KV cache, in chunks of 256 keys, as the contract
 * in ops.h orders it. A job is one row and some of its KV heads, each with its group of query heads; keys and values
 * are used where they lie.
 *
 * Keys and values of a chunk are 64 KiB each at heads of 128 in float16. While one such block is computed with, the
 * next is fetched into L2, in even shares: keys, their values, the next keys, and so on from head to head. */
#include "cpu.h"

#include <math.h>

#define CHUNK FR_ATTN_CHUNK
#define LINE 64
#define JOBS 16 /* of a thread: enough to keep all even to the end */

struct decode {
	const struct fr_cpu *cpu;
	const struct fr_attn *a;
	int heads; /* KV heads of a job */
	int jobs;  /* of a row */
};

size_t fr_attn_decode_scratch(const struct fr_ukr *u)
{
	(void)u;
	return CHUNK;
}

/* A chunk of a KV head. */
struct block {
	const char *k, *v;
	int n;
};

static struct block block_of(const struct fr_attn *a, int r, int kv_head, int chunk)
{
	const struct fr_kv *kv = a->kv;
	const size_t hd = (size_t)kv->head_dim, bytes = (size_t)fr_dtypes[kv->dtype].bytes;
	const size_t at = (fr_kv_head(kv, a->layer, a->row[r].seq, kv_head) + (size_t)chunk * hd) * bytes;

	return (struct block){(const char *)kv->k + at, (const char *)kv->v + at,
			      fr_min(CHUNK, a->row[r].pos + 1 - chunk)};
}

static struct fr_ahead lines(const struct fr_kv *kv, const char *at, int n)
{
	size_t bytes = (size_t)n * (size_t)kv->head_dim * (size_t)fr_dtypes[kv->dtype].bytes;

	return (struct fr_ahead){at, (bytes + LINE - 1) / LINE};
}

/* One query head of row r on a block; m and l go on. after: what is fetched while the values are used. */
static void add_block(const struct decode *t, int r, int head, const struct block *b, struct fr_ahead values,
		      struct fr_ahead after, float *s, float *m, float *l)
{
	const struct fr_ukr *u = &t->cpu->u;
	const struct fr_attn *a = t->a;
	const int hd = a->head_dim;
	const size_t at = ((size_t)r * (size_t)a->heads + (size_t)head) * (size_t)hd;

	u->dots[a->kv->dtype](b->n, hd, a->q + at, b->k, (size_t)hd, values, s);
	u->scale(hd, a->y + at, u->softmax(b->n, s, a->scale, NULL, m, l));
	u->sum[a->kv->dtype](b->n, hd, s, b->v, (size_t)hd, after, a->y + at);
}

/* The query heads of KV head kv_head, GROUP at a time. last: no more KV heads follow in this job. */
#define GROUP 64
static void attend(const struct decode *t, int r, int kv_head, int first, int heads, int last, float *s)
{
	const struct fr_attn *a = t->a;
	const int keys = a->row[r].pos + 1;
	const size_t hd = (size_t)a->head_dim, at = ((size_t)r * (size_t)a->heads + (size_t)first) * hd;
	const struct fr_ahead nothing = {NULL, 0};
	float m[GROUP], l[GROUP] = {0};

	for (int h = 0; h < heads; h++)
		m[h] = -INFINITY;
	memset(a->y + at, 0, (size_t)heads * hd * sizeof(float));
	for (int chunk = 0; chunk < keys; chunk += CHUNK) {
		struct block b = block_of(a, r, kv_head, chunk);
		struct fr_ahead after = nothing;

		if (chunk + CHUNK < keys || !last) {
			struct block next = chunk + CHUNK < keys ? block_of(a, r, kv_head, chunk + CHUNK)
								 : block_of(a, r, kv_head + 1, 0);
			after = lines(a->kv, next.k, next.n);
		}
		for (int h = 0; h < heads; h++)
			add_block(t, r, first + h, &b, h == 0 ? lines(a->kv, b.v, b.n) : nothing,
				  h == heads - 1 ? after : nothing, s, &m[h], &l[h]);
	}
	for (int h = 0; h < heads; h++)
		t->cpu->u.divide((int)hd, a->y + at + (size_t)h * hd, l[h]);
}

/* Job i: row i / jobs, and some of its KV heads. */
static void run_job(void *arg, int i, int worker)
{
	const struct decode *t = arg;
	const int kv_heads = t->a->kv->kv_heads, group = t->a->heads / kv_heads;
	const int first = i % t->jobs * t->heads, end = fr_min(kv_heads, first + t->heads);
	float *s = fr_cpu_scratch(t->cpu, worker);

	for (int head = first; head < end; head++)
		for (int h = 0; h < group; h += GROUP)
			attend(t, i / t->jobs, head, head * group + h, fr_min(GROUP, group - h),
			       head == end - 1 || h + GROUP < group, s);
}

void fr_attn_decode(struct fr_cpu *cpu, const struct fr_attn *a)
{
	struct decode t = {.cpu = cpu, .a = a};

	t.heads = fr_max(1, a->rows * a->kv->kv_heads / (JOBS * fr_pool_threads(cpu->pool)));
	t.heads = fr_min(t.heads, a->kv->kv_heads);
	t.jobs = fr_ceil_div(a->kv->kv_heads, t.heads);
	fr_pool_run(cpu->pool, a->rows * t.jobs, run_job, &t);
}
