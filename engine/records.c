/* What is known of each image, in a ring, until it leaves in input order; what proposes tokens learns the texts in that
 * order. */
#include "judge.h"

struct fr_record *fr_record_of(struct fr_run *run, size_t index)
{
	return &run->ring[index % run->ring_n];
}

void fr_record_score(const struct fr_session *s, struct fr_record *rec, const float labels[2])
{
	struct fr_result *r = &rec->r;

	r->logit_real = labels[0];
	r->logit_fake = labels[1];
	r->p_fake = fr_p_fake(&s->o.calibration, labels[0], labels[1]);
	r->calibrated = s->o.calibration.fitted;
	r->has_score = 1;
	r->verdict = fr_verdict_of(&s->o, r->p_fake);
}

static void stream(struct fr_run *run, struct fr_record *rec)
{
	if (rec->r.error.code == FR_OK && rec->r.prompt_tokens && !rec->begun) {
		rec->begun = 1;
		if (run->io->begin)
			run->io->begin(run->io->user, rec->r.index, &rec->r);
	}
	if (rec->begun && run->io->text && rec->r.text_len > rec->streamed) {
		run->io->text(run->io->user, rec->r.index, rec->text + rec->streamed, rec->r.text_len - rec->streamed);
		rec->streamed = rec->r.text_len;
	}
}

void fr_records_emit(struct fr_run *run)
{
	for (; run->head < run->next; run->head++) {
		struct fr_record *rec = fr_record_of(run, run->head);
		stream(run, rec);
		if (!rec->done)
			return;
		run->io->result(run->io->user, &rec->r);
		if (rec->ids && rec->r.text)
			fr_ngram_learn(run->s->drafts, rec->ids, rec->n_ids, strcmp(rec->r.stop, "eos") == 0);
	}
}

void fr_records_emit_complete(struct fr_run *run)
{
	for (; run->head < run->next; run->head++)
		if (fr_record_of(run, run->head)->done)
			run->io->result(run->io->user, &fr_record_of(run, run->head)->r);
}
