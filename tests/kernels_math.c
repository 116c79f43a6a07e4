/* kernels/math.h and the rotary table against the C library's double functions, whose own error (below 1 ulp of
 * double) is 2^-29 of what is measured here. The limits are those that math.h promises. FR_EXHAUSTIVE=1 takes every
 * float32 of a range (minutes); otherwise every 257th, a prime, so that all bit patterns of the low bits come up. */
#include "test.h"
#include "../kernels/math.h"

#define STEP 257u

/* The distance of got from want in units of the last place of a float32 near want. */
static double ulps(float got, double want)
{
	int e;

	frexp(want, &e);
	return fabs((double)got - want) / ldexp(1, e < -125 ? -149 : e - 24);
}

/* Every step-th float32 of [lo, hi], both signs: the worst error in ulp and where. */
static double scan(float (*f)(float), double (*want)(double), float lo, float hi, float *at)
{
	uint32_t step = getenv("FR_EXHAUSTIVE") ? 1 : STEP;
	double worst = 0;

	for (uint64_t u = 0; u <= 0xffffffffu; u += step) {
		float x = fr_bits_f32((uint32_t)u);
		double e;

		if (!(x >= lo && x <= hi))
			continue;
		e = ulps(f(x), want((double)x));
		if (!(e <= worst)) {
			worst = e;
			*at = x;
		}
	}
	return worst;
}

static double sigmoid(double x)
{
	return 1 / (1 + exp(-x));
}

static void check_errors(void)
{
	float at = 0;
	double e = scan(fr_exp, exp, -0x1.5d589ep+6f, 0x1.62e42ep+6f, &at);

	CHECK("bounded/math/exp", e <= 1.06, "%.3f ulp at %a", e, (double)at);
	e = scan(fr_erf, erf, -INFINITY, INFINITY, &at);
	CHECK("bounded/math/erf", e <= 1.02, "%.3f ulp at %a", e, (double)at);
	e = scan(fr_log, log, 0x1p-149f, 0x1.fffffep+127f, &at);
	CHECK("bounded/math/log", e <= 0.98, "%.3f ulp at %a", e, (double)at);
	/* exp's 1.06 ulp reaches the sum with a factor <= 1 (one ulp of exp is at most 2 of the result's after the
	 * division); the sum and the quotient add half an ulp each, doubled across a power of two. */
	e = scan(fr_sigmoid, sigmoid, -87, 88, &at);
	CHECK("bounded/math/sigmoid", e <= 2 * (1.06 + 0.5 + 0.5), "%.3f ulp at %a", e, (double)at);
}

static void check_edges(void)
{
	static const struct {
		const char *name;
		float (*f)(float);
		float x, want;
	} cases[] = {
		{"exp(-inf)", fr_exp, -INFINITY, 0},
		{"exp(ln(2^-126))", fr_exp, -0x1.5d589ep+6f, 0x1.00004cp-126f},
		{"exp(below)", fr_exp, -0x1.5d58a0p+6f, 0},
		{"exp(ln(max))", fr_exp, 0x1.62e42ep+6f, 0x1.ffff08p+127f},
		{"exp(above)", fr_exp, 0x1.62e430p+6f, INFINITY},
		{"exp(inf)", fr_exp, INFINITY, INFINITY},
		{"exp(-0)", fr_exp, -0.0f, 1},
		{"exp(0)", fr_exp, 0, 1},
		{"exp(-87.4)", fr_exp, -87.4f, 0},
		{"exp(-1e30)", fr_exp, -1e30f, 0},
		{"exp(88.8)", fr_exp, 88.8f, INFINITY},
		{"exp(1e30)", fr_exp, 1e30f, INFINITY},
		{"exp(2^-149)", fr_exp, 0x1p-149f, 1},
		{"erf(0)", fr_erf, 0, 0},
		{"erf(-0)", fr_erf, -0.0f, -0.0f},
		{"erf(inf)", fr_erf, INFINITY, 1},
		{"erf(-inf)", fr_erf, -INFINITY, -1},
		{"erf(-4)", fr_erf, -4, -1},
		{"sigmoid(0)", fr_sigmoid, 0, 0.5f},
		{"sigmoid(-inf)", fr_sigmoid, -INFINITY, 0},
		{"sigmoid(inf)", fr_sigmoid, INFINITY, 1},
		{"log(1)", fr_log, 1, 0},
		{"log(0)", fr_log, 0, -INFINITY},
		{"log(-0)", fr_log, -0.0f, -INFINITY},
		{"log(inf)", fr_log, INFINITY, INFINITY},
		{"log(2^-149)", fr_log, 0x1p-149f, -0x1.9d1dap+6f},
		{"log(2^-127)", fr_log, 0x1p-127f, -0x1.601e68p+6f},
		{"log(max)", fr_log, 0x1.fffffep+127f, 0x1.62e43p+6f},
		{"relu(-1)", fr_relu, -1, 0},
		{"relu(-inf)", fr_relu, -INFINITY, 0},
		{"relu(-0)", fr_relu, -0.0f, -0.0f},
		{"relu(2^-149)", fr_relu, 0x1p-149f, 0x1p-149f},
		{"relu(inf)", fr_relu, INFINITY, INFINITY},
		{"gelu(-0)", fr_gelu, -0.0f, -0.0f},
		{"gelu(20)", fr_gelu, 20, 20},
		{"gelu(-20)", fr_gelu, -20, -0.0f},
		{"silu(-200)", fr_silu, -200, -0.0f},
		{"quick_gelu(200)", fr_quick_gelu, 200, 200},
	};
	static float (*const all[])(float) = {fr_exp,  fr_sigmoid,    fr_erf,  fr_log,
					      fr_silu, fr_quick_gelu, fr_gelu, fr_relu};
	char name[64];
	int nan = 0, functions = (int)(sizeof all / sizeof *all);

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		float got = cases[i].f(cases[i].x);

		snprintf(name, sizeof name, "exact/math/%s", cases[i].name);
		CHECK(name, fr_f32_bits(got) == fr_f32_bits(cases[i].want), "got %a, want %a", (double)got,
		      (double)cases[i].want);
	}
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		nan += isnan(all[i](NAN)) && isnan(all[i](fr_bits_f32(0xffc00001u)));
	CHECK("exact/math/nan", nan == functions, "only %d of %d functions give a NaN for a NaN", nan, functions);
	CHECK("exact/math/log(negative)", isnan(fr_log(-0x1p-149f)) && isnan(fr_log(-1)) && isnan(fr_log(-INFINITY)),
	      "no NaN");
}

/* power, its reciprocal and the angle round to float32 as in the models' reference; cos and sin of that angle round
 * correctly. pow's and cos' double errors could turn a tie the other way once in 2^28 values: not in these tables. */
static void check_rope_table(int max_pos, int head_dim, double theta, double factor)
{
	int half = head_dim / 2;
	size_t n = (size_t)max_pos * (size_t)half, bad = 0, at = 0;
	float *c = malloc(n * sizeof *c), *s = malloc(n * sizeof *s);
	char name[96];

	snprintf(name, sizeof name, "exact/rope_table/pos%d_hd%d_theta%g_factor%g", max_pos, head_dim, theta, factor);
	fr_rope_table(max_pos, head_dim, theta, factor, c, s);
	for (int i = 0; i < half; i++) {
		float inv = 1.0f / (float)pow(theta, (double)((float)(2 * i) / (float)head_dim)) / (float)factor;

		for (int pos = 0; pos < max_pos; pos++) {
			size_t j = (size_t)pos * (size_t)half + (size_t)i;
			double angle = (double)((float)pos * inv);

			if (c[j] != (float)cos(angle) || s[j] != (float)sin(angle)) {
				bad++;
				at = j;
			}
		}
	}
	CHECK(name, bad == 0, "%zu of %zu differ, the last at [%zu, %zu]: got (%a, %a)", bad, n, at / (size_t)half,
	      at % (size_t)half, (double)c[at], (double)s[at]);
	free(c);
	free(s);
}

int main(void)
{
	check_errors();
	check_edges();
	check_rope_table(4096, 128, 10000, 1);
	check_rope_table(4096, 128, 10000, 4);
	check_rope_table(2048, 80, 10000, 1);
	check_rope_table(300, 24, 500000, 3);
	check_rope_table(100000, 8, 1e6, 2.5);
	check_rope_table(1, 8, 10000, 1);
	return test_done();
}
