/* Host half of map.cu: maps of attention and the bias that is made of one. No work memory: a map's own place holds its
 * scores before they are weights. */
#include "cuda.h"

#include <assert.h>

static int items_of(int items)
{
	return items < 1 ? 1 : items;
}

static size_t floats(int items, int heads, int rows, int cols)
{
	return (size_t)items_of(items) * (size_t)heads * (size_t)rows * (size_t)cols * sizeof(float);
}

void fr_cu_attn_map(struct fr_dev *dev, const struct fr_attn_map *a)
{
	struct fr_cuda *d = (struct fr_cuda *)dev;
	const int dim = a->head_dim;
	const struct fr_attn_map_args args = {.q = a->q,
					      .k = a->k,
					      .map = a->map,
					      .scale = a->scale,
					      .q_rows = a->q_rows,
					      .rows = a->rows,
					      .kv_rows = a->kv_rows,
					      .head_dim = dim,
					      .vector = ((uintptr_t)a->q | (uintptr_t)a->k) % 16 == 0};
	/* queries, and keys whose rows are four floats longer, so that 32 of them meet all banks alike */
	const size_t smem = sizeof(float) * FR_MAP_ROWS * (size_t)(dim + dim + 4);

	assert(dim > 0 && dim % 8 == 0 && dim <= 320 && a->rows <= a->q_rows);
	if (a->rows <= 0 || a->kv_rows <= 0)
		return;
	fr_cu_wrote(d, a->map, floats(a->items, a->heads, a->rows, a->kv_rows));
	FR_CU_RUN(d, fr_attn_map, (unsigned)a->heads, (unsigned)fr_ceil_div(a->rows, FR_MAP_ROWS),
		  (unsigned)items_of(a->items), FR_MAP_THREADS, smem, args);
}

void fr_cu_map_bias(struct fr_dev *dev, const struct fr_map_bias *a)
{
	struct fr_cuda *d = (struct fr_cuda *)dev;
	const int sixteen = a->heads == 16, pixels = a->n * a->n;
	const unsigned items = (unsigned)items_of(a->items);
	const size_t smem = sizeof(float) * ((size_t)a->mid * (size_t)(2 * a->heads + 1) + (size_t)a->heads);
	const struct fr_map_bias_args args = {.map = a->map,
					      .w1 = a->w1,
					      .b1 = a->b1,
					      .w2 = a->w2,
					      .b2 = a->b2,
					      .y = a->y,
					      .offset = a->offset,
					      .heads = a->heads,
					      .mid = a->mid,
					      .n = a->n};

	assert(a->heads <= FR_MAX_MAP_HEADS && a->mid <= FR_MAX_MAP_MID);
	if (pixels == 0)
		return;
	fr_cu_uploaded(d);
	fr_cu_wrote(d, a->y, floats(a->items, a->heads, a->n, a->n));
	if (sixteen)
		FR_CU_RUN(d, fr_map_bias_16, (unsigned)fr_ceil_div(pixels, FR_MAP_BIAS_PIXELS * FR_MAP_THREADS), items,
			  1, FR_MAP_THREADS, smem, args);
	else
		FR_CU_RUN(d, fr_map_bias_any, (unsigned)fr_ceil_div(pixels, FR_MAP_THREADS), items, 1, FR_MAP_THREADS,
			  smem, args);
}
