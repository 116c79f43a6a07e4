/* Any bytes as an image file: decode, fit in every way a preprocessor_config.json may ask for, normalise. */
#include "../../engine/image.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void fit(const struct fr_image *img, const struct fr_image_desc *desc)
{
	size_t pixels = (size_t)desc->crop * (size_t)desc->crop;
	uint8_t *u8 = malloc(3 * pixels);
	float *out = malloc(3 * pixels * sizeof *out);
	struct fr_error err;

	if (u8 && out && fr_image_fit(img, desc, u8, &err) == 0)
		fr_image_normalise(u8, desc, out);
	free(u8);
	free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	static const struct fr_image_desc desc = {.rescale = 1.0 / 255,
						  .mean = {0.48145466f, 0.4578275f, 0.40821073f},
						  .std = {0.26862954f, 0.26130258f, 0.27577711f}};
	struct fr_image img;
	struct fr_error err;

	if (fr_image_decode(bytes, size, 1000000, &img, &err) != 0)
		return 0;
	for (int i = 0; i < 4; i++) {
		struct fr_image_desc d = desc;

		d.fit = i & 1 ? FR_FIT_PAD : FR_FIT_CROP;
		d.resample = (enum fr_resample)((size + (size_t)i) % (FR_HAMMING + 1));
		d.resize = i < 2 ? 28 : 20;
		d.crop = 28;
		fit(&img, &d);
	}
	fr_image_free(&img);
	return 0;
}
