/* `fr-run bench`: what this machine can do, and what the kernels make of it. */
#include "cli.h"

#include "../bench/bench.h"

#include <errno.h>
#include <string.h>

static const struct {
	const char *name;
	int (*run)(const struct fr_bench_opts *opts, FILE *out, struct fr_error *err);
	int alone; /* runs only when it is named */
	int rows;  /* has rows, to be swept and plotted */
} benches[] = {{"peak", fr_bench_peak, 0, 0}, {"kernels", fr_bench_kernels, 0, 1}, {"model", fr_bench_model, 1, 1}};

int cmd_bench(struct cli *c)
{
	const struct fr_bench_opts opts = {.backend = c->v.backend,
					   .isa = c->v.isa,
					   .threads = c->v.threads,
					   .precise = c->v.precise,
					   .no_cublas = c->v.no_cublas,
					   .filter = c->v.filter,
					   .json = c->v.json,
					   .seconds = c->v.seconds,
					   .sweep = c->v.sweep,
					   .svg = c->v.svg,
					   .model = model_options(c, c->v.model),
					   .image = c->n_path > 1 ? c->path[1] : NULL,
					   .tokens = c->v.max_tokens < 0 ? 0 : c->v.max_tokens,
					   .batch = options_origin(c, "batch") == FROM_DEFAULT ? 0 : c->v.batch,
					   .program = "/proc/self/exe",
					   .stopped = signals_caught};
	struct fr_error err = {0};
	int found = 0;

	for (size_t i = 0; i < sizeof benches / sizeof *benches; i++) {
		if (c->n_path ? strcmp(c->path[0], benches[i].name) != 0 : benches[i].alone)
			continue;
		if (c->n_path > (benches[i].alone ? 2u : 1u))
			break;
		found = 1;
		if (c->n_path && ((c->v.svg && !benches[i].rows) || (c->v.sweep && benches[i].run != fr_bench_kernels)))
			return complain(EXIT_USAGE, "bench %s has no %s", benches[i].name,
					c->v.sweep ? "rows for --sweep, kernels has" : "plot, kernels and model have");
		if (opts.batch && c->n_path && benches[i].run != fr_bench_model &&
		    options_origin(c, "batch") == FROM_LINE)
			return complain(EXIT_USAGE, "bench %s has no texts for --batch, model has", benches[i].name);
		if (benches[i].run(&opts, stdout, &err))
			return complain_error(&err);
		if (signals_caught())
			return EXIT_SIGNALLED + signals_caught();
		if (fflush(stdout))
			return complain(EXIT_CANNOT, "stdout cannot be written (%s)", strerror(errno));
	}
	return found ? EXIT_DONE
		     : complain(EXIT_USAGE, "bench: peak, kernels or model expected, or nothing for the first two");
}
