/* What the tensor core kernels of attention share (attn_mma.cu, attn_wide.cu): tiles in shared memory, and the softmax
 * on the fragments of an mma. */
#ifndef FR_KERNELS_CUDA_ATTN_MMA_H
#define FR_KERNELS_CUDA_ATTN_MMA_H

#include "attn_tile.h"

#define LOG2E 1.44269504088896341f
#define LIFT 8.0f /* weights are exp * 2^8: f16 then keeps 11 bits of all that are above 2^-22 of the largest */

/* Where chunk (8 elements) c of row r lies in a tile of rows of DIM: the chunks of a row are swapped about so that the
 * same chunk of eight rows, and eight chunks of one row, lie in different banks. place = step(place(r, c % 2), c - c %
 * 2), and 8 rows further is 8 * DIM further: one offset serves a whole tile. */
template <int DIM> FR_DEVICE int place(int row, int chunk)
{
	return row * DIM + chunk / 8 * 64 + ((chunk % 8 ^ row % 8) << 3);
}
FR_DEVICE int step(int at, int chunk)
{
	return (at ^ (chunk % 8 << 3)) + chunk / 8 * 64;
}

/* Eight floats, 16 bytes at a time where the address allows. */
FR_DEVICE void load8(float x[8], const float *p, int aligned)
{
	if (aligned) {
		fr_u4 lo = fr_ld_const(p), hi = fr_ld_const(p + 4);
		uint32_t u[8] = {lo.x, lo.y, lo.z, lo.w, hi.x, hi.y, hi.z, hi.w};

#pragma unroll
		for (int j = 0; j < 8; j++)
			x[j] = fr_bits_f32(u[j]);
	} else {
#pragma unroll
		for (int j = 0; j < 8; j++)
			x[j] = p[j];
	}
}
FR_DEVICE fr_u4 half8(const float x[8])
{
	return fr_u4{fr_f16x2(x[0], x[1]), fr_f16x2(x[2], x[3]), fr_f16x2(x[4], x[5]), fr_f16x2(x[6], x[7])};
}

/* q [rows, head_dim] of float32 at src, `width` apart, to a tile of HEIGHT rows; zero beyond rows and head_dim. */
template <int DIM, int HEIGHT, int THREADS>
FR_DEVICE void load_q(uint16_t *tile, const float *src, size_t width, int rows, int head_dim)
{
	int aligned = ((size_t)src & 15) == 0;

	for (int i = (int)threadIdx.x; i < HEIGHT * (DIM / 8); i += THREADS) {
		int row = i / (DIM / 8), chunk = i % (DIM / 8);
		float x[8] = {0, 0, 0, 0, 0, 0, 0, 0};

		if (row < rows && chunk * 8 < head_dim)
			load8(x, src + (size_t)row * width + chunk * 8, aligned);
		*(fr_u4 *)(tile + place<DIM>(row, chunk)) = half8(x);
	}
}

/* Where a thread's copies of keys begin. */
FR_DEVICE const uint16_t *keys_from(const void *base, size_t at, size_t of_pos)
{
	return (const uint16_t *)base + at + (size_t)(threadIdx.x / 8) * of_pos + threadIdx.x % 8 * 8;
}

/* KEYS keys (or values) to a tile as one group of copies, the thread's part at `from`, which moves on to the next tile;
 * those from the n-th on and what is beyond head_dim are zero. */
template <int DIM, int KEYS, int THREADS>
FR_DEVICE void load_keys(uint16_t *tile, const uint16_t *&from, size_t of_pos, int n, int head_dim)
{
	int row = (int)threadIdx.x / 8, chunk = (int)threadIdx.x % 8;
	uint16_t *to = tile + place<DIM>(row, chunk);

#pragma unroll
	for (int i = 0; i < KEYS * 8; i += THREADS) {
#pragma unroll
		for (int j = 0; j < DIM; j += 64) {
			int there = row + i / 8 < n && j + chunk * 8 < head_dim;

			fr_cp_async(to + i / 8 * DIM + j, from + j, there ? 16 : 0);
		}
		from += (size_t)(THREADS / 8) * of_pos;
	}
	fr_cp_commit();
}

/* The softmax of a thread's rows, two in each of TILES mma tiles: row g is [..][0], row g + 8 is [..][1]. */
template <int TILES> struct running {
	float m[TILES][2]; /* maximum so far, in units of c * score */
	float l[TILES][2]; /* sum of this thread's weights */
};

/* Scores s [TILES][BLOCKS] of keys first.. in place: bias in, keys beyond a row's last out. `last` is that of the
 * thread's first row, `slope` from row to row. Returns the factor that takes a score to the exponent of 2. */
template <int TILES, int BLOCKS, bool RAGGED, bool BIAS>
FR_DEVICE float adjust(float s[TILES][BLOCKS][4], const fr_attn_args &a, const float *bias, int first, int last,
		       int slope, int rows)
{
	float c = a.scale * LOG2E;

	if (BIAS && bias) {
#pragma unroll
		for (int i = 0; i < TILES * 2; i++)
#pragma unroll
			for (int j = 0; j < BLOCKS * 2; j++) {
				float *v = &s[i / 2][j / 2][i % 2 * 2 + j % 2];
				int key = first + j / 2 * 8 + j % 2;
				int there = i * 8 < rows && (!RAGGED || key < a.kv_rows);
				float b = there ? bias[(size_t)(i * 8) * (size_t)a.kv_rows + (size_t)key] : 0.0f;

				*v = fmaf(*v, c, b * LOG2E);
			}
		c = 1.0f;
	}
	if (RAGGED) {
#pragma unroll
		for (int i = 0; i < TILES * 2; i++)
#pragma unroll
			for (int j = 0; j < BLOCKS * 2; j++)
				if (first + j / 2 * 8 + j % 2 > last + i * 8 * slope)
					s[i / 2][j / 2][i % 2 * 2 + j % 2] = -INFINITY;
	}
	return c;
}

/* The largest of a row's BLOCKS * 8 scores, over the four threads that share the row. `half` is 0 or 2. */
template <int BLOCKS> FR_DEVICE float row_max(const float s[BLOCKS][4], int half)
{
	float m = -INFINITY;

#pragma unroll
	for (int j = 0; j < BLOCKS; j++)
		m = fmaxf(m, fmaxf(s[j][half], s[j][half + 1]));
	m = fmaxf(m, fr_shfl_xor(m, 1));
	return fmaxf(m, fr_shfl_xor(m, 2));
}

/* Scores of a row to weights, rounded to f16 where the product with the values takes them (the weights of blocks j, j +
 * 1 are a[0..3] of product j / 2); top is the row's maximum so far in exponents of 2. Returns this thread's sum. */
template <int BLOCKS>
FR_DEVICE float weigh(uint32_t p[BLOCKS / 2][4], const float s[BLOCKS][4], int half, float c, float top)
{
	float from = LIFT - (top == -INFINITY ? 0.0f : top), sum = 0.0f;

#pragma unroll
	for (int j = 0; j < BLOCKS; j++) {
		float v = fr_exp2_fast(fmaf(s[j][half], c, from)), w = fr_exp2_fast(fmaf(s[j][half + 1], c, from));

		sum += v + w;
		p[j / 2][j % 2 * 2 + half / 2] = fr_f16x2_rn(v, w);
	}
	return sum;
}

/* What a row's sums so far are worth when its maximum rises from m to top. */
FR_DEVICE float fade(float m, float top)
{
	return fr_exp2_fast(m - (top == -INFINITY ? 0.0f : top));
}

/* Over the four threads of a row. */
FR_DEVICE float row_sum(float l)
{
	l += fr_shfl_xor(l, 1);
	return l + fr_shfl_xor(l, 2);
}

#endif
