/* Inflate for PNG, by stb_image. Only its zlib decoder is used: it writes into a buffer of fixed size, so a stream that
 * would unpack to gigabytes stops at the size its header promised. stb's own PNG reader has no such bound and leaves
 * palette entries that the file does not set undefined, so chunks, filters and colours are read in decode_png.c. */
#include "decode.h"

#define STB_IMAGE_STATIC
#define STB_IMAGE_IMPLEMENTATION
#define STBI_NO_STDIO
#define STBI_NO_SIMD
#define STBI_ONLY_PNG
#define STBI_MAX_DIMENSIONS (1 << 24)
#pragma GCC diagnostic ignored "-Wall"
#pragma GCC diagnostic ignored "-Wextra"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wsign-compare"
#pragma GCC diagnostic ignored "-Wunused-but-set-variable"
#pragma GCC diagnostic ignored "-Wunused-parameter"
#include <stb/stb_image.h>

int fr_inflate(const uint8_t *src, int size, uint8_t *dst, int capacity)
{
	return stbi_zlib_decode_buffer((char *)dst, capacity, (const char *)src, size);
}
