#include "trainer/trainer_arguments.h"

#include <gtest/gtest.h>

#include <vector>

#include "experiments/error.h"

namespace tenfold {
namespace {

std::optional<TrainerArguments> parse(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "tenfold-trainer");
  return parse_trainer_arguments(static_cast<int>(arguments.size()), arguments.data());
}

TEST(TrainerArguments, AreReadAndHaveDefaults) {
  const auto given = parse({"--socket-fd", "5", "--device", "cuda:3", "--threads", "2", "--parent-pid", "4711"});
  ASSERT_TRUE(given);
  EXPECT_EQ(given->socket, 5);
  EXPECT_EQ(given->device, "cuda:3");
  EXPECT_EQ(given->threads, 2);
  EXPECT_EQ(given->parent, 4711);
  const auto defaults = parse({});
  ASSERT_TRUE(defaults);
  EXPECT_EQ(defaults->socket, 3);
  EXPECT_EQ(defaults->device, "cpu");
  EXPECT_EQ(defaults->threads, 1);
  EXPECT_EQ(defaults->parent, 0);
}

TEST(TrainerArguments, RefuseWhatIsWrong) {
  const std::vector<std::vector<const char*>> cases = {
      {"--device", "gpu"}, {"--device", "cuda:"}, {"--device", "cuda:x"}, {"--device", "cuda:1x"}, {"--threads", "0"},
      {"--socket-fd"},     {"--socket-fd", "-1"}, {"--parent-pid", "me"}, {"--unknown"},           {"extra"}};
  for (const auto& arguments : cases) {
    try {
      parse(arguments);
      ADD_FAILURE() << arguments[0];
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::config);
    }
  }
}

TEST(TrainerArguments, HelpIsNoRun) {
  testing::internal::CaptureStdout();
  EXPECT_FALSE(parse({"--help"}));
  EXPECT_NE(testing::internal::GetCapturedStdout().find("--parent-pid"), std::string::npos);
}

}  // namespace
}  // namespace tenfold
