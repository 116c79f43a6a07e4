/* The binder: each row of the names table is looked up in its store, checked against the description, put in its field.
 *
 * Each part of the model is taken from the place where most of its tensors are found, so a checkpoint may mix the
 * generations of names part by part; but what lies in a file of its own is there to be used, so a place in such a file
 * comes before all in the checkpoint as soon as it holds one tensor of the part. What is missing or has another shape
 * is collected and reported at once. An adapter's files must be used up: a tensor in them that no role asks for (a
 * bias, the magnitudes of DoRA, another module's adapter) belongs to a model that would answer otherwise. */
#include "binder.h"

#include <stdlib.h>

static int is_asked(const struct binder *b, const struct part *p, const struct fr_name_row *row)
{
	return row->part == p->part && b->need[row->need] && row->need != FR_NEED_ABSENT;
}

static const struct fr_tensor *find(const struct binder *b, const struct fr_name_place *place, const char *name)
{
	return *name && b->from[place->from] ? fr_store_find(b->from[place->from], name) : NULL;
}

static size_t count_found(const struct binder *b, const struct part *p, const struct fr_name_place *place)
{
	size_t found = 0;
	char name[256];

	for (size_t r = 0; r < fr_name_row_count; r++) {
		const struct fr_name_row *row = &fr_name_rows[r];

		if (!is_asked(b, p, row))
			continue;
		for (int l = 0; l < (row->per_layer ? p->n_layers : 1); l++) {
			fr_name_text(place, row, l, name, sizeof name);
			found += find(b, place, name) != NULL;
		}
	}
	return found;
}

static const struct fr_name_place *pick_place(const struct binder *b, const struct part *p, size_t *found)
{
	const struct fr_name_place *best = NULL;
	int best_own = 0;

	*found = 0;
	for (size_t i = 0; i < fr_name_place_count; i++) {
		const struct fr_name_place *place = &fr_name_places[i];
		size_t n;
		int own;

		if (!fr_name_is_place(place, p->part, p->branch))
			continue;
		n = count_found(b, p, place);
		own = n && place->from != FR_FROM_MODEL;
		if (!best || own > best_own || (own == best_own && n > *found)) {
			best = place;
			best_own = own;
			*found = n;
		}
	}
	return best;
}

/* The tensor, or a third of its rows, into the field; convolutions are matrices over what is below their window. */
static int fill(struct binder *b, const struct fr_tensor *t, int third, int thirds, struct fr_tensor *to)
{
	*to = *t;
	if (to->ndim == 4) {
		to->shape[1] *= to->shape[2] * to->shape[3];
		to->ndim = 2;
	}
	to->shape[0] /= thirds;
	to->bytes /= (size_t)thirds;
	to->data = (const char *)t->data + (size_t)third * to->bytes;
	return fr_bind_align(b, to);
}

static void mark(struct binder *b, enum fr_from from, const struct fr_tensor *t)
{
	if (t)
		b->out->asked[from][t - fr_store_at(b->from[from], 0)] = 1;
}

static int bind_one(struct binder *b, const struct part *p, const struct fr_name_row *row, int layer,
		    const struct fr_name_place *place, size_t found)
{
	char *fields = row->per_layer ? (char *)p->layers + (size_t)layer * p->layer_bytes : p->fields;
	const int thirds = row->offset[1] ? 3 : 1;
	const struct fr_tensor *t;
	struct fr_tensor as;
	char name[256];

	fr_name_text(place, row, layer, name, sizeof name);
	t = find(b, place, name);
	b->asked++;
	mark(b, place->from, t);
	if (!fr_bind_fits(b, p, row, layer, place, found, t, &as))
		return 0;
	b->out->used++;
	if (as.ndim > 1)
		b->dtype = b->dtype == -1 || b->dtype == (int)as.dtype ? (int)as.dtype : FR_DTYPES;
	for (int i = 0; i < thirds; i++)
		FR_TRY(fill(b, &as, i, thirds, (struct fr_tensor *)(void *)(fields + row->offset[i])));
	return 0;
}

static void bind_none(struct binder *b, const struct fr_name_row *row, int layer, const struct fr_name_place *place)
{
	const struct fr_tensor *t;
	char name[256];

	fr_name_text(place, row, layer, name, sizeof name);
	t = find(b, place, name);
	if (t)
		fr_bind_unwanted(b, t);
}

static int bind_part(struct binder *b, const struct part *p)
{
	size_t found;
	const struct fr_name_place *place = pick_place(b, p, &found);

	if (!place)
		return fr_fail(b->err, FR_E_MODEL, "no names are known for the tensors of branch %s", p->branch);
	for (size_t r = 0; r < fr_name_row_count; r++) {
		const struct fr_name_row *row = &fr_name_rows[r];

		for (int l = 0; l < (row->per_layer ? p->n_layers : 1); l++) {
			if (is_asked(b, p, row))
				FR_TRY(bind_one(b, p, row, l, place, found));
			else if (row->part == p->part && row->need == FR_NEED_ABSENT)
				bind_none(b, row, l, place);
		}
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
	const int side = v->pos_side ? v->pos_side : v->image / v->patch;
	struct part vision = {FR_PART_VISION, v->role, {0}, w, NULL, sizeof *w->layer, v->run};
	struct part proj = {FR_PART_PROJ, v->role, {0}, &b->out->proj[i], NULL, 0, 0};

	w->layer = calloc((size_t)v->run, sizeof *w->layer);
	if (!w->layer)
		return fr_fail(b->err, FR_E_MEMORY, "no memory for the table of %d vision layers", v->run);
	vision.layers = w->layer;
	vision.size[FR_SZ_DIM] = v->dim;
	vision.size[FR_SZ_FFN] = v->ffn;
	vision.size[FR_SZ_3DIM] = 3 * (int64_t)v->dim;
	vision.size[FR_SZ_POS] = 1 + (int64_t)side * side;
	vision.size[FR_SZ_RGB] = 3;
	vision.size[FR_SZ_PATCH] = v->patch;
	proj.size[FR_SZ_DIM] = d->text.dim;
	proj.size[FR_SZ_FFN] = d->proj_dim;
	proj.size[FR_SZ_IN] = v->dim;
	b->need[FR_NEED_PRE_LN] = v->pre_ln;
	b->need[FR_NEED_PATCH_BIAS] = v->patch_bias;
	b->need[FR_NEED_LAYER_SCALE] = v->layer_scale;
	b->need[FR_NEED_SPLIT_QKV] = !v->packed_qkv;
	b->need[FR_NEED_PACKED_QKV] = v->packed_qkv;
	FR_TRY(bind_part(b, &vision));
	FR_TRY(fr_bind_positions(b, v, &w->pos));
	return bind_part(b, &proj);
}

static int bind_fusion(struct binder *b)
{
	const struct fr_fusion_desc *f = &b->desc->fusion;
	struct part p = {FR_PART_FUSION, NULL, {0}, &b->out->fusion, NULL, 0, 0};

	if (f->heads == 0)
		return 0;
	p.size[FR_SZ_DIM] = b->desc->text.dim;
	p.size[FR_SZ_FFN] = f->ffn;
	p.size[FR_SZ_MAPS] = f->heads;
	p.size[FR_SZ_MID] = f->mid;
	p.size[FR_SZ_ONE] = 1;
	return bind_part(b, &p);
}

static int bind_text(struct binder *b)
{
	const struct fr_text_desc *t = &b->desc->text;
	struct fr_weights *w = b->out;
	struct part text = {FR_PART_TEXT, NULL, {0}, w, NULL, sizeof *w->layer, t->layers}, head, lora;

	w->layer = calloc((size_t)t->layers, sizeof *w->layer);
	if (!w->layer)
		return fr_fail(b->err, FR_E_MEMORY, "no memory for the table of %d decoder layers", t->layers);
	text.layers = w->layer;
	text.size[FR_SZ_DIM] = t->dim;
	text.size[FR_SZ_FFN] = t->ffn;
	text.size[FR_SZ_Q] = (int64_t)t->heads * t->head_dim;
	text.size[FR_SZ_KV] = (int64_t)t->kv_heads * t->head_dim;
	text.size[FR_SZ_VOCAB] = t->vocab;
	text.size[FR_SZ_RANK] = t->lora_rank;
	head = lora = text;
	head.part = FR_PART_HEAD;
	lora.part = FR_PART_LORA;
	FR_TRY(bind_part(b, &text));
	FR_TRY(bind_part(b, &head));
	FR_TRY(bind_part(b, &lora));
	if (t->tied)
		w->lm_head = w->embed;
	return 0;
}

static int bind_all(struct binder *b)
{
	b->need[FR_NEED_ALWAYS] = 1;
	b->need[FR_NEED_PROJ_BIAS] = b->desc->proj_bias;
	b->need[FR_NEED_UNTIED] = !b->desc->text.tied;
	for (int i = 0; i < FR_LORAS; i++)
		b->need[FR_NEED_LORA + i] = b->desc->text.lora >> i & 1;
	for (int i = 0; i < FR_FROMS; i++)
		if (b->from[i] && !(b->out->asked[i] = calloc(fr_store_count(b->from[i]) + 1, 1)))
			return fr_fail(b->err, FR_E_MEMORY, "no memory to count %zu tensors",
				       fr_store_count(b->from[i]));
	for (int i = 0; i < b->desc->n_branch; i++)
		FR_TRY(bind_branch(b, i));
	FR_TRY(bind_fusion(b));
	FR_TRY(bind_text(b));
	FR_TRY(fr_bind_report(b));
	return fr_bind_used_up(b);
}

int fr_bind(const struct fr_model_desc *desc, struct fr_store *const from[FR_FROMS], struct fr_weights *out,
	    struct fr_error *err)
{
	struct binder b = {.desc = desc, .from = from, .out = out, .err = err, .dtype = -1};
	int rc;

	memset(out, 0, sizeof *out);
	rc = bind_all(&b);
	if (rc != 0) {
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
	for (int i = 0; i < FR_FROMS; i++)
		free(w->asked[i]);
	for (size_t i = 0; i < w->n_copies; i++)
		free(w->copies[i]);
	free(w->copies);
	memset(w, 0, sizeof *w);
}
