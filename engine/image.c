/* From RGB to the encoder's window: Pillow's resize (ImagingResample, 8 bits per channel) of the whole picture, of
 * which only the rows and columns of the centre crop are computed, then the normalising table.
 *
 * One pass over the source rows that the window needs: each is resampled horizontally, rounded to 8 bits and put in a
 * ring of as many rows as one output row needs; the vertical sum runs over the ring. So scratch depends on the scale,
 * not on the proportions. A picture to be padded to a square is never built: its border is one term of each sum.
 * The surprises: pass by pass rounding to 8 bits, a pass left out when that side keeps its size, and a window larger
 * than the picture, which is filled with zeros as transformers does it. */
#include "error.h"
#include "image.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define PRECISION 22 /* fractional bits of a coefficient: 32 - 8 bits of sample - 2 of overshoot */
#define HALF (1 << (PRECISION - 1))
#define MAX_PROPORTION 2000
#define MAX_SIDE 16384 /* of the window; the largest encoders have 1024 */

static double box(double x)
{
	return x > -0.5 && x <= 0.5 ? 1.0 : 0.0;
}
static double bilinear(double x)
{
	x = fabs(x);
	return x < 1.0 ? 1.0 - x : 0.0;
}
static double hamming(double x)
{
	x = fabs(x);
	if (x == 0.0)
		return 1.0;
	if (x >= 1.0)
		return 0.0;
	x *= M_PI;
	return sin(x) / x * (0.54f + 0.46f * cos(x));
}
/* a = -0.5 */
static double bicubic(double x)
{
	x = fabs(x);
	if (x < 1.0)
		return ((-0.5 + 2.0) * x - (-0.5 + 3.0)) * x * x + 1;
	return x < 2.0 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0.0;
}
static double sinc(double x)
{
	x *= M_PI;
	return x == 0.0 ? 1.0 : sin(x) / x;
}
static double lanczos(double x)
{
	return x >= -3.0 && x < 3.0 ? sinc(x) * sinc(x / 3) : 0.0;
}
static const struct filter {
	double (*weight)(double x); /* NULL: nearest */
	double support;
} filters[] = {
	[FR_BICUBIC] = {bicubic, 2.0}, [FR_BILINEAR] = {bilinear, 1.0}, [FR_LANCZOS] = {lanczos, 3.0},
	[FR_NEAREST] = {NULL, 0.5},    [FR_BOX] = {box, 0.5},		[FR_HAMMING] = {hamming, 1.0},
};

/* One side of the resize, for the outputs of the window alone. The picture lies at [at, at + size) of a frame of `in`
 * samples, the rest of which is border: output i is
 * border * outside[i] + sum over j < len[i] of k[i*taps + j] * sample[start[i] + j]. */
struct axis {
	int size, at;	  /* of the picture */
	int in, out;	  /* sizes of frame and resized frame */
	int first, count; /* outputs in the window: [first, first + count) */
	int skip;	  /* where they begin inside the crop: > 0 when the resized frame is smaller */
	int taps;
	int *start, *len;     /* [count] */
	int32_t *k, *outside; /* [count, taps], [count] */
};

/* Offset of a window of `crop` in `n` samples, rounded down also below zero. */
static int window_offset(int n, int crop)
{
	return n >= crop ? (n - crop) / 2 : -((crop - n + 1) / 2);
}

/* Pillow holds the picture's size as a float here. */
static double axis_scale(const struct axis *a)
{
	return (double)(float)a->in / a->out;
}

/* One sample for each output, as it is. Pillow steps by adding the scale, so the sum must be taken from the first
 * output. */
static void plan_nearest(struct axis *a)
{
	double scale = axis_scale(a), at = scale * 0.5;

	for (int i = 0; i < a->first + a->count; i++, at += scale)
		if (i >= a->first)
			a->start[i - a->first] = (int)at < a->in ? (int)at : a->in - 1;
}

static void plan_identity(struct axis *a)
{
	for (int i = 0; i < a->count; i++)
		a->start[i] = a->first + i;
}

/* w [taps] is scratch. */
static void plan_output(struct axis *a, const struct filter *f, int i, double *w)
{
	double scale = axis_scale(a), wide = scale < 1.0 ? 1.0 : scale;
	double support = f->support * wide, center = (a->first + i + 0.5) * scale, per = 1.0 / wide, sum = 0.0;
	int from = (int)(center - support + 0.5), to = (int)(center + support + 0.5);

	if (from < 0)
		from = 0;
	if (to > a->in)
		to = a->in;
	a->start[i] = from;
	a->len[i] = to - from;
	for (int j = 0; j < to - from; j++) {
		w[j] = f->weight((j + from - center + 0.5) * per);
		sum += w[j];
	}
	for (int j = 0; j < to - from; j++) {
		double v = sum != 0.0 ? w[j] / sum : w[j];

		a->k[(size_t)i * (size_t)a->taps + (size_t)j] =
			(int32_t)(v < 0 ? -0.5 + v * (1 << PRECISION) : 0.5 + v * (1 << PRECISION));
	}
}

/* Splits output i, planned for the frame, into picture and border. */
static void split_border(struct axis *a, int i)
{
	int32_t *k = a->k + (size_t)i * (size_t)a->taps;
	int from = a->start[i], to = from + a->len[i], lo = from, hi = to;

	if (lo < a->at)
		lo = a->at < to ? a->at : to;
	if (hi > a->at + a->size)
		hi = a->at + a->size > lo ? a->at + a->size : lo;
	for (int j = from; j < to; j++)
		if (j < lo || j >= hi)
			a->outside[i] += k[j - from];
	memmove(k, k + (lo - from), (size_t)(hi - lo) * sizeof *k);
	a->start[i] = hi > lo ? lo - a->at : 0;
	a->len[i] = hi - lo;
}

static void axis_free(struct axis *a)
{
	free(a->start);
	free(a->len);
	free(a->k);
	free(a->outside);
}

static int plan_outputs(struct axis *a, const struct filter *f, struct fr_error *err)
{
	int one = a->in == a->out || !f->weight;
	double scale = axis_scale(a), *w;

	a->taps = one ? 1 : (int)ceil(f->support * (scale < 1.0 ? 1.0 : scale)) * 2 + 1;
	a->start = calloc((size_t)a->count, sizeof *a->start);
	a->len = calloc((size_t)a->count, sizeof *a->len);
	a->outside = calloc((size_t)a->count, sizeof *a->outside);
	a->k = calloc((size_t)a->count * (size_t)a->taps, sizeof *a->k);
	w = calloc((size_t)a->taps, sizeof *w);
	if (!a->start || !a->len || !a->outside || !a->k || !w) {
		free(w);
		return fr_fail(err, FR_E_MEMORY, "no memory for %d x %d resize coefficients", a->count, a->taps);
	}
	for (int i = 0; i < a->count && one; i++) {
		a->len[i] = 1;
		a->k[i] = 1 << PRECISION;
	}
	if (a->in == a->out)
		plan_identity(a);
	else if (one)
		plan_nearest(a);
	else
		for (int i = 0; i < a->count; i++)
			plan_output(a, f, i, w);
	free(w);
	return 0;
}

/* a->size, at, in and out are set. */
static int axis_plan(struct axis *a, int crop, enum fr_resample resample, struct fr_error *err)
{
	int offset = window_offset(a->out, crop);

	a->skip = offset < 0 ? -offset : 0;
	a->first = offset > 0 ? offset : 0;
	a->count = a->out - a->first < crop - a->skip ? a->out - a->first : crop - a->skip;
	FR_TRY(plan_outputs(a, &filters[resample], err));
	for (int i = 0; i < a->count; i++)
		split_border(a, i);
	return 0;
}

static uint8_t clip8(int32_t sum)
{
	int32_t v = sum >> PRECISION;

	return v < 0 ? 0 : v > 255 ? 255 : (uint8_t)v;
}

/* row [size, 3] of the picture, or NULL for a row of border -> out [count, 3] */
static void resample_row(const struct axis *a, const uint8_t *row, const uint8_t border[3], uint8_t *out)
{
	for (int i = 0; i < a->count; i++, out += 3) {
		const int32_t *k = a->k + (size_t)i * (size_t)a->taps;
		int32_t r = HALF + border[0] * a->outside[i];
		int32_t g = HALF + border[1] * a->outside[i];
		int32_t b = HALF + border[2] * a->outside[i];
		const uint8_t *s = row ? row + (size_t)a->start[i] * 3 : border;
		int step = row ? 3 : 0;

		for (int j = 0; j < a->len[i]; j++, s += step) {
			r += s[0] * k[j];
			g += s[1] * k[j];
			b += s[2] * k[j];
		}
		out[0] = clip8(r);
		out[1] = clip8(g);
		out[2] = clip8(b);
	}
}

struct work {
	const struct fr_image *img;
	struct axis x, y;
	uint8_t border[3];
	uint8_t *ring;	     /* [rows, x.count, 3]: row y of the picture, resampled, is at y % rows */
	uint8_t *border_row; /* [x.count, 3] */
	int32_t *sums;	     /* [x.count, 3] */
	int rows, next;	     /* next: the first row not yet in the ring */
	size_t len;	     /* bytes of a row */
};

static uint8_t *ring_row(const struct work *w, int y)
{
	return w->ring + (size_t)(y % w->rows) * w->len;
}

static void fill_ring(struct work *w, int from, int to)
{
	if (w->next < from)
		w->next = from;
	for (; w->next < to; w->next++)
		resample_row(&w->x, w->img->rgb + (size_t)w->next * (size_t)w->img->w * 3, w->border,
			     ring_row(w, w->next));
}

/* The vertical sum of output i -> out [x.count, 3] */
static void sum_rows(struct work *w, int i, uint8_t *out)
{
	const struct axis *a = &w->y;

	for (size_t c = 0; c < w->len; c++)
		w->sums[c] = HALF + w->border_row[c] * a->outside[i];
	for (int j = 0; j < a->len[i]; j++) {
		const uint8_t *row = ring_row(w, a->start[i] + j);
		int32_t k = a->k[(size_t)i * (size_t)a->taps + (size_t)j];

		for (size_t c = 0; c < w->len; c++)
			w->sums[c] += row[c] * k;
	}
	for (size_t c = 0; c < w->len; c++)
		out[c] = clip8(w->sums[c]);
}

/* out [.., width, 3], zeroed */
static int resample(struct work *w, int width, uint8_t *out, struct fr_error *err)
{
	w->rows = w->y.taps < w->img->h ? w->y.taps : w->img->h;
	w->len = (size_t)w->x.count * 3;
	w->ring = malloc((size_t)w->rows * w->len);
	w->border_row = malloc(w->len);
	w->sums = malloc(w->len * sizeof *w->sums);
	if (!w->ring || !w->border_row || !w->sums)
		return fr_fail(err, FR_E_MEMORY, "no memory for %d rows of %d pixels", w->rows, w->x.count);
	resample_row(&w->x, NULL, w->border, w->border_row);
	for (int i = 0; i < w->y.count; i++) {
		fill_ring(w, w->y.start[i], w->y.start[i] + w->y.len[i]);
		sum_rows(w, i, out + ((size_t)(w->y.skip + i) * (size_t)width + (size_t)w->x.skip) * 3);
	}
	return 0;
}

/* transformers: the short edge becomes `resize`, the long one int(resize * long / short). */
static int resized(int side, int shorter, int resize)
{
	return (int)((double)((int64_t)resize * side) / shorter);
}

/* A picture of width x height in its frame (its own size, or a square with the picture in its centre), and the size
 * that this is resized to. */
static void place(struct axis *x, struct axis *y, int width, int height, const struct fr_image_desc *desc)
{
	const int side = width > height ? width : height, shorter = width > height ? height : width;
	const int pad = desc->fit == FR_FIT_PAD;

	x->size = width;
	y->size = height;
	x->in = pad ? side : width;
	y->in = pad ? side : height;
	x->at = (x->in - width) / 2;
	y->at = (y->in - height) / 2;
	x->out = resized(x->in, pad ? side : shorter, desc->resize);
	y->out = resized(y->in, pad ? side : shorter, desc->resize);
}

static int check_sides(int width, int height, struct fr_error *err)
{
	const int64_t longer = width > height ? width : height, shorter = width > height ? height : width;

	if (longer > MAX_PROPORTION * shorter)
		return fr_fail(err, FR_E_LIMIT, "%d x %d pixels: one side is more than %d times the other", width,
			       height, MAX_PROPORTION);
	return 0;
}

/* The window of width x height in the middle of the resized frame -> out [height, width, 3]; w->x and w->y are placed.
 */
static int fit(struct work *w, int width, int height, enum fr_resample by, uint8_t *out, struct fr_error *err)
{
	int rc = axis_plan(&w->x, width, by, err);

	memset(out, 0, (size_t)width * (size_t)height * 3);
	if (rc == 0)
		rc = axis_plan(&w->y, height, by, err);
	if (rc == 0)
		rc = resample(w, width, out, err);
	axis_free(&w->x);
	axis_free(&w->y);
	free(w->ring);
	free(w->border_row);
	free(w->sums);
	return rc;
}

int fr_image_fit(const struct fr_image *img, const struct fr_image_desc *desc, uint8_t *out, struct fr_error *err)
{
	struct work w = {.img = img};

	if (desc->resize < 1 || desc->resize > MAX_SIDE || desc->crop < 1 || desc->crop > MAX_SIDE)
		return fr_fail(err, FR_E_MODEL, "resize to %d and crop to %d, expected 1 to %d", desc->resize,
			       desc->crop, MAX_SIDE);
	FR_TRY(check_sides(img->w, img->h, err));
	place(&w.x, &w.y, img->w, img->h, desc);
	for (int c = 0; c < 3; c++)
		w.border[c] = (uint8_t)(int)((double)desc->mean[c] * 255);
	return fit(&w, desc->crop, desc->crop, desc->resample, out, err);
}

int fr_image_scale(const struct fr_image *img, int width, int height, uint8_t *out, struct fr_error *err)
{
	struct work w = {.img = img,
			 .x = {.size = img->w, .in = img->w, .out = width},
			 .y = {.size = img->h, .in = img->h, .out = height}};

	if (width < 1 || width > MAX_SIDE || height < 1 || height > MAX_SIDE)
		return fr_fail(err, FR_E_LIMIT, "resize to %d x %d, expected 1 to %d a side", width, height, MAX_SIDE);
	FR_TRY(check_sides(img->w, img->h, err));
	return fit(&w, width, height, FR_BICUBIC, out, err);
}

/* Output i of a resize has its centre at (i + 0.5) * in / out of the frame. */
static void axis_view(const struct axis *a, int crop, double *from, double *size)
{
	const double scale = axis_scale(a);

	*from = window_offset(a->out, crop) * scale - a->at;
	*size = crop * scale;
}

void fr_image_view(const struct fr_image_desc *desc, int width, int height, struct fr_view *view)
{
	struct axis x, y;

	place(&x, &y, width, height, desc);
	axis_view(&x, desc->crop, &view->x, &view->w);
	axis_view(&y, desc->crop, &view->y, &view->h);
}

void fr_image_normalise(const uint8_t *u8, const struct fr_image_desc *desc, float *out)
{
	size_t pixels = (size_t)desc->crop * (size_t)desc->crop;

	for (int c = 0; c < 3; c++) {
		float table[256];

		for (int v = 0; v < 256; v++) {
			float scaled = (float)((double)v * desc->rescale);

			table[v] = (scaled - desc->mean[c]) / desc->std[c];
		}
		for (size_t i = 0; i < pixels; i++)
			out[(size_t)c * pixels + i] = table[u8[3 * i + (size_t)c]];
	}
}
