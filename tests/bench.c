/* The measurements run and print what they promise, and the known answers of the selftest hold. Times are not judged.
 */
#include "test.h"
#include "../bench/bench.h"
#include "../kernels/cpu/cpu.h"
#include "../kernels/cpu/peak.h"

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

static void check_peak_and_kernels(void)
{
	static const char *const peak_keys[] = {"threads", "gflops", "gbytes", NULL};
	static const char *const kernel_keys[] = {"ms_best",	 "ms_median",	"gflops",    "gbytes",
						  "peak_gflops", "peak_gbytes", "share_fma", NULL};
	struct fr_bench_opts opts = {.isa = "cpu-ref", .threads = 3, .json = 1, .seconds = 0.01};
	struct fr_error err = {0};
	int lines = 0;
	char *text = output_of(fr_bench_peak, &opts, &err);

	CHECK("exact/bench/peak", lines_have(text, peak_keys, &lines) && lines == 3, "%d lines, %s: %s", lines,
	      err.text, text ? text : "no text");
	free(text);
	opts.threads = 2;
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
}

/* Operations per round, as the instructions have them: 16 lanes of pairs are 64 operations, a tile of 16 x 16 x 32
 * twice as many as that has items. */
static void check_loops(void)
{
	enum fr_level found = fr_level_found();
	static const struct {
		const char *name;
		enum fr_level level;
		double (*loop)(long n);
		double per_round;
	} loops[] = {
		{"fma_ref", FR_LEVEL_REF, fr_peak_fma_ref, 10 * 4 * 2},
		{"fma_avx2", FR_LEVEL_AVX2, fr_peak_fma_avx2, 10 * 8 * 2},
		{"int8_avx2", FR_LEVEL_AVX2, fr_peak_int8_avx2, 8 * 32 * 2},
		{"fma_avx512", FR_LEVEL_AVX512, fr_peak_fma_avx512, 10 * 16 * 2},
		{"int8_avx512", FR_LEVEL_AVX512, fr_peak_int8_avx512, 8 * 64 * 2},
		{"bf16_avx512bf16", FR_LEVEL_AVX512BF16, fr_peak_bf16_avx512bf16, 10 * 32 * 2},
		{"int8_avx512bf16", FR_LEVEL_AVX512BF16, fr_peak_int8_avx512bf16, 10 * 64 * 2},
	};

	for (size_t i = 0; i < sizeof loops / sizeof *loops; i++) {
		char name[64];
		double ops;

		snprintf(name, sizeof name, "exact/bench/loop/%s", loops[i].name);
		if (loops[i].level > found) {
			test_skip(name, "this CPU does not have the level");
			continue;
		}
		ops = loops[i].loop(1000);
		CHECK(name, ops == 1000 * loops[i].per_round, "%g operations in 1000 rounds, expected %g each", ops,
		      loops[i].per_round);
	}
}

/* ---- model ---- */

/* The JSON line of that name, NULL: none; the caller deletes it. */
static cJSON *line_named(const char *text, const char *name)
{
	while (text && *text) {
		const char *end = strchr(text, '\n');
		cJSON *o = cJSON_ParseWithLength(text, end ? (size_t)(end - text) : strlen(text));
		const char *is = cJSON_GetStringValue(cJSON_GetObjectItem(o, "name"));

		if (is && strcmp(is, name) == 0)
			return o;
		cJSON_Delete(o);
		text = end ? end + 1 : NULL;
	}
	return NULL;
}

static void check_stage(const char *text, const char *name, const char *const *keys)
{
	cJSON *o = line_named(text, name);
	const char *missing = o ? NULL : "the line";
	char label[96];

	for (int i = 0; o && keys[i]; i++)
		if (!(cJSON_GetNumberValue(cJSON_GetObjectItem(o, keys[i])) > 0))
			missing = keys[i];
	cJSON_Delete(o);
	snprintf(label, sizeof label, "exact/bench/model/%s", name);
	CHECK(label, !missing, "no %s in %s", missing, text ? text : "no text");
}

static void check_model(void)
{
	static const char *const once[] = {"ms", "runs", NULL};
	static const char *const timed[] = {"ms", "ms_least", "ms_most", "ms_q1", "ms_q3", "rate", "items_s", NULL};
	static const char *const shared[] = {"ms",	    "gflops",	  "gbytes",  "peak_gflops",
					     "peak_gbytes", "share_peak", "threads", NULL};
	static const char *const memory[] = {"bytes", "most_bytes", "mapped_bytes", "anonymous_bytes", NULL};
	static const struct {
		const char *name;
		const char *const *keys;
	} lines[] = {
		{"load", once},
		{"session", once},
		{"first", once},
		{"memory/verdict", memory},
		{"image", timed},
		{"vision/b1", shared},
		{"projector/b1", shared},
		{"prefill/b1_m159", shared},
		{"verdict/b1", timed},
		{"prefill/b1_m64", shared},
		{"prefill/b1_m588", shared},
		{"decode/b1_kv159", shared},
		{"decode/b2_kv159", shared},
		{"decode/b2_kv600", shared},
		{"memory/text", memory},
	};
	struct fr_bench_opts opts = {
		.model = {.path = "demo"}, .backend = "cpu", .threads = 2, .json = 1, .seconds = 0.01, .batch = 2};
	struct fr_error err = {0};
	char *text = output_of(fr_bench_model, &opts, &err);

	for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
		check_stage(text, lines[i].name, lines[i].keys);
	CHECK("exact/bench/model/batch", text && !strstr(text, "decode/b4"), "%s", text ? text : err.text);
	free(text);
	opts.filter = "decode/b1_kv64";
	text = output_of(fr_bench_model, &opts, &err);
	CHECK("exact/bench/model/filter", text && strstr(text, opts.filter) && !strstr(text, "prefill"), "%s",
	      text ? text : err.text);
	free(text);
	opts.model.path = NULL;
	text = output_of(fr_bench_model, &opts, &err);
	CHECK("exact/bench/model/none", !text && err.code == FR_E_USAGE, "code %d: %s", (int)err.code, err.text);
	free(text);
}

int main(void)
{
	struct fr_error err = {0};
	char *text;

	check_peak_and_kernels();
	check_loops();
	check_model();
	text = output_of(run_selftest, NULL, &err);
	CHECK("exact/selftest", text && strstr(text, "\nok ") && !strstr(text, "FAIL"), "%s\n%s", err.text,
	      text ? text : "");
	free(text);
	return test_done();
}
