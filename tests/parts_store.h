/* Stores with the names and shapes of a list and no data: zeros that take no memory until they are read. */
#ifndef FR_TEST_PARTS_STORE_H
#define FR_TEST_PARTS_STORE_H

#include "parts_file.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* The header of a safetensors file with the store's tensors, malloc'd; *end bytes of data belong to it. */
static inline char *parts_header(const struct parts_list *f, enum fr_from from, size_t *size, size_t *end)
{
	char *text = NULL;
	FILE *out = open_memstream(&text, size);
	int n = 0;

	*end = 0;
	fputc('{', out);
	for (int i = 0; i < f->n; i++) {
		const struct parts_item *t = &f->at[i];
		size_t bytes = (size_t)fr_dtypes[t->dtype].bytes;

		if (t->from != from)
			continue;
		fprintf(out, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[", n++ ? "," : "", t->name,
			fr_dtypes[t->dtype].st_name);
		for (int d = 0; d < t->ndim; d++) {
			fprintf(out, "%s%lld", d ? "," : "", (long long)t->shape[d]);
			bytes *= (size_t)t->shape[d];
		}
		fprintf(out, "],\"data_offsets\":[%zu,%zu]}", *end, *end + bytes);
		*end += bytes;
	}
	fputc('}', out);
	fclose(out);
	return text;
}

/* NULL: no tensor of the list is of that store. The caller closes it. */
static inline struct fr_store *parts_store(const struct parts_list *f, enum fr_from from)
{
	struct fr_store *store = NULL;
	struct fr_error err = {0};
	uint8_t length[8];
	size_t size, end;
	char *header = parts_header(f, from, &size, &end), path[64];
	int fd = memfd_create("store", 0);

	for (int i = 0; i < 8; i++)
		length[i] = (uint8_t)((uint64_t)size >> 8 * i);
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	if (size > 2 && (ftruncate(fd, (off_t)(8 + size + end)) != 0 || pwrite(fd, length, 8, 0) != 8 ||
			 pwrite(fd, header, size, 8) != (ssize_t)size || fr_store_open_file(path, &store, &err) != 0)) {
		fprintf(stderr, "a store of the test cannot be made: %s\n", err.text);
		exit(1);
	}
	close(fd);
	free(header);
	return store;
}

#endif
