/* Fuzz target: the input is a model's text. Its parts must lie inside of it, one after the other without overlap. */
#include "../../engine/answer.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	struct fr_attribute a[FR_ATTRIBUTES];
	const char *text = (const char *)bytes;
	const enum fr_verdict v = fr_answer_verdict(text, size);

	if (v != FR_REAL && v != FR_FAKE && v != FR_UNPARSED)
		abort();
	fr_answer_attributes(text, size, a);
	for (int i = 0; i < FR_ATTRIBUTES; i++) {
		if (a[i].name != fr_attribute_name(i) || a[i].at > size || a[i].len > size - a[i].at)
			abort();
		for (int k = 0; k < i && a[i].len; k++)
			if (a[k].len && a[i].at < a[k].at + a[k].len && a[k].at < a[i].at + a[i].len)
				abort();
	}
	return 0;
}
