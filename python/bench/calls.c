// calls.c: an empty function for the cost of a call by itself, and the library's functions timed where no Python is in the way.

#define _GNU_SOURCE
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "netmon.h"

static int64_t nanoseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

// The arguments are those of netmon_latest.
int32_t bench_empty(netmon_handle handle, netmon_snapshot *snapshot_inout) {
  (void)handle;
  (void)snapshot_inout;
  return NETMON_OK;
}

typedef int32_t sample_function(netmon_handle, char **, char **);
typedef void free_function(char *);
typedef int32_t latest_function(netmon_handle, netmon_snapshot *);

// bench_samples returns the nanoseconds that so many samples take, or -1 when one fails.
int64_t bench_samples(sample_function *sample, free_function *release, netmon_handle handle, uint32_t count) {
  int64_t began = nanoseconds();
  for (uint32_t i = 0; i < count; i++) {
    char *json;
    if (sample(handle, &json, NULL) != NETMON_OK) return -1;
    release(json);
  }
  return nanoseconds() - began;
}

// bench_latest returns the nanoseconds that so many snapshots take, or -1 when one fails.
int64_t bench_latest(latest_function *latest, netmon_handle handle, uint32_t count) {
  int64_t began = nanoseconds();
  for (uint32_t i = 0; i < count; i++) {
    netmon_snapshot snapshot = {.struct_size = sizeof snapshot};
    if (latest(handle, &snapshot) != NETMON_OK) return -1;
  }
  return nanoseconds() - began;
}

typedef int32_t begin_function(netmon_handle, const char *, uint64_t *, char **);
typedef int32_t end_function(netmon_handle, uint64_t, netmon_phase *, char **);

static int64_t thread_nanoseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

// bench_phases returns the nanoseconds of the calling thread's CPU that so many phases take, or -1 when one fails.
int64_t bench_phases(begin_function *begin, end_function *end, netmon_handle handle, uint32_t count) {
  int64_t began = thread_nanoseconds();
  for (uint32_t i = 0; i < count; i++) {
    netmon_phase numbers = {.struct_size = sizeof numbers};
    uint64_t phase;
    if (begin(handle, "step", &phase, NULL) != NETMON_OK || end(handle, phase, &numbers, NULL) != NETMON_OK) return -1;
  }
  return thread_nanoseconds() - began;
}
