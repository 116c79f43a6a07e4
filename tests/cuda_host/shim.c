/* The driver of kernels/cuda/cu.h simulated: struct fr_cu over the parts of host.h. Work is done when it is given, so
 * streams are in order and sync has nothing to wait for; between record_begin and record_end it is kept instead.
 *
 * From the environment: FR_SHIM_MEMORY MiB of device memory (8192), FR_SHIM_ARCH=89 for that card's limits,
 * FR_SHIM_FAIL=n the n-th launch fails as an illegal access does (everything after it too, as on a device),
 * FR_SHIM_ALLOC_FAIL=n the n-th allocation finds no memory. */
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "shim.h"
#include "host.h"

enum { CU_INVALID_VALUE = 1, CU_OUT_OF_MEMORY = 2, CU_ILLEGAL_ADDRESS = 700, CU_CAPTURE = 900, FINDING = 10001 };
#define PINNED_MAX 4096

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static size_t memory;
static int smem_block, dead;
static unsigned launches, allocs, fail_launch, fail_alloc;
static char complaint[256]; /* of the last call that the shim refused */

#define FR_CU(name, args) extern const struct fr_shim_kernel fr_shim_##name;
#include "../../kernels/cuda/kernels.def"
#undef FR_CU
static const struct fr_shim_kernel *const kernels[] = {
#define FR_CU(name, args) &fr_shim_##name,
#include "../../kernels/cuda/kernels.def"
#undef FR_CU
	NULL};

static struct pinned {
	uintptr_t p;
	size_t bytes;
} pinned[PINNED_MAX];
static int n_pinned;

struct op {
	struct op *next;
	enum { LAUNCH, COPY, ZERO } kind;
	const struct fr_shim_kernel *kernel;
	unsigned grid[3], threads, smem;
	void *dst;
	const void *src;
	size_t bytes; /* of the arguments, too */
	_Alignas(16) unsigned char args[];
};
struct graph {
	struct op *first, **last;
};
struct fr_cu_device {
	struct graph *recording;
	struct timespec marks[2];
};
static int opened;
/* Where the last launch went: kernels of one stream follow each other without a gap (FR_WAIT), others do not. */
static const struct fr_cu_device *last_device;
static enum fr_cu_stream last_stream;

__attribute__((format(printf, 1, 2))) static int refuse(const char *format, ...)
{
	va_list ap;
	va_start(ap, format);
	vsnprintf(complaint, sizeof complaint, format, ap);
	va_end(ap);
	fprintf(stderr, "host shim: %s\n", complaint);
	return CU_INVALID_VALUE;
}

int fr_shim_pinned(uintptr_t p, size_t n)
{
	for (int i = 0; i < n_pinned; i++)
		if (p - pinned[i].p < pinned[i].bytes)
			return n <= pinned[i].bytes - (p - pinned[i].p);
	return 0;
}

static unsigned env(const char *name, unsigned otherwise)
{
	const char *s = getenv(name);
	return s && *s ? (unsigned)strtoul(s, NULL, 10) : otherwise;
}

static int open_locked(int ordinal, struct fr_cu_device **out, struct fr_cu_info *info, struct fr_error *err)
{
	*out = NULL;
	if (ordinal != 0)
		return fr_fail(err, FR_E_DEVICE, "no device %d: the host shim has one, device 0", ordinal);
	if (fr_shim_arena_open() || fr_shim_fibers_open() || fr_shim_watch_open())
		return fr_fail(err, FR_E_MEMORY, "the host shim cannot reserve its addresses");
	unsigned arch = env("FR_SHIM_ARCH", 90);
	memory = (size_t)env("FR_SHIM_MEMORY", 8192) << 20;
	fail_launch = env("FR_SHIM_FAIL", 0);
	fail_alloc = env("FR_SHIM_ALLOC_FAIL", 0);
	if (!opened)
		launches = allocs = 0, dead = 0;
	smem_block = arch == 89 || arch == 86 ? 101376 : arch == 80 ? 166912 : 232448;
	*info = (struct fr_cu_info){.name = "host shim",
				    .major = (int)arch / 10,
				    .minor = (int)arch % 10,
				    .sms = 132,
				    .smem_block = smem_block,
				    .l2 = (size_t)50 << 20,
				    .simulated = 1};
	*out = calloc(1, sizeof **out);
	if (!*out)
		return fr_fail(err, FR_E_MEMORY, "out of memory for a device of the host shim");
	opened++;
	return 0;
}

static int shim_open(int ordinal, struct fr_cu_device **out, struct fr_cu_info *info, struct fr_error *err)
{
	pthread_mutex_lock(&lock);
	int rc = open_locked(ordinal, out, info, err);
	pthread_mutex_unlock(&lock);
	return rc;
}

static void drop(struct graph *g)
{
	for (struct op *o = g->first, *next; o; o = next) {
		next = o->next;
		free(o);
	}
	free(g);
}

static void shim_close(struct fr_cu_device *at)
{
	if (!at)
		return;
	pthread_mutex_lock(&lock);
	if (at->recording)
		drop(at->recording);
	free(at);
	opened--;
	last_device = NULL;
	pthread_mutex_unlock(&lock);
}

static int shim_room(struct fr_cu_device *at, size_t *free_bytes, size_t *total)
{
	pthread_mutex_lock(&lock);
	(void)at;
	*total = memory;
	*free_bytes = memory > fr_shim_used ? memory - fr_shim_used : 0;
	pthread_mutex_unlock(&lock);
	return dead;
}

/* ---- memory ---- */

static int alloc_locked(struct fr_cu_device *at, size_t bytes, void **out)
{
	*out = NULL;
	if (dead)
		return dead;
	if (at->recording)
		return CU_CAPTURE;
	if (!bytes)
		return refuse("an allocation of 0 bytes");
	if (++allocs == fail_alloc || bytes > memory || fr_shim_used > memory - bytes)
		return CU_OUT_OF_MEMORY;
	return fr_shim_arena_alloc(bytes, out) ? CU_OUT_OF_MEMORY : 0;
}

static int shim_alloc(struct fr_cu_device *at, size_t bytes, void **out)
{
	pthread_mutex_lock(&lock);
	int rc = alloc_locked(at, bytes, out);
	pthread_mutex_unlock(&lock);
	return rc;
}

static void shim_release(struct fr_cu_device *at, void *p)
{
	(void)at;
	pthread_mutex_lock(&lock);
	if (p && fr_shim_arena_release(p))
		refuse("release of %p, which is no live allocation", p);
	pthread_mutex_unlock(&lock);
}

static int shim_alloc_host(struct fr_cu_device *at, size_t bytes, void **out)
{
	(void)at;
	pthread_mutex_lock(&lock);
	int rc = 0;
	*out = NULL;
	if (++allocs == fail_alloc || n_pinned == PINNED_MAX || posix_memalign(out, 4096, bytes ? bytes : 1))
		rc = CU_OUT_OF_MEMORY;
	else
		pinned[n_pinned++] = (struct pinned){(uintptr_t)*out, bytes};
	pthread_mutex_unlock(&lock);
	return dead ? dead : rc;
}

static void shim_release_host(struct fr_cu_device *at, void *p)
{
	(void)at;
	pthread_mutex_lock(&lock);
	int i = 0;
	while (i < n_pinned && pinned[i].p != (uintptr_t)p)
		i++;
	if (i < n_pinned) {
		pinned[i] = pinned[--n_pinned];
		free(p);
	} else if (p) {
		refuse("release_host of %p, which alloc_host did not give", p);
	}
	pthread_mutex_unlock(&lock);
}

/* A range of a copy: wholly within one live allocation, or not device memory at all. */
static int range(const void *p, size_t bytes, const char *what)
{
	char where[160];
	const struct fr_shim_alloc *a = fr_shim_find((uintptr_t)p);
	if (!fr_shim_in_arena((uintptr_t)p))
		return 0;
	if (a && a->live && (uintptr_t)p - a->base <= a->bytes && bytes <= a->bytes - ((uintptr_t)p - a->base))
		return 0;
	return refuse("%s of %zu bytes at %s", what, bytes, fr_shim_where((uintptr_t)p, where));
}

/* ---- work ---- */

static int launch_check(const struct fr_shim_kernel *k, const unsigned grid[3], unsigned threads, unsigned smem,
			size_t args_bytes)
{
	if (args_bytes != k->args_bytes)
		return refuse("kernel %s: %zu bytes of arguments, expected %u", k->name, args_bytes, k->args_bytes);
	if (!grid[0] || !grid[1] || !grid[2] || grid[0] > 0x7fffffffu || grid[1] > 65535 || grid[2] > 65535)
		return refuse("kernel %s: grid %u x %u x %u, limits are 1..2147483647 x 1..65535 x 1..65535", k->name,
			      grid[0], grid[1], grid[2]);
	if (!threads || threads > 1024 || threads > k->threads)
		return refuse("kernel %s: %u threads in a block, its bound is %u", k->name, threads, k->threads);
	if (smem > (unsigned)smem_block)
		return refuse("kernel %s: %u bytes of shared memory, this device has %d for a block", k->name, smem,
			      smem_block);
	return 0;
}

static int run_launch(const struct op *o)
{
	if (++launches == fail_launch)
		return dead = CU_ILLEGAL_ADDRESS;
	int rc = 0;
	fr_shim_findings_begin(o->kernel->name);
	fr_shim_arena_access(1);
	fr_shim_watch_launch(o->smem);
	fr_shim_now.threads = o->threads;
	memcpy(fr_shim_now.grid, o->grid, sizeof o->grid);
	for (unsigned z = 0; z < o->grid[2] && !rc; z++)
		for (unsigned y = 0; y < o->grid[1] && !rc; y++)
			for (unsigned x = 0; x < o->grid[0] && !rc; x++) {
				fr_shim_now.block[0] = x;
				fr_shim_now.block[1] = y;
				fr_shim_now.block[2] = z;
				rc = fr_shim_block(o->kernel, o->args);
			}
	return rc ? FINDING : 0;
}

static int run(const struct op *o)
{
	if (dead)
		return dead;
	if (o->kind == LAUNCH)
		return run_launch(o);
	if (range(o->dst, o->bytes, "a copy or zero to") || (o->kind == COPY && range(o->src, o->bytes, "a copy from")))
		return CU_INVALID_VALUE;
	fr_shim_watch_ordered();
	fr_shim_arena_access(1);
	if (o->kind == COPY)
		memmove(o->dst, o->src, o->bytes);
	else
		memset(o->dst, 0, o->bytes);
	return 0;
}

/* Runs it, or keeps it in the recording. */
static int give(struct fr_cu_device *at, enum fr_cu_stream stream, const struct op *o, const void *args)
{
	size_t extra = o->kind == LAUNCH ? o->bytes : 0;
	struct op *kept = malloc(sizeof *kept + (extra ? extra : 1));
	if (!kept)
		return CU_OUT_OF_MEMORY;
	*kept = *o;
	kept->next = NULL;
	if (extra)
		memcpy(kept->args, args, extra);
	if (at->recording && stream == FR_CU_COMPUTE) {
		*at->recording->last = kept;
		at->recording->last = &kept->next;
		return 0;
	}
	if (at != last_device || stream != last_stream)
		fr_shim_watch_ordered();
	last_device = at, last_stream = stream;
	int rc = run(kept);
	free(kept);
	return rc;
}

static int pageable(const void *p, size_t bytes)
{
	return !fr_shim_in_arena((uintptr_t)p) && !fr_shim_pinned((uintptr_t)p, bytes);
}

static int shim_copy(struct fr_cu_device *at, enum fr_cu_stream stream, void *dst, const void *src, size_t bytes)
{
	if (!bytes)
		return dead;
	pthread_mutex_lock(&lock);
	int rc;
	if (at->recording && stream == FR_CU_COMPUTE && (pageable(dst, bytes) || pageable(src, bytes)))
		rc = refuse("a copy of host memory that is not pinned, inside a recording"), rc = CU_CAPTURE;
	else
		rc = give(at, stream, &(struct op){.kind = COPY, .dst = dst, .src = src, .bytes = bytes}, NULL);
	pthread_mutex_unlock(&lock);
	return rc;
}

static int shim_zero(struct fr_cu_device *at, enum fr_cu_stream stream, void *p, size_t bytes)
{
	if (!bytes)
		return dead;
	pthread_mutex_lock(&lock);
	int rc = fr_shim_in_arena((uintptr_t)p)
			 ? give(at, stream, &(struct op){.kind = ZERO, .dst = p, .bytes = bytes}, NULL)
			 : refuse("zero of %p, which is no device memory", p);
	pthread_mutex_unlock(&lock);
	return rc;
}

int fr_shim_launch(struct fr_cu_device *at, enum fr_cu_stream stream, const struct fr_shim_kernel *k,
		   const unsigned grid[3], unsigned threads, unsigned smem, const void *args, size_t args_bytes)
{
	pthread_mutex_lock(&lock);
	int rc = dead ? dead : launch_check(k, grid, threads, smem, args_bytes);
	if (!rc)
		rc = give(at, stream,
			  &(struct op){.kind = LAUNCH,
				       .kernel = k,
				       .grid = {grid[0], grid[1], grid[2]},
				       .threads = threads,
				       .smem = smem,
				       .bytes = args_bytes},
			  args);
	pthread_mutex_unlock(&lock);
	return rc;
}

static int shim_launch(struct fr_cu_device *at, enum fr_cu_stream stream, enum fr_cu_kernel kernel,
		       const unsigned grid[3], unsigned threads, unsigned smem, const void *args, size_t args_bytes)
{
	return fr_shim_launch(at, stream, kernels[kernel], grid, threads, smem, args, args_bytes);
}

static int shim_sync(struct fr_cu_device *at, enum fr_cu_stream stream)
{
	if (at->recording && stream == FR_CU_COMPUTE)
		return CU_CAPTURE;
	pthread_mutex_lock(&lock);
	fr_shim_watch_ordered();
	fr_shim_arena_access(0);
	pthread_mutex_unlock(&lock);
	return dead;
}

/* Work is done when it is given: every flag is passed as soon as it is put. */
static int shim_flag(struct fr_cu_device *at, enum fr_cu_stream stream, int i)
{
	(void)at, (void)stream;
	return dead ? dead : i < 0 || i >= FR_CU_FLAGS ? refuse("flag %d of %d", i, FR_CU_FLAGS) : 0;
}

static int shim_passed(struct fr_cu_device *at, int i)
{
	return shim_flag(at, FR_CU_COMPUTE, i);
}

/* ---- recordings ---- */

static int shim_record_begin(struct fr_cu_device *at)
{
	if (dead || at->recording)
		return dead ? dead : CU_CAPTURE;
	at->recording = calloc(1, sizeof *at->recording);
	if (!at->recording)
		return CU_OUT_OF_MEMORY;
	at->recording->last = &at->recording->first;
	return 0;
}

static int shim_record_end(struct fr_cu_device *at, void **graph)
{
	*graph = at->recording;
	at->recording = NULL;
	return dead ? dead : *graph ? 0 : CU_CAPTURE;
}

static int shim_replay(struct fr_cu_device *at, void *graph)
{
	if (at->recording)
		return CU_CAPTURE;
	pthread_mutex_lock(&lock);
	int rc = dead;
	for (struct op *o = ((struct graph *)graph)->first; o && !rc; o = o->next)
		rc = run(o);
	pthread_mutex_unlock(&lock);
	return rc;
}

static void shim_forget(struct fr_cu_device *at, void *graph)
{
	(void)at;
	if (graph)
		drop(graph);
}

static int shim_mark(struct fr_cu_device *at, int which)
{
	clock_gettime(CLOCK_MONOTONIC, &at->marks[which & 1]);
	return dead;
}

static int shim_elapsed(struct fr_cu_device *at, float *ms)
{
	*ms = (float)((double)(at->marks[1].tv_sec - at->marks[0].tv_sec) * 1e3 +
		      (double)(at->marks[1].tv_nsec - at->marks[0].tv_nsec) * 1e-6);
	return dead;
}

static void *shim_native_stream(struct fr_cu_device *at, enum fr_cu_stream stream)
{
	(void)at, (void)stream;
	return NULL;
}

static const char *shim_text(int code)
{
	switch (code) {
	case 0:
		return "no error";
	case CU_INVALID_VALUE:
		return complaint;
	case CU_OUT_OF_MEMORY:
		return "out of memory";
	case CU_ILLEGAL_ADDRESS:
		return "an illegal memory access was encountered";
	case CU_CAPTURE:
		return "operation not permitted when stream is capturing";
	case FINDING:
		return fr_shim_finding_text();
	}
	return "unknown error";
}

const struct fr_cu fr_cu_shim = {
	.open = shim_open,
	.close = shim_close,
	.room = shim_room,
	.alloc = shim_alloc,
	.release = shim_release,
	.alloc_host = shim_alloc_host,
	.release_host = shim_release_host,
	.copy = shim_copy,
	.zero = shim_zero,
	.launch = shim_launch,
	.sync = shim_sync,
	.flag = shim_flag,
	.behind = shim_flag,
	.passed = shim_passed,
	.record_begin = shim_record_begin,
	.record_end = shim_record_end,
	.replay = shim_replay,
	.forget = shim_forget,
	.mark = shim_mark,
	.elapsed = shim_elapsed,
	.native_stream = shim_native_stream,
	.text = shim_text,
};
