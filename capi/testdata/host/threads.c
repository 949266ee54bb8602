// threads.c: calls from many threads at once, also while another thread closes; reading without waiting.

#include "check.h"

#include <fcntl.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>

// Four threads sample, ask and read while a fifth closes.

enum { CALLERS = 4 };

typedef struct race {
  netmon_handle handle;
  atomic_int started;
  atomic_int closed; // netmon_close has returned
  atomic_long done, refused;
} race;

// ok_or_closed checks a call's status; one made after close had returned must be CLOSED.
static int ok_or_closed(race *r, int32_t status, int was_closed, const char *what) {
  CHECK(status == NETMON_OK || status == NETMON_ERR_CLOSED, "%s: %d", what, status);
  CHECK(!was_closed || status == NETMON_ERR_CLOSED, "%s: OK after netmon_close had returned", what);
  r->done++;
  if (status == NETMON_ERR_CLOSED) r->refused++;
  return status == NETMON_OK;
}

static void *call_until_closed(void *argument) {
  race *r = argument;
  r->started++;
  for (int after = 0; after < 3;) {
    int was_closed = atomic_load(&r->closed);
    if (was_closed) after++;
    char *json = POISON, *error = POISON;
    if (ok_or_closed(r, netmon_sample(r->handle, &json, &error), was_closed, "netmon_sample")) {
      CHECK(error == NULL, "error_out of a call that succeeded");
      check_document(__FILE__, __LINE__, json, SAMPLE_START, '}');
    } else {
      CHECK(json == NULL, "json_out of a call that failed");
      check_sentence(__FILE__, __LINE__, error, "closed");
    }
    json = POISON;
    if (ok_or_closed(r, netmon_query(r->handle, "{\"view\": \"history\", \"limit\": 2}", &json, NULL), was_closed,
                     "netmon_query")) {
      check_document(__FILE__, __LINE__, json, "[", ']');
    } else {
      CHECK(json == NULL, "json_out of a call that failed");
    }
    netmon_snapshot snapshot = {.struct_size = sizeof snapshot};
    if (ok_or_closed(r, netmon_latest(r->handle, &snapshot), was_closed, "netmon_latest")) {
      CHECK(snapshot.sequence >= 1 && snapshot.wall_time_ns > 0, "sequence %" PRIu64, snapshot.sequence);
    }
    ok_or_closed(r, netmon_set_job(r->handle, "{\"rank\": 1}", NULL), was_closed, "netmon_set_job");
    json = POISON;
    if (ok_or_closed(r, netmon_probe(r->handle, "{\"target\": \"127.0.0.1\"}", &json, NULL), was_closed, "netmon_probe")) {
      check_document(__FILE__, __LINE__, json, "{\"id\":", '}');
    } else {
      CHECK(json == NULL, "json_out of a call that failed");
    }
  }
  return NULL;
}

static void case_close(int count, char **words) {
  const long rounds = number_of(count, words, 0, 100);
  long calls = 0, refused = 0;
  uint64_t slowest = 0;
  for (long round = 0; round < rounds; round++) {
    race r = {.handle = OPEN("{\"interval_seconds\": 0.01}")};
    pthread_t threads[CALLERS];
    for (int i = 0; i < CALLERS; i++) CHECK(pthread_create(&threads[i], NULL, call_until_closed, &r) == 0, "pthread_create");
    // At another moment every time: after every thread has begun, and some more calls.
    while (atomic_load(&r.started) < CALLERS || atomic_load(&r.done) < 4 * (round % 16)) rest();
    uint64_t began = now_ns();
    CHECK_STATUS(netmon_close(r.handle), NETMON_OK);
    uint64_t took = now_ns() - began;
    if (took > slowest) slowest = took;
    atomic_store(&r.closed, 1);
    CHECK_STATUS(netmon_close(r.handle), NETMON_OK);
    for (int i = 0; i < CALLERS; i++) pthread_join(threads[i], NULL);
    calls += atomic_load(&r.done), refused += atomic_load(&r.refused);
  }
  printf("%ld rounds: %ld calls, %ld of them CLOSED, slowest close %.1f ms\n", rounds, calls, refused, (double)slowest / 1e6);
  // It waits at most 0.1 s; a loaded machine may keep the thread from running for as long again.
  CHECK(slowest < 400000000, "netmon_close took %.1f ms", (double)slowest / 1e6);
}

// Threads that wait for probes return when the monitor is closed, and delay no sample meanwhile.

typedef struct waiting {
  netmon_handle handle;
  atomic_int stop;
  atomic_ullong returned; // when the last of them did
  uint64_t slowest;       // sample
} waiting;

static void *wait_for_probes(void *argument) {
  waiting *w = argument;
  char *json = POISON, *error = POISON;
  const char *request = "{\"target\": \"icmp://127.0.0.1\", \"count\": 1000, \"interval_seconds\": 60}";
  CHECK_STATUS(netmon_probe(w->handle, request, &json, &error), NETMON_ERR_CLOSED);
  CHECK(json == NULL, "json_out of a call that failed");
  check_sentence(__FILE__, __LINE__, error, "closed");
  atomic_store(&w->returned, now_ns());
  return NULL;
}

static void *sample_beside(void *argument) {
  waiting *w = argument;
  while (!atomic_load(&w->stop)) {
    uint64_t began = now_ns();
    SAMPLE(w->handle);
    uint64_t took = now_ns() - began;
    if (took > w->slowest) w->slowest = took;
    rest();
  }
  return NULL;
}

static void case_close_probing(int count, char **words) {
  const long rounds = number_of(count, words, 0, 30);
  uint64_t slowest = 0, slowest_sample = 0;
  for (long round = 0; round < rounds; round++) {
    waiting w = {.handle = OPEN("{\"interval_seconds\": 0.05, \"targets\": [\"127.0.0.1\"]}")};
    pthread_t threads[CALLERS], sampler;
    for (int i = 0; i < CALLERS; i++) CHECK(pthread_create(&threads[i], NULL, wait_for_probes, &w) == 0, "pthread_create");
    CHECK(pthread_create(&sampler, NULL, sample_beside, &w) == 0, "pthread_create");
    for (long i = 0; i < 10 + 3 * round; i++) rest();
    atomic_store(&w.stop, 1);
    pthread_join(sampler, NULL);
    uint64_t began = now_ns();
    CHECK_STATUS(netmon_close(w.handle), NETMON_OK);
    for (int i = 0; i < CALLERS; i++) pthread_join(threads[i], NULL);
    uint64_t took = atomic_load(&w.returned) - began;
    if (took > slowest) slowest = took;
    if (w.slowest > slowest_sample) slowest_sample = w.slowest;
  }
  printf("%ld rounds: the last of %d waiting threads returned after at most %.1f ms; slowest sample %.1f ms\n", rounds, CALLERS,
         (double)slowest / 1e6, (double)slowest_sample / 1e6);
  CHECK(slowest < 400000000, "a thread waited for %.1f ms after the monitor was closed", (double)slowest / 1e6);
  CHECK(slowest_sample < 1000000000, "a sample took %.1f ms", (double)slowest_sample / 1e6);
}

// Several threads close the same monitor.
static atomic_int gate;

static void *close_at_once(void *handle) {
  gate++;
  while (atomic_load(&gate) < CALLERS) sched_yield();
  CHECK_STATUS(netmon_close(*(netmon_handle *)handle), NETMON_OK);
  return NULL;
}

static void case_close_at_once(int count, char **words) {
  const long rounds = number_of(count, words, 0, 50);
  for (long round = 0; round < rounds; round++) {
    netmon_handle handle = OPEN("{\"interval_seconds\": 0.01}");
    pthread_t threads[CALLERS];
    atomic_store(&gate, 0);
    for (int i = 0; i < CALLERS; i++) CHECK(pthread_create(&threads[i], NULL, close_at_once, &handle) == 0, "pthread_create");
    for (int i = 0; i < CALLERS; i++) pthread_join(threads[i], NULL);
  }
  // Had one been closed twice inside, a place would be free that is not, or the other way round.
  netmon_handle all[64], extra;
  for (int i = 0; i < 64; i++) all[i] = OPEN("{\"interval_seconds\": 3600}");
  CHECK_STATUS(netmon_init(NULL, &extra, NULL), NETMON_ERR_RESOURCES);
  for (int i = 0; i < 64; i++) CHECK_STATUS(netmon_close(all[i]), NETMON_OK);
}

// Snapshots are whole: what was published together is read together, in order.

typedef struct watch {
  netmon_handle handle;
  atomic_int stop;
  atomic_long reads, changes, none;
} watch;

static void *read_snapshots(void *argument) {
  watch *w = argument;
  netmon_snapshot last = {.sequence = 0}, now = {.struct_size = sizeof now};
  while (!atomic_load(&w->stop)) {
    int32_t status = netmon_latest(w->handle, &now);
    w->reads++;
    if (status == NETMON_ERR_NO_DATA) {
      w->none++;
      continue;
    }
    CHECK_STATUS(status, NETMON_OK);
    CHECK(now.sequence >= last.sequence, "sequence went from %" PRIu64 " to %" PRIu64, last.sequence, now.sequence);
    if (now.sequence == last.sequence) {
      CHECK(memcmp((char *)&now + 8, (char *)&last + 8, sizeof now - 8) == 0, "sample %" PRIu64 " was read in two versions",
            now.sequence);
      continue;
    }
    if (last.sequence != 0) {
      CHECK(now.monotonic_time_ns > last.monotonic_time_ns, "time went back");
      uint64_t wall = now.wall_time_ns - last.wall_time_ns, monotonic = now.monotonic_time_ns - last.monotonic_time_ns;
      CHECK(wall - monotonic + 50000000 < 100000000, "%" PRIu64 " ns by one clock, %" PRIu64 " by the other", wall, monotonic);
    }
    if (now.sequence == last.sequence + 1 && last.sequence != 0) {
      CHECK(now.window_ns + 1000 > now.monotonic_time_ns - last.monotonic_time_ns &&
                now.window_ns < now.monotonic_time_ns - last.monotonic_time_ns + 1000,
            "window %" PRIu64 " ns, but %" PRIu64 " passed", now.window_ns, now.monotonic_time_ns - last.monotonic_time_ns);
    }
    w->changes++;
    last = now;
  }
  return NULL;
}

static void case_whole(int count, char **words) {
  const long samples = number_of(count, words, 0, 150);
  watch w = {.handle = OPEN("{\"interval_seconds\": 0.01}")};
  pthread_t threads[2];
  for (int i = 0; i < 2; i++) CHECK(pthread_create(&threads[i], NULL, read_snapshots, &w) == 0, "pthread_create");
  netmon_snapshot snapshot = {.struct_size = sizeof snapshot};
  do {
    rest();
    CHECK_STATUS(netmon_latest(w.handle, &snapshot), NETMON_OK);
  } while (snapshot.sequence < (uint64_t)samples);
  atomic_store(&w.stop, 1);
  for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
  printf("%ld reads, %ld new snapshots, %ld times NO_DATA\n", atomic_load(&w.reads), atomic_load(&w.changes),
         atomic_load(&w.none));
  CHECK(atomic_load(&w.changes) >= samples / 4, "%ld snapshots seen", atomic_load(&w.changes));
  CHECK_STATUS(netmon_close(w.handle), NETMON_OK);
}

// netmon_latest makes no system call. The thread forbids itself all but read, write, exit and sigreturn; the kernel ends it at
// any other.

typedef struct forbidden {
  netmon_handle handle;
  atomic_int wrong; // answers; -1: the thread did not come to its end
} forbidden;

static void *latest_without_system_calls(void *argument) {
  forbidden *f = argument;
  netmon_snapshot snapshot = {.struct_size = sizeof snapshot};
  CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) == 0, "%s", strerror(errno));
  int wrong = 0;
  for (int i = 0; i < 100000; i++) {
    int32_t status = netmon_latest(f->handle, &snapshot);
    wrong += status != NETMON_OK && status != NETMON_ERR_NO_DATA;
    wrong += netmon_latest(f->handle + 1000, &snapshot) != NETMON_ERR_INVALID_ARGUMENT;
    wrong += netmon_latest(0, &snapshot) != NETMON_ERR_INVALID_ARGUMENT;
    wrong += netmon_abi_version() != NETMON_ABI_VERSION || netmon_version() == NULL;
  }
  netmon_free(NULL);
  atomic_store(&f->wrong, wrong);
  syscall(SYS_exit, 0); // of the thread: pthread_exit would call what is forbidden
  return NULL;
}

static void check_no_system_call(netmon_handle handle) {
  forbidden f = {.handle = handle, .wrong = -1};
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, latest_without_system_calls, &f) == 0, "pthread_create");
  pthread_join(thread, NULL);
  CHECK(atomic_load(&f.wrong) != -1, "netmon_latest made a system call, and the kernel ended its thread");
  CHECK(atomic_load(&f.wrong) == 0, "%d wrong answers", atomic_load(&f.wrong));
}

static void case_no_system_call(int count, char **words) {
  (void)count, (void)words;
  netmon_handle handle = OPEN("{\"interval_seconds\": 0.01}");
  check_no_system_call(handle);
  pid_t child = fork();
  if (child == 0) {
    check_no_system_call(handle);
    _exit(0);
  }
  int status;
  CHECK(waitpid(child, &status, 0) == child && status == 0, "in a forked child: status %#x", status);
  CHECK_STATUS(netmon_close(handle), NETMON_OK);
}

// netmon_latest answers while every other thread of the process is stopped, wherever it happens to be.

static int freeze_others(pid_t process, pid_t *stopped, int most) {
  char folder[64];
  snprintf(folder, sizeof folder, "/proc/%d/task", process);
  DIR *dir = opendir(folder);
  CHECK(dir != NULL, "%s: %s", folder, strerror(errno));
  int count = 0;
  for (struct dirent *e; (e = readdir(dir)) != NULL;) {
    pid_t thread = atoi(e->d_name);
    if (thread == 0 || thread == process) continue;
    CHECK(count < most, "more than %d threads", most);
    if (ptrace(PTRACE_SEIZE, thread, NULL, NULL) != 0) {
      CHECK(errno == ESRCH, "PTRACE_SEIZE: %s", strerror(errno));
      continue;
    }
    CHECK(ptrace(PTRACE_INTERRUPT, thread, NULL, NULL) == 0, "PTRACE_INTERRUPT: %s", strerror(errno));
    CHECK(waitpid(thread, NULL, __WALL) == thread, "waitpid: %s", strerror(errno));
    stopped[count++] = thread;
  }
  closedir(dir);
  return count;
}

static void *sample_for_ever(void *handle) {
  for (;;) SAMPLE(*(netmon_handle *)handle);
  return NULL;
}

static void case_frozen(int count, char **words) {
  const long rounds = number_of(count, words, 0, 100);
  int ask[2], answer[2];
  CHECK(pipe2(ask, O_CLOEXEC) == 0 && pipe2(answer, O_CLOEXEC) == 0, "pipe: %s", strerror(errno));
  prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
  pid_t process = getpid(), tracer = fork();
  if (tracer == 0) {
    pid_t stopped[64];
    close(ask[1]);
    close(answer[0]);
    for (char word; read(ask[0], &word, 1) == 1 && word == 'f';) {
      int frozen = freeze_others(process, stopped, 64);
      CHECK(frozen >= 4 && write(answer[1], &word, 1) == 1, "%d threads were stopped", frozen);
      CHECK(read(ask[0], &word, 1) == 1, "read");
      for (int i = 0; i < frozen; i++) ptrace(PTRACE_DETACH, stopped[i], NULL, NULL);
      CHECK(write(answer[1], &word, 1) == 1, "write");
    }
    _exit(0);
  }
  close(ask[0]);
  close(answer[1]);
  netmon_handle handles[16];
  for (int i = 0; i < 16; i++) handles[i] = OPEN("{\"interval_seconds\": 0.01}");
  pthread_t sampler;
  CHECK(pthread_create(&sampler, NULL, sample_for_ever, &handles[0]) == 0, "pthread_create");
  char word;
  for (long round = 0; round < rounds; round++) {
    CHECK(write(ask[1], "f", 1) == 1 && read(answer[0], &word, 1) == 1, "the tracing process ended");
    for (int i = 0; i < 16; i++) {
      netmon_snapshot snapshot = {.struct_size = sizeof snapshot};
      CHECK_STATUS(netmon_latest(handles[i], &snapshot), NETMON_OK);
      CHECK(snapshot.sequence >= 1, "sequence %" PRIu64, snapshot.sequence);
    }
    CHECK(write(ask[1], "g", 1) == 1 && read(answer[0], &word, 1) == 1, "the tracing process ended");
  }
  close(ask[1]);
  int status;
  CHECK(waitpid(tracer, &status, 0) == tracer && status == 0, "the tracing process: status %#x", status);
  printf("%ld times all other threads were stopped, and 16 monitors read each time\n", rounds);
}

// Threads with small stacks, and threads that come and go.
static void *a_few_calls(void *handle) {
  SAMPLE(*(netmon_handle *)handle);
  char *json = NULL;
  CHECK_STATUS(netmon_query(*(netmon_handle *)handle, "{\"view\": \"history\"}", &json, NULL), NETMON_OK);
  check_document(__FILE__, __LINE__, json, "[", ']');
  CHECK_STATUS(netmon_close(OPEN("{\"interval_seconds\": 3600}")), NETMON_OK);
  return NULL;
}

static void case_short_lived(int count, char **words) {
  const long times = number_of(count, words, 0, 2000);
  netmon_handle handle = OPEN(NULL);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  CHECK(pthread_attr_setstacksize(&attributes, 64 << 10) == 0, "pthread_attr_setstacksize");
  long resident = 0;
  int threads = 0;
  for (long i = 0; i < times; i++) {
    if (i == times / 2) resident = status_line("VmRSS:"), threads = running_threads();
    pthread_t thread;
    CHECK(pthread_create(&thread, i % 2 == 0 ? &attributes : NULL, a_few_calls, &handle) == 0, "pthread_create");
    pthread_join(thread, NULL);
  }
  printf("%ld threads made a few calls each: resident %ld -> %ld KiB, threads %d -> %d\n", times, resident,
         status_line("VmRSS:"), threads, running_threads());
  CHECK(status_line("VmRSS:") <= resident + 2048, "%ld KiB, %ld before", status_line("VmRSS:"), resident);
  CHECK(running_threads() <= threads + 2, "%d threads, %d before", running_threads(), threads);
  CHECK_STATUS(netmon_close(handle), NETMON_OK);
}

int main(int argc, char **argv) {
  static const test_case cases[] = {
      {"close", case_close},
      {"close-probing", case_close_probing},
      {"close-at-once", case_close_at_once},
      {"whole", case_whole},
      {"no-system-call", case_no_system_call},
      {"frozen", case_frozen},
      {"short-lived", case_short_lived},
  };
  return run_case(cases, sizeof cases / sizeof cases[0], argc, argv);
}
