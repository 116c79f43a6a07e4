/* The parts of an answer that speak of each attribute.
 *
 * The attributes are those of the authors' annotations, which name them in two ways ("Inconsistent Lighting and
 * Shadows", "Consistent Lighting and Shadows"). How a trained model writes them down is not known here (docs/MODEL.md),
 * so two forms are read: sections under a heading made of the names' words ("Image Edges: ..."), and, where the
 * reasoning has no such heading, sentences: a part begins with the first sentence that names the attribute and goes on
 * to the next one that names another, or to the end of the paragraph. */
#include "answer.h"

#include <ctype.h>
#include <string.h>

#define MAX_MARKS 16   /* bytes of list marks and emphasis in front of a heading */
#define MAX_HEADING 64 /* bytes; longer phrases before a colon are sentences */
#define MAX_HEADING_WORDS 6

/* Beginnings of words, lower case. Not "light" and "edge": a blue may be light, and a lake has an edge, in the
 * description that comes first. */
static const struct {
	const char *name, *words[8];
} attributes[FR_ATTRIBUTES] = {
	{"lighting_and_shadows", {"lighting", "shadow", "illuminat", "shading"}},
	{"edges", {"edges", "contour", "outline", "boundar"}},
	{"texture", {"textur"}},
	{"image_quality", {"quality", "resolution", "clarity"}},
	{"semantic_rationality", {"semantic", "rational", "irrational", "logic", "illogic", "plausib", "implausib"}},
};

/* What else the authors' names for the attributes hold, and what usually joins such words. */
static const char *const fillers[] = {"and",	   "or",	 "of",		 "the",	      "in",	 "overall",
				      "image",	   "consistent", "inconsistent", "irregular", "smooth",	 "natural",
				      "anomalous", "low",	 "high",	 "level",     "analysis"};

const char *fr_attribute_name(int i)
{
	return i >= 0 && i < FR_ATTRIBUTES ? attributes[i].name : NULL;
}

/* A stretch of the text. */
struct span {
	size_t at, end;
};

static size_t find(const char *text, size_t from, size_t len, const char *what)
{
	const char *at = memmem(text + from, len - from, what, strlen(what));

	return at ? (size_t)(at - text) : len;
}

/* What lies between the first `open` and the `close` after it; 0 when there is none. */
static int between(const char *text, size_t len, const char *open, const char *close, struct span *out)
{
	size_t at = find(text, 0, len, open);

	if (at == len)
		return 0;
	out->at = at + strlen(open);
	out->end = find(text, out->at, len, close);
	return out->end < len;
}

enum fr_verdict fr_answer_verdict(const char *text, size_t len)
{
	struct span reasoning, said;

	if (!between(text, len, "<REASONING>", "</REASONING>", &reasoning) ||
	    !between(text, len, "<CONCLUSION>", "</CONCLUSION>", &said))
		return FR_UNPARSED;
	if (find(text, said.at, said.end, "This image is fake.") < said.end)
		return FR_FAKE;
	return find(text, said.at, said.end, "This image is real.") < said.end ? FR_REAL : FR_UNPARSED;
}

/* ---- attributes ---- */

static int is_letter(char c)
{
	return isalpha((unsigned char)c) != 0;
}

static int is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

/* The attribute that a word beginning at `at` names, or -1. */
static int named_by_word(const char *text, size_t at, size_t end)
{
	for (int a = 0; a < FR_ATTRIBUTES; a++)
		for (const char *const *w = attributes[a].words; *w; w++)
			if (strlen(*w) <= end - at && strncasecmp(text + at, *w, strlen(*w)) == 0)
				return a;
	return -1;
}

/* The attribute that is named first in s, or -1. */
static int named_in(const char *text, struct span s)
{
	for (size_t i = s.at; i < s.end; i++) {
		int a = -1;
		if (is_letter(text[i]) && (i == s.at || !is_letter(text[i - 1])))
			a = named_by_word(text, i, s.end);
		if (a >= 0)
			return a;
	}
	return -1;
}

/* Keeps the part for its attribute, the first one only. */
static void keep(const char *text, struct span s, int a, struct fr_attribute out[FR_ATTRIBUTES])
{
	if (a < 0 || out[a].len)
		return;
	while (s.at < s.end && isspace((unsigned char)text[s.at]))
		s.at++;
	while (s.at < s.end && isspace((unsigned char)text[s.end - 1]))
		s.end--;
	out[a].at = s.at;
	out[a].len = s.end - s.at;
}

/* List marks and emphasis in front of a heading: "- ", "2. ", "**". */
static size_t skip_marks(const char *text, size_t at, size_t end)
{
	size_t from;

	if (end - at > MAX_MARKS)
		end = at + MAX_MARKS;
	do {
		from = at;
		while (at < end && text[at] && strchr("#*_-> \t\r", text[at]))
			at++;
		while (at < end && isdigit((unsigned char)text[at]))
			at++;
		if (at > from && at < end && isdigit((unsigned char)text[at - 1]) &&
		    (text[at] == '.' || text[at] == ')'))
			at++;
	} while (at > from);
	return at;
}

static int is_filler(const char *word, size_t len)
{
	for (size_t i = 0; i < sizeof fillers / sizeof *fillers; i++)
		if (strlen(fillers[i]) == len && strncasecmp(fillers[i], word, len) == 0)
			return 1;
	return 0;
}

struct heading {
	int attribute; /* that it names; -1: none, or not in the words of a heading */
	size_t after;  /* where its section begins */
};

/* Is there a heading at `at`, the start of a line or of a sentence in it: a few words up to a colon, or an attribute's
 * name alone on its line? */
static int read_heading(const char *text, size_t at, size_t end, int line, struct heading *h)
{
	const size_t first = skip_marks(text, at, end);
	size_t i = first;
	int words = 0, other = 0;

	h->attribute = -1;
	while (i < end && i - first < MAX_HEADING && text[i] && (is_letter(text[i]) || strchr(" -/&,*_", text[i]))) {
		const size_t word = i;
		int a;
		while (i < end && is_letter(text[i]))
			i++;
		if (i == word) {
			i++;
			continue;
		}
		a = named_by_word(text, word, i);
		other += a < 0 && !is_filler(text + word, i - word);
		h->attribute = h->attribute < 0 ? a : h->attribute;
		words++;
	}
	if (!words || words > MAX_HEADING_WORDS || i == end || (text[i] != ':' && !(line && text[i] == '\n')))
		return 0;
	if (other)
		h->attribute = -1;
	if (text[i] == '\n' && h->attribute < 0)
		return 0;
	for (h->after = i + 1; h->after < end && (text[h->after] == '*' || text[h->after] == '_');)
		h->after++;
	return line || h->attribute >= 0;
}

/* The start of the sentence or line after the one that begins at `at`; *line: it begins a line. */
static size_t next_start(const char *text, size_t at, size_t end, int *line)
{
	*line = 0;
	for (; at < end; at++) {
		if (text[at] == '\n') {
			*line = 1;
			return at + 1;
		}
		if (is_blank(text[at]) && at > 0) {
			size_t k = at;
			while (k > 0 && strchr("\"')]*", text[k - 1]) && text[k - 1])
				k--;
			if (k > 0 && text[k - 1] && strchr(".!?", text[k - 1]))
				return at + 1;
		}
	}
	return end;
}

/* Sections under headings; 0 when no heading names an attribute. A line's heading that names none ends a section too.
 */
static int read_sections(const char *text, struct span all, struct fr_attribute out[FR_ATTRIBUTES])
{
	size_t at = all.at, from = all.at;
	int current = -1, found = 0, line = 1;

	while (at < all.end) {
		struct heading h;
		if (!read_heading(text, at, all.end, line, &h)) {
			at = next_start(text, at, all.end, &line);
			continue;
		}
		keep(text, (struct span){from, at}, current, out);
		current = h.attribute;
		found |= current >= 0;
		from = at = h.after;
		line = text[at - 1] == '\n';
	}
	keep(text, (struct span){from, all.end}, current, out);
	return found;
}

static void read_sentences(const char *text, struct span all, struct fr_attribute out[FR_ATTRIBUTES])
{
	size_t from = all.at, next;
	int current = -1, line;

	for (size_t at = all.at; at < all.end; at = next) {
		int a;
		next = next_start(text, at, all.end, &line);
		a = named_in(text, (struct span){at, next});
		if (a >= 0 && a != current) {
			keep(text, (struct span){from, at}, current, out);
			current = a;
			from = at;
		}
		if (line) {
			keep(text, (struct span){from, next}, current, out);
			current = -1;
		}
	}
	keep(text, (struct span){from, all.end}, current, out);
}

void fr_answer_attributes(const char *text, size_t len, struct fr_attribute out[FR_ATTRIBUTES])
{
	struct span all = {0, len};

	for (int a = 0; a < FR_ATTRIBUTES; a++)
		out[a] = (struct fr_attribute){.name = attributes[a].name};
	if (!between(text, len, "<REASONING>", "</REASONING>", &all)) { /* cut off, or without its tags */
		const size_t open = find(text, 0, len, "<REASONING>");
		all.at = open < len ? open + strlen("<REASONING>") : 0;
		all.end = find(text, all.at, len, "<CONCLUSION>");
	}
	if (!read_sections(text, all, out))
		read_sentences(text, all, out);
}
