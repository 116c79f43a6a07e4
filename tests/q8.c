/* q8_0 weights: how x is quantised at the ends of float32, on every level; products where only some of the weights are
 * q8_0; and who refuses the type. */
#include "test.h"
#include "../kernels/host.h"
#include "../kernels/q8.h"
#include "../weights/weights.h"

#include <float.h>

#define BLOCKS 3
#define K (BLOCKS * FR_Q8_ITEMS)
#define OUTS 37
#define ROWS 24

static const char *const levels[] = {"ref", "cpu-ref", "avx2", "avx512", "avx512bf16", "amx"};
#define LEVELS (sizeof levels / sizeof *levels)

static uint8_t weights[OUTS][BLOCKS][FR_Q8_BYTES];
static uint16_t halves[OUTS][K]; /* bf16 */
static float x[ROWS][K];

static struct fr_tensor matrix(enum fr_dtype dtype, const void *data, int64_t cols)
{
	return (struct fr_tensor){.name = "w",
				  .file = "f",
				  .dtype = dtype,
				  .ndim = 2,
				  .shape = {OUTS, cols},
				  .data = data,
				  .bytes = fr_dtype_bytes(dtype, (size_t)(OUTS * cols))};
}

/* Scales of every kind, and the int8 that make the largest sums. */
static void make_weights(void)
{
	static const uint16_t scales[] = {0x3c00, 0x0001, 0xbc00, 0x7bff, 0x0000, 0x8400, 0x2e66};

	for (int n = 0; n < OUTS; n++)
		for (int b = 0; b < BLOCKS; b++) {
			memcpy(weights[n][b], &scales[(n + b) % 7], 2);
			for (int i = 0; i < FR_Q8_ITEMS; i++)
				weights[n][b][2 + i] = (uint8_t)(n % 4 == 0   ? 0x80
								 : n % 4 == 1 ? 0x7f
									      : n * 31 + i * 7 + b);
		}
	for (int n = 0; n < OUTS; n++)
		for (int i = 0; i < K; i++)
			halves[n][i] = fr_f32_bf16((float)((n * 37 + i * 11) % 64 - 32) / 64);
}

/* Rows that end in a value v, the others being v times -1, 1, the halves between two q, or small. */
static void make_x(void)
{
	static const float ends[ROWS] = {
		1,	  0,	      -0.0f,	  FLT_MAX, -FLT_MAX,	  FLT_MIN, 0x1p-149f, 0x1p-126f,
		1.5e-36f, 1.494e-36f, 1.492e-36f, 127,	   -254,	  0.1f,	   3,	      1e-30f,
		1e30f,	  127.00001f, 126.99999f, 12.7f,   0x1.fffffep0f, 1e-40f,  2,	      -1};

	for (int r = 0; r < ROWS; r++)
		for (int i = 0; i < K; i++) {
			float share = r % 4 == 0   ? (i % 2 ? 1.0f : -1.0f)
				      : r % 4 == 1 ? ((float)(i % 32) + 0.5f) / 127
				      : r % 4 == 2 ? 1.0f
						   : (float)(i % 61) / 61;

			x[r][i] = i % FR_Q8_ITEMS == 31 ? ends[r] : ends[r] * share;
		}
}

/* What one block must be: |x - d q| is at most half of d and what rounding adds, and no q lies beyond 127. */
static void test_quantise(void)
{
	int wrong = 0;

	for (int r = 0; r < ROWS; r++)
		for (int b = 0; b < BLOCKS; b++) {
			struct fr_q8_x q = fr_q8_quantise(x[r] + b * FR_Q8_ITEMS);

			for (int i = 0; i < FR_Q8_ITEMS; i++) {
				double v = (double)x[r][b * FR_Q8_ITEMS + i], off = fabs(v - (double)q.d * q.q[i]);

				wrong += q.d != 0 ? off > 0.50005 * (double)q.d || q.q[i] < -127
						  : fabs(v) > 127.001 * 0x1p-126 || q.q[i] != 0;
			}
			wrong += q.d != 0 && (q.d < 0x1p-126f || !isfinite(q.d));
		}
	CHECK("exact/q8/quantised", wrong == 0, "%d items are off", wrong);
	for (int i = 0; i < 3; i++) {
		float v[FR_Q8_ITEMS] = {1};
		struct fr_q8_x q;

		v[20] = i == 0 ? NAN : i == 1 ? INFINITY : -INFINITY;
		q = fr_q8_quantise(v);
		CHECK("exact/q8/quantised/not finite", isnan(q.d) && q.q[0] == 0, "scale %g", (double)q.d);
	}
}

static void test_widen(void)
{
	float wide[K];
	int wrong = 0;

	for (int n = 0; n < OUTS; n++) {
		fr_to_f32(FR_Q8_0, weights[n], wide, K);
		for (int i = 0; i < K; i++) {
			uint16_t d;

			memcpy(&d, weights[n][i / 32], 2);
			wrong += (double)wide[i] != (double)fr_f16_f32(d) * (int8_t)weights[n][i / 32][2 + i % 32];
		}
	}
	CHECK("exact/q8/widened", wrong == 0, "%d items differ", wrong);
}

/* ---- products ---- */

static struct fr_dev *open_level(const char *level)
{
	struct fr_dev_opts opts = {.backend = "cpu", .isa = level, .threads = 2};
	struct fr_dev *dev;
	struct fr_error err;
	char name[64];

	if (fr_dev_open(&opts, &dev, &err) == 0)
		return dev;
	snprintf(name, sizeof name, "exact/q8/%s", level);
	test_skip(name, err.text);
	return NULL;
}

static struct fr_mat bind(struct fr_dev *dev, enum fr_dtype dtype)
{
	struct fr_tensor t = matrix(dtype, dtype == FR_Q8_0 ? (void *)weights : (void *)halves, K);
	struct fr_error err;
	struct fr_mat m;

	if (dev->ops->weight(dev, &t, &m, &err) != 0) {
		test_fail("exact/q8/weight", "%s", err.text);
		exit(1);
	}
	return m;
}

static int differing(const float *a, const float *b, int n)
{
	int wrong = 0;

	for (int i = 0; i < n; i++)
		wrong += fr_f32_bits(a[i]) != fr_f32_bits(b[i]) && !(isnan(a[i]) && isnan(b[i]));
	return wrong;
}

static void test_ends(struct fr_dev *dev, const char *level, enum fr_phase phase)
{
	float y[ROWS * OUTS], want[ROWS * OUTS];
	int wrong = 0;
	char name[64];

	for (int r = 0; r < ROWS; r++)
		for (int n = 0; n < OUTS; n++)
			want[r * OUTS + n] = fr_q8_dot(x[r], weights[n], K);
	for (int rows = 1; rows <= ROWS; rows++) {
		memset(y, 0xff, sizeof y);
		dev->ops->linear(
			dev,
			&(struct fr_linear){.x = x[0], .w = bind(dev, FR_Q8_0), .y = y, .rows = rows, .phase = phase});
		wrong += differing(y, want, rows * OUTS);
	}
	snprintf(name, sizeof name, "exact/q8/%s/ends/%s", level, phase == FR_DECODE ? "decode" : "prefill");
	CHECK(name, wrong == 0, "%d sums differ", wrong);
}

/* A chain and gated products where bf16 and q8_0 take turns: each has the bits that it has alone. */
static void test_mixed(struct fr_dev *dev, const char *level, enum fr_phase phase)
{
	const struct fr_mat w[2] = {bind(dev, FR_BF16), bind(dev, FR_Q8_0)};
	float alone[2][ROWS * OUTS], y[FR_MAX_ALSO][ROWS * OUTS], want[ROWS * OUTS];
	struct fr_linear a = {.x = x[0], .rows = ROWS, .phase = phase}, chain[FR_MAX_ALSO];
	char name[64];
	int wrong = 0;

	for (int i = 0; i < 2; i++) {
		a.w = w[i];
		a.y = alone[i];
		dev->ops->linear(dev, &a);
	}
	for (int first = 0; first < 2; first++) {
		for (int i = 0; i < FR_MAX_ALSO; i++) {
			chain[i] = a;
			chain[i].w = w[(first + i) % 2];
			chain[i].y = y[i];
			chain[i].also = i + 1 < FR_MAX_ALSO ? &chain[i + 1] : NULL;
		}
		dev->ops->linear(dev, chain);
		for (int i = 0; i < FR_MAX_ALSO; i++)
			wrong += differing(y[i], alone[(first + i) % 2], ROWS * OUTS);
		dev->ops->glu(dev, &(struct fr_glu){.x = x[0],
						    .gate = w[first],
						    .up = w[1 - first],
						    .y = y[0],
						    .rows = ROWS,
						    .phase = phase});
		dev->ops->gate(dev, &(struct fr_gate){.gate = alone[first],
						      .up = alone[1 - first],
						      .y = want,
						      .rows = ROWS,
						      .cols = OUTS,
						      .phase = phase});
		wrong += differing(y[0], want, ROWS * OUTS);
	}
	snprintf(name, sizeof name, "exact/q8/%s/mixed/%s", level, phase == FR_DECODE ? "decode" : "prefill");
	CHECK(name, wrong == 0, "%d values differ", wrong);
}

/* ---- who takes the type ---- */
static void test_refusals(void)
{
	static const struct fr_tensor table = {.name = "w", .dtype = FR_Q8_0, .ndim = 1, .shape = {32}};
	const struct fr_tensor odd = matrix(FR_Q8_0, weights, 48), row = {.name = "v",
									  .file = "f",
									  .dtype = FR_Q8_0,
									  .ndim = 1,
									  .shape = {32},
									  .data = weights,
									  .bytes = FR_Q8_BYTES};
	struct fr_st_writer *w;
	struct fr_tensor holes = matrix(FR_Q8_0, weights, K);
	struct fr_error err;
	struct fr_mat m;
	size_t at = 0, items;

	CHECK("exact/q8/refused/width", fr_mat_of(&odd, &m, &err) == -1 && strstr(err.text, "multiple of 32"), "%s",
	      err.text);
	CHECK("exact/q8/refused/vector", fr_vec_of(&row, &items, &err) == -1 && strstr(err.text, "is q8_0"), "%s",
	      err.text);
	CHECK("exact/q8/refused/safetensors",
	      fr_st_create("never.safetensors", &table, 1, NULL, &w, &err) == -1 && strstr(err.text, "is q8_0"), "%s",
	      err.text);
	CHECK("exact/q8/finite", !fr_tensor_nonfinite(&holes, &at), "item %zu", at);
	memcpy(weights[5][1], "\0\x7c", 2);
	CHECK("exact/q8/not finite", fr_tensor_nonfinite(&holes, &at) && at == 5 * K + FR_Q8_ITEMS, "item %zu", at);
}

int main(void)
{
	make_weights();
	make_x();
	test_quantise();
	test_widen();
	for (size_t l = 0; l < LEVELS; l++) {
		struct fr_dev *dev = open_level(levels[l]);

		for (int phase = FR_PREFILL; dev && phase <= FR_DECODE; phase++) {
			test_ends(dev, levels[l], (enum fr_phase)phase);
			test_mixed(dev, levels[l], (enum fr_phase)phase);
		}
		if (dev)
			dev->ops->close(dev);
	}
	test_refusals();
	return test_done();
}
