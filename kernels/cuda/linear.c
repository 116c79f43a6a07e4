/* Matrix products: which family of kernels computes one, by phase and by the weight's type; never by the number of
 * rows.
 *
 *   decode                   skinny, any type
 *   prefill, f32             gemm_f32, the contract's bits
 *   prefill, bf16 and f16    cuBLASLt where it has an algorithm for the weight's shape, else gemm
 *
 * A chain of products of one input is one launch as far as its types agree. */
#include "cuda.h"

#include <assert.h>

static void wrote(struct fr_cuda *d, const struct fr_linear *a)
{
	fr_cu_wrote(d, a->y, (size_t)a->rows * (size_t)a->w.rows * sizeof(float));
}

/* Products of one type, as a chain. */
static void run_chain(struct fr_cuda *d, const struct fr_linear *a)
{
	d->act_dtype = a->w.dtype;
	if (a->phase == FR_DECODE)
		fr_cu_skinny(d, a);
	else if (a->w.dtype == FR_F32)
		fr_cu_gemm_f32(d, a);
	else
		fr_cu_gemm(d, a);
}

/* 1 when cuBLASLt did it. */
static int run_lt(struct fr_cuda *d, const struct fr_linear *a)
{
	return d->lt && a->phase == FR_PREFILL && a->w.dtype != FR_F32 && fr_cu_lt_linear(d, a);
}

void fr_cu_linear(struct fr_dev *dev, const struct fr_linear *a)
{
	struct fr_cuda *d = (struct fr_cuda *)dev;
	struct fr_linear chain[FR_MAX_ALSO];
	int n = 0;

	if (a->rows == 0)
		return;
	fr_cu_uploaded(d);
	for (const struct fr_linear *i = a; i; i = i->also)
		wrote(d, i);
	for (const struct fr_linear *i = a; i; i = i->also) {
		struct fr_linear one = *i;

		assert(i->rows == a->rows && i->phase == a->phase && i->w.cols == a->w.cols);
		/* launched before the next matrix is asked for, which may take a buffer of these */
		if (n == FR_MAX_ALSO || (n && i->w.dtype != chain[0].w.dtype)) {
			run_chain(d, chain);
			n = 0;
		}
		one.w = fr_cu_near(d, &i->w, i->phase);
		one.also = NULL;
		if (run_lt(d, &one))
			continue;
		chain[n] = one;
		if (n)
			chain[n - 1].also = &chain[n];
		n++;
	}
	if (n)
		run_chain(d, chain);
}

/* gate and up of two types, which no real model has: two products and a gate. Its work memory is not in work_bytes. */
static void glu_apart(struct fr_cuda *d, const struct fr_glu *a)
{
	float *up = fr_cu_part(d, FR_PART_GEMM, (size_t)a->rows * (size_t)a->up.rows * sizeof *up);
	const struct fr_linear second = {.x = a->x, .w = a->up, .y = up, .rows = a->rows, .phase = a->phase};
	const struct fr_linear first = {
		.x = a->x, .w = a->gate, .y = a->y, .rows = a->rows, .phase = a->phase, .also = &second};
	const struct fr_gate gate = {
		.gate = a->y, .up = up, .y = a->y, .rows = a->rows, .cols = a->up.rows, .phase = a->phase};

	if (!up)
		return;
	fr_cu_linear(&d->dev, &first);
	fr_cu_gate(&d->dev, &gate);
}

void fr_cu_glu(struct fr_dev *dev, const struct fr_glu *a)
{
	struct fr_cuda *d = (struct fr_cuda *)dev;
	struct fr_glu one = *a;

	assert(a->gate.rows == a->up.rows && a->gate.cols == a->up.cols);
	if (a->rows == 0)
		return;
	if (a->gate.dtype != a->up.dtype) {
		glu_apart(d, a);
		return;
	}
	fr_cu_uploaded(d);
	fr_cu_wrote(d, a->y, (size_t)a->rows * (size_t)a->gate.rows * sizeof(float));
	one.gate = fr_cu_near(d, &a->gate, a->phase);
	one.up = fr_cu_near(d, &a->up, a->phase);
	d->act_dtype = a->gate.dtype;
	if (a->phase == FR_DECODE)
		fr_cu_skinny_glu(d, &one);
	else if (a->gate.dtype == FR_F32)
		fr_cu_gemm_f32_glu(d, &one);
	else if (!d->lt || !fr_cu_lt_glu(d, &one))
		fr_cu_gemm_glu(d, &one);
}
