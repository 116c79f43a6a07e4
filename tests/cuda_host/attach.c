/* Linked into a program, this makes the host shim its CUDA device. */
#include "shim.h"

/* Weak: a program that opens no device has none to take the place of. */
#pragma weak fr_cu_override

__attribute__((constructor)) static void attach(void)
{
	if (&fr_cu_override)
		fr_cu_override = &fr_cu_shim;
}
