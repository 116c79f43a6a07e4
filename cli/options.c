/* The option table and the parser over it: options and other arguments in any order, `--` ends the options, and an
 * environment variable FR_RUN_NAME for every option that takes effect in a run.
 *
 * The command may stand anywhere before the first other argument, so which options fit is checked when all is read. */
#include "cli.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define V(member) offsetof(struct values, member)

const char *const group_titles[G_GROUPS] = {
	[G_MODEL] = "Model",	 [G_QUESTION] = "Question and text",
	[G_VERDICT] = "Verdict", [G_INPUT] = "Input",
	[G_OUTPUT] = "Output",	 [G_MACHINE] = "Machine",
	[G_TOOLS] = "Tools",	 [G_GENERAL] = "General",
};

const struct option options[] = {
	{"model", 'm', "demo|DIR", T_TEXT, V(model), .commands = C_SESSION | C_INFO | C_TOKENIZE | C_BENCH,
	 .group = G_MODEL,
	 .help = "a checkpoint's directory as published, or demo: the small model inside the program, which shows the "
		 "machinery and is no detector"},
	{"vision-tower", 0, "DIR", T_TEXT, V(vision_tower), .commands = C_SESSION | C_INFO | C_BENCH, .group = G_MODEL,
	 .help = "FakeReasoning: the directory of its CLIP (default: where config.json says, else by that name in or beside "
		 "the model's directory)"},
	{"dino", 0, "FILE", T_TEXT, V(dino), .commands = C_SESSION | C_INFO | C_BENCH, .group = G_MODEL,
	 .help = "FakeReasoning: the weights of its DINOv2 (default: dinov2_vitl14_pretrain.pth, or one dinov2*.pth, in "
		 "or beside the model's directory or in CLIP's)"},
	{"base", 0, "DIR", T_TEXT, V(base), .commands = C_SESSION | C_INFO | C_BENCH | C_TOKENIZE, .group = G_MODEL,
	 .help = "a LoRA checkpoint: the model it was trained on (default: where adapter_config.json says, else by that "
		 "name in or beside the checkpoint's directory)"},
	{"calibration", 0, "FILE", T_TEXT, V(calibration), .commands = C_CHECK, .group = G_MODEL,
	 .help = "temperature and bias of P(fake), fitted for these weights; without it P(fake) is uncalibrated; of a "
		 "model that reasons they apply to both scores"},

	{"prompt", 0, "TEXT", T_TEXT, V(prompt), .commands = C_SESSION | C_INFO, .group = G_QUESTION,
	 .help = "the question; without <image> in it, \"<image>\\n\" goes in front (default: the model's own)"},
	{"chat", 0, "raw|llava|llava_v1", T_CHOICE, V(chat), .commands = C_SESSION | C_INFO, .group = G_QUESTION,
	 .help = "the form around the question: none; USER: ... ASSISTANT:; or that after a system text (default: the "
		 "model's own)"},
	{"max-tokens", 0, "N", T_INT, V(max_tokens), 0, 1 << 20, C_SESSION | C_INFO | C_BENCH, G_QUESTION,
	 "generated tokens at most (default 512; dump: greedy steps, default 24; bench model: 96)"},
	{"temperature", 0, "X", T_REAL, V(temperature), 0, 100, C_CHECK, G_QUESTION,
	 "sample the text; 0 is greedy (default 0)"},
	{"top-k", 0, "N", T_INT, V(top_k), 0, 1 << 20, C_CHECK, G_QUESTION,
	 "sample among the N likeliest tokens; 0 is all (default 0)"},
	{"top-p", 0, "X", T_REAL, V(top_p), 1e-6, 1, C_CHECK, G_QUESTION,
	 "sample among the likeliest tokens that hold X of the probability (default 1)"},
	{"seed", 0, "N", T_U64, V(seed), .commands = C_CHECK, .group = G_QUESTION,
	 .help = "of the sampling; the same seed and image give the same text (default 0)"},

	{"verdict-only", 0, NULL, T_FLAG, V(verdict_only), .commands = C_CHECK | C_INFO, .group = G_VERDICT,
	 .help = "stop after P(fake), write no text; of a model that reasons this is its score before any reasoning"},
	{"rule", 0, "logits|authors", T_CHOICE, V(rule), .commands = C_CHECK, .group = G_VERDICT,
	 .help = "verdict from P(fake), or from the text by the rule of the model's authors (default logits)"},
	{"threshold", 0, "X", T_REAL, V(threshold), 1e-9, 1, C_CHECK, G_VERDICT,
	 "P(fake) from X on is judged fake (default 0.5)"},
	{"band", 0, "LO,HI", T_BAND, V(band), 0, 1, C_CHECK, G_VERDICT,
	 "P(fake) from LO to below HI is judged inconclusive (default: no band)"},
	{"exit-verdict", 0, NULL, T_FLAG, V(exit_verdict), .commands = C_CHECK, .group = G_VERDICT,
	 .help = "exit with 10 when any image is judged fake; the demo model refuses it"},

	{"files-from", 0, "FILE|-", T_TEXT, V(files_from), .commands = C_CHECK, .group = G_INPUT,
	 .help = "read paths from FILE or stdin, one a line, each judged as soon as it is read"},
	{"null", '0', NULL, T_FLAG, V(null), .commands = C_CHECK, .group = G_INPUT,
	 .help = "the paths of --files-from end with NUL instead of a newline"},
	{"max-pixels", 0, "N", T_U64, V(max_pixels), 1, 1.8e19, C_SESSION, G_INPUT,
	 "refuse larger images (default 178956970, Pillow's own limit)"},

	{"json", 0, NULL, T_FLAG, V(json), .commands = C_CHECK | C_INFO | C_TOKENIZE | C_BENCH, .group = G_OUTPUT,
	 .help = "one JSON object a line and image, keys always the same"},
	{"csv", 0, NULL, T_FLAG, V(csv), .commands = C_CHECK, .group = G_OUTPUT,
	 .help = "one row an image, after a header (RFC 4180)"},
	{"timings", 0, NULL, T_FLAG, V(timings), .commands = C_CHECK, .group = G_OUTPUT,
	 .help = "add the milliseconds of each stage"},
	{"output", 'o', "FILE", T_TEXT, V(output), .commands = C_SESSION | C_INFO | C_TOKENIZE, .group = G_OUTPUT,
	 .help = "write there instead of stdout: under another name, renamed when all is done"},
	{"map", 0, "DIR", T_TEXT, V(map), .commands = C_CHECK, .group = G_OUTPUT,
	 .help = "also write a PNG for each image there: where the encoder looked, as a heat map over the picture. That is "
		 "attention, not the forged region, and weak evidence"},
	{"quiet", 'q', NULL, T_FLAG, V(quiet), .commands = C_SESSION, .group = G_OUTPUT,
	 .help = "nothing on stderr but errors"},
	{"verbose", 'v', NULL, T_FLAG, V(verbose), .commands = C_SESSION, .group = G_OUTPUT,
	 .help = "say what is loaded, the memory plan, and where the time went"},
	{"color", 0, "auto|always|never", T_CHOICE, V(color), .commands = C_CHECK, .group = G_OUTPUT,
	 .help = "(default auto: on a terminal, unless NO_COLOR is set or TERM is dumb)"},

	{"backend", 0, "auto|cpu|cuda", T_CHOICE, V(backend), .commands = C_SESSION | C_INFO | C_BENCH,
	 .group = G_MACHINE,
	 .help = "where to compute: cuda is an NVIDIA GPU; one that is not there ends with exit 3 (default auto: cuda "
		 "where there is one, else cpu)"},
	{"gpu-layers", 0, "N", T_INT, V(gpu_layers), 0, 1024, C_SESSION | C_INFO, G_MACHINE,
	 "cuda: decoder layers whose weights lie in the GPU's memory; the others stay in the host's and are read over "
	 "the bus (default: all); results do not depend on it"},
	{"precise", 0, NULL, T_FLAG, V(precise), .commands = C_SESSION | C_INFO | C_BENCH, .group = G_MACHINE,
	 .help = "cuda: activations enter matrix products in twice 16 bits instead of 16; the CPU's are float32 in any "
		 "case"},
	{"no-cublas", 0, NULL, T_FLAG, V(no_cublas), .commands = C_SESSION | C_INFO | C_BENCH, .group = G_MACHINE,
	 .help = "cuda: fr-run's own matrix products everywhere, none of NVIDIA's cuBLASLt"},
	{"isa", 0, "ref|avx2|avx512|avx512bf16|amx", T_CHOICE, V(isa), .commands = C_SESSION | C_BENCH,
	 .group = G_MACHINE,
	 .help = "the CPU's instruction set; one that is not there ends with exit 3 (default: the best there is, see "
		 "--version)"},
	{"threads", 't', "N", T_INT, V(threads), 1, 4096, C_SESSION | C_BENCH, G_MACHINE,
	 "worker threads (default: the CPUs this process may use); results do not depend on it"},
	{"batch", 0, "N", T_INT, V(batch), 1, 256, C_CHECK | C_INFO | C_BENCH, G_MACHINE,
	 "images whose text is written together; results do not depend on it (default: 1 on the CPU; on a GPU 8, or as "
	 "many as its memory has room for)"},
	{"kv", 0, "f16|f32", T_CHOICE, V(kv), .commands = C_SESSION | C_INFO, .group = G_MACHINE,
	 .help = "number format of the KV cache (default f16)"},

	{"check", 0, NULL, T_FLAG, V(check), .commands = C_INFO, .group = G_TOOLS,
	 .help = "info: read every weight, and fail naming the first tensor with a value that is not finite"},
	{"no-bos", 0, NULL, T_FLAG, V(no_bos), .commands = C_TOKENIZE, .group = G_TOOLS,
	 .help = "tokenize: no start token in front"},
	{"decode", 0, NULL, T_FLAG, V(decode), .commands = C_TOKENIZE, .group = G_TOOLS,
	 .help = "tokenize: the arguments are ids, print their text"},
	{"tap", 0, "GLOB", T_TEXT, V(tap), .commands = C_DUMP, .group = G_TOOLS,
	 .help = "dump: only intermediates whose name matches, and only the stages they need"},
	{"pixels", 0, "FILE", T_TEXT, V(pixels), .commands = C_DUMP, .group = G_TOOLS,
	 .help = "dump: feed `pixels` of a safetensors file instead of an image"},
	{"ids", 0, "FILE", T_TEXT, V(ids), .commands = C_DUMP, .group = G_TOOLS,
	 .help = "dump: feed `input_ids` of a safetensors file instead of the prompt"},
	{"filter", 0, "GLOB", T_TEXT, V(filter), .commands = C_BENCH, .group = G_TOOLS,
	 .help = "bench: only rows whose name matches"},
	{"seconds", 0, "X", T_REAL, V(seconds), 1e-3, 3600, C_BENCH, G_TOOLS,
	 "bench: time for a row (default 1; kernels on a GPU: 0.3)"},
	{"rel", 0, "X", T_REAL, V(rel), 0, 1e9, C_DIFF, G_TOOLS,
	 "diff: the relative L2 distance still accepted (default 1e-4)"},

	{"help", 'h', NULL, T_FLAG, V(help), .commands = C_ALL, .group = G_GENERAL,
	 .help = "this text; after a command, its own"},
	{"version", 0, NULL, T_FLAG, V(version), .commands = C_ALL, .group = G_GENERAL,
	 .help = "version, commit, compiler, and the instruction sets found and in use"},
	{"completion", 0, "bash", T_CHOICE, V(completion), .commands = C_HELP | C_CHECK, .group = G_GENERAL,
	 .help = "print the shell completion"},
	{"man", 0, NULL, T_FLAG, V(man), .commands = C_HELP | C_CHECK, .group = G_HIDDEN,
	 .help = "print the manual page's source"},
};
const size_t n_options = sizeof options / sizeof *options;

const char *options_variable(const struct option *o, char *buf, size_t size)
{
	int n = snprintf(buf, size, "FR_RUN_%s", o->name);

	for (int i = 0; i < n && (size_t)i < size; i++)
		buf[i] = buf[i] == '-' ? '_' : (char)toupper((unsigned char)buf[i]);
	return buf;
}

static const struct option *find_long(const char *name, size_t len)
{
	for (size_t i = 0; i < n_options; i++)
		if (strlen(options[i].name) == len && memcmp(options[i].name, name, len) == 0)
			return &options[i];
	return NULL;
}

static const struct option *find_short(char letter)
{
	for (size_t i = 0; i < n_options; i++)
		if (options[i].letter && options[i].letter == letter)
			return &options[i];
	return NULL;
}

enum origin options_origin(const struct cli *c, const char *name)
{
	const struct option *o = find_long(name, strlen(name));

	return o ? c->from[o - options] : FROM_DEFAULT;
}

/* ---- the nearest name to a mistyped one ---- */

#define NAME_MAX_CHARS 32

/* Edit distance of two short words: insertions, deletions, replacements. */
static size_t distance(const char *a, size_t n, const char *b)
{
	size_t row[NAME_MAX_CHARS + 1], m = strlen(b);

	if (n > NAME_MAX_CHARS || m > NAME_MAX_CHARS)
		return NAME_MAX_CHARS;
	for (size_t j = 0; j <= m; j++)
		row[j] = j;
	for (size_t i = 1; i <= n; i++) {
		size_t diagonal = row[0];
		row[0] = i;
		for (size_t j = 1; j <= m; j++) {
			size_t up = row[j], best = diagonal + (a[i - 1] != b[j - 1]);
			if (up + 1 < best)
				best = up + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			diagonal = up;
			row[j] = best;
		}
	}
	return row[m];
}

static int unknown(const char *name, size_t len)
{
	const struct option *near = NULL;
	size_t best = len / 3 + 2;
	struct buf shown = {0};

	for (size_t i = 0; i < n_options; i++) {
		size_t d = distance(name, len, options[i].name);
		if (strncmp(options[i].name, name, len) == 0 && d > 1)
			d = 1; /* an abbreviation is near, too */
		if (d < best) {
			best = d;
			near = &options[i];
		}
	}
	buf_add_safe(&shown, name, len);
	if (near)
		complain(0, "unknown option --%s (did you mean --%s?)", buf_text(&shown), near->name);
	else
		complain(0, "unknown option --%s (fr-run --help lists them)", buf_text(&shown));
	buf_free(&shown);
	return -1;
}

/* ---- values ---- */

/* `what` names the option or variable in the sentence. */
static int bad_value(const char *what, const char *text, const char *expected)
{
	struct buf shown = {0};

	buf_add_safe(&shown, text, strlen(text));
	complain(0, "%s: '%s' is not %s", what, buf_text(&shown), expected);
	buf_free(&shown);
	return -1;
}

static int read_real(const char *text, const char **end, double *out)
{
	char *stop;

	if (!isdigit((unsigned char)*text) && *text != '.' && *text != '-' && *text != '+')
		return -1; /* strtod would take blanks, inf and nan */
	*out = strtod(text, &stop);
	*end = stop;
	return stop == text || !isfinite(*out) ? -1 : 0;
}

static int set_number(const struct option *o, const char *what, const char *text, void *at)
{
	char expected[96];
	const char *end = "";
	double real = 0;
	int ok;

	if (o->type == T_REAL) {
		ok = read_real(text, &end, &real) == 0 && !*end && real >= o->lo && real <= o->hi;
		snprintf(expected, sizeof expected, "a number from %g to %g", o->lo, o->hi);
		*(double *)at = real;
	} else {
		char *stop;
		uint64_t n;
		const double hi = o->hi > 0 ? o->hi : 1.8446744073709552e19;
		errno = 0;
		n = strtoull(text, &stop, 10);
		ok = isdigit((unsigned char)*text) && !*stop && errno == 0 && (double)n >= o->lo && (double)n <= hi;
		snprintf(expected, sizeof expected, "a whole number from %.0f to %.20g", o->lo, hi);
		if (o->type == T_INT && ok)
			*(int *)at = (int)n;
		else if (ok)
			*(uint64_t *)at = n;
	}
	return ok ? 0 : bad_value(what, text, expected);
}

static int set_band(const char *what, const char *text, double band[2])
{
	const char *end;

	if (read_real(text, &end, &band[0]) || *end != ',' || read_real(end + 1, &end, &band[1]) || *end ||
	    band[0] < 0 || band[0] >= band[1] || band[1] > 1)
		return bad_value(what, text, "LO,HI with 0 <= LO < HI <= 1");
	return 0;
}

static int is_choice(const char *list, const char *text)
{
	const size_t n = strlen(text);

	for (const char *at = list; n; at++) {
		if (strncmp(at, text, n) == 0 && (at[n] == '|' || at[n] == 0))
			return 1;
		at = strchr(at, '|');
		if (!at)
			break;
	}
	return 0;
}

static int set(struct cli *c, const struct option *o, const char *what, const char *text, enum origin from)
{
	void *at = (char *)&c->v + o->at;

	c->from[o - options] = (unsigned char)from;
	switch (o->type) {
	case T_FLAG:
		*(int *)at = 1;
		return 0;
	case T_TEXT:
		*(const char **)at = text;
		return 0;
	case T_CHOICE:
		if (!is_choice(o->arg, text)) {
			char expected[96];
			snprintf(expected, sizeof expected, "one of %s", o->arg);
			return bad_value(what, text, expected);
		}
		*(const char **)at = text;
		return 0;
	case T_BAND:
		return set_band(what, text, at);
	case T_INT:
	case T_U64:
	case T_REAL:
		return set_number(o, what, text, at);
	}
	return -1;
}

/* ---- the line ---- */

static int take_long(struct cli *c, char **argv, int argc, int *i)
{
	const char *name = argv[*i] + 2, *equals = strchr(name, '=');
	const size_t len = equals ? (size_t)(equals - name) : strlen(name);
	const struct option *o = find_long(name, len);
	char what[64];

	if (!o)
		return unknown(name, len);
	snprintf(what, sizeof what, "--%s", o->name);
	if (!o->arg) {
		if (equals) {
			complain(0, "%s takes no value", what);
			return -1;
		}
		return set(c, o, what, NULL, FROM_LINE);
	}
	if (!equals && ++*i == argc) {
		complain(0, "%s needs a value: %s %s", what, what, o->arg);
		return -1;
	}
	return set(c, o, what, equals ? equals + 1 : argv[*i], FROM_LINE);
}

/* -v, -qv, -t4, -t 4, -m demo */
static int take_short(struct cli *c, char **argv, int argc, int *i)
{
	for (const char *p = argv[*i] + 1; *p; p++) {
		const struct option *o = find_short(*p);
		char what[4] = {'-', *p, 0};
		if (!o) {
			struct buf shown = {0};
			buf_add_safe(&shown, p, 1);
			complain(0, "unknown option -%s (fr-run --help lists them)", buf_text(&shown));
			buf_free(&shown);
			return -1;
		}
		if (!o->arg) {
			set(c, o, what, NULL, FROM_LINE);
			continue;
		}
		if (!p[1] && ++*i == argc) {
			complain(0, "%s needs a value: %s %s", what, what, o->arg);
			return -1;
		}
		return set(c, o, what, p[1] ? p + 1 : argv[*i], FROM_LINE);
	}
	return 0;
}

static int take_environment(struct cli *c)
{
	char name[64];

	for (size_t i = 0; i < n_options; i++) {
		const struct option *o = &options[i];
		const char *text;
		if (o->group == G_GENERAL || o->group == G_HIDDEN || !(o->commands & c->command->bit) ||
		    c->from[i] == FROM_LINE)
			continue;
		text = getenv(options_variable(o, name, sizeof name));
		if (!text || !*text || (o->type == T_FLAG && strcmp(text, "0") == 0))
			continue;
		if (o->type == T_FLAG && strcmp(text, "1") != 0)
			return bad_value(name, text, "0 or 1");
		if (set(c, o, name, text, FROM_ENV))
			return -1;
	}
	return 0;
}

/* Options that exclude each other: two of the line are an error, one of the line beats one of the environment. */
static int settle(struct cli *c, const char *a, int *va, const char *b, int *vb)
{
	const enum origin fa = options_origin(c, a), fb = options_origin(c, b);

	if (!*va || !*vb)
		return 0;
	if (fa == fb) {
		complain(0, "--%s and --%s exclude each other", a, b);
		return -1;
	}
	*(fa > fb ? vb : va) = 0;
	return 0;
}

static int check_fit(const struct cli *c)
{
	for (size_t i = 0; i < n_options; i++)
		if (c->from[i] == FROM_LINE && !(options[i].commands & c->command->bit)) {
			complain(0, "--%s has no meaning for `%s` (fr-run help %s lists its options)", options[i].name,
				 c->command->name, c->command->name);
			return -1;
		}
	return 0;
}

int options_parse(struct cli *c, int argc, char **argv)
{
	int only_paths = 0;

	_Static_assert(sizeof options / sizeof *options <= sizeof c->from, "one origin for each option");
	*c = (struct cli){.v = {.max_tokens = -1,
				.top_p = 1,
				.threshold = 0.5,
				.rel = 1e-4,
				.color = "auto",
				.backend = "auto",
				.kv = "f16",
				.rule = "logits",
				.gpu_layers = -1}};
	c->path = calloc((size_t)argc + 1, sizeof *c->path);
	if (!c->path)
		return complain(-1, "no memory for %d arguments", argc);
	for (int i = 1; i < argc; i++) {
		const char *a = argv[i];
		int rc = 0;
		if (!only_paths && strcmp(a, "--") == 0)
			only_paths = 1;
		else if (!only_paths && a[0] == '-' && a[1] == '-')
			rc = take_long(c, argv, argc, &i);
		else if (!only_paths && a[0] == '-' && a[1])
			rc = take_short(c, argv, argc, &i);
		else if (!only_paths && !c->command && c->n_path == 0 && command_find(a))
			c->command = command_find(a), c->named = 1;
		else
			c->path[c->n_path++] = argv[i];
		if (rc)
			return -1;
	}
	if (!c->command)
		c->command = command_find("check");
	if (check_fit(c) || take_environment(c))
		return -1;
	return settle(c, "json", &c->v.json, "csv", &c->v.csv);
}
