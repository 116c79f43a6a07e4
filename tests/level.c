/* Instruction-set levels on machines that this one is not: what is found by the words of cpuid, the registers that the
 * operating system saves and its answer to who asks for tiles; what is chosen; and the sentences that say so. */
#include "../kernels/cpu/cpu.h"
#include "test.h"

#include <cpuid.h>
#include <errno.h>

#define OLD (bit_OSXSAVE)
#define AVX2_C1 (bit_OSXSAVE | bit_AVX | bit_FMA | bit_F16C)
#define AVX2_B7 (bit_AVX2)
#define AVX512_B7 (bit_AVX2 | bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL)
#define TILES (1u << 22 | 1u << 24 | 1u << 25)
#define YMM 0x7u
#define ZMM 0xe7u
#define ALL 0x602e7u
#define PALETTE                                                                                                        \
	{                                                                                                              \
		0x04002000, 0x00080040, 16                                                                             \
	}

/* By level: a machine that has all of it. */
static const struct fr_cpu_words machines[FR_LEVELS] = {
	{.c1 = OLD, .xcr0 = 3},
	{.c1 = AVX2_C1, .b7 = AVX2_B7, .xcr0 = YMM},
	{.c1 = AVX2_C1, .b7 = AVX512_B7, .xcr0 = ZMM},
	{.c1 = AVX2_C1, .b7 = AVX512_B7, .c7 = bit_AVX512VNNI, .a71 = bit_AVX512BF16, .xcr0 = ZMM},
	{.c1 = AVX2_C1,
	 .b7 = AVX512_B7,
	 .c7 = bit_AVX512VNNI,
	 .a71 = bit_AVX512BF16,
	 .d7 = TILES,
	 .tile = PALETTE,
	 .xcr0 = ALL},
};

/* Machines with something missing: `from` with a word changed. */
enum word { C1, B7, C7, D7, A71, TILE0, TILE1, TILE2, XCR0 };
static const struct {
	const char *name;
	enum fr_level from;
	enum word word;
	uint64_t without; /* these bits of it */
	int refused;
	enum fr_level has, found;
	const char *why; /* part of it; "": nothing is said */
} found[] = {
	{"ref", FR_LEVEL_REF, XCR0, 0, 0, FR_LEVEL_REF, FR_LEVEL_REF, ""},
	{"avx2", FR_LEVEL_AVX2, XCR0, 0, 0, FR_LEVEL_AVX2, FR_LEVEL_AVX2, ""},
	{"avx512", FR_LEVEL_AVX512, XCR0, 0, 0, FR_LEVEL_AVX512, FR_LEVEL_AVX512, ""},
	{"avx512bf16", FR_LEVEL_AVX512BF16, XCR0, 0, 0, FR_LEVEL_AVX512BF16, FR_LEVEL_AVX512BF16, ""},
	{"amx", FR_LEVEL_AMX, XCR0, 0, 0, FR_LEVEL_AMX, FR_LEVEL_AMX, ""},
	{"no-fma", FR_LEVEL_AVX2, C1, bit_FMA, 0, FR_LEVEL_REF, FR_LEVEL_REF, ""},
	{"no-f16c", FR_LEVEL_AVX2, C1, bit_F16C, 0, FR_LEVEL_REF, FR_LEVEL_REF, ""},
	{"avx-without-avx2", FR_LEVEL_AVX2, B7, bit_AVX2, 0, FR_LEVEL_REF, FR_LEVEL_REF, ""},
	{"avx512-without-bw", FR_LEVEL_AMX, B7, bit_AVX512BW, 0, FR_LEVEL_AVX2, FR_LEVEL_AVX2, ""},
	{"avx512-without-vl", FR_LEVEL_AVX512, B7, bit_AVX512VL, 0, FR_LEVEL_AVX2, FR_LEVEL_AVX2, ""},
	{"bf16-without-vnni", FR_LEVEL_AVX512BF16, C7, bit_AVX512VNNI, 0, FR_LEVEL_AVX512, FR_LEVEL_AVX512, ""},
	{"vnni-without-bf16", FR_LEVEL_AMX, A71, bit_AVX512BF16, 0, FR_LEVEL_AVX512, FR_LEVEL_AVX512, ""},
	{"amx-without-int8", FR_LEVEL_AMX, D7, 1u << 25, 0, FR_LEVEL_AVX512BF16, FR_LEVEL_AVX512BF16, ""},
	{"amx-without-bf16", FR_LEVEL_AMX, D7, 1u << 22, 0, FR_LEVEL_AVX512BF16, FR_LEVEL_AVX512BF16, ""},
	{"amx-without-palette", FR_LEVEL_AMX, TILE0, ~0u, 0, FR_LEVEL_AVX512BF16, FR_LEVEL_AVX512BF16, ""},
	{"amx-of-other-tiles", FR_LEVEL_AMX, TILE1, 1u << 6, 0, FR_LEVEL_AVX512BF16, FR_LEVEL_AVX512BF16, ""},
	{"no-osxsave", FR_LEVEL_AMX, C1, bit_OSXSAVE, 0, FR_LEVEL_REF, FR_LEVEL_REF, ""},
	{"os-without-ymm", FR_LEVEL_AVX2, XCR0, 4, 0, FR_LEVEL_AVX2, FR_LEVEL_REF, "does not save its registers"},
	{"os-without-ymm/amx", FR_LEVEL_AMX, XCR0, 4, 0, FR_LEVEL_AMX, FR_LEVEL_REF, "does not save its registers"},
	{"os-without-zmm", FR_LEVEL_AVX512, XCR0, 0xe0, 0, FR_LEVEL_AVX512, FR_LEVEL_AVX2,
	 "does not save its registers"},
	{"os-without-upper-16", FR_LEVEL_AVX512BF16, XCR0, 0x80, 0, FR_LEVEL_AVX512BF16, FR_LEVEL_AVX2,
	 "does not save its registers"},
	{"os-without-tiles", FR_LEVEL_AMX, XCR0, 0x60000, 0, FR_LEVEL_AMX, FR_LEVEL_AVX512BF16,
	 "does not save its registers"},
	{"os-without-tile-data", FR_LEVEL_AMX, XCR0, 0x40000, 0, FR_LEVEL_AMX, FR_LEVEL_AVX512BF16,
	 "does not save its registers"},
	{"refused/eperm", FR_LEVEL_AMX, XCR0, 0, EPERM, FR_LEVEL_AMX, FR_LEVEL_AVX512BF16,
	 "the kernel refuses its tile registers (Operation not permitted)"},
	{"refused/enosys", FR_LEVEL_AMX, XCR0, 0, ENOSYS, FR_LEVEL_AMX, FR_LEVEL_AVX512BF16,
	 "(Function not implemented)"},
	{"refused/einval", FR_LEVEL_AMX, XCR0, 0, EINVAL, FR_LEVEL_AMX, FR_LEVEL_AVX512BF16, "(Invalid argument)"},
	{"refused/elsewhere", FR_LEVEL_AVX512, XCR0, 0, EPERM, FR_LEVEL_AVX512, FR_LEVEL_AVX512, ""},
};

static struct fr_cpu_words without(const struct fr_cpu_words *from, enum word word, uint64_t bits)
{
	struct fr_cpu_words w = *from;
	uint32_t *const words[] = {&w.c1, &w.b7, &w.c7, &w.d7, &w.a71, &w.tile[0], &w.tile[1], &w.tile[2]};

	if (word == XCR0)
		w.xcr0 &= ~bits;
	else
		*words[word] &= (uint32_t)~bits;
	return w;
}

static void check_found(size_t i)
{
	const struct fr_cpu_words w = without(&machines[found[i].from], found[i].word, found[i].without);
	struct fr_levels l;
	char name[64];

	fr_levels_of(&w, found[i].refused, &l);
	snprintf(name, sizeof name, "exact/level.found/%s", found[i].name);
	CHECK(name,
	      l.has == found[i].has && l.found == found[i].found && !*l.why == !*found[i].why &&
		      strstr(l.why, found[i].why),
	      "has %s, found %s, '%s'", fr_level_names[l.has], fr_level_names[l.found], l.why);
}

static const struct {
	const char *name, *isa;
	enum fr_level has, found;
	int rc;
	enum fr_code code;
	enum fr_level level; /* chosen, when rc is 0 */
	const char *says;    /* part of the sentence, otherwise */
} chosen[] = {
	{"best/old_cpu", NULL, FR_LEVEL_REF, FR_LEVEL_REF, 0, FR_OK, FR_LEVEL_REF, NULL},
	{"best/avx2", NULL, FR_LEVEL_AVX2, FR_LEVEL_AVX2, 0, FR_OK, FR_LEVEL_AVX2, NULL},
	{"best/avx512", NULL, FR_LEVEL_AVX512, FR_LEVEL_AVX512, 0, FR_OK, FR_LEVEL_AVX512, NULL},
	{"best/avx512bf16", NULL, FR_LEVEL_AVX512BF16, FR_LEVEL_AVX512BF16, 0, FR_OK, FR_LEVEL_AVX512BF16, NULL},
	{"best/amx", NULL, FR_LEVEL_AMX, FR_LEVEL_AMX, 0, FR_OK, FR_LEVEL_AMX, NULL},
	{"best/amx_refused", NULL, FR_LEVEL_AMX, FR_LEVEL_AVX512BF16, 0, FR_OK, FR_LEVEL_AVX512BF16, NULL},
	{"best/zmm_not_saved", NULL, FR_LEVEL_AMX, FR_LEVEL_AVX2, 0, FR_OK, FR_LEVEL_AVX2, NULL},
	{"lowered/cpu-ref", "cpu-ref", FR_LEVEL_AMX, FR_LEVEL_AMX, 0, FR_OK, FR_LEVEL_REF, NULL},
	{"lowered/ref", "ref", FR_LEVEL_AVX2, FR_LEVEL_AVX2, 0, FR_OK, FR_LEVEL_REF, NULL},
	{"lowered/avx2", "avx2", FR_LEVEL_AVX512, FR_LEVEL_AVX512, 0, FR_OK, FR_LEVEL_AVX2, NULL},
	{"lowered/avx512", "avx512", FR_LEVEL_AMX, FR_LEVEL_AMX, 0, FR_OK, FR_LEVEL_AVX512, NULL},
	{"lowered/avx512bf16", "avx512bf16", FR_LEVEL_AMX, FR_LEVEL_AMX, 0, FR_OK, FR_LEVEL_AVX512BF16, NULL},
	{"absent/avx2", "avx2", FR_LEVEL_REF, FR_LEVEL_REF, -1, FR_E_DEVICE, 0, "this CPU has no avx2, it has ref"},
	{"absent/avx512", "avx512", FR_LEVEL_AVX2, FR_LEVEL_AVX2, -1, FR_E_DEVICE, 0,
	 "this CPU has no avx512, it has ref, avx2"},
	{"absent/avx512bf16", "avx512bf16", FR_LEVEL_AVX512, FR_LEVEL_AVX512, -1, FR_E_DEVICE, 0,
	 "this CPU has no avx512bf16, it has ref, avx2, avx512"},
	{"absent/amx", "amx", FR_LEVEL_AVX512BF16, FR_LEVEL_AVX512BF16, -1, FR_E_DEVICE, 0,
	 "this CPU has no amx, it has ref, avx2, avx512, avx512bf16"},
	{"asked/amx", "amx", FR_LEVEL_AMX, FR_LEVEL_AMX, 0, FR_OK, FR_LEVEL_AMX, NULL},
	{"refused/amx", "amx", FR_LEVEL_AMX, FR_LEVEL_AVX512BF16, -1, FR_E_DEVICE, 0,
	 "this CPU has amx, but its kernel is old; what can be used is ref, avx2, avx512, avx512bf16"},
	{"refused/avx512", "avx512", FR_LEVEL_AMX, FR_LEVEL_AVX2, -1, FR_E_DEVICE, 0,
	 "this CPU has avx512, but its kernel is old; what can be used is ref, avx2"},
	{"unknown", "sse9", FR_LEVEL_AMX, FR_LEVEL_AMX, -1, FR_E_USAGE, 0,
	 "expected one of ref, avx2, avx512, avx512bf16, amx"},
};

static void check_chosen(size_t i)
{
	const struct fr_levels here = {.has = chosen[i].has, .found = chosen[i].found, .why = "its kernel is old"};
	struct fr_error err = {0};
	enum fr_level level = FR_LEVELS;
	char name[64];
	int rc = fr_level_choose(chosen[i].isa, &here, &level, &err);
	int right = rc == chosen[i].rc && err.code == chosen[i].code;

	if (right && rc == 0)
		right = level == chosen[i].level;
	else if (right)
		right = strstr(err.text, chosen[i].says) != NULL;
	snprintf(name, sizeof name, "exact/level.%s", chosen[i].name);
	CHECK(name, right, "returned %d, code %s, level %d: %s", rc, fr_code_name(err.code), (int)level, err.text);
}

/* The line that a run begins with when its operating system is in the way, and its absence when not. */
static void check_lowered(void)
{
	const struct fr_levels zmm = {.has = FR_LEVEL_AVX512BF16, .found = FR_LEVEL_AVX2, .why = "nobody saves it"};
	const struct fr_levels all = {.has = FR_LEVEL_AVX512BF16, .found = FR_LEVEL_AVX512BF16};
	char line[256];

	fr_level_lowered(&zmm, line, sizeof line);
	CHECK("exact/level.lowered/line",
	      strcmp(line, "this CPU has avx512bf16, but nobody saves it: avx2 is used") == 0, "'%s'", line);
	fr_level_lowered(&all, line, sizeof line);
	CHECK("exact/level.lowered/nothing-to-say", !*line, "'%s'", line);
}

/* The device on such a machine: lowered with that line unasked, refused when asked for more. */
static void check_device(void)
{
	const struct fr_levels refused = {.has = FR_LEVEL_AMX, .found = FR_LEVEL_REF, .why = "nobody permits it"};
	struct fr_dev_opts opts = {.backend = "cpu", .threads = 1};
	struct fr_dev *dev;
	struct fr_error err = {0};

	fr_levels_in_tests = &refused;
	if (fr_dev_open(&opts, &dev, &err) == 0) {
		CHECK("exact/level.device/lowered",
		      !strcmp(dev->isa, "cpu-ref") &&
			      !strcmp(dev->lowered, "this CPU has amx, but nobody permits it: ref is used"),
		      "isa %s, '%s'", dev->isa, dev->lowered);
		dev->ops->close(dev);
	} else {
		test_fail("exact/level.device/lowered", "%s", err.text);
	}
	opts.isa = "amx";
	CHECK("exact/level.device/asked", fr_dev_open(&opts, &dev, &err) != 0 && err.code == FR_E_DEVICE &&
		      strstr(err.text, "this CPU has amx, but nobody permits it; what can be used is ref"),
	      "code %s: %s", fr_code_name(err.code), err.text);
	fr_levels_in_tests = NULL;
}

int main(void)
{
	for (size_t i = 0; i < sizeof found / sizeof *found; i++)
		check_found(i);
	for (size_t i = 0; i < sizeof chosen / sizeof *chosen; i++)
		check_chosen(i);
	check_lowered();
	check_device();
	return test_done();
}
