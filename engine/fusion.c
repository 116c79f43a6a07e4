/* Two branches become one: the rows of the first attend to those of the second, with a bias that comes from where the
 * second's own last layer looked.
 *
 *   bias = conv1x1(gelu(conv1x1(log(map without the class token + offset))))       over the heads of the map
 *   x = LN1(rows + o(softmax(q(rows) k(kv)^T / sqrt(head_dim) + bias) v(kv)))
 *   rows = LN2(x + fc2(relu(fc1(x))))
 *
 * Several images go through together, as in the encoder. rows is the residual stream and is worked on in place.
 *
 * The surprises: the norms come after the sums, not before the modules; and the map is not brought back to a sum of one
 * when its class token is cut off. */
#include "net.h"

struct pass {
	const struct fr_net *net;
	struct fr_dev *dev;
	const struct fr_fusion_buffers *b;
	struct fr_tap *tap;
	int images;
};

static struct fr_linear product(const struct pass *p, const float *x, const struct fr_proj_mat *m, float *y)
{
	return (struct fr_linear){
		.x = x, .w = m->w, .bias = m->b, .y = y, .rows = p->images * p->net->d->n_image, .phase = FR_PREFILL};
}

/* x += m in */
static void add(const struct pass *p, const float *in, const struct fr_proj_mat *m, float *x)
{
	struct fr_linear a = product(p, in, m, x);

	a.residual = x;
	p->dev->ops->linear(p->dev, &a);
}

static void norm(const struct pass *p, float *x, const float *w, const float *bias)
{
	p->dev->ops->norm(p->dev, &(struct fr_norm){.x = x,
						    .weight = w,
						    .bias = bias,
						    .eps = p->net->d->fusion.eps,
						    .y = x,
						    .rows = p->images * p->net->d->n_image,
						    .dim = p->net->d->text.dim,
						    .phase = FR_PREFILL});
}

static void make_bias(const struct pass *p, const float *map)
{
	const struct fr_fusion_desc *d = &p->net->d->fusion;
	const struct fr_fusion *f = &p->net->fusion;
	const int n = p->net->d->n_image;

	p->dev->ops->map_bias(p->dev, &(struct fr_map_bias){.map = map,
							    .items = p->images,
							    .heads = d->heads,
							    .mid = d->mid,
							    .n = n,
							    .offset = d->log_offset,
							    .w1 = f->bias1_w,
							    .b1 = f->bias1_b,
							    .w2 = f->bias2_w,
							    .b2 = f->bias2_b,
							    .y = p->b->bias});
	fr_tap_put(p->tap, p->dev, "fusion", "bias", 0, p->b->bias, (size_t)d->heads * (size_t)n * (size_t)n);
}

/* q of rows; k and v of kv in one call. */
static void project(const struct pass *p, const float *rows)
{
	const struct fr_fusion *f = &p->net->fusion;
	const struct fr_fusion_buffers *b = p->b;
	struct fr_linear v = product(p, b->kv, &f->v, b->v), k = product(p, b->kv, &f->k, b->k),
			 q = product(p, rows, &f->q, b->q);

	k.also = &v;
	p->dev->ops->linear(p->dev, &q);
	p->dev->ops->linear(p->dev, &k);
}

static void attention(const struct pass *p)
{
	const struct fr_fusion_desc *d = &p->net->d->fusion;
	const struct fr_fusion_buffers *b = p->b;
	const int head_dim = p->net->d->text.dim / d->heads;

	p->dev->ops->attn(p->dev, &(struct fr_attn){.q = b->q,
						    .y = b->a,
						    .items = p->images,
						    .rows = p->net->d->n_image,
						    .heads = d->heads,
						    .head_dim = head_dim,
						    .scale = fr_attn_scale(head_dim),
						    .k = b->k,
						    .v = b->v,
						    .kv_rows = p->net->d->n_image,
						    .bias = b->bias,
						    .phase = FR_PREFILL});
}

void fr_fusion_forward(const struct fr_net *net, struct fr_dev *dev, const struct fr_fusion_buffers *b,
		       const float *map, int images, float *rows, struct fr_tap *tap)
{
	const struct pass p = {.net = net, .dev = dev, .b = b, .tap = tap, .images = images};
	const struct fr_fusion *f = &net->fusion;
	struct fr_linear fc1;

	make_bias(&p, map);
	project(&p, rows);
	attention(&p);
	add(&p, b->a, &f->o, rows);
	norm(&p, rows, f->norm1_w, f->norm1_b);
	fc1 = product(&p, rows, &f->fc1, b->m);
	fc1.act = FR_ACT_RELU;
	dev->ops->linear(dev, &fc1);
	add(&p, b->m, &f->fc2, rows);
	norm(&p, rows, f->norm2_w, f->norm2_b);
	fr_tap_put(tap, dev, "fusion", "out", 0, rows, (size_t)net->d->n_image * (size_t)net->d->text.dim);
}
