// programs.c: the programs of bandwidth tests, as a host sees them: not at all. Each test runs a fake, which is this program again,
// called by a script of one line: #!PATH-OF-THIS-PROGRAM fake-NAME.

#include "check.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

// The fakes.

static void wait_for_ever(void) {
  for (;;) pause();
}

static void fake_garbage(int count, char **words) {
  (void)count, (void)words;
  for (int i = 0; i < 100000; i++) putchar(i * 7919 % 256);
}

static void fake_hang(int count, char **words) {
  (void)count, (void)words;
  wait_for_ever();
}

static void fake_die(int count, char **words) {
  (void)count, (void)words;
  fprintf(stderr, "first line\nERROR: the server has gone \001 away\n");
  exit(3);
}

static void fake_crash(int count, char **words) {
  (void)count, (void)words;
  kill(getpid(), SIGSEGV);
  wait_for_ever();
}

static void print_gigabytes(int fd) {
  static char block[1 << 16];
  memset(block, 'x', sizeof block);
  while (write(fd, block, sizeof block) > 0) continue;
}

static void fake_gigabytes(int count, char **words) {
  (void)count, (void)words;
  print_gigabytes(1);
}

static void fake_complains(int count, char **words) {
  (void)count, (void)words;
  print_gigabytes(2);
}

static void fake_stubborn(int count, char **words) {
  (void)count, (void)words;
  for (int signal = 1; signal < NSIG; signal++) {
    struct sigaction ignored = {.sa_handler = SIG_IGN};
    sigaction(signal, &ignored, NULL);
  }
  wait_for_ever();
}

// A family that holds the pipes: children, one in a session of its own, and one that is an orphan besides.
static void leave_family(void) {
  for (int i = 0; i < 3; i++) {
    if (fork() == 0) {
      if (i > 0) setsid();
      if (i > 1 && fork() != 0) _exit(0);
      wait_for_ever();
    }
  }
}

static void fake_family(int count, char **words) {
  (void)count, (void)words;
  leave_family();
}

static void fake_clan(int count, char **words) {
  (void)count, (void)words;
  leave_family();
  wait_for_ever();
}

static void fake_closed(int count, char **words) {
  (void)count, (void)words;
  close(1);
  close(2);
  wait_for_ever();
}

// Tells what it has got, as an error of iperf3.
static void fake_tells(int count, char **words) {
  // This program is linked with the library, whose Go runtime starts in a thread of its own meanwhile and opens some files for a moment.
  usleep(200000);
  printf("{\"error\": \"descriptors");
  DIR *folder = opendir("/proc/self/fd");
  for (struct dirent *e; (e = readdir(folder)) != NULL;) {
    if (e->d_name[0] != '.' && atoi(e->d_name) != dirfd(folder)) printf(" %s", e->d_name);
  }
  closedir(folder);
  sigset_t mask;
  sigprocmask(SIG_SETMASK, NULL, &mask);
  int blocked = 0, ignored = 0;
  for (int signal = 1; signal < NSIG; signal++) {
    struct sigaction now;
    blocked += sigismember(&mask, signal) == 1;
    ignored += sigaction(signal, NULL, &now) == 0 && now.sa_handler == SIG_IGN;
  }
  struct rlimit core;
  getrlimit(RLIMIT_CORE, &core);
  printf(", blocked %d, ignored %d, session %d, group %d, input %zd, core %d, environment", blocked, ignored,
         getsid(0) == getpid(), getpgrp() == getpid(), read(0, &mask, 1), core.rlim_cur != 0);
  for (char **variable = environ; *variable != NULL; variable++) printf(" %.*s", (int)strcspn(*variable, "="), *variable);
  printf(", arguments");
  for (int i = 1; i < count; i++) printf(" %s", words[i]);
  printf("\"}\n");
}

// The host.

static atomic_int children_ended, statuses_taken, stop_waiting;
static void count_child(int signal) { (void)signal, children_ended++; }

// What a training program's data loader does all the time.
static void *wait_for_children(void *unused) {
  (void)unused;
  int status;
  while (!atomic_load(&stop_waiting)) {
    if (waitpid(-1, &status, 0) > 0) statuses_taken++;
    rest();
  }
  return NULL;
}

static char folder[] = "/tmp/netmon-programs-XXXXXX";
static netmon_handle monitor;

// Writes the script of a fake, and returns its path.
static const char *fake(const char *name) {
  static char path[256], self[4096];
  ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
  CHECK(length > 0 && length < 120, "the path of this program is too long for the first line of a script: %s", self);
  self[length] = 0;
  snprintf(path, sizeof path, "%s/%s", folder, name);
  int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
  CHECK(fd >= 0, "%s: %s", path, strerror(errno));
  dprintf(fd, "#!%s fake-%s\n", self, name);
  close(fd);
  return path;
}

// Counts processes that run a script of the folder.
static int fakes_running(void) {
  int found = 0;
  DIR *all = opendir("/proc");
  for (struct dirent *e; (e = readdir(all)) != NULL;) {
    char path[512], text[8192];
    if (e->d_name[0] < '0' || e->d_name[0] > '9') continue;
    snprintf(path, sizeof path, "/proc/%s/cmdline", e->d_name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? -1 : read(fd, text, sizeof text);
    if (fd >= 0) close(fd);
    if (length > 0) found += memmem(text, (size_t)length, folder, strlen(folder)) != NULL;
  }
  closedir(all);
  return found;
}

// The processes, zombies too, that have this one as their parent.
static int children(void) {
  int found = 0;
  DIR *tasks = opendir("/proc/self/task");
  for (struct dirent *e; (e = readdir(tasks)) != NULL;) {
    char path[512], text[4096];
    snprintf(path, sizeof path, "/proc/self/task/%s/children", e->d_name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? 0 : read(fd, text, sizeof text);
    if (fd >= 0) close(fd);
    for (ssize_t i = 0; i < length; i++) found += text[i] == ' ';
  }
  closedir(tasks);
  return found;
}

// Whether a keeper runs, by the name that core/process knows it by.
static int keepers(void) {
  int found = 0;
  DIR *all = opendir("/proc");
  for (struct dirent *e; (e = readdir(all)) != NULL;) {
    char path[512], text[64] = "";
    snprintf(path, sizeof path, "/proc/%s/comm", e->d_name);
    int fd = e->d_name[0] < '0' || e->d_name[0] > '9' ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) continue;
    if (read(fd, text, sizeof text - 1) < 0) text[0] = 0;
    close(fd);
    found += strcmp(text, "netmon-keeper\n") == 0;
  }
  closedir(all);
  return found;
}

static char *ask(const char *request) {
  char *json = POISON, *error = POISON;
  int32_t status = netmon_bandwidth(monitor, request, &json, &error);
  CHECK(status == NETMON_OK, "%s: %d: %s", request, status, error);
  CHECK(error == NULL, "error_out was not zeroed");
  return json;
}

static void contains(const char *json, const char *word) { CHECK(strstr(json, word) != NULL, "no %s: %s", word, json); }

static void begin(void) {
  CHECK(mkdtemp(folder) != NULL, "%s", strerror(errno));
  struct sigaction action = {.sa_handler = count_child, .sa_flags = SA_RESTART};
  CHECK(sigaction(SIGCHLD, &action, NULL) == 0, "%s", strerror(errno));
  monitor = OPEN("{\"interval_seconds\": 0.05}");
}

static void end(void) {
  char command[64];
  CHECK(children_ended == 0 && statuses_taken == 0, "the host saw %d children end, and got %d statuses", children_ended,
        statuses_taken);
  CHECK_STATUS(netmon_close(monitor), NETMON_OK);
  snprintf(command, sizeof command, "rm -r %s", folder);
  signal(SIGCHLD, SIG_DFL);
  CHECK(system(command) == 0, "%s", command);
}

// Every fake is a sentence, in time, and leaves nothing.
static void case_fakes(int count, char **words) {
  (void)count, (void)words;
  begin();
  pthread_t waiting;
  CHECK(pthread_create(&waiting, NULL, wait_for_children, NULL) == 0, "pthread_create");
  const struct {
    const char *name, *word;
    double most; // seconds
  } fakes[] = {
      {"garbage", "printed what is not understood", 1},
      {"hang", "did not end within 1 s and was killed", 2},
      {"die", "failed with exit status 3: ERROR: the server has gone   away", 1},
      {"crash", "was ended by signal 11", 1},
      {"gigabytes", "printed more than 1 MiB and was killed", 1},
      {"complains", "printed more than 1 MiB and was killed", 1},
      {"stubborn", "did not end within 1 s and was killed", 2},
      {"family", "failed and said nothing", 1},
      {"clan", "did not end within 1 s and was killed", 2},
      {"closed", "did not end within 1 s and was killed", 2},
  };
  const double slack = 3; // on a busy machine
  for (int round = 0; round < 2; round++) {
    int descriptors = open_descriptors(), threads = running_threads();
    for (size_t i = 0; i < sizeof fakes / sizeof fakes[0]; i++) {
      char request[512];
      const char *tool = i % 2 == 0 ? "\"iperf3\", \"target\": \"127.0.0.1\", \"seconds\": 1" : "\"speedtest-cli\"";
      snprintf(request, sizeof request, "{\"tool\": %s, \"program\": \"%s\", \"timeout_seconds\": 1}", tool,
               fake(fakes[i].name));
      uint64_t began = now_ns();
      char *json = ask(request);
      double took = (double)(now_ns() - began) / 1e9;
      contains(json, "\"done\":true");
      contains(json, fakes[i].word);
      CHECK(took < fakes[i].most + slack, "%s took %.2f s", fakes[i].name, took);
      if (round == 0) printf("%s: %.2f s\n", fakes[i].name, took);
      netmon_free(json);
      int left = fakes_running();
      CHECK(left == 0, "%s leaves %d processes", fakes[i].name, left);
      CHECK(children() == 0, "%s leaves %d children", fakes[i].name, children());
    }
    if (round > 0) { // the first starts threads of the Go runtime
      CHECK(open_descriptors() == descriptors, "%d descriptors, %d before", open_descriptors(), descriptors);
      for (int i = 0; i < 2000 && running_threads() > threads; i++) rest();
      CHECK(running_threads() <= threads, "%d threads, %d before", running_threads(), threads);
    }
  }
  stop_waiting = 1;
  pthread_join(waiting, NULL);
  end();
}

// A host that ignores SIGCHLD has no zombies; how the program ended is known all the same.
static void case_ignored(int count, char **words) {
  (void)count, (void)words;
  begin();
  const struct sigaction ways[] = {{.sa_handler = SIG_IGN}, {.sa_handler = SIG_DFL, .sa_flags = SA_NOCLDWAIT}};
  for (int i = 0; i < 2; i++) {
    CHECK(sigaction(SIGCHLD, &ways[i], NULL) == 0, "%s", strerror(errno));
    const struct {
      const char *name, *word;
    } fakes[] = {
        {"die", "failed with exit status 3"}, {"crash", "was ended by signal 11"}, {"family", "failed and said nothing"}};
    for (size_t k = 0; k < sizeof fakes / sizeof fakes[0]; k++) {
      char request[512];
      snprintf(request, sizeof request, "{\"tool\": \"speedtest-cli\", \"program\": \"%s\"}", fake(fakes[k].name));
      char *json = ask(request);
      contains(json, fakes[k].word);
      netmon_free(json);
      CHECK(fakes_running() == 0 && children() == 0, "%s leaves %d processes", fakes[k].name, fakes_running());
    }
    struct sigaction now;
    CHECK(sigaction(SIGCHLD, NULL, &now) == 0 && now.sa_handler == ways[i].sa_handler &&
              (now.sa_flags & ways[i].sa_flags) == ways[i].sa_flags,
          "the host's disposition is another one");
  }
  end();
}

// The program has nothing of the host: no descriptor, no mask, no handler, no variable; and it is called as it was asked for.
static void case_inherits(int count, char **words) {
  (void)count, (void)words;
  begin();
  // As a training program's: sockets that are not closed by exec.
  int pair[2];
  CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0 && dup2(pair[0], 700) == 700, "%s", strerror(errno));
  setenv("SECRET_TOKEN", "x", 1);
  struct rlimit core;
  CHECK(getrlimit(RLIMIT_CORE, &core) == 0, "%s", strerror(errno));
  core.rlim_cur = core.rlim_max;
  CHECK(setrlimit(RLIMIT_CORE, &core) == 0, "%s", strerror(errno));
  sigset_t some;
  sigemptyset(&some);
  sigaddset(&some, SIGTERM);
  sigprocmask(SIG_BLOCK, &some, NULL);
  signal(SIGUSR1, SIG_IGN);
  char request[512];
  snprintf(request, sizeof request,
           "{\"tool\": \"iperf3\", \"target\": \"[::1]:77\", \"program\": \"%s\", \"seconds\": 3, \"direction\": \"receive\"}",
           fake("tells"));
  char *json = ask(request);
  contains(json, "descriptors 0 1 2, blocked 0, ignored 0, session 1, group 1, input 0, core 0, environment LANG ");
  CHECK(strstr(json, "SECRET") == NULL, "%s", json);
  contains(json, ", arguments --client ::1 --port 77 --time 3 --parallel 1 --connect-timeout 5000 --json --reverse\"");
  printf("%s\n", json);
  netmon_free(json);

  // Where the host has closed its own standard streams.
  for (int fd = 0; fd < 2; fd++) close(fd);
  json = ask(request);
  contains(json, "descriptors 0 1 2, blocked 0,");
  netmon_free(json);
  sigset_t now;
  sigprocmask(SIG_SETMASK, NULL, &now);
  CHECK(sigismember(&now, SIGTERM) == 1 && sigismember(&now, SIGINT) == 0, "the mask of the thread is another one");
  const rlim_t most = core.rlim_max;
  CHECK(getrlimit(RLIMIT_CORE, &core) == 0 && core.rlim_cur == most && core.rlim_max == most,
        "the host's limit is another one");
  CHECK(write(pair[1], "x", 1) == 1, "the host's socket: %s", strerror(errno));
  end();
}

// Starts a program that hangs, and waits until it runs. Returns its id.
static long hanging(const char *name) {
  char request[512];
  snprintf(request, sizeof request, "{\"tool\": \"speedtest-cli\", \"program\": \"%s\", \"wait_seconds\": 0}", fake(name));
  char *json = ask(request);
  long id = 0;
  CHECK(sscanf(json, "{\"id\":%ld,\"done\":false,\"tests\":[]}", &id) == 1, "%s", json);
  netmon_free(json);
  while (fakes_running() < (strcmp(name, "clan") == 0 ? 4 : 1)) rest();
  return id;
}

static double gone_after(uint64_t began) {
  while (fakes_running() > 0 || children() > 0) {
    CHECK(now_ns() - began < 3000000000u, "%d processes and %d children after 3 s", fakes_running(), children());
    rest();
  }
  return (double)(now_ns() - began) / 1e9;
}

static void *close_monitor(void *unused) {
  (void)unused;
  for (int i = 0; i < 50; i++) rest();
  CHECK_STATUS(netmon_close(monitor), NETMON_OK);
  return NULL;
}

// Nobody wants it any more: it is canceled, or the monitor closed.
static void case_unwanted(int count, char **words) {
  (void)count, (void)words;
  begin();
  const char *names[] = {"hang", "stubborn", "clan", "closed"};
  for (int i = 0; i < 4; i++) {
    char request[64];
    long id = hanging(names[i]);
    CHECK(keepers() > 0, "no process is called netmon-keeper");
    char *error = POISON, *json = POISON;
    CHECK_STATUS(netmon_bandwidth(monitor, "{\"target\": \"127.0.0.1\"}", &json, &error), NETMON_ERR_RESOURCES);
    check_sentence(__FILE__, __LINE__, error, "another bandwidth test");
    snprintf(request, sizeof request, "{\"id\": %ld, \"cancel\": true}", id);
    uint64_t began = now_ns();
    json = ask(request);
    double answered = (double)(now_ns() - began) / 1e9, gone = gone_after(began);
    contains(json, "\"done\":true");
    contains(json, "canceled");
    netmon_free(json);
    hanging(names[i]);
    began = now_ns();
    CHECK_STATUS(netmon_close(monitor), NETMON_OK);
    double closed = (double)(now_ns() - began) / 1e9, killed = gone_after(began);
    printf("%s: canceled in %.3f s, gone after %.3f; closed in %.3f s, gone after %.3f\n", names[i], answered, gone, closed,
           killed);
    CHECK(answered < 1 && gone < 1 && closed < 0.5 && killed < 1, "too slow");
    monitor = OPEN("{}");
  }
  // Somebody waits for it meanwhile.
  pthread_t closer;
  long id = hanging("hang");
  CHECK(pthread_create(&closer, NULL, close_monitor, NULL) == 0, "pthread_create");
  char request[64], *json = POISON, *error = POISON;
  snprintf(request, sizeof request, "{\"id\": %ld}", id);
  uint64_t began = now_ns();
  CHECK_STATUS(netmon_bandwidth(monitor, request, &json, &error), NETMON_ERR_CLOSED);
  CHECK(now_ns() - began < 1000000000, "%" PRIu64 " ns", now_ns() - began);
  netmon_free(error);
  pthread_join(closer, NULL);
  gone_after(began);
  monitor = OPEN("{}");
  end();
}

// A host that is killed takes the program with it.
static void case_victim(int count, char **words) {
  CHECK(count > 0, "usage: victim FOLDER");
  strcpy(folder, words[0]);
  monitor = OPEN("{}");
  hanging("clan");
  printf("ready\n");
  fflush(stdout);
  wait_for_ever();
}

static void case_killed(int count, char **words) {
  (void)count, (void)words;
  begin();
  int pipes[2];
  CHECK(pipe2(pipes, O_CLOEXEC) == 0, "%s", strerror(errno));
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, pipes[1], 1);
  char *arguments[] = {"victim", "victim", folder, NULL};
  pid_t victim;
  CHECK(posix_spawn(&victim, "/proc/self/exe", &actions, NULL, arguments, environ) == 0, "posix_spawn");
  posix_spawn_file_actions_destroy(&actions);
  close(pipes[1]);
  char text[16];
  CHECK(read(pipes[0], text, sizeof text) > 0, "the victim says nothing");
  CHECK(kill(victim, SIGKILL) == 0, "%s", strerror(errno));
  uint64_t began = now_ns();
  CHECK(waitpid(victim, NULL, 0) == victim, "%s", strerror(errno));
  printf("gone after %.3f s\n", gone_after(began));
  children_ended = 0;
  end();
}

// Many in a row: descriptors, threads and memory stay flat.
static void case_many(int count, char **words) {
  const long rounds = number_of(count, words, 0, 200);
  begin();
  char request[512];
  snprintf(request, sizeof request, "{\"tool\": \"speedtest-cli\", \"program\": \"%s\"}", fake("die"));
  long before = 0, size = 0;
  int descriptors = 0;
  for (long i = 0; i < rounds; i++) {
    netmon_free(ask(request));
    if (i == rounds / 2) before = status_line("VmRSS:"), size = status_line("VmSize:"), descriptors = open_descriptors();
  }
  printf("VmRSS %ld then %ld KiB, VmSize %ld then %ld\n", before, status_line("VmRSS:"), size, status_line("VmSize:"));
  CHECK(open_descriptors() == descriptors, "%d descriptors, %d before", open_descriptors(), descriptors);
  CHECK(status_line("VmRSS:") < before + 4096, "memory grows");
  CHECK(status_line("VmSize:") < size + 131072, "address space grows"); // a thread's stack takes some for a while
  CHECK(children() == 0, "%d children", children());
  end();
}

int main(int argc, char **argv) {
  static const test_case cases[] = {
      {"fakes", case_fakes},
      {"ignored", case_ignored},
      {"inherits", case_inherits},
      {"unwanted", case_unwanted},
      {"killed", case_killed},
      {"victim", case_victim},
      {"many", case_many},
      {"fake-garbage", fake_garbage},
      {"fake-hang", fake_hang},
      {"fake-die", fake_die},
      {"fake-crash", fake_crash},
      {"fake-gigabytes", fake_gigabytes},
      {"fake-complains", fake_complains},
      {"fake-stubborn", fake_stubborn},
      {"fake-family", fake_family},
      {"fake-clan", fake_clan},
      {"fake-closed", fake_closed},
      {"fake-tells", fake_tells},
  };
  return run_case(cases, sizeof cases / sizeof cases[0], argc, argv);
}
