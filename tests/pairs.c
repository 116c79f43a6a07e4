/* Products in pairs (ops.h, kernels/pairs.h) on values that the kernel check's rows do not have: what a processor with
 * vdpbf16ps gave for subnormals, ties and overflow, and, where this CPU has the level, its micro-kernels against the
 * plain sum over random bits of every exponent. */
#include "../kernels/cpu/cpu.h"
#include "../kernels/pairs.h"
#include "test.h"

#define MOST 40

/* As an AMD Zen 4 computed them. */
static const struct {
	const char *name;
	float sum, x0, w0, x1, w1, want;
} known[] = {
	{"odd-first", 3e38f, 0x1p127f, 1, -0x1p127f, 1, 0x1.c363ccp127f},
	{"odd-first/overflow", 3e38f, -0x1p127f, 1, 0x1p127f, 1, INFINITY},
	{"tiny/tie", 0x1p-126f, -0x1p-76f, 0x1p-75f, 0, 0, 0x1p-126f},
	{"tiny/above", 0x1p-126f, -0x1.8p-77f, 0x1p-75f, 0, 0, 0x1p-126f},
	{"tiny/below", 0x1p-126f, -0x1.4p-76f, 0x1p-75f, 0, 0, 0},
	{"tiny/below/odd", 0x1p-126f, 0, 0, -0x1.4p-76f, 0x1p-75f, 0},
	{"tiny/negative", -0x1p-126f, 0x1.8p-76f, 0x1p-75f, 0, 0, -0.0f},
	{"subnormal-weight", 0, 1, 0x1p-127f, 0x1p10f, -0x1p-130f, 0},
	{"negative-zeros", -0.0f, -0.0f, 1, -0.0f, 1, -0.0f},
};

static void check_known(void)
{
	for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
		float got = fr_pair_add(known[i].sum, known[i].x0, known[i].x1, known[i].w0, known[i].w1);
		char name[64];

		snprintf(name, sizeof name, "exact/pairs/%s", known[i].name);
		CHECK(name, fr_f32_bits(got) == fr_f32_bits(known[i].want), "got %a, want %a", (double)got,
		      (double)known[i].want);
	}
}

static void check_terms(void)
{
	static const struct {
		uint32_t x, want;
	} terms[] = {
		{0x007fffff, 0},	  {0x80400000, 0x80000000}, {0x00800000, 0x00800000}, {0x3f808000, 0x3f800000},
		{0x3f818000, 0x3f820000}, {0x7f7fffff, 0x7f800000}, {0xff800000, 0xff800000}, {0x7f800001, 0x7fc00000},
	};
	int bad = 0;

	for (size_t i = 0; i < sizeof terms / sizeof *terms; i++)
		bad += fr_f32_bits(fr_pair_term(fr_bits_f32(terms[i].x))) != terms[i].want;
	CHECK("exact/pairs/terms", !bad, "%d values are rounded differently", bad);
}

static uint32_t next_bits(uint64_t *s)
{
	*s = *s * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(*s >> 32);
}

/* Any sign and fraction; the exponent in [least, least + range). */
static uint32_t some_float(uint64_t *s, uint32_t least, uint32_t range)
{
	uint32_t u = next_bits(s);

	return (u & 0x807fffffu) | (least + next_bits(s) % range) << 23;
}

/* One sum of k random products by the micro-kernels of u. */
static float by_kernel(const struct fr_ukr *u, enum fr_phase phase, int k, int terms, const float *x, const uint16_t *w)
{
	static float a[2 * MOST + 32], b[MOST * 32];
	float c = NAN;

	if (phase == FR_DECODE) {
		u->gemv_pack_pairs[terms - 1](1, k, x, (size_t)k, a);
		u->gemv_pairs[terms - 1](1, 1, k, a, w, (size_t)k, &c, 1);
		return c;
	}
	u->pack_terms[terms - 1](k, x, a);
	u->pack_pairs(1, k, w, (size_t)k, b);
	u->gemm_pairs[terms - 1](1, 1, (k + 1) / 2, a, (size_t)(terms * ((k + 1) / 2)), 0, b, &c, 1, 0);
	return c;
}

static void check_kernels(const char *name, const struct fr_ukr *u, enum fr_phase phase)
{
	/* Exponents of x and of w: around 1; products around the smallest normal; subnormal factors; overflow. */
	static const struct {
		uint32_t x, x_range, w, w_range;
	} kinds[] = {{110, 30, 110, 30}, {40, 30, 60, 30}, {0, 3, 100, 60}, {100, 60, 0, 3}, {150, 106, 120, 136}};
	uint64_t seed = 5;
	float x[MOST], wide[MOST];
	uint16_t w[MOST];
	int bad = 0;

	for (int i = 0; i < 20000; i++) {
		int k = 1 + i % MOST, kind = i / MOST % 5, terms = 1 + i % 2;
		float want, got;

		for (int j = 0; j < k; j++) {
			x[j] = fr_bits_f32(some_float(&seed, kinds[kind].x, kinds[kind].x_range));
			w[j] = (uint16_t)(some_float(&seed, kinds[kind].w, kinds[kind].w_range) >> 16);
			wide[j] = fr_bf16_f32(w[j]);
		}
		want = phase == FR_DECODE ? fr_pair_lane_dot(x, wide, k, terms) : fr_pair_dot(x, wide, k, terms);
		got = by_kernel(u, phase, k, terms, x, w);
		if (fr_f32_bits(got) == fr_f32_bits(want) || (isnan(got) && isnan(want)))
			continue;
		if (!bad++)
			printf("# %s: %d products, %d terms, kind %d: got %a, want %a\n", name, k, terms, kind,
			       (double)got, (double)want);
	}
	CHECK(name, !bad, "%d of 20000 sums differ", bad);
}

int main(void)
{
	struct fr_ukr u;

	check_known();
	check_terms();
	fr_ukr_ref(&u);
	fr_ukr_ref_pairs(&u);
	check_kernels("exact/pairs/cpu-ref", &u, FR_PREFILL);
	check_kernels("exact/pairs/cpu-ref-lanes", &u, FR_DECODE);
	if (fr_level_found() < FR_LEVEL_AVX512BF16) {
		test_skip("exact/pairs/avx512bf16", "this CPU lacks the level");
		return test_done();
	}
	fr_ukr_avx512(&u);
	fr_ukr_avx512bf16(&u);
	check_kernels("exact/pairs/avx512bf16", &u, FR_PREFILL);
	check_kernels("exact/pairs/avx512bf16-lanes", &u, FR_DECODE);
	return test_done();
}
