/* fr-run tokenize: text to ids and pieces, or ids to text, with nothing but the tokenizer loaded.
 *
 * Text from stdin is taken byte for byte. MODEL is the first argument unless -m gives it; with FR_RUN_MODEL it may be
 * given or left out. */
#include "cli.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* How many arguments stand after MODEL at most: TEXT, or any number of ids. */
static const char *take_model(const struct cli *c, char ***rest, size_t *n)
{
	const enum origin from = options_origin(c, "model");
	int first_is_model = from == FROM_DEFAULT;
	char *end;

	*rest = c->path;
	*n = c->n_path;
	if (from == FROM_ENV && *n > 0) {
		strtol(c->path[0], &end, 10);
		first_is_model = c->v.decode ? *end != 0 : *n > 1;
	}
	if (!first_is_model)
		return c->v.model;
	if (*n == 0)
		return model_path(c);
	++*rest;
	--*n;
	return c->path[0];
}

static void put_array(struct buf *b, const char *name, const struct fr_tokenizer *tok, const int32_t *ids, size_t n,
		      int pieces)
{
	buf_printf(b, "\"%s\":[", name);
	for (size_t i = 0; i < n; i++) {
		const char *piece = "";
		size_t len = 0;
		if (i)
			buf_add(b, ",", 1);
		if (!pieces) {
			buf_printf(b, "%d", ids[i]);
			continue;
		}
		fr_tokenizer_piece(tok, ids[i], &piece, &len);
		json_string(b, piece, len);
	}
	buf_puts(b, "]");
}

static void put_list(struct buf *b, const struct fr_tokenizer *tok, const int32_t *ids, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const char *piece = "";
		size_t len = 0;
		fr_tokenizer_piece(tok, ids[i], &piece, &len);
		buf_printf(b, "%d\t", ids[i]);
		buf_add_safe(b, piece, len);
		buf_puts(b, "\n");
	}
}

static int encode(const struct cli *c, const struct fr_tokenizer *tok, const char *text, struct buf *out)
{
	struct buf in = {0};
	struct fr_error err = {0};
	int32_t *ids = NULL;
	size_t n = 0;
	int rc = 0;

	if (!text || strcmp(text, "-") == 0)
		rc = read_all(STDIN_FILENO, "stdin", &in, &err);
	else
		buf_puts(&in, text);
	if (rc == 0)
		rc = fr_tokenizer_encode(tok, in.n ? in.at : "", in.n, !c->v.no_bos, &ids, &n, &err);
	if (rc == 0 && c->v.json) {
		buf_puts(out, "{");
		put_array(out, "ids", tok, ids, n, 0);
		buf_puts(out, ",");
		put_array(out, "pieces", tok, ids, n, 1);
		buf_puts(out, "}\n");
	} else if (rc == 0) {
		put_list(out, tok, ids, n);
	}
	free(ids);
	buf_free(&in);
	return rc ? complain_error(&err) : 0;
}

static int read_ids(const struct fr_tokenizer *tok, char **arg, size_t n, int32_t *ids)
{
	const char *piece;
	size_t len;

	for (size_t i = 0; i < n; i++) {
		char *end;
		long id = strtol(arg[i], &end, 10);
		if (end == arg[i] || *end || id < 0 || id > INT32_MAX)
			return complain(EXIT_USAGE, "--decode: '%s' is not an id", arg[i]);
		ids[i] = (int32_t)id;
		if (fr_tokenizer_piece(tok, ids[i], &piece, &len))
			return complain(EXIT_USAGE, "--decode: no piece has the id %ld", id);
	}
	return 0;
}

static int decode(const struct cli *c, const struct fr_tokenizer *tok, char **arg, size_t n, struct buf *out)
{
	int32_t *ids = calloc(n + 1, sizeof *ids);
	struct fr_error err = {0};
	char *text = NULL;
	size_t len = 0;
	int code;

	if (!ids)
		return complain(EXIT_CANNOT, "no memory for %zu ids", n);
	code = read_ids(tok, arg, n, ids);
	if (code == 0 && fr_tokenizer_decode(tok, ids, n, &text, &len, &err))
		code = complain_error(&err);
	if (code == 0 && c->v.json) {
		buf_puts(out, "{");
		put_array(out, "ids", tok, ids, n, 0);
		buf_puts(out, ",\"text\":");
		json_string(out, text, len);
		buf_puts(out, "}\n");
	} else if (code == 0) {
		buf_add(out, text, len);
		buf_puts(out, "\n");
	}
	free(text);
	free(ids);
	return code;
}

int cmd_tokenize(struct cli *c)
{
	struct fr_tokenizer *tok = NULL;
	struct fr_model_opts opts;
	struct buf result = {0};
	struct output out;
	struct fr_error err;
	const char *model;
	char **rest;
	size_t n;
	int code, closed;

	model = take_model(c, &rest, &n);
	if (!model)
		return EXIT_CANNOT;
	if (!c->v.decode && n > 1)
		return complain(EXIT_USAGE, "one TEXT expected, got %zu: quote it, or give it on stdin", n);
	if (c->v.decode && n == 0)
		return complain(EXIT_USAGE, "--decode: no ids given");
	opts = model_options(c, model);
	if (fr_model_tokenizer(&opts, &tok, &err))
		return complain_error(&err);
	code = c->v.decode ? decode(c, tok, rest, n, &result) : encode(c, tok, n ? rest[0] : NULL, &result);
	fr_tokenizer_free(tok);
	if (code == 0 && (code = output_open(&out, c->v.output)) == 0) {
		output_write(&out, result.at, result.n);
		closed = output_close(&out, 1);
		code = closed ? closed : code;
	}
	buf_free(&result);
	return code;
}
