/* How much memory of the host there is for this process: what the kernel says is available, and less where a control
 * group allows less.
 *
 * "Available" counts the page cache as free, which it is: mapped weights that no longer fit there are read again. So
 * does the figure for a control group: what its limit leaves beside what it uses, its file pages not counted. Every
 * group above the process's own has a say. Both hierarchies are looked at, v2 (memory.max) and v1
 * (memory.limit_in_bytes); inside a container the process's own path may not be there, and the mount's root is then its
 * group. */
#include "host.h"

#include <stdlib.h>

/* The whole small file below root as text, or "". */
static const char *read_text(const char *root, const char *path, char *buf, size_t size)
{
	char full[1024];
	FILE *f;
	size_t n = 0;

	snprintf(full, sizeof full, "%s%s", root, path);
	f = fopen(full, "r");
	if (f) {
		n = fread(buf, 1, size - 1, f);
		fclose(f);
	}
	buf[n] = 0;
	return buf;
}

/* The number behind a word at the start of a line; 0 without one. */
static size_t number_after(const char *text, const char *word)
{
	const size_t n = strlen(word);

	for (const char *line = text; line; line = strchr(line, '\n'), line += line != NULL)
		if (strncmp(line, word, n) == 0 && (line[n] == ' ' || line[n] == ':'))
			return strtoull(line + n + 1, NULL, 10);
	return 0;
}

struct hierarchy {
	const char *mount, *controller; /* of a line "N:CONTROLLERS:PATH" of /proc/self/cgroup */
	const char *limit, *usage, *file_pages[2];
};
static const struct hierarchy hierarchies[] = {
	{"/sys/fs/cgroup", "", "memory.max", "memory.current", {"inactive_file", "active_file"}},
	{"/sys/fs/cgroup/memory",
	 "memory",
	 "memory.limit_in_bytes",
	 "memory.usage_in_bytes",
	 {"total_inactive_file", "total_active_file"}},
};

/* The process's path in that hierarchy; "" when it is in none, "/" for the root. */
static const char *group_path(const char *groups, const char *controller, char *buf, size_t size)
{
	buf[0] = 0;
	for (const char *line = groups; line && *line; line = strchr(line, '\n'), line += line != NULL) {
		const char *names = strchr(line, ':'), *path = names ? strchr(names + 1, ':') : NULL;
		if (!path)
			break;
		for (const char *at = ++names; at <= path; at += strcspn(at, ",:") + 1)
			if (strcspn(at, ",:") == strlen(controller) &&
			    strncmp(at, controller, strlen(controller)) == 0) {
				snprintf(buf, size, "%.*s", (int)strcspn(path + 1, "\n"), path + 1);
				return buf;
			}
	}
	return buf;
}

/* Lowers *left and *total to what one group allows. */
static void lower_by(const char *root, const struct hierarchy *h, const char *path, size_t *left, size_t *total)
{
	char name[1024], text[8192];
	size_t limit, used, files;

	snprintf(name, sizeof name, "%s%s/%s", h->mount, path, h->limit);
	read_text(root, name, text, sizeof text);
	if (text[0] < '0' || text[0] > '9') /* "max", or no such file */
		return;
	limit = strtoull(text, NULL, 10);
	snprintf(name, sizeof name, "%s%s/%s", h->mount, path, h->usage);
	used = strtoull(read_text(root, name, text, sizeof text), NULL, 10);
	snprintf(name, sizeof name, "%s%s/memory.stat", h->mount, path);
	read_text(root, name, text, sizeof text);
	files = number_after(text, h->file_pages[0]) + number_after(text, h->file_pages[1]);
	used -= files < used ? files : used;
	if (limit < *total)
		*total = limit;
	if (limit - (used < limit ? used : limit) < *left)
		*left = limit - (used < limit ? used : limit);
}

void fr_memory_room(const char *root, size_t *left, size_t *total)
{
	char text[8192], path[768];

	read_text(root, "/proc/meminfo", text, sizeof text);
	*total = number_after(text, "MemTotal") * 1024;
	*left = number_after(text, "MemAvailable") * 1024;
	read_text(root, "/proc/self/cgroup", text, sizeof text);
	for (size_t i = 0; i < sizeof hierarchies / sizeof *hierarchies; i++) {
		char *slash;
		group_path(text, hierarchies[i].controller, path, sizeof path);
		for (; (slash = strrchr(path, '/')) != NULL; *slash = 0)
			if (slash[1])
				lower_by(root, &hierarchies[i], path, left, total);
		lower_by(root, &hierarchies[i], "", left, total);
	}
}

void fr_host_room(struct fr_dev *dev, size_t *left, size_t *total)
{
	(void)dev;
	fr_memory_room("", left, total);
}
