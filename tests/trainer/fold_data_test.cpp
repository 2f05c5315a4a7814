// Prepared folds: kept while they are used, and not for ever.
#include "trainer/fold_data.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "experiments/error.h"
#include "tests/trainer/array_harness.h"

namespace tenfold::testing {
namespace {

TEST(FoldStore, KeepsFoldsApartByWhatTheyDependOn) {
  const Workspace space;
  const ExperimentSpec spec = small_spec();
  const ArrayJob job = space.job(Stage::fit, {{spec, 0, 0, {}, {}}}, "a");
  FoldStore store(at::kCPU);
  const auto fold = [&](const ExperimentSpec& s, int number) {
    return store.fold(s, 0, number, job.fingerprint, job.cache_folder);
  };
  const auto first = fold(spec, 0);
  EXPECT_EQ(first, fold(spec, 0));
  EXPECT_EQ(first->dataset, fold(spec, 1)->dataset);
  ExperimentSpec other = spec;
  other.ttt.lr = 0.5;  // no matter to the data
  EXPECT_EQ(first, fold(other, 0));
  for (const int change : {0, 1, 2, 3}) {
    other = spec;
    if (change == 0) other.dataset.shift.severity = 1;
    if (change == 1) other.dataset.normalisation = "minmax";
    if (change == 2) other.seed = 9;  // of the shift
    if (change == 3) other.folds.seed = 9;
    EXPECT_FALSE(at::equal(first->test.values, fold(other, 0)->test.values)) << change;
  }
  EXPECT_THROW(fold(spec, 99), Error);
  try {
    store.fold(spec, 0, 0, std::string(64, 'a'), job.cache_folder);
    ADD_FAILURE() << "another fingerprint was accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::data);
  }
}

TEST(FoldStore, DropsWhatNoArrayUsesWhenThereIsMuchOfIt) {
  const Workspace space;
  FoldStore store(at::kCPU);
  std::vector<std::weak_ptr<const FoldData>> seen;
  std::shared_ptr<const FoldData> used;
  for (int i = 0; i < 12; ++i) {  // a sweep over datasets
    ExperimentSpec spec = small_spec();
    spec.dataset.seed = static_cast<std::uint64_t>(i);
    const ArrayJob job = space.job(Stage::fit, {{spec, 0, 0, {}, {}}}, "a");
    for (int fold = 0; fold < 3; ++fold) {
      const auto data = store.fold(spec, 0, fold, job.fingerprint, job.cache_folder);
      if (i == 0 && fold == 0) used = data;
      seen.push_back(data);
    }
  }
  const auto alive = std::count_if(seen.begin(), seen.end(), [](const auto& fold) { return !fold.expired(); });
  EXPECT_LE(alive, 18);
  EXPECT_FALSE(seen.front().expired());  // an array has it
  EXPECT_FALSE(seen.back().expired());
}

}  // namespace
}  // namespace tenfold::testing
