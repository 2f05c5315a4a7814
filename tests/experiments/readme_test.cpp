#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "experiments/spec_access.h"
#include "tests/experiments/samples.h"

namespace tenfold::testing {
namespace {

std::string text_of(const std::filesystem::path& file) {
  std::ifstream stream(file);
  std::stringstream text;
  text << stream.rdbuf();
  return text.str();
}

TEST(Readme, NamesEveryKeyWithItsMeaning) {
  const std::string readme = text_of(source_folder() / "experiments/README.md");
  for (const FieldInfo& field : experiment_fields()) {
    if (field.section) continue;
    const std::size_t row = readme.find("\n| `" + field.key + "` |");
    ASSERT_NE(row, std::string::npos) << field.key << " is missing from the table";
    const std::string line = readme.substr(row + 1, readme.find('\n', row + 1) - row - 1);
    EXPECT_THAT(line, ::testing::HasSubstr(field.doc));
    EXPECT_THAT(
        line, ::testing::HasSubstr("| " + (field.default_value.empty() ? "" : "`" + field.default_value + "` ") + "|"));
  }
}

TEST(Readme, ItsExamplesAreValid) {
  const std::string readme = text_of(source_folder() / "experiments/README.md");
  int examples = 0;
  for (std::size_t at = readme.find("```yaml\n"); at != std::string::npos; at = readme.find("```yaml\n", at + 1)) {
    const std::size_t begin = at + 8, end = readme.find("```", begin);
    EXPECT_EQ(refusal(readme.substr(begin, end - begin)), "");
    ++examples;
  }
  EXPECT_GE(examples, 2);
}

TEST(Readme, ExperimentFilesBesideItAreValid) {
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(source_folder() / "experiments")) {
    if (entry.path().extension() != ".yaml") continue;
    const Experiment experiment = Experiment::load(entry.path());
    EXPECT_EQ(experiment.name(), entry.path().stem().string());
    ++files;
  }
  EXPECT_GE(files, 2);
}

}  // namespace
}  // namespace tenfold::testing
