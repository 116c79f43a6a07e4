/* One line on stderr that shows what is going on and is gone before anything else is written.
 *
 * Only on a terminal, not with -q, not while JSON or CSV goes to a terminal, and not while results go through a pipe:
 * the reader at its other end may write to the same terminal at any time. */
#include "cli.h"

#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static struct {
	int on;
	volatile sig_atomic_t visible;
	double last; /* seconds */
} line;

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

void progress_init(const struct cli *c, int results_to_terminal, int results_to_pipe)
{
	line.on = is_terminal(STDERR_FILENO) && !c->v.quiet && !results_to_pipe &&
		  !(results_to_terminal && (c->v.json || c->v.csv));
}

int progress_visible(void)
{
	return line.visible;
}

void progress_show(int urgent, const char *format, ...)
{
	const size_t columns = terminal_columns(STDERR_FILENO) - 1;
	char text[512];
	struct buf b = {0};
	va_list ap;
	size_t used = 0;

	if (!line.on || (!urgent && now() - line.last < 0.1))
		return;
	line.last = now();
	va_start(ap, format);
	vsnprintf(text, sizeof text, format, ap);
	va_end(ap);
	buf_puts(&b, "\r\x1b[K");
	for (size_t i = 0, n = strlen(text); i < n;) {
		int32_t cp;
		size_t len = utf8_next(text + i, n - i, &cp);
		size_t width = text_columns(text + i, len);
		if (used + width > columns)
			break;
		buf_add_safe(&b, text + i, len);
		used += width;
		i += len;
	}
	fwrite(b.at, 1, b.n, stderr);
	line.visible = 1;
	buf_free(&b);
}

void progress_clear(void)
{
	if (!line.visible)
		return;
	fputs("\r\x1b[K", stderr);
	line.visible = 0;
}
