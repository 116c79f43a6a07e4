/* Loading: source -> description -> tensors -> binder -> tokenizer -> the pieces the verdict needs, and the hash.
 *
 * The hash names a set of weights without reading all of them: 13.5 GB would take longer than the verdict. It covers
 * the description's source files, the tokenizer, every tensor's name, dtype and shape, and of each tensor's bytes a
 * fixed sample (all of them up to 4 KiB, else 4 windows of 256 bytes spread evenly, the first and last included). A
 * fine-tune moves every tensor, so it cannot keep the hash; a single edited weight can: `info --check` reads all. */
#include "model.h"

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

static int hash_model(struct fr_model *m, struct fr_error *err)
{
	/* each with what stands in for it where it is absent, as engine/models.c reads them */
	static const char *const members[][2] = {{"config.json", NULL},
						 {"preprocessor_config.json", "processor_config.json"}};
	uint64_t fp = fr_tokenizer_fingerprint(m->tok);
	uint8_t le[8];
	SHA2_CTX c;

	SHA256Init(&c);
	for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
		const uint8_t *bytes;
		size_t size;
		int rc = fr_source_file(m->src, members[i][0], &bytes, &size, err);
		if (rc > 0 && members[i][1])
			rc = fr_source_file(m->src, members[i][1], &bytes, &size, err);
		if (rc < 0)
			return -1;
		if (rc == 0)
			SHA256Update(&c, bytes, size);
		SHA256Update(&c, (const uint8_t *)"", 1);
	}
	for (int b = 0; b < 8; b++)
		le[b] = (uint8_t)(fp >> (8 * b));
	SHA256Update(&c, le, 8);
	fetch_samples(m->store);
	for (size_t i = 0; i < fr_store_count(m->store); i++)
		hash_tensor(&c, fr_store_at(m->store, i));
	SHA256End(&c, m->hash);
	return 0;
}

/* Messages of the readers name the file inside the model; people have several models. */
static void name_model(const char *path, struct fr_error *err)
{
	struct fr_error inner;

	if (!err || err->code != FR_E_MODEL || strstr(err->text, path))
		return;
	inner = *err;
	fr_fail(err, inner.code, "%s: %s", path, inner.text);
}

int fr_model_load(const struct fr_model_opts *opts, struct fr_model **out, struct fr_error *err)
{
	struct fr_model *m = calloc(1, sizeof *m);

	*out = NULL;
	if (!m)
		return fr_fail(err, FR_E_MEMORY, "no memory for a model object of %zu bytes", sizeof *m);
	if (fr_source_open(opts->path, &m->src, err) || fr_desc_open(m->src, &m->desc, err) ||
	    fr_store_open(m->src, &m->store, err) || fr_bind(&m->desc, (struct fr_store *[FR_FROMS]){m->store}, &m->weights, err) ||
	    fr_tokenizer_open(m->src, &m->tok, err) || fr_model_find_pieces(m, err) || hash_model(m, err)) {
		name_model(opts->path, err);
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
	fr_store_close(m->store);
	fr_source_close(m->src);
	free(m);
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
