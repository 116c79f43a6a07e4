/* Heat over a picture: see heat.h.
 *
 * A patch is a cell of the grid that fr_image_view places over the picture, so the geometry of crop and padding is
 * inverted where it is defined. Between the centres of the patches the heat is interpolated by cubics whose slopes are
 * the harmonic mean of the slopes beside (0 where these differ in sign): it passes through every share, never above the
 * larger or below the smaller neighbour, along x first, then along y. Nothing here calls libm but floor and fmax: the
 * same pixels on every machine. */
#include "error.h"
#include "heat.h"

#include <math.h>
#include <stdlib.h>

/* One pixel of the drawing along one axis. */
struct place {
	int seen, at;  /* between the centres of patches at and at + 1; -1 and side - 1 are the rims */
	double beyond; /* of the way, [0, 1) */
};

int fr_heat_init(struct fr_heat *heat, const float *share, int side, int patch, const struct fr_image_desc *desc, int w,
		 int h, struct fr_error *err)
{
	const double part = (double)side * patch / desc->crop; /* a rest smaller than a patch is not seen */

	*heat = (struct fr_heat){.share = share, .side = side, .w = w, .h = h};
	for (int i = 0; i < side * side; i++) {
		if (!(share[i] >= 0) || !isfinite(share[i]))
			return fr_fail(err, FR_E_NUMBERS, "the attention to patch %d of %d is %g, expected a share", i,
				       side * side, (double)share[i]);
		heat->most = share[i] > heat->most ? share[i] : heat->most;
		heat->sum += (double)share[i];
	}
	fr_image_view(desc, w, h, &heat->view);
	heat->view.w *= part;
	heat->view.h *= part;
	return 0;
}

/* Pixel i of `drawn` along a side of `size` pixels of the picture, where the view is [from, from + view). */
static struct place place_of(int i, int drawn, int size, double from, double view, int side)
{
	const double in_view = ((i + 0.5) * size / drawn - from) / view, centre = in_view * side - 0.5;
	struct place p = {.seen = in_view >= 0 && in_view < 1};

	if (p.seen) {
		p.at = (int)floor(centre);
		p.beyond = centre - p.at;
	}
	return p;
}

static double slope(double before, double after)
{
	return before * after > 0 ? 2 * before * after / (before + after) : 0;
}

/* v[0] .. v[3] at -1 .. 2 -> the value at t in [0, 1]. */
static double between(const double v[4], double t)
{
	const double d = v[2] - v[1], a = slope(v[1] - v[0], d), b = slope(d, v[3] - v[2]);

	return fmax(v[1] + t * (a + t * (3 * d - 2 * a - b + t * (a + b - 2 * d))), 0); /* rounded, it may be below */
}

static int inside(int i, int n)
{
	return i < 0 ? 0 : i < n ? i : n - 1;
}

/* The four values around p among `side` that are `step` apart. */
static double sample(const float *row, size_t step, int side, const struct place *p)
{
	double v[4];

	for (int k = 0; k < 4; k++)
		v[k] = (double)row[(size_t)inside(p->at - 1 + k, side) * step];
	return between(v, p->beyond);
}

int fr_heat_field(const struct fr_heat *heat, int w, int h, float *field, struct fr_error *err)
{
	struct place *across = malloc((size_t)w * sizeof *across);
	float *rows = malloc((size_t)heat->side * (size_t)w * sizeof *rows); /* [side, w]: every row of patches */

	if (!across || !rows) {
		free(across);
		free(rows);
		return fr_fail(err, FR_E_MEMORY, "no memory for a map of %d x %d pixels", w, h);
	}
	for (int x = 0; x < w; x++) {
		across[x] = place_of(x, w, heat->w, heat->view.x, heat->view.w, heat->side);
		for (int r = 0; r < heat->side; r++)
			rows[(size_t)r * (size_t)w + (size_t)x] =
				(float)sample(heat->share + r * heat->side, 1, heat->side, &across[x]);
	}
	for (int y = 0; y < h; y++) {
		const struct place down = place_of(y, h, heat->h, heat->view.y, heat->view.h, heat->side);
		for (int x = 0; x < w; x++, field++)
			*field = across[x].seen && down.seen ? (float)sample(rows + x, (size_t)w, heat->side, &down)
							     : -1;
	}
	free(across);
	free(rows);
	return 0;
}

/* How much of [from, from + size) lies in [0, all), as a part of it. */
static double overlap(double from, double size, double all)
{
	const double lo = from > 0 ? from : 0, hi = from + size < all ? from + size : all;

	return hi > lo ? (hi - lo) / size : 0;
}

double fr_heat_seen(const struct fr_heat *heat)
{
	const struct fr_view *v = &heat->view;

	return overlap(-v->x, heat->w, v->w) * overlap(-v->y, heat->h, v->h);
}

double fr_heat_beside(const struct fr_heat *heat)
{
	const double w = heat->view.w / heat->side, h = heat->view.h / heat->side;
	double inside_sum = 0;

	for (int r = 0; r < heat->side; r++)
		for (int c = 0; c < heat->side; c++)
			inside_sum += (double)heat->share[r * heat->side + c] *
				      overlap(heat->view.x + c * w, w, heat->w) *
				      overlap(heat->view.y + r * h, h, heat->h);
	return heat->sum > 0 ? 1 - inside_sum / heat->sum : 0;
}

/* ---- colour ---- */

#define STEPS 16
/* Seventeen points of a line through OKLCH space, gamma-encoded: lightness 0.22 to 0.96 in equal steps, hue from 270 by
 * way of 360 to 460 degrees, chroma up to 0.19 or what sRGB holds. From dark blue by way of red to yellow: readers who
 * see no difference of red and green see that of blue and yellow, and a grey print keeps the order. */
static const uint8_t scale[STEPS + 1][3] = {
	{11, 19, 69},	{33, 22, 92},	 {56, 23, 110},	  {81, 25, 123},   {108, 27, 131},  {135, 31, 132},
	{162, 36, 129}, {188, 46, 121},	 {210, 60, 110},  {229, 78, 97},   {244, 100, 84},  {254, 124, 75},
	{255, 152, 83}, {254, 178, 102}, {255, 201, 121}, {254, 223, 148}, {253, 244, 188},
};

static void paint(uint8_t rgb[3], double t)
{
	const double grey = (rgb[0] * 0.299 + rgb[1] * 0.587 + rgb[2] * 0.114), at = t * STEPS;
	const int i = at < STEPS ? (int)at : STEPS - 1;
	const double cover = 0.4 + 0.36 * t;

	for (int c = 0; c < 3; c++) {
		const double hue = scale[i][c] + (scale[i + 1][c] - scale[i][c]) * (at - i);
		rgb[c] = (uint8_t)((26 + grey * 0.86) * (1 - cover) + hue * cover + 0.5);
	}
}

static void pale(uint8_t rgb[3])
{
	const double grey = (rgb[0] * 0.299 + rgb[1] * 0.587 + rgb[2] * 0.114);

	for (int c = 0; c < 3; c++)
		rgb[c] = (uint8_t)(170 + grey * 0.28 + 0.5);
}

void fr_heat_paint(uint8_t *rgb, const float *field, size_t n, float most)
{
	for (size_t i = 0; i < n; i++, rgb += 3) {
		if (field[i] < 0)
			pale(rgb);
		else
			paint(rgb, most > 0 ? (double)field[i] / (double)most : 0);
	}
}
