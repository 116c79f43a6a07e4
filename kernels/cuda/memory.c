/* Device memory, and host bytes in both directions.
 *
 * The bus is fast from pinned memory only, and only from there is a copy asynchronous: put copies the caller's bytes
 * into a ring of pinned parts and returns; get notes where its bytes are to go, and sync, which waits anyway, brings
 * them there. Weights come by another way, upload.c. */
#include "memory.h"

#include <stdlib.h>

#define MIB 1048576.0
#define ERROR_MEMORY 2 /* CUDA_ERROR_OUT_OF_MEMORY; the rest of the backend sees no header of CUDA's */

int fr_cu_more(void *at, size_t *room, size_t n, size_t size, struct fr_error *err)
{
	const size_t want = n < 64 ? 64 : 2 * n;
	void *old, *grown;

	if (n < *room)
		return 0;
	memcpy(&old, at, sizeof old);
	grown = realloc(old, want * size);
	if (!grown)
		return fr_fail(err, FR_E_MEMORY, "no memory for a table of %zu entries", want);
	memcpy(at, &grown, sizeof grown);
	*room = want;
	return 0;
}

/* ---- blocks ---- */

/* A device that has failed answers with its own sentence: what comes after an error in a kernel is no lack of memory.
 */
static int refuse(struct fr_cuda *d, int code, size_t bytes, int pinned, struct fr_error *err)
{
	size_t left = 0, total = 0;

	if (d->error)
		return fr_cu_say(d, err);
	if (pinned)
		return fr_fail(
			err, FR_E_MEMORY,
			"cannot allocate %zu bytes (%.1f MiB) of pinned host memory for %s: %s (driver error %d)",
			bytes, (double)bytes / MIB, d->info.name, d->cu->text(code), code);
	d->cu->room(d->at, &left, &total);
	return fr_fail(
		err, code == ERROR_MEMORY ? FR_E_MEMORY : FR_E_DEVICE,
		"cannot allocate %zu bytes (%.1f MiB) on %s, where %.1f of %.1f MiB are free: %s (driver error %d)",
		bytes, (double)bytes / MIB, d->info.name, (double)left / MIB, (double)total / MIB, d->cu->text(code),
		code);
}

int fr_cu_take(struct fr_cuda *d, size_t bytes, int pinned, void **out, struct fr_error *err)
{
	struct fr_cu_mem *m = d->mem;
	int code;

	*out = NULL;
	FR_TRY(fr_cu_more(&m->held, &m->held_room, m->n_held, sizeof *m->held, err));
	code = d->error ? d->error : (pinned ? d->cu->alloc_host : d->cu->alloc)(d->at, bytes ? bytes : 1, out);
	if (code)
		return refuse(d, code, bytes, pinned, err);
	m->held[m->n_held++] = (struct fr_cu_held){*out, bytes, pinned};
	if (!pinned)
		d->dev.held += bytes;
	return 0;
}

static void give_back(struct fr_cuda *d, const struct fr_cu_held *h)
{
	if (h->pinned) {
		d->cu->release_host(d->at, h->p);
		return;
	}
	d->cu->release(d->at, h->p);
	d->dev.held -= h->bytes;
}

int fr_cu_alloc(struct fr_dev *dev, size_t bytes, void **out, struct fr_error *err)
{
	struct fr_cuda *d = (struct fr_cuda *)dev;

	FR_TRY(fr_cu_take(d, bytes, 0, out, err));
	fr_cu_note(d, d->cu->zero(d->at, FR_CU_COMPUTE, *out, bytes), "zeroing new memory");
	return 0;
}

void fr_cu_release(struct fr_dev *dev, void *p, size_t bytes)
{
	struct fr_cuda *d = (struct fr_cuda *)dev;
	struct fr_cu_mem *m = d->mem;

	if (!p)
		return;
	fr_cu_gone(d, p, bytes);
	for (size_t i = m->n_held; i-- > 0;)
		if (m->held[i].p == p) {
			/* The driver waits itself for kernels that use the block; what was told to fail fails. */
			give_back(d, &m->held[i]);
			m->held[i] = m->held[--m->n_held];
			return;
		}
}

void fr_cu_room(struct fr_dev *dev, size_t *left, size_t *total)
{
	struct fr_cuda *d = (struct fr_cuda *)dev;

	*left = *total = 0;
	fr_cu_note(d, d->cu->room(d->at, left, total), "asking for the free memory");
}

/* ---- put, get, copy ---- */

/* Free pinned bytes of put's ring, *n of them at most; a part is used again once its copies have run. */
static char *put_space(struct fr_cuda *d, size_t *n)
{
	struct fr_cu_mem *m = d->mem;
	char *p;

	if (m->put_used == FR_CU_PUT_BYTES) {
		fr_cu_note(d, d->cu->flag(d->at, FR_CU_COMPUTE, FLAG_PUT + m->put_part), "put");
		m->put_part = (m->put_part + 1) % FR_CU_PUTS;
		m->put_used = 0;
		fr_cu_note(d, d->cu->passed(d->at, FLAG_PUT + m->put_part), "put");
	}
	if (*n > FR_CU_PUT_BYTES - m->put_used)
		*n = FR_CU_PUT_BYTES - m->put_used;
	p = m->put + (size_t)m->put_part * FR_CU_PUT_BYTES + m->put_used;
	m->put_used += (*n + 63) / 64 * 64;
	return p;
}

void fr_cu_put(struct fr_dev *dev, void *dst, const void *host, size_t bytes)
{
	struct fr_cuda *d = (struct fr_cuda *)dev;

	fr_cu_wrote(d, dst, bytes);
	for (size_t done = 0, n; done < bytes && !d->error; done += n) {
		char *staged;

		n = bytes - done;
		staged = put_space(d, &n);
		if (d->error)
			return;
		memcpy(staged, (const char *)host + done, n);
		fr_cu_note(d, d->cu->copy(d->at, FR_CU_COMPUTE, (char *)dst + done, staged, n), "put");
	}
}

/* What has arrived goes to where it was asked for. */
static void deliver(struct fr_cu_mem *m, int arrived)
{
	for (size_t i = 0; arrived && i < m->n_pending; i++)
		memcpy(m->pending[i].host, m->pending[i].pinned, m->pending[i].bytes);
	m->n_pending = m->get_used = 0;
}

static void drain(struct fr_cuda *d)
{
	fr_cu_note(d, d->cu->sync(d->at, FR_CU_COMPUTE), "get");
	deliver(d->mem, !d->error);
}

void fr_cu_get(struct fr_dev *dev, void *host, const void *src, size_t bytes)
{
	struct fr_cuda *d = (struct fr_cuda *)dev;
	struct fr_cu_mem *m = d->mem;
	void *kept;

	fr_cu_uploaded(d);
	kept = d->error ? NULL : fr_cu_kept(d, host, bytes);
	if (kept) {
		fr_cu_note(d, d->cu->copy(d->at, FR_CU_COMPUTE, kept, src, bytes), "get");
		return;
	}
	for (size_t done = 0, n; done < bytes && !d->error; done += n) {
		struct fr_cu_pending *p;

		n = bytes - done < FR_CU_GET_BYTES ? bytes - done : FR_CU_GET_BYTES;
		if (n > FR_CU_GET_BYTES - m->get_used ||
		    fr_cu_more(&m->pending, &m->pending_room, m->n_pending, sizeof *m->pending, NULL))
			drain(d);
		if (d->error)
			return;
		if (m->n_pending == m->pending_room) {
			fr_cu_note(d, ERROR_MEMORY, "get");
			return;
		}
		p = &m->pending[m->n_pending++];
		*p = (struct fr_cu_pending){(char *)host + done, m->get + m->get_used, n};
		m->get_used += (n + 63) / 64 * 64;
		fr_cu_note(d, d->cu->copy(d->at, FR_CU_COMPUTE, (void *)p->pinned, (const char *)src + done, n), "get");
	}
}

void fr_cu_copy(struct fr_dev *dev, void *dst, const void *src, size_t bytes)
{
	struct fr_cuda *d = (struct fr_cuda *)dev;

	fr_cu_uploaded(d);
	fr_cu_wrote(d, dst, bytes);
	if (!d->error)
		fr_cu_note(d, d->cu->copy(d->at, FR_CU_COMPUTE, dst, src, bytes), "copy");
}

int fr_cu_sync(struct fr_dev *dev, struct fr_error *err)
{
	struct fr_cuda *d = (struct fr_cuda *)dev;

	fr_cu_uploaded(d);
	fr_cu_note(d, d->cu->sync(d->at, FR_CU_COMPUTE), "waiting for the device");
	deliver(d->mem, !d->error);
	fr_cu_synced(d);
	return fr_cu_report(d, err);
}

/* ---- life ---- */

int fr_cu_mem_open(struct fr_cuda *d, struct fr_error *err)
{
	void *p;

	d->mem = calloc(1, sizeof *d->mem);
	if (!d->mem)
		return fr_fail(err, FR_E_MEMORY, "no memory for the tables of device memory");
	fr_cu_upload_init(&d->mem->up);
	FR_TRY(fr_cu_take(d, FR_CU_PUTS * FR_CU_PUT_BYTES, 1, &p, err));
	d->mem->put = p;
	FR_TRY(fr_cu_take(d, FR_CU_GET_BYTES, 1, &p, err));
	d->mem->get = p;
	return 0;
}

void fr_cu_mem_close(struct fr_cuda *d)
{
	struct fr_cu_mem *m = d->mem;

	if (!m)
		return;
	fr_cu_upload_close(d);
	d->cu->sync(d->at, FR_CU_COMPUTE);
	while (m->n_held)
		give_back(d, &m->held[--m->n_held]);
	free(m->held);
	free(m->pending);
	free(m);
	d->mem = NULL;
}
