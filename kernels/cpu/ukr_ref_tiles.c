/* Products in tiles in plain C (kernels/tiles.h): what the level amx must compute. Blocks are small, so that tests with
 * these meet every edge of the drivers. */
#include "ukr.h"
#include "../tiles.h"

static void nothing(void)
{
}

/* Where element i (of 32 along k) of row r lies in the tiles of 32 rows of x. */
static size_t place_x(int r, int i)
{
	return (size_t)(r / 16 * FR_TILE_ITEMS + i / 2 * 32 + r % 16 * 2 + i % 2);
}

/* .. and in those of 32 weight rows. */
static size_t place_w(int r, int i)
{
	return (size_t)(r * 32 + i);
}

/* One step of one row: n elements (more than 32: the first 32) into their places, the rest of the step zero. */
static void put_step(size_t (*place)(int, int), int r, int n, const float *v, int terms, uint16_t *dst)
{
	float t[FR_TILE_TERMS][FR_TILE_DEPTH];

	fr_tile_split(v, n, terms, t);
	for (int j = 0; j < terms; j++, dst += 2 * FR_TILE_ITEMS)
		for (int i = 0; i < FR_TILE_DEPTH; i++)
			dst[place(r, i)] = fr_f32_bf16(t[j][i]);
}

static void pack_x(int terms, int rows, int k, const float *x, size_t ldx, uint16_t *dst)
{
	for (int i = 0; i < k; i += FR_TILE_DEPTH, dst += terms * 2 * FR_TILE_ITEMS)
		for (int r = 0; r < FR_TILE_ROWS; r++)
			put_step(place_x, r, r < rows ? k - i : 0, x + (r < rows ? (size_t)r * ldx + (size_t)i : 0),
				 terms, dst);
}

static void pack_x_1(int rows, int k, const float *x, size_t ldx, uint16_t *dst)
{
	pack_x(1, rows, k, x, ldx, dst);
}

static void pack_x_2(int rows, int k, const float *x, size_t ldx, uint16_t *dst)
{
	pack_x(2, rows, k, x, ldx, dst);
}

static void pack_w(enum fr_dtype dtype, int rows, int k, const void *w, size_t ldw, uint16_t *dst)
{
	size_t bytes = (size_t)fr_dtypes[dtype].bytes;
	int terms = fr_tile_terms(dtype);

	for (int i = 0; i < k; i += FR_TILE_DEPTH, dst += terms * 2 * FR_TILE_ITEMS)
		for (int r = 0; r < FR_TILE_ROWS; r++) {
			int n = r >= rows ? 0 : k - i < FR_TILE_DEPTH ? k - i : FR_TILE_DEPTH;
			float v[FR_TILE_DEPTH];

			if (n)
				fr_to_f32(dtype, (const char *)w + ((size_t)r * ldw + (size_t)i) * bytes, v, (size_t)n);
			put_step(place_w, r, n, v, terms, dst);
		}
}

static void pack_w_f32(int rows, int k, const void *w, size_t ldw, uint16_t *dst)
{
	pack_w(FR_F32, rows, k, w, ldw, dst);
}

static void pack_w_f16(int rows, int k, const void *w, size_t ldw, uint16_t *dst)
{
	pack_w(FR_F16, rows, k, w, ldw, dst);
}

static void pack_w_bf16(int rows, int k, const void *w, size_t ldw, uint16_t *dst)
{
	pack_w(FR_BF16, rows, k, w, ldw, dst);
}

/* One step of 32 rows, or of 32 columns, in float32. */
typedef float step_values[FR_TILE_TERMS][FR_TILE_ROWS][FR_TILE_DEPTH];

static void widen_x(int terms, const uint16_t *b, step_values v)
{
	for (int t = 0; t < terms; t++, b += 2 * FR_TILE_ITEMS)
		for (int r = 0; r < FR_TILE_ROWS; r++)
			for (int i = 0; i < FR_TILE_DEPTH; i++)
				v[t][r][i] = fr_bf16_f32(b[place_x(r, i)]);
}

static void widen_w(int terms, const struct fr_tile_call *call, int step, step_values v)
{
	for (int t = 0; t < terms; t++)
		for (int r = 0; r < FR_TILE_ROWS; r++) {
			size_t at = (size_t)step * call->step + (size_t)(r / 16) * call->half +
				    (size_t)(r % 16) * call->row;
			const uint16_t *w = (const uint16_t *)((const char *)call->a + at) + t * 2 * FR_TILE_ITEMS;

			for (int i = 0; i < FR_TILE_DEPTH; i++)
				v[t][r][i] = fr_bf16_f32(w[i]);
		}
}

/* Adds a step to the sums of one pair of tiles by one: c [2, 2, 16, 16]. */
static void add_step(int x_terms, int w_terms, step_values x, step_values w, float *c)
{
	for (int i = 0; i < FR_TILE_ROWS; i++)
		for (int r = 0; r < FR_TILE_ROWS; r++) {
			float *sum = c + (i / 16 * 2 + r / 16) * 256 + i % 16 * 16 + r % 16;

			for (int t = 0; t < FR_TILE_PRODUCTS; t++)
				if (fr_tile_has(t, x_terms, w_terms))
					*sum = fr_tile_add(*sum, x[fr_tile_order[t].x][r], w[fr_tile_order[t].w][i],
							   FR_TILE_DEPTH);
		}
}

static void multiply(int x_terms, int w_terms, const struct fr_tile_call *call)
{
	const size_t sums = 4 * 256, b_step = (size_t)x_terms * 2 * FR_TILE_ITEMS;
	step_values x, w;

	for (int p = 0; p < call->pairs; p++) {
		if (!call->more)
			memset(call->c + (size_t)p * sums, 0, sums * sizeof(float));
		for (int s = 0; s < call->steps; s++) {
			widen_x(x_terms, call->b + (size_t)(p * call->steps + s) * b_step, x);
			widen_w(w_terms, call, s, w);
			add_step(x_terms, w_terms, x, w, call->c + (size_t)p * sums);
		}
	}
}

static void multiply_11(const struct fr_tile_call *call)
{
	multiply(1, 1, call);
}

static void multiply_12(const struct fr_tile_call *call)
{
	multiply(1, 2, call);
}

static void multiply_13(const struct fr_tile_call *call)
{
	multiply(1, 3, call);
}

static void multiply_21(const struct fr_tile_call *call)
{
	multiply(2, 1, call);
}

static void multiply_22(const struct fr_tile_call *call)
{
	multiply(2, 2, call);
}

static void multiply_23(const struct fr_tile_call *call)
{
	multiply(2, 3, call);
}

static void transpose(const float *c, float *y, size_t ldy)
{
	for (int i = 0; i < 16; i++)
		for (int j = 0; j < 16; j++)
			y[(size_t)j * ldy + (size_t)i] = c[i * 16 + j];
}

void fr_ukr_ref_tiles(struct fr_ukr *u)
{
	u->tiles = (struct fr_tiles){
		.kc = 160, /* a step of two terms by three */
		.nc = 96,
		.l2 = 1 << 15,
		.begin = nothing,
		.end = nothing,
		.pack_x = {pack_x_1, pack_x_2},
		.pack_w = {[FR_F32] = pack_w_f32, [FR_F16] = pack_w_f16, [FR_BF16] = pack_w_bf16},
		.multiply = {{multiply_11, multiply_12, multiply_13}, {multiply_21, multiply_22, multiply_23}},
		.transpose = transpose,
	};
}
