/* adapter_config.json of PEFT: thin matrices A [rank, in] and B [out, rank] beside the decoder's, W' = W + alpha/rank
 * BA.
 *
 * PEFT can do much besides; what changes the numbers is refused by its field's name. */
#include "models.h"

static const char *const modules[FR_LORAS] = {
	[FR_LORA_Q] = "q_proj",	      [FR_LORA_K] = "k_proj",	[FR_LORA_V] = "v_proj",	      [FR_LORA_O] = "o_proj",
	[FR_LORA_GATE] = "gate_proj", [FR_LORA_UP] = "up_proj", [FR_LORA_DOWN] = "down_proj",
};

/* Fields that must be absent, null, false or empty. */
static const char *const not_computed[] = {
	"use_rslora",	       "use_dora",	    "use_qalora",
	"fan_in_fan_out",      "lora_bias",	    "modules_to_save",
	"rank_pattern",	       "alpha_pattern",	    "exclude_modules",
	"layers_to_transform", "target_parameters", "trainable_token_indices",
	"layer_replication",   "arrow_config",	    "alora_invocation_tokens",
};

static int is_set(const cJSON *v)
{
	return v && !cJSON_IsFalse(v) && !((cJSON_IsArray(v) || cJSON_IsObject(v)) && !v->child);
}

/* "q_proj", or a path that ends in it. */
static int find_module(const char *name)
{
	const char *last = strrchr(name, '.');

	for (int i = 0; i < FR_LORAS; i++)
		if (strcmp(last ? last + 1 : name, modules[i]) == 0)
			return i;
	return -1;
}

static int read_targets(struct fr_json j, struct fr_text_desc *t, struct fr_error *err)
{
	const cJSON *list = fr_json_get(j, "target_modules"), *e;

	if (!cJSON_IsArray(list) || !list->child)
		return fr_fail(err, FR_E_MODEL, "%s: target_modules: expected a list of the decoder's matrices",
			       j.file);
	cJSON_ArrayForEach(e, list)
	{
		int i = cJSON_IsString(e) ? find_module(e->valuestring) : -1;

		if (i < 0)
			return fr_fail(
				err, FR_E_MODEL,
				"%s: target_modules: expected q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj or "
				"down_proj, got %.80s",
				j.file, cJSON_IsString(e) ? e->valuestring : "another value");
		t->lora |= 1u << i;
	}
	return 0;
}

int fr_read_lora(struct fr_json j, struct fr_text_desc *t, struct fr_error *err)
{
	double alpha = 8;

	if (!j.object)
		return 0;
	FR_TRY(fr_want_string(j, "peft_type", "LORA", err));
	FR_TRY(fr_want_string(j, "bias", "none", err));
	for (size_t i = 0; i < sizeof not_computed / sizeof *not_computed; i++)
		if (is_set(fr_json_get(j, not_computed[i])))
			return fr_fail(err, FR_E_MODEL, "%s: %s is set, which is not computed", j.file,
				       not_computed[i]);
	if (cJSON_IsString(fr_json_get(j, "init_lora_weights"))) /* pissa, olora and loftq change the base, too */
		FR_TRY(fr_want_string(j, "init_lora_weights", "gaussian", err));
	t->lora_rank = 8;
	FR_TRY(fr_json_int(j, "r", 1, 1 << 16, &t->lora_rank, err));
	FR_TRY(fr_json_double(j, "lora_alpha", -1e9, 1e9, &alpha, err));
	t->lora_scale = alpha / t->lora_rank;
	return read_targets(j, t, err);
}
