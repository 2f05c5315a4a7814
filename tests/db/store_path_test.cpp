#include "db/store_path.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "db/run_lock.h"
#include "db/store.h"
#include "tests/db/store_fixture.h"

namespace tenfold {
namespace {

namespace fs = std::filesystem;

TEST(StorePath, ANameThatIsNoLinkIsKeptAsItWasTyped) {
  const TemporaryFolder folder;
  std::ofstream(folder / "a.db") << "";
  fs::create_directory(folder / "real");
  fs::create_directory_symlink(folder / "real", folder / "linked");
  for (const fs::path& name :
       {fs::path("a.db"), fs::path("x/y/none.db"), fs::path("../none.db"), folder / "a.db", folder / "linked" / "b.db"})
    EXPECT_EQ(store_path(name), name);
}

TEST(StorePath, LinksAreFollowedToTheirEndWhetherOrNotSomethingIsThere) {
  const TemporaryFolder folder;
  const fs::path real = fs::canonical(folder.path());
  fs::create_directories(folder / "far" / "deep");
  std::ofstream(folder / "far" / "a.db") << "";
  fs::create_symlink("far/a.db", folder / "there");
  fs::create_symlink("there", folder / "twice");
  fs::create_symlink("far/none.db", folder / "none");
  fs::create_symlink(folder / "nowhere" / "none.db", folder / "nothing");
  EXPECT_EQ(store_path(folder / "there"), real / "far" / "a.db");
  EXPECT_EQ(store_path(folder / "twice"), real / "far" / "a.db");
  EXPECT_EQ(store_path(folder / "none"), real / "far" / "none.db");
  EXPECT_EQ(store_path(folder / "nothing"), real / "nowhere" / "none.db");
  // What ".." means in a link depends on where the link is, not on the way that was taken to it.
  fs::create_symlink("../a.db", folder / "far" / "deep" / "up");
  fs::create_directory_symlink("far/deep", folder / "short");
  EXPECT_EQ(store_path(folder / "short" / "up"), real / "far" / "a.db");
  EXPECT_EQ(store_path(folder / "short" / ".." / "a.db"), real / "far" / "a.db");
}

TEST(StorePath, LinksThatLeadInACircleAreRefused) {
  const TemporaryFolder folder;
  fs::create_symlink("b", folder / "a");
  fs::create_symlink("a", folder / "b");
  EXPECT_THAT(error_of([&] { store_path(folder / "a"); }),
              testing::AllOf(testing::HasSubstr((folder / "a").string()), testing::HasSubstr("leads back to itself")));
}

}  // namespace
}  // namespace tenfold
