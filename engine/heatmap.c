/* fr_heatmap: a picture with the encoder's attention over it and a caption that says what this is, as a PNG file.
 *
 * The caption is part of the picture because pictures travel without their context: a map of attention is taken for a
 * map of the forgery all too easily. It stands below the picture, or beside a narrow one. The scale is always linear
 * from 0 to the largest share, with a mark where all patches would be if the encoder had looked everywhere alike, so
 * that noise is not stretched into a finding. */
#include "encode_png.h"
#include "heat.h"
#include "model.h"

#include <math.h>
#include <stdlib.h>

#define LONG_SIDE 1024 /* of the picture as it is drawn; */
#define SHORT_SIDE 256 /* longer while this one is shorter than that, */
#define MAX_LONG 4096  /* up to here; */
#define SMALL 640      /* and smaller pictures are enlarged to that long side */
#define THIN 24	       /* a side that would be thinner is drawn so wide */
#define NARROW 460     /* a picture narrower than that has its caption beside it */
#define COLUMN 400     /* whose width is this */
#define MARGIN 18
#define BAR 12 /* height of the legend's bar */

static const struct fr_lettering title_style = {13, 2.3, {24, 24, 28}}, body_style = {9.5, 1.35, {48, 48, 54}},
				 small_style = {8.5, 1.15, {104, 104, 112}};

struct caption {
	char title[64], what[256], caution[192], seen[320], source[256];
	char most[32], even[48]; /* the largest share, and what all would have if they had the same */
	double even_at;		 /* of the bar, 0 to 1 */
};
/* Where the next line of text goes. */
struct column {
	struct fr_canvas *c; /* NULL: only measured */
	int x, width;
	double y;
};

/* ---- words ---- */

/* 0.17 %, 1.9 %, 12 %, and 100 % only for all of it */
static void percent(double share, char *out, size_t size)
{
	if (share > 0.995 && share < 1 - 1e-9)
		snprintf(out, size, ">99 %%");
	else
		snprintf(out, size, share >= 0.0995 ? "%.0f %%" : "%.2g %%", share * 100);
}

/* Foreign bytes as letters that there are. */
static void plain(const char *text, char *out, size_t size)
{
	size_t n = 0;

	for (; text[n] && n + 1 < size; n++)
		out[n] = text[n] >= ' ' && text[n] <= '~' ? text[n] : '?';
	out[n] = 0;
}

/* What is not as a reader would take it; "" if all is. */
static void describe_view(const struct fr_heat *heat, const struct fr_canvas *pic, char *out, size_t size)
{
	const double unseen = 1 - fr_heat_seen(heat), beside = fr_heat_beside(heat);
	const double wider = (double)pic->w / heat->w * heat->h / pic->h;
	char a[32], b[32];
	int n = 0;

	percent(unseen, a, sizeof a);
	percent(beside, b, sizeof b);
	out[0] = 0;
	if (unseen > 1e-9)
		n += snprintf(out, size, "Pale: cut off before the encoder saw the picture (%s of it). ", a);
	if (beside > 1e-9)
		n += snprintf(out + n, size - (size_t)n,
			      "%s of this attention lies on the border that is added to the picture, which is not "
			      "shown. ",
			      b);
	if (wider < 0.8 || wider > 1.25)
		snprintf(out + n, size - (size_t)n, "The picture's short side is drawn longer than it is.");
}

static void compose(struct caption *cap, const struct fr_model *m, const struct fr_heat *heat,
		    const struct fr_canvas *pic, const char *sha256)
{
	const struct fr_vit_desc *v = &m->desc.vit[m->desc.look];
	const double even = heat->sum / (heat->side * heat->side);
	char name[80], share[32];

	plain(fr_model_name(m), name, sizeof name);
	snprintf(cap->title, sizeof cap->title, "%sWhere the encoder looked", m->desc.demo ? "DEMO: " : "");
	snprintf(cap->what, sizeof cap->what,
		 "Colour is the share of the class token's attention that each of %d x %d patches gets in layer %d of "
		 "%d of "
		 "the encoder \"%s\", mean over %d heads.",
		 heat->side, heat->side, v->run, v->layers, v->role, v->heads);
	snprintf(cap->caution, sizeof cap->caution,
		 "This is not the forged region. Attention is weak evidence; the encoder knows neither the question "
		 "nor the "
		 "answer.");
	describe_view(heat, pic, cap->seen, sizeof cap->seen);
	snprintf(cap->source, sizeof cap->source, "Image sha256 %s. Model %s, %.12s. fr-run %s.", sha256, name,
		 fr_model_hash(m), FR_VERSION);
	percent((double)heat->most, share, sizeof share);
	snprintf(cap->most, sizeof cap->most, "%s", share);
	percent(even, share, sizeof share);
	snprintf(cap->even, sizeof cap->even, "all alike: %s", share);
	cap->even_at = heat->most > 0 ? even / (double)heat->most : 0;
}

/* ---- layout ---- */

/* How many bytes of text, words if possible, fit into the column. *next gets where the rest begins. */
static int fitting(const struct fr_lettering *how, const char *text, int width, int *next)
{
	int n = 0, words = 0;

	while (text[n] && fr_lettering_width(how, text, n + 1) <= width) {
		n++;
		if (text[n] == ' ' || !text[n])
			words = n;
	}
	if (words || !n)
		n = words ? words : 1;
	*next = n + (text[n] == ' ');
	return n;
}

static void put_text(struct column *to, const struct fr_lettering *how, const char *text)
{
	while (*text) {
		int next, n = fitting(how, text, to->width, &next);
		to->y += how->cap * 1.85;
		if (to->c)
			fr_lettering_draw(to->c, how, to->x, to->y, text, n);
		text += next;
	}
}

static void fill(struct fr_canvas *c, int x0, int y0, int w, int h, int grey)
{
	for (int y = y0 < 0 ? 0 : y0; y < y0 + h && y < c->h; y++)
		for (int x = x0 < 0 ? 0 : x0; x < x0 + w && x < c->w; x++)
			memset(c->rgb + ((size_t)y * (size_t)c->w + (size_t)x) * 3, grey, 3);
}

/* The bar is painted as the map is, over a middle grey. */
static void put_bar(struct fr_canvas *c, int x, int y, int width)
{
	fill(c, x, y, width, BAR, 128);
	for (int i = 0; i < width; i++) {
		const float at = (float)i / (float)(width - 1);
		for (int k = 0; k < BAR; k++)
			fr_heat_paint(c->rgb + ((size_t)(y + k) * (size_t)c->w + (size_t)(x + i)) * 3, &at, 1, 1);
	}
}

static void put_legend(struct column *to, const struct caption *cap)
{
	const struct fr_lettering *how = &small_style;
	const int most = (int)strlen(cap->most), even = (int)strlen(cap->even);
	const double below = fr_lettering_width(how, cap->most, most), mark = fr_lettering_width(how, cap->even, even);
	const int width = to->width < 360 ? to->width : 360, y = (int)to->y + 8,
		  tick = (int)(cap->even_at * (width - 1));
	double at = to->x + tick - mark / 2, last = to->x + width - below - 12 - mark, first = to->x + 18;

	to->y = y + BAR + 8 + how->cap;
	if (!to->c)
		return;
	at = at > last ? last : at < first ? first : at;
	put_bar(to->c, to->x, y, width);
	fill(to->c, to->x + tick, y - 3, 2, BAR + 7, 24);
	fr_lettering_draw(to->c, how, to->x, to->y, "0", 1);
	fr_lettering_draw(to->c, how, at, to->y, cap->even, even);
	fr_lettering_draw(to->c, how, to->x + width - below, to->y, cap->most, most);
}

/* The caption from y on; returns where it ends. */
static int put_caption(struct fr_canvas *c, const struct caption *cap, int x, int y, int width)
{
	struct column to = {.c = c, .x = x, .width = width, .y = y - 6};

	put_text(&to, &title_style, cap->title);
	to.y += 4;
	put_legend(&to, cap);
	to.y += 6;
	put_text(&to, &body_style, cap->caution);
	to.y += 3;
	put_text(&to, &body_style, cap->what);
	to.y += 3;
	put_text(&to, &body_style, cap->seen);
	to.y += 4;
	put_text(&to, &small_style, cap->source);
	return (int)to.y + MARGIN - 4;
}

/* ---- the picture ---- */

static int at_least(double v, int least)
{
	return v < least ? least : (int)(v + 0.5);
}

/* The size at which a picture of w x h is drawn. */
static void drawn_size(int w, int h, int *out_w, int *out_h)
{
	const double longer = w > h ? w : h, shorter = w > h ? h : w;
	double scale = LONG_SIDE / longer;

	if (scale > 1)
		scale = longer < SMALL ? SMALL / longer : 1;
	else if (shorter * scale < SHORT_SIDE)
		scale = fmin(fmin(SHORT_SIDE / shorter, MAX_LONG / longer), 1);
	*out_w = at_least(w * scale, THIN);
	*out_h = at_least(h * scale, THIN);
}

static int draw_picture(struct fr_canvas *pic, const struct fr_image *img, const struct fr_heat *heat,
			struct fr_error *err)
{
	const size_t n = (size_t)pic->w * (size_t)pic->h;
	float *field = malloc(n * sizeof *field);
	int rc;

	pic->rgb = malloc(n * 3);
	if (!field || !pic->rgb) {
		free(field);
		return fr_fail(err, FR_E_MEMORY, "no memory for a map of %d x %d pixels", pic->w, pic->h);
	}
	rc = fr_image_scale(img, pic->w, pic->h, pic->rgb, err);
	if (rc == 0)
		rc = fr_heat_field(heat, pic->w, pic->h, field, err);
	if (rc == 0)
		fr_heat_paint(pic->rgb, field, n, heat->most);
	free(field);
	return rc;
}

/* Picture and caption together; out->rgb is malloc'd. */
static int draw(struct fr_canvas *out, const struct fr_canvas *pic, const struct caption *cap, struct fr_error *err)
{
	const int beside = pic->w < NARROW;
	const int x = beside ? pic->w + MARGIN : MARGIN, y = beside ? MARGIN / 2 : pic->h + MARGIN / 2;
	const int width = beside ? COLUMN : pic->w - 2 * MARGIN, end = put_caption(NULL, cap, x, y, width);

	out->w = beside ? x + width + MARGIN : pic->w;
	out->h = end > pic->h ? end : pic->h;
	out->rgb = malloc((size_t)out->w * (size_t)out->h * 3);
	if (!out->rgb)
		return fr_fail(err, FR_E_MEMORY, "no memory for a map of %d x %d pixels", out->w, out->h);
	fill(out, 0, 0, out->w, out->h, 255);
	for (int row = 0; row < pic->h; row++)
		memcpy(out->rgb + (size_t)row * (size_t)out->w * 3, pic->rgb + (size_t)row * (size_t)pic->w * 3,
		       (size_t)pic->w * 3);
	put_caption(out, cap, x, y, width);
	return 0;
}

static int encode(const struct fr_canvas *c, const struct caption *cap, const struct fr_model *m, const char *sha256,
		  uint8_t **png, size_t *size, struct fr_error *err)
{
	const struct fr_vit_desc *v = &m->desc.vit[m->desc.look];
	char branch[64], model[80];
	const struct fr_png_text text[] = {
		{"Title", cap->title},
		{"Image-SHA256", sha256},
		{"Model", model},
		{"Model-Hash", fr_model_hash(m)},
		{"Branch", branch},
		{"Description", cap->what},
		{"Warning", "not the forged region; attention is weak evidence"},
		{"Software", "fr-run " FR_VERSION},
	};

	plain(fr_model_name(m), model, sizeof model);
	snprintf(branch, sizeof branch, "%s, layer %d of %d", v->role, v->run, v->layers);
	return fr_png_encode(c->rgb, c->w, c->h, text, sizeof text / sizeof *text, png, size, err);
}

static int map_of(const struct fr_model *m, const struct fr_image *img, const char *sha256, const float *share,
		  int side, uint8_t **png, size_t *size, struct fr_error *err)
{
	struct fr_canvas pic = {0}, out = {0};
	struct fr_heat heat;
	struct caption cap;
	int rc;

	FR_TRY(fr_heat_init(&heat, share, side, m->desc.vit[m->desc.look].patch, &m->desc.image, img->w, img->h, err));
	drawn_size(img->w, img->h, &pic.w, &pic.h);
	compose(&cap, m, &heat, &pic, sha256);
	rc = draw_picture(&pic, img, &heat, err);
	if (rc == 0)
		rc = draw(&out, &pic, &cap, err);
	if (rc == 0)
		rc = encode(&out, &cap, m, sha256, png, size, err);
	free(pic.rgb);
	free(out.rgb);
	return rc;
}

int fr_heatmap(const struct fr_model *m, const uint8_t *bytes, size_t size, uint64_t max_pixels, const float *heat,
	       int heat_side, uint8_t **png, size_t *png_size, struct fr_error *err)
{
	const struct fr_vit_desc *v = &m->desc.vit[m->desc.look];
	struct fr_image img;
	char sha256[65];
	int rc;

	*png = NULL;
	if (heat_side != v->image / v->patch)
		return fr_fail(err, FR_E_USAGE, "attention to %d x %d patches, expected %d a side for this model",
			       heat_side, heat_side, v->image / v->patch);
	fr_sha256_hex(bytes, size, sha256);
	FR_TRY(fr_image_decode(bytes, size, max_pixels ? max_pixels : FR_MAX_PIXELS, &img, err));
	rc = map_of(m, &img, sha256, heat, heat_side, png, png_size, err);
	fr_image_free(&img);
	return rc;
}
