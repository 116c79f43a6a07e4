/* The sequences whose text is being written: all running ones are stepped together, and each ends by itself. */
#include "judge.h"
#include "numbers.h"

static void finish(struct fr_run *run, struct fr_lane *l, const char *stop)
{
	struct fr_record *rec = l->rec;

	rec->r.text_len += fr_detok_end(&l->detok, rec->text + rec->r.text_len);
	rec->text[rec->r.text_len] = 0;
	rec->r.stop = stop;
	rec->r.text_verdict = fr_text_verdict(rec->text, rec->r.text_len);
	if (run->s->o.authors_rule)
		rec->r.verdict = rec->r.text_verdict == FR_UNPARSED ? FR_NONE : rec->r.text_verdict;
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
	r->text_len += fr_detok_push(&l->detok, id, l->rec->text + r->text_len);
	l->rec->text[r->text_len] = 0;
	l->next = id;
	if (r->generated_tokens == s->o.max_tokens || l->pos == s->kv.max_pos)
		finish(run, l, "length");
}

void fr_lane_begin(struct fr_run *run, int i)
{
	struct fr_session *s = run->s;
	const struct fr_model *m = s->model;
	const int32_t *picked = s->picked + (size_t)i * (size_t)(1 + m->n_opening);
	const int sampling = s->o.sampler.temperature > 0;
	struct fr_start *start = &run->start[i];
	struct fr_lane *l = &run->lane[start->seq];
	int row = 0;

	*l = (struct fr_lane){.rec = start->rec, .rng = start->rng, .pos = s->n_prompt};
	run->active++;
	fr_detok_init(&l->detok, m->tok, 0);
	for (; !sampling && strcmp(l->rec->r.opening, "own") == 0 && row < m->n_opening; row++) {
		accept(run, l, m->opening[row]);
		if (!l->rec)
			return;
		l->pos++;
	}
	accept(run, l, sampling ? s->sampled[i] : picked[row]);
}

int fr_lanes_step(struct fr_run *run, struct fr_error *err)
{
	struct fr_session *s = run->s;
	struct fr_lane *of_row[256];
	int n = 0;

	for (int i = 0; i < s->o.batch; i++) {
		struct fr_lane *l = &run->lane[i];
		if (!l->rec)
			continue;
		s->ids[n] = l->next;
		s->row[n] = (struct fr_row){.seq = i, .pos = l->pos++};
		s->draw[n] = s->o.sampler.temperature > 0 ? fr_rng_draw(&l->rng) : 0;
		of_row[n++] = l;
	}
	FR_TRY(fr_session_step(s, n, err));
	for (int i = 0; i < n; i++) {
		const struct fr_result *r = &of_row[i]->rec->r;
		char where[64];
		of_row[i]->rec->r.ms_decode += s->ms_text;
		snprintf(where, sizeof where, "image %zu, token %d", r->index + 1, r->generated_tokens + 1);
		if (s->picked[i] < 0)
			return fr_explain_numbers(s, NULL, where, err);
	}
	for (int i = 0; i < n; i++)
		accept(run, of_row[i], s->picked[i]);
	return 0;
}
