/* FakeReasoning on disk: where its parts are found, what is said of those that are not, and a hash that does not depend
 * on where they lie. */
#include "../engine/model.h"
#include "cases.h"
#include "files.h"
#include "test.h"

static const char config[] = "{\"architectures\":[\"LlavaLlamaForCausalLM\"],\"model_type\":\"llava_llama\","
			     "\"mm_vision_tower\":\"openai/clip-vit-large-patch14-336\"}";

#define NAME "clip-vit-large-patch14-336"
static const struct {
	const char *what, *model; /* the model's path below the test's folder */
	const char *make[4];	  /* files there, besides m/config.json */
	const char *tower, *dino; /* expected there; NULL: missing */
} places[] = {
	{"in the model's directory, by the whole path",
	 "m",
	 {"m/openai/" NAME "/config.json", "m/dinov2_vitl14_pretrain.pth"},
	 "m/openai/" NAME,
	 "m/dinov2_vitl14_pretrain.pth"},
	{"in the model's directory, by the last name",
	 "m",
	 {"m/" NAME "/config.json", "m/dinov2_vits14.pth"},
	 "m/" NAME,
	 "m/dinov2_vits14.pth"},
	{"beside the model's directory",
	 "m/",
	 {NAME "/config.json", "dinov2_vitl14_pretrain.pth"},
	 NAME,
	 "dinov2_vitl14_pretrain.pth"},
	{"DINOv2 in the CLIP directory",
	 "m",
	 {NAME "/config.json", NAME "/dinov2_vitb14_pretrain.pth"},
	 NAME,
	 NAME "/dinov2_vitb14_pretrain.pth"},
	{"the known name before others",
	 "m",
	 {"m/dinov2_a.pth", "m/dinov2_b.pth", "m/dinov2_vitl14_pretrain.pth"},
	 NULL,
	 "m/dinov2_vitl14_pretrain.pth"},
	{"two files that might be DINOv2 are none", "m", {"m/dinov2_a.pth", "m/dinov2_b.pth"}, NULL, NULL},
	{"a directory without a config.json is no CLIP", "m", {"m/" NAME "/pytorch_model.bin"}, NULL, NULL},
};

/* A file with its folders. */
static void make(const char *top, const char *file, const char *text)
{
	char path[256];

	files_dir(top);
	for (const char *p = file; (p = strchr(p, '/')); p++) {
		snprintf(path, sizeof path, "%s/%.*s", top, (int)(p - file), file);
		files_dir(path);
	}
	snprintf(path, sizeof path, "%s/%s", top, file);
	files_text(path, text);
}

static const char *below(const char *top, const char *file)
{
	char path[256];

	snprintf(path, sizeof path, "%s/%s", top, file);
	return files_path(path);
}

static int is_at(const struct fr_extra *x, const char *top, const char *want)
{
	return x->wanted && (want ? x->path && strcmp(x->path, below(top, want)) == 0 : !x->path);
}

static void test_places(void)
{
	for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
		char top[32], name[128];
		struct fr_error err = {0};
		struct fr_parts p;
		int rc;

		snprintf(top, sizeof top, "places%zu", i);
		make(top, "m/config.json", config);
		for (int k = 0; k < 4 && places[i].make[k]; k++)
			make(top, places[i].make[k], "{}");
		rc = fr_parts_find(&(struct fr_model_opts){.path = below(top, places[i].model)}, &p, &err);
		snprintf(name, sizeof name, "exact/parts found: %s", places[i].what);
		CHECK(name,
		      rc == 0 && is_at(&p.extra[FR_EXTRA_TOWER], top, places[i].tower) &&
			      is_at(&p.extra[FR_EXTRA_DINO], top, places[i].dino) && !p.extra[FR_EXTRA_BASE].wanted,
		      "rc %d %s, CLIP %s, DINOv2 %s", rc, err.text, p.extra[FR_EXTRA_TOWER].path,
		      p.extra[FR_EXTRA_DINO].path);
		fr_parts_close(&p);
	}
}

/* What is missing, given and not there, or of no use: one sentence each. %s is the test's folder. */
static void test_sentences(void)
{
	char *const m = strdup(below("say", "m")), *const l = strdup(below("say", "l")),
		    *const none = strdup(below("say", "none")), *const clip = strdup(below("say", "c")),
		    *const empty = strdup(below("say", "e")), *const file = strdup(below("say", "d.pth")),
		    *const a = strdup(below("say", "a"));
	const struct {
		const char *what;
		struct fr_model_opts opts;
		enum fr_code code;
		const char *says[3];
	} cases_[] = {
		{"all of it",
		 {.path = m},
		 FR_E_MODEL,
		 {"the vision tower (CLIP) is missing, name its directory with --vision-tower: looked for it as "
		  "openai/" NAME ", ",
		  "/m/openai/" NAME ", ",
		  "; DINOv2 is missing, name its file with --dino: looked for "
		  "dinov2_vitl14_pretrain.pth or one dinov2*.pth in "}},
		{"the base as well",
		 {.path = l, .vision_tower = clip, .dino = file},
		 FR_E_MODEL,
		 {"/l: the base model is missing, name its directory with --base: looked for it as some/base, ",
		  "/say/base", NULL}},
		{"a CLIP that is not there",
		 {.path = m, .vision_tower = none},
		 FR_E_MODEL,
		 {"--vision-tower ", "/none: cannot be opened: No such file or directory", NULL}},
		{"a CLIP that is a file",
		 {.path = m, .vision_tower = file},
		 FR_E_MODEL,
		 {"/d.pth: expected a directory, got a file", NULL, NULL}},
		{"a CLIP without a config.json",
		 {.path = m, .vision_tower = empty},
		 FR_E_MODEL,
		 {"/e: config.json is missing there", NULL, NULL}},
		{"a DINOv2 that is not there",
		 {.path = m, .vision_tower = clip, .dino = none},
		 FR_E_MODEL,
		 {"--dino ", "/none: cannot be opened", NULL}},
		{"a DINOv2 that is a directory",
		 {.path = m, .vision_tower = clip, .dino = clip},
		 FR_E_MODEL,
		 {"expected a file, got a directory", NULL, NULL}},
		{"a base that is not there",
		 {.path = l, .base = none},
		 FR_E_MODEL,
		 {"--base ", "cannot be opened", NULL}},
		{"a base for no adapter",
		 {.path = m, .vision_tower = clip, .dino = file, .base = clip},
		 FR_E_USAGE,
		 {"--base: the model ", "/m has no use for it: it is no LoRA checkpoint (adapter_config.json)", NULL}},
		{"an adapter over another model",
		 {.path = a},
		 FR_E_MODEL,
		 {"adapter_config.json: expected none", "FakeVLM", NULL}},
		{"a DINOv2 for another model",
		 {.path = "demo", .dino = file},
		 FR_E_USAGE,
		 {"--dino: the model demo has no use for it", NULL, NULL}},
		{"the same where it may be spare",
		 {.path = "demo", .dino = file, .spare_ok = 1},
		 FR_OK,
		 {"", NULL, NULL}},
	};

	make("say", "m/config.json", config);
	make("say", "l/config.json", config);
	make("say", "l/adapter_config.json", "{\"base_model_name_or_path\":\"some/base/\"}");
	make("say", "a/config.json", "{\"architectures\":[\"LlavaForConditionalGeneration\"]}");
	make("say", "a/adapter_config.json", "{}");
	make("say", "c/config.json", "{}");
	make("say", "e/pytorch_model.bin", "");
	make("say", "d.pth", "");
	for (size_t i = 0; i < sizeof cases_ / sizeof *cases_; i++) {
		struct fr_error err = {0};
		struct fr_parts p;
		char name[128];
		int rc = fr_parts_find(&cases_[i].opts, &p, &err) || fr_parts_check(&p, &err), found = 1;

		for (int k = 0; k < 3 && cases_[i].says[k]; k++)
			found &= strstr(err.text, cases_[i].says[k]) != NULL;
		snprintf(name, sizeof name, "exact/parts missing: %s", cases_[i].what);
		CHECK(name, (rc != 0) == (cases_[i].code != FR_OK) && err.code == cases_[i].code && found,
		      "rc %d \"%s\"", rc, err.text);
		fr_parts_close(&p);
	}
	free(m), free(l), free(none), free(clip), free(empty), free(file), free(a);
}

/* The golden's CLIP, DINOv2 and model linked into a folder where each is found by itself. */
static void link_case(const char *top, const char *const files[][2], size_t n)
{
	files_dir(top);
	for (size_t i = 0; i < n; i++) {
		char real[512];
		const char *to = below(top, files[i][1]);

		snprintf(real, sizeof real, "%s/%s", getenv("PWD") ? getenv("PWD") : ".", files[i][0]);
		if (symlink(real, to) != 0)
			perror(to);
	}
}

/* A LLaVA that is no FakeReasoning says so, before a CLIP is asked for. */
static void test_other(void)
{
	struct fr_error err = {0};
	struct fr_model *m;

	make("other", "m/config.json",
	     "{\"architectures\":[\"LlavaLlamaForCausalLM\"],\"mm_projector_type\":\"mlp2x_gelu\"}");
	files_put_safetensors("other/m/model.safetensors",
			      "{\"lm_head.weight\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}", 4);
	CHECK("exact/parts: of another LLaVA none are asked for",
	      fr_model_load(&(struct fr_model_opts){.path = below("other", "m")}, &m, &err) == -1 &&
		      err.code == FR_E_MODEL &&
		      strstr(err.text, "/m: a LLaVA of the original layout without the tensors") &&
		      !strstr(err.text, "--vision-tower"),
	      "\"%s\"", err.text);
}

/* A copy in which one bit of cls_token is another. */
static void copy_flipped(const char *from, const char *to)
{
	struct fr_store *store;
	const struct fr_tensor *t;
	struct fr_error err;
	const uint8_t *bytes;
	uint8_t *copy;
	size_t size;

	if (fr_map_open(from, &bytes, &size, &err) != 0 || fr_store_open_file(from, &store, &err) != 0) {
		fprintf(stderr, "%s\n", err.text);
		exit(1);
	}
	t = fr_store_find(store, "cls_token");
	copy = malloc(size);
	memcpy(copy, bytes, size);
	((uint8_t *)memmem(copy, size, t->data, t->bytes))[t->bytes / 2] ^= 1;
	files_put(to, copy, size);
	free(copy);
	fr_store_close(store);
	fr_map_close(bytes, size);
}

#define AT ROOT "fr-merged-f16/"
/* The golden's model with one string of its config.json replaced. */
static const char *hash_of_edited(const char *top, const char *old, const char *new, struct fr_model **m)
{
	static const char *const links[][2] = {
		{AT "model/model-00001-of-00002.safetensors", "model-00001-of-00002.safetensors"},
		{AT "model/model-00002-of-00002.safetensors", "model-00002-of-00002.safetensors"},
		{AT "model/model.safetensors.index.json", "model.safetensors.index.json"},
		{AT "model/tokenizer.model", "tokenizer.model"},
		{AT "model/tokenizer_config.json", "tokenizer_config.json"},
		{AT "model/special_tokens_map.json", "special_tokens_map.json"}};
	const uint8_t *bytes;
	struct fr_error err;
	char text[4096], out[4200];
	size_t size;
	char *at;

	link_case(top, links, sizeof links / sizeof *links);
	if (fr_map_open(AT "model/config.json", &bytes, &size, &err) != 0)
		return "config.json cannot be read";
	snprintf(text, sizeof text, "%.*s", (int)size, (const char *)bytes);
	fr_map_close(bytes, size);
	at = strstr(text, old);
	if (!at)
		return "nothing to edit";
	snprintf(out, sizeof out, "%.*s%s%s", (int)(at - text), text, new, at + strlen(old));
	snprintf(text, sizeof text, "%s/config.json", top);
	files_put(text, out, strlen(out));
	if (fr_model_load(
		    &(struct fr_model_opts){.path = files_path(top), .vision_tower = AT "clip", .dino = AT "dino.pth"},
		    m, &err) != 0)
		return "does not load";
	return fr_model_hash(*m);
}

/* People put their own path there. */
static void test_hash_of_config(void)
{
	struct fr_model *usual, *moved = NULL, *other = NULL;
	struct fr_error err;
	const char *a, *b;

	if (case_load("fr-merged-f16", &usual, &err)) {
		test_fail("exact/hash: a path in config.json", "%s", err.text);
		return;
	}
	a = hash_of_edited("moved", "\"openai/clip-vit-large-patch14-336\"", "\"/here/clip\", \"_name_or_path\": \"x\"",
			   &moved);
	b = hash_of_edited("theta", "\"rope_theta\": 10000.0", "\"rope_theta\": 10001.0", &other);
	CHECK("exact/hash: does not depend on the path that config.json names", strcmp(a, fr_model_hash(usual)) == 0,
	      "%s, %s", a, fr_model_hash(usual));
	CHECK("exact/hash: depends on the rest of config.json", strlen(b) == 64 && strcmp(b, fr_model_hash(usual)) != 0,
	      "%s", b);
	fr_model_free(usual);
	fr_model_free(moved);
	fr_model_free(other);
}

static void test_hash(void)
{
	static const char *const links[][2] = {
		{AT "model", "m"}, {AT "clip", NAME}, {AT "dino.pth", "dinov2_vitl14_pretrain.pth"}};
	struct fr_model *named, *found, *other;
	struct fr_error err = {0};

	link_case("hash", links, 3);
	if (case_load("fr-merged-f16", &named, &err) ||
	    fr_model_load(&(struct fr_model_opts){.path = below("hash", "m")}, &found, &err)) {
		test_fail("exact/hash: of several places", "%s", err.text);
		return;
	}
	CHECK("exact/hash: does not depend on where the parts lie",
	      strcmp(fr_model_hash(named), fr_model_hash(found)) == 0, "%s %s", fr_model_hash(named),
	      fr_model_hash(found));
	copy_flipped(AT "dino.pth", "hash/flipped.pth");
	if (fr_model_load(&(struct fr_model_opts){.path = AT "model",
						  .vision_tower = AT "clip",
						  .dino = files_path("hash/flipped.pth")},
			  &other, &err) == 0) {
		CHECK("exact/hash: another DINOv2 is another model",
		      strcmp(fr_model_hash(named), fr_model_hash(other)) != 0, "%s", fr_model_hash(other));
		fr_model_free(other);
	} else {
		test_fail("exact/hash: another DINOv2 is another model", "%s", err.text);
	}
	fr_model_free(named);
	fr_model_free(found);
}

/* A directory's name may be a word of the sentence; a file is not named twice. */
static void test_where(void)
{
	static const struct {
		const char *where, *says, *expected;
	} cases_[] = {
		{"model", "config.json: model_type: expected clip", "model: config.json: model_type: expected clip"},
		{"model", "a: the model, not this", "model: a: the model, not this"},
		{"a/model", "a/model/config.json: cannot be opened", "a/model/config.json: cannot be opened"},
		{"a/model", "--dino a/model: expected a file", "--dino a/model: expected a file"},
		{"a/d.pth", "d.pth: data.pkl ends", "a/d.pth: data.pkl ends"},
		{"a/d.pth", "d.pth2: data.pkl ends", "a/d.pth: d.pth2: data.pkl ends"},
		{"a/", "tensor x is missing", "a/: tensor x is missing"},
	};

	for (size_t i = 0; i < sizeof cases_ / sizeof *cases_; i++) {
		struct fr_error err;
		char name[128];
		int rc = fr_say_where(fr_fail(&err, FR_E_MODEL, "%s", cases_[i].says), cases_[i].where, &err);

		snprintf(name, sizeof name, "exact/say where: %s in \"%s\"", cases_[i].where, cases_[i].says);
		CHECK(name, rc == -1 && strcmp(err.text, cases_[i].expected) == 0, "\"%s\"", err.text);
	}
}

int main(void)
{
	test_where();
	test_places();
	test_sentences();
	test_other();
	test_hash();
	test_hash_of_config();
	return test_done();
}
