/* What all measurements share: clock, samples, memory to read, JSON strings. */
#include "bench.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

double fr_bench_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

void fr_bench_quote(FILE *out, const char *s)
{
	if (!s) {
		fputs("null", out);
		return;
	}
	fputc('"', out);
	for (; *s; s++)
		if ((unsigned char)*s < 0x20)
			fprintf(out, "\\u%04x", (unsigned)*s);
		else
			fprintf(out, *s == '"' || *s == '\\' ? "\\%c" : "%c", *s);
	fputc('"', out);
}

int fr_bench_threads_after(int n)
{
	return n < 8 ? n + 1 : 2 * n;
}

int fr_bench_stopped(const struct fr_bench_opts *opts)
{
	return opts->stopped && opts->stopped();
}

void *fr_bench_map(size_t bytes)
{
	int fd = memfd_create("bench", MFD_CLOEXEC);
	void *p = MAP_FAILED;

	if (fd < 0)
		return NULL;
	if (ftruncate(fd, (off_t)bytes) == 0)
		p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (p == MAP_FAILED)
		return NULL;
	memset(p, 0x3c, bytes);
	return p;
}

void fr_bench_unmap(void *p, size_t bytes)
{
	if (p)
		munmap(p, bytes);
}

void fr_sample(struct fr_samples *s, double value)
{
	if (s->n < FR_BENCH_SAMPLES)
		s->at[s->n++] = value;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double fr_samples_median(struct fr_samples *s)
{
	if (!s->n)
		return 0;
	qsort(s->at, (size_t)s->n, sizeof *s->at, by_value);
	return (s->at[(s->n - 1) / 2] + s->at[s->n / 2]) / 2;
}

double fr_samples_quartile(struct fr_samples *s, int quarter)
{
	qsort(s->at, (size_t)s->n, sizeof *s->at, by_value);
	return s->n ? s->at[(s->n - 1) * quarter / 4] : 0;
}

double fr_samples_min(const struct fr_samples *s)
{
	double v = s->n ? s->at[0] : 0;

	for (int i = 1; i < s->n; i++)
		v = s->at[i] < v ? s->at[i] : v;
	return v;
}

double fr_samples_max(const struct fr_samples *s)
{
	double v = 0;

	for (int i = 0; i < s->n; i++)
		v = s->at[i] > v ? s->at[i] : v;
	return v;
}
