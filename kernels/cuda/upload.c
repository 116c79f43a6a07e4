/* Weights on their way to the device, or into pinned memory of the host.
 *
 * weight() and vector() take the memory and return; readers, threads of ours, copy the mapped bytes (page faults and
 * all) into pinned buffers, two each, so that one is filled while the other is on the bus. The first launch waits for
 * all of it (fr_cu_uploaded): by then the first images have been decoded. A file that shrinks makes a reader fault,
 * which the command line's handler turns into its sentence as for any thread. */
#include "memory.h"
#include "../host.h"

#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#define VECTOR_ROW 65536 /* items of a vector that are handed out together */

/* ---- readers ---- */

/* Rows [from, to) of the job as they lie at their destination, to `out`. */
static void fill(const struct fr_cu_job *j, size_t from, size_t to, char *out)
{
	const size_t size = (size_t)fr_dtypes[j->dtype].bytes;

	if (!j->widen && j->pitch == j->cols * size) {
		memcpy(out, j->src + from * j->pitch, (to - from) * j->pitch);
		return;
	}
	for (size_t r = from; r < to; r++, out += j->pitch) {
		const char *src = j->src + r * j->cols * size;
		const size_t left = j->items - r * j->cols, n = left < j->cols ? left : j->cols;

		if (j->widen) {
			fr_to_f32(j->dtype, src, (float *)(void *)out, n);
		} else {
			memcpy(out, src, n * size);
			memset(out + n * size, 0, j->pitch - n * size);
		}
	}
}

static int send(struct fr_cu_reader *r, int turn, const struct fr_cu_job *j, size_t from, size_t to)
{
	struct fr_cuda *d = r->d;
	const int flag = FLAG_READ + 2 * r->number + turn;
	const size_t at = from * j->pitch, end = to * j->pitch, bytes = (end < j->bytes ? end : j->bytes) - at;
	int code;

	if (j->pinned) {
		fill(j, from, to, j->dst + at);
		return 0;
	}
	code = d->cu->passed(d->at, flag);
	if (code)
		return code;
	fill(j, from, to, r->buffer[turn]);
	pthread_mutex_lock(&d->mem->up.bus);
	code = d->cu->copy(d->at, FR_CU_UPLOAD, j->dst + at, r->buffer[turn], bytes);
	if (!code)
		code = d->cu->flag(d->at, FR_CU_UPLOAD, flag);
	pthread_mutex_unlock(&d->mem->up.bus);
	return code;
}

/* With the lock held: the next rows that fit a buffer, 0 when there are none. */
static int take_rows(struct fr_cu_upload *up, struct fr_cu_job *j, size_t *from, size_t *to)
{
	size_t rows;

	if (up->next == up->jobs)
		return 0;
	*j = up->job[up->next];
	rows = (j->items + j->cols - 1) / j->cols;
	*from = up->row;
	*to = *from + FR_CU_READ_BYTES / j->pitch;
	if (*to < rows) {
		up->row = *to;
	} else {
		*to = rows;
		up->row = 0;
		up->next++;
	}
	return 1;
}

static void *reader_main(void *arg)
{
	struct fr_cu_reader *r = arg;
	struct fr_cu_upload *up = &r->d->mem->up;
	struct fr_cu_job j;
	size_t from, to;
	int turn = 0;

	pthread_mutex_lock(&up->lock);
	while (!up->closing) {
		int code = up->error;

		if (!take_rows(up, &j, &from, &to)) {
			pthread_cond_wait(&up->work, &up->lock);
			continue;
		}
		up->busy++;
		pthread_mutex_unlock(&up->lock);
		if (!code)
			code = send(r, turn, &j, from, to);
		turn ^= 1;
		pthread_mutex_lock(&up->lock);
		if (code && !up->error)
			up->error = code;
		up->busy--;
		if (!up->busy && up->next == up->jobs)
			pthread_cond_broadcast(&up->idle);
	}
	pthread_mutex_unlock(&up->lock);
	return NULL;
}

static int wanted_readers(void)
{
	cpu_set_t set;
	int cpus = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : (int)sysconf(_SC_NPROCESSORS_ONLN);

	return cpus < 4 ? 1 : cpus / 2 < FR_CU_READERS ? cpus / 2 : FR_CU_READERS;
}

/* Signals of the process are for its own threads; a fault in a mapping comes to the reader whatever it blocks. */
static int start(struct fr_cu_reader *r)
{
	sigset_t all, old;
	int rc;

	sigfillset(&all);
	sigdelset(&all, SIGBUS);
	sigdelset(&all, SIGSEGV);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&r->thread, NULL, reader_main, r);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return rc;
}

static int start_readers(struct fr_cuda *d, struct fr_error *err)
{
	struct fr_cu_upload *up = &d->mem->up;

	for (const int n = wanted_readers(); up->readers < n;) {
		struct fr_cu_reader *r = &up->reader[up->readers];
		void *p;

		r->d = d;
		r->number = up->readers;
		FR_TRY(fr_cu_take(d, 2 * FR_CU_READ_BYTES, 1, &p, err));
		r->buffer[0] = p;
		r->buffer[1] = r->buffer[0] + FR_CU_READ_BYTES;
		if (start(r) != 0)
			return fr_fail(err, FR_E_MEMORY, "cannot start a thread that reads the weights");
		up->readers++;
	}
	return 0;
}

static int hand_in(struct fr_cuda *d, const struct fr_cu_job *j, struct fr_error *err)
{
	struct fr_cu_upload *up = &d->mem->up;
	int rc;

	if (up->readers == 0)
		FR_TRY(start_readers(d, err));
	pthread_mutex_lock(&up->lock);
	if (up->next == up->jobs && !up->busy)
		up->next = up->jobs = 0;
	rc = fr_cu_more(&up->job, &up->room, up->jobs, sizeof *up->job, err);
	if (rc == 0)
		up->job[up->jobs++] = *j;
	pthread_cond_broadcast(&up->work);
	pthread_mutex_unlock(&up->lock);
	up->fresh = 1;
	return rc;
}

void fr_cu_uploaded(struct fr_cuda *d)
{
	struct fr_cu_upload *up = &d->mem->up;
	int code;

	if (!up->fresh)
		return;
	up->fresh = 0;
	pthread_mutex_lock(&up->lock);
	while (up->busy || up->next < up->jobs)
		pthread_cond_wait(&up->idle, &up->lock);
	code = up->error;
	up->error = 0;
	pthread_mutex_unlock(&up->lock);
	fr_cu_note(d, code, "uploading weights");
	fr_cu_note(d, d->cu->flag(d->at, FR_CU_UPLOAD, FLAG_UPLOADED), "uploading weights");
	fr_cu_note(d, d->cu->behind(d->at, FR_CU_COMPUTE, FLAG_UPLOADED), "uploading weights");
}

void fr_cu_upload_init(struct fr_cu_upload *up)
{
	pthread_mutex_init(&up->bus, NULL);
	pthread_mutex_init(&up->lock, NULL);
	pthread_cond_init(&up->work, NULL);
	pthread_cond_init(&up->idle, NULL);
}

void fr_cu_upload_close(struct fr_cuda *d)
{
	struct fr_cu_upload *up = &d->mem->up;

	pthread_mutex_lock(&up->lock);
	up->closing = 1;
	pthread_cond_broadcast(&up->work);
	pthread_mutex_unlock(&up->lock);
	for (int i = 0; i < up->readers; i++)
		pthread_join(up->reader[i].thread, NULL);
	d->cu->sync(d->at, FR_CU_UPLOAD);
	pthread_mutex_destroy(&up->bus);
	pthread_mutex_destroy(&up->lock);
	pthread_cond_destroy(&up->work);
	pthread_cond_destroy(&up->idle);
	free(up->job);
}

/* ---- weights ---- */

/* The buffers that fr_cu_near brings matrices into are taken with the weights: a lack of memory shows at once. */
static int near_room(struct fr_cuda *d, size_t bytes, struct fr_error *err)
{
	struct fr_cu_mem *m = d->mem;
	void *p;

	m->n_pinned++;
	if (bytes <= m->near_bytes)
		return 0;
	for (int i = 0; i < FR_CU_NEAR; i++) {
		fr_cu_release(&d->dev, m->near[i], m->near_bytes);
		m->near[i] = NULL;
	}
	m->near_bytes = 0;
	for (int i = 0; i < FR_CU_NEAR; i++) {
		FR_TRY(fr_cu_take(d, bytes, 0, &p, err));
		m->near[i] = p;
	}
	m->near_bytes = bytes;
	return 0;
}

int fr_cu_weight(struct fr_dev *dev, const struct fr_tensor *t, struct fr_mat *out, struct fr_error *err)
{
	struct fr_cuda *d = (struct fr_cuda *)dev;
	const int pinned = d->mem->home == FR_HOME_HOST;
	size_t size, pitch, bytes;
	void *p;

	FR_TRY(fr_mat_of(t, out, err));
	if (fr_dtypes[t->dtype].items != 1)
		return fr_fail(err, FR_E_MODEL, "%s: tensor %s is %s, the cuda backend expects f32, f16 or bf16",
			       t->file, t->name, fr_dtypes[t->dtype].name);
	size = (size_t)fr_dtypes[t->dtype].bytes;
	pitch = (size_t)fr_pitch(out->cols) * size;
	bytes = (size_t)out->rows * pitch;
	if (pinned)
		FR_TRY(near_room(d, bytes, err));
	FR_TRY(fr_cu_take(d, bytes, pinned, &p, err));
	out->data = p;
	if (t->dtype != FR_F32)
		d->act_dtype = t->dtype;
	return hand_in(d,
		       &(struct fr_cu_job){.src = t->data,
					   .dst = p,
					   .dtype = t->dtype,
					   .bytes = bytes,
					   .items = (size_t)out->rows * (size_t)out->cols,
					   .cols = (size_t)out->cols,
					   .pitch = pitch,
					   .pinned = pinned},
		       err);
}

int fr_cu_vector(struct fr_dev *dev, const struct fr_tensor *t, const float **out, struct fr_error *err)
{
	struct fr_cuda *d = (struct fr_cuda *)dev;
	size_t n, cols;
	void *p;

	FR_TRY(fr_vec_of(t, &n, err));
	cols = n < VECTOR_ROW ? n : VECTOR_ROW;
	FR_TRY(fr_cu_take(d, n * sizeof(float), 0, &p, err));
	*out = p;
	if (!n)
		return 0;
	return hand_in(d,
		       &(struct fr_cu_job){.src = t->data,
					   .dst = p,
					   .dtype = t->dtype,
					   .bytes = n * sizeof(float),
					   .items = n,
					   .cols = cols,
					   .pitch = cols * sizeof(float),
					   .widen = 1},
		       err);
}

void fr_cu_home(struct fr_dev *dev, enum fr_home home)
{
	((struct fr_cuda *)dev)->mem->home = home;
}

/* ---- matrices that live on the host ---- */

static const struct fr_cu_held *pinned_block(const struct fr_cu_mem *m, const void *p)
{
	for (size_t i = 0; i < m->n_held; i++)
		if (m->held[i].p == p)
			return m->held[i].pinned ? &m->held[i] : NULL;
	return NULL;
}

/* A buffer is used again FR_CU_NEAR calls later. By then the launch that reads it lies before the previous call, since
 * one launch reads FR_MAX_ALSO matrices at most: the copy waits for what compute had been given at that call, and so
 * runs beside the launch that came after it. */
struct fr_mat fr_cu_near(struct fr_cuda *d, const struct fr_mat *a, enum fr_phase phase)
{
	struct fr_cu_mem *m = d->mem;
	const struct fr_cu_held *h = m->n_pinned && phase == FR_PREFILL ? pinned_block(m, a->data) : NULL;
	const int slot = (int)(m->nears % FR_CU_NEAR), asked = (int)(m->nears % 2);
	struct fr_mat near = *a;

	if (!h || d->error)
		return near;
	fr_cu_uploaded(d);
	near.data = m->near[slot];
	fr_cu_note(d, d->cu->behind(d->at, FR_CU_UPLOAD, FLAG_NEAR_ASKED + 1 - asked), "bringing weights");
	fr_cu_note(d, d->cu->copy(d->at, FR_CU_UPLOAD, m->near[slot], h->p, h->bytes), "bringing weights");
	fr_cu_note(d, d->cu->flag(d->at, FR_CU_UPLOAD, FLAG_NEAR_THERE), "bringing weights");
	fr_cu_note(d, d->cu->flag(d->at, FR_CU_COMPUTE, FLAG_NEAR_ASKED + asked), "bringing weights");
	fr_cu_note(d, d->cu->behind(d->at, FR_CU_COMPUTE, FLAG_NEAR_THERE), "bringing weights");
	m->nears++;
	return near;
}
