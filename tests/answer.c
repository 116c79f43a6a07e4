/* The authors' rule for FakeReasoning's answers, and the parts of an answer that speak of each attribute. */
#include "test.h"

#include "../engine/answer.h"

static void check_rule(void)
{
	static const struct {
		const char *text;
		enum fr_verdict want;
	} cases[] = {
		{"<REASONING> Odd. </REASONING><CONCLUSION> This image is fake.</CONCLUSION>", FR_FAKE},
		{"<REASONING> Fine. </REASONING>\n<CONCLUSION>\nThis image is real.\n</CONCLUSION>", FR_REAL},
		{"<REASONING></REASONING><CONCLUSION>This image is fake. No: This image is real.</CONCLUSION>",
		 FR_FAKE},
		{"<REASONING></REASONING><CONCLUSION>This image is real. No: This image is fake.</CONCLUSION>",
		 FR_FAKE},
		{"<CONCLUSION> This image is fake.</CONCLUSION><REASONING></REASONING>", FR_FAKE},
		{"<REASONING></REASONING><CONCLUSION>this image is fake.</CONCLUSION>", FR_UNPARSED},
		{"<REASONING></REASONING><CONCLUSION> This image is fake</CONCLUSION>", FR_UNPARSED},
		{"<REASONING></REASONING><CONCLUSION> This image is fake.", FR_UNPARSED},
		{"<REASONING> Odd. <CONCLUSION> This image is fake.</CONCLUSION>", FR_UNPARSED},
		{"<CONCLUSION> This image is fake.</CONCLUSION>", FR_UNPARSED},
		{"<REASONING> This image is fake. </REASONING><CONCLUSION> Odd.</CONCLUSION>", FR_UNPARSED},
		{"<REASONING></REASONING><CONCLUSION></CONCLUSION> This image is fake.", FR_UNPARSED},
		{"<REASONING></REASONING><CONCLUSION>?</CONCLUSION><CONCLUSION>This image is fake.</CONCLUSION>",
		 FR_UNPARSED},
		{"</CONCLUSION></REASONING><REASONING><CONCLUSION>", FR_UNPARSED},
		{"", FR_UNPARSED},
	};
	char name[160];

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		snprintf(name, sizeof name, "exact/answer/rule: '%s'", cases[i].text);
		for (char *c = name; *c; c++)
			*c = *c == '\n' ? ' ' : *c;
		CHECK(name, fr_answer_verdict(cases[i].text, strlen(cases[i].text)) == cases[i].want, "got %d",
		      (int)fr_answer_verdict(cases[i].text, strlen(cases[i].text)));
	}
}

/* want: light, edges, texture, quality, semantic; NULL: nothing. */
static void check_parts(const char *name, const char *text, const char *const want[FR_ATTRIBUTES])
{
	struct fr_attribute got[FR_ATTRIBUTES];
	const size_t len = strlen(text);
	char *exact = malloc(len); /* so that a byte read beyond the text is seen */
	char label[160];

	memcpy(exact, text, len);
	fr_answer_attributes(exact, len, got);
	for (int i = 0; i < FR_ATTRIBUTES; i++) {
		const size_t n = want[i] ? strlen(want[i]) : 0;
		snprintf(label, sizeof label, "exact/answer/%s: %s", name, fr_attribute_name(i));
		CHECK(label,
		      got[i].len == n && got[i].name == fr_attribute_name(i) &&
			      (!n || !memcmp(exact + got[i].at, want[i], n)),
		      "got '%.*s'", (int)got[i].len, got[i].len ? exact + got[i].at : "");
	}
	free(exact);
}
#define PARTS(name, text, ...) check_parts(name, text, (const char *const[FR_ATTRIBUTES]){__VA_ARGS__})

static void check_attributes(void)
{
	PARTS("the authors' names as headings",
	      "<REASONING> Inconsistent Lighting and Shadows: The cup's shadow is missing. It should fall left.\n"
	      "Irregular Image Edges: The rim melts.\nAnomalous Image Texture: Skin like wax.\nLow Image Quality: "
	      "Blurred "
	      "hands.\nSemantic Irrationality: Six fingers. </REASONING><CONCLUSION> This image is fake.</CONCLUSION>",
	      "The cup's shadow is missing. It should fall left.", "The rim melts.", "Skin like wax.", "Blurred hands.",
	      "Six fingers.");
	PARTS("headings in one paragraph, other order, one missing",
	      "<REASONING> Semantic Rationality: A dog in a park. Consistent Lighting and Shadows: One sun. High Image "
	      "Quality: Sharp. Smooth and Natural Image Edges: Clean outlines.</REASONING>",
	      "One sun.", "Clean outlines.", NULL, "Sharp.", "A dog in a park.");
	PARTS("lists, emphasis and headings on their own lines",
	      "<REASONING>\n**Low-level**:\n1. **Lighting and shadows:** too even\n- *Edges*: soft\n### Image "
	      "texture\nplastic "
	      "all over\nHigh-level:\n2) Semantic rationality: fine\nOverall: odd.\n</REASONING>",
	      "too even", "soft", "plastic all over", NULL, "fine");
	PARTS("sentences",
	      "<REASONING> A man holds a cup. The lighting is flat. It comes from nowhere. The edges of the shadows "
	      "blur! The "
	      "texture of the skin is waxy, and its quality low. What is the cup for? The scene makes no logical "
	      "sense. "
	      "</REASONING><CONCLUSION> This image is fake.</CONCLUSION>",
	      "The lighting is flat. It comes from nowhere.", "The edges of the shadows blur!",
	      "The texture of the skin is waxy, and its quality low. What is the cup for?", NULL,
	      "The scene makes no logical sense.");
	PARTS("a paragraph each; a later sentence on the same is left out",
	      "<REASONING> The shadows are wrong: they fall to the sun.\nNobody is there.\nTextures repeat.\nThe "
	      "lighting "
	      "is odd "
	      "too.</REASONING>",
	      "The shadows are wrong: they fall to the sun.", NULL, "Textures repeat.", NULL, NULL);
	PARTS("cut off", "<REASONING> The lighting is flat. Its edges", "The lighting is flat.", "Its edges", NULL,
	      NULL, NULL);
	PARTS("without tags", "Lighting: flat. Texture: waxy.<CONCLUSION> quality", "flat.", NULL, "waxy.", NULL, NULL);
	PARTS("the conclusion is no part of it", "<CONCLUSION> The lighting is real.</CONCLUSION>", NULL, NULL, NULL,
	      NULL, NULL);
	PARTS("words that only look alike", "<REASONING>A highlight, slightly delighted, knowledge.</REASONING>", NULL,
	      NULL, NULL, NULL, NULL);
	PARTS("a description in front",
	      "<REASONING> A woman in a light blue dress stands at the edge of a lake. The lighting is flat. The edges "
	      "of "
	      "her hair blur.</REASONING>",
	      "The lighting is flat.", "The edges of her hair blur.", NULL, NULL, NULL);
	PARTS("a heading without a section", "<REASONING> Edges:</REASONING>", NULL, NULL, NULL, NULL, NULL);
	PARTS("a heading twice", "<REASONING>Edges: one.\nTexture: two.\nEdges: three.</REASONING>", NULL, "one.",
	      "two.", NULL, NULL);
	PARTS("nothing", "", NULL, NULL, NULL, NULL, NULL);
	CHECK("exact/answer/there are five names",
	      fr_attribute_name(4) && !fr_attribute_name(5) && !fr_attribute_name(-1), "another number");
}

int main(void)
{
	check_rule();
	check_attributes();
	return test_done();
}
