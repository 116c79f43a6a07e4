/* JPEG by libjpeg-turbo as Pillow drives it: the default ISLOW DCT, fancy upsampling, no colour management, no
 * orientation. Four components are Adobe's inverted CMYK, whatever the marker says, and go through Pillow's CMYK
 * formula.
 *
 * The surprise is what libjpeg calls a warning: it fills up a picture whose data end early with grey. Here that is an
 * error; other corruption is repaired as libjpeg and Pillow repair it, and reported as a warning of the image. */
#include "decode.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>
#include <jerror.h>

#define MAX_SCANS 100 /* a progressive file has about 10; thousands of empty ones would take hours */

struct jpeg {
	struct jpeg_decompress_struct d;
	struct jpeg_error_mgr errors;
	struct jpeg_progress_mgr progress;
	jmp_buf fail;
	struct fr_error *err;
	uint8_t *cmyk; /* one row [w, 4] */
	int corrupt;
};

static void fail_decoding(j_common_ptr common)
{
	struct jpeg *j = common->client_data;
	char text[JMSG_LENGTH_MAX];
	enum fr_code code = FR_E_DAMAGED;

	common->err->format_message(common, text);
	switch (common->err->msg_code) {
	case JERR_OUT_OF_MEMORY:
		code = FR_E_MEMORY;
		break;
	case JERR_SOF_UNSUPPORTED:
	case JERR_BAD_PRECISION:
	case JERR_CONVERSION_NOTIMPL:
		code = FR_E_FORMAT;
		break;
	case JWRN_JPEG_EOF:
	case JWRN_HIT_MARKER:
		snprintf(text, sizeof text, "the data end early, at row %u of %u", j->d.output_scanline,
			 j->d.image_height);
		break;
	}
	fr_fail(j->err, code, "JPEG: %s", text);
	longjmp(j->fail, 1);
}

/* level < 0: a warning; traces are of no interest. */
static void take_message(j_common_ptr common, int level)
{
	struct jpeg *j = common->client_data;

	if (level >= 0)
		return;
	if (common->err->msg_code == JWRN_JPEG_EOF || common->err->msg_code == JWRN_HIT_MARKER)
		fail_decoding(common);
	j->corrupt = 1;
}

static void count_scans(j_common_ptr common)
{
	struct jpeg *j = common->client_data;

	if (j->d.input_scan_number > MAX_SCANS) {
		fr_fail(j->err, FR_E_LIMIT, "JPEG: more than %d scans", MAX_SCANS);
		longjmp(j->fail, 1);
	}
}

/* Pillow's cmyk2rgb on 255 - v: row [w, 4] -> rgb [w, 3]. */
static void cmyk_row(const uint8_t *row, int w, uint8_t *rgb)
{
	for (int x = 0; x < w; x++, row += 4)
		for (int c = 0; c < 3; c++) {
			int white = row[3], t = (255 - row[c]) * white + 128, v = white - ((t + (t >> 8)) >> 8);

			*rgb++ = (uint8_t)(v < 0 ? 0 : v);
		}
}

static int read_rows(struct jpeg *j, uint64_t max_pixels, struct fr_image *out)
{
	struct jpeg_decompress_struct *d = &j->d;
	int cmyk = d->num_components == 4;

	if (d->num_components == 2 || d->num_components > 4)
		return fr_fail(j->err, FR_E_FORMAT, "JPEG: %d components, expected 1, 3 or 4", d->num_components);
	if (fr_image_alloc(out, d->image_width, d->image_height, max_pixels, j->err) != 0)
		return -1;
	d->out_color_space = cmyk ? JCS_CMYK : JCS_RGB;
	if (cmyk && !(j->cmyk = malloc((size_t)out->w * 4)))
		return fr_fail(j->err, FR_E_MEMORY, "JPEG: no memory for a row of %d pixels", out->w);
	jpeg_start_decompress(d);
	while (d->output_scanline < d->output_height) {
		uint8_t *row = out->rgb + (size_t)d->output_scanline * (size_t)out->w * 3;
		JSAMPROW target = cmyk ? j->cmyk : row;

		jpeg_read_scanlines(d, &target, 1);
		if (cmyk)
			cmyk_row(j->cmyk, out->w, row);
	}
	return 0;
}

/* All that lives across the longjmp is in *j and *out, so that no local can be stale. */
static int decode(struct jpeg *j, const uint8_t *bytes, size_t size, uint64_t max_pixels, struct fr_image *out)
{
	if (setjmp(j->fail))
		return -1;
	jpeg_create_decompress(&j->d);
	jpeg_mem_src(&j->d, bytes, size);
	jpeg_read_header(&j->d, TRUE);
	j->d.progress = &j->progress;
	return read_rows(j, max_pixels, out);
}

int fr_decode_jpeg(const uint8_t *bytes, size_t size, uint64_t max_pixels, struct fr_image *out, struct fr_error *err)
{
	struct jpeg j;
	int rc;

	memset(&j, 0, sizeof j);
	j.err = err;
	j.d.client_data = &j;
	j.d.err = jpeg_std_error(&j.errors);
	j.errors.error_exit = fail_decoding;
	j.errors.emit_message = take_message;
	j.progress.progress_monitor = count_scans;
	rc = decode(&j, bytes, size, max_pixels, out);
	jpeg_destroy_decompress(&j.d);
	free(j.cmyk);
	if (rc == 0 && j.corrupt)
		fr_image_warn(out, "the JPEG data are corrupt in places and were repaired as libjpeg does it");
	return rc;
}
