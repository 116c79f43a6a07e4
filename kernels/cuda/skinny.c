/* Host half of skinny.cu and skinny_f32.cu: a chain of decode products of one input and one type is one launch.
 *
 * The number of rows of x chooses how many of them a block serves, which no bit depends on; more rows than that are
 * more blocks over the same weights, the grid's y. */
#include "cuda.h"

#include <assert.h>

struct variant {
	enum fr_cu_kernel kernel;
	int serves; /* rows of x at a time */
	int per;    /* weight rows of a block */
	unsigned threads;
	size_t smem;
};

#define TILE_BYTES (FR_SKINNY_WARPS * FR_SKINNY_DEPTH * 2 * 32 * 16) /* of shared memory for a tile's weights */
#define MMA(name, serves, tiles, per)                                                                                  \
	{                                                                                                              \
		FR_CU_##name, serves, (per)*FR_SKINNY_ROWS, FR_SKINNY_WARPS * 32, (tiles)*TILE_BYTES                   \
	}
#define F32_BYTES (FR_SKINNY_F32_WARPS * FR_SKINNY_F32_DEPTH * 32 * 16)
#define F32(name, serves, mats)                                                                                        \
	{                                                                                                              \
		FR_CU_##name, serves, FR_SKINNY_F32_WARPS * 4, FR_SKINNY_F32_WARPS * 32, (mats)*F32_BYTES              \
	}
#define VARIANTS 3
/* by type, then plain or GLU; each list ends with the one that serves most */
static const struct variant f32[2][VARIANTS] = {
	{F32(fr_skinny_f32_1, 1, 1), F32(fr_skinny_f32_4, 4, 1), F32(fr_skinny_f32_16, 16, 1)},
	{F32(fr_skinny_f32_glu_1, 1, 2), F32(fr_skinny_f32_glu_4, 4, 2), F32(fr_skinny_f32_glu_8, 8, 2)},
};
static const struct variant f16[2][VARIANTS] = {
	{MMA(fr_skinny_f16_8, 8, 1, 1), MMA(fr_skinny_f16_16, 16, 2, 2)},
	{MMA(fr_skinny_f16_glu_8, 8, 2, 1), MMA(fr_skinny_f16_glu_16, 16, 2, 1)},
};
static const struct variant bf16[2][VARIANTS] = {
	{MMA(fr_skinny_bf16_8, 8, 1, 1), MMA(fr_skinny_bf16_16, 16, 2, 2)},
	{MMA(fr_skinny_bf16_glu_8, 8, 2, 1), MMA(fr_skinny_bf16_glu_16, 16, 2, 1)},
};

static const struct variant *choose(enum fr_dtype dtype, int glu, int rows)
{
	const struct variant *v = dtype == FR_F32 ? f32[glu] : dtype == FR_F16 ? f16[glu] : bf16[glu];
	int i = 0;

	assert(dtype == FR_F32 || dtype == FR_F16 || dtype == FR_BF16);
	while (v[i].serves < rows && i + 1 < VARIANTS && v[i + 1].serves)
		i++;
	return &v[i];
}

/* The input: 16-bit terms, or float32 as it is. */
static void set_input(struct fr_cuda *d, struct fr_skinny_args *args, const float *x, size_t stride,
		      const struct fr_mat *w, int rows)
{
	args->rows = rows;
	args->cols = w->cols;
	args->pitch = fr_pitch(w->cols);
	args->x = x;
	args->x_stride = stride ? stride : (size_t)w->cols;
	args->x_quads = (uintptr_t)x % 16 == 0 && args->x_stride % 4 == 0 && w->cols % 4 == 0;
	if (w->dtype != FR_F32) {
		struct fr_packed p = fr_cu_pack(d, x, args->x_stride, rows, w->cols, w->dtype, 2);

		args->x = p.data;
		args->x_scale = p.scale;
		args->x_stride = (size_t)p.pitch;
		args->x_term = (size_t)rows * (size_t)p.pitch;
	}
}

/* Adds an output [rows, n] to the launch; of its blocks the first follows those that are there already. */
static struct fr_skinny_part *add_part(struct fr_cuda *d, struct fr_skinny_args *args, float *y, int n,
				       const struct variant *v, unsigned *blocks)
{
	struct fr_skinny_part *p = &args->part[args->parts++];
	struct fr_packed out = fr_cu_pack_out(d, y, args->rows, n, FR_DECODE);

	p->y = y;
	p->n = n;
	p->packed = (uint16_t *)out.data;
	p->packed_pitch = out.pitch;
	p->packed_terms = out.terms;
	p->first = (int)*blocks;
	*blocks += (unsigned)fr_ceil_div(n, v->per);
	return p;
}

static void run(struct fr_cuda *d, const struct variant *v, const struct fr_skinny_args *args, unsigned blocks)
{
	fr_cu_run(d, v->kernel, blocks, (unsigned)fr_ceil_div(args->rows, v->serves), 1, v->threads, v->smem, args,
		  sizeof *args);
}

void fr_cu_skinny(struct fr_cuda *d, const struct fr_linear *a)
{
	const struct variant *v = choose(a->w.dtype, 0, a->rows);
	struct fr_skinny_args args = {0};
	unsigned blocks = 0;

	set_input(d, &args, a->x, a->x_stride, &a->w, a->rows);
	for (const struct fr_linear *i = a; i; i = i->also) {
		struct fr_skinny_part *p;

		assert(args.parts < FR_MAX_ALSO && i->w.dtype == a->w.dtype && i->w.cols == a->w.cols);
		p = add_part(d, &args, i->y, i->w.rows, v, &blocks);
		p->w = i->w.data;
		p->bias = i->bias;
		p->scale = i->scale;
		p->residual = i->residual;
		p->act = (int)i->act;
	}
	run(d, v, &args, blocks);
}

void fr_cu_skinny_glu(struct fr_cuda *d, const struct fr_glu *a)
{
	const struct variant *v = choose(a->gate.dtype, 1, a->rows);
	struct fr_skinny_args args = {0};
	struct fr_skinny_part *p;
	unsigned blocks = 0;

	set_input(d, &args, a->x, 0, &a->gate, a->rows);
	p = add_part(d, &args, a->y, a->gate.rows, v, &blocks);
	p->w = a->gate.data;
	p->up = a->up.data;
	run(d, v, &args, blocks);
}
