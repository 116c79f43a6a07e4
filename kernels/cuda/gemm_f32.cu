/* y [rows, n] = x [rows, k] * w [n, k]^T in float32: the contract's seq, bit for bit.
 *
 * A block sums 128 rows by 64 columns with 128 threads of 8x8, each sum one chain of fma in order of k. Blocks of 16 k
 * come through registers into two buffers of shared memory, k-major: [16][128] of x, [16][64] of w, 24 KB in all. The
 * last block of k is as short as it is, since one more fma with zeros would turn -0 into 0.
 *
 * No bank conflicts: the 32 threads of a warp store 32 neighbouring rows of one k; eight threads read 32 neighbouring
 * columns as 16 bytes each, and a row's 16 bytes once for all eight. A thread has rows 4*ty.., 64 + 4*ty.. and columns
 * 4*tx.., 32 + 4*tx.. of the tile; of a gated product the first columns are the gate's, the others up's. Limit: per k a
 * warp reads four times 16 bytes a lane (16 clocks of shared memory, less where rows are shared) and has 64 fma (64
 * clocks of a quarter of the multiprocessor), so both units are full at once. Unmeasured. */
#include "gemm_out.h"

#define BM 128
#define BN 64
#define BK 16
#define THREADS 128
#define BUFFER (BK * (BM + BN)) /* floats */

/* The rows that a thread copies: row tid of x, all 16 of a block of k; row tid % 64 of w, eight of them. */
struct feed {
	const float *x, *w; /* NULL: no such row */
	int cols, x_vec;
	float a[BK], b[BK / 2];
};

FR_DEVICE void read_four(const float *p, float v[4])
{
	fr_u4 u = fr_ld_const(p);

	v[0] = fr_bits_f32(u.x);
	v[1] = fr_bits_f32(u.y);
	v[2] = fr_bits_f32(u.z);
	v[3] = fr_bits_f32(u.w);
}

/* Block of k from k0 on into registers; what lies beyond the row is zero and not used. */
FR_DEVICE void fetch(feed &f, int k0)
{
	int kw = k0 + (int)threadIdx.x / BN * (BK / 2);

#pragma unroll
	for (int i = 0; i < BK; i += 4) {
		if (f.x && f.x_vec && k0 + i + 4 <= f.cols) {
			read_four(f.x + k0 + i, f.a + i);
			continue;
		}
#pragma unroll
		for (int e = 0; e < 4; e++)
			f.a[i + e] = f.x && k0 + i + e < f.cols ? f.x[k0 + i + e] : 0.0f;
	}
#pragma unroll
	for (int i = 0; i < BK / 2; i += 4) {
		f.b[i] = f.b[i + 1] = f.b[i + 2] = f.b[i + 3] = 0.0f;
		if (f.w && kw + i < f.cols) /* the pitch is a multiple of 8: all four are there */
			read_four(f.w + kw + i, f.b + i);
	}
}

FR_DEVICE void keep(const feed &f, float *buffer)
{
	int tid = (int)threadIdx.x;
	float *b = buffer + BK * BM + tid / BN * (BK / 2) * BN + tid % BN;

#pragma unroll
	for (int i = 0; i < BK; i++)
		buffer[i * BM + tid] = f.a[i];
#pragma unroll
	for (int i = 0; i < BK / 2; i++)
		b[i * BN] = f.b[i];
}

FR_DEVICE void read_eight(const float *p, int second, float v[8])
{
#pragma unroll
	for (int h = 0; h < 2; h++) {
		fr_u4 u = *(const fr_u4 *)(p + h * second);

		v[h * 4] = fr_bits_f32(u.x);
		v[h * 4 + 1] = fr_bits_f32(u.y);
		v[h * 4 + 2] = fr_bits_f32(u.z);
		v[h * 4 + 3] = fr_bits_f32(u.w);
	}
}

FR_DEVICE void step(const float *buffer, int k, int ty, int tx, float acc[8][8])
{
	float x[8], w[8];

	read_eight(buffer + k * BM + ty * 4, 64, x);
	read_eight(buffer + BK * BM + k * BN + tx * 4, 32, w);
#pragma unroll
	for (int i = 0; i < 8; i++)
#pragma unroll
		for (int j = 0; j < 8; j++)
			acc[i][j] = fmaf(x[i], w[j], acc[i][j]);
}

FR_DEVICE void sum(feed &f, int ty, int tx, float acc[8][8])
{
	float *smem = (float *)fr_smem();
	int now = 0;

	fetch(f, 0);
	keep(f, smem);
	__syncthreads();
	for (int k0 = 0; k0 < f.cols; k0 += BK, now ^= 1) {
		const float *buffer = smem + now * BUFFER;
		int more = k0 + BK < f.cols;

		if (more)
			fetch(f, k0 + BK);
		if (k0 + BK <= f.cols)
#pragma unroll
			for (int k = 0; k < BK; k++)
				step(buffer, k, ty, tx, acc);
		else
#pragma unroll 1
			for (int k = 0; k < f.cols - k0; k++)
				step(buffer, k, ty, tx, acc);
		if (more)
			keep(f, smem + (now ^ 1) * BUFFER);
		__syncthreads();
	}
}

/* Four columns from col on of the rows of one thread; of a gated product up's sums are in the other half. */
template <bool glu>
FR_DEVICE void write_out(const fr_gemm_f32_args &a, const fr_gemm_part &p, int row0, int col, int half,
			 const float acc[8][8])
{
	fr_out_cols c = fr_out_begin(p, col);

#pragma unroll
	for (int i = 0; i < 8; i += 4) { /* four rows in a run */
		int row = row0 + i / 4 * 64;
		float v[4][4], rest[4][4];

#pragma unroll
		for (int r = 0; r < 4; r++) {
			if (p.residual && row + r < a.rows)
				fr_out_residual(p, c, row + r, rest[r]);
#pragma unroll
			for (int e = 0; e < 4; e++)
				v[r][e] = glu ? fr_silu(acc[i + r][e]) * acc[i + r][4 + e] : acc[i + r][half * 4 + e];
		}
		if (!glu)
			fr_out_act<4>(p, c, v);
#pragma unroll
		for (int r = 0; r < 4; r++) {
#pragma unroll
			for (int e = 0; e < 4; e++)
				v[r][e] = p.residual ? v[r][e] + rest[r][e] : v[r][e];
			if (row + r < a.rows)
				fr_out_store(p, c, a.rows, row + r, v[r]);
		}
	}
}

template <bool glu> FR_DEVICE void gemm_f32(const fr_gemm_f32_args &a)
{
	int tid = (int)threadIdx.x, ty = tid / 8, tx = tid % 8;
	int row0 = (int)blockIdx.x % a.row_tiles * BM, col_tile = (int)blockIdx.x / a.row_tiles;
	const fr_gemm_part &p = a.part[fr_part_of(a.part, a.parts, &col_tile)];
	int col0 = col_tile * (glu ? BN / 2 : BN), j = tid % BN;
	int col = col0 + (glu ? j % (BN / 2) : j);
	float acc[8][8] = {};
	feed f;

	f.x = row0 + tid < a.rows ? a.x + (size_t)(row0 + tid) * a.stride : NULL;
	f.w = col < p.n ? (const float *)p.w[glu ? j / (BN / 2) : 0] + (size_t)col * a.wpitch : NULL;
	f.cols = a.cols;
	f.x_vec = a.vec;
	sum(f, ty, tx, acc);
	FR_RELEASE();
	write_out<glu>(a, p, row0 + ty * 4, col0 + tx * 4, 0, acc);
	if (!glu)
		write_out<glu>(a, p, row0 + ty * 4, col0 + BN / 2 + tx * 4, 1, acc);
}

FR_KERNEL(fr_gemm_f32, struct fr_gemm_f32_args, THREADS, 3)
{
	FR_WAIT();
	gemm_f32<false>(a);
}
FR_KERNEL(fr_gemm_f32_glu, struct fr_gemm_f32_args, THREADS, 3)
{
	FR_WAIT();
	gemm_f32<true>(a);
}
