/* Parts that several families have, from their JSON objects: Llama's decoder, CLIP's vision encoder and its image
 * processor, the ids that begin and end a text. */
#include "models.h"

#include <sha2.h>

static const struct {
	const char *name;
	enum fr_resample resample;
} filters[] = {/* by Pillow's numbers */
	       {"nearest", FR_NEAREST}, {"lanczos", FR_LANCZOS}, {"bilinear", FR_BILINEAR},
	       {"bicubic", FR_BICUBIC}, {"box", FR_BOX},	 {"hamming", FR_HAMMING}};

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

int fr_read_llama(struct fr_json top, struct fr_json text, const char *where, struct fr_text_desc *t,
		  struct fr_error *err)
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
	FR_TRY(fr_json_int(text, "hidden_size", 1, FR_MAX_DIM, &t->dim, err));
	FR_TRY(fr_json_int(text, "num_hidden_layers", 1, 1024, &t->layers, err));
	FR_TRY(fr_json_int(text, "num_attention_heads", 1, 4096, &t->heads, err));
	t->kv_heads = t->heads;
	FR_TRY(fr_json_int(text, "num_key_value_heads", 1, t->heads, &t->kv_heads, err));
	t->head_dim = t->dim % t->heads ? 0 : t->dim / t->heads;
	FR_TRY(fr_json_int(text, "head_dim", 1, 4096, &t->head_dim, err));
	FR_TRY(fr_check_heads(where, t->dim, t->heads, t->head_dim, err));
	if (t->heads % t->kv_heads)
		return fr_fail(err, FR_E_MODEL, "%s: %d heads cannot share %d key/value heads evenly", where, t->heads,
			       t->kv_heads);
	FR_TRY(fr_json_int(text, "intermediate_size", 1, FR_MAX_DIM, &t->ffn, err));
	FR_TRY(fr_json_int(text, "vocab_size", 1, 1 << 24, &t->vocab, err));
	FR_TRY(fr_json_int(text, "max_position_embeddings", 1, 1 << 24, &t->max_pos, err));
	FR_TRY(fr_json_double(text, "rms_norm_eps", 0, 1, &eps, err));
	t->eps = (float)eps;
	FR_TRY(fr_read_act(text, "hidden_act", &act, err));
	if (act != FR_ACT_SILU)
		return fr_fail(err, FR_E_MODEL, "%s: hidden_act: expected silu, got another", where);
	FR_TRY(fr_want_flag(text, "attention_bias", 0, "attention with biases is not computed", err));
	FR_TRY(fr_want_flag(text, "mlp_bias", 0, "a feed-forward part with biases is not computed", err));
	/* The decoder's own word counts where both are given. */
	FR_TRY(fr_json_bool(top, "tie_word_embeddings", &t->tied, err));
	FR_TRY(fr_json_bool(text, "tie_word_embeddings", &t->tied, err));
	return read_rope(text, t, err);
}

int fr_read_clip(struct fr_json j, const char *where, struct fr_vit_desc *v, struct fr_error *err)
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
	FR_TRY(fr_want_string(j, "model_type", "clip_vision_model", err));
	FR_TRY(fr_json_int(j, "image_size", 1, 4096, &v->image, err));
	FR_TRY(fr_json_int(j, "patch_size", 1, 4096, &v->patch, err));
	FR_TRY(fr_json_int(j, "hidden_size", 1, FR_MAX_DIM, &v->dim, err));
	FR_TRY(fr_json_int(j, "num_attention_heads", 1, 4096, &v->heads, err));
	FR_TRY(fr_json_int(j, "intermediate_size", 1, FR_MAX_DIM, &v->ffn, err));
	FR_TRY(fr_json_int(j, "num_hidden_layers", 1, 1024, &v->layers, err));
	FR_TRY(fr_json_int(j, "num_channels", 3, 3, &channels, err));
	FR_TRY(fr_json_double(j, "layer_norm_eps", 0, 1, &eps, err));
	v->eps = (float)eps;
	FR_TRY(fr_read_act(j, "hidden_act", &v->act, err));
	if (v->image % v->patch)
		return fr_fail(err, FR_E_MODEL, "%s: patches of %d pixels do not divide an image of %d", where,
			       v->patch, v->image);
	return fr_check_heads(where, v->dim, v->heads, v->dim % v->heads ? 0 : v->dim / v->heads, err);
}

int fr_read_run(struct fr_json j, const char *key, int layer, struct fr_vit_desc *v, struct fr_error *err)
{
	if (cJSON_IsArray(fr_json_get(j, key)))
		return fr_fail(err, FR_E_MODEL, "%s: %s: expected one layer, got a list of layers", j.file, key);
	FR_TRY(fr_json_int(j, key, -4096, 4096, &layer, err));
	v->run = layer < 0 ? v->layers + 1 + layer : layer;
	if (v->run < 1 || v->run > v->layers)
		return fr_fail(err, FR_E_MODEL, "%s: %s: expected a layer of the %d there are, got %d", j.file, key,
			       v->layers, layer);
	return 0;
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
			return fr_fail(err, FR_E_MODEL, "%s: %s: expected numbers from %.15g to 1000000", j.file, key,
				       lo);
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
	FR_TRY(fr_want_flag(j, "do_resize", 1, "the encoder takes one size only", err));
	FR_TRY(fr_want_flag(j, "do_center_crop", 1, "the encoder takes a square only", err));
	FR_TRY(fr_want_flag(j, "do_rescale", 1, "pixels that are not rescaled are not computed", err));
	FR_TRY(fr_want_flag(j, "do_normalize", 1, "pixels that are not normalised are not computed", err));
	return fr_want_flag(j, "do_pad", 0, "padding to a square is not what this model's preparation does", err);
}

/* Names the preparation by its numbers, so that results made with other numbers can be told apart. */
static void name_preparation(struct fr_image_desc *d, const char *filter)
{
	const char *fit = d->fit == FR_FIT_PAD ? "pad" : "crop";
	char text[256], hex[SHA256_DIGEST_STRING_LENGTH];
	int n = snprintf(text, sizeof text,
			 "fit=%s resize=%d crop=%d resample=%s rescale=%.17g mean=%.9g,%.9g,%.9g "
			 "std=%.9g,%.9g,%.9g",
			 fit, d->resize, d->crop, filter, d->rescale, d->mean[0], d->mean[1], d->mean[2], d->std[0],
			 d->std[1], d->std[2]);

	SHA256Data((const uint8_t *)text, (size_t)n, hex);
	snprintf(d->id, sizeof d->id, "pil-%s-%s%d-%.8s", filter, fit, d->crop, hex);
}

int fr_read_image(struct fr_json j, enum fr_fit fit, int encoder, struct fr_image_desc *d, struct fr_error *err)
{
	int filter = 3;

	*d = (struct fr_image_desc){.fit = fit,
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

int fr_read_ids(const struct fr_json *order, int n, int vocab, struct fr_prompt_desc *p, struct fr_error *err)
{
	p->bos = 1;
	p->eos[0] = 2;
	p->n_eos = 1;
	for (int i = 0; i < n; i++) {
		FR_TRY(fr_json_int(order[i], "bos_token_id", 0, vocab - 1, &p->bos, err));
		FR_TRY(read_eos(order[i], vocab, p, err));
	}
	return 0;
}
