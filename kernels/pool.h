/* A thread pool as an object: n workers, the caller being worker 0. */
#ifndef FR_KERNELS_POOL_H
#define FR_KERNELS_POOL_H

#include "../engine/error.h"

#define FR_MAX_THREADS 1024

struct fr_pool;
/* threads 0: sched_getaffinity's count. */
int fr_pool_new(int threads, struct fr_pool **out, struct fr_error *err);
void fr_pool_free(struct fr_pool *p);
/* CPUs that this process may run on, at least 1. */
int fr_pool_cpus(void);
int fr_pool_threads(const struct fr_pool *p);
/* Runs fn(arg, i, worker) for i in 0..n-1, handed out dynamically; returns when all are done. worker < threads, for
 * scratch memory. Results must not depend on which worker ran what. */
void fr_pool_run(struct fr_pool *p, int n, void (*fn)(void *arg, int i, int worker), void *arg);

#endif
