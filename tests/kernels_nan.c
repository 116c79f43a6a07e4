/* A broken model is seen: on every level a NaN that goes into an operation comes out wherever the arithmetic carries
 * it, and nowhere else. Selects that compare (relu, maxima) and tables of special values (log) could swallow one. */
#include "test.h"
#include "tile_host/tile_host.h"
#include "../kernels/check.h"

#include <math.h>

/* The case's array `slot` with one value set to v; NaN outputs are those that `hit` names. */
struct probe {
	const char *name;
	struct fr_check_case c;
	enum fr_slot slot;
	size_t at;
	float v;
	int (*hit)(const struct fr_check_case *c, size_t i);
};

static int first_row(const struct fr_check_case *c, size_t i)
{
	return i < (size_t)c->n;
}
/* Row 1 of head 1 of a map [heads, m, kv_len]. */
static int map_row(const struct fr_check_case *c, size_t i)
{
	return i / (size_t)c->kv_len == (size_t)(c->m + 1);
}
/* Row 0, column 1 of every head of a bias. */
static int pixel(const struct fr_check_case *c, size_t i)
{
	return i % ((size_t)c->n * (size_t)c->n) == 1;
}
static int first_item(const struct fr_check_case *c, size_t i)
{
	(void)c;
	return i == 0;
}

static const struct probe probes[] = {
	{"relu", FR_CASE_MATRIX(LINEAR, PREFILL, F32, 3, 37, 20, FR_WITH_BIAS, RELU), FR_SLOT_X, 7, NAN, first_row},
	{"bf16", FR_CASE_MATRIX(LINEAR, PREFILL, BF16, 3, 37, 21, FR_WITH_BIAS, NONE), FR_SLOT_X, 7, NAN, first_row},
	{"q8_0", FR_CASE_MATRIX(LINEAR, PREFILL, Q8_0, 3, 37, 96, 0, NONE), FR_SLOT_X, 7, NAN, first_row},
	{"q8_0/infinite", FR_CASE_MATRIX(LINEAR, PREFILL, Q8_0, 19, 37, 96, 0, NONE), FR_SLOT_X, 95, INFINITY,
	 first_row},
	{"q8_0/decode", FR_CASE_MATRIX(LINEAR, DECODE, Q8_0, 2, 37, 96, 0, NONE), FR_SLOT_X, 33, -NAN, first_row},
	{"attn_map", FR_CASE_MAP(0, 3, 3, 70, 2, 8), FR_SLOT_X, (1 * 2 + 1) * 8 + 5, NAN, map_row},
	{"map_bias", FR_CASE_MAP_BIAS(0, 37, 3, 5), FR_SLOT_X, 38 + 2, NAN, pixel},
	{"map_bias/negative", FR_CASE_MAP_BIAS(0, 37, 3, 5), FR_SLOT_X, 38 + 2, -1, pixel},
	{"gate/gate", FR_CASE_GATE(1, 37, 0), FR_SLOT_X, 0, NAN, first_item},
	{"gate/up", FR_CASE_GATE(1, 37, 0), FR_SLOT_ADD, 0, NAN, first_item},
};

static void check_probe(struct fr_dev *dev, const struct probe *p, const char *name)
{
	struct fr_check *ck;
	struct fr_check_run run = {0};
	struct fr_error err;
	size_t n, i = 0;

	if (fr_check_new(&p->c, 1, &ck, &err) != 0) {
		test_fail(name, "%s", err.text);
		return;
	}
	((float *)ck->slot[p->slot].host)[p->at] = p->v;
	n = ck->slot[FR_SLOT_Y].bytes / sizeof(float);
	if (fr_check_bind(ck, dev, &run, &err) != 0) {
		test_fail(name, "%s", err.text);
	} else {
		fr_check_call(&run);
		if (fr_check_collect(&run, &err) != 0) {
			test_fail(name, "%s", err.text);
		} else {
			const float *y = run.out[FR_SLOT_Y];

			while (i < n && (isnan(y[i]) != 0) == p->hit(&p->c, i))
				i++;
			CHECK(name, i == n, "item %zu of %zu is %g", i, n, (double)y[i]);
		}
	}
	fr_check_unbind(&run);
	fr_check_free(ck);
}

int main(void)
{
	static const char *const levels[] = {"ref", "cpu-ref", "avx2", "avx512", "avx512bf16", "amx"};
	char name[96];

	tile_host_install();
	for (size_t l = 0; l < sizeof levels / sizeof *levels; l++) {
		struct fr_dev_opts opts = {.backend = "cpu", .isa = levels[l], .threads = 1};
		struct fr_dev *dev;
		struct fr_error err;

		if (fr_dev_open(&opts, &dev, &err) != 0) {
			snprintf(name, sizeof name, "exact/nan/%s", levels[l]);
			test_skip(name, err.text);
			continue;
		}
		for (size_t i = 0; i < sizeof probes / sizeof *probes; i++) {
			snprintf(name, sizeof name, "exact/nan/%s/%s", levels[l], probes[i].name);
			check_probe(dev, &probes[i], name);
		}
		dev->ops->close(dev);
	}
	return test_done();
}
