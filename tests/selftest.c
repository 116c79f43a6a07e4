/* The self-test where this machine may lack a level: at amx, by the tile unit in software, it finds the known answers
 * that ref computed, and a unit with other bits is found and named. */
#include "../engine/session.h"
#include "test.h"
#include "tile_host/tile_host.h"

#include <stdlib.h>

/* Runs the self-test of amx; its lines in *lines, for free(). */
static int run(char **lines)
{
	size_t size = 0;
	FILE *out;
	int failed;

	*lines = NULL;
	out = open_memstream(lines, &size);
	if (!out)
		return -1;
	failed = fr_selftest_at("amx", out);
	fclose(out);
	return failed;
}

int main(void)
{
	char *lines = NULL;
	int failed;

	if (tile_host_install() < 0) {
		test_skip("exact/selftest/amx", "this CPU lacks what the kernels around the tiles need");
		return test_done();
	}
	failed = run(&lines);
	CHECK("exact/selftest/amx",
	      failed == 0 && lines && strstr(lines, "ok unit/amx\n") && strstr(lines, "ok kernels/amx/linear_bf16/") &&
		      strstr(lines, "ok demo/amx\n") && !strstr(lines, "FAIL") && !strstr(lines, "skip"),
	      "%d failed: %s", failed, lines ? lines : "no memory");
	free(lines);
	if (tile_host_software()) /* the real unit does not depart */
		return test_done();
	tile_host_depart(2);
	failed = run(&lines);
	CHECK("exact/selftest/other-bits",
	      failed > 0 && lines && strstr(lines, "FAIL unit/amx: ") && strstr(lines, "\"isa\": \"amx+other\"") &&
		      strstr(lines, "FAIL kernels/amx/linear_bf16/"),
	      "%d failed: %s", failed, lines ? lines : "no memory");
	free(lines);
	return test_done();
}
