/* TGA: grey, grey with alpha, palette, 16, 24 and 32 bits, plain or run-length coded, from any corner.
 *
 * As Pillow reads it: alpha dropped, 5-bit channels v * 255 / 31 rounded down, a run may not cross the end of a row but
 * literal pixels may. The format has no magic number, so a file is taken for TGA only when every header field is one
 * that a TGA can have; what Pillow refuses (15-bit palettes, a palette beside true colour) is not known as TGA at all.
 */
#include "decode.h"

#include <string.h>

enum { HEADER = 18, RLE = 8, FROM_RIGHT = 0x10, FROM_TOP = 0x20 };

int fr_tga_plausible(const uint8_t *bytes, size_t size)
{
	int kind, depth, map_bits;
	uint32_t map_end;

	if (size < HEADER)
		return 0;
	kind = bytes[2];
	depth = bytes[16];
	map_bits = bytes[7];
	map_end = fr_le16(bytes + 3) + fr_le16(bytes + 5);
	if (!fr_le16(bytes + 12) || !fr_le16(bytes + 14) || bytes[17] & 0xC0 || (bytes[17] & 15) > 8)
		return 0;
	if (kind == 1 || kind == (1 | RLE))
		return bytes[1] == 1 && depth == 8 && map_end > 0 && map_end <= 256 &&
		       (map_bits == 16 || map_bits == 24 || map_bits == 32);
	if (bytes[1] || map_end || map_bits)
		return 0;
	if (kind == 2 || kind == (2 | RLE))
		return depth == 16 || depth == 24 || depth == 32;
	return (kind == 3 || kind == (3 | RLE)) && (depth == 8 || depth == 16);
}

struct tga {
	const uint8_t *at, *end;
	int w, h, kind, depth; /* depth in bytes */
	uint8_t palette[256][3];
};

/* s: a pixel of 16, 24 or 32 bits */
static void colour(const uint8_t *s, int bytes, uint8_t *rgb)
{
	uint32_t v = fr_le16(s);

	if (bytes == 2)
		for (int c = 0; c < 3; c++)
			rgb[c] = (uint8_t)((v >> (10 - 5 * c) & 31) * 255 / 31);
	else
		for (int c = 0; c < 3; c++)
			rgb[c] = s[2 - c];
}

static int truncated(size_t size, struct fr_error *err)
{
	return fr_fail(err, FR_E_DAMAGED, "TGA: truncated, %zu bytes end before the last pixel", size);
}

static int read_palette(struct tga *t, const uint8_t *bytes, size_t size, struct fr_error *err)
{
	uint32_t first = fr_le16(bytes + 3), n = fr_le16(bytes + 5);
	int entry = bytes[7] / 8;

	if ((size_t)(t->end - t->at) < (size_t)n * (size_t)entry)
		return truncated(size, err);
	for (uint32_t i = 0; i < n; i++, t->at += entry)
		colour(t->at, entry, t->palette[first + i]);
	return 0;
}

static void put(const struct tga *t, const uint8_t *s, uint8_t *rgb)
{
	if (t->kind == 1)
		memcpy(rgb, t->palette[*s], 3);
	else if (t->kind == 3)
		memset(rgb, *s, 3);
	else
		colour(s, t->depth, rgb);
}

/* What is left of a packet goes on in the next row. */
struct packet {
	int left, run;
};

/* One row of pixels in the order of the file -> rgb [w, 3]; step -1 writes from the right. */
static int read_row(struct tga *t, int rle, struct packet *p, uint8_t *rgb, int step)
{
	for (int x = 0; x < t->w; x++, rgb += 3 * step) {
		if (rle && !p->left) {
			if (t->at >= t->end)
				return -1;
			p->run = *t->at >> 7;
			p->left = (*t->at++ & 127) + 1;
			if (p->run && p->left > t->w - x)
				return -2;
		}
		if (t->end - t->at < t->depth)
			return -1;
		put(t, t->at, rgb);
		if (rle)
			p->left--;
		if (!p->run || !p->left)
			t->at += t->depth;
	}
	return 0;
}

int fr_decode_tga(const uint8_t *bytes, size_t size, uint64_t max_pixels, struct fr_image *out, struct fr_error *err)
{
	struct tga t = {.end = bytes + size};
	struct packet p = {0};
	int rle, from_top, from_right;
	uint64_t w = fr_le16(bytes + 12), h = fr_le16(bytes + 14);

	t.kind = bytes[2] & 7;
	t.depth = bytes[16] / 8;
	rle = bytes[2] & RLE;
	from_right = bytes[17] & FROM_RIGHT;
	from_top = bytes[17] & FROM_TOP;
	if (size - HEADER < bytes[0])
		return truncated(size, err);
	t.at = bytes + HEADER + bytes[0];
	if (t.kind == 1)
		FR_TRY(read_palette(&t, bytes, size, err));
	FR_TRY(fr_image_check_size("TGA", w, h, max_pixels, err));
	/* a packet of 1 + depth bytes gives at most 128 pixels */
	if (w * h * (uint64_t)t.depth / (rle ? 128u : 1u) > (uint64_t)(t.end - t.at) * (rle ? (uint64_t)t.depth : 1u))
		return truncated(size, err);
	FR_TRY(fr_image_alloc(out, w, h, max_pixels, err));
	t.w = out->w;
	t.h = out->h;
	for (int i = 0; i < t.h; i++) {
		int y = from_top ? i : t.h - 1 - i;
		uint8_t *row = out->rgb + (size_t)y * (size_t)t.w * 3;
		int rc = read_row(&t, rle, &p, from_right ? row + (t.w - 1) * 3 : row, from_right ? -1 : 1);

		if (rc == -2)
			return fr_fail(err, FR_E_DAMAGED, "TGA: a run of pixels crosses the end of row %d", y);
		if (rc != 0)
			return truncated(size, err);
	}
	return 0;
}
