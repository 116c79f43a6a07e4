/* The two scores of a model that reasons, with the demo model in its place: its texts begin "This image is fake. ...",
 * so that an opening put into it is reached by its text at a place of the test's choice, or never. Grade exact but
 * where a prefill is compared with steps: their sums have another order. */
#include "test.h"

#include "../engine/session.h"

#define PICTURES 4
static const char *const files[PICTURES] = {"fake-grid-01.jpg", "real-objects-01.jpg", "fake-shadow-01.jpg",
					    "real-street-01.png"};

struct one {
	struct fr_result r;
	char text[1024], warning[256];
	int begun_with_score;
};
struct feed {
	const uint8_t *bytes[PICTURES];
	size_t size[PICTURES], given, pictures;
	struct one out[PICTURES];
};

static int next(void *user, struct fr_job *job)
{
	struct feed *f = user;

	if (f->given == f->pictures)
		return 0;
	job->bytes = f->bytes[f->given];
	job->size = f->size[f->given++];
	return 1;
}

static void begin(void *user, size_t index, const struct fr_result *r)
{
	((struct feed *)user)->out[index].begun_with_score = r->has_score;
}

static void result(void *user, const struct fr_result *r)
{
	struct one *o = &((struct feed *)user)->out[r->index];

	o->r = *r;
	snprintf(o->text, sizeof o->text, "%.*s", (int)r->text_len, r->text ? r->text : "");
	snprintf(o->warning, sizeof o->warning, "%s", r->n_warnings ? r->warnings[0] : "");
}

static int run(const struct fr_model *m, struct fr_session_opts o, const struct fr_session_force *force, struct feed *f)
{
	struct fr_session *s;
	struct fr_error err;
	int rc;

	o.backend = "cpu";
	f->given = 0;
	memset(f->out, 0, sizeof f->out);
	rc = fr_session_open(m, &o, force, &s, &err);
	if (rc == 0)
		rc = fr_judge(s, &(struct fr_io){.user = f, .next = next, .begin = begin, .result = result}, &err);
	fr_session_free(s);
	if (rc)
		test_fail("exact/scores/run", "%s", err.text);
	return rc;
}

/* The opening: a piece that the text need not have, then the trigger. */
static void set_trigger(struct fr_model *m, const char *const *piece, int n)
{
	m->opening[0] = fr_tokenizer_find(m->tok, "\u2581This");
	m->n_opening = 1 + n;
	for (int i = 0; i < n; i++) {
		m->opening[1 + i] = fr_tokenizer_find(m->tok, piece[i]);
		if (m->opening[1 + i] < 0)
			test_fail("exact/scores/trigger", "the demo has no piece '%s'", piece[i]);
	}
}
#define TRIGGER(m, ...)                                                                                                \
	set_trigger(m, (const char *const[]){__VA_ARGS__}, (int)(sizeof(const char *[]){__VA_ARGS__} / sizeof(char *)))

static int same(double a, double b)
{
	return memcmp(&a, &b, sizeof a) == 0;
}

static const char *differ(const struct one *a, const struct one *b)
{
	if (a->r.has_direct != b->r.has_direct || !same(a->r.p_fake_direct, b->r.p_fake_direct))
		return "the direct score";
	if (a->r.has_reasoned != b->r.has_reasoned || !same(a->r.p_fake_reasoned, b->r.p_fake_reasoned))
		return "the reasoned score";
	if (a->r.has_score != b->r.has_score || !same(a->r.p_fake, b->r.p_fake) || a->r.verdict != b->r.verdict)
		return "p_fake or the verdict";
	if (strcmp(a->text, b->text) || strcmp(a->r.stop, b->r.stop) || a->r.generated_tokens != b->r.generated_tokens)
		return "the text";
	return NULL;
}

static void check_both(struct fr_model *m, struct feed *f, const struct one *plain)
{
	const struct one *o = f->out;
	int two = 1, verdicts = 1, texts = 1;
	double off = 0;

	TRIGGER(m, "\u2581image", "\u2581is");
	if (run(m, (struct fr_session_opts){.threads = 1, .batch = 1}, NULL, f))
		return;
	for (int i = 0; i < PICTURES; i++) {
		two &= o[i].r.has_direct && o[i].r.has_reasoned && o[i].r.has_score && !o[i].begun_with_score &&
		       !o[i].r.opening && o[i].r.n_attributes == FR_ATTRIBUTES;
		verdicts &= same(o[i].r.p_fake, o[i].r.p_fake_reasoned) && o[i].r.verdict == plain[i].r.verdict;
		texts &= !strcmp(o[i].text, plain[i].text) && same(o[i].r.p_fake_direct, plain[i].r.p_fake);
		off = fmax(off, fabs(o[i].r.p_fake_reasoned - plain[i].r.p_fake));
	}
	CHECK("exact/scores/both are there, and no opening", two, "not in every result");
	CHECK("exact/scores/the verdict comes from the reasoned one", verdicts, "another verdict or p_fake");
	CHECK("exact/scores/text and direct score are those of a run that forces the opening", texts, "they differ");
	/* the same tokens in front: what float16 keys of a step and of a prefill may do to two logits */
	CHECK("bounded/scores/reasoned is direct where the text is the opening", off < 1e-3, "off by %g", off);
}

static void check_verdict_only(struct fr_model *m, struct feed *f)
{
	struct one want[PICTURES];
	const struct one *o = f->out;
	int ok = 1;

	memcpy(want, f->out, sizeof want);
	if (run(m, (struct fr_session_opts){.batch = 1, .verdict_only = 1}, NULL, f))
		return;
	for (int i = 0; i < PICTURES; i++)
		ok &= o[i].r.has_direct && !o[i].r.has_reasoned && o[i].r.has_score && !o[i].r.n_attributes &&
		      same(o[i].r.p_fake, want[i].r.p_fake_direct) && same(o[i].r.p_fake_direct, o[i].r.p_fake);
	CHECK("exact/scores/verdict-only is the direct score", ok, "not in every result");
}

/* The trigger only some texts have: the others have no score, and say so. */
static void check_some(struct fr_model *m, struct feed *f)
{
	static const struct {
		int batch, together, ahead, threads;
	} ways[] = {{4, 4, 0, 1}, {4, 1, 0, 3}, {3, 2, 2, 2}, {2, 2, 2, 3}};
	struct one want[PICTURES];
	const struct one *o = f->out;
	char label[96];
	int ok = 1;

	TRIGGER(m, "\u2581image", "\u2581is", "\u2581fake");
	if (run(m, (struct fr_session_opts){.threads = 1, .batch = 1}, NULL, f))
		return;
	memcpy(want, f->out, sizeof want);
	for (int i = 0; i < PICTURES; i++) {
		const int fake = strncmp(files[i], "fake", 4) == 0;
		ok &= o[i].r.has_reasoned == fake && o[i].r.has_score == fake && o[i].r.has_direct &&
		      (o[i].r.verdict != FR_NONE) == fake && (strstr(o[i].warning, "p_fake_direct") == NULL) == fake;
	}
	CHECK("exact/scores/without the trigger no score but a warning", ok, "not in every result");
	for (size_t w = 0; w < sizeof ways / sizeof *ways; w++) {
		const struct fr_session_force force = {.together = ways[w].together, .ahead = ways[w].ahead};
		const char *what = NULL;
		if (run(m, (struct fr_session_opts){.threads = ways[w].threads, .batch = ways[w].batch}, &force, f))
			return;
		for (int i = 0; i < PICTURES && !what; i++)
			what = differ(&o[i], &want[i]);
		snprintf(label, sizeof label, "exact/scores/threads-%d/batch-%d/together-%d/ahead-%d", ways[w].threads,
			 ways[w].batch, ways[w].together, ways[w].ahead);
		CHECK(label, !what, "%s differs from the plainest way", what);
	}
	if (run(m, (struct fr_session_opts){.batch = 1, .authors_rule = 1}, NULL, f))
		return;
	for (int i = 0; i < PICTURES; i++)
		ok &= o[i].r.verdict == FR_NONE && o[i].r.text_verdict == FR_UNPARSED &&
		      same(o[i].r.p_fake, want[i].r.p_fake);
	CHECK("exact/scores/the authors' rule leaves the scores alone", ok, "not in every result");
}

/* One picture with a limit on its text. */
static void check_limit(struct fr_model *m, struct feed *f, const char *name, int max_tokens, int scored, double p,
			const char *text)
{
	const struct one *o = f->out;

	if (run(m, (struct fr_session_opts){.batch = 1, .max_tokens = max_tokens}, NULL, f))
		return;
	CHECK(name,
	      o->r.has_reasoned == scored && (!scored || same(o->r.p_fake, p)) && !strcmp(o->text, text) &&
		      !strcmp(o->r.stop, "length"),
	      "score %d, p %.9g, text '%s', stop %s", o->r.has_reasoned, o->r.p_fake, o->text, o->r.stop);
}

static void check_limits(struct fr_model *m, struct feed *f)
{
	const int max_pos = m->desc.text.max_pos;
	double p;

	f->pictures = 1;
	TRIGGER(m, "\u2581image", "\u2581is");
	if (run(m, (struct fr_session_opts){.batch = 1}, NULL, f))
		return;
	p = f->out[0].r.p_fake;
	check_limit(m, f, "exact/scores/limit: one token before the trigger is whole", 2, 0, 0, "This image");
	check_limit(m, f, "exact/scores/limit: the trigger's last token is the text's last", 3, 1, p, "This image is");
	check_limit(m, f, "exact/scores/limit: one token after it", 4, 1, p, "This image is fake");
	CHECK("exact/scores/limit: the extra step is not counted", f->out[0].r.generated_tokens == 4, "%d tokens",
	      f->out[0].r.generated_tokens);
	/* the model's own last position: the token that would be scored after cannot be fed */
	m->desc.text.max_pos = f->out[0].r.prompt_tokens + 3;
	check_limit(m, f, "exact/scores/limit: one position more than the trigger needs", 64, 1, p,
		    "This image is fake");
	TRIGGER(m, "\u2581is", "\u2581fake");
	check_limit(m, f, "exact/scores/limit: no position left after the trigger", 64, 0, 0, "This image is fake");
	CHECK("exact/scores/limit: no position left is said", strstr(f->out[0].warning, "at the model's last position"),
	      "'%s'", f->out[0].warning);
	m->desc.text.max_pos = max_pos;
}

static void check_places(struct fr_model *m, struct feed *f)
{
	const struct one *o = f->out;
	char text[1024];
	double p, again;

	f->pictures = 1;
	TRIGGER(m, "."); /* several times in the text, and its last token */
	if (run(m, (struct fr_session_opts){.batch = 1}, NULL, f))
		return;
	snprintf(text, sizeof text, "%s", o->text);
	p = o->r.p_fake;
	check_limit(m, f, "exact/scores/the first trigger counts", 5, 1, p, "This image is fake.");
	m->desc.prompt.reasoned = 0; /* where the text begins does not hang on the scores */
	if (run(m, (struct fr_session_opts){.batch = 1, .sampler = {.temperature = 1, .top_k = 1}}, NULL, f))
		return;
	CHECK("exact/scores/the text is the same without them", !strcmp(text, o->text), "'%s'", o->text);
	m->desc.prompt.reasoned = 1;
	if (run(m, (struct fr_session_opts){.batch = 1, .sampler = {.temperature = 1, .top_k = 1}}, NULL, f))
		return;
	again = o->r.p_fake;
	CHECK("exact/scores/sampling reads the logits as they are", same(p, again) && !strcmp(text, o->text),
	      "%.9g, greedy %.9g", again, p);
}

/* The end token right after the trigger: the last words of the first picture's text. */
static void check_end(struct fr_model *m, struct feed *f, const char *text)
{
	const char *word = strrchr(text, ' ');
	int32_t *ids;
	size_t n;
	struct fr_error err;

	f->pictures = 1;
	if (!word || fr_tokenizer_encode(m->tok, word + 1, strlen(word + 1), 0, &ids, &n, &err) ||
	    n > FR_MAX_OPENING - 1) {
		test_fail("exact/scores/end", "no last word in '%s'", text);
		return;
	}
	m->n_opening = 1 + (int)n;
	memcpy(m->opening + 1, ids, n * sizeof *ids);
	free(ids);
	if (run(m, (struct fr_session_opts){.batch = 1}, NULL, f))
		return;
	CHECK("exact/scores/the text ends right after the trigger",
	      f->out[0].r.has_reasoned && !strcmp(f->out[0].r.stop, "eos") && !strcmp(f->out[0].text, text),
	      "score %d, stop %s, text '%s'", f->out[0].r.has_reasoned, f->out[0].r.stop, f->out[0].text);
}

int main(void)
{
	static struct feed f;
	struct one plain[PICTURES];
	struct fr_model *m;
	struct fr_error err;
	char path[128];

	for (int i = 0; i < PICTURES; i++) {
		snprintf(path, sizeof path, "samples/%s", files[i]);
		if (fr_map_open(path, &f.bytes[i], &f.size[i], &err)) {
			test_fail("exact/scores/pictures", "%s", err.text);
			return test_done();
		}
	}
	if (fr_model_load(&(struct fr_model_opts){.path = "demo"}, &m, &err)) {
		test_fail("exact/scores/model", "%s", err.text);
		return test_done();
	}
	f.pictures = PICTURES;
	if (run(m, (struct fr_session_opts){.batch = 1}, NULL, &f) == 0) {
		memcpy(plain, f.out, sizeof plain);
		m->desc.prompt.reasoned = 1;
		m->desc.prompt.rule = FR_RULE_CONCLUSION;
		check_both(m, &f, plain);
		check_verdict_only(m, &f);
		check_some(m, &f);
		check_limits(m, &f);
		check_places(m, &f);
		check_end(m, &f, plain[0].text);
	}
	fr_model_free(m);
	return test_done();
}
