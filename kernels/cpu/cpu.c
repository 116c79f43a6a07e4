/* What this CPU can do: levels found by cpuid and xgetbv, chosen by name, and the one line that says so.
 *
 * An instruction set counts only if the operating system saves its registers. Linux wants to be asked for AMX's, once a
 * process: the permission changes nothing until a tile is touched, and asking again is no different from asking once.
 */
#include "cpu.h"

#include <cpuid.h>
#include <errno.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

const char *const fr_level_names[FR_LEVELS] = {"ref", "avx2", "avx512", "avx512bf16", "amx"};

#define XCR0_YMM 0x6u	   /* SSE and AVX state */
#define XCR0_ZMM 0xe6u	   /* and opmask, upper halves, upper 16 */
#define XCR0_TILE 0x600e6u /* and tile configuration and data */
#define ARCH_REQ_XCOMP_PERM 0x1023
#define XFEATURE_XTILEDATA 18
#define AMX_BITS (1u << 22 | 1u << 24 | 1u << 25) /* bf16, tiles, int8 in edx of leaf 7; clang has no names for them   \
						   */
/* Leaf 0x1d, subleaf 1: 8192 bytes of 1024 a tile, 8 tiles of 64 bytes a row, 16 rows. */
static const uint32_t palette_1[3] = {1024u << 16 | 8192u, 8u << 16 | 64u, 16u};

const struct fr_levels *fr_levels_in_tests;

static uint64_t xcr0(void)
{
	uint32_t lo, hi;

	__asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
	return (uint64_t)hi << 32 | lo;
}

static int has(unsigned word, unsigned bits)
{
	return (word & bits) == bits;
}

static void read_words(struct fr_cpu_words *w)
{
	unsigned a, b, c, d;

	*w = (struct fr_cpu_words){0};
	if (!__get_cpuid(1, &a, &b, &w->c1, &d) || !has(w->c1, bit_OSXSAVE))
		return;
	w->xcr0 = xcr0();
	if (!__get_cpuid_count(7, 0, &a, &w->b7, &w->c7, &w->d7))
		return;
	if (a >= 1)
		__get_cpuid_count(7, 1, &w->a71, &b, &c, &d);
	__get_cpuid_count(0x1d, 1, &w->tile[0], &w->tile[1], &w->tile[2], &d);
}

/* The level of a processor of which the operating system saves these registers. */
static enum fr_level level_with(const struct fr_cpu_words *w, uint64_t saved)
{
	if (!has(w->c1, bit_OSXSAVE | bit_AVX | bit_FMA | bit_F16C) || !has(w->b7, bit_AVX2) ||
	    (saved & XCR0_YMM) != XCR0_YMM)
		return FR_LEVEL_REF;
	if (!has(w->b7, bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL) || (saved & XCR0_ZMM) != XCR0_ZMM)
		return FR_LEVEL_AVX2;
	if (!has(w->a71, bit_AVX512BF16) || !has(w->c7, bit_AVX512VNNI))
		return FR_LEVEL_AVX512;
	if (!has(w->d7, AMX_BITS) || memcmp(w->tile, palette_1, sizeof palette_1) != 0 ||
	    (saved & XCR0_TILE) != XCR0_TILE)
		return FR_LEVEL_AVX512BF16;
	return FR_LEVEL_AMX;
}

void fr_levels_of(const struct fr_cpu_words *w, int refused, struct fr_levels *out)
{
	char said[64];

	*out = (struct fr_levels){.has = level_with(w, ~0ull), .found = level_with(w, w->xcr0)};
	if (out->found < out->has)
		snprintf(out->why, sizeof out->why, "the operating system does not save its registers");
	if (out->found < FR_LEVEL_AMX || !refused)
		return;
	out->found = FR_LEVEL_AVX512BF16;
	snprintf(out->why, sizeof out->why, "the kernel refuses its tile registers (%s)",
		 strerror_r(refused, said, sizeof said));
}

void fr_levels_here(struct fr_levels *out)
{
	struct fr_cpu_words w;
	int refused = 0;

	if (fr_levels_in_tests) {
		*out = *fr_levels_in_tests;
		return;
	}
	read_words(&w);
	if (level_with(&w, w.xcr0) == FR_LEVEL_AMX &&
	    syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) != 0)
		refused = errno;
	fr_levels_of(&w, refused, out);
}

enum fr_level fr_level_found(void)
{
	struct fr_levels here;

	fr_levels_here(&here);
	return here.found;
}

/* "ref, avx2" into buf. */
static const char *level_list(enum fr_level top, char *buf, size_t size)
{
	size_t n = 0;

	buf[0] = 0;
	for (int i = 0; i <= (int)top && n < size; i++)
		n += (size_t)snprintf(buf + n, size - n, "%s%s", i ? ", " : "", fr_level_names[i]);
	return buf;
}

int fr_level_choose(const char *isa, const struct fr_levels *here, enum fr_level *out, struct fr_error *err)
{
	char all[64], list[64];
	int want = 0;

	*out = here->found;
	if (!isa)
		return 0;
	*out = FR_LEVEL_REF;
	if (!strcmp(isa, "cpu-ref"))
		return 0;
	while (want < FR_LEVELS && strcmp(isa, fr_level_names[want]))
		want++;
	level_list(here->found, list, sizeof list);
	if (want == FR_LEVELS)
		return fr_fail(err, FR_E_USAGE, "unknown instruction set \"%s\", expected one of %s", isa,
			       level_list(FR_LEVEL_AMX, all, sizeof all));
	if (want > (int)here->has)
		return fr_fail(err, FR_E_DEVICE, "this CPU has no %s, it has %s", isa, list);
	if (want > (int)here->found)
		return fr_fail(err, FR_E_DEVICE, "this CPU has %s, but %s; what can be used is %s", isa, here->why,
			       list);
	*out = (enum fr_level)want;
	return 0;
}

void fr_level_lowered(const struct fr_levels *here, char *buf, size_t size)
{
	buf[0] = 0;
	if (here->found < here->has)
		snprintf(buf, size, "this CPU has %s, but %s: %s is used", fr_level_names[here->has], here->why,
			 fr_level_names[here->found]);
}

/* The brand string of the CPU without its padding. */
static const char *cpu_name(char buf[49])
{
	unsigned w[12] = {0};
	char *p = buf;
	size_t n;

	for (unsigned i = 0; i < 3; i++)
		__get_cpuid(0x80000002u + i, &w[4 * i], &w[4 * i + 1], &w[4 * i + 2], &w[4 * i + 3]);
	memcpy(buf, w, 48);
	buf[48] = 0;
	while (*p == ' ')
		p++;
	n = strlen(p);
	while (n && p[n - 1] == ' ')
		p[--n] = 0;
	return n ? p : "x86-64 CPU";
}

int fr_machine(const char *isa, char *buf, size_t size)
{
	struct fr_levels here;
	enum fr_level used;
	struct fr_error err;
	char name[49], list[64], lowered[256];

	fr_levels_here(&here);
	level_list(here.found, list, sizeof list);
	if (fr_level_choose(isa, &here, &used, &err)) {
		snprintf(buf, size, "%s, levels %s; %s", cpu_name(name), list, err.text);
		return 0;
	}
	fr_level_lowered(&here, lowered, sizeof lowered);
	snprintf(buf, size, "%s, levels %s, in use %s%s%s%s", cpu_name(name), list, fr_level_names[used],
		 used > FR_LEVEL_AVX512 ? " (rounds activations to bf16; --isa avx512 or lower does not)" : "",
		 *lowered ? "; " : "", lowered);
	return 0;
}
