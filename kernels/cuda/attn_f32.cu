/* Attention in float32 throughout: --precise, and float32 caches. The contract's own order (ops.h): the bits are ref's.
 *
 * A block has one head and up to 32 rows (16 for heads above 128); a warp has 4 (2) of them. Per chunk of 256 keys:
 * tiles of 32 keys pass through shared memory, a lane's key against the warp's rows (one chain of fma over the head, as
 * the contract's seq); the scores of the chunk stay in shared memory, [rows, 256]; lane i of the softmax has keys i,
 * i + 32, ... as lanesum has; then tiles of 32 values, a lane's columns against the rows, in order of keys.
 *
 * Limit: shared memory. 4 rows make 16 fma of 5 16-byte loads, about half of the fma peak. Rows of keys are 4 floats
 * longer than the head, so that a 16-byte load of 32 keys meets each bank four times, which is its due. */
#include "attn_tile.h"

#define THREADS 256
#define WARPS (THREADS / 32)
#define KEYS 32 /* of a tile: a lane each */
#define CHUNK FR_ATTN_CHUNK

/* A block: ROWS rows a warp of one head. In shared memory: its queries [WARPS * ROWS, dim], a tile of keys or values
 * [KEYS, dim + 4], and a chunk's weights [WARPS * ROWS, CHUNK]; dim = head_dim. */
template <int ROWS, int DIM> struct exact {
	const fr_attn_args &a;
	attn_span t;
	float *q, *tile, *p;
	int dim, warp, lane, base; /* base: the warp's first row */
	float m[ROWS], l[ROWS], o[ROWS][DIM / 32];

	FR_DEVICE_MEMBER exact(const fr_attn_args &args)
	    : a(args), t(attn_span_of(args, WARPS * ROWS)), dim(args.head_dim)
	{
		warp = (int)threadIdx.x / 32;
		lane = (int)threadIdx.x % 32;
		base = warp * ROWS;
		q = (float *)fr_smem();
		tile = q + WARPS * ROWS * dim;
		p = tile + KEYS * (dim + 4);
#pragma unroll
		for (int i = 0; i < ROWS; i++) {
			m[i] = -INFINITY;
			l[i] = 0.0f;
#pragma unroll
			for (int j = 0; j < DIM / 32; j++)
				o[i][j] = 0.0f;
		}
		for (int i = (int)threadIdx.x; i < WARPS * ROWS * dim; i += THREADS)
			q[i] = i / dim < t.rows ? a.q[(t.row + (size_t)(i / dim)) * (size_t)a.out.width +
						      blockIdx.x * (size_t)dim + (size_t)(i % dim)]
						: 0.0f;
	}
	/* Keys a row of the warp sees; rows beyond the block's are as the last. */
	FR_DEVICE_MEMBER int seen(int i) const
	{
		return t.last + (base + i < t.rows ? base + i : t.rows - 1) * t.slope + 1;
	}
	/* Positions from..from + KEYS of k or v as float32, zero from `end` on. Two barriers around it. */
	FR_DEVICE_MEMBER void load(const void *src, int from, int end) const
	{
		__syncthreads();
		for (int i = (int)threadIdx.x; i < KEYS * dim; i += THREADS) {
			size_t at = t.keys + (size_t)(from + i / dim) * a.keys.of_pos + (size_t)(i % dim);
			float x = 0.0f;

			if (from + i / dim < end)
				x = a.keys.f16 ? fr_f16_float(((const uint16_t *)src)[at]) : ((const float *)src)[at];
			tile[i / dim * (dim + 4) + i % dim] = x;
		}
		__syncthreads();
	}
	/* Scores of the tile at position `pos` to p, `at` being its place in the chunk: a lane's key against ROWS rows.
	 */
	FR_DEVICE_MEMBER void scores(int pos, int at) const
	{
		const float *k = tile + lane * (dim + 4);
		float s[ROWS];

#pragma unroll
		for (int i = 0; i < ROWS; i++)
			s[i] = 0.0f;
#pragma unroll 2
		for (int d = 0; d < dim; d += 4) {
			fr_u4 y = *(const fr_u4 *)(k + d);

#pragma unroll
			for (int i = 0; i < ROWS; i++) {
				fr_u4 x = *(const fr_u4 *)(q + (base + i) * dim + d);

				s[i] = fmaf(fr_bits_f32(x.x), fr_bits_f32(y.x), s[i]);
				s[i] = fmaf(fr_bits_f32(x.y), fr_bits_f32(y.y), s[i]);
				s[i] = fmaf(fr_bits_f32(x.z), fr_bits_f32(y.z), s[i]);
				s[i] = fmaf(fr_bits_f32(x.w), fr_bits_f32(y.w), s[i]);
			}
		}
#pragma unroll
		for (int i = 0; i < ROWS; i++) {
			float v = s[i] * a.scale;

			if (t.bias && base + i < t.rows && pos + lane < a.kv_rows)
				v = v + t.bias[(size_t)(base + i) * (size_t)a.kv_rows + (size_t)(pos + lane)];
			p[(base + i) * CHUNK + at + lane] = pos + lane < seen(i) ? v : -INFINITY;
		}
	}
	/* The chunk's scores, `tiles` tiles of them, to weights. */
	FR_DEVICE_MEMBER void softmax(int tiles)
	{
		fr_syncwarp();
#pragma unroll
		for (int i = 0; i < ROWS; i++) {
			float *w = p + (base + i) * CHUNK + lane, top = m[i], fade, sum = 0.0f;

			for (int j = 0; j < tiles; j++)
				top = fmaxf(top, w[j * 32]);
#pragma unroll
			for (int h = 16; h > 0; h /= 2)
				top = fmaxf(top, fr_shfl_xor(top, h));
			fade = fr_exp(m[i] - top);
			for (int j = 0; j < tiles; j++) {
				w[j * 32] = fr_exp(w[j * 32] - top);
				sum += w[j * 32];
			}
#pragma unroll
			for (int h = 16; h > 0; h /= 2)
				sum += fr_shfl_xor(sum, h);
			l[i] = fmaf(l[i], fade, sum);
			m[i] = top;
#pragma unroll
			for (int j = 0; j < DIM / 32; j++)
				o[i][j] *= fade;
		}
		fr_syncwarp();
	}
	/* o += p v for the tile at position pos; keys that a row does not see are left out. */
	FR_DEVICE_MEMBER void values(int pos, int at)
	{
		int n[ROWS];

#pragma unroll
		for (int i = 0; i < ROWS; i++)
			n[i] = seen(i) - pos;
		for (int k = 0; k < KEYS && k < n[ROWS - 1]; k++) {
#pragma unroll
			for (int j = 0; j < DIM / 32; j++) {
				float x = j * 32 + lane < dim ? tile[k * (dim + 4) + j * 32 + lane] : 0.0f;

#pragma unroll
				for (int i = 0; i < ROWS; i++)
					if (k < n[i])
						o[i][j] = fmaf(p[(base + i) * CHUNK + at + k], x, o[i][j]);
			}
		}
	}
	FR_DEVICE_MEMBER void store(void) const
	{
#pragma unroll
		for (int i = 0; i < ROWS; i++)
#pragma unroll
			for (int j = 0; j < DIM / 32; j++)
				if (base + i < t.rows && j * 32 + lane < dim)
					attn_put(a.out, t.row + (size_t)(base + i),
						 blockIdx.x * (size_t)dim + (size_t)(j * 32 + lane), o[i][j] / l[i]);
	}
	FR_DEVICE_MEMBER void run(void)
	{
		int keys = t.last + (t.rows - 1) * t.slope + 1;

		for (int from = 0; from < keys; from += CHUNK) {
			int n = keys - from < CHUNK ? keys - from : CHUNK;

			for (int j = 0; j < n; j += KEYS) {
				load(a.keys.k, from + j, keys);
				scores(from + j, j);
			}
			softmax((n + KEYS - 1) / KEYS);
			for (int j = 0; j < n; j += KEYS) {
				load(a.keys.v, from + j, keys);
				values(from + j, j);
			}
		}
		store();
	}
};

FR_KERNEL(fr_attn_f32_64, struct fr_attn_args, THREADS, 2)
{
	FR_WAIT();
	FR_RELEASE();
	exact<4, 64>(a).run();
}
FR_KERNEL(fr_attn_f32_128, struct fr_attn_args, THREADS, 2)
{
	FR_WAIT();
	FR_RELEASE();
	exact<4, 128>(a).run();
}
FR_KERNEL(fr_attn_f32_320, struct fr_attn_args, THREADS, 2)
{
	FR_WAIT();
	FR_RELEASE();
	exact<2, 320>(a).run();
}
