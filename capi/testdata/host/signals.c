// signals.c: what loading and using the library does to the host's signals: nothing that the header does not say.

#include "loaded.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>

// Runs every function, with arguments that are right and wrong.
static void use_everything(void) {
  netmon_handle handle = OPEN("{\"interval_seconds\": 0.02}");
  netmon_snapshot snapshot = {.struct_size = sizeof snapshot};
  char *json = NULL;
  SAMPLE(handle);
  CHECK_STATUS(netmon_query(handle, "{\"view\": \"health\"}", &json, NULL), NETMON_OK);
  netmon_free(json);
  CHECK_STATUS(netmon_query(handle, "{", &json, NULL), NETMON_ERR_INVALID_ARGUMENT);
  CHECK_STATUS(netmon_probe(handle, "{\"target\": \"127.0.0.1\"}", &json, NULL), NETMON_OK);
  netmon_free(json);
  CHECK_STATUS(netmon_probe(handle, "{", &json, NULL), NETMON_ERR_INVALID_ARGUMENT);
  CHECK_STATUS(netmon_bandwidth(handle, "{\"target\": \"127.0.0.1:1\"}", &json, NULL), NETMON_OK);
  netmon_free(json);
  CHECK_STATUS(netmon_bandwidth(handle, "{", &json, NULL), NETMON_ERR_INVALID_ARGUMENT);
  CHECK_STATUS(netmon_set_job(handle, "{\"rank\": 0}", NULL), NETMON_OK);
  CHECK_STATUS(netmon_set_job(handle, "{\"rank\": -1}", NULL), NETMON_ERR_CONFIG);
  CHECK_STATUS(netmon_latest(handle, &snapshot), NETMON_OK);
  CHECK_STATUS(netmon_close(handle), NETMON_OK);
  CHECK_STATUS(netmon_sample(handle, &json, NULL), NETMON_ERR_CLOSED);
  CHECK_STATUS(netmon_init("{\"no\": 1}", &handle, NULL), NETMON_ERR_CONFIG);
}

// A signal that comes while its only thread waits for probes is handled soon, not when the waiting is over.

static _Atomic uint64_t alarm_at;
static void note_alarm(int signal) { (void)signal, alarm_at = now_ns(); }

static void case_probing(int count, char **words) {
  CHECK(count > 0, "usage: probing LIBRARY");
  load(words[0]);
  netmon_handle handle = OPEN(NULL);
  struct sigaction action = {.sa_handler = note_alarm, .sa_flags = SA_ONSTACK};
  CHECK(sigaction(SIGALRM, &action, NULL) == 0, "%s", strerror(errno));
  struct itimerval timer = {.it_value = {.tv_usec = 150000}};
  CHECK(setitimer(ITIMER_REAL, &timer, NULL) == 0, "%s", strerror(errno));
  uint64_t began = now_ns();
  char *json = NULL;
  CHECK_STATUS(netmon_probe(handle, "{\"target\": \"127.0.0.1\", \"count\": 2, \"interval_seconds\": 1.5}", &json, NULL),
               NETMON_OK);
  CHECK(strstr(json, "\"done\":true,") != NULL && strstr(json, "\"received\":2,") != NULL, "%s", json);
  netmon_free(json);
  uint64_t ended = now_ns(), handled = atomic_load(&alarm_at);
  printf("it waited %.2f s, and an alarm due after 0.15 s was handled after %.2f s\n", (double)(ended - began) / 1e9,
         (double)(handled - began) / 1e9);
  CHECK(ended - began >= 1500000000, "it waited %" PRIu64 " ns", ended - began);
  CHECK(handled != 0 && handled - began < 1000000000, "the alarm was handled after %" PRIu64 " ns", handled - began);
  CHECK_STATUS(netmon_close(handle), NETMON_OK);
}

// SIGPIPE's disposition: default, ignored or handled, it stays what it was, also over exec.

static atomic_int pipes_broken;
static void count_pipe(int signal) { (void)signal, pipes_broken++; }

static struct sigaction disposition_of(int signal) {
  struct sigaction action;
  CHECK(sigaction(signal, NULL, &action) == 0, "%s", strerror(errno));
  return action;
}

// What writing to a pipe that nobody reads does to a child of this process: 0 if the write fails with EPIPE, else its signal.
static int broken_pipe(void) {
  int ends[2], status;
  CHECK(pipe(ends) == 0, "%s", strerror(errno));
  close(ends[0]);
  pid_t child = fork();
  if (child == 0) _exit(write(ends[1], "x", 1) == -1 && errno == EPIPE ? 0 : 99);
  close(ends[1]);
  CHECK(waitpid(child, &status, 0) == child, "%s", strerror(errno));
  CHECK(WIFSIGNALED(status) || WEXITSTATUS(status) == 0, "status %#x", status);
  return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

// What a program that this process executes starts with.
static int ignored_over_exec(void) {
  int status;
  pid_t child = fork();
  if (child == 0) {
    execl("/proc/self/exe", "signals", "pipe-is-ignored", "-", (char *)NULL);
    _exit(99);
  }
  CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) <= 1, "status %#x", status);
  return WEXITSTATUS(status);
}

static void case_pipe_is_ignored(int count, char **words) {
  (void)count, (void)words;
  _exit(disposition_of(SIGPIPE).sa_handler == SIG_IGN);
}

static void case_pipe(int count, char **words) {
  CHECK(count > 1, "usage: pipe LIBRARY default|ignored|handled");
  void (*handler)(int) = words[1][0] == 'd' ? SIG_DFL : words[1][0] == 'i' ? SIG_IGN : count_pipe;
  struct sigaction action = {.sa_handler = handler};
  sigaddset(&action.sa_mask, SIGUSR2);
  CHECK(sigaction(SIGPIPE, &action, NULL) == 0, "%s", strerror(errno));
  for (int stage = 0; stage < 3; stage++) {
    if (stage == 1) load(words[0]);
    if (stage == 2) use_everything();
    struct sigaction now = disposition_of(SIGPIPE);
    CHECK(now.sa_handler == handler, "stage %d: the handler is %p", stage, (void *)(uintptr_t)now.sa_handler);
    CHECK(handler != count_pipe || sigismember(&now.sa_mask, SIGUSR2) == 1, "stage %d: its mask was changed", stage);
    CHECK(broken_pipe() == (handler == SIG_DFL ? SIGPIPE : 0), "stage %d: %d", stage, broken_pipe());
    CHECK(ignored_over_exec() == (handler == SIG_IGN), "stage %d: over exec", stage);
  }
}

// No signal is left blocked, none unblocked.

static void check_mask(const sigset_t *want, const char *after) {
  sigset_t now;
  pthread_sigmask(SIG_SETMASK, NULL, &now);
  for (int signal = 1; signal <= SIGRTMAX; signal++) {
    CHECK(sigismember(&now, signal) == sigismember(want, signal), "after %s signal %d is %s", after, signal,
          sigismember(&now, signal) == 1 ? "blocked" : "not blocked");
  }
}

static void *use_with_mask(void *blocked) {
  pthread_sigmask(SIG_SETMASK, blocked, NULL);
  use_everything();
  check_mask(blocked, "use in another thread");
  return NULL;
}

static void case_mask(int count, char **words) {
  CHECK(count > 1, "usage: mask LIBRARY none|some|all");
  sigset_t blocked;
  sigemptyset(&blocked);
  if (words[1][0] == 's') {
    const int some[] = {SIGCHLD, SIGPROF, SIGUSR1, SIGPIPE, SIGURG, SIGSEGV};
    for (size_t i = 0; i < sizeof some / sizeof some[0]; i++) sigaddset(&blocked, some[i]);
  } else if (words[1][0] == 'a') {
    sigfillset(&blocked);
  }
  pthread_sigmask(SIG_SETMASK, &blocked, NULL);
  pthread_sigmask(SIG_SETMASK, NULL, &blocked); // as the system keeps it
  load(words[0]);
  check_mask(&blocked, "load");
  use_everything();
  check_mask(&blocked, "use");
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, use_with_mask, &blocked) == 0, "pthread_create");
  pthread_join(thread, NULL);
}

// The library's own threads take no signal that the host may handle.
static void case_threads_mask(int count, char **words) {
  CHECK(count > 0, "usage: threads-mask LIBRARY");
  load(words[0]);
  netmon_handle handle = OPEN("{\"interval_seconds\": 0.02, \"job\": {\"master_address\": \"127.0.0.1\"}}");
  SAMPLE(handle);
  DIR *dir = opendir("/proc/self/task");
  int seen = 0;
  for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
    if (atoi(entry->d_name) == 0 || atoi(entry->d_name) == getpid()) continue;
    char path[300], line[256];
    snprintf(path, sizeof path, "/proc/self/task/%s/status", entry->d_name);
    FILE *file = fopen(path, "re");
    if (file == NULL) continue;
    uint64_t blocked = 0;
    while (fgets(line, sizeof line, file) != NULL) {
      if (strncmp(line, "SigBlk:", 7) == 0) blocked = strtoull(line + 7, NULL, 16);
    }
    fclose(file);
    seen++;
    const int held_back[] = {SIGHUP,  SIGINT,  SIGQUIT, SIGUSR1,   SIGUSR2,  SIGPIPE, SIGALRM, SIGTERM,      SIGCONT,
                             SIGTSTP, SIGTTIN, SIGTTOU, SIGVTALRM, SIGWINCH, SIGIO,   SIGPWR,  SIGRTMIN + 1, SIGRTMAX};
    for (size_t i = 0; i < sizeof held_back / sizeof held_back[0]; i++) {
      CHECK((blocked >> (held_back[i] - 1) & 1) == 1, "thread %s: signal %d is not blocked (mask %#" PRIx64 ")", entry->d_name,
            held_back[i], blocked);
    }
  }
  closedir(dir);
  CHECK(seen >= 3, "%d threads of the library", seen);
  printf("%d threads of the library\n", seen);
  CHECK_STATUS(netmon_close(handle), NETMON_OK);
}

// Handlers and stacks.

static void some_handler(int signal) { (void)signal; }
static void some_action(int signal, siginfo_t *info, void *context) { (void)signal, (void)info, (void)context; }

static int of_go(int signal) { return signal == SIGSEGV || signal == SIGBUS || signal == SIGFPE || signal == SIGURG; }

// Signals that may come while a thread is in Go: those that Go does not block, and those that a thread raises itself.
static int reaches_go(int signal) {
  const int some[] = {SIGPROF, SIGCHLD, SIGURG, SIGSTKFLT, SIGRTMIN, SIGILL, SIGTRAP, SIGSYS, SIGABRT};
  for (size_t i = 0; i < sizeof some / sizeof some[0]; i++) {
    if (signal == some[i]) return 1;
  }
  return 0;
}

static void check_handlers(const struct sigaction *want, const char *after) {
  for (int signal = 1; signal <= SIGRTMAX; signal++) {
    struct sigaction now;
    if (signal == SIGKILL || signal == SIGSTOP || sigaction(signal, NULL, &now) != 0 || of_go(signal)) continue;
    const struct sigaction *before = &want[signal];
    CHECK(now.sa_handler == before->sa_handler, "after %s signal %d has another handler", after, signal);
    int may_get = (now.sa_handler != SIG_DFL && now.sa_handler != SIG_IGN && reaches_go(signal)) ? SA_ONSTACK : 0;
    CHECK((now.sa_flags & ~may_get) == (before->sa_flags & ~may_get), "after %s signal %d: flags %#x, were %#x", after, signal,
          now.sa_flags, before->sa_flags);
    CHECK(memcmp(&now.sa_mask, &before->sa_mask, 8) == 0, "after %s signal %d has another mask", after, signal);
  }
}

static void case_handlers(int count, char **words) {
  CHECK(count > 1, "usage: handlers LIBRARY before|after");
  const int after_load = words[1][0] == 'a';
  struct sigaction before[65];
  if (after_load) load(words[0]);
  for (int signal = 1; signal <= SIGRTMAX; signal++) {
    if (signal == SIGKILL || signal == SIGSTOP || signal == 32 || signal == 33 || of_go(signal)) continue;
    struct sigaction action = {.sa_handler = signal % 3 == 0 ? SIG_IGN : some_handler};
    if (signal % 3 == 1)
      action.sa_sigaction = some_action, action.sa_flags = SA_SIGINFO | (signal % 2 == 0 ? SA_RESTART : SA_ONSTACK);
    sigaddset(&action.sa_mask, SIGUSR1 + signal % 4);
    CHECK(sigaction(signal, &action, NULL) == 0, "%d: %s", signal, strerror(errno));
  }
  for (int signal = 1; signal <= SIGRTMAX; signal++) sigaction(signal, NULL, &before[signal]);
  if (!after_load) load(words[0]);
  check_handlers(before, "load");
  use_everything();
  check_handlers(before, "use");
  netmon_handle handle = OPEN(NULL);
  const int mended[] = {SIGPROF, SIGCHLD, SIGSTKFLT, SIGRTMIN};
  for (size_t i = 0; i < sizeof mended / sizeof mended[0]; i++) {
    struct sigaction now = disposition_of(mended[i]);
    CHECK(now.sa_handler == SIG_IGN || (now.sa_flags & SA_ONSTACK) != 0, "signal %d has no SA_ONSTACK", mended[i]);
  }
  CHECK_STATUS(netmon_close(handle), NETMON_OK);
}

static void *use_with_stack(void *unused) {
  (void)unused;
  stack_t own = {.ss_sp = malloc(64 << 10), .ss_size = 64 << 10}, now;
  CHECK(sigaltstack(&own, NULL) == 0, "%s", strerror(errno));
  use_everything();
  CHECK(sigaltstack(NULL, &now) == 0 && now.ss_sp == own.ss_sp && now.ss_size == own.ss_size && now.ss_flags == 0,
        "the stack for signals is %p, %zu bytes, flags %#x", now.ss_sp, now.ss_size, now.ss_flags);
  own.ss_flags = SS_DISABLE;
  sigaltstack(&own, NULL);
  free(own.ss_sp);
  return NULL;
}

static void case_stack(int count, char **words) {
  CHECK(count > 0, "usage: stack LIBRARY");
  static char own[64 << 10];
  stack_t mine = {.ss_sp = own, .ss_size = sizeof own}, now;
  CHECK(sigaltstack(&mine, NULL) == 0, "%s", strerror(errno));
  load(words[0]);
  CHECK(sigaltstack(NULL, &now) == 0 && now.ss_sp == own && now.ss_flags == 0, "after load");
  use_everything();
  CHECK(sigaltstack(NULL, &now) == 0 && now.ss_sp == own && now.ss_size == sizeof own && now.ss_flags == 0, "after use");
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, use_with_stack, NULL) == 0, "pthread_create");
  pthread_join(thread, NULL);
}

// Handlers without SA_ONSTACK fire while all threads sample. On a goroutine's stack of a few KiB they would destroy what lies
// beside it: this one needs more. It does with the 32 KiB that Go gives a thread for signals.

static atomic_long fired[65];

static void deep_handler(int signal) {
  int error = errno;
  volatile char room[16 << 10];
  for (size_t i = 0; i < sizeof room; i += 64) room[i] = (char)signal;
  fired[signal] += room[0] != 0;
  errno = error;
}

static atomic_int stop;

static void *sample_until_stopped(void *handle) {
  while (!atomic_load(&stop)) {
    SAMPLE(*(netmon_handle *)handle);
    char *json = NULL;
    CHECK_STATUS(netmon_query(*(netmon_handle *)handle, "{\"view\": \"history\"}", &json, NULL), NETMON_OK);
    check_document(__FILE__, __LINE__, json, "[", ']');
    netmon_handle another = OPEN("{\"interval_seconds\": 0.01}");
    CHECK_STATUS(netmon_close(another), NETMON_OK);
  }
  return NULL;
}

// Sends to every thread of the process in turn, the library's own too.
static void *send_to_all(void *unused) {
  (void)unused;
  while (!atomic_load(&stop)) {
    DIR *dir = opendir("/proc/self/task");
    for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;) {
      int thread = atoi(entry->d_name);
      if (thread == 0) continue;
      const int kinds[] = {SIGUSR1, SIGCHLD, SIGRTMIN, SIGURG, SIGSTKFLT};
      for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) syscall(SYS_tgkill, getpid(), thread, kinds[i]);
    }
    closedir(dir);
    // Changes nothing, but the C library tells all threads by a signal of its own, and waits for each.
    CHECK(setresuid((uid_t)-1, (uid_t)-1, (uid_t)-1) == 0, "%s", strerror(errno));
    nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
  }
  return NULL;
}

static void handle_deeply(int signal) {
  struct sigaction action = {.sa_handler = deep_handler, .sa_flags = SA_RESTART};
  sigfillset(&action.sa_mask); // one upon the other they would not fit
  CHECK(sigaction(signal, &action, NULL) == 0, "%s", strerror(errno));
}

static void case_storm(int count, char **words) {
  CHECK(count > 1, "usage: storm LIBRARY before|after [MILLISECONDS]");
  const long milliseconds = number_of(count, words, 2, 1500);
  const int signals[] = {SIGALRM, SIGPROF, SIGUSR1, SIGCHLD, SIGRTMIN, SIGURG, SIGSTKFLT};
  const size_t kinds = sizeof signals / sizeof signals[0];
  if (words[1][0] == 'a') load(words[0]);
  for (size_t i = 0; i < kinds; i++) handle_deeply(signals[i]);
  if (words[1][0] == 'b') load(words[0]);
  netmon_handle handle = OPEN("{\"interval_seconds\": 0.01}");
  // Again, without the flag that opening gave two of them: the next call has to see to it.
  for (size_t i = 0; i < kinds; i++) handle_deeply(signals[i]);
  SAMPLE(handle);
  pthread_t threads[5];
  for (int i = 0; i < 4; i++) CHECK(pthread_create(&threads[i], NULL, sample_until_stopped, &handle) == 0, "pthread_create");
  CHECK(pthread_create(&threads[4], NULL, send_to_all, NULL) == 0, "pthread_create");
  struct itimerval often = {.it_interval = {.tv_usec = 500}, .it_value = {.tv_usec = 500}}, never = {{0, 0}, {0, 0}};
  setitimer(ITIMER_REAL, &often, NULL);
  setitimer(ITIMER_PROF, &often, NULL);
  uint64_t until = now_ns() + (uint64_t)milliseconds * 1000000u;
  while (now_ns() < until) SAMPLE(handle);
  setitimer(ITIMER_REAL, &never, NULL);
  setitimer(ITIMER_PROF, &never, NULL);
  atomic_store(&stop, 1);
  for (int i = 0; i < 5; i++) pthread_join(threads[i], NULL);
  for (size_t i = 0; i < kinds; i++) {
    long times = atomic_load(&fired[signals[i]]);
    printf("signal %d %ld times%s", signals[i], times, i + 1 < kinds ? ", " : "\n");
    CHECK(times >= milliseconds / 50, "signal %d came %ld times", signals[i], times);
  }
  SAMPLE(handle);
  CHECK_STATUS(netmon_close(handle), NETMON_OK);
}

// A handler for SIGSEGV, as faulthandler and crash reporters install it.

static sigjmp_buf back;
static atomic_int faults;

static void after_fault(int signal, siginfo_t *info, void *context) {
  (void)signal, (void)info, (void)context;
  faults++;
  siglongjmp(back, 1);
}

static void fault(void) {
  int before = atomic_load(&faults);
  if (sigsetjmp(back, 1) == 0) *(volatile int *)8 = 1;
  CHECK(atomic_load(&faults) == before + 1, "the handler did not run");
}

static void case_fault(int count, char **words) {
  CHECK(count > 1, "usage: fault LIBRARY before|after");
  static char own[64 << 10];
  stack_t mine = {.ss_sp = own, .ss_size = sizeof own};
  CHECK(sigaltstack(&mine, NULL) == 0, "%s", strerror(errno));
  struct sigaction action = {.sa_sigaction = after_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
  if (words[1][0] == 'b') CHECK(sigaction(SIGSEGV, &action, NULL) == 0, "%s", strerror(errno));
  load(words[0]);
  if (words[1][0] == 'a') CHECK(sigaction(SIGSEGV, &action, NULL) == 0, "%s", strerror(errno));
  fault();
  netmon_handle handle = OPEN("{\"interval_seconds\": 0.01}");
  for (int i = 0; i < 100; i++) {
    SAMPLE(handle);
    fault();
  }
  CHECK_STATUS(netmon_close(handle), NETMON_OK);
  // Without a handler a fault ends the process as ever.
  int status;
  pid_t child = fork();
  if (child == 0) {
    signal(SIGSEGV, SIG_DFL);
    *(volatile int *)8 = 1;
    _exit(0);
  }
  CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV, "status %#x", status);
}

// netmon_latest from a handler, whatever the thread was doing.

static netmon_handle watched, closed;
static atomic_long read_in_handler;

static void latest_handler(int signal) {
  (void)signal;
  netmon_snapshot snapshot = {.struct_size = sizeof snapshot};
  int32_t status = netmon_latest(watched, &snapshot);
  if (status != NETMON_OK && status != NETMON_ERR_NO_DATA) abort();
  if (status == NETMON_OK && snapshot.sequence == 0) abort();
  if (netmon_latest(closed, &snapshot) != NETMON_ERR_CLOSED) abort();
  read_in_handler++;
}

static void case_latest(int count, char **words) {
  CHECK(count > 0, "usage: latest LIBRARY [MILLISECONDS]");
  load(words[0]);
  watched = OPEN("{\"interval_seconds\": 0.01}");
  closed = OPEN(NULL);
  CHECK_STATUS(netmon_close(closed), NETMON_OK);
  struct sigaction action = {.sa_handler = latest_handler, .sa_flags = SA_RESTART};
  CHECK(sigaction(SIGALRM, &action, NULL) == 0 && sigaction(SIGPROF, &action, NULL) == 0, "%s", strerror(errno));
  struct itimerval often = {.it_interval = {.tv_usec = 200}, .it_value = {.tv_usec = 200}}, never = {{0, 0}, {0, 0}};
  setitimer(ITIMER_REAL, &often, NULL);
  setitimer(ITIMER_PROF, &often, NULL);
  uint64_t until = now_ns() + (uint64_t)number_of(count, words, 1, 500) * 1000000u;
  while (now_ns() < until) use_everything();
  setitimer(ITIMER_REAL, &never, NULL);
  setitimer(ITIMER_PROF, &never, NULL);
  printf("%ld times\n", atomic_load(&read_in_handler));
  CHECK(atomic_load(&read_in_handler) > 50, "%ld", atomic_load(&read_in_handler));
}

// A handler that the host installs is the one that stays, though the library adds a flag to it at the same time.
static void case_install(int count, char **words) {
  CHECK(count > 0, "usage: install LIBRARY [MILLISECONDS]");
  load(words[0]);
  netmon_handle handles[64];
  for (int i = 0; i < 64; i++) handles[i] = OPEN("{\"interval_seconds\": 0.01, \"sources\": [\"sockets\"]}");
  void (*handlers[])(int) = {some_handler, deep_handler, SIG_IGN, SIG_DFL};
  uint64_t until = now_ns() + (uint64_t)number_of(count, words, 1, 1000) * 1000000u;
  long installed = 0, mended = 0;
  while (now_ns() < until) {
    for (int i = 0; i < 4; i++) {
      struct sigaction action = {.sa_handler = handlers[i], .sa_flags = SA_RESTART};
      CHECK(sigaction(SIGCHLD, &action, NULL) == 0, "%s", strerror(errno));
      // Longer than the library takes to mend what it has read before.
      for (volatile int wait = 0; wait < 3000; wait++) continue;
      struct sigaction now = disposition_of(SIGCHLD);
      // The library may be about to put a handler back that it came across with.
      for (int tries = 0; now.sa_handler != handlers[i] && tries < 1000; tries++) sched_yield(), now = disposition_of(SIGCHLD);
      CHECK(now.sa_handler == handlers[i], "after %ld times another handler is installed", installed);
      CHECK((now.sa_flags & ~SA_ONSTACK) == (action.sa_flags | (now.sa_flags & 0x04000000)), "flags %#x", now.sa_flags);
      installed++, mended += (now.sa_flags & SA_ONSTACK) != 0;
    }
  }
  printf("%ld times installed, %ld times mended meanwhile\n", installed, mended);
  CHECK(mended > 0, "the library added its flag to none of %ld handlers", installed);
  for (int i = 0; i < 64; i++) CHECK_STATUS(netmon_close(handles[i]), NETMON_OK);
}

int main(int argc, char **argv) {
  static const test_case cases[] = {
      {"probing", case_probing},
      {"pipe", case_pipe},
      {"pipe-is-ignored", case_pipe_is_ignored},
      {"mask", case_mask},
      {"threads-mask", case_threads_mask},
      {"handlers", case_handlers},
      {"stack", case_stack},
      {"storm", case_storm},
      {"fault", case_fault},
      {"latest", case_latest},
      {"install", case_install},
  };
  return run_case(cases, sizeof cases / sizeof cases[0], argc, argv);
}
