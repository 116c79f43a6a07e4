/* Products in tiles (ops.h, kernels/tiles.h) on values that the kernel check's rows do not have: the order of the sums
 * and what becomes of subnormals, and the micro-kernels against the plain sum over bits of every exponent, with NaNs in
 * all memory around the operands, weights as they lie and copied, slices carried through memory. */
#include "../kernels/cpu/cpu.h"
#include "../kernels/tiles.h"
#include "test.h"
#include "tile_host/tile_host.h"

#define SUMS 60 /* calls for each pair of types and terms */
#define MOST_K 200
#define MOST_X (2 * FR_TILE_ROWS)
#define STEPS ((MOST_K + 31) / 32)

/* Worked out by hand from the manual's order: even ones, odd ones, their sum, the destination. */
static const struct {
	const char *name;
	float sum, x[4], w[4], want;
} known[] = {
	{"even-and-odd", 0, {0x1p24f, 1, 1, 1}, {1, 1, 1, 1}, 0x1p24f + 2},
	{"destination-last", 0x1p24f, {1, 1, 0, 0}, {1, 1, 0, 0}, 0x1p24f + 2},
	{"destination-alone", 0x1p24f, {1, 0, 0, 0}, {1, 0, 0, 0}, 0x1p24f},
	{"subnormal-weight", 1, {0x1p100f, 0, 0, 0}, {0x1p-127f, 0, 0, 0}, 1},
	{"subnormal-join", 0, {0x1p-63f, 0x1p-63f, 0, 0}, {0x1.02p-63f, -0x1p-63f, 0, 0}, 0},
	{"subnormal-sum", 0x1p-126f, {0x1p-63f, 0, 0, 0}, {-0x1.02p-63f, 0, 0, 0}, -0.0f},
	{"overflow", -0x1p127f, {0x1p127f, 0x1p127f, 0, 0}, {1, 1, 0, 0}, INFINITY},
	{"no-overflow", -0x1p127f, {0x1p127f, -0x1p127f, 0x1p126f, 0x1p126f}, {1, 1, 1, 1}, 0},
};

static void check_known(void)
{
	for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
		float got = fr_tile_add(known[i].sum, known[i].x, known[i].w, 4);
		char name[64];

		snprintf(name, sizeof name, "exact/tile_products/%s", known[i].name);
		CHECK(name, fr_f32_bits(got) == fr_f32_bits(known[i].want), "got %a, want %a", (double)got,
		      (double)known[i].want);
	}
}

static uint32_t next_bits(uint64_t *s)
{
	*s = *s * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(*s >> 32);
}

/* Any sign and fraction; the exponent in [least, least + range). */
static float some_float(uint64_t *s, uint32_t least, uint32_t range)
{
	uint32_t u = next_bits(s);

	return fr_bits_f32((u & 0x807fffffu) | (least + next_bits(s) % range) << 23);
}

/* The terms of f32 and f16 weights are all of them, from the least exponent where they can be to the largest. */
static void check_split(void)
{
	uint64_t seed = 3;
	int wrong = 0;

	for (int i = 0; i < 100000; i++) {
		float small = some_float(&seed, 0, 24), v = some_float(&seed, 24, 230), t[FR_TILE_TERMS][FR_TILE_DEPTH];
		float half = fr_f16_f32((uint16_t)(next_bits(&seed) & 0xbbff));

		fr_tile_split(&v, 1, fr_tile_terms(FR_F32), t);
		wrong += (double)t[0][0] + t[1][0] + t[2][0] != v;
		fr_tile_split(&small, 1, fr_tile_terms(FR_F32), t);
		wrong += !(fabs((double)t[0][0] + t[1][0] + t[2][0] - small) < 0x1p-126);
		fr_tile_split(&half, 1, fr_tile_terms(FR_F16), t);
		wrong += (double)t[0][0] + t[1][0] != half;
	}
	CHECK("exact/tile_products/split", !wrong, "%d values lose bits", wrong);
}

/* One product: x [rows, k] and w [outs, k], rows of either ld elements apart, NaN in between. */
struct product {
	enum fr_dtype dtype;
	int terms, rows, outs, k, ld;
	float x[MOST_X * (MOST_K + 8)];
	uint32_t w[FR_TILE_ROWS * (MOST_K + 8)]; /* elements of any type, packed */
};

static void fill(struct product *p, int kind, uint64_t *seed)
{
	/* Exponents of x and of w: around 1; products around the smallest normal; subnormal factors; overflow. */
	static const struct {
		uint32_t x, x_range, w, w_range;
	} kinds[] = {{110, 30, 110, 30}, {40, 30, 60, 30}, {0, 3, 100, 60}, {100, 60, 0, 3}, {150, 106, 120, 136}};
	size_t bytes = (size_t)fr_dtypes[p->dtype].bytes;

	memset(p->x, 0xff, sizeof p->x);
	memset(p->w, 0xff, sizeof p->w);
	for (int r = 0; r < p->rows; r++)
		for (int i = 0; i < p->k; i++)
			p->x[r * p->ld + i] = some_float(seed, kinds[kind].x, kinds[kind].x_range);
	for (int r = 0; r < p->outs; r++)
		for (int i = 0; i < p->k; i++) {
			float v = some_float(seed, kinds[kind].w, kinds[kind].w_range);
			uint16_t half = p->dtype == FR_F16 ? (uint16_t)(next_bits(seed) & 0xbbff)
							   : (uint16_t)(fr_f32_bits(v) >> 16);

			memcpy((char *)p->w + (size_t)(r * p->ld + i) * bytes, p->dtype == FR_F32 ? (void *)&v : &half,
			       bytes);
		}
}

/* The sums by the micro-kernels of u, slice by slice, into c [pairs, 2, 2, 16, 16]. */
static void by_kernel(const struct fr_ukr *u, const struct product *p, int depth, int in_place, float *c)
{
	static uint16_t a[STEPS * 6 * FR_TILE_ITEMS], b[2 * STEPS * 4 * FR_TILE_ITEMS];
	const struct fr_tiles *t = &u->tiles;
	int w_terms = fr_tile_terms(p->dtype), pairs = (p->rows + FR_TILE_ROWS - 1) / FR_TILE_ROWS;
	size_t bytes = (size_t)fr_dtypes[p->dtype].bytes;

	t->begin();
	for (int k0 = 0; k0 < p->k; k0 += depth) {
		int kn = p->k - k0 < depth ? p->k - k0 : depth, steps = (kn + 31) / 32;
		const char *w = (const char *)p->w + (size_t)k0 * bytes;
		struct fr_tile_call call = {.a = in_place ? (const void *)w : a,
					    .row = in_place ? (size_t)p->ld * bytes : 64,
					    .half = in_place ? (size_t)p->ld * bytes * 16 : 1024,
					    .step = in_place ? 64 : (size_t)w_terms * 2048,
					    .b = b,
					    .c = c,
					    .pairs = pairs,
					    .steps = steps,
					    .more = k0 > 0,
					    .next = (const char *)p->w,
					    .next_step = (size_t)p->ld * bytes,
					    .next_bytes = (size_t)p->k * bytes,
					    .next_rows = p->outs};

		for (int r = 0; r < p->rows; r += FR_TILE_ROWS)
			t->pack_x[p->terms - 1](p->rows - r < FR_TILE_ROWS ? p->rows - r : FR_TILE_ROWS, kn,
						p->x + r * p->ld + k0, (size_t)p->ld,
						b + (size_t)(r / FR_TILE_ROWS * steps * p->terms) * 2 * FR_TILE_ITEMS);
		if (!in_place)
			t->pack_w[p->dtype](p->outs, kn, w, (size_t)p->ld, a);
		t->multiply[p->terms - 1][w_terms - 1](&call);
	}
	t->end();
}

static int same(float a, float b)
{
	return fr_f32_bits(a) == fr_f32_bits(b) || (isnan(a) && isnan(b));
}

/* Values that differ from the plain sum. */
static int count_wrong(const struct fr_ukr *u, const struct product *p, const float *c)
{
	static float line[16 * 20];
	size_t row_bytes = (size_t)p->ld * (size_t)fr_dtypes[p->dtype].bytes;
	int wrong = 0;

	for (int tile = 0; tile < (p->rows + 31) / 32 * 4; tile++) {
		u->tiles.transpose(c + tile * 256, line, 20);
		for (int e = 0; e < 256; e++) {
			int r = tile / 4 * 32 + tile % 2 * 16 + e / 16, n = tile % 4 / 2 * 16 + e % 16;
			float want, w[MOST_K];

			if (r >= p->rows || n >= p->outs)
				continue;
			fr_to_f32(p->dtype, (const char *)p->w + (size_t)n * row_bytes, w, (size_t)p->k);
			want = fr_tile_dot(p->x + r * p->ld, w, p->k, p->terms, fr_tile_terms(p->dtype));
			wrong += !same(line[e / 16 * 20 + e % 16], want);
		}
	}
	return wrong;
}

static void check_kernels(const char *who, const struct fr_ukr *u)
{
	static const enum fr_dtype types[] = {FR_BF16, FR_F16, FR_F32};
	static struct product p;
	static float c[2 * FR_TILE_ROWS * FR_TILE_ROWS];
	uint64_t seed = 7;
	char name[96];

	for (int t = 0; t < 6; t++) {
		int wrong = 0;

		p.dtype = types[t / 2];
		p.terms = 1 + t % 2;
		for (int i = 0; i < SUMS; i++) {
			int in_place = p.dtype == FR_BF16 && i % 4 == 3;

			p.k = in_place ? 32 * (1 + i % 6) : 1 + (i * 37 + i % 3) % MOST_K;
			p.ld = p.k + i % 8;
			p.rows = 1 + i * 17 % MOST_X;
			p.outs = in_place ? FR_TILE_ROWS : 1 + i * 13 % FR_TILE_ROWS;
			fill(&p, i % 5, &seed);
			memset(c, 0xff, sizeof c);
			by_kernel(u, &p, 32 * (1 + i % 3), in_place, c);
			wrong += count_wrong(u, &p, c);
		}
		snprintf(name, sizeof name, "exact/tile_products/%s/%s/%d", who, fr_dtypes[p.dtype].name, p.terms);
		CHECK(name, !wrong, "%d sums differ", wrong);
	}
}

/* Two bf16 values that a product cannot tell apart. */
static int same_bf16(uint16_t a, uint16_t b)
{
	return same(fr_flush(fr_bf16_f32(a)), fr_flush(fr_bf16_f32(b)));
}

/* The operands that the level amx packs, which takes no tile instruction, against those of plain C. */
static void check_operands(const struct fr_ukr *amx, const struct fr_ukr *plain)
{
	static const enum fr_dtype types[] = {FR_BF16, FR_F16, FR_F32};
	static uint16_t tiles[2][STEPS * 6 * FR_TILE_ITEMS];
	static struct product p;
	uint64_t seed = 11;
	int wrong = 0;

	for (int i = 0; i < SUMS; i++) {
		p.dtype = types[i % 3];
		p.terms = 1 + i % 2;
		p.k = 1 + i * 37 % MOST_K;
		p.ld = p.k + i % 8;
		p.rows = p.outs = 1 + i * 13 % FR_TILE_ROWS;
		fill(&p, i % 5, &seed);
		for (int x = 0; x < 2; x++) {
			size_t n = (size_t)(2 * FR_TILE_ITEMS * ((p.k + 31) / 32));

			memset(tiles, 0x7f, sizeof tiles);
			for (int who = 0; who < 2; who++) {
				const struct fr_tiles *t = who ? &plain->tiles : &amx->tiles;

				if (x)
					t->pack_x[p.terms - 1](p.rows, p.k, p.x, (size_t)p.ld, tiles[who]);
				else
					t->pack_w[p.dtype](p.outs, p.k, p.w, (size_t)p.ld, tiles[who]);
			}
			n *= (size_t)(x ? p.terms : fr_tile_terms(p.dtype));
			for (size_t j = 0; j < sizeof tiles[0] / 2; j++)
				wrong += j < n ? !same_bf16(tiles[0][j], tiles[1][j]) : tiles[0][j] != tiles[1][j];
		}
	}
	CHECK("exact/tile_products/amx-operands", !wrong, "%d items differ", wrong);
}

int main(void)
{
	struct fr_ukr plain, amx;
	int found;

	tile_host_install();
	found = (int)fr_level_found();
	check_known();
	check_split();
	fr_ukr_ref(&plain);
	amx = plain;
	fr_ukr_ref_tiles(&plain);
	fr_ukr_amx(&amx);
	check_kernels("cpu-ref", &plain);
	if (found >= FR_LEVEL_AVX512BF16)
		check_operands(&amx, &plain);
	else
		test_skip("exact/tile_products/amx-operands", "this CPU has no avx512bf16");
	if (found >= FR_LEVEL_AMX)
		check_kernels("amx", &amx);
	else
		test_skip("exact/tile_products/amx", "this CPU lacks the level");
	return test_done();
}
