/* The smaller commands: info, dump, diff, selftest. */
#include "cli.h"

#include <fcntl.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int report(const struct cli *c, const struct fr_model *model, FILE *out)
{
	struct fr_session_opts opts;
	struct fr_error err;
	int code = session_options(c, model, &opts);

	if (code == 0 && fr_model_info(model, &opts, out, c->v.json, c->v.check, &err))
		code = complain_error(&err);
	return code;
}

/* Of a model that could not be loaded, with `why`. */
static int report_missing(const struct cli *c, const struct fr_model_opts *opts, const struct fr_error *why)
{
	struct output out;
	struct fr_error err;
	int code = output_open(&out, c->v.output);

	if (code)
		return code;
	out.any = fr_model_info_missing(opts, out.file, c->v.json, &err) > 0;
	code = output_close(&out, out.any);
	return code ? code : complain_error(why);
}

int cmd_info(struct cli *c)
{
	const enum origin from = options_origin(c, "model");
	const char *path = c->n_path ? c->path[0] : model_path(c);
	struct fr_model *model = NULL;
	struct fr_model_opts opts;
	struct output out;
	struct fr_error err;
	int code, closed;

	if (!path)
		return EXIT_CANNOT;
	if (c->n_path > 1 || (c->n_path == 1 && from == FROM_LINE))
		return complain(EXIT_USAGE, "one MODEL expected, got %zu", c->n_path + (from == FROM_LINE));
	opts = model_options(c, path);
	if (fr_model_load(&opts, &model, &err))
		return report_missing(c, &opts, &err);
	code = output_open(&out, c->v.output);
	if (code == 0) {
		code = report(c, model, out.file);
		out.any = 1;
		closed = output_close(&out, code == 0);
		code = code ? code : closed;
	}
	fr_model_free(model);
	return code;
}

/* The bytes of the image to dump; none with --pixels. */
static int read_image(const struct cli *c, struct buf *bytes)
{
	struct fr_error err;
	const char *path;
	int fd, rc;

	if (c->n_path != !c->v.pixels)
		return complain(EXIT_USAGE,
				c->v.pixels ? "--pixels takes the place of the image, got %zu images too"
					    : "one image expected, got %zu",
				c->n_path);
	if (c->v.pixels)
		return 0;
	path = c->path[0];
	fd = strcmp(path, "-") == 0 ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return complain(EXIT_SOME_FAILED, "%s: cannot be opened (%s)", path, strerror(errno));
	rc = read_all(fd, path, bytes, &err);
	if (fd != STDIN_FILENO)
		close(fd);
	return rc ? complain(EXIT_SOME_FAILED, "%s", err.text) : 0;
}

static int dump(struct cli *c, const struct fr_model *model, const struct buf *image)
{
	const int steps = c->v.max_tokens < 0 ? 24 : c->v.max_tokens;
	struct fr_dump_opts o = {.image = c->v.pixels ? NULL : (const uint8_t *)(image->n ? image->at : ""),
				 .image_size = image->n,
				 .pixels_file = c->v.pixels,
				 .tap = c->v.tap,
				 .max_tokens = steps};
	struct fr_session_opts opts;
	struct fr_session *session = NULL;
	struct fr_error err = {0};
	int code = session_options(c, model, &opts);

	if (code)
		return code;
	opts.max_tokens = steps > 0 ? steps : 1; /* a session has room for one token at least */
	if (fr_session_new(model, &opts, &session, &err))
		return complain_error(&err);
	if (*fr_session_streamed(session) && !c->v.quiet)
		say("%s", fr_session_streamed(session));
	if (fr_dump(session, &o, c->v.output, &err)) {
		const int of_image = err.code == FR_E_FORMAT || err.code == FR_E_DAMAGED || err.code == FR_E_LIMIT;
		code = of_image ? complain(EXIT_SOME_FAILED, "%s: %s", c->path[0], err.text) : complain_error(&err);
	}
	fr_session_free(session);
	return code;
}

int cmd_dump(struct cli *c)
{
	struct fr_model *model = NULL;
	struct fr_model_opts opts;
	struct buf image = {0};
	struct fr_error err;
	const char *path = model_path(c);
	int code;

	if (!path)
		return EXIT_CANNOT;
	if (!c->v.output)
		return complain(EXIT_USAGE, "dump writes safetensors: name the file with -o OUT.safetensors");
	opts = model_options(c, path);
	code = read_image(c, &image);
	if (code == 0 && fr_model_load(&opts, &model, &err))
		code = complain_error(&err);
	if (code == 0)
		code = dump(c, model, &image);
	fr_model_free(model);
	buf_free(&image);
	return code;
}

int cmd_diff(struct cli *c)
{
	struct fr_error err;
	int rc;

	if (c->n_path != 2)
		return complain(EXIT_USAGE, "two dumps expected, got %zu", c->n_path);
	rc = fr_diff(c->path[0], c->path[1], c->v.rel, stdout, &err);
	if (fflush(stdout))
		return complain(EXIT_CANNOT, "stdout cannot be written (%s)", strerror(errno));
	return rc < 0 ? complain_error(&err) : rc;
}

int cmd_selftest(struct cli *c)
{
	struct fr_error err;
	int rc;

	if (c->n_path)
		return complain(EXIT_USAGE, "selftest takes no arguments, got '%s'", c->path[0]);
	rc = fr_selftest(stdout, &err);
	if (fflush(stdout))
		return complain(EXIT_CANNOT, "stdout cannot be written (%s)", strerror(errno));
	return rc ? complain_error(&err) : EXIT_DONE;
}
