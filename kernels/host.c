/* Host memory as device memory: blocks are listed, so that closing an instance frees what it still holds, and weights
 * stay where the file is mapped. */
#include "host.h"

#include <limits.h>
#include <stdlib.h>

#define ALIGN 64

/* Lies in the ALIGN bytes before the memory handed out. */
struct fr_host_block {
	struct fr_host_block *prev, *next;
	void *raw;
	size_t bytes;
};
_Static_assert(sizeof(struct fr_host_block) <= ALIGN, "the header must fit before an aligned block");

int fr_host_alloc(struct fr_dev *dev, size_t bytes, void **out, struct fr_error *err)
{
	struct fr_host *host = (struct fr_host *)dev;
	struct fr_host_block *b;
	char *raw = NULL;

	/* calloc, not memset after an aligned allocation: large blocks come zeroed from the kernel, page by page. */
	if (bytes <= SIZE_MAX - 2 * ALIGN)
		raw = calloc(1, bytes + 2 * ALIGN);
	if (!raw)
		return fr_fail(err, FR_E_MEMORY, "cannot allocate %zu bytes (%.1f MiB) of host memory", bytes,
			       (double)bytes / 1048576);
	*out = raw + 2 * ALIGN - (uintptr_t)raw % ALIGN;
	b = (struct fr_host_block *)((char *)*out - ALIGN);
	*b = (struct fr_host_block){.next = host->blocks, .raw = raw, .bytes = bytes};
	if (b->next)
		b->next->prev = b;
	host->blocks = b;
	dev->held += bytes;
	return 0;
}

void fr_host_release(struct fr_dev *dev, void *p, size_t bytes)
{
	struct fr_host *host = (struct fr_host *)dev;
	struct fr_host_block *b;

	(void)bytes;
	if (!p)
		return;
	b = (struct fr_host_block *)((char *)p - ALIGN);
	if (b->prev)
		b->prev->next = b->next;
	else
		host->blocks = b->next;
	if (b->next)
		b->next->prev = b->prev;
	dev->held -= b->bytes;
	free(b->raw);
}

void fr_host_release_all(struct fr_host *host)
{
	while (host->blocks)
		fr_host_release(&host->dev, (char *)host->blocks + ALIGN, host->blocks->bytes);
}

void fr_host_copy(struct fr_dev *dev, void *dst, const void *src, size_t bytes)
{
	(void)dev;
	if (bytes)
		memcpy(dst, src, bytes);
}

int fr_mat_of(const struct fr_tensor *t, struct fr_mat *out, struct fr_error *err)
{
	char shape[96];
	int64_t cols = 1;

	if (!fr_dtypes[t->dtype].real || t->ndim < 2)
		return fr_fail(err, FR_E_MODEL, "%s: tensor %s is %s %s, expected a matrix of f32, f16, bf16 or q8_0",
			       t->file, t->name, fr_dtypes[t->dtype].name,
			       fr_shape_text(t->shape, t->ndim, shape, sizeof shape));
	if (t->shape[t->ndim - 1] % fr_dtypes[t->dtype].items)
		return fr_fail(err, FR_E_MODEL, "%s: tensor %s is %s %s, expected rows of a multiple of %d items",
			       t->file, t->name, fr_dtypes[t->dtype].name,
			       fr_shape_text(t->shape, t->ndim, shape, sizeof shape), fr_dtypes[t->dtype].items);
	for (int i = 1; i < t->ndim; i++)
		if (t->shape[i] <= 0 || __builtin_mul_overflow(cols, t->shape[i], &cols))
			cols = INT64_MAX;
	if (t->shape[0] <= 0 || t->shape[0] > INT_MAX || cols > FR_MAX_COLS)
		return fr_fail(err, FR_E_MODEL, "%s: tensor %s has shape %s, expected 1 to %d rows of 1 to %d columns",
			       t->file, t->name, fr_shape_text(t->shape, t->ndim, shape, sizeof shape), INT_MAX,
			       FR_MAX_COLS);
	*out = (struct fr_mat){.data = t->data, .dtype = t->dtype, .rows = (int)t->shape[0], .cols = (int)cols};
	return 0;
}

int fr_vec_of(const struct fr_tensor *t, size_t *items, struct fr_error *err)
{
	*items = fr_tensor_items(t);
	if (!fr_dtypes[t->dtype].real || fr_dtypes[t->dtype].items != 1 || *items > SIZE_MAX / sizeof(float))
		return fr_fail(err, FR_E_MODEL, "%s: tensor %s is %s, expected f32, f16 or bf16", t->file, t->name,
			       fr_dtypes[t->dtype].name);
	return 0;
}

int fr_host_weight(struct fr_dev *dev, const struct fr_tensor *t, struct fr_mat *out, struct fr_error *err)
{
	void *copy;

	FR_TRY(fr_mat_of(t, out, err));
	if ((uintptr_t)t->data % (uintptr_t)fr_dtypes[t->dtype].align == 0)
		return 0;
	FR_TRY(fr_host_alloc(dev, t->bytes, &copy, err));
	memcpy(copy, t->data, t->bytes);
	out->data = copy;
	dev->copied += t->bytes;
	return 0;
}

int fr_host_vector(struct fr_dev *dev, const struct fr_tensor *t, const float **out, struct fr_error *err)
{
	size_t n;
	void *p;

	FR_TRY(fr_vec_of(t, &n, err));
	FR_TRY(fr_host_alloc(dev, n * sizeof(float), &p, err));
	fr_to_f32(t->dtype, t->data, p, n);
	*out = p;
	return 0;
}

/* Room for the candidates of a row, kept for the next call. -1: the error waits for sync. */
static int take_room(struct fr_host *host, int vocab)
{
	void *p;

	if (vocab <= host->room_n)
		return 0;
	fr_host_release(&host->dev, host->room, 0);
	host->room = NULL;
	host->room_n = 0;
	FR_TRY(fr_host_alloc(&host->dev, (size_t)vocab * sizeof *host->room, &p, &host->error));
	host->room = p;
	host->room_n = vocab;
	return 0;
}

void fr_host_pick(struct fr_dev *dev, const struct fr_pick *a)
{
	struct fr_host *host = (struct fr_host *)dev;
	const int greedy = !a->sampler || a->sampler->temperature <= 0;

	if (!greedy && take_room(host, a->vocab) != 0)
		return;
	for (int r = 0; r < a->rows; r++)
		a->ids[r] = fr_pick_row(a->logits + (size_t)r * (size_t)a->vocab, a->vocab, a->sampler,
					greedy ? 0 : a->draw[r], host->room);
}

int fr_host_sync(struct fr_dev *dev, struct fr_error *err)
{
	struct fr_host *host = (struct fr_host *)dev;
	const struct fr_error error = host->error;

	host->error.code = FR_OK;
	return error.code == FR_OK ? 0 : fr_fail(err, error.code, "%s", error.text);
}
