/* Text -> ids: added tokens, spaces to markers, characters to pieces, best-ranked merges first, leftmost among equals.
 *
 * Merging keeps the pieces in a linked list and the pairs that can merge in a heap ordered by (rank, place): n log n
 * for any text. A heap entry that a neighbour's merge has made stale is dropped when it comes up, by the reference's
 * own test: the pair now at its place must make the same piece. The reference takes valid UTF-8 only; here a byte that
 * is no part of a character counts as a character of its own, so it becomes its <0xNN> piece. */
#include "parts.h"

#include <stdlib.h>
#include <string.h>

#define NONE UINT32_MAX

struct symbol {
	int32_t id; /* -1: merged into the one before it */
	uint32_t prev, next;
};

struct run {
	const struct fr_tokenizer *tok;
	const char *text;
	struct fr_error *err;
	int32_t *ids;
	size_t n, cap;
	char *normal; /* the stretch being worked on, normalised */
	size_t cap_normal;
	struct symbol *symbol;
	uint32_t n_symbols;
	uint64_t *heap; /* rank << 32 | place */
	size_t n_heap, cap_word;
	int whole; /* 1: the stretch begins where the text begins */
};

static int no_memory(struct run *r, size_t bytes)
{
	return fr_fail(r->err, FR_E_MEMORY, "no memory for %zu bytes to encode a text", bytes);
}

static int put_id(struct run *r, int32_t id)
{
	if (r->n == r->cap) {
		size_t cap = r->cap ? 2 * r->cap : 256;
		int32_t *ids = realloc(r->ids, cap * sizeof *ids);

		if (!ids)
			return no_memory(r, cap * sizeof *ids);
		r->ids = ids;
		r->cap = cap;
	}
	r->ids[r->n++] = id;
	return 0;
}

/* ---- heap of pairs ---- */
static void sift_down(uint64_t *heap, size_t n, size_t i)
{
	uint64_t moved = heap[i];

	for (size_t child; (child = 2 * i + 1) < n; i = child) {
		if (child + 1 < n && heap[child + 1] < heap[child])
			child++;
		if (moved <= heap[child])
			break;
		heap[i] = heap[child];
	}
	heap[i] = moved;
}

static void heap_push(struct run *r, uint64_t entry)
{
	size_t i = r->n_heap++;

	for (; i && entry < r->heap[(i - 1) / 2]; i = (i - 1) / 2)
		r->heap[i] = r->heap[(i - 1) / 2];
	r->heap[i] = entry;
}

static uint64_t heap_pop(struct run *r)
{
	uint64_t top = r->heap[0];

	r->heap[0] = r->heap[--r->n_heap];
	if (r->n_heap)
		sift_down(r->heap, r->n_heap, 0);
	return top;
}

static uint32_t rank_of(const struct run *r, uint32_t left, uint32_t right)
{
	return fr_pairs_get(&r->tok->merges,
			    (uint64_t)(uint32_t)r->symbol[left].id << 32 | (uint32_t)r->symbol[right].id);
}

static void push_pair(struct run *r, uint32_t left, uint32_t right)
{
	uint32_t rank = rank_of(r, left, right);

	if (rank != NONE)
		heap_push(r, (uint64_t)rank << 32 | left);
}

/* ---- one word ---- */
/* Room for n symbols and for every pair that can ever be in the heap: n - 1 at first, two more for each merge, of
 * which each takes one out. */
static int room_for_word(struct run *r, size_t n)
{
	if (n <= r->cap_word)
		return 0;
	free(r->symbol);
	free(r->heap);
	r->cap_word = 0;
	r->symbol = malloc(n * sizeof *r->symbol);
	r->heap = malloc(2 * n * sizeof *r->heap);
	if (!r->symbol || !r->heap)
		return no_memory(r, n * (sizeof *r->symbol + 2 * sizeof *r->heap));
	r->cap_word = n;
	return 0;
}

static void put_symbol(struct run *r, int32_t id)
{
	uint32_t i = r->n_symbols++;

	r->symbol[i] = (struct symbol){id, i - 1, i + 1};
}

/* Symbols of word [n]. unk waits for the next known character, so that a run of unknown ones can become one; bytes that
 * stand for a character do not make it come out (as the reference has it). */
static void fill_symbols(struct run *r, const char *word, size_t n)
{
	const struct fr_tokenizer *tok = r->tok;
	int waiting = 0;

	r->n_symbols = 0;
	for (size_t i = 0, length; i < n; i += length) {
		int valid = fr_utf8_length(word + i, n - i), bytes = tok->byte_fallback;
		int32_t id;

		length = valid > 0 ? (size_t)valid : 1;
		id = fr_vocab_find(&tok->vocab, word + i, length);
		if (id >= 0 && id < tok->n_model) {
			if (waiting)
				put_symbol(r, tok->unk);
			waiting = 0;
			put_symbol(r, id);
			continue;
		}
		for (size_t j = 0; bytes && j < length; j++)
			bytes = tok->byte_id[(unsigned char)word[i + j]] >= 0;
		for (size_t j = 0; bytes && j < length; j++)
			put_symbol(r, tok->byte_id[(unsigned char)word[i + j]]);
		if (bytes || tok->unk < 0)
			continue;
		if (waiting && !tok->fuse_unk)
			put_symbol(r, tok->unk);
		waiting = 1;
	}
	if (waiting)
		put_symbol(r, tok->unk);
}

/* Merges what can be merged of the symbols from .. to, which nothing can join to their neighbours. */
static void merge_symbols(struct run *r, uint32_t from, uint32_t to)
{
	r->n_heap = 0;
	for (uint32_t i = from; i + 1 < to; i++) {
		uint32_t rank = rank_of(r, i, i + 1);

		if (rank != NONE)
			r->heap[r->n_heap++] = (uint64_t)rank << 32 | i;
	}
	for (size_t i = r->n_heap / 2; i-- > 0;)
		sift_down(r->heap, r->n_heap, i);
	while (r->n_heap) {
		uint64_t top = heap_pop(r);
		uint32_t at = (uint32_t)top, next = r->symbol[at].next, rank;
		int32_t made = r->tok->merged[top >> 32];

		if (r->symbol[at].id < 0 || next >= to)
			continue;
		rank = rank_of(r, at, next);
		if (rank == NONE || r->tok->merged[rank] != made)
			continue;
		r->symbol[at].id = made;
		r->symbol[at].next = r->symbol[next].next;
		r->symbol[next].id = -1;
		next = r->symbol[at].next;
		if (next < r->n_symbols)
			r->symbol[next].prev = at;
		if (at > from)
			push_pair(r, r->symbol[at].prev, at);
		if (next < to)
			push_pair(r, at, next);
	}
}

static const char *spelling(const struct run *r, uint32_t i, size_t *length)
{
	const struct fr_vocab *v = &r->tok->vocab;
	const struct fr_piece *p = &v->piece[r->symbol[i].id];

	*length = p->length;
	return v->bytes + p->offset;
}

/* Long texts fall into short words where no piece has the two neighbours: the heap stays small, the ids are the same.
 */
static void merge_all(struct run *r)
{
	uint32_t from = 0;
	size_t left_length, right_length;

	for (uint32_t i = 1; i < r->n_symbols; i++) {
		const char *left = spelling(r, i - 1, &left_length), *right = spelling(r, i, &right_length);

		if (fr_may_join(r->tok, left[left_length - 1], right, right_length))
			continue;
		merge_symbols(r, from, i);
		from = i;
	}
	merge_symbols(r, from, r->n_symbols);
}

static int encode_word(struct run *r, const char *word, size_t n)
{
	int32_t id = r->tok->ignore_merges ? fr_vocab_find(&r->tok->vocab, word, n) : -1;

	if (id >= 0 && id < r->tok->n_model)
		return put_id(r, id);
	if (n >= NONE / 2)
		return fr_fail(r->err, FR_E_USAGE, "a text of %zu bytes is longer than a tokenizer takes", n);
	FR_TRY(room_for_word(r, n));
	fill_symbols(r, word, n);
	merge_all(r);
	for (uint32_t i = 0; i < r->n_symbols; i = r->symbol[i].next)
		FR_TRY(put_id(r, r->symbol[i].id));
	return 0;
}

/* ---- stretches between added tokens ---- */
static int starts_with_marker(const char *s, size_t n)
{
	return n >= FR_MARKER_BYTES && !memcmp(s, FR_MARKER, FR_MARKER_BYTES);
}

/* Spaces of text [n] -> markers in r->normal, after a marker in front if `marker`; returns the length, or -1. */
static int64_t normalise(struct run *r, const char *text, size_t n, int marker)
{
	size_t cap = FR_MARKER_BYTES * (n + 1);
	char *out;

	if (cap > r->cap_normal) {
		free(r->normal);
		r->normal = malloc(cap);
		r->cap_normal = r->normal ? cap : 0;
		if (!r->normal)
			return no_memory(r, cap);
	}
	out = r->normal;
	if (marker)
		out = mempcpy(out, FR_MARKER, FR_MARKER_BYTES);
	for (size_t i = 0; i < n; i++) {
		if (text[i] == ' ')
			out = mempcpy(out, FR_MARKER, FR_MARKER_BYTES);
		else
			*out++ = text[i];
	}
	return out - r->normal;
}

/* Metaspace with split: a word ends before each marker. */
static int encode_split(struct run *r, const char *s, size_t n)
{
	size_t from = 0;

	if (!r->tok->split)
		return encode_word(r, s, n);
	for (size_t i = 1; i < n; i++) {
		if (!starts_with_marker(s + i, n - i))
			continue;
		FR_TRY(encode_word(r, s + from, i - from));
		from = i;
	}
	return encode_word(r, s + from, n - from);
}

/* A stretch of the normalised text in which normalised tokens have been found. */
static int on_normal(void *user, size_t from, size_t to, int32_t id)
{
	struct run *r = user;

	return id >= 0 ? put_id(r, id) : encode_split(r, r->normal + from, to - from);
}

/* The same with Metaspace, where the text has not been changed up to here: `from` counts in the stretch at r->text. */
static int on_metaspace(void *user, size_t from, size_t to, int32_t id)
{
	struct run *r = user;
	enum fr_prefix prefix = r->tok->prefix;
	const char *s = r->text + from;
	int64_t n;
	int marker;

	if (id >= 0)
		return put_id(r, id);
	marker = prefix == FR_PREFIX_EACH || (prefix == FR_PREFIX_FIRST && r->whole && from == 0);
	n = normalise(r, s, to - from, marker && s[0] != ' ' && !starts_with_marker(s, to - from));
	return n < 0 ? -1 : encode_split(r, r->normal, (size_t)n);
}

/* A stretch of the text as given, between tokens that are searched for there. */
static int on_raw(void *user, size_t from, size_t to, int32_t id)
{
	struct run *r = user;
	const char *text = r->text;
	int64_t n;
	int rc;

	if (id >= 0)
		return put_id(r, id);
	if (!r->tok->metaspace) {
		n = normalise(r, text + from, to - from, r->tok->prefix == FR_PREFIX_EACH);
		return n < 0 ? -1 : fr_added_split(r->tok, &r->tok->normal, r->normal, (size_t)n, on_normal, r);
	}
	r->text = text + from;
	r->whole = from == 0;
	rc = fr_added_split(r->tok, &r->tok->normal, r->text, to - from, on_metaspace, r);
	r->text = text;
	return rc;
}

static int encode(struct run *r, size_t len, int around)
{
	const struct fr_tokenizer *tok = r->tok;

	for (int i = 0; around && i < tok->n_before; i++)
		FR_TRY(put_id(r, tok->before[i]));
	FR_TRY(fr_added_split(tok, &tok->raw, r->text, len, on_raw, r));
	for (int i = 0; around && i < tok->n_after; i++)
		FR_TRY(put_id(r, tok->after[i]));
	return 0;
}

int fr_tokenizer_encode(const struct fr_tokenizer *tok, const char *text, size_t len, int bos, int32_t **ids, size_t *n,
			struct fr_error *err)
{
	struct run r = {.tok = tok, .text = text, .err = err};
	int rc = encode(&r, len, bos);

	if (rc == 0 && !r.ids && !(r.ids = malloc(sizeof *r.ids)))
		rc = no_memory(&r, sizeof *r.ids);
	free(r.normal);
	free(r.symbol);
	free(r.heap);
	if (rc) {
		free(r.ids);
		return -1;
	}
	*ids = r.ids;
	*n = r.n;
	return 0;
}
