/* The pieces that the verdict needs: the words "real" and "fake", each one piece after a blank, and the opening that is
 * forced in front of them, as the tokenizer spells it after a blank.
 *
 * The first piece of an opening depends on what stands before it ("<" after a newline is another one than after a
 * blank), the others do not: a model that reasons reaches the opening in its own text by those others. */
#include "model.h"

#include <stdlib.h>

static int check_id(const struct fr_model *m, const char *what, int32_t id, struct fr_error *err)
{
	if (id < m->desc.text.vocab)
		return 0;
	return fr_fail(err, FR_E_MODEL, "piece '%s' has id %d, but the model has %d vocabulary rows", what, id,
		       m->desc.text.vocab);
}

static int find_label(const struct fr_model *m, const char *word, int32_t *id, struct fr_error *err)
{
	char piece[64];

	snprintf(piece, sizeof piece, "\xe2\x96\x81%s", word);
	*id = fr_tokenizer_find(m->tok, piece);
	if (*id < 0)
		return fr_fail(err, FR_E_MODEL,
			       "the tokenizer has no single piece for the word '%s' (looked for '%s'), which the "
			       "verdict needs",
			       word, piece);
	return check_id(m, piece, *id, err);
}

/* Does the first piece begin with the marker of a blank? */
static int after_blank(const struct fr_tokenizer *tok, const int32_t *ids, size_t n)
{
	const char *piece;
	size_t len;

	return n && fr_tokenizer_piece(tok, ids[0], &piece, &len) == 0 && len >= 3 &&
	       memcmp(piece, "\xe2\x96\x81", 3) == 0;
}

/* Do the ids spell the text, nothing lost in an unknown piece? */
static int spells(const struct fr_tokenizer *tok, const int32_t *ids, size_t n, const char *text)
{
	struct fr_error ignored;
	char *got;
	size_t len;
	int same;

	if (fr_tokenizer_decode(tok, ids, n, &got, &len, &ignored))
		return 0;
	same = len == strlen(text) && memcmp(got, text, len) == 0;
	free(got);
	return same;
}

static int take_opening(struct fr_model *m, const int32_t *ids, size_t n, struct fr_error *err)
{
	const struct fr_prompt_desc *p = &m->desc.prompt;

	if (n > FR_MAX_OPENING)
		return fr_fail(err, FR_E_MODEL, "the opening '%s' takes %zu pieces of this tokenizer, at most %d fit",
			       p->opening, n, FR_MAX_OPENING);
	if (n < 1 + (size_t)p->reasoned || !spells(m->tok, ids, n, p->opening))
		return fr_fail(err, FR_E_MODEL,
			       "the tokenizer cannot spell '%s', after which the verdict is read: is it this model's?",
			       p->opening);
	for (size_t i = 0; i < n; i++)
		FR_TRY(check_id(m, p->opening, m->opening[i] = ids[i], err));
	m->n_opening = (int)n;
	return 0;
}

static int find_opening(struct fr_model *m, struct fr_error *err)
{
	const char *text = m->desc.prompt.opening;
	char blank[128];
	int32_t *ids;
	size_t n;
	int rc;

	FR_TRY(fr_tokenizer_encode(m->tok, text, strlen(text), 0, &ids, &n, err));
	if (!after_blank(m->tok, ids, n)) { /* a tokenizer that puts none in front */
		free(ids);
		n = (size_t)snprintf(blank, sizeof blank, " %s", text);
		FR_TRY(fr_tokenizer_encode(m->tok, blank, n, 0, &ids, &n, err));
	}
	rc = take_opening(m, ids, n, err);
	free(ids);
	return rc;
}

int fr_model_find_pieces(struct fr_model *m, struct fr_error *err)
{
	FR_TRY(find_label(m, m->desc.prompt.real, &m->real_id, err));
	FR_TRY(find_label(m, m->desc.prompt.fake, &m->fake_id, err));
	return find_opening(m, err);
}
