/* From a question to the ids that are fed: the chat forms, the two ways in which <image> becomes image rows, and the
 * pieces of the opening and the labels. Against ids of transformers' tokenizer, with Llama's own vocabulary where it
 * lies in $FR_SHARED_DATA; what is refused, with a small vocabulary of our own. */
#include "files.h"
#include "test.h"

#include "../engine/session.h"

#define SYSTEM                                                                                                         \
	"A chat between a curious human and an artificial intelligence assistant. The assistant gives helpful, "       \
	"detailed, and polite answers to the human's questions. "
#define N_IMAGE 3

/* Llama's ids of SYSTEM "USER: ", bos in front, and of " ASSISTANT:" */
#define SYSTEM_IDS                                                                                                     \
	1, 319, 13563, 1546, 263, 12758, 5199, 322, 385, 23116, 21082, 20255, 29889, 450, 20255, 4076, 8444, 29892,    \
		13173, 29892, 322, 1248, 568, 6089, 304, 278, 5199, 29915, 29879, 5155, 29889, 3148, 1001, 29901,      \
		29871
#define DOES_IDS 29871, 13, 25125, 278, 1967, 3430, 1855, 29914, 29888, 1296, 29973
#define ASSISTANT_IDS 319, 1799, 9047, 13566, 29901
#define IMAGES(id) id, id, id

static const struct fr_prompt_desc fakevlm = {.chat = "raw",
					      .question = "<image>\nDoes the image looks real/fake?",
					      .opening = "This image is",
					      .real = "real",
					      .fake = "fake",
					      .image_id = 32000};
static const struct fr_prompt_desc fakereasoning = {
	.chat = "llava_v1",
	.question = "<image>\nIs this image real or fake? Please describe the image, reasoning step-by-step and "
		    "conclude with 'this image is real' or 'this image is fake'.",
	.opening = "<CONCLUSION> This image is",
	.reasoned = 1,
	.splice = 1,
	.max_prompt = 77 - 1 + N_IMAGE,
	.real = "real",
	.fake = "fake",
	.image_id = -200};

static const char llama_config[] = "{\"tokenizer_class\":\"LlamaTokenizer\",\"legacy\":true%s}";
static const char image_token[] =
	",\"added_tokens_decoder\":{\"32000\":{\"content\":\"<image>\",\"special\":true,\"normalized\":false}}";

static struct fr_tokenizer *open_tokenizer(const char *path, const char *added)
{
	char config[256];
	const uint8_t *bytes;
	size_t size;
	struct fr_tokenizer *tok = NULL;
	struct fr_error err;

	snprintf(config, sizeof config, llama_config, added);
	if (fr_map_open(path, &bytes, &size, &err))
		return NULL;
	if (fr_tokenizer_from_model(bytes, size, (const uint8_t *)config, strlen(config), NULL, 0, &tok, &err))
		test_fail("exact/prompt/tokenizer", "%s", err.text);
	fr_map_close(bytes, size);
	return tok;
}

static struct fr_model model_of(const struct fr_prompt_desc *p, struct fr_tokenizer *tok)
{
	return (struct fr_model){.desc.prompt = *p,
				 .desc.n_image = N_IMAGE,
				 .desc.text.vocab = 32064,
				 .desc.text.max_pos = 4096,
				 .tok = tok};
}

static void check_prompt(const char *name, const struct fr_model *m, const char *prompt, const char *chat,
			 const char *want_text, const int32_t *want, int n_want)
{
	const char *used = "";
	char *text = NULL;
	int32_t *ids = NULL;
	int n = 0, at = 0;
	struct fr_error err = {0};

	if (fr_prompt_build(m, prompt, chat, &used, &text, &ids, &n, &err)) {
		test_fail(name, "%s", err.text);
	} else {
		while (at < n && at < n_want && ids[at] == want[at])
			at++;
		CHECK(name, at == n && n == n_want && (!want_text || !strcmp(text, want_text)),
		      "%d ids, expected %d; ids[%d] is %d; text '%s'", n, n_want, at, at < n ? ids[at] : 0, text);
	}
	free(text);
	free(ids);
}
#define PROMPT(name, m, prompt, chat, text, ...)                                                                       \
	check_prompt(name, m, prompt, chat, text, (const int32_t[]){__VA_ARGS__},                                      \
		     (int)(sizeof(int32_t[]){__VA_ARGS__} / sizeof(int32_t)))

static void check_refused(const char *name, const struct fr_model *m, const char *prompt, const char *want)
{
	const char *used;
	char *text = NULL;
	int32_t *ids = NULL;
	int n, rc;
	struct fr_error err = {0};

	rc = fr_prompt_build(m, prompt, NULL, &used, &text, &ids, &n, &err);
	CHECK(name, rc && err.code == FR_E_USAGE && strstr(err.text, want), "rc %d, '%s'", rc, err.text);
	free(text);
	free(ids);
}

/* ---- Llama's vocabulary ---- */

static void check_fakevlm(const char *path)
{
	struct fr_tokenizer *tok = open_tokenizer(path, image_token);
	struct fr_model m = model_of(&fakevlm, tok);
	struct fr_error err;

	if (!tok)
		return;
	PROMPT("exact/prompt/fakevlm: raw", &m, NULL, NULL, "<image>\nDoes the image looks real/fake?", 1,
	       IMAGES(32000), DOES_IDS);
	PROMPT("exact/prompt/fakevlm: llava", &m, NULL, "llava",
	       "USER: <image>\nDoes the image looks real/fake? ASSISTANT:", 1, 3148, 1001, 29901, 29871, IMAGES(32000),
	       DOES_IDS, ASSISTANT_IDS);
	PROMPT("exact/prompt/fakevlm: llava_v1", &m, NULL, "llava_v1",
	       SYSTEM "USER: <image>\nDoes the image looks real/fake? ASSISTANT:", SYSTEM_IDS, IMAGES(32000), DOES_IDS,
	       ASSISTANT_IDS);
	PROMPT("exact/prompt/fakevlm: <image> comes in front by itself", &m, "Does the image looks real/fake?", NULL,
	       "<image>\nDoes the image looks real/fake?", 1, IMAGES(32000), DOES_IDS);
	CHECK("exact/prompt/fakevlm: the opening",
	      !fr_model_find_pieces(&m, &err) && m.n_opening == 3 && m.opening[0] == 910 && m.opening[1] == 1967 &&
		      m.opening[2] == 338 && m.real_id == 1855 && m.fake_id == 25713,
	      "%d pieces, first %d", m.n_opening, m.opening[0]);
	fr_tokenizer_free(tok);
}

static void check_fakereasoning(const char *path)
{
	static const int32_t opening[] = {529, 6007, 6154, 3308, 2725, 29958, 910, 1967, 338};
	struct fr_tokenizer *tok = open_tokenizer(path, "");
	struct fr_model m = model_of(&fakereasoning, tok);
	struct fr_error err = {0};

	if (!tok)
		return;
	PROMPT("exact/prompt/fakereasoning: the 77 entries", &m, NULL, NULL,
	       SYSTEM "USER: <image>\nIs this image real or fake? Please describe the image, reasoning step-by-step "
		      "and conclude with 'this image is real' or 'this image is fake'. ASSISTANT:",
	       SYSTEM_IDS, IMAGES(-200), 29871, 13, 3624, 445, 1967, 1855, 470, 25713, 29973, 3529, 8453, 278, 1967,
	       29892, 24481, 4331, 29899, 1609, 29899, 10568, 322, 17668, 411, 525, 1366, 1967, 338, 1855, 29915, 470,
	       525, 1366, 1967, 338, 25713, 4286, ASSISTANT_IDS);
	PROMPT("exact/prompt/fakereasoning: nothing in front of <image>", &m,
	       "<image>\nDoes the image looks real/fake?", "raw", NULL, 1, IMAGES(-200), DOES_IDS);
	PROMPT("exact/prompt/fakereasoning: nothing after <image>", &m, "USER: <image>", "raw", NULL, 1, 3148, 1001,
	       29901, 29871, IMAGES(-200));
	check_refused("exact/prompt/fakereasoning: longer than its tokenizer allows", &m,
		      "Is this image real or fake? Please describe the image, reasoning step-by-step and conclude with "
		      "'this image is real' or 'this image is fake'. Please.",
		      "expected at most the 79");
	CHECK("exact/prompt/fakereasoning: the opening",
	      !fr_model_find_pieces(&m, &err) && m.n_opening == 9 && !memcmp(m.opening, opening, sizeof opening) &&
		      m.real_id == 1855 && m.fake_id == 25713,
	      "%d pieces, first %d: %s", m.n_opening, m.opening[0], err.text);
	fr_tokenizer_free(tok);
}

static void check_llama(void)
{
	const char *shared = getenv("FR_SHARED_DATA");
	char path[512];

	snprintf(path, sizeof path, "%s/llama-tokenizer.model", shared ? shared : "../shared/data");
	if (access(path, R_OK)) {
		test_skip("exact/prompt/llama", "no llama-tokenizer.model in $FR_SHARED_DATA or ../shared/data");
		return;
	}
	check_fakevlm(path);
	check_fakereasoning(path);
}

/* ---- a small vocabulary: what is refused, and files of ids ---- */

static void check_ids_file(const char *name, const struct fr_model *m, const int32_t *ids, size_t n_ids,
			   const char *want)
{
	char header[128];
	uint8_t file[512];
	const size_t bytes = n_ids * sizeof *ids;
	const uint64_t n_header = (uint64_t)snprintf(
		header, sizeof header, "{\"input_ids\":{\"dtype\":\"I32\",\"shape\":[%zu],\"data_offsets\":[0,%zu]}}",
		n_ids, bytes);
	char *text = NULL;
	int32_t *got = NULL;
	int n = 0, rc;
	struct fr_error err = {0};

	memcpy(file, &n_header, 8);
	memcpy(file + 8, header, n_header);
	memcpy(file + 8 + n_header, ids, bytes);
	rc = fr_prompt_read(m, files_put("ids.safetensors", file, 8 + n_header + bytes), &text, &got, &n, &err);
	if (want)
		CHECK(name, rc && strstr(err.text, want), "rc %d, '%s'", rc, err.text);
	else
		CHECK(name, !rc && n == (int)n_ids && !memcmp(got, ids, bytes), "rc %d, %d ids, '%s'", rc, n, err.text);
	free(text);
	free(got);
}

static void check_pieces(struct fr_tokenizer *tok)
{
	static const char one[] = "a", never[] = "\U0001F9B8\U0001F9B8\U0001F9B8\U0001F9B8\U0001F9B8";
	struct fr_prompt_desc p = fakereasoning;
	struct fr_model m = model_of(&p, tok);
	struct fr_error err = {0};
	int rc = fr_model_find_pieces(&m, &err);

	CHECK("exact/prompt/small: a label without a piece of its own",
	      rc && strstr(err.text, "no single piece for the word '"), "rc %d, '%s'", rc, err.text);
	m.desc.prompt.real = m.desc.prompt.fake = one;
	m.desc.prompt.opening = never;
	rc = fr_model_find_pieces(&m, &err);
	CHECK("exact/prompt/small: an opening of more pieces than fit", rc && strstr(err.text, "at most 16 fit"),
	      "rc %d, %d pieces, '%s'", rc, m.n_opening, err.text);
	m.desc.prompt.opening = one;
	rc = fr_model_find_pieces(&m, &err);
	CHECK("exact/prompt/small: an opening of one piece leaves no trigger", rc && strstr(err.text, "cannot spell"),
	      "rc %d, %d pieces, '%s'", rc, m.n_opening, err.text);
	m.desc.prompt.reasoned = 0;
	m.desc.text.vocab = 5;
	rc = fr_model_find_pieces(&m, &err);
	CHECK("exact/prompt/small: a piece beyond the model's vocabulary", rc && strstr(err.text, "vocabulary rows"),
	      "rc %d, '%s'", rc, err.text);
}

static void check_small(void)
{
	static const int32_t good[] = {1, 7, -200, -200, -200, 9}, few[] = {1, -200, -200},
			     wild[] = {1, -200, -200, -200, -1}, high[] = {1, -200, -200, -200, 32064};
	struct fr_tokenizer *tok = open_tokenizer("tests/golden/tokenizer/tokenizer.model", "");
	struct fr_model m = model_of(&fakereasoning, tok);

	if (!tok) {
		test_fail("exact/prompt/small", "no tokenizer.model");
		return;
	}
	check_refused("exact/prompt/small: <image> twice", &m, "<image> or <image>?", "2 times");
	check_refused("exact/prompt/small: <image> twice in a row", &m, "<image><image>", "2 times");
	check_ids_file("exact/prompt/small: ids of a file", &m, good, 6, NULL);
	check_ids_file("exact/prompt/small: ids with too few of the image", &m, few, 3, "2 times, expected 3");
	check_ids_file("exact/prompt/small: an id below the vocabulary", &m, wild, 5, "input_ids[4] is -1");
	check_ids_file("exact/prompt/small: an id above the vocabulary", &m, high, 5, "input_ids[4] is 32064");
	m.desc.prompt.max_prompt = 5;
	check_ids_file("exact/prompt/small: more ids than its tokenizer allows", &m, good, 6, "at most the 5");
	check_pieces(tok);
	fr_tokenizer_free(tok);
}

int main(void)
{
	check_llama();
	check_small();
	return test_done();
}
