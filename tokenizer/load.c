/* A tokenizer from the files of a model: tokenizer.json where there is one, else tokenizer.model. */
#include "parts.h"

#include <stdlib.h>
#include <string.h>

static struct fr_tokenizer *new_tokenizer(struct fr_error *err)
{
	struct fr_tokenizer *tok = calloc(1, sizeof *tok);

	if (!tok)
		fr_fail(err, FR_E_MEMORY, "no memory for a tokenizer");
	else
		tok->unk = tok->bos = tok->eos = -1;
	return tok;
}

void fr_tokenizer_free(struct fr_tokenizer *tok)
{
	if (!tok)
		return;
	fr_vocab_free(&tok->vocab);
	fr_pairs_free(&tok->merges);
	fr_pairs_free(&tok->raw.next);
	fr_pairs_free(&tok->normal.next);
	free(tok->raw.id);
	free(tok->normal.id);
	free(tok->flags);
	free(tok->merged);
	free(tok);
}

int fr_merge_put(struct fr_tokenizer *tok, int32_t left, int32_t right, int32_t made, struct fr_error *err)
{
	/* n_merges doubles as capacity: it is a power of two exactly when the array is full. */
	if (tok->n_merges == 0 || (tok->n_merges >= 1024 && !(tok->n_merges & (tok->n_merges - 1)))) {
		size_t cap = tok->n_merges ? 2 * tok->n_merges : 1024;
		int32_t *merged = cap < UINT32_MAX ? realloc(tok->merged, cap * sizeof *merged) : NULL;

		if (!merged)
			return fr_fail(err, FR_E_MEMORY, "no memory for %zu merges", cap);
		tok->merged = merged;
	}
	FR_TRY(fr_pairs_set(&tok->merges, (uint64_t)(uint32_t)left << 32 | (uint32_t)right, (uint32_t)tok->n_merges,
			    err));
	tok->merged[tok->n_merges++] = made;
	return 0;
}

/* The bit of two neighbours: the last byte of one character and (the first three bytes of) the next. */
static uint32_t join_bit(char last, const char *next, size_t length)
{
	uint32_t key = (uint32_t)(unsigned char)last << 8 | (unsigned char)next[0];

	for (size_t i = 1; i < 3; i++) {
		int more = i < length && (next[i] & 0xC0) == 0x80;

		if (!more)
			length = 0;
		key = key << 8 | (more ? (unsigned char)next[i] : 0);
	}
	return key * UINT32_C(0x9E3779B1) >> 14;
}

int fr_may_join(const struct fr_tokenizer *tok, char last, const char *next, size_t length)
{
	uint32_t bit = join_bit(last, next, length);

	return tok->joins[bit / 32] >> bit % 32 & 1;
}

static void note_joins(struct fr_tokenizer *tok, int32_t id)
{
	const struct fr_piece *p = &tok->vocab.piece[id];
	const char *s = tok->vocab.bytes + p->offset;

	for (size_t i = 1; i < p->length; i++) {
		uint32_t bit = join_bit(s[i - 1], s + i, p->length - i);

		if ((s[i] & 0xC0) != 0x80)
			tok->joins[bit / 32] |= UINT32_C(1) << bit % 32;
	}
}

/* What all readers leave to do: the ids of the byte pieces, where text may be cut, the search for added tokens. */
static int finish(struct fr_tokenizer *tok, struct fr_error *err)
{
	char name[8];

	for (int byte = 0; byte < 256; byte++) {
		int32_t id;

		snprintf(name, sizeof name, "<0x%02X>", byte);
		id = fr_vocab_find(&tok->vocab, name, 6);
		tok->byte_id[byte] = id < tok->n_model ? id : -1;
	}
	for (size_t rank = 0; rank < tok->n_merges; rank++)
		if (rank == 0 || tok->merged[rank] != tok->merged[rank - 1])
			note_joins(tok, tok->merged[rank]);
	return fr_added_finish(tok, err);
}

static int parse_optional(struct fr_bytes bytes, const char *where, cJSON **out, struct fr_error *err)
{
	*out = NULL;
	return bytes.at ? fr_token_file_parse(bytes, where, out, err) : 0;
}

static int read_files(struct fr_tokenizer *tok, const struct fr_tokenizer_files *f, struct fr_error *err)
{
	cJSON *config = NULL, *added = NULL, *specials = NULL;
	int rc = parse_optional(f->config, "tokenizer_config.json", &config, err) ||
		 parse_optional(f->added, "added_tokens.json", &added, err) ||
		 parse_optional(f->specials, "special_tokens_map.json", &specials, err);

	if (rc == 0 && f->json.at)
		rc = fr_read_tokenizer_json(tok, f->json, err);
	else if (rc == 0)
		rc = fr_read_sentencepiece(tok, f->model, config, err);
	rc = rc || fr_config_apply(tok, config, added, specials, err) || finish(tok, err);
	cJSON_Delete(config);
	cJSON_Delete(added);
	cJSON_Delete(specials);
	return rc ? -1 : 0;
}

static int build(const struct fr_tokenizer_files *f, struct fr_tokenizer **out, struct fr_error *err)
{
	struct fr_tokenizer *tok = new_tokenizer(err);

	*out = NULL;
	if (!tok)
		return -1;
	if (read_files(tok, f, err)) {
		fr_tokenizer_free(tok);
		return -1;
	}
	*out = tok;
	return 0;
}

int fr_tokenizer_from_model(const uint8_t *bytes, size_t size, const uint8_t *config, size_t config_size,
			    const uint8_t *added, size_t added_size, struct fr_tokenizer **out, struct fr_error *err)
{
	struct fr_tokenizer_files f = {
		.model = {bytes, size}, .config = {config, config_size}, .added = {added, added_size}};

	return build(&f, out, err);
}

int fr_tokenizer_from_json(const uint8_t *bytes, size_t size, const uint8_t *config, size_t config_size,
			   struct fr_tokenizer **out, struct fr_error *err)
{
	struct fr_tokenizer_files f = {.json = {bytes, size}, .config = {config, config_size}};

	return build(&f, out, err);
}

int fr_tokenizer_open(struct fr_source *src, struct fr_tokenizer **out, struct fr_error *err)
{
	struct fr_tokenizer_files f = {0};
	const struct {
		const char *name;
		struct fr_bytes *bytes;
	} members[] = {
		{"tokenizer.json", &f.json},
		{"tokenizer.model", &f.model},
		{"tokenizer_config.json", &f.config},
		{"added_tokens.json", &f.added},
		{"special_tokens_map.json", &f.specials},
	};

	*out = NULL;
	for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
		int rc = fr_source_file(src, members[i].name, &members[i].bytes->at, &members[i].bytes->size, err);

		if (rc < 0)
			return -1;
		if (rc)
			*members[i].bytes = (struct fr_bytes){0};
	}
	if (!f.json.at && !f.model.at)
		return fr_fail(err, FR_E_MODEL, "%s: neither tokenizer.json nor tokenizer.model is there",
			       fr_source_path(src));
	return build(&f, out, err);
}

int fr_tokenizer_load(const char *model_path, struct fr_tokenizer **out, struct fr_error *err)
{
	struct fr_source *src;
	int rc;

	*out = NULL;
	FR_TRY(fr_source_open(model_path, &src, err));
	rc = fr_tokenizer_open(src, out, err);
	fr_source_close(src);
	return rc;
}

/* ---- questions ---- */
int fr_tokenizer_count(const struct fr_tokenizer *tok)
{
	return tok->vocab.n;
}

int32_t fr_tokenizer_find(const struct fr_tokenizer *tok, const char *piece)
{
	return fr_vocab_find(&tok->vocab, piece, strlen(piece));
}

int32_t fr_tokenizer_bos(const struct fr_tokenizer *tok)
{
	return tok->bos;
}

int32_t fr_tokenizer_eos(const struct fr_tokenizer *tok)
{
	return tok->eos;
}

const char *fr_tokenizer_kind(const struct fr_tokenizer *tok)
{
	return tok->kind;
}

int fr_tokenizer_piece(const struct fr_tokenizer *tok, int32_t id, const char **piece, size_t *len)
{
	if (id < 0 || id >= tok->vocab.n)
		return -1;
	*piece = tok->vocab.bytes + tok->vocab.piece[id].offset;
	*len = tok->vocab.piece[id].length;
	return 0;
}

static uint64_t mix(uint64_t hash, const void *bytes, size_t n)
{
	const unsigned char *at = bytes;

	for (size_t i = 0; i < n; i++)
		hash = (hash ^ at[i]) * UINT64_C(0x100000001B3); /* FNV-1a */
	return hash;
}

static uint64_t mix_number(uint64_t hash, uint64_t number)
{
	unsigned char bytes[8];

	for (int i = 0; i < 8; i++)
		bytes[i] = (unsigned char)(number >> (8 * i));
	return mix(hash, bytes, sizeof bytes);
}

uint64_t fr_tokenizer_fingerprint(const struct fr_tokenizer *tok)
{
	uint64_t hash = UINT64_C(0xCBF29CE484222325), pairs = 0;
	const int settings[] = {tok->n_model,  tok->unk,	   tok->bos,	tok->eos,	tok->byte_fallback,
				tok->fuse_unk, tok->ignore_merges, tok->prefix, tok->metaspace, tok->split,
				tok->strip,    tok->n_before,	   tok->n_after};

	for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
		hash = mix_number(hash, (uint64_t)settings[i]);
	for (int i = 0; i < FR_MAX_AROUND; i++) {
		hash = mix_number(hash, i < tok->n_before ? (uint64_t)tok->before[i] : UINT64_MAX);
		hash = mix_number(hash, i < tok->n_after ? (uint64_t)tok->after[i] : UINT64_MAX);
	}
	for (int id = 0; id < tok->vocab.n; id++) {
		const struct fr_piece *p = &tok->vocab.piece[id];

		hash = mix_number(hash, p->length);
		hash = mix(hash, tok->vocab.bytes + p->offset, p->length);
		hash = mix_number(hash, tok->flags[id]);
	}
	for (size_t i = 0; i < tok->n_merges; i++)
		hash = mix_number(hash, (uint64_t)tok->merged[i]);
	for (size_t i = 0; i <= tok->merges.mask; i++) /* a sum, because the slots' order depends on the reader */
		if (tok->merges.slot[i].value != UINT32_MAX)
			pairs += mix_number(mix_number(0, tok->merges.slot[i].key), tok->merges.slot[i].value);
	return mix_number(hash, pairs);
}
