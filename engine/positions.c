/* Bicubic interpolation of a position table, as torch's interpolate(mode="bicubic", scale_factor=(to + offset) / side)
 * computes it on a CPU: A = -0.75, no antialiasing, pixel centres at half, coordinates clamped at the border.
 *
 *   src = (dst + 0.5) * scale - 0.5, scale = side / (to + offset);  four weights a side around floor(src)
 *   out[y, x] = sum_j wy[j] * (sum_k wx[k] * in[y0 + j, x0 + k])
 *
 * The surprises: the scale is that of the factor and not of the two sizes, so that with an offset the last output is
 * not where the last input is. And each fma stands where the compiler of torch 2.11's AVX2 and AVX-512 code contracted
 * one: this gives that code's bits (tests/positions.c). Without any it would be the bits of torch's plain code, which
 * are off by up to 6e-6 of a table of deviation 1: a coordinate of 36 is known to 4e-6. */
#include "positions.h"

#include <math.h>
#include <string.h>

#define A (-0.75F)
#define TAPS 4

struct taps {
	int at[TAPS];
	float weight[TAPS];
};

/* The kernel for distances below 1, and from 1 to 2. */
static float within(float x)
{
	return fmaf(A + 2, x, -(A + 3)) * x * x + 1;
}

static float beyond(float x)
{
	return fmaf(fmaf(A, x, -5 * A), x, 8 * A) * x - 4 * A;
}

static int clamp(int i, int n)
{
	return i < 0 ? 0 : i < n ? i : n - 1;
}

static struct taps taps_of(int dst, float scale, int side)
{
	const float src = fmaf(scale, (float)dst + 0.5F, -0.5F), floored = floorf(src);
	const int first = floored < (float)side ? (int)floored : side - 1;
	const float over = src - (float)first, t = over < 0 ? 0 : over < 1 ? over : 1;
	struct taps w = {.weight = {beyond(t + 1), within(t), within(1 - t), beyond(1 - t + 1)}};

	for (int i = 0; i < TAPS; i++)
		w.at[i] = clamp(first - 1 + i, side);
	return w;
}

/* a . weights; the order is the compiler's too. */
static float sum(const float a[TAPS], const float weight[TAPS])
{
	const float two = fmaf(a[0], weight[0], a[1] * weight[1]);

	return fmaf(a[3], weight[3], fmaf(a[2], weight[2], two));
}

int fr_positions_resize(const float *table, int side, int dim, int to, double offset, float *out)
{
	const size_t d = (size_t)dim, row = (size_t)side * d;
	const float scale = (float)(1 / ((to + offset) / side));
	const float *grid = table + d;

	if (side < 1 || dim < 1 || to < 1 || !(to + offset > 0))
		return -1;
	memcpy(out, table, (to == side ? 1 + (size_t)side * (size_t)side : 1) * d * sizeof *out);
	for (int i = 0; i < to && to != side; i++)
		for (int k = 0; k < to; k++) {
			const struct taps y = taps_of(i, scale, side), x = taps_of(k, scale, side);
			float *at = out + (1 + (size_t)i * (size_t)to + (size_t)k) * d;
			for (size_t c = 0; c < d; c++) {
				float lines[TAPS];
				for (int j = 0; j < TAPS; j++) {
					const float *in = grid + (size_t)y.at[j] * row + c;
					const float four[TAPS] = {in[(size_t)x.at[0] * d], in[(size_t)x.at[1] * d],
								  in[(size_t)x.at[2] * d], in[(size_t)x.at[3] * d]};
					lines[j] = sum(four, x.weight);
				}
				at[c] = sum(lines, y.weight);
			}
		}
	return 0;
}
