/* What 32 lanes do together, and the device's number formats. Each lane leaves its arguments; the last to come computes
 * for all. */
#include <math.h>
#include <string.h>

#include "host.h"

static struct fr_shim_warp *mine(void)
{
	return &fr_shim_warps[fr_shim_now.thread / 32];
}

void fr_shim_syncwarp(void)
{
	fr_shim_meet(mine(), "fr_syncwarp", 1);
}

uint32_t fr_shim_shfl(uint32_t v, int lane)
{
	struct fr_shim_warp *w = mine();
	uint32_t(*in)[4] = w->in[w->turn];
	in[fr_shim_now.thread % 32][0] = v;
	fr_shim_meet(w, "fr_shfl", 0);
	return in[lane & 31][0];
}

uint32_t fr_shim_shfl_xor(uint32_t v, int mask)
{
	struct fr_shim_warp *w = mine();
	uint32_t(*in)[4] = w->in[w->turn];
	unsigned lane = fr_shim_now.thread % 32;
	in[lane][0] = v;
	fr_shim_meet(w, "fr_shfl_xor", 0);
	return in[(lane ^ (unsigned)mask) & 31][0];
}

uint32_t fr_shim_ballot(int pred)
{
	struct fr_shim_warp *w = mine();
	uint32_t(*in)[4] = w->in[w->turn], r = 0;
	in[fr_shim_now.thread % 32][0] = pred != 0;
	fr_shim_meet(w, "fr_ballot", 0);
	for (int i = 0; i < 32; i++)
		r |= in[i][0] << i;
	return r;
}

/* Lane l brings row l % 8 of matrix l / 8. */
struct fr_shim_two fr_shim_ldmatrix(const void *row, int transposed)
{
	struct fr_shim_warp *w = mine();
	int turn = w->turn;
	unsigned lane = fr_shim_now.thread % 32;
	uint16_t(*rows)[8] = (uint16_t(*)[8])w->in[turn];
	if ((uintptr_t)row - (uintptr_t)fr_shim_smem >= sizeof fr_shim_smem)
		fr_shim_finding(1, "fr_ldmatrix of an address outside of shared memory");
	fr_shim_touch(row, 16, 0, 16);
	memcpy(rows[lane], row, 16);
	fr_shim_meet(w, transposed ? "fr_ldmatrix_t" : "fr_ldmatrix", 0);
	uint32_t r[4];
	unsigned g = lane / 4, t = lane % 4;
	for (unsigned i = 0; i < 4; i++) {
		if (transposed)
			r[i] = rows[i * 8 + 2 * t][g] | (uint32_t)rows[i * 8 + 2 * t + 1][g] << 16;
		else
			memcpy(&r[i], &rows[i * 8 + g][2 * t], 4);
	}
	return (struct fr_shim_two){r[0] | (uint64_t)r[1] << 32, r[2] | (uint64_t)r[3] << 32};
}

static inline float bf16(uint32_t h)
{
	uint32_t u = h << 16;
	float f;
	memcpy(&f, &u, 4);
	return f;
}

/* The exponent is moved by a product, which also makes subnormals normal; infinity and NaN get theirs back. */
static inline float f16(uint32_t h)
{
	uint32_t u = (h & 0x7fff) << 13, s = (h & 0x8000) << 16;
	float f;
	memcpy(&f, &u, 4);
	f *= 0x1p112f;
	memcpy(&u, &f, 4);
	if ((h & 0x7c00) == 0x7c00)
		u = 0x7f800000u | (h & 0x3ff) << 13;
	u |= s;
	memcpy(&f, &u, 4);
	return f;
}

static void widen(float *lo, float *hi, uint32_t v, int half)
{
	*lo = half ? f16(v & 0xffff) : bf16(v & 0xffff);
	*hi = half ? f16(v >> 16) : bf16(v >> 16);
}

/* Products are exact in float32; the sum begins with c and goes on in order of k. The tensor core sums otherwise
 * (wider, in groups, cut instead of rounded), so bits here are not its bits. */
static void product(struct fr_shim_mma_in *in, int half)
{
	float a[16][16], b[16][8], c[16][8];
	for (unsigned l = 0; l < 32; l++) {
		unsigned g = l / 4, t = 2 * (l % 4);
		for (unsigned i = 0; i < 4; i++) {
			float *to = &a[g + (i & 1) * 8][t + (i & 2) * 4];
			widen(to, to + 1, in[l].a[i], half);
		}
		for (unsigned i = 0; i < 2; i++)
			widen(&b[t + 8 * i][g], &b[t + 8 * i + 1][g], in[l].b[i], half);
		for (unsigned i = 0; i < 4; i++)
			c[g + (i & 2) * 4][t + (i & 1)] = in[l].c[i];
	}
	for (unsigned r = 0; r < 16; r++) {
		typedef float f4 __attribute__((vector_size(16)));
		f4 s0, s1, b0, b1;
		memcpy(&s0, c[r], 16), memcpy(&s1, c[r] + 4, 16);
		for (unsigned k = 0; k < 16; k++) {
			memcpy(&b0, b[k], 16), memcpy(&b1, b[k] + 4, 16);
			s0 += b0 * a[r][k];
			s1 += b1 * a[r][k];
		}
		memcpy(c[r], &s0, 16), memcpy(c[r] + 4, &s1, 16);
	}
	for (unsigned l = 0; l < 32; l++)
		for (unsigned i = 0; i < 4; i++)
			in[l].c[i] = c[l / 4 + (i & 2) * 4][2 * (l % 4) + (i & 1)];
}

struct fr_shim_four fr_shim_mma(int half, uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1,
				float c0, float c1, float c2, float c3)
{
	struct fr_shim_warp *w = mine();
	struct fr_shim_mma_in *in = w->mma[w->turn], *me = &in[fr_shim_now.thread % 32];
	*me = (struct fr_shim_mma_in){{a0, a1, a2, a3}, {b0, b1}, {c0, c1, c2, c3}};
	if (fr_shim_meet(w, half ? "fr_mma_f16" : "fr_mma_bf16", 0))
		product(in, half);
	return (struct fr_shim_four){me->c[0], me->c[1], me->c[2], me->c[3]};
}

/* ---- number formats ---- */

float fr_shim_f16_float(uint16_t h)
{
	return f16(h);
}

/* Adding a power of two whose last place is that of the result rounds there, to even; then the bits are moved. */
uint16_t fr_shim_f16(float v)
{
	uint32_t u;
	memcpy(&u, &v, 4);
	uint32_t sign = u >> 16 & 0x8000, a = u & 0x7fffffffu;
	if (a > 0x7f800000u)
		return 0x7fff;
	if (a >= 0x47800000u) /* 65536 */
		return (uint16_t)(sign | 0x7c00);
	if (a < 0x38800000u) { /* below 2^-14: subnormal, in units of 2^-24 */
		float m;
		memcpy(&m, &a, 4);
		m += 0.5f; /* last place 2^-24 */
		uint32_t b;
		memcpy(&b, &m, 4);
		return (uint16_t)(sign | (b - 0x3f000000u));
	}
	a += 0xfff + (a >> 13 & 1);
	return (uint16_t)(sign | (a - 0x38000000u) >> 13);
}

float fr_shim_exp2(float x)
{
	if (fabsf(x) < 0x1p-126f)
		x = 0;
	float y = (float)exp2((double)x);
	return y < 0x1p-126f ? 0 : y;
}
