// What `tenfold submit` writes, without a cluster.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <fstream>

#include "experiments/error.h"
#include "runner/cluster_queue.h"
#include "runner/cluster_script.h"
#include "runner/job_time.h"

namespace tenfold {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

class ClusterTest : public testing::Test {
 protected:
  ClusterTest() {
    std::string name = (std::filesystem::temp_directory_path() / "tenfold-cluster-test-XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
  }
  ~ClusterTest() override { std::filesystem::remove_all(folder_); }
  std::filesystem::path write(const std::string& text) const {
    std::ofstream(folder_ / "site.yaml") << text;
    return folder_ / "site.yaml";
  }
  std::string refusal(const std::string& text) const {
    try {
      read_site(write(text));
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }
  static ClusterJob job() {
    ClusterJob job;
    job.experiment_file = "/home/me/x.yaml";
    job.db = "/home/me/x.db";
    job.experiment = "x";
    job.slots = 8;
    job.time = "12:00:00";
    job.folder = "/home/me/x.db.jobs";
    job.program = "/opt/tenfold";
    job.requeues = 20;
    return job;
  }
  static std::string refusal_of_script(const ClusterJob& job, const ClusterSite& site) {
    try {
      batch_script(job, site);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }
  // Whether bash takes the script, and what its command becomes.
  std::string command_in(const std::string& script) const {
    std::ofstream(folder_ / "job") << script;
    const auto begin = script.find("command=("), end = script.find("\n)\n", begin);
    std::ofstream(folder_ / "show") << "me=7\ntime_limit=(--time-limit 60)\n"
                                    << script.substr(begin, end + 3 - begin) << "printf '<%s>' \"${command[@]}\"\n";
    const auto fine = run_cluster_program("bash", {"-n", (folder_ / "job").string()});
    EXPECT_TRUE(fine && fine->exit_code == 0) << fine->output;
    const auto shown = run_cluster_program("bash", {(folder_ / "show").string()});
    return shown ? shown->output : "no bash";
  }
  std::filesystem::path folder_;
};

TEST_F(ClusterTest, TimesAsSlurmWritesThem) {
  EXPECT_EQ(parse_slurm_time("90"), 5400);
  EXPECT_EQ(parse_slurm_time("2:30"), 150);
  EXPECT_EQ(parse_slurm_time("12:00:00"), 43200);
  EXPECT_EQ(parse_slurm_time("1-6"), 108000);
  EXPECT_EQ(parse_slurm_time("1-06:30"), 109800);
  EXPECT_EQ(parse_slurm_time("2-00:00:01"), 172801);
  for (const char* wrong : {"", "x", "1:2:3:4", "1-", "-1", "1::2", "12:00:00 ", "99999999999"})
    EXPECT_FALSE(parse_slurm_time(wrong)) << wrong;
}

TEST_F(ClusterTest, TheEndOfAJobComesFromTheFlagOrTheEnvironment) {
  ::unsetenv("SLURM_JOB_END_TIME");
  EXPECT_FALSE(job_end(0));
  const auto left = [](auto at) {
    return std::chrono::duration<double>(*at - std::chrono::steady_clock::now()).count();
  };
  EXPECT_NEAR(left(job_end(500)), 500, 5);
  ::setenv("SLURM_JOB_END_TIME", std::to_string(std::time(nullptr) + 900).c_str(), 1);
  EXPECT_NEAR(left(job_end(0)), 900, 5);
  EXPECT_NEAR(left(job_end(500)), 500, 5);
  ::unsetenv("SLURM_JOB_END_TIME");
}

TEST_F(ClusterTest, ASiteFileIsRead) {
  const ClusterSite site =
      read_site(write("modules: [openmpi/4.1, cuda]\nenvironment: {A_1: b c}\nsetup: ulimit -n 4096\n"
                      "container: [apptainer, exec, --nv, /i.sif]\nsbatch: ['--mem=0']\npartition: gpu\naccount: us\n"
                      "launcher: srun\nprogram: /opt/tenfold\nsignal_s: 300\n"));
  EXPECT_THAT(site.modules, ElementsAre("openmpi/4.1", "cuda"));
  EXPECT_THAT(site.environment, ElementsAre(std::pair<std::string, std::string>("A_1", "b c")));
  EXPECT_THAT(site.setup, ElementsAre("ulimit -n 4096"));
  EXPECT_THAT(site.container, ElementsAre("apptainer", "exec", "--nv", "/i.sif"));
  EXPECT_THAT(site.sbatch, ElementsAre("--mem=0"));
  EXPECT_EQ(site.partition + site.account + site.launcher + site.program, "gpuussrun/opt/tenfold");
  EXPECT_EQ(site.signal_s, 300);
  EXPECT_TRUE(read_site(folder_ / "none.yaml").modules.empty());
  EXPECT_TRUE(read_site(write("")).modules.empty());
}

TEST_F(ClusterTest, AllMistakesOfASiteFileAreNamedWithTheirPlaces) {
  const std::string said =
      refusal("module: [a]\npartition: [x]\nlauncher: mpiexec\nsbatch: [mem=0]\nenvironment: {9x: 1}\nsignal_s: 5\n");
  EXPECT_THAT(said, AllOf(HasSubstr("site.yaml:1:1: unknown key \"module\"; did you mean \"modules\"?"),
                          HasSubstr("site.yaml:2:12: partition wants one text"),
                          HasSubstr("site.yaml:3:11: launcher is \"mpiexec\"; allowed: mpirun, srun"),
                          HasSubstr("site.yaml:4:10: an option of sbatch begins with --"),
                          HasSubstr("\"9x\" is no name of a variable"), HasSubstr("signal_s wants seconds")));
  EXPECT_THAT(refusal("- a\n"), HasSubstr("wants keys and values"));
  EXPECT_THROW(read_site(folder_), Error) << "a folder";
}

TEST_F(ClusterTest, TheScriptAsksForWhatIsWanted) {
  ClusterJob wanted = job();
  wanted.nodes = 4;
  wanted.gpus_per_node = 8;
  wanted.slots = 32;
  wanted.partition = "gpu";
  const std::string script = batch_script(wanted, {});
  EXPECT_THAT(script, AllOf(HasSubstr("#SBATCH --job-name=x\n#SBATCH --nodes=4\n#SBATCH --ntasks-per-node=9\n"
                                      "#SBATCH --gpus-per-node=8\n#SBATCH --time=12:00:00\n#SBATCH --partition=gpu\n"),
                            HasSubstr("--output=/home/me/x.db.jobs/%x-%j.log\n"), HasSubstr("--requeue\n"),
                            HasSubstr("--signal=B:USR2@120\n"), HasSubstr("allowed=20 "),
                            HasSubstr("export SLURM_TASKS_PER_NODE='9,8(x3)'\n")));
  EXPECT_THAT(script, AllOf(Not(HasSubstr("{{")), Not(HasSubstr("--account")), Not(HasSubstr("--array"))));
  EXPECT_EQ(command_in(script),
            "</opt/tenfold><run></home/me/x.yaml><--db></home/me/x.db><--slots><32><--device><cuda><--time-limit><60>");
}

TEST_F(ClusterTest, WhatTheCallDoesNotSayTheSiteDoes) {
  ClusterSite site;
  site.partition = "theirs";
  site.account = "us";
  site.sbatch = {"--mem=0", "--constraint=h200"};
  ClusterJob wanted = job();
  EXPECT_THAT(batch_script(wanted, site), AllOf(HasSubstr("#SBATCH --partition=theirs\n#SBATCH --account=us\n"),
                                                HasSubstr("#SBATCH --mem=0\n#SBATCH --constraint=h200\n")));
  wanted.partition = "ours";
  wanted.account = "me too";
  const std::string script = batch_script(wanted, site);
  EXPECT_THAT(script, HasSubstr("#SBATCH --partition=ours\n#SBATCH --account=\"me too\"\n"));
  EXPECT_THAT(script, AllOf(Not(HasSubstr("theirs")), Not(HasSubstr("--account=us"))));
}

TEST_F(ClusterTest, NothingThatAUserTypesBecomesShell) {
  ClusterJob wanted = job();
  wanted.experiment = "a; touch /tmp/x $(id) `id`";
  wanted.overrides = {"name=$(touch pwned) 'quoted' \"twice\"\nline"};
  wanted.experiment_file = "/home/me/my $HOME/x'y.yaml";
  wanted.array = 4;
  ClusterSite site;
  site.modules = {"a; rm"};
  site.environment = {{"A", "$(id)"}};
  const std::string script = batch_script(wanted, site);
  ::setenv("SLURM_ARRAY_TASK_ID", "3", 1);
  EXPECT_EQ(command_in(script),
            "</opt/tenfold><run></home/me/my $HOME/x'y.yaml><--db></home/me/x.db><--shard><3/4><--slots><8><--device>"
            "<cpu><--set><name=$(touch pwned) 'quoted' \"twice\"\nline><--time-limit><60>");
  ::unsetenv("SLURM_ARRAY_TASK_ID");
  EXPECT_THAT(script, AllOf(HasSubstr("#SBATCH --job-name=a--touch--tmp-x---id---id-\n"), HasSubstr("--array=1-4\n"),
                            HasSubstr("module load 'a; rm'\n"), HasSubstr("export A='$(id)'\n")));
  wanted.partition = "x\n#SBATCH --uid=0";
  EXPECT_THAT(refusal_of_script(wanted, site), HasSubstr("--partition="));
}

TEST_F(ClusterTest, SrunPlacesTheCoordinatorBeforeTheWorkersOfItsNode) {
  ClusterJob wanted = job();
  wanted.nodes = 2;
  wanted.launcher = "srun";
  ClusterSite site;
  site.container = {"apptainer", "exec", "i.sif"};
  const std::string script = batch_script(wanted, site);
  EXPECT_THAT(command_in(script), HasSubstr("<srun><--mpi=pmix><--nodes=2><--ntasks=9><--distribution=arbitrary>"
                                            "<apptainer><exec><i.sif></opt/tenfold><run>"));
  EXPECT_THAT(script, HasSubstr("for ((i = 0; i < 4 + coordinator; ++i))"));
  wanted.launcher = "mpirun";
  EXPECT_THAT(refusal_of_script(wanted, site), HasSubstr("needs --launcher srun"));
}

TEST_F(ClusterTest, TheSignalComesWellBeforeAShortLimit) {
  EXPECT_EQ(signal_lead_s({}, "12:00:00"), 120);
  EXPECT_EQ(signal_lead_s({}, "2"), 30);
  EXPECT_EQ(signal_lead_s({}, ""), 120);
}

TEST_F(ClusterTest, WithoutSlurmItsStateIsUnknownAndNobodyMinds) {
  const std::string path = ::getenv("PATH");
  ::setenv("PATH", folder_.c_str(), 1);
  std::string why;
  EXPECT_FALSE(queue_of({"12"}, why));
  EXPECT_THAT(why, HasSubstr("squeue is not in PATH"));
  ::setenv("PATH", path.c_str(), 1);
}

}  // namespace
}  // namespace tenfold
