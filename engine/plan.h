/* The memory plan: a table of buffers, one block per device, nothing taken afterwards.
 *
 * A call to the device is one stage after another, and a buffer is alive in some of them. Two that are never alive
 * together may lie over each other. */
#ifndef FR_ENGINE_PLAN_H
#define FR_ENGINE_PLAN_H

#include "../kernels/ops.h"

enum fr_lifetime {
	FR_LIVE_SESSION,  /* always */
	FR_LIVE_VISION,   /* inside one encoder */
	FR_LIVE_BRANCHES, /* from an encoder to where the branches are joined */
	FR_LIVE_FUSION,   /* the joining attention */
	FR_LIVE_FFN,      /* the network behind it */
	FR_LIVE_DECODER,
	FR_LIFETIMES
};

struct fr_buffer {
	const char *name;
	void *slot; /* the pointer, of any type, that gets the address */
	enum fr_dtype dtype;
	size_t rows, cols;
	enum fr_lifetime live;
	size_t offset, bytes; /* filled by the plan */
};
#define FR_MAX_BUFFERS 48
struct fr_plan {
	struct fr_buffer at[FR_MAX_BUFFERS];
	int n;
	size_t total;
	void *block;
};
void fr_plan_add(struct fr_plan *p, const char *name, void *slot, enum fr_dtype dtype, size_t rows, size_t cols,
		 enum fr_lifetime live);
void fr_plan_layout(struct fr_plan *p); /* offsets and total, nothing taken */
/* After fr_plan_layout: takes the block and fills the slots. */
int fr_plan_take(struct fr_plan *p, struct fr_dev *dev, struct fr_error *err);
/* Bytes of the buffer whose slot that is; 0: none. */
size_t fr_plan_bytes(const struct fr_plan *p, const void *slot);
void fr_plan_release(struct fr_plan *p, struct fr_dev *dev);
void fr_plan_print(const struct fr_plan *p, FILE *out);

#endif
