/* The products of the amx level: tdpbf16ps on tiles, the sums of kernels/tiles.h 256 at a time.
 *
 * Four tiles are sums, two by two; two take 16 weight rows each, two 16 rows of x. So a step of 32 elements is four
 * loads for four products of 16 clocks, and the sums of one tile come 64 clocks after each other, where the unit
 * needs 52. All tiles are 16 rows of 64 bytes always: whoever packs has padded with zeros, so one configuration does
 * for all.
 *
 * The compiler knows nothing of tiles: the instructions are volatile statements that keep their order. GCC 12 declares
 * only the first 8 bytes of a configuration as read, and nothing of what a tile is loaded from; hence `barrier`. */
#include "ukr_avx512bf16.h"
#include "../tiles.h"

#define TILE ((size_t)FR_TILE_ITEMS * sizeof(uint16_t)) /* bytes */
#define LINE 64

#define barrier() __asm__ volatile("" ::: "memory")

static void begin(void)
{
	static const struct {
		uint8_t palette, start_row, reserved[14];
		uint16_t row_bytes[16];
		uint8_t rows[16];
	} config __attribute__((aligned(64))) = {
		.palette = 1,
		.row_bytes = {64, 64, 64, 64, 64, 64, 64, 64},
		.rows = {16, 16, 16, 16, 16, 16, 16, 16},
	};

	barrier();
	_tile_loadconfig(&config);
}

static void end(void)
{
	_tile_release();
}

/* ---- the product ------------------------------------------------------------------------------------------------ */

/* Weights that come next, fetched some lines at a time. */
struct ahead {
	const char *row;
	size_t step, bytes, done;
	int rows, lines;
};

static struct ahead look(const struct fr_tile_call *call)
{
	size_t lines = (size_t)call->next_rows * ((call->next_bytes + LINE - 1) / LINE);
	size_t times = (size_t)call->pairs * (size_t)call->steps;

	return (struct ahead){.row = call->next,
			      .step = call->next_step,
			      .bytes = call->next_bytes,
			      .rows = call->next_rows,
			      .lines = (int)((lines + times - 1) / times)};
}

INLINE void fetch(struct ahead *f)
{
	for (int i = 0; i < f->lines && f->rows; i++) {
		_mm_prefetch(f->row + f->done, _MM_HINT_T1);
		f->done += LINE;
		if (f->done >= f->bytes) {
			f->done = 0;
			f->row += f->step;
			f->rows--;
		}
	}
}

/* The sums are tiles 0 to 3 (0 and 1: weight rows 0..15), weights 4 and 5, x 6 and 7. x need not stay in L1, but
 * tileloaddt1, which says so, takes 33 clocks where tileloadd takes 8 (Intel's optimization manual): two of them would
 * outlast the four products. */
#define LOAD_W(tile, at) _tile_loadd(tile, at, row)
#define LOAD_X(tile, at) _tile_loadd(tile, at, LINE)

/* The four products of one term of x with one of weights; what is already in its tiles is not loaded again. */
#define PRODUCT(new_w, new_x, w, x)                                                                                    \
	do {                                                                                                           \
		if (new_w)                                                                                             \
			LOAD_W(4, w);                                                                                  \
		if (new_x)                                                                                             \
			LOAD_X(6, x);                                                                                  \
		_tile_dpbf16ps(0, 4, 6);                                                                               \
		if (new_x)                                                                                             \
			LOAD_X(7, (x) + TILE);                                                                         \
		_tile_dpbf16ps(1, 4, 7);                                                                               \
		if (new_w)                                                                                             \
			LOAD_W(5, (w) + half);                                                                         \
		_tile_dpbf16ps(2, 5, 6);                                                                               \
		_tile_dpbf16ps(3, 5, 7);                                                                               \
	} while (0)

/* One step of 32 elements: of XT by WT terms each product, in an order in which one operand stays. */
INLINE void step(const int XT, const int WT, const char *w, size_t row, size_t half, const char *x)
{
	if (WT == 3)
		PRODUCT(1, 1, w + 4 * TILE, x);
	if (XT == 2 && WT >= 2)
		PRODUCT(1, 1, w + 2 * TILE, x + 2 * TILE);
	if (WT >= 2)
		PRODUCT(XT == 1, XT == 2 || WT == 2, w + 2 * TILE, x);
	PRODUCT(1, WT == 1, w, x);
	if (XT == 2)
		PRODUCT(0, 1, w, x + 2 * TILE);
}

INLINE void multiply(const int XT, const int WT, const struct fr_tile_call *call)
{
	const char *b = (const char *)call->b;
	size_t row = call->row, half = call->half, b_step = (size_t)XT * 2 * TILE;
	struct ahead next = look(call);
	float *c = call->c;

	barrier();
	for (int p = 0; p < call->pairs; p++, c += 4 * 256) {
		const char *a = call->a;

		if (call->more) {
			_tile_loadd(0, c, LINE);
			_tile_loadd(1, c + 256, LINE);
			_tile_loadd(2, c + 512, LINE);
			_tile_loadd(3, c + 768, LINE);
		} else {
			_tile_zero(0);
			_tile_zero(1);
			_tile_zero(2);
			_tile_zero(3);
		}
		for (int s = 0; s < call->steps; s++, a += call->step, b += b_step) {
			step(XT, WT, a, row, half, b);
			fetch(&next);
		}
		_tile_stored(0, c, LINE);
		_tile_stored(1, c + 256, LINE);
		_tile_stored(2, c + 512, LINE);
		_tile_stored(3, c + 768, LINE);
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

/* ---- operands --------------------------------------------------------------------------------------------------- */

/* 32 elements of a row from i on, of which n are there, in T terms. */
INLINE void take_terms(const int T, enum fr_dtype dtype, int n, const void *row, size_t i, __m512i *term)
{
	__m512 low = load16(dtype, lanes16(n), row, i), high = load16(dtype, lanes16(n - 16), row, i + 16);

	term[0] = round32(low, high);
	UNROLL for (int t = 1; t < T; t++)
	{
		low = _mm512_sub_ps(low, widen16(_mm512_castsi512_si256(term[t - 1])));
		high = _mm512_sub_ps(high, widen16(_mm512_extracti64x4_epi64(term[t - 1], 1)));
		term[t] = round32(low, high);
	}
}

/* Term by term: both terms of 16 rows at once have no room in registers. */
INLINE void pack_x(const int T, int rows, int k, const float *x, size_t ldx, uint16_t *dst)
{
	for (int i = 0; i < k; i += FR_TILE_DEPTH)
		UNROLL for (int t = 0; t < T; t++) for (int half = 0; half < 2; half++, dst += FR_TILE_ITEMS)
		{
			__m512i v[16];

			UNROLL for (int r = 0; r < 16; r++)
			{
				__m512i term[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};

				if (half * 16 + r < rows)
					take_terms(t + 1, FR_F32, k - i, x + (size_t)(half * 16 + r) * ldx, (size_t)i,
						   term);
				v[r] = term[t];
			}
			transpose16(v);
			UNROLL for (int r = 0; r < 16; r++) _mm512_storeu_si512(dst + 32 * r, v[r]);
		}
}

static void pack_x_1(int rows, int k, const float *x, size_t ldx, uint16_t *dst)
{
	pack_x(1, rows, k, x, ldx, dst);
}

static void pack_x_2(int rows, int k, const float *x, size_t ldx, uint16_t *dst)
{
	pack_x(2, rows, k, x, ldx, dst);
}

/* A row at a time, as it lies in memory. */
INLINE void pack_w(enum fr_dtype dtype, int rows, int k, const void *w, size_t ldw, uint16_t *dst)
{
	const int T = fr_tile_terms(dtype);
	size_t step = (size_t)T * 2 * FR_TILE_ITEMS;

	for (int r = 0; r < FR_TILE_ROWS; r++, dst += 32) {
		uint16_t *to = dst;

		for (int i = 0; i < k; i += FR_TILE_DEPTH, to += step) {
			__m512i term[3] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512()};
			size_t at = (size_t)r * ldw + (size_t)i;
			__mmask32 some = k - i < 32 ? (1u << (k - i)) - 1 : 0xffffffffu;

			if (r < rows && dtype == FR_BF16)
				term[0] = _mm512_maskz_loadu_epi16(some, (const uint16_t *)w + at);
			else if (r < rows)
				take_terms(T, dtype, k - i, w, at, term);
			UNROLL for (int t = 0; t < T; t++)
			{
				_mm512_storeu_si512(to + t * 2 * FR_TILE_ITEMS, term[t]);
			}
		}
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

static void transpose(const float *c, float *y, size_t ldy)
{
	__m512i v[16];

	UNROLL for (int i = 0; i < 16; i++) v[i] = _mm512_loadu_si512(c + 16 * i);
	transpose16(v);
	UNROLL for (int i = 0; i < 16; i++) _mm512_storeu_si512(y + (size_t)i * ldy, v[i]);
}

void fr_ukr_amx(struct fr_ukr *u)
{
	u->tiles = (struct fr_tiles){
		.kc = 640, /* weights and x 40 KiB of 48 in L1, sums 4 */
		.nc = 512,
		.l2 = 384 << 10, /* floats: 1.5 MiB of 2 */
		.begin = begin,
		.end = end,
		.pack_x = {pack_x_1, pack_x_2},
		.pack_w = {[FR_F32] = pack_w_f32, [FR_F16] = pack_w_f16, [FR_BF16] = pack_w_bf16},
		.multiply = {{multiply_11, multiply_12, multiply_13}, {multiply_21, multiply_22, multiply_23}},
		.transpose = transpose,
	};
	fr_ukr_amx_q8(u);
}
