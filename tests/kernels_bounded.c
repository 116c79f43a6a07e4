/* The kernel check, bounded half: the plain instance against the same operation in double.
 *
 * The bound is derived element by element, by running error analysis. Every quantity is a pair (v, e): its value in
 * double and a bound on how far the float32 computation may be from it. With u = 2^-24 (round to nearest) and the
 * smallest subnormal as floor,
 *   fl(a op b) = (a op b)(1 + d), |d| <= u                            so  e(op) = e carried through op + u |result|
 *   a chain of n fma:  |fl - sum ab| <= g(n) sum |a||b|,  g(n) = n u / (1 - n u)
 * seq over K terms is a chain of K; lane over K terms passes ceil(K / 32) fma and 5 additions: g(ceil(K / 32) + 5).
 * Activations add the error of kernels/math.h (measured by kernels_math.c, rounded up here). Double's own rounding,
 * 2^-53 times a few thousand, is covered by the factor SLACK, as are terms of second order, which are below 1/200 of
 * those of first order because every relative error here is below 1/200 (checked for the softmax). */
#include "test.h"
#include "kernel_rows.h"

#include <fnmatch.h>

#define U 0x1p-24
#define FLOOR 0x1p-148
#define SLACK 1.01
#define EXP_ERR (2.2 * U) /* 1.06 ulp, an ulp is at most 2 u of the value */

struct est {
	double v, e;
};

static double gamma_n(int n)
{
	return n * U / (1 - n * U);
}
static int lane_depth(int k)
{
	return (k + 31) / 32 + 5;
}
static struct est rounded(double v, double e)
{
	return (struct est){v, e + U * (fabs(v) + e) + FLOOR};
}
static struct est est_add(struct est a, struct est b)
{
	return rounded(a.v + b.v, a.e + b.e);
}
static struct est est_mul(struct est a, struct est b)
{
	return rounded(a.v * b.v, a.e * fabs(b.v) + b.e * fabs(a.v) + a.e * b.e);
}
static struct est given(float x)
{
	return (struct est){(double)x, 0};
}

/* |d act / dx| is at most 1.13 for each of them, and on top of the error of x:
 *   x sigmoid(cx): c x is rounded (and c itself), so exp(-cx) is off by 2u|cx| + EXP_ERR relatively; adding 1, dividing
 *   and multiplying round three times; where exp overflows the result 0 is off by less than |x| e^-87.
 *   gelu: erf is off by 1.02 ulp <= 1.02 u * 2 / 2 near 1, its argument by 2u relatively, worth max |2/sqrt(pi) z
 *   exp(-z^2)| * 2u < u; 1 + erf rounds by at most 2u; the last product by u |y|. 0.5 x is exact. */
static struct est est_act(enum fr_act act, struct est x)
{
	double a = fabs(x.v), y, e;

	if (act == FR_ACT_NONE)
		return x;
	if (act == FR_ACT_GELU) {
		y = 0.5 * x.v * (1 + erf(x.v * M_SQRT1_2));
		e = 0.5 * a * 5 * U + 2 * U * fabs(y);
	} else {
		double c = act == FR_ACT_SILU ? 1 : 1.702;

		y = x.v / (1 + exp(-c * x.v));
		e = fabs(y) * (2 * U * c * a + EXP_ERR + 3 * U) + a * 1e-37;
	}
	return (struct est){y, 1.13 * x.e + e + FLOOR};
}

/* item i of weights as double (bf16, f16 and f32 are widened exactly) */
static double weight_at(const struct fr_tensor *w, size_t i)
{
	float f;

	fr_to_f32(w->dtype, (const char *)w->data + i * (size_t)fr_dtypes[w->dtype].bytes, &f, 1);
	return (double)f;
}

static struct est est_dot(const float *x, const double *w, int k, enum fr_phase phase)
{
	double v = 0, sum = 0;

	for (int i = 0; i < k; i++) {
		v += (double)x[i] * w[i];
		sum += fabs((double)x[i] * w[i]);
	}
	return (struct est){v, gamma_n(phase == FR_DECODE ? lane_depth(k) : k) * sum + FLOOR * k};
}

/* What is known about one output so far. */
struct tally {
	size_t n, worst, nonfinite;
	double ratio, max_abs, got, want, bound;
};
static void note(struct tally *t, size_t at, float got, struct est want)
{
	double off = fabs((double)got - want.v), bound = want.e * SLACK;

	t->n++;
	if (!isfinite(got) || !isfinite(want.v) || !isfinite(bound)) {
		t->nonfinite++;
		return;
	}
	if (off > t->max_abs)
		t->max_abs = off;
	if (bound > 0 ? off / bound > t->ratio : off > 0) {
		t->ratio = bound > 0 ? off / bound : INFINITY;
		t->worst = at;
		t->got = (double)got;
		t->want = want.v;
		t->bound = bound;
	}
}

static const float *slot(const struct fr_check_run *run, enum fr_slot s)
{
	return run->check->slot[s].host;
}

/* Product i of a chain; bias is its own, scale and residual are the first one's. */
static void check_product(const struct fr_check_run *run, int i, const float *bias, struct tally *t)
{
	const struct fr_check *ck = run->check;
	const struct fr_check_case *c = &ck->c;
	const float *x = slot(run, FR_SLOT_X), *scale = i ? NULL : slot(run, FR_SLOT_SCALE),
		    *y = run->out[FR_SLOT_Y + i];
	const float *res = c->with & FR_IN_PLACE ? slot(run, FR_SLOT_Y) : slot(run, FR_SLOT_ADD);
	const int outs = fr_check_outs(c, i);
	size_t stride = ck->slot[FR_SLOT_X].bytes / sizeof(float) / (size_t)c->m;
	double *w[2] = {malloc((size_t)c->k * sizeof(double)), malloc((size_t)c->k * sizeof(double))};

	for (int n = 0; n < outs; n++) {
		for (int m = 0; m <= (c->op == FR_CHECK_GLU); m++)
			for (int k = 0; k < c->k; k++)
				w[m][k] = weight_at(&ck->w[i + m], (size_t)n * (size_t)c->k + (size_t)k);
		for (int r = 0; r < c->m; r++) {
			size_t at = (size_t)r * (size_t)outs + (size_t)n;
			struct est v = est_dot(x + (size_t)r * stride, w[0], c->k, c->phase);

			if (c->op == FR_CHECK_GLU)
				v = est_mul(est_act(FR_ACT_SILU, v),
					    est_dot(x + (size_t)r * stride, w[1], c->k, c->phase));
			if (bias)
				v = est_add(v, given(bias[n]));
			v = est_act(c->act, v);
			if (scale)
				v = est_mul(v, given(scale[n]));
			if (i == 0 && res && c->op == FR_CHECK_LINEAR && c->with & (FR_WITH_RESIDUAL | FR_IN_PLACE))
				v = est_add(v, given(res[at]));
			note(t, at, y[at], v);
		}
	}
	free(w[0]);
	free(w[1]);
}

static void check_linear(const struct fr_check_run *run, struct tally *t)
{
	const float *bias = slot(run, FR_SLOT_BIAS);

	for (int i = 0; i <= run->check->c.also; i++) {
		check_product(run, i, bias, t);
		bias += bias ? fr_check_outs(&run->check->c, i) : 0;
	}
}

/* mean is off by g(depth) avg|x| and a division; squares of (c, e) are off by 2|c|e + e^2; the root of (s, e) by at
 * most e / (2 sqrt(s - e)). */
static void check_norm(const struct fr_check_run *run, struct tally *t)
{
	const struct fr_check_case *c = &run->check->c;
	const float *x = slot(run, c->with & FR_IN_PLACE ? FR_SLOT_Y : FR_SLOT_X), *weight = slot(run, FR_SLOT_SCALE);
	const float *bias = slot(run, FR_SLOT_BIAS);
	double g = gamma_n(lane_depth(c->k));

	for (int r = 0; r < c->m; r++, x += c->k) {
		double sum = 0, abs_sum = 0, sq = 0, sq_e = 0, root;
		struct est mean = {0, 0}, var, inv;

		for (int k = 0; k < c->k; k++) {
			sum += (double)x[k];
			abs_sum += fabs((double)x[k]);
		}
		if (bias)
			mean = rounded(sum / c->k, g * abs_sum / c->k);
		for (int k = 0; k < c->k; k++) {
			struct est d = bias ? rounded((double)x[k] - mean.v, mean.e) : given(x[k]);

			sq += d.v * d.v;
			sq_e += 2 * fabs(d.v) * d.e + d.e * d.e;
		}
		var = est_add(rounded(sq / c->k, (g * (sq + sq_e) + sq_e) / c->k + FLOOR), given(1e-5f));
		root = sqrt(var.v);
		inv = rounded(root, var.e / (2 * sqrt(var.v - var.e)));
		inv = rounded(1 / root, inv.e / (root * (root - inv.e)));
		for (int k = 0; k < c->k; k++) {
			struct est d = bias ? rounded((double)x[k] - mean.v, mean.e) : given(x[k]);
			struct est y = est_mul(d, inv);
			size_t at = (size_t)r * (size_t)c->k + (size_t)k;

			if (bias) /* one fma: one rounding */
				y = rounded(y.v * (double)weight[k] + (double)bias[k], y.e * fabs((double)weight[k]));
			else
				y = est_mul(y, given(weight[k]));
			note(t, at, ((float *)run->out[FR_SLOT_Y])[at], y);
		}
	}
}

static void check_image(const struct fr_check_run *run, const float *pixels, const float *out, struct tally *t)
{
	const struct fr_check_case *c = &run->check->c;
	const float *bias = slot(run, FR_SLOT_BIAS), *pos = slot(run, FR_SLOT_ADD);
	int p = c->patch, g = c->image / p, k = 3 * p * p;
	double *w = malloc((size_t)k * sizeof *w);
	float *x = malloc((size_t)k * sizeof *x);

	for (int n = 0; n < c->n; n++) {
		for (int i = 0; i < k; i++)
			w[i] = weight_at(&run->check->w[0], (size_t)n * (size_t)k + (size_t)i);
		note(t, (size_t)n, out[n], est_add(given(slot(run, FR_SLOT_SCALE)[n]), given(pos[n])));
		for (int i = 0; i < g * g; i++) {
			size_t at = (size_t)(1 + i) * (size_t)c->n + (size_t)n;
			struct est v;

			for (int j = 0; j < k; j++) {
				int row = i / g * p + j / p % p, col = i % g * p + j % p;

				x[j] = pixels[(j / (p * p) * c->image + row) * c->image + col];
			}
			v = est_dot(x, w, k, FR_PREFILL);
			if (bias)
				v = est_add(v, given(bias[n]));
			note(t, at, out[at], est_add(v, given(pos[at])));
		}
	}
	free(w);
	free(x);
}

static void check_patch(const struct fr_check_run *run, struct tally *t)
{
	const struct fr_check_case *c = &run->check->c;
	size_t side = (size_t)c->image, grid = (size_t)(c->image / c->patch);

	for (size_t i = 0; i < (c->images ? (size_t)c->images : 1); i++)
		check_image(run, slot(run, FR_SLOT_X) + i * 3 * side * side,
			    (float *)run->out[FR_SLOT_Y] + i * (1 + grid * grid) * (size_t)c->n, t);
}

/* No arithmetic: the bound is 0. */
static void check_embed(const struct fr_check_run *run, struct tally *t)
{
	const struct fr_check_case *c = &run->check->c;

	for (int r = 0; r < c->m; r++)
		for (int k = 0; k < c->k; k++) {
			int id = run->check->ids[r];
			size_t at = (size_t)r * (size_t)c->k + (size_t)k;
			double v = id >= 0 ? weight_at(&run->check->w[0], (size_t)id * (size_t)c->k + (size_t)k)
					   : (double)slot(run, FR_SLOT_X)[(size_t)(-1 - id) * (size_t)c->k + (size_t)k];

			note(t, at, ((float *)run->out[FR_SLOT_Y])[at], (struct est){v, 0});
		}
}

/* Item i of a cache of c->dtype. */
static float cache_at(const struct fr_check_case *c, const void *cache, size_t i)
{
	return c->dtype == FR_F16 ? fr_f16_f32(((const uint16_t *)cache)[i]) : ((const float *)cache)[i];
}
static size_t cache_index(const struct fr_check *ck, int seq, int head, int pos)
{
	size_t at = (size_t)(FR_CHECK_LAYER * ck->slots + seq);

	at = at * (size_t)ck->c.kv_heads + (size_t)head;
	return (at * (size_t)ck->max_pos + (size_t)pos) * (size_t)ck->c.head_dim;
}

/* Element d of a rotated head: b s is rounded, then one fma. */
static struct est rotated(const float *x, const float *cos, const float *sin, int half, int d)
{
	int i = d % half;
	double a = (double)x[i], b = (double)x[i + half], c = (double)cos[i], s = (double)sin[i];

	return d < half ? rounded(a * c - b * s, U * fabs(b * s)) : rounded(b * c + a * s, U * fabs(a * s));
}

/* Storing as f16 rounds once more: 2^-11 relatively, 2^-25 at least. */
static struct est stored(enum fr_dtype dtype, struct est v)
{
	if (dtype == FR_F16)
		v.e += 0x1p-11 * (fabs(v.v) + v.e) + 0x1p-25;
	return v;
}

static void check_rope(const struct fr_check_run *run, struct tally *t)
{
	const struct fr_check *ck = run->check;
	const struct fr_check_case *c = &ck->c;
	int hd = c->head_dim, half = hd / 2;

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

/* The keys or values of row r (of all images' rows) and head h as [keys, head_dim] float32. */
static void gather(const struct fr_check_run *run, int values, int r, int h, int keys, float *to)
{
	const struct fr_check *ck = run->check;
	const struct fr_check_case *c = &ck->c;

	for (int j = 0; j < keys; j++)
		for (int d = 0; d < c->head_dim; d++, to++) {
			if (c->with & FR_DENSE) {
				size_t at = (size_t)(((r / c->m * c->kv_len + j) * c->heads + h) * c->head_dim + d);

				*to = slot(run, values ? FR_SLOT_V : FR_SLOT_K)[at];
			} else {
				size_t at = cache_index(ck, ck->row[r].seq, h / (c->heads / c->kv_heads), j);

				*to = cache_at(c, slot(run, values ? FR_SLOT_CACHE_V : FR_SLOT_CACHE_K),
					       at + (size_t)d);
			}
		}
}

/* Weights p_j = exp(s_j - max) and, for each, a bound rel_j on its relative error, over `keys` keys in C chunks:
 *   s_j is a rounded dot product, scaled (and biased): its error enters the exponent;
 *   p_j reaches its final scale by a product of exp(s_j - m_1) exp(m_1 - m_2) ...: at most C + 1 exponentials, each off
 *   by EXP_ERR, C + 1 products, and differences that round by u of themselves and add up to max - s_j. The maxima
 *   themselves cancel: numerator and denominator carry the same ones. */
static double softmax(const struct fr_check_run *run, const float *q, const float *k, const float *bias, int keys,
		      double *p, double *rel)
{
	const struct fr_check_case *c = &run->check->c;
	enum fr_phase phase = c->with & FR_DENSE ? FR_PREFILL : c->phase;
	int chunks = (keys + FR_ATTN_CHUNK - 1) / FR_ATTN_CHUNK;
	double scale = (double)(1.0f / sqrtf((float)c->head_dim)), top = -INFINITY, sum = 0, w[320];

	for (int j = 0; j < keys; j++) {
		struct est s;

		for (int d = 0; d < c->head_dim; d++)
			w[d] = (double)k[j * c->head_dim + d];
		s = est_mul(est_dot(q, w, c->head_dim, phase), (struct est){scale, 0});
		if (bias)
			s = est_add(s, given(bias[j]));
		p[j] = s.v;
		rel[j] = s.e;
		top = s.v > top ? s.v : top;
	}
	for (int j = 0; j < keys; j++) {
		rel[j] += U * (top - p[j]) + (chunks + 1) * (EXP_ERR + U);
		p[j] = exp(p[j] - top);
		sum += p[j];
	}
	return sum;
}

/* y = sum p v / sum p. Beyond rel_j, the numerator passes a chain of keys fma and C fades, the denominator g of a lane
 * sum per chunk and C fmas; then one division. Exponentials below e^-87 become 0: less than 1e-37 each. */
static void check_attn(const struct fr_check_run *run, struct tally *t)
{
	const struct fr_check *ck = run->check;
	const struct fr_check_case *c = &ck->c;
	int hd = c->head_dim;
	float *k = malloc((size_t)(c->kv_len + c->m) * (size_t)hd * 4),
	      *v = malloc((size_t)(c->kv_len + c->m) * (size_t)hd * 4);
	double *p = malloc((size_t)(c->kv_len + c->m) * 8), *rel = malloc((size_t)(c->kv_len + c->m) * 8);

	for (int i = 0; i < (c->images ? c->images : 1) * c->m * c->heads; i++) {
		int r = i / c->heads, h = i % c->heads, keys = c->with & FR_DENSE ? c->kv_len : ck->row[r].pos + 1;
		int chunks = (keys + FR_ATTN_CHUNK - 1) / FR_ATTN_CHUNK;
		const float *bias =
			c->with & FR_WITH_BIAS
				? slot(run, FR_SLOT_BIAS) + ((r / c->m * c->heads + h) * c->m + r % c->m) * c->kv_len
				: NULL;
		double sum, sum_rel = gamma_n(chunks + lane_depth(FR_ATTN_CHUNK));

		gather(run, 0, r, h, keys, k);
		gather(run, 1, r, h, keys, v);
		sum = softmax(run, slot(run, FR_SLOT_X) + (size_t)i * (size_t)hd, k, bias, keys, p, rel);
		for (int j = 0; j < keys; j++) {
			sum_rel += p[j] / sum * rel[j];
			if (rel[j] > 1.0 / 200)
				t->nonfinite++; /* the analysis of first order would not hold */
		}
		for (int d = 0; d < hd; d++) {
			struct est y = {0, 0};

			for (int j = 0; j < keys; j++) {
				double term = p[j] / sum * (double)v[j * hd + d];

				y.v += term;
				y.e += fabs(term) * (rel[j] + gamma_n(keys + chunks)) + 1e-37;
			}
			y.e += fabs(y.v) * sum_rel;
			note(t, (size_t)(i * hd + d), ((float *)run->out[FR_SLOT_Y])[i * hd + d], rounded(y.v, y.e));
		}
	}
	free(k);
	free(v);
	free(p);
	free(rel);
}

/* How much more likely than id a are the ids before it, in order of logit, then id; top_k 0: all. *share: its own part
 * of all that top-k and top-p leave. Plain double arithmetic and libm. */
static double before(const float *x, int vocab, const struct fr_sampler *s, int a, double *share)
{
	double sum = 0, kept = 0, ahead = 0, own = exp((double)x[a] / (double)s->temperature);
	int rank = 0, n = s->top_k ? s->top_k : vocab;
	char *done = calloc((size_t)vocab, 1);

	for (int pass = 0; pass < 2; pass++) {
		memset(done, 0, (size_t)vocab);
		for (rank = 0; rank < n && (pass == 0 || kept < (double)s->top_p * sum); rank++) {
			int best = -1;
			for (int i = 0; i < vocab; i++)
				if (!done[i] && (best < 0 || x[i] > x[best]))
					best = i;
			if (best < 0)
				break;
			done[best] = 1;
			if (pass == 0)
				sum += exp((double)x[best] / (double)s->temperature);
			else
				kept += exp((double)x[best] / (double)s->temperature);
			if (pass == 1 && (x[best] > x[a] || (x[best] == x[a] && best < a)))
				ahead = kept;
		}
	}
	free(done);
	*share = own / kept;
	return ahead / kept;
}

/* Greedy: the id itself. Sampled: the draw lies in the id's part, whose borders are off by the exponentials' error. */
static void check_pick(const struct fr_check_run *run, struct tally *t)
{
	const struct fr_check *ck = run->check;
	const struct fr_check_case *c = &ck->c;
	const float *x = slot(run, FR_SLOT_X);

	for (int r = 0; r < c->m; r++, x += c->n) {
		const int id = run->picked[r];
		int finite = 1, best = 0, in = 0;

		for (int i = 0; i < c->n; i++) {
			finite &= isfinite(x[i]) != 0;
			best = x[i] > x[best] ? i : best;
		}
		if (!finite) {
			in = id == -1;
		} else if (!(c->with & FR_SAMPLED)) {
			in = id == best;
		} else if (id >= 0 && id < c->n) {
			double share, from = before(x, c->n, &ck->sampler, id, &share);
			in = ck->draw[r] >= from - 1e-5 && ck->draw[r] <= from + share + 1e-5;
		}
		note(t, (size_t)r, in ? 0.0f : 1.0f, (struct est){0, 0});
	}
}

static void check_row(const struct fr_check_case *c, uint64_t seed, struct fr_dev *ref)
{
	static void (*const check[])(const struct fr_check_run *, struct tally *) = {
		check_linear, check_linear, check_norm, check_patch, check_embed, check_rope, check_attn, check_pick};
	struct fr_check *ck;
	struct fr_check_run run = {0};
	struct fr_error err;
	struct tally t = {0};
	char name[160], full[192];

	snprintf(full, sizeof full, "bounded/ref/%s", fr_check_name(c, name, sizeof name));
	if (fr_check_new(c, seed, &ck, &err) != 0) {
		test_fail(full, "%s", err.text);
		return;
	}
	if (fr_check_bind(ck, ref, &run, &err) == 0) {
		fr_check_call(&run);
		if (fr_check_collect(&run, &err) != 0) {
			test_fail(full, "%s", err.text);
		} else {
			check[c->op](&run, &t);
			CHECK(full, t.n && !t.nonfinite && t.ratio <= 1,
			      "%zu of %zu values not finite; worst at %zu: got %.9g, want %.9g, bound %.3g",
			      t.nonfinite, t.n, t.worst, t.got, t.want, t.bound);
			printf("# %s: max-abs %.3g, worst %.3f of its bound at %zu: got %.9g, want %.9g, bound %.3g\n",
			       full, t.max_abs, t.ratio, t.worst, t.got, t.want, t.bound);
		}
	} else {
		test_fail(full, "%s", err.text);
	}
	fr_check_unbind(&run);
	fr_check_free(ck);
}

int main(int argc, char **argv)
{
	static struct fr_check_case rows[MAX_ROWS];
	struct fr_dev_opts opts = {.backend = "cpu", .isa = "ref"};
	struct fr_dev *ref;
	struct fr_error err;
	int n = kernel_rows(rows);
	char name[160];

	if (fr_dev_open(&opts, &ref, &err) != 0) {
		test_fail("bounded/ref", "%s", err.text);
		return test_done();
	}
	for (int i = 0; i < n; i++)
		if (argc < 2 || fnmatch(argv[1], fr_check_name(&rows[i], name, sizeof name), 0) == 0)
			check_row(&rows[i], (uint64_t)i + 1, ref);
	ref->ops->close(ref);
	return test_done();
}
