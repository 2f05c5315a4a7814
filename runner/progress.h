#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "trainer/protocol.h"

namespace tenfold {

// What the coordinator tells the front process twice a second, and what `status` shows.
struct ProgressSnapshot {
  std::int64_t fits_total = 0, fits_done = 0;
  std::int64_t trials_total = 0, trials_done = 0, trials_failed = 0;
  std::int64_t arrays_running = 0;
  std::int64_t slots = 0, slots_busy = 0;        // busy: more than arrays where some take several
  double updates_per_s = 0;                      // member updates, all slots
  double eta_s = -1;                             // -1: not known yet
  double total = 0, entropy = 0, diversity = 0;  // latest adaptation losses; NaN before the first
  double elapsed_s = 0;
};

// Whether an array has losses to show: before its first pass, and where its method has none, it has not.
bool has_losses(const Progress& progress);

std::string encode(const ProgressSnapshot& snapshot);  // JSON
ProgressSnapshot decode_snapshot(const std::string& json);

// Draws snapshots: on a terminal one bar rewritten in place (its width asked each time), in a log one line a minute.
class ProgressView {
 public:
  ProgressView(int fd, bool quiet);  // fd: usually stderr; decides by isatty
  ~ProgressView();                   // ends the bar's line
  void show(const ProgressSnapshot& snapshot);
  void note(const std::string& line);  // a line above the bar, also when quiet: a retry, a drain, a lost worker

 private:
  int fd_;
  bool terminal_;
  bool quiet_;
  bool drawn_ = false;     // the cursor stands at the end of a bar
  bool finished_ = false;  // a log has its closing line
  std::chrono::steady_clock::time_point last_line_{};
};

// One line without control characters, at most `width` columns.
std::string progress_line(const ProgressSnapshot& snapshot, int width);

}  // namespace tenfold
