/* From two logits to P(fake) and a verdict; from text to its authors' verdict; and the calibration file.
 *
 * P(fake) = sigmoid((l_fake - l_real) / T + b) in double. The exponential is our own: %.9g of the result must not
 * depend on the C library. */
#include "answer.h"
#include "session.h"

#include "../weights/json.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>

/* exp in double, |relative error| below 1e-15: 2^n times the Taylor series of the rest, |r| <= ln2/2, up to r^17. */
static double exp_double(double x)
{
	static const double ln2_hi = 0x1.62e42fefap-1, ln2_lo = 0x1.cf79abc9e3b39p-40;
	double n, r, sum = 1;

	if (x > 700)
		x = 700;
	if (x < -700)
		x = -700;
	n = rint(x * 0x1.71547652b82fep0);
	r = x - n * ln2_hi;
	r = r - n * ln2_lo;
	for (int i = 17; i > 0; i--)
		sum = 1 + sum * r / i;
	return ldexp(sum, (int)n);
}

double fr_p_fake(const struct fr_calibration *c, float logit_real, float logit_fake)
{
	return 1 / (1 + exp_double(-(((double)logit_fake - (double)logit_real) / c->temperature + c->bias)));
}

enum fr_verdict fr_verdict_of(const struct fr_session_opts *o, double p_fake)
{
	if (p_fake >= o->band_lo && p_fake < o->band_hi)
		return FR_INCONCLUSIVE;
	return p_fake >= o->threshold ? FR_FAKE : FR_REAL;
}

const char *fr_verdict_name(enum fr_verdict v)
{
	static const char *const names[] = {
		[FR_REAL] = "real", [FR_FAKE] = "fake", [FR_INCONCLUSIVE] = "inconclusive", [FR_UNPARSED] = "unparsed"};
	return names[v];
}

static int contains_word(const char *text, size_t len, const char *word)
{
	size_t n = strlen(word);

	for (size_t i = 0; i + n <= len; i++) {
		size_t k = 0;
		while (k < n && tolower((unsigned char)text[i + k]) == word[k])
			k++;
		if (k == n)
			return 1;
	}
	return 0;
}

/* FakeVLM's released rule, "unparsed" in place of its random guess: the first, then the second stretch between full
 * stops, lower-cased, 'real' before 'fake'. "unrealistic" therefore counts as real, as it does there. */
static enum fr_verdict by_sentences(const char *text, size_t len)
{
	for (int sentence = 0; sentence < 2 && len; sentence++) {
		const char *stop = memchr(text, '.', len);
		size_t n = stop ? (size_t)(stop - text) : len;
		if (contains_word(text, n, "real"))
			return FR_REAL;
		if (contains_word(text, n, "fake"))
			return FR_FAKE;
		n += stop != NULL;
		text += n;
		len -= n;
	}
	return FR_UNPARSED;
}

enum fr_verdict fr_text_verdict(enum fr_text_rule rule, const char *text, size_t len)
{
	static enum fr_verdict (*const rules[FR_TEXT_RULES])(const char *text, size_t len) = {
		[FR_RULE_SENTENCES] = by_sentences,
		[FR_RULE_CONCLUSION] = fr_answer_verdict,
	};
	return rules[rule](text, len);
}

static int read_number(const cJSON *root, const char *path, const char *key, double *out, struct fr_error *err)
{
	const cJSON *v = cJSON_GetObjectItemCaseSensitive(root, key);

	if (!cJSON_IsNumber(v) || !isfinite(v->valuedouble))
		return fr_fail(err, FR_E_MODEL, "%s: \"%s\" is missing or no number", path, key);
	*out = v->valuedouble;
	return 0;
}

static int read_calibration(const cJSON *root, const char *path, const struct fr_model *m, struct fr_calibration *out,
			    struct fr_error *err)
{
	const cJSON *hash = cJSON_GetObjectItemCaseSensitive(root, "model_hash");
	double schema = 0;

	FR_TRY(read_number(root, path, "schema", &schema, err));
	if (schema != 1)
		return fr_fail(err, FR_E_MODEL, "%s: calibration schema %g, expected 1", path, schema);
	if (!cJSON_IsString(hash))
		return fr_fail(err, FR_E_MODEL, "%s: \"model_hash\" is missing or no string", path);
	if (strcmp(hash->valuestring, m->hash) != 0)
		return fr_fail(err, FR_E_MODEL, "%s: fitted for weights %.16s, but this model's hash is %.16s", path,
			       hash->valuestring, m->hash);
	FR_TRY(read_number(root, path, "temperature", &out->temperature, err));
	FR_TRY(read_number(root, path, "bias", &out->bias, err));
	if (out->temperature <= 0)
		return fr_fail(err, FR_E_MODEL, "%s: temperature %g, expected above 0", path, out->temperature);
	out->fitted = 1;
	return 0;
}

int fr_calibration_load(const char *path, const struct fr_model *m, struct fr_calibration *out, struct fr_error *err)
{
	const uint8_t *bytes;
	size_t size;
	cJSON *root = NULL;
	int rc;

	memset(out, 0, sizeof *out);
	if (m->desc.demo)
		return fr_fail(err, FR_E_USAGE,
			       "the demo model is not calibrated: its numbers mean nothing outside its own images");
	FR_TRY(fr_map_open(path, &bytes, &size, err));
	fr_sha256_hex(bytes, size, out->hash);
	rc = fr_json_parse(bytes, size, path, &root, err);
	if (rc == 0)
		rc = read_calibration(root, path, m, out, err);
	cJSON_Delete(root);
	fr_map_close(bytes, size);
	return rc;
}
