/* The kernel check, bounded half: the plain instance against the same operation in double (kernel_bounds.h), as it is
 * and with the roundings of the CUDA instance and of the levels avx512bf16 and amx. */
#include "test.h"
#include "kernel_rows.h"
#include "kernel_bounds_map.h"

#include <fnmatch.h>

static void check_row(const struct fr_check_case *c, uint64_t seed, struct fr_dev *ref, const char *who,
		      const struct party *party)
{
	struct fr_check *ck;
	struct fr_check_run run = {0};
	struct fr_error err;
	char name[160], full[192];

	snprintf(full, sizeof full, "bounded/%s/%s", who, fr_check_name(c, name, sizeof name));
	if (fr_check_new(c, seed, &ck, &err) != 0) {
		test_fail(full, "%s", err.text);
		return;
	}
	if (fr_check_bind(ck, ref, &run, &err) != 0) {
		test_fail(full, "%s", err.text);
	} else {
		fr_check_call(&run);
		if (fr_check_collect(&run, &err) != 0) {
			test_fail(full, "%s", err.text);
		} else {
			struct tally t = check_bounds(&run, party);

			CHECK(full, within_bounds(&t),
			      "%zu of %zu values not finite; rms %.3f of a walk; worst at %zu: got %.9g, want %.9g, "
			      "bound %.3g",
			      t.nonfinite, t.n, tally_walk(&t), t.worst, t.got, t.want, t.bound);
			printf("# %s: max-abs %.3g, rms %.3f of a walk, worst %.3f of its bound at %zu: got %.9g, want "
			       "%.9g, bound %.3g\n",
			       full, t.max_abs, tally_walk(&t), t.ratio, t.worst, t.got, t.want, t.bound);
		}
	}
	fr_check_unbind(&run);
	fr_check_free(ck);
}

/* Of a party that multiplies in pairs or tiles only those products: the rest is ref's, and so is q8_0. Where the rounding
 * of x depends on the weights' type, each product has its own. */
static int wanted(const struct fr_check_case *c, const struct party *party, const char *pattern)
{
	int tiles = party->tiles && c->phase == FR_PREFILL;
	char name[160];

	if (c->dtype == FR_Q8_0 && (party->pairs || party->rounds))
		return 0;
	if (c->with & FR_MIXED && !tiles && (party->pairs || party->rounds))
		return 0;
	if (party->pairs && c->op == FR_CHECK_ATTN)
		return c->with & FR_DENSE && c->dtype == FR_BF16 &&
		       fnmatch(pattern, fr_check_name(c, name, sizeof name), 0) == 0;
	if (party->pairs && ((c->dtype != FR_BF16 && !tiles) ||
			     (c->op != FR_CHECK_LINEAR && c->op != FR_CHECK_GLU && c->op != FR_CHECK_PATCH)))
		return 0;
	return fnmatch(pattern, fr_check_name(c, name, sizeof name), 0) == 0;
}

int main(int argc, char **argv)
{
	static struct fr_check_case rows[MAX_ROWS];
	static const struct {
		const char *who, *roundings;
		struct party party;
	} runs[] = {
		{"ref", NULL, {0}},
		{"ref-cuda", "cuda", {.rounds = 1, .rows = 20, .cols = 20}},
		{"ref-cuda-precise", "cuda-precise", {.rounds = 1, .precise = 1, .rows = 20, .cols = 20}},
		{"ref-avx512bf16", "avx512bf16", {.pairs = 1, .rows = 20, .cols = 20}},
		{"ref-avx512bf16-precise", "avx512bf16-precise", {.pairs = 2, .rows = 20, .cols = 20}},
		{"ref-amx", "amx", {.pairs = 1, .tiles = 1, .rows = 20, .cols = 20}},
		{"ref-amx-precise", "amx-precise", {.pairs = 2, .tiles = 1, .rows = 20, .cols = 20}},
	};
	int n = kernel_rows(rows);

	for (size_t k = 0; k < sizeof runs / sizeof *runs; k++) {
		struct fr_dev_opts opts = {.backend = "cpu", .isa = "ref", .roundings = runs[k].roundings};
		struct fr_dev *ref;
		struct fr_error err;

		if (fr_dev_open(&opts, &ref, &err) != 0) {
			test_fail("bounded/ref", "%s", err.text);
			continue;
		}
		for (int i = 0; i < n; i++)
			if (wanted(&rows[i], &runs[k].party, argc > 1 ? argv[1] : "*"))
				check_row(&rows[i], (uint64_t)i + 1, ref, runs[k].who, &runs[k].party);
		ref->ops->close(ref);
	}
	return test_done();
}
