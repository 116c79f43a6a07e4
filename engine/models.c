/* From the JSON files of a checkpoint to the description of its model.
 *
 * A field that a file leaves out has the default of the reference's class (LlavaConfig, LlamaConfig, CLIPVisionConfig,
 * CLIPImageProcessor), because transformers drops fields that equal it: an rms_norm_eps that is not written is 1e-6,
 * not the 1e-5 of Vicuna. What a file asks for and fr-run does not compute is refused by name. */
#include "desc.h"

#include "../weights/json.h"

#include <sha2.h>
#include <stdlib.h>

#define MAX_DIM (1 << 20)

/* Models known by their sizes: vision dim, layers, heads, ffn, image, patch; text dim, layers, heads, kv, ffn, vocab.
 */
static const struct {
	const char *name;
	int vision[6], text[6];
} known[] = {
	{"fakevlm-7b", {1024, 24, 16, 4096, 336, 14}, {4096, 32, 32, 32, 11008, 32064}},
};

static const struct fr_prompt_desc fakevlm_prompt = {
	.chat = "raw",
	.question = "<image>\nDoes the image looks real/fake?",
	.opening = "This image is",
	.real = "real",
	.fake = "fake",
};

static const struct {
	const char *name;
	enum fr_act act;
} acts[] = {{"quick_gelu", FR_ACT_QUICK_GELU}, {"gelu", FR_ACT_GELU}, {"silu", FR_ACT_SILU}, {"swish", FR_ACT_SILU}};

static const struct {
	const char *name;
	enum fr_resample resample;
} filters[] = {/* by Pillow's numbers */
	       {"nearest", FR_NEAREST}, {"lanczos", FR_LANCZOS}, {"bilinear", FR_BILINEAR},
	       {"bicubic", FR_BICUBIC}, {"box", FR_BOX},	 {"hamming", FR_HAMMING}};

static int read_act(struct fr_json j, const char *key, enum fr_act *act, struct fr_error *err)
{
	const char *name = NULL;

	FR_TRY(fr_json_string(j, key, &name, err));
	if (!name)
		return 0;
	for (size_t i = 0; i < sizeof acts / sizeof *acts; i++)
		if (strcmp(acts[i].name, name) == 0) {
			*act = acts[i].act;
			return 0;
		}
	return fr_fail(err, FR_E_MODEL, "%s: %s: expected quick_gelu, gelu or silu, got \"%.80s\"", j.file, key, name);
}

/* A string that must have one value; absent is as good. */
static int want_string(struct fr_json j, const char *key, const char *want, struct fr_error *err)
{
	const char *got = want;

	FR_TRY(fr_json_string(j, key, &got, err));
	if (strcmp(got, want) != 0)
		return fr_fail(err, FR_E_MODEL, "%s: %s: expected \"%s\", got \"%.80s\"", j.file, key, want, got);
	return 0;
}

/* A flag that must have one value; absent is as good. */
static int want_flag(struct fr_json j, const char *key, int want, const char *why, struct fr_error *err)
{
	int got = want;

	FR_TRY(fr_json_bool(j, key, &got, err));
	if (got != want)
		return fr_fail(err, FR_E_MODEL, "%s: %s is %s: %s", j.file, key, got ? "true" : "false", why);
	return 0;
}

static int check_heads(const char *what, int dim, int heads, int head_dim, struct fr_error *err)
{
	if (head_dim == 0)
		return fr_fail(err, FR_E_MODEL, "config.json: %s: %d heads do not divide a width of %d", what, heads,
			       dim);
	if (head_dim % 8 || head_dim > 320)
		return fr_fail(err, FR_E_MODEL,
			       "config.json: %s: expected a head size that is a multiple of 8 up to 320, got %d", what,
			       head_dim);
	return 0;
}

static int check_architecture(struct fr_json top, struct fr_error *err)
{
	const cJSON *list = fr_json_get(top, "architectures"), *e;
	const char *type = NULL, *arch = NULL;

	FR_TRY(fr_json_string(top, "model_type", &type, err));
	e = cJSON_IsArray(list) ? list->child : NULL;
	if (cJSON_IsString(e))
		arch = e->valuestring;
	if ((!type && !arch) || (type && strcmp(type, "llava") != 0) ||
	    (arch && strcmp(arch, "LlavaForConditionalGeneration") != 0))
		return fr_fail(err, FR_E_MODEL,
			       "%s: expected a model_type llava (LlavaForConditionalGeneration), got model_type %.80s, "
			       "architecture %.80s",
			       top.file, type ? type : "none", arch ? arch : "none");
	if (fr_json_get(top, "quantization_config"))
		return fr_fail(err, FR_E_MODEL,
			       "%s: quantization_config: expected weights in f32, f16 or bf16, got quantised ones",
			       top.file);
	return 0;
}

/* rope_scaling of transformers 4.x, rope_parameters of 5.x (which hold rope_theta too). */
static int read_rope(struct fr_json text, struct fr_text_desc *t, struct fr_error *err)
{
	static const char *const keys[] = {"rope_scaling", "rope_parameters"};

	FR_TRY(fr_json_double(text, "rope_theta", 1, 1e12, &t->rope_theta, err));
	for (int i = 0; i < 2; i++) {
		const char *type = "default";
		struct fr_json rope;
		double rotated = 1;

		FR_TRY(fr_json_object(text, keys[i], &rope, err));
		FR_TRY(fr_json_string(rope, "type", &type, err));
		FR_TRY(fr_json_string(rope, "rope_type", &type, err));
		FR_TRY(fr_json_double(rope, "rope_theta", 1, 1e12, &t->rope_theta, err));
		FR_TRY(fr_json_double(rope, "partial_rotary_factor", 1, 1, &rotated, err));
		if (strcmp(type, "linear") == 0) {
			if (!fr_json_get(rope, "factor"))
				return fr_fail(err, FR_E_MODEL, "%s: %s: linear scaling without a factor", rope.file,
					       keys[i]);
			FR_TRY(fr_json_double(rope, "factor", 1, 1e6, &t->rope_factor, err));
		} else if (strcmp(type, "default") != 0) {
			return fr_fail(err, FR_E_MODEL, "%s: %s: expected none or linear, got \"%.80s\"", rope.file,
				       keys[i], type);
		}
	}
	return 0;
}

static int read_text(struct fr_json top, struct fr_json text, struct fr_text_desc *t, struct fr_error *err)
{
	enum fr_act act = FR_ACT_SILU;
	double eps = 1e-6;

	*t = (struct fr_text_desc){.dim = 4096,
				   .layers = 32,
				   .heads = 32,
				   .ffn = 11008,
				   .vocab = 32000,
				   .max_pos = 2048,
				   .rope_theta = 10000,
				   .rope_factor = 1};
	FR_TRY(want_string(text, "model_type", "llama", err));
	FR_TRY(fr_json_int(text, "hidden_size", 1, MAX_DIM, &t->dim, err));
	FR_TRY(fr_json_int(text, "num_hidden_layers", 1, 1024, &t->layers, err));
	FR_TRY(fr_json_int(text, "num_attention_heads", 1, 4096, &t->heads, err));
	t->kv_heads = t->heads;
	FR_TRY(fr_json_int(text, "num_key_value_heads", 1, t->heads, &t->kv_heads, err));
	t->head_dim = t->dim % t->heads ? 0 : t->dim / t->heads;
	FR_TRY(fr_json_int(text, "head_dim", 1, 4096, &t->head_dim, err));
	FR_TRY(check_heads("text_config", t->dim, t->heads, t->head_dim, err));
	if (t->heads % t->kv_heads)
		return fr_fail(err, FR_E_MODEL,
			       "config.json: text_config: %d heads cannot share %d key/value heads evenly", t->heads,
			       t->kv_heads);
	FR_TRY(fr_json_int(text, "intermediate_size", 1, MAX_DIM, &t->ffn, err));
	FR_TRY(fr_json_int(text, "vocab_size", 1, 1 << 24, &t->vocab, err));
	FR_TRY(fr_json_int(text, "max_position_embeddings", 1, 1 << 24, &t->max_pos, err));
	FR_TRY(fr_json_double(text, "rms_norm_eps", 0, 1, &eps, err));
	t->eps = (float)eps;
	FR_TRY(read_act(text, "hidden_act", &act, err));
	if (act != FR_ACT_SILU)
		return fr_fail(err, FR_E_MODEL, "config.json: text_config: hidden_act: expected silu, got another");
	FR_TRY(want_flag(text, "attention_bias", 0, "attention with biases is not computed", err));
	FR_TRY(want_flag(text, "mlp_bias", 0, "a feed-forward part with biases is not computed", err));
	/* The decoder's own word counts where both are given. */
	FR_TRY(fr_json_bool(top, "tie_word_embeddings", &t->tied, err));
	FR_TRY(fr_json_bool(text, "tie_word_embeddings", &t->tied, err));
	return read_rope(text, t, err);
}

/* hidden_states[vision_feature_layer]: 0 is what enters layer 0, -1 what leaves the last. */
static int read_feature_layer(struct fr_json top, struct fr_vit_desc *v, struct fr_error *err)
{
	int layer = -2;

	if (cJSON_IsArray(fr_json_get(top, "vision_feature_layer")))
		return fr_fail(err, FR_E_MODEL, "%s: vision_feature_layer: expected one layer, got a list of layers",
			       top.file);
	FR_TRY(fr_json_int(top, "vision_feature_layer", -4096, 4096, &layer, err));
	v->run = layer < 0 ? v->layers + 1 + layer : layer;
	if (v->run < 1 || v->run > v->layers)
		return fr_fail(err, FR_E_MODEL,
			       "%s: vision_feature_layer: expected a layer of the %d there are, got %d", top.file,
			       v->layers, layer);
	return 0;
}

static int read_vision(struct fr_json top, struct fr_json vision, struct fr_vit_desc *v, struct fr_error *err)
{
	int channels = 3;
	double eps = 1e-5;

	*v = (struct fr_vit_desc){.role = "vision",
				  .act = FR_ACT_QUICK_GELU,
				  .pre_ln = 1,
				  .image = 224,
				  .patch = 32,
				  .dim = 768,
				  .heads = 12,
				  .ffn = 3072,
				  .layers = 12};
	if (!vision.object) { /* LlavaConfig's own default is CLIP ViT-L/14 at 336 */
		v->image = 336;
		v->patch = 14;
		v->dim = 1024;
		v->heads = 16;
		v->ffn = 4096;
		v->layers = 24;
	}
	FR_TRY(want_string(vision, "model_type", "clip_vision_model", err));
	FR_TRY(fr_json_int(vision, "image_size", 1, 4096, &v->image, err));
	FR_TRY(fr_json_int(vision, "patch_size", 1, 4096, &v->patch, err));
	FR_TRY(fr_json_int(vision, "hidden_size", 1, MAX_DIM, &v->dim, err));
	FR_TRY(fr_json_int(vision, "num_attention_heads", 1, 4096, &v->heads, err));
	FR_TRY(fr_json_int(vision, "intermediate_size", 1, MAX_DIM, &v->ffn, err));
	FR_TRY(fr_json_int(vision, "num_hidden_layers", 1, 1024, &v->layers, err));
	FR_TRY(fr_json_int(vision, "num_channels", 3, 3, &channels, err));
	FR_TRY(fr_json_double(vision, "layer_norm_eps", 0, 1, &eps, err));
	v->eps = (float)eps;
	FR_TRY(read_act(vision, "hidden_act", &v->act, err));
	if (v->image % v->patch)
		return fr_fail(err, FR_E_MODEL,
			       "config.json: vision_config: patches of %d pixels do not divide an image of %d",
			       v->patch, v->image);
	FR_TRY(check_heads("vision_config", v->dim, v->heads, v->dim % v->heads ? 0 : v->dim / v->heads, err));
	FR_TRY(want_string(top, "vision_feature_select_strategy", "default", err));
	return read_feature_layer(top, v, err);
}

/* A side in pixels as a number (files of 2022) or as {"shortest_edge": n} or {"height": n, "width": n}. */
static int read_side(struct fr_json j, const char *key, const char *allowed, int *side, struct fr_error *err)
{
	const cJSON *e = fr_json_get(j, key);
	struct fr_json box;
	int height = 0, width = 0;

	if (!e || cJSON_IsNumber(e))
		return fr_json_int(j, key, 1, 4096, side, err);
	FR_TRY(fr_json_object(j, key, &box, err));
	if (!fr_json_get(box, allowed))
		return fr_fail(err, FR_E_MODEL, "%s: %s: expected %s, got other sides", j.file, key, allowed);
	if (strcmp(allowed, "shortest_edge") == 0)
		return fr_json_int(box, allowed, 1, 4096, side, err);
	FR_TRY(fr_json_int(box, "height", 1, 4096, &height, err));
	FR_TRY(fr_json_int(box, "width", 1, 4096, &width, err));
	if (height != width)
		return fr_fail(err, FR_E_MODEL, "%s: %s: expected a square, got %d x %d", j.file, key, height, width);
	*side = height;
	return 0;
}

static int read_triple(struct fr_json j, const char *key, double lo, float v[3], struct fr_error *err)
{
	const cJSON *list = fr_json_get(j, key), *e;
	int n = 0;

	if (!list)
		return 0;
	if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) != 3)
		return fr_fail(err, FR_E_MODEL, "%s: %s: expected a list of 3 numbers", j.file, key);
	cJSON_ArrayForEach(e, list)
	{
		if (!cJSON_IsNumber(e) || !(e->valuedouble >= lo && e->valuedouble <= 1e6))
			return fr_fail(err, FR_E_MODEL, "%s: %s: expected numbers from %.15g to 1000000", j.file, key, lo);
		v[n++] = (float)e->valuedouble;
	}
	return 0;
}

static int check_processor(struct fr_json j, struct fr_error *err)
{
	const char *type = "CLIPImageProcessor";

	FR_TRY(fr_json_string(j, "feature_extractor_type", &type, err));
	FR_TRY(fr_json_string(j, "image_processor_type", &type, err));
	if (strncmp(type, "CLIP", 4) != 0 && strncmp(type, "LlavaImage", 10) != 0)
		return fr_fail(err, FR_E_MODEL, "%s: image_processor_type: expected CLIPImageProcessor, got \"%.80s\"",
			       j.file, type);
	FR_TRY(want_flag(j, "do_resize", 1, "the encoder takes one size only", err));
	FR_TRY(want_flag(j, "do_center_crop", 1, "the encoder takes a square only", err));
	FR_TRY(want_flag(j, "do_rescale", 1, "pixels that are not rescaled are not computed", err));
	FR_TRY(want_flag(j, "do_normalize", 1, "pixels that are not normalised are not computed", err));
	return want_flag(j, "do_pad", 0, "padding to a square is not what this model's preparation does", err);
}

/* Names the preparation by its numbers, so that results made with other numbers can be told apart. */
static void name_preparation(struct fr_image_desc *d, const char *filter)
{
	char text[256], hex[SHA256_DIGEST_STRING_LENGTH];
	int n = snprintf(text, sizeof text,
			 "fit=crop resize=%d crop=%d resample=%s rescale=%.17g mean=%.9g,%.9g,%.9g "
			 "std=%.9g,%.9g,%.9g",
			 d->resize, d->crop, filter, d->rescale, d->mean[0], d->mean[1], d->mean[2], d->std[0],
			 d->std[1], d->std[2]);

	SHA256Data((const uint8_t *)text, (size_t)n, hex);
	snprintf(d->id, sizeof d->id, "pil-%s-crop%d-%.8s", filter, d->crop, hex);
}

static int read_image(struct fr_json j, int encoder, struct fr_image_desc *d, struct fr_error *err)
{
	int filter = 3;

	*d = (struct fr_image_desc){.fit = FR_FIT_CROP,
				    .rescale = 1.0 / 255,
				    .mean = {0.48145466f, 0.4578275f, 0.40821073f},
				    .std = {0.26862954f, 0.26130258f, 0.27577711f}};
	d->resize = d->crop = j.object ? 224 : encoder; /* without a file: what fits the encoder */
	FR_TRY(check_processor(j, err));
	FR_TRY(read_side(j, "size", "shortest_edge", &d->resize, err));
	FR_TRY(read_side(j, "crop_size", "height", &d->crop, err));
	FR_TRY(fr_json_int(j, "resample", 0, 5, &filter, err));
	d->resample = filters[filter].resample;
	FR_TRY(fr_json_double(j, "rescale_factor", 1e-9, 1e9, &d->rescale, err));
	FR_TRY(read_triple(j, "image_mean", -1e6, d->mean, err));
	FR_TRY(read_triple(j, "image_std", 1e-6, d->std, err));
	if (d->crop != encoder)
		return fr_fail(err, FR_E_MODEL, "%s: crop_size: expected the encoder's image size %d, got %d", j.file,
			       encoder, d->crop);
	if (d->resize < d->crop)
		return fr_fail(err, FR_E_MODEL, "%s: size: expected at least the crop of %d, got %d", j.file, d->crop,
			       d->resize);
	name_preparation(d, filters[filter].name);
	return 0;
}

static int read_eos(struct fr_json j, int vocab, struct fr_prompt_desc *p, struct fr_error *err)
{
	const cJSON *e = fr_json_get(j, "eos_token_id"), *item;

	if (!e)
		return 0;
	p->n_eos = 1;
	if (!cJSON_IsArray(e))
		return fr_json_int(j, "eos_token_id", 0, vocab - 1, &p->eos[0], err);
	p->n_eos = 0;
	cJSON_ArrayForEach(item, e)
	{
		double id = cJSON_IsNumber(item) ? item->valuedouble : -1;

		if (!(id >= 0 && id < vocab) || id != (int)id || p->n_eos == (int)(sizeof p->eos / sizeof *p->eos))
			return fr_fail(err, FR_E_MODEL, "%s: eos_token_id: expected at most %zu ids below %d", j.file,
				       sizeof p->eos / sizeof *p->eos, vocab);
		p->eos[p->n_eos++] = (int)id;
	}
	return 0;
}

/* Ids of the vocabulary: generation_config.json, else the config's top level, else its text_config. */
static int read_ids(struct fr_json top, struct fr_json text, struct fr_json generation, int vocab,
		    struct fr_prompt_desc *p, struct fr_error *err)
{
	const struct fr_json order[] = {text, top, generation};
	int old = -1;

	p->bos = 1;
	p->eos[0] = 2;
	p->n_eos = 1;
	for (int i = 0; i < 3; i++) {
		FR_TRY(fr_json_int(order[i], "bos_token_id", 0, vocab - 1, &p->bos, err));
		FR_TRY(read_eos(order[i], vocab, p, err));
	}
	p->image_id = 32000;
	FR_TRY(fr_json_int(top, "image_token_index", 0, MAX_DIM, &p->image_id, err));
	if (fr_json_get(top, "image_token_index"))
		old = p->image_id;
	FR_TRY(fr_json_int(top, "image_token_id", 0, MAX_DIM, &p->image_id, err));
	if (old >= 0 && old != p->image_id)
		return fr_fail(err, FR_E_MODEL, "%s: image_token_index %d and image_token_id %d disagree", top.file,
			       old, p->image_id);
	if (p->image_id >= vocab)
		return fr_fail(err, FR_E_MODEL, "%s: image_token_index: expected an id below the vocab_size %d, got %d",
			       top.file, vocab, p->image_id);
	return 0;
}

static const char *known_name(const struct fr_vit_desc *v, const struct fr_text_desc *t)
{
	const int vision[6] = {v->dim, v->layers, v->heads, v->ffn, v->image, v->patch};
	const int text[6] = {t->dim, t->layers, t->heads, t->kv_heads, t->ffn, t->vocab};

	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (memcmp(known[i].vision, vision, sizeof vision) == 0 &&
		    memcmp(known[i].text, text, sizeof text) == 0)
			return known[i].name;
	return "";
}

static int describe(struct fr_json top, struct fr_json preprocessor, struct fr_json generation,
		    struct fr_model_desc *out, struct fr_error *err)
{
	struct fr_vit_desc *v = &out->vit[0];
	struct fr_json text, vision;

	FR_TRY(check_architecture(top, err));
	FR_TRY(fr_json_bool(top, "fr_run_demo", &out->demo, err)); /* a copy on disk stays a demo */
	FR_TRY(fr_json_object(top, "text_config", &text, err));
	FR_TRY(fr_json_object(top, "vision_config", &vision, err));
	FR_TRY(read_text(top, text, &out->text, err));
	FR_TRY(read_vision(top, vision, v, err));
	out->family = "FakeVLM (LLaVA-1.5)";
	out->n_branch = 1;
	out->n_image = (v->image / v->patch) * (v->image / v->patch);
	out->proj_act = FR_ACT_GELU;
	out->proj_dim = out->text.dim;
	out->proj_bias = 1;
	FR_TRY(read_act(top, "projector_hidden_act", &out->proj_act, err));
	FR_TRY(fr_json_bool(top, "multimodal_projector_bias", &out->proj_bias, err));
	FR_TRY(read_image(preprocessor, v->image, &out->image, err));
	out->prompt = fakevlm_prompt;
	FR_TRY(read_ids(top, text, generation, out->text.vocab, &out->prompt, err));
	out->cal_temperature = 1;
	snprintf(out->name, sizeof out->name, "%s", known_name(v, &out->text));
	return 0;
}

enum { CONFIG, PREPROCESSOR, GENERATION, PROCESSOR, FILES };
static const char *const file_names[FILES] = {
	[CONFIG] = "config.json",
	[PREPROCESSOR] = "preprocessor_config.json",
	[GENERATION] = "generation_config.json",
	[PROCESSOR] = "processor_config.json",
};

/* bytes NULL: the file is not there. transformers 5.x may save the image processor as a part of processor_config.json
 * instead of a file of its own; in 4.x that file says nothing about pixels. */
static int parse(const uint8_t *const bytes[FILES], const size_t size[FILES], struct fr_model_desc *out,
		 struct fr_error *err)
{
	cJSON *root[FILES] = {NULL};
	struct fr_json file[FILES];
	int rc = 0;

	memset(out, 0, sizeof *out);
	for (int i = 0; i < FILES && rc == 0; i++) {
		if (bytes[i])
			rc = fr_json_parse(bytes[i], size[i], file_names[i], &root[i], err);
		file[i] = (struct fr_json){root[i], file_names[i]};
	}
	if (rc == 0 && !bytes[PREPROCESSOR])
		rc = fr_json_object(file[PROCESSOR], "image_processor", &file[PREPROCESSOR], err);
	if (rc == 0)
		rc = describe(file[CONFIG], file[PREPROCESSOR], file[GENERATION], out, err);
	for (int i = 0; i < FILES; i++)
		cJSON_Delete(root[i]);
	return rc;
}

int fr_desc_parse(const uint8_t *config, size_t config_size, const uint8_t *preprocessor, size_t preprocessor_size,
		  const uint8_t *generation, size_t generation_size, struct fr_model_desc *out, struct fr_error *err)
{
	const uint8_t *const bytes[FILES] = {config, preprocessor, generation, NULL};
	const size_t size[FILES] = {config_size, preprocessor_size, generation_size, 0};

	return parse(bytes, size, out, err);
}

/* The directory's own name, "." and ".." resolved. */
static void name_after(const char *path, char *name, size_t size)
{
	char *real = realpath(path, NULL);
	const char *base = real ? strrchr(real, '/') : NULL;

	snprintf(name, size, "%s", base && base[1] ? base + 1 : path);
	free(real);
}

int fr_desc_open(struct fr_source *src, struct fr_model_desc *out, struct fr_error *err)
{
	const uint8_t *bytes[FILES] = {NULL};
	size_t size[FILES] = {0};

	for (int i = 0; i < FILES; i++) {
		int rc = i == PROCESSOR && bytes[PREPROCESSOR]
				 ? 1
				 : fr_source_file(src, file_names[i], &bytes[i], &size[i], err);

		if (rc < 0)
			return rc;
		if (rc > 0 && i == CONFIG)
			return fr_fail(err, FR_E_MODEL, "%s: config.json is missing", fr_source_path(src));
	}
	FR_TRY(parse(bytes, size, out, err));
	if (out->demo)
		snprintf(out->name, sizeof out->name, "demo");
	else if (!out->name[0])
		name_after(fr_source_path(src), out->name, sizeof out->name);
	return 0;
}
