/* fr-run: reads the line, picks the command, runs it. */
#include "cli.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

int complain(int code, const char *format, ...)
{
	struct buf b = {0};
	va_list ap;
	char text[1400];

	progress_clear();
	va_start(ap, format);
	vsnprintf(text, sizeof text, format, ap);
	va_end(ap);
	buf_puts(&b, "fr-run: ");
	buf_add_safe(&b, text, strlen(text));
	buf_puts(&b, "\n");
	fwrite(b.at, 1, b.n, stderr);
	buf_free(&b);
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

int terminal_columns(int fd)
{
	struct winsize w;

	return ioctl(fd, TIOCGWINSZ, &w) == 0 && w.ws_col >= 20 ? w.ws_col : 80;
}

static int run_general(const struct cli *c)
{
	if (c->v.version)
		version_print(stdout);
	else if (c->v.man)
		usage_man(stdout);
	else if (c->v.completion)
		usage_completion(stdout, c->v.completion);
	else
		usage_help(stdout, c->named ? c->command : NULL);
	return fflush(stdout) ? complain(EXIT_CANNOT, "stdout cannot be written") : EXIT_DONE;
}

int main(int argc, char **argv)
{
	struct cli c;
	int code;

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
	free(c.path);
	return code;
}
