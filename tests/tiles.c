/* The tile unit, instruction by instruction, against values computed here: in software (tests/tile_host), and once more
 * on the real one where this machine has it. Every form of address, shapes of every kind, numbers that rounding and
 * subnormals are about, what an interrupted program expects to keep, threads; and in software each misuse, which must
 * end the program with a sentence. */
#include "tile_host/tile_host.h"
#include "../kernels/cpu/cpu.h"
#include "../kernels/tiles.h"
#include "test.h"

#include <immintrin.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define K 32 /* bf16 values of a row of 64 bytes */

struct config {
	uint8_t palette, start_row, reserved[14];
	uint16_t colsb[16];
	uint8_t rows[16];
} __attribute__((aligned(64)));

static const char *unit; /* "software", "real" */
static const struct config full = {
	.palette = 1, .colsb = {64, 64, 64, 64, 64, 64, 64, 64}, .rows = {16, 16, 16, 16, 16, 16, 16, 16}};

static const char *label(const char *what)
{
	static _Thread_local char name[128];

	snprintf(name, sizeof name, "exact/tiles/%s/%s", unit, what);
	return name;
}

static uint32_t lot(uint64_t *s)
{
	*s = *s * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(*s >> 32);
}

static void fill(void *p, size_t n, uint64_t seed)
{
	for (size_t i = 0; i < n; i++)
		((uint8_t *)p)[i] = (uint8_t)lot(&seed);
}

/* GCC 12 takes a configuration and what lies behind a tile's address for unread. */
#define barrier() __asm__ volatile("" ::: "memory")

static void configure(const struct config *c)
{
	barrier();
	_tile_loadconfig(c);
}

/* ---- configuration ------------------------------------------------------------------------------------------------
 */

static void check_config(void)
{
	struct config some = {.palette = 1, .colsb = {64, 4, 36, [7] = 12}, .rows = {16, 1, 9, [7] = 3}}, got;
	const struct config none = {0};
	uint8_t c[16][64], want[16][64] = {{0}};

	memset(&got, 0xee, sizeof got);
	_tile_storeconfig(&got);
	barrier();
	CHECK(label("config/at-first"), !memcmp(&got, &none, sizeof got), "not zero");
	configure(&some);
	_tile_storeconfig(&got);
	barrier();
	CHECK(label("config/as-given"), !memcmp(&got, &some, sizeof got), "another one comes back");
	fill(c, sizeof c, 1);
	barrier();
	_tile_loadd(0, c, 64);
	configure(&some); /* zeroes the data */
	_tile_stored(0, c, 64);
	barrier();
	CHECK(label("config/zeroes"), !memcmp(c, want, sizeof c), "data outlives a configuration");
	_tile_release();
	_tile_storeconfig(&got);
	barrier();
	CHECK(label("config/released"), !memcmp(&got, &none, sizeof got), "not zero");
	configure(&some);
	configure(&none);
	_tile_storeconfig(&got);
	barrier();
	CHECK(label("config/palette-0"), !memcmp(&got, &none, sizeof got), "not zero");
}

/* Loads and stores of a part of a tile touch that part alone, at any stride. */
static void check_shapes(void)
{
	static const struct {
		uint8_t rows, colsb;
		int stride;
	} shapes[] = {{16, 64, 64}, {5, 12, 100}, {1, 1, 0}, {16, 3, 3}, {7, 64, 4096}, {9, 20, -70}, {16, 64, -64}};
	static uint8_t from[40000], to[40000], want[40000];
	int bad = 0;

	for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
		struct config c = {.palette = 1, .colsb = {[3] = shapes[i].colsb}, .rows = {[3] = shapes[i].rows}};
		const int stride = shapes[i].stride, at = stride < 0 ? 20000 : 7;

		fill(from, sizeof from, i);
		fill(to, sizeof to, i + 50);
		memcpy(want, to, sizeof to);
		for (int r = 0; r < shapes[i].rows; r++)
			memcpy(want + at + r * stride, from + at + r * stride, shapes[i].colsb);
		configure(&c);
		_tile_loadd(3, from + at, stride);
		_tile_stored(3, to + at, stride);
		barrier();
		bad += memcmp(to, want, sizeof to) != 0;
		_tile_zero(3);
		_tile_stored(3, to + at, stride);
		barrier();
		for (int r = 0; r < shapes[i].rows; r++)
			memset(want + at + r * stride, 0, shapes[i].colsb);
		bad += memcmp(to, want, sizeof to) != 0;
	}
	_tile_release();
	CHECK(label("shapes"), !bad, "%d of 14 stores differ", bad);
}

/* ---- addresses ----------------------------------------------------------------------------------------------------
 */

/* Named in assembly, by the names they have here. */
static __attribute__((used)) uint64_t form_base, form_index;
static __attribute__((used)) struct config in_text = {.palette = 1, .colsb = {64, 64}, .rows = {16, 2}};
static _Thread_local __attribute__((used)) struct config of_thread = {.palette = 1, .colsb = {64, 64}, .rows = {16, 3}};

#define LOW 0x10000000 /* an address that fits a displacement */
#define EVERY "rax", "rcx", "rdx", "rbx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "memory"
/* Loads tile 1 by `form` with the address in the registers given, then looks at what came. */
#define FORM(form, base, base_value, index, index_value)                                                               \
	do {                                                                                                           \
		memset(got, 0xee, sizeof got);                                                                         \
		form_base = (uint64_t)(base_value);                                                                    \
		form_index = index_value;                                                                              \
		__asm__ volatile("mov form_base(%%rip), %%" base "\n\tmov form_index(%%rip), %%" index "\n\t"          \
				 "tileloadd " form ", %%tmm1" ::                                                       \
					 : EVERY);                                                                     \
		_tile_stored(1, got, 64);                                                                              \
		barrier();                                                                                             \
		CHECK(label("address/" form), !memcmp(got, memory, sizeof got), "other bytes");                        \
	} while (0)

static void check_addresses(void)
{
	static uint8_t memory[16][64], got[16][64];
	const uintptr_t at = (uintptr_t)memory, before = at - 100, far = at - 100000, behind = at + 128;
	const uint64_t line = 64, line2 = 32, line4 = 16, line8 = 8, zero = 0;
	uint8_t *low = mmap((void *)(uintptr_t)LOW, 4096, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	fill(memory, sizeof memory, 3);
	configure(&full);
	FORM("(%%rax,%%rcx,1)", "rax", at, "rcx", line);
	FORM("(%%rdx,%%rbx,2)", "rdx", at, "rbx", line2);
	FORM("(%%rsi,%%rdi,4)", "rsi", at, "rdi", line4);
	FORM("(%%r8,%%r9,8)", "r8", at, "r9", line8);
	FORM("(%%r10,%%r11,1)", "r10", at, "r11", line);
	FORM("(%%r12,%%r13,1)", "r12", at, "r13", line);
	FORM("(%%r13,%%r12,1)", "r13", at, "r12", line); /* this base needs a displacement */
	FORM("(%%r14,%%r15,2)", "r14", at, "r15", line2);
	FORM("100(%%rax,%%r9,1)", "rax", before, "r9", line);
	FORM("-128(%%r15,%%rax,1)", "r15", behind, "rax", line);
	FORM("100000(%%rbx,%%rsi,1)", "rbx", far, "rsi", line);
	FORM("100000(%%r11,%%r14,8)", "r11", far, "r14", line8);
	if (low == (void *)(uintptr_t)LOW) {
		memcpy(low, memory, sizeof memory);
		FORM("0x10000000(,%%rdx,1)", "rax", at, "rdx", line);
		FORM("0x10000000(,%%r12,4)", "rax", at, "r12", line4);
		munmap(low, 4096);
	}
	for (int i = 1; i < 16; i++)
		memcpy(memory[i], memory[0], 64);
	FORM("(%%rax)", "rax", at, "rcx", zero); /* no index: every row the same */
	FORM("100(%%r12)", "r12", before, "rcx", zero);
	_tile_release();
}

/* Through the stack's own registers, and the addresses that only a configuration can have. */
static void check_addresses_of_frames(void)
{
	static uint8_t stack[1 << 17]; /* signals arrive below what is loaded */
	uint8_t got[3][16][64], *at = stack + sizeof stack - 4096;
	const int64_t line = 64;
	struct config by[5];
	int bad = 0;

	fill(at, 1024, 4);
	configure(&full);
	barrier();
	__asm__ volatile("push %%rbp\n\tmov %%rsp, %%r15\n\tmov %0, %%rbp\n\tmov %0, %%rsp\n\t"
			 "tileloadd (%%rsp,%1,1), %%tmm1\n\ttileloadd (%%rbp,%1,1), %%tmm2\n\t"
			 "tileloadd 64(%%rsp,%1,1), %%tmm3\n\t"
			 "mov %%r15, %%rsp\n\tpop %%rbp"
			 :
			 : "r"(at), "r"(line)
			 : "r15", "memory");
	_tile_stored(1, got[0], 64);
	_tile_stored(2, got[1], 64);
	_tile_stored(3, got[2], 64);
	barrier();
	for (int i = 0; i < 2; i++)
		bad += memcmp(got[i], at, sizeof got[i]) != 0;
	bad += memcmp(got[2], at + 64, 15 * 64) != 0;
	CHECK(label("address/rsp-rbp"), !bad, "%d of 3 loads have other bytes", bad);
	memset(by, 0xee, sizeof by);
	__asm__ volatile("ldtilecfg in_text(%%rip)\n\tsttilecfg (%0)\n\t"
			 "ldtilecfg %%fs:of_thread@tpoff\n\tsttilecfg 64(%0)\n\t"
			 "ldtilecfg (%1)\n\tsttilecfg 64(%0,%2,1)\n\t"
			 "ldtilecfg -64(%3,%2,1)\n\tsttilecfg 128(%0,%2)\n\tsttilecfg 256(%0)"
			 :
			 : "r"(by), "r"(&in_text), "r"(line), "r"(&full)
			 : "memory");
	CHECK(label("address/config"),
	      !memcmp(by, &in_text, 64) && !memcmp(by + 1, &of_thread, 64) && !memcmp(by + 2, &in_text, 64) &&
		      !memcmp(by + 3, &full, 64) && !memcmp(by + 4, &full, 64),
	      "other configurations");
	_tile_release();
}

/* ---- products -----------------------------------------------------------------------------------------------------
 */

/* Kinds of bf16 values: plain, small, subnormal, near overflow, any bits, with infinities and NaN. */
static uint16_t some_bf16(int kind, uint64_t *s)
{
	static const struct {
		uint32_t least, range;
	} kinds[] = {{120, 14}, {60, 10}, {0, 3}, {180, 20}, {0, 254}, {0, 256}};
	const uint32_t u = lot(s);

	return (uint16_t)((u & 0x807f) | (kinds[kind].least + lot(s) % kinds[kind].range) << 7);
}

static float some_f32(int kind, uint64_t *s)
{
	return fr_bits_f32((uint32_t)some_bf16(kind, s) << 16 | (lot(s) & 0xffff));
}

static int same(float a, float b)
{
	return fr_f32_bits(a) == fr_f32_bits(b) || (isnan(a) && isnan(b));
}

struct operands {
	uint16_t a[16][K], b[16][2 * 16]; /* b: pairs along k */
	float c[16][16], want[16][16];
	int m, n, pairs;
};

static void make_operands(struct operands *o, int i, uint64_t *s)
{
	const int kind_a = i % 6, kind_b = i / 6 % 6, kind_c = i / 36 % 6;

	o->m = i % 3 ? 16 : 1 + (int)(lot(s) % 16);
	o->n = i % 3 ? 16 : 1 + (int)(lot(s) % 16);
	o->pairs = i % 3 ? 16 : 1 + (int)(lot(s) % 16);
	for (int r = 0; r < 16; r++)
		for (int k = 0; k < K; k++) {
			o->a[r][k] = some_bf16(kind_a, s);
			o->b[r][k] = some_bf16(kind_b, s);
			if (k >= K / 2 && i % 2) /* half of the sum nearly cancels the other */
				o->a[r][k] = o->a[r][k - K / 2] ^ 0x8000;
			o->c[r][k / 2] = i % 4 ? some_f32(kind_c, s) : 0;
		}
	memcpy(o->want, o->c, sizeof o->c);
	for (int m = 0; m < o->m; m++)
		for (int n = 0; n < o->n; n++) {
			float x[K], w[K];

			for (int k = 0; k < 2 * o->pairs; k++) {
				x[k] = fr_bf16_f32(o->a[m][k]);
				w[k] = fr_bf16_f32(o->b[k / 2][2 * n + k % 2]);
			}
			o->want[m][n] = fr_tile_add(o->c[m][n], x, w, 2 * o->pairs);
		}
}

static int products_differ(const struct operands *o, const float got[16][16])
{
	for (int m = 0; m < 16; m++)
		for (int n = 0; n < 16; n++)
			if (!same(got[m][n], o->want[m][n]))
				return 1;
	return 0;
}

/* Made with MXCSR as it is, multiplied with `mxcsr`, which the tile unit does not look at and keeps. */
static int bf16_products(int n, uint64_t seed, unsigned mxcsr)
{
	const unsigned before = _mm_getcsr();
	struct operands o;
	float got[16][16];
	int bad = 0;

	for (int i = 0; i < n; i++) {
		struct config c = {.palette = 1};

		make_operands(&o, i, &seed);
		c.rows[0] = c.rows[7] = c.rows[1] = c.rows[6] = (uint8_t)o.m;
		c.colsb[0] = c.colsb[7] = c.colsb[2] = c.colsb[5] = (uint16_t)(4 * o.n);
		c.colsb[1] = c.colsb[6] = (uint16_t)(4 * o.pairs);
		c.rows[2] = c.rows[5] = (uint8_t)o.pairs;
		memcpy(got, o.c, sizeof got);
		_mm_setcsr(mxcsr);
		configure(&c);
		if (i & 1) {
			_tile_loadd(0, got, 64);
			_tile_loadd(1, o.a, 64);
			_tile_stream_loadd(2, o.b, 64);
			_tile_dpbf16ps(0, 1, 2);
			_tile_stored(0, got, 64);
		} else {
			_tile_loadd(7, got, 64);
			_tile_stream_loadd(6, o.a, 64);
			_tile_loadd(5, o.b, 64);
			_tile_dpbf16ps(7, 6, 5);
			_tile_stored(7, got, 64);
		}
		barrier();
		_tile_release();
		bad += products_differ(&o, got) || _mm_getcsr() != mxcsr;
		_mm_setcsr(before);
	}
	return bad;
}

static void check_bf16(void)
{
	int bad = bf16_products(432, 1, _mm_getcsr());

	CHECK(label("tdpbf16ps"), !bad, "%d of 432 products differ", bad);
	bad = bf16_products(72, 9, 0x7f80); /* towards zero, subnormals kept */
	CHECK(label("tdpbf16ps/mxcsr"), !bad, "%d of 72 products differ or change MXCSR", bad);
}

static int32_t int8_sum(int32_t c, const uint8_t *a, const uint8_t *b, int a_signed, int b_signed)
{
	int64_t sum = c;

	for (int i = 0; i < 4; i++)
		sum += (a_signed ? (int8_t)a[i] : (int)a[i]) * (b_signed ? (int8_t)b[i] : (int)b[i]);
	return (int32_t)(uint32_t)(uint64_t)sum;
}

static void check_int8(void)
{
	static const char *const names[] = {"tdpbssd", "tdpbsud", "tdpbusd", "tdpbuud"};
	const struct config shape = {.palette = 1, .colsb = {36, 40, 36}, .rows = {7, 7, 10}};
	uint8_t a[16][64], b[16][64];
	int32_t c[16][16], want[16][16];

	for (int sort = 0; sort < 4; sort++) {
		fill(a, sizeof a, (uint64_t)sort);
		fill(b, sizeof b, (uint64_t)sort + 10);
		fill(c, sizeof c, (uint64_t)sort + 20);
		memset(a[3], 0x80, 64);
		c[1][1] = 0x7fffffff; /* sums wrap */
		memcpy(want, c, sizeof c);
		for (int m = 0; m < 7; m++)
			for (int n = 0; n < 9; n++)
				for (int k = 0; k < 10; k++)
					want[m][n] = int8_sum(want[m][n], a[m] + 4 * k, b[k] + 4 * n, sort < 2,
							      sort % 2 == 0);
		configure(&shape);
		_tile_loadd(0, c, 64);
		_tile_loadd(1, a, 64);
		_tile_loadd(2, b, 64);
		if (sort == 0)
			_tile_dpbssd(0, 1, 2);
		else if (sort == 1)
			_tile_dpbsud(0, 1, 2);
		else if (sort == 2)
			_tile_dpbusd(0, 1, 2);
		else
			_tile_dpbuud(0, 1, 2);
		_tile_stored(0, c, 64);
		barrier();
		CHECK(label(names[sort]), !memcmp(c, want, sizeof c), "other sums");
	}
	_tile_release();
}

/* ---- what the interrupted program keeps ---------------------------------------------------------------------------
 */

/* A leaf's data below the stack pointer, and its flags. Returns 1 when both are as they were. */
int red_zone_holds(void);
__asm__(".text\n.type red_zone_holds, @function\nred_zone_holds:\n"
	"\tmovabs $0x123456789abcdef0, %rax\n\tmov %rax, -8(%rsp)\n\tmov %rax, -128(%rsp)\n"
	"\tstc\n\ttilezero %tmm1\n\tsetc %cl\n"
	"\tcmp %rax, -8(%rsp)\n\tjne 1f\n\tcmp %rax, -128(%rsp)\n\tjne 1f\n"
	"\tmovzbl %cl, %eax\n\tret\n1:\txor %eax, %eax\n\tret\n.size red_zone_holds, . - red_zone_holds\n");

static void check_kept(void)
{
	uint8_t in[4][64], out[4][64];
	uint64_t masks[2] = {0x0123456789abcdefu, 0xfedcba9876543210u}, kept[2] = {0, 0};

	configure(&full);
	CHECK(label("kept/red-zone-and-flags"), red_zone_holds() == 1, "lost");
	fill(in, sizeof in, 8);
	memset(out, 0, sizeof out);
	__asm__ volatile("vmovdqu64 (%0), %%zmm0\n\tvmovdqu64 64(%0), %%zmm15\n\tvmovdqu64 128(%0), %%zmm16\n\t"
			 "vmovdqu64 192(%0), %%zmm31\n\tkmovq (%2), %%k1\n\tkmovq 8(%2), %%k7\n\t"
			 "tilezero %%tmm0\n\ttdpbf16ps %%tmm2, %%tmm1, %%tmm0\n\t"
			 "vmovdqu64 %%zmm0, (%1)\n\tvmovdqu64 %%zmm15, 64(%1)\n\tvmovdqu64 %%zmm16, 128(%1)\n\t"
			 "vmovdqu64 %%zmm31, 192(%1)\n\tkmovq %%k1, (%3)\n\tkmovq %%k7, 8(%3)"
			 :
			 : "r"(in), "r"(out), "r"(masks), "r"(kept)
			 : "xmm0", "xmm15", "memory");
	CHECK(label("kept/vector-registers"), !memcmp(in, out, sizeof in) && !memcmp(masks, kept, sizeof masks),
	      "lost");
	_tile_release();
}

/* ---- threads ------------------------------------------------------------------------------------------------------
 */

static void *worker(void *arg)
{
	struct config at_first;

	_tile_storeconfig(&at_first);
	barrier();
	*(int *)arg = at_first.palette ? 1000 : bf16_products(100, (uint64_t)(uintptr_t)arg, _mm_getcsr());
	return NULL;
}

static void check_threads(void)
{
	pthread_t thread[3];
	int bad[3] = {0}, n = 0;

	configure(&full);
	while (n < 3 && pthread_create(&thread[n], NULL, worker, &bad[n]) == 0)
		n++;
	for (int i = 0; i < n; i++)
		pthread_join(thread[i], NULL);
	CHECK(label("threads"), n == 3 && !bad[0] && !bad[1] && !bad[2],
	      "%d threads, %d, %d, %d of 100 products differ (1000: begun with another's configuration)", n, bad[0],
	      bad[1], bad[2]);
	_tile_release();
}

/* ---- misuse -------------------------------------------------------------------------------------------------------
 */

static void bad_palette(void)
{
	configure(&(struct config){.palette = 2});
}
static void bad_reserved(void)
{
	configure(&(struct config){.palette = 1, .reserved = {[13] = 1}});
}
static void bad_ninth_tile(void)
{
	configure(&(struct config){.palette = 1, .colsb = {[8] = 64}, .rows = {[8] = 16}});
}
static void bad_rows(void)
{
	configure(&(struct config){.palette = 1, .colsb = {64}, .rows = {17}});
}
static void bad_bytes(void)
{
	configure(&(struct config){.palette = 1, .colsb = {128}, .rows = {16}});
}
static void bad_no_rows(void)
{
	configure(&(struct config){.palette = 1, .colsb = {64}});
}
static void bad_early(void)
{
	_tile_zero(0);
}
static void bad_late(void)
{
	configure(&full);
	_tile_release();
	_tile_stored(0, &in_text, 0);
}
static void bad_tile(void)
{
	configure(&in_text);
	_tile_zero(5);
}
static void bad_shapes(void)
{
	configure(&(struct config){.palette = 1, .colsb = {64, 64, 64}, .rows = {16, 16, 15}});
	_tile_dpbf16ps(0, 1, 2);
}
static void bad_columns(void)
{
	configure(&(struct config){.palette = 1, .colsb = {62, 64, 62}, .rows = {16, 16, 16}});
	_tile_dpbssd(0, 1, 2);
}
static void bad_twice(void)
{
	configure(&full);
	__asm__ volatile(".byte 0xc4, 0xe2, 0x72, 0x5c, 0xc1"); /* tdpbf16ps tmm0, tmm1, tmm1: no assembler writes it */
}

static const struct {
	const char *name, *instruction, *says;
	void (*run)(void);
} misuses[] = {
	{"palette", "ldtilecfg", "palette 2, expected 0 or 1", bad_palette},
	{"reserved", "ldtilecfg", "byte 15 of the configuration is 1", bad_reserved},
	{"ninth-tile", "ldtilecfg", "byte 32 of the configuration is 64", bad_ninth_tile},
	{"rows", "ldtilecfg", "tile 0 of 17 rows of 64 bytes", bad_rows},
	{"bytes", "ldtilecfg", "tile 0 of 16 rows of 128 bytes", bad_bytes},
	{"no-rows", "ldtilecfg", "tile 0 of 0 rows of 64 bytes", bad_no_rows},
	{"not-configured", "tilezero", "the thread's tiles are not configured\n", bad_early},
	{"released", "tilestored", "not configured any more: they were released", bad_late},
	{"tile-without-rows", "tilezero", "tile 5 has no rows in the configuration", bad_tile},
	{"shapes", "tdpbf16ps", "16 x 64, 16 x 64, 15 x 64 bytes, which do not go together", bad_shapes},
	{"columns", "tdpbssd", "rows of 62, 64, 62 bytes, expected multiples of 4", bad_columns},
	{"twice", "tdpbf16ps", "tiles 0, 1, 1, expected three different ones", bad_twice},
};

static void check_misuse(size_t i)
{
	char said[1024] = "", name[64], begins[64];
	int ends[2], status = 0;
	ssize_t n = 0;
	pid_t child;

	snprintf(name, sizeof name, "misuse/%s", misuses[i].name);
	snprintf(begins, sizeof begins, "FAIL tile_host: %s at 0x", misuses[i].instruction);
	fflush(stdout);
	if (pipe(ends) || (child = fork()) < 0) {
		test_fail(label(name), "no pipe or no process");
		return;
	}
	if (child == 0) {
		dup2(ends[1], STDOUT_FILENO);
		misuses[i].run();
		_exit(0);
	}
	close(ends[1]);
	while (n < (ssize_t)sizeof said - 1) {
		ssize_t more = read(ends[0], said + n, sizeof said - 1 - (size_t)n);

		if (more <= 0)
			break;
		n += more;
	}
	close(ends[0]);
	waitpid(child, &status, 0);
	CHECK(label(name),
	      WIFEXITED(status) && WEXITSTATUS(status) == 1 && strncmp(said, begins, strlen(begins)) == 0 &&
		      strstr(said, misuses[i].says),
	      "status %d: '%s'", status, said);
}

static void check_all(const char *which)
{
	unit = which;
	check_config();
	check_shapes();
	check_addresses();
	check_addresses_of_frames();
	check_bf16();
	check_int8();
	check_kept();
	check_threads();
}

/* A unit that gives other bits than the contract is seen when the device is opened, and named. */
static void check_other_bits(void)
{
	static const char *const names[] = {"amx", "amx+other", "amx+other"};
	struct fr_dev_opts opts = {.backend = "cpu", .isa = "amx", .threads = 1};
	char name[64];

	for (int how = 0; how < 3; how++) {
		struct fr_dev *dev;
		struct fr_error err;

		tile_host_depart(how);
		snprintf(name, sizeof name, "other-bits/%d", how);
		if (fr_dev_open(&opts, &dev, &err)) {
			test_fail(label(name), "%s", err.text);
			continue;
		}
		CHECK(label(name), strcmp(dev->isa, names[how]) == 0, "isa %s, expected %s", dev->isa, names[how]);
		dev->ops->close(dev);
	}
	tile_host_depart(0);
}

int main(void)
{
	if (tile_host_software()) {
		test_skip("exact/tiles/software", "this CPU lacks what the kernels around the tiles need");
	} else {
		const long before = tile_host_mine()->executed;

		unit = "software";
		for (size_t i = 0; i < sizeof misuses / sizeof *misuses; i++)
			check_misuse(i);
		check_all("software");
		check_other_bits();
		CHECK("exact/tiles/software/executed", tile_host_mine()->executed - before > 1000,
		      "%ld instructions came to the handler", tile_host_mine()->executed - before);
		tile_host_remove();
	}
	if (fr_level_found() == FR_LEVEL_AMX)
		check_all("real");
	else
		test_skip("exact/tiles/real", "this CPU has no tile unit, or its operating system keeps it");
	return test_done();
}
