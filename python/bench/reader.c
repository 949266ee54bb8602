// reader.c: the least a program can do to learn what netmon samples: read the same files of /proc/net to their end, with pread on
// descriptors kept open, and throw the text away.
//
//   reader rounds FILE...        reads 4-byte counts from its input; for each, reads all files that many times and writes the
//                                nanoseconds it took (8 bytes)
//   reader every NANOSECONDS FILE...   reads all files once in that time, until it is killed; writes a byte when it starts

#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MOST_FILES = 16 };

static char text[4 << 20];
static int files[MOST_FILES];
static int file_count;

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static void open_files(int count, char **names) {
  if (count > MOST_FILES) count = MOST_FILES;
  for (int i = 0; i < count; i++) {
    char path[256];
    snprintf(path, sizeof path, "/proc/thread-self/net/%s", names[i]);
    files[file_count] = open(path, O_RDONLY | O_CLOEXEC);
    if (files[file_count++] < 0) fail(path);
  }
}

static void read_files(void) {
  for (int i = 0; i < file_count; i++) {
    ssize_t n;
    off_t at = 0;
    while ((n = pread(files[i], text + at, sizeof text - (size_t)at, at)) > 0) at += n;
    if (n < 0) fail("pread");
  }
}

static int64_t nanoseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void rounds(void) {
  uint32_t count;
  while (read(STDIN_FILENO, &count, sizeof count) == sizeof count) {
    int64_t began = nanoseconds();
    for (uint32_t i = 0; i < count; i++) read_files();
    int64_t took = nanoseconds() - began;
    if (write(STDOUT_FILENO, &took, sizeof took) != sizeof took) fail("write");
  }
}

static void every(int64_t interval) {
  if (write(STDOUT_FILENO, "r", 1) != 1) fail("write");
  for (int64_t due = nanoseconds();; due += interval) {
    struct timespec at = {.tv_sec = due / 1000000000, .tv_nsec = due % 1000000000};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
    read_files();
  }
}

int main(int argc, char **argv) {
  if (argc > 2 && strcmp(argv[1], "rounds") == 0) {
    open_files(argc - 2, argv + 2);
    rounds();
  } else if (argc > 3 && strcmp(argv[1], "every") == 0) {
    open_files(argc - 3, argv + 3);
    every(atoll(argv[2]));
  } else {
    fprintf(stderr, "usage: reader rounds FILE... | reader every NANOSECONDS FILE...\n");
    return 2;
  }
  return 0;
}
