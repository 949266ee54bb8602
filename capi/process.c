// process.c: what a forked child does.
//
// A Go runtime does not survive fork: its threads are gone and the next call into it hangs. The child therefore never enters
// the inherited one. It loads a private copy of this library from memory, which starts a runtime of its own, and sends its
// calls there. Reading what the parent publishes needs none of this (snapshot.c).

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "shim.h"

// living is wiped by the kernel in every forked child (MADV_WIPEONFORK, Linux 4.14), however it was forked. What has to start
// anew in a child is here.
typedef struct living {
  _Atomic int entered;  // 0: nobody found out yet where calls of this process go
  _Atomic int lock;     // 0: free, 1: held, 2: held and waited for
  _Atomic int failed;   // loading a copy failed; not tried again
  _Atomic int forked;   // id of this process if fork() made it
  _Atomic int residing; // id of the process that entered
} living;

// Where no memory can be wiped, pthread_atfork and the process id tell.
static living fallback;
static living *page = &fallback;

// The process's own after a fork, by copying.
static netmon_process current;
static char failure[512];
static char library_path[4096];
static struct statx library_file;

static void clear_in_child(void) {
  memset((void *)page, 0, sizeof *page);
  atomic_store(&page->forked, getpid());
}

static void entered(void) {
  atomic_store(&page->residing, getpid());
  atomic_store(&page->entered, 1);
}

__attribute__((constructor)) static void start(void) {
  long size = sysconf(_SC_PAGESIZE);
  void *memory = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory != MAP_FAILED) {
    if (madvise(memory, (size_t)size, MADV_WIPEONFORK) == 0) {
      page = memory;
    } else {
      munmap(memory, (size_t)size);
    }
  }
  pthread_atfork(NULL, NULL, clear_in_child);
  entered();
  // Where this library lies now; the process may change its directory later.
  Dl_info info;
  if (dladdr(library_path, &info) != 0 && info.dli_fname != NULL) {
    char *absolute = realpath(info.dli_fname, NULL);
    if (absolute != NULL && strlen(absolute) < sizeof library_path &&
        statx(AT_FDCWD, absolute, 0, STATX_BASIC_STATS, &library_file) == 0) {
      strcpy(library_path, absolute);
    }
    free(absolute);
  }
}

int netmon_process_is_fresh_child(void) {
  if (atomic_load(&page->entered) == 0) return 1;
  return page == &fallback && atomic_load(&page->residing) != getpid();
}

int netmon_process_may_allocate(void) { return !netmon_process_is_fresh_child() || atomic_load(&page->forked) == getpid(); }

static long futex(_Atomic int *word, int operation, int value, const struct timespec *most) {
  return syscall(SYS_futex, word, operation | FUTEX_PRIVATE_FLAG, value, most, NULL, 0);
}

void netmon_process_lock(void) {
  int seen = 0;
  if (atomic_compare_exchange_strong(&page->lock, &seen, 1)) return;
  while (atomic_exchange(&page->lock, 2) != 0) futex(&page->lock, FUTEX_WAIT, 2, NULL);
}

void netmon_process_unlock(void) {
  if (atomic_exchange(&page->lock, 0) == 2) futex(&page->lock, FUTEX_WAKE, 1, NULL);
}

// The loading of a private copy. It happens in a thread of its own: the caller's stack may be small, its cancellation and its
// signals stay out of it, and the loader may be locked for ever, by a thread of the parent that this process does not have.
typedef struct loading {
  _Atomic int state;
  const netmon_api *copy;
  char failure[sizeof failure];
} loading;

enum { LOADING_RUNS, LOADING_ENDED, LOADING_GIVEN_UP, MOST_LOADING_SECONDS = 3 };

static loading the_loading;

__attribute__((format(printf, 2, 3))) static void *note(loading *l, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(l->failure, sizeof l->failure, format, arguments);
  va_end(arguments);
  return NULL;
}

// The Go runtime ends the process when it cannot reserve address space or start threads, so that is tried first.
enum { NEEDED_THREADS = 8 };
static const uint64_t needed_address_space = UINT64_C(2048) << 20;

static int enough_address_space(void) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return 1;
  unsigned long pages = 0;
  FILE *file = fopen("/proc/self/statm", "re");
  if (file != NULL) {
    if (fscanf(file, "%lu", &pages) != 1) pages = 0;
    fclose(file);
  }
  return (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE) + needed_address_space <= limit.rlim_cur;
}

static void *pass_gate(void *gate) {
  pthread_mutex_lock(gate);
  pthread_mutex_unlock(gate);
  return NULL;
}

static int enough_threads(void) {
  pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
  pthread_t threads[NEEDED_THREADS];
  int started = 0;
  pthread_mutex_lock(&gate);
  while (started < NEEDED_THREADS && pthread_create(&threads[started], NULL, pass_gate, &gate) == 0) started++;
  pthread_mutex_unlock(&gate);
  for (int i = 0; i < started; i++) pthread_join(threads[i], NULL);
  return started == NEEDED_THREADS;
}

static int copy_bytes(int from, int to) {
  char buffer[64 << 10];
  if (lseek(from, 0, SEEK_SET) != 0) return -1;
  for (;;) {
    ssize_t got = read(from, buffer, sizeof buffer);
    if (got == 0) return 0;
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return -1;
    for (ssize_t done = 0; done < got;) {
      ssize_t put = write(to, buffer + done, (size_t)(got - done));
      if (put < 0 && errno == EINTR) continue;
      if (put < 0) return -1;
      done += put;
    }
  }
}

// open_library opens the file that this library was loaded from, if it still is that file.
static int open_library(loading *l) {
  if (library_path[0] == 0) {
    note(l, "the library's file was not found when it was loaded");
    return -1;
  }
  struct statx now;
  int from = open(library_path, O_RDONLY | O_CLOEXEC);
  if (from < 0 || statx(from, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &now) != 0) {
    note(l, "the library's file %.160s cannot be opened: %s", library_path, strerror(errno));
    if (from >= 0) close(from);
    return -1;
  }
  if (now.stx_dev_major != library_file.stx_dev_major || now.stx_dev_minor != library_file.stx_dev_minor ||
      now.stx_ino != library_file.stx_ino || now.stx_size != library_file.stx_size ||
      now.stx_mtime.tv_sec != library_file.stx_mtime.tv_sec || now.stx_mtime.tv_nsec != library_file.stx_mtime.tv_nsec) {
    note(l, "the library's file %.160s was replaced since this process loaded it", library_path);
    close(from);
    return -1;
  }
  return from;
}

// name_descriptor writes the name by which the loader opens a descriptor, and may move the descriptor: the loader must not know
// the name, for it would hand out what it has loaded under it. A child has those of its parents in its list, and what was the
// number of a closed descriptor then is this one's now.
static int name_descriptor(int *fd, char *name, size_t size) {
  char self[32]; // not getpid(): /proc may be that of another namespace
  ssize_t length = readlink("/proc/self", self, sizeof self - 1);
  if (length <= 0) return -1;
  self[length] = 0;
  for (;;) {
    snprintf(name, size, "/proc/%s/fd/%d", self, *fd);
    void *known = dlopen(name, RTLD_LAZY | RTLD_NOLOAD);
    if (known == NULL) return 0;
    dlclose(known);
    int next = fcntl(*fd, F_DUPFD_CLOEXEC, *fd + 1);
    if (next < 0) return -1;
    close(*fd);
    *fd = next;
  }
}

// map_copy loads a copy of the open file that has an inode of its own: the loader knows libraries by name and inode.
static void *map_copy(loading *l, int from) {
  char name[4352], why[160];
  void *library = NULL;
  // Without MFD_EXEC: kernels that forbid executable memfds by default still map this one.
  int to = (int)syscall(SYS_memfd_create, "libnetmon.so", 1u /* MFD_CLOEXEC */);
  if (to < 0 || copy_bytes(from, to) != 0 || name_descriptor(&to, name, sizeof name) != 0) {
    snprintf(why, sizeof why, "%s", strerror(errno));
  } else if ((library = dlopen(name, RTLD_NOW | RTLD_LOCAL)) == NULL) {
    const char *reason = dlerror();
    snprintf(why, sizeof why, "%s", reason != NULL ? reason : "no reason given");
  }
  if (to >= 0) close(to);
  if (library != NULL) return library;

  // Sandboxes refuse memfd_create, and may have no /proc.
  const char *folder = getenv("TMPDIR");
  if (folder == NULL || folder[0] != '/') folder = "/tmp";
  snprintf(name, sizeof name, "%.4000s/netmon-%ld-XXXXXX", folder, (long)getpid());
  to = mkostemp(name, O_CLOEXEC);
  if (to < 0 || copy_bytes(from, to) != 0) {
    note(l, "the library can be copied neither into memory (%s) nor into %.160s (%s)", why, folder, strerror(errno));
  } else if ((library = dlopen(name, RTLD_NOW | RTLD_LOCAL)) == NULL) {
    const char *reason = dlerror();
    note(l, "the library's copy can be loaded neither from memory (%s) nor from a file: %.160s", why,
         reason != NULL ? reason : "no reason given");
  }
  if (to >= 0) {
    unlink(name);
    close(to);
  }
  return library;
}

// load_copy loads a private copy of this library and returns its functions, or NULL with the failure noted.
static const netmon_api *load_copy(loading *l) {
  // The loader ends the process when it finds its list half changed.
  if (_r_debug.r_state != RT_CONSISTENT) {
    return note(l, "a thread of the parent was loading or unloading a library at the moment of the fork");
  }
  if (!enough_address_space()) return note(l, "the address space limit (ulimit -v) leaves less than 2 GiB");
  if (!enough_threads()) {
    return note(l, "no %d threads can be started (ulimit -u, or the container's pids limit)", NEEDED_THREADS);
  }
  int from = open_library(l);
  if (from < 0) return NULL;
  void *library = map_copy(l, from);
  close(from);
  if (library == NULL) return NULL;
  netmon_api *api = calloc(1, sizeof *api);
  if (api == NULL) return note(l, "no memory");
  struct {
    const char *name;
    void *function;
  } wanted[] = {
      {"netmon_init", &api->init},
      {"netmon_close", &api->close},
      {"netmon_set_job", &api->set_job},
      {"netmon_sample", &api->sample},
      {"netmon_latest", &api->latest},
      {"netmon_query", &api->query},
      {"netmon_probe", &api->probe},
      {"netmon_bandwidth", &api->bandwidth},
      {"netmon_collective_group", &api->collective_group},
      {"netmon_collectives_record", &api->collectives_record},
      {"netmon_digest", &api->digest},
      {"netmon_aggregate", &api->aggregate},
      {"netmon_collective_pending", &api->collective_pending},
  };
  for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
    void *symbol = dlsym(library, wanted[i].name);
    if (symbol == NULL || (uintptr_t)symbol == (uintptr_t)&netmon_init) {
      free(api);
      return note(l, "the library's copy has no %s of its own", wanted[i].name);
    }
    memcpy(wanted[i].function, &symbol, sizeof symbol);
  }
  return api;
}

static void *run_loading(void *argument) {
  loading *l = argument;
  l->copy = load_copy(l);
  int expected = LOADING_RUNS;
  if (atomic_compare_exchange_strong(&l->state, &expected, LOADING_ENDED)) futex(&l->state, FUTEX_WAKE, 1, NULL);
  return NULL;
}

// enter_child loads a private copy, or notes why not. The caller holds the lock.
static void enter_child(void) {
  loading *l = &the_loading;
  memset((void *)l, 0, sizeof *l);
  sigset_t before;
  netmon_signals_block(&before); // in the thread, and in those that the Go runtime starts
  pthread_t thread;
  int error = pthread_create(&thread, NULL, run_loading, l);
  netmon_signals_restore(&before);
  if (error != 0) {
    note(l, "no thread can be started: %s", strerror(error));
  } else {
    struct timespec now, end, most = {.tv_sec = MOST_LOADING_SECONDS};
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += MOST_LOADING_SECONDS;
    int state;
    while ((state = atomic_load(&l->state)) == LOADING_RUNS && most.tv_sec >= 0) {
      futex(&l->state, FUTEX_WAIT, LOADING_RUNS, &most);
      clock_gettime(CLOCK_MONOTONIC, &now);
      most.tv_sec = end.tv_sec - now.tv_sec - (end.tv_nsec < now.tv_nsec);
      most.tv_nsec = end.tv_nsec - now.tv_nsec + (end.tv_nsec < now.tv_nsec ? 1000000000 : 0);
    }
    state = LOADING_RUNS;
    if (atomic_compare_exchange_strong(&l->state, &state, LOADING_GIVEN_UP)) {
      // The thread stays where it is, and l is its own from now on.
      pthread_detach(thread);
      snprintf(failure, sizeof failure, "the dynamic loader did not end within %d s (a thread of the parent had it locked)",
               MOST_LOADING_SECONDS);
      atomic_store(&page->failed, 1);
      return;
    }
    pthread_join(thread, NULL);
  }
  if (l->copy == NULL) {
    memcpy(failure, l->failure, sizeof failure);
    atomic_store(&page->failed, 1);
    return;
  }
  current.copy = l->copy;
  current.generation++;
  entered();
}

int32_t netmon_process_enter(netmon_process *process_out, char **error_out) {
  if (netmon_process_is_fresh_child()) {
    if (!netmon_process_may_allocate()) {
      return netmon_fail(error_out, NETMON_ERR_FORKED,
                         "this process was made by _Fork or clone, which leave the C library unusable; make it with fork, "
                         "spawn or forkserver, or use netmon_latest only");
    }
    netmon_process_lock();
    if (netmon_process_is_fresh_child() && !atomic_load(&page->failed)) enter_child();
    netmon_process_unlock();
    if (netmon_process_is_fresh_child()) {
      return netmon_fail(error_out, NETMON_ERR_FORKED,
                         "this process was forked from one that uses netmon, and a private copy of the library could not be "
                         "loaded: %s; start the process with spawn or forkserver instead of fork, or use netmon_latest only",
                         failure);
    }
  }
  *process_out = current;
  return NETMON_OK;
}
