/* End to end where weights meet activations rounded to bf16 (levels avx512bf16, ops.h "pairs", and amx, "tiles"): the
 * small checkpoints, every tap, 24 greedy tokens. The plain instance with the same roundings runs on any machine, so
 * the bounds are checked everywhere; the level itself has its bits, where the CPU has the level.
 *
 * agreed/  Two terms (precise): within PRECISE_LIMIT times the limits of the float32 goldens. What two terms leave out
 *          of a value is 2^-17 of it at most. The rounding error of the second is uniform in half an ulp, and its
 *          exponent lower by j with probability 2^-j: the rms is 0.32 of that over all fractions, 41 u. The goldens count u sqrt(K) of sums of 40 to 344 terms, at least 6.3 u.
 *          One term: within TERM_LIMIT times those limits. Half an ulp of 8 bits is 2^-8 of a value at most; over all
 *          fractions the rms is 2^-8 / sqrt(3) * 0.73 = 1.65e-3 = 27700 u. The same for every input of a sum moves it
 *          by as many u of the row's size, against the same 6.3 u.
 *          Weights are exact in their terms.
 * exact/   The bits of the level and of the plain instance with its roundings are equal; where nothing is rounded both
 *          are those of ref: in pairs without bf16 weights. */
#include "e2e.h"
#include "tile_host/tile_host.h"

#define PRECISE_LIMIT (1 + 41 / 6.3)
#define TERM_LIMIT (27700 / 6.3)

static const struct {
	const char *name, *isa, *level;
	int precise, tiles;
	double limit;
} ways[] = {
	{"avx512bf16", "ref-avx512bf16", "avx512bf16", 0, 0, TERM_LIMIT},
	{"avx512bf16-precise", "ref-avx512bf16-precise", "avx512bf16", 1, 0, PRECISE_LIMIT},
	{"amx", "ref-amx", "amx", 0, 1, TERM_LIMIT},
	{"amx-precise", "ref-amx-precise", "amx", 1, 1, PRECISE_LIMIT},
};
#define WAYS (int)(sizeof ways / sizeof *ways)

static float logit(const struct golden *g, int i)
{
	const struct fr_tensor *t = golden_find(g, "verdict.logits");
	float v = NAN;

	if (t && t->bytes >= 4 * (size_t)(i + 1))
		memcpy(&v, (const char *)t->data + 4 * i, 4);
	return v;
}

static int has_bf16(const char *name)
{
	static const char *const without[] = {"old-f32", "new-f16-688", "fr-merged-f16"};

	for (size_t i = 0; i < sizeof without / sizeof *without; i++)
		if (strcmp(name, without[i]) == 0)
			return 0;
	return 1;
}

/* verdict.logits is [real, fake]. */
static double p_fake(const struct golden *g)
{
	return 1 / (1 + exp((double)logit(g, 0) - (double)logit(g, 1)));
}

/* Two terms agree with the golden, tokens too; of one term a token may be another, and what follows it then. */
static void check_limits(const char *name, int way, const struct golden *want, const struct golden *got)
{
	static const char *const groups[] = {"vision.", "projector.", "clip.",	"dino.",
					     "fusion.", "decoder.",   "logits", "verdict."};

	const double limit = ways[way].limit;

	if (ways[way].precise) {
		check_golden(name, ways[way].name, limit, want, got);
		return;
	}
	check_group(name, ways[way].name, "pixels", 0, want, got);
	check_group(name, ways[way].name, "input_ids", 0, want, got);
	for (size_t i = 0; i < sizeof groups / sizeof *groups; i++)
		if (has_group(want, groups[i]))
			check_group(name, ways[way].name, groups[i], limit, want, got);
}

static void run_way(const char *name, int w, const struct made *made, const struct golden *want,
		    const struct golden *plain)
{
	struct fr_session_opts way = {.backend = "cpu", .isa = ways[w].isa, .threads = 2, .kv_f32 = 1};
	int rounds = ways[w].tiles || has_bf16(name);
	struct golden got, fast;
	struct fr_error err;
	char label[128];

	snprintf(label, sizeof label, "exact/%s/%s", name, ways[w].name);
	if (dump_open(name, &way, made, &got, &err)) {
		test_fail(label, "%s", err.text);
		return;
	}
	printf("# %s p_fake %.6f, float32 %.6f, apart %.2e\n", label, p_fake(&got), p_fake(plain),
	       p_fake(&got) - p_fake(plain));
	if (rounds)
		check_limits(name, w, want, &got);
	else
		check_same(label, plain, &got);
	snprintf(label, sizeof label, "exact/%s/%s-is-ref", name, ways[w].name);
	way.isa = ways[w].level;
	way.precise = ways[w].precise;
	if (!cpu_has(ways[w].level)) {
		test_skip(label, "this CPU lacks the level");
	} else if (dump_open(name, &way, made, &fast, &err)) {
		test_fail(label, "%s", err.text);
	} else {
		check_same(label, &got, &fast);
		golden_close(&fast);
	}
	golden_close(&got);
}

static void run_case(const char *name)
{
	const struct fr_session_opts way = {.backend = "cpu", .isa = "ref", .kv_f32 = 1};
	struct golden want, plain;
	struct made made;
	struct fr_error err;

	if (case_open(name, &want, &made))
		return;
	if (dump_open(name, &way, &made, &plain, &err)) {
		test_fail(name, "ref: %s", err.text);
	} else {
		for (int w = 0; w < WAYS; w++)
			run_way(name, w, &made, &want, &plain);
		golden_close(&plain);
	}
	golden_close(&want);
}

/* usage: e2e_bf16 [CASE] */
int main(int argc, char **argv)
{
	tile_host_install();
	if (argc > 1)
		run_case(argv[1]);
	for (size_t i = 0; i < sizeof cases / sizeof *cases && argc < 2; i++)
		run_case(cases[i]);
	for (size_t i = 0; i < FR_CASES && argc < 2; i++)
		run_case(fr_cases[i]);
	return test_done();
}
