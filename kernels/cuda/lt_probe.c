/* Which algorithm of cuBLASLt serves a weight shape: see lt.c. The probe's own x and y lie in the work memory, which is
 * planned to hold them: what is chosen must not depend on how much memory happens to be left. */
#include "gemm.h"
#include "lt.h"

#ifdef FR_HAVE_CUBLASLT
#include "scratch.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define PROPOSALS 8
#define FEW 591	  /* rows of x that differ: a prompt with an image and its opening; repeated up to MANY */
#define MANY 4728 /* eight of them */
static const int counts[] = {1, 17, FEW, MANY};
#define ALIGN 256

struct probe {
	uint16_t *x;		       /* device [MANY, k] */
	float *y, *ours;	       /* device [MANY, n], [FEW, n] */
	float *bias, *residual;	       /* device: zeros [n]; [MANY, n] */
	float *first, *now, *expected; /* host [FEW, n] */
	void *workspace;
};

/* FEW rows of values in +-[0.5, 2), the same ones again below. */
static int random_x(struct fr_cuda *d, const struct fr_lt_shape *s, uint16_t *x)
{
	const size_t items = (size_t)FEW * (size_t)s->k;
	uint16_t *host = malloc(items * sizeof *host);
	uint64_t seed = 1;
	int rc = 0;

	if (!host)
		return -1;
	for (size_t i = 0; i < items; i++) {
		float v;

		seed = seed * 6364136223846793005u + 1442695040888963407u;
		v = fr_bits_f32(0x3f000000u | (uint32_t)(seed >> 40) | (uint32_t)(seed >> 8 & 0x80000000u));
		host[i] = s->dtype == FR_F16 ? fr_f32_f16(v) : fr_f32_bf16(v);
	}
	for (int r = 0; r < MANY && !rc; r += FEW)
		rc = d->cu->copy(d->at, FR_CU_COMPUTE, x + (size_t)r * (size_t)s->k, host, items * sizeof *host);
	rc = rc || d->cu->sync(d->at, FR_CU_COMPUTE);
	free(host);
	return rc ? -1 : 0;
}

static size_t aligned(size_t bytes)
{
	return (bytes + ALIGN - 1) / ALIGN * ALIGN;
}

size_t fr_lt_probe_bytes(size_t n, size_t k)
{
	return aligned(MANY * k * sizeof(uint16_t)) + 2 * aligned(MANY * n * sizeof(float)) +
	       aligned(FEW * n * sizeof(float)) + aligned(n * sizeof(float));
}

/* The next `bytes` of the work memory at *at, zeroed. */
static void *take(struct fr_cuda *d, char **at, size_t bytes)
{
	void *p = *at;

	fr_cu_note(d, d->cu->zero(d->at, FR_CU_COMPUTE, p, bytes), "the probe of a product");
	*at += aligned(bytes);
	return p;
}

static int get_ready(struct fr_cuda *d, const struct fr_lt_shape *s, const struct fr_mat *w, struct probe *p)
{
	const size_t n = (size_t)s->n, few = FEW * n * sizeof(float), many = MANY * n * sizeof(float);
	char *at = fr_cu_part(d, FR_PART_LT, FR_LT_WORKSPACE + fr_lt_probe_bytes(n, (size_t)s->k));
	struct fr_packed x;

	p->workspace = at;
	p->first = malloc(few);
	p->now = malloc(few);
	p->expected = malloc(few);
	if (!at || !p->first || !p->now || !p->expected)
		return -1;
	at += FR_LT_WORKSPACE;
	p->x = take(d, &at, (size_t)MANY * (size_t)s->k * sizeof *p->x);
	p->y = take(d, &at, many);
	p->ours = take(d, &at, few);
	p->bias = s->kind == FR_LT_BIAS ? take(d, &at, n * sizeof(float)) : NULL;
	p->residual = s->kind == FR_LT_RESIDUAL ? take(d, &at, many) : NULL;
	if (d->error || random_x(d, s, p->x))
		return -1;
	x = (struct fr_packed){
		.data = p->x, .dtype = s->dtype, .rows = FEW, .cols = w->cols, .pitch = s->k, .terms = 1};
	fr_gemm_dot(d, &x, w, p->ours);
	return d->error || d->cu->copy(d->at, FR_CU_COMPUTE, p->expected, p->ours, few) ||
			       d->cu->sync(d->at, FR_CU_COMPUTE)
		       ? -1
		       : 0;
}

/* y's rows from `row` on, `rows` of them, into host. */
static int fetch(struct fr_cuda *d, const struct fr_lt_shape *s, const struct probe *p, int row, int rows, float *host)
{
	return d->cu->copy(d->at, FR_CU_COMPUTE, host, p->y + (size_t)row * (size_t)s->n,
			   (size_t)rows * (size_t)s->n * sizeof *host) ||
	       d->cu->sync(d->at, FR_CU_COMPUTE);
}

/* Close to our own sums, whose largest is the measure: this finds a wrong matrix, not a rounding. */
static int close_to_ours(const struct fr_lt_shape *s, const struct probe *p)
{
	const size_t items = (size_t)FEW * (size_t)s->n;
	float most = 0, off = 0;

	for (size_t i = 0; i < items; i++) {
		float by = fabsf(p->first[i] - p->expected[i]);

		most = fmaxf(most, fabsf(p->expected[i]));
		if (!(by <= off))
			off = by;
	}
	return off <= most * 0x1p-10f;
}

/* The algorithm in s, for all counts of rows. */
static int passes(struct fr_cuda *d, const struct fr_lt_shape *s, const struct fr_mat *w, const struct probe *p)
{
	const size_t row = (size_t)s->n * sizeof(float);

	for (int i = (int)(sizeof counts / sizeof *counts) - 1; i >= 0; i--) {
		const struct fr_lt_product product = {w->data, p->x,	  p->bias,     p->residual,
						      p->y,    counts[i], p->workspace};
		const int few = counts[i] < FEW ? counts[i] : FEW, below = counts[i] - few;
		cublasLtMatmulHeuristicResult_t checked;
		struct fr_lt_call c;

		fr_lt_describe(d->lt, s, counts[i], p->bias, &c);
		if (d->lt->api.cublasLtMatmulAlgoCheck(d->lt->handle, &c.op, &c.w, &c.x, &c.y, &c.y, &s->algo,
						       &checked) != CUBLAS_STATUS_SUCCESS ||
		    checked.workspaceSize > FR_LT_WORKSPACE || fr_lt_multiply(d, s, &product) ||
		    fetch(d, s, p, 0, few, i + 1 == (int)(sizeof counts / sizeof *counts) ? p->first : p->now))
			return 0;
		if (counts[i] == MANY ? fetch(d, s, p, below, few, p->now) || !close_to_ours(s, p) : 0)
			return 0;
		if (memcmp(p->first, p->now, (size_t)few * row) != 0)
			return 0;
	}
	return 1;
}

/* No part of a sum by another block. */
static int whole_sums(const struct fr_cu_lt *lt, const cublasLtMatmulAlgo_t *algo)
{
	uint32_t scheme = CUBLASLT_REDUCTION_SCHEME_MASK;
	int32_t split = 0;
	size_t n;

	return lt->api.cublasLtMatmulAlgoConfigGetAttribute(algo, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &split, sizeof split,
							    &n) == CUBLAS_STATUS_SUCCESS &&
	       lt->api.cublasLtMatmulAlgoConfigGetAttribute(algo, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, &scheme,
							    sizeof scheme, &n) == CUBLAS_STATUS_SUCCESS &&
	       split <= 1 && scheme == CUBLASLT_REDUCTION_SCHEME_NONE;
}

static int propose(const struct fr_cu_lt *lt, const struct fr_lt_shape *s, const float *bias,
		   cublasLtMatmulHeuristicResult_t *out)
{
	const uint32_t scheme = CUBLASLT_REDUCTION_SCHEME_NONE;
	static const cublasLtMatmulPreferenceAttributes_t sides[] = {
		CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
		CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
	const uint32_t least = FR_LT_ALIGN;
	const uint64_t room = FR_LT_WORKSPACE;
	cublasLtMatmulPreferenceOpaque_t want;
	struct fr_lt_call c;
	int n = 0;

	fr_lt_describe(lt, s, FEW, bias, &c);
	lt->api.cublasLtMatmulPreferenceInit_internal(&want, sizeof want);
	lt->api.cublasLtMatmulPreferenceSetAttribute(&want, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &room,
						     sizeof room);
	lt->api.cublasLtMatmulPreferenceSetAttribute(&want, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &scheme,
						     sizeof scheme);
	for (size_t i = 0; i < sizeof sides / sizeof *sides; i++) /* else it counts on 256 */
		lt->api.cublasLtMatmulPreferenceSetAttribute(&want, sides[i], &least, sizeof least);
	if (lt->api.cublasLtMatmulAlgoGetHeuristic(lt->handle, &c.op, &c.w, &c.x, &c.y, &c.y, &want, PROPOSALS, out,
						   &n) != CUBLAS_STATUS_SUCCESS)
		return 0;
	return n;
}

static void choose(struct fr_cuda *d, struct fr_lt_shape *s, const struct fr_mat *w)
{
	cublasLtMatmulHeuristicResult_t proposal[PROPOSALS];
	struct probe p = {0};
	int n = 0;

	if (get_ready(d, s, w, &p) == 0)
		n = propose(d->lt, s, p.bias, proposal);
	for (int i = 0; i < n && !s->usable; i++) {
		s->algo = proposal[i].algo;
		s->usable = proposal[i].state == CUBLAS_STATUS_SUCCESS && whole_sums(d->lt, &s->algo) &&
			    passes(d, s, w, &p);
	}
	free(p.first);
	free(p.now);
	free(p.expected);
}

const struct fr_lt_shape *fr_lt_shape_of(struct fr_cuda *d, const struct fr_mat *w, enum fr_lt_kind kind)
{
	struct fr_cu_lt *lt = d->lt;
	struct fr_lt_shape *s;

	for (int i = 0; i < lt->shapes; i++) {
		s = &lt->shape[i];
		if (s->n == w->rows && s->k == fr_pitch(w->cols) && s->dtype == w->dtype && s->kind == kind)
			return s->usable ? s : NULL;
	}
	if (lt->shapes == FR_LT_SHAPES || d->scratch->recording || d->error)
		return NULL;
	s = &lt->shape[lt->shapes++];
	*s = (struct fr_lt_shape){.n = w->rows, .k = fr_pitch(w->cols), .dtype = w->dtype, .kind = kind};
	choose(d, s, w);
	return s->usable ? s : NULL;
}
#endif
