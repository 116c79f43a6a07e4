/* Fuzz target: the input is config.json, preprocessor_config.json and generation_config.json, parted by NUL bytes. What
 * is accepted must be a description that the engine can size its buffers from. */
#include "../../engine/desc.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void check(const struct fr_model_desc *d)
{
	const struct fr_vit_desc *v = &d->vit[0];
	const struct fr_text_desc *t = &d->text;

	if (v->run < 1 || v->run > v->layers || v->image % v->patch || v->dim % v->heads || d->image.crop != v->image)
		abort();
	if (t->head_dim < 8 || t->heads % t->kv_heads || d->prompt.image_id >= t->vocab || d->prompt.n_eos > 8)
		abort();
	if (d->image.resize < d->image.crop || !(d->image.std[0] > 0) || !(t->rope_theta >= 1) ||
	    !(t->rope_factor >= 1))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	const uint8_t *part[3] = {bytes, NULL, NULL};
	uint8_t *copy[3] = {NULL, NULL, NULL};
	size_t length[3] = {size, 0, 0};
	struct fr_model_desc desc;
	struct fr_error err;

	for (int i = 0; i < 2 && part[i]; i++) {
		const uint8_t *nul = length[i] ? memchr(part[i], 0, length[i]) : NULL;

		if (nul) {
			part[i + 1] = nul + 1;
			length[i + 1] = length[i] - (size_t)(nul - part[i]) - 1;
			length[i] = (size_t)(nul - part[i]);
		}
	}
	for (int i = 0; i < 3 && part[i]; i++) { /* exact-size buffers, so that reading beyond one is seen */
		copy[i] = malloc(length[i] + !length[i]);
		memcpy(copy[i], part[i], length[i]);
	}
	if (fr_desc_parse(&(struct fr_desc_from){.bytes = {copy[0], copy[1], copy[2]},
						 .size = {length[0], length[1], length[2]}},
			  &desc, &err) == 0)
		check(&desc);
	for (int i = 0; i < 3; i++)
		free(copy[i]);
	return 0;
}
