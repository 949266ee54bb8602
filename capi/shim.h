// shim.h: what the C files of this folder and the Go half say to each other. Nothing here is exported.

#ifndef NETMON_SHIM_H
#define NETMON_SHIM_H

#include <signal.h>
#include <stddef.h>

#include "../include/netmon.h"

// Monitors that one process can have open at once.
#define NETMON_MOST_MONITORS 64
// The longest name of a phase.
#define NETMON_MOST_NAME 64u
// The longest configuration, job or request text.
#define NETMON_MOST_TEXT (1u << 20)
// The longest request that holds the digests of a job.
#define NETMON_MOST_DIGESTS_TEXT (8u << 20)

// A call that waits: of netmon_probe, of netmon_bandwidth. It enters Go again and again, for a tenth of a second each: asynchronous
// signals are held back in there, and the host must be able to be interrupted.
typedef struct netmon_waiting {
  uint64_t request; // 0: not begun
  int64_t left_ns;  // to wait at most
  int64_t goes_on;  // enter again
} netmon_waiting;

// The Go half (exports.go). Every one turns a panic into NETMON_ERR_INTERNAL. id is the handle; text has the given length.
int32_t goNetmonInit(uint64_t id, uint32_t slot, char *config, size_t length, char **error_out);
int32_t goNetmonClose(uint64_t id);
int32_t goNetmonSample(uint64_t id, char **json_out, char **error_out);
int32_t goNetmonQuery(uint64_t id, char *request, size_t length, char **json_out, char **error_out);
int32_t goNetmonProbe(uint64_t id, char *request, size_t length, netmon_waiting *waiting, char **json_out, char **error_out);
int32_t goNetmonBandwidth(uint64_t id, char *request, size_t length, netmon_waiting *waiting, char **json_out,
                          char **error_out);
int32_t goNetmonSetJob(uint64_t id, char *job, size_t length, char **error_out);
int32_t goNetmonCollectiveGroup(uint64_t id, char *group, size_t length, uint32_t *group_out, char **error_out);
int32_t goNetmonDigest(uint64_t id, void *buffer, uint32_t capacity, uint32_t *length_out, char **error_out);
int32_t goNetmonAggregate(uint64_t id, char *request, size_t length, char **json_out, char **error_out);

int32_t goNetmonPhaseBegin(uint64_t id, char *name, size_t length, uint64_t *phase_out, char **error_out);
int32_t goNetmonPhaseEnd(uint64_t id, uint64_t phase, netmon_phase *phase_out, char **error_out);

// snapshot.c: the shared region that netmon_latest reads. Slots hold a snapshot each.

// Reserves a slot for a monitor; NETMON_NO_SLOT when all are taken, NETMON_NO_REGION where there are none.
enum { NETMON_NO_SLOT = -1, NETMON_NO_REGION = -2 };
int netmon_slot_take(void);
// Says whose snapshot the slot holds; readers of other handles find nothing there. 0 closes it.
void netmon_slot_own(uint32_t slot, uint64_t owner);
// Gives a slot back when nothing writes to it any more.
void netmon_slot_release(uint32_t slot);
// Publishes a snapshot. One writer a slot at a time.
void netmon_slot_publish(uint32_t slot, const netmon_snapshot *snapshot);
// Copies the newest snapshot, at most struct_size bytes of it. Never waits.
int32_t netmon_slot_read(uint32_t slot, uint64_t owner, netmon_snapshot *snapshot_inout);
// Sets all values within struct_size to unknown.
void netmon_snapshot_unknown(netmon_snapshot *snapshot_inout);

// collectives.c: a ring of records per slot, which its monitor drains.

// The highest number of a group: a monitor has 1,024 at a time, and gives no number twice.
#define NETMON_MOST_GROUP INT32_MAX
// Empties the slot's ring for a new owner, before anybody else knows its handle.
void netmon_ring_reset(uint32_t slot);
// Opens the slot's ring to its owner, and makes it where there is none yet. Returns NETMON_OK, or NETMON_ERR_RESOURCES.
int32_t netmon_ring_open(uint32_t slot, uint64_t owner);
// Puts records of an owner into the slot's ring. Never waits.
int32_t netmon_ring_put(uint32_t slot, uint64_t owner, const netmon_collective *records, uint32_t count);
// Takes an owner's records out of the slot's ring, at most so many, and adds to *lost_out how many are gone. One caller a slot at
// a time. now_ns tells how long one that was begun has not been written.
uint32_t netmon_ring_drain(uint32_t slot, uint64_t owner, uint64_t now_ns, netmon_collective *records_out, uint32_t most,
                           uint64_t *lost_inout);
// Notes what of an owner's is under way: the oldest, and how many; NULL for nothing. Never waits.
int32_t netmon_ring_tell(uint32_t slot, uint64_t owner, const netmon_collective *oldest_or_null, uint32_t count);
// Reads that; 0: its owner has told nothing. An op of 0: nothing is under way.
int netmon_ring_pending(uint32_t slot, uint64_t owner, netmon_collective *oldest_out, uint32_t *count_out);

// signals.c

// Blocks asynchronous signals in the calling thread: their handlers must not run on a goroutine's small stack.
void netmon_signals_block(sigset_t *before);
// Gives the thread the mask it had, also where Go changed it.
void netmon_signals_restore(const sigset_t *before);
// Adds SA_ONSTACK to handlers of the signals that Go cannot be kept from receiving.
void netmon_signals_mend(void);

// process.c: forked children.

// The functions of a library: this one, or a private copy of it.
typedef struct netmon_api {
  int32_t (*init)(const char *, netmon_handle *, char **);
  int32_t (*close)(netmon_handle);
  int32_t (*set_job)(netmon_handle, const char *, char **);
  int32_t (*sample)(netmon_handle, char **, char **);
  int32_t (*latest)(netmon_handle, netmon_snapshot *);
  int32_t (*query)(netmon_handle, const char *, char **, char **);
  int32_t (*probe)(netmon_handle, const char *, char **, char **);
  int32_t (*bandwidth)(netmon_handle, const char *, char **, char **);
  int32_t (*collective_group)(netmon_handle, const char *, uint32_t *, char **);
  int32_t (*collectives_record)(netmon_handle, const netmon_collective *, uint32_t);
  int32_t (*digest)(netmon_handle, void *, uint32_t, uint32_t *, char **);
  int32_t (*aggregate)(netmon_handle, const char *, char **, char **);
  int32_t (*collective_pending)(netmon_handle, const netmon_collective *, uint32_t);
  int32_t (*phase_begin)(netmon_handle, const char *, uint64_t *, char **);
  int32_t (*phase_end)(netmon_handle, uint64_t, netmon_phase *, char **);
} netmon_api;

// Where calls go in this process.
typedef struct netmon_process {
  const netmon_api *copy; // the private copy of a forked child, NULL for this library's own Go half
  uint32_t generation;    // number of forks between the process that loaded the library and this one, as far as noticed
} netmon_process;

// Finds out where calls go, loading the private copy where this process was forked. Returns NETMON_OK, or NETMON_ERR_FORKED
// with a sentence.
int32_t netmon_process_enter(netmon_process *process_out, char **error_out);
// Tells whether this process was forked and has not been entered yet, or not with success.
int netmon_process_is_fresh_child(void);
// Tells whether memory may be allocated: not in a child made by _Fork or clone, where another thread of the parent may have
// been in the allocator, which nothing puts in order then.
int netmon_process_may_allocate(void);
// Guards the handle table within this process; a child starts with it free whatever its parent was doing.
void netmon_process_lock(void);
void netmon_process_unlock(void);

// nvml.c: the NVIDIA library.

// A sentence, empty for none.
typedef struct netmon_reason {
  char text[240];
} netmon_reason;

// What the library says of a GPU that has NVLinks.
typedef struct netmon_gpu {
  uint64_t receive_kib, transmit_kib; // of all links, where no_data is empty
  int32_t index, links_active;        // -1: not known
  char uuid[96];                      // empty where it is not told
  netmon_reason no_data;
} netmon_gpu;

// Opens the library, or says why not and returns 0. May wait for the driver.
int32_t netmon_nvml_open(netmon_reason *reason_out);
// Reads at most so many GPUs and returns how many; -1 with a reason, after which the library has to be opened anew. May wait for
// the driver.
int32_t netmon_nvml_read(netmon_gpu *gpus_out, int32_t most, netmon_reason *reason_out);
// spawn.c: programs that the host does not see as its children.

// A program that was started, with its keeper.
typedef struct netmon_running netmon_running;

// Starts a program. words are texts of length bytes together, each ended by a zero byte: path, arguments, variables. The program
// ends with the calling thread. Returns 0 or an errno.
int netmon_spawn(const char *words, size_t length, uint32_t arguments, uint32_t variables, int output, int errors,
                 netmon_running **running_out);
// Tells whether it has ended; then r is no more. error_out: the errno that kept it from being started. status_out: its exit status,
// or the signal that ended it with a minus; NETMON_NO_STATUS where somebody ended its keeper.
enum { NETMON_NO_STATUS = -1000 };
int netmon_spawn_ended(netmon_running *r, int *error_out, int *status_out);
// Kills it, with all it started. Does not wait.
void netmon_spawn_kill(netmon_running *r);

// netmon.c

// Writes a sentence to *error_out, if there is one, and returns status.
int32_t netmon_fail(char **error_out, int32_t status, const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif
