/* The small checkpoints of tests/golden/e2e and the comparison of a run with a golden. */
#ifndef FR_TEST_E2E_H
#define FR_TEST_E2E_H

#include "../engine/error.h"
#include "../kernels/cpu/cpu.h"
#include "cases.h"
#include "files.h"
#include "golden.h"

#include <cjson/cJSON.h>

#define STEPS 24

/* Tells a level that this CPU lacks from one that is broken. */
static inline int cpu_has(const char *isa)
{
	for (int i = 0; i < FR_LEVELS; i++)
		if (strcmp(isa, fr_level_names[i]) == 0)
			return (int)fr_level_found() >= i; /* amx: of a tile unit in software too */
	return 1;
}

/* The best level here of those that agree to the bit. */
static inline const char *exact_level(void)
{
	return cpu_has("avx512") ? "avx512" : cpu_has("avx2") ? "avx2" : "cpu-ref";
}

/* The golden's own word on how it was made. */
struct made {
	char image[64], chat[16];
};
static inline int read_made(const struct golden *g, struct made *m)
{
	cJSON *meta = cJSON_Parse(g->t.metadata ? g->t.metadata : "");
	const char *text = cJSON_GetStringValue(cJSON_GetObjectItem(meta, "made"));
	cJSON *o = cJSON_Parse(text ? text : "");
	const char *image = cJSON_GetStringValue(cJSON_GetObjectItem(o, "image"));
	const char *chat = cJSON_GetStringValue(cJSON_GetObjectItem(o, "chat"));
	int ok = image && chat;

	if (ok) {
		snprintf(m->image, sizeof m->image, "%s", image);
		snprintf(m->chat, sizeof m->chat, "%s", chat);
	}
	cJSON_Delete(o);
	cJSON_Delete(meta);
	return ok ? 0 : -1;
}

/* Runs a case as `way` says (its chat and max_tokens are filled in) and writes the taps that match. */
static inline int dump(const char *name, const struct fr_session_opts *way, const struct made *made, const char *tap,
		       const char *out, struct fr_error *err)
{
	char path[512];
	struct fr_model *model = NULL;
	struct fr_session *s = NULL;
	const uint8_t *bytes;
	size_t size;
	int rc;

	FR_TRY(case_load(name, &model, err));
	snprintf(path, sizeof path, ROOT "images/%s", made->image);
	rc = fr_map_open(path, &bytes, &size, err);
	if (rc == 0) {
		struct fr_session_opts o = *way;

		o.max_tokens = STEPS;
		o.chat = made->chat;
		rc = fr_session_new(model, &o, &s, err);
		if (rc == 0)
			rc = fr_dump(s,
				     &(struct fr_dump_opts){
					     .image = bytes, .image_size = size, .tap = tap, .max_tokens = STEPS},
				     out, err);
		fr_session_free(s);
		fr_map_close(bytes, size);
	}
	fr_model_free(model);
	return rc;
}

/* The same, opened. The file is gone when it is closed. */
static inline int dump_open(const char *name, const struct fr_session_opts *way, const struct made *made,
			    struct golden *got, struct fr_error *err)
{
	const char *path = files_path("dump.safetensors");
	int rc = dump(name, way, made, "*", path, err);

	if (rc == 0)
		rc = golden_open(path, got, err);
	remove(path);
	return rc;
}

/* The golden of a case and how it was made; a failed line and -1 without. */
static inline int case_open(const char *name, struct golden *want, struct made *made)
{
	char path[256], label[128];
	struct fr_error err;

	snprintf(path, sizeof path, ROOT "%s/golden.safetensors", name);
	snprintf(label, sizeof label, "exact/%s/golden", name);
	if (golden_open(path, want, &err)) {
		test_fail(label, "%s", err.text);
		return -1;
	}
	if (read_made(want, made) == 0)
		return 0;
	test_fail(label, "%s does not say how it was made", path);
	golden_close(want);
	return -1;
}

static inline int in_group(const char *tensor, const char *prefix)
{
	return strncmp(tensor, prefix, strlen(prefix)) == 0;
}

static inline int has_group(const struct golden *g, const char *prefix)
{
	for (size_t i = 0; i < g->t.n; i++)
		if (in_group(g->t.at[i].name, prefix))
			return 1;
	return 0;
}

/* One line for all tensors whose name begins with prefix: exact (limit 0), or agreed within limit times the bound. */
static inline void check_group(const char *name, const char *isa, const char *prefix, double limit,
			       const struct golden *want, const struct golden *got)
{
	char label[128], noise_name[128], worst_name[96] = "";
	double worst = 0;
	int n = 0;

	snprintf(label, sizeof label, "%s/%s/%s/%s", limit > 0 ? "agreed" : "exact", name, isa, prefix);
	for (size_t i = 0; i < want->t.n; i++) {
		const struct fr_tensor *w = &want->t.at[i], *g = golden_find(got, w->name), *noise;
		if (!in_group(w->name, prefix))
			continue;
		n++;
		if (!g || !golden_same_shape(g, w)) {
			test_fail(label, "%s is %s", w->name, g ? "of another shape or type" : "missing");
			return;
		}
		if (limit <= 0) {
			if (!golden_same_bits(g, w)) {
				test_fail(label, "%s differs", w->name);
				return;
			}
			continue;
		}
		snprintf(noise_name, sizeof noise_name, "noise.%s", w->name);
		noise = golden_find(want, noise_name);
		struct golden_gap gap = noise ? golden_compare(g, w, noise) : (struct golden_gap){.share = NAN};
		printf("# %s %s rel-L2 %.2e max-abs %.2e share of bound %.3f\n", label, w->name, gap.rel, gap.abs,
		       gap.share);
		if (!(gap.share <= worst)) {
			worst = gap.share;
			snprintf(worst_name, sizeof worst_name, "%s", w->name);
		}
	}
	CHECK(label, n > 0 && worst <= limit, "%d tensors, %s at %.3g of its bound", n, worst_name, worst);
}

/* Every tensor of a is in b with the same bits; the first difference names itself. */
static inline void check_same(const char *label, const struct golden *a, const struct golden *b)
{
	size_t differ = 0;
	const char *first = NULL;

	for (size_t i = 0; i < a->t.n; i++) {
		const struct fr_tensor *t = golden_find(b, a->t.at[i].name);
		if (t && golden_same_bits(&a->t.at[i], t))
			continue;
		if (!differ++)
			first = a->t.at[i].name;
	}
	CHECK(label, differ == 0 && a->t.n == b->t.n && a->t.n > 0, "%zu of %zu tensors differ, first %s", differ,
	      a->t.n, first ? first : "their number");
}

/* limit: how many times the bounds of golden.h an agreed tensor may be off; 1 for float32. */
static inline void check_golden(const char *name, const char *isa, double limit, const struct golden *want,
				const struct golden *got)
{
	static const char *const agreed[] = {"vision.",	 "projector.", "clip.",	       "dino.",	  "fusion.",
					     "decoder.", "logits",     "steps.logits", "verdict."};

	check_group(name, isa, "pixels", 0, want, got);
	check_group(name, isa, "input_ids", 0, want, got);
	check_group(name, isa, "steps.ids", 0, want, got);
	for (size_t i = 0; i < sizeof agreed / sizeof *agreed; i++)
		if (has_group(want, agreed[i]))
			check_group(name, isa, agreed[i], limit, want, got);
}

#endif
