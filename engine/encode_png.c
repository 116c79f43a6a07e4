/* Pixels to PNG: filters and deflate are stb_image_write's, which knows no text chunks, so these are put in behind its
 * header, which always ends at the same place. */
#include "encode_png.h"

#include <stdlib.h>
#include <string.h>

#define HEAD 33		      /* signature and IHDR */
#define MAX_PIXELS (64 << 20) /* stb counts bytes in int */

/* The checksum of PNG (CRC-32, polynomial 0xedb88320 from the low bit on). */
static uint32_t crc(const uint8_t *at, size_t n)
{
	uint32_t c = 0xffffffff;

	for (size_t i = 0; i < n; i++) {
		c ^= at[i];
		for (int k = 0; k < 8; k++)
			c = c >> 1 ^ (c & 1 ? 0xedb88320 : 0);
	}
	return ~c;
}

static uint8_t *put32(uint8_t *at, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		*at++ = (uint8_t)(v >> (24 - 8 * i));
	return at;
}

/* keyword, NUL, text. */
static size_t text_size(const struct fr_png_text *t)
{
	return strlen(t->keyword) + 1 + strlen(t->text);
}

static uint8_t *put_text(uint8_t *at, const struct fr_png_text *t)
{
	const size_t n = text_size(t), key = strlen(t->keyword) + 1;
	uint8_t *chunk = put32(at, (uint32_t)n);

	memcpy(chunk, "tEXt", 4);
	memcpy(chunk + 4, t->keyword, key);
	memcpy(chunk + 4 + key, t->text, n - key);
	return put32(chunk + 4 + n, crc(chunk, 4 + n));
}

int fr_png_encode(const uint8_t *rgb, int w, int h, const struct fr_png_text *text, int n, uint8_t **png, size_t *size,
		  struct fr_error *err)
{
	uint8_t *bare = NULL, *at;
	size_t more = 0;
	int len = 0;

	*png = NULL;
	for (int i = 0; i < n; i++)
		more += 12 + text_size(&text[i]);
	if ((int64_t)w * h <= MAX_PIXELS)
		bare = fr_png_bare(rgb, w, h, &len);
	if (bare)
		*png = malloc((size_t)len + more);
	if (!*png) {
		free(bare);
		return fr_fail(err, FR_E_MEMORY, "no memory for a PNG of %d x %d pixels", w, h);
	}
	memcpy(*png, bare, HEAD);
	at = *png + HEAD;
	for (int i = 0; i < n; i++)
		at = put_text(at, &text[i]);
	memcpy(at, bare + HEAD, (size_t)len - HEAD);
	*size = (size_t)len + more;
	free(bare);
	return 0;
}
