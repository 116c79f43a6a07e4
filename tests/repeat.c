/* Numbers repeat: the same pictures give the same bits with 1, 2 and 3 threads, alone and two or five at a time,
 * prefilled one by one and together, read ahead or not, with and without the text, greedy and sampled.
 *
 * The five pictures of tests/golden/e2e/images are judged by a random checkpoint with grouped heads, by two of
 * FakeReasoning, one of them with adapters, and by the demo model, the first at the levels avx512, avx512bf16 and amx,
 * the others at the best, one at amx too, where fewer ways must do; each way of running is compared with the plainest one
 * (one thread, one image at a time, with text). Three threads on a machine with fewer CPUs is still three workers sharing
 * the work differently. */
#include "e2e.h"
#include "repeat.h"
#include "tile_host/tile_host.h"

static const struct {
	const char *name, *isa;
} models[] = {{"old-bf16-gqa-shards", "avx512"},
	      {"old-bf16-gqa-shards", "avx512bf16"},
	      {"fr-merged-f16", NULL},
	      {"fr-lora-bin", NULL},
	      {"demo", NULL},
	      {"old-bf16-gqa-shards", "amx"},
	      {"fr-lora-bin", "amx"}};

/* Ways of running a batch; each with every number of threads, with the text and without. */
static const struct {
	int batch, together, ahead, slow;
} ways[] = {{1, 1, 0, 0}, {5, 1, 0, 0}, {2, 2, 0, 0}, {5, 5, 0, 0},
	    {5, 2, 0, 1}, {2, 2, 2, 0}, {3, 2, 2, 1}, {5, 5, 5, 0}};
#define WAYS (int)(sizeof ways / sizeof *ways)
#define RUNS (3 * WAYS)

static void run_model(const char *name, const char *isa, struct feed *f)
{
	static const struct fr_sampler samplers[] = {{.top_p = 1}, {.temperature = 0.8F, .top_p = 0.9F, .seed = 11}};
	char label[128];
	struct fr_model *model;
	struct fr_error err;
	struct one want[IMAGES];
	const char *level = isa ? isa : "best";
	const int tiles = isa && strcmp(isa, "amx") == 0; /* each of their instructions may be a signal */

	if (isa && !cpu_has(isa)) {
		snprintf(label, sizeof label, "exact/%s/%s", name, level);
		test_skip(label, "this CPU lacks the level");
		return;
	}
	if (case_load(name, &model, &err)) {
		test_fail(name, "%s", err.text);
		return;
	}
	for (int sampled = 0; sampled < (tiles ? 1 : 2); sampled++) {
		struct fr_session_opts o = {
			.backend = "cpu", .isa = isa, .threads = 1, .batch = 1, .sampler = samplers[sampled]};
		snprintf(label, sizeof label, "exact/%s/%s/%s/pictures-differ", name, level,
			 sampled ? "sampled" : "greedy");
		if (judge(model, o, NULL, f, &err)) {
			test_fail(label, "%s", err.text);
			continue;
		}
		memcpy(want, f->out, sizeof want);
		CHECK(label, !all_alike(f), "all pictures have the same logits");
		for (int run = 1; run < RUNS; run += tiles ? 5 : 1) {
			struct fr_session_force force = {.together = ways[run % WAYS].together,
							 .ahead = ways[run % WAYS].ahead};
			o.threads = 1 + run % 3;
			o.batch = ways[run % WAYS].batch;
			o.verdict_only = run >= RUNS / 2;
			f->slow = ways[run % WAYS].slow;
			snprintf(label, sizeof label, "exact/%s/%s/%s/threads-%d/batch-%d/together-%d/ahead-%d%s/%s",
				 name, level, sampled ? "sampled" : "greedy", o.threads, o.batch, force.together,
				 force.ahead, f->slow ? "/slow-input" : "", o.verdict_only ? "verdict-only" : "text");
			compare(model, label, o, &force, f, want);
		}
	}
	fr_model_free(model);
}

int main(void)
{
	static struct feed f;

	if (open_pictures(&f))
		return test_done();
	for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
		if (models[i].isa && strcmp(models[i].isa, "amx") == 0)
			tile_host_install(); /* now, so that it is the best of none of those above */
		run_model(models[i].name, models[i].isa, &f);
	}
	return test_done();
}
