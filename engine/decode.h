/* What the readers of the single image formats share; engine/image.h is the boundary to the rest.
 *
 * Each reader turns the bytes of one file into the RGB picture that Pillow's convert("RGB") gives, or refuses. It reads
 * the size first and calls fr_image_alloc, which holds it against max_pixels, before it takes memory of that order. */
#ifndef FR_ENGINE_DECODE_H
#define FR_ENGINE_DECODE_H

#include "error.h"
#include "image.h"

/* bytes [size] of a file of that format -> *out, zeroed by the caller, who frees it in any case. */
typedef int fr_decode_fn(const uint8_t *bytes, size_t size, uint64_t max_pixels, struct fr_image *out,
			 struct fr_error *err);
fr_decode_fn fr_decode_jpeg, fr_decode_png, fr_decode_webp, fr_decode_bmp, fr_decode_gif, fr_decode_tga, fr_decode_pnm;

/* Sets w, h and a zeroed rgb [h, w, 3]; out->format must be set. */
int fr_image_alloc(struct fr_image *out, uint64_t w, uint64_t h, uint64_t max_pixels, struct fr_error *err);
/* The checks of fr_image_alloc alone, for a reader that allocates later. */
int fr_image_check_size(const char *format, uint64_t w, uint64_t h, uint64_t max_pixels, struct fr_error *err);
/* Adds a static sentence to out->warnings. */
void fr_image_warn(struct fr_image *out, const char *sentence);

/* Is this a TGA header? The format has no magic number, so every field is held against what it may be. */
int fr_tga_plausible(const uint8_t *bytes, size_t size);

/* Inflates a zlib stream into dst [capacity] -> the bytes written, or -1 when it is corrupt, ends early or gives more.
 */
int fr_inflate(const uint8_t *src, int size, uint8_t *dst, int capacity);

static inline uint32_t fr_le16(const uint8_t *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8;
}
static inline uint32_t fr_le32(const uint8_t *p)
{
	return fr_le16(p) | fr_le16(p + 2) << 16;
}
static inline uint32_t fr_be16(const uint8_t *p)
{
	return (uint32_t)p[0] << 8 | (uint32_t)p[1];
}
static inline uint32_t fr_be32(const uint8_t *p)
{
	return fr_be16(p) << 16 | fr_be16(p + 2);
}

#endif
