// nvml.c: what the shim makes of the NVIDIA library, here a fake one (testdata/nvml/fake.c).

#include "check.h"

#include "../../nvml.c"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>

// tell changes the fake's numbers, all at once.
static void tell(const char *numbers) {
  const char *path = getenv("FAKE_NVML");
  CHECK(path != NULL, "FAKE_NVML names no file");
  char draft[4096];
  snprintf(draft, sizeof draft, "%s.new", path);
  FILE *file = fopen(draft, "we");
  CHECK(file != NULL, "%s: %s", draft, strerror(errno));
  fputs(numbers, file);
  fclose(file);
  CHECK(rename(draft, path) == 0, "%s: %s", path, strerror(errno));
}

static netmon_reason reason;
static netmon_gpu gpus[8];

static void case_absent(int count, char **words) {
  (void)count, (void)words;
  CHECK(!netmon_nvml_open(&reason), "it was opened");
  CHECK(strstr(reason.text, "libnvidia-ml.so.1") != NULL, "%s", reason.text);
}

static void case_old(int count, char **words) {
  (void)count, (void)words;
  CHECK(!netmon_nvml_open(&reason), "it was opened");
  CHECK(strstr(reason.text, "has no nvmlDeviceGetFieldValues") != NULL, "%s", reason.text);
}

static void case_read(int count, char **words) {
  (void)count, (void)words;
  tell("0 9 1 0");
  CHECK(!netmon_nvml_open(&reason), "it was opened");
  CHECK(strcmp(reason.text, "nvmlInit_v2 of the NVIDIA library: Driver Not Loaded (9)") == 0, "%s", reason.text);
  CHECK(netmon_nvml_read(gpus, 8, &reason) == -1, "not opened yet");
  for (int sums = 0; sums <= 1; sums++) {
    char numbers[32];
    snprintf(numbers, sizeof numbers, "0 0 %d 100", sums);
    tell(numbers);
    for (int twice = 0; twice < 2; twice++) CHECK(netmon_nvml_open(&reason), "%s", reason.text);
    CHECK(netmon_nvml_read(gpus, 8, &reason) == 2, "GPUs with NVLinks; %s", reason.text);
    CHECK(gpus[0].index == 0 && gpus[1].index == 2, "%d, %d", gpus[0].index, gpus[1].index);
    CHECK(gpus[0].links_active == 16 && gpus[1].links_active == 4, "%d, %d links", gpus[0].links_active, gpus[1].links_active);
    CHECK(strcmp(gpus[1].uuid, "GPU-fake-2") == 0, "%s", gpus[1].uuid);
    CHECK(gpus[0].no_data.text[0] == 0, "%s", gpus[0].no_data.text);
    CHECK(gpus[0].receive_kib == 1600 && gpus[0].transmit_kib == 3200, "%" PRIu64 ", %" PRIu64, gpus[0].receive_kib,
          gpus[0].transmit_kib);
    CHECK(gpus[1].receive_kib == 400 && gpus[1].transmit_kib == 800, "%" PRIu64, gpus[1].receive_kib);
  }
  CHECK(netmon_nvml_read(gpus, 1, &reason) == 1, "no more than asked for");
  tell("0 0 2 100"); // one GPU's driver counts nothing
  CHECK(netmon_nvml_read(gpus, 8, &reason) == 2, "%s", reason.text);
  CHECK(gpus[0].no_data.text[0] == 0 && strstr(gpus[1].no_data.text, "Not Supported") != NULL, "%s", gpus[1].no_data.text);
  // The driver is unloaded, and loaded again.
  tell("9 0 1 100");
  CHECK(netmon_nvml_read(gpus, 8, &reason) == -1 && strstr(reason.text, "Driver Not Loaded") != NULL, "%s", reason.text);
  CHECK(netmon_nvml_read(gpus, 8, &reason) == -1 && strstr(reason.text, "opened anew") != NULL, "%s", reason.text);
  tell("0 0 1 100");
  CHECK(netmon_nvml_open(&reason), "%s", reason.text);
  CHECK(netmon_nvml_read(gpus, 8, &reason) == 2, "%s", reason.text);
}

static int contains(netmon_handle handle, const char *text, char *sample, size_t size) {
  char *json = NULL;
  CHECK_STATUS(netmon_sample(handle, &json, NULL), NETMON_OK);
  snprintf(sample, size, "%s", json);
  netmon_free(json);
  return strstr(sample, text) != NULL;
}

static void wait_for(netmon_handle handle, const char *text) {
  static char sample[1 << 16];
  uint64_t began = now_ns();
  while (!contains(handle, text, sample, sizeof sample)) {
    const char *section = strstr(sample, "\"nvlink\":");
    CHECK(now_ns() - began < 10000000000u, "no %s in %s", text, section != NULL ? section : sample);
    rest();
  }
}

// A process that sees a driver's version gets the numbers into its samples.
static void case_sample(int count, char **words) {
  if (count == 0) {
    // The threads of the library are in the old namespace; those of the program that replaces this one are not.
    if (geteuid() != 0 || unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("none", "/proc/driver", "tmpfs", 0, NULL) != 0) {
      exit(77);
    }
    CHECK(mkdir("/proc/driver/nvidia", 0755) == 0, "%s", strerror(errno));
    FILE *file = fopen("/proc/driver/nvidia/version", "we");
    CHECK(file != NULL, "%s", strerror(errno));
    fputs("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\n", file);
    fclose(file);
    tell("0 0 1 1000");
    execl("/proc/self/exe", "nvml", "sample", "inside", (char *)NULL);
    CHECK(0, "%s", strerror(errno));
  }
  (void)words;
  netmon_handle handle = OPEN("{\"interval_seconds\": 0.1}");
  wait_for(handle, "\"nvlink\":[{\"gpu\":0,\"uuid\":\"GPU-fake-0\",\"links_active\":16,\"receive_bytes_total\":0,");
  tell("0 0 1 1001");
  wait_for(handle, "\"receive_bytes_total\":16384,\"transmit_bytes_total\":32768,");
  CHECK_STATUS(netmon_close(handle), NETMON_OK);
}

int main(int argc, char **argv) {
  static const test_case cases[] = {{"absent", case_absent}, {"old", case_old}, {"read", case_read}, {"sample", case_sample}};
  return run_case(cases, sizeof cases / sizeof cases[0], argc, argv);
}
