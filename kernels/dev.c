/* The table of backends and the choice among them. */
#include "ops.h"

#include <stdio.h>
#include <string.h>

/* "ref", and "ref-cuda", "ref-avx512bf16", "ref-amx", each also with "-precise": ref with another device's roundings. */
static int open_ref(const struct fr_dev_opts *opts, struct fr_dev **out, struct fr_error *err)
{
	struct fr_dev_opts o = *opts;

	if (o.isa[3] == '-')
		o.roundings = o.isa + 4;
	return fr_ref_open(&o, out, err);
}

static int open_cpu(const struct fr_dev_opts *opts, struct fr_dev **out, struct fr_error *err)
{
	if (opts->isa && (strcmp(opts->isa, "ref") == 0 || strncmp(opts->isa, "ref-", 4) == 0))
		return open_ref(opts, out, err);
	return fr_cpu_open(opts, out, err);
}

/* An instruction set is one of the CPU, so who names one wants the CPU. */
static int open_auto(const struct fr_dev_opts *opts, struct fr_dev **out, struct fr_error *err)
{
	struct fr_error why = {0};

	if (!opts->isa && fr_cuda_open(opts, out, &why) == 0)
		return 0;
	FR_TRY(open_cpu(opts, out, err));
	snprintf((*out)->passed_over, sizeof(*out)->passed_over, "%.511s", why.text);
	return 0;
}

static const struct backend {
	const char *name;
	int (*open)(const struct fr_dev_opts *opts, struct fr_dev **out, struct fr_error *err);
} backends[] = {
	{"auto", open_auto},
	{"cpu", open_cpu},
	{"cuda", fr_cuda_open},
};

const char *fr_backends(char *buf, size_t size)
{
	const char *built = fr_cuda_built();

	if (built)
		snprintf(buf, size, "cpu, cuda (%s)", built);
	else
		snprintf(buf, size, "cpu");
	return buf;
}

int fr_dev_open(const struct fr_dev_opts *opts, struct fr_dev **out, struct fr_error *err)
{
	const char *name = opts->backend ? opts->backend : "auto";

	*out = NULL;
	for (size_t i = 0; i < sizeof backends / sizeof *backends; i++)
		if (strcmp(name, backends[i].name) == 0)
			return backends[i].open(opts, out, err);
	return fr_fail(err, FR_E_USAGE, "unknown backend \"%s\", expected auto, cpu or cuda", name);
}
