/* fr-run: reads the line, picks the command, runs it. */
#include "cli.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static void say_line(const char *prefix, const char *format, va_list ap)
{
	const size_t columns = isatty(STDERR_FILENO) ? terminal_columns(STDERR_FILENO) : 0;
	struct buf b = {0};
	char text[1400];

	progress_clear();
	vsnprintf(text, sizeof text, format, ap);
	buf_puts(&b, prefix);
	buf_add_wrapped(&b, text, strlen(prefix), 0, columns);
	buf_puts(&b, "\n");
	fwrite(b.at, 1, b.n, stderr);
	buf_free(&b);
}

void say(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	say_line("", format, ap);
	va_end(ap);
}

int complain(int code, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	say_line("fr-run: ", format, ap);
	va_end(ap);
	return code;
}

int complain_error(const struct fr_error *err)
{
	return complain(err->code == FR_E_USAGE ? EXIT_USAGE : EXIT_CANNOT, "%s", err->text);
}

const char *model_path(const struct cli *c)
{
	if (c->v.model)
		return c->v.model;
	complain(0, "no model given: name one with -m DIR (or FR_RUN_MODEL); FakeVLM's published weights are at "
		    "https://huggingface.co/lingcco/fakeVLM, and -m demo is the small model inside this program");
	return NULL;
}

int is_terminal(int fd)
{
	const char *term = getenv("TERM");

	return isatty(fd) && term && *term && strcmp(term, "dumb") != 0;
}

int color_wanted(const struct cli *c, int fd)
{
	const char *no_color = getenv("NO_COLOR");

	if (strcmp(c->v.color, "auto") != 0)
		return strcmp(c->v.color, "always") == 0;
	return !(no_color && *no_color) && is_terminal(fd);
}

size_t terminal_columns(int fd)
{
	struct winsize w;

	return ioctl(fd, TIOCGWINSZ, &w) == 0 && w.ws_col >= 20 ? w.ws_col : 80;
}

static int run_general(const struct cli *c)
{
	if (c->v.version)
		version_print(stdout, c->v.isa);
	else if (c->v.man)
		usage_man(stdout);
	else if (c->v.completion)
		usage_completion(stdout, c->v.completion);
	else
		usage_help(stdout, c->named ? c->command : NULL);
	return fflush(stdout) ? complain(EXIT_CANNOT, "stdout cannot be written") : EXIT_DONE;
}

/* A closed stdin, stdout or stderr would give its number to the next file opened; reading and writing it still fail. */
static void keep_standard_files(void)
{
	for (int fd = 0; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) < 0)
			_exit(EXIT_CANNOT);
}

int main(int argc, char **argv)
{
	struct cli c;
	int code;

	keep_standard_files();
	signals_install();
	if (argc < 2 && !getenv("FR_RUN_FILES_FROM")) {
		usage_short(stderr);
		return EXIT_USAGE;
	}
	if (options_parse(&c, argc, argv))
		code = EXIT_USAGE;
	else if (c.v.version || c.v.man || c.v.completion || c.v.help)
		code = run_general(&c);
	else
		code = c.command->run(&c);
	options_free(&c);
	return code;
}
