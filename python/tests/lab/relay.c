// The relay of a lab: carries the frames of one host between two interfaces and holds each for a set time.
//
// relay LOG_DESCRIPTOR HOST_INTERFACE SWITCH_INTERFACE SEED
//
// Frames that come from HOST_INTERFACE (direction 0, what the host sends) leave by SWITCH_INTERFACE, and the other way round
// (direction 1). LOG_DESCRIPTOR is a memory file whose beginning is `struct relay` below: the times to hold are read from it
// for every frame, and one record for every frame is written behind it. Prints "ready" when it carries; ends with its input.
//
// It reads packet sockets and no TUN device, because the kernel then says when a frame arrived and when it left: the time until
// this process came to run is part of the hold, not an error beside it. A frame is due its hold after it arrived, so a late
// wake-up adds nothing as long as it is shorter than the hold; what it does add is in the record. Order is kept: no frame leaves
// before one that came earlier in its direction.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/errqueue.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/net_tstamp.h>
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
  int64_t left_ns;    // monotonic clock; of the interface it leaves by, in a burst of this process just before it sends
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

// Waking up takes tens of microseconds, so the process stops sleeping that much earlier and looks at the clock until a frame
// is due, as long as that takes no more than a tenth of a processor.
static const int64_t LEAST_AWAKE_NS = 30000;
static const int64_t MOST_AWAKE_NS = 250000;
static const int64_t AWAKE_SAVED_NS = 5000000;
enum { AWAKE_SHARE = 10 };

// More frames waiting than this are a burst: they leave as fast as they can, and the kernel is not asked when.
enum { BURST_FRAMES = 8 };

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

static int64_t to_ns(struct timespec t) { return t.tv_sec * INT64_C(1000000000) + t.tv_nsec; }

static int64_t now_ns(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return to_ns(t);
}

// Returns the monotonic less the real-time clock. Being interrupted between reading one and the other would be taken for a
// difference, so it reads again when that took long.
static int64_t clocks_apart_ns(void) {
  int64_t apart = 0;
  int64_t shortest = INT64_MAX;
  for (int i = 0; i < 5 && shortest > 1000; i++) {
    const int64_t before = now_ns(CLOCK_MONOTONIC);
    const int64_t realtime = now_ns(CLOCK_REALTIME);
    const int64_t after = now_ns(CLOCK_MONOTONIC);
    if (after - before < shortest) {
      shortest = after - before;
      apart = before + shortest / 2 - realtime;
    }
  }
  return apart;
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
  const int stamps = SOF_TIMESTAMPING_SOFTWARE | SOF_TIMESTAMPING_OPT_TSONLY; // of frames that ask for it, see put()
  if (setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPING, &stamps, sizeof(stamps)) < 0) fail("SO_TIMESTAMPING");
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
  const int64_t apart = clocks_apart_ns();
  const int64_t read = now_ns(CLOCK_MONOTONIC);

  int64_t arrived = INT64_MAX;
  for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c != NULL; c = CMSG_NXTHDR(&message, c)) {
    if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_TIMESTAMPNS) {
      struct timespec t;
      memcpy(&t, CMSG_DATA(c), sizeof(t));
      arrived = to_ns(t) + apart;
    }
  }
  if (arrived > read || arrived < read - INT64_C(1000000000)) { // no stamp, or the clock was stepped
    arrived = read;
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
  frame->arrived_ns = arrived;
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

// Returns when the kernel says that a frame was given to an interface, on the real-time clock; 0 if it says nothing more.
static int64_t next_stamp(int fd) {
  _Alignas(struct cmsghdr) char control[256];
  struct msghdr message = {.msg_control = control, .msg_controllen = sizeof(control)};
  if (recvmsg(fd, &message, MSG_ERRQUEUE | MSG_DONTWAIT) < 0) return 0;
  for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c != NULL; c = CMSG_NXTHDR(&message, c)) {
    if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_TIMESTAMPING) {
      struct scm_timestamping stamps;
      memcpy(&stamps, CMSG_DATA(c), sizeof(stamps));
      return to_ns(stamps.ts[0]);
    }
  }
  return 1; // something else, and older than any frame
}

// Gives a frame to an interface and returns when that was on the monotonic clock, -1 if it had no room.
//
// The kernel's stamp is taken where the interface gets the frame. What comes after it, up to the answer of a host, may run
// before the call returns; what comes before it, up to tens of microseconds when all of it has to be fetched into the caches, is
// part of the hold.
static int64_t put(int fd, struct frame *frame, int ask) {
  _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(uint32_t))] = {0};
  struct iovec iov = {.iov_base = frame->bytes, .iov_len = frame->length};
  struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
  if (ask) {
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    struct cmsghdr *c = CMSG_FIRSTHDR(&message);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SO_TIMESTAMPING;
    c->cmsg_len = CMSG_LEN(sizeof(uint32_t));
    const uint32_t flags = SOF_TIMESTAMPING_TX_SOFTWARE;
    memcpy(CMSG_DATA(c), &flags, sizeof(flags));
    while (next_stamp(fd) != 0) { // of frames that a rate limit held
    }
  }
  const int64_t apart = ask ? clocks_apart_ns() : 0;
  const int64_t before = now_ns(CLOCK_MONOTONIC);
  if (sendmsg(fd, &message, MSG_DONTWAIT) < 0) return -1;
  if (!ask) return before;
  const int64_t after = now_ns(CLOCK_MONOTONIC);
  const int64_t left = next_stamp(fd) + apart;
  return left >= before && left <= after ? left : before;
}

// Sends the first frame of a queue.
static void release(int direction) {
  struct queue *queue = &queues[direction];
  struct way *way = &relay->ways[direction];
  struct frame *frame = queue->frames[queue->head++ % QUEUE_FRAMES];
  const uint32_t header = sizeof(struct virtio_net_hdr);
  struct record record = {.arrived_ns = frame->arrived_ns, .length = frame->length - header, .direction = (uint8_t)direction};
  describe(frame->bytes + header, record.length, &record);
  record.left_ns = put(queue->out, frame, queue->tail - queue->head < BURST_FRAMES);
  if (record.left_ns < 0) {
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
  int64_t awake = LEAST_AWAKE_NS;
  int64_t saved = AWAKE_SAVED_NS;
  int64_t last = now_ns(CLOCK_MONOTONIC);
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

    if (next == INT64_MAX) {
      ppoll(polled, 3, NULL, NULL);
    } else {
      saved = saved + (now - last) / AWAKE_SHARE < AWAKE_SAVED_NS ? saved + (now - last) / AWAKE_SHARE : AWAKE_SAVED_NS;
      last = now;
      const int64_t early = saved > awake ? awake : 0;
      if (next - now > early) {
        const int64_t rest = next - now - early;
        const struct timespec wait = {.tv_sec = rest / 1000000000, .tv_nsec = rest % 1000000000};
        if (ppoll(polled, 3, &wait, NULL) == 0) {
          // Follow how late the process wakes up: at once when it takes longer, slowly when it takes less.
          const int64_t late = (now_ns(CLOCK_MONOTONIC) - now - rest) * 5 / 4;
          awake = late > awake ? late : awake - (awake - late) / 64;
          if (awake < LEAST_AWAKE_NS) awake = LEAST_AWAKE_NS;
          if (awake > MOST_AWAKE_NS) awake = MOST_AWAKE_NS;
        }
      } else {
        while (now_ns(CLOCK_MONOTONIC) < next) {
        }
        saved -= next - now;
      }
    }
    if ((polled[2].revents & (POLLHUP | POLLERR)) != 0) return;
    for (int direction = 0; direction < 2; direction++) {
      if ((polled[direction].revents & POLLERR) != 0) {
        while (next_stamp(polled[direction].fd) != 0) {
        }
      }
    }
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
