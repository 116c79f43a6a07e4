/* Models of several files, for tests: original LLaVA's layout with a CLIP and a DINOv2 of their own, a fusion, and an
 * adapter over a base, as lists of names and shapes. The names are written out here once more, so that the names table
 * is held against them; the sizes are a description's. */
#ifndef FR_TEST_PARTS_FILE_H
#define FR_TEST_PARTS_FILE_H

#include "../weights/bind.h"

#include <stdio.h>
#include <string.h>

struct parts_item {
	enum fr_from from;
	char name[256];
	enum fr_dtype dtype; /* FR_F32 */
	int64_t shape[4];
	int ndim;
};
struct parts_list {
	const struct fr_model_desc *d;
	struct parts_item at[512];
	int n;
};
#define PARTS_TUNED "base_model.model.model."

static inline struct parts_item *parts_add(struct parts_list *f, enum fr_from from, const char *prefix,
					   const char *name, int ndim, int64_t a, int64_t b, int64_t c, int64_t d)
{
	struct parts_item *i = &f->at[f->n++];

	*i = (struct parts_item){.from = from, .dtype = FR_F32, .shape = {a, b, c, d}, .ndim = ndim};
	snprintf(i->name, sizeof i->name, "%s%s", prefix, name);
	return i;
}
/* NAME.weight [out, in] and NAME.bias [out]; in 0: NAME.weight [out]. */
static inline void parts_linear(struct parts_list *f, enum fr_from from, const char *prefix, const char *name,
				int64_t out, int64_t in)
{
	char text[160];

	snprintf(text, sizeof text, "%s.weight", name);
	parts_add(f, from, prefix, text, in ? 2 : 1, out, in, 0, 0);
	snprintf(text, sizeof text, "%s.bias", name);
	parts_add(f, from, prefix, text, 1, out, 0, 0, 0);
}

static inline void parts_clip(struct parts_list *f, enum fr_from from, const char *prefix)
{
	static const char *const square[] = {"q_proj", "k_proj", "v_proj", "out_proj"};
	const struct fr_vit_desc *v = &f->d->vit[0];
	const int64_t side = v->image / v->patch;
	char at[64], text[96];

	parts_add(f, from, prefix, "embeddings.class_embedding", 1, v->dim, 0, 0, 0);
	parts_add(f, from, prefix, "embeddings.patch_embedding.weight", 4, v->dim, 3, v->patch, v->patch);
	parts_add(f, from, prefix, "embeddings.position_embedding.weight", 2, 1 + side * side, v->dim, 0, 0);
	parts_add(f, from, prefix, "embeddings.position_ids", 2, 1, 1 + side * side, 0, 0)->dtype = FR_I64;
	parts_linear(f, from, prefix, "pre_layrnorm", v->dim, 0);
	for (int l = 0; l < v->layers; l++) {
		snprintf(at, sizeof at, "encoder.layers.%d.", l);
		for (int i = 0; i < 4; i++) {
			snprintf(text, sizeof text, "%sself_attn.%s", at, square[i]);
			parts_linear(f, from, prefix, text, v->dim, v->dim);
		}
		for (int i = 1; i <= 2; i++) {
			snprintf(text, sizeof text, "%slayer_norm%d", at, i);
			parts_linear(f, from, prefix, text, v->dim, 0);
			snprintf(text, sizeof text, "%smlp.fc%d", at, i);
			parts_linear(f, from, prefix, text, i == 1 ? v->ffn : v->dim, i == 1 ? v->dim : v->ffn);
		}
	}
	parts_linear(f, from, prefix, "post_layernorm", v->dim, 0);
}

static inline void parts_dino(struct parts_list *f)
{
	const struct fr_vit_desc *v = &f->d->vit[1];
	const enum fr_from from = FR_FROM_DINO;
	char at[32], text[96];

	parts_add(f, from, "", "cls_token", 3, 1, 1, v->dim, 0);
	parts_add(f, from, "", "pos_embed", 3, 1, 1 + (int64_t)v->pos_side * v->pos_side, v->dim, 0);
	parts_add(f, from, "", "mask_token", 2, 1, v->dim, 0, 0);
	parts_add(f, from, "", "patch_embed.proj.weight", 4, v->dim, 3, v->patch, v->patch);
	parts_add(f, from, "", "patch_embed.proj.bias", 1, v->dim, 0, 0, 0);
	for (int l = 0; l < v->layers; l++) {
		snprintf(at, sizeof at, "blocks.%d.", l);
		parts_linear(f, from, at, "attn.qkv", 3 * (int64_t)v->dim, v->dim);
		parts_linear(f, from, at, "attn.proj", v->dim, v->dim);
		parts_linear(f, from, at, "mlp.fc1", v->ffn, v->dim);
		parts_linear(f, from, at, "mlp.fc2", v->dim, v->ffn);
		for (int i = 1; i <= 2; i++) {
			snprintf(text, sizeof text, "norm%d", i);
			parts_linear(f, from, at, text, v->dim, 0);
			snprintf(text, sizeof text, "ls%d.gamma", i);
			parts_add(f, from, at, text, 1, v->dim, 0, 0, 0);
		}
	}
	parts_linear(f, from, "", "norm", v->dim, 0);
}

/* That of a branch: PREFIX + mm_projector or dino_mm_projector. */
static inline void parts_projector(struct parts_list *f, enum fr_from from, const char *prefix, int branch)
{
	char text[96];

	snprintf(text, sizeof text, "%s%smm_projector.", prefix, branch ? "dino_" : "");
	parts_linear(f, from, text, "0", f->d->proj_dim, f->d->vit[branch].dim);
	parts_linear(f, from, text, "2", f->d->text.dim, f->d->proj_dim);
}

static inline void parts_fusion(struct parts_list *f, enum fr_from from, const char *prefix)
{
	static const char *const square[] = {"linear_v", "linear_k", "linear_q", "linear_merge"};
	const struct fr_fusion_desc *d = &f->d->fusion;
	const int64_t dim = f->d->text.dim;
	char at[96], text[96];

	snprintf(at, sizeof at, "%scrossattention.", prefix);
	parts_add(f, from, at, "attention_mlp.mlp.0.weight", 4, d->mid, d->heads, 1, 1);
	parts_add(f, from, at, "attention_mlp.mlp.0.bias", 1, d->mid, 0, 0, 0);
	parts_add(f, from, at, "attention_mlp.mlp.2.weight", 4, d->heads, d->mid, 1, 1);
	parts_add(f, from, at, "attention_mlp.mlp.2.bias", 1, d->heads, 0, 0, 0);
	for (int i = 0; i < 4; i++) {
		snprintf(text, sizeof text, "mhatt.0.%s", square[i]);
		parts_linear(f, from, at, text, dim, dim);
	}
	parts_linear(f, from, at, "ffn.0.mlp.fc.linear", d->ffn, dim);
	parts_linear(f, from, at, "ffn.0.mlp.linear", dim, d->ffn);
	for (int i = 0; i < 4; i++) {
		snprintf(text, sizeof text, "norm.%d.%c_2", i / 2, "ab"[i % 2]);
		parts_add(f, from, at, text, 1, dim, 0, 0, 0);
	}
}

/* Name and sizes of one of the decoder's matrices, by fr_lora. */
static inline const char *parts_matrix(const struct fr_text_desc *t, int which, int64_t *out, int64_t *in)
{
	static const char *const names[FR_LORAS] = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
						    "self_attn.o_proj", "mlp.gate_proj",    "mlp.up_proj",
						    "mlp.down_proj"};
	const int64_t q = (int64_t)t->heads * t->head_dim, kv = (int64_t)t->kv_heads * t->head_dim;
	const int64_t outs[FR_LORAS] = {q, kv, kv, t->dim, t->ffn, t->ffn, t->dim};

	*out = outs[which];
	*in = which == FR_LORA_O ? q : which == FR_LORA_DOWN ? t->ffn : t->dim;
	return names[which];
}

static inline void parts_text(struct parts_list *f)
{
	const struct fr_text_desc *t = &f->d->text;
	char text[96];
	int64_t out, in;

	parts_add(f, FR_FROM_MODEL, "model.", "embed_tokens.weight", 2, t->vocab, t->dim, 0, 0);
	parts_add(f, FR_FROM_MODEL, "model.", "norm.weight", 1, t->dim, 0, 0, 0);
	parts_add(f, FR_FROM_MODEL, "", "lm_head.weight", 2, t->vocab, t->dim, 0, 0);
	for (int l = 0; l < t->layers; l++) {
		for (int i = 0; i < FR_LORAS; i++) {
			snprintf(text, sizeof text, "layers.%d.%s.weight", l, parts_matrix(t, i, &out, &in));
			parts_add(f, FR_FROM_MODEL, "model.", text, 2, out, in, 0, 0);
		}
		snprintf(text, sizeof text, "layers.%d.input_layernorm.weight", l);
		parts_add(f, FR_FROM_MODEL, "model.", text, 1, t->dim, 0, 0, 0);
		snprintf(text, sizeof text, "layers.%d.post_attention_layernorm.weight", l);
		parts_add(f, FR_FROM_MODEL, "model.", text, 1, t->dim, 0, 0, 0);
	}
}

/* The thin matrices of text.lora. */
static inline void parts_adapter(struct parts_list *f)
{
	const struct fr_text_desc *t = &f->d->text;
	char text[96];
	int64_t out, in;

	for (int l = 0; l < t->layers; l++)
		for (int i = 0; i < FR_LORAS; i++) {
			const char *name = parts_matrix(t, i, &out, &in);

			if (!(t->lora >> i & 1))
				continue;
			snprintf(text, sizeof text, "layers.%d.%s.lora_A.weight", l, name);
			parts_add(f, FR_FROM_ADAPTER, PARTS_TUNED, text, 2, t->lora_rank, in, 0, 0);
			snprintf(text, sizeof text, "layers.%d.%s.lora_B.weight", l, name);
			parts_add(f, FR_FROM_ADAPTER, PARTS_TUNED, text, 2, out, t->lora_rank, 0, 0);
		}
}

/* All of a model: merged, or where the description has an adapter, that with its base and what was trained besides. The
 * base has a projector of its own, the CLIP its text half. */
static inline void parts_model(struct parts_list *f, const struct fr_model_desc *d)
{
	const int adapted = d->text.lora != 0;
	const enum fr_from from = adapted ? FR_FROM_TRAINED : FR_FROM_MODEL;
	const char *prefix = adapted ? PARTS_TUNED : "model.";

	f->n = 0;
	f->d = d;
	parts_text(f);
	if (adapted)
		parts_projector(f, FR_FROM_MODEL, "model.", 0);
	parts_projector(f, from, prefix, 0);
	parts_projector(f, from, prefix, 1);
	parts_fusion(f, from, prefix);
	parts_clip(f, FR_FROM_TOWER, "vision_model.");
	parts_add(f, FR_FROM_TOWER, "", "text_model.final_layer_norm.weight", 1, 7, 0, 0, 0);
	parts_add(f, FR_FROM_TOWER, "", "logit_scale", 0, 0, 0, 0, 0);
	parts_add(f, FR_FROM_TOWER, "", "visual_projection.weight", 2, 7, d->vit[0].dim, 0, 0);
	parts_dino(f);
	parts_adapter(f);
}

#endif
