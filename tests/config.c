/* From config files to a description: the defaults of the reference's classes, both generations of fields, and what is
 * refused. */
#include "../engine/parts.h"
#include "../weights/json.h"
#include "files.h"
#include "test.h"

#include <sys/mman.h>
#include <unistd.h>

#define LLAVA(fields) "{\"model_type\":\"llava\"" fields "}"
#define TEXT(fields) ",\"text_config\":{\"vocab_size\":32064" fields "}"

static const char llava_hf[] = LLAVA(
	",\"architectures\":[\"LlavaForConditionalGeneration\"],\"image_token_index\":32000,\"pad_token_id\":32001,"
	"\"projector_hidden_act\":\"gelu\",\"text_config\":{\"_name_or_path\":\"lmsys/"
	"vicuna-7b-v1.5\",\"max_position_embeddings\":4096,"
	"\"model_type\":\"llama\",\"rms_norm_eps\":1e-05,\"torch_dtype\":\"float16\",\"vocab_size\":32064},\"tie_word_"
	"embeddings\":false,"
	"\"vision_config\":{\"hidden_size\":1024,\"image_size\":336,\"intermediate_size\":4096,\"model_type\":\"clip_"
	"vision_model\","
	"\"num_attention_heads\":16,\"num_hidden_layers\":24,\"patch_size\":14,\"projection_dim\":768,\"vocab_size\":"
	"32000},"
	"\"vision_feature_layer\":-2,\"vision_feature_select_strategy\":\"default\"");
static const char preprocessor_2023[] =
	"{\"crop_size\":{\"height\":336,\"width\":336},\"do_center_crop\":true,\"do_convert_rgb\":true,\"do_"
	"normalize\":true,"
	"\"do_rescale\":true,\"do_resize\":true,\"image_mean\":[0.48145466,0.4578275,0.40821073],\"image_processor_"
	"type\":"
	"\"CLIPImageProcessor\",\"image_std\":[0.26862954,0.26130258,0.27577711],\"resample\":3,\"rescale_factor\":"
	"0.00392156862745098,\"size\":{\"shortest_edge\":336}}";
static const char preprocessor_2022[] = "{\"crop_size\":336,\"do_center_crop\":true,\"do_normalize\":true,\"do_"
					"resize\":true,\"feature_extractor_type\":"
					"\"CLIPFeatureExtractor\",\"image_mean\":[0.48145466,0.4578275,0.40821073],"
					"\"image_std\":[0.26862954,0.26130258,"
					"0.27577711],\"resample\":3,\"size\":336}";

static int parse(const char *config, const char *preprocessor, const char *generation, struct fr_model_desc *d,
		 struct fr_error *err)
{
	err->code = FR_OK;
	err->text[0] = 0;
	return fr_desc_parse(&(struct fr_desc_from){
				     .bytes = {(const uint8_t *)config, (const uint8_t *)preprocessor, (const uint8_t *)generation},
				     .size = {strlen(config), preprocessor ? strlen(preprocessor) : 0,
					      generation ? strlen(generation) : 0}},
			     d, err);
}

static int open_desc(struct fr_source *src, struct fr_model_desc *d, struct fr_error *err)
{
	return fr_desc_open(&(struct fr_parts){.src = src}, d, err);
}

static void test_llava_hf(void)
{
	struct fr_model_desc d;
	struct fr_error err;
	int rc = parse(llava_hf, preprocessor_2023, "{\"bos_token_id\":1,\"eos_token_id\":2}", &d, &err);
	const struct fr_vit_desc *v = &d.vit[0];
	const struct fr_text_desc *t = &d.text;

	CHECK("exact/llava-1.5-7b: accepted and named by its sizes", rc == 0 && !strcmp(d.name, "fakevlm-7b"),
	      "rc %d %s", rc, err.text);
	CHECK("exact/llava-1.5-7b: vision",
	      v->image == 336 && v->patch == 14 && v->dim == 1024 && v->heads == 16 && v->ffn == 4096 &&
		      v->layers == 24 && v->run == 23 && v->eps == 1e-5f && v->act == FR_ACT_QUICK_GELU && v->pre_ln &&
		      !v->patch_bias && !v->layer_scale && !strcmp(v->role, "vision") && d.n_branch == 1 &&
		      d.n_image == 576,
	      "run %d, n_image %d, ...", v->run, d.n_image);
	CHECK("exact/llava-1.5-7b: decoder, with the fields its config omits",
	      t->dim == 4096 && t->layers == 32 && t->heads == 32 && t->kv_heads == 32 && t->head_dim == 128 &&
		      t->ffn == 11008 && t->vocab == 32064 && t->max_pos == 4096 && t->eps == 1e-5f &&
		      t->rope_theta == 10000 && t->rope_factor == 1 && !t->tied,
	      "ffn %d, kv_heads %d, ...", t->ffn, t->kv_heads);
	CHECK("exact/llava-1.5-7b: projector", d.proj_act == FR_ACT_GELU && d.proj_bias && d.proj_dim == 4096, "act %d",
	      d.proj_act);
	CHECK("exact/llava-1.5-7b: ids",
	      d.prompt.image_id == 32000 && d.prompt.bos == 1 && d.prompt.n_eos == 1 && d.prompt.eos[0] == 2,
	      "image %d", d.prompt.image_id);
	CHECK("exact/llava-1.5-7b: prompt and calibration",
	      !strcmp(d.prompt.question, "<image>\nDoes the image looks real/fake?") && !strcmp(d.prompt.chat, "raw") &&
		      !strcmp(d.prompt.opening, "This image is") && !strcmp(d.prompt.real, "real") &&
		      !strcmp(d.prompt.fake, "fake") && d.cal_temperature == 1 && d.cal_bias == 0,
	      "question %s", d.prompt.question);
	CHECK("exact/llava-1.5-7b: image",
	      d.image.fit == FR_FIT_CROP && d.image.resize == 336 && d.image.crop == 336 &&
		      d.image.resample == FR_BICUBIC && d.image.rescale == 1.0 / 255 && d.image.mean[1] == 0.4578275f &&
		      d.image.std[2] == 0.27577711f,
	      "resize %d", d.image.resize);
}

static void test_preprocessors(void)
{
	struct fr_model_desc a, b, c, d;
	struct fr_error err;
	int rc = parse(llava_hf, preprocessor_2023, NULL, &a, &err) ||
		 parse(llava_hf, preprocessor_2022, NULL, &b, &err) || parse(llava_hf, NULL, NULL, &c, &err) ||
		 parse(llava_hf, "{\"size\":336,\"crop_size\":336,\"resample\":2}", NULL, &d, &err);

	CHECK("exact/preprocessor: files of 2022 and 2023 and none describe the same",
	      rc == 0 && !strcmp(a.image.id, b.image.id) && !strcmp(a.image.id, c.image.id), "rc %d, %s, %s, %s", rc,
	      a.image.id, b.image.id, c.image.id);
	/* Python's hashlib.sha256 of the text "fit=crop resize=336 crop=336 resample=bicubic
	 * rescale=0.0039215686274509803 mean=0.48145467,0.457827508,0.408210725 std=0.268629551,0.26130259,0.275777102"
	 * in one line. */
	CHECK("exact/preprocessor: the id names the numbers",
	      rc == 0 && !strcmp(a.image.id, "pil-bicubic-crop336-6738d358"), "got %s", a.image.id);
	CHECK("exact/preprocessor: another filter is another id",
	      rc == 0 && d.image.resample == FR_BILINEAR && strcmp(a.image.id, d.image.id) != 0, "%s", d.image.id);
}

/* What a config says by leaving it out. */
static void test_defaults(void)
{
	struct fr_model_desc d;
	struct fr_error err;
	int rc = parse(LLAVA(TEXT("")), NULL, NULL, &d, &err);

	CHECK("exact/defaults: LlavaConfig without vision_config is ViT-L/14 at 336",
	      rc == 0 && d.vit[0].dim == 1024 && d.vit[0].layers == 24 && d.n_image == 576, "rc %d %s", rc, err.text);
	CHECK("exact/defaults: LlamaConfig's rms_norm_eps is 1e-6, its positions 2048",
	      rc == 0 && d.text.eps == 1e-6f && d.text.max_pos == 2048, "eps %g", (double)d.text.eps);
	rc = parse("{\"architectures\":[\"LlavaForConditionalGeneration\"],\"image_token_id\":7,\"text_config\":{},"
		   "\"vision_config\":{}}",
		   NULL, NULL, &d, &err);
	CHECK("exact/defaults: CLIPVisionConfig is ViT-B/32 at 224, LlamaConfig has 32000 rows",
	      rc == 0 && d.vit[0].dim == 768 && d.vit[0].ffn == 3072 && d.vit[0].layers == 12 && d.vit[0].heads == 12 &&
		      d.vit[0].run == 11 && d.n_image == 49 && d.text.vocab == 32000 && d.prompt.image_id == 7,
	      "rc %d %s", rc, err.text);
	CHECK("exact/defaults: an unknown size has no name of its own", rc == 0 && d.name[0] == 0, "got %s", d.name);
	rc = parse(LLAVA(TEXT(",\"rms_norm_eps\":null,\"num_key_value_heads\":null,\"rope_scaling\":null")), NULL, NULL,
		   &d, &err);
	CHECK("exact/defaults: null is as good as absent",
	      rc == 0 && d.text.eps == 1e-6f && d.text.kv_heads == 32 && d.text.rope_factor == 1, "rc %d %s", rc,
	      err.text);
	rc = parse(LLAVA(TEXT("")), "{\"size\":{\"shortest_edge\":336}}", NULL, &d, &err);
	CHECK("exact/defaults: CLIPImageProcessor crops to 224 where its file does not say",
	      rc == -1 && strstr(err.text, "crop_size: expected the encoder's image size 336, got 224"), "%s",
	      err.text);
}

static void test_variants(void)
{
	struct fr_model_desc d;
	struct fr_error err;
	int rc = parse(LLAVA(TEXT(",\"rope_scaling\":{\"type\":\"linear\",\"factor\":2.5}")), NULL, NULL, &d, &err);

	CHECK("exact/rope: linear scaling in 4.x's words", rc == 0 && d.text.rope_factor == 2.5, "rc %d %s", rc,
	      err.text);
	rc = parse(LLAVA(TEXT(",\"rope_parameters\":{\"rope_type\":\"linear\",\"factor\":4,\"rope_theta\":5000.0}")),
		   NULL, NULL, &d, &err);
	CHECK("exact/rope: linear scaling in 5.x's words",
	      rc == 0 && d.text.rope_factor == 4 && d.text.rope_theta == 5000, "rc %d %s", rc, err.text);
	rc = parse(LLAVA(TEXT(",\"rope_parameters\":{\"rope_type\":\"default\",\"rope_theta\":20000.0}")), NULL, NULL,
		   &d, &err);
	CHECK("exact/rope: theta in 5.x's words", rc == 0 && d.text.rope_factor == 1 && d.text.rope_theta == 20000,
	      "rc %d %s", rc, err.text);
	rc = parse(LLAVA(TEXT(",\"num_key_value_heads\":8,\"head_dim\":64")), NULL, NULL, &d, &err);
	CHECK("exact/decoder: grouped heads and a head size of its own",
	      rc == 0 && d.text.kv_heads == 8 && d.text.head_dim == 64, "rc %d %s", rc, err.text);
	rc = parse(LLAVA(TEXT("") ",\"tie_word_embeddings\":true"), NULL, NULL, &d, &err);
	CHECK("exact/decoder: tied at the top level", rc == 0 && d.text.tied, "rc %d %s", rc, err.text);
	rc = parse(LLAVA(TEXT(",\"tie_word_embeddings\":false") ",\"tie_word_embeddings\":true"), NULL, NULL, &d, &err);
	CHECK("exact/decoder: text_config's own word on tying counts", rc == 0 && !d.text.tied, "rc %d %s", rc,
	      err.text);
	rc = parse(LLAVA(TEXT("") ",\"vision_feature_layer\":-1"), NULL, NULL, &d, &err);
	CHECK("exact/vision: feature layer -1 runs all layers", rc == 0 && d.vit[0].run == 24, "rc %d %s", rc,
	      err.text);
	rc = parse(LLAVA(TEXT("") ",\"vision_feature_layer\":22,\"multimodal_projector_bias\":false"), NULL, NULL, &d,
		   &err);
	CHECK("exact/vision: feature layer 22 is what leaves the 22nd", rc == 0 && d.vit[0].run == 22 && !d.proj_bias,
	      "rc %d %s", rc, err.text);
	rc = parse(LLAVA(TEXT(",\"eos_token_id\":5") ",\"eos_token_id\":6"), NULL, "{\"eos_token_id\":[2,7]}", &d,
		   &err);
	CHECK("exact/ids: generation_config's eos comes first, a list is taken whole",
	      rc == 0 && d.prompt.n_eos == 2 && d.prompt.eos[0] == 2 && d.prompt.eos[1] == 7, "rc %d %s", rc, err.text);
	rc = parse(LLAVA(TEXT(",\"eos_token_id\":5") ",\"eos_token_id\":6"), NULL, NULL, &d, &err);
	CHECK("exact/ids: then the top level's", rc == 0 && d.prompt.n_eos == 1 && d.prompt.eos[0] == 6, "rc %d %s", rc,
	      err.text);
	rc = parse(LLAVA(TEXT(",\"eos_token_id\":5")), NULL, "{}", &d, &err);
	CHECK("exact/ids: then text_config's", rc == 0 && d.prompt.n_eos == 1 && d.prompt.eos[0] == 5, "rc %d %s", rc,
	      err.text);
}

/* Where the fault is: 0 config.json, 1 preprocessor_config.json, 2 generation_config.json. */
static const struct {
	const char *what;
	int file;
	const char *text, *says;
} refused[] = {
	{"empty", 0, "", "config.json: expected one JSON object, the file is empty"},
	{"no JSON", 0, "model", "config.json: expected one JSON object, the text breaks at byte 0 (line 1)"},
	{"cut off", 0, "{\"model_type\":\n\"lla", "(line 2)"},
	{"two objects", 0, "{} {}", "more follows at byte 3"},
	{"a list", 0, "[]", "expected a JSON object, got another value"},
	{"key twice", 0, LLAVA(",\"a\":{\"b\":1,\"c\":2,\"b\":3}"), "the key \"b\" stands twice"},
	{"no architecture", 0, "{}",
	 "expected LlavaForConditionalGeneration (model_type llava) or LlavaLlamaForCausalLM (model_type llava_llama), got "
	 "model_type none"},
	{"another model", 0, "{\"model_type\":\"qwen2_vl\",\"architectures\":[\"Qwen2VLForConditionalGeneration\"]}",
	 "got model_type qwen2_vl, architecture Qwen2VLForConditionalGeneration"},
	{"another head", 0, LLAVA(",\"architectures\":[\"LlavaNextForConditionalGeneration\"]"),
	 "got model_type llava, architecture LlavaNext"},
	{"model_type a number", 0, "{\"model_type\":7}", "model_type: expected a string, got a number"},
	{"another decoder", 0, LLAVA(",\"text_config\":{\"model_type\":\"mistral\"}"),
	 "model_type: expected \"llama\", got \"mistral\""},
	{"another encoder", 0, LLAVA(",\"vision_config\":{\"model_type\":\"siglip_vision_model\"}"),
	 "got \"siglip_vision_model\""},
	{"text_config a list", 0, LLAVA(",\"text_config\":[]"), "text_config: expected an object, got a list"},
	{"quantised", 0, LLAVA(TEXT("") ",\"quantization_config\":{}"),
	 "quantization_config: expected weights in f32, f16 or bf16"},
	{"negative width", 0, LLAVA(TEXT(",\"hidden_size\":-1")), "hidden_size: expected 1 to"},
	{"width of zero", 0, LLAVA(TEXT(",\"hidden_size\":0")), "hidden_size: expected 1 to"},
	{"huge width", 0, LLAVA(TEXT(",\"hidden_size\":1e300")), "hidden_size: expected 1 to"},
	{"infinite width", 0, LLAVA(TEXT(",\"hidden_size\":1e999")), "hidden_size: expected 1 to"},
	{"half a head", 0, LLAVA(TEXT(",\"num_attention_heads\":1.5")),
	 "num_attention_heads: expected a whole number, got 1.5"},
	{"heads that do not divide", 0, LLAVA(TEXT(",\"num_attention_heads\":7")),
	 "7 heads do not divide a width of 4096"},
	{"more key heads than heads", 0, LLAVA(TEXT(",\"num_key_value_heads\":64")),
	 "num_key_value_heads: expected 1 to 32, got 64"},
	{"key heads that do not divide", 0, LLAVA(TEXT(",\"num_key_value_heads\":5")),
	 "32 heads cannot share 5 key/value heads"},
	{"head size no kernel takes", 0, LLAVA(TEXT(",\"head_dim\":12")),
	 "expected a head size that is a multiple of 8 up to 320, got 12"},
	{"attention with biases", 0, LLAVA(TEXT(",\"attention_bias\":true")), "attention_bias is true"},
	{"another gate", 0, LLAVA(TEXT(",\"hidden_act\":\"gelu\"")), "hidden_act: expected silu"},
	{"dynamic rope", 0, LLAVA(TEXT(",\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":2}")),
	 "expected none or linear, got \"dynamic\""},
	{"llama3 rope", 0, LLAVA(TEXT(",\"rope_parameters\":{\"rope_type\":\"llama3\"}")),
	 "expected none or linear, got \"llama3\""},
	{"linear rope without factor", 0, LLAVA(TEXT(",\"rope_scaling\":{\"type\":\"linear\"}")),
	 "linear scaling without a factor"},
	{"partial rope", 0, LLAVA(TEXT(",\"rope_parameters\":{\"partial_rotary_factor\":0.5}")),
	 "partial_rotary_factor: expected 1"},
	{"several feature layers", 0, LLAVA(TEXT("") ",\"vision_feature_layer\":[-2,-5]"),
	 "expected one layer, got a list"},
	{"feature layer beyond", 0, LLAVA(TEXT("") ",\"vision_feature_layer\":25"),
	 "expected a layer of the 24 there are, got 25"},
	{"feature layer before", 0, LLAVA(TEXT("") ",\"vision_feature_layer\":-26"),
	 "expected a layer of the 24 there are, got -26"},
	{"class token kept", 0, LLAVA(TEXT("") ",\"vision_feature_select_strategy\":\"full\""),
	 "expected \"default\", got \"full\""},
	{"another projector", 0, LLAVA(TEXT("") ",\"projector_hidden_act\":\"relu\""),
	 "expected quick_gelu, gelu or silu, got \"relu\""},
	{"patches that do not divide", 0, LLAVA(TEXT("") ",\"vision_config\":{\"image_size\":336,\"patch_size\":15}"),
	 "patches of 15 pixels do not divide an image of 336"},
	{"patches larger than the image", 0, LLAVA(TEXT("") ",\"vision_config\":{\"image_size\":8}"),
	 "patches of 32 pixels do not divide an image of 8"},
	{"image id beyond the vocabulary", 0, LLAVA(TEXT("") ",\"image_token_index\":32064"),
	 "expected an id below the vocab_size 32064"},
	{"two image ids", 0, LLAVA(TEXT("") ",\"image_token_index\":32000,\"image_token_id\":5"),
	 "32000 and image_token_id 5 disagree"},
	{"sides of a rectangle", 1, "{\"size\":336,\"crop_size\":{\"height\":336,\"width\":224}}",
	 "crop_size: expected a square, got 336 x 224"},
	{"resize to a box", 1, "{\"size\":{\"height\":336,\"width\":336},\"crop_size\":336}",
	 "size: expected shortest_edge"},
	{"crop beyond the resize", 1, "{\"size\":224,\"crop_size\":336}",
	 "size: expected at least the crop of 336, got 224"},
	{"no resize", 1, "{\"do_resize\":false,\"size\":336,\"crop_size\":336}", "do_resize is false"},
	{"no crop", 1, "{\"do_center_crop\":false,\"size\":336,\"crop_size\":336}", "do_center_crop is false"},
	{"no rescaling", 1, "{\"do_rescale\":false,\"size\":336,\"crop_size\":336}", "do_rescale is false"},
	{"no normalising", 1, "{\"do_normalize\":false,\"size\":336,\"crop_size\":336}", "do_normalize is false"},
	{"padding", 1, "{\"do_pad\":true,\"size\":336,\"crop_size\":336}", "do_pad is true"},
	{"another processor", 1, "{\"image_processor_type\":\"SiglipImageProcessor\"}",
	 "expected CLIPImageProcessor, got \"SiglipImage"},
	{"filter no one knows", 1, "{\"resample\":6,\"size\":336,\"crop_size\":336}",
	 "resample: expected 0 to 5, got 6"},
	{"two means", 1, "{\"size\":336,\"crop_size\":336,\"image_mean\":[0.5,0.5]}",
	 "image_mean: expected a list of 3 numbers"},
	{"deviation of zero", 1, "{\"size\":336,\"crop_size\":336,\"image_std\":[0.5,0,0.5]}",
	 "image_std: expected numbers from 1e-06"},
	{"rescale of zero", 1, "{\"size\":336,\"crop_size\":336,\"rescale_factor\":0}", "rescale_factor: expected"},
	{"broken preprocessor", 1, "{", "preprocessor_config.json: expected one JSON object, the text breaks"},
	{"eos beyond the vocabulary", 2, "{\"eos_token_id\":99999}",
	 "generation_config.json: eos_token_id: expected 0 to 32063"},
	{"eos a word", 2, "{\"eos_token_id\":\"</s>\"}", "eos_token_id: expected a number, got a string"},
	{"nine eos", 2, "{\"eos_token_id\":[1,2,3,4,5,6,7,8,9]}", "eos_token_id: expected at most 8 ids"},
	{"eos list of words", 2, "{\"eos_token_id\":[\"a\"]}", "eos_token_id: expected at most 8 ids"},
};

static void test_refused(void)
{
	char name[128];

	for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
		const char *text[3] = {LLAVA(TEXT("")), NULL, NULL};
		struct fr_model_desc d;
		struct fr_error err;
		int rc;

		text[refused[i].file] = refused[i].text;
		rc = parse(text[0], text[1], text[2], &d, &err);
		snprintf(name, sizeof name, "exact/config refused: %s", refused[i].what);
		CHECK(name, rc == -1 && err.code == FR_E_MODEL && strstr(err.text, refused[i].says), "rc %d, \"%s\"",
		      rc, err.text);
	}
}

/* Nothing between a config and its prefixes is accepted, read beyond or leaked. */
static void test_truncations(void)
{
	size_t size = strlen(llava_hf), accepted = 0;
	struct fr_model_desc d;
	struct fr_error err;

	for (size_t n = 0; n < size; n++) {
		uint8_t *copy = malloc(n ? n : 1);

		memcpy(copy, llava_hf, n);
		accepted += fr_desc_parse(&(struct fr_desc_from){.bytes = {copy}, .size = {n}}, &d, &err) == 0;
		free(copy);
	}
	CHECK("exact/config refused: every truncation", accepted == 0, "%zu of %zu accepted", accepted, size);
}

/* A folder without preprocessor_config.json, with processor_config.json as 5.x or 4.x writes it. */
static void test_processor_config(void)
{
	static const struct {
		const char *what, *text, *says;
	} cases[] = {
		{"of 4.x says nothing about pixels", "{\"processor_class\":\"LlavaProcessor\",\"patch_size\":14}",
		 NULL},
		{"of 5.x is read",
		 "{\"image_processor\":{\"size\":{\"shortest_edge\":400},\"crop_size\":{\"height\":336,\"width\":336},"
		 "\"do_pad\":null,\"image_processor_type\":\"CLIPImageProcessorFast\"}}",
		 NULL},
		{"that breaks is refused", "{\"image_processor\":", "processor_config.json: expected one JSON object"},
		{"of another model is refused",
		 "{\"image_processor\":{\"image_processor_type\":\"ViTImageProcessor\"}}",
		 "processor_config.json: image_processor_type: expected CLIPImageProcessor"},
	};

	files_dir("processor");
	files_text("processor/config.json", llava_hf);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct fr_model_desc d;
		struct fr_source *src;
		struct fr_error err = {FR_OK, ""};
		char name[128];
		int rc;

		files_text("processor/processor_config.json", cases[i].text);
		rc = fr_source_open(files_path("processor"), &src, &err) || open_desc(src, &d, &err);
		snprintf(name, sizeof name, "exact/preprocessor: a processor_config.json %s", cases[i].what);
		if (cases[i].says)
			CHECK(name, rc != 0 && strstr(err.text, cases[i].says), "rc %d \"%s\"", rc, err.text);
		else
			CHECK(name, rc == 0 && d.image.resize == (i == 1 ? 400 : 336), "rc %d \"%s\"", rc, err.text);
		fr_source_close(src);
	}
}

static void test_open(void)
{
	struct fr_model_desc d;
	struct fr_source *src;
	struct fr_error err;
	int rc = fr_source_open("demo", &src, &err) || open_desc(src, &d, &err);

	CHECK("exact/the demo model's description opens and says that it is one",
	      rc == 0 && d.demo && !strcmp(d.name, "demo") &&
		      d.n_image == (d.vit[0].image / d.vit[0].patch) * (d.vit[0].image / d.vit[0].patch),
	      "rc %d %s", rc, err.text);
	fr_source_close(src);
	rc = fr_source_open("tests/golden/e2e/old-f32/model/.", &src, &err) || open_desc(src, &d, &err);
	CHECK("exact/a folder's own name is the model's", rc == 0 && !d.demo && !strcmp(d.name, "model"), "rc %d %s",
	      rc, d.name);
	fr_source_close(src);
	rc = fr_source_open("tests/golden/e2e", &src, &err);
	CHECK("exact/a folder without config.json is refused",
	      rc == 0 && open_desc(src, &d, &err) == -1 &&
		      strstr(err.text, "tests/golden/e2e: config.json is missing"),
	      "%s", err.text);
	fr_source_close(src);
}

/* A mapped file can end where its page ends; every cut of a config is parsed with nothing readable behind it. */
static void test_page_end(void)
{
	const size_t page = (size_t)sysconf(_SC_PAGESIZE), all = strlen(llava_hf);
	char *map = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct fr_error err;
	cJSON *root;
	int no = 0, taken = 0;

	if (map == MAP_FAILED || all > page || mprotect(map + page, page, PROT_NONE) != 0) {
		test_fail("exact/JSON that ends at the end of a page", "cannot lay out the pages");
		return;
	}
	for (size_t n = 1; n <= all; n++) {
		memcpy(map + page - n, llava_hf, n);
		if (fr_json_parse((const uint8_t *)map + page - n, n, "config.json", &root, &err) == 0)
			taken++;
		else
			no++;
		cJSON_Delete(root);
	}
	CHECK("exact/JSON that ends at the end of a page", taken == 1 && no == (int)all - 1, "%d taken, %d refused",
	      taken, no);
	munmap(map, 2 * page);
}

int main(void)
{
	test_page_end();
	test_llava_hf();
	test_preprocessors();
	test_defaults();
	test_variants();
	test_refused();
	test_truncations();
	test_processor_config();
	test_open();
	return test_done();
}
