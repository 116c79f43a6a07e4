/* Stages measured and said: a line each, for people or as JSON.
 *
 * Between runs, bursts of the machine's peaks: a share is the best run's rate by the best burst's among its own runs,
 * because a peak of another minute is no denominator on a machine that others use, too. */
#include "stage.h"

#include <fnmatch.h>
#include <math.h>
#include <stdarg.h>
#include <string.h>

#define MIN_RUNS 3
#define READ_BURST ((size_t)128 << 20)
#define COLD_BYTES 256e6 /* what no cache holds: what is less may not have been read from memory */
#define BURST_EVERY 0.1	 /* seconds; after a burst of reading the caches are cold, which must not be every run */

int fr_stage_begin(struct fr_stages *b, const char *what, const char *format, ...)
{
	struct fr_stage *st = &b->stage;
	char rest[48];
	va_list ap;

	va_start(ap, format);
	vsnprintf(rest, sizeof rest, format, ap);
	va_end(ap);
	memset(st, 0, sizeof *st);
	snprintf(st->name, sizeof st->name, "%s%s%s", what, *rest ? "/" : "", rest);
	st->what = what;
	st->batch = 1;
	st->rows = st->context = st->tokens = -1;
	return !fr_bench_stopped(b->opts) && (!b->opts->filter || fnmatch(b->opts->filter, st->name, 0) == 0);
}

static void burst(struct fr_stages *b)
{
	struct fr_stage *st = &b->stage;
	struct fr_dev *dev = b->s->dev;
	const enum fr_peak kind = fr_cpu_peak_of(dev, b->weights, st->phase);

	fr_sample(&st->peak, fr_cpu_peak(dev, kind));
	fr_sample(&st->read, fr_cpu_peak_read(dev, b->memory + b->at, READ_BURST));
	fr_plot_roof(b->plot, fr_peak_names[kind], st->peak.at[st->peak.n - 1]);
	fr_plot_read(b->plot, st->read.at[st->read.n - 1]);
	b->at = (b->at + READ_BURST) % FR_STAGE_READ_BYTES;
}

int fr_stage_run(struct fr_stages *b, int (*once)(struct fr_stages *b, double *ms, struct fr_error *err),
		 struct fr_error *err)
{
	struct fr_stage *st = &b->stage;
	double until, next_burst = 0, ms;

	if (st->cost.operations > 0 && !b->memory && strcmp(b->s->dev->ops->name, "cpu") == 0) {
		b->memory = fr_bench_map(FR_STAGE_READ_BYTES);
		if (!b->memory)
			return fr_fail(err, FR_E_MEMORY, "cannot map %zu MiB to measure the memory",
				       FR_STAGE_READ_BYTES >> 20);
	}
	until = fr_bench_now() + (b->opts->seconds > 0 ? b->opts->seconds : 1);
	do {
		if (st->cost.operations > 0 && b->memory && fr_bench_now() >= next_burst) {
			burst(b);
			next_burst = fr_bench_now() + BURST_EVERY;
		}
		FR_TRY(once(b, &ms, err));
		fr_sample(&st->ms, ms);
	} while (!fr_bench_stopped(b->opts) &&
		 (st->ms.n < MIN_RUNS || (fr_bench_now() < until && st->ms.n < FR_BENCH_SAMPLES)));
	fr_stage_say(b);
	return 0;
}

/* ---- lines ---- */

struct figures {
	double median, least, most, q1, q3;  /* ms */
	double items_s, flops, bytes_s;	     /* at the median */
	double peak, read, of_peak, of_read; /* best by best; 0: not measured */
};

static struct figures figures_of(struct fr_stage *st)
{
	struct figures f = {.median = fr_samples_median(&st->ms),
			    .least = fr_samples_min(&st->ms),
			    .most = fr_samples_max(&st->ms),
			    .q1 = fr_samples_quartile(&st->ms, 1),
			    .q3 = fr_samples_quartile(&st->ms, 3),
			    .peak = fr_samples_max(&st->peak),
			    .read = fr_samples_max(&st->read)};

	f.items_s = st->amount / f.median * 1e3;
	f.flops = st->cost.operations / f.median * 1e3;
	f.bytes_s = st->cost.bytes / f.median * 1e3;
	if (f.peak > 0)
		f.of_peak = st->cost.operations / f.least * 1e3 / f.peak;
	if (f.read > 0 && st->cost.bytes >= COLD_BYTES)
		f.of_read = st->cost.bytes / f.least * 1e3 / f.read;
	return f;
}

/* "null" for what is not there, as JSON has it. */
static const char *number(double value, const char *format, char buf[32])
{
	if (value > 0)
		snprintf(buf, 32, format, value);
	return value > 0 ? buf : "null";
}

static const char *count(int value, char buf[32])
{
	snprintf(buf, 32, "%d", value);
	return value >= 0 ? buf : "null";
}

/* `rate` in `unit` is what bench/peers/ reads: operations of what is measured by them, else what is counted. */
static void say_json(const struct fr_stages *b, const struct figures *f, const char *what, double rate,
		     const char *unit)
{
	const struct fr_stage *st = &b->stage;
	char n[12][32];

	fprintf(b->out,
		"{\"bench\":\"model\",\"what\":\"%s\",\"name\":\"%s\",\"backend\":\"%s\",\"isa\":\"%s\","
		"\"activations\":\"%s\",\"threads\":%d,\"batch\":%d,\"rows\":%s,\"context\":%s,\"tokens\":%s,",
		what, st->name, b->backend, b->isa, b->activations, b->threads, st->batch, count(st->rows, n[0]),
		count(st->context, n[1]), count(st->tokens, n[2]));
	fprintf(b->out,
		"\"ms\":%.6g,\"ms_least\":%.6g,\"ms_most\":%.6g,\"ms_q1\":%.6g,\"ms_q3\":%.6g,\"runs\":%d,"
		"\"rate\":%.6g,\"unit\":\"%s\",\"items_s\":%s,\"items\":%s%s%s,",
		f->median, f->least, f->most, f->q1, f->q3, st->ms.n, rate, unit, number(f->items_s, "%.6g", n[3]),
		st->items ? "\"" : "", st->items ? st->items : "null", st->items ? "\"" : "");
	fprintf(b->out,
		"\"gflops\":%s,\"gbytes\":%s,\"peak_gflops\":%s,\"peak_gbytes\":%s,\"share_peak\":%s,"
		"\"share_read\":%s}\n",
		number(f->flops * 1e-9, "%.5g", n[4]), number(f->bytes_s * 1e-9, "%.5g", n[5]),
		number(f->peak * 1e-9, "%.5g", n[6]), number(f->read * 1e-9, "%.5g", n[7]),
		number(f->of_peak, "%.4g", n[8]), number(f->of_read, "%.4g", n[9]));
}

/* A blank column where there is nothing to say. */
static const char *column(double value, const char *format, char buf[32])
{
	if (value > 0)
		snprintf(buf, 32, format, value);
	return value > 0 ? buf : "-";
}

static void say_row(const struct fr_stages *b, const struct figures *f)
{
	const struct fr_stage *st = &b->stage;
	char n[5][32], items[32] = "";

	if (st->items)
		snprintf(items, sizeof items, "%.*f %s/s", f->items_s < 100 ? 2 : 0, f->items_s, st->items);
	fprintf(b->out, "%-18s %11.3f %11.3f %11.3f %5d  %-16s %8s %7s %7s %7s\n", st->name, f->median, f->least,
		f->most, st->ms.n, items, column(f->flops * 1e-9, "%.1f", n[0]),
		column(100 * f->of_peak, "%.1f%%", n[1]), column(f->bytes_s * 1e-9, "%.1f", n[2]),
		column(100 * f->of_read, "%.1f%%", n[3]));
}

void fr_stage_say(struct fr_stages *b)
{
	struct fr_stage *st = &b->stage;
	const struct figures f = figures_of(st);
	int products = strcmp(st->what, "vision") == 0 || strcmp(st->what, "prefill") == 0 ||
		       strcmp(st->what, "projector") == 0;

	fr_plot_add(b->plot, st->phase == FR_DECODE ? FR_PLOT_DECODE : FR_PLOT_PREFILL, st->name, st->cost.operations,
		    st->cost.bytes, f.least * 1e-3, fmax(f.of_peak, f.of_read));
	if (!b->opts->json)
		say_row(b, &f);
	else if (products)
		say_json(b, &f, st->what, f.flops * 1e-12, "TFLOP/s");
	else if (st->items)
		say_json(b, &f, st->what, f.items_s, strcmp(st->items, "tokens") ? "images/s" : "tokens/s");
	else
		say_json(b, &f, st->what, 1e3 / f.median, "1/s");
	if (b->opts->json && strcmp(st->what, "decode") == 0)
		say_json(b, &f, "reading", f.bytes_s * 1e-9, "GB/s");
	fflush(b->out);
}

void fr_stage_say_one(struct fr_stages *b, double ms)
{
	fr_sample(&b->stage.ms, ms);
	fr_stage_say(b);
}

void fr_stages_say_head(const struct fr_stages *b)
{
	const struct fr_session *s = b->s;
	const char *device = fr_session_device(s);
	char machine[512];

	fr_machine(b->opts->isa, machine, sizeof machine);
	if (b->opts->json) {
		fprintf(b->out, "{\"bench\":\"model\",\"what\":\"machine\",\"machine\":");
		fr_bench_quote(b->out, machine);
		fprintf(b->out, ",\"device\":");
		fr_bench_quote(b->out, device);
		fprintf(b->out,
			",\"backend\":\"%s\",\"isa\":\"%s\",\"activations\":\"%s\",\"kv\":\"%s\",\"threads\":%d,"
			"\"weights\":\"%s\",\"streamed\":%s}\n",
			b->backend, b->isa, b->activations, fr_session_kv(s), b->threads, fr_model_dtype(b->model),
			*fr_session_streamed(s) ? "true" : "false");
		return;
	}
	fprintf(b->out, "%s%s%s\n%s, isa %s, activations %s, kv %s, weights %s, %d threads\n", machine,
		device ? "; " : "", device ? device : "", b->backend, b->isa, b->activations, fr_session_kv(s),
		fr_model_dtype(b->model), b->threads);
	if (*fr_session_streamed(s))
		fprintf(b->out, "%s\n", fr_session_streamed(s));
	fprintf(b->out, "%-18s %11s %11s %11s %5s  %-16s %8s %7s %7s %7s\n", "stage", "median ms", "least", "most",
		"runs", "rate", "GFLOP/s", "of peak", "GB/s", "of read");
}

void fr_stages_finish_plot(struct fr_stages *b)
{
	struct fr_plot *p = b->plot;

	if (!p)
		return;
	for (int burst = 0; burst < 10 && strcmp(b->backend, "cpu") == 0; burst++)
		for (int k = 0; k < FR_PEAKS; k++)
			fr_plot_roof(p, fr_peak_names[k], fr_cpu_peak(b->s->dev, (enum fr_peak)k));
	snprintf(p->title, sizeof p->title, "fr-run bench model: %s (%s), isa %s, activations %s, %d threads",
		 fr_model_name(b->model), fr_model_dtype(b->model), b->isa, b->activations, b->threads);
	fr_machine(b->opts->isa, p->note, sizeof p->note);
	p->mark_name[FR_PLOT_PREFILL] = "vision, projector, prefill";
	p->mark_name[FR_PLOT_DECODE] = "decode";
}

void fr_stages_say_memory(const struct fr_stages *b, const char *what, const struct fr_process_memory *m, size_t held)
{
	char text[4][32];

	if (b->opts->json)
		fprintf(b->out,
			"{\"bench\":\"model\",\"what\":\"memory\",\"name\":\"memory/"
			"%s\",\"backend\":\"%s\",\"bytes\":%zu,"
			"\"most_bytes\":%zu,\"mapped_bytes\":%zu,\"anonymous_bytes\":%zu,\"bursts_bytes\":%zu}\n",
			what, b->backend, held, m->most, m->mapped, m->anonymous, m->shared);
	else
		fprintf(b->out, "memory/%-18s %s at most; files %s, its own %s%s%s\n", what,
			fr_size_text(m->most, text[0], sizeof text[0]),
			fr_size_text(m->mapped, text[1], sizeof text[1]),
			fr_size_text(m->anonymous, text[2], sizeof text[2]), m->shared ? ", bursts of reading " : "",
			m->shared ? fr_size_text(m->shared, text[3], sizeof text[3]) : "");
	fflush(b->out);
}

void fr_stages_say_own_memory(const struct fr_stages *b, const char *what)
{
	struct fr_process_memory now;

	fr_process_memory(0, &now);
	fr_stages_say_memory(b, what, &now, b->s->dev->held);
	fr_process_forget_most();
}

void fr_stages_say_cached(const struct fr_stages *b, double share)
{
	char text[32] = "null";

	if (share >= 0)
		snprintf(text, sizeof text, b->opts->json ? "%.4f" : "%.1f %%", b->opts->json ? share : 100 * share);
	if (b->opts->json)
		fprintf(b->out, "{\"bench\":\"model\",\"what\":\"cached\",\"share\":%s}\n", text);
	else if (share >= 0)
		fprintf(b->out,
			"whole runs from here, each a process of its own; %s of the decoder's weights are in the page "
			"cache\n",
			text);
	fflush(b->out);
}

void fr_stages_say_left_out(const struct fr_stages *b, const char *name, const char *why)
{
	if (b->opts->json) {
		fprintf(b->out, "{\"bench\":\"model\",\"what\":\"left out\",\"name\":\"%s\",\"why\":", name);
		fr_bench_quote(b->out, why);
		fprintf(b->out, "}\n");
	} else {
		fprintf(b->out, "%-18s left out: %s\n", name, why);
	}
	fflush(b->out);
}
