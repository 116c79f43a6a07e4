/* End to end against PyTorch in float32: random checkpoints of both models in ten shapes and layouts, every tap, 24
 * greedy tokens.
 *
 * For each case and level: pixels and ids exact, every intermediate and all logits agreed (bounds: tests/golden.h),
 * the ids of the steps equal; then ref and the other levels bit for bit in every tap, the inner ones included, with the
 * KV cache in float32 and in float16. What the cases are: tests/oracle/checkpoints.py, fakereasoning_cases.py. */
#include "e2e.h"

static const char *const levels[] = {"ref", "avx2", "avx512"};
#define LEVELS 3

/* The names without --tap are those of the golden, no more and no fewer. */
static void check_names(const char *name, const struct made *made, const struct golden *want)
{
	char label[128];
	const char *out;
	struct fr_error err;
	struct golden got;
	size_t extra = 0, missing = 0;

	snprintf(label, sizeof label, "exact/%s/names", name);
	out = files_path("names.safetensors");
	if (dump(name, &(struct fr_session_opts){.backend = "cpu", .isa = "ref", .kv_f32 = 1}, made, NULL, out, &err) ||
	    golden_open(out, &got, &err)) {
		test_fail(label, "%s", err.text);
		return;
	}
	for (size_t i = 0; i < got.t.n; i++)
		extra += !golden_find(want, got.t.at[i].name);
	for (size_t i = 0; i < want->t.n; i++)
		missing += !in_group(want->t.at[i].name, "noise.") && !in_group(want->t.at[i].name, "result.") &&
			   !golden_find(&got, want->t.at[i].name);
	CHECK(label, extra == 0 && missing == 0, "%zu names too many, %zu missing", extra, missing);
	golden_close(&got);
	remove(out);
}

static void run_case(const char *name)
{
	char label[128];
	struct golden want, got[LEVELS][2];
	struct made made;
	struct fr_error err;
	int have[LEVELS][2] = {{0}};

	if (case_open(name, &want, &made))
		return;
	check_names(name, &made, &want);
	for (int l = 0; l < LEVELS; l++) {
		for (int kv_f32 = 0; kv_f32 < 2; kv_f32++) {
			const struct fr_session_opts way = {
				.backend = "cpu", .isa = levels[l], .threads = 2, .kv_f32 = kv_f32};

			snprintf(label, sizeof label, "exact/%s/%s/%s", name, levels[l], kv_f32 ? "kv-f32" : "kv-f16");
			if (!cpu_has(levels[l]))
				test_skip(label, "this CPU lacks the level");
			else if (dump_open(name, &way, &made, &got[l][kv_f32], &err))
				test_fail(label, "%s", err.text);
			else
				have[l][kv_f32] = 1;
		}
		if (have[l][1])
			check_golden(name, levels[l], 1, &want, &got[l][1]);
	}
	for (int l = 1; l < LEVELS; l++)
		for (int kv_f32 = 0; kv_f32 < 2; kv_f32++) {
			snprintf(label, sizeof label, "exact/%s/%s-is-ref/%s", name, levels[l],
				 kv_f32 ? "kv-f32" : "kv-f16");
			if (have[0][kv_f32] && have[l][kv_f32])
				check_same(label, &got[0][kv_f32], &got[l][kv_f32]);
		}
	for (int l = 0; l < LEVELS; l++)
		for (int k = 0; k < 2; k++)
			if (have[l][k])
				golden_close(&got[l][k]);
	golden_close(&want);
}

/* usage: e2e [CASE] */
int main(int argc, char **argv)
{
	if (argc > 1)
		run_case(argv[1]);
	for (size_t i = 0; i < sizeof cases / sizeof *cases && argc < 2; i++)
		run_case(cases[i]);
	for (size_t i = 0; i < FR_CASES && argc < 2; i++)
		run_case(fr_cases[i]);
	return test_done();
}
