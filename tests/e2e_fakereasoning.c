/* What a user is told by FakeReasoning: both scores, the text, its verdict, against PyTorch in float32.
 *
 * Two of the checkpoints write a text that reaches "<CONCLUSION> This image is", where the reasoned score is read; two
 * never do: no p_fake then, no verdict, a warning, and the direct score as ever. At each level: text, tokens and the
 * text's verdict exact, scores agreed; then the same bits from every level. tests/oracle/fakereasoning_cases.py makes
 * the goldens, tests/e2e.c compares the intermediates, tests/repeat.c threads and batches. */
#include "e2e.h"

static const char *const levels[] = {"ref", "avx2", "avx512"};
#define LEVELS (int)(sizeof levels / sizeof *levels)

struct told {
	int have;
	struct fr_result r;
	char *text;
};

/* One picture judged as `way` says; a failed line and -1 when that fails. */
static int ask(const char *label, const struct fr_model *model, const struct made *made, struct fr_session_opts way,
	       struct told *out)
{
	char path[256];
	const uint8_t *bytes;
	size_t size;
	struct fr_session *s = NULL;
	struct fr_error err;
	int rc;

	way.backend = "cpu";
	way.max_tokens = STEPS;
	way.threads = 2;
	snprintf(path, sizeof path, ROOT "images/%s", made->image);
	memset(out, 0, sizeof *out);
	rc = fr_map_open(path, &bytes, &size, &err);
	if (rc == 0) {
		rc = fr_session_new(model, &way, &s, &err);
		if (rc == 0)
			rc = fr_judge_one(s, bytes, size, &out->r, &out->text, &err);
		fr_session_free(s);
		fr_map_close(bytes, size);
	}
	if (rc)
		test_fail(label, "%s", err.text);
	out->have = rc == 0;
	return rc;
}

/* The probability `name` of the golden; has: whether the result has one. */
static void check_score(const char *name, const char *level, const char *what, int has, double got,
			const struct golden *want)
{
	char label[128], tensor[64], noise_name[64];
	const struct fr_tensor *w, *noise;
	double p;
	float deviation;

	snprintf(label, sizeof label, "agreed/%s/%s/p_fake_%s", name, level, what);
	snprintf(tensor, sizeof tensor, "result.%s", what);
	snprintf(noise_name, sizeof noise_name, "noise.result.%s", what);
	w = golden_find(want, tensor);
	noise = golden_find(want, noise_name);
	if (!w || !noise || !has) {
		CHECK(label, !w && !has, "%s", has ? "there is one, expected none" : "there is none, expected one");
		return;
	}
	memcpy(&p, w->data, sizeof p);
	memcpy(&deviation, (const char *)noise->data + 4, sizeof deviation);
	CHECK(label, fabs(got - p) <= 2 * AGREED_SIGMAS * deviation, "%.9g, expected %.9g within %.2g", got, p,
	      2 * AGREED_SIGMAS * deviation);
}

static void check_text(const char *name, const char *level, const struct told *t, const struct golden *want)
{
	static const enum fr_verdict verdicts[] = {FR_REAL, FR_FAKE, FR_UNPARSED};
	const struct fr_tensor *text = golden_find(want, "result.text"), *answer = golden_find(want, "result.answer");
	const struct fr_tensor *said = golden_find(want, "result.text_verdict");
	const struct fr_tensor *ids = golden_find(want, "input_ids");
	char label[128];
	int32_t v, last;

	snprintf(label, sizeof label, "exact/%s/%s/text", name, level);
	if (!text || !answer || !said || !ids || !t->text) {
		test_fail(label, "%s", t->text ? "the golden lacks it" : "there is none");
		return;
	}
	CHECK(label, strlen(t->text) == text->bytes && memcmp(t->text, text->data, text->bytes) == 0,
	      "'%s', expected '%.*s'", t->text, (int)text->bytes, (const char *)text->data);
	memcpy(&v, said->data, 4);
	memcpy(&last, (const char *)answer->data + answer->bytes - 4, 4);
	snprintf(label, sizeof label, "exact/%s/%s/text-verdict", name, level);
	CHECK(label, t->r.text_verdict == verdicts[v], "%s, expected %s", fr_verdict_name(t->r.text_verdict),
	      fr_verdict_name(verdicts[v]));
	snprintf(label, sizeof label, "exact/%s/%s/tokens", name, level);
	CHECK(label,
	      t->r.generated_tokens == (int)answer->shape[0] && t->r.prompt_tokens == (int)ids->shape[0] && t->r.stop &&
		      strcmp(t->r.stop, last == 2 ? "eos" : "length") == 0,
	      "prompt %d, generated %d, stop %s; expected %d, %d, %s", t->r.prompt_tokens, t->r.generated_tokens,
	      t->r.stop ? t->r.stop : "none", (int)ids->shape[0], (int)answer->shape[0], last == 2 ? "eos" : "length");
}

/* p_fake, logits and verdict are the reasoned ones; without: none, and a warning says so. */
static void check_chosen(const char *name, const char *level, const struct told *t)
{
	const struct fr_result *r = &t->r;
	char label[128];

	snprintf(label, sizeof label, "exact/%s/%s/p_fake-is-the-reasoned", name, level);
	if (r->has_reasoned)
		CHECK(label,
		      r->has_score && r->p_fake == r->p_fake_reasoned && r->p_fake != r->p_fake_direct &&
			      r->verdict == (r->p_fake >= 0.5 ? FR_FAKE : FR_REAL) &&
			      fabs(1 / (1 + exp(((double)r->logit_real - r->logit_fake) / 10)) - r->p_fake) < 1e-12,
		      "p_fake %.9g, reasoned %.9g, direct %.9g, logits %.9g %.9g, verdict %s", r->p_fake,
		      r->p_fake_reasoned, r->p_fake_direct, r->logit_real, r->logit_fake, fr_verdict_name(r->verdict));
	else
		CHECK(label, !r->has_score && r->verdict == FR_NONE && r->n_warnings > 0,
		      "has_score %d, verdict %s, %d warnings; expected none, none, one", r->has_score,
		      r->verdict ? fr_verdict_name(r->verdict) : "none", r->n_warnings);
}

/* Under verdict_only nothing is written and p_fake is the direct score, with the bits that it has beside a text. */
static void check_verdict_only(const char *name, const struct fr_model *model, const struct made *made,
			       const struct told *full)
{
	struct told t;
	char label[128];

	snprintf(label, sizeof label, "exact/%s/verdict-only", name);
	if (ask(label, model, made, (struct fr_session_opts){.isa = "ref", .kv_f32 = 1, .verdict_only = 1}, &t) == 0)
		CHECK(label,
		      !t.text && t.r.has_score && t.r.has_direct && !t.r.has_reasoned &&
			      t.r.p_fake == t.r.p_fake_direct && t.r.p_fake_direct == full->r.p_fake_direct &&
			      t.r.generated_tokens == 0,
		      "p_fake %.17g, direct %.17g beside a text %.17g, reasoned %d, %d tokens", t.r.p_fake,
		      t.r.p_fake_direct, full->r.p_fake_direct, t.r.has_reasoned, t.r.generated_tokens);
	free(t.text);
}

struct look {
	const uint8_t *bytes;
	size_t size;
	int given, side;
	float heat[1024];
};

static int look_next(void *user, struct fr_job *job)
{
	struct look *l = user;

	job->bytes = l->bytes;
	job->size = l->size;
	return !l->given++;
}

static void look_result(void *user, const struct fr_result *r)
{
	struct look *l = user;

	if (r->heat && (size_t)r->heat_side * (size_t)r->heat_side <= sizeof l->heat / sizeof *l->heat) {
		l->side = r->heat_side;
		memcpy(l->heat, r->heat, (size_t)l->side * (size_t)l->side * sizeof *l->heat);
	}
}

/* The largest difference between the heat and the golden's map [heads, 1 + n, 1 + n]; NAN where their sizes differ. */
static double heat_off(const struct look *l, const struct fr_tensor *map)
{
	const size_t n = (size_t)l->side * (size_t)l->side, heads = (size_t)map->shape[0];
	double worst = 0;

	if (n == 0 || (size_t)map->shape[1] != 1 + n)
		return NAN;
	for (size_t i = 0; i < n; i++) {
		double mean = 0;
		for (size_t h = 0; h < heads; h++) {
			float v;
			memcpy(&v, (const char *)map->data + 4 * (h * (1 + n) * (1 + n) + 1 + i), 4);
			mean += (double)v / (double)heads;
		}
		worst = fmax(worst, fabs(mean - (double)l->heat[i]));
	}
	return worst;
}

static void check_heat(const char *name, const char *level, const struct fr_model *model, const struct made *made,
		       const struct golden *want)
{
	const struct fr_session_opts o = {
		.backend = "cpu", .isa = level, .threads = 2, .verdict_only = 1, .heat = 1};
	const struct fr_tensor *map = golden_find(want, "dino.attention");
	const struct fr_tensor *noise = golden_find(want, "noise.dino.attention");
	char path[256], label[128];
	struct look l = {0};
	struct fr_session *s = NULL;
	struct fr_error err;
	float deviation;
	int rc;

	snprintf(label, sizeof label, "agreed/%s/%s/heat", name, level);
	snprintf(path, sizeof path, ROOT "images/%s", made->image);
	rc = fr_map_open(path, &l.bytes, &l.size, &err);
	if (rc == 0) {
		rc = fr_session_new(model, &o, &s, &err);
		if (rc == 0)
			rc = fr_judge(s, &(struct fr_io){.user = &l, .next = look_next, .result = look_result}, &err);
		fr_session_free(s);
		fr_map_close(l.bytes, l.size);
	}
	if (rc || !map || !noise) {
		test_fail(label, "%s", rc ? err.text : "the golden lacks it");
		return;
	}
	memcpy(&deviation, (const char *)noise->data + 4, sizeof deviation);
	CHECK(label, heat_off(&l, map) <= 2 * AGREED_SIGMAS * deviation, "%d x %d patches, off by %.2g, expected %.2g",
	      l.side, l.side, heat_off(&l, map), 2 * AGREED_SIGMAS * deviation);
}

static int same(const struct told *a, const struct told *b)
{
	return strcmp(a->text, b->text) == 0 && a->r.has_reasoned == b->r.has_reasoned &&
	       a->r.p_fake_direct == b->r.p_fake_direct &&
	       (!a->r.has_reasoned || a->r.p_fake_reasoned == b->r.p_fake_reasoned);
}

static void run_case(const char *name)
{
	struct told t[LEVELS];
	struct golden want;
	struct made made;
	struct fr_model *model;
	struct fr_error err;
	char label[128];

	if (case_open(name, &want, &made))
		return;
	if (case_load(name, &model, &err)) {
		test_fail(name, "%s", err.text);
		golden_close(&want);
		return;
	}
	memset(t, 0, sizeof t);
	for (int l = 0; l < LEVELS; l++) {
		snprintf(label, sizeof label, "agreed/%s/%s", name, levels[l]);
		if (!cpu_has(levels[l]))
			test_skip(label, "this CPU lacks the level");
		else if (ask(label, model, &made, (struct fr_session_opts){.isa = levels[l], .kv_f32 = 1}, &t[l]) ==
			 0) {
			check_score(name, levels[l], "direct", t[l].r.has_direct, t[l].r.p_fake_direct, &want);
			check_score(name, levels[l], "reasoned", t[l].r.has_reasoned, t[l].r.p_fake_reasoned, &want);
			check_text(name, levels[l], &t[l], &want);
			check_chosen(name, levels[l], &t[l]);
			check_heat(name, levels[l], model, &made, &want);
		}
		snprintf(label, sizeof label, "exact/%s/%s-is-ref", name, levels[l]);
		if (l > 0 && t[0].have && t[l].have)
			CHECK(label, same(&t[0], &t[l]), "scores or text differ");
	}
	if (t[0].have)
		check_verdict_only(name, model, &made, &t[0]);
	for (int l = 0; l < LEVELS; l++)
		free(t[l].text);
	fr_model_free(model);
	golden_close(&want);
}

/* usage: e2e_fakereasoning [CASE] */
int main(int argc, char **argv)
{
	if (argc > 1)
		run_case(argv[1]);
	for (size_t i = 0; i < FR_CASES && argc < 2; i++)
		run_case(fr_cases[i]);
	return test_done();
}
