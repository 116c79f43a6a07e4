/* The table of backends and the choice among them. */
#include "ops.h"

#include <stdio.h>
#include <string.h>

static int no_cuda(const struct fr_dev_opts *opts, struct fr_dev **out, struct fr_error *err)
{
	(void)opts;
	*out = NULL;
	return fr_fail(err, FR_E_DEVICE, "backend cuda is not built into this fr-run; it has: cpu");
}

static const struct backend {
	const char *name;
	int (*open)(const struct fr_dev_opts *opts, struct fr_dev **out, struct fr_error *err);
} backends[] = {
	{"auto", fr_cpu_open},
	{"cpu", fr_cpu_open},
	{"cuda", no_cuda},
};

/* "ref", and "ref-cuda" or "ref-cuda-precise": ref with another device's roundings. */
static int open_ref(const struct fr_dev_opts *opts, struct fr_dev **out, struct fr_error *err)
{
	struct fr_dev_opts o = *opts;

	if (o.isa[3] == '-')
		o.roundings = o.isa + 4;
	return fr_ref_open(&o, out, err);
}

int fr_dev_open(const struct fr_dev_opts *opts, struct fr_dev **out, struct fr_error *err)
{
	const char *name = opts->backend ? opts->backend : "auto";

	*out = NULL;
	for (size_t i = 0; i < sizeof backends / sizeof *backends; i++) {
		const struct backend *b = &backends[i];

		if (strcmp(name, b->name) != 0)
			continue;
		if (b->open == fr_cpu_open && opts->isa &&
		    (strcmp(opts->isa, "ref") == 0 || strncmp(opts->isa, "ref-", 4) == 0))
			return open_ref(opts, out, err);
		return b->open(opts, out, err);
	}
	return fr_fail(err, FR_E_USAGE, "unknown backend \"%s\", expected auto, cpu or cuda", name);
}
