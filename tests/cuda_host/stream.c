/* The work of a device: launches, copies, zeroes, marks and waits, in streams. Each is run when it is given; with
 * FR_SHIM_LAZY=1 only when something must have it: a sync, a flag that the host waits for, a release, the end. Then
 * what the caller forgot to wait for has not happened, and an error comes out of a later call, as on a device. */
#include <stdlib.h>
#include <string.h>

#include "host.h"

static unsigned launches;
/* Where the last launch went: kernels of one stream follow each other without a gap (FR_WAIT), others do not. */
static const struct fr_cu_device *last_device;
static enum fr_cu_stream last_stream;
static struct fr_cu_device *devices;

/* A range of a copy: wholly within one live allocation, or not device memory at all. */
static int range(const void *p, size_t bytes, const char *what)
{
	char where[160];
	const struct fr_shim_alloc *a = fr_shim_find((uintptr_t)p);
	if (!fr_shim_in_arena((uintptr_t)p))
		return 0;
	if (a && a->live && (uintptr_t)p - a->base <= a->bytes && bytes <= a->bytes - ((uintptr_t)p - a->base))
		return 0;
	return fr_shim_refuse("%s %zu bytes at %s", what, bytes, fr_shim_where((uintptr_t)p, where));
}

static int run_launch(const struct fr_shim_op *o)
{
	if (++launches == fr_shim_set.fail_launch)
		return fr_shim_dead = FR_SHIM_ILLEGAL_ADDRESS;
	int rc = 0;
	fr_shim_findings_begin(o->kernel->name);
	fr_shim_watch_launch(o->smem);
	fr_shim_now.threads = o->threads;
	memcpy(fr_shim_now.grid, o->grid, sizeof o->grid);
	for (unsigned z = 0; z < o->grid[2] && !rc; z++)
		for (unsigned y = 0; y < o->grid[1] && !rc; y++)
			for (unsigned x = 0; x < o->grid[0] && !rc; x++) {
				fr_shim_now.block[0] = x;
				fr_shim_now.block[1] = y;
				fr_shim_now.block[2] = z;
				rc = fr_shim_block(o->kernel, o->data);
			}
	return rc ? FR_SHIM_FINDING : 0;
}

static int run_copy(const struct fr_shim_op *o)
{
	const void *src = o->src ? o->src : o->data;
	if (range(o->dst, o->bytes, "a copy or zero to") || range(src, o->bytes, "a copy from"))
		return FR_SHIM_INVALID_VALUE;
	fr_shim_watch_ordered();
	if (o->kind == FR_SHIM_ZERO)
		memset(o->dst, 0, o->bytes);
	else
		memmove(o->dst, src, o->bytes);
	return 0;
}

static int drain_to(struct fr_cu_device *at, enum fr_cu_stream stream, uint64_t upto);

static int run(struct fr_cu_device *at, enum fr_cu_stream stream, const struct fr_shim_op *o)
{
	if (fr_shim_dead)
		return fr_shim_dead;
	if (o->kind == FR_SHIM_BEHIND)
		return drain_to(at, o->on, o->upto);
	if (at != last_device || stream != last_stream)
		fr_shim_watch_ordered();
	last_device = at, last_stream = stream;
	fr_shim_arena_access(1);
	if (o->kind == FR_SHIM_MARK)
		return clock_gettime(CLOCK_MONOTONIC, &at->marks[o->mark]);
	return o->kind == FR_SHIM_LAUNCH ? run_launch(o) : run_copy(o);
}

/* Runs what `stream` was given up to number `upto`; after an error the rest is dropped. */
static int drain_to(struct fr_cu_device *at, enum fr_cu_stream stream, uint64_t upto)
{
	struct fr_shim_queue *q = &at->queue[stream];
	while (q->first && q->done < upto) {
		struct fr_shim_op *o = q->first;
		q->first = o->next;
		q->done++;
		int rc = at->late ? 0 : run(at, stream, o);
		if (rc)
			at->late = rc;
		free(o);
	}
	return 0;
}

static int late(struct fr_cu_device *at)
{
	int rc = at->late ? at->late : fr_shim_dead;
	at->late = 0;
	return rc;
}

int fr_shim_drain(struct fr_cu_device *at, enum fr_cu_stream stream)
{
	drain_to(at, stream, UINT64_MAX);
	return late(at);
}

void fr_shim_drain_all(void)
{
	for (struct fr_cu_device *at = devices; at; at = at->next)
		for (int s = 0; s < FR_CU_STREAMS; s++)
			drain_to(at, (enum fr_cu_stream)s, UINT64_MAX);
}

void fr_shim_device_add(struct fr_cu_device *at)
{
	if (!devices)
		launches = 0;
	at->next = devices;
	devices = at;
}

void fr_shim_device_remove(struct fr_cu_device *at)
{
	for (int s = 0; s < FR_CU_STREAMS; s++)
		drain_to(at, (enum fr_cu_stream)s, UINT64_MAX);
	struct fr_cu_device **p = &devices;
	while (*p != at)
		p = &(*p)->next;
	*p = at->next;
	if (last_device == at)
		last_device = NULL;
}

static int pageable(const void *p, size_t bytes)
{
	return !fr_shim_in_arena((uintptr_t)p) && !fr_shim_pinned((uintptr_t)p, bytes);
}

static struct fr_shim_op *keep(const struct fr_shim_op *o, const void *data, size_t bytes)
{
	struct fr_shim_op *kept = malloc(sizeof *kept + bytes + 1);
	if (!kept)
		return NULL;
	*kept = *o;
	kept->next = NULL;
	kept->data_bytes = bytes;
	if (bytes)
		memcpy(kept->data, data, bytes);
	return kept;
}

static int give(struct fr_cu_device *at, enum fr_cu_stream stream, struct fr_shim_op *o)
{
	struct fr_shim_queue *q = &at->queue[stream];
	if (!q->first)
		q->last = &q->first;
	*q->last = o;
	q->last = &o->next;
	q->given++;
	if (!fr_shim_set.lazy)
		drain_to(at, stream, UINT64_MAX);
	return late(at);
}

int fr_shim_give(struct fr_cu_device *at, enum fr_cu_stream stream, const struct fr_shim_op *o, const void *args)
{
	int copy = o->kind == FR_SHIM_COPY, from_host = copy && pageable(o->src, o->bytes);
	int to_host = copy && pageable(o->dst, o->bytes), records = at->recording && stream == FR_CU_COMPUTE;
	if (records && (from_host || to_host)) {
		fr_shim_refuse("a copy of host memory that is not pinned, inside a recording");
		return FR_SHIM_CAPTURE;
	}
	/* what a driver does with memory that is not pinned: it has been read when the call returns */
	struct fr_shim_op now = *o;
	if (from_host)
		now.src = NULL, args = o->src;
	struct fr_shim_op *kept = keep(&now, args, o->kind == FR_SHIM_LAUNCH || from_host ? o->bytes : 0);
	if (!kept)
		return FR_SHIM_OUT_OF_MEMORY;
	if (records) {
		*at->recording->last = kept;
		at->recording->last = &kept->next;
		return 0;
	}
	int rc = give(at, stream, kept);
	if (to_host && !rc)
		rc = fr_shim_drain(at, stream);
	return rc;
}

int fr_shim_flag(struct fr_cu_device *at, enum fr_cu_stream stream, int i)
{
	at->flags[i].stream = stream;
	at->flags[i].upto = at->queue[stream].given;
	return 0;
}

int fr_shim_behind(struct fr_cu_device *at, enum fr_cu_stream stream, int i)
{
	struct fr_shim_op o = {.kind = FR_SHIM_BEHIND, .on = at->flags[i].stream, .upto = at->flags[i].upto};
	return o.on == stream ? 0 : fr_shim_give(at, stream, &o, NULL);
}

int fr_shim_passed(struct fr_cu_device *at, int i)
{
	drain_to(at, at->flags[i].stream, at->flags[i].upto);
	return late(at);
}

/* ---- recordings ---- */

int fr_shim_replay(struct fr_cu_device *at, const struct fr_shim_graph *g)
{
	int rc = 0;
	for (const struct fr_shim_op *o = g->first; o && !rc; o = o->next) {
		struct fr_shim_op *kept = keep(o, o->data, o->data_bytes);
		rc = kept ? give(at, FR_CU_COMPUTE, kept) : FR_SHIM_OUT_OF_MEMORY;
	}
	return rc;
}

void fr_shim_forget(struct fr_shim_graph *g)
{
	for (struct fr_shim_op *o = g ? g->first : NULL, *next; o; o = next) {
		next = o->next;
		free(o);
	}
	free(g);
}
