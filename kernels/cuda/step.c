/* Decode steps that come again and again: a step of n rows is run eagerly the first time, which lets work memory grow;
 * recorded and launched the second time; and launched from its recording from the third time on.
 *
 * A recording holds addresses. The step's own arrays (ids, row, draw) are copied to a fixed place before each launch;
 * what its gets bring lands in pinned memory that belongs to the recording. All recordings are dropped when memory that
 * they may know moves. Packed forms are forgotten at the start of each step, so that what is recorded does not depend
 * on what came before it. */
#include "scratch.h"

#include <stdlib.h>

/* ---- the step's arrays: row [n], draw [n], ids [n], one behind the other ---- */

static size_t draw_at(int rows)
{
	return (size_t)rows * sizeof(struct fr_row);
}
static size_t ids_at(int rows)
{
	return draw_at(rows) + (size_t)rows * sizeof(double);
}
static size_t step_bytes(int rows)
{
	return ids_at(rows) + (size_t)rows * sizeof(int32_t);
}
_Static_assert(sizeof(struct fr_row) == 8, "draw [n] lies behind row [n], aligned");

static void put_arrays(struct fr_cuda *d, const struct fr_cu_step *t)
{
	struct fr_cu_scratch *s = d->scratch;
	const size_t bytes = step_bytes(t->rows);
	void *dev = fr_cu_need(d, &s->step_dev, bytes, "device memory for a step's arrays");
	char *staged = dev ? fr_cu_stage(d, &s->step_from[s->step_turn++ % FR_CU_STEP_STAGINGS], bytes) : NULL;

	if (!staged)
		return;
	memcpy(staged, t->row, (size_t)t->rows * sizeof(struct fr_row));
	if (t->draw)
		memcpy(staged + draw_at(t->rows), t->draw, (size_t)t->rows * sizeof(double));
	else
		memset(staged + draw_at(t->rows), 0, (size_t)t->rows * sizeof(double));
	memcpy(staged + ids_at(t->rows), t->ids, (size_t)t->rows * sizeof(int32_t));
	fr_cu_note(d, d->cu->copy(d->at, FR_CU_COMPUTE, dev, staged, bytes), "copying a step's arrays");
}

/* Offset of host [bytes] in array [n], or -1. */
static ptrdiff_t offset_in(const void *array, size_t n, const void *host, size_t bytes)
{
	const char *a = array, *h = host;

	return a && h >= a && h + bytes <= a + n ? h - a : -1;
}

const void *fr_cu_step_array(struct fr_cuda *d, const void *host, size_t bytes)
{
	struct fr_cu_step *t = d->scratch->in;
	const char *dev = d->scratch->step_dev.p;
	ptrdiff_t at;

	if (!t)
		return NULL;
	at = offset_in(t->row, (size_t)t->rows * sizeof(struct fr_row), host, bytes);
	if (at >= 0)
		return dev + at;
	at = offset_in(t->draw, (size_t)t->rows * sizeof(double), host, bytes);
	if (at >= 0)
		return dev + draw_at(t->rows) + at;
	at = offset_in(t->ids, (size_t)t->rows * sizeof(int32_t), host, bytes);
	if (at >= 0)
		return dev + ids_at(t->rows) + at;
	t->never = 1;
	return NULL;
}

/* ---- recordings ---- */

void fr_cu_steps_bring(struct fr_cuda *d)
{
	struct fr_cu_scratch *s = d->scratch;

	for (int i = 0; i < s->steps; i++) {
		struct fr_cu_step *t = s->step[i];

		for (int k = 0; t->replayed && k < t->kept_n; k++)
			memcpy(t->kept[k].host, t->kept[k].pinned, t->kept[k].bytes);
		t->replayed = 0;
	}
}

/* Its launches have run. */
static void drop(struct fr_cuda *d, struct fr_cu_step *t)
{
	if (t->graph)
		d->cu->forget(d->at, t->graph);
	if (t->pinned)
		d->cu->release_host(d->at, t->pinned);
	t->graph = NULL;
	t->pinned = NULL;
	t->runs = t->kept_n = 0;
	t->kept_bytes = t->kept_used = 0;
}

void fr_cu_steps_drop(struct fr_cuda *d)
{
	struct fr_cu_scratch *s = d->scratch;
	int recorded = 0;

	for (int i = 0; i < s->steps; i++)
		recorded |= s->step[i]->graph != NULL;
	if (recorded) {
		fr_cu_stages_settle(d);
		fr_cu_steps_bring(d);
	}
	for (int i = 0; i < s->steps; i++)
		if (s->step[i]->graph)
			drop(d, s->step[i]);
}

void fr_cu_steps_restart(struct fr_cuda *d)
{
	struct fr_cu_scratch *s = d->scratch;

	fr_cu_steps_drop(d);
	for (int i = 0; i < s->steps; i++)
		s->step[i]->runs = 0;
}

void *fr_cu_kept(struct fr_cuda *d, void *host, size_t bytes)
{
	struct fr_cu_scratch *s = d->scratch;
	struct fr_cu_step *t = s->in;
	struct fr_cu_kept *k;

	if (!t)
		return NULL;
	if (!s->recording) { /* the eager run counts them */
		t->kept_bytes += fr_cu_align(bytes);
		t->never |= ++t->kept_n > FR_CU_MAX_KEPT;
		return NULL;
	}
	if (t->kept_n == FR_CU_MAX_KEPT || t->kept_used + bytes > t->kept_bytes) {
		t->never = 1;
		return NULL;
	}
	k = &t->kept[t->kept_n++];
	*k = (struct fr_cu_kept){host, t->pinned + t->kept_used, bytes};
	t->kept_used += fr_cu_align(bytes);
	return k->pinned;
}

static struct fr_cu_step *add_step(struct fr_cu_scratch *s)
{
	struct fr_cu_step *t = calloc(1, sizeof *t), **all = NULL;

	if (t)
		all = realloc(s->step, (size_t)(s->steps + 1) * sizeof *all);
	if (!all) {
		free(t);
		return NULL;
	}
	s->step = all;
	return all[s->steps++] = t;
}

/* The step of that many rows, new if it is the first with these arrays. NULL: no memory; the step is run eagerly. */
static struct fr_cu_step *find_step(struct fr_cuda *d, const int32_t *ids, const struct fr_row *row, const double *draw,
				    int rows)
{
	struct fr_cu_scratch *s = d->scratch;
	struct fr_cu_step *t = NULL;

	for (int i = 0; i < s->steps; i++)
		if (s->step[i]->rows == rows)
			t = s->step[i];
	if (t && t->ids == ids && t->row == row && t->draw == draw)
		return t;
	if (t && t->graph)
		fr_cu_steps_drop(d);
	if (t)
		drop(d, t);
	else
		t = add_step(s);
	if (t)
		*t = (struct fr_cu_step){.ids = ids, .row = row, .draw = draw, .rows = rows};
	return t;
}

static void replay(struct fr_cuda *d, struct fr_cu_step *t)
{
	fr_cu_note(d, d->cu->replay(d->at, t->graph), "replay of a decode step");
	t->replayed = 1;
}

/* From here to step_end launches are recorded, where the device can. */
static void start_recording(struct fr_cuda *d, struct fr_cu_step *t)
{
	struct fr_cu_scratch *s = d->scratch;
	void *p = NULL;

	if (t->kept_bytes && d->cu->alloc_host(d->at, t->kept_bytes, &p) != 0) {
		t->never = 1;
		return;
	}
	t->pinned = p;
	t->kept_n = 0;
	t->kept_used = 0;
	if (d->cu->record_begin(d->at) == 0)
		s->recording = 1;
	else
		s->off = 1;
}

int fr_cu_step_begin(struct fr_dev *dev, const int32_t *ids, const struct fr_row *row, const double *draw, int rows)
{
	struct fr_cuda *d = (struct fr_cuda *)dev;
	struct fr_cu_scratch *s = d->scratch;
	struct fr_cu_step *t = find_step(d, ids, row, draw, rows);

	fr_cu_forms_forget(s);
	if (!t)
		return 0;
	fr_cu_uploaded(d);
	if (t->graph && t->never)
		fr_cu_steps_drop(d);
	fr_cu_forms_even(d);
	put_arrays(d, t);
	if (t->graph && !d->error) {
		replay(d, t);
		return 1;
	}
	s->in = t;
	t->runs += t->runs < 2;
	if (t->runs == 2 && !t->never && !s->off && !d->error)
		start_recording(d, t);
	if (!s->recording) { /* counted anew */
		t->kept_n = 0;
		t->kept_bytes = 0;
	}
	return 0;
}

void fr_cu_step_end(struct fr_dev *dev)
{
	struct fr_cuda *d = (struct fr_cuda *)dev;
	struct fr_cu_scratch *s = d->scratch;
	struct fr_cu_step *t = s->in;

	s->in = NULL;
	if (!s->recording)
		return;
	s->recording = 0;
	fr_cu_note(d, d->cu->record_end(d->at, &t->graph), "recording a decode step");
	if (d->error)
		t->never = 1;
	else
		replay(d, t);
}

void fr_cu_steps_free(struct fr_cuda *d)
{
	struct fr_cu_scratch *s = d->scratch;

	fr_cu_steps_drop(d);
	for (int i = 0; i < s->steps; i++) {
		drop(d, s->step[i]);
		free(s->step[i]);
	}
	free(s->step);
	s->step = NULL;
	s->steps = 0;
}
