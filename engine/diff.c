/* Two dumps tensor by tensor: where does a run depart from another one, or from a reference framework.
 *
 * Tensors come in the order of A's data, which for a dump is the order of the computation, so the first beyond the
 * bound is where to look. rel-L2 is |a - b| / |b| over the whole tensor. Integers (ids, bytes) must be equal whatever
 * their width; a value that is not finite is beyond any bound, even where both sides have it. */
#include "error.h"
#include "../weights/weights.h"

#include <math.h>
#include <stdlib.h>

struct dump {
	const uint8_t *bytes;
	size_t size;
	struct fr_tensors tensors; /* in the order of the data */
	const struct fr_tensor **sorted;
};
struct distance {
	double max_abs, rel_l2;
	size_t worst;	  /* item of max_abs, or the first that is not finite or not equal */
	size_t different; /* items that differ */
	int finite;
};

static int by_name(const void *a, const void *b)
{
	const struct fr_tensor *const *x = a, *const *y = b;

	return strcmp((*x)->name, (*y)->name);
}

static const struct fr_tensor *find(const struct dump *d, const char *name)
{
	const struct fr_tensor key = {.name = name}, *p = &key, **at = NULL;

	if (d->tensors.n)
		at = bsearch(&p, d->sorted, d->tensors.n, sizeof *d->sorted, by_name);
	return at ? *at : NULL;
}

static int open_dump(struct dump *d, const char *path, struct fr_error *err)
{
	FR_TRY(fr_map_open(path, &d->bytes, &d->size, err));
	FR_TRY(fr_safetensors_parse(d->bytes, d->size, path, &d->tensors, err));
	d->sorted = malloc((d->tensors.n + 1) * sizeof *d->sorted);
	if (!d->sorted)
		return fr_fail(err, FR_E_MEMORY, "%s: no memory for its %zu tensors", path, d->tensors.n);
	for (size_t i = 0; i < d->tensors.n; i++)
		d->sorted[i] = &d->tensors.at[i];
	qsort(d->sorted, d->tensors.n, sizeof *d->sorted, by_name);
	return 0;
}

static void close_dump(struct dump *d)
{
	free(d->sorted);
	fr_tensors_free(&d->tensors);
	fr_map_close(d->bytes, d->size);
}

static int is_integer(enum fr_dtype dtype)
{
	return dtype != FR_F32 && dtype != FR_F16 && dtype != FR_BF16 && dtype != FR_F64;
}

static int64_t integer_item(const struct fr_tensor *t, size_t i)
{
	const uint8_t *p = (const uint8_t *)t->data + i * (size_t)fr_dtypes[t->dtype].bytes;
	int64_t v64;
	int32_t v32;
	int16_t v16;

	switch (t->dtype) {
	case FR_I64:
		memcpy(&v64, p, 8);
		return v64;
	case FR_I32:
		memcpy(&v32, p, 4);
		return v32;
	case FR_I16:
		memcpy(&v16, p, 2);
		return v16;
	case FR_I8:
		return (int8_t)*p;
	default: /* U8 and BOOL */
		return *p;
	}
}

static double item(const struct fr_tensor *t, size_t i)
{
	const uint8_t *p = (const uint8_t *)t->data + i * (size_t)fr_dtypes[t->dtype].bytes;
	double d;
	float f;

	if (is_integer(t->dtype))
		return (double)integer_item(t, i);
	if (t->dtype == FR_F64) {
		memcpy(&d, p, 8);
		return d;
	}
	fr_to_f32(t->dtype, p, &f, 1);
	return f;
}

static void measure_integers(const struct fr_tensor *a, const struct fr_tensor *b, struct distance *d)
{
	for (size_t i = 0, n = fr_tensor_items(a); i < n; i++)
		if (integer_item(a, i) != integer_item(b, i) && d->different++ == 0)
			d->worst = i;
}

static void measure_reals(const struct fr_tensor *a, const struct fr_tensor *b, struct distance *d)
{
	double square = 0, norm = 0;

	for (size_t i = 0, n = fr_tensor_items(a); i < n; i++) {
		double x = item(a, i), y = item(b, i), diff = fabs(x - y);

		if (!isfinite(x) || !isfinite(y)) {
			d->finite = 0;
			d->worst = i;
			d->max_abs = d->rel_l2 = INFINITY;
			return;
		}
		d->different += x != y;
		if (diff > d->max_abs) {
			d->max_abs = diff;
			d->worst = i;
		}
		square += diff * diff;
		norm += y * y;
	}
	d->rel_l2 = square == 0 ? 0 : sqrt(square) / sqrt(norm);
}

/* The item's place in the tensor: "[12, 7]". */
static char *place(const struct fr_tensor *t, size_t i, char *buf, size_t size)
{
	int64_t at[FR_MAX_DIMS];

	for (int d = t->ndim - 1; d >= 0; d--) {
		at[d] = (int64_t)(i % (size_t)t->shape[d]);
		i /= (size_t)t->shape[d];
	}
	return fr_shape_text(at, t->ndim, buf, size);
}

/* One line; 1 if the pair is beyond the bound. */
static int compare(const struct fr_tensor *a, const struct fr_tensor *b, double rel, FILE *out)
{
	struct distance d = {.finite = 1};
	char at[176];

	if (is_integer(a->dtype) && is_integer(b->dtype)) {
		measure_integers(a, b, &d);
		fprintf(out, "%-40s %zu of %zu differ%s%s\n", a->name, d.different, fr_tensor_items(a),
			d.different ? ", first " : "", d.different ? place(a, d.worst, at, sizeof at) : "");
		return d.different != 0;
	}
	measure_reals(a, b, &d);
	if (!d.finite)
		fprintf(out, "%-40s not finite: %g and %g at %s\n", a->name, item(a, d.worst), item(b, d.worst),
			place(a, d.worst, at, sizeof at));
	else
		fprintf(out, "%-40s max-abs %-11.4g rel-L2 %-11.4g worst %s\n", a->name, d.max_abs, d.rel_l2,
			d.different ? place(a, d.worst, at, sizeof at) : "-");
	return !(d.rel_l2 <= rel);
}

static int compare_all(const struct dump *a, const struct dump *b, double rel, FILE *out)
{
	const char *first = NULL;
	size_t unmatched = 0;

	for (size_t i = 0; i < a->tensors.n; i++) {
		const struct fr_tensor *x = &a->tensors.at[i], *y = find(b, x->name);
		char shape_x[176], shape_y[176];

		if (!y) {
			unmatched++;
			fprintf(out, "%-40s only in the first file\n", x->name);
		} else if (x->ndim != y->ndim || memcmp(x->shape, y->shape, (size_t)x->ndim * sizeof *x->shape) != 0) {
			unmatched++;
			fprintf(out, "%-40s shapes differ: %s and %s\n", x->name,
				fr_shape_text(x->shape, x->ndim, shape_x, sizeof shape_x),
				fr_shape_text(y->shape, y->ndim, shape_y, sizeof shape_y));
		} else if (compare(x, y, rel, out) && !first) {
			first = x->name;
		}
	}
	for (size_t i = 0; i < b->tensors.n; i++)
		if (!find(a, b->tensors.at[i].name)) {
			unmatched++;
			fprintf(out, "%-40s only in the second file\n", b->tensors.at[i].name);
		}
	if (first)
		fprintf(out, "first beyond %g: %s\n", rel, first);
	else
		fprintf(out, "all that both have is within %g\n", rel);
	if (unmatched)
		fprintf(out, "%zu names or shapes do not match\n", unmatched);
	return unmatched ? 2 : first ? 1 : 0;
}

int fr_diff(const char *path_a, const char *path_b, double rel, FILE *out, struct fr_error *err)
{
	struct dump a = {0}, b = {0};
	int rc = -1;

	if (open_dump(&a, path_a, err) == 0 && open_dump(&b, path_b, err) == 0)
		rc = compare_all(&a, &b, rel, out);
	close_dump(&b);
	close_dump(&a);
	return rc;
}
