/* FakeReasoning at its real widths against PyTorch in float32: hidden 5120, 40 heads of 128, fusion of 16 heads of 320
 * with an FFN of 20480, towers of 1024; few layers, a picture of 56 pixels, a position table resized from 37 x 37.
 *
 * The weights are made here (tests/wide.h), 1.4 GB in $B or the temporary folder, and gone when the test ends. The
 * golden holds 1024 values of each tap (tests/oracle/fakereasoning_wide.py). usage: e2e_wide [LEVEL...]: the levels
 * that this CPU has, of avx2 and avx512 (ref takes minutes); e2e_wide --make DIR SIDE: the checkpoint for pictures of
 * SIDE pixels. */
#include "e2e.h"
#include "wide.h"

#define WIDE "fr-wide"
#ifdef __SANITIZE_ADDRESS__ /* a minute, for nothing that the small checkpoints do not show it */
#define SANITIZED 1
#else
#define SANITIZED 0
#endif
#define WIDE_STEPS 2

/* The values of a dump's tensor that the golden holds; NULL where there is no such tensor or value. */
static const struct fr_tensor *pick(const struct golden *want, const struct fr_tensor *w, const struct fr_tensor *g,
				    struct fr_tensor *out, float *values)
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

static void check_tap(const char *level, const struct golden *want, const struct fr_tensor *w, const struct golden *got)
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
	CHECK(label, gap.share <= 1, "rel-L2 %.3g, max-abs %.3g: %.3g times the bound", gap.rel, gap.abs, gap.share);
}

static int dump_wide(const struct fr_model *model, const struct made *made, const char *level, struct golden *got,
		     struct fr_error *err)
{
	const struct fr_session_opts o = {.backend = "cpu", .isa = level, .kv_f32 = 1, .max_tokens = WIDE_STEPS};
	const char *out = files_path("dump.safetensors");
	struct fr_dump_opts d = {.max_tokens = WIDE_STEPS};
	char path[256];
	struct fr_session *s = NULL;
	int rc;

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

static void run(const struct fr_model *model, const struct golden *want, const struct made *made, char **levels, int n)
{
	struct golden got, first;
	struct fr_error err;
	const char *of = NULL;
	char label[96];

	for (int l = 0; l < n; l++) {
		snprintf(label, sizeof label, "agreed/" WIDE "/%s", levels[l]);
		if (!cpu_has(levels[l])) {
			test_skip(label, "this CPU lacks the level");
			continue;
		}
		if (dump_wide(model, made, levels[l], &got, &err)) {
			test_fail(label, "%s", err.text);
			continue;
		}
		for (size_t i = 0; i < want->t.n; i++)
			if (!in_group(want->t.at[i].name, "noise.") && !in_group(want->t.at[i].name, "at."))
				check_tap(levels[l], want, &want->t.at[i], &got);
		if (!of) {
			of = levels[l];
			first = got;
			continue;
		}
		snprintf(label, sizeof label, "exact/" WIDE "/%s-is-%s", levels[l], of);
		check_same(label, &first, &got);
		golden_close(&got);
	}
	if (of)
		golden_close(&first);
}

/* Makes the checkpoint, loads it, and takes its files away: the mappings hold. */
static struct fr_model *load(struct fr_error *err)
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

int main(int argc, char **argv)
{
	static char *both[] = {"avx2", "avx512"};
	const char *folder = getenv("B");
	struct fr_model *model;
	struct fr_error err;
	struct golden want;
	struct made made;

	if (SANITIZED) {
		test_skip("agreed/" WIDE, "not with the address sanitizer");
		return test_done();
	}
	if (folder && access(folder, W_OK) == 0) /* /tmp may be memory */
		setenv("TMPDIR", folder, 1);
	if (!wide_room(files_dir("."))) {
		test_skip("agreed/" WIDE, "no 1.6 GB of room for its weights");
		return test_done();
	}
	if (case_open(WIDE, &want, &made))
		return test_done();
	model = load(&err);
	if (!model)
		test_fail("agreed/" WIDE, "%s", err.text);
	else
		run(model, &want, &made, argc > 1 ? argv + 1 : both, argc > 1 ? argc - 1 : 2);
	fr_model_free(model);
	golden_close(&want);
	return test_done();
}
