/* Arrays on a device for tests that call operations themselves: whatever fails ends the test. */
#ifndef FR_CUDA_ARRAYS_H
#define FR_CUDA_ARRAYS_H

#include "../kernels/ops.h"
#include "test.h"

#include <stdlib.h>

static inline void must(int rc, const struct fr_error *err)
{
	if (rc == 0)
		return;
	test_fail("device", "%s", err->text);
	exit(1);
}

static inline float random_float(void)
{
	static uint64_t seed = 7;

	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return (float)((int32_t)(seed >> 40) - (1 << 23)) * 0x1p-23f;
}

static inline void *upload(struct fr_dev *dev, const void *from, size_t bytes)
{
	struct fr_error err;
	void *p;

	must(dev->ops->alloc(dev, bytes, &p, &err), &err);
	if (from)
		dev->ops->put(dev, p, from, bytes);
	return p;
}

static inline float *random_array(struct fr_dev *dev, size_t n, float size)
{
	float *x = malloc(n * sizeof *x), *there;

	for (size_t i = 0; i < n; i++)
		x[i] = size * random_float();
	there = upload(dev, x, n * sizeof *x);
	free(x);
	return there;
}

static inline float *fetch(struct fr_dev *dev, const float *from, size_t n)
{
	float *x = malloc(n * sizeof *x);
	struct fr_error err;

	dev->ops->get(dev, x, from, n * sizeof *x);
	must(dev->ops->sync(dev, &err), &err);
	return x;
}

/* How many of n floats differ; frees both. */
static inline size_t differing(float *x, float *y, size_t n)
{
	size_t bad = 0;

	for (size_t i = 0; i < n; i++)
		bad += fr_f32_bits(x[i]) != fr_f32_bits(y[i]);
	free(x);
	free(y);
	return bad;
}

static inline struct fr_dev *open_cuda(int with_precise)
{
	struct fr_dev_opts opts = {.backend = "cuda", .precise = with_precise, .no_cublas = 1};
	struct fr_dev *dev;
	struct fr_error err;

	must(fr_cuda_open(&opts, &dev, &err), &err);
	return dev;
}

#endif
