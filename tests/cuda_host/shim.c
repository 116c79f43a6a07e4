/* The driver of kernels/cuda/cu.h simulated: struct fr_cu over the parts of host.h.
 *
 * From the environment, read when the first device is opened: FR_SHIM_MEMORY MiB of device memory (8192),
 * FR_SHIM_ARCH=89 for that card's limits (90), FR_SHIM_LAZY=1 (stream.c), FR_SHIM_FAIL=n: the n-th launch fails as an
 * illegal access does, and everything after it; FR_SHIM_ALLOC_FAIL=n: the n-th allocation finds no memory. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "shim.h"
#include "host.h"

#define PINNED_MAX 4096

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
struct fr_shim_set fr_shim_set;
int fr_shim_dead;
static unsigned opened, allocs;

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

int fr_shim_pinned(uintptr_t p, size_t n)
{
	static int hit;
	if (hit < n_pinned && p - pinned[hit].p < pinned[hit].bytes)
		return n <= pinned[hit].bytes - (p - pinned[hit].p);
	for (hit = 0; hit < n_pinned; hit++)
		if (p - pinned[hit].p < pinned[hit].bytes)
			return n <= pinned[hit].bytes - (p - pinned[hit].p);
	return 0;
}

/* Every entry below: one thread at a time. */
static int enter(void)
{
	pthread_mutex_lock(&lock);
	return fr_shim_dead;
}

static int leave(int rc)
{
	pthread_mutex_unlock(&lock);
	return rc;
}

static unsigned env(const char *name, unsigned otherwise)
{
	const char *s = getenv(name);
	return s && *s ? (unsigned)strtoul(s, NULL, 10) : otherwise;
}

static void settings(void)
{
	unsigned arch = env("FR_SHIM_ARCH", 90);
	fr_shim_set = (struct fr_shim_set){.memory = (size_t)env("FR_SHIM_MEMORY", 8192) << 20,
					   .fail_launch = env("FR_SHIM_FAIL", 0),
					   .fail_alloc = env("FR_SHIM_ALLOC_FAIL", 0),
					   .lazy = env("FR_SHIM_LAZY", 0) != 0,
					   .arch = arch,
					   .smem_block = arch == 89 || arch == 86 ? 101376
							 : arch == 80		  ? 166912
										  : 232448};
	allocs = 0;
	fr_shim_dead = 0;
}

static int open_device(int ordinal, struct fr_cu_device **out, struct fr_cu_info *info, struct fr_error *err)
{
	*out = NULL;
	if (ordinal != 0)
		return fr_fail(err, FR_E_DEVICE, "no device %d: the host shim has one, device 0", ordinal);
	if (fr_shim_arena_open() || fr_shim_fibers_open() || fr_shim_watch_open())
		return fr_fail(err, FR_E_MEMORY, "the host shim cannot reserve its addresses");
	if (!opened)
		settings();
	*info = (struct fr_cu_info){.name = "host shim",
				    .major = (int)fr_shim_set.arch / 10,
				    .minor = (int)fr_shim_set.arch % 10,
				    .sms = 132,
				    .smem_block = fr_shim_set.smem_block,
				    .l2 = (size_t)50 << 20,
				    .simulated = 1};
	*out = calloc(1, sizeof **out);
	if (!*out)
		return fr_fail(err, FR_E_MEMORY, "out of memory for a device of the host shim");
	opened++;
	fr_shim_device_add(*out);
	return 0;
}

static int shim_open(int ordinal, struct fr_cu_device **out, struct fr_cu_info *info, struct fr_error *err)
{
	enter();
	return leave(open_device(ordinal, out, info, err));
}

static void shim_close(struct fr_cu_device *at)
{
	if (!at)
		return;
	enter();
	fr_shim_device_remove(at);
	fr_shim_forget(at->recording);
	free(at);
	opened--;
	leave(0);
}

static int shim_room(struct fr_cu_device *at, size_t *free_bytes, size_t *total)
{
	(void)at;
	int rc = enter();
	*total = fr_shim_set.memory;
	*free_bytes = *total > fr_shim_used ? *total - fr_shim_used : 0;
	return leave(rc);
}

/* ---- memory ---- */

static int shim_alloc(struct fr_cu_device *at, size_t bytes, void **out)
{
	int rc = enter();
	*out = NULL;
	if (rc)
		return leave(rc);
	if (at->recording)
		return leave(FR_SHIM_CAPTURE);
	if (!bytes)
		return leave(fr_shim_refuse("an allocation of 0 bytes"));
	if (++allocs == fr_shim_set.fail_alloc || bytes > fr_shim_set.memory ||
	    fr_shim_used > fr_shim_set.memory - bytes || fr_shim_arena_alloc(bytes, out))
		return leave(FR_SHIM_OUT_OF_MEMORY);
	return leave(0);
}

/* As cuMemFree: waits for all that was given. */
static void shim_release(struct fr_cu_device *at, void *p)
{
	(void)at;
	enter();
	fr_shim_drain_all();
	if (p && fr_shim_arena_release(p))
		fr_shim_refuse("release of %p, which is no live allocation", p);
	leave(0);
}

static int shim_alloc_host(struct fr_cu_device *at, size_t bytes, void **out)
{
	(void)at;
	int rc = enter();
	*out = NULL;
	if (rc)
		return leave(rc);
	if (++allocs == fr_shim_set.fail_alloc || n_pinned == PINNED_MAX ||
	    posix_memalign(out, 4096, bytes ? bytes : 1))
		return leave(FR_SHIM_OUT_OF_MEMORY);
	pinned[n_pinned++] = (struct pinned){(uintptr_t)*out, bytes};
	return leave(0);
}

static void shim_release_host(struct fr_cu_device *at, void *p)
{
	(void)at;
	enter();
	fr_shim_drain_all();
	int i = 0;
	while (i < n_pinned && pinned[i].p != (uintptr_t)p)
		i++;
	if (i < n_pinned) {
		pinned[i] = pinned[--n_pinned];
		free(p);
	} else if (p) {
		fr_shim_refuse("release_host of %p, which alloc_host did not give", p);
	}
	leave(0);
}

/* ---- work ---- */

static int shim_copy(struct fr_cu_device *at, enum fr_cu_stream stream, void *dst, const void *src, size_t bytes)
{
	struct fr_shim_op o = {.kind = FR_SHIM_COPY, .dst = dst, .src = src, .bytes = bytes};
	int rc = enter();
	return leave(rc || !bytes ? rc : fr_shim_give(at, stream, &o, NULL));
}

static int shim_zero(struct fr_cu_device *at, enum fr_cu_stream stream, void *p, size_t bytes)
{
	struct fr_shim_op o = {.kind = FR_SHIM_ZERO, .dst = p, .src = p, .bytes = bytes};
	int rc = enter();
	if (!rc && bytes && !fr_shim_in_arena((uintptr_t)p))
		rc = fr_shim_refuse("zero of %p, which is no device memory", p);
	return leave(rc || !bytes ? rc : fr_shim_give(at, stream, &o, NULL));
}

static int check(const struct fr_shim_kernel *k, const unsigned grid[3], unsigned threads, unsigned smem, size_t args)
{
	if (args != k->args_bytes)
		return fr_shim_refuse("kernel %s: %zu bytes of arguments, expected %u", k->name, args, k->args_bytes);
	if (!grid[0] || !grid[1] || !grid[2] || grid[0] > 0x7fffffffu || grid[1] > 65535 || grid[2] > 65535)
		return fr_shim_refuse("kernel %s: grid %u x %u x %u, the limits are 1..2147483647, 1..65535, 1..65535",
				      k->name, grid[0], grid[1], grid[2]);
	if (!threads || threads > 1024 || threads > k->threads)
		return fr_shim_refuse("kernel %s: %u threads in a block, its bound is %u", k->name, threads,
				      k->threads);
	if (smem > (unsigned)fr_shim_set.smem_block)
		return fr_shim_refuse("kernel %s: %u bytes of shared memory, a block of this device has %d", k->name,
				      smem, fr_shim_set.smem_block);
	return 0;
}

int fr_shim_launch(struct fr_cu_device *at, enum fr_cu_stream stream, const struct fr_shim_kernel *k,
		   const unsigned grid[3], unsigned threads, unsigned smem, const void *args, size_t args_bytes)
{
	struct fr_shim_op o = {.kind = FR_SHIM_LAUNCH,
			       .kernel = k,
			       .grid = {grid[0], grid[1], grid[2]},
			       .threads = threads,
			       .smem = smem,
			       .bytes = args_bytes};
	int rc = enter();
	if (!rc)
		rc = check(k, grid, threads, smem, args_bytes);
	return leave(rc ? rc : fr_shim_give(at, stream, &o, args));
}

unsigned fr_shim_launches[FR_CU_KERNELS];

static int shim_launch(struct fr_cu_device *at, enum fr_cu_stream stream, enum fr_cu_kernel kernel,
		       const unsigned grid[3], unsigned threads, unsigned smem, const void *args, size_t args_bytes)
{
	fr_shim_launches[kernel]++;
	return fr_shim_launch(at, stream, kernels[kernel], grid, threads, smem, args, args_bytes);
}

static int records(const struct fr_cu_device *at, enum fr_cu_stream stream)
{
	return at->recording && stream == FR_CU_COMPUTE;
}

static int shim_sync(struct fr_cu_device *at, enum fr_cu_stream stream)
{
	enter();
	int rc = records(at, stream) ? FR_SHIM_CAPTURE : fr_shim_drain(at, stream);
	if (rc != FR_SHIM_CAPTURE) {
		fr_shim_watch_ordered();
		fr_shim_arena_access(0);
	}
	return leave(rc);
}

static int flag_call(struct fr_cu_device *at, enum fr_cu_stream stream, int i,
		     int (*f)(struct fr_cu_device *, enum fr_cu_stream, int))
{
	int rc = enter();
	if (i < 0 || i >= FR_CU_FLAGS)
		rc = fr_shim_refuse("flag %d of %d", i, FR_CU_FLAGS);
	/* in a recording it would belong to the graph, and nothing else could wait for it */
	else if (records(at, stream))
		rc = FR_SHIM_CAPTURE;
	return leave(rc ? rc : f(at, stream, i));
}

static int shim_flag(struct fr_cu_device *at, enum fr_cu_stream stream, int i)
{
	return flag_call(at, stream, i, fr_shim_flag);
}

static int shim_behind(struct fr_cu_device *at, enum fr_cu_stream stream, int i)
{
	return flag_call(at, stream, i, fr_shim_behind);
}

static int shim_passed(struct fr_cu_device *at, int i)
{
	int rc = enter();
	if (i < 0 || i >= FR_CU_FLAGS)
		rc = fr_shim_refuse("flag %d of %d", i, FR_CU_FLAGS);
	return leave(rc ? rc : fr_shim_passed(at, i));
}

/* ---- recordings ---- */

static int shim_record_begin(struct fr_cu_device *at)
{
	int rc = enter();
	if (!rc && at->recording)
		rc = FR_SHIM_CAPTURE;
	if (!rc && !(at->recording = calloc(1, sizeof *at->recording)))
		rc = FR_SHIM_OUT_OF_MEMORY;
	if (!rc)
		at->recording->last = &at->recording->first;
	return leave(rc);
}

static int shim_record_end(struct fr_cu_device *at, void **graph)
{
	int rc = enter();
	*graph = rc ? NULL : at->recording;
	if (rc)
		fr_shim_forget(at->recording);
	at->recording = NULL;
	return leave(rc || *graph ? rc : FR_SHIM_CAPTURE);
}

static int shim_replay(struct fr_cu_device *at, void *graph)
{
	int rc = enter();
	return leave(rc ? rc : at->recording ? FR_SHIM_CAPTURE : fr_shim_replay(at, graph));
}

static void shim_forget(struct fr_cu_device *at, void *graph)
{
	(void)at;
	enter();
	fr_shim_forget(graph);
	leave(0);
}

static int shim_mark(struct fr_cu_device *at, int which)
{
	struct fr_shim_op o = {.kind = FR_SHIM_MARK, .mark = which & 1};
	int rc = enter();
	return leave(rc ? rc : at->recording ? FR_SHIM_CAPTURE : fr_shim_give(at, FR_CU_COMPUTE, &o, NULL));
}

static int shim_elapsed(struct fr_cu_device *at, float *ms)
{
	enter();
	int rc = fr_shim_drain(at, FR_CU_COMPUTE);
	*ms = (float)((double)(at->marks[1].tv_sec - at->marks[0].tv_sec) * 1e3 +
		      (double)(at->marks[1].tv_nsec - at->marks[0].tv_nsec) * 1e-6);
	return leave(rc);
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
	case FR_SHIM_INVALID_VALUE:
		return fr_shim_refused();
	case FR_SHIM_OUT_OF_MEMORY:
		return "out of memory";
	case FR_SHIM_ILLEGAL_ADDRESS:
		return "an illegal memory access was encountered";
	case FR_SHIM_CAPTURE:
		return "operation not permitted when stream is capturing";
	case FR_SHIM_FINDING:
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
	.behind = shim_behind,
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
