/* The one table of operations that the engine calls, whatever the device: whole tensors in, whole tensors out.
 *
 * THE NUMERIC CONTRACT. Every instance at levels ref, avx2 and avx512 computes the same bits, so the order of each sum
 * is part of the operation. All arithmetic is IEEE float32, round to nearest even, fma where it says fma, never
 * contracted otherwise. Weights in bf16/f16 are widened exactly.
 *
 *   seq(a, b)    acc = +0; for k = 0..K-1: acc = fma(a[k], b[k], acc).        One chain, in order of k, however blocked.
 *   lane(a, b)   32 accumulators from +0; element k goes to lane k mod 32 by fma, in order of k; then
 *                for h = 16, 8, 4, 2, 1: lane[i] += lane[i + h] for i < h; the result is lane[0].
 *   lanesum(a)   the same with lane += a[k].
 *
 * FR_PREFILL matrix products use seq, FR_DECODE ones lane: chosen by phase, never by the number of rows. exp, erf and
 * sigmoid are those of kernels/math.h, never libm's. Division and sqrt are IEEE.
 *
 * Pointers named x, y, q, k, ... are device memory of the instance (host memory on the CPU); those marked "host" are
 * host memory always. Rows are contiguous unless a stride is named. Operations cannot fail: shapes are the caller's
 * duty (asserted in debug builds). A device error is sticky and comes out of sync(). */
#ifndef FR_KERNELS_OPS_H
#define FR_KERNELS_OPS_H

#include "../engine/desc.h"

enum fr_phase { FR_PREFILL, FR_DECODE };

/* A matrix of weights as it lies: [rows, cols] row-major, rows = outputs. data may be unaligned to 64 bytes, and is
 * aligned to its element size. */
struct fr_mat {
	const void *data;
	enum fr_dtype dtype; /* f32, f16, bf16 */
	int rows, cols; /* cols <= FR_MAX_COLS: weight() refuses more, so that a row's scratch memory is bounded */
};
#define FR_MAX_COLS (1 << 19)

/* One row of a decoder call: which sequence slot it belongs to and its absolute position there. */
struct fr_row {
	int seq, pos;
};

/* KV cache: k and v are [layers, seqs, kv_heads, max_pos, head_dim] of dtype f16 or f32. */
struct fr_kv {
	enum fr_dtype dtype;
	int layers, seqs, kv_heads, max_pos, head_dim;
	void *k, *v;
};

/* y[r,n] = act( dot(x[r,:], w[n,:]) + bias[n] ) * scale[n] + residual[r,n], each step rounded; a NULL part is left out.
 * dot is seq or lane by phase. residual may be y itself (in place). */
struct fr_linear {
	const float *x;        /* [rows, w.cols], rows x_stride floats apart */
	size_t x_stride;       /* 0: w.cols */
	struct fr_mat w;
	const float *bias;     /* [w.rows] */
	enum fr_act act;
	const float *scale;    /* [w.rows] */
	const float *residual; /* [rows, w.rows] */
	float *y;              /* [rows, w.rows] */
	int rows;
	enum fr_phase phase;
};

/* y[r,n] = silu(dot(x[r,:], gate[n,:])) * dot(x[r,:], up[n,:]) */
struct fr_glu {
	const float *x;        /* [rows, gate.cols] */
	struct fr_mat gate, up; /* same shape */
	float *y;              /* [rows, gate.rows] */
	int rows;
	enum fr_phase phase;
};

/* LayerNorm (bias != NULL): mean = lanesum(x) / dim; c = x - mean; var = lane(c, c) / dim;
 *                           y = c * (1 / sqrt(var + eps)) * weight + bias, as fma((c * inv), weight, bias).
 * RMSNorm (bias == NULL):   y = (x * (1 / sqrt(lane(x, x) / dim + eps))) * weight. */
struct fr_norm {
	const float *x;      /* [rows, dim] */
	const float *weight; /* [dim] */
	const float *bias;   /* [dim] or NULL */
	float eps;
	float *y;            /* [rows, dim], may be x */
	int rows, dim;
};

/* y[0] = cls + pos[0]; y[1+i] = (seq(patch i, w[n]) + bias[n]) + pos[1+i]. Patch i is row i / g, column i % g of the
 * g x g grid (g = image / patch); its elements come in the order channel, y, x. */
struct fr_patch {
	const float *pixels; /* [3, image, image] */
	int image, patch;
	struct fr_mat w;     /* [dim, 3 * patch * patch] */
	const float *bias;   /* [dim] or NULL */
	const float *cls;    /* [dim] */
	const float *pos;    /* [1 + g*g, dim] */
	float *y;            /* [1 + g*g, dim] */
};

/* y[r] = ids[r] >= 0 ? widen(table[ids[r]]) : images[-1 - ids[r]]: the image rows take the place of the image token. */
struct fr_embed {
	const int32_t *ids;  /* host [rows] */
	struct fr_mat table; /* [vocab, dim] */
	const float *images; /* [image rows, dim] or NULL */
	float *y;            /* [rows, dim] */
	int rows;
};

/* Half-split rotation: for i < hd/2, c = cos[pos, i], s = sin[pos, i]:
 *   (a, b) = (x[i], x[i + hd/2]) -> (fma(a, c, -(b * s)), fma(b, c, a * s)).
 * q is rotated in place; k is rotated and, with v, stored (rounded to kv->dtype, RNE) at [layer, seq, head, pos]. */
struct fr_rope {
	float *q;                   /* [rows, heads * hd] */
	const float *k, *v;         /* [rows, kv_heads * hd] */
	const float *cos, *sin;     /* [max_pos, hd / 2] */
	const struct fr_row *row;   /* host [rows] */
	int rows, heads;
	struct fr_kv *kv;
	int layer;
};

/* Softmax attention without a T x T matrix in memory. Two sources of keys and values:
 *   kv != NULL: row r attends to positions 0..row[r].pos of its sequence (causal), heads grouped over kv->kv_heads;
 *   kv == NULL: dense k, v [kv_rows, heads * head_dim] float32, every row attends to all.
 * Keys go in chunks of 256 absolute positions (0-255, 256-511, ...), combined in order. Per row and head, from
 * m = -inf, l = 0, o = 0, for each chunk with keys j:
 *   s_j = dot(q, k_j) * scale (+ bias[h, r, j]);  m' = max(m, max_j s_j);  a = exp(m - m');  p_j = exp(s_j - m');
 *   l = fma(l, a, lanesum(p));  o[d] = o[d] * a, then for j in order o[d] = fma(p_j, v_j[d], o[d]);  m = m'
 * lanesum counts j from the chunk's start. y[d] = o[d] / l. dot is seq over d in FR_PREFILL and for dense keys, lane
 * in FR_DECODE. head_dim is a multiple of 8, at most 320. */
struct fr_attn {
	const float *q;             /* [rows, heads * head_dim] */
	float *y;                   /* [rows, heads * head_dim] */
	int rows, heads, head_dim;
	float scale;
	const struct fr_kv *kv;
	int layer;
	const struct fr_row *row;   /* host [rows] */
	const float *k, *v;
	int kv_rows;
	const float *bias;          /* [heads, rows, kv_rows] or NULL (dense only) */
	enum fr_phase phase;
};
#define FR_ATTN_CHUNK 256

struct fr_dev;
struct fr_ops {
	const char *name; /* "ref", "cpu", "cuda" */
	/* Device memory, zeroed, 64-byte aligned. */
	int (*alloc)(struct fr_dev *dev, size_t bytes, void **out, struct fr_error *err);
	void (*release)(struct fr_dev *dev, void *p, size_t bytes);
	void (*put)(struct fr_dev *dev, void *dst, const void *host, size_t bytes);
	void (*get)(struct fr_dev *dev, void *host, const void *src, size_t bytes);
	void (*copy)(struct fr_dev *dev, void *dst, const void *src, size_t bytes);
	/* A mapped weight as this device uses it: on the CPU the same pointer (or an aligned copy, counted in dev->copied,
	 * when the mapped data is no multiple of its element size); on a GPU uploaded. ndim >= 2: [shape[0], the rest]. */
	int (*weight)(struct fr_dev *dev, const struct fr_tensor *t, struct fr_mat *out, struct fr_error *err);
	/* A small tensor (norm weights, biases, position tables) as float32 in device memory. */
	int (*vector)(struct fr_dev *dev, const struct fr_tensor *t, const float **out, struct fr_error *err);

	void (*patch)(struct fr_dev *dev, const struct fr_patch *a);
	void (*embed)(struct fr_dev *dev, const struct fr_embed *a);
	void (*linear)(struct fr_dev *dev, const struct fr_linear *a);
	void (*glu)(struct fr_dev *dev, const struct fr_glu *a);
	void (*norm)(struct fr_dev *dev, const struct fr_norm *a);
	void (*rope)(struct fr_dev *dev, const struct fr_rope *a);
	void (*attn)(struct fr_dev *dev, const struct fr_attn *a);

	int (*sync)(struct fr_dev *dev, struct fr_error *err); /* waits; -1 if anything failed since the last sync */
	void (*close)(struct fr_dev *dev); /* frees dev and all its memory, weights included */
};

/* The common head of every instance; instances extend it. */
struct fr_dev {
	const struct fr_ops *ops;
	const char *isa;         /* "ref", "avx2", ... */
	const char *activations; /* how activations enter a matrix product: "f32" */
	int threads;
	size_t copied;           /* bytes of weights copied because of their alignment */
	size_t held;             /* bytes allocated now (alloc, vector and copies) */
};
struct fr_dev_opts {
	const char *backend; /* "auto", "cpu", "cuda"; NULL: auto */
	const char *isa;     /* NULL: best; "ref" gives the plain instance */
	int threads;         /* 0: the CPUs this process may run on */
};
/* kernels/dev.c: the table of backends. "--isa avx512 on a CPU without it" is FR_E_DEVICE with the levels it has. */
int fr_dev_open(const struct fr_dev_opts *opts, struct fr_dev **out, struct fr_error *err);
/* The instances themselves. ref: one thread, plain loops: the contract made executable. */
int fr_ref_open(const struct fr_dev_opts *opts, struct fr_dev **out, struct fr_error *err);
int fr_cpu_open(const struct fr_dev_opts *opts, struct fr_dev **out, struct fr_error *err);

#endif
