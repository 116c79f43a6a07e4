/* The part of Python's pickle language that torch.save writes for a state dict, as a machine that can do nothing else.
 *
 * A pickle is a program. This one knows numbers, strings, tuples, lists, dicts, and the few classes and functions of
 * the table in pickle_class.c, none of which it calls: a rebuilt tensor stays the list of arguments that torch would
 * rebuild it from. Any other opcode, class or function is refused by its name. */
#ifndef FR_WEIGHTS_PICKLE_H
#define FR_WEIGHTS_PICKLE_H

#include "dtype.h"
#include "../engine/error.h"

enum fr_pkl_kind {
	FR_PKL_NONE,
	FR_PKL_BOOL,	/* i */
	FR_PKL_INT,	/* i */
	FR_PKL_FLOAT,	/* its value is not kept */
	FR_PKL_STRING,	/* s [len], no NUL at its end, points into the pickle */
	FR_PKL_BYTES,	/* the same */
	FR_PKL_LIST,	/* its items are not kept */
	FR_PKL_TUPLE,	/* items at i .. i + len */
	FR_PKL_DICT,	/* number i */
	FR_PKL_CLASS,	/* number i of the table of classes and functions */
	FR_PKL_STORAGE, /* the persistent id's 5 items at i: 'storage', class, key, location, number of items */
	FR_PKL_TENSOR,	/* the 6 or 7 arguments of _rebuild_tensor_v2 at i: storage, offset, size, stride, ... */
	FR_PKL_KINDS
};
struct fr_pkl_value {
	enum fr_pkl_kind kind;
	uint32_t len;
	union {
		int64_t i;
		const char *s;
	};
};
struct fr_pkl_pair {
	struct fr_pkl_value key, value;
	uint32_t next; /* of the same dict, as index + 1; 0: the last */
};
struct fr_pkl_dict {
	uint32_t first, last; /* pairs, as index + 1; 0: none */
};
/* What the pickle built. Strings point into its bytes; the rest is owned. */
struct fr_pickle {
	struct fr_pkl_value top;
	struct fr_pkl_value *items; /* of tuples */
	struct fr_pkl_pair *pairs;  /* of dicts, in the order of the pickle; a key may stand twice */
	struct fr_pkl_dict *dicts;
	size_t n_items, n_pairs, n_dicts;
};
/* Reads bytes [size] of `file`. Bounded: 32 MiB of pickle, 2^22 values of each sort, 2^16 on the stack, 256 deep. */
int fr_pickle_read(const uint8_t *bytes, size_t size, const char *file, struct fr_pickle *out, struct fr_error *err);
void fr_pickle_free(struct fr_pickle *p);
/* "a tuple": for messages. */
const char *fr_pkl_kind_name(enum fr_pkl_kind kind);
/* The items of a tuple, storage or tensor; NULL: it has none, or is something else. */
const struct fr_pkl_value *fr_pkl_items(const struct fr_pickle *p, const struct fr_pkl_value *v);

/* ---- the classes and functions that a pickle may name ---- */
enum fr_pkl_role {
	FR_PKL_ORDERED_DICT,
	FR_PKL_REBUILD_TENSOR,
	FR_PKL_REBUILD_PARAMETER,
	FR_PKL_STORAGE_CLASS,
};
/* 0 and *out, a value of kind FR_PKL_CLASS; -1: the table has no such name. */
int fr_pkl_class(const char *module, size_t module_len, const char *name, size_t name_len, struct fr_pkl_value *out);
enum fr_pkl_role fr_pkl_class_role(const struct fr_pkl_value *class);
/* The number format of a storage class: 0 and *dtype, or -1 if v is none. */
int fr_pkl_storage_dtype(const struct fr_pkl_value *v, enum fr_dtype *dtype);

#endif
