/* Decode products in 32 lanes (ops.h, "lane"), for a level whose registers hold 32 / SETS of them: a "set". Included by
 * the ukr_LEVEL_gemv.c, which define before:
 *
 *   vec, SETS               the register of floats, and how many make 32 lanes
 *   SUMS, ROWS              registers for sums; rows of x in a tile
 *   COLS, tile_cols(rows)   weight rows of a group, and of them in a tile
 *   DEPTH, ONE_DEPTH        16-bit elements of a piece; with one row of x
 *   vec_zero, vec_load, vec_store, vec_fma
 *   widen_set(dtype, w, set)                the elements of a set, of the 32 at w
 *   add_tail(dtype, set, n, x, w, sum)      the first n < 32 of them; lanes that take none keep their bits
 *   put_sets(dtype, n, x, to)               32 elements of x, or the first n and zeros, into their sets
 *   join(dtype, s, step)                    all lanes of a product, whose sets lie `step` apart
 *
 * A tile of R rows of x by C of weights keeps as many sets in registers as there are registers for. Where that is not
 * all, or where there are more tiles of rows, weights pass in pieces that stay in L1 for all passes, and each pass
 * fetches its share of the next piece into L2. x is packed in the order in which passes read it. */

/* Elements of a piece, and how many are fetched ahead at least: 1 KiB. */
INLINE int depth_of(enum fr_dtype dtype, int rows)
{
	return (rows == 1 ? ONE_DEPTH : DEPTH) / (dtype == FR_F32 ? 2 : 1);
}
INLINE int ahead_of(enum fr_dtype dtype, int depth)
{
	int least = dtype == FR_F32 ? 256 : 512;

	return depth > least ? depth : least;
}

/* Sets of a pass over a tile of R rows. */
INLINE int sets_of(int rows, int r)
{
	int sets = SETS;

	while (sets * r * tile_cols(rows) > SUMS)
		sets /= 2;
	return sets;
}

/* Rows of a tile, of as few tiles as there can be, alike but for the last. */
INLINE int tile_rows(int rows)
{
	int tiles = (rows + ROWS - 1) / ROWS;

	return (rows + tiles - 1) / tiles;
}

/* Tile after tile, in each pass after pass, in each 32 elements after 32, in each row after row. */
INLINE void gemv_pack(enum fr_dtype dtype, int rows, int k, const float *x, size_t ldx, float *dst)
{
	const int part = tile_rows(rows), width = 32 / SETS;
	const size_t steps = (size_t)(k + 31) / 32;

	for (int from = 0; from < rows; from += part) {
		const int r = rows - from < part ? rows - from : part, sets = sets_of(rows, r);
		const size_t pass = steps * (size_t)(r * sets * width);

		for (size_t i = 0; i < steps; i++)
			for (int j = 0; j < r; j++) {
				float all[32];

				put_sets(dtype, k - (int)i * 32, x + (size_t)(from + j) * ldx + i * 32, all);
				for (int s = 0; s < SETS; s++)
					memcpy(dst + (size_t)(s / sets) * pass +
						       (i * (size_t)r + (size_t)j) * (size_t)(sets * width) +
						       s % sets * width,
					       all + s * width, (size_t)width * sizeof *all);
			}
		dst += steps * (size_t)(r * 32);
	}
}

/* One set of R rows of x, `step` floats apart, by C weight rows, ldw bytes apart: s [R, C]. */
INLINE void add_set(enum fr_dtype dtype, const int R, const int C, const int set, const float *x, int step,
		    const char *w, size_t ldw, vec *s)
{
	vec u[ROWS], v[COLS];

	/* The fewer of the two wait in registers while the others pass. */
	if (R < C) {
		UNROLL for (int r = 0; r < R; r++) u[r] = vec_load(x + r * step);
		UNROLL for (int c = 0; c < C; c++)
		{
			v[0] = widen_set(dtype, w + (size_t)c * ldw, set);
			UNROLL for (int r = 0; r < R; r++) s[r * C + c] = vec_fma(u[r], v[0], s[r * C + c]);
		}
		return;
	}
	UNROLL for (int c = 0; c < C; c++)
	{
		v[c] = widen_set(dtype, w + (size_t)c * ldw, set);
		/* Widened here, not at each of its uses. */
		__asm__("" : "+v"(v[c]));
	}
	UNROLL for (int r = 0; r < R; r++)
	{
		u[0] = vec_load(x + r * step);
		UNROLL for (int c = 0; c < C; c++) s[r * C + c] = vec_fma(u[0], v[c], s[r * C + c]);
	}
}

/* A piece of a tile: n elements of R rows of x and C rows of weights, ldw apart, in as many passes as its sets need. */
struct piece {
	int n, first;
	const float *x;
	size_t pass; /* floats of x from pass to pass */
	const void *w;
	size_t ldw;
	int ahead;	  /* how far ahead weights are fetched: */
	const int *share; /* in pass i rows share[i]..share[i + 1] - 1 */
	vec *sums;	  /* [SETS, R, C], carried on from piece to piece */
};

/* Its pass over the sets SET..SET + G - 1. */
INLINE void run_piece(enum fr_dtype dtype, const int R, const int C, const int G, const int SET, const struct piece *p)
{
	const int whole = p->n / 32 * 32, width = 32 / SETS, bytes = dtype == FR_F32 ? 4 : 2;
	const size_t ldw = p->ldw * (size_t)bytes;
	const int from = p->share[SET / G], to = p->share[SET / G + 1], n = p->n;
	const char *w = p->w, *ahead = w + p->ahead * bytes + (size_t)from * ldw;
	const float *x = p->x + (size_t)(SET / G) * p->pass;
	vec *sums = p->sums + SET * R * C, s[SUMS];

	UNROLL24 for (int j = 0; j < G * R * C; j++) s[j] = p->first ? vec_zero() : sums[j];
	for (int i = 0; i < whole; i += 32, w += 32 * bytes, ahead += 32 * bytes, x += R * G * width) {
		const char *next = ahead;

		for (int c = from; c < to; c++, next += ldw) {
			_mm_prefetch(next, _MM_HINT_T1);
			if (dtype == FR_F32)
				_mm_prefetch(next + 64, _MM_HINT_T1);
		}
		UNROLL for (int g = 0; g < G; g++)
		{
			add_set(dtype, R, C, SET + g, x + g * width, G * width, w, ldw, s + g * R * C);
		}
	}
	UNROLL24 for (int j = 0; j < G * R * C; j++) sums[j] = s[j];
	if (whole < n)
		for (int g = 0; g < G; g++)
			for (int r = 0; r < R; r++)
				for (int c = 0; c < C; c++) {
					vec *sum = &sums[(g * R + r) * C + c];

					*sum = add_tail(dtype, SET + g, n - whole, x + (r * G + g) * width,
							w + (size_t)c * ldw, *sum);
				}
}

typedef void piece_fn(const struct piece *p);

/* piece_NAME_R_C_G: G sets a pass. */
#define PIECE(name, DTYPE, R, C, G)                                                                                    \
	static void piece_##name##_##R##_##C##_##G(const struct piece *p)                                              \
	{                                                                                                              \
		UNROLL for (int set = 0; set < SETS; set += G) run_piece(DTYPE, R, C, G, set, p);                      \
	}

/* A product of many rows of x and C weight rows, cut into tiles, pieces and passes. */
struct cut {
	enum fr_dtype dtype;
	int rows, C, CT;			/* CT weight rows of a tile */
	int part;				/* rows of a tile of x */
	int passes;				/* over a piece */
	int share[FR_MAX_GEMV_ROWS * SETS + 1]; /* of a tile's weight rows, by pass: those that it fetches ahead */
};

/* Where the sums of r rows from `first` by weight rows CT * sub and on begin. */
INLINE size_t sums_at(const struct cut *q, int first, int r, int sub)
{
	return (size_t)(SETS * (first * q->C + sub * r * q->CT));
}

/* The piece of n elements from `at` on, in all tiles. */
INLINE void run_pieces(const struct cut *q, piece_fn *const *piece, int at, int n, size_t padded, const float *x,
		       const void *w, size_t ldw, int ahead, vec *sums)
{
	const int *share = q->share;

	for (int first = 0; first < q->rows; first += q->part) {
		const int r = q->rows - first < q->part ? q->rows - first : q->part, sets = sets_of(q->rows, r);
		const size_t lanes = (size_t)(r * sets * (32 / SETS));
		struct piece p = {.n = n,
				  .first = at == 0,
				  .x = x + (size_t)first * padded + (size_t)at / 32 * lanes,
				  .pass = padded / 32 * lanes,
				  .ldw = ldw,
				  .ahead = ahead,
				  .share = share};

		for (int i = 0; i < q->C / q->CT; i++) {
			p.w = offset(q->dtype, w, (size_t)at + (size_t)(i * q->CT) * ldw);
			p.sums = sums + sums_at(q, first, r, i);
			piece[r - 1](&p);
		}
		share += SETS / sets;
	}
}

/* The product of row `row` and weight row c. */
INLINE float result(const struct cut *q, int row, int c, const vec *sums)
{
	const int first = row / q->part * q->part, r = q->rows - first < q->part ? q->rows - first : q->part;

	return join(q->dtype, sums + sums_at(q, first, r, c / q->CT) + (row - first) * q->CT + c % q->CT, r * q->CT);
}

/* All rows against C weight rows; y of a row: C results, `step` apart. */
INLINE void group(const struct cut *q, piece_fn *const *piece, int k, const float *x, const void *w, size_t ldw,
		  float *y, size_t ldy, size_t step)
{
	const int depth = q->passes > 1 ? depth_of(q->dtype, q->rows) : k;
	const size_t padded = (size_t)((k + 31) / 32 * 32);
	vec sums[FR_MAX_GEMV_ROWS * COLS * SETS];

	for (int at = 0; at < k; at += depth)
		run_pieces(q, piece, at, k - at < depth ? k - at : depth, padded, x, w, ldw,
			   ahead_of(q->dtype, q->passes > 1 ? depth : 0), sums);
	for (int row = 0; row < q->rows; row++)
		for (int c = 0; c < q->C; c++)
			y[(size_t)row * ldy + (size_t)c * step] = result(q, row, c, sums);
}

INLINE struct cut cut_of(enum fr_dtype dtype, int rows, int C)
{
	struct cut q = {dtype, rows, C, C == 1 ? 1 : tile_cols(rows), tile_rows(rows), 0, {0}};

	for (int first = 0; first < rows; first += q.part)
		q.passes += SETS / sets_of(rows, rows - first < q.part ? rows - first : q.part);
	for (int i = 0; i <= q.passes; i++)
		q.share[i] = q.CT * i / q.passes;
	return q;
}

/* The weight rows of a group lie as far apart as they can, so that each is a stream on a page of its own. tiles and
 * singles: passes over a tile's weight rows, and over one. */
INLINE void gemv_tiles(enum fr_dtype dtype, piece_fn *const *tiles, piece_fn *const *singles, int rows, int cols, int k,
		       const float *x, const void *w, size_t ldw, float *y, size_t ldy)
{
	const struct cut many = cut_of(dtype, rows, COLS), one = cut_of(dtype, rows, 1);
	const int groups = cols / COLS;
	const size_t step = (size_t)groups;

	for (int c = 0; c < groups; c++)
		group(&many, tiles, k, x, offset(dtype, w, (size_t)c * ldw), step * ldw, y + c, ldy, step);
	for (int c = groups * COLS; c < cols; c++)
		group(&one, singles, k, x, offset(dtype, w, (size_t)c * ldw), ldw, y + c, ldy, 1);
}
