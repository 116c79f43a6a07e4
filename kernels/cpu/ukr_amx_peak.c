/* The roofline loops of the amx level: products of tiles on tile registers alone.
 *
 * Two tiles of rows and two of columns make four sums, the most that leaves room for what is multiplied: 4 + 4 of 8
 * tiles. A sum is needed again after four products of 16 cycles each, longer than one takes to come out. */
#include "peak.h"

#include <immintrin.h>

#define TILE_ROWS 16
#define TILE_BYTES 64

struct config {
	uint8_t palette, start_row, reserved[14];
	uint16_t row_bytes[16];
	uint8_t rows[16];
};

/* All eight tiles whole, the four factors filled with one 16-bit pattern. */
static void set_up(uint16_t item)
{
	uint16_t factor[TILE_ROWS * TILE_BYTES / 2];
	struct config c = {.palette = 1};

	for (int i = 0; i < 8; i++) {
		c.row_bytes[i] = TILE_BYTES;
		c.rows[i] = TILE_ROWS;
	}
	for (size_t i = 0; i < sizeof factor / sizeof *factor; i++)
		factor[i] = item;
	/* GCC 12 declares 8 bytes of the configuration as read: without this the other stores may go. */
	__asm__ volatile("" : : "r"(&c), "r"(factor) : "memory");
	_tile_loadconfig(&c);
	_tile_zero(0);
	_tile_zero(1);
	_tile_zero(2);
	_tile_zero(3);
	_tile_loadd(4, factor, TILE_BYTES);
	_tile_loadd(5, factor, TILE_BYTES);
	_tile_loadd(6, factor, TILE_BYTES);
	_tile_loadd(7, factor, TILE_BYTES);
}

/* Gives the tiles back; 0 unless every sum has come to something. */
static int finish(void)
{
	uint32_t sums[4][TILE_ROWS * TILE_BYTES / 4];
	int all = 1;

	_tile_stored(0, sums[0], TILE_BYTES);
	_tile_stored(1, sums[1], TILE_BYTES);
	_tile_stored(2, sums[2], TILE_BYTES);
	_tile_stored(3, sums[3], TILE_BYTES);
	_tile_release();
	__asm__ volatile("" : : "r"(sums) : "memory");
	for (int t = 0; t < 4; t++)
		for (int i = 0; i < TILE_ROWS * TILE_BYTES / 4; i++)
			all &= sums[t][i] != 0;
	return all;
}

double fr_peak_bf16_amx(long n)
{
	set_up(0x3f00); /* 0.5 */
	for (long r = 0; r < n; r++) {
		_tile_dpbf16ps(0, 4, 6);
		_tile_dpbf16ps(1, 4, 7);
		_tile_dpbf16ps(2, 5, 6);
		_tile_dpbf16ps(3, 5, 7);
	}
	return finish() ? (double)n * 4 * 16 * 16 * 32 * 2 : 0;
}

double fr_peak_int8_amx(long n)
{
	set_up(0x0101);
	for (long r = 0; r < n; r++) {
		_tile_dpbssd(0, 4, 6);
		_tile_dpbssd(1, 4, 7);
		_tile_dpbssd(2, 5, 6);
		_tile_dpbssd(3, 5, 7);
	}
	return finish() ? (double)n * 4 * 16 * 16 * 64 * 2 : 0;
}
