/* kernels/cuda/driver.c against a libcuda.so.1 of our own: dlopen and dlsym are replaced, and the driver's functions
 * stand on the host shim. What it says when something is missing, which calls it makes with what, that its streams,
 * flags and recordings are in order (kernels run late, FR_SHIM_LAZY), and that it gives everything back. */
#include "../kernels/cuda/cuda.h"
#include "cuda_host/shim.h"
#include "test.h"

#ifndef FR_HAVE_CUDA

int main(void)
{
	test_skip("exact/cuda/driver", "built without CUDA's headers");
	return test_done();
}

#else

#include <cuda.h>
#include <dlfcn.h>
#include <pthread.h>

#define MODULES 64

/* What is wrong with the machine. */
static struct {
	const char *lacks; /* a function that the library does not have */
	int no_library, devices, major, minor;
	CUresult init, retain, load, stream;
} machine;

static int wrong; /* calls that are not as they should be */
static int contexts, modules, streams, events, drawn, graphs;
static struct fr_cu_device *shim; /* of the context */
static struct fr_cu_info shim_info;
static char context_object, module_object[MODULES], stream_object[FR_CU_STREAMS], kernel_object[FR_CU_KERNELS + 1];
static _Thread_local CUcontext current;
static int programmatic; /* launches with that attribute */
static int smem_set[FR_CU_KERNELS + 1];

struct CUevent_st {
	int flag; /* of the shim; -1: a mark */
};
static int flag_used[FR_CU_FLAGS];

static const size_t args_bytes[] = {
#define FR_CU(name, args) sizeof(args),
#include "../kernels/cuda/kernels.def"
#undef FR_CU
	0};

static void check(int ok, const char *what)
{
	if (ok)
		return;
	wrong++;
	fprintf(stderr, "driver: %s\n", what);
}

/* Calls other than opening ones are made with the context current in the calling thread. */
#define HERE check(current == (CUcontext)(void *)&context_object, __func__)

static CUresult from_shim(int code)
{
	return (CUresult)code;
}

/* ---- the device ---- */

static CUresult init(unsigned flags)
{
	check(flags == 0, "cuInit's flags");
	return machine.init;
}
static CUresult driver_version(int *v)
{
	*v = 12020;
	return CUDA_SUCCESS;
}
static CUresult error_string(CUresult code, const char **s)
{
	*s = code == CUDA_ERROR_NO_DEVICE ? "no CUDA-capable device is detected"
	     : code == CUDA_ERROR_UNSUPPORTED_PTX_VERSION
		     ? "the provided PTX was compiled with an unsupported toolchain."
	     : code == CUDA_ERROR_ILLEGAL_ADDRESS ? "an illegal memory access was encountered"
	     : code == CUDA_ERROR_OUT_OF_MEMORY	  ? "out of memory"
						  : NULL;
	return *s ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
static CUresult device_count(int *n)
{
	*n = machine.devices;
	return CUDA_SUCCESS;
}
static CUresult device_get(CUdevice *device, int ordinal)
{
	*device = 40 + ordinal;
	return CUDA_SUCCESS;
}
static CUresult device_name(char *name, int size, CUdevice device)
{
	snprintf(name, (size_t)size, "card %d", device - 40);
	return CUDA_SUCCESS;
}
static CUresult device_attribute(int *v, CUdevice_attribute a, CUdevice device)
{
	check(device >= 40, "cuDeviceGetAttribute's device");
	*v = a == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR		  ? machine.major
	     : a == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR	  ? machine.minor
	     : a == CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT		  ? 132
	     : a == CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN ? 232448
	     : a == CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE			  ? 50 << 20
									  : 0;
	return CUDA_SUCCESS;
}
static CUresult retain(CUcontext *context, CUdevice device)
{
	struct fr_error err;

	check(device >= 40, "cuDevicePrimaryCtxRetain's device");
	if (machine.retain)
		return machine.retain;
	contexts++;
	check(fr_cu_shim.open(0, &shim, &shim_info, &err) == 0, "the shim");
	*context = (CUcontext)(void *)&context_object;
	return CUDA_SUCCESS;
}
static CUresult release_context(CUdevice device)
{
	check(device >= 40 && contexts > 0, "cuDevicePrimaryCtxRelease without retain");
	contexts--;
	fr_cu_shim.close(shim);
	return CUDA_SUCCESS;
}
static CUresult set_current(CUcontext context)
{
	current = context;
	return CUDA_SUCCESS;
}

/* ---- modules ---- */

static CUresult module_load(CUmodule *m, const void *image)
{
	static const unsigned char magic[4] = {0x50, 0xed, 0x55, 0xba};

	HERE;
	check(memcmp(image, magic, 4) == 0, "what is loaded is no fatbin");
	if (machine.load || modules == MODULES)
		return machine.load;
	*m = (CUmodule)(void *)&module_object[modules++];
	return CUDA_SUCCESS;
}
static CUresult module_unload(CUmodule m)
{
	HERE;
	check((char *)m >= module_object && (char *)m < module_object + MODULES, "cuModuleUnload");
	modules--;
	return CUDA_SUCCESS;
}
/* Kernel k is in module k % modules. */
static CUresult module_function(CUfunction *f, CUmodule m, const char *name)
{
	HERE;
	for (int k = 0; k < FR_CU_KERNELS; k++)
		if (strcmp(name, fr_cu_kernel_names[k]) == 0 && (char *)m - module_object == k % modules) {
			*f = (CUfunction)(void *)&kernel_object[k];
			return CUDA_SUCCESS;
		}
	return CUDA_ERROR_NOT_FOUND;
}
static int kernel_of(CUfunction f)
{
	return (int)((char *)f - kernel_object);
}
/* One kernel with shared memory of its own. */
static int fixed_smem(int k)
{
	return k == 0 ? 64 : 0;
}
static CUresult function_get(int *v, CUfunction_attribute a, CUfunction f)
{
	HERE;
	check(a == CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES, "cuFuncGetAttribute's attribute");
	*v = fixed_smem(kernel_of(f));
	return CUDA_SUCCESS;
}
static CUresult function_set(CUfunction f, CUfunction_attribute a, int v)
{
	HERE;
	check(a == CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, "cuFuncSetAttribute's attribute");
	if (v + fixed_smem(kernel_of(f)) > 232448)
		return CUDA_ERROR_INVALID_VALUE;
	smem_set[kernel_of(f)] = v;
	return CUDA_SUCCESS;
}

/* ---- streams and events ---- */

static enum fr_cu_stream stream_of(CUstream s)
{
	check((char *)s >= stream_object && (char *)s < stream_object + FR_CU_STREAMS, "a stream that is none");
	return (enum fr_cu_stream)((char *)s - stream_object);
}
static CUresult stream_create(CUstream *s, unsigned flags)
{
	HERE;
	check(flags == CU_STREAM_NON_BLOCKING, "a stream that waits for the default stream");
	if (machine.stream || streams == FR_CU_STREAMS)
		return machine.stream ? machine.stream : CUDA_ERROR_UNKNOWN;
	*s = (CUstream)(void *)&stream_object[streams++];
	return CUDA_SUCCESS;
}
static CUresult stream_destroy(CUstream s)
{
	HERE;
	stream_of(s);
	streams--;
	return CUDA_SUCCESS;
}
static CUresult stream_sync(CUstream s)
{
	HERE;
	return from_shim(fr_cu_shim.sync(shim, stream_of(s)));
}
static CUresult event_create(CUevent *e, unsigned flags)
{
	int i = flags & CU_EVENT_DISABLE_TIMING ? 0 : -1;

	HERE;
	while (i >= 0 && flag_used[i])
		i++;
	if (i >= 0)
		flag_used[i] = 1;
	*e = malloc(sizeof **e);
	(*e)->flag = i;
	events++;
	return CUDA_SUCCESS;
}
static CUresult event_destroy(CUevent e)
{
	HERE;
	if (e->flag >= 0)
		flag_used[e->flag] = 0;
	free(e);
	events--;
	return CUDA_SUCCESS;
}
static CUresult event_record(CUevent e, CUstream s)
{
	HERE;
	return e->flag < 0 ? CUDA_SUCCESS : from_shim(fr_cu_shim.flag(shim, stream_of(s), e->flag));
}
static CUresult event_sync(CUevent e)
{
	HERE;
	return e->flag < 0 ? CUDA_SUCCESS : from_shim(fr_cu_shim.passed(shim, e->flag));
}
static CUresult wait_event(CUstream s, CUevent e, unsigned flags)
{
	HERE;
	check(flags == 0 && e->flag >= 0, "cuStreamWaitEvent");
	return from_shim(fr_cu_shim.behind(shim, stream_of(s), e->flag));
}
static CUresult event_elapsed(float *ms, CUevent from, CUevent to)
{
	HERE;
	check(from->flag < 0 && to->flag < 0 && from != to, "cuEventElapsedTime of events without time");
	*ms = 1.5f;
	return CUDA_SUCCESS;
}

/* ---- work ---- */

static CUresult launch_kernel(const CUlaunchConfig *c, CUfunction f, void **params, void **extra)
{
	const int k = kernel_of(f);
	const unsigned grid[3] = {c->gridDimX, c->gridDimY, c->gridDimZ};

	HERE;
	check(extra == NULL && c->blockDimY == 1 && c->blockDimZ == 1, "a launch's shape");
	check(c->sharedMemBytes <= (unsigned)smem_set[k], "more shared memory than was asked for");
	for (unsigned i = 0; i < c->numAttrs; i++)
		programmatic += c->attrs[i].id == CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION &&
				c->attrs[i].value.programmaticStreamSerializationAllowed;
	return from_shim(fr_cu_shim.launch(shim, stream_of(c->hStream), (enum fr_cu_kernel)k, grid, c->blockDimX,
					   c->sharedMemBytes, params[0], args_bytes[k]));
}
static CUresult begin_capture(CUstream s, CUstreamCaptureMode mode)
{
	HERE;
	check(stream_of(s) == FR_CU_COMPUTE && mode == CU_STREAM_CAPTURE_MODE_THREAD_LOCAL, "what is recorded");
	return from_shim(fr_cu_shim.record_begin(shim));
}
static CUresult end_capture(CUstream s, CUgraph *g)
{
	void *graph;
	CUresult rc = from_shim(fr_cu_shim.record_end(shim, &graph));

	HERE;
	stream_of(s);
	*g = graph;
	drawn += rc == CUDA_SUCCESS;
	return rc;
}
/* The shim's graph is both the drawing and what is made of it. */
static CUresult instantiate(CUgraphExec *e, CUgraph g, unsigned long long flags)
{
	HERE;
	check(flags == 0, "cuGraphInstantiateWithFlags' flags");
	*e = (CUgraphExec)(void *)g;
	graphs++;
	return CUDA_SUCCESS;
}
static CUresult graph_destroy(CUgraph g)
{
	HERE;
	check(g != NULL, "cuGraphDestroy");
	drawn--;
	return CUDA_SUCCESS;
}
static CUresult exec_destroy(CUgraphExec e)
{
	HERE;
	graphs--;
	fr_cu_shim.forget(shim, e);
	return CUDA_SUCCESS;
}
static CUresult graph_launch(CUgraphExec e, CUstream s)
{
	HERE;
	check(stream_of(s) == FR_CU_COMPUTE, "cuGraphLaunch's stream");
	return from_shim(fr_cu_shim.replay(shim, e));
}

/* ---- memory ---- */

static int full; /* one byte is free */

static CUresult mem_info(size_t *left, size_t *total)
{
	HERE;
	CUresult rc = from_shim(fr_cu_shim.room(shim, left, total));

	if (full)
		*left = 1;
	return rc;
}
static CUresult mem_alloc(CUdeviceptr *p, size_t bytes)
{
	void *out;
	int code = fr_cu_shim.alloc(shim, bytes, &out);

	HERE;
	*p = (CUdeviceptr)out;
	return from_shim(code);
}
static CUresult mem_free(CUdeviceptr p)
{
	HERE;
	fr_cu_shim.release(shim, (void *)p);
	return CUDA_SUCCESS;
}
static CUresult host_alloc(void **p, size_t bytes, unsigned flags)
{
	HERE;
	check(flags == (CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP), "cuMemHostAlloc's flags");
	return from_shim(fr_cu_shim.alloc_host(shim, bytes, p));
}
static CUresult host_free(void *p)
{
	HERE;
	fr_cu_shim.release_host(shim, p);
	return CUDA_SUCCESS;
}
static CUresult memcpy_async(CUdeviceptr dst, CUdeviceptr src, size_t bytes, CUstream s)
{
	HERE;
	return from_shim(fr_cu_shim.copy(shim, stream_of(s), (void *)dst, (const void *)src, bytes));
}
static CUresult memset_async(CUdeviceptr dst, unsigned char byte, size_t bytes, CUstream s)
{
	HERE;
	check(byte == 0, "cuMemsetD8Async");
	return from_shim(fr_cu_shim.zero(shim, stream_of(s), (void *)dst, bytes));
}

/* ---- the library ---- */

static const struct {
	const char *name;
	void *f;
} exported[] = {
	{"cuInit", init},
	{"cuDriverGetVersion", driver_version},
	{"cuGetErrorString", error_string},
	{"cuDeviceGetCount", device_count},
	{"cuDeviceGet", device_get},
	{"cuDeviceGetName", device_name},
	{"cuDeviceGetAttribute", device_attribute},
	{"cuDevicePrimaryCtxRetain", retain},
	{"cuDevicePrimaryCtxRelease_v2", release_context},
	{"cuCtxSetCurrent", set_current},
	{"cuModuleLoadData", module_load},
	{"cuModuleUnload", module_unload},
	{"cuModuleGetFunction", module_function},
	{"cuFuncGetAttribute", function_get},
	{"cuFuncSetAttribute", function_set},
	{"cuLaunchKernelEx", launch_kernel},
	{"cuStreamCreate", stream_create},
	{"cuStreamDestroy_v2", stream_destroy},
	{"cuStreamSynchronize", stream_sync},
	{"cuStreamWaitEvent", wait_event},
	{"cuStreamBeginCapture_v2", begin_capture},
	{"cuStreamEndCapture", end_capture},
	{"cuEventCreate", event_create},
	{"cuEventDestroy_v2", event_destroy},
	{"cuEventRecord", event_record},
	{"cuEventSynchronize", event_sync},
	{"cuEventElapsedTime", event_elapsed},
	{"cuGraphInstantiateWithFlags", instantiate},
	{"cuGraphLaunch", graph_launch},
	{"cuGraphDestroy", graph_destroy},
	{"cuGraphExecDestroy", exec_destroy},
	{"cuMemGetInfo_v2", mem_info},
	{"cuMemAlloc_v2", mem_alloc},
	{"cuMemFree_v2", mem_free},
	{"cuMemHostAlloc", host_alloc},
	{"cuMemFreeHost", host_free},
	{"cuMemcpyAsync", memcpy_async},
	{"cuMemsetD8Async", memset_async},
};
static char library;

void *__wrap_dlopen(const char *name, int mode);
void *__wrap_dlsym(void *lib, const char *name);
char *__wrap_dlerror(void);

void *__wrap_dlopen(const char *name, int mode)
{
	check(strcmp(name, "libcuda.so.1") == 0 && (mode & RTLD_NOW), "dlopen");
	return machine.no_library ? NULL : &library;
}
char *__wrap_dlerror(void)
{
	static char text[] = "libcuda.so.1: cannot open shared object file";
	return text;
}
void *__wrap_dlsym(void *lib, const char *name)
{
	check(lib == &library, "dlsym's library");
	for (size_t i = 0; i < sizeof exported / sizeof *exported; i++)
		if (strcmp(name, exported[i].name) == 0 && !(machine.lacks && strcmp(name, machine.lacks) == 0))
			return exported[i].f;
	return NULL;
}

/* ---- cases ---- */

static void good_machine(void)
{
	memset(&machine, 0, sizeof machine);
	machine.devices = 2;
	machine.major = 9;
}

static int all_given_back(void)
{
	return contexts == 0 && modules == 0 && streams == 0 && events == 0 && drawn == 0 && graphs == 0;
}

/* Opening fails with this sentence, and nothing is kept. */
static void refuses(const char *name, int ordinal, enum fr_code code, const char *sentence)
{
	char label[96];
	struct fr_cu_device *at;
	struct fr_cu_info info;
	struct fr_error err = {0};
	int rc = fr_cu_driver.open(ordinal, &at, &info, &err);

	snprintf(label, sizeof label, "exact/cuda/driver/%s", name);
	CHECK(label, rc && err.code == code && strstr(err.text, sentence) && all_given_back() && at == NULL,
	      "code %d: %s; kept: %d contexts, %d modules, %d streams", err.code, err.text, contexts, modules, streams);
	good_machine();
}

static void missing(void)
{
	good_machine();
	machine.no_library = 1;
	refuses("no-library", 0, FR_E_DEVICE, "needs an NVIDIA driver, and there is none: libcuda.so.1: cannot");
	machine.lacks = "cuLaunchKernelEx";
	refuses("old-library", 0, FR_E_DEVICE, "the NVIDIA driver is too old: it lacks cuLaunchKernelEx");
	machine.init = CUDA_ERROR_NO_DEVICE;
	refuses("no-device", 0, FR_E_DEVICE, "the NVIDIA driver finds no GPU");
	machine.devices = 0;
	refuses("none-visible", 0, FR_E_DEVICE, "the NVIDIA driver finds no GPU");
	machine.init = CUDA_ERROR_SYSTEM_DRIVER_MISMATCH;
	refuses("init", 0, FR_E_DEVICE, "the NVIDIA driver does not start");
	refuses("no-such-device", 2, FR_E_DEVICE, "there is no device 2, expected 0 to 1");
	machine.major = 7;
	machine.minor = 5;
	refuses("old-card", 1, FR_E_DEVICE, "card 1 has compute capability 7.5, expected 8.0 or later");
	machine.retain = CUDA_ERROR_DEVICE_UNAVAILABLE;
	refuses("busy", 0, FR_E_DEVICE, "card 0 is busy");
	machine.retain = CUDA_ERROR_OUT_OF_MEMORY;
	refuses("full", 0, FR_E_MEMORY, "card 0: out of memory");
	machine.load = CUDA_ERROR_UNSUPPORTED_PTX_VERSION;
	refuses("old-driver", 0, FR_E_DEVICE, "the driver (CUDA 12.2) does not take the kernels");
	machine.load = CUDA_ERROR_OUT_OF_MEMORY;
	refuses("full-of-kernels", 0, FR_E_MEMORY, "out of memory");
	machine.stream = CUDA_ERROR_OUT_OF_MEMORY;
	refuses("no-stream", 0, FR_E_MEMORY, "a stream cannot be made");
}

#define DIM 96

static int same_norm(const struct fr_cu *cu, float *y, struct fr_error *err)
{
	float x[DIM], w[DIM];
	struct fr_dev *dev;
	void *mem[3];

	for (int i = 0; i < DIM; i++) {
		x[i] = (float)(i % 7) - 2.5f;
		w[i] = 1.0f + (float)i / DIM;
	}
	fr_cu_override = cu;
	if (fr_cuda_open(&(struct fr_dev_opts){.no_cublas = 1}, &dev, err))
		return -1;
	for (int i = 0; i < 3; i++)
		if (dev->ops->alloc(dev, sizeof x, &mem[i], err))
			return -1;
	dev->ops->put(dev, mem[0], x, sizeof x);
	dev->ops->put(dev, mem[1], w, sizeof w);
	dev->ops->norm(dev, &(struct fr_norm){mem[0], mem[1], NULL, 1e-5f, mem[2], 1, DIM, FR_PREFILL});
	dev->ops->get(dev, y, mem[2], sizeof x);
	if (dev->ops->sync(dev, err))
		return -1;
	dev->ops->close(dev);
	return 0;
}

/* The whole backend through driver.c gives what it gives through the shim itself. */
static void same_as_shim(void)
{
	float want[DIM], got[DIM] = {0};
	struct fr_error err = {0};
	int rc = same_norm(&fr_cu_shim, want, &err) || same_norm(&fr_cu_driver, got, &err);

	CHECK("exact/cuda/driver/same-as-shim", !rc && memcmp(want, got, sizeof got) == 0, "%s", err.text);
	CHECK("exact/cuda/driver/given-back", all_given_back(), "%d contexts, %d modules, %d streams, %d events",
	      contexts, modules, streams, events);
}

static void *from_another_thread(void *at)
{
	size_t left, total;
	return (void *)(intptr_t)fr_cu_driver.room(at, &left, &total);
}

/* What may be taken leaves the driver its own, and is never less than nothing. */
static void room_left(struct fr_cu_device *at)
{
	size_t free_bytes = 0, total = 0, left = 0, none = 0;
	int rc = fr_cu_shim.room(shim, &free_bytes, &total) | fr_cu_driver.room(at, &left, &total);

	full = 1;
	rc |= fr_cu_driver.room(at, &none, &total);
	full = 0;
	CHECK("exact/cuda/driver/room", !rc && left < free_bytes && left > free_bytes - total / 64 && none == 0,
	      "%zu of %zu free, %zu of none", left, free_bytes, none);
}

/* Copies and flags in both streams, a recording, marks, another thread. */
static void work(void)
{
	const struct fr_cu *cu = &fr_cu_driver;
	struct fr_cu_device *at;
	struct fr_cu_info info;
	struct fr_error err = {0};
	void *host, *dev, *graph = NULL, *answer;
	pthread_t thread;
	int rc = cu->open(1, &at, &info, &err);
	float ms = 0;

	if (rc) {
		test_fail("exact/cuda/driver/opens", "%s", err.text);
		return;
	}
	CHECK("exact/cuda/driver/info",
	      strcmp(info.name, "card 1") == 0 && info.major == 9 && info.sms == 132 && info.smem_block == 232448 &&
		      info.l2 == 50 << 20 && !info.simulated,
	      "%s, %d.%d, %d, %d", info.name, info.major, info.minor, info.sms, info.smem_block);
	rc = cu->alloc_host(at, 256, &host) || cu->alloc(at, 256, &dev) || cu->zero(at, FR_CU_COMPUTE, dev, 256);
	memset(host, 7, 128);
	rc = rc || cu->copy(at, FR_CU_UPLOAD, dev, host, 64) || cu->flag(at, FR_CU_UPLOAD, 3) ||
	     cu->behind(at, FR_CU_COMPUTE, 3) || cu->behind(at, FR_CU_COMPUTE, 4) || cu->passed(at, 5) ||
	     cu->copy(at, FR_CU_COMPUTE, (char *)host + 128, dev, 128) || cu->flag(at, FR_CU_COMPUTE, 0) ||
	     cu->passed(at, 0);
	CHECK("exact/cuda/driver/streams", !rc && memcmp((char *)host + 128, host, 64) == 0 && ((char *)host)[192] == 0,
	      "code %d", rc);
	rc = cu->record_begin(at) || cu->copy(at, FR_CU_COMPUTE, (char *)dev + 64, dev, 64) ||
	     cu->record_end(at, &graph);
	memset((char *)host + 128, 0, 128);
	rc = rc || cu->copy(at, FR_CU_COMPUTE, (char *)host + 128, dev, 128) || cu->sync(at, FR_CU_COMPUTE);
	CHECK("exact/cuda/driver/records", !rc && graph && ((char *)host)[192] == 0, "it ran, code %d", rc);
	rc = cu->replay(at, graph) || cu->copy(at, FR_CU_COMPUTE, (char *)host + 128, dev, 128) ||
	     cu->sync(at, FR_CU_COMPUTE);
	CHECK("exact/cuda/driver/replays", !rc && ((char *)host)[192] == 7, "code %d", rc);
	cu->forget(at, graph);
	rc = cu->mark(at, 0) || cu->mark(at, 1) || cu->elapsed(at, &ms);
	CHECK("exact/cuda/driver/marks", !rc && ms == 1.5f, "code %d, %g ms", rc, (double)ms);
	CHECK("exact/cuda/driver/another-thread",
	      pthread_create(&thread, NULL, from_another_thread, at) == 0 && pthread_join(thread, &answer) == 0 &&
		      !answer,
	      "code %d", (int)(intptr_t)answer);
	CHECK("exact/cuda/driver/text",
	      strcmp(cu->text(700), "an illegal memory access was encountered") == 0 &&
		      strcmp(cu->text(12345), "an error without a description") == 0,
	      "%s", cu->text(12345));
	room_left(at);
	cu->release(at, dev);
	cu->release_host(at, host);
	cu->close(at);
	CHECK("exact/cuda/driver/closes", all_given_back(), "%d contexts, %d modules, %d streams, %d events, %d graphs",
	      contexts, modules, streams, events, graphs);
}

/* The attribute is there only when asked for, on cards that know it. */
static void overlapping_launches(void)
{
	static const struct {
		const char *asked;
		int major, want;
	} cases[] = {{"0", 9, 0}, {"1", 9, 1}, {"1", 8, 0}};
	float y[DIM];
	struct fr_error err;

	for (int i = 0; i < 3; i++) {
		char label[64];
		int rc;

		good_machine();
		machine.major = cases[i].major;
		setenv("FR_RUN_CUDA_PDL", cases[i].asked, 1);
		programmatic = 0;
		rc = same_norm(&fr_cu_driver, y, &err);
		snprintf(label, sizeof label, "exact/cuda/driver/pdl-%s-on-%d", cases[i].asked, cases[i].major);
		CHECK(label, !rc && (programmatic > 0) == cases[i].want, "%d launches with it", programmatic);
	}
	unsetenv("FR_RUN_CUDA_PDL");
}

int main(void)
{
	unsetenv("FR_RUN_CUDA_DEVICE");
	unsetenv("FR_RUN_CUDA_SYNC");
	setenv("FR_SHIM_LAZY", "1", 1);
	missing();
	work();
	same_as_shim();
	overlapping_launches();
	CHECK("exact/cuda/driver/calls", wrong == 0, "%d calls were not as they should be", wrong);
	return test_done();
}

#endif
