/* ids -> text: byte pieces joined to characters, markers to spaces, one leading space taken away.
 *
 * As the reference does it (tokenizers' ByteFallback), a whole run of byte pieces is text or is not: if any of it is
 * not UTF-8, every byte of the run becomes U+FFFD. So the streaming form cannot show a byte piece before the run's end,
 * or before the run is known to be bad: it holds the run back. */
#include "parts.h"

#include <stdlib.h>
#include <string.h>

#define REPLACEMENT "\xEF\xBF\xBD"

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The byte that a piece spelled <0xNN> stands for, -1 if it is not so spelled. Rust's number parser lets one of the
 * two digits be a plus sign. */
static int byte_of(const char *s, size_t length)
{
	int high, low;

	if (length != 6 || memcmp(s, "<0x", 3) || s[5] != '>')
		return -1;
	high = s[3] == '+' ? 0 : hex_digit(s[3]);
	low = hex_digit(s[4]);
	return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/* The piece of an id that is shown; NULL if it has none or is special. */
static const char *shown(const struct fr_tokenizer *tok, int32_t id, size_t *length)
{
	const char *s;

	if (id < 0 || id >= tok->vocab.n || tok->flags[id] & FR_TOKEN_SKIP || fr_tokenizer_piece(tok, id, &s, length))
		return NULL;
	return s;
}

/* Copies a piece with spaces for markers; returns the bytes written, at most length. */
static size_t put_piece(char *out, const char *s, size_t length)
{
	char *at = out;

	for (size_t i = 0; i < length;) {
		if (length - i >= FR_MARKER_BYTES && !memcmp(s + i, FR_MARKER, FR_MARKER_BYTES)) {
			*at++ = ' ';
			i += FR_MARKER_BYTES;
		} else {
			*at++ = s[i++];
		}
	}
	return (size_t)(at - out);
}

static size_t put_run(char *out, const char *run, size_t n)
{
	if (fr_utf8_valid(run, n)) {
		memcpy(out, run, n);
		return n;
	}
	for (size_t i = 0; i < n; i++)
		memcpy(out + 3 * i, REPLACEMENT, 3);
	return 3 * n;
}

/* Bytes that the text of ids can have at most, and the longest run of byte pieces among them. */
static size_t text_bound(const struct fr_tokenizer *tok, const int32_t *ids, size_t n, size_t *longest)
{
	size_t bytes = 0, run = 0, length;

	*longest = 0;
	for (size_t i = 0; i < n; i++) {
		const char *s = shown(tok, ids[i], &length);

		if (!s)
			continue;
		run = byte_of(s, length) >= 0 ? run + 1 : 0;
		*longest = run > *longest ? run : *longest;
		bytes += length;
	}
	return bytes;
}

int fr_tokenizer_decode(const struct fr_tokenizer *tok, const int32_t *ids, size_t n, char **text, size_t *len,
			struct fr_error *err)
{
	size_t longest, bound = text_bound(tok, ids, n, &longest), used = 0, n_run = 0;
	char *out = malloc(bound + 1), *run = malloc(longest + 1);

	if (!out || !run) {
		free(out);
		free(run);
		return fr_fail(err, FR_E_MEMORY, "no memory for %zu bytes of decoded text", bound);
	}
	for (size_t i = 0; i < n; i++) {
		size_t length;
		const char *s = shown(tok, ids[i], &length);
		int byte = s ? byte_of(s, length) : -1;

		if (!s)
			continue;
		if (byte >= 0) {
			run[n_run++] = (char)byte;
			continue;
		}
		used += put_run(out + used, run, n_run);
		n_run = 0;
		used += put_piece(out + used, s, length);
	}
	used += put_run(out + used, run, n_run);
	free(run);
	if (tok->strip && used && out[0] == ' ')
		memmove(out, out + 1, --used);
	out[used] = 0;
	*text = out;
	*len = used;
	return 0;
}

/* ---- streaming ---- */
void fr_detok_init(struct fr_detok *d, const struct fr_tokenizer *tok, int started)
{
	d->tok = tok;
	d->n_run = 0;
	d->bad = 0;
	d->started = started || !tok->strip;
}

size_t fr_tokenizer_max_piece(const struct fr_tokenizer *tok)
{
	size_t longest = 3; /* a byte that is no text becomes U+FFFD */

	for (int id = 0; id < tok->vocab.n; id++)
		if (tok->vocab.piece[id].length > longest)
			longest = tok->vocab.piece[id].length;
	return longest;
}

/* The first byte of all is dropped if it is the space that the marker in front left. */
static size_t start(struct fr_detok *d, char *out, size_t n)
{
	if (d->started || n == 0)
		return n;
	d->started = 1;
	if (out[0] != ' ')
		return n;
	memmove(out, out + 1, n - 1);
	return n - 1;
}

static size_t flush_run(struct fr_detok *d, char *out)
{
	size_t n = put_run(out, d->run, (size_t)d->n_run);

	d->n_run = 0;
	d->bad = 0;
	return n;
}

/* Bytes of whole characters that the run begins with; sets bad if what follows them can never become one. */
static int whole_characters(struct fr_detok *d)
{
	int at = 0;

	while (at < d->n_run) {
		int length = fr_utf8_length(d->run + at, (size_t)(d->n_run - at));

		if (length == 0)
			d->bad = 1;
		if (length <= 0)
			break;
		at += length;
	}
	return at;
}

static size_t push_byte(struct fr_detok *d, int byte, char *out)
{
	size_t n = 0;
	int whole;

	if (d->bad)
		return put_run(out, "\xFF", 1);
	d->run[d->n_run++] = (char)byte;
	whole = whole_characters(d);
	if (d->bad) {
		n = flush_run(d, out);
		d->bad = 1;
	} else if (d->n_run == FR_DETOK_RUN) {
		memcpy(out, d->run, (size_t)whole);
		memmove(d->run, d->run + whole, (size_t)(d->n_run - whole));
		d->n_run -= whole;
		n = (size_t)whole;
	}
	return n;
}

size_t fr_detok_push(struct fr_detok *d, int32_t id, char *out)
{
	size_t length, n;
	const char *s = shown(d->tok, id, &length);
	int byte = s ? byte_of(s, length) : -1;

	if (!s)
		return 0;
	if (byte >= 0) {
		n = push_byte(d, byte, out);
	} else {
		n = flush_run(d, out);
		n += put_piece(out + n, s, length);
	}
	return start(d, out, n);
}

size_t fr_detok_end(struct fr_detok *d, char *out)
{
	return start(d, out, flush_run(d, out));
}
