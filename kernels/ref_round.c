/* The roundings of the CUDA instance (head of kernels/cuda/cuda.h), applied to float32 inputs: what comes out is again
 * float32, and ref's own loops do the rest.
 *
 * A product of 16-bit weights takes x as one or two terms of the weights' type: hi = rne(x), lo = rne(x - hi). hi + lo
 * is exact in float32: lo is a multiple of x's last place. Decoding takes two terms always; so does a patch embedding.
 * An f16 row that reaches 2^15 is scaled by a power of two first, all of it, and back after the sum. */
#include "ref_round.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define F16_MOST 65504.0f
#define F16_FROM 0x1p15f /* rows that reach this are scaled */

int fr_rounds_open(const char *name, struct fr_rounds *r, struct fr_error *err)
{
	static const struct {
		const char *name;
		struct fr_rounds how;
	} levels[] = {
		{"avx512bf16", {.pairs = 1}},
		{"avx512bf16-precise", {.pairs = 2}},
		{"amx", {.pairs = 1, .tiles = 1}},
		{"amx-precise", {.pairs = 2, .tiles = 1}},
	};

	*r = (struct fr_rounds){0};
	if (!name)
		return 0;
	for (size_t i = 0; i < sizeof levels / sizeof *levels; i++)
		if (strcmp(name, levels[i].name) == 0) {
			*r = levels[i].how;
			return 0;
		}
	r->on = 1;
	r->precise = strcmp(name, "cuda-precise") == 0;
	if (!r->precise && strcmp(name, "cuda") != 0)
		return fr_fail(err, FR_E_USAGE,
			       "unknown roundings \"%s\", expected cuda, avx512bf16 or amx, also with -precise", name);
	return 0;
}

void fr_rounds_close(struct fr_rounds *r)
{
	for (int i = 0; i < 3; i++)
		free(r->copy[i]);
}

static float *room(struct fr_rounds *r, int i, size_t items)
{
	if (items > r->items[i]) {
		float *p = realloc(r->copy[i], items * sizeof *p);

		if (!p) {
			r->failed = 1;
			return NULL;
		}
		r->copy[i] = p;
		r->items[i] = items;
	}
	return r->copy[i];
}

static float rounded(float v, enum fr_dtype dtype)
{
	if (dtype == FR_BF16)
		return fr_bits_f32((uint32_t)fr_f32_bf16(v) << 16);
	if (isfinite(v))
		v = v > F16_MOST ? F16_MOST : v < -F16_MOST ? -F16_MOST : v;
	return fr_f16_f32(fr_f32_f16(v));
}

void fr_round_terms(const float *x, float *y, size_t n, enum fr_dtype dtype, int terms, float factor)
{
	for (size_t i = 0; i < n; i++) {
		float v = x[i] * factor, hi = rounded(v, dtype);

		if (terms > 1)
			hi += rounded(v - hi, dtype);
		y[i] = hi / factor;
	}
}

float fr_round_factor(const float *x, size_t n, enum fr_dtype dtype)
{
	float most = 0;
	int exponent;

	for (size_t i = 0; i < n && dtype == FR_F16; i++)
		most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
	if (most < F16_FROM || !isfinite(most))
		return 1;
	frexpf(most, &exponent); /* most < 2^exponent */
	return ldexpf(1, 15 - exponent);
}

const float *fr_round_product(struct fr_rounds *r, const float *x, size_t *stride, int rows, int cols,
			      enum fr_dtype weights, enum fr_phase phase)
{
	size_t n = (size_t)cols;
	float *y;

	if (!r->on || weights == FR_F32 || weights == FR_Q8_0)
		return x;
	y = room(r, 0, (size_t)rows * n);
	if (!y)
		return x;
	for (int i = 0; i < rows; i++) {
		const float *from = x + (size_t)i * *stride;

		fr_round_terms(from, y + (size_t)i * n, n, weights, r->precise || phase == FR_DECODE ? 2 : 1,
			       fr_round_factor(from, n, weights));
	}
	*stride = n;
	return y;
}

const float *fr_round_pixels(struct fr_rounds *r, const float *x, size_t n, enum fr_dtype weights)
{
	float *y = r->on && weights != FR_F32 ? room(r, 0, n) : NULL;

	if (!y)
		return x;
	fr_round_terms(x, y, n, weights, 2, 1);
	return y;
}

static const float *to_f16(struct fr_rounds *r, int i, const float *x, size_t n)
{
	float *y = room(r, i, n);

	if (!y)
		return x;
	fr_round_terms(x, y, n, FR_F16, 1, 1);
	return y;
}

struct fr_attn fr_round_attn(struct fr_rounds *r, const struct fr_attn *a)
{
	struct fr_attn b = *a;
	size_t items = a->items ? (size_t)a->items : 1, width = (size_t)a->heads * (size_t)a->head_dim;

	if (!r->on || r->precise || (a->kv && (a->phase == FR_DECODE || a->kv->dtype == FR_F32)))
		return b;
	b.q = to_f16(r, 0, a->q, items * (size_t)a->rows * width);
	if (!a->kv) {
		b.k = to_f16(r, 1, a->k, items * (size_t)a->kv_rows * width);
		b.v = to_f16(r, 2, a->v, items * (size_t)a->kv_rows * width);
	}
	return b;
}
