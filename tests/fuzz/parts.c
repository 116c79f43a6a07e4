/* Fuzz target: the tensors of a small FakeReasoning with its adapter, edited as the bytes say (dropped, renamed, of
 * another shape or type), through the description and the binder. What is bound must lie in its tensors, with the
 * shapes that the engine sizes its buffers from. Seven bytes make an edit. */
#include "../../engine/desc.h"
#include "../parts_file.h"

#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static const struct fr_model_desc sizes = {
	.vit = {{.image = 28, .patch = 14, .dim = 8, .heads = 1, .ffn = 8, .layers = 2},
		{.image = 28, .patch = 14, .dim = 8, .heads = 1, .ffn = 16, .layers = 1, .pos_side = 3}},
	.proj_dim = 16,
	.fusion = {.heads = 1, .mid = 2, .ffn = 8},
	.text = {.dim = 16,
		 .layers = 1,
		 .heads = 2,
		 .kv_heads = 1,
		 .head_dim = 8,
		 .ffn = 8,
		 .vocab = 33,
		 .lora_rank = 2,
		 .lora = 5},
};
static const char config[] =
	"{\"architectures\":[\"LlavaLlamaForCausalLM\"],\"model_type\":\"llava_llama\",\"hidden_size\":16,"
	"\"intermediate_size\":8,\"num_hidden_layers\":1,\"num_attention_heads\":2,\"num_key_value_heads\":1,"
	"\"vocab_size\":33,\"mm_projector_type\":\"mlp2x_gelu\",\"mm_vision_select_layer\":-2,\"mm_hidden_size\":8}";
static const char clip[] = "{\"model_type\":\"clip_vision_model\",\"hidden_size\":8,\"intermediate_size\":8,"
			   "\"num_hidden_layers\":2,\"num_attention_heads\":1,\"image_size\":28,\"patch_size\":14}";
static const char adapter[] =
	"{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":4,\"target_modules\":[\"q_proj\",\"v_proj\"]}";

static void edit(struct parts_list *f, const uint8_t e[7])
{
	static const enum fr_dtype types[] = {FR_F16, FR_BF16, FR_F64, FR_I64, FR_U8};
	struct parts_item *t = &f->at[(e[0] | e[1] << 8) % f->n];
	const int64_t value = (int64_t)e[4] | (int64_t)e[5] << 8 | (int64_t)e[6] << 32;

	switch (e[2] % 6) {
	case 0:
		if (f->n > 1)
			*t = f->at[--f->n];
		break;
	case 1:
		t->shape[e[3] % 4] = value;
		break;
	case 2:
		t->ndim = e[3] % 5;
		break;
	case 3:
		t->dtype = types[e[3] % 5];
		break;
	case 4:
		t->name[e[3] % strlen(t->name)] = (char)('a' + e[4] % 26);
		break;
	case 5:
		if (f->n < 500) {
			f->at[f->n] = *t;
			f->at[f->n++].from = (enum fr_from)(e[3] % FR_FROMS);
		}
		break;
	}
}

struct text {
	char at[1 << 16];
	size_t n;
};
__attribute__((format(printf, 2, 3))) static void put(struct text *t, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	t->n += (size_t)vsnprintf(t->at + t->n, sizeof t->at - t->n, format, ap);
	va_end(ap);
	if (t->n >= sizeof t->at)
		abort();
}

/* Bytes of a tensor; one of more than 1 MB loses its first dimension. */
static size_t count_bytes(struct parts_item *t)
{
	size_t bytes = (size_t)fr_dtypes[t->dtype].bytes;
	int empty = 0;

	for (int d = 0; d < t->ndim; d++) {
		empty |= t->shape[d] == 0;
		if (t->shape[d] && __builtin_mul_overflow(bytes, (size_t)t->shape[d], &bytes))
			bytes = SIZE_MAX / 2;
	}
	if (bytes <= 1 << 20)
		return empty ? 0 : bytes;
	t->shape[0] = 0;
	return 0;
}

/* The header of a safetensors file with the store's tensors, and how many bytes of data follow it. */
static size_t describe(struct parts_list *f, enum fr_from from, struct text *header)
{
	size_t end = 0;

	header->n = 0;
	put(header, "{");
	for (int i = 0; i < f->n; i++) {
		struct parts_item *t = &f->at[i];
		size_t bytes;

		if (t->from != from)
			continue;
		bytes = count_bytes(t);
		put(header, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[", header->n > 1 ? "," : "", t->name,
		    fr_dtypes[t->dtype].st_name);
		for (int d = 0; d < t->ndim; d++)
			put(header, "%s%lld", d ? "," : "", (long long)t->shape[d]);
		put(header, "],\"data_offsets\":[%zu,%zu]}", end, end + bytes);
		end += bytes;
	}
	put(header, "}");
	return end;
}

/* The store's tensors, all zeros; the file of the last time where nothing changed in it. */
static struct fr_store *open_store(struct parts_list *f, enum fr_from from)
{
	static struct text last[FR_FROMS], header;
	static struct fr_store *store[FR_FROMS];
	size_t end = describe(f, from, &header);
	uint8_t length[8];
	struct fr_error err;
	char path[64];
	int fd;

	if (header.n == last[from].n && memcmp(header.at, last[from].at, header.n) == 0)
		return store[from];
	memcpy(&last[from], &header, sizeof header);
	fr_store_close(store[from]);
	store[from] = NULL;
	if (header.n == 2)
		return NULL;
	for (int i = 0; i < 8; i++)
		length[i] = (uint8_t)((uint64_t)header.n >> 8 * i);
	fd = memfd_create("store", 0);
	if (fd < 0 || ftruncate(fd, (off_t)(8 + header.n + end)) != 0 || pwrite(fd, length, 8, 0) != 8 ||
	    pwrite(fd, header.at, header.n, 8) != (ssize_t)header.n)
		abort();
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	fr_store_open_file(path, &store[from], &err);
	close(fd);
	return store[from];
}

static unsigned read_all(const struct fr_tensor *t, int64_t rows, int64_t cols)
{
	const uint8_t *p = t->data;
	unsigned sum = 0;

	if (!p || t->shape[0] != rows || t->ndim != (cols ? 2 : 1) || (cols && t->shape[1] != cols) ||
	    t->bytes != fr_tensor_items(t) * (size_t)fr_dtypes[t->dtype].bytes || !fr_dtypes[t->dtype].real)
		abort();
	for (size_t i = 0; i < t->bytes; i++)
		sum += p[i];
	return sum;
}

static unsigned check(const struct fr_model_desc *d, const struct fr_weights *w)
{
	const struct fr_vit_desc *v = &d->vit[1];
	const int64_t dim = d->text.dim, side = v->image / v->patch;
	unsigned sum = 0;

	if (side * side != d->n_image || d->vit[0].dim % d->vit[0].heads || v->dim % v->heads || dim % d->fusion.heads)
		abort();
	for (int l = 0; l < v->run; l++)
		sum += read_all(&w->vit[1].layer[l].q_w, v->dim, v->dim) +
		       read_all(&w->vit[1].layer[l].v_b, v->dim, 0) +
		       read_all(&w->vit[1].layer[l].fc1_w, v->ffn, v->dim);
	sum += read_all(&w->vit[1].pos, 1 + side * side, v->dim) +
	       read_all(&w->vit[1].patch_w, v->dim, 3 * v->patch * v->patch);
	sum += read_all(&w->vit[0].pos, 1 + side * side, d->vit[0].dim) +
	       read_all(&w->proj[0].l1_w, d->proj_dim, d->vit[0].dim);
	sum += read_all(&w->fusion.bias1_w, d->fusion.mid, d->fusion.heads) +
	       read_all(&w->fusion.fc2_w, dim, d->fusion.ffn);
	sum += read_all(&w->embed, d->text.vocab, dim) +
	       read_all(&w->layer[0].lora[FR_LORA_V].a, d->text.lora_rank, dim);
	return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	struct fr_store *store[FR_FROMS];
	struct fr_desc_from from = {.store = store};
	static struct parts_list f;
	struct fr_model_desc desc;
	struct fr_weights w;
	struct fr_error err;

	parts_model(&f, &sizes);
	for (size_t i = 0; i + 7 <= size && i < 7 * 32; i += 7)
		edit(&f, bytes + i);
	for (int i = 0; i < FR_FROMS; i++)
		store[i] = open_store(&f, (enum fr_from)i);
	from.bytes[FR_FILE_CONFIG] = (const uint8_t *)config;
	from.size[FR_FILE_CONFIG] = sizeof config - 1;
	from.bytes[FR_FILE_CLIP_CONFIG] = (const uint8_t *)clip;
	from.size[FR_FILE_CLIP_CONFIG] = sizeof clip - 1;
	from.bytes[FR_FILE_ADAPTER] = (const uint8_t *)adapter;
	from.size[FR_FILE_ADAPTER] = sizeof adapter - 1;
	if (fr_desc_parse(&from, &desc, &err) == 0 && fr_bind(&desc, store, &w, &err) == 0) {
		volatile unsigned sum = check(&desc, &w);

		(void)sum;
		fr_weights_free(&w);
	} else if (size == 0) { /* without an edit it is a model */
		fprintf(stderr, "%s\n", err.text);
		abort();
	}
	return 0;
}
