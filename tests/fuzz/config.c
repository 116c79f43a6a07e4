/* Fuzz target: the input is the JSON files of a description, parted by NUL bytes: config.json,
 * preprocessor_config.json, generation_config.json, and of a model in parts CLIP's config.json, CLIP's
 * preprocessor_config.json and adapter_config.json, beside the tensors of a small FakeReasoning. An empty part is a
 * file that is not there. What is accepted must be a description that the engine can size its buffers from. */
#include "../../engine/desc.h"
#include "../parts_store.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static const enum fr_desc_file order[] = {FR_FILE_CONFIG,      FR_FILE_PREPROCESSOR,	  FR_FILE_GENERATION,
					  FR_FILE_CLIP_CONFIG, FR_FILE_CLIP_PREPROCESSOR, FR_FILE_ADAPTER};
#define FILES (sizeof order / sizeof *order)

static const struct fr_model_desc sizes = {
	.vit = {{.image = 28, .patch = 14, .dim = 8, .heads = 1, .ffn = 8, .layers = 2},
		{.image = 28, .patch = 14, .dim = 8, .heads = 1, .ffn = 16, .layers = 1, .pos_side = 3}},
	.proj_dim = 16,
	.fusion = {.heads = 1, .mid = 2, .ffn = 8},
	.text = {.dim = 16, .layers = 1, .heads = 2, .kv_heads = 1, .head_dim = 8, .ffn = 8, .vocab = 33},
};

static void check_vit(const struct fr_vit_desc *v)
{
	if (v->run < 1 || v->run > v->layers || v->image % v->patch || v->dim % v->heads)
		abort();
}

static void check(const struct fr_model_desc *d)
{
	const struct fr_vit_desc *v = d->vit;
	const struct fr_text_desc *t = &d->text;

	for (int i = 0; i < d->n_branch; i++)
		check_vit(&v[i]);
	if (t->head_dim < 8 || t->heads % t->kv_heads || d->prompt.image_id >= t->vocab || d->prompt.n_eos > 8)
		abort();
	if (d->image.crop != v->image || d->image.resize < d->image.crop || !(d->image.std[0] > 0) ||
	    !(t->rope_theta >= 1) || !(t->rope_factor >= 1))
		abort();
	if (d->fusion.heads &&
	    (t->dim % d->fusion.heads || v[1].dim != v[0].dim || v[1].image / v[1].patch != v[0].image / v[0].patch))
		abort();
	if (t->lora_rank < 0 || !t->lora != !t->lora_rank || t->lora >> FR_LORAS)
		abort();
}

/* The stores are made once. */
static struct fr_store *const *stores(void)
{
	static struct fr_store *store[FR_FROMS];
	static struct parts_list list;

	if (!store[FR_FROM_MODEL]) {
		parts_model(&list, &sizes);
		for (int i = 0; i < FR_FROMS; i++)
			store[i] = parts_store(&list, (enum fr_from)i);
	}
	return store;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	struct fr_desc_from from = {.store = stores()};
	const uint8_t *at = bytes, *const end = bytes + size;
	uint8_t *copy[FILES] = {NULL};
	struct fr_model_desc desc;
	struct fr_error err;

	for (size_t n = 0; at && n < FILES; n++) {
		const uint8_t *nul = n + 1 < FILES && at < end ? memchr(at, 0, (size_t)(end - at)) : NULL;
		const size_t length = (size_t)((nul ? nul : end) - at);

		copy[n] = malloc(length + !length); /* of its exact size, so that reading beyond it is seen */
		memcpy(copy[n], at, length);
		from.bytes[order[n]] = n && !length ? NULL : copy[n];
		from.size[order[n]] = length;
		at = nul ? nul + 1 : NULL;
	}
	if (fr_desc_parse(&from, &desc, &err) == 0)
		check(&desc);
	for (size_t i = 0; i < FILES; i++)
		free(copy[i]);
	return 0;
}
