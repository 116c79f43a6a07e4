/* Measuring this machine: `fr-run bench`. */
#ifndef FR_BENCH_BENCH_H
#define FR_BENCH_BENCH_H

#include <stdio.h>

#include "../kernels/ops.h"

struct fr_bench_opts {
	const char *backend;	    /* "auto", "cpu", "cuda"; NULL: auto, which is cpu for peak and kernels */
	const char *isa;	    /* NULL: the best */
	int threads;		    /* 0: all */
	int precise, no_cublas;	    /* as in struct fr_dev_opts */
	const char *filter;	    /* fnmatch over the names of the rows; NULL: all */
	int json;		    /* one object per line instead of the table */
	double seconds;		    /* per row; 0: 1 */
	int sweep;		    /* of kernels: every row with 1 to `threads` threads, one after the other */
	const char *svg;	    /* a roofline plot of the rows goes to that file; NULL: none. Not of peak */
	struct fr_model_opts model; /* of model: path NULL says that none was named */
	const char *image;	    /* of model: a picture; NULL: noise */
	int tokens;		    /* of model: length of a whole run's text; 0: 128 */
	int batch;	      /* of model: the most sequences together; 0: 16, or as many as there is memory for */
	const char *program;  /* of model: fr-run itself, for runs from process start to end; NULL: none */
	int (*stopped)(void); /* polled between runs: non-zero ends after the row at work; NULL: never */
};
/* The most this machine does: multiply-adds per level and memory read, by one thread to all. */
int fr_bench_peak(const struct fr_bench_opts *opts, FILE *out, struct fr_error *err);
/* Every kernel at the models' real shapes: time, GB/s, GFLOP/s and the share of the peak measured between its runs. */
int fr_bench_kernels(const struct fr_bench_opts *opts, FILE *out, struct fr_error *err);
/* A model's stages, from the picture to whole runs. docs/SPEED.md names the rows and their keys. */
int fr_bench_model(const struct fr_bench_opts *opts, FILE *out, struct fr_error *err);

/* peak and kernels with backend cuda. */
int fr_bench_gpu_peak(const struct fr_bench_opts *opts, FILE *out, struct fr_error *err);
int fr_bench_gpu_kernels(const struct fr_bench_opts *opts, FILE *out, struct fr_error *err);
struct fr_check;
double fr_bench_operations(const struct fr_check *ck); /* of sums of products; a fused multiply-add counts as two */
double fr_bench_bytes(const struct fr_check *ck);      /* that must move, each once */

/* Memory as weights come: pages of a file, mapped, all of them in memory. NULL if there is not enough. */
void *fr_bench_map(size_t bytes);
void fr_bench_unmap(void *p, size_t bytes);
double fr_bench_now(void); /* seconds */
/* s as a JSON string, NULL as null. */
void fr_bench_quote(FILE *out, const char *s);
/* The number of threads to be measured after n: each up to 8, then powers of two (and all of them, if that is none). */
int fr_bench_threads_after(int n);
int fr_bench_stopped(const struct fr_bench_opts *opts);
/* Samples of one measurement, sorted by fr_samples_median and fr_samples_quartile. */
#define FR_BENCH_SAMPLES 4096
struct fr_samples {
	int n;
	double at[FR_BENCH_SAMPLES];
};
void fr_sample(struct fr_samples *s, double value);
double fr_samples_median(struct fr_samples *s);
/* quarter 1 or 3: the sample below which that many quarters of them lie. */
double fr_samples_quartile(struct fr_samples *s, int quarter);
double fr_samples_min(const struct fr_samples *s);
double fr_samples_max(const struct fr_samples *s);

#endif
