// phases.c: phases from C: bytes of loopback that are known, wrong arguments, many threads, a monitor that closes, forked children.

#include "check.h"

#include <math.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/wait.h>

static const char loopback[] = "{\"interval_seconds\": 3600, \"interfaces\": [\"lo\"], \"sources\": [\"interfaces\", \"tcp\"]}";

static uint64_t begin(netmon_handle handle, const char *name) {
  uint64_t phase = 77;
  char *error = POISON;
  int32_t status = netmon_phase_begin(handle, name, &phase, &error);
  CHECK(status == NETMON_OK, "%s: %d: %s", name, status, error);
  CHECK(error == NULL && phase != 0, "phase %" PRIu64, phase);
  return phase;
}

static netmon_phase end(netmon_handle handle, uint64_t phase) {
  netmon_phase of = {.struct_size = sizeof of};
  char *error = POISON;
  int32_t status = netmon_phase_end(handle, phase, &of, &error);
  CHECK(status == NETMON_OK, "%d: %s", status, error);
  CHECK(error == NULL, "error_out was not zeroed");
  return of;
}

static void check_unknown(const netmon_phase *of) {
  CHECK(of->verdict == NETMON_VERDICT_UNKNOWN && of->duration_ns == NETMON_UNKNOWN_U64 &&
            of->receive_bytes == NETMON_UNKNOWN_U64 && isnan(of->utilization_ratio) && isnan(of->waiting_ratio),
        "a number where there is none");
}

static void wrong_name(netmon_handle handle, const char *name, int32_t want, const char *word) {
  uint64_t phase = 77;
  char *error = POISON;
  int32_t status = netmon_phase_begin(handle, name, &phase, &error);
  CHECK(status == want, "%d", status);
  CHECK(phase == 0, "phase_out was not zeroed");
  check_sentence(__FILE__, __LINE__, error, word);
  CHECK_STATUS(netmon_phase_begin(handle, name, &phase, NULL), want);
}

static char *sample_of(netmon_handle handle) {
  char *json = POISON;
  CHECK_STATUS(netmon_sample(handle, &json, NULL), NETMON_OK);
  return json;
}

static void case_arguments(int count, char **words) {
  (void)count, (void)words;
  netmon_handle handle = OPEN(loopback);
  char *error = POISON;
  CHECK_STATUS(netmon_phase_begin(handle, "p", NULL, &error), NETMON_ERR_INVALID_ARGUMENT);
  check_sentence(__FILE__, __LINE__, error, "phase_out");
  static char huge[1 << 20];
  memset(huge, 'x', sizeof huge - 1);
  wrong_name(handle, NULL, NETMON_ERR_INVALID_ARGUMENT, "name: NULL");
  wrong_name(handle, "", NETMON_ERR_INVALID_ARGUMENT, "is empty");
  wrong_name(handle, huge, NETMON_ERR_INVALID_ARGUMENT, "64 bytes");
  wrong_name(handle, huge + sizeof huge - 66, NETMON_ERR_INVALID_ARGUMENT, "64 bytes");
  wrong_name(handle, "\xff\xfe", NETMON_ERR_INVALID_ARGUMENT, "UTF-8");
  wrong_name(handle, "two\nlines", NETMON_ERR_INVALID_ARGUMENT, "control");
  char *json = sample_of(handle);
  CHECK(strstr(json, "degraded: phases: 10 not begun") != NULL, "%s", strstr(json, "\"health\""));
  CHECK(strstr(json, "\"phases\":[]") != NULL, "a name that was refused is listed");
  netmon_free(json);

  uint64_t phase = begin(handle, huge + sizeof huge - 65); // 64 bytes
  netmon_phase of = {.struct_size = 7};
  CHECK_STATUS(netmon_phase_end(handle, phase, &of, &error), NETMON_ERR_INVALID_ARGUMENT);
  check_sentence(__FILE__, __LINE__, error, "struct_size");
  of = (netmon_phase){.struct_size = sizeof of};
  CHECK_STATUS(netmon_phase_end(handle, phase + 1, &of, &error), NETMON_ERR_INVALID_ARGUMENT);
  check_sentence(__FILE__, __LINE__, error, "under way");
  check_unknown(&of);
  CHECK_STATUS(netmon_phase_end(handle, 0, &of, &error), NETMON_OK);
  CHECK(error == NULL, "a sentence on success");
  check_unknown(&of);

  // Older callers have a smaller struct, newer ones a larger.
  struct {
    netmon_phase known;
    uint64_t later;
  } longer = {.later = 42};
  longer.known.struct_size = sizeof longer;
  CHECK_STATUS(netmon_phase_end(handle, phase, &longer.known, NULL), NETMON_OK);
  CHECK(longer.known.duration_ns < UINT64_C(60000000000) && longer.later == 42 && longer.known.struct_size == sizeof longer,
        "written beyond what is known");
  phase = begin(handle, "p");
  of = (netmon_phase){.struct_size = offsetof(netmon_phase, receive_bytes) + 3, .receive_bytes = 42};
  CHECK_STATUS(netmon_phase_end(handle, phase, &of, NULL), NETMON_OK);
  CHECK(of.receive_bytes == 42 && of.duration_ns < UINT64_C(60000000000), "written beyond struct_size");
  phase = begin(handle, "p");
  CHECK_STATUS(netmon_phase_end(handle, phase, NULL, NULL), NETMON_OK);
  CHECK_STATUS(netmon_phase_end(handle, phase, NULL, NULL), NETMON_ERR_INVALID_ARGUMENT);

  for (int i = 2; i < 64; i++) {
    char name[32];
    snprintf(name, sizeof name, "step %d", i);
    end(handle, begin(handle, name));
  }
  wrong_name(handle, "one more", NETMON_ERR_RESOURCES, "64 names");
  end(handle, begin(handle, "step 7"));
  uint64_t phases[256];
  for (int i = 0; i < 256; i++) phases[i] = begin(handle, "step 7");
  wrong_name(handle, "step 7", NETMON_ERR_RESOURCES, "256");
  for (int i = 0; i < 256; i++) end(handle, phases[i]);
  end(handle, begin(handle, "step 7"));

  CHECK_STATUS(netmon_close(handle), NETMON_OK);
  wrong_name(handle, "p", NETMON_ERR_CLOSED, "closed");
  CHECK_STATUS(netmon_phase_end(handle, 1, NULL, NULL), NETMON_ERR_CLOSED);
  wrong_name(42, "p", NETMON_ERR_INVALID_ARGUMENT, "never issued");
  CHECK_STATUS(netmon_phase_end(42, 1, NULL, NULL), NETMON_ERR_INVALID_ARGUMENT);
}

// Sends so many bytes from this process to itself.
static void send_bytes(size_t amount) {
  int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t length = sizeof at;
  CHECK(bind(server, (struct sockaddr *)&at, length) == 0 && listen(server, 1) == 0, "%s", strerror(errno));
  CHECK(getsockname(server, (struct sockaddr *)&at, &length) == 0, "%s", strerror(errno));
  CHECK(connect(client, (struct sockaddr *)&at, length) == 0, "%s", strerror(errno));
  int accepted = accept(server, NULL, NULL);
  char block[16384] = {0};
  for (size_t left = amount; left > 0; left -= sizeof block) {
    CHECK(send(client, block, sizeof block, 0) == sizeof block, "%s", strerror(errno));
    CHECK(recv(accepted, block, sizeof block, MSG_WAITALL) == sizeof block, "%s", strerror(errno));
  }
  close(accepted), close(client), close(server);
}

static void case_account(int count, char **words) {
  (void)count, (void)words;
  enum { AMOUNT = 64 * 16384 };
  netmon_handle handle = OPEN(loopback);
  uint64_t outer = begin(handle, "step");
  uint64_t before = now_ns();
  uint64_t inner = begin(handle, "weight_sync");
  send_bytes(AMOUNT);
  netmon_phase of = end(handle, inner);
  CHECK(of.duration_ns <= now_ns() - before && of.duration_ns > 0, "%" PRIu64, of.duration_ns);
  CHECK(of.transmit_bytes >= AMOUNT && of.receive_bytes >= AMOUNT, "%" PRIu64, of.transmit_bytes);
  CHECK(of.segments_sent > 0 && of.segments_sent != NETMON_UNKNOWN_U64, "%" PRIu64, of.segments_sent);
  CHECK(of.tcp_bytes == NETMON_UNKNOWN_U64 && of.rdma_bytes == NETMON_UNKNOWN_U64, "they are not in sources");
  CHECK(isnan(of.utilization_ratio), "loopback has no capacity");
  netmon_phase all = end(handle, outer);
  CHECK(all.transmit_bytes >= of.transmit_bytes && all.duration_ns >= of.duration_ns, "the outer one has less");
  char *json = sample_of(handle);
  CHECK(strstr(json, "\"phases\":[{\"name\":\"step\",\"count\":1,\"running\":0,") != NULL, "%s", json);
  CHECK(strstr(json, "{\"name\":\"weight_sync\",\"count\":1,\"running\":0,") != NULL, "%s", json);
  netmon_free(json);
  CHECK_STATUS(netmon_close(handle), NETMON_OK);
}

typedef struct work {
  netmon_handle handle;
  long times;
  atomic_int closed;
  atomic_long ended;
} work;

static void *run_phases(void *argument) {
  work *w = argument;
  for (long i = 0; i < w->times; i++) {
    uint64_t outer = begin(w->handle, "outer");
    end(w->handle, begin(w->handle, "inner"));
    end(w->handle, outer);
  }
  return NULL;
}

static void case_threads(int count, char **words) {
  enum { THREADS = 4 };
  work w = {.handle = OPEN("{\"interval_seconds\": 0.01}"), .times = number_of(count, words, 0, 2000) / THREADS};
  pthread_t threads[THREADS];
  for (int i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, run_phases, &w) == 0, "pthread_create");
  for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  char want[64], *json = sample_of(w.handle);
  for (int i = 0; i < 2; i++) {
    snprintf(want, sizeof want, "\"name\":\"%s\",\"count\":%ld,\"running\":0", i == 0 ? "outer" : "inner", THREADS * w.times);
    CHECK(strstr(json, want) != NULL, "%s", json);
  }
  netmon_free(json);
  CHECK_STATUS(netmon_close(w.handle), NETMON_OK);
}

static void *run_until_closed(void *argument) {
  work *w = argument;
  for (;;) {
    int was_closed = atomic_load(&w->closed);
    uint64_t phase;
    int32_t status = netmon_phase_begin(w->handle, "p", &phase, NULL);
    CHECK(status == NETMON_OK || status == NETMON_ERR_CLOSED, "%d", status);
    CHECK(!was_closed || status == NETMON_ERR_CLOSED, "begun after netmon_close had returned");
    int32_t ended = netmon_phase_end(w->handle, phase, NULL, NULL);
    CHECK(ended == NETMON_OK || ended == NETMON_ERR_CLOSED, "%d", ended);
    if (was_closed) return NULL;
    w->ended++;
  }
}

static void case_closed(int count, char **words) {
  enum { THREADS = 3 };
  for (long round = number_of(count, words, 0, 30); round > 0; round--) {
    work w = {.handle = OPEN("{\"interval_seconds\": 0.01}")};
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, run_until_closed, &w) == 0, "pthread_create");
    while (atomic_load(&w.ended) < 50) rest();
    uint64_t before = now_ns();
    CHECK_STATUS(netmon_close(w.handle), NETMON_OK);
    CHECK(now_ns() - before < UINT64_C(5000000000), "close waited");
    atomic_store(&w.closed, 1);
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  }
}

// However many there are, memory, threads and descriptors stay as they are.
static void case_flat(int count, char **words) {
  work w = {.handle = OPEN("{\"interval_seconds\": 0.05}"), .times = number_of(count, words, 0, 20000) / 2};
  run_phases(&w);
  long memory = status_line("VmRSS:");
  int descriptors = open_descriptors(), threads = running_threads();
  run_phases(&w);
  CHECK(status_line("VmRSS:") - memory < 4096, "from %ld to %ld KiB", memory, status_line("VmRSS:"));
  CHECK(open_descriptors() == descriptors, "%d descriptors, before %d", open_descriptors(), descriptors);
  CHECK(running_threads() <= threads + 2, "%d threads, before %d", running_threads(), threads);
  printf("VmRSS from %ld to %ld KiB\n", memory, status_line("VmRSS:"));
  CHECK_STATUS(netmon_close(w.handle), NETMON_OK);
}

static void case_forked(int count, char **words) {
  (void)count, (void)words;
  netmon_handle handle = OPEN(loopback);
  uint64_t phase = begin(handle, "p");
  pid_t child = fork();
  if (child == 0) {
    alarm(20);
    uint64_t before = now_ns();
    wrong_name(handle, "p", NETMON_ERR_FORKED, "forked child");
    netmon_phase of = {.struct_size = sizeof of};
    CHECK_STATUS(netmon_phase_end(handle, phase, &of, NULL), NETMON_ERR_FORKED);
    check_unknown(&of);
    CHECK(now_ns() - before < UINT64_C(5000000000), "it took long");
    netmon_free(sample_of(handle));                                                        // opens it anew
    CHECK_STATUS(netmon_phase_end(handle, phase, &of, NULL), NETMON_ERR_INVALID_ARGUMENT); // the parent's
    end(handle, begin(handle, "p"));
    _exit(0);
  }
  int status;
  CHECK(waitpid(child, &status, 0) == child && status == 0, "child: %#x", status);
  end(handle, phase);
  CHECK_STATUS(netmon_close(handle), NETMON_OK);
}

int main(int argc, char **argv) {
  static const test_case cases[] = {
      {"arguments", case_arguments}, {"account", case_account}, {"threads", case_threads},
      {"closed", case_closed},       {"flat", case_flat},       {"forked", case_forked},
  };
  return run_case(cases, sizeof cases / sizeof cases[0], argc, argv);
}
