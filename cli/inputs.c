/* From arguments to one image after another: files, folders, stdin, lists of paths.
 *
 * A folder is read recursively and its files go by byte order of their paths; hidden ones and links to folders are left
 * out, and a file in it counts when its first bytes are an image's. Only names are held: an image's bytes are read when
 * its turn comes (read, not mapped: a file that shrinks meanwhile is a damaged image, no signal). */
#include "cli.h"

#include "../engine/error.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_FILE ((size_t)1 << 30) /* no image file is larger in earnest; a device file may never end */
#define SNIFF 4096		   /* bytes that tell an image from other files */

enum kind { NAMED, STDIN, EMPTY_FOLDER, UNREADABLE_FOLDER, CUT_LINE, BROKEN_LIST };
struct entry {
	char *path;
	int folder; /* 1 + index of the folder it was found in; 0: named on the line or in a list */
	enum kind kind;
	int number; /* errno of UNREADABLE_FOLDER and BROKEN_LIST */
};
struct folder {
	char *path;
	size_t left, images, others; /* left: files not yet looked at */
};
struct inputs {
	struct entry *at;
	size_t n, next, cap;
	struct folder *folder;
	size_t n_folders;
	int list;	  /* file descriptor, -1: none */
	struct buf lines; /* what was read of it; from line_at on not yet taken */
	size_t line_at;
	int nul, list_ended;
	struct entry now; /* the entry in hand and its bytes */
	struct buf bytes;
	size_t given, skipped, columns;
};

static void *grown(void *at, size_t n, size_t size)
{
	void *p = reallocarray(at, n, size);

	if (!p)
		exit(complain(EXIT_CANNOT, "no memory for a list of %zu paths", n));
	return p;
}

static void add(struct inputs *in, char *path, int folder, enum kind kind, int number)
{
	const size_t columns = text_columns(path, strlen(path));

	if (in->n == in->cap) {
		in->cap = in->cap ? 2 * in->cap : 64;
		in->at = grown(in->at, in->cap, sizeof *in->at);
	}
	if (columns > in->columns)
		in->columns = columns;
	in->at[in->n++] = (struct entry){.path = path, .folder = folder, .kind = kind, .number = number};
}

/* ---- folders ---- */

static char *join(const char *dir, const char *name)
{
	struct buf b = {0};
	char *path;

	buf_printf(&b, "%s%s%s", dir, *dir && dir[strlen(dir) - 1] == '/' ? "" : "/", name);
	path = copy_text(buf_text(&b));
	buf_free(&b);
	return path;
}

/* One name of a folder: a file becomes an entry, a folder goes on the stack, anything else is passed by. */
static void take_name(struct inputs *in, const char *dir, const char *name, int folder, char ***stack, size_t *depth)
{
	char *path = join(dir, name);
	struct stat st = {0};

	if (lstat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
		*stack = grown(*stack, *depth + 1, sizeof **stack);
		(*stack)[(*depth)++] = path;
		return;
	}
	if (stat(path, &st) == 0 && S_ISREG(st.st_mode)) {
		add(in, path, folder, NAMED, 0);
		return;
	}
	if (!S_ISDIR(st.st_mode)) { /* a link to a folder is passed by, as a hidden name is */
		in->skipped++;
		in->folder[folder - 1].others++;
	}
	free(path);
}

static int by_bytes(const void *a, const void *b)
{
	return strcmp(((const struct entry *)a)->path, ((const struct entry *)b)->path);
}

static void add_folder(struct inputs *in, const char *path)
{
	const size_t first = in->n;
	char **stack = grown(NULL, 1, sizeof *stack);
	size_t depth = 1;
	int folder;

	in->folder = grown(in->folder, in->n_folders + 1, sizeof *in->folder);
	in->folder[in->n_folders++] = (struct folder){.path = copy_text(path)};
	folder = (int)in->n_folders;
	stack[0] = copy_text(path);
	while (depth) {
		char *dir = stack[--depth];
		DIR *d = opendir(dir);
		struct dirent *e;
		if (!d)
			add(in, copy_text(dir), 0, UNREADABLE_FOLDER, errno);
		while (d && (e = readdir(d)))
			if (e->d_name[0] != '.')
				take_name(in, dir, e->d_name, folder, &stack, &depth);
		if (d)
			closedir(d);
		free(dir);
	}
	free(stack);
	if (in->n > first)
		qsort(in->at + first, in->n - first, sizeof *in->at, by_bytes);
	else
		add(in, copy_text(path), folder, EMPTY_FOLDER, 0);
	in->folder[folder - 1].left = in->n - first;
}

/* ---- the queue ---- */

static void add_path(struct inputs *in, const char *path, int may_be_stdin)
{
	struct stat st;

	if (may_be_stdin && strcmp(path, "-") == 0)
		add(in, copy_text(path), 0, STDIN, 0);
	else if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
		add_folder(in, path);
	else
		add(in, copy_text(path), 0, NAMED, 0);
}

static int open_list(struct inputs *in, const char *files_from)
{
	in->list = strcmp(files_from, "-") == 0 ? STDIN_FILENO : open(files_from, O_RDONLY | O_CLOEXEC);
	if (in->list < 0)
		return complain(EXIT_USAGE, "%s: the list of paths cannot be read (%s)", files_from, strerror(errno));
	return 0;
}

int inputs_open(struct inputs **out, char **path, size_t n_path, const char *files_from, int nul)
{
	struct inputs *in = grown(NULL, 1, sizeof *in);
	int readers = files_from && strcmp(files_from, "-") == 0, code = 0;

	*in = (struct inputs){.nul = nul, .list = -1};
	*out = in;
	for (size_t i = 0; i < n_path; i++)
		readers += strcmp(path[i], "-") == 0;
	if (readers > 1)
		return complain(EXIT_USAGE, "stdin ('-') can be read once, but is named %d times", readers);
	if (files_from)
		code = open_list(in, files_from);
	for (size_t i = 0; i < n_path && !code; i++)
		add_path(in, path[i], 1);
	return code;
}

void inputs_close(struct inputs *in)
{
	for (size_t i = in->next; i < in->n; i++)
		free(in->at[i].path);
	for (size_t i = 0; i < in->n_folders; i++)
		free(in->folder[i].path);
	if (in->list > STDIN_FILENO)
		close(in->list);
	free(in->at);
	free(in->folder);
	free(in->now.path);
	buf_free(&in->lines);
	buf_free(&in->bytes);
	free(in);
}

/* Reads on in the list: 1, or 0 when it has ended, or with wait = 0 has nothing at hand. */
static int read_list(struct inputs *in, int wait)
{
	struct pollfd ready = {.fd = in->list, .events = POLLIN};
	char chunk[4096];
	ssize_t n;

	if (in->list_ended || (!wait && poll(&ready, 1, 0) <= 0))
		return 0;
	do
		n = read(in->list, chunk, sizeof chunk);
	while (n < 0 && errno == EINTR && !signals_caught());
	if (n > 0) {
		if (in->line_at)
			memmove(in->lines.at, in->lines.at + in->line_at, in->lines.n - in->line_at);
		in->lines.n -= in->line_at;
		in->line_at = 0;
		buf_add(&in->lines, chunk, (size_t)n);
		return 1;
	}
	in->list_ended = 1;
	if (n < 0 && errno != EINTR)
		add(in, copy_text(in->list == STDIN_FILENO ? "stdin" : "the list"), 0, BROKEN_LIST, errno);
	return 0;
}

/* The next line that is not empty as copied text [*len], or NULL. The last one may lack its end. */
static char *next_line(struct inputs *in, int wait, size_t *len)
{
	for (;;) {
		const char *from = in->lines.at + in->line_at;
		const size_t left = in->lines.n - in->line_at;
		const char *end = left ? memchr(from, in->nul ? 0 : '\n', left) : NULL;
		char *line;
		if (!end && read_list(in, wait))
			continue;
		if (!end && (!in->list_ended || !left || signals_caught()))
			return NULL;
		*len = end ? (size_t)(end - from) : left;
		in->line_at += *len + (end != NULL);
		if (!*len)
			continue;
		line = grown(NULL, *len + 1, 1);
		memcpy(line, from, *len);
		line[*len] = 0;
		return line;
	}
}

/* One more path of the list into the queue; 0 at its end, or with wait = 0 when none is at hand. */
static int take_line(struct inputs *in, int wait)
{
	size_t len;
	char *line;

	if (in->list < 0)
		return 0;
	in->n = in->next = 0; /* all before is done: the queue does not grow with the list */
	line = next_line(in, wait, &len);
	if (line && strlen(line) != len)
		add(in, copy_text(line), 0, CUT_LINE, 0);
	else if (line)
		add_path(in, line, 0);
	free(line);
	return in->n > 0;
}

/* ---- bytes ---- */

static int read_up_to(int fd, const char *name, size_t limit, struct buf *out, struct fr_error *err)
{
	char chunk[65536];

	while (out->n < limit) {
		size_t want = limit - out->n < sizeof chunk ? limit - out->n : sizeof chunk;
		ssize_t n = read(fd, chunk, want);
		if (n == 0)
			break;
		if (n < 0 && errno == EINTR && !signals_caught())
			continue;
		if (n < 0)
			return fr_fail(err, FR_E_IO, "%s: cannot be read (%s)", name, strerror(errno));
		buf_add(out, chunk, (size_t)n);
	}
	return 0;
}

int read_all(int fd, const char *name, struct buf *out, struct fr_error *err)
{
	if (read_up_to(fd, name, MAX_FILE + 1, out, err))
		return -1;
	if (out->n > MAX_FILE)
		return fr_fail(err, FR_E_LIMIT, "%s: more than %zu bytes, expected a file of at most that", name,
			       MAX_FILE);
	return 0;
}

/* 1: read; 0: a folder's file that is no image; -1: *err says why not. */
static int read_entry(struct inputs *in, struct fr_error *err)
{
	const struct entry *e = &in->now;
	const char *name = e->kind == STDIN ? "stdin" : e->path;
	const int fd = e->kind == STDIN ? STDIN_FILENO : open(e->path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	int rc;

	if (fd < 0)
		return fr_fail(err, FR_E_IO, "%s: cannot be opened (%s)", name, strerror(errno));
	in->bytes.n = 0;
	rc = e->folder ? read_up_to(fd, name, SNIFF, &in->bytes, err) : 0;
	if (rc == 0 && e->folder && !fr_is_image(in->bytes.at, in->bytes.n))
		rc = 1;
	if (rc == 0)
		rc = read_all(fd, name, &in->bytes, err);
	if (e->kind != STDIN)
		close(fd);
	return rc < 0 ? -1 : !rc;
}

static int read_now(struct inputs *in, struct fr_error *err)
{
	switch (in->now.kind) {
	case EMPTY_FOLDER:
		return 0;
	case UNREADABLE_FOLDER:
		return fr_fail(err, FR_E_IO, "%s: the folder cannot be read (%s)", in->now.path,
			       strerror(in->now.number));
	case CUT_LINE:
		return fr_fail(err, FR_E_USAGE,
			       "%s: this line of the list holds a NUL byte (--null reads lists whose paths "
			       "end with one)",
			       in->now.path);
	case BROKEN_LIST:
		return fr_fail(err, FR_E_IO, "%s: the paths cannot be read on (%s)", in->now.path,
			       strerror(in->now.number));
	case NAMED:
	case STDIN:
		break;
	}
	return read_entry(in, err);
}

/* Counts what the entry in hand was; 1 when it was the last of a folder that held no image at all. */
static int count_in_folder(struct inputs *in, int is_image)
{
	struct folder *f = &in->folder[in->now.folder - 1];
	const int file = in->now.kind != EMPTY_FOLDER;

	f->left--;
	f->images += is_image != 0;
	f->others += !is_image && file;
	in->skipped += !is_image && file;
	return f->left == 0 && f->images == 0;
}

int inputs_next(struct inputs *in, struct fr_job *job, const char **path)
{
	for (;;) {
		int rc;
		if (signals_caught() || (in->next == in->n && !take_line(in, 1)))
			return 0;
		free(in->now.path);
		in->now = in->at[in->next++];
		rc = read_now(in, &job->error);
		if (signals_caught())
			return 0; /* a read that was interrupted is no damaged image */
		*path = in->now.path;
		if (in->now.folder && count_in_folder(in, rc)) {
			const struct folder *f = &in->folder[in->now.folder - 1];
			*path = f->path;
			rc = fr_fail(&job->error, FR_E_FORMAT, "%s: no image in this folder (other files: %zu)",
				     f->path, f->others);
		}
		if (rc == 0)
			continue;
		in->given++;
		job->bytes = rc > 0 ? (const uint8_t *)(in->bytes.n ? in->bytes.at : "") : NULL;
		job->size = rc > 0 ? in->bytes.n : 0;
		return 1;
	}
}

int inputs_ready(struct inputs *in)
{
	const struct entry *e;
	struct stat st;

	if (in->next == in->n && !take_line(in, 0))
		return in->list < 0 || in->list_ended;
	e = &in->at[in->next];
	return e->kind != STDIN && (e->kind != NAMED || stat(e->path, &st) != 0 || S_ISREG(st.st_mode));
}

size_t inputs_total(const struct inputs *in)
{
	return in->list >= 0 ? 0 : in->given + (in->n - in->next);
}

size_t inputs_skipped(const struct inputs *in)
{
	return in->skipped;
}

size_t inputs_columns(const struct inputs *in)
{
	return in->columns;
}
