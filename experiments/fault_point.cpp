#include "experiments/fault_point.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <thread>

#include "experiments/error.h"

namespace tenfold {
namespace {

constexpr auto kSlow = std::chrono::seconds(6);

struct Fault {
  std::string action, point;
  std::int64_t n = 0;
  std::optional<std::int64_t> only;
  std::string stage;
  std::string once;
};

// Written while there is one thread; the flag keeps the ordinary case to one read. The scope belongs to the thread that
// computes, which is the only one in its process to pass points once jobs come.
std::atomic<bool> armed{false};
Fault fault;
bool in_scope = true;
std::atomic<std::int64_t> passed{0};

[[noreturn]] void malformed(std::string_view text) {
  throw Error(ErrorKind::config, "TENFOLD_FAULT: '" + std::string(text) +
                                     "' is not understood; write for example kill@step:5 or throw@step:5,only=12 "
                                     "(actions: segv, kill, abort, uncaught, exit0, hang, stop, slow, throw)");
}

std::int64_t number(std::string_view digits, std::string_view whole) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error != std::errc() || end != digits.data() + digits.size()) malformed(whole);
  return value;
}

void parse_item(std::string_view item, Fault& parsed) {
  if (item.starts_with("only=")) {
    parsed.only = number(item.substr(5), item);
  } else if (item == "stage=fit" || item == "stage=adapt") {
    parsed.stage = item.substr(6);
  } else if (item.starts_with("once=")) {
    parsed.once = item.substr(5);
  } else {
    const std::size_t at = item.find('@'), colon = item.rfind(':');
    if (at == std::string_view::npos || colon == std::string_view::npos || colon < at) malformed(item);
    parsed.action = item.substr(0, at);
    parsed.point = item.substr(at + 1, colon - at - 1);
    parsed.n = number(item.substr(colon + 1), item);
    constexpr std::string_view kActions[] = {"segv", "kill", "abort", "uncaught", "exit0",
                                             "hang", "stop", "slow",  "throw"};
    if (std::ranges::find(kActions, parsed.action) == std::end(kActions)) malformed(item);
  }
}

// The file tells processes started later that the fault has happened.
bool already_happened() {
  if (fault.once.empty()) return false;
  const int file = open(fault.once.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
  if (file < 0) return true;
  close(file);
  return false;
}

// Above a thread of its own there is no handler.
void throw_uncaught() {
  std::thread([] { throw Error(ErrorKind::internal, "nobody catches this"); }).join();
}

void act(std::int64_t n) {
  // A fault's last words, as a library's would be.
  std::fprintf(stderr, "TENFOLD_FAULT: %s at %s %lld\n", fault.action.c_str(), fault.point.c_str(),
               static_cast<long long>(n));
  std::fflush(stderr);
  if (fault.action == "segv") {
    // The real thing, past any handler that a library may have installed.
    signal(SIGSEGV, SIG_DFL);
    raise(SIGSEGV);
  }
  if (fault.action == "kill") raise(SIGKILL);
  if (fault.action == "stop") raise(SIGSTOP);
  if (fault.action == "abort") std::abort();
  if (fault.action == "uncaught") throw_uncaught();
  if (fault.action == "exit0") _exit(0);
  if (fault.action == "hang")
    while (true) pause();
  if (fault.action == "slow") std::this_thread::sleep_for(kSlow);
  if (fault.action == "throw")
    throw Error(ErrorKind::internal, "fault injected by TENFOLD_FAULT at " + fault.point + " " + std::to_string(n));
}

}  // namespace

void fault_point(std::string_view point, std::int64_t n) {
  if (!armed.load(std::memory_order_relaxed)) return;
  if (n == fault.n && in_scope && point == fault.point && !already_happened()) act(n);
}

void fault_point(std::string_view point) {
  if (!armed.load(std::memory_order_relaxed)) return;
  if (in_scope && point == fault.point) fault_point(point, ++passed);
}

void arm_faults_from_environment() {
  armed = false;
  fault = {};
  in_scope = true;
  passed = 0;
  const char* text = std::getenv("TENFOLD_FAULT");
  if (text == nullptr || *text == '\0') return;
  std::string_view rest = text;
  while (true) {
    const std::size_t comma = rest.find(',');
    parse_item(rest.substr(0, comma), fault);
    if (comma == std::string_view::npos) break;
    rest.remove_prefix(comma + 1);
  }
  if (fault.action.empty()) malformed(text);
  armed = true;
}

void set_fault_scope(std::string_view stage, std::span<const std::int64_t> units) {
  if (!armed.load(std::memory_order_relaxed)) return;
  in_scope = (fault.stage.empty() || fault.stage == stage) &&
             (!fault.only || std::ranges::find(units, *fault.only) != units.end());
}

}  // namespace tenfold
