/* Offsets, total, one allocation: see plan.h. */
#include "plan.h"

#include <assert.h>

#define ALIGN 256 /* what devices give blocks of their own; a multiple of a cache line and of the widest vector */

enum { VISION = 1, FUSION = 2, FFN = 4, DECODER = 8 };
static const struct {
	const char *name;
	unsigned stages;
} lifetimes[FR_LIFETIMES] = {
	[FR_LIVE_SESSION] = {"session", VISION | FUSION | FFN | DECODER},
	[FR_LIVE_VISION] = {"vision", VISION},
	[FR_LIVE_BRANCHES] = {"branches", VISION | FUSION},
	[FR_LIVE_FUSION] = {"fusion", FUSION},
	[FR_LIVE_FFN] = {"fusion ffn", FFN},
	[FR_LIVE_DECODER] = {"decoder", DECODER},
};

void fr_plan_add(struct fr_plan *p, const char *name, void *slot, enum fr_dtype dtype, size_t rows, size_t cols,
		 enum fr_lifetime live)
{
	assert(p->n < FR_MAX_BUFFERS && "raise FR_MAX_BUFFERS");
	p->at[p->n++] = (struct fr_buffer){
		.name = name, .slot = slot, .dtype = dtype, .rows = rows, .cols = cols, .live = live};
}

static size_t end_of(const struct fr_buffer *b)
{
	return b->offset + (b->bytes + ALIGN - 1) / ALIGN * ALIGN;
}

/* The lowest place where the buffer touches none before it in the table that is alive with it. */
static void place(const struct fr_plan *p, struct fr_buffer *b)
{
	b->offset = 0;
	for (const struct fr_buffer *o = p->at; o < b;)
		if (lifetimes[o->live].stages & lifetimes[b->live].stages && o->bytes && b->bytes &&
		    o->offset < end_of(b) && b->offset < end_of(o)) {
			b->offset = end_of(o);
			o = p->at;
		} else {
			o++;
		}
}

void fr_plan_layout(struct fr_plan *p)
{
	p->total = 0;
	for (int i = 0; i < p->n; i++) {
		struct fr_buffer *b = &p->at[i];
		b->bytes = b->rows * b->cols * (size_t)fr_dtypes[b->dtype].bytes;
		place(p, b);
		if (end_of(b) > p->total)
			p->total = end_of(b);
	}
}

int fr_plan_take(struct fr_plan *p, struct fr_dev *dev, struct fr_error *err)
{
	FR_TRY(dev->ops->alloc(dev, p->total, &p->block, err));
	for (int i = 0; i < p->n; i++) {
		const void *at = (char *)p->block + p->at[i].offset;
		memcpy(p->at[i].slot, &at, sizeof at);
	}
	return 0;
}

size_t fr_plan_bytes(const struct fr_plan *p, const void *slot)
{
	for (int i = 0; i < p->n; i++)
		if (p->at[i].slot == slot)
			return p->at[i].bytes;
	return 0;
}

void fr_plan_release(struct fr_plan *p, struct fr_dev *dev)
{
	if (p->block)
		dev->ops->release(dev, p->block, p->total);
	p->block = NULL;
}

void fr_plan_print(const struct fr_plan *p, FILE *out)
{
	fprintf(out, "%-16s %-5s %22s %12s  %s\n", "buffer", "dtype", "shape", "MiB", "lifetime");
	for (int i = 0; i < p->n; i++) {
		const struct fr_buffer *b = &p->at[i];
		char shape[48];
		snprintf(shape, sizeof shape, "[%zu, %zu]", b->rows, b->cols);
		fprintf(out, "%-16s %-5s %22s %12.2f  %s\n", b->name, fr_dtypes[b->dtype].name, shape,
			(double)b->bytes / (1 << 20), lifetimes[b->live].name);
	}
	fprintf(out, "%-16s %-5s %22s %12.2f  (buffers that are never alive together share their place)\n", "total", "",
		"", (double)p->total / (1 << 20));
}
