#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

namespace tenfold::test {

// A file of the data that lie beside the repository in CI and are not part of it: $TENFOLD_TEST_DATA, or
// ../shared/data. Where it is not, tests of it skip, with the path in the message:
//   const auto file = test::shared_data("fsdd.tar.xz");
//   if (!std::filesystem::exists(file)) GTEST_SKIP() << file << " is not there";
inline std::filesystem::path shared_data(const std::string& name) {
  if (const char* folder = std::getenv("TENFOLD_TEST_DATA"); folder != nullptr && *folder != '\0')
    return std::filesystem::path(folder) / name;
  const char* source = std::getenv("TENFOLD_SOURCE_DIR");
  return std::filesystem::path(source == nullptr ? "." : source) / ".." / "shared" / "data" / name;
}

}  // namespace tenfold::test
