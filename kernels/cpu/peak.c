/* Bursts at the machine's limits with the pool of a cpu device, and the loops for a CPU without any level. */
#include "cpu.h"
#include "peak.h"

#include <time.h>

#define BURST_ROUNDS 100000 /* of one job: about 0.3 ms at avx2 */
#define BURST_JOBS 16	    /* per thread */
#define READ_JOB ((size_t)1 << 20)

static const struct level {
	const char *isa;
	double (*fma)(long n);
	uint64_t (*read)(const void *p, size_t n);
	double (*pairs)(long n);
} levels[] = {
	{"cpu-ref", fr_peak_fma_ref, fr_peak_read_ref, NULL},
	{"avx2", fr_peak_fma_avx2, fr_peak_read_avx2, NULL},
	{"avx512", fr_peak_fma_avx512, fr_peak_read_avx512, NULL},
	{"avx512bf16", fr_peak_fma_avx512, fr_peak_read_avx512, fr_peak_pairs_avx512bf16},
};

static const struct level *level_of(const struct fr_dev *dev)
{
	for (size_t i = 1; i < sizeof levels / sizeof *levels; i++)
		if (strcmp(levels[i].isa, dev->isa) == 0)
			return &levels[i];
	return &levels[0];
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

typedef float quad __attribute__((vector_size(16)));

/* Ten independent chains of a multiplication and an addition: baseline x86-64 has no fused one. */
double fr_peak_fma_ref(long n)
{
	const quad h = {0.5f, 0.5f, 0.5f, 0.5f};
	quad a = h, b = h, c = h, d = h, e = h, f = h, g = h, i = h, j = h, k = h;

	for (long r = 0; r < n; r++) {
		a = a * h + h;
		b = b * h + h;
		c = c * h + h;
		d = d * h + h;
		e = e * h + h;
		f = f * h + h;
		g = g * h + h;
		i = i * h + h;
		j = j * h + h;
		k = k * h + h;
		__asm__ volatile("" : "+x"(a), "+x"(b), "+x"(c), "+x"(d), "+x"(e));
		__asm__ volatile("" : "+x"(f), "+x"(g), "+x"(i), "+x"(j), "+x"(k));
	}
	a = a + b + c + d + e + f + g + i + j + k;
	return a[0] > 0 ? (double)n * 10 * 4 * 2 : 0;
}

/* Four streams at once: one alone does not keep enough lines on their way from memory. */
uint64_t fr_peak_read_ref(const void *p, size_t n)
{
	const uint64_t *v = p;
	const size_t part = n / 4 / sizeof *v;
	uint64_t s = 0;

	for (size_t i = 0; i < part; i++)
		s ^= v[i] ^ v[part + i] ^ v[2 * part + i] ^ v[3 * part + i];
	return s;
}

struct burst {
	const struct level *level;
	double (*loop)(long n);
	const char *p;
	size_t bytes;
	double ops[1024]; /* by worker; sums of reads keep the loads alive */
};

static void fma_job(void *arg, int i, int worker)
{
	struct burst *b = arg;

	(void)i;
	b->ops[worker % 1024] = b->loop(BURST_ROUNDS);
}

static void read_job(void *arg, int i, int worker)
{
	struct burst *b = arg;
	size_t from = (size_t)i * READ_JOB, n = b->bytes - from < READ_JOB ? b->bytes - from : READ_JOB;

	b->ops[worker % 1024] = (double)b->level->read(b->p + from, n);
}

static double rate(struct fr_dev *dev, double (*loop)(long n))
{
	struct burst b = {.loop = loop};
	int jobs = dev->threads * BURST_JOBS;
	double start = now();

	fr_pool_run(((struct fr_cpu *)dev)->pool, jobs, fma_job, &b);
	return b.ops[0] * jobs / (now() - start);
}

double fr_cpu_peak_fma(struct fr_dev *dev)
{
	return rate(dev, level_of(dev)->fma);
}

double fr_cpu_peak_pairs(struct fr_dev *dev)
{
	return level_of(dev)->pairs ? rate(dev, level_of(dev)->pairs) : 0;
}

double fr_cpu_peak_read(struct fr_dev *dev, const void *p, size_t bytes)
{
	struct burst b = {.level = level_of(dev), .p = p, .bytes = bytes};
	double start = now();

	fr_pool_run(((struct fr_cpu *)dev)->pool, (int)((bytes + READ_JOB - 1) / READ_JOB), read_job, &b);
	return (double)bytes / (now() - start);
}
