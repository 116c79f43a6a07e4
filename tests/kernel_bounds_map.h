/* The bounds of the map of attention, of what it adds to other attention, and of the gate (kernel_bounds.h has the
 * method).
 *
 * map: p_j / sum p, where p_j has the error that it has in attention (kernel_bounds_attn.h) with one exponential
 * instead of one per chunk; the sum adds a lane sum's depth, the quotient rounds once. bias: x = map + offset rounds
 * once and is positive, so its error reaches the logarithm as e / (x - e); fr_log adds less than 1 ulp, 2u of the value.
 * A dot product of inputs that have errors carries them times |w|, on top of its own. */
#ifndef FR_TEST_KERNEL_BOUNDS_MAP_H
#define FR_TEST_KERNEL_BOUNDS_MAP_H

#include "kernel_bounds_attn.h"

#define LOG_ERR (2 * U)

static inline struct est est_log(struct est x)
{
	double v = log(x.v), own = LOG_ERR * fabs(v) + FLOOR;

	return (struct est){v, x.e / (x.v - x.e) + own, x.s / x.v + own};
}

/* A dot product of values that have errors. */
static inline struct est est_mix(const float *w, const struct est *x, int n, struct sums how)
{
	double v = 0, sum = 0, square = 0, e = 0, s = 0;

	for (int i = 0; i < n; i++) {
		double c = (double)w[i], t = c * x[i].v;

		v += t;
		sum += fabs(t) + fabs(c) * x[i].e;
		square += t * t;
		e += fabs(c) * x[i].e;
		s += c * x[i].s * (c * x[i].s);
	}
	return (struct est){v, e + how.depth * U * sum + FLOOR * n, sqrt(s) + how.walk * U * sqrt(square) + FLOOR * n};
}

static inline struct sums float_sums(const struct party *p, int n)
{
	return p->free_sums ? free_sums(n) : contract_sums(n, FR_PREFILL);
}

/* Row i of images * heads * m. */
static inline void check_map_row(const struct fr_check_run *run, struct head *a, int i, struct tally *t)
{
	const struct fr_check_case *c = a->c;
	int hd = c->head_dim, h = i / c->m % c->heads, item = i / c->m / c->heads;
	size_t row = (size_t)item * (size_t)c->n + (size_t)(i % c->m), at = (size_t)i * (size_t)a->keys;
	double sum_e = gamma_n(a->p->free_sums ? a->keys : lane_depth(a->keys)), sum_s = 0;

	memcpy(a->q, slot(run, FR_SLOT_X) + (row * (size_t)c->heads + (size_t)h) * (size_t)hd,
	       (size_t)hd * sizeof *a->q);
	for (int j = 0; j < a->keys; j++) {
		size_t key = (size_t)item * (size_t)a->keys + (size_t)j;

		memcpy(a->k + (size_t)j * (size_t)hd,
		       slot(run, FR_SLOT_K) + (key * (size_t)c->heads + (size_t)h) * (size_t)hd,
		       (size_t)hd * sizeof *a->k);
	}
	softmax(a);
	for (int j = 0; j < a->keys; j++) {
		double p = a->w[j] / a->sum;

		sum_e += p * a->rel[j] + 1e-37;
		sum_s += p * a->walk[j] * (p * a->walk[j]);
		if (a->rel[j] > 1.0 / 200)
			t->nonfinite++; /* the analysis of first order would not hold */
	}
	for (int j = 0; j < a->keys; j++, at++) {
		double p = a->w[j] / a->sum;

		note(t, at, ((float *)run->out[FR_SLOT_Y])[at],
		     rounded(p, p * (a->rel[j] + sum_e) + 1e-37, p * (a->walk[j] + sqrt(sum_s) + 8 * U)));
	}
}

static inline void check_attn_map(const struct fr_check_run *run, const struct party *p, struct tally *t)
{
	const struct fr_check_case *c = &run->check->c;
	size_t keys = (size_t)c->kv_len, hd = (size_t)c->head_dim;
	int all = (c->images ? c->images : 1) * c->heads * c->m;
	struct head a = {.c = c, .p = p, .keys = c->kv_len, .chunks = 0};
	float *f = malloc((keys + 1) * hd * sizeof *f);
	double *w = malloc(3 * keys * sizeof *w);

	a.q = f;
	a.k = f + hd;
	a.w = w;
	a.rel = w + keys;
	a.walk = w + 2 * keys;
	for (int i = 0; i < chosen(all, p->rows); i++)
		check_map_row(run, &a, choice(i, all, p->rows), t);
	free(f);
	free(w);
}

/* Row r, column col of an image's bias. */
static inline void check_pixel(const struct fr_check_run *run, const struct party *p, int image, int r, int col,
			       struct tally *t)
{
	const struct fr_check_case *c = &run->check->c;
	size_t side = (size_t)c->n + 1, n = (size_t)c->n;
	struct est x[FR_MAX_MAP_HEADS], mid[FR_MAX_MAP_MID];

	for (int h = 0; h < c->heads; h++) {
		size_t plane = (size_t)(image * c->heads + h);
		float v = slot(run, FR_SLOT_X)[(plane * side + 1 + (size_t)r) * side + 1 + (size_t)col];

		x[h] = est_log(est_add(given(v), given(1e-6f)));
	}
	for (int m = 0; m < c->k; m++)
		mid[m] = est_act(FR_ACT_GELU, est_add(est_mix(slot(run, FR_SLOT_SCALE) + m * c->heads, x, c->heads,
							      float_sums(p, c->heads)),
						      given(slot(run, FR_SLOT_BIAS)[m])));
	for (int h = 0; h < c->heads; h++) {
		size_t at = ((size_t)(image * c->heads + h) * n + (size_t)r) * n + (size_t)col;

		note(t, at, ((float *)run->out[FR_SLOT_Y])[at],
		     est_add(est_mix(slot(run, FR_SLOT_K) + h * c->k, mid, c->k, float_sums(p, c->k)),
			     given(slot(run, FR_SLOT_ADD)[h])));
	}
}

static inline void check_map_bias(const struct fr_check_run *run, const struct party *p, struct tally *t)
{
	const struct fr_check_case *c = &run->check->c;

	for (int image = 0; image < (c->images ? c->images : 1); image++)
		for (int r = 0; r < chosen(c->n, p->rows); r++)
			for (int col = 0; col < chosen(c->n, p->cols); col++)
				check_pixel(run, p, image, choice(r, c->n, p->rows), choice(col, c->n, p->cols), t);
}

static inline void check_gate(const struct fr_check_run *run, const struct party *p, struct tally *t)
{
	const struct fr_check_case *c = &run->check->c;
	const float *gate = slot(run, c->with & FR_IN_PLACE ? FR_SLOT_Y : FR_SLOT_X), *up = slot(run, FR_SLOT_ADD);

	(void)p;
	for (size_t i = 0; i < (size_t)c->m * (size_t)c->n; i++)
		note(t, i, ((float *)run->out[FR_SLOT_Y])[i],
		     est_mul(est_act(FR_ACT_SILU, given(gate[i])), given(up[i])));
}

/* The tally of a case that has run. */
static inline struct tally check_bounds(const struct fr_check_run *run, const struct party *p)
{
	static void (*const check[])(const struct fr_check_run *, const struct party *, struct tally *) = {
		check_linear, check_linear, check_norm,	    check_patch,    check_embed, check_rope,
		check_attn,   check_pick,   check_attn_map, check_map_bias, check_gate};
	struct tally t = {0};

	check[run->check->c.op](run, p, &t);
	return t;
}
static inline int within_bounds(const struct tally *t)
{
	return t->n && !t->nonfinite && t->ratio <= 1 && tally_walk(t) <= 1;
}

#endif
