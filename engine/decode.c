/* Which format a file is, and the way to its reader.
 *
 * The format comes from the first bytes alone, never from a file's name. Formats that are known and not read are in the
 * same table, so that they are refused by name. TGA has no magic number and is asked for last. */
#include "decode.h"

#include <stdlib.h>
#include <string.h>

struct magic {
	const char *name;
	int readable;
	int offset, len; /* of bytes; '?' in bytes matches anything */
	const char *bytes;
};
static const struct magic magics[] = {
	{"JPEG", 1, 0, 3, "\xFF\xD8\xFF"},
	{"PNG", 1, 0, 8, "\x89PNG\r\n\x1A\n"},
	{"WebP", 1, 0, 12, "RIFF????WEBP"},
	{"GIF", 1, 0, 6, "GIF87a"},
	{"GIF", 1, 0, 6, "GIF89a"},
	{"TIFF", 0, 0, 4, "II*\0"},
	{"TIFF", 0, 0, 4, "MM\0*"},
	{"TIFF", 0, 0, 4, "II+\0"},
	{"TIFF", 0, 0, 4, "MM\0+"},
	{"AVIF", 0, 4, 8, "ftypavif"},
	{"AVIF", 0, 4, 8, "ftypavis"},
	{"HEIC", 0, 4, 7, "ftyphei"},
	{"HEIC", 0, 4, 7, "ftyphev"},
	{"HEIF", 0, 4, 8, "ftypmif1"},
	{"HEIF", 0, 4, 8, "ftypmsf1"},
	{"CR3", 0, 4, 8, "ftypcrx "},
	{"QuickTime video", 0, 4, 8, "ftypqt  "},
	{"MP4 video", 0, 4, 4, "ftyp"},
	{"JPEG XL", 0, 0, 2, "\xFF\x0A"},
	{"JPEG XL", 0, 0, 12, "\0\0\0\x0CJXL \r\n\x87\n"},
	{"JPEG 2000", 0, 0, 12, "\0\0\0\x0CjP  \r\n\x87\n"},
	{"JPEG 2000", 0, 0, 4, "\xFF\x4F\xFF\x51"},
	{"PSD", 0, 0, 4, "8BPS"},
	{"PDF", 0, 0, 5, "%PDF-"},
	{"EPS", 0, 0, 4, "%!PS"},
	{"DDS", 0, 0, 4, "DDS "},
	{"QOI", 0, 0, 4, "qoif"},
	{"OpenEXR", 0, 0, 4, "\x76\x2F\x31\x01"},
	{"Radiance HDR", 0, 0, 6, "#?RADI"},
	{"BPG", 0, 0, 4, "BPG\xFB"},
	{"FLIF", 0, 0, 4, "FLIF"},
	{"XCF", 0, 0, 8, "gimp xcf"},
	{"SGI", 0, 0, 2, "\x01\xDA"},
	{"Sun raster", 0, 0, 4, "\x59\xA6\x6A\x95"},
	{"FITS", 0, 0, 9, "SIMPLE  ="},
	{"DICOM", 0, 128, 4, "DICM"},
	{"ICNS", 0, 0, 4, "icns"},
	{"WMF", 0, 0, 4, "\xD7\xCD\xC6\x9A"},
	{"DjVu", 0, 0, 8, "AT&TFORM"},
	{"MNG", 0, 0, 4, "\x8AMNG"},
	{"JNG", 0, 0, 4, "\x8BJNG"},
	{"RAF", 0, 0, 15, "FUJIFILMCCD-RAW"},
	{"XPM", 0, 0, 9, "/* XPM */"},
	{"Matroska or WebM video", 0, 0, 4, "\x1A\x45\xDF\xA3"},
	{"AVI video", 0, 0, 12, "RIFF????AVI "},
};
static const struct {
	const char *name;
	fr_decode_fn *decode;
} readers[] = {
	{"JPEG", fr_decode_jpeg}, {"PNG", fr_decode_png}, {"WebP", fr_decode_webp}, {"BMP", fr_decode_bmp},
	{"GIF", fr_decode_gif},	  {"TGA", fr_decode_tga}, {"PNM", fr_decode_pnm},
};

static int matches(const struct magic *m, const uint8_t *bytes, size_t size)
{
	if (size < (size_t)(m->offset + m->len))
		return 0;
	for (int i = 0; i < m->len; i++)
		if (m->bytes[i] != '?' && (uint8_t)m->bytes[i] != bytes[m->offset + i])
			return 0;
	return 1;
}

/* "BM" alone begins many a text; the size of the second header follows it at byte 14. */
static int is_bmp(const uint8_t *bytes, size_t size)
{
	return size >= 2 && bytes[0] == 'B' && bytes[1] == 'M' && (size < 18 || (fr_le32(bytes + 14) - 12u) <= 112u);
}

static const char *sniff_pnm(const uint8_t *bytes, size_t size, int *readable)
{
	if (size < 3 || bytes[0] != 'P' || !memchr(" \t\n\v\f\r#", bytes[2], 7))
		return NULL;
	*readable = bytes[1] >= '1' && bytes[1] <= '6';
	if (*readable)
		return "PNM";
	return bytes[1] == '7' ? "PAM" : bytes[1] == 'F' || bytes[1] == 'f' ? "PFM" : NULL;
}

/* ICO and CUR begin as some TGA files do; these have no image count where those have one. */
static const char *sniff_icon(const uint8_t *bytes, size_t size)
{
	if (size < 6 || bytes[0] || bytes[1] || bytes[3] || !fr_le16(bytes + 4))
		return NULL;
	return bytes[2] == 1 ? "ICO" : bytes[2] == 2 ? "CUR" : NULL;
}

static int is_svg(const uint8_t *bytes, size_t size)
{
	size_t n = size < 512 ? size : 512;

	if (!n || !memchr("<\xEF \t\r\n", bytes[0], 6))
		return 0;
	return memmem(bytes, n, "<svg", 4) != NULL;
}

const char *fr_image_sniff(const uint8_t *bytes, size_t size, int *readable)
{
	const char *name;

	*readable = 0;
	for (size_t i = 0; i < sizeof magics / sizeof *magics; i++)
		if (matches(&magics[i], bytes, size)) {
			*readable = magics[i].readable;
			return magics[i].name;
		}
	if ((name = sniff_pnm(bytes, size, readable)) || (name = sniff_icon(bytes, size)))
		return name;
	if (is_svg(bytes, size))
		return "SVG";
	*readable = 1;
	if (is_bmp(bytes, size))
		return "BMP";
	if (fr_tga_plausible(bytes, size))
		return "TGA";
	*readable = 0;
	return NULL;
}

int fr_is_image(const void *bytes, size_t size)
{
	static const char *const others[] = {"PDF",	  "QuickTime video", "MP4 video", "Matroska or WebM video",
					     "AVI video"};
	int readable;
	const char *name = fr_image_sniff(bytes, size, &readable);

	for (size_t i = 0; name && i < sizeof others / sizeof *others; i++)
		if (strcmp(name, others[i]) == 0)
			return 0;
	return name != NULL;
}

static int refuse_unknown(const uint8_t *bytes, size_t size, struct fr_error *err)
{
	char hex[3 * 8 + 1] = "";

	if (!size)
		return fr_fail(err, FR_E_FORMAT, "the file is empty (0 bytes), expected an image");
	for (size_t i = 0; i < 8 && i < size; i++)
		snprintf(hex + 3 * i, 4, " %02X", bytes[i]);
	return fr_fail(err, FR_E_FORMAT,
		       "not an image: expected JPEG, PNG, WebP, BMP, GIF, TGA or PNM, got %zu bytes that begin with%s",
		       size, hex);
}

int fr_image_decode(const uint8_t *bytes, size_t size, uint64_t max_pixels, struct fr_image *out, struct fr_error *err)
{
	int readable;
	const char *name = fr_image_sniff(bytes, size, &readable);

	memset(out, 0, sizeof *out);
	if (!name)
		return refuse_unknown(bytes, size, err);
	if (!readable)
		return fr_fail(err, FR_E_FORMAT, "%s is not read, expected JPEG, PNG, WebP, BMP, GIF, TGA or PNM",
			       name);
	for (size_t i = 0; i < sizeof readers / sizeof *readers; i++)
		if (!strcmp(readers[i].name, name)) {
			out->format = readers[i].name;
			if (readers[i].decode(bytes, size, max_pixels, out, err) == 0)
				return 0;
		}
	fr_image_free(out);
	return -1;
}

void fr_image_free(struct fr_image *img)
{
	free(img->rgb);
	memset(img, 0, sizeof *img);
}

int fr_image_check_size(const char *format, uint64_t w, uint64_t h, uint64_t max_pixels, struct fr_error *err)
{
	if (!w || !h)
		return fr_fail(err, FR_E_DAMAGED, "%s: the header says %llu x %llu pixels", format,
			       (unsigned long long)w, (unsigned long long)h);
	if (w > INT32_MAX || h > INT32_MAX || w > max_pixels / h)
		return fr_fail(err, FR_E_LIMIT, "%s: %llu x %llu pixels are above the limit of %llu (--max-pixels)",
			       format, (unsigned long long)w, (unsigned long long)h, (unsigned long long)max_pixels);
	return 0;
}

int fr_image_alloc(struct fr_image *out, uint64_t w, uint64_t h, uint64_t max_pixels, struct fr_error *err)
{
	FR_TRY(fr_image_check_size(out->format, w, h, max_pixels, err));
	if (w * h > PTRDIFF_MAX / 3 || !(out->rgb = calloc((size_t)(w * h), 3)))
		return fr_fail(err, FR_E_MEMORY, "%s: no memory for %llu x %llu pixels of 3 bytes", out->format,
			       (unsigned long long)w, (unsigned long long)h);
	out->w = (int)w;
	out->h = (int)h;
	return 0;
}

void fr_image_warn(struct fr_image *out, const char *sentence)
{
	if (out->n_warnings < (int)(sizeof out->warnings / sizeof *out->warnings))
		out->warnings[out->n_warnings++] = sentence;
}
