/* Loading: parts -> description -> binder -> tokenizer -> the pieces the verdict needs, and the hash.
 *
 * The hash names a set of weights without reading all of them: 13.5 GB would take longer than the verdict. It covers
 * the description's source files, the tokenizer, every tensor's name, dtype and shape, and of each tensor's bytes a
 * fixed sample (all of them up to 4 KiB, else 4 windows of 256 bytes spread evenly, the first and last included). A
 * fine-tune moves every tensor, so it cannot keep the hash; a single edited weight can: `info --check` reads all. */
#include "model.h"
#include "../weights/json.h"

#include <sha2.h>
#include <stdlib.h>

void fr_sha256_hex(const void *bytes, size_t size, char hex[65])
{
	SHA2_CTX c;

	SHA256Init(&c);
	SHA256Update(&c, bytes, size);
	SHA256End(&c, hex);
}

#define SAMPLE_ALL 4096
#define SAMPLE_WINDOWS 4
#define SAMPLE_BYTES 256

/* Where window i of a tensor larger than SAMPLE_ALL begins. */
static size_t window(const struct fr_tensor *t, size_t i)
{
	const size_t last = t->bytes - SAMPLE_BYTES;

	return i == SAMPLE_WINDOWS - 1 ? last : last / (SAMPLE_WINDOWS - 1) * i;
}

/* A checkpoint that is not in the page cache would be waited for one window after the other (53 s for a 7B on one
 * virtual disk): all are asked for before the first is read. */
static void fetch_samples(const struct fr_store *st)
{
	for (size_t i = 0; i < fr_store_count(st); i++) {
		const struct fr_tensor *t = fr_store_at(st, i);
		if (t->bytes <= SAMPLE_ALL)
			fr_map_fetch(t->data, t->bytes);
		for (size_t w = 0; w < SAMPLE_WINDOWS && t->bytes > SAMPLE_ALL; w++)
			fr_map_fetch((const uint8_t *)t->data + window(t, w), SAMPLE_BYTES);
	}
}

static void hash_tensor(SHA2_CTX *c, const struct fr_tensor *t)
{
	const uint8_t *p = t->data;

	SHA256Update(c, (const uint8_t *)t->name, strlen(t->name) + 1);
	SHA256Update(c, (const uint8_t *)fr_dtypes[t->dtype].name, strlen(fr_dtypes[t->dtype].name) + 1);
	for (int i = 0; i < t->ndim; i++) {
		uint8_t le[8];
		for (int b = 0; b < 8; b++)
			le[b] = (uint8_t)((uint64_t)t->shape[i] >> (8 * b));
		SHA256Update(c, le, 8);
	}
	if (t->bytes <= SAMPLE_ALL) {
		SHA256Update(c, p, t->bytes);
		return;
	}
	for (size_t i = 0; i < SAMPLE_WINDOWS; i++)
		SHA256Update(c, p + window(t, i), SAMPLE_BYTES);
}

/* Each with what stands in for it where it is absent, as engine/models.c reads them. The first two are hashed for every
 * model, those after only where there are parts apart: the hash of a model in one directory has never held them.
 * A place is a path of this machine: the same weights in another folder are the same model. */
static const struct {
	enum fr_desc_file file, other;
	const char *place; /* where there are parts apart: left out, and the rest hashed as compact JSON */
} hashed[] = {{FR_FILE_CONFIG, FR_FILE_CONFIG, "mm_vision_tower"},
	      {FR_FILE_PREPROCESSOR, FR_FILE_PROCESSOR, NULL},
	      {FR_FILE_GENERATION, FR_FILE_GENERATION, NULL},
	      {FR_FILE_CLIP_CONFIG, FR_FILE_CLIP_CONFIG, NULL},
	      {FR_FILE_CLIP_PREPROCESSOR, FR_FILE_CLIP_PREPROCESSOR, NULL},
	      {FR_FILE_ADAPTER, FR_FILE_ADAPTER, "base_model_name_or_path"}};
#define HASHED_ALWAYS 2

static int hash_without(SHA2_CTX *c, const uint8_t *bytes, size_t size, const char *place, struct fr_error *err)
{
	cJSON *root = NULL;
	char *text;
	int rc = -1;

	FR_TRY(fr_json_parse(bytes, size, "config.json", &root, err));
	cJSON_DeleteItemFromObjectCaseSensitive(root, place);
	cJSON_DeleteItemFromObjectCaseSensitive(root, "_name_or_path"); /* where transformers loaded it from */
	text = cJSON_PrintUnformatted(root);
	if (text) {
		SHA256Update(c, (const uint8_t *)text, strlen(text));
		rc = 0;
	} else {
		fr_fail(err, FR_E_MEMORY, "no memory to hash a file of %zu bytes", size);
	}
	cJSON_free(text);
	cJSON_Delete(root);
	return rc;
}

static int hash_files(SHA2_CTX *c, const struct fr_parts *p, struct fr_error *err)
{
	const size_t n = p->tower ? sizeof hashed / sizeof *hashed : HASHED_ALWAYS;

	for (size_t i = 0; i < n; i++) {
		const uint8_t *bytes;
		size_t size;
		int rc = fr_parts_file(p, hashed[i].file, &bytes, &size, err);

		if (rc > 0)
			rc = fr_parts_file(p, hashed[i].other, &bytes, &size, err);
		if (rc == 0 && p->tower && hashed[i].place)
			rc = hash_without(c, bytes, size, hashed[i].place, err);
		else if (rc == 0)
			SHA256Update(c, bytes, size);
		if (rc < 0)
			return -1;
		SHA256Update(c, (const uint8_t *)"", 1);
	}
	return 0;
}

static int hash_model(struct fr_model *m, struct fr_error *err)
{
	uint64_t fp = fr_tokenizer_fingerprint(m->tok);
	uint8_t le[8];
	SHA2_CTX c;

	SHA256Init(&c);
	FR_TRY(hash_files(&c, &m->parts, err));
	for (int b = 0; b < 8; b++)
		le[b] = (uint8_t)(fp >> (8 * b));
	SHA256Update(&c, le, 8);
	for (int i = 0; i < FR_FROMS; i++)
		if (m->parts.store[i])
			fetch_samples(m->parts.store[i]);
	for (uint8_t from = 0; from < FR_FROMS; from++) {
		const struct fr_store *st = m->parts.store[from];

		if (from && st)
			SHA256Update(&c, &from, 1);
		for (size_t i = 0; st && i < fr_store_count(st); i++)
			hash_tensor(&c, fr_store_at(st, i));
	}
	SHA256End(&c, m->hash);
	return 0;
}

/* Parts and description. Nobody shall fetch a CLIP for a model that would be refused with it: of an incomplete one the
 * description is read as far as it goes, and what is wrong before the missing parts matter (they come after the fusion)
 * is said first. */
static int describe(struct fr_model *m, const struct fr_model_opts *opts, struct fr_error *err)
{
	FR_TRY(fr_parts_find(opts, &m->parts, err));
	if (fr_parts_check(&m->parts, NULL) == 0) {
		FR_TRY(fr_parts_open_stores(&m->parts, err));
		return fr_desc_open(&m->parts, &m->desc, err);
	}
	if (fr_parts_open_stores(&m->parts, err) == 0 && fr_desc_open(&m->parts, &m->desc, err) != 0 &&
	    !m->desc.fusion.heads)
		return -1;
	return fr_parts_check(&m->parts, err);
}

int fr_model_load(const struct fr_model_opts *opts, struct fr_model **out, struct fr_error *err)
{
	struct fr_model *m = calloc(1, sizeof *m);

	*out = NULL;
	if (!m)
		return fr_fail(err, FR_E_MEMORY, "no memory for a model object of %zu bytes", sizeof *m);
	if (describe(m, opts, err) || fr_bind(&m->desc, m->parts.store, &m->weights, err) ||
	    fr_tokenizer_open(fr_parts_text(&m->parts), &m->tok, err) || fr_model_find_pieces(m, err) ||
	    hash_model(m, err)) {
		fr_say_where(-1, opts->path, err); /* people have several models */
		fr_model_free(m);
		return -1;
	}
	*out = m;
	return 0;
}

void fr_model_free(struct fr_model *m)
{
	if (!m)
		return;
	fr_weights_free(&m->weights);
	fr_tokenizer_free(m->tok);
	fr_parts_close(&m->parts);
	free(m);
}

int fr_model_tokenizer(const struct fr_model_opts *opts, struct fr_tokenizer **out, struct fr_error *err)
{
	struct fr_parts parts;
	int rc = fr_parts_find_text(opts, &parts, err) || fr_parts_check(&parts, err) ||
		 fr_tokenizer_open(fr_parts_text(&parts), out, err);

	if (rc)
		*out = NULL;
	fr_parts_close(&parts);
	return rc ? -1 : 0;
}

int fr_model_is_demo(const struct fr_model *m)
{
	return m->desc.demo;
}

const char *fr_model_name(const struct fr_model *m)
{
	return m->desc.name;
}

const char *fr_model_hash(const struct fr_model *m)
{
	return m->hash;
}

const char *fr_model_dtype(const struct fr_model *m)
{
	return m->weights.dtype;
}

const char *fr_model_preprocess(const struct fr_model *m)
{
	return m->desc.image.id;
}
