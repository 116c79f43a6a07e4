/* Known answers: every operation on every level of this machine must give the bits that are written down here; a GPU
 * those that no device may change (kernels/cuda/cuda.h says which it may).
 *
 * The kernel check compares levels with each other; this compares a machine with the machines before it. The numbers
 * are FNV-1a hashes of all bytes that a seeded case (kernels/check.h) writes. They change only with the numeric
 * contract of kernels/ops.h; tests/kernels.c would catch a level that departs alone. Levels that round activations have
 * known answers of their own; that their instructions do what the contract says of them was found out when the device
 * was opened (kernels/cpu/unit.c), and is a line. */
#include "session.h"
#include "../kernels/check.h"

static const struct known {
	struct fr_check_case c;
	uint64_t hash[FR_SELFTEST_OWN]; /* 0: as the first */
} known[] = {
	{FR_CASE_MATRIX(LINEAR, PREFILL, BF16, 33, 344, 688, FR_WITH_BIAS, QUICK_GELU),
	 {0x5053cd9af38e46a7u, 0x9e473b3824ab3afeu, 0xa8aa5aae57920832u}},
	{FR_CASE_MATRIX(LINEAR, PREFILL, F16, 17, 40, 1024, FR_WITH_BIAS, GELU),
	 {0x57e5c7532a851736u, 0, 0x8acc571bbc62be69u}},
	{FR_CASE_MATRIX(LINEAR, PREFILL, F32, 9, 50, 333, FR_WITH_SCALE | FR_IN_PLACE, NONE),
	 {0xbad88b9316d81d9bu, 0, 0xe754fb851a2ded23u}},
	{FR_CASE_MATRIX(LINEAR, DECODE, BF16, 1, 688, 1024, 0, NONE),
	 {0x5015953f73ea6908u, 0x4952bbb64a3c75c9u, 0x4952bbb64a3c75c9u}},
	{FR_CASE_MATRIX(LINEAR, DECODE, F16, 5, 100, 1024, 0, SILU), {0xcb4d2e63e7c69526u}},
	{FR_CASE_MATRIX(LINEAR, DECODE, F32, 16, 33, 333, 0, NONE), {0xdac37e24df0547f2u}},
	{FR_CASE_MATRIX(GLU, PREFILL, BF16, 19, 100, 256, 0, NONE),
	 {0x390cdf5296a53cf9u, 0x2e7a86d4ab554630u, 0x165f438df37f111au}},
	{FR_CASE_MATRIX(GLU, DECODE, F16, 3, 344, 512, 0, NONE), {0x745ca82678d53204u}},
	{FR_CASE_NORM(9, 1024, FR_WITH_BIAS), {0x1df20902d15a9972u}},
	{FR_CASE_NORM(9, 4096, 0), {0x8f255aabf6c57378u}},
	{FR_CASE_PATCH(BF16, 56, 14, 64, FR_WITH_BIAS),
	 {0xbad40ee39b6ddf2bu, 0x609ffa42230c9997u, 0x688cfc37aafc9c4cu}},
	{FR_CASE_EMBED(F16, 9, 33, 100), {0x2f86de2a7d249f5eu}},
	{FR_CASE_CACHED(ROPE, PREFILL, F16, 20, 2, 100, 4, 2, 128), {0x84ce9247f65020a5u}},
	{FR_CASE_DENSE(20, 300, 2, 64, FR_WITH_BIAS), {0x4a968e4780d02b2eu}},
	{FR_CASE_CACHED(ATTN, PREFILL, F16, 40, 2, 300, 4, 2, 128), {0x75c090b4c46476a1u}},
	{FR_CASE_CACHED(ATTN, DECODE, F16, 3, 3, 600, 4, 2, 128), {0xda981e0ba12e81bbu}},
	{FR_CASE_CACHED(ATTN, DECODE, F32, 2, 1, 40, 2, 1, 320), {0xb1e6d6d2e1f9c389u}},
	{FR_CASE_MATRIX(LINEAR, PREFILL, F32, 9, 50, 129, FR_WITH_BIAS, RELU),
	 {0xeb46028c9de1ea90u, 0, 0x1948aef3cfb88f33u}},
	{FR_CASE_MAP(2, 20, 25, 300, 2, 64), {0xe17d86a34ed4b9e5u}},
	{FR_CASE_MAP_BIAS(2, 37, 16, 32), {0x351b53146a6e3c7du}},
	{FR_CASE_GATE(3, 1000, 0), {0xab7698fb23cb2e34u}},
	{FR_CASE_MATRIX(LINEAR, DECODE, BF16, 7, 100, 333, 0, GELU),
	 {0x1691c438eb77355bu, 0xd723f99cf867da85u, 0xd723f99cf867da85u}},
	{FR_CASE_MATRIX(GLU, DECODE, BF16, 2, 200, 344, 0, NONE),
	 {0xd143e21466e377ccu, 0x328a3f509d038497u, 0x328a3f509d038497u}},
	{FR_CASE_MATRIX(GLU, PREFILL, F16, 40, 100, 344, 0, NONE), {0x05fb1cc5850c1d63u, 0, 0xeff4e9abd2f32b55u}},
	{FR_CASE_DENSE_BF16(50, 300, 2, 64, 0), {0x85d0969b0809aaefu, 0x1c691717842c7434u, 0x1c691717842c7434u}},
};

static const struct fr_selftest_level levels[] = {
	{"ref", "cpu", "ref", FR_SELFTEST_FLOAT32},
	{"cpu-ref", "cpu", "cpu-ref", FR_SELFTEST_FLOAT32},
	{"avx2", "cpu", "avx2", FR_SELFTEST_FLOAT32},
	{"avx512", "cpu", "avx512", FR_SELFTEST_FLOAT32},
	{"ref-avx512bf16", "cpu", "ref-avx512bf16", FR_SELFTEST_PAIRS, .kernels_alone = 1},
	{"avx512bf16", "cpu", "avx512bf16", FR_SELFTEST_PAIRS, .unit = 1},
	{"ref-amx", "cpu", "ref-amx", FR_SELFTEST_TILES, .kernels_alone = 1},
	{"amx", "cpu", "amx", FR_SELFTEST_TILES, .unit = 1},
	{"cuda", "cuda", NULL, FR_SELFTEST_OWN},
};

/* Are these the bits of every device? */
static int same_everywhere(const struct fr_check_case *c)
{
	switch (c->op) {
	case FR_CHECK_LINEAR:
	case FR_CHECK_GLU:
		return c->dtype == FR_F32;
	case FR_CHECK_EMBED:
	case FR_CHECK_ROPE:
	case FR_CHECK_ATTN_MAP:
	case FR_CHECK_MAP_BIAS:
	case FR_CHECK_GATE:
		return 1;
	default:
		return 0;
	}
}

static uint64_t hash_outputs(const struct fr_check_run *run)
{
	uint64_t h = 0xcbf29ce484222325u;

	for (int s = 0; s < FR_SLOTS; s++) {
		const unsigned char *p = run->out[s];

		for (size_t i = 0; p && i < run->check->slot[s].bytes; i++)
			h = (h ^ p[i]) * 0x100000001b3u;
	}
	return h;
}

/* 0: the level has bits of its own. */
static uint64_t known_hash(const struct known *k, const struct fr_selftest_level *level)
{
	if (level->bits == FR_SELFTEST_OWN)
		return same_everywhere(&k->c) ? k->hash[FR_SELFTEST_FLOAT32] : 0;
	return k->hash[level->bits] ? k->hash[level->bits] : k->hash[FR_SELFTEST_FLOAT32];
}

/* Runs one case; 0 with its hash, or -1. */
static int answer(const struct fr_check_case *c, struct fr_dev *dev, uint64_t *hash, struct fr_error *err)
{
	struct fr_check_run run = {0};
	struct fr_check *ck;
	int rc;

	FR_TRY(fr_check_new(c, 1, &ck, err));
	rc = fr_check_bind(ck, dev, &run, err);
	if (rc == 0) {
		fr_check_call(&run);
		rc = fr_check_collect(&run, err);
		*hash = hash_outputs(&run);
	}
	fr_check_unbind(&run);
	fr_check_free(ck);
	return rc;
}

/* The instructions that a level rounds with; returns 1 if they give other bits than the contract. */
static int check_unit(const struct fr_selftest_level *level, const struct fr_dev *dev, FILE *out)
{
	if (!level->unit)
		return 0;
	if (strcmp(dev->isa, level->isa) == 0) {
		fprintf(out, "ok unit/%s\n", level->name);
		return 0;
	}
	fprintf(out,
		"FAIL unit/%s: subnormals, orders of sums or roundings are not those of the contract; results say "
		"\"isa\": "
		"\"%s\"\n",
		level->name, dev->isa);
	return 1;
}

/* All cases that bind a level; returns how many failed. */
static int check_level(const struct fr_selftest_level *level, FILE *out)
{
	struct fr_dev_opts opts = {.backend = level->backend, .isa = level->isa};
	struct fr_dev *dev;
	struct fr_error err;
	char name[160];
	int failed = 0;

	if (fr_dev_open(&opts, &dev, &err) != 0) {
		fprintf(out, "skip kernels/%s: %s\n", level->name, err.text);
		return 0;
	}
	failed += check_unit(level, dev, out);
	for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
		const uint64_t want = known_hash(&known[i], level);
		uint64_t hash = 0;

		if (!want)
			continue;
		fr_check_name(&known[i].c, name, sizeof name);
		if (answer(&known[i].c, dev, &hash, &err) == 0 && hash == want) {
			fprintf(out, "ok kernels/%s/%s\n", level->name, name);
			continue;
		}
		failed++;
		if (hash)
			fprintf(out, "FAIL kernels/%s/%s: got %016llx, expected %016llx\n", level->name, name,
				(unsigned long long)hash, (unsigned long long)want);
		else
			fprintf(out, "FAIL kernels/%s/%s: %s\n", level->name, name, err.text);
	}
	dev->ops->close(dev);
	return failed;
}

int fr_selftest_at(const char *name, FILE *out)
{
	struct fr_selftest_level chosen[sizeof levels / sizeof *levels];
	size_t n = 0;
	int failed = 0;

	for (size_t i = 0; i < sizeof levels / sizeof *levels; i++)
		if (!name || strcmp(levels[i].name, name) == 0)
			chosen[n++] = levels[i];
	for (size_t i = 0; i < n; i++)
		failed += check_level(&chosen[i], out);
	return failed + fr_selftest_demo(chosen, n, out);
}

int fr_selftest(FILE *out, struct fr_error *err)
{
	char machine[512];
	int failed;

	fr_machine(NULL, machine, sizeof machine);
	fprintf(out, "# %s\n", machine);
	failed = fr_selftest_at(NULL, out);
	if (failed)
		return fr_fail(err, FR_E_NUMBERS, "%d known answers differ on this machine", failed);
	return 0;
}
