/* Fuzz target: the bytes are a safetensors file; what the parser accepts is walked, scanned and looked up. */
#include "../../weights/weights.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	struct fr_error err;
	struct fr_tensors t;
	const uint8_t *at = bytes;
	size_t index;

	if (fr_safetensors_parse(bytes, size, "fuzz.safetensors", &t, &err) != 0)
		return 0;
	for (size_t i = 0; i < t.n; i++) {
		/* The views must lie in the input, one after the other. */
		if ((const uint8_t *)t.at[i].data < at ||
		    t.at[i].bytes > (size_t)(bytes + size - (const uint8_t *)t.at[i].data))
			abort();
		at = (const uint8_t *)t.at[i].data + t.at[i].bytes;
		if (fr_tensor_nonfinite(&t.at[i], &index) && index >= fr_tensor_items(&t.at[i]))
			abort();
	}
	fr_tensors_free(&t);
	return 0;
}
