// collectives.c: rings of records, from the threads that run a job's collectives to the monitor that keeps account of them.
//
// A producer takes a ticket, writes the cell of that number and marks it as written. It never waits: a cell in which a producer
// of an earlier round was stopped half-way is left alone, and older records are overwritten when the ring is full. The reader,
// one at a time, goes from ticket to ticket and counts those whose record is gone.
//
// What is under way is told in the same way, through a few cells of which the newest that is written counts.

#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#include "shim.h"

enum { CELLS = 4096, TOLD = 16, OWNER = 0, WORDS = 1 + sizeof(netmon_collective) / 8 };

_Static_assert(sizeof(netmon_collective) == 56, "records are made of 8-byte values");
_Static_assert((CELLS & (CELLS - 1)) == 0 && (TOLD & (TOLD - 1)) == 0, "tickets may wrap around");

// A ticket that was taken so long ago and is not written belongs to a thread that left its cell to another, or that hangs.
static const uint64_t patience_ns = UINT64_C(1000000000);

typedef struct cell {
  _Atomic uint64_t turn; // 2t + 1: ticket t is being written; 2t + 2: it is written; 0: none was
  _Atomic uint64_t words[WORDS];
} cell;

typedef struct ring {
  _Atomic uint64_t next; // ticket
  char pad[64 - sizeof(uint64_t)];
  _Atomic uint64_t owner; // the last who has named a group
  // The reader's own.
  uint64_t read;        // the next ticket to read
  uint64_t awaited;     // 1 + the ticket that was not written when the reader came to it, 0 for none
  uint64_t awaiting_ns; // since when
  cell cells[CELLS];
  // What is under way: the oldest, with the number of all in duration_ns; an op of 0 for none.
  _Atomic uint64_t told_next; // ticket
  cell told[TOLD];
} ring;

// Made when a slot first needs one, and kept for the slot's later monitors. A forked child has a copy that nobody reads.
static ring *_Atomic rings[NETMON_MOST_MONITORS];

int32_t netmon_ring_open(uint32_t slot, uint64_t owner) {
  if (atomic_load(&rings[slot]) == NULL) {
    void *memory = mmap(NULL, sizeof(ring), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return NETMON_ERR_RESOURCES;
    ring *none = NULL;
    if (!atomic_compare_exchange_strong(&rings[slot], &none, memory)) munmap(memory, sizeof(ring));
  }
  // Handles grow: one that was closed meanwhile does not take the ring from the next.
  ring *r = atomic_load(&rings[slot]);
  uint64_t before = atomic_load(&r->owner);
  while (before < owner && !atomic_compare_exchange_weak(&r->owner, &before, owner)) {
  }
  return NETMON_OK;
}

// ring_of is the ring that records of an owner go to, NULL where it has not named a group.
static ring *ring_of(uint32_t slot, uint64_t owner) {
  ring *r = atomic_load_explicit(&rings[slot], memory_order_acquire);
  return r != NULL && atomic_load_explicit(&r->owner, memory_order_relaxed) == owner ? r : NULL;
}

void netmon_ring_reset(uint32_t slot) {
  ring *r = atomic_load(&rings[slot]);
  if (r == NULL) return;
  r->read = atomic_load(&r->next);
  r->awaited = 0;
}

// put writes a record into the next cell of so many.
static void put(_Atomic uint64_t *next, cell *cells, uint64_t many, uint64_t owner, const netmon_collective *record) {
  uint64_t values[WORDS];
  values[OWNER] = owner;
  memcpy(&values[1], record, sizeof *record);
  uint64_t ticket = atomic_fetch_add_explicit(next, 1, memory_order_relaxed);
  cell *c = &cells[ticket % many];
  uint64_t before = atomic_load_explicit(&c->turn, memory_order_relaxed);
  // Odd: its writer was overtaken by a whole round. Above: this thread was. The reader finds that the ticket was not written.
  if ((before & 1) != 0 || before > 2 * ticket) return;
  if (!atomic_compare_exchange_strong_explicit(&c->turn, &before, 2 * ticket + 1, memory_order_relaxed, memory_order_relaxed)) {
    return;
  }
  atomic_thread_fence(memory_order_release);
  for (int i = 0; i < WORDS; i++) atomic_store_explicit(&c->words[i], values[i], memory_order_relaxed);
  atomic_store_explicit(&c->turn, 2 * ticket + 2, memory_order_release);
}

// take reads the cell of a ticket, where the record in it is that ticket's.
enum taken { NOT_YET, WHOLE, GONE };
static enum taken take(cell *c, uint64_t ticket, uint64_t values[WORDS]) {
  uint64_t written = 2 * ticket + 2;
  uint64_t turn = atomic_load_explicit(&c->turn, memory_order_acquire);
  if (turn < written) return NOT_YET;
  for (int i = 0; i < WORDS; i++) values[i] = atomic_load_explicit(&c->words[i], memory_order_relaxed);
  atomic_thread_fence(memory_order_acquire);
  return turn == written && atomic_load_explicit(&c->turn, memory_order_relaxed) == turn ? WHOLE : GONE;
}

static int is_one(const netmon_collective *r) {
  return r->op - 1 < NETMON_COLLECTIVE_OTHER && r->group - 1 < NETMON_MOST_GROUP;
}

int32_t netmon_ring_put(uint32_t slot, uint64_t owner, const netmon_collective *records, uint32_t count) {
  ring *r = ring_of(slot, owner);
  if (r == NULL) return NETMON_ERR_INVALID_ARGUMENT; // no group was ever named
  const char *at = (const char *)records;
  for (uint32_t i = 0; i < count; i++, at += records->struct_size) {
    netmon_collective record;
    memcpy(&record, at, sizeof record);
    if (!is_one(&record) || record.end > NETMON_END_FAILED) return NETMON_ERR_INVALID_ARGUMENT;
    put(&r->next, r->cells, CELLS, owner, &record);
  }
  return NETMON_OK;
}

uint32_t netmon_ring_drain(uint32_t slot, uint64_t owner, uint64_t now_ns, netmon_collective *records_out, uint32_t most,
                           uint64_t *lost_inout) {
  ring *r = atomic_load(&rings[slot]);
  if (r == NULL) return 0;
  uint64_t next = atomic_load_explicit(&r->next, memory_order_acquire);
  uint32_t got = 0;
  if (next - r->read > CELLS) {
    *lost_inout += next - CELLS - r->read;
    r->read = next - CELLS;
  }
  for (; got < most && r->read != next; r->read++) {
    uint64_t values[WORDS];
    enum taken taken = take(&r->cells[r->read % CELLS], r->read, values);
    if (taken == NOT_YET) {
      if (r->awaited != r->read + 1) {
        r->awaited = r->read + 1;
        r->awaiting_ns = now_ns;
      }
      if (now_ns - r->awaiting_ns < patience_ns) break;
      ++*lost_inout;
      continue;
    }
    if (taken == GONE) {
      ++*lost_inout;
    } else if (values[OWNER] == owner) { // not that of a thread which was late for a monitor closed since
      memcpy(&records_out[got++], &values[1], sizeof *records_out);
    }
  }
  return got;
}

int32_t netmon_ring_tell(uint32_t slot, uint64_t owner, const netmon_collective *oldest, uint32_t count) {
  ring *r = ring_of(slot, owner);
  if (r == NULL) return NETMON_ERR_INVALID_ARGUMENT; // no group was ever named
  netmon_collective told = {.op = 0};
  if (oldest != NULL) {
    memcpy(&told, oldest, sizeof told);
    if (!is_one(&told) || told.enter_ns > INT64_MAX) return NETMON_ERR_INVALID_ARGUMENT;
    told.duration_ns = count;
  }
  put(&r->told_next, r->told, TOLD, owner, &told);
  return NETMON_OK;
}

int netmon_ring_pending(uint32_t slot, uint64_t owner, netmon_collective *oldest_out, uint32_t *count_out) {
  ring *r = atomic_load(&rings[slot]);
  if (r == NULL) return 0;
  enum { TRIES = 3 };
  for (int try = 0; try < TRIES; try++) { // it may be overtaken
    uint64_t next = atomic_load_explicit(&r->told_next, memory_order_acquire);
    for (uint64_t back = 1; back <= TOLD && back <= next; back++) {
      // Where the newest is being written, or its writer was stopped half-way, what was told before holds.
      uint64_t ticket = next - back, values[WORDS];
      if (take(&r->told[ticket % TOLD], ticket, values) != WHOLE || values[OWNER] != owner) continue;
      memcpy(oldest_out, &values[1], sizeof *oldest_out);
      *count_out = (uint32_t)oldest_out->duration_ns;
      return 1;
    }
  }
  return 0;
}
