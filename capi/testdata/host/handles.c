// handles.c: how many monitors there can be, that handles are not used twice, and that nothing is left behind.

#include "check.h"

#include <pthread.h>
#include <stdatomic.h>

enum { MOST = 64 };

static int32_t try_open(netmon_handle *handle) {
  *handle = 77;
  char *error = POISON;
  int32_t status = netmon_init("{\"interval_seconds\": 3600}", handle, &error);
  if (status == NETMON_ERR_RESOURCES) {
    CHECK(*handle == 0, "handle_out holds %" PRIu64, *handle);
    check_sentence(__FILE__, __LINE__, error, "64 monitors");
  }
  return status;
}

// A monitor keeps its place until all its threads have ended, for which netmon_close waits 0.1 s at most.
static void open_soon(netmon_handle *handle) {
  uint64_t began = now_ns();
  while (try_open(handle) == NETMON_ERR_RESOURCES) {
    CHECK(now_ns() - began < 20000000000u, "no place is free again");
    rest();
  }
  CHECK(*handle != 0, "not opened");
}

static void case_limit(int count, char **words) {
  (void)count, (void)words;
  netmon_handle handles[MOST], extra;
  for (int round = 0; round < 3; round++) {
    for (int i = 0; i < MOST; i++) open_soon(&handles[i]);
    CHECK_STATUS(try_open(&extra), NETMON_ERR_RESOURCES);
    CHECK_STATUS(netmon_init(NULL, &extra, NULL), NETMON_ERR_RESOURCES);
    for (int i = 0; i < MOST; i++) {
      netmon_snapshot snapshot = {.struct_size = sizeof snapshot};
      CHECK_STATUS(netmon_latest(handles[i], &snapshot), NETMON_OK);
      CHECK(snapshot.sequence == 1, "monitor %d: sequence %" PRIu64, i, snapshot.sequence);
    }
    // Each place in turn is given up and taken again.
    for (int i = 0; i < MOST; i++) {
      CHECK_STATUS(netmon_close(handles[i]), NETMON_OK);
      open_soon(&handles[i]);
      CHECK_STATUS(try_open(&extra), NETMON_ERR_RESOURCES);
    }
    // A configuration that is refused takes no place.
    CHECK_STATUS(netmon_close(handles[0]), NETMON_OK);
    for (int i = 0; i < 2 * MOST; i++) CHECK_STATUS(netmon_init("{\"no\": 1}", &extra, NULL), NETMON_ERR_CONFIG);
    open_soon(&handles[0]);
    for (int i = 0; i < MOST; i++) CHECK_STATUS(netmon_close(handles[i]), NETMON_OK);
  }
}

static int by_value(const void *a, const void *b) {
  const netmon_handle x = *(const netmon_handle *)a, y = *(const netmon_handle *)b;
  return x < y ? -1 : x > y;
}

static void wait_for_descriptors(int most) {
  uint64_t began = now_ns();
  while (open_descriptors() > most) {
    CHECK(now_ns() - began < 5000000000u, "%d descriptors are open, %d were", open_descriptors(), most);
    rest();
  }
}

// Opens and closes a monitor many times, all sources on, with calls in between.
static void case_reuse(int count, char **words) {
  const long times = number_of(count, words, 0, 5000), warm = times / 5;
  netmon_handle *handles = malloc((size_t)times * sizeof *handles);
  int descriptors = 0, threads = 0;
  long resident = 0;
  uint64_t began = now_ns();
  for (long i = 0; i < times; i++) {
    if (i == warm) {
      // What stays open for good is opened by now; what was closed last may take a moment.
      wait_for_descriptors(open_descriptors());
      descriptors = open_descriptors(), threads = running_threads(), resident = status_line("VmRSS:");
    }
    handles[i] = OPEN("{\"interval_seconds\": 0.01, \"targets\": [\"127.0.0.1\"]}");
    if (i % 8 == 0) SAMPLE(handles[i]);
    if (i % 16 == 0) {
      char *json = NULL;
      CHECK_STATUS(netmon_query(handles[i], "{\"view\": \"history\"}", &json, NULL), NETMON_OK);
      netmon_free(json);
    }
    CHECK_STATUS(netmon_close(handles[i]), NETMON_OK);
  }
  double seconds = (double)(now_ns() - began) / 1e9;
  wait_for_descriptors(descriptors);
  printf("%ld monitors in %.1f s: descriptors %d -> %d, threads %d -> %d, resident %ld -> %ld KiB\n", times, seconds,
         descriptors, open_descriptors(), threads, running_threads(), resident, status_line("VmRSS:"));
  fflush(stdout);
  CHECK(running_threads() <= threads + 2 && running_threads() <= 12, "%d threads, %d before", running_threads(), threads);
  CHECK(status_line("VmRSS:") <= resident + 3072, "%ld KiB, %ld before", status_line("VmRSS:"), resident);
  qsort(handles, (size_t)times, sizeof *handles, by_value);
  for (long i = 1; i < times; i++) CHECK(handles[i] != handles[i - 1], "handle %#" PRIx64 " was issued twice", handles[i]);
  free(handles);
}

// Open and close from many threads at once, always near the limit.
static atomic_long opened, refused;

static void *open_and_close(void *rounds) {
  netmon_handle held[24];
  for (long round = 0; round < *(long *)rounds; round++) {
    int have = 0;
    while (have < 24) {
      if (try_open(&held[have]) != NETMON_OK) {
        refused++;
        break;
      }
      opened++;
      have++;
    }
    while (have > 0) CHECK_STATUS(netmon_close(held[--have]), NETMON_OK);
  }
  return NULL;
}

static void case_crowd(int count, char **words) {
  long rounds = number_of(count, words, 0, 6);
  pthread_t threads[4];
  for (int i = 0; i < 4; i++) CHECK(pthread_create(&threads[i], NULL, open_and_close, &rounds) == 0, "pthread_create");
  for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
  printf("%ld opened, %ld refused\n", atomic_load(&opened), atomic_load(&refused));
  netmon_handle all[MOST];
  for (int i = 0; i < MOST; i++) CHECK_STATUS(try_open(&all[i]), NETMON_OK);
  for (int i = 0; i < MOST; i++) CHECK_STATUS(netmon_close(all[i]), NETMON_OK);
}

// No descriptor left: RESOURCES with a sentence, and nothing of it stays.
static void case_descriptors(int count, char **words) {
  (void)count, (void)words;
  // What was closed last may take a moment.
  int before = open_descriptors(), taken[4096], most = 0;
  CHECK_STATUS(netmon_close(OPEN(NULL)), NETMON_OK);
  wait_for_descriptors(before);
  while (most < 4096 && (taken[most] = dup(STDIN_FILENO)) >= 0) most++;
  CHECK(errno == EMFILE, "%s; run this with a limit on descriptors", strerror(errno));
  const char *one_source[] = {"{\"sources\": [\"tcp\"]}", "{\"sources\": [\"sockets\"]}", "{\"sources\": [\"interfaces\"]}"};
  for (int i = 0; i < 3; i++) {
    netmon_handle handle = 77;
    char *error = POISON;
    CHECK_STATUS(netmon_init(one_source[i], &handle, &error), NETMON_ERR_RESOURCES);
    CHECK(handle == 0, "%#" PRIx64, handle);
    check_sentence(__FILE__, __LINE__, error, "too many open files");
  }
  for (int spare = 0; spare < 12; spare++) {
    netmon_handle handle = 77;
    char *error = POISON;
    int32_t status = netmon_init("{\"interval_seconds\": 3600}", &handle, &error);
    if (status == NETMON_OK) {
      // Some sources could be opened; the others are null with their reason.
      SAMPLE(handle);
      CHECK_STATUS(netmon_close(handle), NETMON_OK);
    } else {
      CHECK(status == NETMON_ERR_RESOURCES && handle == 0, "%d: %s", status, error);
      check_sentence(__FILE__, __LINE__, error, "too many open files");
    }
    close(taken[--most]);
  }
  while (most > 0) close(taken[--most]);
  wait_for_descriptors(before);
}

int main(int argc, char **argv) {
  static const test_case cases[] = {
      {"limit", case_limit}, {"reuse", case_reuse}, {"crowd", case_crowd}, {"descriptors", case_descriptors}};
  return run_case(cases, sizeof cases / sizeof cases[0], argc, argv);
}
