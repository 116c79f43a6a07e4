/* The sequences whose text is being written: all running ones are stepped together, and each ends by itself.
 *
 * A lane's rows in a step are its next token and, behind it, tokens that were proposed (drafts.h). Each row sees the
 * keys of those before it, because a step stores all of them before it attends, and decode products give a row the same
 * bits whatever stands beside it. So as long as each proposed token is the one chosen at the row before, its row is
 * what a step of its own would have been, and is taken just as that; at the first that is not, the rest is left. What
 * the rows left have stored lies at positions that come again: a row reads positions up to its own, and each of those
 * was stored anew, in this step or an earlier one, when its token was known.
 *
 * A model that reasons is scored where its text reaches the conclusion: when the last tokens are those of the opening,
 * its first piece left out, the label logits of the next row are the reasoned score, the first time only. A text that
 * has no token left there goes one step further for the score alone; without that step the limit would cost the
 * verdict. */
#include "answer.h"
#include "judge.h"
#include "numbers.h"

#define NO_SCORE ", so there is no P(fake); the score before any reasoning (p_fake_direct) does not take its place"

/* What is read off a text that has ended. due: it reached its conclusion, but could not be fed to its last token. */
static void conclude(const struct fr_session *s, struct fr_result *r, int due)
{
	const struct fr_prompt_desc *p = &s->model->desc.prompt;

	r->text_verdict = fr_text_verdict(p->rule, r->text, r->text_len);
	if (s->o.authors_rule)
		r->verdict = r->text_verdict == FR_UNPARSED ? FR_NONE : r->text_verdict;
	if (p->rule == FR_RULE_CONCLUSION) {
		fr_answer_attributes(r->text, r->text_len, r->attributes);
		r->n_attributes = FR_ATTRIBUTES;
	}
	if (!r->has_score && r->n_warnings < FR_MAX_WARNINGS)
		r->warnings[r->n_warnings++] =
			due ? "the text reached its conclusion at the model's last position" NO_SCORE
			    : "the text did not reach its conclusion" NO_SCORE;
}

static void finish(struct fr_run *run, struct fr_lane *l, const char *stop)
{
	struct fr_record *rec = l->rec;

	rec->r.text_len += fr_detok_end(&l->detok, rec->text + rec->r.text_len);
	rec->text[rec->r.text_len] = 0;
	rec->r.stop = stop;
	conclude(run->s, &rec->r, l->due);
	rec->done = 1;
	l->rec = NULL;
	run->active--;
}

static int is_eos(const struct fr_prompt_desc *p, int32_t id)
{
	for (int i = 0; i < p->n_eos; i++)
		if (p->eos[i] == id)
			return 1;
	return 0;
}

/* Takes a token into the tail: is what the text ends with now the opening without its first piece? */
static int reaches_trigger(const struct fr_model *m, struct fr_lane *l, int32_t id)
{
	const int n = m->n_opening - 1;

	memmove(l->tail, l->tail + 1, sizeof l->tail - sizeof *l->tail);
	l->tail[FR_MAX_OPENING - 1] = id;
	return memcmp(l->tail + FR_MAX_OPENING - n, m->opening + 1, (size_t)n * sizeof id) == 0;
}

/* Takes a token into the lane's text; the lane is free afterwards when the text ends with it. */
static void accept(struct fr_run *run, struct fr_lane *l, int32_t id)
{
	struct fr_session *s = run->s;
	struct fr_result *r = &l->rec->r;

	r->generated_tokens++;
	if (is_eos(&s->model->desc.prompt, id)) {
		finish(run, l, "eos");
		return;
	}
	if (l->rec->ids)
		l->rec->ids[l->rec->n_ids++] = id;
	r->text_len += fr_detok_push(&l->detok, id, l->rec->text + r->text_len);
	l->rec->text[r->text_len] = 0;
	l->next = id;
	l->due = s->model->desc.prompt.reasoned && reaches_trigger(s->model, l, id) && !r->has_reasoned;
	l->full = r->generated_tokens == s->o.max_tokens;
	if (l->pos == s->kv.max_pos || (l->full && !l->due))
		finish(run, l, "length");
}

/* The logits of the row that came after the trigger. */
static int take_reasoned(struct fr_session *s, struct fr_lane *l, int row, struct fr_error *err)
{
	float labels[2];

	FR_TRY(fr_session_labels(s, row, labels, err));
	fr_record_score(s, l->rec, labels);
	l->rec->r.has_reasoned = 1;
	l->rec->r.p_fake_reasoned = l->rec->r.p_fake;
	return 0;
}

void fr_lane_begin(struct fr_run *run, int i)
{
	struct fr_session *s = run->s;
	const struct fr_model *m = s->model;
	const int32_t *picked = s->picked + (size_t)i * (size_t)(1 + m->n_opening);
	const int sampling = s->o.sampler.temperature > 0;
	const char *opening = run->start[i].rec->r.opening;
	struct fr_start *start = &run->start[i];
	struct fr_lane *l = &run->lane[run->part[i].seq];
	int row = 0;

	*l = (struct fr_lane){.rec = start->rec, .rng = start->rng, .pos = s->question[run->part[i].question].n};
	memset(l->tail, 0xff, sizeof l->tail); /* no token is -1 */
	run->active++;
	fr_detok_init(&l->detok, m->tok, 0);
	for (; !sampling && opening && strcmp(opening, "own") == 0 && row < m->n_opening; row++) {
		accept(run, l, m->opening[row]);
		if (!l->rec)
			return;
		l->pos++;
	}
	accept(run, l, sampling ? s->sampled[i] : picked[row]);
}

/* A lane's rows in a step. */
struct turn {
	struct fr_lane *l;
	int row, rows;
};

static int min(int a, int b)
{
	return a < b ? a : b;
}

/* Rows from t->row on, `room` of them at most: the lane's token, and what is proposed after it as far as the text may
 * still go. */
static void fill_rows(struct fr_run *run, int seq, int room, struct turn *t)
{
	struct fr_session *s = run->s;
	const struct fr_record *rec = t->l->rec;
	const int positions = s->kv.max_pos - t->l->pos, tokens = s->o.max_tokens - rec->r.generated_tokens;

	s->ids[t->row] = t->l->next;
	s->draw[t->row] = s->o.sampler.temperature > 0 ? fr_rng_draw(&t->l->rng) : 0;
	t->rows = 1 + fr_drafts_propose(s, rec->ids, rec->n_ids, run->active,
					min(min(room, FR_MAX_STEP_ROWS), min(positions, tokens)) - 1,
					s->ids + t->row + 1);
	for (int i = 0; i < t->rows; i++)
		s->row[t->row + i] = (struct fr_row){.seq = seq, .pos = t->l->pos + i};
	s->spec.steps++;
	s->spec.proposed += (uint64_t)t->rows - 1;
}

/* What the rows chose, as long as each was fed what the one before it chose. */
static int take_rows(struct fr_run *run, const struct turn *t, struct fr_error *err)
{
	struct fr_session *s = run->s;
	struct fr_lane *l = t->l;

	for (int row = t->row; l->rec; row++) {
		const struct fr_result *r = &l->rec->r;
		char where[64];
		snprintf(where, sizeof where, "image %zu, token %d", r->index + 1, r->generated_tokens + 1);
		if (s->picked[row] < 0)
			return fr_explain_numbers(s, NULL, 0, where, err);
		l->pos++;
		if (l->due)
			FR_TRY(take_reasoned(s, l, row, err));
		if (l->full)
			finish(run, l, "length");
		else
			accept(run, l, s->picked[row]);
		if (row + 1 == t->row + t->rows || s->ids[row + 1] != s->picked[row])
			break;
		s->spec.taken += l->rec != NULL;
	}
	return 0;
}

int fr_lanes_step(struct fr_run *run, struct fr_error *err)
{
	struct fr_session *s = run->s;
	struct turn turn[256];
	int n = 0, rows = 0;

	for (int i = 0; i < s->o.batch; i++) {
		if (!run->lane[i].rec)
			continue;
		turn[n] = (struct turn){.l = &run->lane[i], .row = rows};
		fill_rows(run, i, (s->step_rows - rows) / (run->active - n), &turn[n]);
		rows += turn[n++].rows;
	}
	FR_TRY(fr_session_step(s, rows, err));
	for (int i = 0; i < n; i++)
		turn[i].l->rec->r.ms_decode += s->ms_text;
	for (int i = 0; i < n; i++)
		FR_TRY(take_rows(run, &turn[i], err));
	return 0;
}
