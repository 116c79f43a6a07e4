/* JSON files of a checkpoint, see json.h. */
#include "json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MAX_BYTES ((size_t)64 << 20) /* cJSON takes about 32 bytes of memory for each byte at worst */

static int by_key(const void *a, const void *b)
{
	const cJSON *const *x = a, *const *y = b;

	return strcmp((*x)->string, (*y)->string);
}

static int check_keys(const cJSON *object, const char *file, struct fr_error *err)
{
	const cJSON **keys, *e;
	size_t n = 0, i = 0;
	int rc = 0;

	cJSON_ArrayForEach(e, object) n++;
	if (n < 2)
		return 0;
	keys = malloc(n * sizeof(*keys));
	if (!keys)
		return fr_fail(err, FR_E_MEMORY, "%s: no memory for %zu keys", file, n);
	cJSON_ArrayForEach(e, object) keys[i++] = e;
	qsort(keys, n, sizeof *keys, by_key);
	for (i = 1; i < n && rc == 0; i++)
		if (strcmp(keys[i - 1]->string, keys[i]->string) == 0)
			rc = fr_fail(err, FR_E_MODEL, "%s: the key \"%.200s\" stands twice in one object", file,
				     keys[i]->string);
	free(keys);
	return rc;
}

/* Depth is bounded by cJSON's nesting limit of 1000. */
static int check_all_keys(const cJSON *value, const char *file, struct fr_error *err)
{
	const cJSON *e;

	if (cJSON_IsObject(value))
		FR_TRY(check_keys(value, file, err));
	cJSON_ArrayForEach(e, value) if (e->child) FR_TRY(check_all_keys(e, file, err));
	return 0;
}

static int fail_at(const uint8_t *bytes, size_t at, const char *file, const char *what, struct fr_error *err)
{
	size_t line = 1;

	for (size_t i = 0; i < at; i++)
		line += bytes[i] == '\n';
	return fr_fail(err, FR_E_MODEL, "%s: expected one JSON object, %s at byte %zu (line %zu)", file, what, at,
		       line);
}

int fr_json_parse(const uint8_t *bytes, size_t size, const char *file, cJSON **out, struct fr_error *err)
{
	const char *end = NULL;
	cJSON *root;
	char *text;
	size_t at;

	*out = NULL;
	if (size == 0)
		return fr_fail(err, FR_E_MODEL, "%s: expected one JSON object, the file is empty", file);
	if (size > MAX_BYTES)
		return fr_fail(err, FR_E_MODEL, "%s: expected at most %zu bytes of JSON, got %zu", file, MAX_BYTES,
			       size);
	/* A copy with a NUL behind it: cJSON 1.7.15 may look at the byte after the last, and a mapping can end there. */
	text = malloc(size + 1);
	if (!text)
		return fr_fail(err, FR_E_MEMORY, "%s: no memory for %zu bytes of JSON", file, size);
	memcpy(text, bytes, size);
	text[size] = 0;
	root = cJSON_ParseWithLengthOpts(text, size, &end, 0);
	at = end ? (size_t)(end - text) : 0;
	free(text);
	if (!root)
		return fail_at(bytes, at, file, "the text breaks", err);
	while (at < size && (bytes[at] == ' ' || bytes[at] == '\n' || bytes[at] == '\r' || bytes[at] == '\t'))
		at++;
	if (at < size || !cJSON_IsObject(root)) {
		cJSON_Delete(root);
		return at < size ? fail_at(bytes, at, file, "more follows", err)
				 : fr_fail(err, FR_E_MODEL, "%s: expected a JSON object, got another value", file);
	}
	if (check_all_keys(root, file, err) != 0) {
		cJSON_Delete(root);
		return -1;
	}
	*out = root;
	return 0;
}

static const char *kind(const cJSON *v)
{
	return cJSON_IsString(v)   ? "a string"
	       : cJSON_IsNumber(v) ? "a number"
	       : cJSON_IsBool(v)   ? "true or false"
	       : cJSON_IsArray(v)  ? "a list"
				   : "an object";
}

const cJSON *fr_json_get(struct fr_json j, const char *key)
{
	const cJSON *v = j.object ? cJSON_GetObjectItemCaseSensitive(j.object, key) : NULL;

	return cJSON_IsNull(v) ? NULL : v;
}

int fr_json_double(struct fr_json j, const char *key, double lo, double hi, double *v, struct fr_error *err)
{
	const cJSON *e = fr_json_get(j, key);

	if (!e)
		return 0;
	if (!cJSON_IsNumber(e))
		return fr_fail(err, FR_E_MODEL, "%s: %s: expected a number, got %s", j.file, key, kind(e));
	if (!(e->valuedouble >= lo && e->valuedouble <= hi))
		return fr_fail(err, FR_E_MODEL, "%s: %s: expected %.15g to %.15g, got %.15g", j.file, key, lo, hi,
			       e->valuedouble);
	*v = e->valuedouble;
	return 0;
}

int fr_json_int(struct fr_json j, const char *key, int lo, int hi, int *v, struct fr_error *err)
{
	double d = *v;

	if (!fr_json_get(j, key))
		return 0;
	FR_TRY(fr_json_double(j, key, lo, hi, &d, err));
	if (d != floor(d))
		return fr_fail(err, FR_E_MODEL, "%s: %s: expected a whole number, got %.15g", j.file, key, d);
	*v = (int)d;
	return 0;
}

int fr_json_bool(struct fr_json j, const char *key, int *v, struct fr_error *err)
{
	const cJSON *e = fr_json_get(j, key);

	if (e && !cJSON_IsBool(e))
		return fr_fail(err, FR_E_MODEL, "%s: %s: expected true or false, got %s", j.file, key, kind(e));
	if (e)
		*v = cJSON_IsTrue(e);
	return 0;
}

int fr_json_string(struct fr_json j, const char *key, const char **v, struct fr_error *err)
{
	const cJSON *e = fr_json_get(j, key);

	if (e && !cJSON_IsString(e))
		return fr_fail(err, FR_E_MODEL, "%s: %s: expected a string, got %s", j.file, key, kind(e));
	if (e)
		*v = e->valuestring;
	return 0;
}

int fr_json_object(struct fr_json j, const char *key, struct fr_json *v, struct fr_error *err)
{
	const cJSON *e = fr_json_get(j, key);

	if (e && !cJSON_IsObject(e))
		return fr_fail(err, FR_E_MODEL, "%s: %s: expected an object, got %s", j.file, key, kind(e));
	*v = (struct fr_json){e, j.file};
	return 0;
}
