/* The memory plan: buffers that are alive together lie apart, those that are not share their place. */
#include "test.h"

#include "../engine/plan.h"

/* Which lifetimes meet, written down once more. */
static const char *const together[FR_LIFETIMES] = {
	[FR_LIVE_SESSION] = "svbfnd", [FR_LIVE_VISION] = "svb", [FR_LIVE_BRANCHES] = "svbf",
	[FR_LIVE_FUSION] = "sbf",     [FR_LIVE_FFN] = "sn",	[FR_LIVE_DECODER] = "sd",
};
static const char letters[] = "svbfnd";

static int meet(const struct fr_buffer *a, const struct fr_buffer *b)
{
	return strchr(together[a->live], letters[b->live]) != NULL;
}

/* NULL, or what is wrong with the offsets. */
static const char *wrong(const struct fr_plan *p)
{
	size_t end = 0;

	for (int i = 0; i < p->n; i++) {
		const struct fr_buffer *a = &p->at[i];
		if (a->offset % 64 != 0)
			return "unaligned";
		if (a->bytes != a->rows * a->cols * (size_t)fr_dtypes[a->dtype].bytes)
			return "bytes";
		if (a->offset + a->bytes > p->total)
			return "beyond the total";
		if (a->offset + a->bytes > end)
			end = a->offset + a->bytes;
		for (int j = 0; j < i; j++) {
			const struct fr_buffer *b = &p->at[j];
			if (meet(a, b) && a->offset < b->offset + b->bytes && b->offset < a->offset + a->bytes)
				return "two that are alive together overlap";
		}
	}
	return p->total - end < 512 ? NULL : "larger than its buffers";
}

static void random_plans(void)
{
	uint32_t state = 7;
	const char *why = NULL;
	int run = 0;

	for (; run < 2000 && !why; run++) {
		struct fr_plan p = {.n = 0};
		void *slot;
		for (int i = 0; i < 1 + run % FR_MAX_BUFFERS; i++) {
			state = state * 1664525 + 1013904223;
			fr_plan_add(&p, "x", &slot, state >> 30 ? FR_F32 : FR_F16, state >> 20 & 15, state >> 10 & 511,
				    (state >> 24) % FR_LIFETIMES);
		}
		fr_plan_layout(&p);
		why = wrong(&p);
	}
	CHECK("exact/plan/random", !why, "plan %d: %s", run, why);
}

/* Fusion over the encoder, its network over both, the decoder over everything but the session's. */
static void stages_share(void)
{
	static const struct {
		enum fr_lifetime live;
		size_t bytes, offset;
	} want[] = {
		{FR_LIVE_SESSION, 512, 0},     {FR_LIVE_VISION, 1024, 512},  {FR_LIVE_VISION, 256, 1536},
		{FR_LIVE_BRANCHES, 768, 1792}, {FR_LIVE_FUSION, 1280, 512},  {FR_LIVE_FUSION, 512, 2560},
		{FR_LIVE_FFN, 2048, 512},      {FR_LIVE_DECODER, 1024, 512}, {FR_LIVE_DECODER, 1024, 1536},
		{FR_LIVE_SESSION, 256, 3072},
	};
	struct fr_plan p = {.n = 0};
	void *slot[16];
	int bad = -1;

	for (int i = 0; i < (int)(sizeof want / sizeof *want); i++)
		fr_plan_add(&p, "x", &slot[i], FR_U8, 1, want[i].bytes, want[i].live);
	fr_plan_layout(&p);
	for (int i = 0; i < p.n && bad < 0; i++)
		if (p.at[i].offset != want[i].offset)
			bad = i;
	CHECK("exact/plan/stages-share", bad < 0 && p.total == 3328, "buffer %d at %zu, total %zu", bad,
	      bad < 0 ? 0 : p.at[bad].offset, p.total);
	CHECK("exact/plan/bytes", fr_plan_bytes(&p, &slot[3]) == 768 && fr_plan_bytes(&p, &slot[15]) == 0, "others");
}

int main(void)
{
	random_plans();
	stages_share();
	return test_done();
}
