/* Does this processor's bf16 unit give the bits of the contract? What vdpbf16ps and tdpbf16ps do with subnormals, in
 * which order they add and when they round is in no standard, so it is asked of each processor when a device is opened:
 * sums of values that are about these things, by the level's own micro-kernels, against kernels/pairs.h and
 * kernels/tiles.h. A unit that differs is used all the same and named in every result: "avx512bf16+other", "amx+other".
 */
#include "cpu.h"
#include "../pairs.h"
#include "../tiles.h"

#define ROWS FR_TILE_ROWS
#define DEPTH (2 * FR_TILE_DEPTH)

struct sums {
	float x[ROWS][DEPTH];
	uint16_t w[ROWS][DEPTH];
};

static uint32_t lot(uint64_t *s)
{
	*s = *s * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(*s >> 32);
}

/* Row r is of kind r mod 8; the second half of each odd row all but takes back the first. */
static void make_sums(struct sums *s)
{
	/* Exponents of x and w: around 1; sums around the smallest normal number; subnormal x, subnormal w; sums that
	 * overflow; any finite ones; infinities and NaN among them; one of each, far apart. */
	static const struct {
		uint32_t x, x_range, w, w_range;
	} kinds[8] = {{124, 8, 124, 8},	  {50, 30, 50, 30}, {0, 3, 120, 14},  {120, 14, 0, 3},
		      {180, 12, 180, 12}, {1, 254, 1, 254}, {0, 256, 0, 256}, {100, 60, 100, 60}};
	uint64_t seed = 1;

	for (int r = 0; r < ROWS; r++)
		for (int k = 0; k < DEPTH; k++) {
			const uint32_t x = lot(&seed), w = lot(&seed);
			const uint32_t ex = kinds[r % 8].x + x % kinds[r % 8].x_range;
			const uint32_t ew = kinds[r % 8].w + w % kinds[r % 8].w_range;

			s->x[r][k] = fr_bits_f32((x & 0x807fff00u) | ex << 23);
			s->w[r][k] = (uint16_t)((w >> 16 & 0x807f) | ew << 7);
			if (r % 2 && k >= DEPTH / 2) {
				s->x[r][k] = s->x[r][k - DEPTH / 2];
				s->w[r][k] = (uint16_t)(s->w[r][k - DEPTH / 2] ^ 0x8000 ^ (k % 7 == 0));
			}
		}
}

static int differ(float a, float b)
{
	return fr_f32_bits(a) != fr_f32_bits(b) && !(isnan(a) && isnan(b));
}

static int pairs_differ(const struct fr_ukr *u, const struct sums *s)
{
	float a[DEPTH], b[DEPTH / 2 * 64], w[DEPTH], c = 0;
	int n = 0;

	for (int r = 0; r < ROWS; r++) {
		u->pack_terms[0](DEPTH, s->x[r], a);
		u->pack_pairs(1, DEPTH, s->w[r], DEPTH, b);
		u->gemm_pairs[0](1, 1, DEPTH / 2, a, DEPTH / 2, 0, b, &c, 1, 0);
		for (int k = 0; k < DEPTH; k++)
			w[k] = fr_bf16_f32(s->w[r][k]);
		n += differ(c, fr_pair_dot(s->x[r], w, DEPTH, 1));
	}
	return n;
}

/* Of all sums of a row of x and one of w, those of equal and of opposite place: every tile has some. */
static int tiles_differ(const struct fr_ukr *u, const struct sums *s)
{
	uint16_t x[2 * 2 * FR_TILE_ITEMS];
	float c[4 * 256], w[DEPTH];
	const struct fr_tile_call call = {.a = s->w,
					  .row = sizeof *s->w,
					  .half = sizeof s->w / 2,
					  .step = FR_TILE_DEPTH * sizeof **s->w,
					  .b = x,
					  .c = c,
					  .pairs = 1,
					  .steps = DEPTH / FR_TILE_DEPTH};
	int n = 0;

	u->tiles.pack_x[0](ROWS, DEPTH, s->x[0], DEPTH, x);
	u->tiles.begin();
	u->tiles.multiply[0][0](&call);
	u->tiles.end();
	for (int i = 0; i < 2 * ROWS; i++) {
		const int r = i % ROWS, to = i < ROWS ? r : ROWS - 1 - r;
		const float *tile = c + 256 * (r / 16 * 2 + to / 16);

		for (int k = 0; k < DEPTH; k++)
			w[k] = fr_bf16_f32(s->w[r][k]);
		n += differ(tile[r % 16 * 16 + to % 16], fr_tile_dot(s->x[to], w, DEPTH, 1, 1));
	}
	return n;
}

int fr_unit_differs(const struct fr_ukr *u)
{
	struct sums s;

	make_sums(&s);
	return (u->gemm_pairs[0] ? pairs_differ(u, &s) : 0) + (u->tiles.multiply[0][0] ? tiles_differ(u, &s) : 0);
}
