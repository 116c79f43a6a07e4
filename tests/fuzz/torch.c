/* Fuzz target: the bytes are a torch.save file; what the parser accepts is walked and scanned. Bytes that are no zip
 * archive are taken for a data.pkl, so that the pickle machine is reached without a directory that fits. */
#include "../../weights/pickle.h"
#include "../../weights/torch.h"
#include "../../weights/zip.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void pickle(const uint8_t *bytes, size_t size)
{
	struct fr_error err;
	struct fr_pickle p;

	if (fr_pickle_read(bytes, size, "fuzz.bin", &p, &err) != 0)
		return;
	for (size_t i = 0; i < p.n_items; i++) { /* each index lies in its array */
		const struct fr_pkl_value *v = &p.items[i], *in = fr_pkl_items(&p, v);

		if ((in && (size_t)v->i + v->len > p.n_items) || (v->kind == FR_PKL_DICT && (size_t)v->i >= p.n_dicts))
			abort();
	}
	for (size_t i = 0; i < p.n_dicts; i++)
		if (p.dicts[i].first > p.n_pairs || p.dicts[i].last > p.n_pairs)
			abort();
	fr_pickle_free(&p);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	struct fr_error err;
	struct fr_tensors t;
	size_t index;

	if (!fr_zip_is(bytes, size))
		pickle(bytes, size);
	if (fr_torch_parse(bytes, size, "fuzz.bin", &t, &err) != 0)
		return 0;
	if (t.copied_bytes > size)
		abort();
	for (size_t i = 0; i < t.n; i++) {
		/* The views must lie in the input, or be one of the copies. */
		size_t copy = 0;

		while (copy < t.n_copies && t.copies[copy] != t.at[i].data)
			copy++;
		if (copy == t.n_copies && ((const uint8_t *)t.at[i].data < bytes ||
					   t.at[i].bytes > (size_t)(bytes + size - (const uint8_t *)t.at[i].data)))
			abort();
		if (fr_tensor_nonfinite(&t.at[i], &index) && index >= fr_tensor_items(&t.at[i]))
			abort();
	}
	fr_tensors_free(&t);
	return 0;
}
