/* One result as a JSON line or a CSV row, made from one list of fields.
 *
 * The list walks a writer with a key and a value at a time. For JSON an object inside is an object; for CSV its name
 * becomes a prefix, only scalars have columns, and the header is the same walk with the keys written. */
#include "cli.h"

#include <math.h>
#include <string.h>

enum form { FORM_JSON, FORM_CSV_HEADER, FORM_CSV };
struct writer {
	struct buf *out;
	enum form form;
	int first;	    /* no comma before the next field */
	const char *prefix; /* CSV: the object that the field is in */
};

/* ---- strings ---- */

static void add_utf8(struct buf *b, const char *s, size_t n,
		     void (*put)(struct buf *b, int32_t cp, const char *s, size_t n))
{
	for (size_t i = 0; i < n;) {
		int32_t cp;
		size_t len = utf8_next(s + i, n - i, &cp);
		if (cp < 0)
			put(b, 0xfffd, "\xef\xbf\xbd", 3);
		else
			put(b, cp, s + i, len);
		i += len;
	}
}

static void put_json(struct buf *b, int32_t cp, const char *s, size_t n)
{
	static const char *const names[] = {
		['\b'] = "\\b", ['\t'] = "\\t", ['\n'] = "\\n", ['\f'] = "\\f", ['\r'] = "\\r"};

	if (cp == '"' || cp == '\\')
		buf_add(b, "\\", 1);
	if (cp >= 0x20 && cp != 0x7f)
		buf_add(b, s, n);
	else if ((size_t)cp < sizeof names / sizeof *names && names[cp])
		buf_puts(b, names[cp]);
	else
		buf_printf(b, "\\u%04x", (unsigned)cp);
}

void json_string(struct buf *b, const char *s, size_t n)
{
	buf_add(b, "\"", 1);
	add_utf8(b, s, n, put_json);
	buf_add(b, "\"", 1);
}

static void put_csv(struct buf *b, int32_t cp, const char *s, size_t n)
{
	if (cp == '"')
		buf_add(b, "\"", 1);
	buf_add(b, s, n);
}

static void csv_string(struct buf *b, const char *s, size_t n)
{
	int plain = n > 0;

	for (size_t i = 0; i < n; i++)
		plain = plain && (unsigned char)s[i] > ' ' && s[i] != '"' && s[i] != ',';
	if (!plain)
		buf_add(b, "\"", 1);
	add_utf8(b, s, n, put_csv);
	if (!plain)
		buf_add(b, "\"", 1);
}

/* ---- a key and a value ---- */

static void key(struct writer *w, const char *name)
{
	if (!w->first)
		buf_add(w->out, ",", 1);
	w->first = 0;
	if (w->form == FORM_JSON)
		buf_printf(w->out, "\"%s\":", name);
	else if (w->form == FORM_CSV_HEADER)
		buf_printf(w->out, "%s%s%s", w->prefix ? w->prefix : "", w->prefix ? "_" : "", name);
}

static void put_null(struct writer *w, const char *name)
{
	key(w, name);
	if (w->form == FORM_JSON)
		buf_puts(w->out, "null");
}

static void put_bytes(struct writer *w, const char *name, const char *s, size_t n)
{
	if (!s) {
		put_null(w, name);
		return;
	}
	key(w, name);
	if (w->form == FORM_JSON)
		json_string(w->out, s, n);
	else if (w->form == FORM_CSV)
		csv_string(w->out, s, n);
}

static void put_string(struct writer *w, const char *name, const char *s)
{
	put_bytes(w, name, s, s ? strlen(s) : 0);
}

static void put_word(struct writer *w, const char *name, const char *word)
{
	key(w, name);
	if (w->form != FORM_CSV_HEADER)
		buf_puts(w->out, word);
}

static void put_bool(struct writer *w, const char *name, int value)
{
	put_word(w, name, value ? "true" : "false");
}

static void put_count(struct writer *w, const char *name, uint64_t value)
{
	char text[32];

	snprintf(text, sizeof text, "%llu", (unsigned long long)value);
	put_word(w, name, text);
}

static void put_number(struct writer *w, const char *name, int there, double value)
{
	char text[32];

	snprintf(text, sizeof text, "%.9g", value);
	if (there && isfinite(value))
		put_word(w, name, text);
	else
		put_null(w, name);
}

static void open_object(struct writer *w, const char *name)
{
	if (w->form == FORM_JSON) {
		key(w, name);
		buf_add(w->out, "{", 1);
		w->first = 1;
	}
	w->prefix = name;
}

static void close_object(struct writer *w)
{
	if (w->form == FORM_JSON)
		buf_add(w->out, "}", 1);
	w->first = 0;
	w->prefix = NULL;
}

/* ---- the fields ---- */

static void put_image(struct writer *w, const char *path)
{
	struct buf hex = {0};

	put_string(w, "image", path);
	if (utf8_valid(path, strlen(path))) {
		put_null(w, "image_hex");
		return;
	}
	for (const char *p = path; *p; p++)
		buf_printf(&hex, "%02x", (unsigned char)*p);
	put_bytes(w, "image_hex", hex.at, hex.n);
	buf_free(&hex);
}

static void put_score(struct writer *w, const struct fr_result *r)
{
	const int there = r->has_score;

	put_string(w, "verdict", fr_verdict_name(r->verdict));
	put_number(w, "p_fake", there, r->p_fake);
	put_number(w, "p_fake_direct", r->has_direct, r->p_fake_direct);
	put_number(w, "p_fake_reasoned", r->has_reasoned, r->p_fake_reasoned);
	if (there)
		put_bool(w, "calibrated", r->calibrated);
	else
		put_null(w, "calibrated");
	put_number(w, "logit_real", there, (double)r->logit_real);
	put_number(w, "logit_fake", there, (double)r->logit_fake);
}

/* CSV has the columns for every model, so that a header does not depend on it. */
static void put_attributes(struct writer *w, const struct fr_result *r)
{
	if (w->form == FORM_JSON && !r->n_attributes) {
		put_null(w, "attributes");
		return;
	}
	open_object(w, "attributes");
	for (int i = 0; i < FR_ATTRIBUTES; i++) {
		const struct fr_attribute *a = &r->attributes[i];
		put_bytes(w, fr_attribute_name(i), a->len ? r->text + a->at : NULL, a->len);
	}
	close_object(w);
}

static void put_text(struct writer *w, const struct fr_result *r)
{
	const int computed = r->prompt_tokens > 0;

	put_string(w, "opening", r->opening);
	put_bytes(w, "text", r->text, r->text_len);
	put_string(w, "text_verdict", fr_verdict_name(r->text_verdict));
	put_attributes(w, r);
	put_string(w, "stop", r->stop);
	if (!computed && w->form == FORM_JSON) {
		put_null(w, "tokens");
		return;
	}
	open_object(w, "tokens");
	put_number(w, "prompt", computed, r->prompt_tokens);
	put_number(w, "generated", computed, r->generated_tokens);
	close_object(w);
}

static void put_run(struct writer *w, const struct run_facts *run, const struct fr_result *r)
{
	put_string(w, "prompt", fr_session_prompt(run->session, r->prompt));
	put_string(w, "chat", fr_session_chat(run->session));
	put_string(w, "preprocess", fr_model_preprocess(run->model));
	open_object(w, "sampler");
	put_number(w, "temperature", 1, (double)run->sampler->temperature);
	put_count(w, "top_k", (uint64_t)run->sampler->top_k);
	put_number(w, "top_p", 1, (double)run->sampler->top_p);
	put_count(w, "seed", run->sampler->seed);
	close_object(w);
	open_object(w, "model");
	put_string(w, "name", fr_model_name(run->model));
	put_string(w, "hash", fr_model_hash(run->model));
	put_string(w, "dtype", fr_model_dtype(run->model));
	put_bool(w, "demo", fr_model_is_demo(run->model));
	close_object(w);
	put_string(w, "calibration", run->calibration);
	open_object(w, "engine");
	put_string(w, "version", FR_VERSION);
	put_string(w, "backend", fr_session_backend(run->session));
	put_string(w, "isa", fr_session_isa(run->session));
	put_string(w, "kv", fr_session_kv(run->session));
	put_string(w, "activations", fr_session_activations(run->session));
	close_object(w);
}

static void put_remarks(struct writer *w, const struct fr_result *r)
{
	struct buf all = {0};

	if (w->form == FORM_JSON) {
		key(w, "warnings");
		buf_add(w->out, "[", 1);
		for (int i = 0; i < r->n_warnings; i++) {
			if (i)
				buf_add(w->out, ",", 1);
			json_string(w->out, r->warnings[i], strlen(r->warnings[i]));
		}
		buf_add(w->out, "]", 1);
	} else {
		for (int i = 0; i < r->n_warnings; i++)
			buf_printf(&all, "%s%s", i ? "; " : "", r->warnings[i]);
		put_bytes(w, "warnings", all.n ? all.at : NULL, all.n);
		buf_free(&all);
	}
	if (w->form == FORM_JSON && r->error.code == FR_OK) {
		put_null(w, "error");
		return;
	}
	open_object(w, "error");
	put_string(w, "code", r->error.code == FR_OK ? NULL : fr_code_name(r->error.code));
	put_string(w, "message", r->error.code == FR_OK ? NULL : r->error.text);
	close_object(w);
}

static void put_times(struct writer *w, const struct fr_result *r)
{
	const int computed = r->prompt_tokens > 0;

	open_object(w, "ms");
	put_number(w, "image", 1, r->ms_image);
	put_number(w, "vision", computed, r->ms_vision);
	put_number(w, "prefill", computed, r->ms_prefill);
	put_number(w, "decode", computed, r->ms_decode);
	close_object(w);
}

static void walk(struct writer *w, const struct run_facts *run, const char *path, const struct fr_result *r,
		 const char *map)
{
	put_count(w, "schema", 1);
	put_image(w, path);
	put_string(w, "sha256", r->sha256);
	put_score(w, r);
	put_text(w, r);
	put_run(w, run, r);
	put_string(w, "map", map);
	put_remarks(w, r);
	if (run->timings)
		put_times(w, r);
}

void record_json(struct buf *b, const struct run_facts *run, const char *path, const struct fr_result *r,
		 const char *map)
{
	struct writer w = {.out = b, .form = FORM_JSON, .first = 1};

	buf_add(b, "{", 1);
	walk(&w, run, path, r, map);
	buf_puts(b, "}\n");
}

void record_csv_header(struct buf *b, const struct run_facts *run)
{
	struct writer w = {.out = b, .form = FORM_CSV_HEADER, .first = 1};

	walk(&w, run, "", &(struct fr_result){0}, NULL);
	buf_puts(b, "\r\n");
}

void record_csv(struct buf *b, const struct run_facts *run, const char *path, const struct fr_result *r,
		const char *map)
{
	struct writer w = {.out = b, .form = FORM_CSV, .first = 1};

	walk(&w, run, path, r, map);
	buf_puts(b, "\r\n");
}
