/* Results for people: a line with the verdict, the text as it is written, remarks, and at the end a table.
 *
 * On a terminal the text appears word by word; elsewhere a result is written when it is complete. A model that reasons
 * has its verdict only when the text is there: on a terminal its line comes after the text, elsewhere where all others
 * have it. Everything foreign goes through buf_add_safe. */
#include "screen.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define MAX_PATH_COLUMNS 40 /* longer paths are not lined up */
#define HEAD_COLUMNS 36	    /* "DEMO FAKE  P(fake) 0.93 uncalibrated" */
#define BEFORE_P 11	    /* "DEMO FAKE  " of them */

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

void screen_paint(struct screen *s, enum paint p, const char *text)
{
	static const char *const codes[] = {
		[RED] = "1;31", [GREEN] = "32", [YELLOW] = "33", [MAGENTA] = "35", [DIM] = "2", [BOLD] = "1"};

	if (s->color && p != PLAIN)
		buf_printf(&s->b, "\x1b[%sm%s\x1b[0m", codes[p], text);
	else
		buf_puts(&s->b, text);
}

void screen_pad(struct screen *s, size_t used, size_t to)
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

const char *screen_p_text(double p, char buf[8])
{
	if (p >= 0.995)
		return ">0.99";
	if (p < 0.005)
		return "<0.01";
	snprintf(buf, 8, "%.2f", p);
	return buf;
}

const char *screen_verdict_word(const struct screen *s, enum fr_verdict v)
{
	static const char *const words[] = {
		[FR_REAL] = "REAL", [FR_FAKE] = "FAKE", [FR_INCONCLUSIVE] = "INCONCLUSIVE", [FR_UNPARSED] = "UNPARSED"};
	if (v == FR_NONE)
		return screen_by_authors(s) ? "UNPARSED" : "NO VERDICT";
	return words[v];
}

void screen_put_verdict(struct screen *s, enum fr_verdict v)
{
	static const enum paint paints[] = {[FR_NONE] = YELLOW,
					    [FR_REAL] = GREEN,
					    [FR_FAKE] = RED,
					    [FR_INCONCLUSIVE] = YELLOW,
					    [FR_UNPARSED] = YELLOW};

	if (s->o.demo) {
		screen_paint(s, MAGENTA, "DEMO");
		buf_puts(&s->b, " ");
	}
	screen_paint(s, paints[v], screen_verdict_word(s, v));
}

void screen_put_bar(struct screen *s, double p, size_t width)
{
	const size_t full = (size_t)(p * (double)width + 0.5);

	for (size_t i = 0; i < width; i++)
		buf_puts(&s->b, s->wide_chars ? (i < full ? "\xe2\x96\x88" : "\xe2\x96\x91") : (i < full ? "#" : "."));
}

static void put_name(struct screen *s, const char *path)
{
	if (s->color)
		buf_puts(&s->b, "\x1b[1m");
	buf_add_safe(&s->b, path, strlen(path));
	if (s->color)
		buf_puts(&s->b, "\x1b[0m");
}

static void put_path(struct screen *s, const char *path)
{
	put_name(s, path);
	screen_pad(s, text_columns(path, strlen(path)), s->path_columns);
	buf_puts(&s->b, "   ");
}

static size_t head_columns(const struct screen *s, const char *path)
{
	const size_t used = text_columns(path, strlen(path));

	return (used > s->path_columns ? used : s->path_columns) + 3;
}

int screen_by_authors(const struct screen *s)
{
	return strcmp(s->o.cli->v.rule, "authors") == 0;
}

/* ---- one result ---- */

static void close_open(struct screen *s)
{
	if (!s->open)
		return;
	screen_end_text(s);
	screen_pad(s, 0, INDENT);
	screen_paint(s, YELLOW, "(interrupted)");
	buf_puts(&s->b, "\n");
	s->open = 0;
	if (s->live)
		flush(s);
	s->b.n = 0; /* elsewhere an incomplete result is not written */
}

/* Verdict and P(fake), up to the end of the line; `used` columns of it are taken. */
static void put_score(struct screen *s, const struct fr_result *r, size_t used)
{
	const int verdict_only = s->o.cli->v.verdict_only;
	char p[8], direct[8], text[96];
	int n;

	if (screen_by_authors(s)) {
		if (s->o.demo)
			screen_paint(s, MAGENTA, "DEMO ");
	} else {
		screen_put_verdict(s, r->verdict);
		screen_pad(s, strlen(screen_verdict_word(s, r->verdict)), s->o.cli->v.band[1] > 0 ? 12 : 4);
		buf_puts(&s->b, "  ");
	}
	n = snprintf(text, sizeof text, "P(fake) %s%s", r->has_score ? screen_p_text(r->p_fake, p) : "unknown",
		     !r->has_score   ? ""
		     : r->calibrated ? " calibrated"
				     : " uncalibrated");
	if (r->has_direct && verdict_only)
		n += snprintf(text + n, sizeof text - (size_t)n, ", before reasoning");
	else if (r->has_direct)
		n += snprintf(text + n, sizeof text - (size_t)n, ", before reasoning %s",
			      screen_p_text(r->p_fake_direct, direct));
	buf_puts(&s->b, text);
	if (verdict_only && (!s->columns || used + BEFORE_P + (size_t)n + 13 <= s->columns)) {
		screen_pad(s, strlen(screen_p_text(r->p_fake, p)), 7);
		screen_put_bar(s, r->p_fake, 10);
	}
	buf_puts(&s->b, "\n");
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
	screen_pad(s, 0, INDENT);
	screen_paint(s, p, buf_text(&wrapped));
	buf_puts(&s->b, "\n");
	buf_free(&wrapped);
}

static void open_result(struct screen *s, const char *path, const struct fr_result *r)
{
	close_open(s);
	s->open = 1;
	s->index = r->index;
	s->prompt = r->prompt;
	s->reasons = r->has_direct && !s->o.cli->v.verdict_only;
	s->shown = s->column = s->blanks = s->word.n = s->tag_n = 0;
	if (s->results && !s->o.cli->v.verdict_only)
		buf_puts(&s->b, "\n");
	if (s->live && s->reasons) {
		put_name(s, path);
		buf_puts(&s->b, "\n");
	} else {
		put_path(s, path);
		put_score(s, r, head_columns(s, path));
	}
	if (s->o.cli->v.prompts.n > 1)
		remark(s, DIM, "asked: %s", s->o.cli->v.prompts.at[r->prompt]);
	if (s->live)
		flush(s);
}

void screen_begin(struct screen *s, const char *path, const struct fr_result *r)
{
	if (s->live || r->has_score)
		open_result(s, path, r);
	else
		close_open(s); /* its first line needs the score */
}

void screen_stream(struct screen *s, const char *text, size_t n)
{
	if (!s->open)
		return;
	screen_put_text(s, text, n);
	if (s->live)
		flush(s);
}

int screen_disagrees(enum fr_verdict verdict, enum fr_verdict text)
{
	return (verdict == FR_REAL && text == FR_FAKE) || (verdict == FR_FAKE && text == FR_REAL);
}

static void put_remarks(struct screen *s, const struct fr_result *r)
{
	if (screen_by_authors(s))
		remark(s, PLAIN, "verdict by the authors' rule: %s", screen_verdict_word(s, r->verdict));
	else if (screen_disagrees(r->verdict, r->text_verdict))
		remark(s, YELLOW, "note: the text says %s, the score says %s", fr_verdict_name(r->text_verdict),
		       fr_verdict_name(r->verdict));
	else if (r->text_verdict == FR_UNPARSED && r->has_score) /* without a score a warning says why */
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
	screen_paint(s, RED, "ERROR");
	buf_puts(&s->b, "  ");
	buf_add_wrapped(&s->b, text, head_columns(s, path) + 7, INDENT, s->columns);
	buf_puts(&s->b, "\n");
}

void screen_result(struct screen *s, const char *path, const struct fr_result *r, const char *map)
{
	if (r->error.code != FR_OK && r->prompt > 0)
		return; /* said once of an image */
	if (r->error.code != FR_OK) {
		close_open(s);
		put_error(s, path, &r->error);
	} else {
		if (!s->open || s->index != r->index || s->prompt != r->prompt)
			open_result(s, path, r);
		if (r->text && r->text_len > s->shown)
			screen_put_text(s, r->text + s->shown, r->text_len - s->shown);
		screen_end_text(s);
		if (s->live && s->reasons) {
			screen_pad(s, 0, INDENT);
			put_score(s, r, INDENT);
		}
		put_remarks(s, r);
		if (map)
			remark(s, DIM, "where the encoder looked: %s", map);
		s->open = 0;
		s->calibrated = r->calibrated;
	}
	flush(s);
	s->results++;
	screen_keep_row(s, path, r);
}

void screen_end(struct screen *s)
{
	close_open(s);
	if (s->o.table && s->results > 1 && s->results == s->n_rows)
		screen_put_table(s);
	flush(s);
}
