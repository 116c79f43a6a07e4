/* The prefill products in every tile shape. The kernel check's rows are small, and gemm.c takes the smallest tile for
 * them; here shared memory and multiprocessors of the device are told to be fewer, so that each tile has its turn. Its
 * results are the bits of one chain of sums per output (on a card, where the chain inside of an instruction is not
 * known, those of the smallest tile), and each row's bits are those of the row alone. */
#include "../kernels/cuda/cuda.h"
#include "../kernels/math.h"
#include "cuda_test.h"
#include "test.h"

#define ROWS 121
#define MOST_N 250
#define MOST_K 136

static struct fr_dev *dev;
static struct fr_cuda *d;
static uint64_t seed = 1;

/* In each the larger tiles do not fit, and the smaller ones cost more for the shapes below. */
static const struct {
	const char *name;
	int smem;
} tiles[] = {{"s", 64 << 10}, {"t", 72 << 10}, {"m", 96 << 10}, {"l", 144 << 10}};

static const struct product {
	const char *name;
	enum fr_dtype dtype;
	int n, k, gated, precise;
	int bias, scale, residual, in_place;
	enum fr_act act;
} products[] = {
	{"bf16", FR_BF16, 250, 72, 0, 0, 0, 0, 0, 0, FR_ACT_NONE},
	{"f16_bias_gelu", FR_F16, 248, 136, 0, 0, 1, 0, 0, 0, FR_ACT_GELU},
	{"bf16_precise_scale_residual", FR_BF16, 249, 136, 0, 1, 1, 1, 1, 0, FR_ACT_QUICK_GELU},
	{"f16_precise_inplace", FR_F16, 250, 8, 0, 1, 0, 0, 1, 1, FR_ACT_NONE},
	{"bf16_gated", FR_BF16, 124, 136, 1, 0, 0, 0, 0, 0, FR_ACT_NONE},
	{"f16_precise_gated", FR_F16, 125, 72, 1, 1, 0, 0, 0, 0, FR_ACT_NONE},
};

struct data {
	float x[ROWS * MOST_K], bias[MOST_N], scale[MOST_N], residual[ROWS * MOST_N];
	uint16_t w[2][MOST_N * MOST_K];
};
static struct data host;
/* device */
static float *x, *bias, *scale, *residual, *y;
static uint16_t *w[2];

static float random_float(void)
{
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return (float)((int)(seed >> 40) - (1 << 23)) * 0x1p-22f;
}

static uint16_t narrow(enum fr_dtype t, float v)
{
	return t == FR_F16 ? fr_f32_f16(v) : fr_f32_bf16(v);
}
static float widen(enum fr_dtype t, uint16_t h)
{
	return t == FR_F16 ? fr_f16_f32(h) : fr_bf16_f32(h);
}

static void fill(const struct product *p)
{
	for (int i = 0; i < ROWS * p->k; i++)
		host.x[i] = random_float();
	for (int i = 0; i < p->n; i++)
		host.bias[i] = random_float(), host.scale[i] = random_float();
	for (int i = 0; i < ROWS * p->n; i++)
		host.residual[i] = random_float();
	for (int i = 0; i < 2 * p->n * p->k; i++)
		host.w[i % 2][i / 2] = narrow(p->dtype, random_float());
}

/* The chain that gemm.cu promises: blocks of 64, each with hi, then with lo. k is a multiple of 8, as its pitch. */
static float chain(const struct product *p, int row, const uint16_t *weights)
{
	float acc = 0;

	for (int k0 = 0; k0 < p->k; k0 += 64)
		for (int term = 0; term <= p->precise; term++)
			for (int k = k0; k < p->k && k < k0 + 64; k++) {
				float v = host.x[row * p->k + k];
				uint16_t t = narrow(p->dtype, v);

				if (term)
					t = narrow(p->dtype, v - widen(p->dtype, t));
				acc = fmaf(widen(p->dtype, t), widen(p->dtype, weights[k]), acc);
			}
	return acc;
}

static void expect(const struct product *p, float *out)
{
	for (int r = 0; r < ROWS; r++)
		for (int n = 0; n < p->n; n++) {
			float v = chain(p, r, host.w[0] + n * p->k);

			if (p->gated)
				v = fr_silu(v) * chain(p, r, host.w[1] + n * p->k);
			if (p->bias)
				v = v + host.bias[n];
			v = fr_act(p->act, v);
			if (p->scale)
				v = v * host.scale[n];
			if (p->residual)
				v = v + host.residual[r * p->n + n];
			out[r * p->n + n] = v;
		}
}

/* Rows `row`, ... of the product, `rows` of them, into out; -1: the device failed. */
static int run(const struct product *p, int row, int rows, float *out)
{
	const struct fr_mat first = {w[0], p->dtype, p->n, p->k}, second = {w[1], p->dtype, p->n, p->k};
	const size_t at = (size_t)row * (size_t)p->n, bytes = (size_t)rows * (size_t)p->n * sizeof *out;
	const float *from = x + (size_t)row * (size_t)p->k;
	struct fr_error err = {0};

	if (p->in_place)
		dev->ops->put(dev, y + at, host.residual + at, bytes);
	if (p->gated)
		dev->ops->glu(dev, &(struct fr_glu){from, first, second, y + at, rows, FR_PREFILL});
	else
		dev->ops->linear(dev,
				 &(struct fr_linear){.x = from,
						     .w = first,
						     .bias = p->bias ? bias : NULL,
						     .act = p->act,
						     .scale = p->scale ? scale : NULL,
						     .residual = p->residual ? (p->in_place ? y : residual) + at : NULL,
						     .y = y + at,
						     .rows = rows,
						     .phase = FR_PREFILL});
	dev->ops->get(dev, out, y + at, bytes);
	return dev->ops->sync(dev, &err);
}

static int differ(const float *a, const float *b, int n)
{
	int bad = 0;

	for (int i = 0; i < n; i++)
		bad += fr_f32_bits(a[i]) != fr_f32_bits(b[i]);
	return bad;
}

static void test_product(const struct product *p)
{
	static float want[ROWS * MOST_N], got[ROWS * MOST_N];
	char name[128], kernel[64];

	fill(p);
	dev->ops->put(dev, x, host.x, (size_t)(ROWS * p->k) * sizeof *x);
	dev->ops->put(dev, bias, host.bias, (size_t)p->n * sizeof *bias);
	dev->ops->put(dev, scale, host.scale, (size_t)p->n * sizeof *scale);
	dev->ops->put(dev, residual, host.residual, (size_t)(ROWS * p->n) * sizeof *residual);
	for (int i = 0; i < 2; i++)
		dev->ops->put(dev, w[i], host.w[i], (size_t)(p->n * p->k) * sizeof *w[i]);
	d->precise = p->precise;
	expect(p, want);
	for (size_t t = 0; t < sizeof tiles / sizeof *tiles; t++) {
		int rc, bad, alone = 0;

		d->info.smem_block = tiles[t].smem;
		d->info.sms = 1;
		rc = run(p, 0, ROWS, got);
		snprintf(kernel, sizeof kernel, "fr_gemm_%s%s_%s", tiles[t].name, p->gated ? "_glu" : "",
			 p->dtype == FR_F16 ? "f16" : "bf16");
		if (on_device() && t == 0)
			memcpy(want, got, sizeof want);
		bad = differ(want, got, ROWS * p->n);
		snprintf(name, sizeof name, "exact/cuda-gemm/%s/%s", p->name, tiles[t].name);
		CHECK(name, !rc && !bad && strcmp(fr_cu_kernel_names[d->last], kernel) == 0,
		      "%d of %d values differ, error %d, kernel %s", bad, ROWS * p->n, rc, fr_cu_kernel_names[d->last]);
		for (int r = 0; r < ROWS; r += 40)
			alone +=
				run(p, r, 1, got + r * p->n) != 0 || differ(want + r * p->n, got + r * p->n, p->n) != 0;
		snprintf(name, sizeof name, "exact/cuda-gemm/%s/%s/alone", p->name, tiles[t].name);
		CHECK(name, !alone, "%d rows differ from the same among %d", alone, ROWS);
	}
}

/* q, k, v in one launch of several tiles of rows and columns: the order of blocks. */
static void test_order(void)
{
	enum { LONG = 1100, K = 8, N = 70 };
	static float in[LONG * K], got[3][LONG * N], want[3][LONG * N];
	struct fr_linear chained[3], one;
	struct fr_error err = {0};
	uint16_t *weights[3];
	float *long_x, *out[3];
	int bad = 0, rc;
	unsigned launches;

	d->info.smem_block = 64 << 10;
	d->precise = 0;
	for (int i = 0; i < LONG * K; i++)
		in[i] = random_float();
	rc = dev->ops->alloc(dev, sizeof in, (void **)&long_x, &err);
	dev->ops->put(dev, long_x, in, sizeof in);
	for (int i = 0; i < 3; i++) {
		rc |= dev->ops->alloc(dev, sizeof got[i], (void **)&out[i], &err);
		rc |= dev->ops->alloc(dev, N * K * sizeof(uint16_t), (void **)&weights[i], &err);
		for (int j = 0; j < N * K; j++)
			host.w[0][j] = narrow(FR_BF16, random_float());
		dev->ops->put(dev, weights[i], host.w[0], N * K * sizeof(uint16_t));
		chained[i] = (struct fr_linear){.x = long_x,
						.w = {weights[i], FR_BF16, N - 9 * i, K},
						.y = out[i],
						.rows = LONG,
						.phase = FR_PREFILL,
						.also = i < 2 ? &chained[i + 1] : NULL};
	}
	for (int i = 0; i < 3; i++) {
		one = chained[i];
		one.also = NULL;
		one.rows = 1;
		for (int r = 0; r < LONG; r++) {
			one.x = long_x + r * K;
			one.y = out[i] + r * one.w.rows;
			if (r % 61 == 0)
				dev->ops->linear(dev, &one);
		}
		dev->ops->get(dev, want[i], out[i], sizeof want[i]);
		rc |= dev->ops->sync(dev, &err);
		memset(got[i], 0xff, sizeof got[i]);
		dev->ops->put(dev, out[i], got[i], sizeof got[i]);
	}
	launches = d->launches;
	dev->ops->linear(dev, chained);
	launches = d->launches - launches;
	for (int i = 0; i < 3; i++)
		dev->ops->get(dev, got[i], out[i], sizeof got[i]);
	rc |= dev->ops->sync(dev, &err);
	for (int i = 0; i < 3; i++) {
		int n = chained[i].w.rows;

		for (int j = 0; j < LONG * n; j++)
			bad += isnan(got[i][j]) != 0;
		for (int r = 0; r < LONG; r += 61)
			bad += differ(want[i] + r * n, got[i] + r * n, n);
	}
	CHECK("exact/cuda-gemm/chain", !rc && !bad && launches == 2,
	      "%d values differ or are missing, error %d, %u launches", bad, rc, launches);
}

int main(void)
{
	struct fr_dev_opts opts = {.backend = "cuda", .no_cublas = 1};
	struct fr_error err = {0};
	int rc;

	choose_device();
	if (fr_cuda_open(&opts, &dev, &err)) {
		test_fail("exact/cuda-gemm/open", "%s", err.text);
		return test_done();
	}
	d = (struct fr_cuda *)dev;
	rc = dev->ops->alloc(dev, sizeof host.x, (void **)&x, &err);
	rc |= dev->ops->alloc(dev, sizeof host.bias, (void **)&bias, &err);
	rc |= dev->ops->alloc(dev, sizeof host.scale, (void **)&scale, &err);
	rc |= dev->ops->alloc(dev, sizeof host.residual, (void **)&residual, &err);
	rc |= dev->ops->alloc(dev, sizeof host.residual, (void **)&y, &err);
	rc |= dev->ops->alloc(dev, sizeof host.w[0], (void **)&w[0], &err);
	rc |= dev->ops->alloc(dev, sizeof host.w[1], (void **)&w[1], &err);
	CHECK("exact/cuda-gemm/open", rc == 0, "%s", err.text);
	if (rc)
		return test_done();
	for (size_t i = 0; i < sizeof products / sizeof *products; i++)
		test_product(&products[i]);
	test_order();
	dev->ops->close(dev);
	return test_done();
}
