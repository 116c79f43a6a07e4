/* From RGB to the encoder's window: Pillow's resize (ImagingResample, 8 bits per channel) of the whole picture, of
 * which only the rows and columns of the centre crop are computed, then the normalising table.
 *
 * One pass over the source rows that the window needs: each is resampled horizontally, rounded to 8 bits and put in a
 * ring of as many rows as one output row needs; the vertical sum runs over the ring. So scratch depends on the scale,
 * not on the proportions. A picture to be padded to a square is never built: its border rows are all alike.
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

/* One side of the resize, for the outputs of the window alone: output i of it is
 * sum over j < len[i] of k[i*taps + j] * sample[start[i] + j]. */
struct axis {
	int in, out;	  /* sizes of picture and resized picture */
	int first, count; /* outputs in the window: [first, first + count) */
	int skip;	  /* where the window's samples begin inside the crop: > 0 when the picture is smaller */
	int copy;	  /* this pass only moves samples: taps 1, coefficients unused */
	int taps;
	int *start, *len; /* [count] */
	int32_t *k;	  /* [count, taps] */
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

/* Pillow steps by adding the scale, so the sum must be taken from the first output. */
static void plan_nearest(struct axis *a)
{
	double scale = axis_scale(a), at = scale * 0.5;

	for (int i = 0; i < a->first + a->count; i++, at += scale)
		if (i >= a->first) {
			int from = (int)at;

			a->start[i - a->first] = from < a->in ? from : a->in - 1;
			a->len[i - a->first] = 1;
		}
}

static void plan_identity(struct axis *a)
{
	for (int i = 0; i < a->count; i++) {
		a->start[i] = a->first + i;
		a->len[i] = 1;
	}
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

static void axis_free(struct axis *a)
{
	free(a->start);
	free(a->len);
	free(a->k);
}

static int axis_plan(struct axis *a, int in, int out, int crop, enum fr_resample resample, struct fr_error *err)
{
	const struct filter *f = &filters[resample];
	int offset = window_offset(out, crop);
	double scale, *w;

	a->in = in;
	a->out = out;
	scale = axis_scale(a);
	a->skip = offset < 0 ? -offset : 0;
	a->first = offset > 0 ? offset : 0;
	a->count = out - a->first < crop - a->skip ? out - a->first : crop - a->skip;
	a->copy = in == out || !f->weight;
	a->taps = a->copy ? 1 : (int)ceil(f->support * (scale < 1.0 ? 1.0 : scale)) * 2 + 1;
	a->start = calloc((size_t)a->count, sizeof *a->start);
	a->len = calloc((size_t)a->count, sizeof *a->len);
	a->k = calloc((size_t)a->count * (size_t)a->taps, sizeof *a->k);
	w = calloc((size_t)a->taps, sizeof *w);
	if (!a->start || !a->len || !a->k || !w) {
		free(w);
		return fr_fail(err, FR_E_MEMORY, "no memory for %d x %d resize coefficients", a->count, a->taps);
	}
	if (in == out)
		plan_identity(a);
	else if (a->copy)
		plan_nearest(a);
	else
		for (int i = 0; i < a->count; i++)
			plan_output(a, f, i, w);
	free(w);
	return 0;
}

static uint8_t clip8(int32_t sum)
{
	int32_t v = sum >> PRECISION;

	return v < 0 ? 0 : v > 255 ? 255 : (uint8_t)v;
}

/* row [in, 3] -> out [count, 3] */
static void resample_row(const struct axis *a, const uint8_t *row, uint8_t *out)
{
	for (int i = 0; i < a->count; i++, out += 3) {
		const uint8_t *s = row + (size_t)a->start[i] * 3;
		const int32_t *k = a->k + (size_t)i * (size_t)a->taps;
		int32_t r = HALF, g = HALF, b = HALF;

		if (a->copy) {
			memcpy(out, s, 3);
			continue;
		}
		for (int j = 0; j < a->len[i]; j++, s += 3) {
			r += s[0] * k[j];
			g += s[1] * k[j];
			b += s[2] * k[j];
		}
		out[0] = clip8(r);
		out[1] = clip8(g);
		out[2] = clip8(b);
	}
}

/* The picture as the resize sees it: itself, or itself on a square. */
struct frame {
	const struct fr_image *img;
	int side_w, side_h;
	int left, top;	 /* of the picture in the frame */
	uint8_t *border; /* [side_w, 3]: a row of the border colour, in which rows of a narrow picture are set; or NULL
			  */
};

static int frame_open(struct frame *f, const struct fr_image *img, const struct fr_image_desc *desc,
		      struct fr_error *err)
{
	int side = img->w > img->h ? img->w : img->h;

	*f = (struct frame){.img = img, .side_w = img->w, .side_h = img->h};
	if (desc->fit != FR_FIT_PAD || img->w == img->h)
		return 0;
	f->side_w = f->side_h = side;
	f->left = (side - img->w) / 2;
	f->top = (side - img->h) / 2;
	if (!(f->border = malloc((size_t)side * 3)))
		return fr_fail(err, FR_E_MEMORY, "no memory for a row of %d pixels", side);
	for (size_t i = 0; i < (size_t)side * 3; i++)
		f->border[i] = (uint8_t)(int)((double)desc->mean[i % 3] * 255);
	return 0;
}

/* Row y of the frame [side_w, 3]; valid until the next call. */
static const uint8_t *frame_row(const struct frame *f, int y)
{
	size_t len = (size_t)f->img->w * 3;
	const uint8_t *row = f->img->rgb + (size_t)(y - f->top) * len;

	if (y < f->top || y >= f->top + f->img->h)
		return f->border;
	if (f->side_w == f->img->w)
		return row;
	memcpy(f->border + (size_t)f->left * 3, row, len);
	return f->border;
}

/* Rows that are resampled and wait for the vertical sum: row y is at y % rows. */
struct ring {
	uint8_t *rows_of_y; /* [rows, count, 3] */
	int rows, next;	    /* next: the first row not yet in it */
	size_t len;	    /* bytes of a row */
};

static uint8_t *ring_row(const struct ring *r, int y)
{
	return r->rows_of_y + (size_t)(y % r->rows) * r->len;
}

static void ring_fill(struct ring *r, const struct frame *f, const struct axis *x, int from, int to)
{
	if (r->next < from)
		r->next = from;
	for (; r->next < to; r->next++) {
		int y = r->next, above = y > from && (y < f->top || y - 1 >= f->top + f->img->h);

		if (above) /* border rows are all alike */
			memcpy(ring_row(r, y), ring_row(r, y - 1), r->len);
		else
			resample_row(x, frame_row(f, y), ring_row(r, y));
	}
}

/* out row [count, 3] = the vertical sum of output i; sums [count*3] is scratch. */
static void sum_rows(const struct axis *v, const struct ring *r, int i, int32_t *sums, uint8_t *out)
{
	if (v->copy) {
		memcpy(out, ring_row(r, v->start[i]), r->len);
		return;
	}
	for (size_t c = 0; c < r->len; c++)
		sums[c] = HALF;
	for (int j = 0; j < v->len[i]; j++) {
		const uint8_t *row = ring_row(r, v->start[i] + j);
		int32_t k = v->k[(size_t)i * (size_t)v->taps + (size_t)j];

		for (size_t c = 0; c < r->len; c++)
			sums[c] += row[c] * k;
	}
	for (size_t c = 0; c < r->len; c++)
		out[c] = clip8(sums[c]);
}

/* out [crop, crop, 3], zeroed */
static int resample(const struct frame *f, const struct axis *x, const struct axis *y, int crop, uint8_t *out,
		    struct fr_error *err)
{
	struct ring ring = {.rows = y->taps, .len = (size_t)x->count * 3};
	int32_t *sums = malloc(ring.len * sizeof *sums);

	ring.rows_of_y = malloc((size_t)ring.rows * ring.len);
	if (!sums || !ring.rows_of_y) {
		free(sums);
		free(ring.rows_of_y);
		return fr_fail(err, FR_E_MEMORY, "no memory for %d rows of %d pixels", ring.rows, x->count);
	}
	for (int i = 0; i < y->count; i++) {
		ring_fill(&ring, f, x, y->start[i], y->start[i] + y->len[i]);
		sum_rows(y, &ring, i, sums, out + ((size_t)(y->skip + i) * (size_t)crop + (size_t)x->skip) * 3);
	}
	free(sums);
	free(ring.rows_of_y);
	return 0;
}

/* transformers: the short edge becomes `resize`, the long one int(resize * long / short). */
static int resized(int side, int shorter, int resize)
{
	return (int)((double)((int64_t)resize * side) / shorter);
}

static int check_fit(const struct fr_image *img, const struct fr_image_desc *desc, struct fr_error *err)
{
	int64_t longer = img->w > img->h ? img->w : img->h, shorter = img->w > img->h ? img->h : img->w;

	if (desc->resize < 1 || desc->resize > MAX_SIDE || desc->crop < 1 || desc->crop > MAX_SIDE)
		return fr_fail(err, FR_E_MODEL, "resize to %d and crop to %d, expected 1 to %d", desc->resize,
			       desc->crop, MAX_SIDE);
	if (longer > MAX_PROPORTION * shorter)
		return fr_fail(err, FR_E_LIMIT, "%d x %d pixels: one side is more than %d times the other", img->w,
			       img->h, MAX_PROPORTION);
	return 0;
}

int fr_image_fit(const struct fr_image *img, const struct fr_image_desc *desc, uint8_t *out, struct fr_error *err)
{
	struct frame f = {0};
	struct axis x = {0}, y = {0};
	int shorter, rc;

	FR_TRY(check_fit(img, desc, err));
	FR_TRY(frame_open(&f, img, desc, err));
	shorter = f.side_w < f.side_h ? f.side_w : f.side_h;
	memset(out, 0, (size_t)desc->crop * (size_t)desc->crop * 3);
	rc = axis_plan(&x, f.side_w, resized(f.side_w, shorter, desc->resize), desc->crop, desc->resample, err);
	if (rc == 0)
		rc = axis_plan(&y, f.side_h, resized(f.side_h, shorter, desc->resize), desc->crop, desc->resample, err);
	if (rc == 0)
		rc = resample(&f, &x, &y, desc->crop, out, err);
	axis_free(&x);
	axis_free(&y);
	free(f.border);
	return rc;
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
