/* The inside of `fr-run bench model`: stages that are run again and again, what they cost, and their lines. */
#ifndef FR_BENCH_STAGE_H
#define FR_BENCH_STAGE_H

#include "bench.h"
#include "plot.h"
#include "../engine/session.h"
#include "../kernels/cpu/peak.h"

/* What a stage cannot do without: operations (a multiply-add is two) and bytes of weights, keys and values, each once.
 */
struct fr_cost {
	double operations, bytes;
};
/* bench/cost_model.c. rows: of each sequence; pos: keys that a row sees. */
struct fr_cost fr_cost_vision(const struct fr_model *m, int images); /* projector and fusion included */
struct fr_cost fr_cost_projector(const struct fr_model *m, int images);
struct fr_cost fr_cost_prefill(const struct fr_model *m, int rows, int seqs, enum fr_dtype kv);
struct fr_cost fr_cost_step(const struct fr_model *m, int seqs, int pos, enum fr_dtype kv);

/* Bytes in memory: the most so far, and now those that no file stands behind, those of mapped files, and those of the
 * memory that bursts read. pid 0: this process. */
struct fr_process_memory {
	size_t most, anonymous, mapped, shared;
};
void fr_process_memory(int pid, struct fr_process_memory *out);

struct fr_stage {
	const char *what; /* "vision", "prefill", ...: static */
	char name[64];	  /* "prefill/b1_m588" */
	int batch;
	int rows, context, tokens; /* of a prefill; of a decode step; written by a whole run. -1: it has no such */
	struct fr_cost cost;	   /* of one run; 0: not counted */
	enum fr_phase phase;
	double amount;	   /* done in one run, */
	const char *items; /* of these: "images"; NULL: nothing is counted */
	struct fr_samples ms, peak, read;
};

#define FR_STAGE_READ_BYTES ((size_t)256 << 20)
struct fr_stages {
	const struct fr_bench_opts *opts;
	FILE *out;
	struct fr_model *model;
	struct fr_session *s; /* the one at work */
	char backend[16], isa[32], activations[16];
	int threads;
	enum fr_dtype weights; /* of the decoder's matrices */
	char *memory;	       /* [FR_STAGE_READ_BYTES], for bursts of reading; NULL: the device is no CPU level */
	size_t at;
	struct fr_plot *plot;  /* NULL: none is wanted */
	struct fr_stage stage; /* the one at work */
};

/* bench/stage.c. Clears b->stage and names it: what "/" and the format's text. 1: it is wanted; 0: the filter says no,
 * or the run is to end. */
int fr_stage_begin(struct fr_stages *b, const char *what, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* Runs `once`, which gives the milliseconds of one run, for the time of a row, three times at least, with bursts of the
 * peaks in between, and prints the line. */
int fr_stage_run(struct fr_stages *b, int (*once)(struct fr_stages *b, double *ms, struct fr_error *err),
		 struct fr_error *err);
/* A line with the samples that are there. */
void fr_stage_say(struct fr_stages *b);
void fr_stage_say_one(struct fr_stages *b, double ms);
/* The table's head, or the JSON line of the machine. */
void fr_stages_say_head(const struct fr_stages *b);
/* A line about memory; held: bytes of the device, 0: not known. */
void fr_stages_say_memory(const struct fr_stages *b, const char *what, const struct fr_process_memory *memory,
			  size_t held);
/* The same of this process with the session that is open. */
void fr_stages_say_own_memory(const struct fr_stages *b, const char *what);
/* The share of the decoder's weights in the page cache; -1: not known. */
void fr_stages_say_cached(const struct fr_stages *b, double share);
/* Title, notes and the roofs that no stage has needed; a session is open. */
void fr_stages_finish_plot(struct fr_stages *b);
/* A row that was asked for and cannot be. */
void fr_stages_say_left_out(const struct fr_stages *b, const char *name, const char *why);

/* bench/process.c: a whole run of a program, from its start to its end. */
struct fr_process_run {
	double ms;
	struct fr_process_memory memory; /* as it was seen while it ran, each at its most */
	char *text;			 /* what it wrote to stdout, NUL-terminated; the caller frees */
};
/* argv[0] is the program; its stdin are bytes [size]. An exit status other than 0 is an error. */
int fr_process_run(char *const argv[], const void *bytes, size_t size, struct fr_process_run *out,
		   struct fr_error *err);
/* The most counts anew from here. */
void fr_process_forget_most(void);

#endif
