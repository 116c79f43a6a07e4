/* The known answer of the whole way, image bytes to text, with the demo model on a picture made here.
 *
 * The kernel answers (selftest.c) say that the arithmetic is right; this one says that decoder, resize, tokenizer,
 * forward pass and detokeniser together are. It changes with the weights of the demo model and says so by its hash. A
 * level whose last bits are its own must agree on the text and the verdict, with --precise and a float32 cache. */
#include "session.h"

#include <stdlib.h>

#define W 300
#define H 224

static const struct {
	const char *model; /* the demo model's hash, its first 16 digits */
	struct {
		uint32_t real, fake; /* bits of the two logits */
	} logits[FR_SELFTEST_OWN];
	uint64_t text; /* FNV-1a of the text */
} known = {"33261ad6945ae97c",
	   {{0x40a38346u, 0x41459557u}, {0x40a3636cu, 0x414597a6u}, {0x40a395d1u, 0x41459942u}},
	   0x39f399cbb3e22be3u};

/* A PPM file: a slope of colour with a coarse check over it. Owned by the caller; NULL without memory. */
static uint8_t *picture(size_t *size)
{
	static const char head[] = "P6\n300 224\n255\n";
	const size_t n = sizeof head - 1;
	uint8_t *file = malloc(n + 3 * W * H), *p;

	if (!file)
		return NULL;
	memcpy(file, head, n);
	p = file + n;
	for (int y = 0; y < H; y++)
		for (int x = 0; x < W; x++) {
			int check = (x / 12 + y / 12) % 2 ? 24 : 0;
			*p++ = (uint8_t)(x * 200 / W + check);
			*p++ = (uint8_t)(y * 200 / H + check);
			*p++ = (uint8_t)((x + y) * 200 / (W + H) + check);
		}
	*size = n + 3 * W * H;
	return file;
}

static uint64_t hash_text(const char *text)
{
	uint64_t h = 0xcbf29ce484222325u;

	for (; *text; text++)
		h = (h ^ (unsigned char)*text) * 0x100000001b3u;
	return h;
}

/* 0 as known, 1 other numbers (said to out), -1 an error. */
static int judge(const struct fr_model *m, const struct fr_selftest_level *level, FILE *out, struct fr_error *err)
{
	const int own_bits = level->bits == FR_SELFTEST_OWN, column = own_bits ? FR_SELFTEST_FLOAT32 : (int)level->bits;
	const uint32_t want_real = known.logits[column].real, want_fake = known.logits[column].fake;
	const struct fr_session_opts opts = {.backend = level->backend,
					     .isa = level->isa,
					     .max_tokens = 64,
					     .precise = own_bits,
					     .kv_f32 = own_bits};
	struct fr_session *s;
	struct fr_result r;
	size_t size = 0;
	char *text = NULL;
	uint8_t *image;
	int rc;

	FR_TRY(fr_session_new(m, &opts, &s, err));
	image = picture(&size);
	rc = image ? fr_judge_one(s, image, size, &r, &text, err)
		   : fr_fail(err, FR_E_MEMORY, "no memory for a picture");
	if (rc == 0) {
		const uint32_t real = fr_f32_bits(r.logit_real), fake = fr_f32_bits(r.logit_fake);
		const int agree = own_bits ? r.logit_fake > r.logit_real : real == want_real && fake == want_fake;

		rc = !agree || hash_text(text) != known.text;
		if (rc)
			fprintf(out, "FAIL demo/%s: logits %08x %08x, text %016llx, expected %08x %08x, %016llx\n",
				level->name, real, fake, (unsigned long long)hash_text(text), want_real, want_fake,
				(unsigned long long)known.text);
		else
			fprintf(out, "ok demo/%s\n", level->name);
	}
	free(text);
	free(image);
	fr_session_free(s);
	return rc;
}

int fr_selftest_demo(const struct fr_selftest_level *levels, size_t n, FILE *out)
{
	struct fr_error err;
	struct fr_model *m;
	int failed = 0;

	if (fr_model_load(&(struct fr_model_opts){.path = "demo"}, &m, &err)) {
		fprintf(out, "FAIL demo: %s\n", err.text);
		return 1;
	}
	if (strncmp(fr_model_hash(m), known.model, strlen(known.model)) != 0) {
		fprintf(out, "FAIL demo: the model's hash is %.16s, the known answer is of %s\n", fr_model_hash(m),
			known.model);
		fr_model_free(m);
		return 1;
	}
	for (size_t i = 0; i < n; i++) {
		int rc = levels[i].kernels_alone ? 0 : judge(m, &levels[i], out, &err);
		if (rc < 0 && err.code == FR_E_DEVICE)
			fprintf(out, "skip demo/%s: %s\n", levels[i].name, err.text);
		else if (rc < 0)
			fprintf(out, "FAIL demo/%s: %s\n", levels[i].name, err.text);
		failed += rc > 0 || (rc < 0 && err.code != FR_E_DEVICE);
	}
	fr_model_free(m);
	return failed;
}
