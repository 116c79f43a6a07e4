/* What this machine can do at most: the denominators of `fr-run bench`. */
#ifndef FR_KERNELS_CPU_PEAK_H
#define FR_KERNELS_CPU_PEAK_H

#include "../ops.h"

/* One burst on all threads of a cpu device (a few milliseconds): multiply-adds on registers alone, counted as two
 * operations each; returns operations per second. */
double fr_cpu_peak_fma(struct fr_dev *dev);
/* The same of pairs of bf16 (ops.h); 0 where the device does not multiply in pairs. */
double fr_cpu_peak_pairs(struct fr_dev *dev);
/* Reads [bytes] once with all threads of a cpu device; returns bytes per second. bytes is a multiple of 4096, p aligned
 * to 64. */
double fr_cpu_peak_read(struct fr_dev *dev, const void *p, size_t bytes);

/* The loops of a level. fma: n rounds, returns the operations done. read: reads all n bytes (a multiple of 256) and
 * returns something that depends on them. */
double fr_peak_fma_ref(long n);
uint64_t fr_peak_read_ref(const void *p, size_t n);
double fr_peak_fma_avx2(long n);
uint64_t fr_peak_read_avx2(const void *p, size_t n);
double fr_peak_fma_avx512(long n);
uint64_t fr_peak_read_avx512(const void *p, size_t n);
double fr_peak_pairs_avx512bf16(long n);

#endif
