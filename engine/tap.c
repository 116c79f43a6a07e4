/* Handing intermediates to a sink: see tap.h. */
#include "tap.h"

#include <stdlib.h>

#define NAME_MAX_BYTES 96

static void spell(char *name, const char *role, const char *format, int layer)
{
	char tail[64];

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	snprintf(tail, sizeof tail, format, layer);
#pragma GCC diagnostic pop
	snprintf(name, NAME_MAX_BYTES, "%s.%s", role, tail);
}

int fr_tap_wants(struct fr_tap *tap, const char *role, const char *format, int layer)
{
	char name[NAME_MAX_BYTES];

	if (!tap)
		return 0;
	spell(name, role, format, layer);
	return tap->want(tap->user, name);
}

void fr_tap_put(struct fr_tap *tap, struct fr_dev *dev, const char *role, const char *format, int layer, const float *x,
		size_t n)
{
	char name[NAME_MAX_BYTES];

	if (!tap || tap->failed)
		return;
	spell(name, role, format, layer);
	if (!tap->want(tap->user, name))
		return;
	if (n > tap->host_n) {
		float *grown = realloc(tap->host, n * sizeof *grown);
		if (!grown) {
			tap->failed = 1;
			fr_fail(&tap->error, FR_E_MEMORY, "no memory for the host copy of %s", name);
			return;
		}
		tap->host = grown;
		tap->host_n = n;
	}
	dev->ops->get(dev, tap->host, x, n * sizeof *x);
	tap->failed = dev->ops->sync(dev, &tap->error) != 0;
	if (!tap->failed)
		tap->take(tap->user, name, tap->host, n);
}

void fr_tap_free(struct fr_tap *tap)
{
	free(tap->host);
	tap->host = NULL;
	tap->host_n = 0;
}
