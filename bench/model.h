/* What the files of `fr-run bench model` share: its state, and the parts that model.c goes through. */
#ifndef FR_BENCH_MODEL_H
#define FR_BENCH_MODEL_H

#include "stage.h"

#define FR_BENCH_TOGETHER 16

struct fr_bench_model {
	struct fr_stages b; /* first */
	uint8_t *file;	    /* [size]: the picture, and 8 bytes that count */
	size_t size;
	uint64_t count;
	struct fr_picture pic[FR_BENCH_TOGETHER]; /* n_pic of them decoded */
	const struct fr_picture *see[FR_BENCH_TOGETHER];
	int n_pic;
	int left; /* pictures still to be judged */
	struct fr_error bad;
	int prompt; /* rows of the model's own prompt */
	int stay;   /* decoder layers that stay in memory in the smallest session */
	int tokens; /* of a whole run; 0: the verdict only */
	struct fr_process_memory end;
	int filled; /* positions whose keys and values are there, in every sequence */
};

/* The i-th number of sequences to be measured, 0 after the last. */
int fr_bench_batch(int i, const struct fr_bench_opts *opts);
/* A session's options for verdicts of that many pictures. */
struct fr_session_opts fr_bench_session(const struct fr_bench_opts *o, int batch);
void fr_bench_close(struct fr_bench_model *m);
/* The first `rows` rows of prompt and opening, of `group` pictures seen before. */
int fr_bench_prefill(struct fr_bench_model *m, int group, int rows, struct fr_error *err);
/* bench/model_text.c: prefill and decoding at several lengths. */
int fr_bench_text(struct fr_bench_model *m, struct fr_error *err);
/* bench/model_end.c: whole runs of opts->program. */
int fr_bench_end(struct fr_bench_model *m, struct fr_error *err);

#endif
