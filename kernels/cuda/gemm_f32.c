/* Matrix products of the prefill phase with float32 weights: the contract's seq (gemm_f32.cu). */
#include "gemm.h"

#include <assert.h>

#define TILE_ROWS 128
#define TILE_COLS 64
#define THREADS 128
#define SMEM (2 * 16 * (TILE_ROWS + TILE_COLS) * sizeof(float))

static void launch(struct fr_cuda *d, struct fr_gemm_f32_args *g, int gated)
{
	int cols = 0;

	for (int i = 0; i < g->parts; i++)
		cols += g->part[i].tiles = fr_gemm_tiles(g->part[i].n << gated, TILE_COLS);
	g->row_tiles = fr_gemm_tiles(g->rows, TILE_ROWS);
	fr_cu_run(d, gated ? FR_CU_fr_gemm_f32_glu : FR_CU_fr_gemm_f32, (unsigned)(cols * g->row_tiles), 1, 1, THREADS,
		  SMEM, g, sizeof *g);
}

static struct fr_gemm_f32_args begin(const float *x, size_t stride, int rows, int cols)
{
	return (struct fr_gemm_f32_args){.x = x,
					 .stride = stride,
					 .wpitch = (size_t)fr_pitch(cols),
					 .rows = rows,
					 .cols = cols,
					 .vec = stride % 4 == 0 && fr_gemm_aligned(x)};
}

void fr_cu_gemm_f32(struct fr_cuda *d, const struct fr_linear *a)
{
	struct fr_gemm_f32_args g = begin(a->x, a->x_stride ? a->x_stride : (size_t)a->w.cols, a->rows, a->w.cols);

	for (const struct fr_linear *i = a; i; i = i->also) {
		assert(g.parts < FR_MAX_ALSO && i->w.dtype == FR_F32);
		g.part[g.parts++] = fr_gemm_part_of(i);
	}
	launch(d, &g, 0);
}

void fr_cu_gemm_f32_glu(struct fr_cuda *d, const struct fr_glu *a)
{
	struct fr_gemm_f32_args g = begin(a->x, (size_t)a->gate.cols, a->rows, a->gate.cols);

	g.parts = 1;
	g.part[0] = fr_gemm_glu_part_of(a);
	launch(d, &g, 1);
}
