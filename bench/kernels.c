/* `fr-run bench kernels`: the kernel check's cases at the shapes of CLIP ViT-L/14-336, Vicuna-7B and
 * FakeReasoning's fusion, timed.
 *
 * A row alternates short bursts of the machine's peak with the kernel, because machines drift and are shared: the share
 * is the best rate of the kernel by the best rate of the peak in the same second. What decoding reads (weights, keys)
 * comes from copies that together exceed any cache, one after the other, as layers do. */
#include "bench.h"
#include "plot.h"
#include "../kernels/check.h"
#include "../kernels/cpu/peak.h"

#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

#define COLD_BYTES ((size_t)256 << 20) /* what a row cycles through where the cache must be cold */
#define MAX_COPIES 64
#define READ_BYTES ((size_t)256 << 20)
#define READ_BURST ((size_t)128 << 20)

static const struct fr_check_case rows[] = {
	/* prefill: vision tower (577 rows), projector, decoder (576 image rows and a short prompt) */
	FR_CASE_MATRIX(LINEAR, PREFILL, BF16, 577, 4096, 1024, 0, NONE),
	FR_CASE_MATRIX(LINEAR, PREFILL, F16, 577, 4096, 1024, 0, NONE),
	FR_CASE_MATRIX(LINEAR, PREFILL, F32, 577, 4096, 1024, 0, NONE),
	FR_CASE_MATRIX(LINEAR, PREFILL, BF16, 577, 1024, 1024, 0, NONE),
	FR_CASE_MATRIX(LINEAR, PREFILL, BF16, 577, 1024, 4096, 0, NONE),
	FR_CASE_MATRIX(LINEAR, PREFILL, BF16, 588, 11008, 4096, 0, NONE),
	FR_CASE_MATRIX(LINEAR, PREFILL, F16, 588, 11008, 4096, 0, NONE),
	FR_CASE_MATRIX(LINEAR, PREFILL, F32, 588, 11008, 4096, 0, NONE),
	FR_CASE_MATRIX(LINEAR, PREFILL, BF16, 588, 4096, 4096, 0, NONE),
	FR_CASE_MATRIX(LINEAR, PREFILL, BF16, 588, 4096, 11008, 0, NONE),
	FR_CASE_MATRIX(GLU, PREFILL, BF16, 588, 11008, 4096, 0, NONE),
	/* decode: one image, a small batch, the largest batch of one weight read; the last is lm_head */
	FR_CASE_MATRIX(LINEAR, DECODE, BF16, 1, 4096, 4096, 0, NONE),
	FR_CASE_MATRIX(LINEAR, DECODE, F16, 1, 4096, 4096, 0, NONE),
	FR_CASE_MATRIX(LINEAR, DECODE, F32, 1, 4096, 4096, 0, NONE),
	FR_CASE_MATRIX(LINEAR, DECODE, BF16, 2, 4096, 4096, 0, NONE),
	FR_CASE_MATRIX(LINEAR, DECODE, BF16, 4, 4096, 4096, 0, NONE),
	FR_CASE_MATRIX(LINEAR, DECODE, BF16, 8, 4096, 4096, 0, NONE),
	FR_CASE_MATRIX(LINEAR, DECODE, BF16, 16, 4096, 4096, 0, NONE),
	FR_CASE_MATRIX(LINEAR, DECODE, BF16, 1, 11008, 4096, 0, NONE),
	FR_CASE_MATRIX(LINEAR, DECODE, F16, 1, 11008, 4096, 0, NONE),
	FR_CASE_MATRIX(LINEAR, DECODE, F32, 1, 11008, 4096, 0, NONE),
	FR_CASE_MATRIX(LINEAR, DECODE, BF16, 2, 11008, 4096, 0, NONE),
	FR_CASE_MATRIX(LINEAR, DECODE, BF16, 4, 11008, 4096, 0, NONE),
	FR_CASE_MATRIX(LINEAR, DECODE, BF16, 8, 11008, 4096, 0, NONE),
	FR_CASE_MATRIX(LINEAR, DECODE, F16, 8, 11008, 4096, 0, NONE),
	FR_CASE_MATRIX(LINEAR, DECODE, BF16, 16, 11008, 4096, 0, NONE),
	FR_CASE_MATRIX(LINEAR, DECODE, BF16, 1, 4096, 11008, 0, NONE),
	FR_CASE_MATRIX(LINEAR, DECODE, BF16, 1, 32064, 4096, 0, NONE),
	FR_CASE_MATRIX(LINEAR, DECODE, BF16, 4, 32064, 4096, 0, NONE),
	FR_CASE_MATRIX(LINEAR, DECODE, BF16, 16, 32064, 4096, 0, NONE),
	FR_CASE_MATRIX(GLU, DECODE, BF16, 1, 11008, 4096, 0, NONE),
	FR_CASE_MATRIX(GLU, DECODE, BF16, 4, 11008, 4096, 0, NONE),
	FR_CASE_MATRIX(GLU, DECODE, BF16, 8, 11008, 4096, 0, NONE),
	FR_CASE_MATRIX(GLU, DECODE, BF16, 16, 11008, 4096, 0, NONE),
	/* quantised weights */
	FR_CASE_MATRIX(LINEAR, PREFILL, Q8_0, 588, 11008, 4096, 0, NONE),
	FR_CASE_MATRIX(LINEAR, PREFILL, Q8_0, 588, 4096, 11008, 0, NONE),
	FR_CASE_MATRIX(LINEAR, DECODE, Q8_0, 1, 11008, 4096, 0, NONE),
	FR_CASE_MATRIX(LINEAR, DECODE, Q8_0, 4, 11008, 4096, 0, NONE),
	FR_CASE_MATRIX(LINEAR, DECODE, Q8_0, 8, 11008, 4096, 0, NONE),
	FR_CASE_MATRIX(LINEAR, DECODE, Q8_0, 16, 11008, 4096, 0, NONE),
	/* attention */
	FR_CASE_DENSE(577, 577, 16, 64, 0),
	FR_CASE_DENSE_BF16(577, 577, 16, 64, 0),
	FR_CASE_CACHED(ATTN, PREFILL, F16, 588, 1, 588, 32, 32, 128),
	FR_CASE_CACHED(ATTN, DECODE, F16, 1, 1, 588, 32, 32, 128),
	FR_CASE_CACHED(ATTN, DECODE, F16, 1, 1, 1100, 32, 32, 128),
	FR_CASE_CACHED(ATTN, DECODE, F16, 4, 4, 1100, 32, 32, 128),
	/* fusion: the map of attention (all rows, the class token's), its bias, cross attention, the wide products */
	FR_CASE_MAP(0, 577, 577, 577, 16, 64),
	FR_CASE_MAP(0, 1, 577, 577, 16, 64),
	FR_CASE_MAP_BIAS(0, 576, 16, 32),
	FR_CASE_DENSE(576, 576, 16, 320, FR_WITH_BIAS),
	FR_CASE_MATRIX(LINEAR, PREFILL, F16, 576, 20480, 5120, FR_WITH_BIAS, RELU),
	FR_CASE_MATRIX(LINEAR, PREFILL, F16, 576, 5120, 20480, FR_WITH_BIAS | FR_WITH_RESIDUAL, NONE),
	FR_CASE_MATRIX(LINEAR, PREFILL, F16, 576, 5120, 5120, FR_WITH_BIAS, NONE),
	/* the rest */
	FR_CASE_GATE(1, 13824, 0),
	FR_CASE_GATE(608, 13824, 0),
	FR_CASE_NORM(577, 1024, FR_WITH_BIAS),
	FR_CASE_NORM(588, 4096, 0),
	FR_CASE_NORM(1, 4096, 0),
	FR_CASE_CACHED(ROPE, PREFILL, F16, 588, 1, 588, 32, 32, 128),
	FR_CASE_CACHED(ROPE, DECODE, F16, 1, 1, 588, 32, 32, 128),
	FR_CASE_PATCH(BF16, 336, 14, 1024, 0),
	FR_CASE_EMBED(BF16, 588, 32064, 4096),
};

struct bench {
	struct fr_dev *dev;
	char *memory; /* [READ_BYTES], for the bursts of reading */
	size_t at;
	double seconds;
	const struct fr_bench_opts *opts;
	struct fr_plot *plot; /* NULL: none is wanted */
	FILE *out;
};

/* The copies of a case that are measured in turn. */
struct copies {
	struct fr_check *ck[MAX_COPIES];
	struct fr_check_run run[MAX_COPIES];
	int n;
};

static void drop_copies(struct copies *set)
{
	for (int i = 0; i < set->n; i++) {
		fr_check_unbind(&set->run[i]);
		fr_check_free(set->ck[i]);
	}
	set->n = 0;
}

static int make_copies(const struct bench *b, const struct fr_check_case *c, struct copies *set, struct fr_error *err)
{
	double total = 0;

	set->n = 0;
	do {
		int i = set->n;

		if (fr_check_new(c, (uint64_t)i + 1, &set->ck[i], err) != 0)
			goto fail;
		set->n++;
		if (fr_check_bind(set->ck[i], b->dev, &set->run[i], err) != 0)
			goto fail;
		total += fr_bench_bytes(set->ck[i]);
	} while (c->phase == FR_DECODE && c->op != FR_CHECK_ROPE && total < (double)COLD_BYTES && set->n < MAX_COPIES);
	return 0;
fail:
	drop_copies(set);
	return -1;
}

struct result {
	struct fr_samples time, peak, read;
	enum fr_peak kind; /* what the case is made of */
	double operations, bytes;
	int cold; /* what it read came from memory, not from a cache */
};

static int is_product(const struct fr_check_case *c)
{
	return c->op == FR_CHECK_LINEAR || c->op == FR_CHECK_GLU || c->op == FR_CHECK_PATCH;
}

/* The peak of what the case is made of. Attention among bf16 weights goes in pairs where x has one term, never in
 * tiles: it has the peak of a step's products. */
static enum fr_peak kind_of(const struct fr_dev *dev, const struct fr_check_case *c)
{
	if (is_product(c))
		return fr_cpu_peak_of(dev, c->dtype, c->phase);
	if (c->op == FR_CHECK_ATTN && c->with & FR_DENSE && strcmp(dev->activations, "bf16") == 0)
		return fr_cpu_peak_of(dev, c->dtype, FR_DECODE);
	return FR_PEAK_FMA;
}

static void measure(struct bench *b, const struct copies *set, struct result *r)
{
	double until, t;
	int turn = 0;

	fr_check_call(&set->run[0]); /* pages and scratch memory are touched once before it counts */
	until = fr_bench_now() + b->seconds;
	do {
		fr_sample(&r->peak, fr_cpu_peak(b->dev, r->kind));
		fr_sample(&r->read, fr_cpu_peak_read(b->dev, b->memory + b->at, READ_BURST));
		b->at = (b->at + READ_BURST) % READ_BYTES;
		for (int i = 0; i < 4; i++) {
			t = fr_bench_now();
			fr_check_call(&set->run[turn++ % set->n]);
			t = fr_bench_now() - t;
			fr_sample(&r->time, t);
			if (t > b->seconds / 20)
				break;
		}
	} while (!fr_bench_stopped(b->opts) && (fr_bench_now() < until || r->time.n < 5));
}

/* A share in percent, or in JSON as a fraction; a share of nothing is not shown. */
static const char *share_text(int json, double share, char *buf, size_t size)
{
	if (share <= 0)
		snprintf(buf, size, json ? "null" : "-");
	else
		snprintf(buf, size, json ? "%.4g" : "%.1f%%", json ? share : 100 * share);
	return buf;
}

static void print_result(const struct bench *b, const struct fr_check_case *c, const char *name, struct result *r)
{
	double best = fr_samples_min(&r->time), median = fr_samples_median(&r->time);
	double flops = r->operations / best, rate = r->bytes / best;
	double peak = fr_samples_max(&r->peak), read = fr_samples_max(&r->read);
	double share_peak = flops / peak, share_read = r->cold ? rate / read : 0;
	int json = b->opts->json;
	char of_peak[32], of_read[32];

	share_text(json, share_peak, of_peak, sizeof of_peak);
	share_text(json, share_read, of_read, sizeof of_read);
	if (json)
		fprintf(b->out,
			"{\"bench\":\"kernel\",\"name\":\"%s\",\"isa\":\"%s\",\"activations\":\"%s\",\"threads\":%d,"
			"\"runs\":%d,\"ms_best\":%.6g,\"ms_median\":%.6g,\"ms_most\":%.6g,\"gflops\":%.5g,\"gbytes\":%."
			"5g,"
			"\"peak\":\"%s\",\"peak_gflops\":%.5g,\"peak_gbytes\":%.5g,\"share_fma\":%s,\"share_peak\":%s,"
			"\"share_read\":%s,\"operations\":%.6g,\"bytes\":%.6g}\n",
			name, b->dev->isa, b->dev->activations, b->dev->threads, r->time.n, best * 1e3, median * 1e3,
			fr_samples_max(&r->time) * 1e3, flops * 1e-9, rate * 1e-9, fr_peak_names[r->kind], peak * 1e-9,
			read * 1e-9, of_peak, of_peak, of_read, r->operations, r->bytes);
	else
		fprintf(b->out, "%-48s %3d %9.3f %9.3f %8.1f %7.1f %8s %8s\n", name, b->dev->threads, best * 1e3,
			median * 1e3, flops * 1e-9, rate * 1e-9, of_peak, of_read);
	fflush(b->out);
	fr_plot_roof(b->plot, fr_peak_names[r->kind], peak);
	fr_plot_read(b->plot, read);
	fr_plot_add(b->plot,
		    c->op == FR_CHECK_ATTN  ? FR_PLOT_ATTENTION
		    : !is_product(c)	    ? FR_PLOT_OTHER
		    : c->phase == FR_DECODE ? FR_PLOT_DECODE
					    : FR_PLOT_PREFILL,
		    name, r->operations, r->bytes, best, share_peak > share_read ? share_peak : share_read);
}

static int bench_row(struct bench *b, const struct fr_check_case *c, const char *name, struct fr_error *err)
{
	struct copies *set = calloc(1, sizeof *set);
	struct result *r = calloc(1, sizeof *r);
	int rc = -1;

	if (!set || !r) {
		fr_fail(err, FR_E_MEMORY, "not enough memory to measure %s", name);
	} else if (make_copies(b, c, set, err) == 0) {
		r->kind = kind_of(b->dev, c);
		r->operations = fr_bench_operations(set->ck[0]);
		r->bytes = fr_bench_bytes(set->ck[0]);
		r->cold = r->bytes * set->n >= (double)COLD_BYTES;
		measure(b, set, r);
		print_result(b, c, name, r);
		drop_copies(set);
		rc = b->dev->ops->sync(b->dev, err);
	}
	free(set);
	free(r);
	return rc;
}

static void print_head(const struct bench *b)
{
	char machine[512];

	fr_machine(b->opts->isa, machine, sizeof machine);
	fprintf(b->out, "%s\nisa %s, activations %s\n%-48s %3s %9s %9s %8s %7s %8s %8s\n", machine, b->dev->isa,
		b->dev->activations, "kernel", "thr", "best ms", "median", "GFLOP/s", "GB/s", "of peak", "of read");
	fflush(b->out);
}

/* The rows that the filter takes, at each of n devices. */
static int bench_rows(struct bench *b, struct fr_dev *const *dev, int n, struct fr_error *err)
{
	char name[160];
	int rc = 0, shown = 0;

	for (size_t i = 0; i < sizeof rows / sizeof *rows && rc == 0; i++) {
		fr_check_name(&rows[i], name, sizeof name);
		if (b->opts->filter && fnmatch(b->opts->filter, name, 0) != 0)
			continue;
		for (int d = 0; d < n && rc == 0 && !fr_bench_stopped(b->opts); d++) {
			b->dev = dev[d];
			if (!shown++ && !b->opts->json)
				print_head(b);
			rc = bench_row(b, &rows[i], name, err);
		}
	}
	if (rc == 0 && !shown && !fr_bench_stopped(b->opts))
		rc = fr_fail(err, FR_E_USAGE, "no kernel row matches \"%s\"", b->opts->filter);
	return rc;
}

#define MAX_COUNTS 32
/* A device with all threads, last, and before it those with fewer where each row is to be swept: how many, -1. */
static int open_devices(const struct fr_bench_opts *opts, struct fr_dev **dev, struct fr_error *err)
{
	struct fr_dev_opts o = {.backend = "cpu", .isa = opts->isa, .threads = opts->threads, .precise = opts->precise};
	struct fr_dev *all;
	int n = 0;

	FR_TRY(fr_dev_open(&o, &all, err));
	for (o.threads = 1; opts->sweep && o.threads < all->threads; o.threads = fr_bench_threads_after(o.threads)) {
		if (fr_dev_open(&o, &dev[n], err)) {
			while (n--)
				dev[n]->ops->close(dev[n]);
			all->ops->close(all);
			return -1;
		}
		n++;
	}
	dev[n++] = all;
	return n;
}

/* The roofs that no row has needed, and what the plot says of itself. */
static void finish_plot(struct bench *b)
{
	struct fr_plot *p = b->plot;

	for (int burst = 0; p && burst < 10; burst++)
		for (int k = 0; k < FR_PEAKS; k++)
			fr_plot_roof(p, fr_peak_names[k], fr_cpu_peak(b->dev, (enum fr_peak)k));
	if (!p)
		return;
	fr_machine(b->opts->isa, p->note, sizeof p->note);
	snprintf(p->title, sizeof p->title, "fr-run bench kernels: isa %s, activations %s, %d threads", b->dev->isa,
		 b->dev->activations, b->dev->threads);
	p->mark_name[FR_PLOT_PREFILL] = "products of many rows";
	p->mark_name[FR_PLOT_DECODE] = "products of few rows";
	p->mark_name[FR_PLOT_ATTENTION] = "attention";
	p->mark_name[FR_PLOT_OTHER] = "other";
}

int fr_bench_kernels(const struct fr_bench_opts *opts, FILE *out, struct fr_error *err)
{
	struct bench b = {.out = out, .opts = opts, .seconds = opts->seconds > 0 ? opts->seconds : 1};
	struct fr_dev *dev[MAX_COUNTS];
	int rc = -1, n;

	if (opts->backend && strcmp(opts->backend, "cuda") == 0)
		return opts->svg ? fr_fail(err, FR_E_USAGE, "--svg plots what a CPU does; cuda has no such plot yet")
				 : fr_bench_gpu_kernels(opts, out, err);
	if (opts->isa && strcmp(opts->isa, "ref") == 0)
		return fr_fail(
			err, FR_E_USAGE,
			"the ref instance is the contract as plain loops, not meant to be fast: --isa avx2 or above");
	n = open_devices(opts, dev, err);
	if (n < 0)
		return -1;
	b.memory = fr_bench_map(READ_BYTES);
	if (!b.memory)
		fr_fail(err, FR_E_MEMORY, "cannot map %zu MiB to measure the memory", READ_BYTES >> 20);
	else if (fr_plot_new(opts->svg, &b.plot, err) == 0)
		rc = bench_rows(&b, dev, n, err);
	if (rc == 0)
		finish_plot(&b);
	if (fr_plot_end(b.plot, rc == 0 && !fr_bench_stopped(opts), err))
		rc = -1;
	fr_bench_unmap(b.memory, READ_BYTES);
	while (n--)
		dev[n]->ops->close(dev[n]);
	return rc;
}
