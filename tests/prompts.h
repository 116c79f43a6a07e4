/* Several prompts for an image against a run of its own for each (one thread, one sequence): every result the same to
 * the bit, in the order of images and prompts, and the rows that prompts share computed once. */
#ifndef FR_TEST_PROMPTS_H
#define FR_TEST_PROMPTS_H

#include "cases.h"
#include "e2e.h"
#include "repeat.h"

#define PROMPTS 5
#define TOKENS 12

/* Three that are alike up to their end or within the question; up to the image; not at all, with the image last. */
static const char *const prompts[PROMPTS] = {
	"Does the image looks real/fake? Say why.",
	"Does the image looks real/fake?",
	"Does the image looks real or does it look fake? Look at light, at edges and hands, and at lettering.",
	"Is this <image> a photograph?",
	"Real or fake? <image>",
};

struct asked {
	struct feed feed; /* first: next() takes it */
	int asks;	  /* prompts of the list; 0: all */
	int n, next_prompt, disorder;
	struct one out[IMAGES][PROMPTS];
	double vision[IMAGES];
	int seen[IMAGES]; /* results that say what their image's encoding took */
	float heat[IMAGES];
};

/* What the device was asked for: rows of prompts, images encoded, and copies. */
static const struct fr_ops *plain;
static struct fr_ops counting;
static struct {
	long rows, images, copies;
} counts;

static void embed(struct fr_dev *dev, const struct fr_embed *a)
{
	counts.rows += a->images ? a->rows : 0;
	plain->embed(dev, a);
}

static void patch(struct fr_dev *dev, const struct fr_patch *a)
{
	counts.images += a->images ? a->images : 1;
	plain->patch(dev, a);
}

static void copy(struct fr_dev *dev, void *dst, const void *src, size_t bytes)
{
	counts.copies++;
	plain->copy(dev, dst, src, bytes);
}

static void count_calls(struct fr_session *s)
{
	memset(&counts, 0, sizeof counts);
	plain = s->dev->ops;
	counting = *plain;
	counting.embed = embed;
	counting.patch = patch;
	counting.copy = copy;
	s->dev->ops = &counting;
}

static void answer(void *user, const struct fr_result *r)
{
	struct asked *a = user;
	struct feed one = {.next_result = r->index};

	a->disorder |= r->index != a->feed.next_result || r->prompt != a->next_prompt;
	result(&one, r);
	a->out[r->index][r->prompt] = one.out[r->index];
	a->disorder |= one.disorder;
	a->seen[r->index] += r->ms_vision > 0;
	a->heat[r->index] = r->heat ? r->heat[0] : -1;
	if (++a->next_prompt == a->n) {
		a->next_prompt = 0;
		a->feed.next_result++;
	}
}

/* Judges the pictures with n prompts from the first on. */
static inline int ask(const struct fr_model *m, struct fr_session_opts o, const struct fr_session_force *force,
		      int first, int n, struct asked *a, struct fr_error *err)
{
	const struct fr_io io = {.user = a, .next = next, .result = answer, .ready = ready};
	struct fr_session *s;
	int rc;

	a->n = n;
	a->feed.given = a->feed.next_result = 0;
	a->next_prompt = a->disorder = 0;
	memset(a->out, 0, sizeof a->out);
	memset(a->seen, 0, sizeof a->seen);
	o.prompts = prompts + first;
	o.n_prompts = n;
	o.max_tokens = TOKENS;
	FR_TRY(fr_session_open(m, &o, force, &s, err));
	count_calls(s);
	rc = fr_judge(s, &io, err);
	s->dev->ops = plain;
	fr_session_free(s);
	if (rc == 0 && (a->disorder || a->feed.next_result != pictures(&a->feed)))
		return fr_fail(err, FR_E_NUMBERS, "%zu images, results out of order or with an error",
			       a->feed.next_result);
	return rc;
}

struct way {
	const char *isa;
	int batch, together, ahead, threads, slow, verdict_only, kv_f32;
	float temperature;
};

static inline void compare_way(const struct fr_model *m, const char *label, const struct fr_session_opts *o,
			       const struct way *w, struct asked *a, const struct asked *want, long rows_alone)
{
	const struct fr_session_force force = {.together = w->together, .ahead = w->ahead};
	const size_t n = pictures(&a->feed);
	const int asks = a->asks ? a->asks : PROMPTS;
	struct fr_error err;

	a->feed.slow = w->slow;
	if (ask(m, *o, &force, 0, asks, a, &err)) {
		test_fail(label, "%s", err.text);
		return;
	}
	for (size_t i = 0; i < n; i++)
		for (int k = 0; k < asks; k++) {
			const char *what = differ(&a->out[i][k], &want->out[i][k], !w->verdict_only);
			if (what) {
				test_fail(label, "%s of %s, prompt %d, differ from a run with that prompt alone", what,
					  files[i], k + 1);
				return;
			}
			if (a->seen[i] != 1) {
				test_fail(label, "%d results say what encoding %s took", a->seen[i], files[i]);
				return;
			}
		}
	CHECK(label,
	      counts.images == (long)n * m->desc.n_branch &&
		      rows_alone - counts.rows >= 2 * (long)n * m->desc.n_image &&
		      (counts.copies > 0 || w->batch == 1 || w->verdict_only),
	      "%ld images encoded, %ld of %ld rows, %ld copies", counts.images, counts.rows, rows_alone, counts.copies);
}

static inline void run_prompts(const char *name, const char *backend, const struct way *ways, int n, struct asked *a)
{
	static struct asked want;
	struct fr_model *m;
	struct fr_error err;
	char label[160];

	if (case_load(name, &m, &err)) {
		test_fail(name, "%s", err.text);
		return;
	}
	for (int i = 0; i < n; i++) {
		const struct way *w = &ways[i];
		struct fr_session_opts o = {.backend = backend,
					    .isa = w->isa,
					    .threads = 1,
					    .batch = 1,
					    .kv_f32 = w->kv_f32,
					    .sampler = {.temperature = w->temperature, .top_p = 1, .seed = 5}};
		long rows = 0;
		snprintf(label, sizeof label, "exact/%s/prompts/%s/batch-%d/together-%d/threads-%d%s%s%s%s", name,
			 w->isa ? w->isa : backend, w->batch, w->together, w->threads, w->kv_f32 ? "/kv-f32" : "",
			 w->slow ? "/slow-input" : "", w->temperature > 0 ? "/sampled" : "",
			 w->verdict_only ? "/verdict-only" : "/text");
		if (w->isa && !cpu_has(w->isa)) {
			test_skip(label, "this CPU lacks the level");
			continue;
		}
		want.feed = a->feed;
		want.feed.slow = 0;
		for (int k = 0; k < (a->asks ? a->asks : PROMPTS); k++) {
			static struct asked alone;
			alone.feed = want.feed;
			if (ask(m, o, NULL, k, 1, &alone, &err)) {
				test_fail(label, "%s", err.text);
				break;
			}
			for (size_t p = 0; p < pictures(&alone.feed); p++)
				want.out[p][k] = alone.out[p][0];
			rows += counts.rows;
		}
		o.threads = w->threads;
		o.batch = w->batch;
		o.verdict_only = w->verdict_only;
		compare_way(m, label, &o, w, a, &want, rows);
	}
	fr_model_free(m);
}

#endif
