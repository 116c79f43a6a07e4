/* The avx2 level's entries for single rows: epilogues, norms, rotation, softmax, and exp, erf, log and the activations
 * as lane twins of kernels/math.h. */
#include "ukr_avx2.h"
#include "../math.h"

#include <float.h>

/* ---- kernels/math.h, eight at a time ---------------------------------------------------------------------------- */

/* Of N vectors, none above FR_EXP_HI: one step of all, then the next, because a chain of dependent operations alone
 * leaves the units idle, and the processor does not look far enough ahead to find the next one. */
#define EACH UNROLL for (int v = 0; v < N; v++)
INLINE void exp8_low(const int N, __m256 x[N])
{
	const __m256i bias = _mm256_set1_epi32(127);
	__m256 t[4], r[4], q[4];
	__m256i i[4], h[4];

	EACH t[v] = _mm256_fmadd_ps(x[v], _mm256_set1_ps(FR_EXP_LOG2E), _mm256_set1_ps(FR_EXP_ROUND));
	EACH i[v] = _mm256_sub_epi32(_mm256_castps_si256(t[v]), _mm256_set1_epi32((int)FR_EXP_ROUND_BITS));
	EACH t[v] = _mm256_sub_ps(t[v], _mm256_set1_ps(FR_EXP_ROUND));
	EACH r[v] = _mm256_fmadd_ps(t[v], _mm256_set1_ps(-FR_EXP_LN2_HI), x[v]);
	EACH r[v] = _mm256_fmadd_ps(t[v], _mm256_set1_ps(-FR_EXP_LN2_LO), r[v]);
	EACH q[v] = _mm256_fmadd_ps(_mm256_set1_ps(FR_EXP_6), r[v], _mm256_set1_ps(FR_EXP_5));
	EACH q[v] = _mm256_fmadd_ps(q[v], r[v], _mm256_set1_ps(FR_EXP_4));
	EACH q[v] = _mm256_fmadd_ps(q[v], r[v], _mm256_set1_ps(FR_EXP_3));
	EACH q[v] = _mm256_fmadd_ps(q[v], r[v], _mm256_set1_ps(FR_EXP_2));
	EACH q[v] = _mm256_fmadd_ps(_mm256_mul_ps(r[v], r[v]), q[v], r[v]);
	EACH q[v] = _mm256_add_ps(q[v], _mm256_set1_ps(1.0f));
	EACH h[v] = _mm256_srai_epi32(i[v], 1);
	EACH i[v] = _mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(i[v], h[v]), bias), 23);
	EACH h[v] = _mm256_slli_epi32(_mm256_add_epi32(h[v], bias), 23);
	EACH q[v] = _mm256_mul_ps(_mm256_mul_ps(q[v], _mm256_castsi256_ps(h[v])), _mm256_castsi256_ps(i[v]));
	EACH t[v] = _mm256_cmp_ps(x[v], _mm256_set1_ps(FR_EXP_LO), _CMP_LT_OQ);
	EACH x[v] = _mm256_andnot_ps(t[v], q[v]);
}

INLINE __m256 exp8(__m256 x)
{
	__m256 high = _mm256_cmp_ps(x, _mm256_set1_ps(FR_EXP_HI), _CMP_GT_OQ);

	exp8_low(1, &x);
	return _mm256_blendv_ps(x, _mm256_set1_ps(INFINITY), high);
}

INLINE __m256 negate8(__m256 x)
{
	return _mm256_xor_ps(x, _mm256_set1_ps(-0.0f));
}

INLINE __m256 sigmoid8(__m256 x)
{
	const __m256 one = _mm256_set1_ps(1.0f);

	return _mm256_div_ps(one, _mm256_add_ps(one, exp8(negate8(x))));
}

/* Of N vectors in [-18, 0]: exp without its ends, where adding n to the exponent's bits is the product with 2^n. */
INLINE void exp8_mid(const int N, __m256 x[N])
{
	__m256 t[2], r[2], q[2];

	EACH t[v] = _mm256_fmadd_ps(x[v], _mm256_set1_ps(FR_EXP_LOG2E), _mm256_set1_ps(FR_EXP_ROUND));
	EACH r[v] = _mm256_sub_ps(t[v], _mm256_set1_ps(FR_EXP_ROUND));
	EACH x[v] = _mm256_fmadd_ps(r[v], _mm256_set1_ps(-FR_EXP_LN2_HI), x[v]);
	EACH r[v] = _mm256_fmadd_ps(r[v], _mm256_set1_ps(-FR_EXP_LN2_LO), x[v]);
	EACH q[v] = _mm256_fmadd_ps(_mm256_set1_ps(FR_EXP_6), r[v], _mm256_set1_ps(FR_EXP_5));
	EACH q[v] = _mm256_fmadd_ps(q[v], r[v], _mm256_set1_ps(FR_EXP_4));
	EACH q[v] = _mm256_fmadd_ps(q[v], r[v], _mm256_set1_ps(FR_EXP_3));
	EACH q[v] = _mm256_fmadd_ps(q[v], r[v], _mm256_set1_ps(FR_EXP_2));
	EACH q[v] = _mm256_fmadd_ps(_mm256_mul_ps(r[v], r[v]), q[v], r[v]);
	EACH q[v] = _mm256_add_ps(q[v], _mm256_set1_ps(1.0f));
	EACH x[v] = _mm256_castsi256_ps(
		_mm256_add_epi32(_mm256_castps_si256(q[v]), _mm256_slli_epi32(_mm256_castps_si256(t[v]), 23)));
}

/* Of N vectors. */
INLINE void gelu8(const int N, __m256 x[N])
{
	static const float near[6] = {FR_ERF_NEAR_5, FR_ERF_NEAR_4, FR_ERF_NEAR_3,
				      FR_ERF_NEAR_2, FR_ERF_NEAR_1, FR_ERF_NEAR_0};
	static const float far[7] = {FR_ERF_FAR_6, FR_ERF_FAR_5, FR_ERF_FAR_4, FR_ERF_FAR_3,
				     FR_ERF_FAR_2, FR_ERF_FAR_1, FR_ERF_FAR_0};
	const __m256 one = _mm256_set1_ps(1.0f), sign = _mm256_set1_ps(-0.0f);
	__m256 z[2], a[2], s[2], p[2];

	EACH z[v] = _mm256_mul_ps(x[v], _mm256_set1_ps(0x1.6a09e6p-1f));
	EACH a[v] = _mm256_min_ps(_mm256_set1_ps(FR_ERF_TOP), _mm256_andnot_ps(sign, z[v]));
	EACH s[v] = _mm256_set1_ps(FR_ERF_FAR_7);
	UNROLL for (int i = 0; i < 7; i++) EACH s[v] = _mm256_fmadd_ps(s[v], a[v], _mm256_set1_ps(far[i]));
	EACH s[v] = _mm256_fnmsub_ps(a[v], s[v], a[v]);
	exp8_mid(N, s);
	EACH s[v] = _mm256_sub_ps(one, s[v]);
	EACH a[v] = _mm256_mul_ps(z[v], z[v]);
	EACH p[v] = _mm256_set1_ps(FR_ERF_NEAR_6);
	UNROLL for (int i = 0; i < 6; i++) EACH p[v] = _mm256_fmadd_ps(p[v], a[v], _mm256_set1_ps(near[i]));
	EACH a[v] = _mm256_andnot_ps(sign, z[v]);
	EACH p[v] = _mm256_fmadd_ps(a[v], p[v], a[v]);
	EACH s[v] = _mm256_blendv_ps(s[v], p[v], _mm256_cmp_ps(a[v], _mm256_set1_ps(FR_ERF_SPLIT), _CMP_LT_OQ));
	EACH s[v] = _mm256_or_ps(s[v], _mm256_and_ps(sign, z[v]));
	EACH x[v] = _mm256_mul_ps(_mm256_mul_ps(_mm256_set1_ps(0.5f), x[v]), _mm256_add_ps(one, s[v]));
}
#undef EACH

/* math.h's selects, the first of which only subnormals need. */
INLINE __m256 log8(__m256 x)
{
	static const float c[7] = {FR_LOG_7, FR_LOG_6, FR_LOG_5, FR_LOG_4, FR_LOG_3, FR_LOG_2, FR_LOG_1};
	const __m256 tiny = _mm256_cmp_ps(x, _mm256_set1_ps(0x1p-126f), _CMP_LT_OQ), zero = _mm256_setzero_ps();
	const __m256 t = _mm256_blendv_ps(x, _mm256_mul_ps(x, _mm256_set1_ps(0x1p24f)), tiny);
	const __m256i bits = _mm256_castps_si256(t);
	const __m256i e = _mm256_srai_epi32(_mm256_sub_epi32(bits, _mm256_set1_epi32((int)FR_LOG_FROM)), 23);
	const __m256 n = _mm256_sub_ps(_mm256_cvtepi32_ps(e), _mm256_and_ps(tiny, _mm256_set1_ps(24.0f)));
	const __m256 r = _mm256_sub_ps(_mm256_castsi256_ps(_mm256_sub_epi32(bits, _mm256_slli_epi32(e, 23))),
				       _mm256_set1_ps(1.0f));
	__m256 p = _mm256_set1_ps(FR_LOG_8), y;

	UNROLL for (int i = 0; i < 7; i++) p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(c[i]));
	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(-0.5f));
	y = _mm256_fmadd_ps(_mm256_mul_ps(r, r), p, _mm256_mul_ps(n, _mm256_set1_ps(FR_EXP_LN2_LO)));
	y = _mm256_fmadd_ps(n, _mm256_set1_ps(FR_EXP_LN2_HI), _mm256_add_ps(r, y));
	y = _mm256_blendv_ps(y, x, _mm256_cmp_ps(x, _mm256_set1_ps(FLT_MAX), _CMP_GT_OQ));
	y = _mm256_blendv_ps(y, _mm256_set1_ps(-INFINITY), _mm256_cmp_ps(x, zero, _CMP_EQ_OQ));
	return _mm256_blendv_ps(_mm256_set1_ps(NAN), y, _mm256_cmp_ps(x, zero, _CMP_GE_OQ));
}

INLINE __m256 act8(enum fr_act act, __m256 x)
{
	switch (act) {
	case FR_ACT_QUICK_GELU:
		return _mm256_mul_ps(x, sigmoid8(_mm256_mul_ps(_mm256_set1_ps(1.702f), x)));
	case FR_ACT_GELU:
		gelu8(1, &x);
		return x;
	case FR_ACT_SILU:
		return _mm256_mul_ps(x, sigmoid8(x));
	case FR_ACT_RELU: /* max gives its second operand where one is a NaN and where both are zeros */
		return _mm256_max_ps(_mm256_setzero_ps(), x);
	default:
		return x;
	}
}

/* ---- rows -------------------------------------------------------------------------------------------------------- */

INLINE __m256 row8(const float *p, int i, int n)
{
	return load_upto8(FR_F32, p, (size_t)i, n - i);
}

INLINE void finish_act(enum fr_act act, int n, const float *c, const float *bias, const float *scale,
		       const float *residual, float *y)
{
	for (int i = 0; i < n; i += 8) {
		__m256 v = row8(c, i, n);

		if (bias)
			v = _mm256_add_ps(v, row8(bias, i, n));
		v = act8(act, v);
		if (scale)
			v = _mm256_mul_ps(v, row8(scale, i, n));
		if (residual)
			v = _mm256_add_ps(v, row8(residual, i, n));
		store_upto8(y + i, n - i, v);
	}
}

static void finish(int n, const float *c, const float *bias, enum fr_act act, const float *scale, const float *residual,
		   float *y)
{
	if (act == FR_ACT_QUICK_GELU)
		finish_act(FR_ACT_QUICK_GELU, n, c, bias, scale, residual, y);
	else if (act == FR_ACT_GELU)
		finish_act(FR_ACT_GELU, n, c, bias, scale, residual, y);
	else if (act == FR_ACT_SILU)
		finish_act(FR_ACT_SILU, n, c, bias, scale, residual, y);
	else if (act == FR_ACT_RELU)
		finish_act(FR_ACT_RELU, n, c, bias, scale, residual, y);
	else
		finish_act(FR_ACT_NONE, n, c, bias, scale, residual, y);
}

static void glu(int n, const float *gate, const float *up, float *y)
{
	for (int i = 0; i < n; i += 8)
		store_upto8(y + i, n - i, _mm256_mul_ps(act8(FR_ACT_SILU, row8(gate, i, n)), row8(up, i, n)));
}

/* Panels of 16 columns. */
static void log_panels(int n, const float *x, float offset, float *y, size_t step)
{
	for (int i = 0; i < n; i += 8)
		_mm256_storeu_ps(y + (size_t)(i / 16) * step + (size_t)(i % 16),
				 log8(_mm256_add_ps(row8(x, i, n), _mm256_set1_ps(offset))));
}

static void gelu_panel(int rows, float *x, const float *b)
{
	for (int r = 0; r < rows; r++, x += 16) {
		__m256 t[2];

		t[0] = _mm256_add_ps(_mm256_loadu_ps(x), _mm256_set1_ps(b[r]));
		t[1] = _mm256_add_ps(_mm256_loadu_ps(x + 8), _mm256_set1_ps(b[r]));
		gelu8(2, t);
		_mm256_storeu_ps(x, t[0]);
		_mm256_storeu_ps(x + 8, t[1]);
	}
}

static void add_panels(int n, const float *x, size_t step, float b, float *y)
{
	for (int i = 0; i < n; i += 8)
		store_upto8(y + i, n - i,
			    _mm256_add_ps(_mm256_loadu_ps(x + (size_t)(i / 16) * step + (size_t)(i % 16)),
					  _mm256_set1_ps(b)));
}

/* lanesum(x), or lane(x, x) where `square`. */
INLINE float lane_total(const int square, int n, const float *x)
{
	__m256 acc[4];

	UNROLL for (int g = 0; g < 4; g++) acc[g] = _mm256_setzero_ps();
	for (int i = 0; i < n; i += 32)
		UNROLL for (int g = 0; g < 4; g++)
		{
			int left = n - i - 8 * g;

			if (left > 0) {
				__m256 v = row8(x, i + 8 * g, n);

				v = square ? _mm256_fmadd_ps(v, v, acc[g]) : _mm256_add_ps(acc[g], v);
				acc[g] = keep_rest(acc[g], v, left);
			}
		}
	return join_lanes(1, acc, 0);
}

static void norm(int dim, const float *x, const float *weight, const float *bias, float eps, float *y)
{
	__m256 inv;

	if (bias) {
		__m256 mean = _mm256_set1_ps(lane_total(0, dim, x) / (float)dim);

		for (int i = 0; i < dim; i += 8)
			store_upto8(y + i, dim - i, _mm256_sub_ps(row8(x, i, dim), mean));
		x = y;
	}
	inv = _mm256_set1_ps(1.0f / sqrtf(lane_total(1, dim, x) / (float)dim + eps));
	for (int i = 0; i < dim; i += 8) {
		__m256 v = _mm256_mul_ps(row8(x, i, dim), inv), w = row8(weight, i, dim);

		store_upto8(y + i, dim - i, bias ? _mm256_fmadd_ps(v, w, row8(bias, i, dim)) : _mm256_mul_ps(v, w));
	}
}

static void rotate(int half, float *x, const float *cos, const float *sin)
{
	for (int i = 0; i < half; i += 8) {
		__m256 a = row8(x, i, half), b = row8(x + half, i, half), c = row8(cos, i, half),
		       s = row8(sin, i, half);

		store_upto8(x + i, half - i, _mm256_fmadd_ps(a, c, negate8(_mm256_mul_ps(b, s))));
		store_upto8(x + half + i, half - i, _mm256_fmadd_ps(b, c, _mm256_mul_ps(a, s)));
	}
}

/* 32 scores, or the first n: s = s * scale (+ bias), and the highest of each lane. */
INLINE void scale_scores(int n, float *s, __m256 scale, const float *bias, __m256 top[4])
{
	UNROLL for (int g = 0; g < 4; g++)
	{
		if (n > 8 * g) {
			__m256 v = _mm256_mul_ps(row8(s, 8 * g, n), scale);

			if (bias)
				v = _mm256_add_ps(v, row8(bias, 8 * g, n));
			store_upto8(s + 8 * g, n - 8 * g, v);
			top[g] = keep_rest(top[g], _mm256_max_ps(v, top[g]), n - 8 * g);
		}
	}
}

/* 32 scores, or the first n: s = exp(s - top), and the lanes' sums. */
INLINE void exp_scores(int n, float *s, __m256 top, __m256 sum[4])
{
	__m256 p[4];

	UNROLL for (int g = 0; g < 4; g++) p[g] = n > 8 * g ? _mm256_sub_ps(row8(s, 8 * g, n), top) : top;
	exp8_low(4, p);
	UNROLL for (int g = 0; g < 4; g++)
	{
		if (n > 8 * g) {
			store_upto8(s + 8 * g, n - 8 * g, p[g]);
			sum[g] = keep_rest(sum[g], _mm256_add_ps(sum[g], p[g]), n - 8 * g);
		}
	}
}

static float softmax(int n, float *s, float scale, const float *bias, float *m, float *l)
{
	const int whole = n / 32 * 32;
	__m256 high[4], sum[4];
	float lane[8], top = *m, fade;

	UNROLL for (int g = 0; g < 4; g++)
	{
		high[g] = _mm256_set1_ps(*m);
		sum[g] = _mm256_setzero_ps();
	}
	for (int i = 0; i < whole; i += 32)
		scale_scores(32, s + i, _mm256_set1_ps(scale), bias ? bias + i : NULL, high);
	if (whole < n)
		scale_scores(n - whole, s + whole, _mm256_set1_ps(scale), bias ? bias + whole : NULL, high);
	high[0] = _mm256_max_ps(_mm256_max_ps(high[0], high[1]), _mm256_max_ps(high[2], high[3]));
	_mm256_storeu_ps(lane, high[0]);
	for (int i = 0; i < 8; i++)
		top = lane[i] > top ? lane[i] : top;
	for (int i = 0; i < whole; i += 32)
		exp_scores(32, s + i, _mm256_set1_ps(top), sum);
	if (whole < n)
		exp_scores(n - whole, s + whole, _mm256_set1_ps(top), sum);
	fade = fr_exp(*m - top);
	*l = fmaf(*l, fade, join_lanes(1, sum, 0));
	*m = top;
	return fade;
}

static void scale_by(int n, float *x, float a)
{
	for (int i = 0; i < n; i += 8)
		store_upto8(x + i, n - i, _mm256_mul_ps(row8(x, i, n), _mm256_set1_ps(a)));
}

static void divide_by(int n, float *x, float a)
{
	for (int i = 0; i < n; i += 8)
		store_upto8(x + i, n - i, _mm256_div_ps(row8(x, i, n), _mm256_set1_ps(a)));
}

static void narrow_f16(int n, const float *src, void *dst)
{
	for (int i = 0; i < n; i += 8) {
		__m128i h = _mm256_cvtps_ph(row8(src, i, n), _MM_FROUND_TO_NEAREST_INT);

		memcpy((uint16_t *)dst + i, &h, n - i < 8 ? (size_t)(n - i) * 2 : sizeof h);
	}
}

void fr_ukr_avx2_rows(struct fr_ukr *u)
{
	u->finish = finish;
	u->glu = glu;
	u->log = log_panels;
	u->add = add_panels;
	u->gelu = gelu_panel;
	u->norm = norm;
	u->rotate = rotate;
	u->softmax = softmax;
	u->scale = scale_by;
	u->divide = divide_by;
	u->narrow[FR_F16] = narrow_f16;
}
