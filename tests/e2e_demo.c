/* The golden of record: the embedded demo model on the sample images against transformers in float32.
 *
 * Prompt ids, answer ids and text exact; logits after the prompt, verdict logits and P(fake) agreed (bounds:
 * tests/golden.h); for the first picture the last row of every tap. Made by tests/oracle/demo.py. */
#include "../kernels/cpu/cpu.h"
#include "e2e_demo.h"

int main(void)
{
	struct golden want;
	struct fr_error err;
	int avx2;

	if (golden_open("tests/golden/demo/golden.safetensors", &want, &err)) {
		test_fail("agreed/demo/golden", "%s", err.text);
		return test_done();
	}
	/* The plain loops take a second for a picture; where they are not all there is, two pictures will do, since
	 * tests/e2e.c compares the levels bit for bit. */
	avx2 = fr_level_found() >= FR_LEVEL_AVX2;
	run_level(&want, "ref", &(struct fr_session_opts){.backend = "cpu", .isa = "ref", .kv_f32 = 1}, 1,
		  avx2 ? 2 : INT_MAX);
	if (avx2)
		run_level(&want, "avx2", &(struct fr_session_opts){.backend = "cpu", .isa = "avx2", .kv_f32 = 1}, 1,
			  INT_MAX);
	else
		test_skip("agreed/demo/avx2", "this CPU lacks the level");
	golden_close(&want);
	return test_done();
}
