/* Named views over mapped files: what a checkpoint is once its container format is gone. */
#ifndef FR_WEIGHTS_H
#define FR_WEIGHTS_H

#include "dtype.h"
#include "../engine/error.h"

#define FR_MAX_DIMS 8

/* A view: owns nothing. data points into a mapped file and may be unaligned. */
struct fr_tensor {
	const char *name;
	const char *file; /* for messages: the file's base name */
	enum fr_dtype dtype;
	int ndim;
	int64_t shape[FR_MAX_DIMS];
	const void *data;
	size_t bytes;
};
size_t fr_tensor_items(const struct fr_tensor *t);
/* "[577, 1024]" into buf; returns buf. */
char *fr_shape_text(const int64_t *shape, int ndim, char *buf, size_t size);
/* 1 with the first item that is NaN or infinite, 0 if all are finite or the dtype has no such values. */
int fr_tensor_nonfinite(const struct fr_tensor *t, size_t *index);

/* ---- where the files of a model are: a directory, or the blobs linked into the binary ---- */
struct fr_source;
int fr_source_open(const char *path, struct fr_source **out, struct fr_error *err); /* "demo" or a directory */
void fr_source_close(struct fr_source *src);
int fr_source_is_demo(const struct fr_source *src);
const char *fr_source_path(const struct fr_source *src);
/* The bytes of a member (mapped read-only, valid until close). Returns 0 found, 1 absent, -1 present but unreadable. */
int fr_source_file(struct fr_source *src, const char *name, const uint8_t **bytes, size_t *size, struct fr_error *err);
/* How many members end in suffix (".safetensors"), hidden ones left out; the first in byte order goes into
 * first [size], "" if none. */
int fr_source_count(struct fr_source *src, const char *suffix, char *first, size_t size);
/* Maps any file read-only; an empty file gives size 0 and bytes non-NULL; a pointer of Git LFS in place of the file is
 * refused as such. The mapping is registered so that a SIGBUS in it can be named: fr_map_at() is async-signal-safe and
 * returns the path of the mapping that holds addr, or NULL. */
int fr_map_open(const char *path, const uint8_t **bytes, size_t *size, struct fr_error *err);
void fr_map_close(const uint8_t *bytes, size_t size);
/* Starts reading these bytes of a mapping, and only these, without waiting. A hint: nothing is said when it fails. */
void fr_map_fetch(const void *bytes, size_t size);
/* Gives these bytes' whole pages back, in the process and in the page cache: they are read again when they are next used.
 * A hint too. Bytes that lie in no mapping stay as they are. */
void fr_map_drop(const void *bytes, size_t size);
const char *fr_map_at(const void *addr);

/* ---- safetensors: bytes -> views. The result owns the names, not the data (but see torch.h). ---- */
struct fr_tensors {
	struct fr_tensor *at;
	size_t n;
	char *names;	/* arena */
	char *metadata; /* JSON text of __metadata__, or NULL */
	void **copies;	/* owned: the data of tensors that cannot be used in the file */
	size_t n_copies, copied_bytes;
};
/* bytes [size] and file stay owned by the caller and must outlive the views, which come in the order of their data.
 * Checks all: header length, JSON, dtype, shape x dtype == span, spans inside the buffer, no overlap, no holes, no
 * duplicate names. */
int fr_safetensors_parse(const uint8_t *bytes, size_t size, const char *file, struct fr_tensors *out,
			 struct fr_error *err);
void fr_tensors_free(struct fr_tensors *t);

/* ---- safetensors writer: names, shapes and dtypes first, then the data tensor by tensor in that order ---- */
struct fr_st_writer;
/* Writes to PATH.tmp.<pid>, renamed on close. metadata: JSON object of strings, or NULL. */
int fr_st_create(const char *path, const struct fr_tensor *table, size_t n, const char *metadata,
		 struct fr_st_writer **out, struct fr_error *err);
/* The data in any slicing. */
int fr_st_append(struct fr_st_writer *w, const void *data, size_t bytes, struct fr_error *err);
/* Checks that all bytes came and puts the file in place; frees w in any case. */
int fr_st_close(struct fr_st_writer *w, struct fr_error *err);
/* Removes the temporary file and frees w, which may be NULL. */
void fr_st_abandon(struct fr_st_writer *w);

/* ---- all tensors of a checkpoint: one file, or shards with their index ---- */
struct fr_store;
/* Finds model.safetensors.index.json (every shard named there must be there and hold what the index says), else
 * model.safetensors, else pytorch_model.bin.index.json, else pytorch_model.bin, else a single *.safetensors. Files whose
 * names end in .bin, .pth or .pt, and zip archives, are torch's (torch.h), all others safetensors. */
int fr_store_open(struct fr_source *src, struct fr_store **out, struct fr_error *err);
/* The first of the names [n] that the source has. */
int fr_store_open_named(struct fr_source *src, const char *const *names, size_t n, struct fr_store **out,
			struct fr_error *err);
/* One file wherever it lies, mapped by the store and closed with it. Tensors carry its base name. */
int fr_store_open_file(const char *path, struct fr_store **out, struct fr_error *err);
void fr_store_close(struct fr_store *st);
const struct fr_tensor *fr_store_find(const struct fr_store *st, const char *name); /* NULL: absent; O(log n) */
size_t fr_store_count(const struct fr_store *st);
const struct fr_tensor *fr_store_at(const struct fr_store *st, size_t i); /* sorted by name */
/* Tensors that were copied on opening, and their bytes. */
size_t fr_store_copies(const struct fr_store *st, size_t *bytes);
/* First tensor with a value that is NaN or infinite, or NULL: tensors in name order; *index is the item. */
const struct fr_tensor *fr_store_nonfinite(const struct fr_store *st, size_t *index);

#endif
