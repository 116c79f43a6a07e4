/* The memory half of the operations table, common to the instances that compute in host memory (ref and cpu). */
#ifndef FR_KERNELS_HOST_H
#define FR_KERNELS_HOST_H

#include "ops.h"

/* An instance in host memory begins with this. */
struct fr_host {
	struct fr_dev dev;
	struct fr_host_block *blocks; /* everything allocated and not released */
};
int fr_host_alloc(struct fr_dev *dev, size_t bytes, void **out, struct fr_error *err);
void fr_host_release(struct fr_dev *dev, void *p, size_t bytes);
/* put and copy; get too, which has the same order of arguments. Ranges must not overlap. */
void fr_host_copy(struct fr_dev *dev, void *dst, const void *src, size_t bytes);
int fr_host_weight(struct fr_dev *dev, const struct fr_tensor *t, struct fr_mat *out, struct fr_error *err);
int fr_host_vector(struct fr_dev *dev, const struct fr_tensor *t, const float **out, struct fr_error *err);
int fr_host_sync(struct fr_dev *dev, struct fr_error *err);
void fr_host_release_all(struct fr_host *host);

#endif
