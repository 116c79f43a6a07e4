/* What the files of this folder share: the vocabulary, the merges, the added tokens and the tokenizer that holds them.
 *
 * Everything here is built once by a reader (sentencepiece.c or json.c, then config.c) and immutable afterwards, so one
 * tokenizer may be used by several threads. All strings are bytes with a length; every piece is valid UTF-8. */
#ifndef FR_TOKENIZER_PARTS_H
#define FR_TOKENIZER_PARTS_H

#include "tokenizer.h"

#include <cjson/cJSON.h>

#define FR_MARKER "\xE2\x96\x81" /* U+2581, which stands for a space inside pieces */
#define FR_MARKER_BYTES 3
#define FR_MAX_PIECE 8192 /* bytes of one piece; Llama's longest has 48 */
#define FR_MAX_ADDED 512  /* bytes of one added token: bounds the search at every byte of the text */

/* ---- chars.c: UTF-8 and character classes ---- */
/* Bytes of the character that starts s [n > 0]; 0: no character starts so; -1: a beginning that s cuts off. */
int fr_utf8_length(const char *s, size_t n);
int fr_utf8_valid(const char *s, size_t n);
uint32_t fr_utf8_code(const char *s, int length); /* of a character that fr_utf8_length accepted */
int fr_is_space(uint32_t code); /* \s and \w as Rust's regex crate has them, because the reference does */
int fr_is_word(uint32_t code);

/* ---- vocab.c: spelling <-> id, and pairs of numbers -> number ---- */
struct fr_piece {
	uint32_t offset, length;
};
struct fr_vocab {
	char *bytes;
	size_t used, cap;
	struct fr_piece *piece; /* [n] */
	int n, cap_n;
	struct fr_slot {
		uint32_t id, hash; /* id + 1, 0 for none */
	} * slot;		   /* [mask + 1], open addressing */
	uint32_t mask;
};
/* Room for n pieces of `bytes` bytes together; grows later when more come. */
int fr_vocab_init(struct fr_vocab *v, size_t n, size_t bytes, struct fr_error *err);
void fr_vocab_free(struct fr_vocab *v);
/* Appends a piece that is not there yet and returns its id, or -1. */
int32_t fr_vocab_add(struct fr_vocab *v, const char *s, size_t length, struct fr_error *err);
int32_t fr_vocab_find(const struct fr_vocab *v, const char *s, size_t length); /* -1: none */
uint64_t fr_hash_step(uint64_t hash, unsigned char byte); /* the hash of a spelling, byte by byte from 0 */
uint64_t fr_hash_power(size_t n);			  /* hash(ab) = hash(a) * power(|b|) + hash(b), modulo 2^64 */
int32_t fr_vocab_find_hashed(const struct fr_vocab *v, const char *s, size_t length, uint64_t hash);

struct fr_pairs {
	struct fr_pair {
		uint64_t key;
		uint32_t value; /* UINT32_MAX: the slot is empty */
	} * slot;
	size_t mask, n;
};
int fr_pairs_init(struct fr_pairs *p, size_t n, struct fr_error *err);
void fr_pairs_free(struct fr_pairs *p);
int fr_pairs_set(struct fr_pairs *p, uint64_t key, uint32_t value, struct fr_error *err); /* the last value holds */
uint32_t fr_pairs_get(const struct fr_pairs *p, uint64_t key);				  /* UINT32_MAX: none */

/* ---- added.c: tokens found in the text before any merging ---- */
enum {
	FR_TOKEN_ADDED = 1,
	FR_TOKEN_LSTRIP = 2,
	FR_TOKEN_RSTRIP = 4,
	FR_TOKEN_SINGLE_WORD = 8,
	FR_TOKEN_NORMALIZED = 16,
	FR_TOKEN_SPECIAL = 32,
	FR_TOKEN_AS_GIVEN = 63,	 /* the bits that a file gives; the rest follows from them */
	FR_TOKEN_SKIP = 64,	 /* left out of decoded text */
	FR_TOKEN_RAW = 128,	 /* searched for in the text as given */
	FR_TOKEN_IN_NORMAL = 256 /* searched for in the normalised text */
};
struct fr_trie {
	struct fr_pairs next; /* node << 8 | byte -> node */
	int32_t *id;	      /* [nodes] of the token that ends here, -1: none */
	uint32_t nodes, cap;
	unsigned char first[32]; /* bit per byte that starts a token */
};
/* Adds a token as the reference does: an existing spelling keeps its id and takes the new flags, a new one gets the
 * next id. flags: the FR_TOKEN_AS_GIVEN bits. where: the file, for the sentence. Returns the id or -1. */
int32_t fr_added_put(struct fr_tokenizer *tok, const char *s, size_t length, unsigned flags, const char *where,
		     struct fr_error *err);
int fr_added_finish(struct fr_tokenizer *tok, struct fr_error *err); /* builds the tries; once, after the last put */
/* Cuts text [n] into stretches (id -1) and tokens, in order, and hands each to emit, which returns 0 to go on. */
int fr_added_split(const struct fr_tokenizer *tok, const struct fr_trie *trie, const char *text, size_t n,
		   int (*emit)(void *user, size_t from, size_t to, int32_t id), void *user);

/* ---- the tokenizer ---- */
#define FR_MAX_AROUND 8
#define FR_JOIN_WORDS 8192 /* 2^18 bits, of which Llama's pieces set one in seven */
struct fr_tokenizer {
	struct fr_vocab vocab;
	int n_model;	 /* ids below are pieces of the model, the rest were added */
	uint16_t *flags; /* [cap_flags] by id, FR_TOKEN_* */
	int cap_flags;

	/* No piece that a merge makes has these two neighbours if their bit is 0: text may be cut between them. */
	uint32_t joins[FR_JOIN_WORDS];
	struct fr_pairs merges; /* left << 32 | right -> rank; small ranks first */
	int32_t *merged;	/* [n_merges] by rank: the piece it makes */
	size_t n_merges;

	int32_t byte_id[256];  /* of <0xNN>, -1: none */
	int32_t unk, bos, eos; /* -1: none */
	int byte_fallback, fuse_unk, ignore_merges;

	enum fr_prefix prefix;
	int metaspace; /* the marker comes after added tokens are cut out, and only where none is; else before, always
			*/
	int split;     /* merges do not go over a marker */
	int strip;     /* decoded text loses one leading space */

	struct fr_trie raw, normal;
	int32_t before[FR_MAX_AROUND], after[FR_MAX_AROUND]; /* put around a text */
	int n_before, n_after;
	char kind[64];
};
/* left, right, made: ids. Ranks count up from 0; the last of two equal pairs holds. */
int fr_merge_put(struct fr_tokenizer *tok, int32_t left, int32_t right, int32_t made, struct fr_error *err);

/* 0: no merge makes a piece in which a character ending in byte `last` stands before the one at next [length]. */
int fr_may_join(const struct fr_tokenizer *tok, char last, const char *next, size_t length);

/* ---- config.c: the small files next to the vocabulary ---- */
struct fr_bytes {
	const uint8_t *at; /* NULL: the file is not there */
	size_t size;
};
struct fr_tokenizer_files {
	struct fr_bytes model, json, config, added, specials;
};
/* fr_json_parse, and refuses U+0000, at which cJSON would cut a string. */
int fr_token_file_parse(struct fr_bytes bytes, const char *where, cJSON **out, struct fr_error *err);
const cJSON *fr_token_get(const cJSON *object, const char *key); /* NULL: absent or null */
/* null is false, as in Python; `absent` is what an absent key means. */
int fr_token_bool(const cJSON *object, const char *key, int absent, const char *where, int *out, struct fr_error *err);
/* The flags of a token description; a key that is not there gives the reference's default. */
int fr_token_flags(const cJSON *object, const char *where, unsigned *flags, struct fr_error *err);
/* tokenizer_config.json as far as the reader of tokenizer.model needs it. */
int fr_config_prefix(const cJSON *config, int *legacy, int *prefix_space, struct fr_error *err);
/* Added and special tokens, bos and eos, what goes around a text. parsed files may be NULL. */
int fr_config_apply(struct fr_tokenizer *tok, const cJSON *config, const cJSON *added, const cJSON *specials,
		    struct fr_error *err);

/* ---- readers ---- */
int fr_read_sentencepiece(struct fr_tokenizer *tok, struct fr_bytes model, const cJSON *config, struct fr_error *err);
int fr_read_tokenizer_json(struct fr_tokenizer *tok, struct fr_bytes json, struct fr_error *err);

#endif
