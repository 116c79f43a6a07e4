/* GIF: the first frame on its screen, as Pillow shows it: the transparent index is drawn in its palette colour, and so
 * is the screen where the frame does not cover it (index 0 without one). Later frames are not looked at.
 *
 * LZW codes are read until the last pixel is written; data that end before it are an error. Palette entries that the
 * file does not set are black; a palette that is the beginning of a grey ramp, or none at all, is the whole ramp. */
#include "decode.h"

#include <string.h>

#define TABLE 4096 /* codes have at most 12 bits */

struct gif {
	const uint8_t *bytes;
	size_t size, at;
	uint32_t screen_w, screen_h;
	uint32_t x, y, w, h; /* of the frame on the screen */
	int interlaced, transparent /* -1: none */;
	uint8_t palette[256][3];
	/* bits of the data blocks, from the lowest */
	uint32_t bits;
	int n_bits;
	size_t block; /* bytes left in it */
};

static int truncated(const struct gif *g, const char *where, struct fr_error *err)
{
	return fr_fail(err, FR_E_DAMAGED, "GIF: truncated in %s, at byte %zu of %zu", where, g->at, g->size);
}

static void grey_ramp(struct gif *g)
{
	for (int i = 0; i < 256; i++)
		memset(g->palette[i], i, 3);
}

static int read_palette(struct gif *g, int flags, struct fr_error *err)
{
	size_t len = (size_t)3 << ((flags & 7) + 1);

	if (!(flags & 128))
		return 0;
	if (g->size - g->at < len)
		return truncated(g, "the palette", err);
	memset(g->palette, 0, sizeof g->palette);
	memcpy(g->palette, g->bytes + g->at, len);
	g->at += len;
	for (int i = 0; i < (int)len; i++)
		if (g->palette[i / 3][i % 3] != i / 3)
			return 0;
	grey_ramp(g);
	return 0;
}

/* Passes an extension's blocks; a graphic control (0xF9) says which index is transparent. */
static int read_extension(struct gif *g, struct fr_error *err)
{
	int label, first = 1;

	if (g->size - g->at < 2)
		return truncated(g, "an extension", err);
	label = g->bytes[g->at++];
	for (;; first = 0) {
		const uint8_t *block = g->bytes + g->at + 1;
		size_t len;

		if (g->size - g->at < 1 || g->size - g->at - 1 < (len = g->bytes[g->at]))
			return truncated(g, "an extension", err);
		g->at += 1 + len;
		if (!len)
			return 0;
		if (label == 0xF9 && first && len >= 4 && block[0] & 1)
			g->transparent = block[3];
	}
}

static int read_frame(struct gif *g, struct fr_error *err)
{
	const uint8_t *s = g->bytes + g->at;

	if (g->size - g->at < 9)
		return truncated(g, "the frame's header", err);
	g->x = fr_le16(s);
	g->y = fr_le16(s + 2);
	g->w = fr_le16(s + 4);
	g->h = fr_le16(s + 6);
	g->interlaced = s[8] >> 6 & 1;
	g->at += 9;
	if (!g->w || !g->h)
		return fr_fail(err, FR_E_DAMAGED, "GIF: the first frame has %u x %u pixels", g->w, g->h);
	/* A frame that leaves the screen enlarges it. */
	if (g->x + g->w > g->screen_w)
		g->screen_w = g->x + g->w;
	if (g->y + g->h > g->screen_h)
		g->screen_h = g->y + g->h;
	return read_palette(g, s[8], err);
}

static int read_headers(struct gif *g, struct fr_error *err)
{
	if (g->size < 13)
		return truncated(g, "the header", err);
	g->screen_w = fr_le16(g->bytes + 6);
	g->screen_h = fr_le16(g->bytes + 8);
	g->at = 13;
	FR_TRY(read_palette(g, g->bytes[10], err));
	while (g->at < g->size) {
		int c = g->bytes[g->at++];

		if (c == ',')
			return read_frame(g, err);
		if (c == ';')
			return fr_fail(err, FR_E_DAMAGED, "GIF: no frame before the end mark at byte %zu", g->at - 1);
		if (c == '!')
			FR_TRY(read_extension(g, err));
	}
	return truncated(g, "the blocks before the first frame", err);
}

/* The next code of `width` bits, or -1 at the end of the data. */
static int next_code(struct gif *g, int width)
{
	while (g->n_bits < width) {
		if (!g->block) {
			if (g->at >= g->size || !(g->block = g->bytes[g->at++]))
				return -1;
			if (g->size - g->at < g->block)
				return -1;
		}
		g->bits |= (uint32_t)g->bytes[g->at++] << g->n_bits;
		g->n_bits += 8;
		g->block--;
	}
	int code = (int)(g->bits & ((1u << width) - 1));

	g->bits >>= width;
	g->n_bits -= width;
	return code;
}

/* Where the next pixel goes; interlaced frames come in four passes. */
struct pen {
	uint32_t x, y, step;
	int pass;
	int done;
};

static void put(const struct gif *g, struct pen *p, uint8_t index, struct fr_image *out)
{
	static const uint8_t start[5] = {0, 4, 2, 1}, step[5] = {8, 8, 4, 2};
	size_t at = (size_t)(g->y + p->y) * (size_t)out->w + g->x + p->x;

	memcpy(out->rgb + 3 * at, g->palette[index], 3);
	if (++p->x < g->w)
		return;
	p->x = 0;
	p->y += p->step;
	while (p->y >= g->h) {
		if (!g->interlaced || ++p->pass > 3) {
			p->done = 1;
			return;
		}
		p->y = start[p->pass];
		p->step = step[p->pass];
	}
}

static int corrupt(int code, const struct pen *p, struct fr_error *err)
{
	return fr_fail(err, FR_E_DAMAGED,
		       code < 0 ? "GIF: the data end early, in row %u" : "GIF: corrupt data in row %u", p->y);
}

static int decode_lzw(struct gif *g, int root, struct fr_image *out, struct fr_error *err)
{
	uint16_t link[TABLE];
	uint8_t last_of[TABLE], string[TABLE + 1], head = 0;
	int clear = 1 << root, width = root + 1, next = clear + 2, previous = -1;
	struct pen pen = {.step = g->interlaced ? 8 : 1};

	while (!pen.done) {
		int code = next_code(g, width), c = code, n = 0;

		if (code < 0 || code == clear + 1)
			return corrupt(-1, &pen, err);
		if (code == clear) {
			width = root + 1;
			next = clear + 2;
			previous = -1;
			continue;
		}
		if (previous < 0 ? code > clear : code > next)
			return corrupt(code, &pen, err);
		if (previous >= 0 && code == next) {
			string[n++] = head;
			c = previous;
		}
		for (; c >= clear; c = link[c]) {
			if (n >= TABLE || c >= next)
				return corrupt(code, &pen, err);
			string[n++] = last_of[c];
		}
		head = string[n++] = (uint8_t)c;
		if (previous >= 0 && next < TABLE) {
			last_of[next] = head;
			link[next] = (uint16_t)previous;
			if (next == (1 << width) - 1 && width < 12)
				width++;
			next++;
		}
		previous = code;
		while (n && !pen.done)
			put(g, &pen, string[--n], out);
	}
	return 0;
}

int fr_decode_gif(const uint8_t *bytes, size_t size, uint64_t max_pixels, struct fr_image *out, struct fr_error *err)
{
	struct gif g = {.bytes = bytes, .size = size, .transparent = -1};
	const uint8_t *ground;
	int root;

	grey_ramp(&g);
	FR_TRY(read_headers(&g, err));
	if (g.at >= g.size)
		return truncated(&g, "the frame's header", err);
	root = bytes[g.at++];
	if (root < 1 || root > 8)
		return fr_fail(err, FR_E_DAMAGED, "GIF: codes of %d bits, expected 1 to 8", root);
	FR_TRY(fr_image_alloc(out, g.screen_w, g.screen_h, max_pixels, err));
	ground = g.palette[g.transparent < 0 ? 0 : g.transparent];
	if (g.w != g.screen_w || g.h != g.screen_h)
		for (size_t i = 0; i < (size_t)out->w * (size_t)out->h; i++)
			memcpy(out->rgb + 3 * i, ground, 3);
	return decode_lzw(&g, root, out, err);
}
