/* Attention on tensor cores: f16 operands, float32 scores, softmax and output; nothing of size rows x keys in memory.
 *
 * A block has one head and a tile of queries of one sequence (or item), and walks over tiles of keys at fixed
 * positions: s = q k^T by mma; p = exp2(s - running maximum), rounded to f16 in registers where it is the next product's
 * operand; o = o * fade + p v. Keys arrive by cp.async while the values of the tile before are multiplied, values while
 * the scores are. Tiles that a warp's rows do not see are skipped, only ragged ones are masked, keys that nobody sees are zero in
 * shared memory. q is rounded on the way in; dense k and v were rounded by fr_attn_half, once for all blocks that read
 * them (each query tile would read them again: twice the bytes from L2, and the registers of the copy).
 *
 *              rows x keys of a tile   warps x rows    shared memory   blocks on a multiprocessor (sm_80 / 89 / 90)
 *   to 64      128 x 64                4 x 32          32 KB           2 / 2 / 2, by registers
 *   to 128     128 x 32                4 x 32          48 KB           2 / 2 / 2
 *   to 320     64 x 64                 8: 4 x 16, by 2 96.5 KB         1 / 1 / 2 by memory, 1 by registers
 *
 * Limits. An mma of 16 x 8 x 16 wants 256 bytes of keys from shared memory for 2 products' worth of rows: a warp of 32
 * rows takes 128 bytes a product, so shared memory (128 bytes a clock) and mma.sync are about even, and exp (16 a
 * clock) is a third of it at 64, a sixth at 128. Expected of the mma.sync peak: 55-65 % at 64, 65-75 % at 128, 45-55 % at 320
 * (a barrier of a pair of warps twice a tile). Not measured on a card.
 *
 * A row's bits are its own: mma rows do not mix, tiles of keys lie at absolute positions, masked keys add +-0, and the
 * sign of a zero is settled at the end. (0 times infinity: a value beyond f16's range in the cache also spoils rows just
 * before its position.)
 *
 * ERRORS, for operands as rounded: each score as any sum on tensor cores; exponents are fma(s, c, -max), off by 2 u of
 * |s c| and |max|; ex2.approx by 2 ulp; a weight is rounded to f16, 2^-11 of it and at least 2^-33 of the largest
 * (LIFT); sums of weights in float32. tests/kernel_bounds_attn.h turns this into numbers. */
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
