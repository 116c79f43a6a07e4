/* A roofline plot: both axes logarithmic, a diagonal for reading, a horizontal line for each way to multiply, a
 * numbered mark for each point, and at the right the numbers' names.
 *
 * The surprise is only where numbers go: points of one kind lie close together, so each number is tried around its mark
 * at growing distance until it covers no other text and no mark, and a thin line leads back to the mark. */
#include "plot.h"

#include "../tokenizer/parts.h"

#include <math.h>
#include <string.h>

enum { LEFT = 64, TOP = 64, WIDTH = 620, HEIGHT = 500, KEY = LEFT + WIDTH + 28, KEY_WIDTH = 446, LINE = 15 };
#define DIGIT 6.2 /* width of a character of 10 px, of any font that a viewer may take */
#define MAX_BOXES 1024

struct box {
	double x0, y0, x1, y1;
};

struct canvas {
	const struct fr_plot *p;
	FILE *out;
	double x0, x1, y0, y1;	   /* the axes' ends, as powers of ten */
	struct box box[MAX_BOXES]; /* what numbers must not cover */
	int n;
};

/* ---- what is plotted ---- */

void fr_plot_roof(struct fr_plot *p, const char *name, double rate)
{
	int i = 0;

	if (!p)
		return;
	while (i < p->n_roofs && strcmp(p->roof[i].name, name) != 0)
		i++;
	if (i == FR_PLOT_ROOFS || !(rate > 0))
		return;
	if (i == p->n_roofs) {
		p->n_roofs++;
		p->roof[i].name = name;
		p->roof[i].rate = 0;
	}
	p->roof[i].rate = rate > p->roof[i].rate ? rate : p->roof[i].rate;
}

void fr_plot_read(struct fr_plot *p, double rate)
{
	if (p && rate > p->read)
		p->read = rate;
}

void fr_plot_add(struct fr_plot *p, enum fr_plot_mark mark, const char *name, double operations, double bytes,
		 double seconds, double share)
{
	struct fr_plot_point *at;

	if (!p || p->n == FR_PLOT_POINTS || !(operations > 0 && bytes > 0 && seconds > 0))
		return;
	at = &p->at[p->n++];
	*at = (struct fr_plot_point){
		.mark = mark, .intensity = operations / bytes, .rate = operations / seconds, .share = share};
	snprintf(at->name, sizeof at->name, "%s", name);
}

/* ---- text ---- */

/* As XML text and attribute values may have it: marks escaped, and what XML forbids, or what is no UTF-8, as '?'. */
static void put_text(FILE *out, const char *s)
{
	static const char *const marks[][2] = {
		{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}, {"\"", "&quot;"}, {"'", "&#39;"}};

	for (size_t left = strlen(s); left > 0;) {
		const int n = fr_utf8_length(s, left);
		const uint32_t code = n > 0 ? fr_utf8_code(s, n) : 0;
		const char *as = NULL;

		for (size_t i = 0; i < sizeof marks / sizeof *marks; i++)
			if (*s == marks[i][0][0])
				as = marks[i][1];
		if (code < 0x20 || code == 0x7f || code == 0xfffe || code == 0xffff)
			as = "?";
		if (as)
			fputs(as, out);
		else
			fwrite(s, 1, (size_t)n, out);
		s += n > 0 ? n : 1;
		left -= (size_t)(n > 0 ? n : 1);
	}
}

static void put_label(const struct canvas *c, double x, double y, const char *class, const char *text)
{
	fprintf(c->out, "<text x=\"%.1f\" y=\"%.1f\" class=\"%s\">", x, y, class);
	put_text(c->out, text);
	fputs("</text>\n", c->out);
}

/* "1000", "10", "0.1" */
static const char *tick_text(double v, char buf[32])
{
	snprintf(buf, 32, "%.10g", v);
	return buf;
}

/* ---- places ---- */

static double x_of(const struct canvas *c, double intensity)
{
	return LEFT + WIDTH * (log10(intensity) - c->x0) / (c->x1 - c->x0);
}

static double y_of(const struct canvas *c, double rate)
{
	return TOP + HEIGHT * (1 - (log10(rate * 1e-9) - c->y0) / (c->y1 - c->y0));
}

static int apart(const struct box *a, const struct box *b)
{
	return a->x1 <= b->x0 || b->x1 <= a->x0 || a->y1 <= b->y0 || b->y1 <= a->y0;
}

static int is_free(const struct canvas *c, const struct box *b)
{
	const struct box all = {LEFT, TOP, LEFT + WIDTH, TOP + HEIGHT};

	if (b->x0 < all.x0 || b->x1 > all.x1 || b->y0 < all.y0 || b->y1 > all.y1)
		return 0;
	for (int i = 0; i < c->n; i++)
		if (!apart(&c->box[i], b))
			return 0;
	return 1;
}

static void keep(struct canvas *c, struct box b)
{
	if (c->n < MAX_BOXES)
		c->box[c->n++] = b;
}

/* The axes end at a third of a decade around all that is drawn; a roof has its label above it. */
static void set_axes(struct canvas *c)
{
	const struct fr_plot *p = c->p;
	double lo = 1, hi = 100, least = 1e9, most = 1e9;

	for (int i = 0; i < p->n_roofs; i++) {
		most = fmax(most, p->roof[i].rate);
		if (p->read > 0)
			hi = fmax(hi, p->roof[i].rate / p->read);
	}
	least = most;
	for (int i = 0; i < p->n; i++) {
		lo = fmin(lo, p->at[i].intensity);
		hi = fmax(hi, p->at[i].intensity);
		least = fmin(least, p->at[i].rate);
		most = fmax(most, p->at[i].rate);
	}
	if (p->read > 0)
		least = fmin(least, fmax(p->read * lo, least / 10));
	c->x0 = log10(lo) - 0.3;
	c->x1 = log10(hi) + 0.3;
	c->y0 = log10(least * 1e-9) - 0.3;
	c->y1 = log10(most * 1e-9) + 0.3;
}

/* ---- the document ---- */

static const char style[] =
	"text{font:10px ui-monospace,'DejaVu Sans Mono',Menlo,Consolas,monospace;fill:#1f2328}\n"
	".title{font-size:14px;font-weight:bold}.muted{fill:#59636e}.end{text-anchor:end}.mid{text-anchor:middle}\n"
	".bg{fill:#fff}.grid{stroke:#e4e7eb}.frame{stroke:#8b949e;fill:none}.roof{stroke:#59636e;stroke-width:1.5}\n"
	".lead{stroke:#8b949e;stroke-width:.6}\n"
	".m0{fill:#0969da}.m1{fill:#bc4c00}.m2{fill:#1a7f37}.m3{fill:#8250df}\n"
	"@media (prefers-color-scheme:dark){text{fill:#e6edf3}.muted{fill:#9198a1}.bg{fill:#0d1117}"
	".grid{stroke:#21262d}.frame{stroke:#6e7681}.roof{stroke:#9198a1}.lead{stroke:#6e7681}\n"
	".m0{fill:#58a6ff}.m1{fill:#f0883e}.m2{fill:#3fb950}.m3{fill:#bc8cff}}\n";

static void put_line(const struct canvas *c, double x0, double y0, double x1, double y1, const char *class)
{
	fprintf(c->out, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" class=\"%s\"/>\n", x0, y0, x1, y1,
		class);
}

/* A circle, a square, a diamond or a triangle of about one size. */
static void put_mark(const struct canvas *c, enum fr_plot_mark mark, double x, double y)
{
	static const char *const shape[] = {"M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0z", "M-3.6,-3.6h7.2v7.2h-7.2z",
					    "M0,-5L5,0L0,5L-5,0z", "M0,-4.6L4.6,3.6L-4.6,3.6z"};

	fprintf(c->out, "<path d=\"%s\" transform=\"translate(%.1f,%.1f)\" class=\"m%d\"/>\n", shape[mark], x, y,
		(int)mark);
}

/* Lines at 1, 2 and 5 of each decade, labels at as many as have room. */
static void put_grid(const struct canvas *c)
{
	static const int steps[] = {1, 2, 5};
	char text[32];

	for (int axis = 0; axis < 2; axis++) {
		const double lo = axis ? c->y0 : c->x0, hi = axis ? c->y1 : c->x1;
		const int all = hi - lo < 3.5;

		for (int d = (int)floor(lo); d <= (int)ceil(hi); d++)
			for (int i = 0; i < 3; i++) {
				const double v = steps[i] * pow(10, d), at = log10(v);
				const double x = x_of(c, v), y = y_of(c, v * 1e9);

				if (at < lo || at > hi)
					continue;
				if (axis)
					put_line(c, LEFT, y, LEFT + WIDTH, y, "grid");
				else
					put_line(c, x, TOP, x, TOP + HEIGHT, "grid");
				if (!all && i)
					continue;
				if (axis)
					put_label(c, LEFT - 6, y + 3.5, "muted end", tick_text(v, text));
				else
					put_label(c, x, TOP + HEIGHT + 15, "muted mid", tick_text(v, text));
			}
	}
	fprintf(c->out, "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" class=\"frame\"/>\n", LEFT, TOP, WIDTH,
		HEIGHT);
	put_label(c, LEFT + WIDTH / 2, TOP + HEIGHT + 32, "mid", "operations per byte that must move");
	put_label(c, LEFT - 50, TOP - 8, "", "1e9 operations/s");
}

/* From the reading line to the right edge, the name above its end; a roof close under another has its name further
 * left. */
static void put_roof(struct canvas *c, int i)
{
	const struct fr_plot *p = c->p;
	const double y = y_of(c, p->roof[i].rate), from = p->read > 0 ? x_of(c, p->roof[i].rate / p->read) : LEFT;
	char text[64];
	struct box b;

	snprintf(text, sizeof text, "%s %.4g", p->roof[i].name, p->roof[i].rate * 1e-9);
	put_line(c, from < LEFT ? LEFT : from, y, LEFT + WIDTH, y, "roof");
	b = (struct box){0, y - 12, LEFT + WIDTH - 4, y - 1};
	b.x0 = b.x1 - DIGIT * (double)strlen(text);
	while (!is_free(c, &b) && b.x0 > LEFT + WIDTH / 2) {
		b.x0 -= 10;
		b.x1 -= 10;
	}
	put_label(c, b.x1, y - 3, "muted end", text);
	keep(c, b);
	keep(c, (struct box){from, y - 1, LEFT + WIDTH, y + 1});
}

/* The boxes that text along a line covers, from t on: 1 if all are free. */
static int along(struct canvas *c, double x, double y, double angle, double t, double length, int put)
{
	for (double end = t + length; t < end; t += 4) {
		const double mx = x + t * cos(angle), my = y + t * sin(angle);
		const struct box b = {mx - 4 + 8 * sin(angle), my - 13, mx + 3, my + 1};

		if (put)
			keep(c, b);
		else if (!is_free(c, &b))
			return 0;
	}
	return 1;
}

/* The reading line from the left or lower edge to the highest roof, its name along it where no mark is. */
static void put_reading(struct canvas *c)
{
	const struct fr_plot *p = c->p;
	double most = 0, x0 = pow(10, c->x0), x1, ax, ay, bx, by, angle, length, at = 12, width;
	char text[64];

	for (int i = 0; i < p->n_roofs; i++)
		most = fmax(most, p->roof[i].rate);
	x0 = fmax(x0, pow(10, c->y0) * 1e9 / p->read);
	x1 = fmin(pow(10, c->x1), (most > 0 ? most : pow(10, c->y1) * 1e9) / p->read);
	ax = x_of(c, x0);
	ay = y_of(c, x0 * p->read);
	bx = x_of(c, x1);
	by = y_of(c, x1 * p->read);
	put_line(c, ax, ay, bx, by, "roof");
	length = hypot(bx - ax, by - ay);
	angle = atan2(by - ay, bx - ax);
	snprintf(text, sizeof text, "reading %.4g GB/s", p->read * 1e-9);
	width = DIGIT * (double)strlen(text);
	while (at + width < length && !along(c, ax, ay, angle, at, width, 0))
		at += 4;
	if (at + width >= length)
		at = 12;
	fprintf(c->out, "<text transform=\"translate(%.1f,%.1f) rotate(%.1f) translate(%.1f,-4)\" class=\"muted\">", ax,
		ay, angle * 180 / acos(-1), at);
	put_text(c->out, text);
	fputs("</text>\n", c->out);
	along(c, ax, ay, angle, at, width, 1);
	for (double t = 0; t < length; t += 3) {
		const double x = ax + t * cos(angle), y = ay + t * sin(angle);

		keep(c, (struct box){x - 2, y - 2, x + 2, y + 2});
	}
}

/* Where a number of that width goes beside (x, y): the nearest free place, else right on it. */
static struct box find_place(const struct canvas *c, double x, double y, double width)
{
	const double pi = acos(-1);
	struct box b;

	for (double r = 7; r < 200; r += 2)
		for (int turn = 0; turn < 24; turn++) {
			const double a = turn * pi / 12, mx = x + r * cos(a), my = y - r * sin(a);

			b.x0 = mx - width / 2 + width / 2 * cos(a);
			b.x1 = b.x0 + width;
			b.y0 = my - 4.5 - 4.5 * sin(a);
			b.y1 = b.y0 + 9;
			if (is_free(c, &b))
				return b;
		}
	return (struct box){x - width / 2, y - 4.5, x + width / 2, y + 4.5};
}

static void put_points(struct canvas *c)
{
	const struct fr_plot *p = c->p;
	char text[32];

	for (int i = 0; i < p->n; i++) {
		const double x = x_of(c, p->at[i].intensity), y = y_of(c, p->at[i].rate);
		struct box b;

		snprintf(text, sizeof text, "%d", i + 1);
		b = find_place(c, x, y, DIGIT * (double)strlen(text) + 3);
		if (hypot((b.x0 + b.x1) / 2 - x, (b.y0 + b.y1) / 2 - y) > 16)
			put_line(c, x, y, (b.x0 + b.x1) / 2, (b.y0 + b.y1) / 2, "lead");
		put_label(c, (b.x0 + b.x1) / 2, b.y1 - 1, "mid", text);
		keep(c, b);
	}
	for (int i = 0; i < p->n; i++)
		put_mark(c, p->at[i].mark, x_of(c, p->at[i].intensity), y_of(c, p->at[i].rate));
}

static void put_key(const struct canvas *c)
{
	const struct fr_plot *p = c->p;
	double y = TOP + 4;
	char text[32];

	put_label(c, KEY + KEY_WIDTH - 60, TOP - 12, "muted end", "GFLOP/s");
	put_label(c, KEY + KEY_WIDTH, TOP - 12, "muted end", "of limit");
	for (int i = 0; i < p->n; i++, y += LINE) {
		const struct fr_plot_point *at = &p->at[i];

		put_mark(c, at->mark, KEY + 4, y - 3.5);
		snprintf(text, sizeof text, "%d", i + 1);
		put_label(c, KEY + 26, y, "end", text);
		put_label(c, KEY + 34, y, "", at->name);
		snprintf(text, sizeof text, "%.1f", at->rate * 1e-9);
		put_label(c, KEY + KEY_WIDTH - 60, y, "end", text);
		if (at->share > 0) {
			snprintf(text, sizeof text, "%.1f%%", 100 * at->share);
			put_label(c, KEY + KEY_WIDTH, y, "end", text);
		}
	}
}

/* What the shapes mean, under the plot. */
static void put_legend(const struct canvas *c)
{
	double x = LEFT;

	for (int m = 0; m < FR_PLOT_MARKS; m++) {
		if (!c->p->mark_name[m])
			continue;
		put_mark(c, (enum fr_plot_mark)m, x + 4, TOP + HEIGHT + 49);
		put_label(c, x + 14, TOP + HEIGHT + 52, "", c->p->mark_name[m]);
		x += 34 + DIGIT * (double)strlen(c->p->mark_name[m]);
	}
}

void fr_plot_print(const struct fr_plot *p, FILE *out)
{
	struct canvas c = {.p = p, .out = out};
	const int width = KEY + KEY_WIDTH + 20, key = TOP + p->n * LINE + 20, plot = TOP + HEIGHT + 70,
		  height = key > plot ? key : plot;

	set_axes(&c);
	fprintf(out,
		"<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" "
		"role=\"img\">\n<title>",
		width, height, width, height);
	put_text(out, p->title);
	fprintf(out, "</title>\n<style>\n%s</style>\n<rect width=\"%d\" height=\"%d\" class=\"bg\"/>\n", style, width,
		height);
	put_label(&c, 14, 22, "title", p->title);
	put_label(&c, 14, 38, "muted", p->note);
	put_grid(&c);
	for (int i = 0; i < p->n; i++) {
		const double x = x_of(&c, p->at[i].intensity), y = y_of(&c, p->at[i].rate);

		keep(&c, (struct box){x - 4.5, y - 4.5, x + 4.5, y + 4.5});
	}
	for (int i = 0; i < p->n_roofs; i++)
		put_roof(&c, i);
	if (p->read > 0)
		put_reading(&c);
	put_points(&c);
	put_key(&c);
	put_legend(&c);
	fputs("</svg>\n", out);
}
