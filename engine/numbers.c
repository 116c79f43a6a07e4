/* When logits are not finite, the cause is a damaged weight far more often than an overflow: look there first, then
 * run the image again with a tap that watches every intermediate. */
#include "numbers.h"

#include <math.h>

int fr_all_finite(const float *x, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!isfinite(x[i]))
			return -1;
	return 0;
}

struct watch {
	char first[96];
	size_t index;
};

static int want(void *user, const char *name)
{
	(void)name;
	return ((struct watch *)user)->first[0] == 0;
}

static void take(void *user, const char *name, const float *values, size_t n)
{
	struct watch *w = user;

	for (size_t i = 0; i < n; i++)
		if (!isfinite(values[i])) {
			snprintf(w->first, sizeof w->first, "%s", name);
			w->index = i;
			return;
		}
}

int fr_explain_numbers(struct fr_session *s, const struct fr_picture *pic, int question, const char *where,
		       struct fr_error *err)
{
	size_t index;
	const struct fr_tensor *t = fr_parts_nonfinite(&s->model->parts, &index);
	struct watch w = {{0}, 0};
	struct fr_tap tap = {.user = &w, .want = want, .take = take};
	struct fr_tap *outer = s->tap;
	const struct fr_part part = {.question = question, .to = s->question[question].n + s->model->n_opening};
	const struct fr_prefill p = {.part = &part, .n = 1, .n_logits = 1};
	int rc = 0;

	if (t)
		return fr_fail(err, FR_E_NUMBERS,
			       "%s: logits are not finite; the first weight that is not finite is %s in %s, item %zu",
			       where, t->name, t->file, index);
	s->tap = &tap;
	if (pic)
		rc = fr_session_see(s, &pic, 1, err) || fr_session_prefill(s, &p, err);
	s->tap = outer;
	fr_tap_free(&tap);
	if (rc)
		return -1;
	return fr_fail(
		err, FR_E_NUMBERS,
		"%s: logits are not finite; all weights are finite, the first intermediate that is not is %s, item %zu",
		where, w.first[0] ? w.first : "in the decoded text", w.index);
}
