/* The CUDA instance of the operations, seen by its own files: one .c with the host half (shapes -> launches) beside each
 * .cu with the kernels.
 *
 * PRECISION. Weights keep their type. A product of f32 weights is float32 throughout (prefill: seq, the contract's bits).
 * A product of 16-bit weights takes its activations rounded (RNE) to the weights' own type and sums in float32 on the
 * tensor cores: in FR_PREFILL one term (two with --precise: x = hi + lo), in FR_DECODE always two, since decoding waits
 * for the weights anyway. For f16 a row is first multiplied by a power of two that brings its largest magnitude below
 * 2^15 (none is needed, the factor is 1, below that), so that nothing overflows. The patch embedding takes two terms.
 * Attention reads an f16 cache as it is, takes q, and dense k and v, rounded to f16 (saturated; an infinity stays one) on
 * the tensor cores; with --precise and with an f32 cache it is float32 throughout. Decode attention is float32 always.
 * A map of attention and the bias made of it are float32 in the contract's order: ref's bits.
 *
 * THE SAME BITS in any batch: each output is one chain of sums in an order that the weight's shape (or the key's absolute
 * position) decides; no atomics in sums; nothing looks at the number of rows but to skip absent ones.
 *
 * THE PITCH. Matrices lie in device memory with rows of fr_pitch(cols) elements, the rest zero, so that 16-byte loads are
 * aligned whatever the width. */
#ifndef FR_KERNELS_CUDA_CUDA_H
#define FR_KERNELS_CUDA_CUDA_H

#include "args.h"
#include "cu.h"

FR_INLINE int fr_pitch(int cols)
{
	return (cols + 7) / 8 * 8;
}

FR_INLINE int fr_ceil_div(int a, int b)
{
	return (a + b - 1) / b;
}

/* Activations in 16 bits: `terms` matrices [rows, pitch] of dtype, term t at data + t * rows * pitch; columns beyond the
 * width are zero. The value is (term 0 + term 1) * scale[row]; scale NULL: 1 (always for bf16). */
struct fr_packed {
	const uint16_t *data;
	const float *scale;
	enum fr_dtype dtype;
	int rows, cols, pitch, terms;
};

struct fr_cuda {
	struct fr_dev dev;
	const struct fr_cu *cu;
	struct fr_cu_device *at;  /* what cu opened: the first argument of its functions */
	struct fr_cu_info info;
	char isa[24];             /* "sm_90", or "sm_90+cublaslt" */
	int precise, no_cublas;
	int sync_each;            /* FR_RUN_CUDA_SYNC: wait after each launch, record nothing */
	enum fr_dtype act_dtype;  /* of the last product's weights, before one of the last 16-bit matrix given: a producer
				   * leaves terms for a product to come only where this is BF16 */
	int error;                /* the driver's number of the first failure since the last sync, 0: none */
	char error_at[96];        /* "kernel fr_gemm_bf16, launch 17 since the last wait" */
	unsigned launches;        /* since the last sync */
	enum fr_cu_kernel last;   /* of them */
	struct fr_cu_mem *mem;    /* memory.c: device blocks, pinned staging, uploads, matrices on the host */
	struct fr_cu_scratch *scratch; /* scratch.c: inputs of a call, packed activations, work memory, recordings */
	struct fr_cu_lt *lt;      /* lt.c: cuBLASLt, NULL without */
};

/* ---- device.c: launches and their errors ---- */

/* Sticky: after a failure nothing is launched until sync has reported it. */
void fr_cu_run(struct fr_cuda *d, enum fr_cu_kernel kernel, unsigned gx, unsigned gy, unsigned gz, unsigned threads,
	       size_t smem, const void *args, size_t args_bytes);
#define FR_CU_RUN(d, name, gx, gy, gz, threads, smem, args)                                                            \
	fr_cu_run(d, FR_CU_##name, gx, gy, gz, threads, smem, &(args), sizeof(args))
/* Takes note of a driver call's result. */
void fr_cu_note(struct fr_cuda *d, int code, const char *what);
/* For sync, when all that was given has run. The first error's sentence, or 0; what can be forgotten is, but a device on
 * which a kernel has failed answers with the same sentence for ever. */
int fr_cu_report(struct fr_cuda *d, struct fr_error *err);
/* The sentence of d->error, which is not 0; -1. */
int fr_cu_say(const struct fr_cuda *d, struct fr_error *err);

/* ---- memory.c ---- */
int fr_cu_mem_open(struct fr_cuda *d, struct fr_error *err);
void fr_cu_mem_close(struct fr_cuda *d);
int fr_cu_alloc(struct fr_dev *dev, size_t bytes, void **out, struct fr_error *err);
void fr_cu_release(struct fr_dev *dev, void *p, size_t bytes);
void fr_cu_put(struct fr_dev *dev, void *dst, const void *host, size_t bytes);
void fr_cu_get(struct fr_dev *dev, void *host, const void *src, size_t bytes); /* host memory is valid after sync */
void fr_cu_copy(struct fr_dev *dev, void *dst, const void *src, size_t bytes);
int fr_cu_weight(struct fr_dev *dev, const struct fr_tensor *t, struct fr_mat *out, struct fr_error *err);
int fr_cu_vector(struct fr_dev *dev, const struct fr_tensor *t, const float **out, struct fr_error *err);
void fr_cu_home(struct fr_dev *dev, enum fr_home home);
void fr_cu_room(struct fr_dev *dev, size_t *free, size_t *total);
/* Before the first kernel that reads weights: compute waits for the uploads. fr_cu_run does it; who launches by another
 * way, or records, calls it first. */
void fr_cu_uploaded(struct fr_cuda *d);
/* A matrix as a kernel should read it: device memory as it is; one that lives on the host is brought into a device buffer
 * for FR_PREFILL (which reads it many times) and read where it is in FR_DECODE (once). Valid for the next launch, which
 * may read FR_MAX_ALSO such matrices. */
struct fr_mat fr_cu_near(struct fr_cuda *d, const struct fr_mat *m, enum fr_phase phase);
/* Waits for everything, then reports and clears the first error: 0 or -1. */
int fr_cu_sync(struct fr_dev *dev, struct fr_error *err);

/* ---- scratch.c ---- */
int fr_cu_scratch_open(struct fr_cuda *d, struct fr_error *err);
void fr_cu_scratch_close(struct fr_cuda *d);
size_t fr_cu_work_bytes(struct fr_dev *dev, const struct fr_limits *limits);
void fr_cu_work(struct fr_dev *dev, void *block, size_t bytes, const struct fr_limits *limits);
/* Between the two, the eager run included: nothing that is launched may depend on what ids, row and draw hold (attention
 * takes its grid from max_pos, not from row[].pos). */
int fr_cu_step_begin(struct fr_dev *dev, const int32_t *ids, const struct fr_row *row, const double *draw, int rows);
void fr_cu_step_end(struct fr_dev *dev);
/* A host array of a call in device memory: copied through pinned memory, once per step for the step's own arrays. */
const int32_t *fr_cu_ids(struct fr_cuda *d, const int32_t *host, int rows);
const struct fr_row *fr_cu_rows(struct fr_cuda *d, const struct fr_row *host, int rows);
const double *fr_cu_draws(struct fr_cuda *d, const double *host, int rows);
/* Device memory [bytes], 256-byte aligned, good until the calling operation's launches have run; each part is one block
 * that grows (never inside a recording). NULL after a failure, which is noted. */
enum fr_cu_part { FR_PART_ATTN, FR_PART_GEMM, FR_PART_PICK, FR_PART_LT, FR_PARTS };
void *fr_cu_part(struct fr_cuda *d, enum fr_cu_part part, size_t bytes);
/* x [rows, cols] float32, rows `stride` floats apart, as 16-bit terms of dtype: what its producer left, or packed now. */
struct fr_packed fr_cu_pack(struct fr_cuda *d, const float *x, size_t stride, int rows, int cols, enum fr_dtype dtype,
			    int terms);
/* For a producer of y [rows, cols]: where it is to leave y's terms too (bf16, no scale), data NULL when it need not. The
 * next fr_cu_pack of y finds them. Ask after fr_cu_pack of the operation's own input. */
struct fr_packed fr_cu_pack_out(struct fr_cuda *d, const float *y, int rows, int cols, enum fr_phase phase);
/* Every operation calls this for what it writes, before fr_cu_pack_out: packed forms of the old values are forgotten. */
void fr_cu_wrote(struct fr_cuda *d, const void *p, size_t bytes);
/* For memory.c. get, inside a recording: pinned memory [bytes] to copy to, which lives as long as the recording and goes
 * to `host` at the first sync after each of its replays. NULL outside of a recording: get takes care itself. */
void *fr_cu_kept(struct fr_cuda *d, void *host, size_t bytes);
/* sync, once all that was given has run: inputs' staging is free again, kept results go to their host arrays. */
void fr_cu_synced(struct fr_cuda *d);
/* release, before memory is given back: its packed forms are forgotten, and every recording, which may know it. */
void fr_cu_gone(struct fr_cuda *d, const void *p, size_t bytes);
FR_INLINE int fr_cu_terms(int precise, enum fr_phase phase)
{
	return precise || phase == FR_DECODE ? 2 : 1;
}

/* ---- the operations, a file each: NAME.c beside NAME.cu ---- */
void fr_cu_linear(struct fr_dev *dev, const struct fr_linear *a); /* linear.c: chooses among the next four */
void fr_cu_glu(struct fr_dev *dev, const struct fr_glu *a);
/* Prefill, 16-bit weights. A chain of `also` is one launch. */
void fr_cu_gemm(struct fr_cuda *d, const struct fr_linear *a);
void fr_cu_gemm_glu(struct fr_cuda *d, const struct fr_glu *a);
/* Prefill, f32 weights: the contract's seq. */
void fr_cu_gemm_f32(struct fr_cuda *d, const struct fr_linear *a);
void fr_cu_gemm_f32_glu(struct fr_cuda *d, const struct fr_glu *a);
/* Decode, any type. */
void fr_cu_skinny(struct fr_cuda *d, const struct fr_linear *a);
void fr_cu_skinny_glu(struct fr_cuda *d, const struct fr_glu *a);
/* cuBLASLt: 1 when it did the product, 0 when ours is to be used for this weight shape. */
int fr_cu_lt_open(struct fr_cuda *d);
void fr_cu_lt_close(struct fr_cuda *d);
size_t fr_cu_lt_bytes(const struct fr_cuda *d, const struct fr_limits *limits); /* of FR_PART_LT */
int fr_cu_lt_linear(struct fr_cuda *d, const struct fr_linear *a);
int fr_cu_lt_glu(struct fr_cuda *d, const struct fr_glu *a);

void fr_cu_norm(struct fr_dev *dev, const struct fr_norm *a);   /* rows.c */
void fr_cu_embed(struct fr_dev *dev, const struct fr_embed *a);
void fr_cu_gate(struct fr_dev *dev, const struct fr_gate *a);
void fr_cu_rope(struct fr_dev *dev, const struct fr_rope *a);
void fr_cu_patch(struct fr_dev *dev, const struct fr_patch *a); /* patch.c */
void fr_cu_attn(struct fr_dev *dev, const struct fr_attn *a);   /* attn.c */
void fr_cu_attn_map(struct fr_dev *dev, const struct fr_attn_map *a); /* map.c */
void fr_cu_map_bias(struct fr_dev *dev, const struct fr_map_bias *a);
void fr_cu_pick(struct fr_dev *dev, const struct fr_pick *a);   /* pick.c */

#endif
