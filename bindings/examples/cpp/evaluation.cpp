// evaluation.cpp: an evaluation loop in C++ that asks an inference server on another host, watched by netmon.
//
//     c++ -std=c++17 evaluation.cpp $(pkg-config --cflags --libs netmon) -pthread -o evaluation
//     ./evaluation --serve & ./evaluation --batches 50; kill %1
//
// A batch of prompts goes to the server, what it generates comes back and is scored. At the end it says how long each part took,
// what the network had to do with it, and whether something was wrong with the way to the server. Section 1 is what netmon wants of
// such a harness; sections 2 and 3 are any harness's own.
//
// Nothing depends on netmon: where there can be no monitor, one that is closed answers with an error, and the evaluation goes on.
//
// Options: --serve          be the server, until a signal comes
//          --host ADDRESS   of the server, default 127.0.0.1; with --serve where it listens
//          --port N         default 29610
//          --batches N      default 20; SIGINT and SIGTERM end it after a batch
//          --bytes N        of an answer, default 262144

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <map>
#include <netmon.hpp>
#include <numeric>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <vector>

namespace {

// 1. What netmon is told, and tells

// Watch has the monitor, and adds up what each part of the batches did.
class Watch {
public:
  explicit Watch(const std::string &server)
      : monitor_(netmon::Monitor::init(R"({"interval_seconds": 0.5, "targets": [")" + server + R"("], "alerts": [
            {"metric": "tcp.retransmit_ratio", "above": 0.01, "for_seconds": 2, "name": "much is sent again"}]})")) {
    if (!monitor_) std::cerr << "not watched: " << monitor_.error().sentence() << '\n';
  }

  // Runs a part of a batch as a phase. What it throws passes, and ends the phase.
  template <class Work>
  auto phase(const std::string &name, Work work) {
    if (!monitor_) return work();
    struct Ending {
      Watch &watch;
      const std::string &name;
      netmon::Phase phase;
      ~Ending() { watch.add(name, phase.end()); }
    } ending{*this, name, monitor_->phase(name)};
    return work();
  }

  void report() {
    for (const auto &[name, total] : totals_) {
      std::cout << "phase " << name << ": " << total.count << " times, " << total.seconds << " s, "
                << static_cast<double>(total.bytes) / 1e6 << " MB, " << total.link_bound << " times link-bound\n";
    }
    if (!monitor_) return;
    // What there is in JSON a program reads with its JSON library. This one prints sentences, which is enough for people.
    if (auto sample = monitor_->sample()) print_texts("finding", sample->view(), "\"findings\":");
    if (auto alerts = monitor_->query(R"({"view": "alerts"})")) print_texts("alert", alerts->view(), "\"events\":");
    const char *request = R"({"view": "stats", "metric": "phases.generation.last_seconds"})";
    if (auto stats = monitor_->query(request)) std::cout << stats->view() << '\n';
    if (auto latest = monitor_->latest(); latest && latest->rtt_p50) {
      std::cout << "round trip to the server " << std::chrono::duration<double, std::milli>(*latest->rtt_p50).count()
                << " ms\n";
    }
  }

private:
  struct Total {
    int count = 0, link_bound = 0;
    double seconds = 0;
    std::uint64_t bytes = 0; // of own connections
  };

  void add(const std::string &name, const netmon::PhaseNumbers &numbers) {
    if (!numbers.duration) return;
    Total &total = totals_[name];
    total.count++;
    total.seconds += std::chrono::duration<double>(*numbers.duration).count();
    total.bytes += numbers.tcp_bytes.value_or(0) + numbers.loopback_bytes.value_or(0);
    total.link_bound += numbers.verdict == netmon::Verdict::link_bound;
  }

  // In a JSON text a quotation mark inside a string has a backslash before it, so that these look-ups find keys only.
  static void print_texts(std::string_view what, std::string_view json, std::string_view key) {
    constexpr std::string_view text = "\"text\":\"";
    for (auto at = json.find(key); at != json.npos && (at = json.find(text, at)) != json.npos;) {
      at += text.size();
      std::cout << what << ": " << json.substr(at, json.find('"', at) - at) << '\n';
    }
  }

  netmon::Result<netmon::Monitor> monitor_;
  std::map<std::string, Total> totals_;
};

// 2. The connection

[[noreturn]] void fail(const std::string &what) { throw std::system_error(errno, std::generic_category(), what); }

class Socket {
public:
  explicit Socket(int descriptor) : descriptor_(descriptor) {
    if (descriptor < 0) fail("socket");
    const int on = 1;
    setsockopt(descriptor_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(descriptor_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  }
  ~Socket() { ::close(descriptor_); }
  Socket(const Socket &) = delete;
  Socket &operator=(const Socket &) = delete;

  int descriptor() const { return descriptor_; }

  void send(const std::vector<char> &bytes) const {
    for (std::size_t sent = 0; sent < bytes.size();) {
      const auto n = ::send(descriptor_, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
      if (n < 0 && errno != EINTR) fail("send");
      if (n > 0) sent += static_cast<std::size_t>(n);
    }
  }

  // Returns fewer bytes only where the other end has closed.
  std::vector<char> receive(std::size_t bytes) const {
    std::vector<char> received(bytes);
    for (std::size_t have = 0; have < bytes;) {
      const auto n = ::recv(descriptor_, received.data() + have, bytes - have, 0);
      if (n < 0 && errno != EINTR) fail("receive");
      if (n == 0) received.resize(bytes = have);
      if (n > 0) have += static_cast<std::size_t>(n);
    }
    return received;
  }

private:
  int descriptor_;
};

sockaddr_in address(const std::string &host, int port) {
  sockaddr_in found{};
  found.sin_family = AF_INET;
  found.sin_port = htons(static_cast<std::uint16_t>(port));
  if (inet_pton(AF_INET, host.c_str(), &found.sin_addr) != 1) {
    errno = EINVAL;
    fail(host);
  }
  return found;
}

// 3. The evaluation

struct Options {
  bool serve = false;
  std::string host = "127.0.0.1";
  int port = 29610;
  int batches = 20;
  std::uint32_t bytes = 1 << 18;
};

volatile std::sig_atomic_t ending = 0;

constexpr std::size_t prompts = 8, prompt_bytes = 2048;

// Answers whoever connects, one after the other: for each prompt as many bytes as it asks for.
void serve(const Options &options) {
  const Socket listener(::socket(AF_INET, SOCK_STREAM, 0));
  const sockaddr_in here = address(options.host, options.port);
  if (::bind(listener.descriptor(), reinterpret_cast<const sockaddr *>(&here), sizeof here) < 0) fail("bind");
  if (::listen(listener.descriptor(), 1) < 0) fail("listen");
  std::cout << "serving" << std::endl;
  while (!ending) {
    const int accepted = ::accept(listener.descriptor(), nullptr, nullptr);
    if (accepted < 0) continue; // a signal
    const Socket client(accepted);
    for (std::vector<char> prompt; !ending && (prompt = client.receive(prompt_bytes)).size() == prompt_bytes;) {
      std::uint32_t wanted;
      std::memcpy(&wanted, prompt.data(), sizeof wanted);
      client.send(std::vector<char>(wanted, prompt.back()));
    }
  }
}

int score(const std::vector<std::vector<char>> &answers) {
  std::this_thread::sleep_for(std::chrono::milliseconds(5)); // as if by a model
  return std::accumulate(answers.begin(), answers.end(), 0, [](int sum, const auto &answer) { return sum + answer.front(); });
}

int evaluate(const Options &options) {
  Watch watch(options.host);
  const Socket server(::socket(AF_INET, SOCK_STREAM, 0));
  const sockaddr_in there = address(options.host, options.port);
  if (::connect(server.descriptor(), reinterpret_cast<const sockaddr *>(&there), sizeof there) < 0) fail(options.host);
  int right = 0, batches = 0;
  for (; batches < options.batches && !ending; batches++) {
    const auto answers = watch.phase("generation", [&] {
      std::vector<std::vector<char>> received;
      std::vector<char> prompt(prompt_bytes, 1);
      std::memcpy(prompt.data(), &options.bytes, sizeof options.bytes);
      for (std::size_t i = 0; i < prompts; i++) server.send(prompt);
      for (std::size_t i = 0; i < prompts; i++) {
        received.push_back(server.receive(options.bytes));
        if (received.back().size() < options.bytes) throw std::runtime_error("the server has gone");
      }
      return received;
    });
    right += watch.phase("scoring", [&] { return score(answers); });
  }
  std::cout << "evaluated " << batches << " batches, score " << right << '\n';
  watch.report();
  return 0;
}

} // namespace

int main(int argc, char **argv) {
  Options options;
  for (int i = 1; i < argc; i++) {
    const std::string_view option = argv[i];
    const char *value = i + 1 < argc ? argv[i + 1] : nullptr;
    if (option == "--serve") {
      options.serve = true;
      continue;
    } else if (option == "--host" && value) {
      options.host = value;
    } else if (option == "--port" && value) {
      options.port = std::atoi(value);
    } else if (option == "--batches" && value) {
      options.batches = std::atoi(value);
    } else if (option == "--bytes" && value) {
      options.bytes = static_cast<std::uint32_t>(std::clamp(std::atoi(value), 1, 1 << 28));
    } else {
      std::cerr << "usage: " << argv[0] << " [--serve] [--host ADDRESS] [--port N] [--batches N] [--bytes N]\n";
      return 2;
    }
    i++;
  }
  struct sigaction action = {};
  action.sa_handler = [](int) { ending = 1; }; // no SA_RESTART: a server that waits goes on, and ends
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  try {
    std::cout << "netmon " << netmon::version() << '\n';
    return options.serve ? (serve(options), 0) : evaluate(options);
  } catch (const std::exception &error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
