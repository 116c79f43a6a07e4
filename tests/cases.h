/* The small checkpoints of tests/golden/e2e: which there are, and how each is loaded. */
#ifndef FR_TEST_CASES_H
#define FR_TEST_CASES_H

#include "../engine/fr.h"

#include <stdio.h>
#include <unistd.h>

#define ROOT "tests/golden/e2e/"

/* LLaVA: tests/oracle/checkpoints.py. */
static const char *const cases[] = {
	"old-f32",	     "old-bf16-gqa-shards", "new-f16-688", "v5-bf16-tied-linear", "omits-bf16-nonlegacy",
	"mixed-chat-shards",
};
/* FakeReasoning: tests/oracle/fakereasoning_cases.py. */
static const char *const fr_cases[] = {"fr-merged-f16", "fr-bin-bf16", "fr-lora-safetensors", "fr-lora-bin"};
#define FR_CASES (sizeof fr_cases / sizeof *fr_cases)

/* The model of a case with the parts that lie beside it, or "demo". */
static inline int case_load(const char *name, struct fr_model **model, struct fr_error *err)
{
	static const char *const parts[] = {"model", "clip", "dino.pth", "base"};
	char path[4][256];
	const char *at[4];

	for (int i = 0; i < 4; i++) {
		snprintf(path[i], sizeof path[i], ROOT "%s/%s", name, parts[i]);
		at[i] = access(path[i], F_OK) == 0 ? path[i] : NULL;
	}
	if (!at[0])
		return fr_model_load(&(struct fr_model_opts){.path = name}, model, err);
	return fr_model_load(
		&(struct fr_model_opts){.path = path[0], .vision_tower = at[1], .dino = at[2], .base = at[3]}, model,
		err);
}

#endif
