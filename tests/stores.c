/* Stores over one file: the first of several names in a folder, and a file wherever it lies. */
#include "../weights/weights.h"
#include "files.h"
#include "test.h"

static const char *const names[] = {"adapter_model.safetensors", "adapter_model.bin"};
static const char header[] = "{\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}";

static void test_named(void)
{
	struct fr_store *st = NULL;
	struct fr_source *src;
	struct fr_error err;
	int rc;

	files_dir("stores");
	if (fr_source_open(files_path("stores"), &src, &err) != 0) {
		test_fail("exact/store", "%s", err.text);
		return;
	}
	rc = fr_store_open_named(src, names, 2, &st, &err);
	CHECK("exact/store refused: none of the names",
	      rc == -1 && !st && err.code == FR_E_MODEL &&
		      strstr(err.text, "stores: expected adapter_model.safetensors or adapter_model.bin, found none"),
	      "rc %d, \"%s\"", rc, err.text);
	files_text("stores/adapter_model.bin", "no zip at all");
	rc = fr_store_open_named(src, names, 2, &st, &err);
	CHECK("exact/store refused: the second name, with what is wrong in it",
	      rc == -1 && !st && strstr(err.text, "adapter_model.bin: expected a torch.save file"), "rc %d, \"%s\"", rc,
	      err.text);
	files_put_safetensors("stores/adapter_model.safetensors", header, 8);
	rc = fr_store_open_named(src, names, 2, &st, &err);
	CHECK("exact/store: the first name goes before the second",
	      rc == 0 && fr_store_count(st) == 1 && strcmp(fr_store_at(st, 0)->file, names[0]) == 0, "rc %d, \"%s\"",
	      rc, err.text);
	fr_store_close(st);
	fr_source_close(src);
}

static void test_file(void)
{
	struct fr_store *st = NULL;
	struct fr_error err;
	const uint8_t *bytes;
	size_t size;
	int rc;

	rc = fr_store_open_file(files_path("stores/adapter_model.safetensors"), &st, &err);
	CHECK("exact/store: a file by itself",
	      rc == 0 && fr_store_find(st, "w") && !strcmp(fr_store_at(st, 0)->file, names[0]), "rc %d, \"%s\"", rc,
	      err.text);
	if (rc == 0) {
		const void *data = fr_store_find(st, "w")->data;
		const char *path = fr_map_at(data);

		CHECK("exact/store: its mapping is known by its path, and is gone with the store",
		      path && strstr(path, "stores/adapter_model.safetensors"), "%s", path ? path : "unknown");
		fr_store_close(st);
		CHECK("exact/store: closed", fr_map_at(data) == NULL, "still mapped");
	}
	rc = fr_map_open("tests/golden/torch/flat.bin", &bytes, &size, &err);
	if (rc == 0)
		rc = fr_store_open_file(files_put("stores/flat.bin.new", bytes, size), &st, &err);
	CHECK("exact/store: torch's archive under any name", rc == 0 && st && fr_store_count(st) > 0, "rc %d, \"%s\"",
	      rc, err.text);
	fr_store_close(st);
	fr_map_close(bytes, size);
	rc = fr_store_open_file(files_path("stores/none.pth"), &st, &err);
	CHECK("exact/store refused: no such file",
	      rc == -1 && !st && err.code == FR_E_MODEL && strstr(err.text, "stores/none.pth: cannot be opened"),
	      "rc %d, \"%s\"", rc, err.text);
	rc = fr_store_open_file(files_path("stores"), &st, &err);
	CHECK("exact/store refused: a directory", rc == -1 && strstr(err.text, "expected a file, got a directory"),
	      "rc %d, \"%s\"", rc, err.text);
}

int main(void)
{
	test_named();
	test_file();
	return test_done();
}
