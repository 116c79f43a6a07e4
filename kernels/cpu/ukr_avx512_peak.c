/* The roofline loops of the avx512 level: multiply-adds on registers alone, and loads alone. */
#include "peak.h"

#include <immintrin.h>

/* Ten independent chains, named one by one, as in ukr_avx2_peak.c. */
double fr_peak_fma_avx512(long n)
{
	const __m512 h = _mm512_set1_ps(0.5f);
	__m512 a = h, b = h, c = h, d = h, e = h, f = h, g = h, i = h, j = h, k = h;

	for (long r = 0; r < n; r++) {
		a = _mm512_fmadd_ps(a, h, h);
		b = _mm512_fmadd_ps(b, h, h);
		c = _mm512_fmadd_ps(c, h, h);
		d = _mm512_fmadd_ps(d, h, h);
		e = _mm512_fmadd_ps(e, h, h);
		f = _mm512_fmadd_ps(f, h, h);
		g = _mm512_fmadd_ps(g, h, h);
		i = _mm512_fmadd_ps(i, h, h);
		j = _mm512_fmadd_ps(j, h, h);
		k = _mm512_fmadd_ps(k, h, h);
		/* Ten equal chains could be computed as one: the compiler must believe that they differ. */
		__asm__ volatile("" : "+v"(a), "+v"(b), "+v"(c), "+v"(d), "+v"(e));
		__asm__ volatile("" : "+v"(f), "+v"(g), "+v"(i), "+v"(j), "+v"(k));
	}
	a = _mm512_add_ps(_mm512_add_ps(_mm512_add_ps(a, b), _mm512_add_ps(c, d)), _mm512_add_ps(e, f));
	a = _mm512_add_ps(a, _mm512_add_ps(_mm512_add_ps(g, i), _mm512_add_ps(j, k)));
	return _mm512_cvtss_f32(a) > 0 ? (double)n * 10 * 16 * 2 : 0;
}

/* Three instructions, as in ukr_avx2_peak.c. */
static inline __m512i fours(__m512i *x)
{
	__asm__ volatile("" : "+v"(*x));
	return _mm512_madd_epi16(_mm512_maddubs_epi16(*x, *x), _mm512_set1_epi16(1));
}

double fr_peak_int8_avx512(long n)
{
	__m512i x = _mm512_set1_epi8(1), a = _mm512_setzero_si512(), b = a, c = a, d = a, e = a, f = a, g = a, i = a;

	for (long r = 0; r < n; r++) {
		a = _mm512_add_epi32(a, fours(&x));
		b = _mm512_add_epi32(b, fours(&x));
		c = _mm512_add_epi32(c, fours(&x));
		d = _mm512_add_epi32(d, fours(&x));
		e = _mm512_add_epi32(e, fours(&x));
		f = _mm512_add_epi32(f, fours(&x));
		g = _mm512_add_epi32(g, fours(&x));
		i = _mm512_add_epi32(i, fours(&x));
		/* Sums that are not looked at until the end would be kept twice. */
		__asm__ volatile("" : "+v"(a), "+v"(b), "+v"(c), "+v"(d), "+v"(e));
		__asm__ volatile("" : "+v"(f), "+v"(g), "+v"(i));
	}
	a = _mm512_or_si512(_mm512_or_si512(_mm512_or_si512(a, b), _mm512_or_si512(c, d)),
			    _mm512_or_si512(_mm512_or_si512(e, f), _mm512_or_si512(g, i)));
	return _mm512_reduce_or_epi32(a) ? (double)n * 8 * 64 * 2 : 0;
}

/* Four streams at once: one alone does not keep enough lines on their way from memory. */
uint64_t fr_peak_read_avx512(const void *p, size_t n)
{
	const __m512i *v = p;
	const size_t part = n / 4 / sizeof *v;
	__m512i a = _mm512_setzero_si512(), b = a, c = a, d = a;

	for (size_t i = 0; i < part; i++) {
		a = _mm512_xor_si512(a, _mm512_load_si512(v + i));
		b = _mm512_xor_si512(b, _mm512_load_si512(v + part + i));
		c = _mm512_xor_si512(c, _mm512_load_si512(v + 2 * part + i));
		d = _mm512_xor_si512(d, _mm512_load_si512(v + 3 * part + i));
	}
	a = _mm512_xor_si512(_mm512_xor_si512(a, b), _mm512_xor_si512(c, d));
	return (uint64_t)_mm512_reduce_or_epi64(a);
}
