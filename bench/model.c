/* `fr-run bench model`: what a whole model takes on this machine, stage by stage, through the functions that everyone
 * uses.
 *
 *   load      the files opened and mapped; then a session, and its first verdict: a GPU takes the weights meanwhile
 *   image     one picture decoded and resized on the CPU
 *   vision    pixels to image rows, of `batch` pictures in one call where the device works so
 *   prefill   prompt and opening to the verdict, of `batch` pictures
 *   verdict   pictures per second through the whole of it, no text
 *   decode    one token of each of `batch` texts
 * Every picture is the same file with other bytes behind its end, so that nothing can be remembered. Stage times are
 * those of the results (fr_result); a step of decoding is what lies between two polls of `stopped`, the first quarter
 * left out. Shares of a peak count the operations and the bytes that a stage cannot do without. */
#include "bench.h"
#include "../engine/session.h"

#include <stdlib.h>
#include <string.h>

#define TOKENS 96
#define MAX_BATCH 16
#define MIN_ROUNDS 3

static const int batches[] = {1, 2, 4, 8, 16};

struct feed {
	uint8_t *bytes; /* the picture, and 8 bytes that count */
	size_t size;
	uint64_t count;
	int left;     /* pictures still to be given in this round */
	double until; /* give whole rounds of `round` until then; 0: one round */
	int round, given;
	int bad;
	struct fr_error error;
	struct fr_samples image, vision, prefill;
	double poll;		/* when `stopped` was asked last; 0: not yet */
	struct fr_samples step; /* between two polls */
	int generated, prompt;
};

static int next(void *user, struct fr_job *job)
{
	struct feed *f = user;

	if (f->left == 0 && f->until > 0 && fr_bench_now() < f->until)
		f->left = f->round;
	if (f->left == 0)
		return 0;
	f->left--;
	f->given++;
	f->count++;
	memcpy(f->bytes + f->size - sizeof f->count, &f->count, sizeof f->count);
	job->bytes = f->bytes;
	job->size = f->size;
	return 1;
}

static void result(void *user, const struct fr_result *r)
{
	struct feed *f = user;

	if (r->error.code != FR_OK) {
		f->bad++;
		f->error = r->error;
	}
	fr_sample(&f->image, r->ms_image);
	fr_sample(&f->vision, r->ms_vision);
	fr_sample(&f->prefill, r->ms_prefill);
	f->generated += r->generated_tokens;
	f->prompt = r->prompt_tokens;
}

static int stopped(void *user)
{
	struct feed *f = user;
	double now = fr_bench_now();

	if (f->poll > 0)
		fr_sample(&f->step, now - f->poll);
	f->poll = now;
	return 0;
}

static int run(struct fr_session *s, struct feed *f, int pictures, double seconds, struct fr_error *err)
{
	f->image.n = f->vision.n = f->prefill.n = f->step.n = 0;
	f->left = f->round = pictures;
	f->given = f->generated = f->bad = 0;
	f->poll = 0;
	f->until = seconds > 0 ? fr_bench_now() + seconds : 0;
	FR_TRY(fr_judge(s, &(struct fr_io){.user = f, .next = next, .result = result, .stopped = stopped}, err));
	if (f->bad)
		return fr_fail(err, f->error.code, "%s", f->error.text);
	return 0;
}

/* ---- the picture ---- */

/* A photograph's size of noise that a JPEG could not make smaller: 640 x 480 as PPM. */
static int make_picture(struct feed *f, struct fr_error *err)
{
	static const char head[] = "P6\n640 480\n255\n";
	const size_t pixels = 3 * 640 * 480;
	uint32_t state = 1;

	f->size = sizeof head - 1 + pixels + sizeof f->count;
	f->bytes = malloc(f->size);
	if (!f->bytes)
		return fr_fail(err, FR_E_MEMORY, "cannot allocate %zu bytes for a picture", f->size);
	memcpy(f->bytes, head, sizeof head - 1);
	for (size_t i = 0; i < pixels; i++) {
		state = state * 1664525u + 1013904223u;
		f->bytes[sizeof head - 1 + i] = (uint8_t)(state >> 24);
	}
	return 0;
}

static int read_picture(const char *path, struct feed *f, struct fr_error *err)
{
	const uint8_t *map;
	size_t size;

	if (!path)
		return make_picture(f, err);
	FR_TRY(fr_map_open(path, &map, &size, err));
	f->size = size + sizeof f->count;
	f->bytes = malloc(f->size);
	if (f->bytes)
		memcpy(f->bytes, map, size);
	fr_map_close(map, size);
	return f->bytes ? 0 : fr_fail(err, FR_E_MEMORY, "cannot allocate %zu bytes for a picture", f->size);
}

/* ---- what a stage cannot do without ---- */

/* Of one layer's adapters. */
static double lora_params(const struct fr_text_desc *t)
{
	const double dim = t->dim, kv = (double)t->kv_heads * t->head_dim, q = (double)t->heads * t->head_dim;
	const double both[FR_LORAS] = {
		[FR_LORA_Q] = dim + q,	      [FR_LORA_K] = dim + kv,	     [FR_LORA_V] = dim + kv,
		[FR_LORA_O] = q + dim,	      [FR_LORA_GATE] = dim + t->ffn, [FR_LORA_UP] = dim + t->ffn,
		[FR_LORA_DOWN] = t->ffn + dim};
	double sum = 0;

	for (int i = 0; i < FR_LORAS; i++)
		sum += t->lora >> i & 1 ? t->lora_rank * both[i] : 0;
	return sum;
}

static double text_params(const struct fr_text_desc *t)
{
	double kv = (double)t->kv_heads * t->head_dim, q = (double)t->heads * t->head_dim;

	return t->layers * ((double)t->dim * (2 * q + 2 * kv) + 3.0 * t->dim * t->ffn + lora_params(t));
}

/* Operations to prefill `rows` of one sequence: products, causal attention, the logits of two rows. */
static double prefill_operations(const struct fr_text_desc *t, int rows)
{
	double attention = 2.0 * rows * (rows + 1) * t->heads * t->head_dim * t->layers;

	return 2 * text_params(t) * rows + attention + 2.0 * 2 * t->dim * t->vocab;
}

/* Products, attention and its bias, where there is a fusion. */
static double fusion_operations(const struct fr_model_desc *d)
{
	const struct fr_fusion_desc *f = &d->fusion;
	double n = d->n_image, dim = d->text.dim;

	if (!f->heads)
		return 0;
	return 2 * n * (4 * dim * dim + 2 * dim * f->ffn) + 4 * n * n * dim + 4 * n * n * f->heads * f->mid;
}

static double vision_operations(const struct fr_model_desc *d)
{
	double sum = fusion_operations(d), rows = 1 + d->n_image;

	for (int b = 0; b < d->n_branch; b++) {
		const struct fr_vit_desc *v = &d->vit[b];

		sum += 2.0 * d->n_image * v->dim * 3 * v->patch * v->patch;
		sum += v->run * (2 * rows * (4.0 * v->dim * v->dim + 2.0 * v->dim * v->ffn) + 4 * rows * rows * v->dim);
		sum += v->maps ? 2 * rows * rows * v->dim : 0;
		sum += 2.0 * d->n_image * ((double)v->dim * d->proj_dim + (double)d->proj_dim * d->text.dim);
	}
	return sum;
}

/* Bytes that one step of `batch` texts reads: the decoder's matrices, and keys and values up to position pos. */
static double step_bytes(const struct fr_model *m, int batch, int pos, int kv_bytes)
{
	const struct fr_text_desc *t = &m->desc.text;
	double item = strcmp(fr_model_dtype(m), "f32") == 0 ? 4 : 2;
	double keys = 2.0 * t->layers * t->kv_heads * t->head_dim * kv_bytes * pos;

	return (text_params(t) + (double)t->dim * t->vocab) * item + batch * keys;
}

/* ---- lines ---- */

struct bench {
	const struct fr_bench_opts *opts;
	FILE *out;
	struct fr_model *model;
	struct feed feed;
	const char *backend, *isa, *device;
};

static void say_head(struct bench *b, const struct fr_session *s)
{
	const struct fr_dev *dev = s->dev;
	char machine[512];

	b->backend = fr_session_backend(s);
	b->isa = fr_session_isa(s);
	b->device = dev->device;
	if (b->opts->json)
		return;
	fr_machine(machine, sizeof machine);
	fprintf(b->out, "%s%s%s; %s, isa %s, activations %s, kv %s, %d threads\n%-10s %6s %11s %11s %11s %6s  %s\n",
		machine, b->device ? "; " : "", b->device ? b->device : "", b->backend, b->isa,
		fr_session_activations(s), fr_session_kv(s), dev->threads, "stage", "batch", "median ms", "least",
		"most", "runs", "rate");
}

/* One stage: its times in milliseconds, what is done in one of them, and how that is called. */
static void say(const struct bench *b, const char *what, int batch, struct fr_samples *ms, double amount, double scale,
		const char *unit)
{
	double median = fr_samples_median(ms), rate = amount / scale / (median * 1e-3);

	if (b->opts->json)
		fprintf(b->out,
			"{\"bench\":\"model\",\"what\":\"%s\",\"backend\":\"%s\",\"isa\":\"%s\",\"batch\":%d,\"ms\":%."
			"6g,"
			"\"ms_least\":%.6g,\"ms_most\":%.6g,\"runs\":%d,\"rate\":%.6g,\"unit\":\"%s\"}\n",
			what, b->backend, b->isa, batch, median, fr_samples_min(ms), fr_samples_max(ms), ms->n, rate,
			unit);
	else
		fprintf(b->out, "%-10s %6d %11.3f %11.3f %11.3f %6d  %.2f %s\n", what, batch, median,
			fr_samples_min(ms), fr_samples_max(ms), ms->n, rate, unit);
	fflush(b->out);
}

static void say_one(const struct bench *b, const char *what, int batch, double ms, double amount, double scale,
		    const char *unit)
{
	struct fr_samples one = {.n = 1, .at = {ms}};

	say(b, what, batch, &one, amount, scale, unit);
}

static void say_held(const struct bench *b, size_t bytes)
{
	fprintf(b->out,
		b->opts->json ? "{\"bench\":\"model\",\"what\":\"memory\",\"backend\":\"%s\",\"bytes\":%zu}\n"
			      : "%s holds %zu bytes\n",
		b->backend, bytes);
}

/* ---- the stages ---- */

/* No proposed tokens: the same pictures come again, and their texts would be known. */
static int open_session(const struct bench *b, int batch, int verdict_only, struct fr_session **s, struct fr_error *err)
{
	const struct fr_session_opts o = {.backend = b->opts->backend,
					  .isa = b->opts->isa,
					  .threads = b->opts->threads,
					  .precise = b->opts->precise,
					  .no_cublas = b->opts->no_cublas,
					  .batch = batch,
					  .max_tokens = b->opts->tokens ? b->opts->tokens : TOKENS,
					  .verdict_only = verdict_only,
					  .speculate = -1};

	return fr_session_new(b->model, &o, s, err);
}

/* From nothing to the first verdict. */
static int bench_load(struct bench *b, struct fr_error *err)
{
	double start = fr_bench_now(), loaded, ready;
	struct fr_session *s;
	int rc;

	FR_TRY(fr_model_load(&b->opts->model, &b->model, err));
	loaded = fr_bench_now();
	FR_TRY(open_session(b, 1, 1, &s, err));
	ready = fr_bench_now();
	rc = run(s, &b->feed, 1, 0, err);
	if (rc == 0) {
		say_head(b, s);
		say_one(b, "load", 1, (loaded - start) * 1e3, 1, 1, "1/s");
		say_one(b, "session", 1, (ready - loaded) * 1e3, 1, 1, "1/s");
		say_one(b, "first", 1, (fr_bench_now() - start) * 1e3, 1, 1, "1/s");
		say_held(b, s->dev->held);
	}
	fr_session_free(s);
	return rc;
}

static int bench_verdicts(struct bench *b, int batch, struct fr_error *err)
{
	const struct fr_model_desc *d = &b->model->desc;
	struct fr_session *s;
	double start;
	int rc;

	FR_TRY(open_session(b, batch, 1, &s, err));
	rc = run(s, &b->feed, batch, 0, err);
	start = fr_bench_now();
	if (rc == 0)
		rc = run(s, &b->feed, batch * MIN_ROUNDS, b->opts->seconds, err);
	if (rc == 0) {
		double wall = fr_bench_now() - start;
		int rows = b->feed.prompt + b->model->n_opening, group = batch < s->together ? batch : s->together;

		if (batch == 1)
			say(b, "image", 1, &b->feed.image, 1, 1, "images/s");
		say(b, "vision", batch, &b->feed.vision, group * vision_operations(d), 1e12, "TFLOP/s");
		say(b, "prefill", batch, &b->feed.prefill, group * prefill_operations(&d->text, rows), 1e12, "TFLOP/s");
		say_one(b, "verdict", batch, wall * 1e3 / b->feed.given, 1, 1, "images/s");
	}
	fr_session_free(s);
	return rc;
}

/* Leaves out the first quarter, where pictures are still prefilled, and polls that follow one another at once; the rest
 * in milliseconds. */
static void keep_steps(struct fr_samples *s)
{
	double sum = 0;
	int from = s->n / 4, n = 0;

	for (int i = from; i < s->n; i++)
		sum += s->at[i];
	for (int i = from; i < s->n; i++)
		if (s->at[i] > 0.1 * sum / (s->n - from))
			s->at[n++] = s->at[i] * 1e3;
	s->n = n;
}

static int bench_decode(struct bench *b, int batch, struct fr_error *err)
{
	struct feed *f = &b->feed;
	struct fr_session *s;
	int rc;

	FR_TRY(open_session(b, batch, 0, &s, err));
	rc = run(s, f, batch, 0, err);
	if (rc == 0)
		rc = run(s, f, batch, 0, err);
	if (rc == 0 && f->step.n >= 8) {
		struct fr_samples *steps = &f->step;
		int pos = f->prompt + s->o.max_tokens * 5 / 8;

		keep_steps(steps);
		say(b, "decode", batch, steps, batch, 1, "tokens/s");
		say(b, "reading", batch, steps, step_bytes(b->model, batch, pos, s->o.kv_f32 ? 4 : 2), 1e9, "GB/s");
	}
	fr_session_free(s);
	return rc;
}

int fr_bench_model(const struct fr_bench_opts *opts, FILE *out, struct fr_error *err)
{
	struct bench *b = calloc(1, sizeof *b);
	int rc, most = opts->batch ? opts->batch : 1;

	if (!b)
		return fr_fail(err, FR_E_MEMORY, "cannot allocate %zu bytes", sizeof *b);
	b->opts = opts;
	b->out = out;
	rc = opts->model.path ? read_picture(opts->image, &b->feed, err)
			 : fr_fail(err, FR_E_USAGE, "bench model: a model is needed, -m DIR or -m demo");
	if (rc == 0)
		rc = bench_load(b, err);
	for (size_t i = 0; i < sizeof batches / sizeof *batches && rc == 0; i++)
		if (batches[i] <= most)
			rc = bench_verdicts(b, batches[i], err);
	for (size_t i = 0; i < sizeof batches / sizeof *batches && rc == 0; i++)
		if (batches[i] <= most)
			rc = bench_decode(b, batches[i], err);
	fr_model_free(b->model);
	free(b->feed.bytes);
	free(b);
	return rc;
}
