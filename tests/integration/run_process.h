#pragma once

#include <sys/types.h>

#include <chrono>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

// `tenfold` as its user starts it: a process of its own, with signals, an exit code and output.
namespace tenfold {

struct Finished {
  int exit_code = -1;  // 128 + number when a signal ended it
  std::string output;  // stdout and stderr as they came
};

// A folder for one test, removed at its end, with everything that a run leaves behind. Every process started through
// it carries a mark in its environment, by which survivors are found: one that outlives the test fails it.
class Workspace {
 public:
  Workspace();
  ~Workspace();
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  std::filesystem::path file(const std::string& name) const { return folder_ / name; }
  void write(const std::string& name, const std::string& text) const;
  void set(const std::string& variable, const std::string& value) { environment_[variable] = value; }
  void unset(const std::string& variable) { environment_.erase(variable); }
  void use_fake_trainer();
  // Words of a program that starts tenfold in its stead (setpriv, unshare); none again by an empty list.
  void start_through(std::vector<std::string> program) { program_ = std::move(program); }

  pid_t start(const std::vector<std::string>& arguments) const;  // of tenfold
  Finished wait(pid_t pid, std::chrono::milliseconds limit = std::chrono::seconds(200)) const;
  Finished tenfold(const std::vector<std::string>& arguments) const { return wait(start(arguments)); }
  // Rows of a query as CSV without its header; fails the test when the query does.
  std::string query(const std::string& db, const std::string& sql) const;
  // Whether the query answers 1: of a run under way, whose store may be only being made and then answers nothing.
  bool holds(const std::string& db, const std::string& sql) const;

  // Live processes of this workspace, by a word of their command line (empty: all). Zombies do not count.
  std::vector<pid_t> processes(const std::string& word = "") const;
  std::string describe_processes() const;  // a line for each that lives
  // False: it did not come true in time.
  static bool wait_until(const std::function<bool()>& condition,
                         std::chrono::milliseconds limit = std::chrono::seconds(30),
                         std::chrono::milliseconds pause = std::chrono::milliseconds(20));
  bool wait_until_none_left(std::chrono::milliseconds limit) const;
  // A trainer has come to a fault "stop@...,once=file" and sleeps: the file alone is there an instant before.
  bool wait_until_stopped(const std::filesystem::path& once) const;
  bool wait_until_some(const std::string& word, std::size_t count, std::chrono::milliseconds limit) const;

 private:
  std::string mark() const;
  std::filesystem::path folder_, bin_;
  std::map<std::string, std::string> environment_;
  std::vector<std::string> program_;
};

// All rows that a run leaves, of every table of results and with all columns but times, in one text: equal texts, equal
// results.
std::string results_of(const Workspace& workspace, const std::string& db);

}  // namespace tenfold
