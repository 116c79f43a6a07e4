/* splitmix64: one 64-bit state, full period, good enough for drawing tokens and easy to repeat elsewhere. */
#include "sample.h"

#include <stdio.h>
#include <stdlib.h>

static uint64_t next(struct fr_rng *r)
{
	uint64_t z = r->s += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

void fr_rng_init(struct fr_rng *r, uint64_t seed, const char *sha256)
{
	char head[17];

	snprintf(head, sizeof head, "%.16s", sha256);
	r->s = seed;
	r->s = next(r) ^ strtoull(head, NULL, 16);
}

double fr_rng_draw(struct fr_rng *r)
{
	return (double)(next(r) >> 11) * 0x1p-53;
}
