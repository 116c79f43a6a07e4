/* tokenizer_config.json, added_tokens.json, special_tokens_map.json: what transformers adds to the bare tokenizer.
 *
 * The order is that of PreTrainedTokenizerFast 4.45: first added_tokens_decoder by id (else added_tokens.json), then
 * the special tokens that are still missing. The reference hands out new ids one after the other and does not look at
 * the ids in the files: where those differ, the checkpoint means two things at once and is refused. */
#include "parts.h"
#include "../weights/json.h"

#include <stdlib.h>
#include <string.h>

#define CONFIG "tokenizer_config.json"
#define ADDED "added_tokens.json"
#define SPECIALS "special_tokens_map.json"

struct entry {
	const char *text;
	unsigned flags;
	int described; /* 1: given with flags, so it changes a token that is already there */
	int32_t id;    /* that the file claims */
};
struct list {
	struct entry *at;
	size_t n, cap;
	struct fr_vocab names; /* spelling -> index */
};

/* ---- JSON ---- */
/* \u0000, outside of which an even number of backslashes stands: cJSON ends a string there without a word. */
static int holds_nul(const char *s, size_t n)
{
	if (memchr(s, 0, n))
		return 1;
	for (const char *at = s; (at = memmem(at, n - (size_t)(at - s), "\\u0000", 6)); at += 6) {
		size_t slashes = 1;

		while (at - slashes >= s && at[-(ptrdiff_t)slashes] == '\\')
			slashes++;
		if (slashes % 2)
			return 1;
	}
	return 0;
}

int fr_token_file_parse(struct fr_bytes bytes, const char *where, cJSON **out, struct fr_error *err)
{
	*out = NULL;
	if (holds_nul((const char *)bytes.at, bytes.size))
		return fr_fail(err, FR_E_MODEL, "%s: holds the character U+0000, which is not read", where);
	return fr_json_parse(bytes.at, bytes.size, where, out, err);
}

const cJSON *fr_token_get(const cJSON *object, const char *key)
{
	return fr_json_get((struct fr_json){object, NULL}, key);
}

/* null is false, as it is in Python. */
int fr_token_bool(const cJSON *object, const char *key, int absent, const char *where, int *out, struct fr_error *err)
{
	*out = cJSON_GetObjectItemCaseSensitive(object, key) ? 0 : absent;
	return fr_json_bool((struct fr_json){object, where}, key, out, err);
}

int fr_token_flags(const cJSON *object, const char *where, unsigned *flags, struct fr_error *err)
{
	int lstrip, rstrip, single, special, normalized;

	FR_TRY(fr_token_bool(object, "lstrip", 0, where, &lstrip, err));
	FR_TRY(fr_token_bool(object, "rstrip", 0, where, &rstrip, err));
	FR_TRY(fr_token_bool(object, "single_word", 0, where, &single, err));
	FR_TRY(fr_token_bool(object, "special", 0, where, &special, err));
	FR_TRY(fr_token_bool(object, "normalized", !special, where, &normalized, err));
	*flags = (lstrip ? FR_TOKEN_LSTRIP : 0) | (rstrip ? FR_TOKEN_RSTRIP : 0) | (single ? FR_TOKEN_SINGLE_WORD : 0) |
		 (special ? FR_TOKEN_SPECIAL : 0) | (normalized ? FR_TOKEN_NORMALIZED : 0);
	return 0;
}

int fr_config_prefix(const cJSON *config, int *legacy, int *prefix_space, struct fr_error *err)
{
	if (fr_token_get(config, "legacy"))
		FR_TRY(fr_token_bool(config, "legacy", 1, CONFIG, legacy, err));
	else
		*legacy = 1;
	return fr_token_bool(config, "add_prefix_space", 1, CONFIG, prefix_space, err);
}

/* ---- lists of tokens ---- */
static int list_put(struct list *l, struct entry e, const char *where, struct fr_error *err)
{
	if (fr_vocab_find(&l->names, e.text, strlen(e.text)) >= 0)
		return fr_fail(err, FR_E_MODEL, "%s: the token '%.64s' is there twice", where, e.text);
	if (l->n == l->cap) {
		size_t cap = l->cap ? 2 * l->cap : 16;
		struct entry *at = realloc(l->at, cap * sizeof *at);

		if (!at)
			return fr_fail(err, FR_E_MEMORY, "no memory for %zu added tokens", cap);
		l->at = at;
		l->cap = cap;
	}
	if (fr_vocab_add(&l->names, e.text, strlen(e.text), err) < 0)
		return -1;
	l->at[l->n++] = e;
	return 0;
}

static const struct entry *list_find(const struct list *l, const char *text)
{
	int32_t i = fr_vocab_find(&l->names, text, strlen(text));

	return i < 0 ? NULL : &l->at[i];
}

static void list_free(struct list *l)
{
	free(l->at);
	fr_vocab_free(&l->names);
}

static int by_id(const void *a, const void *b)
{
	int32_t x = ((const struct entry *)a)->id, y = ((const struct entry *)b)->id;

	return (x > y) - (x < y);
}

/* A token given as a string, or as an object that describes it. */
static int read_token(const cJSON *item, const char *where, struct entry *e, struct fr_error *err)
{
	const cJSON *content = cJSON_IsObject(item) ? fr_token_get(item, "content") : item;

	*e = (struct entry){.described = cJSON_IsObject(item), .id = -1};
	if (!cJSON_IsString(content))
		return fr_fail(err, FR_E_MODEL, "%s: a token is neither a string nor an object with 'content'", where);
	e->text = content->valuestring;
	return e->described ? fr_token_flags(item, where, &e->flags, err) : 0;
}

static int read_decoder(const cJSON *object, struct list *l, struct fr_error *err)
{
	if (!cJSON_IsObject(object))
		return fr_fail(err, FR_E_MODEL, CONFIG ": 'added_tokens_decoder' is no object");
	for (const cJSON *item = object->child; item; item = item->next) {
		struct entry e;
		char *end;
		long id = strtol(item->string, &end, 10);

		if (end == item->string || *end || id < 0 || id > INT32_MAX)
			return fr_fail(err, FR_E_MODEL, CONFIG ": added_tokens_decoder: '%.64s' is no id",
				       item->string);
		FR_TRY(read_token(item, CONFIG ": added_tokens_decoder", &e, err));
		if (!e.described)
			return fr_fail(err, FR_E_MODEL, CONFIG ": added_tokens_decoder: id %ld is no object", id);
		e.id = (int32_t)id;
		FR_TRY(list_put(l, e, CONFIG ": added_tokens_decoder", err));
	}
	return 0;
}

/* added_tokens.json says nothing but ids; a token is special if it is named as one of the special tokens. */
static int read_added(const cJSON *added, const struct list *special, struct list *l, struct fr_error *err)
{
	for (const cJSON *item = added ? added->child : NULL; item; item = item->next) {
		struct entry e = {.text = item->string, .described = 1};

		if (!cJSON_IsNumber(item) || !(item->valuedouble >= 0 && item->valuedouble <= INT32_MAX) ||
		    item->valuedouble != item->valueint)
			return fr_fail(err, FR_E_MODEL, ADDED ": the id of '%.64s' is no whole number from 0", e.text);
		e.id = item->valueint;
		e.flags = list_find(special, e.text) ? FR_TOKEN_SPECIAL : FR_TOKEN_NORMALIZED;
		FR_TRY(list_put(l, e, ADDED, err));
	}
	return 0;
}

/* ---- special tokens ---- */
static const char *const names[] = {"bos_token", "eos_token", "unk_token", "sep_token",
				    "pad_token", "cls_token", "mask_token"};
enum { BOS, EOS, UNK, SEP, PAD, CLS, MASK, NAMES };
static const char *const llama_defaults[NAMES] = {[BOS] = "<s>", [EOS] = "</s>", [UNK] = "<unk>"};

struct special {
	struct list list;
	const char *text[NAMES]; /* NULL: none */
};

static int put_special(struct special *s, struct entry e, struct fr_error *err)
{
	return list_find(&s->list, e.text) ? 0 : list_put(&s->list, e, CONFIG, err);
}

/* override: special_tokens_map.json, which holds only for checkpoints without added_tokens_decoder. */
static int read_specials(const cJSON *config, const cJSON *override, int llama, struct special *s, struct fr_error *err)
{
	const cJSON *more, *files[] = {config, override};
	struct entry e;

	for (int i = 0; i < NAMES; i++) {
		const cJSON *in_map = cJSON_GetObjectItemCaseSensitive(override, names[i]);
		const cJSON *item = in_map ? in_map : cJSON_GetObjectItemCaseSensitive(config, names[i]);

		if (cJSON_IsNull(item) || (!item && !(llama && llama_defaults[i])))
			continue;
		if (item)
			FR_TRY(read_token(item, in_map ? SPECIALS : CONFIG, &e, err));
		else
			e = (struct entry){.text = llama_defaults[i], .id = -1};
		s->text[i] = e.text;
		FR_TRY(put_special(s, e, err));
	}
	for (int i = 0; i < 2; i++) {
		more = fr_token_get(files[i], "additional_special_tokens");
		if (more && !cJSON_IsArray(more))
			return fr_fail(err, FR_E_MODEL, "%s: 'additional_special_tokens' is no list",
				       i ? SPECIALS : CONFIG);
		for (const cJSON *item = more ? more->child : NULL; item; item = item->next) {
			FR_TRY(read_token(item, i ? SPECIALS : CONFIG, &e, err));
			FR_TRY(put_special(s, e, err));
		}
	}
	return 0;
}

/* ---- putting it together ---- */
static int put_listed(struct fr_tokenizer *tok, struct list *l, const struct special *s, struct fr_error *err)
{
	if (l->n)
		qsort(l->at, l->n, sizeof *l->at, by_id);
	for (size_t i = 0; i < l->n; i++) {
		const struct entry *e = &l->at[i];
		unsigned flags = e->flags | FR_TOKEN_ADDED;
		int32_t id = fr_vocab_find(&tok->vocab, e->text, strlen(e->text));

		if (id >= 0 && id < tok->cap_flags && (tok->flags[id] & FR_TOKEN_AS_GIVEN) == flags)
			flags = e->flags;
		else
			flags = e->flags | (list_find(&s->list, e->text) ? FR_TOKEN_SPECIAL : 0);
		id = fr_added_put(tok, e->text, strlen(e->text), flags, CONFIG, err);
		if (id < 0)
			return -1;
		if (id != e->id)
			return fr_fail(err, FR_E_MODEL,
				       "the added token '%.64s' is given id %d, but its place in the vocabulary is %d",
				       e->text, e->id, id);
	}
	return 0;
}

static int put_specials(struct fr_tokenizer *tok, const struct special *s, struct fr_error *err)
{
	for (size_t i = 0; i < s->list.n; i++) {
		const struct entry *e = &s->list.at[i];
		int32_t id = fr_vocab_find(&tok->vocab, e->text, strlen(e->text));
		int there = id >= 0 && id < tok->cap_flags && tok->flags[id] & FR_TOKEN_ADDED;

		if (there && !e->described)
			continue;
		if (fr_added_put(tok, e->text, strlen(e->text), e->flags | FR_TOKEN_SPECIAL, CONFIG, err) < 0)
			return -1;
	}
	return 0;
}

static int32_t id_of(const struct fr_tokenizer *tok, const char *text)
{
	return text ? fr_vocab_find(&tok->vocab, text, strlen(text)) : -1;
}

/* LlamaTokenizerFast writes the post-processor anew from two flags; the generic class leaves the file's. */
static int set_around(struct fr_tokenizer *tok, const cJSON *config, int llama, struct fr_error *err)
{
	int bos, eos;

	if (!llama)
		return 0;
	FR_TRY(fr_token_bool(config, "add_bos_token", 1, CONFIG, &bos, err));
	FR_TRY(fr_token_bool(config, "add_eos_token", 0, CONFIG, &eos, err));
	if ((bos && tok->bos < 0) || (eos && tok->eos < 0))
		return fr_fail(err, FR_E_MODEL, CONFIG ": add_%s_token is set, but there is no such token",
			       bos && tok->bos < 0 ? "bos" : "eos");
	tok->n_before = bos;
	tok->before[0] = tok->bos;
	tok->n_after = eos;
	tok->after[0] = tok->eos;
	return 0;
}

static int read_class(const cJSON *config, int *llama, struct fr_error *err)
{
	const cJSON *class = fr_token_get(config, "tokenizer_class");
	static const char *const generic[] = {"PreTrainedTokenizerFast", "PreTrainedTokenizer", "TokenizersBackend"};
	int split;

	*llama = 1;
	FR_TRY(fr_token_bool(config, "split_special_tokens", 0, CONFIG, &split, err));
	if (split)
		return fr_fail(err, FR_E_MODEL, CONFIG ": split_special_tokens is set, which is not implemented");
	if (!class)
		return 0;
	if (!cJSON_IsString(class))
		return fr_fail(err, FR_E_MODEL, CONFIG ": 'tokenizer_class' is no string");
	if (!strcmp(class->valuestring, "LlamaTokenizer") || !strcmp(class->valuestring, "LlamaTokenizerFast"))
		return 0;
	*llama = 0;
	for (size_t i = 0; i < sizeof generic / sizeof *generic; i++)
		if (!strcmp(class->valuestring, generic[i]))
			return 0;
	return fr_fail(err, FR_E_MODEL, CONFIG ": tokenizer_class '%.64s' is not read, expected LlamaTokenizer",
		       class->valuestring);
}

/* A special token that added_tokens_decoder describes is that description. */
static void describe(struct special *s, const struct list *l)
{
	for (size_t i = 0; i < s->list.n; i++) {
		struct entry *e = &s->list.at[i];
		const struct entry *known = list_find(l, e->text);
		int named = 0;

		for (int j = 0; j < NAMES; j++)
			named |= s->text[j] && !strcmp(s->text[j], e->text);
		if (known && named) {
			e->flags = known->flags;
			e->described = 1;
		} else if (known && !e->described) {
			e->flags = known->flags & ~(unsigned)FR_TOKEN_SPECIAL;
		}
	}
}

static int apply(struct fr_tokenizer *tok, const cJSON *config, const cJSON *added, const cJSON *specials,
		 struct list *l, struct special *s, struct fr_error *err)
{
	const cJSON *decoder = fr_token_get(config, "added_tokens_decoder");
	int llama;

	FR_TRY(read_class(config, &llama, err));
	FR_TRY(fr_vocab_init(&l->names, 16, 0, err));
	FR_TRY(fr_vocab_init(&s->list.names, 16, 0, err));
	FR_TRY(read_specials(config, decoder ? NULL : specials, llama, s, err));
	if (decoder)
		FR_TRY(read_decoder(decoder, l, err));
	else
		FR_TRY(read_added(added, &s->list, l, err));
	describe(s, l);
	FR_TRY(put_listed(tok, l, s, err));
	FR_TRY(put_specials(tok, s, err));
	tok->bos = id_of(tok, s->text[BOS]);
	tok->eos = id_of(tok, s->text[EOS]);
	return set_around(tok, config, llama, err);
}

int fr_config_apply(struct fr_tokenizer *tok, const cJSON *config, const cJSON *added, const cJSON *specials,
		    struct fr_error *err)
{
	struct list l = {0};
	struct special s = {0};
	int rc = apply(tok, config, added, specials, &l, &s, err);

	list_free(&l);
	list_free(&s.list);
	return rc;
}
