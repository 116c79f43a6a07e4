/* What this machine can do at most: the denominators of `fr-run bench`. */
#ifndef FR_KERNELS_CPU_PEAK_H
#define FR_KERNELS_CPU_PEAK_H

#include "../ops.h"

/* Ways to multiply and add, by what a level has for them. */
enum fr_peak {
	FR_PEAK_FMA,	    /* float32 */
	FR_PEAK_BF16,	    /* pairs of bf16 into float32: vdpbf16ps */
	FR_PEAK_INT8,	    /* int8 into int32: vpdpbusd, or vpmaddubsw and vpmaddwd where that is not there */
	FR_PEAK_BF16_TILES, /* AMX: tdpbf16ps */
	FR_PEAK_INT8_TILES, /* AMX: tdpbssd */
	FR_PEAKS
};
extern const char *const fr_peak_names[FR_PEAKS]; /* "float32", "bf16", "int8", "bf16 tiles", "int8 tiles" */

/* One burst on all threads of a cpu device (a few milliseconds): multiply-adds on registers alone, counted as two
 * operations each; returns operations per second, 0 where the device's level has no such way. */
double fr_cpu_peak(struct fr_dev *dev, enum fr_peak kind);
/* The highest of its level that a product with weights of that type can be measured by. */
enum fr_peak fr_cpu_peak_of(const struct fr_dev *dev, enum fr_dtype weights, enum fr_phase phase);
/* Reads [bytes] once with all threads of a cpu device; returns bytes per second. bytes is a multiple of 4096, p aligned
 * to 64. */
double fr_cpu_peak_read(struct fr_dev *dev, const void *p, size_t bytes);

/* The loops of a level. read: reads all n bytes (a multiple of 256) and returns something that depends on them. The
 * others: n rounds, return the operations done. */
double fr_peak_fma_ref(long n);
uint64_t fr_peak_read_ref(const void *p, size_t n);
double fr_peak_fma_avx2(long n);
double fr_peak_int8_avx2(long n);
uint64_t fr_peak_read_avx2(const void *p, size_t n);
double fr_peak_fma_avx512(long n);
double fr_peak_int8_avx512(long n);
uint64_t fr_peak_read_avx512(const void *p, size_t n);
double fr_peak_bf16_avx512bf16(long n);
double fr_peak_int8_avx512bf16(long n);
/* These set the thread's tiles up and give them back; the process must have the kernel's leave to use them. */
double fr_peak_bf16_amx(long n);
double fr_peak_int8_amx(long n);

#endif
