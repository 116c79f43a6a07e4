/* Taps: every named intermediate of the forward pass passes by here, once.
 *
 * Without a sink a tap is one predictable branch. With one, the sink says which names it wants and gets the values in
 * host memory, in the order in which the forward pass makes them. Names: docs/DESIGN.md, section Taps. */
#ifndef FR_ENGINE_TAP_H
#define FR_ENGINE_TAP_H

#include "../kernels/ops.h"

struct fr_tap {
	void *user;
	int (*want)(void *user, const char *name);
	/* values [n], valid during the call */
	void (*take)(void *user, const char *name, const float *values, size_t n);
	float *host; /* scratch that grows to the largest tensor taken */
	size_t host_n;
	int failed;  /* no memory for scratch, or the device failed: */
	struct fr_error error;
};

/* 1 if tap is set and wants the name ROLE.FORMAT. */
int fr_tap_wants(struct fr_tap *tap, const char *role, const char *format, int layer);
/* Hands x [n] in device memory to the sink if it wants the name; format may hold one %d for the layer. */
void fr_tap_put(struct fr_tap *tap, struct fr_dev *dev, const char *role, const char *format, int layer, const float *x,
		size_t n);
void fr_tap_free(struct fr_tap *tap);

#endif
