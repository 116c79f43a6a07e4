/* PNM: binary bitmap, greymap and pixmap (P4, P5, P6) of any maxval. The plain forms (P1, P2, P3) are refused by name.
 *
 * Samples are scaled as Pillow does it, v / maxval * 255 rounded half to even. The surprise is grey of more than 8
 * bits: Pillow scales it to 16 bits and then clips it to 255, so it is nearly white; it is followed, with a warning. */
#include "decode.h"

#include <math.h>
#include <string.h>

struct pnm {
	const uint8_t *at, *end;
	uint32_t w, h, maxval;
};

static int is_space(int c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

/* A number of at most 10 digits and the one white space after it. Comments may stand anywhere before its end. */
static int read_number(struct pnm *p, uint32_t *out, struct fr_error *err)
{
	uint64_t v = 0;
	int digits = 0;

	for (;;) {
		int c = p->at < p->end ? *p->at++ : -1;

		if (c == '#') {
			while (p->at < p->end && *p->at != '\n' && *p->at != '\r')
				p->at++;
			if (p->at < p->end)
				p->at++;
		} else if (c >= '0' && c <= '9' && ++digits <= 10) {
			v = v * 10 + (uint64_t)(c - '0');
		} else if (digits && (c < 0 || is_space(c)) && v <= UINT32_MAX) {
			*out = (uint32_t)v;
			return 0;
		} else if (!is_space(c)) {
			return fr_fail(err, FR_E_DAMAGED,
				       "PNM: width, height and maxval expected as numbers, got byte %02X", c & 255);
		}
	}
}

static uint8_t scale(uint32_t v, uint32_t maxval)
{
	double s = rint((double)v / maxval * 255);

	return s > 255 ? 255 : (uint8_t)s;
}

/* Grey of 16 bits through Pillow's mode I. */
static uint8_t clip_grey(uint32_t v, uint32_t maxval)
{
	double s = rint((double)v / maxval * 65535);

	return s > 255 ? 255 : (uint8_t)s;
}

static void expand(const struct pnm *p, int kind, struct fr_image *out)
{
	size_t pixels = (size_t)p->w * p->h, samples = kind == '6' ? 3 * pixels : pixels;
	uint8_t *rgb = out->rgb;

	if (kind == '4') {
		for (uint32_t y = 0; y < p->h; y++)
			for (uint32_t x = 0; x < p->w; x++, rgb += 3)
				memset(rgb, p->at[(size_t)y * ((p->w + 7u) / 8) + x / 8] >> (7 - x % 8) & 1 ? 0 : 255,
				       3);
		return;
	}
	for (size_t i = 0; i < samples; i++) {
		uint32_t v = p->maxval > 255 ? fr_be16(p->at + 2 * i) : p->at[i];

		if (kind == '6')
			rgb[i] = scale(v, p->maxval);
		else
			memset(rgb + 3 * i, p->maxval > 255 ? clip_grey(v, p->maxval) : scale(v, p->maxval), 3);
	}
}

int fr_decode_pnm(const uint8_t *bytes, size_t size, uint64_t max_pixels, struct fr_image *out, struct fr_error *err)
{
	struct pnm p = {.at = bytes + 2, .end = bytes + size};
	int kind = bytes[1];
	uint64_t need;

	if (kind < '4')
		return fr_fail(err, FR_E_FORMAT, "plain-text PNM (P%c) is not read, expected binary P4, P5 or P6",
			       kind);
	FR_TRY(read_number(&p, &p.w, err));
	FR_TRY(read_number(&p, &p.h, err));
	p.maxval = 1;
	if (kind != '4')
		FR_TRY(read_number(&p, &p.maxval, err));
	if (p.maxval < 1 || p.maxval > 65535)
		return fr_fail(err, FR_E_DAMAGED, "PNM: maxval is %u, expected 1 to 65535", p.maxval);
	FR_TRY(fr_image_check_size("PNM", p.w, p.h, max_pixels, err));
	need = kind == '4' ? ((uint64_t)p.w + 7) / 8 * p.h
			   : (uint64_t)p.w * p.h * (kind == '6' ? 3 : 1) * (p.maxval > 255 ? 2 : 1);
	if (need > (uint64_t)(p.end - p.at))
		return fr_fail(err, FR_E_DAMAGED, "PNM: truncated, %zu bytes of pixels, expected %llu",
			       (size_t)(p.end - p.at), (unsigned long long)need);
	FR_TRY(fr_image_alloc(out, p.w, p.h, max_pixels, err));
	expand(&p, kind, out);
	if (kind == '5' && p.maxval > 255)
		fr_image_warn(
			out,
			"grey PNM of more than 8 bits: samples above 255 are clipped to white, as the reference does");
	return 0;
}
