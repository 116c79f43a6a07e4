/* FakeReasoning's description from JSON files and tensors, and what is refused, one sentence each. */
#include "../engine/desc.h"
#include "parts_store.h"
#include "test.h"

#define MODEL(fields)                                                                                                  \
	"{\"architectures\":[\"LlavaLlamaForCausalLM\"],\"model_type\":\"llava_llama\",\"hidden_size\":48,"            \
	"\"intermediate_size\":24,\"num_hidden_layers\":1,\"num_attention_heads\":2,\"num_key_value_heads\":1,"        \
	"\"vocab_size\":40,\"mm_projector_type\":\"mlp2x_gelu\",\"mm_vision_select_layer\":-2" fields "}"
#define USUAL                                                                                                          \
	",\"mm_hidden_size\":24,\"mm_vision_select_feature\":\"patch\",\"mm_patch_merge_type\":\"flat\","              \
	"\"image_aspect_ratio\":\"pad\",\"mm_use_im_start_end\":false,\"mm_use_im_patch_token\":false,"                \
	"\"mm_vision_tower\":\"openai/clip-vit-large-patch14-336\",\"tokenizer_model_max_length\":2048,"               \
	"\"max_position_embeddings\":4096,\"rms_norm_eps\":1e-05,\"tokenizer_padding_side\":\"right\""
#define CLIP(fields)                                                                                                   \
	"{\"model_type\":\"clip_vision_model\",\"hidden_size\":24,\"intermediate_size\":8,\"num_hidden_layers\":3,"    \
	"\"num_attention_heads\":1,\"image_size\":28,\"patch_size\":14" fields "}"
#define ADAPTER(fields)                                                                                                \
	"{\"peft_type\":\"LORA\",\"r\":4,\"lora_alpha\":10,\"target_modules\":[\"q_proj\",\"model.layers.0.mlp.up_"    \
	"proj\"]" fields "}"
static const char pixels_2022[] = "{\"size\":28,\"crop_size\":28,\"do_resize\":true,\"do_center_crop\":true,"
				  "\"do_normalize\":true,\"feature_extractor_type\":\"CLIPFeatureExtractor\"}";
static const char pixels_2023[] = "{\"size\":{\"shortest_edge\":28},\"crop_size\":{\"height\":28,\"width\":28},"
				  "\"do_rescale\":true,\"image_processor_type\":\"CLIPImageProcessor\"}";

static const struct fr_model_desc sizes = {
	.vit = {{.image = 28, .patch = 14, .dim = 24, .heads = 1, .ffn = 8, .layers = 3},
		{.image = 28, .patch = 14, .dim = 24, .heads = 3, .ffn = 16, .layers = 2, .pos_side = 3}},
	.proj_dim = 48,
	.fusion = {.heads = 3, .mid = 5, .ffn = 72},
	.text = {.dim = 48, .layers = 1, .heads = 2, .kv_heads = 1, .head_dim = 24, .ffn = 24, .vocab = 40},
};

static struct fr_store *merged[FR_FROMS], *adapted[FR_FROMS]; /* of `sizes` */

static void open_stores(const struct fr_model_desc *d, struct fr_store *store[FR_FROMS])
{
	static struct parts_list f;

	parts_model(&f, d);
	for (int i = 0; i < FR_FROMS; i++)
		store[i] = parts_store(&f, (enum fr_from)i);
}

static void close_stores(struct fr_store *store[FR_FROMS])
{
	for (int i = 0; i < FR_FROMS; i++)
		fr_store_close(store[i]);
}

/* NULL where a file is not there. */
static int parse(const char *const text[FR_DESC_FILES], struct fr_store *const *store, struct fr_model_desc *d,
		 struct fr_error *err)
{
	struct fr_desc_from from = {.store = store};

	*err = (struct fr_error){0};
	for (int i = 0; i < FR_DESC_FILES; i++) {
		from.bytes[i] = (const uint8_t *)text[i];
		from.size[i] = text[i] ? strlen(text[i]) : 0;
	}
	return fr_desc_parse(&from, d, err);
}

static void test_merged(void)
{
	const char *const text[FR_DESC_FILES] = {[FR_FILE_CONFIG] = MODEL(USUAL),
						 [FR_FILE_CLIP_CONFIG] = CLIP(""),
						 [FR_FILE_CLIP_PREPROCESSOR] = pixels_2022};
	struct fr_model_desc d;
	struct fr_error err;
	int rc = parse(text, merged, &d, &err);
	const struct fr_vit_desc *c = &d.vit[0], *v = &d.vit[1];
	const struct fr_prompt_desc *p = &d.prompt;

	CHECK("exact/description: of a merged checkpoint", rc == 0 && d.n_branch == 2 && d.n_image == 4 && d.look == 1,
	      "%s", err.text);
	CHECK("exact/description: CLIP",
	      !strcmp(c->role, "clip") && c->dim == 24 && c->layers == 3 && c->run == 2 && c->pre_ln &&
		      !c->patch_bias && !c->maps && !c->packed_qkv && c->act == FR_ACT_QUICK_GELU && c->eps == 1e-5f &&
		      c->pos_side == 0,
	      "run %d", c->run);
	CHECK("exact/description: DINOv2, by its tensors",
	      !strcmp(v->role, "dino") && v->dim == 24 && v->heads == 3 && v->ffn == 16 && v->layers == 2 &&
		      v->run == 2 && v->patch == 14 && v->image == 28 && v->pos_side == 3 && v->pos_offset == 0.1 &&
		      v->maps && v->packed_qkv && v->layer_scale && v->patch_bias && !v->pre_ln &&
		      v->act == FR_ACT_GELU && v->eps == 1e-6f,
	      "layers %d, heads %d, pos_side %d", v->layers, v->heads, v->pos_side);
	CHECK("exact/description: fusion, by its tensors",
	      d.fusion.heads == 3 && d.fusion.mid == 5 && d.fusion.ffn == 72 && d.fusion.eps == 1e-6f &&
		      d.fusion.log_offset == 1e-6f && d.proj_dim == 48 && d.proj_bias && d.proj_act == FR_ACT_GELU,
	      "heads %d, mid %d, ffn %d", d.fusion.heads, d.fusion.mid, d.fusion.ffn);
	CHECK("exact/description: decoder, from the top of config.json",
	      d.text.dim == 48 && d.text.kv_heads == 1 && d.text.max_pos == 4096 && d.text.eps == 1e-5f &&
		      !d.text.lora_rank && !d.text.tied,
	      "dim %d", d.text.dim);
	CHECK("exact/description: prompt",
	      !strcmp(p->chat, "llava_v1") && !strcmp(p->opening, "<CONCLUSION> This image is") && p->reasoned &&
		      p->splice && p->rule == FR_RULE_CONCLUSION && p->image_id == -200 && p->max_prompt == 2048 &&
		      p->bos == 1 && p->n_eos == 1 && p->eos[0] == 2 && d.cal_temperature == 10 &&
		      !strcmp(p->question,
			      "<image>\nIs this image real or fake? Please describe the image, reasoning step-by-step "
			      "and conclude with 'this image is real' or 'this image is fake'."),
	      "%s", p->question);
	CHECK("exact/description: padded pixels say so",
	      d.image.fit == FR_FIT_PAD && d.image.resize == 28 && strncmp(d.image.id, "pil-bicubic-pad28-", 18) == 0,
	      "%s", d.image.id);
}

static void test_forms(void)
{
	const char *text[FR_DESC_FILES] = {[FR_FILE_CONFIG] = MODEL(USUAL),
					   [FR_FILE_CLIP_CONFIG] = CLIP(""),
					   [FR_FILE_CLIP_PREPROCESSOR] = pixels_2022};
	struct fr_model_desc d, e;
	struct fr_error err;
	int rc;

	parse(text, merged, &d, &err);
	text[FR_FILE_CLIP_PREPROCESSOR] = pixels_2023;
	rc = parse(text, merged, &e, &err);
	CHECK("exact/description: pixels of 2022 and of 2023 are the same", rc == 0 && !strcmp(d.image.id, e.image.id),
	      "%s %s", err.text, e.image.id);
	text[FR_FILE_CLIP_CONFIG] =
		"{\"model_type\":\"clip\",\"text_config\":{\"hidden_size\":9},\"vision_config\":" CLIP("") "}";
	rc = parse(text, merged, &e, &err);
	CHECK("exact/description: the vision half of a whole CLIP",
	      rc == 0 && !memcmp(&d.vit[0], &e.vit[0], sizeof d.vit[0]), "%s", err.text);
	text[FR_FILE_CONFIG] =
		"{\"architectures\":[\"LlavaLlamaForCausalLM\"],\"model_type\":\"llava\",\"hidden_size\":48,"
		"\"intermediate_size\":24,\"num_hidden_layers\":1,\"num_attention_heads\":2,"
		"\"num_key_value_heads\":1,\"vocab_size\":40,\"mm_projector_type\":\"mlp2x_gelu\","
		"\"mm_vision_select_layer\":-1}";
	text[FR_FILE_GENERATION] = "{\"eos_token_id\":[2,7]}";
	rc = parse(text, merged, &e, &err);
	CHECK("exact/description: an older base's model_type, the last layer, no padding, two ends",
	      rc == 0 && e.vit[0].run == 3 && e.image.fit == FR_FIT_CROP && e.prompt.n_eos == 2 &&
		      e.prompt.max_prompt == 0 && strcmp(d.image.id, e.image.id) != 0,
	      "%s run %d", err.text, e.vit[0].run);
	text[FR_FILE_ADAPTER] =
		ADAPTER(",\"use_rslora\":false,\"modules_to_save\":null,\"rank_pattern\":{},\"bias\":\"none\"");
	rc = parse(text, adapted, &e, &err);
	CHECK("exact/description: an adapter",
	      rc == 0 && e.text.lora_rank == 4 && e.text.lora_scale == 2.5 &&
		      e.text.lora == (1u << FR_LORA_Q | 1u << FR_LORA_UP) && e.fusion.heads == 3,
	      "%s rank %d scale %g on %x", err.text, e.text.lora_rank, e.text.lora_scale, e.text.lora);
}

/* The real sizes: named by them. */
static void test_known(void)
{
	static const struct fr_model_desc real = {
		.vit = {{.image = 336, .patch = 14, .dim = 1024, .heads = 16, .ffn = 4096, .layers = 1},
			{.image = 336,
			 .patch = 14,
			 .dim = 1024,
			 .heads = 16,
			 .ffn = 4096,
			 .layers = 24,
			 .pos_side = 37}},
		.proj_dim = 5120,
		.fusion = {.heads = 16, .mid = 32, .ffn = 20480},
		.text = {.dim = 5120,
			 .layers = 1,
			 .heads = 40,
			 .kv_heads = 40,
			 .head_dim = 128,
			 .ffn = 13824,
			 .vocab = 32000},
	};
	const char *text[FR_DESC_FILES] = {
		[FR_FILE_CONFIG] = "{\"architectures\":[\"LlavaLlamaForCausalLM\"],\"model_type\":\"llava_llama\","
				   "\"hidden_size\":5120,"
				   "\"intermediate_size\":13824,\"num_hidden_layers\":40,\"num_attention_heads\":40,"
				   "\"mm_projector_type\":\"mlp2x_gelu\",\"mm_vision_select_layer\":-2,\"image_aspect_"
				   "ratio\":\"pad\"}",
		[FR_FILE_CLIP_CONFIG] =
			"{\"model_type\":\"clip\",\"vision_config\":{\"hidden_size\":1024,\"image_size\":336,"
			"\"intermediate_size\":4096,\"num_attention_heads\":16,\"num_hidden_layers\":24,"
			"\"patch_size\":14}}",
		[FR_FILE_CLIP_PREPROCESSOR] = "{\"size\":336,\"crop_size\":336}"};
	struct fr_store *store[FR_FROMS];
	struct fr_model_desc d;
	struct fr_error err;
	int rc;

	open_stores(&real, store);
	rc = parse(text, store, &d, &err);
	CHECK("exact/description: FakeReasoning is known by its sizes",
	      rc == 0 && !strcmp(d.name, "fakereasoning-13b") && d.n_image == 576 && d.vit[0].run == 23 &&
		      d.vit[1].run == 24,
	      "%s, \"%s\"", err.text, d.name);
	text[FR_FILE_CONFIG] =
		"{\"architectures\":[\"LlavaLlamaForCausalLM\"],\"hidden_size\":5120,\"num_hidden_layers\":39,"
		"\"intermediate_size\":13824,\"num_attention_heads\":40,"
		"\"mm_projector_type\":\"mlp2x_gelu\",\"mm_vision_select_layer\":-2}";
	rc = parse(text, store, &d, &err);
	CHECK("exact/description: one layer fewer is another model", rc == 0 && !*d.name, "%s, \"%s\"", err.text,
	      d.name);
	close_stores(store);
}

static const struct {
	const char *what;
	enum fr_desc_file file;
	const char *text, *says;
} refused[] = {
	{"quantised", FR_FILE_CONFIG, MODEL(",\"quantization_config\":{}"),
	 "quantization_config: expected weights in f32"},
	{"another class", FR_FILE_CONFIG,
	 "{\"architectures\":[\"LlavaMistralForCausalLM\"],\"model_type\":\"llava_mistral\"}",
	 "got model_type llava_mistral, architecture LlavaMistralForCausalLM"},
	{"another projector", FR_FILE_CONFIG,
	 "{\"architectures\":[\"LlavaLlamaForCausalLM\"],\"mm_projector_type\":\"mlp3x_gelu\"}",
	 "mm_projector_type: expected \"mlp2x_gelu\", got \"mlp3x_gelu\""},
	{"LLaVA's default projector", FR_FILE_CONFIG, "{\"architectures\":[\"LlavaLlamaForCausalLM\"]}",
	 "got \"linear\""},
	{"another merge", FR_FILE_CONFIG, MODEL(",\"mm_patch_merge_type\":\"spatial\""),
	 "mm_patch_merge_type: expected \"flat\", got \"spatial\""},
	{"the class token kept", FR_FILE_CONFIG, MODEL(",\"mm_vision_select_feature\":\"cls_patch\""),
	 "mm_vision_select_feature: expected \"patch\", got \"cls_patch\""},
	{"marks around the image", FR_FILE_CONFIG, MODEL(",\"mm_use_im_start_end\":true"),
	 "mm_use_im_start_end is true"},
	{"patch tokens", FR_FILE_CONFIG, MODEL(",\"mm_use_im_patch_token\":true"), "mm_use_im_patch_token is true"},
	{"a CLIP of its own training", FR_FILE_CONFIG, MODEL(",\"unfreeze_mm_vision_tower\":true"),
	 "config.json: unfreeze_mm_vision_tower is true: a CLIP that was trained too"},
	{"several scales", FR_FILE_CONFIG, MODEL(",\"s2\":true"), "s2 is true"},
	{"tiles", FR_FILE_CONFIG, MODEL(",\"image_aspect_ratio\":\"anyres\""),
	 "image_aspect_ratio: expected \"pad\" or \"square\", got \"anyres\""},
	{"another width", FR_FILE_CONFIG, MODEL(",\"mm_hidden_size\":32"),
	 "mm_hidden_size: expected the width of CLIP and DINOv2, 24, got 32"},
	{"no positions for a prompt", FR_FILE_CONFIG, MODEL(",\"tokenizer_model_max_length\":0"),
	 "tokenizer_model_max_length: expected 1 to"},
	{"a decoder whose heads do not divide", FR_FILE_CONFIG, MODEL(",\"head_dim\":12"),
	 "config.json: expected a head size that is a multiple of 8 up to 320, got 12"},
	{"no CLIP config", FR_FILE_CLIP_CONFIG, NULL, "CLIP's config.json is missing"},
	{"another encoder", FR_FILE_CLIP_CONFIG, "{\"model_type\":\"siglip\"}",
	 "CLIP's config.json: model_type: expected clip or clip_vision_model, got siglip"},
	{"half a CLIP", FR_FILE_CLIP_CONFIG, "{\"model_type\":\"clip\"}",
	 "CLIP's config.json: vision_config is missing"},
	{"a CLIP of another patch", FR_FILE_CLIP_CONFIG,
	 "{\"model_type\":\"clip_vision_model\",\"hidden_size\":24,\"num_attention_heads\":1,\"image_size\":28,"
	 "\"patch_size\":7}",
	 "CLIP and DINOv2 differ in tokens: an image of 28 in patches of 7 by CLIP and of 14 by DINOv2"},
	{"a CLIP of another width", FR_FILE_CLIP_CONFIG,
	 "{\"model_type\":\"clip_vision_model\",\"hidden_size\":32,\"num_attention_heads\":1,\"image_size\":28,"
	 "\"patch_size\":14}",
	 "CLIP: expected one of width 24, which model.mm_projector.0.weight reads, got 32"},
	{"a broken CLIP config", FR_FILE_CLIP_CONFIG, "{", "CLIP's config.json: expected one JSON object"},
	{"another image size", FR_FILE_CLIP_PREPROCESSOR, "{\"size\":56,\"crop_size\":56}",
	 "CLIP's preprocessor_config.json: crop_size: expected the encoder's image size 28, got 56"},
	{"another adapter", FR_FILE_ADAPTER, "{\"peft_type\":\"IA3\"}", "peft_type: expected \"LORA\", got \"IA3\""},
	{"no matrices", FR_FILE_ADAPTER, "{\"r\":4}", "target_modules: expected a list"},
	{"an expression for matrices", FR_FILE_ADAPTER, "{\"target_modules\":\".*proj\"}",
	 "target_modules: expected a list"},
	{"other matrices", FR_FILE_ADAPTER, "{\"target_modules\":[\"q_proj\",\"lm_head\"]}", "got lm_head"},
	{"numbers for matrices", FR_FILE_ADAPTER, "{\"target_modules\":[1]}", "got another value"},
	{"rank 0", FR_FILE_ADAPTER, "{\"r\":0,\"target_modules\":[\"q_proj\"]}",
	 "adapter_config.json: r: expected 1 to"},
	{"rslora", FR_FILE_ADAPTER, ADAPTER(",\"use_rslora\":true"), "use_rslora is set, which is not computed"},
	{"dora", FR_FILE_ADAPTER, ADAPTER(",\"use_dora\":true"), "use_dora is set"},
	{"biases", FR_FILE_ADAPTER, ADAPTER(",\"bias\":\"lora_only\""), "bias: expected \"none\", got \"lora_only\""},
	{"whole modules", FR_FILE_ADAPTER, ADAPTER(",\"modules_to_save\":[\"lm_head\"]"), "modules_to_save is set"},
	{"ranks by name", FR_FILE_ADAPTER, ADAPTER(",\"rank_pattern\":{\"q_proj\":2}"), "rank_pattern is set"},
	{"alphas by name", FR_FILE_ADAPTER, ADAPTER(",\"alpha_pattern\":{\"q_proj\":2}"), "alpha_pattern is set"},
	{"transposed weights", FR_FILE_ADAPTER, ADAPTER(",\"fan_in_fan_out\":true"), "fan_in_fan_out is set"},
	{"some layers", FR_FILE_ADAPTER, ADAPTER(",\"layers_to_transform\":[0]"), "layers_to_transform is set"},
	{"a decoder of repeated layers", FR_FILE_ADAPTER, ADAPTER(",\"layer_replication\":[[0,1],[0,1]]"),
	 "layer_replication is set"},
	{"a base that was changed", FR_FILE_ADAPTER, ADAPTER(",\"init_lora_weights\":\"pissa\""),
	 "init_lora_weights: expected \"gaussian\", got \"pissa\""},
};

static void test_refused(void)
{
	for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
		const char *text[FR_DESC_FILES] = {[FR_FILE_CONFIG] = MODEL(USUAL), [FR_FILE_CLIP_CONFIG] = CLIP("")};
		struct fr_model_desc d;
		struct fr_error err;
		char name[128];
		int rc;

		text[refused[i].file] = refused[i].text;
		rc = parse(text, refused[i].file == FR_FILE_ADAPTER ? adapted : merged, &d, &err);
		snprintf(name, sizeof name, "exact/description refused: %s", refused[i].what);
		CHECK(name, rc == -1 && err.code == FR_E_MODEL && strstr(err.text, refused[i].says), "rc %d \"%s\"", rc,
		      err.text);
	}
}

/* Tensors of other sizes. */
static void test_tensors(void)
{
	static const struct {
		const char *what;
		int branch_dim, heads, mid, patch; /* 0: as it is */
		enum fr_from without;		   /* in its place CLIP's; FR_FROMS: of none */
		const char *says;
	} edits[] = {
		{"no fusion", 0, 0, 0, 0, FR_FROM_MODEL,
		 "without the tensors of FakeReasoning's fusion (model.crossattention.*)"},
		{"a CLIP for a DINOv2", 0, 0, 0, 0, FR_FROM_DINO, "tensor patch_embed.proj.weight in "},
		{"a DINOv2 of another width", 48, 0, 0, 0, FR_FROMS,
		 "differ in width: expected one mm_hidden_size, got 24 and 48"},
		{"a DINOv2 of another patch", 0, 0, 0, 7, FR_FROMS,
		 "an image of 28 in patches of 14 by CLIP and of 7 by DINOv2"},
		{"heads that do not divide", 0, 5, 0, 0, FR_FROMS, "the fusion: 5 heads do not divide a width of 48"},
		{"heads of a size no kernel takes", 0, 4, 0, 0, FR_FROMS,
		 "the fusion: expected a head size that is a multiple of 8"},
		{"heads that do not divide DINOv2", 40, 3, 0, 0, FR_FROMS,
		 "DINOv2: 3 heads do not divide a width of 40"},
		{"too many channels", 0, 0, 129, 0, FR_FROMS,
		 "expected at most 64 heads and 128 channels between, got 3 and 129"},
		{"too many heads", 0, 65, 0, 0, FR_FROMS,
		 "expected at most 64 heads and 128 channels between, got 65 and 5"},
	};
	const char *const text[FR_DESC_FILES] = {[FR_FILE_CONFIG] = MODEL(USUAL), [FR_FILE_CLIP_CONFIG] = CLIP("")};

	for (size_t i = 0; i < sizeof edits / sizeof *edits; i++) {
		struct fr_model_desc d = sizes;
		struct fr_store *store[FR_FROMS], *all[FR_FROMS];
		struct fr_error err;
		char name[128];
		int rc;

		d.vit[1].dim = edits[i].branch_dim ? edits[i].branch_dim : d.vit[1].dim;
		d.vit[1].patch = edits[i].patch ? edits[i].patch : d.vit[1].patch;
		d.fusion.heads = edits[i].heads ? edits[i].heads : d.fusion.heads;
		d.fusion.mid = edits[i].mid ? edits[i].mid : d.fusion.mid;
		open_stores(&d, all);
		memcpy(store, all, sizeof store);
		if (edits[i].without < FR_FROMS)
			store[edits[i].without] = all[FR_FROM_TOWER];
		rc = parse(text, store, &d, &err);
		snprintf(name, sizeof name, "exact/description refused: %s", edits[i].what);
		CHECK(name, rc == -1 && err.code == FR_E_MODEL && strstr(err.text, edits[i].says), "rc %d \"%s\"", rc,
		      err.text);
		close_stores(all);
	}
}

int main(void)
{
	struct fr_model_desc with = sizes;

	with.text.lora_rank = 4;
	with.text.lora = 1u << FR_LORA_Q | 1u << FR_LORA_UP;
	open_stores(&sizes, merged);
	open_stores(&with, adapted);
	test_merged();
	test_forms();
	test_known();
	test_refused();
	test_tensors();
	close_stores(merged);
	close_stores(adapted);
	return test_done();
}
