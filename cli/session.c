/* From the values of the line to the options of a model and of a session. */
#include "cli.h"

#include <stdlib.h>
#include <string.h>

struct fr_model_opts model_options(const struct cli *c, const char *path)
{
	return (struct fr_model_opts){
		.path = path,
		.vision_tower = c->v.vision_tower,
		.dino = c->v.dino,
		.base = c->v.base,
		.spare_ok = options_origin(c, "vision-tower") != FROM_LINE && options_origin(c, "dino") != FROM_LINE &&
			    options_origin(c, "base") != FROM_LINE,
	};
}

/* auto, off or a number into *out. Prints its sentence; 0 or the exit code. */
static int speculate_option(const char *text, int *out)
{
	char *end;
	long n;

	*out = 0;
	if (!text || strcmp(text, "auto") == 0)
		return 0;
	*out = -1;
	if (strcmp(text, "off") == 0)
		return 0;
	n = strtol(text, &end, 10);
	if (!*text || *end || n < 1 || n > FR_MAX_SPECULATE)
		return complain(EXIT_USAGE, "--speculate: '%s' is not auto, off or a whole number from 1 to %d", text,
				FR_MAX_SPECULATE);
	*out = (int)n;
	return 0;
}

int session_options(const struct cli *c, const struct fr_model *model, struct fr_session_opts *o)
{
	const struct values *v = &c->v;
	struct fr_error err;

	*o = (struct fr_session_opts){
		.backend = v->backend,
		.isa = v->isa,
		.threads = v->threads,
		.batch = v->batch,
		.gpu_layers = v->gpu_layers < 0	   ? 0
			      : v->gpu_layers == 0 ? -1
						   : v->gpu_layers,
		.precise = v->precise,
		.no_cublas = v->no_cublas,
		.plan = v->verbose && !v->quiet ? stderr : NULL,
		.max_tokens = v->max_tokens < 0 ? 512 : v->max_tokens,
		.verdict_only = v->verdict_only,
		.kv_f32 = strcmp(v->kv, "f32") == 0,
		.authors_rule = strcmp(v->rule, "authors") == 0,
		.prompts = v->prompts.at,
		.n_prompts = v->prompts.n,
		.chat = v->chat,
		.ids_file = v->ids,
		.sampler = {.temperature = (float)v->temperature,
			    .top_k = v->top_k,
			    .top_p = (float)v->top_p,
			    .seed = v->seed},
		.threshold = v->threshold,
		.band_lo = v->band[0],
		.band_hi = v->band[1],
		.max_pixels = v->max_pixels,
		.heat = v->map != NULL,
		.draft_from = v->draft_from,
	};
	if (o->max_tokens == 0 && c->command->bit != C_DUMP)
		return complain(EXIT_USAGE,
				"--max-tokens: '0' is not a whole number from 1 (--verdict-only writes no text)");
	if (speculate_option(v->speculate, &o->speculate))
		return EXIT_USAGE;
	if (v->calibration && fr_calibration_load(v->calibration, model, &o->calibration, &err))
		return complain_error(&err);
	return 0;
}
