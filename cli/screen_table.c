/* The table at the end of a run of several images. */
#include "screen.h"

#include <stdlib.h>
#include <string.h>

#define MAX_ROWS 500 /* a longer run has its lines above, and --csv */

/* What a row is called: several prompts have a row each, and share that of an image that cannot be judged. */
static char *named(const struct screen *s, const char *path, const struct fr_result *r)
{
	struct buf b = {0};
	char *name;

	buf_puts(&b, path);
	if (s->o.cli->v.prompts.n > 1 && r->error.code == FR_OK)
		buf_printf(&b, ", prompt %d", r->prompt + 1);
	name = copy_text(buf_text(&b));
	buf_free(&b);
	return name;
}

void screen_keep_row(struct screen *s, const char *path, const struct fr_result *r)
{
	struct row *grown;

	if (!s->o.table || s->n_rows == MAX_ROWS)
		return;
	grown = realloc(s->row, (s->n_rows + 1) * sizeof *grown);
	if (!grown)
		exit(complain(EXIT_CANNOT, "no memory for a table of %zu rows", s->n_rows));
	s->row = grown;
	s->row[s->n_rows++] = (struct row){.path = named(s, path, r),
					   .verdict = r->verdict,
					   .failed = r->error.code != FR_OK,
					   .has_p = r->has_score,
					   .text_verdict = r->text_verdict,
					   .p = r->p_fake};
}

/* The end of a path that is too long says more than its beginning. */
static void put_cell_path(struct screen *s, const char *path, size_t width)
{
	const char *at = path;
	size_t n = strlen(path), used = text_columns(path, n);

	if (used > width) {
		while (*at && used + 3 > width) {
			int32_t cp;
			size_t len = utf8_next(at, n, &cp);
			used -= text_columns(at, len);
			at += len;
			n -= len;
		}
		buf_puts(&s->b, "...");
		used += 3;
	}
	buf_add_safe(&s->b, at, n);
	screen_pad(s, used, width);
	buf_puts(&s->b, "  ");
}

static void put_row(struct screen *s, const struct row *row, size_t path_width, size_t verdict_width, size_t bar)
{
	const size_t demo = s->o.demo ? 5 : 0;
	const char *p;
	char number[8];

	put_cell_path(s, row->path, path_width);
	if (row->failed) {
		screen_paint(s, RED, "ERROR");
		buf_puts(&s->b, "\n");
		return;
	}
	screen_put_verdict(s, row->verdict);
	screen_pad(s, demo + strlen(screen_verdict_word(s, row->verdict)), verdict_width + 2);
	p = row->has_p ? screen_p_text(row->p, number) : "-";
	screen_pad(s, strlen(p), 7);
	buf_printf(&s->b, "%s  ", p);
	if (row->has_p)
		screen_put_bar(s, row->p, bar);
	else
		screen_pad(s, 0, bar);
	buf_printf(&s->b, "  %s", fr_verdict_name(row->text_verdict) ? fr_verdict_name(row->text_verdict) : "-");
	if (!screen_by_authors(s) && screen_disagrees(row->verdict, row->text_verdict))
		screen_paint(s, YELLOW, " (differs)");
	buf_puts(&s->b, "\n");
}

void screen_put_table(struct screen *s)
{
	const char *calibrated = s->calibrated ? "calibrated" : "uncalibrated";
	const size_t bar = s->columns >= 100 || !s->live ? 20 : 12;
	size_t path_width = 5, verdict_width = 7, rest;

	for (size_t i = 0; i < s->n_rows; i++) {
		size_t path = text_columns(s->row[i].path, strlen(s->row[i].path));
		size_t verdict = (s->o.demo ? 5 : 0) + strlen(screen_verdict_word(s, s->row[i].verdict));
		path_width = path > path_width ? path : path_width;
		if (!s->row[i].failed)
			verdict_width = verdict > verdict_width ? verdict : verdict_width;
	}
	rest = 2 + verdict_width + 2 + 7 + 2 + bar + 2 + 15;
	if (s->live && path_width + rest > s->columns)
		path_width = s->columns > rest + 12 ? s->columns - rest : 12;
	buf_puts(&s->b, "\n");
	put_cell_path(s, "image", path_width);
	buf_puts(&s->b, "verdict");
	screen_pad(s, 7, verdict_width + 2);
	buf_printf(&s->b, "P(fake)  %s", calibrated);
	screen_pad(s, strlen(calibrated), bar + 2);
	buf_puts(&s->b, "text\n");
	for (size_t i = 0; i < s->n_rows; i++)
		put_row(s, &s->row[i], path_width, verdict_width, bar);
}
