/* The kernel check, exact half: every row on every level of this CPU gives the bits of the plain instance, at 1, 2 and
 * 3 threads, and touches nothing but its outputs. Where a level multiplies in pairs or tiles, that is the plain
 * instance with the same roundings; so do the drivers over plain C, which run everywhere. usage: kernels [GLOB], over
 * the names of the rows. */
#include "test.h"
#include "kernel_rows.h"
#include "tile_host/tile_host.h"

#include <fnmatch.h>
#include <signal.h>
#include <unistd.h>

#define THREADS 3

#define HOW 5
/* How products are made: in float32, in pairs, in tiles. */
static const char *const roundings[HOW] = {NULL, "avx512bf16", "avx512bf16-precise", "amx", "amx-precise"};

static const struct level {
	const char *name, *isa, *roundings;
	int precise, how;
	int all; /* rows without such products too */
} levels[] = {
	{"cpu-ref", "cpu-ref", NULL, 0, 0, 1},
	{"avx2", "avx2", NULL, 0, 0, 1},
	{"avx512", "avx512", NULL, 0, 0, 1},
	{"avx512bf16", "avx512bf16", NULL, 0, 1, 1},
	{"avx512bf16-precise", "avx512bf16", NULL, 1, 2, 0},
	{"cpu-ref-bf16", "cpu-ref", "avx512bf16", 0, 1, 0},
	{"cpu-ref-bf16-precise", "cpu-ref", "avx512bf16-precise", 0, 2, 0},
	{"amx", "amx", NULL, 0, 3, 1},
	{"amx-precise", "amx", NULL, 1, 4, 0},
	{"cpu-ref-amx", "cpu-ref", "amx", 0, 3, 0},
	{"cpu-ref-amx-precise", "cpu-ref", "amx-precise", 0, 4, 0},
};
#define LEVELS ((int)(sizeof levels / sizeof *levels))

static char current[256];

/* Weights end at a page that cannot be read: a load past them arrives here. */
static void on_fault(int sig)
{
	static const char tail[] = ": read or write outside the arrays\n";

	(void)sig;
	if (write(1, "FAIL ", 5) < 0 || write(1, current, strlen(current)) < 0 || write(1, tail, sizeof tail - 1) < 0)
		_exit(2);
	_exit(1);
}

static uint32_t bits(const float *p, size_t i)
{
	return fr_f32_bits(p[i]);
}

/* 1 and a test_fail if an output of got differs from want's. */
static int differs(const struct fr_check_run *got, const struct fr_check_run *want, int threads)
{
	for (int s = 0; s < FR_SLOTS; s++) {
		size_t n = want->check->slot[s].bytes / 4, i = 0;
		const float *a = got->out[s], *b = want->out[s];

		if (!b)
			continue;
		while (i < n && bits(a, i) == bits(b, i))
			i++;
		if (i == n)
			continue;
		test_fail(current, "%d threads: array %d, word %zu of %zu: got %a (%08x), want %a (%08x)", threads, s,
			  i, n, (double)a[i], bits(a, i), (double)b[i], bits(b, i));
		return 1;
	}
	return 0;
}

static int run_on(const struct fr_check *ck, struct fr_dev *dev, struct fr_check_run *run, struct fr_error *err)
{
	if (fr_check_bind(ck, dev, run, err) != 0)
		return -1;
	fr_check_call(run);
	return fr_check_collect(run, err);
}

static size_t weight_bytes(const struct fr_check *ck)
{
	size_t sum = 0;

	for (int i = 0; i < FR_CHECK_MATS; i++)
		sum += ck->w[i].bytes;
	return sum;
}

/* One row on one level: devices dev[t] with t + 1 threads. */
static void check_level(const struct fr_check *ck, struct fr_dev *const dev[THREADS], const struct fr_check_run *want)
{
	int bad = 0;

	for (int t = 0; t < THREADS && !bad; t++) {
		size_t copied = dev[t]->copied;
		struct fr_error err;
		struct fr_check_run run;

		if (run_on(ck, dev[t], &run, &err) != 0) {
			test_fail(current, "%d threads: %s", t + 1, err.text);
			bad = 1;
		} else if (ck->c.with & FR_ODD_WEIGHT ? dev[t]->copied != copied + weight_bytes(ck)
						      : dev[t]->copied != copied) {
			test_fail(current, "%zu bytes of weights were copied", dev[t]->copied - copied);
			bad = 1;
		} else {
			bad = differs(&run, want, t + 1);
		}
		fr_check_unbind(&run);
	}
	if (!bad)
		test_ok(current);
}

/* How a level that multiplies so makes the products of a row: pairs are for bf16 weights alone. */
static int how_of(const struct fr_check_case *c, int how)
{
	if (c->op == FR_CHECK_ATTN && c->with & FR_DENSE)
		return c->dtype == FR_BF16 ? how : 0;
	if (c->dtype == FR_Q8_0 ||
	    (c->op != FR_CHECK_LINEAR && c->op != FR_CHECK_GLU && c->op != FR_CHECK_PATCH))
		return 0;
	return c->dtype == FR_BF16 || c->with & FR_MIXED || (how >= 3 && c->phase == FR_PREFILL) ? how : 0;
}

static void check_row(const struct fr_check_case *c, uint64_t seed, struct fr_dev *const ref[HOW],
		      struct fr_dev *dev[LEVELS][THREADS])
{
	struct fr_check *ck;
	struct fr_check_run want[HOW] = {{0}};
	struct fr_error err;
	char name[160];
	int bad = 0;

	fr_check_name(c, name, sizeof name);
	snprintf(current, sizeof current, "exact/ref/%s", name);
	if (fr_check_new(c, seed, &ck, &err) != 0) {
		test_fail(current, "%s", err.text);
		return;
	}
	for (int h = 0; h < HOW && !bad; h++)
		bad = how_of(c, h) == h && run_on(ck, ref[h], &want[h], &err) != 0;
	if (bad)
		test_fail(current, "%s", err.text);
	for (int l = 0; l < LEVELS && !bad; l++) {
		int how = how_of(c, levels[l].how);

		snprintf(current, sizeof current, "exact/%s/%s", levels[l].name, name);
		if (dev[l][0] && (levels[l].all || how))
			check_level(ck, dev[l], &want[how]);
	}
	for (int h = 0; h < HOW; h++)
		if (want[h].check)
			fr_check_unbind(&want[h]);
	fr_check_free(ck);
}

static void open_levels(struct fr_dev *dev[LEVELS][THREADS])
{
	for (int l = 0; l < LEVELS; l++)
		for (int t = 0; t < THREADS; t++) {
			struct fr_dev_opts opts = {.backend = "cpu",
						   .isa = levels[l].isa,
						   .roundings = levels[l].roundings,
						   .precise = levels[l].precise,
						   .threads = t + 1};
			struct fr_error err;

			if (fr_dev_open(&opts, &dev[l][t], &err) == 0)
				continue;
			snprintf(current, sizeof current, "exact/%s", levels[l].name);
			if (t == 0)
				test_skip(current, err.text);
			else
				test_fail(current, "%d threads: %s", t + 1, err.text);
			break;
		}
}

int main(int argc, char **argv)
{
	static struct fr_check_case rows[MAX_ROWS];
	static struct fr_dev *dev[LEVELS][THREADS];
	struct fr_dev *ref[HOW];
	struct fr_error err;
	int n = kernel_rows(rows);
	char name[160];

	signal(SIGSEGV, on_fault);
	signal(SIGBUS, on_fault);
	for (int h = 0; h < HOW; h++) {
		struct fr_dev_opts opts = {.backend = "cpu", .isa = "ref", .roundings = roundings[h]};

		if (fr_dev_open(&opts, &ref[h], &err) != 0) {
			test_fail("exact/ref", "%s", err.text);
			return test_done();
		}
	}
	tile_host_install();
	open_levels(dev);
	for (int i = 0; i < n; i++)
		if (argc < 2 || fnmatch(argv[1], fr_check_name(&rows[i], name, sizeof name), 0) == 0)
			check_row(&rows[i], (uint64_t)i + 1, ref, dev);
	for (int l = 0; l < LEVELS; l++)
		for (int t = 0; t < THREADS; t++)
			if (dev[l][t])
				dev[l][t]->ops->close(dev[l][t]);
	for (int h = 0; h < HOW; h++)
		ref[h]->ops->close(ref[h]);
	return test_done();
}
