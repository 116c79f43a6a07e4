/* Runs a fuzz target over files and folders of files without libFuzzer: what `make test` does with the corpora.
 *
 * usage: TARGET [FILE|DIR]... ; prints the number of inputs. Each input lies in a buffer of its exact size. */
#include "../../weights/weights.h"

#include <dirent.h>
#include <stdlib.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static int run_file(const char *path)
{
	struct fr_error err;
	const uint8_t *bytes;
	uint8_t *copy;
	size_t size;

	if (fr_map_open(path, &bytes, &size, &err) != 0) {
		fprintf(stderr, "%s\n", err.text);
		return -1;
	}
	copy = malloc(size + !size);
	if (!copy) {
		fr_map_close(bytes, size);
		return -1;
	}
	memcpy(copy, bytes, size);
	fr_map_close(bytes, size);
	fprintf(stderr, "%s\n", path); /* the last line names the input of a crash */
	LLVMFuzzerTestOneInput(copy, size);
	free(copy);
	return 0;
}

static int run_dir(const char *path, int *n)
{
	DIR *d = opendir(path);
	struct dirent *e;
	char file[4096];
	int rc = 0;

	while (d && rc == 0 && (e = readdir(d)))
		if (e->d_name[0] != '.') {
			snprintf(file, sizeof file, "%s/%s", path, e->d_name);
			rc = run_file(file);
			++*n;
		}
	if (!d)
		return -1;
	closedir(d);
	return rc;
}

int main(int argc, char **argv)
{
	int n = 0, rc = 0;
	struct stat st;

	for (int i = 1; i < argc && rc == 0; i++) {
		if (stat(argv[i], &st) == 0 && S_ISDIR(st.st_mode)) {
			rc = run_dir(argv[i], &n);
		} else {
			rc = run_file(argv[i]);
			n++;
		}
	}
	printf("%d\n", n);
	return rc ? 1 : 0;
}
