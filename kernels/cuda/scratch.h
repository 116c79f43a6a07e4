/* What scratch.c, step.c and pack.c share: the memory that operations work in. */
#ifndef FR_KERNELS_CUDA_SCRATCH_H
#define FR_KERNELS_CUDA_SCRATCH_H

#include "cuda.h"

#include <limits.h>

/* Device memory that grows to what was asked for, or a piece of the block that work() was given. */
struct fr_cu_block {
	char *p;
	size_t bytes;
	int own; /* allocated here, else a piece */
};

/* Pinned memory and what it holds, on its way to the device. */
struct fr_cu_staging {
	char *host;
	size_t room;
	uint64_t epoch; /* of the last copy from it; that copy may not have run when it is the scratch's own epoch */
};

/* An array of a call, kept by content: ids and rows of a forward pass serve all its layers. */
struct fr_cu_input {
	struct fr_cu_staging from;
	struct fr_cu_block dev;
	size_t bytes; /* 0: holds nothing */
	uint64_t used;
};
#define FR_CU_INPUTS 16
#define FR_CU_STEP_STAGINGS 4

/* A packed form of x [rows, cols], rows `stride` floats apart; x NULL: holds nothing. */
struct fr_cu_form {
	struct fr_cu_block block;
	const float *x;
	size_t stride;
	struct fr_packed packed;
	unsigned given; /* d->launches when pack_out gave it away: with no launch since, its writer is still to come */
};
#define FR_CU_LAUNCHED UINT_MAX

/* Where a get inside a recording goes. */
struct fr_cu_kept {
	void *host, *pinned;
	size_t bytes;
};
#define FR_CU_MAX_KEPT 8

/* A step of `rows` rows: run eagerly once, then recorded, then replayed. */
struct fr_cu_step {
	const void *ids, *row, *draw;
	int rows, runs;
	int never;    /* not recorded: a call of it used another array than the step's own, or it failed */
	void *graph;  /* NULL: not recorded */
	int replayed; /* since the last sync */
	char *pinned; /* [kept_bytes]: what its gets bring */
	size_t kept_bytes, kept_used;
	int kept_n;
	struct fr_cu_kept kept[FR_CU_MAX_KEPT];
};

struct fr_cu_scratch {
	uint64_t epoch; /* syncs so far, from 1 */
	uint64_t clock; /* uses of inputs so far */
	struct fr_cu_block part[FR_PARTS];
	struct fr_cu_form form[2];
	int reads; /* the form that pack returned last: what is launched next reads it */
	struct fr_cu_input input[FR_CU_INPUTS];
	char *work; /* the block of work(), NULL: none */
	size_t work_bytes;

	/* steps */
	int off; /* no recordings */
	struct fr_cu_step **step;
	int steps;
	struct fr_cu_step *in;        /* between begin and end, else NULL */
	int recording;                /* what is launched is kept in a graph */
	struct fr_cu_block step_dev;  /* row [n], draw [n], ids [n] of the step, at addresses that do not change */
	struct fr_cu_staging step_from[FR_CU_STEP_STAGINGS];
	int step_turn;
};

FR_INLINE size_t fr_cu_align(size_t bytes)
{
	return (bytes + 255) / 256 * 256;
}

/* ---- scratch.c ---- */

/* b->p with at least `bytes`, whose old contents are lost; NULL after a failure, which is noted. */
void *fr_cu_need(struct fr_cuda *d, struct fr_cu_block *b, size_t bytes, const char *what);
/* Pinned memory [bytes] of s that no pending copy reads; NULL after a failure, which is noted. */
char *fr_cu_stage(struct fr_cuda *d, struct fr_cu_staging *s, size_t bytes);
/* Waits until the copies from all stagings have run. */
void fr_cu_stages_settle(struct fr_cuda *d);

/* ---- step.c ---- */

/* The step's own copy of host [bytes] in device memory; NULL: not in a step, or not an array of it. */
const void *fr_cu_step_array(struct fr_cuda *d, const void *host, size_t bytes);
/* What replays since the last call have brought goes to its host arrays; everything has run. */
void fr_cu_steps_bring(struct fr_cuda *d);
/* Waits, brings, forgets all recordings: memory that they know moves. */
void fr_cu_steps_drop(struct fr_cuda *d);
/* The same where there is less memory than before: each step is run eagerly again before it is recorded. */
void fr_cu_steps_restart(struct fr_cuda *d);
void fr_cu_steps_free(struct fr_cuda *d);

/* ---- pack.c ---- */

void fr_cu_forms_forget(struct fr_cu_scratch *s);
/* Makes both as large as the larger one: which of them a call takes depends on the calls before it. Not between a pack and
 * the launch that reads it. */
void fr_cu_forms_even(struct fr_cuda *d);
/* The most that one of the packed forms takes. */
size_t fr_cu_form_bytes(const struct fr_cuda *d, const struct fr_limits *limits);

#endif
