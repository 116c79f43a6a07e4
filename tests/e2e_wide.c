/* FakeReasoning at its real widths against PyTorch in float32: hidden 5120, 40 heads of 128, fusion of 16 heads of 320
 * with an FFN of 20480, towers of 1024; few layers, a picture of 56 pixels, a position table resized from 37 x 37.
 *
 * The weights are made here (tests/wide.h), 1.4 GB in $B or the temporary folder, and gone when the test ends. The
 * golden holds 1024 values of each tap (tests/oracle/fakereasoning_wide.py). usage: e2e_wide [LEVEL...]: the levels
 * that this CPU has, of avx2 and avx512 (ref takes minutes). */
#include "wide_golden.h"

#ifdef __SANITIZE_ADDRESS__ /* a minute, for nothing that the small checkpoints do not show it */
#define SANITIZED 1
#else
#define SANITIZED 0
#endif
static void run(const struct fr_model *model, const struct golden *want, const struct made *made, char **levels, int n)
{
	struct golden got, first;
	struct fr_error err;
	const char *of = NULL;
	char label[96];

	for (int l = 0; l < n; l++) {
		snprintf(label, sizeof label, "agreed/" WIDE "/%s", levels[l]);
		if (!cpu_has(levels[l])) {
			test_skip(label, "this CPU lacks the level");
			continue;
		}
		if (dump_wide(model, made, &(struct fr_session_opts){.backend = "cpu", .isa = levels[l], .kv_f32 = 1},
			      &got, &err)) {
			test_fail(label, "%s", err.text);
			continue;
		}
		check_wide(levels[l], 1, want, &got);
		if (!of) {
			of = levels[l];
			first = got;
			continue;
		}
		snprintf(label, sizeof label, "exact/" WIDE "/%s-is-%s", levels[l], of);
		check_same(label, &first, &got);
		golden_close(&got);
	}
	if (of)
		golden_close(&first);
}

int main(int argc, char **argv)
{
	static char *both[] = {"avx2", "avx512"};
	struct fr_model *model;
	struct golden want;
	struct made made;

	if (SANITIZED) {
		test_skip("agreed/" WIDE, "not with the address sanitizer");
		return test_done();
	}
	if (open_wide(&model, &want, &made))
		return test_done();
	run(model, &want, &made, argc > 1 ? argv + 1 : both, argc > 1 ? argc - 1 : 2);
	fr_model_free(model);
	golden_close(&want);
	return test_done();
}
