/* Judging a stream of images: prefill one image at a time into a free sequence, step all running sequences together.
 *
 * One rule for all modes: prefill prompt + opening ("This image is"); the last row's logits at the two labels are the
 * score. Where the argmax of every row before is the forced piece, greedy decoding goes on from there (opening "own");
 * otherwise, and always when sampling, the text starts at the prompt's last row ("forced" says what greedy would not
 * have written itself). So p_fake has the same bits with and without the text, alone and in a batch.
 * Results leave in input order; records wait in a ring, and no image is taken that the ring cannot hold. */
#include "image.h"
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

struct run {
	struct fr_session *s;
	const struct fr_io *io;
	struct record *ring;
	size_t ring_n, head, tail; /* images head .. tail-1 are in the ring */
	struct lane *lane;
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

/* ---- one image in ---- */

static int prepare(struct fr_session *s, struct record *rec, const struct fr_job *job)
{
	struct fr_result *r = &rec->r;
	struct fr_image img;
	int rc;

	if (job->error.code != FR_OK) {
		r->error = job->error;
		return -1;
	}
	fr_sha256_hex(job->bytes, job->size, rec->sha256);
	r->sha256 = rec->sha256;
	FR_TRY(fr_image_decode(job->bytes, job->size, s->o.max_pixels, &img, &r->error));
	for (int i = 0; i < img.n_warnings && r->n_warnings < FR_MAX_WARNINGS; i++)
		r->warnings[r->n_warnings++] = img.warnings[i];
	rc = fr_image_fit(&img, &s->model->desc.image, s->u8, &r->error);
	fr_image_free(&img);
	if (rc == 0)
		fr_image_normalise(s->u8, &s->model->desc.image, s->host_pixels);
	return rc;
}

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

static int32_t pick(struct fr_session *s, struct lane *l, int row)
{
	const int vocab = s->model->desc.text.vocab;
	const double draw = s->o.sampler.temperature > 0 ? fr_rng_draw(&l->rng) : 0;

	return fr_pick_row(s->logits + (size_t)row * (size_t)vocab, vocab, &s->o.sampler, draw, s->room);
}

/* From the prefill's logits (rows: last of the prompt, then each of the opening) to the score. */
static void score(struct fr_session *s, struct fr_result *r)
{
	const struct fr_model *m = s->model;
	const size_t vocab = (size_t)m->desc.text.vocab;
	const float *last = s->logits + (size_t)m->n_opening * vocab;

	r->logit_real = last[m->real_id];
	r->logit_fake = last[m->fake_id];
	r->p_fake = fr_p_fake(&s->o.calibration, r->logit_real, r->logit_fake);
	r->calibrated = s->o.calibration.fitted;
	r->has_score = 1;
	r->verdict = fr_verdict_of(&s->o, r->p_fake);
	r->opening = "own";
	for (int i = 0; i < m->n_opening; i++)
		if (fr_argmax(s->logits + (size_t)i * vocab, (int)vocab) != m->opening[i])
			r->opening = "forced";
}

/* The text's first tokens: the opening when it is greedy's own, else a choice at the prompt's last row. */
static void begin_text(struct run *run, struct lane *l)
{
	struct fr_session *s = run->s;
	const struct fr_model *m = s->model;
	const int own = s->o.sampler.temperature <= 0 && strcmp(l->rec->r.opening, "own") == 0;
	int row = 0;

	fr_detok_init(&l->detok, m->tok, 0);
	fr_rng_init(&l->rng, s->o.sampler.seed, l->rec->sha256);
	l->pos = s->n_prompt;
	for (; own && row < m->n_opening && l->rec; row++) {
		accept(run, l, m->opening[row]);
		if (l->rec)
			l->pos++;
	}
	if (l->rec)
		accept(run, l, pick(s, l, row));
}

static int start(struct run *run, int lane, struct record *rec, struct fr_error *err)
{
	struct fr_session *s = run->s;
	const struct fr_model *m = s->model;
	char where[48];

	FR_TRY(fr_session_see(s, err));
	rec->r.ms_vision = s->ms_vision;
	FR_TRY(fr_session_prefill(s, lane, 0, s->n_prompt + m->n_opening, 1 + m->n_opening, err));
	rec->r.ms_prefill = s->ms_text;
	rec->r.prompt_tokens = s->n_prompt;
	if (fr_all_finite(s->logits, (size_t)(1 + m->n_opening) * (size_t)m->desc.text.vocab)) {
		snprintf(where, sizeof where, "image %zu", rec->r.index + 1);
		return fr_explain_numbers(s, where, err);
	}
	score(s, &rec->r);
	if (s->o.verdict_only) {
		rec->r.stop = "verdict";
		rec->done = 1;
		return 0;
	}
	rec->r.text = rec->text;
	run->lane[lane].rec = rec;
	run->active++;
	begin_text(run, &run->lane[lane]);
	return 0;
}

/* Takes the next image: 1 taken (a bad one is a finished record), 0 none left. */
static int take(struct run *run, int lane, struct fr_error *err)
{
	struct record *rec = record_of(run, run->tail);
	struct fr_job job = {0};
	char *text = rec->text;
	double start_ms;
	int rc;

	if (run->io->next(run->io->user, &job) == 0) {
		run->ended = 1;
		return 0;
	}
	memset(rec, 0, sizeof *rec);
	rec->text = text;
	rec->r.index = run->tail++;
	start_ms = fr_now_ms();
	rc = prepare(run->s, rec, &job);
	rec->r.ms_image = fr_now_ms() - start_ms;
	if (rc) {
		rec->done = 1;
		return 1;
	}
	return start(run, lane, rec, err) ? -1 : 1;
}

/* ---- the loop ---- */

static int step(struct run *run, struct fr_error *err)
{
	struct fr_session *s = run->s;
	const size_t vocab = (size_t)s->model->desc.text.vocab;
	struct lane *of_row[256];
	int n = 0;

	for (int i = 0; i < s->o.batch; i++) {
		struct lane *l = &run->lane[i];
		if (!l->rec)
			continue;
		s->ids[n] = l->next;
		s->row[n] = (struct fr_row){.seq = i, .pos = l->pos++};
		of_row[n++] = l;
	}
	FR_TRY(fr_session_step(s, n, err));
	for (int i = 0; i < n; i++) {
		of_row[i]->rec->r.ms_decode += s->ms_text;
		if (fr_all_finite(s->logits + (size_t)i * vocab, vocab)) {
			char where[64];
			snprintf(where, sizeof where, "image %zu, token %d", of_row[i]->rec->r.index + 1,
				 of_row[i]->rec->r.generated_tokens + 1);
			return fr_explain_numbers(s, where, err);
		}
	}
	for (int i = 0; i < n; i++)
		accept(run, of_row[i], pick(s, of_row[i], i));
	return 0;
}

static int fill_lanes(struct run *run, struct fr_error *err)
{
	for (int i = 0; i < run->s->o.batch && !run->ended; i++)
		while (!run->lane[i].rec && !run->ended && run->tail - run->head < run->ring_n) {
			if (run->io->stopped && run->io->stopped(run->io->user))
				return 0;
			if (take(run, i, err) < 0)
				return -1;
			emit(run);
		}
	return 0;
}

static int loop(struct run *run, struct fr_error *err)
{
	while (!run->ended || run->active) {
		if (run->io->stopped && run->io->stopped(run->io->user))
			break;
		FR_TRY(fill_lanes(run, err));
		if (!run->active)
			continue;
		FR_TRY(step(run, err));
		emit(run);
	}
	return 0;
}

int fr_judge(struct fr_session *s, const struct fr_io *io, struct fr_error *err)
{
	struct run run = {.s = s, .io = io, .ring_n = (size_t)s->o.batch * 4 + 4};
	int rc = -1;

	/* each token adds at most a piece and the bytes that were pending before it; the end adds one more U+FFFD run;
	 * a text ends at the last position too, whatever --max-tokens says */
	const int room = s->kv.max_pos - s->n_prompt + 1, most = s->o.max_tokens < room ? s->o.max_tokens : room;

	run.text_cap = ((size_t)most + 2) * (fr_tokenizer_max_piece(s->model->tok) + 16);
	run.ring = calloc(run.ring_n, sizeof *run.ring);
	run.lane = calloc((size_t)s->o.batch, sizeof *run.lane);
	if (!run.ring || !run.lane)
		goto out;
	for (size_t i = 0; i < run.ring_n && !s->o.verdict_only; i++)
		if (!(run.ring[i].text = malloc(run.text_cap)))
			goto out;
	rc = loop(&run, err);
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
