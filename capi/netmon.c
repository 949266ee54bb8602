// netmon.c: the public functions. Each checks its arguments, finds out whether this process was forked, and then enters Go.

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shim.h"

int32_t netmon_abi_version(void) { return NETMON_ABI_VERSION; }

const char *netmon_version(void) { return NETMON_VERSION; }

// Text for children in which memory must not be allocated; pages that nobody touches take none. When all is handed out there is
// a status without a sentence.
enum { SPARES = 1024, SPARE_BYTES = 512 };
static char spares[SPARES][SPARE_BYTES];
static _Atomic unsigned char spare_taken[SPARES];

static char *take_spare(void) {
  for (int i = 0; i < SPARES; i++) {
    if (atomic_exchange(&spare_taken[i], 1) == 0) return spares[i];
  }
  return NULL;
}

void netmon_free(char *text) {
  uintptr_t place = (uintptr_t)text - (uintptr_t)spares;
  if (place < sizeof spares) {
    atomic_store(&spare_taken[place / SPARE_BYTES], 0);
  } else if (text != NULL && netmon_process_may_allocate()) {
    free(text);
  }
}

// make_utf8 replaces bytes that are no UTF-8: file names may hold any, and a long one may have been cut within a character.
static void make_utf8(char *text) {
  for (unsigned char *p = (unsigned char *)text; *p != 0;) {
    int more = *p < 0x80 ? 0 : *p >= 0xc2 && *p < 0xe0 ? 1 : *p >= 0xe0 && *p < 0xf0 ? 2 : *p >= 0xf0 && *p < 0xf5 ? 3 : -1;
    int good = more >= 0;
    for (int i = 1; good && i <= more; i++) good = (p[i] & 0xc0) == 0x80;
    if (good && more > 1) { // overlong, a surrogate, or above U+10FFFF
      good = !(p[0] == 0xe0 && p[1] < 0xa0) && !(p[0] == 0xed && p[1] > 0x9f) && !(p[0] == 0xf0 && p[1] < 0x90) &&
             !(p[0] == 0xf4 && p[1] > 0x8f);
    }
    if (!good) *p = '?';
    p += good ? 1 + more : 1;
  }
}

int32_t netmon_fail(char **error_out, int32_t status, const char *format, ...) {
  if (error_out == NULL) return status;
  va_list arguments;
  va_start(arguments, format);
  if (!netmon_process_may_allocate()) {
    if ((*error_out = take_spare()) != NULL) vsnprintf(*error_out, SPARE_BYTES, format, arguments);
  } else if (vasprintf(error_out, format, arguments) < 0) {
    *error_out = NULL;
  }
  va_end(arguments);
  if (*error_out != NULL) make_utf8(*error_out);
  return status;
}

// Handles: the table belongs to the process and is copied by fork, so a child knows what its parent had open.

// Handles start far from numbers that a program is likely to have at hand.
static const uint64_t first_handle = UINT64_C(0x6e6d000000000001);

// Entries outnumber monitors because a child keeps its parents' handles beside its own.
enum { ENTRIES = 4 * NETMON_MOST_MONITORS };

typedef struct entry {
  _Atomic uint64_t handle; // 0: free. Written last when an entry is made, first when it is given up
  // The rest is written under the lock. Readers of a live handle see it whole.
  const netmon_api *_Atomic copy; // the private copy it was opened in, NULL for this library's own Go half
  _Atomic uint64_t inner;         // the handle in that copy
  _Atomic uint32_t slot;
  uint32_t generation; // of the process that opened it
  char *config;        // as given to netmon_init, NULL for the default
} entry;

static entry entries[ENTRIES];
static _Atomic uint64_t issued; // handles so far

static entry *find(netmon_handle handle) {
  if (handle < first_handle) return NULL;
  for (uint64_t i = 0; i < ENTRIES; i++) {
    entry *e = &entries[(handle + i) % ENTRIES];
    if (atomic_load_explicit(&e->handle, memory_order_acquire) == handle) return e;
  }
  return NULL;
}

static int was_issued(netmon_handle handle) { return handle >= first_handle && handle - first_handle < atomic_load(&issued); }

static int32_t no_monitor(netmon_handle handle, char **error_out) {
  if (was_issued(handle)) return netmon_fail(error_out, NETMON_ERR_CLOSED, "handle: the monitor was closed");
  return netmon_fail(error_out, NETMON_ERR_INVALID_ARGUMENT,
                     "handle: 0x%llx was never issued; pass the handle that netmon_init wrote to handle_out",
                     (unsigned long long)handle);
}

// text_length measures a text argument; a text that is too long counts as one byte more than the longest.
static size_t text_length(const char *text) { return text == NULL ? 0 : strnlen(text, NETMON_MOST_TEXT + 1); }

static int32_t longer_than(size_t most, const char *name, int32_t status, char **error_out) {
  return netmon_fail(error_out, status, "%s: longer than %zu MiB (%zu bytes), which is the most that is read", name, most >> 20,
                     most);
}

static int32_t too_long(const char *name, int32_t status, char **error_out) {
  return longer_than(NETMON_MOST_TEXT, name, status, error_out);
}

// add makes a table entry. Returns 0 when the table is full. The caller holds the lock.
static int add(netmon_handle handle, const netmon_api *copy, netmon_handle inner, uint32_t slot, uint32_t generation,
               char *config) {
  for (uint64_t i = 0; i < ENTRIES; i++) {
    entry *e = &entries[(handle + i) % ENTRIES];
    if (atomic_load(&e->handle) != 0) continue;
    atomic_store(&e->copy, copy);
    atomic_store(&e->inner, inner);
    atomic_store(&e->slot, slot);
    e->generation = generation;
    e->config = config;
    atomic_store_explicit(&e->handle, handle, memory_order_release);
    return 1;
  }
  return 0;
}

// enter_go makes the thread ready for a call into Go; leave_go gives it back as it was.
static void enter_go(sigset_t *before) {
  netmon_signals_mend();
  netmon_signals_block(before);
}

static void leave_go(const sigset_t *before) { netmon_signals_restore(before); }

static int32_t open_here(const char *config, size_t length, netmon_handle handle, uint32_t *slot_out, char **error_out) {
  int slot = netmon_slot_take();
  if (slot == NETMON_NO_REGION) {
    return netmon_fail(error_out, NETMON_ERR_RESOURCES, "netmon_init: no memory could be shared when the library was loaded");
  }
  if (slot < 0) {
    return netmon_fail(error_out, NETMON_ERR_RESOURCES, "netmon_init: %d monitors are open in this process; close one first",
                       NETMON_MOST_MONITORS);
  }
  netmon_ring_reset((uint32_t)slot);
  netmon_slot_own((uint32_t)slot, handle);
  sigset_t before;
  enter_go(&before);
  int32_t status = goNetmonInit(handle, (uint32_t)slot, (char *)config, length, error_out);
  leave_go(&before);
  if (status != NETMON_OK) netmon_slot_release((uint32_t)slot);
  *slot_out = (uint32_t)slot;
  return status;
}

static int32_t close_here(netmon_handle handle, uint32_t slot) {
  netmon_slot_own(slot, 0);
  sigset_t before;
  enter_go(&before);
  int32_t status = goNetmonClose(handle);
  leave_go(&before);
  return status;
}

int32_t netmon_init(const char *config_json, netmon_handle *handle_out, char **error_out) {
  if (handle_out != NULL) *handle_out = 0;
  if (error_out != NULL) *error_out = NULL;
  if (handle_out == NULL) {
    return netmon_fail(error_out, NETMON_ERR_INVALID_ARGUMENT, "handle_out: NULL; pass where to write the handle");
  }
  size_t length = text_length(config_json);
  if (length > NETMON_MOST_TEXT) return too_long("config_json", NETMON_ERR_CONFIG, error_out);
  netmon_process process;
  int32_t status = netmon_process_enter(&process, error_out);
  if (status != NETMON_OK) return status;

  char *config = NULL;
  if (length > 0 && (config = strndup(config_json, length)) == NULL) {
    return netmon_fail(error_out, NETMON_ERR_RESOURCES, "netmon_init: no memory");
  }
  netmon_handle handle = first_handle + atomic_fetch_add(&issued, 1), inner = handle;
  uint32_t slot = 0;
  status = process.copy != NULL ? process.copy->init(config_json, &inner, error_out)
                                : open_here(config, length, handle, &slot, error_out);
  if (status != NETMON_OK) {
    free(config);
    return status;
  }
  netmon_process_lock();
  int added = add(handle, process.copy, inner, slot, process.generation, config);
  netmon_process_unlock();
  if (!added) {
    (void)(process.copy != NULL ? process.copy->close(inner) : close_here(handle, slot));
    free(config);
    return netmon_fail(error_out, NETMON_ERR_RESOURCES,
                       "netmon_init: %d handles are open in this process and its parents; close one first", ENTRIES);
  }
  *handle_out = handle;
  return NETMON_OK;
}

// target is where a call on a handle goes.
typedef struct target {
  const netmon_api *copy; // NULL: this library's own Go half
  netmon_handle inner;
} target;

static int32_t latest_of_none(netmon_handle handle, netmon_snapshot *snapshot) {
  (void)handle, (void)snapshot;
  return NETMON_ERR_NO_DATA;
}

// reopen opens an inherited handle anew in this process. The caller holds the lock.
static int32_t reopen(entry *e, const netmon_process *process, char **error_out) {
  netmon_handle inner = 0;
  int32_t status = process->copy->init(e->config, &inner, error_out);
  if (status != NETMON_OK) return status;
  // netmon_latest may read in between, and copies number their handles alike: it must not take the new number to the old copy.
  static const netmon_api none = {.latest = latest_of_none};
  atomic_store(&e->copy, &none);
  atomic_store(&e->inner, inner);
  atomic_store(&e->copy, process->copy);
  e->generation = process->generation;
  return NETMON_OK;
}

static int32_t locate(netmon_handle handle, target *target_out, char **error_out) {
  entry *e = find(handle);
  if (e == NULL) return no_monitor(handle, error_out);
  netmon_process process;
  int32_t status = netmon_process_enter(&process, error_out);
  if (status != NETMON_OK) return status;
  if (process.generation != 0) {
    netmon_process_lock();
    if (atomic_load(&e->handle) != handle) {
      status = no_monitor(handle, error_out);
    } else if (e->generation != process.generation) {
      status = reopen(e, &process, error_out);
    }
    netmon_process_unlock();
    if (status != NETMON_OK) return status;
  }
  target_out->copy = atomic_load(&e->copy);
  target_out->inner = atomic_load(&e->inner);
  // The entry may have been given up, and taken for another handle, while it was read.
  if (atomic_load(&e->handle) != handle) return no_monitor(handle, error_out);
  return NETMON_OK;
}

int32_t netmon_sample(netmon_handle handle, char **json_out, char **error_out) {
  if (json_out != NULL) *json_out = NULL;
  if (error_out != NULL) *error_out = NULL;
  if (json_out == NULL) {
    return netmon_fail(error_out, NETMON_ERR_INVALID_ARGUMENT, "json_out: NULL; pass where to write the document");
  }
  target to;
  int32_t status = locate(handle, &to, error_out);
  if (status != NETMON_OK) return status;
  if (to.copy != NULL) return to.copy->sample(to.inner, json_out, error_out);
  sigset_t before;
  enter_go(&before);
  status = goNetmonSample(to.inner, json_out, error_out);
  leave_go(&before);
  return status;
}

// take_request_up_to checks the arguments of a function that answers requests of at most so many bytes, and finds out where the call
// goes.
static int32_t take_request_up_to(size_t most, netmon_handle handle, const char *request_json, const char *example,
                                  char **json_out, char **error_out, size_t *length_out, target *target_out) {
  if (json_out != NULL) *json_out = NULL;
  if (error_out != NULL) *error_out = NULL;
  if (json_out == NULL) {
    return netmon_fail(error_out, NETMON_ERR_INVALID_ARGUMENT, "json_out: NULL; pass where to write the answer");
  }
  if (request_json == NULL) {
    return netmon_fail(error_out, NETMON_ERR_INVALID_ARGUMENT, "request_json: NULL; pass a request such as %s", example);
  }
  *length_out = strnlen(request_json, most + 1);
  if (*length_out > most) return longer_than(most, "request_json", NETMON_ERR_INVALID_ARGUMENT, error_out);
  return locate(handle, target_out, error_out);
}

static int32_t take_request(netmon_handle handle, const char *request_json, const char *example, char **json_out,
                            char **error_out, size_t *length_out, target *target_out) {
  return take_request_up_to(NETMON_MOST_TEXT, handle, request_json, example, json_out, error_out, length_out, target_out);
}

int32_t netmon_query(netmon_handle handle, const char *request_json, char **json_out, char **error_out) {
  size_t length;
  target to;
  int32_t status = take_request(handle, request_json, "{\"view\": \"health\"}", json_out, error_out, &length, &to);
  if (status != NETMON_OK) return status;
  if (to.copy != NULL) return to.copy->query(to.inner, request_json, json_out, error_out);
  sigset_t before;
  enter_go(&before);
  status = goNetmonQuery(to.inner, (char *)request_json, length, json_out, error_out);
  leave_go(&before);
  return status;
}

// wait_for_answer enters Go until there is an answer.
static int32_t wait_for_answer(__typeof__(goNetmonProbe) *enter, netmon_handle inner, const char *request_json, size_t length,
                               char **json_out, char **error_out) {
  netmon_waiting waiting = {0};
  int32_t status;
  do {
    sigset_t before;
    enter_go(&before);
    status = enter(inner, (char *)request_json, length, &waiting, json_out, error_out);
    leave_go(&before);
  } while (waiting.goes_on);
  return status;
}

int32_t netmon_probe(netmon_handle handle, const char *request_json, char **json_out, char **error_out) {
  size_t length;
  target to;
  int32_t status = take_request(handle, request_json, "{\"target\": \"127.0.0.1\"}", json_out, error_out, &length, &to);
  if (status != NETMON_OK) return status;
  if (to.copy != NULL) return to.copy->probe(to.inner, request_json, json_out, error_out);
  return wait_for_answer(goNetmonProbe, to.inner, request_json, length, json_out, error_out);
}

int32_t netmon_bandwidth(netmon_handle handle, const char *request_json, char **json_out, char **error_out) {
  size_t length;
  target to;
  int32_t status = take_request(handle, request_json, "{\"target\": \"10.0.0.2\"}", json_out, error_out, &length, &to);
  if (status != NETMON_OK) return status;
  if (to.copy != NULL) return to.copy->bandwidth(to.inner, request_json, json_out, error_out);
  return wait_for_answer(goNetmonBandwidth, to.inner, request_json, length, json_out, error_out);
}

int32_t netmon_set_job(netmon_handle handle, const char *job_json, char **error_out) {
  if (error_out != NULL) *error_out = NULL;
  if (job_json == NULL) {
    return netmon_fail(error_out, NETMON_ERR_INVALID_ARGUMENT,
                       "job_json: NULL; pass an object such as {\"rank\": 0, \"world_size\": 8}");
  }
  size_t length = text_length(job_json);
  if (length > NETMON_MOST_TEXT) return too_long("job_json", NETMON_ERR_CONFIG, error_out);
  target to;
  int32_t status = locate(handle, &to, error_out);
  if (status != NETMON_OK) return status;
  if (to.copy != NULL) return to.copy->set_job(to.inner, job_json, error_out);
  sigset_t before;
  enter_go(&before);
  status = goNetmonSetJob(to.inner, (char *)job_json, length, error_out);
  leave_go(&before);
  return status;
}

int32_t netmon_collective_group(netmon_handle handle, const char *group_json, uint32_t *group_out, char **error_out) {
  if (group_out != NULL) *group_out = 0;
  if (error_out != NULL) *error_out = NULL;
  if (group_out == NULL) {
    return netmon_fail(error_out, NETMON_ERR_INVALID_ARGUMENT, "group_out: NULL; pass where to write the group's number");
  }
  if (group_json == NULL) {
    return netmon_fail(error_out, NETMON_ERR_INVALID_ARGUMENT,
                       "group_json: NULL; pass an object such as {\"name\": \"default_pg\", \"size\": 8}");
  }
  size_t length = text_length(group_json);
  if (length > NETMON_MOST_TEXT) return too_long("group_json", NETMON_ERR_INVALID_ARGUMENT, error_out);
  target to;
  int32_t status = locate(handle, &to, error_out);
  if (status != NETMON_OK) return status;
  if (to.copy != NULL) return to.copy->collective_group(to.inner, group_json, group_out, error_out);
  entry *e = find(handle);
  if (e == NULL) return no_monitor(handle, error_out);
  uint32_t slot = atomic_load(&e->slot);
  if (atomic_load(&e->handle) != handle) return no_monitor(handle, error_out); // given up, and perhaps taken for another
  sigset_t before;
  enter_go(&before);
  status = goNetmonCollectiveGroup(to.inner, (char *)group_json, length, group_out, error_out);
  leave_go(&before);
  if (status == NETMON_OK && netmon_ring_open(slot, handle) != NETMON_OK) {
    *group_out = 0;
    return netmon_fail(error_out, NETMON_ERR_RESOURCES, "netmon_collective_group: no memory for records");
  }
  return status;
}

int32_t netmon_digest(netmon_handle handle, void *buffer, uint32_t capacity, uint32_t *length_out, char **error_out) {
  if (length_out != NULL) *length_out = 0;
  if (error_out != NULL) *error_out = NULL;
  if (buffer == NULL) {
    return netmon_fail(error_out, NETMON_ERR_INVALID_ARGUMENT,
                       "buffer: NULL; pass where to write NETMON_DIGEST_BYTES (%d) bytes", NETMON_DIGEST_BYTES);
  }
  if (length_out == NULL) {
    return netmon_fail(error_out, NETMON_ERR_INVALID_ARGUMENT, "length_out: NULL; pass where to write the digest's length");
  }
  target to;
  int32_t status = locate(handle, &to, error_out);
  if (status != NETMON_OK) return status;
  if (to.copy != NULL) return to.copy->digest(to.inner, buffer, capacity, length_out, error_out);
  sigset_t before;
  enter_go(&before);
  status = goNetmonDigest(to.inner, buffer, capacity, length_out, error_out);
  leave_go(&before);
  return status;
}

int32_t netmon_aggregate(netmon_handle handle, const char *request_json, char **json_out, char **error_out) {
  size_t length;
  target to;
  int32_t status = take_request_up_to(NETMON_MOST_DIGESTS_TEXT, handle, request_json, "{\"world_size\": 8, \"digests\": []}",
                                      json_out, error_out, &length, &to);
  if (status != NETMON_OK) return status;
  if (to.copy != NULL) return to.copy->aggregate(to.inner, request_json, json_out, error_out);
  sigset_t before;
  enter_go(&before);
  status = goNetmonAggregate(to.inner, (char *)request_json, length, json_out, error_out);
  leave_go(&before);
  return status;
}

// What the functions that never wait need to know of a handle: its slot, or its handle in a private copy.
typedef struct place {
  const netmon_api *copy;
  netmon_handle inner;
  uint32_t slot;
} place;

static int32_t find_place(netmon_handle handle, place *place_out) {
  entry *e = find(handle);
  if (e == NULL) return was_issued(handle) ? NETMON_ERR_CLOSED : NETMON_ERR_INVALID_ARGUMENT;
  netmon_process process;
  if (netmon_process_is_fresh_child() || netmon_process_enter(&process, NULL) != NETMON_OK) return NETMON_ERR_FORKED;
  *place_out = (place){atomic_load(&e->copy), atomic_load(&e->inner), atomic_load(&e->slot)};
  if (atomic_load(&e->handle) != handle) return NETMON_ERR_CLOSED; // given up, and perhaps taken for another handle
  if (place_out->copy != process.copy) return NETMON_ERR_FORKED;   // the parent's
  return NETMON_OK;
}

static int has_good_size(const netmon_collective *record) {
  return record->struct_size >= sizeof *record && record->struct_size % 8 == 0;
}

int32_t netmon_collectives_record(netmon_handle handle, const netmon_collective *records, uint32_t count) {
  if (records == NULL || !has_good_size(records)) return NETMON_ERR_INVALID_ARGUMENT;
  place at;
  int32_t status = find_place(handle, &at);
  if (status != NETMON_OK) return status;
  if (at.copy != NULL) return at.copy->collectives_record(at.inner, records, count);
  return netmon_ring_put(at.slot, handle, records, count);
}

int32_t netmon_collective_pending(netmon_handle handle, const netmon_collective *oldest_or_null, uint32_t count_pending) {
  if ((oldest_or_null == NULL) != (count_pending == 0)) return NETMON_ERR_INVALID_ARGUMENT;
  if (oldest_or_null != NULL && !has_good_size(oldest_or_null)) return NETMON_ERR_INVALID_ARGUMENT;
  place at;
  int32_t status = find_place(handle, &at);
  if (status != NETMON_OK) return status;
  if (at.copy != NULL) return at.copy->collective_pending(at.inner, oldest_or_null, count_pending);
  return netmon_ring_tell(at.slot, handle, oldest_or_null, count_pending);
}

// locate_here finds where a call goes that a child makes only once it has used the handle otherwise: it loads nothing.
static int32_t locate_here(netmon_handle handle, target *target_out, char **error_out) {
  entry *e = find(handle);
  if (e == NULL) return no_monitor(handle, error_out);
  netmon_process process = {0};
  int forked = netmon_process_is_fresh_child() || netmon_process_enter(&process, NULL) != NETMON_OK;
  target_out->copy = atomic_load(&e->copy);
  target_out->inner = atomic_load(&e->inner);
  if (atomic_load(&e->handle) != handle) return no_monitor(handle, error_out); // given up, and perhaps taken for another
  if (!forked && target_out->copy == process.copy) return NETMON_OK;
  return netmon_fail(error_out, NETMON_ERR_FORKED,
                     "handle: the monitor is the parent's; take a sample first to open it anew in this forked child");
}

int32_t netmon_phase_begin(netmon_handle handle, const char *name, uint64_t *phase_out, char **error_out) {
  if (phase_out != NULL) *phase_out = 0;
  if (error_out != NULL) *error_out = NULL;
  if (phase_out == NULL) {
    return netmon_fail(error_out, NETMON_ERR_INVALID_ARGUMENT, "phase_out: NULL; pass where to write the phase's number");
  }
  if (name == NULL) {
    return netmon_fail(error_out, NETMON_ERR_INVALID_ARGUMENT, "name: NULL; pass what the job does, as \"weight_sync\"");
  }
  target to;
  int32_t status = locate_here(handle, &to, error_out);
  if (status != NETMON_OK) return status;
  if (to.copy != NULL) return to.copy->phase_begin(to.inner, name, phase_out, error_out);
  sigset_t before;
  enter_go(&before);
  status = goNetmonPhaseBegin(to.inner, (char *)name, strnlen(name, NETMON_MOST_NAME + 1), phase_out, error_out);
  leave_go(&before);
  return status;
}

// The values of a netmon_phase behind its first 8 bytes are 8 bytes each.
static void hand_phase(const netmon_phase *from, netmon_phase *phase_inout) {
  if (phase_inout == NULL) return;
  size_t size = phase_inout->struct_size < sizeof *from ? phase_inout->struct_size : sizeof *from;
  const size_t first = offsetof(netmon_phase, verdict);
  memcpy((char *)phase_inout + first, (const char *)from + first, (size & ~(size_t)7) - first);
}

int32_t netmon_phase_end(netmon_handle handle, uint64_t phase, netmon_phase *phase_inout, char **error_out) {
  if (error_out != NULL) *error_out = NULL;
  if (phase_inout != NULL && phase_inout->struct_size < offsetof(netmon_phase, duration_ns)) {
    return netmon_fail(error_out, NETMON_ERR_INVALID_ARGUMENT, "phase_inout: struct_size is %u; set it to sizeof(netmon_phase)",
                       phase_inout->struct_size);
  }
  netmon_phase of;
  memset(&of, 0xff, sizeof of); // unknown
  of.verdict = NETMON_VERDICT_UNKNOWN;
  target to;
  int32_t status = phase == 0 ? NETMON_OK : locate_here(handle, &to, error_out);
  if (phase != 0 && status == NETMON_OK) {
    if (to.copy != NULL) return to.copy->phase_end(to.inner, phase, phase_inout, error_out);
    sigset_t before;
    enter_go(&before);
    status = goNetmonPhaseEnd(to.inner, phase, &of, error_out);
    leave_go(&before);
  }
  hand_phase(&of, phase_inout);
  return status;
}

int32_t netmon_latest(netmon_handle handle, netmon_snapshot *snapshot_inout) {
  if (snapshot_inout == NULL || snapshot_inout->struct_size < offsetof(netmon_snapshot, sequence)) {
    return NETMON_ERR_INVALID_ARGUMENT;
  }
  entry *e = find(handle);
  int32_t status;
  if (e == NULL) {
    status = was_issued(handle) ? NETMON_ERR_CLOSED : NETMON_ERR_INVALID_ARGUMENT;
  } else {
    const netmon_api *copy = atomic_load(&e->copy);
    netmon_handle inner = atomic_load(&e->inner);
    uint32_t slot = atomic_load(&e->slot);
    if (atomic_load(&e->handle) != handle) {
      status = NETMON_ERR_CLOSED; // given up, and perhaps taken for another handle, while it was read
    } else {
      status = copy != NULL ? copy->latest(inner, snapshot_inout) : netmon_slot_read(slot, handle, snapshot_inout);
    }
  }
  if (status != NETMON_OK) netmon_snapshot_unknown(snapshot_inout);
  return status;
}

int32_t netmon_close(netmon_handle handle) {
  if (handle == 0) return NETMON_OK;
  if (find(handle) == NULL) return was_issued(handle) ? NETMON_OK : NETMON_ERR_INVALID_ARGUMENT;
  // The parent's monitor goes on; this process has none to close.
  if (netmon_process_is_fresh_child()) return NETMON_OK;
  netmon_process process;
  if (netmon_process_enter(&process, NULL) != NETMON_OK) return NETMON_OK;

  netmon_process_lock();
  entry *e = find(handle);
  if (e == NULL || e->generation != process.generation) {
    netmon_process_unlock();
    return NETMON_OK;
  }
  const netmon_api *copy = atomic_load(&e->copy);
  netmon_handle inner = atomic_load(&e->inner);
  uint32_t slot = atomic_load(&e->slot);
  // In this order: a child that is forked in between either has the handle with its configuration or has it not.
  atomic_store(&e->handle, 0);
  char *config = e->config;
  e->config = NULL;
  netmon_process_unlock();
  free(config);
  return copy != NULL ? copy->close(inner) : close_here(handle, slot);
}
