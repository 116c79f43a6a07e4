/* The avx512 level's entries for single rows: epilogues, norms, rotation, softmax, and exp, erf, log and the
 * activations as lane twins of kernels/math.h. */
#include "ukr_avx512.h"
#include "../math.h"

/* ---- kernels/math.h, sixteen at a time --------------------------------------------------------------------------- */

/* Of N vectors, none above FR_EXP_HI: one step of all, then the next, so that the units have independent work. From the
 * lowest argument on 2^n * p is no subnormal, so scaling in one step rounds no more than math.h's two factors do; where
 * that argument was lower the lane is zeroed, whatever came out. */
#define EACH UNROLL for (int v = 0; v < N; v++)
INLINE void exp16_low(const int N, __m512 x[N])
{
	__m512 t[4], r[4], q[4];
	__mmask16 some[4];

	EACH t[v] = _mm512_fmadd_ps(x[v], _mm512_set1_ps(FR_EXP_LOG2E), _mm512_set1_ps(FR_EXP_ROUND));
	EACH t[v] = _mm512_sub_ps(t[v], _mm512_set1_ps(FR_EXP_ROUND));
	EACH r[v] = _mm512_fmadd_ps(t[v], _mm512_set1_ps(-FR_EXP_LN2_HI), x[v]);
	EACH r[v] = _mm512_fmadd_ps(t[v], _mm512_set1_ps(-FR_EXP_LN2_LO), r[v]);
	EACH q[v] = _mm512_fmadd_ps(_mm512_set1_ps(FR_EXP_6), r[v], _mm512_set1_ps(FR_EXP_5));
	EACH q[v] = _mm512_fmadd_ps(q[v], r[v], _mm512_set1_ps(FR_EXP_4));
	EACH q[v] = _mm512_fmadd_ps(q[v], r[v], _mm512_set1_ps(FR_EXP_3));
	EACH q[v] = _mm512_fmadd_ps(q[v], r[v], _mm512_set1_ps(FR_EXP_2));
	EACH q[v] = _mm512_fmadd_ps(_mm512_mul_ps(r[v], r[v]), q[v], r[v]);
	EACH q[v] = _mm512_add_ps(q[v], _mm512_set1_ps(1.0f));
	EACH some[v] = _mm512_cmp_ps_mask(x[v], _mm512_set1_ps(FR_EXP_LO), _CMP_NLT_UQ);
	EACH x[v] = _mm512_maskz_scalef_ps(some[v], q[v], t[v]);
}

INLINE __m512 exp16(__m512 x)
{
	__mmask16 high = _mm512_cmp_ps_mask(x, _mm512_set1_ps(FR_EXP_HI), _CMP_GT_OQ);

	exp16_low(1, &x);
	return _mm512_mask_mov_ps(x, high, _mm512_set1_ps(INFINITY));
}

INLINE __m512 negate16(__m512 x)
{
	return _mm512_xor_ps(x, _mm512_set1_ps(-0.0f));
}

INLINE __m512 sigmoid16(__m512 x)
{
	const __m512 one = _mm512_set1_ps(1.0f);

	return _mm512_div_ps(one, _mm512_add_ps(one, exp16(negate16(x))));
}

/* Of N vectors. Where exp is wanted here its argument is in [-18, 0]: no need to look for its ends. */
INLINE void gelu16(const int N, __m512 x[N])
{
	static const float near[6] = {FR_ERF_NEAR_5, FR_ERF_NEAR_4, FR_ERF_NEAR_3,
				      FR_ERF_NEAR_2, FR_ERF_NEAR_1, FR_ERF_NEAR_0};
	static const float far[7] = {FR_ERF_FAR_6, FR_ERF_FAR_5, FR_ERF_FAR_4, FR_ERF_FAR_3,
				     FR_ERF_FAR_2, FR_ERF_FAR_1, FR_ERF_FAR_0};
	const __m512 one = _mm512_set1_ps(1.0f);
	__m512 a[4], b[4], p[4], s[4], z[4];

	EACH z[v] = _mm512_mul_ps(x[v], _mm512_set1_ps(0x1.6a09e6p-1f));
	EACH a[v] = _mm512_abs_ps(z[v]);
	EACH b[v] = _mm512_min_ps(_mm512_set1_ps(FR_ERF_TOP), a[v]);
	EACH s[v] = _mm512_fmadd_ps(_mm512_set1_ps(FR_ERF_FAR_7), b[v], _mm512_set1_ps(far[0]));
	UNROLL for (int i = 1; i < 7; i++) EACH s[v] = _mm512_fmadd_ps(s[v], b[v], _mm512_set1_ps(far[i]));
	EACH s[v] = _mm512_fnmsub_ps(b[v], s[v], b[v]);
	exp16_low(N, s);
	EACH b[v] = _mm512_mul_ps(z[v], z[v]);
	EACH p[v] = _mm512_fmadd_ps(_mm512_set1_ps(FR_ERF_NEAR_6), b[v], _mm512_set1_ps(near[0]));
	UNROLL for (int i = 1; i < 6; i++) EACH p[v] = _mm512_fmadd_ps(p[v], b[v], _mm512_set1_ps(near[i]));
	EACH p[v] = _mm512_fmadd_ps(a[v], p[v], a[v]);
	EACH p[v] = _mm512_mask_sub_ps(p[v], _mm512_cmp_ps_mask(a[v], _mm512_set1_ps(FR_ERF_SPLIT), _CMP_NLT_UQ), one,
				       s[v]);
	EACH p[v] = _mm512_or_ps(p[v], _mm512_and_ps(z[v], _mm512_set1_ps(-0.0f)));
	EACH x[v] = _mm512_mul_ps(_mm512_mul_ps(_mm512_set1_ps(0.5f), x[v]), _mm512_add_ps(one, p[v]));
}

/* Of N vectors. Mantissa and exponent come from the processor, subnormals included, and one table replaces math.h's
 * selects: NaN for NaN and below zero, -inf for zeros, +inf for +inf. */
INLINE void log16(const int N, __m512 x[N])
{
	static const float c[7] = {FR_LOG_7, FR_LOG_6, FR_LOG_5, FR_LOG_4, FR_LOG_3, FR_LOG_2, FR_LOG_1};
	/* four bits for each kind of x, from the lowest: QNaN, SNaN, zero, 1, -inf, +inf, negative, positive */
	const __m512i special = _mm512_set1_epi32(0x03530422);
	__m512 n[4], r[4], p[4];

	EACH r[v] = _mm512_getmant_ps(x[v], _MM_MANT_NORM_p75_1p5, _MM_MANT_SIGN_src);
	EACH n[v] = _mm512_sub_ps(_mm512_getexp_ps(x[v]), _mm512_getexp_ps(r[v]));
	EACH r[v] = _mm512_sub_ps(r[v], _mm512_set1_ps(1.0f));
	EACH p[v] = _mm512_set1_ps(FR_LOG_8);
	UNROLL for (int i = 0; i < 7; i++) EACH p[v] = _mm512_fmadd_ps(p[v], r[v], _mm512_set1_ps(c[i]));
	EACH p[v] = _mm512_fmadd_ps(p[v], r[v], _mm512_set1_ps(-0.5f));
	EACH p[v] =
		_mm512_fmadd_ps(_mm512_mul_ps(r[v], r[v]), p[v], _mm512_mul_ps(n[v], _mm512_set1_ps(FR_EXP_LN2_LO)));
	EACH p[v] = _mm512_fmadd_ps(n[v], _mm512_set1_ps(FR_EXP_LN2_HI), _mm512_add_ps(r[v], p[v]));
	EACH x[v] = _mm512_fixupimm_ps(p[v], x[v], special, 0);
}
#undef EACH

INLINE __m512 act16(enum fr_act act, __m512 x)
{
	switch (act) {
	case FR_ACT_QUICK_GELU:
		return _mm512_mul_ps(x, sigmoid16(_mm512_mul_ps(_mm512_set1_ps(1.702f), x)));
	case FR_ACT_GELU:
		gelu16(1, &x);
		return x;
	case FR_ACT_SILU:
		return _mm512_mul_ps(x, sigmoid16(x));
	case FR_ACT_RELU: /* max gives its second operand where one is a NaN and where both are zeros */
		return _mm512_max_ps(_mm512_setzero_ps(), x);
	default:
		return x;
	}
}

/* ---- rows -------------------------------------------------------------------------------------------------------- */

INLINE __m512 row16(const float *p, int i, int n)
{
	return load16(FR_F32, lanes16(n - i), p, (size_t)i);
}

INLINE void put16(float *p, int i, int n, __m512 v)
{
	_mm512_mask_storeu_ps(p + i, lanes16(n - i), v);
}

INLINE void finish_act(enum fr_act act, int n, const float *c, const float *bias, const float *scale,
		       const float *residual, float *y)
{
	for (int i = 0; i < n; i += 16) {
		__m512 v = row16(c, i, n);

		if (bias)
			v = _mm512_add_ps(v, row16(bias, i, n));
		v = act16(act, v);
		if (scale)
			v = _mm512_mul_ps(v, row16(scale, i, n));
		if (residual)
			v = _mm512_add_ps(v, row16(residual, i, n));
		put16(y, i, n, v);
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
	for (int i = 0; i < n; i += 16)
		put16(y, i, n, _mm512_mul_ps(act16(FR_ACT_SILU, row16(gate, i, n)), row16(up, i, n)));
}

/* Two panels of 32 columns: four vectors at a time. */
#define EACH UNROLL for (int v = 0; v < 4; v++)
static void log_panels(int n, const float *x, float offset, float *y, size_t step)
{
	for (int i = 0; i < n; i += 64, y += 2 * step) {
		__m512 t[4];

		EACH t[v] = _mm512_add_ps(row16(x, i + 16 * v, n), _mm512_set1_ps(offset));
		log16(4, t);
		EACH if (i + 16 * v < n) _mm512_storeu_ps(y + (size_t)(v / 2) * step + v % 2 * 16, t[v]);
	}
}

static void gelu_panel(int rows, float *x, const float *b)
{
	int r = 0;

	for (; r + 2 <= rows; r += 2, x += 64) {
		__m512 t[4];

		EACH t[v] = _mm512_add_ps(_mm512_loadu_ps(x + 16 * v), _mm512_set1_ps(b[r + v / 2]));
		gelu16(4, t);
		EACH _mm512_storeu_ps(x + 16 * v, t[v]);
	}
	for (; r < rows; r++, x += 32)
		for (int i = 0; i < 32; i += 16)
			_mm512_storeu_ps(
				x + i, act16(FR_ACT_GELU, _mm512_add_ps(_mm512_loadu_ps(x + i), _mm512_set1_ps(b[r]))));
}
#undef EACH

static void add_panels(int n, const float *x, size_t step, float b, float *y)
{
	for (int i = 0; i < n; i += 16)
		put16(y, i, n,
		      _mm512_add_ps(_mm512_loadu_ps(x + (size_t)(i / 32) * step + (size_t)(i % 32)),
				    _mm512_set1_ps(b)));
}

/* lanesum(x), or lane(x, x) where `square`. */
INLINE float lane_total(const int square, int n, const float *x)
{
	__m512 acc[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};

	for (int i = 0; i < n; i += 32)
		UNROLL for (int g = 0; g < 2; g++)
		{
			__mmask16 m = lanes16(n - i - 16 * g);
			__m512 v = load16(FR_F32, m, x, (size_t)(i + 16 * g));

			acc[g] = square ? _mm512_mask3_fmadd_ps(v, v, acc[g], m)
					: _mm512_mask_add_ps(acc[g], m, acc[g], v);
		}
	return join32(acc[0], acc[1]);
}

static void norm(int dim, const float *x, const float *weight, const float *bias, float eps, float *y)
{
	__m512 inv;

	if (bias) {
		__m512 mean = _mm512_set1_ps(lane_total(0, dim, x) / (float)dim);

		for (int i = 0; i < dim; i += 16)
			put16(y, i, dim, _mm512_sub_ps(row16(x, i, dim), mean));
		x = y;
	}
	inv = _mm512_set1_ps(1.0f / sqrtf(lane_total(1, dim, x) / (float)dim + eps));
	for (int i = 0; i < dim; i += 16) {
		__m512 v = _mm512_mul_ps(row16(x, i, dim), inv), w = row16(weight, i, dim);

		put16(y, i, dim, bias ? _mm512_fmadd_ps(v, w, row16(bias, i, dim)) : _mm512_mul_ps(v, w));
	}
}

static void rotate(int half, float *x, const float *cos, const float *sin)
{
	for (int i = 0; i < half; i += 16) {
		__m512 a = row16(x, i, half), b = row16(x + half, i, half), c = row16(cos, i, half),
		       s = row16(sin, i, half);

		put16(x, i, half, _mm512_fmadd_ps(a, c, negate16(_mm512_mul_ps(b, s))));
		put16(x + half, i, half, _mm512_fmadd_ps(b, c, _mm512_mul_ps(a, s)));
	}
}

/* 32 scores, or the first n: s = s * scale (+ bias), and the highest of each lane. */
INLINE void scale_scores(int n, float *s, __m512 scale, const float *bias, __m512 top[2])
{
	UNROLL for (int g = 0; g < 2; g++)
	{
		__mmask16 m = lanes16(n - 16 * g);
		__m512 v = _mm512_mul_ps(load16(FR_F32, m, s, (size_t)(16 * g)), scale);

		if (bias)
			v = _mm512_add_ps(v, load16(FR_F32, m, bias, (size_t)(16 * g)));
		_mm512_mask_storeu_ps(s + 16 * g, m, v);
		top[g] = _mm512_mask_max_ps(top[g], m, v, top[g]);
	}
}

/* 32 scores, or the first n: s = exp(s - top), and the lanes' sums. */
INLINE void exp_scores(int n, float *s, __m512 top, __m512 sum[2])
{
	__m512 p[2];

	UNROLL for (int g = 0; g < 2; g++) p[g] = _mm512_sub_ps(row16(s, 16 * g, n), top);
	exp16_low(2, p);
	UNROLL for (int g = 0; g < 2; g++)
	{
		put16(s, 16 * g, n, p[g]);
		sum[g] = _mm512_mask_add_ps(sum[g], lanes16(n - 16 * g), sum[g], p[g]);
	}
}

static float softmax(int n, float *s, float scale, const float *bias, float *m, float *l)
{
	const int whole = n / 32 * 32;
	__m512 high[2], sum[2];
	float top, fade;

	UNROLL for (int g = 0; g < 2; g++)
	{
		high[g] = _mm512_set1_ps(*m);
		sum[g] = _mm512_setzero_ps();
	}
	for (int i = 0; i < whole; i += 32)
		scale_scores(32, s + i, _mm512_set1_ps(scale), bias ? bias + i : NULL, high);
	if (whole < n)
		scale_scores(n - whole, s + whole, _mm512_set1_ps(scale), bias ? bias + whole : NULL, high);
	top = _mm512_reduce_max_ps(_mm512_max_ps(high[0], high[1]));
	for (int i = 0; i < whole; i += 32)
		exp_scores(32, s + i, _mm512_set1_ps(top), sum);
	if (whole < n)
		exp_scores(n - whole, s + whole, _mm512_set1_ps(top), sum);
	fade = fr_exp(*m - top);
	*l = fmaf(*l, fade, join32(sum[0], sum[1]));
	*m = top;
	return fade;
}

static void scale_by(int n, float *x, float a)
{
	for (int i = 0; i < n; i += 16)
		put16(x, i, n, _mm512_mul_ps(row16(x, i, n), _mm512_set1_ps(a)));
}

static void divide_by(int n, float *x, float a)
{
	for (int i = 0; i < n; i += 16)
		put16(x, i, n, _mm512_div_ps(row16(x, i, n), _mm512_set1_ps(a)));
}

static void narrow_f16(int n, const float *src, void *dst)
{
	for (int i = 0; i < n; i += 16)
		_mm256_mask_storeu_epi16((uint16_t *)dst + i, lanes16(n - i),
					 _mm512_cvtps_ph(row16(src, i, n), _MM_FROUND_TO_NEAREST_INT));
}

void fr_ukr_avx512_rows(struct fr_ukr *u)
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
