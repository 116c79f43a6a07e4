/* The roofline loops of the avx2 level: multiply-adds on registers alone, and loads alone. */
#include "peak.h"

#include <immintrin.h>

/* Ten independent chains: two FMA units of latency 4 or 5 need eight to ten. Named one by one, because an array of them
 * would be stored in every round. The values stay near 1. */
double fr_peak_fma_avx2(long n)
{
	const __m256 h = _mm256_set1_ps(0.5f);
	__m256 a = h, b = h, c = h, d = h, e = h, f = h, g = h, i = h, j = h, k = h;

	for (long r = 0; r < n; r++) {
		a = _mm256_fmadd_ps(a, h, h);
		b = _mm256_fmadd_ps(b, h, h);
		c = _mm256_fmadd_ps(c, h, h);
		d = _mm256_fmadd_ps(d, h, h);
		e = _mm256_fmadd_ps(e, h, h);
		f = _mm256_fmadd_ps(f, h, h);
		g = _mm256_fmadd_ps(g, h, h);
		i = _mm256_fmadd_ps(i, h, h);
		j = _mm256_fmadd_ps(j, h, h);
		k = _mm256_fmadd_ps(k, h, h);
		/* Ten equal chains could be computed as one: the compiler must believe that they differ. */
		__asm__ volatile("" : "+x"(a), "+x"(b), "+x"(c), "+x"(d), "+x"(e));
		__asm__ volatile("" : "+x"(f), "+x"(g), "+x"(i), "+x"(j), "+x"(k));
	}
	a = _mm256_add_ps(_mm256_add_ps(_mm256_add_ps(a, b), _mm256_add_ps(c, d)), _mm256_add_ps(e, f));
	a = _mm256_add_ps(a, _mm256_add_ps(_mm256_add_ps(g, i), _mm256_add_ps(j, k)));
	return _mm256_cvtss_f32(a) > 0 ? (double)n * 10 * 8 * 2 : 0;
}

/* The three instructions that multiply unsigned by signed bytes and add them up by fours. The factors never change, and
 * the compiler must not know it. */
static inline __m256i fours(__m256i *x)
{
	__asm__ volatile("" : "+x"(*x));
	return _mm256_madd_epi16(_mm256_maddubs_epi16(*x, *x), _mm256_set1_epi16(1));
}

double fr_peak_int8_avx2(long n)
{
	__m256i x = _mm256_set1_epi8(1), a = _mm256_setzero_si256(), b = a, c = a, d = a, e = a, f = a, g = a, i = a;

	for (long r = 0; r < n; r++) {
		a = _mm256_add_epi32(a, fours(&x));
		b = _mm256_add_epi32(b, fours(&x));
		c = _mm256_add_epi32(c, fours(&x));
		d = _mm256_add_epi32(d, fours(&x));
		e = _mm256_add_epi32(e, fours(&x));
		f = _mm256_add_epi32(f, fours(&x));
		g = _mm256_add_epi32(g, fours(&x));
		i = _mm256_add_epi32(i, fours(&x));
		/* Sums that are not looked at until the end would be kept twice. */
		__asm__ volatile("" : "+x"(a), "+x"(b), "+x"(c), "+x"(d), "+x"(e));
		__asm__ volatile("" : "+x"(f), "+x"(g), "+x"(i));
	}
	a = _mm256_or_si256(_mm256_or_si256(_mm256_or_si256(a, b), _mm256_or_si256(c, d)),
			    _mm256_or_si256(_mm256_or_si256(e, f), _mm256_or_si256(g, i)));
	return _mm256_extract_epi32(a, 0) ? (double)n * 8 * 32 * 2 : 0;
}

/* Four streams at once: one alone does not keep enough lines on their way from memory. */
uint64_t fr_peak_read_avx2(const void *p, size_t n)
{
	const __m256i *v = p;
	const size_t part = n / 4 / sizeof *v;
	__m256i a = _mm256_setzero_si256(), b = a, c = a, d = a;

	for (size_t i = 0; i < part; i += 2) {
		a = _mm256_xor_si256(a, _mm256_xor_si256(_mm256_load_si256(v + i), _mm256_load_si256(v + i + 1)));
		b = _mm256_xor_si256(
			b, _mm256_xor_si256(_mm256_load_si256(v + part + i), _mm256_load_si256(v + part + i + 1)));
		c = _mm256_xor_si256(c, _mm256_xor_si256(_mm256_load_si256(v + 2 * part + i),
							 _mm256_load_si256(v + 2 * part + i + 1)));
		d = _mm256_xor_si256(d, _mm256_xor_si256(_mm256_load_si256(v + 3 * part + i),
							 _mm256_load_si256(v + 3 * part + i + 1)));
	}
	a = _mm256_xor_si256(_mm256_xor_si256(a, b), _mm256_xor_si256(c, d));
	return (uint64_t)_mm256_extract_epi64(a, 0) ^ (uint64_t)_mm256_extract_epi64(a, 1) ^
	       (uint64_t)_mm256_extract_epi64(a, 2) ^ (uint64_t)_mm256_extract_epi64(a, 3);
}
