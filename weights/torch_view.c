/* A tensor of torch is a view of a storage: first item, size and stride, in items. Where its items lie in the order of
 * its shape, as nearly all do, it is used there. A transposed, cut or expanded view is copied into that order; a file
 * may cost no more memory for copies than its own size, so that no few bytes can ask for much. */
#include "torch.h"

#include <stdlib.h>

/* Items of the shape, and whether they lie in memory in its order without gaps. */
static int measure(const struct fr_tensor *t, const int64_t *strides, uint64_t *items, int *in_order,
		   struct fr_error *err)
{
	uint64_t step = 1;
	char shape[180];

	*in_order = 1;
	*items = 0;
	for (int i = 0; i < t->ndim; i++)
		if (t->shape[i] == 0)
			return 0;
	for (int i = t->ndim; i-- > 0;) {
		if (t->shape[i] != 1)
			*in_order &= (uint64_t)strides[i] == step;
		if (__builtin_mul_overflow(step, (uint64_t)t->shape[i], &step) || step > INT64_MAX)
			return fr_fail(err, FR_E_MODEL, "%s: tensor %.200s: %s is more than 2^63 items", t->file,
				       t->name, fr_shape_text(t->shape, t->ndim, shape, sizeof shape));
	}
	*items = step;
	return 0;
}

/* Does the view, which is not empty, end inside its storage of `room` items? */
static int ends_inside(const struct fr_tensor *t, const int64_t *strides, uint64_t begin, uint64_t room)
{
	uint64_t last = begin, step;

	for (int i = 0; i < t->ndim; i++)
		if (__builtin_mul_overflow((uint64_t)t->shape[i] - 1, (uint64_t)strides[i], &step) ||
		    __builtin_add_overflow(last, step, &last))
			return 0;
	return last < room;
}

/* The items one after the other in the order of the shape. Offsets wrap around where a dimension of 1 has a wild
 * stride, and come back. */
static void gather(const uint8_t *from, const int64_t *strides, const struct fr_tensor *t, uint8_t *to)
{
	const uint64_t item = (uint64_t)fr_dtypes[t->dtype].bytes;
	int64_t at[FR_MAX_DIMS] = {0};
	uint64_t offset = 0;

	for (const uint8_t *end = to + t->bytes; to < end; to += item) {
		memcpy(to, from + offset, item);
		for (int d = t->ndim; d-- > 0;) {
			offset += (uint64_t)strides[d] * item;
			if (++at[d] < t->shape[d])
				break;
			offset -= (uint64_t)strides[d] * (uint64_t)t->shape[d] * item;
			at[d] = 0;
		}
	}
}

static int copy(const uint8_t *from, const int64_t *strides, struct fr_tensor *t, size_t limit,
		struct fr_tensors *owner, struct fr_error *err)
{
	char shape[180], text[180];
	void **list, *to;

	if (t->bytes > limit - owner->copied_bytes)
		return fr_fail(
			err, FR_E_MODEL,
			"%s: tensor %.200s: a transposed, cut or expanded view (size %s, stride %s), of which there "
			"may be no more than the file is large; save it with .contiguous()",
			t->file, t->name, fr_shape_text(t->shape, t->ndim, shape, sizeof shape),
			fr_shape_text(strides, t->ndim, text, sizeof text));
	list = realloc(owner->copies, (owner->n_copies + 1) * sizeof *list);
	if (list)
		owner->copies = list;
	to = list ? malloc(t->bytes) : NULL;
	if (!to)
		return fr_fail(err, FR_E_MEMORY, "%s: no memory for a copy of tensor %.200s (%zu bytes)", t->file,
			       t->name, t->bytes);
	owner->copies[owner->n_copies++] = to;
	owner->copied_bytes += t->bytes;
	gather(from, strides, t, to);
	t->data = to;
	return 0;
}

int fr_torch_view(const uint8_t *storage, uint64_t room, int64_t begin, const int64_t *strides, struct fr_tensor *t,
		  size_t limit, struct fr_tensors *owner, struct fr_error *err)
{
	uint64_t items;
	int in_order;

	FR_TRY(measure(t, strides, &items, &in_order, err));
	if (begin < 0 || (uint64_t)begin > room || (items && !ends_inside(t, strides, (uint64_t)begin, room)))
		return fr_fail(err, FR_E_MODEL,
			       "%s: tensor %.200s: its %llu items from item %lld on reach out of its storage of %llu",
			       t->file, t->name, (unsigned long long)items, (long long)begin, (unsigned long long)room);
	t->data = storage + (uint64_t)begin * (uint64_t)fr_dtypes[t->dtype].bytes;
	if (__builtin_mul_overflow(items, (uint64_t)fr_dtypes[t->dtype].bytes, &t->bytes))
		t->bytes = SIZE_MAX; /* an expanded view beyond any limit */
	return in_order ? 0 : copy(t->data, strides, t, limit, owner, err);
}
