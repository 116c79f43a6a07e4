/* Packed activations: x as the 16-bit terms that a product on the tensor cores reads.
 *
 * There are two forms: one that the next launch reads, one that it may write. Each remembers what it holds, so that q,
 * k, v of one input pack it once, and a producer that knows its reader leaves the terms with its result
 * (fr_cu_pack_out), which saves a pass over memory. The danger is a stale form: whoever writes memory says so
 * (fr_cu_wrote), before it asks where to leave the new terms. */
#include "scratch.h"

#define THREADS 256

/* Terms of prefill rows, and of decode rows, whichever is more; a scale for each row behind them. */
size_t fr_cu_form_bytes(const struct fr_cuda *d, const struct fr_limits *limits)
{
	const size_t prefill = (size_t)limits->rows * (size_t)fr_cu_terms(d->precise, FR_PREFILL);
	const size_t decode = (size_t)limits->decode_rows * (size_t)fr_cu_terms(d->precise, FR_DECODE);
	const size_t most = limits->rows > limits->decode_rows ? (size_t)limits->rows : (size_t)limits->decode_rows;

	return fr_cu_align((prefill > decode ? prefill : decode) * (size_t)fr_pitch(limits->cols) * sizeof(uint16_t)) +
	       fr_cu_align(most * sizeof(float));
}

static void forget(struct fr_cu_form *f)
{
	f->x = NULL;
	f->packed = (struct fr_packed){0};
}

void fr_cu_forms_forget(struct fr_cu_scratch *s)
{
	for (int i = 0; i < 2; i++) {
		forget(&s->form[i]);
		s->form[i].given = FR_CU_LAUNCHED;
	}
}

void fr_cu_forms_even(struct fr_cuda *d)
{
	struct fr_cu_block *a = &d->scratch->form[0].block, *b = &d->scratch->form[1].block;

	fr_cu_need(d, a, b->bytes, "memory for packed activations");
	fr_cu_need(d, b, a->bytes, "memory for packed activations");
}

void fr_cu_wrote(struct fr_cuda *d, const void *p, size_t bytes)
{
	const char *from = p;

	for (int i = 0; i < 2; i++) {
		struct fr_cu_form *f = &d->scratch->form[i];
		const char *x = (const char *)f->x;
		size_t span;

		if (!x)
			continue;
		span = ((size_t)(f->packed.rows - 1) * f->stride + (size_t)f->packed.cols) * sizeof(float);
		if (from < x + span && x < from + bytes)
			forget(f);
	}
}

static int holds(const struct fr_cu_form *f, const float *x, size_t stride, int rows, int cols, enum fr_dtype dtype,
		 int terms)
{
	return f->x == x && f->stride == stride && f->packed.rows == rows && f->packed.cols == cols &&
	       f->packed.dtype == dtype && f->packed.terms >= terms;
}

/* Bytes of a form's terms, its scales behind them. */
static size_t data_bytes(int rows, int cols, int terms)
{
	return fr_cu_align((size_t)terms * (size_t)rows * (size_t)fr_pitch(cols) * sizeof(uint16_t));
}

/* The form that the launch in preparation does not read, for x; NULL after a failure. */
static struct fr_cu_form *take_form(struct fr_cuda *d, const float *x, size_t stride, int rows, int cols,
				    enum fr_dtype dtype, int terms)
{
	struct fr_cu_form *f = &d->scratch->form[1 - d->scratch->reads];
	const size_t data = data_bytes(rows, cols, terms);
	const size_t scale = dtype == FR_F16 ? (size_t)rows * sizeof(float) : 0;
	char *p;

	forget(f);
	p = fr_cu_need(d, &f->block, data + scale, "memory for packed activations");
	if (!p)
		return NULL;
	f->x = x;
	f->stride = stride;
	f->packed = (struct fr_packed){.data = (const uint16_t *)p,
				       .scale = scale ? (const float *)(p + data) : NULL,
				       .dtype = dtype,
				       .rows = rows,
				       .cols = cols,
				       .pitch = fr_pitch(cols),
				       .terms = terms};
	return f;
}

static void run_pack(struct fr_cuda *d, const struct fr_cu_form *f)
{
	const struct fr_packed *p = &f->packed;
	const struct fr_pack_args a = {.x = f->x,
				       .stride = f->stride,
				       .out = (uint16_t *)p->data,
				       .scale = (float *)p->scale,
				       .rows = p->rows,
				       .cols = p->cols,
				       .pitch = p->pitch,
				       .terms = p->terms,
				       .vector = (uintptr_t)f->x % 16 == 0 && f->stride % 4 == 0};

	if (p->dtype == FR_F16)
		FR_CU_RUN(d, fr_pack_f16, (unsigned)p->rows, 1, 1, THREADS, THREADS / 32 * sizeof(uint32_t), a);
	else
		FR_CU_RUN(d, fr_pack_bf16, (unsigned)fr_ceil_div(p->rows * (p->pitch / 8), THREADS), 1, 1, THREADS, 0,
			  a);
}

struct fr_packed fr_cu_pack(struct fr_cuda *d, const float *x, size_t stride, int rows, int cols, enum fr_dtype dtype,
			    int terms)
{
	struct fr_cu_scratch *s = d->scratch;
	struct fr_packed found;
	int i = 0;

	while (i < 2 && !holds(&s->form[i], x, stride, rows, cols, dtype, terms))
		i++;
	if (i == 2) {
		struct fr_cu_form *f = take_form(d, x, stride, rows, cols, dtype, terms);

		if (!f)
			return (struct fr_packed){0};
		run_pack(d, f);
		i = (int)(f - s->form);
	}
	s->reads = i;
	s->form[i].given = FR_CU_LAUNCHED;
	found = s->form[i].packed;
	found.terms = terms;
	return found;
}

/* A chain of products asks for each of its outputs: one of them gets the form. */
struct fr_packed fr_cu_pack_out(struct fr_cuda *d, const float *y, int rows, int cols, enum fr_phase phase)
{
	struct fr_cu_scratch *s = d->scratch;
	struct fr_cu_form *f = &s->form[1 - s->reads];
	const int terms = fr_cu_terms(d->precise, phase);

	/* logits are wider than any input of a product, which work() has not reckoned with */
	if (d->act_dtype != FR_BF16 || d->error || f->given == d->launches ||
	    ((s->work || s->recording) && data_bytes(rows, cols, terms) > f->block.bytes))
		return (struct fr_packed){0};
	f = take_form(d, y, (size_t)cols, rows, cols, FR_BF16, terms);
	if (!f)
		return (struct fr_packed){0};
	f->given = d->launches;
	return f->packed;
}
