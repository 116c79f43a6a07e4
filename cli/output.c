/* Where results go: stdout, or -o FILE under a temporary name in the same directory, renamed when all is done.
 *
 * A run that ends early leaves FILE as it was and says where its complete results are. Special files (/dev/stdout, a
 * FIFO) are written as they are: renaming onto /dev/null would replace the device. */
#include "cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int fail(int code, const char *path, const char *what, int number)
{
	return complain(code, "%s: %s (%s)", path, what, strerror(number));
}

int output_open(struct output *o, const char *path)
{
	struct stat st;
	struct buf temp = {0};
	char *real;

	*o = (struct output){.file = stdout};
	if (!path || strcmp(path, "-") == 0)
		return 0;
	if (stat(path, &st) == 0 && !S_ISREG(st.st_mode)) {
		o->file = fopen(path, "we");
		return o->file ? 0 : fail(EXIT_USAGE, path, "cannot be written", errno);
	}
	real = realpath(path, NULL); /* through a link, its target is replaced */
	o->path = real ? real : copy_text(path);
	buf_printf(&temp, "%s.%ld.partial", o->path, (long)getpid());
	o->temp = copy_text(buf_text(&temp));
	buf_free(&temp);
	o->file = fopen(o->temp, "wxe");
	if (!o->file) {
		const int number = errno;
		int code = fail(EXIT_USAGE, o->temp, "cannot be made", number);
		free(o->path);
		free(o->temp);
		*o = (struct output){0};
		return code;
	}
	signals_note(o->temp);
	return 0;
}

void output_write(struct output *o, const char *bytes, size_t n)
{
	if (n == 0 || o->failed)
		return;
	if (fwrite(bytes, 1, n, o->file) != n || fflush(o->file) != 0)
		o->failed = errno ? errno : EIO;
	o->any = 1;
}

static int finish_file(struct output *o, int complete)
{
	if (complete && !o->failed && rename(o->temp, o->path) != 0)
		return fail(EXIT_CANNOT, o->temp, "cannot be renamed", errno);
	if (o->failed || (!complete && !o->any))
		unlink(o->temp);
	else if (!complete)
		complain(0, "the results complete by now are in %s", o->temp);
	return 0;
}

int output_close(struct output *o, int complete)
{
	int rc = 0;

	signals_note(NULL);
	if (o->file != stdout && fclose(o->file) != 0 && !o->failed)
		o->failed = errno;
	if (o->temp)
		rc = finish_file(o, complete);
	if (o->failed)
		rc = fail(EXIT_CANNOT, o->path ? o->path : "the output", "cannot be written", o->failed);
	free(o->path);
	free(o->temp);
	*o = (struct output){0};
	return rc;
}
