/* The choice of an instruction-set level on machines that this one is not: the sentence names what is there. */
#include "../kernels/cpu/cpu.h"
#include "test.h"

static const struct {
	const char *name, *isa;
	enum fr_level found;
	int rc;
	enum fr_code code;
	enum fr_level level; /* chosen, when rc is 0 */
	const char *says;    /* part of the sentence, otherwise */
} cases[] = {
	{"best/old_cpu", NULL, FR_LEVEL_REF, 0, FR_OK, FR_LEVEL_REF, NULL},
	{"best/avx2", NULL, FR_LEVEL_AVX2, 0, FR_OK, FR_LEVEL_AVX2, NULL},
	{"best/avx512", NULL, FR_LEVEL_AVX512, 0, FR_OK, FR_LEVEL_AVX512, NULL},
	{"best/avx512bf16", NULL, FR_LEVEL_AVX512BF16, 0, FR_OK, FR_LEVEL_AVX512, NULL}, /* never unasked: it rounds */
	{"best/amx_without_kernels", NULL, FR_LEVEL_AMX, 0, FR_OK, FR_LEVEL_AVX512, NULL},
	{"lowered/cpu-ref", "cpu-ref", FR_LEVEL_AMX, 0, FR_OK, FR_LEVEL_REF, NULL},
	{"lowered/ref", "ref", FR_LEVEL_AVX2, 0, FR_OK, FR_LEVEL_REF, NULL},
	{"lowered/avx2", "avx2", FR_LEVEL_AVX512, 0, FR_OK, FR_LEVEL_AVX2, NULL},
	{"lowered/avx512", "avx512", FR_LEVEL_AMX, 0, FR_OK, FR_LEVEL_AVX512, NULL},
	{"absent/avx2", "avx2", FR_LEVEL_REF, -1, FR_E_DEVICE, 0, "this CPU has no avx2, it has ref"},
	{"absent/avx512", "avx512", FR_LEVEL_AVX2, -1, FR_E_DEVICE, 0, "this CPU has no avx512, it has ref, avx2"},
	{"absent/amx", "amx", FR_LEVEL_AVX512BF16, -1, FR_E_DEVICE, 0, "it has ref, avx2, avx512, avx512bf16"},
	{"absent/avx512bf16", "avx512bf16", FR_LEVEL_AVX512, -1, FR_E_DEVICE, 0,
	 "this CPU has no avx512bf16, it has ref, avx2, avx512"},
	{"asked/avx512bf16", "avx512bf16", FR_LEVEL_AVX512BF16, 0, FR_OK, FR_LEVEL_AVX512BF16, NULL},
	{"lowered/avx512bf16", "avx512bf16", FR_LEVEL_AMX, 0, FR_OK, FR_LEVEL_AVX512BF16, NULL},
	{"unwritten/amx", "amx", FR_LEVEL_AMX, -1, FR_E_DEVICE, 0,
	 "no kernels for it yet; it has ref, avx2, avx512, avx512bf16"},
	{"unknown", "sse9", FR_LEVEL_AMX, -1, FR_E_USAGE, 0, "expected one of ref, avx2, avx512, avx512bf16, amx"},
};

int main(void)
{
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct fr_error err = {0};
		enum fr_level level = FR_LEVELS;
		char name[64];
		int rc = fr_level_choose(cases[i].isa, cases[i].found, &level, &err);
		int right = rc == cases[i].rc && err.code == cases[i].code;

		if (right && rc == 0)
			right = level == cases[i].level;
		else if (right)
			right = strstr(err.text, cases[i].says) != NULL;
		snprintf(name, sizeof name, "exact/level.%s", cases[i].name);
		CHECK(name, right, "returned %d, code %s, level %d: %s", rc, fr_code_name(err.code), (int)level,
		      err.text);
	}
	return test_done();
}
