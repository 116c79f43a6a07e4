/* Operations whose rows are independent: norms, rotation with the KV write, embedding, the gate of an MLP. */
#include "four.h"

/* The sum of v over the block, the same bits in every thread: a tree in each warp, then a tree over the warps' sums in
 * sums [32]. */
FR_DEVICE float block_sum(float v, float *sums)
{
	int t = (int)threadIdx.x, warps = (int)blockDim.x / 32;

	for (int h = 16; h > 0; h /= 2)
		v += fr_shfl_xor(v, h);
	if (t % 32 == 0)
		sums[t / 32] = v;
	__syncthreads();
	v = t % 32 < warps ? sums[t % 32] : 0.0f;
	for (int h = 16; h > 0; h /= 2)
		v += fr_shfl_xor(v, h);
	return v;
}

/* The bf16 terms of four values, the second `term` items behind the first. */
FR_DEVICE void put_terms(uint16_t *out, size_t term, int terms, const float v[4])
{
	uint32_t hi0 = fr_bf16x2(v[0], v[1]), hi1 = fr_bf16x2(v[2], v[3]);

	*(fr_u2 *)out = fr_u2{hi0, hi1};
	if (terms > 1)
		*(fr_u2 *)(out + term) = fr_u2{fr_bf16x2_rest(v[0], v[1], hi0), fr_bf16x2_rest(v[2], v[3], hi1)};
}

/* Columns col..col+3 of y, and of its bf16 terms, whose columns from dim on are zero. */
FR_DEVICE void norm_put(const fr_norm_args &a, int row, int col, const float v[4])
{
	int n = a.dim - col;

	fr_put4(a.y + (size_t)row * a.dim + col, v, n, a.vector_y);
	if (a.out && col < a.pitch)
		put_terms(a.out + (size_t)row * a.pitch + col, (size_t)a.rows * a.pitch, a.terms, v);
}

/* v = the norm of v; beyond dim weight and bias are zero and so is the result. */
FR_DEVICE void norm_scale(const fr_norm_args &a, float v[4], float mean, float inv, const float w[4], const float b[4])
{
	for (int i = 0; i < 4; i++)
		v[i] = a.bias ? fmaf((v[i] - mean) * inv, w[i], b[i]) : v[i] * inv * w[i];
}

/* Sum of squares of v, or of v - mean, over the columns that are there. */
FR_DEVICE float squares(float sum, const float v[4], float mean, int n)
{
	for (int i = 0; i < 4; i++)
		sum = i < n ? fmaf(v[i] - mean, v[i] - mean, sum) : sum;
	return sum;
}

/* A block per row of at most 8 * blockDim.x columns, read once and held in registers. */
FR_KERNEL(fr_norm_row, struct fr_norm_args, 1024, 1)
{
	float *sums = (float *)fr_smem();
	float v[2][4], w[2][4], b[2][4] = {};
	int row = (int)blockIdx.x, at[2] = {(int)threadIdx.x * 4, (int)(threadIdx.x + blockDim.x) * 4};
	float sum = 0, mean = 0, inv;

	for (int j = 0; j < 2; j++) {
		fr_get4(w[j], a.weight + at[j], a.dim - at[j], a.vector_weight);
		if (a.bias)
			fr_get4(b[j], a.bias + at[j], a.dim - at[j], a.vector_bias);
	}
	FR_WAIT();
	FR_RELEASE();
	for (int j = 0; j < 2; j++)
		fr_get4(v[j], a.x + (size_t)row * a.dim + at[j], a.dim - at[j], a.vector_x);
	if (a.bias) {
		for (int j = 0; j < 2; j++)
			for (int i = 0; i < 4; i++)
				sum += v[j][i];
		mean = block_sum(sum, sums) / (float)a.dim;
		sum = 0;
	}
	for (int j = 0; j < 2; j++)
		sum = squares(sum, v[j], mean, a.dim - at[j]);
	inv = 1.0f / sqrtf(block_sum(sum, sums + 32) / (float)a.dim + a.eps);
	for (int j = 0; j < 2; j++) {
		norm_scale(a, v[j], mean, inv, w[j], b[j]);
		norm_put(a, row, at[j], v[j]);
	}
}

/* The same for any width: x is read again for each pass. In place: a thread reads a column again before it writes it.
 */
FR_KERNEL(fr_norm_wide, struct fr_norm_args, 1024, 1)
{
	FR_WAIT();
	FR_RELEASE();
	float *sums = (float *)fr_smem();
	int row = (int)blockIdx.x, step = (int)blockDim.x * 4;
	const float *x = a.x + (size_t)row * a.dim;
	float v[4], w[4], b[4] = {}, sum = 0, mean = 0, inv;

	if (a.bias) {
		for (int at = (int)threadIdx.x * 4; at < a.dim; at += step) {
			fr_get4(v, x + at, a.dim - at, a.vector_x);
			for (int i = 0; i < 4; i++)
				sum += v[i];
		}
		mean = block_sum(sum, sums) / (float)a.dim;
		sum = 0;
	}
	for (int at = (int)threadIdx.x * 4; at < a.dim; at += step) {
		fr_get4(v, x + at, a.dim - at, a.vector_x);
		sum = squares(sum, v, mean, a.dim - at);
	}
	inv = 1.0f / sqrtf(block_sum(sum, sums + 32) / (float)a.dim + a.eps);
	for (int at = (int)threadIdx.x * 4; at < a.pitch; at += step) {
		fr_get4(v, x + at, a.dim - at, a.vector_x);
		fr_get4(w, a.weight + at, a.dim - at, a.vector_weight);
		if (a.bias)
			fr_get4(b, a.bias + at, a.dim - at, a.vector_bias);
		norm_scale(a, v, mean, inv, w, b);
		norm_put(a, row, at, v);
	}
}

/* ---- rotation and the KV cache ---- */

/* Four items of the cache. */
FR_DEVICE void cache_put(const fr_rope_args &a, void *cache, size_t at, const float v[4])
{
	if (a.f16)
		*(fr_u2 *)((uint16_t *)cache + at) = fr_u2{fr_f16x2_rn(v[0], v[1]), fr_f16x2_rn(v[2], v[3])};
	else
		fr_put4((float *)cache + at, v, 4, 1);
}

/* A thread has items i..i+3 and half+i..half+i+3 of one head of q, k or v: the pairs that turn together. */
FR_KERNEL(fr_rope_store, struct fr_rope_args, 256, 4)
{
	FR_WAIT();
	FR_RELEASE();
	int half = a.head_dim / 2, r = (int)blockIdx.x, unit = (int)(blockIdx.y * 256 + threadIdx.x);
	int h = unit / (half / 4), i = unit % (half / 4) * 4;
	float lo[4], hi[4], c[4], s[4];

	if (h >= a.heads + 2 * a.kv_heads)
		return;
	struct fr_row row = a.row[r];
	int kv_head = (h - a.heads) % a.kv_heads, is_q = h < a.heads, is_v = h >= a.heads + a.kv_heads;
	size_t at = ((size_t)r * (is_q ? a.heads : a.kv_heads) + (is_q ? h : kv_head)) * a.head_dim + i;
	const float *x = (is_q ? a.q : is_v ? a.v : a.k) + at;
	int vector = is_q ? a.vector_q : is_v ? a.vector_v : a.vector_k;

	fr_get4(lo, x, 4, vector);
	fr_get4(hi, x + half, 4, vector);
	if (!is_v) {
		fr_get4(c, a.cos + (size_t)row.pos * half + i, 4, a.vector_cos);
		fr_get4(s, a.sin + (size_t)row.pos * half + i, 4, a.vector_sin);
		for (int j = 0; j < 4; j++) {
			float x0 = lo[j], x1 = hi[j];

			lo[j] = fmaf(x0, c[j], -(x1 * s[j]));
			hi[j] = fmaf(x1, c[j], x0 * s[j]);
		}
	}
	if (is_q) {
		fr_put4(a.q + at, lo, 4, vector);
		fr_put4(a.q + at + half, hi, 4, vector);
		return;
	}
	at = (((size_t)row.seq * a.kv_heads + kv_head) * a.max_pos + row.pos) * a.head_dim + i;
	cache_put(a, is_v ? a.cache_v : a.cache_k, at, lo);
	cache_put(a, is_v ? a.cache_v : a.cache_k, at + half, hi);
}

/* ---- embedding ---- */

/* Items 0..7 at p, 16 aligned bytes or 32. */
template <fr_dtype dtype> FR_DEVICE void widen8(float v[8], const void *p)
{
	fr_u4 u = fr_ld_stream(p);

	if (dtype == FR_F32) {
		fr_u4 n = fr_ld_stream((const float *)p + 4);
		uint32_t bits[8] = {u.x, u.y, u.z, u.w, n.x, n.y, n.z, n.w};

		for (int i = 0; i < 8; i++)
			v[i] = fr_bits_f32(bits[i]);
		return;
	}
	uint32_t pair[4] = {u.x, u.y, u.z, u.w};
	for (int i = 0; i < 4; i++) {
		uint16_t lo = (uint16_t)pair[i], hi = (uint16_t)(pair[i] >> 16);

		v[2 * i] = dtype == FR_BF16 ? fr_bf16_f32(lo) : fr_f16_float(lo);
		v[2 * i + 1] = dtype == FR_BF16 ? fr_bf16_f32(hi) : fr_f16_float(hi);
	}
}

/* A thread has eight columns of a row. The table's rows are padded, images and y are not. */
template <fr_dtype dtype> FR_DEVICE void embed(const fr_embed_args &a)
{
	int r = (int)blockIdx.x, col = (int)(blockIdx.y * 256 + threadIdx.x) * 8, n = a.dim - col;
	float v[8];

	if (n <= 0)
		return;
	int id = a.ids[r];
	if (id >= 0) {
		size_t item = dtype == FR_F32 ? 4 : 2;

		widen8<dtype>(v, (const char *)a.table + ((size_t)id * a.pitch + col) * item);
	} else {
		const float *image = a.images + (size_t)(-1 - id) * a.dim + col;

		fr_get4(v, image, n, a.vector_images);
		fr_get4(v + 4, image + 4, n - 4, a.vector_images);
	}
	float *y = a.y + (size_t)r * a.dim + col;
	fr_put4(y, v, n, a.vector_y);
	fr_put4(y + 4, v + 4, n - 4, a.vector_y);
}

FR_KERNEL(fr_embed_f32, struct fr_embed_args, 256, 4)
{
	FR_WAIT();
	FR_RELEASE();
	embed<FR_F32>(a);
}
FR_KERNEL(fr_embed_f16, struct fr_embed_args, 256, 4)
{
	FR_WAIT();
	FR_RELEASE();
	embed<FR_F16>(a);
}
FR_KERNEL(fr_embed_bf16, struct fr_embed_args, 256, 4)
{
	FR_WAIT();
	FR_RELEASE();
	embed<FR_BF16>(a);
}

/* ---- the middle of an MLP whose two products are apart ---- */

/* A thread has four columns of a row; those of the terms from cols on are zero. */
FR_KERNEL(fr_gate, struct fr_gate_args, 256, 4)
{
	FR_WAIT();
	FR_RELEASE();
	int row = (int)blockIdx.x, col = (int)(blockIdx.y * 256 + threadIdx.x) * 4, n = a.cols - col;
	size_t at = (size_t)row * a.cols + col;
	float g[4], u[4];

	if (col >= a.pitch)
		return;
	fr_get4(g, a.gate + at, n, a.vector);
	fr_get4(u, a.up + at, n, a.vector);
	for (int i = 0; i < 4; i++)
		u[i] = fr_silu(g[i]) * u[i];
	fr_put4(a.y + at, u, n, a.vector);
	if (a.out)
		put_terms(a.out + (size_t)row * a.pitch + col, (size_t)a.rows * a.pitch, a.terms, u);
}
