/* The torch.save reader: files that torch wrote against their tensors, a model saved anew against its safetensors bit
 * for bit, and all that it refuses, one sentence each. */
#include "../weights/torch.h"
#include "../engine/model.h"
#include "../weights/bind.h"
#include "e2e.h"
#include "torch_file.h"

#define GOLDEN "tests/golden/"

/* ---- torch's own files ---- */
static void test_golden(const char *file)
{
	struct golden want;
	struct fr_tensors got;
	struct fr_error err = {FR_OK, ""};
	const uint8_t *bytes;
	char label[128], path[128];
	size_t size, wrong = 0;

	snprintf(label, sizeof label, "exact/%s: the tensors that torch saved", file);
	snprintf(path, sizeof path, GOLDEN "%s", file);
	if (golden_open(GOLDEN "torch/want.safetensors", &want, &err) || fr_map_open(path, &bytes, &size, &err)) {
		test_fail(label, "%s", err.text);
		return;
	}
	if (fr_torch_parse(bytes, size, file, &got, &err)) {
		test_fail(label, "%s", err.text);
	} else {
		const struct fr_tensor *tied[2] = {NULL, NULL};

		for (size_t i = 0; i < got.n; i++) {
			const struct fr_tensor *t = golden_find(&want, got.at[i].name);
			const uint8_t *at = got.at[i].data;

			wrong += !t || !golden_same_bits(t, &got.at[i]) || at < bytes ||
				 at + got.at[i].bytes > bytes + size || strcmp(got.at[i].file, file) != 0;
			if (strcmp(got.at[i].name, "embed.weight") == 0)
				tied[0] = &got.at[i];
			if (strcmp(got.at[i].name, "head.weight") == 0)
				tied[1] = &got.at[i];
		}
		CHECK(label, got.n == want.t.n && wrong == 0, "%zu tensors of %zu, %zu wrong", got.n, want.t.n, wrong);
		snprintf(label, sizeof label, "exact/%s: tied tensors share their bytes", file);
		CHECK(label, tied[0] && tied[1] && tied[0]->data == tied[1]->data, "they do not");
		fr_tensors_free(&got);
	}
	fr_map_close(bytes, size);
	golden_close(&want);
}

/* Views in another order than their shapes: copied, and nothing but them. */
static void test_views(void)
{
	struct golden want;
	struct fr_tensors got;
	struct fr_error err = {FR_OK, ""};
	const uint8_t *bytes;
	size_t size, wrong = 0, in_file = 0, copied = 0;

	if (golden_open(GOLDEN "torch/views.safetensors", &want, &err) ||
	    fr_map_open(GOLDEN "torch/views.bin", &bytes, &size, &err)) {
		test_fail("exact/torch/views.bin", "%s", err.text);
		return;
	}
	if (fr_torch_parse(bytes, size, "views.bin", &got, &err)) {
		test_fail("exact/torch/views.bin", "%s", err.text);
	} else {
		for (size_t i = 0; i < got.n; i++) {
			const struct fr_tensor *t = golden_find(&want, got.at[i].name);
			const uint8_t *at = got.at[i].data;
			int inside = at >= bytes && at + got.at[i].bytes <= bytes + size;

			wrong += !t || !golden_same_bits(t, &got.at[i]);
			in_file += (size_t)inside;
			copied += inside ? 0 : got.at[i].bytes;
		}
		CHECK("exact/torch/views.bin: views in another order have the items that torch sees",
		      got.n == want.t.n && wrong == 0, "%zu tensors of %zu, %zu wrong", got.n, want.t.n, wrong);
		CHECK("exact/torch/views.bin: these are copied and counted, the one in order is not",
		      in_file == 1 && got.n_copies == got.n - 1 && got.copied_bytes == copied,
		      "%zu in the file, %zu copies of %zu bytes, counted %zu", in_file, got.n_copies, copied,
		      got.copied_bytes);
		fr_tensors_free(&got);
	}
	fr_map_close(bytes, size);
	golden_close(&want);
}

static void test_golden_refused(const char *file, const char *says)
{
	struct fr_error err = {FR_OK, ""};
	struct fr_tensors got;
	const uint8_t *bytes;
	char label[128], path[128];
	size_t size;
	int rc = -2;

	snprintf(label, sizeof label, "exact/%s is refused", file);
	snprintf(path, sizeof path, GOLDEN "%s", file);
	if (fr_map_open(path, &bytes, &size, &err) == 0) {
		rc = fr_torch_parse(bytes, size, file, &got, &err);
		fr_map_close(bytes, size);
	}
	CHECK(label, rc == -1 && err.code == FR_E_MODEL && strstr(err.text, says), "rc %d, \"%s\"", rc, err.text);
}

/* No prefix of a file is a file; each lies in a buffer of its exact size. And no changed byte of the directory, of a
 * header or of the pickle breaks the reader (what such a file means is another matter). */
static void test_damage(void)
{
	struct fr_error err;
	struct fr_tensors t;
	const uint8_t *bytes;
	size_t size, accepted = 0;

	if (fr_map_open(GOLDEN "torch/flat.bin", &bytes, &size, &err)) {
		test_fail("exact/torch refused: every truncation", "%s", err.text);
		return;
	}
	for (size_t n = 0; n < size; n++) {
		uint8_t *copy = malloc(n ? n : 1);

		memcpy(copy, bytes, n);
		accepted += fr_torch_parse(copy, n, "x", &t, &err) == 0;
		free(copy);
	}
	CHECK("exact/torch refused: every truncation", accepted == 0, "%zu of %zu accepted", accepted, size);
	for (size_t at = 0; at < size; at++) {
		uint8_t *copy = malloc(size);

		memcpy(copy, bytes, size);
		copy[at] ^= (uint8_t)(1 + at % 255);
		if (fr_torch_parse(copy, size, "x", &t, &err) == 0)
			fr_tensors_free(&t);
		free(copy);
	}
	test_ok("exact/torch: every changed byte is taken or refused without a fault");
	fr_map_close(bytes, size);
}

/* ---- pickles ---- */
#define KEY(k) "\x8c\x01" k
#define ID(class, key, n)                                                                                              \
	"(\x8c\x07storage" class KEY(key) "\x8c\x03"                                                                   \
					  "cpuK" n "tQ"
#define STORAGE(type, key, n) ID("ctorch\n" type "Storage\n", key, n)
#define HOOKS "ccollections\nOrderedDict\n)R"
#define REBUILD "ctorch._utils\n_rebuild_tensor_v2\n("
#define VIEW(storage, offset, size, stride) REBUILD storage "K" offset size stride "\x89" HOOKS "tR"
#define DIM2(a, b) "K" a "K" b "\x86"
#define GOOD VIEW(STORAGE("Float", "0", "\x06"), "\x00", DIM2("\x02", "\x03"), DIM2("\x03", "\x01"))
#define DICT(items) "\x80\x02}" items "."
#define W(value) DICT(KEY("w") value "s")
#define P(what, bytes, says)                                                                                           \
	{                                                                                                              \
		what, bytes, sizeof bytes - 1, says                                                                    \
	}

/* In an archive whose data/0 has 24 bytes. */
static const struct {
	const char *what, *pickle;
	size_t size;
	const char *says;
} bad_pickles[] = {
	P("a function of the system", W("cposix\nsystem\n\x8c\x02ls\x85R"), "data.pkl asks for posix.system, which"),
	P("eval",
	  W("cbuiltins\neval\n\x8c\x01"
	    "1\x85R"),
	  "data.pkl asks for builtins.eval"),
	P("another function of torch", W("ctorch._utils\n_rebuild_qtensor\n)R"),
	  "asks for torch._utils._rebuild_qtensor"),
	P("another class of torch", W("ctorch.nn\nLinear\n)R"), "asks for torch.nn.Linear"),
	P("a complex storage", W(STORAGE("ComplexFloat", "0", "\x03")), "asks for torch.ComplexFloatStorage"),
	P("STACK_GLOBAL of another class", W("\x8c\x02os\x8c\x06system\x93)R"), "asks for os.system"),
	P("STACK_GLOBAL of numbers", W("K\x01K\x02\x93"), "opcode STACK_GLOBAL: expected two strings"),
	P("opcode INST", W("(ios\nsystem\n"), "opcode INST (0x69), which torch.save writes for no state dict"),
	P("opcode OBJ", W("(o"), "opcode OBJ (0x6F)"),
	P("opcode NEWOBJ", W("ccollections\nOrderedDict\n)\x81"), "opcode NEWOBJ (0x81)"),
	P("opcode EXT1", W("\x82\x01"), "opcode EXT1 (0x82)"),
	P("opcode PERSID", W("P0\n"), "opcode PERSID (0x50)"),
	P("opcode POP", W("0"), "opcode POP (0x30)"),
	P("unknown opcode", W("\xff"), "opcode unknown (0xFF)"),
	P("a storage that is called", W("ctorch\nFloatStorage\n)R"), "a storage class that is called"),
	P("a number that is called", W("K\x01)R"), "expected a function and a tuple"),
	P("an OrderedDict made of something", W("ccollections\nOrderedDict\n]\x85R"),
	  "an OrderedDict made with arguments"),
	P("attributes of a list", W("]}b"), "opcode BUILD: expected a dict that is given attributes"),
	P("a persistent id of another form", W("\x8c\x01zQ"), "expected ('storage', class, key, location, number"),
	P("a persistent id of a dict class", W(ID("ccollections\nOrderedDict\n", "0", "\x06")), "expected ('storage'"),
	P("a tensor without a storage", W(REBUILD "NK\x00))\x89NtR"), "_rebuild_tensor_v2 without a storage"),
	P("a parameter without a tensor", W("ctorch._utils\n_rebuild_parameter\n(N\x88NtR"), "without a tensor"),
	P("protocol 0", "(dp0\n.", "opcode DICT (0x64)"),
	P("protocol 9", "\x80\x09}.", "expected a pickle protocol from 2 to 5"),
	P("no end", "\x80\x02}", "data.pkl ends without STOP"),
	P("an empty pickle", "", "data.pkl ends without STOP"),
	P("two values at the end", "\x80\x02}}.", "expected one value on the stack"),
	P("bytes after the end", "\x80\x02}.}", "more follows after the end"),
	P("an empty stack", "\x80\x02\x85.", "opcode TUPLE1: the stack is too short"),
	P("a value taken through a mark", "\x80\x02K\x01(\x85.", "the stack is too short"),
	P("no mark", "\x80\x02t.", "opcode TUPLE: no mark"),
	P("a string beyond the pickle", "\x80\x02X\xff\xff\xff\x7f", "length reaches beyond the pickle"),
	P("a string of 2^64 bytes", "\x80\x02\x8d\xff\xff\xff\xff\xff\xff\xff\xff", "reaches beyond the pickle"),
	P("a name beyond the pickle",
	  "\x80\x02"
	  "ctorch\nFloat",
	  "opcode GLOBAL: the pickle ends in the middle"),
	P("an integer of 9 bytes",
	  W("\x8a\x09"
	    "123456789"),
	  "an integer of more than 64 bits"),
	P("a memo number cut off", "\x80\x02K\x01r\xff\xff", "opcode LONG_BINPUT: the pickle ends"),
	P("a memo out of order", W("K\x01r\xff\xff\xff\x7f"), "a memo number out of its order"),
	P("a memo never set", W("h\x07"), "a memo number that was never set"),
	P("an item without a dict", "\x80\x02]K\x01K\x02s.", "expected a dict to put items into"),
	P("a key without a value", "\x80\x02}(K\x01u.", "a key without a value"),
	P("a dict that holds itself", "\x80\x02}q\x00\x8c\x05modelh\x00s.", "got a dict without"),
	P("a list", "\x80\x02].", "expected a dict of tensors, it holds a list"),
	P("an empty tuple from a mark", "\x80\x02(t.", "expected a dict of tensors, it holds a tuple"),
	P("a tensor alone", "\x80\x02" GOOD ".", "expected a dict of tensors, it holds a tensor"),
	P("an empty dict", DICT(""), "got a dict without"),
	P("dicts without tensors", W("}"), "got a dict without"),
	P("two levels down", DICT("\x8c\x05model}\x8c\x05model}" KEY("w") GOOD "sss"), "got a dict without"),
	P("two state dicts", DICT("\x8c\x05model}" KEY("w") GOOD "ss\x8c\x0astate_dict}" KEY("w") GOOD "ss"),
	  "which one holds the weights cannot be told"),
	P("a name that is a number", DICT("K\x01" GOOD "s"), "the name of a tensor is an integer"),
	P("a name with a control character", DICT(KEY("\x1b") GOOD "s"), "holds a control character"),
	P("a name with NUL", DICT(KEY("\x00") GOOD "s"), "holds a control character"),
	P("a name twice", DICT(KEY("w") GOOD "s" KEY("w") GOOD "s"), "tensor w stands twice in data.pkl"),
	P("a transposed view out of its storage",
	  W(VIEW(STORAGE("Float", "0", "\x06"), "\x00", DIM2("\x03", "\x02"), DIM2("\x01", "\x04"))),
	  "tensor w: its 6 items from item 0 on reach out of its storage of 6"),
	P("a stride that leads beyond 2^64",
	  W(VIEW(STORAGE("Float", "0", "\x06"), "\x00", "K\x05\x85", "\x8a\x08\x00\x00\x00\x00\x00\x00\x00\x40\x85")),
	  "tensor w: its 5 items from item 0 on reach out of its storage of 6"),
	P("strides that add up to 2^64",
	  W(VIEW(STORAGE("Float", "0", "\x06"), "\x00", DIM2("\x03", "\x03"),
		 "\x8a\x08\x00\x00\x00\x00\x00\x00\x00\x40\x8a\x08\x00\x00\x00\x00\x00\x00\x00\x40\x86")),
	  "tensor w: its 9 items from item 0 on reach out of its storage of 6"),
	P("an expanded view larger than the file",
	  W(VIEW(STORAGE("Float", "0", "\x06"), "\x00", "M\xff\xffK\x06\x86", DIM2("\x00", "\x01"))),
	  "tensor w: a transposed, cut or expanded view (size [65535, 6], stride [0, 1]), of which there may be no "
	  "more than "
	  "the file is large; save it with .contiguous()"),
	P("an expanded view of 2^62 items",
	  W(VIEW(STORAGE("Float", "0", "\x06"), "\x00", "\x8a\x08\x00\x00\x00\x00\x00\x00\x00\x40\x85", "K\x00\x85")),
	  "(size [4611686018427387904], stride [0]), of which there may be no more than the file is large"),
	P("a view out of its storage",
	  W(VIEW(STORAGE("Float", "0", "\x06"), "\x01", DIM2("\x02", "\x03"), DIM2("\x03", "\x01"))),
	  "its 6 items from item 1 on reach out of its storage of 6"),
	P("an offset out of its storage", W(VIEW(STORAGE("Float", "0", "\x06"), "\x07", "K\x00\x85", "K\x01\x85")),
	  "its 0 items from item 7 on reach out"),
	P("an offset that is none",
	  W(REBUILD STORAGE("Float", "0", "\x06") "N"
						  "K\x01\x85K\x01\x85\x89NtR"),
	  "from item -1 on reach out"),
	P("a storage of another number of items",
	  W(VIEW(STORAGE("Float", "0", "\x07"), "\x00", "K\x01\x85", "K\x01\x85")),
	  "data/0 should have 7 f32 items, the archive has 24 bytes"),
	P("a storage of another type", W(VIEW(STORAGE("Double", "0", "\x06"), "\x00", "K\x01\x85", "K\x01\x85")),
	  "data/0 should have 6 f64 items, the archive has 24 bytes"),
	P("a storage that is not there", W(VIEW(STORAGE("Float", "9", "\x06"), "\x00", "K\x01\x85", "K\x01\x85")),
	  "its storage data/9 is not in the archive"),
	P("size and stride of two lengths", W(VIEW(STORAGE("Float", "0", "\x06"), "\x00", "K\x06\x85", ")")),
	  "not two tuples of one length"),
	P("a negative size", W(VIEW(STORAGE("Float", "0", "\x06"), "\x00", "J\xff\xff\xff\xff\x85", "K\x01\x85")),
	  "dimension 0 has a size or stride that is no integer from 0 on"),
	P("nine dimensions",
	  W(VIEW(STORAGE("Float", "0", "\x06"), "\x00", "(K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01t",
		 "(K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01t")),
	  "more than 8 dimensions"),
	P("a product beyond 2^63",
	  W(VIEW(STORAGE("Float", "0", "\x06"), "\x00", "J\xff\xff\xff\x7fJ\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x87",
		 "K\x01K\x01K\x01\x87")),
	  "is more than 2^63 items"),
	P("a view with a transformation put off",
	  W(REBUILD STORAGE("Float", "0", "\x06") "K\x00K\x06\x85K\x01\x85\x89" HOOKS "}\x8c\x03neg\x88stR"),
	  "a transformation that is put off"),
};

static const float six[6] = {1, 2, 3, 4, 5, 6};

static void archive(struct tzip *z, const void *pickle, size_t size, int zip64)
{
	memset(z, 0, sizeof *z);
	tzip_add(z, "m/data.pkl", pickle, size);
	tzip_add(z, "m/byteorder", "little", 6);
	tzip_add(z, "m/data/0", six, sizeof six);
	tzip_add(z, "m/version", "3\n", 2);
	tzip_end(z, zip64);
}

/* In a buffer of its exact size. */
static int parse(const struct tzip *z, struct fr_tensors *t, struct fr_error *err)
{
	uint8_t *copy = malloc(z->file.n);
	int rc;

	memcpy(copy, z->file.b, z->file.n);
	err->text[0] = 0;
	rc = fr_torch_parse(copy, z->file.n, "x.bin", t, err);
	if (rc == 0 && (t->n != 1 || memcmp(t->at[0].data, six, sizeof six) != 0))
		rc = 1;
	if (rc >= 0)
		fr_tensors_free(t);
	free(copy);
	return rc;
}

static void check_refused(const char *what, const struct tzip *z, const char *says)
{
	struct fr_error err = {FR_OK, ""};
	struct fr_tensors t;
	char name[160];
	int rc = parse(z, &t, &err);

	snprintf(name, sizeof name, "exact/torch refused: %s", what);
	CHECK(name,
	      rc == -1 && err.code == FR_E_MODEL && strncmp(err.text, "x.bin: ", 7) == 0 && strstr(err.text, says),
	      "rc %d, \"%s\"", rc, err.text);
}

static void test_bad_pickles(void)
{
	struct tzip z;

	for (size_t i = 0; i < sizeof bad_pickles / sizeof *bad_pickles; i++) {
		archive(&z, bad_pickles[i].pickle, bad_pickles[i].size, 0);
		check_refused(bad_pickles[i].what, &z, bad_pickles[i].says);
		tzip_free(&z);
	}
}

static void check_repeated(const char *what, const char *bytes, size_t n, size_t times, const char *says)
{
	struct tbuf p = {0};
	struct tzip z;

	tbuf_text(&p, "\x80\x02");
	for (size_t i = 0; i < times; i++)
		tbuf_put(&p, bytes, n);
	archive(&z, p.b, p.n, 0);
	check_refused(what, &z, says);
	tzip_free(&z);
	free(p.b);
}

static void test_huge_pickles(void)
{
	check_repeated("a huge stack", "N", 1, 1 << 17, "or a stack of more than 65536");
	check_repeated("a million marks", "(", 1, 1 << 20, "more than 256 levels of nesting");
	check_repeated("endless dicts", "]}a", 3, 5 << 20, "more than 4194304 values of one sort");
	check_repeated("a pickle of 33 MiB", "NNNNNNNNNNNNNNNN", 16, 33 << 16, "at most 33554432 are read");
}

/* ---- archives ---- */
/* Member 1 is m/byteorder, 2 is m/data/0; entry: +10 method, +20 packed size, +24 size, +42 place; local: +8 method,
 * +18 and +22 sizes, +30 name. */
static void set_compressed(struct tzip *z)
{
	tzip_set(z, z->at[2].entry + 10, 8, 2);
}
static void set_bomb(struct tzip *z)
{
	tzip_set(z, z->at[2].entry + 24, 0xf0000000, 4);
}
static void set_local_method(struct tzip *z)
{
	tzip_set(z, z->at[2].local + 8, 8, 2);
}
static void set_encrypted(struct tzip *z)
{
	tzip_set(z, z->at[2].entry + 8, 1, 2);
}
static void set_local_name(struct tzip *z)
{
	tzip_set(z, z->at[2].local + 37, 'x', 1);
}
static void set_local_size(struct tzip *z)
{
	tzip_set(z, z->at[2].local + 22, 25, 4);
}
static void set_control(struct tzip *z)
{
	tzip_set(z, z->at[2].entry + 46, 0x1b, 1);
}
static void set_beyond(struct tzip *z)
{
	tzip_set(z, z->at[3].entry + 20, 1 << 20, 4);
	tzip_set(z, z->at[3].entry + 24, 1 << 20, 4);
}
static void set_overlap(struct tzip *z)
{
	tzip_set(z, z->at[2].entry + 20, 25, 4);
	tzip_set(z, z->at[2].entry + 24, 25, 4);
	tzip_set(z, z->at[2].local + 18, 25, 4);
	tzip_set(z, z->at[2].local + 22, 25, 4);
}
static void set_place(struct tzip *z)
{
	tzip_set(z, z->at[2].entry + 42, z->at[2].local + 1, 4);
}
static void set_place_far(struct tzip *z)
{
	tzip_set(z, z->at[2].entry + 42, 0xfffffff0, 4);
}
static void set_entry_signature(struct tzip *z)
{
	tzip_set(z, z->at[1].entry, 0, 4);
}
static void set_name_length(struct tzip *z)
{
	tzip_set(z, z->at[3].entry + 28, 60000, 2);
}
static void set_count_low(struct tzip *z)
{
	tzip_set(z, z->end + 8, 3 | 3 << 16, 4);
}
static void set_count_high(struct tzip *z)
{
	tzip_set(z, z->end + 8, 0x40004000, 4);
}
static void set_disks(struct tzip *z)
{
	tzip_set(z, z->end + 4, 1, 2);
}
static void set_directory(struct tzip *z)
{
	tzip_set(z, z->end + 16, z->directory - 64, 4);
}
static void set_need64(struct tzip *z)
{
	tzip_set(z, z->end + 16, 0xffffffff, 4);
}
static void set_locator(struct tzip *z)
{
	tzip_set(z, z->end - 12, ~(uint64_t)0, 8);
}
static void set_record(struct tzip *z)
{
	tzip_set(z, z->end64, 0, 4);
}
static void set_count64(struct tzip *z)
{
	tzip_set(z, z->end64 + 24, ~(uint64_t)0, 8);
	tzip_set(z, z->end64 + 32, ~(uint64_t)0, 8);
}
static void set_directory64(struct tzip *z)
{
	tzip_set(z, z->end64 + 48, ~(uint64_t)0, 8);
}
static void set_field64(struct tzip *z)
{
	tzip_set(z, z->at[2].entry + 46 + 8 + 2, 16, 2);
}
static void set_size64(struct tzip *z)
{
	tzip_set(z, z->at[2].entry + 46 + 8 + 4, ~(uint64_t)0, 8);
	tzip_set(z, z->at[2].entry + 46 + 8 + 12, ~(uint64_t)0, 8);
}

static const struct {
	const char *what;
	int zip64;
	void (*set)(struct tzip *z);
	const char *says;
} bad_archives[] = {
	{"a compressed member", 0, set_compressed,
	 "member m/data/0 is compressed (method 8, 24 bytes from 24): only stored"},
	{"a zip bomb", 0, set_bomb, "member m/data/0 is compressed (method 0, 4026531840 bytes from 24)"},
	{"a member compressed in its own header", 0, set_local_method, "its local header says compressed"},
	{"an encrypted member", 0, set_encrypted, "member m/data/0 is encrypted"},
	{"another name in the local header", 0, set_local_name, "m/data/0 has another name in its local header"},
	{"another size in the local header", 0, set_local_size,
	 "its local header says 25 bytes, its directory entry 24"},
	{"a control character in a member's name", 0, set_control, "the name of zip member 2 is empty"},
	{"a member beyond the file", 0, set_beyond, "reach beyond the file's data (truncated?)"},
	{"members that overlap", 0, set_overlap, "overlap"},
	{"a member that is not where it should be", 0, set_place, "member m/data/0: no local header at byte"},
	{"a member 4 GiB away", 0, set_place_far, "member m/data/0: no local header at byte 4294967280"},
	{"a directory that breaks", 0, set_entry_signature, "its zip directory breaks at entry 1 of 4"},
	{"a name beyond the directory", 0, set_name_length, "its zip directory breaks at entry 3 of 4"},
	{"a directory with more entries than it says", 0, set_count_low, "bytes follow the last of the 3 entries"},
	{"a directory with fewer entries than it says", 0, set_count_high, "has no room for 16384 members"},
	{"an archive in parts", 0, set_disks, "a zip file in several parts is not read"},
	{"a directory elsewhere", 0, set_directory, "its zip directory should end at byte"},
	{"zip64 without its record", 0, set_need64, "the zip64 end record that its end record asks for is missing"},
	{"zip64: a locator to nowhere", 1, set_locator, "no zip64 end record at byte 18446744073709551615"},
	{"zip64: no record where the locator says", 1, set_record, "no zip64 end record at byte"},
	{"zip64: 2^64 - 1 members", 1, set_count64, "has no room for 18446744073709551615 members"},
	{"zip64: a directory at 2^64 - 1", 1, set_directory64, "its zip directory should end at byte"},
	{"zip64: a field that is too short", 1, set_field64, "its zip64 field is missing or too short"},
	{"zip64: a member of 2^64 - 1 bytes", 1, set_size64, "its 18446744073709551615 bytes at byte"},
};

static void test_bad_archives(void)
{
	static const char good[] = W(GOOD);
	struct fr_error err;
	struct fr_tensors t;
	struct tzip z;

	for (int zip64 = 0; zip64 < 2; zip64++) {
		archive(&z, good, sizeof good - 1, zip64);
		CHECK(zip64 ? "exact/torch: zip64 is read" : "exact/torch: an archive of four members is read",
		      parse(&z, &t, &err) == 0, "%s", err.text);
		tzip_free(&z);
	}
	for (size_t i = 0; i < sizeof bad_archives / sizeof *bad_archives; i++) {
		archive(&z, good, sizeof good - 1, bad_archives[i].zip64);
		bad_archives[i].set(&z);
		check_refused(bad_archives[i].what, &z, bad_archives[i].says);
		tzip_free(&z);
	}
}

/* Archives that are sound as such, with other members. NULL: the good one's pickle. */
static const struct {
	const char *what, *name[3], *data[3];
	const char *says;
} bad_members[] = {
	{"big-endian numbers",
	 {"m/data.pkl", "m/byteorder"},
	 {NULL, "big"},
	 "its byte order is \"big\", expected \"little\""},
	{"no data.pkl", {"m/other.pkl"}, {"x"}, "not one of torch.save: it has no member FOLDER/data.pkl"},
	{"data.pkl without a folder", {"data.pkl"}, {NULL}, "it has no member FOLDER/data.pkl"},
	{"two data.pkl",
	 {"m/data.pkl", "n/data.pkl"},
	 {NULL, NULL},
	 "expected one data.pkl, got m/data.pkl and n/data.pkl"},
	{"a member in another folder", {"m/data.pkl", "../data/0"}, {NULL, "x"}, "member ../data/0 lies outside"},
	{"a member twice", {"m/data.pkl", "m/data/0", "m/data/0"}, {NULL, "x", "x"}, "m/data/0 stands twice"},
	{"a TorchScript program", {"m/data.pkl", "m/constants.pkl"}, {NULL, "x"}, "a TorchScript program"},
	{"a truncated storage",
	 {"m/data.pkl", "m/data/0"},
	 {NULL, "12345678901234567890123"},
	 "the archive has 23 bytes"},
	{"an archive without members", {NULL}, {NULL}, "it has no member FOLDER/data.pkl"},
};

static void test_bad_members(void)
{
	static const char good[] = W(GOOD);
	struct tzip z;

	for (size_t i = 0; i < sizeof bad_members / sizeof *bad_members; i++) {
		memset(&z, 0, sizeof z);
		for (int k = 0; k < 3 && bad_members[i].name[k]; k++) {
			const char *data = bad_members[i].data[k];

			tzip_add(&z, bad_members[i].name[k], data ? data : good, data ? strlen(data) : sizeof good - 1);
		}
		tzip_end(&z, 0);
		check_refused(bad_members[i].what, &z, bad_members[i].says);
		tzip_free(&z);
	}
}

static void test_other_formats(void)
{
	static const char legacy[] = "\x80\x02\x8a\x0al\xfc\x9c"
				     "F\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.";
	static const char json[] = "{\"a\": 1}";
	struct tzip z = {0};

	tbuf_put(&z.file, legacy, sizeof legacy - 1);
	check_refused("the format before torch 1.6", &z,
		      "convert it in its folder, where you trust it: python3 -c \"import torch; f='x.bin'; torch.save");
	z.file.n = 0;
	for (int i = 0; i < 257; i++)
		tbuf_put(&z.file, "", 1);
	tbuf_text(&z.file, "ustar\0");
	tbuf_le(&z.file, 0, 8);
	check_refused("the tar format", &z, "the tar format of torch before 0.1.10");
	z.file.n = 0;
	tbuf_put(&z.file, json, sizeof json - 1);
	check_refused("another file", &z, "expected a torch.save file (a zip archive), it begins with 7B 22 61 22");
	z.file.n = 0;
	check_refused("an empty file", &z, "expected a torch.save file, got 0 bytes");
	tzip_free(&z);
}

/* ---- a model saved anew ---- */
static const char *const storage_names[FR_DTYPES] = {
	[FR_F32] = "Float", [FR_F16] = "Half", [FR_BF16] = "BFloat16", [FR_I64] = "Long"};

/* Tensors first, first + step, ... of a store as NAME; a line of the index each. */
static void save_shard(const struct fr_store *st, size_t first, size_t step, const char *dir, const char *name,
		       struct tbuf *index)
{
	struct tbuf p = {0};
	struct tzip z = {0};
	char path[300];
	int key = 0;

	tbuf_text(&p, "\x80\x02"
		      "ccollections\nOrderedDict\n)R(");
	for (size_t i = first; i < fr_store_count(st); i += step) {
		const struct fr_tensor *t = fr_store_at(st, i);
		char line[400];

		tpkl_tensor(&p, t->name, storage_names[t->dtype], key++, fr_tensor_items(t), 0, t->shape, t->ndim);
		snprintf(line, sizeof line, "%s\"%s\":\"%s\"", index->n ? "," : "{\"weight_map\":{", t->name, name);
		tbuf_text(index, line);
	}
	tbuf_text(&p, "u}\x8c\x09_metadata}sb.");
	tzip_add(&z, "pytorch_model/data.pkl", p.b, p.n);
	for (size_t i = first, k = 0; i < fr_store_count(st); i += step, k++) {
		snprintf(path, sizeof path, "pytorch_model/data/%zu", k);
		tzip_add(&z, path, fr_store_at(st, i)->data, fr_store_at(st, i)->bytes);
	}
	tzip_end(&z, first % 2 == 0);
	snprintf(path, sizeof path, "%s/%s", dir, name);
	files_put(path, z.file.b, z.file.n);
	tzip_free(&z);
	free(p.b);
}

/* The case's folder with .bin files for its safetensors; returns its path. */
static const char *save_model(const char *name, int shards, const struct fr_store *st)
{
	static const char *const same[] = {"config.json",
					   "preprocessor_config.json",
					   "tokenizer.json",
					   "tokenizer.model",
					   "tokenizer_config.json",
					   "added_tokens.json",
					   "special_tokens_map.json",
					   "generation_config.json"};
	struct tbuf index = {0};
	char path[400], shard[64];

	files_dir(name);
	for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
		struct fr_error err;
		const uint8_t *bytes;
		size_t size;

		snprintf(path, sizeof path, ROOT "%s/model/%s", name, same[i]);
		if (access(path, F_OK) != 0 || fr_map_open(path, &bytes, &size, &err) != 0)
			continue;
		snprintf(path, sizeof path, "%s/%s", name, same[i]);
		files_put(path, bytes, size);
		fr_map_close(bytes, size);
	}
	for (int i = 0; i < shards; i++) {
		snprintf(shard, sizeof shard, "pytorch_model-%05d-of-%05d.bin", i + 1, shards);
		save_shard(st, (size_t)i, (size_t)shards, name, shards > 1 ? shard : "pytorch_model.bin", &index);
	}
	tbuf_text(&index, "}}");
	snprintf(path, sizeof path, "%s/pytorch_model.bin.index.json", name);
	if (shards > 1)
		files_put(path, index.b, index.n);
	free(index.b);
	return files_path(name);
}

static int dump_model(struct fr_model *m, const struct made *made, const char *out, struct fr_error *err)
{
	const struct fr_session_opts o = {
		.backend = "cpu", .kv_f32 = 1, .threads = 2, .max_tokens = 4, .chat = made->chat};
	struct fr_session *s = NULL;
	const uint8_t *bytes;
	char path[200];
	size_t size;
	int rc;

	snprintf(path, sizeof path, ROOT "images/%s", made->image);
	FR_TRY(fr_map_open(path, &bytes, &size, err));
	rc = fr_session_new(m, &o, &s, err);
	if (rc == 0)
		rc = fr_dump(s, &(struct fr_dump_opts){.image = bytes, .image_size = size, .tap = "*", .max_tokens = 4},
			     out, err);
	fr_session_free(s);
	fr_map_close(bytes, size);
	return rc;
}

static void test_same_bits(const char *name, int shards)
{
	struct fr_model *st = NULL, *bin = NULL;
	struct golden want, a, b;
	struct fr_error err = {FR_OK, ""};
	struct made made;
	char label[160], path[300], out[2][300];
	int rc;

	snprintf(label, sizeof label, "exact/torch/%s: the same bits as from safetensors", name);
	if (case_open(name, &want, &made))
		return;
	golden_close(&want);
	snprintf(path, sizeof path, ROOT "%s/model", name);
	snprintf(out[0], sizeof out[0], "%s", files_path("st.safetensors"));
	snprintf(out[1], sizeof out[1], "%s", files_path("bin.safetensors"));
	rc = fr_model_load(&(struct fr_model_opts){.path = path}, &st, &err);
	if (rc == 0)
		rc = fr_model_load(&(struct fr_model_opts){.path = save_model(name, shards, st->parts.store[FR_FROM_MODEL])}, &bin, &err);
	if (rc == 0)
		rc = dump_model(st, &made, out[0], &err) || dump_model(bin, &made, out[1], &err);
	if (rc == 0)
		rc = golden_open(out[0], &a, &err);
	if (rc == 0 && (rc = golden_open(out[1], &b, &err)) != 0)
		golden_close(&a);
	if (rc != 0) {
		test_fail(label, "%s", err.text);
	} else {
		size_t differ = a.t.n != b.t.n;

		for (size_t i = 0; i < a.t.n && i < b.t.n; i++)
			differ += strcmp(a.t.at[i].name, b.t.at[i].name) != 0 ||
				  !golden_same_bits(&a.t.at[i], &b.t.at[i]);
		CHECK(label, differ == 0 && a.t.n > 20, "%zu of %zu intermediates differ", differ, a.t.n);
		snprintf(label, sizeof label, "exact/torch/%s: the same hash of the weights", name);
		CHECK(label, strcmp(st->hash, bin->hash) == 0, "%s against %s", st->hash, bin->hash);
		snprintf(label, sizeof label, "exact/torch/%s: nothing is copied", name);
		CHECK(label, bin->weights.n_copies == 0, "%zu tensors were", bin->weights.n_copies);
		golden_close(&a);
		golden_close(&b);
	}
	fr_model_free(st);
	fr_model_free(bin);
}

/* A tensor that is not in the files is reported by its names, as from safetensors. */
static void test_missing(void)
{
	static const char good[] = W(GOOD);
	struct fr_model *m = NULL;
	struct fr_error err = {FR_OK, ""};
	struct tzip z;
	int rc;

	archive(&z, good, sizeof good - 1, 0);
	files_put("old-f32/pytorch_model.bin", z.file.b, z.file.n);
	tzip_free(&z);
	rc = fr_model_load(&(struct fr_model_opts){.path = files_path("old-f32")}, &m, &err);
	CHECK("exact/torch: tensors that are missing are named",
	      rc == -1 && strstr(err.text, "are missing or do not fit") && strstr(err.text, "is missing, expected ["),
	      "rc %d, %s", rc, err.text);
	remove(files_path("old-f32/pytorch_model.bin"));
	rc = fr_model_load(&(struct fr_model_opts){.path = files_path("old-f32")}, &m, &err);
	CHECK("exact/torch: a folder without weights says what was expected",
	      rc == -1 && strstr(err.text, "or pytorch_model.bin with or without index"), "rc %d, %s", rc, err.text);
	remove(files_path("old-bf16-gqa-shards/pytorch_model-00002-of-00002.bin"));
	rc = fr_model_load(&(struct fr_model_opts){.path = files_path("old-bf16-gqa-shards")}, &m, &err);
	CHECK("exact/torch: a shard that is missing is named",
	      rc == -1 && strstr(err.text,
				 "1 of the 2 shards named in pytorch_model.bin.index.json missing: pytorch_model-"),
	      "rc %d, %s", rc, err.text);
}

int main(void)
{
	test_golden("torch/flat.bin");
	test_golden("torch-2.1.2/flat.bin");
	test_golden("torch/nested.pth");
	test_golden("torch/protocol4.bin");
	test_views();
	test_golden_refused("torch/code.bin",
			    "data.pkl asks for posix.system, which a file of weights has no need of: refused");
	test_damage();
	test_bad_pickles();
	test_huge_pickles();
	test_bad_archives();
	test_bad_members();
	test_other_formats();
	test_same_bits("old-f32", 1);
	test_same_bits("old-bf16-gqa-shards", 2);
	test_missing();
	return test_done();
}
