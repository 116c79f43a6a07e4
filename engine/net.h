/* The network on a device: the bound weights as the device uses them, and the forward passes over them.
 *
 * There is one vision transformer function, one that joins two branches, and one decoder function. Models differ in their
 * descriptions only. */
#ifndef FR_ENGINE_NET_H
#define FR_ENGINE_NET_H

#include "stream.h"
#include "tap.h"
#include "../weights/bind.h"

/* A matrix with its optional bias. */
struct fr_proj_mat {
	struct fr_mat w;
	const float *b;
};
struct fr_vit_layer {
	const float *ln1_w, *ln1_b, *ln2_w, *ln2_b, *ls1, *ls2;
	struct fr_proj_mat q, k, v, o, fc1, fc2;
};
struct fr_vit {
	const struct fr_vit_desc *d;
	struct fr_proj_mat patch;
	const float *cls, *pos, *pre_w, *pre_b;
	struct fr_vit_layer *layer; /* [d->run] */
	struct fr_proj_mat l1, l2;  /* this branch's projector */
};
struct fr_fusion { /* all zero without one */
	const float *bias1_w, *bias1_b, *bias2_w, *bias2_b; /* [mid, heads], [mid], [heads, mid], [heads] */
	struct fr_proj_mat q, k, v, o, fc1, fc2;
	const float *norm1_w, *norm1_b, *norm2_w, *norm2_b;
};
struct fr_lora_mat {
	struct fr_mat a, b; /* [rank, in], [out, rank]; data NULL: the matrix has no adapter */
};
struct fr_text_layer {
	const float *norm1, *norm2;
	struct fr_mat q, k, v, o, gate, up, down;
	struct fr_lora_mat lora[FR_LORAS];
};
struct fr_text {
	const struct fr_text_desc *d;
	struct fr_mat embed, lm_head;
	const float *norm;
	const float *lora_scale;     /* d->lora_scale as often as a matrix has outputs at most; NULL without adapters */
	struct fr_text_layer *layer; /* [d->layers] */
};
struct fr_net {
	const struct fr_model_desc *d;
	struct fr_vit vit[FR_MAX_BRANCHES];
	struct fr_fusion fusion;
	struct fr_text text;
};
/* Bytes of a model's weights by where they live: in the device's own memory, as it holds them; on the host; or, on a
 * device that maps, where their files are mapped, with only vectors and what lies unaligned in memory of its own. */
struct fr_net_bytes {
	size_t device, host, mapped;
};
/* Hands every weight to the device (on the CPU: the mapped bytes as they lie). The decoder's layers from device_layers on
 * stay on the host where the device knows that. */
int fr_net_load(struct fr_net *net, struct fr_dev *dev, const struct fr_model_desc *d, const struct fr_weights *w,
		int device_layers, struct fr_error *err);
/* What that would take, nothing taken. */
struct fr_net_bytes fr_net_measure(const struct fr_model_desc *d, const struct fr_weights *w, int device_layers,
				   const struct fr_dev *dev);
void fr_net_free(struct fr_net *net);

/* 1 / sqrt(head_dim), rounded once to float32. */
float fr_attn_scale(int head_dim);

/* Buffers in device memory, from the plan. T = 1 + n_image rows per image for the encoder, N = n_image for what follows
 * it; R rows for the decoder. */
struct fr_vit_buffers {
	float *x, *h, *q, *k, *v, *a; /* [images * T, dim] */
	float *m;                     /* [images * max(T * ffn, N * proj_dim)] */
	float *map;                   /* [images, heads, T, T]: last attention of the branch with `maps`; NULL: none has */
	float *heat;                  /* [images, heads, T]: that of the class token in branch d->look; NULL: nobody asks */
};
struct fr_fusion_buffers {
	float *kv;            /* [images * N, text dim]: rows of branch 1 */
	float *bias;          /* [images, heads, N, N] */
	float *q, *k, *v, *a; /* [images * N, text dim] */
	float *m;             /* [images * N, ffn] */
};
struct fr_text_buffers {
	float *x, *h;        /* [R, dim] */
	float *q, *a;        /* [R, heads * head_dim] */
	float *k, *v;        /* [R, kv_heads * head_dim] */
	float *g;            /* [R, ffn] */
	float *u;            /* [R, ffn]; NULL where neither gate nor up has an adapter */
	float *t;            /* 3 times [R, lora_rank]; NULL without adapters */
	float *logits;       /* [logit rows, vocab] */
	const float *cos, *sin; /* [max_pos, head_dim / 2] */
};

/* pixels [images, 3, image, image] -> rows [images * n_image, text dim]: those that take the place of the image tokens,
 * or one side of the fusion. The tap sees the first image. */
void fr_vit_forward(const struct fr_net *net, int branch, struct fr_dev *dev, const struct fr_vit_buffers *b,
		    const float *pixels, int images, float *rows, struct fr_tap *tap);

/* The last step of that by itself, over the features that lie in b->x: l2(act(l1(features))). */
void fr_vit_project(const struct fr_net *net, int branch, struct fr_dev *dev, const struct fr_vit_buffers *b,
		    int images, float *rows);

/* rows [images * n_image, text dim] of branch 0 and b->kv of branch 1, with that one's map of attention -> rows, in
 * place. The tap sees the first image. */
void fr_fusion_forward(const struct fr_net *net, struct fr_dev *dev, const struct fr_fusion_buffers *b,
		       const float *map, int images, float *rows, struct fr_tap *tap);

/* One decoder call: rows of one or more sequences, each at its position, prefill or step alike. The rows are `shares`
 * parts one after the other; afterwards buf->logits holds the logits of the last n_logits rows of each. */
struct fr_text_call {
	const int32_t *ids;       /* host [rows]: id, or -1 - i for image row i */
	const struct fr_row *row; /* host [rows] */
	int rows;
	const float *images;      /* device [image rows, dim] or NULL */
	enum fr_phase phase;
	int shares, n_logits;
	const int *end;           /* [shares]: the row behind the last of each */
	struct fr_kv *kv;
	struct fr_stream *stream; /* NULL: all weights stay in memory */
	struct fr_tap *tap;
};
void fr_text_forward(const struct fr_net *net, struct fr_dev *dev, const struct fr_text_buffers *b,
		     const struct fr_text_call *c);

#endif
