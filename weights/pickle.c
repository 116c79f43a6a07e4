/* The pickle machine: a stack of values, a stack of marks, a memo; one opcode after the other.
 *
 * Values are plain data (numbers, views into the pickle, indices into growing arrays), so a dict that holds itself
 * costs nothing and nothing is ever walked while it is built. Memory is bounded by the limits below, whatever the
 * pickle says: no length in it is believed before that many bytes are there. */
#include "pickle.h"
#include "pickle_ops.h"

#include <stdlib.h>

enum { MAX_PICKLE = 32 << 20, MAX_VALUES = 1 << 22, MAX_STACK = 1 << 16, MAX_MARKS = 256 };

/* ---- the opcodes ---- */
#define NUMBER(name, byte) OP_##name = byte,
enum { FR_PKL_OPCODES(NUMBER) };
#define NAME(name, byte) [byte] = #name,
static const char *const op_names[256] = {FR_PKL_OPCODES(NAME) FR_PKL_REFUSED(NAME)};

struct machine {
	const uint8_t *begin, *p, *end;
	const char *file;
	struct fr_error *err;
	struct fr_pickle *out;
	struct fr_pkl_value *stack, *memo;
	size_t depth, n_memo, marks[MAX_MARKS], n_marks;
	size_t cap_stack, cap_memo, cap_items, cap_pairs, cap_dicts;
	int op;
};

static int fail(const struct machine *m, const char *what)
{
	fr_fail(m->err, FR_E_MODEL, "%s: data.pkl byte %zu, opcode %s: %s", m->file, (size_t)(m->p - m->begin),
		op_names[m->op] ? op_names[m->op] : "unknown", what);
	return -1;
}

/* Room for `more` items behind n of the array *at, of at most `limit`. */
static int grow(const struct machine *m, void *at, size_t n, size_t more, size_t *cap, size_t item, size_t limit)
{
	size_t want = *cap ? *cap : 256;
	void *old, *now;

	if (more > limit || n > limit - more)
		return fr_fail(m->err, FR_E_MODEL,
			       "%s: data.pkl builds more than %zu values of one sort, or a stack of "
			       "more than %d",
			       m->file, (size_t)MAX_VALUES, MAX_STACK);
	while (want < n + more)
		want *= 2;
	if (want == *cap)
		return 0;
	memcpy(&old, at, sizeof old);
	now = realloc(old, want * item);
	if (!now)
		return fr_fail(m->err, FR_E_MEMORY, "%s: no memory for the values of data.pkl", m->file);
	memcpy(at, &now, sizeof now);
	*cap = want;
	return 0;
}

static int push(struct machine *m, struct fr_pkl_value v)
{
	FR_TRY(grow(m, &m->stack, m->depth, 1, &m->cap_stack, sizeof v, MAX_STACK));
	m->stack[m->depth++] = v;
	return 0;
}

/* The uppermost n values above the last mark; they stay where they are, the stack ends before them. */
static int pop(struct machine *m, size_t n, struct fr_pkl_value **v)
{
	size_t floor = m->n_marks ? m->marks[m->n_marks - 1] : 0;

	if (m->depth - floor < n)
		return fail(m, "the stack is too short for it");
	m->depth -= n;
	*v = m->stack + m->depth;
	return 0;
}

static int pop_mark(struct machine *m, struct fr_pkl_value **v, size_t *n)
{
	if (m->n_marks == 0)
		return fail(m, "no mark before it");
	*n = m->depth - m->marks[--m->n_marks];
	m->depth -= *n;
	*v = m->stack + m->depth;
	return 0;
}

static int take(struct machine *m, size_t n, const uint8_t **bytes)
{
	if ((size_t)(m->end - m->p) < n)
		return fail(m, "the pickle ends in the middle of it");
	*bytes = m->p;
	m->p += n;
	return 0;
}

static int take_number(struct machine *m, int n, uint64_t *v)
{
	const uint8_t *b;

	FR_TRY(take(m, (size_t)n, &b));
	for (*v = 0; n-- > 0;)
		*v = *v << 8 | b[n];
	return 0;
}

/* A string or bytes after its length of n bytes. */
static int push_text(struct machine *m, enum fr_pkl_kind kind, int n)
{
	struct fr_pkl_value v = {.kind = kind};
	const uint8_t *b;
	uint64_t len;

	FR_TRY(take_number(m, n, &len));
	if (len > MAX_PICKLE)
		return fail(m, "its length reaches beyond the pickle");
	FR_TRY(take(m, (size_t)len, &b));
	v.s = (const char *)b;
	v.len = (uint32_t)len;
	return push(m, v);
}

/* Little-endian two's complement of n bytes. */
static int push_integer(struct machine *m, int n, int is_signed)
{
	uint64_t v;

	if (n > 8)
		return fail(m, "an integer of more than 64 bits");
	FR_TRY(take_number(m, n, &v));
	if (is_signed && n && n < 8 && v >> (8 * n - 1))
		v |= ~(uint64_t)0 << 8 * n;
	return push(m, (struct fr_pkl_value){.kind = FR_PKL_INT, .i = (int64_t)v});
}

static int push_tuple(struct machine *m, enum fr_pkl_kind kind, const struct fr_pkl_value *v, size_t n)
{
	struct fr_pkl_value t = {.kind = kind, .len = (uint32_t)n, .i = (int64_t)m->out->n_items};

	FR_TRY(grow(m, &m->out->items, m->out->n_items, n, &m->cap_items, sizeof *v, MAX_VALUES));
	if (n)
		memcpy(m->out->items + m->out->n_items, v, n * sizeof *v);
	m->out->n_items += n;
	return push(m, t);
}

static int push_dict(struct machine *m)
{
	struct fr_pickle *o = m->out;

	FR_TRY(grow(m, &o->dicts, o->n_dicts, 1, &m->cap_dicts, sizeof *o->dicts, MAX_VALUES));
	o->dicts[o->n_dicts] = (struct fr_pkl_dict){0, 0};
	return push(m, (struct fr_pkl_value){.kind = FR_PKL_DICT, .i = (int64_t)o->n_dicts++});
}

/* v [n]: key, value, key, value, ... into the dict on top of the stack. */
static int set_items(struct machine *m, const struct fr_pkl_value *v, size_t n)
{
	struct fr_pickle *o = m->out;
	struct fr_pkl_value *to;

	FR_TRY(pop(m, 1, &to));
	m->depth++;
	if (to->kind != FR_PKL_DICT || n % 2)
		return fail(m, n % 2 ? "a key without a value" : "expected a dict to put items into");
	FR_TRY(grow(m, &o->pairs, o->n_pairs, n / 2, &m->cap_pairs, sizeof *o->pairs, MAX_VALUES));
	for (size_t i = 0; i < n; i += 2) {
		struct fr_pkl_dict *d = &o->dicts[to->i];

		o->pairs[o->n_pairs++] = (struct fr_pkl_pair){v[i], v[i + 1], 0};
		if (d->last)
			o->pairs[d->last - 1].next = (uint32_t)o->n_pairs;
		else
			d->first = (uint32_t)o->n_pairs;
		d->last = (uint32_t)o->n_pairs;
	}
	return 0;
}

/* Items of lists are not kept. */
static int drop_items(struct machine *m)
{
	struct fr_pkl_value *to;

	FR_TRY(pop(m, 1, &to));
	m->depth++;
	return to->kind == FR_PKL_LIST ? 0 : fail(m, "expected a list to put items into");
}

/* torch numbers its memo 0, 1, 2, ...; an old Python began with 1. */
static int put(struct machine *m, uint64_t at)
{
	struct fr_pkl_value *v;

	FR_TRY(pop(m, 1, &v));
	m->depth++;
	if (at > m->n_memo + 1)
		return fail(m, "a memo number out of its order");
	FR_TRY(grow(m, &m->memo, m->n_memo, 2, &m->cap_memo, sizeof *v, MAX_VALUES));
	while (m->n_memo <= at)
		m->memo[m->n_memo++] = *v;
	m->memo[at] = *v;
	return 0;
}

static int get(struct machine *m, uint64_t at)
{
	if (at >= m->n_memo)
		return fail(m, "a memo number that was never set");
	return push(m, m->memo[at]);
}

static int push_class(struct machine *m, const char *module, size_t module_len, const char *name, size_t name_len)
{
	struct fr_pkl_value v;

	if (fr_pkl_class(module, module_len, name, name_len, &v) != 0)
		return fr_fail(m->err, FR_E_MODEL,
			       "%s: data.pkl asks for %.*s.%.*s, which a file of weights has no need of: refused, "
			       "nothing was executed",
			       m->file, module_len < 100 ? (int)module_len : 100, module,
			       name_len < 100 ? (int)name_len : 100, name);
	return push(m, v);
}

static int global(struct machine *m)
{
	const char *text[2];
	size_t len[2];

	for (int i = 0; i < 2; i++) {
		const uint8_t *line = m->p, *nl = memchr(line, '\n', (size_t)(m->end - line));

		if (!nl)
			return fail(m, "the pickle ends in the middle of it");
		text[i] = (const char *)line;
		len[i] = (size_t)(nl - line);
		m->p = nl + 1;
	}
	return push_class(m, text[0], len[0], text[1], len[1]);
}

static int stack_global(struct machine *m)
{
	struct fr_pkl_value *v;

	FR_TRY(pop(m, 2, &v));
	if (v[0].kind != FR_PKL_STRING || v[1].kind != FR_PKL_STRING)
		return fail(m, "expected two strings");
	return push_class(m, v[0].s, v[0].len, v[1].s, v[1].len);
}

/* What torch would call; here its arguments are kept. */
static int reduce(struct machine *m)
{
	struct fr_pkl_value *v, args;
	const struct fr_pkl_value *a;

	FR_TRY(pop(m, 2, &v));
	if (v[0].kind != FR_PKL_CLASS || v[1].kind != FR_PKL_TUPLE)
		return fail(m, "expected a function and a tuple of arguments");
	args = v[1];
	a = fr_pkl_items(m->out, &args);
	switch (fr_pkl_class_role(&v[0])) {
	case FR_PKL_ORDERED_DICT:
		return args.len ? fail(m, "an OrderedDict made with arguments") : push_dict(m);
	case FR_PKL_REBUILD_TENSOR:
		if (args.len < 6 || args.len > 7 || a[0].kind != FR_PKL_STORAGE)
			return fail(m, "_rebuild_tensor_v2 without a storage and its 5 or 6 other arguments");
		args.kind = FR_PKL_TENSOR;
		return push(m, args);
	case FR_PKL_REBUILD_PARAMETER:
		if (args.len != 3 || a[0].kind != FR_PKL_TENSOR)
			return fail(m, "_rebuild_parameter without a tensor and its 2 other arguments");
		return push(m, a[0]);
	case FR_PKL_STORAGE_CLASS:
		break;
	}
	return fail(m, "a storage class that is called");
}

static int persistent(struct machine *m)
{
	static const char word[] = "storage";
	const struct fr_pkl_value *a;
	struct fr_pkl_value *v;
	enum fr_dtype dtype;

	FR_TRY(pop(m, 1, &v));
	a = fr_pkl_items(m->out, v);
	if (!a || v->len != 5 || a[0].kind != FR_PKL_STRING || a[0].len != sizeof word - 1 ||
	    memcmp(a[0].s, word, a[0].len) != 0 || fr_pkl_storage_dtype(&a[1], &dtype) != 0 ||
	    a[2].kind != FR_PKL_STRING || a[3].kind != FR_PKL_STRING || a[4].kind != FR_PKL_INT || a[4].i < 0)
		return fail(m, "expected ('storage', class, key, location, number of items)");
	v->kind = FR_PKL_STORAGE;
	m->depth++;
	return 0;
}

static int put_number(struct machine *m, int n, int (*use)(struct machine *, uint64_t))
{
	uint64_t v;

	FR_TRY(take_number(m, n, &v));
	return use(m, v);
}

/* Opcodes that take values from the stack. */
static int step_stack(struct machine *m)
{
	struct fr_pkl_value *v;
	size_t n;

	switch (m->op) {
	case OP_TUPLE1:
	case OP_TUPLE2:
	case OP_TUPLE3:
		n = (size_t)(m->op - OP_TUPLE1 + 1);
		FR_TRY(pop(m, n, &v));
		return push_tuple(m, FR_PKL_TUPLE, v, n);
	case OP_TUPLE:
		FR_TRY(pop_mark(m, &v, &n));
		return push_tuple(m, FR_PKL_TUPLE, v, n);
	case OP_APPEND:
		FR_TRY(pop(m, 1, &v));
		return drop_items(m);
	case OP_APPENDS:
		FR_TRY(pop_mark(m, &v, &n));
		return drop_items(m);
	case OP_SETITEM:
		FR_TRY(pop(m, 2, &v));
		return set_items(m, v, 2);
	case OP_SETITEMS:
		FR_TRY(pop_mark(m, &v, &n));
		return set_items(m, v, n);
	case OP_BUILD: /* the _metadata of a state dict: attributes, not items */
		FR_TRY(pop(m, 2, &v));
		m->depth++;
		return v[0].kind == FR_PKL_DICT ? 0 : fail(m, "expected a dict that is given attributes");
	case OP_STACK_GLOBAL:
		return stack_global(m);
	case OP_REDUCE:
		return reduce(m);
	case OP_BINPERSID:
		return persistent(m);
	}
	return fr_fail(m->err, FR_E_MODEL,
		       "%s: data.pkl byte %zu: opcode %s (0x%02X), which torch.save writes for no "
		       "state dict: refused, nothing was executed",
		       m->file, (size_t)(m->p - m->begin - 1), op_names[m->op] ? op_names[m->op] : "unknown", m->op);
}

/* Opcodes that carry their own data; the others go on to the stack's. */
static int step(struct machine *m)
{
	const uint8_t *b;
	uint64_t n;

	switch (m->op) {
	case OP_PROTO:
		FR_TRY(take_number(m, 1, &n));
		return n >= 2 && n <= 5 ? 0 : fail(m, "expected a pickle protocol from 2 to 5");
	case OP_FRAME: /* a hint for readers of streams */
		return take(m, 8, &b);
	case OP_MARK:
		if (m->n_marks == MAX_MARKS)
			return fail(m, "more than 256 levels of nesting");
		m->marks[m->n_marks++] = m->depth;
		return 0;
	case OP_NONE:
		return push(m, (struct fr_pkl_value){.kind = FR_PKL_NONE});
	case OP_NEWTRUE:
	case OP_NEWFALSE:
		return push(m, (struct fr_pkl_value){.kind = FR_PKL_BOOL, .i = m->op == OP_NEWTRUE});
	case OP_BININT:
		return push_integer(m, 4, 1);
	case OP_BININT1:
		return push_integer(m, 1, 0);
	case OP_BININT2:
		return push_integer(m, 2, 0);
	case OP_LONG1:
		FR_TRY(take_number(m, 1, &n));
		return push_integer(m, (int)n, 1);
	case OP_BINFLOAT:
		FR_TRY(take(m, 8, &b));
		return push(m, (struct fr_pkl_value){.kind = FR_PKL_FLOAT});
	case OP_SHORT_BINUNICODE:
		return push_text(m, FR_PKL_STRING, 1);
	case OP_BINUNICODE:
		return push_text(m, FR_PKL_STRING, 4);
	case OP_BINUNICODE8:
		return push_text(m, FR_PKL_STRING, 8);
	case OP_SHORT_BINBYTES:
		return push_text(m, FR_PKL_BYTES, 1);
	case OP_BINBYTES:
		return push_text(m, FR_PKL_BYTES, 4);
	case OP_EMPTY_TUPLE:
		return push_tuple(m, FR_PKL_TUPLE, NULL, 0);
	case OP_EMPTY_LIST:
		return push(m, (struct fr_pkl_value){.kind = FR_PKL_LIST});
	case OP_EMPTY_DICT:
		return push_dict(m);
	case OP_BINPUT:
		return put_number(m, 1, put);
	case OP_LONG_BINPUT:
		return put_number(m, 4, put);
	case OP_MEMOIZE:
		return put(m, m->n_memo);
	case OP_BINGET:
		return put_number(m, 1, get);
	case OP_LONG_BINGET:
		return put_number(m, 4, get);
	case OP_GLOBAL:
		return global(m);
	}
	return step_stack(m);
}

static int run(struct machine *m)
{
	FR_TRY(grow(m, &m->stack, 0, 1, &m->cap_stack, sizeof *m->stack, MAX_STACK)); /* a mark may come first */
	while (m->p < m->end) {
		m->op = *m->p++;
		if (m->op != OP_STOP) {
			FR_TRY(step(m));
			continue;
		}
		if (m->depth != 1 || m->n_marks)
			return fail(m, "expected one value on the stack at the end");
		if (m->p != m->end)
			return fail(m, "more follows after the end");
		m->out->top = m->stack[0];
		return 0;
	}
	return fr_fail(m->err, FR_E_MODEL, "%s: data.pkl ends without STOP (truncated?)", m->file);
}

int fr_pickle_read(const uint8_t *bytes, size_t size, const char *file, struct fr_pickle *out, struct fr_error *err)
{
	struct machine m = {.begin = bytes, .p = bytes, .end = bytes + size, .file = file, .err = err, .out = out};
	int rc;

	memset(out, 0, sizeof *out);
	if (size > MAX_PICKLE)
		return fr_fail(err, FR_E_MODEL, "%s: its data.pkl has %zu bytes, at most %d are read", file, size,
			       MAX_PICKLE);
	rc = run(&m);
	free(m.stack);
	free(m.memo);
	if (rc != 0)
		fr_pickle_free(out);
	return rc;
}

void fr_pickle_free(struct fr_pickle *p)
{
	free(p->items);
	free(p->pairs);
	free(p->dicts);
	memset(p, 0, sizeof *p);
}
