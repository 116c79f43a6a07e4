/* Maps of attention: the softmax itself, and the bias that two 1x1 convolutions over its heads make of it. Both are
 * float32 in the contract's order, so the bits are ref's: a map goes through a logarithm, where what 16-bit queries and
 * keys lose would show most in its smallest values, and the time is nothing beside the layers that a map belongs to.
 *
 * fr_attn_map: a block has one head and 32 rows, a warp four of them. Tiles of 32 keys pass through shared memory, a
 * lane's key against the warp's rows; a score goes straight to its place in the map, where the softmax of its row is
 * made by the lane that wrote it: any number of keys, no work memory, and what is read again comes from L2. Per 4
 * columns of the head a warp makes 16 fma of 8 wavefronts of shared memory, half of the fma peak: on paper 25 us for 16
 * heads of 577 x 577 x 64 on an H100, and about as much for the map's ways through L2. Unmeasured.
 *
 * fr_map_bias: a thread has one pixel (or two) of all heads in registers, the weights lie in shared memory and are read
 * by all lanes at once. The rows of a map are odd (1 + n floats), so that loads are 4 bytes a lane, neighbours side by
 * side, as many under way as there are heads. For 16 heads and 32 in the middle a pixel is 128 bytes and about 3200
 * instructions, half of them the 32 gelu: the arithmetic (on paper 40 us an image on an H100) takes longer than the
 * memory (13 us). Unmeasured. */
#include "four.h"

#define WARPS (FR_MAP_THREADS / 32)
#define ROWS (FR_MAP_ROWS / WARPS) /* of a warp */
#define KEYS FR_MAP_ROWS

/* Rows first.. of x [.., width] from column 0 of the block's head into a tile of FR_MAP_ROWS rows `pitch` apart; zero
 * from row `end` on. */
FR_DEVICE void load_tile(float *tile, int pitch, const float *x, int first, int end, size_t width, int dim, int vector)
{
	int fours = dim / 4;

	for (int i = (int)threadIdx.x; i < FR_MAP_ROWS * fours; i += FR_MAP_THREADS) {
		int row = i / fours, col = i % fours * 4;
		float v[4] = {};

		if (first + row < end)
			fr_get4(v, x + (size_t)(first + row) * width + (size_t)col, 4, vector);
		fr_put4(tile + row * pitch + col, v, 4, 1);
	}
}

FR_DEVICE void read_four(float v[4], const float *p)
{
	fr_get4(v, p, 4, 1);
}

/* The scores of the lane's key against the warp's rows, each one chain over the head. */
FR_DEVICE void score(float s[ROWS], const float *q, const float *key, int dim)
{
#pragma unroll
	for (int i = 0; i < ROWS; i++)
		s[i] = 0.0f;
#pragma unroll 2
	for (int d = 0; d < dim; d += 4) {
		float y[4], x[4];

		read_four(y, key + d);
#pragma unroll
		for (int i = 0; i < ROWS; i++) {
			read_four(x, q + i * dim + d);
#pragma unroll
			for (int e = 0; e < 4; e++)
				s[i] = fmaf(x[e], y[e], s[i]);
		}
	}
}

/* Scores to weights, in place: lane i of lanesum has keys i, i + 32, ..., which are those that this lane has written.
 */
FR_DEVICE void normalise(float *row, int keys, float top)
{
	float sum = 0.0f;

#pragma unroll
	for (int h = 16; h > 0; h /= 2)
		top = fmaxf(top, fr_shfl_xor(top, h));
#pragma unroll 4
	for (int j = (int)threadIdx.x % 32; j < keys; j += 32) {
		float p = fr_exp(row[j] - top);

		row[j] = p;
		sum += p;
	}
#pragma unroll
	for (int h = 16; h > 0; h /= 2)
		sum += fr_shfl_xor(sum, h);
#pragma unroll 4
	for (int j = (int)threadIdx.x % 32; j < keys; j += 32)
		row[j] = row[j] / sum;
}

FR_KERNEL(fr_attn_map, struct fr_attn_map_args, FR_MAP_THREADS, 3)
{
	FR_WAIT();
	FR_RELEASE();
	int dim = a.head_dim, lane = (int)threadIdx.x % 32, base = (int)threadIdx.x / 32 * ROWS;
	int first = (int)blockIdx.y * FR_MAP_ROWS,
	    rows = a.rows - first; /* of the block; those of the warp: from base */
	size_t width = (size_t)gridDim.x * (size_t)dim, head = blockIdx.x, item = blockIdx.z;
	const float *q = a.q + item * (size_t)a.q_rows * width + head * (size_t)dim;
	const float *k = a.k + item * (size_t)a.kv_rows * width + head * (size_t)dim;
	float *map = a.map + ((item * gridDim.x + head) * (size_t)a.rows + (size_t)(first + base)) * (size_t)a.kv_rows;
	float *qs = (float *)fr_smem(), *tile = qs + FR_MAP_ROWS * dim, top[ROWS];

#pragma unroll
	for (int i = 0; i < ROWS; i++)
		top[i] = -INFINITY;
	load_tile(qs, dim, q, first, a.rows, width, dim, a.vector);
	for (int from = 0; from < a.kv_rows; from += KEYS) {
		float s[ROWS];

		__syncthreads();
		load_tile(tile, dim + 4, k, from, a.kv_rows, width, dim, a.vector);
		__syncthreads();
		if (base >= rows || from + lane >= a.kv_rows)
			continue;
		score(s, qs + base * dim, tile + lane * (dim + 4), dim);
#pragma unroll
		for (int i = 0; i < ROWS; i++) {
			s[i] *= a.scale;
			top[i] = fmaxf(top[i], s[i]);
			if (base + i < rows)
				map[(size_t)i * (size_t)a.kv_rows + (size_t)(from + lane)] = s[i];
		}
	}
#pragma unroll 1
	for (int i = 0; i < ROWS; i++)
		if (base + i < rows)
			normalise(map + (size_t)i * (size_t)a.kv_rows, a.kv_rows, top[i]);
}

/* ---- the bias ---- */

/* The weights in shared memory: w1 [mid, heads], w2 turned to [mid, heads], b1 [mid], b2 [heads]. */
struct mixer {
	float *w1, *w2, *b1, *b2;
};

FR_DEVICE mixer load_mixer(const fr_map_bias_args &a)
{
	int n = a.mid * a.heads;
	mixer m;

	m.w1 = (float *)fr_smem();
	m.w2 = m.w1 + n;
	m.b1 = m.w2 + n;
	m.b2 = m.b1 + a.mid;
	for (int i = (int)threadIdx.x; i < n; i += (int)blockDim.x) {
		m.w1[i] = a.w1[i];
		m.w2[i % a.mid * a.heads + i / a.mid] = a.w2[i];
	}
	for (int i = (int)threadIdx.x; i < a.mid; i += (int)blockDim.x)
		m.b1[i] = a.b1[i];
	for (int i = (int)threadIdx.x; i < a.heads; i += (int)blockDim.x)
		m.b2[i] = a.b2[i];
	return m;
}

/* log(map + offset) of pixel i of n * n, all heads. */
template <int HEADS, int MOST> FR_DEVICE void load_pixel(const fr_map_bias_args &a, int i, float x[MOST])
{
	size_t side = 1 + (size_t)a.n, item = blockIdx.y;
	const float *p =
		a.map + item * (size_t)a.heads * side * side + (size_t)(1 + i / a.n) * side + (size_t)(1 + i % a.n);

#pragma unroll
	for (int h = 0; h < MOST; h++)
		if (HEADS || h < a.heads)
			x[h] = p[(size_t)h * side * side];
#pragma unroll
	for (int h = 0; h < MOST; h++)
		if (HEADS || h < a.heads)
			x[h] = fr_log(x[h] + a.offset);
}

/* Row m of weights [mid, heads]. */
template <int HEADS, int MOST>
FR_DEVICE void load_weights(const fr_map_bias_args &a, const float *w, int m, float v[MOST])
{
#pragma unroll
	for (int h = 0; h < HEADS; h += 4)
		read_four(v + h, w + m * HEADS + h);
#pragma unroll
	for (int h = 0; h < MOST && !HEADS; h++)
		if (h < a.heads)
			v[h] = w[m * a.heads + h];
}

/* One channel of the middle: y += w2[:, m] * gelu(w1[m, :] x + b1[m]), a link of each output's chain. */
template <int HEADS, int MOST, int PIXELS>
FR_DEVICE void mix(const fr_map_bias_args &a, const mixer &w, int m, const float x[PIXELS][MOST], float y[PIXELS][MOST])
{
	float t[PIXELS] = {}, b1 = w.b1[m], v[MOST];

	load_weights<HEADS, MOST>(a, w.w1, m, v);
#pragma unroll
	for (int h = 0; h < MOST; h++)
		if (HEADS || h < a.heads)
#pragma unroll
			for (int p = 0; p < PIXELS; p++)
				t[p] = fmaf(v[h], x[p][h], t[p]);
#pragma unroll
	for (int p = 0; p < PIXELS; p++)
		t[p] = fr_gelu(t[p] + b1);
	load_weights<HEADS, MOST>(a, w.w2, m, v);
#pragma unroll
	for (int h = 0; h < MOST; h++)
		if (HEADS || h < a.heads)
#pragma unroll
			for (int p = 0; p < PIXELS; p++)
				y[p][h] = fmaf(v[h], t[p], y[p][h]);
}

/* HEADS of them, known to the compiler; or with 0 up to MOST. */
template <int HEADS, int MOST, int PIXELS> FR_DEVICE void map_bias(const fr_map_bias_args &a)
{
	mixer w = load_mixer(a);
	int pixels = a.n * a.n, first = (int)(blockIdx.x * (PIXELS * blockDim.x) + threadIdx.x);
	size_t plane = (size_t)pixels, item = blockIdx.y;
	float *out = a.y + item * (size_t)a.heads * plane;
	float x[PIXELS][MOST], y[PIXELS][MOST];

	FR_WAIT();
	FR_RELEASE();
	__syncthreads();
#pragma unroll
	for (int p = 0; p < PIXELS; p++) {
		int i = first + p * (int)blockDim.x;

		load_pixel<HEADS, MOST>(a, i < pixels ? i : pixels - 1, x[p]);
#pragma unroll
		for (int h = 0; h < MOST; h++)
			y[p][h] = 0.0f;
	}
#pragma unroll 1
	for (int m = 0; m < a.mid; m++)
		mix<HEADS, MOST, PIXELS>(a, w, m, x, y);
#pragma unroll
	for (int p = 0; p < PIXELS; p++) {
		int i = first + p * (int)blockDim.x;

#pragma unroll
		for (int h = 0; h < MOST; h++)
			if ((HEADS || h < a.heads) && i < pixels)
				out[(size_t)h * plane + (size_t)i] = y[p][h] + w.b2[h];
	}
}

FR_KERNEL(fr_map_bias_16, struct fr_map_bias_args, FR_MAP_THREADS, 2)
{
	map_bias<16, 16, FR_MAP_BIAS_PIXELS>(a);
}
FR_KERNEL(fr_map_bias_any, struct fr_map_bias_args, FR_MAP_THREADS, 1)
{
	map_bias<0, FR_MAX_MAP_HEADS, 1>(a);
}
