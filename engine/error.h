/* One sentence of error, carried upwards in an object the caller owns.
 *
 * Every function that can fail returns 0 or -1 and, on -1, has filled its struct fr_error with what failed, where,
 * what was expected and what was found. Nobody prints or exits outside cli/. */
#ifndef FR_ENGINE_ERROR_H
#define FR_ENGINE_ERROR_H

#include "fr.h"

/* Fill *err (which may be NULL) and return -1, so that `return fr_fail(...)` reads as what it is. The sentence has no
 * trailing newline and no trailing full stop; bytes below 0x20 in it are shown as \xNN. */
int fr_fail(struct fr_error *err, enum fr_code code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Return upwards when CALL failed. */
#define FR_TRY(call)                                                                                                   \
	do {                                                                                                           \
		if ((call) != 0)                                                                                       \
			return -1;                                                                                     \
	} while (0)

#endif
