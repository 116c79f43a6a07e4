/* Decode products of f32 weights: the contract's `lane` order, bit by bit, in float32 on the plain cores.
 *
 * The 32 sums of a dot product lie in eight lanes, four in each: lane j of the eight has those of columns 32c + 4j and
 * the next three and brings these 16 bytes of the weight row, so that a warp works on four weight rows at once and
 * every sum is one chain over the whole row in order of the columns. The tree at the end is shuffles for the distances
 * 16, 8, 4 and plain additions for 2 and 1. Weights come as in skinny.cu, by copies into a place of the lane's own that
 * are all under way; x, which stays in the near cache, comes in registers a chunk ahead. There are variants for 1, 4
 * and 16 rows of x (8 in a GLU, by the registers; more rows are more passes), and a row's sums do not depend on them. A
 * block of 16 weight rows has 16 KiB in flight, 32 KiB in a GLU; 4096 outputs are 256 blocks, two a multiprocessor of
 * 132. */
#include "skinny.h"

#define CHUNK 32
#define DEPTH FR_SKINNY_F32_DEPTH
#define THREADS (FR_SKINNY_F32_WARPS * 32)

/* 16 bytes of x at column k; not all rows of x are aligned. Beyond the width: zeros, which are never added. */
FR_DEVICE fr_u4 load_x(const struct fr_skinny_args &a, const float *row, int k)
{
	fr_u4 v = {};

	if (!row || k >= a.cols)
		return v;
	if (a.x_quads)
		return fr_ld_const(row + k);
	v.x = fr_f32_bits(row[k]);
	if (k + 1 < a.cols)
		v.y = fr_f32_bits(row[k + 1]);
	if (k + 2 < a.cols)
		v.z = fr_f32_bits(row[k + 2]);
	if (k + 3 < a.cols)
		v.w = fr_f32_bits(row[k + 3]);
	return v;
}

/* left: columns from the first of the four on. A column beyond the width would change the sign of a zero. */
FR_DEVICE void step(float sum[4], const fr_u4 &w, const fr_u4 &x, int left)
{
	if (left > 0)
		sum[0] = fmaf(fr_bits_f32(x.x), fr_bits_f32(w.x), sum[0]);
	if (left > 1)
		sum[1] = fmaf(fr_bits_f32(x.y), fr_bits_f32(w.y), sum[1]);
	if (left > 2)
		sum[2] = fmaf(fr_bits_f32(x.z), fr_bits_f32(w.z), sum[2]);
	if (left > 3)
		sum[3] = fmaf(fr_bits_f32(x.w), fr_bits_f32(w.w), sum[3]);
}

FR_DEVICE float tree(float sum[4])
{
#pragma unroll
	for (int h = 4; h > 0; h /= 2)
#pragma unroll
		for (int i = 0; i < 4; i++)
			sum[i] = sum[i] + fr_shfl_xor(sum[i], h);
	sum[0] = sum[0] + sum[2];
	sum[1] = sum[1] + sum[3];
	return sum[0] + sum[1];
}

/* A lane's places for DEPTH chunks of one row of each of `mats` matrices. */
template <int mats> struct weights {
	unsigned char *place;
	const float *row[mats]; /* NULL: beyond the matrix */
};
template <int mats> FR_DEVICE unsigned char *place_of(const struct weights<mats> &w, int c, int m)
{
	return w.place + (c % DEPTH * mats + m) * 32 * 16;
}
template <int mats> FR_DEVICE void ask(const struct weights<mats> &w, int c, int k, int pitch)
{
#pragma unroll
	for (int m = 0; m < mats; m++)
		fr_cp_async(place_of(w, c, m), w.row[m] + k, w.row[m] && k < pitch ? 16 : 0);
	fr_cp_commit();
}

/* All columns of the lane's rows: sum[m][r] of matrix m and row r of x from r0 on. */
template <int mats, int rows>
FR_DEVICE void multiply(float sum[mats][rows][4], const struct fr_skinny_args &a, const struct weights<mats> &w, int r0,
			int mine)
{
	fr_u4 x[rows];

#pragma unroll
	for (int r = 0; r < rows; r++)
		x[r] = load_x(a, r0 + r < a.rows ? (const float *)a.x + (size_t)(r0 + r) * a.x_stride : NULL, mine);
#pragma unroll 1
	for (int c = 0; c * CHUNK < a.cols; c++) {
		const int k = c * CHUNK + mine;
		fr_u4 v[mats];

		fr_cp_wait<DEPTH - 1>();
#pragma unroll
		for (int m = 0; m < mats; m++)
			v[m] = *(const fr_u4 *)place_of(w, c, m);
		ask(w, c + DEPTH, k + DEPTH * CHUNK, a.pitch);
#pragma unroll
		for (int r = 0; r < rows; r++) {
			const float *next = (const float *)a.x + (size_t)(r0 + r) * a.x_stride;

#pragma unroll
			for (int m = 0; m < mats; m++)
				step(sum[m][r], v[m], x[r], a.cols - k);
			x[r] = load_x(a, r0 + r < a.rows ? next : NULL, k + CHUNK);
		}
	}
	fr_cp_wait<0>();
}

template <int mats, int rows> FR_DEVICE void skinny_f32(const struct fr_skinny_args &a)
{
	const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32, mine = lane % 8 * 4;
	const int r0 = (int)blockIdx.y * rows;
	int n0, part = fr_skinny_part_of(a, FR_SKINNY_F32_WARPS * 4, &n0);
	const struct fr_skinny_part &p = a.part[part];
	const int n = n0 + warp * 4 + lane / 8;
	float sum[mats][rows][4] = {};
	struct weights<mats> w;

	w.place = fr_smem() + (warp * DEPTH * mats * 32 + lane) * 16;
#pragma unroll
	for (int m = 0; m < mats; m++)
		w.row[m] = n < p.n ? (const float *)(m ? p.up : p.w) + (size_t)n * (size_t)a.pitch : NULL;
#pragma unroll
	for (int c = 0; c < DEPTH; c++)
		ask(w, c, c * CHUNK + mine, a.pitch);
	FR_RELEASE();
	FR_WAIT();
	multiply<mats, rows>(sum, a, w, r0, mine);
#pragma unroll
	for (int r = 0; r < rows; r++) {
		float v = tree(sum[0][r]), up = mats > 1 ? tree(sum[mats - 1][r]) : 0.0f;

		if (r % 8 != lane % 8 || r0 + r >= a.rows)
			continue;
		if (n >= p.n)
			fr_skinny_margin(a, p, r0 + r, n);
		else if (mats > 1)
			fr_skinny_finish_glu(a, p, r0 + r, n, v, up);
		else
			fr_skinny_finish(a, p, r0 + r, n, v);
	}
}

#define SKINNY_F32(name, mats, rows, blocks)                                                                           \
	FR_KERNEL(name, struct fr_skinny_args, THREADS, blocks)                                                        \
	{                                                                                                              \
		skinny_f32<mats, rows>(a);                                                                             \
	}
SKINNY_F32(fr_skinny_f32_1, 1, 1, 4)
SKINNY_F32(fr_skinny_f32_4, 1, 4, 4)
SKINNY_F32(fr_skinny_f32_16, 1, 16, 2)
SKINNY_F32(fr_skinny_f32_glu_1, 2, 1, 4)
SKINNY_F32(fr_skinny_f32_glu_4, 2, 4, 3)
SKINNY_F32(fr_skinny_f32_glu_8, 2, 8, 2)
