/* Tensors that cannot be used where they lie: items on odd addresses, and a position table of another grid. Each is a
 * copy that fr_weights owns and counts. */
#include "binder.h"
#include "../engine/positions.h"

#include <stdlib.h>

/* Memory that the weights own from now on, instead of what t lies in. */
static void *own(struct binder *b, const struct fr_tensor *t, size_t bytes, const char *why)
{
	void *copy = malloc(bytes), **list = NULL;

	if (copy)
		list = realloc(b->out->copies, (b->out->n_copies + 1) * sizeof *list);
	if (!list) {
		free(copy);
		fr_fail(b->err, FR_E_MEMORY, "%s: no memory for a copy of tensor %.200s (%zu bytes), %s", t->file,
			t->name, bytes, why);
		return NULL;
	}
	b->out->copies = list;
	b->out->copies[b->out->n_copies++] = copy;
	b->out->copied_bytes += bytes;
	return copy;
}

int fr_bind_align(struct binder *b, struct fr_tensor *t)
{
	void *copy;

	if (t->bytes == 0 || (uintptr_t)t->data % (uintptr_t)fr_dtypes[t->dtype].align == 0)
		return 0;
	copy = own(b, t, t->bytes, "which is not aligned");
	if (!copy)
		return -1;
	memcpy(copy, t->data, t->bytes);
	t->data = copy;
	return 0;
}

int fr_bind_positions(struct binder *b, const struct fr_vit_desc *v, struct fr_tensor *pos)
{
	const int to = v->image / v->patch;
	const size_t items = (1 + (size_t)to * (size_t)to) * (size_t)v->dim;
	float *table, *out;
	int rc;

	if (!pos->data || v->pos_side == 0 || v->pos_side == to)
		return 0;
	table = malloc(fr_tensor_items(pos) * sizeof *table);
	if (!table)
		return fr_fail(b->err, FR_E_MEMORY, "%s: no memory to resize tensor %.200s", pos->file, pos->name);
	fr_to_f32(pos->dtype, pos->data, table, fr_tensor_items(pos));
	out = own(b, pos, items * sizeof *out, "which is for another grid of patches");
	rc = out ? fr_positions_resize(table, v->pos_side, v->dim, to, v->pos_offset, out) : -1;
	free(table);
	if (!out)
		return -1;
	if (rc != 0)
		return fr_fail(b->err, FR_E_MODEL, "%s: tensor %.200s cannot be resized from a grid of side %d to %d",
			       pos->file, pos->name, v->pos_side, to);
	pos->dtype = FR_F32;
	pos->shape[0] = 1 + (int64_t)to * to;
	pos->data = out;
	pos->bytes = items * sizeof *out;
	return 0;
}
