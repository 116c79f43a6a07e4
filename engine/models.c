/* From the files of a checkpoint to the description of its model: the table of families, and the models known by name.
 *
 * A field that a file leaves out has the default of the reference's class (LlavaConfig, LlamaConfig, CLIPVisionConfig,
 * CLIPImageProcessor), because transformers drops fields that equal it: an rms_norm_eps that is not written is 1e-6,
 * not the 1e-5 of Vicuna. What a file asks for and fr-run does not compute is refused by name. */
#include "models.h"
#include "parts.h"

#include <stdlib.h>

static const struct fr_family families[] = {
	{"LlavaForConditionalGeneration", {"llava"}, "FakeVLM (LLaVA-1.5)", 0, fr_describe_llava},
	{"LlavaLlamaForCausalLM",
	 {"llava_llama", "llava"},
	 "FakeReasoning (LLaVA-1.5 with CLIP, DINOv2 and cross-attention)",
	 1,
	 fr_describe_fakereasoning},
};
#define FAMILIES (sizeof families / sizeof *families)

/* Models known by their sizes: of each branch dim, layers, heads, ffn, image, patch; of the text dim, layers, heads,
 * kv, ffn, vocab; heads of the fusion. */
static const struct {
	const char *name;
	int branch[FR_MAX_BRANCHES][6], text[6], fusion;
} known[] = {
	{"fakevlm-7b", {{1024, 24, 16, 4096, 336, 14}}, {4096, 32, 32, 32, 11008, 32064}, 0},
	{"fakereasoning-13b",
	 {{1024, 24, 16, 4096, 336, 14}, {1024, 24, 16, 4096, 336, 14}},
	 {5120, 40, 40, 40, 13824, 32000},
	 16},
};

static int is_type(const struct fr_family *f, const char *type)
{
	return !type || strcmp(f->types[0], type) == 0 || (f->types[1] && strcmp(f->types[1], type) == 0);
}

/* By the class; where config.json names none, by model_type, of which the first family that has it counts. */
int fr_family_find(struct fr_json config, const struct fr_family **out, struct fr_error *err)
{
	const cJSON *list = fr_json_get(config, "architectures"), *e = cJSON_IsArray(list) ? list->child : NULL;
	const char *type = NULL, *arch = cJSON_IsString(e) ? e->valuestring : NULL;

	*out = NULL;
	FR_TRY(fr_json_string(config, "model_type", &type, err));
	for (size_t i = 0; i < FAMILIES && !*out && (arch || type); i++)
		if (is_type(&families[i], type) && (!arch || strcmp(arch, families[i].architecture) == 0))
			*out = &families[i];
	if (!*out)
		return fr_fail(err, FR_E_MODEL,
			       "%s: expected LlavaForConditionalGeneration (model_type llava) or LlavaLlamaForCausalLM "
			       "(model_type llava_llama), got model_type %.80s, architecture %.80s",
			       config.file, type ? type : "none", arch ? arch : "none");
	if (fr_json_get(config, "quantization_config"))
		return fr_fail(err, FR_E_MODEL,
			       "%s: quantization_config: expected weights in f32, f16 or bf16, got quantised ones",
			       config.file);
	return 0;
}
static int is_known(size_t i, const struct fr_model_desc *d)
{
	const struct fr_text_desc *t = &d->text;
	const int text[6] = {t->dim, t->layers, t->heads, t->kv_heads, t->ffn, t->vocab};

	for (int b = 0; b < FR_MAX_BRANCHES; b++) {
		const struct fr_vit_desc *v = &d->vit[b];
		const int branch[6] = {v->dim, v->layers, v->heads, v->ffn, v->image, v->patch};

		if (memcmp(known[i].branch[b], branch, sizeof branch) != 0)
			return 0;
	}
	return memcmp(known[i].text, text, sizeof text) == 0 && known[i].fusion == d->fusion.heads;
}

static int describe(const struct fr_checkpoint *c, struct fr_model_desc *out, struct fr_error *err)
{
	const struct fr_json config = c->file[FR_FILE_CONFIG];
	const struct fr_family *family;

	FR_TRY(fr_family_find(config, &family, err));
	out->family = family->name;
	FR_TRY(family->describe(c, out, err));
	out->n_image = (out->vit[0].image / out->vit[0].patch) * (out->vit[0].image / out->vit[0].patch);
	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (is_known(i, out))
			snprintf(out->name, sizeof out->name, "%s", known[i].name);
	return 0;
}

/* Names for sentences. */
static const char *const file_names[FR_DESC_FILES] = {
	[FR_FILE_CONFIG] = "config.json",
	[FR_FILE_PREPROCESSOR] = "preprocessor_config.json",
	[FR_FILE_GENERATION] = "generation_config.json",
	[FR_FILE_PROCESSOR] = "processor_config.json",
	[FR_FILE_CLIP_CONFIG] = "CLIP's config.json",
	[FR_FILE_CLIP_PREPROCESSOR] = "CLIP's preprocessor_config.json",
	[FR_FILE_ADAPTER] = "adapter_config.json",
};

/* transformers 5.x may save the image processor as a part of processor_config.json instead of a file of its own; in 4.x
 * that file says nothing about pixels. */
int fr_desc_parse(const struct fr_desc_from *from, struct fr_model_desc *out, struct fr_error *err)
{
	static struct fr_store *const none[FR_FROMS];
	struct fr_checkpoint c = {.store = from->store ? from->store : none};
	cJSON *root[FR_DESC_FILES] = {NULL};
	int rc = 0;

	memset(out, 0, sizeof *out);
	for (int i = 0; i < FR_DESC_FILES && rc == 0; i++) {
		if (from->bytes[i])
			rc = fr_json_parse(from->bytes[i], from->size[i], file_names[i], &root[i], err);
		c.file[i] = (struct fr_json){root[i], file_names[i]};
	}
	if (rc == 0 && !from->bytes[FR_FILE_PREPROCESSOR])
		rc = fr_json_object(c.file[FR_FILE_PROCESSOR], "image_processor", &c.file[FR_FILE_PREPROCESSOR], err);
	if (rc == 0)
		rc = describe(&c, out, err);
	for (int i = 0; i < FR_DESC_FILES; i++)
		cJSON_Delete(root[i]);
	return rc;
}

/* The directory's own name, "." and ".." resolved. */
static void name_after(const char *path, char *name, size_t size)
{
	char *real = realpath(path, NULL);
	const char *base = real ? strrchr(real, '/') : NULL;

	snprintf(name, size, "%s", base && base[1] ? base + 1 : path);
	free(real);
}

int fr_desc_open(const struct fr_parts *parts, struct fr_model_desc *out, struct fr_error *err)
{
	struct fr_desc_from from = {.store = parts->store};

	for (int i = 0; i < FR_DESC_FILES; i++) {
		int rc = i == FR_FILE_PROCESSOR && from.bytes[FR_FILE_PREPROCESSOR]
				 ? 1
				 : fr_parts_file(parts, (enum fr_desc_file)i, &from.bytes[i], &from.size[i], err);

		if (rc < 0)
			return rc;
		if (rc > 0 && i == FR_FILE_CONFIG)
			return fr_fail(err, FR_E_MODEL, "%s: config.json is missing", fr_source_path(parts->src));
	}
	FR_TRY(fr_desc_parse(&from, out, err));
	if (out->demo)
		snprintf(out->name, sizeof out->name, "demo");
	else if (!out->name[0])
		name_after(fr_source_path(parts->src), out->name, sizeof out->name);
	return 0;
}
