/* Strokes to pixels: see lettering.h.
 *
 * A glyph is written on a grid of which a capital letter is 14 high: x and y of a point are one digit each (0-9, then
 * a-z), y from the top of the capitals (0) over that of the small letters (5) and the line they stand on (e) down to
 * the descenders (i). Strokes are parted by blanks. Plain ones join their points by straight lines; one that begins
 * with ~ is a quadratic B-spline from its first point to its last, and one with @ the same, closed. A pixel is covered
 * by how far its centre lies inside the pen's width around the nearest stroke. Only sums, products, quotients and
 * square roots: the same pixels on every machine. */
#include "lettering.h"

#include <math.h>
#include <stddef.h>

#define CAP 14.0 /* grid lines of a capital letter */
#define GAP 3.4	 /* between two glyphs */
#define SMOOTH 6 /* lines that a piece of a curve becomes */
#define SEGMENTS 160

static const struct glyph {
	double width;
	const char *strokes;
} glyphs[] = {
	[' '] = {2.6, ""},
	['!'] = {0.6, "0009 0e0e"},
	['"'] = {3, "0004 3034"},
	['#'] = {9, "302e 707e 0595 0999"},
	['$'] = {8, "~83810107878d0d0b 404f"},
	['%'] = {10, "@00404606 @68a8ae6e 900e"},
	['&'] = {9, "~9e24206064080e6e98"},
	['\''] = {0.6, "0004"},
	['('] = {3, "~30050c3h"},
	[')'] = {3, "~00353c0h"},
	['*'] = {6, "3137 0266 0662"},
	['+'] = {8, "0a8a 464e"},
	[','] = {1.6, "1e0h"},
	['-'] = {4.4, "0949"},
	['.'] = {0.6, "0e0e"},
	['/'] = {5, "500g"},
	['0'] = {7, "@00707e0e"},
	['1'] = {7, "13404e"},
	['2'] = {7, "~030070755b0e 0e7e"},
	['3'] = {7, "~0200707636 ~36767e0e0c"},
	['4'] = {7, "5e500a7a"},
	['5'] = {7, "601006 ~0625757e0e0c"},
	['6'] = {7, "@05757e0e ~60000a"},
	['7'] = {7, "00702e"},
	['8'] = {7, "@00707606 @06767e0e"},
	['9'] = {7, "@00707909 ~747e1e"},
	[':'] = {0.6, "0606 0e0e"},
	[';'] = {1.6, "1616 1e0h"},
	['<'] = {7, "75097d"},
	['='] = {7, "0777 0b7b"},
	['>'] = {7, "05790d"},
	['?'] = {6, "~0200606535393a 3e3e"},
	['@'] = {12, "@35959c3c ~959dcdc0000ibi"},
	['A'] = {8, "0e408e 2969"},
	['B'] = {8, "000e ~004070774707 ~0747878e4e0e"},
	['C'] = {9, "~9390000e9e9b"},
	['D'] = {9, "000e ~0030909e3e0e"},
	['E'] = {7, "70000e7e 0767"},
	['F'] = {7, "70000e 0767"},
	['G'] = {9, "~9390000e9e9a98 5898"},
	['H'] = {8, "000e 808e 0787"},
	['I'] = {0.6, "000e"},
	['J'] = {5, "~50595e0e0b"},
	['K'] = {8, "000e 8009 358e"},
	['L'] = {7, "000e7e"},
	['M'] = {10, "0e005aa0ae"},
	['N'] = {8, "0e008e80"},
	['O'] = {10, "@00a0ae0e"},
	['P'] = {8, "000e ~004080884808"},
	['Q'] = {10, "@00a0ae0e 6aag"},
	['R'] = {8, "000e ~004080884808 488e"},
	['S'] = {8, "~83800007878e0e0b"},
	['T'] = {8, "0080 404e"},
	['U'] = {8, "~00090e8e8980"},
	['V'] = {8, "004e80"},
	['W'] = {12, "003e629ec0"},
	['X'] = {8, "008e 800e"},
	['Y'] = {8, "004780 474e"},
	['Z'] = {8, "00800e8e"},
	['['] = {3, "30000h3h"},
	['\\'] = {5, "005g"},
	[']'] = {3, "00303h0h"},
	['^'] = {6, "043064"},
	['_'] = {8, "0g8g"},
	['`'] = {2, "0022"},
	['a'] = {6.6, "~080565697e ~6909090e4e6b"},
	['b'] = {7, "000e @05757e0e"},
	['c'] = {6.6, "~7775050e7e7c"},
	['d'] = {7, "707e @05757e0e"},
	['e'] = {7, "0a7a ~7a75050e7e7c"},
	['f'] = {4.6, "~5020242e 0555"},
	['g'] = {7, "@05757e0e ~757e7i0i0h"},
	['h'] = {7, "000e ~0a0575797e"},
	['i'] = {0.6, "050e 0101"},
	['j'] = {2.6, "~252e2i0i 2121"},
	['k'] = {6.6, "000e 650a 286e"},
	['l'] = {0.6, "000e"},
	['m'] = {11, "050e ~09055559 5e59 ~5955a5a9ae"},
	['n'] = {7, "050e ~0a0575797e"},
	['o'] = {7, "@05757e0e"},
	['p'] = {7, "050i @05757e0e"},
	['q'] = {7, "757i @05757e0e"},
	['r'] = {4.4, "050e ~0a0555"},
	['s'] = {6, "~67650509696e0e0c"},
	['t'] = {4.6, "~212a2e5e 0555"},
	['u'] = {7, "~05090e7e7a75 757e"},
	['v'] = {6, "053e65"},
	['w'] = {10, "052e578ea5"},
	['x'] = {6, "056e 650e"},
	['y'] = {6, "053e 652i"},
	['z'] = {6, "05650e6e"},
	['{'] = {4, "~4020282808 ~08282h2h4h"},
	['|'] = {0.6, "000h"},
	['}'] = {4, "~0020282848 ~48282h2h0h"},
	['~'] = {7, "~0a07477a77"},
};

struct point {
	double x, y;
};
/* The lines of one glyph. */
struct strokes {
	struct point from[SEGMENTS], to[SEGMENTS];
	int n;
};

static const struct glyph *glyph_of(char ch)
{
	const unsigned char at = (unsigned char)ch;

	return at < sizeof glyphs / sizeof *glyphs && glyphs[at].strokes ? &glyphs[at] : &glyphs['?'];
}

static int digit(char ch)
{
	return ch <= '9' ? ch - '0' : ch - 'a' + 10;
}

static struct point middle(struct point a, struct point b)
{
	return (struct point){(a.x + b.x) / 2, (a.y + b.y) / 2};
}

static void add_line(struct strokes *s, struct point from, struct point to)
{
	if (s->n == SEGMENTS)
		return;
	s->from[s->n] = from;
	s->to[s->n++] = to;
}

/* The parabola from a to c whose tangents meet in b. */
static void add_curve(struct strokes *s, struct point a, struct point b, struct point c)
{
	struct point last = a;

	for (int i = 1; i <= SMOOTH; i++) {
		const double t = (double)i / SMOOTH, u = 1 - t;
		const struct point p = {u * u * a.x + 2 * u * t * b.x + t * t * c.x,
					u * u * a.y + 2 * u * t * b.y + t * t * c.y};
		add_line(s, last, p);
		last = p;
	}
}

/* One stroke of n points; kind is '~', '@' or anything else for straight lines. */
static void add_stroke(struct strokes *s, char kind, const struct point *p, int n)
{
	if (kind == '@') {
		for (int i = 0; i < n; i++)
			add_curve(s, middle(p[(i + n - 1) % n], p[i]), p[i], middle(p[i], p[(i + 1) % n]));
	} else if (kind == '~') {
		for (int i = 1; i + 1 < n; i++)
			add_curve(s, i == 1 ? p[0] : middle(p[i - 1], p[i]), p[i],
				  i + 2 == n ? p[n - 1] : middle(p[i], p[i + 1]));
	} else {
		for (int i = 0; i + 1 < n; i++)
			add_line(s, p[i], p[i + 1]);
	}
}

/* The glyph's lines in pixels, `unit` to a grid line, its corner at (x, y). */
static void outline(struct strokes *s, const char *at, double unit, double x, double y)
{
	s->n = 0;
	while (*at) {
		const char kind = *at;
		struct point p[32];
		int n = 0;
		at += kind == '~' || kind == '@';
		for (; *at && *at != ' '; at += 2)
			p[n++] = (struct point){x + digit(at[0]) * unit, y + digit(at[1]) * unit};
		add_stroke(s, kind, p, n);
		at += *at == ' ';
	}
}

static double distance(const struct strokes *s, double x, double y)
{
	double best = 1e9;

	for (int i = 0; i < s->n; i++) {
		const double dx = s->to[i].x - s->from[i].x, dy = s->to[i].y - s->from[i].y;
		const double px = x - s->from[i].x, py = y - s->from[i].y, length = dx * dx + dy * dy;
		double t = length > 0 ? (px * dx + py * dy) / length : 0;
		t = t < 0 ? 0 : t > 1 ? 1 : t;
		const double ex = px - t * dx, ey = py - t * dy, d = ex * ex + ey * ey;
		best = d < best ? d : best;
	}
	return sqrt(best);
}

static int clamp(double v, int most)
{
	return v < 0 ? 0 : v > most ? most : (int)v;
}

static void draw_glyph(struct fr_canvas *c, const struct fr_lettering *how, const struct strokes *s, double x, double y,
		       double width)
{
	const int x0 = clamp(x - how->pen - 1, c->w), x1 = clamp(x + width + how->pen + 2, c->w);
	const int y0 = clamp(y - how->pen - 1, c->h), y1 = clamp(y + how->cap * 18 / CAP + how->pen + 2, c->h);

	for (int py = y0; py < y1; py++) {
		for (int px = x0; px < x1; px++) {
			const double cover = how->pen / 2 + 0.5 - distance(s, px + 0.5, py + 0.5);
			uint8_t *at = c->rgb + ((size_t)py * (size_t)c->w + (size_t)px) * 3;
			if (cover <= 0)
				continue;
			for (int k = 0; k < 3; k++)
				at[k] = (uint8_t)(at[k] + (how->colour[k] - at[k]) * (cover < 1 ? cover : 1) + 0.5);
		}
	}
}

double fr_lettering_width(const struct fr_lettering *how, const char *text, int n)
{
	double width = 0;

	for (int i = 0; i < n; i++)
		width += glyph_of(text[i])->width + (i ? GAP : 0);
	return width * how->cap / CAP;
}

void fr_lettering_draw(struct fr_canvas *c, const struct fr_lettering *how, double x, double y, const char *text, int n)
{
	const double unit = how->cap / CAP;

	for (int i = 0; i < n; i++) {
		const struct glyph *g = glyph_of(text[i]);
		struct strokes s;
		outline(&s, g->strokes, unit, x, y - how->cap);
		draw_glyph(c, how, &s, x, y - how->cap, g->width * unit);
		x += (g->width + GAP) * unit;
	}
}
