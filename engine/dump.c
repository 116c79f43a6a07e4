/* fr_dump: the intermediates of one image and K greedy steps, written as safetensors in the order in which the forward
 * pass makes them, so that nothing has to be kept.
 *
 * The table of all names with their shapes is made first (a safetensors header comes before its data); the taps then
 * must pass by in just that order. Only the stages that the chosen names need are run. The opening is prefilled last,
 * over the steps' keys and values, which nothing reads any more. */
#include "image.h"
#include "numbers.h"

#include <cjson/cJSON.h>
#include <fnmatch.h>
#include <stdarg.h>
#include <stdlib.h>

enum stage { STAGE_IMAGE, STAGE_VISION, STAGE_DECODER, STAGE_STEPS, STAGE_VERDICT };

struct dump {
	struct fr_session *s;
	const struct fr_dump_opts *o;
	struct fr_tensor *table;
	size_t n, cap, at; /* at: the next tensor to be written */
	unsigned stages;   /* bit set of the stages that write something */
	struct fr_st_writer *out;
	struct fr_error *err;
	float *logits; /* [vocab] */
	int failed;
};

/* ---- the table ---- */

static int add(struct dump *d, enum stage stage, enum fr_dtype dtype, int only_on_request, const char *name, int ndim,
	       const int64_t *shape)
{
	struct fr_tensor *t;

	if (d->failed || (d->o->tap ? fnmatch(d->o->tap, name, 0) != 0 : only_on_request))
		return 0;
	if (d->n == d->cap) {
		size_t cap = d->cap ? 2 * d->cap : 64;
		struct fr_tensor *grown = realloc(d->table, cap * sizeof *grown);
		if (!grown)
			return d->failed = 1;
		d->table = grown;
		d->cap = cap;
	}
	t = &d->table[d->n];
	*t = (struct fr_tensor){.name = strdup(name), .dtype = dtype, .ndim = ndim};
	if (!t->name)
		return d->failed = 1;
	memcpy(t->shape, shape, (size_t)ndim * sizeof *shape);
	t->bytes = fr_tensor_items(t) * (size_t)fr_dtypes[dtype].bytes;
	d->n++;
	d->stages |= 1u << stage;
	return 0;
}

static void add1(struct dump *d, enum stage stage, enum fr_dtype dtype, const char *name, int64_t n)
{
	add(d, stage, dtype, 0, name, 1, (int64_t[]){n});
}

__attribute__((format(printf, 6, 7))) static void add2(struct dump *d, enum stage stage, int only_on_request,
						       int64_t rows, int64_t cols, const char *format, ...)
{
	char name[96];
	va_list ap;

	va_start(ap, format);
	vsnprintf(name, sizeof name, format, ap);
	va_end(ap);
	add(d, stage, FR_F32, only_on_request, name, 2, (int64_t[]){rows, cols});
}

/* heads maps, each [rows, rows] */
static void add_maps(struct dump *d, const char *role, const char *what, int64_t heads, int64_t rows)
{
	char name[96];

	snprintf(name, sizeof name, "%s.%s", role, what);
	add(d, STAGE_VISION, FR_F32, 0, name, 3, (int64_t[]){heads, rows, rows});
}

/* maps: the attention of so many heads goes by as well. */
static void add_layer(struct dump *d, enum stage stage, const char *role, int i, int64_t rows, int64_t dim, int64_t q,
		      int64_t kv, int64_t maps)
{
	add2(d, stage, 1, rows, dim, "%s.layer.%d.attn_in", role, i);
	add2(d, stage, 1, rows, q, "%s.layer.%d.q", role, i);
	add2(d, stage, 1, rows, kv, "%s.layer.%d.k", role, i);
	add2(d, stage, 1, rows, kv, "%s.layer.%d.v", role, i);
	if (maps)
		add_maps(d, role, "attention", maps, rows);
	add2(d, stage, 1, rows, dim, "%s.layer.%d.attn_out", role, i);
	add2(d, stage, 1, rows, dim, "%s.layer.%d.mlp_in", role, i);
	add2(d, stage, 1, rows, dim, "%s.layer.%d.mlp_out", role, i);
	add2(d, stage, 0, rows, dim, "%s.layer.%d", role, i);
}

static void add_branch(struct dump *d, const struct fr_vit_desc *v)
{
	const struct fr_model_desc *m = &d->s->model->desc;
	const int64_t n = m->n_image;
	const int two = m->n_branch > 1;

	add2(d, STAGE_VISION, 0, 1 + n, v->dim, "%s.embed", v->role);
	for (int i = 0; i < v->run; i++)
		add_layer(d, STAGE_VISION, v->role, i, 1 + n, v->dim, v->dim, v->dim,
			  v->maps && i == v->run - 1 ? v->heads : 0);
	add2(d, STAGE_VISION, 0, n, v->dim, "%s.features", v->role);
	add2(d, STAGE_VISION, 0, n, m->text.dim, "%s%sprojector.out", two ? v->role : "", two ? "." : "");
}

static void add_all(struct dump *d)
{
	const struct fr_model_desc *m = &d->s->model->desc;
	const struct fr_text_desc *t = &m->text;
	const int64_t side = m->image.crop, n = d->s->question->n;

	add1(d, STAGE_IMAGE, FR_I32, "input_ids", n);
	if (!d->o->pixels_file)
		add(d, STAGE_IMAGE, FR_U8, 0, "pixels.u8", 3, (int64_t[]){side, side, 3});
	add(d, STAGE_IMAGE, FR_F32, 0, "pixels", 3, (int64_t[]){3, side, side});
	for (int b = 0; b < m->n_branch; b++)
		add_branch(d, &m->vit[b]);
	if (m->fusion.heads) {
		add_maps(d, "fusion", "bias", m->fusion.heads, m->n_image);
		add2(d, STAGE_VISION, 0, m->n_image, t->dim, "fusion.out");
	}
	add2(d, STAGE_DECODER, 0, n, t->dim, "decoder.embed");
	for (int i = 0; i < t->layers; i++)
		add_layer(d, STAGE_DECODER, "decoder", i, n, t->dim, (int64_t)t->heads * t->head_dim,
			  (int64_t)t->kv_heads * t->head_dim, 0);
	add2(d, STAGE_DECODER, 0, n, t->dim, "decoder.norm");
	add1(d, STAGE_DECODER, FR_F32, "logits", t->vocab);
	if (d->o->max_tokens > 0) {
		add2(d, STAGE_STEPS, 0, d->o->max_tokens, t->vocab, "steps.logits");
		add1(d, STAGE_STEPS, FR_I32, "steps.ids", d->o->max_tokens);
	}
	add1(d, STAGE_VERDICT, FR_F32, "verdict.logits", 2);
}

/* ---- writing, in the table's order ---- */

static int is_next(const struct dump *d, const char *name)
{
	return d->at < d->n && strcmp(d->table[d->at].name, name) == 0;
}

static int write_if_next(struct dump *d, const char *name, const void *data)
{
	if (!is_next(d, name))
		return 0;
	return fr_st_append(d->out, data, d->table[d->at++].bytes, d->err);
}

static int want(void *user, const char *name)
{
	return is_next(user, name);
}

static void take(void *user, const char *name, const float *values, size_t n)
{
	struct dump *d = user;

	(void)n;
	if (!d->failed && write_if_next(d, name, values))
		d->failed = 1;
}

static int load_pixels(struct dump *d, float *pixels)
{
	const struct fr_session *s = d->s;
	const size_t side = (size_t)s->model->desc.image.crop;
	struct fr_tensor t;
	const uint8_t *bytes;
	size_t size;
	int rc = 0;

	FR_TRY(fr_read_tensor(d->o->pixels_file, "pixels", &t, &bytes, &size, d->err));
	if (t.dtype != FR_F32 || t.ndim != 3 || t.shape[0] != 3 || t.shape[1] != (int64_t)side ||
	    t.shape[2] != (int64_t)side) {
		char shape[96];
		rc = fr_fail(d->err, FR_E_USAGE, "%s: pixels is %s %s, expected f32 [3, %zu, %zu]", d->o->pixels_file,
			     fr_dtypes[t.dtype].name, fr_shape_text(t.shape, t.ndim, shape, sizeof shape), side, side);
	} else {
		memcpy(pixels, t.data, 3 * side * side * sizeof(float));
	}
	fr_map_close(bytes, size);
	return rc;
}

static int dump_image(struct dump *d)
{
	struct fr_session *s = d->s;
	struct fr_picture *pic = fr_intake_at(s->intake, 0);

	FR_TRY(write_if_next(d, "input_ids", s->question->ids));
	if (d->o->pixels_file) {
		FR_TRY(load_pixels(d, pic->pixels));
		return write_if_next(d, "pixels", pic->pixels);
	}
	fr_picture_read(pic, &s->model->desc.image, s->o.max_pixels, d->o->image, d->o->image_size);
	if (pic->error.code != FR_OK)
		return fr_fail(d->err, pic->error.code, "%s", pic->error.text);
	FR_TRY(write_if_next(d, "pixels.u8", pic->u8));
	return write_if_next(d, "pixels", pic->pixels);
}

/* Positions from .. to-1 into sequence 0; the last one's logits come to d->logits. */
static int prefill(struct dump *d, int from, int to)
{
	const struct fr_part part = {.from = from, .to = to};
	const struct fr_prefill p = {.part = &part, .n = 1, .n_logits = 1};

	FR_TRY(fr_session_prefill(d->s, &p, d->err));
	return fr_session_logits(d->s, 0, 1, d->logits, d->err);
}

static int dump_steps(struct dump *d)
{
	struct fr_session *s = d->s;
	const int vocab = s->model->desc.text.vocab, steps = d->o->max_tokens;
	const int with_logits = is_next(d, "steps.logits");
	int32_t *ids = malloc((size_t)steps * sizeof *ids);
	int rc = 0;

	if (!ids)
		return fr_fail(d->err, FR_E_MEMORY, "no memory for %d ids", steps);
	for (int k = 0; k < steps && rc == 0; k++) {
		if (k > 0) {
			s->ids[0] = ids[k - 1];
			s->row[0] = (struct fr_row){.seq = 0, .pos = s->question->n + k - 1};
			rc = fr_session_step(s, 1, d->err) || fr_session_logits(s, 0, 1, d->logits, d->err) ? -1 : 0;
		}
		if (rc == 0 && fr_all_finite(d->logits, (size_t)vocab))
			rc = fr_fail(d->err, FR_E_NUMBERS, "step %d: logits are not finite", k);
		if (rc == 0 && with_logits)
			rc = fr_st_append(d->out, d->logits, (size_t)vocab * sizeof(float), d->err);
		ids[k] = fr_argmax(d->logits, vocab);
	}
	d->at += with_logits != 0;
	if (rc == 0)
		rc = write_if_next(d, "steps.ids", ids);
	free(ids);
	return rc;
}

static int run_stages(struct dump *d)
{
	struct fr_session *s = d->s;
	const struct fr_model *m = s->model;
	const struct fr_picture *pic = fr_intake_at(s->intake, 0);

	FR_TRY(dump_image(d));
	if (d->stages < 1u << STAGE_VISION)
		return 0;
	FR_TRY(fr_session_see(s, &pic, 1, d->err));
	if (d->stages < 1u << STAGE_DECODER)
		return 0;
	FR_TRY(prefill(d, 0, s->question->n));
	s->tap->failed |= d->failed;
	if (fr_all_finite(d->logits, (size_t)m->desc.text.vocab))
		return fr_explain_numbers(s, pic, 0, "the image", d->err);
	FR_TRY(write_if_next(d, "logits", d->logits));
	s->tap = NULL;
	if (d->stages & 1u << STAGE_STEPS)
		FR_TRY(dump_steps(d));
	if (d->stages & 1u << STAGE_VERDICT) {
		FR_TRY(prefill(d, s->question->n, s->question->n + m->n_opening));
		FR_TRY(write_if_next(d, "verdict.logits", s->labels[0]));
	}
	return 0;
}

static char *describe(const struct fr_session *s)
{
	cJSON *o = cJSON_CreateObject();
	char *text;

	cJSON_AddStringToObject(o, "program", "fr-run " FR_VERSION);
	cJSON_AddStringToObject(o, "model_hash", s->model->hash);
	cJSON_AddStringToObject(o, "backend", fr_session_backend(s));
	cJSON_AddStringToObject(o, "isa", fr_session_isa(s));
	cJSON_AddStringToObject(o, "kv", fr_session_kv(s));
	cJSON_AddStringToObject(o, "activations", fr_session_activations(s));
	cJSON_AddStringToObject(o, "prompt", s->question->text);
	cJSON_AddStringToObject(o, "chat", s->chat);
	text = cJSON_PrintUnformatted(o);
	cJSON_Delete(o);
	return text;
}

static int write_dump(struct dump *d, const char *path)
{
	struct fr_session *s = d->s;
	struct fr_tap tap = {.user = d, .want = want, .take = take};
	char *metadata = describe(s);
	int rc;

	if (!metadata)
		return fr_fail(d->err, FR_E_MEMORY, "no memory for the dump's metadata");
	rc = fr_st_create(path, d->table, d->n, metadata, &d->out, d->err);
	cJSON_free(metadata);
	FR_TRY(rc);
	s->tap = &tap;
	rc = run_stages(d);
	s->tap = NULL;
	if (rc == 0 && tap.failed && !d->failed) {
		*d->err = tap.error;
		rc = -1;
	}
	fr_tap_free(&tap);
	if (rc == 0 && !d->failed)
		return fr_st_close(d->out, d->err);
	fr_st_abandon(d->out);
	return -1;
}

int fr_dump(struct fr_session *s, const struct fr_dump_opts *opts, const char *out_path, struct fr_error *err)
{
	struct dump d = {.s = s, .o = opts, .err = err};
	const size_t vocab = (size_t)s->model->desc.text.vocab;
	int rc;

	if (s->n_questions > 1)
		return fr_fail(err, FR_E_USAGE, "a dump is of one prompt, the session has %d", s->n_questions);
	/* the last step's token is not fed any more */
	if (opts->max_tokens < 0 || opts->max_tokens > s->kv.max_pos - s->question->n + 1)
		return fr_fail(
			err, FR_E_USAGE,
			"%d greedy steps after a prompt of %d positions do not fit: the session has %d positions, the "
			"model %d",
			opts->max_tokens, s->question->n, s->kv.max_pos, s->model->desc.text.max_pos);
	d.logits = malloc(vocab * sizeof *d.logits);
	add_all(&d);
	if (!d.logits)
		rc = fr_fail(err, FR_E_MEMORY, "no memory for the logits of %zu pieces", vocab);
	else if (d.failed)
		rc = fr_fail(err, FR_E_MEMORY, "no memory for the table of %zu intermediates", d.n);
	else if (d.n == 0)
		rc = fr_fail(err, FR_E_USAGE, "no intermediate has a name that matches '%s'", opts->tap);
	else
		rc = write_dump(&d, out_path);
	for (size_t i = 0; i < d.n; i++)
		free((char *)d.table[i].name);
	free(d.table);
	free(d.logits);
	return rc;
}
