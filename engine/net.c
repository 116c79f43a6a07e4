/* The bound weights handed to a device, role by role: see net.h. */
#include "net.h"

#include <math.h>
#include <stdlib.h>

float fr_attn_scale(int head_dim)
{
	return (float)(1.0 / sqrt((double)head_dim));
}

/* An absent optional tensor (data NULL) stays NULL. */
static int vec(struct fr_dev *dev, const struct fr_tensor *t, const float **out, struct fr_error *err)
{
	*out = NULL;
	return t->data ? dev->ops->vector(dev, t, out, err) : 0;
}

static int mat(struct fr_dev *dev, const struct fr_tensor *t, struct fr_mat *out, struct fr_error *err)
{
	return dev->ops->weight(dev, t, out, err);
}

static int proj(struct fr_dev *dev, const struct fr_tensor *w, const struct fr_tensor *b, struct fr_proj_mat *out,
		struct fr_error *err)
{
	FR_TRY(mat(dev, w, &out->w, err));
	return vec(dev, b, &out->b, err);
}

static int load_vit_layer(struct fr_vit_layer *l, struct fr_dev *dev, const struct fr_vit_layer_weights *w,
			  struct fr_error *err)
{
	FR_TRY(vec(dev, &w->ln1_w, &l->ln1_w, err));
	FR_TRY(vec(dev, &w->ln1_b, &l->ln1_b, err));
	FR_TRY(vec(dev, &w->ln2_w, &l->ln2_w, err));
	FR_TRY(vec(dev, &w->ln2_b, &l->ln2_b, err));
	FR_TRY(vec(dev, &w->ls1, &l->ls1, err));
	FR_TRY(vec(dev, &w->ls2, &l->ls2, err));
	FR_TRY(proj(dev, &w->q_w, &w->q_b, &l->q, err));
	FR_TRY(proj(dev, &w->k_w, &w->k_b, &l->k, err));
	FR_TRY(proj(dev, &w->v_w, &w->v_b, &l->v, err));
	FR_TRY(proj(dev, &w->o_w, &w->o_b, &l->o, err));
	FR_TRY(proj(dev, &w->fc1_w, &w->fc1_b, &l->fc1, err));
	return proj(dev, &w->fc2_w, &w->fc2_b, &l->fc2, err);
}

static int load_vit(struct fr_vit *v, struct fr_dev *dev, const struct fr_vit_desc *d, const struct fr_vit_weights *w,
		    const struct fr_proj_weights *p, struct fr_error *err)
{
	v->d = d;
	v->layer = calloc((size_t)d->run + 1, sizeof *v->layer);
	if (!v->layer)
		return fr_fail(err, FR_E_MEMORY, "no memory for a table of %d encoder layers", d->run);
	FR_TRY(proj(dev, &w->patch_w, &w->patch_b, &v->patch, err));
	FR_TRY(vec(dev, &w->cls, &v->cls, err));
	FR_TRY(vec(dev, &w->pos, &v->pos, err));
	FR_TRY(vec(dev, &w->pre_w, &v->pre_w, err));
	FR_TRY(vec(dev, &w->pre_b, &v->pre_b, err));
	for (int i = 0; i < d->run; i++)
		FR_TRY(load_vit_layer(&v->layer[i], dev, &w->layer[i], err));
	FR_TRY(proj(dev, &p->l1_w, &p->l1_b, &v->l1, err));
	return proj(dev, &p->l2_w, &p->l2_b, &v->l2, err);
}

static int load_text_layer(struct fr_text_layer *l, struct fr_dev *dev, const struct fr_text_layer_weights *w,
			   struct fr_error *err)
{
	FR_TRY(vec(dev, &w->norm1, &l->norm1, err));
	FR_TRY(vec(dev, &w->norm2, &l->norm2, err));
	FR_TRY(mat(dev, &w->q, &l->q, err));
	FR_TRY(mat(dev, &w->k, &l->k, err));
	FR_TRY(mat(dev, &w->v, &l->v, err));
	FR_TRY(mat(dev, &w->o, &l->o, err));
	FR_TRY(mat(dev, &w->gate, &l->gate, err));
	FR_TRY(mat(dev, &w->up, &l->up, err));
	return mat(dev, &w->down, &l->down, err);
}

int fr_net_load(struct fr_net *net, struct fr_dev *dev, const struct fr_model_desc *d, const struct fr_weights *w,
		struct fr_error *err)
{
	net->d = d;
	for (int i = 0; i < d->n_branch; i++)
		FR_TRY(load_vit(&net->vit[i], dev, &d->vit[i], &w->vit[i], &w->proj[i], err));
	net->text.d = &d->text;
	net->text.layer = calloc((size_t)d->text.layers, sizeof *net->text.layer);
	if (!net->text.layer)
		return fr_fail(err, FR_E_MEMORY, "no memory for a table of %d decoder layers", d->text.layers);
	FR_TRY(mat(dev, &w->embed, &net->text.embed, err));
	FR_TRY(mat(dev, &w->lm_head, &net->text.lm_head, err));
	FR_TRY(vec(dev, &w->norm, &net->text.norm, err));
	for (int i = 0; i < d->text.layers; i++)
		FR_TRY(load_text_layer(&net->text.layer[i], dev, &w->layer[i], err));
	return 0;
}

void fr_net_free(struct fr_net *net)
{
	for (int i = 0; i < FR_MAX_BRANCHES; i++)
		free(net->vit[i].layer);
	free(net->text.layer);
	memset(net, 0, sizeof *net);
}
