/* The measurements run and print what they promise, and the known answers of the selftest hold. Times are not judged.
 */
#include "test.h"
#include "../bench/bench.h"

#include <cjson/cJSON.h>

/* All that `run` writes, NUL-terminated; the caller frees. NULL and *err on failure. */
static char *output_of(int (*run)(const struct fr_bench_opts *, FILE *, struct fr_error *),
		       const struct fr_bench_opts *opts, struct fr_error *err)
{
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);
	int rc = run(opts, f, err);

	fclose(f);
	if (rc == 0)
		return text;
	free(text);
	return NULL;
}

/* Every line is a JSON object in which the named numbers are positive. */
static int lines_have(const char *text, const char *const *keys, int *lines)
{
	for (*lines = 0; text && *text; (*lines)++) {
		const char *end = strchr(text, '\n');
		cJSON *o = cJSON_ParseWithLength(text, end ? (size_t)(end - text) : strlen(text));
		int good = o && end;

		for (int i = 0; good && keys[i]; i++)
			good = cJSON_GetNumberValue(cJSON_GetObjectItem(o, keys[i])) > 0;
		cJSON_Delete(o);
		if (!good)
			return 0;
		text = end + 1;
	}
	return *lines > 0;
}

static int run_selftest(const struct fr_bench_opts *opts, FILE *out, struct fr_error *err)
{
	(void)opts;
	return fr_selftest(out, err);
}

int main(void)
{
	static const char *const peak_keys[] = {"threads", "gflops", "gbytes", NULL};
	static const char *const kernel_keys[] = {"ms_best",	 "ms_median",	"gflops",    "gbytes",
						  "peak_gflops", "peak_gbytes", "share_fma", NULL};
	static const char *const stages[] = {"exact/bench/model/load", "exact/bench/model/vision",
					     "exact/bench/model/prefill", "exact/bench/model/verdict",
					     "exact/bench/model/decode"};
	struct fr_bench_opts opts = {.isa = "cpu-ref", .threads = 2, .json = 1, .seconds = 0.01};
	struct fr_error err = {0};
	int lines = 0;
	char *text = output_of(fr_bench_peak, &opts, &err);

	CHECK("exact/bench/peak", lines_have(text, peak_keys, &lines) && lines == 2, "%d lines, %s: %s", lines,
	      err.text, text ? text : "no text");
	free(text);
	opts.filter = "norm_*/m1_*";
	text = output_of(fr_bench_kernels, &opts, &err);
	CHECK("exact/bench/kernels", lines_have(text, kernel_keys, &lines) && lines == 1, "%d lines, %s: %s", lines,
	      err.text, text ? text : "no text");
	free(text);
	opts.filter = "no such kernel";
	text = output_of(fr_bench_kernels, &opts, &err);
	CHECK("exact/bench/no_row", !text && err.code == FR_E_USAGE, "code %d: %s", (int)err.code, err.text);
	free(text);
	opts.isa = "mmx";
	text = output_of(fr_bench_kernels, &opts, &err);
	CHECK("exact/bench/no_isa", !text && err.code == FR_E_USAGE, "code %d: %s", (int)err.code, err.text);
	free(text);
	opts = (struct fr_bench_opts){
		.model = {.path = "demo"}, .backend = "cpu", .threads = 2, .json = 1, .seconds = 0.01, .batch = 2};
	text = output_of(fr_bench_model, &opts, &err);
	for (size_t i = 0; i < sizeof stages / sizeof *stages; i++)
		CHECK(stages[i], text && strstr(text, strrchr(stages[i], '/') + 1), "%s: %s", err.text,
		      text ? text : "no text");
	free(text);
	text = output_of(run_selftest, &opts, &err);
	CHECK("exact/selftest", text && strstr(text, "\nok ") && !strstr(text, "FAIL"), "%s\n%s", err.text,
	      text ? text : "");
	free(text);
	return test_done();
}
