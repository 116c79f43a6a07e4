/* The bounds of attention (kernel_bounds.h has the method).
 *
 * Weights p_j = exp(s_j - max); each has a bound on its relative error, over `keys` keys in C chunks:
 *   s_j is a rounded dot product, scaled (and biased): its error enters the exponent;
 *   p_j reaches its final scale by a product of exp(s_j - m_1) exp(m_1 - m_2) ...: at most C + 1 exponentials, each off
 *   by EXP_ERR, C + 1 products, and differences that round by u of themselves and add up to max - s_j. The maxima
 *   themselves cancel: numerator and denominator carry the same ones.
 * y = sum p v / sum p. Beyond that the numerator passes a chain of keys fma and C fades, the denominator g of a lane
 * sum per chunk and C fmas; then one division. Exponentials below e^-87 become 0: less than 1e-37 each.
 *
 * On matrix units (a cache in f16 or dense keys, FR_PREFILL, not precise) q, and dense k and v, are rounded to f16, the
 * exponential is 2^x by the hardware (ex2.approx: 2 ulp, 4u) of an argument that is rounded 3 times, of s and of max
 * each; a tile of at least 16 keys is a chunk; p_j itself enters the second product as f16: 2^-11 of it, and 2^-25 of
 * the largest at least.
 *
 * In pairs (dense keys among products of bf16 weights, x in one term) q, k and v are rounded to bf16 and p enters the
 * second product as bf16: 2^-8 of it at most, 0.42 of that in the root mean square (e2e_bf16.c), for which a half is
 * taken. All else is the contract's. */
#ifndef FR_TEST_KERNEL_BOUNDS_ATTN_H
#define FR_TEST_KERNEL_BOUNDS_ATTN_H

#include "kernel_bounds_pick.h"

#define EX2_ERR (4 * U)
#define TILE 16
#define PAIR_REL 0x1p-8
#define PAIR_RMS 0x1p-9
#define P_REL 0x1p-11
#define P_ABS 0x1p-25

/* One row of one head, everything as it enters the products. */
struct head {
	const struct fr_check_case *c;
	const struct party *p;
	int matrix, pairs, keys, chunks;
	float *q, *k, *v;	/* [hd], [keys, hd] twice */
	const float *bias;	/* [keys] or NULL */
	double *w, *rel, *walk; /* [keys]: p_j, and its relative error as a bound and as a walk */
	double sum;
};

static inline int by_matrix_units(const struct fr_check_case *c, const struct party *p)
{
	return p->rounds && !p->precise && (c->with & FR_DENSE || (c->phase == FR_PREFILL && c->dtype == FR_F16));
}

static inline int by_pairs(const struct fr_check_case *c, const struct party *p)
{
	return p->pairs == 1 && c->with & FR_DENSE && c->dtype == FR_BF16;
}

/* n values as they enter a product. */
static inline void enter(const struct head *a, float *x, size_t n)
{
	if (a->matrix || a->pairs)
		fr_round_terms(x, x, n, a->matrix ? FR_F16 : FR_BF16, 1, 1);
}

/* The keys or values of row r and head h as [keys, head_dim] float32. */
static inline void gather(const struct fr_check_run *run, int values, int r, int h, const struct head *a, float *to)
{
	const struct fr_check *ck = run->check;
	const struct fr_check_case *c = &ck->c;
	size_t hd = (size_t)c->head_dim;

	for (size_t j = 0; j < (size_t)a->keys; j++, to += hd) {
		if (c->with & FR_DENSE) {
			size_t key = (size_t)(r / c->m) * (size_t)c->kv_len + j;

			memcpy(to,
			       slot(run, values ? FR_SLOT_V : FR_SLOT_K) + (key * (size_t)c->heads + (size_t)h) * hd,
			       hd * sizeof *to);
			enter(a, to, hd);
		} else {
			size_t at = cache_index(ck, ck->row[r].seq, h / (c->heads / c->kv_heads), (int)j);

			for (size_t d = 0; d < hd; d++)
				to[d] = cache_at(c, slot(run, values ? FR_SLOT_CACHE_V : FR_SLOT_CACHE_K), at + d);
		}
	}
}

static inline struct sums score_sums(const struct head *a)
{
	if (a->pairs)
		return pair_sums(a->c->head_dim, 1, FR_PREFILL);
	if (a->p->free_sums)
		return a->matrix ? matrix_sums(a->c->head_dim, 1) : free_sums(a->c->head_dim);
	return contract_sums(a->c->head_dim, a->c->with & FR_DENSE ? FR_PREFILL : a->c->phase);
}

static inline void softmax(struct head *a)
{
	int hd = a->c->head_dim;
	double scale = (double)(1.0f / sqrtf((float)hd)), top = -INFINITY, w[320];

	for (int j = 0; j < a->keys; j++) {
		struct est s;

		for (int d = 0; d < hd; d++)
			w[d] = (double)a->k[(size_t)j * (size_t)hd + (size_t)d];
		s = est_mul(est_dot(a->q, w, hd, score_sums(a)), (struct est){scale, 0, 0});
		if (a->bias)
			s = est_add(s, given(a->bias[j]));
		a->w[j] = s.v;
		a->rel[j] = s.e;
		a->walk[j] = s.s;
		top = s.v > top ? s.v : top;
	}
	a->sum = 0;
	for (int j = 0; j < a->keys; j++) {
		double arg = a->matrix ? 3 * U * (fabs(top) + fabs(a->w[j])) : U * (top - a->w[j]);

		a->rel[j] += arg + (a->chunks + 1) * ((a->matrix ? EX2_ERR : EXP_ERR) + U);
		a->walk[j] += arg + 8 * U;
		a->w[j] = exp(a->w[j] - top);
		a->sum += a->w[j];
	}
}

/* Element d of y. */
static inline struct est weighted(const struct head *a, int d)
{
	struct sums how = a->p->free_sums ? a->matrix ? matrix_sums(a->keys, 1) : free_sums(a->keys)
					  : contract_sums(a->keys, FR_PREFILL);
	if (a->pairs)
		how = pair_sums(a->keys, 1, FR_PREFILL);
	double depth = how.depth * U + gamma_n(a->chunks), p_abs = a->matrix ? P_ABS : 0;
	double p_rel = a->matrix ? P_REL : a->pairs ? PAIR_REL : 0;
	double p_rms = a->pairs ? PAIR_RMS : p_rel;
	double sum_e = gamma_n(a->p->free_sums ? a->keys + a->chunks + 16 : a->chunks + lane_depth(FR_ATTN_CHUNK));
	double sum_s = 0, terms = 0, walk = 0;
	struct est y = {0, 0, 0};

	for (int j = 0; j < a->keys; j++) {
		double p = a->w[j] / a->sum, v = (double)a->v[(size_t)j * (size_t)a->c->head_dim + (size_t)d],
		       t = p * v;
		double rel = a->rel[j] + p_rel, rms = a->walk[j] + p_rms;

		y.v += t;
		y.e += fabs(t) * (rel + depth) + fabs(v) * p_abs / a->sum + 1e-37;
		sum_e += p * rel + p_abs / a->sum;
		terms += t * t;
		walk += t * rms * (t * rms) + v * v * p_abs * p_abs / (a->sum * a->sum);
		sum_s += p * rms * (p * rms);
	}
	y.e += fabs(y.v) * sum_e;
	y.s = sqrt(walk) + fabs(y.v) * (sqrt(sum_s) + (a->chunks + 8) * U) + how.walk * U * sqrt(terms);
	return rounded(y.v, y.e, y.s);
}

/* Row i of images * m * heads. */
static inline void check_head(const struct fr_check_run *run, struct head *a, int i, struct tally *t)
{
	const struct fr_check_case *c = a->c;
	int hd = c->head_dim, r = i / c->heads, h = i % c->heads;

	a->keys = c->with & FR_DENSE ? c->kv_len : run->check->row[r].pos + 1;
	a->chunks = (a->keys + FR_ATTN_CHUNK - 1) / FR_ATTN_CHUNK;
	if (a->matrix)
		a->chunks = (a->keys + TILE - 1) / TILE;
	memcpy(a->q, slot(run, FR_SLOT_X) + (size_t)i * (size_t)hd, (size_t)hd * sizeof *a->q);
	enter(a, a->q, (size_t)hd);
	a->bias = NULL;
	if (c->with & FR_WITH_BIAS) /* [images, heads, m, kv_len] */
		a->bias = slot(run, FR_SLOT_BIAS) +
			  (((size_t)(r / c->m) * (size_t)c->heads + (size_t)h) * (size_t)c->m + (size_t)(r % c->m)) *
				  (size_t)c->kv_len;
	gather(run, 0, r, h, a, a->k);
	gather(run, 1, r, h, a, a->v);
	softmax(a);
	for (int j = 0; j < a->keys; j++)
		if (a->rel[j] > 1.0 / 200)
			t->nonfinite++; /* the analysis of first order would not hold */
	for (int d = 0; d < hd; d++) {
		size_t at = (size_t)i * (size_t)hd + (size_t)d;

		note(t, at, ((float *)run->out[FR_SLOT_Y])[at], weighted(a, d));
	}
}

static inline void check_attn(const struct fr_check_run *run, const struct party *p, struct tally *t)
{
	const struct fr_check_case *c = &run->check->c;
	size_t keys = (size_t)(c->kv_len + c->m), hd = (size_t)c->head_dim;
	int all = (c->images ? c->images : 1) * c->m * c->heads;
	struct head a = {.c = c, .p = p, .matrix = by_matrix_units(c, p), .pairs = by_pairs(c, p)};
	float *f = malloc((2 * keys + 1) * hd * sizeof *f);
	double *w = malloc(3 * keys * sizeof *w);

	a.q = f;
	a.k = f + hd;
	a.v = a.k + keys * hd;
	a.w = w;
	a.rel = w + keys;
	a.walk = w + 2 * keys;
	for (int i = 0; i < chosen(all, p->rows); i++)
		check_head(run, &a, choice(i, all, p->rows), t);
	free(f);
	free(w);
}

#endif
