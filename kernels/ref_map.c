/* The plain instance: a softmax as a matrix of its own, what it adds to other attention, and the gate (ops.h). */
#include "ref.h"

#include <assert.h>
#include <math.h>

/* One row of one head's map. */
static void map_row(const struct fr_attn_map *a, const float *q, const float *k, size_t width, float *map)
{
	float m = -INFINITY, l;

	for (int j = 0; j < a->kv_rows; j++) {
		map[j] = fr_seq_dot(q, k + (size_t)j * width, a->head_dim) * a->scale;
		m = map[j] > m ? map[j] : m;
	}
	for (int j = 0; j < a->kv_rows; j++)
		map[j] = fr_exp(map[j] - m);
	l = fr_lane_sum(map, a->kv_rows);
	for (int j = 0; j < a->kv_rows; j++)
		map[j] = map[j] / l;
}

void fr_ref_attn_map(struct fr_dev *dev, const struct fr_attn_map *a)
{
	size_t width = (size_t)a->heads * (size_t)a->head_dim, keys = (size_t)a->kv_rows;
	float *map = a->map;

	(void)dev;
	assert(a->rows <= a->q_rows && a->head_dim % 8 == 0);
	for (int i = 0; i < (a->items ? a->items : 1); i++)
		for (int h = 0; h < a->heads; h++)
			for (int r = 0; r < a->rows; r++, map += keys) {
				size_t head = (size_t)h * (size_t)a->head_dim;
				size_t row = (size_t)i * (size_t)a->q_rows + (size_t)r;

				map_row(a, a->q + row * width + head, a->k + (size_t)i * keys * width + head, width,
					map);
			}
}

/* x [heads] to y [heads], `stride` floats apart. */
static void map_pixel(const struct fr_map_bias *a, const float *x, float *y, size_t stride)
{
	float t[FR_MAX_MAP_MID];

	for (int m = 0; m < a->mid; m++)
		t[m] = fr_gelu(fr_seq_dot(a->w1 + (size_t)m * (size_t)a->heads, x, a->heads) + a->b1[m]);
	for (int h = 0; h < a->heads; h++)
		y[(size_t)h * stride] = fr_seq_dot(a->w2 + (size_t)h * (size_t)a->mid, t, a->mid) + a->b2[h];
}

void fr_ref_map_bias(struct fr_dev *dev, const struct fr_map_bias *a)
{
	size_t n = (size_t)a->n, heads = (size_t)a->heads, side = 1 + n;
	float x[FR_MAX_MAP_HEADS];

	(void)dev;
	assert(a->heads <= FR_MAX_MAP_HEADS && a->mid <= FR_MAX_MAP_MID);
	for (int i = 0; i < (a->items ? a->items : 1); i++) {
		const float *map = a->map + (size_t)i * heads * side * side;
		float *y = a->y + (size_t)i * heads * n * n;

		for (size_t at = 0; at < n * n; at++) {
			for (size_t h = 0; h < heads; h++)
				x[h] = fr_log(map[(h * side + 1 + at / n) * side + 1 + at % n] + a->offset);
			map_pixel(a, x, y + at, n * n);
		}
	}
}

void fr_ref_gate(struct fr_dev *dev, const struct fr_gate *a)
{
	size_t n = (size_t)a->rows * (size_t)a->cols;

	(void)dev;
	for (size_t i = 0; i < n; i++)
		a->y[i] = fr_silu(a->gate[i]) * a->up[i];
}
