/* Every load and store of a kernel: the compiler, asked for thread sanitizing, puts a call to __tsan_readN or
 * __tsan_writeN before each; here are those functions (libtsan is not linked). Stacks are ignored; device and shared
 * memory are checked for bounds, alignment and races.
 *
 * RACES ON SHARED MEMORY. Per 4-byte word: the last thread that wrote, the last that read, and the last reader of
 * another warp, each with its warp's epoch and the bytes. Two accesses of different threads, one of them a write, are
 * in order when the later one's warp knows the earlier one's epoch (fiber.c). Threads run one after another here, so
 * which of the two came first does not matter. What is found is a race; not every race is found: a word remembers one
 * writer and two readers.
 *
 * RACES ON DEVICE MEMORY. Per 4-byte word: the last block that wrote and the one that read, with the bytes. Blocks of a
 * launch are in no order. A read before FR_WAIT of what a kernel wrote since the stream last drained is a race too. */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "host.h"

#define ARENA ((size_t)64 << 30)
#define MASK_SHIFT FR_SHIM_EPOCH_BITS
#define THREAD_SHIFT (FR_SHIM_EPOCH_BITS + 4)

struct shared_word {
	uint32_t wrote, read, read_other; /* thread << 22 | bytes << 18 | epoch; 0: none */
	uint32_t pending;		  /* 1 + the thread whose cp.async is under way */
};
struct device_word {
	uint32_t wrote; /* block << 4 | bytes; blocks are numbered from 1 over all launches */
	uint32_t read;	/* block << 6 | READ_CONST | READ_SEVERAL | bytes */
};
enum { READ_SEVERAL = 16, READ_CONST = 32 }; /* by several blocks; by fr_ld_stream or fr_ld_const */
#define MAX_BLOCKS (1u << 26)

static struct shared_word shared[FR_SHIM_SMEM_MAX / 4];
static struct device_word *device;
static uintptr_t smem0;
static unsigned smem_bytes;
static uint32_t block, launch_first, ordered_first; /* numbers of blocks */
static unsigned char waited[FR_SHIM_THREADS];
extern char __executable_start, _end;

int fr_shim_watch_open(void)
{
	if (device)
		return 0;
	void *p = mmap(NULL, ARENA / 4 * sizeof *device, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return -1;
	device = p;
	smem0 = (uintptr_t)fr_shim_smem + FR_SHIM_SMEM_GUARD;
	block = 1;
	return 0;
}

void fr_shim_watch_launch(unsigned bytes)
{
	if (block > MAX_BLOCKS / 2) {
		madvise(device, ARENA / 4 * sizeof *device, MADV_DONTNEED);
		block = 1;
		ordered_first = 0;
	}
	smem_bytes = bytes;
	launch_first = block + 1;
}

void fr_shim_watch_block(void)
{
	block++;
	memset((void *)smem0, 0xff, smem_bytes);
	memset(waited, 0, fr_shim_now.threads);
}

void fr_shim_watch_ordered(void)
{
	ordered_first = block + 1;
}

void fr_shim_watch_epochs(void)
{
	for (unsigned i = 0; i < FR_SHIM_SMEM_MAX / 4; i++)
		shared[i].wrote = shared[i].read = shared[i].read_other = 0;
}

int fr_shim_waited(unsigned thread)
{
	return waited[thread];
}

void fr_shim_wait(void)
{
	waited[fr_shim_now.thread] = 1;
}

void fr_shim_release(void)
{
}

/* ---- shared memory ---- */

struct access {
	uintptr_t p;
	size_t n;
	int write;
};

static void pending_touched(const struct access *x, uint32_t thread)
{
	fr_shim_finding(1, "%s %zu bytes at shared byte %zu, where a cp.async of thread %u is still under way",
			x->write ? "writes" : "reads", x->n, (size_t)(x->p - smem0), thread);
}

static void shared_race(const struct access *x, uint32_t was, const char *did)
{
	fr_shim_finding(0,
			"race on shared memory: %s %zu bytes at shared byte %zu, which thread %u %s with no barrier "
			"between",
			x->write ? "writes" : "reads", x->n, (size_t)(x->p - smem0), was >> THREAD_SHIFT, did);
}

/* Whether `was` touched a byte of mask and does not come before what thread `me` does now. */
static inline int unordered(uint32_t was, uint32_t mask, uint32_t me, const uint32_t *know)
{
	uint32_t t = was >> THREAD_SHIFT;
	return was >> MASK_SHIFT & mask && t != me && (was & FR_SHIM_EPOCHS) >= know[t / 32];
}

/* The same thread in the same epoch: its bytes add up. */
static inline uint32_t merged(uint32_t was, uint32_t now)
{
	return (was ^ now) & ~(15u << MASK_SHIFT) ? now : was | now;
}

static inline __attribute__((always_inline)) int shared_word(struct shared_word *c, uint32_t mask,
							     const struct access *x)
{
	uint32_t me = fr_shim_now.thread;
	const uint32_t *know = fr_shim_know[me / 32];
	uint32_t now = me << THREAD_SHIFT | mask << MASK_SHIFT | know[me / 32];
	int races = 0;
	if (c->pending)
		pending_touched(x, c->pending - 1);
	if (unordered(c->wrote, mask, me, know))
		shared_race(x, c->wrote, "wrote"), races = 1;
	if (!x->write) {
		if (c->read >> (THREAD_SHIFT + 5) != me / 32)
			c->read_other = c->read;
		c->read = merged(c->read, now);
		return races;
	}
	if (!races && unordered(c->read, mask, me, know))
		shared_race(x, c->read, "read"), races = 1;
	if (!races && unordered(c->read_other, mask, me, know))
		shared_race(x, c->read_other, "read"), races = 1;
	c->wrote = merged(c->wrote, now);
	return races;
}

/* The bytes of word i that [off, end) covers, a bit each. */
static inline uint32_t bytes_of(size_t i, size_t off, size_t end)
{
	uint32_t mask = 15;
	if (i * 4 < off)
		mask &= 15u << (off - i * 4);
	if (i * 4 + 4 > end)
		mask &= 15u >> (i * 4 + 4 - end);
	return mask;
}

static __attribute__((noinline)) int other_word(struct shared_word *c, const struct access *x)
{
	return shared_word(c, 15, x);
}

/* Words with the same past have the same future: most accesses of 16 bytes look at one word. */
static void shared_access(uintptr_t p, size_t n, int write)
{
	const struct access x = {p, n, write};
	size_t off = p - smem0, end = off + n, i = off / 4;
	if (off >= smem_bytes || end > smem_bytes || end < off) {
		fr_shim_finding(1, "%s %zu bytes at shared byte %lld of the launch's %u", write ? "writes" : "reads", n,
				(long long)off, smem_bytes);
		return;
	}
	if ((off | n) & 3) {
		for (; i * 4 < end; i++)
			if (shared_word(&shared[i], bytes_of(i, off, end), &x))
				return;
		return;
	}
	const struct shared_word before = shared[i];
	struct shared_word after = before;
	if (shared_word(&after, 15, &x))
		return;
	for (; i < end / 4; i++) {
		struct shared_word *c = &shared[i];
		/* by members: a load of all that was stored in parts would wait for the stores */
		if (c->wrote == before.wrote && c->read == before.read && c->read_other == before.read_other &&
		    c->pending == before.pending)
			c->wrote = after.wrote, c->read = after.read, c->read_other = after.read_other;
		else if (other_word(c, &x))
			return;
	}
}

void fr_shim_touch_pending(void *at, int pending)
{
	uintptr_t p = (uintptr_t)at;
	struct shared_word *c = &shared[(p - smem0) / 4];
	for (int i = 0; i < 4; i++)
		c[i].pending = pending ? fr_shim_now.thread + 1 : 0;
	if (!pending)
		shared_access(p, 16, 1);
}

void fr_shim_forget_pending(void *at)
{
	struct shared_word *c = &shared[((uintptr_t)at - smem0) / 4];
	for (int i = 0; i < 4; i++)
		c[i].pending = 0;
}

/* ---- device memory ---- */

static void device_race(const struct access *x, const char *did)
{
	char where[160];
	fr_shim_finding(0, "race on device memory: %s %zu bytes at %s, which another block of the launch %s",
			x->write ? "writes" : "reads", x->n, fr_shim_where(x->p, where), did);
}

static void early(const struct access *x)
{
	char where[160];
	fr_shim_finding(0, "%s %zu bytes at %s before FR_WAIT()%s", x->write ? "writes" : "reads", x->n,
			fr_shim_where(x->p, where), x->write ? "" : ", which an earlier kernel writes");
}

static void not_const(uintptr_t p, const char *did)
{
	char where[160];
	fr_shim_finding(0, "the kernel writes %s, which it %s by fr_ld_stream or fr_ld_const", fr_shim_where(p, where),
			did);
}

static inline int device_word(struct device_word *c, uint32_t mask, const struct access *x)
{
	uint32_t by = c->wrote >> 4, reader = c->read >> 6, found = fr_shim_findings;
	if (by >= launch_first && by != block && c->wrote & mask)
		device_race(x, "writes");
	else if (!waited[fr_shim_now.thread] && (x->write || (by >= ordered_first && by && c->wrote & mask)))
		early(x);
	if (!x->write) {
		if (reader == block)
			c->read |= mask;
		else
			c->read = block << 6 | (reader >= launch_first ? READ_SEVERAL | (c->read & 63) : 0) | mask;
		return found != (uint32_t)fr_shim_findings;
	}
	if (reader >= launch_first && (reader != block || c->read & READ_SEVERAL) && c->read & mask)
		device_race(x, "reads");
	else if (reader == block && c->read & READ_CONST && c->read & mask)
		not_const(x->p, "has read");
	c->wrote = block << 4 | (by == block ? c->wrote & 15 : 0) | mask;
	return found != (uint32_t)fr_shim_findings;
}

static void device_access(uintptr_t p, size_t n, int write)
{
	const struct access x = {p, n, write};
	const struct fr_shim_alloc *a = fr_shim_find(p);
	if (!a || !a->live || p - a->base + n > a->bytes) {
		char where[160];
		fr_shim_finding(1, "%s %zu bytes at %s", write ? "writes" : "reads", n, fr_shim_where(p, where));
		return;
	}
	size_t off = p - fr_shim_arena, end = off + n, i = off / 4;
	if ((off | n) & 3) {
		for (; i * 4 < end; i++)
			if (device_word(&device[i], bytes_of(i, off, end), &x))
				return;
		return;
	}
	const struct device_word before = device[i];
	struct device_word after = before;
	if (device_word(&after, 15, &x))
		return;
	for (; i < end / 4; i++) {
		struct device_word *c = &device[i];
		if (c->wrote == before.wrote && c->read == before.read)
			c->wrote = after.wrote, c->read = after.read;
		else if (device_word(c, 15, &x))
			return;
	}
}

/* ---- all of it ---- */

static void other_access(uintptr_t p, size_t n, int write)
{
	if (!fr_shim_running)
		return;
	if (!write && p >= (uintptr_t)&__executable_start && p + n <= (uintptr_t)&_end)
		return;
	if (fr_shim_pinned(p, n)) {
		if (!write)
			return;
		fr_shim_finding(1, "writes %zu bytes of pinned host memory", n);
	}
	char where[160];
	fr_shim_finding(1, "%s %zu bytes at a host pointer, %s", write ? "writes" : "reads", n,
			fr_shim_where(p, where));
}

static inline void watch(const void *at, size_t n, int write)
{
	uintptr_t p = (uintptr_t)at;
	if (p - (uintptr_t)fr_shim_stacks < fr_shim_stacks_bytes)
		return;
	if (p - (uintptr_t)fr_shim_smem < sizeof fr_shim_smem)
		shared_access(p, n, write);
	else if (p - fr_shim_arena < ARENA)
		device_access(p, n, write);
	else
		other_access(p, n, write);
}

static void misaligned(const void *at, size_t n, int write)
{
	char where[160];
	fr_shim_finding(1, "misaligned: %s %zu bytes at %s, address %% %zu is %zu", write ? "writes" : "reads", n,
			fr_shim_where((uintptr_t)at, where), n, (size_t)((uintptr_t)at % n));
}

void fr_shim_touch(const void *p, size_t n, int write, size_t align)
{
	if (align && (uintptr_t)p % align)
		misaligned(p, n, write);
	watch(p, n, write);
}

/* What g++ calls. The plain ones say that the type's alignment is the size; the device would fault where it is not. A
 * type of smaller alignment (unaligned_, range) is taken apart by nvcc and needs none. */
#define ENTRY(n)                                                                                                       \
	void __tsan_read##n(void *p);                                                                                  \
	void __tsan_write##n(void *p);                                                                                 \
	void __tsan_read##n(void *p)                                                                                   \
	{                                                                                                              \
		if ((uintptr_t)p % n)                                                                                  \
			misaligned(p, n, 0);                                                                           \
		watch(p, n, 0);                                                                                        \
	}                                                                                                              \
	void __tsan_write##n(void *p)                                                                                  \
	{                                                                                                              \
		if ((uintptr_t)p % n)                                                                                  \
			misaligned(p, n, 1);                                                                           \
		watch(p, n, 1);                                                                                        \
	}
ENTRY(1)
ENTRY(2)
ENTRY(4)
ENTRY(8)
ENTRY(16)
#define UNALIGNED(n)                                                                                                   \
	void __tsan_unaligned_read##n(void *p);                                                                        \
	void __tsan_unaligned_write##n(void *p);                                                                       \
	void __tsan_unaligned_read##n(void *p)                                                                         \
	{                                                                                                              \
		watch(p, n, 0);                                                                                        \
	}                                                                                                              \
	void __tsan_unaligned_write##n(void *p)                                                                        \
	{                                                                                                              \
		watch(p, n, 1);                                                                                        \
	}
UNALIGNED(2)
UNALIGNED(4)
UNALIGNED(8)
UNALIGNED(16)
void __tsan_read_range(void *p, size_t n);
void __tsan_write_range(void *p, size_t n);
void __tsan_init(void);
void __tsan_func_entry(void *pc);
void __tsan_func_exit(void);
void __tsan_read_range(void *p, size_t n)
{
	watch(p, n, 0);
}
void __tsan_write_range(void *p, size_t n)
{
	watch(p, n, 1);
}
void __tsan_init(void)
{
}
void __tsan_func_entry(void *pc)
{
	(void)pc;
}
void __tsan_func_exit(void)
{
}

void *fr_shim_memcpy(void *dst, const void *src, size_t n)
{
	watch(src, n, 0);
	watch(dst, n, 1);
	return memcpy(dst, src, n);
}

void *fr_shim_memset(void *dst, int c, size_t n)
{
	watch(dst, n, 1);
	return memset(dst, c, n);
}

uint32_t fr_shim_smem_at(const void *p)
{
	uintptr_t off = (uintptr_t)p - smem0;
	if (off > smem_bytes)
		fr_shim_finding(1, "fr_smem_at of an address outside of shared memory");
	return (uint32_t)off;
}

struct fr_shim_two fr_shim_ld16(const void *p)
{
	if ((uintptr_t)p - (uintptr_t)fr_shim_smem < sizeof fr_shim_smem)
		fr_shim_finding(1, "fr_ld_stream or fr_ld_const of shared memory");
	fr_shim_touch(p, 16, 0, 16);
	struct device_word *c = &device[((uintptr_t)p - fr_shim_arena) / 4];
	for (int i = 0; fr_shim_in_arena((uintptr_t)p) && i < 4; i++) {
		c[i].read |= READ_CONST;
		if (c[i].wrote >> 4 == block)
			not_const((uintptr_t)p, "reads");
	}
	struct fr_shim_two v;
	memcpy(&v, p, sizeof v);
	return v;
}
