/* The report of `fr-run info` as one JSON object. */
#include "info.h"

#include <cjson/cJSON.h>

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

/* Where the parts are that lie elsewhere, or were looked for. */
static void add_extras(cJSON *root, const struct fr_parts *p)
{
	cJSON *list = cJSON_AddArrayToObject(root, "parts"), *o, *looked;

	for (int i = 0; i < FR_EXTRAS; i++) {
		const struct fr_extra *x = &p->extra[i];

		if (!x->wanted)
			continue;
		cJSON_AddItemToArray(list, o = cJSON_CreateObject());
		cJSON_AddStringToObject(o, "part", fr_extra_name((enum fr_extra_kind)i));
		if (x->path)
			cJSON_AddStringToObject(o, "path", x->path);
		else
			cJSON_AddNullToObject(o, "path");
		looked = cJSON_AddArrayToObject(o, "looked");
		for (int k = 0; k < x->n_looked; k++)
			cJSON_AddItemToArray(looked, cJSON_CreateString(x->looked[k]));
	}
}

static void add_encoders(cJSON *root, const struct fr_model_desc *d)
{
	cJSON *list = cJSON_AddArrayToObject(root, "vision"), *o;

	for (int i = 0; i < FR_MAX_BRANCHES; i++) {
		const struct fr_vit_desc *v = &d->vit[i];

		if (!v->run)
			continue;
		cJSON_AddItemToArray(list, o = cJSON_CreateObject());
		cJSON_AddStringToObject(o, "role", v->role);
		add_int(o, "layers", v->layers);
		add_int(o, "layers_run", v->run);
		add_int(o, "dim", v->dim);
		add_int(o, "heads", v->heads);
		add_int(o, "ffn", v->ffn);
		cJSON_AddStringToObject(o, "act", fr_info_act(v->act));
		add_float(o, "eps", v->eps);
		add_int(o, "image", v->image);
		add_int(o, "patch", v->patch);
	}
	add_int(root, "image_tokens", d->n_image);
	if (!d->fusion.heads) {
		cJSON_AddNullToObject(root, "fusion");
		return;
	}
	o = cJSON_AddObjectToObject(root, "fusion");
	add_int(o, "heads", d->fusion.heads);
	add_int(o, "mid", d->fusion.mid);
	add_int(o, "ffn", d->fusion.ffn);
}

static void add_lora(cJSON *decoder, const struct fr_text_desc *t)
{
	cJSON *o, *list;

	if (!t->lora_rank) {
		cJSON_AddNullToObject(decoder, "lora");
		return;
	}
	o = cJSON_AddObjectToObject(decoder, "lora");
	add_int(o, "rank", t->lora_rank);
	cJSON_AddNumberToObject(o, "scale", t->lora_scale);
	list = cJSON_AddArrayToObject(o, "matrices");
	for (int i = 0; i < FR_LORAS; i++)
		if (t->lora >> i & 1)
			cJSON_AddItemToArray(list, cJSON_CreateString(fr_info_lora[i]));
}

static void add_decoder(cJSON *root, const struct fr_text_desc *t)
{
	cJSON *o;

	if (!t->dim) {
		cJSON_AddNullToObject(root, "decoder");
		return;
	}
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
	add_lora(o, t);
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
	cJSON_AddStringToObject(o, "resample", fr_info_resample(d->resample));
	add_floats(o, "mean", d->mean, 3);
	add_floats(o, "std", d->std, 3);
}

static void add_room(cJSON *o, const struct fr_info *f)
{
	add_count(o, "free", f->session.needs.free);
	add_count(o, "total", f->session.needs.total);
	cJSON_AddBoolToObject(o, "fits", f->fits.code == FR_OK);
}

static void add_engine(cJSON *root, const struct fr_info *f)
{
	const struct fr_dev *dev = f->session.dev;
	cJSON *o = cJSON_AddObjectToObject(root, "engine");

	cJSON_AddStringToObject(o, "backend", dev->ops->name);
	cJSON_AddStringToObject(o, "isa", dev->isa);
	cJSON_AddStringToObject(o, "kv", f->o->kv_f32 ? "f32" : "f16");
	cJSON_AddStringToObject(o, "activations", dev->activations);
}

static void add_device(cJSON *memory, const struct fr_info *f)
{
	const struct fr_session *s = &f->session;
	cJSON *o = cJSON_AddObjectToObject(memory, "device");

	cJSON_AddStringToObject(o, "name", s->dev->device);
	cJSON_AddStringToObject(o, "isa", s->dev->isa);
	add_count(o, "weights", s->needs.weights.device);
	add_count(o, "weights_on_host", s->needs.weights.host);
	add_int(o, "gpu_layers", s->device_layers);
	add_room(o, f);
}

static void add_host(cJSON *memory, const struct fr_info *f)
{
	const struct fr_session *s = &f->session;
	cJSON *o = cJSON_AddObjectToObject(memory, "host");

	add_int(o, "layers_in_memory", s->stay);
	add_room(o, f);
}

/* Of device and host, the one that a run would compute in; the other is null. */
static void add_memory(cJSON *root, const struct fr_info *f)
{
	const struct fr_session *s = &f->session;
	cJSON *o = cJSON_AddObjectToObject(root, "memory");

	add_count(o, "weights", f->bytes);
	add_count(o, "weights_copied", f->copied);
	add_count(o, "kv_per_position", f->kv_position);
	add_count(o, "session", s->plan.total);
	add_int(o, "batch", s->o.batch);
	if (s->dev->device) {
		add_device(o, f);
		cJSON_AddNullToObject(o, "host");
	} else {
		cJSON_AddNullToObject(o, "device");
		add_host(o, f);
	}
}

static void add_tensors(cJSON *root, const struct fr_info *f)
{
	static const char *const stores[FR_FROMS] = {"model", "vision-tower", "dino", "trained", "adapter"};
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
		cJSON_AddStringToObject(o, "of", stores[f->group[i].from]);
		cJSON_AddBoolToObject(o, "used", f->group[i].asked);
	}
}

/* Frees root. */
static int print(cJSON *root, FILE *out, struct fr_error *err)
{
	char *text = cJSON_PrintUnformatted(root);

	cJSON_Delete(root);
	if (!text)
		return fr_fail(err, FR_E_MEMORY, "no memory for the report");
	fprintf(out, "%s\n", text);
	cJSON_free(text);
	return 0;
}

int fr_info_json(const struct fr_info *f, FILE *out, struct fr_error *err)
{
	const struct fr_model *m = f->m;
	cJSON *root = cJSON_CreateObject(), *o = cJSON_AddObjectToObject(root, "model");

	cJSON_AddStringToObject(o, "name", m->desc.name);
	cJSON_AddStringToObject(o, "family", m->desc.family);
	cJSON_AddStringToObject(o, "hash", m->hash);
	cJSON_AddStringToObject(o, "dtype", m->weights.dtype);
	cJSON_AddBoolToObject(o, "demo", m->desc.demo);
	cJSON_AddStringToObject(o, "names", m->weights.origin);
	add_count(o, "tensors_used", m->weights.used);
	add_count(o, "tensors_unused", m->weights.unused);
	add_extras(root, &m->parts);
	add_encoders(root, &m->desc);
	add_decoder(root, &m->desc.text);
	add_words(root, m);
	add_image(root, &m->desc.image);
	add_memory(root, f);
	add_engine(root, f);
	cJSON_AddStringToObject(root, "machine", f->machine);
	cJSON_AddBoolToObject(root, "checked", f->checked);
	add_tensors(root, f);
	return print(root, out, err);
}

int fr_info_json_missing(const struct fr_parts *p, const struct fr_model_desc *d, FILE *out, struct fr_error *err)
{
	cJSON *root = cJSON_CreateObject();

	cJSON_AddNullToObject(root, "model");
	add_extras(root, p);
	add_encoders(root, d);
	add_decoder(root, &d->text);
	return print(root, out, err);
}
