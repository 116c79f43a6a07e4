/* The simulated driver as late as a real one may be: what the compute stream is given runs at the next wait, no sooner, so
 * that a host buffer which is filled anew before its copy has run shows. */
#ifndef FR_SHIM_LATE_H
#define FR_SHIM_LATE_H

#include "shim.h"

extern struct fr_cu fr_cu_late;
extern unsigned fr_late_launches; /* kernels that have run, in replays too */
extern unsigned fr_late_replays;
extern unsigned fr_late_faults;   /* pinned memory given back while a copy of it was still to run */

#endif
