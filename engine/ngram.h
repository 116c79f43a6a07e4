/* What usually follows what: a small model of token sequences, learned from texts, that proposes how a text goes on. It
 * is a guess and nothing more: who uses it checks each token.
 *
 * The table has a fixed size and forgets: of two contexts that want one place, the one seen more often stays. The same
 * texts learned in the same order give the same proposals. */
#ifndef FR_ENGINE_NGRAM_H
#define FR_ENGINE_NGRAM_H

#include <stddef.h>
#include <stdint.h>

#define FR_NGRAM_BYTES ((size_t)3 << 20) /* of the table, at most */

struct fr_ngram;
/* NULL: no memory. */
struct fr_ngram *fr_ngram_new(void);
void fr_ngram_free(struct fr_ngram *g);
/* Learns a whole text [n], every id >= 0. ended: its end token came next (which is none of the ids); else it was cut.
 */
void fr_ngram_learn(struct fr_ngram *g, const int32_t *ids, size_t n, int ended);
/* How a text that begins with ids [n] goes on: at most `most` tokens into out, as long as all of them together are
 * right with an estimated probability of at least `floor`, and none where the text is thought to end. Returns how many.
 */
int fr_ngram_propose(const struct fr_ngram *g, const int32_t *ids, size_t n, int most, double floor, int32_t *out);

#endif
