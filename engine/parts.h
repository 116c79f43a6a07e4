/* What a model is put together from: its own directory, and what that may leave to others: a CLIP, a DINOv2, the base of
 * a LoRA checkpoint. Each is looked for where the caller says, else where config.json says, else beside the model; what is
 * missing is one sentence with the places that were looked in. */
#ifndef FR_ENGINE_PARTS_H
#define FR_ENGINE_PARTS_H

#include "fr.h"
#include "../weights/bind.h"

struct fr_parts {
	struct fr_source *src;   /* the model's directory: config.json rules */
	struct fr_source *base;  /* of a LoRA checkpoint: decoder and tokenizer; else NULL */
	struct fr_source *tower; /* of a CLIP of its own; else NULL */
	struct fr_store *store[FR_FROMS]; /* NULL: the model has no such part */
};
/* Opens what opts and the files of opts->path ask for. */
int fr_parts_open(const struct fr_model_opts *opts, struct fr_parts *out, struct fr_error *err);
void fr_parts_close(struct fr_parts *p);
/* Where the tokenizer's files are. */
struct fr_source *fr_parts_text(const struct fr_parts *p);

#endif
