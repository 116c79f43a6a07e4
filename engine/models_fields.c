/* Fields of a checkpoint's JSON files that are more than a number: names out of a list, and what must have one value.
 */
#include "models.h"

static const struct {
	const char *name;
	enum fr_act act;
} acts[] = {{"quick_gelu", FR_ACT_QUICK_GELU}, {"gelu", FR_ACT_GELU}, {"silu", FR_ACT_SILU}, {"swish", FR_ACT_SILU}};

int fr_read_act(struct fr_json j, const char *key, enum fr_act *act, struct fr_error *err)
{
	const char *name = NULL;

	FR_TRY(fr_json_string(j, key, &name, err));
	if (!name)
		return 0;
	for (size_t i = 0; i < sizeof acts / sizeof *acts; i++)
		if (strcmp(acts[i].name, name) == 0) {
			*act = acts[i].act;
			return 0;
		}
	return fr_fail(err, FR_E_MODEL, "%s: %s: expected quick_gelu, gelu or silu, got \"%.80s\"", j.file, key, name);
}

int fr_want_string(struct fr_json j, const char *key, const char *want, struct fr_error *err)
{
	const char *got = want;

	FR_TRY(fr_json_string(j, key, &got, err));
	if (strcmp(got, want) != 0)
		return fr_fail(err, FR_E_MODEL, "%s: %s: expected \"%s\", got \"%.80s\"", j.file, key, want, got);
	return 0;
}

int fr_want_flag(struct fr_json j, const char *key, int want, const char *why, struct fr_error *err)
{
	int got = want;

	FR_TRY(fr_json_bool(j, key, &got, err));
	if (got != want)
		return fr_fail(err, FR_E_MODEL, "%s: %s is %s: %s", j.file, key, got ? "true" : "false", why);
	return 0;
}

int fr_check_heads(const char *where, int dim, int heads, int head_dim, struct fr_error *err)
{
	if (head_dim == 0)
		return fr_fail(err, FR_E_MODEL, "%s: %d heads do not divide a width of %d", where, heads, dim);
	if (head_dim % 8 || head_dim > 320)
		return fr_fail(err, FR_E_MODEL, "%s: expected a head size that is a multiple of 8 up to 320, got %d",
			       where, head_dim);
	return 0;
}
