/* Images in: taken (next() gave it, intake.h decodes it), then started: seen and prefilled, as many at a time as the
 * device serves best, into free sequences. */
#include "judge.h"
#include "numbers.h"

int fr_run_stopped(const struct fr_run *run)
{
	return run->io->stopped && run->io->stopped(run->io->user);
}

/* Takes the next image unless the ring or the intake is full: 1 taken, 0 not. With patient = 0 nothing is taken that
 * has to be waited for. */
static int take(struct fr_run *run, int patient)
{
	const struct fr_session *s = run->s;
	struct fr_job job = {0};
	struct fr_record *rec;
	char *text;
	int32_t *ids;
	float *heat;

	if (run->ended || run->tail - run->head == run->ring_n ||
	    run->tail - run->next == (size_t)(s->together + s->ahead) || fr_run_stopped(run))
		return 0;
	if (!patient && run->io->ready && !run->io->ready(run->io->user))
		return 0;
	if (run->io->next(run->io->user, &job) == 0) {
		run->ended = 1;
		return 0;
	}
	rec = fr_record_of(run, run->tail);
	text = rec->text;
	ids = rec->ids;
	heat = rec->heat;
	*rec = (struct fr_record){.text = text, .ids = ids, .heat = heat, .r.index = run->tail};
	fr_intake_give(s->intake, run->tail++, &job);
	return 1;
}

void fr_starts_take_ahead(void *user)
{
	struct fr_run *run = user;

	for (int i = 0; i < run->s->ahead && take(run, 0); i++)
		continue;
}

/* What the picture says goes into its record; one that cannot be judged is done. 0 or -1. */
static int collect(struct fr_record *rec, const struct fr_picture *pic)
{
	struct fr_result *r = &rec->r;

	memcpy(rec->sha256, pic->sha256, sizeof rec->sha256);
	r->sha256 = rec->sha256[0] ? rec->sha256 : NULL;
	r->ms_image = pic->ms;
	r->n_warnings = pic->n_warnings;
	memcpy(r->warnings, pic->warnings, sizeof r->warnings);
	if (pic->error.code == FR_OK)
		return 0;
	r->error = pic->error;
	rec->done = 1;
	return -1;
}

/* ---- prefill ---- */

/* The label logits of the i-th sequence prefilled to the score: of a model that reasons the direct one, which is all
 * there is without a text. */
static void score(struct fr_session *s, int i, struct fr_record *rec)
{
	struct fr_result *r = &rec->r;

	if (s->model->desc.prompt.reasoned) {
		r->has_direct = 1;
		r->p_fake_direct = fr_p_fake(&s->o.calibration, s->labels[i][0], s->labels[i][1]);
	}
	if (!r->has_direct || s->o.verdict_only)
		fr_record_score(s, rec, s->labels[i]);
}

/* Would greedy have written the opening itself? From the tokens picked at the rows of the i-th sequence prefilled: last
 * of the prompt, then each of the opening. A model that reasons is not expected to. */
static const char *whose_opening(const struct fr_session *s, int i)
{
	const struct fr_model *m = s->model;
	const int32_t *picked = s->picked + (size_t)i * (size_t)(1 + m->n_opening);

	if (m->desc.prompt.reasoned)
		return NULL;
	for (int row = 0; row < m->n_opening; row++)
		if (picked[row] != m->opening[row])
			return "forced";
	return "own";
}

/* Where the encoder looked in the i-th picture seen, kept until the result leaves. */
static void keep_heat(const struct fr_session *s, int i, struct fr_record *rec)
{
	const struct fr_model_desc *d = &s->model->desc;
	const size_t n = (size_t)d->n_image;

	if (!rec->heat)
		return;
	memcpy(rec->heat, s->heat + (size_t)i * n, n * sizeof *rec->heat);
	rec->r.heat = rec->heat;
	rec->r.heat_side = d->vit[d->look].image / d->vit[d->look].patch;
}

static int all_picked(const int32_t *ids, int n)
{
	for (int i = 0; i < n; i++)
		if (ids[i] < 0)
			return 0;
	return 1;
}

/* Sees and prefills the n images of run->start. */
static int start(struct fr_run *run, int n, struct fr_error *err)
{
	struct fr_session *s = run->s;
	const int rows = 1 + s->model->n_opening, text = !s->o.verdict_only;
	const struct fr_picture *pics[256];
	double draw[256];
	int seq[256];
	struct fr_prefill p = {.seq = seq, .n = n, .to = s->n_prompt + s->model->n_opening, .n_logits = rows};

	for (int i = 0; i < n; i++) {
		struct fr_start *one = &run->start[i];
		pics[i] = one->pic;
		seq[i] = one->seq;
		fr_rng_init(&one->rng, s->o.sampler.seed, one->rec->sha256);
		if (text && s->o.sampler.temperature > 0) {
			draw[i] = fr_rng_draw(&one->rng);
			p.draw = draw;
		}
	}
	p.from = fr_session_from(s, seq, n);
	FR_TRY(fr_session_see(s, pics, n, err));
	FR_TRY(fr_session_prefill(s, &p, err));
	for (int i = 0; i < n; i++) {
		struct fr_record *rec = run->start[i].rec;
		char where[48];
		snprintf(where, sizeof where, "image %zu", rec->r.index + 1);
		if (!all_picked(s->picked + (size_t)i * (size_t)rows, rows) || (p.draw && s->sampled[i] < 0))
			return fr_explain_numbers(s, pics[i], where, err);
	}
	for (int i = 0; i < n; i++) {
		struct fr_record *rec = run->start[i].rec;
		rec->r.ms_vision = s->ms_vision;
		rec->r.ms_prefill = s->ms_text;
		rec->r.prompt_tokens = s->n_prompt;
		rec->r.opening = whose_opening(s, i);
		score(s, i, rec);
		keep_heat(s, i, rec);
		if (text) {
			rec->r.text = rec->text;
			fr_lane_begin(run, i);
		} else {
			rec->r.stop = "verdict";
			rec->done = 1;
		}
	}
	return 0;
}

/* The sequences that are free, at most `together`, into run->start: how many. */
static int find_free(struct fr_run *run)
{
	const struct fr_session *s = run->s;
	int n = 0;

	for (int i = 0; i < s->o.batch && n < s->together; i++)
		if (!run->lane[i].rec)
			run->start[n++].seq = i;
	return n;
}

int fr_starts_fill(struct fr_run *run, struct fr_error *err)
{
	struct fr_session *s = run->s;
	const int room = find_free(run), idle = !run->active;
	size_t end = run->next;
	int n = 0;

	while (run->tail - run->next < (size_t)room && take(run, idle && run->tail == run->next))
		continue;
	for (; end < run->tail && n < room && fr_intake_ready(s->intake, end, idle); end++) {
		run->start[n].rec = fr_record_of(run, end);
		run->start[n].pic = fr_intake_at(s->intake, end);
		n += collect(run->start[n].rec, run->start[n].pic) == 0;
	}
	if (end == run->next)
		return 0;
	if (n)
		FR_TRY(start(run, n, err));
	run->next = end;
	fr_records_emit(run);
	return 1;
}
