/* The safetensors writer: header first, then the data as it comes, the file in place only when it is whole. */
#include "weights.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define DATA_ALIGN 64 /* the header is filled up with spaces, so that the first tensor lies on a cache line */

struct fr_st_writer {
	char *path, *tmp;
	FILE *file;
	uint64_t expected, written;
};

static void put_json_string(FILE *f, const char *s)
{
	fputc('"', f);
	for (; *s; s++) {
		if (*s == '"' || *s == '\\')
			fprintf(f, "\\%c", *s);
		else if ((unsigned char)*s < 0x20)
			fprintf(f, "\\u%04x", (unsigned char)*s);
		else
			fputc(*s, f);
	}
	fputc('"', f);
}

static void put_header(FILE *f, const struct fr_tensor *table, size_t n, const char *metadata, uint64_t *data_bytes)
{
	uint64_t at = 0;

	fputc('{', f);
	if (metadata)
		fprintf(f, "\"__metadata__\":%s", metadata);
	for (size_t i = 0; i < n; i++) {
		uint64_t end = at + fr_tensor_items(&table[i]) * (uint64_t)fr_dtypes[table[i].dtype].bytes;

		fputs(i || metadata ? "," : "", f);
		put_json_string(f, table[i].name);
		fprintf(f, ":{\"dtype\":\"%s\",\"shape\":[", fr_dtypes[table[i].dtype].st_name);
		for (int d = 0; d < table[i].ndim; d++)
			fprintf(f, "%s%lld", d ? "," : "", (long long)table[i].shape[d]);
		fprintf(f, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)at, (unsigned long long)end);
		at = end;
	}
	fputc('}', f);
	*data_bytes = at;
}

/* Length, header, spaces up to the alignment. */
static int write_header(struct fr_st_writer *w, const struct fr_tensor *table, size_t n, const char *metadata,
			struct fr_error *err)
{
	char *text = NULL;
	size_t size = 0;
	FILE *f = open_memstream(&text, &size);
	uint8_t length[8];
	int failed = 1;

	if (f) {
		put_header(f, table, n, metadata, &w->expected);
		while ((ftell(f) + 8) % DATA_ALIGN)
			fputc(' ', f);
		failed = ferror(f);
		failed |= fclose(f) != 0;
	}
	if (failed) {
		free(text);
		return fr_fail(err, FR_E_MEMORY, "%s: no memory for its header", w->path);
	}
	for (int i = 0; i < 8; i++)
		length[i] = (uint8_t)(size >> 8 * i);
	failed = fwrite(length, 1, 8, w->file) != 8 || fwrite(text, 1, size, w->file) != size;
	free(text);
	return failed ? fr_fail(err, FR_E_IO, "%s: cannot be written: %s", w->tmp, strerror(errno)) : 0;
}

int fr_st_create(const char *path, const struct fr_tensor *table, size_t n, const char *metadata,
		 struct fr_st_writer **out, struct fr_error *err)
{
	struct fr_st_writer *w = calloc(1, sizeof *w);

	*out = NULL;
	for (size_t i = 0; i < n; i++)
		if (!fr_dtypes[table[i].dtype].st_name) {
			free(w);
			return fr_fail(err, FR_E_USAGE, "%s: tensor %.200s is %s, which safetensors has no word for",
				       path, table[i].name, fr_dtypes[table[i].dtype].name);
		}
	if (!w || !(w->path = strdup(path)) || asprintf(&w->tmp, "%s.tmp.%ld", path, (long)getpid()) < 0) {
		if (w) {
			free(w->path);
			free(w);
		}
		return fr_fail(err, FR_E_MEMORY, "%s: no memory to write it", path);
	}
	w->file = fopen(w->tmp, "wbe");
	if (!w->file) {
		fr_fail(err, FR_E_IO, "%s: cannot be created: %s", w->tmp, strerror(errno));
		fr_st_abandon(w);
		return -1;
	}
	if (write_header(w, table, n, metadata, err) != 0) {
		fr_st_abandon(w);
		return -1;
	}
	*out = w;
	return 0;
}

int fr_st_append(struct fr_st_writer *w, const void *data, size_t bytes, struct fr_error *err)
{
	if (bytes > w->expected - w->written)
		return fr_fail(err, FR_E_IO, "%s: its header promised %llu bytes of data, more were given", w->path,
			       (unsigned long long)w->expected);
	if (fwrite(data, 1, bytes, w->file) != bytes)
		return fr_fail(err, FR_E_IO, "%s: cannot be written: %s", w->tmp, strerror(errno));
	w->written += bytes;
	return 0;
}

int fr_st_close(struct fr_st_writer *w, struct fr_error *err)
{
	int rc = 0;

	if (w->written != w->expected)
		rc = fr_fail(err, FR_E_IO, "%s: its header promised %llu bytes of data, only %llu were given", w->path,
			     (unsigned long long)w->expected, (unsigned long long)w->written);
	if (fclose(w->file) != 0 && rc == 0)
		rc = fr_fail(err, FR_E_IO, "%s: cannot be written: %s", w->tmp, strerror(errno));
	w->file = NULL;
	if (rc == 0 && rename(w->tmp, w->path) != 0)
		rc = fr_fail(err, FR_E_IO, "%s: cannot be put in place: %s", w->path, strerror(errno));
	if (rc == 0) {
		free(w->tmp);
		w->tmp = NULL;
	}
	fr_st_abandon(w);
	return rc;
}

void fr_st_abandon(struct fr_st_writer *w)
{
	if (!w)
		return;
	if (w->file)
		fclose(w->file);
	if (w->tmp)
		unlink(w->tmp);
	free(w->tmp);
	free(w->path);
	free(w);
}
