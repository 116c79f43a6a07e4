/* Readers of weights: mappings, the safetensors container read and written, shards and their index. */
#include "../weights/weights.h"
#include "files.h"
#include "test.h"

#include <setjmp.h>
#include <signal.h>
#include <time.h>

/* ---- mappings ---- */
static sigjmp_buf back;
static volatile const char *named;
static void on_sigbus(int signal, siginfo_t *info, void *context)
{
	(void)signal, (void)context;
	named = fr_map_at(info->si_addr);
	siglongjmp(back, 1);
}

static void test_shrinking_file(void)
{
	struct sigaction act = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO}, old;
	static uint8_t pages[3 * 4096];
	const char *path = files_put("shrinks", pages, sizeof pages);
	const uint8_t *bytes;
	struct fr_error err;
	volatile int sum = 0;
	size_t size;

	if (fr_map_open(path, &bytes, &size, &err) != 0 || truncate(path, 100) != 0) {
		test_fail("exact/a mapping that shrinks is named in the signal handler", "not set up");
		return;
	}
	sigaction(SIGBUS, &act, &old);
	if (sigsetjmp(back, 1) == 0)
		sum += bytes[2 * 4096 + 5];
	sigaction(SIGBUS, &old, NULL);
	CHECK("exact/a mapping that shrinks is named in the signal handler",
	      named && strcmp((const char *)named, path) == 0, "got %s", named ? (const char *)named : "nothing");
	fr_map_close(bytes, size);
}

static void test_map(void)
{
	const uint8_t *bytes[600], *empty;
	size_t size[600], n;
	struct fr_error err;
	int wrong = 0;
	const char *path = files_text("hello", "hello"), *fifo;

	for (int i = 0; i < 600; i++)
		wrong += fr_map_open(path, &bytes[i], &size[i], &err) != 0 || size[i] != 5 ||
			 memcmp(bytes[i], "hello", 5) != 0;
	for (int i = 0; i < 600; i++) {
		const char *at = fr_map_at(bytes[i] + 4);

		wrong += !at || strcmp(at, path) != 0;
	}
	CHECK("exact/600 mappings at once, each found by address", wrong == 0, "%d wrong", wrong);
	CHECK("exact/fr_map_at knows nothing of other addresses", !fr_map_at(&err) && !fr_map_at(NULL), "it named one");
	for (int i = 0; i < 600; i++) {
		fr_map_close(bytes[i], size[i]);
		wrong += fr_map_at(bytes[i]) != NULL;
	}
	CHECK("exact/a closed mapping is not named", wrong == 0, "%d still are", wrong);
	CHECK("exact/an empty file maps to size 0",
	      fr_map_open(files_text("empty", ""), &empty, &n, &err) == 0 && empty && n == 0, "%s", err.text);
	fr_map_close(empty, n);
	CHECK("exact/a missing file is refused",
	      fr_map_open(files_path("absent"), &empty, &n, &err) == -1 && err.code == FR_E_IO &&
		      strstr(err.text, "No such file"),
	      "%s", err.text);
	CHECK("exact/a directory is refused",
	      fr_map_open(files_dir("dir"), &empty, &n, &err) == -1 && strstr(err.text, "got a directory"), "%s",
	      err.text);
	CHECK("exact/a pointer of Git LFS is refused as such, and not left mapped",
	      fr_map_open(
		      files_text("pointer", "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 9\n"),
		      &empty, &n, &err) == -1 &&
		      strstr(err.text, "git lfs pull") && !empty && n == 0,
	      "%s", err.text);
	fifo = files_path("fifo");
	mkfifo(fifo, 0600);
	CHECK("exact/a FIFO is refused, not waited for",
	      fr_map_open(fifo, &empty, &n, &err) == -1 && strstr(err.text, "regular file"), "%s", err.text);
}

/* ---- the safetensors header ---- */
#define T(name, dtype, shape, a, b)                                                                                    \
	"\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" #a "," #b "]}"

static const struct {
	const char *what, *header;
	size_t data;
	const char *says; /* what the sentence must hold */
} bad_headers[] = {
	{"truncated data", "{" T("a", "F32", "[4]", 0, 16) "}", 8,
	 "tensor a: its bytes 0 to 16 lie outside the file's 8"},
	{"overlap", "{" T("a", "F32", "[2]", 0, 8) "," T("b", "F32", "[1]", 4, 8) "}", 8, "tensors a and b overlap"},
	{"same span twice", "{" T("a", "U8", "[2]", 0, 2) "," T("b", "U8", "[2]", 0, 2) "}", 2,
	 "tensors a and b overlap"},
	{"hole", "{" T("a", "F32", "[1]", 0, 4) "," T("b", "F32", "[1]", 8, 12) "}", 12,
	 "4 bytes before tensor b belong to no"},
	{"hole in front", "{" T("a", "U8", "[1]", 1, 2) "}", 2, "1 bytes before tensor a belong to no"},
	{"trailing bytes", "{" T("a", "F32", "[1]", 0, 4) "}", 7, "the last 3 bytes belong to no tensor"},
	{"data without tensors", "{}", 1, "the last 1 bytes belong to no tensor"},
	{"name twice", "{" T("a", "U8", "[1]", 0, 1) "," T("a", "U8", "[1]", 1, 2) "}", 2, "tensor a stands twice"},
	{"shape against offsets", "{" T("a", "F32", "[3]", 0, 8) "}", 8,
	 "tensor a: f32 [3] needs 12 bytes, its offsets give 8"},
	{"offsets reversed", "{" T("a", "F32", "[1]", 4, 0) "}", 4, "tensor a: its bytes 4 to 0 lie outside"},
	{"product beyond 2^64", "{" T("a", "F32", "[4294967296,4294967296]", 0, 0) "}", 0, "is more than 2^64 bytes"},
	{"product that wraps to the span", "{" T("a", "U8", "[4294967297,4294967296]", 0, 4294967296) "}", 4,
	 "is more than 2^64 bytes"},
	{"dimension beyond 2^63", "{" T("a", "U8", "[9223372036854775808]", 0, 1) "}", 1, "dimension 0 is beyond 2^63"},
	{"dimension beyond 2^64", "{" T("a", "U8", "[18446744073709551616]", 0, 1) "}", 1,
	 "expected an integer below 2^64"},
	{"nine dimensions", "{" T("a", "U8", "[1,1,1,1,1,1,1,1,1]", 0, 1) "}", 1, "more than 8 dimensions"},
	{"unknown dtype", "{" T("a", "F8_E4M3", "[1]", 0, 1) "}", 1, "tensor a: its dtype \"F8_E4M3\" is not read"},
	{"negative dimension", "{" T("a", "U8", "[-1]", 0, 1) "}", 1, "expected a non-negative integer, got 0x2D"},
	{"fraction", "{" T("a", "U8", "[1.0]", 0, 1) "}", 1, "expected ']', got 0x2E"},
	{"leading zero", "{" T("a", "U8", "[01]", 0, 1) "}", 1, "expected a non-negative integer"},
	{"three offsets", "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1,1]}}", 1, "expected ']'"},
	{"field missing", "{\"a\":{\"dtype\":\"U8\",\"shape\":[1]}}", 1, "tensor a: the field data_offsets is missing"},
	{"field twice", "{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\"}}", 1, "tensor a: repeated field \"dtype\""},
	{"field unknown", "{\"a\":{\"type\":\"U8\"}}", 1, "tensor a: unknown field \"type\""},
	{"tensor is no object", "{\"a\":[0,1]}", 1, "expected '{'"},
	{"metadata twice", "{\"__metadata__\":{},\"__metadata__\":{}}", 0, "__metadata__ stands twice"},
	{"metadata of numbers", "{\"__metadata__\":{\"a\":1}}", 0, "expected '\"'"},
	{"no JSON", "hello", 0, "header byte 0: expected '{', got 0x68"},
	{"unfinished", "{\"a\":{\"dtype\":\"U8\"", 0, "the header ends where"},
	{"unfinished string", "{\"a", 0, "the header ends where the rest of a string"},
	{"rest after the header", "{} x", 0, "expected the end of the header"},
	{"trailing comma", "{" T("a", "U8", "[1]", 0, 1) ",}", 1, "expected '\"'"},
	{"raw control character", "{\"a\nb\":{}}", 0, "expected the rest of a string"},
	{"escaped control character", "{\"a\\u001b[2J\":{}}", 0, "holds a control character"},
	{"escaped NUL", "{\"a\\u0000b\":{}}", 0, "expected a character other than NUL"},
	{"half a surrogate pair", "{\"\\ud83d\":{}}", 0, "surrogate pair"},
	{"wrong surrogate pair", "{\"\\ud83d\\u0041\":{}}", 0, "surrogate pair"},
	{"wrong escape", "{\"\\x41\":{}}", 0, "expected an escape character"},
};

static void test_bad_headers(void)
{
	char name[160];

	for (size_t i = 0; i < sizeof bad_headers / sizeof *bad_headers; i++) {
		struct fr_error err = {FR_OK, ""};
		struct fr_tensors t;
		size_t size;
		uint8_t *bytes = files_safetensors(bad_headers[i].header, bad_headers[i].data, &size);
		int rc = fr_safetensors_parse(bytes, size, "x.safetensors", &t, &err);

		snprintf(name, sizeof name, "exact/safetensors refused: %s", bad_headers[i].what);
		CHECK(name,
		      rc == -1 && err.code == FR_E_MODEL && strncmp(err.text, "x.safetensors: ", 15) == 0 &&
			      strstr(err.text, bad_headers[i].says),
		      "rc %d, \"%s\"", rc, err.text);
		free(bytes);
	}
}

static const char good_header[] =
	"{\"__metadata__\":{\"format\":\"pt\", \"k\\\"\":\"v\"}, " T("late", "F32", "[2,1]", 8, 16) "," T(
		"z", "BF16", "[0,7]", 8, 8) "," T("scalar", "I64", "[]", 0, 8) "," T("\\u00e9\\ud83d\\ude00\\\"\\/",
										     "U8", "[3]", 16, 19) " }  ";

static void test_good_header(void)
{
	struct fr_tensors t;
	struct fr_error err;
	size_t size;
	uint8_t *bytes = files_safetensors(good_header, 19, &size);
	int rc = fr_safetensors_parse(bytes, size, "x.safetensors", &t, &err);

	CHECK("exact/safetensors: any order, scalars, empty tensors, escapes, spaces", rc == 0 && t.n == 4, "rc %d, %s",
	      rc, err.text);
	if (rc != 0 || t.n != 4)
		return;
	CHECK("exact/safetensors: views in the order of the data",
	      !strcmp(t.at[0].name, "scalar") && !strcmp(t.at[1].name, "z") && !strcmp(t.at[2].name, "late") &&
		      !strcmp(t.at[3].name, "\xc3\xa9\xf0\x9f\x98\x80\"/"),
	      "got %s %s %s %s", t.at[0].name, t.at[1].name, t.at[2].name, t.at[3].name);
	CHECK("exact/safetensors: view fields",
	      t.at[2].dtype == FR_F32 && t.at[2].ndim == 2 && t.at[2].shape[0] == 2 && t.at[2].shape[1] == 1 &&
		      t.at[2].bytes == 8 && ((const uint8_t *)t.at[2].data)[0] == 8 && t.at[1].bytes == 0 &&
		      fr_tensor_items(&t.at[0]) == 1 && fr_tensor_items(&t.at[1]) == 0,
	      "a field differs");
	CHECK("exact/safetensors: metadata as it stands",
	      t.metadata && !strcmp(t.metadata, "{\"format\":\"pt\", \"k\\\"\":\"v\"}"), "got %s",
	      t.metadata ? t.metadata : "none");
	fr_tensors_free(&t);
	free(bytes);
}

/* No prefix of a file is a file; each lies in a buffer of its exact size. */
static void test_truncations(void)
{
	size_t size, accepted = 0;
	uint8_t *bytes = files_safetensors(good_header, 19, &size);

	for (size_t n = 0; n < size; n++) {
		uint8_t *copy = malloc(n ? n : 1);
		struct fr_tensors t;
		struct fr_error err;

		memcpy(copy, bytes, n);
		accepted += fr_safetensors_parse(copy, n, "x", &t, &err) == 0;
		free(copy);
	}
	free(bytes);
	CHECK("exact/safetensors refused: every truncation", accepted == 0, "%zu of %zu accepted", accepted, size);
}

static void test_lying_lengths(void)
{
	struct fr_tensors t;
	struct fr_error err;
	size_t size;
	uint8_t *bytes = files_safetensors("{}", 0, &size);

	bytes[0] = 3;
	CHECK("exact/safetensors refused: header longer than the file",
	      fr_safetensors_parse(bytes, size, "x", &t, &err) == -1 &&
		      strstr(err.text, "3 bytes long, but only 2 follow"),
	      "%s", err.text);
	memset(bytes, 0xff, 8);
	CHECK("exact/safetensors refused: header of 2^64 - 1 bytes",
	      fr_safetensors_parse(bytes, size, "x", &t, &err) == -1 && strstr(err.text, "at most 100000000 are legal"),
	      "%s", err.text);
	memset(bytes, 0, 8);
	CHECK("exact/safetensors refused: header of no bytes",
	      fr_safetensors_parse(bytes, size, "x", &t, &err) == -1 && strstr(err.text, "ends where '{'"), "%s",
	      err.text);
	CHECK("exact/safetensors refused: an empty file",
	      fr_safetensors_parse(bytes, 0, "x", &t, &err) == -1 && strstr(err.text, "got a file of 0 bytes"), "%s",
	      err.text);
	free(bytes);
}

static double parse_seconds(size_t n, int *rc)
{
	char *header = malloc(n * 96 + 16), *p = header;
	struct timespec before, after;
	double best = 1e9;
	struct fr_tensors t;
	struct fr_error err;
	size_t size;
	uint8_t *bytes;

	for (size_t i = 0; i < n; i++) /* names that share a long beginning, data in the opposite order */
		p += sprintf(
			p, "%c\"model.layers.weight.%zu\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[%zu,%zu]}",
			i ? ',' : '{', i, n - 1 - i, n - i);
	strcpy(p, "}");
	bytes = files_safetensors(header, n, &size);
	*rc = 0;
	for (int k = 0; k < 5; k++) {
		double s;

		clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
		*rc |= fr_safetensors_parse(bytes, size, "x", &t, &err) != 0 || t.n != n;
		clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
		s = (double)(after.tv_sec - before.tv_sec) + 1e-9 * (double)(after.tv_nsec - before.tv_nsec);
		best = s < best ? s : best;
		fr_tensors_free(&t);
	}
	free(bytes);
	free(header);
	return best;
}

/* Ten times the tensors cost about 12 times the work at n log n and 100 times if something is quadratic; 35 is the
 * geometric middle of the two. */
static void test_many_tensors(void)
{
	int rc1, rc2;
	double small = parse_seconds(10000, &rc1), large = parse_seconds(100000, &rc2);

	CHECK("bounded/safetensors: 100000 tensors in n log n", rc1 == 0 && rc2 == 0 && large < 35 * small + 0.01,
	      "rc %d %d, %g s for 10000, %g s for 100000", rc1, rc2, small, large);
}

/* ---- the writer ---- */
static void test_writer(void)
{
	const float a[6] = {1, 2, 3, 4, 5, 6};
	const int32_t ids[2] = {7, -1};
	const struct fr_tensor table[] = {{.name = "logits \"\\", .dtype = FR_F32, .ndim = 2, .shape = {2, 3}},
					  {.name = "none", .dtype = FR_F32, .ndim = 1, .shape = {0}},
					  {.name = "ids", .dtype = FR_I32, .ndim = 1, .shape = {2}}};
	const char *path = files_path("out.safetensors");
	struct fr_st_writer *w;
	struct fr_error err;
	struct fr_tensors t;
	const uint8_t *bytes;
	char tmp[600];
	size_t size;
	int rc = fr_st_create(path, table, 3, "{\"k\":\"v\"}", &w, &err);

	if (rc == 0) /* slices that cross the tensors */
		rc = fr_st_append(w, a, 10, &err) || fr_st_append(w, (const char *)a + 10, 14, &err) ||
		     fr_st_append(w, ids, 8, &err) || fr_st_close(w, &err);
	if (rc == 0)
		rc = fr_map_open(path, &bytes, &size, &err) || fr_safetensors_parse(bytes, size, "out", &t, &err);
	CHECK("exact/writer: what is written is read back",
	      rc == 0 && t.n == 3 && !strcmp(t.at[0].name, "logits \"\\") && t.at[0].shape[1] == 3 &&
		      !memcmp(t.at[0].data, a, 24) && !memcmp(t.at[2].data, ids, 8) &&
		      !strcmp(t.metadata, "{\"k\":\"v\"}"),
	      "rc %d, %s", rc, rc ? err.text : "content");
	if (rc == 0) {
		CHECK("exact/writer: data begins on a cache line", ((const uint8_t *)t.at[0].data - bytes) % 64 == 0,
		      "offset %d", (int)((const uint8_t *)t.at[0].data - bytes));
		fr_tensors_free(&t);
		fr_map_close(bytes, size);
	}
	path = files_path("short.safetensors");
	snprintf(tmp, sizeof tmp, "%s.tmp.%ld", path, (long)getpid());
	rc = fr_st_create(path, table, 3, NULL, &w, &err) || fr_st_append(w, a, 24, &err);
	CHECK("exact/writer: more data than promised is refused", rc == 0 && fr_st_append(w, a, 9, &err) == -1,
	      "taken");
	CHECK("exact/writer: a file that is not whole never appears",
	      fr_st_close(w, &err) == -1 && strstr(err.text, "promised 32 bytes of data, only 24") &&
		      access(path, F_OK) != 0 && access(tmp, F_OK) != 0,
	      "%s", err.text);
	CHECK("exact/writer: a folder that is not there is a sentence",
	      fr_st_create(files_path("no/such.safetensors"), table, 3, NULL, &w, &err) == -1 && err.code == FR_E_IO,
	      "%s", err.text);
}

/* ---- not finite ---- */
static void test_nonfinite(void)
{
	static const struct {
		enum fr_dtype dtype;
		uint64_t one, nan, inf;
	} kinds[] = {{FR_F32, 0x3f800000, 0x7fc00001, 0xff800000},
		     {FR_F16, 0x3c00, 0x7e01, 0xfc00},
		     {FR_BF16, 0x3f80, 0x7fc1, 0xff80},
		     {FR_F64, 0x3ff0000000000000, 0x7ff8000000000001, 0xfff0000000000000}};
	static const size_t places[] = {0, 1, 4095, 4096, 8191, 8192, 9000};
	uint8_t *raw = malloc(9001 * 8 + 1), *data = raw + 1; /* unaligned on purpose */
	size_t wrong = 0, index = 0;

	for (size_t k = 0; k < 4; k++) {
		size_t step = (size_t)fr_dtypes[kinds[k].dtype].bytes;
		struct fr_tensor t = {
			.dtype = kinds[k].dtype, .ndim = 1, .shape = {9001}, .data = data, .bytes = 9001 * step};

		for (size_t i = 0; i < 9001; i++)
			memcpy(data + i * step, &kinds[k].one, step);
		wrong += fr_tensor_nonfinite(&t, &index) != 0;
		for (size_t p = 0; p < 7; p++)
			for (int inf = 0; inf < 2; inf++) {
				memcpy(data + places[p] * step, inf ? &kinds[k].inf : &kinds[k].nan, step);
				wrong += !fr_tensor_nonfinite(&t, &index) || index != places[p];
				memcpy(data + places[p] * step, &kinds[k].one, step);
			}
	}
	free(raw);
	CHECK("exact/values that are not finite are found at their item", wrong == 0, "%zu wrong", wrong);
}

/* ---- a store over a folder ---- */
#define INDEX "model.safetensors.index.json"
#define SHARD_A "{" T("a", "U8", "[2]", 0, 2) "," T("nan", "BF16", "[2]", 2, 6) "}"
#define SHARD_B "{" T("b", "F32", "[1]", 0, 4) "," T("extra", "U8", "[1]", 4, 5) "}"
#define MAP(lines) "{\"metadata\":{\"total_size\":11},\"weight_map\":{" lines "}}"
#define LINES "\"a\":\"1.safetensors\",\"nan\":\"1.safetensors\",\"b\":\"2.safetensors\""

static struct fr_store *open_store(const char *dir, struct fr_source **src, struct fr_error *err)
{
	struct fr_store *st = NULL;

	err->text[0] = 0;
	*src = NULL;
	if (fr_source_open(dir, src, err) != 0 || fr_store_open(*src, &st, err) != 0)
		fr_source_close(*src);
	return st;
}

static const struct {
	const char *what, *index, *a, *b; /* NULL: the file is not there */
	const char *says;
} bad_stores[] = {
	{"a shard missing", MAP(LINES), SHARD_A, NULL, "1 of the 2 shards named in " INDEX " missing: 2.safetensors"},
	{"all shards missing", MAP(LINES), NULL, NULL,
	 "2 of the 2 shards named in " INDEX " missing: 1.safetensors, 2.safetensors"},
	{"tensor in another shard", MAP("\"a\":\"2.safetensors\",\"nan\":\"1.safetensors\",\"b\":\"2.safetensors\""),
	 SHARD_A, SHARD_B, "tensor a: expected in 2.safetensors, it is in 1.safetensors"},
	{"tensor in no shard", MAP(LINES ",\"c\":\"1.safetensors\""), SHARD_A, SHARD_B,
	 "tensor c: expected in 1.safetensors, it is in no shard"},
	{"tensor in two shards", MAP("\"a\":\"1.safetensors\",\"b\":\"2.safetensors\""), SHARD_A,
	 "{" T("b", "F32", "[1]", 0, 4) "," T("nan", "U8", "[1]", 4, 5) "}", "tensor nan lies in "},
	{"line of the index twice", MAP(LINES ",\"a\":\"2.safetensors\""), SHARD_A, SHARD_B,
	 "the key \"a\" stands twice"},
	{"shard in another folder", MAP("\"a\":\"../1.safetensors\""), SHARD_A, SHARD_B,
	 "tensor a: expected the name of a file beside"},
	{"shard that is a number", MAP("\"a\":1"), SHARD_A, SHARD_B, "tensor a: expected the name of a file beside"},
	{"index without lines", MAP(""), SHARD_A, SHARD_B, "expected an object weight_map"},
	{"index without map", "{}", SHARD_A, SHARD_B, "expected an object weight_map"},
	{"index that is a list", "[]", SHARD_A, SHARD_B, "expected a JSON object, got another value"},
	{"index that breaks", "{\"weight_map\":\n{", SHARD_A, SHARD_B, "the text breaks at byte"},
	{"index that goes on", MAP(LINES) "x", SHARD_A, SHARD_B, "more follows at byte"},
	{"index that is empty", "", SHARD_A, SHARD_B, INDEX ": expected one JSON object, the file is empty"},
	{"a shard that is damaged", MAP(LINES), SHARD_A, "{" T("b", "F32", "[9]", 0, 36) "}",
	 "2.safetensors: tensor b: its bytes 0 to 36"},
	{"two files without index", NULL, SHARD_A, SHARD_B, "got 2 safetensors files without an index"},
	{"no file at all", NULL, NULL, NULL, "got 0 safetensors files"},
};

static void put_store(const char *dir, const char *index, const char *a, const char *b)
{
	char name[300];

	files_dir(dir);
	snprintf(name, sizeof name, "%s/" INDEX, dir);
	index ? files_text(name, index) : (remove(files_path(name)), NULL);
	snprintf(name, sizeof name, "%s/1.safetensors", dir);
	a ? files_put_safetensors(name, a, 6) : (remove(files_path(name)), NULL);
	snprintf(name, sizeof name, "%s/2.safetensors", dir);
	b ? files_put_safetensors(name, b, 5) : (remove(files_path(name)), NULL);
}

static void test_bad_stores(void)
{
	char name[160];

	for (size_t i = 0; i < sizeof bad_stores / sizeof *bad_stores; i++) {
		struct fr_source *src;
		struct fr_error err;
		struct fr_store *st;

		put_store("bad", bad_stores[i].index, bad_stores[i].a, bad_stores[i].b);
		st = open_store(files_path("bad"), &src, &err);
		snprintf(name, sizeof name, "exact/checkpoint refused: %s", bad_stores[i].what);
		CHECK(name, !st && err.code == FR_E_MODEL && strstr(err.text, bad_stores[i].says), "\"%s\"", err.text);
		if (st) {
			fr_store_close(st);
			fr_source_close(src);
		}
	}
}

static void test_store(void)
{
	const struct fr_tensor *t;
	struct fr_source *src;
	struct fr_error err;
	struct fr_store *st;
	size_t index = 9;

	put_store("good", MAP(LINES), SHARD_A, SHARD_B);
	st = open_store(files_path("good"), &src, &err);
	CHECK("exact/shards with an index open", st && fr_store_count(st) == 4, "%s", err.text);
	if (!st)
		return;
	t = fr_store_find(st, "b");
	CHECK("exact/a tensor knows its shard", t && !strcmp(t->file, "2.safetensors") && t->bytes == 4, "not found");
	t = fr_store_find(st, "extra");
	CHECK("exact/a tensor the index leaves out is there all the same", t && t->bytes == 1, "not found");
	CHECK("exact/names are exact", !fr_store_find(st, "") && !fr_store_find(st, "A") && !fr_store_find(st, "aa"),
	      "found");
	CHECK("exact/tensors stand sorted by name",
	      !strcmp(fr_store_at(st, 0)->name, "a") && !strcmp(fr_store_at(st, 3)->name, "nan"), "they do not");
	CHECK("exact/finite weights are clean", !fr_store_nonfinite(st, &index), "it named one");
	fr_store_close(st);
	fr_source_close(src);
}

static void test_nan_weight(void)
{
	size_t size, index = 9;
	uint8_t *bytes = files_safetensors(SHARD_A, 6, &size);
	const struct fr_tensor *t;
	struct fr_source *src;
	struct fr_error err;
	struct fr_store *st;

	bytes[size - 2] = 0xc0; /* the second item of `nan` becomes 0x7fc0 */
	bytes[size - 1] = 0x7f;
	files_dir("withnan");
	files_put("withnan/odd-name.safetensors", bytes, size);
	free(bytes);
	st = open_store(files_path("withnan"), &src, &err);
	CHECK("exact/a single file of any name opens", st && fr_store_count(st) == 2, "%s", err.text);
	t = st ? fr_store_nonfinite(st, &index) : NULL;
	CHECK("exact/a NaN weight is found by tensor and item", t && !strcmp(t->name, "nan") && index == 1,
	      "%s, item %zu", t ? t->name : "none", index);
	fr_store_close(st);
	fr_source_close(src);
}

static void test_source(void)
{
	struct fr_source *src;
	const uint8_t *bytes, *again;
	struct fr_error err;
	size_t size;

	CHECK("exact/a model that is not there is refused",
	      fr_source_open(files_path("nowhere"), &src, &err) == -1 && err.code == FR_E_MODEL &&
		      strstr(err.text, "No such file"),
	      "%s", err.text);
	CHECK("exact/a model that is a file is refused",
	      fr_source_open(files_text("afile", "x"), &src, &err) == -1 && strstr(err.text, "expected a directory"),
	      "%s", err.text);
	files_dir("member");
	files_text("member/config.json", "{}");
	files_dir("member/tokenizer.json");
	if (fr_source_open(files_path("member"), &src, &err) == 0) {
		CHECK("exact/a member is mapped once",
		      fr_source_file(src, "config.json", &bytes, &size, &err) == 0 && size == 2 &&
			      fr_source_file(src, "config.json", &again, &size, &err) == 0 && again == bytes,
		      "%s", err.text);
		CHECK("exact/an absent member is 1", fr_source_file(src, "no.json", &bytes, &size, &err) == 1,
		      "it is not");
		CHECK("exact/a member that cannot be read is -1",
		      fr_source_file(src, "tokenizer.json", &bytes, &size, &err) == -1 && err.code == FR_E_MODEL, "%s",
		      err.text);
		fr_source_close(src);
	}
	CHECK("exact/the demo model is in the binary",
	      fr_source_open("demo", &src, &err) == 0 && fr_source_is_demo(src) &&
		      fr_source_file(src, "config.json", &bytes, &size, &err) == 0 && size > 2 && bytes[0] == '{' &&
		      fr_source_file(src, "nothing", &bytes, &size, &err) == 1,
	      "%s", err.text);
	fr_source_close(src);
}

int main(void)
{
	test_shrinking_file();
	test_map();
	test_bad_headers();
	test_good_header();
	test_truncations();
	test_lying_lengths();
	test_many_tensors();
	test_writer();
	test_nonfinite();
	test_bad_stores();
	test_store();
	test_nan_weight();
	test_source();
	return test_done();
}
