/* Goldens for the test programs: a mapped safetensors file, and the distance between a tensor and its golden. */
#ifndef FR_TESTS_GOLDEN_H
#define FR_TESTS_GOLDEN_H

#include "../weights/weights.h"
#include "test.h"

/* HOW FAR "AGREED" MAY BE. Beside every float tensor T of a golden lies `noise.T` = [r, s]: the error that rounding
 * alone puts into T in one float32 implementation, measured by tests/oracle/llava.py on a float64 run of the same
 * weights and picture in which the output of every operation is disturbed as one float32 implementation disturbs it:
 *   a sum of K terms in any order     u * sqrt(K) of the row's size: K roundings, each at most u = 2^-24 of a partial
 *                                     sum no larger than the row's size, walking at random;
 *   norms, activations                4u: a handful of roundings;      additions 2u (layer and sublayer);
 *   attention over T keys             u * (sqrt(T) + 8): the weighted sum, and the exp of a score;
 *   angles of RoPE                    3u of the angle: inverse frequency, product, argument reduction;
 *   a softmax that is a result        8u of each value;   the logarithm of it 4u, and 2u of its argument;
 *   a resized position table          2u of the coordinate, 4u for its weighted sum.
 * So amplification by weights, depth and softmax is in the number and is not guessed. r is relative L2 over the tensor,
 * s the rms of the absolute error in the tensor's worst row. Two parties (the reference and fr-run) make such errors
 * independently: their distance is sqrt(2) r. AGREED_SIGMAS = 4 allows 2.8 times that, because orders of summation
 * differ in quality; the largest of some 10^4 single values lies 4 deviations out, hence twice as much for max-abs.
 * An error that is not rounding (an eps of 1e-6 for 1e-5, tanh for erf, a bit lost in a weight) is 10 to 10^4 times
 * larger. */
#define AGREED_SIGMAS 4

struct golden {
	const uint8_t *bytes;
	size_t size;
	struct fr_tensors t;
};

static inline int golden_open(const char *path, struct golden *g, struct fr_error *err)
{
	if (fr_map_open(path, &g->bytes, &g->size, err))
		return -1;
	if (fr_safetensors_parse(g->bytes, g->size, path, &g->t, err) == 0)
		return 0;
	fr_map_close(g->bytes, g->size);
	return -1;
}
static inline void golden_close(struct golden *g)
{
	fr_tensors_free(&g->t);
	fr_map_close(g->bytes, g->size);
}
static inline const struct fr_tensor *golden_find(const struct golden *g, const char *name)
{
	for (size_t i = 0; i < g->t.n; i++)
		if (strcmp(g->t.at[i].name, name) == 0)
			return &g->t.at[i];
	return NULL;
}

static inline int golden_same_shape(const struct fr_tensor *a, const struct fr_tensor *b)
{
	return a->dtype == b->dtype && a->ndim == b->ndim &&
	       memcmp(a->shape, b->shape, (size_t)a->ndim * sizeof *a->shape) == 0;
}
static inline int golden_same_bits(const struct fr_tensor *a, const struct fr_tensor *b)
{
	return golden_same_shape(a, b) && a->bytes == b->bytes && memcmp(a->data, b->data, a->bytes) == 0;
}

/* The distance between two float tensors of one shape, as shares of the bounds above: over 1 is a failure, NaN too. */
struct golden_gap {
	double rel, abs; /* relative L2, largest single difference */
	double share;	 /* the larger of the two, each divided by its bound */
};
static inline struct golden_gap golden_compare(const struct fr_tensor *got, const struct fr_tensor *want,
					       const struct fr_tensor *noise)
{
	double d2 = 0, w2 = 0, worst = 0;
	float r, s;

	for (size_t i = 0, n = fr_tensor_items(want); i < n; i++) {
		float x, y;
		memcpy(&x, (const char *)got->data + 4 * i, 4);
		memcpy(&y, (const char *)want->data + 4 * i, 4);
		d2 += ((double)x - y) * ((double)x - y);
		w2 += (double)y * y;
		if (!(fabs((double)x - y) <= worst))
			worst = fabs((double)x - y);
	}
	memcpy(&r, noise->data, 4);
	memcpy(&s, (const char *)noise->data + 4, 4);
	struct golden_gap g = {.rel = sqrt(d2 / w2), .abs = worst};
	double by_rel = g.rel / (AGREED_SIGMAS * r), by_abs = worst / (2 * AGREED_SIGMAS * s);
	g.share = by_rel > by_abs || !(by_abs == by_abs) ? by_rel : by_abs;
	return g;
}

#endif
