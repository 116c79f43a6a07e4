/* Added tokens: found in the text before anything else is done with it, the longest at the leftmost place.
 *
 * The order of events is that of the reference (Hugging Face tokenizers, added_vocabulary.rs), surprises included: a
 * match that single_word rejects still uses up its bytes, and rstrip may eat what a later match then starts in. Tokens
 * with `normalized` are searched for in the normalised text and spelled as the normaliser would write them. */
#include "parts.h"

#include <stdlib.h>
#include <string.h>

static int keep_flags(struct fr_tokenizer *tok, struct fr_error *err)
{
	int cap = tok->vocab.cap_n;
	uint16_t *flags;

	if (tok->cap_flags >= tok->vocab.n)
		return 0;
	flags = realloc(tok->flags, (size_t)cap * sizeof *flags);
	if (!flags)
		return fr_fail(err, FR_E_MEMORY, "no memory for %d flags of the tokenizer", cap);
	memset(flags + tok->cap_flags, 0, (size_t)(cap - tok->cap_flags) * sizeof *flags);
	tok->flags = flags;
	tok->cap_flags = cap;
	return 0;
}

int32_t fr_added_put(struct fr_tokenizer *tok, const char *s, size_t length, unsigned flags, const char *where,
		     struct fr_error *err)
{
	int32_t id;
	uint16_t *at;
	int search = flags & FR_TOKEN_NORMALIZED ? FR_TOKEN_IN_NORMAL : FR_TOKEN_RAW;

	if (length == 0)
		return fr_fail(err, FR_E_MODEL, "%s: an added token is empty", where);
	if (length > FR_MAX_ADDED)
		return fr_fail(err, FR_E_MODEL, "%s: the added token '%.32s...' has %zu bytes, at most %d are read",
			       where, s, length, FR_MAX_ADDED);
	if (!fr_utf8_valid(s, length))
		return fr_fail(err, FR_E_MODEL, "%s: an added token is not UTF-8", where);
	id = fr_vocab_find(&tok->vocab, s, length);
	if (id < 0)
		id = fr_vocab_add(&tok->vocab, s, length, err);
	if (id < 0 || keep_flags(tok, err))
		return -1;
	at = &tok->flags[id];
	flags |= FR_TOKEN_ADDED;
	if ((*at & FR_TOKEN_AS_GIVEN) == flags)
		return id;
	if (flags & FR_TOKEN_SPECIAL && !(*at & FR_TOKEN_SKIP))
		*at |= (uint16_t)(FR_TOKEN_SKIP | search);
	if (!(*at & FR_TOKEN_SKIP))
		*at |= (uint16_t)search;
	*at = (uint16_t)((*at & ~FR_TOKEN_AS_GIVEN) | (int)flags);
	return id;
}

static int new_node(struct fr_trie *t, struct fr_error *err)
{
	if (t->nodes == t->cap) {
		uint32_t cap = t->cap ? t->cap * 2 : 64;
		int32_t *id = realloc(t->id, cap * sizeof *id);

		if (!id)
			return fr_fail(err, FR_E_MEMORY, "no memory for %u nodes of added tokens", cap);
		t->id = id;
		t->cap = cap;
	}
	t->id[t->nodes++] = -1;
	return 0;
}

static int trie_put(struct fr_trie *t, const char *s, size_t length, int32_t id, struct fr_error *err)
{
	uint32_t node = 0;

	t->first[(unsigned char)s[0] / 8] |= (unsigned char)(1 << (unsigned char)s[0] % 8);
	for (size_t i = 0; i < length; i++) {
		uint64_t key = (uint64_t)node << 8 | (unsigned char)s[i];
		uint32_t next = fr_pairs_get(&t->next, key);

		if (next == UINT32_MAX) {
			next = t->nodes;
			FR_TRY(new_node(t, err));
			FR_TRY(fr_pairs_set(&t->next, key, next, err));
		}
		node = next;
	}
	if (t->id[node] < 0)
		t->id[node] = id;
	return 0;
}

/* The spelling under which a normalised token is found: what the normaliser makes of it. */
static size_t normal_spelling(const struct fr_tokenizer *tok, const char *s, size_t length, char *out)
{
	size_t n = 0;

	if (tok->metaspace) {
		memcpy(out, s, length);
		return length;
	}
	if (tok->prefix == FR_PREFIX_EACH) {
		memcpy(out, FR_MARKER, FR_MARKER_BYTES);
		n = FR_MARKER_BYTES;
	}
	for (size_t i = 0; i < length; i++) {
		if (s[i] == ' ') {
			memcpy(out + n, FR_MARKER, FR_MARKER_BYTES);
			n += FR_MARKER_BYTES;
		} else {
			out[n++] = s[i];
		}
	}
	return n;
}

static int put_all(struct fr_tokenizer *tok, int skip, struct fr_error *err)
{
	char spelling[FR_MARKER_BYTES * (FR_MAX_ADDED + 1)];

	for (int32_t id = 0; id < tok->vocab.n && id < tok->cap_flags; id++) {
		const struct fr_piece *p = &tok->vocab.piece[id];
		const char *s = tok->vocab.bytes + p->offset;

		if (!(tok->flags[id] & FR_TOKEN_SKIP) != !skip)
			continue;
		if (tok->flags[id] & FR_TOKEN_RAW)
			FR_TRY(trie_put(&tok->raw, s, p->length, id, err));
		if (tok->flags[id] & FR_TOKEN_IN_NORMAL)
			FR_TRY(trie_put(&tok->normal, spelling, normal_spelling(tok, s, p->length, spelling), id, err));
	}
	return 0;
}

int fr_added_finish(struct fr_tokenizer *tok, struct fr_error *err)
{
	FR_TRY(keep_flags(tok, err));
	FR_TRY(fr_pairs_init(&tok->raw.next, 64, err));
	FR_TRY(fr_pairs_init(&tok->normal.next, 64, err));
	FR_TRY(new_node(&tok->raw, err));
	FR_TRY(new_node(&tok->normal, err));
	/* Special tokens first: of two that normalise to one spelling the reference takes the first in its lists. */
	FR_TRY(put_all(tok, 1, err));
	return put_all(tok, 0, err);
}

/* The longest token that starts at text [n]; its bytes, 0 for none. */
static size_t longest_at(const struct fr_trie *t, const char *text, size_t n, int32_t *id)
{
	size_t found = 0;
	uint32_t node = 0;

	if (!(t->first[(unsigned char)text[0] / 8] >> (unsigned char)text[0] % 8 & 1))
		return 0;
	for (size_t i = 0; i < n; i++) {
		node = fr_pairs_get(&t->next, (uint64_t)node << 8 | (unsigned char)text[i]);
		if (node == UINT32_MAX)
			break;
		if (t->id[node] >= 0) {
			*id = t->id[node];
			found = i + 1;
		}
	}
	return found;
}

/* The character that ends at text + end, at most back to `from`; 0 if none does. */
static int length_before(const char *text, size_t from, size_t end)
{
	for (int n = 1; n <= 4 && (size_t)n <= end - from; n++)
		if (fr_utf8_length(text + end - n, (size_t)n) == n)
			return n;
	return 0;
}

static int is_word_at(const char *text, size_t at, size_t n)
{
	int length = at < n ? fr_utf8_length(text + at, n - at) : 0;

	return length > 0 && fr_is_word(fr_utf8_code(text + at, length));
}

static int is_word_before(const char *text, size_t end)
{
	int length = length_before(text, 0, end);

	return length > 0 && fr_is_word(fr_utf8_code(text + end - length, length));
}

static size_t spaces_before(const char *text, size_t from, size_t end)
{
	int length;

	while (end > from && (length = length_before(text, from, end)) > 0 &&
	       fr_is_space(fr_utf8_code(text + end - length, length)))
		end -= (size_t)length;
	return end;
}

static size_t spaces_after(const char *text, size_t at, size_t n)
{
	int length;

	while (at < n && (length = fr_utf8_length(text + at, n - at)) > 0 &&
	       fr_is_space(fr_utf8_code(text + at, length)))
		at += (size_t)length;
	return at;
}

int fr_added_split(const struct fr_tokenizer *tok, const struct fr_trie *trie, const char *text, size_t n,
		   int (*emit)(void *user, size_t from, size_t to, int32_t id), void *user)
{
	size_t done = 0, spaces_end = 0, length;
	int32_t id = -1;

	for (size_t at = 0; at < n; at += length) {
		size_t start = at, stop;
		unsigned flags;

		length = longest_at(trie, text + at, n - at, &id);
		if (length == 0) {
			length = 1;
			continue;
		}
		flags = tok->flags[id];
		stop = at + length;
		if (flags & FR_TOKEN_SINGLE_WORD && (is_word_before(text, start) || is_word_at(text, stop, n)))
			continue;
		if (flags & FR_TOKEN_LSTRIP)
			start = spaces_before(text, done, start);
		if (flags & FR_TOKEN_RSTRIP) {
			/* Inside spaces already walked over, their end is known: no run is walked twice. */
			stop = stop < spaces_end ? spaces_end : spaces_after(text, stop, n);
			spaces_end = stop;
		}
		if (done < start)
			FR_TRY(emit(user, done, start, -1));
		FR_TRY(emit(user, start, stop, id));
		done = stop;
	}
	return done < n ? emit(user, done, n, -1) : 0;
}
