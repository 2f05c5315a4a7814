// Every way for a trainer to end, with models of both kinds: it costs an attempt, which says how it ended and its last
// words, and is tried again from its checkpoint; nobody else notices.
#include <gmock/gmock.h>

#include <filesystem>

#include "tests/faults/fault_run.h"

namespace tenfold {
namespace {

using std::chrono::seconds;
using testing::AllOf;
using testing::HasSubstr;

struct Death {
  const char* action;  // of TENFOLD_FAULT
  const char* how;     // the reason names it
  const char* words;   // the last of its log
};
struct Case {
  const char* name;
  const char* experiment;
  const char* stage;
  int step;
  Death death;
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

class TrainerDies : public FaultRun, public testing::WithParamInterface<Case> {};

TEST_P(TrainerDies, AndIsReplacedAndItsArrayGoesOn) {
  const Case& c = GetParam();
  use(c.experiment);
  expected();
  const std::string struck = work_.file("struck").string();
  work_.set("TENFOLD_FAULT",
            std::string(c.death.action) + "@step:" + std::to_string(c.step) + ",stage=" + c.stage + ",once=" + struck);
  finish("a.db");
  ASSERT_TRUE(std::filesystem::exists(struck));

  const std::string reasons = work_.query("a.db", "SELECT DISTINCT reason FROM attempt WHERE outcome = 'failed'");
  EXPECT_THAT(reasons, AllOf(HasSubstr(c.death.how), HasSubstr(c.death.words)));
  EXPECT_THAT(work_.query("a.db", "SELECT detail FROM event WHERE kind IN ('retry', 'array_halved')"),
              AllOf(HasSubstr("tried again"), HasSubstr(c.death.how)));
  // One array lost one attempt of each member; whoever was in another one lost nothing.
  EXPECT_EQ(
      work_.query("a.db",
                  "SELECT max(n) FROM (SELECT count(*) n FROM attempt WHERE outcome = 'failed' GROUP BY fit, trial)"),
      "1\n");
  EXPECT_EQ(work_.query("a.db", "SELECT count(DISTINCT reason) FROM attempt WHERE outcome = 'failed'"), "1\n");
  EXPECT_EQ(
      work_.query("a.db",
                  "SELECT count(*) > 0 FROM attempt a WHERE resumed_from_step > 0 AND EXISTS (SELECT 1 FROM attempt "
                  "b WHERE b.outcome = 'failed' AND b.fit IS a.fit AND b.trial IS a.trial)"),
      "1\n")
      << "it was not resumed from its checkpoint";
}

constexpr Death kSegv{"segv", "killed by SIGSEGV", "TENFOLD_FAULT: segv at step"};
constexpr Death kKill{"kill", "killed by SIGKILL", "TENFOLD_FAULT: kill at step"};
constexpr Death kAbort{"abort", "killed by SIGABRT", "TENFOLD_FAULT: abort at step"};
constexpr Death kUncaught{"uncaught", "killed by SIGABRT", "nobody catches this"};
constexpr Death kExit{"exit0", "exited with code 0", "TENFOLD_FAULT: exit0 at step"};

INSTANTIATE_TEST_SUITE_P(Ways, TrainerDies,
                         testing::Values(Case{"TablesSegv", kTables, "fit", 70, kSegv},
                                         Case{"TablesUncaught", kTables, "adapt", 35, kUncaught},
                                         Case{"TablesExit", kTables, "fit", 45, kExit},
                                         Case{"SequencesSegv", kSequences, "fit", 15, kSegv},
                                         Case{"SequencesKill", kSequences, "adapt", 15, kKill},
                                         Case{"SequencesAbort", kSequences, "fit", 25, kAbort},
                                         Case{"SequencesUncaught", kSequences, "fit", 12, kUncaught},
                                         Case{"SequencesExit", kSequences, "adapt", 12, kExit}),
                         [](const auto& info) { return std::string(info.param.name); });

class TrainerStalls : public FaultRun {
 protected:
  void SetUp() override { use(kSequences); }
  std::string failures(const std::string& db) {
    return work_.query(db, "SELECT DISTINCT reason FROM attempt WHERE outcome = 'failed'");
  }
};

TEST_F(TrainerStalls, WithoutASignOfLife) {
  expected();
  work_.set("TENFOLD_TRAINER_SILENCE_S", "8");
  work_.set("TENFOLD_FAULT", "stop@step:15,stage=fit,once=" + work_.file("struck").string());
  finish("a.db");
  EXPECT_THAT(failures("a.db"), HasSubstr("the trainer hung: no sign of life for 8 s"));
}

// Its heartbeats go on, with the same step.
TEST_F(TrainerStalls, WhileItsHeartGoesOnBeating) {
  expected();
  work_.set("TENFOLD_FAULT", "hang@step:15,stage=fit,once=" + work_.file("struck").string());
  finish("a.db", {"--set", "resources.stall_limit_s=8"});
  EXPECT_THAT(failures("a.db"),
              AllOf(HasSubstr("stood still at step 15"), HasSubstr("for 8 s"), HasSubstr("resources.stall_limit_s")));
  EXPECT_EQ(work_.query("a.db", "SELECT count(*) > 0 FROM attempt WHERE resumed_from_step = 10"), "1\n");
}

// One that hangs every time is counted and given up after its retries; the others are done.
TEST_F(TrainerStalls, AgainAndAgainAndIsGivenUp) {
  work_.set("TENFOLD_FAULT", "hang@step:15,only=1,stage=adapt");
  const Finished finished = complete("a.db", {"--set", "resources.stall_limit_s=6", "--set", "retries=1"});
  EXPECT_EQ(finished.exit_code, 1) << finished.output;
  EXPECT_EQ(work_.query("a.db", "SELECT status, count(*) FROM trial GROUP BY 1 ORDER BY 1"), "done,3\nfailed,1\n");
  EXPECT_THAT(work_.query("a.db", "SELECT reason FROM trial WHERE status = 'failed'"), HasSubstr("stood still"));
  expect_ended(work_, "a.db");
}

}  // namespace
}  // namespace tenfold
