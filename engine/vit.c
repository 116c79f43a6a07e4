/* The vision transformer, once for all encoders, and the projector behind it.
 *
 *   x = patches(pixels) with class token and positions;  [x = LN(x)]
 *   for each layer that runs:  x += ls1 * o(attn(q, k, v of LN1(x)));  x += ls2 * fc2(act(fc1(LN2(x))))
 *   features = rows 1.. of x (the class token is dropped, no final norm);  rows = l2(act(l1(features)))
 *
 * Several images go through together, their rows one after the other; only attention and the class rows tell them
 * apart. The softmax of the last layer that runs is made once more, by itself, where a fusion or a map of evidence
 * needs it: attention never has it in memory.
 *
 * The surprise: the last layer of CLIP never runs, since the features are those of layer -2. */
#include "net.h"

struct pass {
	const struct fr_vit *v;
	struct fr_dev *dev;
	const struct fr_vit_buffers *b;
	struct fr_tap *tap;
	int images;
	int rows;    /* of one image: class token and patches */
	float *heat; /* b->heat where this branch is the one looked at */
};

static void norm(const struct pass *p, const float *x, const float *w, const float *bias, float *y)
{
	p->dev->ops->norm(p->dev, &(struct fr_norm){.x = x,
						    .weight = w,
						    .bias = bias,
						    .eps = p->v->d->eps,
						    .y = y,
						    .rows = p->images * p->rows,
						    .dim = p->v->d->dim,
						    .phase = FR_PREFILL});
}

static struct fr_linear product(const float *x, const struct fr_proj_mat *m, enum fr_act act, float *y, int rows)
{
	return (struct fr_linear){
		.x = x, .w = m->w, .bias = m->b, .act = act, .y = y, .rows = rows, .phase = FR_PREFILL};
}

static void linear(const struct pass *p, const float *x, const struct fr_proj_mat *m, enum fr_act act, float *y)
{
	const struct fr_linear a = product(x, m, act, y, p->images * p->rows);

	p->dev->ops->linear(p->dev, &a);
}

/* x += scale * (m in + bias); the product alone, as the reference's module gives it, goes to the tap. h is free here.
 */
static void add(const struct pass *p, const float *in, const struct fr_proj_mat *m, const float *scale,
		const char *tap_name, int layer)
{
	struct fr_linear a;

	if (fr_tap_wants(p->tap, p->v->d->role, tap_name, layer)) {
		linear(p, in, m, FR_ACT_NONE, p->b->h);
		fr_tap_put(p->tap, p->dev, p->v->d->role, tap_name, layer, p->b->h,
			   (size_t)p->rows * (size_t)m->w.rows);
	}
	a = product(in, m, FR_ACT_NONE, p->b->x, p->images * p->rows);
	a.scale = scale;
	a.residual = p->b->x;
	p->dev->ops->linear(p->dev, &a);
}

/* The first image's rows. */
static void tap(const struct pass *p, const char *name, int layer, const float *x, int cols)
{
	fr_tap_put(p->tap, p->dev, p->v->d->role, name, layer, x, (size_t)p->rows * (size_t)cols);
}

/* q, k and v of b->h. */
static void project(const struct pass *p, const struct fr_vit_layer *l)
{
	const struct fr_vit_buffers *b = p->b;
	const int rows = p->images * p->rows;
	struct fr_linear v = product(b->h, &l->v, FR_ACT_NONE, b->v, rows),
			 k = product(b->h, &l->k, FR_ACT_NONE, b->k, rows),
			 q = product(b->h, &l->q, FR_ACT_NONE, b->q, rows);

	k.also = &v;
	q.also = &k;
	p->dev->ops->linear(p->dev, &q);
}

/* The attention of the first `rows` rows of each image to all rows: map [images, heads, rows, p->rows]. */
static void look(const struct pass *p, int rows, float *map)
{
	const struct fr_vit_desc *d = p->v->d;

	p->dev->ops->attn_map(p->dev, &(struct fr_attn_map){.q = p->b->q,
							    .q_rows = p->rows,
							    .rows = rows,
							    .k = p->b->k,
							    .items = p->images,
							    .kv_rows = p->rows,
							    .heads = d->heads,
							    .head_dim = d->dim / d->heads,
							    .scale = fr_attn_scale(d->dim / d->heads),
							    .map = map});
}

static void look_last(const struct pass *p)
{
	if (p->v->d->maps) {
		look(p, p->rows, p->b->map);
		tap(p, "attention", 0, p->b->map, p->v->d->heads * p->rows);
	}
	if (p->heat)
		look(p, 1, p->heat);
}

static void layer(const struct pass *p, int i)
{
	const struct fr_vit_layer *l = &p->v->layer[i];
	const struct fr_vit_desc *d = p->v->d;
	const struct fr_vit_buffers *b = p->b;
	const int head_dim = d->dim / d->heads;

	norm(p, b->x, l->ln1_w, l->ln1_b, b->h);
	tap(p, "layer.%d.attn_in", i, b->h, d->dim);
	project(p, l);
	tap(p, "layer.%d.q", i, b->q, d->dim);
	tap(p, "layer.%d.k", i, b->k, d->dim);
	tap(p, "layer.%d.v", i, b->v, d->dim);
	if (i == d->run - 1)
		look_last(p);
	p->dev->ops->attn(p->dev, &(struct fr_attn){.q = b->q,
						    .y = b->a,
						    .items = p->images,
						    .rows = p->rows,
						    .heads = d->heads,
						    .head_dim = head_dim,
						    .scale = fr_attn_scale(head_dim),
						    .k = b->k,
						    .v = b->v,
						    .kv_rows = p->rows,
						    .weights = l->q.w.dtype,
						    .phase = FR_PREFILL});
	add(p, b->a, &l->o, l->ls1, "layer.%d.attn_out", i);
	norm(p, b->x, l->ln2_w, l->ln2_b, b->h);
	tap(p, "layer.%d.mlp_in", i, b->h, d->dim);
	linear(p, b->h, &l->fc1, d->act, b->m);
	add(p, b->m, &l->fc2, l->ls2, "layer.%d.mlp_out", i);
	tap(p, "layer.%d", i, b->x, d->dim);
}

/* The first product skips each image's class row, the second takes all rows at once. */
void fr_vit_project(const struct fr_net *net, int branch, struct fr_dev *dev, const struct fr_vit_buffers *b,
		    int images, float *rows)
{
	const struct fr_vit *v = &net->vit[branch];
	const size_t dim = (size_t)v->d->dim, patches = (size_t)net->d->n_image;
	const struct fr_linear last = product(b->m, &v->l2, FR_ACT_NONE, rows, images * net->d->n_image);

	for (size_t i = 0; i < (size_t)images; i++) {
		const struct fr_linear a = product(b->x + (i * (1 + patches) + 1) * dim, &v->l1, net->d->proj_act,
						   b->m + i * patches * (size_t)v->l1.w.rows, net->d->n_image);
		dev->ops->linear(dev, &a);
	}
	dev->ops->linear(dev, &last);
}

void fr_vit_forward(const struct fr_net *net, int branch, struct fr_dev *dev, const struct fr_vit_buffers *b,
		    const float *pixels, int images, float *rows, struct fr_tap *sink)
{
	const struct fr_vit *v = &net->vit[branch];
	const int two = net->d->n_branch > 1;
	struct pass p = {.v = v,
			 .dev = dev,
			 .b = b,
			 .tap = sink,
			 .images = images,
			 .rows = 1 + net->d->n_image,
			 .heat = branch == net->d->look ? b->heat : NULL};

	dev->ops->patch(dev, &(struct fr_patch){.pixels = pixels,
						.images = images,
						.image = v->d->image,
						.patch = v->d->patch,
						.w = v->patch.w,
						.bias = v->patch.b,
						.cls = v->cls,
						.pos = v->pos,
						.y = b->x});
	if (v->pre_w)
		norm(&p, b->x, v->pre_w, v->pre_b, b->x);
	tap(&p, "embed", 0, b->x, v->d->dim);
	for (int i = 0; i < v->d->run; i++)
		layer(&p, i);
	p.rows = net->d->n_image;
	tap(&p, "features", 0, b->x + v->d->dim, v->d->dim);
	fr_vit_project(net, branch, dev, b, images, rows);
	fr_tap_put(sink, dev, two ? v->d->role : "projector", two ? "projector.out" : "out", 0, rows,
		   (size_t)p.rows * (size_t)v->l2.w.rows);
}
