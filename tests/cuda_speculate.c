/* tests/speculate.h on the CUDA instance, on the host shim or (FR_TEST_DEVICE=cuda) on a device: rows of one sequence
 * in one decode step see each other's keys, and each has the bits of a step of its own, recorded or not. */
#include "speculate.h"
#include "cuda_test.h"

static const struct way ways[] = {{RIGHT, 15, 1, 1, NULL}, {NEAR, 3, 2, 1, NULL}};

int main(void)
{
	static struct feed f;

	choose_device();
	if (open_pictures(&f))
		return test_done();
	f.pictures = 2;
	run_model("fr-merged-f16", "cuda", NULL, ways, (int)(sizeof ways / sizeof *ways), 1u << 3 | 1u << 4, &f);
	return test_done();
}
