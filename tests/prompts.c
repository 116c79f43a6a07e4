/* Several prompts for an image (tests/prompts.h): the same bits as a run for each, at every level, and the sentences
 * about prompts that cannot be asked. */
#include "prompts.h"

static const struct way llava[] = {
	{"ref", 1, 1, 0, 1, 0, 0, 0, 0},	{"avx2", 3, 1, 0, 2, 0, 0, 0, 0},
	{"avx512", 5, 2, 1, 2, 1, 0, 1, 0},	{"avx512bf16", 2, 1, 0, 1, 0, 0, 0, 0},
	{"avx512bf16", 7, 4, 2, 3, 0, 0, 1, 0}, {NULL, 16, 5, 2, 2, 0, 0, 0, 0},
	{NULL, 4, 1, 1, 1, 1, 0, 0, 0.8F},	{NULL, 1, 1, 0, 2, 0, 1, 0, 0},
	{NULL, 5, 3, 2, 2, 0, 1, 1, 0},
};
static const struct way reasons[] = {
	{"avx2", 1, 1, 0, 1, 0, 0, 0, 0},
	{NULL, 3, 2, 0, 2, 0, 0, 0, 0},
	{NULL, 7, 3, 3, 2, 0, 0, 1, 0},
	{"avx512bf16", 2, 2, 0, 1, 0, 1, 0, 0},
};
#define N(x) (int)(sizeof(x) / sizeof *(x))

static void refused(const struct fr_model *m, const char *label, const char *const *texts, int n, const char *sentence)
{
	struct fr_session_opts o = {.backend = "cpu", .prompts = texts, .n_prompts = n, .batch = 1};
	struct fr_session *s = NULL;
	struct fr_error err = {0};
	char name[96];
	const int rc = fr_session_new(m, &o, &s, &err);

	snprintf(name, sizeof name, "exact/prompts/%s", label);
	CHECK(name, rc && err.code == FR_E_USAGE && strstr(err.text, sentence), "'%s'", rc ? err.text : "taken");
	fr_session_free(s);
}

static void check_sentences(const struct fr_model *m)
{
	static char longest[4001];

	memset(longest, 'x', sizeof longest - 1);
	refused(m, "same", (const char *const[]){"a", "b", "a"}, 3, "prompt 3 ('a'): is the same as prompt 1");
	refused(m, "same-as-fed", (const char *const[]){"a", "<image>\na"}, 2, "is the same as prompt 1");
	refused(m, "two-images", (const char *const[]){"a", "<image><image>"}, 2, "prompt 2 ('<image><image>'): the ");
	refused(m, "one-of-one", (const char *const[]){"<image><image>"}, 1, "the prompt holds the image token");
	refused(m, "long", (const char *const[]){"a", longest}, 2, "xxx...'): the prompt takes ");
}

/* A function for one result is none for several. */
static void check_one(const struct fr_model *m, const struct feed *f)
{
	struct fr_session_opts o = {.backend = "cpu", .prompts = prompts, .n_prompts = 2, .max_tokens = 1};
	struct fr_session *s;
	struct fr_error err = {0};
	struct fr_result r;

	if (fr_session_new(m, &o, &s, &err)) {
		test_fail("exact/prompts/judge-one", "%s", err.text);
		return;
	}
	CHECK("exact/prompts/judge-one",
	      fr_judge_one(s, f->bytes[0], f->size[0], &r, NULL, &err) && strstr(err.text, "has 2 prompts"), "'%s'",
	      err.text);
	fr_session_free(s);
}

int main(void)
{
	static struct asked a;
	struct fr_model *m;
	struct fr_error err;

	if (open_pictures(&a.feed))
		return test_done();
	a.feed.pictures = 3;
	run_prompts("old-bf16-gqa-shards", "cpu", llava, N(llava), &a);
	run_prompts("fr-merged-f16", "cpu", reasons, N(reasons), &a);
	run_prompts("fr-lora-bin", "cpu", reasons, N(reasons), &a);
	if (fr_model_load(&(struct fr_model_opts){.path = "demo"}, &m, &err)) {
		test_fail("exact/prompts", "%s", err.text);
		return test_done();
	}
	check_sentences(m);
	check_one(m, &a.feed);
	fr_model_free(m);
	return test_done();
}
