/* The embedded demo model: the files of weights/demo/model/, an ordinary Hugging Face checkpoint, linked into the
 * library. It shows the machinery and is no detector for pictures from the world (weights/demo/README.md). */
#ifndef FR_DEMO_H
#define FR_DEMO_H

#include <stddef.h>
#include <stdint.h>

/* name: the file's base name; the bytes [begin, end) are read-only, begin is 64-byte aligned. */
struct fr_blob {
	const char *name;
	const uint8_t *begin, *end;
};
extern const struct fr_blob fr_demo_blobs[];
extern const size_t fr_demo_blob_count;

#endif
