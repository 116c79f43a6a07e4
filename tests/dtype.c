/* Number formats: half precision and bfloat16 to float32 and back, for every value there is. */
#include "../weights/dtype.h"
#include "test.h"

/* The compiler's own _Float16 is the oracle; NaNs are compared as NaNs. */
static void test_f16(void)
{
	size_t wrong_wide = 0, wrong_narrow = 0;

	for (uint32_t h = 0; h < 0x10000; h++) {
		uint16_t bits = (uint16_t)h;
		_Float16 half;
		float f, around[3];

		memcpy(&half, &bits, 2);
		f = (float)half;
		if (isnan(f))
			wrong_wide += !isnan(fr_f16_f32(bits)) || !isnan(fr_bits_f32(fr_f32_bits(fr_f16_f32(bits))));
		else
			wrong_wide += fr_f32_bits(f) != fr_f32_bits(fr_f16_f32(bits));
		if (isnan(f))
			continue;
		/* The value, the middle between it and the next one up, and the neighbours of that middle. */
		around[0] = fr_bits_f32(fr_f32_bits(f) + 0x1000);
		around[1] = nextafterf(around[0], 0);
		around[2] = nextafterf(around[0], INFINITY);
		wrong_narrow += fr_f32_f16(f) != bits;
		for (int i = 0; i < 3; i++) {
			_Float16 want = (_Float16)around[i];
			uint16_t want_bits;

			memcpy(&want_bits, &want, 2);
			wrong_narrow += !isnan(around[i]) && fr_f32_f16(around[i]) != want_bits;
		}
	}
	CHECK("exact/f16 widens like _Float16, all 65536", wrong_wide == 0, "%zu differ", wrong_wide);
	CHECK("exact/f16 rounds like _Float16, at and around every value and middle", wrong_narrow == 0, "%zu differ",
	      wrong_narrow);
	wrong_narrow = 0;
	for (uint32_t i = 0; i < 1u << 22; i++) { /* a coarse walk over all of float32, subnormal results among them */
		float f = fr_bits_f32(i * 1021u);
		_Float16 want = (_Float16)f;
		uint16_t want_bits;

		memcpy(&want_bits, &want, 2);
		wrong_narrow += isnan(f) ? (fr_f32_f16(f) & 0x7fff) <= 0x7c00 : fr_f32_f16(f) != want_bits;
	}
	CHECK("exact/f16 rounds like _Float16 over all of float32", wrong_narrow == 0, "%zu differ", wrong_narrow);
}

static void test_bf16(void)
{
	size_t wrong = 0;

	for (uint32_t h = 0; h < 0x10000; h++) {
		float f = fr_bf16_f32((uint16_t)h), middle = fr_bits_f32(h << 16 | 0x8000);

		if (isnan(f)) {
			wrong += !isnan(fr_bf16_f32(fr_f32_bf16(f)));
			continue;
		}
		wrong += fr_f32_bf16(f) != h;
		wrong += !isinf(f) && fr_f32_bf16(middle) != h + (h & 1);
		wrong += !isinf(f) && fr_f32_bf16(fr_bits_f32(fr_f32_bits(middle) - 1)) != h;
		wrong += !isinf(f) && fr_f32_bf16(fr_bits_f32(fr_f32_bits(middle) + 1)) != h + 1;
	}
	CHECK("exact/bf16 rounds to nearest even, all 65536", wrong == 0, "%zu differ", wrong);
}

static void test_to_f32(void)
{
	const uint8_t raw[] = {0xff, 0x00, 0x3c, 0x00, 0xc0,
			       0x80, 0x3f, 0x00, 0xc0}; /* from the second byte on: unaligned */
	float f[2], b[2];

	fr_to_f32(FR_F16, raw + 1, f, 2);
	fr_to_f32(FR_BF16, raw + 5, b, 2);
	CHECK("exact/fr_to_f32 reads unaligned f16 and bf16", f[0] == 1 && f[1] == -2 && b[0] == 1 && b[1] == -2,
	      "got %g %g %g %g", f[0], f[1], b[0], b[1]);
}

int main(void)
{
	test_f16();
	test_bf16();
	test_to_f32();
	return test_done();
}
