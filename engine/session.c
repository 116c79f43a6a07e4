/* A session: the device, the weights on it, the memory as it was laid out (layout.c), and the steps of a run: see
 * images, prefill a prompt for each, step several sequences.
 *
 * What a device computes is asked for first and waited for once, at the end of a step; between the two the caller may
 * do something else (s->meanwhile). Only tokens and the two label logits come back. */
#include "session.h"

#include "../kernels/math.h"
#include "../kernels/pool.h"

#include <math.h>
#include <stdlib.h>
#include <time.h>

double fr_now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static int take_host(struct fr_session *s, struct fr_error *err)
{
	const int cpus = s->o.threads ? s->o.threads : fr_pool_cpus(), slots = s->together + s->ahead;
	const size_t rows = (size_t)s->rows_max, logits = (size_t)s->logit_rows;

	s->ids = calloc(rows, sizeof *s->ids);
	s->row = calloc(rows, sizeof *s->row);
	s->draw = calloc(logits, sizeof *s->draw);
	s->picked = calloc(logits, sizeof *s->picked);
	s->sampled = calloc((size_t)s->together, sizeof *s->sampled);
	s->end = calloc((size_t)s->together, sizeof *s->end);
	s->seen = calloc((size_t)s->together, sizeof *s->seen);
	s->held = calloc((size_t)s->o.batch, sizeof *s->held);
	s->labels = calloc((size_t)s->together, sizeof *s->labels);
	if (s->o.heat) {
		s->heat = calloc((size_t)s->together * (size_t)s->model->desc.n_image, sizeof *s->heat);
		s->heads = calloc(1, fr_plan_bytes(&s->plan, &s->vb.heat));
	}
	if (!s->ids || !s->row || !s->draw || !s->picked || !s->sampled || !s->end || !s->seen || !s->held ||
	    !s->labels || (s->o.heat && (!s->heat || !s->heads)))
		return fr_fail(err, FR_E_MEMORY, "no memory for the session's host buffers");
	return fr_intake_new(slots,
			     !s->ahead	    ? 0
			     : cpus < slots ? cpus
					    : slots,
			     &s->model->desc.image, s->o.max_pixels, &s->intake, err);
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

static int open_device(struct fr_session *s, struct fr_error *err)
{
	const struct fr_dev_opts dev = {.backend = s->o.backend,
					.isa = s->o.isa,
					.threads = s->o.threads,
					.precise = s->o.precise,
					.no_cublas = s->o.no_cublas};

	FR_TRY(fr_read_options(s, err));
	return fr_dev_open(&dev, &s->dev, err);
}

/* Nothing here waits for the device: weights may still be on their way when the first image is seen. */
static int open_session(struct fr_session *s, const struct fr_session_force *force, struct fr_error *err)
{
	const struct fr_model *m = s->model;
	int rc;

	FR_TRY(open_device(s, err));
	rc = fr_lay_out(s, force, err);
	if (s->o.plan)
		fr_session_plan(s, s->o.plan);
	FR_TRY(rc);
	FR_TRY(fr_plan_take(&s->plan, s->dev, err));
	if (s->dev->ops->work)
		s->dev->ops->work(s->dev, s->work, fr_plan_bytes(&s->plan, &s->work), &s->limits);
	FR_TRY(take_host(s, err));
	FR_TRY(put_rope_tables(s, err));
	FR_TRY(fr_drafts_open(s, err));
	if (s->stay < m->desc.text.layers)
		FR_TRY(fr_stream_open(&m->desc, &m->weights, s->stay, &s->stream, err));
	return fr_net_load(&s->net, s->dev, &m->desc, &m->weights, s->device_layers, err);
}

int fr_session_open(const struct fr_model *m, const struct fr_session_opts *opts, const struct fr_session_force *force,
		    struct fr_session **out, struct fr_error *err)
{
	struct fr_session *s = calloc(1, sizeof *s);

	*out = NULL;
	if (!s)
		return fr_fail(err, FR_E_MEMORY, "no memory for a session object of %zu bytes", sizeof *s);
	s->model = m;
	s->o = *opts;
	if (open_session(s, force, err)) {
		fr_session_free(s);
		return -1;
	}
	*out = s;
	return 0;
}

int fr_session_new(const struct fr_model *m, const struct fr_session_opts *opts, struct fr_session **out,
		   struct fr_error *err)
{
	return fr_session_open(m, opts, NULL, out, err);
}

int fr_session_preview(struct fr_session *s, const struct fr_model *m, const struct fr_session_opts *opts,
		       struct fr_error *fits, struct fr_error *err)
{
	*s = (struct fr_session){.model = m, .o = *opts};
	fits->code = FR_OK;
	if (open_device(s, err))
		return -1;
	return fr_lay_out(s, NULL, fits) && fits->code != FR_E_MEMORY ? fr_fail(err, fits->code, "%s", fits->text) : 0;
}

int fr_session_measure(const struct fr_model *m, const struct fr_session_opts *opts, FILE *table, size_t *bytes,
		       struct fr_error *err)
{
	struct fr_session s;
	struct fr_error fits;
	int rc = fr_session_preview(&s, m, opts, &fits, err);

	if (rc == 0) {
		*bytes = s.plan.total;
		if (table)
			fr_session_plan(&s, table);
	}
	fr_session_close(&s);
	return rc;
}

void fr_session_close(struct fr_session *s)
{
	fr_stream_close(s->stream);
	fr_ngram_free(s->drafts);
	fr_intake_free(s->intake);
	fr_net_free(&s->net);
	if (s->dev) {
		fr_plan_release(&s->plan, s->dev);
		s->dev->ops->close(s->dev);
	}
	for (int i = 0; i < s->n_questions; i++) {
		free(s->question[i].text);
		free(s->question[i].ids);
	}
	free(s->question);
	free(s->end);
	free(s->seen);
	free(s->held);
	free(s->ids);
	free(s->row);
	free(s->draw);
	free(s->picked);
	free(s->sampled);
	free(s->labels);
	free(s->heads);
	free(s->heat);
}

void fr_session_free(struct fr_session *s)
{
	if (s)
		fr_session_close(s);
	free(s);
}

/* ---- the steps of a run ---- */

/* A device of its own works while the caller does something else; the CPU has worked when a call returns, so there the
 * caller begins before. */
static double begin(struct fr_session *s)
{
	if (s->meanwhile && !s->dev->device)
		s->meanwhile(s->meanwhile_user);
	return fr_now_ms();
}

/* Waits for what was asked of the device since `start`. */
static int finish(struct fr_session *s, double start, double *ms, struct fr_error *err)
{
	if (s->meanwhile && s->dev->device)
		s->meanwhile(s->meanwhile_user);
	FR_TRY(s->dev->ops->sync(s->dev, err));
	*ms = fr_now_ms() - start;
	return 0;
}

/* s->heads [n, heads, 1 + n_image], row 0 of the class token -> s->heat: the mean over the heads, the class token's own
 * share left out. */
static void average_heads(struct fr_session *s, int n)
{
	const struct fr_model_desc *d = &s->model->desc;
	const size_t heads = (size_t)d->vit[d->look].heads, patches = (size_t)d->n_image;

	for (size_t i = 0; i < (size_t)n; i++)
		for (size_t at = 0; at < patches; at++) {
			float sum = 0;
			for (size_t h = 0; h < heads; h++)
				sum += s->heads[(i * heads + h) * (1 + patches) + 1 + at];
			s->heat[i * patches + at] = sum / (float)heads;
		}
}

int fr_session_see(struct fr_session *s, const struct fr_picture *const *pics, int n, struct fr_error *err)
{
	const struct fr_model_desc *d = &s->model->desc;
	const size_t side = (size_t)d->image.crop, items = 3 * side * side, together = (size_t)s->together;
	const double start = begin(s);

	fr_stream_vision(s->stream, 1);
	for (int i = 0; i < n; i++)
		s->dev->ops->put(s->dev, s->pixels + (size_t)i * items, pics[i]->pixels, items * sizeof(float));
	for (int i = 0; i < d->n_branch; i++)
		fr_vit_forward(&s->net, i, s->dev, &s->vb, s->pixels, n, i ? s->fb.kv : s->images, s->tap);
	if (s->heat) /* before the fusion takes its place */
		s->dev->ops->get(s->dev, s->heads, s->vb.heat,
				 fr_plan_bytes(&s->plan, &s->vb.heat) / together * (size_t)n);
	if (d->fusion.heads)
		fr_fusion_forward(&s->net, s->dev, &s->fb, s->vb.map, n, s->images, s->tap);
	FR_TRY(finish(s, start, &s->ms_vision, err));
	for (int i = 0; i < n; i++)
		s->seen[i] = ++s->n_seen;
	fr_stream_vision(s->stream, 0);
	if (s->heat)
		average_heads(s, n);
	return 0;
}

static void pick(struct fr_session *s, size_t row, int rows, const struct fr_sampler *sampler, const double *draw,
		 int32_t *ids)
{
	const size_t vocab = (size_t)s->model->desc.text.vocab;

	s->dev->ops->pick(s->dev, &(struct fr_pick){.logits = s->tb.logits + row * vocab,
						    .rows = rows,
						    .vocab = (int)vocab,
						    .sampler = sampler,
						    .draw = draw,
						    .ids = ids});
}

static void forward(struct fr_session *s, struct fr_text_call *c)
{
	c->ids = s->ids;
	c->row = s->row;
	c->kv = &s->kv;
	c->tap = s->tap;
	c->stream = s->stream;
	if (s->stay < s->model->desc.text.layers)
		fr_stream_settle(s->stream, fr_layers_that_stay_now(s));
	fr_text_forward(&s->net, s->dev, &s->tb, c);
}

/* The rows of a part from row `at` of the call on; the row behind its last. */
static int fill_rows(struct fr_session *s, const struct fr_part *p, int at)
{
	const struct fr_model *m = s->model;
	const struct fr_question *q = &s->question[p->question];
	int image = p->image * m->desc.n_image;

	for (int pos = 0; pos < p->to; pos++) {
		int32_t id = pos < q->n ? q->ids[pos] : m->opening[pos - q->n];
		if (pos < q->n && id == m->desc.prompt.image_id)
			id = -1 - image++;
		if (pos < p->from)
			continue;
		s->ids[at] = id;
		s->row[at++] = (struct fr_row){.seq = p->seq, .pos = pos};
	}
	return at;
}

/* The choices and the label logits of each part. */
static void take_logits(struct fr_session *s, const struct fr_prefill *p)
{
	const struct fr_model *m = s->model;
	const size_t vocab = (size_t)m->desc.text.vocab, rows = (size_t)p->n_logits;

	pick(s, 0, p->n * p->n_logits, NULL, NULL, s->picked);
	for (size_t i = 0; i < (size_t)p->n; i++) {
		const float *last = s->tb.logits + ((i + 1) * rows - 1) * vocab;
		s->dev->ops->get(s->dev, &s->labels[i][0], last + m->real_id, sizeof *last);
		s->dev->ops->get(s->dev, &s->labels[i][1], last + m->fake_id, sizeof *last);
		if (p->draw)
			pick(s, i * rows, 1, &s->o.sampler, p->draw + i, s->sampled + i);
	}
}

int fr_session_prefill(struct fr_session *s, const struct fr_prefill *p, struct fr_error *err)
{
	struct fr_text_call c = {
		.images = s->images, .phase = FR_PREFILL, .shares = p->n, .end = s->end, .n_logits = p->n_logits};
	const double start = begin(s);

	for (int i = 0; i < p->n; i++) {
		fr_reuse_copy(s, &p->part[i]);
		c.rows = s->end[i] = fill_rows(s, &p->part[i], c.rows);
	}
	forward(s, &c);
	take_logits(s, p);
	FR_TRY(finish(s, start, &s->ms_text, err));
	for (int i = 0; i < p->n; i++) {
		const struct fr_part *part = &p->part[i];
		const int n = s->question[part->question].n;
		s->held[part->seq] = (struct fr_held){
			.image = s->seen[part->image], .question = part->question, .n = part->to < n ? part->to : n};
	}
	return 0;
}

int fr_session_step(struct fr_session *s, int n, struct fr_error *err)
{
	const struct fr_ops *ops = s->dev->ops;
	const int recordable = ops->step_begin && !s->tap;
	struct fr_text_call c = {.rows = n, .phase = FR_DECODE, .shares = 1, .end = &n, .n_logits = n};
	const double start = begin(s);

	if (!recordable || !ops->step_begin(s->dev, s->ids, s->row, s->draw, n)) {
		forward(s, &c);
		pick(s, 0, n, &s->o.sampler, s->draw, s->picked);
		if (recordable)
			ops->step_end(s->dev);
	}
	return finish(s, start, &s->ms_text, err);
}

int fr_session_labels(struct fr_session *s, int row, float out[2], struct fr_error *err)
{
	const struct fr_model *m = s->model;
	const float *logits = s->tb.logits + (size_t)row * (size_t)m->desc.text.vocab;

	s->dev->ops->get(s->dev, &out[0], logits + m->real_id, sizeof *out);
	s->dev->ops->get(s->dev, &out[1], logits + m->fake_id, sizeof *out);
	return s->dev->ops->sync(s->dev, err);
}

int fr_session_logits(struct fr_session *s, int first, int n, float *logits, struct fr_error *err)
{
	const size_t vocab = (size_t)s->model->desc.text.vocab;

	s->dev->ops->get(s->dev, logits, s->tb.logits + (size_t)first * vocab, (size_t)n * vocab * sizeof *logits);
	return s->dev->ops->sync(s->dev, err);
}
