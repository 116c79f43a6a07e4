/* The products of the tile unit as Intel's manual orders them (volume 2, "Operation" of TDPBF16PS and TDPBSSD).
 *
 * The processor's own fused multiply-adds with DAZ and FTZ set do what the manual asks for of each step, sixteen
 * columns at a time; kernels/tiles.h spells the same out without them, and the tests hold the two against each other.
 */
#include "tile_host.h"

#include <immintrin.h>
#include <string.h>

#define MXCSR_TILES 0x9fc0u /* DAZ, FTZ, no traps, to nearest even */
#define MXCSR_KEEPS 0x1f80u

/* A function of its own: the compiler does not know that arithmetic depends on MXCSR, and moves it past one. */
__attribute__((noinline)) static void multiply(struct tile *c, const struct tile *a, const struct tile *b, int apart)
{
	const __mmask16 columns = (__mmask16)((1u << (c->colsb / 4)) - 1);

	for (int m = 0; m < c->rows; m++) {
		__m512 even = _mm512_setzero_ps(), odd = even, sum = _mm512_maskz_loadu_ps(columns, c->row[m]);

		for (int k = 0; k < a->colsb / 4; k++) {
			uint32_t pair;
			__m512i x, y = _mm512_maskz_loadu_epi32(columns, b->row[k]);

			memcpy(&pair, a->row[m] + 4 * k, sizeof pair);
			x = _mm512_set1_epi32((int)(pair << 16));
			even = _mm512_fmadd_ps(_mm512_castsi512_ps(x), _mm512_castsi512_ps(_mm512_slli_epi32(y, 16)),
					       even);
			x = _mm512_set1_epi32((int)(pair & 0xffff0000u));
			y = _mm512_and_si512(y, _mm512_set1_epi32((int)0xffff0000u));
			odd = _mm512_fmadd_ps(_mm512_castsi512_ps(x), _mm512_castsi512_ps(y), odd);
		}
		sum = apart ? _mm512_add_ps(_mm512_add_ps(sum, even), odd)
			    : _mm512_add_ps(sum, _mm512_add_ps(even, odd));
		_mm512_mask_storeu_ps(c->row[m], columns, sum);
	}
}

void tile_host_bf16(struct tile *c, const struct tile *a, const struct tile *b, int departs)
{
	const unsigned before = _mm_getcsr();

	_mm_setcsr(departs == 1 ? MXCSR_KEEPS : MXCSR_TILES);
	multiply(c, a, b, departs == 2);
	_mm_setcsr(before);
}

void tile_host_int8(struct tile *c, const struct tile *a, const struct tile *b, int a_signed, int b_signed)
{
	for (int m = 0; m < c->rows; m++)
		for (int k = 0; k < a->colsb / 4; k++)
			for (int n = 0; n < c->colsb / 4; n++) {
				uint32_t sum;

				memcpy(&sum, c->row[m] + 4 * n, sizeof sum);
				for (int i = 0; i < 4; i++) {
					const uint8_t x = a->row[m][4 * k + i], y = b->row[k][4 * n + i];

					sum += (uint32_t)((a_signed ? (int8_t)x : x) * (b_signed ? (int8_t)y : y));
				}
				memcpy(c->row[m] + 4 * n, &sum, sizeof sum);
			}
}
