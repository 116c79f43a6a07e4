/* Matrix products of the prefill phase with 16-bit weights: which tile, how many blocks, and what the kernels of
 * gemm.cu are told. Any tile gives the same bits, so the choice may look at the number of rows: it is the one that
 * keeps the multiprocessors busiest. The products of one x (q, k, v) are one launch. */
#include "gemm.h"

#include <assert.h>

#define GROUP 8 /* tiles of rows that take turns on the same weights: 8 x 128 rows by 16 x 256 columns are one wave */

struct tile {
	enum fr_cu_kernel plain[2], gated[2]; /* bf16, f16 */
	int rows, cols;
	unsigned threads;
	int smem;
	int speed; /* in percent of the large tile's, all multiprocessors full: from the limits in gemm.cu, unmeasured
		    */
};
#define TILE(name)                                                                                                     \
	{                                                                                                              \
		FR_CU_fr_gemm_##name##_bf16, FR_CU_fr_gemm_##name##_f16                                                \
	}
static const struct tile tiles[] = {
	{TILE(l), TILE(l_glu), 128, 256, 256, 3 * (128 + 256) * 128, 100},
	{TILE(m), TILE(m_glu), 128, 128, 128, 3 * (128 + 128) * 128, 85},
	{TILE(t), TILE(t_glu), 64, 128, 64, 3 * (64 + 128) * 128, 65},
	{TILE(s), TILE(s_glu), 64, 64, 128, 4 * (64 + 64) * 128, 45},
};
#undef TILE

/* Time of the busiest multiprocessor, in outputs of the large tile. */
static double cost(const struct fr_cuda *d, const struct tile *t, const struct fr_gemm_args *g, int gated)
{
	long long blocks = 0;

	for (int i = 0; i < g->parts; i++)
		blocks += fr_gemm_tiles(g->part[i].n << gated, t->cols);
	blocks *= fr_gemm_tiles(g->rows, t->rows);
	blocks = (blocks + d->info.sms - 1) / d->info.sms;
	return (double)blocks * t->rows * t->cols * 100.0 / t->speed;
}

static const struct tile *pick_tile(const struct fr_cuda *d, const struct fr_gemm_args *g, int gated)
{
	const struct tile *best = NULL;

	for (size_t i = 0; i < sizeof tiles / sizeof *tiles; i++)
		if (tiles[i].smem <= d->info.smem_block &&
		    (!best || cost(d, &tiles[i], g, gated) < cost(d, best, g, gated)))
			best = &tiles[i];
	assert(best && "every supported GPU lets a block have 99 KB");
	return best;
}

static void launch(struct fr_cuda *d, struct fr_gemm_args *g, enum fr_dtype dtype, int gated)
{
	const struct tile *t = pick_tile(d, g, gated);
	int cols = 0;

	for (int i = 0; i < g->parts; i++)
		cols += g->part[i].tiles = fr_gemm_tiles(g->part[i].n << gated, t->cols);
	g->row_tiles = fr_gemm_tiles(g->rows, t->rows);
	g->group = GROUP;
	fr_cu_run(d, (gated ? t->gated : t->plain)[dtype == FR_F16], (unsigned)(cols * g->row_tiles), 1, 1, t->threads,
		  (size_t)t->smem, g, sizeof *g);
}

struct fr_gemm_part fr_gemm_part_of(const struct fr_linear *a)
{
	struct fr_gemm_part p = {.bias = a->bias,
				 .scale = a->scale,
				 .residual = a->residual,
				 .y = a->y,
				 .n = a->w.rows,
				 .act = a->act,
				 .w = {a->w.data}};

	p.vec = p.n % 4 == 0 && fr_gemm_aligned(p.y) && fr_gemm_aligned(p.residual);
	return p;
}

struct fr_gemm_part fr_gemm_glu_part_of(const struct fr_glu *a)
{
	struct fr_gemm_part p = {.y = a->y, .n = a->gate.rows, .w = {a->gate.data, a->up.data}};

	p.vec = p.n % 4 == 0 && fr_gemm_aligned(p.y);
	return p;
}

/* An activation is the middle of an MLP, whose second product reads y; other results go to norms, rotation, attention.
 */
void fr_gemm_pack_out(struct fr_cuda *d, struct fr_gemm_part *p, int rows, enum fr_phase phase)
{
	struct fr_packed out = {0};

	if (p->act != FR_ACT_NONE || p->w[1])
		out = fr_cu_pack_out(d, p->y, rows, p->n, phase);
	p->pack = (uint16_t *)(uintptr_t)out.data;
	p->pack_terms = out.terms;
	p->pack_pitch = out.pitch;
}

/* The input's side of a launch. */
static struct fr_gemm_args args_of(const struct fr_packed *x)
{
	return (struct fr_gemm_args){.x = x->data,
				     .rowscale = x->scale,
				     .xpitch = (size_t)x->pitch,
				     .rows = x->rows,
				     .terms = x->terms,
				     .depth = fr_pitch(x->cols),
				     .wpitch = (size_t)fr_pitch(x->cols)};
}

void fr_gemm_dot(struct fr_cuda *d, const struct fr_packed *x, const struct fr_mat *w, float *y)
{
	const struct fr_linear a = {.w = *w, .y = y};
	struct fr_gemm_args g = args_of(x);

	g.part[g.parts++] = fr_gemm_part_of(&a);
	launch(d, &g, w->dtype, 0);
}

void fr_cu_gemm(struct fr_cuda *d, const struct fr_linear *a)
{
	const size_t stride = a->x_stride ? a->x_stride : (size_t)a->w.cols;
	const struct fr_packed x =
		fr_cu_pack(d, a->x, stride, a->rows, a->w.cols, a->w.dtype, fr_cu_terms(d->precise, a->phase));
	struct fr_gemm_args g = args_of(&x);

	if (!x.data)
		return; /* noted */
	for (const struct fr_linear *i = a; i; i = i->also) {
		assert(g.parts < FR_MAX_ALSO && i->w.dtype == a->w.dtype);
		g.part[g.parts++] = fr_gemm_part_of(i);
	}
	if (!a->also)
		fr_gemm_pack_out(d, &g.part[0], a->rows, a->phase);
	launch(d, &g, a->w.dtype, 0);
}

void fr_cu_gemm_glu(struct fr_cuda *d, const struct fr_glu *a)
{
	const struct fr_packed x = fr_cu_pack(d, a->x, (size_t)a->gate.cols, a->rows, a->gate.cols, a->gate.dtype,
					      fr_cu_terms(d->precise, a->phase));
	struct fr_gemm_args g = args_of(&x);

	if (!x.data)
		return; /* noted */
	g.part[g.parts++] = fr_gemm_glu_part_of(a);
	fr_gemm_pack_out(d, &g.part[0], a->rows, a->phase);
	launch(d, &g, a->gate.dtype, 1);
}
