/* The bounds of the kernel check: what an operation may be off from the same operation in double, element by element.
 *
 * Running error analysis. Every quantity is (v, e, s): its value in double, a bound on how far the computed value may
 * be from it, and the size a random walk of the same roundings has. With u = 2^-24 (round to nearest) and the smallest
 * subnormal as floor,
 *   fl(a op b) = (a op b)(1 + d), |d| <= u                            so  e(op) = e carried through op + u |result|
 *   a chain of n fma:  |fl - sum ab| <= g(n) sum |a||b|,  g(n) = n u / (1 - n u)
 * seq over K terms is a chain of K; lane over K terms passes ceil(K / 32) fma and 5 additions: g(ceil(K / 32) + 5).
 * Activations add the error of kernels/math.h (measured by kernels_math.c, rounded up here). Double's own rounding,
 * 2^-53 times a few thousand, is covered by the factor SLACK, as are terms of second order, which are below 1/200 of
 * those of first order because every relative error here is below 1/200 (checked for the softmax).
 *
 * MATRIX UNITS. Inputs are rounded first, exactly as the device says it rounds them (kernels/ref_round.h), then
 * products are exact and a unit adds 16 of them to the sum: PTX promises no order and no more than single precision;
 * what is known of the chips is that addends are shifted to the largest and cut off. 17 addends (18 in two halves),
 * each cut by at most 2u of a magnitude below sum |a||b|, then the result's own: 40 u a step, so 2.5 u for each of K
 * products; `terms` products for each of K; 64 more for what joins partial sums.
 *
 * THE WALK. Such a bound grows with K where errors grow with sqrt(K), and lets a lost second term pass. So over a whole
 * case the rms of (error / s) must not exceed 1 either, where for a sum of K products with q = sqrt(sum (ab)^2)
 *   s = u q (2 sqrt(K) + 4)             roundings to nearest, twice their expected size and a few more
 *   s = u q (2 sqrt(K) + K / 8 + 4)     matrix units: what is cut off points to zero, u of the sum in each of K / 16
 * steps, twice; K counts every term. A term that is lost is 2^-10 q. */
#ifndef FR_TEST_KERNEL_BOUNDS_H
#define FR_TEST_KERNEL_BOUNDS_H

#include "../kernels/check.h"
#include "../kernels/math.h"
#include "../kernels/ref_round.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define U 0x1p-24
#define FLOOR 0x1p-148
#define SLACK 1.01
#define EXP_ERR (2.2 * U) /* 1.06 ulp, an ulp is at most 2 u of the value */

/* Who computed, and how much of it is looked at. */
struct party {
	int rounds;	/* inputs rounded as the CUDA instance does */
	int precise;	/* .. run with precise */
	int pairs;	/* bf16 weights multiplied in pairs, x in so many terms (ops.h); 0: not */
	int tiles;	/* .. all weights in tiles instead, with the same terms of x */
	int free_sums;	/* sums in an order of the device's own, by matrix units where inputs are rounded; else the
			   contract's */
	int rows, cols; /* look at so many rows and outputs of a product, evenly chosen; 0: all */
};

struct est {
	double v, e, s;
};

static inline double gamma_n(double n)
{
	return n * U / (1 - n * U);
}
static inline int lane_depth(int k)
{
	return (k + 31) / 32 + 5;
}
static inline struct est rounded(double v, double e, double s)
{
	return (struct est){v, e + U * (fabs(v) + e) + FLOOR, s + U * fabs(v) + FLOOR};
}
static inline struct est est_add(struct est a, struct est b)
{
	return rounded(a.v + b.v, a.e + b.e, a.s + b.s);
}
static inline struct est est_mul(struct est a, struct est b)
{
	return rounded(a.v * b.v, a.e * fabs(b.v) + b.e * fabs(a.v) + a.e * b.e, a.s * fabs(b.v) + b.s * fabs(a.v));
}
static inline struct est given(float x)
{
	return (struct est){(double)x, 0, 0};
}

/* |d act / dx| is at most 1.13 for each of them, and on top of the error of x:
 *   x sigmoid(cx): c x is rounded (and c itself), so exp(-cx) is off by 2u|cx| + EXP_ERR relatively; adding 1, dividing
 *   and multiplying round three times; where exp overflows the result 0 is off by less than |x| e^-87.
 *   gelu: erf is off by 1.02 ulp <= 1.02 u * 2 / 2 near 1, its argument by 2u relatively, worth max |2/sqrt(pi) z
 *   exp(-z^2)| * 2u < u; 1 + erf rounds by at most 2u; the last product by u |y|. 0.5 x is exact. */
static inline struct est est_act(enum fr_act act, struct est x)
{
	double a = fabs(x.v), y, e;

	if (act == FR_ACT_NONE)
		return x;
	if (act == FR_ACT_RELU) /* exact, and brings no two values further apart */
		return (struct est){x.v < 0 ? 0 : x.v, x.e, x.s};
	if (act == FR_ACT_GELU) {
		y = 0.5 * x.v * (1 + erf(x.v * M_SQRT1_2));
		e = 0.5 * a * 5 * U + 2 * U * fabs(y);
	} else {
		double c = act == FR_ACT_SILU ? 1 : 1.702;

		y = x.v / (1 + exp(-c * x.v));
		e = fabs(y) * (2 * U * c * a + EXP_ERR + 3 * U) + a * 1e-37;
	}
	return (struct est){y, 1.13 * x.e + e + FLOOR, 1.13 * x.s + e + FLOOR};
}

/* item i of weights as double (all types are widened exactly) */
static inline double weight_at(const struct fr_tensor *w, size_t i)
{
	const size_t items = (size_t)fr_dtypes[w->dtype].items;
	float f[FR_Q8_ITEMS];

	fr_to_f32(w->dtype, (const char *)w->data + i / items * (size_t)fr_dtypes[w->dtype].bytes, f, i % items + 1);
	return (double)f[i % items];
}

/* How a sum of k products comes about: e = depth u sum |ab|, s = walk u q. */
struct sums {
	double depth, walk;
};
static inline struct sums contract_sums(int k, enum fr_phase phase)
{
	double n = phase == FR_DECODE ? lane_depth(k) : k;

	return (struct sums){gamma_n(n) / U, 2 * sqrt(k) + 4};
}
static inline struct sums matrix_sums(int k, int terms)
{
	return (struct sums){gamma_n(2.5 * terms * k + 64) / U, 2 * sqrt(terms * k) + terms * k / 8.0 + 4};
}
/* float32 sums of k products in whatever order */
static inline struct sums free_sums(int k)
{
	return (struct sums){gamma_n(k + 16) / U, 2 * sqrt(k) + 4};
}

/* A chain again, longer by the terms, or in decoding 16 of them and 4 additions; no value of the rows comes near a
 * subnormal. */
static inline struct sums pair_sums(int k, int terms, enum fr_phase phase)
{
	double n = phase == FR_DECODE ? terms * 2 * ((k + 31) / 32) + 4 : terms * k;

	return (struct sums){gamma_n(n) / U, 2 * sqrt(terms * k) + 4};
}

/* The even and the odd elements of a tile are chains of 16, then joined, then added to the sum: once for each product
 * of terms. Weights are all in their terms; of a second term of x its product with the third of f32 is left out: 2^-8 of
 * x by 2^-17 of w at most, u / 2. */
static inline struct sums tile_sums(int k, int terms, enum fr_dtype weights)
{
	int products = weights == FR_BF16 ? terms : weights == FR_F16 ? 2 * terms : 2 * terms + 1;
	int steps = (k + 31) / 32 * products;
	double left_out = weights == FR_F32 && terms == 2 ? 0.5 : 0;

	return (struct sums){gamma_n(17 + steps) / U + left_out, 2 * sqrt(32 + steps) + 4 + left_out};
}

static inline int terms_of(const struct party *p, enum fr_dtype weights, enum fr_phase phase)
{
	if (p->pairs)
		return weights == FR_BF16 || (p->tiles && phase == FR_PREFILL) ? p->pairs : 0;
	if (!p->rounds || weights == FR_F32)
		return 0;
	return p->precise || phase == FR_DECODE ? 2 : 1;
}
static inline struct sums sums_of_terms(const struct party *p, int k, int terms, enum fr_dtype weights,
					enum fr_phase phase)
{
	if (p->tiles && terms && phase == FR_PREFILL)
		return tile_sums(k, terms, weights);
	if (p->pairs && terms)
		return pair_sums(k, terms, phase);
	return p->free_sums && terms ? matrix_sums(k, terms) : contract_sums(k, phase);
}
static inline struct sums product_sums(const struct party *p, int k, enum fr_dtype weights, enum fr_phase phase)
{
	int terms = terms_of(p, weights, phase);

	return sums_of_terms(p, k, terms, weights, phase);
}

static inline struct est est_dot(const float *x, const double *w, int k, struct sums how)
{
	double v = 0, sum = 0, square = 0;

	for (int i = 0; i < k; i++) {
		double t = (double)x[i] * w[i];

		v += t;
		sum += fabs(t);
		square += t * t;
	}
	return (struct est){v, how.depth * U * sum + FLOOR * k, how.walk * U * sqrt(square) + FLOOR * k};
}

/* The same of q8_0 weights. x in a block is off by half of its scale d = max |x| / 127, and by what rounding d, 1 / d
 * and x * (1 / d) adds: 2^-24 each, of at most 127 d. Then there is one product of the scales and one step of a chain
 * for each block. A walk of errors that are even in +-d / 2 has the size d / sqrt(12) for each item; twice that is
 * taken. */
static inline struct est est_q8_dot(const float *x, const double *w, int k)
{
	double v = 0, e = 0, square = 0, sum = 0, walk = 0;
	int blocks = k / FR_Q8_ITEMS;

	for (int b = 0; b < blocks; b++, x += FR_Q8_ITEMS, w += FR_Q8_ITEMS) {
		double d = 0;

		for (int i = 0; i < FR_Q8_ITEMS; i++)
			d = fmax(d, fabs((double)x[i]) / 127);
		for (int i = 0; i < FR_Q8_ITEMS; i++) {
			v += (double)x[i] * w[i];
			e += d * (0.5 + 127 * 4 * U) * fabs(w[i]);
			sum += (fabs((double)x[i]) + d) * fabs(w[i]);
			square += (double)x[i] * w[i] * ((double)x[i] * w[i]);
			walk += d * d / 3 * w[i] * w[i];
		}
	}
	e += gamma_n(blocks + 1) * sum + FLOOR * k;
	return (struct est){v, e, sqrt(walk) + (2 * sqrt(blocks) + 4) * U * sqrt(square) + FLOOR * k};
}

/* What is known about one output so far. */
struct tally {
	size_t n, worst, nonfinite;
	double ratio, max_abs, got, want, bound;
	double walk; /* sum of (error / s)^2 */
};
static inline double tally_walk(const struct tally *t)
{
	return t->n ? sqrt(t->walk / (double)t->n) : 0;
}
static inline void note(struct tally *t, size_t at, float got, struct est want)
{
	double off = fabs((double)got - want.v), bound = want.e * SLACK;

	t->n++;
	if (!isfinite(got) || !isfinite(want.v) || !isfinite(bound)) {
		t->nonfinite++;
		return;
	}
	if (off > t->max_abs)
		t->max_abs = off;
	if (want.s > 0)
		t->walk += off / want.s * (off / want.s);
	if (bound > 0 ? off / bound > t->ratio : off > 0) {
		t->ratio = bound > 0 ? off / bound : INFINITY;
		t->worst = at;
		t->got = (double)got;
		t->want = want.v;
		t->bound = bound;
	}
}

/* Of n things the i-th of `some` that are looked at, the first and the last among them. */
static inline int chosen(int n, int some)
{
	return some && some < n ? some : n;
}
static inline int choice(int i, int n, int some)
{
	return chosen(n, some) == n ? i : some < 2 ? 0 : (int)((int64_t)i * (n - 1) / (some - 1));
}

static inline const float *slot(const struct fr_check_run *run, enum fr_slot s)
{
	return run->check->slot[s].host;
}

/* One product of a chain (kernels/check.h): its weights, outputs and the part of the biases that is its own. */
struct product {
	const struct fr_tensor *w, *up; /* up: of glu, or NULL */
	const float *bias, *scale, *residual, *out;
	int outs;
};
static inline struct product product_of(const struct fr_check_run *run, int i)
{
	const struct fr_check *ck = run->check;
	const struct fr_check_case *c = &ck->c;
	struct product p = {.w = &ck->w[i],
			    .up = c->op == FR_CHECK_GLU ? &ck->w[1] : NULL,
			    .bias = slot(run, FR_SLOT_BIAS),
			    .out = run->out[(int)FR_SLOT_Y + i],
			    .outs = fr_check_outs(c, i)};

	for (int j = 0; j < i && p.bias; j++)
		p.bias += fr_check_outs(c, j);
	if (i == 0) {
		p.scale = slot(run, FR_SLOT_SCALE);
		if (c->op == FR_CHECK_LINEAR && c->with & (FR_WITH_RESIDUAL | FR_IN_PLACE))
			p.residual = c->with & FR_IN_PLACE ? slot(run, FR_SLOT_Y) : slot(run, FR_SLOT_ADD);
	}
	return p;
}

/* The rows of x that are looked at, as the device multiplies them: malloc'd [rows, k]. */
static inline float *product_inputs(const struct fr_check_run *run, const struct party *p)
{
	const struct fr_check_case *c = &run->check->c;
	size_t stride = run->check->slot[FR_SLOT_X].bytes / sizeof(float) / (size_t)c->m, k = (size_t)c->k;
	int terms = terms_of(p, c->dtype, c->phase), rows = chosen(c->m, p->rows);
	enum fr_dtype type = p->tiles ? FR_BF16 : c->dtype;
	float *x = malloc((size_t)rows * k * sizeof *x);

	for (int i = 0; i < rows; i++) {
		const float *from = slot(run, FR_SLOT_X) + (size_t)choice(i, c->m, p->rows) * stride;

		memcpy(x + (size_t)i * k, from, k * sizeof *x);
		if (terms)
			fr_round_terms(from, x + (size_t)i * k, k, type, terms, fr_round_factor(from, k, type));
	}
	return x;
}

static inline double *widened(const struct fr_tensor *w, int n, size_t k)
{
	double *wide = malloc(k * sizeof *wide);

	for (size_t i = 0; i < k; i++)
		wide[i] = weight_at(w, (size_t)n * k + i);
	return wide;
}

static inline struct est dot_of(const struct fr_check_case *c, const float *x, const double *w, struct sums how)
{
	return c->dtype == FR_Q8_0 ? est_q8_dot(x, w, c->k) : est_dot(x, w, c->k, how);
}

static inline void check_product(const struct fr_check_run *run, const struct party *p, const struct product *a,
				 const float *x, struct tally *t)
{
	const struct fr_check_case *c = &run->check->c;
	struct sums how = product_sums(p, c->k, a->w->dtype, c->phase);
	struct sums how_up = a->up ? product_sums(p, c->k, a->up->dtype, c->phase) : how;

	for (int j = 0; j < chosen(a->outs, p->cols); j++) {
		int n = choice(j, a->outs, p->cols);
		double *w = widened(a->w, n, (size_t)c->k), *up = a->up ? widened(a->up, n, (size_t)c->k) : NULL;

		for (int i = 0; i < chosen(c->m, p->rows); i++) {
			size_t at = (size_t)choice(i, c->m, p->rows) * (size_t)a->outs + (size_t)n;
			const float *row = x + (size_t)i * (size_t)c->k;
			struct est v = dot_of(c, row, w, how);

			if (up)
				v = est_mul(est_act(FR_ACT_SILU, v), dot_of(c, row, up, how_up));
			if (a->bias)
				v = est_add(v, given(a->bias[n]));
			v = est_act(c->act, v);
			if (a->scale)
				v = est_mul(v, given(a->scale[n]));
			if (a->residual)
				v = est_add(v, given(a->residual[at]));
			note(t, at, a->out[at], v);
		}
		free(w);
		free(up);
	}
}

static inline void check_linear(const struct fr_check_run *run, const struct party *p, struct tally *t)
{
	float *x = product_inputs(run, p);

	for (int i = 0; i <= run->check->c.also; i++) {
		struct product a = product_of(run, i);

		check_product(run, p, &a, x, t);
	}
	free(x);
}

/* Free sums are trees of at most 12 levels over shorter chains than the lanes'.
 * mean is off by g(depth) avg|x| and a division; squares of (c, e) are off by 2|c|e + e^2; the root of (s, e) by at
 * most e / (2 sqrt(s - e)). */
static inline void check_norm(const struct fr_check_run *run, const struct party *p, struct tally *t)
{
	const struct fr_check_case *c = &run->check->c;
	const float *x = slot(run, c->with & FR_IN_PLACE ? FR_SLOT_Y : FR_SLOT_X), *weight = slot(run, FR_SLOT_SCALE);
	const float *bias = slot(run, FR_SLOT_BIAS);
	double g = gamma_n(lane_depth(c->k) + (p->free_sums ? 12 : 0));

	for (int r = 0; r < c->m; r++, x += c->k) {
		double sum = 0, abs_sum = 0, sq = 0, sq_e = 0, root;
		struct est mean = {0}, var, inv;

		for (int k = 0; k < c->k; k++) {
			sum += (double)x[k];
			abs_sum += fabs((double)x[k]);
		}
		if (bias)
			mean = rounded(sum / c->k, g * abs_sum / c->k, g * abs_sum / c->k);
		for (int k = 0; k < c->k; k++) {
			struct est d = bias ? rounded((double)x[k] - mean.v, mean.e, mean.s) : given(x[k]);

			sq += d.v * d.v;
			sq_e += 2 * fabs(d.v) * d.e + d.e * d.e;
		}
		sq_e = (g * (sq + sq_e) + sq_e) / c->k + FLOOR;
		var = est_add(rounded(sq / c->k, sq_e, sq_e), given(1e-5f));
		root = sqrt(var.v);
		var.e /= 2 * sqrt(var.v - var.e);
		inv = rounded(root, var.e, var.e);
		inv.e /= root * (root - inv.e);
		inv = rounded(1 / root, inv.e, inv.e);
		for (int k = 0; k < c->k; k++) {
			struct est d = bias ? rounded((double)x[k] - mean.v, mean.e, mean.s) : given(x[k]);
			struct est y = est_mul(d, inv);
			size_t at = (size_t)r * (size_t)c->k + (size_t)k;

			if (bias) /* one fma: one rounding */
				y = rounded(y.v * (double)weight[k] + (double)bias[k], y.e * fabs((double)weight[k]),
					    y.s * fabs((double)weight[k]));
			else
				y = est_mul(y, given(weight[k]));
			note(t, at, ((float *)run->out[FR_SLOT_Y])[at], y);
		}
	}
}

/* The elements of patch i of an image's pixels. */
static inline void patch_of(const struct fr_check_case *c, const float *pixels, int i, float *x)
{
	int p = c->patch, g = c->image / p;

	for (int j = 0; j < 3 * p * p; j++) {
		int row = i / g * p + j / p % p, col = i % g * p + j % p;

		x[j] = pixels[(j / (p * p) * c->image + row) * c->image + col];
	}
}

static inline void check_patch(const struct fr_check_run *run, const struct party *p, struct tally *t)
{
	const struct fr_check_case *c = &run->check->c;
	const float *pos = slot(run, FR_SLOT_ADD), *bias = slot(run, FR_SLOT_BIAS), *out = run->out[FR_SLOT_Y];
	int g = c->image / c->patch, k = 3 * c->patch * c->patch, terms = terms_of(p, c->dtype, FR_PREFILL) ? 2 : 0;
	int images = c->images ? c->images : 1, patches = images * g * g;
	struct sums how = sums_of_terms(p, k, terms, c->dtype, FR_PREFILL);
	double *w = malloc((size_t)k * sizeof *w);
	float *x = malloc((size_t)k * sizeof *x);

	for (int j = 0; j < chosen(c->n, p->cols); j++) {
		int n = choice(j, c->n, p->cols);

		for (int i = 0; i < k; i++)
			w[i] = weight_at(&run->check->w[0], (size_t)n * (size_t)k + (size_t)i);
		for (int i = 0; i < images; i++) {
			size_t at = (size_t)i * (size_t)(1 + g * g) * (size_t)c->n + (size_t)n;

			note(t, at, out[at], est_add(given(slot(run, FR_SLOT_SCALE)[n]), given(pos[n])));
		}
		for (int a = 0; a < chosen(patches, p->rows); a++) {
			int at_patch = choice(a, patches, p->rows), i = at_patch % (g * g), image = at_patch / (g * g);
			size_t at = ((size_t)image * (size_t)(1 + g * g) + (size_t)(1 + i)) * (size_t)c->n + (size_t)n;
			struct est v;

			patch_of(c, slot(run, FR_SLOT_X) + (size_t)image * 3 * (size_t)c->image * (size_t)c->image, i,
				 x);
			if (terms)
				fr_round_terms(x, x, (size_t)k, p->tiles ? FR_BF16 : c->dtype, terms, 1);
			v = est_dot(x, w, k, how);
			if (bias)
				v = est_add(v, given(bias[n]));
			note(t, at, out[at], est_add(v, given(pos[(size_t)(1 + i) * (size_t)c->n + (size_t)n])));
		}
	}
	free(w);
	free(x);
}

/* No arithmetic: the bound is 0. */
static inline void check_embed(const struct fr_check_run *run, const struct party *p, struct tally *t)
{
	const struct fr_check_case *c = &run->check->c;

	(void)p;
	for (int r = 0; r < c->m; r++)
		for (int k = 0; k < c->k; k++) {
			int id = run->check->ids[r];
			size_t at = (size_t)r * (size_t)c->k + (size_t)k;
			double v = id >= 0 ? weight_at(&run->check->w[0], (size_t)id * (size_t)c->k + (size_t)k)
					   : (double)slot(run, FR_SLOT_X)[(size_t)(-1 - id) * (size_t)c->k + (size_t)k];

			note(t, at, ((float *)run->out[FR_SLOT_Y])[at], (struct est){v, 0, 0});
		}
}

/* Item i of a cache of c->dtype. */
static inline float cache_at(const struct fr_check_case *c, const void *cache, size_t i)
{
	return c->dtype == FR_F16 ? fr_f16_f32(((const uint16_t *)cache)[i]) : ((const float *)cache)[i];
}
static inline size_t cache_index(const struct fr_check *ck, int seq, int head, int pos)
{
	size_t at = (size_t)(FR_CHECK_LAYER * ck->slots + seq);

	at = at * (size_t)ck->c.kv_heads + (size_t)head;
	return (at * (size_t)ck->max_pos + (size_t)pos) * (size_t)ck->c.head_dim;
}

/* Element d of a rotated head: b s is rounded, then one fma. */
static inline struct est rotated(const float *x, const float *cos, const float *sin, int half, int d)
{
	int i = d % half;
	double a = (double)x[i], b = (double)x[i + half], c = (double)cos[i], s = (double)sin[i];

	return d < half ? rounded(a * c - b * s, U * fabs(b * s), U * fabs(b * s))
			: rounded(b * c + a * s, U * fabs(a * s), U * fabs(a * s));
}

/* Storing as f16 rounds once more: 2^-11 relatively, 2^-25 at least. */
static inline struct est stored(enum fr_dtype dtype, struct est v)
{
	double once = 0x1p-11 * (fabs(v.v) + v.e) + 0x1p-25;

	return dtype == FR_F16 ? (struct est){v.v, v.e + once, v.s + once} : v;
}

static inline void check_rope(const struct fr_check_run *run, const struct party *p, struct tally *t)
{
	const struct fr_check *ck = run->check;
	const struct fr_check_case *c = &ck->c;
	int hd = c->head_dim, half = hd / 2;

	(void)p;
	for (int r = 0; r < c->m; r++) {
		const float *cos = slot(run, FR_SLOT_COS) + (size_t)ck->row[r].pos * (size_t)half;
		const float *sin = slot(run, FR_SLOT_SIN) + (size_t)ck->row[r].pos * (size_t)half;

		for (int i = 0; i < c->heads * hd; i++) {
			size_t from = (size_t)((r * c->heads + i / hd) * hd), at = from + (size_t)(i % hd);

			note(t, at, ((float *)run->out[FR_SLOT_X])[at],
			     rotated(slot(run, FR_SLOT_X) + from, cos, sin, half, i % hd));
		}
		for (int i = 0; i < c->kv_heads * hd; i++) {
			size_t from = (size_t)((r * c->kv_heads + i / hd) * hd);
			size_t at = cache_index(ck, ck->row[r].seq, i / hd, ck->row[r].pos) + (size_t)(i % hd);

			note(t, at, cache_at(c, run->out[FR_SLOT_CACHE_K], at),
			     stored(c->dtype, rotated(slot(run, FR_SLOT_K) + from, cos, sin, half, i % hd)));
			note(t, at, cache_at(c, run->out[FR_SLOT_CACHE_V], at),
			     stored(c->dtype, given(slot(run, FR_SLOT_V)[from + (size_t)(i % hd)])));
		}
	}
}

#endif
