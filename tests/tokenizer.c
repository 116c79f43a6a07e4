/* The tokenizer against transformers' goldens, id by id (tests/oracle/tokenizer.py says how they are written), against
 * Llama's own vocabulary where it lies in $FR_SHARED_DATA. */
#include "../tokenizer/tokenizer.h"
#include "test.h"

#include <cjson/cJSON.h>
#include <time.h>
#include <unistd.h>

#define GOLDEN "tests/golden/tokenizer/"

struct bytes {
	char *at;
	size_t n;
};

static struct bytes read_file(const char *path)
{
	FILE *f = fopen(path, "rb");
	struct bytes b = {0};
	long n;

	if (!f)
		return b;
	fseek(f, 0, SEEK_END);
	n = ftell(f);
	rewind(f);
	b.at = malloc((size_t)n + 1);
	b.n = fread(b.at, 1, (size_t)n, f);
	b.at[b.n] = 0;
	fclose(f);
	return b;
}

static void write_file(const char *folder, const char *name, const char *bytes, size_t n)
{
	char path[512];
	FILE *f;

	snprintf(path, sizeof path, "%s/%s", folder, name);
	f = fopen(path, "wb");
	if (!f || fwrite(bytes, 1, n, f) != n || fclose(f))
		test_fail("exact/tokenizer/files", "cannot write %s", path);
}

static double cpu_seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- goldens ---- */
static const char *const members[] = {"tokenizer.json", "tokenizer.model", "tokenizer_config.json", "added_tokens.json",
				      "special_tokens_map.json"};
static const char *const keys[] = {NULL, NULL, "config", "added", "specials"};

/* tokenizer.json with the variant's changes: top keys are replaced, and those of `model` inside of it. */
static char *changed_json(const char *base, const cJSON *changes)
{
	cJSON *root = cJSON_Parse(base);
	char *text;

	for (const cJSON *c = changes->child; c; c = c->next) {
		if (strcmp(c->string, "model")) {
			cJSON_ReplaceItemInObjectCaseSensitive(root, c->string, cJSON_Duplicate(c, 1));
			continue;
		}
		for (const cJSON *m = c->child; m; m = m->next)
			cJSON_ReplaceItemInObjectCaseSensitive(cJSON_GetObjectItem(root, "model"), m->string,
							       cJSON_Duplicate(m, 1));
	}
	text = cJSON_PrintUnformatted(root);
	cJSON_Delete(root);
	return text;
}

static struct fr_tokenizer *open_variant(const cJSON *variant, const char *folder)
{
	struct bytes model = read_file(GOLDEN "tokenizer.model"), json = read_file(GOLDEN "tokenizer.json");
	const cJSON *files = cJSON_GetObjectItem(variant, "files");
	struct fr_tokenizer *tok = NULL;
	struct fr_error err;
	char path[512];

	if (!strcmp(cJSON_GetObjectItem(variant, "kind")->valuestring, "model")) {
		write_file(folder, members[1], model.at, model.n);
	} else {
		char *text = changed_json(json.at, cJSON_GetObjectItem(variant, "json"));

		write_file(folder, members[0], text, strlen(text));
		free(text);
	}
	for (int i = 2; i < 5; i++) {
		const cJSON *file = cJSON_GetObjectItem(files, keys[i]);
		char *text = file ? cJSON_PrintUnformatted(file) : NULL;

		if (text)
			write_file(folder, members[i], text, strlen(text));
		free(text);
	}
	if (fr_tokenizer_load(folder, &tok, &err))
		test_fail("exact/tokenizer/open", "%s: %s", cJSON_GetObjectItem(variant, "name")->valuestring,
			  err.text);
	for (int i = 0; i < 5; i++) {
		snprintf(path, sizeof path, "%s/%s", folder, members[i]);
		unlink(path);
	}
	free(model.at);
	free(json.at);
	return tok;
}

/* \xNN -> the byte, in place; returns the length. */
static size_t unescape(char *s)
{
	char *out = s;
	unsigned byte;

	for (char *in = s; *in; in++) {
		if (in[0] == '\\' && in[1] == 'x' && sscanf(in + 2, "%2x", &byte) == 1) {
			*out++ = (char)byte;
			in += 3;
		} else {
			*out++ = *in;
		}
	}
	return (size_t)(out - s);
}

static size_t read_ids(char *s, int32_t *ids, size_t cap)
{
	size_t n = 0;
	char *end;

	for (; *s && n < cap; s = end) {
		long id = strtol(s, &end, 10);

		if (end == s)
			break;
		ids[n++] = (int32_t)id;
	}
	return n;
}

/* Whole characters only, and together what decode gives. Returns 0 if so. */
static int check_stream(const struct fr_tokenizer *tok, const int32_t *ids, size_t n, const char *text, size_t len)
{
	char *out = malloc((n + 1) * (fr_tokenizer_max_piece(tok) + 3 * FR_DETOK_RUN)), *at = out;
	struct fr_detok d;
	int bad;

	fr_detok_init(&d, tok, 0);
	for (size_t i = 0; i <= n; i++) {
		size_t got = i < n ? fr_detok_push(&d, ids[i], at) : fr_detok_end(&d, at);

		/* A character begins where the last push ended. */
		if (got && ((unsigned char)at[0] & 0xC0) == 0x80)
			len = SIZE_MAX;
		at += got;
	}
	bad = (size_t)(at - out) != len || memcmp(out, text, len);
	free(out);
	return bad;
}

struct counts {
	int texts, ids, decoded, streamed;
	char first[256]; /* the first text that fails */
};

static int differs(const int32_t *a, size_t na, const int32_t *b, size_t nb)
{
	return na != nb || (na && memcmp(a, b, na * sizeof *a));
}

/* line: "ids|=" or "ids|~text". text: what was encoded, NULL under D. */
static void check_line(const struct fr_tokenizer *tok, char *line, const struct bytes *text, struct counts *c)
{
	int32_t want[4096], *got = NULL;
	char *bar = strchr(line, '|'), *out = NULL;
	size_t n_want = read_ids(line, want, 4096), n_got = 0, len = 0, n;
	struct bytes decoded = text ? *text : (struct bytes){0};
	struct fr_error err;

	if (bar[1] == '~') {
		decoded.at = bar + 2;
		decoded.n = unescape(decoded.at);
	}
	c->texts++;
	if (text &&
	    (fr_tokenizer_encode(tok, text->at, text->n, 1, &got, &n_got, &err) || differs(got, n_got, want, n_want))) {
		if (!c->ids++)
			snprintf(c->first, sizeof c->first, "'%.*s' gives %zu ids, the first %d, expected %zu",
				 (int)text->n, text->at, n_got, n_got ? got[0] : -1, n_want);
	}
	n = n_want;
	if (fr_tokenizer_decode(tok, want, n, &out, &len, &err) || len != decoded.n || memcmp(out, decoded.at, len)) {
		if (!c->decoded++)
			snprintf(c->first, sizeof c->first, "'%.*s' decoded, expected '%.*s'", (int)len, out ? out : "",
				 (int)decoded.n, decoded.at);
	}
	c->streamed += check_stream(tok, want, n, decoded.at, decoded.n);
	free(got);
	free(out);
}

static void report(const char *name, const struct counts *c)
{
	static const char *const what[] = {"ids", "text", "stream"};
	const int bad[] = {c->ids, c->decoded, c->streamed};
	char title[128];

	for (int i = 0; i < 3; i++) {
		snprintf(title, sizeof title, "exact/tokenizer/%s: %s of %d cases", name, what[i], c->texts);
		CHECK(title, bad[i] == 0 && c->texts > 100, "%d differ: %s", bad[i], c->first);
	}
}

static void test_goldens(void)
{
	struct bytes cases = read_file(GOLDEN "cases.txt"), table = read_file(GOLDEN "variants.json"), text[512];
	cJSON *variants = table.at ? cJSON_Parse(table.at) : NULL;
	const cJSON *next = variants ? cJSON_GetObjectItem(variants, "variants")->child : NULL;
	char folder[] = "/tmp/fr-tokenizer-XXXXXX", *save = NULL, *line;
	const char *name = NULL;
	struct fr_tokenizer *tok = NULL;
	struct counts c = {0};
	int n = 0, at = 0;

	if (!cases.at || !next || !mkdtemp(folder)) {
		test_fail("exact/tokenizer/goldens", "no " GOLDEN "cases.txt, variants.json, or no folder in /tmp");
		return;
	}
	for (line = strtok_r(cases.at, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		if (line[0] == 'T' && n < 512) {
			text[n].at = line + 2;
			text[n++].n = unescape(line + 2);
		} else if (line[0] == 'V') {
			if (tok)
				report(name, &c);
			fr_tokenizer_free(tok);
			name = cJSON_GetObjectItem(next, "name")->valuestring;
			tok = open_variant(next, folder);
			next = next->next;
			c = (struct counts){0};
			at = 0;
		} else if (tok && line[0] == 'D') {
			check_line(tok, line + 2, NULL, &c);
		} else if (tok) {
			check_line(tok, line, &text[at++], &c);
		}
	}
	if (tok)
		report(name, &c);
	CHECK("exact/tokenizer/every variant has its cases", next == NULL, "'%s' has none",
	      cJSON_GetObjectItem(next, "name")->valuestring);
	fr_tokenizer_free(tok);
	rmdir(folder);
	cJSON_Delete(variants);
	free(cases.at);
	free(table.at);
}

/* ---- the demo model's ---- */
static void test_demo(void)
{
	const char *const labels[] = {"<s>", "</s>", "<image>", "\u2581real", "\u2581fake", "\u2581This"};
	struct fr_tokenizer *tok;
	struct fr_error err;
	int missing = 0;

	if (fr_tokenizer_load("demo", &tok, &err)) {
		test_fail("exact/tokenizer/demo: its tokenizer is read", "%s", err.text);
		return;
	}
	for (size_t i = 0; i < sizeof labels / sizeof *labels; i++)
		missing += fr_tokenizer_find(tok, labels[i]) < 0;
	CHECK("exact/tokenizer/demo: the labels are pieces", !missing, "%d of %zu are missing", missing,
	      sizeof labels / sizeof *labels);
	fr_tokenizer_free(tok);
}

/* ---- Llama's own vocabulary ---- */
static const char llama_config[] = "{\"legacy\":%s,\"added_tokens_decoder\":{\"32000\":{\"content\":\"<image>\","
				   "\"special\":true,\"normalized\":false},"
				   "\"32001\":{\"content\":\"<pad>\",\"special\":true,\"normalized\":false}}}";

static struct fr_tokenizer *open_llama(struct bytes model, const char *legacy)
{
	char config[512];
	struct fr_tokenizer *tok = NULL;
	struct fr_error err;

	snprintf(config, sizeof config, llama_config, legacy);
	if (fr_tokenizer_from_model((uint8_t *)model.at, model.n, (uint8_t *)config, strlen(config), NULL, 0, &tok,
				    &err))
		test_fail("exact/tokenizer/llama: read", "%s", err.text);
	return tok;
}

static void check_ids(const struct fr_tokenizer *tok, const char *name, const char *text, const int32_t *want, size_t n)
{
	int32_t *ids = NULL;
	size_t got = 0;
	struct fr_error err;

	CHECK(name, !fr_tokenizer_encode(tok, text, strlen(text), 1, &ids, &got, &err) && !differs(ids, got, want, n),
	      "%zu ids, expected %zu", got, n);
	free(ids);
}

/* CPU seconds for n bytes of one unit repeated, to ids and back; negative if that fails. */
static double time_text(const struct fr_tokenizer *tok, const char *unit, size_t n, size_t *n_ids)
{
	char *text = malloc(n), *out = NULL;
	size_t period = strlen(unit), len;
	int32_t *ids = NULL;
	double start;
	int rc;

	for (size_t i = 0; i < n; i++)
		text[i] = unit[i % period];
	start = cpu_seconds();
	rc = fr_tokenizer_encode(tok, text, n, 1, &ids, n_ids, NULL) ||
	     fr_tokenizer_decode(tok, ids, *n_ids, &out, &len, NULL);
	start = cpu_seconds() - start;
	free(text);
	free(ids);
	free(out);
	return rc ? -1 : start;
}

/* The texts a merge queue likes least: all one letter, all spaces, nothing that is a character. Sixteen times the text
 * takes some 20 times the time in n log n, 256 times in quadratic time; what leaves the caches may double the former,
 * and a clock tick of half a millisecond is allowed for. */
static void check_time(const struct fr_tokenizer *tok, const char *which, size_t n)
{
	const char *const units[] = {"a", " ", "\xFF", "\xE2\x96", "<s>", "ab", "The light falls from one side.\n"};
	char name[128];

	for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
		size_t n_ids = 0;
		double few = time_text(tok, units[u], n / 16, &n_ids), many = time_text(tok, units[u], n, &n_ids);

		snprintf(name, sizeof name, "bounded/tokenizer/%s: %zu KiB of case %zu in no quadratic time", which,
			 n >> 10, u);
		CHECK(name, few >= 0 && many >= 0 && many < 80 * (few + 0.0005), "%.4f s, a sixteenth of it %.4f s",
		      many, few);
		printf("# %.3f s for %zu ids\n", many, n_ids);
	}
}

static void test_llama(void)
{
	static const int32_t legacy[] = {1, 32000, 29871, 13, 25125},
			     chat[] = {1, 3148, 1001, 29901, 29871, 32000, 29871, 13}, first[] = {1, 32000, 13, 25125},
			     prefix[] = {1, 910, 1967, 338}, bare[] = {1, 29871, 1855},
			     bytes[] = {1, 29871, 13, 12, 243, 162, 169, 187};
	const char *shared = getenv("FR_SHARED_DATA");
	struct fr_tokenizer *tok;
	struct bytes model;
	char path[512];

	snprintf(path, sizeof path, "%s/llama-tokenizer.model", shared ? shared : "../shared/data");
	model = read_file(path);
	if (!model.at) {
		test_skip("exact/tokenizer/llama", "no llama-tokenizer.model in $FR_SHARED_DATA or ../shared/data");
		return;
	}
	tok = open_llama(model, "true");
	if (tok) {
		check_ids(tok, "exact/tokenizer/llama: <image>\\nDoes", "<image>\nDoes", legacy, 5);
		check_ids(tok, "exact/tokenizer/llama: USER: <image>\\n", "USER: <image>\n", chat, 8);
		check_ids(tok, "exact/tokenizer/llama: This image is", "This image is", prefix, 4);
		check_ids(tok, "exact/tokenizer/llama: a label with a space in front", " real", bare, 3);
		check_ids(tok, "exact/tokenizer/llama: byte pieces", "\n\t\U0001F9B8", bytes, 8);
		CHECK("exact/tokenizer/llama: the labels",
		      fr_tokenizer_find(tok, "\u2581real") == 1855 && fr_tokenizer_find(tok, "\u2581fake") == 25713,
		      "%d and %d, expected 1855 and 25713", fr_tokenizer_find(tok, "\u2581real"),
		      fr_tokenizer_find(tok, "\u2581fake"));
		check_time(tok, "llama", 1 << 20);
	}
	fr_tokenizer_free(tok);
	tok = open_llama(model, "false");
	if (tok)
		check_ids(tok, "exact/tokenizer/llama: <image>\\nDoes, non-legacy", "<image>\nDoes", first, 4);
	fr_tokenizer_free(tok);
	free(model.at);
}

/* A run of byte pieces longer than what is held back: whole characters come, and the rest of the text. */
static void test_long_run(void)
{
	struct bytes model = read_file(GOLDEN "tokenizer.model");
	const size_t n = 3 * FR_DETOK_RUN;
	int32_t *ids = malloc(n * sizeof *ids);
	struct fr_tokenizer *tok = NULL;
	char *text = NULL;
	size_t len = 0;

	for (size_t i = 0; i < n; i++)
		ids[i] = 4 + (unsigned char)"\xF0\x9F\x98\x80"[i % 4]; /* <0x00> is piece 4 here */
	CHECK("exact/tokenizer/stream: a run of byte pieces without end",
	      !fr_tokenizer_from_model((uint8_t *)model.at, model.n, NULL, 0, NULL, 0, &tok, NULL) &&
		      !fr_tokenizer_decode(tok, ids, n, &text, &len, NULL) && len == n &&
		      !check_stream(tok, ids, n, text, len),
	      "%zu bytes, expected %zu", len, n);
	fr_tokenizer_free(tok);
	free(text);
	free(ids);
	free(model.at);
}

/* The two forms of one vocabulary: the scores of tokenizer.model must give the very merges of tokenizer.json. */
static void test_forms(void)
{
	struct bytes model = read_file(GOLDEN "tokenizer.model"), json = read_file(GOLDEN "tokenizer.json");
	struct fr_tokenizer *a = NULL, *b = NULL;

	if (fr_tokenizer_from_model((uint8_t *)model.at, model.n, NULL, 0, NULL, 0, &a, NULL) ||
	    fr_tokenizer_from_json((uint8_t *)json.at, json.n, NULL, 0, &b, NULL)) {
		test_fail("exact/tokenizer/forms", "not read");
	} else {
		CHECK("exact/tokenizer/forms: pieces, flags and every merge are the same",
		      fr_tokenizer_fingerprint(a) == fr_tokenizer_fingerprint(b), "%016llx and %016llx",
		      (unsigned long long)fr_tokenizer_fingerprint(a), (unsigned long long)fr_tokenizer_fingerprint(b));
		check_time(a, "golden", 1 << 18);
	}
	fr_tokenizer_free(a);
	fr_tokenizer_free(b);
	free(model.at);
	free(json.at);
}

/* tests/tokenizer DIR: for tests/oracle/tokenizer.py --compare. Records (u32 length, text) from stdin; for each, to
 * stdout, (u32 n, n x i32 ids, u32 length, the text they decode to). 1 if something fails or a stream differs. */
static int answer_records(const char *path)
{
	struct fr_tokenizer *tok;
	struct fr_error err;
	uint32_t size;

	if (fr_tokenizer_load(path, &tok, &err))
		return fprintf(stderr, "%s\n", err.text), 1;
	while (fread(&size, sizeof size, 1, stdin) == 1) {
		char *text = malloc(size + 1), *out;
		size_t n, len;
		int32_t *ids;

		if (fread(text, 1, size, stdin) != size || fr_tokenizer_encode(tok, text, size, 1, &ids, &n, &err) ||
		    fr_tokenizer_decode(tok, ids, n, &out, &len, &err) || check_stream(tok, ids, n, out, len))
			return 1;
		fwrite(&(uint32_t){(uint32_t)n}, 4, 1, stdout);
		fwrite(ids, sizeof *ids, n, stdout);
		fwrite(&(uint32_t){(uint32_t)len}, 4, 1, stdout);
		fwrite(out, 1, len, stdout);
		free(text);
		free(out);
		free(ids);
	}
	fr_tokenizer_free(tok);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc > 1)
		return answer_records(argv[1]);
	test_goldens();
	test_long_run();
	test_forms();
	test_demo();
	test_llama();
	return test_done();
}
