/* What a row of the kernel check cannot do without: operations and bytes. */
#include "bench.h"
#include "../kernels/check.h"

/* Keys that the rows attend to, added up. */
static double attended(const struct fr_check *ck)
{
	double sum = 0;

	if (ck->c.with & FR_DENSE)
		return (double)ck->c.m * ck->c.kv_len;
	for (int r = 0; r < ck->c.m; r++)
		sum += ck->row[r].pos + 1;
	return sum;
}

/* Floating-point operations, a fused multiply-add counted as two; only sums of products count. */
double fr_bench_operations(const struct fr_check *ck)
{
	const struct fr_check_case *c = &ck->c;
	double patches = c->patch ? (double)(c->image / c->patch) * (c->image / c->patch) : 0;
	double images = c->images ? c->images : 1, outs = 0;

	for (int i = 0; i <= c->also; i++)
		outs += fr_check_outs(c, i);

	switch (c->op) {
	case FR_CHECK_LINEAR:
		return 2.0 * c->m * outs * c->k;
	case FR_CHECK_GLU:
		return 4.0 * c->m * c->n * c->k;
	case FR_CHECK_PATCH:
		return 2.0 * images * patches * c->n * 3 * c->patch * c->patch;
	case FR_CHECK_ATTN:
		return 4.0 * images * attended(ck) * c->heads * c->head_dim;
	case FR_CHECK_ATTN_MAP:
		return 2.0 * images * c->m * c->kv_len * c->heads * c->head_dim;
	case FR_CHECK_MAP_BIAS:
		return 4.0 * images * c->n * c->n * c->heads * c->k;
	case FR_CHECK_NORM:
		return (c->with & FR_WITH_BIAS ? 5.0 : 4.0) * c->m * c->k;
	case FR_CHECK_ROPE:
		return 3.0 * c->m * (c->heads + c->kv_heads) * c->head_dim;
	default:
		return 0;
	}
}

/* Bytes that must move, each once: weights, arrays, and of the KV cache the positions in use. */
double fr_bench_bytes(const struct fr_check *ck)
{
	const struct fr_check_case *c = &ck->c;
	double sum = 0, per_pos = 2.0 * c->kv_heads * c->head_dim * fr_dtypes[c->dtype].bytes;

	for (int i = 0; i < FR_SLOTS; i++)
		if (i != FR_SLOT_CACHE_K && i != FR_SLOT_CACHE_V && i != FR_SLOT_COS && i != FR_SLOT_SIN)
			sum += (double)ck->slot[i].bytes * (c->op == FR_CHECK_ROPE && ck->slot[i].out ? 2 : 1);
	if (c->op == FR_CHECK_EMBED)
		return 2.0 * (double)ck->slot[FR_SLOT_Y].bytes; /* a row is read for each row that is written */
	for (int i = 0; i < FR_CHECK_MATS; i++)
		sum += (double)ck->w[i].bytes;
	if (c->op == FR_CHECK_ROPE)
		sum += per_pos * c->m + 4.0 * c->m * c->head_dim;
	else if (c->op == FR_CHECK_ATTN && !(c->with & FR_DENSE))
		for (int r = 0; r < c->m; r++)
			if (r + 1 == c->m || ck->row[r + 1].seq != ck->row[r].seq)
				sum += per_pos * (ck->row[r].pos + 1);
	return sum;
}
