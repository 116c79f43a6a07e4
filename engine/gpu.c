/* fr_gpu: what there is beside the CPU, or why there is nothing. */
#include "session.h"

/* "NVIDIA H200, sm_90, 138.9 GiB of 139.8 GiB free" of an open device. */
static void describe(struct fr_dev *dev, char *buf, size_t size)
{
	size_t room = 0, total = 0;
	char free_text[32], total_text[32], memory[80] = "";

	if (dev->ops->room)
		dev->ops->room(dev, &room, &total);
	if (total)
		snprintf(memory, sizeof memory, ", %s of %s free", fr_size_text(room, free_text, sizeof free_text),
			 fr_size_text(total, total_text, sizeof total_text));
	snprintf(buf, size, "%s, %s%s", dev->device ? dev->device : dev->ops->name, dev->isa, memory);
}

int fr_gpu(char *buf, size_t size)
{
	struct fr_error err;
	struct fr_dev *dev;

	if (fr_dev_open(&(struct fr_dev_opts){.backend = "cuda"}, &dev, &err) != 0) {
		snprintf(buf, size, "%s", err.text);
		return -1;
	}
	describe(dev, buf, size);
	dev->ops->close(dev);
	return 0;
}
