/* PNG, in order: chunks up to IEND with their checksums, one inflate of all IDAT data into a buffer of exactly the size
 * that IHDR promises, the row filters in place, then the samples as Pillow's convert("RGB") takes them.
 *
 * As there, alpha and tRNS are dropped and not blended, 16-bit colour keeps its high byte, palette entries that the
 * file does not set are black, and of an animation the default picture is taken. The surprise is 16-bit grey: Pillow
 * clips it to 255, so such a picture is nearly white; it is followed, with a warning. */
#include "decode.h"

#include <stdlib.h>
#include <string.h>

enum { GREY = 0, RGB = 2, PALETTE = 3, GREY_ALPHA = 4, RGB_ALPHA = 6 };
/* A stream may hold a little more than the picture; Pillow does not look at it. */
#define SLACK 65536
/* One deflated byte gives at most 258 bytes for each pair of 1-bit codes. */
#define MAX_INFLATE 1032

struct png {
	uint32_t w, h;
	int bits, colour, interlaced;
	int channels;
	uint8_t palette[256][3];
	int has_palette;
	int small_frame;     /* fcTL: the default picture is a frame that does not fill the canvas */
	const uint8_t *data; /* IDAT, where it lies in one piece */
	uint8_t *joined;     /* IDAT, where it had to be joined */
	size_t data_size;
};

static uint32_t crc(const uint8_t *bytes, size_t size)
{
	uint32_t table[256], c = 0xFFFFFFFFu;

	for (uint32_t i = 0; i < 256; i++) {
		uint32_t v = i;

		for (int k = 0; k < 8; k++)
			v = v & 1 ? 0xEDB88320u ^ (v >> 1) : v >> 1;
		table[i] = v;
	}
	for (size_t i = 0; i < size; i++)
		c = table[(c ^ bytes[i]) & 255] ^ (c >> 8);
	return c ^ 0xFFFFFFFFu;
}

static int read_ihdr(struct png *p, const uint8_t *s, size_t len, struct fr_error *err)
{
	static const uint8_t channels[7] = {[GREY] = 1, [RGB] = 3, [PALETTE] = 1, [GREY_ALPHA] = 2, [RGB_ALPHA] = 4};
	/* Allowed depths, a bit for each of 1, 2, 4, 8, 16. */
	static const uint8_t depths[7] = {[GREY] = 31, [RGB] = 24, [PALETTE] = 15, [GREY_ALPHA] = 24, [RGB_ALPHA] = 24};

	if (len != 13)
		return fr_fail(err, FR_E_DAMAGED, "PNG: IHDR holds %zu bytes, expected 13", len);
	p->w = fr_be32(s);
	p->h = fr_be32(s + 4);
	p->bits = s[8];
	p->colour = s[9];
	p->interlaced = s[12];
	if (p->colour > 6 || !channels[p->colour] || !p->bits || p->bits & (p->bits - 1) ||
	    !(depths[p->colour] & p->bits))
		return fr_fail(err, FR_E_DAMAGED, "PNG: %d bits of colour type %d do not exist", p->bits, p->colour);
	if (s[10] || s[11] || s[12] > 1)
		return fr_fail(err, FR_E_DAMAGED, "PNG: unknown compression %d, filter %d or interlace %d", s[10],
			       s[11], s[12]);
	p->channels = channels[p->colour];
	return 0;
}

static int read_palette(struct png *p, const uint8_t *s, size_t len, struct fr_error *err)
{
	if (p->colour != PALETTE)
		return 0;
	if (!len || len % 3 || len > 768)
		return fr_fail(err, FR_E_DAMAGED, "PNG: PLTE holds %zu bytes, expected 3 to 768 in threes", len);
	memcpy(p->palette, s, len);
	p->has_palette = 1;
	return 0;
}

/* What follows the image data, up to IEND: like Pillow, refuses a chunk that is cut off and reads nothing of it. */
static int check_rest(const uint8_t *bytes, size_t size, size_t at, struct fr_error *err)
{
	while (at < size && size - at >= 8 && memcmp(bytes + at + 4, "IEND", 4)) {
		uint32_t len = fr_be32(bytes + at);

		if (len > size - at - 8)
			return fr_fail(err, FR_E_DAMAGED,
				       "PNG: truncated, the chunk at byte %zu holds %u bytes, %zu are left", at, len,
				       size - at - 8);
		at += len + (size_t)12;
	}
	return 0;
}

/* Joins the IDAT chunks from the first, which lies at `pos`, to the last of the run. */
static int join_data(struct png *p, const uint8_t *bytes, size_t size, size_t pos, struct fr_error *err)
{
	size_t at = pos, total = 0, n = 0;

	for (; size - at >= 8 && !memcmp(bytes + at + 4, "IDAT", 4); at += fr_be32(bytes + at) + (size_t)12) {
		uint32_t len = fr_be32(bytes + at);

		if (size - at < 12 || len > size - at - 12)
			return fr_fail(err, FR_E_DAMAGED,
				       "PNG: truncated, IDAT at byte %zu holds %u bytes, %zu are left", at, len,
				       size - at - 8);
		if (crc(bytes + at + 4, len + (size_t)4) != fr_be32(bytes + at + 8 + len))
			return fr_fail(err, FR_E_DAMAGED, "PNG: wrong checksum of IDAT at byte %zu", at);
		total += len;
		n++;
	}
	FR_TRY(check_rest(bytes, size, at, err));
	p->data = bytes + pos + 8;
	p->data_size = total;
	if (n == 1)
		return 0;
	if (!(p->joined = malloc(total + 1)))
		return fr_fail(err, FR_E_MEMORY, "PNG: no memory for %zu bytes of image data", total);
	for (total = 0, at = pos; n; n--, at += fr_be32(bytes + at) + (size_t)12) {
		memcpy(p->joined + total, bytes + at + 8, fr_be32(bytes + at));
		total += fr_be32(bytes + at);
	}
	p->data = p->joined;
	return 0;
}

static int read_chunks(struct png *p, const uint8_t *bytes, size_t size, struct fr_error *err)
{
	for (size_t at = 8;;) {
		uint32_t len;
		const uint8_t *type, *body;

		if (size - at < 12)
			return fr_fail(err, FR_E_DAMAGED, "PNG: truncated, %zu bytes, expected a chunk at byte %zu",
				       size, at);
		len = fr_be32(bytes + at);
		type = bytes + at + 4;
		body = bytes + at + 8;
		if (at == 8 && memcmp(type, "IHDR", 4))
			return fr_fail(err, FR_E_DAMAGED, "PNG: the first chunk is '%.4s', expected IHDR",
				       (const char *)type);
		if (!memcmp(type, "IDAT", 4))
			return join_data(p, bytes, size, at, err);
		if (len > size - at - 12)
			return fr_fail(err, FR_E_DAMAGED,
				       "PNG: truncated, chunk '%.4s' at byte %zu holds %u bytes, %zu are left",
				       (const char *)type, at, len, size - at - 8);
		if (crc(type, len + (size_t)4) != fr_be32(body + len))
			return fr_fail(err, FR_E_DAMAGED, "PNG: wrong checksum of chunk '%.4s' at byte %zu",
				       (const char *)type, at);
		if (at == 8)
			FR_TRY(read_ihdr(p, body, len, err));
		else if (!memcmp(type, "PLTE", 4))
			FR_TRY(read_palette(p, body, len, err));
		else if (!memcmp(type, "fcTL", 4) && len >= 20)
			p->small_frame = fr_be32(body + 4) != p->w || fr_be32(body + 8) != p->h;
		else if (!memcmp(type, "IEND", 4))
			return fr_fail(err, FR_E_DAMAGED, "PNG: IEND at byte %zu before any image data", at);
		at += len + (size_t)12;
	}
}

static int paeth(int a, int b, int c)
{
	int pa = abs(b - c), pb = abs(a - c), pc = abs(a + b - 2 * c);

	return pa <= pb && pa <= pc ? a : pb <= pc ? b : c;
}

/* Undoes the filter of row [len] in place; up [len] is the row before it, or zeros. */
static int unfilter(int filter, uint8_t *row, const uint8_t *up, size_t len, size_t bpp)
{
	switch (filter) {
	case 0:
		return 0;
	case 1:
		for (size_t i = bpp; i < len; i++)
			row[i] = (uint8_t)(row[i] + row[i - bpp]);
		return 0;
	case 2:
		for (size_t i = 0; i < len; i++)
			row[i] = (uint8_t)(row[i] + up[i]);
		return 0;
	case 3:
		for (size_t i = 0; i < len; i++)
			row[i] = (uint8_t)(row[i] + ((i < bpp ? 0 : row[i - bpp]) + up[i]) / 2);
		return 0;
	case 4:
		for (size_t i = 0; i < bpp && i < len; i++)
			row[i] = (uint8_t)(row[i] + up[i]);
		for (size_t i = bpp; i < len; i++)
			row[i] = (uint8_t)(row[i] + paeth(row[i - bpp], up[i], up[i - bpp]));
		return 0;
	}
	return -1;
}

/* One row of n pixels -> every step-th pixel of rgb. */
static void expand_row(const struct png *p, const uint8_t *row, size_t n, uint8_t *rgb, size_t step)
{
	int bytes = p->bits / 8 * p->channels;
	uint8_t scale = p->bits < 8 && p->colour == GREY ? (uint8_t)(255 / ((1 << p->bits) - 1)) : 1;

	for (size_t i = 0; i < n; i++, rgb += 3 * step) {
		const uint8_t *s = row + i * (size_t)bytes;
		uint8_t v;

		if (p->channels >= 3) {
			int wide = p->bits / 8;

			rgb[0] = s[0];
			rgb[1] = s[wide];
			rgb[2] = s[2 * wide];
			continue;
		}
		if (p->bits == 16)
			v = p->colour == GREY && s[0] ? 255 : s[p->colour == GREY];
		else if (p->bits == 8)
			v = s[0];
		else
			v = (uint8_t)((row[i * (size_t)p->bits / 8] >> (8 - p->bits - (int)(i * (size_t)p->bits % 8))) &
				      ((1 << p->bits) - 1));
		if (p->colour == PALETTE)
			memcpy(rgb, p->palette[v], 3);
		else
			rgb[0] = rgb[1] = rgb[2] = (uint8_t)(v * scale);
	}
}

/* Adam7: pass k has the pixels (x0 + i*dx, y0 + j*dy). A picture that is not interlaced is one pass of all. */
static const struct pass {
	uint8_t x0, y0, dx, dy;
} passes[8] = {{0, 0, 8, 8}, {4, 0, 8, 8}, {0, 4, 4, 8}, {2, 0, 4, 4},
	       {0, 2, 2, 4}, {1, 0, 2, 2}, {0, 1, 1, 2}, {0, 0, 1, 1}};

static uint64_t pass_width(const struct png *p, const struct pass *k)
{
	return p->w <= k->x0 ? 0 : (p->w - k->x0 + k->dx - 1u) / k->dx;
}
static uint64_t row_bytes(const struct png *p, uint64_t n)
{
	return (n * (uint64_t)(p->bits * p->channels) + 7) / 8;
}

/* raw: the inflated rows of all passes, each behind its filter byte -> out. */
static int unpack_rows(const struct png *p, uint8_t *raw, struct fr_image *out, struct fr_error *err)
{
	size_t bpp = (size_t)(p->bits * p->channels + 7) / 8;
	int first = p->interlaced ? 0 : 7, last = p->interlaced ? 6 : 7;
	uint8_t *zeros = calloc(1, (size_t)row_bytes(p, p->w) + 1);

	if (!zeros)
		return fr_fail(err, FR_E_MEMORY, "PNG: no memory for a row of %u pixels", p->w);
	for (int k = first; k <= last; k++) {
		const struct pass *s = &passes[k];
		size_t n = (size_t)pass_width(p, s), len = (size_t)row_bytes(p, n);
		const uint8_t *up = zeros;

		for (uint32_t y = s->y0; n && y < p->h; y += s->dy) {
			if (unfilter(raw[0], raw + 1, up, len, bpp) != 0) {
				free(zeros);
				return fr_fail(err, FR_E_DAMAGED, "PNG: row %u has filter %d, expected 0 to 4", y,
					       raw[0]);
			}
			up = raw + 1;
			expand_row(p, up, n, out->rgb + ((size_t)y * p->w + s->x0) * 3, s->dx);
			raw += 1 + len;
		}
	}
	free(zeros);
	return 0;
}

/* Bytes of all filtered rows. */
static uint64_t raw_size(const struct png *p)
{
	int first = p->interlaced ? 0 : 7, last = p->interlaced ? 6 : 7;
	uint64_t total = 0;

	for (int k = first; k <= last; k++) {
		const struct pass *s = &passes[k];
		uint64_t n = pass_width(p, s), rows = p->h <= s->y0 ? 0 : (p->h - s->y0 + s->dy - 1u) / s->dy;

		if (n)
			total += rows * (row_bytes(p, n) + 1);
	}
	return total;
}

static int read_pixels(const struct png *p, uint64_t max_pixels, struct fr_image *out, struct fr_error *err)
{
	uint64_t need;
	uint8_t *raw;
	int got, rc;

	FR_TRY(fr_image_check_size("PNG", p->w, p->h, max_pixels, err));
	need = raw_size(p);
	if (need > INT32_MAX - SLACK || p->data_size > INT32_MAX)
		return fr_fail(err, FR_E_LIMIT, "PNG: %llu bytes of pixels, expected less than 2 GiB",
			       (unsigned long long)need);
	if (need / MAX_INFLATE > p->data_size)
		return fr_fail(err, FR_E_DAMAGED, "PNG: %zu bytes of image data cannot hold %u x %u pixels",
			       p->data_size, p->w, p->h);
	if (!(raw = malloc((size_t)need + SLACK)))
		return fr_fail(err, FR_E_MEMORY, "PNG: no memory for %llu bytes of pixels", (unsigned long long)need);
	got = fr_inflate(p->data, (int)p->data_size, raw, (int)need + SLACK);
	if (got < 0)
		rc = fr_fail(err, FR_E_DAMAGED, "PNG: the compressed image data are corrupt or end early");
	else if ((uint64_t)got < need)
		rc = fr_fail(err, FR_E_DAMAGED, "PNG: the image data give %d bytes, expected %llu", got,
			     (unsigned long long)need);
	else if ((rc = fr_image_alloc(out, p->w, p->h, max_pixels, err)) == 0)
		rc = unpack_rows(p, raw, out, err);
	free(raw);
	return rc;
}

int fr_decode_png(const uint8_t *bytes, size_t size, uint64_t max_pixels, struct fr_image *out, struct fr_error *err)
{
	struct png p = {0};
	int rc;

	rc = read_chunks(&p, bytes, size, err);
	if (rc == 0 && p.colour == PALETTE && !p.has_palette)
		rc = fr_fail(err, FR_E_DAMAGED, "PNG: indexed colours without a PLTE chunk");
	if (rc == 0 && p.small_frame)
		rc = fr_fail(err, FR_E_FORMAT,
			     "PNG: an animation whose first frame does not fill the canvas is not read");
	if (rc == 0)
		rc = read_pixels(&p, max_pixels, out, err);
	if (rc == 0 && p.colour == GREY && p.bits == 16)
		fr_image_warn(out, "16-bit grey PNG: samples above 255 are clipped to white, as the reference does");
	free(p.joined);
	return rc;
}
