/* FakeReasoning: what the authors' LlavaLlamaForCausalLM saves. The decoder's sizes are config.json's own fields,
 * CLIP's those of its directory's files; of DINOv2 and the fusion no file says more than the tensors do
 * (docs/MODEL.md).
 *
 * The class is that of every LLaVA of the original code; one without the fusion is another model, refused as such. */
#include "models.h"
#include "../kernels/ops.h"

#include <math.h>

static const struct fr_prompt_desc prompt = {
	.chat = "llava_v1",
	.question =
		"<image>\nIs this image real or fake? Please describe the image, reasoning step-by-step and conclude "
		"with 'this image is real' or 'this image is fake'.",
	.opening = "<CONCLUSION> This image is",
	.reasoned = 1,
	.rule = FR_RULE_CONCLUSION,
	.splice = 1,
	.real = "real",
	.fake = "fake",
	.image_id = -200,
};

/* shape[axis] of the tensor that fills a role: it must be there, with ndim dimensions. */
static int read_size(const struct fr_checkpoint *c, const char *branch, const char *role, int ndim, int axis, int *size,
		     struct fr_error *err)
{
	const struct fr_tensor *t = fr_role_find(c->store, branch, role, 0);
	char text[256];

	if (!t)
		return fr_fail(err, FR_E_MODEL, "%stensor %s is missing", branch ? "DINOv2: " : "",
			       fr_role_names(c->store, branch, role, 0, text, sizeof text));
	if (t->ndim != ndim || t->shape[axis] < 1 || t->shape[axis] > FR_MAX_DIM)
		return fr_fail(err, FR_E_MODEL, "tensor %s in %s: expected %d dimensions, each of 1 to %d, got %s",
			       t->name, t->file, ndim, FR_MAX_DIM, fr_shape_text(t->shape, t->ndim, text, sizeof text));
	*size = (int)t->shape[axis];
	return 0;
}

/* ---- parts ---- */

static int read_fusion(const struct fr_checkpoint *c, struct fr_model_desc *d, struct fr_error *err)
{
	struct fr_fusion_desc *f = &d->fusion;

	if (!fr_role_find(c->store, NULL, "fusion.bias1.w", 0))
		return fr_fail(
			err, FR_E_MODEL,
			"a LLaVA of the original layout without the tensors of FakeReasoning's fusion "
			"(model.crossattention.*): of this layout FakeReasoning is supported, other LLaVA models only "
			"as LlavaForConditionalGeneration");
	*f = (struct fr_fusion_desc){.eps = 1e-6f, .log_offset = 1e-6f};
	FR_TRY(read_size(c, NULL, "fusion.bias1.w", 4, 0, &f->mid, err));
	FR_TRY(read_size(c, NULL, "fusion.bias1.w", 4, 1, &f->heads, err));
	FR_TRY(read_size(c, NULL, "fusion.fc1.w", 2, 0, &f->ffn, err));
	if (f->heads > FR_MAX_MAP_HEADS || f->mid > FR_MAX_MAP_MID)
		return fr_fail(err, FR_E_MODEL,
			       "the fusion: expected at most %d heads and %d channels between, got %d and %d",
			       FR_MAX_MAP_HEADS, FR_MAX_MAP_MID, f->heads, f->mid);
	return fr_check_heads("the fusion", d->text.dim, f->heads, d->text.dim % f->heads ? 0 : d->text.dim / f->heads,
			      err);
}

/* The checkpoint was trained with encoders of one width; another CLIP or DINOv2 is told by what its projector reads. */
static int check_width(const struct fr_checkpoint *c, const char *what, const struct fr_vit_desc *v,
		       struct fr_error *err)
{
	const struct fr_tensor *t = fr_role_find(c->store, v->role, "projector.1.w", 0);
	char width[32];

	if (!t || t->ndim != 2 || t->shape[1] == v->dim) /* missing: the binder's to say */
		return 0;
	snprintf(width, sizeof width, "%lld", (long long)t->shape[1]);
	return fr_fail(err, FR_E_MODEL, "%s: expected one of width %s, which %s reads, got %d", what, width, t->name,
		       v->dim);
}

/* The vision encoder's own config.json: of a whole CLIP, or of its vision half alone. */
static int read_clip(const struct fr_checkpoint *c, struct fr_vit_desc *v, struct fr_error *err)
{
	const struct fr_json top = c->file[FR_FILE_CONFIG];
	struct fr_json clip = c->file[FR_FILE_CLIP_CONFIG], half = clip;
	const char *type = "none", *feature = "patch";

	if (!clip.object)
		return fr_fail(err, FR_E_MODEL, "%s is missing", clip.file);
	FR_TRY(fr_json_string(clip, "model_type", &type, err));
	if (strcmp(type, "clip") == 0) {
		FR_TRY(fr_json_object(clip, "vision_config", &half, err));
		if (!half.object)
			return fr_fail(err, FR_E_MODEL, "%s: vision_config is missing", clip.file);
	} else if (strcmp(type, "clip_vision_model") != 0) {
		return fr_fail(err, FR_E_MODEL, "%s: model_type: expected clip or clip_vision_model, got %.80s",
			       clip.file, type);
	}
	FR_TRY(fr_read_clip(half, clip.file, v, err));
	v->role = "clip";
	FR_TRY(fr_json_string(top, "mm_vision_select_feature", &feature, err));
	if (strcmp(feature, "patch") != 0)
		return fr_fail(err, FR_E_MODEL, "%s: mm_vision_select_feature: expected \"patch\", got \"%.80s\"",
			       top.file, feature);
	if (!fr_json_get(top, "mm_vision_select_layer"))
		return fr_fail(err, FR_E_MODEL, "%s: mm_vision_select_layer is missing", top.file);
	FR_TRY(check_width(c, "CLIP", v, err));
	return fr_read_run(top, "mm_vision_select_layer", -2, v, err);
}

/* Everything but the number of heads, which is the fusion's, and the pixels, which are CLIP's. */
static int read_dino(const struct fr_checkpoint *c, int heads, int image, struct fr_vit_desc *v, struct fr_error *err)
{
	int rows;

	*v = (struct fr_vit_desc){.role = "dino",
				  .image = image,
				  .heads = heads,
				  .eps = 1e-6f,
				  .act = FR_ACT_GELU,
				  .patch_bias = 1,
				  .layer_scale = 1,
				  .packed_qkv = 1,
				  .pos_offset = 0.1,
				  .maps = 1};
	FR_TRY(read_size(c, "dino", "vit.patch.w", 4, 0, &v->dim, err));
	FR_TRY(read_size(c, "dino", "vit.patch.w", 4, 3, &v->patch, err));
	FR_TRY(read_size(c, "dino", "vit.pos", 3, 1, &rows, err));
	FR_TRY(read_size(c, "dino", "vit.layer.fc1.w", 2, 0, &v->ffn, err));
	v->pos_side = (int)lround(sqrt(rows - 1));
	if (v->pos_side < 1 || v->pos_side * v->pos_side != rows - 1)
		return fr_fail(err, FR_E_MODEL,
			       "DINOv2: tensor pos_embed: expected one row and those of a square, got %d rows", rows);
	v->layers = v->run = fr_role_layers(c->store, "dino", "vit.layer.ln1.w");
	if (v->layers == 0)
		return fr_fail(err, FR_E_MODEL, "DINOv2: tensor blocks.0.norm1.weight is missing");
	FR_TRY(check_width(c, "DINOv2", v, err));
	return fr_check_heads("DINOv2", v->dim, v->heads, v->dim % v->heads ? 0 : v->dim / v->heads, err);
}

/* The fusion adds row to row of the two branches, and one projector's width is that of the other. */
static int check_branches(struct fr_json top, const struct fr_vit_desc *clip, const struct fr_vit_desc *dino,
			  struct fr_error *err)
{
	int width = clip->dim;

	if (dino->image % dino->patch || dino->image / dino->patch != clip->image / clip->patch)
		return fr_fail(
			err, FR_E_MODEL,
			"CLIP and DINOv2 differ in tokens: an image of %d in patches of %d by CLIP and of %d by DINOv2",
			clip->image, clip->patch, dino->patch);
	if (dino->dim != clip->dim)
		return fr_fail(err, FR_E_MODEL,
			       "CLIP and DINOv2 differ in width: expected one mm_hidden_size, got %d and %d", clip->dim,
			       dino->dim);
	FR_TRY(fr_json_int(top, "mm_hidden_size", 1, FR_MAX_DIM, &width, err));
	if (width != clip->dim)
		return fr_fail(err, FR_E_MODEL, "%s: mm_hidden_size: expected the width of CLIP and DINOv2, %d, got %d",
			       top.file, clip->dim, width);
	return 0;
}

/* What LLaVA's code can do besides; absent fields have the defaults of that code. */
static int check_options(struct fr_json top, enum fr_fit *fit, struct fr_error *err)
{
	const char *projector = "linear", *aspect = "square";

	FR_TRY(fr_json_string(top, "mm_projector_type", &projector, err));
	if (strcmp(projector, "mlp2x_gelu") != 0)
		return fr_fail(err, FR_E_MODEL, "%s: mm_projector_type: expected \"mlp2x_gelu\", got \"%.80s\"",
			       top.file, projector);
	FR_TRY(fr_want_string(top, "mm_patch_merge_type", "flat", err));
	FR_TRY(fr_want_flag(top, "mm_use_im_start_end", 0, "marks around the image are not in the prompt", err));
	FR_TRY(fr_want_flag(top, "mm_use_im_patch_token", 0, "a token for image patches is not in the prompt", err));
	FR_TRY(fr_want_flag(
		top, "unfreeze_mm_vision_tower", 0,
		"a CLIP that was trained too is taken from the checkpoint by LLaVA's code, which is not done", err));
	FR_TRY(fr_want_flag(top, "s2", 0, "several scales of the image are not computed", err));
	FR_TRY(fr_json_string(top, "image_aspect_ratio", &aspect, err));
	if (strcmp(aspect, "pad") != 0 && strcmp(aspect, "square") != 0)
		return fr_fail(err, FR_E_MODEL, "%s: image_aspect_ratio: expected \"pad\" or \"square\", got \"%.80s\"",
			       top.file, aspect);
	if (strcmp(aspect, "pad") == 0)
		*fit = FR_FIT_PAD;
	return 0;
}

int fr_describe_fakereasoning(const struct fr_checkpoint *c, struct fr_model_desc *out, struct fr_error *err)
{
	const struct fr_json top = c->file[FR_FILE_CONFIG];
	struct fr_vit_desc *clip = &out->vit[0], *dino = &out->vit[1];
	enum fr_fit fit = FR_FIT_CROP;

	FR_TRY(check_options(top, &fit, err));
	FR_TRY(fr_read_llama(top, top, top.file, &out->text, err));
	FR_TRY(fr_read_lora(c->file[FR_FILE_ADAPTER], &out->text, err));
	FR_TRY(read_fusion(c, out, err));
	FR_TRY(read_clip(c, clip, err));
	FR_TRY(read_dino(c, out->fusion.heads, clip->image, dino, err));
	FR_TRY(check_branches(top, clip, dino, err));
	FR_TRY(fr_read_image(c->file[FR_FILE_CLIP_PREPROCESSOR], fit, clip->image, &out->image, err));
	out->n_branch = 2;
	out->look = 1;
	out->proj_act = FR_ACT_GELU;
	out->proj_dim = out->text.dim;
	out->proj_bias = 1;
	out->prompt = prompt;
	FR_TRY(fr_json_int(top, "tokenizer_model_max_length", 1, 1 << 24, &out->prompt.max_prompt, err));
	out->cal_temperature = 10;
	return fr_read_ids((const struct fr_json[]){top, c->file[FR_FILE_GENERATION]}, 2, out->text.vocab, &out->prompt,
			   err);
}
