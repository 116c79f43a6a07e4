/* FakeVLM and what else Hugging Face's LlavaForConditionalGeneration saves: one CLIP, its projector, a Llama.
 *
 * The parts lie in text_config and vision_config, which transformers writes with little more than what differs from its
 * defaults. */
#include "models.h"

static const struct fr_prompt_desc prompt = {
	.chat = "raw",
	.question = "<image>\nDoes the image looks real/fake?",
	.opening = "This image is",
	.real = "real",
	.fake = "fake",
};

static int read_vision(struct fr_json top, struct fr_vit_desc *v, struct fr_error *err)
{
	struct fr_json vision;

	FR_TRY(fr_json_object(top, "vision_config", &vision, err));
	FR_TRY(fr_read_clip(vision, "config.json: vision_config", v, err));
	if (!vision.object) { /* LlavaConfig's own default is CLIP ViT-L/14 at 336 */
		v->image = 336;
		v->patch = 14;
		v->dim = 1024;
		v->heads = 16;
		v->ffn = 4096;
		v->layers = 24;
	}
	FR_TRY(fr_want_string(top, "vision_feature_select_strategy", "default", err));
	return fr_read_run(top, "vision_feature_layer", -2, v, err);
}

static int read_image_id(struct fr_json top, int vocab, struct fr_prompt_desc *p, struct fr_error *err)
{
	int old = -1;

	p->image_id = 32000;
	FR_TRY(fr_json_int(top, "image_token_index", 0, FR_MAX_DIM, &p->image_id, err));
	if (fr_json_get(top, "image_token_index"))
		old = p->image_id;
	FR_TRY(fr_json_int(top, "image_token_id", 0, FR_MAX_DIM, &p->image_id, err));
	if (old >= 0 && old != p->image_id)
		return fr_fail(err, FR_E_MODEL, "%s: image_token_index %d and image_token_id %d disagree", top.file,
			       old, p->image_id);
	if (p->image_id >= vocab)
		return fr_fail(err, FR_E_MODEL, "%s: image_token_index: expected an id below the vocab_size %d, got %d",
			       top.file, vocab, p->image_id);
	return 0;
}

int fr_describe_llava(const struct fr_checkpoint *c, struct fr_model_desc *out, struct fr_error *err)
{
	const struct fr_json top = c->file[FR_FILE_CONFIG];
	struct fr_json text;

	FR_TRY(fr_json_bool(top, "fr_run_demo", &out->demo, err)); /* a copy on disk stays a demo */
	FR_TRY(fr_json_object(top, "text_config", &text, err));
	FR_TRY(fr_want_string(text, "model_type", "llama", err));
	FR_TRY(fr_read_llama(top, text, "config.json: text_config", &out->text, err));
	FR_TRY(read_vision(top, &out->vit[0], err));
	out->n_branch = 1;
	out->proj_act = FR_ACT_GELU;
	out->proj_dim = out->text.dim;
	out->proj_bias = 1;
	FR_TRY(fr_read_act(top, "projector_hidden_act", &out->proj_act, err));
	FR_TRY(fr_json_bool(top, "multimodal_projector_bias", &out->proj_bias, err));
	FR_TRY(fr_read_image(c->file[FR_FILE_PREPROCESSOR], FR_FIT_CROP, out->vit[0].image, &out->image, err));
	out->prompt = prompt;
	FR_TRY(fr_read_ids((const struct fr_json[]){text, top, c->file[FR_FILE_GENERATION]}, 3, out->text.vocab,
			   &out->prompt, err));
	out->cal_temperature = 1;
	return read_image_id(top, out->text.vocab, &out->prompt, err);
}
