// nvml.c: the NVIDIA Management Library, opened where core found the driver. netmon is not linked with it and does without.
//
// Declarations after nvml.h: names, numbers and layouts that its ABI promises. Entered from one of Go's goroutines, never from a
// thread of the host: the driver may hang.

#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "shim.h"

enum {
  NVML_SUCCESS = 0,
  NVML_ERROR_INVALID_ARGUMENT = 2,
  NVML_ERROR_NOT_SUPPORTED = 3,
  NVML_FEATURE_ENABLED = 1,
  NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX = 138, // KiB
  NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX = 139, // KiB
  NVML_VALUE_TYPE_UNSIGNED_INT = 1,
  NVML_VALUE_TYPE_UNSIGNED_LONG = 2,
  NVML_VALUE_TYPE_UNSIGNED_LONG_LONG = 3,
  MOST_LINKS = 64, // NVML_NVLINK_MAX_LINKS is 36
  MOST_GPUS = 64,
  LINKS_EVERY = 10, // readings: each link is a call into the driver
};

typedef struct field_value {
  unsigned int field_id;
  unsigned int scope_id; // a link; UINT_MAX: the sum over all links
  long long timestamp;
  long long latency;
  int value_type;
  int result; // of this field; the value is not set unless it is NVML_SUCCESS
  union {
    double real;
    unsigned int u;
    unsigned long ul;
    unsigned long long ull;
  } value;
} field_value;

_Static_assert(sizeof(field_value) == 40, "nvmlFieldValue_t of nvml.h");

static struct {
  int (*init)(void);
  int (*shutdown)(void);
  int (*count)(unsigned int *);
  int (*by_index)(unsigned int, void **);
  int (*uuid)(void *, char *, unsigned int);
  int (*fields)(void *, int, field_value *);
  int (*link_state)(void *, unsigned int, int *);
  const char *(*error)(int); // may be missing
} nvml;

static void *library;
static int initialised; // by this library; others of the process count for themselves
static int usable;      // the last reading went well
static unsigned int readings;
static int32_t links_active[MOST_GPUS]; // as counted last
static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;

static const char *meaning(int result) {
  const char *text = nvml.error != NULL ? nvml.error(result) : NULL;
  return text != NULL ? text : "no text for it";
}

static int failed(netmon_reason *reason, const char *function, int result) {
  snprintf(reason->text, sizeof reason->text, "%s of the NVIDIA library: %s (%d)", function, meaning(result), result);
  return 0;
}

static int find(netmon_reason *reason) {
  if (library != NULL) return 1;
  static const char name[] = "libnvidia-ml.so.1";
  void *opened = dlopen(name, RTLD_NOW | RTLD_LOCAL);
  if (opened == NULL) {
    const char *why = dlerror();
    snprintf(reason->text, sizeof reason->text, "no NVIDIA library: %s", why != NULL ? why : name);
    return 0;
  }
  const struct {
    const char *name;
    void *place;
  } functions[] = {
      {"nvmlInit_v2", &nvml.init},
      {"nvmlShutdown", &nvml.shutdown},
      {"nvmlDeviceGetCount_v2", &nvml.count},
      {"nvmlDeviceGetHandleByIndex_v2", &nvml.by_index},
      {"nvmlDeviceGetUUID", &nvml.uuid},
      {"nvmlDeviceGetFieldValues", &nvml.fields},
      {"nvmlDeviceGetNvLinkState", &nvml.link_state},
  };
  for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++) {
    void *function = dlsym(opened, functions[i].name);
    if (function == NULL) {
      snprintf(reason->text, sizeof reason->text, "the NVIDIA library has no %s: it is too old", functions[i].name);
      dlclose(opened);
      return 0;
    }
    memcpy(functions[i].place, &function, sizeof function);
  }
  void *function = dlsym(opened, "nvmlErrorString");
  memcpy(&nvml.error, &function, sizeof function);
  library = opened;
  return 1;
}

static int open_library(netmon_reason *reason) {
  if (!find(reason)) return 0;
  if (usable) return 1;
  if (initialised) nvml.shutdown();
  int result = nvml.init();
  if (!(initialised = result == NVML_SUCCESS)) return failed(reason, "nvmlInit_v2", result);
  usable = 1;
  readings = 0;
  return 1;
}

int32_t netmon_nvml_open(netmon_reason *reason_out) {
  pthread_mutex_lock(&one_at_a_time);
  int opened = open_library(reason_out);
  pthread_mutex_unlock(&one_at_a_time);
  return opened;
}

static uint64_t number(const field_value *field) {
  switch (field->value_type) {
  case NVML_VALUE_TYPE_UNSIGNED_INT: return field->value.u;
  case NVML_VALUE_TYPE_UNSIGNED_LONG: return field->value.ul;
  default: return field->value.ull;
  }
}

// read_data asks for the data of all links together, and of each one where the driver does not add them up.
static void read_data(void *device, netmon_gpu *gpu) {
  field_value both[2] = {
      {.field_id = NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX, .scope_id = UINT_MAX, .result = NVML_ERROR_NOT_SUPPORTED},
      {.field_id = NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX, .scope_id = UINT_MAX, .result = NVML_ERROR_NOT_SUPPORTED},
  };
  int result = nvml.fields(device, 2, both);
  if (result == NVML_SUCCESS) result = both[0].result != NVML_SUCCESS ? both[0].result : both[1].result;
  if (result == NVML_SUCCESS) {
    gpu->receive_kib = number(&both[0]);
    gpu->transmit_kib = number(&both[1]);
    return;
  }
  int links = 0;
  for (unsigned int link = 0; link < MOST_LINKS; link++) {
    int state = 0;
    if (nvml.link_state(device, link, &state) != NVML_SUCCESS) break;
    if (state != NVML_FEATURE_ENABLED) continue;
    both[0].scope_id = both[1].scope_id = link;
    both[0].result = both[1].result = NVML_ERROR_NOT_SUPPORTED;
    if (nvml.fields(device, 2, both) != NVML_SUCCESS || both[0].result != NVML_SUCCESS || both[1].result != NVML_SUCCESS) {
      links = 0;
      break;
    }
    gpu->receive_kib += number(&both[0]);
    gpu->transmit_kib += number(&both[1]);
    links++;
  }
  if (links == 0) failed(&gpu->no_data, "nvmlDeviceGetFieldValues", result);
}

static int32_t count_links(void *device) {
  int32_t active = 0;
  int state = 0;
  for (unsigned int link = 0; link < MOST_LINKS && nvml.link_state(device, link, &state) == NVML_SUCCESS; link++) {
    active += state == NVML_FEATURE_ENABLED;
  }
  return active;
}

// read_gpu returns 0 for a GPU that has no NVLinks.
static int read_gpu(unsigned int index, netmon_gpu *gpu) {
  *gpu = (netmon_gpu){.index = (int32_t)index, .links_active = -1};
  void *device = NULL;
  int result = nvml.by_index(index, &device), state = 0;
  if (result != NVML_SUCCESS) {
    failed(&gpu->no_data, "nvmlDeviceGetHandleByIndex_v2", result);
    return 1;
  }
  if (nvml.uuid(device, gpu->uuid, sizeof gpu->uuid) != NVML_SUCCESS) gpu->uuid[0] = 0;
  gpu->uuid[sizeof gpu->uuid - 1] = 0;
  result = nvml.link_state(device, 0, &state);
  if (result == NVML_ERROR_NOT_SUPPORTED || result == NVML_ERROR_INVALID_ARGUMENT) return 0;
  if (result == NVML_SUCCESS) {
    if (readings % LINKS_EVERY == 0) links_active[index] = count_links(device);
    gpu->links_active = links_active[index];
  }
  read_data(device, gpu);
  return 1;
}

static int32_t read_gpus(netmon_gpu *gpus_out, int32_t most, netmon_reason *reason) {
  unsigned int count = 0;
  if (!usable) {
    snprintf(reason->text, sizeof reason->text, "the NVIDIA library has to be opened anew");
    return -1;
  }
  int result = nvml.count(&count);
  if (result != NVML_SUCCESS) {
    usable = 0;
    failed(reason, "nvmlDeviceGetCount_v2", result);
    return -1;
  }
  int32_t found = 0;
  for (unsigned int i = 0; i < count && i < MOST_GPUS && found < most; i++) found += read_gpu(i, &gpus_out[found]);
  readings++;
  return found;
}

int32_t netmon_nvml_read(netmon_gpu *gpus_out, int32_t most, netmon_reason *reason_out) {
  pthread_mutex_lock(&one_at_a_time);
  int32_t found = read_gpus(gpus_out, most, reason_out);
  pthread_mutex_unlock(&one_at_a_time);
  return found;
}
