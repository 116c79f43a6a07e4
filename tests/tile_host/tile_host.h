/* The tile unit in software: the object code that ships, run on a processor without AMX.
 *
 * There every tile instruction is an invalid one, so it arrives in a SIGILL handler, which decodes it, executes it on
 * tiles of the calling thread and goes on behind it. What the manual answers with #GP or #UD is one FAIL line with the
 * address and the instruction, and exit 1. Loads and stores are plain C, so that a sanitizer sees them. */
#ifndef FR_TEST_TILE_HOST_H
#define FR_TEST_TILE_HOST_H

#include <stdint.h>

#define TILES 8
#define TILE_MAX_ROWS 16
#define TILE_MAX_BYTES 64

struct tile {
	uint8_t row[TILE_MAX_ROWS][TILE_MAX_BYTES];
	int rows, colsb; /* both 0: not configured */
};
struct tile_state {
	struct tile tile[TILES];
	int configured, released; /* released: it was configured before */
	long executed;		  /* instructions of this thread, ever */
};

/* Makes this process one whose machine has the level amx: 0 by the real unit, 1 by the handler, -1: not at all, because
 * the kernels around the tiles need instructions that are not there. */
int tile_host_install(void);
/* The handler alone, whatever the machine has, until the kernel is asked for the real unit; 0 or -1 as above. */
int tile_host_software(void);
void tile_host_remove(void);
const struct tile_state *tile_host_mine(void);
/* From now on another maker's unit: 0 none, 1 keeps subnormals, 2 adds the even sum and then the odd one. */
void tile_host_depart(int how);

/* product.c: c += a * b of configured tiles whose shapes agree, as the manual's pseudo code orders it. */
void tile_host_bf16(struct tile *c, const struct tile *a, const struct tile *b, int departs);
/* Bytes of a or b are signed or not. */
void tile_host_int8(struct tile *c, const struct tile *a, const struct tile *b, int a_signed, int b_signed);

#endif
