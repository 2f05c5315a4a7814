#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

namespace tenfold::test {

// What not every machine has or allows: a test that needs it is skipped where it is missing, with the reason, but fails
// where TENFOLD_EXPECT_<what> says that it is here: `./tenfold test` has then installed it, or found it allowed.
//   NAMESPACES: hosts, mounts and processes of a test's own, as root    SLURM: its daemons
//
//   if (!disk.mounted()) return test::missing("NAMESPACES", "mounting a tmpfs is not permitted here");
inline void missing(const std::string& what, const std::string& why) {
  const std::string variable = "TENFOLD_EXPECT_" + what;
  if (std::getenv(variable.c_str()) != nullptr) FAIL() << why << ", though " << variable << " is set";
  GTEST_SKIP() << why;
}

}  // namespace tenfold::test
