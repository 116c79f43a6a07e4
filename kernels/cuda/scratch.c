/* The memory that operations work in: arrays of a call on their way to the device, and blocks for partial results.
 *
 * With work() everything lies in one block of exactly work_bytes(), taken by the caller with the rest of its plan;
 * without it (tests, selftest) each piece grows on demand. A piece that is too small for a call beyond the limits grows
 * on its own too. Arrays of a call are recognised by their content: the engine refills the same host arrays for each
 * call, and one forward pass names them in every layer. */
#include "scratch.h"

#include <assert.h>
#include <stdlib.h>

/* CUDA_ERROR_OUT_OF_MEMORY, and CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED: "operation not permitted when stream is
 * capturing". The rest of the backend sees no header of CUDA's. */
#define ERROR_MEMORY 2
#define ERROR_CAPTURE 900

static void free_block(struct fr_cuda *d, struct fr_cu_block *b)
{
	if (b->own) {
		d->cu->release(d->at, b->p);
		d->dev.held -= b->bytes;
	}
	*b = (struct fr_cu_block){0};
}

void *fr_cu_need(struct fr_cuda *d, struct fr_cu_block *b, size_t bytes, const char *what)
{
	const size_t room = fr_cu_align(bytes);
	void *p;

	if (bytes <= b->bytes)
		return b->p;
	if (d->error)
		return NULL;
	if (d->scratch->recording) {
		fr_cu_note(d, ERROR_CAPTURE, what);
		return NULL;
	}
	fr_cu_steps_drop(d);
	fr_cu_note(d, d->cu->sync(d->at, FR_CU_COMPUTE), what);
	free_block(d, b);
	fr_cu_note(d, d->cu->alloc(d->at, room, &p), what);
	if (d->error)
		return NULL;
	*b = (struct fr_cu_block){p, room, 1};
	d->dev.held += room;
	return p;
}

void *fr_cu_part(struct fr_cuda *d, enum fr_cu_part part, size_t bytes)
{
	static const char *const what[FR_PARTS] = {"work memory of attention", "work memory of a product",
						   "work memory of pick", "work memory of cuBLASLt"};

	return fr_cu_need(d, &d->scratch->part[part], bytes, what[part]);
}

/* ---- arrays of a call ---- */

void fr_cu_stages_settle(struct fr_cuda *d)
{
	fr_cu_note(d, d->cu->sync(d->at, FR_CU_COMPUTE), "waiting for a call's arrays");
	d->scratch->epoch++;
}

char *fr_cu_stage(struct fr_cuda *d, struct fr_cu_staging *s, size_t bytes)
{
	size_t room = s->room ? s->room : 4096;
	void *p;

	if (s->host && s->epoch == d->scratch->epoch)
		fr_cu_stages_settle(d);
	if (bytes > s->room) {
		while (room < bytes)
			room *= 2;
		if (s->host)
			d->cu->release_host(d->at, s->host);
		*s = (struct fr_cu_staging){0};
		fr_cu_note(d, d->cu->alloc_host(d->at, room, &p), "pinned memory for a call's arrays");
		if (d->error)
			return NULL;
		s->host = p;
		s->room = room;
	}
	s->epoch = d->scratch->epoch;
	return d->error ? NULL : s->host;
}

static struct fr_cu_input *find_input(struct fr_cu_scratch *s, const void *host, size_t bytes)
{
	for (int i = 0; i < FR_CU_INPUTS; i++)
		if (s->input[i].bytes == bytes && memcmp(s->input[i].from.host, host, bytes) == 0)
			return &s->input[i];
	return NULL;
}

static struct fr_cu_input *oldest_input(struct fr_cu_scratch *s)
{
	struct fr_cu_input *oldest = &s->input[0];

	for (int i = 1; i < FR_CU_INPUTS; i++)
		if (s->input[i].used < oldest->used)
			oldest = &s->input[i];
	return oldest;
}

/* host [bytes] in device memory. An input that is taken over may still be read by kernels that were launched before:
 * the copy runs behind them. */
static const void *input(struct fr_cuda *d, const void *host, size_t bytes)
{
	struct fr_cu_scratch *s = d->scratch;
	const void *own = fr_cu_step_array(d, host, bytes);
	struct fr_cu_input *in;
	char *staged;
	void *dev;

	if (own || d->error || !bytes)
		return own;
	in = find_input(s, host, bytes);
	if (in) {
		in->used = ++s->clock;
		return in->dev.p;
	}
	in = oldest_input(s);
	in->bytes = 0;
	in->used = ++s->clock;
	dev = fr_cu_need(d, &in->dev, bytes, "device memory for a call's arrays");
	staged = dev ? fr_cu_stage(d, &in->from, bytes) : NULL;
	if (!staged)
		return NULL;
	memcpy(staged, host, bytes);
	fr_cu_note(d, d->cu->copy(d->at, FR_CU_COMPUTE, dev, staged, bytes), "copying a call's arrays");
	in->bytes = bytes;
	return dev;
}

const int32_t *fr_cu_ids(struct fr_cuda *d, const int32_t *host, int rows)
{
	return input(d, host, (size_t)rows * sizeof *host);
}

const struct fr_row *fr_cu_rows(struct fr_cuda *d, const struct fr_row *host, int rows)
{
	return input(d, host, (size_t)rows * sizeof *host);
}

const double *fr_cu_draws(struct fr_cuda *d, const double *host, int rows)
{
	return input(d, host, (size_t)rows * sizeof *host);
}

/* ---- the block of work() ---- */

static size_t most_rows(const struct fr_limits *l)
{
	return (size_t)(l->rows > l->decode_rows ? l->rows : l->decode_rows);
}

/* The longest array of a call: attention's tiles of a prefill, each of one row at worst. */
static size_t array_bytes(const struct fr_limits *l)
{
	return fr_cu_align(most_rows(l) * 4 * sizeof(int32_t));
}

static size_t step_bytes(const struct fr_limits *l)
{
	return fr_cu_align((size_t)l->decode_rows * (sizeof(struct fr_row) + sizeof(double) + sizeof(int32_t)));
}

/* Decode: a maximum, a sum and a vector for each row, head and chunk of keys. Prefill: dense keys and values in f16. */
static size_t attn_bytes(const struct fr_cuda *d, const struct fr_limits *l)
{
	const size_t chunks = (size_t)fr_ceil_div(l->max_pos, FR_ATTN_CHUNK), heads = (size_t)l->heads;
	const size_t decode = (size_t)l->decode_rows * heads * chunks * (size_t)(l->head_dim + 2) * sizeof(float);
	const size_t dense = (size_t)l->rows * (size_t)l->dense * 2 * sizeof(uint16_t);

	return fr_cu_align(d->precise || decode > dense ? decode : dense);
}

static size_t part_bytes(const struct fr_cuda *d, enum fr_cu_part part, const struct fr_limits *l)
{
	switch (part) {
	case FR_PART_ATTN:
		return attn_bytes(d, l);
	case FR_PART_PICK:
		return fr_cu_align(most_rows(l) * sizeof(int32_t));
	case FR_PART_LT:
		return fr_cu_align(fr_cu_lt_bytes(d, l));
	default:
		return 0;
	}
}

/* Gives each piece its place in `block`, or with NULL only counts: the one list for both. */
static size_t lay_out(struct fr_cuda *d, const struct fr_limits *l, char *block)
{
	struct fr_cu_scratch *s = d->scratch;
	struct {
		struct fr_cu_block *b;
		size_t bytes;
	} piece[FR_PARTS + 2 + FR_CU_INPUTS + 1];
	size_t at = 0;
	int n = 0;

	for (int i = 0; i < FR_PARTS; i++, n++)
		piece[n].b = &s->part[i], piece[n].bytes = part_bytes(d, (enum fr_cu_part)i, l);
	for (int i = 0; i < 2; i++, n++)
		piece[n].b = &s->form[i].block, piece[n].bytes = fr_cu_form_bytes(d, l);
	for (int i = 0; i < FR_CU_INPUTS; i++, n++)
		piece[n].b = &s->input[i].dev, piece[n].bytes = array_bytes(l);
	piece[n].b = &s->step_dev, piece[n++].bytes = step_bytes(l);
	for (int i = 0; i < n; i++) {
		if (block) {
			free_block(d, piece[i].b);
			*piece[i].b = (struct fr_cu_block){block + at, piece[i].bytes, 0};
		}
		at += piece[i].bytes;
	}
	return at;
}

size_t fr_cu_work_bytes(struct fr_dev *dev, const struct fr_limits *limits)
{
	return lay_out((struct fr_cuda *)dev, limits, NULL);
}

/* Nothing that is in memory now is known any more. */
static void forget(struct fr_cuda *d)
{
	fr_cu_forms_forget(d->scratch);
	for (int i = 0; i < FR_CU_INPUTS; i++)
		d->scratch->input[i].bytes = 0;
}

void fr_cu_work(struct fr_dev *dev, void *block, size_t bytes, const struct fr_limits *limits)
{
	struct fr_cuda *d = (struct fr_cuda *)dev;

	assert(bytes >= lay_out(d, limits, NULL));
	fr_cu_steps_restart(d);
	forget(d);
	lay_out(d, limits, block);
	d->scratch->work = block;
	d->scratch->work_bytes = bytes;
}

static struct fr_cu_block *no_piece(struct fr_cu_block *b)
{
	if (!b->own)
		*b = (struct fr_cu_block){0};
	return b;
}

/* The caller takes the block of work() back. */
static void leave_work(struct fr_cu_scratch *s)
{
	for (int i = 0; i < FR_PARTS; i++)
		no_piece(&s->part[i]);
	for (int i = 0; i < 2; i++)
		no_piece(&s->form[i].block);
	for (int i = 0; i < FR_CU_INPUTS; i++)
		no_piece(&s->input[i].dev);
	no_piece(&s->step_dev);
	s->work = NULL;
	s->work_bytes = 0;
}

void fr_cu_gone(struct fr_cuda *d, const void *p, size_t bytes)
{
	struct fr_cu_scratch *s = d->scratch;
	const char *from = p;

	if (!s)
		return;
	fr_cu_steps_drop(d);
	fr_cu_wrote(d, p, bytes);
	if (s->work && from < s->work + s->work_bytes && s->work < from + bytes) {
		fr_cu_steps_restart(d);
		forget(d);
		leave_work(s);
	}
}

void fr_cu_synced(struct fr_cuda *d)
{
	d->scratch->epoch++;
	fr_cu_steps_bring(d);
	for (int i = 0; i < 2; i++) /* launches are counted anew from here */
		d->scratch->form[i].given = FR_CU_LAUNCHED;
	if (d->error)
		forget(d);
}

/* ---- life ---- */

int fr_cu_scratch_open(struct fr_cuda *d, struct fr_error *err)
{
	const char *graph = getenv("FR_RUN_CUDA_GRAPH");

	d->scratch = calloc(1, sizeof *d->scratch);
	if (!d->scratch)
		return fr_fail(err, FR_E_MEMORY, "cannot allocate %zu bytes for the CUDA backend", sizeof *d->scratch);
	d->scratch->epoch = 1;
	fr_cu_forms_forget(d->scratch);
	d->scratch->off = !d->cu->record_begin || (graph && strcmp(graph, "0") == 0);
	return 0;
}

static void close_staging(struct fr_cuda *d, struct fr_cu_staging *s)
{
	if (s->host)
		d->cu->release_host(d->at, s->host);
}

void fr_cu_scratch_close(struct fr_cuda *d)
{
	struct fr_cu_scratch *s = d->scratch;

	if (!s)
		return;
	fr_cu_steps_free(d);
	for (int i = 0; i < FR_PARTS; i++)
		free_block(d, &s->part[i]);
	for (int i = 0; i < 2; i++)
		free_block(d, &s->form[i].block);
	for (int i = 0; i < FR_CU_INPUTS; i++) {
		free_block(d, &s->input[i].dev);
		close_staging(d, &s->input[i].from);
	}
	free_block(d, &s->step_dev);
	for (int i = 0; i < FR_CU_STEP_STAGINGS; i++)
		close_staging(d, &s->step_from[i]);
	free(s);
	d->scratch = NULL;
}
