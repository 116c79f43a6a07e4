/* The table of number formats, and half precision in plain C.
 *
 * The conversions give the bits of the F16C instructions for every input, NaN payloads included, so a build without
 * them agrees with one that has them. */
#include "dtype.h"

const struct fr_dtype_info fr_dtypes[FR_DTYPES] = {
	[FR_F32] = {"f32", "F32", 1, 4, 4, 1},
	[FR_F16] = {"f16", "F16", 1, 2, 2, 1},
	[FR_BF16] = {"bf16", "BF16", 1, 2, 2, 1},
	[FR_F64] = {"f64", "F64", 1, 8, 8, 0},
	[FR_I32] = {"i32", "I32", 1, 4, 4, 0},
	[FR_I64] = {"i64", "I64", 1, 8, 8, 0},
	[FR_U8] = {"u8", "U8", 1, 1, 1, 0},
	[FR_I8] = {"i8", "I8", 1, 1, 1, 0},
	[FR_I16] = {"i16", "I16", 1, 2, 2, 0},
	[FR_BOOL] = {"bool", "BOOL", 1, 1, 1, 0},
	[FR_Q8_0] = {"q8_0", NULL, FR_Q8_ITEMS, FR_Q8_BYTES, 2, 1},
};

float fr_f16_f32(uint16_t h)
{
	uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, fraction = h & 0x3ff;

	if (exponent == 31)
		return fr_bits_f32(sign | 0x7f800000u | fraction << 13 | (fraction ? 0x400000u : 0));
	if (exponent == 0) /* zero and subnormals: fraction * 2^-24 is exact */
		return fr_bits_f32(sign | fr_f32_bits((float)fraction * 0x1p-24f));
	return fr_bits_f32(sign | (exponent + 112) << 23 | fraction << 13);
}

uint16_t fr_f32_f16(float f)
{
	uint32_t u = fr_f32_bits(f), sign = u >> 16 & 0x8000, a = u & 0x7fffffffu;

	if (a > 0x7f800000u)
		return (uint16_t)(sign | 0x7e00 | (a >> 13 & 0x3ff));
	if (a >= 0x477ff000u) /* 65520 and above round to infinity */
		return (uint16_t)(sign | 0x7c00);
	if (a < 0x33000000u) /* below 2^-25 */
		return (uint16_t)sign;
	if (a < 0x38800000u) { /* the result is subnormal: units of 2^-24 */
		uint32_t shift = 126 - (a >> 23), m = (a & 0x7fffff) | 0x800000;
		uint32_t q = m >> shift, rest = m & ((1u << shift) - 1), half = 1u << (shift - 1);

		return (uint16_t)(sign | (q + (rest > half || (rest == half && (q & 1)))));
	}
	return (uint16_t)(sign | ((a - 0x38000000u + 0xfff + (a >> 13 & 1)) >> 13));
}

/* n items of blocks; the last may be used in part. */
static void widen_q8(const unsigned char *p, float *dst, size_t n)
{
	float d = 0;

	for (size_t i = 0; i < n; i++) {
		const unsigned char *block = p + i / FR_Q8_ITEMS * FR_Q8_BYTES;
		uint16_t h;

		if (i % FR_Q8_ITEMS == 0) {
			memcpy(&h, block, 2);
			d = fr_f16_f32(h);
		}
		dst[i] = d * (float)(int8_t)block[2 + i % FR_Q8_ITEMS];
	}
}

void fr_to_f32(enum fr_dtype dtype, const void *src, float *dst, size_t n)
{
	const unsigned char *p = src;
	uint16_t h;

	if (dtype == FR_F32) {
		memcpy(dst, src, n * 4);
		return;
	}
	if (dtype == FR_Q8_0) {
		widen_q8(p, dst, n);
		return;
	}
	for (size_t i = 0; i < n; i++) {
		memcpy(&h, p + 2 * i, 2);
		dst[i] = dtype == FR_F16 ? fr_f16_f32(h) : fr_bf16_f32(h);
	}
}
