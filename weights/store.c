/* All tensors of a checkpoint: one file, safetensors or torch.save, or shards with their index; and of a file by
 * itself.
 *
 * The index is held to its word: each shard it names must be there, and each tensor must lie in the shard it says. A
 * tensor that the index leaves out is taken as the reference takes it, from the shard that has it. */
#include "json.h"
#include "torch.h"

#include <stdlib.h>

#define INDEX "model.safetensors.index.json"

/* Where the weights may be, in the order in which transformers would take them. */
static const struct {
	const char *index, *single;
} layouts[] = {{INDEX, "model.safetensors"}, {"pytorch_model.bin.index.json", "pytorch_model.bin"}};

struct shard {
	char *file;
	struct fr_tensors tensors;
};
struct entry { /* one line of the index */
	const char *name, *file;
	size_t shard;
};
struct fr_store {
	const char *index; /* the file that names the shards; NULL: there is none */
	struct shard *shards;
	size_t n_shards;
	struct fr_tensor *at; /* [n], sorted by name */
	size_t n;
	const uint8_t *map; /* owned: of a file by itself; the others are mapped by their source */
	size_t map_size;
};

static int by_name(const void *a, const void *b)
{
	const struct fr_tensor *x = a, *y = b;

	return strcmp(x->name, y->name);
}

static int entry_by_name(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;

	return strcmp(x->name, y->name);
}

static int entry_by_file(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;

	return strcmp(x->file, y->file);
}

static int add_shard(struct fr_store *st, const char *file, struct fr_error *err)
{
	struct shard *s = realloc(st->shards, (st->n_shards + 1) * sizeof *s);

	if (s)
		st->shards = s;
	if (!s || !(s[st->n_shards].file = strdup(file)))
		return fr_fail(err, FR_E_MEMORY, "%s: no memory to open it", file);
	memset(&s[st->n_shards++].tensors, 0, sizeof s->tensors);
	return 0;
}

static int parse_shard(struct shard *s, const uint8_t *bytes, size_t size, struct fr_error *err)
{
	return fr_torch_is(s->file, bytes, size) ? fr_torch_parse(bytes, size, s->file, &s->tensors, err)
						 : fr_safetensors_parse(bytes, size, s->file, &s->tensors, err);
}

static int read_shard(struct fr_source *src, struct shard *s, struct fr_error *err)
{
	const uint8_t *bytes;
	size_t size;
	int rc = fr_source_file(src, s->file, &bytes, &size, err);

	if (rc > 0)
		return fr_fail(err, FR_E_MODEL, "%s: %s is missing", fr_source_path(src), s->file);
	if (rc != 0)
		return rc;
	return parse_shard(s, bytes, size, err);
}

/* The lines of weight_map into *out [*n], which the caller frees; strings live in root. */
static int read_index(const struct fr_store *st, const cJSON *root, struct entry **out, size_t *n, struct fr_error *err)
{
	const cJSON *map = cJSON_GetObjectItemCaseSensitive(root, "weight_map"), *e;
	size_t i = 0;

	if (!cJSON_IsObject(map) || !map->child)
		return fr_fail(err, FR_E_MODEL, "%s: expected an object weight_map of tensor names to files",
			       st->index);
	cJSON_ArrayForEach(e, map) i++;
	*n = i;
	*out = calloc(*n, sizeof **out);
	if (!*out)
		return fr_fail(err, FR_E_MEMORY, "%s: no memory for its %zu lines", st->index, *n);
	i = 0;
	cJSON_ArrayForEach(e, map)
	{
		if (!cJSON_IsString(e) || !*e->valuestring || strchr(e->valuestring, '/'))
			return fr_fail(err, FR_E_MODEL,
				       "%s: tensor %.200s: expected the name of a file beside the index", st->index,
				       e->string);
		(*out)[i++] = (struct entry){e->string, e->valuestring, 0};
	}
	return 0;
}

/* One shard per file name, in byte order; all that are missing are named in one sentence. */
static int open_shards(struct fr_store *st, struct fr_source *src, struct entry *index, size_t n, struct fr_error *err)
{
	char missing[512] = "";
	size_t n_missing = 0, used = 0, size;
	const uint8_t *bytes;

	qsort(index, n, sizeof *index, entry_by_file);
	for (size_t i = 0; i < n; i++) {
		int rc;

		if (i == 0 || strcmp(index[i - 1].file, index[i].file) != 0) {
			FR_TRY(add_shard(st, index[i].file, err));
			rc = fr_source_file(src, index[i].file, &bytes, &size, err);
			if (rc < 0)
				return rc;
			if (rc > 0 && n_missing++ < 8 && used < sizeof missing)
				used += (size_t)snprintf(missing + used, sizeof missing - used, "%s%s",
							 used ? ", " : "", index[i].file);
		}
		index[i].shard = st->n_shards - 1;
	}
	if (n_missing)
		return fr_fail(err, FR_E_MODEL, "%s: %zu of the %zu shards named in %s missing: %s%s",
			       fr_source_path(src), n_missing, st->n_shards, st->index, missing,
			       n_missing > 8 ? ", ..." : "");
	for (size_t i = 0; i < st->n_shards; i++)
		FR_TRY(read_shard(src, &st->shards[i], err));
	qsort(index, n, sizeof *index, entry_by_name);
	return 0;
}

/* All tensors into st->at, except those that the index finds in another shard. */
static int gather(struct fr_store *st, const struct entry *index, size_t n, struct fr_error *err)
{
	size_t total = 0;

	for (size_t i = 0; i < st->n_shards; i++)
		total += st->shards[i].tensors.n;
	st->at = calloc(total + 1, sizeof *st->at);
	if (!st->at)
		return fr_fail(err, FR_E_MEMORY, "no memory for the names of %zu tensors", total);
	for (size_t i = 0; i < st->n_shards; i++)
		for (size_t k = 0; k < st->shards[i].tensors.n; k++) {
			const struct fr_tensor *t = &st->shards[i].tensors.at[k];
			const struct entry key = {.name = t->name}, *e = NULL;

			if (n)
				e = bsearch(&key, index, n, sizeof *index, entry_by_name);
			if (!e || e->shard == i)
				st->at[st->n++] = *t;
		}
	qsort(st->at, st->n, sizeof *st->at, by_name);
	for (size_t i = 1; i < st->n; i++)
		if (strcmp(st->at[i - 1].name, st->at[i].name) == 0)
			return fr_fail(err, FR_E_MODEL, "tensor %.200s lies in %s and in %s", st->at[i].name,
				       st->at[i - 1].file, st->at[i].file);
	return 0;
}

static int check_index(const struct fr_store *st, const struct entry *index, size_t n, struct fr_error *err)
{
	for (size_t i = 0; i < n; i++) {
		if (fr_store_find(st, index[i].name))
			continue;
		for (size_t s = 0; s < st->n_shards; s++)
			for (size_t k = 0; k < st->shards[s].tensors.n; k++)
				if (strcmp(st->shards[s].tensors.at[k].name, index[i].name) == 0)
					return fr_fail(err, FR_E_MODEL,
						       "%s: tensor %.200s: expected in %s, it is in %s", st->index,
						       index[i].name, index[i].file, st->shards[s].file);
		return fr_fail(err, FR_E_MODEL, "%s: tensor %.200s: expected in %s, it is in no shard", st->index,
			       index[i].name, index[i].file);
	}
	return 0;
}

static int open_index(struct fr_store *st, struct fr_source *src, const uint8_t *bytes, size_t size,
		      struct fr_error *err)
{
	struct entry *index = NULL;
	size_t n = 0;
	cJSON *root;
	int rc;

	FR_TRY(fr_json_parse(bytes, size, st->index, &root, err));
	rc = read_index(st, root, &index, &n, err);
	if (rc == 0)
		rc = open_shards(st, src, index, n, err);
	if (rc == 0)
		rc = gather(st, index, n, err);
	if (rc == 0)
		rc = check_index(st, index, n, err);
	free(index);
	cJSON_Delete(root);
	return rc;
}

static int open_single(struct fr_store *st, struct fr_source *src, const char *file, struct fr_error *err)
{
	FR_TRY(add_shard(st, file, err));
	FR_TRY(read_shard(src, &st->shards[0], err));
	return gather(st, NULL, 0, err);
}

/* No file has a name that is known: a safetensors file that is alone will be it. */
static int open_unnamed(struct fr_store *st, struct fr_source *src, struct fr_error *err)
{
	char file[256];
	int n = fr_source_count(src, ".safetensors", file, sizeof file);

	if (n != 1)
		return fr_fail(err, FR_E_MODEL,
			       "%s: expected " INDEX
			       ", model.safetensors, or pytorch_model.bin with or without index, got "
			       "%d safetensors files%s",
			       fr_source_path(src), n, n ? " without an index" : "");
	return open_single(st, src, file, err);
}

static int open_any(struct fr_store *st, struct fr_source *src, struct fr_error *err)
{
	const uint8_t *bytes;
	size_t size;
	int rc;

	for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++) {
		rc = fr_source_file(src, layouts[i].index, &bytes, &size, err);
		if (rc == 0) {
			st->index = layouts[i].index;
			return open_index(st, src, bytes, size, err);
		}
		if (rc > 0)
			rc = fr_source_file(src, layouts[i].single, &bytes, &size, err);
		if (rc <= 0)
			return rc ? rc : open_single(st, src, layouts[i].single, err);
	}
	return open_unnamed(st, src, err);
}

int fr_store_open(struct fr_source *src, struct fr_store **out, struct fr_error *err)
{
	struct fr_store *st = calloc(1, sizeof *st);

	*out = NULL;
	if (!st)
		return fr_fail(err, FR_E_MEMORY, "%s: no memory to open its weights", fr_source_path(src));
	if (open_any(st, src, err) != 0) {
		fr_store_close(st);
		return -1;
	}
	*out = st;
	return 0;
}

/* The first of names [n] that src has; NULL with a sentence when it has none or cannot read it. */
static const char *pick_file(struct fr_source *src, const char *const *names, size_t n, struct fr_error *err)
{
	char list[256] = "";
	size_t used = 0, size;
	const uint8_t *bytes;

	for (size_t i = 0; i < n; i++) {
		int rc = fr_source_file(src, names[i], &bytes, &size, err);

		if (rc <= 0)
			return rc ? NULL : names[i];
		if (used < sizeof list)
			used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", i ? " or " : "", names[i]);
	}
	fr_fail(err, FR_E_MODEL, "%s: expected %s, found none", fr_source_path(src), list);
	return NULL;
}

int fr_store_open_named(struct fr_source *src, const char *const *names, size_t n, struct fr_store **out,
			struct fr_error *err)
{
	const char *file = pick_file(src, names, n, err);
	struct fr_store *st;

	*out = NULL;
	if (!file)
		return -1;
	st = calloc(1, sizeof *st);
	if (!st)
		return fr_fail(err, FR_E_MEMORY, "%s: no memory to open its weights", fr_source_path(src));
	if (open_single(st, src, file, err) != 0) {
		fr_store_close(st);
		return -1;
	}
	*out = st;
	return 0;
}

static int open_path(struct fr_store *st, const char *path, struct fr_error *err)
{
	const char *slash = strrchr(path, '/');

	if (fr_map_open(path, &st->map, &st->map_size, err) != 0) {
		if (err && err->code == FR_E_IO)
			err->code = FR_E_MODEL;
		return -1;
	}
	FR_TRY(add_shard(st, slash ? slash + 1 : path, err));
	FR_TRY(parse_shard(&st->shards[0], st->map, st->map_size, err));
	return gather(st, NULL, 0, err);
}

int fr_store_open_file(const char *path, struct fr_store **out, struct fr_error *err)
{
	struct fr_store *st = calloc(1, sizeof *st);

	*out = NULL;
	if (!st)
		return fr_fail(err, FR_E_MEMORY, "%s: no memory to open it", path);
	if (open_path(st, path, err) != 0) {
		fr_store_close(st);
		return -1;
	}
	*out = st;
	return 0;
}

void fr_store_close(struct fr_store *st)
{
	if (!st)
		return;
	for (size_t i = 0; i < st->n_shards; i++) {
		fr_tensors_free(&st->shards[i].tensors);
		free(st->shards[i].file);
	}
	free(st->shards);
	free(st->at);
	fr_map_close(st->map, st->map_size);
	free(st);
}

const struct fr_tensor *fr_store_find(const struct fr_store *st, const char *name)
{
	const struct fr_tensor key = {.name = name};

	return bsearch(&key, st->at, st->n, sizeof *st->at, by_name);
}

size_t fr_store_count(const struct fr_store *st)
{
	return st->n;
}

const struct fr_tensor *fr_store_at(const struct fr_store *st, size_t i)
{
	return &st->at[i];
}

size_t fr_store_copies(const struct fr_store *st, size_t *bytes)
{
	size_t n = 0;

	*bytes = 0;
	for (size_t i = 0; i < st->n_shards; i++) {
		n += st->shards[i].tensors.n_copies;
		*bytes += st->shards[i].tensors.copied_bytes;
	}
	return n;
}

const struct fr_tensor *fr_store_nonfinite(const struct fr_store *st, size_t *index)
{
	for (size_t i = 0; i < st->n; i++)
		if (fr_tensor_nonfinite(&st->at[i], index))
			return &st->at[i];
	return NULL;
}
