/* `fr-run bench kernels --backend cuda` runs and prints what it promises. Times are not judged. */
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

int main(void)
{
	static const char *const peak_keys[] = {"sms", "read_gbytes", "copy_gbytes", "bf16_tflops", "f32_tflops", NULL};
	static const char *const row_keys[] = {"us",	"us_least", "us_most",	  "runs",
					       "calls", "gbytes",   "share_read", NULL};
	const struct fr_bench_opts opts = {.backend = "cuda", .json = 1, .seconds = 0.01, .filter = "norm_rms/m1_*"};
	struct fr_error err = {0};
	char *text = NULL, *line, *rest;
	size_t size;
	FILE *f = open_memstream(&text, &size);
	int rc, n = 0;

	choose_device();
	rc = fr_bench_kernels(&opts, f, &err);
	fclose(f);
	CHECK("exact/cuda/bench/runs", rc == 0, "%s", err.text);
	for (line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest), n++)
		CHECK(n ? "exact/cuda/bench/row" : "exact/cuda/bench/peak", positive(line, n ? row_keys : peak_keys),
		      "%s", line);
	CHECK("exact/cuda/bench/lines", n == 2, "%d lines", n);
	free(text);
	return test_done();
}
