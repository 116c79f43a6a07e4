/* The few names that a pickle of weights needs. A name is data here: nothing is looked up in any other place. */
#include "pickle.h"

/* torch writes the storage classes of its 1.x versions to this day; an untyped storage is bytes. */
static const struct {
	const char *module, *name;
	enum fr_pkl_role role;
	enum fr_dtype dtype; /* of a storage */
} classes[] = {
	{"collections", "OrderedDict", FR_PKL_ORDERED_DICT, 0},
	{"torch._utils", "_rebuild_tensor_v2", FR_PKL_REBUILD_TENSOR, 0},
	{"torch._utils", "_rebuild_parameter", FR_PKL_REBUILD_PARAMETER, 0},
	{"torch", "FloatStorage", FR_PKL_STORAGE_CLASS, FR_F32},
	{"torch", "HalfStorage", FR_PKL_STORAGE_CLASS, FR_F16},
	{"torch", "BFloat16Storage", FR_PKL_STORAGE_CLASS, FR_BF16},
	{"torch", "DoubleStorage", FR_PKL_STORAGE_CLASS, FR_F64},
	{"torch", "IntStorage", FR_PKL_STORAGE_CLASS, FR_I32},
	{"torch", "LongStorage", FR_PKL_STORAGE_CLASS, FR_I64},
	{"torch", "ByteStorage", FR_PKL_STORAGE_CLASS, FR_U8},
	{"torch", "CharStorage", FR_PKL_STORAGE_CLASS, FR_I8},
	{"torch", "ShortStorage", FR_PKL_STORAGE_CLASS, FR_I16},
	{"torch", "BoolStorage", FR_PKL_STORAGE_CLASS, FR_BOOL},
	{"torch", "UntypedStorage", FR_PKL_STORAGE_CLASS, FR_U8},
	{"torch.storage", "UntypedStorage", FR_PKL_STORAGE_CLASS, FR_U8},
};

static int is(const char *want, const char *got, size_t len)
{
	return strlen(want) == len && memcmp(want, got, len) == 0;
}

int fr_pkl_class(const char *module, size_t module_len, const char *name, size_t name_len, struct fr_pkl_value *out)
{
	for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
		if (is(classes[i].module, module, module_len) && is(classes[i].name, name, name_len)) {
			*out = (struct fr_pkl_value){.kind = FR_PKL_CLASS, .i = (int64_t)i};
			return 0;
		}
	return -1;
}

enum fr_pkl_role fr_pkl_class_role(const struct fr_pkl_value *class)
{
	return classes[class->i].role;
}

int fr_pkl_storage_dtype(const struct fr_pkl_value *v, enum fr_dtype *dtype)
{
	if (v->kind != FR_PKL_CLASS || classes[v->i].role != FR_PKL_STORAGE_CLASS)
		return -1;
	*dtype = classes[v->i].dtype;
	return 0;
}

const struct fr_pkl_value *fr_pkl_items(const struct fr_pickle *p, const struct fr_pkl_value *v)
{
	int has = v->kind == FR_PKL_TUPLE || v->kind == FR_PKL_STORAGE || v->kind == FR_PKL_TENSOR;

	return has && v->len ? p->items + v->i : NULL;
}

const char *fr_pkl_kind_name(enum fr_pkl_kind kind)
{
	static const char *const names[FR_PKL_KINDS] = {"None",	    "a bool",  "an integer", "a float",
							"a string", "bytes",   "a list",     "a tuple",
							"a dict",   "a class", "a storage",  "a tensor"};

	return names[kind];
}
