/* Large prefill products by cuBLASLt, which on sm_90 reaches instructions that gemm.cu does not use.
 *
 * THE SAME BITS for any number of rows are asked of it as of ours. One algorithm per weight shape is chosen when the
 * shape is first seen: the first of the library's own proposals without split-K or a reduction across blocks that
 * passes a probe on the device, in which every row of random x must give the same bits among 1, 17, 591 and 4728 rows,
 * at two places, and values close to those of our own kernel. It is kept for every number of rows; where none passes,
 * ours is used for that shape from then on. With two terms of x (--precise) ours is used: the sum of two calls is
 * another chain than one.
 *
 * y^T [n, rows] = w [n, k] x^T [k, rows], as a library of columns sees it. A bias alone and a residual alone go into
 * the call, everything else of struct fr_linear into a pass of our own over the sums (lt.cu). The library is loaded
 * when a device is opened and is the one whose header this was compiled with; without either, ours is used. */
#include "gemm.h"
#include "lt.h"

#ifndef FR_HAVE_CUBLASLT
int fr_cu_lt_open(struct fr_cuda *d)
{
	d->lt = NULL;
	return 0;
}
void fr_cu_lt_close(struct fr_cuda *d)
{
	(void)d;
}
size_t fr_cu_lt_bytes(const struct fr_cuda *d, const struct fr_limits *limits)
{
	(void)d;
	(void)limits;
	return 0;
}
int fr_cu_lt_linear(struct fr_cuda *d, const struct fr_linear *a)
{
	(void)d;
	(void)a;
	return 0;
}
int fr_cu_lt_glu(struct fr_cuda *d, const struct fr_glu *a)
{
	(void)d;
	(void)a;
	return 0;
}
#else

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#define NOT_SUPPORTED 801 /* CUDA_ERROR_NOT_SUPPORTED */
#define STR_(x) #x
#define STR(x) STR_(x)
#define LIBRARY "libcublasLt.so." STR(CUBLAS_VER_MAJOR)

int fr_cu_lt_open(struct fr_cuda *d)
{
	static const char *const places[] = {LIBRARY, FR_CUDA_HOME "/lib64/" LIBRARY, FR_CUDA_HOME "/lib/" LIBRARY};
	const char *least = getenv("FR_RUN_CUBLAS_LEAST");
	struct fr_cu_lt *lt = calloc(1, sizeof *lt);
	int missing = 0;

	if (!lt || !d->cu->native_stream(d->at, FR_CU_COMPUTE)) {
		free(lt);
		return 0;
	}
	lt->least = least && *least ? strtoull(least, NULL, 10) : FR_LT_LEAST;
	for (size_t i = 0; i < sizeof places / sizeof *places && !lt->library; i++)
		lt->library = dlopen(places[i], RTLD_NOW | RTLD_LOCAL);
	if (lt->library) {
#define X(name)                                                                                                        \
	*(void **)&lt->api.name = dlsym(lt->library, #name);                                                           \
	missing += !lt->api.name;
		FR_LT_FUNCTIONS(X)
#undef X
		if (!missing && lt->api.cublasLtCreate(&lt->handle) == CUBLAS_STATUS_SUCCESS) {
			d->lt = lt;
			return 1;
		}
	}
	free(lt);
	return 0;
}

void fr_cu_lt_close(struct fr_cuda *d)
{
	d->cu->native_stream(d->at, FR_CU_COMPUTE); /* makes the device current */
	d->lt->api.cublasLtDestroy(d->lt->handle);
	free(d->lt);
	d->lt = NULL;
}

/* The library's own, and behind it sums that wait for our pass over them, or a probe. */
size_t fr_cu_lt_bytes(const struct fr_cuda *d, const struct fr_limits *limits)
{
	const size_t outs = (size_t)limits->outs, sums = (size_t)limits->rows * outs * sizeof(float);
	size_t probe;

	if (!d->lt)
		return 0;
	probe = fr_lt_probe_bytes(outs, (size_t)fr_pitch(limits->cols));
	return FR_LT_WORKSPACE + (sums > probe ? sums : probe);
}

/* ---- one product ---- */

void fr_lt_describe(const struct fr_cu_lt *lt, const struct fr_lt_shape *s, int rows, const float *bias,
		    struct fr_lt_call *c)
{
	const cudaDataType_t type = s->dtype == FR_F16 ? CUDA_R_16F : CUDA_R_16BF;
	const cublasOperation_t transposed = CUBLAS_OP_T;
	const cublasLtEpilogue_t with_bias = CUBLASLT_EPILOGUE_BIAS;
	const uint64_t k = (uint64_t)s->k;

	lt->api.cublasLtMatmulDescInit_internal(&c->op, sizeof c->op, CUBLAS_COMPUTE_32F, CUDA_R_32F);
	lt->api.cublasLtMatmulDescSetAttribute(&c->op, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof transposed);
	if (s->kind == FR_LT_BIAS) {
		lt->api.cublasLtMatmulDescSetAttribute(&c->op, CUBLASLT_MATMUL_DESC_EPILOGUE, &with_bias,
						       sizeof with_bias);
		lt->api.cublasLtMatmulDescSetAttribute(&c->op, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias);
	}
	lt->api.cublasLtMatrixLayoutInit_internal(&c->w, sizeof c->w, type, k, (uint64_t)s->n, (int64_t)k);
	lt->api.cublasLtMatrixLayoutInit_internal(&c->x, sizeof c->x, type, k, (uint64_t)rows, (int64_t)k);
	lt->api.cublasLtMatrixLayoutInit_internal(&c->y, sizeof c->y, CUDA_R_32F, (uint64_t)s->n, (uint64_t)rows, s->n);
}

int fr_lt_multiply(struct fr_cuda *d, const struct fr_lt_shape *s, const struct fr_lt_product *p)
{
	struct fr_cu_lt *lt = d->lt;
	const float one = 1, beta = s->kind == FR_LT_RESIDUAL ? 1 : 0;
	struct fr_lt_call c;

	fr_lt_describe(lt, s, p->rows, p->bias, &c);
	return lt->api.cublasLtMatmul(lt->handle, &c.op, &one, p->w, &c.w, p->x, &c.x, &beta,
				      s->kind == FR_LT_RESIDUAL ? p->residual : p->y, &c.y, p->y, &c.y, &s->algo,
				      p->workspace, FR_LT_WORKSPACE, d->cu->native_stream(d->at, FR_CU_COMPUTE));
}

/* The shape's product, a failure of which is noted: another kernel would give other bits than its other rows have. */
static void multiply(struct fr_cuda *d, const struct fr_lt_shape *s, const struct fr_lt_product *p)
{
	if (!d->error && p->workspace && fr_lt_multiply(d, s, p) != 0)
		fr_cu_note(d, NOT_SUPPORTED, "a product of cuBLASLt");
}

/* ---- the operations ---- */

/* Only shapes where it may win, of layouts that it takes: 16-byte aligned rows on all sides. A matrix so much wider than
 * deep is an lm_head, which a prefill asks for a few rows of only. */
static int wanted(const struct fr_cuda *d, const struct fr_mat *w, const float *y, enum fr_phase phase)
{
	return fr_cu_terms(d->precise, phase) == 1 && (size_t)w->rows * (size_t)w->cols >= d->lt->least &&
	       w->rows <= 5 * w->cols && w->rows % 4 == 0 && fr_gemm_aligned(w->data) && fr_gemm_aligned(y);
}

/* Sums [rows, n] behind the library's memory. */
static float *spare(struct fr_cuda *d, int rows, int n)
{
	char *p = fr_cu_part(d, FR_PART_LT, FR_LT_WORKSPACE + (size_t)rows * (size_t)n * sizeof(float));

	return p ? (float *)(p + FR_LT_WORKSPACE) : NULL;
}

static void finish(struct fr_cuda *d, const struct fr_gemm_part *p, const struct fr_packed *x, const float *sums,
		   const float *gate)
{
	const struct fr_lt_args a = {.part = *p, .sums = sums, .gate = gate, .rowscale = x->scale, .rows = x->rows};
	const int across = fr_ceil_div(p->n > p->pack_pitch ? p->n : p->pack_pitch, 4 * FR_LT_THREADS);
	const int rows = x->rows < FR_LT_MAX_ROWS ? x->rows : FR_LT_MAX_ROWS;

	FR_CU_RUN(d, fr_lt_out, (unsigned)across, (unsigned)rows, 1, FR_LT_THREADS, 0, a);
}

int fr_cu_lt_linear(struct fr_cuda *d, const struct fr_linear *a)
{
	const int plain = a->act == FR_ACT_NONE && !a->scale && a->w.dtype == FR_BF16;
	const size_t stride = a->x_stride ? a->x_stride : (size_t)a->w.cols;
	enum fr_lt_kind kind = FR_LT_PLAIN;
	const struct fr_lt_shape *s;
	struct fr_gemm_part part;
	struct fr_packed x;
	struct fr_lt_product p;

	if (!wanted(d, &a->w, a->y, a->phase))
		return 0;
	if (plain && a->bias && !a->residual && fr_gemm_aligned(a->bias))
		kind = FR_LT_BIAS;
	if (plain && a->residual && !a->bias && fr_gemm_aligned(a->residual))
		kind = FR_LT_RESIDUAL;
	s = fr_lt_shape_of(d, &a->w, kind);
	if (!s)
		return 0;
	x = fr_cu_pack(d, a->x, stride, a->rows, a->w.cols, a->w.dtype, 1);
	part = fr_gemm_part_of(a);
	fr_gemm_pack_out(d, &part, a->rows, a->phase);
	p = (struct fr_lt_product){
		.w = a->w.data, .x = x.data, .bias = a->bias, .residual = a->residual, .y = a->y, .rows = a->rows};
	if (kind == FR_LT_PLAIN && a->residual == a->y)
		p.y = spare(d, a->rows, a->w.rows);
	p.workspace = fr_cu_part(d, FR_PART_LT, FR_LT_WORKSPACE);
	if (!x.data || !p.y)
		return 1; /* noted */
	multiply(d, s, &p);
	if (kind == FR_LT_PLAIN && (!plain || a->bias || a->residual || part.pack))
		finish(d, &part, &x, p.y, NULL);
	return 1;
}

int fr_cu_lt_glu(struct fr_cuda *d, const struct fr_glu *a)
{
	const struct fr_lt_shape *s;
	struct fr_gemm_part part;
	struct fr_lt_product p;
	struct fr_packed x;
	float *gate;

	if (!wanted(d, &a->gate, a->y, a->phase) || !fr_gemm_aligned(a->up.data) ||
	    !(s = fr_lt_shape_of(d, &a->gate, FR_LT_PLAIN)))
		return 0;
	x = fr_cu_pack(d, a->x, (size_t)a->gate.cols, a->rows, a->gate.cols, a->gate.dtype, 1);
	part = fr_gemm_glu_part_of(a);
	fr_gemm_pack_out(d, &part, a->rows, a->phase);
	gate = spare(d, a->rows, a->gate.rows);
	if (!x.data || !gate)
		return 1; /* noted */
	p = (struct fr_lt_product){.w = a->gate.data,
				   .x = x.data,
				   .y = gate,
				   .rows = a->rows,
				   .workspace = fr_cu_part(d, FR_PART_LT, FR_LT_WORKSPACE)};
	multiply(d, s, &p);
	p.w = a->up.data;
	p.y = a->y;
	multiply(d, s, &p);
	finish(d, &part, &x, a->y, gate);
	return 1;
}
#endif
