// arguments.c: every function with every kind of wrong argument. Each is answered by its status, by a sentence that names the
// argument or the key, and with out-parameters zeroed.

#include "check.h"

enum { MIB = 1 << 20 };

// Handles that were never issued: zero, small, near what is issued, and all bits set.
static const netmon_handle invented[] = {
    0, 1, 42, UINT64_C(0x6e6d000000000000), UINT64_C(1) << 40, UINT64_C(0x6e6d0000ffffffff), UINT64_MAX};

static netmon_handle alive, stale;

static void open_two(void) {
  alive = OPEN("{\"interval_seconds\": 0.05}");
  stale = OPEN(NULL);
  CHECK_STATUS(netmon_close(stale), NETMON_OK);
}

// Text made of a start, a number of the same piece, and an end.
static char *text_of(const char *start, const char *piece, size_t times, const char *end) {
  size_t length = strlen(start) + times * strlen(piece) + strlen(end);
  char *text = malloc(length + 1), *at = stpcpy(text, start);
  for (size_t i = 0; i < times; i++) at = stpcpy(at, piece);
  strcpy(at, end);
  return text;
}

// wrong_config checks that a configuration is refused, with and without error_out.
static void wrong_config(const char *config, const char *word) {
  netmon_handle handle = 99;
  char *error = POISON;
  int32_t status = netmon_init(config, &handle, &error);
  CHECK(status == NETMON_ERR_CONFIG, "%.100s: %d", config, status);
  CHECK(handle == 0, "handle_out holds %" PRIu64, handle);
  check_sentence(__FILE__, __LINE__, error, word);
  handle = 99;
  CHECK_STATUS(netmon_init(config, &handle, NULL), NETMON_ERR_CONFIG);
  CHECK(handle == 0, "handle_out holds %" PRIu64, handle);
}

static void wrong_job(const char *job, const char *word) {
  char *error = POISON;
  int32_t status = netmon_set_job(alive, job, &error);
  CHECK(status == NETMON_ERR_CONFIG, "%.100s: %d", job, status);
  check_sentence(__FILE__, __LINE__, error, word);
  CHECK_STATUS(netmon_set_job(alive, job, NULL), NETMON_ERR_CONFIG);
}

static void wrong(__typeof__(netmon_query) *ask, const char *request, const char *word) {
  char *error = POISON, *json = POISON;
  int32_t status = ask(alive, request, &json, &error);
  CHECK(status == NETMON_ERR_INVALID_ARGUMENT, "%.100s: %d", request, status);
  CHECK(json == NULL, "json_out was not zeroed");
  check_sentence(__FILE__, __LINE__, error, word);
  json = POISON;
  CHECK_STATUS(ask(alive, request, &json, NULL), NETMON_ERR_INVALID_ARGUMENT);
  CHECK(json == NULL, "json_out was not zeroed");
}

static void wrong_request(const char *request, const char *word) { wrong(netmon_query, request, word); }
static void wrong_probe(const char *request, const char *word) { wrong(netmon_probe, request, word); }
static void wrong_test(const char *request, const char *word) { wrong(netmon_bandwidth, request, word); }

// Texts that are wrong as a whole, whatever they were meant to be. The sentence names the argument.
static void wrong_texts(void (*wrong)(const char *, const char *), const char *argument) {
  const char *texts[] = {
      "{",
      "{\"",
      "}",
      "[",
      "]",
      "[]",
      "[{}]",
      "1",
      "-",
      "true",
      "tru",
      "\"text\"",
      "\"text",
      "{]",
      "{,}",
      "{\"a\"}",
      "{\"a\":}",
      "{\"a\" 1}",
      "{\"a\":1,}",
      "{\"a\":1,,\"b\":1}",
      "{a:1}",
      "{'a':1}",
      "{} {}",
      "{}x",
      "{\"a\":01}",
      "{\"a\":.5}",
      "{\"a\":+1}",
      "{\"a\":1.}",
      "{\"a\":0x1}",
      "{\"a\":NaN}",
      "{\"a\":Infinity}",
      "{\"a\":\"\\q\"}",
      "{\"a\":\"\\u12\"}",
      "{\"a\":\"\n\"}",
      "{\"a\":\"\x01\"}",
      "// {}",
      "\v{}",
      "\xef\xbb\xbf{}",
      // Not UTF-8: a lone continuation, an overlong slash, half a character, a surrogate, above U+10FFFF, Latin-1.
      "{\"a\":\"\x80\"}",
      "{\"a\":\"\xc0\xaf\"}",
      "{\"a\":\"\xe2\x82\"}",
      "{\"a\":\"\xed\xa0\x80\"}",
      "{\"a\":\"\xf4\x90\x80\x80\"}",
      "{\"a\":\"caf\xe9\"}",
      "\xff",
      "{\"\xff\":1}",
      "\xfe\xff{}",
  };
  for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) wrong(texts[i], argument);

  // 2 MiB, and the smallest size that is too long.
  char *text = text_of("{", " ", 2 * MIB, "}");
  wrong(text, argument);
  free(text);
  text = text_of("{", " ", MIB - 1, "}");
  CHECK(strlen(text) == MIB + 1, "%zu", strlen(text));
  wrong(text, argument);
  free(text);

  // Nested as deeply as a text can be.
  const struct {
    const char *start, *piece, *end;
    size_t times;
  } deep[] = {
      {"", "[", "", MIB},
      {"", "{\"a\":", "", MIB / 5},
      {"{\"a\":", "[", "", MIB - 5},
      {"{\"a\":", "[{\"b\":", "", MIB / 7},
      {"{\"view\":", "[", "}", MIB - 10},
      {"{\"job\":", "{\"environment\":", "", MIB / 15 - 1},
      {"{\"environment\":", "{\"A\":", "", MIB / 5 - 4},
      {"", "[]", "", MIB / 2},
  };
  for (size_t i = 0; i < sizeof deep / sizeof deep[0]; i++) {
    text = text_of(deep[i].start, deep[i].piece, deep[i].times, deep[i].end);
    wrong(text, argument);
    free(text);
  }
}

// Every beginning of a text that is right.
static void truncated(void (*wrong)(const char *, const char *), const char *argument, const char *right) {
  size_t length = strlen(right);
  for (size_t i = 1; i < length; i++) {
    char *part = strndup(right, i);
    wrong(part, argument);
    free(part);
  }
}

static void case_config(int count, char **words) {
  (void)count, (void)words;
  char *error = POISON;
  CHECK_STATUS(netmon_init(NULL, NULL, &error), NETMON_ERR_INVALID_ARGUMENT);
  check_sentence(__FILE__, __LINE__, error, "handle_out");
  error = POISON;
  CHECK_STATUS(netmon_init("{", NULL, &error), NETMON_ERR_INVALID_ARGUMENT);
  check_sentence(__FILE__, __LINE__, error, "handle_out");
  CHECK_STATUS(netmon_init(NULL, NULL, NULL), NETMON_ERR_INVALID_ARGUMENT);

  wrong_texts(wrong_config, "config_json");
  truncated(wrong_config, "config_json",
            "{\"interval_seconds\": 1.5e0, \"targets\": [\"a\", \"\\u00e9\"], \"job\": {\"rank\": 0}, \"interfaces\": null}");

  const struct {
    const char *config, *word;
  } cases[] = {
      {"{\"interval\": 1}", "interval_seconds"}, // the known keys are named
      {"{\"interval\": 1}", "\"interval\""},
      {"{\"Interval_Seconds\": 1}", "Interval_Seconds"},
      {"{\"\": 1}", "\"\""},
      {"{\"interval_seconds\\u0000\": 1}", "interval_seconds"},
      {"{\"interval_seconds\": \"1\"}", "interval_seconds"},
      {"{\"interval_seconds\": true}", "interval_seconds"},
      {"{\"interval_seconds\": []}", "interval_seconds"},
      {"{\"interval_seconds\": {}}", "interval_seconds"},
      {"{\"interval_seconds\": 0}", "interval_seconds"},
      {"{\"interval_seconds\": 0.009}", "0.01"},
      {"{\"interval_seconds\": -1}", "interval_seconds"},
      {"{\"interval_seconds\": 3600.1}", "3600"},
      {"{\"interval_seconds\": 1e400}", "interval_seconds"},
      {"{\"interval_seconds\": 99999999999999999999999999999999999999999}", "interval_seconds"},
      {"{\"targets\": \"10.0.0.1\"}", "targets"},
      {"{\"targets\": 1}", "targets"},
      {"{\"targets\": {}}", "targets"},
      {"{\"targets\": [1]}", "targets"},
      {"{\"targets\": [null]}", "targets"},
      {"{\"targets\": [\"a\", [\"b\"]]}", "entry 2"},
      {"{\"targets\": [\"\"]}", "targets"},
      {"{\"targets\": [\"127.0.0.1\", \"http://a\"]}", "entry 2"},
      {"{\"targets\": [\"http://a\"]}", "icmp://"}, // the known schemes are named
      {"{\"targets\": [\"127.0.0.1:0\"]}", "targets"},
      {"{\"targets\": [\"\\ud800\"]}", "targets"},
      {"{\"targets\": [\"\xe2\x82\xac\"]}", "targets"},
      {"{\"probe_interval_seconds\": 0.01}", "0.02"},
      {"{\"probe_interval_seconds\": 3601}", "3600"},
      {"{\"probe_interval_seconds\": \"1\"}", "probe_interval_seconds"},
      {"{\"probe_timeout_seconds\": 0}", "0.01"},
      {"{\"bandwidth_server\": 1}", "29542"},
      {"{\"bandwidth_server\": {\"port\": 0}}", "bandwidth_server.port"},
      {"{\"bandwidth_server\": {\"address\": \"node7\"}}", "bandwidth_server.address"},
      {"{\"probe_timeout_seconds\": 61}", "probe_timeout_seconds"},
      {"{\"udp_responder\": 29541}", "udp_responder"},
      {"{\"udp_responder\": \"127.0.0.1\"}", "udp_responder"},
      {"{\"udp_responder\": {\"port\": 65536}}", "udp_responder.port"},
      {"{\"udp_responder\": {\"address\": \"localhost\"}}", "udp_responder.address"},
      {"{\"udp_responder\": {\"adress\": \"127.0.0.1\"}}", "udp_responder.adress"},
      {"{\"job\": {\"peers\": \"127.0.0.1\"}}", "job.peers"},
      {"{\"job\": {\"peers\": [\"127.0.0.1\", 2]}}", "entry 2"},
      {"{\"job\": {\"peers\": [{\"rank\": 1}]}}", "entry 1"},
      {"{\"job\": {\"peers\": [{\"rank\": \"1\", \"address\": \"127.0.0.1\"}]}}", "job.peers.rank"},
      {"{\"job\": {\"peers\": [\"udp://127.0.0.1\"]}}", "job.peers"},
      {"{\"interfaces\": \"eth0\"}", "interfaces"},
      {"{\"interfaces\": [\"[\"]}", "interfaces"},
      {"{\"interfaces\": [\"!\"]}", "interfaces"},
      {"{\"interfaces\": [\"eth0\", 1]}", "entry 2"},
      {"{\"sources\": \"tcp\"}", "sources"},
      {"{\"sources\": [\"tpc\"]}", "tcp"},
      {"{\"sources\": [\"TCP\"]}", "TCP"},
      {"{\"sources\": [0]}", "sources"},
      {"{\"job\": 1}", "job"},
      {"{\"job\": []}", "job"},
      {"{\"job\": \"rank 1\"}", "job"},
      {"{\"job\": {\"rnak\": 1}}", "job.rnak"},
      {"{\"job\": {\"rank\": -1}}", "job.rank"},
      {"{\"job\": {\"rank\": 1.5}}", "job.rank"},
      {"{\"job\": {\"rank\": \"1\"}}", "job.rank"},
      {"{\"job\": {\"rank\": 99999999999999999999}}", "job.rank"},
      {"{\"job\": {\"rank\": 4, \"world_size\": 4}}", "world_size"},
      {"{\"job\": {\"world_size\": 0}}", "job.world_size"},
      {"{\"job\": {\"master_port\": 65536}}", "job.master_port"},
      {"{\"job\": {\"master_port\": 0}}", "job.master_port"},
      {"{\"job\": {\"master_address\": \"\"}}", "job.master_address"},
      {"{\"job\": {\"master_address\": 1}}", "job.master_address"},
      {"{\"job\": {\"environment\": []}}", "job.environment"},
      {"{\"job\": {\"environment\": {\"RANK\": 1}}}", "job.environment"},
      {"{\"interval_seconds\": 1, \"interval_seconds\": 1}", "interval_seconds"},
      {"{\"interval_seconds\": 1, \"targets\": [], \"inter\\u0076al_seconds\": 2}", "interval_seconds"},
      {"{\"job\": {\"rank\": 0, \"rank\": 1}}", "job.rank"},
      {"{\"job\": {\"environment\": {\"RANK\": \"0\", \"RANK\": \"1\"}}}", "RANK"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) wrong_config(cases[i].config, cases[i].word);

  char *many = text_of("{\"targets\": [\"a\"", ", \"a\"", 256, "]}");
  wrong_config(many, "targets");
  free(many);
  many = text_of("{\"targets\": [\"127.0.0.1\"", ", \"127.0.0.1\"", 499, "]}");
  wrong_config(many, "at most 256");
  free(many);
  // A long wrong value or key is not repeated at length, and is not cut within a character.
  for (size_t at = 0; at < 4; at++) {
    char *start = text_of("{\"", "x", at, ""), *key = text_of(start, "\xc3\xa9", 5000, "\": 1}");
    wrong_config(key, "is not known");
    free(start), free(key);
    start = text_of("{\"sources\": [\"", "x", at, ""), key = text_of(start, "\xe2\x82\xac", 5000, "\"]}");
    wrong_config(key, "sources");
    free(start), free(key);
  }

  // What is right stays right: defaults, null values, and exactly 1 MiB.
  char *largest = text_of("{", " ", MIB - 2, "}");
  CHECK(strlen(largest) == MIB, "%zu", strlen(largest));
  const char *right[] = {
      NULL,
      "",
      "{}",
      " \t\r\n{}\n",
      "null",
      "{\"interval_seconds\": null, \"targets\": null, \"interfaces\": null, \"sources\": null, \"job\": null}",
      "{\"probe_interval_seconds\": null, \"probe_timeout_seconds\": null, \"udp_responder\": null}",
      "{\"targets\": [\"127.0.0.1\", \"tcp://[::1]:1\", \"127.0.0.1\"], \"probe_interval_seconds\": 0.02}",
      "{\"targets\": [\"icmp://127.0.0.1\"], \"probe_timeout_seconds\": 60, \"sources\": [\"probes\"]}",
      "{\"udp_responder\": {\"address\": \"127.0.0.1\", \"port\": 29539}, \"targets\": [\"udp://127.0.0.1:29539\"]}",
      "{\"udp_responder\": false, \"job\": {\"peers\": [\"127.0.0.1\", {\"rank\": 1, \"address\": \"127.0.0.2\"}]}}",
      "{\"interval_seconds\": 0.01}",
      "{\"interval_seconds\": 3600}",
      "{\"interval_seconds\": 1e0}",
      "{\"targets\": [], \"sources\": []}",
      "{\"job\": {\"rank\": 0, \"world_size\": 1, \"environment\": {}}}",
      largest,
  };
  for (size_t i = 0; i < sizeof right / sizeof right[0]; i++) {
    netmon_handle handle = OPEN(right[i]);
    SAMPLE(handle);
    CHECK_STATUS(netmon_close(handle), NETMON_OK);
  }
  free(largest);
}

static void case_job(int count, char **words) {
  (void)count, (void)words;
  open_two();
  char *error = POISON;
  CHECK_STATUS(netmon_set_job(alive, NULL, &error), NETMON_ERR_INVALID_ARGUMENT);
  check_sentence(__FILE__, __LINE__, error, "job_json");
  CHECK_STATUS(netmon_set_job(alive, NULL, NULL), NETMON_ERR_INVALID_ARGUMENT);
  wrong_texts(wrong_job, "job_json");
  truncated(wrong_job, "job_json", "{\"rank\": 3, \"environment\": {\"A\": \"\\u00e9\"}, \"source\": null}");
  wrong_job("{\"rnak\": 3}", "rnak");
  wrong_job("{\"rank\": \"3\"}", "rank");
  wrong_job("{\"rank\": 3, \"rank\": 4}", "rank");
  wrong_job("{\"interval_seconds\": 1}", "interval_seconds");
  wrong_job("{\"rank\": 3, \"world_size\": 2}", "world_size");
  CHECK_STATUS(netmon_set_job(alive, "", NULL), NETMON_OK);
  error = POISON;
  CHECK_STATUS(netmon_set_job(alive, "{\"rank\": 3, \"world_size\": 8}", &error), NETMON_OK);
  CHECK(error == NULL, "error_out was not zeroed");
  SAMPLE(alive);
  CHECK_STATUS(netmon_close(alive), NETMON_OK);
}

static void case_query(int count, char **words) {
  (void)count, (void)words;
  open_two();
  char *error = POISON, *json = POISON;
  CHECK_STATUS(netmon_query(alive, NULL, &json, &error), NETMON_ERR_INVALID_ARGUMENT);
  check_sentence(__FILE__, __LINE__, error, "request_json");
  CHECK(json == NULL, "json_out was not zeroed");
  error = POISON;
  CHECK_STATUS(netmon_query(alive, "{\"view\": \"health\"}", NULL, &error), NETMON_ERR_INVALID_ARGUMENT);
  check_sentence(__FILE__, __LINE__, error, "json_out");
  CHECK_STATUS(netmon_query(alive, NULL, NULL, NULL), NETMON_ERR_INVALID_ARGUMENT);

  wrong_texts(wrong_request, "request_json");
  truncated(wrong_request, "request_json", "{\"view\": \"stats\", \"metric\": \"tcp.established\", \"seconds\": 1.5}");
  const struct {
    const char *request, *word;
  } cases[] = {
      {"", "view"},
      {"{}", "view"},
      {"{\"view\": null}", "view"},
      {"{\"view\": 1}", "view"},
      {"{\"view\": \"histroy\"}", "history"},
      {"{\"view\": \"HEALTH\"}", "HEALTH"},
      {"{\"view\": \"health\", \"view\": \"stats\"}", "view"},
      {"{\"view\": \"health\", \"seconds\": 1}", "seconds"},
      {"{\"view\": \"health\", \"limits\": 1}", "limits"},
      {"{\"view\": \"history\", \"seconds\": -1}", "seconds"},
      {"{\"view\": \"history\", \"seconds\": \"60\"}", "seconds"},
      {"{\"view\": \"history\", \"limit\": 0}", "limit"},
      {"{\"view\": \"history\", \"limit\": 257}", "limit"},
      {"{\"view\": \"history\", \"limit\": 1.5}", "limit"},
      {"{\"view\": \"history\", \"after_sequence\": -1}", "after_sequence"},
      {"{\"view\": \"history\", \"after_sequence\": 18446744073709551616}", "after_sequence"},
      {"{\"view\": \"history\", \"metric\": \"tcp.established\"}", "metric"},
      {"{\"view\": \"stats\"}", "metric"},
      {"{\"view\": \"stats\", \"metric\": \"\"}", "metric"},
      {"{\"view\": \"stats\", \"metric\": 1}", "metric"},
      {"{\"view\": \"stats\", \"metric\": \"tcp\"}", "tcp"},
      {"{\"view\": \"stats\", \"metric\": \"tcp.nothing\"}", "tcp.nothing"},
      {"{\"view\": \"stats\", \"metric\": \"nothing.at_all\"}", "nothing.at_all"},
      {"{\"view\": \"stats\", \"metric\": \"interfaces.eth0\"}", "interfaces"},
      {"{\"view\": \"stats\", \"metric\": \"interfaces..receive_bytes_total\"}", "interfaces"},
      {"{\"view\": \"stats\", \"metric\": \"host.hostname\"}", "host"},
      {"{\"view\": \"stats\", \"metric\": \"..\"}", "metric"},
      {"{\"view\": \"stats\", \"metric\": \"tcp.\\u0000\"}", "metric"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) wrong_request(cases[i].request, cases[i].word);

  const struct {
    const char *request, *start;
    char end;
  } right[] = {
      {"{\"view\": \"health\"}", "{\"status\":", '}'},
      {"{\"view\": \"health\", \"seconds\": null}", "{\"status\":", '}'},
      {"{\"view\": \"collectives\", \"limit\": 3}", "{\"groups\":[],", '}'},
      {"{\"view\": \"history\"}", "[" SAMPLE_START, ']'},
      {"{\"view\": \"history\", \"after_sequence\": 9223372036854775807}", "[", ']'},
      {"{\"view\": \"history\", \"seconds\": 1e9, \"limit\": 256}", "[" SAMPLE_START, ']'},
      {"{\"view\": \"stats\", \"metric\": \"tcp.established\"}", "{\"metric\":\"tcp.established\",", '}'},
      {"{\"view\": \"stats\", \"metric\": \"interfaces.no.such.receive_bytes_total\"}", "{\"metric\":", '}'},
  };
  for (size_t i = 0; i < sizeof right / sizeof right[0]; i++) {
    json = error = POISON;
    int32_t status = netmon_query(alive, right[i].request, &json, &error);
    CHECK(status == NETMON_OK, "%s: %d: %s", right[i].request, status, error);
    CHECK(error == NULL, "error_out was not zeroed");
    check_document(__FILE__, __LINE__, json, right[i].start, right[i].end);
  }
  CHECK_STATUS(netmon_close(alive), NETMON_OK);
}

// probed asks for probes, checks the answer's beginning, and returns its id.
static long probed(const char *request, int32_t *done) {
  char *json = POISON, *error = POISON;
  int32_t status = netmon_probe(alive, request, &json, &error);
  CHECK(status == NETMON_OK, "%s: %d: %s", request, status, error);
  CHECK(error == NULL, "error_out was not zeroed");
  long id = 0;
  CHECK(sscanf(json, "{\"id\":%ld,\"done\":", &id) == 1 && id > 0, "%s", json);
  *done = strstr(json, "\"done\":true") != NULL;
  check_document(__FILE__, __LINE__, json, "{\"id\":", '}');
  return id;
}

static void case_probe(int count, char **words) {
  (void)count, (void)words;
  open_two();
  char *error = POISON, *json = POISON;
  CHECK_STATUS(netmon_probe(alive, NULL, &json, &error), NETMON_ERR_INVALID_ARGUMENT);
  check_sentence(__FILE__, __LINE__, error, "request_json");
  CHECK(json == NULL, "json_out was not zeroed");
  error = POISON;
  CHECK_STATUS(netmon_probe(alive, "{\"target\": \"127.0.0.1\"}", NULL, &error), NETMON_ERR_INVALID_ARGUMENT);
  check_sentence(__FILE__, __LINE__, error, "json_out");
  CHECK_STATUS(netmon_probe(alive, NULL, NULL, NULL), NETMON_ERR_INVALID_ARGUMENT);

  wrong_texts(wrong_probe, "request_json");
  truncated(wrong_probe, "request_json",
            "{\"target\": \"127.0.0.1\", \"method\": \"icmp\", \"count\": 2, \"wait_seconds\": 0.5}");
  const struct {
    const char *request, *word;
  } cases[] = {
      {"", "target"},
      {"{}", "target"},
      {"{\"target\": null}", "target"},
      {"{\"target\": 1}", "target"},
      {"{\"target\": \"\"}", "target"},
      {"{\"target\": \"a b\"}", "target"},
      {"{\"target\": \"http://127.0.0.1\"}", "udp://"},
      {"{\"target\": \"127.0.0.1\", \"target\": \"127.0.0.2\"}", "target"},
      {"{\"targets\": [\"127.0.0.1\"]}", "targets"},
      {"{\"target\": \"127.0.0.1\", \"method\": \"ping\"}", "method"},
      {"{\"target\": \"127.0.0.1\", \"method\": 1}", "method"},
      {"{\"target\": \"127.0.0.1\", \"method\": \"ICMP\"}", "ICMP"},
      {"{\"target\": \"127.0.0.1\", \"method\": \"dns\"}", "method"},
      {"{\"target\": \"tcp://127.0.0.1:1\", \"method\": \"udp\"}", "method"},
      {"{\"target\": \"127.0.0.1:1\", \"method\": \"icmp\"}", "method"},
      {"{\"target\": \"dns://localhost\", \"method\": \"path\"}", "method"},
      {"{\"target\": \"127.0.0.1\", \"count\": 0}", "count"},
      {"{\"target\": \"127.0.0.1\", \"count\": 1001}", "1000"},
      {"{\"target\": \"127.0.0.1\", \"count\": 1.5}", "count"},
      {"{\"target\": \"127.0.0.1\", \"count\": \"1\"}", "count"},
      {"{\"target\": \"127.0.0.1\", \"method\": \"path\", \"count\": 11}", "count"},
      {"{\"target\": \"127.0.0.1\", \"timeout_seconds\": 0.009}", "timeout_seconds"},
      {"{\"target\": \"127.0.0.1\", \"timeout_seconds\": 61}", "timeout_seconds"},
      {"{\"target\": \"127.0.0.1\", \"interval_seconds\": 0.019}", "interval_seconds"},
      {"{\"target\": \"127.0.0.1\", \"interval_seconds\": 61}", "interval_seconds"},
      {"{\"target\": \"127.0.0.1\", \"wait_seconds\": -0.1}", "wait_seconds"},
      {"{\"target\": \"127.0.0.1\", \"wait_seconds\": 60.1}", "wait_seconds"},
      {"{\"target\": \"127.0.0.1\", \"wait_seconds\": true}", "wait_seconds"},
      {"{\"target\": \"127.0.0.1\", \"id\": 1}", "target"},
      {"{\"id\": 0}", "id"},
      {"{\"id\": -1}", "id"},
      {"{\"id\": 99999999999999999999}", "id"},
      {"{\"id\": 4711}", "4711"},
      {"{\"id\": 4711, \"cancel\": true}", "4711"},
      {"{\"id\": 1, \"count\": 2}", "count"},
      {"{\"id\": 1, \"cancel\": 1}", "cancel"},
      {"{\"cancel\": true}", "id"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) wrong_probe(cases[i].request, cases[i].word);

  // What becomes of probes is in the answer, not in the status.
  int32_t done;
  const char *right[] = {
      "{\"target\": \"127.0.0.1\"}",
      "{\"target\": \"127.0.0.1:1\", \"method\": \"tcp\", \"count\": 3, \"timeout_seconds\": 0.5, \"interval_seconds\": 0.02}",
      "{\"target\": \"tcp://[::1]:1\", \"method\": \"auto\", \"wait_seconds\": 60}",
      "{\"target\": \"udp://127.0.0.1:1\", \"timeout_seconds\": 0.05, \"method\": null, \"id\": null}",
      "{\"target\": \"localhost\"}",
      "{\"target\": \"dns://localhost\"}",
      "{\"target\": \"127.0.0.1\", \"method\": \"path\", \"count\": 1, \"timeout_seconds\": 0.2}",
  };
  for (size_t i = 0; i < sizeof right / sizeof right[0]; i++) {
    long id = probed(right[i], &done);
    CHECK(done, "%s is not done", right[i]);
    char again[64];
    snprintf(again, sizeof again, "{\"id\": %ld}", id);
    wrong_probe(again, "id");
  }

  // One that goes on is waited for in slices, and canceled.
  const char *endless = "{\"target\": \"icmp://127.0.0.1\", \"count\": 1000, \"wait_seconds\": 0.05}";
  uint64_t began = now_ns();
  long id = probed(endless, &done);
  CHECK(!done && now_ns() - began >= 50000000, "it waited %" PRIu64 " ns, done %d", now_ns() - began, done);
  char slice[64], cancel[64];
  snprintf(slice, sizeof slice, "{\"id\": %ld, \"wait_seconds\": 0.05}", id);
  snprintf(cancel, sizeof cancel, "{\"id\": %ld, \"cancel\": true}", id);
  CHECK(probed(slice, &done) == id && !done, "the slice");
  CHECK(probed(cancel, &done) == id && done, "the cancel");
  wrong_probe(slice, "id");

  // Sixteen at most.
  long ids[16];
  for (int i = 0; i < 16; i++) {
    ids[i] = probed("{\"target\": \"icmp://127.0.0.1\", \"count\": 1000, \"wait_seconds\": 0}", &done);
    CHECK(!done && (i == 0 || ids[i] > ids[i - 1]), "id %ld", ids[i]);
  }
  json = error = POISON;
  CHECK_STATUS(netmon_probe(alive, right[0], &json, &error), NETMON_ERR_RESOURCES);
  CHECK(json == NULL, "json_out was not zeroed");
  check_sentence(__FILE__, __LINE__, error, "16");
  for (int i = 0; i < 16; i++) {
    snprintf(cancel, sizeof cancel, "{\"id\": %ld, \"cancel\": true}", ids[i]);
    CHECK(probed(cancel, &done) == ids[i] && done, "the cancel of %ld", ids[i]);
  }
  probed(right[0], &done);
  CHECK(done, "after them");
  CHECK_STATUS(netmon_close(alive), NETMON_OK);
}

// tested asks for a bandwidth test, checks the answer's beginning, and returns its id.
static long tested(const char *request, const char *word, int32_t *done) {
  char *json = POISON, *error = POISON;
  int32_t status = netmon_bandwidth(alive, request, &json, &error);
  CHECK(status == NETMON_OK, "%s: %d: %s", request, status, error);
  CHECK(error == NULL, "error_out was not zeroed");
  long id = 0;
  CHECK(sscanf(json, "{\"id\":%ld,\"done\":", &id) == 1 && id > 0, "%s", json);
  CHECK(strstr(json, word) != NULL, "%s: no %s: %s", request, word, json);
  *done = strstr(json, "\"done\":true") != NULL;
  check_document(__FILE__, __LINE__, json, "{\"id\":", '}');
  return id;
}

static void case_bandwidth(int count, char **words) {
  (void)count, (void)words;
  open_two();
  char *error = POISON, *json = POISON;
  CHECK_STATUS(netmon_bandwidth(alive, NULL, &json, &error), NETMON_ERR_INVALID_ARGUMENT);
  check_sentence(__FILE__, __LINE__, error, "request_json");
  CHECK(json == NULL, "json_out was not zeroed");
  error = POISON;
  CHECK_STATUS(netmon_bandwidth(alive, "{\"target\": \"127.0.0.1:1\"}", NULL, &error), NETMON_ERR_INVALID_ARGUMENT);
  check_sentence(__FILE__, __LINE__, error, "json_out");
  CHECK_STATUS(netmon_bandwidth(alive, NULL, NULL, NULL), NETMON_ERR_INVALID_ARGUMENT);

  wrong_texts(wrong_test, "request_json");
  truncated(wrong_test, "request_json",
            "{\"target\": \"127.0.0.1:1\", \"tool\": \"netmon\", \"seconds\": 0.1, \"wait_seconds\": 0.5}");
  const struct {
    const char *request, *word;
  } cases[] = {
      {"", "target"},
      {"{}", "target"},
      {"{\"target\": null}", "target"},
      {"{\"target\": 1}", "target"},
      {"{\"target\": \"\"}", "target"},
      {"{\"target\": \"a b\"}", "target"},
      {"{\"target\": \"tcp://127.0.0.1\"}", "target"},
      {"{\"target\": \"127.0.0.1:0\"}", "target"},
      {"{\"target\": \"127.0.0.1:1\", \"tool\": \"iperf\"}", "speedtest-cli"},
      {"{\"target\": \"127.0.0.1:1\", \"tool\": 3}", "tool"},
      {"{\"target\": \"127.0.0.1:1\", \"direction\": \"up\"}", "transmit"},
      {"{\"target\": \"127.0.0.1:1\", \"seconds\": 0.09}", "seconds"},
      {"{\"target\": \"127.0.0.1:1\", \"seconds\": 10.1}", "from 0.1 to 10"},
      {"{\"target\": \"127.0.0.1:1\", \"tool\": \"iperf3\", \"seconds\": 0.5}", "whole seconds"},
      {"{\"target\": \"127.0.0.1:1\", \"bytes\": 0}", "bytes"},
      {"{\"target\": \"127.0.0.1:1\", \"bytes\": 17179869185}", "17179869184"},
      {"{\"target\": \"127.0.0.1:1\", \"bytes\": 1.5}", "bytes"},
      {"{\"target\": \"127.0.0.1:1\", \"tool\": \"iperf3\", \"bytes\": 5}", "bytes"},
      {"{\"target\": \"127.0.0.1:1\", \"parallel\": 0}", "parallel"},
      {"{\"target\": \"127.0.0.1:1\", \"parallel\": 9}", "from 1 to 8"},
      {"{\"target\": \"127.0.0.1:1\", \"program\": \"/bin/iperf3\"}", "program"},
      {"{\"target\": \"127.0.0.1:1\", \"tool\": \"iperf3\", \"program\": \"\"}", "program"},
      {"{\"target\": \"127.0.0.1:1\", \"tool\": \"iperf3\", \"program\": \"a\\u0000b\"}", "program"},
      {"{\"target\": \"127.0.0.1:1\", \"timeout_seconds\": 0.9}", "timeout_seconds"},
      {"{\"target\": \"127.0.0.1:1\", \"timeout_seconds\": 121}", "timeout_seconds"},
      {"{\"target\": \"127.0.0.1:1\", \"wait_seconds\": 60.1}", "wait_seconds"},
      {"{\"tool\": \"speedtest-cli\", \"seconds\": 2}", "seconds"},
      {"{\"tool\": \"speedtest-cli\", \"parallel\": 2}", "parallel"},
      {"{\"tool\": \"speedtest-cli\", \"target\": \"127.0.0.1\"}", "number"},
      {"{\"target\": \"127.0.0.1:1\", \"id\": 1}", "target"},
      {"{\"target\": \"127.0.0.1:1\", \"count\": 1}", "count"},
      {"{\"id\": 0}", "id"},
      {"{\"id\": 4711}", "4711"},
      {"{\"id\": 4711, \"cancel\": true}", "4711"},
      {"{\"id\": 1, \"cancel\": 1}", "cancel"},
      {"{\"cancel\": true}", "id"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) wrong_test(cases[i].request, cases[i].word);

  // What becomes of a test is in the answer, not in the status.
  int32_t done;
  const struct {
    const char *request, *word;
  } right[] = {
      {"{\"target\": \"127.0.0.1:1\"}", "refuses the connection"},
      {"{\"target\": \"[::1]:1\", \"direction\": \"both\", \"wait_seconds\": 60}", "refuses the connection"},
      {"{\"target\": \"localhost:1\", \"tool\": \"netmon\", \"bytes\": 17179869184, \"parallel\": 8}", "refuses"},
      {"{\"target\": \"127.0.0.1\", \"tool\": \"iperf3\", \"program\": \"/no/such/file\"}", "cannot be started"},
      {"{\"tool\": \"speedtest-cli\", \"target\": \"12\", \"program\": \"/bin/true\"}", "said nothing"},
  };
  for (size_t i = 0; i < sizeof right / sizeof right[0]; i++) {
    long id = tested(right[i].request, right[i].word, &done);
    CHECK(done, "%s is not done", right[i].request);
    char again[64];
    snprintf(again, sizeof again, "{\"id\": %ld}", id);
    wrong_test(again, "id");
  }

  // One that goes on is waited for in slices, and canceled. Another one at the same time is refused, in whatever monitor.
  netmon_handle serving = OPEN("{\"bandwidth_server\": {\"port\": 29543}}");
  const char *request = "{\"target\": \"127.0.0.1:29543\", \"seconds\": 10, \"bytes\": 4294967296, \"wait_seconds\": 0.05}";
  long id = tested(request, "\"tests\":[]", &done);
  CHECK(!done, "it is done");
  json = error = POISON;
  CHECK_STATUS(netmon_bandwidth(serving, request, &json, &error), NETMON_ERR_RESOURCES);
  CHECK(json == NULL, "json_out was not zeroed");
  check_sentence(__FILE__, __LINE__, error, "another bandwidth test");
  char slice[64], cancel[64];
  snprintf(slice, sizeof slice, "{\"id\": %ld, \"wait_seconds\": 0.05}", id);
  snprintf(cancel, sizeof cancel, "{\"id\": %ld, \"cancel\": true}", id);
  CHECK(tested(slice, "\"tests\":[]", &done) == id && !done, "the slice");
  CHECK(tested(cancel, "canceled", &done) == id && done, "the cancel");
  wrong_test(slice, "id");
  tested(right[0].request, right[0].word, &done);
  CHECK(done, "after it");
  CHECK_STATUS(netmon_close(serving), NETMON_OK);
  CHECK_STATUS(netmon_close(alive), NETMON_OK);
}

// A stale handle is CLOSED, an invented one INVALID_ARGUMENT, whatever else is right.
static void wrong_handle(netmon_handle handle, int32_t want, const char *word) {
  char *json = POISON, *error = POISON;
  CHECK_STATUS(netmon_sample(handle, &json, &error), want);
  CHECK(json == NULL, "json_out was not zeroed");
  check_sentence(__FILE__, __LINE__, error, "handle");
  error = POISON;
  CHECK_STATUS(netmon_query(handle, "{\"view\": \"health\"}", &json, &error), want);
  CHECK(json == NULL, "json_out was not zeroed");
  check_sentence(__FILE__, __LINE__, error, word);
  error = POISON;
  CHECK_STATUS(netmon_probe(handle, "{\"target\": \"127.0.0.1\"}", &json, &error), want);
  CHECK(json == NULL, "json_out was not zeroed");
  check_sentence(__FILE__, __LINE__, error, word);
  error = POISON;
  CHECK_STATUS(netmon_bandwidth(handle, "{\"target\": \"127.0.0.1:1\"}", &json, &error), want);
  CHECK(json == NULL, "json_out was not zeroed");
  check_sentence(__FILE__, __LINE__, error, "handle");
  error = POISON;
  CHECK_STATUS(netmon_set_job(handle, "{\"rank\": 0}", &error), want);
  check_sentence(__FILE__, __LINE__, error, word);
  CHECK_STATUS(netmon_sample(handle, &json, NULL), want);
  CHECK_STATUS(netmon_query(handle, "{\"view\": \"health\"}", &json, NULL), want);
  CHECK_STATUS(netmon_set_job(handle, "{}", NULL), want);
  netmon_snapshot snapshot = {.struct_size = sizeof snapshot, .sequence = 7};
  CHECK_STATUS(netmon_latest(handle, &snapshot), want);
  CHECK(snapshot.sequence == 0 && snapshot.receive_bytes_total == NETMON_UNKNOWN_U64,
        "values of a failed call are not unknown");
  CHECK(snapshot.loss_ratio != snapshot.loss_ratio, "a ratio of a failed call is %g", snapshot.loss_ratio);
}

static void case_handle(int count, char **words) {
  (void)count, (void)words;
  // Before anything was issued, too.
  for (size_t i = 0; i < sizeof invented / sizeof invented[0]; i++)
    wrong_handle(invented[i], NETMON_ERR_INVALID_ARGUMENT, "never issued");
  CHECK_STATUS(netmon_close(0), NETMON_OK);
  open_two();
  wrong_handle(stale, NETMON_ERR_CLOSED, "closed");
  CHECK_STATUS(netmon_close(stale), NETMON_OK);
  CHECK_STATUS(netmon_close(stale), NETMON_OK);
  for (size_t i = 0; i < sizeof invented / sizeof invented[0]; i++) {
    wrong_handle(invented[i], NETMON_ERR_INVALID_ARGUMENT, "never issued");
    CHECK_STATUS(netmon_close(invented[i]), invented[i] == 0 ? NETMON_OK : NETMON_ERR_INVALID_ARGUMENT);
  }

  char *error = POISON;
  CHECK_STATUS(netmon_sample(alive, NULL, &error), NETMON_ERR_INVALID_ARGUMENT);
  check_sentence(__FILE__, __LINE__, error, "json_out");
  CHECK_STATUS(netmon_sample(alive, NULL, NULL), NETMON_ERR_INVALID_ARGUMENT);
  CHECK_STATUS(netmon_sample(0, NULL, NULL), NETMON_ERR_INVALID_ARGUMENT);
  // The argument that is wrong is named also where the handle is wrong as well.
  error = POISON;
  CHECK_STATUS(netmon_sample(stale, NULL, &error), NETMON_ERR_INVALID_ARGUMENT);
  check_sentence(__FILE__, __LINE__, error, "json_out");
  SAMPLE(alive);
  CHECK_STATUS(netmon_close(alive), NETMON_OK);
  CHECK_STATUS(netmon_close(alive), NETMON_OK);
  wrong_handle(alive, NETMON_ERR_CLOSED, "closed");
  netmon_free(NULL);
}

// The struct lies in the middle of a field of canaries: nothing beyond struct_size is written, nothing in it read but the size.
static void case_struct_size(int count, char **words) {
  (void)count, (void)words;
  open_two();
  enum { AROUND = 256 };
  _Alignas(8) unsigned char field[AROUND + sizeof(netmon_snapshot) + AROUND];
  netmon_snapshot *snapshot = (netmon_snapshot *)(field + AROUND);
  const size_t values = offsetof(netmon_snapshot, sequence);

  CHECK_STATUS(netmon_latest(alive, NULL), NETMON_ERR_INVALID_ARGUMENT);
  CHECK_STATUS(netmon_latest(stale, NULL), NETMON_ERR_INVALID_ARGUMENT);
  const netmon_handle handles[] = {alive, stale, 0};
  const int32_t statuses[] = {NETMON_OK, NETMON_ERR_CLOSED, NETMON_ERR_INVALID_ARGUMENT};
  for (size_t h = 0; h < 3; h++) {
    for (uint32_t size = 0; size <= sizeof(netmon_snapshot) + AROUND; size++) {
      memset(field, 0xab, sizeof field);
      snapshot->struct_size = size;
      CHECK_STATUS(netmon_latest(handles[h], snapshot), size < values ? NETMON_ERR_INVALID_ARGUMENT : statuses[h]);
      CHECK(snapshot->struct_size == size, "struct_size %" PRIu32 " became %" PRIu32, size, snapshot->struct_size);
      // Whole values are written, as many as fit.
      size_t end = size < values ? values : size > sizeof(netmon_snapshot) ? sizeof(netmon_snapshot) : size / 8 * 8;
      for (size_t i = 0; i < sizeof field; i++) {
        size_t at = i - AROUND;
        int inside = i >= AROUND && (at < sizeof snapshot->struct_size || (at >= values && at < end));
        CHECK(inside || field[i] == 0xab, "struct_size %" PRIu32 ": byte %zu was written", size, at);
      }
      if (end >= values + 8) {
        CHECK(h == 0 ? snapshot->sequence >= 1 && snapshot->sequence < 1000000 : snapshot->sequence == 0,
              "sequence is %" PRIu64, snapshot->sequence);
      }
      if (h > 0 && end == sizeof(netmon_snapshot)) {
        CHECK(snapshot->loss_ratio != snapshot->loss_ratio, "loss_ratio is %g", snapshot->loss_ratio);
      }
    }
    memset(field, 0xab, sizeof field);
    snapshot->struct_size = UINT32_MAX;
    CHECK_STATUS(netmon_latest(handles[h], snapshot), statuses[h]);
    for (size_t i = AROUND + sizeof(netmon_snapshot); i < sizeof field; i++)
      CHECK(field[i] == 0xab, "byte %zu was written", i - AROUND);
  }
  CHECK_STATUS(netmon_close(alive), NETMON_OK);
}

// What was not measured is unknown, never zero.
static void case_unknown(int count, char **words) {
  (void)count, (void)words;
  netmon_handle handle = OPEN("{\"sources\": [\"tcp\"], \"interval_seconds\": 3600}");
  netmon_snapshot s = {.struct_size = sizeof s};
  CHECK_STATUS(netmon_latest(handle, &s), NETMON_OK);
  CHECK(s.sequence == 1 && s.wall_time_ns > UINT64_C(1600000000000000000) && s.wall_time_ns != NETMON_UNKNOWN_U64,
        "%" PRIu64 " %" PRIu64, s.sequence, s.wall_time_ns);
  CHECK(s.monotonic_time_ns > 0 && s.monotonic_time_ns <= now_ns(), "%" PRIu64 " now %" PRIu64, s.monotonic_time_ns, now_ns());
  CHECK(s.window_ns == NETMON_UNKNOWN_U64, "the first sample has a window of %" PRIu64 " ns", s.window_ns);
  CHECK(s.receive_bytes_total == NETMON_UNKNOWN_U64 && s.transmit_bytes_total == NETMON_UNKNOWN_U64,
        "totals are known without interfaces");
  CHECK(s.receive_bytes_per_second != s.receive_bytes_per_second && s.transmit_bytes_per_second != s.transmit_bytes_per_second,
        "rates");
  CHECK(s.primary_receive_bytes_per_second != s.primary_receive_bytes_per_second, "primary rate");
  CHECK(s.errors_in_window == NETMON_UNKNOWN_U64 && s.drops_in_window == NETMON_UNKNOWN_U64, "errors and drops");
  CHECK(s.tcp_retransmit_ratio != s.tcp_retransmit_ratio, "tcp_retransmit_ratio is %g without a window",
        s.tcp_retransmit_ratio);
  CHECK(s.tcp_established != NETMON_UNKNOWN_U64, "tcp_established was measured");
  CHECK(s.rtt_p50_ns == NETMON_UNKNOWN_U64 && s.loss_ratio != s.loss_ratio, "nobody was probed");
  CHECK(s.utilization_ratio != s.utilization_ratio && s.peer_connections == NETMON_UNKNOWN_U64 &&
            s.peer_sent_bytes_per_second != s.peer_sent_bytes_per_second &&
            s.peer_received_bytes_per_second != s.peer_received_bytes_per_second && s.peer_rtt_p50_ns == NETMON_UNKNOWN_U64 &&
            s.peer_retransmit_ratio != s.peer_retransmit_ratio,
        "neither interfaces nor peers are read");
  CHECK(s.rdma_receive_bytes_per_second != s.rdma_receive_bytes_per_second &&
            s.rdma_transmit_bytes_per_second != s.rdma_transmit_bytes_per_second && s.transport_plane == NETMON_UNKNOWN_U64,
        "RDMA is not read");
  CHECK_STATUS(netmon_close(handle), NETMON_OK);

  handle = OPEN("{\"sources\": [\"interfaces\"], \"interfaces\": [\"lo\"], \"interval_seconds\": 0.01}");
  CHECK_STATUS(netmon_latest(handle, &s), NETMON_OK);
  CHECK(s.receive_bytes_total == 0 && s.tcp_established == NETMON_UNKNOWN_U64, "totals %" PRIu64 ", tcp_established %" PRIu64,
        s.receive_bytes_total, s.tcp_established);
  while (s.sequence < 3) {
    CHECK_STATUS(netmon_latest(handle, &s), NETMON_OK);
    rest();
  }
  CHECK(s.window_ns > 1000000 && s.window_ns != NETMON_UNKNOWN_U64, "window of %" PRIu64 " ns", s.window_ns);
  CHECK(s.rtt_p50_ns == NETMON_UNKNOWN_U64 && s.loss_ratio != s.loss_ratio, "nobody was probed");
  CHECK(s.receive_bytes_per_second >= 0 && s.errors_in_window == 0 && s.drops_in_window == 0, "%g bytes/s, %" PRIu64 " errors",
        s.receive_bytes_per_second, s.errors_in_window);
  CHECK_STATUS(netmon_close(handle), NETMON_OK);

  handle = OPEN("{\"targets\": [\"127.0.0.1\"], \"interval_seconds\": 0.01, \"probe_interval_seconds\": 0.02}");
  do {
    CHECK_STATUS(netmon_latest(handle, &s), NETMON_OK);
    rest();
  } while (s.rtt_p50_ns == NETMON_UNKNOWN_U64);
  CHECK(s.rtt_p50_ns > 0 && s.rtt_p50_ns < 1000000000 && s.loss_ratio >= 0 && s.loss_ratio < 1, "%" PRIu64 " ns, loss %g",
        s.rtt_p50_ns, s.loss_ratio);
  CHECK_STATUS(netmon_close(handle), NETMON_OK);
}

static void case_versions(int count, char **words) {
  (void)count, (void)words;
  CHECK(netmon_abi_version() == NETMON_ABI_VERSION, "%d", netmon_abi_version());
  CHECK(strcmp(netmon_version(), NETMON_VERSION) == 0, "%s", netmon_version());
  CHECK(netmon_version() == netmon_version(), "the text is not static");
}

int main(int argc, char **argv) {
  static const test_case cases[] = {
      {"config", case_config},    {"job", case_job},         {"query", case_query},
      {"handle", case_handle},    {"probe", case_probe},     {"bandwidth", case_bandwidth},
      {"size", case_struct_size}, {"unknown", case_unknown}, {"versions", case_versions},
  };
  return run_case(cases, sizeof cases / sizeof cases[0], argc, argv);
}
