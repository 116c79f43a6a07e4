/* --map DIR: one PNG for each judged image, named after it.
 *
 * A name is the image's own without folder and ending, then 8 hex digits of its sha256: photo-3f2a9c1b.map.png. Two
 * files of the same bytes and name share one map. A name that is taken by something else (another image, or this one by
 * another model) is never overwritten: -2, -3 and so on come behind it. Files are written under another name and
 * renamed. */
#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define STEM 160	 /* bytes of the image's own name: the rest fits into 255 */
#define PROBE (64 << 10) /* bytes that must find room before the work begins */
#define TEMPS 100	 /* names that are tried */
#define HEAD 2048	 /* of a map, where its texts stand */

static int fail(const struct maps *m, const char *what, int number)
{
	return complain(EXIT_CANNOT, "--map %s: %s (%s)", m->dir, what, strerror(number));
}

static int write_all(int fd, const uint8_t *at, size_t n)
{
	while (n) {
		const ssize_t done = write(fd, at, n);
		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return done < 0 ? errno : EIO;
		at += done;
		n -= (size_t)done;
	}
	return 0;
}

/* Bytes into a new file of the folder: 0 or errno, and then there is no file. */
static int write_file(const struct maps *m, const char *name, const uint8_t *at, size_t n)
{
	const int fd = openat(m->fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	int number;

	if (fd < 0)
		return errno;
	number = write_all(fd, at, n);
	if (close(fd) != 0 && !number)
		number = errno;
	if (number)
		unlinkat(m->fd, name, 0);
	return number;
}

/* A name for what is being written that no other has: of a run that was killed something may have stayed, and in
 * containers the next one has its process number. 0 or errno. */
static int try_temp(struct maps *m)
{
	static const uint8_t probe[PROBE];
	int number = EEXIST;

	for (int k = 1; k <= TEMPS && number == EEXIST; k++) {
		snprintf(m->temp, sizeof m->temp, ".%ld.%d.map.partial", (long)getpid(), k);
		number = write_file(m, m->temp, probe, sizeof probe);
	}
	if (!number)
		unlinkat(m->fd, m->temp, 0);
	return number;
}

int maps_open(struct maps *m, const char *dir)
{
	int number;

	*m = (struct maps){.dir = dir, .fd = -1};
	if (!dir)
		return 0;
	m->made = mkdir(dir, 0777) == 0;
	if (!m->made && errno != EEXIST)
		return fail(m, "the folder cannot be made", errno);
	m->fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (m->fd < 0)
		return fail(m, "cannot be opened as a folder", errno);
	number = try_temp(m);
	return number ? fail(m, "no map can be written there", number) : 0;
}

void maps_close(struct maps *m)
{
	if (!m->dir)
		return;
	if (m->fd >= 0)
		close(m->fd);
	if (m->made && !m->written)
		rmdir(m->dir);
}

/* The image's own name, as a name of a file that is not hidden, is no option and does no harm where it is shown. */
static void add_stem(struct buf *b, const char *path)
{
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path, *dot = strrchr(name, '.');
	const size_t n = dot && dot > name ? (size_t)(dot - name) : strlen(name);

	if (strcmp(path, "-") == 0) {
		buf_puts(b, "stdin");
		return;
	}
	for (size_t i = 0; i < n;) {
		int32_t cp;
		const size_t len = utf8_next(name + i, n - i, &cp);
		if (i + len > STEM)
			break;
		if (char_harmful(cp) || (i == 0 && (cp == '.' || cp == '-')))
			buf_puts(b, "_");
		else
			buf_add(b, name + i, len);
		i += len;
	}
	if (!b->n)
		buf_puts(b, "image");
}

static int holds(const char *head, size_t n, const char *key, const char *value)
{
	char text[128];
	const size_t len = (size_t)snprintf(text, sizeof text, "%s%c%s", key, 0, value);

	return memmem(head, n, text, len) != NULL;
}

/* Is the file of this name a map of the same image by the same model? */
static int is_ours(const struct maps *m, const char *name, const char *sha256, const char *model)
{
	const int fd = openat(m->fd, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	char head[HEAD];
	const ssize_t n = fd < 0 ? -1 : read(fd, head, sizeof head);

	if (fd >= 0)
		close(fd);
	return n > 0 && holds(head, (size_t)n, "Image-SHA256", sha256) && holds(head, (size_t)n, "Model-Hash", model);
}

/* The temporary file gets the first name that is free, or that has this map already: 0 or errno. */
static int take_name(struct maps *m, const char *path, const char *sha256, const char *model, struct buf *name)
{
	struct buf stem = {0};
	int number = 0;

	add_stem(&stem, path);
	for (unsigned k = 1; k; k++) {
		name->n = 0;
		buf_add(name, stem.at, stem.n);
		buf_printf(name, "-%.8s", sha256);
		if (k > 1)
			buf_printf(name, "-%u", k);
		buf_puts(name, ".map.png");
		number = renameat2(m->fd, m->temp, m->fd, buf_text(name), RENAME_NOREPLACE) ? errno : 0;
		if (number == EINVAL || number == ENOSYS) /* a file system that cannot promise that */
			number = faccessat(m->fd, buf_text(name), F_OK, AT_SYMLINK_NOFOLLOW) == 0 ? EEXIST : EINVAL;
		if (number == EINVAL || (number == EEXIST && is_ours(m, buf_text(name), sha256, model)))
			number = renameat(m->fd, m->temp, m->fd, buf_text(name)) ? errno : 0;
		if (number != EEXIST)
			break;
	}
	buf_free(&stem);
	return number;
}

int maps_write(struct maps *m, const char *path, const char *sha256, const char *model, const uint8_t *png, size_t size,
	       struct buf *out)
{
	struct buf name = {0};
	int number = write_file(m, m->temp, png, size);

	out->n = 0;
	if (!number)
		number = take_name(m, path, sha256, model, &name);
	if (number) {
		unlinkat(m->fd, m->temp, 0);
		buf_free(&name);
		return fail(m, "a map cannot be written", number);
	}
	m->written++;
	buf_printf(out, "%s%s%s", m->dir, m->dir[strlen(m->dir) - 1] == '/' ? "" : "/", buf_text(&name));
	buf_free(&name);
	return 0;
}
