/* A LoRA adapter on the CUDA instance: the products of an MLP in the order in which the decoder asks for them, y = W x,
 * t = A x, y += s B t, then the gate and the way down the same, on operands of one type and of several.
 *
 * exact/    No packed form of an input goes stale when B adds to y in place, and what the gate leaves for the product
 *           behind it is its result: the bits are those of the same operations on inputs that were just copied.
 *           A row's bits are the same among others and alone. With float32 throughout they are ref's.
 * bounded/  Otherwise no farther from ref with the device's roundings than twice what those move ref itself, and what
 * sums in another order do. */
#include "cuda_arrays.h"
#include "cuda_test.h"

#include <math.h>
#include <string.h>

enum { ROWS = 19, DIM = 72, FFN = 100, RANK = 16 }; /* FFN: packed rows have a margin */

struct lora {
	struct fr_mat w, a, b;
	const float *scale;
};
struct mlp {
	struct fr_dev *dev;
	struct lora gate, up, down;
	int fresh; /* every input is copied before it is read */
	void *data[9];
	int n;
	uint64_t seed; /* of the weights */
};

static uint64_t next(uint64_t *seed)
{
	return (*seed = *seed * 6364136223846793005u + 1442695040888963407u) >> 33;
}

static struct fr_mat matrix(struct mlp *m, enum fr_dtype dtype, int rows, int cols)
{
	const size_t n = (size_t)rows * (size_t)cols, item = (size_t)fr_dtypes[dtype].bytes;
	char *data = m->data[m->n++] = malloc(n * item);
	const struct fr_tensor t = {.name = "w",
				    .file = "test",
				    .dtype = dtype,
				    .ndim = 2,
				    .shape = {rows, cols},
				    .data = data,
				    .bytes = n * item};
	struct fr_mat mat;
	struct fr_error err;

	for (size_t i = 0; i < n; i++) {
		const float v = (float)(next(&m->seed) % 2001) / 1000 - 1, w = v / sqrtf((float)cols);
		const uint16_t h = dtype == FR_BF16 ? fr_f32_bf16(w) : fr_f32_f16(w);

		memcpy(data + i * item, dtype == FR_F32 ? (const void *)&w : (const void *)&h, item);
	}
	must(m->dev->ops->weight(m->dev, &t, &mat, &err), &err);
	return mat;
}

static struct lora adapted(struct mlp *m, enum fr_dtype base, enum fr_dtype adapter, int rows, int cols)
{
	struct lora l = {.w = matrix(m, base, rows, cols),
			 .a = matrix(m, adapter, RANK, cols),
			 .b = matrix(m, adapter, rows, RANK)};
	float *scale = malloc((size_t)rows * sizeof *scale);

	for (int i = 0; i < rows; i++)
		scale[i] = 2;
	l.scale = upload(m->dev, scale, (size_t)rows * sizeof *scale);
	free(scale);
	return l;
}

static void make_mlp(struct mlp *m, struct fr_dev *dev, enum fr_dtype base, enum fr_dtype adapter)
{
	*m = (struct mlp){.dev = dev};
	m->gate = adapted(m, base, adapter, FFN, DIM);
	m->up = adapted(m, base, adapter, FFN, DIM);
	m->down = adapted(m, base, adapter, DIM, FFN);
}

static void free_mlp(struct mlp *m)
{
	for (int i = 0; i < m->n; i++)
		free(m->data[i]);
}

static float *zeros(struct mlp *m, int rows, int cols)
{
	return upload(m->dev, NULL, (size_t)rows * (size_t)cols * sizeof(float));
}

static const float *input(struct mlp *m, const float *x, int rows, int cols)
{
	float *copy;

	if (!m->fresh)
		return x;
	copy = zeros(m, rows, cols);
	m->dev->ops->copy(m->dev, copy, x, (size_t)rows * (size_t)cols * sizeof *copy);
	return copy;
}

/* y [rows, outs] = the adapted product of x, plus y itself where `add` says so. */
static void product(struct mlp *m, const struct lora *l, const float *x, float *y, int rows, int add,
		    enum fr_phase phase)
{
	float *t = zeros(m, rows, RANK);
	struct fr_linear a = {.x = input(m, x, rows, l->w.cols),
			      .w = l->w,
			      .residual = add ? y : NULL,
			      .y = y,
			      .rows = rows,
			      .phase = phase};

	m->dev->ops->linear(m->dev, &a);
	a = (struct fr_linear){.x = input(m, x, rows, l->w.cols), .w = l->a, .y = t, .rows = rows, .phase = phase};
	m->dev->ops->linear(m->dev, &a);
	a = (struct fr_linear){.x = input(m, t, rows, RANK),
			       .w = l->b,
			       .scale = l->scale,
			       .residual = y,
			       .y = y,
			       .rows = rows,
			       .phase = phase};
	m->dev->ops->linear(m->dev, &a);
}

/* Two times x += MLP(x), so that what the second reads was written in place: [rows, DIM] on the host. */
static float *run(struct mlp *m, const float *host, int rows, enum fr_phase phase, int fresh)
{
	float *x = upload(m->dev, host, (size_t)rows * DIM * sizeof *host);
	float *gate = zeros(m, rows, FFN), *up = zeros(m, rows, FFN);

	m->fresh = fresh;
	for (int i = 0; i < 2; i++) {
		product(m, &m->gate, x, gate, rows, 0, phase);
		product(m, &m->up, x, up, rows, 0, phase);
		m->dev->ops->gate(
			m->dev,
			&(struct fr_gate){
				.gate = gate, .up = up, .y = i ? up : gate, .rows = rows, .cols = FFN, .phase = phase});
		product(m, &m->down, i ? up : gate, x, rows, 1, phase);
	}
	return fetch(m->dev, x, (size_t)rows * DIM);
}

/* A gate written over what a product has just read, several times: the forms of its values take turns. */
static void check_stale(struct mlp *m, const char *name, enum fr_phase phase)
{
	float *g = random_array(m->dev, ROWS * FFN, 2), *u = random_array(m->dev, ROWS * FFN, 2);
	float *y[2] = {zeros(m, ROWS, DIM), zeros(m, ROWS, DIM)};
	struct fr_linear a = {.w = m->down.w, .rows = ROWS, .phase = phase};
	char label[96];
	size_t bad = 0;

	for (int i = 0; i < 3; i++) {
		for (m->fresh = 0; m->fresh < 2; m->fresh++) {
			a.x = input(m, g, ROWS, FFN);
			a.y = y[m->fresh];
			m->dev->ops->linear(m->dev, &a);
		}
		bad += differing(fetch(m->dev, y[0], ROWS * DIM), fetch(m->dev, y[1], ROWS * DIM), ROWS * DIM);
		a.x = g; /* read again, so that its form is the last that was */
		a.y = y[0];
		m->dev->ops->linear(m->dev, &a);
		m->dev->ops->gate(
			m->dev,
			&(struct fr_gate){.gate = g, .up = u, .y = g, .rows = ROWS, .cols = FFN, .phase = phase});
	}
	snprintf(label, sizeof label, "exact/cuda/lora/%s/stale", name);
	CHECK(label, bad == 0, "%zu outputs are of values that were there before", bad);
}

static size_t rows_apart(struct mlp *m, const float *x, float *together, enum fr_phase phase)
{
	size_t bad = 0;

	for (int r = 0; r < ROWS; r += r < 4 ? 1 : 5) {
		float *alone = run(m, x + (size_t)r * DIM, 1, phase, 0);

		for (int i = 0; i < DIM; i++)
			bad += fr_f32_bits(alone[i]) != fr_f32_bits(together[r * DIM + i]);
		free(alone);
	}
	return bad;
}

/* Of x to y, in units of y's size. */
static double distance(const float *x, const float *y)
{
	double off = 0, size = 0;

	for (int i = 0; i < ROWS * DIM; i++) {
		off += ((double)x[i] - (double)y[i]) * ((double)x[i] - (double)y[i]);
		size += (double)y[i] * (double)y[i];
	}
	return sqrt(off / size);
}

/* The same on a plain instance; roundings NULL: as it is. */
static float *run_ref(const char *roundings, const float *x, enum fr_dtype base, enum fr_dtype adapter,
		      enum fr_phase phase)
{
	const struct fr_dev_opts opts = {.backend = "cpu", .isa = "ref", .roundings = roundings};
	struct fr_dev *dev;
	struct mlp m;
	struct fr_error err;
	float *y;

	must(fr_ref_open(&opts, &dev, &err), &err);
	make_mlp(&m, dev, base, adapter);
	y = run(&m, x, ROWS, phase, 0);
	dev->ops->close(dev);
	free_mlp(&m);
	return y;
}

static void check_ref(const char *name, const float *x, const float *got, enum fr_dtype base, enum fr_dtype adapter,
		      enum fr_phase phase, int precise)
{
	float *rounded = run_ref(precise ? "cuda-precise" : "cuda", x, base, adapter, phase);
	float *plain = run_ref(NULL, x, base, adapter, phase);
	const double off = distance(got, rounded), own = distance(rounded, plain);
	char label[96];

	if (base == FR_F32 && adapter == FR_F32) {
		snprintf(label, sizeof label, "exact/cuda/lora/%s/ref", name);
		CHECK(label, off == 0, "%.3g from ref's", off);
	} else {
		/* matrix units add in an order of their own: a walk of at most 59 u a product (kernel_bounds.h, two
		 * terms of 104), eight of them one behind the other */
		snprintf(label, sizeof label, "bounded/cuda/lora/%s/ref", name);
		CHECK(label, own > 0 && off <= 2 * own + 59 * sqrt(8) * 0x1p-24,
		      "%.3g from ref with the roundings, which are %.3g from ref", off, own);
		printf("# %s: %.3g from ref with the roundings, %.3g from there to ref\n", label, off, own);
	}
	free(rounded);
	free(plain);
}

static void check(enum fr_dtype base, enum fr_dtype adapter, enum fr_phase phase, int precise)
{
	struct fr_dev *dev = open_cuda(precise);
	float x[ROWS * DIM], *got;
	char name[64], label[96];
	struct mlp m;
	size_t bad;

	for (int i = 0; i < ROWS * DIM; i++)
		x[i] = random_float();
	snprintf(name, sizeof name, "%s_%s_%s%s", fr_dtypes[base].name, fr_dtypes[adapter].name,
		 phase == FR_DECODE ? "decode" : "prefill", precise ? "_precise" : "");
	make_mlp(&m, dev, base, adapter);
	got = run(&m, x, ROWS, phase, 0);
	bad = differing(run(&m, x, ROWS, phase, 1), run(&m, x, ROWS, phase, 0), ROWS * DIM);
	snprintf(label, sizeof label, "exact/cuda/lora/%s/fresh", name);
	CHECK(label, bad == 0, "%zu of %d values differ where every input is copied first", bad, ROWS * DIM);
	bad = rows_apart(&m, x, got, phase);
	snprintf(label, sizeof label, "exact/cuda/lora/%s/alone", name);
	CHECK(label, bad == 0, "%zu values of rows alone differ from those among %d", bad, ROWS);
	check_stale(&m, name, phase);
	check_ref(name, x, got, base, adapter, phase, precise);
	free(got);
	dev->ops->close(dev);
	free_mlp(&m);
}

int main(void)
{
	static const enum fr_dtype types[][2] = {
		{FR_BF16, FR_BF16}, {FR_F16, FR_F16}, {FR_BF16, FR_F32}, {FR_F16, FR_BF16}, {FR_F32, FR_F32}};

	setenv("FR_SHIM_LAZY", "1", 1);
	choose_device();
	for (size_t i = 0; i < sizeof types / sizeof *types; i++)
		for (int phase = FR_PREFILL; phase <= FR_DECODE; phase++)
			check(types[i][0], types[i][1], (enum fr_phase)phase, 0);
	check(FR_BF16, FR_BF16, FR_PREFILL, 1);
	return test_done();
}
