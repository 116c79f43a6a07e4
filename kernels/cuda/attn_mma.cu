/* Attention on tensor cores: f16 operands, float32 scores, softmax and output; nothing of size rows x keys in memory.
 *
 * A block has one head and a tile of queries of one sequence (or item), and walks over tiles of keys at fixed
 * positions: s = q k^T by mma; p = exp2(s - running maximum), rounded to f16 in registers where it is the next
 * product's operand; o = o * fade + p v. Keys arrive by cp.async while the values of the tile before are multiplied,
 * values while the scores are. Tiles that a warp's rows do not see are skipped, only ragged ones are masked, keys that
 * nobody sees are zero in shared memory. q is rounded on the way in; dense k and v were rounded by fr_attn_half, once
 * for all blocks that read them (each query tile would read them again: twice the bytes from L2, and the registers of
 * the copy).
 *
 *              rows x keys of a tile   warps x rows    shared memory   blocks on a multiprocessor (sm_80 / 89 / 90)
 *   to 64      128 x 64                4 x 32          32 KB           2 / 2 / 2, by registers
 *   to 128     128 x 32                4 x 32          48 KB           2 / 2 / 2
 *   attn_wide  64 x 64                 8: 4 x 16, by 2 96.5 KB         1 / 1 / 2 by memory, 1 by registers
 *
 * Limits. An mma of 16 x 8 x 16 wants 256 bytes of keys from shared memory for 2 products' worth of rows: a warp of 32
 * rows takes 128 bytes a product, so shared memory (128 bytes a clock) and mma.sync are about even, and exp (16 a
 * clock) is a third of it at 64, a sixth at 128. Expected of the mma.sync peak: 55-65 % at 64, 65-75 % at 128, 45-55 %
 * at 320 (a barrier of a pair of warps twice a tile). Not measured on a card.
 *
 * A row's bits are its own: mma rows do not mix, tiles of keys lie at absolute positions, masked keys add +-0, and the
 * sign of a zero is settled at the end. (0 times infinity: a value beyond f16's range in the cache also spoils rows
 * just before its position.)
 *
 * ERRORS, for operands as rounded: each score as any sum on tensor cores; exponents are fma(s, c, -max), off by 2 u of
 * |s c| and |max|; ex2.approx by 2 ulp; a weight is rounded to f16, 2^-11 of it and at least 2^-33 of the largest
 * (LIFT); sums of weights in float32. tests/kernel_bounds_attn.h turns this into numbers. */
#include "attn_mma.h"

/* ---- heads up to 128: four warps of 32 rows, each with all columns of y ---- */

#define NARROW_ROWS 128
#define NARROW_THREADS 128

/* s = q k^T for the warp's 32 rows and `keys` keys of the tile. */
template <int DIM, int KEYS, bool RAGGED>
FR_DEVICE void narrow_scores(float s[2][KEYS / 8][4], const uint16_t *qs, const uint16_t *ks, int keys)
{
	int lane = (int)threadIdx.x % 32, row = (int)threadIdx.x / 32 * 32 + lane % 16;
	int q_at = place<DIM>(row, lane / 16), k_at = place<DIM>(lane % 8 + lane / 16 * 8, lane / 8 % 2);

#pragma unroll
	for (int i = 0; i < KEYS; i++)
		s[i * 2 / KEYS][i / 4 % (KEYS / 8)][i % 4] = 0.0f;
#pragma unroll
	for (int k = 0; k < DIM / 8; k += 2) {
		uint32_t q[2][4], b[4];

		fr_ldmatrix(q[0], qs + step(q_at, k));
		fr_ldmatrix(q[1], qs + step(q_at, k) + 16 * DIM);
#pragma unroll
		for (int n = 0; n < KEYS / 8; n += 2) {
			if (RAGGED && n * 8 >= keys)
				continue;
			fr_ldmatrix(b, ks + step(k_at, k) + n * 8 * DIM);
			fr_mma_f16(s[0][n], q[0], b);
			fr_mma_f16(s[1][n], q[1], b);
			fr_mma_f16(s[0][n + 1], q[0], b + 2);
			fr_mma_f16(s[1][n + 1], q[1], b + 2);
		}
	}
}

/* o += p v. */
template <int DIM, int KEYS, bool RAGGED>
FR_DEVICE void narrow_values(float o[2][DIM / 8][4], const uint32_t p[2][KEYS / 16][4], const uint16_t *vs, int keys)
{
	int lane = (int)threadIdx.x % 32, v_at = place<DIM>(lane % 16, lane / 16);

#pragma unroll
	for (int n = 0; n < KEYS / 16; n++) {
		uint32_t b[4];

		if (RAGGED && n * 16 >= keys)
			continue;
#pragma unroll
		for (int d = 0; d < DIM / 8; d += 2) {
			fr_ldmatrix_t(b, vs + step(v_at, d) + n * 16 * DIM);
			fr_mma_f16(o[0][d], p[0][n], b);
			fr_mma_f16(o[1][d], p[1][n], b);
			fr_mma_f16(o[0][d + 1], p[0][n], b + 2);
			fr_mma_f16(o[1][d + 1], p[1][n], b + 2);
		}
	}
}

/* One step of the softmax: the weights of s, and o and the sums fade. */
template <int DIM, int KEYS, bool RAGGED>
FR_DEVICE void narrow_softmax(float o[2][DIM / 8][4], uint32_t p[2][KEYS / 16][4], float s[2][KEYS / 8][4],
			      running<2> &r, const fr_attn_args &a, int first, int last, int slope)
{
	float c = adjust<2, KEYS / 8, RAGGED, false>(s, a, nullptr, first, last, slope, 0);

#pragma unroll
	for (int i = 0; i < 4; i++) {
		float *m = &r.m[i / 2][i % 2], *l = &r.l[i / 2][i % 2];
		float top = fmaxf(*m, row_max<KEYS / 8>(s[i / 2], i % 2 * 2) * c), f = fade(*m, top);

		*m = top;
		*l = fmaf(*l, f, weigh<KEYS / 8>(p[i / 2], s[i / 2], i % 2 * 2, c, top));
#pragma unroll
		for (int d = 0; d < DIM / 8; d++) {
			o[i / 2][d][i % 2 * 2] *= f;
			o[i / 2][d][i % 2 * 2 + 1] *= f;
		}
	}
}

template <int DIM>
FR_DEVICE void narrow_store(const fr_attn_args &a, const attn_span &t, const float o[2][DIM / 8][4],
			    const running<2> &r)
{
	int lane = (int)threadIdx.x % 32, row = (int)threadIdx.x / 32 * 32 + lane / 4;

#pragma unroll
	for (int i = 0; i < 4; i++) {
		float inv = 1.0f / row_sum(r.l[i / 2][i % 2]);

		if (row + i * 8 >= t.rows)
			continue;
#pragma unroll
		for (int d = 0; d < DIM / 8; d++) {
			const float *v = &o[i / 2][d][i % 2 * 2];

			/* + 0: a sum of zeros has one sign, however many empty terms there were */
			if (d * 8 < a.head_dim)
				attn_put2(a.out, t.row + (size_t)(row + i * 8),
					  blockIdx.x * (size_t)a.head_dim + (size_t)(d * 8 + lane % 4 * 2),
					  fmaf(v[0], inv, 0.0f), fmaf(v[1], inv, 0.0f));
		}
	}
}

template <int DIM, int KEYS> FR_DEVICE void narrow(const fr_attn_args &a)
{
	uint16_t *qs = (uint16_t *)fr_smem(), *ks = qs + NARROW_ROWS * DIM, *vs = ks + KEYS * DIM;
	attn_span t = attn_span_of(a, NARROW_ROWS);
	const uint16_t *k = keys_from(a.keys.k, t.keys, a.keys.of_pos), *v = keys_from(a.keys.v, t.keys, a.keys.of_pos);
	int lane = (int)threadIdx.x % 32, base = (int)threadIdx.x / 32 * 32, row = base + lane / 4;
	int keys = t.last + (t.rows - 1) * t.slope + 1; /* that any row of the block sees */
	int most = t.last + (base + 31 < t.rows ? base + 31 : t.rows - 1) * t.slope + 1; /* of this warp */
	int least = t.last + base * t.slope + 1;
	float s[2][KEYS / 8][4], o[2][DIM / 8][4];
	uint32_t p[2][KEYS / 16][4];
	running<2> r;

	if (base >= t.rows)
		most = least = 0;
#pragma unroll
	for (int i = 0; i < 4; i++) {
		r.m[i / 2][i % 2] = -INFINITY;
		r.l[i / 2][i % 2] = 0.0f;
	}
#pragma unroll
	for (int i = 0; i < DIM; i++)
		o[i / (DIM / 2)][i / 4 % (DIM / 8)][i % 4] = 0.0f;
	load_keys<DIM, KEYS, NARROW_THREADS>(ks, k, a.keys.of_pos, keys, a.head_dim);
	load_q<DIM, NARROW_ROWS, NARROW_THREADS>(qs,
						 a.q + t.row * (size_t)a.out.width + blockIdx.x * (size_t)a.head_dim,
						 (size_t)a.out.width, t.rows, a.head_dim);
	for (int j = 0; j < keys; j += KEYS) {
		int n = most - j, first = j + lane % 4 * 2, last = t.last + row * t.slope;

		/* The keys of this tile are here, and everybody is done with the values of the one before. */
		fr_cp_wait<0>();
		__syncthreads();
		load_keys<DIM, KEYS, NARROW_THREADS>(vs, v, a.keys.of_pos, keys - j, a.head_dim);
		if (j + KEYS <= least)
			narrow_scores<DIM, KEYS, false>(s, qs, ks, KEYS);
		else if (n > 0)
			narrow_scores<DIM, KEYS, true>(s, qs, ks, n);
		fr_cp_wait<0>();
		__syncthreads();
		if (j + KEYS < keys)
			load_keys<DIM, KEYS, NARROW_THREADS>(ks, k, a.keys.of_pos, keys - j - KEYS, a.head_dim);
		if (n > 0 && j + KEYS <= least) {
			narrow_softmax<DIM, KEYS, false>(o, p, s, r, a, first, last, t.slope);
			narrow_values<DIM, KEYS, false>(o, p, vs, KEYS);
		} else if (n > 0) {
			narrow_softmax<DIM, KEYS, true>(o, p, s, r, a, first, last, t.slope);
			narrow_values<DIM, KEYS, true>(o, p, vs, n);
		}
	}
	narrow_store<DIM>(a, t, o, r);
}

FR_KERNEL(fr_attn_mma_64, struct fr_attn_args, NARROW_THREADS, 2)
{
	FR_WAIT();
	FR_RELEASE();
	narrow<64, 64>(a);
}
FR_KERNEL(fr_attn_mma_128, struct fr_attn_args, NARROW_THREADS, 2)
{
	FR_WAIT();
	FR_RELEASE();
	narrow<128, 32>(a);
}

/* ---- dense keys and values in f16 ---- */

FR_KERNEL(fr_attn_half, struct fr_attn_half_args, 256, 4)
{
	FR_WAIT();
	FR_RELEASE();
	const float *x = a.x[blockIdx.y];
	size_t step8 = (size_t)gridDim.x * blockDim.x * 8;

	for (size_t i = ((size_t)blockIdx.x * blockDim.x + threadIdx.x) * 8; i < a.n; i += step8) {
		float f[8];

		load8(f, x + i, ((size_t)x & 15) == 0);
		*(fr_u4 *)(a.y[blockIdx.y] + i) = half8(f);
	}
}
