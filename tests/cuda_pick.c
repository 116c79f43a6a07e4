/* The cuda instance's choice of a token against kernels/pick.c, id by id: every filter, on logits that are random,
 * tied, extreme, of both zeros or not finite. And kernels/pick.c's sums against a choice written out in long doubles.
 */
#include "../kernels/cuda/cuda.h"
#include "../kernels/pick.h"
#include "test.h"

#define ROWS 4

static uint64_t state = 3;

static uint64_t noise(void)
{
	state = state * 6364136223846793005u + 1442695040888963407u;
	return state >> 20;
}

static double uniform(void)
{
	return (double)noise() * 0x1p-44;
}

/* ---- rows of logits ---- */

static void spread(float *x, int n)
{
	for (int i = 0; i < n; i++)
		x[i] = (float)(16 * uniform() - 8);
}
static void tied(float *x, int n)
{
	for (int i = 0; i < n; i++)
		x[i] = (float)(noise() % 4);
}
static void equal(float *x, int n)
{
	for (int i = 0; i < n; i++)
		x[i] = -1.5f;
}
static void zeros(float *x, int n)
{
	for (int i = 0; i < n; i++)
		x[i] = noise() % 2 ? 0.0f : -0.0f;
}
static void extreme(float *x, int n)
{
	static const float some[] = {3.4028235e38f, -3.4028235e38f, 1e-45f, -1e-45f, 88, -88, 0, 1e30f};

	for (int i = 0; i < n; i++)
		x[i] = some[noise() % 8];
}
static void close_by(float *x, int n)
{
	for (int i = 0; i < n; i++)
		x[i] = fr_bits_f32(0x41000000u + (uint32_t)(noise() % 6));
}
static void one_nan(float *x, int n)
{
	spread(x, n);
	x[noise() % (unsigned)n] = fr_bits_f32(noise() % 2 ? 0x7fc00000u : 0xffc00001u);
}
static void one_infinite(float *x, int n)
{
	spread(x, n);
	x[noise() % (unsigned)n] = noise() % 2 ? INFINITY : -INFINITY;
}
static const struct kind {
	const char *name;
	void (*make)(float *x, int n);
} kinds[] = {{"spread", spread},   {"tied", tied},	   {"equal", equal},	 {"zeros", zeros},
	     {"extreme", extreme}, {"close by", close_by}, {"one nan", one_nan}, {"one infinite", one_infinite}};
#define KINDS (int)(sizeof kinds / sizeof *kinds)

static const struct fr_sampler samplers[] = {
	{.temperature = 0},
	{.temperature = 1, .top_p = 1},
	{.temperature = 0.7f, .top_p = 0.9f},
	{.temperature = 0.7f, .top_p = 0.9f, .top_k = 40},
	{.temperature = 1, .top_p = 1, .top_k = 5},
	{.temperature = 5, .top_p = 0.5f, .top_k = 1},
	{.temperature = 1, .top_p = 1e-7f},
	{.temperature = 1, .top_p = 0, .top_k = 3},
	{.temperature = 1e-42f, .top_p = 1},
	{.temperature = 1e30f, .top_p = 0.999f, .top_k = 1 << 30},
};
#define SAMPLERS (int)(sizeof samplers / sizeof *samplers)

static const double draws[] = {0, 0x1p-53, 0.5, 1 - 0x1p-53};

/* ---- on the device ---- */

static struct fr_dev *open_dev(void)
{
	struct fr_error err = {0};
	struct fr_dev *dev;

	if (fr_cuda_open(&(struct fr_dev_opts){0}, &dev, &err) == 0)
		return dev;
	test_fail("exact/cuda/pick/open", "%s", err.text);
	exit(test_done());
}

/* Rows of one kind with every sampler, all rows in one call; one of them draws at an edge. */
static void check_kind(struct fr_dev *dev, const struct kind *kind, int vocab)
{
	float *x = malloc((size_t)ROWS * (size_t)vocab * sizeof *x);
	struct fr_candidate *room = malloc((size_t)vocab * sizeof *room);
	struct fr_error err = {0};
	double draw[ROWS];
	int32_t ids[ROWS];
	int bad = 0, first[4] = {0};
	char name[96];
	void *d;

	for (int r = 0; r < ROWS; r++)
		kind->make(x + (size_t)r * (size_t)vocab, vocab);
	if (dev->ops->alloc(dev, (size_t)ROWS * (size_t)vocab * sizeof *x, &d, &err))
		abort();
	dev->ops->put(dev, d, x, (size_t)ROWS * (size_t)vocab * sizeof *x);
	for (int s = 0; s < SAMPLERS; s++) {
		for (int r = 0; r < ROWS; r++)
			draw[r] = r == s % ROWS ? draws[noise() % 4] : uniform();
		memset(ids, 0x55, sizeof ids);
		dev->ops->pick(dev, &(struct fr_pick){.logits = d,
						      .rows = ROWS,
						      .vocab = vocab,
						      .draw = draw,
						      .sampler = &samplers[s],
						      .ids = ids});
		if (dev->ops->sync(dev, &err))
			break;
		for (int r = 0; r < ROWS; r++) {
			int want = fr_pick_row(x + (size_t)r * (size_t)vocab, vocab, &samplers[s], draw[r], room);
			if (ids[r] != want && !bad++)
				first[0] = s, first[1] = r, first[2] = ids[r], first[3] = want;
		}
	}
	dev->ops->release(dev, d, (size_t)ROWS * (size_t)vocab * sizeof *x);
	snprintf(name, sizeof name, "exact/cuda/pick/%s, %d ids", kind->name, vocab);
	CHECK(name, bad == 0 && err.code == FR_OK, "%s%d of %d differ; sampler %d, row %d: got %d, expected %d",
	      err.text, bad, SAMPLERS * ROWS, first[0], first[1], first[2], first[3]);
	free(room);
	free(x);
}

/* ---- the host's own ---- */

/* The id at `rank` when all are ordered by logit, then id. */
static int ranked(const float *x, int n, int rank)
{
	for (int i = 0; i < n; i++) {
		int ahead = 0;
		for (int j = 0; j < n; j++)
			ahead += x[j] > x[i] || (x[j] == x[i] && j < i);
		if (ahead == rank)
			return i;
	}
	return -1;
}

/* The draw lies inside the chosen id's share, whose borders may be off by what the exponentials and their rounding to
 * 2^-40 are off. */
static int fits(const float *x, int n, const struct fr_sampler *s, double draw, int id)
{
	int limit = s->top_k > 0 && s->top_k < n ? s->top_k : n;
	double sum = 0, kept = 0, ahead = 0, own = 0;

	for (int k = 0; k < limit; k++)
		sum += exp(((double)x[ranked(x, n, k)] - (double)x[ranked(x, n, 0)]) / (double)s->temperature);
	for (int k = 0; k < limit && (k == 0 || kept < (double)s->top_p * sum * (1 - 1e-12)); k++) {
		int i = ranked(x, n, k);
		double w = exp(((double)x[i] - (double)x[ranked(x, n, 0)]) / (double)s->temperature);
		ahead = i == id ? kept : ahead;
		own = i == id ? w : own;
		kept += w;
	}
	return own > 0 && draw * kept >= ahead - 1e-6 * kept && draw * kept <= ahead + own + 1e-6 * kept;
}

static void check_host(void)
{
	enum { N = 60 };
	struct fr_candidate room[N];
	float x[N];
	int bad = 0, of = 0;

	for (int round = 0; round < 40; round++)
		for (int k = 0; k < 2; k++)
			for (int s = 1; s < 5; s++, of++) {
				double draw = uniform();
				kinds[k].make(x, N);
				bad += !fits(x, N, &samplers[s], draw, fr_pick_row(x, N, &samplers[s], draw, room));
			}
	CHECK("bounded/pick/kernels/pick.c draws by the shares", bad == 0, "%d of %d draws outside of their share", bad,
	      of);
}

int main(void)
{
	static const int vocabs[] = {1, 9, 1023, 2500};
	struct fr_dev *dev = open_dev();

	check_host();
	for (int k = 0; k < KINDS; k++)
		for (int v = 0; v < (k < 2 ? 4 : 3); v++)
			check_kind(dev, &kinds[k], vocabs[v]);
	dev->ops->close(dev);
	return test_done();
}
