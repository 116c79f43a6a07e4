/* Weights that are larger than memory, where they are used as they are mapped.
 *
 * Left alone, the page cache is of no use then: a pass goes through all layers in a circle, and what it comes to next is
 * always what was given up longest ago, so that everything is read again for every token. Here the first layers stay, and
 * each of the others is read while the one before it is computed and given up right after it. Results do not depend on it:
 * all of it is advice to the kernel. */
#ifndef FR_ENGINE_STREAM_H
#define FR_ENGINE_STREAM_H

#include "../weights/bind.h"

/* Bytes of the mapped weights: of one decoder layer, of everything that only images need, of all that each pass needs
 * besides layers. */
size_t fr_layer_bytes(const struct fr_weights *w, int layer);
size_t fr_vision_bytes(const struct fr_model_desc *d, const struct fr_weights *w);
size_t fr_common_bytes(const struct fr_weights *w);
/* How many of the decoder's layers can stay in `room` bytes of page cache: all of them when everything fits. */
int fr_layers_that_stay(const struct fr_model_desc *d, const struct fr_weights *w, size_t room);

struct fr_stream;
/* From here on the layers from `stay` on come and go. The weights must outlive it. */
int fr_stream_open(const struct fr_model_desc *d, const struct fr_weights *w, int stay, struct fr_stream **out,
		   struct fr_error *err);
void fr_stream_close(struct fr_stream *s); /* s may be NULL */
/* Between passes: from here on those from `stay` on. Memory is not what it was an hour ago. */
void fr_stream_settle(struct fr_stream *s, int stay);
/* Before decoder layer i is computed; after the last one with i = the number of layers. s NULL: all stay. */
void fr_stream_layer(struct fr_stream *s, int i);
/* Before (1) and after (0) images are seen. */
void fr_stream_vision(struct fr_stream *s, int begins);

#endif
