// wrapper.cpp: the C++ wrapper, as a C++ program uses it.

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <netmon.hpp>
#include <thread>
#include <type_traits>
#include <vector>

#include <sys/wait.h>
#include <unistd.h>

#define CHECK(condition) \
  do { \
    if (!(condition)) { \
      std::fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition); \
      std::_Exit(1); \
    } \
  } while (0)

using netmon::Monitor;
using netmon::Status;

// Owners can be moved, not copied.
static_assert(!std::is_copy_constructible_v<Monitor> && !std::is_copy_assignable_v<Monitor>);
static_assert(std::is_nothrow_move_constructible_v<Monitor> && std::is_nothrow_move_assignable_v<Monitor>);
static_assert(!std::is_copy_constructible_v<netmon::Text> && std::is_nothrow_move_constructible_v<netmon::Text>);
static_assert(!std::is_copy_constructible_v<netmon::Error> && std::is_nothrow_move_constructible_v<netmon::Error>);
static_assert(sizeof(Monitor) == sizeof(netmon_handle));
static_assert(!std::is_convertible_v<const char *, Monitor>);
static_assert(!std::is_convertible_v<netmon_handle, Monitor> && !std::is_constructible_v<Monitor, netmon_handle>);

namespace {

bool contains(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

Monitor open(netmon::TextArgument config = {}) {
  auto monitor = Monitor::init(config);
  CHECK(monitor);
  return *std::move(monitor);
}

void values_and_units() {
  Monitor monitor = open(R"({"interval_seconds": 0.02, "interfaces": ["lo"]})");
  auto first = monitor.latest();
  CHECK(first && first->sequence >= 1 && first->receive_bytes_total && !first->rtt_p50 && !first->loss_ratio);
  CHECK(first->sequence > 1 || (!first->window && !first->receive_bytes_per_second && !first->errors_in_window));
  const auto now = std::chrono::system_clock::now();
  CHECK(first->wall_time <= now && now - first->wall_time < std::chrono::seconds(60));
  netmon::Snapshot later = *first;
  while (later.sequence < 3) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    if (auto latest = monitor.latest()) later = *latest;
  }
  CHECK(later.window && *later.window > std::chrono::milliseconds(1) && *later.window < std::chrono::seconds(20));
  CHECK(later.monotonic_time - first->monotonic_time >= *later.window);
  CHECK(later.receive_bytes_per_second && *later.receive_bytes_per_second >= 0);
  CHECK(later.errors_in_window == 0u && later.drops_in_window == 0u && later.tcp_established);

  // The wrapper and the header read the same values.
  monitor = open(R"({"interval_seconds": 3600})");
  netmon_snapshot raw{};
  raw.struct_size = sizeof raw;
  CHECK(netmon_latest(monitor.handle(), &raw) == NETMON_OK);
  auto latest = monitor.latest();
  CHECK(latest && latest->sequence == raw.sequence &&
        latest->wall_time.time_since_epoch().count() == static_cast<long long>(raw.wall_time_ns));
  CHECK(latest->monotonic_time.count() == static_cast<long long>(raw.monotonic_time_ns) &&
        latest->tcp_established == raw.tcp_established);

  Monitor tcp = open(R"({"sources": ["tcp"]})");
  auto partial = tcp.latest();
  CHECK(partial && !partial->receive_bytes_total && !partial->primary_receive_bytes_per_second && partial->tcp_established);
}

void texts() {
  Monitor monitor = open();
  auto sample = monitor.sample();
  CHECK(sample && contains(sample->view(), "\"schema\":\"netmon.sample/1\"") && sample->view().back() == '}');
  CHECK(std::string(sample->c_str()) == sample->view() && !sample->empty());
  netmon::Text taken = std::move(*sample);
  CHECK(sample->empty() && sample->view().empty() && *sample->c_str() == 0 && !taken.empty());
  taken = netmon::Text();
  CHECK(taken.empty());
  auto stats = monitor.query(std::string(R"({"view": "stats", "metric": "tcp.established"})"));
  CHECK(stats && contains(*stats, "\"metric\":\"tcp.established\""));
  auto test = monitor.bandwidth(R"({"target": "127.0.0.1:1"})");
  CHECK(test && contains(*test, "refuses the connection"));
  CHECK(monitor.bandwidth("{}").status() == Status::invalid_argument);
  auto answer = monitor.probe(R"({"target": "127.0.0.1"})");
  CHECK(answer && contains(*answer, "\"done\":true") && contains(*answer, "\"received\":1"));
  CHECK(monitor.set_job(R"({"rank": 3, "world_size": 8})"));
  auto digest = monitor.digest();
  CHECK(digest && digest->view().substr(0, 3) == "nmd" && digest->view().size() <= NETMON_DIGEST_BYTES);
  auto view = monitor.aggregate("{\"digests\": [\"" + digest->base64() + "\"]}");
  CHECK(view && contains(*view, "\"schema\":\"netmon.cluster/1\"") && contains(*view, "\"live_ranks\":1,"));
  CHECK(monitor.aggregate(R"({"digests": 1})").status() == Status::invalid_argument);
  sample = monitor.sample();
  CHECK(sample && contains(*sample, "\"rank\":3"));
}

void errors() {
  auto refused = Monitor::init(R"({"interval": 1})");
  CHECK(!refused && refused.status() == Status::config && contains(refused.error().sentence(), "interval_seconds"));
  CHECK(contains(netmon::name(refused.status()), "configuration"));
  try {
    Monitor thrown(R"({"interval_seconds": -1})");
    CHECK(false);
  } catch (const netmon::Failure &failure) {
    CHECK(failure.status() == Status::config && contains(failure.what(), "interval_seconds"));
  }
  Monitor constructed(R"({"interval_seconds": 3600})");
  CHECK(constructed.handle() != 0 && constructed.sample());

  Monitor monitor = open();
  auto request = monitor.query(R"({"view": "weather"})");
  CHECK(!request && request.status() == Status::invalid_argument && contains(request.error().sentence(), "weather"));
  request = monitor.query(nullptr);
  CHECK(!request && contains(request.error().sentence(), "request_json"));
  request = monitor.probe(R"({"target": "http://127.0.0.1"})");
  CHECK(!request && request.status() == Status::invalid_argument && contains(request.error().sentence(), "target"));
  auto job = monitor.set_job(R"({"rank": -1})");
  CHECK(!job && job.status() == Status::config && contains(job.error().sentence(), "rank"));
  CHECK(!monitor.set_job(nullptr));

  monitor.close();
  monitor.close();
  CHECK(monitor.sample().status() == Status::closed && monitor.query(R"({"view": "health"})").status() == Status::closed);
  CHECK(monitor.probe(R"({"target": "127.0.0.1"})").status() == Status::closed);
  CHECK(monitor.bandwidth(R"({"target": "127.0.0.1:1"})").status() == Status::closed);
  CHECK(monitor.digest().status() == Status::closed && monitor.aggregate("{}").status() == Status::closed);
  auto latest = monitor.latest();
  CHECK(!latest && latest.status() == Status::closed && latest.error().sentence() == "closed");
}

void moves() {
  Monitor one = open();
  const netmon_handle handle = one.handle();
  Monitor two = std::move(one);
  CHECK(two.handle() == handle && one.handle() == 0 && two.sample());
  CHECK(one.sample().status() == Status::invalid_argument && one.latest().status() == Status::invalid_argument);
  one = std::move(two);
  CHECK(one.handle() == handle && one.sample());
  one = open(); // closes the one it had
  netmon_snapshot raw{};
  raw.struct_size = sizeof raw;
  CHECK(netmon_latest(handle, &raw) == NETMON_ERR_CLOSED);
  Monitor &alias = one;
  one = std::move(alias);
  CHECK(one.sample());
  // In containers, and as many as there can be: each is closed by its destructor.
  for (int round = 0; round < 2; round++) {
    std::vector<Monitor> many;
    while (many.size() < 63) many.push_back(open(R"({"interval_seconds": 3600})"));
    auto extra = Monitor::init();
    CHECK(!extra && extra.status() == Status::resources);
  }
}

void threads() {
  Monitor monitor = open(R"({"interval_seconds": 0.01})");
  std::vector<std::thread> callers;
  for (int i = 0; i < 3; i++) {
    callers.emplace_back([&monitor] {
      for (;;) {
        auto sample = monitor.sample();
        auto latest = monitor.latest();
        CHECK(sample || sample.status() == Status::closed);
        CHECK(latest || latest.status() == Status::closed || latest.status() == Status::no_data);
        if (!sample) return;
      }
    });
  }
  while (monitor.latest()->sequence < 20) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  monitor.close();
  for (auto &caller : callers) caller.join();
}

void children() {
  Monitor monitor = open(R"({"interval_seconds": 0.01})");
  const pid_t child = fork();
  if (child == 0) {
    CHECK(monitor.latest());
    CHECK(monitor.sample());
    {
      Monitor own = open();
      CHECK(own.sample());
      Monitor taken = std::move(monitor); // its destructor must not close the parent's
    }
    std::_Exit(0);
  }
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child && status == 0);
  CHECK(monitor.sample() && monitor.latest());
}

void collectives() {
  Monitor monitor = open(R"({"interval_seconds": 3600, "sources": ["collectives"]})");
  netmon::Collective c;
  CHECK(monitor.record(c).status() == Status::invalid_argument); // of no group
  CHECK(monitor.nothing_pending().status() == Status::invalid_argument);
  CHECK(monitor.collective_group(R"({"name": "g"})").status() == Status::invalid_argument);
  CHECK(monitor.collective_group(nullptr).status() == Status::invalid_argument);
  auto group = monitor.collective_group(R"({"name": "g", "size": 4, "source": "test"})");
  CHECK(group && *group == 1);
  c.op = netmon::Op::all_gather;
  c.group = *group;
  c.bytes = 4 << 20;
  c.enter = std::chrono::steady_clock::now().time_since_epoch();
  CHECK(monitor.pending(c, 3));
  auto sample = monitor.sample();
  CHECK(sample && contains(*sample, R"("collective_pending":{"op":"all_gather","group":"g","group_size":4,"bytes":4194304,)"
                                    R"("sequence":null,"seconds":)"));
  CHECK(contains(*sample, R"("count":3})") && contains(*sample, R"("collectives":[])"));
  CHECK(monitor.pending(c, 0).status() == Status::invalid_argument);
  CHECK(monitor.nothing_pending());

  CHECK(monitor.record(c)); // its end is not known
  c.end = netmon::End::exact;
  c.duration = std::chrono::milliseconds(500);
  c.duration_error = std::chrono::nanoseconds(0);
  c.sequence = 7;
  CHECK(monitor.record(c));
  sample = monitor.sample();
  CHECK(contains(*sample, R"("collective_pending":null)"));
  CHECK(contains(*sample, R"("op":"all_gather","group":"g","group_size":4,"size_bucket_bytes":4194304,"count":2,)"
                          R"("bytes_total":8388608,"unfinished":1,"p50_seconds":0.5,)"));
  auto recent = monitor.query(R"({"view": "collectives"})");
  CHECK(contains(*recent, R"("duration_seconds":null,"duration_error_seconds":null,"sequence":null,"end":"unknown")"));
  CHECK(contains(*recent, R"("duration_seconds":0.5,"duration_error_seconds":0,"sequence":7,"end":"exact")"));
  monitor.close();
  CHECK(monitor.record(c).status() == Status::closed && monitor.pending(c).status() == Status::closed);
}

} // namespace

int main() {
  CHECK(netmon::abi_version() == NETMON_ABI_VERSION && netmon::version() == NETMON_VERSION);
  values_and_units();
  texts();
  errors();
  moves();
  threads();
  children();
  collectives();
}
