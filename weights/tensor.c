/* Small questions to one tensor: how many items, its shape as text, its first value that is not finite. */
#include "weights.h"

size_t fr_tensor_items(const struct fr_tensor *t)
{
	size_t n = 1;

	for (int i = 0; i < t->ndim; i++)
		n *= (size_t)t->shape[i];
	return n;
}

char *fr_shape_text(const int64_t *shape, int ndim, char *buf, size_t size)
{
	size_t n = (size_t)snprintf(buf, size, "[");

	for (int i = 0; i < ndim && n < size; i++)
		n += (size_t)snprintf(buf + n, size - n, "%s%lld", i ? ", " : "", (long long)shape[i]);
	if (n < size)
		snprintf(buf + n, size - n, "]");
	return buf;
}

/* Finite means that not all exponent bits are set. The blocks have a fixed length so that the compiler sees one vector
 * loop; a 7B checkpoint is read at the speed of the memory. */
#define BLOCK 4096
static int block16(const uint8_t *p, uint16_t exponent)
{
	unsigned bad = 0;

	for (int i = 0; i < BLOCK; i++) {
		uint16_t h;

		memcpy(&h, p + 2 * i, 2);
		bad |= (uint16_t)(h & exponent) == exponent;
	}
	return bad != 0;
}

static int block32(const uint8_t *p, uint32_t exponent)
{
	unsigned bad = 0;

	for (int i = 0; i < BLOCK; i++) {
		uint32_t w;

		memcpy(&w, p + 4 * i, 4);
		bad |= (w & exponent) == exponent;
	}
	return bad != 0;
}

static int item_is_finite(const uint8_t *p, enum fr_dtype dtype)
{
	uint16_t h;
	uint32_t w;
	uint64_t d;

	if (dtype == FR_F64) {
		memcpy(&d, p, 8);
		return (~d & 0x7ff0000000000000u) != 0;
	}
	if (dtype == FR_F32) {
		memcpy(&w, p, 4);
		return (~w & 0x7f800000u) != 0;
	}
	memcpy(&h, p, 2);
	return (~h & (dtype == FR_F16 ? 0x7c00 : 0x7f80)) != 0;
}

int fr_tensor_nonfinite(const struct fr_tensor *t, size_t *index)
{
	size_t n = fr_tensor_items(t), step = (size_t)fr_dtypes[t->dtype].bytes;
	const uint8_t *p = t->data;

	for (size_t i = 0; t->dtype == FR_Q8_0 && i < n; i += FR_Q8_ITEMS, p += FR_Q8_BYTES)
		if (!item_is_finite(p, FR_F16)) { /* the scale */
			*index = i;
			return 1;
		}
	if (t->dtype != FR_F32 && t->dtype != FR_F16 && t->dtype != FR_BF16 && t->dtype != FR_F64)
		return 0;
	for (size_t i = 0; i < n;) {
		size_t stop = n - i < BLOCK ? n : i + BLOCK;
		int clean = 0;

		if (stop - i == BLOCK && step == 2)
			clean = !block16(p + 2 * i, t->dtype == FR_F16 ? 0x7c00 : 0x7f80);
		else if (stop - i == BLOCK && step == 4)
			clean = !block32(p + 4 * i, 0x7f800000u);
		for (; !clean && i < stop; i++)
			if (!item_is_finite(p + step * i, t->dtype)) {
				*index = i;
				return 1;
			}
		i = stop;
	}
	return 0;
}
