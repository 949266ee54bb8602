// snapshot.c: publishing snapshots so that they can be read without waiting, in this process and in forked children.
//
// Each slot is a latch (as the kernel's seqcount_latch): two copies and a counter that says which of them is whole. The writer
// counts up, rewrites the copy that readers now leave alone, counts up again and rewrites the other. A writer that is stopped
// half-way leaves one whole copy.

#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#include "shim.h"

enum { VALUES_OFFSET = offsetof(netmon_snapshot, sequence), WORDS = (sizeof(netmon_snapshot) - VALUES_OFFSET) / 8 };

_Static_assert(VALUES_OFFSET == 8, "values of a snapshot start after struct_size and 4 reserved bytes");
_Static_assert(VALUES_OFFSET + WORDS * 8 == sizeof(netmon_snapshot), "a snapshot is made of 8-byte values");

typedef struct slot {
  _Atomic uint64_t owner;
  _Atomic uint64_t turn; // 0: nothing published
  _Atomic uint64_t words[2][WORDS];
  char pad[64 - (2 + 2 * WORDS) * 8 % 64];
} slot;

// Shared with children that are forked later, and never unmapped.
static slot *region;
static _Atomic uint64_t taken; // a bit per slot; the process's own

_Static_assert(NETMON_MOST_MONITORS <= 64, "taken has a bit per slot");

__attribute__((constructor)) static void map_region(void) {
  void *memory = mmap(NULL, NETMON_MOST_MONITORS * sizeof(slot), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  region = memory == MAP_FAILED ? NULL : memory;
}

int netmon_slot_take(void) {
  if (region == NULL) return NETMON_NO_REGION;
  uint64_t before = atomic_load(&taken);
  while (before != UINT64_MAX) {
    int free_bit = __builtin_ctzll(~before);
    if (free_bit >= NETMON_MOST_MONITORS) return NETMON_NO_SLOT;
    if (atomic_compare_exchange_weak(&taken, &before, before | UINT64_C(1) << free_bit)) {
      atomic_store(&region[free_bit].turn, 0);
      return free_bit;
    }
  }
  return NETMON_NO_SLOT;
}

void netmon_slot_own(uint32_t index, uint64_t owner) { atomic_store(&region[index].owner, owner); }

void netmon_slot_release(uint32_t index) {
  atomic_store(&region[index].owner, 0);
  atomic_fetch_and(&taken, ~(UINT64_C(1) << index));
}

void netmon_slot_publish(uint32_t index, const netmon_snapshot *snapshot) {
  slot *s = &region[index];
  uint64_t values[WORDS];
  memcpy(values, (const char *)snapshot + VALUES_OFFSET, sizeof values);
  uint64_t turn = atomic_load_explicit(&s->turn, memory_order_relaxed);
  for (int half = 0; half < 2; half++) {
    // Readers take copy (turn & 1): after this store the other one may be rewritten.
    atomic_thread_fence(memory_order_release);
    atomic_store_explicit(&s->turn, turn + 1 + half, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    for (int i = 0; i < WORDS; i++) {
      atomic_store_explicit(&s->words[half == 0 ? (turn & 1) : !(turn & 1)][i], values[i], memory_order_relaxed);
    }
  }
}

// value_room is how many bytes of values fit into the caller's struct: whole values, for half a value would be a wrong one.
static size_t value_room(const netmon_snapshot *snapshot) {
  size_t size = snapshot->struct_size;
  if (size > sizeof(netmon_snapshot)) size = sizeof(netmon_snapshot);
  return (size - VALUES_OFFSET) / 8 * 8;
}

int32_t netmon_slot_read(uint32_t index, uint64_t owner, netmon_snapshot *snapshot) {
  slot *s = &region[index];
  enum { TRIES = 3 };
  for (int try = 0; try < TRIES; try++) {
    uint64_t turn = atomic_load_explicit(&s->turn, memory_order_acquire);
    uint64_t values[WORDS];
    for (int i = 0; i < WORDS; i++) {
      values[i] = atomic_load_explicit(&s->words[turn & 1][i], memory_order_relaxed);
    }
    atomic_thread_fence(memory_order_acquire);
    if (atomic_load_explicit(&s->owner, memory_order_relaxed) != owner) return NETMON_ERR_CLOSED;
    if (turn < 2) return NETMON_ERR_NO_DATA;
    if (atomic_load_explicit(&s->turn, memory_order_relaxed) == turn) {
      memcpy((char *)snapshot + VALUES_OFFSET, values, value_room(snapshot));
      return NETMON_OK;
    }
  }
  return NETMON_ERR_NO_DATA;
}

void netmon_snapshot_unknown(netmon_snapshot *snapshot) {
  netmon_snapshot unknown;
  memset(&unknown, 0xff, sizeof unknown); // NETMON_UNKNOWN_U64, and a NaN
  unknown.sequence = 0;
  memcpy((char *)snapshot + VALUES_OFFSET, (char *)&unknown + VALUES_OFFSET, value_room(snapshot));
}
