/* Where the encoder looked: a session's heat is the class token's attention in the last layer that runs, mean over
 * heads, of the right branch; it has the same bits for a picture alone and among others, and asking for it changes
 * nothing else.
 *
 * Heat is compared with the softmax taken in double over the taps of that layer's q and k: scores of a few units are
 * off by some 1e-6 in float32, and so is each share of itself. */
#include "cases.h"
#include "repeat.h"
#include "files.h"

#include "../engine/session.h"

#define BOUND 2e-5 /* of a share, relative */

static struct fr_session *open_session(struct fr_model *m, int heat, int together, struct fr_error *err)
{
	const struct fr_session_opts o = {
		.backend = "cpu", .threads = 2, .batch = IMAGES, .heat = heat, .kv_f32 = 1, .max_tokens = 4};
	struct fr_session *s;

	return fr_session_open(m, &o, &(struct fr_session_force){.together = together}, &s, err) ? NULL : s;
}

/* Pictures from .. from + n - 1 seen in one call; heat [n, n_image] of them. */
static int look(struct fr_session *s, const struct feed *f, int from, int n, float *heat, struct fr_error *err)
{
	const struct fr_picture *pics[IMAGES];
	const struct fr_model_desc *d = &s->model->desc;

	for (int i = 0; i < n; i++) {
		struct fr_picture *pic = fr_intake_at(s->intake, (size_t)i);
		fr_picture_read(pic, &d->image, s->o.max_pixels, f->bytes[from + i], f->size[from + i]);
		pics[i] = pic;
	}
	FR_TRY(fr_session_see(s, pics, n, err));
	if (heat)
		memcpy(heat, s->heat, (size_t)n * (size_t)d->n_image * sizeof *heat);
	return 0;
}

/* The same of one picture from the taps q and k. */
static int expect(struct fr_session *s, const struct feed *f, int image, double *want, struct fr_error *err)
{
	const struct fr_vit_desc *v = &s->model->desc.vit[s->model->desc.look];
	const int n = 1 + s->model->desc.n_image, width = v->dim / v->heads;
	const char *path = files_path("taps.safetensors");
	struct fr_dump_opts o = {.image = f->bytes[image], .image_size = f->size[image]};
	char tap[64];
	struct golden g;
	const struct fr_tensor *t[2];
	int rc = 0;

	snprintf(tap, sizeof tap, "%s.layer.%d.[qk]", v->role, v->run - 1);
	o.tap = tap;
	FR_TRY(fr_dump(s, &o, path, err));
	FR_TRY(golden_open(path, &g, err));
	for (int i = 0; i < 2; i++) {
		snprintf(tap, sizeof tap, "%s.layer.%d.%c", v->role, v->run - 1, "qk"[i]);
		t[i] = golden_find(&g, tap);
		if (!t[i])
			rc = fr_fail(err, FR_E_NUMBERS, "no tap %s", tap);
	}
	memset(want, 0, (size_t)(n - 1) * sizeof *want);
	for (int h = 0; h < v->heads && rc == 0; h++) {
		const float *q = (const float *)t[0]->data + h * width, *k = (const float *)t[1]->data + h * width;
		double sum = 0, p[1024];
		for (int j = 0; j < n; j++) {
			double dot = 0;
			for (int i = 0; i < width; i++)
				dot += (double)q[i] * (double)k[j * v->dim + i];
			sum += p[j] = exp(dot / sqrt((double)width));
		}
		for (int j = 1; j < n; j++)
			want[j - 1] += p[j] / sum / v->heads;
	}
	golden_close(&g);
	remove(path);
	return rc;
}

/* The labels' logits of picture 0 after prompt and opening. */
static int labels(struct fr_session *s, const struct feed *f, float out[2], struct fr_error *err)
{
	const struct fr_part part = {.to = s->question->n + s->model->n_opening};
	const struct fr_prefill p = {.part = &part, .n = 1, .n_logits = 1};

	FR_TRY(look(s, f, 0, 1, NULL, err));
	FR_TRY(fr_session_prefill(s, &p, err));
	memcpy(out, s->labels[0], sizeof s->labels[0]);
	return 0;
}

static void check_values(const char *name, struct fr_session *s, const struct feed *f, const float *heat)
{
	const int n = s->model->desc.n_image;
	double want[1024], worst = 0, all = 0;
	char label[96];
	struct fr_error err;

	snprintf(label, sizeof label, "bounded/look/%s/share", name);
	for (int i = 0; i < IMAGES; i++) {
		if (expect(s, f, i, want, &err)) {
			test_fail(label, "%s", err.text);
			return;
		}
		for (int j = 0; j < n; j++) {
			const double off = fabs((double)heat[i * n + j] - want[j]) / want[j];
			worst = off > worst || off != off ? off : worst;
			all += (double)heat[i * n + j] / IMAGES;
		}
	}
	CHECK(label, worst < BOUND && all > 0.1 && all < 1, "off by %.2e, %.3f in all", worst, all);
}

static void run_model(const char *name, const struct feed *f)
{
	struct fr_session *one = NULL, *five = NULL, *without = NULL;
	float *heat[2] = {NULL, NULL}, got[2][2];
	struct fr_model *m;
	struct fr_error err;
	char label[96];
	size_t n;
	int rc = 0;

	if (case_load(name, &m, &err)) {
		test_fail(name, "%s", err.text);
		return;
	}
	n = (size_t)m->desc.n_image;
	heat[0] = calloc(2 * IMAGES * n, sizeof(float));
	heat[1] = heat[0] + IMAGES * n;
	one = open_session(m, 1, 1, &err);
	five = one ? open_session(m, 1, IMAGES, &err) : NULL;
	without = five ? open_session(m, 0, 1, &err) : NULL;
	rc = !without;
	for (int i = 0; i < IMAGES && rc == 0; i++)
		rc = look(one, f, i, 1, heat[0] + (size_t)i * n, &err);
	if (rc || look(five, f, 0, IMAGES, heat[1], &err) || labels(one, f, got[0], &err) ||
	    labels(without, f, got[1], &err)) {
		test_fail(name, "%s", err.text);
	} else {
		snprintf(label, sizeof label, "exact/look/%s/together", name);
		CHECK(label, memcmp(heat[0], heat[1], IMAGES * n * sizeof(float)) == 0, "other bits among others");
		snprintf(label, sizeof label, "exact/look/%s/pictures-differ", name);
		CHECK(label, memcmp(heat[0], heat[0] + n, n * sizeof(float)) != 0, "two pictures have one map");
		snprintf(label, sizeof label, "exact/look/%s/changes-nothing", name);
		CHECK(label, memcmp(got[0], got[1], sizeof got[0]) == 0, "other logits");
		check_values(name, one, f, heat[0]);
	}
	fr_session_free(one);
	fr_session_free(five);
	fr_session_free(without);
	free(heat[0]);
	fr_model_free(m);
}

int main(void)
{
	static struct feed f;

	if (open_pictures(&f))
		return test_done();
	run_model("old-bf16-gqa-shards", &f);
	run_model("fr-merged-f16", &f);
	return test_done();
}
