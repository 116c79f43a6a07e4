/* The host shim's simulated driver: memory, streams, recordings, limits, and the faults that it plays on request. */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cuda_host/selftest.h"
#include "test.h"

static const struct fr_cu *cu = &fr_cu_shim;
static struct fr_cu_device *at;
static struct fr_cu_info info;

/* A device with these settings: NAME, VALUE pairs. */
static void reopen(const char *const set[])
{
	static const char *const names[] = {"FR_SHIM_MEMORY", "FR_SHIM_ARCH", "FR_SHIM_LAZY", "FR_SHIM_FAIL",
					    "FR_SHIM_ALLOC_FAIL"};
	struct fr_error err;
	cu->close(at);
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		unsetenv(names[i]);
	for (int i = 0; set[i]; i += 2)
		setenv(set[i], set[i + 1], 1);
	if (cu->open(0, &at, &info, &err))
		abort();
}
#define SET(...)                                                                                                       \
	(const char *const[])                                                                                          \
	{                                                                                                              \
		__VA_ARGS__, NULL                                                                                      \
	}

static int launch(unsigned grid, unsigned threads, unsigned smem, void *out)
{
	struct self_args a = {out, out, out, 0, FAULT_NONE};
	return fr_shim_launch(at, FR_CU_COMPUTE, &fr_shim_self_index, (unsigned[3]){grid, 1, 1}, threads, smem, &a,
			      sizeof a);
}

static void test_memory(void)
{
	void *a, *b, *c;
	size_t room[2], total;
	reopen(SET("FR_SHIM_MEMORY", "16"));
	int rc = cu->alloc(at, 10 << 20, &a);
	CHECK("exact/shim/alloc", !rc && !((uintptr_t)a % 256), "error %d, %p", rc, a);
	cu->room(at, &room[0], &total);
	CHECK("exact/shim/room", room[0] == 6 << 20 && total == 16 << 20, "%zu of %zu", room[0], total);
	rc = cu->alloc(at, (6 << 20) + 1, &b);
	CHECK("exact/shim/out_of_memory", rc == 2 && !b && !strcmp(cu->text(rc), "out of memory"), "error %d %s", rc,
	      cu->text(rc));
	rc = cu->alloc(at, 6 << 20, &b);
	cu->release(at, a);
	int rc2 = cu->alloc(at, 10 << 20, &c);
	CHECK("exact/shim/memory_comes_back", !rc && !rc2 && c != a, "errors %d %d, %p %p", rc, rc2, a, c);
	float nan;
	cu->copy(at, FR_CU_COMPUTE, &nan, (char *)c + (10 << 20) - 4, 4);
	CHECK("exact/shim/fresh_memory_is_nan", nan != nan, "%g", (double)nan);
	rc = cu->copy(at, FR_CU_COMPUTE, (char *)c + 8, a, 4);
	CHECK("exact/shim/copy_of_released",
	      rc == 1 && strstr(cu->text(rc), "a copy from 4 bytes at byte 0 of the released"), "error %d %s", rc,
	      cu->text(rc));
	rc = cu->zero(at, FR_CU_COMPUTE, (char *)b + 8, 6 << 20);
	CHECK("exact/shim/zero_beyond", rc == 1 && strstr(cu->text(rc), "6291456 bytes at byte 8 of allocation"),
	      "error %d %s", rc, cu->text(rc));
	uint32_t word = 7;
	cu->zero(at, FR_CU_COMPUTE, b, 4096);
	cu->copy(at, FR_CU_COMPUTE, c, b, 64);
	cu->copy(at, FR_CU_COMPUTE, &word, (char *)c + 60, 4);
	CHECK("exact/shim/zero_and_copy", word == 0, "%u", word);
	cu->release(at, b);
	cu->release(at, c);
	reopen(SET("FR_SHIM_ALLOC_FAIL", "2"));
	rc = cu->alloc(at, 64, &a);
	rc2 = cu->alloc(at, 64, &b);
	int rc3 = cu->alloc(at, 64, &c);
	CHECK("exact/shim/alloc_fails_on_request", rc == 0 && rc2 == 2 && rc3 == 0, "errors %d %d %d", rc, rc2, rc3);
	cu->release(at, a);
	cu->release(at, c);
}

/* In a child: the parent's output must not be written twice, and it dies. */
static void test_touch(void)
{
	void *p;
	int out[2], status = 0;
	char says[256] = "";
	reopen(SET("FR_SHIM_MEMORY", "16"));
	cu->alloc(at, 4096, &p);
	launch(1, 32, 0, p);
	cu->sync(at, FR_CU_COMPUTE);
	fflush(stdout);
	if (pipe(out))
		abort();
	pid_t child = fork();
	if (!child) {
		dup2(out[1], 2);
		_exit(((volatile unsigned char *)p)[40]);
	}
	close(out[1]);
	if (read(out[0], says, sizeof says - 1) < 0 || waitpid(child, &status, 0) < 0)
		abort();
	close(out[0]);
	CHECK("exact/shim/finds/host_touches_device_memory",
	      WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV && strstr(says, "touched device memory, byte 40 of"),
	      "status %x, \"%s\"", (unsigned)status, says);
	cu->release(at, p);
}

static void refused(const char *name, int rc, const char *says)
{
	char full[80];
	snprintf(full, sizeof full, "exact/shim/refuses/%s", name);
	CHECK(full, rc == 1 && strstr(cu->text(rc), says), "error %d %s, expected \"%s\"", rc, cu->text(rc), says);
}

static void test_limits(void)
{
	void *p;
	struct self_args a = {0};
	reopen(SET("FR_SHIM_ARCH", "89"));
	CHECK("exact/shim/arch_89", info.major == 8 && info.minor == 9 && info.smem_block == 101376 && info.simulated,
	      "%d.%d with %d", info.major, info.minor, info.smem_block);
	cu->alloc(at, 1 << 20, &p);
	refused("shared_memory", launch(1, 32, 101377, p), "101377 bytes of shared memory");
	reopen(SET("FR_SHIM_ARCH", "90"));
	int rc = launch(1, 32, 232448, p);
	CHECK("exact/shim/arch_90", info.major == 9 && info.smem_block == 232448 && rc == 0, "error %d", rc);
	refused("shared_memory_90", launch(1, 32, 232449, p), "232449 bytes of shared memory");
	refused("threads", launch(1, 1025, 0, p), "1025 threads in a block, its bound is 1024");
	refused("no_threads", launch(1, 0, 0, p), "0 threads");
	refused("no_blocks", launch(0, 32, 0, p), "grid 0 x 1 x 1");
	a.in = a.in2 = a.out = p;
	refused("bounds",
		fr_shim_launch(at, FR_CU_COMPUTE, &fr_shim_self_fault, (unsigned[3]){1, 1, 1}, 512, 0, &a, sizeof a),
		"512 threads in a block, its bound is 256");
	refused("grid_y",
		fr_shim_launch(at, FR_CU_COMPUTE, &fr_shim_self_fault, (unsigned[3]){1, 65536, 1}, 32, 0, &a, sizeof a),
		"grid 1 x 65536 x 1");
	refused("arguments",
		fr_shim_launch(at, FR_CU_COMPUTE, &fr_shim_self_fault, (unsigned[3]){1, 1, 1}, 32, 0, &a, sizeof a - 8),
		"bytes of arguments, expected");
	cu->release(at, p);
	reopen(SET("FR_SHIM_FAIL", "2"));
	cu->alloc(at, 4096, &p);
	int one = launch(1, 32, 0, p), two = launch(1, 32, 0, p), three = cu->sync(at, FR_CU_COMPUTE);
	CHECK("exact/shim/launch_fails_on_request",
	      one == 0 && two == 700 && three == 700 && strstr(cu->text(two), "illegal memory access"),
	      "errors %d %d %d", one, two, three);
	reopen(SET("FR_SHIM_MEMORY", "16"));
	rc = launch(1, 32, 0, p);
	CHECK("exact/shim/a_new_device_works", rc == 0, "error %d", rc);
	cu->release(at, p);
}

static uint32_t word(void *p)
{
	uint32_t v = 0;
	cu->copy(at, FR_CU_COMPUTE, &v, p, 4);
	return v;
}

/* The graph writes what its arguments said when it was given them, at each replay. */
static void test_recording(const char *name)
{
	void *p, *pinned, *graph, *q;
	char full[80];
	cu->alloc(at, 4096, &p);
	cu->alloc_host(at, 64, &pinned);
	cu->zero(at, FR_CU_COMPUTE, p, 4096);
	int rc = cu->record_begin(at);
	*(uint32_t *)pinned = 5;
	rc |= launch(1, 32, 0, (char *)p + 1024);
	rc |= cu->copy(at, FR_CU_COMPUTE, p, pinned, 4);
	rc |= cu->copy(at, FR_CU_COMPUTE, (char *)p + 64, (char *)p + 1024 + 28, 4);
	int in_sync = cu->sync(at, FR_CU_COMPUTE), in_alloc = cu->alloc(at, 64, &q);
	int in_flag = cu->flag(at, FR_CU_COMPUTE, 0);
	uint32_t host = 9;
	int in_copy = cu->copy(at, FR_CU_COMPUTE, p, &host, 4);
	rc |= cu->record_end(at, &graph);
	uint32_t before = word(p);
	*(uint32_t *)pinned = 6;
	rc |= cu->replay(at, graph);
	uint32_t first = word(p), kernel = word((char *)p + 64);
	*(uint32_t *)pinned = 7;
	rc |= cu->replay(at, graph);
	uint32_t second = word(p);
	cu->forget(at, graph);
	snprintf(full, sizeof full, "exact/shim/recording%s", name);
	CHECK(full, !rc && before == 0 && first == 6 && kernel == 7 && second == 7, "error %d, words %u %u %u %u", rc,
	      before, first, kernel, second);
	snprintf(full, sizeof full, "exact/shim/refuses/in_recording%s", name);
	CHECK(full, in_sync == 900 && in_alloc == 900 && in_copy == 900 && in_flag == 900,
	      "sync %d, alloc %d, copy %d, flag %d", in_sync, in_alloc, in_copy, in_flag);
	cu->release(at, p);
	cu->release_host(at, pinned);
}

/* With FR_SHIM_LAZY nothing happens before something waits for it. */
static void test_lazy(void)
{
	void *p, *pin;
	reopen(SET("FR_SHIM_LAZY", "1"));
	test_recording("_lazy");
	cu->alloc(at, 4096, &p);
	cu->alloc_host(at, 4096, &pin);
	uint32_t *host = pin, pageable = 3;
	memset(pin, 0, 4096);
	host[0] = 1;
	cu->copy(at, FR_CU_UPLOAD, p, host, 4);
	cu->copy(at, FR_CU_UPLOAD, (char *)p + 4, &pageable, 4);
	cu->flag(at, FR_CU_UPLOAD, 3);
	host[0] = 2, pageable = 4; /* too early for the first, not for the second */
	cu->copy(at, FR_CU_COMPUTE, host + 1, p, 4);
	cu->behind(at, FR_CU_COMPUTE, 3);
	cu->copy(at, FR_CU_COMPUTE, host + 2, p, 8);
	uint32_t early = host[1];
	cu->sync(at, FR_CU_COMPUTE);
	CHECK("exact/shim/lazy", early == 0 && host[1] == 0xffffffffu && host[2] == 2 && host[3] == 3, "%x %x %x %x",
	      early, host[1], host[2], host[3]);
	cu->copy(at, FR_CU_UPLOAD, p, host + 3, 4);
	cu->flag(at, FR_CU_UPLOAD, 4);
	cu->copy(at, FR_CU_UPLOAD, host + 5, p, 4);
	int rc = cu->passed(at, 4) | cu->passed(at, 9);
	host[3] = 8;
	early = host[5];
	cu->sync(at, FR_CU_UPLOAD);
	CHECK("exact/shim/lazy_flag", rc == 0 && early == 0 && host[5] == 3, "error %d, %x %x", rc, early, host[5]);
	struct self_args a = {p, NULL, p, 1024, FAULT_READ};
	int given =
		fr_shim_launch(at, FR_CU_COMPUTE, &fr_shim_self_fault, (unsigned[3]){1, 1, 1}, 32, 512, &a, sizeof a);
	rc = cu->sync(at, FR_CU_COMPUTE);
	CHECK("exact/shim/lazy_error", given == 0 && rc && strstr(cu->text(rc), "kernel self_fault"), "errors %d %d %s",
	      given, rc, cu->text(rc));
	cu->release(at, p);
	cu->release_host(at, pin);
}

int main(void)
{
	float ms = -1;
	if (!freopen("/dev/null", "w", stderr))
		return 1;
	test_memory();
	test_touch();
	test_limits();
	test_recording("");
	test_lazy();
	cu->mark(at, 0);
	cu->mark(at, 1);
	int rc = cu->elapsed(at, &ms);
	CHECK("bounded/shim/elapsed", rc == 0 && ms >= 0 && ms < 10000, "error %d, %g ms", rc, (double)ms);
	cu->close(at);
	return test_done();
}
