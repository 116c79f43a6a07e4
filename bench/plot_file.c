/* A plot and the file it goes to, which is there under its name only when it is whole. */
#include "plot.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void drop(struct fr_plot *p)
{
	free(p->path);
	free(p->temp);
	free(p);
}

int fr_plot_new(const char *path, struct fr_plot **out, struct fr_error *err)
{
	struct fr_plot *p;

	*out = NULL;
	if (!path)
		return 0;
	p = calloc(1, sizeof *p);
	if (!p || !(p->path = strdup(path)) || asprintf(&p->temp, "%s.tmp.%d", path, (int)getpid()) < 0) {
		free(p ? p->path : NULL);
		free(p);
		return fr_fail(err, FR_E_MEMORY, "no memory for a plot");
	}
	p->file = fopen(p->temp, "we");
	if (!p->file) {
		fr_fail(err, FR_E_IO, "%s: cannot be written (%s)", path, strerror(errno));
		drop(p);
		return -1;
	}
	*out = p;
	return 0;
}

int fr_plot_end(struct fr_plot *p, int keep, struct fr_error *err)
{
	int failed;

	if (!p)
		return 0;
	if (keep)
		fr_plot_print(p, p->file);
	failed = ferror(p->file);
	failed |= fclose(p->file);
	failed = keep && (failed || rename(p->temp, p->path));
	if (failed)
		fr_fail(err, FR_E_IO, "%s: cannot be written (%s)", p->path, strerror(errno));
	if (failed || !keep)
		unlink(p->temp);
	drop(p);
	return failed ? -1 : 0;
}
