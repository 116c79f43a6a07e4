/* The bound weights handed to a device, role by role: see net.h.
 *
 * One walk over all weights both loads and measures: without a device it only counts. */
#include "net.h"

#include <math.h>
#include <stdlib.h>

float fr_attn_scale(int head_dim)
{
	return (float)(1.0 / sqrt((double)head_dim));
}

struct walk {
	struct fr_dev *dev; /* NULL: count only */
	struct fr_error *err;
	int maps; /* as the device's */
	enum fr_home home;
	size_t bytes[FR_HOME_HOST + 1], mapped;
	size_t near; /* the largest matrix on the host */
};

/* Devices round blocks and rows up: rows to 16 bytes, blocks to 512. */
static size_t count(struct walk *w, size_t rows, size_t row_bytes, enum fr_home home)
{
	const size_t bytes = (rows * ((row_bytes + 15) / 16 * 16) + 511) / 512 * 512;

	w->bytes[home] += bytes;
	return bytes;
}

/* An absent optional tensor (data NULL) stays NULL. */
static int vec(struct walk *w, const struct fr_tensor *t, const float **out)
{
	*out = NULL;
	if (!t->data)
		return 0;
	count(w, 1, fr_tensor_items(t) * sizeof(float), FR_HOME_DEVICE);
	return w->dev ? w->dev->ops->vector(w->dev, t, out, w->err) : 0;
}

static int mat(struct walk *w, const struct fr_tensor *t, struct fr_mat *out)
{
	const size_t rows = t->ndim ? (size_t)t->shape[0] : 1;
	size_t bytes;

	if (w->maps && (uintptr_t)t->data % (uintptr_t)fr_dtypes[t->dtype].align == 0) {
		w->mapped += t->bytes;
		return w->dev ? w->dev->ops->weight(w->dev, t, out, w->err) : 0;
	}
	bytes = count(w, rows, t->bytes / rows, w->home);
	if (w->home == FR_HOME_HOST && bytes > w->near)
		w->near = bytes;
	return w->dev ? w->dev->ops->weight(w->dev, t, out, w->err) : 0;
}

static int proj(struct walk *w, const struct fr_tensor *m, const struct fr_tensor *b, struct fr_proj_mat *out)
{
	FR_TRY(mat(w, m, &out->w));
	return vec(w, b, &out->b);
}

static int walk_vit_layer(struct walk *w, const struct fr_vit_layer_weights *t, struct fr_vit_layer *l)
{
	FR_TRY(vec(w, &t->ln1_w, &l->ln1_w));
	FR_TRY(vec(w, &t->ln1_b, &l->ln1_b));
	FR_TRY(vec(w, &t->ln2_w, &l->ln2_w));
	FR_TRY(vec(w, &t->ln2_b, &l->ln2_b));
	FR_TRY(vec(w, &t->ls1, &l->ls1));
	FR_TRY(vec(w, &t->ls2, &l->ls2));
	FR_TRY(proj(w, &t->q_w, &t->q_b, &l->q));
	FR_TRY(proj(w, &t->k_w, &t->k_b, &l->k));
	FR_TRY(proj(w, &t->v_w, &t->v_b, &l->v));
	FR_TRY(proj(w, &t->o_w, &t->o_b, &l->o));
	FR_TRY(proj(w, &t->fc1_w, &t->fc1_b, &l->fc1));
	return proj(w, &t->fc2_w, &t->fc2_b, &l->fc2);
}

/* layers [d->run], or one that each is written to when nothing is kept. */
static int walk_vit(struct walk *w, const struct fr_vit_desc *d, const struct fr_vit_weights *t,
		    const struct fr_proj_weights *p, struct fr_vit *v)
{
	struct fr_vit_layer unkept;

	FR_TRY(proj(w, &t->patch_w, &t->patch_b, &v->patch));
	FR_TRY(vec(w, &t->cls, &v->cls));
	FR_TRY(vec(w, &t->pos, &v->pos));
	FR_TRY(vec(w, &t->pre_w, &v->pre_w));
	FR_TRY(vec(w, &t->pre_b, &v->pre_b));
	for (int i = 0; i < d->run; i++)
		FR_TRY(walk_vit_layer(w, &t->layer[i], v->layer ? &v->layer[i] : &unkept));
	FR_TRY(proj(w, &p->l1_w, &p->l1_b, &v->l1));
	return proj(w, &p->l2_w, &p->l2_b, &v->l2);
}

static int walk_fusion(struct walk *w, const struct fr_fusion_weights *t, struct fr_fusion *f)
{
	FR_TRY(vec(w, &t->bias1_w, &f->bias1_w));
	FR_TRY(vec(w, &t->bias1_b, &f->bias1_b));
	FR_TRY(vec(w, &t->bias2_w, &f->bias2_w));
	FR_TRY(vec(w, &t->bias2_b, &f->bias2_b));
	FR_TRY(proj(w, &t->q_w, &t->q_b, &f->q));
	FR_TRY(proj(w, &t->k_w, &t->k_b, &f->k));
	FR_TRY(proj(w, &t->v_w, &t->v_b, &f->v));
	FR_TRY(proj(w, &t->o_w, &t->o_b, &f->o));
	FR_TRY(vec(w, &t->norm1_w, &f->norm1_w));
	FR_TRY(vec(w, &t->norm1_b, &f->norm1_b));
	FR_TRY(proj(w, &t->fc1_w, &t->fc1_b, &f->fc1));
	FR_TRY(proj(w, &t->fc2_w, &t->fc2_b, &f->fc2));
	FR_TRY(vec(w, &t->norm2_w, &f->norm2_w));
	return vec(w, &t->norm2_b, &f->norm2_b);
}

static int walk_lora(struct walk *w, const struct fr_lora_weights *t, struct fr_lora_mat *l)
{
	if (!t->a.data)
		return 0;
	FR_TRY(mat(w, &t->a, &l->a));
	return mat(w, &t->b, &l->b);
}

static int walk_text_layer(struct walk *w, const struct fr_text_layer_weights *t, struct fr_text_layer *l)
{
	FR_TRY(vec(w, &t->norm1, &l->norm1));
	FR_TRY(vec(w, &t->norm2, &l->norm2));
	FR_TRY(mat(w, &t->q, &l->q));
	FR_TRY(mat(w, &t->k, &l->k));
	FR_TRY(mat(w, &t->v, &l->v));
	FR_TRY(mat(w, &t->o, &l->o));
	FR_TRY(mat(w, &t->gate, &l->gate));
	FR_TRY(mat(w, &t->up, &l->up));
	FR_TRY(mat(w, &t->down, &l->down));
	for (int i = 0; i < FR_LORAS; i++)
		FR_TRY(walk_lora(w, &t->lora[i], &l->lora[i]));
	return 0;
}

/* One number as a vector, for operations that scale each output by its own. */
static int walk_lora_scale(struct walk *w, const struct fr_text_desc *d, const float **out)
{
	const int q = d->heads * d->head_dim, most = d->ffn > d->dim ? d->ffn : d->dim, n = q > most ? q : most;
	const size_t bytes = (size_t)n * sizeof(float);
	float *values;
	void *there;

	*out = NULL;
	count(w, 1, bytes, FR_HOME_DEVICE);
	if (!w->dev)
		return 0;
	FR_TRY(w->dev->ops->alloc(w->dev, bytes, &there, w->err));
	values = malloc(bytes);
	if (!values)
		return fr_fail(w->err, FR_E_MEMORY, "no memory for a vector of %d items", n);
	for (int i = 0; i < n; i++)
		values[i] = (float)d->lora_scale;
	w->dev->ops->put(w->dev, there, values, bytes); /* vector() may read later than here */
	free(values);
	*out = there;
	return 0;
}

static void set_home(struct walk *w, enum fr_home home)
{
	w->home = home;
	if (w->dev && w->dev->ops->home)
		w->dev->ops->home(w->dev, home);
}

static int walk_text(struct walk *w, const struct fr_text_desc *d, const struct fr_weights *t, int device_layers,
		     struct fr_text *text)
{
	struct fr_text_layer unkept;

	FR_TRY(mat(w, &t->embed, &text->embed));
	if (t->lm_head.data == t->embed.data)
		text->lm_head = text->embed;
	else
		FR_TRY(mat(w, &t->lm_head, &text->lm_head));
	FR_TRY(vec(w, &t->norm, &text->norm));
	if (d->lora_rank)
		FR_TRY(walk_lora_scale(w, d, &text->lora_scale));
	for (int i = 0; i < d->layers; i++) {
		if (i == device_layers)
			set_home(w, FR_HOME_HOST);
		FR_TRY(walk_text_layer(w, &t->layer[i], text->layer ? &text->layer[i] : &unkept));
	}
	set_home(w, FR_HOME_DEVICE);
	return 0;
}

static int walk_all(struct walk *w, const struct fr_model_desc *d, const struct fr_weights *t, int device_layers,
		    struct fr_net *net)
{
	for (int i = 0; i < d->n_branch; i++)
		FR_TRY(walk_vit(w, &d->vit[i], &t->vit[i], &t->proj[i], &net->vit[i]));
	if (d->fusion.heads)
		FR_TRY(walk_fusion(w, &t->fusion, &net->fusion));
	return walk_text(w, &d->text, t, device_layers, &net->text);
}

int fr_net_load(struct fr_net *net, struct fr_dev *dev, const struct fr_model_desc *d, const struct fr_weights *t,
		int device_layers, struct fr_error *err)
{
	struct walk w = {.dev = dev, .err = err, .maps = dev->maps};

	net->d = d;
	net->text.d = &d->text;
	net->text.layer = calloc((size_t)d->text.layers, sizeof *net->text.layer);
	if (!net->text.layer)
		return fr_fail(err, FR_E_MEMORY, "no memory for a table of %d decoder layers", d->text.layers);
	for (int i = 0; i < d->n_branch; i++) {
		net->vit[i].d = &d->vit[i];
		net->vit[i].layer = calloc((size_t)d->vit[i].run + 1, sizeof *net->vit[i].layer);
		if (!net->vit[i].layer)
			return fr_fail(err, FR_E_MEMORY, "no memory for a table of %d encoder layers", d->vit[i].run);
	}
	return walk_all(&w, d, t, device_layers, net);
}

struct fr_net_bytes fr_net_measure(const struct fr_model_desc *d, const struct fr_weights *t, int device_layers,
				   const struct fr_dev *dev)
{
	struct fr_error unsaid;
	struct walk w = {.err = &unsaid, .maps = dev->maps};
	struct fr_net unkept = {.d = d};

	walk_all(&w, d, t, device_layers, &unkept);
	return (struct fr_net_bytes){.device = w.bytes[FR_HOME_DEVICE] + FR_HOME_NEAR * w.near,
				     .host = w.bytes[FR_HOME_HOST],
				     .mapped = w.mapped};
}

void fr_net_free(struct fr_net *net)
{
	for (int i = 0; i < FR_MAX_BRANCHES; i++)
		free(net->vit[i].layer);
	free(net->text.layer);
	memset(net, 0, sizeof *net);
}
