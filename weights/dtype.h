/* Number formats of weights and the exact conversions between them. */
#ifndef FR_WEIGHTS_DTYPE_H
#define FR_WEIGHTS_DTYPE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* What the kernels of a GPU use too. */
#ifdef __CUDACC__
#define FR_INLINE static __host__ __device__ __forceinline__
#else
#define FR_INLINE static inline
#endif

enum fr_dtype { FR_F32, FR_F16, FR_BF16, FR_F64, FR_I32, FR_I64, FR_U8, FR_I8, FR_I16, FR_BOOL, FR_Q8_0, FR_DTYPES };

struct fr_dtype_info {
	const char *name;    /* "f32": fr-run's word */
	const char *st_name; /* "F32": the word in a safetensors header; NULL: none */
	int items;           /* items per block: 1 for plain types */
	int bytes;           /* bytes per block */
	int align;           /* what a block's address is a multiple of */
	int real;            /* usable as a weight: f32, f16, bf16, and the quantised types for matrices */
};
extern const struct fr_dtype_info fr_dtypes[FR_DTYPES];

/* FR_Q8_0: a block is a scale d (f16), then 32 int8 q; item i is d * q[i], which float32 holds exactly. Rows are whole
 * blocks. */
#define FR_Q8_ITEMS 32
#define FR_Q8_BYTES 34

/* Bytes of n items, which are whole blocks. */
static inline size_t fr_dtype_bytes(enum fr_dtype dtype, size_t n)
{
	return n / (size_t)fr_dtypes[dtype].items * (size_t)fr_dtypes[dtype].bytes;
}

FR_INLINE float fr_bits_f32(uint32_t u)
{
	float f;
	memcpy(&f, &u, 4);
	return f;
}
FR_INLINE uint32_t fr_f32_bits(float f)
{
	uint32_t u;
	memcpy(&u, &f, 4);
	return u;
}
FR_INLINE float fr_bf16_f32(uint16_t h)
{
	return fr_bits_f32((uint32_t)h << 16);
}
/* Round to nearest even; NaN stays a quiet NaN. */
FR_INLINE uint16_t fr_f32_bf16(float f)
{
	uint32_t u = fr_f32_bits(f);
	if ((u & 0x7fffffffu) > 0x7f800000u)
		return (uint16_t)(u >> 16 | 0x40);
	return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}
/* Exact, subnormals included; the same bits as vcvtph2ps. */
float fr_f16_f32(uint16_t h);
/* Round to nearest even, overflow to infinity; the same bits as vcvtps2ph with RNE. */
uint16_t fr_f32_f16(float f);
/* n items of `dtype` (f32, f16, bf16, q8_0 from the start of a block on; src may be unaligned) -> float32. */
void fr_to_f32(enum fr_dtype dtype, const void *src, float *dst, size_t n);

#endif
