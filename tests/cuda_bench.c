/* `fr-run bench peak` and `kernels` with `--backend cuda` run and print what they promise. Times are not judged. */
#include "test.h"
#include "cuda_test.h"
#include "../bench/bench.h"

#include <cjson/cJSON.h>

static int positive(const char *text, const char *const *keys)
{
	cJSON *o = cJSON_Parse(text);
	int good = o != NULL;

	for (int i = 0; good && keys[i]; i++)
		good = cJSON_GetNumberValue(cJSON_GetObjectItem(o, keys[i])) > 0;
	cJSON_Delete(o);
	return good;
}

/* What `run` writes, cut into lines: each has the positive numbers of its place, the last list's from there on. */
static void check_lines(const char *name, int (*run)(const struct fr_bench_opts *, FILE *, struct fr_error *),
			const struct fr_bench_opts *opts, const char *const *const *keys, int want)
{
	struct fr_error err = {0};
	char *text = NULL, *line, *rest, label[96];
	size_t size;
	FILE *f = open_memstream(&text, &size);
	int rc = run(opts, f, &err), n = 0;

	fclose(f);
	snprintf(label, sizeof label, "exact/cuda/bench/%s/runs", name);
	CHECK(label, rc == 0, "%s", err.text);
	for (line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest), n++) {
		snprintf(label, sizeof label, "exact/cuda/bench/%s/line-%d", name, n + 1);
		CHECK(label, n < want && positive(line, keys[n]), "%s", line);
	}
	snprintf(label, sizeof label, "exact/cuda/bench/%s/lines", name);
	CHECK(label, n == want, "%d lines, expected %d", n, want);
	free(text);
}

int main(void)
{
	static const char *const peak[] = {"sms", "read_gbytes", "copy_gbytes", "bf16_tflops", "f32_tflops", NULL};
	static const char *const row[] = {"us", "us_least", "us_most", "runs", "calls", "gbytes", "share_read", NULL};
	static const char *const *const keys[] = {peak, row};
	struct fr_bench_opts opts = {.backend = "cuda", .json = 1, .seconds = 0.01, .filter = "norm_rms/m1_*"};
	struct fr_error err = {0};

	choose_device();
	check_lines("kernels", fr_bench_kernels, &opts, keys, 2);
	opts.precise = opts.no_cublas = 1;
	check_lines("precise", fr_bench_kernels, &opts, keys, 2);
	check_lines("peak", fr_bench_peak, &opts, keys, 1);
	opts.isa = "avx2";
	CHECK("exact/cuda/bench/isa", fr_bench_peak(&opts, stdout, &err) != 0 && err.code == FR_E_USAGE, "code %d: %s",
	      (int)err.code, err.text);
	return test_done();
}
