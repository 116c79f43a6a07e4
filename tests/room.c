/* How much memory there is, from files as Linux writes them: plain, limited by control groups of either kind, inside a
 * container. */
#include "test.h"

#include "../engine/session.h"
#include "../kernels/host.h"
#include "files.h"

#define MIB ((size_t)1 << 20)
static const char meminfo[] = "MemTotal:        8388608 kB\nMemFree:          100000 kB\nMemAvailable:    4194304 kB\n";

struct file {
	const char *path, *text;
};

/* Writes the files of a machine below a folder of its own and compares what is read off them. */
static void expect(const char *name, const struct file *files, size_t left, size_t total)
{
	char root[64], part[512], label[96];
	size_t got[2];

	snprintf(root, sizeof root, "%s", name);
	files_dir(root);
	for (; files->path; files++) {
		for (const char *at = files->path; (at = strchr(at + 1, '/')) != NULL;) {
			snprintf(part, sizeof part, "%s%.*s", root, (int)(at - files->path), files->path);
			files_dir(part);
		}
		snprintf(part, sizeof part, "%s%s", root, files->path);
		files_text(part, files->text);
	}
	fr_memory_room(files_path(root), &got[0], &got[1]);
	snprintf(label, sizeof label, "exact/room/%s", name);
	CHECK(label, got[0] == left && got[1] == total, "%zu MiB of %zu, expected %zu of %zu", got[0] / MIB,
	      got[1] / MIB, left / MIB, total / MIB);
}

/* A session whose cache is larger than any machine's memory is refused with the numbers, before it is taken. */
static void too_large(const char *backend, const char *isa)
{
	struct fr_session_opts o = {.backend = backend, .isa = isa, .batch = 256, .max_tokens = 1 << 30};
	struct fr_session *s = NULL;
	struct fr_model *m;
	struct fr_error err;
	char label[64];

	snprintf(label, sizeof label, "exact/room/too-large/%s", isa);
	if (fr_model_load(&(struct fr_model_opts){.path = "demo"}, &m, &err)) {
		test_fail(label, "%s", err.text);
		return;
	}
	m->desc.text.max_pos = 1 << 30;
	err.code = FR_OK;
	CHECK(label,
	      fr_session_new(m, &o, &s, &err) && err.code == FR_E_MEMORY &&
		      strstr(err.text, " TiB of memory besides") && strstr(err.text, "fewer --max-tokens"),
	      "%s", err.code ? err.text : "taken");
	printf("# %s\n", err.text);
	fr_session_free(s);
	fr_model_free(m);
}

int main(void)
{
	size_t left, total;

	expect("plain", (struct file[]){{"/proc/meminfo", meminfo}, {"/proc/self/cgroup", "0::/\n"}, {0}}, 4096 * MIB,
	       8192 * MIB);
	expect("unlimited",
	       (struct file[]){{"/proc/meminfo", meminfo},
			       {"/proc/self/cgroup", "0::/user/shell\n"},
			       {"/sys/fs/cgroup/user/shell/memory.max", "max\n"},
			       {"/sys/fs/cgroup/user/memory.max", "9223372036854771712\n"},
			       {0}},
	       4096 * MIB, 8192 * MIB);
	/* the group above allows less: 1024 MiB, 700 in use, 500 of them pages of files */
	expect("v2",
	       (struct file[]){{"/proc/meminfo", meminfo},
			       {"/proc/self/cgroup", "0::/user/shell\n"},
			       {"/sys/fs/cgroup/user/shell/memory.max", "2147483648\n"},
			       {"/sys/fs/cgroup/user/shell/memory.current", "1048576\n"},
			       {"/sys/fs/cgroup/user/memory.max", "1073741824\n"},
			       {"/sys/fs/cgroup/user/memory.current", "734003200\n"},
			       {"/sys/fs/cgroup/user/memory.stat",
				"anon 1\nfile 524288000\ninactive_file 419430400\nactive_file 104857600\n"},
			       {0}},
	       824 * MIB, 1024 * MIB);
	/* the group above allows more, but others have taken most of it: 1536 MiB, 1400 in use */
	expect("siblings",
	       (struct file[]){{"/proc/meminfo", meminfo},
			       {"/proc/self/cgroup", "0::/user/shell\n"},
			       {"/sys/fs/cgroup/user/shell/memory.max", "1073741824\n"},
			       {"/sys/fs/cgroup/user/shell/memory.current", "104857600\n"},
			       {"/sys/fs/cgroup/user/memory.max", "1610612736\n"},
			       {"/sys/fs/cgroup/user/memory.current", "1468006400\n"},
			       {0}},
	       136 * MIB, 1024 * MIB);
	expect("v1",
	       (struct file[]){{"/proc/meminfo", meminfo},
			       {"/proc/self/cgroup", "9:name=systemd:/\n4:cpu,memory:/job/7\n1:cpu:/memory\n0::/\n"},
			       {"/sys/fs/cgroup/memory/job/7/memory.limit_in_bytes", "1073741824\n"},
			       {"/sys/fs/cgroup/memory/job/7/memory.usage_in_bytes", "209715200\n"},
			       {"/sys/fs/cgroup/memory/job/7/memory.stat",
				"inactive_file 5\ntotal_inactive_file 104857600\ntotal_active_file 0\n"},
			       {0}},
	       924 * MIB, 1024 * MIB);
	/* the path is that of the host, the mount shows the container's own group */
	expect("container",
	       (struct file[]){{"/proc/meminfo", meminfo},
			       {"/proc/self/cgroup", "0::/docker/0123\n"},
			       {"/sys/fs/cgroup/memory.max", "536870912\n"},
			       {"/sys/fs/cgroup/memory.current", "999999999999\n"},
			       {0}},
	       0, 512 * MIB);
	expect("silent", (struct file[]){{"/nothing", ""}, {0}}, 0, 0);
	fr_memory_room("", &left, &total);
	CHECK("exact/room/here", left > 0 && left <= total, "%zu of %zu", left, total);
	too_large("cpu", "ref");
	too_large("cpu", "cpu-ref");
	return test_done();
}
