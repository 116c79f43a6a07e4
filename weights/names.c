/* The names table, see names.h.
 *
 * Hugging Face's LLaVA comes in two generations of prefixes: up to transformers 4.51 the language model is a causal LM
 * of its own below "language_model.", from 4.52 on everything but lm_head lies below "model.". 5.x may drop the
 * "vision_model." level in either. "pre_layrnorm" is how CLIP's authors spelled it.
 *
 * FakeReasoning is the original LLaVA's layout: a Llama below "model.", which also holds the projectors and the fusion;
 * CLIP and DINOv2 are files of their own. A model saved as a whole carries copies of its towers below
 * "model.vision_tower." and "model.dino_tower."; they have no place here, as the authors' loader leaves them out. */
#include "names.h"

#include <stddef.h>

/* clang-format off */
/* Part, in a layer or not, and field of a row. */
#define V(field) FR_PART_VISION, 0, {offsetof(struct fr_vit_weights, field)}
#define AT(field) offsetof(struct fr_vit_layer_weights, field)
#define VL(field) FR_PART_VISION, 1, {AT(field)}
#define V3(q, k, v) FR_PART_VISION, 1, {AT(q), AT(k), AT(v)}
#define P(field) FR_PART_PROJ, 0, {offsetof(struct fr_proj_weights, field)}
#define F(field) FR_PART_FUSION, 0, {offsetof(struct fr_fusion_weights, field)}
#define T(field) FR_PART_TEXT, 0, {offsetof(struct fr_weights, field)}
#define TL(field) FR_PART_TEXT, 1, {offsetof(struct fr_text_layer_weights, field)}
#define H(field) FR_PART_HEAD, 0, {offsetof(struct fr_weights, field)}
/* Both thin matrices of an adapter: role, its fr_lora, the sizes of the matrix beside it, its name. */
#define LORA(role, which, out, in, name)                                                                               \
	{role ".lora_a", FR_PART_LORA, 1, {offsetof(struct fr_text_layer_weights, lora[which].a)},                     \
	 FR_NEED_LORA + (which), {RANK, in}, {"layers.%d." name ".lora_A.weight"}},                                    \
	{role ".lora_b", FR_PART_LORA, 1, {offsetof(struct fr_text_layer_weights, lora[which].b)},                     \
	 FR_NEED_LORA + (which), {out, RANK}, {"layers.%d." name ".lora_B.weight"}}

/* Short names of fr_need and fr_size for the table. */
#define ALWAYS FR_NEED_ALWAYS
#define PRE_LN FR_NEED_PRE_LN
#define PATCH_BIAS FR_NEED_PATCH_BIAS
#define LAYER_SCALE FR_NEED_LAYER_SCALE
#define SPLIT_QKV FR_NEED_SPLIT_QKV
#define PACKED_QKV FR_NEED_PACKED_QKV
#define PROJ_BIAS FR_NEED_PROJ_BIAS
#define UNTIED FR_NEED_UNTIED
#define ABSENT FR_NEED_ABSENT
#define DIM FR_SZ_DIM
#define FFN FR_SZ_FFN
#define IN FR_SZ_IN
#define Q FR_SZ_Q
#define KV FR_SZ_KV
#define VOCAB FR_SZ_VOCAB
#define POS FR_SZ_POS
#define RGB FR_SZ_RGB
#define PATCH FR_SZ_PATCH
#define DIM3 FR_SZ_3DIM
#define ONE FR_SZ_ONE
#define MAPS FR_SZ_MAPS
#define MID FR_SZ_MID
#define RANK FR_SZ_RANK

const struct fr_name_row fr_name_rows[] = {
	{"vit.cls",         V(cls),     ALWAYS,      {DIM},            {"embeddings.class_embedding", "cls_token"}},
	{"vit.patch.w",     V(patch_w), ALWAYS,      {DIM, RGB, PATCH, PATCH},
		{"embeddings.patch_embedding.weight", "patch_embed.proj.weight"}},
	{"vit.patch.b",     V(patch_b), PATCH_BIAS,  {DIM},
		{"embeddings.patch_embedding.bias", "patch_embed.proj.bias"}},
	{"vit.pos",         V(pos),     ALWAYS,      {POS, DIM},
		{"embeddings.position_embedding.weight", "pos_embed"}},
	{"vit.pre.w",       V(pre_w),   PRE_LN,      {DIM},            {"pre_layrnorm.weight"}},
	{"vit.pre.b",       V(pre_b),   PRE_LN,      {DIM},            {"pre_layrnorm.bias"}},
	{"vit.layer.ln1.w", VL(ln1_w),  ALWAYS,      {DIM},
		{"encoder.layers.%d.layer_norm1.weight", "blocks.%d.norm1.weight"}},
	{"vit.layer.ln1.b", VL(ln1_b),  ALWAYS,      {DIM},
		{"encoder.layers.%d.layer_norm1.bias", "blocks.%d.norm1.bias"}},
	{"vit.layer.q.w",   VL(q_w),    SPLIT_QKV,   {DIM, DIM},       {"encoder.layers.%d.self_attn.q_proj.weight"}},
	{"vit.layer.q.b",   VL(q_b),    SPLIT_QKV,   {DIM},            {"encoder.layers.%d.self_attn.q_proj.bias"}},
	{"vit.layer.k.w",   VL(k_w),    SPLIT_QKV,   {DIM, DIM},       {"encoder.layers.%d.self_attn.k_proj.weight"}},
	{"vit.layer.k.b",   VL(k_b),    SPLIT_QKV,   {DIM},            {"encoder.layers.%d.self_attn.k_proj.bias"}},
	{"vit.layer.v.w",   VL(v_w),    SPLIT_QKV,   {DIM, DIM},       {"encoder.layers.%d.self_attn.v_proj.weight"}},
	{"vit.layer.v.b",   VL(v_b),    SPLIT_QKV,   {DIM},            {"encoder.layers.%d.self_attn.v_proj.bias"}},
	{"vit.layer.o.w",   VL(o_w),    ALWAYS,      {DIM, DIM},
		{"encoder.layers.%d.self_attn.out_proj.weight", "blocks.%d.attn.proj.weight"}},
	{"vit.layer.o.b",   VL(o_b),    ALWAYS,      {DIM},
		{"encoder.layers.%d.self_attn.out_proj.bias", "blocks.%d.attn.proj.bias"}},
	{"vit.layer.ln2.w", VL(ln2_w),  ALWAYS,      {DIM},
		{"encoder.layers.%d.layer_norm2.weight", "blocks.%d.norm2.weight"}},
	{"vit.layer.ln2.b", VL(ln2_b),  ALWAYS,      {DIM},
		{"encoder.layers.%d.layer_norm2.bias", "blocks.%d.norm2.bias"}},
	{"vit.layer.fc1.w", VL(fc1_w),  ALWAYS,      {FFN, DIM},
		{"encoder.layers.%d.mlp.fc1.weight", "blocks.%d.mlp.fc1.weight"}},
	{"vit.layer.fc1.b", VL(fc1_b),  ALWAYS,      {FFN},
		{"encoder.layers.%d.mlp.fc1.bias", "blocks.%d.mlp.fc1.bias"}},
	{"vit.layer.fc2.w", VL(fc2_w),  ALWAYS,      {DIM, FFN},
		{"encoder.layers.%d.mlp.fc2.weight", "blocks.%d.mlp.fc2.weight"}},
	{"vit.layer.fc2.b", VL(fc2_b),  ALWAYS,      {DIM},
		{"encoder.layers.%d.mlp.fc2.bias", "blocks.%d.mlp.fc2.bias"}},
	{"vit.layer.ls1",   VL(ls1),    LAYER_SCALE, {DIM},            {NULL, "blocks.%d.ls1.gamma"}},
	{"vit.layer.ls2",   VL(ls2),    LAYER_SCALE, {DIM},            {NULL, "blocks.%d.ls2.gamma"}},
	{"vit.layer.qkv.w", V3(q_w, k_w, v_w), PACKED_QKV, {DIM3, DIM}, {NULL, "blocks.%d.attn.qkv.weight"}},
	{"vit.layer.qkv.b", V3(q_b, k_b, v_b), PACKED_QKV, {DIM3},      {NULL, "blocks.%d.attn.qkv.bias"}},
	{"vit.registers",   FR_PART_VISION, 0, {0}, ABSENT, {0},      {NULL, "register_tokens"}},
	{"projector.1.w",   P(l1_w),    ALWAYS,      {FFN, IN},        {"linear_1.weight", NULL, "0.weight"}},
	{"projector.1.b",   P(l1_b),    PROJ_BIAS,   {FFN},            {"linear_1.bias", NULL, "0.bias"}},
	{"projector.2.w",   P(l2_w),    ALWAYS,      {DIM, FFN},       {"linear_2.weight", NULL, "2.weight"}},
	{"projector.2.b",   P(l2_b),    PROJ_BIAS,   {DIM},            {"linear_2.bias", NULL, "2.bias"}},
	{"fusion.bias1.w",  F(bias1_w), ALWAYS,      {MID, MAPS, ONE, ONE}, {NULL, NULL, "attention_mlp.mlp.0.weight"}},
	{"fusion.bias1.b",  F(bias1_b), ALWAYS,      {MID},            {NULL, NULL, "attention_mlp.mlp.0.bias"}},
	{"fusion.bias2.w",  F(bias2_w), ALWAYS,      {MAPS, MID, ONE, ONE}, {NULL, NULL, "attention_mlp.mlp.2.weight"}},
	{"fusion.bias2.b",  F(bias2_b), ALWAYS,      {MAPS},           {NULL, NULL, "attention_mlp.mlp.2.bias"}},
	{"fusion.q.w",      F(q_w),     ALWAYS,      {DIM, DIM},       {NULL, NULL, "mhatt.0.linear_q.weight"}},
	{"fusion.q.b",      F(q_b),     ALWAYS,      {DIM},            {NULL, NULL, "mhatt.0.linear_q.bias"}},
	{"fusion.k.w",      F(k_w),     ALWAYS,      {DIM, DIM},       {NULL, NULL, "mhatt.0.linear_k.weight"}},
	{"fusion.k.b",      F(k_b),     ALWAYS,      {DIM},            {NULL, NULL, "mhatt.0.linear_k.bias"}},
	{"fusion.v.w",      F(v_w),     ALWAYS,      {DIM, DIM},       {NULL, NULL, "mhatt.0.linear_v.weight"}},
	{"fusion.v.b",      F(v_b),     ALWAYS,      {DIM},            {NULL, NULL, "mhatt.0.linear_v.bias"}},
	{"fusion.o.w",      F(o_w),     ALWAYS,      {DIM, DIM},       {NULL, NULL, "mhatt.0.linear_merge.weight"}},
	{"fusion.o.b",      F(o_b),     ALWAYS,      {DIM},            {NULL, NULL, "mhatt.0.linear_merge.bias"}},
	{"fusion.norm1.w",  F(norm1_w), ALWAYS,      {DIM},            {NULL, NULL, "norm.0.a_2"}},
	{"fusion.norm1.b",  F(norm1_b), ALWAYS,      {DIM},            {NULL, NULL, "norm.0.b_2"}},
	{"fusion.fc1.w",    F(fc1_w),   ALWAYS,      {FFN, DIM},       {NULL, NULL, "ffn.0.mlp.fc.linear.weight"}},
	{"fusion.fc1.b",    F(fc1_b),   ALWAYS,      {FFN},            {NULL, NULL, "ffn.0.mlp.fc.linear.bias"}},
	{"fusion.fc2.w",    F(fc2_w),   ALWAYS,      {DIM, FFN},       {NULL, NULL, "ffn.0.mlp.linear.weight"}},
	{"fusion.fc2.b",    F(fc2_b),   ALWAYS,      {DIM},            {NULL, NULL, "ffn.0.mlp.linear.bias"}},
	{"fusion.norm2.w",  F(norm2_w), ALWAYS,      {DIM},            {NULL, NULL, "norm.1.a_2"}},
	{"fusion.norm2.b",  F(norm2_b), ALWAYS,      {DIM},            {NULL, NULL, "norm.1.b_2"}},
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
	LORA("text.layer.q",    FR_LORA_Q,    Q,   DIM, "self_attn.q_proj"),
	LORA("text.layer.k",    FR_LORA_K,    KV,  DIM, "self_attn.k_proj"),
	LORA("text.layer.v",    FR_LORA_V,    KV,  DIM, "self_attn.v_proj"),
	LORA("text.layer.o",    FR_LORA_O,    DIM, Q,   "self_attn.o_proj"),
	LORA("text.layer.gate", FR_LORA_GATE, FFN, DIM, "mlp.gate_proj"),
	LORA("text.layer.up",   FR_LORA_UP,   FFN, DIM, "mlp.up_proj"),
	LORA("text.layer.down", FR_LORA_DOWN, DIM, FFN, "mlp.down_proj"),
};
const size_t fr_name_row_count = sizeof fr_name_rows / sizeof *fr_name_rows;

#define TUNED "base_model.model.model." /* where peft puts the model that it wraps */
const struct fr_name_place fr_name_places[] = {
	{FR_PART_VISION, "vision", FR_SCHEME_HF,    FR_FROM_MODEL,   "vision_tower.vision_model.",       "hf-llava"},
	{FR_PART_VISION, "vision", FR_SCHEME_HF,    FR_FROM_MODEL,   "model.vision_tower.vision_model.", "hf-llava-4.52"},
	{FR_PART_VISION, "vision", FR_SCHEME_HF,    FR_FROM_MODEL,   "vision_tower.",                    "hf-llava"},
	{FR_PART_VISION, "vision", FR_SCHEME_HF,    FR_FROM_MODEL,   "model.vision_tower.",              "hf-llava-4.52"},
	{FR_PART_VISION, "clip",   FR_SCHEME_HF,    FR_FROM_TOWER,   "vision_model.",                    "llava"},
	{FR_PART_VISION, "clip",   FR_SCHEME_HF,    FR_FROM_TOWER,   "",                                 "llava"},
	{FR_PART_VISION, "dino",   FR_SCHEME_DINO,  FR_FROM_DINO,    "",                                 "llava"},
	{FR_PART_PROJ,   "vision", FR_SCHEME_HF,    FR_FROM_MODEL,   "multi_modal_projector.",           "hf-llava"},
	{FR_PART_PROJ,   "vision", FR_SCHEME_HF,    FR_FROM_MODEL,   "model.multi_modal_projector.",     "hf-llava-4.52"},
	{FR_PART_PROJ,   "clip",   FR_SCHEME_LLAVA, FR_FROM_MODEL,   "model.mm_projector.",              "llava"},
	{FR_PART_PROJ,   "clip",   FR_SCHEME_LLAVA, FR_FROM_TRAINED, TUNED "mm_projector.",              "llava"},
	{FR_PART_PROJ,   "dino",   FR_SCHEME_LLAVA, FR_FROM_MODEL,   "model.dino_mm_projector.",         "llava"},
	{FR_PART_PROJ,   "dino",   FR_SCHEME_LLAVA, FR_FROM_TRAINED, TUNED "dino_mm_projector.",         "llava"},
	{FR_PART_FUSION, NULL,     FR_SCHEME_LLAVA, FR_FROM_MODEL,   "model.crossattention.",            "llava"},
	{FR_PART_FUSION, NULL,     FR_SCHEME_LLAVA, FR_FROM_TRAINED, TUNED "crossattention.",            "llava"},
	{FR_PART_TEXT,   NULL,     FR_SCHEME_HF,    FR_FROM_MODEL,   "language_model.model.",            "hf-llava"},
	{FR_PART_TEXT,   NULL,     FR_SCHEME_HF,    FR_FROM_MODEL,   "model.language_model.",            "hf-llava-4.52"},
	{FR_PART_TEXT,   NULL,     FR_SCHEME_HF,    FR_FROM_MODEL,   "model.",                           "llava"},
	{FR_PART_HEAD,   NULL,     FR_SCHEME_HF,    FR_FROM_MODEL,   "language_model.",                  "hf-llava"},
	{FR_PART_HEAD,   NULL,     FR_SCHEME_HF,    FR_FROM_MODEL,   "",                                 "llava"},
	{FR_PART_LORA,   NULL,     FR_SCHEME_HF,    FR_FROM_ADAPTER, TUNED,                              "llava"},
};
const size_t fr_name_place_count = sizeof fr_name_places / sizeof *fr_name_places;
/* clang-format on */

void fr_name_text(const struct fr_name_place *place, const struct fr_name_row *row, int layer, char *buf, size_t size)
{
	size_t n = (size_t)snprintf(buf, size, "%s", place->prefix);

	if (row->name[place->scheme])
		snprintf(buf + n, size - n, row->name[place->scheme], layer);
	else
		buf[0] = 0;
}

int fr_name_is_place(const struct fr_name_place *place, enum fr_part part, const char *branch)
{
	return place->part == part && (!place->branch || (branch && strcmp(place->branch, branch) == 0));
}

static const struct fr_name_row *find_row(const char *role)
{
	for (size_t r = 0; r < fr_name_row_count; r++)
		if (strcmp(fr_name_rows[r].role, role) == 0)
			return &fr_name_rows[r];
	return NULL;
}

const struct fr_tensor *fr_role_find(struct fr_store *const from[FR_FROMS], const char *branch, const char *role,
				     int layer)
{
	const struct fr_name_row *row = find_row(role);
	const struct fr_tensor *t = NULL;
	char name[256];

	if (!row)
		return NULL;
	for (size_t i = 0; i < fr_name_place_count; i++) {
		const struct fr_name_place *place = &fr_name_places[i];

		if (!fr_name_is_place(place, row->part, branch) || !from[place->from] ||
		    (t && place->from == FR_FROM_MODEL))
			continue;
		fr_name_text(place, row, layer, name, sizeof name);
		if (*name && fr_store_find(from[place->from], name))
			t = fr_store_find(from[place->from], name);
	}
	return t;
}

/* Is any tensor of that layer there? */
static int has_layer(struct fr_store *const from[FR_FROMS], enum fr_part part, const char *branch, int layer)
{
	for (size_t r = 0; r < fr_name_row_count; r++) {
		const struct fr_name_row *row = &fr_name_rows[r];

		if (row->part == part && row->per_layer && fr_role_find(from, branch, row->role, layer))
			return 1;
	}
	return 0;
}

int fr_role_layers(struct fr_store *const from[FR_FROMS], const char *branch, const char *role)
{
	const struct fr_name_row *row = find_row(role);
	int n = 0;

	for (int l = 0; row && l < FR_MAX_LAYERS; l++)
		if (has_layer(from, row->part, branch, l))
			n = l + 1;
	return n;
}

const char *fr_name_file(struct fr_store *const from[FR_FROMS], const struct fr_name_place *place)
{
	const struct fr_store *st = from[place->from];

	return place->from != FR_FROM_MODEL && st && fr_store_count(st) ? fr_store_at(st, 0)->file : NULL;
}

char *fr_role_names(struct fr_store *const from[FR_FROMS], const char *branch, const char *role, int layer, char *buf,
		    size_t size)
{
	const struct fr_name_row *row = find_row(role);
	size_t used = 0;
	char name[256];

	buf[0] = 0;
	for (size_t i = 0; row && i < fr_name_place_count && used < size; i++) {
		const struct fr_name_place *place = &fr_name_places[i];
		const char *file = fr_name_file(from, place);

		if (!fr_name_is_place(place, row->part, branch) || !from[place->from])
			continue;
		fr_name_text(place, row, layer, name, sizeof name);
		if (*name)
			used += (size_t)snprintf(buf + used, size - used, "%s%s%s%s", used ? " or " : "", name,
						 file ? " in " : "", file ? file : "");
	}
	return buf;
}
