/* Help, manual page and shell completion, all from the tables of options and commands. */
#include "cli.h"

#include <string.h>

static const char *const examples[][2] = {
	{"fr-run -m demo samples", "try the machinery on the sample images"},
	{"fr-run -m fakeVLM photo.jpg", "one image: verdict, P(fake), explanation"},
	{"fr-run -m fakeVLM --verdict-only --json DIR", "a folder, one JSON line an image, no text"},
	{"find . -name '*.jpg' -print0 | fr-run -m fakeVLM -0 --files-from - --csv -o out.csv",
	 "a list of paths to CSV"},
	{"fr-run -m FakeReasoning --vision-tower CLIP_DIR --dino DINO.pth photo.jpg",
	 "the other model: reasoning, conclusion, P(fake)"},
	{"fr-run info fakeVLM", "what the checkpoint is, and the memory it needs"},
};
#define N_EXAMPLES (sizeof examples / sizeof *examples)

static const char *const exits[][2] = {
	{"0", "all images were judged"},
	{"1", "some images failed (each has a result with its error); diff: beyond the bound"},
	{"2", "an option or argument that cannot be meant; diff: names or shapes do not match"},
	{"3", "the model, the device, memory or the output does not allow the run"},
	{"10", "with --exit-verdict: some image is judged fake"},
	{"130", "interrupted (Ctrl-C); what was written are complete lines"},
};
#define N_EXITS (sizeof exits / sizeof *exits)

#define ENVIRONMENT                                                                                                    \
	"Each option that acts on a run has an environment variable, which the line overrides: FR_RUN_MODEL for "      \
	"--model, FR_RUN_MAX_TOKENS for --max-tokens, FR_RUN_JSON=1 for --json. FR_RUN_CUDA_DEVICE=N takes the GPU "   \
	"of "                                                                                                          \
	"that number, from 0. NO_COLOR turns colour off."

/* ---- wrapped text ---- */

#define WIDTH 80
#define COLUMN 28 /* where the help texts of options begin */

/* text from column `at` (where the cursor is) with following lines indented alike. */
static void wrap(FILE *out, const char *text, size_t at)
{
	struct buf b = {0};

	buf_add_wrapped(&b, text, at, at, WIDTH);
	buf_puts(&b, "\n");
	fwrite(b.at, 1, b.n, out);
	buf_free(&b);
}

/* "-m, --model demo|DIR" */
static int spell(char *buf, size_t size, const struct option *o)
{
	char letter[8] = "    ";

	if (o->letter)
		snprintf(letter, sizeof letter, "-%c, ", o->letter);
	return snprintf(buf, size, "%s--%s%s%s", letter, o->name, o->arg ? " " : "", o->arg ? o->arg : "");
}

static void put_options(FILE *out, unsigned bits)
{
	for (int g = 0; g < G_HIDDEN; g++) {
		int titled = 0;
		for (size_t i = 0; i < n_options; i++) {
			const struct option *o = &options[i];
			char spelled[96];
			int n;
			if ((int)o->group != g || !(o->commands & bits))
				continue;
			if (!titled++)
				fprintf(out, "\n%s\n", group_titles[g]);
			n = spell(spelled, sizeof spelled, o);
			fprintf(out, "  %s", spelled);
			if (n + 4 > COLUMN)
				fprintf(out, "\n%*s", COLUMN, "");
			else
				fprintf(out, "%*s", COLUMN - n - 2, "");
			wrap(out, o->help, COLUMN);
		}
	}
}

/* ---- help ---- */

void usage_short(FILE *out)
{
	fputs("usage: fr-run -m demo|DIR [options] IMAGE|FOLDER|-...\n"
	      "       fr-run info|tokenize|dump|diff|bench|selftest ...\n"
	      "fr-run --help says more.\n",
	      out);
}

static void put_overview(FILE *out)
{
	fputs("fr-run " FR_VERSION ": is this image real or synthetic?\n"
	      "Runs FakeVLM and FakeReasoning on this machine.\n\nExamples\n",
	      out);
	for (size_t i = 0; i < N_EXAMPLES; i++)
		fprintf(out, "  %s\n      %s\n", examples[i][0], examples[i][1]);
	fputs("\nCommands\n", out);
	for (size_t i = 0; i < n_commands; i++)
		fprintf(out, "  %-11s %s\n", commands[i].name, commands[i].summary);
}

void usage_help(FILE *out, const struct command *cmd)
{
	if (cmd) {
		fprintf(out, "usage: fr-run %s\n\n", cmd->synopsis);
		if (*cmd->details)
			wrap(out, cmd->details, 0);
		put_options(out, cmd->bit);
		return;
	}
	put_overview(out);
	put_options(out, C_ALL);
	fputs("\nEnvironment\n  ", out);
	wrap(out, ENVIRONMENT, 2);
	fputs("\nExit codes\n", out);
	for (size_t i = 0; i < N_EXITS; i++) {
		fprintf(out, "  %-4s ", exits[i][0]);
		wrap(out, exits[i][1], 7);
	}
}

/* ---- manual page ---- */

/* Text for roff: backslashes and hyphens as they are meant, no request at a line's start. */
static void roff(FILE *out, const char *s)
{
	if (*s == '.' || *s == '\'')
		fputs("\\&", out);
	for (; *s; s++) {
		if (*s == '\\')
			fputs("\\e", out);
		else if (*s == '-')
			fputs("\\-", out);
		else
			fputc(*s, out);
	}
}

static void roff_option(FILE *out, const struct option *o)
{
	fputs(".TP\n", out);
	if (o->letter)
		fprintf(out, "\\fB\\-%c\\fR, ", o->letter);
	fputs("\\fB\\-\\-", out);
	roff(out, o->name);
	fputs("\\fR", out);
	if (o->arg) {
		fputs(" \\fI", out);
		roff(out, o->arg);
		fputs("\\fR", out);
	}
	fputc('\n', out);
	roff(out, o->help);
	fputc('\n', out);
}

static void roff_output(FILE *out)
{
	fputs(".SH OUTPUT\nResults go to stdout, everything else to stderr. A line for people always says whether "
	      "P(fake) is "
	      "calibrated, and begins a demo result's verdict with DEMO. A JSON line has these keys in this order, all "
	      "always present, absent is null:\n",
	      out);
	fputs("schema, image, image_hex, sha256, verdict, p_fake, p_fake_direct, p_fake_reasoned, calibrated, "
	      "logit_real, logit_fake, opening, text, text_verdict, attributes {lighting_and_shadows, edges, texture, "
	      "image_quality, semantic_rationality}, stop, tokens {prompt, generated}, "
	      "prompt, chat, preprocess, sampler {temperature, top_k, top_p, seed}, model {name, hash, dtype, demo}, "
	      "calibration, engine {version, backend, isa, kv, activations}, map, warnings, error {code, message}; with "
	      "\\-\\-timings also ms {image, vision, prefill, decode}.\n"
	      "CSV has the scalar ones as columns, those of an object under object_key.\n",
	      out);
}

void usage_man(FILE *out)
{
	fputs(".TH FR\\-RUN 1 \"\" \"fr\\-run " FR_VERSION "\" \"User Commands\"\n"
	      ".SH NAME\nfr\\-run \\- is this image real or synthetic?\n.SH SYNOPSIS\n",
	      out);
	for (size_t i = 0; i < n_commands; i++) {
		fputs(".B fr\\-run\n", out);
		roff(out, commands[i].synopsis);
		fputs("\n.br\n", out);
	}
	fputs(".SH DESCRIPTION\nRuns FakeVLM and FakeReasoning, detectors of synthetic images that explain their "
	      "verdict, from their published weights on this machine.\n.SH COMMANDS\n",
	      out);
	for (size_t i = 0; i < n_commands; i++) {
		fprintf(out, ".TP\n\\fB%s\\fR\n", commands[i].name);
		roff(out, commands[i].summary);
		fputs(".\n", out);
		roff(out, commands[i].details);
		fputc('\n', out);
	}
	fputs(".SH OPTIONS\nOptions and paths may stand in any order; \\-\\- ends the options.\n", out);
	for (int g = 0; g < G_HIDDEN; g++) {
		fprintf(out, ".SS %s\n", group_titles[g]);
		for (size_t i = 0; i < n_options; i++)
			if ((int)options[i].group == g)
				roff_option(out, &options[i]);
	}
	fputs(".SH ENVIRONMENT\n", out);
	roff(out, ENVIRONMENT);
	fputc('\n', out);
	roff_output(out);
	fputs(".SH EXIT STATUS\n", out);
	for (size_t i = 0; i < N_EXITS; i++)
		fprintf(out, ".TP\n%s\n%s\n", exits[i][0], exits[i][1]);
	fputs(".SH EXAMPLES\n", out);
	for (size_t i = 0; i < N_EXAMPLES; i++) {
		fputs(".TP\n.B ", out);
		roff(out, examples[i][0]);
		fprintf(out, "\n%s\n", examples[i][1]);
	}
}

/* ---- completion ---- */

static void bash_words(FILE *out, unsigned bits)
{
	for (size_t i = 0; i < n_options; i++)
		if (options[i].group != G_HIDDEN && (options[i].commands & bits))
			fprintf(out, " --%s", options[i].name);
}

/* Values of an option: its choices, nothing for numbers and text, else files. */
static void bash_values(FILE *out, const struct option *o)
{
	if (!o->arg || (o->type == T_TEXT && strcmp(o->arg, "TEXT") != 0 && strcmp(o->arg, "GLOB") != 0))
		return;
	if (o->letter)
		fprintf(out, "\t-%c|", o->letter);
	else
		fputc('\t', out);
	fprintf(out, "--%s) words='", o->name);
	for (const char *p = o->type == T_CHOICE ? o->arg : ""; *p; p++)
		fputc(*p == '|' ? ' ' : *p, out);
	fputs("' none=1 ;;\n", out);
}

int usage_completion(FILE *out, const char *shell)
{
	(void)shell; /* the table allows bash alone */
	fputs("# bash completion for fr-run, made by fr-run --completion bash\n"
	      "_fr_run() {\n"
	      "\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} cmd=check words= none= w\n"
	      "\tfor w in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n\t\tcase $w in\n\t\t",
	      out);
	for (size_t i = 0; i < n_commands; i++)
		fprintf(out, "%s%s", i ? "|" : "", commands[i].name);
	fputs(") cmd=$w; break ;;\n\t\tesac\n\tdone\n\tcase $prev in\n", out);
	for (size_t i = 0; i < n_options; i++)
		bash_values(out, &options[i]);
	fputs("\tesac\n"
	      "\tif [ -n \"$none\" ]; then\n\t\tCOMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n\t\treturn\n\tfi\n"
	      "\tcase $cmd in\n",
	      out);
	for (size_t i = 0; i < n_commands; i++) {
		fprintf(out, "\t%s) words='", commands[i].name);
		bash_words(out, commands[i].bit);
		fputs("' ;;\n", out);
	}
	fputs("\tesac\n\t[ \"$COMP_CWORD\" = 1 ] && words=\"$words", out);
	for (size_t i = 0; i < n_commands; i++)
		fprintf(out, " %s", commands[i].name);
	fputs("\"\n\t[ \"$prev\" = -m ] || [ \"$prev\" = --model ] && words=demo\n"
	      "\tCOMPREPLY=($(compgen -W \"$words\" -- \"$cur\") $(compgen -f -- \"$cur\"))\n"
	      "}\n"
	      "complete -o filenames -F _fr_run fr-run\n",
	      out);
	return 0;
}
