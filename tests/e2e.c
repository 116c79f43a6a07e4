/* End to end against transformers in float32: random checkpoints of six shapes, every tap, 24 greedy tokens.
 *
 * For each case and level: pixels and ids exact, every intermediate and all logits agreed (bounds: tests/golden.h),
 * the ids of the steps equal; then ref and avx2 bit for bit in every tap, the inner ones included, with the KV cache in
 * float32 and in float16. What the cases are: tests/oracle/checkpoints.py. */
#include "../engine/error.h"
#include "files.h"
#include "golden.h"

#include <cjson/cJSON.h>

#define ROOT "tests/golden/e2e/"
#define STEPS 24

static const char *const cases[] = {
	"old-f32",	     "old-bf16-gqa-shards", "new-f16-688", "v5-bf16-tied-linear", "omits-bf16-nonlegacy",
	"mixed-chat-shards",
};
static const char *const levels[] = {"ref", "avx2"};
#define LEVELS 2

/* The golden's own word on how it was made. */
struct made {
	char image[64], chat[16];
};
static int read_made(const struct golden *g, struct made *m)
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

/* Tells a level that this CPU lacks from one that is broken. */
static int cpu_has(const char *isa)
{
	if (strcmp(isa, "avx2") == 0)
		return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
		       __builtin_cpu_supports("f16c");
	return 1;
}

static int dump(const char *name, const char *isa, int kv_f32, const struct made *made, const char *tap,
		const char *out, struct fr_error *err)
{
	char path[512];
	struct fr_model *model = NULL;
	struct fr_session *s = NULL;
	const uint8_t *bytes;
	size_t size;
	int rc;

	snprintf(path, sizeof path, ROOT "%s/model", name);
	FR_TRY(fr_model_load(&(struct fr_model_opts){.path = path}, &model, err));
	snprintf(path, sizeof path, ROOT "images/%s", made->image);
	rc = fr_map_open(path, &bytes, &size, err);
	if (rc == 0) {
		struct fr_session_opts o = {.backend = "cpu",
					    .isa = isa,
					    .threads = 2,
					    .max_tokens = STEPS,
					    .kv_f32 = kv_f32,
					    .chat = made->chat};
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

static int in_group(const char *tensor, const char *prefix)
{
	return strncmp(tensor, prefix, strlen(prefix)) == 0;
}

/* One line for all tensors whose name begins with prefix: exact, or agreed within the bound. */
static void check_group(const char *name, const char *isa, const char *prefix, int exact, const struct golden *want,
			const struct golden *got)
{
	char label[128], noise_name[128], worst_name[96] = "";
	double worst = 0;
	int n = 0;

	snprintf(label, sizeof label, "%s/%s/%s/%s", exact ? "exact" : "agreed", name, isa, prefix);
	for (size_t i = 0; i < want->t.n; i++) {
		const struct fr_tensor *w = &want->t.at[i], *g = golden_find(got, w->name), *noise;
		if (!in_group(w->name, prefix))
			continue;
		n++;
		if (!g || !golden_same_shape(g, w)) {
			test_fail(label, "%s is %s", w->name, g ? "of another shape or type" : "missing");
			return;
		}
		if (exact) {
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
	CHECK(label, n > 0 && worst <= 1, "%d tensors, %s at %.3g of its bound", n, worst_name, worst);
}

/* Every tensor of a is in b with the same bits; the first difference names itself. */
static void check_same(const char *label, const struct golden *a, const struct golden *b)
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

/* The names without --tap are those of the golden, no more and no fewer. */
static void check_names(const char *name, const struct made *made, const struct golden *want)
{
	char label[128];
	const char *out;
	struct fr_error err;
	struct golden got;
	size_t extra = 0, missing = 0;

	snprintf(label, sizeof label, "exact/%s/names", name);
	out = files_path("names.safetensors");
	if (dump(name, "ref", 1, made, NULL, out, &err) || golden_open(out, &got, &err)) {
		test_fail(label, "%s", err.text);
		return;
	}
	for (size_t i = 0; i < got.t.n; i++)
		extra += !golden_find(want, got.t.at[i].name);
	for (size_t i = 0; i < want->t.n; i++)
		missing += !in_group(want->t.at[i].name, "noise.") && !golden_find(&got, want->t.at[i].name);
	CHECK(label, extra == 0 && missing == 0, "%zu names too many, %zu missing", extra, missing);
	golden_close(&got);
	remove(out);
}

static void check_golden(const char *name, const char *isa, const struct golden *want, const struct golden *got)
{
	check_group(name, isa, "pixels", 1, want, got);
	check_group(name, isa, "input_ids", 1, want, got);
	check_group(name, isa, "vision.", 0, want, got);
	check_group(name, isa, "projector.", 0, want, got);
	check_group(name, isa, "decoder.", 0, want, got);
	check_group(name, isa, "logits", 0, want, got);
	check_group(name, isa, "steps.logits", 0, want, got);
	check_group(name, isa, "steps.ids", 1, want, got);
	check_group(name, isa, "verdict.", 0, want, got);
}

static void run_case(const char *name)
{
	char path[256], label[128];
	struct golden want, got[LEVELS][2];
	struct made made;
	struct fr_error err;
	int have[LEVELS][2] = {{0}};

	snprintf(path, sizeof path, ROOT "%s/golden.safetensors", name);
	snprintf(label, sizeof label, "exact/%s/golden", name);
	if (golden_open(path, &want, &err)) {
		test_fail(label, "%s", err.text);
		return;
	}
	if (read_made(&want, &made)) {
		test_fail(label, "%s does not say how it was made", path);
		golden_close(&want);
		return;
	}
	check_names(name, &made, &want);
	for (int l = 0; l < LEVELS; l++) {
		for (int kv_f32 = 0; kv_f32 < 2; kv_f32++) {
			snprintf(label, sizeof label, "exact/%s/%s/%s", name, levels[l], kv_f32 ? "kv-f32" : "kv-f16");
			snprintf(path, sizeof path, "%s", files_path("dump.safetensors"));
			if (!cpu_has(levels[l]))
				test_skip(label, "this CPU lacks the level");
			else if (dump(name, levels[l], kv_f32, &made, "*", path, &err) ||
				 golden_open(path, &got[l][kv_f32], &err))
				test_fail(label, "%s", err.text);
			else
				have[l][kv_f32] = 1;
			remove(path);
		}
		if (have[l][1])
			check_golden(name, levels[l], &want, &got[l][1]);
	}
	for (int kv_f32 = 0; kv_f32 < 2; kv_f32++) {
		snprintf(label, sizeof label, "exact/%s/avx2-is-ref/%s", name, kv_f32 ? "kv-f32" : "kv-f16");
		if (have[0][kv_f32] && have[1][kv_f32])
			check_same(label, &got[0][kv_f32], &got[1][kv_f32]);
	}
	for (int l = 0; l < LEVELS; l++)
		for (int k = 0; k < 2; k++)
			if (have[l][k])
				golden_close(&got[l][k]);
	golden_close(&want);
}

int main(void)
{
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		run_case(cases[i]);
	return test_done();
}
