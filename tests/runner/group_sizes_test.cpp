// What is refused before a run with trials over several slots begins.
#include "runner/group_sizes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>

#include "experiments/error.h"

namespace tenfold {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class GroupSizes : public testing::Test {
 protected:
  GroupSizes() {
    std::string name = (std::filesystem::temp_directory_path() / "tenfold-group-sizes-XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
  }
  ~GroupSizes() override { std::filesystem::remove_all(folder_); }

  // What is said of trials over 1 and 2 slots, of which those over 2 are done or not; empty: they may run.
  std::string refusal(int slots, bool gpu, int gpus, const std::string& more = "",
                      TrialStatus of_groups = TrialStatus::pending) const {
    const std::filesystem::path file = folder_ / "x.yaml";
    std::ofstream(file) << "name: sizes\n"
                           "dataset: {kind: synthetic, samples: 60, features: 4, classes: 2}\n"
                           "folds: {kind: stratified, k: 2}\n"
                           "model: {kind: mlp, hidden: [4]}\n"
                           "train: {steps: 2, batch_size: 8}\n"
                           "ttt: source\n"
                           "metrics: [accuracy]\n"
                           "sweep: {resources.ranks_per_trial: [1, 2]}\n"
                        << more;
    const PreparedExperiment prepared = prepare_experiment(file, {}, true, DataCache::leave);
    RegisteredPlan registered;
    registered.trials.resize(prepared.plan.trials.size());
    for (std::size_t t = 0; t < registered.trials.size(); ++t)
      if (prepared.ranks[static_cast<std::size_t>(prepared.plan.trials[t].configuration)] > 1)
        registered.trials[t].status = of_groups;
    try {
      check_group_sizes(prepared, registered, slots, gpu, gpus);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::config);
      return error.what();
    }
    return "";
  }

 private:
  std::filesystem::path folder_;
};

TEST_F(GroupSizes, ATrialNeedsItsSlots) {
  EXPECT_EQ(refusal(2, false, 0), "");
  EXPECT_THAT(refusal(1, false, 0),
              HasSubstr("needs 2 slots at once, and this run has 1: ask for fewer, or start more"));
  EXPECT_EQ(refusal(1, false, 0, "", TrialStatus::done), "");
}

TEST_F(GroupSizes, ATrialOverSeveralGpusNeedsEachForItself) {
  EXPECT_EQ(refusal(2, true, 2), "");
  EXPECT_EQ(refusal(2, true, 4), "");
  EXPECT_THAT(refusal(4, true, 2),
              AllOf(HasSubstr("x.yaml:8:"), HasSubstr("needs each for itself, and here 4 slots are on 2 GPUs: leave "
                                                      "--slots and resources.slots away, or at 2")));
  EXPECT_THAT(refusal(2, true, 1), HasSubstr("2 slots are on 1 GPU:"));
  EXPECT_THAT(refusal(2, true, 2, "resources: {slots_per_gpu: 2}\n"), HasSubstr("leave resources.slots_per_gpu at 1"));
  // Cores are no GPUs, GPUs that are elsewhere are not counted here, and what is done needs none.
  EXPECT_EQ(refusal(4, false, 2), "");
  EXPECT_EQ(refusal(4, true, 0), "");
  EXPECT_EQ(refusal(4, true, 2, "", TrialStatus::done), "");
}

}  // namespace
}  // namespace tenfold
