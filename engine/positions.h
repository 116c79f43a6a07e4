/* A table of positions for another grid of patches: what DINOv2 does when the picture is not of the training's size. */
#ifndef FR_ENGINE_POSITIONS_H
#define FR_ENGINE_POSITIONS_H

/* table [1 + side * side, dim] -> out [1 + to * to, dim], both float32, not overlapping. Row 0, the class token's, is
 * kept; the others are a side x side picture of dim channels, row by row, that is resized to to x to. offset is added
 * to `to` in the scale alone (DINOv2: 0.1). With to == side the table is used as it is. -1: a size below 1. */
int fr_positions_resize(const float *table, int side, int dim, int to, double offset, float *out);

#endif
