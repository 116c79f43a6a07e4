/* The thread pool: every job exactly once, on any number of threads, asleep or awake, one user per worker number. */
#include "../kernels/pool.h"
#include "test.h"

#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_JOBS 5000

struct count {
	atomic_int done[MAX_JOBS];
	atomic_int inside[64]; /* jobs that a worker number is in: never above 1 */
	atomic_int shared, foreign;
	int threads;
};

static void count_job(void *arg, int i, int worker)
{
	struct count *c = arg;

	if (worker < 0 || worker >= c->threads) {
		atomic_fetch_add(&c->foreign, 1);
		return;
	}
	if (atomic_fetch_add(&c->inside[worker], 1) != 0)
		atomic_fetch_add(&c->shared, 1);
	atomic_fetch_add(&c->done[i], 1);
	atomic_fetch_sub(&c->inside[worker], 1);
}

static int wrong_counts(const struct count *c, int n)
{
	int wrong = 0;

	for (int i = 0; i < MAX_JOBS; i++)
		wrong += atomic_load(&c->done[i]) != (i < n);
	return wrong;
}

static void check_once(int threads, int n)
{
	char name[64];
	struct fr_pool *p;
	struct fr_error err;
	struct count *c = calloc(1, sizeof *c);

	snprintf(name, sizeof name, "exact/pool.once/t%d_n%d", threads, n);
	if (fr_pool_new(threads, &p, &err) != 0) {
		test_fail(name, "%s", err.text);
		free(c);
		return;
	}
	c->threads = fr_pool_threads(p);
	fr_pool_run(p, n, count_job, c);
	CHECK(name, c->threads == threads && !wrong_counts(c, n) && !c->shared && !c->foreign,
	      "%d threads, %d jobs not done exactly once, %d worker numbers shared, %d out of range", c->threads,
	      wrong_counts(c, n), c->shared, c->foreign);
	fr_pool_free(p);
	free(c);
}

static void add_job(void *arg, int i, int worker)
{
	long *sum = arg;

	(void)worker;
	sum[i] += i + 1;
}

/* Runs of few tiny jobs back to back, and with pauses in which the workers fall asleep. */
static void check_many_runs(int threads, int runs, int pause_us)
{
	char name[64];
	struct fr_pool *p;
	struct fr_error err;
	long sum[7] = {0}, wrong = 0;

	snprintf(name, sizeof name, "exact/pool.runs/t%d_pause%dus", threads, pause_us);
	if (fr_pool_new(threads, &p, &err) != 0) {
		test_fail(name, "%s", err.text);
		return;
	}
	for (int r = 0; r < runs; r++) {
		fr_pool_run(p, 1 + r % 7, add_job, sum);
		if (pause_us)
			usleep((useconds_t)pause_us);
	}
	for (int i = 0; i < 7; i++)
		for (int r = 0; r < runs; r++)
			wrong += r % 7 >= i ? i + 1 : 0;
	for (int i = 0; i < 7; i++)
		wrong -= sum[i];
	CHECK(name, wrong == 0, "the sums of %d runs are off by %ld", runs, wrong);
	fr_pool_free(p);
}

static void check_new_free(void)
{
	struct fr_pool *p;
	struct fr_error err;
	int failed = 0;

	for (int i = 0; i < 200 && !failed; i++) {
		failed = fr_pool_new(1 + i % 5, &p, &err);
		if (!failed)
			fr_pool_free(p);
	}
	CHECK("exact/pool.new_free", !failed, "%s", err.text);
	CHECK("exact/pool.negative", fr_pool_new(-1, &p, &err) == -1 && err.code == FR_E_USAGE, "accepted -1 threads");
	CHECK("exact/pool.too_many", fr_pool_new(FR_MAX_THREADS + 1, &p, &err) == -1, "accepted %d threads",
	      FR_MAX_THREADS + 1);
}

/* Waiting workers must end up asleep: idle for 200 ms, all of them together may use a tenth of one core. */
static void check_idle(void)
{
	struct fr_pool *p;
	struct fr_error err;
	struct rusage a, b;
	long us;
	long sum[7] = {0};

	if (fr_pool_new(0, &p, &err) != 0) {
		test_fail("exact/pool.idle", "%s", err.text);
		return;
	}
	fr_pool_run(p, 7, add_job, sum);
	getrusage(RUSAGE_SELF, &a);
	usleep(200000);
	getrusage(RUSAGE_SELF, &b);
	us = (b.ru_utime.tv_sec - a.ru_utime.tv_sec + b.ru_stime.tv_sec - a.ru_stime.tv_sec) * 1000000L +
	     b.ru_utime.tv_usec - a.ru_utime.tv_usec + b.ru_stime.tv_usec - a.ru_stime.tv_usec;
	CHECK("exact/pool.idle", us < 20000, "%ld us of CPU time in 200 ms without a job", us);
	fr_pool_free(p);
}

static struct fr_pool *nested_pool;
static void nested_job(void *arg, int i, int worker)
{
	long sum[2] = {0};

	(void)arg, (void)i, (void)worker;
	fr_pool_run(nested_pool, 2, add_job, sum);
}

static void check_nested(void)
{
#ifdef NDEBUG
	test_skip("exact/pool.nested", "assertions are compiled out");
#else
	int status = 0;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		if (!freopen("/dev/null", "w", stderr) || fr_pool_new(2, &nested_pool, NULL) != 0)
			_exit(1);
		signal(SIGABRT, SIG_DFL);
		fr_pool_run(nested_pool, 2, nested_job, NULL);
		_exit(0);
	}
	waitpid(pid, &status, 0);
	CHECK("exact/pool.nested", WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT,
	      "a job that runs its own pool ended with status %d, expected an assertion", status);
#endif
}

int main(void)
{
	static const int threads[] = {1, 2, 3, 8, 33};
	static const int jobs[] = {0, 1, 2, 40, MAX_JOBS};

	for (size_t t = 0; t < sizeof threads / sizeof *threads; t++)
		for (size_t j = 0; j < sizeof jobs / sizeof *jobs; j++)
			check_once(threads[t], jobs[j]);
	check_many_runs(2, 50000, 0);
	check_many_runs(8, 5000, 0);
	check_many_runs(3, 500, 300);
	check_new_free();
	check_idle();
	check_nested();
	return test_done();
}
