/* y [rows, n] = x [rows, k] * w [n, k]^T on tensor cores: mma.sync m16n8k16, 16-bit terms of x, float32 sums.
 *
 * ONE CHAIN. An output's accumulator takes the k16 steps of its row in order, block of 64 by block of 64; of two terms
 * each block of 64 comes twice, hi then lo. So does every tile: it may follow the number of rows, the bits do not.
 *
 * TILES, 64 deep. Each warp sums 64x64 (S: 32x32): 128 accumulators and two sets of fragments of 32 registers.
 *   L 128x256, 8 warps, 3 stages of 48 KB = 144 KB   one block on a multiprocessor (sm_80, sm_90)
 *   M 128x128, 4 warps, 3 stages of 32 KB =  96 KB   two on sm_90, one on sm_89, whose blocks have 99 KB
 *   T  64x128, 2 warps, 3 stages of 24 KB =  72 KB   three on sm_90
 *   S  64x64,  4 warps, 4 stages of 16 KB =  64 KB   three on sm_90, for few rows
 * EXPECTED LIMITS of a multiprocessor of sm_90 per block of 64, from 1400 products of mma.sync and 128 bytes of shared
 * memory a clock: L 1500 clocks of mma against 1024 + 384 of shared memory (fragments + cp.async), M 750 against 512 +
 * 256, T 375 against 256 + 192, S 187 against 256 + 128. So 64x64 a warp is the least that feeds mma.sync. From L2 come
 * 33, 44, 65, 87 bytes a clock, of which a multiprocessor gets about 30-40: L is for large shapes, the others fill the
 * machine where L leaves it idle (gemm.c counts). Under way are two stages: 96 KB of L, what 2000 clocks of latency
 * need at 48 bytes a clock. Unmeasured: no card was at hand.
 *
 * NO BANK CONFLICTS. A row of a stage is 64 items = 128 bytes = all banks; its 16-byte chunk c lies at c ^ (row % 8).
 * cp.async: eight neighbouring threads write one row, all banks. ldmatrix: eight lanes read chunk c of rows r..r+7, r a
 * multiple of 8, at c ^ 0..c ^ 7, all banks. The sums go out through shared memory in rows of P floats, P % 32 = 8: a
 * half warp's 64-bit stores (rows g..g+3, columns 2t) begin at banks 8g + 2t, all different; reads back are 16 bytes
 * a lane along a row, of a gated product along two rows, whose banks differ by 8.
 *
 * A gated product has gate and up interleaved by 8 columns in one tile, so a warp holds both halves of its outputs.
 * Blocks of `group` row tiles walk the columns together: the weights they read are still in L2 for the others. */
#include "gemm_out.h"

#define DEPTH 64 /* items of k in a stage: 128 bytes, one line */
#define LINE 128

template <int bm, int bn, int wm, int wn, int stages> struct tile {
	static constexpr int BM = bm, BN = bn, WM = wm, WN = wn, STAGES = stages;
	static constexpr int WARPS_N = BN / WN, THREADS = BM / WM * WARPS_N * 32;
	static constexpr int STEP = THREADS / 8; /* rows that one round of copies brings */
	static constexpr int A_ROUNDS = BM / STEP, B_ROUNDS = BN / STEP;
	static constexpr int A_BYTES = BM * LINE, STAGE = (BM + BN) * LINE;
	static constexpr int OUT_PITCH = WN + 8; /* floats */
	static_assert(STEP % 8 == 0 && BM % STEP == 0 && BN % STEP == 0 && (WN + 8) % 16 == 8, "tile");
	static_assert(THREADS / 32 * WM * OUT_PITCH * 4 <= STAGES * STAGE, "the sums fit where the stages were");
};
typedef tile<128, 256, 64, 64, 3> tile_l;
typedef tile<128, 128, 64, 64, 3> tile_m;
typedef tile<64, 128, 64, 64, 3> tile_t;
typedef tile<64, 64, 32, 32, 4> tile_s;

/* ---- device to shared memory ---- */

/* What a thread copies: chunk `chunk` of every STEP-th row of the tile, from row threadIdx.x / 8 on. */
struct feed {
	const unsigned char *a, *b[2]; /* its chunk of the first such row, block 0 of k; b[1]: `up` where STEP is 8 */
	uint32_t a_step, b_step;       /* bytes from one round's row to the next */
	size_t term;                   /* bytes from one term of x to the next */
	uint32_t a_rows, b_rows;       /* bit j: round j's row exists */
	int chunk, depth, two;
	int at; /* where in the stage */
};

template <class T, bool glu>
FR_DEVICE feed feed_begin(const fr_gemm_args &a, const fr_gemm_part &p, int row_tile, int col_tile)
{
	feed f;
	int r = (int)threadIdx.x / 8, row0 = row_tile * T::BM + r;
	int col0 = glu ? col_tile * (T::BN / 2) + r / 16 * 8 + r % 8 : col_tile * T::BN + r;
	int col_step = T::STEP;

	if (glu) /* row j of the tile is row j / 16 * 8 + j % 8 of gate (j / 8 even) or up (odd) */
		col_step = T::STEP == 8 ? 8 : T::STEP / 2;
	f.chunk = (int)threadIdx.x % 8;
	f.at = r * LINE + (f.chunk ^ r % 8) * 16;
	f.depth = a.depth;
	f.two = a.terms == 2;
	f.term = (size_t)a.rows * a.xpitch * 2;
	f.a_step = (uint32_t)(T::STEP * a.xpitch * 2);
	f.b_step = (uint32_t)(col_step * a.wpitch * 2);
	f.a = (const unsigned char *)a.x + (size_t)row0 * a.xpitch * 2 + f.chunk * 16;
	for (int m = 0; m < 2; m++) {
		const void *w = p.w[!glu ? 0 : T::STEP == 8 ? m : r / 8 % 2];

		f.b[m] = (const unsigned char *)w + (size_t)col0 * a.wpitch * 2 + f.chunk * 16;
	}
	f.a_rows = f.b_rows = 0;
	for (int j = 0; j < T::A_ROUNDS; j++)
		f.a_rows |= (uint32_t)(row0 + j * T::STEP < a.rows) << j;
	for (int j = 0; j < T::B_ROUNDS; j++)
		f.b_rows |= (uint32_t)(col0 + (glu && T::STEP == 8 ? j / 2 : j) * col_step < p.n) << j;
	return f;
}

/* Half q of stage i's rows of x. Stage i is block i of k, or, with two terms, block i / 2 of term i % 2. */
template <class T> FR_DEVICE void feed_a(const feed &f, unsigned char *stage, int i, int q)
{
	int k = (f.two ? i / 2 : i) * DEPTH;
	const unsigned char *from = f.a + k * 2 + (f.two && i % 2 ? f.term : 0);
	bool in = k + f.chunk * 8 < f.depth;

#pragma unroll
	for (int j = q * T::A_ROUNDS / 2; j < (q + 1) * T::A_ROUNDS / 2; j++)
		fr_cp_async(stage + f.at + j * (T::STEP * LINE), from + (size_t)j * f.a_step,
			    in && (f.a_rows >> j & 1) ? 16 : 0);
}

template <class T, bool glu> FR_DEVICE void feed_b(const feed &f, unsigned char *stage, int i, int q)
{
	int k = (f.two ? i / 2 : i) * DEPTH;
	bool in = k + f.chunk * 8 < f.depth;

#pragma unroll
	for (int j = q * T::B_ROUNDS / 2; j < (q + 1) * T::B_ROUNDS / 2; j++) {
		bool pair = glu && T::STEP == 8; /* gate and up take turns */
		const unsigned char *from = f.b[pair ? j % 2 : 0] + k * 2 + (size_t)(pair ? j / 2 : j) * f.b_step;

		fr_cp_async(stage + T::A_BYTES + f.at + j * (T::STEP * LINE), from, in && (f.b_rows >> j & 1) ? 16 : 0);
	}
}

/* ---- shared memory to tensor cores ---- */

template <class T> struct frags {
	uint32_t a[T::WM / 16][4], b[T::WN / 16][4];
};

/* Step kk (0..3) of a stage. a_at, b_at: the lane's place in the stage at step 0. */
template <class T> FR_DEVICE void load_frags(frags<T> &f, const unsigned char *stage, int a_at, int b_at, int kk)
{
#pragma unroll
	for (int i = 0; i < T::WM / 16; i++)
		fr_ldmatrix(f.a[i], stage + (a_at ^ kk * 32) + i * (16 * LINE));
#pragma unroll
	for (int i = 0; i < T::WN / 16; i++)
		fr_ldmatrix(f.b[i], stage + (b_at ^ kk * 32) + i * (16 * LINE));
}

/* The columns go back and forth, so that each product shares a fragment with the one before. */
template <class T, bool f16> FR_DEVICE void multiply(float acc[T::WM / 16][T::WN / 8][4], const frags<T> &f)
{
#pragma unroll
	for (int i = 0; i < T::WM / 16; i++)
#pragma unroll
		for (int n = 0; n < T::WN / 8; n++) {
			int j = i % 2 ? T::WN / 8 - 1 - n : n;

			if (f16)
				fr_mma_f16(acc[i][j], f.a[i], f.b[j / 2] + j % 2 * 2);
			else
				fr_mma_bf16(acc[i][j], f.a[i], f.b[j / 2] + j % 2 * 2);
		}
}

/* All of k. Stage i + STAGES - 1 is fetched while stage i is multiplied, a half at each of the first two steps, into
 * the slot that the last barrier has emptied. The fragments of a step are read during the step before; those of a
 * stage's first step behind the barrier in the last step of the stage before. */
template <class T, bool f16, bool glu>
FR_DEVICE void sum(const fr_gemm_args &a, const feed &f, int a_at, int b_at, float acc[T::WM / 16][T::WN / 8][4])
{
	unsigned char *smem = fr_smem();
	int stages = (a.depth + DEPTH - 1) / DEPTH * a.terms;
	frags<T> frag[2];

#pragma unroll
	for (int i = 0; i < T::STAGES - 1; i++)
#pragma unroll
		for (int q = 0; q < 2; q++)
			if (i < stages)
				feed_b<T, glu>(f, smem + i * T::STAGE, i, q);
	FR_WAIT(); /* the weights did not have to */
#pragma unroll
	for (int i = 0; i < T::STAGES - 1; i++) {
#pragma unroll
		for (int q = 0; q < 2; q++)
			if (i < stages)
				feed_a<T>(f, smem + i * T::STAGE, i, q);
		fr_cp_commit();
	}
	fr_cp_wait<T::STAGES - 2>();
	__syncthreads();
	load_frags<T>(frag[0], smem, a_at, b_at, 0);
	for (int i = 0, slot = 0, empty = (T::STAGES - 1) * T::STAGE; i < stages; i++) {
		int next = slot == (T::STAGES - 1) * T::STAGE ? 0 : slot + T::STAGE;
		bool more = i + T::STAGES - 1 < stages;

		if (i + 1 == stages) /* no next: what is read of this one again is not used */
			next = slot;
#pragma unroll
		for (int kk = 0; kk < 4; kk++) {
			if (kk == 3) {
				fr_cp_wait<T::STAGES - 2>();
				__syncthreads();
			}
			load_frags<T>(frag[(kk + 1) % 2], smem + (kk == 3 ? next : slot), a_at, b_at, (kk + 1) % 4);
			if (more && kk < 2) {
				feed_a<T>(f, smem + empty, i + T::STAGES - 1, kk);
				feed_b<T, glu>(f, smem + empty, i + T::STAGES - 1, kk);
			}
			if (kk == 1)
				fr_cp_commit();
			multiply<T, f16>(acc, frag[kk % 2]);
		}
		empty = slot;
		slot = next;
	}
}

/* ---- the sums to device memory ---- */

/* Puts the warp's sums in its rows of shared memory. */
template <class T> FR_DEVICE void stage_out(float *out, const float acc[T::WM / 16][T::WN / 8][4], int lane)
{
	float *at = out + lane / 4 * T::OUT_PITCH + lane % 4 * 2;

#pragma unroll
	for (int i = 0; i < T::WM / 16; i++)
#pragma unroll
		for (int j = 0; j < T::WN / 8; j++) {
			const float *c = acc[i][j];
			float *to = at + i * 16 * T::OUT_PITCH + j * 8;

			*(fr_u2 *)to = fr_u2{fr_f32_bits(c[0]), fr_f32_bits(c[1])};
			*(fr_u2 *)(to + 8 * T::OUT_PITCH) = fr_u2{fr_f32_bits(c[2]), fr_f32_bits(c[3])};
		}
}

FR_DEVICE void read_four(const float *from, float scale, bool scaled, float v[4])
{
	fr_u4 u = *(const fr_u4 *)from;

	v[0] = fr_bits_f32(u.x);
	v[1] = fr_bits_f32(u.y);
	v[2] = fr_bits_f32(u.z);
	v[3] = fr_bits_f32(u.w);
#pragma unroll
	for (int i = 0; i < 4; i++)
		v[i] = scaled ? v[i] * scale : v[i];
}

/* Four columns a lane, BATCH rows at a time, so that as many residuals are on their way. */
template <class T, bool glu>
FR_DEVICE void write_out(const fr_gemm_args &a, const fr_gemm_part &p, const float *out, int row0, int col0, int lane)
{
	constexpr int COLS = glu ? T::WN / 2 : T::WN, LANES = COLS / 4, ROWS = 32 / LANES,
		      BATCH = T::WM / ROWS < 8 ? 2 : 4;
	int r = lane / LANES, c = lane % LANES * 4, from = c;

	if (glu) { /* eight lanes read two rows, so that their banks differ */
		r = lane / 4 % 2 + (LANES == 8 ? lane / 16 : lane / 8) * 2;
		c = lane % 4 * 4 + (LANES == 8 ? lane / 8 % 2 * 16 : 0);
		from = c / 8 * 16 + c % 8;
	}
	fr_out_cols cols = fr_out_begin(p, col0 + c);

#pragma unroll 1
	for (int i = 0; i < T::WM; i += BATCH * ROWS) {
		float v[BATCH][4], rest[BATCH][4];

#pragma unroll
		for (int j = 0; j < BATCH; j++)
			if (p.residual && row0 + i + j * ROWS + r < a.rows)
				fr_out_residual(p, cols, row0 + i + j * ROWS + r, rest[j]);
#pragma unroll
		for (int j = 0; j < BATCH; j++) {
			int row = i + j * ROWS + r;
			bool scaled = a.rowscale && row0 + row < a.rows;
			float scale = scaled ? a.rowscale[row0 + row] : 1.0f;

			read_four(out + row * T::OUT_PITCH + from, scale, scaled, v[j]);
			if (glu) {
				float up[4];

				read_four(out + row * T::OUT_PITCH + from + 8, scale, scaled, up);
#pragma unroll
				for (int e = 0; e < 4; e++)
					v[j][e] = fr_silu(v[j][e]) * up[e];
			}
		}
		if (!glu)
			fr_out_act<BATCH>(p, cols, v);
#pragma unroll
		for (int j = 0; j < BATCH; j++) {
			int row = row0 + i + j * ROWS + r;

#pragma unroll
			for (int e = 0; e < 4; e++)
				v[j][e] = p.residual ? v[j][e] + rest[j][e] : v[j][e];
			if (row < a.rows)
				fr_out_store(p, cols, a.rows, row, v[j]);
		}
	}
}

template <class T, bool f16, bool glu> FR_DEVICE void gemm(const fr_gemm_args &a)
{
	int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
	int wm = warp / T::WARPS_N * T::WM, wn = warp % T::WARPS_N * T::WN;
	/* blocks in the order: a group of row tiles for the first columns, the same rows for the next, ... */
	int cols = 0, block = (int)blockIdx.x;
	for (int i = 0; i < a.parts; i++)
		cols += a.part[i].tiles;
	int group = block / (a.group * cols) * a.group, high = a.row_tiles - group;
	high = high < a.group ? high : a.group;
	block -= group * cols;
	int row_tile = group + block % high, col_tile = block / high;
	const fr_gemm_part &p = a.part[fr_part_of(a.part, a.parts, &col_tile)];
	/* ldmatrix: of x lane l reads row l % 16, chunk l / 16; of w row l % 8 + l / 16 * 8, chunk l / 8 % 2 */
	int a_at = (wm + lane % 16) * LINE + ((lane / 16) ^ (lane % 8)) * 16;
	int b_at = T::A_BYTES + (wn + lane % 8 + lane / 16 * 8) * LINE + ((lane / 8 % 2) ^ (lane % 8)) * 16;
	float acc[T::WM / 16][T::WN / 8][4] = {};
	float *out = (float *)fr_smem() + warp * T::WM * T::OUT_PITCH;

	sum<T, f16, glu>(a, feed_begin<T, glu>(a, p, row_tile, col_tile), a_at, b_at, acc);
	FR_RELEASE();
	__syncthreads(); /* the stages are read */
	stage_out<T>(out, acc, lane);
	fr_syncwarp();
	write_out<T, glu>(a, p, out, row_tile * T::BM + wm, glu ? (col_tile * T::BN + wn) / 2 : col_tile * T::BN + wn,
			  lane);
}

#define FR_GEMM(name, shape, blocks, f16, glu)                                                                         \
	FR_KERNEL(name, struct fr_gemm_args, shape::THREADS, blocks)                                                   \
	{                                                                                                              \
		gemm<shape, f16, glu>(a);                                                                              \
	}
FR_GEMM(fr_gemm_l_bf16, tile_l, 1, false, false)
FR_GEMM(fr_gemm_m_bf16, tile_m, 2, false, false)
FR_GEMM(fr_gemm_t_bf16, tile_t, 3, false, false)
FR_GEMM(fr_gemm_s_bf16, tile_s, 3, false, false)
FR_GEMM(fr_gemm_l_f16, tile_l, 1, true, false)
FR_GEMM(fr_gemm_m_f16, tile_m, 2, true, false)
FR_GEMM(fr_gemm_t_f16, tile_t, 3, true, false)
FR_GEMM(fr_gemm_s_f16, tile_s, 3, true, false)
FR_GEMM(fr_gemm_l_glu_bf16, tile_l, 1, false, true)
FR_GEMM(fr_gemm_m_glu_bf16, tile_m, 2, false, true)
FR_GEMM(fr_gemm_t_glu_bf16, tile_t, 3, false, true)
FR_GEMM(fr_gemm_s_glu_bf16, tile_s, 3, false, true)
FR_GEMM(fr_gemm_l_glu_f16, tile_l, 1, true, true)
FR_GEMM(fr_gemm_m_glu_f16, tile_m, 2, true, true)
FR_GEMM(fr_gemm_t_glu_f16, tile_t, 3, true, true)
FR_GEMM(fr_gemm_s_glu_f16, tile_s, 3, true, true)
