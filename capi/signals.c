// signals.c: keeping the host's signal handlers and Go's small stacks apart.
//
// Goroutine stacks are a few KiB, so a handler that runs on one without SA_ONSTACK corrupts memory. Threads that the Go runtime
// starts inherit the mask of the thread that loads the library, so asynchronous signals are blocked while it loads; threads of
// the host block them while they are in a slow Go call.

#include <pthread.h>
#include <string.h>

#include "shim.h"

static sigset_t mask_before_load;
static struct sigaction pipe_before_load;
static int load_noted;

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

// Constructors with a priority run before Go's own entry, those without one after it.
__attribute__((constructor(101))) static void before_go(void) {
  load_noted = sigaction(SIGPIPE, NULL, &pipe_before_load) == 0;
  netmon_signals_block(&mask_before_load);
}

__attribute__((constructor)) static void after_go(void) {
  if (!load_noted) return;
  // Go takes SIGPIPE over. Ignored stays ignored, also across exec; Go's threads have it blocked and get EPIPE either way.
  sigaction(SIGPIPE, &pipe_before_load, NULL);
  netmon_signals_restore(&mask_before_load);
}

void netmon_signals_mend(void) {
  static const int unblockable[] = {SIGPROF, SIGCHLD};
  for (size_t i = 0; i < sizeof unblockable / sizeof unblockable[0]; i++) {
    struct sigaction action;
    if (sigaction(unblockable[i], NULL, &action) != 0) continue;
    int handled = (action.sa_flags & SA_SIGINFO) != 0 || (action.sa_handler != SIG_DFL && action.sa_handler != SIG_IGN);
    if (handled && (action.sa_flags & SA_ONSTACK) == 0) {
      action.sa_flags |= SA_ONSTACK;
      sigaction(unblockable[i], &action, NULL);
    }
  }
}
