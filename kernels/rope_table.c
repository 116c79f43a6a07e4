/* The cosines and sines of rotary position embedding, as the models' reference makes them in float32:
 *   power = theta^((2i) / head_dim);  inv = (1 / power) / factor;  angle = pos * inv;  cos(angle), sin(angle)
 * with every named value rounded to float32. The three transcendental functions are our own in double, so that the
 * table is the same on every C library: each is within 2^-50 of the truth before it is rounded, which leaves the
 * float32 correctly rounded except with a chance near 2^-27 per value. */
#include "math.h"

static double bits_f64(uint64_t u)
{
	double d;
	memcpy(&d, &u, sizeof d);
	return d;
}

#define LN2_HI 0x1.62e42fefp-1 /* 33 bits: n * LN2_HI is exact for |n| < 2^20 */
#define LN2_LO 0x1.473de6af278edp-34

/* x normal and positive. x = 2^e * m with m in [sqrt(1/2), sqrt(2)); log m = 2 atanh(s), s = (m - 1) / (m + 1), by its
 * series: |s| < 0.172, the first term left out is below 2^-60. */
static double log_f64(double x)
{
	uint64_t u;
	int e;
	double m, s, z, sum = 0;

	memcpy(&u, &x, sizeof u);
	e = (int)(u >> 52) - 1023;
	m = bits_f64((u & 0xfffffffffffffu) | 0x3ff0000000000000u);
	if (m > 0x1.6a09e667f3bcdp+0) {
		m /= 2;
		e++;
	}
	s = (m - 1) / (m + 1);
	z = s * s;
	for (int k = 23; k >= 3; k -= 2)
		sum = (sum + 1.0 / k) * z;
	return e * LN2_HI + (2 * (s + s * sum) + e * LN2_LO);
}

/* x = n ln 2 + r; exp r by its series, |r| < 0.35: the first term left out is below 2^-60. x in [-700, 700]. */
static double exp_f64(double x)
{
	int n = (int)(x / 0x1.62e42fefa39efp-1 + (x < 0 ? -0.5 : 0.5));
	double r = (x - n * LN2_HI) - n * LN2_LO, sum = 1;

	for (int k = 15; k >= 1; k--)
		sum = 1 + sum * r / k;
	return sum * bits_f64((uint64_t)(n + 1023) << 52);
}

/* pi/2 in four parts; the first three have 25 bits, so k times them is exact for k < 2^28. */
static const double half_pi[4] = {0x1.921fb5p+0, 0x1.110b46p-26, 0x1.1a6263p-54, 0x1.8a2e03707344ap-81};

/* x >= 0. x = k pi/2 + r, |r| <= pi/4; sin r and cos r by their series to r^19 and r^20; the quarter k mod 4 says which
 * of them, with which sign. Beyond 2^28 quarters the angles would lose their meaning; positions stay far below. */
static void sincos_f64(double x, double *sine, double *cosine)
{
	int64_t k = (int64_t)(x / 0x1.921fb54442d18p+0 + 0.5);
	double r = x, z, s = 0, c = 0, t;

	for (int i = 0; i < 4; i++)
		r -= (double)k * half_pi[i];
	z = r * r;
	for (int i = 19; i >= 3; i -= 2)
		s = (1 + s) * -z / (i * (i - 1));
	for (int i = 20; i >= 2; i -= 2)
		c = (1 + c) * -z / (i * (i - 1));
	s = r + r * s;
	c = 1 + c;
	if (k & 1) {
		t = s;
		s = c;
		c = -t;
	}
	*sine = k & 2 ? -s : s;
	*cosine = k & 2 ? -c : c;
}

void fr_rope_table(int max_pos, int head_dim, double theta, double factor, float *cos, float *sin)
{
	int half = head_dim / 2;

	for (int i = 0; i < half; i++) {
		float power = (float)exp_f64(log_f64(theta) * (double)((float)(2 * i) / (float)head_dim));
		float inv = 1.0f / power / (float)factor;

		for (int pos = 0; pos < max_pos; pos++) {
			size_t at = (size_t)pos * (size_t)half + (size_t)i;
			float angle = (float)pos * inv;
			double s, c;

			sincos_f64((double)angle, &s, &c);
			cos[at] = (float)c;
			sin[at] = (float)s;
		}
	}
}
