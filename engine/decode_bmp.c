/* BMP of 1, 4, 8, 16, 24 and 32 bits, uncompressed or with the bit fields that Pillow knows, bottom-up or top-down.
 *
 * 5- and 6-bit channels become v * 255 / 31 (or 63) rounded down, palette entries that the file does not set are black,
 * beside a grey ramp grey;
 * the fourth byte is dropped. Refused by name: RLE (Pillow misreads its deltas and odd runs), embedded JPEG and PNG,
 * and the palettes on which Pillow mistakes the depth. */
#include "decode.h"

#include <string.h>

enum { RAW = 0, RLE8 = 1, RLE4 = 2, BITFIELDS = 3 };

struct bmp {
	uint32_t w, h, bits, compression, colours;
	int top_down;
	uint32_t mask[4]; /* red, green, blue, alpha */
	uint64_t data;	  /* offset of the first row */
	uint64_t palette; /* offset of the palette */
	uint32_t entry;	  /* bytes of a palette entry */
	uint8_t rgb[256][3];
};

static int truncated(size_t size, uint64_t need, struct fr_error *err)
{
	return fr_fail(err, FR_E_DAMAGED, "BMP: truncated, %zu bytes, expected at least %llu", size,
		       (unsigned long long)need);
}

static int read_header(struct bmp *b, const uint8_t *bytes, size_t size, struct fr_error *err)
{
	const uint8_t *s = bytes + 14;
	uint32_t len;

	if (size < 18)
		return truncated(size, 18, err);
	len = fr_le32(s);
	if (len != 12 && len != 40 && len != 52 && len != 56 && len != 64 && len != 108 && len != 124)
		return fr_fail(err, FR_E_FORMAT, "BMP: a header of %u bytes is not read", len);
	if (size < 14 + (uint64_t)len)
		return truncated(size, 14 + (uint64_t)len, err);
	b->data = fr_le32(bytes + 10);
	b->palette = 14 + (uint64_t)len;
	b->entry = len == 12 ? 3 : 4;
	if (len == 12) {
		b->w = fr_le16(s + 4);
		b->h = fr_le16(s + 6);
		b->bits = fr_le16(s + 10);
		return 0;
	}
	b->w = fr_le32(s + 4);
	b->h = fr_le32(s + 8);
	b->top_down = s[11] == 0xFF;
	if (b->top_down)
		b->h = 0u - b->h;
	b->bits = fr_le16(s + 14);
	b->compression = fr_le32(s + 16);
	b->colours = fr_le32(s + 32);
	if (b->compression != BITFIELDS)
		return 0;
	if (len == 40)
		b->palette += 12;
	if (size < b->palette)
		return truncated(size, b->palette, err);
	for (int i = 0; i < 4; i++)
		b->mask[i] = i == 3 && len < 56 ? 0 : fr_le32(s + 40 + 4 * i);
	return 0;
}

/* The layouts that Pillow knows; those of 32 bits without bit fields are the first. */
static int check_layout(struct bmp *b, struct fr_error *err)
{
	static const struct {
		uint32_t bits, mask[4];
	} known[] = {
		{32, {0xFF0000, 0xFF00, 0xFF, 0}},
		{32, {0xFF000000, 0xFF0000, 0xFF00, 0}},
		{32, {0xFF000000, 0xFF00, 0xFF, 0}},
		{32, {0xFF000000, 0xFF0000, 0xFF00, 0xFF}},
		{32, {0xFF, 0xFF00, 0xFF0000, 0xFF000000}},
		{32, {0xFF0000, 0xFF00, 0xFF, 0xFF000000}},
		{32, {0xFF000000, 0xFF00, 0xFF, 0xFF0000}},
		{32, {0, 0, 0, 0}},
		{24, {0xFF0000, 0xFF00, 0xFF, 0}},
		{16, {0xF800, 0x7E0, 0x1F, 0}},
		{16, {0x7C00, 0x3E0, 0x1F, 0}},
	};
	static const uint32_t bgr[4] = {0xFF0000, 0xFF00, 0xFF, 0}, bgr15[4] = {0x7C00, 0x3E0, 0x1F, 0};

	if (b->bits != 1 && b->bits != 4 && b->bits != 8 && b->bits != 16 && b->bits != 24 && b->bits != 32)
		return fr_fail(err, FR_E_FORMAT, "BMP: %u bits per pixel are not read", b->bits);
	if (b->compression == RLE8 || b->compression == RLE4)
		return fr_fail(err, FR_E_FORMAT, "BMP: run-length compression (RLE) is not read");
	if (b->compression != RAW && b->compression != BITFIELDS)
		return fr_fail(err, FR_E_FORMAT, "BMP: compression %u is not read", b->compression);
	if (b->compression == RAW) {
		memcpy(b->mask, b->bits == 16 ? bgr15 : bgr, sizeof b->mask);
		return 0;
	}
	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (known[i].bits == b->bits &&
		    !memcmp(known[i].mask, b->mask, (b->bits == 32 ? 4 : 3) * sizeof *b->mask)) {
			if (!b->mask[0])
				memcpy(b->mask, bgr, sizeof b->mask);
			return 0;
		}
	return fr_fail(err, FR_E_FORMAT, "BMP: bit fields %08X %08X %08X %08X of %u bits are not read", b->mask[0],
		       b->mask[1], b->mask[2], b->mask[3], b->bits);
}

static int read_palette(struct bmp *b, const uint8_t *bytes, size_t size, struct fr_error *err)
{
	uint32_t n = b->colours ? b->colours : 1u << b->bits;
	int ramp = 1;

	if (n > 256)
		return fr_fail(err, FR_E_DAMAGED, "BMP: a palette of %u colours, expected at most 256", n);
	for (uint32_t i = 0; i < n; i++) {
		uint64_t at = b->palette + (uint64_t)i * b->entry;
		uint8_t grey = (uint8_t)(n == 2 && i ? 255 : i);

		if (size < at + 3)
			return truncated(size, at + 3, err);
		for (int c = 0; c < 3; c++) {
			b->rgb[i][c] = bytes[at + 2 - (uint64_t)c];
			ramp &= b->rgb[i][c] == grey;
		}
	}
	for (uint32_t i = n; ramp && i < 256; i++)
		memset(b->rgb[i], (int)i, 3);
	/* Pillow takes a grey ramp for 1 bit if it has two entries, else for 8 bits, whatever the header says. */
	if (ramp && b->bits != (n == 2 ? 1 : 8))
		return fr_fail(err, FR_E_FORMAT, "BMP: a grey palette of %u entries with %u bits per pixel is not read",
			       n, b->bits);
	if (b->data == b->palette)
		b->data += 4 * (uint64_t)n;
	else if (!b->data)
		b->data = b->palette + (uint64_t)n * b->entry;
	return 0;
}

static int channel(uint32_t pixel, uint32_t mask)
{
	uint32_t top = mask >> __builtin_ctz(mask), v = (pixel & mask) >> __builtin_ctz(mask);

	return (int)(v * 255 / top);
}

static void expand_row(const struct bmp *b, const uint8_t *row, uint8_t *rgb)
{
	for (uint32_t x = 0; x < b->w; x++, rgb += 3) {
		uint32_t bytes = b->bits / 8, v;
		const uint8_t *s = row + (size_t)x * bytes;

		if (b->bits <= 8) {
			uint64_t bit = (uint64_t)x * b->bits;

			v = (uint32_t)row[bit / 8] >> (8 - b->bits - bit % 8) & ((1u << b->bits) - 1);
			memcpy(rgb, b->rgb[v], 3);
			continue;
		}
		v = bytes == 4 ? fr_le32(s) : bytes == 3 ? fr_le16(s) | (uint32_t)s[2] << 16 : fr_le16(s);
		for (int c = 0; c < 3; c++)
			rgb[c] = (uint8_t)channel(v, b->mask[c]);
	}
}

int fr_decode_bmp(const uint8_t *bytes, size_t size, uint64_t max_pixels, struct fr_image *out, struct fr_error *err)
{
	struct bmp b = {0};
	uint64_t stride, used, need;

	FR_TRY(read_header(&b, bytes, size, err));
	FR_TRY(check_layout(&b, err));
	FR_TRY(fr_image_check_size("BMP", b.w, b.h, max_pixels, err));
	if (b.bits <= 8)
		FR_TRY(read_palette(&b, bytes, size, err));
	else if (!b.data)
		b.data = b.palette;
	used = ((uint64_t)b.w * b.bits + 7) / 8;
	stride = (((uint64_t)b.w * b.bits + 31) >> 3) & ~(uint64_t)3;
	need = b.data + stride * (b.h - 1) + used;
	if (need > size)
		return truncated(size, need, err);
	FR_TRY(fr_image_alloc(out, b.w, b.h, max_pixels, err));
	for (uint32_t y = 0; y < b.h; y++)
		expand_row(&b, bytes + b.data + stride * y,
			   out->rgb + (size_t)(b.top_down ? y : b.h - 1 - y) * b.w * 3);
	return 0;
}
