// check.h: what the host programs of this folder share. Each is a C program that uses the library as a stranger would; it ends
// with 0 when everything held, and else says on stderr what did not.

#ifndef CHECK_H
#define CHECK_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <netmon.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

// Ends the process, a forked child too, without running what the host left to run at exit.
__attribute__((format(printf, 4, 5), noreturn)) static inline void
check_failed(const char *file, int line, const char *condition, const char *format, ...) {
  char text[1024];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  dprintf(STDERR_FILENO, "%s:%d: %s does not hold: %s\n", file, line, condition, text);
  _exit(1);
}

// CHECK(condition, format, ...) fails with what the format says.
#define CHECK(condition, ...) \
  do { \
    if (!(condition)) check_failed(__FILE__, __LINE__, #condition, __VA_ARGS__); \
  } while (0)

#define CHECK_STATUS(call, want) \
  do { \
    int32_t got_ = (call); \
    if (got_ != (want)) check_failed(__FILE__, __LINE__, #call " == " #want, "it is %d", got_); \
  } while (0)

static inline uint64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

// Between two looks at something that another process or thread is about to do.
static inline void rest(void) { nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL); }

static inline int valid_utf8(const char *text) {
  const unsigned char *p = (const unsigned char *)text;
  while (*p != 0) {
    int more = *p < 0x80 ? 0 : *p >= 0xc2 && *p < 0xe0 ? 1 : *p >= 0xe0 && *p < 0xf0 ? 2 : *p >= 0xf0 && *p < 0xf5 ? 3 : -1;
    if (more < 0) return 0;
    for (p++; more > 0; more--, p++) {
      if ((*p & 0xc0) != 0x80) return 0;
    }
  }
  return 1;
}

// A text that no allocator hands out; out-parameters hold it before a call that has to replace it.
#define POISON ((char *)(uintptr_t)0x5a5a5a5a5a5a5a5aull)

// check_sentence fails unless error is one line of UTF-8 that names word, and frees it.
static inline void check_sentence(const char *file, int line, char *error, const char *word) {
  if (error == NULL || error == POISON)
    check_failed(file, line, "error_out", "no sentence was written; it should name %s", word);
  if (!valid_utf8(error)) check_failed(file, line, "error_out", "not UTF-8: %s", error);
  if (strlen(error) < 20 || strlen(error) > 600 || strchr(error, '\n') != NULL) {
    check_failed(file, line, "error_out", "not a sentence: %s", error);
  }
  if (strstr(error, word) == NULL) check_failed(file, line, "error_out", "does not name %s: %s", word, error);
  netmon_free(error);
}

static inline netmon_handle check_init(const char *file, int line, const char *config) {
  netmon_handle handle = 0;
  char *error = NULL;
  int32_t status = netmon_init(config, &handle, &error);
  if (status != NETMON_OK) check_failed(file, line, "netmon_init", "%d: %s", status, error != NULL ? error : "no sentence");
  if (handle == 0 || error != NULL)
    check_failed(file, line, "netmon_init", "handle %" PRIu64 ", error %p", handle, (void *)error);
  return handle;
}

// Opens a monitor that has to open.
#define OPEN(config) check_init(__FILE__, __LINE__, config)

// check_document fails unless text is a whole JSON text that starts and ends as it should, and frees it.
static inline void check_document(const char *file, int line, char *text, const char *start, char end) {
  if (text == NULL || text == POISON) check_failed(file, line, "json_out", "nothing was written");
  size_t length = strlen(text);
  if (strncmp(text, start, strlen(start)) != 0 || text[length - 1] != end) {
    check_failed(file, line, "json_out", "%zu bytes: %.80s ... %.20s", length, text, text + (length > 20 ? length - 20 : 0));
  }
  netmon_free(text);
}

#define SAMPLE_START "{\"schema\":\"netmon.sample/1\","

// Takes a sample that has to succeed.
#define SAMPLE(handle) \
  do { \
    char *json_ = POISON; \
    CHECK_STATUS(netmon_sample(handle, &json_, NULL), NETMON_OK); \
    check_document(__FILE__, __LINE__, json_, SAMPLE_START, '}'); \
  } while (0)

static inline int entries_of(const char *folder) {
  DIR *dir = opendir(folder);
  CHECK(dir != NULL, "%s: %s", folder, strerror(errno));
  int count = 0;
  while (readdir(dir) != NULL) count++;
  closedir(dir);
  return count;
}

static inline int open_descriptors(void) { return entries_of("/proc/self/fd"); }
static inline int running_threads(void) { return entries_of("/proc/self/task") - 2; }

// The value of a line of /proc/self/status, in KiB where it is an amount.
static inline long status_line(const char *name) {
  FILE *file = fopen("/proc/self/status", "re");
  CHECK(file != NULL, "%s", strerror(errno));
  char line[256];
  long value = -1;
  while (value < 0 && fgets(line, sizeof line, file) != NULL) {
    if (strncmp(line, name, strlen(name)) == 0) value = atol(line + strlen(name));
  }
  fclose(file);
  return value;
}

// A program is a list of named cases; the first argument names the one to run.
typedef struct test_case {
  const char *name;
  void (*run)(int count, char **words); // with the arguments after the name
} test_case;

static inline int run_case(const test_case *cases, size_t count, int argc, char **argv) {
  for (size_t i = 0; argc > 1 && i < count; i++) {
    if (strcmp(argv[1], cases[i].name) == 0) {
      cases[i].run(argc - 2, argv + 2);
      return 0;
    }
  }
  fprintf(stderr, "usage: %s CASE, one of", argv[0]);
  for (size_t i = 0; i < count; i++) fprintf(stderr, " %s", cases[i].name);
  fprintf(stderr, "\n");
  return 2;
}

static inline long number_of(int count, char **words, int place, long otherwise) {
  return count > place ? strtol(words[place], NULL, 10) : otherwise;
}

#endif
