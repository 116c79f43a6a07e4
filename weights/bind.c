/* The binder: each row of the names table is looked up in the store, checked against the description, put in its field.
 *
 * Each part of the model is taken from the place where most of its tensors are found, so a checkpoint may mix the
 * generations of names part by part. What is missing or has another shape is collected and reported at once. */
#include "names.h"

#include <stdarg.h>
#include <stdlib.h>

#define SHOWN 8 /* misfits named in the sentence; it has room for about as many */

struct part { /* one part while it is bound */
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
	size_t asked, misfits;
	char report[760];
	size_t reported;
	int dtype; /* of the matrices; -1: none yet, FR_DTYPES: mixed */
};

static void tensor_name(const struct fr_name_place *place, const struct fr_name_row *row, int layer, char *buf,
			size_t size)
{
	size_t n = (size_t)snprintf(buf, size, "%s", place->prefix);

	snprintf(buf + n, size - n, row->name[place->scheme], layer);
}

static int is_asked(const struct binder *b, const struct part *p, const struct fr_name_row *row)
{
	return row->part == p->part && b->need[row->need];
}

static int is_place(const struct part *p, const struct fr_name_place *place)
{
	return place->part == p->part && (!place->branch || strcmp(place->branch, p->branch) == 0);
}

static const struct fr_tensor *find(const struct binder *b, const struct fr_name_place *place, const char *name)
{
	return b->from[place->from] ? fr_store_find(b->from[place->from], name) : NULL;
}

static size_t count_found(const struct binder *b, const struct part *p, const struct fr_name_place *place)
{
	size_t found = 0;
	char name[256];

	for (size_t r = 0; r < fr_name_row_count; r++) {
		const struct fr_name_row *row = &fr_name_rows[r];

		if (!is_asked(b, p, row) || !row->name[place->scheme])
			continue;
		for (int l = 0; l < (row->per_layer ? p->n_layers : 1); l++) {
			tensor_name(place, row, l, name, sizeof name);
			found += find(b, place, name) != NULL;
		}
	}
	return found;
}

static const struct fr_name_place *pick_place(const struct binder *b, const struct part *p, size_t *found)
{
	const struct fr_name_place *best = NULL;

	*found = 0;
	for (size_t i = 0; i < fr_name_place_count; i++) {
		const struct fr_name_place *place = &fr_name_places[i];
		size_t n = is_place(p, place) ? count_found(b, p, place) : 0;

		if (is_place(p, place) && (!best || n > *found)) {
			best = place;
			*found = n;
		}
	}
	return best;
}

/* Adds one misfit to the report while there is room; the count goes on. */
__attribute__((format(printf, 2, 3))) static void note(struct binder *b, const char *format, ...)
{
	size_t room = sizeof b->report - b->reported;
	va_list ap;
	int n;

	if (b->misfits++ >= SHOWN || b->reported == sizeof b->report)
		return;
	va_start(ap, format);
	n = vsnprintf(b->report + b->reported, room, format, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= room) { /* no half sentence; nothing more after this */
		b->report[b->reported] = 0;
		b->reported = sizeof b->report;
	} else {
		b->reported += (size_t)n;
	}
}

/* The names under which a tensor was sought: all places when its part was found in none of them. */
static void names_tried(const struct part *p, const struct fr_name_row *row, int layer,
			const struct fr_name_place *place, size_t found, char *buf, size_t size)
{
	size_t n = 0;

	if (found) {
		tensor_name(place, row, layer, buf, size);
		return;
	}
	buf[0] = 0;
	for (size_t i = 0; i < fr_name_place_count && n + 1 < size; i++) {
		char name[256];

		if (!is_place(p, &fr_name_places[i]) || !row->name[fr_name_places[i].scheme])
			continue;
		tensor_name(&fr_name_places[i], row, layer, name, sizeof name);
		n += (size_t)snprintf(buf + n, size - n, "%s%s", n ? " or " : "", name);
	}
}

/* Kernels read items where they lie, but want them aligned to their own size: the few tensors that are not get a copy.
 */
static int align(struct binder *b, struct fr_tensor *t)
{
	void *copy, **list;

	if (t->bytes == 0 || (uintptr_t)t->data % (uintptr_t)fr_dtypes[t->dtype].bytes == 0)
		return 0;
	copy = malloc(t->bytes);
	list = copy ? realloc(b->out->copies, (b->out->n_copies + 1) * sizeof *list) : NULL;
	if (!list) {
		free(copy);
		return fr_fail(b->err, FR_E_MEMORY,
			       "%s: no memory for a copy of tensor %.200s (%zu bytes), which is not aligned", t->file,
			       t->name, t->bytes);
	}
	memcpy(copy, t->data, t->bytes);
	b->out->copies = list;
	b->out->copies[b->out->n_copies++] = copy;
	b->out->copied_bytes += t->bytes;
	t->data = copy;
	return 0;
}

static int fits(struct binder *b, const struct part *p, const struct fr_name_row *row, const struct fr_tensor *t,
		const char *tried)
{
	int64_t want[4];
	char want_text[96], got_text[160];
	int ndim = 0;

	while (ndim < 4 && row->shape[ndim] != FR_SZ_NONE) {
		want[ndim] = p->size[row->shape[ndim]];
		ndim++;
	}
	fr_shape_text(want, ndim, want_text, sizeof want_text);
	if (!t) {
		note(b, "; %s is missing, expected %s", *tried ? tried : row->role, want_text);
		return 0;
	}
	if (t->ndim != ndim || memcmp(t->shape, want, (size_t)ndim * sizeof *want) != 0) {
		fr_shape_text(t->shape, t->ndim, got_text, sizeof got_text);
		note(b, "; %s in %s: expected %s, got %s", tried, t->file, want_text, got_text);
		return 0;
	}
	if (!fr_dtypes[t->dtype].real) {
		note(b, "; %s in %s: expected f32, f16 or bf16, got %s", tried, t->file, fr_dtypes[t->dtype].name);
		return 0;
	}
	return 1;
}

static int bind_one(struct binder *b, const struct part *p, const struct fr_name_row *row, int layer,
		    const struct fr_name_place *place, size_t found)
{
	char *fields = row->per_layer ? (char *)p->layers + (size_t)layer * p->layer_bytes : p->fields;
	struct fr_tensor *to = (struct fr_tensor *)(void *)(fields + row->offset);
	const struct fr_tensor *t;
	char tried[600], name[256];

	tensor_name(place, row, layer, name, sizeof name);
	t = find(b, place, name);
	names_tried(p, row, layer, place, found, tried, sizeof tried);
	b->asked++;
	if (!fits(b, p, row, t, tried))
		return 0;
	b->out->used++;
	*to = *t;
	FR_TRY(align(b, to));
	if (to->ndim > 1)
		b->dtype = b->dtype == -1 || b->dtype == (int)to->dtype ? (int)to->dtype : FR_DTYPES;
	if (to->ndim == 4) { /* the patch convolution is a matrix over flattened patches */
		to->shape[1] *= to->shape[2] * to->shape[3];
		to->ndim = 2;
	}
	return 0;
}

static int bind_part(struct binder *b, const struct part *p)
{
	size_t found;
	const struct fr_name_place *place = pick_place(b, p, &found);

	if (!place)
		return fr_fail(b->err, FR_E_MODEL, "no names are known for the tensors of branch %s", p->branch);
	for (size_t r = 0; r < fr_name_row_count; r++) {
		const struct fr_name_row *row = &fr_name_rows[r];

		if (!is_asked(b, p, row))
			continue;
		for (int l = 0; l < (row->per_layer ? p->n_layers : 1); l++)
			FR_TRY(bind_one(b, p, row, l, place, found));
	}
	if (p->part == FR_PART_TEXT)
		b->out->origin = place->origin;
	return 0;
}

static int bind_branch(struct binder *b, int i)
{
	const struct fr_model_desc *d = b->desc;
	const struct fr_vit_desc *v = &d->vit[i];
	struct fr_vit_weights *w = &b->out->vit[i];
	struct part vision = {FR_PART_VISION, v->role, {0}, w, NULL, sizeof *w->layer, v->run};
	struct part proj = {FR_PART_PROJ, v->role, {0}, &b->out->proj[i], NULL, 0, 0};

	w->layer = calloc((size_t)v->run, sizeof *w->layer);
	if (!w->layer)
		return fr_fail(b->err, FR_E_MEMORY, "no memory for the table of %d vision layers", v->run);
	vision.layers = w->layer;
	vision.size[FR_SZ_DIM] = v->dim;
	vision.size[FR_SZ_FFN] = v->ffn;
	vision.size[FR_SZ_POS] = 1 + (int64_t)(v->image / v->patch) * (v->image / v->patch);
	vision.size[FR_SZ_RGB] = 3;
	vision.size[FR_SZ_PATCH] = v->patch;
	proj.size[FR_SZ_DIM] = d->text.dim;
	proj.size[FR_SZ_FFN] = d->proj_dim;
	proj.size[FR_SZ_IN] = v->dim;
	b->need[FR_NEED_PRE_LN] = v->pre_ln;
	b->need[FR_NEED_PATCH_BIAS] = v->patch_bias;
	b->need[FR_NEED_LAYER_SCALE] = v->layer_scale;
	FR_TRY(bind_part(b, &vision));
	return bind_part(b, &proj);
}

static int bind_text(struct binder *b)
{
	const struct fr_text_desc *t = &b->desc->text;
	struct fr_weights *w = b->out;
	struct part text = {FR_PART_TEXT, NULL, {0}, w, NULL, sizeof *w->layer, t->layers}, head;

	w->layer = calloc((size_t)t->layers, sizeof *w->layer);
	if (!w->layer)
		return fr_fail(b->err, FR_E_MEMORY, "no memory for the table of %d decoder layers", t->layers);
	text.layers = w->layer;
	text.size[FR_SZ_DIM] = t->dim;
	text.size[FR_SZ_FFN] = t->ffn;
	text.size[FR_SZ_Q] = (int64_t)t->heads * t->head_dim;
	text.size[FR_SZ_KV] = (int64_t)t->kv_heads * t->head_dim;
	text.size[FR_SZ_VOCAB] = t->vocab;
	head = text;
	head.part = FR_PART_HEAD;
	FR_TRY(bind_part(b, &text));
	FR_TRY(bind_part(b, &head));
	if (t->tied)
		w->lm_head = w->embed;
	return 0;
}

static int bind_all(struct binder *b)
{
	b->need[FR_NEED_ALWAYS] = 1;
	b->need[FR_NEED_PROJ_BIAS] = b->desc->proj_bias;
	b->need[FR_NEED_UNTIED] = !b->desc->text.tied;
	for (int i = 0; i < b->desc->n_branch; i++)
		FR_TRY(bind_branch(b, i));
	FR_TRY(bind_text(b));
	if (b->misfits)
		return fr_fail(b->err, FR_E_MODEL,
			       "%zu of the %zu tensors that config.json asks for are missing or do not fit: %s%s",
			       b->misfits, b->asked, b->report + 2,
			       b->reported == sizeof b->report || b->misfits > SHOWN ? "; ..." : "");
	return 0;
}

int fr_bind(const struct fr_model_desc *desc, struct fr_store *const from[FR_FROMS], struct fr_weights *out,
	    struct fr_error *err)
{
	struct binder b = {.desc = desc, .from = from, .out = out, .err = err, .dtype = -1};

	memset(out, 0, sizeof *out);
	if (bind_all(&b) != 0) {
		fr_weights_free(out);
		return -1;
	}
	for (int i = 0; i < FR_FROMS; i++)
		out->unused += from[i] ? fr_store_count(from[i]) : 0;
	out->unused -= out->used;
	snprintf(out->dtype, sizeof out->dtype, "%s", b.dtype == FR_DTYPES ? "mixed" : fr_dtypes[b.dtype].name);
	return 0;
}

void fr_weights_free(struct fr_weights *w)
{
	for (int i = 0; i < FR_MAX_BRANCHES; i++)
		free(w->vit[i].layer);
	free(w->layer);
	for (size_t i = 0; i < w->n_copies; i++)
		free(w->copies[i]);
	free(w->copies);
	memset(w, 0, sizeof *w);
}
