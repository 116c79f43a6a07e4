/* cp.async: the bytes are read at once but reach shared memory only at the wait of their group; until then the
 * destination may not be touched. */
#include <stdlib.h>
#include <string.h>

#include "host.h"

static struct queue {
	struct item {
		void *to;
		unsigned group;
		unsigned char bytes[16];
	} * item; /* oldest first */
	unsigned n, room;
	unsigned group; /* the one that is being filled */
} queues[FR_SHIM_THREADS];
static unsigned used; /* threads that may have a queue of the last block */

void fr_shim_async_block(void)
{
	for (unsigned t = 0; t < used; t++) {
		struct queue *q = &queues[t];
		for (unsigned i = 0; i < q->n; i++)
			fr_shim_forget_pending(q->item[i].to);
		q->n = q->group = 0;
	}
	used = fr_shim_now.threads;
}

void fr_shim_cp_async(void *smem, const void *global, int valid)
{
	struct queue *q = &queues[fr_shim_now.thread];
	if ((uintptr_t)smem - (uintptr_t)fr_shim_smem >= sizeof fr_shim_smem)
		fr_shim_finding(1, "fr_cp_async to an address outside of shared memory");
	if (valid != 0 && valid != 16)
		fr_shim_finding(1, "fr_cp_async with valid = %d, expected 0 or 16", valid);
	if ((uintptr_t)global % 16)
		fr_shim_finding(1, "misaligned: fr_cp_async from an address %% 16 = %d", (int)((uintptr_t)global % 16));
	if (q->n == q->room) {
		q->room = q->room ? q->room * 2 : 16;
		q->item = realloc(q->item, q->room * sizeof *q->item);
		if (!q->item)
			abort();
	}
	struct item *it = &q->item[q->n];
	memset(it->bytes, 0, 16);
	if (valid) {
		if ((uintptr_t)global - (uintptr_t)fr_shim_smem < sizeof fr_shim_smem)
			fr_shim_finding(1, "fr_cp_async from shared memory");
		fr_shim_touch(global, 16, 0, 16);
		memcpy(it->bytes, global, 16);
	}
	fr_shim_touch(smem, 16, 1, 16);
	it->to = smem;
	it->group = q->group;
	q->n++;
	fr_shim_touch_pending(smem, 1);
}

void fr_shim_cp_commit(void)
{
	queues[fr_shim_now.thread].group++;
}

void fr_shim_cp_wait(int pending)
{
	struct queue *q = &queues[fr_shim_now.thread];
	unsigned done = 0;
	while (done < q->n && q->item[done].group + (unsigned)pending < q->group) {
		fr_shim_touch_pending(q->item[done].to, 0);
		memcpy(q->item[done].to, q->item[done].bytes, 16);
		done++;
	}
	q->n -= done;
	memmove(q->item, q->item + done, q->n * sizeof *q->item);
}
