/* The parser over the table of options (options_table.c): options and other arguments in any order, `--` ends the
 * options, and an environment variable FR_RUN_NAME for every option that takes effect in a run.
 *
 * The command may stand anywhere before the first other argument, so which options fit is checked when all is read. */
#include "cli.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

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

static int add_text(struct texts *list, const char *text)
{
	const char **grown = realloc(list->at, ((size_t)list->n + 1) * sizeof *grown);

	if (!grown)
		return complain(-1, "no memory for %d texts", list->n + 1);
	list->at = grown;
	list->at[list->n++] = text;
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
	case T_TEXTS:
		return add_text(at, text);
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

void options_free(struct cli *c)
{
	free(c->v.prompts.at);
	free(c->path);
}
