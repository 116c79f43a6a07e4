/* Device memory and uploads of the cuda instance, on the host shim: what put, get and copy move, how weights lie, what
 * is said when memory is short or the device has failed, and that close leaves nothing behind. */
#include "../kernels/cuda/cuda.h"
#include "cuda_host/host.h"
#include "test.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static uint64_t state = 1;

static uint32_t noise(void)
{
	state = state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(state >> 32);
}

static void *noise_bytes(size_t n)
{
	unsigned char *p = malloc(n + 8);

	for (size_t i = 0; i < n; i++)
		p[i] = (unsigned char)noise();
	return p;
}

static struct fr_dev *open_dev(struct fr_error *err)
{
	struct fr_dev *dev = NULL;

	*err = (struct fr_error){0};
	if (fr_cuda_open(&(struct fr_dev_opts){0}, &dev, err) != 0)
		return NULL;
	return dev;
}

/* Where the simulation itself does not open nothing can be told. */
static struct fr_dev *need_dev(struct fr_error *err)
{
	struct fr_dev *dev = open_dev(err);

	if (!dev) {
		test_fail("exact/cuda/memory/open", "%s", err->text);
		exit(test_done());
	}
	return dev;
}

/* ---- bytes ---- */

/* Odd pieces, larger and smaller than the staging, there and back; the host's bytes may change once put returns. */
static void bytes_there_and_back(void)
{
	static const size_t pieces[] = {1, 3, 4096, 65537, 1 << 20, (1 << 20) + 1, 9437185};
	const size_t n = 12 << 20;
	unsigned char *want = noise_bytes(n), *sent = malloc(n), *got = calloc(1, n);
	struct fr_error err;
	struct fr_dev *dev = need_dev(&err);
	void *a, *b;
	size_t at = 0;

	if (dev->ops->alloc(dev, n, &a, &err) || dev->ops->alloc(dev, n, &b, &err)) {
		test_fail("exact/cuda/memory/bytes", "%s", err.text);
		return;
	}
	dev->ops->get(dev, got, a, n);
	CHECK("exact/cuda/memory/zeroed",
	      dev->ops->sync(dev, &err) == 0 && got[0] == 0 && memcmp(got, got + 1, n - 1) == 0,
	      "new memory is not zero");
	for (size_t i = 0; at < n; i = (i + 1) % (sizeof pieces / sizeof *pieces)) {
		const size_t some = n - at < pieces[i] ? n - at : pieces[i];

		memcpy(sent, want + at, some);
		dev->ops->put(dev, (char *)a + at, sent, some);
		memset(sent, 0, some);
		at += some;
	}
	dev->ops->copy(dev, b, a, n);
	for (size_t i = 3, some; i != 0 || at; at -= some, i = (i + 1) % (sizeof pieces / sizeof *pieces)) {
		some = at < pieces[i] ? at : pieces[i];
		dev->ops->get(dev, got + at - some, (char *)b + at - some, some);
		if (at == some)
			break;
	}
	CHECK("exact/cuda/memory/put-copy-get", dev->ops->sync(dev, &err) == 0 && memcmp(got, want, n) == 0,
	      "the bytes changed on their way");
	memset(got, 0, 64);
	dev->ops->get(dev, got, a, 64);
	CHECK("exact/cuda/memory/get-waits-for-sync", got[0] == 0 && got[63] == 0, "get wrote before sync");
	dev->ops->release(dev, a, n);
	dev->ops->release(dev, b, n);
	CHECK("exact/cuda/memory/held", dev->held == 0, "%zu bytes are held", dev->held);
	dev->ops->close(dev);
	CHECK("exact/cuda/memory/nothing-left", fr_shim_used == 0, "%zu bytes of device memory are left", fr_shim_used);
	free(want), free(sent), free(got);
}

/* ---- weights ---- */

#define WEIGHTS 200
static const enum fr_dtype types[3] = {FR_F32, FR_F16, FR_BF16};

static struct fr_tensor tensor(int rows, int cols, enum fr_dtype dtype)
{
	const size_t bytes = (size_t)rows * (size_t)cols * (size_t)fr_dtypes[dtype].bytes;

	return (struct fr_tensor){.name = "w",
				  .file = "f",
				  .dtype = dtype,
				  .ndim = 2,
				  .shape = {rows, cols},
				  .data = noise_bytes(bytes),
				  .bytes = bytes};
}

/* Rows at fr_pitch, the tensor's own bytes, zero behind them. */
static int lies_well(const struct fr_tensor *t, const struct fr_mat *m, const char *at)
{
	const size_t size = (size_t)fr_dtypes[t->dtype].bytes, row = (size_t)t->shape[1] * size;
	const size_t pitch = (size_t)fr_pitch((int)t->shape[1]) * size;
	static const char zero[64];

	if (m->dtype != t->dtype || m->rows != t->shape[0] || m->cols != t->shape[1])
		return 0;
	for (int64_t r = 0; r < t->shape[0]; r++, at += pitch)
		if (memcmp(at, (const char *)t->data + (size_t)r * row, row) || memcmp(at + row, zero, pitch - row))
			return 0;
	return 1;
}

static size_t pitched_bytes(const struct fr_tensor *t)
{
	return (size_t)t->shape[0] * (size_t)fr_pitch((int)t->shape[1]) * (size_t)fr_dtypes[t->dtype].bytes;
}

static void weights(void)
{
	struct fr_error err;
	struct fr_dev *dev = need_dev(&err);
	static struct fr_tensor t[WEIGHTS];
	static struct fr_mat m[WEIGHTS];
	int wrong = 0;

	for (int i = 0; i < WEIGHTS; i++) {
		t[i] = tensor(i ? 1 + (int)(noise() % 40) : 9001, i ? 1 + (int)(noise() % 200) : 613, types[i % 3]);
		if (dev->ops->weight(dev, &t[i], &m[i], &err))
			test_fail("exact/cuda/memory/weights", "%s", err.text);
	}
	for (int i = 0; i < WEIGHTS; i++) {
		char *got = malloc(pitched_bytes(&t[i]));

		dev->ops->get(dev, got, m[i].data, pitched_bytes(&t[i]));
		if (dev->ops->sync(dev, &err) || !lies_well(&t[i], &m[i], got))
			wrong++;
		free(got);
	}
	CHECK("exact/cuda/memory/weights", wrong == 0, "%d of %d lie differently", wrong, WEIGHTS);
	t[0] = (struct fr_tensor){.name = "w",
				  .file = "f",
				  .dtype = FR_Q8_0,
				  .ndim = 2,
				  .shape = {1, 32},
				  .bytes = 34,
				  .data = t[0].data};
	CHECK("exact/cuda/memory/quantised", dev->ops->weight(dev, &t[0], &m[0], &err) && strstr(err.text, "is q8_0"),
	      "%s", err.text);
	CHECK("exact/cuda/memory/act-dtype", ((struct fr_cuda *)dev)->act_dtype == types[(WEIGHTS - 1) % 3], "type %d",
	      ((struct fr_cuda *)dev)->act_dtype);
	dev->ops->close(dev);
	for (int i = 0; i < WEIGHTS; i++)
		free((void *)t[i].data);
	CHECK("exact/cuda/memory/weights-freed", fr_shim_used == 0, "%zu bytes are left", fr_shim_used);
}

static void vectors(void)
{
	static const int sizes[] = {1, 7, 1024, 70001, 3000000};
	struct fr_error err;
	struct fr_dev *dev = need_dev(&err);
	int wrong = 0;

	for (int i = 0; i < 15; i++) {
		struct fr_tensor t = tensor(sizes[i / 3], 1, types[i % 3]);
		const size_t n = (size_t)sizes[i / 3];
		float *want = malloc(n * sizeof *want), *got = malloc(n * sizeof *got);
		const float *p;

		t.ndim = 1;
		fr_to_f32(t.dtype, t.data, want, n);
		if (dev->ops->vector(dev, &t, &p, &err) == 0 && dev->ops->sync(dev, &err) == 0)
			dev->ops->get(dev, got, p, n * sizeof *got);
		if (dev->ops->sync(dev, &err) || memcmp(got, want, n * sizeof *got))
			wrong++;
		free(want), free(got), free((void *)t.data);
	}
	CHECK("exact/cuda/memory/vectors", wrong == 0, "%d of 15 differ", wrong);
	dev->ops->close(dev);
}

/* A type or a shape that no device takes. */
static void refused(void)
{
	struct fr_error err;
	struct fr_dev *dev = need_dev(&err);
	struct fr_tensor t = tensor(2, 3, FR_F32);
	struct fr_mat m;
	const float *v;

	t.dtype = FR_I32;
	CHECK("exact/cuda/memory/refuses-type",
	      dev->ops->weight(dev, &t, &m, &err) && err.code == FR_E_MODEL && strstr(err.text, "i32"), "%s", err.text);
	CHECK("exact/cuda/memory/refuses-vector-type",
	      dev->ops->vector(dev, &t, &v, &err) && err.code == FR_E_MODEL && strstr(err.text, "i32"), "%s", err.text);
	t.dtype = FR_F32;
	t.shape[1] = FR_MAX_COLS + 1;
	CHECK("exact/cuda/memory/refuses-width",
	      dev->ops->weight(dev, &t, &m, &err) && err.code == FR_E_MODEL && strstr(err.text, "columns"), "%s",
	      err.text);
	dev->ops->close(dev);
	free((void *)t.data);
}

/* Launches that read n matrices each, none of them waited for: what a launch reads is still there when it runs. A get
 * stands for the launch. */
static int near_launches(struct fr_dev *dev, const struct fr_tensor *t, const struct fr_mat *m, int matrices, int n)
{
	struct fr_cuda *d = (struct fr_cuda *)dev;
	struct fr_error err;
	char *got[16];
	int lost = 0;

	for (int i = 0; i < matrices; i += n) {
		struct fr_mat near[FR_MAX_ALSO];

		for (int j = 0; j < n; j++)
			near[j] = fr_cu_near(d, &m[i + j], FR_PREFILL);
		for (int j = 0; j < n; j++) {
			got[i + j] = calloc(1, pitched_bytes(&t[i + j]));
			dev->ops->get(dev, got[i + j], near[j].data, pitched_bytes(&t[i + j]));
		}
	}
	/* The copies run ahead of the launches as far as their flags let them. */
	lost += d->cu->sync(d->at, FR_CU_UPLOAD) != 0 || dev->ops->sync(dev, &err) != 0;
	for (int i = 0; i < matrices; i++) {
		lost += !lies_well(&t[i], &m[i], got[i]);
		free(got[i]);
	}
	return lost;
}

/* Weights on the host: read where they are in decode, brought one after the other into device buffers for prefill. */
static void home_host(void)
{
	struct fr_error err;
	struct fr_dev *dev = need_dev(&err);
	struct fr_cuda *d = (struct fr_cuda *)dev;
	struct fr_tensor t[9];
	struct fr_mat m[9], last[FR_MAX_ALSO];
	int wrong = 0, lost = 0, same = 0;

	for (int i = 0; i < 9; i++) {
		t[i] = tensor(3 + 5 * i, 11 + 7 * i, types[i % 3]);
		dev->ops->home(dev, i < 8 ? FR_HOME_HOST : FR_HOME_DEVICE);
		if (dev->ops->weight(dev, &t[i], &m[i], &err))
			test_fail("exact/cuda/memory/home-host", "%s", err.text);
	}
	if (dev->ops->sync(dev, &err))
		test_fail("exact/cuda/memory/home-host", "%s", err.text);
	for (int i = 0; i < 8; i++)
		wrong += !lies_well(&t[i], &m[i], m[i].data);
	CHECK("exact/cuda/memory/home-host", wrong == 0, "%d of 8 lie differently", wrong);
	for (int i = 0; i < 9; i++) {
		last[i % FR_MAX_ALSO] = fr_cu_near(d, &m[i], FR_PREFILL);
		same += fr_cu_near(d, &m[i], FR_DECODE).data == m[i].data;
		/* The last FR_MAX_ALSO of them are all there. */
		for (int j = i; j >= 0 && j > i - FR_MAX_ALSO; j--) {
			char *got = malloc(pitched_bytes(&t[j]));

			dev->ops->get(dev, got, last[j % FR_MAX_ALSO].data, pitched_bytes(&t[j]));
			lost += dev->ops->sync(dev, &err) || !lies_well(&t[j], &last[j % FR_MAX_ALSO], got);
			free(got);
		}
	}
	CHECK("exact/cuda/memory/near-prefill", lost == 0 && last[0].data != m[6].data && last[2].data == m[8].data,
	      "%d are not what they should be", lost);
	lost = near_launches(dev, t, m, 9, 1) + near_launches(dev, t, m, 8, 2) + near_launches(dev, t, m, 9, 3);
	CHECK("exact/cuda/memory/near-launches", lost == 0, "%d were overwritten before they were read", lost);
	CHECK("exact/cuda/memory/near-decode", same == 9, "%d of 9 are read where they are", same);
	dev->ops->close(dev);
	CHECK("exact/cuda/memory/home-host-freed", fr_shim_used == 0, "%zu bytes are left", fr_shim_used);
	for (int i = 0; i < 9; i++)
		free((void *)t[i].data);
}

/* ---- faults ---- */

static void too_little(void)
{
	struct fr_error err;
	struct fr_dev *dev;
	size_t left, total;
	void *p;

	setenv("FR_SHIM_MEMORY", "64", 1);
	dev = need_dev(&err);
	CHECK("exact/cuda/memory/short",
	      dev->ops->alloc(dev, 100 << 20, &p, &err) && err.code == FR_E_MEMORY &&
		      strstr(err.text, "104857600 bytes (100.0 MiB)") && strstr(err.text, "of 64.0 MiB are free"),
	      "%s", err.text);
	CHECK("exact/cuda/memory/short-goes-on",
	      dev->ops->alloc(dev, 10 << 20, &p, &err) == 0 && dev->ops->sync(dev, &err) == 0, "%s", err.text);
	dev->ops->room(dev, &left, &total);
	CHECK("exact/cuda/memory/room", total == 64 << 20 && left <= 54 << 20, "%zu of %zu", left, total);
	dev->ops->close(dev);
	unsetenv("FR_SHIM_MEMORY");
}

/* The n-th allocation of opening, of weights on both sides, fails: one sentence each time, and nothing is left. */
static void each_allocation_fails(void)
{
	struct fr_tensor t = tensor(5, 9, FR_BF16);
	int failed = 0, said = 0, through = 0;

	for (int n = 1; n < 40 && !through; n++) {
		char text[16];
		struct fr_error err;
		struct fr_dev *dev;
		struct fr_mat m;
		void *p;

		snprintf(text, sizeof text, "%d", n);
		setenv("FR_SHIM_ALLOC_FAIL", text, 1);
		dev = open_dev(&err);
		if (dev) {
			int rc = dev->ops->alloc(dev, 100, &p, &err) || dev->ops->weight(dev, &t, &m, &err);

			if (!rc) {
				dev->ops->home(dev, FR_HOME_HOST);
				rc = dev->ops->weight(dev, &t, &m, &err) || dev->ops->sync(dev, &err);
			}
			through = !rc;
			dev->ops->close(dev);
		}
		failed += !through;
		said += !through && err.code == FR_E_MEMORY && strstr(err.text, "memory");
	}
	unsetenv("FR_SHIM_ALLOC_FAIL");
	CHECK("exact/cuda/memory/each-allocation-fails", through && failed > 5 && said == failed && fr_shim_used == 0,
	      "%d of %d failures said so, %zu bytes are left", said, failed, fr_shim_used);
	free((void *)t.data);
}

static void two_norms(struct fr_dev *dev, const float *x, float *y)
{
	dev->ops->norm(dev, &(struct fr_norm){.x = x, .weight = x, .eps = 1e-5f, .y = y, .rows = 1, .dim = 64});
	dev->ops->norm(dev, &(struct fr_norm){.x = y, .weight = x, .eps = 1e-5f, .y = y, .rows = 1, .dim = 64});
}

/* An error in a kernel: sync names it, and from then on everything says the same. late: kernels run when something
 * waits for them, as on a device. */
static void sticky(const char *late, const char *sync_each, const char *where, int doubt)
{
	struct fr_error err, again;
	struct fr_dev *dev;
	void *x, *y;

	setenv("FR_SHIM_LAZY", late, 1);
	setenv("FR_RUN_CUDA_SYNC", sync_each, 1);
	setenv("FR_SHIM_FAIL", "2", 1);
	dev = need_dev(&err);
	if (dev->ops->alloc(dev, 256, &x, &err) || dev->ops->alloc(dev, 256, &y, &err)) {
		test_fail("exact/cuda/memory/sticky", "%s", err.text);
		return;
	}
	two_norms(dev, x, y);
	two_norms(dev, x, y);
	CHECK("exact/cuda/memory/sticky",
	      dev->ops->sync(dev, &err) && err.code == FR_E_DEVICE && strstr(err.text, where) &&
		      !strstr(err.text, "an earlier launch may be the cause") == !doubt,
	      "late %s, waiting %s: %s", late, sync_each, err.text);
	two_norms(dev, x, y);
	CHECK("exact/cuda/memory/sticky-sync", dev->ops->sync(dev, &again) && strcmp(again.text, err.text) == 0, "%s",
	      again.text);
	CHECK("exact/cuda/memory/sticky-alloc",
	      dev->ops->alloc(dev, 256, &x, &again) && strcmp(again.text, err.text) == 0, "%s", again.text);
	dev->ops->close(dev);
	unsetenv("FR_SHIM_FAIL");
	unsetenv("FR_RUN_CUDA_SYNC");
	unsetenv("FR_SHIM_LAZY");
	dev = open_dev(&err);
	CHECK("exact/cuda/memory/opens-again", dev && fr_shim_used == 0, "%s, %zu bytes are left", err.text,
	      fr_shim_used);
	if (dev)
		dev->ops->close(dev);
}

static void on_bus(int sig, siginfo_t *info, void *context)
{
	const char *file = fr_map_at(info->si_addr);

	(void)sig, (void)context;
	_exit(file && strstr(file, "fr-run-shrinks") ? 42 : 43);
}

/* A file that shrinks faults in a reader: the process's handler gets it, with the address of the mapping. */
static void file_shrinks(void)
{
	char path[] = "/tmp/fr-run-shrinks.XXXXXX";
	const int fd = mkstemp(path);
	const pid_t child = ftruncate(fd, 1 << 20) == 0 ? fork() : -1;
	int status = 0;

	if (child == 0) {
		struct sigaction bus = {.sa_sigaction = on_bus, .sa_flags = SA_SIGINFO};
		struct fr_tensor t = {.name = "w", .file = "f", .dtype = FR_F32, .ndim = 2, .shape = {512, 512}};
		struct fr_error err;
		struct fr_dev *dev;
		struct fr_mat m;
		const uint8_t *bytes;
		size_t size;

		sigaction(SIGBUS, &bus, NULL);
		dev = open_dev(&err);
		if (!dev || fr_map_open(path, &bytes, &size, &err) || ftruncate(fd, 8192))
			_exit(1);
		t.data = bytes;
		t.bytes = size;
		_exit(dev->ops->weight(dev, &t, &m, &err) || dev->ops->sync(dev, &err) ? 2 : 0);
	}
	if (child > 0)
		waitpid(child, &status, 0);
	close(fd);
	unlink(path);
	CHECK("exact/cuda/memory/file-shrinks", child > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 42,
	      "status %#x", (unsigned)status);
}

int main(void)
{
	unsetenv("FR_SHIM_MEMORY");
	unsetenv("FR_SHIM_FAIL");
	unsetenv("FR_SHIM_ALLOC_FAIL");
	file_shrinks();
	refused();
	too_little();
	each_allocation_fails();
	for (int late = 0; late < 2; late++) {
		setenv("FR_SHIM_LAZY", late ? "1" : "0", 1);
		bytes_there_and_back();
		weights();
		vectors();
		home_host();
	}
	sticky("0", "0", "host shim: kernel fr_norm_row, launch 2 since the last wait: ", 1);
	sticky("1", "0", "host shim: waiting for the device, after launch 4 (fr_norm_row): ", 1);
	sticky("1", "1", "host shim: kernel fr_norm_row, launch 2 since the last wait: ", 0);
	return test_done();
}
