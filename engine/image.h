/* From the bytes of an image file to the pixels that the encoder sees, exact to Pillow. */
#ifndef FR_ENGINE_IMAGE_H
#define FR_ENGINE_IMAGE_H

#include "desc.h"

struct fr_image {
	int w, h;
	uint8_t *rgb;             /* [h, w, 3], owned */
	const char *format;       /* "JPEG" ... */
	const char *warnings[4];  /* static sentences: what was read as the reference reads it, though it looks wrong */
	int n_warnings;
};
#define FR_MAX_PIXELS 178956970u /* Pillow's decompression bomb limit */

/* The format by the first bytes (512 are enough): a static name, or NULL when they are no image known. *readable is 0 for formats that
 * are only named, to be refused (TIFF, HEIC, AVIF, JPEG XL, ...). */
const char *fr_image_sniff(const uint8_t *bytes, size_t size, int *readable);
/* Decodes as Pillow's Image.open(...).convert("RGB") does. max_pixels is checked before anything of that size is taken. */
int fr_image_decode(const uint8_t *bytes, size_t size, uint64_t max_pixels, struct fr_image *out, struct fr_error *err);
void fr_image_free(struct fr_image *img);

/* Resize and crop (or pad) as desc says -> out [crop, crop, 3] u8. Computes the crop window only; scratch is bounded by
 * the window and the rows it needs, not by the aspect. Proportions up to 2000:1. */
int fr_image_fit(const struct fr_image *img, const struct fr_image_desc *desc, uint8_t *out, struct fr_error *err);
/* Pillow's bicubic resize of the whole picture -> out [height, width, 3]; sides and proportions limited as above. */
int fr_image_scale(const struct fr_image *img, int width, int height, uint8_t *out, struct fr_error *err);
/* Where the window of fr_image_fit lies in a picture of width x height, in its pixels, from its upper left corner. It may
 * reach beyond the picture: into the border of a square, or where the resized frame is smaller than the crop. */
struct fr_view {
	double x, y, w, h;
};
void fr_image_view(const struct fr_image_desc *desc, int width, int height, struct fr_view *view);
/* u8 [crop, crop, 3] -> out [3, crop, crop], the reference's float32 values by a 3x256 table. */
void fr_image_normalise(const uint8_t *u8, const struct fr_image_desc *desc, float *out);

#endif
