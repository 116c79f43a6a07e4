/* cuBLASLt's place in the prefill: which of its proposals is kept, and what is done around its products. The library
 * here is our own, of the functions that kernels/cuda/lt.h lists, with plain loops; among its proposals are the three
 * kinds that must be refused: a sum that is split, a row whose bits depend on the number of rows, and a wrong result.
 */
#include "../kernels/cuda/gemm.h"
#include "../kernels/cuda/lt.h"
#include "../kernels/math.h"
#include "cuda_test.h"
#include "test.h"

#ifndef FR_HAVE_CUBLASLT
int main(void)
{
	test_skip("exact/cuda-lt", "cublasLt.h was not there when this was built");
	return test_done();
}
#else

enum { SPLIT, BY_ROWS, WRONG, GOOD, ALGOS };
#define ROWS 37
#define N 44
#define K 21
#define PITCH 24

static struct fr_dev *dev;
static struct fr_cuda *d;
static uint64_t seed = 1;
static int used[ALGOS], only_bad;
static uint32_t aligned_to[4] = {256, 256, 256, 256}; /* what the library counts on: a, b, c, d */

static float random_float(void)
{
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return (float)((int)(seed >> 40) - (1 << 23)) * 0x1p-22f;
}

/* ---- the library ---- */

struct op {
	int transposed, bias_set;
	const float *bias;
};
struct layout {
	int type;
	size_t rows, cols, ld;
};

static cublasStatus_t op_init(cublasLtMatmulDesc_t op, size_t size, cublasComputeType_t compute, cudaDataType_t scale)
{
	memset(op, 0, size);
	return compute == CUBLAS_COMPUTE_32F && scale == CUDA_R_32F ? CUBLAS_STATUS_SUCCESS
								    : CUBLAS_STATUS_NOT_SUPPORTED;
}
static cublasStatus_t op_set(cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t what, const void *value,
			     size_t size)
{
	struct op *op = (struct op *)desc;

	if (what == CUBLASLT_MATMUL_DESC_TRANSA)
		op->transposed = *(const cublasOperation_t *)value == CUBLAS_OP_T;
	else if (what == CUBLASLT_MATMUL_DESC_EPILOGUE)
		op->bias_set = *(const cublasLtEpilogue_t *)value == CUBLASLT_EPILOGUE_BIAS;
	else if (what == CUBLASLT_MATMUL_DESC_BIAS_POINTER && size == sizeof op->bias)
		memcpy(&op->bias, value, size);
	return CUBLAS_STATUS_SUCCESS;
}
static cublasStatus_t layout_init(cublasLtMatrixLayout_t layout, size_t size, cudaDataType_t type, uint64_t rows,
				  uint64_t cols, int64_t ld)
{
	memset(layout, 0, size);
	*(struct layout *)layout = (struct layout){(int)type, rows, cols, (size_t)ld};
	return CUBLAS_STATUS_SUCCESS;
}
static cublasStatus_t preference_init(cublasLtMatmulPreference_t want, size_t size)
{
	memset(want, 0, size);
	return CUBLAS_STATUS_SUCCESS;
}
static cublasStatus_t preference_set(cublasLtMatmulPreference_t want, cublasLtMatmulPreferenceAttributes_t what,
				     const void *value, size_t size)
{
	(void)want;
	for (int i = 0; i < 4; i++)
		if ((int)what == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES + i && size == sizeof(uint32_t))
			memcpy(&aligned_to[i], value, size);
	return CUBLAS_STATUS_SUCCESS;
}
static cublasStatus_t propose(cublasLtHandle_t h, cublasLtMatmulDesc_t op, cublasLtMatrixLayout_t a,
			      cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t y,
			      cublasLtMatmulPreference_t want, int most, cublasLtMatmulHeuristicResult_t *out, int *n)
{
	(void)h, (void)op, (void)a, (void)b, (void)c, (void)y, (void)want;
	*n = only_bad ? GOOD : ALGOS;
	for (int i = 0; i < *n && i < most; i++) {
		memset(&out[i], 0, sizeof out[i]);
		out[i].algo.data[0] = (uint64_t)i;
	}
	return CUBLAS_STATUS_SUCCESS;
}
static cublasStatus_t config(const cublasLtMatmulAlgo_t *algo, cublasLtMatmulAlgoConfigAttributes_t what, void *out,
			     size_t size, size_t *written)
{
	int32_t v = what == CUBLASLT_ALGO_CONFIG_SPLITK_NUM ? (algo->data[0] == SPLIT ? 4 : 1)
							    : CUBLASLT_REDUCTION_SCHEME_NONE;

	memcpy(out, &v, size);
	*written = size;
	return CUBLAS_STATUS_SUCCESS;
}
static cublasStatus_t check(cublasLtHandle_t h, cublasLtMatmulDesc_t op, cublasLtMatrixLayout_t a,
			    cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t y,
			    const cublasLtMatmulAlgo_t *algo, cublasLtMatmulHeuristicResult_t *out)
{
	(void)h, (void)op, (void)a, (void)b, (void)c, (void)y;
	memset(out, 0, sizeof *out);
	out->algo = *algo;
	return CUBLAS_STATUS_SUCCESS;
}

/* A host copy of device memory, or room for one. */
static void *bring(const void *device, size_t bytes)
{
	void *p = malloc(bytes);

	if (!p || d->cu->copy(d->at, FR_CU_COMPUTE, p, device, bytes) || d->cu->sync(d->at, FR_CU_COMPUTE))
		abort();
	return p;
}

static float item(int type, uint16_t h)
{
	return type == CUDA_R_16F ? fr_f16_f32(h) : fr_bf16_f32(h);
}

/* y = alpha * a^T b + beta * c, columns first: y [b.cols][a.cols] in our order. */
static cublasStatus_t matmul(cublasLtHandle_t h, cublasLtMatmulDesc_t desc, const void *alpha, const void *a,
			     cublasLtMatrixLayout_t la, const void *b, cublasLtMatrixLayout_t lb, const void *beta,
			     const void *c, cublasLtMatrixLayout_t lc, void *y, cublasLtMatrixLayout_t ly,
			     const cublasLtMatmulAlgo_t *algo, void *workspace, size_t bytes, cudaStream_t stream)
{
	const struct op *op = (const struct op *)desc;
	const struct layout *w = (const struct layout *)la, *x = (const struct layout *)lb,
			    *o = (const struct layout *)ly;
	const size_t n = w->cols, k = w->rows, rows = x->cols, kind = algo->data[0];
	uint16_t *hw, *hx;
	float *hy, *hb = NULL;

	(void)h, (void)lc, (void)workspace, (void)stream;
	if (!op->transposed || x->rows != k || o->rows != n || o->cols != rows || o->ld != n || w->ld != k ||
	    x->ld != k || *(const float *)alpha != 1 || bytes != FR_LT_WORKSPACE)
		return CUBLAS_STATUS_INVALID_VALUE;
	used[kind]++;
	hw = bring(a, n * k * sizeof *hw);
	hx = bring(b, rows * k * sizeof *hx);
	hy = bring(*(const float *)beta != 0 ? c : y, rows * n * sizeof *hy);
	if (op->bias_set)
		hb = bring(op->bias, n * sizeof *hb);
	for (size_t r = 0; r < rows; r++)
		for (size_t i = 0; i < n; i++) {
			float acc = 0, *out = &hy[r * n + i];
			size_t from = kind == BY_ROWS && rows > 100 ? k / 2 : 0;

			for (size_t j = 0; j < k; j++) {
				size_t at = (from + j) % k;

				acc = fmaf(item(w->type, hw[(kind == WRONG ? n - 1 - i : i) * k + at]),
					   item(x->type, hx[r * k + at]), acc);
			}
			if (hb)
				acc += hb[i];
			*out = *(const float *)beta != 0 ? acc + *out : acc;
		}
	d->cu->copy(d->at, FR_CU_COMPUTE, y, hy, rows * n * sizeof *hy);
	d->cu->sync(d->at, FR_CU_COMPUTE);
	free(hw), free(hx), free(hy), free(hb);
	return CUBLAS_STATUS_SUCCESS;
}
static cublasStatus_t destroy(cublasLtHandle_t h)
{
	(void)h;
	return CUBLAS_STATUS_SUCCESS;
}

static struct fr_cu_lt *library(void)
{
	struct fr_cu_lt *lt = calloc(1, sizeof *lt);

	if (!lt)
		abort();
	lt->least = 1;
	lt->api.cublasLtDestroy = destroy;
	lt->api.cublasLtMatmul = matmul;
	lt->api.cublasLtMatmulAlgoCheck = check;
	lt->api.cublasLtMatmulAlgoConfigGetAttribute = config;
	lt->api.cublasLtMatmulAlgoGetHeuristic = propose;
	lt->api.cublasLtMatmulDescInit_internal = op_init;
	lt->api.cublasLtMatmulDescSetAttribute = op_set;
	lt->api.cublasLtMatmulPreferenceInit_internal = preference_init;
	lt->api.cublasLtMatmulPreferenceSetAttribute = preference_set;
	lt->api.cublasLtMatrixLayoutInit_internal = layout_init;
	return lt;
}

/* ---- the products: with the library as without it, where the chain of sums is the same ---- */

static float *x, *bias, *scale, *residual, *y;
static void *w[2];

/* 0 plain, 1 bias, 2 residual, 3 all and an activation, 4 residual and bias in place, 5 gated */
static int run(int which, enum fr_dtype dtype, float *out)
{
	static const struct fr_linear kinds[] = {
		{0},
		{.bias = (float *)1},
		{.residual = (float *)1},
		{.bias = (float *)1, .scale = (float *)1, .residual = (float *)1, .act = FR_ACT_GELU},
		{.bias = (float *)1, .residual = (float *)2},
	};
	const struct fr_mat first = {w[0], dtype, N, K}, second = {w[1], dtype, N, K};
	struct fr_error err = {0};

	dev->ops->copy(dev, y, residual, ROWS * N * sizeof *y);
	if (which == 5) {
		dev->ops->glu(dev, &(struct fr_glu){x, first, second, y, ROWS, FR_PREFILL});
	} else {
		struct fr_linear a = kinds[which];

		a.residual = a.residual == (float *)2 ? y : a.residual ? residual : NULL;
		a.bias = a.bias ? bias : NULL;
		a.scale = a.scale ? scale : NULL;
		a.x = x;
		a.w = first;
		a.y = y;
		a.rows = ROWS;
		dev->ops->linear(dev, &a);
	}
	dev->ops->get(dev, out, y, ROWS * N * sizeof *out);
	return dev->ops->sync(dev, &err);
}

static int put_random(float *p, int n)
{
	float *h = malloc((size_t)n * sizeof *h);

	for (int i = 0; h && i < n; i++)
		h[i] = random_float();
	dev->ops->put(dev, p, h, (size_t)n * sizeof *h);
	free(h);
	return h ? 0 : -1;
}

static int open_all(void)
{
	struct fr_dev_opts opts = {.backend = "cuda", .no_cublas = 1};
	struct fr_error err = {0};
	int rc = fr_cuda_open(&opts, &dev, &err);

	if (rc)
		return rc;
	d = (struct fr_cuda *)dev;
	rc |= dev->ops->alloc(dev, ROWS * K * sizeof *x, (void **)&x, &err) || put_random(x, ROWS * K);
	rc |= dev->ops->alloc(dev, N * sizeof *bias, (void **)&bias, &err) || put_random(bias, N);
	rc |= dev->ops->alloc(dev, N * sizeof *scale, (void **)&scale, &err) || put_random(scale, N);
	rc |= dev->ops->alloc(dev, ROWS * N * sizeof *residual, (void **)&residual, &err) ||
	      put_random(residual, ROWS * N);
	rc |= dev->ops->alloc(dev, ROWS * N * sizeof *y, (void **)&y, &err);
	for (int i = 0; i < 2; i++)
		rc |= dev->ops->alloc(dev, N * PITCH * sizeof(uint16_t), &w[i], &err);
	return rc;
}

static void put_weights(enum fr_dtype dtype)
{
	static uint16_t h[N * PITCH];

	for (int m = 0; m < 2; m++) {
		for (int i = 0; i < N * PITCH; i++) {
			float v = i % PITCH < K ? random_float() : 0;

			h[i] = dtype == FR_F16 ? fr_f32_f16(v) : fr_f32_bf16(v);
		}
		dev->ops->put(dev, w[m], h, sizeof h);
	}
}

static void test_kind(struct fr_cu_lt *lt, int which, enum fr_dtype dtype)
{
	static const char *const names[] = {"plain", "bias", "residual", "all", "inplace", "gated"};
	static float with[ROWS * N], without[ROWS * N];
	const int products = which == 5 ? 2 : 1;
	char name[96];
	int rc, bad = 0;

	d->lt = NULL;
	rc = run(which, dtype, without);
	d->lt = lt;
	rc |= run(which, dtype, with); /* chooses, where the shape is new */
	memset(used, 0, sizeof used);
	rc |= run(which, dtype, with);
	d->lt = NULL;
	for (int i = 0; i < ROWS * N; i++)
		bad += fr_f32_bits(with[i]) != fr_f32_bits(without[i]);
	snprintf(name, sizeof name, "exact/cuda-lt/%s/%s", dtype == FR_F16 ? "f16" : "bf16", names[which]);
	CHECK(name, !rc && !bad && used[GOOD] == products && !used[SPLIT] && !used[BY_ROWS] && !used[WRONG],
	      "%d of %d values differ, error %d, products by algorithm %d %d %d %d", bad, ROWS * N, rc, used[SPLIT],
	      used[BY_ROWS], used[WRONG], used[GOOD]);
}

int main(void)
{
	struct fr_cu_lt *lt;
	static float out[ROWS * N];

	if (on_device()) {
		test_skip("exact/cuda-lt", "for the simulation: the library is not the real one");
		return test_done();
	}
	if (open_all()) {
		test_fail("exact/cuda-lt/open", "no device");
		return test_done();
	}
	lt = library();
	for (int t = 0; t < 2; t++) {
		put_weights(t ? FR_F16 : FR_BF16);
		for (int i = 0; i < 6; i++)
			test_kind(lt, i, t ? FR_F16 : FR_BF16);
	}
	for (int i = 0; i < 4; i++) /* wanted() asks no more of a product */
		CHECK("exact/cuda-lt/alignment", aligned_to[i] <= 16, "side %d: %u bytes", i, (unsigned)aligned_to[i]);
	d->lt = lt;
	d->precise = 1;
	memset(used, 0, sizeof used);
	CHECK("exact/cuda-lt/precise-is-ours", run(0, FR_F16, out) == 0 && !used[GOOD], "%d products", used[GOOD]);
	d->precise = 0;
	lt->shapes = 0;
	only_bad = 1;
	run(0, FR_F16, out);
	memset(used, 0, sizeof used);
	CHECK("exact/cuda-lt/none-passes",
	      run(0, FR_F16, out) == 0 && lt->shapes == 1 && !used[BY_ROWS] && !used[WRONG],
	      "%d shapes, products by algorithm %d %d", lt->shapes, used[BY_ROWS], used[WRONG]);
	dev->ops->close(dev);
	return test_done();
}
#endif
