/* The cpu instance: its levels, its state and its drivers (portable C around the micro-kernels of ukr.h). */
#ifndef FR_KERNELS_CPU_CPU_H
#define FR_KERNELS_CPU_CPU_H

#include "../host.h"
#include "../pool.h"
#include "ukr.h"

/* Bundles of instruction sets, each with the operating system's consent to its registers. A level includes
 * all below. */
enum fr_level { FR_LEVEL_REF, FR_LEVEL_AVX2, FR_LEVEL_AVX512, FR_LEVEL_AVX512BF16, FR_LEVEL_AMX, FR_LEVELS };
extern const char *const fr_level_names[FR_LEVELS];
/* What a machine says of itself: ecx of cpuid's leaf 1, ebx, ecx, edx of leaf 7 and eax of its subleaf 1, eax to ecx of
 * leaf 0x1d's subleaf 1, and the registers that its operating system saves. */
struct fr_cpu_words {
	uint32_t c1, b7, c7, d7, a71, tile[3];
	uint64_t xcr0;
};
struct fr_levels {
	enum fr_level has;   /* the processor alone */
	enum fr_level found; /* with its operating system; the highest that can run */
	char why[128];	     /* of found < has: what the operating system does not do for the level has, else "" */
};
/* refused: the errno with which the kernel answered who asked for tiles; 0: it permits them. */
void fr_levels_of(const struct fr_cpu_words *words, int refused, struct fr_levels *out);
/* This machine; asks its kernel for tiles where the processor has them. */
void fr_levels_here(struct fr_levels *out);
enum fr_level fr_level_found(void); /* fr_levels_here's found */
/* The level to use here: isa NULL means the best. "cpu-ref" is these drivers over the ref
 * micro-kernels (tests compare it with kernels/ref.c). */
int fr_level_choose(const char *isa, const struct fr_levels *here, enum fr_level *out, struct fr_error *err);
/* Into buf one sentence when the operating system keeps the best level from being used, else "". */
void fr_level_lowered(const struct fr_levels *here, char *buf, size_t size);
/* For tests alone: what this machine passes for. NULL: what it is. */
extern const struct fr_levels *fr_levels_in_tests;

/* unit.c: how many of some sums the bf16 instructions of a level give other bits than the contract; 0 also where it has
 * none. */
int fr_unit_differs(const struct fr_ukr *u);

struct fr_cpu {
	struct fr_host host;
	struct fr_ukr u;
	int terms; /* of x where bf16 weights are multiplied in pairs; 0: they are not */
	struct fr_pool *pool;
	float *a;	/* [FR_PACK_FLOATS] rows of a matrix product, packed once and shared by the workers */
	float *scratch; /* [threads, scratch_floats] */
	size_t scratch_floats;
};
/* Enough for FR_MAX_MR rows of FR_MAX_COLS in two types; 64 MiB, of which only what is used becomes real memory. */
#define FR_PACK_FLOATS ((size_t)2 * FR_MAX_MR * FR_MAX_COLS)
/* Rows whose sums a worker keeps at once. */
#define FR_ROW_BLOCK 768

static inline float *fr_cpu_scratch(const struct fr_cpu *cpu, int worker)
{
	return cpu->scratch + (size_t)worker * cpu->scratch_floats;
}
static inline int fr_min(int a, int b)
{
	return a < b ? a : b;
}
static inline int fr_max(int a, int b)
{
	return a > b ? a : b;
}
static inline int fr_ceil_div(int a, int b)
{
	return a / b + (a % b != 0);
}

/* Elements before [layer, seq, kv head] of a KV cache. */
static inline size_t fr_kv_head(const struct fr_kv *kv, int layer, int seq, int head)
{
	size_t at = ((size_t)layer * (size_t)kv->seqs + (size_t)seq) * (size_t)kv->kv_heads + (size_t)head;

	return at * (size_t)kv->max_pos * (size_t)kv->head_dim;
}

/* gemm.c, gemv.c, q8.c, attn.c, attn_decode.c, map.c: floats of scratch that a worker needs there. */
size_t fr_gemm_scratch(const struct fr_ukr *u);
size_t fr_gemv_scratch(const struct fr_ukr *u);
size_t fr_q8_scratch(const struct fr_ukr *u);
size_t fr_attn_scratch(const struct fr_ukr *u);
size_t fr_attn_decode_scratch(const struct fr_ukr *u);
size_t fr_map_scratch(const struct fr_ukr *u);
void fr_gemm_linear(struct fr_cpu *cpu, const struct fr_linear *a);
void fr_gemm_glu(struct fr_cpu *cpu, const struct fr_glu *a);
void fr_gemm_patch(struct fr_cpu *cpu, const struct fr_patch *a);
void fr_gemv_linear(struct fr_cpu *cpu, const struct fr_linear *a);
void fr_gemv_glu(struct fr_cpu *cpu, const struct fr_glu *a);
/* Products of q8_0 weights in either phase: all of a chain; both matrices of glu, or one. */
void fr_q8_linear(struct fr_cpu *cpu, const struct fr_linear *a);
void fr_q8_glu(struct fr_cpu *cpu, const struct fr_glu *a);
void fr_cpu_attn(struct fr_dev *dev, const struct fr_attn *a);
void fr_attn_decode(struct fr_cpu *cpu, const struct fr_attn *a); /* over a KV cache, FR_DECODE */
void fr_cpu_attn_map(struct fr_dev *dev, const struct fr_attn_map *a);
void fr_cpu_map_bias(struct fr_dev *dev, const struct fr_map_bias *a);
void fr_cpu_gate(struct fr_dev *dev, const struct fr_gate *a);
void fr_cpu_embed(struct fr_dev *dev, const struct fr_embed *a);
void fr_cpu_norm(struct fr_dev *dev, const struct fr_norm *a);
void fr_cpu_rope(struct fr_dev *dev, const struct fr_rope *a);

#endif
