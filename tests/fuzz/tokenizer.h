/* What both tokenizer targets do with a tokenizer that was read: text to ids and back, whole and streamed. */
#ifndef FR_FUZZ_TOKENIZER_H
#define FR_FUZZ_TOKENIZER_H

#include "../../tokenizer/tokenizer.h"

#include <stdlib.h>
#include <string.h>

static void check_decoding(const struct fr_tokenizer *tok, const int32_t *ids, size_t n)
{
	char *text, *stream = malloc((n + 1) * fr_tokenizer_max_piece(tok)), *at = stream;
	struct fr_detok d;
	size_t len;

	if (fr_tokenizer_decode(tok, ids, n, &text, &len, NULL))
		abort();
	fr_detok_init(&d, tok, 0);
	for (size_t i = 0; i < n; i++)
		at += fr_detok_push(&d, ids[i], at);
	at += fr_detok_end(&d, at);
	if (n <= FR_DETOK_RUN && ((size_t)(at - stream) != len || memcmp(stream, text, len)))
		abort();
	free(text);
	free(stream);
}

static void check_text(const struct fr_tokenizer *tok, const char *text, size_t n)
{
	int32_t *ids;
	size_t n_ids;

	if (fr_tokenizer_encode(tok, text, n, 1, &ids, &n_ids, NULL))
		abort();
	for (size_t i = 0; i < n_ids; i++)
		if (ids[i] < 0 || ids[i] >= fr_tokenizer_count(tok))
			abort();
	check_decoding(tok, ids, n_ids);
	free(ids);
}

/* A fixed text, and the last bytes of the input, where changes of the text come cheap to the fuzzer. */
static void check_tokenizer(struct fr_tokenizer *tok, const uint8_t *input, size_t size)
{
	static const char text[] =
		"<image>\nDoes the  image\tlook real? \u2581 a<s>b </s>\xFF\xE2\x96 \xF0\x9F\x98\x80\0aaab";
	size_t tail = size < 64 ? size : 64;
	int32_t ids[300];

	for (int i = 0; i < 300; i++)
		ids[i] = (i * 7) % (fr_tokenizer_count(tok) + 2) - 1;
	check_text(tok, text, sizeof text - 1);
	check_text(tok, (const char *)input + size - tail, tail);
	check_decoding(tok, ids, 300);
	fr_tokenizer_fingerprint(tok);
	fr_tokenizer_free(tok);
}

#endif
