/* Bursts at the machine's limits with the pool of a cpu device, and the loops for a CPU without any level. */
#include "cpu.h"
#include "peak.h"

#include <time.h>

#define BURST_JOBS 16 /* per thread, each some 0.3 ms */
#define BURST_ROUNDS 100000
#define TILE_ROUNDS 16000
#define READ_JOB ((size_t)1 << 20)

const char *const fr_peak_names[FR_PEAKS] = {[FR_PEAK_FMA] = "float32",
					     [FR_PEAK_BF16] = "bf16",
					     [FR_PEAK_INT8] = "int8",
					     [FR_PEAK_BF16_TILES] = "bf16 tiles",
					     [FR_PEAK_INT8_TILES] = "int8 tiles"};

static const struct level {
	const char *isa;
	uint64_t (*read)(const void *p, size_t n);
	double (*loop[FR_PEAKS])(long n);
} levels[] = {
	{"cpu-ref", fr_peak_read_ref, {[FR_PEAK_FMA] = fr_peak_fma_ref}},
	{"avx2", fr_peak_read_avx2, {[FR_PEAK_FMA] = fr_peak_fma_avx2, [FR_PEAK_INT8] = fr_peak_int8_avx2}},
	{"avx512", fr_peak_read_avx512, {[FR_PEAK_FMA] = fr_peak_fma_avx512, [FR_PEAK_INT8] = fr_peak_int8_avx512}},
	{"avx512bf16",
	 fr_peak_read_avx512,
	 {[FR_PEAK_FMA] = fr_peak_fma_avx512,
	  [FR_PEAK_BF16] = fr_peak_bf16_avx512bf16,
	  [FR_PEAK_INT8] = fr_peak_int8_avx512bf16}},
	{"amx",
	 fr_peak_read_avx512,
	 {[FR_PEAK_FMA] = fr_peak_fma_avx512,
	  [FR_PEAK_BF16] = fr_peak_bf16_avx512bf16,
	  [FR_PEAK_INT8] = fr_peak_int8_avx512bf16,
	  [FR_PEAK_BF16_TILES] = fr_peak_bf16_amx,
	  [FR_PEAK_INT8_TILES] = fr_peak_int8_amx}},
};

static const struct level *level_of(const struct fr_dev *dev)
{
	const size_t n = strcspn(dev->isa, "+"); /* "amx+other" is an amx */

	for (size_t i = 1; i < sizeof levels / sizeof *levels; i++)
		if (strlen(levels[i].isa) == n && strncmp(levels[i].isa, dev->isa, n) == 0)
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
	long rounds;
	const char *p;
	size_t bytes;
	double ops[1024]; /* by worker; sums of reads keep the loads alive */
};

static void loop_job(void *arg, int i, int worker)
{
	struct burst *b = arg;

	(void)i;
	b->ops[worker % 1024] = b->loop(b->rounds);
}

static void read_job(void *arg, int i, int worker)
{
	struct burst *b = arg;
	size_t from = (size_t)i * READ_JOB, n = b->bytes - from < READ_JOB ? b->bytes - from : READ_JOB;

	b->ops[worker % 1024] = (double)b->level->read(b->p + from, n);
}

double fr_cpu_peak(struct fr_dev *dev, enum fr_peak kind)
{
	struct burst b = {.loop = level_of(dev)->loop[kind]};
	int jobs = dev->threads * BURST_JOBS;
	double per_round, start;

	if (!b.loop)
		return 0;
	b.rounds = kind >= FR_PEAK_BF16_TILES ? TILE_ROUNDS : BURST_ROUNDS;
	per_round = b.loop(1);
	start = now();
	fr_pool_run(((struct fr_cpu *)dev)->pool, jobs, loop_job, &b);
	return per_round * (double)b.rounds * jobs / (now() - start);
}

enum fr_peak fr_cpu_peak_of(const struct fr_dev *dev, enum fr_dtype weights, enum fr_phase phase)
{
	const struct level *l = level_of(dev);

	if (weights == FR_Q8_0 && phase == FR_PREFILL && l->loop[FR_PEAK_INT8_TILES])
		return FR_PEAK_INT8_TILES;
	if (weights == FR_Q8_0)
		return l->loop[FR_PEAK_INT8] ? FR_PEAK_INT8 : FR_PEAK_FMA;
	if (phase == FR_PREFILL && l->loop[FR_PEAK_BF16_TILES])
		return FR_PEAK_BF16_TILES;
	return weights == FR_BF16 && l->loop[FR_PEAK_BF16] ? FR_PEAK_BF16 : FR_PEAK_FMA;
}

double fr_cpu_peak_read(struct fr_dev *dev, const void *p, size_t bytes)
{
	struct burst b = {.level = level_of(dev), .p = p, .bytes = bytes};
	double start = now();

	fr_pool_run(((struct fr_cpu *)dev)->pool, (int)((bytes + READ_JOB - 1) / READ_JOB), read_job, &b);
	return (double)bytes / (now() - start);
}
