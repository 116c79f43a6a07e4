/* A decode step gives each row the same bits however many rows share it, in whatever order, on however many threads.
 *
 * Five pictures are prefilled into five sequences and stepped together; every logit of every step is compared with the
 * same picture alone in a session of its own. Texts would hide a difference that moves no argmax (tests/repeat.c). */
#include "test.h"

#include "../engine/image.h"
#include "../engine/session.h"

#define IMAGES 5
#define STEPS 6
static const char *const files[IMAGES] = {"wide.png", "tall.png", "square.png", "small.png", "edge.png"};
static const char *const models[] = {"tests/golden/e2e/old-bf16-gqa-shards/model", "demo"};

struct traces {
	size_t vocab;
	float *at; /* [STEPS, IMAGES, vocab] */
};

static float *logits_of(const struct traces *t, int step, int image)
{
	return t->at + ((size_t)step * IMAGES + (size_t)image) * t->vocab;
}

static int see(struct fr_session *s, const char *file, struct fr_error *err)
{
	char path[256];
	const uint8_t *bytes;
	size_t size;
	struct fr_image img;
	int rc;

	snprintf(path, sizeof path, "tests/golden/e2e/images/%s", file);
	FR_TRY(fr_map_open(path, &bytes, &size, err));
	rc = fr_image_decode(bytes, size, FR_MAX_PIXELS, &img, err);
	if (rc == 0) {
		rc = fr_image_fit(&img, &s->model->desc.image, s->u8, err);
		fr_image_free(&img);
	}
	fr_map_close(bytes, size);
	FR_TRY(rc);
	fr_image_normalise(s->u8, &s->model->desc.image, s->host_pixels);
	return fr_session_see(s, err);
}

/* Prefills pictures first..first+n-1 into sequences 0..n-1 and steps them together; row r of a step is sequence r, or
 * n-1-r when reversed. */
static int trace(const struct fr_model *m, int threads, int first, int n, int reversed, struct traces *t,
		 struct fr_error *err)
{
	const struct fr_session_opts o = {.backend = "cpu", .threads = threads, .batch = n, .max_tokens = STEPS};
	int32_t next[IMAGES];
	struct fr_session *s;
	int rc = 0;

	FR_TRY(fr_session_new(m, &o, &s, err));
	for (int i = 0; i < n && rc == 0; i++) {
		rc = see(s, files[first + i], err);
		if (rc == 0)
			rc = fr_session_prefill(s, i, 0, s->n_prompt, 1, err);
		next[i] = fr_argmax(s->logits, (int)t->vocab);
	}
	for (int k = 0; k < STEPS && rc == 0; k++) {
		for (int r = 0; r < n; r++) {
			int seq = reversed ? n - 1 - r : r;
			s->ids[r] = next[seq];
			s->row[r] = (struct fr_row){.seq = seq, .pos = s->n_prompt + k};
		}
		rc = fr_session_step(s, n, err);
		for (int r = 0; r < n && rc == 0; r++) {
			int seq = reversed ? n - 1 - r : r;
			const float *row = s->logits + (size_t)r * t->vocab;
			memcpy(logits_of(t, k, first + seq), row, t->vocab * sizeof *row);
			next[seq] = fr_argmax(row, (int)t->vocab);
		}
	}
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

static void run_model(const char *path)
{
	const char *name = strrchr(path, '/') ? "random" : path;
	struct traces alone = {0}, together = {0};
	struct fr_model *m;
	struct fr_error err;
	char label[96];
	int rc = 0;

	if (fr_model_load(&(struct fr_model_opts){.path = path}, &m, &err)) {
		test_fail(path, "%s", err.text);
		return;
	}
	alone.vocab = together.vocab = (size_t)m->desc.text.vocab;
	alone.at = calloc((size_t)STEPS * IMAGES * alone.vocab, sizeof *alone.at);
	together.at = calloc((size_t)STEPS * IMAGES * alone.vocab, sizeof *alone.at);
	snprintf(label, sizeof label, "exact/%s/steps", name);
	for (int i = 0; i < IMAGES && rc == 0; i++)
		rc = !alone.at || !together.at || trace(m, 1, i, 1, 0, &alone, &err);
	if (rc)
		test_fail(label, "%s", alone.at && together.at ? err.text : "no memory");
	for (int run = 0; run < 6 && rc == 0; run++) {
		snprintf(label, sizeof label, "exact/%s/steps/rows-5/threads-%d%s", name, 1 + run % 3,
			 run < 3 ? "" : "/reversed");
		memset(together.at, 0, (size_t)STEPS * IMAGES * together.vocab * sizeof *together.at);
		if (trace(m, 1 + run % 3, 0, IMAGES, run >= 3, &together, &err))
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
