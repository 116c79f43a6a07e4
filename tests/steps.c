/* Prefill and decode steps give each row the same bits however many sequences share them, in whatever order, on however
 * many threads.
 *
 * Five pictures are seen and prefilled one, two or five at a time into five sequences and stepped together; every logit
 * of every step is compared with the same picture alone in a session of its own. Texts would hide a difference that
 * moves no argmax (tests/repeat.c). */
#include "test.h"

#include "../engine/session.h"
#include "cases.h"

#define IMAGES 5
#define STEPS 7 /* the prefill's own logits are the first */
static const char *const files[IMAGES] = {"wide.png", "tall.png", "square.png", "small.png", "edge.png"};
static const char *const models[] = {"old-bf16-gqa-shards", "fr-lora-safetensors", "demo"};

struct traces {
	size_t vocab;
	float *at; /* [STEPS, IMAGES, vocab] */
};

static float *logits_of(const struct traces *t, int step, int image)
{
	return t->at + ((size_t)step * IMAGES + (size_t)image) * t->vocab;
}

static int read_picture(struct fr_session *s, int i, const char *file, struct fr_error *err)
{
	struct fr_picture *pic = fr_intake_at(s->intake, (size_t)i);
	char path[256];
	const uint8_t *bytes;
	size_t size;

	snprintf(path, sizeof path, "tests/golden/e2e/images/%s", file);
	FR_TRY(fr_map_open(path, &bytes, &size, err));
	fr_picture_read(pic, &s->model->desc.image, FR_MAX_PIXELS, bytes, size);
	fr_map_close(bytes, size);
	return pic->error.code == FR_OK ? 0 : fr_fail(err, pic->error.code, "%s", pic->error.text);
}

/* Pictures first..first+n-1 into sequences 0..n-1, s->together in one call: logits of step 0, tokens into next. */
static int prefill(struct fr_session *s, int first, int n, struct traces *t, int32_t *next, struct fr_error *err)
{
	for (int from = 0; from < n; from += s->together) {
		const int part = n - from < s->together ? n - from : s->together;
		const struct fr_picture *pics[IMAGES];
		struct fr_part into[IMAGES];
		const struct fr_prefill p = {.part = into, .n = part, .n_logits = 1};

		for (int i = 0; i < part; i++) {
			into[i] =
				(struct fr_part){.seq = from + i, .source = from + i, .image = i, .to = s->question->n};
			pics[i] = fr_intake_at(s->intake, (size_t)i);
			FR_TRY(read_picture(s, i, files[first + from + i], err));
		}
		FR_TRY(fr_session_see(s, pics, part, err));
		FR_TRY(fr_session_prefill(s, &p, err));
		memcpy(next + from, s->picked, (size_t)part * sizeof *next);
		FR_TRY(fr_session_logits(s, 0, part, logits_of(t, 0, first + from), err));
	}
	return 0;
}

/* The steps after that, all sequences together; row r of a step is sequence r, or n-1-r when reversed. */
static int steps(struct fr_session *s, int first, int n, int reversed, struct traces *t, int32_t *next,
		 struct fr_error *err)
{
	for (int k = 1; k < STEPS; k++) {
		for (int r = 0; r < n; r++) {
			int seq = reversed ? n - 1 - r : r;
			s->ids[r] = next[seq];
			s->row[r] = (struct fr_row){.seq = seq, .pos = s->question->n + k - 1};
		}
		FR_TRY(fr_session_step(s, n, err));
		for (int r = 0; r < n; r++) {
			int seq = reversed ? n - 1 - r : r;
			FR_TRY(fr_session_logits(s, r, 1, logits_of(t, k, first + seq), err));
			next[seq] = s->picked[r];
			if (next[seq] != fr_argmax(logits_of(t, k, first + seq), (int)t->vocab))
				return fr_fail(err, FR_E_NUMBERS, "the token picked is not the argmax of its logits");
		}
	}
	return 0;
}

static int trace(const struct fr_model *m, int threads, int together, int first, int n, int reversed, struct traces *t,
		 struct fr_error *err)
{
	const struct fr_session_opts o = {.backend = "cpu", .threads = threads, .batch = n, .max_tokens = STEPS};
	const struct fr_session_force force = {.together = together};
	int32_t next[IMAGES];
	struct fr_session *s;
	int rc;

	FR_TRY(fr_session_open(m, &o, &force, &s, err));
	rc = prefill(s, first, n, t, next, err);
	if (rc == 0)
		rc = steps(s, first, n, reversed, t, next, err);
	fr_session_free(s);
	return rc;
}

static void compare(const char *label, const struct traces *got, const struct traces *want)
{
	for (int k = 0; k < STEPS; k++)
		for (int i = 0; i < IMAGES; i++)
			if (memcmp(logits_of(got, k, i), logits_of(want, k, i), want->vocab * sizeof *want->at) != 0) {
				test_fail(label, "logits of %s differ at step %d", files[i], k);
				return;
			}
	test_ok(label);
}

static void run_model(const char *name)
{
	struct traces alone = {0}, together = {0};
	struct fr_model *m;
	struct fr_error err;
	char label[96];
	int rc = 0;

	if (case_load(name, &m, &err)) {
		test_fail(name, "%s", err.text);
		return;
	}
	alone.vocab = together.vocab = (size_t)m->desc.text.vocab;
	alone.at = calloc((size_t)STEPS * IMAGES * alone.vocab, sizeof *alone.at);
	together.at = calloc((size_t)STEPS * IMAGES * alone.vocab, sizeof *alone.at);
	snprintf(label, sizeof label, "exact/%s/steps", name);
	for (int i = 0; i < IMAGES && rc == 0; i++)
		rc = !alone.at || !together.at || trace(m, 1, 1, i, 1, 0, &alone, &err);
	if (rc)
		test_fail(label, "%s", alone.at && together.at ? err.text : "no memory");
	for (int run = 0; run < 9 && rc == 0; run++) {
		const int prefilled = run < 3 ? 1 : run < 6 ? 2 : IMAGES;
		snprintf(label, sizeof label, "exact/%s/steps/rows-5/threads-%d/prefill-%d%s", name, 1 + run % 3,
			 prefilled, run % 2 ? "/reversed" : "");
		memset(together.at, 0, (size_t)STEPS * IMAGES * together.vocab * sizeof *together.at);
		if (trace(m, 1 + run % 3, prefilled, 0, IMAGES, run % 2, &together, &err))
			test_fail(label, "%s", err.text);
		else
			compare(label, &together, &alone);
	}
	free(alone.at);
	free(together.at);
	fr_model_free(m);
}

int main(void)
{
	for (size_t i = 0; i < sizeof models / sizeof *models; i++)
		run_model(models[i]);
	return test_done();
}
