/* What a session says of itself. */
#include "session.h"

void fr_session_plan(const struct fr_session *s, FILE *out)
{
	const struct fr_needs *n = &s->needs;
	const char *where = s->dev->maps ? "" : "device ", *whose = s->dev->device ? s->dev->device : "this machine";
	char all[32], weights[32], plan[32], room[32], total[32], host[32];

	fr_plan_print(&s->plan, out);
	if (!n->total)
		return;
	fprintf(out, "%smemory: weights %s and buffers %s are %s of %s free, %s in all (%s)\n", where,
		fr_size_text(n->weights.device, weights, sizeof weights), fr_size_text(n->plan, plan, sizeof plan),
		fr_size_text(n->weights.device + n->plan, all, sizeof all), fr_size_text(n->free, room, sizeof room),
		fr_size_text(n->total, total, sizeof total), whose);
	if (n->weights.host)
		fprintf(out, "host memory: the last %d of %d decoder layers, %s\n",
			s->model->desc.text.layers - s->device_layers, s->model->desc.text.layers,
			fr_size_text(n->weights.host, host, sizeof host));
	if (n->weights.mapped)
		fprintf(out, "mapped weights: %s, in the page cache as far as there is room\n",
			fr_size_text(n->weights.mapped, weights, sizeof weights));
}

const char *fr_session_backend(const struct fr_session *s)
{
	return s->dev->ops->name;
}

const char *fr_session_device(const struct fr_session *s)
{
	return s->dev->device;
}

int fr_session_batch(const struct fr_session *s)
{
	return s->o.batch;
}

struct fr_speculation fr_session_speculation(const struct fr_session *s)
{
	return s->spec;
}

const char *fr_session_passed_over(const struct fr_session *s)
{
	return s->dev->passed_over;
}

const char *fr_session_lowered(const struct fr_session *s)
{
	return s->dev->lowered;
}

const char *fr_session_streamed(const struct fr_session *s)
{
	return s->streamed;
}

const char *fr_session_isa(const struct fr_session *s)
{
	return s->dev->isa;
}

const char *fr_session_kv(const struct fr_session *s)
{
	return fr_dtypes[s->kv.dtype].name;
}

const char *fr_session_activations(const struct fr_session *s)
{
	return s->dev->activations;
}

int fr_session_prompts(const struct fr_session *s)
{
	return s->n_questions;
}

const char *fr_session_prompt(const struct fr_session *s, int i)
{
	return s->question[i].text;
}

const char *fr_session_chat(const struct fr_session *s)
{
	return s->chat;
}
