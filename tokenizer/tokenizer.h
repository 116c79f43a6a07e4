/* SentencePiece BPE as Llama checkpoints carry it, exact to the id.
 *
 * Text -> (added tokens cut out, longest first at each place) -> spaces become U+2581, the marker in front as
 * tokenizer.json or `legacy` says -> best-ranked merges, leftmost first -> ids; characters without a piece become
 * <0xNN> pieces, or unk. Reads tokenizer.model (protobuf) and tokenizer.json; tokenizer.json wins where both are. */
#ifndef FR_TOKENIZER_H
#define FR_TOKENIZER_H

#include "../engine/error.h"
#include "../weights/weights.h"

/* How the marker U+2581 goes in front of text (docs/MODEL.md, Tokens). */
enum fr_prefix { FR_PREFIX_NEVER, FR_PREFIX_FIRST /* only at the very start */, FR_PREFIX_EACH /* every stretch between added tokens */ };

/* fr_tokenizer_load, _free, _encode, _piece, _decode are public: see engine/fr.h. */
int fr_tokenizer_open(struct fr_source *src, struct fr_tokenizer **out, struct fr_error *err);
/* Fuzz entries: the bytes alone. config/added may be NULL (tokenizer_config.json, added_tokens.json). */
int fr_tokenizer_from_model(const uint8_t *bytes, size_t size, const uint8_t *config, size_t config_size,
			    const uint8_t *added, size_t added_size, struct fr_tokenizer **out, struct fr_error *err);
int fr_tokenizer_from_json(const uint8_t *bytes, size_t size, const uint8_t *config, size_t config_size,
			   struct fr_tokenizer **out, struct fr_error *err);

int fr_tokenizer_count(const struct fr_tokenizer *tok);          /* ids 0..count-1, added tokens included */
int32_t fr_tokenizer_find(const struct fr_tokenizer *tok, const char *piece); /* id by spelling, -1: none */
int32_t fr_tokenizer_bos(const struct fr_tokenizer *tok);        /* -1: none */
int32_t fr_tokenizer_eos(const struct fr_tokenizer *tok);
const char *fr_tokenizer_kind(const struct fr_tokenizer *tok);   /* for info: "tokenizer.json, legacy" ... */
uint64_t fr_tokenizer_fingerprint(const struct fr_tokenizer *tok); /* over pieces, scores/ranks, flags */

/* Streaming: ids in, whole UTF-8 characters out, byte for byte what fr_tokenizer_decode gives for the ids so far
 * except a character still incomplete at the end (special tokens are left out). */
struct fr_detok {
	const struct fr_tokenizer *tok;
	unsigned char pending[4];
	int n_pending;
	int started;
};
void fr_detok_init(struct fr_detok *d, const struct fr_tokenizer *tok, int started /* 1: text goes on, keep the space */);
/* Appends at most FR_DETOK_MAX bytes... of one id to out [cap >= fr_tokenizer_max_piece(tok) + 16]; returns their number. */
size_t fr_tokenizer_max_piece(const struct fr_tokenizer *tok);
size_t fr_detok_push(struct fr_detok *d, int32_t id, char *out);
size_t fr_detok_end(struct fr_detok *d, char *out); /* what was pending becomes U+FFFD */

#endif
