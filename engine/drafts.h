/* Speculative decoding: tokens are proposed (ngram.h), and a decode step takes a lane's next token and the proposed
 * ones behind it as rows of their own. A proposed token counts only where it is what the row before it chose, so the
 * text is the one that single steps would have written, and what is gained is that weights are read once for several
 * tokens. */
#ifndef FR_ENGINE_DRAFTS_H
#define FR_ENGINE_DRAFTS_H

#include "ngram.h"

#include "fr.h"

#define FR_MAX_STEP_ROWS (1 + FR_MAX_SPECULATE) /* of a step with proposed tokens, unless the batch alone is more */
#define FR_MAX_DRAFT_FILE ((size_t)256 << 20)
#define FR_MAX_DRAFT_LINE ((size_t)1 << 20)

struct fr_session;

/* Rows that a step of the session may have: its batch, and more with proposed tokens. s->o and s->dev are
 * there. */
int fr_drafts_rows(const struct fr_session *s);
/* What o.draft_from holds, learned: s->drafts, NULL where nothing is to be proposed. */
int fr_drafts_open(struct fr_session *s, struct fr_error *err);
/* The tokens proposed after ids [n] of a text, for one of `lanes` sequences that share a step, at most `most`:
 * into out, returns how many. */
int fr_drafts_propose(struct fr_session *s, const int32_t *ids, size_t n, int lanes, int most, int32_t *out);

#endif
