// fork.c: what forked children get. Every child has a time limit; one that exceeds it counts as hung.

#include "loaded.h"

#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum { LIMIT_SECONDS = 20, SKIPPED = 77, REFUSED = 3 };

// Ways to make a child. Only fork() leaves the C library in order; after the others calls must answer FORKED.

typedef pid_t (*way)(void);

static pid_t by_clone(void) { return (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0); }

static way way_of(const char *name) {
  if (strcmp(name, "fork") == 0) return fork;
  if (strcmp(name, "clone") == 0) return by_clone;
  CHECK(strcmp(name, "_Fork") == 0, "%s: fork, _Fork or clone", name);
  void *symbol = dlsym(RTLD_DEFAULT, "_Fork"); // glibc 2.34
  way found;
  memcpy(&found, &symbol, sizeof found);
  if (symbol == NULL) {
    printf("this C library has no _Fork\n");
    exit(SKIPPED);
  }
  return found;
}

static int pidfd_of(pid_t process) { return (int)syscall(SYS_pidfd_open, process, 0); }

// Waits for a child; 1 if it hung and was killed.
static int wait_for(pid_t child, int *status) {
  int hung = 0, fd = pidfd_of(child);
  CHECK(fd >= 0, "pidfd_open: %s", strerror(errno));
  struct pollfd poll_for = {.fd = fd, .events = POLLIN};
  int ready;
  do {
    ready = poll(&poll_for, 1, LIMIT_SECONDS * 1000);
  } while (ready < 0 && errno == EINTR);
  if (ready == 0) {
    hung = 1;
    kill(child, SIGKILL);
  }
  close(fd);
  while (waitpid(child, status, 0) < 0) CHECK(errno == EINTR, "waitpid: %s", strerror(errno));
  return hung;
}

typedef struct tally {
  long children, good, refused, hung;
  uint64_t slowest;
} tally;

static void run_child(tally *t, way make, void (*body)(void *), void *argument) {
  uint64_t began = now_ns();
  pid_t child = make();
  CHECK(child >= 0, "%s", strerror(errno));
  if (child == 0) {
    body(argument);
    _exit(0);
  }
  int status, hung = wait_for(child, &status);
  uint64_t took = now_ns() - began;
  t->children++;
  t->hung += hung;
  if (!hung && WIFEXITED(status)) {
    t->good += WEXITSTATUS(status) == 0;
    t->refused += WEXITSTATUS(status) == REFUSED;
  }
  if (took > t->slowest) t->slowest = took;
}

static void report(const tally *t, const char *what) {
  printf("%s: %ld children, %ld as they should, %ld refused, %ld hung, slowest %.0f ms\n", what, t->children, t->good,
         t->refused, t->hung, (double)t->slowest / 1e6);
  fflush(stdout);
  CHECK(t->good + t->refused == t->children, "%ld of %ld children went wrong, %ld hung", t->children - t->good - t->refused,
        t->children, t->hung);
}

// One child that must do as it should.
static void check_child(way make, void (*body)(void *), void *argument, const char *what) {
  tally t = {0};
  run_child(&t, make, body, argument);
  report(&t, what);
}

// What a child calls. The parent has one monitor open and had another.

static netmon_handle inherited, closed_before;
static int usable;                 // whether the child's other calls work; else they are FORKED
static const char *why = "forked"; // what the sentence names then

static void open_inherited(void) {
  inherited = OPEN("{\"interval_seconds\": 0.01, \"targets\": [\"127.0.0.1\"]}");
  closed_before = OPEN(NULL);
  CHECK_STATUS(netmon_close(closed_before), NETMON_OK);
}

static void check_forked(int32_t status, char *error, const char *call) {
  CHECK(status == NETMON_ERR_FORKED, "%s: %d", call, status);
  check_sentence(__FILE__, __LINE__, error, why);
}

static void read_latest(void) {
  netmon_snapshot snapshot = {.struct_size = sizeof snapshot};
  CHECK_STATUS(netmon_latest(inherited, &snapshot), NETMON_OK);
  CHECK(snapshot.sequence >= 1 && snapshot.wall_time_ns != 0, "sequence %" PRIu64, snapshot.sequence);
  CHECK_STATUS(netmon_latest(closed_before, &snapshot), NETMON_ERR_CLOSED);
  CHECK_STATUS(netmon_latest(12345, &snapshot), NETMON_ERR_INVALID_ARGUMENT);
  CHECK_STATUS(netmon_latest(inherited, NULL), NETMON_ERR_INVALID_ARGUMENT);
  CHECK(netmon_abi_version() == NETMON_ABI_VERSION && strcmp(netmon_version(), NETMON_VERSION) == 0, "versions");
  netmon_free(NULL);
}

static void ask(netmon_handle handle, const char *request, const char *start, char end) {
  char *json = POISON, *error = POISON;
  int32_t status = netmon_query(handle, request, &json, &error);
  if (usable) {
    CHECK(status == NETMON_OK, "%s: %d: %s", request, status, error);
    check_document(__FILE__, __LINE__, json, start, end);
  } else {
    check_forked(status, error, "netmon_query");
    CHECK(json == NULL, "json_out of a call that failed");
  }
}

static void probe(netmon_handle handle) {
  char *json = POISON, *error = POISON;
  int32_t status = netmon_probe(handle, "{\"target\": \"tcp://127.0.0.1:1\"}", &json, &error);
  if (usable) {
    CHECK(status == NETMON_OK, "netmon_probe: %d: %s", status, error);
    CHECK(strstr(json, "\"received\":1,") != NULL, "%s", json);
    check_document(__FILE__, __LINE__, json, "{\"id\":", '}');
  } else {
    check_forked(status, error, "netmon_probe");
    CHECK(json == NULL, "json_out of a call that failed");
  }
}

static void bandwidth(netmon_handle handle) {
  char *json = POISON, *error = POISON;
  int32_t status = netmon_bandwidth(handle, "{\"target\": \"127.0.0.1:1\"}", &json, &error);
  if (usable) {
    CHECK(status == NETMON_OK, "netmon_bandwidth: %d: %s", status, error);
    CHECK(strstr(json, "refuses the connection") != NULL, "%s", json);
    check_document(__FILE__, __LINE__, json, "{\"id\":", '}');
  } else {
    check_forked(status, error, "netmon_bandwidth");
    CHECK(json == NULL, "json_out of a call that failed");
  }
}

static void sample(netmon_handle handle) {
  char *json = POISON, *error = POISON;
  int32_t status = netmon_sample(handle, &json, &error);
  if (usable) {
    CHECK(status == NETMON_OK, "netmon_sample: %d: %s", status, error);
    check_document(__FILE__, __LINE__, json, SAMPLE_START, '}');
  } else {
    check_forked(status, error, "netmon_sample");
    CHECK(json == NULL, "json_out of a call that failed");
  }
}

static void call_everything(void *unused) {
  (void)unused;
  char *json = POISON, *error = POISON;
  read_latest();
  sample(inherited);
  ask(inherited, "{\"view\": \"health\"}", "{\"status\":", '}');
  ask(inherited, "{\"view\": \"history\"}", "[", ']');
  ask(inherited, "{\"view\": \"stats\", \"metric\": \"tcp.established\"}", "{\"metric\":", '}');
  probe(inherited);
  bandwidth(inherited);
  int32_t status = netmon_set_job(inherited, "{\"rank\": 1}", &error);
  if (usable) CHECK(status == NETMON_OK && error == NULL, "netmon_set_job: %d: %s", status, error);
  if (!usable) check_forked(status, error, "netmon_set_job");
  // A monitor of its own.
  netmon_handle own = 99;
  error = POISON;
  status = netmon_init("{\"interval_seconds\": 0.01}", &own, &error);
  if (usable) {
    CHECK(status == NETMON_OK && error == NULL && own != 0 && own != inherited, "netmon_init: %d: %s", status, error);
    netmon_snapshot snapshot = {.struct_size = sizeof snapshot};
    CHECK_STATUS(netmon_latest(own, &snapshot), NETMON_OK);
    sample(own);
    ask(own, "{\"view\": \"health\"}", "{\"status\":", '}');
    CHECK_STATUS(netmon_close(own), NETMON_OK);
    CHECK_STATUS(netmon_latest(own, &snapshot), NETMON_ERR_CLOSED);
    CHECK_STATUS(netmon_sample(own, &json, NULL), NETMON_ERR_CLOSED);
    CHECK_STATUS(netmon_init("{\"no\": 1}", &own, &error), NETMON_ERR_CONFIG);
    check_sentence(__FILE__, __LINE__, error, "interval_seconds");
  } else {
    check_forked(status, error, "netmon_init");
    CHECK(own == 0, "handle_out of a call that failed");
  }
  // What is wrong anywhere is wrong here too.
  error = POISON;
  CHECK_STATUS(netmon_sample(inherited, NULL, &error), NETMON_ERR_INVALID_ARGUMENT);
  check_sentence(__FILE__, __LINE__, error, "json_out");
  error = POISON;
  CHECK_STATUS(netmon_sample(closed_before, &json, &error), NETMON_ERR_CLOSED);
  check_sentence(__FILE__, __LINE__, error, "closed");
  error = POISON;
  CHECK_STATUS(netmon_sample(12345, &json, &error), NETMON_ERR_INVALID_ARGUMENT);
  check_sentence(__FILE__, __LINE__, error, "0x3039");
  // Many sentences, none of them freed.
  for (int i = 0; i < 40; i++) CHECK_STATUS(netmon_sample(closed_before, &json, &error), NETMON_ERR_CLOSED);
  CHECK_STATUS(netmon_close(0), NETMON_OK);
  CHECK_STATUS(netmon_close(closed_before), NETMON_OK);
  CHECK_STATUS(netmon_close(inherited), NETMON_OK);
  CHECK_STATUS(netmon_close(inherited), NETMON_OK);
  CHECK_STATUS(netmon_close(12345), NETMON_ERR_INVALID_ARGUMENT);
}

// As call_everything, but a fork while a thread was at work in the loader may leave the child refused.
static int may_be_refused;

static void call_or_be_refused(void *unused) {
  if (may_be_refused) {
    char *json = NULL, *error = NULL;
    int32_t status = netmon_sample(inherited, &json, &error);
    netmon_free(json);
    if (status == NETMON_ERR_FORKED) {
      usable = 0;
      why = "could not be loaded: "; // the loader's list is half changed, or, more rarely, the loader is locked for good
      check_sentence(__FILE__, __LINE__, error, why);
    }
  }
  call_everything(unused);
  if (may_be_refused && !usable) _exit(REFUSED);
}

// A parent with its hands full: threads that sample, that allocate, and one that loads and unloads a library.

static void *keep_sampling(void *unused) {
  (void)unused;
  for (;;) {
    SAMPLE(inherited);
    char *json = NULL;
    CHECK_STATUS(netmon_query(inherited, "{\"view\": \"history\"}", &json, NULL), NETMON_OK);
    netmon_free(json);
  }
  return NULL;
}

// All in the main arena: another thread frees what this one allocated.
static void *_Atomic passed[64];

static void *keep_allocating(void *unused) {
  (void)unused;
  for (unsigned i = 0;; i++) free(atomic_exchange(&passed[i % 64], malloc(2000 + i % 7 * 3000)));
  return NULL;
}

static void *keep_loading(void *unused) {
  (void)unused;
  for (;;) {
    void *library = dlopen("libnsl.so.1", RTLD_NOW);
    if (library == NULL) library = dlopen("libutil.so.1", RTLD_NOW);
    if (library == NULL) library = dlopen("libresolv.so.2", RTLD_NOW);
    CHECK(library != NULL, "%s", dlerror());
    dlclose(library);
  }
  return NULL;
}

static void start_threads(int loading) {
  void *(*work[])(void *) = {keep_sampling,   keep_sampling,   keep_sampling, keep_sampling,
                             keep_allocating, keep_allocating, keep_loading};
  for (size_t i = 0; i < sizeof work / sizeof work[0]; i++) {
    pthread_t thread;
    if (work[i] == keep_loading && !loading) continue;
    CHECK(pthread_create(&thread, NULL, work[i], NULL) == 0, "pthread_create");
  }
}

typedef struct series {
  tally t;
  way make;
  long times;
} series;

static void *run_series(void *argument) {
  series *s = argument;
  for (long i = 0; i < s->times; i++) run_child(&s->t, s->make, call_or_be_refused, NULL);
  return NULL;
}

static void case_everything(int count, char **words) {
  CHECK(count > 2, "usage: everything LIBRARY fork|_Fork|clone quiet|busy|loading [TIMES]");
  load(words[0]);
  series s = {.make = way_of(words[1]), .times = number_of(count, words, 3, 100)};
  usable = s.make == fork;
  why = usable ? "" : "made by _Fork or clone";
  open_inherited();
  may_be_refused = usable && words[2][0] == 'l';
  if (words[2][0] != 'q') start_threads(words[2][0] == 'l');
  // Half of them from the first thread, half from another.
  s.times /= 2;
  run_series(&s);
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, run_series, &s) == 0, "pthread_create");
  pthread_join(thread, NULL);
  char what[64];
  snprintf(what, sizeof what, "%s, parent %s", words[1], words[2]);
  report(&s.t, what);
  CHECK(s.t.good > 0 && (may_be_refused || s.t.refused == 0), "%ld were refused", s.t.refused);
  // The parent is what it was.
  netmon_snapshot snapshot = {.struct_size = sizeof snapshot};
  CHECK_STATUS(netmon_latest(inherited, &snapshot), NETMON_OK);
  for (uint64_t first = snapshot.sequence; snapshot.sequence < first + 3; rest()) {
    CHECK_STATUS(netmon_latest(inherited, &snapshot), NETMON_OK);
  }
  SAMPLE(inherited);
}

// Children of children. Each calls everything, then makes the next; handles of all generations work in the last.

static way nested_way;

static void descend(void *depth) {
  long left = *(long *)depth;
  netmon_handle own = 0;
  call_everything(NULL);
  if (usable) own = OPEN("{\"interval_seconds\": 0.01}");
  if (left > 1) {
    long next = left - 1;
    netmon_handle mine = inherited;
    if (usable) inherited = own; // the next one inherits this one's
    tally t = {0};
    run_child(&t, nested_way, descend, &next);
    CHECK(t.good == 1, "the child %ld from the bottom went wrong", next);
    inherited = mine;
  }
  if (usable) {
    SAMPLE(own);
    CHECK_STATUS(netmon_close(own), NETMON_OK);
  }
}

static void case_nested(int count, char **words) {
  CHECK(count > 2, "usage: nested LIBRARY fork|_Fork|clone DEPTH [TIMES]");
  load(words[0]);
  nested_way = way_of(words[1]);
  usable = nested_way == fork;
  why = usable ? "" : "made by _Fork or clone";
  open_inherited();
  start_threads(0);
  long depth = number_of(count, words, 2, 4), times = number_of(count, words, 3, 25);
  tally t = {0};
  for (long i = 0; i < times; i++) run_child(&t, nested_way, descend, &depth);
  char what[64];
  snprintf(what, sizeof what, "%s, %ld deep, from a busy parent", words[1], depth);
  report(&t, what);
}

// A child of each kind below one of the other: what clone made, fork does not put in order, but a child that fork made is
// usable whatever its parent was not.
static void call_as_usable(void *unused) {
  (void)unused;
  usable = 1;
  call_everything(NULL);
}

static void below_clone(void *unused) {
  (void)unused;
  why = "made by _Fork or clone";
  usable = 0;
  call_everything(NULL);
  check_child(fork, call_as_usable, NULL, "fork below clone");
}

static void below_fork(void *unused) {
  (void)unused;
  call_as_usable(NULL);
  inherited = OPEN("{\"interval_seconds\": 0.01}");
  check_child(by_clone, below_clone, NULL, "clone below fork");
  SAMPLE(inherited);
}

static void case_mixed(int count, char **words) {
  CHECK(count > 0, "usage: mixed LIBRARY");
  load(words[0]);
  open_inherited();
  check_child(fork, below_fork, NULL, "fork, clone, fork");
}

// All threads of a child enter at once.

static void *enter(void *unused) {
  (void)unused;
  sample(inherited);
  netmon_snapshot snapshot = {.struct_size = sizeof snapshot};
  CHECK_STATUS(netmon_latest(inherited, &snapshot), NETMON_OK);
  return NULL;
}

static void *read_on(void *stop) {
  while (!atomic_load((atomic_int *)stop)) {
    netmon_snapshot snapshot = {.struct_size = sizeof snapshot};
    int32_t status = netmon_latest(inherited, &snapshot);
    CHECK(status == NETMON_OK || status == NETMON_ERR_NO_DATA, "%d", status);
    CHECK(status != NETMON_OK || snapshot.sequence >= 1, "sequence 0");
  }
  return NULL;
}

static void enter_together(void *unused) {
  (void)unused;
  pthread_t threads[7];
  atomic_int stop = 0;
  CHECK(pthread_create(&threads[6], NULL, read_on, &stop) == 0, "pthread_create");
  for (int i = 0; i < 6; i++) CHECK(pthread_create(&threads[i], NULL, enter, NULL) == 0, "pthread_create");
  for (int i = 0; i < 6; i++) pthread_join(threads[i], NULL);
  atomic_store(&stop, 1);
  pthread_join(threads[6], NULL);
}

static void case_together(int count, char **words) {
  CHECK(count > 0, "usage: together LIBRARY [TIMES]");
  load(words[0]);
  open_inherited();
  usable = 1;
  tally t = {0};
  for (long i = number_of(count, words, 1, 20); i > 0; i--) run_child(&t, fork, enter_together, NULL);
  report(&t, "six threads of a child enter at once");
}

// netmon_latest follows the parent, until that closes.

static void follow(void *pipes) {
  int told = ((int *)pipes)[0], tell = ((int *)pipes)[1];
  netmon_snapshot snapshot = {.struct_size = sizeof snapshot};
  CHECK_STATUS(netmon_latest(inherited, &snapshot), NETMON_OK);
  for (uint64_t first = snapshot.sequence; snapshot.sequence < first + 5; rest()) {
    CHECK_STATUS(netmon_latest(inherited, &snapshot), NETMON_OK);
  }
  // Closing here changes neither that nor the parent.
  CHECK_STATUS(netmon_close(inherited), NETMON_OK);
  for (uint64_t first = snapshot.sequence; snapshot.sequence < first + 5; rest()) {
    CHECK_STATUS(netmon_latest(inherited, &snapshot), NETMON_OK);
  }
  char word = 'c';
  CHECK(write(tell, &word, 1) == 1 && read(told, &word, 1) == 1, "%s", strerror(errno));
  CHECK_STATUS(netmon_latest(inherited, &snapshot), NETMON_ERR_CLOSED);
  CHECK(snapshot.sequence == 0, "sequence %" PRIu64, snapshot.sequence);
  // The place is taken by another monitor: still closed here.
  CHECK(write(tell, &word, 1) == 1 && read(told, &word, 1) == 1, "%s", strerror(errno));
  for (int i = 0; i < 20; i++, rest()) CHECK_STATUS(netmon_latest(inherited, &snapshot), NETMON_ERR_CLOSED);
}

static void case_latest(int count, char **words) {
  CHECK(count > 1, "usage: latest LIBRARY fork|_Fork|clone");
  load(words[0]);
  open_inherited();
  int to[2], from[2], status;
  CHECK(pipe(to) == 0 && pipe(from) == 0, "%s", strerror(errno));
  pid_t child = way_of(words[1])();
  if (child == 0) {
    close(to[1]);
    close(from[0]);
    follow((int[]){to[0], from[1]});
    _exit(0);
  }
  close(to[0]);
  close(from[1]);
  char word;
  CHECK(read(from[0], &word, 1) == 1, "the child ended");
  SAMPLE(inherited); // though the child has closed it
  CHECK_STATUS(netmon_close(inherited), NETMON_OK);
  CHECK(write(to[1], &word, 1) == 1 && read(from[0], &word, 1) == 1, "the child ended");
  netmon_handle next = OPEN("{\"interval_seconds\": 0.01}");
  CHECK(write(to[1], &word, 1) == 1, "%s", strerror(errno));
  CHECK(wait_for(child, &status) == 0 && status == 0, "status %#x", status);
  CHECK_STATUS(netmon_close(next), NETMON_OK);
}

// What a child needs and does not get.

static void forbid(uint32_t system_call, int argument, uint32_t value, uint32_t error) {
  struct sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, system_call, 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
               argument < 0 ? offsetof(struct seccomp_data, nr) : offsetof(struct seccomp_data, args) + 8 * (size_t)argument),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, argument < 0 ? system_call : value, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog program = {.len = sizeof filter / sizeof filter[0], .filter = filter};
  CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "%s", strerror(errno));
  CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0, "%s", strerror(errno));
}

static void without_memfd(void *folder) {
  forbid(SYS_memfd_create, -1, 0, EPERM);
  if (folder != NULL) setenv("TMPDIR", folder, 1);
  int before = open_descriptors();
  call_everything(NULL);
  CHECK(usable || open_descriptors() == before, "%d descriptors, %d before", open_descriptors(), before);
}

static void with_little_memory(void *bytes) {
  struct rlimit limit = {.rlim_cur = *(rlim_t *)bytes, .rlim_max = *(rlim_t *)bytes};
  CHECK(setrlimit(RLIMIT_AS, &limit) == 0, "%s", strerror(errno));
  call_everything(NULL);
}

static void with_few_threads(void *unused) {
  (void)unused;
  // The limit counts the user's, and the superuser has none.
  uid_t user = (uid_t)(40000 + getpid() % 20000);
  struct rlimit limit = {.rlim_cur = 4, .rlim_max = 4};
  CHECK(setrlimit(RLIMIT_NPROC, &limit) == 0, "%s", strerror(errno));
  if (getuid() == 0) CHECK(setresuid(user, user, user) == 0, "%s", strerror(errno));
  call_everything(NULL);
}

static void with_no_descriptor(void *unused) {
  (void)unused;
  struct rlimit limit = {.rlim_cur = 0, .rlim_max = 0};
  CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0, "%s", strerror(errno));
  call_everything(NULL);
}

static void case_refused(int count, char **words) {
  CHECK(count > 0, "usage: refused LIBRARY");
  load(words[0]);
  open_inherited();
  usable = 1;
  check_child(fork, without_memfd, NULL, "no memfd");
  char folder[] = "/tmp/netmon-test-XXXXXX";
  CHECK(mkdtemp(folder) != NULL, "%s", strerror(errno));
  check_child(fork, without_memfd, folder, "no memfd, TMPDIR given");
  CHECK(entries_of(folder) == 2, "a copy was left in %s", folder);
  CHECK(rmdir(folder) == 0, "%s", strerror(errno));
  usable = 0;
  why = "/nonexistent";
  check_child(fork, without_memfd, "/nonexistent", "no memfd, no folder");
  why = "ulimit -v";
  rlim_t bytes = UINT64_C(1) << 30;
  check_child(fork, with_little_memory, &bytes, "1 GiB of address space");
  why = "ulimit -u";
  check_child(fork, with_few_threads, NULL, "4 processes and threads");
  why = "forked";
  check_child(fork, with_no_descriptor, NULL, "no descriptor");
}

// The library's file is another one, or gone, since it was loaded.

static void copy_file(const char *from, const char *to) {
  char command[2 * PATH_MAX];
  snprintf(command, sizeof command, "cp '%s' '%s'", from, to);
  CHECK(system(command) == 0, "%s", command);
}

static void case_file(int count, char **words) {
  CHECK(count > 1, "usage: file LIBRARY deleted|replaced|rewritten|moved");
  // A name that is no UTF-8 must not make a sentence that is none.
  char folder[] = "/tmp/netmon-\xff-XXXXXX", path[PATH_MAX], other[PATH_MAX];
  CHECK(mkdtemp(folder) != NULL, "%s", strerror(errno));
  snprintf(path, sizeof path, "%s/libnetmon.so", folder);
  snprintf(other, sizeof other, "%s/other", folder);
  copy_file(words[0], path);
  load(path);
  open_inherited();
  CHECK(chdir("/") == 0, "%s", strerror(errno));
  usable = 1;
  check_child(fork, call_everything, NULL, "the file as it was");
  usable = 0;
  why = words[1][0] == 'd' || words[1][0] == 'm' ? "cannot be opened" : "was replaced";
  if (strcmp(words[1], "deleted") == 0) {
    CHECK(unlink(path) == 0, "%s", strerror(errno));
  } else if (strcmp(words[1], "replaced") == 0) {
    copy_file(words[0], other);
    CHECK(rename(other, path) == 0, "%s", strerror(errno));
  } else if (strcmp(words[1], "rewritten") == 0) {
    copy_file(words[0], other);
    char command[2 * PATH_MAX];
    // As a careless installer does: the same inode, new content.
    snprintf(command, sizeof command, "printf x | dd of='%s' bs=1 seek=6000000 conv=notrunc 2>/dev/null", path);
    CHECK(system(command) == 0, "%s", command);
  } else {
    CHECK(rename(path, other) == 0, "%s", strerror(errno));
  }
  check_child(fork, call_everything, NULL, words[1]);
  SAMPLE(inherited);
  unlink(path);
  unlink(other);
  CHECK(rmdir(folder) == 0, "%s", strerror(errno));
}

// The memory that says whether a process was forked cannot be had: older kernels, other implementations of Linux.
static void case_no_wipe(int count, char **words) {
  CHECK(count > 0, "usage: no-wipe LIBRARY");
  forbid(SYS_madvise, 2, 18 /* MADV_WIPEONFORK */, EINVAL);
  CHECK(madvise(NULL, 0, 18) == -1, "the filter does not work");
  load(words[0]);
  open_inherited();
  check_child(fork, below_fork, NULL, "fork, clone, fork without MADV_WIPEONFORK");
  nested_way = fork;
  usable = 1;
  long depth = 3;
  check_child(fork, descend, &depth, "fork, 3 deep, without MADV_WIPEONFORK");
  usable = 0;
  why = "made by _Fork or clone";
  check_child(by_clone, call_everything, NULL, "clone without MADV_WIPEONFORK");
  SAMPLE(inherited);
}

// The loader is locked at the moment of the fork, by a thread that the child does not have.

static atomic_int holding;

static int hold(struct dl_phdr_info *info, size_t size, void *unused) {
  (void)info, (void)size, (void)unused;
  atomic_store(&holding, 1);
  for (;;) pause();
  return 0;
}

static void *hold_loader(void *unused) {
  (void)unused;
  dl_iterate_phdr(hold, NULL);
  return NULL;
}

static void case_locked(int count, char **words) {
  CHECK(count > 0, "usage: locked LIBRARY");
  load(words[0]);
  open_inherited();
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, hold_loader, NULL) == 0, "pthread_create");
  while (!atomic_load(&holding)) rest();
  usable = 0;
  why = "dynamic loader";
  tally t = {0};
  run_child(&t, fork, call_everything, NULL);
  report(&t, "the loader is locked");
  CHECK(t.slowest < 8000000000u, "it took %.1f s", (double)t.slowest / 1e9);
  SAMPLE(inherited);
}

// Namespaces in which /proc knows the process by another id, or is not there.

static void in_pid_namespace(void *unused) {
  (void)unused;
  if (unshare(CLONE_NEWPID) != 0) _exit(SKIPPED);
  check_child(fork, call_everything, NULL, "in a pid namespace with the parent's /proc");
}

static void without_proc(void *unused) {
  (void)unused;
  if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) _exit(SKIPPED);
  if (mount("none", "/proc", "tmpfs", 0, NULL) != 0) _exit(SKIPPED);
  call_everything(NULL);
}

static void case_namespaces(int count, char **words) {
  CHECK(count > 0, "usage: namespaces LIBRARY");
  if (geteuid() != 0) exit(SKIPPED);
  load(words[0]);
  open_inherited();
  usable = 1;
  check_child(fork, in_pid_namespace, NULL, "a pid namespace");
  check_child(fork, without_proc, NULL, "no /proc");
}

// Children and parents end as they would without the library.

static void exit_in_order(void *unused) {
  (void)unused;
  sample(inherited);
  exit(0);
}

static void case_exit(int count, char **words) {
  CHECK(count > 0, "usage: exit LIBRARY [TIMES]");
  load(words[0]);
  open_inherited();
  usable = 1;
  tally t = {0};
  for (long i = number_of(count, words, 1, 20); i > 0; i--) run_child(&t, fork, exit_in_order, NULL);
  report(&t, "exit");
  start_threads(1);
  exit(0); // while all threads are at work
}

int main(int argc, char **argv) {
  static const test_case cases[] = {
      {"everything", case_everything},
      {"nested", case_nested},
      {"mixed", case_mixed},
      {"together", case_together},
      {"latest", case_latest},
      {"refused", case_refused},
      {"file", case_file},
      {"no-wipe", case_no_wipe},
      {"locked", case_locked},
      {"exit", case_exit},
      {"namespaces", case_namespaces},
  };
  return run_case(cases, sizeof cases / sizeof cases[0], argc, argv);
}
