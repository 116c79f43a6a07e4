/* tokenizer.model: SentencePiece's ModelProto, as far as a Llama BPE needs it, and the merges that its scores imply.
 *
 * The file knows pieces and scores, no merges. As transformers' converter does, every cut of a piece into two pieces is
 * a merge, ranked by the piece's score, then by the lengths of its halves, longer first. Flags under which
 * SentencePiece and the reference's fast tokenizer would part ways are refused. Field numbers:
 * sentencepiece_model.proto. */
#include "parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define FILE_NAME "tokenizer.model"

enum { NORMAL = 1, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE }; /* SentencePiece.Type */
enum { UNIGRAM = 1, BPE, WORD, CHAR };				   /* TrainerSpec.ModelType */

struct wire {
	const uint8_t *at, *end;
};
struct field {
	uint64_t number, value; /* value: of a varint or fixed-width field */
	int type;
	struct wire bytes; /* of a length-delimited field */
};
struct spec {
	uint64_t model_type, byte_fallback, suffix, dummy_prefix, extra_whitespace, escape;
	size_t charsmap;
	struct wire unk;
};
struct proto_piece {
	struct wire text;
	float score;
	uint64_t type;
};

static int damaged(struct fr_error *err, const char *what)
{
	return fr_fail(err, FR_E_MODEL, FILE_NAME ": damaged protobuf: %s", what);
}

static int read_varint(struct wire *w, uint64_t *value, struct fr_error *err)
{
	*value = 0;
	for (int shift = 0; shift < 64; shift += 7) {
		uint8_t byte;

		if (w->at == w->end)
			return damaged(err, "a number is cut off");
		byte = *w->at++;
		*value |= (uint64_t)(byte & 0x7F) << shift;
		if (!(byte & 0x80))
			return 0;
	}
	return damaged(err, "a number has more than ten bytes");
}

static int read_fixed(struct wire *w, int bytes, uint64_t *value, struct fr_error *err)
{
	if (w->end - w->at < bytes)
		return damaged(err, "a fixed-width value is cut off");
	*value = 0;
	for (int i = 0; i < bytes; i++)
		*value |= (uint64_t)w->at[i] << (8 * i);
	w->at += bytes;
	return 0;
}

static int read_field(struct wire *w, struct field *f, struct fr_error *err)
{
	uint64_t key, size;

	FR_TRY(read_varint(w, &key, err));
	f->number = key >> 3;
	f->type = (int)(key & 7);
	f->value = 0;
	f->bytes = (struct wire){0};
	if (f->number == 0)
		return damaged(err, "a field has number 0");
	switch (f->type) {
	case 0:
		return read_varint(w, &f->value, err);
	case 1:
		return read_fixed(w, 8, &f->value, err);
	case 5:
		return read_fixed(w, 4, &f->value, err);
	case 2:
		FR_TRY(read_varint(w, &size, err));
		if (size > (size_t)(w->end - w->at))
			return damaged(err, "a field is longer than what holds it");
		f->bytes = (struct wire){w->at, w->at + size};
		w->at += size;
		return 0;
	}
	return fr_fail(err, FR_E_MODEL, FILE_NAME ": damaged protobuf: wire type %d in field %llu", f->type,
		       (unsigned long long)f->number);
}

/* A field that is there must have the type that its number has in the schema. */
static int expect(const struct field *f, int type, struct fr_error *err)
{
	if (f->type == type)
		return 0;
	return fr_fail(err, FR_E_MODEL, FILE_NAME ": damaged protobuf: field %llu has wire type %d, expected %d",
		       (unsigned long long)f->number, f->type, type);
}

static int read_flag(const struct field *f, uint64_t *out, struct fr_error *err)
{
	*out = f->value;
	return expect(f, 0, err);
}

static int read_trainer(struct wire w, struct spec *spec, struct fr_error *err)
{
	struct field f;

	while (w.at < w.end) {
		FR_TRY(read_field(&w, &f, err));
		if (f.number == 3)
			FR_TRY(read_flag(&f, &spec->model_type, err));
		else if (f.number == 24)
			FR_TRY(read_flag(&f, &spec->suffix, err));
		else if (f.number == 35)
			FR_TRY(read_flag(&f, &spec->byte_fallback, err));
		else if (f.number == 45) {
			FR_TRY(expect(&f, 2, err));
			spec->unk = f.bytes;
		}
	}
	return 0;
}

static int read_normalizer(struct wire w, struct spec *spec, struct fr_error *err)
{
	struct field f;

	while (w.at < w.end) {
		FR_TRY(read_field(&w, &f, err));
		if (f.number == 2) {
			FR_TRY(expect(&f, 2, err));
			spec->charsmap = (size_t)(f.bytes.end - f.bytes.at);
		} else if (f.number == 3) {
			FR_TRY(read_flag(&f, &spec->dummy_prefix, err));
		} else if (f.number == 4) {
			FR_TRY(read_flag(&f, &spec->extra_whitespace, err));
		} else if (f.number == 5) {
			FR_TRY(read_flag(&f, &spec->escape, err));
		}
	}
	return 0;
}

static int read_piece(struct wire w, struct proto_piece *piece, struct fr_error *err)
{
	struct field f;
	uint32_t bits;

	*piece = (struct proto_piece){.type = NORMAL};
	while (w.at < w.end) {
		FR_TRY(read_field(&w, &f, err));
		if (f.number == 1) {
			FR_TRY(expect(&f, 2, err));
			piece->text = f.bytes;
		} else if (f.number == 2) {
			FR_TRY(expect(&f, 5, err));
			bits = (uint32_t)f.value;
			memcpy(&piece->score, &bits, sizeof bits);
		} else if (f.number == 3) {
			FR_TRY(read_flag(&f, &piece->type, err));
		}
	}
	return 0;
}

/* First pass: the flags, and how many pieces there are. */
static int read_spec(struct wire w, struct spec *spec, size_t *n, struct fr_error *err)
{
	struct field f;

	*spec = (struct spec){.model_type = UNIGRAM, .dummy_prefix = 1, .extra_whitespace = 1, .escape = 1};
	spec->unk = (struct wire){(const uint8_t *)"<unk>", (const uint8_t *)"<unk>" + 5};
	*n = 0;
	while (w.at < w.end) {
		FR_TRY(read_field(&w, &f, err));
		if (f.number < 1 || f.number > 3)
			continue;
		FR_TRY(expect(&f, 2, err));
		if (f.number == 1)
			++*n;
		else if (f.number == 2)
			FR_TRY(read_trainer(f.bytes, spec, err));
		else
			FR_TRY(read_normalizer(f.bytes, spec, err));
	}
	return 0;
}

static int check_spec(const struct spec *spec, size_t n, struct fr_error *err)
{
	static const char *const types[] = {"unknown", "unigram", "bpe", "word", "char"};

	if (spec->model_type != BPE)
		return fr_fail(err, FR_E_MODEL, FILE_NAME ": the model type is %s (%llu), only bpe is read",
			       types[spec->model_type <= CHAR ? spec->model_type : 0],
			       (unsigned long long)spec->model_type);
	if (n < 3 || n > 1 << 24)
		return fr_fail(err, FR_E_MODEL, FILE_NAME ": %zu pieces, expected 3 to %d", n, 1 << 24);
	if (spec->charsmap)
		return fr_fail(err, FR_E_MODEL,
			       FILE_NAME ": the normaliser has a character map of %zu bytes, only identity is read",
			       spec->charsmap);
	if (spec->extra_whitespace)
		return fr_fail(err, FR_E_MODEL,
			       FILE_NAME ": remove_extra_whitespaces is set, which is not implemented");
	if (!spec->escape)
		return fr_fail(err, FR_E_MODEL, FILE_NAME ": escape_whitespaces is off, which is not implemented");
	if (spec->suffix)
		return fr_fail(err, FR_E_MODEL,
			       FILE_NAME ": treat_whitespace_as_suffix is set, which is not implemented");
	return 0;
}

static int add_piece(struct fr_tokenizer *tok, const struct proto_piece *p, struct fr_error *err)
{
	const char *s = (const char *)p->text.at;
	size_t length = (size_t)(p->text.end - p->text.at);
	int id = tok->vocab.n;

	if (length == 0)
		return fr_fail(err, FR_E_MODEL, FILE_NAME ": piece %d is empty", id);
	if (length > FR_MAX_PIECE)
		return fr_fail(err, FR_E_MODEL, FILE_NAME ": piece %d has %zu bytes, at most %d are read", id, length,
			       FR_MAX_PIECE);
	if (!fr_utf8_valid(s, length))
		return fr_fail(err, FR_E_MODEL, FILE_NAME ": piece %d is not UTF-8", id);
	if (!isfinite(p->score))
		return fr_fail(err, FR_E_MODEL, FILE_NAME ": the score of piece %d ('%.*s') is not finite", id,
			       length < 64 ? (int)length : 64, s);
	if (p->type < NORMAL || p->type > BYTE)
		return fr_fail(err, FR_E_MODEL, FILE_NAME ": piece %d has type %llu, expected 1 to 6", id,
			       (unsigned long long)p->type);
	if (fr_vocab_find(&tok->vocab, s, length) >= 0)
		return fr_fail(err, FR_E_MODEL, FILE_NAME ": piece %d ('%.*s') is there twice", id,
			       length < 64 ? (int)length : 64, s);
	return fr_vocab_add(&tok->vocab, s, length, err) < 0 ? -1 : 0;
}

/* ---- merges ---- */
struct merge {
	float score;
	uint16_t left_length, right_length; /* characters */
	int32_t made, left, right;
};
struct merges {
	struct merge *at;
	size_t n, cap;
};

static int put_merge(struct merges *m, struct merge merge, struct fr_error *err)
{
	if (m->n == m->cap) {
		size_t cap = m->cap ? 2 * m->cap : 1 << 16;
		struct merge *at = realloc(m->at, cap * sizeof *at);

		if (!at)
			return fr_fail(err, FR_E_MEMORY, "no memory for %zu merges", cap);
		m->at = at;
		m->cap = cap;
	}
	m->at[m->n++] = merge;
	return 0;
}

/* Every cut of piece id between two characters whose halves are both pieces, longest left half first. */
static int cut_piece(const struct fr_vocab *v, int32_t id, float score, uint64_t *prefix, struct merges *m,
		     struct fr_error *err)
{
	const char *s = v->bytes + v->piece[id].offset;
	size_t n = v->piece[id].length;
	uint16_t left_length = 0, right_length = 0;

	prefix[0] = 0;
	for (size_t i = 0; i < n; i++) {
		prefix[i + 1] = fr_hash_step(prefix[i], (unsigned char)s[i]);
		left_length += ((unsigned char)s[i] & 0xC0) != 0x80;
	}
	for (size_t i = n - 1; i > 0; i--) {
		int32_t left, right;

		if (((unsigned char)s[i] & 0xC0) == 0x80)
			continue;
		left_length--;
		right_length++;
		left = fr_vocab_find_hashed(v, s, i, prefix[i]);
		if (left < 0)
			continue;
		right = fr_vocab_find_hashed(v, s + i, n - i, prefix[n] - prefix[i] * fr_hash_power(n - i));
		if (right < 0)
			continue;
		FR_TRY(put_merge(m, (struct merge){score, left_length, right_length, id, left, right}, err));
	}
	return 0;
}

/* The reference's order: highest score first, then the longer halves; its sorts are stable over (piece, left, right).
 */
static int by_rank(const void *pa, const void *pb)
{
	const struct merge *a = pa, *b = pb;

	if (a->score != b->score)
		return a->score > b->score ? -1 : 1;
	if (a->left_length != b->left_length)
		return a->left_length > b->left_length ? -1 : 1;
	if (a->right_length != b->right_length)
		return a->right_length > b->right_length ? -1 : 1;
	if (a->made != b->made)
		return a->made < b->made ? -1 : 1;
	if (a->left != b->left)
		return a->left < b->left ? -1 : 1;
	return (a->right > b->right) - (a->right < b->right);
}

/* True of trained models, whose scores fall from piece to piece. */
static int in_order(const struct merges *m)
{
	for (size_t i = 1; i < m->n; i++)
		if (by_rank(&m->at[i - 1], &m->at[i]) > 0)
			return 0;
	return 1;
}

/* scores [tok->vocab.n] */
static int make_merges(struct fr_tokenizer *tok, const float *scores, struct fr_error *err)
{
	uint64_t *prefix = malloc((FR_MAX_PIECE + 1) * sizeof *prefix);
	struct merges m = {0};
	int rc = prefix ? 0 : fr_fail(err, FR_E_MEMORY, "no memory for %d bytes of hashes", 8 * (FR_MAX_PIECE + 1));

	for (int32_t id = 0; id < tok->vocab.n && rc == 0; id++)
		rc = cut_piece(&tok->vocab, id, scores[id], prefix, &m, err);
	if (!in_order(&m))
		qsort(m.at, m.n, sizeof *m.at, by_rank);
	for (size_t i = 0; i < m.n && rc == 0; i++)
		rc = fr_merge_put(tok, m.at[i].left, m.at[i].right, m.at[i].made, err);
	free(m.at);
	free(prefix);
	return rc;
}

/* Second pass. The converter gives the first three pieces the score 0, whatever the file says; control and user-defined
 * pieces become added tokens. types, scores [n] */
static int read_pieces(struct fr_tokenizer *tok, struct wire w, float *scores, uint8_t *types, struct fr_error *err)
{
	struct proto_piece piece;
	struct field f;

	while (w.at < w.end) {
		int id = tok->vocab.n;

		FR_TRY(read_field(&w, &f, err));
		if (f.number != 1)
			continue;
		FR_TRY(read_piece(f.bytes, &piece, err));
		FR_TRY(add_piece(tok, &piece, err));
		scores[id] = id < 3 ? 0 : piece.score;
		types[id] = (uint8_t)piece.type;
	}
	tok->n_model = tok->vocab.n;
	FR_TRY(make_merges(tok, scores, err));
	for (int id = 0; id < tok->n_model; id++) {
		const struct fr_piece *p = &tok->vocab.piece[id];

		if (types[id] != CONTROL && types[id] != USER_DEFINED)
			continue;
		if (fr_added_put(tok, tok->vocab.bytes + p->offset, p->length,
				 types[id] == CONTROL ? FR_TOKEN_SPECIAL : 0, FILE_NAME, err) < 0)
			return -1;
	}
	return 0;
}

static int set_prefix(struct fr_tokenizer *tok, const struct spec *spec, const cJSON *config, struct fr_error *err)
{
	int legacy, prefix_space;

	FR_TRY(fr_config_prefix(config, &legacy, &prefix_space, err));
	if (prefix_space && !spec->dummy_prefix)
		return fr_fail(err, FR_E_MODEL,
			       FILE_NAME ": add_dummy_prefix is off, but tokenizer_config.json does not say "
					 "add_prefix_space false: the reference's tokenizers disagree on such a pair");
	tok->metaspace = !legacy;
	tok->strip = prefix_space;
	tok->prefix = !prefix_space ? FR_PREFIX_NEVER : legacy ? FR_PREFIX_EACH : FR_PREFIX_FIRST;
	snprintf(tok->kind, sizeof tok->kind, FILE_NAME ", %s%s", legacy ? "legacy" : "non-legacy",
		 prefix_space ? "" : ", no prefix");
	return 0;
}

int fr_read_sentencepiece(struct fr_tokenizer *tok, struct fr_bytes model, const cJSON *config, struct fr_error *err)
{
	struct wire w = {model.at, model.at + model.size};
	struct spec spec;
	uint8_t *types;
	float *scores;
	size_t n;
	int rc;

	FR_TRY(read_spec(w, &spec, &n, err));
	FR_TRY(check_spec(&spec, n, err));
	FR_TRY(set_prefix(tok, &spec, config, err));
	FR_TRY(fr_vocab_init(&tok->vocab, n, model.size, err));
	FR_TRY(fr_pairs_init(&tok->merges, 2 * n, err));
	scores = malloc(n * sizeof *scores);
	types = malloc(n);
	if (scores && types)
		rc = read_pieces(tok, w, scores, types, err);
	else
		rc = fr_fail(err, FR_E_MEMORY, "no memory for the scores of %zu pieces", n);
	free(scores);
	free(types);
	FR_TRY(rc);
	tok->unk = fr_vocab_find(&tok->vocab, (const char *)spec.unk.at, (size_t)(spec.unk.end - spec.unk.at));
	if (tok->unk < 0)
		return fr_fail(err, FR_E_MODEL, FILE_NAME ": its unknown piece '%.*s' is not among the pieces",
			       spec.unk.end - spec.unk.at < 64 ? (int)(spec.unk.end - spec.unk.at) : 64, spec.unk.at);
	tok->byte_fallback = 1; /* the converter's choice: without <0xNN> pieces it has no effect */
	tok->fuse_unk = 1;
	return 0;
}
