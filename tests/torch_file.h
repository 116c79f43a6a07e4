/* torch.save files written by hand: a zip archive member by member, with data on 64 bytes as torch puts it. */
#ifndef FR_TEST_TORCH_FILE_H
#define FR_TEST_TORCH_FILE_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct tbuf {
	uint8_t *b;
	size_t n, cap;
};
static inline void tbuf_put(struct tbuf *t, const void *p, size_t n)
{
	if (t->n + n > t->cap) {
		t->cap = 2 * (t->n + n) + 256;
		t->b = realloc(t->b, t->cap);
	}
	if (n)
		memcpy(t->b + t->n, p, n);
	t->n += n;
}
static inline void tbuf_le(struct tbuf *t, uint64_t v, int n)
{
	for (; n > 0; n--, v >>= 8) {
		uint8_t c = (uint8_t)v;

		tbuf_put(t, &c, 1);
	}
}
static inline void tbuf_text(struct tbuf *t, const char *s)
{
	tbuf_put(t, s, strlen(s));
}

struct tzip {
	struct tbuf file;
	struct {
		char name[64];
		size_t local, size, entry; /* places of its two headers, and its bytes */
	} at[512];
	int n;
	size_t directory, end64, end; /* places; end64 0: none */
};
static inline void tzip_add(struct tzip *z, const char *name, const void *data, size_t size)
{
	size_t local = z->file.n, name_len = strlen(name), pad;

	pad = (64 - (local + 30 + name_len + 4) % 64) % 64 + 4;
	snprintf(z->at[z->n].name, sizeof z->at[0].name, "%s", name);
	z->at[z->n].local = local;
	z->at[z->n++].size = size;
	tbuf_le(&z->file, 0x04034b50, 4);
	tbuf_le(&z->file, 0x08000000, 6); /* version, flags, method */
	tbuf_le(&z->file, 0, 8);	  /* time, date, checksum */
	tbuf_le(&z->file, size, 4);
	tbuf_le(&z->file, size, 4);
	tbuf_le(&z->file, name_len, 2);
	tbuf_le(&z->file, pad, 2);
	tbuf_text(&z->file, name);
	tbuf_le(&z->file, 0x4246, 2);
	tbuf_le(&z->file, pad - 4, 2);
	while (pad-- > 4)
		tbuf_le(&z->file, 'Z', 1);
	tbuf_put(&z->file, data, size);
}
/* The directory and its end; zip64: with the numbers in 64 bits, all of them. */
static inline void tzip_end(struct tzip *z, int zip64)
{
	const uint64_t all = 0xffffffff;

	z->directory = z->file.n;
	for (int i = 0; i < z->n; i++) {
		z->at[i].entry = z->file.n;
		tbuf_le(&z->file, 0x02014b50, 4);
		tbuf_le(&z->file, 0, 16); /* versions, flags, method, time, date, checksum */
		tbuf_le(&z->file, zip64 ? all : z->at[i].size, 4);
		tbuf_le(&z->file, zip64 ? all : z->at[i].size, 4);
		tbuf_le(&z->file, strlen(z->at[i].name), 2);
		tbuf_le(&z->file, zip64 ? 28 : 0, 2);
		tbuf_le(&z->file, 0, 10);
		tbuf_le(&z->file, zip64 ? all : z->at[i].local, 4);
		tbuf_text(&z->file, z->at[i].name);
		if (zip64) {
			tbuf_le(&z->file, 1 | 24 << 16, 4);
			tbuf_le(&z->file, z->at[i].size, 8);
			tbuf_le(&z->file, z->at[i].size, 8);
			tbuf_le(&z->file, z->at[i].local, 8);
		}
	}
	z->end = z->file.n;
	if (zip64) {
		z->end64 = z->file.n;
		tbuf_le(&z->file, 0x06064b50, 4);
		tbuf_le(&z->file, 44, 8);
		tbuf_le(&z->file, 0, 12);
		tbuf_le(&z->file, (uint64_t)z->n, 8);
		tbuf_le(&z->file, (uint64_t)z->n, 8);
		tbuf_le(&z->file, z->end - z->directory, 8);
		tbuf_le(&z->file, z->directory, 8);
		tbuf_le(&z->file, 0x07064b50, 4);
		tbuf_le(&z->file, 0, 4);
		tbuf_le(&z->file, z->end64, 8);
		tbuf_le(&z->file, 1, 4);
		z->end = z->file.n;
	}
	tbuf_le(&z->file, 0x06054b50, 4);
	tbuf_le(&z->file, 0, 4);
	tbuf_le(&z->file, zip64 ? 0xffff : (uint64_t)z->n, 2);
	tbuf_le(&z->file, zip64 ? 0xffff : (uint64_t)z->n, 2);
	tbuf_le(&z->file, zip64 ? all : z->end - z->directory, 4);
	tbuf_le(&z->file, zip64 ? all : z->directory, 4);
	tbuf_le(&z->file, 0, 2);
}
static inline void tzip_set(struct tzip *z, size_t at, uint64_t v, int n)
{
	for (int i = 0; i < n; i++)
		z->file.b[at + (size_t)i] = (uint8_t)(v >> 8 * i);
}
static inline void tzip_free(struct tzip *z)
{
	free(z->file.b);
	memset(z, 0, sizeof *z);
}

/* ---- the pickle of a state dict, in bytes as torch writes them ---- */
static inline void tpkl_text(struct tbuf *p, const char *s)
{
	tbuf_le(p, 'X', 1);
	tbuf_le(p, strlen(s), 4);
	tbuf_text(p, s);
}
static inline void tpkl_int(struct tbuf *p, uint64_t v)
{
	tbuf_le(p, 0x8a | 8 << 8, 2); /* LONG1 of 8 bytes */
	tbuf_le(p, v, 8);
}
/* name: a contiguous tensor of storage data/KEY, from item `offset` of its `items` on. type: "Float". */
static inline void tpkl_tensor(struct tbuf *p, const char *name, const char *type, int key, uint64_t items,
			       uint64_t offset, const int64_t *shape, int ndim)
{
	char text[64];

	tpkl_text(p, name);
	tbuf_text(p, "ctorch._utils\n_rebuild_tensor_v2\n((");
	tpkl_text(p, "storage");
	snprintf(text, sizeof text, "ctorch\n%sStorage\n", type);
	tbuf_text(p, text);
	snprintf(text, sizeof text, "%d", key);
	tpkl_text(p, text);
	tpkl_text(p, "cpu");
	tpkl_int(p, items);
	tbuf_text(p, "tQ");
	tpkl_int(p, offset);
	tbuf_text(p, "(");
	for (int i = 0; i < ndim; i++)
		tpkl_int(p, (uint64_t)shape[i]);
	tbuf_text(p, "t(");
	for (int i = 0; i < ndim; i++) {
		int64_t step = 1;

		for (int k = i + 1; k < ndim; k++)
			step *= shape[k];
		tpkl_int(p, (uint64_t)step);
	}
	tbuf_text(p, "t\x89"
		     "ccollections\nOrderedDict\n)RtR");
}

#endif
