/* `fr-run bench`: what this machine can do, and what the kernels make of it. */
#include "../bench/bench.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

int cmd_bench(int argc, char **argv);

static const char usage[] = "usage: fr-run bench peak    [-t N] [--isa NAME] [--seconds S] [--json]\n"
			    "       fr-run bench kernels [-t N] [--isa NAME] [--seconds S] [--json] [--filter GLOB]\n";

static int bad_number(const char *option, const char *text)
{
	fprintf(stderr, "fr-run bench: %s expects a positive number, got \"%s\"\n", option, text);
	return 2;
}

static int read_options(int argc, char **argv, struct fr_bench_opts *o)
{
	static const struct option names[] = {
		{"threads", required_argument, NULL, 't'},
		{"isa", required_argument, NULL, 'i'},
		{"seconds", required_argument, NULL, 's'},
		{"filter", required_argument, NULL, 'f'},
		{"json", no_argument, NULL, 'j'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	char *end;
	int c;

	optind = 1;
	while ((c = getopt_long(argc, argv, "t:h", names, NULL)) != -1) {
		errno = 0;
		switch (c) {
		case 't':
			o->threads = (int)strtol(optarg, &end, 10);
			if (errno || *end || end == optarg || o->threads < 1 || o->threads > 1024)
				return bad_number("--threads", optarg);
			break;
		case 's':
			o->seconds = strtod(optarg, &end);
			if (errno || *end || end == optarg || !(o->seconds > 0 && o->seconds <= 3600))
				return bad_number("--seconds", optarg);
			break;
		case 'i':
			o->isa = optarg;
			break;
		case 'f':
			o->filter = optarg;
			break;
		case 'j':
			o->json = 1;
			break;
		case 'h':
			fputs(usage, stdout);
			return -1;
		default:
			fputs(usage, stderr);
			return 2;
		}
	}
	return 0;
}

int cmd_bench(int argc, char **argv)
{
	struct fr_bench_opts opts = {0};
	struct fr_error err = {0};
	const char *what;
	int rc = read_options(argc, argv, &opts);

	if (rc != 0)
		return rc < 0 ? 0 : rc;
	what = optind == argc - 1 ? argv[optind] : "";
	if (strcmp(what, "peak") == 0)
		rc = fr_bench_peak(&opts, stdout, &err);
	else if (strcmp(what, "kernels") == 0)
		rc = fr_bench_kernels(&opts, stdout, &err);
	else {
		fputs(usage, stderr);
		return 2;
	}
	if (rc == 0)
		return 0;
	fprintf(stderr, "fr-run bench: %s\n", err.text);
	return err.code == FR_E_USAGE ? 2 : 3;
}
