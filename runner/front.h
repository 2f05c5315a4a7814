#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "experiments/frozen_time.h"
#include "runner/child.h"
#include "runner/coordinator_front.h"
#include "runner/front_mpirun.h"
#include "runner/private_folder.h"
#include "runner/progress.h"
#include "runner/run.h"
#include "runner/signals.h"

namespace tenfold {

// `tenfold run` beside mpirun: takes the user's signals, draws what the coordinator tells, and makes sure that nothing
// is left when it returns.
class Front {
 public:
  Front(const RankOptions& options, const HostLayout& layout, SignalReceiver& signals);

  // Until the coordinator has told how the run ended. Throws Error(communication) when it died without a word.
  RunOutcome watch();
  std::optional<int> drain_signal() const { return drain_signal_; }
  // Ended without a drain: a second Ctrl-C, or a signal when nothing had been begun. Nothing committed is lost.
  bool stopped_at_once() const { return stopped_at_once_; }

  // Lets mpirun end, and ends it when it does not.
  void end();

 private:
  using Clock = std::chrono::steady_clock;
  void take_signals();
  void take_lines();
  // Why the ranks will never be together, if so.
  std::string failed_start();
  void start_again(const std::string& reason);
  [[noreturn]] void give_up_starting(const std::string& reason);
  void coordinator_died();

  RankOptions options_;
  HostLayout layout_;
  SignalReceiver& signals_;
  PrivateFolder folder_;
  std::filesystem::path log_;
  std::uintmax_t log_begin_ = 0;
  UniqueFd listener_;
  ChildProcess mpirun_;
  std::optional<LineChannel> channel_;
  std::optional<ProgressView> view_;
  std::optional<RunOutcome> outcome_;
  std::optional<int> drain_signal_;
  int starts_ = 1;
  int most_here_ = 0;      // ranks of this start that have been seen
  bool together_ = false;  // MPI has all ranks of this start
  bool reported_ = false;  // the coordinator has begun
  bool stopped_at_once_ = false;
  FrozenTime frozen_;
  Clock::time_point started_, give_up_ = Clock::time_point::max();
};

}  // namespace tenfold
