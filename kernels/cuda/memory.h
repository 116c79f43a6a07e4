/* What memory.c and upload.c share: the device's blocks, and the pinned memory that host bytes go through. */
#ifndef FR_KERNELS_CUDA_MEMORY_H
#define FR_KERNELS_CUDA_MEMORY_H

#include "cuda.h"

#include <pthread.h>

/* put's staging is FR_CU_PUTS parts of FR_CU_PUT_BYTES: one is filled while the others are on their way. */
#define FR_CU_PUTS 8
#define FR_CU_PUT_BYTES ((size_t)1 << 20)
#define FR_CU_GET_BYTES ((size_t)8 << 20)
/* A reader of the mapped files fills one of two buffers while the other is on the bus. */
#define FR_CU_READERS 4
#define FR_CU_READ_BYTES ((size_t)8 << 20)
/* Matrices of the host in device memory at a time: those that one launch reads, and the next one (fr_cu_near). */
#define FR_CU_NEAR FR_HOME_NEAR

/* Who waits for what by which flag. */
enum {
	FLAG_PUT,			   /* + part */
	FLAG_READ = FLAG_PUT + FR_CU_PUTS, /* + 2 * reader + buffer */
	FLAG_UPLOADED = FLAG_READ + 2 * FR_CU_READERS,
	FLAG_NEAR_ASKED, /* + 0, 1 */
	FLAG_NEAR_THERE = FLAG_NEAR_ASKED + 2,
	FLAGS
};
_Static_assert(FLAGS <= FR_CU_FLAGS, "the driver has that many flags");

struct fr_cu_held {
	void *p;
	size_t bytes;
	int pinned; /* on the host */
};

/* A tensor on its way: rows of `cols` items to rows of `pitch` bytes, zero between; the last row may be shorter where
 * there is nothing between. */
struct fr_cu_job {
	const char *src;
	char *dst;
	enum fr_dtype dtype;
	size_t bytes; /* of dst */
	size_t items, cols, pitch;
	int widen;  /* to float32 */
	int pinned; /* dst is host memory */
};

struct fr_cu_reader {
	struct fr_cuda *d;
	int number;
	pthread_t thread;
	char *buffer[2]; /* pinned, FR_CU_READ_BYTES each */
};

/* Everything below lock is guarded by it. */
struct fr_cu_upload {
	int fresh; /* weights were given that compute does not wait for yet */
	int readers;
	struct fr_cu_reader reader[FR_CU_READERS];
	pthread_mutex_t bus; /* FR_CU_UPLOAD has one caller at a time */
	pthread_mutex_t lock;
	pthread_cond_t work, idle;
	struct fr_cu_job *job;
	size_t jobs, room, next; /* next: the first job that is not handed out completely */
	size_t row;		 /* of it */
	int busy, closing;
	int error; /* the driver's number of the first failure */
};

struct fr_cu_pending {
	void *host;
	const void *pinned;
	size_t bytes;
};

struct fr_cu_mem {
	struct fr_cu_held *held;
	size_t n_held, held_room;
	char *put; /* pinned [FR_CU_PUTS * FR_CU_PUT_BYTES] */
	int put_part;
	size_t put_used;
	char *get; /* pinned [FR_CU_GET_BYTES] */
	size_t get_used;
	struct fr_cu_pending *pending; /* gets, until sync */
	size_t n_pending, pending_room;
	enum fr_home home;
	int n_pinned; /* weights that live on the host */
	char *near[FR_CU_NEAR];
	size_t near_bytes; /* of each */
	unsigned nears;	   /* calls of fr_cu_near that brought something */
	struct fr_cu_upload up;
};

/* Device memory (pinned: of the host) that close frees; not zeroed. */
int fr_cu_take(struct fr_cuda *d, size_t bytes, int pinned, void **out, struct fr_error *err);
/* Room for one more of n items of `size` bytes in the array *at, which has *room. */
int fr_cu_more(void *at, size_t *room, size_t n, size_t size, struct fr_error *err);

/* ---- upload.c ---- */
void fr_cu_upload_init(struct fr_cu_upload *up);
/* Waits for the readers; buffers are freed with everything else. */
void fr_cu_upload_close(struct fr_cuda *d);

#endif
