/* What this CPU can do: levels found by cpuid and xgetbv, chosen by name, and the one line that says so.
 *
 * An instruction set counts only if the operating system saves its registers. For AMX the kernel must know the tile
 * state too; the permission to use it is not asked for here, because that changes the process. */
#include "cpu.h"

#include <cpuid.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

const char *const fr_level_names[FR_LEVELS] = {"ref", "avx2", "avx512", "avx512bf16", "amx"};

/* The best level that has micro-kernels in this version, and the best that is taken without being asked for: avx512bf16
 * rounds activations, which moves p_fake (docs/SPEED.md has the figures). */
#define TOP FR_LEVEL_AVX512BF16
#define BEST FR_LEVEL_AVX512

#define XCR0_YMM 0x6u	   /* SSE and AVX state */
#define XCR0_ZMM 0xe6u	   /* and opmask, upper halves, upper 16 */
#define XCR0_TILE 0x60000u /* tile configuration and data */
#define ARCH_GET_XCOMP_SUPP 0x1021
#define AMX_BITS                                                                                                       \
	(1u << 22 | 1u << 24 | 1u << 25) /* bf16, tiles, int8 in edx of leaf 7; clang has no names for them            \
					  */

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

static int kernel_knows_tiles(void)
{
	uint64_t features = 0;

	return syscall(SYS_arch_prctl, ARCH_GET_XCOMP_SUPP, &features) == 0 && (features & XCR0_TILE) == XCR0_TILE;
}

enum fr_level fr_level_found(void)
{
	unsigned a, b1, c1, d1, b7, c7, d7, a71 = 0, b71, c71, d71;
	uint64_t os;

	if (!__get_cpuid(1, &a, &b1, &c1, &d1) || !has(c1, bit_OSXSAVE) || !__get_cpuid_count(7, 0, &a, &b7, &c7, &d7))
		return FR_LEVEL_REF;
	if (a >= 1)
		__get_cpuid_count(7, 1, &a71, &b71, &c71, &d71);
	os = xcr0();
	if (!has(c1, bit_AVX | bit_FMA | bit_F16C) || !has(b7, bit_AVX2) || (os & XCR0_YMM) != XCR0_YMM)
		return FR_LEVEL_REF;
	if (!has(b7, bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL) || (os & XCR0_ZMM) != XCR0_ZMM)
		return FR_LEVEL_AVX2;
	if (!has(a71, bit_AVX512BF16) || !has(c7, bit_AVX512VNNI))
		return FR_LEVEL_AVX512;
	if (!has(d7, AMX_BITS) || (os & XCR0_TILE) != XCR0_TILE || !kernel_knows_tiles())
		return FR_LEVEL_AVX512BF16;
	return FR_LEVEL_AMX;
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

int fr_level_choose(const char *isa, enum fr_level found, enum fr_level *out, struct fr_error *err)
{
	enum fr_level usable = found < TOP ? found : TOP;
	char all[64], here[64];
	int want = 0;

	*out = found < BEST ? found : BEST;
	if (!isa)
		return 0;
	*out = FR_LEVEL_REF;
	if (!strcmp(isa, "cpu-ref"))
		return 0;
	while (want < FR_LEVELS && strcmp(isa, fr_level_names[want]))
		want++;
	if (want == FR_LEVELS)
		return fr_fail(err, FR_E_USAGE, "unknown instruction set \"%s\", expected one of %s", isa,
			       level_list(FR_LEVEL_AMX, all, sizeof all));
	if (want > (int)found)
		return fr_fail(err, FR_E_DEVICE, "this CPU has no %s, it has %s", isa,
			       level_list(found, here, sizeof here));
	if (want > (int)TOP)
		return fr_fail(err, FR_E_DEVICE,
			       "this CPU has %s, but this version has no kernels for it yet; it has %s", isa,
			       level_list(usable, here, sizeof here));
	*out = (enum fr_level)want;
	return 0;
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

int fr_machine(char *buf, size_t size)
{
	enum fr_level found = fr_level_found(), used;
	char name[49], list[64];

	fr_level_choose(NULL, found, &used, NULL);
	snprintf(buf, size, "%s, levels %s, in use %s%s", cpu_name(name), level_list(found, list, sizeof list),
		 fr_level_names[used], found > BEST ? " (--isa avx512bf16 is faster and rounds activations)" : "");
	return 0;
}
