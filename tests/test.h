/* The test runner in one header. A test program has cases; each case prints one line:
 *     ok NAME     FAIL NAME: why     skip NAME: why
 * and main returns test_done(). tests/run.sh runs the programs and adds up the lines into the closing
 * `N passed, N failed, N skipped`. Declare the grade of each case in its name: exact/, bounded/ or agreed/. */
#ifndef FR_TEST_H
#define FR_TEST_H

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int test_n_ok, test_n_fail, test_n_skip;

static inline void test_ok(const char *name)
{
	test_n_ok++;
	printf("ok %s\n", name);
}
__attribute__((format(printf, 2, 3))) static inline void test_fail(const char *name, const char *format, ...)
{
	va_list ap;
	test_n_fail++;
	printf("FAIL %s: ", name);
	va_start(ap, format);
	vprintf(format, ap);
	va_end(ap);
	printf("\n");
}
static inline void test_skip(const char *name, const char *why)
{
	test_n_skip++;
	printf("skip %s: %s\n", name, why);
}
/* CHECK(name, cond, format, ...): one case. */
#define CHECK(name, cond, ...)                                                                                         \
	do {                                                                                                           \
		if (cond)                                                                                              \
			test_ok(name);                                                                                 \
		else                                                                                                   \
			test_fail(name, __VA_ARGS__);                                                                  \
	} while (0)
static inline int test_done(void)
{
	fflush(stdout);
	return test_n_fail ? 1 : 0;
}
#endif
