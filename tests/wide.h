/* FakeReasoning at its real widths, few layers, written into a folder: 1.4 GB of bfloat16 that are a function of names.
 *
 * Item k of a tensor: the upper 24 bits of splitmix64's output k + 1, started at the FNV-1a hash of the tensor's name,
 * as a number u in [-1, 1); mean + u * (float)(deviation * sqrt 3) in float32, rounded to bfloat16. The same in numpy:
 * tests/oracle/fakereasoning_wide.py. */
#ifndef FR_TEST_WIDE_H
#define FR_TEST_WIDE_H

#include "../weights/weights.h"
#include "files.h"

#include <math.h>
#include <sys/statvfs.h>

#define WIDE_BYTES 1600000000.0
#define WIDE_VOCAB 512
#define WIDE_SIDE 56 /* pixels of a picture */

enum wide_kind {
	SUMS,  /* deviation size / sqrt(inputs) */
	AROUND /* deviation size, around mean */
};
struct wide_row {
	const char *name; /* %d: a layer */
	int layers;
	int64_t shape[4];
	enum wide_kind kind;
	double size, mean;
};

/* clang-format off */
#define H 5120
#define D 1024
#define BIAS(name, layers, n) {name, layers, {n}, AROUND, 0.05, 0}
#define LINEAR(name, layers, out, in, gain) {name ".weight", layers, {out, in}, SUMS, gain, 0}
#define BOTH(name, layers, out, in, gain) LINEAR(name, layers, out, in, gain), BIAS(name ".bias", layers, out)
#define NORM(name, layers, n) {name ".weight", layers, {n}, AROUND, 0.1, 1}, BIAS(name ".bias", layers, n)
#define RMS(name, layers) {name ".weight", layers, {H}, AROUND, 0.1, 1}
#define CONV(name, out, in) {name ".weight", 0, {out, in, 1, 1}, SUMS, 0.5, 0}, BIAS(name ".bias", 0, out)
#define POST(name) {name ".a_2", 0, {H}, AROUND, 0.1, 1}, BIAS(name ".b_2", 0, H)
static const struct wide_row wide_model[] = {
	{"model.embed_tokens.weight", 0, {WIDE_VOCAB, H}, AROUND, 0.25, 0},
	LINEAR("model.layers.%d.self_attn.q_proj", 1, H, H, 1.4),
	LINEAR("model.layers.%d.self_attn.k_proj", 1, H, H, 1.4),
	LINEAR("model.layers.%d.self_attn.v_proj", 1, H, H, 1),
	LINEAR("model.layers.%d.self_attn.o_proj", 1, H, H, 1),
	LINEAR("model.layers.%d.mlp.gate_proj", 1, 13824, H, 1),
	LINEAR("model.layers.%d.mlp.up_proj", 1, 13824, H, 1),
	LINEAR("model.layers.%d.mlp.down_proj", 1, H, 13824, 1),
	RMS("model.layers.%d.input_layernorm", 1),
	RMS("model.layers.%d.post_attention_layernorm", 1),
	RMS("model.norm", 0),
	LINEAR("lm_head", 0, WIDE_VOCAB, H, 3),
	BOTH("model.mm_projector.0", 0, H, D, 1), BOTH("model.mm_projector.2", 0, H, H, 1),
	BOTH("model.dino_mm_projector.0", 0, H, D, 1), BOTH("model.dino_mm_projector.2", 0, H, H, 1),
	CONV("model.crossattention.attention_mlp.mlp.0", 32, 16), CONV("model.crossattention.attention_mlp.mlp.2", 16, 32),
	BOTH("model.crossattention.mhatt.0.linear_v", 0, H, H, 1), BOTH("model.crossattention.mhatt.0.linear_k", 0, H, H, 1),
	BOTH("model.crossattention.mhatt.0.linear_q", 0, H, H, 1),
	BOTH("model.crossattention.mhatt.0.linear_merge", 0, H, H, 1),
	BOTH("model.crossattention.ffn.0.mlp.fc.linear", 0, 20480, H, 1),
	BOTH("model.crossattention.ffn.0.mlp.linear", 0, H, 20480, 1),
	POST("model.crossattention.norm.0"), POST("model.crossattention.norm.1"),
};
static const struct wide_row wide_clip[] = {
	BIAS("vision_model.embeddings.class_embedding", 0, D),
	{"vision_model.embeddings.patch_embedding.weight", 0, {D, 3, 14, 14}, SUMS, 0.05, 0},
	{"vision_model.embeddings.position_embedding.weight", 0, {1 + (WIDE_SIDE / 14) * (WIDE_SIDE / 14), D}, AROUND, 0.05, 0},
	NORM("vision_model.pre_layrnorm", 0, D),
	BOTH("vision_model.encoder.layers.%d.self_attn.q_proj", 3, D, D, 1.4),
	BOTH("vision_model.encoder.layers.%d.self_attn.k_proj", 3, D, D, 1.4),
	BOTH("vision_model.encoder.layers.%d.self_attn.v_proj", 3, D, D, 1),
	BOTH("vision_model.encoder.layers.%d.self_attn.out_proj", 3, D, D, 1),
	NORM("vision_model.encoder.layers.%d.layer_norm1", 3, D), NORM("vision_model.encoder.layers.%d.layer_norm2", 3, D),
	BOTH("vision_model.encoder.layers.%d.mlp.fc1", 3, 4096, D, 1),
	BOTH("vision_model.encoder.layers.%d.mlp.fc2", 3, D, 4096, 1),
	NORM("vision_model.post_layernorm", 0, D),
};
static const struct wide_row wide_dino[] = {
	{"cls_token", 0, {1, 1, D}, AROUND, 0.05, 0},
	{"pos_embed", 0, {1, 1370, D}, AROUND, 0.05, 0},
	{"mask_token", 0, {1, D}, AROUND, 0.05, 0},
	{"patch_embed.proj.weight", 0, {D, 3, 14, 14}, SUMS, 0.05, 0}, BIAS("patch_embed.proj.bias", 0, D),
	NORM("blocks.%d.norm1", 2, D), NORM("blocks.%d.norm2", 2, D),
	BOTH("blocks.%d.attn.qkv", 2, 3 * D, D, 1.4), BOTH("blocks.%d.attn.proj", 2, D, D, 1),
	{"blocks.%d.ls1.gamma", 2, {D}, AROUND, 0.2, 1}, {"blocks.%d.ls2.gamma", 2, {D}, AROUND, 0.2, 1},
	BOTH("blocks.%d.mlp.fc1", 2, 4096, D, 1), BOTH("blocks.%d.mlp.fc2", 2, D, 4096, 1),
	NORM("norm", 0, D),
};
#undef H
#undef D
/* clang-format on */

static inline uint64_t wide_hash(const char *s)
{
	uint64_t h = 0xcbf29ce484222325u;

	for (; *s; s++)
		h = (h ^ (uint8_t)*s) * 0x100000001b3u;
	return h;
}

static inline uint16_t wide_value(uint64_t seed, uint64_t k, float mean, float scale)
{
	uint64_t z = seed + (k + 1) * 0x9e3779b97f4a7c15u;
	uint32_t bits;
	float v;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	z ^= z >> 31;
	v = mean + (float)((int32_t)(z >> 40) - (1 << 23)) * 0x1p-23f * scale;
	memcpy(&bits, &v, 4);
	return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static inline int wide_fill(struct fr_st_writer *w, const struct fr_tensor *t, const struct wide_row *row,
			    struct fr_error *err)
{
	static uint16_t block[1 << 16];
	const size_t items = fr_tensor_items(t), most = sizeof block / sizeof *block;
	const uint64_t seed = wide_hash(t->name);
	double deviation = row->kind == SUMS ? row->size / sqrt((double)(items / (size_t)t->shape[0])) : row->size;
	const float scale = (float)(deviation * sqrt(3)), mean = (float)row->mean;

	for (size_t at = 0; at < items; at += most) {
		size_t n = items - at < most ? items - at : most;

		for (size_t i = 0; i < n; i++)
			block[i] = wide_value(seed, at + i, mean, scale);
		FR_TRY(fr_st_append(w, block, n * sizeof *block, err));
	}
	return 0;
}

/* One file of the rows of a table. */
static inline int wide_file(const char *path, const struct wide_row *rows, size_t n, struct fr_error *err)
{
	static char names[256][96];
	static struct fr_tensor table[256];
	const struct wide_row *row_of[256];
	struct fr_st_writer *w;
	size_t tensors = 0;

	for (size_t i = 0; i < n; i++)
		for (int layer = 0; layer < (rows[i].layers ? rows[i].layers : 1); layer++) {
			struct fr_tensor *t = &table[tensors];

			memset(t, 0, sizeof *t);
			snprintf(names[tensors], sizeof *names, rows[i].name, layer);
			t->name = names[tensors];
			t->dtype = FR_BF16;
			for (; t->ndim < 4 && rows[i].shape[t->ndim]; t->ndim++)
				t->shape[t->ndim] = rows[i].shape[t->ndim];
			row_of[tensors++] = &rows[i];
		}
	FR_TRY(fr_st_create(path, table, tensors, "{\"format\":\"pt\"}", &w, err));
	for (size_t i = 0; i < tensors; i++)
		if (wide_fill(w, &table[i], row_of[i], err)) {
			fr_st_abandon(w);
			return -1;
		}
	return fr_st_close(w, err);
}

static inline int wide_text(const char *dir, const char *name, const char *text, size_t size, struct fr_error *err)
{
	char path[1200];
	FILE *f;

	snprintf(path, sizeof path, "%s/%s", dir, name);
	f = fopen(path, "wb");
	if (!f || fwrite(text, 1, size, f) != size || fclose(f) != 0)
		return fr_fail(err, FR_E_IO, "%s: cannot be written", path);
	return 0;
}

static inline int wide_configs(const char *model, const char *clip, struct fr_error *err)
{
	static const char config[] =
		"{\"architectures\":[\"LlavaLlamaForCausalLM\"],\"model_type\":\"llava_llama\",\"vocab_size\":512,"
		"\"hidden_size\":5120,\"intermediate_size\":13824,\"num_hidden_layers\":1,\"num_attention_heads\":40,"
		"\"num_key_value_heads\":40,\"max_position_embeddings\":4096,\"rms_norm_eps\":1e-05,"
		"\"rope_theta\":10000.0,\"hidden_act\":\"silu\",\"tie_word_embeddings\":false,\"bos_token_id\":1,"
		"\"eos_token_id\":2,\"pad_token_id\":0,\"mm_vision_tower\":\"openai/clip-vit-large-patch14-336\","
		"\"mm_hidden_size\":1024,\"mm_projector_type\":\"mlp2x_gelu\",\"mm_vision_select_layer\":-2,"
		"\"mm_vision_select_feature\":\"patch\",\"mm_patch_merge_type\":\"flat\","
		"\"image_aspect_ratio\":\"pad\",\"mm_use_im_start_end\":false,\"mm_use_im_patch_token\":false,"
		"\"tokenizer_model_max_length\":2048,\"tokenizer_padding_side\":\"right\"}";
	char text[1024];
	int n;

	FR_TRY(wide_text(model, "config.json", config, sizeof config - 1, err));
	n = snprintf(text, sizeof text,
		     "{\"model_type\":\"clip_vision_model\",\"hidden_size\":1024,\"num_attention_heads\":16,"
		     "\"intermediate_size\":4096,\"num_hidden_layers\":3,\"image_size\":%d,\"patch_size\":14,"
		     "\"hidden_act\":\"quick_gelu\",\"layer_norm_eps\":1e-05,\"projection_dim\":768}",
		     WIDE_SIDE);
	FR_TRY(wide_text(clip, "config.json", text, (size_t)n, err));
	n = snprintf(text, sizeof text,
		     "{\"crop_size\":%d,\"size\":%d,\"do_center_crop\":true,\"do_normalize\":true,\"do_resize\":true,"
		     "\"image_mean\":[0.48145466,0.4578275,0.40821073],"
		     "\"image_std\":[0.26862954,0.26130258,0.27577711],\"resample\":3}",
		     WIDE_SIDE, WIDE_SIDE);
	return wide_text(clip, "preprocessor_config.json", text, (size_t)n, err);
}

/* The tokenizer of a small checkpoint. */
static inline int wide_tokenizer(const char *model, struct fr_error *err)
{
	static const char *const names[] = {"tokenizer.model", "tokenizer_config.json", "special_tokens_map.json"};
	char path[256];
	const uint8_t *bytes;
	size_t size;
	int rc = 0;

	for (size_t i = 0; i < sizeof names / sizeof *names && rc == 0; i++) {
		snprintf(path, sizeof path, "tests/golden/e2e/fr-merged-f16/model/%s", names[i]);
		FR_TRY(fr_map_open(path, &bytes, &size, err));
		rc = wide_text(model, names[i], (const char *)bytes, size, err);
		fr_map_close(bytes, size);
	}
	return rc;
}

/* DIR/model, DIR/clip, DIR/dino.safetensors. */
static inline int wide_make(const char *dir, struct fr_error *err)
{
	char model[1000], clip[1000], path[1100];

	snprintf(model, sizeof model, "%s/model", dir);
	snprintf(clip, sizeof clip, "%s/clip", dir);
	if (mkdir(model, 0700) || mkdir(clip, 0700))
		return fr_fail(err, FR_E_IO, "%s: model and clip cannot be made in it", dir);
	FR_TRY(wide_configs(model, clip, err));
	FR_TRY(wide_tokenizer(model, err));
	snprintf(path, sizeof path, "%s/model.safetensors", model);
	FR_TRY(wide_file(path, wide_model, sizeof wide_model / sizeof *wide_model, err));
	snprintf(path, sizeof path, "%s/model.safetensors", clip);
	FR_TRY(wide_file(path, wide_clip, sizeof wide_clip / sizeof *wide_clip, err));
	snprintf(path, sizeof path, "%s/dino.safetensors", dir);
	return wide_file(path, wide_dino, sizeof wide_dino / sizeof *wide_dino, err);
}

static inline int wide_room(const char *dir)
{
	struct statvfs st;

	return statvfs(dir, &st) == 0 && (double)st.f_bavail * (double)st.f_frsize > WIDE_BYTES;
}

#endif
