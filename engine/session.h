/* A session's inside: one device, its planned memory, and the three steps that judging and dumping are made of. */
#ifndef FR_ENGINE_SESSION_H
#define FR_ENGINE_SESSION_H

#include "drafts.h"
#include "intake.h"
#include "model.h"
#include "net.h"
#include "plan.h"
#include "sample.h"
#include "../kernels/pick.h"

/* What a session takes of a device's memory, and what there is; all in bytes. */
struct fr_needs {
	struct fr_net_bytes weights;
	size_t plan;        /* buffers and what the operations work in */
	size_t free, total; /* of the device; 0: it does not say */
};

/* A prompt as it is fed. */
struct fr_question {
	char *text;
	int32_t *ids; /* [n]: <image> is image_id n_image times */
	int n;
};
/* What a sequence's keys and values are those of: the first n positions of a question, with an image. */
struct fr_held {
	uint64_t image; /* fr_session.seen */
	int question, n;
};

struct fr_session {
	const struct fr_model *model;
	struct fr_session_opts o; /* defaults filled in */
	struct fr_dev *dev;
	struct fr_net net;
	struct fr_plan plan;
	struct fr_needs needs;
	struct fr_limits limits;   /* of the calls to the device */
	struct fr_vit_buffers vb;
	struct fr_fusion_buffers fb;
	struct fr_text_buffers tb;
	struct fr_kv kv;
	int together;              /* images that are seen and prefilled in one call, at most */
	int ahead;                 /* pictures that are decoded while others are computed */
	int device_layers;         /* decoder layers whose weights lie in the device's memory */
	int stay;                  /* decoder layers that stay in the page cache, as it was at the start: fewer than all
				      only where weights are mapped */
	struct fr_stream *stream;  /* of the others; NULL: all stay */
	char streamed[256];        /* the sentence about it, or "" */
	float *pixels, *images;    /* device: [together, 3, S, S], [together * n_image, dim] */
	float *rope_cos, *rope_sin; /* device: [kv.max_pos, head_dim / 2] */
	void *work;                /* device: what the operations work in */

	const char *chat;          /* static */
	struct fr_question *question; /* [n_questions] */
	int n_questions, longest;  /* positions of the longest */
	struct fr_held *held;      /* [batch] */
	uint64_t *seen, n_seen;    /* [together]: numbers, from 1, of the images whose rows s->images holds; images so far */

	/* host memory for one call */
	int step_rows;             /* of a decode step at most: the batch, or more with proposed tokens */
	int rows_max;              /* together * (longest + n_opening), or step_rows if that is more */
	int logit_rows;            /* together * (1 + n_opening), or step_rows if that is more */
	int32_t *ids;              /* [rows_max] */
	int *end;                  /* [together]: behind the last row of each sequence prefilled */
	struct fr_row *row;        /* [rows_max] */
	double *draw;              /* [logit_rows]: uniform in [0, 1), of the tokens to be sampled */
	int32_t *picked;           /* [logit_rows]: the token chosen at each row; -1: its logits are not finite */
	int32_t *sampled;          /* [together]: the token sampled at the first logit row of each prefilled sequence */
	float *heat;               /* [together, n_image]: of the last pictures seen, the class token's attention to each patch
				      in the last layer that runs of branch desc.look, mean over heads; NULL: not asked for */
	float *heads;              /* [together, heads, 1 + n_image]: what heat is made of */
	float (*labels)[2];        /* [together]: logits of real and fake at the last row of each prefilled sequence */
	struct fr_intake *intake;  /* together + ahead pictures */
	struct fr_ngram *drafts;   /* learns the texts as they leave; NULL: nothing is proposed */
	struct fr_speculation spec; /* counts since the session was opened */
	struct fr_tap *tap;        /* NULL but while dumping */
	double ms_vision, ms_text; /* of the last call */
	/* Called while the device is at work on what a step has asked of it, or before it is. NULL: not at all. */
	void (*meanwhile)(void *user);
	void *meanwhile_user;
};

/* fr_session_new, for tests too: together and ahead 0 are the device's own. */
struct fr_session_force {
	int together, ahead;
};
int fr_session_open(const struct fr_model *model, const struct fr_session_opts *opts,
		    const struct fr_session_force *force, struct fr_session **out, struct fr_error *err);

/* n pictures, at most `together` -> image rows; with opts.heat, s->heat. */
int fr_session_see(struct fr_session *s, const struct fr_picture *const *pics, int n, struct fr_error *err);
/* Into n sequences, at most `together`: rows from .. to-1 of a question with the opening behind it. Afterwards s->picked
 * holds the greedy choice at the last n_logits rows of each, s->labels the label logits at the very last, and with draw
 * [n] s->sampled the choice with that draw at the first of them. */
struct fr_part {
	int seq, question;
	int image;  /* which of the pictures last seen */
	int source; /* the sequence that rows 0 .. from-1 are in: seq itself, or another that they are copied from */
	int from, to;
};
struct fr_prefill {
	const struct fr_part *part; /* [n]; what one copies may be what an earlier one has copied, not what it computes */
	int n, n_logits;
	const double *draw; /* NULL: greedy only */
};
int fr_session_prefill(struct fr_session *s, const struct fr_prefill *p, struct fr_error *err);

/* engine/reuse.c: the first rows of a question that a sequence holds already, for the image of that number; never its
 * last, whose logits are needed. */
int fr_held_common(const struct fr_session *s, const struct fr_held *held, int question, uint64_t image);
/* Where a prompt is prefilled at the least cost: part->question and ->image are given; seq becomes one of the n free
 * sequences, source and from what is there. That one then counts as holding these rows. */
void fr_reuse(struct fr_session *s, const int *free, int n, struct fr_part *part);
/* Would it be less work once the n parts are prefilled? */
int fr_reuse_waits(const struct fr_session *s, const struct fr_part *part, int n, int question, int image);
/* The rows of each part that are in another sequence. */
void fr_reuse_copy(struct fr_session *s, const struct fr_part *part);

/* n rows, at most s->step_rows, each the next of its sequence or one behind it in the same call: s->ids, s->row and, when sampling, s->draw [n] are filled by the caller; the tokens
 * chosen come to s->picked. */
int fr_session_step(struct fr_session *s, int n, struct fr_error *err);
/* The label logits of row `row` of the last step. */
int fr_session_labels(struct fr_session *s, int row, float out[2], struct fr_error *err);
/* The whole logits of rows first .. first + n - 1 of the last prefill or step: logits [n, vocab] in host memory. */
int fr_session_logits(struct fr_session *s, int first, int n, float *logits, struct fr_error *err);

/* engine/layout.c: everything that is decided before memory of a device is taken. First what needs no device: options and
 * prompt; then, with s->dev open, sizes and the plan, which fails with FR_E_MEMORY, saying what would fit, when the device
 * has not enough. */
int fr_read_options(struct fr_session *s, struct fr_error *err);
int fr_lay_out(struct fr_session *s, const struct fr_session_force *force, struct fr_error *err);
/* Once a session whose weights do not all stay in memory has taken its own: how many decoder layers do by now. */
int fr_layers_that_stay_now(const struct fr_session *s);
/* The layout for a report: s is zeroed, gets the device and the layout and is freed by fr_session_close; a device too small
 * is no error but says so in *fits. */
int fr_session_preview(struct fr_session *s, const struct fr_model *model, const struct fr_session_opts *opts,
		       struct fr_error *fits, struct fr_error *err);
void fr_session_close(struct fr_session *s);
/* "13.2 GiB" into buf; returns buf. */
char *fr_size_text(size_t bytes, char *buf, size_t size);

/* engine/prompt.c: the text that is fed and its ids with <image> expanded. *chat gets the name in use. */
int fr_prompt_build(const struct fr_model *m, const char *prompt, const char *chat, const char **chat_used, char **text,
		    int32_t **ids, int *n, struct fr_error *err);
/* All questions of s->o into s->question, and s->chat. */
int fr_questions_read(struct fr_session *s, struct fr_error *err);
/* The same from a file of ids, which must hold the image token n_image times. *text gets "". */
int fr_prompt_read(const struct fr_model *m, const char *path, char **text, int32_t **ids, int *n, struct fr_error *err);
/* One named tensor of a safetensors file: bytes stay mapped until fr_map_close. */
int fr_read_tensor(const char *path, const char *name, struct fr_tensor *out, const uint8_t **bytes, size_t *size,
		   struct fr_error *err);

/* engine/verdict.c */
double fr_p_fake(const struct fr_calibration *c, float logit_real, float logit_fake);
enum fr_verdict fr_verdict_of(const struct fr_session_opts *o, double p_fake);
enum fr_verdict fr_text_verdict(enum fr_text_rule rule, const char *text, size_t len);

/* Whose known answers hold for a level: by how it rounds, or, of some operations, nobody's but its own. */
enum fr_selftest_bits { FR_SELFTEST_FLOAT32, FR_SELFTEST_PAIRS, FR_SELFTEST_TILES, FR_SELFTEST_OWN };
struct fr_selftest_level {
	const char *name, *backend, *isa;
	enum fr_selftest_bits bits;
	int unit;	   /* 1: it computes with instructions for bf16 */
	int kernels_alone; /* 1: a level in plain C, too slow for the rest */
};
/* The self-test of one level, NULL: of all; prints lines to out, returns how many failed. */
int fr_selftest_at(const char *name, FILE *out);
/* engine/selftest_demo.c: the demo model's known answer at each of n levels; prints lines to out, returns how many
 * failed. A level this machine lacks is a skip line. */
int fr_selftest_demo(const struct fr_selftest_level *levels, size_t n, FILE *out);

double fr_now_ms(void);

#endif
