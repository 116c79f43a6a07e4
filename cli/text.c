/* Bytes that grow, and text as a terminal may see it.
 *
 * File names and a model's text are foreign bytes: an escape sequence could retitle the terminal, a bidi mark could
 * turn "fake" around. What could do so is shown as \xNN, on every line that people read. */
#include "cli.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static void *grown(void *at, size_t n)
{
	void *p = realloc(at, n);

	if (!p)
		exit(complain(EXIT_CANNOT, "no memory for %zu bytes of text", n));
	return p;
}

void buf_add(struct buf *b, const void *bytes, size_t n)
{
	if (n == 0)
		return;
	if (b->cap - b->n < n) {
		b->cap = b->cap * 2 > b->n + n ? b->cap * 2 : b->n + n + 64;
		b->at = grown(b->at, b->cap);
	}
	memcpy(b->at + b->n, bytes, n);
	b->n += n;
}

void buf_puts(struct buf *b, const char *s)
{
	buf_add(b, s, strlen(s));
}

void buf_printf(struct buf *b, const char *format, ...)
{
	char small[256], *text = small;
	va_list ap;
	int n;

	va_start(ap, format);
	n = vsnprintf(small, sizeof small, format, ap);
	va_end(ap);
	if (n < 0)
		return;
	if ((size_t)n >= sizeof small) {
		text = grown(NULL, (size_t)n + 1);
		va_start(ap, format);
		vsnprintf(text, (size_t)n + 1, format, ap);
		va_end(ap);
	}
	buf_add(b, text, (size_t)n);
	if (text != small)
		free(text);
}

const char *buf_text(struct buf *b)
{
	buf_add(b, "", 1);
	b->n--;
	return b->at;
}

void buf_free(struct buf *b)
{
	free(b->at);
	*b = (struct buf){0};
}

char *copy_text(const char *s)
{
	const size_t n = strlen(s) + 1;

	return memcpy(grown(NULL, n), s, n);
}

/* Shortest form only, no surrogates, nothing above U+10FFFF. */
size_t utf8_next(const char *s, size_t n, int32_t *cp)
{
	static const int32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	const unsigned char *p = (const unsigned char *)s;
	size_t len = p[0] < 0x80		   ? 1
		     : p[0] >= 0xc2 && p[0] < 0xe0 ? 2
		     : (p[0] & 0xf0) == 0xe0	   ? 3
		     : p[0] >= 0xf0 && p[0] < 0xf5 ? 4
						   : 0;
	int32_t c;

	*cp = -1;
	if (len == 0 || len > n)
		return 1;
	c = len == 1 ? p[0] : p[0] & (0x7f >> len);
	for (size_t i = 1; i < len; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 1;
		c = c << 6 | (p[i] & 0x3f);
	}
	if (c < least[len] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
		return 1;
	*cp = c;
	return len;
}

int utf8_valid(const char *s, size_t n)
{
	int32_t cp;

	for (size_t i = 0; i < n;) {
		i += utf8_next(s + i, n - i, &cp);
		if (cp < 0)
			return 0;
	}
	return 1;
}

struct range {
	int32_t from, to;
};

static int in_ranges(int32_t cp, const struct range *r, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (cp >= r[i].from && cp <= r[i].to)
			return 1;
	return 0;
}

int char_columns(int32_t cp)
{
	/* East Asian wide and fullwidth blocks, emoji; combining marks (Unicode's larger blocks of each) */
	static const struct range wide[] = {{0x1100, 0x115f},	{0x2e80, 0x303e},   {0x3041, 0xa4cf},  {0xac00, 0xd7a3},
					    {0xf900, 0xfaff},	{0xfe30, 0xfe6f},   {0xff00, 0xff60},  {0xffe0, 0xffe6},
					    {0x1f300, 0x1f64f}, {0x1f900, 0x1f9ff}, {0x20000, 0x3fffd}};
	static const struct range none[] = {{0x300, 0x36f},   {0x483, 0x489},	{0x591, 0x5bd},	  {0x610, 0x61a},
					    {0x64b, 0x65f},   {0x1ab0, 0x1aff}, {0x1dc0, 0x1dff}, {0x20d0, 0x20ff},
					    {0xfe00, 0xfe0f}, {0xfe20, 0xfe2f}};

	if (in_ranges(cp, none, sizeof none / sizeof *none))
		return 0;
	return in_ranges(cp, wide, sizeof wide / sizeof *wide) ? 2 : 1;
}

int char_harmful(int32_t cp)
{
	/* C0, DEL and C1 controls; marks and overrides of direction; invisible, line-separating and tag characters;
	   variation selectors do no harm */
	static const struct range harmful[] = {{0, 0x1f},	 {0x7f, 0x9f},	   {0xad, 0xad},      {0x61c, 0x61c},
					       {0x180e, 0x180e}, {0x200b, 0x200f}, {0x2028, 0x202e},  {0x2060, 0x206f},
					       {0xfeff, 0xfeff}, {0xfff9, 0xfffb}, {0xe0000, 0xe007f}};

	return cp < 0 || in_ranges(cp, harmful, sizeof harmful / sizeof *harmful);
}

void buf_add_safe(struct buf *b, const char *s, size_t n)
{
	for (size_t i = 0; i < n;) {
		int32_t cp;
		size_t len = utf8_next(s + i, n - i, &cp);
		if (char_harmful(cp))
			for (size_t k = 0; k < len; k++)
				buf_printf(b, "\\x%02X", (unsigned char)s[i + k]);
		else
			buf_add(b, s + i, len);
		i += len;
	}
}

size_t text_columns(const char *s, size_t n)
{
	size_t columns = 0;

	for (size_t i = 0; i < n;) {
		int32_t cp;
		size_t len = utf8_next(s + i, n - i, &cp);
		columns += char_harmful(cp) ? 4 * len : (size_t)char_columns(cp);
		i += len;
	}
	return columns;
}

void buf_add_wrapped(struct buf *b, const char *text, size_t at, size_t indent, size_t columns)
{
	size_t column = at;

	while (*text) {
		const size_t blanks = strspn(text, " "), n = strcspn(text + blanks, " ");
		const size_t width = text_columns(text + blanks, n);
		if (columns && column > indent && column + blanks + width > columns) {
			buf_printf(b, "\n%*s", (int)indent, "");
			column = indent;
		} else {
			buf_add(b, text, blanks);
			column += blanks;
		}
		buf_add_safe(b, text + blanks, n);
		column += width;
		text += blanks + n;
	}
}
