/* Judging a stream of images: pictures are read ahead, prefilled into free sequences as many at a time as the device
 * serves best, and all running sequences are stepped together.
 *
 * One rule for all modes: prefill prompt + opening ("This image is"); the last row's logits at the two labels are the
 * score. Where the greedy choice of every row before is the forced piece, greedy decoding goes on from there (opening
 * "own"); otherwise, and always when sampling, the text starts at the prompt's last row ("forced" says what greedy
 * would not have written itself). So p_fake has the same bits with and without the text, alone and in a batch. An
 * image's way: taken (next() gave it, intake.h decodes it), started (prefilled, when a sequence is free), done. It is
 * taken only if the ring, where results wait to leave in input order, can hold it; and nothing waits for a slow input
 * while there is something else to do. */
#include "numbers.h"

#include <stdlib.h>

struct record {
	struct fr_result r;
	char sha256[65];
	char *text;	 /* [text_cap], owned by the ring */
	size_t streamed; /* bytes of text already handed to io->text */
	int begun, done;
};

struct lane {
	struct record *rec; /* NULL: free */
	int32_t next;	    /* the token to feed */
	int pos;	    /* its position */
	struct fr_rng rng;
	struct fr_detok detok;
};

/* An image about to be prefilled. */
struct start {
	struct record *rec;
	const struct fr_picture *pic;
	int seq;
	struct fr_rng rng;
};

struct run {
	struct fr_session *s;
	const struct fr_io *io;
	struct record *ring;
	size_t ring_n, head, tail; /* images head .. tail-1 are in the ring */
	size_t next;		   /* images next .. tail-1 are taken and not started */
	struct lane *lane;
	struct start *start; /* [s->together] */
	int active, ended;
	size_t text_cap;
};

static struct record *record_of(struct run *run, size_t index)
{
	return &run->ring[index % run->ring_n];
}

/* ---- results out, in input order ---- */

static void stream(struct run *run, struct record *rec)
{
	if (rec->r.error.code == FR_OK && rec->r.has_score && !rec->begun) {
		rec->begun = 1;
		if (run->io->begin)
			run->io->begin(run->io->user, rec->r.index, &rec->r);
	}
	if (rec->begun && run->io->text && rec->r.text_len > rec->streamed) {
		run->io->text(run->io->user, rec->r.index, rec->text + rec->streamed, rec->r.text_len - rec->streamed);
		rec->streamed = rec->r.text_len;
	}
}

static void emit(struct run *run)
{
	for (; run->head < run->tail; run->head++) {
		struct record *rec = record_of(run, run->head);
		stream(run, rec);
		if (!rec->done)
			return;
		run->io->result(run->io->user, &rec->r);
	}
}

/* After an interruption: what is complete, unfinished ones left out. */
static void emit_complete(struct run *run)
{
	for (; run->head < run->tail; run->head++)
		if (record_of(run, run->head)->done)
			run->io->result(run->io->user, &record_of(run, run->head)->r);
}

/* ---- images in ---- */

static int stopped(const struct run *run)
{
	return run->io->stopped && run->io->stopped(run->io->user);
}

/* Takes the next image unless the ring or the intake is full: 1 taken, 0 not. With patient = 0 nothing is taken that
 * has to be waited for. */
static int take(struct run *run, int patient)
{
	const struct fr_session *s = run->s;
	struct fr_job job = {0};
	struct record *rec;
	char *text;

	if (run->ended || run->tail - run->head == run->ring_n ||
	    run->tail - run->next == (size_t)(s->together + s->ahead) || stopped(run))
		return 0;
	if (!patient && run->io->ready && !run->io->ready(run->io->user))
		return 0;
	if (run->io->next(run->io->user, &job) == 0) {
		run->ended = 1;
		return 0;
	}
	rec = record_of(run, run->tail);
	text = rec->text;
	*rec = (struct record){.text = text, .r.index = run->tail};
	fr_intake_give(s->intake, run->tail++, &job);
	return 1;
}

/* While the device works: the pictures of the next prefill. */
static void take_ahead(void *user)
{
	struct run *run = user;

	for (int i = 0; i < run->s->ahead && take(run, 0); i++)
		continue;
}

/* What the picture says goes into its record; one that cannot be judged is done. 0 or -1. */
static int collect(struct record *rec, const struct fr_picture *pic)
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

/* ---- text ---- */

static void finish(struct run *run, struct lane *l, const char *stop)
{
	struct record *rec = l->rec;

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
static void accept(struct run *run, struct lane *l, int32_t id)
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

/* ---- prefill ---- */

/* From the tokens picked at the rows of the i-th sequence prefilled (last of the prompt, then each of the opening) and
 * its label logits to the score. */
static void score(struct fr_session *s, int i, struct fr_result *r)
{
	const struct fr_model *m = s->model;
	const int32_t *picked = s->picked + (size_t)i * (size_t)(1 + m->n_opening);

	r->logit_real = s->labels[i][0];
	r->logit_fake = s->labels[i][1];
	r->p_fake = fr_p_fake(&s->o.calibration, r->logit_real, r->logit_fake);
	r->calibrated = s->o.calibration.fitted;
	r->has_score = 1;
	r->verdict = fr_verdict_of(&s->o, r->p_fake);
	r->opening = "own";
	for (int row = 0; row < m->n_opening; row++)
		if (picked[row] != m->opening[row])
			r->opening = "forced";
}

/* The text's first tokens: the opening when it is greedy's own, else a choice at the prompt's last row. */
static void begin_text(struct run *run, int i)
{
	struct fr_session *s = run->s;
	const struct fr_model *m = s->model;
	const int32_t *picked = s->picked + (size_t)i * (size_t)(1 + m->n_opening);
	const int sampling = s->o.sampler.temperature > 0;
	struct start *start = &run->start[i];
	struct lane *l = &run->lane[start->seq];
	int row = 0;

	*l = (struct lane){.rec = start->rec, .rng = start->rng, .pos = s->n_prompt};
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

static int all_picked(const int32_t *ids, int n)
{
	for (int i = 0; i < n; i++)
		if (ids[i] < 0)
			return 0;
	return 1;
}

/* Sees and prefills the n images of run->start. */
static int start(struct run *run, int n, struct fr_error *err)
{
	struct fr_session *s = run->s;
	const int rows = 1 + s->model->n_opening, text = !s->o.verdict_only;
	const struct fr_picture *pics[256];
	double draw[256];
	int seq[256];
	struct fr_prefill p = {.seq = seq, .n = n, .to = s->n_prompt + s->model->n_opening, .n_logits = rows};

	for (int i = 0; i < n; i++) {
		struct start *one = &run->start[i];
		pics[i] = one->pic;
		seq[i] = one->seq;
		fr_rng_init(&one->rng, s->o.sampler.seed, one->rec->sha256);
		if (text && s->o.sampler.temperature > 0) {
			draw[i] = fr_rng_draw(&one->rng);
			p.draw = draw;
		}
	}
	FR_TRY(fr_session_see(s, pics, n, err));
	FR_TRY(fr_session_prefill(s, &p, err));
	for (int i = 0; i < n; i++) {
		struct record *rec = run->start[i].rec;
		char where[48];
		snprintf(where, sizeof where, "image %zu", rec->r.index + 1);
		if (!all_picked(s->picked + (size_t)i * (size_t)rows, rows) || (p.draw && s->sampled[i] < 0))
			return fr_explain_numbers(s, pics[i], where, err);
	}
	for (int i = 0; i < n; i++) {
		struct record *rec = run->start[i].rec;
		rec->r.ms_vision = s->ms_vision;
		rec->r.ms_prefill = s->ms_text;
		rec->r.prompt_tokens = s->n_prompt;
		score(s, i, &rec->r);
		if (text) {
			rec->r.text = rec->text;
			begin_text(run, i);
		} else {
			rec->r.stop = "verdict";
			rec->done = 1;
		}
	}
	return 0;
}

/* The sequences that are free, at most `together`, into run->start: how many. */
static int find_free(struct run *run)
{
	const struct fr_session *s = run->s;
	int n = 0;

	for (int i = 0; i < s->o.batch && n < s->together; i++)
		if (!run->lane[i].rec)
			run->start[n++].seq = i;
	return n;
}

/* Starts images in free sequences: those that are decoded, or all that are at hand when nothing else is to be done. One
 * prefill at most: 1 when something was done, 0 when not, -1. */
static int fill(struct run *run, struct fr_error *err)
{
	struct fr_session *s = run->s;
	const int room = find_free(run), idle = !run->active;
	size_t end = run->next;
	int n = 0;

	while (run->tail - run->next < (size_t)room && take(run, idle && run->tail == run->next))
		continue;
	for (; end < run->tail && n < room && fr_intake_ready(s->intake, end, idle); end++) {
		run->start[n].rec = record_of(run, end);
		run->start[n].pic = fr_intake_at(s->intake, end);
		n += collect(run->start[n].rec, run->start[n].pic) == 0;
	}
	if (end == run->next)
		return 0;
	if (n)
		FR_TRY(start(run, n, err));
	run->next = end;
	emit(run);
	return 1;
}

/* ---- the loop ---- */

static int step(struct run *run, struct fr_error *err)
{
	struct fr_session *s = run->s;
	struct lane *of_row[256];
	int n = 0;

	for (int i = 0; i < s->o.batch; i++) {
		struct lane *l = &run->lane[i];
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

static int loop(struct run *run, struct fr_error *err)
{
	while (!stopped(run)) {
		const int filled = fill(run, err);
		if (filled < 0)
			return -1;
		if (filled)
			continue;
		if (run->active) {
			FR_TRY(step(run, err));
			emit(run);
		} else if (run->ended) {
			break;
		}
	}
	return 0;
}

int fr_judge(struct fr_session *s, const struct fr_io *io, struct fr_error *err)
{
	struct run run = {.s = s, .io = io, .ring_n = (size_t)(s->o.batch + s->ahead) * 4 + 4};
	int rc = -1;

	/* each token adds at most a piece and the bytes that were pending before it; the end adds one more U+FFFD run;
	 * a text ends at the last position too, whatever --max-tokens says */
	const int room = s->kv.max_pos - s->n_prompt + 1, most = s->o.max_tokens < room ? s->o.max_tokens : room;

	run.text_cap = ((size_t)most + 2) * (fr_tokenizer_max_piece(s->model->tok) + 16);
	run.ring = calloc(run.ring_n, sizeof *run.ring);
	run.lane = calloc((size_t)s->o.batch, sizeof *run.lane);
	run.start = calloc((size_t)s->together, sizeof *run.start);
	if (!run.ring || !run.lane || !run.start)
		goto out;
	for (size_t i = 0; i < run.ring_n && !s->o.verdict_only; i++)
		if (!(run.ring[i].text = malloc(run.text_cap)))
			goto out;
	s->meanwhile = s->ahead ? take_ahead : NULL;
	s->meanwhile_user = &run;
	rc = loop(&run, err);
	s->meanwhile = NULL;
	fr_intake_settle(s->intake);
	emit_complete(&run);
	goto done;
out:
	fr_fail(err, FR_E_MEMORY, "no memory for %zu results with up to %zu bytes of text each", run.ring_n,
		run.text_cap);
done:
	for (size_t i = 0; run.ring && i < run.ring_n; i++)
		free(run.ring[i].text);
	free(run.ring);
	free(run.lane);
	free(run.start);
	return rc;
}

/* ---- one image ---- */

struct single {
	const uint8_t *bytes;
	size_t size;
	int given;
	struct fr_result *out;
	char **text;
	int no_memory;
};

static int single_next(void *user, struct fr_job *job)
{
	struct single *one = user;

	if (one->given++)
		return 0;
	job->bytes = one->bytes;
	job->size = one->size;
	return 1;
}

static void single_result(void *user, const struct fr_result *r)
{
	struct single *one = user;

	*one->out = *r;
	one->out->text = NULL;
	one->out->sha256 = NULL;
	if (one->text && r->text) {
		*one->text = malloc(r->text_len + 1);
		if (*one->text)
			memcpy(*one->text, r->text, r->text_len + 1);
		else
			one->no_memory = 1;
		one->out->text = *one->text;
	}
}

int fr_judge_one(struct fr_session *s, const uint8_t *bytes, size_t size, struct fr_result *out, char **text_out,
		 struct fr_error *err)
{
	struct single one = {.bytes = bytes, .size = size, .out = out, .text = text_out};

	memset(out, 0, sizeof *out);
	if (text_out)
		*text_out = NULL;
	FR_TRY(fr_judge(s, &(struct fr_io){.user = &one, .next = single_next, .result = single_result}, err));
	if (one.no_memory)
		return fr_fail(err, FR_E_MEMORY, "no memory for the text");
	if (out->error.code != FR_OK) {
		if (err)
			*err = out->error;
		return -1;
	}
	return 0;
}
