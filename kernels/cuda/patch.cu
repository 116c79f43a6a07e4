/* Patch embedding straight from the pixels: y = (patches W^T + bias) + pos, the patches gathered tile by tile, never
 * written out. 64 patches by 64 outputs a block; patches of all images are one list.
 *
 * 16-bit weights: tensor cores, the pixels in two terms of the weights' type, K in tiles of 64, two stages. A tile's
 * row is 128 bytes of 8 chunks; chunk c of row r lies at c ^ (r & 7), so that neither the stores (a warp writes one
 * row) nor ldmatrix (8 rows, one chunk each) meet in a bank. Sums: per 16 columns term 0, then term 1, in order of k.
 * f32 weights: one chain of fma in order of k, the contract's seq. */
#include "four.h"

#define TILE FR_PATCH_TILE
#define NOTHING 0xffffffffu

struct patch_at {
	int image, patch; /* patch: its row of y, less the class token's */
};

FR_DEVICE patch_at find_patch(const fr_patch_args &a, int m)
{
	int per = a.grid * a.grid;

	return patch_at{m / per, m % per};
}

/* Index of the first pixel of patch m, NOTHING beyond the last one. */
FR_DEVICE uint32_t first_pixel(const fr_patch_args &a, int m)
{
	patch_at p = find_patch(a, m);

	if (p.image >= a.images)
		return NOTHING;
	return (uint32_t)(p.image * 3 * a.image + p.patch / a.grid * a.patch) * (uint32_t)a.image +
	       (uint32_t)(p.patch % a.grid * a.patch);
}

/* How far element k of a patch lies behind its first pixel: elements come in the order channel, y, x. */
FR_DEVICE uint32_t pixel_step(const fr_patch_args &a, int k)
{
	int row = k / a.patch, c = row / a.patch, y = row % a.patch;

	return (uint32_t)(c * a.image + y) * (uint32_t)a.image + (uint32_t)(k % a.patch);
}

FR_DEVICE void put(const fr_patch_args &a, int m, int n, float v)
{
	patch_at p = find_patch(a, m);
	size_t row = (size_t)p.patch + 1;

	if (p.image >= a.images || n >= a.dim)
		return;
	if (a.bias)
		v = v + a.bias[n];
	a.y[((size_t)p.image * (a.grid * a.grid + 1) + row) * a.dim + n] = v + a.pos[row * a.dim + n];
}

/* Row 0 of each image, by the blocks of the first patches. */
FR_DEVICE void put_class(const fr_patch_args &a, int n0, int threads)
{
	if (blockIdx.x != 0)
		return;
	for (int i = (int)threadIdx.x; i < a.images * TILE; i += threads) {
		int n = n0 + i % TILE;

		if (n < a.dim)
			a.y[(size_t)(i / TILE) * (a.grid * a.grid + 1) * a.dim + n] = a.cls[n] + a.pos[n];
	}
}

/* ---- 16-bit weights ---- */

#define DEPTH 64		 /* columns of a tile */
#define BYTES (TILE * DEPTH * 2) /* of a tile in shared memory */
#define PER_THREAD 16		 /* rows of the pixels' tile that a thread gathers two columns of */

FR_DEVICE uint32_t at_chunk(int row, int chunk)
{
	return (uint32_t)(row * 128 + ((chunk ^ (row & 7)) * 16));
}

FR_DEVICE void load_weights(const fr_patch_args &a, unsigned char *tile, int n0, int k0)
{
	for (int i = 0; i < 4; i++) {
		int row = (int)(threadIdx.x / 8) + 16 * i, chunk = (int)(threadIdx.x % 8), k = k0 + chunk * 8;
		int there = n0 + row < a.dim && k < a.pitch;
		size_t at = there ? (size_t)(n0 + row) * a.pitch + k : 0;

		fr_cp_async(tile + at_chunk(row, chunk), (const uint16_t *)a.w + at, there ? 16 : 0);
	}
	fr_cp_commit();
}

/* Columns k0 + 2 * lane, + 1 of rows warp, warp + 4, ... */
FR_DEVICE void load_pixels(const fr_patch_args &a, const uint32_t *first, int k0, float v[PER_THREAD][2])
{
	int k = k0 + (int)(threadIdx.x % 32) * 2;
	uint32_t step0 = pixel_step(a, k), step1 = pixel_step(a, k + 1);

	for (int i = 0; i < PER_THREAD; i++) {
		uint32_t p = first[threadIdx.x / 32 + 4 * i];

		v[i][0] = p != NOTHING && k < a.k ? a.pixels[p + step0] : 0.0f;
		v[i][1] = p != NOTHING && k + 1 < a.k ? a.pixels[p + step1] : 0.0f;
	}
}

template <int f16>
FR_DEVICE void store_pixels(unsigned char *hi_tile, unsigned char *lo_tile, const float v[PER_THREAD][2])
{
	int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;

	for (int i = 0; i < PER_THREAD; i++) {
		uint32_t at = at_chunk(warp + 4 * i, lane / 4) + lane % 4 * 4;
		uint32_t hi = f16 ? fr_f16x2(v[i][0], v[i][1]) : fr_bf16x2(v[i][0], v[i][1]);

		*(uint32_t *)(hi_tile + at) = hi;
		*(uint32_t *)(lo_tile + at) =
			f16 ? fr_f16x2_rest(v[i][0], v[i][1], hi) : fr_bf16x2_rest(v[i][0], v[i][1], hi);
	}
}

/* A warp's 32 patches (from m) by 32 outputs (from n): c[2 of 16 patches][4 of 8 outputs]. */
template <int f16>
FR_DEVICE void multiply(float c[2][4][4], const unsigned char *hi, const unsigned char *lo, const unsigned char *w,
			int m, int n)
{
	int lane = (int)threadIdx.x % 32, row = lane % 8;

	for (int k = 0; k < DEPTH / 16; k++) {
		uint32_t b[2][4];

		for (int j = 0; j < 2; j++)
			fr_ldmatrix(b[j], w + at_chunk(n + 16 * j + lane / 16 * 8 + row, 2 * k + lane / 8 % 2));
		for (int i = 0; i < 2; i++) {
			uint32_t at = at_chunk(m + 16 * i + lane / 8 % 2 * 8 + row, 2 * k + lane / 16), x[2][4];

			fr_ldmatrix(x[0], hi + at);
			fr_ldmatrix(x[1], lo + at);
			for (int t = 0; t < 2; t++)
				for (int j = 0; j < 4; j++) {
					if (f16)
						fr_mma_f16(c[i][j], x[t], b[j / 2] + j % 2 * 2);
					else
						fr_mma_bf16(c[i][j], x[t], b[j / 2] + j % 2 * 2);
				}
		}
	}
}

template <int f16> FR_DEVICE void patch_16(const fr_patch_args &a)
{
	unsigned char *smem = fr_smem();
	uint32_t *first = (uint32_t *)(smem + 6 * BYTES);
	int m0 = (int)blockIdx.x * TILE, n0 = (int)blockIdx.y * TILE;
	int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32, m = warp / 2 * 32, n = warp % 2 * 32;
	int tiles = (a.k + DEPTH - 1) / DEPTH;
	float c[2][4][4] = {}, pixels[PER_THREAD][2];

	load_weights(a, smem + 2 * BYTES, n0, 0);
	FR_WAIT();
	FR_RELEASE();
	if (threadIdx.x < TILE)
		first[threadIdx.x] = first_pixel(a, m0 + (int)threadIdx.x);
	__syncthreads();
	load_pixels(a, first, 0, pixels);
	store_pixels<f16>(smem, smem + BYTES, pixels);
	for (int k = 0; k < tiles; k++) {
		unsigned char *now = smem + k % 2 * 3 * BYTES, *next = smem + (1 - k % 2) * 3 * BYTES;

		fr_cp_wait<0>();
		__syncthreads();
		if (k + 1 < tiles) {
			load_weights(a, next + 2 * BYTES, n0, (k + 1) * DEPTH);
			load_pixels(a, first, (k + 1) * DEPTH, pixels);
		}
		multiply<f16>(c, now, now + BYTES, now + 2 * BYTES, m, n);
		if (k + 1 < tiles)
			store_pixels<f16>(next, next + BYTES, pixels);
	}
#pragma unroll
	for (int i = 0; i < 32; i++)
		put(a, m0 + m + i / 16 * 16 + lane / 4 + i % 4 / 2 * 8, n0 + n + i % 16 / 4 * 8 + lane % 4 * 2 + i % 2,
		    c[i / 16][i % 16 / 4][i % 4]);
	put_class(a, n0, 128);
}

FR_KERNEL(fr_patch_f16, struct fr_patch_args, 128, 3)
{
	patch_16<1>(a);
}
FR_KERNEL(fr_patch_bf16, struct fr_patch_args, 128, 3)
{
	patch_16<0>(a);
}

/* ---- f32 weights ---- */

#define STEP 16	       /* columns of a tile */
#define ROW (TILE + 4) /* floats of a column in shared memory; 16-byte aligned */

/* A thread has 4 patches by 4 outputs. */
FR_KERNEL(fr_patch_f32, struct fr_patch_args, 256, 2)
{
	float *x = (float *)fr_smem(), *w = x + STEP * ROW;
	uint32_t *first = (uint32_t *)(w + STEP * ROW);
	int t = (int)threadIdx.x, m0 = (int)blockIdx.x * TILE, n0 = (int)blockIdx.y * TILE;
	int m = t / 16 * 4, n = t % 16 * 4;
	float c[4][4] = {};

	FR_WAIT();
	FR_RELEASE();
	if (t < TILE)
		first[t] = first_pixel(a, m0 + t);
	for (int k0 = 0; k0 < a.k; k0 += STEP) {
		int k = k0 + t % STEP, there = k < a.k;
		uint32_t step = pixel_step(a, k);

		__syncthreads();
		for (int i = t / STEP; i < TILE; i += 256 / STEP) {
			uint32_t p = first[i];
			size_t at = (size_t)(n0 + i) * a.pitch + k;

			x[t % STEP * ROW + i] = there && p != NOTHING ? a.pixels[p + step] : 0.0f;
			w[t % STEP * ROW + i] = there && n0 + i < a.dim ? ((const float *)a.w)[at] : 0.0f;
		}
		__syncthreads();
		for (int j = 0; j < STEP && k0 + j < a.k; j++) {
			float p[4], q[4];

			fr_get4(p, x + j * ROW + m, 4, 1);
			fr_get4(q, w + j * ROW + n, 4, 1);
			for (int i = 0; i < 16; i++)
				c[i / 4][i % 4] = fmaf(p[i / 4], q[i % 4], c[i / 4][i % 4]);
		}
	}
	for (int i = 0; i < 16; i++)
		put(a, m0 + m + i / 4, n0 + n + i % 4, c[i / 4][i % 4]);
	put_class(a, n0, 256);
}
