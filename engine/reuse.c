/* Rows of a prompt that need not be computed again, because keys and values of the same rows are there.
 *
 * Rows are the same when all ids before them are and, where image rows are among these, they are those of the same
 * picture. A row's keys and values then have the same bits whatever was computed beside them, and nothing that follows
 * is written over them: a text begins behind its prompt. So they are read where they lie, or copied from another
 * sequence, which may be at work. */
#include "session.h"

#define WORTH                                                                                                          \
	32 /* rows that a copy has to save: it is a call for each layer and head, and a prefill reads all weights */

/* The first rows that two questions have in common; same_image: that of both is one. */
static int common(const struct fr_session *s, int a, int b, int same_image)
{
	const struct fr_question *x = &s->question[a], *y = &s->question[b];
	int n = 0;

	while (n < x->n && n < y->n && x->ids[n] == y->ids[n] &&
	       (same_image || x->ids[n] != s->model->desc.prompt.image_id))
		n++;
	return n;
}

static int min(int a, int b)
{
	return a < b ? a : b;
}

int fr_held_common(const struct fr_session *s, const struct fr_held *held, int question, uint64_t image)
{
	return min(min(common(s, held->question, question, held->image == image), held->n),
		   s->question[question].n - 1);
}

/* Of n sequences, or with seq NULL of the first n, the one that holds most. */
static int best_of(const struct fr_session *s, const int *seq, int n, int question, uint64_t image, int *rows)
{
	int best = -1;

	for (int i = 0; i < n; i++) {
		const int one = seq ? seq[i] : i, has = fr_held_common(s, &s->held[one], question, image);
		if (best >= 0 && has <= *rows)
			continue;
		best = one;
		*rows = has;
	}
	return best;
}

void fr_reuse(struct fr_session *s, const int *free, int n, struct fr_part *part)
{
	const uint64_t image = s->seen[part->image];
	int most, source = best_of(s, NULL, s->o.batch, part->question, image, &most);

	part->seq = best_of(s, free, n, part->question, image, &part->from);
	part->source = part->seq;
	if (most - part->from >= WORTH) {
		part->source = source;
		part->from = most;
	}
	s->held[part->seq] = (struct fr_held){.image = image, .question = part->question, .n = part->from};
}

int fr_reuse_waits(const struct fr_session *s, const struct fr_part *part, int n, int question, int image)
{
	const int all = s->question[question].n;
	int rows, would = 0;

	best_of(s, NULL, s->o.batch, question, s->seen[image], &rows);
	for (int i = 0; i < n; i++) {
		const int has = common(s, part[i].question, question, part[i].image == image);
		would = has > would ? has : would;
	}
	return min(would, all - 1) - rows > (all - rows) / 2;
}

void fr_reuse_copy(struct fr_session *s, const struct fr_part *part)
{
	const struct fr_kv *kv = &s->kv;
	const size_t row = (size_t)kv->head_dim * (size_t)fr_dtypes[kv->dtype].bytes, head = (size_t)kv->max_pos * row;
	const size_t seq = (size_t)kv->kv_heads * head, rows = (size_t)part->from * row;

	if (part->source == part->seq)
		return;
	for (size_t layer = 0; layer < (size_t)kv->layers; layer++)
		for (size_t h = 0; h < (size_t)kv->kv_heads; h++) {
			const size_t at = layer * (size_t)kv->seqs * seq + h * head;
			const size_t from = at + (size_t)part->source * seq, to = at + (size_t)part->seq * seq;
			s->dev->ops->copy(s->dev, (char *)kv->k + to, (char *)kv->k + from, rows);
			s->dev->ops->copy(s->dev, (char *)kv->v + to, (char *)kv->v + from, rows);
		}
}
