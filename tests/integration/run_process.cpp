#include "tests/integration/run_process.h"
#include "experiments/file_text.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>
#include <thread>

extern char** environ;

namespace tenfold {
namespace {

std::string contents(const std::filesystem::path& file) { return file_text(file).value_or(""); }

}  // namespace

Workspace::Workspace() {
  std::string name = (std::filesystem::temp_directory_path() / "tenfold-test-XXXXXX").string();
  if (!::mkdtemp(name.data())) throw std::runtime_error("cannot make a folder for the test");
  folder_ = name;
  const char* bin = std::getenv("TENFOLD_BIN_DIR");
  if (!bin) throw std::runtime_error("TENFOLD_BIN_DIR is not set: start this test by ctest");
  bin_ = bin;
  set("TENFOLD_TEST_MARK", folder_.filename().string());
}

Workspace::~Workspace() {
  // A test that has failed may have left in the middle.
  if (!testing::Test::HasFailure() && !wait_until_none_left(std::chrono::seconds(5)))
    ADD_FAILURE() << "the test left processes behind:" << describe_processes();
  for (const pid_t pid : processes()) ::kill(pid, SIGKILL);
  wait_until_none_left(std::chrono::seconds(5));
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

void Workspace::write(const std::string& name, const std::string& text) const { std::ofstream(file(name)) << text; }

void Workspace::use_fake_trainer() { set("TENFOLD_TRAINER", (bin_ / "tenfold-fake-trainer").string()); }

pid_t Workspace::start(const std::vector<std::string>& arguments) const {
  std::vector<std::string> words = program_;
  words.push_back((bin_ / "tenfold").string());
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<std::string> variables;
  for (char** entry = environ; *entry; ++entry) {
    const std::string variable = *entry;
    if (!variable.starts_with("TENFOLD_") && !environment_.contains(variable.substr(0, variable.find('='))))
      variables.push_back(variable);
  }
  for (const auto& [name, value] : environment_) variables.push_back(name + "=" + value);
  std::vector<char*> argv, envp;
  for (std::string& word : words) argv.push_back(word.data());
  for (std::string& variable : variables) envp.push_back(variable.data());
  argv.push_back(nullptr);
  envp.push_back(nullptr);
  const std::string output = file("output").string(), folder = folder_.string();
  const pid_t pid = ::fork();
  if (pid == 0) {
    const int out = ::open(output.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    ::dup2(out, 1);
    ::dup2(out, 2);
    if (::chdir(folder.c_str()) != 0) ::_exit(126);
    ::execvpe(argv[0], argv.data(), envp.data());
    ::_exit(127);
  }
  return pid;
}

Finished Workspace::wait(pid_t pid, std::chrono::milliseconds limit) const {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  int status = 0;
  while (::waitpid(pid, &status, WNOHANG) == 0) {
    if (std::chrono::steady_clock::now() > deadline) {
      ADD_FAILURE() << "tenfold did not end in time; so far it said:\n" << contents(file("output"));
      ::kill(pid, SIGKILL);
      ::waitpid(pid, &status, 0);
      break;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), contents(file("output"))};
}

std::string Workspace::query(const std::string& db, const std::string& sql) const {
  const Finished finished = tenfold({"query", sql, "--db", db, "--format", "csv"});
  EXPECT_EQ(finished.exit_code, 0) << finished.output;
  const std::size_t header = finished.output.find('\n');
  return header == std::string::npos ? "" : finished.output.substr(header + 1);
}

bool Workspace::holds(const std::string& db, const std::string& sql) const {
  if (!std::filesystem::exists(file(db))) return false;
  const Finished finished = tenfold({"query", sql, "--db", db, "--format", "csv"});
  return finished.exit_code == 0 && finished.output.ends_with("\n1\n");
}

std::vector<pid_t> Workspace::processes(const std::string& word) const {
  std::vector<pid_t> found;
  const std::string mark = "TENFOLD_TEST_MARK=" + folder_.filename().string();
  std::error_code error;
  for (std::filesystem::directory_iterator it("/proc", error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (!std::all_of(name.begin(), name.end(), [](unsigned char c) { return std::isdigit(c) != 0; })) continue;
    // A zombie has neither environment nor command line any more.
    if (contents(it->path() / "environ").find(mark) == std::string::npos) continue;
    if (contents(it->path() / "cmdline").find(word) == std::string::npos) continue;
    found.push_back(static_cast<pid_t>(std::stol(name)));
  }
  return found;
}

std::string Workspace::describe_processes() const {
  std::string all;
  for (const pid_t pid : processes()) {
    std::string line = contents("/proc/" + std::to_string(pid) + "/cmdline");
    std::ranges::replace(line, '\0', ' ');
    all += "\n  " + std::to_string(pid) + " " + line.substr(0, 160);
  }
  return all;
}

bool Workspace::wait_until(const std::function<bool()>& condition, std::chrono::milliseconds limit,
                           std::chrono::milliseconds pause) {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(pause);
  }
  return true;
}

bool Workspace::wait_until_none_left(std::chrono::milliseconds limit) const {
  return wait_until([&] { return processes().empty(); }, limit);
}

bool Workspace::wait_until_some(const std::string& word, std::size_t count, std::chrono::milliseconds limit) const {
  return wait_until([&] { return processes(word).size() >= count; }, limit);
}

bool Workspace::wait_until_stopped(const std::filesystem::path& once) const {
  const auto sleeps = [](pid_t pid) {
    const std::string stat = contents("/proc/" + std::to_string(pid) + "/stat");
    const std::size_t name_end = stat.rfind(')');
    return name_end != std::string::npos && stat.substr(name_end, 3) == ") T";
  };
  const auto stopped = [&] {
    return std::filesystem::exists(once) && std::ranges::any_of(processes("-trainer"), sleeps);
  };
  return wait_until(stopped, std::chrono::seconds(120));
}

std::string results_of(const Workspace& workspace, const std::string& db) {
  // Which tables, and which columns of theirs, the store itself is asked: none can be forgotten.
  std::istringstream columns(
      workspace.query(db,
                      "SELECT m.name, owner.name, c.name FROM sqlite_schema m JOIN pragma_table_info(m.name) owner ON "
                      "owner.pk = 1 AND owner.name IN ('fit', 'trial') JOIN pragma_table_info(m.name) c ON c.name NOT "
                      "IN (owner.name, 'wall_s') WHERE m.type = 'table' ORDER BY 1, c.cid"));
  struct Table {
    std::string owner, columns;
  };
  std::map<std::string, Table> tables;
  for (std::string line; std::getline(columns, line);) {
    const std::size_t first = line.find(','), second = line.find(',', first + 1);
    Table& table = tables[line.substr(0, first)];
    table.owner = line.substr(first + 1, second - first - 1);
    table.columns += ", s." + line.substr(second + 1);
  }
  EXPECT_GT(tables.size(), 10u) << db;
  const std::string of_today = "o.id IN (SELECT fit FROM trial_summary)";  // of the experiments' current revisions
  std::string all;
  for (const auto& [name, table] : tables) {
    const std::string rows = " FROM " + name + " s JOIN ";
    all += name + "\n";
    all += table.owner == "trial"
               ? workspace.query(db, "SELECT o.label, o.repeat, o.fold" + table.columns + rows +
                                         "trial_summary o ON o.trial = s.trial ORDER BY 1, 2, 3" + table.columns)
               : workspace.query(db, "SELECT o.repeat, o.fold" + table.columns + rows + "fit o ON o.id = s.fit AND " +
                                         of_today + " ORDER BY 1, 2, o.identity" + table.columns);
  }
  all +=
      "trial\n" + workspace.query(db,
                                  "SELECT o.label, o.repeat, o.fold, o.status, o.seed, t.rate_scale, t.rate_lowered, "
                                  "f.identity FROM trial_summary o JOIN trial t ON t.id = o.trial JOIN fit f ON "
                                  "f.id = o.fit ORDER BY 1, 2, 3");
  return all + "fit\n" +
         workspace.query(db,
                         "SELECT repeat, fold, status, seed, rate_scale, rate_lowered, stopped_nonfinite FROM fit o "
                         "WHERE " +
                             of_today + " ORDER BY 1, 2, identity");
}

}  // namespace tenfold
