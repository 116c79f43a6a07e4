/* A case of the kernel check: one operation with its parameters, seeded inputs between guards, and its run on a device.
 *
 * Used by tests/ (against ref and against double), by `fr-run selftest` (known answers) and by `fr-run bench kernels`
 * (times), so that what is measured is what is tested. Inputs lie between NaNs, outputs start as NaN between canaries,
 * weights are mapped like a checkpoint's and end at a page that cannot be read. */
#ifndef FR_KERNELS_CHECK_H
#define FR_KERNELS_CHECK_H

#include "ops.h"

enum fr_check_op {
	FR_CHECK_LINEAR,
	FR_CHECK_GLU,
	FR_CHECK_NORM,
	FR_CHECK_PATCH,
	FR_CHECK_EMBED,
	FR_CHECK_ROPE,
	FR_CHECK_ATTN,
	FR_CHECK_PICK,
	FR_CHECK_ATTN_MAP,
	FR_CHECK_MAP_BIAS,
	FR_CHECK_GATE
};
enum {
	FR_WITH_BIAS = 1,     /* linear, norm (LayerNorm), patch, dense attn */
	FR_WITH_SCALE = 2,    /* linear */
	FR_WITH_RESIDUAL = 4, /* linear */
	FR_IN_PLACE = 8,      /* linear: residual is y; norm: x is y; gate: gate is y */
	FR_STRIDED = 16,      /* linear: x_stride is 5 more than the columns */
	FR_DENSE = 32,	      /* attn: dense keys instead of a KV cache */
	FR_ODD_WEIGHT = 64,   /* the weights' address is odd: weight() must copy them */
	FR_SAMPLED = 128,     /* pick: at temperature 0.8, top-k k, top-p 0.9 (1 when k is 0) */
	FR_LARGE = 256,	      /* linear, glu: x up to 2^17, beyond what f16 holds */
	FR_MIXED = 512	      /* linear, glu: each matrix of the call has another type, fr_check_type */
};
struct fr_check_case {
	enum fr_check_op op;
	enum fr_dtype dtype; /* of the weights (dense attn: those around it), or of the KV cache */
	enum fr_phase phase;
	int m, n, k;   /* rows, outputs, inputs. norm: m rows of k; embed: m rows of k, vocabulary n; patch: n outputs;
			  pick: m rows of n, top-k k; attn_map: m of n rows; map_bias: rows and columns n, k channels
			  between; gate: m rows of n */
	unsigned with; /* FR_WITH_... */
	enum fr_act act;
	int heads, kv_heads, head_dim; /* rope, attn, attn_map; map_bias: heads */
	int seqs, kv_len; /* m rows over seqs sequences, the first ending at kv_len, each later one 37 sooner;
			     dense, attn_map: kv_len keys */
	int image, patch;
	int also;   /* linear: that many further products of x, the i-th with fr_check_outs(c, i) outputs, each with its
		       bias and act but no scale or residual */
	int images; /* patch, dense attn, attn_map, map_bias: that many images; 0: 1 */
};

/* Tables of cases, one line each: FR_CASE_MATRIX(LINEAR, PREFILL, BF16, m, n, k, with, act). */
#define FR_CASE_MATRIX(op_, phase_, dtype_, m_, n_, k_, with_, act_)                                                   \
	{                                                                                                              \
		.op = FR_CHECK_##op_, .phase = FR_##phase_, .dtype = FR_##dtype_, .m = m_, .n = n_, .k = k_,           \
		.with = with_, .act = FR_ACT_##act_                                                                    \
	}
#define FR_CASE_NORM(m_, k_, with_)                                                                                    \
	{                                                                                                              \
		.op = FR_CHECK_NORM, .m = m_, .k = k_, .with = with_                                                   \
	}
#define FR_CASE_PATCH(dtype_, image_, patch_, n_, with_)                                                               \
	{                                                                                                              \
		.op = FR_CHECK_PATCH, .dtype = FR_##dtype_, .image = image_, .patch = patch_, .n = n_, .with = with_   \
	}
#define FR_CASE_EMBED(dtype_, m_, n_, k_)                                                                              \
	{                                                                                                              \
		.op = FR_CHECK_EMBED, .dtype = FR_##dtype_, .m = m_, .n = n_, .k = k_                                  \
	}
/* rope and attn over a KV cache */
#define FR_CASE_CACHED(op_, phase_, dtype_, m_, seqs_, kv_len_, heads_, kv_heads_, head_dim_)                          \
	{                                                                                                              \
		.op = FR_CHECK_##op_, .phase = FR_##phase_, .dtype = FR_##dtype_, .m = m_, .seqs = seqs_,              \
		.kv_len = kv_len_, .heads = heads_, .kv_heads = kv_heads_, .head_dim = head_dim_                       \
	}
#define FR_CASE_DENSE(m_, kv_len_, heads_, head_dim_, with_)                                                           \
	{                                                                                                              \
		.op = FR_CHECK_ATTN, .dtype = FR_F32, .m = m_, .kv_len = kv_len_, .heads = heads_,                     \
		.head_dim = head_dim_, .with = FR_DENSE | (with_)                                                      \
	}
/* Dense attention among products of bf16 weights. */
#define FR_CASE_DENSE_BF16(m_, kv_len_, heads_, head_dim_, with_)                                                      \
	{                                                                                                              \
		.op = FR_CHECK_ATTN, .dtype = FR_BF16, .m = m_, .kv_len = kv_len_, .heads = heads_,                    \
		.head_dim = head_dim_, .with = FR_DENSE | (with_)                                                      \
	}

/* Dense attention over several images, patches of several images. */
#define FR_CASE_ITEMS(images_, m_, kv_len_, heads_, head_dim_, with_)                                                  \
	{                                                                                                              \
		.op = FR_CHECK_ATTN, .dtype = FR_F32, .m = m_, .kv_len = kv_len_, .heads = heads_,                     \
		.head_dim = head_dim_, .with = FR_DENSE | (with_), .images = images_                                   \
	}
#define FR_CASE_PATCHES(images_, dtype_, image_, patch_, n_, with_)                                                    \
	{                                                                                                              \
		.op = FR_CHECK_PATCH, .dtype = FR_##dtype_, .image = image_, .patch = patch_, .n = n_, .with = with_,  \
		.images = images_                                                                                      \
	}
/* A chain of 1 + also_ products of one x. */
#define FR_CASE_CHAIN(also_, phase_, dtype_, m_, n_, k_, with_, act_)                                                  \
	{                                                                                                              \
		.op = FR_CHECK_LINEAR, .phase = FR_##phase_, .dtype = FR_##dtype_, .m = m_, .n = n_, .k = k_,          \
		.with = with_, .act = FR_ACT_##act_, .also = also_                                                     \
	}
#define FR_CASE_PICK(m_, n_, k_, with_)                                                                                \
	{                                                                                                              \
		.op = FR_CHECK_PICK, .m = m_, .n = n_, .k = k_, .with = with_                                          \
	}
/* The first m_ of q_rows_ rows' map; the bias from a map, mid_ channels between; the gate. */
#define FR_CASE_MAP(images_, m_, q_rows_, kv_len_, heads_, head_dim_)                                                  \
	{                                                                                                              \
		.op = FR_CHECK_ATTN_MAP, .m = m_, .n = q_rows_, .kv_len = kv_len_, .heads = heads_,                    \
		.head_dim = head_dim_, .images = images_                                                               \
	}
#define FR_CASE_MAP_BIAS(images_, n_, heads_, mid_)                                                                    \
	{                                                                                                              \
		.op = FR_CHECK_MAP_BIAS, .m = n_, .n = n_, .k = mid_, .heads = heads_, .images = images_               \
	}
#define FR_CASE_GATE(m_, n_, with_)                                                                                    \
	{                                                                                                              \
		.op = FR_CHECK_GATE, .m = m_, .n = n_, .with = with_                                                   \
	}

/* Outputs of the i-th product of a chain: the first has n, the others half of that, as keys and values of grouped heads
 * have. */
static inline int fr_check_outs(const struct fr_check_case *c, int i)
{
	return i == 0 ? c->n : (c->n + 1) / 2;
}

/* The type of the i-th matrix. */
static inline enum fr_dtype fr_check_type(const struct fr_check_case *c, int i)
{
	static const enum fr_dtype after[FR_DTYPES] = {[FR_F32] = FR_F16, [FR_F16] = FR_BF16, [FR_BF16] = FR_F32};
	enum fr_dtype type = c->dtype;

	while (c->with & FR_MIXED && i-- > 0)
		type = after[type];
	return type;
}

/* Arrays of a case, by role. */
enum fr_slot {
	FR_SLOT_X,     /* x, q, pixels, image rows, map, gate */
	FR_SLOT_BIAS,  /* map_bias: b1 */
	FR_SLOT_SCALE, /* scale, norm weight, class token; map_bias: w1 */
	FR_SLOT_ADD,   /* residual, position table, up; map_bias: b2 */
	FR_SLOT_COS,
	FR_SLOT_SIN,
	FR_SLOT_K, /* map_bias: w2 */
	FR_SLOT_V,
	FR_SLOT_CACHE_K,
	FR_SLOT_CACHE_V,
	FR_SLOT_Y,  /* pick: the ids, which are host memory */
	FR_SLOT_Y1, /* outputs of the further products of a chain */
	FR_SLOT_Y2,
	FR_SLOTS
};
struct fr_check_slot {
	void *host;   /* [bytes]: the values before the run */
	size_t bytes; /* 0: the case has no such array */
	int out;      /* written by the operation */
};
#define FR_CHECK_MATS FR_MAX_ALSO
struct fr_check {
	struct fr_check_case c;
	struct fr_check_slot slot[FR_SLOTS];
	struct fr_tensor w[FR_CHECK_MATS]; /* weights; glu has two, a chain up to three */
	struct fr_row *row;		   /* [m] */
	int32_t *ids;			   /* [m] */
	double *draw;			   /* [m] */
	struct fr_sampler sampler;
	int max_pos, slots; /* of the KV cache; it has 2 layers, the second is the one in use */
	void *map[FR_CHECK_MATS];
	size_t map_bytes[FR_CHECK_MATS];
};
#define FR_CHECK_LAYERS 2
#define FR_CHECK_LAYER 1

/* A case on one device. */
struct fr_check_run {
	const struct fr_check *check;
	struct fr_dev *dev;
	struct fr_mat w[FR_CHECK_MATS];
	int32_t *picked;       /* [m] */
	void *block[FR_SLOTS]; /* device memory: guard, array, guard */
	void *at[FR_SLOTS];    /* the array in it */
	void *out[FR_SLOTS];   /* host: after collect, the arrays that are written */
};

/* "linear_bf16/m577_n1024_k4096_bias_gelu" into buf; returns buf. */
char *fr_check_name(const struct fr_check_case *c, char *buf, size_t size);
int fr_check_new(const struct fr_check_case *c, uint64_t seed, struct fr_check **out, struct fr_error *err);
void fr_check_free(struct fr_check *ck);
/* Puts the arrays into the device; the weights are bound there until the device is closed. */
int fr_check_bind(const struct fr_check *ck, struct fr_dev *dev, struct fr_check_run *run, struct fr_error *err);
void fr_check_call(const struct fr_check_run *run);
/* Waits, fetches what was written, and fails if anything else in device memory has changed. */
int fr_check_collect(struct fr_check_run *run, struct fr_error *err);
void fr_check_unbind(struct fr_check_run *run);

#endif
