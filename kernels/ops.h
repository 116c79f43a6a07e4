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
 *   pairs(x, w)  of the level avx512bf16, whose other bits are those of avx512: what its products of bf16 weights use in
 *                FR_PREFILL instead of seq. x comes in one term, bf16(x), rounded to nearest even, or with `precise`
 *                (the pixels of patches always) in two, the second bf16(x - first); subnormals count as zeros here.
 *                acc = +0; for k = 0, 2, 4, ..: for each term: acc = fma(x[k+1], w[k+1], acc), then acc = fma(x[k],
 *                w[k], acc), where x and w beyond an odd end are 0. A subnormal w is a zero, and so is a result that is
 *                subnormal after rounding. That is vdpbf16ps as it was measured on an AMD Zen 4, bit by bit;
 *                kernels/pairs.h spells it out, and ref computes it as "ref-avx512bf16" and "ref-avx512bf16-precise".
 *                A gated product of which one matrix is not bf16 uses seq for both.
 *                Attention over dense keys goes in pairs too: fr_attn.
 *   pair lanes(x, w)  the same for FR_DECODE instead of lane, at the level amx too: 16 accumulators from +0; the pair
 *                (k, k+1) goes to lane k / 2 mod 16 as above, in order of k; then for h = 8, 4, 2, 1: lane[i] +=
 *                lane[i + h] for i < h, plain additions of which nothing is flushed; the result is lane[0]. A gated
 *                product of which one matrix is not bf16 uses lane for both.
 *
 *   tiles(x, w)  of the level amx: what its products use in FR_PREFILL instead of seq, whatever the weights' type. x
 *                comes in the terms of pairs, w in one (bf16), two (f16) or three (f32), each again bf16 of what is left:
 *                exactly w but at the ends of float32's exponents (kernels/tiles.h). acc = +0; for each 32 elements in
 *                order of k, x and w beyond the end 0, and for each product of terms, of those that there are: x's first
 *                with w's third, second with second, first with second, first with first, second with first: even =
 *                odd = +0; for p = 0..15: even = fma(x[2p], w[2p], even), odd = fma(x[2p+1], w[2p+1], odd); acc = acc +
 *                (even + odd). Subnormals are zeros as in pairs, before and after each of these operations. That is
 *                tdpbf16ps by Intel's manual; kernels/tiles.h spells it out, and ref computes it as "ref-amx" and
 *                "ref-amx-precise".
 *
 *   q8(x, w)     of q8_0 weights, at every level and in both phases. x is quantised in blocks of 32 along k: d = max |x| /
 *                127; below 2^-126 d is 0 and so is every q, else q = rne(x * (1 / d)), which is at most 127. A block with a
 *                value that is not finite has d = NaN, so that its sums are NaN. acc = +0; for each block in order:
 *                acc = fma(float(sum of q * w's int8), float(w's scale) * d, acc). The sum is exact. kernels/q8.h spells
 *                it out. In a gated product where one matrix is q8_0 the other is multiplied as it is alone.
 *
 * FR_PREFILL matrix products use seq (or pairs, or tiles), FR_DECODE ones lane (or pair lanes): chosen by phase, never by
 * the number of rows. exp, erf, log and sigmoid are those of kernels/math.h, never libm's. Division and sqrt are IEEE.
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
	enum fr_dtype dtype; /* f32, f16, bf16; q8_0 (not in patch), where cols is a multiple of 32 */
	int rows, cols; /* cols <= FR_MAX_COLS: weight() refuses more, so that a row's scratch memory is bounded */
};
#define FR_MAX_COLS (1 << 19)

/* One row of a decoder call: which sequence slot it belongs to and its absolute position there. */
struct fr_row {
	int seq, pos;
};

/* KV cache: k and v are [layers, seqs, kv_heads, max_pos, head_dim] of dtype f16 or f32, 64-byte aligned. */
struct fr_kv {
	enum fr_dtype dtype;
	int layers, seqs, kv_heads, max_pos, head_dim;
	void *k, *v;
};

/* y[r,n] = act( dot(x[r,:], w[n,:]) + bias[n] ) * scale[n] + residual[r,n], each step rounded; a NULL part is left out.
 * dot is seq or lane by phase, or q8; act is kernels/math.h's, where ReLU keeps NaN. residual may be y itself (in place). */
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
	const struct fr_linear *also; /* a further product of the same x (stride, rows, phase the same) that needs nothing
					 of this one: q, k, v of one input are one call. NULL: none. At most FR_MAX_ALSO
					 in a chain, the first included. */
};
#define FR_MAX_ALSO 3

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
	enum fr_phase phase; /* of the products that read y; the values do not depend on it */
};

/* y[0] = cls + pos[0]; y[1+i] = (seq(patch i, w[n]) + bias[n]) + pos[1+i]. Patch i is row i / g, column i % g of the
 * g x g grid (g = image / patch); its elements come in the order channel, y, x. */
struct fr_patch {
	const float *pixels; /* [images, 3, image, image] */
	int images;          /* 0: 1 */
	int image, patch;
	struct fr_mat w;     /* [dim, 3 * patch * patch] */
	const float *bias;   /* [dim] or NULL */
	const float *cls;    /* [dim] */
	const float *pos;    /* [1 + g*g, dim] */
	float *y;            /* [images, 1 + g*g, dim] */
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
 * in FR_DECODE. head_dim is a multiple of 8, at most 320.
 *
 * Dense, q, k and v being products of bf16 weights, where such products take x in one term (levels avx512bf16 and amx,
 * not precise), with b(x) = bf16(x): dot is pairs(q, b(k_j)), and o goes on as pairs do, o[d] * a for its start and for
 * each two keys j, j + 1 of the chunk in order o[d] = fma(b(p_j+1), b(v_j+1[d]), o[d]), then o[d] = fma(b(p_j),
 * b(v_j[d]), o[d]), 0 beyond an odd end, subnormals zeros. l sums p itself. */
struct fr_attn {
	const float *q;             /* [items, rows, heads * head_dim] */
	float *y;                   /* [items, rows, heads * head_dim] */
	int items;                  /* dense only: that many images, each with its own rows, keys and bias. 0: 1 */
	int rows, heads, head_dim;
	float scale;
	const struct fr_kv *kv;
	int layer;
	const struct fr_row *row;   /* host [rows] */
	const float *k, *v;         /* dense: [items, kv_rows, heads * head_dim] */
	int kv_rows;
	const float *bias;          /* [items, heads, rows, kv_rows] or NULL (dense only) */
	enum fr_dtype weights;      /* dense: what q, k and v are products of */
	enum fr_phase phase;
};
#define FR_ATTN_CHUNK 256

/* The softmax itself, of dense keys. Per item, head and row, over all kv_rows keys at once (no chunks):
 *   s_j = seq(q, k_j) * scale;  m = max s_j (a NaN is no maximum);  p_j = exp(s_j - m);  map[j] = p_j / lanesum(p)
 * lanesum counts j from key 0. A NaN in s makes the whole row NaN. head_dim is a multiple of 8, at most 320. The rows
 * of q beyond the first `rows` are not read. */
struct fr_attn_map {
	const float *q;      /* [items, q_rows, heads * head_dim]; the first `rows` of each item are taken */
	int q_rows, rows;    /* rows <= q_rows */
	const float *k;      /* [items, kv_rows, heads * head_dim] */
	int items, kv_rows, heads, head_dim; /* items 0: 1 */
	float scale;
	float *map;          /* [items, heads, rows, kv_rows] */
};

/* What a map of attention adds to other attention: two 1x1 convolutions over its heads, the class token left out (its
 * row and column are not read). At each row r and column c of the rest, each step rounded:
 *   x[h] = log(map[h, 1 + r, 1 + c] + offset)
 *   t[m] = gelu(seq(w1[m, :], x) + b1[m]);  y[h, r, c] = seq(w2[h, :], t) + b2[h]
 * heads <= FR_MAX_MAP_HEADS, mid <= FR_MAX_MAP_MID. */
struct fr_map_bias {
	const float *map;    /* [items, heads, 1 + n, 1 + n] */
	int items, heads, mid, n; /* items 0: 1 */
	float offset;
	const float *w1, *b1; /* [mid, heads], [mid] */
	const float *w2, *b2; /* [heads, mid], [heads] */
	float *y;            /* [items, heads, n, n] */
};
#define FR_MAX_MAP_HEADS 64
#define FR_MAX_MAP_MID 128

/* y = silu(gate) * up, item by item: fr_glu where the two products are no plain ones. Equal sums give
 * equal bits. */
struct fr_gate {
	const float *gate, *up; /* [rows, cols] */
	float *y;               /* [rows, cols], may be either */
	int rows, cols;
	enum fr_phase phase;
};

/* How a token is chosen: engine/fr.h has struct fr_sampler. One row of logits each. */
struct fr_pick {
	const float *logits;        /* [rows, vocab] */
	int rows, vocab;
	const struct fr_sampler *sampler; /* NULL or temperature 0: the highest logit, the lowest id on ties */
	const double *draw;         /* host [rows]: uniform in [0, 1), one for each row; unused when greedy */
	int32_t *ids;               /* host [rows], filled by the next sync: the token, or -1 where a logit of the row is
				       not finite */
};

/* What a device will be asked for at most, so that it can say how much memory of its own it works in. */
struct fr_limits {
	int rows;        /* of one call */
	int decode_rows; /* of one FR_DECODE call */
	int cols;        /* inputs of a product */
	int outs;        /* outputs of a product, the vocabulary left out */
	int heads, head_dim, max_pos, vocab; /* of the decoder */
	int dense;       /* heads * head_dim of attention over dense keys */
};

/* Where weights live that are given from now on. */
enum fr_home { FR_HOME_DEVICE, FR_HOME_HOST /* read over the bus at each use */ };
#define FR_HOME_NEAR (FR_MAX_ALSO + 1)

struct fr_dev;
struct fr_ops {
	const char *name; /* "ref", "cpu", "cuda" */
	/* Device memory, zeroed, 64-byte aligned. */
	int (*alloc)(struct fr_dev *dev, size_t bytes, void **out, struct fr_error *err);
	void (*release)(struct fr_dev *dev, void *p, size_t bytes);
	/* put has read the host memory when it returns; what get brings is there after the next sync. */
	void (*put)(struct fr_dev *dev, void *dst, const void *host, size_t bytes);
	void (*get)(struct fr_dev *dev, void *host, const void *src, size_t bytes);
	void (*copy)(struct fr_dev *dev, void *dst, const void *src, size_t bytes);
	/* A mapped weight as this device uses it: on the CPU the same pointer (or an aligned copy, counted in dev->copied,
	 * when the mapped data is no multiple of its element size); on a GPU uploaded. ndim >= 2: [shape[0], the rest]. */
	int (*weight)(struct fr_dev *dev, const struct fr_tensor *t, struct fr_mat *out, struct fr_error *err);
	/* A small tensor (norm weights, biases, position tables) as float32 in device memory. The bytes of a tensor, here
	 * and above, stay where they are until the device is closed: a GPU reads them later. */
	int (*vector)(struct fr_dev *dev, const struct fr_tensor *t, const float **out, struct fr_error *err);

	void (*patch)(struct fr_dev *dev, const struct fr_patch *a);
	void (*embed)(struct fr_dev *dev, const struct fr_embed *a);
	void (*linear)(struct fr_dev *dev, const struct fr_linear *a);
	void (*glu)(struct fr_dev *dev, const struct fr_glu *a);
	void (*norm)(struct fr_dev *dev, const struct fr_norm *a);
	void (*rope)(struct fr_dev *dev, const struct fr_rope *a);
	void (*attn)(struct fr_dev *dev, const struct fr_attn *a);
	void (*attn_map)(struct fr_dev *dev, const struct fr_attn_map *a);
	void (*map_bias)(struct fr_dev *dev, const struct fr_map_bias *a);
	void (*gate)(struct fr_dev *dev, const struct fr_gate *a);

	void (*pick)(struct fr_dev *dev, const struct fr_pick *a);

	/* The columns below are NULL on a device that has no use for them. */

	/* Bytes free now and in all, of the memory that alloc takes from. */
	void (*room)(struct fr_dev *dev, size_t *free, size_t *total);
	/* The bytes that the operations themselves work in, for calls within limits; and the block of that size, from
	 * alloc, zeroed, which they use from then on. Without it a device takes what it needs when it needs it. */
	size_t (*work_bytes)(struct fr_dev *dev, const struct fr_limits *limits);
	void (*work)(struct fr_dev *dev, void *block, size_t bytes, const struct fr_limits *limits);
	void (*home)(struct fr_dev *dev, enum fr_home home); /* keeps room for FR_HOME_NEAR of the largest matrix there */
	/* A decode step that comes again and again with other rows. The caller makes the same calls with the same pointers
	 * each time between begin and end, where only what ids, row and draw [rows] point to differs, and ids, row, draw
	 * of its calls are these very arrays. begin returns 1 when it has launched the whole step from a recording: the
	 * caller leaves out its calls and end. */
	int (*step_begin)(struct fr_dev *dev, const int32_t *ids, const struct fr_row *row, const double *draw, int rows);
	void (*step_end)(struct fr_dev *dev);

	int (*sync)(struct fr_dev *dev, struct fr_error *err); /* waits; -1 if anything failed since the last sync */
	void (*close)(struct fr_dev *dev); /* frees dev and all its memory, weights included */
};

/* The common head of every instance; instances extend it. */
struct fr_dev {
	const struct fr_ops *ops;
	const char *isa;         /* "ref", "avx2", ... */
	const char *activations; /* how activations enter a matrix product: "f32", "bf16", "2xbf16", "16bit", "2x16bit" */
	const char *device;      /* the hardware's own name: "NVIDIA H200"; NULL on the CPU */
	int together;            /* images that one prefill serves best; 1 on the CPU */
	int maps;                /* 1: weights are used where their files are mapped and take no memory of their own */
	double row_cost;         /* what one row more adds to a decode step, as a share of a step of one row; 1: as much
				    as a step of its own, so that reading weights once for several tokens gains nothing */
	int threads;
	size_t copied;           /* bytes of weights copied because of their alignment */
	size_t held;             /* bytes allocated now (alloc, vector and copies) */
	char passed_over[512];   /* why backend "auto" did not take cuda; "": it was not asked for, or taken */
	char lowered[256];       /* why the CPU's best level is not taken, where its operating system is in the way, else "" */
};
struct fr_dev_opts {
	const char *backend; /* "auto", "cpu", "cuda"; NULL: auto */
	const char *isa;     /* NULL: the best there is; "ref" gives the plain instance */
	int threads;         /* 0: the CPUs this process may run on */
	int precise;         /* activations in two 16-bit terms where they would be rounded to one */
	int no_cublas;       /* our own matrix products everywhere */
	const char *roundings; /* for tests: ref rounds where that device does ("cuda", "cuda-precise"), ref and cpu-ref
				  where that level does ("avx512bf16", "amx"), each also with "-precise". NULL: none */
};
/* kernels/dev.c: the table of backends. auto is cuda where this build has it and a device opens, else the CPU; with an
 * isa, the CPU. "--isa avx512 on a CPU without it" is FR_E_DEVICE with the levels it has. */
int fr_dev_open(const struct fr_dev_opts *opts, struct fr_dev **out, struct fr_error *err);
/* The instances themselves. ref: one thread, plain loops: the contract made executable. */
int fr_ref_open(const struct fr_dev_opts *opts, struct fr_dev **out, struct fr_error *err);
int fr_cpu_open(const struct fr_dev_opts *opts, struct fr_dev **out, struct fr_error *err);
int fr_cuda_open(const struct fr_dev_opts *opts, struct fr_dev **out, struct fr_error *err);
/* "sm_80 sm_89 sm_90 compute_90, nvcc 13.0": what this build has kernels for; NULL: built without CUDA. */
const char *fr_cuda_built(void);

#endif
