/* `fr-run bench peak`: the best of many short bursts, for every level of this CPU, with one thread and with all.
 *
 * The best and not the mean: other work on the machine can only take away. Memory is read from a mapped file in pages
 * of the usual size, as weights are, and far more of it than any cache holds. */
#include "bench.h"
#include "../kernels/cpu/peak.h"

#include <string.h>

#define READ_BYTES ((size_t)512 << 20)

static const char *const levels[] = {"cpu-ref", "avx2", "avx512", "avx512bf16", "amx"};

struct row {
	const char *isa;
	double fma[2], pairs[2], read[2]; /* one thread, all threads; per second. pairs: of bf16, 0 for none */
	int threads[2];
};

static int measure(struct row *row, int all, const struct fr_bench_opts *opts, const void *memory, struct fr_error *err)
{
	struct fr_dev_opts dev_opts = {.backend = "cpu", .isa = row->isa, .threads = all ? opts->threads : 1};
	double seconds = opts->seconds > 0 ? opts->seconds : 1, until;
	struct fr_dev *dev;

	FR_TRY(fr_dev_open(&dev_opts, &dev, err));
	row->threads[all] = dev->threads;
	until = fr_bench_now() + seconds;
	do {
		double fma = fr_cpu_peak_fma(dev), pairs = fr_cpu_peak_pairs(dev),
		       read = fr_cpu_peak_read(dev, memory, READ_BYTES);

		row->fma[all] = fma > row->fma[all] ? fma : row->fma[all];
		row->pairs[all] = pairs > row->pairs[all] ? pairs : row->pairs[all];
		row->read[all] = read > row->read[all] ? read : row->read[all];
	} while (fr_bench_now() < until);
	dev->ops->close(dev);
	return 0;
}

static void print_row(const struct row *row, const struct fr_bench_opts *opts, FILE *out)
{
	for (int all = 0; all < 2; all++) {
		double fma = row->fma[all] * 1e-9, pairs = row->pairs[all] * 1e-9, read = row->read[all] * 1e-9;
		char bf16[32] = "-";

		if (pairs > 0 || opts->json)
			snprintf(bf16, sizeof bf16, pairs > 0 ? "%.2f" : "null", pairs);
		if (opts->json)
			fprintf(out,
				"{\"bench\":\"peak\",\"isa\":\"%s\",\"threads\":%d,\"gflops\":%.2f,\"gflops_bf16\":%s,"
				"\"gbytes\":%.2f}\n",
				row->isa, row->threads[all], fma, bf16, read);
		else
			fprintf(out, "%-12s %7d %14.1f %14s %14.1f\n", row->isa, row->threads[all], fma, bf16, read);
	}
	fflush(out);
}

int fr_bench_peak(const struct fr_bench_opts *opts, FILE *out, struct fr_error *err)
{
	void *memory;
	char machine[512];
	int rc = 0;

	if (opts->backend && strcmp(opts->backend, "cuda") == 0)
		return fr_bench_gpu_peak(opts, out, err);
	memory = fr_bench_map(READ_BYTES);
	if (!memory)
		return fr_fail(err, FR_E_MEMORY, "cannot map %zu MiB to measure the memory", READ_BYTES >> 20);
	fr_machine(machine, sizeof machine);
	if (!opts->json)
		fprintf(out, "%s\n%-12s %7s %14s %14s %14s\n", machine, "isa", "threads", "FMA GFLOP/s", "bf16 GFLOP/s",
			"read GB/s");
	for (size_t i = 0; i < sizeof levels / sizeof *levels && rc == 0; i++) {
		struct row row = {.isa = levels[i]};
		struct fr_dev_opts probe = {.backend = "cpu", .isa = row.isa, .threads = 1};
		struct fr_dev *dev;

		if (opts->isa && strcmp(opts->isa, row.isa) != 0)
			continue;
		if (fr_dev_open(&probe, &dev, err) != 0) {
			rc = opts->isa ? -1 : 0;
			continue;
		}
		dev->ops->close(dev);
		rc = measure(&row, 0, opts, memory, err);
		if (rc == 0)
			rc = measure(&row, 1, opts, memory, err);
		if (rc == 0)
			print_row(&row, opts, out);
	}
	fr_bench_unmap(memory, READ_BYTES);
	return rc;
}
