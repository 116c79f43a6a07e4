/* The parts of the host shim among themselves.
 *
 *   arena.c   device and pinned memory: which allocation an address is in
 *   fiber.c   the threads of a block: stacks, switching, barriers, what orders what
 *   watch.c   every load and store of a kernel: bounds, alignment, races
 *   warp.c    warp functions, tensor core product, number formats
 *   async.c   cp.async
 *   finding.c what is wrong with a kernel or a call, in words
 *   stream.c  launches, copies and waits, in streams and recordings
 *   shim.c    struct fr_cu over it all
 *
 * One thread of the process at a time is inside (shim.c holds a lock), so the state is static. */
#ifndef FR_SHIM_H
#define FR_SHIM_H

#include <time.h>

#include "../../kernels/cuda/cu.h"
#include "runtime.h"

/* Error numbers: the driver's, and one for what the checkers find. */
enum {
	FR_SHIM_INVALID_VALUE = 1,
	FR_SHIM_OUT_OF_MEMORY = 2,
	FR_SHIM_ILLEGAL_ADDRESS = 700,
	FR_SHIM_CAPTURE = 900,
	FR_SHIM_FINDING = 10001
};

/* ---- stream.c ---- */
struct fr_shim_op {
	struct fr_shim_op *next;
	enum fr_shim_kind { FR_SHIM_LAUNCH, FR_SHIM_COPY, FR_SHIM_ZERO, FR_SHIM_MARK, FR_SHIM_BEHIND } kind;
	const struct fr_shim_kernel *kernel;
	unsigned grid[3], threads, smem;
	void *dst;
	const void *src; /* NULL: data */
	size_t bytes;	 /* of the copy, or of the arguments */
	int mark;
	enum fr_cu_stream on; /* BEHIND: that stream up to that number */
	uint64_t upto;
	size_t data_bytes;
	_Alignas(16) unsigned char data[]; /* arguments; what a copy of pageable memory has read */
};
struct fr_shim_graph {
	struct fr_shim_op *first, **last;
};
struct fr_cu_device {
	struct fr_shim_queue {
		struct fr_shim_op *first, **last;
		uint64_t given, done;
	} queue[FR_CU_STREAMS];
	struct fr_shim_graph *recording;
	struct {
		enum fr_cu_stream stream;
		uint64_t upto;
	} flags[FR_CU_FLAGS];
	struct timespec marks[2];
	int late; /* an error that no call has given back yet */
	struct fr_cu_device *next;
};
/* args: of a launch. 0, or an error of this or an earlier piece of work. */
int fr_shim_give(struct fr_cu_device *at, enum fr_cu_stream stream, const struct fr_shim_op *o, const void *args);
int fr_shim_drain(struct fr_cu_device *at, enum fr_cu_stream stream);
void fr_shim_drain_all(void);
int fr_shim_flag(struct fr_cu_device *at, enum fr_cu_stream stream, int i);
int fr_shim_behind(struct fr_cu_device *at, enum fr_cu_stream stream, int i);
int fr_shim_passed(struct fr_cu_device *at, int i);
int fr_shim_replay(struct fr_cu_device *at, const struct fr_shim_graph *g);
void fr_shim_forget(struct fr_shim_graph *g);
void fr_shim_device_add(struct fr_cu_device *at);
void fr_shim_device_remove(struct fr_cu_device *at);

/* ---- shim.c ---- */
extern struct fr_shim_set {
	size_t memory;			  /* bytes */
	unsigned fail_launch, fail_alloc; /* 0: none */
	int lazy;
	unsigned arch;
	int smem_block;
} fr_shim_set;
extern int fr_shim_dead; /* the error that ended the device */

#define FR_SHIM_WARPS 32
#define FR_SHIM_THREADS (32 * FR_SHIM_WARPS)

/* ---- fiber.c ---- */
struct fr_shim_warp {
	uint32_t ready; /* lanes that can run */
	uint32_t live;	/* lanes that have not returned */
	uint32_t here;	/* lanes at the warp function that is being gathered */
	const char *at; /* its name */
	int turn;	/* which half of in: a lane may be one function ahead of a lane that has yet to fetch */
	uint32_t in[2][32][4];
	struct fr_shim_mma_in {
		uint32_t a[4], b[2];
		float c[4];
	} mma[2][32];
};
extern struct fr_shim_warp fr_shim_warps[FR_SHIM_WARPS];
/* fr_shim_know[w][v]: accesses by warp v in its epochs below this one come before what warp w does now. [w][w] is w's
 * own epoch, which grows at each barrier and fr_syncwarp. */
extern uint32_t fr_shim_know[FR_SHIM_WARPS][FR_SHIM_WARPS];
#define FR_SHIM_EPOCH_BITS 18
#define FR_SHIM_EPOCHS ((1u << FR_SHIM_EPOCH_BITS) - 1)
/* Gathers 32 lanes at a warp function; 1 for the lane that came last, which is to compute for all before it yields.
 * w->turn is which half of the warp's buffers to fill before. `orders`: memory accesses, too. */
int fr_shim_meet(struct fr_shim_warp *w, const char *name, int orders);
/* Runs one block to its end; -1 after a finding that stopped it. */
int fr_shim_block(const struct fr_shim_kernel *k, const void *args);
/* Leaves the block from inside of a fiber; does not return. */
_Noreturn void fr_shim_stop(void);
int fr_shim_fibers_open(void);
extern unsigned char *fr_shim_stacks; /* stacks and the copy of the arguments: not watched */
extern size_t fr_shim_stacks_bytes;
extern int fr_shim_running;

/* ---- watch.c ---- */
int fr_shim_watch_open(void);
/* A launch and a block of it begin; smem is filled with NaN bytes. */
void fr_shim_watch_launch(unsigned smem_bytes);
void fr_shim_watch_block(void);
/* Forgets which kernels wrote what: everything given so far comes before what follows. */
void fr_shim_watch_ordered(void);
void fr_shim_watch_epochs(void); /* the epochs start again at 1 */
/* The access of the thread that runs now, made by the shim in its place. align 0: any. */
void fr_shim_touch(const void *p, size_t n, int write, size_t align);
/* cp.async: [p, p + 16) of shared memory is on its way, or there; or nobody waits for it any more. */
void fr_shim_touch_pending(void *p, int pending);
void fr_shim_forget_pending(void *p);
int fr_shim_waited(unsigned thread);

/* ---- async.c ---- */
void fr_shim_async_block(void); /* a block begins */

/* ---- arena.c ---- */
struct fr_shim_alloc {
	uintptr_t base;
	size_t bytes;
	int live;
	unsigned number;
};
int fr_shim_arena_open(void);
extern uintptr_t fr_shim_arena, fr_shim_arena_top; /* the range that was ever given out */
extern size_t fr_shim_used;
int fr_shim_arena_alloc(size_t bytes, void **out);
int fr_shim_arena_release(void *p);
const struct fr_shim_alloc *fr_shim_find(uintptr_t p); /* the allocation at or before p, live or not; NULL: none */
void fr_shim_arena_access(int on);

int fr_shim_pinned(uintptr_t p, size_t n); /* within memory of alloc_host (shim.c) */
int fr_shim_in_arena(uintptr_t p);

/* ---- finding.c ---- */
extern int fr_shim_findings; /* of this launch */
/* Takes note of a finding; printed and kept for text(). `stop`: the block cannot go on. */
__attribute__((format(printf, 2, 3))) void fr_shim_finding(int stop, const char *format, ...);
void fr_shim_findings_begin(const char *kernel);
const char *fr_shim_finding_text(void);
/* A call that a driver would refuse: printed, kept for text(); gives FR_SHIM_INVALID_VALUE. */
__attribute__((format(printf, 1, 2))) int fr_shim_refuse(const char *format, ...);
const char *fr_shim_refused(void);
/* "byte 4 of 100 of allocation 3", "shared byte 12 of 64", "a host pointer". */
const char *fr_shim_where(uintptr_t p, char buf[160]);

#endif
