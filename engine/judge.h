/* The inside of judging, which three files share beside judge.c: records (what is known of each image, until it leaves
 * in input order), starts (taking images, prefilling them) and lanes (the sequences whose text is being written). */
#ifndef FR_ENGINE_JUDGE_H
#define FR_ENGINE_JUDGE_H

#include "session.h"

struct fr_record {
	struct fr_result r;
	char sha256[65];
	char *text;	 /* [text_cap], owned by the ring */
	int32_t *ids;	 /* [ids_cap] of the text so far, its end token left out; owned by the ring; NULL: no proposals */
	size_t n_ids;
	float *heat;	 /* [n_image], owned by the ring; NULL: not asked for */
	size_t streamed; /* bytes of text already handed to io->text */
	int begun, done;
};

struct fr_lane {
	struct fr_record *rec;	      /* NULL: free */
	int32_t next;		      /* the token to feed */
	int pos;		      /* its position */
	int32_t tail[FR_MAX_OPENING]; /* the text's last tokens, the newest at the end */
	int due;  /* the text has just reached its conclusion: the next row's label logits are the reasoned score */
	int full; /* no token more: only that score is waited for */
	struct fr_rng rng;
	struct fr_detok detok;
};

/* A result about to be prefilled. */
struct fr_start {
	struct fr_record *rec;
	const struct fr_picture *pic;
	struct fr_rng rng;
};

/* A picture of the group whose questions are being asked. */
struct fr_asked {
	const struct fr_picture *pic;
	int image;	  /* its place among those seen; -1: it cannot be judged */
	double ms_vision; /* not yet given to a result */
};

struct fr_run {
	struct fr_session *s;
	const struct fr_io *io;
	struct fr_record *ring;
	size_t ring_n, head, next; /* results head .. next-1 are in the ring: result i is of image i / n_questions */
	size_t group, group_end, tail; /* images taken: those whose questions are being asked, and behind them others */
	struct fr_asked *asked;	       /* [s->together + s->ahead]: the group's */
	struct fr_lane *lane;
	struct fr_start *start; /* [s->together] */
	struct fr_part *part;	/* [s->together]: of the same */
	int active, ended;
	size_t text_cap, ids_cap;
};

/* engine/records.c */
struct fr_record *fr_record_of(struct fr_run *run, size_t index);
/* The label logits that p_fake and the verdict come from. */
void fr_record_score(const struct fr_session *s, struct fr_record *rec, const float labels[2]);
/* Hands out what is known: text of the first unfinished image, results up to it. */
void fr_records_emit(struct fr_run *run);
/* After an interruption: what is complete, unfinished ones left out. */
void fr_records_emit_complete(struct fr_run *run);

/* engine/starts.c */
int fr_run_stopped(const struct fr_run *run);
/* While the device works: the pictures of the next prefill. user is the run. */
void fr_starts_take_ahead(void *user);
/* Starts results in free sequences: of images that are decoded, or of all that are at hand when nothing else is to be
 * done. One prefill at most: 1 when something was done, 0 when not, -1. */
int fr_starts_fill(struct fr_run *run, struct fr_error *err);

/* engine/lanes.c */
/* The text's first tokens, of the i-th result prefilled: the opening when it is greedy's own, else a choice at the
 * prompt's last row. */
void fr_lane_begin(struct fr_run *run, int i);
/* One step: a token more in every lane that has text to write, and as many of those proposed as are right. */
int fr_lanes_step(struct fr_run *run, struct fr_error *err);

#endif
