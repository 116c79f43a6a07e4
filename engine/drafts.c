/* When tokens are proposed, how many, and the file of earlier texts.
 *
 * One row more costs a step the share c of what a step of one row takes (fr_dev.row_cost). With B sequences in a step
 * that takes 1 + c (B - 1), each token costs (1 + c (B - 1)) / B; so a row that brings a token with probability P pays
 * where P > c B / (1 + c (B - 1)). That bound grows with B: where many sequences share the weights, little is left to
 * gain. On a device where a row costs a whole step it is 1, and nothing is proposed. */
#include "drafts.h"

#include "session.h"

#include <cjson/cJSON.h>
#include <stdlib.h>

static double bound(const struct fr_session *s, int lanes)
{
	const double c = s->dev->row_cost;

	return s->o.speculate > 0 ? 0 : c * lanes / (1 + c * (lanes - 1));
}

/* Sampling draws one number a token and reads no proposals; an own verdict without a text has none to read. */
static int wanted(const struct fr_session *s)
{
	return s->o.speculate >= 0 && s->o.sampler.temperature <= 0 && !s->o.verdict_only && bound(s, 1) < 1;
}

int fr_drafts_rows(const struct fr_session *s)
{
	const int each = s->o.speculate > 0 ? s->o.speculate : FR_MAX_SPECULATE, batch = s->o.batch;
	const int rows = batch * (1 + each) < FR_MAX_STEP_ROWS ? batch * (1 + each) : FR_MAX_STEP_ROWS;

	return wanted(s) && rows > batch ? rows : batch;
}

int fr_drafts_propose(struct fr_session *s, const int32_t *ids, size_t n, int lanes, int most, int32_t *out)
{
	if (s->o.speculate > 0 && most > s->o.speculate)
		most = s->o.speculate;
	return s->drafts && most > 0 ? fr_ngram_propose(s->drafts, ids, n, most, bound(s, lanes), out) : 0;
}

/* ---- the file ---- */

static int learn(struct fr_session *s, const char *text, size_t len, int ended, struct fr_error *err)
{
	int32_t *ids;
	size_t n;

	FR_TRY(fr_tokenizer_encode(s->model->tok, text, len, 0, &ids, &n, err));
	fr_ngram_learn(s->drafts, ids, n, ended);
	free(ids);
	return 0;
}

/* A line of --json; one without a text (an image with an error) teaches nothing. */
static int learn_json(struct fr_session *s, const char *line, size_t len, size_t number, struct fr_error *err)
{
	cJSON *o = cJSON_ParseWithLength(line, len);
	const cJSON *text = cJSON_GetObjectItem(o, "text");
	const char *stop = cJSON_GetStringValue(cJSON_GetObjectItem(o, "stop"));
	int rc = 0;

	if (!o || !text)
		rc = fr_fail(err, FR_E_FORMAT,
			     "%s, line %zu: begins with '{', but is no JSON object with a \"text\"; expected lines of "
			     "fr-run --json, or plain text with one text a line",
			     s->o.draft_from, number);
	else if (cJSON_IsString(text))
		rc = learn(s, text->valuestring, strlen(text->valuestring), !stop || strcmp(stop, "eos") == 0, err);
	cJSON_Delete(o);
	return rc;
}

static int learn_lines(struct fr_session *s, const char *at, size_t size, struct fr_error *err)
{
	const char *end = at + size;

	for (size_t number = 1; at < end; number++) {
		const char *stop = memchr(at, '\n', (size_t)(end - at));
		size_t len = (size_t)((stop ? stop : end) - at);

		if (len > FR_MAX_DRAFT_LINE)
			return fr_fail(err, FR_E_FORMAT, "%s, line %zu: has %zu bytes, expected at most %zu",
				       s->o.draft_from, number, len, FR_MAX_DRAFT_LINE);
		if (len && at[len - 1] == '\r')
			len--;
		if (len && *at == '{')
			FR_TRY(learn_json(s, at, len, number, err));
		else if (len)
			FR_TRY(learn(s, at, len, 1, err));
		at = stop ? stop + 1 : end;
	}
	return 0;
}

int fr_drafts_open(struct fr_session *s, struct fr_error *err)
{
	const uint8_t *bytes;
	size_t size;
	int rc;

	if (fr_drafts_rows(s) == s->o.batch)
		return 0;
	s->drafts = fr_ngram_new();
	if (!s->drafts)
		return fr_fail(err, FR_E_MEMORY, "no memory for the table of proposed tokens, %zu bytes",
			       FR_NGRAM_BYTES);
	if (!s->o.draft_from)
		return 0;
	FR_TRY(fr_map_open(s->o.draft_from, &bytes, &size, err));
	if (size > FR_MAX_DRAFT_FILE)
		rc = fr_fail(err, FR_E_FORMAT, "%s: has %zu bytes, expected a file of texts of at most %zu",
			     s->o.draft_from, size, FR_MAX_DRAFT_FILE);
	else
		rc = learn_lines(s, (const char *)bytes, size, err);
	fr_map_close(bytes, size);
	return rc;
}
