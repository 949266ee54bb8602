// loaded.h: check.h for programs that load the library while they run. The first argument of every case is its path.

#ifndef LOADED_H
#define LOADED_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <netmon.h>

static __typeof__(netmon_abi_version) *loaded_abi_version;
static __typeof__(netmon_version) *loaded_version;
static __typeof__(netmon_init) *loaded_init;
static __typeof__(netmon_close) *loaded_close;
static __typeof__(netmon_set_job) *loaded_set_job;
static __typeof__(netmon_sample) *loaded_sample;
static __typeof__(netmon_free) *loaded_free;
static __typeof__(netmon_latest) *loaded_latest;
static __typeof__(netmon_query) *loaded_query;
static __typeof__(netmon_probe) *loaded_probe;
static __typeof__(netmon_bandwidth) *loaded_bandwidth;

#define netmon_abi_version loaded_abi_version
#define netmon_version loaded_version
#define netmon_init loaded_init
#define netmon_close loaded_close
#define netmon_set_job loaded_set_job
#define netmon_sample loaded_sample
#define netmon_free loaded_free
#define netmon_latest loaded_latest
#define netmon_query loaded_query
#define netmon_probe loaded_probe
#define netmon_bandwidth loaded_bandwidth

#include "check.h"

static void load(const char *path) {
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  CHECK(library != NULL, "%s", dlerror());
  const struct {
    const char *name;
    void *function;
  } wanted[] = {
      {"netmon_abi_version", &loaded_abi_version},
      {"netmon_version", &loaded_version},
      {"netmon_init", &loaded_init},
      {"netmon_close", &loaded_close},
      {"netmon_set_job", &loaded_set_job},
      {"netmon_sample", &loaded_sample},
      {"netmon_free", &loaded_free},
      {"netmon_latest", &loaded_latest},
      {"netmon_query", &loaded_query},
      {"netmon_probe", &loaded_probe},
      {"netmon_bandwidth", &loaded_bandwidth},
  };
  for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
    void *symbol = dlsym(library, wanted[i].name);
    CHECK(symbol != NULL, "%s", dlerror());
    memcpy(wanted[i].function, &symbol, sizeof symbol);
  }
}

#endif
