/* The demo model on the sample pictures against its golden: tests/e2e_demo.c, for any device. */
#ifndef FR_TEST_E2E_DEMO_H
#define FR_TEST_E2E_DEMO_H

#include "../engine/error.h"
#include "files.h"
#include "golden.h"

#include <limits.h>

#define MAX_TOKENS 96 /* LIMIT in demo.py */

struct picture {
	const char *isa; /* of the labels */
	double limit;	 /* how many times the bounds of golden.h it may be off; 1 for float32 */
	int taps;	 /* those of the first picture too */
	char name[256];
	const uint8_t *bytes;
	size_t size;
};

static inline const struct fr_tensor *of(const struct golden *g, const struct picture *p, const char *prefix,
					 const char *what)
{
	char name[512];

	snprintf(name, sizeof name, "%s%s:%s", prefix, p->name, what);
	return golden_find(g, name);
}

static inline void label_of(char *label, size_t size, const char *grade, const struct picture *p, const char *what)
{
	snprintf(label, size, "%s/demo/%s/%s/%s", grade, p->isa, p->name, what);
}

static inline void check_exact(const struct golden *want, const struct golden *got, const struct picture *p,
			       const char *what, const char *tap)
{
	char label[512];
	const struct fr_tensor *w = of(want, p, "", what), *g = golden_find(got, tap);

	label_of(label, sizeof label, "exact", p, what);
	CHECK(label, w && g && golden_same_bits(w, g), "%s differs from the golden", tap);
}

/* g's last row against the golden row. */
static inline void check_row(const struct golden *want, const struct golden *got, const struct picture *p,
			     const char *what)
{
	char label[512];
	const struct fr_tensor *w = of(want, p, "", what), *noise = of(want, p, "noise.", what);
	const struct fr_tensor *g = golden_find(got, what);

	label_of(label, sizeof label, "agreed", p, what);
	if (!w || !noise || !g || g->dtype != FR_F32 || g->shape[g->ndim - 1] != w->shape[0]) {
		test_fail(label, "the tap or its golden is missing, or their widths differ");
		return;
	}
	struct fr_tensor row = *g;
	row.data = (const char *)g->data + g->bytes - w->bytes;
	struct golden_gap gap = golden_compare(&row, w, noise);
	printf("# %s rel-L2 %.2e max-abs %.2e share of bound %.3f\n", label, gap.rel, gap.abs, gap.share);
	CHECK(label, gap.share <= p->limit, "rel-L2 %.3g, max-abs %.3g: %.3g times the bound", gap.rel, gap.abs,
	      gap.share);
}

static inline void check_dump(struct fr_session *s, const struct golden *want, const struct picture *p, int first)
{
	char label[512], tail[300];
	const char *out = files_path("dump.safetensors");
	const struct fr_tensor *answer = of(want, p, "", "answer");
	struct fr_error err;
	struct golden got;
	struct fr_dump_opts o = {.image = p->bytes, .image_size = p->size, .max_tokens = (int)answer->shape[0]};

	label_of(label, sizeof label, "exact", p, "dump");
	if (fr_dump(s, &o, out, &err) || golden_open(out, &got, &err)) {
		test_fail(label, "%s", err.text);
		return;
	}
	remove(out);
	check_exact(want, &got, p, "input_ids", "input_ids");
	check_exact(want, &got, p, "answer", "steps.ids");
	check_row(want, &got, p, "logits");
	check_row(want, &got, p, "verdict.logits");
	snprintf(tail, sizeof tail, "noise.%s:", p->name);
	for (size_t i = 0; first && p->taps && i < want->t.n; i++) {
		const char *name = want->t.at[i].name, *tap = name + strlen(tail);
		if (strncmp(name, tail, strlen(tail)) == 0 && strcmp(tap, "logits") != 0 &&
		    strcmp(tap, "verdict.logits") != 0)
			check_row(want, &got, p, tap);
	}
	golden_close(&got);
}

/* P(fake) = sigmoid(d), d the difference of two logits that may each be off by the bound: dP <= dd / 4. */
static inline void check_judge(struct fr_session *s, const struct golden *want, const struct picture *p)
{
	char label[512], *text = NULL;
	const struct fr_tensor *w = of(want, p, "", "text"), *pf = of(want, p, "", "p_fake");
	const struct fr_tensor *answer = of(want, p, "", "answer"), *noise = of(want, p, "noise.", "verdict.logits");
	struct fr_error err;
	struct fr_result r;
	double p_fake;
	float deviation;

	label_of(label, sizeof label, "exact", p, "text");
	if (fr_judge_one(s, p->bytes, p->size, &r, &text, &err)) {
		test_fail(label, "%s", err.text);
		return;
	}
	CHECK(label,
	      text && strlen(text) == w->bytes && memcmp(text, w->data, w->bytes) == 0 &&
		      r.generated_tokens == (int)answer->shape[0],
	      "%d tokens '%s', expected %d tokens '%.*s'", r.generated_tokens, text ? text : "", (int)answer->shape[0],
	      (int)w->bytes, (const char *)w->data);
	free(text);
	memcpy(&p_fake, pf->data, sizeof p_fake);
	memcpy(&deviation, (const char *)noise->data + 4, 4);
	label_of(label, sizeof label, "agreed", p, "p_fake");
	CHECK(label, fabs(r.p_fake - p_fake) <= p->limit * 2 * (2 * AGREED_SIGMAS * deviation) / 4 && r.has_score,
	      "%.9g, expected %.9g", r.p_fake, p_fake);
	label_of(label, sizeof label, "exact", p, "verdict");
	CHECK(label, r.verdict == (p_fake >= 0.5 ? FR_FAKE : FR_REAL), "%s at P(fake) %.9g", fr_verdict_name(r.verdict),
	      p_fake);
}

/* The first `most` pictures, in a session of these options. */
static inline void run_level(const struct golden *want, const char *isa, const struct fr_session_opts *way,
			     double limit, int most)
{
	struct fr_model *model;
	struct fr_session *s;
	struct fr_error err;
	struct picture p = {.isa = isa, .limit = limit, .taps = limit <= 1};
	struct fr_session_opts o = *way;
	char label[64], path[512];
	int n = 0;

	o.max_tokens = MAX_TOKENS;
	snprintf(label, sizeof label, "agreed/demo/%s", isa);
	if (fr_model_load(&(struct fr_model_opts){.path = "demo"}, &model, &err)) {
		test_fail(label, "%s", err.text);
		return;
	}
	if (fr_session_new(model, &o, &s, &err)) {
		test_fail(label, "%s", err.text);
		fr_model_free(model);
		return;
	}
	for (size_t i = 0; i < want->t.n && n < most; i++) {
		const char *name = want->t.at[i].name, *colon = strrchr(name, ':');
		if (strncmp(name, "noise.", 6) == 0 || !colon || strcmp(colon, ":answer") != 0)
			continue;
		snprintf(p.name, sizeof p.name, "%.*s", (int)(colon - name), name);
		snprintf(path, sizeof path, "samples/%s", p.name);
		if (fr_map_open(path, &p.bytes, &p.size, &err)) {
			test_fail(path, "%s", err.text);
			continue;
		}
		check_judge(s, want, &p);
		check_dump(s, want, &p, of(want, &p, "", "decoder.norm") != NULL);
		fr_map_close(p.bytes, p.size);
		n++;
	}
	CHECK(label, n >= (most < 2 ? most : 2), "%d pictures in the golden", n);
	fr_session_free(s);
	fr_model_free(model);
}

#endif
