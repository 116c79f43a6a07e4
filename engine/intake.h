/* From a file's bytes to the pixels that the encoder sees, in slots of memory taken once; on threads of their own, so that
 * the next pictures are decoded while others are computed. */
#ifndef FR_ENGINE_INTAKE_H
#define FR_ENGINE_INTAKE_H

#include "image.h"

struct fr_picture {
	uint8_t *u8;   /* [S, S, 3] */
	float *pixels; /* [3, S, S] */
	char sha256[65];
	const char *warnings[FR_MAX_WARNINGS];
	int n_warnings;
	struct fr_error error; /* FR_OK: the pixels are there */
	double ms;	       /* that it took */
};
/* Fills pic, whose memory is there, from the bytes of a file. */
void fr_picture_read(struct fr_picture *pic, const struct fr_image_desc *desc, uint64_t max_pixels,
		     const uint8_t *bytes, size_t size);

struct fr_intake;
/* n slots. threads 0: give() does the work itself. desc stays the caller's. */
int fr_intake_new(int n, int threads, const struct fr_image_desc *desc, uint64_t max_pixels, struct fr_intake **out,
		  struct fr_error *err);
void fr_intake_free(struct fr_intake *in);
/* Picture `index` of a stream lies in slot index % n. */
struct fr_picture *fr_intake_at(struct fr_intake *in, size_t index);
/* Starts a picture from the bytes of job, which may go when this returns; job->error becomes the picture's. */
void fr_intake_give(struct fr_intake *in, size_t index, const struct fr_job *job);
/* 1 when a picture given before is ready, or has failed; wait = 1 waits for that. */
int fr_intake_ready(struct fr_intake *in, size_t index, int wait);
/* Drops what has not been begun and waits for the rest. */
void fr_intake_settle(struct fr_intake *in);

#endif
