/* Lines of text drawn into a picture, in a typeface of strokes that is part of the program. */
#ifndef FR_ENGINE_LETTERING_H
#define FR_ENGINE_LETTERING_H

#include <stdint.h>

struct fr_canvas {
	int w, h;
	uint8_t *rgb; /* [h, w, 3] */
};
/* How text is written: sizes in pixels. */
struct fr_lettering {
	double cap; /* height of a capital letter */
	double pen; /* width of a stroke */
	uint8_t colour[3];
};
/* Text is ASCII; any other byte is drawn as a question mark. n bytes of it. */
double fr_lettering_width(const struct fr_lettering *how, const char *text, int n);
/* From x on, standing on the line y; what lies outside of the canvas is left out. */
void fr_lettering_draw(struct fr_canvas *c, const struct fr_lettering *how, double x, double y, const char *text,
		       int n);

#endif
