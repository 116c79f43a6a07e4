/* The zip container as torch writes it: members that are stored, not compressed, found where they lie in the file. */
#ifndef FR_WEIGHTS_ZIP_H
#define FR_WEIGHTS_ZIP_H

#include "../engine/error.h"

struct fr_zip_member { /* views into the file; name has no NUL at its end */
	const char *name;
	size_t name_len;
	const uint8_t *data;
	size_t size;
	const uint8_t *header; /* where the member begins: its local header */
};
struct fr_zip {
	struct fr_zip_member *at; /* [n], sorted by name; owned */
	size_t n;
};
/* Do the bytes begin as a zip file does? */
int fr_zip_is(const uint8_t *bytes, size_t size);
/* bytes [size] must outlive the members. zip64 is read. Refused: compressed or encrypted members, several disks,
 * members that overlap or reach out of the file, a local header that says other than the directory, a name twice, names
 * with control characters. Checksums are not looked at: torch can be told to leave them out, and a file of 26 GB would
 * be read through for them. */
int fr_zip_open(const uint8_t *bytes, size_t size, const char *file, struct fr_zip *out, struct fr_error *err);
/* The member of that name [len], NULL: absent; O(log n). */
const struct fr_zip_member *fr_zip_find(const struct fr_zip *zip, const char *name, size_t len);
void fr_zip_free(struct fr_zip *zip);

#endif
