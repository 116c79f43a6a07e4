/* The error object's sentence and the names of its codes. */
#include "error.h"

#include <stdarg.h>
#include <string.h>

static const char *const code_names[] = {
	[FR_OK] = "ok",		  [FR_E_USAGE] = "usage",   [FR_E_MODEL] = "model",
	[FR_E_DEVICE] = "device", [FR_E_MEMORY] = "memory", [FR_E_NUMBERS] = "numbers",
	[FR_E_IO] = "io",	  [FR_E_FORMAT] = "format", [FR_E_DAMAGED] = "damaged",
	[FR_E_LIMIT] = "limit",
};

const char *fr_code_name(enum fr_code code)
{
	return code_names[code];
}

/* File names and headers are foreign bytes: a sentence must stay one line whatever they hold. */
static void escape_controls(char *text, size_t size)
{
	char raw[sizeof(((struct fr_error *)0)->text)];
	size_t n = 0;

	snprintf(raw, sizeof raw, "%s", text);
	for (const unsigned char *p = (const unsigned char *)raw; *p && n + 5 < size; p++) {
		if (*p < 0x20 || *p == 0x7f)
			n += (size_t)snprintf(text + n, size - n, "\\x%02X", *p);
		else
			text[n++] = (char)*p;
	}
	text[n] = 0;
}

int fr_fail(struct fr_error *err, enum fr_code code, const char *format, ...)
{
	va_list ap;

	if (!err)
		return -1;
	err->code = code;
	va_start(ap, format);
	vsnprintf(err->text, sizeof err->text, format, ap);
	va_end(ap);
	escape_controls(err->text, sizeof err->text);
	return -1;
}
