/* Results for people: a line with the verdict, the text as it is written, remarks, and at the end a table.
 *
 * On a terminal the text appears word by word, wrapped; elsewhere a result is written when it is complete and a
 * paragraph is one line. Everything foreign goes through buf_add_safe. */
#include "cli.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define INDENT 4
#define MAX_TEXT_COLUMNS 100 /* longer lines are hard to read */
#define MAX_PATH_COLUMNS 40  /* longer paths are not lined up */
#define HEAD_COLUMNS 36	     /* "DEMO FAKE  P(fake) 0.93 uncalibrated" */
#define MAX_ROWS 500	     /* of the table; a longer run has its lines above, and --csv */

enum paint { PLAIN, RED, GREEN, YELLOW, MAGENTA, DIM, BOLD };

struct row {
	char *path;
	enum fr_verdict verdict, text_verdict;
	int failed;
	double p;
};
struct screen {
	struct screen_opts o;
	int live, color, wide_chars; /* a terminal; may use block characters */
	size_t columns, path_columns;
	struct buf b;	       /* not yet written */
	int open;	       /* a result has begun */
	size_t index, shown;   /* which, and how many bytes of its text are here */
	struct buf word;       /* the word that is growing */
	size_t column, blanks; /* in the text's line; blanks before the word */
	size_t results, n_rows;
	int calibrated;
	struct row *row;
};

static int speaks_utf8(void)
{
	static const char *const names[] = {"LC_ALL", "LC_CTYPE", "LANG"};

	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		const char *v = getenv(names[i]);
		if (v && *v)
			return strcasestr(v, "utf-8") || strcasestr(v, "utf8");
	}
	return 0;
}

struct screen *screen_new(const struct screen_opts *o)
{
	struct screen *s = calloc(1, sizeof *s);
	const int fd = fileno(o->out->file);

	if (!s)
		exit(complain(EXIT_CANNOT, "no memory for the screen"));
	s->o = *o;
	s->live = is_terminal(fd);
	s->color = color_wanted(o->cli, fd);
	s->wide_chars = speaks_utf8();
	s->columns = s->live ? terminal_columns(fd) : 0;
	s->path_columns = o->path_columns < MAX_PATH_COLUMNS ? o->path_columns : MAX_PATH_COLUMNS;
	if (s->live && s->path_columns + 3 + HEAD_COLUMNS > s->columns)
		s->path_columns = s->columns > HEAD_COLUMNS + 3 ? s->columns - HEAD_COLUMNS - 3 : 0;
	return s;
}

void screen_free(struct screen *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < s->n_rows; i++)
		free(s->row[i].path);
	free(s->row);
	buf_free(&s->b);
	buf_free(&s->word);
	free(s);
}

/* ---- pieces of a line ---- */

static void paint(struct screen *s, enum paint p, const char *text)
{
	static const char *const codes[] = {
		[RED] = "1;31", [GREEN] = "32", [YELLOW] = "33", [MAGENTA] = "35", [DIM] = "2", [BOLD] = "1"};

	if (s->color && p != PLAIN)
		buf_printf(&s->b, "\x1b[%sm%s\x1b[0m", codes[p], text);
	else
		buf_puts(&s->b, text);
}

static void pad(struct screen *s, size_t used, size_t to)
{
	for (; used < to; used++)
		buf_add(&s->b, " ", 1);
}

static void flush(struct screen *s)
{
	progress_clear();
	output_write(s->o.out, s->b.at, s->b.n);
	s->b.n = 0;
}

/* Two digits, and never "1.00" for what is not certain. */
static const char *p_text(double p, char buf[8])
{
	if (p >= 0.995)
		return ">0.99";
	if (p < 0.005)
		return "<0.01";
	snprintf(buf, 8, "%.2f", p);
	return buf;
}

static const char *verdict_word(enum fr_verdict v)
{
	static const char *const words[] = {[FR_NONE] = "UNPARSED",
					    [FR_REAL] = "REAL",
					    [FR_FAKE] = "FAKE",
					    [FR_INCONCLUSIVE] = "INCONCLUSIVE",
					    [FR_UNPARSED] = "UNPARSED"};
	return words[v];
}

static void put_verdict(struct screen *s, enum fr_verdict v)
{
	static const enum paint paints[] = {[FR_NONE] = YELLOW,
					    [FR_REAL] = GREEN,
					    [FR_FAKE] = RED,
					    [FR_INCONCLUSIVE] = YELLOW,
					    [FR_UNPARSED] = YELLOW};

	if (s->o.demo) {
		paint(s, MAGENTA, "DEMO");
		buf_puts(&s->b, " ");
	}
	paint(s, paints[v], verdict_word(v));
}

static void put_bar(struct screen *s, double p, size_t width)
{
	const size_t full = (size_t)(p * (double)width + 0.5);

	for (size_t i = 0; i < width; i++)
		buf_puts(&s->b, s->wide_chars ? (i < full ? "\xe2\x96\x88" : "\xe2\x96\x91") : (i < full ? "#" : "."));
}

static void put_path(struct screen *s, const char *path)
{
	const size_t n = strlen(path), used = text_columns(path, n);

	if (s->color)
		buf_puts(&s->b, "\x1b[1m");
	buf_add_safe(&s->b, path, n);
	if (s->color)
		buf_puts(&s->b, "\x1b[0m");
	pad(s, used, s->path_columns);
	buf_puts(&s->b, "   ");
}

static size_t head_columns(const struct screen *s, const char *path)
{
	const size_t used = text_columns(path, strlen(path));

	return (used > s->path_columns ? used : s->path_columns) + 3;
}

static int by_authors(const struct screen *s)
{
	return strcmp(s->o.cli->v.rule, "authors") == 0;
}

/* ---- the text, wrapped at words ---- */

static size_t text_width(const struct screen *s)
{
	size_t width = s->columns < MAX_TEXT_COLUMNS ? s->columns : MAX_TEXT_COLUMNS;

	return width > 2 * INDENT ? width - 2 : 2 * INDENT;
}

static void put_word(struct screen *s)
{
	const size_t width = text_columns(s->word.at, s->word.n);

	if (!s->word.n)
		return;
	if (s->live && s->column + s->blanks + width > text_width(s) && s->column > INDENT) {
		buf_add(&s->b, "\n", 1);
		s->column = s->blanks = 0;
	}
	if (s->column == 0) {
		pad(s, 0, INDENT);
		s->column = INDENT;
		s->blanks = 0;
	}
	pad(s, 0, s->blanks);
	buf_add(&s->b, s->word.at, s->word.n);
	s->column += s->blanks + width;
	s->blanks = s->word.n = 0;
}

static void end_line(struct screen *s)
{
	put_word(s);
	if (s->column)
		buf_add(&s->b, "\n", 1);
	s->column = s->blanks = 0;
}

static void put_text(struct screen *s, const char *text, size_t n)
{
	for (size_t i = 0; i < n;) {
		int32_t cp;
		size_t len = utf8_next(text + i, n - i, &cp);
		if (cp == '\n') {
			end_line(s);
		} else if (cp == ' ' || cp == '\t') {
			put_word(s);
			s->blanks += s->column > 0;
		} else {
			buf_add_safe(&s->word, text + i, len);
			if (s->live && text_columns(s->word.at, s->word.n) + INDENT >= text_width(s))
				put_word(s);
		}
		i += len;
	}
	s->shown += n;
}

/* ---- one result ---- */

static void close_open(struct screen *s)
{
	if (!s->open)
		return;
	end_line(s);
	pad(s, 0, INDENT);
	paint(s, YELLOW, "(interrupted)");
	buf_puts(&s->b, "\n");
	s->open = 0;
	if (s->live)
		flush(s);
	s->b.n = 0; /* elsewhere an incomplete result is not written */
}

void screen_begin(struct screen *s, const char *path, const struct fr_result *r)
{
	char number[8];

	close_open(s);
	s->open = 1;
	s->index = r->index;
	s->shown = s->column = s->blanks = s->word.n = 0;
	if (s->results && !s->o.cli->v.verdict_only)
		buf_puts(&s->b, "\n");
	put_path(s, path);
	if (by_authors(s)) {
		if (s->o.demo)
			paint(s, MAGENTA, "DEMO ");
	} else {
		put_verdict(s, r->verdict);
		pad(s, strlen(verdict_word(r->verdict)), s->o.cli->v.band[1] > 0 ? 12 : 4);
		buf_puts(&s->b, "  ");
	}
	buf_printf(&s->b, "P(fake) %s %s", p_text(r->p_fake, number), r->calibrated ? "calibrated" : "uncalibrated");
	if (s->o.cli->v.verdict_only && (!s->columns || head_columns(s, path) + HEAD_COLUMNS + 13 <= s->columns)) {
		pad(s, strlen(p_text(r->p_fake, number)), 7);
		put_bar(s, r->p_fake, 10);
	}
	buf_puts(&s->b, "\n");
	if (s->live)
		flush(s);
}

void screen_stream(struct screen *s, const char *text, size_t n)
{
	put_text(s, text, n);
	if (s->live)
		flush(s);
}

__attribute__((format(printf, 3, 4))) static void remark(struct screen *s, enum paint p, const char *format, ...)
{
	char text[1280];
	struct buf wrapped = {0};
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof text, format, ap);
	va_end(ap);
	buf_add_wrapped(&wrapped, text, INDENT, INDENT, s->columns);
	pad(s, 0, INDENT);
	paint(s, p, buf_text(&wrapped));
	buf_puts(&s->b, "\n");
	buf_free(&wrapped);
}

static int disagrees(enum fr_verdict verdict, enum fr_verdict text)
{
	return (verdict == FR_REAL && text == FR_FAKE) || (verdict == FR_FAKE && text == FR_REAL);
}

static void put_remarks(struct screen *s, const struct fr_result *r)
{
	if (by_authors(s))
		remark(s, PLAIN, "verdict by the authors' rule: %s", verdict_word(r->verdict));
	else if (disagrees(r->verdict, r->text_verdict))
		remark(s, YELLOW, "note: the text says %s, the score says %s", fr_verdict_name(r->text_verdict),
		       fr_verdict_name(r->verdict));
	else if (r->text_verdict == FR_UNPARSED)
		remark(s, YELLOW, "note: the text names no verdict");
	if (r->stop && strcmp(r->stop, "length") == 0)
		remark(s, DIM, "(the text ends at its limit of %d tokens)", r->generated_tokens);
	for (int i = 0; i < r->n_warnings; i++)
		remark(s, YELLOW, "warning: %s", r->warnings[i]);
	if ((s->o.cli->v.timings || s->o.cli->v.verbose) && !r->generated_tokens)
		remark(s, DIM, "image %.0f ms, vision %.0f ms, prefill of %d tokens %.0f ms", r->ms_image, r->ms_vision,
		       r->prompt_tokens, r->ms_prefill);
	else if (s->o.cli->v.timings || s->o.cli->v.verbose)
		remark(s, DIM,
		       "image %.0f ms, vision %.0f ms, prefill of %d tokens %.0f ms, %d tokens %.0f ms (%.1f/s)",
		       r->ms_image, r->ms_vision, r->prompt_tokens, r->ms_prefill, r->generated_tokens, r->ms_decode,
		       r->ms_decode > 0 ? 1e3 * r->generated_tokens / r->ms_decode : 0);
}

static void put_error(struct screen *s, const char *path, const struct fr_error *e)
{
	const size_t n = strlen(path);
	const char *text = e->text;

	if (strncmp(text, path, n) == 0 && strncmp(text + n, ": ", 2) == 0)
		text += n + 2; /* the path stands in front already */
	if (s->results && !s->o.cli->v.verdict_only)
		buf_puts(&s->b, "\n");
	put_path(s, path);
	paint(s, RED, "ERROR");
	buf_puts(&s->b, "  ");
	buf_add_wrapped(&s->b, text, head_columns(s, path) + 7, INDENT, s->columns);
	buf_puts(&s->b, "\n");
}

static void keep_row(struct screen *s, const char *path, const struct fr_result *r)
{
	struct row *grown;

	if (!s->o.table || s->n_rows == MAX_ROWS)
		return;
	grown = realloc(s->row, (s->n_rows + 1) * sizeof *grown);
	if (!grown)
		exit(complain(EXIT_CANNOT, "no memory for a table of %zu rows", s->n_rows));
	s->row = grown;
	s->row[s->n_rows++] = (struct row){.path = copy_text(path),
					   .verdict = r->verdict,
					   .failed = r->error.code != FR_OK,
					   .text_verdict = r->text_verdict,
					   .p = r->p_fake};
}

void screen_result(struct screen *s, const char *path, const struct fr_result *r)
{
	if (r->error.code != FR_OK) {
		close_open(s);
		put_error(s, path, &r->error);
	} else {
		if (!s->open || s->index != r->index)
			screen_begin(s, path, r);
		if (r->text && r->text_len > s->shown)
			put_text(s, r->text + s->shown, r->text_len - s->shown);
		end_line(s);
		put_remarks(s, r);
		s->open = 0;
		s->calibrated = r->calibrated;
	}
	flush(s);
	s->results++;
	keep_row(s, path, r);
}

/* ---- the table ---- */

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
	pad(s, used, width);
	buf_puts(&s->b, "  ");
}

static void put_row(struct screen *s, const struct row *row, size_t path_width, size_t verdict_width, size_t bar)
{
	const size_t demo = s->o.demo ? 5 : 0;
	const char *p;
	char number[8];

	put_cell_path(s, row->path, path_width);
	if (row->failed) {
		paint(s, RED, "ERROR");
		buf_puts(&s->b, "\n");
		return;
	}
	put_verdict(s, row->verdict);
	pad(s, demo + strlen(verdict_word(row->verdict)), verdict_width + 2);
	p = p_text(row->p, number);
	pad(s, strlen(p), 7);
	buf_printf(&s->b, "%s  ", p);
	put_bar(s, row->p, bar);
	buf_printf(&s->b, "  %s", fr_verdict_name(row->text_verdict) ? fr_verdict_name(row->text_verdict) : "-");
	if (!by_authors(s) && disagrees(row->verdict, row->text_verdict))
		paint(s, YELLOW, " (differs)");
	buf_puts(&s->b, "\n");
}

static void put_table(struct screen *s)
{
	const char *calibrated = s->calibrated ? "calibrated" : "uncalibrated";
	const size_t bar = s->columns >= 100 || !s->live ? 20 : 12;
	size_t path_width = 5, verdict_width = 7, rest;

	for (size_t i = 0; i < s->n_rows; i++) {
		size_t path = text_columns(s->row[i].path, strlen(s->row[i].path));
		size_t verdict = (s->o.demo ? 5 : 0) + strlen(verdict_word(s->row[i].verdict));
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
	pad(s, 7, verdict_width + 2);
	buf_printf(&s->b, "P(fake)  %s", calibrated);
	pad(s, strlen(calibrated), bar + 2);
	buf_puts(&s->b, "text\n");
	for (size_t i = 0; i < s->n_rows; i++)
		put_row(s, &s->row[i], path_width, verdict_width, bar);
}

void screen_end(struct screen *s)
{
	close_open(s);
	if (s->o.table && s->results > 1 && s->results == s->n_rows)
		put_table(s);
	flush(s);
}
