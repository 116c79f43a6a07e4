/* The prompt as the model was evaluated: chat form around the question, ids, the image token expanded.
 *
 * Where <image> is a word of the vocabulary the tokenizer cuts it out; where it is none (desc.prompt.splice) the text
 * is cut there and each side encoded by itself, so that the second begins with a blank piece of its own; bos stands at
 * the very start only. A prompt without <image> gets "<image>\n" in front: text before the image cost a user 20 points
 * of accuracy. */
#include "session.h"

#include <stdlib.h>

#define IMAGE_MARK "<image>"

/* The forms of conversation: what stands before and after the question. */
static const struct {
	const char *name, *before, *after;
} chats[] = {
	{"raw", "", ""},
	{"llava", "USER: ", " ASSISTANT:"},
	{"llava_v1",
	 "A chat between a curious human and an artificial intelligence assistant. "
	 "The assistant gives helpful, detailed, and polite answers to the human's questions. USER: ",
	 " ASSISTANT:"},
};

static int find_chat(const char *name, size_t *at, struct fr_error *err)
{
	for (*at = 0; *at < sizeof chats / sizeof *chats; ++*at)
		if (strcmp(chats[*at].name, name) == 0)
			return 0;
	return fr_fail(err, FR_E_USAGE, "chat form '%s' is not known (expected raw, llava or llava_v1)", name);
}

/* The ids of text, with image_id at each <image>; *ids is the caller's. */
static int encode_spliced(const struct fr_model *m, const char *text, int32_t **ids, size_t *n, struct fr_error *err)
{
	const char *at = text;

	*ids = NULL;
	*n = 0;
	for (;;) {
		const char *mark = strstr(at, IMAGE_MARK);
		const size_t len = mark ? (size_t)(mark - at) : strlen(at);
		int32_t *part, *grown;
		size_t n_part;
		FR_TRY(fr_tokenizer_encode(m->tok, at, len, at == text, &part, &n_part, err));
		grown = realloc(*ids, (*n + n_part + 1) * sizeof **ids);
		if (grown) {
			*ids = grown;
			memcpy(*ids + *n, part, n_part * sizeof **ids);
			*n += n_part;
		}
		free(part);
		if (!grown)
			return fr_fail(err, FR_E_MEMORY, "no memory for a prompt of %zu ids", *n + n_part);
		if (!mark)
			return 0;
		(*ids)[(*n)++] = m->desc.prompt.image_id;
		at = mark + strlen(IMAGE_MARK);
	}
}

static int check_length(const struct fr_model *m, int n, struct fr_error *err)
{
	const int most = m->desc.prompt.max_prompt;

	if (most && n > most)
		return fr_fail(err, FR_E_USAGE,
			       "the prompt takes %d positions with the image, expected at most the %d of the model's "
			       "tokenizer (tokenizer_model_max_length), where the authors' code cuts it off",
			       n, most);
	return 0;
}

static int expand(const struct fr_model *m, const int32_t *raw, size_t n_raw, int32_t **ids, int *n,
		  struct fr_error *err)
{
	const int32_t image = m->desc.prompt.image_id;
	size_t marks = 0, k = 0;

	for (size_t i = 0; i < n_raw; i++) {
		if (raw[i] != image && (raw[i] < 0 || raw[i] >= m->desc.text.vocab))
			return fr_fail(err, FR_E_MODEL,
				       "the tokenizer gave id %d, but the model has %d vocabulary rows", raw[i],
				       m->desc.text.vocab);
		marks += raw[i] == image;
	}
	if (marks != 1)
		return fr_fail(err, marks ? FR_E_USAGE : FR_E_MODEL,
			       "the prompt holds the image token (id %d) %zu times, expected once", image, marks);
	*n = (int)n_raw - 1 + m->desc.n_image;
	*ids = malloc((size_t)*n * sizeof **ids);
	if (!*ids)
		return fr_fail(err, FR_E_MEMORY, "no memory for a prompt of %d ids", *n);
	for (size_t i = 0; i < n_raw; i++)
		for (int j = raw[i] == image ? m->desc.n_image : 1; j > 0; j--)
			(*ids)[k++] = raw[i];
	return check_length(m, *n, err);
}

int fr_prompt_build(const struct fr_model *m, const char *prompt, const char *chat, const char **chat_used, char **text,
		    int32_t **ids, int *n, struct fr_error *err)
{
	const char *question = prompt ? prompt : m->desc.prompt.question;
	const char *mark = strstr(question, IMAGE_MARK) ? "" : IMAGE_MARK "\n";
	int32_t *raw = NULL;
	size_t at, n_raw;
	int rc;

	FR_TRY(find_chat(chat ? chat : m->desc.prompt.chat, &at, err));
	*chat_used = chats[at].name;
	if (strlen(question) > 1 << 20)
		return fr_fail(err, FR_E_USAGE, "the prompt has %zu bytes, expected at most 1 MiB", strlen(question));
	if (asprintf(text, "%s%s%s%s", chats[at].before, mark, question, chats[at].after) < 0) {
		*text = NULL;
		return fr_fail(err, FR_E_MEMORY, "no memory for the prompt");
	}
	rc = m->desc.prompt.splice ? encode_spliced(m, *text, &raw, &n_raw, err)
				   : fr_tokenizer_encode(m->tok, *text, strlen(*text), 1, &raw, &n_raw, err);
	if (rc == 0)
		rc = expand(m, raw, n_raw, ids, n, err);
	free(raw);
	return rc;
}

int fr_read_tensor(const char *path, const char *name, struct fr_tensor *out, const uint8_t **bytes, size_t *size,
		   struct fr_error *err)
{
	struct fr_tensors all = {0};
	int found = 0;

	FR_TRY(fr_map_open(path, bytes, size, err));
	if (fr_safetensors_parse(*bytes, *size, path, &all, err)) {
		fr_map_close(*bytes, *size);
		return -1;
	}
	for (size_t i = 0; i < all.n && !found; i++)
		if (strcmp(all.at[i].name, name) == 0) {
			*out = all.at[i];
			found = 1;
		}
	out->name = name; /* the arena goes */
	out->file = path;
	fr_tensors_free(&all);
	if (found)
		return 0;
	fr_map_close(*bytes, *size);
	return fr_fail(err, FR_E_USAGE, "%s: no tensor named '%s'", path, name);
}

static int copy_ids(const struct fr_model *m, const struct fr_tensor *t, int32_t *ids, int n, struct fr_error *err)
{
	int images = 0;

	for (int i = 0; i < n; i++) {
		int64_t wide;
		int32_t narrow;
		if (t->dtype == FR_I64) {
			memcpy(&wide, (const char *)t->data + (size_t)i * 8, 8);
		} else {
			memcpy(&narrow, (const char *)t->data + (size_t)i * 4, 4);
			wide = narrow;
		}
		if (wide != m->desc.prompt.image_id && (wide < 0 || wide >= m->desc.text.vocab))
			return fr_fail(err, FR_E_USAGE, "%s: input_ids[%d] is %lld, the model has %d vocabulary rows",
				       t->file, i, (long long)wide, m->desc.text.vocab);
		ids[i] = (int32_t)wide;
		images += wide == m->desc.prompt.image_id;
	}
	if (images != m->desc.n_image)
		return fr_fail(err, FR_E_USAGE, "%s: input_ids holds the image token %d times, expected %d", t->file,
			       images, m->desc.n_image);
	return check_length(m, n, err);
}

int fr_prompt_read(const struct fr_model *m, const char *path, char **text, int32_t **ids, int *n, struct fr_error *err)
{
	struct fr_tensor t;
	const uint8_t *bytes;
	size_t size;
	int rc;

	FR_TRY(fr_read_tensor(path, "input_ids", &t, &bytes, &size, err));
	if ((t.dtype != FR_I32 && t.dtype != FR_I64) || fr_tensor_items(&t) < 1 ||
	    fr_tensor_items(&t) > (size_t)m->desc.text.max_pos) {
		rc = fr_fail(err, FR_E_USAGE, "%s: input_ids has %zu items of %s, expected 1 to %d of i32 or i64", path,
			     fr_tensor_items(&t), fr_dtypes[t.dtype].name, m->desc.text.max_pos);
	} else {
		*n = (int)fr_tensor_items(&t);
		*ids = malloc((size_t)*n * sizeof **ids);
		*text = strdup("");
		rc = *ids && *text ? copy_ids(m, &t, *ids, *n, err)
				   : fr_fail(err, FR_E_MEMORY, "no memory for %d ids", *n);
	}
	fr_map_close(bytes, size);
	return rc;
}

/* ---- the questions of a session ---- */

#define MAX_SHOWN 60 /* bytes of a question in a sentence */

/* A sentence about one of several questions says which: "prompt 2 ('Is it?'): ...". Always -1. */
static int of_question(const struct fr_session *s, int i, struct fr_error *err)
{
	const struct fr_error what = *err;
	const char *text = s->n_questions > 1 ? s->o.prompts[i] : NULL;

	if (!text)
		return -1;
	return fr_fail(err, what.code, "prompt %d ('%.*s%s'): %s", i + 1, MAX_SHOWN, text,
		       strlen(text) > MAX_SHOWN ? "..." : "", what.text);
}

static int read_question(struct fr_session *s, int i, struct fr_error *err)
{
	const struct fr_model *m = s->model;
	struct fr_question *q = &s->question[i];
	int fixed;

	if (s->o.ids_file)
		FR_TRY(fr_prompt_read(m, s->o.ids_file, &q->text, &q->ids, &q->n, err));
	else
		FR_TRY(fr_prompt_build(m, s->o.n_prompts ? s->o.prompts[i] : NULL, s->o.chat, &s->chat, &q->text,
				       &q->ids, &q->n, err));
	fixed = q->n + m->n_opening;
	if (fixed > m->desc.text.max_pos)
		return fr_fail(err, FR_E_USAGE,
			       "the prompt takes %d positions with the image and the opening, the model has %d", fixed,
			       m->desc.text.max_pos);
	for (int k = 0; k < i; k++)
		if (strcmp(s->question[k].text, q->text) == 0)
			return fr_fail(err, FR_E_USAGE, "is the same as prompt %d, and so would its results be", k + 1);
	return 0;
}

int fr_questions_read(struct fr_session *s, struct fr_error *err)
{
	const int n = s->o.n_prompts > 0 && !s->o.ids_file ? s->o.n_prompts : 1;

	s->question = calloc((size_t)n, sizeof *s->question);
	if (!s->question)
		return fr_fail(err, FR_E_MEMORY, "no memory for %d prompts", n);
	s->n_questions = n;
	s->chat = "ids";
	for (int i = 0; i < n; i++) {
		if (read_question(s, i, err))
			return of_question(s, i, err);
		s->longest = s->question[i].n > s->longest ? s->question[i].n : s->longest;
	}
	return 0;
}
