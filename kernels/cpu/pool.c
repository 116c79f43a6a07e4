/* The thread pool: jobs of a run are handed out by one atomic counter, the caller works as worker 0.
 *
 * A run is a generation. Workers join the open generation by compare-and-swap on one word (generation, open bit, number
 * joined); the caller closes it once the counter is used up and waits for those who joined, so a worker that is still
 * asleep, or that the system gave no core, is never waited for. Who waits spins for some microseconds first, because
 * the next run of a forward pass is never far, then sleeps on a futex; with more threads than cores nobody spins. */
#include "../pool.h"

#include <assert.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define OPEN (UINT64_C(1) << 31)
#define JOINED (OPEN - 1)
#define GENERATION (UINT64_C(1) << 32)
#define SPINS 2000 /* pause takes some 40 cycles: about 25 us, several times what waking a sleeper costs */
#define LINE 64

struct fr_pool {
	int threads, spins, started, busy;
	pthread_t *thread;
	struct worker *worker;
	int n;
	void (*fn)(void *arg, int i, int worker);
	void *arg;
	_Alignas(LINE) _Atomic uint64_t state;
	_Alignas(LINE) atomic_int next;
	_Alignas(LINE) _Atomic uint32_t wake; /* futex of the workers: changes with every run and at the end */
	atomic_int asleep;
	_Alignas(LINE) _Atomic uint32_t left; /* futex of the caller: changes when the last joined worker leaves */
	atomic_int waiting;
	atomic_int stop;
};

struct worker {
	struct fr_pool *pool;
	int number;
};

static void futex_wait(_Atomic uint32_t *word, uint32_t seen)
{
	syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *word, int n)
{
	syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, n, NULL, NULL, 0);
}

static void take_jobs(struct fr_pool *p, int worker)
{
	int i;

	while ((i = atomic_fetch_add_explicit(&p->next, 1, memory_order_relaxed)) < p->n)
		p->fn(p->arg, i, worker);
}

/* Joins generation `state` belongs to, works, leaves. Returns 0 if it closed before joining. */
static int work(struct fr_pool *p, uint64_t state, int worker)
{
	uint64_t generation = state / GENERATION;

	do {
		if (!(state & OPEN) || state / GENERATION != generation)
			return 0;
	} while (!atomic_compare_exchange_weak(&p->state, &state, state + 1));
	take_jobs(p, worker);
	state = atomic_fetch_sub(&p->state, 1) - 1;
	if (!(state & OPEN) && !(state & JOINED)) {
		atomic_fetch_add(&p->left, 1);
		if (atomic_load(&p->waiting))
			futex_wake(&p->left, 1);
	}
	return 1;
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;
	struct fr_pool *p = w->pool;
	uint64_t seen = 0;
	int spin = 0;

	while (!atomic_load(&p->stop)) {
		uint32_t wake = atomic_load(&p->wake);
		uint64_t state = atomic_load(&p->state);

		if (state & OPEN && state / GENERATION != seen) {
			seen = state / GENERATION;
			spin = 0;
			work(p, state, w->number);
		} else if (spin < p->spins) {
			spin++;
			__builtin_ia32_pause();
		} else {
			/* A run that starts from here on changes `wake`, so the kernel does not let us sleep through
			 * it. */
			atomic_fetch_add(&p->asleep, 1);
			if (atomic_load(&p->wake) == wake && !atomic_load(&p->stop))
				futex_wait(&p->wake, wake);
			atomic_fetch_sub(&p->asleep, 1);
			spin = 0;
		}
	}
	return NULL;
}

int fr_pool_cpus(void)
{
	cpu_set_t set;
	int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : (int)sysconf(_SC_NPROCESSORS_ONLN);

	return n < 1 ? 1 : n;
}

int fr_pool_new(int threads, struct fr_pool **out, struct fr_error *err)
{
	int cpus = fr_pool_cpus();
	int rc;
	struct fr_pool *p;

	if (threads < 0 || threads > FR_MAX_THREADS)
		return fr_fail(err, FR_E_USAGE, "%d threads asked for, expected 0 (all CPUs) to %d", threads,
			       FR_MAX_THREADS);
	if (threads == 0)
		threads = cpus < FR_MAX_THREADS ? cpus : FR_MAX_THREADS;
	p = aligned_alloc(LINE, sizeof *p);
	if (!p)
		return fr_fail(err, FR_E_MEMORY, "cannot allocate a pool of %d threads", threads);
	memset(p, 0, sizeof *p);
	p->threads = threads;
	p->spins = threads > cpus ? 0 : SPINS;
	p->thread = calloc((size_t)threads, sizeof *p->thread);
	p->worker = calloc((size_t)threads, sizeof *p->worker);
	if (!p->thread || !p->worker) {
		fr_pool_free(p);
		return fr_fail(err, FR_E_MEMORY, "cannot allocate a pool of %d threads", threads);
	}
	for (int i = 1; i < threads; i++) {
		p->worker[i] = (struct worker){p, i};
		rc = pthread_create(&p->thread[i], NULL, worker_main, &p->worker[i]);
		if (rc != 0) {
			fr_pool_free(p);
			return fr_fail(err, FR_E_MEMORY, "cannot start thread %d of %d: %s", i + 1, threads,
				       strerror(rc));
		}
		p->started = i;
	}
	*out = p;
	return 0;
}

void fr_pool_free(struct fr_pool *p)
{
	if (!p)
		return;
	atomic_store(&p->stop, 1);
	atomic_fetch_add(&p->wake, 1);
	futex_wake(&p->wake, p->threads);
	for (int i = 1; i <= p->started; i++)
		pthread_join(p->thread[i], NULL);
	free(p->thread);
	free(p->worker);
	free(p);
}

int fr_pool_threads(const struct fr_pool *p)
{
	return p->threads;
}

/* Until nobody of the closed generation is left inside. */
static void wait_for_joined(struct fr_pool *p)
{
	for (int spin = 0; atomic_load(&p->state) & JOINED;) {
		uint32_t left = atomic_load(&p->left);

		if (spin < p->spins) {
			spin++;
			__builtin_ia32_pause();
			continue;
		}
		atomic_store(&p->waiting, 1);
		if (atomic_load(&p->state) & JOINED)
			futex_wait(&p->left, left);
		atomic_store(&p->waiting, 0);
	}
}

void fr_pool_run(struct fr_pool *p, int n, void (*fn)(void *arg, int i, int worker), void *arg)
{
	uint64_t state;

	assert(!p->busy && "a job must not run the pool it is in");
	p->busy = 1;
	if (p->threads == 1 || n <= 1) {
		for (int i = 0; i < n; i++)
			fn(arg, i, 0);
		p->busy = 0;
		return;
	}
	p->n = n;
	p->fn = fn;
	p->arg = arg;
	atomic_store_explicit(&p->next, 0, memory_order_relaxed);
	state = atomic_load(&p->state);
	atomic_store(&p->state, (state / GENERATION + 1) * GENERATION | OPEN);
	atomic_fetch_add(&p->wake, 1);
	if (atomic_load(&p->asleep))
		futex_wake(&p->wake, n - 1 < p->threads - 1 ? n - 1 : p->threads - 1);
	take_jobs(p, 0);
	atomic_fetch_and(&p->state, ~OPEN);
	wait_for_joined(p);
	p->busy = 0;
}
