// netmon.hpp: netmon.h for C++17, in one header.
//
// 1. Introduction
//
// What each call does, which keys a configuration has and what a forked child gets is told in netmon.h, the manual; this header
// gives it owners, types and units: a monitor closes itself, text frees itself, durations are std::chrono, what was not
// measured is an empty std::optional.
//
//     auto monitor = netmon::Monitor::init(R"({"interval_seconds": 0.5})");
//     if (!monitor) {
//       std::cerr << monitor.error().sentence() << '\n';
//       return 1;
//     }
//     if (auto sample = monitor->sample()) std::cout << sample->view() << '\n';
//     if (auto latest = monitor->latest(); latest && latest->receive_bytes_per_second) {
//       std::cout << *latest->receive_bytes_per_second << " bytes/s\n";
//     }
//
// Rules that hold for everything here:
//
// - Nothing throws, but one constructor, which says so. Failures are values: see Result.
// - Calls on one Monitor may be made from any thread at any time, also while another thread calls close. Moving or destroying
//   it while another thread uses it is an error, as for any object.
// - Link with -lnetmon (pkg-config netmon; find_package(netmon), target netmon::netmon). It compiles without exceptions and
//   without run-time type information.

#ifndef NETMON_HPP
#define NETMON_HPP

#include <netmon.h>

#include <chrono>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

namespace netmon {

// 2. Versions

// version is the library's, as "0.1.0". Since 0.1.
inline std::string_view version() noexcept { return netmon_version(); }

// abi_version is the NETMON_ABI_VERSION the library was built with. Since 0.1.
inline std::int32_t abi_version() noexcept { return netmon_abi_version(); }

// 3. Text

// Text is what the library handed out: UTF-8, freed with its owner. Move-only. Since 0.1.
class Text {
public:
  Text() noexcept = default;
  // Takes over text that a function of netmon.h handed out; nullptr is an empty text.
  explicit Text(char *text) noexcept : text_(text) {}

  // The text without the zero byte at its end. Valid as long as this object.
  std::string_view view() const noexcept { return text_ ? std::string_view(text_.get()) : std::string_view(); }
  operator std::string_view() const noexcept { return view(); }

  // The text with a zero byte at its end. Valid as long as this object.
  const char *c_str() const noexcept { return text_ ? text_.get() : ""; }

  bool empty() const noexcept { return view().empty(); }

private:
  struct Free {
    void operator()(char *text) const noexcept { netmon_free(text); }
  };
  std::unique_ptr<char, Free> text_;
};

// Digest is what netmon_digest wrote: bytes that may be zero. Since 0.1.
class Digest {
public:
  // The bytes. Valid as long as this object.
  std::string_view view() const noexcept { return std::string_view(reinterpret_cast<const char *>(bytes_), length_); }
  operator std::string_view() const noexcept { return view(); }

  // The bytes in base64, as netmon_aggregate takes them.
  std::string base64() const {
    static constexpr char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string text;
    for (std::uint32_t i = 0; i < length_; i += 3) {
      const std::uint32_t left = length_ - i;
      const std::uint32_t word = static_cast<std::uint32_t>(bytes_[i]) << 16 |
                                 (left > 1 ? static_cast<std::uint32_t>(bytes_[i + 1]) << 8 : 0) |
                                 (left > 2 ? static_cast<std::uint32_t>(bytes_[i + 2]) : 0);
      text += letters[word >> 18];
      text += letters[word >> 12 & 63];
      text += left > 1 ? letters[word >> 6 & 63] : '=';
      text += left > 2 ? letters[word & 63] : '=';
    }
    return text;
  }

private:
  friend class Monitor;
  Digest() noexcept = default;

  unsigned char bytes_[NETMON_DIGEST_BYTES] = {};
  std::uint32_t length_ = 0;
};

// TextArgument is a text handed in: nullptr, "literal" or std::string. It ends at its first zero byte and is read during the
// call only. Since 0.1.
class TextArgument {
public:
  TextArgument() noexcept = default;
  TextArgument(std::nullptr_t) noexcept {}
  TextArgument(const char *text) noexcept : text_(text) {}
  TextArgument(const std::string &text) noexcept : text_(text.c_str()) {}

  const char *c_str() const noexcept { return text_; }

private:
  const char *text_ = nullptr;
};

// 4. Status and results

// Status has the values of netmon.h. More may be appended. Since 0.1.
enum class Status : std::int32_t {
  ok = NETMON_OK,
  invalid_argument = NETMON_ERR_INVALID_ARGUMENT,
  config = NETMON_ERR_CONFIG,
  closed = NETMON_ERR_CLOSED,
  forked = NETMON_ERR_FORKED,
  timeout = NETMON_ERR_TIMEOUT,
  permission = NETMON_ERR_PERMISSION,
  unreachable = NETMON_ERR_UNREACHABLE,
  unsupported = NETMON_ERR_UNSUPPORTED,
  no_data = NETMON_ERR_NO_DATA,
  resources = NETMON_ERR_RESOURCES,
  internal = NETMON_ERR_INTERNAL,
};

// name is the status in words, for example "closed". Since 0.1.
constexpr std::string_view name(Status status) noexcept {
  switch (status) {
  case Status::ok: return "ok";
  case Status::invalid_argument: return "invalid argument";
  case Status::config: return "wrong configuration";
  case Status::closed: return "closed";
  case Status::forked: return "not possible in a forked process";
  case Status::timeout: return "timeout";
  case Status::permission: return "permission denied";
  case Status::unreachable: return "unreachable";
  case Status::unsupported: return "unsupported";
  case Status::no_data: return "no data";
  case Status::resources: return "out of resources";
  case Status::internal: return "internal error";
  }
  return "unknown status";
}

// Error says why a call failed. Move-only. Since 0.1.
class Error {
public:
  explicit Error(Status status, Text sentence = Text()) noexcept : status_(status), sentence_(std::move(sentence)) {}

  Status status() const noexcept { return status_; }

  // What was wrong (the key or argument by name), where, and what would be right. Never empty; valid as long as this object.
  std::string_view sentence() const noexcept { return sentence_.empty() ? name(status_) : sentence_.view(); }

private:
  Status status_;
  Text sentence_;
};

// Result is what a call gives: a value, or an Error. Ask first, as of a pointer:
//
//     if (auto sample = monitor.sample()) use(*sample); else complain(sample.error());
//
// *result and result-> are undefined where there is no value, error() where there is one. Since 0.1.
template <class T>
class [[nodiscard]] Result {
public:
  Result(T value) noexcept : content_(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) noexcept : content_(std::in_place_index<1>, std::move(error)) {}

  bool has_value() const noexcept { return content_.index() == 0; }
  explicit operator bool() const noexcept { return has_value(); }

  T &operator*() &noexcept { return *std::get_if<0>(&content_); }
  const T &operator*() const &noexcept { return *std::get_if<0>(&content_); }
  T &&operator*() &&noexcept { return std::move(*std::get_if<0>(&content_)); }
  T *operator->() noexcept { return std::get_if<0>(&content_); }
  const T *operator->() const noexcept { return std::get_if<0>(&content_); }

  const Error &error() const noexcept { return *std::get_if<1>(&content_); }
  Status status() const noexcept { return has_value() ? Status::ok : error().status(); }

private:
  std::variant<T, Error> content_;
};

// The result of a call that gives nothing but success. Since 0.1.
template <>
class [[nodiscard]] Result<void> {
public:
  Result() noexcept = default;
  Result(Error error) noexcept : error_(std::move(error)) {}

  bool has_value() const noexcept { return !error_.has_value(); }
  explicit operator bool() const noexcept { return has_value(); }
  const Error &error() const noexcept { return *error_; }
  Status status() const noexcept { return has_value() ? Status::ok : error().status(); }

private:
  std::optional<Error> error_;
};

// Failure is what the constructor of Monitor throws; what() is the sentence. Since 0.1.
class Failure : public std::runtime_error {
public:
  explicit Failure(const Error &error) : std::runtime_error(std::string(error.sentence())), status_(error.status()) {}

  Status status() const noexcept { return status_; }

private:
  Status status_;
};

// 5. Snapshots

// Snapshot holds the values of the loop's newest sample that programs read often, as netmon_snapshot does. An empty value was
// not measured, or is not known to the library that is installed. Since 0.1.
struct Snapshot {
  std::uint64_t sequence = 0; // number of the sample, from 1
  std::chrono::time_point<std::chrono::system_clock, std::chrono::nanoseconds> wall_time{};
  std::chrono::nanoseconds monotonic_time{};        // CLOCK_MONOTONIC
  std::optional<std::chrono::nanoseconds> window;   // what the rates cover: the time since the loop's previous sample
  std::optional<std::uint64_t> receive_bytes_total; // counted interfaces, since the monitor was made
  std::optional<std::uint64_t> transmit_bytes_total;
  std::optional<double> receive_bytes_per_second; // counted interfaces
  std::optional<double> transmit_bytes_per_second;
  std::optional<double> primary_receive_bytes_per_second; // the interface that routes to the master address, or by default
  std::optional<double> primary_transmit_bytes_per_second;
  std::optional<std::uint64_t> errors_in_window;    // receive and transmit errors of counted interfaces
  std::optional<std::uint64_t> drops_in_window;     // receive and transmit drops of counted interfaces
  std::optional<double> tcp_retransmit_ratio;       // segments retransmitted / sent in the window
  std::optional<std::uint64_t> tcp_established;     // connections
  std::optional<std::chrono::nanoseconds> rtt_p50;  // median of the round trips to all targets in the last 60 s
  std::optional<double> loss_ratio;                 // probes lost / sent in the last 60 s, all targets
  std::optional<double> utilization_ratio;          // of the capacity of counted interfaces, in the busier direction
  std::optional<std::uint64_t> peer_connections;    // the job's own TCP connections: this process and its children
  std::optional<double> peer_sent_bytes_per_second; // over them
  std::optional<double> peer_received_bytes_per_second;
  std::optional<std::chrono::nanoseconds> peer_rtt_p50; // median over the peers of the kernel's round trip estimate
  std::optional<double>
      peer_retransmit_ratio; // segments (retransmitted - reported as duplicates) / sent to peers in the window
  std::optional<double> rdma_receive_bytes_per_second; // all RDMA ports of this node
  std::optional<double> rdma_transmit_bytes_per_second;
  std::optional<std::uint64_t> transport_plane; // what carries the job's traffic: a NETMON_PLANE_ value
};

// 6. Collectives

// Op is what a collective does, with the values of netmon.h. More may be appended. Since 0.1.
enum class Op : std::uint32_t {
  all_reduce = NETMON_COLLECTIVE_ALL_REDUCE,
  broadcast = NETMON_COLLECTIVE_BROADCAST,
  reduce = NETMON_COLLECTIVE_REDUCE,
  all_gather = NETMON_COLLECTIVE_ALL_GATHER,
  reduce_scatter = NETMON_COLLECTIVE_REDUCE_SCATTER,
  all_to_all = NETMON_COLLECTIVE_ALL_TO_ALL,
  gather = NETMON_COLLECTIVE_GATHER,
  scatter = NETMON_COLLECTIVE_SCATTER,
  barrier = NETMON_COLLECTIVE_BARRIER,
  send = NETMON_COLLECTIVE_SEND,
  recv = NETMON_COLLECTIVE_RECV,
  other = NETMON_COLLECTIVE_OTHER,
};

// End is how the end of a collective is known, with the values of netmon.h. More may be appended. Since 0.1.
enum class End : std::uint32_t {
  unknown = NETMON_END_UNKNOWN,
  exact = NETMON_END_EXACT,
  polled = NETMON_END_POLLED,
  bound = NETMON_END_BOUND,
  failed = NETMON_END_FAILED,
};

// Collective is one collective, as this process saw it: netmon_collective. Since 0.1.
struct Collective {
  Op op = Op::other;
  std::uint32_t group = 0;          // a number that Monitor::collective_group gave
  std::uint64_t bytes = 0;          // the size S of nccl-tests: of the whole array
  std::chrono::nanoseconds enter{}; // CLOCK_MONOTONIC (std::chrono::steady_clock), when this process called it
  End end = End::unknown;
  std::optional<std::chrono::nanoseconds> duration;       // until it was complete
  std::optional<std::chrono::nanoseconds> duration_error; // by how much that may be wrong: netmon.h says when it is a bound
  std::optional<std::uint64_t> sequence;                  // of the call in its group

  // The same for netmon_collectives_record.
  netmon_collective raw() const noexcept {
    const auto time = [](const std::optional<std::chrono::nanoseconds> &t) noexcept {
      return t && t->count() >= 0 ? static_cast<std::uint64_t>(t->count()) : NETMON_UNKNOWN_U64;
    };
    netmon_collective r{};
    r.struct_size = sizeof r;
    r.op = static_cast<std::uint32_t>(op);
    r.group = group;
    r.end = static_cast<std::uint32_t>(end);
    r.bytes = bytes;
    r.enter_ns = static_cast<std::uint64_t>(enter.count());
    r.duration_ns = time(duration);
    r.duration_error_ns = time(duration_error);
    r.sequence = sequence.value_or(NETMON_UNKNOWN_U64);
    return r;
  }
};

// 7. Phases

// Verdict is what the network has to do with the time a phase took. More may be appended. Since 0.1.
enum class Verdict : std::uint32_t {
  unknown = NETMON_VERDICT_UNKNOWN,
  idle = NETMON_VERDICT_IDLE,
  software_bound = NETMON_VERDICT_SOFTWARE_BOUND,
  link_bound = NETMON_VERDICT_LINK_BOUND,
};

// PhaseNumbers are those of one phase that has ended, as netmon_phase has them. An empty value was not measured. Since 0.1.
struct PhaseNumbers {
  Verdict verdict = Verdict::unknown;
  std::optional<std::chrono::nanoseconds> duration; // CLOCK_MONOTONIC
  std::optional<std::uint64_t> receive_bytes;       // counted interfaces
  std::optional<std::uint64_t> transmit_bytes;
  std::optional<std::uint64_t> tcp_bytes;      // of this process's own connections to other hosts, both directions
  std::optional<std::uint64_t> loopback_bytes; // of those inside this host
  std::optional<std::uint64_t> rdma_bytes;     // all RDMA ports of this node; mostly known later only, in samples
  std::optional<std::uint64_t> segments_sent;  // TCP, of the network namespace
  std::optional<std::uint64_t> segments_retransmitted;
  std::optional<double> retransmit_ratio;
  std::optional<double> utilization_ratio;        // of the capacity, mean of the direction that moved more
  std::optional<double> peak_bytes_per_second;    // highest rate of a direction in some 20 ms
  std::optional<double> peak_ratio;               // of the capacity
  std::optional<double> busy_ratio;               // share of the time in which the link was busy
  std::optional<double> full_ratio;               // ... in which it carried 80 % of the capacity
  std::optional<double> plateau_bytes_per_second; // the rate at which the direction that moved more stayed longest
  std::optional<double> steady_ratio;             // share of the time in which it did
  std::optional<double> waiting_ratio;            // share of the time in which own connections waited for the network
};

// Phase is a part of the job under way; it ends with this object, or by end(). Move-only. One that could not be begun does
// nothing, and its numbers are empty: problem() says why, and the monitor's health too. The monitor may be closed before. Since 0.1.
class [[nodiscard]] Phase {
public:
  ~Phase() { (void)end(); }
  Phase(Phase &&other) noexcept
      : monitor_(other.monitor_), number_(std::exchange(other.number_, 0)), problem_(std::move(other.problem_)) {}
  Phase &operator=(Phase &&other) noexcept {
    if (this != &other) {
      (void)end();
      monitor_ = other.monitor_;
      number_ = std::exchange(other.number_, 0);
      problem_ = std::move(other.problem_);
    }
    return *this;
  }
  Phase(const Phase &) = delete;
  Phase &operator=(const Phase &) = delete;

  // Ends the phase and gives its numbers (netmon_phase_end); all are empty the second time, and where there are none.
  PhaseNumbers end() noexcept {
    netmon_phase raw;
    std::memset(&raw, 0xff, sizeof raw); // unknown, as what an older library leaves alone
    raw.struct_size = sizeof raw;
    raw.verdict = NETMON_VERDICT_UNKNOWN;
    netmon_phase_end(monitor_, std::exchange(number_, 0), &raw, nullptr);
    PhaseNumbers n;
    n.verdict = static_cast<Verdict>(raw.verdict);
    if (auto duration = count(raw.duration_ns)) {
      n.duration = std::chrono::nanoseconds(static_cast<std::chrono::nanoseconds::rep>(*duration));
    }
    n.receive_bytes = count(raw.receive_bytes);
    n.transmit_bytes = count(raw.transmit_bytes);
    n.tcp_bytes = count(raw.tcp_bytes);
    n.loopback_bytes = count(raw.loopback_bytes);
    n.rdma_bytes = count(raw.rdma_bytes);
    n.segments_sent = count(raw.segments_sent);
    n.segments_retransmitted = count(raw.segments_retransmitted);
    n.retransmit_ratio = real(raw.retransmit_ratio);
    n.utilization_ratio = real(raw.utilization_ratio);
    n.peak_bytes_per_second = real(raw.peak_bytes_per_second);
    n.peak_ratio = real(raw.peak_ratio);
    n.busy_ratio = real(raw.busy_ratio);
    n.full_ratio = real(raw.full_ratio);
    n.plateau_bytes_per_second = real(raw.plateau_bytes_per_second);
    n.steady_ratio = real(raw.steady_ratio);
    n.waiting_ratio = real(raw.waiting_ratio);
    return n;
  }

  // Why it was not begun; empty where it was.
  const std::optional<Error> &problem() const noexcept { return problem_; }

private:
  friend class Monitor;
  Phase(netmon_handle monitor, std::uint64_t number, std::optional<Error> problem) noexcept
      : monitor_(monitor), number_(number), problem_(std::move(problem)) {}

  static std::optional<std::uint64_t> count(std::uint64_t value) noexcept {
    if (value == NETMON_UNKNOWN_U64) return std::nullopt;
    return value;
  }
  static std::optional<double> real(double value) noexcept {
    if (value != value) return std::nullopt; // NaN
    return value;
  }

  netmon_handle monitor_;
  std::uint64_t number_; // 0: not under way
  std::optional<Error> problem_;
};

// 8. Monitors

// Monitor owns a monitor of netmon.h and closes it. Move-only; one that was moved from answers with
// Status::invalid_argument. Since 0.1.
class Monitor {
public:
  // Starts a monitor of the calling thread's network namespace (netmon_init). Its first sample is taken when it returns.
  //
  // config is a JSON object with the keys of netmon_init; none means all defaults.
  //
  // Fails with Status::config, resources, forked, internal.
  static Result<Monitor> init(TextArgument config = {}) noexcept {
    netmon_handle handle = 0;
    char *error = nullptr;
    const std::int32_t status = netmon_init(config.c_str(), &handle, &error);
    if (status != NETMON_OK) return failed(status, error);
    return Monitor(Adopted{handle});
  }

#if defined(__cpp_exceptions)
  // The same, throwing Failure where init fails.
  explicit Monitor(TextArgument config = {}) : handle_(0) {
    auto made = init(config);
    if (!made) throw Failure(made.error());
    *this = *std::move(made);
  }
#endif

  ~Monitor() { close(); }
  Monitor(Monitor &&other) noexcept : handle_(std::exchange(other.handle_, 0)) {}
  Monitor &operator=(Monitor &&other) noexcept {
    if (this != &other) {
      close();
      handle_ = std::exchange(other.handle_, 0);
    }
    return *this;
  }
  Monitor(const Monitor &) = delete;
  Monitor &operator=(const Monitor &) = delete;

  // Measures now and gives the sample document, JSON with "schema": "netmon.sample/1" (netmon_sample). Reads local counters only.
  //
  // Fails with Status::closed, forked, resources, internal.
  Result<Text> sample() const noexcept {
    char *json = nullptr, *error = nullptr;
    const std::int32_t status = netmon_sample(handle_, &json, &error);
    if (status != NETMON_OK) return failed(status, error);
    return Text(json);
  }

  // Gives the newest sample's values as the background loop published them (netmon_latest). Takes no lock, makes no system
  // call, allocates nothing and never waits; may be called from signal handlers and forked children.
  //
  // Fails with Status::closed, and with no_data where the writer was overtaken twice.
  Result<Snapshot> latest() const noexcept {
    netmon_snapshot raw;
    std::memset(&raw, 0xff, sizeof raw); // unknown, as what an older library leaves alone
    raw.struct_size = sizeof raw;
    const std::int32_t status = netmon_latest(handle_, &raw);
    if (status != NETMON_OK) return failed(status, nullptr);
    Snapshot s;
    s.sequence = raw.sequence;
    s.wall_time = decltype(s.wall_time)(nanoseconds(raw.wall_time_ns));
    s.monotonic_time = nanoseconds(raw.monotonic_time_ns);
    s.window = duration(raw.window_ns);
    s.receive_bytes_total = count(raw.receive_bytes_total);
    s.transmit_bytes_total = count(raw.transmit_bytes_total);
    s.receive_bytes_per_second = real(raw.receive_bytes_per_second);
    s.transmit_bytes_per_second = real(raw.transmit_bytes_per_second);
    s.primary_receive_bytes_per_second = real(raw.primary_receive_bytes_per_second);
    s.primary_transmit_bytes_per_second = real(raw.primary_transmit_bytes_per_second);
    s.errors_in_window = count(raw.errors_in_window);
    s.drops_in_window = count(raw.drops_in_window);
    s.tcp_retransmit_ratio = real(raw.tcp_retransmit_ratio);
    s.tcp_established = count(raw.tcp_established);
    s.rtt_p50 = duration(raw.rtt_p50_ns);
    s.loss_ratio = real(raw.loss_ratio);
    s.utilization_ratio = real(raw.utilization_ratio);
    s.peer_connections = count(raw.peer_connections);
    s.peer_sent_bytes_per_second = real(raw.peer_sent_bytes_per_second);
    s.peer_received_bytes_per_second = real(raw.peer_received_bytes_per_second);
    s.peer_rtt_p50 = duration(raw.peer_rtt_p50_ns);
    s.peer_retransmit_ratio = real(raw.peer_retransmit_ratio);
    s.rdma_receive_bytes_per_second = real(raw.rdma_receive_bytes_per_second);
    s.rdma_transmit_bytes_per_second = real(raw.rdma_transmit_bytes_per_second);
    s.transport_plane = count(raw.transport_plane);
    return s;
  }

  // Answers a request about what the loop recorded, in JSON (netmon_query): history, stats of a metric, health.
  //
  // Fails with Status::invalid_argument (a request that is not understood), closed, forked, resources, internal.
  Result<Text> query(TextArgument request) const noexcept { return answer(netmon_query, request); }

  // Measures round trips to one target on demand, a JSON request and answer (netmon_probe). Waits as long as the request says.
  //
  // Fails with Status::invalid_argument (a request that is not understood), closed, forked, resources, internal.
  Result<Text> probe(TextArgument request) const noexcept { return answer(netmon_probe, request); }

  // Measures throughput with another host, a JSON request and answer (netmon_bandwidth). Makes traffic, and waits as long as the
  // request says.
  //
  // Fails with Status::invalid_argument (a request that is not understood), closed, forked, resources (another test of this process
  // is under way), internal.
  Result<Text> bandwidth(TextArgument request) const noexcept { return answer(netmon_bandwidth, request); }

  // Says what this process has to say of itself and its node, for aggregate in another process (netmon_digest).
  //
  // Fails with Status::closed, forked, internal.
  Result<Digest> digest() const noexcept {
    Digest made;
    char *error = nullptr;
    const std::int32_t status = netmon_digest(handle_, made.bytes_, sizeof made.bytes_, &made.length_, &error);
    if (status != NETMON_OK) return failed(status, error);
    return made;
  }

  // Makes one view of the digests of a job's processes, a JSON request and answer (netmon_aggregate).
  //
  // Fails with Status::invalid_argument (a request that is not understood), closed, forked, resources, internal.
  Result<Text> aggregate(TextArgument request) const noexcept { return answer(netmon_aggregate, request); }

  // Begins a phase (netmon_phase_begin), which ends with the object. One that cannot be begun does nothing.
  //
  //     { auto phase = monitor.phase("weight_sync"); sync_weights(); }
  Phase phase(TextArgument name) const noexcept {
    std::uint64_t number = 0;
    char *error = nullptr;
    const std::int32_t status = netmon_phase_begin(handle_, name.c_str(), &number, &error);
    if (status != NETMON_OK) return Phase(handle_, 0, failed(status, error));
    return Phase(handle_, number, std::nullopt);
  }

  // Tells the monitor what became known of the training job (netmon_set_job), a JSON object.
  //
  // Fails with Status::config, invalid_argument (nullptr), closed, forked, internal.
  Result<void> set_job(TextArgument job) const noexcept {
    char *error = nullptr;
    const std::int32_t status = netmon_set_job(handle_, job.c_str(), &error);
    if (status != NETMON_OK) return failed(status, error);
    return {};
  }

  // Names a group of ranks, a JSON object, and gives the number that records of its collectives carry (netmon_collective_group).
  //
  // Fails with Status::invalid_argument, unsupported (not in the configuration's sources), resources, closed, forked, internal.
  Result<std::uint32_t> collective_group(TextArgument group) noexcept {
    std::uint32_t number = 0;
    char *error = nullptr;
    const std::int32_t status = netmon_collective_group(handle_, group.c_str(), &number, &error);
    if (status != NETMON_OK) return failed(status, error);
    return number;
  }

  // Records a collective that has ended, or whose end will not be known (netmon_collectives_record). Takes no lock, makes no
  // system call, allocates nothing and never waits.
  //
  // Fails with Status::invalid_argument, closed, forked.
  Result<void> record(const Collective &collective) noexcept {
    const netmon_collective raw = collective.raw();
    return done(netmon_collectives_record(handle_, &raw, 1));
  }

  // Tells what is under way and has not ended: the oldest, and how many (netmon_collective_pending). Waits as little as record.
  //
  // Fails with Status::invalid_argument, closed, forked.
  Result<void> pending(const Collective &oldest, std::uint32_t count = 1) noexcept {
    const netmon_collective raw = oldest.raw();
    return done(netmon_collective_pending(handle_, &raw, count));
  }

  // Tells that nothing is under way any more.
  Result<void> nothing_pending() noexcept { return done(netmon_collective_pending(handle_, nullptr, 0)); }

  // Stops the monitor (netmon_close); later calls fail with Status::closed. Waits at most 0.1 s. Closing twice is fine, and in
  // a forked child that inherited the monitor it does nothing.
  void close() noexcept { netmon_close(handle_); }

  // The handle of netmon.h, for calls of your own; 0 in a monitor that was moved from.
  netmon_handle handle() const noexcept { return handle_; }

private:
  struct Adopted {
    netmon_handle handle;
  };
  explicit Monitor(Adopted adopted) noexcept : handle_(adopted.handle) {}

  static Error failed(std::int32_t status, char *sentence) noexcept {
    return Error(static_cast<Status>(status), Text(sentence));
  }

  // What one of the functions that take a JSON request answers.
  Result<Text> answer(decltype(netmon_query) *function, TextArgument request) const noexcept {
    char *json = nullptr, *error = nullptr;
    const std::int32_t status = function(handle_, request.c_str(), &json, &error);
    if (status != NETMON_OK) return failed(status, error);
    return Text(json);
  }

  static Result<void> done(std::int32_t status) noexcept {
    if (status != NETMON_OK) return failed(status, nullptr);
    return {};
  }

  static std::chrono::nanoseconds nanoseconds(std::uint64_t count) noexcept {
    return std::chrono::nanoseconds(static_cast<std::chrono::nanoseconds::rep>(count));
  }
  static std::optional<std::chrono::nanoseconds> duration(std::uint64_t count) noexcept {
    if (count == NETMON_UNKNOWN_U64) return std::nullopt;
    return nanoseconds(count);
  }
  static std::optional<std::uint64_t> count(std::uint64_t value) noexcept {
    if (value == NETMON_UNKNOWN_U64) return std::nullopt;
    return value;
  }
  static std::optional<double> real(double value) noexcept {
    if (value != value) return std::nullopt; // NaN
    return value;
  }

  netmon_handle handle_;
};

} // namespace netmon

#endif // NETMON_HPP
