/* What `fr-run info` knows of a model, gathered once (info.c) and shown for people (info_text.c) or as JSON
 * (info_json.c). */
#ifndef FR_ENGINE_INFO_H
#define FR_ENGINE_INFO_H

#include "session.h"

#define FR_INFO_GROUPS 256 /* a checkpoint has some 40; a made-up one shall not cost more than this */

struct fr_info_group {
	char name[160]; /* numbers between dots as N */
	const struct fr_tensor *first;
	size_t count;
	enum fr_from from;
	int asked; /* for the model; else left alone */
};
struct fr_info {
	const struct fr_model *m;
	const struct fr_session_opts *o;
	struct fr_info_group *group;
	size_t n_groups, beyond;   /* tensors whose group found no place */
	size_t bytes;		   /* of all tensors */
	size_t copied, n_copied;   /* tensors that are not used in their file but through a copy */
	size_t kv_position;	   /* bytes of KV per position and sequence */
	struct fr_session session; /* with the options, laid out, nothing taken */
	struct fr_error fits;	   /* FR_OK, or why it would not start */
	int checked;
	char machine[512];
};

void fr_info_text(const struct fr_info *f, FILE *out);
int fr_info_json(const struct fr_info *f, FILE *out, struct fr_error *err);
/* Of a model that is not complete: where its parts are, and as much of *d as was read (widths of what was not are 0).
 */
void fr_info_text_missing(const struct fr_parts *p, const struct fr_model_desc *d, FILE *out);
int fr_info_json_missing(const struct fr_parts *p, const struct fr_model_desc *d, FILE *out, struct fr_error *err);

/* Words that both forms use. */
const char *fr_info_act(enum fr_act act);
const char *fr_info_resample(enum fr_resample r);
extern const char *const fr_info_lora[FR_LORAS]; /* "q", "gate" */

#endif
