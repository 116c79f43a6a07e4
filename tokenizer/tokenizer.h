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
enum fr_prefix {
	FR_PREFIX_NEVER,
	FR_PREFIX_FIRST, /* only at the very start */
	FR_PREFIX_EACH,	 /* every stretch between added tokens */
};

/* fr_tokenizer_load, _free, _encode, _piece, _decode are public: see engine/fr.h. */
int fr_tokenizer_open(struct fr_source *src, struct fr_tokenizer **out, struct fr_error *err);
/* Fuzz entries: the bytes alone. config/added may be NULL (tokenizer_config.json, added_tokens.json). */
int fr_tokenizer_from_model(const uint8_t *bytes, size_t size, const uint8_t *config, size_t config_size,
			    const uint8_t *added, size_t added_size, struct fr_tokenizer **out, struct fr_error *err);
int fr_tokenizer_from_json(const uint8_t *bytes, size_t size, const uint8_t *config, size_t config_size,
			   struct fr_tokenizer **out, struct fr_error *err);

/* ids are 0..count-1, added tokens included. find: the id of a spelling; -1, also for bos and eos: there is none. */
int fr_tokenizer_count(const struct fr_tokenizer *tok);
int32_t fr_tokenizer_find(const struct fr_tokenizer *tok, const char *piece);
int32_t fr_tokenizer_bos(const struct fr_tokenizer *tok);
int32_t fr_tokenizer_eos(const struct fr_tokenizer *tok);
const char *fr_tokenizer_kind(const struct fr_tokenizer *tok);	   /* for info: "tokenizer.json, legacy" ... */
uint64_t fr_tokenizer_fingerprint(const struct fr_tokenizer *tok); /* over pieces, merges, flags */

/* Streaming: ids in, whole UTF-8 characters out; all of it together is byte for byte what fr_tokenizer_decode gives for
 * all the ids (special tokens are left out). Pieces that stand for a byte are held back until their run ends, because
 * one wrong byte makes every byte of its run U+FFFD; only runs of more than FR_DETOK_RUN bytes are cut there. */
#define FR_DETOK_RUN 1024
struct fr_detok {
	const struct fr_tokenizer *tok;
	char run[FR_DETOK_RUN]; /* [n_run] bytes held back */
	int n_run;
	int bad;     /* the run is known to be no UTF-8, n_run is 0 */
	int started; /* a leading space is text */
};
/* started 1: the text goes on from somewhere, so its leading space stays. */
void fr_detok_init(struct fr_detok *d, const struct fr_tokenizer *tok, int started);
/* Bytes that an id adds to a text at most: n pushes and an end give no more than n times as many together. */
size_t fr_tokenizer_max_piece(const struct fr_tokenizer *tok);
/* The bytes of one id, and what was held back before it, to out [cap >= fr_tokenizer_max_piece(tok) + 3 * FR_DETOK_RUN,
 * or room for the whole text]; returns their number. No NUL is added. */
size_t fr_detok_push(struct fr_detok *d, int32_t id, char *out);
size_t fr_detok_end(struct fr_detok *d, char *out); /* what was held back; a run that ends in half a character is bad */

#endif
