#include <gtest/gtest.h>
#include <sys/time.h>

#include <cstdlib>
#include <filesystem>
#include <set>

#include "tests/datasets/test_files.h"
#include "tests/fuzz/input_file.h"
#include "tests/fuzz/targets.h"

// Where a damaged file asks a library for more memory than there is, it is to be told so, sanitizer or not; and the two
// lose some bytes of their own over damaged files.
extern "C" const char* __asan_default_options() { return "allocator_may_return_null=1"; }
extern "C" const char* __lsan_default_suppressions() { return "leak:libhdf5\nleak:libmatio\n"; }

// ASan has found something: it may take its time to tell, of which readers in a process of their own have little.
extern "C" void __asan_on_error() {
  const itimerval none = {};
  ::setitimer(ITIMER_PROF, &none, nullptr);
}

// Every input that is kept is read again, in whatever build this is: sound ones, and those that once were a finding.
namespace tenfold::fuzz {
namespace {

std::filesystem::path corpus() {
  const char* source = std::getenv("TENFOLD_SOURCE_DIR");  // set by ctest
  return std::filesystem::path(source == nullptr ? "." : source) / "tests/fuzz/corpus";
}

class Corpus : public testing::TestWithParam<Target> {};

TEST_P(Corpus, IsReadOrToldWhatIsWrong) {
  int inputs = 0, read = 0;
  for (const auto& entry : std::filesystem::directory_iterator(corpus() / GetParam().name)) {
    SCOPED_TRACE(entry.path().string());
    const std::string content = test::read_all(entry.path());
    ++inputs;
    bool sound = false;
    EXPECT_NO_THROW(sound = GetParam().read(std::as_bytes(std::span(content))));
    read += sound ? 1 : 0;
    // Sound inputs say so by their name; what a reader no longer takes would leave its target with nothing to vary.
    EXPECT_TRUE(sound || !entry.path().filename().string().starts_with("sound"))
        << latest_words() << "\nwhere a format has changed, write it anew (tests/fuzz/README.md: fuzz_make_corpus)";
    // And cut off anywhere.
    const std::size_t step = std::max<std::size_t>(1, content.size() / 64);
    for (std::size_t length = 0; length < content.size(); length += step)
      EXPECT_NO_THROW(GetParam().read(std::as_bytes(std::span(content).first(length)))) << length << " bytes of it";
  }
  EXPECT_GE(read, 1) << "of " << inputs << " inputs none is sound";
}

INSTANTIATE_TEST_SUITE_P(Targets, Corpus, testing::ValuesIn(kTargets),
                         [](const auto& target) { return std::string(target.param.name); });

TEST(Corpora, AreOfTargetsAndSmall) {
  std::set<std::string_view> names;
  for (const Target& target : kTargets) names.insert(target.name);
  std::uintmax_t bytes = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(corpus())) {
    if (entry.is_directory()) {
      EXPECT_TRUE(names.contains(entry.path().filename().string())) << entry.path() << " is of no target";
      continue;
    }
    bytes += entry.file_size();
    EXPECT_LE(entry.file_size(), 24'000u) << entry.path() << " slows every input down that is made from it";
  }
  EXPECT_LE(bytes, 300'000u);
}

}  // namespace
}  // namespace tenfold::fuzz
