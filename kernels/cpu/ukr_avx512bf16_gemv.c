/* The decode products of the avx512bf16 level: pair lanes (ops.h) by vdpbf16ps, weights straight from where they lie.
 *
 * A cache line of weights is one instruction's worth of pairs, so nothing is widened, and a register holds all the
 * lanes of a product: sums stay in registers from the first element to the last. x is packed in the order in which it
 * is read, one stream for each tile of rows. */
#include "ukr_avx512.h"

#define LINE 32 /* elements of a step: a cache line of weights */
#define ROWS 4	/* rows of x in a tile */
#define COLS 6	/* weight rows of a tile */
#define SUMS (ROWS * COLS)
#define TILES_MOST (FR_MAX_GEMV_ROWS / ROWS)
/* With more than one tile of rows, weights pass in pieces of DEPTH elements that stay in L1 for all of them. They are
 * fetched into L2 AHEAD elements, or one piece, before they are needed. */
#define DEPTH 1024
#define AHEAD 512
#define UNROLL24 _Pragma("GCC unroll 24")

/* Rows of a tile, of as few tiles as there can be, alike but for the last. */
INLINE int tile_rows(int rows)
{
	int tiles = (rows + ROWS - 1) / ROWS;

	return (rows + tiles - 1) / tiles;
}

/* ---- x in the order of its use ------------------------------------------------------------------------------- */

INLINE __m512 widen16(__m256i half)
{
	return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

/* Up to 32 elements in T terms, a line each. */
INLINE void put_line(const int T, int n, const float *x, float *dst)
{
	__m512 low = load16(FR_F32, lanes16(n), x, 0), high = load16(FR_F32, lanes16(n - 16), x, 16);

	UNROLL for (int t = 0; t < T; t++)
	{
		__m512i term = (__m512i)_mm512_cvtne2ps_pbh(high, low);

		_mm512_storeu_si512(dst + t * LINE / 2, term);
		low = _mm512_sub_ps(low, widen16(_mm512_castsi512_si256(term)));
		high = _mm512_sub_ps(high, widen16(_mm512_extracti64x4_epi64(term, 1)));
	}
}

/* Tile after tile, in each line after line, in each row after row. */
INLINE void pack(const int T, int rows, int k, const float *x, size_t ldx, float *dst)
{
	const int part = tile_rows(rows);

	for (int from = 0; from < rows; from += part)
		for (int i = 0; i < k; i += LINE)
			for (int r = from; r < rows && r < from + part; r++, dst += T * LINE / 2)
				put_line(T, k - i, x + (size_t)r * ldx + i, dst);
}

/* ---- products -------------------------------------------------------------------------------------------------- */

/* One line of R rows of x in T terms, against C rows of weights in v. */
INLINE void add_line(const int R, const int C, const int T, const float *x, const __m512bh *v, __m512 *s)
{
	UNROLL for (int t = 0; t < T; t++)
	{
		UNROLL for (int r = 0; r < R; r++)
		{
			__m512bh u = (__m512bh)_mm512_loadu_ps(x + (r * T + t) * (LINE / 2));

			UNROLL for (int c = 0; c < C; c++) s[r * C + c] = _mm512_dpbf16_ps(s[r * C + c], u, v[c]);
		}
	}
}

/* The last n < 32 elements: lanes that take none keep their bits. (GCC 12 takes only eight bits of the mask of
 * _mm512_mask_dpbf16_ps.) */
INLINE void add_tail(const int R, const int C, const int T, int n, const float *x, const uint16_t *w, size_t ldw,
		     __m512 *s)
{
	const __mmask16 some = lanes16((n + 1) / 2);

	UNROLL for (int c = 0; c < C; c++)
	{
		__m512bh v = (__m512bh)_mm512_maskz_loadu_epi16((1u << n) - 1, w + (size_t)c * ldw);

		UNROLL for (int r = 0; r < R; r++)
		{
			UNROLL for (int t = 0; t < T; t++)
			{
				__m512bh u = (__m512bh)_mm512_loadu_ps(x + (r * T + t) * (LINE / 2));

				s[r * C + c] =
					_mm512_mask_mov_ps(s[r * C + c], some, _mm512_dpbf16_ps(s[r * C + c], u, v));
			}
		}
	}
}

INLINE void join(const int N, const __m512 *s, float *y)
{
	_mm512_storeu_ps(y, join_lanes16(N < 16 ? N : 16, s));
	if (N > 16)
		_mm512_storeu_ps(y + 16, join_lanes16(N - 16, s + 16));
}

/* A piece of a product: n elements of R rows of x and C rows of weights, ldw apart. */
struct piece {
	int n;
	const float *x;
	const uint16_t *w;
	size_t ldw;
	int ahead, from, to; /* how far ahead which weight rows are fetched */
	int first, last;
	__m512 *sums; /* [R * C], carried from piece to piece */
	float *y;     /* [R * C] after the last, and room up to 32 */
};

INLINE void run_piece(const int R, const int C, const int T, const struct piece *p)
{
	const int whole = p->n / LINE * LINE;
	const size_t ldw = p->ldw;
	const uint16_t *w = p->w, *ahead = p->w + p->ahead + (size_t)p->from * ldw;
	const float *x = p->x;
	__m512 s[SUMS];

	UNROLL24 for (int j = 0; j < R * C; j++) s[j] = p->first ? _mm512_setzero_ps() : p->sums[j];
	for (int i = 0; i < whole; i += LINE, w += LINE, ahead += LINE, x += R * T * (LINE / 2)) {
		const uint16_t *next = ahead;
		__m512bh v[COLS];

		for (int c = p->from; c < p->to; c++, next += ldw)
			_mm_prefetch((const char *)next, _MM_HINT_T1);
		UNROLL for (int c = 0; c < C; c++) v[c] = (__m512bh)_mm512_loadu_si512(w + (size_t)c * ldw);
		add_line(R, C, T, x, v, s);
	}
	if (whole < p->n)
		add_tail(R, C, T, p->n - whole, x, w, ldw, s);
	if (p->last)
		join(R * C, s, p->y);
	else
		UNROLL24 for (int j = 0; j < R * C; j++) p->sums[j] = s[j];
}

#define PIECE(R, C, T)                                                                                                 \
	static void piece_##R##_##C##_##T(const struct piece *p)                                                       \
	{                                                                                                              \
		run_piece(R, C, T, p);                                                                                 \
	}
#define PIECES(C, T)                                                                                                   \
	PIECE(1, C, T)                                                                                                 \
	PIECE(2, C, T)                                                                                                 \
	PIECE(3, C, T)                                                                                                 \
	PIECE(4, C, T)
PIECES(1, 1)
PIECES(1, 2)
PIECES(6, 1)
PIECES(6, 2)
typedef void piece_fn(const struct piece *p);
static piece_fn *const pieces[2][2][ROWS] = {
	/* [a whole tile of weight rows][terms - 1][rows - 1] */
	{{piece_1_1_1, piece_2_1_1, piece_3_1_1, piece_4_1_1}, {piece_1_1_2, piece_2_1_2, piece_3_1_2, piece_4_1_2}},
	{{piece_1_6_1, piece_2_6_1, piece_3_6_1, piece_4_6_1}, {piece_1_6_2, piece_2_6_2, piece_3_6_2, piece_4_6_2}}};

/* All rows against C weight rows; y of a row: C results, `step` apart. */
INLINE void group(const int C, const int T, int rows, int k, const float *x, const uint16_t *w, size_t ldw, float *y,
		  size_t ldy, size_t step)
{
	const size_t row = (size_t)((k + LINE - 1) / LINE * T * (LINE / 2));
	const int part = tile_rows(rows), tiles = (rows + part - 1) / part, depth = tiles > 1 ? DEPTH : k;
	__m512 sums[TILES_MOST][SUMS];
	float out[TILES_MOST][2 * 16];

	for (int at = 0; at < k; at += depth)
		for (int t = 0; t < tiles; t++) {
			int first = t * part, n = rows - first < part ? rows - first : part;
			struct piece p = {.n = k - at < depth ? k - at : depth,
					  .x = x + (size_t)first * row + (size_t)(at / LINE * n * T * (LINE / 2)),
					  .w = w + at,
					  .ldw = ldw,
					  .ahead = tiles > 1 ? DEPTH : AHEAD,
					  .from = C * t / tiles,
					  .to = C * (t + 1) / tiles,
					  .first = at == 0,
					  .last = k - at <= depth,
					  .sums = sums[t],
					  .y = out[t]};

			pieces[C == COLS][T - 1][n - 1](&p);
		}
	for (int r = 0; r < rows; r++)
		for (int c = 0; c < C; c++)
			y[(size_t)r * ldy + (size_t)c * step] = out[r / part][r % part * C + c];
}

/* The weight rows of a tile lie as far apart as they can, so that each is a stream on a page of its own. */
INLINE void gemv(const int T, int rows, int cols, int k, const float *x, const uint16_t *w, size_t ldw, float *y,
		 size_t ldy)
{
	const size_t groups = (size_t)(cols / COLS);

	for (size_t c = 0; c < groups; c++)
		group(COLS, T, rows, k, x, w + c * ldw, groups * ldw, y + c, ldy, groups);
	for (size_t c = groups * COLS; c < (size_t)cols; c++)
		group(1, T, rows, k, x, w + c * ldw, ldw, y + c, ldy, 1);
}

#define FOR_TERMS(T)                                                                                                   \
	static void pack_##T(int rows, int k, const float *x, size_t ldx, float *dst)                                  \
	{                                                                                                              \
		pack(T, rows, k, x, ldx, dst);                                                                         \
	}                                                                                                              \
	static void gemv_##T(int rows, int cols, int k, const float *x, const void *w, size_t ldw, float *y,           \
			     size_t ldy)                                                                               \
	{                                                                                                              \
		gemv(T, rows, cols, k, x, w, ldw, y, ldy);                                                             \
	}
FOR_TERMS(1)
FOR_TERMS(2)

void fr_ukr_avx512bf16_gemv(struct fr_ukr *u)
{
	u->gemv_pack_pairs[0] = pack_1;
	u->gemv_pack_pairs[1] = pack_2;
	u->gemv_pairs[0] = gemv_1;
	u->gemv_pairs[1] = gemv_2;
}
