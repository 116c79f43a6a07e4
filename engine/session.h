/* A session's inside: one device, its planned memory, and the three steps that judging and dumping are made of. */
#ifndef FR_ENGINE_SESSION_H
#define FR_ENGINE_SESSION_H

#include "model.h"
#include "net.h"
#include "plan.h"
#include "sample.h"
#include "../kernels/pick.h"

struct fr_session {
	const struct fr_model *model;
	struct fr_session_opts o; /* defaults filled in */
	struct fr_dev *dev;
	struct fr_net net;
	struct fr_plan plan;
	struct fr_vit_buffers vb;
	struct fr_text_buffers tb;
	struct fr_kv kv;
	float *pixels, *images;    /* device: [3, S, S], [n_image, dim] */
	float *rope_cos, *rope_sin; /* device: [kv.max_pos, head_dim / 2] */

	const char *chat;          /* static */
	char *prompt;              /* as it is fed, owned */
	int32_t *prompt_ids;       /* [n_prompt]: expanded, <image> n_image times */
	int n_prompt;

	/* host memory for one call */
	int rows_max;              /* n_prompt + n_opening, or the batch if that is more */
	int32_t *ids;              /* [rows_max] */
	struct fr_row *row;        /* [rows_max] */
	uint8_t *u8;               /* [S, S, 3] */
	float *host_pixels;        /* [3, S, S] */
	float *logits;             /* [max(1 + n_opening, batch), vocab] */
	struct fr_candidate *room; /* [vocab] */
	struct fr_tap *tap;        /* NULL but while dumping */
	double ms_vision, ms_text; /* of the last call */
};

/* host_pixels -> image rows, for branch 0.. of the model. */
int fr_session_see(struct fr_session *s, struct fr_error *err);
/* Rows from .. to-1 of prompt + opening into slot `seq`; logits of the last n_logits rows come to s->logits. */
int fr_session_prefill(struct fr_session *s, int seq, int from, int to, int n_logits, struct fr_error *err);
/* One row of each of n sequences: s->ids and s->row [n] are filled by the caller; logits [n, vocab] in s->logits. */
int fr_session_step(struct fr_session *s, int n, struct fr_error *err);

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
enum fr_verdict fr_text_verdict(const char *text, size_t len);

/* engine/selftest_demo.c: the demo model's known answer at each of n levels; prints lines to out, returns how many
 * failed. A level this CPU lacks is a skip line. */
int fr_selftest_demo(const char *const *levels, size_t n, FILE *out);

double fr_now_ms(void);

#endif
