/* What torch.save writes since 1.6, as views into the mapped file.
 *
 * The archive has one folder. In it data.pkl says the names, shapes, strides and storages; data/KEY is the storage KEY
 * as plain items; byteorder (torch 2.1 and later) says "little" or "big". A tensor is a view of its storage, see
 * torch_view.c. */
#include "torch.h"
#include "pickle.h"
#include "zip.h"

#include <stdlib.h>

struct reader {
	const char *file;
	size_t size; /* of the file */
	struct fr_error *err;
	struct fr_zip zip;
	struct fr_pickle pkl;
	const char *folder; /* [folder_len], with its '/' */
	size_t folder_len;
	struct fr_tensors *out;
};

int fr_torch_is(const char *file, const uint8_t *bytes, size_t size)
{
	static const uint8_t zip[] = {'P', 'K', 3, 4}; /* as the length of a safetensors header, 67 MB at least */
	static const char *const ends[] = {".bin", ".pth", ".pt"};
	size_t n = strlen(file);

	for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
		if (n >= strlen(ends[i]) && strcmp(file + n - strlen(ends[i]), ends[i]) == 0)
			return 1;
	return size >= sizeof zip && memcmp(bytes, zip, sizeof zip) == 0;
}

/* No zip file: the two formats of torch before 1.6, or something else. */
static int fail_format(const uint8_t *bytes, size_t size, const char *file, struct fr_error *err)
{
	/* PROTO 2, then the integer 0x1950a86a20f9469cfc6c as LONG1 */
	static const uint8_t magic[] = {0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19};
	int legacy = size >= 2 + sizeof magic && bytes[0] == 0x80 && memcmp(bytes + 2, magic, sizeof magic) == 0;
	int tar = size >= 262 && memcmp(bytes + 257, "ustar", 5) == 0;

	if (legacy || tar)
		return fr_fail(
			err, FR_E_MODEL,
			"%s: %s, which cannot be read in place; convert it in its folder, where you trust it: python3 "
			"-c \"import torch; f='%.200s'; torch.save(torch.load(f, map_location='cpu'), 'new-' + f)\"",
			file, tar ? "the tar format of torch before 0.1.10" : "the format of torch before 1.6", file);
	if (size < 4)
		return fr_fail(err, FR_E_MODEL, "%s: expected a torch.save file, got %zu bytes", file, size);
	return fr_fail(err, FR_E_MODEL,
		       "%s: expected a torch.save file (a zip archive), it begins with %02X %02X %02X %02X", file,
		       bytes[0], bytes[1], bytes[2], bytes[3]);
}

static const struct fr_zip_member *find(const struct reader *r, const char *name, size_t len)
{
	char path[1200];

	if (len > 600)
		return NULL;
	memcpy(path, r->folder, r->folder_len); /* at most 512 bytes, like each name in the archive */
	memcpy(path + r->folder_len, name, len);
	return fr_zip_find(&r->zip, path, r->folder_len + len);
}

/* The archive's one folder is that of data.pkl, and every member lies in it. */
static int read_folder(struct reader *r, const struct fr_zip_member **pkl)
{
	static const char last[] = "/data.pkl";
	const size_t n = sizeof last - 1;

	*pkl = NULL;
	for (size_t i = 0; i < r->zip.n; i++) {
		const struct fr_zip_member *m = &r->zip.at[i];
		const char *slash = memchr(m->name, '/', m->name_len);

		if (!slash || m->name_len < n || slash != m->name + m->name_len - n || memcmp(slash, last, n) != 0)
			continue;
		if (*pkl)
			return fr_fail(r->err, FR_E_MODEL, "%s: expected one data.pkl, got %.*s and %.*s", r->file,
				       (int)(*pkl)->name_len, (*pkl)->name, (int)m->name_len, m->name);
		*pkl = m;
	}
	if (!*pkl)
		return fr_fail(r->err, FR_E_MODEL,
			       "%s: a zip file, but not one of torch.save: it has no member FOLDER/data.pkl", r->file);
	r->folder = (*pkl)->name;
	r->folder_len = (*pkl)->name_len - (n - 1);
	for (size_t i = 0; i < r->zip.n; i++) {
		const struct fr_zip_member *m = &r->zip.at[i];

		if (m->name_len < r->folder_len || memcmp(m->name, r->folder, r->folder_len) != 0)
			return fr_fail(r->err, FR_E_MODEL, "%s: member %.*s lies outside the archive's folder %.*s",
				       r->file, (int)m->name_len, m->name, (int)r->folder_len, r->folder);
	}
	return 0;
}

static int check_kind(const struct reader *r)
{
	const struct fr_zip_member *m = find(r, "byteorder", 9);

	if (m && (m->size != 6 || memcmp(m->data, "little", 6) != 0))
		return fr_fail(r->err, FR_E_MODEL,
			       "%s: its byte order is \"%.*s\", expected \"little\"; load and save it "
			       "with torch on a little-endian machine",
			       r->file, m->size < 16 ? (int)m->size : 16, (const char *)m->data);
	if (find(r, "constants.pkl", 13))
		return fr_fail(r->err, FR_E_MODEL,
			       "%s: a TorchScript program, expected the weights alone (torch.save of a state dict)",
			       r->file);
	return 0;
}

/* ---- tensors ---- */
static int is_string(const struct fr_pkl_value *v, const char *s)
{
	return v->kind == FR_PKL_STRING && v->len == strlen(s) && memcmp(v->s, s, v->len) == 0;
}

static const struct fr_pkl_pair *next_pair(const struct reader *r, uint32_t at)
{
	return at ? &r->pkl.pairs[at - 1] : NULL;
}

static size_t count_tensors(const struct reader *r, const struct fr_pkl_value *dict, size_t *name_bytes)
{
	const struct fr_pkl_pair *p = next_pair(r, r->pkl.dicts[dict->i].first);
	size_t n = 0;

	*name_bytes = 0;
	for (; p; p = next_pair(r, p->next))
		if (p->value.kind == FR_PKL_TENSOR) {
			*name_bytes += p->key.len + 1;
			n++;
		}
	return n;
}

/* The dict that holds the tensors: the top, or the one below "model" or "state_dict". */
static int find_dict(const struct reader *r, const struct fr_pkl_value **dict)
{
	const struct fr_pkl_value *top = &r->pkl.top;
	const struct fr_pkl_pair *p;
	size_t bytes;

	*dict = top;
	if (top->kind != FR_PKL_DICT)
		return fr_fail(r->err, FR_E_MODEL, "%s: expected a dict of tensors, it holds %s", r->file,
			       fr_pkl_kind_name(top->kind));
	if (count_tensors(r, top, &bytes))
		return 0;
	*dict = NULL;
	for (p = next_pair(r, r->pkl.dicts[top->i].first); p; p = next_pair(r, p->next)) {
		if (p->value.kind != FR_PKL_DICT || !(is_string(&p->key, "model") || is_string(&p->key, "state_dict")))
			continue;
		if (*dict)
			return fr_fail(r->err, FR_E_MODEL,
				       "%s: two dicts named \"model\" or \"state_dict\": which one holds the weights "
				       "cannot be told",
				       r->file);
		*dict = &p->value;
	}
	if (!*dict || !count_tensors(r, *dict, &bytes))
		return fr_fail(
			r->err, FR_E_MODEL,
			"%s: expected a dict of tensors, or one below its key \"model\" or \"state_dict\"; got a dict "
			"without",
			r->file);
	return 0;
}

/* Names go to terminals and into reports, so they may not hold control characters. */
static int copy_name(const struct reader *r, const struct fr_pkl_value *key, char **arena, struct fr_tensor *t)
{
	if (key->kind != FR_PKL_STRING)
		return fr_fail(r->err, FR_E_MODEL, "%s: the name of a tensor is %s, expected a string", r->file,
			       fr_pkl_kind_name(key->kind));
	for (uint32_t i = 0; i < key->len; i++)
		if ((unsigned char)key->s[i] < 0x20 || key->s[i] == 0x7f)
			return fr_fail(r->err, FR_E_MODEL, "%s: the name of tensor %.*s holds a control character",
				       r->file, key->len < 200 ? (int)key->len : 200, key->s);
	memcpy(*arena, key->s, key->len);
	(*arena)[key->len] = 0;
	t->name = *arena;
	*arena += key->len + 1;
	return 0;
}

static int read_shape(const struct reader *r, const struct fr_pkl_value *size, const struct fr_pkl_value *stride,
		      struct fr_tensor *t, int64_t strides[FR_MAX_DIMS])
{
	const struct fr_pkl_value *n = fr_pkl_items(&r->pkl, size), *s = fr_pkl_items(&r->pkl, stride);

	if (size->kind != FR_PKL_TUPLE || stride->kind != FR_PKL_TUPLE || size->len != stride->len)
		return fr_fail(r->err, FR_E_MODEL,
			       "%s: tensor %.200s: its size and stride are not two tuples of one length", r->file,
			       t->name);
	if (size->len > FR_MAX_DIMS)
		return fr_fail(r->err, FR_E_MODEL, "%s: tensor %.200s: more than %d dimensions", r->file, t->name,
			       FR_MAX_DIMS);
	t->ndim = (int)size->len;
	for (int i = 0; i < t->ndim; i++) {
		if (n[i].kind != FR_PKL_INT || s[i].kind != FR_PKL_INT || n[i].i < 0 || s[i].i < 0)
			return fr_fail(
				r->err, FR_E_MODEL,
				"%s: tensor %.200s: dimension %d has a size or stride that is no integer from 0 on",
				r->file, t->name, i);
		t->shape[i] = n[i].i;
		strides[i] = s[i].i;
	}
	return 0;
}

/* The member that is the storage, which has exactly the items that the pickle says. */
static int find_storage(const struct reader *r, const struct fr_pkl_value *storage, const struct fr_tensor *t,
			const struct fr_zip_member **m, uint64_t *items)
{
	const struct fr_pkl_value *a = fr_pkl_items(&r->pkl, storage), *key = &a[2];
	uint64_t bytes;
	char name[256];

	*items = (uint64_t)a[4].i;
	*m = NULL;
	if (key->len < 200) {
		memcpy(name, "data/", 5);
		memcpy(name + 5, key->s, key->len);
		*m = find(r, name, 5 + key->len);
	}
	if (!*m)
		return fr_fail(r->err, FR_E_MODEL, "%s: tensor %.200s: its storage data/%.*s is not in the archive",
			       r->file, t->name, key->len < 200 ? (int)key->len : 200, key->s);
	if (__builtin_mul_overflow(*items, (uint64_t)fr_dtypes[t->dtype].bytes, &bytes) || bytes != (*m)->size)
		return fr_fail(
			r->err, FR_E_MODEL,
			"%s: tensor %.200s: its storage data/%.*s should have %llu %s items, the archive has %zu bytes "
			"of it",
			r->file, t->name, (int)key->len, key->s, (unsigned long long)*items, fr_dtypes[t->dtype].name,
			(*m)->size);
	return 0;
}

static int read_tensor(const struct reader *r, const struct fr_pkl_value *v, struct fr_tensor *t)
{
	const struct fr_pkl_value *a = fr_pkl_items(&r->pkl, v), *storage = fr_pkl_items(&r->pkl, &a[0]);
	const struct fr_zip_member *m;
	int64_t strides[FR_MAX_DIMS];
	uint64_t room;

	if (fr_pkl_storage_dtype(&storage[1], &t->dtype) != 0)
		return fr_fail(r->err, FR_E_MODEL, "%s: tensor %.200s: its storage has no number format", r->file,
			       t->name);
	if (v->len == 7 && a[6].kind != FR_PKL_NONE &&
	    !(a[6].kind == FR_PKL_DICT && r->pkl.dicts[a[6].i].first == 0)) /* a conjugate or negative view */
		return fr_fail(r->err, FR_E_MODEL,
			       "%s: tensor %.200s: a view with a transformation that is put off; save "
			       "it with .clone()",
			       r->file, t->name);
	FR_TRY(read_shape(r, &a[2], &a[3], t, strides));
	FR_TRY(find_storage(r, &a[0], t, &m, &room));
	return fr_torch_view(m->data, room, a[1].kind == FR_PKL_INT ? a[1].i : -1, strides, t, r->size, r->out, r->err);
}

static int by_name(const void *a, const void *b)
{
	const struct fr_tensor *x = a, *y = b;

	return strcmp(x->name, y->name);
}

static int by_place(const void *a, const void *b)
{
	const struct fr_tensor *x = a, *y = b;

	if (x->data != y->data)
		return (const char *)x->data < (const char *)y->data ? -1 : 1;
	return strcmp(x->name, y->name);
}

static int read_tensors(const struct reader *r)
{
	struct fr_tensors *out = r->out;
	const struct fr_pkl_value *dict;
	const struct fr_pkl_pair *p;
	size_t n, bytes;
	char *arena;

	FR_TRY(find_dict(r, &dict));
	n = count_tensors(r, dict, &bytes);
	out->at = calloc(n, sizeof *out->at);
	arena = out->names = malloc(bytes);
	if (!out->at || !arena)
		return fr_fail(r->err, FR_E_MEMORY, "%s: no memory for the names of %zu tensors", r->file, n);
	for (p = next_pair(r, r->pkl.dicts[dict->i].first); p; p = next_pair(r, p->next)) {
		struct fr_tensor *t = &out->at[out->n];

		if (p->value.kind != FR_PKL_TENSOR)
			continue;
		t->file = r->file;
		FR_TRY(copy_name(r, &p->key, &arena, t));
		FR_TRY(read_tensor(r, &p->value, t));
		out->n++;
	}
	qsort(out->at, n, sizeof *out->at, by_name);
	for (size_t i = 1; i < n; i++)
		if (strcmp(out->at[i - 1].name, out->at[i].name) == 0)
			return fr_fail(r->err, FR_E_MODEL, "%s: tensor %.200s stands twice in data.pkl", r->file,
				       out->at[i].name);
	qsort(out->at, n, sizeof *out->at, by_place);
	return 0;
}

static int read_archive(struct reader *r)
{
	const struct fr_zip_member *pkl;

	FR_TRY(read_folder(r, &pkl));
	FR_TRY(check_kind(r));
	FR_TRY(fr_pickle_read(pkl->data, pkl->size, r->file, &r->pkl, r->err));
	return read_tensors(r);
}

int fr_torch_parse(const uint8_t *bytes, size_t size, const char *file, struct fr_tensors *out, struct fr_error *err)
{
	struct reader r = {.file = file, .size = size, .err = err, .out = out};
	int rc;

	memset(out, 0, sizeof *out);
	if (!fr_zip_is(bytes, size))
		return fail_format(bytes, size, file, err);
	FR_TRY(fr_zip_open(bytes, size, file, &r.zip, err));
	rc = read_archive(&r);
	fr_pickle_free(&r.pkl);
	fr_zip_free(&r.zip);
	if (rc != 0)
		fr_tensors_free(out);
	return rc;
}
