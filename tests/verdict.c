/* From logits to a verdict and from logits to a token: the calibration head, the threshold and the band, the authors'
 * text rule with its trap, and the sampler. */
#include "test.h"

#include "../engine/session.h"

static void check_head(void)
{
	struct fr_calibration plain = {.temperature = 1}, cpm = {.temperature = 10},
			      fitted = {.temperature = 2, .bias = -0.5};
	double p = fr_p_fake(&plain, 1.0f, 3.0f), q = fr_p_fake(&cpm, 1.0f, 3.0f), r = fr_p_fake(&fitted, 1.0f, 3.0f);

	/* grade bounded: libm's exp and ours are each within 1e-15 relative */
	CHECK("bounded/p_fake is the two-way softmax", fabs(p - 1 / (1 + exp(-2.0))) < 4e-15, "got %.17g", p);
	CHECK("bounded/p_fake divides by the temperature", fabs(q - 1 / (1 + exp(-0.2))) < 4e-15, "got %.17g", q);
	CHECK("bounded/p_fake adds the bias", fabs(r - 1 / (1 + exp(-0.5))) < 4e-15, "got %.17g", r);
	CHECK("exact/p_fake of equal logits is one half", fr_p_fake(&plain, -7.25f, -7.25f) == 0.5, "not 0.5");
	p = fr_p_fake(&plain, 0, 1e4f);
	q = fr_p_fake(&plain, 1e4f, 0);
	CHECK("exact/p_fake saturates without leaving [0, 1]", p == 1 && q >= 0 && q < 1e-300, "got %g and %g", p, q);
	for (double d = -30; d <= 30; d += 0.37) {
		double got = fr_p_fake(&plain, 0, (float)d), want = 1 / (1 + exp(-(double)(float)d));
		if (fabs(got - want) > 4e-15 * want) {
			test_fail("bounded/p_fake over the range", "at %g got %.17g, want %.17g", d, got, want);
			return;
		}
	}
	test_ok("bounded/p_fake over the range");
}

static void check_threshold(void)
{
	struct fr_session_opts o = {.threshold = 0.5};

	CHECK("exact/threshold is inclusive for fake", fr_verdict_of(&o, 0.5) == FR_FAKE, "0.5 is not fake");
	CHECK("exact/below the threshold is real", fr_verdict_of(&o, 0.4999999) == FR_REAL, "is not real");
	o.band_lo = 0.3;
	o.band_hi = 0.7;
	CHECK("exact/band includes its low end", fr_verdict_of(&o, 0.3) == FR_INCONCLUSIVE, "0.3 is not inconclusive");
	CHECK("exact/band excludes its high end", fr_verdict_of(&o, 0.7) == FR_FAKE, "0.7 is not fake");
	CHECK("exact/below the band is real", fr_verdict_of(&o, 0.29) == FR_REAL, "0.29 is not real");
	CHECK("exact/verdict names",
	      !fr_verdict_name(FR_NONE) && !strcmp(fr_verdict_name(FR_INCONCLUSIVE), "inconclusive"), "wrong");
}

static void check_rule(void)
{
	static const struct {
		const char *text;
		enum fr_verdict want;
	} cases[] = {
		{"This image is fake. The edges melt.", FR_FAKE},
		{"This image is real. Nothing is fake here.", FR_REAL},
		{"An unrealistic, fake image.", FR_REAL}, /* the released rule's trap, kept */
		{"Look closely. It is FAKE.", FR_FAKE},
		{"Look closely. Look again. It is fake.", FR_UNPARSED}, /* only two sentences are read */
		{"", FR_UNPARSED},
		{".", FR_UNPARSED},
		{"fak", FR_UNPARSED},
		{"no full stop but fake", FR_FAKE},
	};
	char name[96];

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		snprintf(name, sizeof name, "exact/authors' rule: '%s'", cases[i].text);
		CHECK(name, fr_text_verdict(FR_RULE_SENTENCES, cases[i].text, strlen(cases[i].text)) == cases[i].want,
		      "got %d", (int)fr_text_verdict(FR_RULE_SENTENCES, cases[i].text, strlen(cases[i].text)));
	}
}

/* Each model's own rule: tests/answer.c has the cases of the other. */
static void check_rules(void)
{
	static const char text[] =
		"<REASONING> It looks real. </REASONING><CONCLUSION> This image is fake.</CONCLUSION>";

	CHECK("exact/rules differ by the model",
	      fr_text_verdict(FR_RULE_SENTENCES, text, sizeof text - 1) == FR_REAL &&
		      fr_text_verdict(FR_RULE_CONCLUSION, text, sizeof text - 1) == FR_FAKE,
	      "they do not");
}

static void check_sampler(void)
{
	const float logits[6] = {1.0f, 3.0f, 3.0f, -2.0f, 2.0f, 0.0f};
	struct fr_candidate room[6];
	struct fr_sampler greedy = {.top_p = 1}, one = {.temperature = 1, .top_k = 1, .top_p = 1},
			  cold = {.temperature = 1e-42f, .top_p = 1}, tiny = {.temperature = 1, .top_p = 1e-6f},
			  two = {.temperature = 1, .top_p = 0.6f}, all = {.temperature = 1, .top_p = 1};
	struct fr_rng a, b;
	int count[6] = {0}, same = 1, outside = 0;
	const int draws = 20000;
	double sum = 0;

	CHECK("exact/greedy takes the lowest id on ties", fr_pick_row(logits, 6, &greedy, 0, NULL) == 1, "not 1");
	fr_rng_init(&a, 7, "00112233445566778899");
	CHECK("exact/top-k 1 is greedy", fr_pick_row(logits, 6, &one, fr_rng_draw(&a), room) == 1, "not 1");
	CHECK("exact/a tiny top-p is greedy", fr_pick_row(logits, 6, &tiny, fr_rng_draw(&a), room) == 1, "not 1");
	for (int i = 0; i < 20; i++) {
		int32_t id = fr_pick_row(logits, 6, &cold, fr_rng_draw(&a), room);
		outside += id != 1 && id != 2;
	}
	CHECK("exact/the smallest temperature draws among the best alone", outside == 0, "%d of 20 outside", outside);
	outside = 0;
	for (int i = 0; i < 200; i++) {
		int32_t id = fr_pick_row(logits, 6, &two, fr_rng_draw(&a), room);
		outside += id != 1 && id != 2;
	}
	CHECK("exact/top-p keeps the smallest set that reaches it", outside == 0, "%d of 200 outside", outside);

	fr_rng_init(&a, 7, "00112233445566778899");
	fr_rng_init(&b, 7, "00112233445566778899");
	for (int i = 0; i < 100; i++)
		same &= fr_pick_row(logits, 6, &all, fr_rng_draw(&a), room) ==
			fr_pick_row(logits, 6, &all, fr_rng_draw(&b), room);
	CHECK("exact/the same seed and image draw the same", same, "they differ");
	for (int i = 0; i < draws; i++)
		count[fr_pick_row(logits, 6, &all, fr_rng_draw(&a), room)]++;
	for (int i = 0; i < 6; i++)
		sum += exp((double)logits[i]);
	/* each count is binomial: five standard deviations, and the draws are seeded, so this passes or fails for good
	 */
	for (int i = 0; i < 6; i++) {
		double p = exp((double)logits[i]) / sum, sd = sqrt(draws * p * (1 - p));
		if (fabs(count[i] - draws * p) > 5 * sd) {
			test_fail("bounded/draws follow the softmax", "id %d drawn %d times, expected %.0f +- %.0f", i,
				  count[i], draws * p, 5 * sd);
			return;
		}
	}
	test_ok("bounded/draws follow the softmax");
}

int main(void)
{
	check_head();
	check_threshold();
	check_rule();
	check_rules();
	check_sampler();
	return test_done();
}
