/* A loaded model: description, mapped tensors bound by role, tokenizer. Immutable, shared by sessions. */
#ifndef FR_ENGINE_MODEL_H
#define FR_ENGINE_MODEL_H

#include "parts.h"
#include "../tokenizer/tokenizer.h"

#define FR_MAX_OPENING 16

struct fr_model {
	struct fr_parts parts;
	struct fr_model_desc desc;
	struct fr_weights weights;
	struct fr_tokenizer *tok;
	int32_t opening[FR_MAX_OPENING]; /* the pieces of desc.prompt.opening, as they stand after a blank */
	int n_opening;
	int32_t real_id, fake_id; /* the pieces of the two labels */
	char hash[65];
};

/* engine/pieces.c: opening and labels, from m->tok and m->desc. */
int fr_model_find_pieces(struct fr_model *m, struct fr_error *err);
/* sha256 of bytes as 64 hex digits + NUL. */
void fr_sha256_hex(const void *bytes, size_t size, char hex[65]);

#endif
