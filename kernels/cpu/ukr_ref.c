/* The micro-kernels in plain C: what every level must compute, and what a level that has no better one uses. The tile
 * is small and odd on purpose, so that tests with these exercise every edge of the drivers. */
#include "ukr.h"
#include "../math.h"
#include "../pairs.h"

#define MR 3
#define NR 8

static void gemm(int m, int n, int k, const float *a, size_t lda, size_t ahead, const float *b, float *c, size_t ldc,
		 int more)
{
	(void)ahead;
	for (int i = 0; i < m; i++)
		for (int j = 0; j < n; j++) {
			float acc = more ? c[(size_t)i * ldc + (size_t)j] : 0.0f;

			for (int p = 0; p < k; p++)
				acc = fmaf(a[(size_t)i * lda + (size_t)p], b[p * NR + j], acc);
			c[(size_t)i * ldc + (size_t)j] = acc;
		}
}

/* Half h of a word of a panel of pairs, as float32. */
static float half_of(float word, int h)
{
	uint32_t u = fr_f32_bits(word);

	return fr_bits_f32(h ? u & 0xffff0000u : u << 16);
}

static void multiply_pairs(int terms, int m, int n, int k, const float *a, size_t lda, const float *b, float *c,
			   size_t ldc, int more)
{
	for (int i = 0; i < m; i++)
		for (int j = 0; j < n; j++) {
			float acc = more ? fr_flush(c[(size_t)i * ldc + (size_t)j]) : 0.0f;

			for (int p = 0; p < k * terms; p++) {
				float x = a[(size_t)i * lda + (size_t)p], w = b[p / terms * NR + j];

				acc = fr_pair_add(acc, half_of(x, 0), half_of(x, 1), half_of(w, 0), half_of(w, 1));
			}
			c[(size_t)i * ldc + (size_t)j] = acc;
		}
}

static void pairs_1(int m, int n, int k, const float *a, size_t lda, size_t ahead, const float *b, float *c, size_t ldc,
		    int more)
{
	(void)ahead;
	multiply_pairs(1, m, n, k, a, lda, b, c, ldc, more);
}

static void pairs_2(int m, int n, int k, const float *a, size_t lda, size_t ahead, const float *b, float *c, size_t ldc,
		    int more)
{
	(void)ahead;
	multiply_pairs(2, m, n, k, a, lda, b, c, ldc, more);
}

static float pair_word(uint16_t low, uint16_t high)
{
	return fr_bits_f32((uint32_t)high << 16 | low);
}

static void pack_pairs(int n, int k, const void *w, size_t ldw, float *b)
{
	for (int i = 0; i < k; i += 2)
		for (int j = 0; j < NR; j++) {
			const uint16_t *at = (const uint16_t *)w + (size_t)j * ldw + (size_t)i;

			b[i / 2 * NR + j] = j < n ? pair_word(at[0], i + 1 < k ? at[1] : 0) : 0.0f;
		}
}

static float pair_rounded(float low, float high)
{
	return pair_word(fr_f32_bf16(fr_pair_term(low)), fr_f32_bf16(fr_pair_term(high)));
}

static void pack_pairs_f32(int n, int k, const void *w, size_t ldw, float *b)
{
	for (int i = 0; i < k; i += 2)
		for (int j = 0; j < NR; j++) {
			const float *at = (const float *)w + (size_t)j * ldw + (size_t)i;

			b[i / 2 * NR + j] = j < n ? pair_rounded(at[0], i + 1 < k ? at[1] : 0) : 0.0f;
		}
}

static void pack_rows_pairs(int n, int k, const void *w, size_t ldw, float *b)
{
	for (int i = 0; i < k; i += 2)
		for (int j = 0; j < NR; j++) {
			const float *at = (const float *)w + (size_t)i * ldw + (size_t)j;

			b[i / 2 * NR + j] = j < n ? pair_rounded(at[0], i + 1 < k ? at[ldw] : 0) : 0.0f;
		}
}

static void pack_terms(int terms, int k, const float *x, float *dst)
{
	for (int i = 0; i < k; i += 2) {
		float a = x[i], b = i + 1 < k ? x[i + 1] : 0;

		for (int t = 0; t < terms; t++) {
			float high_a = fr_pair_term(a), high_b = fr_pair_term(b);

			*dst++ = pair_word(fr_f32_bf16(high_a), fr_f32_bf16(high_b));
			a -= high_a;
			b -= high_b;
		}
	}
}

static void pack_terms_1(int k, const float *x, float *dst)
{
	pack_terms(1, k, x, dst);
}

static void pack_terms_2(int k, const float *x, float *dst)
{
	pack_terms(2, k, x, dst);
}

/* One element of a matrix of weights; the type is known at compile time at every call. */
static inline float element(enum fr_dtype dtype, const void *w, size_t i)
{
	if (dtype == FR_F32)
		return ((const float *)w)[i];
	if (dtype == FR_F16)
		return fr_f16_f32(((const uint16_t *)w)[i]);
	return fr_bf16_f32(((const uint16_t *)w)[i]);
}

static inline void pack(enum fr_dtype dtype, int n, int k, const void *w, size_t ldw, float *b)
{
	for (int i = 0; i < k; i++)
		for (int j = 0; j < NR; j++)
			b[i * NR + j] = j < n ? element(dtype, w, (size_t)j * ldw + (size_t)i) : 0.0f;
}

static inline void pack_rows(enum fr_dtype dtype, int n, int k, const void *w, size_t ldw, float *b)
{
	for (int i = 0; i < k; i++)
		for (int j = 0; j < NR; j++)
			b[i * NR + j] = j < n ? element(dtype, w, (size_t)i * ldw + (size_t)j) : 0.0f;
}

static float join_lanes(float lane[32])
{
	for (int h = 16; h > 0; h /= 2)
		for (int i = 0; i < h; i++)
			lane[i] += lane[i + h];
	return lane[0];
}

static void gemv_pack(int rows, int k, const float *x, size_t ldx, float *dst)
{
	for (int r = 0; r < rows; r++)
		memcpy(dst + (size_t)r * (size_t)k, x + (size_t)r * ldx, (size_t)k * sizeof *dst);
}

static inline void gemv(enum fr_dtype dtype, int rows, int cols, int k, const float *x, const void *w, size_t ldw,
			float *y, size_t ldy)
{
	for (int c = 0; c < cols; c++)
		for (int r = 0; r < rows; r++) {
			const float *xr = x + (size_t)r * (size_t)k;
			float lane[32] = {0};

			for (int i = 0; i < k; i++)
				lane[i % 32] =
					fmaf(xr[i], element(dtype, w, (size_t)c * ldw + (size_t)i), lane[i % 32]);
			y[(size_t)r * ldy + (size_t)c] = join_lanes(lane);
		}
}

/* Pair lanes: x is packed as it is, and rounded here. */
static void pair_gemv(int terms, int rows, int cols, int k, const float *x, const uint16_t *w, size_t ldw, float *y,
		      size_t ldy)
{
	for (int c = 0; c < cols; c++)
		for (int r = 0; r < rows; r++) {
			struct fr_pair_lanes l = {{0}};

			for (int i = 0; i < k; i += 2) {
				const float *xi = x + (size_t)r * (size_t)k + i;
				const uint16_t *wi = w + (size_t)c * ldw + i;
				int two = i + 1 < k;

				fr_pair_lane_add(&l, i, xi[0], two ? xi[1] : 0, fr_bf16_f32(wi[0]),
						 two ? fr_bf16_f32(wi[1]) : 0, terms);
			}
			y[(size_t)r * ldy + (size_t)c] = fr_pair_lane_sum(&l);
		}
}

static void gemv_pairs_1(int rows, int cols, int k, const float *x, const void *w, size_t ldw, float *y, size_t ldy)
{
	pair_gemv(1, rows, cols, k, x, w, ldw, y, ldy);
}

static void gemv_pairs_2(int rows, int cols, int k, const float *x, const void *w, size_t ldw, float *y, size_t ldy)
{
	pair_gemv(2, rows, cols, k, x, w, ldw, y, ldy);
}

static inline void axpy(enum fr_dtype dtype, int n, int dim, const float *p, const void *v, size_t ldv, float *o)
{
	for (int j = 0; j < n; j++)
		for (int d = 0; d < dim; d++)
			o[d] = fmaf(p[j], element(dtype, v, (size_t)j * ldv + (size_t)d), o[d]);
}

static inline void widen(enum fr_dtype dtype, int n, const void *src, float *dst)
{
	for (int i = 0; i < n; i++)
		dst[i] = element(dtype, src, (size_t)i);
}

#define FOR_DTYPE(name, DTYPE)                                                                                         \
	static void pack_##name(int n, int k, const void *w, size_t ldw, float *b)                                     \
	{                                                                                                              \
		pack(DTYPE, n, k, w, ldw, b);                                                                          \
	}                                                                                                              \
	static void pack_rows_##name(int n, int k, const void *w, size_t ldw, float *b)                                \
	{                                                                                                              \
		pack_rows(DTYPE, n, k, w, ldw, b);                                                                     \
	}                                                                                                              \
	static void gemv_##name(int rows, int cols, int k, const float *x, const void *w, size_t ldw, float *y,        \
				size_t ldy)                                                                            \
	{                                                                                                              \
		gemv(DTYPE, rows, cols, k, x, w, ldw, y, ldy);                                                         \
	}                                                                                                              \
	static void axpy_##name(int n, int dim, const float *p, const void *v, size_t ldv, float *o)                   \
	{                                                                                                              \
		axpy(DTYPE, n, dim, p, v, ldv, o);                                                                     \
	}                                                                                                              \
	static void dots_##name(int n, int dim, const float *q, const void *k, size_t ldk, struct fr_ahead next,       \
				float *s)                                                                              \
	{                                                                                                              \
		(void)next;                                                                                            \
		gemv(DTYPE, 1, n, dim, q, k, ldk, s, 0);                                                               \
	}                                                                                                              \
	static void sum_##name(int n, int dim, const float *p, const void *v, size_t ldv, struct fr_ahead next,        \
			       float *o)                                                                               \
	{                                                                                                              \
		(void)next;                                                                                            \
		axpy(DTYPE, n, dim, p, v, ldv, o);                                                                     \
	}                                                                                                              \
	static void widen_##name(int n, const void *src, float *dst)                                                   \
	{                                                                                                              \
		widen(DTYPE, n, src, dst);                                                                             \
	}
FOR_DTYPE(f32, FR_F32)
FOR_DTYPE(f16, FR_F16)
FOR_DTYPE(bf16, FR_BF16)

static void finish(int n, const float *c, const float *bias, enum fr_act act, const float *scale, const float *residual,
		   float *y)
{
	for (int i = 0; i < n; i++) {
		float t = c[i];

		if (bias)
			t += bias[i];
		t = fr_act(act, t);
		if (scale)
			t *= scale[i];
		y[i] = residual ? t + residual[i] : t;
	}
}

static void glu(int n, const float *gate, const float *up, float *y)
{
	for (int i = 0; i < n; i++)
		y[i] = fr_silu(gate[i]) * up[i];
}

static void log_panels(int n, const float *x, float offset, float *y, size_t step)
{
	for (int i = 0; i < n; i++)
		y[(size_t)(i / NR) * step + (size_t)(i % NR)] = fr_log(x[i] + offset);
}

static void add_panels(int n, const float *x, size_t step, float b, float *y)
{
	for (int i = 0; i < n; i++)
		y[i] = x[(size_t)(i / NR) * step + (size_t)(i % NR)] + b;
}

static void gelu_panel(int rows, float *x, const float *b)
{
	for (int i = 0; i < rows * NR; i++)
		x[i] = fr_gelu(x[i] + b[i / NR]);
}

static float lane_sum(int n, const float *x)
{
	float lane[32] = {0};

	for (int i = 0; i < n; i++)
		lane[i % 32] += x[i];
	return join_lanes(lane);
}

static void norm(int dim, const float *x, const float *weight, const float *bias, float eps, float *y)
{
	float mean = bias ? lane_sum(dim, x) / (float)dim : 0.0f;
	float square, inv;

	for (int i = 0; i < dim; i++)
		y[i] = bias ? x[i] - mean : x[i];
	gemv(FR_F32, 1, 1, dim, y, y, 0, &square, 0);
	inv = 1.0f / sqrtf(square / (float)dim + eps);
	for (int i = 0; i < dim; i++)
		y[i] = bias ? fmaf(y[i] * inv, weight[i], bias[i]) : y[i] * inv * weight[i];
}

static void rotate(int half, float *x, const float *cos, const float *sin)
{
	for (int i = 0; i < half; i++) {
		float a = x[i], b = x[i + half];

		x[i] = fmaf(a, cos[i], -(b * sin[i]));
		x[i + half] = fmaf(b, cos[i], a * sin[i]);
	}
}

static float softmax(int n, float *s, float scale, const float *bias, float *m, float *l)
{
	float top = *m, a;

	for (int j = 0; j < n; j++) {
		s[j] *= scale;
		if (bias)
			s[j] += bias[j];
		top = s[j] > top ? s[j] : top;
	}
	a = fr_exp(*m - top);
	for (int j = 0; j < n; j++)
		s[j] = fr_exp(s[j] - top);
	*l = fmaf(*l, a, lane_sum(n, s));
	*m = top;
	return a;
}

static void scale_by(int n, float *x, float a)
{
	for (int i = 0; i < n; i++)
		x[i] *= a;
}

static void divide_by(int n, float *x, float a)
{
	for (int i = 0; i < n; i++)
		x[i] /= a;
}

static void widen_q8_0(int n, const void *src, float *dst)
{
	fr_to_f32(FR_Q8_0, src, dst, (size_t)n);
}

static void narrow_f32(int n, const float *src, void *dst)
{
	memcpy(dst, src, (size_t)n * sizeof *src);
}

static void narrow_f16(int n, const float *src, void *dst)
{
	uint16_t *h = dst;

	for (int i = 0; i < n; i++)
		h[i] = fr_f32_f16(src[i]);
}

void fr_ukr_ref(struct fr_ukr *u)
{
	*u = (struct fr_ukr){
		.gemm = gemm,
		.mr = MR,
		.nr = NR,
		.kc = 64,
		.mc = 8 * MR,
		.nc = 4 * NR,
		.pack = {[FR_F32] = pack_f32, [FR_F16] = pack_f16, [FR_BF16] = pack_bf16},
		.pack_rows = {[FR_F32] = pack_rows_f32, [FR_F16] = pack_rows_f16, [FR_BF16] = pack_rows_bf16},
		.gemv_pack = {[FR_F32] = gemv_pack, [FR_F16] = gemv_pack, [FR_BF16] = gemv_pack},
		.gemv = {[FR_F32] = gemv_f32, [FR_F16] = gemv_f16, [FR_BF16] = gemv_bf16},
		.gemv_cols = 1,
		.gemv_row = 1,
		.axpy = {[FR_F32] = axpy_f32, [FR_F16] = axpy_f16, [FR_BF16] = axpy_bf16},
		.dots = {[FR_F32] = dots_f32, [FR_F16] = dots_f16, [FR_BF16] = dots_bf16},
		.sum = {[FR_F32] = sum_f32, [FR_F16] = sum_f16, [FR_BF16] = sum_bf16},
		.finish = finish,
		.glu = glu,
		.log = log_panels,
		.add = add_panels,
		.gelu = gelu_panel,
		.norm = norm,
		.rotate = rotate,
		.softmax = softmax,
		.scale = scale_by,
		.divide = divide_by,
		.widen = {[FR_F32] = widen_f32, [FR_F16] = widen_f16, [FR_BF16] = widen_bf16, [FR_Q8_0] = widen_q8_0},
		.narrow = {[FR_F32] = narrow_f32, [FR_F16] = narrow_f16},
	};
	fr_ukr_ref_q8(u);
}

void fr_ukr_ref_pairs(struct fr_ukr *u)
{
	u->gemm_pairs[0] = pairs_1;
	u->gemm_pairs[1] = pairs_2;
	u->pack_pairs = pack_pairs;
	u->pack_pairs_f32 = pack_pairs_f32;
	u->pack_rows_pairs = pack_rows_pairs;
	u->pack_terms[0] = pack_terms_1;
	u->pack_terms[1] = pack_terms_2;
	u->gemv_pack_pairs[0] = u->gemv_pack_pairs[1] = gemv_pack;
	u->gemv_pairs[0] = gemv_pairs_1;
	u->gemv_pairs[1] = gemv_pairs_2;
}
