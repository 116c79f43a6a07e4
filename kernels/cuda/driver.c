/* The driver's table over libcuda.so.1, which is loaded when a device is opened: the program starts without it.
 *
 * The kernels are inside the library as fatbins, one of each .cu (the build makes fr_cu_fatbins); the driver picks the
 * code for the card or compiles the PTX. The primary context is used, which cuBLASLt shares, and made current in every
 * call, because a session may be used by any thread. With FR_RUN_CUDA_PDL=1 in the environment a kernel may start while
 * the one before it drains, on 9.0 and later (ptx.h, FR_WAIT). */
#include "cu.h"

#include <cuda.h>
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

/* X(the header's name, the exported name): the newest interface that drivers of CUDA 12 have too. */
#define FUNCTIONS(X)                                                                                                   \
	X(cuInit, "cuInit")                                                                                            \
	X(cuDriverGetVersion, "cuDriverGetVersion")                                                                    \
	X(cuGetErrorString, "cuGetErrorString")                                                                        \
	X(cuDeviceGetCount, "cuDeviceGetCount")                                                                        \
	X(cuDeviceGet, "cuDeviceGet")                                                                                  \
	X(cuDeviceGetName, "cuDeviceGetName")                                                                          \
	X(cuDeviceGetAttribute, "cuDeviceGetAttribute")                                                                \
	X(cuDevicePrimaryCtxRetain, "cuDevicePrimaryCtxRetain")                                                        \
	X(cuDevicePrimaryCtxRelease, "cuDevicePrimaryCtxRelease_v2")                                                   \
	X(cuCtxSetCurrent, "cuCtxSetCurrent")                                                                          \
	X(cuModuleLoadData, "cuModuleLoadData")                                                                        \
	X(cuModuleUnload, "cuModuleUnload")                                                                            \
	X(cuModuleGetFunction, "cuModuleGetFunction")                                                                  \
	X(cuFuncGetAttribute, "cuFuncGetAttribute")                                                                    \
	X(cuFuncSetAttribute, "cuFuncSetAttribute")                                                                    \
	X(cuLaunchKernelEx, "cuLaunchKernelEx")                                                                        \
	X(cuStreamCreate, "cuStreamCreate")                                                                            \
	X(cuStreamDestroy, "cuStreamDestroy_v2")                                                                       \
	X(cuStreamSynchronize, "cuStreamSynchronize")                                                                  \
	X(cuStreamWaitEvent, "cuStreamWaitEvent")                                                                      \
	X(cuStreamBeginCapture, "cuStreamBeginCapture_v2")                                                             \
	X(cuStreamEndCapture, "cuStreamEndCapture")                                                                    \
	X(cuEventCreate, "cuEventCreate")                                                                              \
	X(cuEventDestroy, "cuEventDestroy_v2")                                                                         \
	X(cuEventRecord, "cuEventRecord")                                                                              \
	X(cuEventSynchronize, "cuEventSynchronize")                                                                    \
	X(cuEventElapsedTime, "cuEventElapsedTime")                                                                    \
	X(cuGraphInstantiateWithFlags, "cuGraphInstantiateWithFlags")                                                  \
	X(cuGraphLaunch, "cuGraphLaunch")                                                                              \
	X(cuGraphDestroy, "cuGraphDestroy")                                                                            \
	X(cuGraphExecDestroy, "cuGraphExecDestroy")                                                                    \
	X(cuMemGetInfo, "cuMemGetInfo_v2")                                                                             \
	X(cuMemAlloc, "cuMemAlloc_v2")                                                                                 \
	X(cuMemFree, "cuMemFree_v2")                                                                                   \
	X(cuMemHostAlloc, "cuMemHostAlloc")                                                                            \
	X(cuMemFreeHost, "cuMemFreeHost")                                                                              \
	X(cuMemcpyAsync, "cuMemcpyAsync")                                                                              \
	X(cuMemsetD8Async, "cuMemsetD8Async")

struct api {
#define X(name, symbol) __typeof__(&name) name;
	FUNCTIONS(X)
#undef X
};

#define MARKS 2
#define DRIVER_SHARE 128 /* one part of so many of the memory: 1.1 GiB of 140, 190 MiB of 24 */

struct fr_cu_device {
	struct api api;
	CUdevice device;
	CUcontext context;
	CUmodule *module;
	int modules;
	CUfunction function[FR_CU_KERNELS + 1];
	CUstream stream[FR_CU_STREAMS];
	CUevent flag[FR_CU_FLAGS], mark[MARKS]; /* made when first put */
	int dependent;				/* launches: FR_RUN_CUDA_PDL */
};

/* In fatbins.S, which the build writes. */
extern const struct fr_cu_fatbin {
	const char *name;
	const void *image;
} fr_cu_fatbins[];

/* cuGetErrorString for text(), which has no device: the same in every driver that was loaded. */
static __typeof__(&cuGetErrorString) error_string;

static const char *text(int code)
{
	const char *words = NULL;

	if (!error_string || error_string((CUresult)code, &words) != CUDA_SUCCESS || !words)
		return "an error without a description";
	return words;
}

/* ---- opening ---- */

static int load_api(struct api *api, struct fr_error *err)
{
	void *lib = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);

	if (!lib)
		return fr_fail(err, FR_E_DEVICE, "backend cuda needs an NVIDIA driver, and there is none: %s",
			       dlerror());
		/* The library stays: a driver cannot be unloaded. */
#define X(name, symbol)                                                                                                \
	*(void **)&api->name = dlsym(lib, symbol);                                                                     \
	if (!api->name)                                                                                                \
		return fr_fail(                                                                                        \
			err, FR_E_DEVICE,                                                                              \
			"backend cuda: the NVIDIA driver is too old: it lacks %s, CUDA 12.0 or later is needed",       \
			symbol);
	FUNCTIONS(X)
#undef X
	error_string = api->cuGetErrorString;
	return 0;
}

static int fail(struct fr_error *err, CUresult code, const char *what)
{
	return fr_fail(err, code == CUDA_ERROR_OUT_OF_MEMORY ? FR_E_MEMORY : FR_E_DEVICE,
		       "backend cuda: %s: %s (driver error %d)", what, text((int)code), (int)code);
}

static int find_device(struct fr_cu_device *at, int ordinal, struct fr_error *err)
{
	CUresult rc = at->api.cuInit(0);
	int n = 0;

	if (rc == CUDA_SUCCESS)
		rc = at->api.cuDeviceGetCount(&n);
	if (rc == CUDA_ERROR_NO_DEVICE || (rc == CUDA_SUCCESS && n == 0))
		return fr_fail(err, FR_E_DEVICE, "backend cuda: the NVIDIA driver finds no GPU");
	if (rc != CUDA_SUCCESS)
		return fail(err, rc, "the NVIDIA driver does not start");
	if (ordinal < 0 || ordinal >= n)
		return fr_fail(err, FR_E_DEVICE, "backend cuda: there is no device %d, expected 0 to %d", ordinal,
			       n - 1);
	rc = at->api.cuDeviceGet(&at->device, ordinal);
	return rc == CUDA_SUCCESS ? 0 : fail(err, rc, "the device cannot be named");
}

static int attribute(struct fr_cu_device *at, CUdevice_attribute which)
{
	int v = 0;

	at->api.cuDeviceGetAttribute(&v, which, at->device);
	return v;
}

static int describe(struct fr_cu_device *at, struct fr_cu_info *info, struct fr_error *err)
{
	*info = (struct fr_cu_info){
		.major = attribute(at, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR),
		.minor = attribute(at, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR),
		.sms = attribute(at, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT),
		.smem_block = attribute(at, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN),
		.l2 = (size_t)attribute(at, CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE),
	};
	at->api.cuDeviceGetName(info->name, (int)sizeof info->name, at->device);
	if (info->major < 8)
		return fr_fail(err, FR_E_DEVICE, "backend cuda: %s has compute capability %d.%d, expected 8.0 or later",
			       info->name, info->major, info->minor);
	return 0;
}

static int take_context(struct fr_cu_device *at, const struct fr_cu_info *info, struct fr_error *err)
{
	CUresult rc = at->api.cuDevicePrimaryCtxRetain(&at->context, at->device);

	if (rc == CUDA_ERROR_DEVICE_UNAVAILABLE)
		return fr_fail(err, FR_E_DEVICE, "backend cuda: %s is busy: another process has it for itself",
			       info->name);
	if (rc != CUDA_SUCCESS) {
		at->context = NULL;
		return fail(err, rc, info->name);
	}
	rc = at->api.cuCtxSetCurrent(at->context);
	return rc == CUDA_SUCCESS ? 0 : fail(err, rc, info->name);
}

/* Code that the driver cannot take: it is older than the compiler that made it, or the card is none of the build's. */
static int refuse(const struct fr_cu_device *at, const struct fr_cu_info *info, CUresult rc, const char *name,
		  struct fr_error *err)
{
	int version = 0;

	at->api.cuDriverGetVersion(&version);
	return fr_fail(
		err, FR_E_DEVICE,
		"backend cuda: the driver (CUDA %d.%d) does not take the kernels %s for %s (%d.%d): %s; built were %s, "
		"expected a driver of that CUDA or later",
		version / 1000, version % 1000 / 10, name, info->name, info->major, info->minor, text((int)rc),
		FR_CUDA_BUILT);
}

static int load_modules(struct fr_cu_device *at, const struct fr_cu_info *info, struct fr_error *err)
{
	int n = 0;

	while (fr_cu_fatbins[n].name)
		n++;
	at->module = calloc((size_t)n + 1, sizeof *at->module);
	if (!at->module)
		return fr_fail(err, FR_E_MEMORY, "no memory for a table of %d modules", n);
	for (; at->modules < n; at->modules++) {
		const struct fr_cu_fatbin *f = &fr_cu_fatbins[at->modules];
		CUresult rc = at->api.cuModuleLoadData(&at->module[at->modules], f->image);

		if (rc == CUDA_ERROR_OUT_OF_MEMORY)
			return fail(err, rc, f->name);
		if (rc != CUDA_SUCCESS)
			return refuse(at, info, rc, f->name, err);
	}
	return 0;
}

/* Which file a kernel is in is nobody's business but the build's: it is looked for in all. */
static int find_functions(struct fr_cu_device *at, const struct fr_cu_info *info, struct fr_error *err)
{
	for (int k = 0; k < FR_CU_KERNELS; k++) {
		CUresult rc = CUDA_ERROR_NOT_FOUND;
		int fixed = 0;

		for (int m = 0; m < at->modules && rc == CUDA_ERROR_NOT_FOUND; m++)
			rc = at->api.cuModuleGetFunction(&at->function[k], at->module[m], fr_cu_kernel_names[k]);
		if (rc == CUDA_SUCCESS)
			rc = at->api.cuFuncGetAttribute(&fixed, CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES, at->function[k]);
		if (rc == CUDA_SUCCESS)
			rc = at->api.cuFuncSetAttribute(at->function[k],
							CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
							info->smem_block - fixed);
		if (rc != CUDA_SUCCESS)
			return refuse(at, info, rc, fr_cu_kernel_names[k], err);
	}
	return 0;
}

static int make_streams(struct fr_cu_device *at, struct fr_error *err)
{
	for (int i = 0; i < FR_CU_STREAMS; i++) {
		CUresult rc = at->api.cuStreamCreate(&at->stream[i], CU_STREAM_NON_BLOCKING);

		if (rc != CUDA_SUCCESS) {
			at->stream[i] = NULL;
			return fail(err, rc, "a stream cannot be made");
		}
	}
	return 0;
}

static void close_device(struct fr_cu_device *at)
{
	const struct api *api = &at->api;

	/* After an error in a kernel every one of these fails, which changes nothing: the context goes all the same. */
	if (at->context) {
		api->cuCtxSetCurrent(at->context);
		for (int i = 0; i < FR_CU_STREAMS; i++)
			if (at->stream[i])
				api->cuStreamSynchronize(at->stream[i]);
		for (int i = 0; i < FR_CU_FLAGS; i++)
			if (at->flag[i])
				api->cuEventDestroy(at->flag[i]);
		for (int i = 0; i < MARKS; i++)
			if (at->mark[i])
				api->cuEventDestroy(at->mark[i]);
		for (int i = 0; i < FR_CU_STREAMS; i++)
			if (at->stream[i])
				api->cuStreamDestroy(at->stream[i]);
		for (int i = 0; i < at->modules; i++)
			api->cuModuleUnload(at->module[i]);
		api->cuCtxSetCurrent(NULL);
		api->cuDevicePrimaryCtxRelease(at->device);
	}
	free(at->module);
	free(at);
}

static int open_device(int ordinal, struct fr_cu_device **out, struct fr_cu_info *info, struct fr_error *err)
{
	struct fr_cu_device *at = calloc(1, sizeof *at);
	const char *dependent = getenv("FR_RUN_CUDA_PDL");

	*out = NULL;
	if (!at)
		return fr_fail(err, FR_E_MEMORY, "no memory for a device of %zu bytes", sizeof *at);
	if (load_api(&at->api, err) || find_device(at, ordinal, err) || describe(at, info, err) ||
	    take_context(at, info, err) || load_modules(at, info, err) || find_functions(at, info, err) ||
	    make_streams(at, err)) {
		close_device(at);
		return -1;
	}
	at->dependent = info->major >= 9 && dependent && strcmp(dependent, "1") == 0;
	*out = at;
	return 0;
}

/* ---- memory ---- */

/* The api, with the context current in the calling thread. */
static const struct api *enter(struct fr_cu_device *at)
{
	at->api.cuCtxSetCurrent(at->context);
	return &at->api;
}

/* Less than what is free by what the driver takes itself, beside what it is asked for: blocks are rounded up to 2 MiB,
 * code is brought when it is first run, graphs have memory of their own. */
static int room(struct fr_cu_device *at, size_t *free_bytes, size_t *total)
{
	CUresult rc = enter(at)->cuMemGetInfo(free_bytes, total);
	size_t own;

	if (rc != CUDA_SUCCESS)
		return (int)rc;
	own = *total / DRIVER_SHARE;
	*free_bytes -= own < *free_bytes ? own : *free_bytes;
	return 0;
}

static int alloc(struct fr_cu_device *at, size_t bytes, void **out)
{
	CUdeviceptr p = 0;
	CUresult rc = enter(at)->cuMemAlloc(&p, bytes ? bytes : 1);

	*out = (void *)p;
	return (int)rc;
}

static void release(struct fr_cu_device *at, void *p)
{
	if (p)
		enter(at)->cuMemFree((CUdeviceptr)p);
}

static int alloc_host(struct fr_cu_device *at, size_t bytes, void **out)
{
	*out = NULL;
	return (int)enter(at)->cuMemHostAlloc(out, bytes ? bytes : 1,
					      CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP);
}

static void release_host(struct fr_cu_device *at, void *p)
{
	if (p)
		enter(at)->cuMemFreeHost(p);
}

static int copy(struct fr_cu_device *at, enum fr_cu_stream stream, void *dst, const void *src, size_t bytes)
{
	if (!bytes)
		return 0;
	return (int)enter(at)->cuMemcpyAsync((CUdeviceptr)dst, (CUdeviceptr)src, bytes, at->stream[stream]);
}

static int zero(struct fr_cu_device *at, enum fr_cu_stream stream, void *p, size_t bytes)
{
	if (!bytes)
		return 0;
	return (int)enter(at)->cuMemsetD8Async((CUdeviceptr)p, 0, bytes, at->stream[stream]);
}

/* ---- work ---- */

static int launch(struct fr_cu_device *at, enum fr_cu_stream stream, enum fr_cu_kernel kernel, const unsigned grid[3],
		  unsigned threads, unsigned smem, const void *args, size_t args_bytes)
{
	const struct api *api = enter(at);
	CUlaunchAttribute attr = {.id = CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION,
				  .value.programmaticStreamSerializationAllowed = 1};
	const CUlaunchConfig config = {.gridDimX = grid[0],
				       .gridDimY = grid[1],
				       .gridDimZ = grid[2],
				       .blockDimX = threads,
				       .blockDimY = 1,
				       .blockDimZ = 1,
				       .sharedMemBytes = smem,
				       .hStream = at->stream[stream],
				       .attrs = &attr,
				       .numAttrs = at->dependent ? 1 : 0};
	void *params[1] = {(void *)args};

	(void)args_bytes; /* the driver knows how many from the kernel */
	return (int)api->cuLaunchKernelEx(&config, at->function[kernel], params, NULL);
}

static int sync_stream(struct fr_cu_device *at, enum fr_cu_stream stream)
{
	return (int)enter(at)->cuStreamSynchronize(at->stream[stream]);
}

static int put_event(struct fr_cu_device *at, CUevent *e, unsigned flags, enum fr_cu_stream stream)
{
	const struct api *api = enter(at);
	CUresult rc = *e ? CUDA_SUCCESS : api->cuEventCreate(e, flags);

	if (rc == CUDA_SUCCESS)
		rc = api->cuEventRecord(*e, at->stream[stream]);
	return (int)rc;
}

static int flag(struct fr_cu_device *at, enum fr_cu_stream stream, int i)
{
	return put_event(at, &at->flag[i], CU_EVENT_DISABLE_TIMING | CU_EVENT_BLOCKING_SYNC, stream);
}

static int behind(struct fr_cu_device *at, enum fr_cu_stream stream, int i)
{
	return at->flag[i] ? (int)enter(at)->cuStreamWaitEvent(at->stream[stream], at->flag[i], 0) : 0;
}

static int passed(struct fr_cu_device *at, int i)
{
	return at->flag[i] ? (int)enter(at)->cuEventSynchronize(at->flag[i]) : 0;
}

/* Other threads may go on with copies of their own while this one records. */
static int record_begin(struct fr_cu_device *at)
{
	return (int)enter(at)->cuStreamBeginCapture(at->stream[FR_CU_COMPUTE], CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
}

static int record_end(struct fr_cu_device *at, void **graph)
{
	const struct api *api = enter(at);
	CUgraph drawn = NULL;
	CUgraphExec exec = NULL;
	CUresult rc = api->cuStreamEndCapture(at->stream[FR_CU_COMPUTE], &drawn);

	if (rc == CUDA_SUCCESS)
		rc = api->cuGraphInstantiateWithFlags(&exec, drawn, 0);
	if (drawn)
		api->cuGraphDestroy(drawn);
	*graph = rc == CUDA_SUCCESS ? exec : NULL;
	return (int)rc;
}

static int replay(struct fr_cu_device *at, void *graph)
{
	return (int)enter(at)->cuGraphLaunch(graph, at->stream[FR_CU_COMPUTE]);
}

static void forget(struct fr_cu_device *at, void *graph)
{
	if (graph)
		enter(at)->cuGraphExecDestroy(graph);
}

/* ---- time ---- */

static int mark(struct fr_cu_device *at, int which)
{
	return put_event(at, &at->mark[which], CU_EVENT_DEFAULT, FR_CU_COMPUTE);
}

static int elapsed(struct fr_cu_device *at, float *ms)
{
	const struct api *api = enter(at);
	CUresult rc = api->cuEventSynchronize(at->mark[1]);

	*ms = 0;
	if (rc == CUDA_SUCCESS)
		rc = api->cuEventElapsedTime(ms, at->mark[0], at->mark[1]);
	return (int)rc;
}

static void *native_stream(struct fr_cu_device *at, enum fr_cu_stream stream)
{
	enter(at);
	return at->stream[stream];
}

const struct fr_cu fr_cu_driver = {
	.open = open_device,
	.close = close_device,
	.room = room,
	.alloc = alloc,
	.release = release,
	.alloc_host = alloc_host,
	.release_host = release_host,
	.copy = copy,
	.zero = zero,
	.launch = launch,
	.sync = sync_stream,
	.flag = flag,
	.behind = behind,
	.passed = passed,
	.record_begin = record_begin,
	.record_end = record_end,
	.replay = replay,
	.forget = forget,
	.mark = mark,
	.elapsed = elapsed,
	.native_stream = native_stream,
	.text = text,
};
