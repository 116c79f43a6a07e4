/* Judging a stream of images: pictures are read ahead, prefilled into free sequences as many at a time as the device
 * serves best, and all running sequences are stepped together.
 *
 * One rule for all modes: prefill prompt + opening ("This image is"); the last row's logits at the two labels are the
 * score, of a model that reasons the direct one, whose reasoned score is read off its text (lanes.c). Where the greedy
 * choice of every row before is the forced piece, greedy decoding goes on from there (opening "own"); otherwise, and
 * always when sampling or reasoning, the text starts at the prompt's last row ("forced" says what greedy would not have
 * written itself). So p_fake has the same bits with and without the text (of a model that reasons: p_fake_direct has),
 * alone and in a batch.
 *
 * An image's way: taken (next() gave it, intake.h decodes it), seen (encoded), and its questions started one by one
 * (prefilled, when a sequence is free and the ring, where results wait to leave in input order, can hold one more),
 * done. Nothing waits for a slow input while there is something else to do.
 *
 * Prefills and decode steps take turns: whatever waits, a text that is being written waits for one prefill a token at
 * most. Filling all sequences first would save the few steps that are made before all of them are busy, and keep the
 * first text waiting for as many prompts as there are sequences. */
#include "judge.h"

#include <stdlib.h>

static int loop(struct fr_run *run, struct fr_error *err)
{
	while (!fr_run_stopped(run)) {
		const int filled = fr_starts_fill(run, err);
		if (filled < 0)
			return -1;
		if (run->active) {
			FR_TRY(fr_lanes_step(run, err));
			fr_records_emit(run);
		} else if (!filled && run->ended) {
			break;
		}
	}
	return 0;
}

static int shortest(const struct fr_session *s)
{
	int n = s->longest;

	for (int i = 0; i < s->n_questions; i++)
		n = s->question[i].n < n ? s->question[i].n : n;
	return n;
}

int fr_judge(struct fr_session *s, const struct fr_io *io, struct fr_error *err)
{
	struct fr_run run = {.s = s, .io = io, .ring_n = (size_t)(s->o.batch + s->ahead) * 4 + 4};
	int rc = -1;

	/* each token adds at most a piece and the bytes that were pending before it; the end adds one more U+FFFD run;
	 * a text ends at the last position too, whatever --max-tokens says */
	const int room = s->kv.max_pos - shortest(s) + 1, most = s->o.max_tokens < room ? s->o.max_tokens : room;

	run.ids_cap = (size_t)most;
	run.text_cap = ((size_t)most + 2) * (fr_tokenizer_max_piece(s->model->tok) + 16);
	run.ring = calloc(run.ring_n, sizeof *run.ring);
	run.lane = calloc((size_t)s->o.batch, sizeof *run.lane);
	run.start = calloc((size_t)s->together, sizeof *run.start);
	run.part = calloc((size_t)s->together, sizeof *run.part);
	run.asked = calloc((size_t)(s->together + s->ahead), sizeof *run.asked);
	if (!run.ring || !run.lane || !run.start || !run.part || !run.asked)
		goto out;
	for (size_t i = 0; i < run.ring_n && !s->o.verdict_only; i++)
		if (!(run.ring[i].text = malloc(run.text_cap)))
			goto out;
	for (size_t i = 0; i < run.ring_n && s->drafts; i++)
		if (!(run.ring[i].ids = calloc(run.ids_cap, sizeof(int32_t))))
			goto out;
	for (size_t i = 0; i < run.ring_n && s->heat; i++)
		if (!(run.ring[i].heat = calloc((size_t)s->model->desc.n_image, sizeof *s->heat)))
			goto out;
	s->meanwhile = s->ahead ? fr_starts_take_ahead : NULL;
	s->meanwhile_user = &run;
	rc = loop(&run, err);
	s->meanwhile = NULL;
	fr_intake_settle(s->intake);
	fr_records_emit_complete(&run);
	goto done;
out:
	fr_fail(err, FR_E_MEMORY, "no memory for %zu results with up to %zu bytes of text each", run.ring_n,
		run.text_cap);
done:
	for (size_t i = 0; run.ring && i < run.ring_n; i++) {
		free(run.ring[i].text);
		free(run.ring[i].ids);
		free(run.ring[i].heat);
	}
	free(run.ring);
	free(run.lane);
	free(run.start);
	free(run.part);
	free(run.asked);
	return rc;
}
