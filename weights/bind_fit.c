/* Whether a tensor is what the description asks for, and the sentence about all that are not. */
#include "binder.h"

#include <stdarg.h>

#define SHOWN 8 /* misfits named in the sentence; it has room for about as many */

/* Adds one misfit to the report while there is room; the count goes on. */
__attribute__((format(printf, 2, 3))) static void note(struct binder *b, const char *format, ...)
{
	size_t room = sizeof b->report - b->reported;
	va_list ap;
	int n;

	if (b->misfits++ >= SHOWN || b->reported == sizeof b->report)
		return;
	va_start(ap, format);
	n = vsnprintf(b->report + b->reported, room, format, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= room) { /* no half sentence; nothing more after this */
		b->report[b->reported] = 0;
		b->reported = sizeof b->report;
	} else {
		b->reported += (size_t)n;
	}
}

/* The names under which a tensor was sought: all places whose file is there when its part was found in none of them. */
static void names_tried(const struct binder *b, const struct part *p, const struct fr_name_row *row, int layer,
			const struct fr_name_place *place, size_t found, char *buf, size_t size)
{
	size_t n = 0;

	buf[0] = 0;
	for (size_t i = 0; i < fr_name_place_count && n + 1 < size; i++) {
		const struct fr_name_place *at = &fr_name_places[i];
		char name[256];

		if (found ? at != place : !fr_name_is_place(at, p->part, p->branch) || !b->from[at->from])
			continue;
		fr_name_text(at, row, layer, name, sizeof name);
		if (*name)
			n += (size_t)snprintf(buf + n, size - n, "%s%s", n ? " or " : "", name);
	}
	if (n == 0)
		snprintf(buf, size, "%s", row->role);
}

/* t without the leading dimensions of 1 that it has beyond ndim. */
static struct fr_tensor without_ones(const struct fr_tensor *t, int ndim)
{
	struct fr_tensor as = *t;

	while (as.ndim > ndim && as.shape[0] == 1)
		memmove(as.shape, as.shape + 1, (size_t)--as.ndim * sizeof *as.shape);
	return as;
}

int fr_bind_fits(struct binder *b, const struct part *p, const struct fr_name_row *row, int layer,
		 const struct fr_name_place *place, size_t found, const struct fr_tensor *t, struct fr_tensor *as)
{
	char tried[600], want_text[96], got_text[160];
	const char *file;
	int64_t want[4];
	int ndim = 0;

	while (ndim < 4 && row->shape[ndim] != FR_SZ_NONE) {
		want[ndim] = p->size[row->shape[ndim]];
		ndim++;
	}
	fr_shape_text(want, ndim, want_text, sizeof want_text);
	names_tried(b, p, row, layer, place, found, tried, sizeof tried);
	if (!t) {
		file = fr_name_file(b->from, place);
		note(b, "; %s is missing%s%s, expected %s", tried, file ? " from " : "", file ? file : "", want_text);
		return 0;
	}
	*as = without_ones(t, ndim);
	if (as->ndim != ndim || memcmp(as->shape, want, (size_t)ndim * sizeof *want) != 0) {
		fr_shape_text(t->shape, t->ndim, got_text, sizeof got_text);
		note(b, "; %s in %s: expected %s, got %s", tried, t->file, want_text, got_text);
		b->misshaped++;
		return 0;
	}
	if (!fr_dtypes[t->dtype].real) {
		note(b, "; %s in %s: expected f32, f16 or bf16, got %s", tried, t->file, fr_dtypes[t->dtype].name);
		return 0;
	}
	return 1;
}

void fr_bind_unwanted(struct binder *b, const struct fr_tensor *t)
{
	char got[160];

	note(b, "; %.200s in %s: expected none, got %s", t->name, t->file,
	     fr_shape_text(t->shape, t->ndim, got, sizeof got));
}

int fr_bind_report(struct binder *b)
{
	if (b->misfits == 0)
		return 0;
	return fr_fail(b->err, FR_E_MODEL,
		       "%zu of the %zu tensors that config.json asks for are missing or do not fit%s: %s%s", b->misfits,
		       b->asked,
		       b->misshaped && b->from[FR_FROM_ADAPTER] ? " (is this the base that the adapter was trained on?)"
								: "",
		       b->report + 2, b->reported == sizeof b->report || b->misfits > SHOWN ? "; ..." : "");
}

int fr_bind_used_up(struct binder *b)
{
	for (int i = FR_FROM_TRAINED; i <= FR_FROM_ADAPTER; i++) {
		const uint8_t *asked = b->out->asked[i];
		size_t n = asked ? fr_store_count(b->from[i]) : 0, left = 0, used = 0;
		char names[700] = "";

		for (size_t k = 0; k < n; k++) {
			if (asked[k] || left++ >= SHOWN || used >= sizeof names)
				continue;
			used += (size_t)snprintf(names + used, sizeof names - used, "%s%.120s", used ? ", " : "",
						 fr_store_at(b->from[i], k)->name);
		}
		if (left)
			return fr_fail(b->err, FR_E_MODEL,
				       "%s: %zu of its %zu tensors have no place in this model, and leaving them out "
				       "would change "
				       "its answers: %s%s",
				       fr_store_at(b->from[i], 0)->file, left, n, names, left > SHOWN ? ", ..." : "");
	}
	return 0;
}
