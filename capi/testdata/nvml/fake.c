// fake.c: a stand-in for libnvidia-ml.so.1, built by the tests. It is no NVIDIA library and has no GPU: three that it makes up, one
// of them without NVLinks, whose numbers are read from the file that FAKE_NVML names:
//
//   COUNT_RESULT INIT_RESULT SUMS KIB
//
// SUMS is 1 where the counters of all links together can be asked for, as newer drivers let one.

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct field_value {
  unsigned int id, scope;
  long long timestamp, latency;
  int type, result;
  union {
    unsigned int u;
    unsigned long long ull;
  } value;
} field_value;

static struct {
  int count_result, init_result, sums;
  unsigned long long kib;
} told;

static int initialised;

static void look(void) {
  const char *path = getenv("FAKE_NVML");
  FILE *file = path != NULL ? fopen(path, "re") : NULL;
  memset(&told, 0, sizeof told);
  if (file == NULL) return;
  if (fscanf(file, "%d %d %d %llu", &told.count_result, &told.init_result, &told.sums, &told.kib) != 4) told.init_result = 999;
  fclose(file);
}

int nvmlInit_v2(void);
int nvmlShutdown(void);
int nvmlDeviceGetCount_v2(unsigned int *count);
int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **device);
int nvmlDeviceGetUUID(void *device, char *uuid, unsigned int size);
int nvmlDeviceGetNvLinkState(void *device, unsigned int link, int *state);
int nvmlDeviceGetFieldValues(void *device, int count, field_value *values);
const char *nvmlErrorString(int result);

int nvmlInit_v2(void) {
  look();
  if (told.init_result == 0) initialised++;
  return told.init_result;
}

int nvmlShutdown(void) {
  initialised--;
  return 0;
}

int nvmlDeviceGetCount_v2(unsigned int *count) {
  look();
  *count = 3;
  return initialised == 1 ? told.count_result : 1;
}

static int gpus[3] = {0, 1, 2};

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **device) {
  *device = &gpus[index];
  return index < 3 ? 0 : 2;
}

static int number_of(void *device) { return *(int *)device; }

int nvmlDeviceGetUUID(void *device, char *uuid, unsigned int size) {
  snprintf(uuid, size, "GPU-fake-%d", number_of(device));
  return 0;
}

// GPU 0: 18 links, two of them down. GPU 1: none. GPU 2: 4 links.
int nvmlDeviceGetNvLinkState(void *device, unsigned int link, int *state) {
  int gpu = number_of(device);
  if (gpu == 1) return 3;
  if (link >= (gpu == 0 ? 18u : 4u)) return 2;
  *state = !(gpu == 0 && link >= 16);
  return 0;
}

#ifndef OLD // drivers before 2018 have no such function
int nvmlDeviceGetFieldValues(void *device, int count, field_value *values) {
  for (int i = 0; i < count; i++) {
    values[i].result = values[i].scope == UINT_MAX && !told.sums ? 3 : 0;
    if (number_of(device) == 2 && told.sums == 2) values[i].result = 3;
    unsigned long long links = values[i].scope != UINT_MAX ? 1 : number_of(device) == 0 ? 16 : 4;
    values[i].type = 3;
    values[i].value.ull = links * told.kib * (values[i].id == 139 ? 1 : 2);
    if (values[i].id != 138 && values[i].id != 139) values[i].result = 2;
  }
  return 0;
}
#endif

const char *nvmlErrorString(int result) {
  return result == 3 ? "Not Supported" : result == 9 ? "Driver Not Loaded" : "Some Error";
}
