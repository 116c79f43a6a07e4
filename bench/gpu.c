/* `fr-run bench peak|kernels --backend cuda`: the device's peaks, and the kernel check's cases at the shapes of CLIP
 * ViT-L/14-336, Vicuna-7B and the cross attention, timed on a GPU.
 *
 * A measurement is a recording of many calls, launched as one graph as a decode step is, between two marks on the
 * device: what is measured are kernels one after the other, not the host's launches. A call that cannot be recorded
 * (prefill attention brings a list of tiles) is launched as it is, and its line says so. Weights, keys and inputs come
 * from copies of the case that together exceed the second-level cache, in turn, as layers do; inputs that a norm would
 * leave in 16 bits are packed once and found so. The share of the peak is against the device's peaks measured before
 * the first row: that of the tensor cores is mma.sync's, which cuBLASLt's products may exceed (wgmma, on 9.0). */
#include "bench.h"
#include "../kernels/check.h"
#include "../kernels/cuda/cuda.h"
#include "../kernels/cuda/peak.h"

#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

#define COLD_BYTES ((double)(256 << 20)) /* what a row cycles through, at least; a cache of 60 MB is far below */
#define MAX_COPIES 64
#define MAX_CALLS 512
#define LONG 2e-3 /* seconds that one recording should take */

#define PRODUCTS(type)                                                                                                 \
	FR_CASE_MATRIX(LINEAR, PREFILL, type, 577, 1024, 1024, 0, NONE),                                               \
		FR_CASE_MATRIX(LINEAR, PREFILL, type, 577, 4096, 1024, 0, NONE),                                       \
		FR_CASE_MATRIX(LINEAR, PREFILL, type, 577, 1024, 4096, 0, NONE),                                       \
		FR_CASE_MATRIX(LINEAR, PREFILL, type, 588, 4096, 4096, 0, NONE),                                       \
		FR_CASE_MATRIX(LINEAR, PREFILL, type, 588, 4096, 11008, 0, NONE)
#define SKINNY(type, rows)                                                                                             \
	FR_CASE_MATRIX(LINEAR, DECODE, type, rows, 4096, 4096, 0, NONE),                                               \
		FR_CASE_MATRIX(LINEAR, DECODE, type, rows, 4096, 11008, 0, NONE),                                      \
		FR_CASE_MATRIX(LINEAR, DECODE, type, rows, 32064, 4096, 0, NONE),                                      \
		FR_CASE_MATRIX(GLU, DECODE, type, rows, 11008, 4096, 0, NONE),                                         \
		FR_CASE_CHAIN(2, DECODE, type, rows, 4096, 4096, 0, NONE)

static const struct fr_check_case rows[] = {
	/* prefill: vision tower, decoder; one picture, then eight */
	PRODUCTS(BF16),
	PRODUCTS(F16),
	FR_CASE_MATRIX(LINEAR, PREFILL, F32, 577, 1024, 1024, 0, NONE),
	FR_CASE_CHAIN(2, PREFILL, BF16, 588, 4096, 4096, 0, NONE),
	FR_CASE_MATRIX(GLU, PREFILL, BF16, 588, 11008, 4096, 0, NONE),
	FR_CASE_MATRIX(GLU, PREFILL, F16, 588, 11008, 4096, 0, NONE),
	FR_CASE_MATRIX(LINEAR, PREFILL, BF16, 4616, 1024, 1024, 0, NONE),
	FR_CASE_MATRIX(LINEAR, PREFILL, BF16, 4616, 4096, 1024, 0, NONE),
	FR_CASE_MATRIX(LINEAR, PREFILL, BF16, 4616, 1024, 4096, 0, NONE),
	FR_CASE_MATRIX(LINEAR, PREFILL, BF16, 4704, 4096, 4096, 0, NONE),
	FR_CASE_MATRIX(LINEAR, PREFILL, BF16, 4704, 4096, 11008, 0, NONE),
	FR_CASE_MATRIX(GLU, PREFILL, BF16, 4704, 11008, 4096, 0, NONE),
	/* decode */
	SKINNY(BF16, 1),
	SKINNY(BF16, 4),
	SKINNY(BF16, 8),
	SKINNY(BF16, 16),
	SKINNY(F16, 1),
	SKINNY(F16, 16),
	FR_CASE_MATRIX(LINEAR, DECODE, F32, 1, 4096, 4096, 0, NONE),
	FR_CASE_MATRIX(LINEAR, DECODE, F32, 16, 4096, 4096, 0, NONE),
	/* attention: vision, cross attention, prompt, decode */
	FR_CASE_DENSE(577, 577, 16, 64, 0),
	FR_CASE_ITEMS(8, 577, 577, 16, 64, 0),
	FR_CASE_DENSE(576, 576, 16, 320, 0),
	FR_CASE_DENSE(576, 576, 16, 320, FR_WITH_BIAS),
	FR_CASE_CACHED(ATTN, PREFILL, F16, 588, 1, 588, 32, 32, 128),
	FR_CASE_CACHED(ATTN, PREFILL, F16, 4704, 8, 588, 32, 32, 128),
	FR_CASE_CACHED(ATTN, DECODE, F16, 1, 1, 588, 32, 32, 128),
	FR_CASE_CACHED(ATTN, DECODE, F16, 1, 1, 1100, 32, 32, 128),
	FR_CASE_CACHED(ATTN, DECODE, F16, 4, 4, 1100, 32, 32, 128),
	FR_CASE_CACHED(ATTN, DECODE, F16, 16, 16, 1100, 32, 32, 128),
	FR_CASE_CACHED(ATTN, DECODE, F16, 1, 1, 4000, 32, 32, 128),
	/* the rest */
	FR_CASE_NORM(577, 1024, FR_WITH_BIAS),
	FR_CASE_NORM(588, 4096, 0),
	FR_CASE_NORM(4704, 4096, 0),
	FR_CASE_NORM(1, 4096, 0),
	FR_CASE_NORM(16, 4096, 0),
	FR_CASE_CACHED(ROPE, PREFILL, F16, 588, 1, 588, 32, 32, 128),
	FR_CASE_CACHED(ROPE, DECODE, F16, 1, 1, 588, 32, 32, 128),
	FR_CASE_CACHED(ROPE, DECODE, F16, 16, 16, 588, 32, 32, 128),
	FR_CASE_PATCH(BF16, 336, 14, 1024, 0),
	FR_CASE_PATCHES(8, BF16, 336, 14, 1024, 0),
	FR_CASE_EMBED(BF16, 588, 32064, 4096),
	FR_CASE_PICK(1, 32064, 0, 0),
	FR_CASE_PICK(16, 32064, 0, 0),
	FR_CASE_PICK(16, 32064, 0, FR_SAMPLED),
};

/* The arrays of a step, kept to the end: a recording is known by their addresses. */
struct arrays {
	struct arrays *next;
	int32_t *ids;
	struct fr_row *row;
	double *draw;
};

struct bench {
	const struct fr_bench_opts *opts;
	FILE *out;
	struct fr_cuda *d;
	struct fr_cuda_peaks peak;
	struct arrays *arrays;
};

struct set {
	struct fr_check *ck[MAX_COPIES];
	struct fr_check_run run[MAX_COPIES];
	int n, calls;
	const struct arrays *a;
};

static void drop_set(struct set *set)
{
	for (int i = 0; i < set->n; i++) {
		fr_check_unbind(&set->run[i]);
		fr_check_free(set->ck[i]);
	}
	free(set);
}

static struct arrays *take_arrays(struct bench *b, int m)
{
	struct arrays *a = calloc(1, sizeof *a);

	if (!a)
		return NULL;
	a->next = b->arrays;
	b->arrays = a;
	a->ids = calloc((size_t)m, sizeof *a->ids);
	a->row = calloc((size_t)m, sizeof *a->row);
	a->draw = calloc((size_t)m, sizeof *a->draw);
	return a->ids && a->row && a->draw ? a : NULL;
}

static void free_arrays(struct bench *b)
{
	while (b->arrays) {
		struct arrays *a = b->arrays;

		b->arrays = a->next;
		free(a->ids);
		free(a->row);
		free(a->draw);
		free(a);
	}
}

/* What the first copy brings from the host, into the step's arrays. */
static void share(const struct fr_check *ck, const struct arrays *a)
{
	size_t m = (size_t)ck->c.m;

	if (ck->ids)
		memcpy(a->ids, ck->ids, m * sizeof *a->ids);
	if (ck->row)
		memcpy(a->row, ck->row, m * sizeof *a->row);
	if (ck->draw)
		memcpy(a->draw, ck->draw, m * sizeof *a->draw);
}

/* The case with the step's arrays in place of its own, for one call. */
static void call(const struct set *set, int i)
{
	struct fr_check ck = *set->ck[i];
	struct fr_check_run one = set->run[i];

	ck.ids = ck.ids ? set->a->ids : NULL;
	ck.row = ck.row ? set->a->row : NULL;
	ck.draw = ck.draw ? set->a->draw : NULL;
	one.check = &ck;
	fr_check_call(&one);
}

/* The peak of arithmetic that a case is held against, per second. */
static double ceiling(const struct bench *b, const struct fr_check_case *c)
{
	int matrix = (c->op == FR_CHECK_LINEAR || c->op == FR_CHECK_GLU) ? c->dtype != FR_F32
		     : c->op == FR_CHECK_ATTN ? c->with & FR_DENSE || (c->phase == FR_PREFILL && c->dtype == FR_F16)
					      : 0;

	return !matrix ? b->peak.f32 : c->dtype == FR_BF16 ? b->peak.bf16 : b->peak.f16;
}

static struct set *make_set(struct bench *b, const struct fr_check_case *c, struct fr_error *err)
{
	struct set *set = calloc(1, sizeof *set);
	double total = 0, least;

	if (set)
		set->a = take_arrays(b, c->m ? c->m : 1);
	if (!set || !set->a) {
		free(set);
		fr_fail(err, FR_E_MEMORY, "not enough memory to measure a kernel");
		return NULL;
	}
	while (set->n < MAX_COPIES && total < COLD_BYTES / (b->d->info.simulated ? 64 : 1)) {
		int i = set->n;

		if (fr_check_new(c, (uint64_t)i + 1, &set->ck[i], err) != 0) {
			drop_set(set);
			return NULL;
		}
		set->n++;
		if (fr_check_bind(set->ck[i], &b->d->dev, &set->run[i], err) != 0) {
			drop_set(set);
			return NULL;
		}
		if (i == 0)
			share(set->ck[i], set->a);
		total += fr_bench_bytes(set->ck[i]);
	}
	least = fr_bench_bytes(set->ck[0]) / b->peak.read + fr_bench_operations(set->ck[0]) / ceiling(b, c) + 2e-6;
	set->calls = (int)(LONG / least) + 1;
	set->calls = set->calls > MAX_CALLS ? MAX_CALLS : set->calls < set->n ? set->n : set->calls;
	if (b->d->info.simulated)
		set->calls = set->n;
	return set;
}

/* One turn through all calls; 1 when it came from a recording. */
static int turn(struct bench *b, const struct set *set)
{
	struct fr_dev *dev = &b->d->dev;
	int m = set->ck[0]->c.m ? set->ck[0]->c.m : 1;

	if (dev->ops->step_begin(dev, set->a->ids, set->a->row, set->a->draw, m))
		return 1;
	for (int i = 0; i < set->calls; i++)
		call(set, i % set->n);
	dev->ops->step_end(dev);
	return 0;
}

static int measure(struct bench *b, const struct set *set, struct fr_samples *time, int *recorded, struct fr_error *err)
{
	const struct fr_cu *cu = b->d->cu;
	struct fr_dev *dev = &b->d->dev;
	double until = fr_bench_now() + b->opts->seconds;
	float ms = 0;

	turn(b, set); /* work memory grows; then it is recorded */
	turn(b, set);
	FR_TRY(dev->ops->sync(dev, err));
	time->n = 0;
	do {
		fr_cu_note(b->d, cu->mark(b->d->at, 0), "mark");
		*recorded = turn(b, set);
		fr_cu_note(b->d, cu->mark(b->d->at, 1), "mark");
		FR_TRY(dev->ops->sync(dev, err));
		fr_cu_note(b->d, cu->elapsed(b->d->at, &ms), "time between marks");
		fr_sample(time, (double)ms * 1e-3 / set->calls);
	} while (fr_bench_now() < until || time->n < 5);
	return 0;
}

static void print(const struct bench *b, const struct set *set, const char *name, struct fr_samples *time, int recorded)
{
	const struct fr_check *ck = set->ck[0];
	double median = fr_samples_median(time), flops = fr_bench_operations(ck) / median;
	double rate = fr_bench_bytes(ck) / median, of_sums = flops / ceiling(b, &ck->c), of_read = rate / b->peak.read;

	if (b->opts->json)
		fprintf(b->out,
			"{\"bench\":\"kernel\",\"name\":\"%s\",\"device\":\"%s\",\"us\":%.6g,\"us_least\":%.6g,\"us_"
			"most\":%.6g,"
			"\"runs\":%d,\"calls\":%d,\"copies\":%d,\"recorded\":%s,\"tflops\":%.5g,\"gbytes\":%.5g,"
			"\"share_arithmetic\":%.4g,\"share_read\":%.4g}\n",
			name, b->d->info.name, median * 1e6, fr_samples_min(time) * 1e6, fr_samples_max(time) * 1e6,
			time->n, set->calls, set->n, recorded ? "true" : "false", flops * 1e-12, rate * 1e-9, of_sums,
			of_read);
	else
		fprintf(b->out, "%-56s %10.2f %10.2f %10.2f %8.1f %8.1f %6.1f%% %6.1f%%%s\n", name, median * 1e6,
			fr_samples_min(time) * 1e6, fr_samples_max(time) * 1e6, flops * 1e-12, rate * 1e-9,
			100 * of_sums, 100 * of_read, recorded ? "" : "  launched one by one");
	fflush(b->out);
}

static int bench_row(struct bench *b, const struct fr_check_case *c, const char *name, struct fr_error *err)
{
	struct fr_samples *time = calloc(1, sizeof *time);
	struct set *set = make_set(b, c, err);
	int recorded = 0, rc = -1;

	if (set && !time)
		fr_fail(err, FR_E_MEMORY, "not enough memory to measure %s", name);
	else if (set)
		rc = measure(b, set, time, &recorded, err);
	if (rc == 0)
		print(b, set, name, time, recorded);
	if (set)
		drop_set(set);
	free(time);
	return rc;
}

static void print_peak(const struct bench *b)
{
	const struct fr_cuda_peaks *p = &b->peak;

	if (b->opts->json)
		fprintf(b->out,
			"{\"bench\":\"peak\",\"device\":\"%s\",\"sms\":%d,\"read_gbytes\":%.5g,\"copy_gbytes\":%.5g,"
			"\"bf16_tflops\":%.5g,\"f16_tflops\":%.5g,\"f32_tflops\":%.5g,\"gap_us\":%.4g}\n",
			b->d->info.name, b->d->info.sms, p->read * 1e-9, p->copy * 1e-9, p->bf16 * 1e-12,
			p->f16 * 1e-12, p->f32 * 1e-12, p->gap * 1e6);
	else
		fprintf(b->out,
			"%s, %d multiprocessors; measured: %.0f GB/s read, %.0f GB/s copied (read + written), %.1f and "
			"%.1f TFLOP/s bf16 and f16 on tensor cores, %.1f TFLOP/s float32, %.2f us between kernels\n",
			b->d->info.name, b->d->info.sms, p->read * 1e-9, p->copy * 1e-9, p->bf16 * 1e-12,
			p->f16 * 1e-12, p->f32 * 1e-12, p->gap * 1e6);
	fflush(b->out);
}

/* The device with its peaks, said. What is to be closed is b->d, NULL: nothing. */
static int open_bench(struct bench *b, struct fr_error *err)
{
	const struct fr_dev_opts o = {
		.backend = "cuda", .isa = b->opts->isa, .precise = b->opts->precise, .no_cublas = b->opts->no_cublas};
	struct fr_dev *dev;

	FR_TRY(fr_cuda_open(&o, &dev, err));
	b->d = (struct fr_cuda *)dev;
	FR_TRY(fr_cuda_peak(dev, &b->peak, err));
	print_peak(b);
	return 0;
}

static void close_bench(struct bench *b)
{
	if (b->d)
		b->d->dev.ops->close(&b->d->dev);
	free_arrays(b);
}

int fr_bench_gpu_peak(const struct fr_bench_opts *opts, FILE *out, struct fr_error *err)
{
	struct bench b = {.opts = opts, .out = out};
	int rc = open_bench(&b, err);

	close_bench(&b);
	return rc;
}

int fr_bench_gpu_kernels(const struct fr_bench_opts *opts, FILE *out, struct fr_error *err)
{
	struct fr_bench_opts o = *opts;
	struct bench b = {.opts = &o, .out = out};
	char name[160];
	int rc, shown = 0;

	o.seconds = opts->seconds > 0 ? opts->seconds : 0.3;
	rc = open_bench(&b, err);
	for (size_t i = 0; i < sizeof rows / sizeof *rows && rc == 0; i++) {
		fr_check_name(&rows[i], name, sizeof name);
		if (opts->filter && fnmatch(opts->filter, name, 0) != 0)
			continue;
		if (!shown++ && !opts->json)
			fprintf(out, "%-56s %10s %10s %10s %8s %8s %7s %7s\n", "kernel", "median us", "least", "most",
				"TFLOP/s", "GB/s", "of sums", "of read");
		rc = bench_row(&b, &rows[i], name, err);
	}
	if (rc == 0 && !shown)
		rc = fr_fail(err, FR_E_USAGE, "no kernel row matches \"%s\"", opts->filter);
	close_bench(&b);
	return rc;
}
