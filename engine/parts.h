/* What a model is put together from: its own directory, and what that may leave to others: a CLIP, a DINOv2, the base
 * of a LoRA checkpoint. Each is looked for where the caller says, else where config.json says, else beside the model;
 * what is missing is one sentence with the places that were looked in. */
#ifndef FR_ENGINE_PARTS_H
#define FR_ENGINE_PARTS_H

#include "fr.h"
#include "../weights/bind.h"

/* What may lie elsewhere. */
enum fr_extra_kind { FR_EXTRA_BASE, FR_EXTRA_TOWER, FR_EXTRA_DINO, FR_EXTRAS };
#define FR_MAX_PLACES 8
struct fr_extra {
	int wanted;		     /* the model is not complete without it */
	char *path;		     /* where it is; NULL: nowhere, or not wanted */
	char *looked[FR_MAX_PLACES]; /* where it was looked for, in that order */
	int n_looked;
};
struct fr_parts {
	struct fr_source *src;	 /* the model's directory: config.json rules */
	struct fr_source *base;	 /* of a LoRA checkpoint: decoder and tokenizer; else NULL */
	struct fr_source *tower; /* of a CLIP of its own; else NULL */
	struct fr_extra extra[FR_EXTRAS];
	struct fr_store *store[FR_FROMS]; /* NULL: the model has no such part */
};
/* Opens the sources that opts and the files of opts->path ask for: what is missing is no error, its extra[].path is
 * NULL where it is wanted, and no store is opened. *out is to be closed in any case, of these two. */
int fr_parts_find(const struct fr_model_opts *opts, struct fr_parts *out, struct fr_error *err);
/* Only what the tokenizer needs: without a config.json the directory itself. */
int fr_parts_find_text(const struct fr_model_opts *opts, struct fr_parts *out, struct fr_error *err);
/* The stores of what was found. */
int fr_parts_open_stores(struct fr_parts *p, struct fr_error *err);
/* Fails with one sentence about all that was not found. */
int fr_parts_check(const struct fr_parts *p, struct fr_error *err);
void fr_parts_close(struct fr_parts *p);
const char *fr_extra_name(enum fr_extra_kind kind); /* "vision-tower" */
/* "DINOv2 is missing, name its file with --dino: looked for ... in A, B" into buf. */
void fr_extra_missing(const struct fr_extra *x, enum fr_extra_kind kind, char *buf, size_t size);
/* Returns rc. A sentence of FR_E_MODEL that does not name the path where gets it in front, in place of its last part. */
int fr_say_where(int rc, const char *where, struct fr_error *err);
/* Where the tokenizer's files are. */
struct fr_source *fr_parts_text(const struct fr_parts *p);
/* The bytes of a file as fr_source_file gives them; 1 also where the model has no such part. */
int fr_parts_file(const struct fr_parts *p, enum fr_desc_file which, const uint8_t **bytes, size_t *size,
		  struct fr_error *err);
/* First tensor of any store with a value that is NaN or infinite, or NULL; *index is the item. */
const struct fr_tensor *fr_parts_nonfinite(const struct fr_parts *p, size_t *index);

#endif
