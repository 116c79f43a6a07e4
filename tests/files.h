/* Files for tests: a folder of the test's own below $TMPDIR, gone when the program ends, and safetensors as bytes. */
#ifndef FR_TEST_FILES_H
#define FR_TEST_FILES_H

#include <ftw.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char files_root[256];

static inline int files_remove(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	return remove(path);
}
static inline void files_end(void)
{
	if (*files_root)
		nftw(files_root, files_remove, 16, FTW_DEPTH | FTW_PHYS);
}
/* The path of NAME in the test's folder, in one of a few static buffers. */
static inline const char *files_path(const char *name)
{
	static char paths[8][1024];
	static int next;
	const char *tmp = getenv("TMPDIR");
	char *p = paths[next++ % 8];

	if (!*files_root) {
		snprintf(files_root, sizeof files_root, "%s/fr-test-XXXXXX", tmp && *tmp ? tmp : "/tmp");
		if (!mkdtemp(files_root)) {
			perror(files_root);
			exit(1);
		}
		atexit(files_end);
	}
	snprintf(p, sizeof paths[0], "%s/%s", files_root, name);
	return p;
}
static inline const char *files_dir(const char *name)
{
	const char *p = files_path(name);

	mkdir(p, 0700);
	return p;
}
static inline const char *files_put(const char *name, const void *bytes, size_t size)
{
	const char *p = files_path(name);
	FILE *f = fopen(p, "wb");

	if (!f || fwrite(bytes, 1, size, f) != size || fclose(f) != 0) {
		perror(p);
		exit(1);
	}
	return p;
}
static inline const char *files_text(const char *name, const char *text)
{
	return files_put(name, text, strlen(text));
}
/* A safetensors file of a header text and data_size bytes 0, 1, 2, ...: malloc'd, of its exact size. */
static inline uint8_t *files_safetensors(const char *header, size_t data_size, size_t *size)
{
	size_t n = strlen(header);
	uint8_t *p = malloc(8 + n + data_size);

	for (int i = 0; i < 8; i++)
		p[i] = (uint8_t)((uint64_t)n >> 8 * i);
	memcpy(p + 8, header, n);
	for (size_t i = 0; i < data_size; i++)
		p[8 + n + i] = (uint8_t)i;
	*size = 8 + n + data_size;
	return p;
}
static inline const char *files_put_safetensors(const char *name, const char *header, size_t data_size)
{
	size_t size;
	uint8_t *bytes = files_safetensors(header, data_size, &size);
	const char *p = files_put(name, bytes, size);

	free(bytes);
	return p;
}

#endif
