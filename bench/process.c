/* A program's whole run as a person has it: started, fed, waited for; and what a process holds in memory.
 *
 * The most memory is read from /proc while the process runs: what the kernel says of a process that has ended counts
 * the one that started it, too. */
#include "stage.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define LOOK_MS 5 /* between two looks at its memory */
#define OPTIONS "FR_RUN_"
#define KEPT "FR_RUN_CUDA_DEVICE="

extern char **environ;

void fr_process_memory(int pid, struct fr_process_memory *out)
{
	static const char *const keys[] = {"VmHWM:", "RssAnon:", "RssFile:", "RssShmem:"};
	size_t *const to[] = {&out->most, &out->anonymous, &out->mapped, &out->shared};
	char path[64], line[256];
	FILE *f;

	*out = (struct fr_process_memory){0};
	snprintf(path, sizeof path, pid ? "/proc/%d/status" : "/proc/self/status", pid);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof line, f))
		for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
			if (strncmp(line, keys[i], strlen(keys[i])) == 0)
				*to[i] = strtoull(line + strlen(keys[i]), NULL, 10) * 1024;
	if (f)
		fclose(f);
}

void fr_process_forget_most(void)
{
	FILE *f = fopen("/proc/self/clear_refs", "we");

	if (f) {
		fputs("5", f);
		fclose(f);
	}
}

/* The environment without options, which would act on the run. Points into environ; the caller frees the array. */
static char **bare_environment(void)
{
	size_t n = 0, kept = 0;
	char **env;

	while (environ[n])
		n++;
	env = calloc(n + 1, sizeof *env);
	for (size_t i = 0; env && i < n; i++)
		if (strncmp(environ[i], OPTIONS, strlen(OPTIONS)) != 0 || strncmp(environ[i], KEPT, strlen(KEPT)) == 0)
			env[kept++] = environ[i];
	return env;
}

/* A file without a name that holds the bytes, read from its start; -1: none. */
static int file_of(const void *bytes, size_t size)
{
	int fd = memfd_create("picture", MFD_CLOEXEC);

	for (size_t at = 0; fd >= 0 && at < size;) {
		ssize_t n = pwrite(fd, (const char *)bytes + at, size - at, (off_t)at);

		if (n > 0) {
			at += (size_t)n;
		} else if (errno != EINTR) {
			close(fd);
			return -1;
		}
	}
	return fd;
}

static int start(char *const argv[], int in, int out, pid_t *pid)
{
	char **env = bare_environment();
	posix_spawn_file_actions_t acts;
	int rc = ENOMEM;

	if (!env)
		return rc;
	if (posix_spawn_file_actions_init(&acts) == 0) {
		posix_spawn_file_actions_adddup2(&acts, in, STDIN_FILENO);
		posix_spawn_file_actions_adddup2(&acts, out, STDOUT_FILENO);
		rc = posix_spawn(pid, argv[0], &acts, NULL, argv, env);
		posix_spawn_file_actions_destroy(&acts);
	}
	free(env);
	return rc;
}

static size_t more(size_t a, size_t b)
{
	return a > b ? a : b;
}

/* All that comes from fd until the other side closes it, with looks at the process's memory. -1: no memory. */
static int follow(int fd, pid_t pid, struct fr_process_run *run)
{
	struct fr_process_memory seen;
	FILE *text;
	size_t size;
	char buf[4096];
	ssize_t n = 1;

	text = open_memstream(&run->text, &size);
	if (!text)
		return -1;
	while (n > 0 || (n < 0 && errno == EINTR)) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		int ready;

		fr_process_memory(pid, &seen);
		run->memory.most = more(run->memory.most, seen.most);
		run->memory.anonymous = more(run->memory.anonymous, seen.anonymous);
		run->memory.mapped = more(run->memory.mapped, seen.mapped);
		ready = poll(&p, 1, LOOK_MS);
		if (ready <= 0)
			continue;
		n = read(fd, buf, sizeof buf);
		if (n > 0)
			fwrite(buf, 1, (size_t)n, text);
	}
	return fclose(text);
}

int fr_process_run(char *const argv[], const void *bytes, size_t size, struct fr_process_run *out, struct fr_error *err)
{
	int in = file_of(bytes, size), pipes[2] = {-1, -1}, rc, status = 0;
	double begun = fr_bench_now();
	pid_t pid;

	*out = (struct fr_process_run){0};
	rc = in < 0 || pipe2(pipes, O_CLOEXEC) ? errno : start(argv, in, pipes[1], &pid);
	if (in >= 0)
		close(in);
	if (pipes[1] >= 0)
		close(pipes[1]);
	if (rc == 0) {
		rc = follow(pipes[0], pid, out) ? ENOMEM : 0;
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			continue;
		out->ms = (fr_bench_now() - begun) * 1e3;
	}
	if (pipes[0] >= 0)
		close(pipes[0]);
	if (rc == 0 && status == 0)
		return 0;
	free(out->text);
	out->text = NULL;
	if (rc)
		return fr_fail(err, FR_E_DEVICE, "%s cannot be run (%s)", argv[0], strerror(rc));
	return WIFSIGNALED(status)
		       ? fr_fail(err, FR_E_DEVICE, "a run of %s ended with signal %d", argv[0], WTERMSIG(status))
		       : fr_fail(err, FR_E_DEVICE, "a run of %s ended with exit status %d", argv[0],
				 WEXITSTATUS(status));
}
