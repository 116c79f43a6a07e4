/* `fr-run bench model`: what a whole model takes on this machine, stage by stage, through the functions that everyone
 * uses.
 *
 *   load       the files opened and mapped; a session; from nothing to the first verdict: a GPU takes the weights then
 *   image      one picture decoded and resized on the CPU
 *   vision     pixels to image rows, of as many pictures as the device takes at once; the projector is the end of it
 *   prefill    prompt and opening to the verdict's logits; rows of a longer prompt (bench/model_text.c)
 *   verdict    pictures one after another through the whole of it, no text: time a picture
 *   decode     one token of each of several texts, at several positions (bench/model_text.c)
 *   end        a program of its own, from its start to its end: the verdict alone, and with a text
 *
 * A stage is asked for as judging does it, a session's call at a time; nothing is taken apart by hooks in the engine.
 */
#include "model.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static const int batches[] = {1, 2, 4, 8, 16};

int fr_bench_batch(int i, const struct fr_bench_opts *opts)
{
	const int n = sizeof batches / sizeof *batches, most = opts->batch ? opts->batch : batches[n - 1];

	return i < n && batches[i] <= most ? batches[i] : 0;
}

/* ---- the picture: the same file each time, with other bytes behind its end, so that nothing can be remembered ---- */

/* A photograph's size of noise that a JPEG could not make smaller: 640 x 480 as PPM. */
static int make_picture(struct fr_bench_model *m, struct fr_error *err)
{
	static const char head[] = "P6\n640 480\n255\n";
	const size_t pixels = 3 * 640 * 480;
	uint32_t state = 1;

	m->size = sizeof head - 1 + pixels + sizeof m->count;
	m->file = malloc(m->size);
	if (!m->file)
		return fr_fail(err, FR_E_MEMORY, "cannot allocate %zu bytes for a picture", m->size);
	memcpy(m->file, head, sizeof head - 1);
	for (size_t i = 0; i < pixels; i++) {
		state = state * 1664525u + 1013904223u;
		m->file[sizeof head - 1 + i] = (uint8_t)(state >> 24);
	}
	return 0;
}

static int read_picture(const char *path, struct fr_bench_model *m, struct fr_error *err)
{
	const uint8_t *map;
	size_t size;

	if (!path)
		return make_picture(m, err);
	FR_TRY(fr_map_open(path, &map, &size, err));
	m->size = size + sizeof m->count;
	m->file = malloc(m->size);
	if (m->file)
		memcpy(m->file, map, size);
	fr_map_close(map, size);
	return m->file ? 0 : fr_fail(err, FR_E_MEMORY, "cannot allocate %zu bytes for a picture", m->size);
}

static void another(struct fr_bench_model *m)
{
	m->count++;
	memcpy(m->file + m->size - sizeof m->count, &m->count, sizeof m->count);
}

/* Room for the pixels of n pictures, all filled with the one. */
static int decode_pictures(struct fr_bench_model *m, int n, struct fr_error *err)
{
	const struct fr_image_desc *d = &m->b.model->desc.image;
	const size_t items = (size_t)3 * (size_t)d->crop * (size_t)d->crop;

	for (; m->n_pic < n; m->n_pic++) {
		struct fr_picture *pic = &m->pic[m->n_pic];

		m->see[m->n_pic] = pic;
		pic->u8 = malloc(items);
		pic->pixels = malloc(items * sizeof(float));
		if (!pic->u8 || !pic->pixels) {
			free(pic->u8);
			free(pic->pixels);
			return fr_fail(err, FR_E_MEMORY, "cannot allocate pixels for %d pictures", n);
		}
		fr_picture_read(pic, d, FR_MAX_PIXELS, m->file, m->size);
		if (pic->error.code != FR_OK)
			return fr_fail(err, pic->error.code, "%s", pic->error.text);
	}
	return 0;
}

/* ---- judging, for what lies between the stages ---- */

static int next(void *user, struct fr_job *job)
{
	struct fr_bench_model *m = user;

	if (m->left == 0)
		return 0;
	m->left--;
	another(m);
	job->bytes = m->file;
	job->size = m->size;
	return 1;
}

static void result(void *user, const struct fr_result *r)
{
	struct fr_bench_model *m = user;

	if (r->error.code != FR_OK)
		m->bad = r->error;
	m->prompt = r->prompt_tokens;
}

static int judge(struct fr_bench_model *m, int pictures, struct fr_error *err)
{
	m->left = pictures;
	m->bad.code = FR_OK;
	FR_TRY(fr_judge(m->b.s, &(struct fr_io){.user = m, .next = next, .result = result}, err));
	return m->bad.code == FR_OK ? 0 : fr_fail(err, m->bad.code, "%s", m->bad.text);
}

/* ---- sessions ---- */

/* No proposed tokens: the same picture comes again, and its text would be known. */
struct fr_session_opts fr_bench_session(const struct fr_bench_opts *o, int batch)
{
	return (struct fr_session_opts){.backend = o->backend,
					.isa = o->isa,
					.threads = o->threads,
					.precise = o->precise,
					.no_cublas = o->no_cublas,
					.batch = batch,
					.verdict_only = 1,
					.speculate = -1};
}

static int open_verdicts(struct fr_bench_model *m, int batch, struct fr_error *err)
{
	const struct fr_session_opts o = fr_bench_session(m->b.opts, batch);

	return fr_session_new(m->b.model, &o, &m->b.s, err);
}

void fr_bench_close(struct fr_bench_model *m)
{
	fr_session_free(m->b.s);
	m->b.s = NULL;
}

/* ---- the stages ---- */

static struct fr_bench_model *whole(struct fr_stages *b)
{
	return (struct fr_bench_model *)b;
}

static int image_once(struct fr_stages *b, double *ms, struct fr_error *err)
{
	struct fr_bench_model *m = whole(b);

	another(m);
	fr_picture_read(&m->pic[0], &b->model->desc.image, FR_MAX_PIXELS, m->file, m->size);
	*ms = m->pic[0].ms;
	return m->pic[0].error.code == FR_OK ? 0 : fr_fail(err, m->pic[0].error.code, "%s", m->pic[0].error.text);
}

static int vision_once(struct fr_stages *b, double *ms, struct fr_error *err)
{
	FR_TRY(fr_session_see(b->s, whole(b)->see, b->stage.batch, err));
	*ms = b->s->ms_vision;
	return 0;
}

static int projector_once(struct fr_stages *b, double *ms, struct fr_error *err)
{
	struct fr_session *s = b->s;
	double start = fr_now_ms();

	for (int i = 0; i < b->model->desc.n_branch; i++)
		fr_vit_project(&s->net, i, s->dev, &s->vb, b->stage.batch, i ? s->fb.kv : s->images);
	FR_TRY(s->dev->ops->sync(s->dev, err));
	*ms = fr_now_ms() - start;
	return 0;
}

static int prefill_once(struct fr_stages *b, double *ms, struct fr_error *err)
{
	struct fr_part part[FR_BENCH_TOGETHER];
	const struct fr_prefill p = {.part = part, .n = b->stage.batch, .n_logits = 1 + b->model->n_opening};

	for (int i = 0; i < p.n; i++)
		part[i] = (struct fr_part){.seq = i, .source = i, .image = i, .to = b->stage.rows};
	FR_TRY(fr_session_prefill(b->s, &p, err));
	*ms = b->s->ms_text;
	return 0;
}

/* On a device that decodes pictures meanwhile, enough of them that it can. */
static int verdict_once(struct fr_stages *b, double *ms, struct fr_error *err)
{
	int pictures = b->stage.batch * (b->s->ahead ? 4 : 1);
	double start = fr_now_ms();

	FR_TRY(judge(whole(b), pictures, err));
	*ms = (fr_now_ms() - start) / pictures;
	return 0;
}

static int bench_pictures(struct fr_bench_model *m, int group, struct fr_error *err)
{
	struct fr_stages *b = &m->b;
	struct fr_stage *st = &b->stage;

	FR_TRY(decode_pictures(m, group, err));
	if (group == 1 && fr_stage_begin(b, "image", "%s", "")) {
		st->amount = 1;
		st->items = "images";
		FR_TRY(fr_stage_run(b, image_once, err));
	}
	FR_TRY(fr_session_see(b->s, m->see, group, err)); /* what projector and prompt work on, whatever is filtered */
	if (fr_stage_begin(b, "vision", "b%d", group)) {
		st->batch = group;
		st->cost = fr_cost_vision(b->model, group);
		st->amount = group;
		st->items = "images";
		FR_TRY(fr_stage_run(b, vision_once, err));
	}
	if (fr_stage_begin(b, "projector", "b%d", group)) {
		st->batch = group;
		st->cost = fr_cost_projector(b->model, group);
		st->amount = group;
		st->items = "images";
		FR_TRY(fr_stage_run(b, projector_once, err));
	}
	return 0;
}

int fr_bench_prefill(struct fr_bench_model *m, int group, int rows, struct fr_error *err)
{
	struct fr_stages *b = &m->b;
	struct fr_stage *st = &b->stage;

	if (!fr_stage_begin(b, "prefill", "b%d_m%d", group, rows))
		return 0;
	st->batch = group;
	st->rows = rows;
	st->cost = fr_cost_prefill(b->model, rows, group, b->s->kv.dtype);
	st->amount = (double)group * rows;
	st->items = "tokens";
	return fr_stage_run(b, prefill_once, err);
}

/* All of them in the session that is open. */
static int bench_verdicts(struct fr_bench_model *m, int batch, struct fr_error *err)
{
	struct fr_stages *b = &m->b;
	struct fr_stage *st = &b->stage;

	FR_TRY(bench_pictures(m, batch, err));
	FR_TRY(fr_bench_prefill(m, batch, b->s->question->n + b->model->n_opening, err));
	if (!fr_stage_begin(b, "verdict", "b%d", batch))
		return 0;
	st->batch = batch;
	st->amount = 1;
	st->items = "images";
	return fr_stage_run(b, verdict_once, err);
}

/* From nothing to the first verdict; the session stays open. */
static int bench_load(struct fr_bench_model *m, struct fr_error *err)
{
	struct fr_stages *b = &m->b;
	double start = fr_now_ms(), loaded, ready;

	FR_TRY(fr_model_load(&b->opts->model, &b->model, err));
	loaded = fr_now_ms();
	FR_TRY(open_verdicts(m, 1, err));
	ready = fr_now_ms();
	snprintf(b->backend, sizeof b->backend, "%s", fr_session_backend(b->s));
	snprintf(b->isa, sizeof b->isa, "%s", fr_session_isa(b->s));
	snprintf(b->activations, sizeof b->activations, "%s", fr_session_activations(b->s));
	b->threads = b->s->dev->threads;
	b->weights = b->model->weights.layer[0].q.dtype;
	m->stay = b->s->stay;
	fr_stages_say_head(b);
	FR_TRY(judge(m, 1, err));
	if (fr_stage_begin(b, "load", "%s", ""))
		fr_stage_say_one(b, loaded - start);
	if (fr_stage_begin(b, "session", "%s", ""))
		fr_stage_say_one(b, ready - loaded);
	if (fr_stage_begin(b, "first", "%s", ""))
		fr_stage_say_one(b, fr_now_ms() - start);
	fr_stages_say_own_memory(b, "verdict");
	return 0;
}

/* Batches beyond what the device takes at once would be the same again. */
static int bench_all_verdicts(struct fr_bench_model *m, struct fr_error *err)
{
	int together = 0;

	for (int i = 0, batch; (batch = fr_bench_batch(i, m->b.opts)) > 0 && !fr_bench_stopped(m->b.opts); i++) {
		if (!m->b.s)
			FR_TRY(open_verdicts(m, batch, err));
		if (m->b.s->together > together && m->b.s->together == batch)
			FR_TRY(bench_verdicts(m, batch, err));
		together = m->b.s->together;
		fr_bench_close(m);
		if (together < batch)
			break;
	}
	return 0;
}

int fr_bench_model(const struct fr_bench_opts *opts, FILE *out, struct fr_error *err)
{
	struct fr_bench_model *m = calloc(1, sizeof *m);
	int rc;

	if (!m)
		return fr_fail(err, FR_E_MEMORY, "cannot allocate %zu bytes", sizeof *m);
	m->b.opts = opts;
	m->b.out = out;
	rc = opts->model.path ? read_picture(opts->image, m, err)
			      : fr_fail(err, FR_E_USAGE, "bench model: a model is needed, -m DIR or -m demo");
	if (rc == 0 && opts->svg && opts->backend && strcmp(opts->backend, "cuda") == 0)
		rc = fr_fail(err, FR_E_USAGE, "--svg plots what a CPU does; cuda has no such plot yet");
	if (rc == 0)
		rc = fr_plot_new(opts->svg, &m->b.plot, err);
	if (rc == 0)
		rc = bench_load(m, err);
	if (rc == 0)
		rc = bench_all_verdicts(m, err);
	if (rc == 0 && !fr_bench_stopped(opts))
		rc = fr_bench_text(m, err);
	if (rc == 0 && opts->program && !fr_bench_stopped(opts))
		rc = fr_bench_end(m, err);
	if (fr_plot_end(m->b.plot, rc == 0 && !fr_bench_stopped(opts), err))
		rc = -1;
	fr_bench_close(m);
	fr_model_free(m->b.model);
	fr_bench_unmap(m->b.memory, FR_STAGE_READ_BYTES);
	for (int i = 0; i < m->n_pic; i++) {
		free(m->pic[i].u8);
		free(m->pic[i].pixels);
	}
	free(m->file);
	free(m);
	return rc;
}
