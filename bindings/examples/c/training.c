// training.c: a training loop of several ranks in C, watched by netmon.
//
//     cc training.c $(pkg-config --cflags --libs netmon) -o training
//     ./training --rank 1 --hosts 127.0.0.1,127.0.0.1 & ./training --rank 0 --hosts 127.0.0.1,127.0.0.1
//
// Each rank computes gradients and adds them to those of the others, in a ring of TCP connections. What netmon wants of such a
// harness is in section 1; sections 2 and 3 are any harness's own.
//
//   netmon_init, netmon_close       at both ends of the program, and which rank this is
//   netmon_phase_begin, _end        around the parts of a step
//   netmon_collectives_record       what ranks do together
//   netmon_digest, _aggregate       what each rank says, carried by what the job has anyway (here the ring), and what one of
//                                   them makes of it: the job's findings
//   netmon_latest                   the newest rates, in any step
//
// The training never depends on it: a monitor that could not be made is handle 0, with which every call fails at once.
//
// Options: --rank N         of this process, default 0
//          --hosts A,B,...  addresses of all ranks, in order, default 127.0.0.1
//          --port N         rank 0 listens there, rank 1 at the next, default 29600
//          --steps N        default 50; SIGINT and SIGTERM end all ranks after the same step
//          --bytes N        of gradients, default 1048576

#include <errno.h>
#include <math.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <netmon.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MOST_RANKS 64

// 1. What netmon is told, and tells

enum { COMPUTE, ALL_REDUCE, PHASES };
static const char *const phase_names[PHASES] = {"compute", "all_reduce"};

// A part of the steps, over all steps.
typedef struct {
  uint64_t count, nanoseconds, tcp_bytes, loopback_bytes, link_bound;
} total;

typedef struct {
  netmon_handle monitor;
  uint32_t group; // number of the group of all ranks
  uint64_t phase; // under way
  total totals[PHASES];
  uint64_t looked_ns; // when the job was looked at last
  char told[4096];    // whose findings were printed
} watch;

static uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

// Says why something of netmon does not work, and frees the sentence.
static void complain(const char *what, char *error) {
  fprintf(stderr, "%s: %s\n", what, error != NULL ? error : "no sentence");
  netmon_free(error);
}

static void start_watching(watch *w, int rank, int ranks, char *const hosts[]) {
  // The job as torchrun's environment tells it would be read without being asked; this one has its own words. Peers are probed.
  char config[8192];
  int length =
      snprintf(config, sizeof config, "{\"job\": {\"rank\": %d, \"world_size\": %d, \"master_address\": \"%s\", \"peers\": [",
               rank, ranks, hosts[0]);
  for (int i = 0; i < ranks; i++) {
    length += snprintf(config + length, sizeof config - (size_t)length, "%s{\"rank\": %d, \"address\": \"%s\"}",
                       i > 0 ? ", " : "", i, hosts[i]);
  }
  snprintf(config + length, sizeof config - (size_t)length, "]}}");
  char *error = NULL, group[64];
  if (netmon_init(config, &w->monitor, &error) != NETMON_OK) {
    complain("not watched", error);
    return;
  }
  // The group of all ranks has to have this name: by its collectives ranks are compared.
  snprintf(group, sizeof group, "{\"name\": \"default_pg\", \"size\": %d, \"source\": \"training.c\"}", ranks);
  if (netmon_collective_group(w->monitor, group, &w->group, &error) != NETMON_OK) complain("collectives", error);
}

static void begin(watch *w, int phase) { netmon_phase_begin(w->monitor, phase_names[phase], &w->phase, NULL); }

static void end(watch *w, int phase) {
  netmon_phase numbers = {.struct_size = sizeof numbers};
  if (netmon_phase_end(w->monitor, w->phase, &numbers, NULL) != NETMON_OK || numbers.duration_ns == NETMON_UNKNOWN_U64) return;
  total *t = &w->totals[phase];
  t->count++;
  t->nanoseconds += numbers.duration_ns;
  // What was not measured is not added up as if it were 0.
  if (numbers.tcp_bytes != NETMON_UNKNOWN_U64) t->tcp_bytes += numbers.tcp_bytes;
  if (numbers.loopback_bytes != NETMON_UNKNOWN_U64) t->loopback_bytes += numbers.loopback_bytes;
  t->link_bound += numbers.verdict == NETMON_VERDICT_LINK_BOUND;
}

static void record_all_reduce(watch *w, uint64_t bytes, uint64_t enter_ns, uint64_t step) {
  netmon_collective one = {.struct_size = sizeof one,
                           .op = NETMON_COLLECTIVE_ALL_REDUCE,
                           .group = w->group,
                           .end = NETMON_END_EXACT,
                           .bytes = bytes,
                           .enter_ns = enter_ns,
                           .duration_ns = now_ns() - enter_ns,
                           .duration_error_ns = 0,
                           .sequence = step};
  netmon_collectives_record(w->monitor, &one, 1);
}

// What a rank says of itself, with its length before it: of one size, so that ranks can pass it on.
typedef struct {
  uint32_t length; // 0: nothing
  unsigned char bytes[NETMON_DIGEST_BYTES];
} digest;

static digest own_digest(const watch *w) {
  digest d = {0};
  netmon_digest(w->monitor, d.bytes, sizeof d.bytes, &d.length, NULL);
  return d;
}

static char *base64(char *out, const digest *d) {
  static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (uint32_t i = 0; i < d->length; i += 3) {
    uint32_t left = d->length - i, word = (uint32_t)d->bytes[i] << 16;
    if (left > 1) word |= (uint32_t)d->bytes[i + 1] << 8;
    if (left > 2) word |= d->bytes[i + 2];
    *out++ = letters[word >> 18];
    *out++ = letters[word >> 12 & 63];
    *out++ = left > 1 ? letters[word >> 6 & 63] : '=';
    *out++ = left > 2 ? letters[word & 63] : '=';
  }
  return out;
}

// Prints the findings of a view, each once: what is before the colon says whose it is, what is behind it has the numbers of the
// moment. A program with a JSON library reads them all: host, direction, evidence, advice. In a JSON text a quotation mark inside
// a string has a backslash before it, so that these two look-ups find keys only.
static void print_findings(watch *w, const char *view) {
  const char *found = strstr(view, "\"findings\":[");
  while (found != NULL && (found = strstr(found, "\"text\":\"")) != NULL) {
    found += strlen("\"text\":\"");
    char whose[128];
    snprintf(whose, sizeof whose, "%.*s;", (int)strcspn(found, ":\""), found);
    if (strstr(w->told, whose) != NULL || strlen(w->told) + strlen(whose) >= sizeof w->told) continue;
    strcat(w->told, whose);
    printf("finding: %.*s\n", (int)strcspn(found, "\""), found);
  }
}

// Makes one view of all ranks' digests.
static void look_at_job(watch *w, const digest *digests, int rank, int ranks) {
  static char request[256 + MOST_RANKS * (NETMON_DIGEST_BYTES / 3 * 4 + 8)];
  char *at = request + sprintf(request, "{\"engine\": \"ring\", \"rank\": %d, \"world_size\": %d, \"digests\": [", rank, ranks);
  for (int i = 0, listed = 0; i < ranks; i++) {
    if (digests[i].length == 0 || digests[i].length > sizeof digests[i].bytes) continue;
    if (listed++ > 0) *at++ = ',';
    *at++ = '"';
    at = base64(at, &digests[i]);
    *at++ = '"';
  }
  strcpy(at, "]}");
  char *view = NULL, *error = NULL;
  if (netmon_aggregate(w->monitor, request, &view, &error) != NETMON_OK) {
    complain("netmon_aggregate", error);
    return;
  }
  print_findings(w, view);
  netmon_free(view);
}

static void print_rates(const watch *w, long step) {
  netmon_snapshot latest = {.struct_size = sizeof latest};
  if (netmon_latest(w->monitor, &latest) != NETMON_OK || isnan(latest.peer_sent_bytes_per_second)) return; // not measured yet
  printf("step %ld: %.1f MB/s sent to peers\n", step, latest.peer_sent_bytes_per_second / 1e6);
}

static void stop_watching(watch *w) {
  for (int i = 0; i < PHASES; i++) {
    const total *t = &w->totals[i];
    printf("phase %s: %llu times, %.3f s, %.1f MB with other hosts, %.1f MB inside this one, %llu times link-bound\n",
           phase_names[i], (unsigned long long)t->count, (double)t->nanoseconds / 1e9, (double)t->tcp_bytes / 1e6,
           (double)t->loopback_bytes / 1e6, (unsigned long long)t->link_bound);
  }
  netmon_close(w->monitor);
}

// 2. The ring

static void die(const char *what) {
  fprintf(stderr, "%s: %s\n", what, strerror(errno));
  exit(1);
}

// Opens a socket that listens at, or is connected to, an address.
static int open_socket(const char *host, int port, int listening) {
  char service[16];
  snprintf(service, sizeof service, "%d", port);
  struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM}, *found;
  if (getaddrinfo(host, service, &hints, &found) != 0) die(host);
  uint64_t deadline = now_ns() + 30000000000;
  for (;;) {
    int s = socket(found->ai_family, found->ai_socktype, 0), on = 1;
    if (s < 0) die("socket");
    setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (listening ? bind(s, found->ai_addr, found->ai_addrlen) == 0 && listen(s, 1) == 0
                  : connect(s, found->ai_addr, found->ai_addrlen) == 0) {
      freeaddrinfo(found);
      return s;
    }
    if (listening || now_ns() > deadline) die(host); // the other rank may not be there yet
    close(s);
    nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
  }
}

typedef struct {
  int next, previous; // sockets
} ring;

static ring join_ring(int rank, int ranks, char *const hosts[], int port) {
  ring r;
  int listener = open_socket(hosts[rank], port + rank, 1);
  r.next = open_socket(hosts[(rank + 1) % ranks], port + (rank + 1) % ranks, 0);
  r.previous = accept(listener, NULL, NULL);
  if (r.previous < 0) die("accept");
  close(listener);
  return r;
}

// Sends to the next rank while it receives from the previous one: all at once, so that nobody waits for a buffer to be emptied.
static void exchange(ring r, const void *send_to_next, void *receive_from_previous, size_t bytes) {
  size_t sent = 0, received = 0;
  while (sent < bytes || received < bytes) {
    struct pollfd ready[2] = {{.fd = sent < bytes ? r.next : -1, .events = POLLOUT},
                              {.fd = received < bytes ? r.previous : -1, .events = POLLIN}};
    if (poll(ready, 2, -1) < 0 && errno != EINTR) die("poll");
    if (ready[0].revents != 0) {
      ssize_t n = send(r.next, (const char *)send_to_next + sent, bytes - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
      if (n < 0 && errno != EAGAIN && errno != EINTR) die("next rank");
      if (n > 0) sent += (size_t)n;
    }
    if (ready[1].revents != 0) {
      ssize_t n = recv(r.previous, (char *)receive_from_previous + received, bytes - received, MSG_DONTWAIT);
      if (n == 0) errno = ECONNRESET;
      if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) die("previous rank");
      if (n > 0) received += (size_t)n;
    }
  }
}

// 3. The training

static volatile sig_atomic_t ending;

static void end_soon(int number) {
  (void)number;
  ending = 1;
}

// Room for gradients, and for two wishes that are added up with them: to end, and to look at the job.
typedef struct {
  size_t count;
  float *own, *sum, *passing, *arriving;
} gradients;

static void compute(gradients *g, long step) {
  for (size_t i = 0; i < g->count; i++) g->own[i] = (float)(step % 8);
  nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL); // as if for a GPU
}

static void all_reduce(ring r, gradients *g, int ranks) {
  size_t bytes = g->count * sizeof *g->own;
  memcpy(g->sum, g->own, bytes);
  memcpy(g->passing, g->own, bytes);
  for (int turn = 1; turn < ranks; turn++) {
    exchange(r, g->passing, g->arriving, bytes);
    for (size_t i = 0; i < g->count; i++) g->sum[i] += g->arriving[i];
    float *arrived = g->arriving;
    g->arriving = g->passing;
    g->passing = arrived;
  }
}

// Passes every rank's digest round the ring.
static void gather_digests(ring r, digest *digests, int rank, int ranks) {
  for (int turn = 0; turn < ranks - 1; turn++) {
    int passing = (rank - turn + ranks) % ranks, arriving = (passing - 1 + ranks) % ranks;
    exchange(r, &digests[passing], &digests[arriving], sizeof digests[0]);
  }
}

static int train(watch *w, ring r, int rank, int ranks, long steps, size_t bytes) {
  gradients g = {.count = bytes / sizeof(float) + 2};
  float **arrays[] = {&g.own, &g.sum, &g.passing, &g.arriving};
  for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) {
    if ((*arrays[i] = calloc(g.count, sizeof(float))) == NULL) die("gradients");
  }
  static digest digests[MOST_RANKS];
  float *const wish_to_end = &g.own[g.count - 1], *const wish_to_look = &g.own[g.count - 2];
  int wrong = 0;
  for (long step = 1, last = 0; !last && !wrong; step++) {
    begin(w, COMPUTE);
    compute(&g, step);
    end(w, COMPUTE);

    *wish_to_end = ending || step >= steps ? 1.0F : 0.0F;
    *wish_to_look = rank == 0 && now_ns() - w->looked_ns > 2000000000 ? 1.0F : 0.0F;
    uint64_t enter_ns = now_ns();
    begin(w, ALL_REDUCE);
    all_reduce(r, &g, ranks);
    end(w, ALL_REDUCE);
    record_all_reduce(w, bytes, enter_ns, (uint64_t)step);

    wrong = g.sum[0] != (float)ranks * (float)(step % 8);
    last = g.sum[g.count - 1] > 0;
    if (g.sum[g.count - 2] > 0) {
      w->looked_ns = now_ns();
      digests[rank] = own_digest(w);
      gather_digests(r, digests, rank, ranks);
      if (rank == 0) look_at_job(w, digests, rank, ranks);
      print_rates(w, step);
    }
    if (last) printf("trained %ld steps\n", step);
  }
  for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) free(*arrays[i]);
  if (wrong) fprintf(stderr, "the sum is wrong\n");
  return wrong;
}

int main(int argc, char **argv) {
  char given[4096] = "127.0.0.1", *hosts[MOST_RANKS];
  int rank = 0, ranks = 0, port = 29600;
  long steps = 50, bytes = 1 << 20;
  for (int i = 1; i < argc; i++) {
    const char *value = i + 1 < argc ? argv[i + 1] : NULL;
    if (value != NULL && strcmp(argv[i], "--rank") == 0) {
      rank = atoi(value);
    } else if (value != NULL && strcmp(argv[i], "--hosts") == 0) {
      snprintf(given, sizeof given, "%s", value);
    } else if (value != NULL && strcmp(argv[i], "--port") == 0) {
      port = atoi(value);
    } else if (value != NULL && strcmp(argv[i], "--steps") == 0) {
      steps = atol(value);
    } else if (value != NULL && strcmp(argv[i], "--bytes") == 0) {
      bytes = atol(value);
    } else {
      rank = -1;
      break;
    }
    i++;
  }
  for (char *host = strtok(given, ","); host != NULL && ranks < MOST_RANKS; host = strtok(NULL, ",")) hosts[ranks++] = host;
  if (rank < 0 || rank >= ranks || bytes < 4 || bytes > 1 << 30) {
    fprintf(stderr, "usage: %s [--rank N] [--hosts A,B,...] [--port N] [--steps N] [--bytes N]\n", argv[0]);
    return 2;
  }
  struct sigaction action = {.sa_handler = end_soon, .sa_flags = SA_RESTART};
  sigaction(SIGINT, &action, NULL);
  sigaction(SIGTERM, &action, NULL);
  setvbuf(stdout, NULL, _IOLBF, 0);

  watch w = {0};
  printf("netmon %s, rank %d of %d\n", netmon_version(), rank, ranks);
  start_watching(&w, rank, ranks, hosts);
  ring r = join_ring(rank, ranks, hosts, port);
  int failed = train(&w, r, rank, ranks, steps, (size_t)bytes);
  close(r.next);
  close(r.previous);
  stop_watching(&w);
  return failed;
}
