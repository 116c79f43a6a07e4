/* The five pictures of tests/golden/e2e/images judged in some way, and the comparison with another way: bit for bit. */
#ifndef FR_TEST_REPEAT_H
#define FR_TEST_REPEAT_H

#include "../engine/session.h"
#include "golden.h"

#define IMAGES 5
static const char *const files[IMAGES] = {"wide.png", "tall.png", "square.png", "small.png", "edge.png"};

struct one {
	int seen;
	uint32_t real, fake;
	double p_fake, p_direct, p_reasoned;
	int has_direct, has_reasoned;
	enum fr_verdict verdict;
	int prompt, generated;
	char opening[8], stop[8], text[1024];
};
struct feed {
	const uint8_t *bytes[IMAGES];
	size_t size[IMAGES], given, next_result;
	int slow, asked;
	int pictures, tokens; /* of each run; 0: all, 24 */
	int disorder;
	struct one out[IMAGES];
	void (*prepare)(struct fr_session *s); /* NULL: the session as it is */
};

static inline size_t pictures(const struct feed *f)
{
	return f->pictures ? (size_t)f->pictures : IMAGES;
}

static inline int next(void *user, struct fr_job *job)
{
	struct feed *f = user;

	if (f->given == pictures(f))
		return 0;
	job->bytes = f->bytes[f->given];
	job->size = f->size[f->given++];
	return 1;
}

/* A slow input has nothing at hand three times of four. */
static inline int ready(void *user)
{
	struct feed *f = user;

	return !f->slow || ++f->asked % 4 == 0;
}

static inline void result(void *user, const struct fr_result *r)
{
	struct feed *f = user;
	struct one *o = &f->out[r->index];

	f->disorder |= r->index != f->next_result++ || r->error.code != FR_OK || o->seen++;
	memcpy(&o->real, &r->logit_real, 4);
	memcpy(&o->fake, &r->logit_fake, 4);
	o->p_fake = r->p_fake;
	o->has_direct = r->has_direct;
	o->has_reasoned = r->has_reasoned;
	o->p_direct = r->has_direct ? r->p_fake_direct : 0;
	o->p_reasoned = r->has_reasoned ? r->p_fake_reasoned : 0;
	o->verdict = r->verdict;
	o->prompt = r->prompt_tokens;
	o->generated = r->generated_tokens;
	snprintf(o->opening, sizeof o->opening, "%s", r->opening ? r->opening : "");
	snprintf(o->stop, sizeof o->stop, "%s", r->stop ? r->stop : "");
	snprintf(o->text, sizeof o->text, "%.*s", (int)r->text_len, r->text ? r->text : "");
}

/* A text that depends on the picture, so that rows mixed up between sequences cannot go unseen. */
static inline int all_alike(const struct feed *f)
{
	for (size_t i = 1; i < pictures(f); i++)
		if (f->out[i].real != f->out[0].real || f->out[i].p_direct != f->out[0].p_direct)
			return 0;
	return 1;
}

static inline int judge(const struct fr_model *model, struct fr_session_opts o, const struct fr_session_force *force,
			struct feed *f, struct fr_error *err)
{
	struct fr_session *s;
	int rc;

	f->given = f->next_result = 0;
	f->disorder = 0;
	memset(f->out, 0, sizeof f->out);
	o.max_tokens = f->tokens ? f->tokens : 24;
	FR_TRY(fr_session_open(model, &o, force, &s, err));
	if (f->prepare)
		f->prepare(s);
	rc = fr_judge(s, &(struct fr_io){.user = f, .next = next, .result = result, .ready = ready}, err);
	fr_session_free(s);
	if (rc == 0 && (f->disorder || f->next_result != pictures(f)))
		return fr_fail(err, FR_E_NUMBERS, "%zu results, out of order or with an error", f->next_result);
	return rc;
}

/* Without a text a model that reasons has its direct score only, and logits and verdict are those of that. */
static inline const char *differ(const struct one *a, const struct one *b, int with_text)
{
	const int same_score = with_text || !a->has_direct;

	if (same_score && (a->real != b->real || a->fake != b->fake))
		return "logits";
	if (same_score && (memcmp(&a->p_fake, &b->p_fake, sizeof a->p_fake) != 0 || a->verdict != b->verdict))
		return "p_fake or the verdict";
	if (a->has_direct != b->has_direct || memcmp(&a->p_direct, &b->p_direct, sizeof a->p_direct) != 0)
		return "the direct score";
	if (with_text &&
	    (a->has_reasoned != b->has_reasoned || memcmp(&a->p_reasoned, &b->p_reasoned, sizeof a->p_reasoned) != 0))
		return "the reasoned score";
	if (same_score && strcmp(a->opening, b->opening) != 0)
		return "the opening";
	if (a->prompt != b->prompt)
		return "the prompt";
	if (with_text &&
	    (strcmp(a->text, b->text) != 0 || strcmp(a->stop, b->stop) != 0 || a->generated != b->generated))
		return "the text";
	return NULL;
}

static inline void compare(const struct fr_model *model, const char *label, struct fr_session_opts o,
			   const struct fr_session_force *force, struct feed *f, const struct one *want)
{
	struct fr_error err;
	const char *what = NULL;
	int i = 0;

	if (judge(model, o, force, f, &err)) {
		test_fail(label, "%s", err.text);
		return;
	}
	for (; i < (int)pictures(f) && !what; i++)
		what = differ(&f->out[i], &want[i], !o.verdict_only);
	CHECK(label, !what, "%s of %s differ from the plainest way", what, files[i - 1]);
}

/* Maps the pictures, for as long as the program runs; a failed line and -1 without. */
static inline int open_pictures(struct feed *f)
{
	struct fr_error err;
	char path[256];

	for (int i = 0; i < IMAGES; i++) {
		snprintf(path, sizeof path, "tests/golden/e2e/images/%s", files[i]);
		if (fr_map_open(path, &f->bytes[i], &f->size[i], &err)) {
			test_fail("exact/pictures", "%s", err.text);
			return -1;
		}
	}
	return 0;
}

#endif
