/* tests/prompts.h on the CUDA instance, on the host shim or (FR_TEST_DEVICE=cuda) on a device: parts of unequal length
 * in one prefill, and keys and values copied from a sequence that is at work. */
#include "prompts.h"

#include "cuda_test.h"

static const struct way ways[] = {{NULL, 2, 2, 2, 1, 0, 0, 0, 0}};

int main(void)
{
	static struct asked a;

	choose_device();
	if (open_pictures(&a.feed))
		return test_done();
	a.feed.pictures = 2;
	a.asks = 3;
	run_prompts("fr-merged-f16", "cuda", ways, (int)(sizeof ways / sizeof *ways), &a);
	return test_done();
}
