/* See late.h. Copies, zeroes and launches of the compute stream are queued and run by whatever waits for them; the
 * upload stream is the shim's own. A recording is such a queue that is kept. */
#include "late.h"

#include <stdlib.h>
#include <string.h>

#define CU_CAPTURE 900

struct op {
	struct op *next;
	enum { COPY, ZERO, LAUNCH } kind;
	void *dst;
	const void *src;
	size_t bytes; /* of the arguments, too */
	enum fr_cu_kernel kernel;
	unsigned grid[3], threads, smem;
	_Alignas(16) unsigned char args[];
};
struct queue {
	struct op *first, **last;
};
static struct queue pending = {NULL, &pending.first};
static struct queue *recording;
static const struct fr_cu *const shim = &fr_cu_shim;
struct fr_cu fr_cu_late;
unsigned fr_late_launches, fr_late_replays, fr_late_faults;

static int give(const struct op *o, const void *args)
{
	struct queue *q = recording ? recording : &pending;
	const size_t extra = o->kind == LAUNCH ? o->bytes : 0;
	struct op *kept = malloc(sizeof *kept + extra + 1);

	if (!kept)
		abort();
	*kept = *o;
	if (extra)
		memcpy(kept->args, args, extra);
	kept->next = NULL;
	*q->last = kept;
	q->last = &kept->next;
	return 0;
}

static int run(struct fr_cu_device *at, const struct op *o)
{
	if (o->kind == COPY)
		return shim->copy(at, FR_CU_COMPUTE, o->dst, o->src, o->bytes);
	if (o->kind == ZERO)
		return shim->zero(at, FR_CU_COMPUTE, o->dst, o->bytes);
	fr_late_launches++;
	return shim->launch(at, FR_CU_COMPUTE, o->kernel, o->grid, o->threads, o->smem, o->args, o->bytes);
}

static int run_pending(struct fr_cu_device *at)
{
	int rc = 0;

	while (pending.first) {
		struct op *o = pending.first;

		pending.first = o->next;
		if (!rc)
			rc = run(at, o);
		free(o);
	}
	pending.last = &pending.first;
	return rc;
}

static int late_copy(struct fr_cu_device *at, enum fr_cu_stream stream, void *dst, const void *src, size_t bytes)
{
	if (stream != FR_CU_COMPUTE)
		return shim->copy(at, stream, dst, src, bytes);
	return give(&(struct op){.kind = COPY, .dst = dst, .src = src, .bytes = bytes}, NULL);
}

static int late_zero(struct fr_cu_device *at, enum fr_cu_stream stream, void *p, size_t bytes)
{
	if (stream != FR_CU_COMPUTE)
		return shim->zero(at, stream, p, bytes);
	return give(&(struct op){.kind = ZERO, .dst = p, .bytes = bytes}, NULL);
}

static int late_launch(struct fr_cu_device *at, enum fr_cu_stream stream, enum fr_cu_kernel kernel,
		       const unsigned grid[3], unsigned threads, unsigned smem, const void *args, size_t args_bytes)
{
	const struct op o = {.kind = LAUNCH,
			     .kernel = kernel,
			     .grid = {grid[0], grid[1], grid[2]},
			     .threads = threads,
			     .smem = smem,
			     .bytes = args_bytes};

	if (stream != FR_CU_COMPUTE)
		return shim->launch(at, stream, kernel, grid, threads, smem, args, args_bytes);
	return give(&o, args);
}

static int late_sync(struct fr_cu_device *at, enum fr_cu_stream stream)
{
	int rc = recording && stream == FR_CU_COMPUTE ? CU_CAPTURE : run_pending(at);

	return rc ? rc : shim->sync(at, stream);
}

/* Whoever waits for a flag waits for everything. */
static int late_behind(struct fr_cu_device *at, enum fr_cu_stream stream, int i)
{
	int rc = stream == FR_CU_UPLOAD ? run_pending(at) : 0;

	return rc ? rc : shim->behind(at, stream, i);
}
static int late_passed(struct fr_cu_device *at, int i)
{
	int rc = run_pending(at);

	return rc ? rc : shim->passed(at, i);
}

/* The driver itself waits for kernels that may use device memory before it takes it back. */
static void late_release(struct fr_cu_device *at, void *p)
{
	run_pending(at);
	shim->release(at, p);
}

static void late_release_host(struct fr_cu_device *at, void *p)
{
	for (const struct op *o = pending.first; o; o = o->next)
		fr_late_faults += o->kind == COPY && (o->src == p || o->dst == p);
	shim->release_host(at, p);
}

static int late_record_begin(struct fr_cu_device *at)
{
	(void)at;
	if (recording)
		return CU_CAPTURE;
	recording = calloc(1, sizeof *recording);
	if (!recording)
		abort();
	recording->last = &recording->first;
	return 0;
}

static int late_record_end(struct fr_cu_device *at, void **graph)
{
	(void)at;
	*graph = recording;
	recording = NULL;
	return 0;
}

static int late_replay(struct fr_cu_device *at, void *graph)
{
	(void)at;
	fr_late_replays++;
	for (const struct op *o = ((struct queue *)graph)->first; o; o = o->next)
		give(o, o->args);
	return 0;
}

static void late_forget(struct fr_cu_device *at, void *graph)
{
	(void)at;
	for (struct op *o = ((struct queue *)graph)->first, *next; o; o = next) {
		next = o->next;
		free(o);
	}
	free(graph);
}

__attribute__((constructor)) static void fill(void)
{
	fr_cu_late = *shim;
	fr_cu_late.copy = late_copy;
	fr_cu_late.zero = late_zero;
	fr_cu_late.launch = late_launch;
	fr_cu_late.sync = late_sync;
	fr_cu_late.behind = late_behind;
	fr_cu_late.passed = late_passed;
	fr_cu_late.release = late_release;
	fr_cu_late.release_host = late_release_host;
	fr_cu_late.record_begin = late_record_begin;
	fr_cu_late.record_end = late_record_end;
	fr_cu_late.replay = late_replay;
	fr_cu_late.forget = late_forget;
}
