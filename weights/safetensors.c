/* The safetensors container: 8 bytes of header length, a JSON header, data.
 *
 * The header is read by a parser of its own for the restricted form it has: {"name": {"dtype": S, "shape": [n, ...],
 * "data_offsets": [begin, end]}, ...} with an optional "__metadata__" of strings. Integers stay exact up to 2^64,
 * memory is bounded by the header's length, and each refusal names the tensor. The format asks that the tensors cover
 * the data without overlap, hole or rest, in any order of the names; that is checked here, in n log n. */
#include "weights.h"

#include <stdlib.h>

#define MAX_HEADER 100000000u /* the format's own limit */

struct parser {
	const uint8_t *begin, *p, *end;
	const char *file;
	struct fr_error *err;
	char *arena; /* [header length + 1]: no name is longer than its text */
	size_t used;
	size_t data_size;
	const uint8_t *data;
	struct fr_tensors *out;
	size_t cap;
};

static int fail_syntax(const struct parser *s, const char *expected)
{
	if (s->p >= s->end)
		return fr_fail(s->err, FR_E_MODEL, "%s: the header ends where %s was expected", s->file, expected);
	return fr_fail(s->err, FR_E_MODEL, "%s: header byte %zu: expected %s, got 0x%02X", s->file,
		       (size_t)(s->p - s->begin), expected, *s->p);
}

static void skip_space(struct parser *s)
{
	while (s->p < s->end && (*s->p == ' ' || *s->p == '\n' || *s->p == '\r' || *s->p == '\t'))
		s->p++;
}

/* Is the next token c? Takes it then. */
static int take(struct parser *s, char c)
{
	skip_space(s);
	if (s->p >= s->end || *s->p != (uint8_t)c)
		return 0;
	s->p++;
	return 1;
}

static int expect(struct parser *s, char c)
{
	const char name[4] = {'\'', c, '\'', 0};

	return take(s, c) ? 0 : fail_syntax(s, name);
}

static int read_hex4(struct parser *s, unsigned *v)
{
	*v = 0;
	for (int i = 0; i < 4; i++, s->p++) {
		int c = s->p < s->end ? *s->p : 0;
		int d = c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;

		if (d < 0)
			return fail_syntax(s, "a hexadecimal digit");
		*v = *v << 4 | (unsigned)d;
	}
	return 0;
}

static void put_utf8(struct parser *s, unsigned c)
{
	char *o = s->arena + s->used;

	if (c < 0x80) {
		*o++ = (char)c;
	} else if (c < 0x800) {
		*o++ = (char)(0xc0 | c >> 6);
		*o++ = (char)(0x80 | (c & 63));
	} else if (c < 0x10000) {
		*o++ = (char)(0xe0 | c >> 12);
		*o++ = (char)(0x80 | (c >> 6 & 63));
		*o++ = (char)(0x80 | (c & 63));
	} else {
		*o++ = (char)(0xf0 | c >> 18);
		*o++ = (char)(0x80 | (c >> 12 & 63));
		*o++ = (char)(0x80 | (c >> 6 & 63));
		*o++ = (char)(0x80 | (c & 63));
	}
	s->used = (size_t)(o - s->arena);
}

static int read_escape(struct parser *s)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	const char *at = s->p < s->end && *s->p ? strchr(from, *s->p) : NULL;
	unsigned c, low;

	if (at) {
		s->p++;
		s->arena[s->used++] = to[at - from];
		return 0;
	}
	if (s->p >= s->end || *s->p != 'u')
		return fail_syntax(s, "an escape character");
	s->p++;
	FR_TRY(read_hex4(s, &c));
	if (c >= 0xd800 && c < 0xdc00) {
		if (s->end - s->p < 2 || s->p[0] != '\\' || s->p[1] != 'u')
			return fail_syntax(s, "the second half of a surrogate pair");
		s->p += 2;
		FR_TRY(read_hex4(s, &low));
		if (low < 0xdc00 || low > 0xdfff)
			return fail_syntax(s, "the second half of a surrogate pair before this");
		c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
	} else if (c == 0 || (c >= 0xdc00 && c < 0xe000)) {
		return fail_syntax(s, "a character other than NUL or half a surrogate pair before this");
	}
	put_utf8(s, c);
	return 0;
}

/* A string into the arena, NUL-terminated. */
static int read_string(struct parser *s, const char **out)
{
	size_t start = s->used;

	FR_TRY(expect(s, '"'));
	for (;;) {
		if (s->p >= s->end || *s->p < 0x20)
			return fail_syntax(s, "the rest of a string");
		if (*s->p == '"')
			break;
		if (*s->p == '\\') {
			s->p++;
			FR_TRY(read_escape(s));
		} else {
			s->arena[s->used++] = (char)*s->p++;
		}
	}
	s->p++;
	s->arena[s->used++] = 0;
	*out = s->arena + start;
	return 0;
}

static int read_integer(struct parser *s, uint64_t *v)
{
	const uint8_t *start;

	skip_space(s);
	start = s->p;
	for (*v = 0; s->p < s->end && *s->p >= '0' && *s->p <= '9'; s->p++)
		if (__builtin_mul_overflow(*v, 10, v) || __builtin_add_overflow(*v, (uint64_t)(*s->p - '0'), v))
			return fail_syntax(s, "an integer below 2^64");
	if (s->p == start || (*start == '0' && s->p > start + 1))
		return fail_syntax(s, "a non-negative integer");
	return 0;
}

static int read_shape(struct parser *s, struct fr_tensor *t)
{
	uint64_t n;

	FR_TRY(expect(s, '['));
	if (take(s, ']'))
		return 0;
	do {
		FR_TRY(read_integer(s, &n));
		if (t->ndim == FR_MAX_DIMS)
			return fr_fail(s->err, FR_E_MODEL, "%s: tensor %.200s: more than %d dimensions", s->file,
				       t->name, FR_MAX_DIMS);
		if (n > INT64_MAX)
			return fr_fail(s->err, FR_E_MODEL, "%s: tensor %.200s: dimension %d is beyond 2^63", s->file,
				       t->name, t->ndim);
		t->shape[t->ndim++] = (int64_t)n;
	} while (take(s, ','));
	return expect(s, ']');
}

static int read_dtype(struct parser *s, struct fr_tensor *t)
{
	const char *word;
	size_t start = s->used;

	FR_TRY(read_string(s, &word));
	for (int d = 0; d < FR_DTYPES; d++)
		if (fr_dtypes[d].st_name && strcmp(word, fr_dtypes[d].st_name) == 0) {
			t->dtype = (enum fr_dtype)d;
			s->used = start; /* the word is not needed any more */
			return 0;
		}
	return fr_fail(s->err, FR_E_MODEL, "%s: tensor %.200s: its dtype \"%.40s\" is not read", s->file, t->name,
		       word);
}

/* {"dtype": ..., "shape": ..., "data_offsets": ...}, each once, in any order. span [2]: bytes of the data part. */
static int read_fields(struct parser *s, struct fr_tensor *t, uint64_t span[2])
{
	static const char *const fields[] = {"dtype", "shape", "data_offsets"};
	unsigned seen = 0;
	const char *key;
	int f;

	FR_TRY(expect(s, '{'));
	do {
		size_t start = s->used;

		FR_TRY(read_string(s, &key));
		for (f = 0; f < 3 && strcmp(key, fields[f]) != 0; f++)
			;
		if (f == 3 || seen >> f & 1)
			return fr_fail(s->err, FR_E_MODEL, "%s: tensor %.200s: %s field \"%.40s\"", s->file, t->name,
				       f == 3 ? "unknown" : "repeated", key);
		seen |= 1u << f;
		s->used = start;
		FR_TRY(expect(s, ':'));
		if (f == 0)
			FR_TRY(read_dtype(s, t));
		if (f == 1)
			FR_TRY(read_shape(s, t));
		if (f == 2) {
			FR_TRY(expect(s, '['));
			FR_TRY(read_integer(s, &span[0]));
			FR_TRY(expect(s, ','));
			FR_TRY(read_integer(s, &span[1]));
			FR_TRY(expect(s, ']'));
		}
	} while (take(s, ','));
	FR_TRY(expect(s, '}'));
	for (f = 0; f < 3; f++)
		if (!(seen >> f & 1))
			return fr_fail(s->err, FR_E_MODEL, "%s: tensor %.200s: the field %s is missing", s->file,
				       t->name, fields[f]);
	return 0;
}

/* Shape x item size must be the span, and the span must lie in the data. */
static int place(const struct parser *s, struct fr_tensor *t, const uint64_t span[2])
{
	uint64_t need = (uint64_t)fr_dtypes[t->dtype].bytes;
	char shape[128];

	fr_shape_text(t->shape, t->ndim, shape, sizeof shape);
	for (int i = 0; i < t->ndim; i++)
		if (__builtin_mul_overflow(need, (uint64_t)t->shape[i], &need))
			return fr_fail(s->err, FR_E_MODEL, "%s: tensor %.200s: %s %s is more than 2^64 bytes", s->file,
				       t->name, fr_dtypes[t->dtype].name, shape);
	if (span[0] > span[1] || span[1] > s->data_size)
		return fr_fail(s->err, FR_E_MODEL,
			       "%s: tensor %.200s: its bytes %llu to %llu lie outside the file's %zu bytes of data "
			       "(truncated?)",
			       s->file, t->name, (unsigned long long)span[0], (unsigned long long)span[1],
			       s->data_size);
	if (span[1] - span[0] != need)
		return fr_fail(s->err, FR_E_MODEL, "%s: tensor %.200s: %s %s needs %llu bytes, its offsets give %llu",
			       s->file, t->name, fr_dtypes[t->dtype].name, shape, (unsigned long long)need,
			       (unsigned long long)(span[1] - span[0]));
	t->data = s->data + span[0];
	t->bytes = (size_t)need;
	return 0;
}

static int read_tensor(struct parser *s, const char *name)
{
	struct fr_tensor t = {.name = name, .file = s->file};
	struct fr_tensors *out = s->out;
	uint64_t span[2] = {0, 0};

	FR_TRY(read_fields(s, &t, span));
	FR_TRY(place(s, &t, span));
	if (out->n == s->cap) {
		size_t cap = s->cap ? 2 * s->cap : 256;
		struct fr_tensor *at = realloc(out->at, cap * sizeof *at);

		if (!at)
			return fr_fail(s->err, FR_E_MEMORY, "%s: no memory for its %zu tensors", s->file, cap);
		out->at = at;
		s->cap = cap;
	}
	out->at[out->n++] = t;
	return 0;
}

/* {"key": "value", ...}; its text is kept as it stands. */
static int read_metadata(struct parser *s)
{
	const uint8_t *start;
	const char *word;

	if (s->out->metadata)
		return fr_fail(s->err, FR_E_MODEL, "%s: __metadata__ stands twice in the header", s->file);
	FR_TRY(expect(s, '{'));
	start = s->p - 1;
	if (!take(s, '}')) {
		do {
			size_t used = s->used;

			FR_TRY(read_string(s, &word));
			FR_TRY(expect(s, ':'));
			FR_TRY(read_string(s, &word));
			s->used = used;
		} while (take(s, ','));
		FR_TRY(expect(s, '}'));
	}
	s->out->metadata = strndup((const char *)start, (size_t)(s->p - start));
	if (!s->out->metadata)
		return fr_fail(s->err, FR_E_MEMORY, "%s: no memory for its metadata", s->file);
	return 0;
}

/* Names go to terminals and into reports, so they may not hold control characters. */
static int read_name(struct parser *s, const char **name)
{
	FR_TRY(read_string(s, name));
	for (const char *c = *name; *c; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			return fr_fail(s->err, FR_E_MODEL, "%s: the name of tensor %.200s holds a control character",
				       s->file, *name);
	return 0;
}

static int read_header(struct parser *s)
{
	const char *name;

	if (s->p >= s->end || *s->p != '{')
		return fail_syntax(s, "'{'");
	s->p++;
	if (!take(s, '}')) {
		do {
			FR_TRY(read_name(s, &name));
			FR_TRY(expect(s, ':'));
			if (strcmp(name, "__metadata__") == 0)
				FR_TRY(read_metadata(s));
			else
				FR_TRY(read_tensor(s, name));
		} while (take(s, ','));
		FR_TRY(expect(s, '}'));
	}
	skip_space(s);
	return s->p == s->end ? 0 : fail_syntax(s, "the end of the header");
}

static int by_name(const void *a, const void *b)
{
	const struct fr_tensor *x = a, *y = b;

	return strcmp(x->name, y->name);
}

/* In the order of the data; empty tensors stand before the one that begins at their place. */
static int by_place(const void *a, const void *b)
{
	const struct fr_tensor *x = a, *y = b;

	if (x->data != y->data)
		return (const char *)x->data < (const char *)y->data ? -1 : 1;
	if (x->bytes != y->bytes)
		return x->bytes < y->bytes ? -1 : 1;
	return strcmp(x->name, y->name);
}

static int check_cover(const struct parser *s)
{
	struct fr_tensors *out = s->out;
	const uint8_t *at = s->data;

	if (out->n)
		qsort(out->at, out->n, sizeof *out->at, by_name);
	for (size_t i = 1; i < out->n; i++)
		if (strcmp(out->at[i - 1].name, out->at[i].name) == 0)
			return fr_fail(s->err, FR_E_MODEL, "%s: tensor %.200s stands twice in the header", s->file,
				       out->at[i].name);
	if (out->n)
		qsort(out->at, out->n, sizeof *out->at, by_place);
	for (size_t i = 0; i < out->n; i++) {
		const struct fr_tensor *t = &out->at[i];
		const uint8_t *begin = t->data;

		if (begin < at)
			return fr_fail(s->err, FR_E_MODEL, "%s: tensors %.200s and %.200s overlap in the data", s->file,
				       out->at[i - 1].name, t->name);
		if (begin > at)
			return fr_fail(s->err, FR_E_MODEL, "%s: %zu bytes before tensor %.200s belong to no tensor",
				       s->file, (size_t)(begin - at), t->name);
		at = begin + t->bytes;
	}
	if (at != s->data + s->data_size)
		return fr_fail(s->err, FR_E_MODEL, "%s: the last %zu bytes belong to no tensor", s->file,
			       (size_t)(s->data + s->data_size - at));
	return 0;
}

int fr_safetensors_parse(const uint8_t *bytes, size_t size, const char *file, struct fr_tensors *out,
			 struct fr_error *err)
{
	struct parser s = {.file = file, .err = err, .out = out};
	uint64_t header = 0;

	memset(out, 0, sizeof *out);
	if (size < 8)
		return fr_fail(err, FR_E_MODEL, "%s: expected safetensors, got a file of %zu bytes", file, size);
	for (int i = 0; i < 8; i++)
		header |= (uint64_t)bytes[i] << 8 * i;
	if (header > MAX_HEADER)
		return fr_fail(err, FR_E_MODEL,
			       "%s: no safetensors file: its header would be %llu bytes, at most %u are legal", file,
			       (unsigned long long)header, MAX_HEADER);
	if (header > size - 8)
		return fr_fail(err, FR_E_MODEL, "%s: its header is %llu bytes long, but only %zu follow (truncated?)",
			       file, (unsigned long long)header, size - 8);
	s.begin = s.p = bytes + 8;
	s.end = s.data = bytes + 8 + header;
	s.data_size = size - 8 - (size_t)header;
	s.arena = out->names = malloc((size_t)header + 1);
	if (!s.arena)
		return fr_fail(err, FR_E_MEMORY, "%s: no memory for its header of %llu bytes", file,
			       (unsigned long long)header);
	if (read_header(&s) != 0 || check_cover(&s) != 0) {
		fr_tensors_free(out);
		return -1;
	}
	return 0;
}

void fr_tensors_free(struct fr_tensors *t)
{
	free(t->at);
	free(t->names);
	free(t->metadata);
	for (size_t i = 0; i < t->n_copies; i++)
		free(t->copies[i]);
	free(t->copies);
	memset(t, 0, sizeof *t);
}
