/* What may happen to the process: Ctrl-C, a closed pipe, and a mapped file that shrinks.
 *
 * SIGINT and SIGTERM ask once (the run ends after its complete results) and kill the second time. SIGBUS in a mapped
 * file is one sentence and exit 3: the handler uses nothing but async-signal-safe calls. Handlers run on the stack that
 * they interrupt; no alternate one, whose size a signal frame with AMX's tiles (11 KiB) could exceed. */
#include "cli.h"

#include "../weights/weights.h"

#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

static volatile sig_atomic_t caught;
static atomic_flag told = ATOMIC_FLAG_INIT; /* several threads may fault in the file at once */
static char note[4608];			    /* filled before any mapped byte is read in earnest */
static int terminal;			    /* stderr is one */

static void put(const char *s)
{
	if (write(STDERR_FILENO, s, strlen(s)) < 0)
		return;
}

static void on_stop(int sig)
{
	caught = sig;
	alarm(1);
}

/* A prefill of a large model takes its time: say why nothing happens. */
static void on_patience(int sig)
{
	(void)sig;
	put(progress_visible() ? "\r\x1b[K" : terminal ? "\n" : "");
	put("fr-run: stopping when the step at work is done; Ctrl-C again stops at once\n");
}

static void on_bus(int sig, siginfo_t *info, void *context)
{
	const char *file = fr_map_at(info->si_addr);

	(void)context;
	if (!file) { /* none of our files: a fault of the machine or of the program */
		signal(sig, SIG_DFL);
		raise(sig);
		return;
	}
	while (atomic_flag_test_and_set(&told))
		pause(); /* until the first one ends the process */
	put(progress_visible() ? "\r\x1b[Kfr-run: " : "fr-run: ");
	put(file);
	put(": the file shrank while it was mapped (or its disk failed), so its bytes can no longer be read");
	put(note);
	put("\n");
	_exit(EXIT_CANNOT);
}

/* A shell starts a background job with SIGINT ignored: it stays so. */
static void ask_on(int sig, const struct sigaction *stop)
{
	struct sigaction old;

	if (sigaction(sig, NULL, &old) == 0 && old.sa_handler != SIG_IGN)
		sigaction(sig, stop, NULL);
}

void signals_install(void)
{
	struct sigaction stop = {.sa_handler = on_stop, .sa_flags = SA_RESETHAND};
	struct sigaction patience = {.sa_handler = on_patience, .sa_flags = SA_RESTART};
	struct sigaction bus = {.sa_sigaction = on_bus, .sa_flags = SA_SIGINFO};

	ask_on(SIGINT, &stop);
	ask_on(SIGTERM, &stop);
	terminal = isatty(STDERR_FILENO);
	sigaction(SIGALRM, &patience, NULL);
	sigaction(SIGBUS, &bus, NULL);
	signal(SIGPIPE, SIG_DFL);
}

int signals_caught(void)
{
	return caught;
}

void signals_note(const char *partial_path)
{
	if (partial_path)
		snprintf(note, sizeof note, "; the results complete by now are in %s", partial_path);
	else
		note[0] = 0;
}
