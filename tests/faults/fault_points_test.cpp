// Death at each point where it would hurt most if the order of writing, renaming, committing and telling were wrong.
#include <gmock/gmock.h>

#include <filesystem>

#include "tests/faults/fault_run.h"

namespace tenfold {
namespace {

using testing::HasSubstr;

class FaultPoints : public FaultRun, public testing::WithParamInterface<const char*> {
 protected:
  void SetUp() override { use(kTables); }

  // Dies once at each of the points, is run again when that ended the run, and is done.
  void strike(const std::vector<std::string>& points, int exit_code) {
    expected();
    for (const std::string& point : points) {
      SCOPED_TRACE(std::string(GetParam()) + " at " + point);
      const std::string name = point.substr(0, point.find(':')), db = name + ".db", struck = work_.file(name).string();
      work_.set("TENFOLD_FAULT", std::string(GetParam()) + "@" + point + ",once=" + struck);
      const Finished finished = complete(db);
      EXPECT_TRUE(std::filesystem::exists(struck)) << "nobody came by\n" << finished.output;
      EXPECT_EQ(finished.exit_code, exit_code) << finished.output;
      expect_none_left(work_);
      if (exit_code != 0) {
        std::string under_way = "0\n";
        if (std::filesystem::exists(work_.file(db))) {
          expect_sound(work_, db);
          under_way = work_.query(db, "SELECT count(*) FROM attempt WHERE outcome = 'running'");
        }
        finish(db);
        runs_lost_ += under_way != "0\n";
        EXPECT_EQ(
            work_.query(db, "SELECT detail FROM event WHERE kind = 'run_lost'"),
            under_way == "0\n" ? "" : "the run before this one ended without a word; attempts under way: " + under_way);
      } else {
        expect_as_undisturbed(work_, db, expected());
        EXPECT_THAT(work_.query(db,
                                "SELECT DISTINCT detail FROM event WHERE kind IN ('retry', 'array_halved', "
                                "'worker_lost', 'run_restarted')"),
                    testing::AnyOf(HasSubstr("SIG"), HasSubstr("process died"), HasSubstr("of the run")));
      }
    }
  }
  int runs_lost_ = 0;  // while they computed

  int killed_front() const { return std::string(GetParam()) == "kill" ? 128 + 9 : 128 + 6; }
};

TEST_P(FaultPoints, OfTheFront) { strike({"commit:1", "committed:1"}, killed_front()); }

TEST_P(FaultPoints, OfTheCoordinator) {
  strike({"commit:4", "committed:5", "delete:2", "dispatch:2", "dispatched:3", "finish:1"}, 5);
  EXPECT_GT(runs_lost_, 0);
}

TEST_P(FaultPoints, OfTheWorker) { strike({"mpi:1", "start:2", "relay:3"}, 0); }

TEST_P(FaultPoints, OfTheTrainer) {
  strike({"write:3", "rename:3", "renamed:3", "checkpoint:3", "checkpointed:3", "outcome:1"}, 0);
}

// Whatever starts them again would do so for ever.
TEST_P(FaultPoints, WorkersThatNeverComeToMpiAreGivenUp) {
  work_.set("TENFOLD_FAULT", std::string(GetParam()) + "@mpi:1");
  const Finished finished = complete("a.db");
  EXPECT_EQ(finished.exit_code, 5) << finished.output;
  // The front has seen them alive, or looked too late for that.
  EXPECT_THAT(finished.output, testing::AnyOf(HasSubstr("a process of the run died while it was starting, 3 times"),
                                              HasSubstr("not all processes of the run were started, 3 times")));
  expect_none_left(work_);
  expect_sound(work_, "a.db");
}

INSTANTIATE_TEST_SUITE_P(Ways, FaultPoints, testing::Values("abort", "kill"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace tenfold
