/* The kernels of the host shim's own test, selftest.cu: each writes what its function gave, or does one thing wrong. */
#ifndef FR_SHIM_SELFTEST_H
#define FR_SHIM_SELFTEST_H

#include "shim.h"

struct self_args {
	const void *in, *in2;
	void *out;
	int n, k;
};
#define SELF_KERNELS                                                                                                   \
	X(self_mma)                                                                                                    \
	X(self_ldmatrix)                                                                                               \
	X(self_shuffle)                                                                                                \
	X(self_numbers)                                                                                                \
	X(self_async)                                                                                                  \
	X(self_bar)                                                                                                    \
	X(self_order)                                                                                                  \
	X(self_index)                                                                                                  \
	X(self_fault)                                                                                                  \
	X(self_mma_speed)
#ifdef __cplusplus
extern "C" {
#endif
#define X(name) extern const struct fr_shim_kernel fr_shim_##name;
SELF_KERNELS
#undef X
#ifdef __cplusplus
}
#endif

/* What self_fault does wrong (args.k). */
enum self_fault {
	FAULT_NONE,
	FAULT_READ,	     /* one float beyond the end of in (n of them) */
	FAULT_WRITE,	     /* the same of out */
	FAULT_BEFORE,	     /* the byte before in */
	FAULT_SHARED,	     /* 4 bytes beyond the launch's shared memory */
	FAULT_MISALIGNED,    /* 16 bytes at in + 4 */
	FAULT_MISALIGNED_LD, /* by fr_ld_stream */
	FAULT_MISALIGNED_ST, /* a store of 16 bytes put together from words */
	FAULT_MISALIGNED_4,  /* a float at in + 2 */
	FAULT_RACE,	     /* a shared exchange without a barrier */
	FAULT_RACE_WARP,     /* the same within a warp */
	FAULT_RACE_SHUFFLE,  /* ordered by nothing but a shuffle */
	FAULT_RACE_WAR,	     /* the next round's write without a barrier after the read */
	FAULT_RACE_READERS,  /* many read, then the last of them writes */
	FAULT_RACE_BAR,	     /* a named barrier that leaves out the reader's warp */
	FAULT_DIVERGENT,     /* a barrier that half of the threads reach */
	FAULT_DIVERGENT_2,   /* each half at a barrier of its own */
	FAULT_LANE,	     /* a shuffle without lane 7 */
	FAULT_LANE_GONE,     /* lanes that have returned */
	FAULT_MIXED,	     /* lanes at different warp functions */
	FAULT_ASYNC_WAIT,    /* cp.async read without a wait */
	FAULT_ASYNC_GROUP,   /* one group too few waited for */
	FAULT_ASYNC_BARRIER, /* waited for, but read by another thread without a barrier */
	FAULT_ASYNC_ALIGN,
	FAULT_BLOCKS_WRITE, /* two blocks write the same word */
	FAULT_BLOCKS_READ,  /* a block reads what another writes */
	FAULT_CONST,	    /* fr_ld_const of what the block wrote */
	FAULT_CONST_FIRST,  /* the block writes what it read by fr_ld_const */
	FAULT_EARLY,	    /* reads before FR_WAIT what an earlier kernel wrote */
	FAULT_NO_WAIT,	    /* returns without FR_WAIT */
	FAULT_STACK,	    /* overflows its host stack */
	FAULTS
};

#endif
