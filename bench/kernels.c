/* `fr-run bench kernels`: the kernel check's cases at the shapes of CLIP ViT-L/14-336, Vicuna-7B and
 * FakeReasoning's fusion, timed.
 *
 * A row alternates short bursts of the machine's peak with the kernel, because machines drift and are shared: the share
 * is the best rate of the kernel by the best rate of the peak in the same second. What decoding reads (weights, keys)
 * comes from copies that together exceed any cache, one after the other, as layers do. */
#include "bench.h"
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
	FR_CASE_MATRIX(LINEAR, DECODE, BF16, 4, 4096, 4096, 0, NONE),
	FR_CASE_MATRIX(LINEAR, DECODE, BF16, 16, 4096, 4096, 0, NONE),
	FR_CASE_MATRIX(LINEAR, DECODE, BF16, 1, 11008, 4096, 0, NONE),
	FR_CASE_MATRIX(LINEAR, DECODE, F16, 1, 11008, 4096, 0, NONE),
	FR_CASE_MATRIX(LINEAR, DECODE, BF16, 4, 11008, 4096, 0, NONE),
	FR_CASE_MATRIX(LINEAR, DECODE, BF16, 16, 11008, 4096, 0, NONE),
	FR_CASE_MATRIX(LINEAR, DECODE, BF16, 1, 4096, 11008, 0, NONE),
	FR_CASE_MATRIX(LINEAR, DECODE, BF16, 1, 32064, 4096, 0, NONE),
	FR_CASE_MATRIX(LINEAR, DECODE, BF16, 4, 32064, 4096, 0, NONE),
	FR_CASE_MATRIX(LINEAR, DECODE, BF16, 16, 32064, 4096, 0, NONE),
	FR_CASE_MATRIX(GLU, DECODE, BF16, 1, 11008, 4096, 0, NONE),
	FR_CASE_MATRIX(GLU, DECODE, BF16, 4, 11008, 4096, 0, NONE),
	FR_CASE_MATRIX(GLU, DECODE, BF16, 16, 11008, 4096, 0, NONE),
	/* attention */
	FR_CASE_DENSE(577, 577, 16, 64, 0),
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
	int json;
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
	struct fr_samples time, fma, read;
	double operations, bytes;
	int cold; /* what it read came from memory, not from a cache */
};

/* The peak of what the case is made of. */
static double peak_of(const struct bench *b, const struct fr_check_case *c)
{
	int product = c->op == FR_CHECK_LINEAR || c->op == FR_CHECK_GLU || c->op == FR_CHECK_PATCH;

	return fr_cpu_peak(b->dev, product ? fr_cpu_peak_of(b->dev, c->dtype, c->phase) : FR_PEAK_FMA);
}

static void measure(struct bench *b, const struct copies *set, struct result *r)
{
	double until, t;
	int turn = 0;

	fr_check_call(&set->run[0]); /* pages and scratch memory are touched once before it counts */
	until = fr_bench_now() + b->seconds;
	do {
		fr_sample(&r->fma, peak_of(b, &set->ck[0]->c));
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
	} while (fr_bench_now() < until || r->time.n < 5);
}

/* A share in percent, or in JSON as a fraction; a share of nothing is not shown. */
static const char *share_text(const struct bench *b, double share, char *buf, size_t size)
{
	if (share <= 0)
		snprintf(buf, size, b->json ? "null" : "-");
	else
		snprintf(buf, size, b->json ? "%.4g" : "%.1f%%", b->json ? share : 100 * share);
	return buf;
}

static void print_result(const struct bench *b, const char *name, struct result *r)
{
	double best = fr_samples_min(&r->time), median = fr_samples_median(&r->time);
	double flops = r->operations / best, rate = r->bytes / best;
	double fma = fr_samples_max(&r->fma), read = fr_samples_max(&r->read);
	char of_fma[32], of_read[32];

	share_text(b, flops / fma, of_fma, sizeof of_fma);
	share_text(b, r->cold ? rate / read : 0, of_read, sizeof of_read);

	if (b->json)
		fprintf(b->out,
			"{\"bench\":\"kernel\",\"name\":\"%s\",\"isa\":\"%s\",\"threads\":%d,\"runs\":%d,"
			"\"ms_best\":%.6g,\"ms_median\":%.6g,\"gflops\":%.5g,\"gbytes\":%.5g,"
			"\"peak_gflops\":%.5g,\"peak_gbytes\":%.5g,\"share_fma\":%s,\"share_read\":%s}\n",
			name, b->dev->isa, b->dev->threads, r->time.n, best * 1e3, median * 1e3, flops * 1e-9,
			rate * 1e-9, fma * 1e-9, read * 1e-9, of_fma, of_read);
	else
		fprintf(b->out, "%-50s %10.3f %10.3f %9.1f %8.1f %9s %9s\n", name, best * 1e3, median * 1e3,
			flops * 1e-9, rate * 1e-9, of_fma, of_read);
	fflush(b->out);
}

static int bench_row(struct bench *b, const struct fr_check_case *c, const char *name, struct fr_error *err)
{
	struct copies *set = calloc(1, sizeof *set);
	struct result *r = calloc(1, sizeof *r);
	int rc = -1;

	if (!set || !r) {
		fr_fail(err, FR_E_MEMORY, "not enough memory to measure %s", name);
	} else if (make_copies(b, c, set, err) == 0) {
		r->operations = fr_bench_operations(set->ck[0]);
		r->bytes = fr_bench_bytes(set->ck[0]);
		r->cold = r->bytes * set->n >= (double)COLD_BYTES;
		measure(b, set, r);
		print_result(b, name, r);
		drop_copies(set);
		rc = b->dev->ops->sync(b->dev, err);
	}
	free(set);
	free(r);
	return rc;
}

int fr_bench_kernels(const struct fr_bench_opts *opts, FILE *out, struct fr_error *err)
{
	struct fr_dev_opts dev_opts = {
		.backend = "cpu", .isa = opts->isa, .threads = opts->threads, .precise = opts->precise};
	struct bench b = {.out = out, .json = opts->json, .seconds = opts->seconds > 0 ? opts->seconds : 1};
	char name[160], machine[512];
	int rc = 0, shown = 0;

	if (opts->backend && strcmp(opts->backend, "cuda") == 0)
		return fr_bench_gpu_kernels(opts, out, err);
	if (opts->isa && strcmp(opts->isa, "ref") == 0)
		return fr_fail(err, FR_E_USAGE,
			       "the ref instance is the contract, not meant to be fast: use --isa cpu-ref");
	FR_TRY(fr_dev_open(&dev_opts, &b.dev, err));
	b.memory = fr_bench_map(READ_BYTES);
	if (!b.memory)
		rc = fr_fail(err, FR_E_MEMORY, "cannot map %zu MiB to measure the memory", READ_BYTES >> 20);
	fr_machine(machine, sizeof machine);
	for (size_t i = 0; i < sizeof rows / sizeof *rows && rc == 0; i++) {
		fr_check_name(&rows[i], name, sizeof name);
		if (opts->filter && fnmatch(opts->filter, name, 0) != 0)
			continue;
		if (!shown++ && !opts->json)
			fprintf(out, "%s; isa %s, %d threads\n%-50s %10s %10s %9s %8s %9s %9s\n", machine, b.dev->isa,
				b.dev->threads, "kernel", "best ms", "median ms", "GFLOP/s", "GB/s", "of FMA",
				"of read");
		rc = bench_row(&b, &rows[i], name, err);
	}
	if (rc == 0 && !shown)
		rc = fr_fail(err, FR_E_USAGE, "no kernel row matches \"%s\"", opts->filter);
	fr_bench_unmap(b.memory, READ_BYTES);
	b.dev->ops->close(b.dev);
	return rc;
}
