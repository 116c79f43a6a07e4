/* Where the files of a model are: a directory, or the demo model's blobs inside the binary.
 *
 * Members are mapped when first asked for and stay so until the source is closed; whoever holds views into them needs
 * no copy. Only the word "demo" means the demo model: a directory of that name is "./demo". */
#include "weights.h"
#include "demo/demo.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

struct member {
	char *name;
	const uint8_t *bytes;
	size_t size;
	struct member *next;
};
struct fr_source {
	char *path;
	int demo;
	struct member *members;
};

int fr_source_open(const char *path, struct fr_source **out, struct fr_error *err)
{
	struct fr_source *src;
	struct stat st;
	int demo = strcmp(path, "demo") == 0;

	*out = NULL;
	if (!demo && stat(path, &st) != 0)
		return fr_fail(err, FR_E_MODEL, "model %s: cannot be opened: %s", path, strerror(errno));
	if (!demo && !S_ISDIR(st.st_mode))
		return fr_fail(err, FR_E_MODEL,
			       "model %s: expected a directory with config.json and weights, got a file", path);
	src = calloc(1, sizeof *src);
	if (src)
		src->path = strdup(path);
	if (!src || !src->path) {
		free(src);
		return fr_fail(err, FR_E_MEMORY, "model %s: no memory to open it", path);
	}
	src->demo = demo;
	*out = src;
	return 0;
}

void fr_source_close(struct fr_source *src)
{
	if (!src)
		return;
	while (src->members) {
		struct member *m = src->members;

		src->members = m->next;
		if (!src->demo)
			fr_map_close(m->bytes, m->size);
		free(m->name);
		free(m);
	}
	free(src->path);
	free(src);
}

int fr_source_is_demo(const struct fr_source *src)
{
	return src->demo;
}

const char *fr_source_path(const struct fr_source *src)
{
	return src->path;
}

static int find_blob(const char *name, struct member *m)
{
	for (size_t i = 0; i < fr_demo_blob_count; i++)
		if (strcmp(fr_demo_blobs[i].name, name) == 0) {
			m->bytes = fr_demo_blobs[i].begin;
			m->size = (size_t)(fr_demo_blobs[i].end - fr_demo_blobs[i].begin);
			return 0;
		}
	return 1;
}

static int find_file(const struct fr_source *src, const char *name, struct member *m, struct fr_error *err)
{
	char *path = NULL;
	struct stat st;
	int rc = 0;

	if (asprintf(&path, "%s/%s", src->path, name) < 0)
		return fr_fail(err, FR_E_MEMORY, "%s: no memory to open it", name);
	if (stat(path, &st) != 0 && (errno == ENOENT || errno == ENOTDIR))
		rc = 1;
	else if (fr_map_open(path, &m->bytes, &m->size, err) != 0) {
		rc = -1;
		if (err && err->code == FR_E_IO)
			err->code = FR_E_MODEL;
	}
	free(path);
	return rc;
}

int fr_source_file(struct fr_source *src, const char *name, const uint8_t **bytes, size_t *size, struct fr_error *err)
{
	struct member *m;
	int rc;

	for (m = src->members; m; m = m->next)
		if (strcmp(m->name, name) == 0)
			break;
	if (!m) {
		m = calloc(1, sizeof *m);
		if (!m || !(m->name = strdup(name))) {
			free(m);
			return fr_fail(err, FR_E_MEMORY, "%s: no memory to open it", name);
		}
		rc = src->demo ? find_blob(name, m) : find_file(src, name, m, err);
		if (rc != 0) {
			free(m->name);
			free(m);
			return rc;
		}
		m->next = src->members;
		src->members = m;
	}
	*bytes = m->bytes;
	*size = m->size;
	return 0;
}

static int ends_with(const char *name, const char *suffix)
{
	size_t n = strlen(name), k = strlen(suffix);

	return n >= k && strcmp(name + n - k, suffix) == 0;
}

int fr_source_count(struct fr_source *src, const char *suffix, char *first, size_t size)
{
	struct dirent *e;
	int n = 0;
	DIR *d;

	first[0] = 0;
	for (size_t i = 0; src->demo && i < fr_demo_blob_count; i++)
		if (ends_with(fr_demo_blobs[i].name, suffix) && n++ == 0)
			snprintf(first, size, "%s", fr_demo_blobs[i].name);
	if (src->demo || !(d = opendir(src->path)))
		return n;
	while ((e = readdir(d)))
		if (e->d_name[0] != '.' && ends_with(e->d_name, suffix)) {
			if (n++ == 0 || strcmp(e->d_name, first) < 0)
				snprintf(first, size, "%s", e->d_name);
		}
	closedir(d);
	return n;
}
