#include "experiments/held_folder.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <string>

namespace tenfold {
namespace {

namespace fs = std::filesystem;

constexpr const char* kPrefix = "held-";

class HeldFolderTest : public testing::Test {
 protected:
  HeldFolderTest() {
    std::string name = (fs::temp_directory_path() / "tenfold-held-XXXXXX").string();
    base_ = ::mkdtemp(name.data());
  }
  ~HeldFolderTest() override { fs::remove_all(base_); }
  // As a process that died left it, an hour ago and longer.
  fs::path left_behind(const std::string& name, const char* file = nullptr, const std::string& text = "") const {
    const fs::path folder = base_ / (kPrefix + name);
    fs::create_directory(folder);
    if (file) std::ofstream(folder / file) << text;
    fs::last_write_time(folder, fs::file_time_type::clock::now() - std::chrono::hours(2));
    return folder;
  }
  void remove_dead() const { HeldFolder::remove_dead(base_, kPrefix); }

  fs::path base_;
};

TEST_F(HeldFolderTest, IsPrivateAndGoesWithItsOwner) {
  fs::path path;
  {
    const HeldFolder folder(base_, kPrefix);
    path = folder.path();
    EXPECT_EQ(fs::status(path).permissions(), fs::perms::owner_all);
    std::ofstream(path / "something") << "else";
  }
  EXPECT_FALSE(fs::exists(path));
}

// Its name may hold a process id that means nothing here: what counts is the lock.
TEST_F(HeldFolderTest, OfTheLivingIsKeptAndOfTheDeadRemoved) {
  const HeldFolder living(base_, std::string(kPrefix) + "2147483647-");
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const pid_t owner = ::fork();
  if (owner == 0) {
    // What it started lives on, and holds nothing: the lock ends with the program that took it.
    new HeldFolder(base_, kPrefix);
    const pid_t child = ::fork();
    if (child == 0) ::execlp("sleep", "sleep", "60", nullptr);
    [[maybe_unused]] const ssize_t written = ::write(ends[1], &child, sizeof child);
    for (;;) ::pause();
  }
  pid_t child = 0;
  ASSERT_EQ(::read(ends[0], &child, sizeof child), static_cast<ssize_t>(sizeof child));
  remove_dead();
  EXPECT_EQ(std::distance(fs::directory_iterator(base_), fs::directory_iterator()), 2);
  ::kill(owner, SIGKILL);
  ::waitpid(owner, nullptr, 0);
  ::close(ends[1]);
  char byte = 0;
  EXPECT_EQ(::read(ends[0], &byte, 1), 0) << "its child has begun its program";
  remove_dead();
  EXPECT_TRUE(fs::exists(living.path() / "held"));
  EXPECT_EQ(std::distance(fs::directory_iterator(base_), fs::directory_iterator()), 1);
  ::close(ends[0]);
  EXPECT_EQ(::kill(child, SIGKILL), 0) << "it lived all the time";
}

TEST_F(HeldFolderTest, OneThatIsBeingMadeIsKeptForAnHour) {
  const fs::path young = base_ / (std::string(kPrefix) + "young");
  fs::create_directory(young);
  std::ofstream(young / "held.aside") << "";
  const fs::path forgotten = left_behind("forgotten", "held.aside"), nothing = left_behind("nothing");
  remove_dead();
  EXPECT_TRUE(fs::exists(young));
  EXPECT_FALSE(fs::exists(forgotten));
  EXPECT_FALSE(fs::exists(nothing));
}

TEST_F(HeldFolderTest, WhatMayBeSomebodyElsesIsKept) {
  const fs::path without_lock = left_behind("older", "front"),
                 other_host = left_behind("host", "held", "another-host 00000000-0000-0000-0000-000000000000");
  std::ofstream(base_ / (std::string(kPrefix) + "file")) << "";
  const fs::path elsewhere = base_ / "elsewhere", link = base_ / (std::string(kPrefix) + "link");
  fs::create_directory(elsewhere);
  std::ofstream(elsewhere / "held") << "";
  fs::create_directory_symlink(elsewhere, link);
  remove_dead();
  EXPECT_TRUE(fs::exists(without_lock / "front")) << "of a version that took no locks";
  EXPECT_TRUE(fs::exists(other_host)) << "its locks may not be seen here";
  EXPECT_TRUE(fs::exists(base_ / (std::string(kPrefix) + "file")));
  EXPECT_TRUE(fs::exists(link / "held"));
}

TEST_F(HeldFolderTest, KeptUnderAnotherNameItOutlivesItsOwner) {
  const fs::path kept = base_ / "kept";
  {
    HeldFolder folder(base_, kPrefix);
    std::ofstream(folder.path() / "a.db") << "rows";
    EXPECT_TRUE(folder.keep_as(kept));
  }
  remove_dead();
  EXPECT_TRUE(fs::exists(kept / "a.db"));
  EXPECT_FALSE(fs::exists(kept / "held"));
}

}  // namespace
}  // namespace tenfold
