/* End to end on the CUDA instance: the small checkpoints and the demo model, on the host shim or (FR_TEST_DEVICE=cuda)
 * on a device.
 *
 * agreed/  With precise and a float32 cache: within the limits of the float32 goldens, every tap and 24 greedy tokens.
 *          Those limits suppose products of 24 bits; two bf16 terms hold 16 to 17, an input is off by up to 2^-18 (rms
 *          about 20 u), which at these depths (40 to 344, so u sqrt(K) = 6 to 19 u) is as much again as the limits
 * allow for: PRECISE_LIMIT times them. ref with the same roundings reaches 1.35. Of the demo model text, verdict and
 *          logits: the patches of its pictures cancel, and two terms of a pixel are 13 float32 limits away just there.
 * bounded/ In the default precision, against ref with the device's roundings (--isa ref-cuda). It differs in the order
 * of sums, which moves a value across a rounding now and then, and in the softmax's weights, which enter their product
 * as f16: roundings like those that ref-cuda makes and ref does not, and no larger. Two independent draws of as many
 * roundings are sqrt(2) as far from each other as one is from none: DEFAULT_LIMIT times the distance from ref-cuda to
 * ref. Tokens are equal, but where the two best are closer than that. exact/   The same bits at batch 1, 3 and 5,
 * prefilled together or one by one, with and without the text, with steps recorded or called one by one, with no layer
 * and one layer on the device. */
#include "e2e.h"
#include "e2e_demo.h"
#include "repeat.h"
#include "wide_golden.h"
#include "cuda_test.h"

#define PRECISE_LIMIT 2.0
#define DEFAULT_LIMIT 2.0

static void check_precise(const char *name, const struct golden *want, const struct made *made)
{
	const struct fr_session_opts way = {.backend = "cuda", .precise = 1, .kv_f32 = 1, .no_cublas = !on_device()};
	struct golden got;
	struct fr_error err;

	if (dump_open(name, &way, made, &got, &err)) {
		test_fail(name, "cuda, precise: %s", err.text);
		return;
	}
	check_golden(name, "cuda-precise", PRECISE_LIMIT, want, &got);
	golden_close(&got);
}

static float item(const struct fr_tensor *t, size_t i)
{
	float v;

	memcpy(&v, (const char *)t->data + 4 * i, 4);
	return v;
}

/* Distance of the first `rows` rows of two dumps of one tensor; 0: all. */
static struct golden_gap apart(const struct fr_tensor *a, const struct fr_tensor *b, int64_t rows)
{
	static const float nothing[2];
	const struct fr_tensor noise = {.data = nothing};
	struct fr_tensor some = *b;

	if (rows)
		some.shape[0] = rows;
	return golden_compare(a, &some, &noise);
}

/* The three dumps of a case. */
struct runs {
	struct golden got, rounded, plain;
};

/* Steps whose logits can be compared: up to the first where got took another token, which must have been as good: as
 * close to the best as roundings move logits. */
static int check_tokens(const char *name, const struct runs *r)
{
	const struct fr_tensor *a = golden_find(&r->got, "steps.ids"), *b = golden_find(&r->rounded, "steps.ids");
	const struct fr_tensor *logits = golden_find(&r->rounded, "steps.logits");
	const struct fr_tensor *plain = golden_find(&r->plain, "steps.logits");
	const int32_t *ia = a ? a->data : NULL, *ib = b ? b->data : NULL;
	char label[128];
	size_t vocab = (size_t)logits->shape[1];
	int k = 0;
	double worst = 0, gap;

	snprintf(label, sizeof label, "bounded/%s/cuda/steps.ids", name);
	while (k < STEPS && ia[k] == ib[k])
		k++;
	if (k == STEPS) {
		test_ok(label);
		return STEPS;
	}
	for (size_t i = (size_t)k * vocab; i < (size_t)(k + 1) * vocab; i++)
		worst = fmax(worst, fabs((double)item(logits, i) - (double)item(plain, i)));
	gap = (double)item(logits, (size_t)k * vocab + (size_t)ib[k]) -
	      (double)item(logits, (size_t)k * vocab + (size_t)ia[k]);
	CHECK(label, gap <= 2 * DEFAULT_LIMIT * worst,
	      "step %d: token %d for %d, whose logit is %.3g higher; roundings move one by %.3g", k, ia[k], ib[k], gap,
	      worst);
	return k + 1;
}

static void check_distance(const char *name, const struct golden *want, const struct runs *runs, int steps)
{
	char label[128], noise_name[128], worst_name[96] = "nothing";
	double worst = 0;
	int n = 0;

	snprintf(label, sizeof label, "bounded/%s/cuda", name);
	for (size_t i = 0; i < want->t.n; i++) {
		const char *tap = want->t.at[i].name;
		const struct fr_tensor *g = golden_find(&runs->got, tap), *r = golden_find(&runs->rounded, tap),
				       *p = golden_find(&runs->plain, tap), *noise;
		int64_t rows;
		double off, own;

		snprintf(noise_name, sizeof noise_name, "noise.%s", tap);
		noise = golden_find(want, noise_name);
		if (!noise || want->t.at[i].dtype != FR_F32 || in_group(tap, "result."))
			continue;
		if (!g || !r || !p || !golden_same_shape(g, r)) {
			test_fail(label, "%s is missing or of another shape", tap);
			return;
		}
		rows = strcmp(tap, "steps.logits") == 0 ? steps : g->shape[0];
		off = apart(g, r, rows).rel;
		own = apart(r, p, rows).rel;
		if (strcmp(tap, "verdict.logits") ==
		    0) { /* two numbers: no farther off than the worst of a whole row */
			off = apart(g, r, 0).abs;
			own = apart(golden_find(&runs->rounded, "logits"), golden_find(&runs->plain, "logits"), 0).abs;
		}
		printf("# %s %s %.2e from ref-cuda, %.2e from there to ref\n", label, tap, off, own);
		n++;
		off /= DEFAULT_LIMIT * own + AGREED_SIGMAS * (double)item(noise, 0);
		if (!(off <= worst)) {
			worst = off;
			snprintf(worst_name, sizeof worst_name, "%s", tap);
		}
	}
	CHECK(label, n > 0 && worst <= 1, "%d tensors, %s at %.3g of its bound", n, worst_name, worst);
}

static void check_default(const char *name, const struct golden *want, const struct made *made)
{
	static const char *const isas[] = {NULL, "ref-cuda", "ref"};
	struct runs runs;
	struct golden *const run[] = {&runs.got, &runs.rounded, &runs.plain};
	struct fr_error err;
	int n = 0;

	for (; n < 3; n++) {
		const struct fr_session_opts way = {
			.backend = isas[n] ? "cpu" : "cuda", .isa = isas[n], .no_cublas = !on_device()};

		if (dump_open(name, &way, made, run[n], &err)) {
			test_fail(name, "%s: %s", isas[n] ? isas[n] : "cuda", err.text);
			break;
		}
	}
	if (n == 3) {
		check_group(name, "cuda", "pixels", 0, want, &runs.got);
		check_group(name, "cuda", "input_ids", 0, want, &runs.got);
		check_distance(name, want, &runs, check_tokens(name, &runs));
	}
	while (n--)
		golden_close(run[n]);
}

static void check_demo(void)
{
	const struct fr_session_opts way = {.backend = "cuda", .precise = 1, .kv_f32 = 1, .no_cublas = !on_device()};
	struct golden want;
	struct fr_error err;

	if (golden_open("tests/golden/demo/golden.safetensors", &want, &err)) {
		test_fail("agreed/demo/golden", "%s", err.text);
		return;
	}
	run_level(&want, "cuda-precise", &way, PRECISE_LIMIT, on_device() ? 12 : 1);
	golden_close(&want);
}

/* ---- the same bits ---- */

static struct fr_ops eager_ops;

/* Every step called anew: what records steps is taken out of the table. */
static void make_eager(struct fr_session *s)
{
	eager_ops = *s->dev->ops;
	eager_ops.step_begin = NULL;
	eager_ops.step_end = NULL;
	s->dev->ops = &eager_ops;
}

static const struct {
	const char *what;
	int batch, together, gpu_layers, verdict_only, eager;
} same[] = {
	{"batch-3", 3, 0, 0, 0, 0},
	{"batch-5/together-1", 5, 1, 0, 0, 0},
	{"batch-5/together-5", 5, 5, 0, 0, 0},
	{"verdict-only/batch-1", 1, 1, 0, 1, 0},
	{"verdict-only/batch-3", 3, 3, 0, 1, 0},
	{"eager", 1, 1, 0, 0, 1},
	{"eager/batch-3", 3, 3, 0, 0, 1},
	{"gpu-layers-none", 3, 2, -1, 0, 0},
	{"gpu-layers-1", 2, 2, 1, 0, 0},
};

/* Of the ways every `every`-th, the first among them. */
static void check_same_bits(const char *name, const struct fr_sampler *sampler, struct feed *f, size_t every)
{
	char label[160];
	struct fr_session_opts plain = {.backend = "cuda", .batch = 1, .no_cublas = !on_device(), .sampler = *sampler};
	struct fr_session_force alone = {.together = 1};
	struct fr_model *model;
	struct fr_error err;
	struct one want[IMAGES];

	snprintf(label, sizeof label, "exact/%s/cuda/%s", name, sampler->temperature > 0 ? "sampled" : "greedy");
	if (case_load(name, &model, &err)) {
		test_fail(label, "%s", err.text);
		return;
	}
	f->prepare = NULL;
	if (judge(model, plain, &alone, f, &err)) {
		test_fail(label, "%s", err.text);
		fr_model_free(model);
		return;
	}
	memcpy(want, f->out, sizeof want);
	CHECK(label, !all_alike(f), "all pictures have the same logits");
	for (size_t i = 0; i < sizeof same / sizeof *same; i += every) {
		struct fr_session_opts o = plain;
		struct fr_session_force force = {.together = same[i].together};

		o.batch = same[i].batch;
		o.gpu_layers = same[i].gpu_layers;
		o.verdict_only = same[i].verdict_only;
		f->prepare = same[i].eager ? make_eager : NULL;
		snprintf(label, sizeof label, "exact/%s/cuda/%s/%s", name,
			 sampler->temperature > 0 ? "sampled" : "greedy", same[i].what);
		compare(model, label, o, &force, f, want);
	}
	fr_model_free(model);
}

static void check_all_same_bits(void)
{
	static const struct fr_sampler greedy = {.top_p = 1},
				       sampled = {.temperature = 0.8F, .top_p = 0.9F, .seed = 11};
	static struct feed f;

	if (open_pictures(&f))
		return;
	if (!on_device()) {
		f.pictures = 3;
		f.tokens = 5;
	}
	check_same_bits("old-bf16-gqa-shards", &greedy, &f, 1);
	check_same_bits("new-f16-688", &sampled, &f, 1);
	check_same_bits("fr-lora-safetensors", &sampled, &f, 2);
	if (on_device()) {
		check_same_bits("fr-merged-f16", &greedy, &f, 1);
		check_same_bits("old-f32", &greedy, &f, 1);
	}
}

/* FakeReasoning at its real widths: with precise, as the other goldens. */
static void check_widths(void)
{
	const struct fr_session_opts way = {.backend = "cuda", .precise = 1, .kv_f32 = 1, .no_cublas = !on_device()};
	struct fr_model *model;
	struct golden want, got;
	struct made made;
	struct fr_error err;

	if (open_wide(&model, &want, &made))
		return;
	if (dump_wide(model, &made, &way, &got, &err)) {
		test_fail("agreed/" WIDE "/cuda-precise", "%s", err.text);
	} else {
		check_wide("cuda-precise", PRECISE_LIMIT, &want, &got);
		golden_close(&got);
	}
	fr_model_free(model);
	golden_close(&want);
}

/* usage: cuda_e2e [CASE|demo|bits|fr-wide]: all but fr-wide, which takes minutes in the simulation; on a device all. */
int main(int argc, char **argv)
{
	const char *only = argc > 1 ? argv[1] : NULL;
	struct golden want;
	struct made made;

	choose_device();
	for (size_t i = 0; i < sizeof cases / sizeof *cases + FR_CASES; i++) {
		const char *name = i < FR_CASES ? fr_cases[i] : cases[i - FR_CASES];

		if ((only && strcmp(only, name) != 0) || case_open(name, &want, &made))
			continue;
		check_precise(name, &want, &made);
		check_default(name, &want, &made);
		golden_close(&want);
	}
	if (!only || strcmp(only, "demo") == 0)
		check_demo();
	if (!only || strcmp(only, "bits") == 0)
		check_all_same_bits();
	if (only ? strcmp(only, WIDE) == 0 : on_device())
		check_widths();
	return test_done();
}
