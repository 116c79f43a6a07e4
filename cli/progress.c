/* One line on stderr that shows what is going on and is gone before anything else is written.
 *
 * Only on a terminal, not with -q, not while JSON or CSV goes to a terminal, and not while results go through a pipe:
 * the reader at its other end may write to the same terminal at any time.
 *
 * A prompt of a large model may take minutes in which the engine has nothing to say. A thread adds the seconds since
 * the line was last changed, so that nobody takes the program for dead. It writes nothing but this line, under the
 * lock, and only while it is visible. */
#include "cli.h"

#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define QUIET_SECONDS 3 /* before the seconds are shown */

static struct {
	int on, ticks; /* ticks: the thread runs */
	volatile sig_atomic_t visible;
	double last; /* seconds */
	char text[512];
	pthread_mutex_t lock;
} line = {.lock = PTHREAD_MUTEX_INITIALIZER};

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

/* Writes the line, cut to the terminal's width, its end kept. The lock is held. */
static void draw(const char *end)
{
	const size_t columns = terminal_columns(STDERR_FILENO) - 1;
	const size_t room = columns > strlen(end) ? columns - strlen(end) : 0;
	const char *text = line.text;
	struct buf b = {0};
	size_t used = 0;

	buf_puts(&b, "\r\x1b[K");
	for (size_t i = 0, n = strlen(text); i < n;) {
		int32_t cp;
		size_t len = utf8_next(text + i, n - i, &cp);
		size_t width = text_columns(text + i, len);
		if (used + width > room)
			break;
		buf_add_safe(&b, text + i, len);
		used += width;
		i += len;
	}
	buf_puts(&b, end);
	fwrite(b.at, 1, b.n, stderr);
	buf_free(&b);
}

static void *tick(void *unused)
{
	(void)unused;
	for (;;) {
		double quiet;

		nanosleep(&(struct timespec){.tv_sec = 1}, NULL);
		pthread_mutex_lock(&line.lock);
		quiet = now() - line.last;
		if (line.visible && quiet >= QUIET_SECONDS) {
			char end[32];

			snprintf(end, sizeof end, ", %.0f s", quiet);
			draw(end);
		}
		pthread_mutex_unlock(&line.lock);
	}
	return NULL;
}

/* Signals are the main thread's. Without the thread the line stands still. */
static void start_ticking(void)
{
	sigset_t all, before;
	pthread_t thread;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	if (pthread_create(&thread, NULL, tick, NULL) == 0)
		pthread_detach(thread);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	line.ticks = 1;
}

void progress_show(int urgent, const char *format, ...)
{
	va_list ap;

	if (!line.on || (!urgent && now() - line.last < 0.1))
		return;
	if (!line.ticks)
		start_ticking();
	pthread_mutex_lock(&line.lock);
	line.last = now();
	va_start(ap, format);
	vsnprintf(line.text, sizeof line.text, format, ap);
	va_end(ap);
	draw("");
	line.visible = 1;
	pthread_mutex_unlock(&line.lock);
}

void progress_clear(void)
{
	if (!line.visible)
		return;
	pthread_mutex_lock(&line.lock);
	fputs("\r\x1b[K", stderr);
	line.visible = 0;
	pthread_mutex_unlock(&line.lock);
}
