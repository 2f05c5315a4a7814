#include <algorithm>
#include <future>

#include "experiments/fault_point.h"
#include "experiments/hash.h"
#include "runner/beating.h"
#include "runner/coordinator.h"

// What takes long and would keep the loop from its turns: done in a thread aside, while workers and front go on hearing
// from this rank.
namespace tenfold {
namespace {

constexpr auto kPause = std::chrono::milliseconds(50);
constexpr auto kHeartbeat = std::chrono::seconds(1);
constexpr auto kReport = std::chrono::milliseconds(500);
constexpr auto kPatience = std::chrono::minutes(10);  // with a disk that does not answer, when we are to stop

}  // namespace

void Coordinator::give_signs_of_life(Clock::time_point now) {
  if (now - last_heartbeat_ >= kHeartbeat && !dismissed_) {
    last_heartbeat_ = now;
    port_.send_to_workers(MessageKind::heartbeat);
  }
  // Not while the run is only being opened: until the front hears of a run, it ends one at once that is to stop.
  if (watch_ && now - last_report_ >= kReport) report_progress(now);
}

void Coordinator::beat() {
  // Storage that is gone for good may block its reader for ever; then we show no life, and are ended as one that hangs.
  if (draining_ && Clock::now() - drain_began_ > kPatience) return;
  if (watch_) watch_->turn();
  drain_when_asked();
  give_signs_of_life(Clock::now());
  port_.progress();
}

std::string Coordinator::hash_of(const std::string& file) {
  const Clock::time_point begin = Clock::now();
  port_.hold_receives(true);  // what is said meanwhile waits with those who say it
  std::future<std::string> hash = begin_aside([&file] {
    fault_point("hash");
    return sha256_file(file).hex();
  });
  wait_beating(hash, kPause, [this] { beat(); });
  port_.hold_receives(holding_);
  forgive(Clock::now() - begin);
  return hash.get();
}

// A store that is published may be large, and the network slow.
void Coordinator::commit_everything() {
  std::future<void> committed = begin_aside([this] { writer_.flush(); });
  wait_beating(committed, kPause, [this] { beat(); });
  committed.get();
}

}  // namespace tenfold
