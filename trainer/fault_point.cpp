#include "trainer/fault_point.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cstdlib>
#include <optional>
#include <string>

#include "experiments/error.h"

namespace tenfold {
namespace {

struct Fault {
  std::string action, point;
  std::int64_t n = 0;
  std::optional<std::int64_t> only;
  std::optional<Stage> stage;
  std::string once;
};

// Written before the computing thread starts, read by it alone; the flag keeps the ordinary case to one read.
std::atomic<bool> armed{false};
Fault fault;
bool in_scope = true;

[[noreturn]] void malformed(std::string_view text) {
  throw Error(ErrorKind::config, "TENFOLD_FAULT: '" + std::string(text) +
                                     "' is not understood; write for example kill@step:5 or throw@step:5,only=12 "
                                     "(actions: segv, kill, exit0, hang, stop, throw)");
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
    parsed.stage = item == "stage=fit" ? Stage::fit : Stage::adapt;
  } else if (item.starts_with("once=")) {
    parsed.once = item.substr(5);
  } else {
    const std::size_t at = item.find('@'), colon = item.rfind(':');
    if (at == std::string_view::npos || colon == std::string_view::npos || colon < at) malformed(item);
    parsed.action = item.substr(0, at);
    parsed.point = item.substr(at + 1, colon - at - 1);
    parsed.n = number(item.substr(colon + 1), item);
    constexpr std::string_view kActions[] = {"segv", "kill", "exit0", "hang", "stop", "throw"};
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

void act() {
  if (fault.action == "segv") {
    // The real thing, past any handler that a library may have installed.
    signal(SIGSEGV, SIG_DFL);
    raise(SIGSEGV);
  }
  if (fault.action == "kill") raise(SIGKILL);
  if (fault.action == "stop") raise(SIGSTOP);
  if (fault.action == "exit0") _exit(0);
  if (fault.action == "hang")
    while (true) pause();
  if (fault.action == "throw")
    throw Error(ErrorKind::internal,
                "fault injected by TENFOLD_FAULT at " + fault.point + " " + std::to_string(fault.n));
}

}  // namespace

void fault_point(std::string_view point, std::int64_t n) {
  if (!armed.load(std::memory_order_relaxed)) return;
  if (n == fault.n && in_scope && point == fault.point && !already_happened()) act();
}

void arm_faults_from_environment() {
  armed = false;
  fault = {};
  in_scope = true;
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

void set_fault_scope(Stage stage, std::span<const JobMember> members) {
  if (!armed.load(std::memory_order_relaxed)) return;
  in_scope = (!fault.stage || *fault.stage == stage) &&
             (!fault.only || std::ranges::any_of(members, [](const JobMember& m) { return m.unit == *fault.only; }));
}

}  // namespace tenfold
