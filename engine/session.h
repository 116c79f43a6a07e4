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
	int ahead;                 /* pictures that are decoded while the device works */
	int device_layers;         /* decoder layers whose weights lie in the device's memory */
	int stay;                  /* decoder layers that stay in the page cache, as it was at the start: fewer than all
				      only where weights are mapped */
	struct fr_stream *stream;  /* of the others; NULL: all stay */
	char streamed[256];        /* the sentence about it, or "" */
	float *pixels, *images;    /* device: [together, 3, S, S], [together * n_image, dim] */
	float *rope_cos, *rope_sin; /* device: [kv.max_pos, head_dim / 2] */
	void *work;                /* device: what the operations work in */

	const char *chat;          /* static */
	char *prompt;              /* as it is fed, owned */
	int32_t *prompt_ids;       /* [n_prompt]: expanded, <image> n_image times */
	int n_prompt;
	int n_prefix;              /* positions before the image, the same for every picture */
	char *has_prefix;          /* [batch]: the sequence's slot holds keys and values of the prefix */

	/* host memory for one call */
	int step_rows;             /* of a decode step at most: the batch, or more with proposed tokens */
	int rows_max;              /* together * (n_prompt + n_opening), or step_rows if that is more */
	int logit_rows;            /* together * (1 + n_opening), or step_rows if that is more */
	int32_t *ids;              /* [rows_max] */
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
	/* Called while the device is at work on what a step has asked of it. NULL: not at all. */
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
/* Rows from .. to-1 of prompt + opening into each of n sequences, the i-th with the i-th picture seen. Afterwards
 * s->picked holds the greedy choice at the last n_logits rows of each, s->labels the label logits at the very last, and
 * with draw [n] s->sampled the choice with that draw at the first of them. */
struct fr_prefill {
	const int *seq; /* [n] */
	int n, from, to, n_logits;
	const double *draw; /* NULL: greedy only */
};
int fr_session_prefill(struct fr_session *s, const struct fr_prefill *p, struct fr_error *err);
/* The first position that a prefill of those n sequences has to compute: 0, or n_prefix where all of them have that from
 * an earlier picture, since nothing that follows is written over it. */
int fr_session_from(const struct fr_session *s, const int *seq, int n);
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
/* The same from a file of ids, which must hold the image token n_image times. *text gets "". */
int fr_prompt_read(const struct fr_model *m, const char *path, char **text, int32_t **ids, int *n, struct fr_error *err);
/* One named tensor of a safetensors file: bytes stay mapped until fr_map_close. */
int fr_read_tensor(const char *path, const char *name, struct fr_tensor *out, const uint8_t **bytes, size_t *size,
		   struct fr_error *err);

/* engine/verdict.c */
double fr_p_fake(const struct fr_calibration *c, float logit_real, float logit_fake);
enum fr_verdict fr_verdict_of(const struct fr_session_opts *o, double p_fake);
enum fr_verdict fr_text_verdict(enum fr_text_rule rule, const char *text, size_t len);

struct fr_selftest_level {
	const char *name, *backend, *isa;
	int all_bits; /* 0: some operations' last bits are its own */
};
/* engine/selftest_demo.c: the demo model's known answer at each of n levels; prints lines to out, returns how many
 * failed. A level this machine lacks is a skip line. */
int fr_selftest_demo(const struct fr_selftest_level *levels, size_t n, FILE *out);

double fr_now_ms(void);

#endif
