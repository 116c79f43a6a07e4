/* The measurements run and print what they promise, and the known answers of the selftest hold. Times are not judged.
 */
#include "test.h"
#include "tile_host/tile_host.h"
#include "../bench/plot.h"
#include "../bench/stage.h"
#include "../kernels/cpu/cpu.h"

#include <cjson/cJSON.h>
#include <unistd.h>

/* All that `run` writes, NUL-terminated; the caller frees. NULL and *err on failure. */
static char *output_of(int (*run)(const struct fr_bench_opts *, FILE *, struct fr_error *),
		       const struct fr_bench_opts *opts, struct fr_error *err)
{
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);
	int rc = run(opts, f, err);

	fclose(f);
	if (rc == 0)
		return text;
	free(text);
	return NULL;
}

/* Every line is a JSON object in which the named numbers are positive. */
static int lines_have(const char *text, const char *const *keys, int *lines)
{
	for (*lines = 0; text && *text; (*lines)++) {
		const char *end = strchr(text, '\n');
		cJSON *o = cJSON_ParseWithLength(text, end ? (size_t)(end - text) : strlen(text));
		int good = o && end;

		for (int i = 0; good && keys[i]; i++)
			good = cJSON_GetNumberValue(cJSON_GetObjectItem(o, keys[i])) > 0;
		cJSON_Delete(o);
		if (!good)
			return 0;
		text = end + 1;
	}
	return *lines > 0;
}

static int run_selftest(const struct fr_bench_opts *opts, FILE *out, struct fr_error *err)
{
	(void)opts;
	return fr_selftest(out, err);
}

static void check_peak_and_kernels(void)
{
	static const char *const peak_keys[] = {"threads", "gflops", "gbytes", NULL};
	static const char *const kernel_keys[] = {"ms_best",	 "ms_median",	"gflops",    "gbytes",
						  "peak_gflops", "peak_gbytes", "share_fma", NULL};
	struct fr_bench_opts opts = {.isa = "cpu-ref", .threads = 3, .json = 1, .seconds = 0.01};
	struct fr_error err = {0};
	int lines = 0;
	char *text = output_of(fr_bench_peak, &opts, &err);

	CHECK("exact/bench/peak", lines_have(text, peak_keys, &lines) && lines == 3, "%d lines, %s: %s", lines,
	      err.text, text ? text : "no text");
	free(text);
	opts.threads = 2;
	opts.filter = "norm_*/m1_*";
	text = output_of(fr_bench_kernels, &opts, &err);
	CHECK("exact/bench/kernels", lines_have(text, kernel_keys, &lines) && lines == 1, "%d lines, %s: %s", lines,
	      err.text, text ? text : "no text");
	free(text);
	opts.filter = "no such kernel";
	text = output_of(fr_bench_kernels, &opts, &err);
	CHECK("exact/bench/no_row", !text && err.code == FR_E_USAGE, "code %d: %s", (int)err.code, err.text);
	free(text);
	opts.isa = "mmx";
	text = output_of(fr_bench_kernels, &opts, &err);
	CHECK("exact/bench/no_isa", !text && err.code == FR_E_USAGE, "code %d: %s", (int)err.code, err.text);
	free(text);
}

/* Operations per round, as the instructions have them: 16 lanes of pairs are 64 operations, a tile of 16 x 16 x 32
 * twice as many as that has items. */
static void check_loops(void)
{
	enum fr_level found = fr_level_found();
	static const struct {
		const char *name;
		enum fr_level level;
		double (*loop)(long n);
		double per_round;
	} loops[] = {
		{"fma_ref", FR_LEVEL_REF, fr_peak_fma_ref, 10 * 4 * 2},
		{"fma_avx2", FR_LEVEL_AVX2, fr_peak_fma_avx2, 10 * 8 * 2},
		{"int8_avx2", FR_LEVEL_AVX2, fr_peak_int8_avx2, 8 * 32 * 2},
		{"fma_avx512", FR_LEVEL_AVX512, fr_peak_fma_avx512, 10 * 16 * 2},
		{"int8_avx512", FR_LEVEL_AVX512, fr_peak_int8_avx512, 8 * 64 * 2},
		{"bf16_avx512bf16", FR_LEVEL_AVX512BF16, fr_peak_bf16_avx512bf16, 10 * 32 * 2},
		{"int8_avx512bf16", FR_LEVEL_AVX512BF16, fr_peak_int8_avx512bf16, 10 * 64 * 2},
	};

	for (size_t i = 0; i < sizeof loops / sizeof *loops; i++) {
		char name[64];
		double ops;

		snprintf(name, sizeof name, "exact/bench/loop/%s", loops[i].name);
		if (loops[i].level > found) {
			test_skip(name, "this CPU does not have the level");
			continue;
		}
		ops = loops[i].loop(1000);
		CHECK(name, ops == 1000 * loops[i].per_round, "%g operations in 1000 rounds, expected %g each", ops,
		      loops[i].per_round);
	}
}

/* The loops of the tile unit, by the real one or in software: they end with all sums there and the tiles given back. */
static void check_tile_loops(void)
{
	const double product = 2.0 * 16 * 16; /* a tile's sums */
	const long rounds = 3, products = 4 * rounds;
	const int software = tile_host_install();
	long before;
	double bf16, int8;

	if (software < 0) {
		test_skip("exact/bench/loop/amx", "this CPU does not have the level below");
		return;
	}
	before = tile_host_mine()->executed;
	bf16 = fr_peak_bf16_amx(rounds);
	int8 = fr_peak_int8_amx(rounds);
	CHECK("exact/bench/loop/bf16_amx", bf16 == (double)products * product * 32, "%g operations in %ld products",
	      bf16, products);
	CHECK("exact/bench/loop/int8_amx", int8 == (double)products * product * 64, "%g operations in %ld products",
	      int8, products);
	CHECK("exact/bench/loop/amx_instructions",
	      !software ||
		      (tile_host_mine()->executed - before == 2 * (products + 14) && !tile_host_mine()->configured),
	      "%ld tile instructions, expected twice %ld products and 14 around them; tiles %s",
	      tile_host_mine()->executed - before, products, tile_host_mine()->configured ? "kept" : "given back");
	if (software)
		tile_host_remove();
}

/* ---- model ---- */

/* The JSON line of that name, NULL: none; the caller deletes it. */
static cJSON *line_named(const char *text, const char *name)
{
	while (text && *text) {
		const char *end = strchr(text, '\n');
		cJSON *o = cJSON_ParseWithLength(text, end ? (size_t)(end - text) : strlen(text));
		const char *is = cJSON_GetStringValue(cJSON_GetObjectItem(o, "name"));

		if (is && strcmp(is, name) == 0)
			return o;
		cJSON_Delete(o);
		text = end ? end + 1 : NULL;
	}
	return NULL;
}

static void check_stage(const char *text, const char *name, const char *const *keys)
{
	cJSON *o = line_named(text, name);
	const char *missing = o ? NULL : "the line";
	char label[96];

	for (int i = 0; o && keys[i]; i++)
		if (!(cJSON_GetNumberValue(cJSON_GetObjectItem(o, keys[i])) > 0))
			missing = keys[i];
	cJSON_Delete(o);
	snprintf(label, sizeof label, "exact/bench/model/%s", name);
	CHECK(label, !missing, "no %s in %s", missing, text ? text : "no text");
}

static void check_model(void)
{
	static const char *const once[] = {"ms", "runs", NULL};
	static const char *const timed[] = {"ms", "ms_least", "ms_most", "ms_q1", "ms_q3", "rate", "items_s", NULL};
	static const char *const shared[] = {"ms",	    "gflops",	  "gbytes",  "peak_gflops",
					     "peak_gbytes", "share_peak", "threads", NULL};
	static const char *const memory[] = {"bytes", "most_bytes", "mapped_bytes", "anonymous_bytes", NULL};
	static const struct {
		const char *name;
		const char *const *keys;
	} lines[] = {
		{"load", once},
		{"session", once},
		{"first", once},
		{"memory/verdict", memory},
		{"image", timed},
		{"vision/b1", shared},
		{"projector/b1", shared},
		{"prefill/b1_m159", shared},
		{"verdict/b1", timed},
		{"prefill/b1_m64", shared},
		{"prefill/b1_m588", shared},
		{"decode/b1_kv159", shared},
		{"decode/b2_kv159", shared},
		{"decode/b2_kv600", shared},
		{"memory/text", memory},
	};
	struct fr_bench_opts opts = {
		.model = {.path = "demo"}, .backend = "cpu", .threads = 2, .json = 1, .seconds = 0.01, .batch = 2};
	struct fr_error err = {0};
	char *text = output_of(fr_bench_model, &opts, &err);

	for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
		check_stage(text, lines[i].name, lines[i].keys);
	CHECK("exact/bench/model/batch", text && !strstr(text, "decode/b4"), "%s", text ? text : err.text);
	free(text);
	opts.filter = "decode/b1_kv64";
	text = output_of(fr_bench_model, &opts, &err);
	CHECK("exact/bench/model/filter", text && strstr(text, opts.filter) && !strstr(text, "prefill"), "%s",
	      text ? text : err.text);
	free(text);
	opts.model.path = NULL;
	text = output_of(fr_bench_model, &opts, &err);
	CHECK("exact/bench/model/none", !text && err.code == FR_E_USAGE, "code %d: %s", (int)err.code, err.text);
	free(text);
}

/* ---- the plot ---- */

/* Is it one element with well-formed markup: tags that close in order, quoted attributes, known entities? Where it is
 * not, *at says. */
static int is_xml(const char *s, const char **at)
{
	char open[32][16];
	int depth = 0, elements = 0;

	for (*at = s; **at; ++*at) {
		const char *p = *at;
		size_t n = 0;
		int close;

		if (*p == '&' && strncmp(p, "&amp;", 5) && strncmp(p, "&lt;", 4) && strncmp(p, "&gt;", 4) &&
		    strncmp(p, "&quot;", 6) && strncmp(p, "&#39;", 5))
			return 0;
		if (*p == '>' || (*p == '"' && depth == 0))
			return 0;
		if (*p != '<')
			continue;
		close = p[1] == '/';
		for (p += 1 + close; p[n] >= 'a' && p[n] <= 'z'; n++)
			continue;
		if (n == 0 || n > 15)
			return 0;
		if (close) {
			if (depth-- == 0 || strncmp(open[depth], p, n) || open[depth][n] || p[n] != '>')
				return 0;
			*at = p + n;
			continue;
		}
		if ((depth == 0 && elements++) || depth == 32)
			return 0;
		snprintf(open[depth++], 16, "%.*s", (int)n, p);
		for (p += n; *p && *p != '>' && *p != '/'; p++)
			if (*p == '"' && (p[-1] != '=' || !(p = strchr(p + 1, '"'))))
				return 0;
		depth -= *p == '/';
		*at = *p == '/' ? p + 1 : p;
		if (**at != '>')
			return 0;
	}
	return depth == 0 && elements == 1;
}

/* Numbers of points are the short texts in the middle of their place, inside the frame. */
static int overlapping(const char *svg, char *what, size_t size)
{
	struct {
		double x, y, w;
		char text[8];
	} at[FR_PLOT_POINTS];
	int n = 0;

	for (const char *p = svg; (p = strstr(p, "<text x=")) && n < FR_PLOT_POINTS; p++) {
		char class[16];
		if (sscanf(p, "<text x=\"%lf\" y=\"%lf\" class=\"%15[^\"]\">%7[0-9]", &at[n].x, &at[n].y, class,
			   at[n].text) != 4 ||
		    strcmp(class, "mid") != 0)
			continue;
		at[n].w = 6.0 * (double)strlen(at[n].text);
		for (int i = 0; i < n; i++)
			if (fabs(at[i].x - at[n].x) < (at[i].w + at[n].w) / 2 && fabs(at[i].y - at[n].y) < 8) {
				snprintf(what, size, "numbers %s and %s", at[i].text, at[n].text);
				return 1;
			}
		n++;
	}
	snprintf(what, size, "%d numbers", n);
	return n != FR_PLOT_POINTS;
}

static char *svg_of(const struct fr_plot *p)
{
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	fr_plot_print(p, f);
	fclose(f);
	return text;
}

/* As many points as there may be, in a few heaps. */
static void check_plot(void)
{
	static struct fr_plot plot, none;
	const char *at = "";
	char what[64], *svg;

	snprintf(plot.title, sizeof plot.title, "<a> & \"b\" 'c' \x01\xff\xc3\xa9");
	snprintf(plot.note, sizeof plot.note, "]]> -- \xe2\x82");
	plot.mark_name[FR_PLOT_DECODE] = "few & far";
	fr_plot_roof(&plot, "float32", 2e11);
	fr_plot_roof(&plot, "float32", 1e11);
	fr_plot_roof(&plot, "bf16", 2.1e11);
	fr_plot_read(&plot, 5e10);
	for (int i = 0; i < FR_PLOT_POINTS + 4; i++) {
		snprintf(what, sizeof what, "row<%d>", i);
		fr_plot_add(&plot, i % FR_PLOT_MARKS, what, i % 3 ? 1e9 + i * 1e5 : 3e11, 1e9, 0.02 + i % 5 * 1e-4,
			    0.5);
	}
	fr_plot_add(&plot, FR_PLOT_OTHER, "nothing", 0, 1, 1, 0);
	CHECK("exact/bench/plot/points", plot.n == FR_PLOT_POINTS, "%d points", plot.n);
	CHECK("exact/bench/plot/roofs", plot.n_roofs == 2 && plot.roof[0].rate == 2e11, "%d roofs, the first %g",
	      plot.n_roofs, plot.roof[0].rate);
	svg = svg_of(&plot);
	CHECK("exact/bench/plot/xml", svg && is_xml(svg, &at), "at: %.60s", at);
	CHECK("exact/bench/plot/escaped",
	      svg && strstr(svg, "&lt;a&gt; &amp; &quot;b&quot; &#39;c&#39; ?\?\xc3\xa9<") &&
		      strstr(svg, "row&lt;95&gt;") && strstr(svg, "]]&gt; -- ?\?<"),
	      "%.400s", svg ? svg : "nothing");
	CHECK("exact/bench/plot/apart", svg && !overlapping(svg, what, sizeof what), "%s", what);
	free(svg);
	svg = svg_of(&none);
	CHECK("exact/bench/plot/empty", svg && is_xml(svg, &at) && !strstr(svg, "nan") && !strstr(svg, "inf"), "%s",
	      svg ? svg : "nothing");
	free(svg);
}

static void check_plot_file(void)
{
	char dir[] = "/tmp/bench-XXXXXX", path[64], none[96];
	struct fr_bench_opts opts = {
		.isa = "cpu-ref", .json = 1, .seconds = 0.001, .filter = "norm_*/m1_*", .svg = path};
	struct fr_error err = {0};
	const char *at = "";
	struct fr_plot *p;
	const uint8_t *bytes;
	size_t size = 0;
	char *text;

	if (!mkdtemp(dir)) {
		test_fail("exact/bench/plot/file", "no folder in /tmp");
		return;
	}
	snprintf(path, sizeof path, "%s/a.svg", dir);
	free(output_of(fr_bench_kernels, &opts, &err));
	if (fr_map_open(path, &bytes, &size, &err))
		bytes = NULL;
	text = bytes ? strndup((const char *)bytes, size) : NULL;
	CHECK("exact/bench/plot/file", text && is_xml(text, &at) && strstr(text, ">norm_rms/m1_k4096<"), "%s: %.60s",
	      err.text, at);
	free(text);
	if (bytes)
		fr_map_close(bytes, size);
	unlink(path);
	CHECK("exact/bench/plot/kept",
	      fr_plot_new(path, &p, &err) == 0 && fr_plot_end(p, 0, &err) == 0 && rmdir(dir) == 0, "%s", err.text);
	snprintf(none, sizeof none, "%s/no/b.svg", dir);
	CHECK("exact/bench/plot/nowhere", fr_plot_new(none, &p, &err) == -1 && err.code == FR_E_IO && !p, "code %d: %s",
	      (int)err.code, err.text);
}

/* ---- whole runs ---- */

static void check_process(void)
{
	char *echo[] = {"/bin/sh", "-c", "cat; sleep 0.1; test -z \"$FR_RUN_JSON\" && echo bare", NULL};
	char *fails[] = {"/bin/sh", "-c", "exit 3", NULL}, *dies[] = {"/bin/sh", "-c", "kill -9 $$", NULL};
	char *absent[] = {"/nowhere/at/all", NULL};
	struct fr_process_run run;
	struct fr_error err = {0};
	int rc;

	setenv("FR_RUN_JSON", "1", 1);
	rc = fr_process_run(echo, "some bytes\n", 11, &run, &err);
	CHECK("exact/bench/process/runs", rc == 0 && strcmp(run.text, "some bytes\nbare\n") == 0 && run.ms > 0,
	      "%d: %s: %s", rc, err.text, rc ? "" : run.text);
	CHECK("exact/bench/process/memory", rc == 0 && run.memory.most > 0 && run.memory.most < (size_t)1 << 30,
	      "%zu bytes", run.memory.most);
	if (rc == 0)
		free(run.text);
	rc = fr_process_run(fails, "", 0, &run, &err);
	CHECK("exact/bench/process/status", rc == -1 && strstr(err.text, "exit status 3"), "%d: %s", rc, err.text);
	rc = fr_process_run(dies, "", 0, &run, &err);
	CHECK("exact/bench/process/signal", rc == -1 && strstr(err.text, "signal 9"), "%d: %s", rc, err.text);
	rc = fr_process_run(absent, "", 0, &run, &err);
	CHECK("exact/bench/process/absent", rc == -1 && strstr(err.text, "/nowhere/at/all"), "%d: %s", rc, err.text);
}

static int stop_at_once(void)
{
	return 1;
}

/* What is at work ends, and what has been measured stays. */
static void check_stopped(void)
{
	struct fr_bench_opts opts = {.isa = "cpu-ref",
				     .backend = "cpu",
				     .json = 1,
				     .seconds = 60,
				     .stopped = stop_at_once,
				     .model = {.path = "demo"}};
	struct fr_error err = {0};
	char *text = output_of(fr_bench_model, &opts, &err);

	CHECK("exact/bench/stopped/model", text && strstr(text, "\"machine\"") && !strstr(text, "\"ms\""), "%s: %s",
	      err.text, text ? text : "no text");
	free(text);
	text = output_of(fr_bench_kernels, &opts, &err);
	CHECK("exact/bench/stopped/kernels", text && !*text, "%s: %s", err.text, text ? text : "no text");
	free(text);
	text = output_of(fr_bench_peak, &opts, &err);
	CHECK("exact/bench/stopped/peak", text && !*text, "%s: %s", err.text, text ? text : "no text");
	free(text);
}

int main(void)
{
	struct fr_error err = {0};
	char *text;

	check_peak_and_kernels();
	check_loops();
	check_tile_loops();
	check_model();
	check_plot();
	check_plot_file();
	check_process();
	check_stopped();
	text = output_of(run_selftest, NULL, &err);
	CHECK("exact/selftest", text && strstr(text, "\nok ") && !strstr(text, "FAIL"), "%s\n%s", err.text,
	      text ? text : "");
	free(text);
	return test_done();
}
