/* The micro-kernels with AVX2, FMA and F16C. */
#include "ukr.h"

void fr_ukr_avx2(struct fr_ukr *u)
{
	(void)u;
}
