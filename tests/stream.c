/* Weights that come and go: which layers stay in how much memory, that giving pages up changes neither files nor other
 * memory, and that results have the same bits with every layer, some and none coming and going. */
#include "cases.h"
#include "repeat.h"

#include "../engine/stream.h"
#include "files.h"

/* ---- which layers stay ---- */

#define LAYERS 5

/* Layers of 100 bytes, the third of 300; 60 bytes of head, `vision` bytes for images. */
static int stay(size_t vision, size_t room)
{
	static struct fr_text_layer_weights layer[LAYERS];
	static struct fr_vit_layer_weights vit;
	const struct fr_model_desc d = {.n_branch = 1, .vit = {{.run = 1}}, .text = {.layers = LAYERS}};
	struct fr_weights w = {.layer = layer, .vit = {{.layer = &vit}}, .lm_head = {.data = "", .bytes = 60}};

	for (int i = 0; i < LAYERS; i++) {
		layer[i].norm1 = (struct fr_tensor){.data = "", .bytes = 10};
		layer[i].lora[FR_LORA_DOWN].b = (struct fr_tensor){.data = "", .bytes = i == 2 ? 290 : 90};
	}
	w.proj[0].l2_b = (struct fr_tensor){.data = "", .bytes = 1};
	vit.ls2 = (struct fr_tensor){.data = "", .bytes = vision - 1};
	return fr_layers_that_stay(&d, &w, room);
}

static void test_stay(void)
{
	/* all: 60 + 700 + vision. Else 60 and the larger of two times 300 and vision come first. */
	CHECK("exact/stream/all-stay", stay(50, 810) == LAYERS && stay(50, 1 << 20) == LAYERS, "%d", stay(50, 810));
	CHECK("exact/stream/one-byte-less", stay(50, 809) == 1, "%d", stay(50, 809));
	CHECK("exact/stream/large-layer",
	      stay(3000, 3060 + 200) == 2 && stay(3000, 3060 + 499) == 2 && stay(3000, 3060 + 500) == 3 &&
		      stay(3000, 3060 + 699) == 4,
	      "%d %d %d %d", stay(3000, 3260), stay(3000, 3559), stay(3000, 3560), stay(3000, 3759));
	CHECK("exact/stream/nothing-stays", stay(50, 0) == 0 && stay(50, 759) == 0, "%d", stay(50, 759));
}

/* ---- giving pages up ---- */

#define SIZE (1 << 20)

static void test_drop(void)
{
	unsigned char *heap = malloc(SIZE);
	struct fr_error err;
	const uint8_t *map;
	size_t size;

	for (size_t i = 0; i < SIZE; i++)
		heap[i] = (unsigned char)(i * 2654435761u >> 24);
	if (fr_map_open(files_put("bytes", heap, SIZE), &map, &size, &err)) {
		test_fail("exact/stream/drop", "%s", err.text);
		return;
	}
	fr_map_drop(map + 5000, SIZE - 9000);
	fr_map_drop(map, 10);
	fr_map_fetch(map + 5000, SIZE - 9000);
	CHECK("exact/stream/drop/file", memcmp(map, heap, SIZE) == 0, "the mapping changed");
	fr_map_drop(heap, SIZE);
	CHECK("exact/stream/drop/other-memory", memcmp(map, heap, SIZE) == 0, "memory that is no mapping was emptied");
	fr_map_drop(map, SIZE + 8192); /* beyond the end */
	CHECK("exact/stream/drop/beyond", memcmp(map, heap, SIZE) == 0, "changed");
	fr_map_close(map, size);
	free(heap);
}

/* ---- results ---- */

static int staying;

static void prepare(struct fr_session *s)
{
	struct fr_error err;

	if (fr_stream_open(&s->model->desc, &s->model->weights, staying, &s->stream, &err))
		test_fail("exact/stream/open", "%s", err.text);
}

#define PASSES 6

/* A picture's prefill and steps of one token; with `settles` other layers stay in each pass. logits [PASSES, vocab]. */
static int trace(const struct fr_model *m, const struct feed *f, int settles, float *logits, struct fr_error *err)
{
	const struct fr_session_opts o = {.backend = "cpu", .threads = 2, .max_tokens = 16, .sampler = {.top_p = 1}};
	const int vocab = m->desc.text.vocab, layers = m->desc.text.layers;
	struct fr_session *s;
	int rc;

	FR_TRY(fr_session_new(m, &o, &s, err));
	if (settles)
		prepare(s);
	const struct fr_picture *pic = fr_intake_at(s->intake, 0);
	fr_picture_read(fr_intake_at(s->intake, 0), &m->desc.image, s->o.max_pixels, f->bytes[0], f->size[0]);
	const struct fr_part part = {.to = s->question->n};
	const struct fr_prefill p = {.part = &part, .n = 1, .n_logits = 1};
	rc = fr_session_see(s, &pic, 1, err);
	for (int i = 0; i < PASSES && rc == 0; i++) {
		if (settles)
			fr_stream_settle(s->stream, (2 * i + 1) % (layers + 1));
		if (i > 0) {
			s->ids[0] = s->picked[0];
			s->row[0] = (struct fr_row){.seq = 0, .pos = s->question->n + i - 1};
		}
		rc = i ? fr_session_step(s, 1, err) : fr_session_prefill(s, &p, err);
		if (rc == 0)
			rc = fr_session_logits(s, 0, 1, logits + (size_t)i * (size_t)vocab, err);
	}
	fr_session_free(s);
	return rc;
}

static void check_settling(const char *name, const struct fr_model *m, const struct feed *f)
{
	const size_t n = PASSES * (size_t)m->desc.text.vocab;
	float *plain = calloc(2 * n, sizeof *plain);
	char label[96];
	struct fr_error err = {FR_E_MEMORY, "no memory"};

	snprintf(label, sizeof label, "exact/stream/%s/ever-others-stay", name);
	staying = 0;
	if (!plain || trace(m, f, 0, plain, &err) || trace(m, f, 1, plain + n, &err))
		test_fail(label, "%s", err.text);
	else
		CHECK(label, memcmp(plain, plain + n, n * sizeof *plain) == 0 && plain[0] != plain[n - 1],
		      "other logits");
	free(plain);
}

static void run_model(const char *name, struct feed *f)
{
	struct fr_session_opts o = {.backend = "cpu", .threads = 2, .batch = 2, .sampler = {.top_p = 1}};
	struct one want[IMAGES];
	struct fr_model *model;
	struct fr_error err;
	char label[96];

	if (case_load(name, &model, &err)) {
		test_fail(name, "%s", err.text);
		return;
	}
	f->prepare = NULL;
	if (judge(model, o, NULL, f, &err)) {
		test_fail("exact/stream/plain", "%s", err.text);
	} else {
		memcpy(want, f->out, sizeof want);
		f->prepare = prepare;
		for (staying = 0; staying <= model->desc.text.layers; staying++) {
			snprintf(label, sizeof label, "exact/stream/%s/%d-stay", name, staying);
			compare(model, label, o, NULL, f, want);
		}
		check_settling(name, model, f);
	}
	fr_model_free(model);
}

int main(void)
{
	static struct feed f;

	test_stay();
	test_drop();
	if (open_pictures(&f))
		return test_done();
	run_model("old-bf16-gqa-shards", &f);
	run_model("fr-lora-safetensors", &f); /* two encoders, a fusion, adapters; files of both kinds */
	return test_done();
}
