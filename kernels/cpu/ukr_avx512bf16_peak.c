/* The roofline loops of the avx512bf16 level: pairs of bf16 and fours of int8 on registers alone. */
#include "peak.h"

#include <immintrin.h>

/* Ten independent chains, named one by one, as in ukr_avx2_peak.c; each is 0.5 * 0.5 + 0.5 * 0.5 more every round. */
double fr_peak_bf16_avx512bf16(long n)
{
	const __m512bh h = (__m512bh)_mm512_set1_epi16(0x3f00);
	__m512 a = _mm512_setzero_ps(), b = a, c = a, d = a, e = a, f = a, g = a, i = a, j = a, k = a;

	for (long r = 0; r < n; r++) {
		a = _mm512_dpbf16_ps(a, h, h);
		b = _mm512_dpbf16_ps(b, h, h);
		c = _mm512_dpbf16_ps(c, h, h);
		d = _mm512_dpbf16_ps(d, h, h);
		e = _mm512_dpbf16_ps(e, h, h);
		f = _mm512_dpbf16_ps(f, h, h);
		g = _mm512_dpbf16_ps(g, h, h);
		i = _mm512_dpbf16_ps(i, h, h);
		j = _mm512_dpbf16_ps(j, h, h);
		k = _mm512_dpbf16_ps(k, h, h);
		/* Ten equal chains could be computed as one: the compiler must believe that they differ. */
		__asm__ volatile("" : "+v"(a), "+v"(b), "+v"(c), "+v"(d), "+v"(e));
		__asm__ volatile("" : "+v"(f), "+v"(g), "+v"(i), "+v"(j), "+v"(k));
	}
	a = _mm512_add_ps(_mm512_add_ps(_mm512_add_ps(a, b), _mm512_add_ps(c, d)), _mm512_add_ps(e, f));
	a = _mm512_add_ps(a, _mm512_add_ps(_mm512_add_ps(g, i), _mm512_add_ps(j, k)));
	return _mm512_cvtss_f32(a) > 0 ? (double)n * 10 * 32 * 2 : 0;
}

/* The same with vpdpbusd: each chain is four products of bytes more every round. */
double fr_peak_int8_avx512bf16(long n)
{
	const __m512i h = _mm512_set1_epi8(1);
	__m512i a = _mm512_setzero_si512(), b = a, c = a, d = a, e = a, f = a, g = a, i = a, j = a, k = a;

	for (long r = 0; r < n; r++) {
		a = _mm512_dpbusd_epi32(a, h, h);
		b = _mm512_dpbusd_epi32(b, h, h);
		c = _mm512_dpbusd_epi32(c, h, h);
		d = _mm512_dpbusd_epi32(d, h, h);
		e = _mm512_dpbusd_epi32(e, h, h);
		f = _mm512_dpbusd_epi32(f, h, h);
		g = _mm512_dpbusd_epi32(g, h, h);
		i = _mm512_dpbusd_epi32(i, h, h);
		j = _mm512_dpbusd_epi32(j, h, h);
		k = _mm512_dpbusd_epi32(k, h, h);
		/* Ten equal chains could be computed as one: the compiler must believe that they differ. */
		__asm__ volatile("" : "+v"(a), "+v"(b), "+v"(c), "+v"(d), "+v"(e));
		__asm__ volatile("" : "+v"(f), "+v"(g), "+v"(i), "+v"(j), "+v"(k));
	}
	a = _mm512_or_si512(_mm512_or_si512(_mm512_or_si512(a, b), _mm512_or_si512(c, d)), e);
	a = _mm512_or_si512(a, _mm512_or_si512(_mm512_or_si512(f, g), _mm512_or_si512(_mm512_or_si512(i, j), k)));
	return _mm512_reduce_or_epi32(a) ? (double)n * 10 * 64 * 2 : 0;
}
