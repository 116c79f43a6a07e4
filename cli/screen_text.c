/* A result's text: on a terminal word by word, wrapped; elsewhere a paragraph is one line. */
#include "screen.h"

#include <string.h>

#define MAX_TEXT_COLUMNS 100 /* longer lines are hard to read */

static size_t text_width(const struct screen *s)
{
	size_t width = s->columns < MAX_TEXT_COLUMNS ? s->columns : MAX_TEXT_COLUMNS;

	return width > 2 * INDENT ? width - 2 : 2 * INDENT;
}

static void put_word(struct screen *s)
{
	const size_t width = text_columns(s->word.at, s->word.n);

	if (!s->word.n)
		return;
	if (s->live && s->column + s->blanks + width > text_width(s) && s->column > INDENT) {
		buf_add(&s->b, "\n", 1);
		s->column = s->blanks = 0;
	}
	if (s->column == 0) {
		screen_pad(s, 0, INDENT);
		s->column = INDENT;
		s->blanks = 0;
	}
	screen_pad(s, 0, s->blanks);
	buf_add(&s->b, s->word.at, s->word.n);
	s->column += s->blanks + width;
	s->blanks = s->word.n = 0;
}

static void end_line(struct screen *s)
{
	put_word(s);
	if (s->column)
		buf_add(&s->b, "\n", 1);
	s->column = s->blanks = 0;
	s->labelled = 0;
}

/* ---- tags ---- */

/* What a model that reasons puts around the parts of its answer, and what people read there. */
static const struct {
	const char *tag, *label; /* "": the part ends */
} tags[] = {
	{"<REASONING>", "Reasoning:"},
	{"</REASONING>", ""},
	{"<CONCLUSION>", "Conclusion:"},
	{"</CONCLUSION>", ""},
};
#define TAGS (sizeof tags / sizeof *tags)

static void put_label(struct screen *s, const char *label)
{
	end_line(s);
	if (!*label)
		return;
	screen_pad(s, 0, INDENT);
	screen_paint(s, BOLD, label);
	s->column = INDENT + strlen(label);
	s->blanks = s->labelled = 1;
}

static void put_char(struct screen *s, const char *c, size_t len, int32_t cp)
{
	if (cp == '\n' && !s->labelled) {
		end_line(s);
	} else if (cp == ' ' || cp == '\t' || cp == '\n') {
		put_word(s);
		s->blanks += s->column > 0 && !s->labelled;
	} else {
		buf_add_safe(&s->word, c, len);
		s->labelled = 0;
		if (s->live && text_columns(s->word.at, s->word.n) + INDENT >= text_width(s))
			put_word(s);
	}
}

/* What was held back is text after all. */
static void release(struct screen *s)
{
	for (size_t i = 0; i < s->tag_n; i++)
		put_char(s, s->tag + i, 1, s->tag[i]);
	s->tag_n = 0;
}

/* Can the character be a part of a tag, after what is held back? Then it is held back or ends the tag: 1. */
static int take_tag(struct screen *s, int32_t cp)
{
	if (!s->reasons || cp <= 0 || cp >= 0x80)
		return 0;
	for (size_t i = 0; i < TAGS; i++) {
		const size_t n = strlen(tags[i].tag);
		if (s->tag_n >= n || memcmp(tags[i].tag, s->tag, s->tag_n) != 0 || tags[i].tag[s->tag_n] != (char)cp)
			continue;
		s->tag[s->tag_n++] = (char)cp;
		if (s->tag_n == n) {
			s->tag_n = 0;
			put_label(s, tags[i].label);
		}
		return 1;
	}
	return 0;
}

void screen_put_text(struct screen *s, const char *text, size_t n)
{
	for (size_t i = 0; i < n;) {
		int32_t cp;
		const size_t len = utf8_next(text + i, n - i, &cp);
		if (!take_tag(s, cp)) {
			release(s);
			if (!take_tag(s, cp))
				put_char(s, text + i, len, cp);
		}
		i += len;
	}
	s->shown += n;
}

void screen_end_text(struct screen *s)
{
	release(s);
	end_line(s);
}
