/* Host half of peak.cu: each limit is the median of several launches between two marks of the device's clock. */
#include "peak.h"
#include "cuda.h"

#include <stdlib.h>

#define REPEATS 9
#define TIMES_L2 16
#define MMA_OPS (2 * 16 * 8 * 16)
#define EMPTY 256 /* launches of a recording */

struct bench {
	struct fr_cuda *d;
	struct fr_peak_args args;
	unsigned blocks; /* as many as are resident */
	size_t bytes;	 /* of from, and of to */
	int repeats;
};

static int by_value(const void *a, const void *b)
{
	const float x = *(const float *)a, y = *(const float *)b;

	return (x > y) - (x < y);
}

static void launch(const struct bench *b, enum fr_cu_kernel kernel)
{
	fr_cu_run(b->d, kernel, b->blocks, 1, 1, FR_PEAK_THREADS, 0, &b->args, sizeof b->args);
}

/* The median seconds of a launch, or of a replay of `graph`; the first one warms up and is not counted. */
static double seconds(const struct bench *b, enum fr_cu_kernel kernel, void *graph)
{
	struct fr_cuda *d = b->d;
	float ms[REPEATS + 1] = {0};

	for (int i = 0; i <= b->repeats && !d->error; i++) {
		fr_cu_note(d, d->cu->mark(d->at, 0), "the clock of the bench");
		if (graph)
			fr_cu_note(d, d->cu->replay(d->at, graph), "a replay of the bench");
		else
			launch(b, kernel);
		fr_cu_note(d, d->cu->mark(d->at, 1), "the clock of the bench");
		fr_cu_note(d, d->cu->elapsed(d->at, &ms[i]), "the clock of the bench");
	}
	qsort(ms + 1, (size_t)b->repeats, sizeof *ms, by_value);
	return (double)ms[1 + b->repeats / 2] * 1e-3;
}

static double rate(double work, double s)
{
	return s > 0 ? work / s : 0;
}

/* Seconds from one empty kernel to the next. */
static double gap(const struct bench *b)
{
	struct fr_cuda *d = b->d;
	void *graph = NULL;
	double s = 0;

	if (d->cu->record_begin(d->at))
		return 0;
	for (int i = 0; i < EMPTY; i++)
		launch(b, FR_CU_fr_peak_empty);
	if (d->cu->record_end(d->at, &graph) == 0 && graph) {
		s = seconds(b, FR_CU_fr_peak_empty, graph) / EMPTY;
		d->cu->forget(d->at, graph);
	}
	return s;
}

/* Several times L2, whole turns of the grid; less where that is a third of what is free. */
static size_t buffer_bytes(const struct bench *b)
{
	const size_t turn = (size_t)b->blocks * FR_PEAK_THREADS * 16 * FR_PEAK_UNROLL;
	size_t want = b->d->info.simulated ? turn : TIMES_L2 * b->d->info.l2, free = 0, total;

	fr_cu_room(&b->d->dev, &free, &total);
	if (want > free / 6)
		want = free / 6;
	return want < turn ? turn : want / turn * turn;
}

static void measure(struct bench *b, struct fr_cuda_peaks *out)
{
	const double warps = (double)b->blocks * FR_PEAK_THREADS / 32, chains = warps * FR_PEAK_CHAINS;
	const double mma = chains * b->args.rounds * MMA_OPS;

	out->read = rate((double)b->bytes, seconds(b, FR_CU_fr_peak_read, NULL));
	out->copy = rate(2 * (double)b->bytes, seconds(b, FR_CU_fr_peak_copy, NULL));
	out->bf16 = rate(mma, seconds(b, FR_CU_fr_peak_bf16, NULL));
	out->f16 = rate(mma, seconds(b, FR_CU_fr_peak_f16, NULL));
	out->f32 = rate(chains * 32 * 2 * FR_PEAK_F32_STEPS * b->args.rounds, seconds(b, FR_CU_fr_peak_f32, NULL));
	out->gap = gap(b);
}

int fr_cuda_peak(struct fr_dev *dev, struct fr_cuda_peaks *out, struct fr_error *err)
{
	struct fr_cuda *d = (struct fr_cuda *)dev;
	const int simulated = d->info.simulated;
	struct bench b = {.d = d, .repeats = simulated ? 1 : REPEATS};
	void *from = NULL, *to = NULL, *sink = NULL;
	int rc = -1;

	*out = (struct fr_cuda_peaks){0};
	b.blocks = simulated ? 2 : (unsigned)d->info.sms * 2;
	b.bytes = buffer_bytes(&b);
	if (fr_cu_alloc(dev, b.bytes, &from, err) || fr_cu_alloc(dev, b.bytes, &to, err) ||
	    fr_cu_alloc(dev, 64, &sink, err))
		goto out;
	b.args = (struct fr_peak_args){.from = from,
				       .to = to,
				       .sink = sink,
				       .quads = b.bytes / 16,
				       .rounds = simulated ? 2 : 1 << 14,
				       .factor = 0.5f};
	measure(&b, out);
	rc = fr_cu_sync(dev, err);
out:
	fr_cu_release(dev, sink, 64);
	fr_cu_release(dev, to, b.bytes);
	fr_cu_release(dev, from, b.bytes);
	return rc;
}
