/* Device memory: one reserved range of addresses. Allocations begin on pages of their own with a free page between them
 * and addresses are not given out again until the range is used up, so that an access beyond an end or after a release
 * is known for what it is. A table by page leads to the allocation. Each sync makes all of it inaccessible until work
 * is given again (doing that around each launch would cost more than most kernels): the engine following a device
 * pointer dies at once. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "host.h"

#define PAGE 4096u
#define RANGE ((size_t)64 << 30)
#define MAX_ALLOCS (1u << 24)

uintptr_t fr_shim_arena, fr_shim_arena_top;
size_t fr_shim_used;
static struct fr_shim_alloc *allocs; /* 0 is none */
static uint32_t *page_alloc;
static unsigned n_allocs;
static int accessible;

static void *reserve(size_t bytes, int prot)
{
	void *p = mmap(NULL, bytes, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	return p == MAP_FAILED ? NULL : p;
}

/* A host instruction that touches device memory is reported, then ends the program as any wild pointer. */
static void on_segv(int sig, siginfo_t *si, void *context)
{
	(void)context;
	uintptr_t p = (uintptr_t)si->si_addr;
	if (fr_shim_arena && p - fr_shim_arena < RANGE) {
		char where[160], line[256];
		int n = snprintf(line, sizeof line, "host shim: the host program touched device memory, %s\n",
				 fr_shim_where(p, where));
		if (write(2, line, (size_t)n) < 0)
			_exit(139);
	}
	signal(sig, SIG_DFL);
	raise(sig);
}

int fr_shim_arena_open(void)
{
	if (fr_shim_arena)
		return 0;
	allocs = reserve(MAX_ALLOCS * sizeof *allocs, PROT_READ | PROT_WRITE);
	page_alloc = reserve(RANGE / PAGE * sizeof *page_alloc, PROT_READ | PROT_WRITE);
	fr_shim_arena = (uintptr_t)reserve(RANGE, PROT_NONE);
	fr_shim_arena_top = fr_shim_arena + PAGE;
	if (!allocs || !page_alloc || !fr_shim_arena)
		return -1;
	struct sigaction sa = {.sa_sigaction = on_segv, .sa_flags = SA_SIGINFO};
	sigaction(SIGSEGV, &sa, NULL);
	return 0;
}

const struct fr_shim_alloc *fr_shim_find(uintptr_t p)
{
	if (p - fr_shim_arena >= RANGE)
		return NULL;
	uint32_t i = page_alloc[(p - fr_shim_arena) / PAGE];
	return i ? &allocs[i] : NULL;
}

int fr_shim_in_arena(uintptr_t p)
{
	return p - fr_shim_arena < RANGE;
}

static size_t rounded(size_t bytes)
{
	return (bytes + PAGE - 1) / PAGE * PAGE;
}

/* The next addresses that no live allocation has; from the start again when the end is reached. 0: none are left. */
static uintptr_t place(size_t need)
{
	static uintptr_t next;
	uintptr_t p = next ? next : fr_shim_arena + PAGE;
	for (int turns = 0;;) {
		if (need > fr_shim_arena + RANGE - p) {
			if (turns++)
				return 0;
			p = fr_shim_arena + PAGE;
			continue;
		}
		uintptr_t q = p;
		const struct fr_shim_alloc *a = NULL;
		for (; q < p + need; q += PAGE)
			if ((a = fr_shim_find(q)) && a->live)
				break;
		if (q >= p + need) {
			next = p + need;
			return p;
		}
		p = a->base + rounded(a->bytes) + PAGE;
	}
}

/* The free page after an allocation belongs to it in the table, so that running over the end is told as that. */
int fr_shim_arena_alloc(size_t bytes, void **out)
{
	size_t need = rounded(bytes) + PAGE;
	uintptr_t p = need < RANGE && n_allocs + 1 < MAX_ALLOCS ? place(need) : 0;
	if (!p)
		return -1;
	allocs[++n_allocs] = (struct fr_shim_alloc){.base = p, .bytes = bytes, .live = 1, .number = n_allocs};
	uint32_t *at = page_alloc + (p - fr_shim_arena) / PAGE;
	for (size_t i = 0; i < need / PAGE; i++)
		at[i] = n_allocs;
	if (p + need > fr_shim_arena_top)
		fr_shim_arena_top = p + need;
	mprotect((void *)p, rounded(bytes), PROT_READ | PROT_WRITE);
	memset((void *)p, 0xff, bytes);
	if (!accessible)
		mprotect((void *)p, rounded(bytes), PROT_NONE);
	fr_shim_used += bytes;
	*out = (void *)p;
	return 0;
}

int fr_shim_arena_release(void *p)
{
	struct fr_shim_alloc *a = (struct fr_shim_alloc *)fr_shim_find((uintptr_t)p);
	if (!a || !a->live || a->base != (uintptr_t)p)
		return -1;
	a->live = 0;
	fr_shim_used -= a->bytes;
	madvise(p, rounded(a->bytes), MADV_DONTNEED);
	return 0;
}

void fr_shim_arena_access(int on)
{
	if (on == accessible)
		return;
	accessible = on;
	mprotect((void *)fr_shim_arena, fr_shim_arena_top - fr_shim_arena, on ? PROT_READ | PROT_WRITE : PROT_NONE);
}

const char *fr_shim_where(uintptr_t p, char buf[160])
{
	const struct fr_shim_alloc *a = fr_shim_find(p);
	uintptr_t smem = (uintptr_t)fr_shim_smem + FR_SHIM_SMEM_GUARD;
	/* in the second half of a free page: before the next allocation */
	const struct fr_shim_alloc *next = fr_shim_find(p + PAGE / 2);
	if (next && next != a && p < next->base)
		a = next;
	if (a)
		snprintf(buf, 160, "byte %lld of %sallocation %u of %zu bytes", (long long)(p - a->base),
			 a->live ? "" : "the released ", a->number, a->bytes);
	else if (p - (uintptr_t)fr_shim_smem < sizeof fr_shim_smem)
		snprintf(buf, 160, "shared byte %lld", (long long)p - (long long)smem);
	else
		snprintf(buf, 160, "%p, which is no device memory", (void *)p);
	return buf;
}
