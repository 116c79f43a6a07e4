/* Texts with proposed tokens against the plainest way (one token a step, one thread, one image at a time): the same
 * tokens, text, stop and scores, to the bit, whatever is proposed. */
#ifndef FR_TEST_SPECULATE_H
#define FR_TEST_SPECULATE_H

#include "test.h"

#include "cases.h"
#include "repeat.h"

#define TOKENS 40
#define AT 12 /* where in the first picture's text something happens: within a run of right proposals */

enum drafts { RIGHT, NEAR, WRONG, OWN };
static const char *const draft_names[] = {"right", "near-misses", "wrong", "own-texts"};

/* What each picture's greedy text is, from the prompt's last row on, ends and limits aside. */
struct texts {
	int32_t ids[IMAGES][TOKENS];
	int n_prompt, vocab;
};

static inline int write_text(struct fr_session *s, const uint8_t *bytes, size_t size, int32_t *ids,
			     struct fr_error *err)
{
	struct fr_picture *pic = fr_intake_at(s->intake, 0);
	const struct fr_picture *const pics[] = {pic};
	const struct fr_part part = {.to = s->question->n};
	const struct fr_prefill p = {.part = &part, .n = 1, .n_logits = 1};

	fr_picture_read(pic, &s->model->desc.image, FR_MAX_PIXELS, bytes, size);
	FR_TRY(fr_session_see(s, pics, 1, err));
	FR_TRY(fr_session_prefill(s, &p, err));
	ids[0] = s->picked[0];
	for (int k = 1; k < TOKENS; k++) {
		s->ids[0] = ids[k - 1];
		s->row[0] = (struct fr_row){.seq = 0, .pos = s->question->n + k - 1};
		FR_TRY(fr_session_step(s, 1, err));
		ids[k] = s->picked[0];
	}
	return 0;
}

static inline int write_texts(const struct fr_model *m, const char *backend, const struct feed *f, struct texts *t,
			      struct fr_error *err)
{
	const struct fr_session_opts o = {.backend = backend, .batch = 1, .max_tokens = TOKENS, .speculate = -1};
	struct fr_session *s;
	int rc = 0;

	FR_TRY(fr_session_open(m, &o, NULL, &s, err));
	t->n_prompt = s->question->n;
	t->vocab = m->desc.text.vocab;
	for (size_t i = 0; i < pictures(f) && rc == 0; i++)
		rc = write_text(s, f->bytes[i], f->size[i], t->ids[i], err);
	fr_session_free(s);
	return rc;
}

/* Into the table: the texts; the texts with every fifth token another; behind each of their tokens one drawn by lot. */
static inline void teach(struct fr_ngram *g, const struct texts *t, size_t n, enum drafts drafts)
{
	struct fr_rng lot = {7};
	int32_t ids[2 * TOKENS];

	for (int round = 0; round < 3; round++)
		for (size_t i = 0; i < n; i++) {
			size_t made = 0;
			for (int k = 0; k < TOKENS; k++) {
				const int32_t id = t->ids[i][k], any = (int32_t)(fr_rng_draw(&lot) * t->vocab);
				ids[made++] = drafts == NEAR && k % 5 == 4 ? (id + 1) % t->vocab : id;
				if (drafts == WRONG)
					ids[made++] = any == t->ids[i][(k + 1) % TOKENS] ? (any + 1) % t->vocab : any;
			}
			fr_ngram_learn(g, ids, made, 0);
		}
}

struct way {
	enum drafts drafts;
	int speculate, batch, threads;
	const char *isa;
};

/* Judges the pictures into f->out; OWN: twice, the second time with what the first has taught. */
static inline int speculate(const struct fr_model *m, const char *backend, const struct way *w, const struct texts *t,
			    struct feed *f, struct fr_speculation *spec, struct fr_error *err)
{
	const struct fr_session_opts o = {.backend = backend,
					  .isa = w->isa,
					  .threads = w->threads,
					  .batch = w->batch,
					  .speculate = w->speculate,
					  .max_tokens = f->tokens};
	const struct fr_io io = {.user = f, .next = next, .result = result, .ready = ready};
	struct fr_session *s;
	int rc = 0;

	FR_TRY(fr_session_open(m, &o, NULL, &s, err));
	if (s->drafts && w->drafts != OWN)
		teach(s->drafts, t, pictures(f), w->drafts);
	for (int again = 0; again <= (w->drafts == OWN) && rc == 0; again++) {
		f->given = f->next_result = 0;
		f->disorder = 0;
		memset(f->out, 0, sizeof f->out);
		rc = fr_judge(s, &io, err);
	}
	*spec = fr_session_speculation(s);
	fr_session_free(s);
	return rc || !f->disorder ? rc : fr_fail(err, FR_E_NUMBERS, "results out of order or with an error");
}

/* The first place from AT on with a token that the text did not have before. */
static inline int place(const int32_t *ids)
{
	for (int k = AT; k < TOKENS; k++) {
		int before = 0;
		while (ids[before] != ids[k])
			before++;
		if (before == k)
			return k;
	}
	return TOKENS - 1;
}

/* Something that happens in the midst of the first picture's text. */
static const char *const events[] = {"nothing",	     "end", "trigger", "trigger-and-end", "trigger-at-the-limit",
				     "last-position"};
#define EVENTS (int)(sizeof events / sizeof *events)

static inline void happen(struct fr_model *m, int event, const struct texts *t, struct feed *f)
{
	const int32_t *ids = t->ids[0];
	const int at = place(ids), room = at > m->n_opening ? at : m->n_opening;

	f->tokens = event == 4 ? at : TOKENS;
	if (event == 1 || event == 3)
		m->desc.prompt.eos[m->desc.prompt.n_eos++] = ids[at];
	if (event >= 2 && event <= 4) {
		m->desc.prompt.reasoned = 1;
		m->n_opening = 3;
		m->opening[1] = ids[at - 2];
		m->opening[2] = ids[at - 1];
	}
	if (event == 5)
		m->desc.text.max_pos = t->n_prompt + room;
}

/* Did it? */
static inline int happened(int event, const struct one *o)
{
	switch (event) {
	case 1:
		return strcmp(o->stop, "eos") == 0;
	case 2:
		return o->has_reasoned;
	case 3:
		return o->has_reasoned && strcmp(o->stop, "eos") == 0;
	case 4:
		return o->has_reasoned && strcmp(o->stop, "length") == 0;
	case 5:
		return strcmp(o->stop, "length") == 0 && o->generated < TOKENS;
	default:
		return o->generated > 0;
	}
}

static inline void run_way(const struct fr_model *m, const char *backend, const char *label, const struct way *w,
			   const struct texts *t, struct feed *f, const struct one *want)
{
	struct fr_speculation spec;
	struct fr_error err;
	const char *what = NULL;
	size_t i = 0;

	if (speculate(m, backend, w, t, f, &spec, &err)) {
		test_fail(label, "%s", err.text);
		return;
	}
	for (; i < pictures(f) && !what; i++)
		what = differ(&f->out[i], &want[i], 1);
	if (what)
		test_fail(label, "%s of %s differ from the plainest way", what, files[i - 1]);
	else if (w->drafts == RIGHT && w->speculate >= 3 && w->batch == 1 && spec.taken < spec.steps)
		test_fail(label, "%llu proposals taken in %llu steps: nothing was tested",
			  (unsigned long long)spec.taken, (unsigned long long)spec.steps);
	else
		CHECK(label, w->speculate <= 0 || spec.proposed > 0, "nothing was proposed");
}

/* Each of n ways with each event whose bit is set, against the plainest at the level isa, which ways without a level
 * of their own take too. NULL: the best, and ways with a level are left out. */
static inline void run_model(const char *name, const char *backend, const char *isa, const struct way *ways, int n,
			     unsigned which, struct feed *f)
{
	const struct way plain = {.speculate = -1, .batch = 1, .threads = 1, .isa = isa};
	struct one want[IMAGES];
	struct fr_speculation spec;
	struct fr_model *m, as_it_was;
	struct fr_error err;
	struct texts t;
	char label[160];

	if (case_load(name, &m, &err)) {
		test_fail(name, "%s", err.text);
		return;
	}
	as_it_was = *m;
	if (write_texts(m, backend, f, &t, &err))
		test_fail(name, "%s", err.text);
	else
		for (int e = 0; e < EVENTS; e++) {
			if (!(which >> e & 1))
				continue;
			*m = as_it_was;
			happen(m, e, &t, f);
			snprintf(label, sizeof label, "exact/%s/speculate/%s", name, events[e]);
			if (speculate(m, backend, &plain, &t, f, &spec, &err)) {
				test_fail(label, "%s", err.text);
				continue;
			}
			memcpy(want, f->out, sizeof want);
			CHECK(label, happened(e, &want[0]) && !spec.proposed, "stop %s, %d tokens, reasoned %d",
			      want[0].stop, want[0].generated, want[0].has_reasoned);
			for (int i = 0; i < n; i++) {
				struct way w = ways[i];

				if (w.isa && !isa)
					continue;
				w.isa = w.isa ? w.isa : isa;
				snprintf(label, sizeof label, "exact/%s/speculate/%s/%s/%d/batch-%d/threads-%d/%s",
					 name, events[e], draft_names[w.drafts], w.speculate, w.batch, w.threads,
					 w.isa ? w.isa : backend);
				run_way(m, backend, label, &w, &t, f, want);
			}
		}
	*m = as_it_was;
	fr_model_free(m);
}

#endif
