/* The Llama decoder, once for prefill and step, for any number of sequences.
 *
 *   x = rows of the embedding table, or image rows
 *   for each layer:  h = RMS1(x);  q, k, v of h;  rotate q, k by position;  keep k, v;  x += o(attn(q, cache))
 *                    h = RMS2(x);  x += down(silu(gate h) * up h)
 *   logits = lm_head(RMS(x)), for the rows asked for only
 *
 * A matrix with an adapter is W x + scale * (B (A x)): two thin products behind the large one, whose bits are those of
 * a matrix without.
 *
 * The surprise: nothing here but the choice of the logits' rows knows how many sequences there are; each row carries
 * its own sequence and position. */
#include "net.h"

struct pass {
	const struct fr_text *t;
	struct fr_dev *dev;
	const struct fr_text_buffers *b;
	const struct fr_text_call *c;
};

static void norm(const struct pass *p, const float *x, const float *w, float *y, int rows)
{
	p->dev->ops->norm(p->dev, &(struct fr_norm){.x = x,
						    .weight = w,
						    .eps = p->t->d->eps,
						    .y = y,
						    .rows = rows,
						    .dim = p->t->d->dim,
						    .phase = p->c->phase});
}

static struct fr_linear product(const struct pass *p, const float *x, const struct fr_mat *w, float *y, int rows)
{
	return (struct fr_linear){.x = x, .w = *w, .y = y, .rows = rows, .phase = p->c->phase};
}

static void linear(const struct pass *p, const float *x, const struct fr_mat *w, const float *residual, float *y,
		   int rows)
{
	struct fr_linear a = product(p, x, w, y, rows);

	a.residual = residual;
	p->dev->ops->linear(p->dev, &a);
}

/* y += scale * B (A x), for one matrix with an adapter or for several of the same x: the A's are one call. */
struct adapted {
	const struct fr_lora_mat *m;
	float *y;
};

static void adapt(const struct pass *p, const float *x, const struct adapted *all, int n)
{
	const size_t size = (size_t)p->c->rows * (size_t)p->t->d->lora_rank;
	struct fr_linear a[FR_MAX_ALSO];
	int used = 0;

	for (int i = 0; i < n; i++) {
		if (!all[i].m->a.data)
			continue;
		a[used] = product(p, x, &all[i].m->a, p->b->t + (size_t)i * size, p->c->rows);
		if (used)
			a[used - 1].also = &a[used];
		used++;
	}
	if (!used)
		return;
	p->dev->ops->linear(p->dev, a);
	for (int i = 0; i < n; i++) {
		struct fr_linear b = product(p, p->b->t + (size_t)i * size, &all[i].m->b, all[i].y, p->c->rows);
		b.scale = p->t->lora_scale;
		b.residual = all[i].y;
		if (all[i].m->a.data)
			p->dev->ops->linear(p->dev, &b);
	}
}

static void tap(const struct pass *p, const char *name, int layer, const float *x, int cols)
{
	fr_tap_put(p->c->tap, p->dev, "decoder", name, layer, x, (size_t)p->c->rows * (size_t)cols);
}

/* x += w in; the product alone, as the reference's module gives it, goes to the tap. h is free here. */
static void add(const struct pass *p, const float *in, const struct fr_mat *w, const struct fr_lora_mat *lora,
		const char *tap_name, int layer)
{
	if (fr_tap_wants(p->c->tap, "decoder", tap_name, layer)) {
		linear(p, in, w, NULL, p->b->h, p->c->rows);
		adapt(p, in, &(struct adapted){lora, p->b->h}, 1);
		tap(p, tap_name, layer, p->b->h, w->rows);
	}
	linear(p, in, w, p->b->x, p->b->x, p->c->rows);
	adapt(p, in, &(struct adapted){lora, p->b->x}, 1);
}

/* q, k and v of b->h. */
static void project(const struct pass *p, const struct fr_text_layer *l)
{
	const struct fr_text_buffers *b = p->b;
	struct fr_linear v = product(p, b->h, &l->v, b->v, p->c->rows), k = product(p, b->h, &l->k, b->k, p->c->rows),
			 q = product(p, b->h, &l->q, b->q, p->c->rows);

	k.also = &v;
	q.also = &k;
	p->dev->ops->linear(p->dev, &q);
	adapt(p, b->h,
	      (struct adapted[]){{&l->lora[FR_LORA_Q], b->q}, {&l->lora[FR_LORA_K], b->k}, {&l->lora[FR_LORA_V], b->v}},
	      3);
}

/* g = silu(gate h) * up h, as one operation where both are plain matrices. */
static void gate(const struct pass *p, const struct fr_text_layer *l)
{
	const struct fr_lora_mat *of_gate = &l->lora[FR_LORA_GATE], *of_up = &l->lora[FR_LORA_UP];
	const struct fr_text_buffers *b = p->b;
	const int rows = p->c->rows;
	struct fr_linear up = product(p, b->h, &l->up, b->u, rows), g = product(p, b->h, &l->gate, b->g, rows);

	if (!of_gate->a.data && !of_up->a.data) {
		p->dev->ops->glu(p->dev, &(struct fr_glu){.x = b->h,
							  .gate = l->gate,
							  .up = l->up,
							  .y = b->g,
							  .rows = rows,
							  .phase = p->c->phase});
		return;
	}
	g.also = &up;
	p->dev->ops->linear(p->dev, &g);
	adapt(p, b->h, (struct adapted[]){{of_gate, b->g}, {of_up, b->u}}, 2);
	p->dev->ops->gate(
		p->dev,
		&(struct fr_gate){
			.gate = b->g, .up = b->u, .y = b->g, .rows = rows, .cols = l->gate.rows, .phase = p->c->phase});
}

static void attention(const struct pass *p, int i)
{
	const struct fr_text_desc *d = p->t->d;
	const struct fr_text_buffers *b = p->b;
	const struct fr_text_call *c = p->c;

	p->dev->ops->rope(p->dev, &(struct fr_rope){.q = b->q,
						    .k = b->k,
						    .v = b->v,
						    .cos = b->cos,
						    .sin = b->sin,
						    .row = c->row,
						    .rows = c->rows,
						    .heads = d->heads,
						    .kv = c->kv,
						    .layer = i});
	p->dev->ops->attn(p->dev, &(struct fr_attn){.q = b->q,
						    .y = b->a,
						    .rows = c->rows,
						    .heads = d->heads,
						    .head_dim = d->head_dim,
						    .scale = fr_attn_scale(d->head_dim),
						    .kv = c->kv,
						    .layer = i,
						    .row = c->row,
						    .phase = c->phase});
}

static void layer(const struct pass *p, int i)
{
	const struct fr_text_layer *l = &p->t->layer[i];
	const struct fr_text_desc *d = p->t->d;
	const struct fr_text_buffers *b = p->b;
	const int rows = p->c->rows;

	norm(p, b->x, l->norm1, b->h, rows);
	tap(p, "layer.%d.attn_in", i, b->h, d->dim);
	project(p, l);
	tap(p, "layer.%d.q", i, b->q, d->heads * d->head_dim);
	tap(p, "layer.%d.k", i, b->k, d->kv_heads * d->head_dim);
	tap(p, "layer.%d.v", i, b->v, d->kv_heads * d->head_dim);
	attention(p, i);
	add(p, b->a, &l->o, &l->lora[FR_LORA_O], "layer.%d.attn_out", i);
	norm(p, b->x, l->norm2, b->h, rows);
	tap(p, "layer.%d.mlp_in", i, b->h, d->dim);
	gate(p, l);
	add(p, b->g, &l->down, &l->lora[FR_LORA_DOWN], "layer.%d.mlp_out", i);
	tap(p, "layer.%d", i, b->x, d->dim);
}

void fr_text_forward(const struct fr_net *net, struct fr_dev *dev, const struct fr_text_buffers *b,
		     const struct fr_text_call *c)
{
	const struct fr_text *t = &net->text;
	const struct pass p = {.t = t, .dev = dev, .b = b, .c = c};
	const size_t dim = (size_t)t->d->dim, logits = (size_t)c->n_logits;

	dev->ops->embed(
		dev,
		&(struct fr_embed){.ids = c->ids, .table = t->embed, .images = c->images, .y = b->x, .rows = c->rows});
	tap(&p, "embed", 0, b->x, t->d->dim);
	for (int i = 0; i < t->d->layers; i++) {
		fr_stream_layer(c->stream, i);
		layer(&p, i);
	}
	fr_stream_layer(c->stream, t->d->layers);
	if (fr_tap_wants(c->tap, "decoder", "norm", 0)) {
		norm(&p, b->x, t->norm, b->h, c->rows);
		tap(&p, "norm", 0, b->h, t->d->dim);
	}
	for (size_t i = 0; i < (size_t)c->shares; i++)
		norm(&p, b->x + ((size_t)c->end[i] - logits) * dim, t->norm, b->h + i * logits * dim, c->n_logits);
	linear(&p, b->h, &t->lm_head, NULL, b->logits, c->shares * c->n_logits);
}
