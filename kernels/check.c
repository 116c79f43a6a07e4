/* Making, running and fetching a case of the kernel check (check.h). */
#include "check.h"
#include "q8.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define PERIOD 65521 /* weights repeat after this many items: a prime, so that rows differ; q8_0 after 2047 blocks */
#define POISON 0xff  /* as bytes: a NaN in f32, f16 and bf16 */
#define SEQ_STEP 37  /* each sequence is this much shorter than the one before */
#define STRIDE_EXTRA 5

static uint64_t next_random(uint64_t *s)
{
	uint64_t z = *s += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

/* Mostly uniform in [-1, 1) * scale; one in 32 is 2^-14 smaller (subnormal in f16), one in 64 is zero. */
static float next_value(uint64_t *s, float scale)
{
	uint64_t u = next_random(s);
	float v = (float)((int32_t)(u >> 40) - (1 << 23)) * 0x1p-23f * scale;

	if (u % 32 == 1)
		return v * 0x1p-14f;
	return u % 64 == 2 ? 0.0f : v;
}

static void store(enum fr_dtype dtype, void *to, size_t i, float v)
{
	uint16_t h;

	if (dtype == FR_F32) {
		memcpy((char *)to + 4 * i, &v, 4);
		return;
	}
	h = dtype == FR_BF16 ? fr_f32_bf16(v) : fr_f32_f16(v);
	memcpy((char *)to + 2 * i, &h, 2);
}

static const char *const op_names[] = {"linear", "glu",	 "norm",     "patch",	 "embed", "rope",
				       "attn",	 "pick", "attn_map", "map_bias", "gate"};

__attribute__((format(printf, 3, 4))) static void append(char *buf, size_t size, const char *format, ...)
{
	size_t n = strlen(buf);
	va_list ap;

	va_start(ap, format);
	vsnprintf(buf + n, size - n, format, ap);
	va_end(ap);
}

static void name_matrix(const struct fr_check_case *c, char *buf, size_t size)
{
	static const char *const acts[] = {"", "_quickgelu", "_gelu", "_silu", "_relu"};

	append(buf, size, "%s_%s/m%d_n%d_k%d%s", c->phase == FR_DECODE ? "_decode" : "", fr_dtypes[c->dtype].name, c->m,
	       c->n, c->k, c->op == FR_CHECK_LINEAR ? acts[c->act] : "");
}

char *fr_check_name(const struct fr_check_case *c, char *buf, size_t size)
{
	static const char *const with[] = {"_bias", "_scale", "_residual", "_inplace", "_strided",
					   "",	    "_odd",   "_sampled",  "_large",   "_mixed"};

	snprintf(buf, size, "%s", op_names[c->op]);
	switch (c->op) {
	case FR_CHECK_LINEAR:
	case FR_CHECK_GLU:
	case FR_CHECK_EMBED:
		name_matrix(c, buf, size);
		break;
	case FR_CHECK_NORM:
		append(buf, size, "%s/m%d_k%d", c->with & FR_WITH_BIAS ? "_layer" : "_rms", c->m, c->k);
		break;
	case FR_CHECK_PATCH:
		append(buf, size, "_%s/image%d_patch%d_n%d", fr_dtypes[c->dtype].name, c->image, c->patch, c->n);
		break;
	case FR_CHECK_PICK:
		append(buf, size, "/m%d_n%d", c->m, c->n);
		if (c->with & FR_SAMPLED)
			append(buf, size, "_top%d", c->k);
		break;
	case FR_CHECK_ATTN_MAP:
		append(buf, size, "/m%d_of%d_kv%d_h%d_hd%d", c->m, c->n, c->kv_len, c->heads, c->head_dim);
		break;
	case FR_CHECK_MAP_BIAS:
		append(buf, size, "/n%d_h%d_mid%d", c->n, c->heads, c->k);
		break;
	case FR_CHECK_GATE:
		append(buf, size, "/m%d_n%d", c->m, c->n);
		break;
	case FR_CHECK_ROPE:
	case FR_CHECK_ATTN:
		if (c->with & FR_DENSE)
			append(buf, size, "_dense%s/m%d_kv%d_h%d_hd%d", c->dtype == FR_BF16 ? "_bf16" : "", c->m,
			       c->kv_len, c->heads, c->head_dim);
		else
			append(buf, size, "_%s_%s/m%d_seqs%d_kv%d_h%d_kvh%d_hd%d",
			       c->phase == FR_DECODE ? "decode" : "prefill", fr_dtypes[c->dtype].name, c->m, c->seqs,
			       c->kv_len, c->heads, c->kv_heads, c->head_dim);
		break;
	}
	if (c->also)
		append(buf, size, "_also%d", c->also);
	if (c->images)
		append(buf, size, "_images%d", c->images);
	for (size_t i = 0; i < sizeof with / sizeof *with; i++)
		if (c->with & 1u << i && !(c->op == FR_CHECK_NORM && i == 0))
			append(buf, size, "%s", with[i]);
	return buf;
}

/* An array of n floats in [-scale, scale), or of poison when scale is 0. */
static int add_slot(struct fr_check *ck, enum fr_slot slot, size_t n, float scale, uint64_t *seed)
{
	struct fr_check_slot *s = &ck->slot[slot];
	float *v = malloc(n * sizeof *v);

	if (!v)
		return -1;
	memset(v, POISON, n * sizeof *v);
	for (size_t i = 0; i < n && scale != 0; i++)
		v[i] = next_value(seed, scale);
	s->host = v;
	s->bytes = n * sizeof *v;
	s->out = slot >= FR_SLOT_Y;
	return 0;
}

/* A block as quantisers make it: the largest value is 127 of its scale. Every 16th is what a file may hold besides:
 * nothing but -128, -128 and 127 in turn, a negative scale, a scale of 0. */
static void store_q8(char *block, size_t i, float scale, uint64_t *seed)
{
	enum { USUAL, LOW, ENDS, NEGATIVE, EMPTY } kind = i % 16 == 5 ? LOW + i / 16 % 4 : USUAL;
	float v[FR_Q8_ITEMS], top = FR_Q8_TINY;

	for (int j = 0; j < FR_Q8_ITEMS; j++) {
		v[j] = next_value(seed, scale);
		top = fmaxf(top, fabsf(v[j]));
	}
	store(FR_F16, block, 0, kind == EMPTY ? 0 : kind == NEGATIVE ? -top / 127 : top / 127);
	for (int j = 0; j < FR_Q8_ITEMS; j++) {
		int q = (int)lrintf(v[j] / top * 127);

		block[2 + j] = (char)(kind == LOW ? -128 : kind == ENDS ? j % 2 * 255 - 128 : q);
	}
}

/* Weights [rows, cols] as a checkpoint's: pages of a file, mapped, the last byte before a page that cannot be read. */
static int add_weight(struct fr_check *ck, int i, int rows, int cols, uint64_t *seed)
{
	const enum fr_dtype dtype = fr_check_type(&ck->c, i);
	const struct fr_dtype_info *type = &fr_dtypes[dtype];
	size_t item = (size_t)type->bytes, n = (size_t)rows * (size_t)cols / (size_t)type->items, bytes = n * item;
	size_t period = PERIOD / (size_t)type->items;
	float scale = 2.0f / sqrtf((float)cols);
	size_t page = (size_t)sysconf(_SC_PAGESIZE), odd = ck->c.with & FR_ODD_WEIGHT ? 1 : 0;
	size_t inner = (bytes + odd + page - 1) / page * page;
	int fd = memfd_create("weights", MFD_CLOEXEC);
	char *map, *data;

	if (fd < 0)
		return -1;
	map = mmap(NULL, inner + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (map == MAP_FAILED || ftruncate(fd, (off_t)inner) != 0 ||
	    mmap(map + page, inner, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED) {
		close(fd);
		return -1;
	}
	close(fd);
	data = map + page + inner - bytes - odd;
	memset(map + page, POISON, (size_t)(data - map) - page);
	for (size_t j = 0; j < n && j < period; j++) {
		if (dtype == FR_Q8_0)
			store_q8(data + j * item, j, scale, seed);
		else
			store(dtype, data, j, next_value(seed, scale));
	}
	for (size_t j = period; j < n; j += period)
		memcpy(data + j * item, data, (n - j < period ? n - j : period) * item);
	ck->map[i] = map;
	ck->map_bytes[i] = inner + 2 * page;
	ck->w[i] = (struct fr_tensor){.name = "weights",
				      .file = "check",
				      .dtype = dtype,
				      .ndim = 2,
				      .shape = {rows, cols},
				      .data = data,
				      .bytes = bytes};
	return 0;
}

/* Sequence s has its share of the m rows, at the last positions before its length, in slot seqs - 1 - s. */
static int add_rows(struct fr_check *ck)
{
	const struct fr_check_case *c = &ck->c;
	int r = 0;

	ck->row = malloc((size_t)c->m * sizeof *ck->row);
	if (!ck->row)
		return -1;
	for (int s = 0; s < c->seqs; s++) {
		int share = c->m / c->seqs + (s < c->m % c->seqs);
		int len = c->kv_len - SEQ_STEP * s > share ? c->kv_len - SEQ_STEP * s : share;

		for (int i = 0; i < share; i++)
			ck->row[r++] = (struct fr_row){c->seqs - 1 - s, len - share + i};
	}
	ck->max_pos = c->kv_len + 3 > c->m ? c->kv_len + 3 : c->m;
	ck->slots = c->seqs + 1;
	return 0;
}

/* The cache: poison everywhere, and for attention values at the positions that rows may attend to. */
static int add_cache(struct fr_check *ck, uint64_t *seed)
{
	const struct fr_check_case *c = &ck->c;
	size_t item = (size_t)fr_dtypes[c->dtype].bytes, hd = (size_t)c->head_dim;
	size_t per_slot = (size_t)c->kv_heads * (size_t)ck->max_pos * hd;
	size_t bytes = FR_CHECK_LAYERS * (size_t)ck->slots * per_slot * item;

	for (int kv = FR_SLOT_CACHE_K; kv <= FR_SLOT_CACHE_V; kv++) {
		char *p = malloc(bytes);

		if (!p)
			return -1;
		memset(p, POISON, bytes);
		ck->slot[kv] = (struct fr_check_slot){p, bytes, c->op == FR_CHECK_ROPE};
		for (int r = 0; r < c->m && c->op == FR_CHECK_ATTN; r++) {
			if (r + 1 < c->m && ck->row[r + 1].seq == ck->row[r].seq)
				continue;
			for (int h = 0; h < c->kv_heads; h++) {
				size_t at = (size_t)(FR_CHECK_LAYER * ck->slots + ck->row[r].seq) * per_slot;

				at += (size_t)h * (size_t)ck->max_pos * hd;
				for (size_t i = 0; i < (size_t)(ck->row[r].pos + 1) * hd; i++)
					store(c->dtype, p, at + i, next_value(seed, 1.0f));
			}
		}
	}
	return 0;
}

static int make_linear(struct fr_check *ck, uint64_t *seed)
{
	const struct fr_check_case *c = &ck->c;
	size_t m = (size_t)c->m, n = (size_t)c->n, stride = (size_t)c->k + (c->with & FR_STRIDED ? STRIDE_EXTRA : 0);
	size_t outs = n;
	int bad = add_slot(ck, FR_SLOT_X, m * stride, c->with & FR_LARGE ? 0x1p17f : 1, seed) ||
		  add_weight(ck, 0, c->n, c->k, seed) ||
		  add_slot(ck, FR_SLOT_Y, m * n, c->with & FR_IN_PLACE ? 2.0f : 0.0f, seed);

	if (!bad && c->op == FR_CHECK_GLU)
		bad = add_weight(ck, 1, c->n, c->k, seed);
	for (int i = 1; !bad && i <= c->also; i++) {
		bad = add_weight(ck, i, fr_check_outs(c, i), c->k, seed) ||
		      add_slot(ck, FR_SLOT_Y + (unsigned)i, m * (size_t)fr_check_outs(c, i), 0, seed);
		outs += (size_t)fr_check_outs(c, i);
	}
	if (!bad && c->with & FR_WITH_BIAS)
		bad = add_slot(ck, FR_SLOT_BIAS, outs, 1, seed);
	if (!bad && c->with & FR_WITH_SCALE)
		bad = add_slot(ck, FR_SLOT_SCALE, n, 2, seed);
	if (!bad && (c->with & (FR_WITH_RESIDUAL | FR_IN_PLACE)) == FR_WITH_RESIDUAL)
		bad = add_slot(ck, FR_SLOT_ADD, m * n, 2, seed);
	for (size_t r = 0; !bad && stride > (size_t)c->k && r < m; r++) /* nothing may come out of the gaps */
		memset((float *)ck->slot[FR_SLOT_X].host + r * stride + (size_t)c->k, POISON, STRIDE_EXTRA * 4);
	return bad;
}

static int make_norm(struct fr_check *ck, uint64_t *seed)
{
	const struct fr_check_case *c = &ck->c;
	size_t n = (size_t)c->m * (size_t)c->k;
	int bad = add_slot(ck, FR_SLOT_SCALE, (size_t)c->k, 2, seed) ||
		  add_slot(ck, FR_SLOT_Y, n, c->with & FR_IN_PLACE ? 3.0f : 0.0f, seed);

	if (!bad && !(c->with & FR_IN_PLACE))
		bad = add_slot(ck, FR_SLOT_X, n, 3, seed);
	/* Every second row so small that eps counts. */
	for (size_t i = 0; !bad && i < n; i++)
		if (i / (size_t)c->k % 2)
			((float *)ck->slot[c->with & FR_IN_PLACE ? FR_SLOT_Y : FR_SLOT_X].host)[i] *= 0x1p-9f;
	return bad || (c->with & FR_WITH_BIAS && add_slot(ck, FR_SLOT_BIAS, (size_t)c->k, 1, seed));
}

static int make_patch(struct fr_check *ck, uint64_t *seed)
{
	const struct fr_check_case *c = &ck->c;
	size_t g = (size_t)(c->image / c->patch), n = (size_t)c->n, images = c->images ? (size_t)c->images : 1;

	return add_slot(ck, FR_SLOT_X, images * 3 * (size_t)c->image * (size_t)c->image, 2, seed) ||
	       add_weight(ck, 0, c->n, 3 * c->patch * c->patch, seed) || add_slot(ck, FR_SLOT_SCALE, n, 1, seed) ||
	       add_slot(ck, FR_SLOT_ADD, (1 + g * g) * n, 1, seed) ||
	       add_slot(ck, FR_SLOT_Y, images * (1 + g * g) * n, 0, seed) ||
	       (c->with & FR_WITH_BIAS && add_slot(ck, FR_SLOT_BIAS, n, 1, seed));
}

/* Every third row is an image row. */
static int make_embed(struct fr_check *ck, uint64_t *seed)
{
	const struct fr_check_case *c = &ck->c;
	size_t m = (size_t)c->m, k = (size_t)c->k;

	ck->ids = malloc(m * sizeof *ck->ids);
	if (!ck->ids)
		return -1;
	for (int r = 0; r < c->m; r++)
		ck->ids[r] = r % 3 == 1 ? -1 - r / 3 : (int32_t)(next_random(seed) % (uint64_t)c->n);
	return add_weight(ck, 0, c->n, c->k, seed) || add_slot(ck, FR_SLOT_X, (m / 3 + 1) * k, 1, seed) ||
	       add_slot(ck, FR_SLOT_Y, m * k, 0, seed);
}

static int make_rope(struct fr_check *ck, uint64_t *seed)
{
	const struct fr_check_case *c = &ck->c;
	size_t hd = (size_t)c->head_dim, m = (size_t)c->m;
	int bad = add_rows(ck) || add_cache(ck, seed) || add_slot(ck, FR_SLOT_X, m * (size_t)c->heads * hd, 2, seed) ||
		  add_slot(ck, FR_SLOT_K, m * (size_t)c->kv_heads * hd, 2, seed) ||
		  add_slot(ck, FR_SLOT_V, m * (size_t)c->kv_heads * hd, 2, seed) ||
		  add_slot(ck, FR_SLOT_COS, (size_t)ck->max_pos * hd / 2, 1, seed) ||
		  add_slot(ck, FR_SLOT_SIN, (size_t)ck->max_pos * hd / 2, 1, seed);

	ck->slot[FR_SLOT_X].out = 1;
	return bad;
}

/* Queries are large enough that the softmax has peaks. */
static int make_attn(struct fr_check *ck, uint64_t *seed)
{
	const struct fr_check_case *c = &ck->c;
	size_t row = (size_t)c->heads * (size_t)c->head_dim, images = c->images ? (size_t)c->images : 1;
	size_t m = images * (size_t)c->m, keys = (size_t)c->kv_len;

	if (add_slot(ck, FR_SLOT_X, m * row, 6, seed) || add_slot(ck, FR_SLOT_Y, m * row, 0, seed))
		return -1;
	if (!(c->with & FR_DENSE))
		return add_rows(ck) || add_cache(ck, seed);
	return add_slot(ck, FR_SLOT_K, images * keys * row, 1, seed) ||
	       add_slot(ck, FR_SLOT_V, images * keys * row, 1, seed) ||
	       (c->with & FR_WITH_BIAS && add_slot(ck, FR_SLOT_BIAS, (size_t)c->heads * m * keys, 2, seed));
}

/* Of every four rows one has its highest logit twice, one holds a NaN and one an infinity; a single row has neither. */
static int make_pick(struct fr_check *ck, uint64_t *seed)
{
	const struct fr_check_case *c = &ck->c;
	size_t n = (size_t)c->n;
	float *x;

	ck->draw = malloc((size_t)c->m * sizeof *ck->draw);
	if (!ck->draw || add_slot(ck, FR_SLOT_X, (size_t)c->m * n, 8, seed) ||
	    add_slot(ck, FR_SLOT_Y, (size_t)c->m, 0, seed))
		return -1;
	x = ck->slot[FR_SLOT_X].host;
	for (int r = 0; r < c->m; r++, x += n) {
		size_t a = next_random(seed) % n, b = next_random(seed) % n;

		ck->draw[r] = (double)(next_random(seed) >> 11) * 0x1p-53;
		if (r % 4 == 1)
			x[a] = x[b] = 9;
		else if (r % 4 == 2)
			memset(&x[a], POISON, sizeof *x);
		else if (r % 4 == 3)
			x[a] = r % 8 == 3 ? -INFINITY : INFINITY;
	}
	if (c->with & FR_SAMPLED)
		ck->sampler = (struct fr_sampler){.temperature = 0.8f, .top_k = c->k, .top_p = c->k ? 0.9f : 1};
	return 0;
}

/* The rows beyond the first m are poison: they must not be read. */
static int make_attn_map(struct fr_check *ck, uint64_t *seed)
{
	const struct fr_check_case *c = &ck->c;
	size_t row = (size_t)c->heads * (size_t)c->head_dim, images = c->images ? (size_t)c->images : 1;
	size_t n = (size_t)c->n, m = (size_t)c->m, keys = (size_t)c->kv_len;

	if (add_slot(ck, FR_SLOT_X, images * n * row, 6, seed) ||
	    add_slot(ck, FR_SLOT_K, images * keys * row, 1, seed) ||
	    add_slot(ck, FR_SLOT_Y, images * (size_t)c->heads * m * keys, 0, seed))
		return -1;
	for (size_t i = 0; i < images; i++)
		memset((float *)ck->slot[FR_SLOT_X].host + (i * n + m) * row, POISON, (n - m) * row * sizeof(float));
	return 0;
}

/* A map of values in [0, 1), the class token's row and column poison. */
static int make_map_bias(struct fr_check *ck, uint64_t *seed)
{
	const struct fr_check_case *c = &ck->c;
	size_t side = (size_t)c->n + 1, heads = (size_t)c->heads, mid = (size_t)c->k;
	size_t maps = (c->images ? (size_t)c->images : 1) * heads;
	float *map;

	if (add_slot(ck, FR_SLOT_X, maps * side * side, 1, seed) ||
	    add_slot(ck, FR_SLOT_SCALE, mid * heads, 0.5f, seed) || add_slot(ck, FR_SLOT_BIAS, mid, 1, seed) ||
	    add_slot(ck, FR_SLOT_K, heads * mid, 0.5f, seed) || add_slot(ck, FR_SLOT_ADD, heads, 1, seed) ||
	    add_slot(ck, FR_SLOT_Y, maps * (side - 1) * (side - 1), 0, seed))
		return -1;
	map = ck->slot[FR_SLOT_X].host;
	for (size_t i = 0; i < maps * side * side; i++) {
		size_t r = i / side % side, col = i % side;

		map[i] = fabsf(map[i]) * fabsf(map[i]); /* most are small, as in a softmax */
		if (r == 0 || col == 0)
			memset(&map[i], POISON, sizeof *map);
	}
	return 0;
}

static int make_gate(struct fr_check *ck, uint64_t *seed)
{
	const struct fr_check_case *c = &ck->c;
	size_t n = (size_t)c->m * (size_t)c->n;
	int in_place = (c->with & FR_IN_PLACE) != 0;

	return add_slot(ck, FR_SLOT_ADD, n, 3, seed) || add_slot(ck, FR_SLOT_Y, n, in_place ? 8.0f : 0.0f, seed) ||
	       (!in_place && add_slot(ck, FR_SLOT_X, n, 8, seed));
}

int fr_check_new(const struct fr_check_case *c, uint64_t seed, struct fr_check **out, struct fr_error *err)
{
	static int (*const make[])(struct fr_check *, uint64_t *) = {
		make_linear, make_linear, make_norm,	 make_patch,	make_embed, make_rope,
		make_attn,   make_pick,	  make_attn_map, make_map_bias, make_gate};
	struct fr_check *ck = calloc(1, sizeof *ck);
	char name[128];

	*out = ck;
	if (ck) {
		ck->c = *c;
		if (make[c->op](ck, &seed) == 0)
			return 0;
	}
	fr_check_free(ck);
	*out = NULL;
	return fr_fail(err, FR_E_MEMORY, "not enough memory for the kernel case %s",
		       fr_check_name(c, name, sizeof name));
}

void fr_check_free(struct fr_check *ck)
{
	if (!ck)
		return;
	for (int i = 0; i < FR_SLOTS; i++)
		free(ck->slot[i].host);
	for (int i = 0; i < FR_CHECK_MATS; i++)
		if (ck->map[i])
			munmap(ck->map[i], ck->map_bytes[i]);
	free(ck->row);
	free(ck->ids);
	free(ck->draw);
	free(ck);
}
