/* Speculative decoding: what is proposed, right, wrong or nearly right, changes no token, text, end or score, at any
 * level, batch and number of threads (tests/speculate.h); the table of proposals keeps its bounds; and files to learn
 * from are read or refused with a sentence. */
#include "speculate.h"
#include "e2e.h"

#include "files.h"

static const char *const models[] = {"old-bf16-gqa-shards", "fr-merged-f16", "fr-lora-bin", "demo"};
static const struct way ways[] = {
	{RIGHT, 15, 1, 1, "avx2"}, {RIGHT, 3, 1, 2, NULL}, {RIGHT, 0, 2, 1, NULL},  {RIGHT, 4, 5, 3, NULL},
	{NEAR, 7, 1, 2, NULL},	   {NEAR, 15, 3, 1, NULL}, {WRONG, 15, 1, 1, NULL}, {WRONG, 2, 5, 2, "avx2"},
	{OWN, 15, 1, 2, NULL},	   {OWN, 0, 1, 1, NULL},   {OWN, 1, 2, 3, NULL},    {RIGHT, 6, 2, 1, "ref"},
};
#define WAYS (int)(sizeof ways / sizeof *ways) /* the last, slow one for the first model alone */

/* ---- the table ---- */

static void check_table(void)
{
	struct fr_ngram *g = fr_ngram_new(), *same[2] = {fr_ngram_new(), fr_ngram_new()};
	int32_t text[30], out[64], again[64];
	struct fr_rng lot = {3};
	int n, seen = 1, equal = 1;

	if (!g || !same[0] || !same[1]) {
		test_fail("exact/ngram", "no memory");
		goto done;
	}
	for (int i = 0; i < 30; i++)
		text[i] = 1000 + i;
	CHECK("exact/ngram/an empty table proposes nothing", fr_ngram_propose(g, text, 0, 64, 0, out) == 0, "it does");
	fr_ngram_learn(g, text, 30, 1);
	n = fr_ngram_propose(g, text, 0, 64, 0, out);
	fr_ngram_learn(g, text, 30, 1);
	n = n ? n : fr_ngram_propose(g, text, 0, 64, 0, out);
	CHECK("exact/ngram/a text seen twice is proposed whole, and nothing after its end",
	      n == 30 && !memcmp(out, text, sizeof text), "%d tokens", n);
	CHECK("exact/ngram/no more than asked for",
	      fr_ngram_propose(g, text, 3, 5, 0, out) == 5 && !memcmp(out, text + 3, 5 * sizeof *out) &&
		      fr_ngram_propose(g, text, 3, 0, 0, out) == 0,
	      "another number");
	CHECK("exact/ngram/nothing above the chance it has", fr_ngram_propose(g, text, 3, 5, 1, out) == 0, "it does");
	for (int i = 0; i < 4; i++)
		fr_ngram_learn(g, text, 3, 1);
	CHECK("exact/ngram/where texts have ended since, nothing is proposed",
	      fr_ngram_propose(g, text, 3, 5, 0, out) == 0, "it is");
	text[10] = 7; /* a place where texts part */
	fr_ngram_learn(g, text, 30, 1);
	CHECK("exact/ngram/a cut text has no end", fr_ngram_propose(g, text, 30, 5, 0, out) == 0, "it has");
	for (int i = 0; i < 20000; i++) { /* 3.6 million contexts for 262144 places */
		for (int k = 0; k < 30; k++)
			text[k] = (int32_t)(fr_rng_draw(&lot) * 32000);
		fr_ngram_learn(g, text, 30, i % 2);
		for (int k = 0; k < 2; k++)
			fr_ngram_learn(same[k], text, 30, i % 2);
	}
	for (int k = 0; k < 30; k++) {
		n = fr_ngram_propose(g, text, (size_t)k, 64, 0, out);
		for (int i = 0; i < n; i++)
			seen &= out[i] >= 0 && out[i] < 32000;
		seen &= n <= 64;
		n = fr_ngram_propose(same[0], text, (size_t)k, 64, 0, out);
		equal &= n == fr_ngram_propose(same[1], text, (size_t)k, 64, 0, again) &&
			 !memcmp(out, again, (size_t)n * sizeof *out);
	}
	CHECK("exact/ngram/a full table still proposes tokens it has seen", seen, "others");
	CHECK("exact/ngram/the same texts, the same proposals", equal, "others");
done:
	fr_ngram_free(g);
	fr_ngram_free(same[0]);
	fr_ngram_free(same[1]);
}

/* ---- files to learn from ---- */

static void check_file(const struct fr_model *m, const char *label, const char *path, const char *sentence)
{
	const struct fr_session_opts o = {.backend = "cpu", .batch = 1, .max_tokens = 8, .draft_from = path};
	struct fr_session *s;
	struct fr_error err = {0};
	char name[128];
	const int rc = fr_session_new(m, &o, &s, &err);

	snprintf(name, sizeof name, "exact/draft-from/%s", label);
	if (sentence)
		CHECK(name, rc && strstr(err.text, sentence) && !strchr(err.text, '\n'), "'%s'", err.text);
	else
		CHECK(name, rc == 0, "'%s'", err.text);
	if (rc == 0)
		fr_session_free(s);
}

static void check_files(const struct fr_model *m)
{
	static char line[FR_MAX_DRAFT_LINE + 2];
	struct fr_rng lot = {5};
	char noise[4096];

#define PUT(name, text) files_put(name, text, sizeof(text) - 1)
	for (size_t i = 0; i < sizeof noise; i++)
		noise[i] = (char)(fr_rng_draw(&lot) * 256);
	noise[0] = 'x';
	for (size_t i = 1; i < sizeof noise; i++)
		noise[i] = (char)(noise[i - 1] == '\n' && noise[i] == '{' ? 'x' : noise[i]);
	check_file(m, "empty", files_put("empty", "", 0), NULL);
	check_file(m, "noise", files_put("noise", noise, sizeof noise), NULL);
	check_file(m, "text", PUT("text", "This image is fake.\r\n\nThis image is real."), NULL);
	check_file(m, "json",
		   PUT("json", "{\"text\":\"This image\",\"stop\":\"eos\"}\n{\"text\":null,\"stop\":null}\n"), NULL);
	check_file(m, "json-cut", PUT("cut", "{\"text\":\"a\"}\n{\"text\":\"This im"), "cut, line 2: begins with '{'");
	check_file(m, "json-without-text", PUT("other", "{\"texts\":1}\n"), "line 1: begins with '{'");
	check_file(m, "missing", files_path("no-such"), "no-such: cannot be opened");
	check_file(m, "folder", files_dir("folder"), "expected a file, got a directory");
	memset(line, 'a', sizeof line);
	check_file(m, "long-line", files_put("long", line, sizeof line), "expected at most 1048576");
	memset(line, '[', 5000);
	memcpy(line, "{\"text\":", 8);
	check_file(m, "deep", files_put("deep", line, 5000), "line 1: begins with '{'");
	if (truncate(files_put("large", "", 0), (off_t)FR_MAX_DRAFT_FILE + 1) == 0)
		check_file(m, "large", files_path("large"), "expected a file of texts of at most 268435456");
}

int main(void)
{
	static struct feed f;
	struct fr_model *m;
	struct fr_error err;

	check_table();
	if (fr_model_load(&(struct fr_model_opts){.path = "demo"}, &m, &err)) {
		test_fail("exact/draft-from", "%s", err.text);
	} else {
		check_files(m);
		fr_model_free(m);
	}
	if (open_pictures(&f))
		return test_done();
	for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
		f.pictures = strcmp(models[i], "demo") == 0 ? 2 : 4;
		run_model(models[i], "cpu", exact_level(), ways, WAYS - (i > 0), ~0u, &f);
		if (i == 0 || f.pictures == 2) /* bf16: where the best level may have other bits */
			run_model(models[i], "cpu", NULL, ways, WAYS, 1u << 0 | 1u << 3, &f);
	}
	return test_done();
}
