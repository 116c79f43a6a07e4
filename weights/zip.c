/* Zip, restricted: the end record, from there the central directory, and each member's local header held against it.
 *
 * What surprises: torch leaves the sizes in a local header at zero (flag bit 3) and fills its extra field with up to 63
 * bytes so that data begins on 64; the directory is what counts. It writes the zip64 end record always, needed or not.
 */
#include "zip.h"

#include <stdlib.h>
#include <string.h>

enum { LOCAL = 0x04034b50, ENTRY = 0x02014b50, END = 0x06054b50, END64 = 0x06064b50, LOCATOR64 = 0x07064b50 };
enum { LOCAL_SIZE = 30, ENTRY_SIZE = 46, END_SIZE = 22, END64_SIZE = 56, LOCATOR64_SIZE = 20, COMMENT_MAX = 65535 };
enum { ENCRYPTED = 1, SIZES_FOLLOW = 8 };

struct reader {
	const uint8_t *bytes;
	size_t size;
	const char *file;
	struct fr_error *err;
	struct fr_zip *out;
	uint64_t n, begin, end; /* the central directory: entries, span */
};

static uint64_t le(const uint8_t *p, int n)
{
	uint64_t v = 0;

	for (int i = n; i-- > 0;)
		v = v << 8 | p[i];
	return v;
}

int fr_zip_is(const uint8_t *bytes, size_t size)
{
	return size >= 4 && (le(bytes, 4) == LOCAL || le(bytes, 4) == END);
}

/* The last record whose comment ends with the file. */
static int find_end(const struct reader *z, size_t *at)
{
	for (size_t comment = 0; comment <= COMMENT_MAX && comment + END_SIZE <= z->size; comment++) {
		const uint8_t *p = z->bytes + z->size - END_SIZE - comment;

		if (le(p, 4) == END && le(p + 20, 2) == comment) {
			*at = z->size - END_SIZE - comment;
			return 0;
		}
	}
	return fr_fail(z->err, FR_E_MODEL,
		       "%s: expected a zip file with its directory at the end, got %zu bytes without one (truncated?)",
		       z->file, z->size);
}

/* The zip64 record, if its locator stands before the end record: it rules, and *at becomes its place. */
static int read_end64(struct reader *z, size_t *at, int *found)
{
	const uint8_t *p;
	uint64_t where;

	*found = *at >= LOCATOR64_SIZE && le(z->bytes + *at - LOCATOR64_SIZE, 4) == LOCATOR64;
	if (!*found)
		return 0;
	where = le(z->bytes + *at - LOCATOR64_SIZE + 8, 8);
	if (where > *at - LOCATOR64_SIZE || *at - LOCATOR64_SIZE - where < END64_SIZE ||
	    le(z->bytes + where, 4) != END64)
		return fr_fail(z->err, FR_E_MODEL, "%s: no zip64 end record at byte %llu, where its locator says it is",
			       z->file, (unsigned long long)where);
	p = z->bytes + where;
	if (le(p + 16, 4) || le(p + 20, 4) || le(p + 24, 8) != le(p + 32, 8))
		return fr_fail(z->err, FR_E_MODEL, "%s: a zip file in several parts is not read", z->file);
	z->n = le(p + 32, 8);
	z->end = le(p + 40, 8);
	z->begin = le(p + 48, 8);
	*at = (size_t)where;
	return 0;
}

static int read_end(struct reader *z)
{
	const uint8_t *p;
	size_t at = 0;
	int zip64;

	FR_TRY(find_end(z, &at));
	p = z->bytes + at;
	if (le(p + 4, 2) || le(p + 6, 2) || le(p + 8, 2) != le(p + 10, 2))
		return fr_fail(z->err, FR_E_MODEL, "%s: a zip file in several parts is not read", z->file);
	z->n = le(p + 10, 2);
	z->end = le(p + 12, 4);
	z->begin = le(p + 16, 4);
	FR_TRY(read_end64(z, &at, &zip64));
	if (!zip64 && (z->n == 0xffff || z->end == 0xffffffff || z->begin == 0xffffffff))
		return fr_fail(z->err, FR_E_MODEL, "%s: the zip64 end record that its end record asks for is missing",
			       z->file);
	if (__builtin_add_overflow(z->begin, z->end, &z->end) || z->end != at)
		return fr_fail(
			z->err, FR_E_MODEL,
			"%s: its zip directory should end at byte %zu, its place and size say %llu (truncated, or "
			"bytes were put in)",
			z->file, at, (unsigned long long)z->end);
	if (z->n > (z->end - z->begin) / ENTRY_SIZE)
		return fr_fail(z->err, FR_E_MODEL, "%s: a zip directory of %llu bytes has no room for %llu members",
			       z->file, (unsigned long long)(z->end - z->begin), (unsigned long long)z->n);
	return 0;
}

/* Sizes and place of an entry; those that its 32-bit fields cannot hold stand in its zip64 field, in this order.
 * v: unpacked size, packed size, place of the local header. */
static int read_numbers(const struct reader *z, const struct fr_zip_member *m, const uint8_t *p, uint64_t v[3])
{
	const uint8_t *x = p + ENTRY_SIZE + le(p + 28, 2), *end = x + le(p + 30, 2);

	v[0] = le(p + 24, 4);
	v[1] = le(p + 20, 4);
	v[2] = le(p + 42, 4);
	while (end - x >= 4 && le(x, 2) != 1 && (uint64_t)(end - x) >= 4 + le(x + 2, 2))
		x += 4 + le(x + 2, 2);
	if (end - x >= 4 && le(x, 2) == 1 && (uint64_t)(end - x) >= 4 + le(x + 2, 2)) {
		end = x + 4 + le(x + 2, 2);
		x += 4;
	} else {
		x = end;
	}
	for (int i = 0; i < 3; i++) {
		if (v[i] != 0xffffffff)
			continue;
		if (end - x < 8)
			return fr_fail(z->err, FR_E_MODEL, "%s: member %.*s: its zip64 field is missing or too short",
				       z->file, (int)m->name_len, m->name);
		v[i] = le(x, 8);
		x += 8;
	}
	return 0;
}

/* The local header at m->header must repeat the directory's name, method and, if it has them, sizes. */
static int read_local(const struct reader *z, struct fr_zip_member *m, uint64_t place, uint64_t size)
{
	const uint8_t *p = z->bytes + place;
	uint64_t room = place > z->begin ? 0 : z->begin - place, skip;

	if (room < LOCAL_SIZE || le(p, 4) != LOCAL)
		return fr_fail(z->err, FR_E_MODEL, "%s: member %.*s: no local header at byte %llu", z->file,
			       (int)m->name_len, m->name, (unsigned long long)place);
	skip = LOCAL_SIZE + le(p + 26, 2) + le(p + 28, 2);
	if (skip > room || size > room - skip)
		return fr_fail(z->err, FR_E_MODEL,
			       "%s: member %.*s: its %llu bytes at byte %llu reach beyond the file's data (truncated?)",
			       z->file, (int)m->name_len, m->name, (unsigned long long)size, (unsigned long long)place);
	if (le(p + 26, 2) != m->name_len || memcmp(p + LOCAL_SIZE, m->name, m->name_len) != 0)
		return fr_fail(z->err, FR_E_MODEL, "%s: member %.*s has another name in its local header", z->file,
			       (int)m->name_len, m->name);
	if (le(p + 8, 2) != 0)
		return fr_fail(z->err, FR_E_MODEL,
			       "%s: member %.*s: its local header says compressed, its directory "
			       "entry does not",
			       z->file, (int)m->name_len, m->name);
	if (!(le(p + 6, 2) & SIZES_FOLLOW))
		for (int field = 18; field <= 22; field += 4)
			if (le(p + field, 4) != size && le(p + field, 4) != 0xffffffff)
				return fr_fail(z->err, FR_E_MODEL,
					       "%s: member %.*s: its local header says %llu bytes, its directory entry "
					       "%llu",
					       z->file, (int)m->name_len, m->name, (unsigned long long)le(p + field, 4),
					       (unsigned long long)size);
	m->header = p;
	m->data = p + skip;
	m->size = (size_t)size;
	return 0;
}

/* Names go to terminals and into reports. */
static int check_name(const struct reader *z, const struct fr_zip_member *m)
{
	int bad = m->name_len == 0 || m->name_len > 512;

	for (size_t i = 0; !bad && i < m->name_len; i++)
		bad = (unsigned char)m->name[i] < 0x20 || m->name[i] == 0x7f;
	if (bad)
		return fr_fail(z->err, FR_E_MODEL,
			       "%s: the name of zip member %zu is empty, longer than 512 bytes, or holds a control "
			       "character",
			       z->file, z->out->n);
	return 0;
}

/* One entry of the directory at *at, which is moved behind it. */
static int read_entry(const struct reader *z, uint64_t *at, struct fr_zip_member *m)
{
	const uint8_t *p = z->bytes + *at;
	uint64_t room = z->end - *at, length = ENTRY_SIZE, v[3];

	if (room >= ENTRY_SIZE)
		length += le(p + 28, 2) + le(p + 30, 2) + le(p + 32, 2);
	if (room < length || le(p, 4) != ENTRY)
		return fr_fail(z->err, FR_E_MODEL, "%s: its zip directory breaks at entry %zu of %llu", z->file,
			       z->out->n, (unsigned long long)z->n);
	m->name = (const char *)p + ENTRY_SIZE;
	m->name_len = (size_t)le(p + 28, 2);
	FR_TRY(check_name(z, m));
	if (le(p + 34, 2) != 0 && le(p + 34, 2) != 0xffff)
		return fr_fail(z->err, FR_E_MODEL, "%s: a zip file in several parts is not read", z->file);
	if (le(p + 8, 2) & ENCRYPTED)
		return fr_fail(z->err, FR_E_MODEL, "%s: member %.*s is encrypted", z->file, (int)m->name_len, m->name);
	FR_TRY(read_numbers(z, m, p, v));
	if (le(p + 10, 2) != 0 || v[0] != v[1])
		return fr_fail(
			z->err, FR_E_MODEL,
			"%s: member %.*s is compressed (method %d, %llu bytes from %llu): only stored members, as "
			"torch.save writes them, can be used in place; unpack the file and zip it with -0, or save "
			"it anew with torch",
			z->file, (int)m->name_len, m->name, (int)le(p + 10, 2), (unsigned long long)v[0],
			(unsigned long long)v[1]);
	*at += length;
	return read_local(z, m, v[2], v[0]);
}

static int compare(const char *a, size_t a_len, const char *b, size_t b_len)
{
	int c = memcmp(a, b, a_len < b_len ? a_len : b_len);

	return c ? c : (a_len > b_len) - (a_len < b_len);
}

static int by_name(const void *a, const void *b)
{
	const struct fr_zip_member *x = a, *y = b;

	return compare(x->name, x->name_len, y->name, y->name_len);
}

static int by_place(const void *a, const void *b)
{
	const struct fr_zip_member *x = a, *y = b;

	return (x->header > y->header) - (x->header < y->header);
}

static int check_members(const struct reader *z)
{
	struct fr_zip *out = z->out;

	qsort(out->at, out->n, sizeof *out->at, by_place);
	for (size_t i = 1; i < out->n; i++) {
		const struct fr_zip_member *a = &out->at[i - 1], *b = &out->at[i];

		if (a->data + a->size > b->header)
			return fr_fail(z->err, FR_E_MODEL, "%s: members %.*s and %.*s overlap", z->file,
				       (int)a->name_len, a->name, (int)b->name_len, b->name);
	}
	qsort(out->at, out->n, sizeof *out->at, by_name);
	for (size_t i = 1; i < out->n; i++)
		if (by_name(&out->at[i - 1], &out->at[i]) == 0)
			return fr_fail(z->err, FR_E_MODEL, "%s: member %.*s stands twice in the zip directory", z->file,
				       (int)out->at[i].name_len, out->at[i].name);
	return 0;
}

static int read_directory(struct reader *z)
{
	uint64_t at;

	FR_TRY(read_end(z));
	z->out->at = calloc((size_t)z->n + 1, sizeof *z->out->at);
	if (!z->out->at)
		return fr_fail(z->err, FR_E_MEMORY, "%s: no memory for its %llu members", z->file,
			       (unsigned long long)z->n);
	at = z->begin;
	while (z->out->n < z->n) {
		FR_TRY(read_entry(z, &at, &z->out->at[z->out->n]));
		z->out->n++;
	}
	if (at != z->end)
		return fr_fail(z->err, FR_E_MODEL,
			       "%s: %llu bytes follow the last of the %llu entries of its zip "
			       "directory",
			       z->file, (unsigned long long)(z->end - at), (unsigned long long)z->n);
	return check_members(z);
}

int fr_zip_open(const uint8_t *bytes, size_t size, const char *file, struct fr_zip *out, struct fr_error *err)
{
	struct reader z = {.bytes = bytes, .size = size, .file = file, .err = err, .out = out};

	memset(out, 0, sizeof *out);
	if (read_directory(&z) != 0) {
		fr_zip_free(out);
		return -1;
	}
	return 0;
}

const struct fr_zip_member *fr_zip_find(const struct fr_zip *zip, const char *name, size_t len)
{
	const struct fr_zip_member key = {.name = name, .name_len = len};

	return bsearch(&key, zip->at, zip->n, sizeof *zip->at, by_name);
}

void fr_zip_free(struct fr_zip *zip)
{
	free(zip->at);
	memset(zip, 0, sizeof *zip);
}
