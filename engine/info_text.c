/* The report of `fr-run info` for people. */
#include "info.h"

#define MIB (1024.0 * 1024.0)

static void print_encoders(const struct fr_model_desc *d, FILE *out)
{
	for (int i = 0; i < FR_MAX_BRANCHES; i++) {
		const struct fr_vit_desc *v = &d->vit[i];
		const int side = v->patch ? v->image / v->patch : 0;

		if (!v->run)
			continue;
		fprintf(out,
			"%-12s %d of %d layers run, width %d, %d heads of %d, FFN %d %s, eps %g; %d x %d pixels in "
			"patches of %d: %d image tokens\n",
			v->role, v->run, v->layers, v->dim, v->heads, v->dim / v->heads, v->ffn, fr_info_act(v->act),
			(double)v->eps, v->image, v->image, v->patch, side * side);
		if (v->pos_side && v->pos_side != side)
			fprintf(out, "             positions of %d x %d patches, resized to %d x %d\n", v->pos_side,
				v->pos_side, side, side);
	}
	if (d->n_branch)
		fprintf(out, "projector    %d -> %d -> %d, %s%s\n", d->vit[0].dim, d->proj_dim, d->text.dim,
			fr_info_act(d->proj_act), d->n_branch > 1 ? ", one for each of the two" : "");
	if (d->fusion.heads)
		fprintf(out,
			"fusion       clip attends to dino: %d heads of %d, their bias %d -> %d -> %d from dino's last "
			"attention; FFN %d relu, eps %g\n",
			d->fusion.heads, d->text.dim / d->fusion.heads, d->fusion.heads, d->fusion.mid, d->fusion.heads,
			d->fusion.ffn, (double)d->fusion.eps);
}

static void print_decoder(const struct fr_text_desc *t, FILE *out)
{
	fprintf(out, "decoder      %d layers, width %d, %d heads of %d (%d for keys and values), FFN %d silu, eps %g\n",
		t->layers, t->dim, t->heads, t->head_dim, t->kv_heads, t->ffn, (double)t->eps);
	fprintf(out, "             vocabulary %d, %d positions, rope theta %g", t->vocab, t->max_pos, t->rope_theta);
	if (t->rope_factor != 1)
		fprintf(out, " scaled by %g", t->rope_factor);
	fprintf(out, "%s\n", t->tied ? ", output tied to the embeddings" : "");
	if (!t->lora_rank)
		return;
	fprintf(out, "adapter      LoRA of rank %d, scale %g, on", t->lora_rank, t->lora_scale);
	for (int i = 0; i < FR_LORAS; i++)
		if (t->lora >> i & 1)
			fprintf(out, " %s", fr_info_lora[i]);
	fputs("; kept beside the mapped base\n", out);
}

/* Where the parts are that lie elsewhere. */
static void print_extras(const struct fr_parts *p, FILE *out)
{
	char missing[4096];

	for (int i = 0; i < FR_EXTRAS; i++) {
		const struct fr_extra *x = &p->extra[i];

		if (x->path) {
			fprintf(out, "%-12s from %s\n", fr_extra_name((enum fr_extra_kind)i), x->path);
		} else if (x->wanted) {
			fr_extra_missing(x, (enum fr_extra_kind)i, missing, sizeof missing);
			fprintf(out, "%-12s %s\n", fr_extra_name((enum fr_extra_kind)i), missing);
		}
	}
}

/* A question as one line: its newlines as \n. */
static void print_question(const char *s, FILE *out)
{
	fputc('"', out);
	for (; *s; s++) {
		if (*s == '\n')
			fputs("\\n", out);
		else if ((unsigned char)*s < 0x20 || *s == 0x7f)
			fprintf(out, "\\x%02X", (unsigned char)*s);
		else
			fputc(*s, out);
	}
	fputs("\"\n", out);
}

static void print_words(const struct fr_model *m, FILE *out)
{
	const struct fr_prompt_desc *p = &m->desc.prompt;

	fprintf(out, "tokenizer    %s, %d pieces, bos %d, eos", fr_tokenizer_kind(m->tok), fr_tokenizer_count(m->tok),
		p->bos);
	for (int i = 0; i < p->n_eos; i++)
		fprintf(out, " %d", p->eos[i]);
	if (p->splice)
		fputs(", the text cut at <image>", out);
	else
		fprintf(out, ", <image> %d", p->image_id);
	fputc('\n', out);
	fprintf(out, "template     chat %s, question ", p->chat);
	print_question(p->question, out);
	fprintf(out, "verdict      after \"%s\" (", p->opening);
	for (int i = 0; i < m->n_opening; i++)
		fprintf(out, "%s%d", i ? " " : "", m->opening[i]);
	fprintf(out, ")%s: %s %d, %s %d; P(fake) = sigmoid((l_fake - l_real) / %g + %g)\n",
		p->reasoned ? " in its own text, and forced right after the prompt" : "", p->real, m->real_id, p->fake,
		m->fake_id, m->desc.cal_temperature, m->desc.cal_bias);
}

static void print_image(const struct fr_image_desc *d, FILE *out)
{
	fprintf(out, "preprocess   %s: %s %d %s, %s %d x %d, mean %.9g %.9g %.9g, std %.9g %.9g %.9g\n", d->id,
		d->fit == FR_FIT_PAD ? "pad to a square, edge to" : "shortest edge to", d->resize,
		fr_info_resample(d->resample), d->fit == FR_FIT_PAD ? "as" : "centre crop", d->crop, d->crop,
		(double)d->mean[0], (double)d->mean[1], (double)d->mean[2], (double)d->std[0], (double)d->std[1],
		(double)d->std[2]);
}

/* Files that are not the model's own have a heading. */
static const char *const store_names[FR_FROMS] = {
	[FR_FROM_TOWER] = "vision-tower",
	[FR_FROM_DINO] = "dino",
	[FR_FROM_TRAINED] = "trained beside the adapter",
	[FR_FROM_ADAPTER] = "adapter",
};

static void print_tensors(const struct fr_info *f, FILE *out)
{
	enum fr_from from = FR_FROM_MODEL;
	char shape[128];

	fputs("tensors\n", out);
	for (size_t i = 0; i < f->n_groups; i++) {
		const struct fr_info_group *g = &f->group[i];
		char times[32] = "";
		if (!g->asked)
			continue;
		if (g->from != from)
			fprintf(out, "tensors of %s\n", store_names[from = g->from]);
		if (g->count > 1)
			snprintf(times, sizeof times, "%zu x", g->count);
		fprintf(out, "  %5s %-5s %-18s %s\n", times, fr_dtypes[g->first->dtype].name,
			fr_shape_text(g->first->shape, g->first->ndim, shape, sizeof shape), g->name);
	}
	if (f->m->weights.unused)
		fprintf(out, "and %zu that are not needed (--json names them)\n", f->m->weights.unused);
	if (f->beyond)
		fprintf(out, "  and %zu more tensors of other shapes or names\n", f->beyond);
}

static const char *whose_batch(const struct fr_info *f)
{
	return f->o->batch ? "" : " (the default for as many images)";
}

/* The memory of a device that has its own. */
static void print_device(const struct fr_info *f, FILE *out)
{
	const struct fr_session *s = &f->session;
	const int layers = s->model->desc.text.layers;
	char text[32];

	fprintf(out, "memory       %s, %s: %s in all", s->dev->device, s->dev->isa,
		fr_size_text(s->needs.total, text, sizeof text));
	fprintf(out, ", %s free\n", fr_size_text(s->needs.free, text, sizeof text));
	fprintf(out, "             weights %s", fr_size_text(s->needs.weights.device, text, sizeof text));
	if (s->device_layers < layers)
		fprintf(out, ", and on the host the last %d of %d decoder layers, %s", layers - s->device_layers,
			layers, fr_size_text(s->needs.weights.host, text, sizeof text));
	fprintf(out, "\n             KV cache %s, %.2f KiB a position and sequence\n", f->o->kv_f32 ? "f32" : "f16",
		(double)f->kv_position / 1024);
	fprintf(out, "             KV cache, activations and work memory %s, for a batch of %d%s%s\n",
		fr_size_text(s->plan.total, text, sizeof text), s->o.batch, whose_batch(f),
		f->o->verdict_only ? ", the verdict only" : "");
	fprintf(out,
		"             %s together: ", fr_size_text(s->needs.weights.device + s->plan.total, text, sizeof text));
	fprintf(out, "%s\n", f->fits.code == FR_OK ? "fits" : f->fits.text);
	fr_plan_print(&s->plan, out);
}

/* Of memory that weights do not take because they are mapped. */
static void print_room(const struct fr_info *f, FILE *out)
{
	const struct fr_session *s = &f->session;
	char need[32], room[32], total[32];

	if (!s->needs.total)
		return;
	fprintf(out, "             %s besides the mapped weights, %s of %s free: %s\n",
		fr_size_text(s->needs.weights.device + s->needs.plan, need, sizeof need),
		fr_size_text(s->needs.free, room, sizeof room), fr_size_text(s->needs.total, total, sizeof total),
		f->fits.code == FR_OK ? "fits" : f->fits.text);
	if (*s->streamed)
		fprintf(out, "             %s\n", s->streamed);
}

static void print_memory(const struct fr_info *f, FILE *out)
{
	if (f->session.dev->device) {
		print_device(f, out);
		return;
	}
	fprintf(out, "memory       weights %.1f MiB, used where they are mapped", (double)f->bytes / MIB);
	if (f->n_copied)
		fprintf(out,
			"; copies of tensors that lie unaligned, in another order or are for another grid: %zu, %.1f "
			"MiB",
			f->n_copied, (double)f->copied / MIB);
	fprintf(out, "\n             KV cache %s, %.2f KiB a position and sequence\n", f->o->kv_f32 ? "f32" : "f16",
		(double)f->kv_position / 1024);
	fprintf(out, "             KV cache and activations %.1f MiB in all, for a batch of %d%s%s\n",
		(double)f->session.plan.total / MIB, f->session.o.batch, whose_batch(f),
		f->o->verdict_only ? ", the verdict only" : "");
	print_room(f, out);
}

/* "bf16", or of FakeReasoning, whose encoders have files of their own, "mixed (f32, f16)". */
static void print_dtype(const struct fr_info *f, FILE *out)
{
	int n = 0;

	fputs(f->m->weights.dtype, out);
	if (strcmp(f->m->weights.dtype, "mixed") != 0)
		return;
	for (int d = 0; d < FR_DTYPES; d++)
		for (size_t i = 0; i < f->n_groups; i++)
			if (f->group[i].asked && (int)f->group[i].first->dtype == d) {
				fprintf(out, "%s%s", n++ ? ", " : " (", fr_dtypes[d].name);
				break;
			}
	fputs(")", out);
}

void fr_info_text(const struct fr_info *f, FILE *out)
{
	const struct fr_model *m = f->m;
	const struct fr_weights *w = &m->weights;

	fprintf(out, "model        %s, %s, from %s\n", m->desc.name, m->desc.family, fr_source_path(m->parts.src));
	if (m->desc.demo)
		fputs("             DEMO: this model shows the machinery and is no detector for pictures from the "
		      "world\n",
		      out);
	fprintf(out, "hash         %s\n", m->hash);
	fputs("weights      ", out);
	print_dtype(f, out);
	fprintf(out, ", %zu tensors used, %zu not needed, %.1f MiB, names of %s\n", w->used, w->unused,
		(double)f->bytes / MIB, w->origin);
	print_extras(&m->parts, out);
	print_encoders(&m->desc, out);
	print_decoder(&m->desc.text, out);
	print_words(m, out);
	print_image(&m->desc.image, out);
	print_memory(f, out);
	fprintf(out, "engine       %s %s, activations %s, KV cache %s\n", f->session.dev->ops->name, f->session.dev->isa,
		f->session.dev->activations, f->o->kv_f32 ? "f32" : "f16");
	fprintf(out, "machine      %s\n", f->machine);
	if (f->checked)
		fputs("check        every weight is finite\n", out);
	print_tensors(f, out);
}

void fr_info_text_missing(const struct fr_parts *p, const struct fr_model_desc *d, FILE *out)
{
	fprintf(out, "model        %s: not complete, so it cannot run\n", fr_source_path(p->src));
	print_extras(p, out);
	print_encoders(d, out);
	if (d->text.dim)
		print_decoder(&d->text, out);
}
