/* Any geometry and any shares as heat over a picture, any bytes as a line of text; some inputs go all the way to a
 * PNG, which must read back whole: one in 64 by a sum over their bytes, because that takes a hundred times as long and
 * a fuzzer would do nothing else. The first 12 bytes are sizes, the rest are shares and text. */
#include "../../engine/heat.h"
#include "../../engine/model.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

struct input {
	int w, h, drawn_w, drawn_h, side, patch;
	struct fr_image_desc desc;
	const uint8_t *rest;
	size_t n;
};

static struct input read_input(const uint8_t *b, size_t size)
{
	struct input in = {.w = 1 + b[1] + 256 * (b[2] % 8),
			   .h = 1 + b[3] + 256 * (b[4] % 8),
			   .drawn_w = 1 + b[5] % 64,
			   .drawn_h = 1 + b[6] % 64,
			   .side = 1 + b[7] % 16,
			   .patch = 1 + b[8] % 8,
			   .rest = b + 12,
			   .n = size - 12};

	in.desc = (struct fr_image_desc){.fit = b[9] & 1 ? FR_FIT_PAD : FR_FIT_CROP,
					 .resize = 1 + b[10],
					 .crop = in.side * in.patch + b[11] % in.patch,
					 .rescale = 1.0 / 255,
					 .mean = {0.5f, 0.5f, 0.5f},
					 .std = {1, 1, 1}};
	return in;
}

static float *read_shares(const struct input *in)
{
	const size_t n = (size_t)(in->side * in->side) * sizeof(float);
	float *share = calloc(1, n);

	if (share && in->n)
		memcpy(share, in->rest, in->n < n ? in->n : n);
	return share;
}

static void draw(const struct input *in, const float *share)
{
	const size_t n = (size_t)in->drawn_w * (size_t)in->drawn_h;
	float *field = malloc(n * sizeof *field);
	uint8_t *rgb = calloc(n, 3);
	struct fr_canvas c = {in->drawn_w, in->drawn_h, rgb};
	struct fr_heat heat;
	struct fr_error err;

	if (field && rgb && fr_heat_init(&heat, share, in->side, in->patch, &in->desc, in->w, in->h, &err) == 0 &&
	    fr_heat_field(&heat, in->drawn_w, in->drawn_h, field, &err) == 0) {
		for (size_t i = 0; i < n; i++)
			if (!(field[i] == -1 || (field[i] >= 0 && field[i] <= heat.most * 1.000001f)))
				abort();
		fr_heat_paint(rgb, field, n, heat.most);
		if (!(fr_heat_seen(&heat) >= 0 && fr_heat_seen(&heat) <= 1.000001))
			abort();
	}
	if (rgb)
		fr_lettering_draw(&c, &(struct fr_lettering){.cap = 9, .pen = 1.5}, in->w % 80 - 10, in->h % 80 - 10,
				  (const char *)in->rest, in->n < 40 ? (int)in->n : 40);
	free(field);
	free(rgb);
}

static void whole(const struct input *in, const float *share)
{
	static struct fr_model m;
	const int w = in->w % 99 + 1, h = in->h % 99 + 1;
	uint8_t *png, *file = calloc(1, 32 + (size_t)w * (size_t)h);
	size_t size;
	struct fr_image back;
	struct fr_error err;

	if (!file)
		return;
	m.desc.image = in->desc;
	m.desc.vit[0].image = in->desc.crop;
	m.desc.vit[0].patch = in->patch;
	m.desc.vit[0].role = "vision";
	snprintf(m.desc.name, sizeof m.desc.name, "%.*s", (int)(in->n < 60 ? in->n : 60), (const char *)in->rest);
	size = (size_t)snprintf((char *)file, 32, "P5 %d %d 255\n", w, h) + (size_t)w * (size_t)h;
	if (fr_heatmap(&m, file, size, 0, share, in->side, &png, &size, &err) == 0) {
		if (fr_image_decode(png, size, FR_MAX_PIXELS, &back, &err) != 0 || back.n_warnings)
			abort();
		fr_image_free(&back);
		free(png);
	}
	free(file);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	struct input in;
	float *share;
	uint32_t sum = 0;

	if (size < 12)
		return 0;
	in = read_input(bytes, size);
	share = read_shares(&in);
	if (share) {
		draw(&in, share);
		for (size_t i = 0; i < size; i++)
			sum = (sum ^ bytes[i]) * 0x01000193u;
		if (sum >> 26 == 0)
			whole(&in, share);
	}
	free(share);
	return 0;
}
