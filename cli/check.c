/* fr-run check: images in, one result each out, in the form asked for. */
#include "cli.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct counts {
	size_t images, results, fake, real, inconclusive, unparsed, unscored, failed, differ, forced;
};
/* A path that waits for its result: results come in the order of the images, but some later. */
struct waiting {
	char *path;
	struct buf bytes; /* of the file, for its map */
	size_t index;
	struct waiting *next;
};
struct run {
	struct cli *cli;
	struct inputs *in;
	struct output out;
	struct screen *screen; /* NULL for JSON and CSV */
	struct maps maps;
	int map_failed; /* the exit code, when one could not be written */
	struct buf map; /* path of the last one */
	struct run_facts facts;
	struct fr_session_opts opts;
	struct waiting *first, **last;
	size_t taken;
	struct counts n;
	struct buf line;
	double start;
	int tokens; /* pieces of text seen of the image that streams */
};

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* ---- progress ---- */

static void show_progress(struct run *r, int urgent, const char *path, const char *what)
{
	const size_t total = inputs_total(r->in), done = r->first ? r->first->index : r->n.images;
	const double seconds = now() - r->start;
	char of[32] = "", left[48] = "";

	if (total)
		snprintf(of, sizeof of, "/%zu", total);
	if (done && total > done)
		snprintf(left, sizeof left, ", about %.0f s left", seconds / (double)done * (double)(total - done));
	progress_show(urgent, "[%zu%s%s] %s: %s", done + 1, of, left, path, what);
}

/* ---- what the engine calls ---- */

static int next(void *user, struct fr_job *job)
{
	struct run *r = user;
	struct waiting *w;
	const char *path;

	if (!inputs_next(r->in, job, &path))
		return 0;
	w = malloc(sizeof *w);
	if (!w)
		exit(complain(EXIT_CANNOT, "no memory for one more path"));
	*w = (struct waiting){.path = copy_text(path), .index = r->taken++};
	if (r->maps.dir && job->bytes)
		buf_add(&w->bytes, job->bytes, job->size);
	*r->last = w;
	r->last = &w->next;
	if (r->first == w)
		show_progress(r, 1, path, "looking");
	return 1;
}

static int ready(void *user)
{
	return inputs_ready(((struct run *)user)->in);
}

static void drop_first(struct run *r)
{
	struct waiting *w = r->first;

	r->first = w->next;
	if (!r->first)
		r->last = &r->first;
	free(w->path);
	buf_free(&w->bytes);
	free(w);
}

/* The path of image `index`; those before it have no result (an interruption) and are dropped. */
static const char *path_of(struct run *r, size_t index)
{
	while (r->first && r->first->index < index)
		drop_first(r);
	return r->first ? r->first->path : "";
}

static void begin(void *user, size_t index, const struct fr_result *so_far)
{
	struct run *r = user;

	r->tokens = 0;
	if (r->screen)
		screen_begin(r->screen, path_of(r, index), so_far);
}

static void text(void *user, size_t index, const char *utf8, size_t len)
{
	struct run *r = user;
	char what[48];

	if (r->screen)
		screen_stream(r->screen, utf8, len);
	if (r->screen && r->out.file == stdout && isatty(STDOUT_FILENO))
		return; /* the text itself shows that it goes on */
	snprintf(what, sizeof what, "writing, %d pieces", ++r->tokens);
	show_progress(r, 0, path_of(r, index), what);
}

static void count(struct counts *n, const struct fr_result *r)
{
	n->images += r->prompt == 0;
	n->results++;
	n->failed += r->error.code != FR_OK && r->prompt == 0;
	n->fake += r->verdict == FR_FAKE;
	n->real += r->verdict == FR_REAL;
	n->inconclusive += r->verdict == FR_INCONCLUSIVE;
	n->unparsed += r->text_verdict == FR_UNPARSED;
	n->unscored += r->error.code == FR_OK && !r->has_score;
	n->differ += (r->verdict == FR_FAKE && r->text_verdict == FR_REAL) ||
		     (r->verdict == FR_REAL && r->text_verdict == FR_FAKE);
	n->forced += r->opening && strcmp(r->opening, "forced") == 0;
}

/* The path of the map of the first image that waits, or NULL; it is made for the first prompt's result. One that cannot
 * be written ends the run. */
static const char *write_map(struct run *r, const struct fr_result *res)
{
	const struct fr_model *m = r->facts.model;
	const struct waiting *w = r->first;
	struct fr_error err;
	uint8_t *png;
	size_t size;

	if (!r->maps.dir || !w || res->error.code != FR_OK || !res->heat || r->map_failed)
		return NULL;
	if (res->prompt > 0)
		return buf_text(&r->map);
	progress_clear();
	if (fr_heatmap(m, (const uint8_t *)w->bytes.at, w->bytes.n, r->opts.max_pixels, res->heat, res->heat_side, &png,
		       &size, &err))
		r->map_failed = complain_error(&err);
	else
		r->map_failed = maps_write(&r->maps, w->path, res->sha256, fr_model_hash(m), png, size, &r->map);
	free(png);
	return r->map_failed ? NULL : buf_text(&r->map);
}

static void result(void *user, const struct fr_result *res)
{
	struct run *r = user;
	const char *path = path_of(r, res->index), *map = write_map(r, res);

	count(&r->n, res);
	r->line.n = 0;
	if (r->screen)
		screen_result(r->screen, path, res, map);
	else if (r->cli->v.json)
		record_json(&r->line, &r->facts, path, res, map);
	else
		record_csv(&r->line, &r->facts, path, res, map);
	if (!r->screen) {
		progress_clear();
		output_write(&r->out, r->line.at, r->line.n);
	}
	if (r->first && res->prompt == fr_session_prompts(r->facts.session) - 1)
		drop_first(r);
	if (r->first)
		show_progress(r, 1, r->first->path, "looking");
}

static int stopped(void *user)
{
	const struct run *r = user;

	return signals_caught() || r->out.failed || r->map_failed;
}

/* ---- before and after ---- */

static void say_start(const struct run *r)
{
	const struct run_facts *f = &r->facts;
	const char *device = fr_session_device(f->session);
	char machine[512];

	if (r->cli->v.quiet)
		return;
	if (r->screen || r->cli->v.verbose)
		say("fr-run %s: model %s (%s) on %s %s%s%s, KV cache %s", FR_VERSION, fr_model_name(f->model),
		    fr_model_dtype(f->model), fr_session_backend(f->session), fr_session_isa(f->session),
		    device ? ", " : "", device ? device : "", fr_session_kv(f->session));
	if (fr_model_is_demo(f->model))
		say("DEMO: shows the machinery, is no detector for pictures from the world");
	if (*fr_session_lowered(f->session))
		say("%s", fr_session_lowered(f->session));
	if (*fr_session_streamed(f->session))
		say("%s", fr_session_streamed(f->session));
	if (r->cli->v.temperature == 0 && !r->cli->v.verdict_only && (r->cli->v.top_k || r->cli->v.top_p < 1))
		say("the text is greedy: --top-k and --top-p need a --temperature above 0");
	if (!r->cli->v.verbose)
		return;
	say("model hash %s, preprocess %s, chat %s", fr_model_hash(f->model), fr_model_preprocess(f->model),
	    fr_session_chat(f->session));
	if (fr_machine(r->cli->v.isa, machine, sizeof machine) == 0)
		say("%s", machine);
	if (*fr_session_passed_over(f->session))
		say("on the CPU: %s", fr_session_passed_over(f->session));
}

static void say_speculation(const struct run *r)
{
	const struct fr_speculation s = fr_session_speculation(r->facts.session);

	if (!s.proposed)
		return;
	say("text: %.2f tokens a step of an image; %" PRIu64 " of %" PRIu64
	    " tokens proposed ahead were right (%.0f %%)",
	    1 + (double)s.taken / (double)s.steps, s.taken, s.proposed, 100.0 * (double)s.taken / (double)s.proposed);
}

static void say_end(const struct run *r)
{
	const struct counts *n = &r->n;
	const size_t skipped = inputs_skipped(r->in);
	const int prompts = fr_session_prompts(r->facts.session);
	struct buf b = {0};

	progress_clear();
	if (r->cli->v.quiet)
		return;
	buf_printf(&b, "%zu image%s", n->images, n->images == 1 ? "" : "s");
	if (prompts > 1)
		buf_printf(&b, ", %d prompts each,", prompts);
	buf_printf(&b, " in %.1f s: %zu fake, %zu real", now() - r->start, n->fake, n->real);
	if (n->inconclusive)
		buf_printf(&b, ", %zu inconclusive", n->inconclusive);
	if (n->unscored)
		buf_printf(&b, ", %zu without a score", n->unscored);
	if (n->unparsed)
		buf_printf(&b, ", %zu without a verdict in the text", n->unparsed);
	if (n->failed)
		buf_printf(&b, ", %zu failed", n->failed);
	if (n->differ)
		buf_printf(&b, "; in %zu the text contradicts the score", n->differ);
	if (n->images)
		say("%s", buf_text(&b));
	if (r->cli->v.verbose)
		say_speculation(r);
	if (n->forced)
		say("opening forced in %zu of %zu %s: the model would have begun its answer otherwise", n->forced,
		    n->results, prompts > 1 ? "answers" : "images");
	if (skipped)
		say("%zu other file%s in the folders: no image", skipped, skipped == 1 ? "" : "s");
	buf_free(&b);
}

static int is_pipe(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode));
}

static int verdict_code(const struct run *r)
{
	if (r->map_failed)
		return r->map_failed;
	if (signals_caught())
		return EXIT_SIGNALLED + signals_caught();
	if (r->cli->v.exit_verdict && r->n.fake)
		return EXIT_FAKE;
	return r->n.failed ? EXIT_SOME_FAILED : EXIT_DONE;
}

static int judge(struct run *r, struct fr_session *session)
{
	const struct values *v = &r->cli->v;
	const struct fr_io io = {
		.user = r,
		.next = next,
		.begin = begin,
		.text = text,
		.result = result,
		.stopped = stopped,
		.ready = ready,
	};
	const int to_stdout = r->out.file == stdout;
	struct fr_error err = {0};
	int rc, code;

	progress_init(r->cli, to_stdout && isatty(STDOUT_FILENO), to_stdout && is_pipe(STDOUT_FILENO));
	r->facts.session = session;
	if (!v->json && !v->csv)
		r->screen = screen_new(&(struct screen_opts){.cli = r->cli,
							     .out = &r->out,
							     .demo = fr_model_is_demo(r->facts.model),
							     .path_columns = inputs_columns(r->in),
							     .table = !v->verdict_only});
	say_start(r);
	if (v->csv) {
		record_csv_header(&r->line, &r->facts);
		output_write(&r->out, r->line.at, r->line.n);
	}
	rc = fr_judge(session, &io, &err);
	progress_clear();
	if (r->screen)
		screen_end(r->screen);
	code = rc ? complain_error(&err) : verdict_code(r);
	say_end(r);
	rc = output_close(&r->out, rc == 0 && !signals_caught() && !r->map_failed);
	while (r->first)
		drop_first(r);
	screen_free(r->screen);
	buf_free(&r->line);
	buf_free(&r->map);
	return rc ? rc : code;
}

static int with_model(struct run *r, const struct fr_model *model)
{
	struct fr_session *session = NULL;
	struct fr_error err;
	int code = session_options(r->cli, model, &r->opts);

	if (code)
		return code;
	if (r->cli->v.exit_verdict && fr_model_is_demo(model))
		return complain(EXIT_USAGE,
				"--exit-verdict: the demo model is no detector, so nothing may hang on its verdict");
	r->opts.images = inputs_total(r->in);
	r->facts = (struct run_facts){.model = model,
				      .sampler = &r->opts.sampler,
				      .calibration = r->opts.calibration.hash[0] ? r->opts.calibration.hash : NULL,
				      .timings = r->cli->v.timings};
	if (fr_session_new(model, &r->opts, &session, &err))
		return complain_error(&err);
	code = output_open(&r->out, r->cli->v.output);
	if (code == 0)
		code = judge(r, session);
	fr_session_free(session);
	return code;
}

int cmd_check(struct cli *c)
{
	struct run r = {.cli = c, .start = now()};
	struct fr_model *model = NULL;
	struct fr_model_opts opts;
	struct fr_error err;
	const char *path;
	int code;

	r.last = &r.first;
	if (c->n_path == 0 && !c->v.files_from)
		return complain(EXIT_USAGE,
				"no image given: name files, folders, '-' for an image on stdin, or --files-from");
	if (c->v.null && !c->v.files_from)
		return complain(EXIT_USAGE, "--null says how the paths of --files-from end, which is not given");
	path = model_path(c);
	if (!path)
		return EXIT_CANNOT;
	opts = model_options(c, path);
	code = inputs_open(&r.in, c->path, c->n_path, c->v.files_from, c->v.null);
	if (code == 0)
		code = maps_open(&r.maps, c->v.map);
	if (code == 0 && fr_model_load(&opts, &model, &err))
		code = complain_error(&err);
	if (code == 0)
		code = with_model(&r, model);
	fr_model_free(model);
	maps_close(&r.maps);
	inputs_close(r.in);
	return code;
}
