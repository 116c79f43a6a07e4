/* What the files of the plain instance share: its state and the sums of the contract, spelt out (ops.h). */
#ifndef FR_KERNELS_REF_H
#define FR_KERNELS_REF_H

#include "host.h"
#include "math.h"
#include "ref_round.h"

#define FR_LANES 32

struct fr_ref {
	struct fr_host host;
	float *wide[2];		 /* [FR_MAX_COLS] each: a widened row of weights */
	struct fr_rounds rounds; /* for tests: inputs as another device rounds them */
};

/* ref_map.c */
void fr_ref_attn_map(struct fr_dev *dev, const struct fr_attn_map *a);
void fr_ref_map_bias(struct fr_dev *dev, const struct fr_map_bias *a);
void fr_ref_gate(struct fr_dev *dev, const struct fr_gate *a);

static inline float fr_seq_dot(const float *a, const float *b, int n)
{
	float acc = 0;

	for (int k = 0; k < n; k++)
		acc = fmaf(a[k], b[k], acc);
	return acc;
}

static inline float fr_add_lanes(float lane[FR_LANES])
{
	for (int h = FR_LANES / 2; h > 0; h /= 2)
		for (int i = 0; i < h; i++)
			lane[i] += lane[i + h];
	return lane[0];
}

static inline float fr_lane_dot(const float *a, const float *b, int n)
{
	float lane[FR_LANES] = {0};

	for (int k = 0; k < n; k++)
		lane[k % FR_LANES] = fmaf(a[k], b[k], lane[k % FR_LANES]);
	return fr_add_lanes(lane);
}

static inline float fr_lane_sum(const float *a, int n)
{
	float lane[FR_LANES] = {0};

	for (int k = 0; k < n; k++)
		lane[k % FR_LANES] += a[k];
	return fr_add_lanes(lane);
}

#endif
