// cluster.c: digests and the view of a job: every kind of wrong argument, a job of two monitors, many threads, a closed monitor and
// forked children.

#include "check.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>

#define VIEW_START "{\"schema\":\"netmon.cluster/1\",\"sequence\":"

static const char config_0[] = "{\"job\": {\"rank\": 0, \"world_size\": 3}}";
static const char config_1[] = "{\"job\": {\"rank\": 1, \"world_size\": 3}}";

static uint32_t digest_of(netmon_handle handle, unsigned char *buffer) {
  uint32_t length = 77;
  char *error = POISON;
  int32_t status = netmon_digest(handle, buffer, NETMON_DIGEST_BYTES, &length, &error);
  CHECK(status == NETMON_OK, "%d: %s", status, error);
  CHECK(error == NULL, "error_out was not zeroed");
  CHECK(length > 20 && length <= NETMON_DIGEST_BYTES, "%u bytes", length);
  return length;
}

// Appends a digest in base64 to a request.
static void append(char *request, const unsigned char *digest, uint32_t length) {
  static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  char *to = request + strlen(request);
  for (uint32_t i = 0; i < length; i += 3) {
    uint32_t left = length - i, word = (uint32_t)digest[i] << 16;
    if (left > 1) word |= (uint32_t)digest[i + 1] << 8;
    if (left > 2) word |= digest[i + 2];
    *to++ = letters[word >> 18];
    *to++ = letters[word >> 12 & 63];
    *to++ = left > 1 ? letters[word >> 6 & 63] : '=';
    *to++ = left > 2 ? letters[word & 63] : '=';
  }
  *to = 0;
}

static void wrong(netmon_handle handle, const char *request, const char *word) {
  char *json = POISON, *error = POISON;
  int32_t status = netmon_aggregate(handle, request, &json, &error);
  CHECK(status == NETMON_ERR_INVALID_ARGUMENT, "%.80s: %d", request, status);
  CHECK(json == NULL, "json_out was not zeroed");
  check_sentence(__FILE__, __LINE__, error, word);
}

static void case_arguments(int count, char **words) {
  (void)count, (void)words;
  netmon_handle handle = OPEN(config_0);
  unsigned char buffer[NETMON_DIGEST_BYTES + 1];
  uint32_t length = 77;
  char *error = POISON, *json = POISON;
  CHECK_STATUS(netmon_digest(handle, NULL, NETMON_DIGEST_BYTES, &length, &error), NETMON_ERR_INVALID_ARGUMENT);
  check_sentence(__FILE__, __LINE__, error, "buffer");
  CHECK(length == 0, "length_out was not zeroed");
  CHECK_STATUS(netmon_digest(handle, buffer, sizeof buffer, NULL, &error), NETMON_ERR_INVALID_ARGUMENT);
  check_sentence(__FILE__, __LINE__, error, "length_out");
  CHECK_STATUS(netmon_digest(handle, NULL, 0, NULL, NULL), NETMON_ERR_INVALID_ARGUMENT);

  memset(buffer, 0x5a, sizeof buffer);
  CHECK_STATUS(netmon_digest(handle, buffer, 20, &length, &error), NETMON_ERR_INVALID_ARGUMENT);
  check_sentence(__FILE__, __LINE__, error, "capacity");
  CHECK(length > 20 && length <= NETMON_DIGEST_BYTES, "%u bytes are needed", length);
  for (size_t i = 0; i < sizeof buffer; i++) CHECK(buffer[i] == 0x5a, "byte %zu was written", i);
  CHECK_STATUS(netmon_digest(handle, buffer, 0, &length, NULL), NETMON_ERR_INVALID_ARGUMENT);
  length = digest_of(handle, buffer);
  for (size_t i = length; i < sizeof buffer; i++) CHECK(buffer[i] == 0x5a, "byte %zu, beyond %u, was written", i, length);

  CHECK_STATUS(netmon_aggregate(handle, NULL, &json, &error), NETMON_ERR_INVALID_ARGUMENT);
  check_sentence(__FILE__, __LINE__, error, "request_json");
  CHECK_STATUS(netmon_aggregate(handle, "{}", NULL, &error), NETMON_ERR_INVALID_ARGUMENT);
  check_sentence(__FILE__, __LINE__, error, "json_out");
  CHECK_STATUS(netmon_aggregate(handle, NULL, NULL, NULL), NETMON_ERR_INVALID_ARGUMENT);
  const struct {
    const char *request, *word;
  } cases[] = {
      {"[]", "request_json"},
      {"{", "request_json"},
      {"{\"digests\"}", "request_json"},
      {"{\"digests\": [\"\xff\"]}", "request_json"},
      {"{\"digest\": []}", "digests"},
      {"{\"digests\": {}}", "digests"},
      {"{\"digests\": \"bm1k\"}", "digests"},
      {"{\"digests\": [], \"digests\": []}", "digests"},
      {"{\"world_size\": 0}", "world_size"},
      {"{\"world_size\": 2147483648}", "world_size"},
      {"{\"rank\": -1}", "rank"},
      {"{\"rank\": 1.5}", "rank"},
      {"{\"engine\": 1}", "engine"},
      {"{\"engine\": \"12345678901234567890123456789012345678901234567890123456789012345\"}", "engine"},
      {"{\"gone\": 1}", "gone"},
      {"{\"gone\": [\"a\"]}", "gone"},
      {"{\"gone\": [-1]}", "gone"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) wrong(handle, cases[i].request, cases[i].word);

  // 8 MiB are read, not a byte more.
  size_t most = 8u << 20;
  char *text = malloc(most + 2);
  CHECK(text != NULL, "malloc");
  memset(text, ' ', most + 1);
  text[0] = '{', text[most] = '}', text[most + 1] = 0;
  wrong(handle, text, "8 MiB");
  text[most - 1] = '}', text[most] = 0;
  CHECK_STATUS(netmon_aggregate(handle, text, &json, &error), NETMON_OK);
  check_document(__FILE__, __LINE__, json, VIEW_START, '}');
  // 8193 digests are too many.
  strcpy(text, "{\"digests\": [0");
  char *end = text + strlen(text);
  for (int i = 0; i < 8192; i++, end += 2) memcpy(end, ",0", 2);
  strcpy(end, "]}");
  wrong(handle, text, "8192");
  free(text);

  const char *right[] = {"{}", "", "{\"digests\": null}", "{\"digests\": [], \"gone\": [7], \"engine\": \"\"}",
                         "{\"digests\": [0, \"\", \"====\", \"bm1k\", null, {}, \"aGVsbG8=\"]}"};
  for (size_t i = 0; i < sizeof right / sizeof right[0]; i++) {
    json = error = POISON;
    int32_t status = netmon_aggregate(handle, right[i], &json, &error);
    CHECK(status == NETMON_OK, "%s: %d: %s", right[i], status, error);
    CHECK(error == NULL, "error_out was not zeroed");
    if (i == 4) CHECK(strstr(json, "7 of 7 are not understood") != NULL, "%s", json);
    check_document(__FILE__, __LINE__, json, VIEW_START, '}');
  }

  CHECK_STATUS(netmon_close(handle), NETMON_OK);
  CHECK_STATUS(netmon_digest(handle, buffer, sizeof buffer, &length, &error), NETMON_ERR_CLOSED);
  check_sentence(__FILE__, __LINE__, error, "closed");
  CHECK_STATUS(netmon_aggregate(handle, "{}", &json, &error), NETMON_ERR_CLOSED);
  check_sentence(__FILE__, __LINE__, error, "closed");
  CHECK_STATUS(netmon_digest(42, buffer, sizeof buffer, &length, NULL), NETMON_ERR_INVALID_ARGUMENT);
  CHECK_STATUS(netmon_aggregate(42, "{}", &json, NULL), NETMON_ERR_INVALID_ARGUMENT);
}

// Looks at the digests of monitors, and frees the view after the words were found in it.
static void look(netmon_handle handle, const netmon_handle *monitors, int many, const char *const *words, int count) {
  char request[8192] = "{\"engine\": \"test\", \"world_size\": 3, \"rank\": 0, \"digests\": [";
  for (int i = 0; i < many; i++) {
    unsigned char buffer[NETMON_DIGEST_BYTES];
    uint32_t length = digest_of(monitors[i], buffer);
    strcat(request, i == 0 ? "\"" : ",\"");
    append(request, buffer, length);
    strcat(request, "\"");
  }
  strcat(request, "]}");
  char *json = POISON, *error = POISON;
  int32_t status = netmon_aggregate(handle, request, &json, &error);
  CHECK(status == NETMON_OK, "%d: %s", status, error);
  for (int i = 0; i < count; i++) CHECK(strstr(json, words[i]) != NULL, "no %s in %s", words[i], json);
  check_document(__FILE__, __LINE__, json, VIEW_START, '}');
}

static void case_view(int count, char **words) {
  (void)count, (void)words;
  netmon_handle monitors[2] = {OPEN(config_0), OPEN(config_1)};
  const char *first[] = {"\"live_ranks\":2,", "\"missing_ranks\":1,", "\"nodes\":1,", "\"ranks\":[0,1],",
                         "\"engine\":\"test\""};
  look(monitors[1], monitors, 2, first, 5);
  // Rank 0 is started anew.
  CHECK_STATUS(netmon_close(monitors[0]), NETMON_OK);
  monitors[0] = OPEN(config_0);
  const char *second[] = {"\"sequence\":2,", "\"restarts\":1,", "\"live_ranks\":2,"};
  look(monitors[1], monitors, 2, second, 3);
  CHECK_STATUS(netmon_close(monitors[0]), NETMON_OK);
  CHECK_STATUS(netmon_close(monitors[1]), NETMON_OK);
}

// Threads say digests and look, while the monitor closes.
static netmon_handle shared;
static atomic_long calls;

static void *busy(void *argument) {
  (void)argument;
  for (;;) {
    unsigned char buffer[NETMON_DIGEST_BYTES];
    uint32_t length = 0;
    char *json = NULL, *error = NULL;
    int32_t status = netmon_digest(shared, buffer, sizeof buffer, &length, &error);
    netmon_free(error);
    if (status == NETMON_ERR_CLOSED) return NULL;
    CHECK(status == NETMON_OK, "netmon_digest: %d", status);
    char request[2048] = "{\"digests\": [\"";
    append(request, buffer, length);
    strcat(request, "\"]}");
    status = netmon_aggregate(shared, request, &json, &error);
    netmon_free(json);
    netmon_free(error);
    if (status == NETMON_ERR_CLOSED) return NULL;
    CHECK(status == NETMON_OK, "netmon_aggregate: %d", status);
    atomic_fetch_add(&calls, 1);
  }
}

static void case_closed(int count, char **words) {
  int times = count > 0 ? atoi(words[0]) : 10;
  for (int i = 0; i < times; i++) {
    shared = OPEN("{\"interval_seconds\": 0.01}");
    atomic_store(&calls, 0);
    pthread_t threads[4];
    for (int t = 0; t < 4; t++) CHECK(pthread_create(&threads[t], NULL, busy, NULL) == 0, "pthread_create");
    while (atomic_load(&calls) < 20) rest();
    CHECK_STATUS(netmon_close(shared), NETMON_OK);
    for (int t = 0; t < 4; t++) pthread_join(threads[t], NULL);
  }
}

// A child is a process of its own: its digests are, and its views begin anew.
static void case_forked(int count, char **words) {
  (void)count, (void)words;
  netmon_handle handle = OPEN(config_0);
  const char *first[] = {"\"sequence\":1,", "\"restarts\":0,"};
  look(handle, &handle, 1, first, 2);
  pid_t child = fork();
  if (child == 0) {
    alarm(20);
    look(handle, &handle, 1, first, 2);
    _exit(0);
  }
  int status;
  CHECK(waitpid(child, &status, 0) == child && status == 0, "child: %#x", status);
  const char *second[] = {"\"sequence\":2,", "\"restarts\":0,"};
  look(handle, &handle, 1, second, 2);
  CHECK_STATUS(netmon_close(handle), NETMON_OK);
}

int main(int argc, char **argv) {
  static const test_case cases[] = {
      {"arguments", case_arguments}, {"view", case_view}, {"closed", case_closed}, {"forked", case_forked}};
  return run_case(cases, sizeof cases / sizeof cases[0], argc, argv);
}
