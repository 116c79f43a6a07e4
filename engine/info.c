/* fr_model_info: what a model is and what a run needs, before anything is loaded; for people or as one JSON object.
 *
 * Tensors are shown in groups: names that differ only in their numbers, with one shape and dtype, are one line. A
 * merged FakeReasoning holds three encoders that are not used; people are told how many tensors that are, programs
 * which. */
#include "info.h"

#include <ctype.h>
#include <stdlib.h>

/* "model.layers.17.mlp.up_proj.weight" -> "model.layers.N.mlp.up_proj.weight" */
static void name_group(const char *name, char *out, size_t size)
{
	size_t n = 0;

	for (const char *p = name; *p && n + 1 < size;) {
		const int starts = p == name || p[-1] == '.';
		size_t digits = 0;
		while (isdigit((unsigned char)p[digits]))
			digits++;
		if (starts && digits && (p[digits] == '.' || p[digits] == 0)) {
			out[n++] = 'N';
			p += digits;
		} else {
			out[n++] = isprint((unsigned char)*p) ? *p : '?';
			p++;
		}
	}
	out[n] = 0;
}

static int same_kind(const struct fr_tensor *a, const struct fr_tensor *b)
{
	return a->dtype == b->dtype && a->ndim == b->ndim &&
	       memcmp(a->shape, b->shape, (size_t)a->ndim * sizeof *a->shape) == 0;
}

static void group_tensor(struct fr_info *f, enum fr_from from, const struct fr_tensor *t, int asked)
{
	char name[sizeof f->group->name];

	name_group(t->name, name, sizeof name);
	for (size_t i = 0; i < f->n_groups; i++)
		if (f->group[i].from == from && f->group[i].asked == asked && same_kind(f->group[i].first, t) &&
		    strcmp(f->group[i].name, name) == 0) {
			f->group[i].count++;
			return;
		}
	if (f->n_groups == FR_INFO_GROUPS) {
		f->beyond++;
		return;
	}
	f->group[f->n_groups] = (struct fr_info_group){.first = t, .count = 1, .from = from, .asked = asked};
	memcpy(f->group[f->n_groups++].name, name, sizeof name);
}

static void gather_store(struct fr_info *f, enum fr_from from)
{
	const struct fr_store *st = f->m->parts.store[from];
	size_t copied;

	for (size_t i = 0; i < fr_store_count(st); i++) {
		const struct fr_tensor *tensor = fr_store_at(st, i);

		group_tensor(f, from, tensor, f->m->weights.asked[from][i]);
		f->bytes += tensor->bytes;
	}
	f->n_copied += fr_store_copies(st, &copied);
	f->copied += copied;
}

static int gather(struct fr_info *f, struct fr_error *err)
{
	const struct fr_text_desc *t = &f->m->desc.text;

	f->group = calloc(FR_INFO_GROUPS, sizeof *f->group);
	if (!f->group)
		return fr_fail(err, FR_E_MEMORY, "no memory for a table of %d kinds of tensors", FR_INFO_GROUPS);
	for (int i = 0; i < FR_FROMS; i++)
		if (f->m->parts.store[i])
			gather_store(f, (enum fr_from)i);
	f->n_copied += f->m->weights.n_copies;
	f->copied += f->m->weights.copied_bytes;
	f->kv_position = 2 * (size_t)t->layers * (size_t)t->kv_heads * (size_t)t->head_dim * (f->o->kv_f32 ? 4 : 2);
	if (fr_machine(f->o->isa, f->machine, sizeof f->machine))
		f->machine[0] = 0;
	return fr_session_preview(&f->session, f->m, f->o, &f->fits, err);
}

static int check(struct fr_info *f, struct fr_error *err)
{
	const struct fr_tensor *bad;
	size_t at;

	bad = fr_parts_nonfinite(&f->m->parts, &at);
	if (bad)
		return fr_fail(err, FR_E_NUMBERS,
			       "%s: tensor %s holds a value that is not finite, the first at item %zu", bad->file,
			       bad->name, at);
	f->checked = 1;
	return 0;
}

const char *const fr_info_lora[FR_LORAS] = {"q", "k", "v", "o", "gate", "up", "down"};

const char *fr_info_act(enum fr_act act)
{
	static const char *const names[FR_ACTS] = {"none", "quick_gelu", "gelu (erf)", "silu", "relu"};

	return names[act];
}

const char *fr_info_resample(enum fr_resample r)
{
	static const char *const names[] = {"bicubic", "bilinear", "lanczos", "nearest", "box", "hamming"};

	return names[r];
}

/* A description breaks off where a part is missing; what it read before that is shown. */
static int report_missing(struct fr_parts *p, FILE *out, int json, struct fr_error *err)
{
	struct fr_model_desc desc = {0};
	struct fr_error why;

	if (fr_parts_open_stores(p, &why) == 0)
		(void)fr_desc_open(p, &desc, &why);
	if (json)
		FR_TRY(fr_info_json_missing(p, &desc, out, err));
	else
		fr_info_text_missing(p, &desc, out);
	return fflush(out) == 0 ? 1 : fr_fail(err, FR_E_IO, "the report cannot be written");
}

int fr_model_info_missing(const struct fr_model_opts *opts, FILE *out, int json, struct fr_error *err)
{
	struct fr_parts parts;
	int rc = fr_parts_find(opts, &parts, err);

	if (rc == 0 && fr_parts_check(&parts, NULL) != 0)
		rc = report_missing(&parts, out, json, err);
	fr_parts_close(&parts);
	return rc;
}

int fr_model_info(const struct fr_model *model, const struct fr_session_opts *opts, FILE *out, int json, int full,
		  struct fr_error *err)
{
	const struct fr_session_opts defaults = {0};
	struct fr_info f = {.m = model, .o = opts ? opts : &defaults};
	int rc = gather(&f, err);

	if (rc == 0 && full)
		rc = check(&f, err);
	if (rc == 0 && json)
		rc = fr_info_json(&f, out, err);
	else if (rc == 0)
		fr_info_text(&f, out);
	fr_session_close(&f.session);
	free(f.group);
	if (rc == 0 && fflush(out) != 0)
		rc = fr_fail(err, FR_E_IO, "the report cannot be written");
	return rc;
}
