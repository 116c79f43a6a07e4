/* What a model is, as data: every number the forward pass needs, none of the code.
 *
 * Filled by engine/models.c from the JSON files of a checkpoint (missing fields take the class defaults of the reference,
 * docs/MODEL.md) and, where no file says a size, from its tensors; checked again by the binder against their shapes. */
#ifndef FR_ENGINE_DESC_H
#define FR_ENGINE_DESC_H

#include "../weights/weights.h"

enum fr_act { FR_ACT_NONE, FR_ACT_QUICK_GELU, FR_ACT_GELU, FR_ACT_SILU, FR_ACT_RELU, FR_ACTS };
/* quick_gelu x*sigmoid(1.702x); gelu the erf form; silu x*sigmoid(x); relu x > 0 ? x : 0 */

#define FR_MAX_BRANCHES 2

struct fr_vit_desc {
	const char *role;      /* tap prefix: "vision"; with two branches "clip" and "dino" */
	int image, patch;      /* pixels per side */
	int dim, heads, ffn;
	int layers;            /* in the checkpoint */
	int run;               /* layers that run: layers + 1 + vision_feature_layer */
	float eps;
	enum fr_act act;
	int pre_ln;            /* a LayerNorm before layer 0 */
	int patch_bias;
	int layer_scale;
	int packed_qkv;        /* q, k, v are the thirds of one matrix */
	int pos_side;          /* side of the grid in the checkpoint's position table. Another than image / patch: the table
				  is resized to that, bicubic, by pos_side / (image / patch + pos_offset) */
	double pos_offset;
	int maps;              /* the last layer's attention of all rows goes into the fusion */
};
/* Where two branches become one: the second attended to by the first, with a bias made of the second's attention map. */
struct fr_fusion_desc {
	int heads;             /* 0: no fusion, the image rows are those of branch 0 */
	int mid;               /* inner channels of the bias: heads -> mid -> heads */
	int ffn;
	float eps;
	float log_offset;      /* log(map + log_offset) enters the bias */
};
struct fr_text_desc {
	int dim, layers, heads, kv_heads, head_dim, ffn, vocab, max_pos;
	float eps;
	double rope_theta, rope_factor; /* factor 1: no scaling; linear scaling divides positions by it */
	int tied;              /* lm_head is the embedding table */
	int lora_rank;         /* 0: no adapter */
	double lora_scale;     /* alpha / rank: W' = W + lora_scale * B A */
	unsigned lora;         /* bit set of enum fr_lora: the matrices that have one */
};
enum fr_lora { FR_LORA_Q, FR_LORA_K, FR_LORA_V, FR_LORA_O, FR_LORA_GATE, FR_LORA_UP, FR_LORA_DOWN, FR_LORAS };
enum fr_resample { FR_BICUBIC, FR_BILINEAR, FR_LANCZOS, FR_NEAREST, FR_BOX, FR_HAMMING };
enum fr_fit { FR_FIT_CROP /* shortest edge, centre crop */, FR_FIT_PAD /* pad to a square first */ };
struct fr_image_desc {
	enum fr_fit fit;
	int resize;            /* shortest edge in pixels */
	int crop;              /* side of the square crop; equals the encoder's image size */
	enum fr_resample resample;
	double rescale;        /* 1/255 */
	float mean[3], std[3];
	char id[64];           /* "pil-bicubic-crop336-<first 8 hex of sha256 of the numbers above as text>" */
};
enum fr_text_rule { FR_RULE_SENTENCES /* FakeVLM's */, FR_RULE_CONCLUSION /* FakeReasoning's */, FR_TEXT_RULES };
struct fr_prompt_desc {
	const char *chat;      /* default: "raw" */
	const char *question;  /* default text, "<image>\n..." */
	const char *opening;   /* "This image is": forced before the verdict, as pieces of the vocabulary */
	int reasoned;          /* the score is read where the text itself reaches the opening, its first piece left out
				  (which depends on what stands before); forced after the prompt it is another one */
	enum fr_text_rule rule; /* how the authors read a verdict off the text */
	int splice;            /* the text is cut at <image> and each side encoded by itself: image_id is no vocabulary row */
	int max_prompt;        /* positions that the tokenizer lets a prompt have; 0: as many as the decoder */
	const char *real, *fake; /* the two label words */
	int image_id;          /* id of <image>; spliced: -200 */
	int bos, eos[8], n_eos;
};
struct fr_model_desc {
	char name[64];
	const char *family;    /* "FakeVLM (LLaVA-1.5)": for `info` */
	int demo;
	int n_branch;
	struct fr_vit_desc vit[FR_MAX_BRANCHES];
	int n_image;           /* (image/patch)^2 rows that take the place of <image> */
	enum fr_act proj_act;
	int proj_dim;          /* inner width of the projector = text.dim for LLaVA */
	int proj_bias;
	int look;              /* the branch whose last attention shows where the encoder looked */
	struct fr_fusion_desc fusion;
	struct fr_text_desc text;
	struct fr_image_desc image;
	struct fr_prompt_desc prompt;
	double cal_temperature, cal_bias; /* default of the calibration head */
};

/* The files of a model that say what it is. CLIP's lie in a directory of its own, the adapter's only in a LoRA checkpoint. */
enum fr_desc_file {
	FR_FILE_CONFIG,
	FR_FILE_PREPROCESSOR,
	FR_FILE_GENERATION,
	FR_FILE_PROCESSOR, /* read only where there is no FR_FILE_PREPROCESSOR: transformers 5.x may put it there */
	FR_FILE_CLIP_CONFIG,
	FR_FILE_CLIP_PREPROCESSOR,
	FR_FILE_ADAPTER,
	FR_DESC_FILES
};
struct fr_desc_from {
	const uint8_t *bytes[FR_DESC_FILES]; /* NULL: not there; the defaults hold, but for FR_FILE_CONFIG */
	size_t size[FR_DESC_FILES];
	struct fr_store *const *store; /* [FR_FROMS] of bind.h; NULL: none, for models whose files say every size */
};
/* out->name is "" unless the sizes are those of a model that is known by name. */
int fr_desc_parse(const struct fr_desc_from *from, struct fr_model_desc *out, struct fr_error *err);
/* The same from the parts of a model, the directory's own name where none is known. */
struct fr_parts;
int fr_desc_open(const struct fr_parts *parts, struct fr_model_desc *out, struct fr_error *err);

#endif
