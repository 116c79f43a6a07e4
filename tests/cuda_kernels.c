/* The kernel check of the CUDA instance: every row against ref or its bounds, alone as among others.
 *
 * exact/    f32 products, embeddings, rotary positions, maps of attention and their bias, gates and the highest logit:
 *           the bits of the plain instance.
 * bounded/  products of 16-bit weights, norms, attention and sampled tokens: within the bounds of kernel_bounds.h of
 * the same operation in double on inputs rounded as the device rounds them, in the default precision and with precise.
 * .../alone the same row cut into calls of fewer rows (or images) gives the same bits.
 * usage: cuda_kernels [GLOB], over the names of the rows. FR_TEST_DEVICE and FR_TEST_ROWS: cuda_test.h. */
#include "test.h"
#include "cuda_rows.h"
#include "cuda_test.h"
#include "cuda_host/shim.h"
#include "kernel_bounds_map.h"

#include <fnmatch.h>

#define SEEN_ROWS 24 /* rows and outputs of a real shape that are held against the bounds */
#define SEEN_COLS 40

static int by_bits(const struct fr_check_case *c)
{
	switch (c->op) {
	case FR_CHECK_LINEAR:
	case FR_CHECK_GLU:
	case FR_CHECK_PATCH:
		return c->dtype == FR_F32;
	case FR_CHECK_NORM:
	case FR_CHECK_ATTN:
		return 0;
	case FR_CHECK_PICK:
		return !(c->with & FR_SAMPLED);
	default:
		return 1;
	}
}

/* Does `precise` change anything of this row? */
static int has_terms(const struct fr_check_case *c)
{
	if (c->op == FR_CHECK_ATTN)
		return c->with & FR_DENSE || (c->phase == FR_PREFILL && c->dtype == FR_F16);
	return (c->op == FR_CHECK_LINEAR || c->op == FR_CHECK_GLU) && c->phase == FR_PREFILL && c->dtype != FR_F32;
}

/* The array and word where two runs of one case differ; 0 when they do not. */
static int differ(const struct fr_check_run *a, const struct fr_check_run *b, char *where, size_t size)
{
	for (int s = 0; s < FR_SLOTS; s++) {
		size_t n = a->check->slot[s].bytes / 4, i = 0;
		const float *x = a->out[s], *y = b->out[s];

		if (!x || !y)
			continue;
		while (i < n && fr_f32_bits(x[i]) == fr_f32_bits(y[i]))
			i++;
		if (i == n)
			continue;
		snprintf(where, size, "array %d, word %zu of %zu: %a (%08x) and %a (%08x)", s, i, n, (double)x[i],
			 fr_f32_bits(x[i]), (double)y[i], fr_f32_bits(y[i]));
		return 1;
	}
	return 0;
}

/* Floats of one row (or, with several images, one image) of each array, 0 for arrays that all rows share. */
static void steps_of(const struct fr_check *ck, size_t step[FR_SLOTS])
{
	const struct fr_check_case *c = &ck->c;
	size_t units = (size_t)(c->images ? c->images : c->m);

	memset(step, 0, FR_SLOTS * sizeof *step);
	step[FR_SLOT_X] = ck->slot[FR_SLOT_X].bytes / 4 / units;
	for (int s = FR_SLOT_Y; s < FR_SLOTS; s++)
		step[s] = ck->slot[s].bytes / 4 / units;
	if (c->op == FR_CHECK_EMBED)
		step[FR_SLOT_X] = 0; /* the image rows */
	if (c->op == FR_CHECK_LINEAR || c->op == FR_CHECK_GATE)
		step[FR_SLOT_ADD] = ck->slot[FR_SLOT_ADD].bytes / 4 / units;
	if (c->op == FR_CHECK_ROPE || (c->images && c->op != FR_CHECK_MAP_BIAS)) {
		step[FR_SLOT_K] = ck->slot[FR_SLOT_K].bytes / 4 / units;
		step[FR_SLOT_V] = ck->slot[FR_SLOT_V].bytes / 4 / units;
	}
	if (c->images && c->op == FR_CHECK_ATTN)
		step[FR_SLOT_BIAS] = ck->slot[FR_SLOT_BIAS].bytes / 4 / units;
}

/* Rows (images) from .. from + n - 1 of a bound case, on their own. */
static void call_part(const struct fr_check_run *run, int from, int n)
{
	struct fr_check part = *run->check;
	struct fr_check_run call = *run;
	size_t step[FR_SLOTS];

	steps_of(run->check, step);
	for (int s = 0; s < FR_SLOTS; s++) {
		if (!step[s] || !call.at[s])
			continue;
		call.at[s] = (float *)call.at[s] + (size_t)from * step[s];
		part.slot[s].bytes = (size_t)n * step[s] * 4;
	}
	*(part.c.images ? &part.c.images : &part.c.m) = n;
	part.row = part.row ? part.row + from : NULL;
	part.ids = part.ids ? part.ids + from : NULL;
	part.draw = part.draw ? part.draw + from : NULL;
	call.picked = call.picked ? call.picked + from : NULL;
	call.check = &part;
	fr_check_call(&call);
}

/* Can rows of it be computed by themselves? Else only images can. */
static int by_rows(const struct fr_check_case *c)
{
	if (c->op == FR_CHECK_PATCH || c->op == FR_CHECK_ATTN_MAP || c->op == FR_CHECK_MAP_BIAS)
		return 0;
	return !(c->op == FR_CHECK_ATTN && c->with & BIAS);
}

/* The case again in three calls: the first row, a third of the others, the rest. */
static void check_alone(const char *label, const struct fr_check_run *whole)
{
	const struct fr_check_case *c = &whole->check->c;
	int units = c->images ? c->images : c->m, third = (units + 1) / 3;
	struct fr_check_run run = {0};
	struct fr_error err;
	char name[256], where[160];

	if (units < 2 || (!c->images && !by_rows(c)))
		return;
	snprintf(name, sizeof name, "exact/%s/alone", label);
	if (fr_check_bind(whole->check, whole->dev, &run, &err) != 0) {
		test_fail(name, "%s", err.text);
	} else {
		call_part(&run, 0, 1);
		if (third)
			call_part(&run, 1, third);
		if (units > 1 + third)
			call_part(&run, 1 + third, units - 1 - third);
		if (fr_check_collect(&run, &err) != 0)
			test_fail(name, "%s", err.text);
		else
			CHECK(name, !differ(whole, &run, where, sizeof where), "together and apart, %s", where);
	}
	fr_check_unbind(&run);
}

static void check_bits(const char *label, const struct fr_check_run *got, struct fr_dev *ref)
{
	struct fr_check_run want = {0};
	struct fr_error err;
	char name[256], where[160];

	snprintf(name, sizeof name, "exact/%s", label);
	if (fr_check_bind(got->check, ref, &want, &err) != 0) {
		test_fail(name, "%s", err.text);
	} else {
		fr_check_call(&want);
		if (fr_check_collect(&want, &err) != 0)
			test_fail(name, "%s", err.text);
		else
			CHECK(name, !differ(got, &want, where, sizeof where), "got and want, %s", where);
	}
	fr_check_unbind(&want);
}

static void check_bounded(const char *label, const struct fr_check_run *run, const struct party *party)
{
	struct tally t = check_bounds(run, party);
	char name[256];

	snprintf(name, sizeof name, "bounded/%s", label);
	CHECK(name, within_bounds(&t),
	      "%zu of %zu values not finite; rms %.3f of a walk; worst at %zu: got %.9g, want %.9g, bound %.3g",
	      t.nonfinite, t.n, tally_walk(&t), t.worst, t.got, t.want, t.bound);
	printf("# %s: max-abs %.3g, rms %.3f of a walk, worst %.3f of its bound\n", name, t.max_abs, tally_walk(&t),
	       t.ratio);
}

static void check_row(const struct fr_check_case *c, uint64_t seed, struct fr_dev *ref, struct fr_dev *dev,
		      const struct party *party)
{
	struct fr_check *ck;
	struct fr_check_run run = {0};
	struct fr_error err;
	char name[160], label[200];

	snprintf(label, sizeof label, "cuda%s/%s", party->precise ? "-precise" : "",
		 fr_check_name(c, name, sizeof name));
	if (fr_check_new(c, seed, &ck, &err) != 0) {
		test_fail(label, "%s", err.text);
		return;
	}
	if (fr_check_bind(ck, dev, &run, &err) != 0) {
		test_fail(label, "%s", err.text);
	} else {
		fr_check_call(&run);
		if (fr_check_collect(&run, &err) != 0) {
			test_fail(label, "%s", err.text);
		} else {
			if (by_bits(c))
				check_bits(label, &run, ref);
			else
				check_bounded(label, &run, party);
			check_alone(label, &run);
		}
	}
	fr_check_unbind(&run);
	fr_check_free(ck);
}

/* A kernel without a row does not exist: each was launched, but for those that another test is about. */
static void check_all_launched(void)
{
	static const char *const elsewhere[] = {
		"fr_gemm_[lmt]_*", /* cuda_gemm: tiles for many rows */
		"fr_lt_*",	   /* cuda_lt */
		"fr_peak_*",	   /* cuda_peak */
	};
	char names[1024] = "";

	for (int k = 0; k < FR_CU_KERNELS; k++) {
		const char *name = fr_cu_kernel_names[k];
		int other = 0;

		for (size_t i = 0; i < sizeof elsewhere / sizeof *elsewhere; i++)
			other |= fnmatch(elsewhere[i], name, 0) == 0;
		if (!other && !fr_shim_launches[k] && strlen(names) + strlen(name) + 2 < sizeof names)
			strcat(strcat(names, " "), name);
	}
	CHECK("exact/cuda/every-kernel", !names[0], "never launched:%s", names);
}

int main(int argc, char **argv)
{
	static struct fr_check_case rows[MAX_ROWS];
	struct fr_dev_opts opts = {.backend = "cpu", .isa = "ref"};
	struct fr_dev *ref, *dev;
	struct fr_error err;
	int real, n = cuda_rows(rows, all_rows(), &real);
	char name[160];

	choose_device();
	if (fr_dev_open(&opts, &ref, &err) != 0) {
		test_fail("exact/ref", "%s", err.text);
		return test_done();
	}
	for (int precise = 0; precise < 2; precise++) {
		opts = (struct fr_dev_opts){.backend = "cuda", .precise = precise, .no_cublas = !on_device()};
		if (fr_cuda_open(&opts, &dev, &err) != 0) {
			test_fail("bounded/cuda", "%s", err.text);
			break;
		}
		for (int i = 0; i < n; i++) {
			struct party party = {.rounds = 1, .precise = precise, .free_sums = 1};

			if ((precise && !has_terms(&rows[i])) ||
			    (argc > 1 && fnmatch(argv[1], fr_check_name(&rows[i], name, sizeof name), 0) != 0))
				continue;
			if (i >= real) {
				party.rows = SEEN_ROWS;
				party.cols = SEEN_COLS;
			}
			check_row(&rows[i], (uint64_t)i + 1, ref, dev, &party);
		}
		dev->ops->close(dev);
	}
	ref->ops->close(ref);
	if (argc == 1 && !on_device())
		check_all_launched();
	return test_done();
}
