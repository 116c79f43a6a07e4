/* What a session will take before anything is taken: options with their defaults, the prompt, the buffers, and on a
 * device with memory of its own whether all that fits.
 *
 * Sizes follow from two numbers: the batch (sequences in the KV cache) and how many images go through in one call,
 * which the device wishes. A batch that nobody asked for is as large as gains something, no larger than there are
 * results, and halved until it fits beside the weights. */
#include "session.h"

#include <stdlib.h>

#define KIB 1024.0
#define MOST_TEXTS 8   /* that are written together unless more are asked for (docs/SPEED.md) */
#define MOST_AHEAD 8   /* pictures decoded ahead on the CPU: each may take --max-pixels of memory meanwhile */
#define SPARE_SHARE 32 /* of a machine's memory: what is left to others beside mapped weights that fill it */

static int check_options(const struct fr_session_opts *o, struct fr_error *err)
{
	if (o->batch < 0 || o->batch > 256)
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
	if (o->speculate < -1 || o->speculate > FR_MAX_SPECULATE)
		return fr_fail(err, FR_E_USAGE, "%d proposed tokens a step, expected -1 (none), 0 (as pays) or 1 to %d",
			       o->speculate, FR_MAX_SPECULATE);
	if (o->gpu_layers < -1)
		return fr_fail(err, FR_E_USAGE, "%d layers on the device, expected -1 (none), 0 (all) or more",
			       o->gpu_layers);
	return 0;
}

static int fill_defaults(struct fr_session *s, struct fr_error *err)
{
	struct fr_session_opts *o = &s->o;

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
	return check_options(o, err);
}

/* How many positions a sequence may take: the longest prompt, the opening, and the text unless only the verdict is
 * wanted. */
static void count_positions(struct fr_session *s)
{
	const struct fr_text_desc *t = &s->model->desc.text;
	const int64_t all = (int64_t)s->longest + s->model->n_opening + (s->o.verdict_only ? 0 : s->o.max_tokens);

	s->kv.max_pos = all < t->max_pos ? (int)all : t->max_pos;
}

int fr_read_options(struct fr_session *s, struct fr_error *err)
{
	FR_TRY(fill_defaults(s, err));
	FR_TRY(fr_questions_read(s, err));
	count_positions(s);
	return 0;
}

/* ---- the plan ---- */

static int max(int a, int b)
{
	return a > b ? a : b;
}

static void plan_session(struct fr_session *s)
{
	const struct fr_model_desc *d = &s->model->desc;
	const struct fr_text_desc *t = &d->text;
	const size_t side = (size_t)d->image.crop, images = (size_t)s->together;
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
	fr_plan_add(p, "pixels", &s->pixels, FR_F32, images * 3 * side, side, FR_LIVE_SESSION);
	fr_plan_add(p, "images", &s->images, FR_F32, images * (size_t)d->n_image, (size_t)t->dim, FR_LIVE_SESSION);
}

/* One set of encoder buffers serves all branches: each as large as the largest needs. */
static void plan_vision(struct fr_session *s)
{
	const struct fr_model_desc *d = &s->model->desc;
	const size_t images = (size_t)s->together, rows = 1 + (size_t)d->n_image;
	size_t dim = 0, mlp = (size_t)d->n_image * (size_t)d->proj_dim, maps = 0;

	for (int i = 0; i < d->n_branch; i++) {
		if ((size_t)d->vit[i].dim > dim)
			dim = (size_t)d->vit[i].dim;
		if (rows * (size_t)d->vit[i].ffn > mlp)
			mlp = rows * (size_t)d->vit[i].ffn;
		if (d->vit[i].maps)
			maps = (size_t)d->vit[i].heads;
	}
	fr_plan_add(&s->plan, "vision.x", &s->vb.x, FR_F32, images * rows, dim, FR_LIVE_VISION);
	fr_plan_add(&s->plan, "vision.h", &s->vb.h, FR_F32, images * rows, dim, FR_LIVE_VISION);
	fr_plan_add(&s->plan, "vision.q", &s->vb.q, FR_F32, images * rows, dim, FR_LIVE_VISION);
	fr_plan_add(&s->plan, "vision.k", &s->vb.k, FR_F32, images * rows, dim, FR_LIVE_VISION);
	fr_plan_add(&s->plan, "vision.v", &s->vb.v, FR_F32, images * rows, dim, FR_LIVE_VISION);
	fr_plan_add(&s->plan, "vision.a", &s->vb.a, FR_F32, images * rows, dim, FR_LIVE_VISION);
	fr_plan_add(&s->plan, "vision.mlp", &s->vb.m, FR_F32, images, mlp, FR_LIVE_VISION);
	if (s->o.heat)
		fr_plan_add(&s->plan, "vision.heat", &s->vb.heat, FR_F32, images * (size_t)d->vit[d->look].heads, rows,
			    FR_LIVE_VISION);
	if (maps)
		fr_plan_add(&s->plan, "vision.map", &s->vb.map, FR_F32, images * maps * rows, rows, FR_LIVE_BRANCHES);
}

/* What the second branch leaves, and what the fusion works in; nothing where there is one branch. */
static void plan_fusion(struct fr_session *s)
{
	const struct fr_model_desc *d = &s->model->desc;
	const size_t images = (size_t)s->together, n = (size_t)d->n_image, heads = (size_t)d->fusion.heads,
		     dim = (size_t)d->text.dim;

	if (!heads)
		return;
	fr_plan_add(&s->plan, "fusion.kv", &s->fb.kv, FR_F32, images * n, dim, FR_LIVE_BRANCHES);
	fr_plan_add(&s->plan, "fusion.bias", &s->fb.bias, FR_F32, images * heads * n, n, FR_LIVE_FUSION);
	fr_plan_add(&s->plan, "fusion.q", &s->fb.q, FR_F32, images * n, dim, FR_LIVE_FUSION);
	fr_plan_add(&s->plan, "fusion.k", &s->fb.k, FR_F32, images * n, dim, FR_LIVE_FUSION);
	fr_plan_add(&s->plan, "fusion.v", &s->fb.v, FR_F32, images * n, dim, FR_LIVE_FUSION);
	fr_plan_add(&s->plan, "fusion.a", &s->fb.a, FR_F32, images * n, dim, FR_LIVE_FUSION);
	fr_plan_add(&s->plan, "fusion.ffn", &s->fb.m, FR_F32, images * n, (size_t)d->fusion.ffn, FR_LIVE_FFN);
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
	if (t->lora & (1u << FR_LORA_GATE | 1u << FR_LORA_UP))
		fr_plan_add(&s->plan, "decoder.up", &s->tb.u, FR_F32, rows, (size_t)t->ffn, FR_LIVE_DECODER);
	if (t->lora)
		fr_plan_add(&s->plan, "decoder.lora", &s->tb.t, FR_F32, rows, FR_MAX_ALSO * (size_t)t->lora_rank,
			    FR_LIVE_DECODER);
	fr_plan_add(&s->plan, "logits", &s->tb.logits, FR_F32, (size_t)s->logit_rows, (size_t)t->vocab,
		    FR_LIVE_DECODER);
}

static struct fr_limits limits_of(const struct fr_session *s)
{
	const struct fr_model_desc *d = &s->model->desc;
	const struct fr_text_desc *t = &d->text;
	const int widest = max(max(max(t->dim, t->ffn), max(t->heads * t->head_dim, d->proj_dim)),
			       max(d->fusion.ffn, t->lora_rank));
	struct fr_limits l = {.rows = max(s->rows_max, s->together * (1 + d->n_image)),
			      .decode_rows = s->step_rows,
			      .cols = widest,
			      .outs = widest,
			      .heads = t->heads,
			      .head_dim = t->head_dim,
			      .max_pos = max(s->kv.max_pos, 1 + d->n_image),
			      .vocab = t->vocab,
			      .dense = d->fusion.heads ? t->dim : 0};

	for (int i = 0; i < d->n_branch; i++) {
		const struct fr_vit_desc *v = &d->vit[i];
		l.cols = max(l.cols, max(max(v->dim, v->ffn), 3 * v->patch * v->patch));
		l.outs = max(l.outs, max(v->dim, v->ffn));
		l.dense = max(l.dense, v->dim);
	}
	return l;
}

/* Pictures that are decoded while others are computed: a group on a device of its own; on the CPU one for each thread,
 * because of large pictures and a small model decoding is most of the work. None that will not come. */
static int pictures_ahead(const struct fr_session *s)
{
	const size_t coming = s->o.images > (size_t)s->together ? s->o.images - (size_t)s->together : 0;
	int ahead = s->dev->threads > MOST_AHEAD ? MOST_AHEAD : s->dev->threads > 1 ? s->dev->threads : 0;

	if (s->dev->device)
		ahead = s->together;
	return s->o.images && coming < (size_t)ahead ? (int)coming : ahead;
}

/* All sizes for s->o.batch and s->device_layers. */
static void size_up(struct fr_session *s, const struct fr_session_force *force)
{
	const int wish = force && force->together ? force->together : s->dev->together, batch = s->o.batch,
		  opening = s->model->n_opening;

	s->together = batch < wish ? batch : wish;
	s->ahead = force && force->ahead ? force->ahead : pictures_ahead(s);
	s->step_rows = fr_drafts_rows(s);
	s->rows_max = max(s->together * (s->longest + opening), s->step_rows);
	s->logit_rows = max(s->together * (1 + opening), s->step_rows);
	s->plan.n = 0;
	plan_session(s);
	plan_vision(s);
	plan_fusion(s);
	plan_decoder(s);
	s->limits = limits_of(s);
	if (s->dev->ops->work_bytes)
		fr_plan_add(&s->plan, "device.work", &s->work, FR_U8, 1, s->dev->ops->work_bytes(s->dev, &s->limits),
			    FR_LIVE_SESSION);
	fr_plan_layout(&s->plan);
	s->needs.plan = s->plan.total;
	s->needs.weights = fr_net_measure(&s->model->desc, &s->model->weights, s->device_layers, s->dev);
}

/* ---- does it fit? ---- */

static int fits(const struct fr_session *s)
{
	return !s->needs.total || s->needs.weights.device + s->needs.plan <= s->needs.free;
}

/* The same session with another batch and other layers on the device. */
static int would_fit(const struct fr_session *s, const struct fr_session_force *force, int batch, int layers)
{
	struct fr_session other = *s;

	other.o.batch = batch;
	other.device_layers = layers;
	size_up(&other, force);
	return fits(&other);
}

/* The most decoder layers on the device that fit with that batch, or -1. */
static int layers_that_fit(const struct fr_session *s, const struct fr_session_force *force, int batch)
{
	for (int n = s->device_layers; s->dev->ops->home && n >= 0; n--)
		if (would_fit(s, force, batch, n))
			return n;
	return -1;
}

static void advise(const struct fr_session *s, const struct fr_session_force *force, char *buf, size_t size)
{
	int batch = s->o.batch, layers = layers_that_fit(s, force, batch);

	while (batch > 0 && !would_fit(s, force, batch, s->device_layers))
		batch--;
	if (batch > 0 && layers >= 0)
		snprintf(buf, size, "--batch %d or --gpu-layers %d would fit", batch, layers);
	else if (batch > 0)
		snprintf(buf, size, "--batch %d would fit", batch);
	else if (layers >= 0)
		snprintf(buf, size, "--gpu-layers %d would fit", layers);
	else if ((layers = layers_that_fit(s, force, 1)) >= 0)
		snprintf(buf, size, "--batch 1 with --gpu-layers %d would fit", layers);
	else if (s->dev->maps)
		snprintf(buf, size, "it would not fit with a batch of 1; fewer --max-tokens take less");
	else
		snprintf(
			buf, size,
			"it would not fit with a batch of 1 and all of the decoder's layers on the host; --backend cpu "
			"takes none of it");
}

char *fr_size_text(size_t bytes, char *buf, size_t size)
{
	static const char *const units[] = {"KiB", "MiB", "GiB", "TiB"};
	double v = (double)bytes / KIB;
	int i = 0;

	for (; v >= KIB && i < 3; i++)
		v /= KIB;
	snprintf(buf, size, "%.1f %s", v, units[i]);
	return buf;
}

static int too_large(const struct fr_session *s, const struct fr_session_force *force, struct fr_error *err)
{
	const struct fr_needs *n = &s->needs;
	char all[32], weights[32], plan[32], room[32], total[32], advice[128];

	advise(s, force, advice, sizeof advice);
	return fr_fail(err, FR_E_MEMORY,
		       "%s takes %s of %s (weights %s, buffers for a batch of %d %s), but %s has %s free of %s; %s",
		       s->model->desc.name, fr_size_text(n->weights.device + n->plan, all, sizeof all),
		       s->dev->maps ? "memory besides its mapped weights" : "device memory",
		       fr_size_text(n->weights.device, weights, sizeof weights), s->o.batch,
		       fr_size_text(n->plan, plan, sizeof plan), s->dev->device ? s->dev->device : "this machine",
		       fr_size_text(n->free, room, sizeof room), fr_size_text(n->total, total, sizeof total), advice);
}

/* Weights that are mapped take what is left, less a share for everything else that is read meanwhile. */
static size_t room_for_mapped(size_t left, size_t total, size_t taken)
{
	taken += total / SPARE_SHARE;
	return taken < left ? left - taken : 0;
}

static size_t room_beside(const struct fr_session *s)
{
	const struct fr_needs *n = &s->needs;

	return room_for_mapped(n->free, n->total, n->weights.device + n->plan);
}

static int layers_that_stay(const struct fr_session *s)
{
	if (!s->dev->maps || !s->needs.total)
		return s->model->desc.text.layers;
	return fr_layers_that_stay(&s->model->desc, &s->model->weights, room_beside(s));
}

static void settle_mapped(struct fr_session *s)
{
	const struct fr_needs *n = &s->needs;
	const size_t room = room_beside(s);
	const int layers = s->model->desc.text.layers;
	char all[32], cache[32];

	s->stay = layers_that_stay(s);
	s->streamed[0] = 0;
	if (s->stay < layers)
		snprintf(s->streamed, sizeof s->streamed,
			 "weights %s, memory for them %s: %d of %d decoder layers stay in it, the others are read from "
			 "disk for every token, those of the encoders for every image",
			 fr_size_text(n->weights.mapped, all, sizeof all), fr_size_text(room, cache, sizeof cache),
			 s->stay, layers);
}

int fr_layers_that_stay_now(const struct fr_session *s)
{
	size_t left, total;

	s->dev->ops->room(s->dev, &left, &total);
	return fr_layers_that_stay(&s->model->desc, &s->model->weights, room_for_mapped(left, total, 0));
}

/* Before memory is looked at. Texts gain where weights read once serve several; a verdict alone has none. */
static int wished_batch(const struct fr_session *s)
{
	const size_t results = s->o.images * (size_t)s->n_questions;
	const int gains = !s->o.verdict_only && s->dev->row_cost < 1;
	const int batch = gains ? max(MOST_TEXTS, s->dev->together) : s->dev->together;

	return results && results < (size_t)batch ? (int)results : batch;
}

/* A batch that nobody asked for takes no memory that the weights could use. */
static void shrink_batch(struct fr_session *s, const struct fr_session_force *force)
{
	struct fr_session one = *s;

	one.o.batch = 1;
	size_up(&one, force);
	while (s->o.batch > 1 && (!fits(s) || layers_that_stay(s) < layers_that_stay(&one))) {
		s->o.batch /= 2;
		size_up(s, force);
	}
}

int fr_lay_out(struct fr_session *s, const struct fr_session_force *force, struct fr_error *err)
{
	const int layers = s->model->desc.text.layers, wanted = s->o.gpu_layers, asked = s->o.batch;

	s->device_layers = wanted < 0 ? 0 : wanted == 0 || wanted > layers ? layers : wanted;
	if (!s->dev->ops->home)
		s->device_layers = layers;
	if (s->dev->ops->room)
		s->dev->ops->room(s->dev, &s->needs.free, &s->needs.total);
	if (!asked)
		s->o.batch = wished_batch(s);
	size_up(s, force);
	if (!asked)
		shrink_batch(s, force);
	settle_mapped(s);
	return fits(s) ? 0 : too_large(s, force, err);
}
