/* tokenizer.json: Hugging Face tokenizers' own file, as far as SentencePiece-like BPE is written in it.
 *
 * Read: a BPE model, a normaliser that prepends U+2581 and replaces spaces (or only replaces), or none and a Metaspace
 * pre-tokenizer, a template with tokens around the text, the decoder of Llama. All else is refused by its name. */
#include "parts.h"

#include <stdlib.h>
#include <string.h>

#define FILE_NAME "tokenizer.json"

static const char *type_of(const cJSON *item)
{
	const cJSON *type = fr_token_get(item, "type");

	return cJSON_IsString(type) ? type->valuestring : "";
}

static int is_text(const cJSON *item, const char *text)
{
	return cJSON_IsString(item) && !strcmp(item->valuestring, text);
}

static int refuse(struct fr_error *err, const char *part, const cJSON *item)
{
	return fr_fail(err, FR_E_MODEL, FILE_NAME ": %s '%.64s' in this form is not implemented", part, type_of(item));
}

/* ---- model ---- */
static int add_pieces(struct fr_tokenizer *tok, const char **piece, int n, size_t bytes, struct fr_error *err)
{
	FR_TRY(fr_vocab_init(&tok->vocab, (size_t)n, bytes, err));
	for (int id = 0; id < n; id++) {
		size_t length = strlen(piece[id]);

		if (length == 0 || length > FR_MAX_PIECE)
			return fr_fail(err, FR_E_MODEL, FILE_NAME ": piece %d has %zu bytes, expected 1 to %d", id,
				       length, FR_MAX_PIECE);
		if (!fr_utf8_valid(piece[id], length))
			return fr_fail(err, FR_E_MODEL, FILE_NAME ": piece %d is not UTF-8", id);
		if (fr_vocab_find(&tok->vocab, piece[id], length) >= 0)
			return fr_fail(err, FR_E_MODEL, FILE_NAME ": piece %d ('%.64s') is there twice", id, piece[id]);
		if (fr_vocab_add(&tok->vocab, piece[id], length, err) < 0)
			return -1;
	}
	tok->n_model = n;
	return 0;
}

static int read_vocab(struct fr_tokenizer *tok, const cJSON *vocab, size_t bytes, struct fr_error *err)
{
	const char **piece;
	int n, rc = 0;

	if (!cJSON_IsObject(vocab))
		return fr_fail(err, FR_E_MODEL, FILE_NAME ": 'model.vocab' is no object");
	n = cJSON_GetArraySize(vocab);
	piece = calloc((size_t)n + 1, sizeof *piece);
	if (!piece)
		return fr_fail(err, FR_E_MEMORY, "no memory for %d pieces", n);
	for (const cJSON *item = vocab->child; item && rc == 0; item = item->next) {
		double id = cJSON_IsNumber(item) ? item->valuedouble : -1;

		if (!(id >= 0 && id < n) || id != (int)id)
			rc = fr_fail(err, FR_E_MODEL, FILE_NAME ": the id of piece '%.64s' is no whole number below %d",
				     item->string, n);
		else if (piece[(int)id])
			rc = fr_fail(err, FR_E_MODEL, FILE_NAME ": id %d is given to '%.64s' and to '%.64s'", (int)id,
				     piece[(int)id], item->string);
		else
			piece[(int)id] = item->string;
	}
	if (rc == 0)
		rc = add_pieces(tok, piece, n, bytes, err);
	free(piece);
	return rc;
}

static int put_merge(struct fr_tokenizer *tok, const char *a, size_t na, const char *b, size_t nb, char *both,
		     struct fr_error *err)
{
	int32_t left = fr_vocab_find(&tok->vocab, a, na), right = fr_vocab_find(&tok->vocab, b, nb), made = -1;

	if (left >= 0 && right >= 0) {
		memcpy(mempcpy(both, a, na), b, nb);
		made = fr_vocab_find(&tok->vocab, both, na + nb);
	}
	if (made < 0)
		return fr_fail(err, FR_E_MODEL, FILE_NAME ": merge %zu ('%.*s' '%.*s') names a piece that is not there",
			       tok->n_merges, (int)(na < 64 ? na : 64), a, (int)(nb < 64 ? nb : 64), b);
	return fr_merge_put(tok, left, right, made, err);
}

/* "a b", or ["a", "b"]; a comment line of the old text format has no rank. */
static int read_merge(struct fr_tokenizer *tok, const cJSON *item, char *both, struct fr_error *err)
{
	const cJSON *a, *b;
	const char *space;

	if (cJSON_IsString(item)) {
		if (!strncmp(item->valuestring, "#version", 8))
			return 0;
		space = strchr(item->valuestring, ' ');
		if (space && !strchr(space + 1, ' '))
			return put_merge(tok, item->valuestring, (size_t)(space - item->valuestring), space + 1,
					 strlen(space + 1), both, err);
	} else if (cJSON_IsArray(item)) {
		a = item->child;
		b = a ? a->next : NULL;
		if (b && !b->next && cJSON_IsString(a) && cJSON_IsString(b))
			return put_merge(tok, a->valuestring, strlen(a->valuestring), b->valuestring,
					 strlen(b->valuestring), both, err);
	}
	return fr_fail(err, FR_E_MODEL, FILE_NAME ": merge %zu is neither \"a b\" nor [\"a\", \"b\"]", tok->n_merges);
}

static int read_merges(struct fr_tokenizer *tok, const cJSON *merges, struct fr_error *err)
{
	char *both;
	int rc = 0;

	if (!cJSON_IsArray(merges))
		return fr_fail(err, FR_E_MODEL, FILE_NAME ": 'model.merges' is no list");
	FR_TRY(fr_pairs_init(&tok->merges, (size_t)cJSON_GetArraySize(merges), err));
	both = malloc(2 * FR_MAX_PIECE);
	if (!both)
		return fr_fail(err, FR_E_MEMORY, "no memory for %d bytes of a merge", 2 * FR_MAX_PIECE);
	for (const cJSON *item = merges->child; item && rc == 0; item = item->next)
		rc = read_merge(tok, item, both, err);
	free(both);
	return rc;
}

static int read_model(struct fr_tokenizer *tok, const cJSON *model, size_t bytes, struct fr_error *err)
{
	static const char *const unread[] = {"continuing_subword_prefix", "end_of_word_suffix"};
	const cJSON *item;

	if (!cJSON_IsObject(model))
		return fr_fail(err, FR_E_MODEL, FILE_NAME ": 'model' is no object");
	if (strcmp(type_of(model), "BPE") && (fr_token_get(model, "type") || !fr_token_get(model, "merges")))
		return fr_fail(err, FR_E_MODEL, FILE_NAME ": the model type is '%.64s', only BPE is read",
			       type_of(model));
	for (int i = 0; i < 2; i++) {
		item = fr_token_get(model, unread[i]);
		if (item && !is_text(item, ""))
			return fr_fail(err, FR_E_MODEL, FILE_NAME ": %s is set, which is not implemented", unread[i]);
	}
	item = fr_token_get(model, "dropout");
	if (item && !(cJSON_IsNumber(item) && item->valuedouble == 0))
		return fr_fail(err, FR_E_MODEL, FILE_NAME ": dropout is set, which is not implemented");
	FR_TRY(fr_token_bool(model, "byte_fallback", 0, FILE_NAME, &tok->byte_fallback, err));
	FR_TRY(fr_token_bool(model, "fuse_unk", 0, FILE_NAME, &tok->fuse_unk, err));
	FR_TRY(fr_token_bool(model, "ignore_merges", 0, FILE_NAME, &tok->ignore_merges, err));
	FR_TRY(read_vocab(tok, fr_token_get(model, "vocab"), bytes, err));
	FR_TRY(read_merges(tok, fr_token_get(model, "merges"), err));
	item = fr_token_get(model, "unk_token");
	if (!item)
		return 0;
	if (!cJSON_IsString(item))
		return fr_fail(err, FR_E_MODEL, FILE_NAME ": 'model.unk_token' is no string");
	tok->unk = fr_vocab_find(&tok->vocab, item->valuestring, strlen(item->valuestring));
	if (tok->unk < 0)
		return fr_fail(err, FR_E_MODEL, FILE_NAME ": the unknown token '%.64s' is not in the vocabulary",
			       item->valuestring);
	return 0;
}

/* ---- normaliser and pre-tokenizer ---- */
/* {"type": "Replace", "pattern": {"String": from}, "content": to} */
static int is_replace(const cJSON *item, const char *from, const char *to)
{
	return !strcmp(type_of(item), "Replace") &&
	       is_text(fr_token_get(fr_token_get(item, "pattern"), "String"), from) &&
	       is_text(fr_token_get(item, "content"), to);
}

static int read_normalizer(struct fr_tokenizer *tok, const cJSON *item, int *replaces, struct fr_error *err)
{
	const cJSON *step = item;
	int sequence = item && !strcmp(type_of(item), "Sequence");

	*replaces = 0;
	tok->prefix = FR_PREFIX_NEVER;
	if (!item)
		return 0;
	if (sequence) {
		step = fr_token_get(item, "normalizers");
		step = cJSON_IsArray(step) ? step->child : NULL;
		if (step && !strcmp(type_of(step), "Prepend") && is_text(fr_token_get(step, "prepend"), FR_MARKER)) {
			tok->prefix = FR_PREFIX_EACH;
			step = step->next;
		}
	}
	*replaces = step && is_replace(step, " ", FR_MARKER);
	if (!*replaces)
		return refuse(err, "the normalizer", step ? step : item);
	return sequence && step->next ? refuse(err, "the normalizer", step->next) : 0;
}

/* prepend_scheme is "always" where it is absent; the older add_prefix_space may only repeat it. */
static int read_metaspace(struct fr_tokenizer *tok, const cJSON *item, struct fr_error *err)
{
	const cJSON *scheme = fr_token_get(item, "prepend_scheme");
	int prefix_space;

	if (strcmp(type_of(item), "Metaspace") || !is_text(fr_token_get(item, "replacement"), FR_MARKER))
		return refuse(err, "the pre_tokenizer", item);
	FR_TRY(fr_token_bool(item, "split", 1, FILE_NAME, &tok->split, err));
	FR_TRY(fr_token_bool(item, "add_prefix_space", 1, FILE_NAME, &prefix_space, err));
	tok->metaspace = 1;
	if (!scheme || is_text(scheme, "always"))
		tok->prefix = FR_PREFIX_EACH;
	else if (is_text(scheme, "first"))
		tok->prefix = FR_PREFIX_FIRST;
	else if (is_text(scheme, "never"))
		tok->prefix = FR_PREFIX_NEVER;
	else
		return refuse(err, "the prepend_scheme of the pre_tokenizer", item);
	if (!prefix_space && tok->prefix != FR_PREFIX_NEVER)
		return fr_fail(err, FR_E_MODEL,
			       FILE_NAME ": Metaspace has add_prefix_space false and a prepend_scheme");
	return 0;
}

static int read_spaces(struct fr_tokenizer *tok, const cJSON *root, struct fr_error *err)
{
	static const char *const schemes[] = {"never", "first", "always"};
	const cJSON *pre = fr_token_get(root, "pre_tokenizer");
	int replaces;

	FR_TRY(read_normalizer(tok, fr_token_get(root, "normalizer"), &replaces, err));
	if (pre && replaces)
		return fr_fail(err, FR_E_MODEL,
			       FILE_NAME ": a normalizer together with the pre_tokenizer '%.64s' is not implemented",
			       type_of(pre));
	if (!pre && !replaces)
		return fr_fail(err, FR_E_MODEL, FILE_NAME ": neither a normalizer nor a pre_tokenizer writes U+2581");
	if (!pre) {
		snprintf(tok->kind, sizeof tok->kind, FILE_NAME ", legacy%s",
			 tok->prefix == FR_PREFIX_EACH ? "" : ", no prefix");
		return 0;
	}
	FR_TRY(read_metaspace(tok, pre, err));
	snprintf(tok->kind, sizeof tok->kind, FILE_NAME ", Metaspace %s%s", schemes[tok->prefix],
		 tok->split ? ", split" : "");
	return 0;
}

/* ---- decoder ---- */
static int is_strip(const cJSON *item)
{
	const cJSON *left = fr_token_get(item, "start"), *right = fr_token_get(item, "stop");

	return !strcmp(type_of(item), "Strip") && is_text(fr_token_get(item, "content"), " ") && cJSON_IsNumber(left) &&
	       left->valuedouble == 1 && cJSON_IsNumber(right) && right->valuedouble == 0;
}

static int read_decoder(struct fr_tokenizer *tok, const cJSON *item, struct fr_error *err)
{
	const cJSON *step = fr_token_get(item, "decoders");

	if (!item)
		return fr_fail(err, FR_E_MODEL, FILE_NAME ": there is no decoder, expected that of Llama");
	if (strcmp(type_of(item), "Sequence") || !cJSON_IsArray(step))
		return refuse(err, "the decoder", item);
	step = step->child;
	if (!step || !is_replace(step, FR_MARKER, " "))
		return refuse(err, "the decoder", step ? step : item);
	step = step->next;
	if (!step || strcmp(type_of(step), "ByteFallback"))
		return refuse(err, "the decoder", step ? step : item);
	step = step->next;
	if (!step || strcmp(type_of(step), "Fuse"))
		return refuse(err, "the decoder", step ? step : item);
	step = step->next;
	tok->strip = step != NULL;
	if (step && (!is_strip(step) || step->next))
		return refuse(err, "the decoder", step);
	return 0;
}

/* ---- added tokens and template ---- */
static int read_added(struct fr_tokenizer *tok, const cJSON *list, struct fr_error *err)
{
	if (list && !cJSON_IsArray(list))
		return fr_fail(err, FR_E_MODEL, FILE_NAME ": 'added_tokens' is no list");
	for (const cJSON *item = list ? list->child : NULL; item; item = item->next) {
		const cJSON *content = fr_token_get(item, "content"), *claimed = fr_token_get(item, "id");
		unsigned flags;
		int32_t id;

		if (!cJSON_IsString(content) || !cJSON_IsNumber(claimed))
			return fr_fail(err, FR_E_MODEL, FILE_NAME ": an added token has no content or no id");
		FR_TRY(fr_token_flags(item, FILE_NAME ": added_tokens", &flags, err));
		id = fr_added_put(tok, content->valuestring, strlen(content->valuestring), flags, FILE_NAME, err);
		if (id < 0)
			return -1;
		if (id != claimed->valuedouble)
			return fr_fail(err, FR_E_MODEL,
				       FILE_NAME ": the added token '%.64s' is given id %.0f, but its place in the "
						 "vocabulary is %d",
				       content->valuestring, claimed->valuedouble, id);
	}
	return 0;
}

/* The ids that the template's special token NAME stands for, appended to ids [*n]. */
static int put_special(const struct fr_tokenizer *tok, const cJSON *table, const cJSON *name, int32_t *ids, int *n,
		       struct fr_error *err)
{
	const cJSON *entry = cJSON_IsString(name) ? fr_token_get(table, name->valuestring) : NULL;
	const cJSON *list = fr_token_get(entry, "ids");

	if (!cJSON_IsArray(list))
		return fr_fail(err, FR_E_MODEL, FILE_NAME ": the post_processor names a special token without ids");
	for (const cJSON *item = list->child; item; item = item->next) {
		double id = cJSON_IsNumber(item) ? item->valuedouble : -1;

		if (!(id >= 0 && id < tok->vocab.n) || id != (int)id || *n == FR_MAX_AROUND)
			return fr_fail(err, FR_E_MODEL,
				       FILE_NAME ": the post_processor's ids are no ids, or more than %d",
				       FR_MAX_AROUND);
		ids[(*n)++] = (int32_t)id;
	}
	return 0;
}

static int read_template(struct fr_tokenizer *tok, const cJSON *item, struct fr_error *err)
{
	const cJSON *table = fr_token_get(item, "special_tokens"), *single = fr_token_get(item, "single"), *special;
	int texts = 0;

	if (!item)
		return 0;
	if (strcmp(type_of(item), "TemplateProcessing") || !cJSON_IsArray(single))
		return refuse(err, "the post_processor", item);
	for (const cJSON *step = single->child; step; step = step->next) {
		special = fr_token_get(step, "SpecialToken");
		if (!special && is_text(fr_token_get(fr_token_get(step, "Sequence"), "id"), "A") && !texts++)
			continue;
		if (!special)
			return refuse(err, "the post_processor", item);
		FR_TRY(put_special(tok, table, fr_token_get(special, "id"), texts ? tok->after : tok->before,
				   texts ? &tok->n_after : &tok->n_before, err));
	}
	return texts ? 0 : refuse(err, "the post_processor", item);
}

int fr_read_tokenizer_json(struct fr_tokenizer *tok, struct fr_bytes json, struct fr_error *err)
{
	cJSON *root;
	int rc;

	FR_TRY(fr_token_file_parse(json, FILE_NAME, &root, err));
	rc = read_spaces(tok, root, err) || read_decoder(tok, fr_token_get(root, "decoder"), err) ||
	     read_model(tok, fr_token_get(root, "model"), json.size, err) ||
	     read_added(tok, fr_token_get(root, "added_tokens"), err) ||
	     read_template(tok, fr_token_get(root, "post_processor"), err);
	cJSON_Delete(root);
	return rc ? -1 : 0;
}
