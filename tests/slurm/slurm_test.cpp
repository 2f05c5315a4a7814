// Jobs on a real SLURM: what `tenfold submit` writes is run by sbatch, signalled, requeued, preempted, and ends with
// the results of an undisturbed run. The trainer is the fake one, which takes as long as it is told to, and once the
// real one.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <functional>
#include <memory>
#include <sstream>
#include <thread>

#include "experiments/file_text.h"
#include "experiments/host.h"
#include "tests/faults/oracle.h"
#include "tests/missing.h"
#include "tests/slurm/slurm_cluster.h"

namespace tenfold {
namespace {

using std::chrono::seconds;
using testing::AllOf;
using testing::ContainsRegex;
using testing::HasSubstr;
using testing::Not;

constexpr auto kLimit = seconds(240);  // for what takes a few seconds on an idle machine
constexpr const char* kAskedByUsr2 = "asked by SIGUSR2 to stop at the next step\n";
constexpr const char* kExperiment = R"(name: fake
dataset: {kind: synthetic, samples: 240, features: 8, classes: 3}
folds: {kind: stratified, k: 4}
model: {kind: mlp, hidden: [16]}
train: {epochs: 4, batch_size: 16}
ttt: {method: entropy_diversity, steps: 5, batch_size: 32}
metrics: [accuracy]
checkpoint: {every_s: 5}
sweep:
  ttt.lr: [1e-4, 1e-3, 1e-2]
)";

constexpr const char* kRealExperiment = R"(name: real
dataset: {kind: synthetic, samples: 240, features: 8, classes: 3, separation: 3.0, shift: {kind: gaussian_noise, severity: 2}}
folds: {kind: stratified, k: 2}
model: {kind: mlp, hidden: [16], norm: layer, dropout: 0.1}
train: {epochs: 800, batch_size: 16, optimizer: {kind: adamw, lr: 1e-3}}
ttt: {method: entropy_diversity, steps: 400, batch_size: 32}
metrics: [accuracy, nll]
sweep: {ttt.lr: [1e-5, 1e-4], ttt.parameters: [norm, all]}
checkpoint: {every_steps: 100}
)";

class Slurm : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    if (!why_no_slurm().empty()) return;
    work_ = std::make_unique<Workspace>();
    work_->use_fake_trainer();
    work_->write("x.yaml", kExperiment);
    std::filesystem::create_directory(work_->file("slurm"));
    far_ = std::make_unique<SecondHost>(*work_);
    cluster_ = std::make_unique<SlurmCluster>(work_->file("slurm"), far_->available() ? far_.get() : nullptr);
    work_->set("SLURM_CONF", cluster_->configuration().string());
    work_->set("TENFOLD_SITE", work_->file("site.yaml").string());
    const Finished calm = work_->tenfold({"run", "x.yaml", "--db", "calm.db", "--slots", "2", "--device", "cpu"});
    ASSERT_EQ(calm.exit_code, 0) << calm.output;
    expected_ = results_of(*work_, "calm.db");
  }
  static void TearDownTestSuite() {
    cluster_.reset();
    far_.reset();
    if (!work_) return;
    EXPECT_TRUE(work_->wait_until_none_left(seconds(5))) << "SLURM left processes behind";
    work_.reset();
  }
  void SetUp() override {
    const std::string why = why_no_slurm();
    if (!why.empty()) return test::missing("SLURM", why);
    ASSERT_NE(cluster_, nullptr);
    work_->set("TENFOLD_FAKE_STEP_MS", "100");
  }

  // The output of a command line of SLURM's.
  static std::string slurm(const std::string& command) {
    const std::string line = "SLURM_CONF='" + cluster_->configuration().string() + "' " + command + " 2>&1";
    std::string said;
    if (FILE* answer = ::popen(line.c_str(), "r")) {
      char text[512];
      while (std::fgets(text, sizeof text, answer)) said += text;
      ::pclose(answer);
    }
    return said;
  }
  static bool until(const std::function<bool()>& condition) {
    return Workspace::wait_until(condition, kLimit, std::chrono::milliseconds(200));
  }
  // `tenfold submit`; the job's number.
  static std::string submit(const std::string& db, const std::vector<std::string>& more,
                            const std::string& experiment = "x.yaml") {
    std::vector<std::string> words{"submit", experiment, "--db", db};
    words.insert(words.end(), more.begin(), more.end());
    const Finished finished = work_->tenfold(words);
    EXPECT_EQ(finished.exit_code, 0) << finished.output;
    const std::string key = "submitted as job ";
    const auto at = finished.output.find(key);
    EXPECT_NE(at, std::string::npos) << finished.output;
    return finished.output.substr(at + key.size(), finished.output.find(',', at) - at - key.size());
  }
  // "JobState=..." and the like of a job or task.
  static std::string property(const std::string& job, const std::string& name) {
    const std::string all = " " + slurm("scontrol show job -o " + job);
    const auto at = all.find(" " + name + "=");
    if (at == std::string::npos) return "";
    const auto begin = at + name.size() + 2;
    return all.substr(begin, all.find(' ', begin) - begin);
  }
  static bool ended(const std::string& job) {
    const std::string state = property(job, "JobState");
    return state == "COMPLETED" || state == "FAILED" || state == "CANCELLED";
  }
  static bool comes_back(const std::string& job) {
    const bool came = until([&] {
      if (property(job, "Restarts") == "0") return false;
      const std::string state = property(job, "JobState");
      return state == "RUNNING" || state == "COMPLETED";
    });
    if (!came) ADD_FAILURE() << slurm("scontrol show job " + job) << slurm("sinfo -R -l");
    return came;
  }
  static std::string log_of(const std::string& db, const std::string& job, const std::string& experiment = "fake") {
    return file_text(work_->file(db + ".jobs/" + experiment + "-" + job + ".log")).value_or("");
  }
  static bool has_checkpoints(const std::string& db) { return work_->holds(db, "SELECT count(*) > 0 FROM checkpoint"); }

  static std::unique_ptr<Workspace> work_;
  static std::unique_ptr<SecondHost> far_;
  static std::unique_ptr<SlurmCluster> cluster_;
  static std::string expected_;
};
std::unique_ptr<Workspace> Slurm::work_;
std::unique_ptr<SecondHost> Slurm::far_;
std::unique_ptr<SlurmCluster> Slurm::cluster_;
std::string Slurm::expected_;

TEST_F(Slurm, AJobStopsAtItsSignalComesBackAndGoesOn) {
  const std::string job = submit("a.db", {"--slots", "2", "--time", "10"});
  ASSERT_TRUE(until([&] { return has_checkpoints("a.db"); })) << log_of("a.db", job);
  const Finished status = work_->tenfold({"status", "--db", "a.db"});
  EXPECT_THAT(status.output, HasSubstr("job " + job + " (fake): RUNNING"));
  EXPECT_THAT(work_->tenfold({"status", "--db", "a.db", "--format", "json"}).output,
              AllOf(HasSubstr("\"job\": \"" + job + "\""), HasSubstr("\"state\": \"RUNNING\"")));
  slurm("scancel --batch --signal=USR2 " + job);  // what SLURM does some time before the limit
  ASSERT_TRUE(comes_back(job)) << log_of("a.db", job);
  ASSERT_TRUE(until([&] { return ended(job); })) << log_of("a.db", job);
  const std::string log = log_of("a.db", job);
  EXPECT_EQ(property(job, "JobState"), "COMPLETED") << log;
  expect_as_undisturbed(*work_, "a.db", expected_);
  EXPECT_THAT(log, AllOf(HasSubstr("USR2: stopping at the next step"), HasSubstr("the run ended with code 75"),
                         HasSubstr("time limit 1 of at most 20"), HasSubstr("restarts: 1"),
                         HasSubstr("the run ended with code 0")));
  EXPECT_EQ(work_->query("a.db", "SELECT count(*) > 0 FROM attempt WHERE resumed_from_step > 0"), "1\n");
  EXPECT_EQ(work_->query("a.db", "SELECT job, experiment, nodes, slots, time_limit, launcher FROM cluster_job"),
            job + ",fake,1,2,10,mpirun\n");
  EXPECT_EQ(work_->query("a.db", "SELECT detail FROM event WHERE kind = 'drain'"), kAskedByUsr2);
}

// A time limit of a minute, which is too short for the work.
TEST_F(Slurm, SlurmsOwnSignalComesBeforeTheTimeLimit) {
  work_->set("TENFOLD_FAKE_STEP_MS", "1200");
  const std::string job = submit("h.db", {"--slots", "2", "--time", "1"});
  ASSERT_TRUE(comes_back(job)) << log_of("h.db", job);
  ASSERT_TRUE(until([&] { return ended(job); })) << log_of("h.db", job);
  const std::string log = log_of("h.db", job);
  EXPECT_EQ(property(job, "JobState"), "COMPLETED") << log;
  EXPECT_THAT(log, AllOf(HasSubstr("time limit 1 of at most 20"), HasSubstr("the run ended with code 0")));
  expect_as_undisturbed(*work_, "h.db", expected_);
  EXPECT_EQ(work_->query("h.db", "SELECT count(*) > 0 FROM attempt WHERE resumed_from_step > 0"), "1\n");
}

TEST_F(Slurm, TheRealTrainerGoesOnToTheSameBits) {
  if (!std::filesystem::exists(std::filesystem::path(std::getenv("TENFOLD_BIN_DIR")) / "tenfold-trainer"))
    GTEST_SKIP() << "built without LibTorch: there is no tenfold-trainer";
  work_->write("real.yaml", kRealExperiment);
  work_->unset("TENFOLD_TRAINER");
  const Finished calm = work_->tenfold({"run", "real.yaml", "--db", "calm-real.db", "--slots", "2", "--device", "cpu"});
  EXPECT_EQ(calm.exit_code, 0) << calm.output;
  const std::string job = submit("i.db", {"--slots", "2", "--time", "10"}, "real.yaml");
  const bool begun = until([&] { return has_checkpoints("i.db"); });
  slurm("scancel --batch --signal=USR2 " + job);
  const bool back = comes_back(job), through = until([&] { return ended(job); });
  work_->use_fake_trainer();
  const std::string log = log_of("i.db", job, "real");
  ASSERT_TRUE(begun && back && through) << log;
  EXPECT_EQ(property(job, "JobState"), "COMPLETED") << log;
  expect_as_undisturbed(*work_, "i.db", results_of(*work_, "calm-real.db"));
  EXPECT_EQ(work_->query("i.db", "SELECT count(*) > 0 FROM attempt WHERE resumed_from_step > 0"), "1\n");
}

TEST_F(Slurm, WhatMayNotComeBackAnyMoreStaysOut) {
  const std::string job = submit("b.db", {"--slots", "2", "--time", "10", "--set", "resources.requeues=0"});
  ASSERT_TRUE(until([&] { return has_checkpoints("b.db"); })) << log_of("b.db", job);
  slurm("scancel --batch --signal=USR2 " + job);
  ASSERT_TRUE(until([&] { return ended(job); })) << log_of("b.db", job);
  EXPECT_EQ(property(job, "JobState"), "FAILED");
  EXPECT_EQ(property(job, "ExitCode"), "75:0");
  EXPECT_EQ(property(job, "Restarts"), "0");
  EXPECT_THAT(log_of("b.db", job), HasSubstr("more than resources.requeues (0) allows"));
}

TEST_F(Slurm, APreemptedJobComesBackUncounted) {
  work_->set("TENFOLD_FAKE_STEP_MS", "150");
  const std::string job = submit("c.db", {"--slots", "2", "--time", "10", "--partition", "main"});
  ASSERT_TRUE(until([&] { return has_checkpoints("c.db"); })) << log_of("c.db", job);
  // Its signal comes at once, and 20 s to stop in.
  const std::string urgent =
      slurm("sbatch --parsable --partition=urgent --ntasks=8 --time=1 --output=/dev/null --wrap='sleep 1'");
  ASSERT_TRUE(comes_back(job)) << urgent << log_of("c.db", job);
  ASSERT_TRUE(until([&] { return ended(job); })) << log_of("c.db", job);
  EXPECT_EQ(property(job, "JobState"), "COMPLETED") << log_of("c.db", job);
  EXPECT_FALSE(std::filesystem::exists(work_->file("c.db.jobs/" + job + ".requeues")));
  expect_as_undisturbed(*work_, "c.db", expected_);
}

TEST_F(Slurm, ACancelledJobStaysAway) {
  const std::string job = submit("d.db", {"--slots", "2", "--time", "10"});
  ASSERT_TRUE(until([&] { return has_checkpoints("d.db"); })) << log_of("d.db", job);
  slurm("scancel --full " + job);
  ASSERT_TRUE(until([&] { return ended(job); })) << log_of("d.db", job);
  EXPECT_EQ(property(job, "JobState"), "CANCELLED");
  EXPECT_EQ(property(job, "Restarts"), "0");
}

TEST_F(Slurm, AnArrayComputesPartsThatMergeIntoOne) {
  const std::string job = submit("e.db", {"--slots", "1", "--time", "10", "--array", "2"});
  ASSERT_TRUE(until([&] { return has_checkpoints("e.shard-1-of-2.db"); })) << log_of("e.db", job + "_1");
  EXPECT_THAT(work_->tenfold({"status", "--db", "e.db"}).output, HasSubstr("task " + job + "_1: RUNNING"));
  slurm("scancel --batch --signal=USR2 " + job + "_1");
  ASSERT_TRUE(comes_back(job + "_1")) << slurm("scontrol show job " + job) << log_of("e.db", job + "_1");
  for (const std::string& task : {job + "_1", job + "_2"}) {
    ASSERT_TRUE(until([&] { return ended(task); })) << log_of("e.db", task);
    EXPECT_EQ(property(task, "JobState"), "COMPLETED") << log_of("e.db", task);
  }
  EXPECT_EQ(property(job + "_1", "Restarts"), "1");
  EXPECT_EQ(property(job + "_2", "Restarts"), "0");
  const Finished merged = work_->tenfold({"merge", "e.db", "e.shard-1-of-2.db", "e.shard-2-of-2.db"});
  EXPECT_EQ(merged.exit_code, 0) << merged.output;
  expect_as_undisturbed(*work_, "e.db", expected_);
}

TEST_F(Slurm, SrunStartsTheProcessesWhereItIsAskedTo) {
  work_->set("TENFOLD_FAKE_STEP_MS", "5");
  const std::string job = submit("f.db", {"--slots", "2", "--time", "10", "--launcher", "srun"});
  ASSERT_TRUE(until([&] { return ended(job); })) << log_of("f.db", job);
  EXPECT_EQ(property(job, "JobState"), "COMPLETED") << log_of("f.db", job);
  expect_as_undisturbed(*work_, "f.db", expected_);
  EXPECT_EQ(work_->query("f.db", "SELECT count(DISTINCT rank) FROM attempt"), "2\n");
}

class SlurmPair : public Slurm, public testing::WithParamInterface<const char*> {};

TEST_P(SlurmPair, SharesAJobThatComesBack) {
  if (!far_->available()) return test::missing("NAMESPACES", far_->why());
  const std::string db = std::string(GetParam()) + ".db";
  const std::string job =
      submit(db, {"--nodes", "2", "--slots", "4", "--time", "10", "--partition", "pair", "--launcher", GetParam()});
  ASSERT_TRUE(until([&] { return has_checkpoints(db); })) << log_of(db, job);
  slurm("scancel --batch --signal=USR2 " + job);
  ASSERT_TRUE(comes_back(job)) << log_of(db, job);
  ASSERT_TRUE(until([&] { return ended(job); })) << log_of(db, job);
  EXPECT_EQ(property(job, "JobState"), "COMPLETED") << log_of(db, job);
  expect_as_undisturbed(*work_, db, expected_);
  EXPECT_EQ(work_->query(db, "SELECT count(DISTINCT host), count(DISTINCT rank) FROM attempt"), "2,4\n");
  EXPECT_EQ(work_->query(db, "SELECT detail FROM event WHERE kind = 'drain'"), kAskedByUsr2);
  EXPECT_EQ(work_->query(db, "SELECT count(*) > 0 FROM attempt WHERE resumed_from_step > 0"), "1\n");
}

INSTANTIATE_TEST_SUITE_P(Launchers, SlurmPair, testing::Values("mpirun", "srun"),
                         [](const auto& info) { return std::string(info.param); });

// Takes a node out of service while it lives.
class Drained {
 public:
  Drained(std::string node, std::function<std::string(const std::string&)> slurm)
      : node_(std::move(node)), slurm_(std::move(slurm)) {
    EXPECT_EQ(slurm_("scontrol update NodeName=" + node_ + " State=DRAIN Reason=test"), "");
  }
  ~Drained() { EXPECT_EQ(slurm_("scontrol update NodeName=" + node_ + " State=RESUME"), ""); }
  Drained(const Drained&) = delete;
  Drained& operator=(const Drained&) = delete;

 private:
  std::string node_;
  std::function<std::string(const std::string&)> slurm_;
};

// The nodes of the job that was stopped are gone, or somebody else's, when it is its turn again.
TEST_F(Slurm, AJobWhoseNodeIsDrainedGoesOnOnAnother) {
  if (!far_->available()) return test::missing("NAMESPACES", far_->why());
  const std::string job = submit("j.db", {"--slots", "2", "--time", "10", "--partition", "pair"});
  ASSERT_TRUE(until([&] { return has_checkpoints("j.db"); })) << log_of("j.db", job);
  const std::string first = property(job, "NodeList");
  const Drained drained(first, slurm);
  slurm("scancel --batch --signal=USR2 " + job);
  ASSERT_TRUE(comes_back(job)) << log_of("j.db", job);
  ASSERT_TRUE(until([&] { return ended(job); })) << log_of("j.db", job);
  EXPECT_EQ(property(job, "JobState"), "COMPLETED") << log_of("j.db", job);
  const std::string second = property(job, "NodeList");
  EXPECT_NE(second, first);
  expect_as_undisturbed(*work_, "j.db", expected_);
  const auto host_of = [](const std::string& node) { return (node == "far" ? node : host_name()) + "\n"; };
  EXPECT_EQ(work_->query("j.db", "SELECT DISTINCT host FROM attempt WHERE outcome = 'stopped'"), host_of(first));
  EXPECT_EQ(work_->query("j.db", "SELECT DISTINCT host FROM attempt WHERE resumed_from_step > 0"), host_of(second));
}

// The environment of a trainer, which stands at the end of all that a site's lines go through.
TEST_F(Slurm, TheSitesLinesReachTheTrainers) {
  work_->write(
      "trainer",
      "#!/bin/sh\necho \"$SITE_WORD|$SITE_SETUP|$SITE_CONTAINER\" >>'" + work_->file("seen").string() + "'\nexec '" +
          (std::filesystem::path(std::getenv("TENFOLD_BIN_DIR")) / "tenfold-fake-trainer").string() + "' \"$@\"\n");
  std::filesystem::permissions(work_->file("trainer"), std::filesystem::perms::owner_all);
  work_->write("other-site.yaml",
               "environment: {SITE_WORD: \"it's $HOME\"}\n"
               "setup: ['export SITE_SETUP=\"after $SITE_WORD\"']\n"
               "container: [env, 'SITE_CONTAINER=with blanks']\n"
               "sbatch: ['--comment=from-the-site']\n");
  work_->set("TENFOLD_TRAINER", work_->file("trainer").string());
  work_->set("TENFOLD_SITE", work_->file("other-site.yaml").string());
  work_->set("TENFOLD_FAKE_STEP_MS", "5");
  const std::string job = submit("k.db", {"--slots", "2", "--time", "10"});
  work_->use_fake_trainer();
  work_->set("TENFOLD_SITE", work_->file("site.yaml").string());
  ASSERT_TRUE(until([&] { return ended(job); })) << log_of("k.db", job);
  EXPECT_EQ(property(job, "JobState"), "COMPLETED") << log_of("k.db", job);
  EXPECT_EQ(property(job, "Comment"), "from-the-site");
  expect_as_undisturbed(*work_, "k.db", expected_);
  std::istringstream seen(file_text(work_->file("seen")).value_or(""));
  int trainers = 0;
  for (std::string line; std::getline(seen, line); ++trainers)
    EXPECT_EQ(line, "it's $HOME|after it's $HOME|with blanks");
  EXPECT_EQ(trainers, 2) << log_of("k.db", job);
}

// Modules may take long to load, and the signal comes whenever it comes.
TEST_F(Slurm, ASignalWhileTheSiteIsSetUpStopsNothingForGood) {
  work_->write("slow-site.yaml", "setup: \"if [[ -z ${SLURM_RESTART_COUNT-} ]]; then touch '" +
                                     work_->file("setting-up").string() + "'; sleep 4; fi\"\n");
  work_->set("TENFOLD_SITE", work_->file("slow-site.yaml").string());
  work_->set("TENFOLD_FAKE_STEP_MS", "5");
  const std::string job = submit("l.db", {"--slots", "2", "--time", "10"});
  work_->set("TENFOLD_SITE", work_->file("site.yaml").string());
  ASSERT_TRUE(until([&] { return std::filesystem::exists(work_->file("setting-up")); })) << log_of("l.db", job);
  slurm("scancel --batch --signal=USR2 " + job);
  ASSERT_TRUE(comes_back(job)) << log_of("l.db", job);
  ASSERT_TRUE(until([&] { return ended(job); })) << log_of("l.db", job);
  EXPECT_EQ(property(job, "JobState"), "COMPLETED") << log_of("l.db", job);
  expect_as_undisturbed(*work_, "l.db", expected_);
}

// Tasks of srun that do not know each other would all be a run of their own.
TEST_F(Slurm, AWorldOfTheWrongSizeIsRefusedAtOnce) {
  const std::string run = (std::filesystem::path(std::getenv("TENFOLD_BIN_DIR")) / "tenfold").string() + " run '" +
                          work_->file("x.yaml").string() + "' --device cpu --db '" + work_->file("g.db").string() + "'";
  const std::string said = slurm("srun --ntasks=3 --time=1 --mpi=none " + run);
  EXPECT_THAT(said, AllOf(HasSubstr("srun started 3 tasks that do not know each other"), HasSubstr("--mpi=pmix")));
  EXPECT_FALSE(std::filesystem::exists(work_->file("g.db")));
}

}  // namespace
}  // namespace tenfold
