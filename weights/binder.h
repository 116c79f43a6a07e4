/* What the binder's files share: bind.c looks tensors up, bind_fit.c checks them and reports, bind_copy.c makes those
 * that are not used where they lie. */
#ifndef FR_WEIGHTS_BINDER_H
#define FR_WEIGHTS_BINDER_H

#include "names.h"

struct part { /* one part of the model while it is bound */
	enum fr_part part;
	const char *branch;
	int64_t size[FR_SIZES];
	void *fields, *layers;
	size_t layer_bytes;
	int n_layers;
};
struct binder {
	const struct fr_model_desc *desc;
	struct fr_store *const *from;
	struct fr_weights *out;
	struct fr_error *err;
	int need[FR_NEEDS];
	size_t asked, misfits, misshaped;
	char report[760];
	size_t reported;
	int dtype; /* of the matrices; -1: none yet, FR_DTYPES: mixed */
};

/* ---- bind_fit.c ---- */
/* Is t (NULL: absent) what the row asks for? *as then is t with leading dimensions of 1 taken off where it has more
 * than asked; else the misfit is noted. place: where it was sought, found: how many of its part were found there. */
int fr_bind_fits(struct binder *b, const struct part *p, const struct fr_name_row *row, int layer,
		 const struct fr_name_place *place, size_t found, const struct fr_tensor *t, struct fr_tensor *as);
/* Notes a tensor that must not be there. */
void fr_bind_unwanted(struct binder *b, const struct fr_tensor *t);
/* -1 with all misfits in one sentence, if there are any. */
int fr_bind_report(struct binder *b);
/* -1 with a sentence if a store that must be used up holds tensors that nobody asked for. */
int fr_bind_used_up(struct binder *b);

/* ---- bind_copy.c ---- */
/* Kernels read items where they lie, but want them aligned to their own size: a tensor that is not gets a copy. */
int fr_bind_align(struct binder *b, struct fr_tensor *t);
/* The encoder's position table for the grid that it works on. */
int fr_bind_positions(struct binder *b, const struct fr_vit_desc *v, struct fr_tensor *pos);

#endif
