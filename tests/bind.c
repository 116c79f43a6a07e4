/* The binder: all generations of names find their tensors, and whatever is missing or does not fit is named at once. */
#include "../engine/parts.h"
#include "files.h"
#include "test.h"

struct checkpoint {
	struct fr_source *src;
	struct fr_store *store;
	struct fr_model_desc desc;
};

static int open_checkpoint(const char *dir, struct checkpoint *c, struct fr_error *err)
{
	memset(c, 0, sizeof *c);
	return fr_source_open(dir, &c->src, err) || fr_store_open(c->src, &c->store, err) ||
	       fr_desc_open(&(struct fr_parts){.src = c->src}, &c->desc, err);
}

static void close_checkpoint(struct checkpoint *c)
{
	fr_store_close(c->store);
	fr_source_close(c->src);
}

static int same_shape(const struct fr_tensor *t, int64_t rows, int64_t cols)
{
	return t->data && t->ndim == (cols ? 2 : 1) && t->shape[0] == rows && (!cols || t->shape[1] == cols);
}

/* Fields of the first and last layers against the store, by the names that this checkpoint really has. */
static int spot_check(const struct checkpoint *c, const struct fr_weights *w, const char *vision, const char *text)
{
	const struct fr_vit_desc *v = &c->desc.vit[0];
	const struct fr_text_desc *t = &c->desc.text;
	const struct fr_tensor *q, *down, *patch;
	char name[256];

	snprintf(name, sizeof name, "%sencoder.layers.%d.self_attn.q_proj.weight", vision, v->run - 1);
	q = fr_store_find(c->store, name);
	snprintf(name, sizeof name, "%slayers.%d.mlp.down_proj.weight", text, t->layers - 1);
	down = fr_store_find(c->store, name);
	snprintf(name, sizeof name, "%sembeddings.patch_embedding.weight", vision);
	patch = fr_store_find(c->store, name);
	return q && down && patch && w->vit[0].layer[v->run - 1].q_w.data == q->data &&
	       w->layer[t->layers - 1].down.data == down->data && w->vit[0].patch_w.data == patch->data &&
	       same_shape(&w->vit[0].patch_w, v->dim, 3 * v->patch * v->patch) &&
	       same_shape(&w->vit[0].cls, v->dim, 0) && same_shape(&w->vit[0].pos, 1 + c->desc.n_image, v->dim) &&
	       same_shape(&w->layer[0].k, t->kv_heads * t->head_dim, t->dim) &&
	       same_shape(&w->proj[0].l1_w, c->desc.proj_dim, v->dim) && same_shape(&w->lm_head, t->vocab, t->dim) &&
	       (t->tied ? w->lm_head.data == w->embed.data : w->lm_head.data != w->embed.data);
}

static const struct {
	const char *dir, *origin, *dtype, *vision, *text;
} saved[] = {
	{"old-f32", "hf-llava", "f32", "vision_tower.vision_model.", "language_model.model."},
	{"old-bf16-gqa-shards", "hf-llava", "bf16", "vision_tower.vision_model.", "language_model.model."},
	{"mixed-chat-shards", "hf-llava", "mixed", "vision_tower.vision_model.", "language_model.model."},
	{"new-f16-688", "hf-llava-4.52", "f16", "model.vision_tower.vision_model.", "model.language_model."},
	{"omits-bf16-nonlegacy", "hf-llava-4.52", "bf16", "model.vision_tower.vision_model.", "model.language_model."},
	{"v5-bf16-tied-linear", "hf-llava-4.52", "bf16", "model.vision_tower.", "model.language_model."},
};

static void test_generations(void)
{
	for (size_t i = 0; i < sizeof saved / sizeof *saved; i++) {
		char dir[128], name[128];
		struct checkpoint c;
		struct fr_weights w;
		struct fr_error err = {FR_OK, ""};
		size_t asked;
		int rc;

		snprintf(dir, sizeof dir, "tests/golden/e2e/%s/model", saved[i].dir);
		snprintf(name, sizeof name, "exact/bind: %s", saved[i].dir);
		rc = open_checkpoint(dir, &c, &err) || fr_bind(&c.desc, (struct fr_store *[FR_FROMS]){c.store}, &w, &err);
		if (rc != 0) {
			test_fail(name, "%s", err.text);
			close_checkpoint(&c);
			continue;
		}
		/* cls, patch, pos, pre_ln; 16 to a vision layer; the projector; embed, norm and head; 9 to a decoder
		 * layer */
		asked = (size_t)(5 + 16 * c.desc.vit[0].run + 4 + 2 + !c.desc.text.tied + 9 * c.desc.text.layers);
		CHECK(name,
		      w.used == asked && w.used + w.unused == fr_store_count(c.store) &&
			      !strcmp(w.origin, saved[i].origin) && !strcmp(w.dtype, saved[i].dtype) &&
			      spot_check(&c, &w, saved[i].vision, saved[i].text),
		      "used %zu of %zu asked, unused %zu, %s, %s", w.used, asked, w.unused, w.origin, w.dtype);
		fr_weights_free(&w);
		close_checkpoint(&c);
	}
}

/* ---- edited copies of one checkpoint ---- */
enum edit { DROP, RENAME, TRANSPOSE, RETYPE, SHIFT };

/* Writes the tensors of c into the folder `edited` with the edit done to all names that hold `what`. */
static void write_edited(const struct checkpoint *c, enum edit edit, const char *what, const char *with)
{
	size_t n = 0, count = fr_store_count(c->store);
	struct fr_tensor *table = calloc(count + 1, sizeof *table);
	char(*names)[256] = calloc(count + 1, sizeof *names);
	struct fr_st_writer *w;
	struct fr_error err;
	int rc;

	if (edit == SHIFT) /* one byte in front puts all others on odd addresses */
		table[n++] = (struct fr_tensor){
			.name = "a", .dtype = FR_U8, .ndim = 1, .shape = {1}, .data = "x", .bytes = 1};
	for (size_t i = 0; i < count; i++) {
		const struct fr_tensor *t = fr_store_at(c->store, i);
		const char *at = strstr(t->name, what);

		if (at && edit == DROP)
			continue;
		snprintf(names[n], sizeof *names, "%s", t->name);
		if (at && edit == RENAME)
			snprintf(names[n], sizeof *names, "%.*s%s%s", (int)(at - t->name), t->name, with,
				 at + strlen(what));
		table[n] = *t;
		table[n].name = names[n];
		if (at && edit == TRANSPOSE) {
			table[n].shape[0] = t->shape[1];
			table[n].shape[1] = t->shape[0];
		}
		if (at && edit == RETYPE)
			table[n].dtype = FR_I32;
		n++;
	}
	files_dir("edited");
	rc = fr_st_create(files_path("edited/model.safetensors"), table, n, NULL, &w, &err);
	for (size_t i = 0; i < n && rc == 0; i++)
		rc = fr_st_append(w, table[i].data, table[i].bytes, &err);
	if (rc != 0 || fr_st_close(w, &err) != 0)
		test_fail("exact/bind: the edited copy is written", "%s", err.text);
	free(names);
	free(table);
}

/* Binds the edited copy with c's description. */
static int bind_edited(const struct checkpoint *c, struct fr_source **src, struct fr_store **store,
		       struct fr_weights *w, struct fr_error *err)
{
	*store = NULL;
	*src = NULL;
	err->text[0] = 0;
	return fr_source_open(files_path("edited"), src, err) || fr_store_open(*src, store, err) ||
	       fr_bind(&c->desc, (struct fr_store *[FR_FROMS]){*store}, w, err);
}

#define ALL_HEADS "language_model.lm_head.weight or lm_head.weight is missing, expected [432, 32]"
static const struct {
	const char *what;
	enum edit edit;
	const char *name, *with, *says; /* NULL: it binds */
} edits[] = {
	{"one tensor missing", DROP, "layers.1.self_attn.k_proj.weight", "",
	 "2 of the 62 tensors that config.json asks for are missing or do not fit: "
	 "vision_tower.vision_model.encoder.layers.1.self_attn.k_proj.weight is missing, expected [40, 40]; "
	 "language_model.model.layers.1.self_attn.k_proj.weight is missing, expected [32, 32]"},
	{"lm_head missing, all its names", DROP, "lm_head", "", ALL_HEADS},
	{"a wrong shape, with both and the file", TRANSPOSE, "layers.0.mlp.gate_proj.weight", "",
	 "1 of the 62 tensors that config.json asks for are missing or do not fit: "
	 "language_model.model.layers.0.mlp.gate_proj.weight in model.safetensors: expected [88, 32], got [32, 88]"},
	{"a dtype that is no weight", RETYPE, "language_model.model.norm", "",
	 "language_model.model.norm.weight in model.safetensors: expected f32, f16 or bf16, got i32"},
	{"everything missing", DROP, "", "", "62 of the 62 tensors that config.json asks for are missing"},
	{"another model's names", RENAME, "vision_tower.", "visual.",
	 "vision_tower.vision_model.embeddings.class_embedding or "
	 "model.vision_tower.vision_model.embeddings.class_embedding or "
	 "vision_tower.embeddings.class_embedding or model.vision_tower.embeddings.class_embedding is missing, "
	 "expected [40]"},
	{"a projector of the new generation beside the old", RENAME, "multi_modal_projector.",
	 "model.multi_modal_projector.", NULL},
	{"old names without vision_model", RENAME, "vision_tower.vision_model.", "vision_tower.", NULL},
	{"tensors it does not need", RENAME, "post_layernorm", "another", NULL},
};

static void test_edits(const struct checkpoint *c)
{
	char name[128];

	for (size_t i = 0; i < sizeof edits / sizeof *edits; i++) {
		struct fr_source *src;
		struct fr_store *store;
		struct fr_weights w;
		struct fr_error err;
		int rc;

		write_edited(c, edits[i].edit, edits[i].name, edits[i].with);
		rc = bind_edited(c, &src, &store, &w, &err);
		snprintf(name, sizeof name, "exact/bind %s: %s", edits[i].says ? "refused" : "accepted", edits[i].what);
		if (edits[i].says)
			CHECK(name, rc != 0 && err.code == FR_E_MODEL && strstr(err.text, edits[i].says),
			      "rc %d, \"%s\"", rc, err.text);
		else
			CHECK(name, rc == 0 && w.used == 62, "rc %d, \"%s\"", rc, err.text);
		if (rc == 0)
			fr_weights_free(&w);
		fr_store_close(store);
		fr_source_close(src);
	}
}

static void test_unaligned(const struct checkpoint *c)
{
	const char *embed = "language_model.model.embed_tokens.weight";
	const struct fr_tensor *want = fr_store_find(c->store, embed);
	struct fr_source *src;
	struct fr_store *store;
	struct fr_weights w;
	struct fr_error err;
	int rc;

	write_edited(c, SHIFT, "", "");
	rc = bind_edited(c, &src, &store, &w, &err);
	CHECK("exact/bind: tensors on odd addresses are copied, and counted",
	      rc == 0 && w.n_copies == w.used && w.copied_bytes > 0 && (uintptr_t)w.embed.data % 4 == 0 &&
		      (uintptr_t)fr_store_find(store, embed)->data % 4 != 0 &&
		      !memcmp(w.embed.data, want->data, want->bytes),
	      "rc %d, %zu copies", rc, rc ? 0 : w.n_copies);
	if (rc == 0)
		fr_weights_free(&w);
	fr_store_close(store);
	fr_source_close(src);
}

int main(void)
{
	struct checkpoint c;
	struct fr_error err;

	test_generations();
	if (open_checkpoint("tests/golden/e2e/old-f32/model", &c, &err) != 0) {
		test_fail("exact/bind: the checkpoint to edit opens", "%s", err.text);
	} else {
		test_edits(&c);
		test_unaligned(&c);
	}
	close_checkpoint(&c);
	return test_done();
}
