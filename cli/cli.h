/* What the files of fr-run's command line share: the option table, its values, text helpers and the commands. */
#ifndef FR_CLI_H
#define FR_CLI_H

#include "../engine/fr.h"

/* Exit codes of the contract. SIGNALLED + signal number: ended by SIGINT (130) or SIGTERM (143). */
enum { EXIT_DONE = 0, EXIT_SOME_FAILED = 1, EXIT_USAGE = 2, EXIT_CANNOT = 3, EXIT_FAKE = 10, EXIT_SIGNALLED = 128 };

/* ---- options_table.c: one table, from which the parser, the help, the man page and the completion are made ---- */
enum {
	C_CHECK = 1,
	C_INFO = 2,
	C_TOKENIZE = 4,
	C_DUMP = 8,
	C_DIFF = 16,
	C_BENCH = 32,
	C_SELFTEST = 64,
	C_HELP = 128,
	C_ALL = 255,
	C_SESSION = C_CHECK | C_DUMP
};
struct texts { /* of an option that may be repeated */
	const char **at;
	int n;
};
struct values {
	struct texts prompts;
	const char *model, *chat, *rule, *backend, *isa, *calibration, *kv, *output, *color, *files_from, *map;
	const char *tap, *pixels, *ids, *filter, *completion, *vision_tower, *dino, *base, *speculate, *draft_from, *svg;
	int threads, batch, max_tokens /* -1: not given */, top_k, gpu_layers /* -1: not given */;
	double temperature, top_p, threshold, band[2], rel, seconds;
	uint64_t seed, max_pixels;
	int precise, no_cublas;
	int verdict_only, json, csv, timings, quiet, verbose, exit_verdict, null, no_bos, decode, check, sweep;
	int version, help, man;
};
enum opt_type { T_FLAG, T_TEXT, T_TEXTS /* repeated */, T_CHOICE /* arg is the list: a|b */, T_INT, T_U64, T_REAL, T_BAND };
enum opt_group { G_MODEL, G_QUESTION, G_VERDICT, G_INPUT, G_OUTPUT, G_MACHINE, G_TOOLS, G_GENERAL, G_HIDDEN, G_GROUPS };
struct option {
	const char *name;
	char letter; /* 0: none */
	const char *arg;
	enum opt_type type;
	size_t at;     /* offset in struct values */
	double lo, hi; /* of numbers, both included */
	unsigned commands;
	enum opt_group group;
	const char *help;
};
extern const struct option options[];
extern const size_t n_options;
extern const char *const group_titles[G_GROUPS];

struct cli;
struct command {
	const char *name;
	unsigned bit;
	const char *synopsis, *summary;
	const char *details; /* paragraphs */
	int (*run)(struct cli *c);
};
extern const struct command commands[];
extern const size_t n_commands;
const struct command *command_find(const char *name);

/* Where a value came from; the line wins over the environment. */
enum origin { FROM_DEFAULT, FROM_ENV, FROM_LINE };
struct cli {
	const struct command *command;
	int named; /* the line names it; else it is check */
	struct values v;
	unsigned char from[64]; /* enum origin by row of the table */
	char **path;		/* the other arguments, in order; owned */
	size_t n_path;
};
/* Fills *c from the environment and the line. -1: the sentence has been printed, exit with EXIT_USAGE. */
int options_parse(struct cli *c, int argc, char **argv);
void options_free(struct cli *c);
enum origin options_origin(const struct cli *c, const char *name);
/* "FR_RUN_MAX_TOKENS" of "max-tokens" into buf. */
const char *options_variable(const struct option *o, char *buf, size_t size);

/* ---- usage.c ---- */
void usage_short(FILE *out);
void usage_help(FILE *out, const struct command *cmd); /* NULL: the overview */
void usage_man(FILE *out);
int usage_completion(FILE *out, const char *shell);

/* ---- version.c ---- */
void version_print(FILE *out, const char *isa);

/* ---- text.c: bytes that grow, UTF-8, and what may go to a terminal ---- */
struct buf {
	char *at; /* not NUL-terminated unless buf_text() */
	size_t n, cap;
};
void buf_add(struct buf *b, const void *bytes, size_t n);
void buf_puts(struct buf *b, const char *s);
void buf_printf(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
const char *buf_text(struct buf *b);
void buf_free(struct buf *b);
char *copy_text(const char *s);
/* One character of s [n], n > 0: its length; *cp is -1 and the length 1 when the byte starts no valid character. */
size_t utf8_next(const char *s, size_t n, int32_t *cp);
int utf8_valid(const char *s, size_t n);
int char_columns(int32_t cp); /* 0, 1 or 2 columns of a terminal */
/* Can the character change a terminal's state or the order of what is read (controls, bidi marks, invisible ones)? */
int char_harmful(int32_t cp);
/* Bytes as they may be shown: harmful characters and bytes that are no UTF-8 become \xNN. */
void buf_add_safe(struct buf *b, const char *s, size_t n);
size_t text_columns(const char *s, size_t n);
/* Words of text, safe ones, from column `at` on; lines that would pass `columns` (0: endless) begin anew at `indent`.
 */
void buf_add_wrapped(struct buf *b, const char *text, size_t at, size_t indent, size_t columns);

/* ---- output.c: where results go ---- */
struct output {
	FILE *file;
	char *path, *temp; /* of -o FILE: written to temp, renamed at the end; NULL for stdout and special files */
	int any, failed;   /* something was written; errno of the first write that failed */
};
/* NULL or "-": stdout. These two print their sentence; 0 or the exit code. */
int output_open(struct output *o, const char *path);
/* complete = 1 renames; else the complete results stay under the temporary name (or go, when there are none). */
int output_close(struct output *o, int complete);
void output_write(struct output *o, const char *bytes, size_t n); /* whole lines, flushed */

/* ---- signals.c ---- */
void signals_install(void);
int signals_caught(void); /* 0, or the signal that asked to stop */
/* What the SIGBUS handler adds to its sentence: where the complete results are; NULL: nothing. */
void signals_note(const char *partial_path);

/* ---- inputs.c: from arguments to one image after another ---- */
struct inputs;
/* Prints its sentence; 0 or the exit code. *out is to be closed in any case. */
int inputs_open(struct inputs **out, char **path, size_t n_path, const char *files_from, int nul);
void inputs_close(struct inputs *in);
/* Next image: 1 filled, 0 at the end. *path and the job's bytes live until the next call. */
int inputs_next(struct inputs *in, struct fr_job *job, const char **path);
/* 1 when inputs_next would not wait for a pipe or a terminal. */
int inputs_ready(struct inputs *in);
size_t inputs_total(const struct inputs *in);	/* known by now, those already given included; 0: open-ended */
size_t inputs_skipped(const struct inputs *in); /* files of directories that are no images */
size_t inputs_columns(const struct inputs *in); /* the widest path known, in terminal columns */
/* All bytes of an open file, 1 GiB at most; name is for the sentence. */
int read_all(int fd, const char *name, struct buf *out, struct fr_error *err);

/* ---- map.c: where the encoder looked, a PNG for each image ---- */
struct maps {
	const char *dir; /* NULL: no maps */
	int fd, made;	 /* of the folder; it was not there before */
	size_t written;
	char temp[40];
};
/* Makes the folder and tries whether it can be written. dir NULL: there will be no maps. These two print their
 * sentence; 0 or the exit code. */
int maps_open(struct maps *m, const char *dir);
/* A map of the image at path; *out gets the path of the file. */
int maps_write(struct maps *m, const char *path, const char *sha256, const char *model_hash, const uint8_t *png,
	       size_t size, struct buf *out);
void maps_close(struct maps *m); /* a folder that was made for nothing goes again */

/* ---- record.c: one result as a JSON line or a CSV row ---- */
struct run_facts { /* what is the same in every line of a run */
	const struct fr_model *model;
	const struct fr_session *session;
	const struct fr_sampler *sampler;
	const char *calibration; /* hash or NULL */
	int timings;
};
/* map is the path of the image's map, or NULL. */
void record_json(struct buf *b, const struct run_facts *run, const char *path, const struct fr_result *r,
		 const char *map);
void record_csv_header(struct buf *b, const struct run_facts *run);
void record_csv(struct buf *b, const struct run_facts *run, const char *path, const struct fr_result *r,
		const char *map);
void json_string(struct buf *b, const char *s, size_t n); /* quoted; bytes that are no UTF-8 become U+FFFD */

/* ---- screen.c, screen_text.c, screen_table.c: results for people ---- */
struct screen;
struct screen_opts {
	const struct cli *cli;
	struct output *out;
	int demo;
	size_t path_columns; /* to line the verdicts up */
	int table;	     /* several images are expected: keep rows for the table at the end */
};
struct screen *screen_new(const struct screen_opts *o);
void screen_free(struct screen *s);
void screen_begin(struct screen *s, const char *path, const struct fr_result *so_far);
void screen_stream(struct screen *s, const char *text, size_t n);
void screen_result(struct screen *s, const char *path, const struct fr_result *r, const char *map);
void screen_end(struct screen *s); /* the table, or the end of a line that an interruption left open */

/* ---- progress.c: one line on stderr that comes and goes ---- */
void progress_init(const struct cli *c, int results_to_terminal, int results_to_pipe);
/* Not more than ten times a second, unless urgent. */
void progress_show(int urgent, const char *format, ...) __attribute__((format(printf, 2, 3)));
void progress_clear(void);
int progress_visible(void); /* async-signal-safe */

/* ---- the commands ---- */
int cmd_check(struct cli *c);
int cmd_info(struct cli *c);
int cmd_tokenize(struct cli *c);
int cmd_dump(struct cli *c);
int cmd_diff(struct cli *c);
int cmd_help(struct cli *c);
int cmd_bench(struct cli *c);
int cmd_selftest(struct cli *c);

/* main.c: one sentence on stderr ("fr-run: ..."), whatever is on the terminal; returns code. */
int complain(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));
int complain_error(const struct fr_error *err); /* the exit code that fits err->code */
/* The model asked for: -m, or the first argument for commands that take MODEL. NULL: the sentence has been printed. */
const char *model_path(const struct cli *c);
/* session.c: the model at path with the parts that the values name. Those of the environment alone may be spare: they
 * stand there for other models, too. */
struct fr_model_opts model_options(const struct cli *c, const char *path);
/* The options of a session from the values. Prints its sentence; 0 or the exit code. */
int session_options(const struct cli *c, const struct fr_model *model, struct fr_session_opts *out);
/* A sentence on stderr, wrapped where that is a terminal. */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
int color_wanted(const struct cli *c, int fd);
int is_terminal(int fd); /* a terminal that can move its cursor: TERM is set and not dumb */
size_t terminal_columns(int fd);

#endif
