/* Maps of where the encoder looked: that the heat of a patch lies over what the encoder saw there (against fr_image_fit
 * itself, for crop, padding and odd sizes), that nothing is invented between patches, and that colours keep the order.
 */
#include "../engine/heat.h"
#include "../engine/error.h"
#include "test.h"

#define GRID 12
#define PATCH 7
#define CROP (GRID * PATCH)

struct shape {
	int w, h, resize, crop;
	enum fr_fit fit;
};

static struct fr_image_desc desc_of(const struct shape *s)
{
	return (struct fr_image_desc){.fit = s->fit,
				      .resize = s->resize,
				      .crop = s->crop,
				      .rescale = 1.0 / 255,
				      .mean = {0.48f, 0.46f, 0.41f},
				      .std = {1, 1, 1}};
}

/* Black, with a white disc of radius r around (x, y); 0: none. */
static struct fr_image disc(int w, int h, double x, double y, double r)
{
	struct fr_image img = {.w = w, .h = h, .rgb = calloc((size_t)w * (size_t)h, 3)};

	for (int j = 0; j < h; j++)
		for (int i = 0; i < w; i++) {
			const double dx = i + 0.5 - x, dy = j + 0.5 - y;
			if (dx * dx + dy * dy < r * r)
				memset(img.rgb + ((size_t)j * (size_t)w + (size_t)i) * 3, 255, 3);
		}
	return img;
}

/* What the encoder gets of the picture. */
static uint8_t *window(const struct shape *s, const struct fr_image *img)
{
	const struct fr_image_desc d = desc_of(s);
	uint8_t *out = malloc((size_t)s->crop * (size_t)s->crop * 3);

	if (fr_image_fit(img, &d, out, NULL))
		abort();
	return out;
}

/* Where the disc shows in the encoder's window, beside what is there without it: the sum of its light, and the centre
 * of it in *x, *y. */
static double seen_at(const struct shape *s, const struct fr_image *img, const uint8_t *without, double *x, double *y)
{
	const size_t n = (size_t)s->crop * (size_t)s->crop;
	uint8_t *with = window(s, img);
	double sum = 0, sx = 0, sy = 0;

	for (size_t i = 0; i < n; i++) {
		const double light = with[3 * i] - without[3 * i];
		sum += light;
		sx += light * ((double)(i % (size_t)s->crop) + 0.5);
		sy += light * ((double)(i / (size_t)s->crop) + 0.5);
	}
	*x = sx / sum;
	*y = sy / sum;
	free(with);
	return sum;
}

/* The field over a picture drawn at its own size, for shares that rise by one from column to column (or row to row). */
static float *ramp(const struct shape *s, int down)
{
	const struct fr_image_desc d = desc_of(s);
	const int side = s->crop / PATCH;
	float *share = calloc((size_t)(side * side), sizeof *share);
	float *field = malloc((size_t)s->w * (size_t)s->h * sizeof *field);
	struct fr_heat heat;

	for (int i = 0; i < side * side; i++)
		share[i] = (float)(down ? i / side : i % side);
	if (fr_heat_init(&heat, share, side, PATCH, &d, s->w, s->h, NULL) ||
	    fr_heat_field(&heat, s->w, s->h, field, NULL))
		abort();
	free(share);
	return field;
}

/* A disc at each of 7 x 7 places: the field there says the column and row of patches in which the encoder saw it. */
static void check_geometry(const struct shape *s)
{
	const int side = s->crop / PATCH, least = s->w < s->h ? s->w : s->h;
	const double patch = (double)(s->fit == FR_FIT_PAD ? (s->w > s->h ? s->w : s->h) : least) / s->resize * PATCH;
	const double radius = fmax(fmin(patch / 4, least / 20.), 1); /* not cut at the picture's border */
	struct fr_image dark = disc(s->w, s->h, 0, 0, 0);
	uint8_t *without = window(s, &dark);
	float *across = ramp(s, 0), *down = ramp(s, 1);
	double worst = 0;
	int seen = 0, unseen = 0, wrong = 0;
	char name[128];

	for (int k = 0; k < 49; k++) {
		const int px = (int)(s->w * (k % 7 + 0.5) / 7), py = (int)(s->h * (k / 7 + 0.5) / 7);
		struct fr_image img = disc(s->w, s->h, px + 0.5, py + 0.5, radius);
		const float gx = across[(size_t)py * (size_t)s->w + (size_t)px];
		const float gy = down[(size_t)py * (size_t)s->w + (size_t)px];
		double x, y;
		if (seen_at(s, &img, without, &x, &y) == 0) {
			unseen++;
			wrong += gx != -1 || gy != -1;
		} else if (x > 1.5 * PATCH && x < (side - 1.5) * PATCH && y > 1.5 * PATCH && y < (side - 1.5) * PATCH) {
			/* at the rim the ramp ends, so that it is no straight line there */
			const double dx = fabs(x / PATCH - 0.5 - (double)gx), dy = fabs(y / PATCH - 0.5 - (double)gy);
			seen++;
			worst = fmax(worst, fmax(dx, dy));
		}
		fr_image_free(&img);
	}
	snprintf(name, sizeof name, "exact/heatmap/geometry %s %dx%d resize %d crop %d",
		 s->fit == FR_FIT_PAD ? "pad" : "crop", s->w, s->h, s->resize, s->crop);
	/* 8-bit rounding of the resize moves the centre of a disc by some hundredths of a pixel, of which a patch has 7
	 */
	CHECK(name, seen >= 8 && !wrong && worst < 0.03,
	      "%d discs seen, off by %.4f patches at most; %d unseen, of which %d have heat; side %d", seen, worst,
	      unseen, wrong, side);
	fr_image_free(&dark);
	free(without);
	free(across);
	free(down);
}

/* One patch alone: the field is its share at its centre, nowhere more, nowhere below 0, and 0 a patch further. */
static void check_one_patch(void)
{
	const struct shape s = {131, 97, CROP, CROP, FR_FIT_PAD};
	const struct fr_image_desc d = desc_of(&s);
	const int w = 131 * 4, h = 97 * 4, at = 5 * GRID + 8;
	float share[GRID * GRID] = {0}, *field = malloc((size_t)w * (size_t)h * sizeof *field), most = 0, least = 1;
	struct fr_heat heat;
	int where = 0, far = 0;
	double x, y;

	share[at] = 0.5f;
	if (fr_heat_init(&heat, share, GRID, PATCH, &d, s.w, s.h, NULL) || fr_heat_field(&heat, w, h, field, NULL))
		abort();
	x = (8 + 0.5) * 131 / GRID * 4;
	y = ((5 + 0.5) * 131 / GRID - 17) * 4; /* the square's upper border is (131 - 97) / 2 = 17 pixels */
	for (int i = 0; i < w * h; i++) {
		const double dx = (i % w + 0.5 - x) / (131.0 * 4 / GRID), dy = (i / w + 0.5 - y) / (131.0 * 4 / GRID);
		if (field[i] > most)
			where = i;
		most = fmaxf(most, field[i]);
		least = fminf(least, field[i]);
		far += (fabs(dx) > 1.03 || fabs(dy) > 1.03) && field[i] != 0;
	}
	CHECK("exact/heatmap/one patch: its share at its centre, no more, no less than 0",
	      least == 0 && most <= 0.5f && most > 0.498f && fabs(where % w + 0.5 - x) < 2 &&
		      fabs(where / w + 0.5 - y) < 2 && !far,
	      "from %g to %g at %d, %d, expected %.1f, %.1f; %d pixels beyond a patch", (double)least, (double)most,
	      where % w, where / w, x, y, far);
	CHECK("exact/heatmap/a padded picture is seen whole, its border is not shown",
	      fr_heat_seen(&heat) > 1 - 1e-12 && fr_heat_beside(&heat) < 1e-12, "seen %g, beside %g",
	      fr_heat_seen(&heat), fr_heat_beside(&heat));
	memset(share, 0, sizeof share);
	share[0] = 0.25f;
	share[at] = 0.75f;
	fr_heat_init(&heat, share, GRID, PATCH, &d, s.w, s.h, NULL);
	CHECK("exact/heatmap/attention to the border is counted", fabs(fr_heat_beside(&heat) - 0.25) < 1e-12, "%g",
	      fr_heat_beside(&heat));
	free(field);
}

static void check_flat(void)
{
	const struct shape s = {301, 200, CROP, CROP, FR_FIT_CROP};
	const struct fr_image_desc d = desc_of(&s);
	float share[GRID * GRID], field[301 * 200];
	uint8_t rgb[301 * 200 * 3];
	struct fr_heat heat;
	int other = 0, seen = 0;

	for (int i = 0; i < GRID * GRID; i++)
		share[i] = 1.0f / (GRID * GRID + 1);
	if (fr_heat_init(&heat, share, GRID, PATCH, &d, s.w, s.h, NULL) || fr_heat_field(&heat, 301, 200, field, NULL))
		abort();
	memset(rgb, 77, sizeof rgb);
	fr_heat_paint(rgb, field, 301 * 200, heat.most);
	for (int i = 0; i < 301 * 200; i++) {
		const int is_seen = field[i] >= 0;
		seen += is_seen;
		other += is_seen ? field[i] != share[0] || memcmp(rgb + 3 * i, rgb + 3 * (100 * 301 + 150), 3) != 0
				 : field[i] != -1 || memcmp(rgb + 3 * i, rgb, 3) != 0;
	}
	CHECK("exact/heatmap/a flat map is flat", !other, "%d pixels differ", other);
	CHECK("exact/heatmap/what is cut off is counted",
	      seen == 201 * 200 && fabs(fr_heat_seen(&heat) - 84.0 / 126) < 1e-12, "%d pixels, %g of the picture", seen,
	      fr_heat_seen(&heat)); /* 301 x 200 becomes 126 x 84 */
}

static void check_shares(void)
{
	static const float bad[] = {-1e-9f, NAN, INFINITY};
	const struct shape s = {10, 10, CROP, CROP, FR_FIT_CROP};
	const struct fr_image_desc d = desc_of(&s);
	float share[GRID * GRID] = {0};
	struct fr_heat heat;
	struct fr_error err = {0};
	int refused = 0;

	for (int i = 0; i < 3; i++) {
		share[77] = bad[i];
		refused += fr_heat_init(&heat, share, GRID, PATCH, &d, 10, 10, &err) != 0 && err.code == FR_E_NUMBERS;
	}
	CHECK("exact/heatmap/shares that are none are refused", refused == 3, "%d of 3", refused);
}

/* Lightness rises with the share, on any grey: the order is kept for readers who see no colours. */
static void check_order(void)
{
	int falls = 0;

	for (int grey = 0; grey < 256; grey += 5) {
		double last = 0;
		for (int i = 0; i <= 200; i++) {
			const float at = (float)i / 200;
			uint8_t c[3] = {(uint8_t)grey, (uint8_t)grey, (uint8_t)grey};
			fr_heat_paint(c, &at, 1, 1);
			const double light = 0.2126 * pow(c[0] / 255., 2.2) + 0.7152 * pow(c[1] / 255., 2.2) +
					     0.0722 * pow(c[2] / 255., 2.2);
			falls += light < last - 0.004; /* one 8-bit step */
			last = light;
		}
	}
	CHECK("exact/heatmap/lightness rises with the share", !falls, "falls %d times", falls);
}

int main(void)
{
	static const struct shape shapes[] = {
		{301, 200, CROP, CROP, FR_FIT_CROP},	 {200, 301, CROP, CROP, FR_FIT_CROP},
		{97, 131, CROP, CROP, FR_FIT_PAD},	 {131, 98, CROP, CROP, FR_FIT_PAD},
		{400, 300, 100, CROP, FR_FIT_CROP},	 {333, 512, 101, CROP, FR_FIT_PAD},
		{60, 50, CROP, CROP, FR_FIT_CROP},	 {500, 500, 71, CROP, FR_FIT_CROP},
		{255, 300, CROP, CROP + 3, FR_FIT_CROP}, {1000, 151, CROP, CROP, FR_FIT_PAD},
	};

	for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
		check_geometry(&shapes[i]);
	check_one_patch();
	check_flat();
	check_shares();
	check_order();
	return test_done();
}
