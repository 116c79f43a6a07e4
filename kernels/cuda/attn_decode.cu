/* Attention of a decode step: one row of a sequence against its cache, float32 arithmetic whatever the cache's type.
 *
 * Chunks of 256 absolute positions are independent: a block takes chunks blockIdx.x, + gridDim.x, ... of one row and of
 * the query heads (up to 4) that share a head of keys, and leaves for each m = max s, o = sum exp(s - m) v and
 * l = sum exp(s - m); fr_attn_combine joins a row's chunks in order. How many splits there are changes who computes a
 * chunk, never its bits. Positions are read from device memory, so a recorded launch serves any later step; a block
 * whose chunks lie behind the row's position leaves at once.
 *
 * 8 threads share a key, 128 contiguous bytes at a time, 32 keys a pass; a thread has 8 loads of 16 bytes under way
 * (32 KB a block), and those of the first values leave before the softmax begins. What limits it is memory: at a batch
 * of one, bytes in flight; beyond, bandwidth. Per 16 bytes of keys a thread does 8 conversions, 8 fma a head, and 3
 * adds across lanes a key: a quarter of the issue slots at one head, about all at four. Not measured on a card. */
#include "attn_tile.h"

#define THREADS 256
#define LANES 8			/* threads that share a key */
#define SLOTS (THREADS / LANES) /* keys at a time */
#define CHUNK FR_ATTN_CHUNK

/* A 16-byte piece of a key as floats. */
template <bool F16> FR_DEVICE void widen(float x[8], const fr_u4 &v)
{
	uint32_t u[4] = {v.x, v.y, v.z, v.w};

#pragma unroll
	for (int i = 0; i < 4; i++) {
		if (F16) {
			x[2 * i] = fr_f16_float((uint16_t)u[i]);
			x[2 * i + 1] = fr_f16_float((uint16_t)(u[i] >> 16));
		} else {
			x[i] = fr_bits_f32(u[i]);
		}
	}
}

/* What a block works on: one row's chunk, and GH query heads that share a head of keys (`heads` of them exist). Of a
 * key a thread has PIECES pieces of 16 bytes, LANES apart; it loads AHEAD keys, SLOTS apart, before it uses the first.
 */
template <bool F16, int PIECES, int GH> struct decode {
	static const int ITEMS = F16 ? 8 : 4, MINE = PIECES * ITEMS, DIM = MINE * LANES;
	static const int AHEAD = PIECES >= 8 ? 1 : 8 / PIECES;
	const fr_attn_decode_args &a;
	float *s, *p, *o, *l; /* shared: scores [GH, CHUNK], weights [GH, CHUNK], sums [warps, GH, DIM], [GH] */
	const char *k, *v;    /* of the row's sequence and head, this thread's first piece of position 0 */
	size_t of_pos;	      /* bytes */
	size_t row;
	int head, heads, sub, slot;

	FR_DEVICE_MEMBER decode(const fr_attn_decode_args &args) : a(args)
	{
		const int item = F16 ? 2 : 4, parts = (a.group + GH - 1) / GH;
		int of = (int)blockIdx.y / parts, part = (int)blockIdx.y % parts * GH;

		row = blockIdx.z;
		head = of * a.group + part;
		heads = a.group - part < GH ? a.group - part : GH;
		sub = (int)threadIdx.x % LANES;
		slot = (int)threadIdx.x / LANES;
		of_pos = a.keys.of_pos * item;
		size_t at = ((size_t)a.row[row].seq * a.keys.of_seq + (size_t)of * a.keys.of_head) * item + sub * 16;
		k = (const char *)a.keys.k + at;
		v = (const char *)a.keys.v + at;
		s = (float *)fr_smem();
		p = s + GH * CHUNK;
		o = p + GH * CHUNK;
		l = o + THREADS / 32 * GH * DIM;
	}
	/* Column of y that piece i, item j is. */
	FR_DEVICE_MEMBER int col(int i, int j) const
	{
		return (i * LANES + sub) * ITEMS + j;
	}
	/* The thread's pieces of AHEAD keys from position `from` + slot on; those from `end` on are zero. */
	FR_DEVICE_MEMBER void load(fr_u4 x[AHEAD][PIECES], const char *base, int from, int end) const
	{
#pragma unroll
		for (int u = 0; u < AHEAD; u++)
#pragma unroll
			for (int i = 0; i < PIECES; i++) {
				int pos = from + u * SLOTS + slot;

				x[u][i] = fr_u4{0, 0, 0, 0};
				/* one condition: a predicated load, where two become branches around it */
				if ((pos < end) & (col(i, 0) < a.head_dim))
					x[u][i] = fr_ld_const(base + (size_t)pos * of_pos + i * LANES * 16);
			}
	}
	/* s of positions from..end of the cache, the chunk's first at s[0]. */
	FR_DEVICE_MEMBER void scores(int from, int end) const
	{
		float q[GH][MINE];
		fr_u4 x[AHEAD][PIECES];

#pragma unroll
		for (int i = 0; i < GH * MINE; i++) {
			int g = i / MINE, c = col(i % MINE / ITEMS, i % ITEMS);

			q[g][i % MINE] = g < heads && c < a.head_dim
						 ? a.q[row * (size_t)a.out.width + (size_t)(head + g) * a.head_dim + c]
						 : 0.0f;
		}
		for (int j = from; j < end; j += AHEAD * SLOTS) {
			load(x, k, j, end);
#pragma unroll
			for (int u = 0; u < AHEAD; u++)
				dots(q, x[u], j + u * SLOTS + slot - from);
		}
	}
	FR_DEVICE_MEMBER void dots(const float q[GH][MINE], const fr_u4 x[PIECES], int at) const
	{
		float sum[GH];

#pragma unroll
		for (int g = 0; g < GH; g++)
			sum[g] = 0.0f;
#pragma unroll
		for (int i = 0; i < PIECES; i++) {
			float f[8];

			widen<F16>(f, x[i]);
#pragma unroll
			for (int g = 0; g < GH; g++)
#pragma unroll
				for (int j = 0; j < ITEMS; j++)
					sum[g] = fmaf(q[g][i * ITEMS + j], f[j], sum[g]);
		}
#pragma unroll
		for (int g = 0; g < GH; g++) {
			sum[g] += fr_shfl_xor(sum[g], 1);
			sum[g] += fr_shfl_xor(sum[g], 2);
			sum[g] += fr_shfl_xor(sum[g], 4);
			if (sub == 0 && at < CHUNK)
				s[g * CHUNK + at] = sum[g] * a.scale;
		}
	}
	/* p of the chunk's n scores, one a thread, zero beyond n; every warp finds the maximum for itself. */
	FR_DEVICE_MEMBER void weights(float m[GH], int n) const
	{
		int t = (int)threadIdx.x;

#pragma unroll
		for (int g = 0; g < GH; g++) {
			m[g] = -INFINITY;
			for (int j = t % 32; j < n; j += 32)
				m[g] = fmaxf(m[g], s[g * CHUNK + j]);
#pragma unroll
			for (int h = 16; h > 0; h /= 2)
				m[g] = fmaxf(m[g], fr_shfl_xor(m[g], h));
			p[g * CHUNK + t] = t < n ? fr_exp(s[g * CHUNK + t] - m[g]) : 0.0f;
		}
	}
	/* Sums of the weights, and of the weighted values by warp, of which the first AHEAD keys are in x. */
	FR_DEVICE_MEMBER void values(fr_u4 x[AHEAD][PIECES], int from, int end) const
	{
		int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
		float sum[GH][MINE], all = 0.0f;

#pragma unroll
		for (int i = 0; i < GH * MINE; i++)
			sum[i / MINE][i % MINE] = 0.0f;
		for (int j = from; j < end; j += AHEAD * SLOTS) {
			if (j > from)
				load(x, v, j, end);
#pragma unroll
			for (int u = 0; u < AHEAD; u++)
				add(sum, x[u], j + u * SLOTS + slot - from);
		}
#pragma unroll
		for (int i = 0; i < GH * MINE; i++) {
			float *f = &sum[i / MINE][i % MINE];

			*f += fr_shfl_xor(*f, 8);
			*f += fr_shfl_xor(*f, 16);
			if (lane < LANES)
				o[(warp * GH + i / MINE) * DIM + col(i % MINE / ITEMS, i % ITEMS)] = *f;
		}
		if (warp < GH) {
			for (int j = lane; j < CHUNK; j += 32)
				all += p[warp * CHUNK + j];
#pragma unroll
			for (int h = 16; h > 0; h /= 2)
				all += fr_shfl_xor(all, h);
			if (lane == 0)
				l[warp] = all;
		}
	}
	FR_DEVICE_MEMBER void add(float sum[GH][MINE], const fr_u4 x[PIECES], int at) const
	{
		float w[GH];

#pragma unroll
		for (int g = 0; g < GH; g++)
			w[g] = at < CHUNK ? p[g * CHUNK + at] : 0.0f;
#pragma unroll
		for (int i = 0; i < PIECES; i++) {
			float f[8];

			widen<F16>(f, x[i]);
#pragma unroll
			for (int g = 0; g < GH; g++)
#pragma unroll
				for (int j = 0; j < ITEMS; j++)
					sum[g][i * ITEMS + j] = fmaf(w[g], f[j], sum[g][i * ITEMS + j]);
		}
	}
	/* The warps' sums in order: a part of the row, or, with one chunk, y. */
	FR_DEVICE_MEMBER void store(const float m[GH], int chunk) const
	{
		for (int i = (int)threadIdx.x; i < heads * a.head_dim; i += THREADS) {
			int g = i / a.head_dim, d = i % a.head_dim;
			float sum = o[g * DIM + d];

			for (int warp = 1; warp < THREADS / 32; warp++)
				sum += o[(warp * GH + g) * DIM + d];
			if (a.part)
				part_of(g, chunk)[d] = sum;
			else
				attn_put(a.out, row, (size_t)(head + g) * a.head_dim + d, sum / l[g]);
		}
#pragma unroll
		for (int g = 0; g < GH; g++)
			if (a.part && threadIdx.x == 0 && g < heads) {
				part_of(g, chunk)[a.head_dim] = m[g];
				part_of(g, chunk)[a.head_dim + 1] = l[g];
			}
	}
	FR_DEVICE_MEMBER float *part_of(int g, int chunk) const
	{
		return a.part + ((row * a.heads + head + g) * a.chunks + chunk) * (size_t)(a.head_dim + 2);
	}
	FR_DEVICE_MEMBER void run(void) const
	{
		int keys = a.row[row].pos + 1;

		for (int c = (int)blockIdx.x; c * CHUNK < keys; c += (int)gridDim.x) {
			int from = c * CHUNK, end = keys < from + CHUNK ? keys : from + CHUNK;
			fr_u4 x[AHEAD][PIECES];
			float m[GH];

			scores(from, end);
			load(x, v, from, end); /* they travel while the weights are made */
			__syncthreads();
			weights(m, end - from);
			__syncthreads();
			values(x, from, end);
			__syncthreads();
			store(m, c);
		}
	}
};

#define DECODE(name, f16, pieces, heads, blocks)                                                                       \
	FR_KERNEL(name, struct fr_attn_decode_args, THREADS, blocks)                                                   \
	{                                                                                                              \
		FR_WAIT();                                                                                             \
		FR_RELEASE();                                                                                          \
		decode<f16, pieces, heads>(a).run();                                                                   \
	}
DECODE(fr_attn_decode_f16_64_1, true, 1, 1, 2)
DECODE(fr_attn_decode_f16_64_4, true, 1, 4, 2)
DECODE(fr_attn_decode_f16_128_1, true, 2, 1, 2)
DECODE(fr_attn_decode_f16_128_4, true, 2, 4, 1)
DECODE(fr_attn_decode_f16_320_1, true, 5, 1, 2)
DECODE(fr_attn_decode_f32_64_1, false, 2, 1, 2)
DECODE(fr_attn_decode_f32_64_4, false, 2, 4, 2)
DECODE(fr_attn_decode_f32_128_1, false, 4, 1, 2)
DECODE(fr_attn_decode_f32_128_4, false, 4, 4, 1)
DECODE(fr_attn_decode_f32_320_1, false, 10, 1, 2)

FR_KERNEL(fr_attn_combine, struct fr_attn_combine_args, 128, 8)
{
	FR_WAIT();
	FR_RELEASE();
	size_t row = blockIdx.y, head = blockIdx.x, each = (size_t)(a.head_dim + 2);
	const float *part = a.part + (row * (size_t)a.heads + head) * (size_t)a.chunks * each;
	const float *ml = part + a.head_dim;
	int n = a.row[row].pos / CHUNK + 1;
	float m = -INFINITY, l = 0.0f;

	for (int c = 0; c < n; c++)
		m = fmaxf(m, ml[(size_t)c * each]);
	for (int c = 0; c < n; c++)
		l = fmaf(ml[(size_t)c * each + 1], fr_exp(ml[(size_t)c * each] - m), l);
	for (int d = (int)threadIdx.x; d < a.head_dim; d += 128) {
		float o = 0.0f;

		for (int c = 0; c < n; c++)
			o = fmaf(part[(size_t)c * each + d], fr_exp(ml[(size_t)c * each] - m), o);
		attn_put(a.out, row, head * (size_t)a.head_dim + d, o / l);
	}
}
