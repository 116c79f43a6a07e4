/* Tokenizer files that are wrong: each is refused with the sentence that says so, whatever is damaged, and cut off
 * anywhere. Buffers have the files' exact sizes, so that the sanitizers and valgrind see a read beyond the end. */
#include "../tokenizer/tokenizer.h"
#include "test.h"

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

#define UNK "\x0A\x0E\x0A\x05<unk>\x15\0\0\0\0\x18\x02"
#define BOS "\x0A\x0C\x0A\x03<s>\x15\0\0\0\0\x18\x03"
#define EOS "\x0A\x0D\x0A\x04</s>\x15\0\0\0\0\x18\x03"
#define HEAD UNK BOS EOS
#define A                                                                                                              \
	"\x0A\x08\x0A\x01"                                                                                             \
	"a"                                                                                                            \
	"\x15\0\0\0\0"
#define BPE "\x12\x02\x18\x02"
#define IDENTITY "\x1A\x02\x20\x00"
#define BYTES(s) s, sizeof(s) - 1

static const struct {
	const char *name, *bytes;
	size_t n;
	const char *want; /* part of the sentence; NULL: it is read */
} models[] = {
	{"sound", BYTES(HEAD A BPE IDENTITY), NULL},
	{"unknown fields",
	 BYTES(HEAD A BPE IDENTITY "\x2A\x01x\x30\x07\x39"
				   "12345678"),
	 NULL},
	{"empty", BYTES(""), "model type is unigram"},
	{"no piece", BYTES(BPE IDENTITY), "0 pieces"},
	{"no trainer", BYTES(HEAD A IDENTITY), "model type is unigram"},
	{"word model", BYTES(HEAD A IDENTITY "\x12\x02\x18\x03"), "model type is word"},
	{"model type 99", BYTES(HEAD A IDENTITY "\x12\x02\x18\x63"), "model type is unknown (99)"},
	{"extra whitespace", BYTES(HEAD A BPE), "remove_extra_whitespaces"},
	{"character map", BYTES(HEAD A BPE "\x1A\x05\x20\x00\x12\x01x"), "character map of 1 bytes"},
	{"suffix", BYTES(HEAD A "\x12\x05\x18\x02\xC0\x01\x01" IDENTITY), "treat_whitespace_as_suffix"},
	{"no escape", BYTES(HEAD A BPE "\x1A\x04\x20\x00\x28\x00"), "escape_whitespaces"},
	{"no dummy prefix", BYTES(HEAD A BPE "\x1A\x04\x20\x00\x18\x00"), "add_dummy_prefix"},
	{"duplicate", BYTES(HEAD A A BPE IDENTITY), "piece 4 ('a') is there twice"},
	{"empty piece", BYTES(HEAD "\x0A\x02\x0A\x00" BPE IDENTITY), "piece 3 is empty"},
	{"no text", BYTES(HEAD "\x0A\x02\x18\x01" BPE IDENTITY), "piece 3 is empty"},
	{"not UTF-8", BYTES(HEAD "\x0A\x03\x0A\x01\xFF" BPE IDENTITY), "piece 3 is not UTF-8"},
	{"NaN",
	 BYTES(HEAD "\x0A\x08\x0A\x01"
		    "a"
		    "\x15\0\0\xC0\x7F" BPE IDENTITY),
	 "score of piece 3"},
	{"infinity",
	 BYTES(HEAD "\x0A\x08\x0A\x01"
		    "a"
		    "\x15\0\0\x80\xFF" BPE IDENTITY),
	 "score of piece 3"},
	{"piece type",
	 BYTES(HEAD "\x0A\x05\x0A\x01"
		    "a"
		    "\x18\x07" BPE IDENTITY),
	 "type 7"},
	{"no unk", BYTES(BOS EOS A BPE IDENTITY), "unknown piece '<unk>'"},
	{"long piece", BYTES(HEAD A BPE IDENTITY "\x0A\x7F"), "longer than what holds it"},
	{"huge length", BYTES(HEAD A BPE IDENTITY "\x0A\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01"), "longer than what"},
	{"endless number", BYTES("\x18\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01"), "more than ten bytes"},
	{"number cut off", BYTES(HEAD "\x18\x80"), "a number is cut off"},
	{"fixed cut off", BYTES(HEAD "\x1D\x00"), "fixed-width value is cut off"},
	{"group", BYTES(HEAD "\x0B"), "wire type 3"},
	{"field 0", BYTES(HEAD "\x02\x00"), "field has number 0"},
	{"score as text", BYTES(HEAD "\x0A\x03\x12\x01x" BPE IDENTITY), "field 2 has wire type 2, expected 5"},
	{"piece as number", BYTES(HEAD "\x08\x01" BPE IDENTITY), "field 1 has wire type 0, expected 2"},
};

static void test_bad_models(void)
{
	char title[128];

	for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
		struct fr_tokenizer *tok = NULL;
		struct fr_error err = {0};
		uint8_t *copy = malloc(models[i].n + 1); /* exact size but for empty files: an overrun shows */
		int rc;

		memcpy(copy, models[i].bytes, models[i].n);
		rc = fr_tokenizer_from_model(copy, models[i].n, NULL, 0, NULL, 0, &tok, &err);
		snprintf(title, sizeof title, "exact/tokenizer/bad model: %s", models[i].name);
		if (models[i].want)
			CHECK(title, rc == -1 && !tok && err.code == FR_E_MODEL && strstr(err.text, models[i].want),
			      "'%s', expected '%s'", err.text, models[i].want);
		else
			CHECK(title, rc == 0, "'%s', expected to be read", err.text);
		fr_tokenizer_free(tok);
		free(copy);
	}
}

/* One change to the golden tokenizer.json, or a tokenizer_config.json next to it. */
static const struct {
	const char *find, *put, *config, *want;
} edits[] = {
	{"{", "[", NULL, "tokenizer.json: "},
	{"\"BPE\"", "\"Unigram\"", NULL, "the model type is 'Unigram'"},
	{"\"dropout\":null", "\"dropout\":0.1", NULL, "dropout"},
	{"\"continuing_subword_prefix\":null", "\"continuing_subword_prefix\":\"##\"", NULL, "continuing_subword"},
	{"\"end_of_word_suffix\":null", "\"end_of_word_suffix\":\"</w>\"", NULL, "end_of_word_suffix"},
	{"\"byte_fallback\":true", "\"byte_fallback\":\"yes\"", NULL, "byte_fallback"},
	{"\"unk_token\":\"<unk>\"", "\"unk_token\":\"<none>\"", NULL, "unknown token '<none>'"},
	{"\"vocab\":{", "\"vocab\":{\"x9\":1,", NULL, "id 1 is given to 'x9' and to '<s>'"},
	{"\"<s>\":1,", "", NULL, "is no whole number below 619"},
	{"\"<s>\":1,", "\"<s>\":1.5,", NULL, "the id of piece '<s>'"},
	{"\"<s>\":1,", "\"<s>\":-1,", NULL, "the id of piece '<s>'"},
	{"\"<s>\":1,", "\"<s>\":1e300,", NULL, "the id of piece '<s>'"},
	{"\"<s>\":1,", "\"<s>\":\"1\",", NULL, "the id of piece '<s>'"},
	{"\"<s>\":1,", "\"\":1,", NULL, "piece 1 has 0 bytes"},
	{"\"<s>\":1,", "\"\xFF\":1,", NULL, "piece 1 is not UTF-8"},
	{"\"<s>\":1,", "\"a\\u0000b\":1,", NULL, "U+0000"},
	{"\"<s>\":1,", "\"</s>\":1,", NULL, "tokenizer.json: the key"},
	{"\"merges\":[", "\"merges\":[\"\u2581 zzzz\",", NULL, "merge 0 ('\u2581' 'zzzz') names a piece"},
	{"\"merges\":[", "\"merges\":[\"a b c\",", NULL, "merge 0 is neither"},
	{"\"merges\":[", "\"merges\":[\" a\",", NULL, "merge 0 ('' 'a') names a piece"},
	{"\"merges\":[", "\"merges\":[[\"a\"],", NULL, "merge 0 is neither"},
	{"\"merges\":[", "\"merges\":[7,", NULL, "merge 0 is neither"},
	{"\"merges\":[", "\"merges\":{},\"m\":[", NULL, "'model.merges' is no list"},
	{"\"vocab\":{", "\"vocab\":[],\"v\":{", NULL, "'model.vocab' is no object"},
	{"\"type\":\"Prepend\"", "\"type\":\"NFKC\"", NULL, "the normalizer 'NFKC'"},
	{"\"String\":\" \"", "\"Regex\":\" \"", NULL, "the normalizer 'Replace'"},
	{"\"pre_tokenizer\":null", "\"pre_tokenizer\":{\"type\":\"ByteLevel\"}", NULL, "pre_tokenizer 'ByteLevel'"},
	{"\"normalizer\":{", "\"n\":{", NULL, "neither a normalizer nor a pre_tokenizer"},
	{"\"decoder\":{", "\"d\":{", NULL, "there is no decoder"},
	{"\"type\":\"ByteFallback\"", "\"type\":\"WordPiece\"", NULL, "the decoder 'WordPiece'"},
	{"\"start\":1", "\"start\":2", NULL, "the decoder 'Strip'"},
	{"\"TemplateProcessing\"", "\"BertProcessing\"", NULL, "the post_processor 'BertProcessing'"},
	{"\"ids\":[1]", "\"ids\":[1e9]", NULL, "post_processor's ids"},
	{"\"added_tokens\":[", "\"added_tokens\":[{\"id\":9999,\"content\":\"<new>\"},", NULL, "given id 9999"},
	{"\"added_tokens\":[", "\"added_tokens\":[{\"id\":1},", NULL, "no content or no id"},
	{"\"added_tokens\":[", "\"added_tokens\":[{\"id\":620,\"content\":\"\"},", NULL, "an added token is empty"},
	{NULL, NULL, "{\"tokenizer_class\":\"BertTokenizer\"}", "tokenizer_class 'BertTokenizer'"},
	{NULL, NULL, "{\"split_special_tokens\":true}", "split_special_tokens"},
	{NULL, NULL, "{\"bos_token\":null}", "add_bos_token"},
	{NULL, NULL, "{\"bos_token\":7}", "neither a string nor an object"},
	{NULL, NULL, "{\"added_tokens_decoder\":[]}", "'added_tokens_decoder' is no object"},
	{NULL, NULL, "{\"added_tokens_decoder\":{\"x\":{\"content\":\"y\"}}}", "'x' is no id"},
	{NULL, NULL, "{\"added_tokens_decoder\":{\"7\":{\"content\":\"<new>\"}}}", "given id 7"},
	{NULL, NULL, "{\"added_tokens_decoder\":{\"620\":{\"content\":\"<new>\",\"lstrip\":1}}}", "lstrip"},
	{NULL, NULL, "{\"additional_special_tokens\":\"x\"}", "'additional_special_tokens' is no list"},
	{NULL, NULL, "{\"add_bos_token\":\"yes\"}", "add_bos_token"},
	{NULL, NULL, "{", "tokenizer_config.json: "},
};

static void test_bad_json(void)
{
	struct bytes base = read_file(GOLDEN "tokenizer.json");
	char title[160];

	for (size_t i = 0; base.at && i < sizeof edits / sizeof *edits; i++) {
		const char *at = edits[i].find ? strstr(base.at, edits[i].find) : base.at, *config = edits[i].config;
		size_t found = edits[i].find ? strlen(edits[i].find) : 0, put = edits[i].put ? strlen(edits[i].put) : 0;
		size_t before = at ? (size_t)(at - base.at) : 0, n = base.n - found + put;
		struct fr_tokenizer *tok = NULL;
		struct fr_error err = {0};
		char *text;
		int rc;

		snprintf(title, sizeof title, "exact/tokenizer/bad json: %s", config ? config : edits[i].put);
		if (!at) {
			test_fail(title, "the golden has no '%s'", edits[i].find);
			continue;
		}
		text = malloc(n);
		memcpy(text, base.at, before);
		if (put)
			memcpy(text + before, edits[i].put, put);
		memcpy(text + before + put, at + found, base.n - before - found);
		rc = fr_tokenizer_from_json((uint8_t *)text, n, (const uint8_t *)config, config ? strlen(config) : 0,
					    &tok, &err);
		CHECK(title, rc == -1 && !tok && err.code == FR_E_MODEL && strstr(err.text, edits[i].want),
		      "'%s', expected '%s'", rc ? err.text : "it is read", edits[i].want);
		fr_tokenizer_free(tok);
		free(text);
	}
	free(base.at);
}

/* A file cut off anywhere is refused: the model's flags, and the last brace, come last. */
static void test_truncated(void)
{
	struct bytes model = read_file(GOLDEN "tokenizer.model"), json = read_file(GOLDEN "tokenizer.json");
	int model_read = 0, json_read = 0;

	for (size_t n = 0; n < model.n - 40; n += 7) {
		struct fr_tokenizer *tok = NULL;
		uint8_t *copy = malloc(n + !n);

		memcpy(copy, model.at, n);
		model_read += fr_tokenizer_from_model(copy, n, NULL, 0, NULL, 0, &tok, NULL) == 0;
		fr_tokenizer_free(tok);
		free(copy);
	}
	for (size_t n = 0; n + 2 < json.n; n += 61) {
		struct fr_tokenizer *tok = NULL;
		uint8_t *copy = malloc(n + !n);

		memcpy(copy, json.at, n);
		json_read += fr_tokenizer_from_json(copy, n, NULL, 0, &tok, NULL) == 0;
		fr_tokenizer_free(tok);
		free(copy);
	}
	CHECK("exact/tokenizer/truncated: tokenizer.model", model.n && !model_read, "%d beginnings are read",
	      model_read);
	CHECK("exact/tokenizer/truncated: tokenizer.json", json.n && !json_read, "%d beginnings are read", json_read);
	free(model.at);
	free(json.at);
}

int main(void)
{
	test_bad_models();
	test_bad_json();
	test_truncated();
	return test_done();
}
