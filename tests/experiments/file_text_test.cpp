#include "experiments/file_text.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>

namespace tenfold {
namespace {

TEST(FileText, IsEveryByteOfAFile) {
  std::string name = (std::filesystem::temp_directory_path() / "tenfold-text-XXXXXX").string();
  const int fd = ::mkstemp(name.data());
  ASSERT_GE(fd, 0);
  ::close(fd);
  EXPECT_EQ(file_text(name), "");
  for (const std::size_t size : {1, 4095, 4096, 4097, 100'000}) {
    std::string bytes;
    for (std::size_t i = 0; i < size; ++i) bytes += static_cast<char>(i * 7);
    std::ofstream(name, std::ios::binary) << bytes;
    EXPECT_EQ(file_text(name), bytes) << size;
  }
  std::filesystem::remove(name);
  EXPECT_EQ(file_text(name), std::nullopt);
}

TEST(FileText, IsNoneWhereAReadFails) {
  EXPECT_EQ(file_text(std::filesystem::temp_directory_path()), std::nullopt) << "a folder can be opened, not read";
}

TEST(FileText, OfTheSystemIsReadThoughItsSizeIsZero) {
  EXPECT_TRUE(file_text("/proc/self/stat").value_or("").starts_with(std::to_string(::getpid()) + " ("));
}

}  // namespace
}  // namespace tenfold
