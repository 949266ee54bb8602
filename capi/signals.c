// signals.c: keeping the host's signal handlers and Go's small stacks apart.
//
// Goroutine stacks are a few KiB, so a handler that runs on one without SA_ONSTACK corrupts memory. Threads that the Go runtime
// starts inherit the mask of the thread that loads the library, so asynchronous signals are blocked while it loads; threads of
// the host block them while they are in a slow Go call.

#include <pthread.h>
#include <string.h>

#include "shim.h"

static sigset_t mask_before_load;
static struct sigaction handled_before_load[NSIG];
static int noted_before_load[NSIG];

// asynchronous fills set with the signals that are held back. Those that a thread raises itself are not among them, nor is
// SIGURG, which the Go runtime sends to its threads.
static void asynchronous(sigset_t *set) {
  sigfillset(set);
  static const int never[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT, SIGURG};
  for (size_t i = 0; i < sizeof never / sizeof never[0]; i++) sigdelset(set, never[i]);
}

void netmon_signals_block(sigset_t *before) {
  sigset_t set;
  asynchronous(&set);
  pthread_sigmask(SIG_BLOCK, &set, before);
}

void netmon_signals_restore(const sigset_t *before) { pthread_sigmask(SIG_SETMASK, before, NULL); }

// Go leaves these open in its threads, and opens them in a thread's first call. 34 is SIGRTMIN to programs.
static const int open_to_go[] = {SIGPROF, SIGCHLD, SIGURG, SIGSTKFLT, 34};
enum { OPEN_TO_GO = sizeof open_to_go / sizeof open_to_go[0] };

static int same_action(const struct sigaction *a, const struct sigaction *b) {
  return a->sa_handler == b->sa_handler && a->sa_flags == b->sa_flags && memcmp(&a->sa_mask, &b->sa_mask, 8) == 0;
}

static int lacks_stack(const struct sigaction *action) {
  return action->sa_handler != SIG_DFL && action->sa_handler != SIG_IGN && (action->sa_flags & SA_ONSTACK) == 0;
}

// give_back takes SA_ONSTACK from a handler that had been installed before the load without it: Go gives it to all. The stack for
// signals that a thread gets from Go is too small for many a handler that ran on the thread's own before.
static void give_back(int signal, const struct sigaction *before) {
  struct sigaction given = *before, found, replaced;
  given.sa_flags |= SA_ONSTACK;
  if (!lacks_stack(before) || sigaction(signal, NULL, &found) != 0 || !same_action(&found, &given)) return;
  // Another thread may have installed its handler in between.
  if (sigaction(signal, before, &replaced) == 0 && !same_action(&replaced, &given)) sigaction(signal, &replaced, NULL);
}

// Constructors with a priority run before Go's own entry, those without one after it.
__attribute__((constructor(101))) static void before_go(void) {
  for (int signal = 1; signal < NSIG; signal++) {
    noted_before_load[signal] = sigaction(signal, NULL, &handled_before_load[signal]) == 0;
  }
  netmon_signals_block(&mask_before_load);
}

__attribute__((constructor)) static void after_go(void) {
  // Go takes SIGPIPE over. Ignored stays ignored, also across exec; Go's threads have it blocked and get EPIPE either way.
  if (noted_before_load[SIGPIPE]) sigaction(SIGPIPE, &handled_before_load[SIGPIPE], NULL);
  sigset_t held_back;
  asynchronous(&held_back);
  for (size_t i = 0; i < OPEN_TO_GO; i++) sigdelset(&held_back, open_to_go[i]);
  for (int signal = 1; signal < NSIG; signal++) {
    if (noted_before_load[signal] && sigismember(&held_back, signal) == 1) give_back(signal, &handled_before_load[signal]);
  }
  netmon_signals_restore(&mask_before_load);
}

// mend adds SA_ONSTACK to the handler of a signal. The host may install another at any time, also between reading and writing
// here: what was overwritten then is put back.
static void mend(int signal) {
  struct sigaction last, found, written, replaced;
  if (sigaction(signal, NULL, &found) != 0 || !lacks_stack(&found)) return;
  last = found;
  enum { TRIES = 100 };
  for (int i = 0; i < TRIES; i++) {
    written = found;
    if (lacks_stack(&written)) written.sa_flags |= SA_ONSTACK;
    if (sigaction(signal, &written, &replaced) != 0 || same_action(&replaced, &last)) return;
    found = replaced;
    last = written;
  }
}

void netmon_signals_mend(void) {
  for (size_t i = 0; i < OPEN_TO_GO; i++) mend(open_to_go[i]);
}
