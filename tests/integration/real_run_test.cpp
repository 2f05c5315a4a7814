// Whole runs with the real trainer: the same bits whatever happens on the way.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <cstdlib>
#include <random>
#include <thread>

#include "tests/faults/oracle.h"

namespace tenfold {
namespace {

using std::chrono::seconds;
using testing::HasSubstr;

class RealRun : public testing::Test {
 protected:
  std::vector<std::string> run(const std::string& db, int slots, std::vector<std::string> more = {}) {
    const char* source = std::getenv("TENFOLD_SOURCE_DIR");
    std::vector<std::string> words{"run",      std::string(source) + "/experiments/smoke.yaml",
                                   "--db",     db,
                                   "--slots",  std::to_string(slots),
                                   "--device", "cpu",
                                   "--set",    "checkpoint.every_steps=3"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  Workspace work_;
};

TEST_F(RealRun, OneTwoAndFourSlotsGiveTheSameBits) {
  for (const char* limit : {"TENFOLD_TRAINER_SILENCE_S", "TENFOLD_ALIVE_TIMEOUT_S"})
    work_.set(limit, "600");  // nobody minds that one sleeps
  for (const int slots : {1, 2, 4}) {
    const std::vector<std::string> longer{"--set", "train.epochs=200", "--set", "ttt.steps=150"};
    const std::string db = std::to_string(slots) + ".db", struck = work_.file("struck").string();
    // While the first of two trainers sleeps in its fit, the second one gets the other fit, however late it is.
    if (slots == 2) work_.set("TENFOLD_FAULT", "stop@step:100,stage=fit,once=" + struck);
    const pid_t pid = work_.start(run(db, slots, longer));
    if (slots == 2) {
      EXPECT_TRUE(work_.wait_until_stopped(struck));
      const auto both = [&] { return work_.holds(db, "SELECT count(DISTINCT rank) = 2 FROM attempt"); };
      EXPECT_TRUE(Workspace::wait_until(both, seconds(60)));
      for (const pid_t trainer : work_.processes("tenfold-trainer")) ::kill(trainer, SIGCONT);
    }
    const Finished finished = work_.wait(pid);
    ASSERT_EQ(finished.exit_code, 0) << finished.output;
    EXPECT_TRUE(work_.wait_until_none_left(seconds(5)));
  }
  const std::string one = results_of(work_, "1.db");
  EXPECT_EQ(one, results_of(work_, "2.db"));
  EXPECT_EQ(one, results_of(work_, "4.db"));
}

// An array is halved when its trainer dies, and sized by the slots: so its size must show in no bit. Shapes that make
// members of an array lie at odd addresses, and products large enough for the mathematics library.
TEST_F(RealRun, ArraysOfOneAndOfManyGiveTheSameBits) {
  for (const int most : {1, 8}) {
    const Finished finished = work_.tenfold(run(
        std::to_string(most) + ".db", 1,
        {"--set", "resources.max_array=" + std::to_string(most), "--set", "dataset.samples=600", "--set",
         "dataset.classes=10", "--set", "folds.k=3", "--set", "model.hidden=[50, 30]", "--set", "ttt.batch_size=64"}));
    ASSERT_EQ(finished.exit_code, 0) << finished.output;
  }
  EXPECT_EQ(results_of(work_, "1.db"), results_of(work_, "8.db"));
}

// Everything is killed at 25 random instants. A run that comes through in between is checked, and a new one is begun,
// so that the number of kills does not depend on how fast the machine is.
TEST_F(RealRun, KillsAtRandomInstantsChangeNoBit) {
  const std::vector<std::string> longer{"--set", "train.epochs=60", "--set", "ttt.steps=150"};
  const auto begin = std::chrono::steady_clock::now();
  ASSERT_EQ(work_.tenfold(run("calm.db", 2, longer)).exit_code, 0);
  const std::chrono::duration<double> calm = std::chrono::steady_clock::now() - begin;
  const std::string expected = results_of(work_, "calm.db");
  std::mt19937 random(7);
  std::uniform_real_distribution<double> instant(0.1, std::max(0.5, 0.9 * calm.count()));
  int lives = 1, resumed = 0;
  const auto name = [&] { return "killed-" + std::to_string(lives) + ".db"; };
  const auto check = [&] {
    expect_as_undisturbed(work_, name(), expected);
    resumed += std::stoi(work_.query(name(), "SELECT count(*) FROM attempt WHERE resumed_from_step > 0"));
  };
  for (int kills = 0; kills < 25;) {
    const pid_t pid = work_.start(run(name(), 2, longer));
    std::this_thread::sleep_for(std::chrono::duration<double>(instant(random)));
    for (const pid_t victim : work_.processes()) ::kill(victim, SIGKILL);
    const Finished finished = work_.wait(pid);
    ASSERT_TRUE(work_.wait_until_none_left(seconds(5)));
    if (finished.exit_code != 0) {
      ++kills;
      continue;
    }
    check();
    ++lives;
  }
  const Finished last = work_.tenfold(run(name(), 2, longer));
  ASSERT_EQ(last.exit_code, 0) << last.output;
  check();
  EXPECT_GT(resumed, 0) << "no attempt went on from a step after 0";
}

TEST_F(RealRun, ADrainedRunGoesOnFromItsStep) {
  const std::vector<std::string> longer{
      "--set", "train.epochs=3000", "--set", "ttt.steps=40", "--set", "checkpoint.every_steps=100000"};
  ASSERT_EQ(work_.tenfold(run("calm.db", 2, longer)).exit_code, 0);
  const pid_t pid = work_.start(run("a.db", 2, longer));
  // No checkpoint is due: what the drain writes is all there is to go on from.
  const auto under_way = [&] { return work_.holds("a.db", "SELECT count(*) > 0 FROM train_step"); };
  EXPECT_TRUE(Workspace::wait_until(under_way));
  ::kill(pid, SIGINT);
  const Finished drained = work_.wait(pid, seconds(20));
  ASSERT_EQ(drained.exit_code, 130) << drained.output;
  ASSERT_EQ(work_.tenfold(run("a.db", 2, longer)).exit_code, 0);
  expect_as_undisturbed(work_, "a.db", results_of(work_, "calm.db"));
  EXPECT_EQ(work_.query("a.db", "SELECT count(*) > 0 FROM attempt WHERE resumed_from_step > 0"), "1\n");
}

TEST_F(RealRun, AKilledTrainerIsReplacedAndItsArrayGoesOn) {
  const Finished finished = [&] {
    work_.set("TENFOLD_FAULT", "kill@step:7,stage=fit,once=" + work_.file("struck").string());
    return work_.tenfold(run("a.db", 2));
  }();
  ASSERT_EQ(finished.exit_code, 0) << finished.output;
  EXPECT_TRUE(std::filesystem::exists(work_.file("struck")));
  work_.unset("TENFOLD_FAULT");
  ASSERT_EQ(work_.tenfold(run("calm.db", 2)).exit_code, 0);
  expect_as_undisturbed(work_, "a.db", results_of(work_, "calm.db"));
  EXPECT_THAT(work_.query("a.db", "SELECT DISTINCT reason FROM attempt WHERE outcome = 'failed'"),
              HasSubstr("SIGKILL"));
}

TEST_F(RealRun, AGuardThatStopsATrialSaysWhyInTheStore) {
  const Finished finished = work_.tenfold(run(
      "a.db", 2, {"--set", "ttt.stop.patience=1", "--set", "ttt.stop.after=0", "--set", "ttt.stop.min_delta=1000"}));
  ASSERT_EQ(finished.exit_code, 0) << finished.output;
  EXPECT_EQ(work_.query("a.db", "SELECT DISTINCT max(step) FROM ttt_step GROUP BY trial"), "1\n");
  EXPECT_THAT(work_.query("a.db", "SELECT DISTINCT reason FROM attempt WHERE trial IS NOT NULL"),
              HasSubstr("no improvement of the total"));
}

// A language model on a small text, with pairs of which one file line is wrong in the end.
class PairsRun : public testing::Test {
 protected:
  PairsRun() {
    std::string text;
    for (int i = 0; i < 60; ++i) text += "line " + std::to_string(i * 37 % 60) + ": the cats sleep on the mats.\n";
    work_.write("a.txt", text);
    work_.write("x.yaml", R"(name: pairs
dataset: {kind: text, path: a.txt, sequence_length: 32}
folds: {kind: kfold, k: 2}
model: {kind: transformer_lm, layers: 1, width: 16, heads: 2}
train: {steps: 6, batch_size: 8}
ttt: {steps: 1, batch_size: 8, lr: 1e-3}
metrics: [nll]
diagnostics: {minimal_pairs: pairs.jsonl}
)");
    work_.write("pairs.jsonl", kPairs);
  }
  Finished run() const {
    return work_.tenfold({"run", work_.file("x.yaml").string(), "--db", "a.db", "--slots", "1", "--device", "cpu"});
  }
  static constexpr const char* kPairs =
      "{\"good\": \"the cats sleep\", \"bad\": \"the cats sleeps\", \"task\": \"verbs\"}\n"
      "{\"good\": \"the mats\", \"bad\": \"teh mats\", \"task\": \"words\"}\n"
      "{\"good\": \"on the\", \"bad\": \"no the\", \"task\": \"words\"}\n";
  Workspace work_;
};

TEST_F(PairsRun, MinimalPairsAreScoredBeforeAndAfter) {
  const Finished finished = run();
  ASSERT_EQ(finished.exit_code, 0) << finished.output;
  EXPECT_THAT(finished.output, HasSubstr("minimal_pairs % before"));
  EXPECT_EQ(work_.query("a.db", "SELECT phase, task, total, count(*) FROM minimal_pairs GROUP BY 1, 2 ORDER BY 1, 2"),
            "after,verbs,1,2\nafter,words,2,2\nbefore,verbs,1,2\nbefore,words,2,2\n");
  EXPECT_EQ(
      work_.query("a.db",
                  "SELECT count(*) FROM evaluation e WHERE metric = 'minimal_pairs' AND value = (SELECT avg(score) "
                  "FROM minimal_pairs m WHERE m.trial = e.trial AND m.phase = e.phase AND m.step = e.step)"),
      "4\n");
  // What is measured is the content: the same file measures nothing anew, another one does.
  ASSERT_EQ(run().exit_code, 0);
  EXPECT_EQ(work_.query("a.db", "SELECT count(*) FROM trial"), "2\n");
  work_.write("pairs.jsonl", std::string(kPairs) + "{\"good\": \"mats\", \"bad\": \"tams\", \"task\": \"words\"}\n");
  ASSERT_EQ(run().exit_code, 0);
  EXPECT_EQ(work_.query("a.db", "SELECT count(DISTINCT trial) FROM minimal_pairs WHERE total = 3"), "2\n");
}

TEST_F(PairsRun, PairsThatCannotBeReadAreAnErrorBeforeAnythingIsComputed) {
  work_.write("pairs.jsonl", std::string(kPairs) + "{\"good\": \"one\"}\n");
  const Finished malformed = run();
  EXPECT_EQ(malformed.exit_code, 2) << malformed.output;
  EXPECT_THAT(malformed.output, HasSubstr("x.yaml:8:30: "));
  EXPECT_THAT(malformed.output, HasSubstr("pairs.jsonl:4: has neither \"bad\" nor \"bad_tokens\""));
  std::filesystem::remove(work_.file("pairs.jsonl"));
  const Finished missing = run();
  EXPECT_EQ(missing.exit_code, 2) << missing.output;
  EXPECT_THAT(missing.output, HasSubstr("pairs.jsonl"));
  EXPECT_FALSE(std::filesystem::exists(work_.file("a.db")));
}

}  // namespace
}  // namespace tenfold
