/* The names table, see names.h.
 *
 * Hugging Face's LLaVA comes in two generations of prefixes: up to transformers 4.51 the language model is a causal LM
 * of its own below "language_model.", from 4.52 on everything but lm_head lies below "model.". 5.x may drop the
 * "vision_model." level in either. "pre_layrnorm" is how CLIP's authors spelled it. */
#include "names.h"

#include <stddef.h>

/* Part, in a layer or not, and field of a row. */
#define V(field) FR_PART_VISION, 0, offsetof(struct fr_vit_weights, field)
#define VL(field) FR_PART_VISION, 1, offsetof(struct fr_vit_layer_weights, field)
#define P(field) FR_PART_PROJ, 0, offsetof(struct fr_proj_weights, field)
#define T(field) FR_PART_TEXT, 0, offsetof(struct fr_weights, field)
#define TL(field) FR_PART_TEXT, 1, offsetof(struct fr_text_layer_weights, field)
#define H(field) FR_PART_HEAD, 0, offsetof(struct fr_weights, field)

/* Short names of fr_need and fr_size for the table. */
#define ALWAYS FR_NEED_ALWAYS
#define PRE_LN FR_NEED_PRE_LN
#define PATCH_BIAS FR_NEED_PATCH_BIAS
#define LAYER_SCALE FR_NEED_LAYER_SCALE
#define PROJ_BIAS FR_NEED_PROJ_BIAS
#define UNTIED FR_NEED_UNTIED
#define DIM FR_SZ_DIM
#define FFN FR_SZ_FFN
#define IN FR_SZ_IN
#define Q FR_SZ_Q
#define KV FR_SZ_KV
#define VOCAB FR_SZ_VOCAB
#define POS FR_SZ_POS
#define RGB FR_SZ_RGB
#define PATCH FR_SZ_PATCH

/* clang-format off */
const struct fr_name_row fr_name_rows[] = {
	{"vit.cls",         V(cls),     ALWAYS,      {DIM},            {"embeddings.class_embedding"}},
	{"vit.patch.w",     V(patch_w), ALWAYS,      {DIM, RGB, PATCH, PATCH}, {"embeddings.patch_embedding.weight"}},
	{"vit.patch.b",     V(patch_b), PATCH_BIAS,  {DIM},            {"embeddings.patch_embedding.bias"}},
	{"vit.pos",         V(pos),     ALWAYS,      {POS, DIM},       {"embeddings.position_embedding.weight"}},
	{"vit.pre.w",       V(pre_w),   PRE_LN,      {DIM},            {"pre_layrnorm.weight"}},
	{"vit.pre.b",       V(pre_b),   PRE_LN,      {DIM},            {"pre_layrnorm.bias"}},
	{"vit.layer.ln1.w", VL(ln1_w),  ALWAYS,      {DIM},            {"encoder.layers.%d.layer_norm1.weight"}},
	{"vit.layer.ln1.b", VL(ln1_b),  ALWAYS,      {DIM},            {"encoder.layers.%d.layer_norm1.bias"}},
	{"vit.layer.q.w",   VL(q_w),    ALWAYS,      {DIM, DIM},       {"encoder.layers.%d.self_attn.q_proj.weight"}},
	{"vit.layer.q.b",   VL(q_b),    ALWAYS,      {DIM},            {"encoder.layers.%d.self_attn.q_proj.bias"}},
	{"vit.layer.k.w",   VL(k_w),    ALWAYS,      {DIM, DIM},       {"encoder.layers.%d.self_attn.k_proj.weight"}},
	{"vit.layer.k.b",   VL(k_b),    ALWAYS,      {DIM},            {"encoder.layers.%d.self_attn.k_proj.bias"}},
	{"vit.layer.v.w",   VL(v_w),    ALWAYS,      {DIM, DIM},       {"encoder.layers.%d.self_attn.v_proj.weight"}},
	{"vit.layer.v.b",   VL(v_b),    ALWAYS,      {DIM},            {"encoder.layers.%d.self_attn.v_proj.bias"}},
	{"vit.layer.o.w",   VL(o_w),    ALWAYS,      {DIM, DIM},       {"encoder.layers.%d.self_attn.out_proj.weight"}},
	{"vit.layer.o.b",   VL(o_b),    ALWAYS,      {DIM},            {"encoder.layers.%d.self_attn.out_proj.bias"}},
	{"vit.layer.ln2.w", VL(ln2_w),  ALWAYS,      {DIM},            {"encoder.layers.%d.layer_norm2.weight"}},
	{"vit.layer.ln2.b", VL(ln2_b),  ALWAYS,      {DIM},            {"encoder.layers.%d.layer_norm2.bias"}},
	{"vit.layer.fc1.w", VL(fc1_w),  ALWAYS,      {FFN, DIM},       {"encoder.layers.%d.mlp.fc1.weight"}},
	{"vit.layer.fc1.b", VL(fc1_b),  ALWAYS,      {FFN},            {"encoder.layers.%d.mlp.fc1.bias"}},
	{"vit.layer.fc2.w", VL(fc2_w),  ALWAYS,      {DIM, FFN},       {"encoder.layers.%d.mlp.fc2.weight"}},
	{"vit.layer.fc2.b", VL(fc2_b),  ALWAYS,      {DIM},            {"encoder.layers.%d.mlp.fc2.bias"}},
	{"vit.layer.ls1",   VL(ls1),    LAYER_SCALE, {DIM},            {NULL}},
	{"vit.layer.ls2",   VL(ls2),    LAYER_SCALE, {DIM},            {NULL}},
	{"projector.1.w",   P(l1_w),    ALWAYS,      {FFN, IN},        {"linear_1.weight"}},
	{"projector.1.b",   P(l1_b),    PROJ_BIAS,   {FFN},            {"linear_1.bias"}},
	{"projector.2.w",   P(l2_w),    ALWAYS,      {DIM, FFN},       {"linear_2.weight"}},
	{"projector.2.b",   P(l2_b),    PROJ_BIAS,   {DIM},            {"linear_2.bias"}},
	{"text.embed",      T(embed),   ALWAYS,      {VOCAB, DIM},     {"embed_tokens.weight"}},
	{"text.layer.norm1", TL(norm1),  ALWAYS,      {DIM},            {"layers.%d.input_layernorm.weight"}},
	{"text.layer.q",    TL(q),      ALWAYS,      {Q, DIM},         {"layers.%d.self_attn.q_proj.weight"}},
	{"text.layer.k",    TL(k),      ALWAYS,      {KV, DIM},        {"layers.%d.self_attn.k_proj.weight"}},
	{"text.layer.v",    TL(v),      ALWAYS,      {KV, DIM},        {"layers.%d.self_attn.v_proj.weight"}},
	{"text.layer.o",    TL(o),      ALWAYS,      {DIM, Q},         {"layers.%d.self_attn.o_proj.weight"}},
	{"text.layer.norm2", TL(norm2),  ALWAYS,      {DIM},            {"layers.%d.post_attention_layernorm.weight"}},
	{"text.layer.gate", TL(gate),   ALWAYS,      {FFN, DIM},       {"layers.%d.mlp.gate_proj.weight"}},
	{"text.layer.up",   TL(up),     ALWAYS,      {FFN, DIM},       {"layers.%d.mlp.up_proj.weight"}},
	{"text.layer.down", TL(down),   ALWAYS,      {DIM, FFN},       {"layers.%d.mlp.down_proj.weight"}},
	{"text.norm",       T(norm),    ALWAYS,      {DIM},            {"norm.weight"}},
	{"text.lm_head",    H(lm_head), UNTIED,      {VOCAB, DIM},     {"lm_head.weight"}},
};
const size_t fr_name_row_count = sizeof fr_name_rows / sizeof *fr_name_rows;

const struct fr_name_place fr_name_places[] = {
	{FR_PART_VISION, "vision", FR_SCHEME_HF, FR_FROM_MODEL, "vision_tower.vision_model.",       "hf-llava"},
	{FR_PART_VISION, "vision", FR_SCHEME_HF, FR_FROM_MODEL, "model.vision_tower.vision_model.", "hf-llava-4.52"},
	{FR_PART_VISION, "vision", FR_SCHEME_HF, FR_FROM_MODEL, "vision_tower.",                    "hf-llava"},
	{FR_PART_VISION, "vision", FR_SCHEME_HF, FR_FROM_MODEL, "model.vision_tower.",              "hf-llava-4.52"},
	{FR_PART_PROJ,   "vision", FR_SCHEME_HF, FR_FROM_MODEL, "multi_modal_projector.",           "hf-llava"},
	{FR_PART_PROJ,   "vision", FR_SCHEME_HF, FR_FROM_MODEL, "model.multi_modal_projector.",     "hf-llava-4.52"},
	{FR_PART_TEXT,   NULL,     FR_SCHEME_HF, FR_FROM_MODEL, "language_model.model.",            "hf-llava"},
	{FR_PART_TEXT,   NULL,     FR_SCHEME_HF, FR_FROM_MODEL, "model.language_model.",            "hf-llava-4.52"},
	{FR_PART_HEAD,   NULL,     FR_SCHEME_HF, FR_FROM_MODEL, "language_model.",                  "hf-llava"},
	{FR_PART_HEAD,   NULL,     FR_SCHEME_HF, FR_FROM_MODEL, "",                                 "hf-llava-4.52"},
};
const size_t fr_name_place_count = sizeof fr_name_places / sizeof *fr_name_places;
/* clang-format on */
