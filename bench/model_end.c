/* Whole runs of `fr-run bench model`: the program itself started on the picture, until it has ended, so that loading,
 * reading weights that are not in the page cache, and the way out are all in the time. What of the weights is in the
 * page cache when they begin is said, because a first run from a disk is another thing. */
#include "model.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define TOKENS 128
#define MAX_ARGS 32

/* ---- the page cache ---- */

/* Counts pages of a view, and those in memory. */
static void look(const struct fr_tensor *t, double *pages, double *in)
{
	const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), from = (uintptr_t)t->data & ~(page - 1);
	const size_t n = ((uintptr_t)t->data + t->bytes - from + page - 1) / page;
	unsigned char *seen = t->data ? malloc(n) : NULL;

	if (seen && mincore((void *)from, n * page, seen) == 0) {
		*pages += (double)n;
		for (size_t i = 0; i < n; i++)
			*in += seen[i] & 1;
	}
	free(seen);
}

/* The share of the decoder's weights that is in the page cache; -1: it cannot be said. */
static double cached_share(const struct fr_model *m)
{
	double pages = 0, in = 0;

	for (int i = 0; i < m->desc.text.layers; i++) {
		const struct fr_text_layer_weights *l = &m->weights.layer[i];
		const struct fr_tensor *const all[] = {&l->q, &l->k, &l->v, &l->o, &l->gate, &l->up, &l->down};

		for (size_t j = 0; j < sizeof all / sizeof *all; j++)
			look(all[j], &pages, &in);
	}
	return pages > 0 ? in / pages : -1;
}

/* ---- the command line ---- */

struct args {
	char *at[MAX_ARGS];
	int n;
	char numbers[2][16];
};

static void add(struct args *a, const char *name, const char *value)
{
	a->at[a->n++] = (char *)(uintptr_t)name;
	if (value)
		a->at[a->n++] = (char *)(uintptr_t)value;
}

static void add_if(struct args *a, const char *name, const char *value)
{
	if (value)
		add(a, name, value);
}

/* tokens 0: the verdict only. The picture comes on stdin. */
static void command_line(const struct fr_bench_opts *o, int tokens, struct args *a)
{
	memset(a, 0, sizeof *a);
	add(a, o->program, "-q");
	add(a, "--json", NULL);
	add(a, "-m", o->model.path);
	add_if(a, "--vision-tower", o->model.vision_tower);
	add_if(a, "--dino", o->model.dino);
	add_if(a, "--base", o->model.base);
	add_if(a, "--backend", o->backend);
	add_if(a, "--isa", o->isa);
	if (o->threads) {
		snprintf(a->numbers[0], sizeof a->numbers[0], "%d", o->threads);
		add(a, "--threads", a->numbers[0]);
	}
	if (o->precise)
		add(a, "--precise", NULL);
	if (o->no_cublas)
		add(a, "--no-cublas", NULL);
	if (tokens) {
		snprintf(a->numbers[1], sizeof a->numbers[1], "%d", tokens);
		add(a, "--max-tokens", a->numbers[1]);
	} else {
		add(a, "--verdict-only", NULL);
	}
	add(a, "-", NULL);
}

/* ---- the runs ---- */

static int written_in(const char *line)
{
	cJSON *o = cJSON_Parse(line);
	const cJSON *n = cJSON_GetObjectItem(cJSON_GetObjectItem(o, "tokens"), "generated");
	const int written = cJSON_IsNumber(n) ? n->valueint : 0;

	cJSON_Delete(o);
	return written;
}

/* One run; the most that any of them had in memory stays in m->end. */
static int end_once(struct fr_stages *b, double *ms, struct fr_error *err)
{
	struct fr_bench_model *m = (struct fr_bench_model *)b;
	struct fr_process_run run;
	struct args a;

	command_line(b->opts, m->tokens, &a);
	if (fr_process_run(a.at, m->file, m->size, &run, err))
		return -1;
	*ms = run.ms;
	b->stage.tokens = written_in(run.text);
	m->end.most = run.memory.most > m->end.most ? run.memory.most : m->end.most;
	m->end.anonymous = run.memory.anonymous > m->end.anonymous ? run.memory.anonymous : m->end.anonymous;
	m->end.mapped = run.memory.mapped > m->end.mapped ? run.memory.mapped : m->end.mapped;
	free(run.text);
	return 0;
}

/* What Ctrl-C ends is no failure. */
static int bench_end(struct fr_bench_model *m, const char *what, int tokens, struct fr_error *err)
{
	struct fr_stages *b = &m->b;

	if (tokens ? !fr_stage_begin(b, what, "t%d", tokens) : !fr_stage_begin(b, what, "%s", ""))
		return 0;
	m->tokens = tokens;
	m->end = (struct fr_process_memory){0};
	b->stage.amount = 1;
	b->stage.items = "images";
	if (fr_stage_run(b, end_once, err))
		return fr_bench_stopped(b->opts) ? 0 : -1;
	fr_stages_say_memory(b, what, &m->end, 0);
	return 0;
}

int fr_bench_end(struct fr_bench_model *m, struct fr_error *err)
{
	fr_stages_say_cached(&m->b, cached_share(m->b.model));
	FR_TRY(bench_end(m, "end_verdict", 0, err));
	return bench_end(m, "end_text", m->b.opts->tokens ? m->b.opts->tokens : TOKENS, err);
}
