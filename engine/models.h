/* What the describing functions of the families share: the files of a checkpoint as parsed, and readers of their parts.
 *
 * `where` names an object in sentences: "config.json: text_config". A reader fills the whole of its struct, with the
 * defaults of the reference's class where the file leaves a field out. */
#ifndef FR_ENGINE_MODELS_H
#define FR_ENGINE_MODELS_H

#include "desc.h"
#include "../weights/bind.h"
#include "../weights/json.h"

#define FR_MAX_DIM (1 << 20)

struct fr_checkpoint {
	struct fr_json file[FR_DESC_FILES];
	struct fr_store *const *store; /* [FR_FROMS], each may be NULL */
};
/* A class of the reference frameworks whose checkpoints are read. */
struct fr_family {
	const char *architecture,
		*types[2]; /* architectures[0] and model_type of config.json; the second may be NULL */
	const char *name;
	int apart; /* CLIP and DINOv2 lie in files of their own, and a LoRA adapter may stand before the model */
	int (*describe)(const struct fr_checkpoint *c, struct fr_model_desc *out, struct fr_error *err);
};
/* Refused besides: quantised weights. */
int fr_family_find(struct fr_json config, const struct fr_family **out, struct fr_error *err);

int fr_describe_llava(const struct fr_checkpoint *c, struct fr_model_desc *out, struct fr_error *err);
int fr_describe_fakereasoning(const struct fr_checkpoint *c, struct fr_model_desc *out, struct fr_error *err);

/* ---- fields (models_fields.c): absent leaves *v alone, or is as good as the value that is wanted ---- */
int fr_read_act(struct fr_json j, const char *key, enum fr_act *act, struct fr_error *err);
int fr_want_string(struct fr_json j, const char *key, const char *want, struct fr_error *err);
int fr_want_flag(struct fr_json j, const char *key, int want, const char *why, struct fr_error *err);
/* heads that divide dim into sizes that the kernels take. head_dim 0: they do not divide. */
int fr_check_heads(const char *where, int dim, int heads, int head_dim, struct fr_error *err);

/* ---- parts (models_shared.c) ---- */
/* LlamaConfig. tie_word_embeddings of `top` counts where `text` has none. */
int fr_read_llama(struct fr_json top, struct fr_json text, const char *where, struct fr_text_desc *t,
		  struct fr_error *err);
/* CLIPVisionConfig; v->run is left at 0. */
int fr_read_clip(struct fr_json j, const char *where, struct fr_vit_desc *v, struct fr_error *err);
/* hidden_states[key]: 0 is what enters layer 0, -1 what leaves the last; v->run is layers + 1 + a negative one. */
int fr_read_run(struct fr_json j, const char *key, int layer, struct fr_vit_desc *v, struct fr_error *err);
/* CLIPImageProcessor; without a file, what fits an encoder of that image size. */
int fr_read_image(struct fr_json j, enum fr_fit fit, int encoder, struct fr_image_desc *d, struct fr_error *err);
/* bos and eos: from the last of these that says them, else 1 and 2. */
int fr_read_ids(const struct fr_json *order, int n, int vocab, struct fr_prompt_desc *p, struct fr_error *err);
/* adapter_config.json (models_lora.c): rank, scale and matrices of *t; without the file there is no adapter. */
int fr_read_lora(struct fr_json j, struct fr_text_desc *t, struct fr_error *err);

#endif
