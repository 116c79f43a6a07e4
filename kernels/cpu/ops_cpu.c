/* The cpu instance of the operations table: level, threads and scratch memory are settled here, once. */
#include "cpu.h"
#include "../ref_round.h"

#include <assert.h>
#include <stdlib.h>

static void patch(struct fr_dev *dev, const struct fr_patch *a)
{
	fr_gemm_patch((struct fr_cpu *)dev, a);
}

static void plain_linear(struct fr_cpu *cpu, const struct fr_linear *a)
{
	if (a->phase == FR_DECODE)
		fr_gemv_linear(cpu, a);
	else
		fr_gemm_linear(cpu, a);
}

/* The products of a chain need nothing of each other: those of q8_0 weights become a chain of their own. */
static void linear(struct fr_dev *dev, const struct fr_linear *a)
{
	struct fr_linear part[FR_MAX_ALSO];
	const struct fr_linear *chain[2] = {NULL, NULL}, **end[2] = {&chain[0], &chain[1]};

	for (int n = 0; a; a = a->also, n++) {
		const int q8 = a->w.dtype == FR_Q8_0;

		assert(n < FR_MAX_ALSO);
		part[n] = *a;
		part[n].also = NULL;
		*end[q8] = &part[n];
		end[q8] = &part[n].also;
	}
	if (chain[0])
		plain_linear((struct fr_cpu *)dev, chain[0]);
	if (chain[1])
		fr_q8_linear((struct fr_cpu *)dev, chain[1]);
}

/* Where one matrix is q8_0, the other's product waits in y. */
static void glu(struct fr_dev *dev, const struct fr_glu *a)
{
	struct fr_cpu *cpu = (struct fr_cpu *)dev;
	const int gate_q8 = a->gate.dtype == FR_Q8_0, up_q8 = a->up.dtype == FR_Q8_0;

	if (gate_q8 != up_q8)
		plain_linear(cpu, &(struct fr_linear){.x = a->x,
						      .w = gate_q8 ? a->up : a->gate,
						      .y = a->y,
						      .rows = a->rows,
						      .phase = a->phase});
	if (gate_q8 || up_q8)
		fr_q8_glu(cpu, a);
	else if (a->phase == FR_DECODE)
		fr_gemv_glu(cpu, a);
	else
		fr_gemm_glu(cpu, a);
}

static void close_cpu(struct fr_dev *dev)
{
	struct fr_cpu *cpu = (struct fr_cpu *)dev;

	fr_pool_free(cpu->pool);
	fr_host_release_all(&cpu->host);
	free(cpu);
}

static const struct fr_ops ops_cpu = {
	.name = "cpu",
	.alloc = fr_host_alloc,
	.release = fr_host_release,
	.put = fr_host_copy,
	.get = fr_host_copy,
	.copy = fr_host_copy,
	.weight = fr_host_weight,
	.vector = fr_host_vector,
	.patch = patch,
	.embed = fr_cpu_embed,
	.linear = linear,
	.glu = glu,
	.norm = fr_cpu_norm,
	.rope = fr_cpu_rope,
	.attn = fr_cpu_attn,
	.attn_map = fr_cpu_attn_map,
	.map_bias = fr_cpu_map_bias,
	.gate = fr_cpu_gate,
	.pick = fr_host_pick,
	.room = fr_host_room,
	.sync = fr_host_sync,
	.close = close_cpu,
};

static size_t scratch_floats(const struct fr_ukr *u)
{
	size_t need = fr_gemm_scratch(u);

	need = fr_gemv_scratch(u) > need ? fr_gemv_scratch(u) : need;
	need = fr_q8_scratch(u) > need ? fr_q8_scratch(u) : need;
	need = fr_attn_scratch(u) > need ? fr_attn_scratch(u) : need;
	need = fr_attn_decode_scratch(u) > need ? fr_attn_decode_scratch(u) : need;
	need = fr_map_scratch(u) > need ? fr_map_scratch(u) : need;
	return (need + 1023) / 1024 * 1024;
}

static int take_scratch(struct fr_cpu *cpu, struct fr_error *err)
{
	struct fr_dev *dev = &cpu->host.dev;
	void *p;

	cpu->scratch_floats = scratch_floats(&cpu->u);
	FR_TRY(fr_host_alloc(dev, (size_t)dev->threads * cpu->scratch_floats * sizeof(float), &p, err));
	cpu->scratch = p;
	FR_TRY(fr_host_alloc(dev, FR_PACK_FLOATS * sizeof(float), &p, err));
	cpu->a = p;
	return 0;
}

/* Products in pairs and tiles where the level has them, or, for tests, in plain C. */
static int take_roundings(struct fr_cpu *cpu, enum fr_level level, const struct fr_dev_opts *opts, struct fr_error *err)
{
	static const char *const activations[] = {"f32", "bf16", "2xbf16"};
	struct fr_rounds r;

	FR_TRY(fr_rounds_open(opts->roundings, &r, err));
	if (r.pairs && level == FR_LEVEL_REF) {
		fr_ukr_ref_pairs(&cpu->u);
		if (r.tiles)
			fr_ukr_ref_tiles(&cpu->u);
	} else if (opts->roundings) {
		return fr_fail(err, FR_E_USAGE, "only the ref instances take roundings");
	}
	if (cpu->u.gemm_pairs[0])
		cpu->terms = r.pairs ? r.pairs : opts->precise ? 2 : 1;
	cpu->host.dev.activations = activations[cpu->terms];
	return 0;
}

/* Names of levels whose bf16 unit does not give the contract's bits. */
static const char *const other_bits[FR_LEVELS] = {
	[FR_LEVEL_AVX512BF16] = "avx512bf16+other", [FR_LEVEL_AMX] = "amx+other"};

int fr_cpu_open(const struct fr_dev_opts *opts, struct fr_dev **out, struct fr_error *err)
{
	struct fr_levels here;
	enum fr_level level;
	struct fr_cpu *cpu;

	fr_levels_here(&here);
	FR_TRY(fr_level_choose(opts->isa, &here, &level, err));
	cpu = calloc(1, sizeof *cpu);
	if (!cpu)
		return fr_fail(err, FR_E_MEMORY, "cannot allocate the cpu backend");
	cpu->host.dev.ops = &ops_cpu;
	cpu->host.dev.isa = level == FR_LEVEL_REF ? "cpu-ref" : fr_level_names[level];
	if (!opts->isa)
		fr_level_lowered(&here, cpu->host.dev.lowered, sizeof cpu->host.dev.lowered);
	cpu->host.dev.together = 1;
	cpu->host.dev.maps = 1;
	fr_ukr_ref(&cpu->u);
	if (level >= FR_LEVEL_AVX2)
		fr_ukr_avx2(&cpu->u);
	if (level >= FR_LEVEL_AVX512)
		fr_ukr_avx512(&cpu->u);
	if (level >= FR_LEVEL_AVX512BF16)
		fr_ukr_avx512bf16(&cpu->u);
	if (level >= FR_LEVEL_AMX)
		fr_ukr_amx(&cpu->u);
	if (fr_unit_differs(&cpu->u))
		cpu->host.dev.isa = other_bits[level];
	if (take_roundings(cpu, level, opts, err) != 0)
		goto fail;
	cpu->host.dev.row_cost = cpu->u.gemv_row;
	if (fr_pool_new(opts->threads, &cpu->pool, err) != 0)
		goto fail;
	cpu->host.dev.threads = fr_pool_threads(cpu->pool);
	if (take_scratch(cpu, err) != 0)
		goto fail;
	*out = &cpu->host.dev;
	return 0;
fail:
	close_cpu(&cpu->host.dev);
	return -1;
}
