/* Filters and deflate of a PNG, by stb_image_write. */
#include "encode_png.h"

#define STB_IMAGE_WRITE_STATIC
#define STB_IMAGE_WRITE_IMPLEMENTATION
#define STBI_WRITE_NO_STDIO
#pragma GCC diagnostic ignored "-Wall"
#pragma GCC diagnostic ignored "-Wextra"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#include <stb/stb_image_write.h>

uint8_t *fr_png_bare(const uint8_t *rgb, int w, int h, int *size)
{
	return stbi_write_png_to_mem(rgb, 3 * w, w, h, 3, size);
}
