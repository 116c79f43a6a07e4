/* A case of the kernel check on a device: bind, call, collect (check.h). */
#include "check.h"

#include <math.h>
#include <stdlib.h>

#define GUARD 512 /* bytes before and after an array in device memory */
#define POISON 0xff
#define CANARY 0xa5

/* Arrays start at no more than their element's alignment: 4 bytes for every second one, 64 for the others and for the
 * KV cache, which lies as alloc gave it (ops.h). */
static size_t shift_of(int slot)
{
	return slot % 2 && slot != FR_SLOT_CACHE_V ? 4 : 0;
}
static int guard_byte(const struct fr_check_slot *s)
{
	return s->out ? CANARY : POISON;
}

int fr_check_bind(const struct fr_check *ck, struct fr_dev *dev, struct fr_check_run *run, struct fr_error *err)
{
	*run = (struct fr_check_run){.check = ck, .dev = dev};
	for (int i = 0; i < FR_CHECK_MATS && ck->w[i].data; i++)
		FR_TRY(dev->ops->weight(dev, &ck->w[i], &run->w[i], err));
	if (ck->c.op == FR_CHECK_PICK && !(run->picked = malloc(ck->slot[FR_SLOT_Y].bytes)))
		return fr_fail(err, FR_E_MEMORY, "cannot allocate %d ids for a kernel case", ck->c.m);
	for (int i = 0; i < FR_SLOTS; i++) {
		const struct fr_check_slot *s = &ck->slot[i];
		size_t all = s->bytes + 2 * GUARD, head = GUARD + shift_of(i);
		unsigned char *image;

		if (!s->bytes)
			continue;
		image = malloc(all);
		if (!image)
			return fr_fail(err, FR_E_MEMORY, "cannot allocate %zu bytes for a kernel case", all);
		memset(image, guard_byte(s), all);
		memcpy(image + head, s->host, s->bytes);
		if (dev->ops->alloc(dev, all, &run->block[i], err) == 0) {
			dev->ops->put(dev, run->block[i], image, all);
			run->at[i] = (char *)run->block[i] + head;
		}
		free(image);
		if (!run->block[i])
			return -1;
	}
	return 0;
}

void fr_check_unbind(struct fr_check_run *run)
{
	for (int i = 0; i < FR_SLOTS; i++) {
		if (run->block[i])
			run->dev->ops->release(run->dev, run->block[i], run->check->slot[i].bytes + 2 * GUARD);
		free(run->out[i]);
		run->block[i] = run->at[i] = run->out[i] = NULL;
	}
	free(run->picked);
	run->picked = NULL;
}

static void call_linear(const struct fr_check_run *run)
{
	const struct fr_check_case *c = &run->check->c;
	struct fr_linear a = {
		.x = run->at[FR_SLOT_X],
		.x_stride = c->with & FR_STRIDED ? run->check->slot[FR_SLOT_X].bytes / sizeof(float) / (size_t)c->m : 0,
		.w = run->w[0],
		.bias = run->at[FR_SLOT_BIAS],
		.act = c->act,
		.scale = run->at[FR_SLOT_SCALE],
		.residual = c->with & FR_IN_PLACE ? run->at[FR_SLOT_Y] : run->at[FR_SLOT_ADD],
		.y = run->at[FR_SLOT_Y],
		.rows = c->m,
		.phase = c->phase,
	};
	struct fr_linear also[FR_MAX_ALSO];
	const float *bias = a.bias;

	for (int i = 0; i < c->also; i++) {
		bias += bias ? fr_check_outs(c, i) : 0;
		also[i] = (struct fr_linear){
			.x = a.x,
			.x_stride = a.x_stride,
			.w = run->w[1 + i],
			.bias = bias,
			.act = a.act,
			.y = run->at[FR_SLOT_Y1 + i],
			.rows = a.rows,
			.phase = a.phase,
		};
		*(i ? &also[i - 1].also : &a.also) = &also[i];
	}
	run->dev->ops->linear(run->dev, &a);
}

static void call_glu(const struct fr_check_run *run)
{
	struct fr_glu a = {
		.x = run->at[FR_SLOT_X],
		.gate = run->w[0],
		.up = run->w[1],
		.y = run->at[FR_SLOT_Y],
		.rows = run->check->c.m,
		.phase = run->check->c.phase,
	};
	run->dev->ops->glu(run->dev, &a);
}

static void call_norm(const struct fr_check_run *run)
{
	const struct fr_check_case *c = &run->check->c;
	struct fr_norm a = {
		.x = c->with & FR_IN_PLACE ? run->at[FR_SLOT_Y] : run->at[FR_SLOT_X],
		.weight = run->at[FR_SLOT_SCALE],
		.bias = run->at[FR_SLOT_BIAS],
		.eps = 1e-5f,
		.y = run->at[FR_SLOT_Y],
		.rows = c->m,
		.dim = c->k,
	};
	run->dev->ops->norm(run->dev, &a);
}

static void call_patch(const struct fr_check_run *run)
{
	struct fr_patch a = {
		.images = run->check->c.images,
		.pixels = run->at[FR_SLOT_X],
		.image = run->check->c.image,
		.patch = run->check->c.patch,
		.w = run->w[0],
		.bias = run->at[FR_SLOT_BIAS],
		.cls = run->at[FR_SLOT_SCALE],
		.pos = run->at[FR_SLOT_ADD],
		.y = run->at[FR_SLOT_Y],
	};
	run->dev->ops->patch(run->dev, &a);
}

static void call_embed(const struct fr_check_run *run)
{
	struct fr_embed a = {
		.ids = run->check->ids,
		.table = run->w[0],
		.images = run->at[FR_SLOT_X],
		.y = run->at[FR_SLOT_Y],
		.rows = run->check->c.m,
	};
	run->dev->ops->embed(run->dev, &a);
}

static struct fr_kv cache_of(const struct fr_check_run *run)
{
	const struct fr_check *ck = run->check;

	return (struct fr_kv){
		.dtype = ck->c.dtype,
		.layers = FR_CHECK_LAYERS,
		.seqs = ck->slots,
		.kv_heads = ck->c.kv_heads,
		.max_pos = ck->max_pos,
		.head_dim = ck->c.head_dim,
		.k = run->at[FR_SLOT_CACHE_K],
		.v = run->at[FR_SLOT_CACHE_V],
	};
}

static void call_rope(const struct fr_check_run *run)
{
	struct fr_kv kv = cache_of(run);
	struct fr_rope a = {
		.q = run->at[FR_SLOT_X],
		.k = run->at[FR_SLOT_K],
		.v = run->at[FR_SLOT_V],
		.cos = run->at[FR_SLOT_COS],
		.sin = run->at[FR_SLOT_SIN],
		.row = run->check->row,
		.rows = run->check->c.m,
		.heads = run->check->c.heads,
		.kv = &kv,
		.layer = FR_CHECK_LAYER,
	};
	run->dev->ops->rope(run->dev, &a);
}

static void call_attn(const struct fr_check_run *run)
{
	const struct fr_check_case *c = &run->check->c;
	struct fr_kv kv = cache_of(run);
	int dense = (c->with & FR_DENSE) != 0;
	struct fr_attn a = {
		.q = run->at[FR_SLOT_X],
		.y = run->at[FR_SLOT_Y],
		.items = c->images,
		.rows = c->m,
		.heads = c->heads,
		.head_dim = c->head_dim,
		.scale = 1.0f / sqrtf((float)c->head_dim),
		.kv = dense ? NULL : &kv,
		.layer = FR_CHECK_LAYER,
		.row = run->check->row,
		.k = run->at[FR_SLOT_K],
		.v = run->at[FR_SLOT_V],
		.kv_rows = dense ? c->kv_len : 0,
		.bias = run->at[FR_SLOT_BIAS],
		.weights = dense ? c->dtype : FR_F32,
		.phase = c->phase,
	};
	run->dev->ops->attn(run->dev, &a);
}

static void call_pick(const struct fr_check_run *run)
{
	const struct fr_check *ck = run->check;
	struct fr_pick a = {
		.logits = run->at[FR_SLOT_X],
		.rows = ck->c.m,
		.vocab = ck->c.n,
		.sampler = &ck->sampler,
		.draw = ck->draw,
		.ids = run->picked,
	};
	run->dev->ops->pick(run->dev, &a);
}

static void call_attn_map(const struct fr_check_run *run)
{
	const struct fr_check_case *c = &run->check->c;
	struct fr_attn_map a = {
		.q = run->at[FR_SLOT_X],
		.q_rows = c->n,
		.rows = c->m,
		.k = run->at[FR_SLOT_K],
		.items = c->images,
		.kv_rows = c->kv_len,
		.heads = c->heads,
		.head_dim = c->head_dim,
		.scale = 1.0f / sqrtf((float)c->head_dim),
		.map = run->at[FR_SLOT_Y],
	};
	run->dev->ops->attn_map(run->dev, &a);
}

static void call_map_bias(const struct fr_check_run *run)
{
	const struct fr_check_case *c = &run->check->c;
	struct fr_map_bias a = {
		.map = run->at[FR_SLOT_X],
		.items = c->images,
		.heads = c->heads,
		.mid = c->k,
		.n = c->n,
		.offset = 1e-6f,
		.w1 = run->at[FR_SLOT_SCALE],
		.b1 = run->at[FR_SLOT_BIAS],
		.w2 = run->at[FR_SLOT_K],
		.b2 = run->at[FR_SLOT_ADD],
		.y = run->at[FR_SLOT_Y],
	};
	run->dev->ops->map_bias(run->dev, &a);
}

static void call_gate(const struct fr_check_run *run)
{
	const struct fr_check_case *c = &run->check->c;
	struct fr_gate a = {
		.gate = c->with & FR_IN_PLACE ? run->at[FR_SLOT_Y] : run->at[FR_SLOT_X],
		.up = run->at[FR_SLOT_ADD],
		.y = run->at[FR_SLOT_Y],
		.rows = c->m,
		.cols = c->n,
		.phase = c->phase,
	};
	run->dev->ops->gate(run->dev, &a);
}

void fr_check_call(const struct fr_check_run *run)
{
	static void (*const call[])(const struct fr_check_run *) = {call_linear,   call_glu,	  call_norm, call_patch,
								    call_embed,	   call_rope,	  call_attn, call_pick,
								    call_attn_map, call_map_bias, call_gate};

	call[run->check->c.op](run);
}

/* Index of the first byte of [from, to) that is not `byte`, or to. */
static size_t first_other(const unsigned char *p, size_t from, size_t to, int byte)
{
	while (from < to && p[from] == byte)
		from++;
	return from;
}

static int check_block(const struct fr_check_slot *s, int slot, const unsigned char *image, struct fr_error *err)
{
	static const char *const names[FR_SLOTS] = {"x", "bias", "scale", "residual", "cos", "sin", "k",
						    "v", "kv.k", "kv.v",  "y",	      "y1",  "y2"};
	size_t head = GUARD + shift_of(slot), tail = head + s->bytes, all = s->bytes + 2 * GUARD, i;

	i = first_other(image, 0, head, guard_byte(s));
	if (i < head)
		return fr_fail(err, FR_E_DEVICE, "%s was written %zu bytes before its start", names[slot], head - i);
	i = first_other(image, tail, all, guard_byte(s));
	if (i < all)
		return fr_fail(err, FR_E_DEVICE, "%s was written %zu bytes after its end", names[slot], i - tail);
	if (!s->out && memcmp(image + head, s->host, s->bytes) != 0)
		return fr_fail(err, FR_E_DEVICE, "%s, an input, was written", names[slot]);
	return 0;
}

int fr_check_collect(struct fr_check_run *run, struct fr_error *err)
{
	unsigned char *image[FR_SLOTS] = {NULL};
	int rc = 0;

	for (int i = 0; i < FR_SLOTS; i++) {
		const struct fr_check_slot *s = &run->check->slot[i];
		const size_t all = s->bytes + 2 * GUARD;

		if (!s->bytes)
			continue;
		image[i] = malloc(all);
		if (image[i])
			run->dev->ops->get(run->dev, image[i], run->block[i], all);
		else
			rc = fr_fail(err, FR_E_MEMORY, "cannot allocate %zu bytes for a kernel case", all);
	}
	if (run->dev->ops->sync(run->dev, rc ? NULL : err) != 0)
		rc = -1;
	for (int i = 0; i < FR_SLOTS; i++) {
		const struct fr_check_slot *s = &run->check->slot[i];

		if (rc == 0 && image[i])
			rc = check_block(s, i, image[i], err);
		if (image[i] && s->out) {
			memmove(image[i], image[i] + GUARD + shift_of(i), s->bytes);
			if (i == FR_SLOT_Y && run->picked)
				memcpy(image[i], run->picked, s->bytes);
			free(run->out[i]);
			run->out[i] = image[i];
		} else {
			free(image[i]);
		}
	}
	return rc;
}
