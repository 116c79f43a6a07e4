/* WebP by libwebp, lossy and lossless. Of an animation the first frame on its canvas, the rest of which is black, as
 * Pillow has it through WebPAnimDecoder (whose canvas is transparent black, and alpha is dropped, not blended).
 * Decoding straight to RGB gives the same bytes as its RGBA without two canvases of 4 bytes. */
#include "decode.h"

#include <string.h>

#include <webp/decode.h>
#include <webp/demux.h>

static int decode_frame(const WebPIterator *frame, struct fr_image *out, struct fr_error *err)
{
	WebPDecoderConfig config;
	size_t stride = (size_t)out->w * 3, first;
	VP8StatusCode status;

	if (frame->x_offset < 0 || frame->y_offset < 0 || frame->width < 1 || frame->height < 1 ||
	    frame->width > out->w - frame->x_offset || frame->height > out->h - frame->y_offset)
		return fr_fail(err, FR_E_DAMAGED,
			       "WebP: the first frame of %d x %d pixels at %d, %d leaves the canvas of %d x %d",
			       frame->width, frame->height, frame->x_offset, frame->y_offset, out->w, out->h);
	if (!WebPInitDecoderConfig(&config))
		return fr_fail(err, FR_E_FORMAT, "WebP: libwebp is of another version than its header");
	first = (size_t)frame->y_offset * stride + (size_t)frame->x_offset * 3;
	config.output.colorspace = MODE_RGB;
	config.output.is_external_memory = 1;
	config.output.u.RGBA.rgba = out->rgb + first;
	config.output.u.RGBA.stride = (int)stride;
	config.output.u.RGBA.size = (size_t)out->h * stride - first;
	status = WebPDecode(frame->fragment.bytes, frame->fragment.size, &config);
	WebPFreeDecBuffer(&config.output);
	if (status == VP8_STATUS_OUT_OF_MEMORY)
		return fr_fail(err, FR_E_MEMORY, "WebP: no memory to decode %d x %d pixels", out->w, out->h);
	if (status != VP8_STATUS_OK)
		return fr_fail(err, FR_E_DAMAGED, "WebP: the image data are corrupt or end early (libwebp status %d)",
			       (int)status);
	return 0;
}

int fr_decode_webp(const uint8_t *bytes, size_t size, uint64_t max_pixels, struct fr_image *out, struct fr_error *err)
{
	WebPData data = {bytes, size};
	WebPDemuxer *demux = WebPDemux(&data);
	WebPIterator frame;
	int rc;

	if (!demux)
		return fr_fail(err, FR_E_DAMAGED, "WebP: the file is truncated or its chunks are corrupt (%zu bytes)",
			       size);
	memset(&frame, 0, sizeof frame);
	rc = fr_image_alloc(out, WebPDemuxGetI(demux, WEBP_FF_CANVAS_WIDTH),
			    WebPDemuxGetI(demux, WEBP_FF_CANVAS_HEIGHT), max_pixels, err);
	if (rc == 0 && (!WebPDemuxGetFrame(demux, 1, &frame) || !frame.complete))
		rc = fr_fail(err, FR_E_DAMAGED, "WebP: the first frame is missing or truncated");
	if (rc == 0)
		rc = decode_frame(&frame, out, err);
	WebPDemuxReleaseIterator(&frame);
	WebPDemuxDelete(demux);
	return rc;
}
