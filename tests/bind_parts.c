/* The binder on checkpoints of several files: original LLaVA's layout with a CLIP and a DINOv2 of their own, a fusion,
 * and an adapter over a base. */
#include "../engine/positions.h"
#include "../weights/bind.h"
#include "files.h"
#include "parts_file.h"
#include "test.h"

/* Sizes that differ wherever the model lets them. CLIP runs 1 of 2 layers, DINOv2's table is 3 x 3 for a grid of 2 x 2.
 */
static const struct fr_model_desc sizes = {
	.n_branch = 2,
	.vit = {{.role = "clip",
		 .image = 28,
		 .patch = 14,
		 .dim = 8,
		 .heads = 2,
		 .ffn = 12,
		 .layers = 2,
		 .run = 1,
		 .pre_ln = 1},
		{.role = "dino",
		 .image = 28,
		 .patch = 14,
		 .dim = 6,
		 .heads = 3,
		 .ffn = 10,
		 .layers = 2,
		 .run = 2,
		 .patch_bias = 1,
		 .layer_scale = 1,
		 .packed_qkv = 1,
		 .pos_side = 3,
		 .pos_offset = 0.1,
		 .maps = 1}},
	.n_image = 4,
	.proj_dim = 18,
	.proj_bias = 1,
	.fusion = {.heads = 3, .mid = 5, .ffn = 22},
	.text = {.dim = 16, .layers = 2, .heads = 4, .kv_heads = 2, .head_dim = 4, .ffn = 24, .vocab = 9},
};
enum { CLIP_ASKED = 5 + 16, DINO_ASKED = 4 + 14 * 2, PROJ_ASKED = 4, FUSION_ASKED = 20, TEXT_ASKED = 3 + 9 * 2 };
enum { MERGED_ASKED = CLIP_ASKED + DINO_ASKED + 2 * PROJ_ASKED + FUSION_ASKED + TEXT_ASKED };

enum { ADAPTED = 1 << FR_LORA_Q | 1 << FR_LORA_V | 1 << FR_LORA_DOWN, ALL = (1 << FR_LORAS) - 1, RANK = 2 };

static const char *const file_names[FR_FROMS] = {"model.safetensors", "clip.safetensors", "dino.safetensors",
						 "trained.safetensors", "adapter.safetensors"};

static struct parts_item *item(struct parts_list *f, enum fr_from from, const char *name)
{
	for (int i = 0; i < f->n; i++)
		if (f->at[i].from == from && strcmp(f->at[i].name, name) == 0)
			return &f->at[i];
	fprintf(stderr, "the test asks for %s, which it has not made\n", name);
	exit(1);
}

/* The items of one store into its file: every number is another, over all files. */
static int write_file(const struct parts_list *f, enum fr_from from, int odd, uint32_t *count, struct fr_error *err)
{
	struct fr_tensor table[512];
	struct fr_st_writer *w;
	size_t n = 0, made = 0;
	void *data[512];
	int rc;

	if (odd) /* one byte in front puts all tensors on odd addresses */
		table[n++] = (struct fr_tensor){
			.name = "a", .dtype = FR_U8, .ndim = 1, .shape = {1}, .data = "x", .bytes = 1};
	for (int i = 0; i < f->n; i++) {
		const struct parts_item *t = &f->at[i];
		struct fr_tensor *to = &table[n];
		size_t items;

		if (t->from != from)
			continue;
		*to = (struct fr_tensor){.name = t->name, .dtype = t->dtype, .ndim = t->ndim};
		memcpy(to->shape, t->shape, sizeof t->shape);
		items = fr_tensor_items(to);
		to->bytes = items * (size_t)fr_dtypes[t->dtype].bytes;
		to->data = data[made++] = calloc(to->bytes + 1, 1);
		for (size_t k = 0; k < items; k++) {
			float v = (float)++*count / 64;
			uint16_t h = fr_f32_f16(v);

			if (t->dtype == FR_F32 || t->dtype == FR_F16)
				memcpy((char *)data[made - 1] + k * (size_t)fr_dtypes[t->dtype].bytes,
				       t->dtype == FR_F32 ? (void *)&v : (void *)&h, (size_t)fr_dtypes[t->dtype].bytes);
		}
		n++;
	}
	rc = fr_st_create(files_path(file_names[from]), table, n, NULL, &w, err);
	for (size_t i = 0; i < n && rc == 0; i++)
		rc = fr_st_append(w, table[i].data, table[i].bytes, err);
	if (rc == 0)
		rc = fr_st_close(w, err);
	while (made)
		free(data[--made]);
	return rc;
}

struct bound {
	struct fr_store *from[FR_FROMS];
	struct fr_weights w;
	struct fr_error err;
	int rc;
};

/* Writes the files, opens a store over each that holds something, and binds. */
static struct bound *bind_files(const struct parts_list *f, const struct fr_model_desc *desc, int odd)
{
	static struct bound b;
	uint32_t count = 0;

	memset(&b, 0, sizeof b);
	for (int from = 0; from < FR_FROMS && b.rc == 0; from++) {
		int n = 0;

		for (int i = 0; i < f->n; i++)
			n += f->at[i].from == (enum fr_from)from;
		if (n)
			b.rc = write_file(f, from, odd, &count, &b.err) ||
			       fr_store_open_file(files_path(file_names[from]), &b.from[from], &b.err);
	}
	if (b.rc == 0)
		b.rc = fr_bind(desc, b.from, &b.w, &b.err);
	return &b;
}

static void unbind(struct bound *b)
{
	if (b->rc == 0)
		fr_weights_free(&b->w);
	for (int i = 0; i < FR_FROMS; i++)
		fr_store_close(b->from[i]);
}

/* Is the field the tensor of that name, with `rows` x `cols` (0: a vector)? */
static int is(const struct bound *b, const struct fr_tensor *field, enum fr_from from, const char *name, int64_t rows,
	      int64_t cols)
{
	const struct fr_tensor *t = fr_store_find(b->from[from], name);
	int shape = field->ndim == (cols ? 2 : 1) && field->shape[0] == rows && (!cols || field->shape[1] == cols);

	if (!t || !shape || !field->data || field->bytes != t->bytes || memcmp(field->data, t->data, t->bytes) != 0)
		fprintf(stderr, "%s is not in its field\n", name);
	return t && shape && field->data && field->bytes == t->bytes && memcmp(field->data, t->data, t->bytes) == 0;
}

/* Is the field this third of the packed tensor's rows? */
static int is_third(const struct bound *b, const struct fr_tensor *field, const char *name, int third)
{
	const struct fr_tensor *t = fr_store_find(b->from[FR_FROM_DINO], name);
	size_t bytes = t->bytes / 3;

	return field->shape[0] == 6 && field->ndim == t->ndim && field->bytes == bytes &&
	       memcmp(field->data, (const char *)t->data + (size_t)third * bytes, bytes) == 0;
}

static int check_towers(const struct bound *b, const char *clip)
{
	const struct fr_vit_weights *c = &b->w.vit[0], *d = &b->w.vit[1];
	char name[8][96];

	snprintf(name[0], 96, "%sembeddings.class_embedding", clip);
	snprintf(name[1], 96, "%sembeddings.patch_embedding.weight", clip);
	snprintf(name[2], 96, "%sembeddings.position_embedding.weight", clip);
	snprintf(name[3], 96, "%spre_layrnorm.bias", clip);
	snprintf(name[4], 96, "%sencoder.layers.0.self_attn.k_proj.weight", clip);
	snprintf(name[5], 96, "%sencoder.layers.0.self_attn.out_proj.bias", clip);
	snprintf(name[6], 96, "%sencoder.layers.0.mlp.fc2.weight", clip);
	return is(b, &c->cls, FR_FROM_TOWER, name[0], 8, 0) && is(b, &c->patch_w, FR_FROM_TOWER, name[1], 8, 588) &&
	       is(b, &c->pos, FR_FROM_TOWER, name[2], 5, 8) && is(b, &c->pre_b, FR_FROM_TOWER, name[3], 8, 0) &&
	       is(b, &c->layer[0].k_w, FR_FROM_TOWER, name[4], 8, 8) &&
	       is(b, &c->layer[0].o_b, FR_FROM_TOWER, name[5], 8, 0) &&
	       is(b, &c->layer[0].fc2_w, FR_FROM_TOWER, name[6], 8, 12) && !c->layer[0].ls1.data && !c->patch_b.data &&
	       is(b, &d->cls, FR_FROM_DINO, "cls_token", 6, 0) &&
	       is(b, &d->patch_w, FR_FROM_DINO, "patch_embed.proj.weight", 6, 588) &&
	       is(b, &d->patch_b, FR_FROM_DINO, "patch_embed.proj.bias", 6, 0) && !d->pre_w.data &&
	       is(b, &d->layer[1].ln1_w, FR_FROM_DINO, "blocks.1.norm1.weight", 6, 0) &&
	       is(b, &d->layer[1].ls1, FR_FROM_DINO, "blocks.1.ls1.gamma", 6, 0) &&
	       is(b, &d->layer[0].ls2, FR_FROM_DINO, "blocks.0.ls2.gamma", 6, 0) &&
	       is(b, &d->layer[1].o_w, FR_FROM_DINO, "blocks.1.attn.proj.weight", 6, 6) &&
	       is(b, &d->layer[1].ln2_b, FR_FROM_DINO, "blocks.1.norm2.bias", 6, 0) &&
	       is(b, &d->layer[1].fc1_w, FR_FROM_DINO, "blocks.1.mlp.fc1.weight", 10, 6) &&
	       is(b, &d->layer[1].fc2_b, FR_FROM_DINO, "blocks.1.mlp.fc2.bias", 6, 0) &&
	       is_third(b, &d->layer[1].q_w, "blocks.1.attn.qkv.weight", 0) &&
	       is_third(b, &d->layer[1].k_w, "blocks.1.attn.qkv.weight", 1) &&
	       is_third(b, &d->layer[1].v_w, "blocks.1.attn.qkv.weight", 2) &&
	       is_third(b, &d->layer[0].q_b, "blocks.0.attn.qkv.bias", 0) &&
	       is_third(b, &d->layer[0].k_b, "blocks.0.attn.qkv.bias", 1) &&
	       is_third(b, &d->layer[0].v_b, "blocks.0.attn.qkv.bias", 2);
}

/* Projectors and fusion from one file, with the prefix that they have there. */
static int check_rest(const struct bound *b, enum fr_from from, const char *prefix)
{
	const struct fr_fusion_weights *f = &b->w.fusion;
	const struct {
		const struct fr_tensor *field;
		const char *name;
		int64_t rows, cols;
	} all[] = {
		{&b->w.proj[0].l1_w, "mm_projector.0.weight", 18, 8},
		{&b->w.proj[0].l1_b, "mm_projector.0.bias", 18, 0},
		{&b->w.proj[0].l2_w, "mm_projector.2.weight", 16, 18},
		{&b->w.proj[0].l2_b, "mm_projector.2.bias", 16, 0},
		{&b->w.proj[1].l1_w, "dino_mm_projector.0.weight", 18, 6},
		{&b->w.proj[1].l1_b, "dino_mm_projector.0.bias", 18, 0},
		{&b->w.proj[1].l2_w, "dino_mm_projector.2.weight", 16, 18},
		{&b->w.proj[1].l2_b, "dino_mm_projector.2.bias", 16, 0},
		{&f->bias1_w, "crossattention.attention_mlp.mlp.0.weight", 5, 3},
		{&f->bias1_b, "crossattention.attention_mlp.mlp.0.bias", 5, 0},
		{&f->bias2_w, "crossattention.attention_mlp.mlp.2.weight", 3, 5},
		{&f->bias2_b, "crossattention.attention_mlp.mlp.2.bias", 3, 0},
		{&f->q_w, "crossattention.mhatt.0.linear_q.weight", 16, 16},
		{&f->q_b, "crossattention.mhatt.0.linear_q.bias", 16, 0},
		{&f->k_w, "crossattention.mhatt.0.linear_k.weight", 16, 16},
		{&f->k_b, "crossattention.mhatt.0.linear_k.bias", 16, 0},
		{&f->v_w, "crossattention.mhatt.0.linear_v.weight", 16, 16},
		{&f->v_b, "crossattention.mhatt.0.linear_v.bias", 16, 0},
		{&f->o_w, "crossattention.mhatt.0.linear_merge.weight", 16, 16},
		{&f->o_b, "crossattention.mhatt.0.linear_merge.bias", 16, 0},
		{&f->fc1_w, "crossattention.ffn.0.mlp.fc.linear.weight", 22, 16},
		{&f->fc1_b, "crossattention.ffn.0.mlp.fc.linear.bias", 22, 0},
		{&f->fc2_w, "crossattention.ffn.0.mlp.linear.weight", 16, 22},
		{&f->fc2_b, "crossattention.ffn.0.mlp.linear.bias", 16, 0},
		{&f->norm1_w, "crossattention.norm.0.a_2", 16, 0},
		{&f->norm1_b, "crossattention.norm.0.b_2", 16, 0},
		{&f->norm2_w, "crossattention.norm.1.a_2", 16, 0},
		{&f->norm2_b, "crossattention.norm.1.b_2", 16, 0},
	};
	int good = 1;

	for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
		char name[128];

		snprintf(name, sizeof name, "%s%s", prefix, all[i].name);
		good &= is(b, all[i].field, from, name, all[i].rows, all[i].cols);
	}
	return good && is(b, &b->w.layer[1].down, FR_FROM_MODEL, "model.layers.1.mlp.down_proj.weight", 16, 24) &&
	       is(b, &b->w.embed, FR_FROM_MODEL, "model.embed_tokens.weight", 9, 16) &&
	       is(b, &b->w.lm_head, FR_FROM_MODEL, "lm_head.weight", 9, 16);
}

/* The resized table against the function itself; it is the only copy, and counted. */
static int check_positions(const struct bound *b, size_t copies)
{
	const struct fr_tensor *t = fr_store_find(b->from[FR_FROM_DINO], "pos_embed"), *pos = &b->w.vit[1].pos;
	float table[60], want[30];

	fr_to_f32(t->dtype, t->data, table, 60);
	fr_positions_resize(table, 3, 6, 2, 0.1, want);
	return pos->dtype == FR_F32 && pos->ndim == 2 && pos->shape[0] == 5 && pos->shape[1] == 6 &&
	       pos->bytes == sizeof want && memcmp(pos->data, want, sizeof want) == 0 && b->w.n_copies == copies &&
	       (copies > 1 || b->w.copied_bytes == sizeof want);
}

static void test_merged(void)
{
	struct parts_list f;
	struct bound *b;

	parts_model(&f, &sizes);
	b = bind_files(&f, &sizes, 0);
	CHECK("exact/bind parts: a merged model, CLIP and DINOv2 from their own files",
	      b->rc == 0 && check_towers(b, "vision_model.") && check_rest(b, FR_FROM_MODEL, "model.") &&
		      b->w.used == MERGED_ASKED && b->w.unused == (size_t)(f.n - MERGED_ASKED) &&
		      strcmp(b->w.origin, "llava") == 0 && strcmp(b->w.dtype, "f32") == 0,
	      "rc %d, used %zu of %d, \"%s\"", b->rc, b->w.used, MERGED_ASKED, b->err.text);
	CHECK("exact/bind parts: the position table is resized once, into a copy that is counted",
	      b->rc == 0 && check_positions(b, 1), "rc %d, %zu copies", b->rc, b->w.n_copies);
	unbind(b);

	parts_clip(&f, FR_FROM_MODEL, "model.vision_tower.vision_tower.vision_model.");
	parts_clip(&f, FR_FROM_MODEL, "model.dino_tower.clip_vision_tower.vision_model.");
	parts_add(&f, FR_FROM_MODEL, "model.dino_tower.vision_tower.", "cls_token", 3, 1, 1, 6, 0);
	parts_add(&f, FR_FROM_MODEL, "model.layers.0.", "self_attn.rotary_emb.inv_freq", 1, 2, 0, 0, 0);
	item(&f, FR_FROM_DINO, "pos_embed")->dtype = FR_F16;
	b = bind_files(&f, &sizes, 0);
	CHECK("exact/bind parts: copies of the towers in the checkpoint are left alone",
	      b->rc == 0 && check_towers(b, "vision_model.") && check_rest(b, FR_FROM_MODEL, "model.") &&
		      b->w.used == MERGED_ASKED && b->w.unused == (size_t)(f.n - MERGED_ASKED),
	      "rc %d, used %zu of %d, \"%s\"", b->rc, b->w.used, MERGED_ASKED, b->err.text);
	CHECK("exact/bind parts: a position table in f16 is resized in float32", b->rc == 0 && check_positions(b, 1),
	      "rc %d, %zu copies", b->rc, b->w.n_copies);
	unbind(b);
}

/* The same model in forms that differ a little. */
static void test_forms(void)
{
	struct fr_model_desc desc = sizes;
	struct parts_list f;
	struct bound *b;

	parts_model(&f, &sizes);
	for (int i = 0; i < f.n; i++)
		if (f.at[i].from == FR_FROM_TOWER && strncmp(f.at[i].name, "vision_model.", 13) == 0)
			memmove(f.at[i].name, f.at[i].name + 13, strlen(f.at[i].name) - 12);
	b = bind_files(&f, &sizes, 0);
	CHECK("exact/bind parts: a CLIP without the level vision_model", b->rc == 0 && check_towers(b, ""),
	      "rc %d, \"%s\"", b->rc, b->err.text);
	unbind(b);

	parts_model(&f, &sizes);
	item(&f, FR_FROM_DINO, "pos_embed")->shape[1] = 5;
	desc.vit[1].pos_side = 2;
	b = bind_files(&f, &desc, 0);
	CHECK("exact/bind parts: a position table of the grid itself is used where it lies",
	      b->rc == 0 && b->w.n_copies == 0 && is(b, &b->w.vit[1].pos, FR_FROM_DINO, "pos_embed", 5, 6),
	      "rc %d, %zu copies, \"%s\"", b->rc, b->w.n_copies, b->err.text);
	unbind(b);

	parts_model(&f, &sizes);
	b = bind_files(&f, &sizes, 1);
	/* all but the resized table, which is in order, and two more for each packed tensor */
	CHECK("exact/bind parts: on odd addresses the thirds of a packed tensor are copied",
	      b->rc == 0 && check_towers(b, "vision_model.") && b->w.n_copies == MERGED_ASKED + 1 + 2 * 4 &&
		      check_positions(b, b->w.n_copies),
	      "rc %d, %zu copies, %d expected, \"%s\"", b->rc, b->w.n_copies, MERGED_ASKED + 1 + 2 * 4, b->err.text);
	unbind(b);
}

static struct fr_model_desc adapted_sizes(unsigned which)
{
	struct fr_model_desc desc = sizes;

	desc.text.lora_rank = RANK;
	desc.text.lora = which;
	return desc;
}

static int check_adapter(const struct bound *b, unsigned which)
{
	int64_t out, in;
	int good = 1;

	for (int l = 0; l < 2; l++)
		for (int i = 0; i < FR_LORAS; i++) {
			const struct fr_lora_weights *w = &b->w.layer[l].lora[i];
			const char *matrix = parts_matrix(&sizes.text, i, &out, &in);
			char name[2][128];

			if (!(which >> i & 1)) {
				good &= !w->a.data && !w->b.data;
				continue;
			}
			for (int k = 0; k < 2; k++)
				snprintf(name[k], sizeof *name, PARTS_TUNED "layers.%d.%s.lora_%c.weight", l, matrix,
					 "AB"[k]);
			good &= is(b, &w->a, FR_FROM_ADAPTER, name[0], RANK, in) &&
				is(b, &w->b, FR_FROM_ADAPTER, name[1], out, RANK);
		}
	return good;
}

static void test_adapted(const char *name, unsigned which, size_t matrices_adapted)
{
	const struct fr_model_desc desc = adapted_sizes(which);
	const size_t asked = MERGED_ASKED + 2 * 2 * matrices_adapted;
	struct parts_list f;
	struct bound *b;

	parts_model(&f, &desc);
	b = bind_files(&f, &desc, 0);
	CHECK(name,
	      b->rc == 0 && check_towers(b, "vision_model.") &&
		      check_rest(b, FR_FROM_TRAINED, "base_model.model.model.") && check_adapter(b, which) &&
		      b->w.used == asked && b->w.unused == (size_t)f.n - asked,
	      "rc %d, used %zu of %zu, \"%s\"", b->rc, b->w.used, asked, b->err.text);
	unbind(b);
}

/* What a description reads its sizes from. */
static void test_roles(void)
{
	const struct fr_model_desc desc = adapted_sizes(ADAPTED);
	struct parts_list f;
	struct bound *b;

	parts_model(&f, &desc);
	b = bind_files(&f, &desc, 0);
	if (b->rc == 0) {
		const struct fr_tensor *pos = fr_role_find(b->from, "dino", "vit.pos", 0);
		const struct fr_tensor *fc1 = fr_role_find(b->from, "clip", "vit.layer.fc1.w", 1);
		const struct fr_tensor *p = fr_role_find(b->from, "clip", "projector.1.w", 0);
		const struct fr_tensor *bias = fr_role_find(b->from, NULL, "fusion.bias1.w", 0);
		const struct fr_tensor *a = fr_role_find(b->from, NULL, "text.layer.q.lora_a", 1);

		CHECK("exact/bind parts: tensors by their roles",
		      pos && pos->shape[1] == 10 && fc1 && fc1->shape[0] == 12 && p &&
			      strcmp(p->name, "base_model.model.model.mm_projector.0.weight") == 0 && bias &&
			      bias->shape[0] == 5 && a && a->shape[0] == RANK &&
			      !fr_role_find(b->from, NULL, "text.layer.k.lora_a", 0) &&
			      !fr_role_find(b->from, "vision", "vit.pos", 0) &&
			      !fr_role_find(b->from, NULL, "no.role", 0),
		      "a role has another tensor");
		CHECK("exact/bind parts: layers counted",
		      fr_role_layers(b->from, "clip", "vit.layer.ln1.w") == 2 &&
			      fr_role_layers(b->from, "dino", "vit.layer.qkv.w") == 2 &&
			      fr_role_layers(b->from, NULL, "text.layer.norm1") == 2 &&
			      fr_role_layers(b->from, "vision", "vit.layer.ln1.w") == 0,
		      "another number");
	} else {
		test_fail("exact/bind parts: tensors by their roles", "%s", b->err.text);
	}
	unbind(b);

	*item(&f, FR_FROM_DINO, "blocks.0.norm1.weight") = f.at[--f.n];
	*item(&f, FR_FROM_DINO, "blocks.1.norm1.weight") = f.at[--f.n];
	b = bind_files(&f, &desc, 0);
	CHECK("exact/bind parts: a layer that lacks a tensor is counted, and the tensor is missing",
	      fr_role_layers(b->from, "dino", "vit.layer.ln1.w") == 2 && b->rc != 0 &&
		      strstr(b->err.text, "blocks.1.norm1.weight is missing from dino.safetensors"),
	      "%d layers, rc %d, \"%s\"", fr_role_layers(b->from, "dino", "vit.layer.ln1.w"), b->rc, b->err.text);
	unbind(b);
}

/* ---- what is refused ---- */
enum change { DROP, SHAPE, ADD };
#define LORA PARTS_TUNED "layers."
#define TRAINED PARTS_TUNED
/* clang-format off */
static const struct {
	const char *what;
	int adapter; /* over a base, else merged */
	enum fr_from from;
	enum change change;
	const char *name;
	int64_t shape[4];
	const char *says;
} changes[] = {
	{"CLIP: a tensor missing", 0, FR_FROM_TOWER, DROP, "vision_model.encoder.layers.0.layer_norm2.bias", {0},
	 "1 of the 102 tensors that config.json asks for are missing or do not fit: "
	 "vision_model.encoder.layers.0.layer_norm2.bias is missing from clip.safetensors, expected [8]"},
	{"CLIP: other sizes", 0, FR_FROM_TOWER, SHAPE, "vision_model.embeddings.position_embedding.weight", {17, 8},
	 "vision_model.embeddings.position_embedding.weight in clip.safetensors: expected [5, 8], got [17, 8]"},
	{"a projector for another CLIP", 0, FR_FROM_MODEL, SHAPE, "model.mm_projector.0.weight", {18, 12},
	 "model.mm_projector.0.weight in model.safetensors: expected [18, 8], got [18, 12]"},
	{"a projector for another DINOv2", 0, FR_FROM_MODEL, SHAPE, "model.dino_mm_projector.0.weight", {18, 8},
	 "model.dino_mm_projector.0.weight in model.safetensors: expected [18, 6], got [18, 8]"},
	{"DINOv2: a tensor missing", 0, FR_FROM_DINO, DROP, "blocks.1.ls2.gamma", {0},
	 "blocks.1.ls2.gamma is missing from dino.safetensors, expected [6]"},
	{"DINOv2: a packed matrix of two thirds", 0, FR_FROM_DINO, SHAPE, "blocks.0.attn.qkv.weight", {12, 6},
	 "blocks.0.attn.qkv.weight in dino.safetensors: expected [18, 6], got [12, 6]"},
	{"DINOv2: a position table that is no square", 0, FR_FROM_DINO, SHAPE, "pos_embed", {1, 11, 6},
	 "pos_embed in dino.safetensors: expected [10, 6], got [1, 11, 6]"},
	{"DINOv2: a leading dimension that is not 1", 0, FR_FROM_DINO, SHAPE, "cls_token", {2, 1, 6},
	 "cls_token in dino.safetensors: expected [6], got [2, 1, 6]"},
	{"DINOv2: one with registers", 0, FR_FROM_DINO, ADD, "register_tokens", {1, 4, 6},
	 "register_tokens in dino.safetensors: expected none, got [1, 4, 6]"},
	{"a projector missing", 0, FR_FROM_MODEL, DROP, "model.dino_mm_projector.2.bias", {0},
	 "model.dino_mm_projector.2.bias is missing, expected [16]"},
	{"fusion: a tensor missing", 0, FR_FROM_MODEL, DROP, "model.crossattention.norm.1.a_2", {0},
	 "model.crossattention.norm.1.a_2 is missing, expected [16]"},
	{"fusion: a bias for another number of heads", 0, FR_FROM_MODEL, SHAPE,
	 "model.crossattention.attention_mlp.mlp.0.weight", {5, 4, 1, 1},
	 "expected [5, 3, 1, 1], got [5, 4, 1, 1]"},
	{"fusion: a convolution that is wider than a point", 0, FR_FROM_MODEL, SHAPE,
	 "model.crossattention.attention_mlp.mlp.2.weight", {3, 5, 3, 3},
	 "expected [3, 5, 1, 1], got [3, 5, 3, 3]"},
	{"fusion: another width", 0, FR_FROM_MODEL, SHAPE, "model.crossattention.mhatt.0.linear_merge.weight", {16, 20},
	 "model.crossattention.mhatt.0.linear_merge.weight in model.safetensors: expected [16, 16], got [16, 20]"},
	{"fusion: another inner width", 0, FR_FROM_MODEL, SHAPE, "model.crossattention.ffn.0.mlp.fc.linear.bias", {20},
	 "expected [22], got [20]"},
	{"decoder: a tensor missing", 0, FR_FROM_MODEL, DROP, "model.layers.1.self_attn.v_proj.weight", {0},
	 "model.layers.1.self_attn.v_proj.weight is missing, expected [8, 16]"},
	{"head missing", 0, FR_FROM_MODEL, DROP, "lm_head.weight", {0},
	 "lm_head.weight is missing, expected [9, 16]"},
	{"adapter: a thin matrix missing", 1, FR_FROM_ADAPTER, DROP, LORA "1.mlp.down_proj.lora_B.weight", {0},
	 LORA "1.mlp.down_proj.lora_B.weight is missing from adapter.safetensors, expected [16, 2]"},
	{"adapter: for a base of another width", 1, FR_FROM_ADAPTER, SHAPE,
	 LORA "0.self_attn.q_proj.lora_A.weight", {2, 20},
	 "do not fit (is this the base that the adapter was trained on?): " LORA
	 "0.self_attn.q_proj.lora_A.weight in adapter.safetensors: expected [2, 16], got [2, 20]"},
	{"adapter: a base of another width", 1, FR_FROM_MODEL, SHAPE,
	 "model.layers.0.self_attn.q_proj.weight", {20, 20},
	 "do not fit (is this the base that the adapter was trained on?): model.layers.0.self_attn.q_proj.weight "
	 "in model.safetensors: expected [16, 16], got [20, 20]"},
	{"adapter: another rank in one matrix", 1, FR_FROM_ADAPTER, SHAPE,
	 LORA "0.self_attn.v_proj.lora_B.weight", {8, 4},
	 "expected [8, 2], got [8, 4]"},
	{"adapter: trained projectors are not filled up from the base", 1, FR_FROM_TRAINED, DROP,
	 TRAINED "mm_projector.2.weight", {0},
	 TRAINED "mm_projector.2.weight is missing from trained.safetensors, expected [16, 18]"},
	{"adapter: a matrix that has none by its configuration", 1, FR_FROM_ADAPTER, ADD,
	 LORA "0.self_attn.k_proj.lora_A.weight", {2, 16},
	 "adapter.safetensors: 1 of its 13 tensors have no place in this model, and leaving them out would "
	 "change its answers: " LORA "0.self_attn.k_proj.lora_A.weight"},
	{"adapter: a layer that the base has not", 1, FR_FROM_ADAPTER, ADD,
	 LORA "2.self_attn.q_proj.lora_A.weight", {2, 16},
	 LORA "2.self_attn.q_proj.lora_A.weight"},
	{"adapter: a magnitude of DoRA", 1, FR_FROM_ADAPTER, ADD, LORA "0.self_attn.q_proj.lora_magnitude_vector", {16},
	 LORA "0.self_attn.q_proj.lora_magnitude_vector"},
	{"adapter: a bias", 1, FR_FROM_ADAPTER, ADD, LORA "0.self_attn.q_proj.bias", {16},
	 LORA "0.self_attn.q_proj.bias"},
	{"adapter: an embedding table", 1, FR_FROM_ADAPTER, ADD, TRAINED "embed_tokens.lora_embedding_A", {2, 9},
	 TRAINED "embed_tokens.lora_embedding_A"},
	{"adapter: trained besides, without a place", 1, FR_FROM_TRAINED, ADD, TRAINED "embed_tokens.weight", {9, 16},
	 "trained.safetensors: 1 of its 29 tensors have no place in this model"},
};
/* clang-format on */

static void test_changes(void)
{
	for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
		const struct fr_model_desc desc = changes[i].adapter ? adapted_sizes(ADAPTED) : sizes;
		int64_t shape[4];
		char name[160];
		struct parts_list f;
		struct parts_item *t;
		struct bound *b;

		memcpy(shape, changes[i].shape, sizeof shape);
		parts_model(&f, &desc);
		if (changes[i].change == ADD)
			t = parts_add(&f, changes[i].from, "", changes[i].name, 4, 0, 0, 0, 0);
		else
			t = item(&f, changes[i].from, changes[i].name);
		if (changes[i].change == DROP) {
			*t = f.at[--f.n];
		} else {
			memcpy(t->shape, shape, sizeof shape);
			for (t->ndim = 0; t->ndim < 4 && shape[t->ndim]; t->ndim++)
				;
		}
		b = bind_files(&f, &desc, 0);
		snprintf(name, sizeof name, "exact/bind parts refused: %s", changes[i].what);
		CHECK(name, b->rc != 0 && b->err.code == FR_E_MODEL && strstr(b->err.text, changes[i].says),
		      "rc %d, \"%s\"", b->rc, b->err.text);
		unbind(b);
	}
}

/* A file of something else: the first tensors asked for are named with the file. */
static void test_wrong_file(void)
{
	struct parts_list f;
	struct bound *b;

	parts_model(&f, &sizes);
	for (int i = 0; i < f.n; i++)
		if (f.at[i].from == FR_FROM_DINO)
			memcpy(f.at[i].name, "x_", 2);
	b = bind_files(&f, &sizes, 0);
	CHECK("exact/bind parts refused: a file that is no DINOv2",
	      b->rc != 0 &&
		      strstr(b->err.text, "32 of the 102 tensors that config.json asks for are missing or do not fit: "
					  "cls_token is missing from dino.safetensors, expected [6]; "),
	      "rc %d, \"%s\"", b->rc, b->err.text);
	unbind(b);
}

int main(void)
{
	test_merged();
	test_forms();
	test_adapted("exact/bind parts: an adapter over its base; the trained projectors go before the base's", ADAPTED,
		     3);
	test_adapted("exact/bind parts: an adapter of all matrices", ALL, FR_LORAS);
	test_roles();
	test_changes();
	test_wrong_file();
	return test_done();
}
