/* Maps as files: the letters of their captions; that a map is a whole PNG with its texts, the same every time; that
 * hostile sizes and pictures are drawn or refused; and that each picture of a batch gets its own. */
#include "../engine/lettering.h"
#include "../engine/session.h"
#include "test.h"

/* ---- letters ---- */

static void draw_letter(char ch, uint8_t rgb[3 * 40 * 40])
{
	struct fr_canvas c = {40, 40, rgb};

	memset(rgb, 255, 3 * 40 * 40);
	fr_lettering_draw(&c, &(struct fr_lettering){.cap = 20, .pen = 2}, 8, 28, &ch, 1);
}

static void check_letters(void)
{
	static uint8_t drawn[256][3 * 40 * 40];
	int blank = 0, alike = 0, touching = 0, foreign = 0;

	for (int ch = 0; ch < 256; ch++)
		draw_letter((char)ch, drawn[ch]);
	for (int ch = 0; ch < 256; ch++) {
		int ink = 0;
		for (int i = 0; i < 40 * 40; i++) {
			ink += drawn[ch][3 * i] < 128;
			touching += drawn[ch][3 * i] < 255 && (i % 40 < 5 || i / 40 < 5 || i / 40 > 36);
		}
		blank += !ink && ch != ' ';
		if (ch < ' ' || ch > '~')
			foreign += memcmp(drawn[ch], drawn['?'], sizeof *drawn) != 0;
		for (int other = ' '; other < ch && ch <= '~'; other++)
			alike += memcmp(drawn[ch], drawn[other], sizeof *drawn) == 0;
	}
	/* l and | and I are strokes of their own heights; comma and semicolon share one */
	CHECK("exact/lettering/every letter is drawn, inside its box, unlike the others",
	      !blank && !touching && alike <= 1, "%d blank, %d pixels outside, %d pairs alike", blank, touching, alike);
	CHECK("exact/lettering/other bytes are question marks", !foreign, "%d are not", foreign);
}

/* ---- files ---- */

static uint32_t crc_of(const uint8_t *at, size_t n)
{
	uint32_t c = ~0u;

	for (size_t i = 0; i < 8 * n; i++) {
		const uint32_t bit = (at[i / 8] >> (i % 8) ^ c) & 1;
		c = c >> 1 ^ (bit ? 0xedb88320u : 0);
	}
	return ~c;
}

static uint32_t word(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* The chunks of a PNG from end to end, each with its checksum; how many are tEXt, with one saying key NUL value. */
static int walk_png(const uint8_t *png, size_t size, const char *key, const char *value, int *found)
{
	size_t at = 8;
	int texts = 0;

	*found = 0;
	while (at + 12 <= size) {
		const uint32_t n = word(png + at);
		if (n > size - at - 12 || word(png + at + 8 + n) != crc_of(png + at + 4, 4 + n))
			return -1;
		if (memcmp(png + at + 4, "tEXt", 4) == 0) {
			const size_t k = strlen(key) + 1;
			texts++;
			*found += n == k + strlen(value) && memcmp(png + at + 8, key, k) == 0 &&
				  memcmp(png + at + 8 + k, value, n - k) == 0;
		}
		at += 12 + n;
	}
	return at == size ? texts : -1;
}

/* A PNM of w x h pixels as a file's bytes. */
static uint8_t *pnm(int w, int h, int colour, size_t *size)
{
	const size_t n = (size_t)w * (size_t)h * (colour ? 3 : 1);
	uint8_t *at = malloc(n + 64);
	const int head = snprintf((char *)at, 64, "P%d\n%d %d\n255\n", colour ? 6 : 5, w, h);

	for (size_t i = 0; i < n; i++)
		at[(size_t)head + i] = (uint8_t)(i * 7919 >> 3);
	*size = (size_t)head + n;
	return at;
}

/* What comes out for a picture of w x h, 0 when a map was drawn; the size of the whole drawing. */
static int draw_map(const struct fr_model *m, int w, int h, const float *heat, int *out_w, int *out_h,
		    struct fr_error *err)
{
	size_t size, png_size;
	uint8_t *file = pnm(w, h, w % 2, &size), *png;
	const int side = m->desc.vit[m->desc.look].image / m->desc.vit[m->desc.look].patch;
	int rc = fr_heatmap(m, file, size, 0, heat, side, &png, &png_size, err);
	struct fr_image back = {0};

	if (rc == 0 && fr_image_decode(png, png_size, FR_MAX_PIXELS, &back, err) != 0)
		rc = -2;
	*out_w = back.w;
	*out_h = back.h;
	if (rc == 0 && back.n_warnings)
		rc = -3;
	fr_image_free(&back);
	free(png);
	free(file);
	return rc;
}

static void check_sizes(struct fr_model *m, const float *heat)
{
	static const struct {
		int w, h, drawn_w, drawn_h; /* at least; of the whole with its caption */
		enum fr_fit fit;
	} sizes[] = {
		{1, 1, 640, 700, FR_FIT_CROP},	     {2, 1, 640, 320, FR_FIT_PAD},
		{1, 2, 320, 640, FR_FIT_CROP},	     {3000, 2000, 1024, 700, FR_FIT_CROP},
		{639, 641, 639, 641, FR_FIT_PAD},    {2000, 1, 2000, 100, FR_FIT_CROP},
		{1, 2000, 400, 2000, FR_FIT_PAD},    {20000, 10, 4096, 100, FR_FIT_PAD},
		{10, 20000, 400, 4096, FR_FIT_CROP}, {1025, 31, 1025, 100, FR_FIT_PAD},
	};
	struct fr_error err = {0};
	char name[96];
	int w, h;

	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		m->desc.image.fit = sizes[i].fit;
		const int rc = draw_map(m, sizes[i].w, sizes[i].h, heat, &w, &h, &err);
		snprintf(name, sizeof name, "exact/heatmap/size %d x %d %s", sizes[i].w, sizes[i].h,
			 sizes[i].fit == FR_FIT_PAD ? "pad" : "crop");
		CHECK(name,
		      rc == 0 && w >= sizes[i].drawn_w && w <= sizes[i].drawn_w + 500 && h >= sizes[i].drawn_h &&
			      h <= sizes[i].drawn_h + 400,
		      "%d, %d x %d (%s)", rc, w, h, err.text);
	}
	m->desc.image.fit = FR_FIT_CROP;
	CHECK("exact/heatmap/proportions beyond 2000 are refused",
	      draw_map(m, 2001, 1, heat, &w, &h, &err) == -1 && err.code == FR_E_LIMIT, "%s", err.text);
}

static void check_file(const struct fr_model *m, const float *heat, int side)
{
	size_t size, png_size = 0, again_size = 0;
	uint8_t *file = pnm(200, 150, 1, &size), *png, *again;
	struct fr_error err = {0};
	char hash[65];
	int found, rc = fr_heatmap(m, file, size, 0, heat, side, &png, &png_size, &err);

	fr_sha256_hex(file, size, hash);
	CHECK("exact/heatmap/png: eight texts, every checksum holds",
	      walk_png(png, png_size, "Image-SHA256", hash, &found) == 8, "%d: %s", rc, err.text);
	CHECK("exact/heatmap/png: the image's sha256", found == 1, "%d", found);
	walk_png(png, png_size, "Warning", "not the forged region; attention is weak evidence", &found);
	CHECK("exact/heatmap/png: the warning", found == 1, "%d", found);
	walk_png(png, png_size, "Model-Hash", fr_model_hash(m), &found);
	CHECK("exact/heatmap/png: the model's hash", found == 1, "%d", found);
	walk_png(png, png_size, "Title", "DEMO: Where the encoder looked", &found);
	CHECK("exact/heatmap/png: the title", found == 1, "%d", found);
	rc = fr_heatmap(m, file, size, 0, heat, side, &again, &again_size, &err);
	CHECK("exact/heatmap/png: the same bytes again",
	      rc == 0 && again_size == png_size && memcmp(png, again, png_size) == 0, "%zu and %zu bytes", png_size,
	      again_size);
	free(again);
	free(png);
	rc = fr_heatmap(m, file, size, 0, heat, side + 1, &png, &png_size, &err);
	CHECK("exact/heatmap/patches of another model are refused", rc == -1 && !png && err.code == FR_E_USAGE, "%s",
	      err.text);
	rc = fr_heatmap(m, file, size - 1, 0, heat, side, &png, &png_size, &err);
	CHECK("exact/heatmap/a damaged picture is refused", rc == -1 && !png && err.code == FR_E_DAMAGED, "%s",
	      err.text);
	rc = fr_heatmap(m, file, size, 100, heat, side, &png, &png_size, &err);
	CHECK("exact/heatmap/--max-pixels holds", rc == -1 && !png && err.code == FR_E_LIMIT, "%s", err.text);
	free(file);
}

/* ---- from the session to the results ---- */

#define MOST 1024
/* Pictures on their way in, and what came out of each. */
struct judged {
	struct {
		uint8_t *bytes;
		size_t size;
	} file[3];
	int first, n, given;
	float heat[3][MOST];
	int side[3];
};

static int next(void *user, struct fr_job *job)
{
	struct judged *j = user;

	if (j->given == j->n)
		return 0;
	job->bytes = j->file[j->first + j->given].bytes;
	job->size = j->file[j->first + j->given++].size;
	return 1;
}

static void result(void *user, const struct fr_result *r)
{
	struct judged *j = user;
	const size_t at = (size_t)j->first + r->index;

	j->side[at] = r->heat ? r->heat_side : 0;
	if (r->heat && r->heat_side * r->heat_side <= MOST)
		memcpy(j->heat[at], r->heat, (size_t)(r->heat_side * r->heat_side) * sizeof *r->heat);
}

static void judge(const struct fr_model *m, int together, int heat, int first, int n, struct judged *j)
{
	const struct fr_session_opts o = {
		.backend = "cpu", .threads = 1, .batch = together, .verdict_only = 1, .heat = heat};
	struct fr_session *s;
	struct fr_error err;

	j->first = first;
	j->n = n;
	j->given = 0;
	if (fr_session_open(m, &o, &(struct fr_session_force){.together = together}, &s, &err) ||
	    fr_judge(s, &(struct fr_io){.user = j, .next = next, .result = result}, &err))
		test_fail("exact/heatmap/judge", "%s", err.text);
	fr_session_free(s);
}

/* Each of three pictures has the heat that it has alone, when they are seen in one call. */
static void check_batch(const struct fr_model *m)
{
	struct judged together = {0}, alone = {0};
	int same = 1, differ;

	for (int i = 0; i < 3; i++)
		alone.file[i].bytes = pnm(90 + 40 * i, 100, i % 2, &alone.file[i].size);
	memcpy(together.file, alone.file, sizeof alone.file);
	judge(m, 3, 1, 0, 3, &together);
	for (int i = 0; i < 3; i++)
		judge(m, 1, 1, i, 1, &alone);
	for (int i = 0; i < 3; i++)
		same = same && alone.side[i] > 0 && alone.side[i] == together.side[i];
	differ = memcmp(alone.heat[0], alone.heat[1], sizeof *alone.heat) != 0;
	CHECK("exact/heatmap/together as alone",
	      same && differ && memcmp(together.heat, alone.heat, sizeof alone.heat) == 0, "sides %d, pictures %s",
	      together.side[0], differ ? "differ" : "are alike");
	judge(m, 1, 0, 0, 1, &alone);
	CHECK("exact/heatmap/none unless asked for", alone.side[0] == 0, "%d a side", alone.side[0]);
	for (int i = 0; i < 3; i++)
		free(alone.file[i].bytes);
}

int main(void)
{
	float heat[64 * 64];
	struct fr_model *m;
	struct fr_error err;

	check_letters();
	if (fr_model_load(&(struct fr_model_opts){.path = "demo"}, &m, &err)) {
		test_fail("exact/heatmap_file/demo", "%s", err.text);
		return test_done();
	}
	for (int i = 0; i < 64 * 64; i++)
		heat[i] = (float)(i * 37 % 101) * 1e-4f;
	check_file(m, heat, m->desc.vit[0].image / m->desc.vit[0].patch);
	check_sizes(m, heat);
	check_batch(m);
	fr_model_free(m);
	return test_done();
}
