// collectives.c: recording collectives from many threads, into a ring that is full, of a monitor that closes, in forked children.

#include "check.h"

#include <linux/seccomp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static const char only[] = "{\"interval_seconds\": 3600, \"sources\": [\"collectives\"]}";

static uint32_t group_of(netmon_handle handle, const char *json) {
  uint32_t group = 77;
  char *error = POISON;
  int32_t status = netmon_collective_group(handle, json, &group, &error);
  CHECK(status == NETMON_OK, "%s: %d: %s", json, status, error);
  CHECK(error == NULL, "error_out was not zeroed");
  return group;
}

static netmon_collective record_of(uint32_t group) {
  return (netmon_collective){
      .struct_size = sizeof(netmon_collective),
      .op = NETMON_COLLECTIVE_ALL_REDUCE,
      .group = group,
      .end = NETMON_END_EXACT,
      .bytes = 4096,
      .enter_ns = now_ns(),
      .duration_ns = 1000,
      .duration_error_ns = 0,
      .sequence = 1,
  };
}

// The number that follows a name in a sample, of its first appearance; -1 for none.
static long number_after(netmon_handle handle, const char *name) {
  char *json = POISON;
  CHECK_STATUS(netmon_sample(handle, &json, NULL), NETMON_OK);
  const char *found = strstr(json, name);
  long number = found == NULL ? -1 : strtol(found + strlen(name), NULL, 10);
  netmon_free(json);
  return number;
}

static long counted(netmon_handle handle) { return number_after(handle, "\"count\":"); }
static long dropped(netmon_handle handle) { return number_after(handle, "\"collectives_dropped_total\":"); }

static void wrong_group(netmon_handle handle, const char *json, const char *word) {
  uint32_t group = 77;
  char *error = POISON;
  int32_t status = netmon_collective_group(handle, json, &group, &error);
  CHECK(status == NETMON_ERR_INVALID_ARGUMENT, "%.80s: %d", json, status);
  CHECK(group == 0, "group_out was not zeroed");
  check_sentence(__FILE__, __LINE__, error, word);
  CHECK_STATUS(netmon_collective_group(handle, json, &group, NULL), NETMON_ERR_INVALID_ARGUMENT);
}

static void case_arguments(int count, char **words) {
  (void)count, (void)words;
  netmon_handle handle = OPEN(only);
  netmon_collective r = record_of(1);
  CHECK_STATUS(netmon_collectives_record(handle, &r, 1), NETMON_ERR_INVALID_ARGUMENT); // no group was named
  char *error = POISON;
  CHECK_STATUS(netmon_collective_group(handle, "{}", NULL, &error), NETMON_ERR_INVALID_ARGUMENT);
  check_sentence(__FILE__, __LINE__, error, "group_out");
  wrong_group(handle, NULL, "group_json");
  wrong_group(handle, "[]", "group_json");
  wrong_group(handle, "{\"name\"", "group_json");
  wrong_group(handle, "{\"nmae\": \"g\"}", "nmae");
  wrong_group(handle, "{\"name\": \"g\"}", "size");
  wrong_group(handle, "{\"name\": \"g\", \"size\": 0}", "size");
  wrong_group(handle, "{\"name\": 1, \"size\": 2}", "name");

  CHECK(group_of(handle, "{\"source\": \"test\"}") == 0, "a number without a name");
  uint32_t group = group_of(handle, "{\"name\": \"g\", \"size\": 2, \"source\": \"test\"}");
  CHECK(group == 1 && group_of(handle, "{\"size\": 2, \"name\": \"g\", \"source\": \"test\"}") == 1, "%u", group);
  CHECK(group_of(handle, "{\"name\": \"g\", \"size\": 3, \"source\": \"test\"}") == 2, "another size is another group");

  CHECK_STATUS(netmon_collectives_record(handle, NULL, 1), NETMON_ERR_INVALID_ARGUMENT);
  const struct {
    uint32_t size, op, group, end;
  } bad[] = {{0, 1, 1, 1},  {8, 1, 1, 1},           {55, 1, 1, 1},          {60, 1, 1, 1},
             {56, 0, 1, 1}, {56, 13, 1, 1},         {56, 1, 0, 1},          {56, 1, 1u << 31, 1},
             {56, 1, 1, 5}, {56, UINT32_MAX, 1, 1}, {56, 1, 1, UINT32_MAX}, {56, 1, UINT32_MAX, 1}};
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    netmon_collective wrong = r;
    wrong.struct_size = bad[i].size, wrong.op = bad[i].op, wrong.group = bad[i].group, wrong.end = bad[i].end;
    int32_t status = netmon_collectives_record(handle, &wrong, 1);
    CHECK(status == NETMON_ERR_INVALID_ARGUMENT, "%zu: %d", i, status);
  }
  CHECK(counted(handle) == -1, "a wrong record was taken in");

  // A later version's longer structs, side by side.
  struct {
    netmon_collective known;
    uint64_t later;
  } longer[2] = {{.known = r, .later = UINT64_MAX}, {.known = r, .later = UINT64_MAX}};
  longer[0].known.struct_size = sizeof longer[0];
  CHECK_STATUS(netmon_collectives_record(handle, &longer[0].known, 2), NETMON_OK);
  CHECK_STATUS(netmon_collectives_record(handle, &r, 0), NETMON_OK);
  CHECK(counted(handle) == 2, "%ld", counted(handle));

  netmon_handle without = OPEN("{\"sources\": [\"tcp\"]}");
  uint32_t none;
  CHECK_STATUS(netmon_collective_group(without, "{\"name\": \"g\", \"size\": 2}", &none, &error), NETMON_ERR_UNSUPPORTED);
  check_sentence(__FILE__, __LINE__, error, "sources");
  CHECK_STATUS(netmon_collectives_record(without, &r, 1), NETMON_ERR_INVALID_ARGUMENT); // nobody would take it out
  CHECK_STATUS(netmon_collective_pending(without, NULL, 0), NETMON_ERR_INVALID_ARGUMENT);
  CHECK_STATUS(netmon_close(without), NETMON_OK);

  CHECK_STATUS(netmon_close(handle), NETMON_OK);
  CHECK_STATUS(netmon_collectives_record(handle, &r, 1), NETMON_ERR_CLOSED);
  CHECK_STATUS(netmon_collective_group(handle, "{}", &none, NULL), NETMON_ERR_CLOSED);
  CHECK_STATUS(netmon_collectives_record(42, &r, 1), NETMON_ERR_INVALID_ARGUMENT);
  CHECK_STATUS(netmon_collective_group(42, "{}", &none, NULL), NETMON_ERR_INVALID_ARGUMENT);

  // Whoever gets the slot next starts with nothing of it.
  handle = OPEN(only);
  CHECK(group_of(handle, "{\"name\": \"g\", \"size\": 2}") == 1, "groups of another monitor");
  CHECK(counted(handle) == -1 && dropped(handle) == 0, "records of another monitor");
  CHECK_STATUS(netmon_close(handle), NETMON_OK);
}

static void case_account(int count, char **words) {
  (void)count, (void)words;
  netmon_handle handle = OPEN(only);
  uint32_t group = group_of(handle, "{\"name\": \"default_pg\", \"size\": 4, \"source\": \"test\"}");
  netmon_collective r = record_of(group);
  r.bytes = 64 << 20, r.duration_ns = 500000000;
  CHECK_STATUS(netmon_collectives_record(handle, &r, 1), NETMON_OK);
  char *json = POISON;
  CHECK_STATUS(netmon_sample(handle, &json, NULL), NETMON_OK);
  const char *want = "\"collectives\":[{\"op\":\"all_reduce\",\"group\":\"default_pg\",\"group_size\":4,"
                     "\"size_bucket_bytes\":67108864,\"count\":1,\"bytes_total\":67108864,\"unfinished\":0,\"p50_seconds\":0.5,"
                     "\"p95_seconds\":0.5,\"max_seconds\":0.5,\"algbw_bytes_per_second\":134217728,"
                     "\"busbw_bytes_per_second\":201326592,\"duration_count\":1,\"end_exact_ratio\":1,\"source\":\"test\"}]";
  CHECK(strstr(json, want) != NULL, "%s", strstr(json, "\"collectives\""));
  netmon_free(json);
  CHECK_STATUS(netmon_query(handle, "{\"view\": \"collectives\"}", &json, NULL), NETMON_OK);
  CHECK(strstr(json, "\"bytes\":67108864") != NULL && strstr(json, "\"sequence\":1,\"end\":\"exact\"") != NULL, "%s", json);
  netmon_free(json);
  CHECK_STATUS(netmon_close(handle), NETMON_OK);
}

// More than fits: the newest stay, and what is gone is counted.
static void case_overflow(int count, char **words) {
  (void)count, (void)words;
  enum { RING = 4096, MORE = 1000 };
  netmon_handle handle = OPEN("{\"interval_seconds\": 1, \"sources\": [\"collectives\"]}");
  netmon_collective r = record_of(group_of(handle, "{\"name\": \"g\", \"size\": 2}"));
  static netmon_collective records[RING + MORE];
  long before = 0, after;
  int tries = 0;
  do { // a sample of the loop may fall in between
    before = counted(handle), after = before < 0 ? 0 : before;
    before = after + dropped(handle);
    for (int i = 0; i < RING + MORE; i++) records[i] = r;
    CHECK_STATUS(netmon_collectives_record(handle, records, RING + MORE), NETMON_OK);
    long taken = counted(handle);
    CHECK(taken + dropped(handle) == before + RING + MORE, "%ld taken, %ld dropped, %ld before", taken, dropped(handle),
          before);
    after = taken - after;
  } while (after != RING && ++tries < 5);
  CHECK(after == RING, "%ld of %d taken", after, RING + MORE);
  CHECK_STATUS(netmon_close(handle), NETMON_OK);
}

// A part of the newest sample, from a name on.
static void check_pending(netmon_handle handle, const char *want) {
  char *json = POISON;
  CHECK_STATUS(netmon_sample(handle, &json, NULL), NETMON_OK);
  const char *found = strstr(json, "\"collective_pending\":");
  CHECK(found != NULL && strncmp(found, want, strlen(want)) == 0, "%s, not %.200s", want, found);
  netmon_free(json);
}

static const char nothing[] = "\"collective_pending\":null";
static const char one_of_seven[] = "\"collective_pending\":{\"op\":\"all_reduce\",\"group\":\"g\",\"group_size\":2,"
                                   "\"bytes\":4096,\"sequence\":1,\"seconds\":";

static void case_pending(int count, char **words) {
  (void)count, (void)words;
  netmon_handle handle = OPEN(only);
  netmon_collective r = record_of(1);
  CHECK_STATUS(netmon_collective_pending(handle, NULL, 0), NETMON_ERR_INVALID_ARGUMENT); // no group was named
  CHECK_STATUS(netmon_collective_pending(handle, &r, 1), NETMON_ERR_INVALID_ARGUMENT);
  group_of(handle, "{\"name\": \"g\", \"size\": 2}");
  check_pending(handle, nothing);
  CHECK_STATUS(netmon_collective_pending(handle, NULL, 0), NETMON_OK);
  check_pending(handle, nothing);
  CHECK_STATUS(netmon_collective_pending(handle, &r, 7), NETMON_OK);
  check_pending(handle, one_of_seven);
  for (int i = 0; i < 100; i++) { // round and round
    CHECK_STATUS(netmon_collective_pending(handle, &r, 7), NETMON_OK);
    check_pending(handle, one_of_seven);
    CHECK_STATUS(netmon_collective_pending(handle, NULL, 0), NETMON_OK);
    check_pending(handle, nothing);
  }

  CHECK_STATUS(netmon_collective_pending(handle, &r, 7), NETMON_OK);
  CHECK_STATUS(netmon_collective_pending(handle, &r, 0), NETMON_ERR_INVALID_ARGUMENT);
  CHECK_STATUS(netmon_collective_pending(handle, NULL, 1), NETMON_ERR_INVALID_ARGUMENT);
  const struct {
    uint32_t size, op, group;
    uint64_t enter_ns;
  } bad[] = {{48, 1, 1, 5}, {60, 1, 1, 5},    {56, 0, 1, 5},         {56, 13, 1, 5},
             {56, 1, 0, 5}, {56, 1, 1u << 31, 5}, {56, 1, 1, UINT64_MAX}};
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    netmon_collective wrong = r;
    wrong.struct_size = bad[i].size, wrong.op = bad[i].op, wrong.group = bad[i].group, wrong.enter_ns = bad[i].enter_ns;
    int32_t status = netmon_collective_pending(handle, &wrong, 1);
    CHECK(status == NETMON_ERR_INVALID_ARGUMENT, "%zu: %d", i, status);
  }
  check_pending(handle, one_of_seven); // as it was

  // A child's monitor starts with nothing of it, and its parent's goes on.
  pid_t child = fork();
  if (child == 0) {
    alarm(20);
    CHECK_STATUS(netmon_collective_pending(handle, NULL, 0), NETMON_ERR_FORKED);
    check_pending(handle, nothing);
    group_of(handle, "{\"name\": \"g\", \"size\": 2}");
    CHECK_STATUS(netmon_collective_pending(handle, &r, 7), NETMON_OK);
    check_pending(handle, one_of_seven);
    CHECK_STATUS(netmon_collective_pending(handle, NULL, 0), NETMON_OK);
    _exit(0);
  }
  int status;
  CHECK(waitpid(child, &status, 0) == child && status == 0, "child: %#x", status);
  check_pending(handle, one_of_seven);

  CHECK_STATUS(netmon_close(handle), NETMON_OK);
  CHECK_STATUS(netmon_collective_pending(handle, NULL, 0), NETMON_ERR_CLOSED);
  CHECK_STATUS(netmon_collective_pending(42, NULL, 0), NETMON_ERR_INVALID_ARGUMENT);
  handle = OPEN(only); // in the same slot
  group_of(handle, "{\"name\": \"g\", \"size\": 2}");
  check_pending(handle, nothing);
  CHECK_STATUS(netmon_close(handle), NETMON_OK);
}

typedef struct producing {
  netmon_handle handle;
  uint32_t group;
  long each;
  atomic_int closed;
  atomic_long put;
} producing;

static void *produce(void *argument) {
  producing *p = argument;
  netmon_collective three[3];
  for (int i = 0; i < 3; i++) three[i] = record_of(p->group);
  for (long i = 0; i < p->each; i++) {
    CHECK_STATUS(netmon_collectives_record(p->handle, three, 3), NETMON_OK);
    p->put += 3;
    if (i % 200 == 0) rest();
  }
  return NULL;
}

static void *tell(void *argument) {
  producing *p = argument;
  netmon_collective r = record_of(p->group);
  for (long i = 1; i <= p->each; i++) {
    // What belongs together, so that a mixture can be told.
    r.sequence = (uint64_t)i, r.bytes = (uint64_t)i << 20;
    CHECK_STATUS(netmon_collective_pending(p->handle, &r, (uint32_t)i), NETMON_OK);
  }
  p->put++;
  return NULL;
}

// However many tell at once, a sample has one that was told, whole.
static void case_tellers(int count, char **words) {
  enum { THREADS = 4 };
  producing p = {.handle = OPEN(only), .each = number_of(count, words, 0, 200000)};
  p.group = group_of(p.handle, "{\"name\": \"g\", \"size\": 2}");
  pthread_t threads[THREADS];
  for (int i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, tell, &p) == 0, "pthread_create");
  long seen = 0;
  while (atomic_load(&p.put) < THREADS || seen == 0) {
    char *json = POISON;
    CHECK_STATUS(netmon_sample(p.handle, &json, NULL), NETMON_OK);
    const char *found = strstr(json, "\"collective_pending\":{");
    if (found != NULL) {
      long bytes = strtol(strstr(found, "\"bytes\":") + 8, NULL, 10),
           sequence = strtol(strstr(found, "\"sequence\":") + 11, NULL, 10);
      long many = strtol(strstr(found, "\"count\":") + 8, NULL, 10);
      CHECK(sequence > 0 && bytes == sequence << 20 && many == sequence, "%.200s", found);
      seen++;
    }
    netmon_free(json);
  }
  for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  printf("%ld samples with one\n", seen);
  CHECK_STATUS(netmon_close(p.handle), NETMON_OK);
}

// Everything that was put is taken in or counted as lost, and every record is whole.
static void case_producers(int count, char **words) {
  enum { THREADS = 8 };
  producing p = {.handle = OPEN("{\"interval_seconds\": 0.01, \"sources\": [\"collectives\"]}"),
                 .each = number_of(count, words, 0, 20000)};
  p.group = group_of(p.handle, "{\"name\": \"g\", \"size\": 2}");
  pthread_t threads[THREADS];
  for (int i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, produce, &p) == 0, "pthread_create");
  for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  long taken = -1, lost = -1;
  // What a thread left to a faster one is counted as lost after a second.
  for (int i = 0; i < 5000 && taken + lost != p.put; i++) {
    rest();
    taken = counted(p.handle), lost = dropped(p.handle);
  }
  CHECK(taken + lost == p.put, "%ld taken and %ld lost of %ld", taken, lost, p.put);
  CHECK(number_after(p.handle, "\"bytes_total\":") == 4096 * counted(p.handle), "a record was torn");
  CHECK(number_after(p.handle, "\"collectives_unlisted_total\":") == 0, "a record was torn");
  printf("%ld taken, %ld lost\n", taken, lost);
  CHECK_STATUS(netmon_close(p.handle), NETMON_OK);
}

static void *produce_until_closed(void *argument) {
  producing *p = argument;
  netmon_collective r = record_of(p->group);
  for (;;) {
    int was_closed = atomic_load(&p->closed);
    int32_t status = netmon_collectives_record(p->handle, &r, 1);
    CHECK(status == NETMON_OK || status == NETMON_ERR_CLOSED, "%d", status);
    CHECK(!was_closed || status == NETMON_ERR_CLOSED, "recorded after netmon_close had returned");
    if (was_closed) return NULL;
    p->put++;
  }
}

static void case_closed(int count, char **words) {
  enum { THREADS = 3 };
  for (long round = number_of(count, words, 0, 30); round > 0; round--) {
    producing p = {.handle = OPEN("{\"interval_seconds\": 0.01, \"sources\": [\"collectives\"]}")};
    p.group = group_of(p.handle, "{\"name\": \"g\", \"size\": 2}");
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, produce_until_closed, &p) == 0, "pthread_create");
    while (atomic_load(&p.put) < 1000) rest();
    CHECK_STATUS(netmon_close(p.handle), NETMON_OK);
    atomic_store(&p.closed, 1);
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  }
}

// Recording makes no system call: the kernel ends the thread at any but read, write, exit and sigreturn.
static void *record_without_system_calls(void *argument) {
  producing *p = argument;
  netmon_collective r = record_of(p->group);
  CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) == 0, "%s", strerror(errno));
  long put = 0;
  for (int i = 0; i < 100000; i++) {
    put += netmon_collectives_record(p->handle, &r, 1) == NETMON_OK && netmon_collective_pending(p->handle, &r, 1) == NETMON_OK;
  }
  atomic_store(&p->put, put);
  syscall(SYS_exit, 0); // of the thread
  return NULL;
}

static void case_no_system_call(int count, char **words) {
  (void)count, (void)words;
  producing p = {.handle = OPEN(only)};
  p.group = group_of(p.handle, "{\"name\": \"g\", \"size\": 2}");
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, record_without_system_calls, &p) == 0, "pthread_create");
  pthread_join(thread, NULL);
  CHECK(atomic_load(&p.put) == 100000, "%ld recorded; a system call ends the thread", atomic_load(&p.put));
  CHECK_STATUS(netmon_close(p.handle), NETMON_OK);
}

// A child records nothing into its parent's monitor, and into its own once it has one.
static void case_forked(int count, char **words) {
  (void)count, (void)words;
  netmon_handle handle = OPEN(only);
  const char *g = "{\"name\": \"g\", \"size\": 2}";
  netmon_collective r = record_of(group_of(handle, g));
  CHECK_STATUS(netmon_collectives_record(handle, &r, 1), NETMON_OK);
  pid_t child = fork();
  if (child == 0) {
    alarm(20);
    CHECK_STATUS(netmon_collectives_record(handle, &r, 1), NETMON_ERR_FORKED);
    CHECK(counted(handle) == -1, "a child's monitor starts anew");
    CHECK_STATUS(netmon_collectives_record(handle, &r, 1), NETMON_ERR_INVALID_ARGUMENT); // it knows no group yet
    CHECK(group_of(handle, g) == 1, "group");
    CHECK_STATUS(netmon_collectives_record(handle, &r, 1), NETMON_OK);
    CHECK(counted(handle) == 1, "%ld", counted(handle));
    pid_t grandchild = fork();
    if (grandchild == 0) {
      alarm(20);
      CHECK_STATUS(netmon_collectives_record(handle, &r, 1), NETMON_ERR_FORKED);
      netmon_handle other = OPEN(only); // enters a copy of its own; the inherited handle is still its parent's
      CHECK_STATUS(netmon_collectives_record(handle, &r, 1), NETMON_ERR_FORKED);
      CHECK_STATUS(netmon_close(other), NETMON_OK);
      _exit(0);
    }
    int status;
    CHECK(waitpid(grandchild, &status, 0) == grandchild && status == 0, "grandchild: %#x", status);
    _exit(0);
  }
  int status;
  CHECK(waitpid(child, &status, 0) == child && status == 0, "child: %#x", status);
  CHECK(counted(handle) == 1 && dropped(handle) == 0, "%ld, %ld dropped", counted(handle), dropped(handle));
  CHECK_STATUS(netmon_close(handle), NETMON_OK);
}

int main(int argc, char **argv) {
  static const test_case cases[] = {
      {"arguments", case_arguments}, {"account", case_account}, {"overflow", case_overflow},
      {"producers", case_producers}, {"closed", case_closed},   {"no-system-call", case_no_system_call},
      {"forked", case_forked},       {"pending", case_pending}, {"tellers", case_tellers},
  };
  return run_case(cases, sizeof cases / sizeof cases[0], argc, argv);
}
