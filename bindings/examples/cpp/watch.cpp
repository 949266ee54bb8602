// watch.cpp: measures the network of this machine for a while, in C++17.
//
//     c++ -std=c++17 watch.cpp $(pkg-config --cflags --libs netmon) -o watch && ./watch --samples 5 --interval 1
//
// Options: --samples N      how many samples of the loop to wait for, default 3
//          --interval S     seconds between two of them, default 0.2
//          --leak           frees no answer, so that a leak checker has something to find

#include <cstdlib>
#include <iostream>
#include <netmon.hpp>
#include <string>
#include <string_view>
#include <thread>

namespace {

bool leak = false;

int complain(std::string_view call, const netmon::Error &error) {
  std::cerr << call << ": " << netmon::name(error.status()) << ": " << error.sentence() << '\n';
  return 1;
}

// Answers free themselves.
void print(netmon::Text answer) {
  std::cout << answer.view() << '\n';
  if (leak) static_cast<void>(new netmon::Text(std::move(answer)));
}

void print_rate(std::string_view name, std::optional<double> bytes_per_second) {
  std::cout << "  " << name << ' ';
  if (bytes_per_second) {
    std::cout << *bytes_per_second << " bytes/s";
  } else {
    std::cout << "not known";
  }
}

// Reads the newest values until the loop has published some more. Reading costs nothing, so this may be done in every step of a
// training loop.
int watch(const netmon::Monitor &monitor, long samples, double interval) {
  for (std::uint64_t seen = 0; samples > 0;) {
    auto latest = monitor.latest();
    if (!latest && latest.status() != netmon::Status::no_data) return complain("latest", latest.error());
    if (!latest || latest->sequence == seen) {
      std::this_thread::sleep_for(std::chrono::duration<double>(interval / 4));
      continue;
    }
    seen = latest->sequence;
    samples--;
    std::cout << "sample " << latest->sequence;
    print_rate("receive", latest->receive_bytes_per_second);
    print_rate("transmit", latest->transmit_bytes_per_second);
    if (latest->tcp_established) std::cout << "  " << *latest->tcp_established << " TCP connections";
    std::cout << '\n';
  }
  return 0;
}

int measure(const netmon::Monitor &monitor, long samples, double interval) {
  auto sample = monitor.sample();
  if (!sample) return complain("sample", sample.error());
  print(*std::move(sample));

  if (int failed = watch(monitor, samples, interval)) return failed;

  for (const char *request : {R"({"view": "stats", "metric": "totals.receive_bytes_per_second"})", R"({"view": "health"})"}) {
    auto answer = monitor.query(request);
    if (!answer) return complain("query", answer.error());
    print(*std::move(answer));
  }
  return 0;
}

} // namespace

int main(int argc, char **argv) {
  double interval = 0.2;
  long samples = 3;
  for (int i = 1; i < argc; i++) {
    const std::string_view option = argv[i];
    if (option == "--leak") {
      leak = true;
    } else if (option == "--samples" && i + 1 < argc) {
      samples = std::strtol(argv[++i], nullptr, 10);
    } else if (option == "--interval" && i + 1 < argc) {
      interval = std::strtod(argv[++i], nullptr);
    } else {
      std::cerr << "usage: " << argv[0] << " [--samples N] [--interval SECONDS] [--leak]\n";
      return 2;
    }
  }

  auto monitor = netmon::Monitor::init("{\"interval_seconds\": " + std::to_string(interval) + "}");
  if (!monitor) return complain("init", monitor.error());
  std::cout << "netmon " << netmon::version() << '\n';
  return measure(*monitor, samples, interval);
}
