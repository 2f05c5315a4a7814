#include "runner/cluster_queue.h"

#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <sstream>

#include "experiments/error.h"
#include "experiments/file_text.h"
#include "experiments/host.h"
#include "experiments/unique_fd.h"
#include "runner/spawn.h"

namespace tenfold {
namespace {

constexpr auto kLookLimit = std::chrono::seconds(5);  // a busy controller shall not hang `tenfold status`

// A file of our own for what a program says.
class Output {
 public:
  Output() {
    std::string name = (temporary_folder() / "tenfold-cluster-XXXXXX").string();
    if (!UniqueFd(::mkstemp(name.data())))
      throw Error(ErrorKind::storage, "cannot make a file in " + std::filesystem::path(name).parent_path().string());
    file_ = name;
  }
  ~Output() {
    std::error_code ignored;
    std::filesystem::remove(file_, ignored);
  }
  Output(const Output&) = delete;
  Output& operator=(const Output&) = delete;
  const std::filesystem::path& file() const { return file_; }
  std::string text() const { return file_text(file_).value_or(""); }

 private:
  std::filesystem::path file_;
};

std::optional<std::filesystem::path> find_in_path(const std::string& name) {
  const char* path = std::getenv("PATH");
  std::istringstream folders(path ? path : "/usr/local/bin:/usr/bin:/bin");
  for (std::string folder; std::getline(folders, folder, ':');) {
    const std::filesystem::path candidate = std::filesystem::path(folder) / name;
    if (::access(candidate.c_str(), X_OK) == 0 && std::filesystem::is_regular_file(candidate)) return candidate;
  }
  return std::nullopt;
}

std::string one_line(std::string text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.pop_back();
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text.substr(0, 600);
}

ProgramResult required(const std::string& name, const std::vector<std::string>& arguments, const std::string& doing) {
  const auto result = run_cluster_program(name, arguments);
  if (!result)
    throw Error(ErrorKind::communication, "cannot " + doing + ": " + name +
                                              " is not in PATH or does not answer; is this a login node of a SLURM "
                                              "cluster? (--dry-run prints the script)");
  if (result->exit_code != 0)
    throw Error(ErrorKind::communication, "cannot " + doing + ": " + one_line(result->output));
  return *result;
}

bool is_number(const std::string& text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string::npos;
}

std::vector<std::string> fields(const std::string& line) {
  std::vector<std::string> found;
  std::istringstream parts(line);
  for (std::string part; std::getline(parts, part, '|');) found.push_back(part);
  return found;
}

}  // namespace

std::optional<ProgramResult> run_cluster_program(const std::string& name, const std::vector<std::string>& arguments,
                                                 std::chrono::milliseconds limit) {
  const auto program = find_in_path(name);
  if (!program) return std::nullopt;
  const Output output;
  ChildProcess child = spawn({*program, arguments, environment_with({}), output.file(), -1});
  if (!child.wait_for(limit)) return std::nullopt;
  const std::string end = child.how_it_ended();
  ProgramResult result{1, output.text()};
  if (end == "exited with code 0") result.exit_code = 0;
  if (result.exit_code != 0 && result.output.empty()) result.output = name + " " + end;
  return result;
}

std::string submit_held(const std::filesystem::path& script) {
  const ProgramResult result =
      required("sbatch", {"--parsable", "--hold", script.string()}, "submit " + script.string());
  // Warnings may come before it; behind a semicolon comes the cluster's name.
  std::istringstream lines(result.output);
  std::string job;
  for (std::string line; std::getline(lines, line);)
    if (const std::string first = line.substr(0, line.find(';')); is_number(first)) job = first;
  if (job.empty()) throw Error(ErrorKind::communication, "sbatch named no job: " + one_line(result.output));
  return job;
}

void release_job(const std::string& job) { required("scontrol", {"release", job}, "release job " + job); }

void cancel_job(const std::string& job) { run_cluster_program("scancel", {job}); }

std::optional<std::map<std::string, std::vector<QueuedJob>>> queue_of(const std::vector<std::string>& jobs,
                                                                      std::string& why) {
  std::map<std::string, std::vector<QueuedJob>> found;
  // One call for each: a job that the queue has forgotten spoils the answer for all of a list.
  for (const std::string& job : jobs) {
    if (!is_number(job)) continue;
    const auto result = run_cluster_program(
        "squeue", {"--noheader", "--states=all", "--jobs=" + job, "--format=%i|%T|%L|%N|%r"}, kLookLimit);
    if (!result) {
      why = "squeue is not in PATH or does not answer";
      return std::nullopt;
    }
    if (result->exit_code != 0) {
      if (result->output.find("Invalid job id") != std::string::npos) continue;
      why = one_line(result->output);
      return std::nullopt;
    }
    std::istringstream lines(result->output);
    for (std::string line; std::getline(lines, line);) {
      std::vector<std::string> parts = fields(line);
      if (parts.size() < 4) continue;
      parts.resize(5);
      found[job].push_back({parts[0], parts[1], parts[2], parts[3], parts[4]});
    }
  }
  return found;
}

}  // namespace tenfold
