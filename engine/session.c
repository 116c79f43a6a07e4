/* A session: options with their defaults, the device, the weights on it, the memory plan, and the steps of a run:
 * see an image, prefill a prompt, step several sequences. */
#include "session.h"

#include "image.h"
#include "../kernels/math.h"

#include <math.h>
#include <stdlib.h>
#include <time.h>

double fr_now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static int fill_defaults(struct fr_session *s, struct fr_error *err)
{
	struct fr_session_opts *o = &s->o;

	if (o->batch == 0)
		o->batch = 1;
	if (o->max_tokens == 0)
		o->max_tokens = 512;
	if (o->threshold == 0)
		o->threshold = 0.5;
	if (o->max_pixels == 0)
		o->max_pixels = FR_MAX_PIXELS;
	if (o->sampler.top_p == 0)
		o->sampler.top_p = 1;
	if (o->calibration.temperature == 0) {
		o->calibration.temperature = s->model->desc.cal_temperature;
		o->calibration.bias = s->model->desc.cal_bias;
	}
	if (o->batch < 1 || o->batch > 256)
		return fr_fail(err, FR_E_USAGE, "a batch of %d images, expected 1 to 256", o->batch);
	if (o->max_tokens < 1)
		return fr_fail(err, FR_E_USAGE, "at most %d tokens, expected 1 or more", o->max_tokens);
	if (!(o->threshold > 0 && o->threshold <= 1))
		return fr_fail(err, FR_E_USAGE, "a threshold of %g, expected above 0 and at most 1", o->threshold);
	if (!(o->band_lo >= 0 && o->band_lo <= o->band_hi && o->band_hi <= 1))
		return fr_fail(err, FR_E_USAGE, "a band from %g to %g, expected 0 <= LO <= HI <= 1", o->band_lo,
			       o->band_hi);
	if (!(o->sampler.temperature >= 0) || !(o->sampler.top_p > 0 && o->sampler.top_p <= 1) || o->sampler.top_k < 0)
		return fr_fail(err, FR_E_USAGE,
			       "sampling with temperature %g, top-k %d, top-p %g, expected >= 0, >= 0, 0 < p <= 1",
			       (double)o->sampler.temperature, o->sampler.top_k, (double)o->sampler.top_p);
	if (o->authors_rule && o->verdict_only)
		return fr_fail(err, FR_E_USAGE, "the authors' rule reads the text, which verdict-only does not write");
	return 0;
}

static int max(int a, int b)
{
	return a > b ? a : b;
}

/* How many positions a sequence may take: the prompt, the opening, and the text unless only the verdict is wanted. */
static int count_positions(struct fr_session *s, struct fr_error *err)
{
	const struct fr_text_desc *t = &s->model->desc.text;
	const int fixed = s->n_prompt + s->model->n_opening;
	const int64_t all = (int64_t)fixed + (s->o.verdict_only ? 0 : s->o.max_tokens);

	if (fixed > t->max_pos)
		return fr_fail(err, FR_E_USAGE,
			       "the prompt takes %d positions with the image and the opening, the model has %d", fixed,
			       t->max_pos);
	s->kv.max_pos = all < t->max_pos ? (int)all : t->max_pos;
	return 0;
}

static void plan_session(struct fr_session *s)
{
	const struct fr_model_desc *d = &s->model->desc;
	const struct fr_text_desc *t = &d->text;
	const size_t side = (size_t)d->image.crop;
	const size_t cells = (size_t)t->layers * (size_t)s->o.batch * (size_t)t->kv_heads * (size_t)s->kv.max_pos;
	struct fr_plan *p = &s->plan;

	s->kv.dtype = s->o.kv_f32 ? FR_F32 : FR_F16;
	s->kv.layers = t->layers;
	s->kv.seqs = s->o.batch;
	s->kv.kv_heads = t->kv_heads;
	s->kv.head_dim = t->head_dim;
	fr_plan_add(p, "kv.k", &s->kv.k, s->kv.dtype, cells, (size_t)t->head_dim, FR_LIVE_SESSION);
	fr_plan_add(p, "kv.v", &s->kv.v, s->kv.dtype, cells, (size_t)t->head_dim, FR_LIVE_SESSION);
	fr_plan_add(p, "rope.cos", &s->rope_cos, FR_F32, (size_t)s->kv.max_pos, (size_t)t->head_dim / 2,
		    FR_LIVE_SESSION);
	fr_plan_add(p, "rope.sin", &s->rope_sin, FR_F32, (size_t)s->kv.max_pos, (size_t)t->head_dim / 2,
		    FR_LIVE_SESSION);
	fr_plan_add(p, "pixels", &s->pixels, FR_F32, 3 * side, side, FR_LIVE_SESSION);
	fr_plan_add(p, "images", &s->images, FR_F32, (size_t)d->n_image, (size_t)t->dim, FR_LIVE_SESSION);
}

/* One set of encoder buffers serves all branches: each as large as the largest needs. */
static void plan_vision(struct fr_session *s)
{
	const struct fr_model_desc *d = &s->model->desc;
	const size_t rows = 1 + (size_t)d->n_image;
	size_t dim = 0, mlp = (size_t)d->n_image * (size_t)d->proj_dim;

	for (int i = 0; i < d->n_branch; i++) {
		if ((size_t)d->vit[i].dim > dim)
			dim = (size_t)d->vit[i].dim;
		if (rows * (size_t)d->vit[i].ffn > mlp)
			mlp = rows * (size_t)d->vit[i].ffn;
	}
	fr_plan_add(&s->plan, "vision.x", &s->vb.x, FR_F32, rows, dim, FR_LIVE_VISION);
	fr_plan_add(&s->plan, "vision.h", &s->vb.h, FR_F32, rows, dim, FR_LIVE_VISION);
	fr_plan_add(&s->plan, "vision.q", &s->vb.q, FR_F32, rows, dim, FR_LIVE_VISION);
	fr_plan_add(&s->plan, "vision.k", &s->vb.k, FR_F32, rows, dim, FR_LIVE_VISION);
	fr_plan_add(&s->plan, "vision.v", &s->vb.v, FR_F32, rows, dim, FR_LIVE_VISION);
	fr_plan_add(&s->plan, "vision.a", &s->vb.a, FR_F32, rows, dim, FR_LIVE_VISION);
	fr_plan_add(&s->plan, "vision.mlp", &s->vb.m, FR_F32, 1, mlp, FR_LIVE_VISION);
}

static void plan_decoder(struct fr_session *s)
{
	const struct fr_text_desc *t = &s->model->desc.text;
	const size_t rows = (size_t)s->rows_max, q = (size_t)t->heads * (size_t)t->head_dim,
		     kv = (size_t)t->kv_heads * (size_t)t->head_dim;

	fr_plan_add(&s->plan, "decoder.x", &s->tb.x, FR_F32, rows, (size_t)t->dim, FR_LIVE_DECODER);
	fr_plan_add(&s->plan, "decoder.h", &s->tb.h, FR_F32, rows, (size_t)t->dim, FR_LIVE_DECODER);
	fr_plan_add(&s->plan, "decoder.q", &s->tb.q, FR_F32, rows, q, FR_LIVE_DECODER);
	fr_plan_add(&s->plan, "decoder.a", &s->tb.a, FR_F32, rows, q, FR_LIVE_DECODER);
	fr_plan_add(&s->plan, "decoder.k", &s->tb.k, FR_F32, rows, kv, FR_LIVE_DECODER);
	fr_plan_add(&s->plan, "decoder.v", &s->tb.v, FR_F32, rows, kv, FR_LIVE_DECODER);
	fr_plan_add(&s->plan, "decoder.glu", &s->tb.g, FR_F32, rows, (size_t)t->ffn, FR_LIVE_DECODER);
	fr_plan_add(&s->plan, "logits", &s->tb.logits, FR_F32, (size_t)max(1 + s->model->n_opening, s->o.batch),
		    (size_t)t->vocab, FR_LIVE_DECODER);
}

static int take_host(struct fr_session *s, struct fr_error *err)
{
	const struct fr_model_desc *d = &s->model->desc;
	const size_t side = (size_t)d->image.crop, vocab = (size_t)d->text.vocab;

	s->ids = calloc((size_t)s->rows_max, sizeof *s->ids);
	s->row = calloc((size_t)s->rows_max, sizeof *s->row);
	s->u8 = malloc(side * side * 3);
	s->host_pixels = malloc(side * side * 3 * sizeof *s->host_pixels);
	s->logits = malloc((size_t)max(1 + s->model->n_opening, s->o.batch) * vocab * sizeof *s->logits);
	s->room = malloc(vocab * sizeof *s->room);
	if (!s->ids || !s->row || !s->u8 || !s->host_pixels || !s->logits || !s->room)
		return fr_fail(err, FR_E_MEMORY, "no memory for the session's host buffers");
	return 0;
}

static int put_rope_tables(struct fr_session *s, struct fr_error *err)
{
	const struct fr_text_desc *t = &s->model->desc.text;
	const size_t n = (size_t)s->kv.max_pos * (size_t)t->head_dim / 2;
	float *tables = malloc(2 * n * sizeof *tables);

	if (!tables)
		return fr_fail(err, FR_E_MEMORY, "no memory for rotary tables of %d positions", s->kv.max_pos);
	fr_rope_table(s->kv.max_pos, t->head_dim, t->rope_theta, t->rope_factor, tables, tables + n);
	s->dev->ops->put(s->dev, s->rope_cos, tables, n * sizeof *tables);
	s->dev->ops->put(s->dev, s->rope_sin, tables + n, n * sizeof *tables);
	free(tables);
	s->tb.cos = s->rope_cos;
	s->tb.sin = s->rope_sin;
	return 0;
}

/* Everything that is decided before a device is opened: options, prompt, positions, buffers. */
static int lay_out(struct fr_session *s, struct fr_error *err)
{
	const struct fr_model *m = s->model;

	FR_TRY(fill_defaults(s, err));
	if (s->o.ids_file)
		FR_TRY(fr_prompt_read(m, s->o.ids_file, &s->prompt, &s->prompt_ids, &s->n_prompt, err));
	else
		FR_TRY(fr_prompt_build(m, s->o.prompt, s->o.chat, &s->chat, &s->prompt, &s->prompt_ids, &s->n_prompt,
				       err));
	FR_TRY(count_positions(s, err));
	s->rows_max = max(s->n_prompt + m->n_opening, s->o.batch);
	plan_session(s);
	plan_vision(s);
	plan_decoder(s);
	fr_plan_layout(&s->plan);
	return 0;
}

static int open_session(struct fr_session *s, struct fr_error *err)
{
	const struct fr_model *m = s->model;
	const struct fr_dev_opts dev = {.backend = s->o.backend, .isa = s->o.isa, .threads = s->o.threads};

	FR_TRY(lay_out(s, err));
	FR_TRY(fr_dev_open(&dev, &s->dev, err));
	FR_TRY(fr_plan_take(&s->plan, s->dev, err));
	FR_TRY(take_host(s, err));
	FR_TRY(put_rope_tables(s, err));
	FR_TRY(fr_net_load(&s->net, s->dev, &m->desc, &m->weights, err));
	return s->dev->ops->sync(s->dev, err);
}

int fr_session_new(const struct fr_model *m, const struct fr_session_opts *opts, struct fr_session **out,
		   struct fr_error *err)
{
	struct fr_session *s = calloc(1, sizeof *s);

	*out = NULL;
	if (!s)
		return fr_fail(err, FR_E_MEMORY, "no memory for a session object of %zu bytes", sizeof *s);
	s->model = m;
	s->o = *opts;
	s->chat = "ids";
	if (open_session(s, err)) {
		fr_session_free(s);
		return -1;
	}
	*out = s;
	return 0;
}

int fr_session_measure(const struct fr_model *m, const struct fr_session_opts *opts, FILE *table, size_t *bytes,
		       struct fr_error *err)
{
	struct fr_session s = {.model = m, .o = *opts, .chat = "ids"};
	int rc = lay_out(&s, err);

	if (rc == 0) {
		*bytes = s.plan.total;
		if (table)
			fr_plan_print(&s.plan, table);
	}
	free(s.prompt);
	free(s.prompt_ids);
	return rc;
}

void fr_session_free(struct fr_session *s)
{
	if (!s)
		return;
	fr_net_free(&s->net);
	if (s->dev) {
		fr_plan_release(&s->plan, s->dev);
		s->dev->ops->close(s->dev);
	}
	free(s->prompt);
	free(s->prompt_ids);
	free(s->ids);
	free(s->row);
	free(s->u8);
	free(s->host_pixels);
	free(s->logits);
	free(s->room);
	free(s);
}

/* ---- the steps of a run ---- */

int fr_session_see(struct fr_session *s, struct fr_error *err)
{
	const size_t side = (size_t)s->model->desc.image.crop;
	const double start = fr_now_ms();

	s->dev->ops->put(s->dev, s->pixels, s->host_pixels, 3 * side * side * sizeof(float));
	for (int i = 0; i < s->model->desc.n_branch; i++)
		fr_vit_forward(&s->net, i, s->dev, &s->vb, s->pixels, s->images, s->tap);
	FR_TRY(s->dev->ops->sync(s->dev, err));
	s->ms_vision = fr_now_ms() - start;
	return 0;
}

static int run_text(struct fr_session *s, struct fr_text_call *c, struct fr_error *err)
{
	const size_t n = (size_t)c->n_logits * (size_t)s->model->desc.text.vocab;
	const double start = fr_now_ms();

	c->ids = s->ids;
	c->row = s->row;
	c->kv = &s->kv;
	c->tap = s->tap;
	fr_text_forward(&s->net, s->dev, &s->tb, c);
	s->dev->ops->get(s->dev, s->logits, s->tb.logits, n * sizeof *s->logits);
	FR_TRY(s->dev->ops->sync(s->dev, err));
	s->ms_text = fr_now_ms() - start;
	return 0;
}

int fr_session_prefill(struct fr_session *s, int seq, int from, int to, int n_logits, struct fr_error *err)
{
	const struct fr_model *m = s->model;
	struct fr_text_call c = {.rows = to - from,
				 .images = s->images,
				 .phase = FR_PREFILL,
				 .first_logit = to - from - n_logits,
				 .n_logits = n_logits};
	int image = 0;

	for (int i = 0; i < from && i < s->n_prompt; i++)
		image += s->prompt_ids[i] == m->desc.prompt.image_id;
	for (int i = from; i < to; i++) {
		int32_t id = i < s->n_prompt ? s->prompt_ids[i] : m->opening[i - s->n_prompt];
		if (i < s->n_prompt && id == m->desc.prompt.image_id)
			id = -1 - image++;
		s->ids[i - from] = id;
		s->row[i - from] = (struct fr_row){.seq = seq, .pos = i};
	}
	return run_text(s, &c, err);
}

int fr_session_step(struct fr_session *s, int n, struct fr_error *err)
{
	return run_text(s, &(struct fr_text_call){.rows = n, .phase = FR_DECODE, .n_logits = n}, err);
}

/* ---- what a session says of itself ---- */

void fr_session_plan(const struct fr_session *s, FILE *out)
{
	fr_plan_print(&s->plan, out);
}

const char *fr_session_backend(const struct fr_session *s)
{
	return s->dev->ops->name;
}

const char *fr_session_isa(const struct fr_session *s)
{
	return s->dev->isa;
}

const char *fr_session_kv(const struct fr_session *s)
{
	return fr_dtypes[s->kv.dtype].name;
}

const char *fr_session_activations(const struct fr_session *s)
{
	return s->dev->activations;
}

const char *fr_session_prompt(const struct fr_session *s)
{
	return s->prompt;
}

const char *fr_session_chat(const struct fr_session *s)
{
	return s->chat;
}
