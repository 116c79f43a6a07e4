/* What is known of each image, in a ring, until it leaves in input order. */
#include "judge.h"

struct fr_record *fr_record_of(struct fr_run *run, size_t index)
{
	return &run->ring[index % run->ring_n];
}

static void stream(struct fr_run *run, struct fr_record *rec)
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

void fr_records_emit(struct fr_run *run)
{
	for (; run->head < run->tail; run->head++) {
		struct fr_record *rec = fr_record_of(run, run->head);
		stream(run, rec);
		if (!rec->done)
			return;
		run->io->result(run->io->user, &rec->r);
	}
}

void fr_records_emit_complete(struct fr_run *run)
{
	for (; run->head < run->tail; run->head++)
		if (fr_record_of(run, run->head)->done)
			run->io->result(run->io->user, &fr_record_of(run, run->head)->r);
}
