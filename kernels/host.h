/* The memory half of the operations table, common to the instances that compute in host memory (ref and cpu); and what
 * every instance asks of a tensor. */
#ifndef FR_KERNELS_HOST_H
#define FR_KERNELS_HOST_H

#include "pick.h"

/* A tensor as the matrix it lies as, *out (data is the tensor's own), or as a vector of *items; -1 with a sentence when
 * its type or shape is none that a device takes. */
int fr_mat_of(const struct fr_tensor *t, struct fr_mat *out, struct fr_error *err);
int fr_vec_of(const struct fr_tensor *t, size_t *items, struct fr_error *err);

/* An instance in host memory begins with this. */
struct fr_host {
	struct fr_dev dev;
	struct fr_host_block *blocks; /* everything allocated and not released */
	struct fr_candidate *room;    /* [room_n]: taken by the first pick that samples */
	int room_n;
	struct fr_error error; /* of an operation, for the next sync */
};
int fr_host_alloc(struct fr_dev *dev, size_t bytes, void **out, struct fr_error *err);
void fr_host_release(struct fr_dev *dev, void *p, size_t bytes);
/* put and copy; get too, which has the same order of arguments. Ranges must not overlap. */
void fr_host_copy(struct fr_dev *dev, void *dst, const void *src, size_t bytes);
int fr_host_weight(struct fr_dev *dev, const struct fr_tensor *t, struct fr_mat *out, struct fr_error *err);
int fr_host_vector(struct fr_dev *dev, const struct fr_tensor *t, const float **out, struct fr_error *err);
void fr_host_pick(struct fr_dev *dev, const struct fr_pick *a);
int fr_host_sync(struct fr_dev *dev, struct fr_error *err);
void fr_host_room(struct fr_dev *dev, size_t *left, size_t *total);
void fr_host_release_all(struct fr_host *host);

/* kernels/host_room.c: bytes of memory that this process may still take, and the most it may ever have; files are looked
 * for below root ("" but in tests). Both 0: the system does not say. */
void fr_memory_room(const char *root, size_t *left, size_t *total);

/* The call for the item after a's: dense operands one image further. */
static inline struct fr_attn fr_attn_next(const struct fr_attn *a)
{
	size_t width = (size_t)a->heads * (size_t)a->head_dim, rows = (size_t)a->rows, keys = (size_t)a->kv_rows;
	struct fr_attn next = *a;

	next.q += rows * width;
	next.y += rows * width;
	if (a->k)
		next.k += keys * width;
	if (a->v)
		next.v += keys * width;
	if (a->bias)
		next.bias += (size_t)a->heads * rows * keys;
	return next;
}

#endif
