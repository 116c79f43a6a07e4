/* Decode products of 16-bit weights, y[r,n] for a few rows of x: the time is that of reading the weights once.
 *
 * A tile is 16 weight rows, the A operand of mma.m16n8k16; eight rows of x are the B operand. With g = lane / 4 and
 * t = lane % 4 a lane brings the 16 bytes of weight rows g and g + 8 at columns 32c + 8t .. + 7, and the two mma of the
 * chunk take its words x, y and z, w where the fragment layout has columns 2t, 2t + 1 and 2t + 8, 2t + 9: the columns
 * of a chunk are permuted, for x in the same way, and a sum does not mind. No lane needs what another one brought. The
 * copies go to a place of the lane's own in shared memory, with no barrier, because only copies that pass no registers
 * stay under way (the compiler gathers loads at the loop's end, however they are written). x comes in two terms, both
 * added to the same sum; its absent rows are zeros that no lane loads.
 *
 * THE ORDER of a sum: warp w of 8 takes columns 128 * (8i + w) .. + 127 for i = 0, 1, ..., in each chunk of 32 the high
 * term's two mma, then the low term's; then the warps' sums are added from warp 0 to warp 7. It knows nothing of how
 * many rows of x there are or which tiles a block has, so the variants for 8 and for 16 rows give the same bits.
 *
 * BYTES IN FLIGHT. A warp has four chunks on their way: 32 KiB a block, 64 KiB where it has two tiles. 4.8 TB/s times
 * about 0.8 us over 132 multiprocessors is 29 KiB each, so one block there is just enough; five are resident, or two or
 * three of two tiles. The first four chunks are asked for before the block waits for the kernel in front of it, which
 * hides the launch and that kernel's tail.
 *
 * WAVES. One tile a block up to 8 rows of x: 4096 outputs are 256 blocks, all resident at once, and since the memory,
 * not a multiprocessor, is the limit, they end together; q, k, v of 4096 in one launch are 768, 32064 outputs 2004,
 * where the last wave is short of work for less than one block's time, while the next kernel's blocks move in. A GLU
 * has a tile of both matrices: 688 blocks of twice the bytes for 11008. With more than 8 rows of x a linear has two
 * tiles a block too, since a block reads all of x (4 bytes a row and column, mostly from L2) beside the 32 bytes a
 * column of a tile. None of this was measured on a card yet. */
#include "skinny.h"

/* Types of weights. A further one is a tag with these four functions: how a lane copies its 8 columns of a row into its
 * place of PLACE bytes, and how they become 8 items of 16 bits in registers. Q8_0, laid out with quants and scales
 * apart, would copy 8 bytes of quants and the chunk's scale (a block is a chunk) and make f16 items in words(). */
struct Bf16 {
};
struct F16 {
};
#define PLACE 16
template <class W> FR_DEVICE void copy_item(W, unsigned char *place, const char *row, int k, int valid)
{
	fr_cp_async(place, (const uint16_t *)row + k, valid ? 16 : 0);
}
template <class W> FR_DEVICE fr_u4 words(W, const unsigned char *place)
{
	return *(const fr_u4 *)place;
}
template <class W> FR_DEVICE size_t row_bytes(W, int pitch)
{
	return (size_t)pitch * 2;
}
FR_DEVICE void mma(Bf16, float c[4], const uint32_t a[4], const uint32_t b[2])
{
	fr_mma_bf16(c, a, b);
}
FR_DEVICE void mma(F16, float c[4], const uint32_t a[4], const uint32_t b[2])
{
	fr_mma_f16(c, a, b);
}

#define CHUNK 32
#define DEPTH FR_SKINNY_DEPTH

/* Where the warp's chunk number c begins. */
FR_DEVICE int column(int warp, int c)
{
	const int chunks = FR_SKINNY_RUN / CHUNK;

	return (c / chunks * FR_SKINNY_WARPS + warp) * FR_SKINNY_RUN + c % chunks * CHUNK;
}

/* A lane's rows g and g + 8 of each tile. */
template <int tiles> struct weights {
	unsigned char *place;	   /* of chunk 0, tile 0, row g */
	const char *row[tiles][2]; /* NULL: beyond the matrix */
};
template <int tiles> FR_DEVICE unsigned char *place_of(const struct weights<tiles> &w, int c, int t, int h)
{
	return w.place + ((c % DEPTH * tiles + t) * 2 + h) * 32 * PLACE;
}
/* Asks for the lane's columns k .. k + 7 of chunk c; beyond `pitch` they are zero. */
template <class W, int tiles> FR_DEVICE void ask(const struct weights<tiles> &w, int c, int k, int pitch)
{
#pragma unroll
	for (int t = 0; t < tiles; t++)
#pragma unroll
		for (int h = 0; h < 2; h++)
			copy_item(W(), place_of(w, c, t, h), w.row[t][h], k, w.row[t][h] && k < pitch);
	fr_cp_commit();
}
/* The two A operands of each tile of chunk c. */
template <class W, int tiles> FR_DEVICE void unpack(uint32_t f[tiles][2][4], const struct weights<tiles> &w, int c)
{
#pragma unroll
	for (int t = 0; t < tiles; t++) {
		const fr_u4 r0 = words(W(), place_of(w, c, t, 0)), r1 = words(W(), place_of(w, c, t, 1));

		f[t][0][0] = r0.x, f[t][0][1] = r1.x, f[t][0][2] = r0.y, f[t][0][3] = r1.y;
		f[t][1][0] = r0.z, f[t][1][1] = r1.z, f[t][1][2] = r0.w, f[t][1][3] = r1.w;
	}
}

/* Row g of each group of eight rows of x in both terms; each is asked for again as soon as it is used. */
template <int groups> struct inputs {
	const uint16_t *row[groups]; /* NULL: absent */
	size_t term;		     /* items from a row's first term to its second */
	fr_u4 at[2][groups];
};
template <int groups> FR_DEVICE void load(struct inputs<groups> &x, int h, int k, int pitch)
{
#pragma unroll
	for (int i = 0; i < groups; i++)
		x.at[h][i] = x.row[i] && k < pitch ? fr_ld_const(x.row[i] + (size_t)h * x.term + k) : fr_u4();
}

template <class W, int tiles, int groups>
FR_DEVICE void multiply(float sum[tiles][groups][4], const uint32_t f[tiles][2][4], const fr_u4 x[groups])
{
#pragma unroll
	for (int i = 0; i < groups; i++) {
		const uint32_t b0[2] = {x[i].x, x[i].y}, b1[2] = {x[i].z, x[i].w};

#pragma unroll
		for (int t = 0; t < tiles; t++)
			mma(W(), sum[t][i], f[t][0], b0);
#pragma unroll
		for (int t = 0; t < tiles; t++)
			mma(W(), sum[t][i], f[t][1], b1);
	}
}

/* The warps' sums in shared memory: [warp][tile][group][weight row 16][row of x 8]. */
template <int tiles, int groups> FR_DEVICE float *place(int warp, int tile, int group, int n, int r)
{
	return (float *)fr_smem() + ((((warp * tiles + tile) * groups + group) * FR_SKINNY_ROWS + n) * 8 + r);
}

template <int tiles, int groups> FR_DEVICE void leave(const float sum[tiles][groups][4], int warp, int lane)
{
#pragma unroll
	for (int t = 0; t < tiles; t++)
#pragma unroll
		for (int i = 0; i < groups; i++) {
			fr_u2 *low = (fr_u2 *)place<tiles, groups>(warp, t, i, lane / 4, lane % 4 * 2);
			fr_u2 *high = (fr_u2 *)place<tiles, groups>(warp, t, i, lane / 4 + 8, lane % 4 * 2);

			*low = {fr_f32_bits(sum[t][i][0]), fr_f32_bits(sum[t][i][1])};
			*high = {fr_f32_bits(sum[t][i][2]), fr_f32_bits(sum[t][i][3])};
		}
}

/* Over the warps in their order, times the row's factor, a power of two. */
template <int tiles, int groups> FR_DEVICE float add_up(const struct fr_skinny_args &a, int tile, int n, int r, int row)
{
	float v = *place<tiles, groups>(0, tile, r / 8, n, r % 8);

	for (int w = 1; w < FR_SKINNY_WARPS; w++)
		v = v + *place<tiles, groups>(w, tile, r / 8, n, r % 8);
	return a.x_scale ? v * a.x_scale[row] : v;
}

template <int tiles, int groups, bool glu>
FR_DEVICE void finish(const struct fr_skinny_args &a, const struct fr_skinny_part &p, int n0, int r0)
{
	const int own = glu ? FR_SKINNY_ROWS : tiles * FR_SKINNY_ROWS;

#pragma unroll 1 /* registers */
	for (int i = (int)threadIdx.x; i < own * groups * 8; i += FR_SKINNY_WARPS * 32) {
		int n = i % own, r = i / own, tile = n / FR_SKINNY_ROWS, in = n % FR_SKINNY_ROWS;

		if (r0 + r >= a.rows)
			continue;
		if (n0 + n >= p.n)
			fr_skinny_margin(a, p, r0 + r, n0 + n);
		else if (glu)
			fr_skinny_finish_glu(a, p, r0 + r, n0 + n, add_up<tiles, groups>(a, 0, in, r, r0 + r),
					     add_up<tiles, groups>(a, tiles - 1, in, r, r0 + r));
		else
			fr_skinny_finish(a, p, r0 + r, n0 + n, add_up<tiles, groups>(a, tile, in, r, r0 + r));
	}
}

/* One block: tiles of weight rows times groups of eight rows of x. grid: tiles of all parts, passes over the rows. */
template <class W, int tiles, int groups, bool glu> FR_DEVICE void skinny(const struct fr_skinny_args &a)
{
	const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32, r0 = (int)blockIdx.y * groups * 8;
	const int own = glu ? FR_SKINNY_ROWS : tiles * FR_SKINNY_ROWS, mine = lane % 4 * 8;
	int n0, part = fr_skinny_part_of(a, own, &n0);
	const struct fr_skinny_part &p = a.part[part];
	float sum[tiles][groups][4] = {};
	struct weights<tiles> w;
	struct inputs<groups> x;

	w.place = fr_smem() + (warp * DEPTH * tiles * 2 * 32 + lane) * PLACE;
#pragma unroll
	for (int t = 0; t < tiles; t++)
#pragma unroll
		for (int h = 0; h < 2; h++) {
			const char *base = (const char *)(glu && t ? p.up : p.w);
			int n = n0 + (glu ? 0 : t * FR_SKINNY_ROWS) + h * 8 + lane / 4;

			w.row[t][h] = n < p.n ? base + (size_t)n * row_bytes(W(), a.pitch) : NULL;
		}
#pragma unroll
	for (int c = 0; c < DEPTH; c++)
		ask<W>(w, c, column(warp, c) + mine, a.pitch);
	FR_RELEASE();
	FR_WAIT();
#pragma unroll
	for (int i = 0; i < groups; i++) {
		int r = r0 + i * 8 + lane / 4;

		x.row[i] = r < a.rows ? (const uint16_t *)a.x + (size_t)r * a.x_stride : NULL;
	}
	x.term = a.x_term;
	for (int h = 0; h < 2; h++)
		load(x, h, column(warp, 0) + mine, a.pitch);
#pragma unroll 1
	for (int c = 0; column(warp, c) < a.pitch; c++) {
		uint32_t f[tiles][2][4];

		fr_cp_wait<DEPTH - 1>();
		unpack<W>(f, w, c);
		ask<W>(w, c + DEPTH, column(warp, c + DEPTH) + mine, a.pitch);
#pragma unroll
		for (int h = 0; h < 2; h++) {
			multiply<W, tiles, groups>(sum, f, x.at[h]);
			load(x, h, column(warp, c + 1) + mine, a.pitch);
		}
	}
	fr_cp_wait<0>();
	__syncthreads(); /* the sums take the places of the weights */
	leave<tiles, groups>(sum, warp, lane);
	__syncthreads();
	finish<tiles, groups, glu>(a, p, n0, r0);
}

#define SKINNY(name, type, tiles, groups, glu, blocks)                                                                 \
	FR_KERNEL(name, struct fr_skinny_args, FR_SKINNY_WARPS * 32, blocks)                                           \
	{                                                                                                              \
		skinny<type, tiles, groups, glu>(a);                                                                   \
	}
SKINNY(fr_skinny_bf16_8, Bf16, 1, 1, false, 3)
SKINNY(fr_skinny_bf16_16, Bf16, 2, 2, false, 2)
SKINNY(fr_skinny_bf16_glu_8, Bf16, 2, 1, true, 2)
SKINNY(fr_skinny_bf16_glu_16, Bf16, 2, 2, true, 2)
SKINNY(fr_skinny_f16_8, F16, 1, 1, false, 3)
SKINNY(fr_skinny_f16_16, F16, 2, 2, false, 2)
SKINNY(fr_skinny_f16_glu_8, F16, 2, 1, true, 2)
SKINNY(fr_skinny_f16_glu_16, F16, 2, 2, true, 2)
