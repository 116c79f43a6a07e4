/* Attention on tensor cores for heads up to 320, and for any with a bias: as attn_mma.cu, which says how and how fast,
 * but shared by pairs of warps, since a warp has no registers for all columns of y. */
#include "attn_mma.h"

/* ---- heads up to 320: pairs of warps of 16 rows; of the scores each takes 32 keys, of y every second 16 columns ----
 */

#define WIDE_ROWS 64
#define WIDE_THREADS 256
#define WIDE_KEYS 64
#define WIDE_DIM 320
#define WIDE_STEPS (WIDE_DIM / 16) /* of the products q k^T */
#define WIDE_KEPT 16		   /* of them, whose queries stay in registers */
#define WIDE_COLS (WIDE_DIM / 32)  /* 16-column parts of y that a warp has */

/* A thread's part of the block, and the shared memory. */
struct wide {
	uint16_t *ks, *vs, *ps; /* [KEYS, DIM], [KEYS, DIM], weights [ROWS, KEYS] */
	uint16_t *qs;		/* [ROWS, 64]: the queries' columns from 256 on */
	float *across;		/* [ROWS, 2]: what the warps of a pair tell each other */
	int half, group;	/* of the pair; which pair */
	int row;		/* the thread's first row, row + 8 is its second */
};

/* Of the pair: the other warp's value for the thread's two rows. */
FR_DEVICE void wide_other(const wide &w, const float mine[2], float other[2])
{
	if (threadIdx.x % 4 == 0) {
		w.across[w.row * 2 + w.half] = mine[0];
		w.across[(w.row + 8) * 2 + w.half] = mine[1];
	}
	fr_bar(1 + w.group, 64);
	other[0] = w.across[w.row * 2 + 1 - w.half];
	other[1] = w.across[(w.row + 8) * 2 + 1 - w.half];
}

template <bool RAGGED>
FR_DEVICE void wide_scores(const wide &w, float s[1][4][4], const uint32_t q[WIDE_KEPT][4], int keys)
{
	int lane = (int)threadIdx.x % 32, q_at = place<64>(w.group * 16 + lane % 16, lane / 16);
	int k_at = place<WIDE_DIM>(w.half * 32 + lane % 8 + lane / 16 * 8, lane / 8 % 2);

#pragma unroll
	for (int i = 0; i < 16; i++)
		s[0][i / 4][i % 4] = 0.0f;
#pragma unroll
	for (int k = 0; k < WIDE_STEPS; k++) {
		uint32_t more[4];

		if (k >= WIDE_KEPT)
			fr_ldmatrix(more, w.qs + step(q_at, (k - WIDE_KEPT) * 2));
#pragma unroll
		for (int n = 0; n < 4; n += 2) {
			const uint32_t *x = k < WIDE_KEPT ? q[k % WIDE_KEPT] : more;
			uint32_t b[4];

			if (RAGGED && w.half * 32 + n * 8 >= keys)
				continue;
			fr_ldmatrix(b, w.ks + step(k_at, k * 2) + n * 8 * WIDE_DIM);
			fr_mma_f16(s[0][n], x, b);
			fr_mma_f16(s[0][n + 1], x, b + 2);
		}
	}
}

/* One step of the softmax: the pair's weights in ps, and o and the sums fade. */
template <bool RAGGED>
FR_DEVICE void wide_softmax(const wide &w, float o[WIDE_COLS][2][4], float s[1][4][4], running<1> &r,
			    const fr_attn_args &a, const float *bias, int first, int last, int slope, int rows)
{
	float c = adjust<1, 4, RAGGED, true>(s, a, bias, first, last, slope, rows);
	float mine[2] = {row_max<4>(s[0], 0) * c, row_max<4>(s[0], 2) * c}, other[2];
	uint32_t p[2][4];

	wide_other(w, mine, other);
#pragma unroll
	for (int i = 0; i < 2; i++) {
		float top = fmaxf(r.m[0][i], fmaxf(mine[i], other[i])), f = fade(r.m[0][i], top);

		r.m[0][i] = top;
		r.l[0][i] = fmaf(r.l[0][i], f, weigh<4>(p, s[0], i * 2, c, top));
#pragma unroll
		for (int j = 0; j < WIDE_COLS * 4; j++)
			o[j / 4][j / 2 % 2][i * 2 + j % 2] *= f;
#pragma unroll
		for (int j = 0; j < 4; j++)
			*(uint32_t *)(w.ps + place<WIDE_KEYS>(w.row + i * 8, w.half * 4 + j) + threadIdx.x % 4 * 2) =
				p[j / 2][j % 2 * 2 + i];
	}
	fr_bar(1 + w.group, 64);
}

template <bool RAGGED> FR_DEVICE void wide_values(const wide &w, float o[WIDE_COLS][2][4], int keys)
{
	int lane = (int)threadIdx.x % 32, p_at = place<WIDE_KEYS>(w.group * 16 + lane % 16, lane / 16);
	int v_at = place<WIDE_DIM>(lane % 16, w.half * 2 + lane / 16);

#pragma unroll
	for (int n = 0; n < WIDE_KEYS / 16; n++) {
		uint32_t p[4], b[4];

		if (RAGGED && n * 16 >= keys)
			continue;
		fr_ldmatrix(p, w.ps + step(p_at, n * 2));
#pragma unroll
		for (int d = 0; d < WIDE_COLS; d++) {
			fr_ldmatrix_t(b, w.vs + step(v_at, d * 4) + n * 16 * WIDE_DIM);
			fr_mma_f16(o[d][0], p, b);
			fr_mma_f16(o[d][1], p, b + 2);
		}
	}
}

FR_DEVICE void wide_store(const wide &w, const fr_attn_args &a, const attn_span &t, const float o[WIDE_COLS][2][4],
			  const running<1> &r)
{
	float mine[2] = {row_sum(r.l[0][0]), row_sum(r.l[0][1])}, other[2];

	wide_other(w, mine, other);
#pragma unroll
	for (int i = 0; i < 2; i++) {
		float inv = 1.0f / (mine[i] + other[i]); /* a sum of two has no order */

		if (w.row + i * 8 >= t.rows)
			continue;
#pragma unroll
		for (int j = 0; j < WIDE_COLS * 2; j++) {
			int col = (j / 2 * 4 + w.half * 2 + j % 2) * 8;
			const float *v = &o[j / 2][j % 2][i * 2];

			if (col < a.head_dim)
				attn_put2(a.out, t.row + (size_t)(w.row + i * 8),
					  blockIdx.x * (size_t)a.head_dim + (size_t)col + threadIdx.x % 4 * 2,
					  fmaf(v[0], inv, 0.0f), fmaf(v[1], inv, 0.0f));
		}
	}
}

/* The block's queries: by way of vs to registers, the rest in qs. */
FR_DEVICE void wide_q(const wide &w, const fr_attn_args &a, const attn_span &t, uint32_t q[WIDE_KEPT][4])
{
	const float *src = a.q + t.row * (size_t)a.out.width + blockIdx.x * (size_t)a.head_dim;
	int lane = (int)threadIdx.x % 32, q_at = place<WIDE_DIM>(w.group * 16 + lane % 16, lane / 16);

	load_q<WIDE_DIM, WIDE_ROWS, WIDE_THREADS>(w.vs, src, (size_t)a.out.width, t.rows, a.head_dim);
	load_q<64, WIDE_ROWS, WIDE_THREADS>(w.qs, src + WIDE_KEPT * 16, (size_t)a.out.width, t.rows,
					    a.head_dim - WIDE_KEPT * 16);
	__syncthreads();
#pragma unroll
	for (int k = 0; k < WIDE_KEPT; k++)
		fr_ldmatrix(q[k], w.vs + step(q_at, k * 2));
}

FR_KERNEL(fr_attn_mma_320, struct fr_attn_args, WIDE_THREADS, 1)
{
	FR_WAIT();
	FR_RELEASE();
	attn_span t = attn_span_of(a, WIDE_ROWS);
	const uint16_t *k = keys_from(a.keys.k, t.keys, a.keys.of_pos), *v = keys_from(a.keys.v, t.keys, a.keys.of_pos);
	int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32, base = warp / 2 * 16;
	int keys = t.last + (t.rows - 1) * t.slope + 1; /* that any row of the block sees */
	int most = t.last + (base + 15 < t.rows ? base + 15 : t.rows - 1) * t.slope + 1; /* of this pair */
	int least = t.last + base * t.slope + 1, last = t.last + (base + lane / 4) * t.slope;
	running<1> r = {{{-INFINITY, -INFINITY}}, {{0.0f, 0.0f}}};
	uint32_t q[WIDE_KEPT][4];
	float s[1][4][4], o[WIDE_COLS][2][4];
	wide w;

	w.ks = (uint16_t *)fr_smem();
	w.vs = w.ks + WIDE_KEYS * WIDE_DIM;
	w.ps = w.vs + WIDE_KEYS * WIDE_DIM;
	w.qs = w.ps + WIDE_ROWS * WIDE_KEYS;
	w.across = (float *)(w.qs + WIDE_ROWS * 64);
	w.half = warp % 2;
	w.group = warp / 2;
	w.row = base + lane / 4;
	if (base >= t.rows)
		most = least = 0;
	const float *bias = t.bias ? t.bias + (size_t)w.row * (size_t)a.kv_rows : nullptr;
#pragma unroll
	for (int i = 0; i < WIDE_COLS * 8; i++)
		o[i / 8][i / 4 % 2][i % 4] = 0.0f;
	load_keys<WIDE_DIM, WIDE_KEYS, WIDE_THREADS>(w.ks, k, a.keys.of_pos, keys, a.head_dim);
	wide_q(w, a, t, q);
	for (int j = 0; j < keys; j += WIDE_KEYS) {
		int n = most - j, first = j + w.half * 32 + lane % 4 * 2;

		/* The keys of this tile are here, and everybody is done with the values of the one before. */
		fr_cp_wait<0>();
		__syncthreads();
		load_keys<WIDE_DIM, WIDE_KEYS, WIDE_THREADS>(w.vs, v, a.keys.of_pos, keys - j, a.head_dim);
		if (j + WIDE_KEYS <= least)
			wide_scores<false>(w, s, q, WIDE_KEYS);
		else if (n > 0)
			wide_scores<true>(w, s, q, n);
		if (n > 0 && j + WIDE_KEYS <= least)
			wide_softmax<false>(w, o, s, r, a, bias, first, last, t.slope, t.rows - w.row);
		else if (n > 0)
			wide_softmax<true>(w, o, s, r, a, bias, first, last, t.slope, t.rows - w.row);
		fr_cp_wait<0>();
		__syncthreads();
		if (j + WIDE_KEYS < keys)
			load_keys<WIDE_DIM, WIDE_KEYS, WIDE_THREADS>(w.ks, k, a.keys.of_pos, keys - j - WIDE_KEYS,
								     a.head_dim);
		if (j + WIDE_KEYS <= least)
			wide_values<false>(w, o, WIDE_KEYS);
		else if (n > 0)
			wide_values<true>(w, o, n);
	}
	if (base < t.rows)
		wide_store(w, a, t, o, r);
}
