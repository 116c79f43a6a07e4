/* fr_diff: what counts as beyond, in which order, and how it is told. */
#include "../engine/fr.h"
#include "files.h"
#include "test.h"

#define T(name, dtype, shape, a, b)                                                                                    \
	"\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" #a "," #b "]}"
#define HEADER                                                                                                         \
	"{" T("z.first", "F32", "[2,2]", 0, 16) "," T("a.second", "F32", "[2]", 16, 24) "," T("ids", "I32", "[3]", 24, \
											      36) "}"

static char report[4096];

/* Writes both sides, data [36] each, and compares; the report is in report[]. */
static int diff(const char *header_a, const void *a, const char *header_b, const void *b, double rel)
{
	const char *path_a = files_path("a.safetensors"), *path_b = files_path("b.safetensors");
	struct fr_error err = {FR_OK, ""};
	size_t size_a, size_b;
	uint8_t *bytes_a = files_safetensors(header_a, 36, &size_a),
		*bytes_b = files_safetensors(header_b, 36, &size_b);
	FILE *out = tmpfile();
	int rc;

	memcpy(bytes_a + size_a - 36, a, 36);
	memcpy(bytes_b + size_b - 36, b, 36);
	files_put("a.safetensors", bytes_a, size_a);
	files_put("b.safetensors", bytes_b, size_b);
	free(bytes_a);
	free(bytes_b);
	rc = fr_diff(path_a, path_b, rel, out, &err);
	rewind(out);
	report[fread(report, 1, sizeof report - 1, out)] = 0;
	fclose(out);
	return rc;
}

struct data {
	float first[4], second[2];
	int32_t ids[3];
};
static const struct data base = {{3, 0, 0, 4}, {1, 2}, {1, 2, 3}};

int main(void)
{
	struct data d = base;
	struct fr_error err;
	int rc = diff(HEADER, &base, HEADER, &base, 0);

	CHECK("exact/diff: equal files are within 0", rc == 0 && strstr(report, "all that both have is within 0"),
	      "rc %d\n%s", rc, report);
	d.first[2] = 0.005f; /* |b| is 5 but for 5e-6 of it, so rel-L2 is 0.001 */
	rc = diff(HEADER, &base, HEADER, &d, 0.002);
	CHECK("exact/diff: max-abs, rel-L2 and the place",
	      rc == 0 && strstr(report, "z.first") && strstr(report, "max-abs 0.005 ") &&
		      strstr(report, "rel-L2 0.001 ") && strstr(report, "worst [1, 0]"),
	      "rc %d\n%s", rc, report);
	d.second[1] = 9;
	rc = diff(HEADER, &base, HEADER, &d, 0.0005);
	CHECK("exact/diff: the first beyond is the first in the data, not in the alphabet",
	      rc == 1 && strstr(report, "first beyond 0.0005: z.first"), "rc %d\n%s", rc, report);
	d = base;
	d.ids[1] = 7;
	rc = diff(HEADER, &base, HEADER, &d, 1e9);
	CHECK("exact/diff: ids are equal or beyond",
	      rc == 1 && strstr(report, "1 of 3 differ, first [1]") && strstr(report, "first beyond 1e+09: ids"),
	      "rc %d\n%s", rc, report);
	d = base;
	d.second[0] = NAN;
	rc = diff(HEADER, &d, HEADER, &d, 1e9);
	CHECK("exact/diff: a value that is not finite is beyond on both sides too",
	      rc == 1 && strstr(report, "not finite: nan and nan at [0]"), "rc %d\n%s", rc, report);
	rc = diff(HEADER, &base, "{" T("z.first", "F32", "[4]", 0, 16) "," T("other", "U8", "[20]", 16, 36) "}", &base,
		  0);
	CHECK("exact/diff: names and shapes that do not match are 2",
	      rc == 2 && strstr(report, "shapes differ: [2, 2] and [4]") && strstr(report, "only in the first file") &&
		      strstr(report, "only in the second file") && strstr(report, "4 names or shapes do not match"),
	      "rc %d\n%s", rc, report);
	rc = diff("{" T("x", "I64", "[2]", 0, 16) "," T("y", "U8", "[20]", 16, 36) "}",
		  "\1\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0ABCDEFGHIJKLMNOPQRS",
		  "{" T("x", "I32", "[2]", 0, 8) "," T("y", "U8", "[20]", 8, 28) "," T("w", "U8", "[8]", 28, 36) "}",
		  "\1\0\0\0\2\0\0\0ABCDEFGHIJKLMNOPQRS\0........", 0);
	CHECK("exact/diff: integers of two widths compare by value",
	      rc == 2 && strstr(report, "0 of 2 differ") && strstr(report, "0 of 20 differ"), "rc %d\n%s", rc, report);
	rc = fr_diff(files_path("none"), files_path("none"), 0, stdout, &err);
	CHECK("exact/diff: a file that is not there is a sentence", rc == -1 && err.code == FR_E_IO, "rc %d", rc);
	rc = fr_diff(files_text("text", "no safetensors"), files_path("none"), 0, stdout, &err);
	CHECK("exact/diff: a file that is no dump is a sentence", rc == -1 && strstr(err.text, "text: "), "rc %d %s",
	      rc, err.text);
	return test_done();
}
