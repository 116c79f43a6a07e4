/* The golden of the real widths (tests/oracle/fakereasoning_wide.py): its model, made by wide.h, and the comparison of
 * a run with the values that it holds. */
#ifndef FR_TEST_WIDE_GOLDEN_H
#define FR_TEST_WIDE_GOLDEN_H

#include "e2e.h"
#include "wide.h"

#define WIDE "fr-wide"
#define WIDE_STEPS 2

/* The values of a dump's tensor that the golden holds; NULL where there is no such tensor or value. */
static inline const struct fr_tensor *pick(const struct golden *want, const struct fr_tensor *w,
					   const struct fr_tensor *g, struct fr_tensor *out, float *values)
{
	char name[128];
	const struct fr_tensor *at;

	snprintf(name, sizeof name, "at.%s", w->name);
	at = golden_find(want, name);
	if (!g || !at)
		return g && golden_same_shape(g, w) ? g : NULL;
	for (size_t i = 0; i < fr_tensor_items(at); i++) {
		int32_t k;

		memcpy(&k, (const char *)at->data + 4 * i, 4);
		if (k < 0 || (size_t)k >= fr_tensor_items(g))
			return NULL;
		if (g->dtype == FR_U8)
			((uint8_t *)values)[i] = ((const uint8_t *)g->data)[k];
		else
			memcpy(&values[i], (const char *)g->data + 4 * (size_t)k, 4);
	}
	*out = *w;
	out->dtype = g->dtype;
	out->data = values;
	return golden_same_shape(out, w) ? out : NULL;
}

static inline void check_tap(const char *level, double limit, const struct golden *want, const struct fr_tensor *w,
			     const struct golden *got)
{
	static float values[1 << 16];
	char label[128], noise_name[128];
	struct fr_tensor picked;
	const struct fr_tensor *g = pick(want, w, golden_find(got, w->name), &picked, values), *noise;

	snprintf(noise_name, sizeof noise_name, "noise.%s", w->name);
	noise = golden_find(want, noise_name);
	snprintf(label, sizeof label, "%s/" WIDE "/%s/%s", noise ? "agreed" : "exact", level, w->name);
	if (!g) {
		test_fail(label, "it is missing or of another shape or type");
		return;
	}
	if (!noise) {
		CHECK(label, golden_same_bits(g, w), "differs");
		return;
	}
	struct golden_gap gap = golden_compare(g, w, noise);
	printf("# %s rel-L2 %.2e max-abs %.2e share of bound %.3f\n", label, gap.rel, gap.abs, gap.share);
	CHECK(label, gap.share <= limit, "rel-L2 %.3g, max-abs %.3g: %.3g times the bound", gap.rel, gap.abs,
	      gap.share);
}

/* Every tap but those of the golden's own; limit: check_golden's. */
static inline void check_wide(const char *level, double limit, const struct golden *want, const struct golden *got)
{
	for (size_t i = 0; i < want->t.n; i++)
		if (!in_group(want->t.at[i].name, "noise.") && !in_group(want->t.at[i].name, "at."))
			check_tap(level, limit, want, &want->t.at[i], got);
}

/* A run as `way` says; max_tokens is filled in. */
static inline int dump_wide(const struct fr_model *model, const struct made *made, const struct fr_session_opts *way,
			    struct golden *got, struct fr_error *err)
{
	struct fr_session_opts o = *way;
	const char *out = files_path("dump.safetensors");
	struct fr_dump_opts d = {.max_tokens = WIDE_STEPS};
	char path[256];
	struct fr_session *s = NULL;
	int rc;

	o.max_tokens = WIDE_STEPS;
	snprintf(path, sizeof path, ROOT "images/%s", made->image);
	FR_TRY(fr_map_open(path, &d.image, &d.image_size, err));
	rc = fr_session_new(model, &o, &s, err);
	if (rc == 0)
		rc = fr_dump(s, &d, out, err);
	fr_session_free(s);
	fr_map_close(d.image, d.image_size);
	if (rc == 0)
		rc = golden_open(out, got, err);
	remove(out);
	return rc;
}

/* Makes the checkpoint, loads it, and takes its files away: the mappings hold. */
static inline struct fr_model *load(struct fr_error *err)
{
	char model[1100], clip[1100], dino[1100];
	const char *dir = files_dir("wide");
	struct fr_model *m = NULL;

	snprintf(model, sizeof model, "%s/model", dir);
	snprintf(clip, sizeof clip, "%s/clip", dir);
	snprintf(dino, sizeof dino, "%s/dino.safetensors", dir);
	if (wide_make(dir, err) == 0 &&
	    fr_model_load(&(struct fr_model_opts){.path = model, .vision_tower = clip, .dino = dino}, &m, err))
		m = NULL;
	nftw(dir, files_remove, 16, FTW_DEPTH | FTW_PHYS);
	return m;
}

/* The golden and the model; -1 and a line that says why not. */
static inline int open_wide(struct fr_model **model, struct golden *want, struct made *made)
{
	const char *folder = getenv("B");
	struct fr_error err;

	if (folder && access(folder, W_OK) == 0) /* /tmp may be memory */
		setenv("TMPDIR", folder, 1);
	if (!wide_room(files_dir("."))) {
		test_skip("agreed/" WIDE, "no 1.6 GB of room for its weights");
		return -1;
	}
	if (case_open(WIDE, want, made))
		return -1;
	*model = load(&err);
	if (*model)
		return 0;
	test_fail("agreed/" WIDE, "%s", err.text);
	golden_close(want);
	return -1;
}

#endif
