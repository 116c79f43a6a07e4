/* Attention of the CUDA instance, beyond the rows of cuda_kernels.c: float32 attention has ref's bits, a decode step's
 * bits do not depend on the cache's capacity or on how query heads share keys, the 16-bit terms that attention leaves
 * for the next product are those of its result, keys shut out by a bias of -inf do no harm, and blocks of several
 * tiles. */
#include "../kernels/ref_round.h"
#include "cuda_arrays.h"
#include "cuda_test.h"
#include "kernel_bounds_map.h"
#include "test.h"

static struct fr_dev *ref, *cuda, *precise;

/* ---- rows of the kernel check ---- */

static int bind(const struct fr_check *ck, struct fr_dev *dev, struct fr_check_run *run)
{
	struct fr_error err;

	must(fr_check_bind(ck, dev, run, &err), &err);
	fr_check_call(run);
	if (fr_check_collect(run, &err) == 0)
		return 0;
	printf("# %s\n", err.text);
	return -1;
}

static void check_f32(const struct fr_check_case *c)
{
	struct fr_check_run got = {0}, want = {0};
	struct fr_check *ck;
	struct fr_error err;
	char name[160], label[200];
	size_t n, bad = 0;

	snprintf(label, sizeof label, "exact/cuda-precise/%s", fr_check_name(c, name, sizeof name));
	must(fr_check_new(c, 3, &ck, &err), &err);
	n = ck->slot[FR_SLOT_Y].bytes / 4;
	if (bind(ck, precise, &got) != 0 || bind(ck, ref, &want) != 0)
		test_fail(label, "it did not run");
	else {
		for (size_t i = 0; i < n; i++)
			bad += fr_f32_bits(((float *)got.out[FR_SLOT_Y])[i]) !=
			       fr_f32_bits(((float *)want.out[FR_SLOT_Y])[i]);
		CHECK(label, bad == 0, "%zu of %zu values differ from ref's", bad, n);
	}
	fr_check_unbind(&got);
	fr_check_unbind(&want);
	fr_check_free(ck);
}

static void check_matrix(const struct fr_check_case *c)
{
	const struct party party = {.rounds = 1, .free_sums = 1, .rows = 40};
	struct fr_check_run run = {0};
	struct fr_check *ck;
	struct fr_error err;
	char name[160], label[200];

	snprintf(label, sizeof label, "bounded/cuda/%s", fr_check_name(c, name, sizeof name));
	must(fr_check_new(c, 4, &ck, &err), &err);
	if (bind(ck, cuda, &run) != 0) {
		test_fail(label, "it did not run");
	} else {
		struct tally t = check_bounds(&run, &party);

		CHECK(label, within_bounds(&t), "worst at %zu: got %.9g, want %.9g, bound %.3g; rms %.3f of a walk",
		      t.worst, t.got, t.want, t.bound, tally_walk(&t));
	}
	fr_check_unbind(&run);
	fr_check_free(ck);
}

/* ---- decode ---- */

enum { HEADS = 4, DIM = 64, POSITIONS = 600 };

/* Keys or values of both sequences: each head of keys the same, NaN from `written` on. */
static void *make_cache(struct fr_dev *dev, const struct fr_kv *kv, int written, uint32_t salt)
{
	const size_t head = (size_t)kv->max_pos * (size_t)kv->head_dim, item = (size_t)fr_dtypes[kv->dtype].bytes;
	const size_t heads = (size_t)kv->seqs * (size_t)kv->kv_heads, n = heads * head;
	char *host = malloc(n * item);
	void *there;

	for (size_t i = 0; i < n; i++) {
		uint32_t what = (uint32_t)(i / head / (size_t)kv->kv_heads * 1000003 + i % head) + salt;
		int pos = (int)(i % head / (size_t)kv->head_dim);
		float x = pos < written ? (float)((what * 2654435761u >> 7) % 2048) * 0x1p-10f - 1 : NAN;

		if (kv->dtype == FR_F16)
			((uint16_t *)host)[i] = fr_f32_f16(x);
		else
			((float *)host)[i] = x;
	}
	there = upload(dev, host, n * item);
	free(host);
	return there;
}

/* y of a decode step over a cache of max_pos positions and kv_heads heads, on the host. */
static float *decode(struct fr_dev *dev, const float *q, const struct fr_row *row, int rows, int max_pos, int kv_heads,
		     enum fr_dtype dtype)
{
	struct fr_kv kv = {
		.dtype = dtype, .layers = 1, .seqs = 2, .kv_heads = kv_heads, .max_pos = max_pos, .head_dim = DIM};
	const size_t n = (size_t)rows * HEADS * DIM;
	float *y = upload(dev, NULL, n * sizeof *y);

	kv.k = make_cache(dev, &kv, POSITIONS, 1);
	kv.v = make_cache(dev, &kv, POSITIONS, 2);
	dev->ops->attn(dev, &(struct fr_attn){.q = q,
					      .y = y,
					      .rows = rows,
					      .heads = HEADS,
					      .head_dim = DIM,
					      .scale = 0.3f,
					      .kv = &kv,
					      .row = row,
					      .phase = FR_DECODE});
	return fetch(dev, y, n);
}

static void check_decode(enum fr_dtype dtype)
{
	static const struct fr_row near[] = {{0, 10}, {1, 255}, {0, 0}},
				   far[] = {{1, 599}, {0, 255}, {0, 256}, {1, 511}};
	float *q = random_array(cuda, 4 * HEADS * DIM, 4);
	const size_t n3 = 3 * HEADS * DIM, n4 = 4 * HEADS * DIM;
	size_t bad;
	char name[80];

	bad = differing(decode(cuda, q, near, 3, 256, 2, dtype), decode(cuda, q, near, 3, 1300, 2, dtype), n3);
	snprintf(name, sizeof name, "exact/cuda/decode/%s/one_chunk_or_several", fr_dtypes[dtype].name);
	CHECK(name, bad == 0, "%zu of %zu values differ between caches of 256 and 1300 positions", bad, n3);
	bad = differing(decode(cuda, q, far, 4, 600, 2, dtype), decode(cuda, q, far, 4, 5000, 2, dtype), n4);
	snprintf(name, sizeof name, "exact/cuda/decode/%s/capacity", fr_dtypes[dtype].name);
	CHECK(name, bad == 0, "%zu of %zu values differ between caches of 600 and 5000 positions", bad, n4);
	bad = differing(decode(cuda, q, far, 4, 600, 1, dtype), decode(cuda, q, far, 4, 600, 4, dtype), n4);
	snprintf(name, sizeof name, "exact/cuda/decode/%s/shared_keys", fr_dtypes[dtype].name);
	CHECK(name, bad == 0, "%zu of %zu values differ between one head of keys and four equal ones", bad, n4);
}

/* ---- the terms left for the next product ---- */

/* The product of y as attention left it, and of a copy of y, which is packed anew: the same bits. */
static void check_terms(const char *what, struct fr_dev *dev, struct fr_attn *a)
{
	enum { OUTS = 24 };
	const int width = a->heads * a->head_dim;
	const size_t n = (size_t)a->rows * (size_t)width, outs = (size_t)a->rows * OUTS;
	uint16_t *w = malloc((size_t)OUTS * (size_t)width * 2);
	struct fr_tensor t = {
		.name = "w", .file = "test", .dtype = FR_BF16, .ndim = 2, .shape = {OUTS, width}, .data = w};
	float *y = upload(dev, NULL, n * 4), *copy = upload(dev, NULL, n * 4), *z[2];
	struct fr_mat m;
	struct fr_error err;
	size_t bad;
	char name[120];

	t.bytes = (size_t)OUTS * (size_t)width * 2;
	for (int i = 0; i < OUTS * width; i++)
		w[i] = fr_f32_bf16(random_float());
	must(dev->ops->weight(dev, &t, &m, &err), &err);
	a->y = y;
	for (int i = 0; i < 2; i++) {
		z[i] = upload(dev, NULL, outs * 4);
		if (i == 0)
			dev->ops->attn(dev, a);
		else
			dev->ops->copy(dev, copy, y, n * 4);
		dev->ops->linear(
			dev,
			&(struct fr_linear){.x = i ? copy : y, .w = m, .y = z[i], .rows = a->rows, .phase = a->phase});
	}
	bad = differing(fetch(dev, z[0], outs), fetch(dev, z[1], outs), outs);
	snprintf(name, sizeof name, "exact/cuda/terms/%s", what);
	CHECK(name, bad == 0, "%zu of %zu outputs differ between y's terms as left and as packed", bad, outs);
	free(w);
}

static void check_all_terms(struct fr_dev *dev, const char *who)
{
	static const struct fr_row row[] = {{0, 3}, {0, 4}, {1, 260}};
	struct fr_kv kv = {.dtype = FR_F16, .layers = 1, .seqs = 2, .kv_heads = 2, .head_dim = 40};
	struct fr_attn a = {.rows = 3, .heads = 2, .head_dim = 40, .scale = 0.2f, .row = row};
	char name[80];

	a.q = random_array(dev, 3 * 80, 3);
	for (int decode = 0; decode < 2; decode++) {
		kv.max_pos = 300;
		kv.k = make_cache(dev, &kv, 261, 1);
		kv.v = make_cache(dev, &kv, 261, 2);
		a.kv = &kv;
		a.phase = decode ? FR_DECODE : FR_PREFILL;
		snprintf(name, sizeof name, "%s/%s", who, decode ? "decode" : "prefill");
		check_terms(name, dev, &a);
	}
	a.kv = NULL;
	a.phase = FR_PREFILL;
	a.kv_rows = 9;
	a.k = random_array(dev, 9 * 80, 2);
	a.v = random_array(dev, 9 * 80, 2);
	snprintf(name, sizeof name, "%s/dense", who);
	check_terms(name, dev, &a);
}

/* ---- hard values ---- */

/* Dense attention of one row over 130 keys with the first `out` keys shut out, and q so large that f16 saturates. */
static void check_hard(struct fr_dev *dev, const char *who)
{
	enum { KEYS = 130, OUT = 100, D = 24 };
	float bias[KEYS], v[KEYS * D], q[D];
	struct fr_attn a = {.rows = 1, .heads = 1, .head_dim = D, .scale = 0.2f, .kv_rows = KEYS, .phase = FR_PREFILL};
	double worst = 0;
	float *y;
	char name[80];

	for (int j = 0; j < KEYS; j++) {
		bias[j] = j < OUT ? -INFINITY : 0;
		for (int d = 0; d < D; d++)
			v[j * D + d] = j < OUT ? 1000 : (float)d;
	}
	for (int d = 0; d < D; d++)
		q[d] = 1e30f;
	a.q = upload(dev, q, sizeof q);
	a.k = random_array(dev, KEYS * D, 1e-3f);
	a.v = upload(dev, v, sizeof v);
	a.y = upload(dev, NULL, sizeof q);
	a.bias = upload(dev, bias, sizeof bias);
	dev->ops->attn(dev, &a);
	y = fetch(dev, a.y, D);
	for (int d = 0; d < D; d++)
		worst = isfinite(y[d]) && fabs((double)y[d] - d) < worst ? worst : fabs((double)y[d] - d);
	snprintf(name, sizeof name, "bounded/%s/shut_out", who);
	CHECK(name, worst <= 24 * 0x1p-10, "off by %g", worst); /* weights and their sum are off by 2^-11 */
	free(y);
}

int main(void)
{
	static const struct fr_check_case f32[] = {
		FR_CASE_DENSE(5, 257, 2, 96, FR_WITH_BIAS),
		FR_CASE_DENSE(33, 40, 1, 64, 0),
		FR_CASE_ITEMS(2, 9, 33, 1, 320, FR_WITH_BIAS),
		FR_CASE_CACHED(ATTN, PREFILL, F32, 35, 2, 300, 4, 2, 64),
		FR_CASE_CACHED(ATTN, PREFILL, F16, 18, 1, 258, 2, 2, 136),
	};
	static const struct fr_check_case matrix[] = {
		FR_CASE_DENSE(130, 65, 1, 64, 0),
		FR_CASE_CACHED(ATTN, PREFILL, F16, 150, 1, 150, 1, 1, 128),
		FR_CASE_CACHED(ATTN, PREFILL, F16, 9, 2, 600, 2, 1, 64),
		FR_CASE_CACHED(ATTN, PREFILL, F16, 70, 1, 130, 1, 1, 160),
	};
	struct fr_dev_opts opts = {.backend = "cpu", .isa = "ref"};
	struct fr_error err;

	choose_device();
	must(fr_dev_open(&opts, &ref, &err), &err);
	cuda = open_cuda(0);
	precise = open_cuda(1);
	for (size_t i = 0; i < sizeof f32 / sizeof *f32; i++)
		check_f32(&f32[i]);
	for (size_t i = 0; i < sizeof matrix / sizeof *matrix; i++)
		check_matrix(&matrix[i]);
	check_decode(FR_F16);
	check_decode(FR_F32);
	check_hard(cuda, "cuda");
	check_hard(precise, "cuda-precise");
	check_all_terms(cuda, "plain");
	check_all_terms(precise, "precise");
	ref->ops->close(ref);
	cuda->ops->close(cuda);
	precise->ops->close(precise);
	return test_done();
}
