/* What the stages of a model cannot do without: operations from the description, bytes from the weights as they lie. */
#include "stage.h"

/* Of one layer's adapters. */
static double lora_params(const struct fr_text_desc *t)
{
	const double dim = t->dim, kv = (double)t->kv_heads * t->head_dim, q = (double)t->heads * t->head_dim;
	const double both[FR_LORAS] = {
		[FR_LORA_Q] = dim + q,	      [FR_LORA_K] = dim + kv,	     [FR_LORA_V] = dim + kv,
		[FR_LORA_O] = q + dim,	      [FR_LORA_GATE] = dim + t->ffn, [FR_LORA_UP] = dim + t->ffn,
		[FR_LORA_DOWN] = t->ffn + dim};
	double sum = 0;

	for (int i = 0; i < FR_LORAS; i++)
		sum += t->lora >> i & 1 ? t->lora_rank * both[i] : 0;
	return sum;
}

static double text_params(const struct fr_text_desc *t)
{
	double kv = (double)t->kv_heads * t->head_dim, q = (double)t->heads * t->head_dim;

	return t->layers * ((double)t->dim * (2 * q + 2 * kv) + 3.0 * t->dim * t->ffn + lora_params(t));
}

/* The decoder's matrices, lm_head included. */
static double text_bytes(const struct fr_model *m)
{
	double sum = (double)m->weights.lm_head.bytes;

	for (int i = 0; i < m->desc.text.layers; i++) {
		const struct fr_text_layer_weights *l = &m->weights.layer[i];

		sum += (double)(l->q.bytes + l->k.bytes + l->v.bytes + l->o.bytes);
		sum += (double)(l->gate.bytes + l->up.bytes + l->down.bytes);
		for (int j = 0; j < FR_LORAS; j++)
			sum += (double)(l->lora[j].a.bytes + l->lora[j].b.bytes);
	}
	return sum;
}

/* Keys and values of one position. */
static double position_bytes(const struct fr_text_desc *t, enum fr_dtype kv)
{
	return 2.0 * t->layers * t->kv_heads * t->head_dim * (double)fr_dtypes[kv].bytes;
}

static struct fr_cost vit_cost(const struct fr_model *m, int branch)
{
	const struct fr_model_desc *d = &m->desc;
	const struct fr_vit_desc *v = &d->vit[branch];
	const struct fr_vit_weights *w = &m->weights.vit[branch];
	double rows = 1 + d->n_image, layer = 2 * rows * (4.0 * v->dim * v->dim + 2.0 * v->dim * v->ffn);
	struct fr_cost c = {2.0 * d->n_image * v->dim * 3 * v->patch * v->patch, (double)w->patch_w.bytes};

	c.operations += v->run * (layer + 4 * rows * rows * v->dim) + (v->maps ? 2 * rows * rows * v->dim : 0);
	for (int i = 0; i < v->run; i++) {
		const struct fr_vit_layer_weights *l = &w->layer[i];

		c.bytes += (double)(l->q_w.bytes + l->k_w.bytes + l->v_w.bytes + l->o_w.bytes);
		c.bytes += (double)(l->fc1_w.bytes + l->fc2_w.bytes);
	}
	return c;
}

/* Products, attention and its bias, where there is a fusion. */
static struct fr_cost fusion_cost(const struct fr_model *m)
{
	const struct fr_fusion_desc *f = &m->desc.fusion;
	const struct fr_fusion_weights *w = &m->weights.fusion;
	double n = m->desc.n_image, dim = m->desc.text.dim;

	if (!f->heads)
		return (struct fr_cost){0};
	return (struct fr_cost){
		2 * n * (4 * dim * dim + 2 * dim * f->ffn) + 4 * n * n * dim + 4 * n * n * f->heads * f->mid,
		(double)(w->q_w.bytes + w->k_w.bytes + w->v_w.bytes + w->o_w.bytes + w->fc1_w.bytes + w->fc2_w.bytes)};
}

struct fr_cost fr_cost_projector(const struct fr_model *m, int images)
{
	const struct fr_model_desc *d = &m->desc;
	struct fr_cost c = {0};

	for (int i = 0; i < d->n_branch; i++) {
		double params = (double)d->vit[i].dim * d->proj_dim + (double)d->proj_dim * d->text.dim;

		c.operations += 2.0 * images * d->n_image * params;
		c.bytes += (double)(m->weights.proj[i].l1_w.bytes + m->weights.proj[i].l2_w.bytes);
	}
	return c;
}

struct fr_cost fr_cost_vision(const struct fr_model *m, int images)
{
	struct fr_cost c = fr_cost_projector(m, images), part = fusion_cost(m);

	for (int i = 0;; i++) {
		c.operations += images * part.operations;
		c.bytes += part.bytes;
		if (i == m->desc.n_branch)
			return c;
		part = vit_cost(m, i);
	}
}

/* Products, causal attention, the logits of two rows; keys and values written and read. */
struct fr_cost fr_cost_prefill(const struct fr_model *m, int rows, int seqs, enum fr_dtype kv)
{
	const struct fr_text_desc *t = &m->desc.text;
	double attention = 2.0 * rows * (rows + 1) * t->heads * t->head_dim * t->layers;

	return (struct fr_cost){seqs * (2 * text_params(t) * rows + attention + 2.0 * 2 * t->dim * t->vocab),
				text_bytes(m) + 2.0 * seqs * rows * position_bytes(t, kv)};
}

struct fr_cost fr_cost_step(const struct fr_model *m, int seqs, int pos, enum fr_dtype kv)
{
	const struct fr_text_desc *t = &m->desc.text;
	double attention = 4.0 * pos * t->heads * t->head_dim * t->layers;

	return (struct fr_cost){seqs * (2 * (text_params(t) + (double)t->dim * t->vocab) + attention),
				text_bytes(m) + (double)seqs * pos * position_bytes(t, kv)};
}
