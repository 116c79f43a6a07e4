/* Host half of pick.cu: tokens are chosen on the device, and only their ids come back. */
#include "cuda.h"
#include "../../engine/fr.h"

void fr_cu_pick(struct fr_dev *dev, const struct fr_pick *a)
{
	struct fr_cuda *d = (struct fr_cuda *)dev;
	const struct fr_sampler *s = a->sampler;
	const size_t bytes = (size_t)a->rows * sizeof(int32_t);
	struct fr_pick_args args = {.logits = a->logits, .vocab = a->vocab};

	if (a->rows == 0)
		return;
	args.ids = fr_cu_part(d, FR_PART_PICK, bytes);
	if (!args.ids)
		return;
	args.vector = (uintptr_t)a->logits % 16 == 0 && a->vocab % 4 == 0;
	if (!s || s->temperature <= 0) {
		FR_CU_RUN(d, fr_pick_greedy, (unsigned)a->rows, 1, 1, FR_PICK_GREEDY_THREADS, FR_PICK_GREEDY_SMEM,
			  args);
	} else {
		args.temperature = s->temperature;
		args.top_k = s->top_k;
		args.top_p = s->top_p;
		args.draw = fr_cu_draws(d, a->draw, a->rows);
		FR_CU_RUN(d, fr_pick_sample, (unsigned)a->rows, 1, 1, FR_PICK_THREADS, FR_PICK_SMEM, args);
	}
	fr_cu_get(dev, a->ids, args.ids, bytes);
}
