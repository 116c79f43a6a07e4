/* A finding: one sentence with the kernel, the block, the thread and what it did. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "host.h"

#define PRINTED 5

int fr_shim_findings;
static const char *kernel_name = "";
static char first[512];
static int printed;

void fr_shim_findings_begin(const char *kernel)
{
	kernel_name = kernel;
	fr_shim_findings = 0;
}

void fr_shim_finding(int stop, const char *format, ...)
{
	char what[400], line[512];
	va_list ap;
	va_start(ap, format);
	vsnprintf(what, sizeof what, format, ap);
	va_end(ap);
	snprintf(line, sizeof line, "kernel %s, block (%u,%u,%u), thread %u: %s", kernel_name, fr_shim_now.block[0],
		 fr_shim_now.block[1], fr_shim_now.block[2], fr_shim_now.thread, what);
	if (!fr_shim_findings++)
		memcpy(first, line, sizeof first);
	if (printed < PRINTED) {
		printed++;
		fprintf(stderr, "host shim: %s\n", line);
	}
	if ((stop || fr_shim_findings >= PRINTED) && fr_shim_running)
		fr_shim_stop();
}

static char refusal[256];

int fr_shim_refuse(const char *format, ...)
{
	va_list ap;
	va_start(ap, format);
	vsnprintf(refusal, sizeof refusal, format, ap);
	va_end(ap);
	fprintf(stderr, "host shim: %s\n", refusal);
	return FR_SHIM_INVALID_VALUE;
}

const char *fr_shim_refused(void)
{
	return refusal;
}

const char *fr_shim_finding_text(void)
{
	return first;
}
