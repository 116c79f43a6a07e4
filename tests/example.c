/* The library in one screen: judge an image, print the explanation as it is written, then the verdict.
 *     cc example.c $(pkg-config --cflags --libs fr-run) -o example && ./example demo photo.jpg */
#include <fr.h>
#include <stdlib.h>

static int next(void *user, struct fr_job *job)
{
	*job = *(struct fr_job *)user;
	((struct fr_job *)user)->size = 0; /* there is just one */
	return job->size > 0;
}

static void text(void *user, size_t index, const char *utf8, size_t len)
{
	(void)user, (void)index;
	fwrite(utf8, 1, len, stdout);
	fflush(stdout);
}

static void result(void *user, const struct fr_result *r)
{
	(void)user;
	if (r->error.code != FR_OK)
		printf("error: %s\n", r->error.text);
	else if (!r->has_score)
		printf("\nno score: the text did not reach its conclusion\n");
	else
		printf("\n%s, P(fake) %.9g %scalibrated\n", fr_verdict_name(r->verdict), r->p_fake, r->calibrated ? "" : "un");
}

int main(int argc, char **argv)
{
	static uint8_t bytes[1 << 24];
	FILE *f = argc == 3 ? fopen(argv[2], "rb") : NULL;
	struct fr_job job = {.bytes = bytes, .size = f ? fread(bytes, 1, sizeof bytes, f) : 0};
	struct fr_io io = {.user = &job, .next = next, .text = text, .result = result};
	struct fr_model *model = NULL;
	struct fr_session *session = NULL;
	struct fr_error err = {FR_OK, "usage: example demo|DIR IMAGE"};
	int rc = !f || fr_model_load(&(struct fr_model_opts){.path = argv[1]}, &model, &err) ||
		 fr_session_new(model, &(struct fr_session_opts){0}, &session, &err) || fr_judge(session, &io, &err);

	if (rc)
		fprintf(stderr, "%s\n", err.text);
	fr_session_free(session);
	fr_model_free(model);
	return rc;
}
