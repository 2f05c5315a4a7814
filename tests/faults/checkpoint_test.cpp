// Checkpoints that are not what they were: cut short, a bit flipped, gone, of another version. The one before is used,
// or the work is done again; the store says so; no bit of the results changes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <set>
#include <sstream>
#include <thread>

#include "db/sqlite.h"
#include "experiments/hash.h"
#include "tests/faults/fault_run.h"

namespace tenfold {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::AllOf;
using testing::HasSubstr;

enum class Harm { truncated, flipped, missing, other_version };

struct Case {
  Harm harm;
  const char* name;
  const char* said;  // in the event
};

void PrintTo(const Case& value, std::ostream* out) { *out << value.name; }

class Checkpoints : public testing::Test {
 protected:
  static std::vector<std::string> run(const std::string& db) {
    const char* source = std::getenv("TENFOLD_SOURCE_DIR");
    return {"run",      std::string(source) + "/experiments/smoke.yaml",
            "--db",     db,
            "--slots",  "1",
            "--device", "cpu",
            "--set",    "checkpoint.every_steps=3",
            "--set",    "train.epochs=60",
            "--set",    "ttt.steps=40",
            "--set",    "resources.max_array=2"};
  }
  const std::string& expected() {
    if (!expected_.empty()) return expected_;
    const Finished finished = work_.tenfold(run("calm.db"));
    EXPECT_EQ(finished.exit_code, 0) << finished.output;
    return expected_ = results_of(work_, "calm.db");
  }
  void start_and_sleep(const std::string& stage) {
    expected();
    const std::filesystem::path struck = work_.file("struck");
    work_.set("TENFOLD_FAULT", "stop@step:20,stage=" + stage + ",once=" + struck.string());
    run_ = work_.start(run("a.db"));
    ASSERT_TRUE(work_.wait_until_stopped(struck)) << work_.wait(run_, milliseconds(1)).output;
  }
  void wake() {
    for (const pid_t pid : work_.processes("tenfold-trainer")) ::kill(pid, SIGCONT);
  }
  void stop_in(const std::string& stage) {
    start_and_sleep(stage);
    ::kill(run_, SIGTERM);
    EXPECT_TRUE(Workspace::wait_until([&] { return !events("drain").empty(); }));
    std::this_thread::sleep_for(milliseconds(200));  // from the coordinator to the sleeping trainer's socket
    wake();
    ASSERT_EQ(work_.wait(run_).exit_code, 75);
    expect_none_left(work_);
  }
  // Files of checkpoints that the store names, the latest first.
  std::vector<std::string> files(const std::string& condition) {
    std::istringstream lines(
        work_.query("a.db", "SELECT DISTINCT path FROM checkpoint WHERE " + condition + " ORDER BY id DESC"));
    std::vector<std::string> found;
    for (std::string path; std::getline(lines, path);) found.push_back(path);
    EXPECT_FALSE(found.empty()) << condition;
    return found;
  }
  void harm(const std::string& name, Harm harm) {
    const std::filesystem::path file = work_.file("a.db.checkpoints") / name;
    ASSERT_TRUE(std::filesystem::exists(file));
    if (harm == Harm::missing) {
      std::filesystem::remove(file);
      return;
    }
    if (harm == Harm::truncated) {
      std::filesystem::resize_file(file, std::filesystem::file_size(file) / 2);
      return;
    }
    std::ifstream in(file, std::ios::binary);
    std::string bytes(std::istreambuf_iterator<char>(in), {});
    if (harm == Harm::flipped) {
      bytes[bytes.size() - 5] = static_cast<char>(bytes[bytes.size() - 5] ^ 16);
      std::ofstream(file, std::ios::binary) << bytes;
      return;
    }
    const std::string format = "tenfold checkpoint 1";
    const std::size_t at = bytes.find(format);
    ASSERT_NE(at, std::string::npos);
    bytes[at + format.size() - 1] = '0';
    std::ofstream(file, std::ios::binary) << bytes;
    // As an older tenfold would have left it: with its hash in the store.
    Connection connection(work_.file("a.db"), Connection::Access::read_write);
    Statement update(connection, "UPDATE checkpoint SET sha256 = ?1 WHERE path = ?2");
    update.bind(1, sha256_file(file.string()).hex()).bind(2, name).run();
  }
  Finished expect_the_same_results() {
    Finished again = work_.tenfold(run("a.db"));
    EXPECT_EQ(again.exit_code, 0) << again.output;
    expect_as_undisturbed(work_, "a.db", expected());
    return again;
  }
  std::string events(const std::string& kind) {
    return work_.query("a.db", "SELECT detail FROM event WHERE kind = '" + kind + "'");
  }

  Workspace work_;
  inline static std::string expected_;  // of an undisturbed run, made once for all tests
  pid_t run_ = -1;
};

class DamagedCheckpoint : public Checkpoints, public testing::WithParamInterface<Case> {};

TEST_P(DamagedCheckpoint, OfAFitGivesWayToTheOneBefore) {
  stop_in("fit");
  const std::string step = "SELECT min(step), max(step) FROM checkpoint WHERE step > 0";
  const std::string steps = work_.query("a.db", step);
  const std::string before = steps.substr(0, steps.find(','));
  harm(files("fit IS NOT NULL").front(), GetParam().harm);
  const Finished again = expect_the_same_results();
  EXPECT_THAT(events("checkpoint_damaged"), HasSubstr(GetParam().said));
  EXPECT_THAT(again.output, AllOf(HasSubstr("is not used"), HasSubstr(GetParam().said)));
  EXPECT_EQ(work_.query("a.db", "SELECT min(resumed_from_step) FROM attempt WHERE resumed_from_step > 0"),
            before + "\n");
}

INSTANTIATE_TEST_SUITE_P(Harms, DamagedCheckpoint,
                         testing::Values(Case{Harm::truncated, "truncated", "SHA-256"},
                                         Case{Harm::flipped, "flipped", "SHA-256"},
                                         Case{Harm::missing, "missing", "does not exist"},
                                         Case{Harm::other_version, "other_version", "another version"}),
                         [](const auto& info) { return std::string(info.param.name); });

TEST_F(Checkpoints, WithoutAnyGoodOneTheWorkBeginsAnew) {
  stop_in("adapt");
  for (const std::string& file : files("trial IS NOT NULL")) harm(file, Harm::flipped);
  expect_the_same_results();
  EXPECT_THAT(events("checkpoint_damaged"), HasSubstr("SHA-256"));
  EXPECT_EQ(work_.query("a.db", "SELECT count(*) FROM attempt WHERE trial IS NOT NULL AND resumed_from_step > 0"),
            "0\n");
}

TEST_F(Checkpoints, AFitWhoseTrainedParametersAreDamagedIsRunAgain) {
  stop_in("adapt");
  const std::vector<std::string> trained = files("fit IS NOT NULL");
  harm(trained.front(), Harm::other_version);
  for (std::size_t i = 1; i < trained.size(); ++i) harm(trained[i], Harm::missing);
  expect_the_same_results();
  EXPECT_THAT(events("checkpoint_damaged"), HasSubstr("trained.safetensors is of another version"));
  EXPECT_EQ(work_.query("a.db", "SELECT count(*) FROM attempt WHERE fit IS NOT NULL AND outcome = 'done'"), "4\n");
}

// Damage while the run goes on, found by a trainer that needs the file.
TEST_F(Checkpoints, TrainedParametersThatAreDamagedMeanwhileAreComputedAgain) {
  start_and_sleep("adapt");
  for (const std::string& file : files("fit IS NOT NULL")) harm(file, Harm::truncated);
  wake();
  const Finished finished = work_.wait(run_);
  EXPECT_EQ(finished.exit_code, 0) << finished.output;
  EXPECT_THAT(finished.output, HasSubstr("is computed again, for its trained parameters are lost"));
  EXPECT_THAT(events("fit_reopened"), HasSubstr("is computed again"));
  EXPECT_THAT(work_.query("a.db", "SELECT reason FROM attempt WHERE outcome = 'failed'"), HasSubstr("damaged"));
  expect_as_undisturbed(work_, "a.db", expected());
}

// The same, found when a trainer has died.
TEST_F(Checkpoints, TrainedParametersThatAreGoneWhenATrainerDiesAreComputedAgain) {
  start_and_sleep("adapt");
  for (const std::string& file : files("fit IS NOT NULL")) harm(file, Harm::missing);
  for (const pid_t pid : work_.processes("tenfold-trainer")) ::kill(pid, SIGKILL);
  const Finished finished = work_.wait(run_);
  EXPECT_EQ(finished.exit_code, 0) << finished.output;
  EXPECT_THAT(events("fit_reopened"), HasSubstr("is computed again"));
  expect_as_undisturbed(work_, "a.db", expected());
}

// A trial under way has the parameters in memory: it ends well, and whatever waits for the fit fails with it.
TEST(LostFit, ThatFailsForGoodTakesNoTrialWithItThatIsUnderWay) {
  Workspace work;
  work.use_fake_trainer();
  work.write("x.yaml", kFake);
  // Two folds, and arrays of one: each fold has several trials under way at once.
  const auto run = [](const std::string& db) {
    return std::vector<std::string>{"run", "x.yaml", "--db",      db,      "--slots",
                                    "4",   "--set",  "folds.k=2", "--set", "resources.max_array=1"};
  };
  ASSERT_EQ(work.tenfold(run("calm.db")).exit_code, 0);

  for (const auto& [name, value] :
       {std::pair{"STEP_MS", "60"}, {"FAIL", "0"}, {"FAIL_STAGE", "fit"}, {"NO_RETRY", "1"}})
    work.set(std::string("TENFOLD_FAKE_") + name, value);
  work.set("TENFOLD_FAKE_FAIL_IF", work.file("fail").string());
  const pid_t pid = work.start(run("a.db"));
  const std::string of_fold_0 =
      "FROM attempt a JOIN trial t ON t.id = a.trial WHERE a.outcome = 'running' AND t.fold = 0";
  ASSERT_TRUE(work.wait_until([&] { return work.holds("a.db", "SELECT count(*) >= 2 " + of_fold_0); }, seconds(100)));
  work.write("fail", "");
  const std::string trained =
      work.query("a.db", "SELECT path FROM checkpoint c JOIN fit f ON f.id = c.fit WHERE fold = 0");
  ASSERT_EQ(std::count(trained.begin(), trained.end(), '\n'), 1) << trained;
  const std::string victim = work.query("a.db", "SELECT max(a.pid) " + of_fold_0);
  std::filesystem::remove(work.file("a.db.checkpoints") / trained.substr(0, trained.size() - 1));
  ASSERT_EQ(::kill(static_cast<pid_t>(std::stol(victim)), SIGKILL), 0);
  const Finished finished = work.wait(pid);
  EXPECT_EQ(finished.exit_code, 1) << finished.output;
  expect_sound(work, "a.db");
  expect_none_left(work);
  const std::string begun = "FROM attempt a JOIN trial t ON t.id = a.trial WHERE t.fold = 0 AND a.pid > 0";
  EXPECT_NE(work.query("a.db", "SELECT count(*) " + begun + " AND a.outcome = 'done'"), "0\n");
  EXPECT_EQ(work.query("a.db", "SELECT count(*) " + begun + " AND a.outcome = 'failed' AND a.pid <> " + victim), "0\n");
  EXPECT_EQ(work.query("a.db",
                       "SELECT fold, sum(status = 'failed') > 0, sum(status IN ('done', 'failed')) FROM trial "
                       "GROUP BY 1 ORDER BY 1"),
            "0,1,6\n1,0,6\n");
  EXPECT_EQ(
      work.query("a.db", "SELECT reason FROM trial WHERE status = 'failed' AND reason NOT LIKE 'its fit failed: %'"),
      "");

  for (const char* name : {"STEP_MS", "FAIL", "FAIL_IF"}) work.unset(std::string("TENFOLD_FAKE_") + name);
  EXPECT_EQ(work.tenfold(run("a.db")).exit_code, 0);
  expect_as_undisturbed(work, "a.db", results_of(work, "calm.db"));
}

}  // namespace
}  // namespace tenfold
