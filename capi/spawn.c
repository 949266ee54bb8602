// spawn.c: running a program without the host noticing.
//
// A child that executes a program sends its parent SIGCHLD when it ends, and waitpid(-1) of any thread of the parent gets its
// status: execve(2) resets whatever signal clone(2) was told to send instead. Training programs have handlers for that signal and
// wait for any child, so here the program is the child of another process, the keeper, which executes nothing: it ends without a
// signal and only those see it that wait with __WALL.
//
// The keeper shares this process's memory, as after vfork: copying the page tables of a training program takes long, and writing to
// memory after it as well. So it uses a stack of its own, system calls and nothing of the C library that has a state; it has all
// signals blocked and no descriptor of the host. It adopts what the program leaves behind, and kills that too. When the thread that
// made it ends, in whatever way the host does, the kernel tells it by a signal, and it ends the program and itself.

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "shim.h"

enum {
  STACK_BYTES = 32 << 10,
  KERNEL_SIGNALS = 64,
  TOLD = SIGTERM, // what tells the keeper that the host's thread has ended
};

struct netmon_running {
  size_t mapped; // bytes of all this
  long host;     // process ids, as this process's namespace numbers them
  int keeper;
  int tool;
  int output, errors; // descriptors of the host
  const char *path;
  char **arguments, **environment;
  _Atomic int killed; // the keeper is to end it
  // Written by the keeper, and by the tool before it is a program; read after the keeper's end.
  int error;                                                         // that kept the program from being started
  int ended;                                                         // what follows holds
  int status;                                                        // exit status, or the signal with a minus
  unsigned char stacks[2][STACK_BYTES] __attribute__((aligned(64))); // of keeper and tool
};

// A system call whose error is its result: errno is the host thread's own, and is not touched.
static long call(long number, long a, long b, long c, long d, long e) {
#if defined(__x86_64__)
  long result;
  register long r10 __asm__("r10") = d;
  register long r8 __asm__("r8") = e;
  register long r9 __asm__("r9") = 0;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
  return result;
#elif defined(__aarch64__)
  register long x8 __asm__("x8") = number;
  register long x0 __asm__("x0") = a;
  register long x1 __asm__("x1") = b;
  register long x2 __asm__("x2") = c;
  register long x3 __asm__("x3") = d;
  register long x4 __asm__("x4") = e;
  register long x5 __asm__("x5") = 0;
  __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
  return x0;
#else
  long result = syscall(number, a, b, c, d, e, 0L);
  return result < 0 ? -errno : result;
#endif
}

#define CALL0(number) call(number, 0, 0, 0, 0, 0)
#define CALL1(number, a) call(number, (long)(a), 0, 0, 0, 0)
#define CALL2(number, a, b) call(number, (long)(a), (long)(b), 0, 0, 0)
#define CALL3(number, a, b, c) call(number, (long)(a), (long)(b), (long)(c), 0, 0)
#define CALL4(number, a, b, c, d) call(number, (long)(a), (long)(b), (long)(c), (long)(d), 0)
#define CALL5(number, a, b, c, d, e) call(number, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e))

static void leave(void) {
  for (;;) CALL1(SYS_exit_group, 0);
}

static void rest(long nanoseconds) {
  const struct timespec most = {.tv_nsec = nanoseconds};
  CALL2(SYS_nanosleep, &most, NULL);
}

// is_told waits, and returns whether the keeper was told to end.
static int is_told(long nanoseconds) {
  const struct timespec most = {.tv_nsec = nanoseconds};
  const uint64_t told = UINT64_C(1) << (TOLD - 1); // blocked, so that it is pending whatever the host does with it
  return CALL4(SYS_rt_sigtimedwait, &told, NULL, &most, sizeof told) == TOLD;
}

static void close_from(unsigned first) {
#ifdef SYS_close_range
  const long close_range_number = SYS_close_range;
#else
  const long close_range_number = 436;
#endif
  if (CALL3(close_range_number, first, ~0u, 0) == 0) return;
  struct rlimit limit = {0}; // before Linux 5.9
  CALL4(SYS_prlimit64, 0, RLIMIT_NOFILE, NULL, &limit);
  const rlim_t most = 1u << 20;
  for (rlim_t fd = first; fd < limit.rlim_max && fd < most; fd++) CALL1(SYS_close, fd);
}

// set_streams makes the program's three descriptors the only ones. Returns 0 or an errno.
static int set_streams(netmon_running *r) {
  enum { ASIDE = 10 };
  const long null = CALL3(SYS_openat, AT_FDCWD, "/dev/null", O_RDONLY), from[] = {null, r->output, r->errors};
  long aside[3];
  for (int i = 0; i < 3; i++) {
    aside[i] = from[i] < 0 ? from[i] : CALL3(SYS_fcntl, from[i], F_DUPFD, ASIDE);
    if (aside[i] < 0) return (int)-aside[i];
  }
  for (int i = 0; i < 3; i++) {
    const long moved = CALL3(SYS_dup3, aside[i], i, 0);
    if (moved < 0) return (int)-moved;
  }
  close_from(3);
  return 0;
}

// set_default is of the calling process alone; the host's handlers are its own.
static void set_default(int signal) {
  const unsigned char by_default[64] = {0}; // SIG_DFL in whatever layout the kernel has for it
  CALL4(SYS_rt_sigaction, signal, by_default, NULL, 8);
}

// become is the process that becomes the program.
static int become(void *argument) {
  netmon_running *r = argument;
  for (int signal = 1; signal <= KERNEL_SIGNALS; signal++) set_default(signal);
  CALL2(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL);
  CALL0(SYS_setsid);
  const uint64_t none = 0;
  CALL4(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, 8);
  r->error = (int)-CALL3(SYS_execve, r->path, r->arguments, r->environment);
  leave();
  return 0;
}

// number_at reads a decimal number, -1 for none, and goes on to what follows it.
static long number_at(const char **text) {
  const char *p = *text;
  long number = -1;
  for (; *p >= '0' && *p <= '9'; p++) number = (number < 0 ? 0 : 10 * number) + (*p - '0');
  *text = p;
  return number;
}

// kill_adopted kills the keeper's children, as far as it is told who they are. /proc may be that of another namespace, which has other
// numbers.
static void kill_adopted(void) {
  char text[4096];
  const char *p = text;
  long length = CALL4(SYS_readlinkat, AT_FDCWD, "/proc/self", text, sizeof text - 1);
  if (length <= 0) return;
  text[length] = 0;
  if (number_at(&p) != CALL0(SYS_getpid)) return;
  const long fd = CALL4(SYS_openat, AT_FDCWD, "/proc/thread-self/children", O_RDONLY | O_CLOEXEC, 0);
  if (fd < 0) return;
  length = CALL3(SYS_read, fd, text, sizeof text - 1);
  CALL1(SYS_close, fd);
  if (length <= 0) return;
  text[length] = 0;
  for (p = text; *p != 0;) {
    const long child = number_at(&p);
    if (child > 1 && *p != 0) CALL2(SYS_kill, child, SIGKILL); // a number at the end of the text may have been cut
    if (*p != 0) p++;
  }
}

// bury ends what the program has left behind: its session's processes, and those that have left the session.
static void bury(netmon_running *r) {
  enum { ROUNDS = 1000 };
  CALL2(SYS_kill, -(long)r->tool, SIGKILL); // the number is its own as long as it was not waited for
  for (int i = 0; i < ROUNDS; i++) {
    const long gone = CALL4(SYS_wait4, -1, NULL, WNOHANG | __WALL, NULL);
    if (gone == -ECHILD) return;
    if (gone > 0) continue;
    kill_adopted();
    rest(1000000);
  }
}

// keep is the keeper.
static int keep(void *argument) {
  netmon_running *r = argument;
  CALL2(SYS_prctl, PR_SET_PDEATHSIG, TOLD);
  if (CALL0(SYS_getppid) != r->host) leave();
  CALL0(SYS_setsid); // no signal of the host's terminal
  CALL2(SYS_prctl, PR_SET_NAME, "netmon-keeper");
  CALL2(SYS_prctl, PR_SET_CHILD_SUBREAPER, 1);
  // Of a host that ignores it, the keeper would get no status, and the program's number could be another's when it is killed.
  set_default(SIGCHLD);
  // No core file of the program in the host's folder, and none of the keeper, which would hold the host's memory.
  const struct rlimit none = {0};
  CALL4(SYS_prlimit64, 0, RLIMIT_CORE, &none, NULL);
  if ((r->error = set_streams(r)) != 0) leave();
  // Where this fails it writes errno of the host's thread, which waits for the keeper in Go and looks at none.
  r->tool = clone(become, r->stacks[1] + STACK_BYTES, CLONE_VM | CLONE_VFORK | SIGCHLD, r);
  if (r->tool < 0) {
    r->error = EAGAIN;
    leave();
  }
  for (long fd = 0; fd < 3; fd++) CALL1(SYS_close, fd); // so that the program's end of a stream is its end
  siginfo_t info = {0};
  for (int killed = 0;;) {
    const long failed = CALL5(SYS_waitid, P_PID, r->tool, &info, WEXITED | WNOWAIT | WNOHANG, NULL);
    if (info.si_pid == r->tool || (failed < 0 && failed != -EINTR)) break;
    killed = killed || is_told(10000000) || atomic_load(&r->killed);
    if (!killed) continue;
    CALL2(SYS_kill, -(long)r->tool, SIGKILL);
    rest(1000000);
  }
  r->status = info.si_code == CLD_EXITED ? info.si_status : -info.si_status;
  bury(r);
  r->ended = 1;
  leave();
  return 0;
}

int netmon_spawn(const char *words, size_t length, uint32_t arguments, uint32_t variables, int output, int errors,
                 netmon_running **running_out) {
  const size_t pointers = ((size_t)arguments + variables + 2) * sizeof(char *);
  const size_t mapped = sizeof(netmon_running) + pointers + length;
  netmon_running *r = mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (r == MAP_FAILED) return errno;
  r->mapped = mapped;
  r->host = CALL0(SYS_getpid);
  r->output = output;
  r->errors = errors;
  r->arguments = (char **)(r + 1);
  r->environment = r->arguments + arguments + 1;
  char *word = (char *)r->arguments + pointers;
  memcpy(word, words, length);
  r->path = word;
  for (uint32_t i = 0; i < arguments; i++) r->arguments[i] = word += strlen(word) + 1;
  for (uint32_t i = 0; i < variables; i++) r->environment[i] = word += strlen(word) + 1;
  const uint64_t all = ~UINT64_C(0);
  uint64_t before = 0;
  CALL4(SYS_rt_sigprocmask, SIG_SETMASK, &all, &before, 8); // the keeper's for good: no handler of the host runs in it
  const int keeper = clone(keep, r->stacks[0] + STACK_BYTES, CLONE_VM, r);
  const int error = errno;
  CALL4(SYS_rt_sigprocmask, SIG_SETMASK, &before, NULL, 8);
  if (keeper < 0) {
    munmap(r, mapped);
    return error;
  }
  r->keeper = keeper;
  *running_out = r;
  return 0;
}

int netmon_spawn_ended(netmon_running *r, int *error_out, int *status_out) {
  const long gone = CALL4(SYS_wait4, r->keeper, NULL, WNOHANG | __WALL, NULL);
  if (gone == 0 || gone == -EINTR) return 0;
  *error_out = r->error; // -ECHILD: the host has waited for it with __WALL
  *status_out = r->ended ? r->status : NETMON_NO_STATUS;
  munmap(r, r->mapped);
  return 1;
}

void netmon_spawn_kill(netmon_running *r) { atomic_store(&r->killed, 1); }
