/* Decoding and executing tile instructions out of a SIGILL handler (tile_host.h).
 *
 * The kernel has saved the interrupted code's registers, vector registers included, in the signal frame and skipped its
 * red zone, so that the handler may use what it likes and writes back only the instruction pointer. */
#include "tile_host.h"

#include "../../kernels/cpu/cpu.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define ARCH_GET_FS 0x1003
#define CONFIG_BYTES 64

static _Thread_local struct tile_state mine;
static int departs;

enum prefix { NP, P66, F3, F2 }; /* VEX.pp */
enum form { MEMORY, STRIDED, ALONE, ONE, THREE };

struct call;
struct kind {
	uint8_t opcode;
	enum prefix prefix;
	enum form form;
	const char *name;
	void (*execute)(const struct call *c);
};
struct call {
	const struct kind *kind;
	const uint8_t *at; /* its first byte */
	uint8_t *memory;   /* MEMORY and STRIDED */
	ptrdiff_t stride;
	int reg, rm, v; /* tiles */
};

/* ---- what the manual answers with an exception --------------------------------------------------------------------
 */

__attribute__((noreturn, format(printf, 2, 3))) static void fail(const struct call *c, const char *format, ...)
{
	char line[512];
	va_list args;
	int n = snprintf(line, sizeof line, "FAIL tile_host: %s at %p: ", c->kind->name, (const void *)c->at);

	va_start(args, format);
	n += vsnprintf(line + n, sizeof line - (size_t)n - 1, format, args);
	va_end(args);
	n = n < (int)sizeof line - 1 ? n : (int)sizeof line - 2;
	line[n++] = '\n';
	fflush(stdout);
	_exit(write(STDOUT_FILENO, line, (size_t)n) == n ? 1 : 2);
}

static void want_configured(const struct call *c)
{
	if (!mine.configured)
		fail(c, "the thread's tiles are not configured%s",
		     mine.released ? " any more: they were released" : "");
}

static struct tile *take(const struct call *c, int i)
{
	want_configured(c);
	if (!mine.tile[i].rows)
		fail(c, "tile %d has no rows in the configuration", i);
	return &mine.tile[i];
}

/* ---- the instructions ---------------------------------------------------------------------------------------------
 */

static void ldtilecfg(const struct call *c)
{
	uint8_t config[CONFIG_BYTES];
	struct tile_state next = {.executed = mine.executed, .configured = 1};

	memcpy(config, c->memory, sizeof config);
	if (config[0] > 1)
		fail(c, "palette %d, expected 0 or 1", config[0]);
	if (config[0] == 0) {
		mine = (struct tile_state){.executed = mine.executed, .released = mine.configured};
		return;
	}
	if (config[1])
		fail(c, "start_row %d: only a restarted instruction has one", config[1]);
	for (int i = 2; i < CONFIG_BYTES; i++)
		if (config[i] && (i < 16 || (i >= 16 + 2 * TILES && i < 48) || i >= 48 + TILES))
			fail(c, "byte %d of the configuration is %d, expected 0: it is reserved", i, config[i]);
	for (int i = 0; i < TILES; i++) {
		struct tile *t = &next.tile[i];

		t->colsb = config[16 + 2 * i] | config[17 + 2 * i] << 8;
		t->rows = config[48 + i];
		if (t->colsb > TILE_MAX_BYTES || t->rows > TILE_MAX_ROWS || !t->colsb != !t->rows)
			fail(c, "tile %d of %d rows of %d bytes, expected at most %d of %d, or neither", i, t->rows,
			     t->colsb, TILE_MAX_ROWS, TILE_MAX_BYTES);
	}
	mine = next;
}

static void sttilecfg(const struct call *c)
{
	uint8_t config[CONFIG_BYTES] = {0};

	config[0] = (uint8_t)mine.configured;
	for (int i = 0; i < TILES && mine.configured; i++) {
		config[16 + 2 * i] = (uint8_t)mine.tile[i].colsb;
		config[48 + i] = (uint8_t)mine.tile[i].rows;
	}
	memcpy(c->memory, config, sizeof config);
}

static void tilerelease(const struct call *c)
{
	(void)c;
	mine = (struct tile_state){.executed = mine.executed, .released = 1};
}

static void tilezero(const struct call *c)
{
	struct tile *t = take(c, c->reg);

	memset(t->row, 0, sizeof t->row);
}

static void tileload(const struct call *c)
{
	struct tile *t = take(c, c->reg);

	memset(t->row, 0, sizeof t->row);
	for (int i = 0; i < t->rows; i++)
		memcpy(t->row[i], c->memory + i * c->stride, (size_t)t->colsb);
}

static void tilestore(const struct call *c)
{
	const struct tile *t = take(c, c->reg);

	for (int i = 0; i < t->rows; i++)
		memcpy(c->memory + i * c->stride, t->row[i], (size_t)t->colsb);
}

/* c [m, n] += a [m, k] * b [k, n]; what lies outside of c's shape becomes zero. */
static void multiply(const struct call *call)
{
	struct tile *c = take(call, call->reg), *a = take(call, call->rm), *b = take(call, call->v), kept;
	const int sort = call->kind->prefix;

	if (c == a || c == b || a == b)
		fail(call, "tiles %d, %d, %d, expected three different ones", call->reg, call->rm, call->v);
	if (c->colsb % 4 || a->colsb % 4 || b->colsb % 4)
		fail(call, "rows of %d, %d, %d bytes, expected multiples of 4", c->colsb, a->colsb, b->colsb);
	if (c->rows != a->rows || c->colsb != b->colsb || a->colsb / 4 != b->rows)
		fail(call, "tiles of %d x %d, %d x %d, %d x %d bytes, which do not go together", c->rows, c->colsb,
		     a->rows, a->colsb, b->rows, b->colsb);
	kept = *c;
	if (call->kind->opcode == 0x5c)
		tile_host_bf16(&kept, a, b, departs);
	else
		tile_host_int8(&kept, a, b, sort == F2 || sort == F3, sort == F2 || sort == P66);
	memset(c->row, 0, sizeof c->row);
	for (int i = 0; i < c->rows; i++)
		memcpy(c->row[i], kept.row[i], (size_t)c->colsb);
}

static const struct kind kinds[] = {
	{0x49, NP, MEMORY, "ldtilecfg", ldtilecfg},    {0x49, P66, MEMORY, "sttilecfg", sttilecfg},
	{0x49, NP, ALONE, "tilerelease", tilerelease}, {0x49, F2, ONE, "tilezero", tilezero},
	{0x4b, F2, STRIDED, "tileloadd", tileload},    {0x4b, P66, STRIDED, "tileloaddt1", tileload},
	{0x4b, F3, STRIDED, "tilestored", tilestore},  {0x5c, F3, THREE, "tdpbf16ps", multiply},
	{0x5e, F2, THREE, "tdpbssd", multiply},	       {0x5e, F3, THREE, "tdpbsud", multiply},
	{0x5e, P66, THREE, "tdpbusd", multiply},       {0x5e, NP, THREE, "tdpbuud", multiply},
};

/* ---- decoding -----------------------------------------------------------------------------------------------------
 */

static uint64_t reg(const greg_t *r, int i)
{
	static const uint8_t places[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
					   REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

	return (uint64_t)r[places[i]];
}

static int32_t int32_at(const uint8_t *p)
{
	int32_t v;

	memcpy(&v, p, sizeof v);
	return v;
}

/* The address of ModRM at p, with the index as the stride where the instruction has one; returns the byte behind it.
 * high: bits of VEX that extend the base (1) and the index (2). */
static const uint8_t *address(const uint8_t *p, const greg_t *r, int high, uint64_t segment, struct call *c)
{
	const int mod = p[0] >> 6, rm = p[0] & 7;
	uint64_t at = segment;
	int64_t index = 0;
	int base = rm | (high & 1) << 3;

	p++;
	if (rm == 4) {
		const int i = (p[0] >> 3 & 7) | (high & 2) << 2;

		base = (p[0] & 7) | (high & 1) << 3;
		index = i == 4 ? 0 : (int64_t)(reg(r, i) << (p[0] >> 6));
		p++;
	}
	if (mod == 0 &&
	    (base & 7) == 5) { /* no base: with SIB the number alone, without it from the next instruction */
		at += (uint64_t)(int64_t)int32_at(p) + (rm == 4 ? 0 : (uint64_t)(uintptr_t)(p + 4));
		p += 4;
	} else {
		at += reg(r, base);
		if (mod == 1)
			at += (uint64_t)(int64_t)(int8_t)*p++;
		if (mod == 2) {
			at += (uint64_t)(int64_t)int32_at(p);
			p += 4;
		}
	}
	if (c->kind->form == MEMORY)
		at += (uint64_t)index;
	c->stride = (ptrdiff_t)index;
	c->memory = (uint8_t *)(uintptr_t)at;
	return p;
}

static int fits(const struct kind *k, uint8_t modrm, int v)
{
	const int r = modrm >> 3 & 7, memory = modrm < 0xc0;

	if (k->form == THREE)
		return !memory && v < TILES;
	if (v)
		return 0;
	if (k->form == MEMORY)
		return memory && r == 0;
	if (k->form == STRIDED)
		return memory && (modrm & 7) == 4;
	return k->form == ALONE ? modrm == 0xc0 : !memory && (modrm & 7) == 0;
}

/* The instruction at p into *c; returns the byte behind it, or NULL where it is none of the tile unit. */
static const uint8_t *decode(const uint8_t *p, const greg_t *r, struct call *c)
{
	uint64_t segment = 0;
	uint8_t high, rest;

	*c = (struct call){.at = p};
	if (*p == 0x64) { /* %fs: a configuration that is the thread's own */
		if (syscall(SYS_arch_prctl, ARCH_GET_FS, &segment))
			return NULL;
		p++;
	}
	if (p[0] != 0xc4 || (p[1] & 0x9f) != 0x82 ||
	    p[2] & 0x84) /* VEX of map 0F38; W, L and the first register's 8 off */
		return NULL;
	high = (uint8_t)(~p[1] >> 5 & 3); /* bit 0 of the base (VEX.B), bit 1 of the index (VEX.X) */
	rest = p[2];
	c->v = ~rest >> 3 & 15;
	c->reg = p[4] >> 3 & 7;
	c->rm = p[4] & 7;
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds && !c->kind; i++)
		if (kinds[i].opcode == p[3] && (int)kinds[i].prefix == (rest & 3) && fits(&kinds[i], p[4], c->v))
			c->kind = &kinds[i];
	if (!c->kind || (p[4] >= 0xc0 && high))
		return NULL;
	return p[4] < 0xc0 ? address(p + 4, r, high, segment, c) : p + 5;
}

static void on_illegal(int sig, siginfo_t *info, void *context)
{
	greg_t *r = ((ucontext_t *)context)->uc_mcontext.gregs;
	struct call c;
	const uint8_t *next = decode((const uint8_t *)(uintptr_t)r[REG_RIP], r, &c);

	(void)info;
	if (!next) { /* comes again, and ends the program */
		signal(sig, SIG_DFL);
		return;
	}
	mine.executed++;
	c.kind->execute(&c);
	r[REG_RIP] = (greg_t)(uintptr_t)next;
}

/* ---- putting it in place ------------------------------------------------------------------------------------------
 */

int tile_host_software(void)
{
	struct sigaction ill = {.sa_sigaction = on_illegal, .sa_flags = SA_SIGINFO | SA_NODEFER};

	static const struct fr_levels with_tiles = {.has = FR_LEVEL_AMX, .found = FR_LEVEL_AMX};

	if (!__builtin_cpu_supports("avx512bf16") || !__builtin_cpu_supports("avx512vnni") ||
	    sigaction(SIGILL, &ill, NULL))
		return -1;
	fr_levels_in_tests = &with_tiles;
	return 0;
}

void tile_host_remove(void)
{
	signal(SIGILL, SIG_DFL);
	fr_levels_in_tests = NULL;
}

int tile_host_install(void)
{
	if (fr_level_found() == FR_LEVEL_AMX)
		return 0;
	return tile_host_software() ? -1 : 1;
}

void tile_host_depart(int how)
{
	departs = how;
}

const struct tile_state *tile_host_mine(void)
{
	return &mine;
}
