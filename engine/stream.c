/* Reading ahead and giving up, by a thread of its own: asking for a layer waits for the disk, and computing does not.
 * See stream.h.
 *
 * A layer that comes and goes costs two places: the one that is computed and the one that is read meanwhile. What only
 * images need comes and goes as well, in those places. */
#include "stream.h"

#include <pthread.h>
#include <stdlib.h>

enum act { FETCH, DROP };
struct order {
	enum act act;
	int part; /* a layer, or the number of layers: what images need */
};

struct fr_stream {
	const struct fr_model_desc *d;
	const struct fr_weights *w;
	int stay, passes;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct order *order; /* [cap], a ring */
	size_t cap, first, n;
	int ends;
};

/* The structs of weights are tensors all through. */
#define TENSORS(of) sizeof *(of) / sizeof(struct fr_tensor)

static size_t each(const void *tensors, size_t n, enum act act, int only_count)
{
	const struct fr_tensor *t = tensors;
	size_t sum = 0;

	for (size_t i = 0; i < n; i++) {
		sum += t[i].data ? t[i].bytes : 0;
		if (!only_count && t[i].data && act == FETCH)
			fr_map_fetch(t[i].data, t[i].bytes);
		if (!only_count && t[i].data && act == DROP)
			fr_map_drop(t[i].data, t[i].bytes);
	}
	return sum;
}

static size_t each_of_vision(const struct fr_model_desc *d, const struct fr_weights *w, enum act act, int only_count)
{
	size_t sum = each(&w->fusion, TENSORS(&w->fusion), act, only_count);

	for (int b = 0; b < d->n_branch; b++) {
		for (int i = 0; i < d->vit[b].run; i++)
			sum += each(&w->vit[b].layer[i], TENSORS(&w->vit[b].layer[i]), act, only_count);
		sum += each(&w->proj[b], TENSORS(&w->proj[b]), act, only_count);
	}
	return sum;
}

size_t fr_layer_bytes(const struct fr_weights *w, int layer)
{
	return each(&w->layer[layer], TENSORS(&w->layer[layer]), FETCH, 1);
}

size_t fr_vision_bytes(const struct fr_model_desc *d, const struct fr_weights *w)
{
	return each_of_vision(d, w, FETCH, 1);
}

size_t fr_common_bytes(const struct fr_weights *w)
{
	return w->lm_head.bytes;
}

int fr_layers_that_stay(const struct fr_model_desc *d, const struct fr_weights *w, size_t room)
{
	const size_t vision = fr_vision_bytes(d, w);
	size_t layers = 0, largest = 0, taken = fr_common_bytes(w);
	int n = 0;

	for (int i = 0; i < d->text.layers; i++) {
		const size_t bytes = fr_layer_bytes(w, i);
		layers += bytes;
		largest = bytes > largest ? bytes : largest;
	}
	if (taken + layers + vision <= room)
		return d->text.layers;
	taken += 2 * largest > vision ? 2 * largest : vision;
	while (n < d->text.layers && (taken += fr_layer_bytes(w, n)) <= room)
		n++;
	return n;
}

/* ---- the thread ---- */

static void carry_out(const struct fr_stream *s, struct order o)
{
	if (o.part == s->d->text.layers)
		each_of_vision(s->d, s->w, o.act, 0);
	else
		each(&s->w->layer[o.part], TENSORS(&s->w->layer[o.part]), o.act, 0);
}

static void *run(void *arg)
{
	struct fr_stream *s = arg;

	pthread_mutex_lock(&s->lock);
	while (!s->ends) {
		if (s->n == 0) {
			pthread_cond_wait(&s->changed, &s->lock);
			continue;
		}
		const struct order o = s->order[s->first];
		s->first = (s->first + 1) % s->cap;
		s->n--;
		pthread_mutex_unlock(&s->lock);
		carry_out(s, o);
		pthread_mutex_lock(&s->lock);
	}
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

/* An order that finds no place is left out: the disk is a whole pass behind then. */
static void give(struct fr_stream *s, enum act act, int part)
{
	pthread_mutex_lock(&s->lock);
	if (s->n < s->cap) {
		s->order[(s->first + s->n++) % s->cap] = (struct order){act, part};
		pthread_cond_signal(&s->changed);
	}
	pthread_mutex_unlock(&s->lock);
}

int fr_stream_open(const struct fr_model_desc *d, const struct fr_weights *w, int stay, struct fr_stream **out,
		   struct fr_error *err)
{
	struct fr_stream *s = calloc(1, sizeof *s);

	*out = NULL;
	if (!s)
		return fr_fail(err, FR_E_MEMORY, "no memory for an object of %zu bytes", sizeof *s);
	s->d = d;
	s->w = w;
	s->stay = stay;
	s->cap = 2 * (size_t)d->text.layers + 4;
	s->order = calloc(s->cap, sizeof *s->order);
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->changed, NULL);
	if (!s->order || pthread_create(&s->thread, NULL, run, s) != 0) {
		pthread_cond_destroy(&s->changed);
		pthread_mutex_destroy(&s->lock);
		free(s->order);
		free(s);
		return fr_fail(err, FR_E_MEMORY, "cannot start a thread to read weights ahead");
	}
	*out = s;
	return 0;
}

void fr_stream_close(struct fr_stream *s)
{
	if (!s)
		return;
	pthread_mutex_lock(&s->lock);
	s->ends = 1;
	pthread_cond_signal(&s->changed);
	pthread_mutex_unlock(&s->lock);
	pthread_join(s->thread, NULL);
	pthread_cond_destroy(&s->changed);
	pthread_mutex_destroy(&s->lock);
	free(s->order);
	free(s);
}

void fr_stream_settle(struct fr_stream *s, int stay)
{
	s->stay = stay;
}

void fr_stream_layer(struct fr_stream *s, int i)
{
	const int layers = s ? s->d->text.layers : 0;

	if (!s)
		return;
	if (i > s->stay)
		give(s, DROP, i - 1);
	if (i == layers)
		s->passes++;
	else if (i == 0 && s->stay > 0 && s->passes > 0) /* read while those that stay are computed */
		give(s, FETCH, s->stay);
	if (i + 1 < layers && (i >= s->stay || s->passes == 0))
		give(s, FETCH, i + 1);
}

void fr_stream_vision(struct fr_stream *s, int begins)
{
	if (s)
		give(s, begins ? FETCH : DROP, s->d->text.layers);
}
