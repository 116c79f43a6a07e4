/* The kernels that measure a device's limits, on the host shim, where only their faults show and no rate means
 * anything. */
#include "../kernels/cuda/cuda.h"
#include "../kernels/cuda/peak.h"
#include "test.h"

int main(void)
{
	struct fr_error err = {0};
	struct fr_cuda_peaks p = {0};
	struct fr_dev *dev;
	size_t held;
	int rc;

	if (fr_cuda_open(&(struct fr_dev_opts){0}, &dev, &err)) {
		test_fail("exact/cuda/peak/open", "%s", err.text);
		return test_done();
	}
	held = dev->held;
	rc = fr_cuda_peak(dev, &p, &err);
	CHECK("exact/cuda/peak/runs", rc == 0, "%s", err.text);
	CHECK("exact/cuda/peak/each limit is measured",
	      p.read > 0 && p.copy > 0 && p.bf16 > 0 && p.f16 > 0 && p.f32 > 0 && p.gap > 0,
	      "read %g, copy %g, bf16 %g, f16 %g, f32 %g, gap %g", p.read, p.copy, p.bf16, p.f16, p.f32, p.gap);
	CHECK("exact/cuda/peak/its memory is given back", dev->held == held, "held %zu bytes, before %zu", dev->held,
	      held);
	dev->ops->close(dev);
	return test_done();
}
