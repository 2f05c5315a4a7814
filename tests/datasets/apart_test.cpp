#include "datasets/apart.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <stdexcept>

#include "datasets/sample_store.h"
#include "tests/datasets/test_files.h"

namespace tenfold {
namespace {

using test::error_of;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

Dataset::Parts small_parts() {
  Dataset::Parts parts;
  parts.sample_shape = {2};
  parts.samples = {1, 2, 3, 4};
  parts.labels = {0, 1};
  parts.class_names = {"no", "yes"};
  parts.group_names = {"monday", ""};
  parts.groups = {1, 0};
  parts.given_folds = {-1, 2};
  parts.one_hot = {false, true};
  return parts;
}

class Apart : public testing::Test {
 protected:
  // What the parent makes of a process that does this.
  std::string told(const std::function<void()>& harm, unsigned least_s = 30) {
    return error_of(ErrorKind::data, [&] {
      load_apart(
          path_,
          [&] {
            harm();
            return small_parts();
          },
          least_s);
    });
  }
  void TearDown() override {
    EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1) << "a process is left";
    EXPECT_EQ(errno, ECHILD);
  }

  test::TemporaryFolder folder_;
  const std::string path_ = folder_.write("d.h5", "small");
};

TEST_F(Apart, GivesBackAllThatWasRead) {
  const Dataset::Parts parts = load_apart(path_, small_parts), wanted = small_parts();
  EXPECT_EQ(parts.sample_shape, wanted.sample_shape);
  EXPECT_EQ(parts.samples, wanted.samples);
  EXPECT_EQ(parts.labels, wanted.labels);
  EXPECT_EQ(parts.class_names, wanted.class_names);
  EXPECT_EQ(parts.group_names, wanted.group_names);
  EXPECT_EQ(parts.groups, wanted.groups);
  EXPECT_EQ(parts.given_folds, wanted.given_folds);
  EXPECT_EQ(parts.one_hot, wanted.one_hot);
  EXPECT_TRUE(parts.stored_samples.empty());
  EXPECT_EQ(Dataset(load_apart(path_, small_parts)).fingerprint(), Dataset(small_parts()).fingerprint());
}

TEST_F(Apart, SequencesAndTokensAreThemselves) {
  const auto load = [] {
    Dataset::Parts parts;
    parts.kind = SampleKind::tokens;
    parts.label_kind = LabelKind::next_token;
    parts.sample_shape = {1};
    parts.tokens = {0, 1, 1, 0};
    parts.token_bytes = {1, 3};
    parts.starts = {0, 1};
    parts.lengths = {3, 3};
    parts.class_names = {"a", "b"};
    return parts;
  };
  EXPECT_EQ(Dataset(load_apart(path_, load)).fingerprint(), Dataset(load()).fingerprint());
}

TEST_F(Apart, StoredValuesAreHandedOverAsTheyLie) {
  for (const std::uint64_t memory_bytes : {std::uint64_t{1} << 30, std::uint64_t{0}}) {  // in memory; on the disk
    const Dataset::Parts parts = load_apart(path_, [&] {
      Dataset::Parts made = small_parts();
      made.samples.clear();
      SampleStore store(4, "d", memory_bytes);
      for (std::size_t i = 0; i < 4; ++i) store.values()[i] = static_cast<float>(i + 1);
      std::move(store).give_to(made);
      return made;
    });
    EXPECT_THAT(parts.stored_samples, ElementsAre(1, 2, 3, 4));
    EXPECT_EQ(Dataset(parts).fingerprint(), Dataset(small_parts()).fingerprint());
  }
}

TEST_F(Apart, ErrorsComeThroughAsTheyAre) {
  EXPECT_EQ(told([] { throw Error(ErrorKind::data, "d.h5: line 3"); }), "d.h5: line 3");
  EXPECT_EQ(error_of(ErrorKind::config,
                     [&] { load_apart(path_, []() -> Dataset::Parts { throw Error(ErrorKind::config, "no key"); }); }),
            "no key");
  EXPECT_THAT(told([] { throw std::bad_alloc(); }), AllOf(HasSubstr(path_), HasSubstr("more memory")));
  EXPECT_THAT(told([] { throw std::length_error("x"); }), AllOf(HasSubstr(path_), HasSubstr("larger than memory")));
}

TEST_F(Apart, AProcessThatBreaksIsAnErrorWithItsPlace) {
  EXPECT_THAT(told([] { std::abort(); }), AllOf(HasSubstr(path_ + ": the library"), HasSubstr("(Aborted)")));
  EXPECT_THAT(told([] { ::raise(SIGKILL); }), AllOf(HasSubstr(path_), HasSubstr("(Killed)")));
  EXPECT_THAT(told([] { throw std::logic_error("not ours"); }), AllOf(HasSubstr(path_), HasSubstr("(code 1)")));
  EXPECT_THAT(told([] { ::_exit(0); }), HasSubstr(path_));
  const auto segv = [] {
    ::signal(SIGSEGV, SIG_DFL);  // else sanitizers, rightly, have something to say
    ::raise(SIGSEGV);
  };
  EXPECT_THAT(told(segv), AllOf(HasSubstr(path_), HasSubstr("(Segmentation fault)")));
}

TEST_F(Apart, OneThatNeverEndsIsEnded) {
  const auto circle = [] {
    for (volatile bool on = true; on;) {
    }
  };
  EXPECT_THAT(told(circle, 1), AllOf(HasSubstr(path_), HasSubstr("far longer")));
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // they have bounds and shadows of their own
TEST_F(Apart, AskingForMuchMoreMemoryThanTheFileCanNeedIsRefused) {
  EXPECT_THAT(told([] { std::vector<char>(std::size_t{3} << 30); }), HasSubstr("more memory"));
  EXPECT_NO_THROW(load_apart(path_, [] {
    EXPECT_EQ(std::vector<char>(std::size_t{64} << 20).size(), std::size_t{64} << 20);
    return small_parts();
  }));
}
#endif

}  // namespace
}  // namespace tenfold
