/* Finding the parts of a model, see parts.h.
 *
 * The authors' code takes CLIP from a path in config.json, which was right on the machine where it was written, and
 * DINOv2 from an environment variable: both are looked for in and beside the model's directory as well. */
#include "parts.h"
#include "models.h"

#include <dirent.h>
#include <errno.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <sys/stat.h>

#define DINO_FILE "dinov2_vitl14_pretrain.pth"
#define DINO_FILES "dinov2*.pth"
#define PATH_BYTES 4096

static const struct {
	const char *name, *option, *what;
	const char *looked, *none; /* before the places; where there were none to look in */
	int is_dir;
} extras[FR_EXTRAS] = {
	[FR_EXTRA_BASE] = {"the base model", "--base", "its directory", "looked for it as ",
			   "adapter_config.json has no base_model_name_or_path", 1},
	[FR_EXTRA_TOWER] = {"the vision tower (CLIP)", "--vision-tower", "its directory", "looked for it as ",
			    "config.json has no mm_vision_tower", 1},
	[FR_EXTRA_DINO] = {"DINOv2", "--dino", "its file", "looked for " DINO_FILE " or one " DINO_FILES " in ", "", 0},
};

const char *fr_extra_name(enum fr_extra_kind kind)
{
	return extras[kind].option + 2;
}

/* ---- looking for one ---- */

static int exists(const char *path, int is_dir)
{
	struct stat st;

	return stat(path, &st) == 0 && !S_ISDIR(st.st_mode) == !is_dir;
}

/* The source "demo" is no directory. */
static int found(struct fr_extra *x, const char *path, struct fr_error *err)
{
	x->path = strdup(strcmp(path, "demo") == 0 ? "./demo" : path);
	return x->path ? 0 : fr_fail(err, FR_E_MEMORY, "%s: no memory for its path", path);
}

/* 1: a place that was looked in before, or one too many. */
static int note(struct fr_extra *x, const char *path, struct fr_error *err)
{
	for (int i = 0; i < x->n_looked; i++)
		if (strcmp(x->looked[i], path) == 0)
			return 1;
	if (x->n_looked == FR_MAX_PLACES)
		return 1;
	x->looked[x->n_looked] = strdup(path);
	if (!x->looked[x->n_looked])
		return fr_fail(err, FR_E_MEMORY, "%s: no memory for its path", path);
	x->n_looked++;
	return 0;
}

/* The directory [dir/]name, if it has a config.json and none was found before. */
static int try_dir(struct fr_extra *x, const char *dir, const char *name, struct fr_error *err)
{
	char path[PATH_BYTES], config[PATH_BYTES + 16];
	int rc;

	if (x->path)
		return 0;
	snprintf(path, sizeof path, "%s%s%s", dir ? dir : "", dir ? "/" : "", name);
	rc = note(x, path, err);
	if (rc)
		return rc < 0 ? -1 : 0;
	snprintf(config, sizeof config, "%s/config.json", path);
	return exists(config, 0) ? found(x, path, err) : 0;
}

/* DINO_FILE in dir, else the only file there of a name like it. */
static int try_dino(struct fr_extra *x, const char *dir, struct fr_error *err)
{
	char path[PATH_BYTES];
	struct dirent *e;
	int n = 0, rc;
	DIR *d;

	if (x->path)
		return 0;
	rc = note(x, dir, err);
	if (rc)
		return rc < 0 ? -1 : 0;
	snprintf(path, sizeof path, "%s/" DINO_FILE, dir);
	if (exists(path, 0))
		return found(x, path, err);
	d = opendir(dir);
	while (d && (e = readdir(d)))
		if (fnmatch(DINO_FILES, e->d_name, 0) == 0 && n++ == 0)
			snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
	if (d)
		closedir(d);
	return n == 1 ? found(x, path, err) : 0;
}

/* The directory in which path lies, as text: beside a link is beside the link. */
static void parent_of(const char *path, char out[PATH_BYTES])
{
	char *end;

	snprintf(out, PATH_BYTES, "%s", path);
	for (end = out + strlen(out); end > out + 1 && end[-1] == '/';)
		*--end = 0;
	end = strrchr(out, '/');
	if (strcmp(end ? end + 1 : out, ".") == 0 || strcmp(end ? end + 1 : out, "..") == 0)
		snprintf(out, PATH_BYTES, "%.*s/..", PATH_BYTES - 4, path);
	else if (!end)
		snprintf(out, PATH_BYTES, ".");
	else
		end[end == out] = 0;
}

/* A directory by a name in a file: as it is, from the model's directory, by its last part in and beside that. */
static int find_named(struct fr_extra *x, const char *model, const char *name, struct fr_error *err)
{
	char parent[PATH_BYTES], last[PATH_BYTES];
	char *base, *end;

	snprintf(last, sizeof last, "%s", name);
	for (end = last + strlen(last); end > last && end[-1] == '/';)
		*--end = 0;
	base = strrchr(last, '/');
	base = base ? base + 1 : last;
	if (!*base)
		return 0;
	parent_of(model, parent);
	FR_TRY(try_dir(x, NULL, last, err));
	if (*last != '/')
		FR_TRY(try_dir(x, model, last, err));
	FR_TRY(try_dir(x, model, base, err));
	return try_dir(x, parent, base, err);
}

static int find_dino(struct fr_extra *x, const char *model, const char *tower, struct fr_error *err)
{
	char parent[PATH_BYTES];

	parent_of(model, parent);
	FR_TRY(try_dino(x, model, err));
	FR_TRY(try_dino(x, parent, err));
	return tower ? try_dino(x, tower, err) : 0;
}

/* A path that the caller gave is looked for nowhere else. */
static int take_given(struct fr_extra *x, enum fr_extra_kind kind, const char *path, struct fr_error *err)
{
	char config[PATH_BYTES];
	struct stat st;

	if (stat(path, &st) != 0)
		return fr_fail(err, FR_E_MODEL, "%s %s: cannot be opened: %s", extras[kind].option, path,
			       strerror(errno));
	if (!S_ISDIR(st.st_mode) != !extras[kind].is_dir)
		return fr_fail(err, FR_E_MODEL, "%s %s: expected a %s, got a %s", extras[kind].option, path,
			       extras[kind].is_dir ? "directory" : "file", extras[kind].is_dir ? "file" : "directory");
	snprintf(config, sizeof config, "%s/config.json", path);
	if (extras[kind].is_dir && !exists(config, 0))
		return fr_fail(err, FR_E_MODEL, "%s %s: config.json is missing there", extras[kind].option, path);
	return found(x, path, err);
}

/* ---- all of a model ---- */

/* config.json and adapter_config.json as far as they say where parts are. */
struct hints {
	const struct fr_family *family; /* NULL: no config.json */
	int lora, spare_ok;
	cJSON *config, *adapter;
	const char *given[FR_EXTRAS];
};

static int parse(struct fr_source *src, const char *name, cJSON **out, struct fr_error *err)
{
	const uint8_t *bytes;
	size_t size;
	int rc = fr_source_file(src, name, &bytes, &size, err);

	return rc ? rc : fr_json_parse(bytes, size, name, out, err);
}

/* For the tokenizer alone, a model that is no LoRA checkpoint may have any config.json, or none. */
static int read_hints(struct fr_source *src, const struct fr_model_opts *opts, int text_only, struct hints *h,
		      struct fr_error *err)
{
	const int lora = parse(src, "adapter_config.json", &h->adapter, err);
	int rc;

	h->given[FR_EXTRA_BASE] = opts->base;
	h->given[FR_EXTRA_TOWER] = text_only ? NULL : opts->vision_tower;
	h->given[FR_EXTRA_DINO] = text_only ? NULL : opts->dino;
	h->spare_ok = opts->spare_ok;
	if (lora < 0 || (lora > 0 && text_only))
		return lora < 0 ? -1 : 0;
	rc = parse(src, "config.json", &h->config, err);
	if (rc)
		return rc < 0 ? -1 : 0;
	FR_TRY(fr_family_find((struct fr_json){h->config, "config.json"}, &h->family, err));
	h->lora = h->family->apart && lora == 0;
	if (lora == 0 && !h->lora) /* transformers would load the base that it names, and the adapter over it */
		return fr_fail(
			err, FR_E_MODEL,
			"adapter_config.json: expected none, since adapters over %s are not computed; merge it into "
			"the weights, or take the file away if that was done",
			h->family->name);
	return 0;
}

static int refuse_spare(const struct fr_parts *p, const struct hints *h, struct fr_error *err)
{
	for (int i = 0; i < FR_EXTRAS && !h->spare_ok; i++)
		if (h->given[i] && !p->extra[i].wanted)
			return fr_fail(err, FR_E_USAGE, "%s: the model %s has no use for it: %s", extras[i].option,
				       fr_source_path(p->src),
				       i == FR_EXTRA_BASE ? "it is no LoRA checkpoint (adapter_config.json)"
							  : "its vision encoder lies in its own files");
	return 0;
}

/* The base, which only a LoRA checkpoint has. */
static int find_base(struct fr_parts *p, const struct hints *h, struct fr_error *err)
{
	struct fr_extra *x = &p->extra[FR_EXTRA_BASE];
	const char *name = NULL;

	x->wanted = h->lora;
	if (!x->wanted)
		return 0;
	FR_TRY(fr_json_string((struct fr_json){h->adapter, "adapter_config.json"}, "base_model_name_or_path", &name,
			      err));
	if (h->given[FR_EXTRA_BASE])
		FR_TRY(take_given(x, FR_EXTRA_BASE, h->given[FR_EXTRA_BASE], err));
	else if (name)
		FR_TRY(find_named(x, fr_source_path(p->src), name, err));
	return x->path ? fr_source_open(x->path, &p->base, err) : 0;
}

static int find_encoders(struct fr_parts *p, const struct hints *h, struct fr_error *err)
{
	struct fr_extra *tower = &p->extra[FR_EXTRA_TOWER], *dino = &p->extra[FR_EXTRA_DINO];
	const char *name = NULL, *model = fr_source_path(p->src);

	tower->wanted = dino->wanted = h->family->apart;
	if (!h->family->apart)
		return 0;
	FR_TRY(fr_json_string((struct fr_json){h->config, "config.json"}, "mm_vision_tower", &name, err));
	if (h->given[FR_EXTRA_TOWER])
		FR_TRY(take_given(tower, FR_EXTRA_TOWER, h->given[FR_EXTRA_TOWER], err));
	else if (name)
		FR_TRY(find_named(tower, model, name, err));
	if (h->given[FR_EXTRA_DINO])
		FR_TRY(take_given(dino, FR_EXTRA_DINO, h->given[FR_EXTRA_DINO], err));
	else
		FR_TRY(find_dino(dino, model, tower->path, err));
	return tower->path ? fr_source_open(tower->path, &p->tower, err) : 0;
}

static int find_all(const struct fr_model_opts *opts, struct fr_parts *p, struct hints *h, int text_only,
		    struct fr_error *err)
{
	FR_TRY(fr_source_open(opts->path, &p->src, err));
	FR_TRY(read_hints(p->src, opts, text_only, h, err));
	FR_TRY(find_base(p, h, err));
	if (text_only)
		return refuse_spare(p, h, err);
	if (!h->family)
		return fr_fail(err, FR_E_MODEL, "%s: config.json is missing", opts->path);
	FR_TRY(find_encoders(p, h, err));
	return refuse_spare(p, h, err);
}

static int find(const struct fr_model_opts *opts, struct fr_parts *out, int text_only, struct fr_error *err)
{
	struct hints h = {0};
	int rc;

	memset(out, 0, sizeof *out);
	rc = find_all(opts, out, &h, text_only, err);
	cJSON_Delete(h.config);
	cJSON_Delete(h.adapter);
	return rc;
}

int fr_parts_find(const struct fr_model_opts *opts, struct fr_parts *out, struct fr_error *err)
{
	return find(opts, out, 0, err);
}

int fr_parts_find_text(const struct fr_model_opts *opts, struct fr_parts *out, struct fr_error *err)
{
	return find(opts, out, 1, err);
}

void fr_extra_missing(const struct fr_extra *x, enum fr_extra_kind kind, char *buf, size_t size)
{
	size_t n =
		(size_t)snprintf(buf, size, "%s is missing, name %s with %s: %s", extras[kind].name, extras[kind].what,
				 extras[kind].option, x->n_looked ? extras[kind].looked : extras[kind].none);

	for (int i = 0; i < x->n_looked && n < size; i++)
		n += (size_t)snprintf(buf + n, size - n, "%s%s", i ? ", " : "", x->looked[i]);
}

int fr_parts_check(const struct fr_parts *p, struct fr_error *err)
{
	char text[sizeof err->text] = "";
	size_t n = 0;

	for (int i = 0; i < FR_EXTRAS && n + 2 < sizeof text; i++) {
		const struct fr_extra *x = &p->extra[i];

		if (!x->wanted || x->path)
			continue;
		if (n)
			n += (size_t)snprintf(text + n, sizeof text - n, "; ");
		fr_extra_missing(x, (enum fr_extra_kind)i, text + n, sizeof text - n);
		n += strlen(text + n);
	}
	return n ? fr_fail(err, FR_E_MODEL, "%s: %s", fr_source_path(p->src), text) : 0;
}

/* ---- opening ---- */

/* Is path in text, as a whole? A directory may be called "model". */
static int names(const char *text, const char *path)
{
	const size_t n = strlen(path);

	for (const char *at = text; n && (at = strstr(at, path)) != NULL; at++)
		if ((at == text || at[-1] == ' ') && (at[n] == ':' || at[n] == '/'))
			return 1;
	return 0;
}

/* Stores name the file inside their directory; a model has several directories. */
int fr_say_where(int rc, const char *where, struct fr_error *err)
{
	const char *slash = strrchr(where, '/'), *file = slash ? slash + 1 : where;
	struct fr_error inner;
	size_t twice = strlen(file);

	if (rc == 0 || !err || err->code != FR_E_MODEL || names(err->text, where))
		return rc;
	inner = *err;
	if (!twice || strncmp(inner.text, file, twice) != 0 || strncmp(inner.text + twice, ": ", 2) != 0)
		return fr_fail(err, inner.code, "%s: %s", where, inner.text);
	return fr_fail(err, inner.code, "%s%s", where, inner.text + twice);
}

int fr_parts_open_stores(struct fr_parts *p, struct fr_error *err)
{
	static const char *const adapter[] = {"adapter_model.safetensors", "adapter_model.bin"};
	static const char *const trained[] = {"non_lora_trainables.bin", "non_lora_trainables.safetensors"};
	const char *dino = p->extra[FR_EXTRA_DINO].path;
	const int lora = p->extra[FR_EXTRA_BASE].wanted;

	if (!lora)
		FR_TRY(fr_store_open(p->src, &p->store[FR_FROM_MODEL], err));
	if (p->base)
		FR_TRY(fr_say_where(fr_store_open(p->base, &p->store[FR_FROM_MODEL], err), fr_source_path(p->base),
				    err));
	if (lora) {
		FR_TRY(fr_store_open_named(p->src, adapter, 2, &p->store[FR_FROM_ADAPTER], err));
		FR_TRY(fr_store_open_named(p->src, trained, 2, &p->store[FR_FROM_TRAINED], err));
	}
	if (p->tower)
		FR_TRY(fr_say_where(fr_store_open(p->tower, &p->store[FR_FROM_TOWER], err), fr_source_path(p->tower),
				    err));
	if (dino)
		FR_TRY(fr_say_where(fr_store_open_file(dino, &p->store[FR_FROM_DINO], err), dino, err));
	return 0;
}

void fr_parts_close(struct fr_parts *p)
{
	for (int i = 0; i < FR_FROMS; i++)
		fr_store_close(p->store[i]);
	for (int i = 0; i < FR_EXTRAS; i++) {
		for (int k = 0; k < p->extra[i].n_looked; k++)
			free(p->extra[i].looked[k]);
		free(p->extra[i].path);
	}
	fr_source_close(p->tower);
	fr_source_close(p->base);
	fr_source_close(p->src);
	memset(p, 0, sizeof *p);
}

struct fr_source *fr_parts_text(const struct fr_parts *p)
{
	return p->base ? p->base : p->src;
}

int fr_parts_file(const struct fr_parts *p, enum fr_desc_file which, const uint8_t **bytes, size_t *size,
		  struct fr_error *err)
{
	const struct {
		struct fr_source *src;
		const char *name;
	} files[FR_DESC_FILES] = {
		[FR_FILE_CONFIG] = {p->src, "config.json"},
		[FR_FILE_PREPROCESSOR] = {p->src, "preprocessor_config.json"},
		[FR_FILE_GENERATION] = {p->src, "generation_config.json"},
		[FR_FILE_PROCESSOR] = {p->src, "processor_config.json"},
		[FR_FILE_CLIP_CONFIG] = {p->tower, "config.json"},
		[FR_FILE_CLIP_PREPROCESSOR] = {p->tower, "preprocessor_config.json"},
		[FR_FILE_ADAPTER] = {p->extra[FR_EXTRA_BASE].wanted ? p->src : NULL, "adapter_config.json"},
	};

	return files[which].src ? fr_source_file(files[which].src, files[which].name, bytes, size, err) : 1;
}

const struct fr_tensor *fr_parts_nonfinite(const struct fr_parts *p, size_t *index)
{
	const struct fr_tensor *t = NULL;

	for (int i = 0; i < FR_FROMS && !t; i++)
		if (p->store[i])
			t = fr_store_nonfinite(p->store[i], index);
	return t;
}
