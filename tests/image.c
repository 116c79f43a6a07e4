/* Image files to pixels against Pillow and transformers: the lines of tests/golden/image/manifest.txt (what they mean:
 * tests/oracle/image.py), every golden file cut off at many lengths, and bytes that are refused by name.
 * Under valgrind set JSIMD_FORCENONE=1: it takes bytes that libjpeg-turbo's SIMD code writes for undefined. */
#include "../engine/image.h"
#include "test.h"

#include <sha2.h>

#define ROOT "tests/golden/image/"
#define MANY 178956970u

struct bytes {
	uint8_t *at;
	size_t size;
};

static struct bytes load(const char *name)
{
	char path[512];
	struct bytes b = {0};
	FILE *f;
	long size;

	snprintf(path, sizeof path, ROOT "%s", name);
	if (!(f = fopen(path, "rb")))
		return b;
	if (fseek(f, 0, SEEK_END) == 0 && (size = ftell(f)) >= 0 && fseek(f, 0, SEEK_SET) == 0 &&
	    (b.at = malloc((size_t)size + 1)))
		b.size = fread(b.at, 1, (size_t)size, f);
	fclose(f);
	return b;
}

static void hash(const void *data, size_t size, char hex[65])
{
	SHA256Data(data, size, hex);
}

/* Decodes a copy of exactly `size` bytes, so that a sanitizer sees a read beyond them. */
static int decode_exact(const uint8_t *bytes, size_t size, uint64_t max_pixels, struct fr_image *img,
			struct fr_error *err)
{
	uint8_t *copy = malloc(size + !size);
	int rc;

	memcpy(copy, bytes, size);
	rc = fr_image_decode(copy, size, max_pixels, img, err);
	free(copy);
	return rc;
}

static void check_decode(const char *file, int w, int h, const char *sha, size_t needs)
{
	struct bytes b = load(file);
	struct fr_image img = {0};
	struct fr_error err = {0};
	char name[300], hex[65] = "", cut_hex[65];
	size_t wrong = 0, tried = 0;

	snprintf(name, sizeof name, "exact/image/decode %s", file);
	if (decode_exact(b.at, b.size, MANY, &img, &err) == 0)
		hash(img.rgb, (size_t)img.w * (size_t)img.h * 3, hex);
	CHECK(name, img.w == w && img.h == h && !strcmp(hex, sha), "%d x %d %.8s (%s), expected %d x %d %.8s", img.w,
	      img.h, hex, err.text, w, h, sha);
	fr_image_free(&img);

	snprintf(name, sizeof name, "exact/image/cut %s", file);
	for (size_t n = 0; n < b.size; n += n + 80 < b.size && n > 80 ? 1 + b.size / 50 : 1, tried++) {
		if (decode_exact(b.at, n, MANY, &img, &err) != 0) {
			wrong += (err.code != FR_E_DAMAGED && err.code != FR_E_FORMAT) || !err.text[0];
			continue;
		}
		hash(img.rgb, (size_t)img.w * (size_t)img.h * 3, cut_hex);
		wrong += n < needs || strcmp(cut_hex, sha) != 0;
		fr_image_free(&img);
	}
	CHECK(name, b.size && !wrong, "%zu of %zu beginnings were read, or refused without a sentence", wrong, tried);
	free(b.at);
}

static void check_warned(const char *file)
{
	struct bytes b = load(file);
	struct fr_image img = {0};
	struct fr_error err = {0};
	char name[300];
	int rc = decode_exact(b.at, b.size, MANY, &img, &err);

	snprintf(name, sizeof name, "exact/image/warned %s", file);
	CHECK(name, rc == 0 && img.n_warnings == 1 && strlen(img.warnings[0]) > 20, "%d warnings", img.n_warnings);
	fr_image_free(&img);
	free(b.at);
}

static void check_refuse(const char *name, const uint8_t *bytes, size_t size, uint64_t max_pixels, const char *code,
			 const char *word)
{
	struct fr_image img;
	struct fr_error err = {0};
	int rc = decode_exact(bytes, size, max_pixels, &img, &err);

	CHECK(name, rc == -1 && !strcmp(fr_code_name(err.code), code) && strstr(err.text, word) && !img.rgb,
	      "returned %d, %s: %s; expected %s and \"%s\"", rc, fr_code_name(err.code), err.text, code, word);
	if (rc == 0)
		fr_image_free(&img);
}

static int desc_of(struct fr_image_desc *d, int resize, int crop, const char *filter, const char *mode)
{
	static const char *const filters[] = {
		[FR_BICUBIC] = "bicubic", [FR_BILINEAR] = "bilinear", [FR_LANCZOS] = "lanczos",
		[FR_NEAREST] = "nearest", [FR_BOX] = "box",	      [FR_HAMMING] = "hamming"};

	*d = (struct fr_image_desc){.resize = resize,
				    .crop = crop,
				    .rescale = 1.0 / 255,
				    .mean = {0.48145466f, 0.4578275f, 0.40821073f},
				    .std = {0.26862954f, 0.26130258f, 0.27577711f}};
	d->fit = strcmp(mode, "pad") ? FR_FIT_CROP : FR_FIT_PAD;
	for (int i = 0; i <= FR_HAMMING; i++)
		if (!strcmp(filters[i], filter)) {
			d->resample = (enum fr_resample)i;
			return 0;
		}
	return -1;
}

/* The formulas of `made` in tests/oracle/image.py. */
static uint8_t made(const char *kind, uint32_t x, uint32_t y, uint32_t c)
{
	uint32_t v = x * 0x9E3779B1u + y * 0x85EBCA77u + c * 0xC2B2AE3Du;

	if (!strcmp(kind, "smooth"))
		return (uint8_t)(x * 3 + y * 5 + c * 40 + (x * y >> 5));
	v = (v ^ v >> 15) * 0x2C1B3C6Du;
	v = (v ^ v >> 12) * 0x297A2D39u;
	return (uint8_t)(v >> 24);
}

static struct fr_image make(const char *kind, int w, int h)
{
	struct fr_image img = {.w = w, .h = h, .rgb = malloc((size_t)w * (size_t)h * 3)};

	for (int y = 0; y < h; y++)
		for (int x = 0; x < w; x++)
			for (int c = 0; c < 3; c++)
				img.rgb[((size_t)y * (size_t)w + (size_t)x) * 3 + (size_t)c] =
					made(kind, (uint32_t)x, (uint32_t)y, (uint32_t)c);
	return img;
}

static void check_fit(const char *kind, int w, int h, struct fr_image_desc *d, const char *what, const char *sha)
{
	struct fr_image img = make(kind, w, h);
	struct fr_error err = {0};
	size_t size = (size_t)d->crop * (size_t)d->crop * 3;
	uint8_t *out = malloc(size);
	char name[500], hex[65] = "";

	if (fr_image_fit(&img, d, out, &err) == 0)
		hash(out, size, hex);
	snprintf(name, sizeof name, "exact/image/fit %s %dx%d to %d, %d, %s", kind, w, h, d->resize, d->crop, what);
	CHECK(name, !strcmp(hex, sha), "%.8s (%s), expected %.8s", hex, err.text, sha);
	free(out);
	fr_image_free(&img);
}

static void check_normalise(const struct fr_image_desc *d, const char *sha)
{
	uint8_t u8[16 * 16 * 3];
	float out[3 * 16 * 16];
	char name[100], hex[65];

	for (size_t i = 0; i < sizeof u8; i++)
		u8[i] = (uint8_t)(i / 3);
	fr_image_normalise(u8, d, out);
	hash(out, sizeof out, hex);
	snprintf(name, sizeof name, "exact/image/normalise %g, mean %g", d->rescale, (double)d->mean[0]);
	CHECK(name, !strcmp(hex, sha), "%.8s, expected %.8s", hex, sha);
}

static void check_line(const char *line)
{
	char a[200], b[80], c[80], e[80], label[180];
	int w, h, resize, crop;
	size_t needs;
	struct fr_image_desc d;

	if (sscanf(line, "decode %199s %d %d %79s %zu", a, &w, &h, b, &needs) == 5) {
		check_decode(a, w, h, b, needs);
	} else if (sscanf(line, "warned %199s", a) == 1) {
		check_warned(a);
	} else if (sscanf(line, "refuse %199s %79s", a, b) == 2) {
		struct bytes f = load(a);
		char name[300];

		snprintf(name, sizeof name, "exact/image/refuse %s", a);
		check_refuse(name, f.at, f.size, MANY, b, "");
		free(f.at);
	} else if (sscanf(line, "fit %199s %d %d %d %d %79s %79s %79s", a, &w, &h, &resize, &crop, b, c, e) == 8 &&
		   desc_of(&d, resize, crop, b, c) == 0) {
		snprintf(label, sizeof label, "%s %s", b, c);
		check_fit(a, w, h, &d, label, e);
	} else if (desc_of(&d, 16, 16, "bicubic", "crop") == 0 &&
		   sscanf(line, "normalise %lf %f %f %f %f %f %f %79s", &d.rescale, d.mean, d.mean + 1, d.mean + 2,
			  d.std, d.std + 1, d.std + 2, e) == 8) {
		check_normalise(&d, e);
	} else {
		test_fail("exact/image/manifest", "a line of no known kind: %s", line);
	}
}

static void check_manifest(void)
{
	struct bytes m = load("manifest.txt");
	int lines = 0;

	if (m.at)
		m.at[m.size] = 0;
	for (char *line = strtok((char *)m.at, "\n"); line; line = strtok(NULL, "\n"), lines++)
		check_line(line);
	CHECK("exact/image/manifest is complete", lines > 250, "%d lines", lines);
	free(m.at);
}

static void check_names(void)
{
	static const struct {
		const char *name, *bytes;
		size_t size;
	} t[] = {
		{"TIFF", "II*\0\x10\0\0\0", 8},
		{"TIFF", "MM\0*\0\0\0\x08", 8},
		{"HEIC",
		 "\0\0\0\x18"
		 "ftypheic",
		 12},
		{"HEIF",
		 "\0\0\0\x18"
		 "ftypmif1",
		 12},
		{"AVIF",
		 "\0\0\0\x18"
		 "ftypavif",
		 12},
		{"JPEG XL", "\xFF\x0A\x11\x22", 4},
		{"JPEG XL", "\0\0\0\x0CJXL \r\n\x87\n", 12},
		{"JPEG 2000", "\0\0\0\x0CjP  \r\n\x87\n", 12},
		{"JPEG 2000", "\xFF\x4F\xFF\x51\0\x2F", 6},
		{"PSD", "8BPS\0\x01", 6},
		{"ICO", "\0\0\x01\0\x01\0\x10\x10", 8},
		{"CUR", "\0\0\x02\0\x01\0\x10\x10", 8},
		{"PDF", "%PDF-1.7\n", 9},
		{"SVG", "<?xml version=\"1.0\"?><svg xmlns=", 32},
		{"SVG", "<svg width='1'>", 15},
		{"MP4 video",
		 "\0\0\0\x18"
		 "ftypisom",
		 12},
		{"QuickTime video",
		 "\0\0\0\x18"
		 "ftypqt  ",
		 12},
		{"Matroska or WebM video", "\x1A\x45\xDF\xA3\x01", 5},
		{"AVI video", "RIFF\x10\0\0\0AVI LIST", 16},
		{"PAM", "P7\nWIDTH 1\n", 11},
		{"PFM", "PF\n1 1\n", 7},
		{"OpenEXR", "\x76\x2F\x31\x01\x02", 5},
		{"QOI", "qoif\0\0\0\x01", 8},
		{"DDS", "DDS \x7C\0\0\0", 8},
	};

	for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
		char name[100];
		int readable = 1;
		const char *got = fr_image_sniff((const uint8_t *)t[i].bytes, t[i].size, &readable);

		snprintf(name, sizeof name, "exact/image/name %s %zu", t[i].name, i);
		CHECK(name, got && !strcmp(got, t[i].name) && !readable, "got %s", got ? got : "nothing");
		snprintf(name, sizeof name, "exact/image/refused by name %s %zu", t[i].name, i);
		check_refuse(name, (const uint8_t *)t[i].bytes, t[i].size, MANY, "format", t[i].name);
	}
}

static void check_bad_input(void)
{
	static const char text[] = "#!/bin/sh\necho this is no image\n", bm[] = "BMW is a make of car and no bitmap";
	static const uint8_t zeros[64];
	struct bytes png = load("png-colour2-8.png"), jpeg = load("jpeg-baseline-420.jpg");

	check_refuse("exact/image/empty", zeros, 0, MANY, "format", "empty");
	check_refuse("exact/image/zeros", zeros, sizeof zeros, MANY, "format", "not an image");
	check_refuse("exact/image/text", (const uint8_t *)text, sizeof text - 1, MANY, "format", "23 21 2F");
	check_refuse("exact/image/text BM", (const uint8_t *)bm, sizeof bm - 1, MANY, "format", "not an image");
	check_refuse("exact/image/limit PNG", png.at, png.size, 21 * 14 - 1, "limit", "21 x 14");
	check_refuse("exact/image/limit JPEG", jpeg.at, jpeg.size, 100, "limit", "33 x 21");
	free(png.at);
	free(jpeg.at);
}

/* The first scan of a progressive file, over and over: each is a few bytes and a pass over the whole picture. */
static void check_scans(void)
{
	struct bytes b = load("jpeg-progressive-420.jpg"), many = {0};
	size_t sos = 0, end;

	while (sos + 4 < b.size && (b.at[sos] != 0xFF || b.at[sos + 1] != 0xDA))
		sos++;
	for (end = sos + 2; end + 1 < b.size && (b.at[end] != 0xFF || !b.at[end + 1]);)
		end++;
	if ((many.at = malloc(b.size + 120 * (end - sos)))) {
		memcpy(many.at, b.at, many.size = sos);
		for (int i = 0; i < 120; i++, many.size += end - sos)
			memcpy(many.at + many.size, b.at + sos, end - sos);
		memcpy(many.at + many.size, b.at + end, b.size - end);
		many.size += b.size - end;
		check_refuse("exact/image/too many scans", many.at, many.size, MANY, "limit", "scans");
	}
	free(many.at);
	free(b.at);
}

static void check_proportions(void)
{
	struct fr_image img = make("noise", 1, 2001);
	struct fr_image_desc d;
	struct fr_error err = {0};
	uint8_t out[28 * 28 * 3];

	desc_of(&d, 28, 28, "bicubic", "crop");
	CHECK("exact/image/proportions beyond 2000",
	      fr_image_fit(&img, &d, out, &err) == -1 && err.code == FR_E_LIMIT && strstr(err.text, "1 x 2001"), "%s",
	      err.text);
	fr_image_free(&img);
}

int main(void)
{
	check_manifest();
	check_names();
	check_bad_input();
	check_scans();
	check_proportions();
	return test_done();
}
