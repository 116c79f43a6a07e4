/* Maps of attention on the CUDA instance, beyond the rows of cuda_kernels.c: the class token's row alone is that row of
 * the whole map, a bias that is asked for right behind its map finds it complete, however late the launches run, and
 * what is not a number is seen. */
#include "cuda_arrays.h"
#include "cuda_test.h"

#include <math.h>

enum { ITEMS = 2, HEADS = 16, DIM = 24, N = 48, SIDE = 1 + N, MID = 3, WIDTH = HEADS * DIM };

static struct fr_attn_map map_of(struct fr_dev *dev, int rows)
{
	struct fr_attn_map a = {.q_rows = SIDE,
				.rows = rows,
				.items = ITEMS,
				.kv_rows = SIDE,
				.heads = HEADS,
				.head_dim = DIM,
				.scale = 0.2f};

	a.q = random_array(dev, (size_t)ITEMS * SIDE * WIDTH, 4);
	a.k = random_array(dev, (size_t)ITEMS * SIDE * WIDTH, 2);
	a.map = upload(dev, NULL, (size_t)ITEMS * HEADS * (size_t)rows * SIDE * sizeof(float));
	return a;
}

static void check_class_token(struct fr_dev *dev)
{
	struct fr_attn_map all = map_of(dev, SIDE), one = all;
	const size_t heads = ITEMS * HEADS;
	float *want, *got;
	size_t bad = 0;

	one.rows = 1;
	one.map = upload(dev, NULL, heads * SIDE * sizeof(float));
	dev->ops->attn_map(dev, &all);
	dev->ops->attn_map(dev, &one);
	want = fetch(dev, all.map, heads * SIDE * SIDE);
	got = fetch(dev, one.map, heads * SIDE);
	for (size_t i = 0; i < heads * SIDE; i++)
		bad += fr_f32_bits(got[i]) != fr_f32_bits(want[i / SIDE * SIDE * SIDE + i % SIDE]);
	CHECK("exact/cuda/map/class_token", bad == 0, "%zu of %zu values differ from the first row of the map", bad,
	      heads * SIDE);
	free(want);
	free(got);
}

/* Map and bias one behind the other, and the bias of that map brought back and given anew. */
static void check_chain(struct fr_dev *dev)
{
	struct fr_attn_map m = map_of(dev, SIDE);
	struct fr_map_bias b = {.map = m.map, .items = ITEMS, .heads = HEADS, .mid = MID, .n = N, .offset = 1e-6f};
	const size_t pixels = (size_t)ITEMS * HEADS * N * N, all = (size_t)ITEMS * HEADS * SIDE * SIDE;
	float *at_once, *map;
	size_t bad;

	b.w1 = random_array(dev, MID * HEADS, 1);
	b.b1 = random_array(dev, MID, 1);
	b.w2 = random_array(dev, HEADS * MID, 1);
	b.b2 = random_array(dev, HEADS, 1);
	b.y = upload(dev, NULL, pixels * sizeof(float));
	dev->ops->attn_map(dev, &m);
	dev->ops->map_bias(dev, &b);
	at_once = fetch(dev, b.y, pixels);
	map = fetch(dev, m.map, all);
	b.map = upload(dev, map, all * sizeof *map);
	free(map);
	dev->ops->map_bias(dev, &b);
	bad = differing(at_once, fetch(dev, b.y, pixels), pixels);
	CHECK("exact/cuda/map/chain", bad == 0, "%zu of %zu values of the bias differ from those of the finished map",
	      bad, pixels);
}

/* A query that is not a number spoils its own row of its own head, and the bias of that row's pixels in all heads. */
static void check_nan(struct fr_dev *dev)
{
	enum { BAD_ROW = 5, BAD_HEAD = 3 };
	struct fr_attn_map m = map_of(dev, SIDE);
	struct fr_map_bias b = {.map = m.map, .heads = HEADS, .mid = MID, .n = N, .offset = 1e-6f};
	const float nan = NAN;
	float *map, *bias;
	size_t bad = 0;

	b.w1 = random_array(dev, MID * HEADS, 1);
	b.b1 = random_array(dev, MID, 1);
	b.w2 = random_array(dev, HEADS * MID, 1);
	b.b2 = random_array(dev, HEADS, 1);
	b.y = upload(dev, NULL, (size_t)HEADS * N * N * sizeof(float));
	dev->ops->put(dev, (float *)m.q + BAD_ROW * WIDTH + BAD_HEAD * DIM + 7, &nan, sizeof nan);
	dev->ops->attn_map(dev, &m);
	dev->ops->map_bias(dev, &b);
	map = fetch(dev, m.map, (size_t)HEADS * SIDE * SIDE);
	bias = fetch(dev, b.y, (size_t)HEADS * N * N);
	for (size_t i = 0; i < (size_t)HEADS * SIDE * SIDE; i++)
		bad += !isnan(map[i]) != !(i / SIDE == BAD_HEAD * SIDE + BAD_ROW);
	for (size_t i = 0; i < (size_t)HEADS * N * N; i++)
		bad += !isnan(bias[i]) != !(i / N % N == BAD_ROW - 1);
	CHECK("exact/cuda/map/nan", bad == 0, "%zu values are numbers where there is none, or the other way", bad);
	free(map);
	free(bias);
}

int main(void)
{
	struct fr_dev *dev;

	setenv("FR_SHIM_LAZY", "1", 1);
	choose_device();
	dev = open_cuda(0);
	check_class_token(dev);
	check_chain(dev);
	check_nan(dev);
	dev->ops->close(dev);
	return test_done();
}
