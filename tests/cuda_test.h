/* The device of the CUDA tests: the simulation of tests/cuda_host/, or with FR_TEST_DEVICE=cuda the real one. */
#ifndef FR_CUDA_TEST_H
#define FR_CUDA_TEST_H

#include "../kernels/cuda/cu.h"

#include <stdlib.h>
#include <string.h>

static inline int on_device(void)
{
	const char *name = getenv("FR_TEST_DEVICE");

	return name && strcmp(name, "cuda") == 0;
}
/* Call once, before any device is opened: the simulation is there already (tests/cuda_host/attach.c). */
static inline void choose_device(void)
{
	if (on_device())
		fr_cu_override = NULL;
}
/* Are the rows of real shapes wanted? On a device unless FR_TEST_ROWS says small (under a sanitizer); in the simulation
 * if it says all: minutes for each of the larger ones. */
static inline int all_rows(void)
{
	const char *rows = getenv("FR_TEST_ROWS");

	return rows && strcmp(rows, "all") == 0 ? 1 : on_device() && !(rows && strcmp(rows, "small") == 0);
}

#endif
