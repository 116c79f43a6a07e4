/* Read-only file mappings and the registry that lets a SIGBUS be named.
 *
 * The registry is a list of nodes that is only ever pushed to: a closed mapping leaves its node free for the next one,
 * so that fr_map_at() can walk it from a signal handler without a lock. A node matches only while `end` is set; it is
 * set last and cleared first. This is the library's only mutable state outside of objects. */
#include "weights.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct node {
	_Atomic(uintptr_t) begin, end; /* begin 0: free */
	char *_Atomic path;
	struct node *next;
};
static struct node *_Atomic nodes;
static const uint8_t nothing[1];

static struct node *take_node(uintptr_t begin)
{
	struct node *n, *head;

	for (n = atomic_load(&nodes); n; n = n->next) {
		uintptr_t unused = 0;
		if (atomic_compare_exchange_strong(&n->begin, &unused, begin))
			return n;
	}
	n = calloc(1, sizeof *n);
	if (!n)
		return NULL;
	atomic_store(&n->begin, begin);
	head = atomic_load(&nodes);
	do
		n->next = head;
	while (!atomic_compare_exchange_weak(&nodes, &head, n));
	return n;
}

static int enter(const void *begin, size_t size, const char *path)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	char *copy = strdup(path);
	struct node *n = copy ? take_node((uintptr_t)begin) : NULL;

	if (!n) {
		free(copy);
		return -1;
	}
	atomic_store(&n->path, copy);
	atomic_store(&n->end, (uintptr_t)begin + (size + page - 1) / page * page);
	return 0;
}

static void leave(const void *begin)
{
	for (struct node *n = atomic_load(&nodes); n; n = n->next)
		if (atomic_load(&n->begin) == (uintptr_t)begin) {
			atomic_store(&n->end, 0);
			free(atomic_exchange(&n->path, NULL));
			atomic_store(&n->begin, 0);
			return;
		}
}

static struct node *find(uintptr_t a)
{
	for (struct node *n = atomic_load(&nodes); n; n = n->next)
		if (a >= atomic_load(&n->begin) && a < atomic_load(&n->end))
			return n;
	return NULL;
}

const char *fr_map_at(const void *addr)
{
	const struct node *n = find((uintptr_t)addr);

	return n ? atomic_load(&n->path) : NULL;
}

static int map_fd(int fd, const char *path, const uint8_t **bytes, size_t *size, struct fr_error *err)
{
	struct stat st;
	void *p;

	if (fstat(fd, &st) != 0)
		return fr_fail(err, FR_E_IO, "%s: cannot be read: %s", path, strerror(errno));
	if (S_ISDIR(st.st_mode))
		return fr_fail(err, FR_E_IO, "%s: expected a file, got a directory", path);
	if (!S_ISREG(st.st_mode))
		return fr_fail(err, FR_E_IO, "%s: expected a regular file, got a pipe or device", path);
	*bytes = nothing;
	*size = (size_t)st.st_size;
	if (*size == 0)
		return 0;
	p = mmap(NULL, *size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (p == MAP_FAILED)
		return fr_fail(err, FR_E_IO, "%s: its %zu bytes cannot be mapped: %s", path, *size, strerror(errno));
	if (enter(p, *size, path) != 0) {
		munmap(p, *size);
		return fr_fail(err, FR_E_MEMORY, "%s: no memory to note its mapping", path);
	}
	*bytes = p;
	return 0;
}

/* What `git clone` leaves where git-lfs is not installed. It is text, so every reader would say something else of it.
 */
static int refuse_pointer(const char *path, const uint8_t *bytes, size_t size, struct fr_error *err)
{
	static const char head[] = "version https://git-lfs.github.com/spec/";

	if (size < sizeof head || memcmp(bytes, head, sizeof head - 1) != 0)
		return 0;
	return fr_fail(err, FR_E_IO,
		       "%s: a pointer of Git LFS (%zu bytes), not the file itself: install git-lfs and run `git lfs "
		       "pull` there",
		       path, size);
}

int fr_map_open(const char *path, const uint8_t **bytes, size_t *size, struct fr_error *err)
{
	/* O_NONBLOCK: a FIFO is refused, not waited for; it means nothing for regular files. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	int rc;

	*bytes = NULL;
	*size = 0;
	if (fd < 0)
		return fr_fail(err, FR_E_IO, "%s: cannot be opened: %s", path, strerror(errno));
	rc = map_fd(fd, path, bytes, size, err);
	close(fd);
	if (rc == 0 && refuse_pointer(path, *bytes, *size, err) != 0) {
		fr_map_close(*bytes, *size);
		*bytes = NULL;
		*size = 0;
		rc = -1;
	}
	return rc;
}

void fr_map_close(const uint8_t *bytes, size_t size)
{
	if (!bytes || size == 0)
		return;
	leave(bytes);
	munmap((void *)(uintptr_t)bytes, size);
}

void fr_map_fetch(const void *bytes, size_t size)
{
	const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), first = (uintptr_t)bytes / page * page;

	madvise((void *)first, (uintptr_t)bytes + size - first, MADV_WILLNEED);
}

/* Only what lies in a mapping of the registry: the same advice would empty memory of any other kind. The kernel gives
 * up pages of a file only when nobody has them mapped, and takes that advice by file and not by address. */
void fr_map_drop(const void *bytes, size_t size)
{
	const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), first = ((uintptr_t)bytes + page - 1) / page * page,
			last = ((uintptr_t)bytes + size) / page * page;
	const struct node *n = find(first);
	int fd;

	if (!n || last <= first || last > atomic_load(&n->end))
		return;
	madvise((void *)first, last - first, MADV_DONTNEED);
	fd = open(atomic_load(&n->path), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return;
	posix_fadvise(fd, (off_t)(first - atomic_load(&n->begin)), (off_t)(last - first), POSIX_FADV_DONTNEED);
	close(fd);
}
