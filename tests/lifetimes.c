/* Buffers of the memory plan live as long as their lifetimes say: where one stage of a call follows another, all that
 * need not outlast it is filled with NaN, and results and heat keep their bits. Without this a buffer that is read too
 * late is seen only where another happens to lie over it. */
#include "cases.h"
#include "repeat.h"

#define KEEP(live) (1u << (live))
#define MAX_PATCHES 1024

struct looked {
	struct feed feed; /* first: next() and result() take it */
	float heat[IMAGES][MAX_PATCHES];
};
static struct fr_session *session;
static const struct fr_ops *plain;
static struct fr_ops poisoning;
static int stages; /* that were entered */

/* Buffers of these lifetimes, a bit each, pass into the next stage. */
static void enter(unsigned keep)
{
	const struct fr_plan *p = &session->plan;
	uint8_t *block = p->block, *before = malloc(p->total);

	if (!before) {
		test_fail("exact/lifetimes/memory", "none for %zu bytes", p->total);
		return;
	}
	memcpy(before, block, p->total);
	memset(block, 0xff, p->total);
	for (int i = 0; i < p->n; i++)
		if (keep >> p->at[i].live & 1)
			memcpy(block + p->at[i].offset, before + p->at[i].offset, p->at[i].bytes);
	free(before);
	stages++;
}

/* An encoder begins with its patches, the fusion with its bias, its network with the one ReLU, a decoder call with the
 * embedding. */
static void patch(struct fr_dev *dev, const struct fr_patch *a)
{
	enter(KEEP(FR_LIVE_SESSION) | KEEP(FR_LIVE_BRANCHES));
	plain->patch(dev, a);
}

static void map_bias(struct fr_dev *dev, const struct fr_map_bias *a)
{
	enter(KEEP(FR_LIVE_SESSION) | KEEP(FR_LIVE_BRANCHES));
	plain->map_bias(dev, a);
}

static void linear(struct fr_dev *dev, const struct fr_linear *a)
{
	if (a->act == FR_ACT_RELU)
		enter(KEEP(FR_LIVE_SESSION));
	plain->linear(dev, a);
}

static void embed(struct fr_dev *dev, const struct fr_embed *a)
{
	enter(KEEP(FR_LIVE_SESSION));
	plain->embed(dev, a);
}

static void keep_heat(void *user, const struct fr_result *r)
{
	struct looked *l = user;

	result(&l->feed, r);
	if (r->heat && r->heat_side * r->heat_side <= MAX_PATCHES)
		memcpy(l->heat[r->index], r->heat, (size_t)(r->heat_side * r->heat_side) * sizeof(float));
}

/* The second prompt's results are kept: they need the image rows after the first's texts have begun. */
static int look(const struct fr_model *m, int poison, struct looked *l, struct fr_error *err)
{
	static const char *const prompts[] = {"Is this real?", "What is this, and <image> is it real?"};
	const struct fr_session_opts o = {.backend = "cpu",
					  .threads = 2,
					  .batch = 3,
					  .max_tokens = 6,
					  .heat = 1,
					  .prompts = prompts,
					  .n_prompts = 2};
	int rc;

	l->feed.given = l->feed.next_result = 0;
	FR_TRY(fr_session_open(m, &o, &(struct fr_session_force){.together = 2}, &session, err));
	if (poison) {
		plain = session->dev->ops;
		poisoning = *plain;
		poisoning.patch = patch;
		poisoning.map_bias = map_bias;
		poisoning.linear = linear;
		poisoning.embed = embed;
		session->dev->ops = &poisoning;
	}
	rc = fr_judge(session, &(struct fr_io){.user = l, .next = next, .result = keep_heat}, err);
	if (poison)
		session->dev->ops = plain;
	fr_session_free(session);
	return rc;
}

static void run_model(const char *name, const struct feed *pictures)
{
	static struct looked want, got;
	const char *what = NULL;
	struct fr_error err = {0};
	struct fr_model *m;
	char label[96];

	snprintf(label, sizeof label, "exact/lifetimes/%s", name);
	memset(&want, 0, sizeof want);
	want.feed = *pictures;
	got = want;
	stages = 0;
	if (case_load(name, &m, &err)) {
		test_fail(label, "%s", err.text);
		return;
	}
	if (look(m, 0, &want, &err) || look(m, 1, &got, &err)) {
		test_fail(label, "%s", err.text);
	} else {
		for (int i = 0; i < IMAGES && !what; i++)
			what = differ(&got.feed.out[i], &want.feed.out[i], 1);
		if (!what && memcmp(got.heat, want.heat, sizeof want.heat) != 0)
			what = "the heat";
		CHECK(label, !what && stages > 2 * IMAGES && want.heat[0][0] > 0, "%s, %d stages", what ? what : "none",
		      stages);
	}
	fr_model_free(m);
}

int main(void)
{
	static struct feed f;

	if (open_pictures(&f))
		return test_done();
	run_model("old-f32", &f);
	run_model("fr-merged-f16", &f);
	run_model("fr-lora-bin", &f);
	return test_done();
}
