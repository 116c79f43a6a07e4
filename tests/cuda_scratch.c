/* The CUDA backend's own memory: a packed form is never stale, arrays of a call are never overwritten on their way, a
 * recorded step gives the bits of an eager one, and what work() was given is enough.
 *
 * The device is the host shim, which runs everything as late as it may (FR_SHIM_LAZY). */
#include "../engine/fr.h"
#include "../kernels/cuda/scratch.h"
#include "cuda_host/shim.h"
#include "test.h"

static uint64_t seed = 1;
static struct fr_cu counting; /* the shim's driver */
static unsigned replays;

static int count_replay(struct fr_cu_device *at, void *graph)
{
	replays++;
	return fr_cu_shim.replay(at, graph);
}

static float random_float(void)
{
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return (float)((int32_t)(seed >> 40) - (1 << 23)) * 0x1p-23f;
}

static void fill(float *x, size_t n)
{
	for (size_t i = 0; i < n; i++)
		x[i] = random_float();
}

/* Fails the whole program: nothing below can work. */
static void must(int rc, const struct fr_error *err)
{
	if (rc == 0)
		return;
	test_fail("device", "%s", err->text);
	exit(1);
}

static struct fr_cuda *open_device(int precise)
{
	const struct fr_dev_opts opts = {.backend = "cuda", .no_cublas = 1, .precise = precise};
	struct fr_dev *dev;
	struct fr_error err;

	must(fr_cuda_open(&opts, &dev, &err), &err);
	return (struct fr_cuda *)dev;
}

static void sync_device(struct fr_cuda *d)
{
	struct fr_error err;

	must(d->dev.ops->sync(&d->dev, &err), &err);
}

static void close_device(struct fr_cuda *d)
{
	sync_device(d);
	d->dev.ops->close(&d->dev);
}

static float *device_floats(struct fr_cuda *d, const float *from, size_t n)
{
	struct fr_error err;
	void *p;

	must(d->dev.ops->alloc(&d->dev, n * sizeof(float), &p, &err), &err);
	if (from)
		d->dev.ops->put(&d->dev, p, from, n * sizeof(float));
	return p;
}

/* ---- packed forms ---- */

enum { ROWS = 5, COLS = 37, STRIDE = 41 };

static uint16_t narrow(enum fr_dtype dtype, float v)
{
	return dtype == FR_BF16 ? fr_f32_bf16(v) : fr_f32_f16(v);
}
static float widen(enum fr_dtype dtype, uint16_t h)
{
	return dtype == FR_BF16 ? fr_bf16_f32(h) : fr_f16_f32(h);
}

/* What is packed on the device is x's terms: the first place where it is not, or -1. */
static long wrong_at(struct fr_cuda *d, struct fr_packed p, const float *x, size_t stride)
{
	const size_t pitch = (size_t)p.pitch, rows = (size_t)p.rows, n = (size_t)p.terms * rows * pitch;
	uint16_t *got = malloc(n * sizeof *got);
	float *scale = malloc(rows * sizeof *scale);
	long wrong = p.data && p.pitch == fr_pitch(p.cols) ? -1 : 0;

	if (wrong < 0)
		d->dev.ops->get(&d->dev, got, p.data, n * sizeof *got);
	if (wrong < 0 && p.scale)
		d->dev.ops->get(&d->dev, scale, p.scale, rows * sizeof *scale);
	sync_device(d);
	for (size_t i = 0; wrong < 0 && i < rows * pitch; i++) {
		const size_t r = i / pitch, c = i % pitch;
		float v = c < (size_t)p.cols ? x[r * stride + c] : 0, top = 0;
		int e = 0;

		for (int k = 0; k < p.cols; k++)
			top = fmaxf(top, fabsf(x[r * stride + (size_t)k]));
		if (p.scale) {
			while (ldexpf(top, -e) >= 0x1p15f)
				e++;
			if (scale[r] != ldexpf(1, e))
				wrong = (long)i;
			v = ldexpf(v, -e);
		}
		for (int t = 0; t < p.terms; t++) {
			const uint16_t h = narrow(p.dtype, v);

			if (got[(size_t)t * rows * pitch + i] != h)
				wrong = (long)i;
			v -= widen(p.dtype, h);
		}
	}
	free(got);
	free(scale);
	return wrong;
}

static void test_terms(enum fr_dtype dtype, int terms)
{
	struct fr_cuda *d = open_device(0);
	float x[ROWS * STRIDE], *at;
	char name[64];
	long wrong;

	fill(x, ROWS * STRIDE);
	for (int i = 0; i < COLS; i++) {
		x[2 * STRIDE + i] *= 70000;
		x[3 * STRIDE + i] *= dtype == FR_F16 ? 0x1p90f : 0x1p-100f;
	}
	at = device_floats(d, x, ROWS * STRIDE);
	snprintf(name, sizeof name, "exact/pack/%s_terms%d", fr_dtypes[dtype].name, terms);
	wrong = wrong_at(d, fr_cu_pack(d, at, STRIDE, ROWS, COLS, dtype, terms), x, STRIDE);
	CHECK(name, wrong < 0, "item %ld differs", wrong);
	close_device(d);
}

/* Two forms at a time, each packed once. */
static void test_forms(void)
{
	struct fr_cuda *d = open_device(0);
	float x[ROWS * 40], y[ROWS * 40], *dx, *dy;
	unsigned before;

	fill(x, ROWS * 40);
	fill(y, ROWS * 40);
	dx = device_floats(d, x, ROWS * 40);
	dy = device_floats(d, y, ROWS * 40);
	before = d->launches;
	for (int i = 0; i < 3; i++) {
		fr_cu_pack(d, dx, 40, ROWS, 40, FR_BF16, 2);
		fr_cu_pack(d, dy, 40, ROWS, 40, FR_BF16, 2);
		fr_cu_pack(d, dx, 40, ROWS, 40, FR_BF16, 1);
	}
	CHECK("exact/forms/once", d->launches - before == 2, "%u launches, expected 2", d->launches - before);
	close_device(d);
}

/* Forms of one x that differ in one thing each. */
static void test_shapes(void)
{
	static const struct {
		int rows, cols, terms;
		enum fr_dtype dtype;
	} shapes[] = {{ROWS, 40, 2, FR_BF16}, {ROWS, 39, 2, FR_BF16}, {ROWS, 39, 2, FR_F16},
		      {4, 39, 2, FR_F16},     {4, 39, 1, FR_F16},     {3, 39, 1, FR_F16},
		      {3, 39, 2, FR_F16},     {3, 40, 2, FR_F16},     {3, 40, 2, FR_BF16}};
	struct fr_cuda *d = open_device(0);
	float x[ROWS * 40], *dx;
	int bad = 0;

	fill(x, ROWS * 40);
	dx = device_floats(d, x, ROWS * 40);
	for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
		const struct fr_packed p =
			fr_cu_pack(d, dx, 40, shapes[i].rows, shapes[i].cols, shapes[i].dtype, shapes[i].terms);

		bad += p.rows != shapes[i].rows || p.cols != shapes[i].cols || p.dtype != shapes[i].dtype ||
		       p.terms != shapes[i].terms || wrong_at(d, p, x, 40) >= 0;
	}
	CHECK("exact/forms/shapes", bad == 0, "%d forms are another shape's", bad);
	close_device(d);
}

enum writer { PUT, COPY, NORM, EMBED, ROPE, RELEASE, WRITERS };

static void norm_in_place(struct fr_cuda *d, float *x, float *weight)
{
	d->dev.ops->norm(&d->dev,
			 &(struct fr_norm){.x = x, .weight = weight, .eps = 1e-5f, .y = x, .rows = ROWS, .dim = 40});
}

/* Changes x [ROWS, 40] on the device; other [ROWS, 40] is something else there. */
static float *write_x(struct fr_cuda *d, enum writer writer, float *x, float *other)
{
	static const int32_t ids[ROWS] = {-1, -2, -3, -4, -5};
	static const struct fr_row row[ROWS] = {{0, 1}, {0, 2}, {0, 3}, {0, 4}, {0, 5}};
	const struct fr_ops *ops = d->dev.ops;
	float fresh[ROWS * 40], *cache;
	struct fr_kv kv = {.dtype = FR_F32, .layers = 1, .seqs = 1, .kv_heads = 1, .max_pos = 8, .head_dim = 40};

	fill(fresh, ROWS * 40);
	switch (writer) {
	case PUT:
		ops->put(&d->dev, x + 40, fresh, 40 * sizeof *fresh);
		break;
	case COPY:
		ops->copy(&d->dev, x, other, 40 * sizeof *fresh);
		break;
	case NORM:
		norm_in_place(d, x, other);
		break;
	case EMBED:
		ops->embed(&d->dev, &(struct fr_embed){.ids = ids,
						       .table = {.data = other, .dtype = FR_F32, .rows = 1, .cols = 40},
						       .images = other,
						       .y = x,
						       .rows = ROWS});
		break;
	case ROPE:
		cache = device_floats(d, NULL, 2 * 8 * 40);
		kv.k = cache;
		kv.v = cache + 8 * 40;
		ops->rope(&d->dev, &(struct fr_rope){.q = x,
						     .k = other,
						     .v = other,
						     .cos = other,
						     .sin = other,
						     .row = row,
						     .rows = ROWS,
						     .heads = 1,
						     .kv = &kv});
		break;
	default:
		ops->release(&d->dev, x, ROWS * 40 * sizeof *x);
		return device_floats(d, fresh, ROWS * 40);
	}
	return x;
}

/* A packed form of memory that was written since is packed anew. */
static void test_stale(enum writer writer)
{
	static const char *const names[WRITERS] = {"put", "copy", "norm", "embed", "rope", "release"};
	struct fr_cuda *d = open_device(0);
	float x[ROWS * 40], *dx, *other;
	char name[64];
	long wrong;

	fill(x, ROWS * 40);
	dx = device_floats(d, x, ROWS * 40);
	fill(x, ROWS * 40);
	other = device_floats(d, x, ROWS * 40);
	fr_cu_pack(d, dx, 40, ROWS, 40, FR_BF16, 2);
	dx = write_x(d, writer, dx, other);
	d->dev.ops->get(&d->dev, x, dx, sizeof x);
	sync_device(d);
	snprintf(name, sizeof name, "exact/stale/%s", names[writer]);
	wrong = wrong_at(d, fr_cu_pack(d, dx, 40, ROWS, 40, FR_BF16, 2), x, 40);
	CHECK(name, wrong < 0, "item %ld is what was there before", wrong);
	close_device(d);
}

/* A norm leaves the terms of its result; a chain's second output gets none while the first one's writer is to come. */
static void test_left(int precise)
{
	struct fr_cuda *d = open_device(precise);
	float x[ROWS * 40], *dx, *other;
	struct fr_packed in, first, second;
	unsigned before;
	long wrong;

	fill(x, ROWS * 40);
	dx = device_floats(d, x, ROWS * 40);
	other = device_floats(d, x, ROWS * 40);
	d->act_dtype = FR_BF16;
	norm_in_place(d, dx, other);
	before = d->launches;
	in = fr_cu_pack(d, dx, 40, ROWS, 40, FR_BF16, fr_cu_terms(precise, FR_PREFILL));
	CHECK("exact/left/found", d->launches == before, "what the norm left was packed again");
	first = fr_cu_pack_out(d, other, ROWS, 40, FR_DECODE);
	second = fr_cu_pack_out(d, other + 40, 1, 40, FR_DECODE);
	CHECK("exact/left/apart", first.data && first.data != in.data && !second.data,
	      "input at %p, first output at %p, second at %p", (const void *)in.data, (const void *)first.data,
	      (const void *)second.data);
	d->dev.ops->get(&d->dev, x, dx, sizeof x);
	sync_device(d);
	wrong = wrong_at(d, in, x, 40);
	CHECK("exact/left/terms", wrong < 0 && in.terms == 1 + precise, "item %ld differs, %d terms", wrong, in.terms);
	close_device(d);
}

/* ---- arrays of a call ---- */

enum { CALLS = 3 * FR_CU_INPUTS };

/* One host array with other contents at each call, none of which has run when the next one comes. */
static void test_arrays(void)
{
	struct fr_cuda *d = open_device(0);
	struct fr_row row[7], got[CALLS][7];
	int bad = 0;
	char *kept = (char *)device_floats(d, NULL, CALLS * 14);

	for (int i = 0; i < CALLS; i++) {
		const int n = 1 + i % 7;

		for (int r = 0; r < n; r++)
			row[r] = (struct fr_row){i, r};
		d->dev.ops->copy(&d->dev, kept + i * (int)sizeof row, fr_cu_rows(d, row, n), (size_t)n * sizeof *row);
		if (i % 5 == 4) /* again, without a copy in between */
			d->dev.ops->copy(&d->dev, kept + i * (int)sizeof row, fr_cu_rows(d, row, n),
					 (size_t)n * sizeof *row);
	}
	d->dev.ops->get(&d->dev, got, kept, sizeof got);
	sync_device(d);
	for (int i = 0; i < CALLS; i++)
		for (int r = 0; r < 1 + i % 7; r++)
			bad += got[i][r].seq != i || got[i][r].pos != r;
	CHECK("exact/arrays/late", bad == 0, "%d rows of %d calls are another call's", bad, CALLS);
	close_device(d);
}

/* The same content from another address is the same array; a longer one makes room. */
static void test_content(void)
{
	struct fr_cuda *d = open_device(0);
	static int32_t a[5000], b[5000];
	const int32_t *first, *again, *longer;
	int32_t got[3];

	for (int i = 0; i < 5000; i++)
		a[i] = b[i] = i;
	first = fr_cu_ids(d, a, 3);
	again = fr_cu_ids(d, b, 3);
	longer = fr_cu_ids(d, a, 5000);
	d->dev.ops->get(&d->dev, got, longer + 4997, sizeof got);
	sync_device(d);
	CHECK("exact/arrays/content",
	      first == again && longer != first && got[0] == 4997 && got[1] == 4998 && got[2] == 4999,
	      "addresses %p, %p, %p; ids %d %d %d", (const void *)first, (const void *)again, (const void *)longer,
	      got[0], got[1], got[2]);
	close_device(d);
}

/* ---- a small decoder ---- */

enum { DIM = 64, HEADS = 4, KV_HEADS = 2, HEAD = 16, FFN = 96, VOCAB = 48, POSITIONS = 300, SEQS = 4, MOST = 24 };

struct model {
	struct fr_mat embed, q, k, v, o, gate, up, down, head;
	float *weight, *cos, *sin; /* of the norms; rotary tables */
	float *x, *h, *qx, *kx, *vx, *a, *g, *logits;
	struct fr_kv kv;
};

static struct fr_mat device_matrix(struct fr_cuda *d, enum fr_dtype dtype, int rows, int cols)
{
	const size_t n = (size_t)rows * (size_t)cols, bytes = n * (size_t)fr_dtypes[dtype].bytes;
	char *data = malloc(bytes);
	struct fr_mat m;
	struct fr_error err;

	for (size_t i = 0; i < n; i++) {
		const float v = random_float() * 0.3f;
		const uint16_t h = narrow(dtype, v);

		memcpy(data + i * (size_t)fr_dtypes[dtype].bytes, dtype == FR_F32 ? (const void *)&v : (const void *)&h,
		       (size_t)fr_dtypes[dtype].bytes);
	}
	must(d->dev.ops->weight(&d->dev,
				&(struct fr_tensor){.name = "w",
						    .file = "test",
						    .dtype = dtype,
						    .ndim = 2,
						    .shape = {rows, cols},
						    .data = data,
						    .bytes = bytes},
				&m, &err),
	     &err);
	sync_device(d); /* the upload reads data till then */
	free(data);
	return m;
}

static struct model make_model(struct fr_cuda *d, enum fr_dtype dtype)
{
	const size_t cells = (size_t)SEQS * KV_HEADS * POSITIONS * HEAD;
	float table[POSITIONS * HEAD / 2];
	struct model m;

	seed = 1;
	m.embed = device_matrix(d, dtype, VOCAB, DIM);
	m.q = device_matrix(d, dtype, HEADS * HEAD, DIM);
	m.k = device_matrix(d, dtype, KV_HEADS * HEAD, DIM);
	m.v = device_matrix(d, dtype, KV_HEADS * HEAD, DIM);
	m.o = device_matrix(d, dtype, DIM, HEADS * HEAD);
	m.gate = device_matrix(d, dtype, FFN, DIM);
	m.up = device_matrix(d, dtype, FFN, DIM);
	m.down = device_matrix(d, dtype, DIM, FFN);
	m.head = device_matrix(d, dtype, VOCAB, DIM);
	fill(table, sizeof table / sizeof *table);
	m.weight = device_floats(d, table, DIM);
	m.cos = device_floats(d, table, sizeof table / sizeof *table);
	m.sin = device_floats(d, table, sizeof table / sizeof *table);
	m.x = device_floats(d, NULL, MOST * DIM);
	m.h = device_floats(d, NULL, MOST * DIM);
	m.qx = device_floats(d, NULL, MOST * DIM);
	m.kx = device_floats(d, NULL, MOST * DIM);
	m.vx = device_floats(d, NULL, MOST * DIM);
	m.a = device_floats(d, NULL, MOST * DIM);
	m.g = device_floats(d, NULL, MOST * FFN);
	m.logits = device_floats(d, NULL, MOST * VOCAB);
	m.kv = (struct fr_kv){.dtype = FR_F16,
			      .layers = 1,
			      .seqs = SEQS,
			      .kv_heads = KV_HEADS,
			      .max_pos = POSITIONS,
			      .head_dim = HEAD};
	m.kv.k = device_floats(d, NULL, cells / 2);
	m.kv.v = device_floats(d, NULL, cells / 2);
	return m;
}

struct call {
	int32_t ids[MOST];
	struct fr_row row[MOST];
	double draw[MOST];
	int rows;
	enum fr_phase phase;
};

static void product(struct fr_cuda *d, const struct call *c, const float *x, struct fr_mat w, float *y, int in_place)
{
	d->dev.ops->linear(
		&d->dev,
		&(struct fr_linear){
			.x = x, .w = w, .residual = in_place ? y : NULL, .y = y, .rows = c->rows, .phase = c->phase});
}

static void norm(struct fr_cuda *d, const struct call *c, const struct model *m)
{
	d->dev.ops->norm(&d->dev, &(struct fr_norm){.x = m->x,
						    .weight = m->weight,
						    .eps = 1e-5f,
						    .y = m->h,
						    .rows = c->rows,
						    .dim = DIM,
						    .phase = c->phase});
}

static void attention(struct fr_cuda *d, const struct call *c, struct model *m)
{
	const struct fr_linear v = {.x = m->h, .w = m->v, .y = m->vx, .rows = c->rows, .phase = c->phase};
	const struct fr_linear k = {.x = m->h, .w = m->k, .y = m->kx, .rows = c->rows, .phase = c->phase, .also = &v};

	d->dev.ops->linear(
		&d->dev,
		&(struct fr_linear){.x = m->h, .w = m->q, .y = m->qx, .rows = c->rows, .phase = c->phase, .also = &k});
	d->dev.ops->rope(&d->dev, &(struct fr_rope){.q = m->qx,
						    .k = m->kx,
						    .v = m->vx,
						    .cos = m->cos,
						    .sin = m->sin,
						    .row = c->row,
						    .rows = c->rows,
						    .heads = HEADS,
						    .kv = &m->kv});
	d->dev.ops->attn(&d->dev, &(struct fr_attn){.q = m->qx,
						    .y = m->a,
						    .rows = c->rows,
						    .heads = HEADS,
						    .head_dim = HEAD,
						    .scale = 0.25f,
						    .kv = &m->kv,
						    .row = c->row,
						    .phase = c->phase});
	product(d, c, m->a, m->o, m->x, 1);
}

/* One layer and the choice of a token; ids [rows] are there after sync. */
static void forward(struct fr_cuda *d, const struct call *c, struct model *m, int32_t *ids)
{
	static const struct fr_sampler sampler = {.temperature = 1.5f, .top_p = 1};

	d->dev.ops->embed(&d->dev, &(struct fr_embed){.ids = c->ids, .table = m->embed, .y = m->x, .rows = c->rows});
	norm(d, c, m);
	attention(d, c, m);
	norm(d, c, m);
	d->dev.ops->glu(
		&d->dev,
		&(struct fr_glu){
			.x = m->h, .gate = m->gate, .up = m->up, .y = m->g, .rows = c->rows, .phase = c->phase});
	product(d, c, m->g, m->down, m->x, 1);
	norm(d, c, m);
	product(d, c, m->h, m->head, m->logits, 0);
	d->dev.ops->pick(&d->dev, &(struct fr_pick){.logits = m->logits,
						    .rows = c->rows,
						    .vocab = VOCAB,
						    .sampler = &sampler,
						    .draw = c->draw,
						    .ids = ids});
}

/* ---- recorded steps ---- */

/* How many rows each step has; -1: a block is released, which drops the recordings. */
static const int steps[] = {3, 3, 1, 3, 3, 1, 1, 1, 4, -1, 3, 3, 3, 4, 4, 4, 1};
enum { STEPS = sizeof steps / sizeof *steps };

struct outcome {
	int32_t ids[STEPS][SEQS];
	float logits[STEPS][SEQS * VOCAB];
	unsigned replays;
};

static void next_call(struct call *c, int rows)
{
	c->rows = rows;
	c->phase = FR_DECODE;
	for (int r = 0; r < rows; r++) {
		c->ids[r] = (int32_t)(fabsf(random_float()) * (VOCAB - 1));
		c->row[r] = (struct fr_row){(r + c->ids[r]) % SEQS, (int)(fabsf(random_float()) * (POSITIONS - 1))};
		c->draw[r] = fabs((double)random_float());
		for (int s = 0; s < r; s++) /* a sequence is in a step once */
			if (c->row[s].seq == c->row[r].seq)
				c->row[r].seq = (c->row[r].seq + 1) % SEQS, s = -1;
	}
}

static void run_steps(enum fr_dtype dtype, const char *graph, struct outcome *out)
{
	struct fr_cuda *d;
	struct model m;
	struct call c;
	int32_t ids[SEQS];
	float logits[SEQS * VOCAB];

	setenv("FR_RUN_CUDA_GRAPH", graph, 1);
	d = open_device(0);
	m = make_model(d, dtype);
	replays = 0;
	for (int i = 0; i < STEPS; i++) {
		if (steps[i] < 0) {
			d->dev.ops->release(&d->dev, device_floats(d, NULL, 10), 10 * sizeof(float));
			continue;
		}
		next_call(&c, steps[i]);
		memset(ids, -1, sizeof ids);
		memset(logits, 0, sizeof logits);
		if (!d->dev.ops->step_begin(&d->dev, c.ids, c.row, c.draw, c.rows)) {
			forward(d, &c, &m, ids);
			d->dev.ops->get(&d->dev, logits, m.logits, (size_t)c.rows * VOCAB * sizeof *logits);
			d->dev.ops->step_end(&d->dev);
		}
		memset(c.ids, 0, sizeof c.ids); /* the arrays are the caller's again */
		memset(c.row, 0, sizeof c.row);
		sync_device(d);
		memcpy(out->ids[i], ids, sizeof ids);
		memcpy(out->logits[i], logits, sizeof logits);
	}
	out->replays = replays;
	close_device(d);
}

static void test_steps(enum fr_dtype dtype)
{
	static struct outcome eager, recorded;
	char name[64];
	int bad = 0;

	run_steps(dtype, "0", &eager);
	run_steps(dtype, "1", &recorded);
	for (int i = 0; i < STEPS; i++)
		bad += memcmp(eager.ids[i], recorded.ids[i], sizeof eager.ids[i]) != 0 ||
		       memcmp(eager.logits[i], recorded.logits[i], sizeof eager.logits[i]) != 0;
	snprintf(name, sizeof name, "exact/steps/%s", fr_dtypes[dtype].name);
	CHECK(name, bad == 0, "%d of %d steps differ from the eager ones", bad, STEPS);
	snprintf(name, sizeof name, "exact/steps/%s_replayed", fr_dtypes[dtype].name);
	/* the second time that its number of rows comes, and each time after it, but for the first after a release */
	CHECK(name, eager.replays == 0 && recorded.replays == 11, "%u and %u replays, expected 0 and 11", eager.replays,
	      recorded.replays);
}

/* ---- work memory ---- */

static int own_blocks(const struct fr_cu_scratch *s)
{
	int own = s->step_dev.own;

	for (int i = 0; i < FR_PARTS; i++)
		own += s->part[i].own;
	for (int i = 0; i < 2; i++)
		own += s->form[i].block.own;
	for (int i = 0; i < FR_CU_INPUTS; i++)
		own += s->input[i].dev.own;
	return own;
}

static void dense_attention(struct fr_cuda *d, struct model *m)
{
	d->dev.ops->attn(&d->dev, &(struct fr_attn){.q = m->qx,
						    .y = m->a,
						    .items = 2,
						    .rows = MOST / 2,
						    .heads = HEADS,
						    .head_dim = HEAD,
						    .scale = 0.25f,
						    .k = m->x,
						    .v = m->h,
						    .kv_rows = MOST / 2,
						    .phase = FR_PREFILL});
}

/* A decode step again and again. */
static void run_step(struct fr_cuda *d, struct model *m, int rows, int times)
{
	struct call c;
	int32_t ids[SEQS];

	for (int i = 0; i < times; i++) {
		next_call(&c, rows);
		if (!d->dev.ops->step_begin(&d->dev, c.ids, c.row, c.draw, c.rows)) {
			forward(d, &c, m, ids);
			d->dev.ops->step_end(&d->dev);
		}
		sync_device(d);
	}
}

/* Calls at the limits take nothing beyond what work() was given. */
static void test_work(enum fr_dtype dtype, int precise)
{
	const struct fr_limits limits = {.rows = MOST,
					 .decode_rows = SEQS,
					 .cols = FFN,
					 .outs = FFN,
					 .heads = HEADS,
					 .head_dim = HEAD,
					 .max_pos = POSITIONS,
					 .vocab = VOCAB,
					 .dense = HEADS * HEAD};
	struct fr_cuda *d = open_device(precise);
	struct model m = make_model(d, dtype);
	const size_t bytes = d->dev.ops->work_bytes(&d->dev, &limits);
	struct fr_error err;
	int32_t ids[MOST];
	struct call c;
	size_t held;
	void *block;
	char name[64];

	must(d->dev.ops->alloc(&d->dev, bytes, &block, &err), &err);
	d->dev.ops->work(&d->dev, block, bytes, &limits);
	held = d->dev.held;
	run_step(d, &m, SEQS, 3);
	run_step(d, &m, 2, 1);
	for (int r = 0; r < MOST; r++) { /* each row a tile of its own */
		c.ids[r] = r * 7 % VOCAB;
		c.row[r] = (struct fr_row){r % SEQS, r / SEQS * 2};
		c.draw[r] = 0.5;
	}
	c.rows = MOST;
	c.phase = FR_PREFILL;
	forward(d, &c, &m, ids);
	dense_attention(d, &m);
	sync_device(d);
	snprintf(name, sizeof name, "exact/work/%s%s", fr_dtypes[dtype].name, precise ? "_precise" : "");
	CHECK(name, d->dev.held == held && own_blocks(d->scratch) == 0,
	      "%zu bytes were taken beyond the %zu of work_bytes, in %d pieces", d->dev.held - held, bytes,
	      own_blocks(d->scratch));
	d->dev.ops->release(&d->dev, block, bytes);
	/* without it the pieces are the device's own again, and grow in an eager run only */
	run_step(d, &m, 2, 2);
	run_step(d, &m, SEQS, 2);
	close_device(d);
}

int main(void)
{
	setenv("FR_SHIM_LAZY", "1", 1);
	counting = fr_cu_shim;
	counting.replay = count_replay;
	fr_cu_override = &counting;
	for (int terms = 1; terms <= 2; terms++) {
		test_terms(FR_BF16, terms);
		test_terms(FR_F16, terms);
	}
	test_forms();
	test_shapes();
	for (int w = 0; w < WRITERS; w++)
		test_stale((enum writer)w);
	test_left(0);
	test_left(1);
	test_arrays();
	test_content();
	test_steps(FR_BF16);
	test_steps(FR_F32);
	test_work(FR_BF16, 0);
	test_work(FR_F16, 0);
	test_work(FR_BF16, 1);
	test_work(FR_F32, 0);
	return test_done();
}
