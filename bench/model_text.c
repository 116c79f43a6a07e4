/* Prefill and decoding of `fr-run bench model` at several lengths.
 *
 * One session with a long prompt serves them all: the first rows of a long prompt are a short one, and a step may be
 * taken at any position whose keys and values are there. Other sequences get those of the first, copied. A session that
 * would take memory from weights that now stay in it measures another thing, so then sequences are many or long, not
 * both. */
#include "model.h"

#include <stdlib.h>
#include <string.h>

#define CYCLE 16 /* positions that steps go through before they begin anew */
#define WORD " light"

static const int lengths[] = {64, 588, 1024, 2048}, contexts[] = {64, 600, 1100, 2000};
#define N_LENGTHS ((int)(sizeof lengths / sizeof *lengths))
#define N_CONTEXTS ((int)(sizeof contexts / sizeof *contexts))

/* ---- a prompt of many words ---- */

static char *words_text(int n)
{
	const size_t len = strlen(WORD);
	char *text = malloc((size_t)n * len + 1);

	for (int i = 0; text && i < n; i++)
		memcpy(text + (size_t)i * len, WORD, len);
	if (text)
		text[(size_t)n * len] = 0;
	return text;
}

/* Rows of prompt and opening with n words; -1 on failure. */
static int rows_with(const struct fr_model *m, int n, struct fr_error *err)
{
	char *text = words_text(n), *fed = NULL;
	const char *chat;
	int32_t *ids = NULL;
	int rows = -1, n_ids;

	if (!text)
		return fr_fail(err, FR_E_MEMORY, "no memory for a prompt of %d words", n);
	if (fr_prompt_build(m, text, NULL, &chat, &fed, &ids, &n_ids, err) == 0)
		rows = n_ids + m->n_opening;
	free(ids);
	free(fed);
	free(text);
	return rows;
}

/* The most words with which prompt and opening take at most `most` rows: NULL with an error if none do. */
static char *prompt_of(const struct fr_model *m, int most, struct fr_error *err)
{
	int lo = 1, hi = most + 1, rows = rows_with(m, lo, err);

	if (rows < 0)
		return NULL;
	while (hi - lo > 1) {
		const int mid = lo + (hi - lo) / 2;
		struct fr_error too_long;

		rows = rows_with(m, mid, &too_long);
		if (rows >= 0 && rows <= most)
			lo = mid;
		else
			hi = mid;
	}
	return words_text(lo);
}

/* The positions that the model lets a prompt have, with a text's first steps behind it. */
static int most_rows(const struct fr_model *m)
{
	int most = m->desc.text.max_pos - CYCLE;

	if (m->desc.prompt.max_prompt && m->desc.prompt.max_prompt + m->n_opening < most)
		most = m->desc.prompt.max_prompt + m->n_opening;
	return most < lengths[N_LENGTHS - 1] ? most : lengths[N_LENGTHS - 1];
}

/* ---- sessions ---- */

/* A session for that many sequences of `rows` rows: 1; 0 when there is no memory for it, which *err then says. */
static int open_long(struct fr_bench_model *m, int batch, int rows, struct fr_error *err)
{
	struct fr_session_opts o = fr_bench_session(m->b.opts, batch);
	char *text = prompt_of(m->b.model, rows, err);
	const int layers = m->b.model->desc.text.layers;
	int rc;

	if (!text)
		return -1;
	o.prompts = (const char *const[]){text};
	o.n_prompts = 1;
	o.verdict_only = 0;
	o.max_tokens = CYCLE;
	m->filled = 0;
	rc = fr_session_open(m->b.model, &o, &(struct fr_session_force){.together = 1}, &m->b.s, err);
	free(text);
	if (rc)
		return err->code == FR_E_MEMORY ? 0 : -1;
	if (m->stay < layers || m->b.s->stay == layers)
		return 1;
	fr_fail(err, FR_E_MEMORY, "its buffers would leave room for %d of %d decoder layers", m->b.s->stay, layers);
	fr_bench_close(m);
	return 0;
}

/* ---- decoding ---- */

/* The first sequence's keys and values into all others of the session. */
static void copy_sequences(struct fr_session *s)
{
	const struct fr_kv *kv = &s->kv;
	const size_t bytes =
		(size_t)kv->kv_heads * (size_t)kv->max_pos * (size_t)kv->head_dim * fr_dtypes[kv->dtype].bytes;

	for (int l = 0; l < kv->layers; l++)
		for (int i = 1; i < kv->seqs; i++) {
			const size_t from = (size_t)l * (size_t)kv->seqs * bytes, to = from + (size_t)i * bytes;

			s->dev->ops->copy(s->dev, (char *)kv->k + to, (char *)kv->k + from, bytes);
			s->dev->ops->copy(s->dev, (char *)kv->v + to, (char *)kv->v + from, bytes);
		}
}

/* Keys and values of positions 0 .. rows-1 in every sequence. */
static int fill(struct fr_bench_model *m, int rows, struct fr_error *err)
{
	struct fr_session *s = m->b.s;
	const struct fr_part part = {.to = rows};
	const struct fr_prefill p = {.part = &part, .n = 1, .n_logits = 1};

	if (m->filled >= rows)
		return 0;
	FR_TRY(fr_session_see(s, m->see, 1, err));
	FR_TRY(fr_session_prefill(s, &p, err));
	copy_sequences(s);
	m->filled = rows;
	return s->dev->ops->sync(s->dev, err);
}

static int step_once(struct fr_stages *b, double *ms, struct fr_error *err)
{
	struct fr_session *s = b->s;
	const int n = b->stage.batch, pos = b->stage.context + b->stage.ms.n % CYCLE;

	for (int i = 0; i < n; i++) {
		s->ids[i] = b->stage.ms.n ? s->picked[i] : b->model->opening[0];
		s->row[i] = (struct fr_row){.seq = i, .pos = pos};
	}
	FR_TRY(fr_session_step(s, n, err));
	for (int i = 0; i < n; i++)
		if (s->picked[i] < 0)
			return fr_fail(err, FR_E_NUMBERS, "bench model: logits at position %d are not finite", pos);
	*ms = s->ms_text;
	return 0;
}

static int bench_decode(struct fr_bench_model *m, int batch, int context, struct fr_error *err)
{
	struct fr_stages *b = &m->b;
	struct fr_stage *st = &b->stage;

	if (!fr_stage_begin(b, "decode", "b%d_kv%d", batch, context))
		return 0;
	FR_TRY(fill(m, context, err));
	st->batch = batch;
	st->context = context;
	st->phase = FR_DECODE;
	st->cost = fr_cost_step(b->model, batch, context + CYCLE / 2, b->s->kv.dtype);
	st->amount = batch;
	st->items = "tokens";
	return fr_stage_run(b, step_once, err);
}

/* ---- all of it ---- */

/* The i-th position to decode at: after the model's own prompt, then those of the table that are not about the same;
 * 0 after the last, -1 for one that the session has no room for. */
static int context_at(const struct fr_bench_model *m, int i, int rows)
{
	const int own = m->prompt + m->b.model->n_opening;
	int at;

	if (i > N_CONTEXTS)
		return 0;
	at = i ? contexts[i - 1] : own;
	return at > rows || (i && abs(at - own) * 20 < own) ? -1 : at;
}

static int bench_contexts(struct fr_bench_model *m, int from, int to, int rows, struct fr_error *err)
{
	for (int i = 0, at; (at = context_at(m, i, rows)) != 0; i++)
		for (int j = 0, batch; at > 0 && (batch = fr_bench_batch(j, m->b.opts)) > 0; j++)
			if (batch > from && batch <= to)
				FR_TRY(bench_decode(m, batch, at, err));
	return 0;
}

static int bench_lengths(struct fr_bench_model *m, int rows, struct fr_error *err)
{
	const int own = m->prompt + m->b.model->n_opening;
	int last = 0;

	FR_TRY(fr_session_see(m->b.s, m->see, 1, err));
	for (int i = 0; i < N_LENGTHS; i++) {
		const int n = lengths[i] < rows ? lengths[i] : rows;

		if (n == last || n == own)
			continue;
		FR_TRY(fr_bench_prefill(m, 1, n, err));
		last = n;
	}
	return 0;
}

static int rows_of(const struct fr_bench_model *m)
{
	return m->b.s->question->n + m->b.model->n_opening;
}

/* Numbers of sequences above `from`, up to `most`: the most that have room, at the longest of the positions above that
 * has room for them. What has none is said. */
static int bench_more(struct fr_bench_model *m, int from, int most, struct fr_error *err)
{
	const int own = m->prompt + m->b.model->n_opening;
	char name[64], why[sizeof err->text] = "";
	int batch = most, rc = 0;

	for (; batch > from; batch /= 2) {
		for (int i = N_CONTEXTS - 1; i >= -1 && rc == 0; i--)
			if (i < 0 || contexts[i] > own)
				rc = open_long(m, batch, (i < 0 ? own : contexts[i]) + CYCLE, err);
		if (rc)
			break;
		snprintf(name, sizeof name, "decode/b%d", batch);
		snprintf(why, sizeof why, "%s", err->text);
		fr_stages_say_left_out(&m->b, name, why);
	}
	if (rc <= 0)
		return rc;
	FR_TRY(bench_contexts(m, from, batch, rows_of(m), err));
	fr_stages_say_own_memory(&m->b, "many");
	fr_bench_close(m);
	return 0;
}

/* As many sequences as have room at the full length, with prefill; then more of them at shorter ones. */
int fr_bench_text(struct fr_bench_model *m, struct fr_error *err)
{
	int most = 0, batch, rc = 0;

	for (int i = 0; (batch = fr_bench_batch(i, m->b.opts)) > 0; i++)
		most = batch;
	for (batch = most; batch >= 1; batch /= 2)
		if ((rc = open_long(m, batch, most_rows(m->b.model), err)) != 0)
			break;
	if (rc <= 0)
		return -1;
	FR_TRY(bench_lengths(m, rows_of(m), err));
	FR_TRY(bench_contexts(m, 0, batch, rows_of(m), err));
	fr_stages_say_own_memory(&m->b, "text");
	fr_stages_finish_plot(&m->b);
	fr_bench_close(m);
	return batch < most && !fr_bench_stopped(m->b.opts) ? bench_more(m, batch, most, err) : 0;
}
