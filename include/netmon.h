// netmon.h: what the network of this machine does, measured from inside a training job.
//
// 1. Introduction
//
// A monitor samples the kernel's counters of one network namespace in the background (default: once a second) and on demand:
// interfaces, TCP, UDP, IP and sockets. It prints nothing and needs no privilege; samples never wait for the network. It probes
// the training job's peers and the targets it is given, and nobody else: without them it sends no packet, but to the system's
// resolver where the job's master_address is a name. It opens a port only where "udp_responder" or "bandwidth_server" asks for
// one, and makes load only where netmon_bandwidth does.
// Link with -lnetmon (pkg-config netmon; find_package(netmon)).
//
//     netmon_handle monitor;
//     char *error = NULL;
//     if (netmon_init(NULL, &monitor, &error) != NETMON_OK) {
//         fprintf(stderr, "%s\n", error);
//         netmon_free(error);
//         return 1;
//     }
//     char *json = NULL;
//     if (netmon_sample(monitor, &json, NULL) == NETMON_OK) {
//         puts(json);
//         netmon_free(json);
//     }
//     netmon_close(monitor);
//
// Rules that hold for every function unless its comment says otherwise:
//
// - It may be called from any thread at any time, also while another thread closes the monitor, but not from a signal handler
//   (netmon_latest may). It never blocks for longer than 0.1 s, but for netmon_probe and netmon_bandwidth, which wait as long as
//   they are told.
// - It returns a status: NETMON_OK (0) or a negative NETMON_ERR_ value.
// - Out-parameters are set to zero or NULL first. Text handed out is UTF-8, ends with a zero byte, belongs to the caller and
//   is freed with netmon_free.
// - error_out may be NULL; else, on failure, it receives a sentence that says what was wrong (the key or argument by name),
//   where, and what would be right. On success it is NULL.
// - Nothing is read or written beyond a struct's struct_size.
// - Forked children: netmon_latest, netmon_free, netmon_version and netmon_abi_version work and read what the parent publishes;
//   netmon_close on an inherited handle returns NETMON_OK and does nothing. The first other call loads a private copy of the
//   library into the child (about 10 ms, once), because the Go runtime of the parent does not survive a fork; an inherited
//   handle is opened there anew with its configuration, so its totals start at zero. Where that is refused the call returns
//   NETMON_ERR_FORKED with a sentence, at once; after 3 s where a thread of the parent had the dynamic loader locked. Children
//   made by _Fork or clone instead of fork always get that answer: the C library itself does not survive in them.
// - After the library was loaded, SIGPIPE is handled as it was before, and no signal is left blocked or unblocked. Handlers
//   without SA_ONSTACK are given that flag for signals that cannot be kept from the library's threads: SIGPROF, SIGCHLD,
//   SIGURG, SIGSTKFLT and 34 (SIGRTMIN), at every call and every sample while a monitor is open; and once, at load, SIGILL,
//   SIGTRAP, SIGSYS and SIGABRT. All others keep their flags.
//
// The JSON documents are described in docs/metrics.md, what stays the same over versions in docs/abi.md.
// Units: _ns nanoseconds, _bytes bytes, _per_second per second, _ratio 0 to 1.

#ifndef NETMON_H
#define NETMON_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define NETMON_API __attribute__((visibility("default")))
#else
#define NETMON_API
#endif

// 2. Versions

#define NETMON_VERSION "0.1.0"
// Raised only when programs built against an older header would break.
#define NETMON_ABI_VERSION 1

// netmon_abi_version returns the NETMON_ABI_VERSION the library was built with. Since 0.1.
NETMON_API int32_t netmon_abi_version(void);

// netmon_version returns the library's version, as "0.1.0". The text is static and not freed. Since 0.1.
NETMON_API const char *netmon_version(void);

// 3. Status values: fixed, only appended

#define NETMON_OK 0
#define NETMON_ERR_INVALID_ARGUMENT (-1) // a NULL argument, a handle never issued, or a request that is not understood
#define NETMON_ERR_CONFIG (-2)           // anything wrong in configuration or job text
#define NETMON_ERR_CLOSED (-3)           // the handle was issued and closed
#define NETMON_ERR_FORKED (-4)           // not possible in this forked child
#define NETMON_ERR_TIMEOUT (-5)
#define NETMON_ERR_PERMISSION (-6)
#define NETMON_ERR_UNREACHABLE (-7)
#define NETMON_ERR_UNSUPPORTED (-8)
#define NETMON_ERR_NO_DATA (-9)    // nothing is published
#define NETMON_ERR_RESOURCES (-10) // no memory, descriptor, thread or monitor left
#define NETMON_ERR_INTERNAL (-11)  // a defect of this library, described in the sentence

// 4. Monitors

// A netmon_handle names a monitor. 0 is never valid, and no value is used twice in a process.
typedef uint64_t netmon_handle;

// netmon_init starts a monitor of the calling thread's network namespace. Its first sample is taken and published on return.
//
// config_json is NULL, "" or a JSON object of at most 1 MiB with any of these keys; null as a value means the default:
//   "interval_seconds"  number, 0.01 to 3600, default 1: time between two samples of the background loop
//   "interfaces"        list of glob patterns such as ["eth*", "!docker*"]: which interfaces count in totals; loopback only if
//                       it is named. Default: those with hardware behind them, in a container its own
//   "sources"           list of what is read, of "interfaces", "tcp", "udp", "ip", "sockets", "probes", "peers", "rdma",
//                       "collectives", "pcie", "nvlink"; default all
//   "targets"           list of at most 256 strings: whom to probe beside the training peers (section 7)
//   "probe_interval_seconds"  number, 0.02 to 3600, default 1: time between two probes of one target
//   "probe_timeout_seconds"   number, 0.01 to 60, default 1: a probe without an answer is lost after it
//   "udp_responder"     true, or an object such as {"address": "127.0.0.1", "port": 29541}: answer the UDP echoes of other
//                       monitors. true means loopback and port 29541; an address that others reach has to be named. Default:
//                       no port is opened
//   "bandwidth_server"  true, or an object such as {"address": "127.0.0.1", "port": 29542}: serve other monitors' bandwidth tests
//                       (section 8). true means loopback and port 29542. Default: no port is opened
//   "cluster_interval_seconds"  number, 0.1 to 3600, default 2: time between two digests (section 10), which tells others when this
//                       process is late
//   "alerts"            list of at most 64 rules that samples of the loop are held against (docs/alerts.md): objects with "metric"
//                       (named as in the view "stats", section 6), one of "above" and "below" (number), and any of "clear"
//                       (number, default the same: the alert is over there), "for_seconds" (0 to 86400, default 0), "name",
//                       "severity" ("info", "warning", "critical"; default "warning"), and of a counter "increase" or "rate"
//                       (true: what it grew by since the sample before, or that per second). The view "alerts" tells of them
//   "job"               object as for netmon_set_job
// A key may be given once.
// handle_out receives the handle, 0 on failure.
//
// Returns NETMON_OK, _ERR_INVALID_ARGUMENT (handle_out is NULL), _ERR_CONFIG, _ERR_RESOURCES (64 monitors are open, or no
// descriptor is left), _ERR_FORKED, _ERR_INTERNAL. Since 0.1.
NETMON_API int32_t netmon_init(const char *config_json, netmon_handle *handle_out, char **error_out);

// netmon_close stops a monitor; other threads' calls that are under way end with NETMON_OK or _ERR_CLOSED. Closing 0, or
// closing twice, is NETMON_OK. Waits at most 0.1 s.
//
// Returns NETMON_OK, _ERR_INVALID_ARGUMENT (never issued). Since 0.1.
NETMON_API int32_t netmon_close(netmon_handle handle);

// netmon_set_job tells a monitor what became known of the training job after netmon_init: a JSON object with any of "rank",
// "local_rank", "world_size", "local_world_size", "node_rank", "master_port" (whole numbers), "master_address", "source"
// (strings), "peers" (a list of the ranks' hosts, as "10.0.0.2" or {"rank": 1, "address": "10.0.0.2"}) and "environment" (an
// object of environment variables, which replaces those read before). Keys that are given replace what was known; others stay.
// The master and the peers are probed, but for this host's own addresses. "targets" (not in the configuration's "job") replaces
// the configuration's: whom to probe beside them from now on. What is known of a target that stays is kept.
//
// Returns NETMON_OK, _ERR_INVALID_ARGUMENT, _ERR_CONFIG, _ERR_CLOSED, _ERR_FORKED, _ERR_INTERNAL. Since 0.1.
NETMON_API int32_t netmon_set_job(netmon_handle handle, const char *job_json, char **error_out);

// 5. Samples

// netmon_sample measures now and hands out the sample document ("schema": "netmon.sample/1"). Rates cover the time since the
// newest sample of the loop that is at least half an interval old. Reads local counters only.
//
// Returns NETMON_OK, _ERR_INVALID_ARGUMENT, _ERR_CLOSED, _ERR_FORKED, _ERR_RESOURCES (no memory), _ERR_INTERNAL. Since 0.1.
NETMON_API int32_t netmon_sample(netmon_handle handle, char **json_out, char **error_out);

// netmon_free frees text that the library handed out. NULL is fine. Since 0.1.
NETMON_API void netmon_free(char *text);

// What a value of a netmon_snapshot is when it was not measured: this for counts, NaN for ratios and rates. Never zero.
#define NETMON_UNKNOWN_U64 UINT64_MAX

// The values of the loop's newest sample that programs read often. The struct grows only at its end.
typedef struct netmon_snapshot {
  uint32_t struct_size; // set by the caller to sizeof(netmon_snapshot); at least 8
  uint32_t reserved;
  uint64_t sequence;                        // number of the sample, from 1
  uint64_t wall_time_ns;                    // since 1970-01-01 UTC
  uint64_t monotonic_time_ns;               // CLOCK_MONOTONIC
  uint64_t window_ns;                       // what the rates cover: the time since the loop's previous sample
  uint64_t receive_bytes_total;             // counted interfaces, since netmon_init
  uint64_t transmit_bytes_total;            //
  double receive_bytes_per_second;          // counted interfaces
  double transmit_bytes_per_second;         //
  double primary_receive_bytes_per_second;  // the interface that routes to the master address, or holds the default route
  double primary_transmit_bytes_per_second; //
  uint64_t errors_in_window;                // receive and transmit errors of counted interfaces
  uint64_t drops_in_window;                 // receive and transmit drops of counted interfaces
  double tcp_retransmit_ratio;              // segments retransmitted / sent in the window; unknown when none was sent
  uint64_t tcp_established;                 // connections
  uint64_t rtt_p50_ns;                      // median of the round trips to all targets in the last 60 s
  double loss_ratio;                        // probes lost / sent in the last 60 s, all targets
  double utilization_ratio;                 // of the capacity of counted interfaces, in the busier direction
  uint64_t peer_connections;                // the job's own TCP connections: this process and its children
  double peer_sent_bytes_per_second;        // over them
  double peer_received_bytes_per_second;    //
  uint64_t peer_rtt_p50_ns;                 // median over the peers of the kernel's round trip estimate
  double peer_retransmit_ratio;             // segments (retransmitted - reported as duplicates) / sent to peers in the window
  double rdma_receive_bytes_per_second;     // all RDMA ports of this node
  double rdma_transmit_bytes_per_second;    //
  uint64_t transport_plane;                 // what carries the job's traffic: a NETMON_PLANE_ value
} netmon_snapshot;

// The values of transport_plane: the document's "plane" of "transport".
#define NETMON_PLANE_NONE 0     // nothing that can be seen
#define NETMON_PLANE_LOOPBACK 1 // TCP inside this node
#define NETMON_PLANE_TCP 2      // TCP over an interface
#define NETMON_PLANE_RDMA 3

// netmon_latest copies the newest sample's values as the background loop published them. It takes no lock, makes no system call
// and never waits; it may be called from signal handlers and forked children. Set snapshot_inout->struct_size first; it is not
// changed, nor is what lies beyond it. Values are written whole, as many as fit; those that this version does not know yet are
// left as they were. On failure of a call with a valid snapshot_inout all values are unknown and sequence is 0.
//
// Returns NETMON_OK, _ERR_INVALID_ARGUMENT (NULL, struct_size below 8, a handle never issued), _ERR_CLOSED, _ERR_NO_DATA (the
// writer was overtaken twice). Since 0.1.
NETMON_API int32_t netmon_latest(netmon_handle handle, netmon_snapshot *snapshot_inout);

// 6. Recorded samples

// netmon_query answers a request about what the loop recorded (the last 600 s, or 4 MiB). request_json is one of
//   {"view": "history", "seconds": 60, "after_sequence": 0, "limit": 256}
//       a list of sample documents, oldest first; the rest is fetched with the last one's sequence as "after_sequence"
//   {"view": "stats", "metric": "totals.receive_bytes_per_second", "seconds": 60}
//       an object: metric, window_seconds, count, min, max, mean, stddev, p50, p95, p99, in the metric's unit, null if count is
//       0. Metrics are named as in the document, interfaces and targets by name: "tcp.retransmit_ratio",
//       "interfaces.eth0.receive_drops_total", "probes.10.0.0.2.rtt_p50_seconds", "phases.weight_sync.count"
//   {"view": "collectives", "limit": 256}
//       an object: "groups" (name, size, source) and "recent", the records taken in last (section 9; at most 256), oldest first: op,
//       group, group_size, bytes, enter_seconds, duration_seconds, duration_error_seconds, sequence, end ("exact", "polled",
//       "bound", "unknown", "failed")
//   {"view": "fine", "seconds": 10, "interval_seconds": 0.02}
//       reads the counters of interfaces also between samples, for "seconds" (0 to 60, default 10; 0 ends it) every
//       "interval_seconds" (0.01 to 0.05, default 0.02): then samples have "receive_peak_bytes_per_second" and its like in
//       "totals". Asked again it goes on; where two ask, the later end and the shorter interval hold. The answer is an object
//       with these two keys, as they hold now
//   {"view": "alerts", "after_sequence": 0, "limit": 256, "events_only": false, "rules": [...]}
//       an object: "rules", each with its "state" ("off", "pending", "on"), the value measured last, and since when and why it is
//       not measured; "events" ("fired", "resolved") after that sequence, oldest first, at most 256; "events_total",
//       "events_dropped_total" (the newest 1,024 are kept), "sample_sequence". What was not measured neither fires nor resolves.
//       "rules", in the form of the configuration's "alerts", replaces them from now on: one that stays the same goes on as it
//       stands, and what is on of another is resolved. "events_only": true leaves the answer's "rules" null
//   {"view": "health"}
//       an object: status ("ok", "degraded"), problems, interval_seconds, uptime_seconds, cpu_seconds_total, samples_total,
//       dropped_total, probe_bytes_total, last_sample_age_seconds, history_samples, history_bytes, history_span_seconds,
//       events_total by class, and the newest events (counter resets and wraps, interfaces that appear, vanish, are renamed)
// All keys but "view" and "metric" may be left out.
//
// Returns NETMON_OK, _ERR_INVALID_ARGUMENT (also for a request that is not understood), _ERR_CLOSED, _ERR_FORKED,
// _ERR_RESOURCES, _ERR_INTERNAL. Since 0.1.
NETMON_API int32_t netmon_query(netmon_handle handle, const char *request_json, char **json_out, char **error_out);

// 7. Probes

// A monitor probes its targets in the background: the job's master and peers, and those of "targets". What comes of it is in the
// samples' "probes". A target is written as one of
//   "10.0.0.2"  "fe80::1%eth0"  "node7"      by the best method that works there: ICMP echo, else TCP
//   "node7:29500"  "[::1]:29500"             the same, with this TCP port
//   "icmp://node7"                           ICMP echo
//   "tcp://node7:29500"  "tcp://node7"       TCP handshake, or its refusal; without a port that of the job's master, else 7
//   "udp://node7:29541"  "udp://node7"       UDP echo to a monitor with "udp_responder"; default port 29541
//   "dns://node7"                            time to resolve the name by the system's resolver
//   "gateway"                                the default gateway
// Limits that no configuration lifts: 256 targets, 1000 probes a second, 20 ms between two probes of one target, 4 of them under way
// at a time, 64 bytes above IP and protocol headers (but for DNS questions, which are as long as their name, and 40 packets that
// look for a path's MTU).

// netmon_probe measures round trips to one target on demand, beside the background. request_json is one of
//   {"target": "10.0.0.2", "method": "auto", "count": 5, "timeout_seconds": 1, "interval_seconds": 0.02, "wait_seconds": 0.1}
//       starts probing and waits. All keys but "target" may be left out:
//       "method"            "auto" (default: the target's own, else the best that works), "icmp", "tcp", "udp", "dns", "path"
//       "count"             1 to 1000, default 1: probes; with "path" 1 to 10, default 3: probes per hop
//       "timeout_seconds"   0.01 to 60, default 1: a probe without an answer is lost after it
//       "interval_seconds"  0.02 to 60, default 0.02: the next probe goes out after an answer or timeout, and not before this time
//       "wait_seconds"      0 to 60; default: until all is done
//   {"id": 7, "wait_seconds": 0.1}
//       goes on waiting for a request that was started
//   {"id": 7, "cancel": true}
//       ends it
// The answer tells what there is so far: an object with "id", "done" (when true, the id holds no longer) and the fields of the
// document's "probes"; with "path" "target", "address", "method", "methods_refused", "hops" (a list of objects: "ttl", "address",
// "other_addresses", "sent", "received", "rtt_min_seconds", "rtt_p50_seconds", "error"), "reached", "path_mtu_bytes",
// "path_mtu_reason", "path_mtu_black_hole" and "error".
// What becomes of probes is in the answer, "error" included: a target that cannot be reached, refuses, or whose name does not
// resolve is NETMON_OK. At most 16 requests of a monitor are unfinished or not fetched; one that is finished and not fetched for
// 60 s is forgotten.
//
// Waits at most wait_seconds; when the monitor is closed meanwhile it returns NETMON_ERR_CLOSED at once. Signals are handled
// within 0.1 s; to be interrupted by them, wait in slices.
//
// Returns NETMON_OK, _ERR_INVALID_ARGUMENT (also for a request that is not understood, and an id that does not hold),
// _ERR_CLOSED, _ERR_FORKED, _ERR_RESOURCES (16 requests, no memory), _ERR_INTERNAL. Since 0.1.
NETMON_API int32_t netmon_probe(netmon_handle handle, const char *request_json, char **json_out, char **error_out);

// 8. Bandwidth tests

// netmon_bandwidth measures throughput with another host by filling the way there: traffic that somebody has to ask for in so many
// words, on both ends. request_json is one of
//   {"tool": "netmon", "target": "10.0.0.2", "direction": "transmit", "seconds": 2, "parallel": 1, "wait_seconds": 0.1}
//       starts a test and waits. All keys but "target" may be left out:
//       "tool"              "netmon" (default: a monitor with "bandwidth_server" at the target), "iperf3" (an iperf3 server there)
//                           or "speedtest-cli" (a server on the internet that it chooses; "target" may be the number of one)
//       "target"            an address or name, with a port where it is not the usual one: "10.0.0.2:29542"; netmon's port is
//                           29542, iperf3's 5201
//       "direction"         "transmit" (default), "receive" (both seen from here) or "both", one after the other (speedtest-cli's
//                           default)
//       "seconds"           0.1 to 10, default 2: of each direction; whole seconds for iperf3, not for speedtest-cli
//       "bytes"             1 to 17179869184, the default: a test of netmon's own ends when so many were sent in a direction
//       "parallel"          1 to 8, default 1: TCP connections; not for speedtest-cli
//       "program"           path of iperf3 or speedtest-cli; default: found on PATH
//       "timeout_seconds"   1 to 120: the test is ended, its program killed, after this time. Default: the seconds of all
//                           directions and 10; 90 for speedtest-cli
//       "wait_seconds"      0 to 60; default: until the test has ended
//   {"id": 7, "wait_seconds": 0.1}
//       goes on waiting for a test that was started
//   {"id": 7, "cancel": true}
//       ends it
// The answer tells what there is so far: an object with "id", "done" (when true, the id holds no longer) and "tests", a list with
// an object for each direction, as in the document's "bandwidth_tests" (the newest 16): "tool", "target", "direction", "parallel",
// "timestamp_seconds", "seconds", "bytes", "sender_bytes_per_second", "receiver_bytes_per_second", "segments_retransmitted",
// "rtt_seconds" and "error". The list is empty before the end. What goes wrong with a test is in "error", a sentence; the status
// is NETMON_OK then too.
//
// One test of a process runs at a time. Limits that no configuration lifts, on either end: 10 s, 16 GiB and 8 connections a
// direction; a server serves one test at a time and rests as long as it took. Programs run without a shell, in a session of
// their own, with no descriptor of this process but their output and with PATH, HOME, LANG=C and the variables that name proxies;
// they are killed, with all they started, at the timeout, by "cancel", by netmon_close, after 1 MiB of output, and when this
// process ends. They are no children that the host sees: no SIGCHLD, nothing for waitpid(-1).
//
// Waits at most wait_seconds; when the monitor is closed meanwhile it returns NETMON_ERR_CLOSED at once. Signals are handled
// within 0.1 s; to be interrupted by them, wait in slices. A test that ended and is not fetched for 60 s is forgotten.
//
// Returns NETMON_OK, _ERR_INVALID_ARGUMENT (also for a request that is not understood, and an id that does not hold),
// _ERR_CLOSED, _ERR_FORKED, _ERR_RESOURCES (another test of this process is under way, no memory), _ERR_INTERNAL. Since 0.1.
NETMON_API int32_t netmon_bandwidth(netmon_handle handle, const char *request_json, char **json_out, char **error_out);

// 9. Collectives

// A monitor keeps account of the collectives that a training job runs anyway: an integration, such as netmon.integrations.torch,
// records each when it has ended, and may tell what is under way for long. What comes of it is in the samples' "collectives",
// "collective_ratio", "collective_pending" and "self.collectives_dropped_total".

// What a record is of.
#define NETMON_COLLECTIVE_ALL_REDUCE 1
#define NETMON_COLLECTIVE_BROADCAST 2
#define NETMON_COLLECTIVE_REDUCE 3
#define NETMON_COLLECTIVE_ALL_GATHER 4
#define NETMON_COLLECTIVE_REDUCE_SCATTER 5
#define NETMON_COLLECTIVE_ALL_TO_ALL 6
#define NETMON_COLLECTIVE_GATHER 7
#define NETMON_COLLECTIVE_SCATTER 8
#define NETMON_COLLECTIVE_BARRIER 9
#define NETMON_COLLECTIVE_SEND 10
#define NETMON_COLLECTIVE_RECV 11
#define NETMON_COLLECTIVE_OTHER 12

// How the end of one is known.
#define NETMON_END_UNKNOWN 0 // not at all: duration_ns is NETMON_UNKNOWN_U64
#define NETMON_END_EXACT 1   // seen when it happened
#define NETMON_END_POLLED 2  // looked for again and again
#define NETMON_END_BOUND 3   // it had ended when somebody waited for it; duration_ns is too long, by duration_error_ns at most
#define NETMON_END_FAILED 4  // with an error: duration_ns is NETMON_UNKNOWN_U64

// One collective, as this process saw it. The struct grows only at its end.
typedef struct netmon_collective {
  uint32_t struct_size; // set by the caller to sizeof(netmon_collective)
  uint32_t op;          // NETMON_COLLECTIVE_
  uint32_t group;       // a number that netmon_collective_group wrote
  uint32_t end;         // NETMON_END_
  uint64_t bytes;       // the size S of nccl-tests: of the whole array, not of a rank's part of it
  uint64_t enter_ns;    // CLOCK_MONOTONIC, when this process called it
  uint64_t duration_ns; // from then until it was complete
  // By how much duration_ns may be wrong, NETMON_UNKNOWN_U64 where that is not known. Where it is more than a tenth of duration_ns,
  // and more than 2 ms or half of duration_ns, or not known and end is not NETMON_END_EXACT, the duration is taken for a bound: it is
  // in no quantile or speed.
  uint64_t duration_error_ns;
  uint64_t sequence; // of the call in its group, so that ranks can compare; NETMON_UNKNOWN_U64 for none
} netmon_collective;

// netmon_collective_group names a group of ranks, and writes the number that records of its collectives carry. group_json is an
// object with any of
//   "name"    text of at most 256 bytes: the group. The same name, size and source get the same number. "default_pg" is the group
//             of all ranks: by its collectives a view tells who waits for whom (section 10)
//   "size"    whole number from 1: ranks in the group; needed with "name"
//   "source"  text of at most 64 bytes: who records, as "torch hooks"
//   "ended"   true: there will be no more of that group's collectives, and the number written is 0. It makes room, for another
//             group and in "collectives", where that is needed; until then its records are taken. No number is given twice
//   "unseen"  text of at most 1024 bytes: what that source does not see; it is told in the samples' "unavailable"
//   "watching"  false: nobody records collectives any more
//   "complete_ns", "looks", "busy_looks"  who records some time after the end, or not when each ended, says so now and then:
//             CLOCK_MONOTONIC up to when all that has ended is recorded; how often it was looked, at moments that have nothing to do
//             with the job, whether a collective is under way, and how often one was. "collective_ratio" is then of the time that is
//             complete, or, where not all ends are known, of the looks of the last 60 s
// Without "name" the number written is 0, and samples say from then on that collectives are watched.
//
// Returns NETMON_OK, _ERR_INVALID_ARGUMENT (also for an object that is not understood), _ERR_UNSUPPORTED ("collectives" is not in
// the configuration's sources), _ERR_RESOURCES (1024 groups are named and have not ended, or no memory), _ERR_CLOSED, _ERR_FORKED,
// _ERR_INTERNAL. Since 0.1.
NETMON_API int32_t netmon_collective_group(netmon_handle handle, const char *group_json, uint32_t *group_out, char **error_out);

// netmon_collectives_record records count collectives that have ended, or whose end will not be known. It takes no lock, makes no
// system call and never waits, whatever the monitor is doing. There is room for 4096 records, which samples, and the monitor once a
// second, take out: those that are overwritten before are counted in "self.collectives_dropped_total". All records of a call have
// the struct_size of the first.
//
// Returns NETMON_OK, _ERR_INVALID_ARGUMENT (NULL, a struct_size below 56 or not a multiple of 8, an op, group or end that there is
// not: the records before it are recorded; a handle never issued), _ERR_CLOSED, _ERR_FORKED (this child was forked, and did not
// use the handle otherwise yet). Since 0.1.
NETMON_API int32_t netmon_collectives_record(netmon_handle handle, const netmon_collective *records, uint32_t count);

// netmon_collective_pending tells what is under way and has not ended: the oldest, and how many. Samples show it in
// "collective_pending", for longer and longer, until the next call of this: call it again when the oldest has ended, with NULL and
// 0 where nothing is under way any more. Of the struct op, group, bytes, enter_ns and sequence are read. It takes no lock, makes no
// system call and never waits; of calls at the same time one counts.
//
// Returns NETMON_OK, _ERR_INVALID_ARGUMENT (NULL with a count above 0 or the other way round, a struct_size below 56 or not a
// multiple of 8, an op or group that there is not, an enter_ns above INT64_MAX, no group named yet; a handle never issued),
// _ERR_CLOSED, _ERR_FORKED (this child was forked, and did not use the handle otherwise yet). Since 0.1.
NETMON_API int32_t netmon_collective_pending(netmon_handle handle, const netmon_collective *oldest_or_null,
                                             uint32_t count_pending);

// 10. The whole job

// Every process of a job says in a digest what it knows of itself and its node. Digests travel by whatever the job has: a store, an
// actor, MPI. Any process makes one view of all of them. Nothing here sends a packet or waits for another process;
// docs/cluster.md describes the view.

// The longest digest.
#define NETMON_DIGEST_BYTES 512

// netmon_digest writes what this process has to say of itself and its node to buffer, and how many bytes that are to *length_out: at
// most NETMON_DIGEST_BYTES, of a binary form that may hold zero bytes. Rates in it cover the time since the digest before, at least
// a second of it, as far as the loop has sampled; two who ask for digests of one monitor share that. Reads only what the loop and
// the records of collectives have brought. Of many peers and collectives those are told of that matter most.
// On failure nothing is written to buffer; *length_out is 0, or, where capacity was too small, the capacity that is enough.
//
// Returns NETMON_OK, _ERR_INVALID_ARGUMENT (NULL, or a capacity below the digest's length: NETMON_DIGEST_BYTES is always enough),
// _ERR_CLOSED, _ERR_FORKED, _ERR_INTERNAL. Since 0.1.
NETMON_API int32_t netmon_digest(netmon_handle handle, void *buffer, uint32_t capacity, uint32_t *length_out, char **error_out);

// netmon_aggregate makes one view ("schema": "netmon.cluster/1") of the digests of a job's processes. The monitor remembers what it
// was given before, and so tells which processes are late, gone, restarted or new; always give it all digests there are, the old
// ones too, the newest of each process. request_json is an object of at most 8 MiB with any of
//   "digests"     list of digests in base64, at most 8192
//   "engine"      text of at most 64 bytes: how they came, as "c10d store"
//   "rank"        whole number: of the process that asks
//   "world_size"  whole number: ranks of the job; those that never said anything are "missing". Default: what digests say
//   "gone"        list of ranks that are known to have ended
// A digest that is not understood is left out; "unavailable" of the view says how many, and what is wrong with the first. At most
// 4096 processes are remembered.
//
// Returns NETMON_OK, _ERR_INVALID_ARGUMENT (also for a request that is not understood), _ERR_CLOSED, _ERR_FORKED, _ERR_RESOURCES (no
// memory), _ERR_INTERNAL. Since 0.1.
NETMON_API int32_t netmon_aggregate(netmon_handle handle, const char *request_json, char **json_out, char **error_out);

// 11. Phases

// A phase is a part of the job that is given a name, as "weight_sync" or "forward": how much of what the network did belongs to it,
// and whether the link held it up. Begin and end read the counters, so its bytes are exact however short it is, and take 20 to 60
// us each. Phases may be nested, overlap, and be of any thread; each counts all that moved meanwhile, whoever moved it. What
// comes of all phases of a name is in the samples' "phases"; docs/phases.md says how it is measured.

// The values of verdict: what the network has to do with the time a phase took.
#define NETMON_VERDICT_UNKNOWN 0        // that cannot be told; the samples' "unavailable" says why
#define NETMON_VERDICT_IDLE 1           // hardly anything moved
#define NETMON_VERDICT_SOFTWARE_BOUND 2 // data moved, and the link had room for more
#define NETMON_VERDICT_LINK_BOUND 3     // there was more to move than the link took

// The numbers of one phase. What is not known is NETMON_UNKNOWN_U64, or NaN. The struct grows only at its end.
typedef struct netmon_phase {
  uint32_t struct_size;    // set by the caller to sizeof(netmon_phase); at least 8
  uint32_t verdict;        // NETMON_VERDICT_
  uint64_t duration_ns;    // CLOCK_MONOTONIC
  uint64_t receive_bytes;  // counted interfaces
  uint64_t transmit_bytes; //
  uint64_t tcp_bytes;      // of this process's own connections to other hosts, both directions
  uint64_t loopback_bytes; // of those inside this host
  uint64_t rdma_bytes;     // all RDMA ports of this node, both directions; mostly known later only, in samples
  uint64_t segments_sent;  // TCP, of the network namespace
  uint64_t segments_retransmitted;
  double retransmit_ratio;
  double utilization_ratio;        // of the capacity, mean of the direction that moved more
  double peak_bytes_per_second;    // highest rate of a direction in some 20 ms
  double peak_ratio;               // of the capacity
  double busy_ratio;               // share of the time in which the link carried 1 % of the rate it was seen to carry
  double full_ratio;               // ... 80 % of the capacity
  double plateau_bytes_per_second; // the rate at which the direction that moved more stayed longest
  double steady_ratio;             // share of the time in which it did
  double waiting_ratio;            // share of the time in which own connections had data that the network did not take
} netmon_phase;

// netmon_phase_begin begins a phase, and writes the number that ends it; 0, which ends nothing, where it was not begun. name is
// UTF-8 text of 1 to 64 bytes without control characters. At most 64 names are used and 256 phases are under way. What keeps
// one from beginning is told by health too, so that nobody has to look at the status.
// It waits for a sample under way, 0.1 s at most; then the phase has its time, and no bytes.
//
// Returns NETMON_OK, _ERR_INVALID_ARGUMENT (NULL, a name that cannot be one, a handle never issued), _ERR_RESOURCES (names or
// phases are too many), _ERR_CLOSED, _ERR_FORKED (this child was forked, and did not use the handle otherwise yet), _ERR_INTERNAL.
// Since 0.1.
NETMON_API int32_t netmon_phase_begin(netmon_handle handle, const char *name, uint64_t *phase_out, char **error_out);

// netmon_phase_end ends a phase, from any thread, and writes its numbers where phase_inout is not NULL: as many as fit into its
// struct_size. On failure all are unknown. Phase 0 is NETMON_OK, and unknown.
//
// Returns NETMON_OK, _ERR_INVALID_ARGUMENT (no phase of this number is under way, struct_size below 8, a handle never issued),
// _ERR_CLOSED, _ERR_FORKED (as above), _ERR_INTERNAL. Since 0.1.
NETMON_API int32_t netmon_phase_end(netmon_handle handle, uint64_t phase, netmon_phase *phase_inout, char **error_out);

#ifdef __cplusplus
}
#endif

#endif // NETMON_H
