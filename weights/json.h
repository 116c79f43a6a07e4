/* JSON files of a checkpoint: parsed by cJSON, then read field by field with a sentence for whatever is wrong. */
#ifndef FR_WEIGHTS_JSON_H
#define FR_WEIGHTS_JSON_H

#include "../engine/error.h"

#include <cjson/cJSON.h>

/* The top object of bytes [size], which the caller deletes. Refused: more than 64 MiB, other top values, bytes after
 * the object, a key twice in one object (readers differ in which one wins). `file` is for messages. */
int fr_json_parse(const uint8_t *bytes, size_t size, const char *file, cJSON **out, struct fr_error *err);

/* An object and the file it came from. The readers leave *v alone where the key is absent or null. */
struct fr_json {
	const cJSON *object; /* NULL: has no keys */
	const char *file;
};
const cJSON *fr_json_get(struct fr_json j, const char *key); /* NULL: absent or null */
/* Refused: other types, fractions, values outside lo..hi. */
int fr_json_int(struct fr_json j, const char *key, int lo, int hi, int *v, struct fr_error *err);
/* Refused: other types, values outside lo..hi. */
int fr_json_double(struct fr_json j, const char *key, double lo, double hi, double *v, struct fr_error *err);
int fr_json_bool(struct fr_json j, const char *key, int *v, struct fr_error *err);
int fr_json_string(struct fr_json j, const char *key, const char **v, struct fr_error *err); /* lives as long as j */
int fr_json_object(struct fr_json j, const char *key, struct fr_json *v, struct fr_error *err);

#endif
