/* `fr-run bench peak`: the best of many short bursts, for every level of this CPU, with one thread to all of them.
 *
 * The best and not the mean: other work on the machine can only take away. Memory is read from a mapped file in pages
 * of the usual size, as weights are, and far more of it than any cache holds. Up to 8 threads each count is measured,
 * beyond that the powers of two and the last. */
#include "bench.h"
#include "../kernels/cpu/peak.h"

#include <string.h>

#define READ_BYTES ((size_t)512 << 20)

static const char *const levels[] = {"cpu-ref", "avx2", "avx512", "avx512bf16", "amx"};

static const char *const keys[FR_PEAKS] = {[FR_PEAK_FMA] = "gflops",
					   [FR_PEAK_BF16] = "gflops_bf16",
					   [FR_PEAK_INT8] = "gops_int8",
					   [FR_PEAK_BF16_TILES] = "gflops_bf16_tiles",
					   [FR_PEAK_INT8_TILES] = "gops_int8_tiles"};

struct row {
	const char *isa;
	int threads;
	double peak[FR_PEAKS], read; /* per second; 0: the level has none */
};

/* threads 0: as many as there are. */
static int measure(struct row *row, int threads, const struct fr_bench_opts *opts, const void *memory,
		   struct fr_error *err)
{
	struct fr_dev_opts dev_opts = {.backend = "cpu", .isa = row->isa, .threads = threads};
	double seconds = opts->seconds > 0 ? opts->seconds : 1, until;
	struct fr_dev *dev;

	FR_TRY(fr_dev_open(&dev_opts, &dev, err));
	row->threads = dev->threads;
	until = fr_bench_now() + seconds;
	do {
		double read = fr_cpu_peak_read(dev, memory, READ_BYTES);

		row->read = read > row->read ? read : row->read;
		for (int k = 0; k < FR_PEAKS; k++) {
			double rate = fr_cpu_peak(dev, (enum fr_peak)k);

			row->peak[k] = rate > row->peak[k] ? rate : row->peak[k];
		}
	} while (fr_bench_now() < until && !fr_bench_stopped(opts));
	dev->ops->close(dev);
	return 0;
}

static void print_head(const struct fr_bench_opts *opts, FILE *out)
{
	char machine[512];

	fr_machine(opts->isa, machine, sizeof machine);
	fprintf(out, "%s\nmultiply-adds on registers in 1e9 operations a second, reading in GB/s\n%-10s %7s", machine,
		"isa", "threads");
	for (int k = 0; k < FR_PEAKS; k++)
		fprintf(out, " %11s", fr_peak_names[k]);
	fprintf(out, " %9s\n", "read");
}

static void print_row(const struct row *row, const struct fr_bench_opts *opts, FILE *out)
{
	if (opts->json)
		fprintf(out, "{\"bench\":\"peak\",\"isa\":\"%s\",\"threads\":%d", row->isa, row->threads);
	else
		fprintf(out, "%-10s %7d", row->isa, row->threads);
	for (int k = 0; k < FR_PEAKS; k++) {
		char rate[32] = "-";

		if (row->peak[k] > 0)
			snprintf(rate, sizeof rate, opts->json ? "%.2f" : "%.1f", row->peak[k] * 1e-9);
		if (opts->json)
			fprintf(out, ",\"%s\":%s", keys[k], row->peak[k] > 0 ? rate : "null");
		else
			fprintf(out, " %11s", rate);
	}
	fprintf(out, opts->json ? ",\"gbytes\":%.2f}\n" : " %9.1f\n", row->read * 1e-9);
	fflush(out);
}

/* The thread counts of a level, in a row each. */
static int bench_level(const char *isa, const struct fr_bench_opts *opts, const void *memory, FILE *out,
		       struct fr_error *err)
{
	struct row all = {.isa = isa};
	int rc = measure(&all, opts->threads, opts, memory, err);

	for (int n = 1; rc == 0 && n < all.threads && !fr_bench_stopped(opts); n = fr_bench_threads_after(n)) {
		struct row row = {.isa = isa};

		rc = measure(&row, n, opts, memory, err);
		if (rc == 0)
			print_row(&row, opts, out);
	}
	if (rc == 0)
		print_row(&all, opts, out);
	return rc;
}

int fr_bench_peak(const struct fr_bench_opts *opts, FILE *out, struct fr_error *err)
{
	const char *only = opts->isa && strcmp(opts->isa, "ref") == 0 ? "cpu-ref" : opts->isa;
	void *memory;
	int rc = 0;

	if (opts->backend && strcmp(opts->backend, "cuda") == 0)
		return fr_bench_gpu_peak(opts, out, err);
	memory = fr_bench_map(READ_BYTES);
	if (!memory)
		return fr_fail(err, FR_E_MEMORY, "cannot map %zu MiB to measure the memory", READ_BYTES >> 20);
	if (!opts->json)
		print_head(opts, out);
	for (size_t i = 0; i < sizeof levels / sizeof *levels && rc == 0 && !fr_bench_stopped(opts); i++) {
		struct fr_dev_opts probe = {.backend = "cpu", .isa = levels[i], .threads = 1};
		struct fr_dev *dev;

		if (only && strcmp(only, levels[i]) != 0)
			continue;
		if (fr_dev_open(&probe, &dev, err) != 0) {
			rc = only ? -1 : 0;
			continue;
		}
		dev->ops->close(dev);
		rc = bench_level(levels[i], opts, memory, out, err);
	}
	fr_bench_unmap(memory, READ_BYTES);
	return rc;
}
