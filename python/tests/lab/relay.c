// The relay of a lab: carries the frames of one host between two interfaces and holds each for a set time.
//
// relay LOG_DESCRIPTOR HOST_INTERFACE SWITCH_INTERFACE SEED
//
// Frames that come from HOST_INTERFACE (direction 0, what the host sends) leave by SWITCH_INTERFACE, and the other way round
// (direction 1). LOG_DESCRIPTOR is a memory file whose beginning is `struct relay` below: the times to hold are read from it
// for every frame, and one record for every frame is written behind it. Prints "ready" when it carries; ends with its input.
//
// It reads packet sockets and no TUN device, because the kernel then says when a frame arrived: the time until this process
// came to run is part of the hold, not an error beside it. A frame is due its hold after it arrived, so a late wake-up adds
// nothing as long as it is shorter than the hold; what it does add is in the record. Order is kept: no frame leaves before
// one that came earlier in its direction.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

// relay.py has the same layout.
struct way {
  _Atomic uint64_t hold_ns;   // set by the lab
  _Atomic uint64_t jitter_ns; // set by the lab: each hold is drawn evenly from hold_ns - jitter_ns to hold_ns + jitter_ns
  _Atomic uint64_t held;      // frames now held
  _Atomic uint64_t carried;   // frames that left
  _Atomic uint64_t dropped;   // frames that the queue, or the interface they were to leave by, had no room for
  _Atomic uint64_t missed;    // frames that the kernel had no room for before this process read them
  _Atomic uint64_t unstamped; // frames whose arrival the kernel did not say: taken as when they were read
  _Atomic uint64_t reserved;
};

struct record {
  int64_t arrived_ns; // monotonic clock
  int64_t left_ns;    // monotonic clock, just before the frame was given to the interface it leaves by
  uint32_t length;    // with the Ethernet header
  uint8_t direction;
  uint8_t protocol; // of IPv4 or IPv6, 0 if it is neither
  uint8_t kind;     // ICMP type, TCP flags
  uint8_t reserved;
  uint16_t first;  // source port, identifier of an ICMP echo
  uint16_t second; // destination port, sequence number of an ICMP echo
  uint32_t pad;
};

struct relay {
  struct way ways[2];
  _Atomic uint64_t logged;   // records written
  _Atomic uint64_t unlogged; // frames for whose record there was no room
  _Atomic uint64_t realtime; // 1: runs before all ordinary processes (SCHED_FIFO)
  uint64_t reserved[45];
  struct record records[];
};

_Static_assert(sizeof(struct record) == 32, "relay.py reads 32 bytes");
_Static_assert(sizeof(struct relay) == 512, "relay.py skips 512 bytes");

enum {
  QUEUE_FRAMES = 1 << 16,
  QUEUE_BYTES = 256 << 20,
  SOCKET_BYTES = 64 << 20,
  LARGEST_FRAME = 1 << 18, // an aggregate of the kernel (GSO) may be larger than 64 KiB
  BATCH = 64,
};

// How long before a frame is due the process stops sleeping: waking up takes tens of microseconds.
static const int64_t AWAKE_NS = 50000;

struct frame {
  int64_t arrived_ns;
  int64_t due_ns;
  uint32_t length;
  uint8_t bytes[];
};

struct queue {
  int in;
  int out;
  struct frame *frames[QUEUE_FRAMES];
  uint32_t head;
  uint32_t tail;
  uint64_t bytes;
  int64_t last_due_ns;
};

static struct relay *relay;
static uint64_t room;
static uint64_t random_state;
static struct queue queues[2];

static void fail(const char *what) {
  fprintf(stderr, "%s: %s\n", what, strerror(errno));
  exit(1);
}

static int64_t now_ns(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

// xorshift64*
static uint64_t random_u64(void) {
  random_state ^= random_state >> 12;
  random_state ^= random_state << 25;
  random_state ^= random_state >> 27;
  return random_state * UINT64_C(2685821657736338717);
}

static int open_interface(const char *name) {
  int fd = socket(AF_PACKET, SOCK_RAW, 0);
  if (fd < 0) fail("packet socket");
  const int on = 1;
  const int size = SOCKET_BYTES;
  if (setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof(on)) < 0) fail("PACKET_IGNORE_OUTGOING");
  // Unfinished checksums and aggregates pass as they are.
  if (setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof(on)) < 0) fail("PACKET_VNET_HDR");
  if (setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof(on)) < 0) fail("SO_TIMESTAMPNS");
  if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) < 0) fail("SO_RCVBUFFORCE");
  if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) < 0) fail("SO_SNDBUFFORCE");
  struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
  address.sll_ifindex = (int)if_nametoindex(name);
  if (address.sll_ifindex == 0) fail(name);
  if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0) fail("bind");
  return fd;
}

// Receives one frame, if there is one.
static int receive(int direction) {
  static uint8_t buffer[LARGEST_FRAME];
  struct queue *queue = &queues[direction];
  struct way *way = &relay->ways[direction];
  _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(struct timespec))];
  struct iovec iov = {.iov_base = buffer, .iov_len = sizeof(buffer)};
  struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
  ssize_t length = recvmsg(queue->in, &message, MSG_DONTWAIT);
  if (length < 0) {
    if (errno != EAGAIN && errno != EINTR && errno != ENETDOWN && errno != ENOBUFS) fail("receive");
    return errno == ENETDOWN;
  }
  const int64_t realtime = now_ns(CLOCK_REALTIME);
  const int64_t monotonic = now_ns(CLOCK_MONOTONIC);

  int64_t age = -1;
  for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c != NULL; c = CMSG_NXTHDR(&message, c)) {
    if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_TIMESTAMPNS) {
      struct timespec t;
      memcpy(&t, CMSG_DATA(c), sizeof(t));
      age = realtime - (t.tv_sec * INT64_C(1000000000) + t.tv_nsec);
    }
  }
  if (age < 0 || age > INT64_C(1000000000)) { // none, or the clock was stepped
    age = 0;
    atomic_fetch_add(&way->unstamped, 1);
  }
  if (queue->tail - queue->head == QUEUE_FRAMES || queue->bytes + (uint64_t)length > QUEUE_BYTES ||
      (message.msg_flags & MSG_TRUNC) != 0) {
    atomic_fetch_add(&way->dropped, 1);
    return 1;
  }
  int64_t hold = (int64_t)atomic_load(&way->hold_ns);
  const int64_t jitter = (int64_t)atomic_load(&way->jitter_ns);
  if (jitter > 0) hold += (int64_t)(random_u64() % (uint64_t)(2 * jitter + 1)) - jitter;
  struct frame *frame = malloc(sizeof(struct frame) + (size_t)length);
  if (frame == NULL) fail("memory");
  frame->arrived_ns = monotonic - age;
  frame->due_ns = frame->arrived_ns + (hold > 0 ? hold : 0);
  if (frame->due_ns < queue->last_due_ns) frame->due_ns = queue->last_due_ns;
  queue->last_due_ns = frame->due_ns;
  frame->length = (uint32_t)length;
  memcpy(frame->bytes, buffer, (size_t)length);
  queue->frames[queue->tail++ % QUEUE_FRAMES] = frame;
  queue->bytes += (uint64_t)length;
  atomic_store(&way->held, queue->tail - queue->head);
  return 1;
}

static uint16_t read16(const uint8_t *at) { return (uint16_t)(at[0] << 8 | at[1]); }

// Writes what kind of packet a frame is.
static void describe(const uint8_t *frame, uint32_t length, struct record *record) {
  if (length < ETH_HLEN + 20) return;
  const uint8_t *end = frame + length;
  const uint8_t *ip = frame + ETH_HLEN;
  const uint8_t *payload;
  switch (read16(frame + 12)) {
  case ETH_P_IP:
    record->protocol = ip[9];
    if ((read16(ip + 6) & 0x1fff) != 0) return; // a later fragment
    payload = ip + (ip[0] & 15) * 4;
    break;
  case ETH_P_IPV6:
    record->protocol = ip[6];
    payload = ip + 40;
    break;
  default: return;
  }
  if (payload + 8 > end) return;
  switch (record->protocol) {
  case IPPROTO_ICMP:
  case IPPROTO_ICMPV6:
    record->kind = payload[0];
    record->first = read16(payload + 4);
    record->second = read16(payload + 6);
    break;
  case IPPROTO_TCP:
    if (payload + 20 > end) return;
    record->kind = payload[13];
    __attribute__((fallthrough));
  case IPPROTO_UDP:
    record->first = read16(payload);
    record->second = read16(payload + 2);
    break;
  default: break;
  }
}

// Sends the first frame of a queue.
static void release(int direction) {
  struct queue *queue = &queues[direction];
  struct way *way = &relay->ways[direction];
  struct frame *frame = queue->frames[queue->head++ % QUEUE_FRAMES];
  const uint32_t header = sizeof(struct virtio_net_hdr);
  struct record record = {.arrived_ns = frame->arrived_ns, .length = frame->length - header, .direction = (uint8_t)direction};
  describe(frame->bytes + header, record.length, &record);
  record.left_ns = now_ns(CLOCK_MONOTONIC);
  // The kernel gives the frame to the host, and may run much of what follows from it, before the call returns.
  if (send(queue->out, frame->bytes, frame->length, MSG_DONTWAIT) < 0) {
    atomic_fetch_add(&way->dropped, 1);
  } else {
    atomic_fetch_add(&way->carried, 1);
    const uint64_t number = atomic_load(&relay->logged);
    if (number < room) {
      relay->records[number] = record;
      atomic_store(&relay->logged, number + 1);
    } else {
      atomic_fetch_add(&relay->unlogged, 1);
    }
  }
  queue->bytes -= frame->length;
  free(frame);
  atomic_store(&way->held, queue->tail - queue->head);
}

static void count_missed(void) {
  for (int direction = 0; direction < 2; direction++) {
    struct tpacket_stats stats;
    socklen_t size = sizeof(stats);
    if (getsockopt(queues[direction].in, SOL_PACKET, PACKET_STATISTICS, &stats, &size) == 0) {
      atomic_fetch_add(&relay->ways[direction].missed, stats.tp_drops);
    }
  }
}

static void carry(void) {
  struct pollfd polled[3] = {
      {.fd = queues[0].in, .events = POLLIN}, {.fd = queues[1].in, .events = POLLIN}, {.fd = STDIN_FILENO}};
  int64_t counted = 0;
  for (;;) {
    int read = 0;
    for (int direction = 0; direction < 2; direction++) {
      for (int i = 0; i < BATCH && receive(direction); i++) read++;
    }
    int64_t now = now_ns(CLOCK_MONOTONIC);
    int64_t next = INT64_MAX;
    for (int direction = 0; direction < 2; direction++) {
      struct queue *queue = &queues[direction];
      for (int i = 0; i < BATCH && queue->head != queue->tail; i++) {
        const int64_t due = queue->frames[queue->head % QUEUE_FRAMES]->due_ns;
        if (due > now) break;
        release(direction);
        now = now_ns(CLOCK_MONOTONIC);
        read++;
      }
      if (queue->head != queue->tail) {
        const int64_t due = queue->frames[queue->head % QUEUE_FRAMES]->due_ns;
        if (due < next) next = due;
      }
    }
    if (now - counted > INT64_C(10000000)) {
      count_missed();
      counted = now;
    }
    if (read > 0) continue;
    if (next != INT64_MAX && next - now <= AWAKE_NS) {
      while (now_ns(CLOCK_MONOTONIC) < next) {
      }
      continue;
    }
    struct timespec wait;
    if (next != INT64_MAX) {
      const int64_t rest = next - now - AWAKE_NS;
      wait = (struct timespec){.tv_sec = rest / 1000000000, .tv_nsec = rest % 1000000000};
    }
    ppoll(polled, 3, next == INT64_MAX ? NULL : &wait, NULL);
    if ((polled[2].revents & (POLLHUP | POLLERR)) != 0) return;
  }
}

int main(int argc, char **argv) {
  if (argc != 5) {
    fprintf(stderr, "usage: %s LOG_DESCRIPTOR HOST_INTERFACE SWITCH_INTERFACE SEED\n", argv[0]);
    return 2;
  }
  const int log = atoi(argv[1]);
  struct stat status;
  if (fstat(log, &status) < 0) fail("log");
  relay = mmap(NULL, (size_t)status.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, log, 0);
  if (relay == MAP_FAILED) fail("log");
  room = ((uint64_t)status.st_size - sizeof(struct relay)) / sizeof(struct record);
  random_state = strtoull(argv[4], NULL, 10) * 2 + 1;

  queues[0].in = queues[1].out = open_interface(argv[2]);
  queues[0].out = queues[1].in = open_interface(argv[3]);

  prctl(PR_SET_TIMERSLACK, 1UL);
  const struct sched_param priority = {.sched_priority = 50};
  atomic_store(&relay->realtime, sched_setscheduler(0, SCHED_FIFO, &priority) == 0);

  puts("ready");
  fflush(stdout);
  carry();
  return 0;
}
