/* Products as the CUDA instance hands them to its kernels: a chain gives the bits of its products one by one, whatever
 * their types and widths and wherever their weights live, and a GLU may have two types.
 *
 * The device is the host shim, which runs everything as late as it may (FR_SHIM_LAZY). */
#include "../kernels/math.h"
#include "../kernels/ops.h"
#include "test.h"

enum { ROWS = 19, COLS = 70, MATS = 6, MOST = 90 };

static uint64_t seed = 1;

static float random_float(void)
{
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return (float)((int32_t)(seed >> 40) - (1 << 23)) * 0x1p-23f;
}

static void must(int rc, const struct fr_error *err)
{
	if (rc == 0)
		return;
	test_fail("device", "%s", err->text);
	exit(1);
}

static const struct {
	enum fr_dtype dtype;
	int rows;
} shapes[MATS] = {{FR_BF16, 90}, {FR_BF16, 33}, {FR_F32, 40}, {FR_F16, 33}, {FR_BF16, 33}, {FR_F32, 33}};

struct set {
	struct fr_dev *dev;
	struct fr_mat w[MATS];
	char *data[MATS]; /* theirs on the host */
	float *x, *y[MATS];
};

static struct fr_mat matrix(struct fr_dev *dev, enum fr_dtype dtype, int rows, char **to)
{
	const size_t n = (size_t)rows * COLS, item = (size_t)fr_dtypes[dtype].bytes;
	char *data = *to = malloc(n * item);
	struct fr_mat m;
	struct fr_error err;

	for (size_t i = 0; i < n; i++) {
		const float v = random_float();
		const uint16_t h = dtype == FR_BF16 ? fr_f32_bf16(v) : fr_f32_f16(v);

		memcpy(data + i * item, dtype == FR_F32 ? (const void *)&v : (const void *)&h, item);
	}
	must(dev->ops->weight(dev,
			      &(struct fr_tensor){.name = "w",
						  .file = "test",
						  .dtype = dtype,
						  .ndim = 2,
						  .shape = {rows, COLS},
						  .data = data,
						  .bytes = n * item},
			      &m, &err),
	     &err);
	return m;
}

static struct set open_set(const char *backend, enum fr_home home)
{
	const struct fr_dev_opts opts = {
		.backend = backend, .isa = strcmp(backend, "cpu") == 0 ? "ref" : NULL, .no_cublas = 1};
	float x[ROWS * COLS];
	struct set s;
	struct fr_error err;
	void *p;

	must(fr_dev_open(&opts, &s.dev, &err), &err);
	if (s.dev->ops->home)
		s.dev->ops->home(s.dev, home);
	seed = 1;
	for (int i = 0; i < ROWS * COLS; i++)
		x[i] = random_float();
	must(s.dev->ops->alloc(s.dev, sizeof x, &p, &err), &err);
	s.x = p;
	s.dev->ops->put(s.dev, p, x, sizeof x);
	for (int i = 0; i < MATS; i++) {
		s.w[i] = matrix(s.dev, shapes[i].dtype, shapes[i].rows, &s.data[i]);
		must(s.dev->ops->alloc(s.dev, ROWS * MOST * sizeof(float), &p, &err), &err);
		s.y[i] = p;
	}
	return s;
}

static void close_set(struct set *s)
{
	s->dev->ops->close(s->dev);
	for (int i = 0; i < MATS; i++)
		free(s->data[i]);
}

static void fetch(struct set *s, int i, float *to)
{
	struct fr_error err;

	s->dev->ops->get(s->dev, to, s->y[i], ROWS * (size_t)shapes[i].rows * sizeof *to);
	must(s->dev->ops->sync(s->dev, &err), &err);
}

/* Products of the matrices `member` [n], as one chain or one by one. */
static void multiply(struct set *s, const int *member, int n, enum fr_phase phase, int chained)
{
	struct fr_linear a[MATS];

	for (int i = n; i-- > 0;)
		a[i] = (struct fr_linear){.x = s->x,
					  .w = s->w[member[i]],
					  .y = s->y[member[i]],
					  .rows = ROWS,
					  .phase = phase,
					  .also = chained && i + 1 < n ? &a[i + 1] : NULL};
	for (int i = 0; i < (chained ? 1 : n); i++)
		s->dev->ops->linear(s->dev, &a[i]);
}

static void test_chains(struct set *s, const char *where, struct set *single)
{
	static const int chains[][FR_MAX_ALSO] = {{0, 1, 4}, {0, 2, 1}, {2, 5, 3}, {3, 0, 2}, {5, 1, 3}};
	static float got[FR_MAX_ALSO][ROWS * MOST], want[ROWS * MOST];
	char name[64];

	for (int phase = 0; phase < 2; phase++) {
		int bad = 0;

		for (size_t c = 0; c < sizeof chains / sizeof *chains; c++) {
			/* twice without a wait: the second time the buffers of weights come round */
			multiply(s, chains[c], FR_MAX_ALSO, (enum fr_phase)phase, 1);
			multiply(s, chains[c], FR_MAX_ALSO, (enum fr_phase)phase, 1);
			for (int i = 0; i < FR_MAX_ALSO; i++)
				fetch(s, chains[c][i], got[i]);
			multiply(single, chains[c], FR_MAX_ALSO, (enum fr_phase)phase, 0);
			for (int i = 0; i < FR_MAX_ALSO; i++) {
				const int m = chains[c][i];

				fetch(single, m, want);
				bad += memcmp(got[i], want, ROWS * (size_t)shapes[m].rows * sizeof *want) != 0;
			}
		}
		snprintf(name, sizeof name, "exact/chain/%s_%s", where, phase == FR_DECODE ? "decode" : "prefill");
		CHECK(name, bad == 0, "%d products differ from those made one by one", bad);
	}
}

/* silu(gate x) * (up x), each by a product of its own type. */
static void test_glu(struct set *s, struct set *single, int gate, int up)
{
	static float got[ROWS * MOST], g[ROWS * MOST], u[ROWS * MOST];
	const int member[2] = {gate, up}, n = ROWS * shapes[gate].rows;
	char name[64];

	for (int phase = 0; phase < 2; phase++) {
		int bad = 0;

		s->dev->ops->glu(s->dev, &(struct fr_glu){.x = s->x,
							  .gate = s->w[gate],
							  .up = s->w[up],
							  .y = s->y[gate],
							  .rows = ROWS,
							  .phase = (enum fr_phase)phase});
		fetch(s, gate, got);
		multiply(single, member, 2, (enum fr_phase)phase, 0);
		fetch(single, gate, g);
		fetch(single, up, u);
		for (int i = 0; i < n; i++)
			bad += got[i] != fr_silu(g[i]) * u[i];
		snprintf(name, sizeof name, "exact/glu/%s_%s_%s", fr_dtypes[shapes[gate].dtype].name,
			 fr_dtypes[shapes[up].dtype].name, phase == FR_DECODE ? "decode" : "prefill");
		CHECK(name, bad == 0, "%d of %d values differ", bad, n);
	}
}

/* The products themselves against the plain instance: the type of each is its own. */
static void test_types(struct set *s)
{
	static const int member[3] = {2, 0, 3};
	static const double bound[3] = {0, 0x1p-7, 0x1p-10}; /* of the sum of magnitudes, per product */
	static float got[ROWS * MOST], want[ROWS * MOST];
	struct set ref = open_set("cpu", FR_HOME_DEVICE);

	multiply(s, member, 3, FR_PREFILL, 1);
	multiply(&ref, member, 3, FR_PREFILL, 0);
	for (int i = 0; i < 3; i++) {
		char name[64];
		double worst = 0;

		fetch(s, member[i], got);
		fetch(&ref, member[i], want);
		for (int k = 0; k < ROWS * shapes[member[i]].rows; k++)
			worst = fmax(worst, fabs((double)got[k] - (double)want[k]) / COLS);
		snprintf(name, sizeof name, "bounded/types/%s", fr_dtypes[shapes[member[i]].dtype].name);
		CHECK(name, worst <= bound[i] && (i == 0 || worst > 0), "off by %g of %d terms, expected at most %g",
		      worst, COLS, bound[i]);
	}
	close_set(&ref);
}

int main(void)
{
	struct set device, host;

	setenv("FR_SHIM_LAZY", "1", 1);
	device = open_set("cuda", FR_HOME_DEVICE);
	host = open_set("cuda", FR_HOME_HOST);
	test_chains(&device, "device", &device);
	test_chains(&host, "host", &device);
	test_glu(&device, &device, 1, 4);
	test_glu(&device, &device, 1, 3);
	test_glu(&device, &device, 5, 4);
	test_glu(&host, &device, 3, 5);
	test_types(&device);
	close_set(&device);
	close_set(&host);
	return test_done();
}
