/* fr-run --version: what was built, from what, with what, and what this machine offers. */
#include "cli.h"

#include "commit.h" /* made by the build: FR_COMMIT */

#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>
#include <jpeglib.h>
#include <webp/decode.h>

#define TEXT(x) #x
#define SPELL(x) TEXT(x)

void version_print(FILE *out, const char *isa)
{
	const int webp = WebPGetDecoderVersion();
	char machine[512], gpu[1024];

	fprintf(out, "fr-run %s (commit %s)\n", FR_VERSION, FR_COMMIT);
#ifdef __clang__
	fprintf(out, "compiler: %s\n", __VERSION__);
#else
	fprintf(out, "compiler: gcc %s\n", __VERSION__);
#endif
	if (fr_machine(isa, machine, sizeof machine) == 0)
		fprintf(out, "machine: %s\n", machine);
	fprintf(out, "backends: %s\n", fr_backends(machine, sizeof machine));
	if (strstr(machine, "cuda"))
		fprintf(out, "gpu: %s%s\n", fr_gpu(gpu, sizeof gpu) ? "none; " : "", gpu);
	fprintf(out, "images: libjpeg-turbo %s, libwebp %d.%d.%d, stb_image, stb_image_write; JSON: cJSON %s\n",
		SPELL(LIBJPEG_TURBO_VERSION), webp >> 16, webp >> 8 & 255, webp & 255, cJSON_Version());
	fprintf(out, "models: FakeVLM (LLaVA-1.5), FakeReasoning, and demo inside the program\n");
}
