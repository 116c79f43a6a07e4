/* The plain instance of the operations table: the numeric contract of ops.h made executable.
 *
 * One thread, the plainest loops, sums in exactly the contract's order: when another instance differs, this one is
 * right. fmaf comes from the C library, which rounds it exactly on every machine; everything else that libm offers is
 * kernels/math.h's. A weight row is widened once and used for every row of x, which changes no sum. */
#include "ref.h"
#include "q8.h"
#include "tiles.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

#define MAX_HEAD_DIM 320

static float phase_dot(enum fr_phase phase, const float *a, const float *b, int n)
{
	return phase == FR_DECODE ? fr_lane_dot(a, b, n) : fr_seq_dot(a, b, n);
}

/* One product of a row of x and a row of weights, whose type is `weights`: widened, or q8_0 as it lies. */
static float product_dot(const struct fr_ref *ref, enum fr_phase phase, enum fr_dtype weights, const float *a,
			 const void *b, int n)
{
	int terms = ref->rounds.pairs;

	if (weights == FR_Q8_0)
		return fr_q8_dot(a, b, n);
	if (ref->rounds.tiles && phase == FR_PREFILL)
		return fr_tile_dot(a, b, n, terms, fr_tile_terms(weights));
	if (terms && weights == FR_BF16)
		return phase == FR_DECODE ? fr_pair_lane_dot(a, b, n, terms) : fr_pair_dot(a, b, n, terms);
	return phase_dot(phase, a, b, n);
}

/* Row n of w as float32, in wide [w->cols]. */
static void widen_row(const struct fr_mat *w, int n, float *wide)
{
	size_t bytes = fr_dtype_bytes(w->dtype, (size_t)w->cols);

	fr_to_f32(w->dtype, (const char *)w->data + (size_t)n * bytes, wide, (size_t)w->cols);
}

/* Row n of w as product_dot takes it; wide [w->cols] may be used. */
static const void *product_row(const struct fr_mat *w, int n, float *wide)
{
	if (w->dtype == FR_Q8_0)
		return (const char *)w->data + (size_t)n * fr_dtype_bytes(FR_Q8_0, (size_t)w->cols);
	widen_row(w, n, wide);
	return wide;
}

static void multiply(struct fr_ref *ref, const struct fr_linear *a)
{
	size_t stride = a->x_stride ? a->x_stride : (size_t)a->w.cols;
	const float *x = fr_round_product(&ref->rounds, a->x, &stride, a->rows, a->w.cols, a->w.dtype, a->phase);

	for (int n = 0; n < a->w.rows; n++) {
		const void *w = product_row(&a->w, n, ref->wide[0]);

		for (int r = 0; r < a->rows; r++) {
			size_t at = (size_t)r * (size_t)a->w.rows + (size_t)n;
			float v = product_dot(ref, a->phase, a->w.dtype, x + (size_t)r * stride, w, a->w.cols);

			if (a->bias)
				v = v + a->bias[n];
			v = fr_act(a->act, v);
			if (a->scale)
				v = v * a->scale[n];
			if (a->residual)
				v = v + a->residual[at];
			a->y[at] = v;
		}
	}
}

static void ref_linear(struct fr_dev *dev, const struct fr_linear *a)
{
	for (; a; a = a->also)
		multiply((struct fr_ref *)dev, a);
}

static void ref_glu(struct fr_dev *dev, const struct fr_glu *a)
{
	struct fr_ref *ref = (struct fr_ref *)dev;
	int cols = a->gate.cols;
	int tiles = ref->rounds.tiles && a->phase == FR_PREFILL;
	int q8 = a->gate.dtype == FR_Q8_0 || a->up.dtype == FR_Q8_0;
	int mixed = a->gate.dtype != a->up.dtype && !tiles && !q8; /* float32 for pairs, of both */
	enum fr_dtype of_gate = mixed ? FR_F32 : a->gate.dtype, of_up = mixed ? FR_F32 : a->up.dtype;
	size_t stride = (size_t)cols;
	const float *in = fr_round_product(&ref->rounds, a->x, &stride, a->rows, cols, a->gate.dtype, a->phase);

	for (int n = 0; n < a->gate.rows; n++) {
		const void *w[2] = {product_row(&a->gate, n, ref->wide[0]), product_row(&a->up, n, ref->wide[1])};

		for (int r = 0; r < a->rows; r++) {
			const float *x = in + (size_t)r * stride;
			float gate = product_dot(ref, a->phase, of_gate, x, w[0], cols);
			float up = product_dot(ref, a->phase, of_up, x, w[1], cols);

			a->y[(size_t)r * (size_t)a->gate.rows + (size_t)n] = fr_silu(gate) * up;
		}
	}
}

/* y may be x: every element is read again before it is written. */
static void layer_norm(const struct fr_norm *a, const float *x, float *y)
{
	float lane[FR_LANES] = {0};
	float mean = fr_lane_sum(x, a->dim) / (float)a->dim, inv;

	for (int k = 0; k < a->dim; k++)
		lane[k % FR_LANES] = fmaf(x[k] - mean, x[k] - mean, lane[k % FR_LANES]);
	inv = 1.0f / sqrtf(fr_add_lanes(lane) / (float)a->dim + a->eps);
	for (int k = 0; k < a->dim; k++)
		y[k] = fmaf((x[k] - mean) * inv, a->weight[k], a->bias[k]);
}

static void rms_norm(const struct fr_norm *a, const float *x, float *y)
{
	float inv = 1.0f / sqrtf(fr_lane_dot(x, x, a->dim) / (float)a->dim + a->eps);

	for (int k = 0; k < a->dim; k++)
		y[k] = (x[k] * inv) * a->weight[k];
}

static void ref_norm(struct fr_dev *dev, const struct fr_norm *a)
{
	(void)dev;
	for (int r = 0; r < a->rows; r++) {
		size_t at = (size_t)r * (size_t)a->dim;

		if (a->bias)
			layer_norm(a, a->x + at, a->y + at);
		else
			rms_norm(a, a->x + at, a->y + at);
	}
}

/* Patch i: its elements come in the order channel, y, x. */
static void take_patch(const struct fr_patch *a, int i, float *x)
{
	int side = a->image, p = a->patch, g = side / p;

	for (int c = 0; c < 3; c++)
		for (int y = 0; y < p; y++, x += p)
			memcpy(x,
			       a->pixels + ((size_t)c * (size_t)side + (size_t)(i / g * p + y)) * (size_t)side +
				       i % g * p,
			       (size_t)p * sizeof *x);
}

/* One product of a patch x with widened weights: in pairs and tiles the pixels enter in two terms always, as on a GPU. */
static float patch_dot(const struct fr_ref *ref, const struct fr_mat *w, const float *x, const float *wide)
{
	if (ref->rounds.tiles)
		return fr_tile_dot(x, wide, w->cols, 2, fr_tile_terms(w->dtype));
	if (ref->rounds.pairs && w->dtype == FR_BF16)
		return fr_pair_dot(x, wide, w->cols, 2);
	return fr_seq_dot(x, wide, w->cols);
}

static void embed_patches(const struct fr_ref *ref, const struct fr_patch *a)
{
	int g = a->image / a->patch;
	float *w = ref->wide[0], *x = ref->wide[1];
	size_t dim = (size_t)a->w.rows;

	for (int n = 0; n < a->w.rows; n++) {
		widen_row(&a->w, n, w);
		a->y[n] = a->cls[n] + a->pos[n];
		for (int i = 0; i < g * g; i++) {
			size_t at = (size_t)(1 + i) * dim + (size_t)n;
			float v;

			take_patch(a, i, x);
			v = patch_dot(ref, &a->w, x, w);
			if (a->bias)
				v = v + a->bias[n];
			a->y[at] = v + a->pos[at];
		}
	}
}

static void ref_patch(struct fr_dev *dev, const struct fr_patch *a)
{
	struct fr_ref *ref = (struct fr_ref *)dev;
	size_t side = (size_t)a->image, grid = (size_t)(a->image / a->patch), size = 3 * side * side;
	struct fr_patch one = *a;

	for (int i = 0; i < (a->images ? a->images : 1); i++) {
		one.pixels = fr_round_pixels(&ref->rounds, a->pixels + (size_t)i * size, size, a->w.dtype);
		one.y = a->y + (size_t)i * (1 + grid * grid) * (size_t)a->w.rows;
		embed_patches(ref, &one);
	}
}

static void ref_embed(struct fr_dev *dev, const struct fr_embed *a)
{
	size_t dim = (size_t)a->table.cols;

	(void)dev;
	for (int r = 0; r < a->rows; r++) {
		int32_t id = a->ids[r];

		if (id >= 0)
			widen_row(&a->table, id, a->y + (size_t)r * dim);
		else
			memcpy(a->y + (size_t)r * dim, a->images + (size_t)(-1 - id) * dim, dim * sizeof(float));
	}
}

/* Element index of kv's [layer, seq, head, pos, 0]. */
static size_t kv_at(const struct fr_kv *kv, int layer, int seq, int head, int pos)
{
	size_t at = (size_t)layer * (size_t)kv->seqs + (size_t)seq;

	at = at * (size_t)kv->kv_heads + (size_t)head;
	return (at * (size_t)kv->max_pos + (size_t)pos) * (size_t)kv->head_dim;
}

static void kv_store(const struct fr_kv *kv, void *base, size_t at, const float *x)
{
	for (int d = 0; d < kv->head_dim; d++)
		if (kv->dtype == FR_F16)
			((uint16_t *)base)[at + (size_t)d] = fr_f32_f16(x[d]);
		else
			((float *)base)[at + (size_t)d] = x[d];
}

static void kv_load(const struct fr_kv *kv, const void *base, size_t at, float *x)
{
	size_t bytes = (size_t)fr_dtypes[kv->dtype].bytes;

	fr_to_f32(kv->dtype, (const char *)base + at * bytes, x, (size_t)kv->head_dim);
}

static void rotate(const float *x, const float *cos, const float *sin, int half, float *y)
{
	for (int i = 0; i < half; i++) {
		float a = x[i], b = x[i + half], c = cos[i], s = sin[i];

		y[i] = fmaf(a, c, -(b * s));
		y[i + half] = fmaf(b, c, a * s);
	}
}

static void ref_rope(struct fr_dev *dev, const struct fr_rope *a)
{
	const struct fr_kv *kv = a->kv;
	int hd = kv->head_dim, half = hd / 2;
	float rotated[MAX_HEAD_DIM];

	(void)dev;
	assert(hd % 8 == 0 && hd <= MAX_HEAD_DIM);
	for (int r = 0; r < a->rows; r++) {
		const struct fr_row row = a->row[r];
		const float *cos = a->cos + (size_t)row.pos * (size_t)half;
		const float *sin = a->sin + (size_t)row.pos * (size_t)half;

		for (int h = 0; h < a->heads; h++) {
			float *q = a->q + ((size_t)r * (size_t)a->heads + (size_t)h) * (size_t)hd;

			rotate(q, cos, sin, half, q);
		}
		for (int h = 0; h < kv->kv_heads; h++) {
			size_t from = ((size_t)r * (size_t)kv->kv_heads + (size_t)h) * (size_t)hd;
			size_t at = kv_at(kv, a->layer, row.seq, h, row.pos);

			rotate(a->k + from, cos, sin, half, rotated);
			kv_store(kv, kv->k, at, rotated);
			kv_store(kv, kv->v, at, a->v + from);
		}
	}
}

/* Key (or value) j of row r and head h, as float32 [head_dim]. */
static void load_key(const struct fr_attn *a, int values, int r, int h, int j, float *x)
{
	if (a->kv) {
		int head = h / (a->heads / a->kv->kv_heads);

		kv_load(a->kv, values ? a->kv->v : a->kv->k, kv_at(a->kv, a->layer, a->row[r].seq, head, j), x);
	} else {
		size_t at = ((size_t)j * (size_t)a->heads + (size_t)h) * (size_t)a->head_dim;

		memcpy(x, (values ? a->v : a->k) + at, (size_t)a->head_dim * sizeof(float));
	}
}

/* o [head_dim] += p v over keys from..from+n of row r and head h, in order. */
static void add_values(const struct fr_attn *a, int r, int h, int from, int n, const float *p, float *o)
{
	float v[MAX_HEAD_DIM];

	for (int j = 0; j < n; j++) {
		load_key(a, 1, r, h, from + j, v);
		for (int d = 0; d < a->head_dim; d++)
			o[d] = fmaf(p[j], v[d], o[d]);
	}
}

/* The same in pairs of keys. */
static void add_value_pairs(const struct fr_attn *a, int r, int h, int from, int n, const float *p, float *o)
{
	float v[2][MAX_HEAD_DIM];

	for (int d = 0; d < a->head_dim; d++)
		o[d] = fr_flush(o[d]);
	for (int j = 0; j < n; j += 2) {
		const int two = j + 1 < n;

		load_key(a, 1, r, h, from + j, v[0]);
		load_key(a, 1, r, h, from + j + (two ? 1 : 0), v[1]);
		for (int d = 0; d < a->head_dim; d++)
			o[d] = fr_pair_add(o[d], fr_pair_term(p[j]), two ? fr_pair_term(p[j + 1]) : 0,
					   fr_pair_term(v[0][d]), two ? fr_pair_term(v[1][d]) : 0);
	}
}

/* q k for key j. */
static float score(const struct fr_attn *a, int pairs, const float *q, int r, int h, int j)
{
	float k[MAX_HEAD_DIM];

	load_key(a, 0, r, h, j, k);
	if (!pairs)
		return phase_dot(a->kv ? a->phase : FR_PREFILL, q, k, a->head_dim);
	for (int d = 0; d < a->head_dim; d++)
		k[d] = fr_pair_term(k[d]);
	return fr_pair_dot(q, k, a->head_dim, 1);
}

/* One row of one head: a pass over the chunks of keys with a running maximum. */
static void attend(const struct fr_attn *a, int pairs, int r, int h)
{
	size_t at = ((size_t)r * (size_t)a->heads + (size_t)h) * (size_t)a->head_dim;
	const float *q = a->q + at;
	const float *bias = a->bias ? a->bias + ((size_t)h * (size_t)a->rows + (size_t)r) * (size_t)a->kv_rows : NULL;
	int keys = a->kv ? a->row[r].pos + 1 : a->kv_rows;
	float m = -INFINITY, l = 0, o[MAX_HEAD_DIM] = {0}, p[FR_ATTN_CHUNK];

	for (int from = 0; from < keys; from += FR_ATTN_CHUNK) {
		int n = keys - from < FR_ATTN_CHUNK ? keys - from : FR_ATTN_CHUNK;
		float top = m, fade;

		for (int j = 0; j < n; j++) {
			p[j] = score(a, pairs, q, r, h, from + j) * a->scale;
			if (bias)
				p[j] = p[j] + bias[from + j];
			top = p[j] > top ? p[j] : top;
		}
		fade = fr_exp(m - top);
		for (int j = 0; j < n; j++)
			p[j] = fr_exp(p[j] - top);
		l = fmaf(l, fade, fr_lane_sum(p, n));
		for (int d = 0; d < a->head_dim; d++)
			o[d] = o[d] * fade;
		(pairs ? add_value_pairs : add_values)(a, r, h, from, n, p, o);
		m = top;
	}
	for (int d = 0; d < a->head_dim; d++)
		a->y[at + (size_t)d] = o[d] / l;
}

static void ref_attn(struct fr_dev *dev, const struct fr_attn *a)
{
	struct fr_rounds *rounds = &((struct fr_ref *)dev)->rounds;
	const int pairs = fr_rounds_pair_attn(rounds, a);
	struct fr_attn one = fr_round_attn(rounds, a);

	assert(a->head_dim % 8 == 0 && a->head_dim <= MAX_HEAD_DIM && (!a->kv || a->items <= 1));
	for (int i = 0; i < (a->items ? a->items : 1); i++, one = fr_attn_next(&one))
		for (int r = 0; r < a->rows; r++)
			for (int h = 0; h < a->heads; h++)
				attend(&one, pairs, r, h);
}

static int ref_sync(struct fr_dev *dev, struct fr_error *err)
{
	struct fr_rounds *r = &((struct fr_ref *)dev)->rounds;

	if (!r->failed)
		return fr_host_sync(dev, err);
	r->failed = 0;
	return fr_fail(err, FR_E_MEMORY, "not enough memory for the rounded inputs of an operation");
}

static void ref_close(struct fr_dev *dev)
{
	fr_rounds_close(&((struct fr_ref *)dev)->rounds);
	fr_host_release_all((struct fr_host *)dev);
	free(dev);
}

static const struct fr_ops ref_ops = {
	.name = "ref",
	.alloc = fr_host_alloc,
	.release = fr_host_release,
	.put = fr_host_copy,
	.get = fr_host_copy,
	.copy = fr_host_copy,
	.weight = fr_host_weight,
	.vector = fr_host_vector,
	.patch = ref_patch,
	.embed = ref_embed,
	.linear = ref_linear,
	.glu = ref_glu,
	.norm = ref_norm,
	.rope = ref_rope,
	.attn = ref_attn,
	.attn_map = fr_ref_attn_map,
	.map_bias = fr_ref_map_bias,
	.gate = fr_ref_gate,
	.pick = fr_host_pick,
	.room = fr_host_room,
	.sync = ref_sync,
	.close = ref_close,
};

int fr_ref_open(const struct fr_dev_opts *opts, struct fr_dev **out, struct fr_error *err)
{
	struct fr_ref *ref = calloc(1, sizeof *ref);
	void *wide;

	*out = NULL;
	if (!ref)
		return fr_fail(err, FR_E_MEMORY, "cannot allocate %zu bytes for the ref device", sizeof *ref);
	ref->host.dev = (struct fr_dev){.ops = &ref_ops, .activations = "f32", .together = 1, .row_cost = 1, .maps = 1, .threads = 1};
	if (fr_rounds_open(opts->roundings, &ref->rounds, err) != 0 ||
	    fr_host_alloc(&ref->host.dev, 2 * FR_MAX_COLS * sizeof(float), &wide, err) != 0) {
		ref_close(&ref->host.dev);
		return -1;
	}
	ref->host.dev.isa = !ref->rounds.on ? "ref" : ref->rounds.precise ? "ref-cuda-precise" : "ref-cuda";
	if (ref->rounds.pairs) {
		ref->host.dev.isa = ref->rounds.tiles ? "ref-amx" : "ref-avx512bf16";
		ref->host.dev.activations = ref->rounds.pairs == 2 ? "2xbf16" : "bf16";
	}
	ref->wide[0] = wide;
	ref->wide[1] = ref->wide[0] + FR_MAX_COLS;
	*out = &ref->host.dev;
	return 0;
}
