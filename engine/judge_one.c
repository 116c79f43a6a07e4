/* fr_judge for those who have just one image. */
#include "session.h"

#include <stdlib.h>

struct single {
	const uint8_t *bytes;
	size_t size;
	int given;
	struct fr_result *out;
	char **text;
	int no_memory;
};

static int single_next(void *user, struct fr_job *job)
{
	struct single *one = user;

	if (one->given++)
		return 0;
	job->bytes = one->bytes;
	job->size = one->size;
	return 1;
}

static void single_result(void *user, const struct fr_result *r)
{
	struct single *one = user;

	*one->out = *r;
	one->out->text = NULL;
	one->out->sha256 = NULL;
	one->out->heat = NULL;
	if (one->text && r->text) {
		*one->text = malloc(r->text_len + 1);
		if (*one->text)
			memcpy(*one->text, r->text, r->text_len + 1);
		else
			one->no_memory = 1;
		one->out->text = *one->text;
	}
}

int fr_judge_one(struct fr_session *s, const uint8_t *bytes, size_t size, struct fr_result *out, char **text_out,
		 struct fr_error *err)
{
	struct single one = {.bytes = bytes, .size = size, .out = out, .text = text_out};

	memset(out, 0, sizeof *out);
	if (text_out)
		*text_out = NULL;
	if (s->n_questions > 1)
		return fr_fail(err, FR_E_USAGE, "fr_judge_one gives one result, the session has %d prompts",
			       s->n_questions);
	FR_TRY(fr_judge(s, &(struct fr_io){.user = &one, .next = single_next, .result = single_result}, err));
	if (one.no_memory)
		return fr_fail(err, FR_E_MEMORY, "no memory for the text");
	if (out->error.code != FR_OK) {
		if (err)
			*err = out->error;
		return -1;
	}
	return 0;
}
