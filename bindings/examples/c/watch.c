// watch.c: measures the network of this machine for a while, in C.
//
//     cc watch.c $(pkg-config --cflags --libs netmon) -o watch && ./watch --samples 5 --interval 1
//
// Options: --samples N      how many samples of the loop to wait for, default 3
//          --interval S     seconds between two of them, default 0.2
//          --leak           frees no answer, so that a leak checker has something to find

#include <math.h>
#include <netmon.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static int leak;

// Answers belong to the caller.
static void done_with(char *text) {
  if (!leak) netmon_free(text);
}

static int complain(const char *call, int32_t status, char *error) {
  fprintf(stderr, "%s: status %d: %s\n", call, status, error != NULL ? error : "no sentence");
  netmon_free(error);
  return 1;
}

// What was not measured is NaN.
static void print_rate(const char *name, double bytes_per_second) {
  if (isnan(bytes_per_second)) {
    printf("  %s not known", name);
  } else {
    printf("  %s %.0f bytes/s", name, bytes_per_second);
  }
}

// Reads the newest values until the loop has published `samples` more. Reading costs nothing, so this may be done in every step
// of a training loop.
static int watch(netmon_handle monitor, uint64_t samples, double interval) {
  netmon_snapshot latest = {.struct_size = sizeof latest};
  uint64_t seen = 0, left = samples;
  while (left > 0) {
    int32_t status = netmon_latest(monitor, &latest);
    if (status != NETMON_OK && status != NETMON_ERR_NO_DATA) return complain("netmon_latest", status, NULL);
    if (status == NETMON_OK && latest.sequence != seen) {
      seen = latest.sequence;
      left--;
      printf("sample %llu", (unsigned long long)latest.sequence);
      print_rate("receive", latest.receive_bytes_per_second);
      print_rate("transmit", latest.transmit_bytes_per_second);
      if (latest.tcp_established != NETMON_UNKNOWN_U64) {
        printf("  %llu TCP connections", (unsigned long long)latest.tcp_established);
      }
      printf("\n");
    } else {
      double wait = interval / 4;
      time_t whole = (time_t)wait;
      nanosleep(&(struct timespec){.tv_sec = whole, .tv_nsec = (long)((wait - (double)whole) * 1e9)}, NULL);
    }
  }
  return 0;
}

static int measure(netmon_handle monitor, uint64_t samples, double interval) {
  char *error = NULL, *json = NULL;
  int32_t status = netmon_sample(monitor, &json, &error);
  if (status != NETMON_OK) return complain("netmon_sample", status, error);
  printf("%s\n", json);
  done_with(json);

  if (watch(monitor, samples, interval) != 0) return 1;

  const char *requests[] = {"{\"view\": \"stats\", \"metric\": \"totals.receive_bytes_per_second\"}", "{\"view\": \"health\"}"};
  for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++) {
    status = netmon_query(monitor, requests[i], &json, &error);
    if (status != NETMON_OK) return complain("netmon_query", status, error);
    printf("%s\n", json);
    done_with(json);
  }
  return 0;
}

int main(int argc, char **argv) {
  double interval = 0.2;
  long samples = 3;
  for (int i = 1; i < argc; i++) {
    if (strcmp(argv[i], "--leak") == 0) {
      leak = 1;
    } else if (strcmp(argv[i], "--samples") == 0 && i + 1 < argc) {
      samples = strtol(argv[++i], NULL, 10);
    } else if (strcmp(argv[i], "--interval") == 0 && i + 1 < argc) {
      interval = strtod(argv[++i], NULL);
    } else {
      fprintf(stderr, "usage: %s [--samples N] [--interval SECONDS] [--leak]\n", argv[0]);
      return 2;
    }
  }

  char config[64];
  snprintf(config, sizeof config, "{\"interval_seconds\": %.3f}", interval);
  netmon_handle monitor;
  char *error;
  int32_t status = netmon_init(config, &monitor, &error);
  if (status != NETMON_OK) return complain("netmon_init", status, error);
  printf("netmon %s\n", netmon_version());
  int failed = measure(monitor, samples < 0 ? 0 : (uint64_t)samples, interval);
  netmon_close(monitor);
  return failed;
}
