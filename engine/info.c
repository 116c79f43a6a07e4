/* fr_model_info: what a model is and what a run needs, before anything is loaded; for people or as one JSON object.
 *
 * Tensors are shown in groups: names that differ only in their numbers, with one shape and dtype, are one line. */
#include "session.h"

#include <cjson/cJSON.h>
#include <ctype.h>
#include <stdlib.h>

#define MAX_GROUPS 256 /* a checkpoint has some 40; a made-up one shall not cost more than this */
#define MIB (1024.0 * 1024.0)

struct group {
	char name[160]; /* numbers between dots as N */
	const struct fr_tensor *first;
	size_t count;
};
struct facts {
	const struct fr_model *m;
	const struct fr_session_opts *o;
	struct group *group;
	size_t n_groups, beyond;   /* tensors whose group found no place */
	size_t bytes;		   /* of all tensors */
	size_t copied, n_copied;   /* tensors that are not used in their file but through a copy */
	size_t kv_position;	   /* bytes of KV per position and sequence */
	struct fr_session session; /* with the options, laid out, nothing taken */
	struct fr_error fits;	   /* FR_OK, or why it would not start */
	int checked;
	char machine[256];
};

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

static void group_tensor(struct facts *f, const struct fr_tensor *t)
{
	char name[sizeof f->group->name];

	name_group(t->name, name, sizeof name);
	for (size_t i = 0; i < f->n_groups; i++)
		if (same_kind(f->group[i].first, t) && strcmp(f->group[i].name, name) == 0) {
			f->group[i].count++;
			return;
		}
	if (f->n_groups == MAX_GROUPS) {
		f->beyond++;
		return;
	}
	f->group[f->n_groups] = (struct group){.first = t, .count = 1};
	memcpy(f->group[f->n_groups++].name, name, sizeof name);
}

static void gather_store(struct facts *f, const struct fr_store *st)
{
	size_t copied;

	for (size_t i = 0; i < fr_store_count(st); i++) {
		const struct fr_tensor *tensor = fr_store_at(st, i);

		group_tensor(f, tensor);
		f->bytes += tensor->bytes;
	}
	f->n_copied += fr_store_copies(st, &copied);
	f->copied += copied;
}

static int gather(struct facts *f, struct fr_error *err)
{
	const struct fr_text_desc *t = &f->m->desc.text;

	f->group = calloc(MAX_GROUPS, sizeof *f->group);
	if (!f->group)
		return fr_fail(err, FR_E_MEMORY, "no memory for a table of %d kinds of tensors", MAX_GROUPS);
	for (int i = 0; i < FR_FROMS; i++)
		if (f->m->parts.store[i])
			gather_store(f, f->m->parts.store[i]);
	f->n_copied += f->m->weights.n_copies;
	f->copied += f->m->weights.copied_bytes;
	f->kv_position = 2 * (size_t)t->layers * (size_t)t->kv_heads * (size_t)t->head_dim * (f->o->kv_f32 ? 4 : 2);
	if (fr_machine(f->machine, sizeof f->machine))
		f->machine[0] = 0;
	return fr_session_preview(&f->session, f->m, f->o, &f->fits, err);
}

static int check(struct facts *f, struct fr_error *err)
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

static const char *act_name(enum fr_act act)
{
	static const char *const names[FR_ACTS] = {"none", "quick_gelu", "gelu (erf)", "silu", "relu"};

	return names[act];
}

static const char *resample_name(enum fr_resample r)
{
	static const char *const names[] = {"bicubic", "bilinear", "lanczos", "nearest", "box", "hamming"};

	return names[r];
}

/* ---- for people ---- */

static void print_parts(const struct fr_model_desc *d, FILE *out)
{
	const struct fr_text_desc *t = &d->text;

	for (int i = 0; i < d->n_branch; i++) {
		const struct fr_vit_desc *v = &d->vit[i];
		fprintf(out,
			"%-12s %d of %d layers run, width %d, %d heads of %d, FFN %d %s, eps %g; %d x %d pixels in "
			"patches of %d: %d image tokens\n",
			v->role, v->run, v->layers, v->dim, v->heads, v->dim / v->heads, v->ffn, act_name(v->act),
			(double)v->eps, v->image, v->image, v->patch, d->n_image);
	}
	fprintf(out, "projector    %d -> %d -> %d, %s\n", d->vit[0].dim, d->proj_dim, t->dim, act_name(d->proj_act));
	fprintf(out, "decoder      %d layers, width %d, %d heads of %d (%d for keys and values), FFN %d silu, eps %g\n",
		t->layers, t->dim, t->heads, t->head_dim, t->kv_heads, t->ffn, (double)t->eps);
	fprintf(out, "             vocabulary %d, %d positions, rope theta %g", t->vocab, t->max_pos, t->rope_theta);
	if (t->rope_factor != 1)
		fprintf(out, " scaled by %g", t->rope_factor);
	fprintf(out, "%s\n", t->tied ? ", output tied to the embeddings" : "");
}

/* A question as one line: its newlines as \n. */
static void print_question(const char *s, FILE *out)
{
	fputc('"', out);
	for (; *s; s++) {
		if (*s == '\n')
			fputs("\\n", out);
		else if ((unsigned char)*s < 0x20 || *s == 0x7f)
			fprintf(out, "\\x%02X", (unsigned char)*s);
		else
			fputc(*s, out);
	}
	fputs("\"\n", out);
}

static void print_words(const struct fr_model *m, FILE *out)
{
	const struct fr_prompt_desc *p = &m->desc.prompt;

	fprintf(out, "tokenizer    %s, %d pieces, bos %d, eos", fr_tokenizer_kind(m->tok), fr_tokenizer_count(m->tok),
		p->bos);
	for (int i = 0; i < p->n_eos; i++)
		fprintf(out, " %d", p->eos[i]);
	fprintf(out, ", <image> %d\n", p->image_id);
	fprintf(out, "template     chat %s, question ", p->chat);
	print_question(p->question, out);
	fprintf(out, "verdict      after \"%s\" (", p->opening);
	for (int i = 0; i < m->n_opening; i++)
		fprintf(out, "%s%d", i ? " " : "", m->opening[i]);
	fprintf(out, "): %s %d, %s %d; P(fake) = sigmoid((l_fake - l_real) / %g + %g)\n", p->real, m->real_id, p->fake,
		m->fake_id, m->desc.cal_temperature, m->desc.cal_bias);
}

static void print_image(const struct fr_image_desc *d, FILE *out)
{
	fprintf(out, "preprocess   %s: %s %d %s, %s %d x %d, mean %.9g %.9g %.9g, std %.9g %.9g %.9g\n", d->id,
		d->fit == FR_FIT_PAD ? "pad to a square, edge to" : "shortest edge to", d->resize,
		resample_name(d->resample), d->fit == FR_FIT_PAD ? "as" : "centre crop", d->crop, d->crop,
		(double)d->mean[0], (double)d->mean[1], (double)d->mean[2], (double)d->std[0], (double)d->std[1],
		(double)d->std[2]);
}

static void print_tensors(const struct facts *f, FILE *out)
{
	char shape[128];

	for (size_t i = 0; i < f->n_groups; i++) {
		const struct group *g = &f->group[i];
		char times[32] = "";
		if (g->count > 1)
			snprintf(times, sizeof times, "%zu x", g->count);
		fprintf(out, "  %5s %-5s %-18s %s\n", times, fr_dtypes[g->first->dtype].name,
			fr_shape_text(g->first->shape, g->first->ndim, shape, sizeof shape), g->name);
	}
	if (f->beyond)
		fprintf(out, "  and %zu more tensors of other shapes or names\n", f->beyond);
}

/* The memory of a device that has its own. */
static void print_device(const struct facts *f, FILE *out)
{
	const struct fr_session *s = &f->session;
	const int layers = s->model->desc.text.layers;
	char text[32];

	fprintf(out, "memory       %s, %s: %s in all", s->dev->device, s->dev->isa,
		fr_size_text(s->needs.total, text, sizeof text));
	fprintf(out, ", %s free\n", fr_size_text(s->needs.free, text, sizeof text));
	fprintf(out, "             weights %s", fr_size_text(s->needs.weights.device, text, sizeof text));
	if (s->device_layers < layers)
		fprintf(out, ", and on the host the last %d of %d decoder layers, %s", layers - s->device_layers,
			layers, fr_size_text(s->needs.weights.host, text, sizeof text));
	fprintf(out, "\n             KV cache %s, %.2f KiB a position and sequence\n", f->o->kv_f32 ? "f32" : "f16",
		(double)f->kv_position / 1024);
	fprintf(out, "             KV cache, activations and work memory %s, for a batch of %d%s\n",
		fr_size_text(s->plan.total, text, sizeof text), s->o.batch,
		f->o->verdict_only ? ", the verdict only" : "");
	fprintf(out,
		"             %s together: ", fr_size_text(s->needs.weights.device + s->plan.total, text, sizeof text));
	fprintf(out, "%s\n", f->fits.code == FR_OK ? "fits" : f->fits.text);
	fr_plan_print(&s->plan, out);
}

static void print_memory(const struct facts *f, FILE *out)
{
	if (f->session.dev->device) {
		print_device(f, out);
		return;
	}
	fprintf(out, "memory       weights %.1f MiB, used where they are mapped", (double)f->bytes / MIB);
	if (f->n_copied)
		fprintf(out,
			"; copies of tensors that lie unaligned, in another order or are for another grid: %zu, %.1f MiB",
			f->n_copied, (double)f->copied / MIB);
	fprintf(out, "\n             KV cache %s, %.2f KiB a position and sequence\n", f->o->kv_f32 ? "f32" : "f16",
		(double)f->kv_position / 1024);
	fprintf(out, "             KV cache and activations %.1f MiB in all, for a batch of %d%s\n",
		(double)f->session.plan.total / MIB, f->session.o.batch,
		f->o->verdict_only ? ", the verdict only" : "");
}

static void print_all(const struct facts *f, FILE *out)
{
	const struct fr_model *m = f->m;
	const struct fr_weights *w = &m->weights;

	fprintf(out, "model        %s, %s, from %s\n", m->desc.name, m->desc.family, fr_source_path(m->parts.src));
	if (m->desc.demo)
		fputs("             DEMO: this model shows the machinery and is no detector for pictures from the "
		      "world\n",
		      out);
	fprintf(out, "hash         %s\n", m->hash);
	fprintf(out, "weights      %s, %zu tensors used, %zu not needed, %.1f MiB, names of %s\n", w->dtype, w->used,
		w->unused, (double)f->bytes / MIB, w->origin);
	print_parts(&m->desc, out);
	print_words(m, out);
	print_image(&m->desc.image, out);
	print_memory(f, out);
	fprintf(out, "machine      %s\n", f->machine);
	if (f->checked)
		fputs("check        every weight is finite\n", out);
	fputs("tensors\n", out);
	print_tensors(f, out);
}

/* ---- JSON ---- */

static void add_float(cJSON *to, const char *key, float value)
{
	char text[32];

	snprintf(text, sizeof text, "%.9g", (double)value);
	cJSON_AddRawToObject(to, key, text);
}

static void add_count(cJSON *to, const char *key, size_t value)
{
	char text[32];

	snprintf(text, sizeof text, "%zu", value);
	cJSON_AddRawToObject(to, key, text);
}

static void add_int(cJSON *to, const char *key, int value)
{
	cJSON_AddNumberToObject(to, key, value);
}

static void add_floats(cJSON *to, const char *key, const float *values, int n)
{
	cJSON *list = cJSON_AddArrayToObject(to, key);
	char text[32];

	for (int i = 0; i < n; i++) {
		snprintf(text, sizeof text, "%.9g", (double)values[i]);
		cJSON_AddItemToArray(list, cJSON_CreateRaw(text));
	}
}

static void add_ids(cJSON *to, const char *key, const int32_t *ids, int n)
{
	cJSON *list = cJSON_AddArrayToObject(to, key);

	for (int i = 0; i < n; i++)
		cJSON_AddItemToArray(list, cJSON_CreateNumber(ids[i]));
}

static void add_parts(cJSON *root, const struct fr_model_desc *d)
{
	const struct fr_text_desc *t = &d->text;
	cJSON *list = cJSON_AddArrayToObject(root, "vision"), *o;

	for (int i = 0; i < d->n_branch; i++) {
		const struct fr_vit_desc *v = &d->vit[i];
		cJSON_AddItemToArray(list, o = cJSON_CreateObject());
		cJSON_AddStringToObject(o, "role", v->role);
		add_int(o, "layers", v->layers);
		add_int(o, "layers_run", v->run);
		add_int(o, "dim", v->dim);
		add_int(o, "heads", v->heads);
		add_int(o, "ffn", v->ffn);
		cJSON_AddStringToObject(o, "act", act_name(v->act));
		add_float(o, "eps", v->eps);
		add_int(o, "image", v->image);
		add_int(o, "patch", v->patch);
	}
	add_int(root, "image_tokens", d->n_image);
	o = cJSON_AddObjectToObject(root, "decoder");
	add_int(o, "layers", t->layers);
	add_int(o, "dim", t->dim);
	add_int(o, "heads", t->heads);
	add_int(o, "kv_heads", t->kv_heads);
	add_int(o, "head_dim", t->head_dim);
	add_int(o, "ffn", t->ffn);
	add_int(o, "vocab", t->vocab);
	add_int(o, "positions", t->max_pos);
	add_float(o, "eps", t->eps);
	cJSON_AddNumberToObject(o, "rope_theta", t->rope_theta);
	cJSON_AddNumberToObject(o, "rope_factor", t->rope_factor);
	cJSON_AddBoolToObject(o, "tied", t->tied);
}

static void add_words(cJSON *root, const struct fr_model *m)
{
	const struct fr_prompt_desc *p = &m->desc.prompt;
	cJSON *o = cJSON_AddObjectToObject(root, "tokenizer");

	cJSON_AddStringToObject(o, "kind", fr_tokenizer_kind(m->tok));
	add_int(o, "pieces", fr_tokenizer_count(m->tok));
	add_int(o, "bos", p->bos);
	add_ids(o, "eos", (const int32_t *)p->eos, p->n_eos);
	add_int(o, "image", p->image_id);
	o = cJSON_AddObjectToObject(root, "prompt");
	cJSON_AddStringToObject(o, "chat", p->chat);
	cJSON_AddStringToObject(o, "question", p->question);
	cJSON_AddStringToObject(o, "opening", p->opening);
	add_ids(o, "opening_ids", m->opening, m->n_opening);
	add_int(o, "real", m->real_id);
	add_int(o, "fake", m->fake_id);
}

static void add_image(cJSON *root, const struct fr_image_desc *d)
{
	cJSON *o = cJSON_AddObjectToObject(root, "preprocess");

	cJSON_AddStringToObject(o, "id", d->id);
	cJSON_AddStringToObject(o, "fit", d->fit == FR_FIT_PAD ? "pad" : "crop");
	add_int(o, "resize", d->resize);
	add_int(o, "crop", d->crop);
	cJSON_AddStringToObject(o, "resample", resample_name(d->resample));
	add_floats(o, "mean", d->mean, 3);
	add_floats(o, "std", d->std, 3);
}

static void add_memory(cJSON *root, const struct facts *f)
{
	const struct fr_session *s = &f->session;
	cJSON *o = cJSON_AddObjectToObject(root, "memory");

	add_count(o, "weights", f->bytes);
	add_count(o, "weights_copied", f->copied);
	add_count(o, "kv_per_position", f->kv_position);
	add_count(o, "session", s->plan.total);
	add_int(o, "batch", s->o.batch);
	if (!s->dev->device) {
		cJSON_AddNullToObject(o, "device");
		return;
	}
	o = cJSON_AddObjectToObject(o, "device");
	cJSON_AddStringToObject(o, "name", s->dev->device);
	cJSON_AddStringToObject(o, "isa", s->dev->isa);
	add_count(o, "weights", s->needs.weights.device);
	add_count(o, "weights_on_host", s->needs.weights.host);
	add_int(o, "gpu_layers", s->device_layers);
	add_count(o, "free", s->needs.free);
	add_count(o, "total", s->needs.total);
	cJSON_AddBoolToObject(o, "fits", f->fits.code == FR_OK);
}

static void add_tensors(cJSON *root, const struct facts *f)
{
	cJSON *list = cJSON_AddArrayToObject(root, "tensors"), *o, *shape;

	for (size_t i = 0; i < f->n_groups; i++) {
		const struct fr_tensor *t = f->group[i].first;
		cJSON_AddItemToArray(list, o = cJSON_CreateObject());
		cJSON_AddStringToObject(o, "name", f->group[i].name);
		cJSON_AddStringToObject(o, "dtype", fr_dtypes[t->dtype].name);
		shape = cJSON_AddArrayToObject(o, "shape");
		for (int d = 0; d < t->ndim; d++)
			cJSON_AddItemToArray(shape, cJSON_CreateNumber((double)t->shape[d]));
		add_count(o, "count", f->group[i].count);
	}
}

static int print_json(const struct facts *f, FILE *out, struct fr_error *err)
{
	const struct fr_model *m = f->m;
	cJSON *root = cJSON_CreateObject(), *o = cJSON_AddObjectToObject(root, "model");
	char *text;

	cJSON_AddStringToObject(o, "name", m->desc.name);
	cJSON_AddStringToObject(o, "family", m->desc.family);
	cJSON_AddStringToObject(o, "hash", m->hash);
	cJSON_AddStringToObject(o, "dtype", m->weights.dtype);
	cJSON_AddBoolToObject(o, "demo", m->desc.demo);
	cJSON_AddStringToObject(o, "names", m->weights.origin);
	add_count(o, "tensors_used", m->weights.used);
	add_count(o, "tensors_unused", m->weights.unused);
	add_parts(root, &m->desc);
	add_words(root, m);
	add_image(root, &m->desc.image);
	add_memory(root, f);
	cJSON_AddStringToObject(root, "machine", f->machine);
	cJSON_AddBoolToObject(root, "checked", f->checked);
	add_tensors(root, f);
	text = cJSON_PrintUnformatted(root);
	cJSON_Delete(root);
	if (!text)
		return fr_fail(err, FR_E_MEMORY, "no memory for the report");
	fprintf(out, "%s\n", text);
	cJSON_free(text);
	return 0;
}

int fr_model_info(const struct fr_model *model, const struct fr_session_opts *opts, FILE *out, int json, int full,
		  struct fr_error *err)
{
	const struct fr_session_opts defaults = {0};
	struct facts f = {.m = model, .o = opts ? opts : &defaults};
	int rc = gather(&f, err);

	if (rc == 0 && full)
		rc = check(&f, err);
	if (rc == 0 && json)
		rc = print_json(&f, out, err);
	else if (rc == 0)
		print_all(&f, out);
	fr_session_close(&f.session);
	free(f.group);
	if (rc == 0 && fflush(out) != 0)
		rc = fr_fail(err, FR_E_IO, "the report cannot be written");
	return rc;
}
