/* A PNG file from pixels, with a few lines of text in it. */
#ifndef FR_ENGINE_ENCODE_PNG_H
#define FR_ENGINE_ENCODE_PNG_H

#include "error.h"

struct fr_png_text {
	const char *keyword, *text; /* ASCII; the keyword 1 to 79 characters */
};
/* rgb [h, w, 3] and n texts (chunks tEXt, before the pixels) -> malloc'd *png [*size], the caller frees. The same bytes
 * for the same pixels and texts. */
int fr_png_encode(const uint8_t *rgb, int w, int h, const struct fr_png_text *text, int n, uint8_t **png, size_t *size,
		  struct fr_error *err);

/* engine/encode_stb.c: rgb [h, w, 3] as a PNG without texts, malloc'd; NULL without memory. */
uint8_t *fr_png_bare(const uint8_t *rgb, int w, int h, int *size);

#endif
