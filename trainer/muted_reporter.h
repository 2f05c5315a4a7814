#pragma once

#include "trainer/silent_reporter.h"

namespace tenfold {

// What a rank reports that does not lead its group: that it computes, and nothing else. When to stop is the leader's.
class MutedReporter final : public SilentReporter {
 public:
  explicit MutedReporter(Reporter& reporter) : reporter_(reporter) {}
  void progress(const Progress& progress) override { reporter_.progress(progress); }

 private:
  Reporter& reporter_;
};

}  // namespace tenfold
