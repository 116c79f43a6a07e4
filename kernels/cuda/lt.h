/* cuBLASLt: what lt.c and lt_probe.c share. */
#ifndef FR_KERNELS_CUDA_LT_H
#define FR_KERNELS_CUDA_LT_H

#include "cuda.h"

/* Weights of at least so many items go to cuBLASLt. To be decided by a measurement: none was made.
 * FR_RUN_CUBLAS_LEAST=n puts another number in its place, to measure with. */
#define FR_LT_LEAST ((size_t)4 << 20)
#define FR_LT_WORKSPACE ((size_t)32 << 20) /* bytes; what NVIDIA recommends for sm_90 */

#define FR_LT_ALIGN 16 /* bytes: every pointer of a product is a multiple of it (fr_gemm_aligned) */

#ifdef FR_HAVE_CUBLASLT
#include <cublasLt.h>

#define FR_LT_FUNCTIONS(X)                                                                                             \
	X(cublasLtCreate)                                                                                              \
	X(cublasLtDestroy)                                                                                             \
	X(cublasLtMatmul)                                                                                              \
	X(cublasLtMatmulAlgoCheck)                                                                                     \
	X(cublasLtMatmulAlgoConfigGetAttribute)                                                                        \
	X(cublasLtMatmulAlgoGetHeuristic)                                                                              \
	X(cublasLtMatmulDescInit_internal)                                                                             \
	X(cublasLtMatmulDescSetAttribute)                                                                              \
	X(cublasLtMatmulPreferenceInit_internal)                                                                       \
	X(cublasLtMatmulPreferenceSetAttribute)                                                                        \
	X(cublasLtMatrixLayoutInit_internal)

/* What the call itself does besides the product. */
enum fr_lt_kind { FR_LT_PLAIN, FR_LT_BIAS, FR_LT_RESIDUAL };

struct fr_lt_shape {
	int n, k; /* k: the pitch */
	enum fr_dtype dtype;
	enum fr_lt_kind kind;
	int usable; /* algo passed the probe */
	cublasLtMatmulAlgo_t algo;
};
#define FR_LT_SHAPES 64 /* kinds of a model's weight shapes; those beyond are ours */

struct fr_cu_lt {
	void *library; /* stays loaded, as the driver does: what it left with threads and at exit must stay callable */
	struct {
#define X(name) __typeof__(&name) name;
		FR_LT_FUNCTIONS(X)
#undef X
	} api;
	cublasLtHandle_t handle;
	size_t least; /* items of a weight */
	struct fr_lt_shape shape[FR_LT_SHAPES];
	int shapes;
};

struct fr_lt_product {
	const void *w, *x; /* [n, k], [rows, k] */
	const float *bias, *residual;
	float *y; /* [rows, n] */
	int rows;
	void *workspace; /* [FR_LT_WORKSPACE] */
};

/* Descriptors of a call; bias matters to FR_LT_BIAS alone. */
struct fr_lt_call {
	cublasLtMatmulDescOpaque_t op;
	cublasLtMatrixLayoutOpaque_t w, x, y;
};
void fr_lt_describe(const struct fr_cu_lt *lt, const struct fr_lt_shape *s, int rows, const float *bias,
		    struct fr_lt_call *c);
/* 0, or the library's error. */
int fr_lt_multiply(struct fr_cuda *d, const struct fr_lt_shape *s, const struct fr_lt_product *p);
/* lt_probe.c: the shape of a weight with its algorithm, chosen now if it is new; NULL: ours is to be used. */
const struct fr_lt_shape *fr_lt_shape_of(struct fr_cuda *d, const struct fr_mat *w, enum fr_lt_kind kind);
/* Work memory of a probe of weights [n, k], behind the library's own. */
size_t fr_lt_probe_bytes(size_t n, size_t k);
#endif

#endif
