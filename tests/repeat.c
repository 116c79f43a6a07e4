/* Numbers repeat: the same pictures give the same bits with 1, 2 and 3 threads, alone and two or five at a time,
 * prefilled one by one and together, read ahead or not, with and without the text, greedy and sampled.
 *
 * The five pictures of tests/golden/e2e/images are judged by a random checkpoint with grouped heads and by the demo
 * model; each way of running is compared with the plainest one (one thread, one image at a time, with text). Three
 * threads on a machine with fewer CPUs is still three workers sharing the work differently. */
#include "../engine/session.h"
#include "golden.h"

#define IMAGES 5
static const char *const files[IMAGES] = {"wide.png", "tall.png", "square.png", "small.png", "edge.png"};
static const char *const models[] = {"tests/golden/e2e/old-bf16-gqa-shards/model", "demo"};

struct one {
	int seen;
	uint32_t real, fake;
	double p_fake;
	enum fr_verdict verdict;
	int prompt, generated;
	char opening[8], stop[8], text[1024];
};
struct feed {
	const uint8_t *bytes[IMAGES];
	size_t size[IMAGES], given, next_result;
	int slow, asked;
	int disorder;
	struct one out[IMAGES];
};

/* Ways of running a batch; each with every number of threads, with the text and without. */
static const struct {
	int batch, together, ahead, slow;
} ways[] = {{1, 1, 0, 0}, {5, 1, 0, 0}, {2, 2, 0, 0}, {5, 5, 0, 0},
	    {5, 2, 0, 1}, {2, 2, 2, 0}, {3, 2, 2, 1}, {5, 5, 5, 0}};
#define WAYS (int)(sizeof ways / sizeof *ways)
#define RUNS (3 * WAYS)

static int next(void *user, struct fr_job *job)
{
	struct feed *f = user;

	if (f->given == IMAGES)
		return 0;
	job->bytes = f->bytes[f->given];
	job->size = f->size[f->given++];
	return 1;
}

/* A slow input has nothing at hand three times of four. */
static int ready(void *user)
{
	struct feed *f = user;

	return !f->slow || ++f->asked % 4 == 0;
}

static void result(void *user, const struct fr_result *r)
{
	struct feed *f = user;
	struct one *o = &f->out[r->index];

	f->disorder |= r->index != f->next_result++ || r->error.code != FR_OK || o->seen++;
	memcpy(&o->real, &r->logit_real, 4);
	memcpy(&o->fake, &r->logit_fake, 4);
	o->p_fake = r->p_fake;
	o->verdict = r->verdict;
	o->prompt = r->prompt_tokens;
	o->generated = r->generated_tokens;
	snprintf(o->opening, sizeof o->opening, "%s", r->opening ? r->opening : "");
	snprintf(o->stop, sizeof o->stop, "%s", r->stop ? r->stop : "");
	snprintf(o->text, sizeof o->text, "%.*s", (int)r->text_len, r->text ? r->text : "");
}

/* A text that depends on the picture, so that rows mixed up between sequences cannot go unseen. */
static int all_alike(const struct feed *f)
{
	for (int i = 1; i < IMAGES; i++)
		if (f->out[i].real != f->out[0].real)
			return 0;
	return 1;
}

static int judge(const struct fr_model *model, struct fr_session_opts o, const struct fr_session_force *force,
		 struct feed *f, struct fr_error *err)
{
	struct fr_session *s;
	int rc;

	f->given = f->next_result = 0;
	f->disorder = 0;
	memset(f->out, 0, sizeof f->out);
	o.backend = "cpu";
	o.max_tokens = 24;
	FR_TRY(fr_session_open(model, &o, force, &s, err));
	rc = fr_judge(s, &(struct fr_io){.user = f, .next = next, .result = result, .ready = ready}, err);
	fr_session_free(s);
	if (rc == 0 && (f->disorder || f->next_result != IMAGES))
		return fr_fail(err, FR_E_NUMBERS, "%zu results, out of order or with an error", f->next_result);
	return rc;
}

static const char *differ(const struct one *a, const struct one *b, int with_text)
{
	if (a->real != b->real || a->fake != b->fake)
		return "logits";
	if (memcmp(&a->p_fake, &b->p_fake, sizeof a->p_fake) != 0 || a->verdict != b->verdict)
		return "p_fake or the verdict";
	if (strcmp(a->opening, b->opening) != 0 || a->prompt != b->prompt)
		return "the opening or the prompt";
	if (with_text &&
	    (strcmp(a->text, b->text) != 0 || strcmp(a->stop, b->stop) != 0 || a->generated != b->generated))
		return "the text";
	return NULL;
}

static void compare(const struct fr_model *model, const char *label, struct fr_session_opts o,
		    const struct fr_session_force *force, struct feed *f, const struct one *want)
{
	struct fr_error err;
	const char *what = NULL;
	int i = 0;

	if (judge(model, o, force, f, &err)) {
		test_fail(label, "%s", err.text);
		return;
	}
	for (; i < IMAGES && !what; i++)
		what = differ(&f->out[i], &want[i], !o.verdict_only);
	CHECK(label, !what, "%s of %s differ from one thread, one image at a time", what, files[i - 1]);
}

static void run_model(const char *path, struct feed *f)
{
	static const struct fr_sampler samplers[] = {{.top_p = 1}, {.temperature = 0.8F, .top_p = 0.9F, .seed = 11}};
	char label[128];
	struct fr_model *model;
	struct fr_error err;
	struct one want[IMAGES];
	const char *slash = strrchr(path, '/'), *name = slash ? "random" : path;

	if (fr_model_load(&(struct fr_model_opts){.path = path}, &model, &err)) {
		test_fail(path, "%s", err.text);
		return;
	}
	for (int sampled = 0; sampled < 2; sampled++) {
		struct fr_session_opts o = {.threads = 1, .batch = 1, .sampler = samplers[sampled]};
		snprintf(label, sizeof label, "exact/%s/%s/pictures-differ", name, sampled ? "sampled" : "greedy");
		if (judge(model, o, NULL, f, &err)) {
			test_fail(label, "%s", err.text);
			continue;
		}
		memcpy(want, f->out, sizeof want);
		CHECK(label, !all_alike(f), "all pictures have the same logits");
		for (int run = 1; run < RUNS; run++) {
			struct fr_session_force force = {.together = ways[run % WAYS].together,
							 .ahead = ways[run % WAYS].ahead};
			o.threads = 1 + run % 3;
			o.batch = ways[run % WAYS].batch;
			o.verdict_only = run >= RUNS / 2;
			f->slow = ways[run % WAYS].slow;
			snprintf(label, sizeof label, "exact/%s/%s/threads-%d/batch-%d/together-%d/ahead-%d%s/%s", name,
				 sampled ? "sampled" : "greedy", o.threads, o.batch, force.together, force.ahead,
				 f->slow ? "/slow-input" : "", o.verdict_only ? "verdict-only" : "text");
			compare(model, label, o, &force, f, want);
		}
	}
	fr_model_free(model);
}

int main(void)
{
	static struct feed f;
	struct fr_error err;
	char path[256];

	for (int i = 0; i < IMAGES; i++) {
		snprintf(path, sizeof path, "tests/golden/e2e/images/%s", files[i]);
		if (fr_map_open(path, &f.bytes[i], &f.size[i], &err)) {
			test_fail("exact/pictures", "%s", err.text);
			return test_done();
		}
	}
	for (size_t i = 0; i < sizeof models / sizeof *models; i++)
		run_model(models[i], &f);
	return test_done();
}
