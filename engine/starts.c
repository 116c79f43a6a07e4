/* Images in: taken (next() gave it, intake.h decodes it), then seen, as many at a time as the device serves best, and
 * all their questions asked: each is a result, started by prefilling its prompt into a free sequence. Only when the
 * last question of a group of images has started are the next ones seen, over the rows of these. */
#include "judge.h"
#include "numbers.h"

int fr_run_stopped(const struct fr_run *run)
{
	return run->io->stopped && run->io->stopped(run->io->user);
}

/* Takes the next image unless the intake is full: 1 taken, 0 not. With patient = 0 nothing is taken that has to be
 * waited for. */
static int take(struct fr_run *run, int patient)
{
	const struct fr_session *s = run->s;
	struct fr_job job = {0};

	if (run->ended || run->tail - run->group == (size_t)(s->together + s->ahead) || fr_run_stopped(run))
		return 0;
	if (!patient && run->io->ready && !run->io->ready(run->io->user))
		return 0;
	if (run->io->next(run->io->user, &job) == 0) {
		run->ended = 1;
		return 0;
	}
	fr_intake_give(s->intake, run->tail++, &job);
	return 1;
}

void fr_starts_take_ahead(void *user)
{
	struct fr_run *run = user;

	for (int i = 0; i < run->s->ahead && take(run, 0); i++)
		continue;
}

/* The pictures that are next, as many as `room` results need: taken, decoded and seen. Those at hand, or with idle = 1
 * at least one; 0 or -1. */
static int see_group(struct fr_run *run, int room, int idle, struct fr_error *err)
{
	struct fr_session *s = run->s;
	const size_t most = (size_t)((room + s->n_questions - 1) / s->n_questions);
	const struct fr_picture *pics[256];
	size_t end = run->group;
	int n = 0;

	while (run->tail - run->group < most && take(run, idle && run->tail == run->group))
		continue;
	for (; end < run->tail && n < (int)most && fr_intake_ready(s->intake, end, idle); end++) {
		struct fr_asked *a = &run->asked[end - run->group];
		*a = (struct fr_asked){.pic = fr_intake_at(s->intake, end), .image = -1};
		if (a->pic->error.code != FR_OK)
			continue;
		pics[n] = a->pic;
		a->image = n++;
	}
	run->group_end = end;
	if (n)
		FR_TRY(fr_session_see(s, pics, n, err));
	for (size_t i = 0; i < end - run->group; i++)
		run->asked[i].ms_vision = run->asked[i].image >= 0 ? s->ms_vision : 0;
	return 0;
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

/* Prefills the n results of run->start. */
static int start(struct fr_run *run, int n, struct fr_error *err)
{
	struct fr_session *s = run->s;
	const int rows = 1 + s->model->n_opening, text = !s->o.verdict_only;
	double draw[256];
	struct fr_prefill p = {.part = run->part, .n = n, .n_logits = rows};

	for (int i = 0; i < n; i++) {
		struct fr_start *one = &run->start[i];
		fr_rng_init(&one->rng, s->o.sampler.seed, one->rec->sha256);
		if (text && s->o.sampler.temperature > 0) {
			draw[i] = fr_rng_draw(&one->rng);
			p.draw = draw;
		}
	}
	FR_TRY(fr_session_prefill(s, &p, err));
	for (int i = 0; i < n; i++) {
		char where[48];
		snprintf(where, sizeof where, "image %zu", run->start[i].rec->r.index + 1);
		if (!all_picked(s->picked + (size_t)i * (size_t)rows, rows) || (p.draw && s->sampled[i] < 0))
			return fr_explain_numbers(s, run->start[i].pic, run->part[i].question, where, err);
	}
	for (int i = 0; i < n; i++) {
		struct fr_record *rec = run->start[i].rec;
		rec->r.ms_prefill = s->ms_text;
		rec->r.prompt_tokens = s->question[run->part[i].question].n;
		rec->r.opening = whose_opening(s, i);
		score(s, i, rec);
		keep_heat(s, run->part[i].image, rec);
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

/* The record of the next result, with what its picture says. What the picture took is told once. */
static struct fr_record *claim(struct fr_run *run, struct fr_asked *a)
{
	struct fr_record *rec = fr_record_of(run, run->next);
	const size_t questions = (size_t)run->s->n_questions;
	struct fr_result *r = &rec->r;

	*rec = (struct fr_record){.text = rec->text, .ids = rec->ids, .heat = rec->heat};
	r->index = run->next / questions;
	r->prompt = (int)(run->next % questions);
	memcpy(rec->sha256, a->pic->sha256, sizeof rec->sha256);
	r->sha256 = rec->sha256[0] ? rec->sha256 : NULL;
	r->n_warnings = a->pic->n_warnings;
	memcpy(r->warnings, a->pic->warnings, sizeof r->warnings);
	r->error = a->pic->error;
	r->ms_image = r->prompt ? 0 : a->pic->ms;
	r->ms_vision = r->prompt ? 0 : a->ms_vision;
	rec->done = a->image < 0;
	run->next++;
	return rec;
}

/* The sequences that are free into seq: how many. */
static int find_free(const struct fr_run *run, int seq[256])
{
	int n = 0;

	for (int i = 0; i < run->s->o.batch; i++)
		if (!run->lane[i].rec)
			seq[n++] = i;
	return n;
}

/* The group's next results into run->start, one for each of n free sequences at most; one that the others would save
 * most of its work stays for the next prefill. How many. */
static int gather(struct fr_run *run, int *seq, int n)
{
	struct fr_session *s = run->s;
	const size_t questions = (size_t)s->n_questions;
	int k = 0;

	while (k < s->together && n > 0 && run->next < run->group_end * questions &&
	       run->next - run->head < run->ring_n) {
		struct fr_asked *a = &run->asked[run->next / questions - run->group];
		struct fr_part *part = &run->part[k];
		const int question = (int)(run->next % questions);

		if (a->image >= 0 && fr_reuse_waits(s, run->part, k, question, a->image))
			break;
		run->start[k] = (struct fr_start){.rec = claim(run, a), .pic = a->pic};
		if (a->image < 0)
			continue;
		*part = (struct fr_part){
			.question = question, .image = a->image, .to = s->question[question].n + s->model->n_opening};
		fr_reuse(s, seq, n, part);
		for (int i = 0; i < n; i++)
			if (seq[i] == part->seq)
				seq[i--] = seq[--n];
		k++;
	}
	return k;
}

int fr_starts_fill(struct fr_run *run, struct fr_error *err)
{
	const struct fr_session *s = run->s;
	const size_t questions = (size_t)s->n_questions, before = run->next;
	int seq[256], free = find_free(run, seq), n;

	if (!free)
		return 0;
	if (run->group == run->group_end)
		FR_TRY(see_group(run, free < s->together ? free : s->together, !run->active, err));
	n = gather(run, seq, free);
	if (n)
		FR_TRY(start(run, n, err));
	if (run->next == run->group_end * questions)
		run->group = run->group_end;
	fr_records_emit(run);
	return run->next != before;
}
