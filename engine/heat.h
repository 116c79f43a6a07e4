/* The encoder's attention as heat over a picture: where each patch lies, and what colour its share has. */
#ifndef FR_ENGINE_HEAT_H
#define FR_ENGINE_HEAT_H

#include "image.h"
#include "lettering.h"

struct fr_heat {
	const float *share; /* [side, side] by rows: of the encoder's attention, finite and >= 0 */
	int side;
	struct fr_view view; /* of all patches, in pixels of a picture of w x h */
	int w, h;
	float most; /* the largest share */
	double sum;
};
/* From shares [side, side] and the patch's size in pixels of the encoder; fails when a share is negative or no number.
 */
int fr_heat_init(struct fr_heat *heat, const float *share, int side, int patch, const struct fr_image_desc *desc, int w,
		 int h, struct fr_error *err);
/* The heat at a picture drawn in w x h pixels -> field [h, w]: the share at a patch's centre, smooth and without
 * overshoot between centres, and -1 outside of the view. */
int fr_heat_field(const struct fr_heat *heat, int w, int h, float *field, struct fr_error *err);
/* The share of the picture's area that lies inside the view, and of the attention that lies outside of the picture. */
double fr_heat_seen(const struct fr_heat *heat);
double fr_heat_beside(const struct fr_heat *heat);
/* Colours rgb [n, 3] by field [n] on the scale from 0 to most: cold is dark blue, hot is pale yellow, lightness rises
 * all the way; what the encoder did not see becomes pale. The picture shows through as grey. */
void fr_heat_paint(uint8_t *rgb, const float *field, size_t n, float most);

#endif
