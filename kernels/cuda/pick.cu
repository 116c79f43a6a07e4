/* The choice of a token, bit by bit that of kernels/pick.c: a block a row of logits.
 *
 * Greedy: each thread keeps the highest of its logits, as a number that orders like (logit, lowest id first); then the
 * warp's, then the block's. A logit that is not finite is the highest number there is. One block reads a row of 32064
 * from L2 in about a microsecond, so a second launch would cost more than more blocks would save.
 *
 * Sampled: nothing is sorted. Weights are integers (kernels/pick.h), so their sums are the same in any order, and "the
 * candidate at which the running sum, best first, passes a mark" is a search for a logit, four bits of it at a time
 * from the top: each of 16 bins gets the weight of the logits that begin with the bits found so far and then with it,
 * and the bin in which the mark falls is the next four bits. Each thread has bins of its own; a warp adds up one bin.
 * Top-k is the same search with weights of 1; among equal logits, which weigh the same, a division gives how many, or
 * which. That is eight readings of the row, from the near caches, for each of top-k, top-p and the draw. Not measured
 * on a card yet. */
#include "../pick.h"
#include "ptx.h"

FR_DEVICE uint64_t shuffled(uint64_t v, int mask)
{
	return (uint64_t)fr_shfl_xor_u((uint32_t)(v >> 32), mask) << 32 | fr_shfl_xor_u((uint32_t)v, mask);
}

/* ---- the highest logit ---- */

/* (logit, id) as one number. */
FR_DEVICE uint64_t rank(float logit, int id)
{
	uint32_t finite = (fr_f32_bits(logit) & 0x7f800000u) != 0x7f800000u;

	return (uint64_t)(finite ? fr_pick_key(logit) : FR_PICK_KEYS) << 32 | (0xffffffffu - (uint32_t)id);
}

FR_DEVICE uint64_t higher(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* The block's highest; `at` is a place for one number a warp. */
FR_DEVICE uint64_t highest(uint64_t v, uint64_t *at, int warps)
{
	for (int h = 16; h > 0; h /= 2)
		v = higher(v, shuffled(v, h));
	if (threadIdx.x % 32 == 0)
		at[threadIdx.x / 32] = v;
	__syncthreads();
	v = at[0];
	for (int w = 1; w < warps; w++)
		v = higher(v, at[w]);
	__syncthreads();
	return v;
}

/* Over the logits of a row that are this thread's. */
FR_DEVICE uint64_t own_highest(const struct fr_pick_args &a, const float *x, int threads)
{
	uint64_t best = 0;
	int i = (int)threadIdx.x;

	if (a.vector) {
#pragma unroll 4
		for (int q = i; q < a.vocab / 4; q += threads) {
			fr_u4 v = *(const fr_u4 *)(x + 4 * q);

			best = higher(best, higher(rank(fr_bits_f32(v.x), 4 * q), rank(fr_bits_f32(v.y), 4 * q + 1)));
			best = higher(best,
				      higher(rank(fr_bits_f32(v.z), 4 * q + 2), rank(fr_bits_f32(v.w), 4 * q + 3)));
		}
		return best;
	}
	for (; i < a.vocab; i += threads)
		best = higher(best, rank(x[i], i));
	return best;
}

FR_DEVICE int finite(uint64_t best)
{
	return best >> 32 < FR_PICK_KEYS;
}

FR_KERNEL(fr_pick_greedy, struct fr_pick_args, FR_PICK_GREEDY_THREADS, 1)
{
	uint64_t best;

	FR_RELEASE();
	FR_WAIT();
	best = own_highest(a, a.logits + (size_t)blockIdx.x * (size_t)a.vocab, FR_PICK_GREEDY_THREADS);
	best = highest(best, (uint64_t *)fr_smem(), FR_PICK_GREEDY_THREADS / 32);
	if (threadIdx.x == 0)
		a.ids[blockIdx.x] = finite(best) ? (int32_t)(0xffffffffu - (uint32_t)best) : -1;
}

/* ---- sampled ---- */

#define THREADS FR_PICK_THREADS
#define WARPS (THREADS / 32)

/* The candidates of a row: logits whose key is above `above`. */
struct row {
	const float *x;
	int vocab;
	float best, temperature;
	uint32_t above;
	uint64_t *bins, *total; /* shared: [FR_PICK_BINS][THREADS], [FR_PICK_BINS] */
};

/* What a logit counts for: its weight, or 1. */
FR_DEVICE uint64_t worth(const struct row &r, int weigh, uint32_t key)
{
	return key <= r.above ? 0 : weigh ? fr_pick_weight(fr_pick_logit(key), r.best, r.temperature) : 1;
}

FR_DEVICE uint64_t warp_sum(uint64_t v)
{
	for (int h = 16; h > 0; h /= 2)
		v += shuffled(v, h);
	return v;
}

/* Fills the thread's own bins with what the logits are worth whose bits from shift + 4 on are `found`. */
FR_DEVICE void fill(const struct row &r, int weigh, int shift, uint32_t found)
{
	uint64_t *own = r.bins + threadIdx.x;

	for (int b = 0; b < FR_PICK_BINS; b++)
		own[b * THREADS] = 0;
	for (int i = (int)threadIdx.x; i < r.vocab; i += THREADS) {
		uint32_t key = fr_pick_key(r.x[i]);

		if (shift == 28 || key >> (shift + 4) == found)
			own[(key >> shift) % 16 * THREADS] += worth(r, weigh, key);
	}
}

/* The bins of all threads, added: in r.total after a barrier. Warp w does bin w. */
FR_DEVICE void total(const struct row &r)
{
	int bin = (int)threadIdx.x / 32;
	uint64_t v = 0;

	__syncthreads();
	for (int t = (int)threadIdx.x % 32; t < THREADS; t += 32)
		v += r.bins[bin * THREADS + t];
	v = warp_sum(v);
	if (threadIdx.x % 32 == 0)
		r.total[bin] = v;
	__syncthreads();
}

/* The key at which the running sum, best first, passes the mark; *passed: the sum of what is above the key. The mark is
 * less than the sum of all. */
FR_DEVICE uint32_t find(const struct row &r, int weigh, uint64_t mark, uint64_t *passed)
{
	uint64_t sum = 0;
	uint32_t found = 0;

	for (int shift = 28; shift >= 0; shift -= 4) {
		int bin = FR_PICK_BINS - 1;

		fill(r, weigh, shift, found);
		total(r);
		for (; bin > 0 && sum + r.total[bin] <= mark; bin--)
			sum += r.total[bin];
		found = found << 4 | (uint32_t)bin;
	}
	*passed = sum;
	return found;
}

/* The weight of all candidates. */
FR_DEVICE uint64_t weigh_all(const struct row &r)
{
	uint64_t v = 0;

	for (int i = (int)threadIdx.x; i < r.vocab; i += THREADS)
		v += worth(r, 1, fr_pick_key(r.x[i]));
	v = warp_sum(v);
	__syncthreads();
	if (threadIdx.x % 32 == 0)
		r.total[threadIdx.x / 32] = v;
	__syncthreads();
	v = 0;
	for (int w = 0; w < WARPS; w++)
		v += r.total[w];
	return v;
}

FR_DEVICE int ones(uint32_t v)
{
	v = v - (v >> 1 & 0x55555555u);
	v = (v & 0x33333333u) + (v >> 2 & 0x33333333u);
	return (int)(((v + (v >> 4)) & 0x0f0f0f0fu) * 0x01010101u >> 24);
}

/* Leaves in *id the id of number n, from 0 in order of ids, among the logits with this key. Each warp has a range of
 * ids; all count, then the one that has the number counts again. */
FR_DEVICE void name(const struct row &r, uint32_t key, uint64_t n, int32_t *id)
{
	const int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
	const int range = (r.vocab + THREADS - 1) / THREADS * 32, from = warp * range;
	uint64_t before = 0;
	int seen = 0;

	for (int i = from; i < from + range; i += 32)
		seen += ones(fr_ballot(i + lane < r.vocab && fr_pick_key(r.x[i + lane]) == key));
	__syncthreads();
	if (lane == 0)
		r.total[warp] = (uint64_t)seen;
	__syncthreads();
	for (int w = 0; w < warp; w++)
		before += r.total[w];
	if (n < before || n >= before + (uint64_t)seen)
		return;
	n -= before;
	seen = 0;
	for (int i = from; i < from + range; i += 32) {
		int is = i + lane < r.vocab && fr_pick_key(r.x[i + lane]) == key;
		uint32_t mask = fr_ballot(is);

		if (is && (uint64_t)(seen + ones(mask & ((1u << lane) - 1))) == n)
			*id = i + lane;
		seen += ones(mask);
	}
}

/* A row whose logits are finite. Those that top-k leaves are the logits above r.above and `ties` that are equal to it.
 */
FR_DEVICE void sample(struct row &r, const struct fr_pick_args &a, double draw, int32_t *id)
{
	uint64_t ties = 0, tie = 0, sum, passed, kept, mark, w;
	uint32_t key;

	if (a.top_k > 0 && a.top_k < a.vocab) {
		key = find(r, 0, (uint64_t)a.top_k - 1, &passed);
		r.above = key;
		ties = (uint64_t)a.top_k - passed;
		tie = fr_pick_weight(fr_pick_logit(key), r.best, r.temperature);
	}
	sum = weigh_all(r);
	kept = sum + ties * tie;
	if (a.top_p < 1) {
		uint64_t need = fr_pick_need(a.top_p, kept);

		passed = sum;
		w = tie;
		if (need <= sum) {
			key = find(r, 1, need - 1, &passed);
			w = fr_pick_weight(fr_pick_logit(key), r.best, r.temperature);
		}
		/* as many of those equal as it takes */
		kept = passed + (need - passed + w - 1) / w * w;
	}
	mark = fr_pick_mark(draw, kept);
	passed = sum;
	key = r.above;
	if (mark < sum)
		key = find(r, 1, mark, &passed);
	w = fr_pick_weight(fr_pick_logit(key), r.best, r.temperature);
	name(r, key, (mark - passed) / w, id);
}

FR_KERNEL(fr_pick_sample, struct fr_pick_args, THREADS, 1)
{
	struct row r;
	uint64_t best;

	FR_RELEASE();
	FR_WAIT();
	r.x = a.logits + (size_t)blockIdx.x * (size_t)a.vocab;
	r.vocab = a.vocab;
	r.temperature = a.temperature;
	r.above = 0;
	r.bins = (uint64_t *)fr_smem();
	r.total = r.bins + FR_PICK_BINS * THREADS;
	best = highest(own_highest(a, r.x, THREADS), r.bins, WARPS);
	if (!finite(best)) {
		if (threadIdx.x == 0)
			a.ids[blockIdx.x] = -1;
		return;
	}
	r.best = fr_pick_logit((uint32_t)(best >> 32));
	sample(r, a, a.draw[blockIdx.x], a.ids + blockIdx.x);
}
