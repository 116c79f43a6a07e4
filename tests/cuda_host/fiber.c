/* The threads of a block as fibers: each has a stack and runs until it waits. A warp's lanes take turns first, so that
 * a warp function costs 32 switches; then the next warp. When nothing can run and not all have returned, the block is
 * stuck: what each waits for is the finding. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "host.h"

#define STACK (64u << 10)
/* Tops of stacks a multiple of 4096 apart would all fall into the same cache sets. */
#define STRIDE (STACK + 576u)
#define ARGS 8192u
#define CANARY 0x5afe57ac5afe57acull
#define BARS 16

enum { RUNS, AT_WARP, AT_BAR, RETURNED };

static struct fiber {
	void *sp;
	unsigned char state, bar;
} fibers[FR_SHIM_THREADS];
static struct bar {
	unsigned count, need;
	int line;
	unsigned first;
	uint32_t mask[FR_SHIM_WARPS];
} bars[BARS];
struct fr_shim_warp fr_shim_warps[FR_SHIM_WARPS];
uint32_t fr_shim_know[FR_SHIM_WARPS][FR_SHIM_WARPS];
struct fr_shim_now fr_shim_now;
unsigned char fr_shim_smem[FR_SHIM_SMEM_GUARD + FR_SHIM_SMEM_MAX + FR_SHIM_SMEM_GUARD] __attribute__((aligned(1024)));
unsigned char *fr_shim_stacks;
size_t fr_shim_stacks_bytes;
int fr_shim_running;

static void *main_sp;
static unsigned live; /* fibers that have not returned */
static const struct fr_shim_kernel *kernel;

/* Callee-saved registers only: a switch is a call. */
void fr_shim_switch(void **save, void *to);
__asm__(".text\n"
	".globl fr_shim_switch\n"
	".type fr_shim_switch,@function\n"
	"fr_shim_switch:\n"
	"	pushq %rbp\n	pushq %rbx\n	pushq %r12\n	pushq %r13\n	pushq %r14\n	pushq %r15\n"
	"	movq %rsp,(%rdi)\n	movq %rsi,%rsp\n"
	"	popq %r15\n	popq %r14\n	popq %r13\n	popq %r12\n	popq %rbx\n	popq %rbp\n"
	"	ret\n"
	".size fr_shim_switch,.-fr_shim_switch\n");

static uint64_t *bottom(unsigned t)
{
	return (uint64_t *)(fr_shim_stacks + ARGS + (size_t)STRIDE * t);
}

static void mark_stacks(void)
{
	for (unsigned t = 0; t < FR_SHIM_THREADS; t++)
		*bottom(t) = CANARY;
}

int fr_shim_fibers_open(void)
{
	if (fr_shim_stacks)
		return 0;
	fr_shim_stacks_bytes = ARGS + (size_t)STRIDE * FR_SHIM_THREADS;
	void *p = mmap(NULL, fr_shim_stacks_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
		       -1, 0);
	if (p == MAP_FAILED)
		return -1;
	fr_shim_stacks = p;
	mark_stacks();
	return 0;
}

void fr_shim_stop(void)
{
	void *dropped;
	fr_shim_running = 0;
	fr_shim_switch(&dropped, main_sp);
	abort();
}

static void go(unsigned next)
{
	unsigned me = fr_shim_now.thread;
	fr_shim_now.thread = next;
	fr_shim_switch(&fibers[me].sp, fibers[next].sp);
}

/* Names what stuck threads wait for: the first of each kind. */
static void stuck(void)
{
	char list[300];
	size_t n = 0;
	unsigned warps = (fr_shim_now.threads + 31) / 32, returned = 0;
	for (unsigned t = 0; t < fr_shim_now.threads; t++)
		returned += fibers[t].state == RETURNED;
	for (unsigned i = 0; i < BARS && n < sizeof list; i++)
		if (bars[i].count)
			n += (size_t)snprintf(list + n, sizeof list - n,
					      "; %u of %u threads at barrier %u (line %d, "
					      "the first is thread %u)",
					      bars[i].count, bars[i].need, i, bars[i].line, bars[i].first);
	for (unsigned w = 0; w < warps && n < sizeof list; w++)
		if (fr_shim_warps[w].here)
			n += (size_t)snprintf(list + n, sizeof list - n, "; lanes 0x%08x of warp %u at %s",
					      fr_shim_warps[w].here, w, fr_shim_warps[w].at);
	if (n < sizeof list && returned)
		snprintf(list + n, sizeof list - n, "; %u threads have returned", returned);
	fr_shim_finding(1, "the block is stuck, not all threads reach the same barrier or warp function%s", list);
}

/* Runs something else until this fiber is ready again. */
static void yield(void)
{
	unsigned me = fr_shim_now.thread, w = me / 32, lane = me % 32, warps = (fr_shim_now.threads + 31) / 32;
	uint32_t r = fr_shim_warps[w].ready;
	for (unsigned i = 0; !r && i < warps; i++) {
		w = w + 1 == warps ? 0 : w + 1;
		lane = 31;
		r = fr_shim_warps[w].ready;
	}
	if (!r) {
		stuck();
		return;
	}
	uint32_t above = lane == 31 ? 0 : r & ~((2u << lane) - 1);
	go(w * 32 + (unsigned)__builtin_ctz(above ? above : r));
}

static void grow(unsigned w)
{
	if (++fr_shim_know[w][w] < FR_SHIM_EPOCHS)
		return;
	fr_shim_watch_epochs();
	for (unsigned i = 0; i < FR_SHIM_WARPS; i++)
		for (unsigned j = 0; j < FR_SHIM_WARPS; j++)
			fr_shim_know[i][j] = 1;
}

int fr_shim_meet(struct fr_shim_warp *w, const char *name, int orders)
{
	unsigned me = fr_shim_now.thread;
	uint32_t bit = 1u << me % 32;
	if (w->here && w->at != name)
		fr_shim_finding(1, "at %s while lanes 0x%08x of its warp are at %s", name, w->here, w->at);
	w->at = name;
	w->here |= bit;
	if (w->here == 0xffffffffu) {
		w->here = 0;
		w->ready = 0xffffffffu;
		w->turn ^= 1;
		if (orders)
			grow(me / 32);
		return 1;
	}
	w->ready &= ~bit;
	fibers[me].state = AT_WARP;
	yield();
	fibers[me].state = RUNS;
	return 0;
}

/* All that the warps at a barrier did comes before what they do next. */
static void join(const struct bar *b)
{
	uint32_t all[FR_SHIM_WARPS] = {0};
	for (unsigned w = 0; w < FR_SHIM_WARPS; w++) {
		if (!b->mask[w])
			continue;
		grow(w);
		for (unsigned v = 0; v < FR_SHIM_WARPS; v++)
			all[v] = fr_shim_know[w][v] > all[v] ? fr_shim_know[w][v] : all[v];
	}
	for (unsigned w = 0; w < FR_SHIM_WARPS; w++)
		if (b->mask[w])
			memcpy(fr_shim_know[w], all, sizeof all);
}

static void barrier(unsigned id, unsigned need, int line)
{
	unsigned me = fr_shim_now.thread;
	struct bar *b = &bars[id];
	if (!b->count)
		b->need = need, b->line = line, b->first = me;
	else if (b->need != need || b->line != line)
		fr_shim_finding(1,
				"at barrier %u for %u threads (line %d) where thread %u waits at barrier %u for %u "
				"threads (line %d)",
				id, need, line, b->first, id, b->need, b->line);
	b->count++;
	b->mask[me / 32] |= 1u << me % 32;
	if (b->count == need) {
		join(b);
		for (unsigned w = 0; w < FR_SHIM_WARPS; w++)
			fr_shim_warps[w].ready |= b->mask[w];
		memset(b, 0, sizeof *b);
		return;
	}
	fr_shim_warps[me / 32].ready &= ~(1u << me % 32);
	fibers[me].state = AT_BAR;
	yield();
	fibers[me].state = RUNS;
}

void fr_shim_syncthreads(int line)
{
	barrier(0, fr_shim_now.threads, line);
}

void fr_shim_bar(int id, int threads)
{
	if (id < 1 || id >= BARS || threads < 32 || threads % 32 || (unsigned)threads > fr_shim_now.threads)
		fr_shim_finding(1,
				"fr_bar(%d, %d): the barrier is 1..15, the threads a multiple of 32 up to the "
				"block's %u",
				id, threads, fr_shim_now.threads);
	barrier((unsigned)id, (unsigned)threads, 0);
}

static void body(void)
{
	kernel->run(fr_shim_stacks);
	unsigned me = fr_shim_now.thread;
	if (!fr_shim_waited(me))
		fr_shim_finding(0, "returned without FR_WAIT(): the next kernel could start before an earlier one has "
				   "ended");
	if (*bottom(me) != CANARY) {
		mark_stacks();
		fr_shim_finding(1, "its host stack of %u bytes overflowed", STACK);
	}
	fibers[me].state = RETURNED;
	fr_shim_warps[me / 32].ready &= ~(1u << me % 32);
	fr_shim_warps[me / 32].live &= ~(1u << me % 32);
	if (--live == 0)
		fr_shim_stop();
	yield();
	abort();
}

static void prepare(unsigned t)
{
	/* the frame that fr_shim_switch pops: six registers, then body as its return address, at whose entry the
	 * stack is 8 off a multiple of 16 */
	uintptr_t top = ((uintptr_t)fr_shim_stacks + ARGS + (size_t)STRIDE * (t + 1)) & ~(uintptr_t)15;
	void **sp = (void **)(top - 64);
	memset(sp, 0, 64);
	sp[6] = (void *)body;
	fibers[t] = (struct fiber){.sp = sp};
}

int fr_shim_block(const struct fr_shim_kernel *k, const void *args)
{
	unsigned threads = fr_shim_now.threads;
	kernel = k;
	live = threads;
	memcpy(fr_shim_stacks, args, k->args_bytes);
	memset(bars, 0, sizeof bars);
	for (unsigned t = 0; t < threads; t++)
		prepare(t);
	uint32_t last = 0;
	for (unsigned w = 0; w < FR_SHIM_WARPS; w++)
		last = fr_shim_know[w][w] > last ? fr_shim_know[w][w] : last;
	if (++last > FR_SHIM_EPOCHS / 2) {
		fr_shim_watch_epochs();
		last = 1;
	}
	for (unsigned w = 0; w < FR_SHIM_WARPS; w++) {
		unsigned lanes = w * 32 >= threads ? 0 : threads - w * 32 >= 32 ? 32 : threads - w * 32;
		uint32_t all = lanes == 32 ? 0xffffffffu : (1u << lanes) - 1;
		fr_shim_warps[w].ready = fr_shim_warps[w].live = all;
		fr_shim_warps[w].here = 0;
		for (unsigned v = 0; v < FR_SHIM_WARPS; v++)
			fr_shim_know[w][v] = last;
	}
	int before = fr_shim_findings;
	fr_shim_watch_block();
	fr_shim_async_block();
	fr_shim_running = 1;
	fr_shim_now.thread = 0;
	fr_shim_switch(&main_sp, fibers[0].sp);
	return live || fr_shim_findings != before ? -1 : 0;
}
