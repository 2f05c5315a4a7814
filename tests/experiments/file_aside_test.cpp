#include "experiments/file_aside.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>

#include "experiments/file_text.h"
#include "tests/missing.h"

namespace tenfold {
namespace {

namespace fs = std::filesystem;
using testing::SizeIs;
using testing::StartsWith;

class FileAsides : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "tenfold-aside-XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override { fs::remove_all(folder_); }
  std::vector<std::string> names() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder_)) names.push_back(entry.path().filename().string());
    return names;
  }

  fs::path folder_;
};

TEST_F(FileAsides, HaveTheirNameWhenTheyAreWholeOrNotAtAll) {
  const fs::path target = folder_ / "data";
  {
    FileAside given_up(target);
    given_up.write("half", 4);
    EXPECT_FALSE(fs::exists(target));
    EXPECT_THAT(names(), SizeIs(1));
  }
  EXPECT_THAT(names(), SizeIs(0));
  FileAside one(target), other(target);
  one.write("one", 3);
  other.write("other", 5);
  one.commit(true);
  EXPECT_EQ(file_text(target), "one");
  other.commit(false);
  EXPECT_EQ(file_text(target), "other");
  EXPECT_THAT(names(), SizeIs(1));
}

// Containers that share a folder count their processes alike.
TEST_F(FileAsides, OfProcessesWithEqualNumbersAreTwoFiles) {
  for (int container = 0; container < 2; ++container) {
    const pid_t pid = ::fork();
    if (pid == 0) {
      if (::unshare(CLONE_NEWPID) != 0) ::_exit(2);
      const pid_t first = ::fork();
      if (first == 0) {
        const FileAside aside(folder_ / "data");
        ::_exit(::getpid() == 1 ? 0 : 1);  // as one that is killed: the file stays
      }
      int status = 0;
      ::waitpid(first, &status, 0);
      ::_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(pid, &status, 0), pid);
    ASSERT_TRUE(WIFEXITED(status));
    if (WEXITSTATUS(status) == 2) return test::missing("NAMESPACES", "unshare --pid is not permitted here");
    ASSERT_EQ(WEXITSTATUS(status), 0);
  }
  EXPECT_THAT(names(), testing::AllOf(SizeIs(2), testing::Each(StartsWith("data.tmp."))));
}

}  // namespace
}  // namespace tenfold
