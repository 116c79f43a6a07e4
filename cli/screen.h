/* The inside of the screen, which screen.c (one result after the other), screen_text.c (its text) and screen_table.c
 * share. */
#ifndef FR_CLI_SCREEN_H
#define FR_CLI_SCREEN_H

#include "cli.h"

#define INDENT 4

enum paint { PLAIN, RED, GREEN, YELLOW, MAGENTA, DIM, BOLD };

struct row {
	char *path;
	enum fr_verdict verdict, text_verdict;
	int failed, has_p;
	double p;
};
struct screen {
	struct screen_opts o;
	int live, color, wide_chars; /* a terminal; may use block characters */
	size_t columns, path_columns;
	struct buf b;	       /* not yet written */
	int open;	       /* a result has begun */
	int reasons;	       /* its text has tags, and its verdict comes after */
	size_t index, shown;   /* of which image, and how many bytes of its text are here */
	int prompt;	       /* and of which prompt */
	struct buf word;       /* the word that is growing */
	size_t column, blanks; /* in the text's line; blanks before the word */
	char tag[16];	       /* what may become a tag, held back */
	size_t tag_n;
	int labelled; /* the line has nothing but its label yet */
	size_t results, n_rows;
	int calibrated;
	struct row *row;
};

/* ---- screen.c ---- */
void screen_paint(struct screen *s, enum paint p, const char *text);
void screen_pad(struct screen *s, size_t used, size_t to);
/* Two digits, and never "1.00" for what is not certain. */
const char *screen_p_text(double p, char buf[8]);
const char *screen_verdict_word(const struct screen *s, enum fr_verdict v);
void screen_put_verdict(struct screen *s, enum fr_verdict v);
void screen_put_bar(struct screen *s, double p, size_t width);
int screen_by_authors(const struct screen *s);
int screen_disagrees(enum fr_verdict verdict, enum fr_verdict text);

/* ---- screen_text.c ---- */
void screen_put_text(struct screen *s, const char *text, size_t n);
/* The text is over: what was held back of it, and the end of its line. */
void screen_end_text(struct screen *s);

/* ---- screen_table.c ---- */
void screen_keep_row(struct screen *s, const char *path, const struct fr_result *r);
void screen_put_table(struct screen *s);

#endif
