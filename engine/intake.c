/* Slots of pictures and the threads that fill them: see intake.h. One lock, held only to look at and change states. */
#include "intake.h"

#include "model.h"
#include "session.h"

#include <pthread.h>
#include <stdlib.h>

enum state { FREE, GIVEN, BEGUN, READY };

struct slot {
	struct fr_picture pic;
	enum state state;
	uint8_t *bytes; /* [cap]: a copy of the file, for the threads */
	size_t size, cap;
};
struct fr_intake {
	const struct fr_image_desc *desc;
	uint64_t max_pixels;
	struct slot *slot;
	int n, threads, stop;
	size_t next, end; /* pictures next .. end-1 are given and not begun */
	pthread_t *thread;
	pthread_mutex_t lock;
	pthread_cond_t work, done;
};

void fr_picture_read(struct fr_picture *pic, const struct fr_image_desc *desc, uint64_t max_pixels,
		     const uint8_t *bytes, size_t size)
{
	const double start = fr_now_ms();
	struct fr_image img;

	pic->error.code = FR_OK;
	pic->n_warnings = 0;
	fr_sha256_hex(bytes, size, pic->sha256);
	if (fr_image_decode(bytes, size, max_pixels, &img, &pic->error) == 0) {
		for (int i = 0; i < img.n_warnings && pic->n_warnings < FR_MAX_WARNINGS; i++)
			pic->warnings[pic->n_warnings++] = img.warnings[i];
		if (fr_image_fit(&img, desc, pic->u8, &pic->error) == 0)
			fr_image_normalise(pic->u8, desc, pic->pixels);
		fr_image_free(&img);
	}
	pic->ms = fr_now_ms() - start;
}

/* Under the lock: the slot of the next picture to be read, or NULL. */
static struct slot *begin(struct fr_intake *in)
{
	while (in->next < in->end) {
		struct slot *s = &in->slot[in->next++ % (size_t)in->n];
		if (s->state == GIVEN) {
			s->state = BEGUN;
			return s;
		}
	}
	return NULL;
}

static void *work(void *arg)
{
	struct fr_intake *in = arg;

	pthread_mutex_lock(&in->lock);
	while (!in->stop) {
		struct slot *s = begin(in);
		if (!s) {
			pthread_cond_wait(&in->work, &in->lock);
			continue;
		}
		pthread_mutex_unlock(&in->lock);
		fr_picture_read(&s->pic, in->desc, in->max_pixels, s->bytes, s->size);
		pthread_mutex_lock(&in->lock);
		s->state = READY;
		pthread_cond_broadcast(&in->done);
	}
	pthread_mutex_unlock(&in->lock);
	return NULL;
}

static int take_slots(struct fr_intake *in, struct fr_error *err)
{
	const size_t side = (size_t)in->desc->crop, items = 3 * side * side;

	in->slot = calloc((size_t)in->n, sizeof *in->slot);
	for (int i = 0; in->slot && i < in->n; i++) {
		struct fr_picture *pic = &in->slot[i].pic;
		pic->u8 = malloc(items);
		pic->pixels = malloc(items * sizeof *pic->pixels);
		if (!pic->u8 || !pic->pixels)
			break;
		if (i == in->n - 1)
			return 0;
	}
	return fr_fail(err, FR_E_MEMORY, "no memory for %d pictures of %zu x %zu pixels", in->n, side, side);
}

static int start_threads(struct fr_intake *in, int threads, struct fr_error *err)
{
	in->thread = calloc((size_t)threads + 1, sizeof *in->thread);
	if (!in->thread)
		return fr_fail(err, FR_E_MEMORY, "no memory for %d threads that read pictures", threads);
	for (; in->threads < threads; in->threads++) {
		const int rc = pthread_create(&in->thread[in->threads], NULL, work, in);
		if (rc)
			return fr_fail(err, FR_E_MEMORY, "cannot start thread %d of %d that read pictures: %s",
				       in->threads + 1, threads, strerror(rc));
	}
	return 0;
}

int fr_intake_new(int n, int threads, const struct fr_image_desc *desc, uint64_t max_pixels, struct fr_intake **out,
		  struct fr_error *err)
{
	struct fr_intake *in = calloc(1, sizeof *in);

	*out = NULL;
	if (!in)
		return fr_fail(err, FR_E_MEMORY, "no memory for %d pictures", n);
	in->desc = desc;
	in->max_pixels = max_pixels;
	in->n = n;
	pthread_mutex_init(&in->lock, NULL);
	pthread_cond_init(&in->work, NULL);
	pthread_cond_init(&in->done, NULL);
	if (take_slots(in, err) || start_threads(in, threads, err)) {
		fr_intake_free(in);
		return -1;
	}
	*out = in;
	return 0;
}

void fr_intake_free(struct fr_intake *in)
{
	if (!in)
		return;
	pthread_mutex_lock(&in->lock);
	in->stop = 1;
	pthread_cond_broadcast(&in->work);
	pthread_mutex_unlock(&in->lock);
	for (int i = 0; i < in->threads; i++)
		pthread_join(in->thread[i], NULL);
	for (int i = 0; in->slot && i < in->n; i++) {
		free(in->slot[i].pic.u8);
		free(in->slot[i].pic.pixels);
		free(in->slot[i].bytes);
	}
	pthread_cond_destroy(&in->done);
	pthread_cond_destroy(&in->work);
	pthread_mutex_destroy(&in->lock);
	free(in->thread);
	free(in->slot);
	free(in);
}

struct fr_picture *fr_intake_at(struct fr_intake *in, size_t index)
{
	return &in->slot[index % (size_t)in->n].pic;
}

/* The file's bytes into the slot's own memory; what fails is the picture's error. */
static int keep_bytes(struct slot *s, const uint8_t *bytes, size_t size)
{
	if (size > s->cap || !s->bytes) {
		free(s->bytes);
		s->cap = 0;
		s->bytes = malloc(size + 1);
		if (!s->bytes)
			return fr_fail(&s->pic.error, FR_E_MEMORY, "no memory for a file of %zu bytes", size);
		s->cap = size;
	}
	if (size)
		memcpy(s->bytes, bytes, size);
	s->size = size;
	return 0;
}

void fr_intake_give(struct fr_intake *in, size_t index, const struct fr_job *job)
{
	struct slot *s = &in->slot[index % (size_t)in->n];
	int begun = 1; /* nothing is left to do for the threads */

	s->pic.sha256[0] = 0;
	s->pic.n_warnings = 0;
	s->pic.ms = 0;
	s->pic.error = job->error;
	if (job->error.code == FR_OK && !in->threads)
		fr_picture_read(&s->pic, in->desc, in->max_pixels, job->bytes, job->size);
	else if (job->error.code == FR_OK)
		begun = keep_bytes(s, job->bytes, job->size) != 0;
	pthread_mutex_lock(&in->lock);
	s->state = begun ? READY : GIVEN;
	in->end = index + 1;
	pthread_cond_signal(&in->work);
	pthread_mutex_unlock(&in->lock);
}

int fr_intake_ready(struct fr_intake *in, size_t index, int wait)
{
	const struct slot *s = &in->slot[index % (size_t)in->n];
	int ready;

	pthread_mutex_lock(&in->lock);
	while (wait && s->state != READY)
		pthread_cond_wait(&in->done, &in->lock);
	ready = s->state == READY;
	pthread_mutex_unlock(&in->lock);
	return ready;
}

void fr_intake_settle(struct fr_intake *in)
{
	pthread_mutex_lock(&in->lock);
	in->next = in->end = 0;
	for (int i = 0; i < in->n; i++) {
		while (in->slot[i].state == BEGUN)
			pthread_cond_wait(&in->done, &in->lock);
		in->slot[i].state = FREE;
	}
	pthread_mutex_unlock(&in->lock);
}
