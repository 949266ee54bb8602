// process.c: what a forked child does.
//
// A Go runtime does not survive fork: its threads are gone and the next call into it hangs. The child therefore never enters the
// inherited one. It loads a private copy of this library from memory, which starts a runtime of its own, and sends its calls
// there. Reading what the parent publishes needs none of this (snapshot.c).

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "shim.h"

// living is wiped by the kernel in every forked child (MADV_WIPEONFORK, Linux 4.14), however it was forked. What has to start
// anew in a child is here.
typedef struct living {
  _Atomic int entered; // 0: nobody found out yet where calls of this process go
  _Atomic int lock;
  _Atomic int failed; // loading a copy failed; not tried again
} living;

static living *page;
static living fallback; // where there is no such memory; pthread_atfork alone clears it

// The process's own after a fork, by copying.
static netmon_process current;
static char failure[256];
static char library_path[4096];
static struct statx library_file;

static void clear_in_child(void) { memset((void *)page, 0, sizeof *page); }

__attribute__((constructor)) static void start(void) {
  page = &fallback;
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
  atomic_store(&page->entered, 1);
  // Where this library lies now; the process may change its directory later.
  Dl_info info;
  if (dladdr((void *)&netmon_init, &info) != 0 && info.dli_fname != NULL) {
    char *absolute = realpath(info.dli_fname, NULL);
    if (absolute != NULL && strlen(absolute) < sizeof library_path &&
        statx(AT_FDCWD, absolute, 0, STATX_BASIC_STATS, &library_file) == 0) {
      strcpy(library_path, absolute);
    }
    free(absolute);
  }
}

int netmon_process_is_fresh_child(void) { return atomic_load(&page->entered) == 0; }

void netmon_process_lock(void) {
  while (atomic_exchange(&page->lock, 1) != 0) sched_yield();
}

void netmon_process_unlock(void) { atomic_store(&page->lock, 0); }

// The Go runtime ends the process when it cannot reserve address space or start threads, so that is tried first.
enum { NEEDED_THREADS = 8 };
static const uint64_t needed_address_space = UINT64_C(1536) << 20;

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
  pthread_attr_t small;
  int started = 0;
  pthread_attr_init(&small);
  pthread_attr_setstacksize(&small, 64 << 10);
  pthread_mutex_lock(&gate);
  while (started < NEEDED_THREADS && pthread_create(&threads[started], &small, pass_gate, &gate) == 0) started++;
  pthread_mutex_unlock(&gate);
  for (int i = 0; i < started; i++) pthread_join(threads[i], NULL);
  pthread_attr_destroy(&small);
  return started == NEEDED_THREADS;
}

static int copy_bytes(int from, int to) {
  char buffer[64 << 10];
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

// open_copy makes a file that holds this library and has an inode of its own: dlopen knows libraries by name and inode. Returns
// its descriptor and the name to open it by, or -1 with the failure noted.
static int open_copy(char *name, size_t size, int *unlink_after) {
  *unlink_after = 0;
  struct statx now;
  int from = library_path[0] == 0 ? -1 : open(library_path, O_RDONLY | O_CLOEXEC);
  if (from < 0 || statx(from, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &now) != 0) {
    snprintf(failure, sizeof failure, "the library's file %.120s cannot be opened: %s", library_path, strerror(errno));
    if (from >= 0) close(from);
    return -1;
  }
  if (now.stx_dev_major != library_file.stx_dev_major || now.stx_dev_minor != library_file.stx_dev_minor ||
      now.stx_ino != library_file.stx_ino || now.stx_size != library_file.stx_size ||
      now.stx_mtime.tv_sec != library_file.stx_mtime.tv_sec || now.stx_mtime.tv_nsec != library_file.stx_mtime.tv_nsec) {
    snprintf(failure, sizeof failure, "the library's file %.120s was replaced since this process loaded it", library_path);
    close(from);
    return -1;
  }
  // Without MFD_EXEC: kernels that forbid executable memfds by default still map this one.
  int to = (int)syscall(SYS_memfd_create, "libnetmon.so", 1u /* MFD_CLOEXEC */);
  if (to >= 0) {
    // Not /proc/self, which is the same name in every child.
    snprintf(name, size, "/proc/%ld/fd/%d", (long)getpid(), to);
  } else {
    const char *folder = getenv("TMPDIR");
    snprintf(name, size, "%.4000s/netmon-%ld-XXXXXX", folder != NULL && folder[0] == '/' ? folder : "/tmp", (long)getpid());
    to = mkostemp(name, O_CLOEXEC);
    *unlink_after = to >= 0;
  }
  if (to < 0 || copy_bytes(from, to) != 0) {
    snprintf(failure, sizeof failure, "the library cannot be copied: %s", strerror(errno));
    if (to >= 0) close(to);
    if (*unlink_after) unlink(name);
    to = -1;
  }
  close(from);
  return to;
}

// load_copy loads a private copy of this library and returns its functions, or NULL with the failure noted.
static const netmon_api *load_copy(void) {
  if (!enough_address_space()) {
    snprintf(failure, sizeof failure, "the address space limit (ulimit -v) leaves less than 1.5 GiB");
    return NULL;
  }
  if (!enough_threads()) {
    snprintf(failure, sizeof failure, "no %d threads can be started (ulimit -u, or the container's pids limit)", NEEDED_THREADS);
    return NULL;
  }
  char name[4352];
  int unlink_after;
  int fd = open_copy(name, sizeof name, &unlink_after);
  if (fd < 0) return NULL;
  void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
  if (unlink_after) unlink(name);
  close(fd);
  if (library == NULL) {
    const char *why = dlerror();
    snprintf(failure, sizeof failure, "the library's copy cannot be loaded: %.180s", why != NULL ? why : "no reason given");
    return NULL;
  }
  netmon_api *api = calloc(1, sizeof *api);
  if (api == NULL) {
    snprintf(failure, sizeof failure, "no memory");
    return NULL;
  }
  struct {
    const char *name;
    void *function;
  } wanted[] = {
      {"netmon_init", &api->init},     {"netmon_close", &api->close},   {"netmon_set_job", &api->set_job},
      {"netmon_sample", &api->sample}, {"netmon_latest", &api->latest}, {"netmon_query", &api->query},
  };
  for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
    void *symbol = dlsym(library, wanted[i].name);
    if (symbol == NULL || symbol == (void *)&netmon_init) {
      snprintf(failure, sizeof failure, "the library's copy has no %s of its own", wanted[i].name);
      free(api);
      return NULL;
    }
    memcpy(wanted[i].function, &symbol, sizeof symbol);
  }
  return api;
}

int32_t netmon_process_enter(netmon_process *process_out, char **error_out) {
  if (netmon_process_is_fresh_child()) {
    netmon_process_lock();
    if (netmon_process_is_fresh_child() && !atomic_load(&page->failed)) {
      const netmon_api *copy = load_copy();
      if (copy != NULL) {
        current.copy = copy;
        current.generation++;
        atomic_store(&page->entered, 1);
      } else {
        atomic_store(&page->failed, 1);
      }
    }
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
